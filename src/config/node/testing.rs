//! What a node of a test network may do otherwise than one of a public network.

use std::time::Duration;

use cepa_link::LINK_VERSIONS;
use cepa_netdoc::protover::Protocols;

use super::NodeTable;
use crate::config::source::Source;
use crate::error::Failure;

pub(super) fn key_day(source: &Source, table: &NodeTable) -> Result<Duration, Failure> {
    let Some(seconds) = &table.key_day_secs else {
        return Ok(cepa_relay::DAY);
    };
    let expected = "at least 1, and only where testing = true";
    source.expect(seconds, "key_day_secs", expected, |n| {
        table.testing && *n > 0
    })?;
    Ok(Duration::from_secs((*seconds.get_ref()).into()))
}

pub(super) fn link_versions(source: &Source, table: &NodeTable) -> Result<&'static [u16], Failure> {
    let Some(version) = &table.link_version else {
        return Ok(&LINK_VERSIONS);
    };
    let is_it = |one: &[u16]| one == [*version.get_ref()];
    let found = LINK_VERSIONS.chunks(1).find(|one| is_it(one));
    let expected = "4 or 5, and only where testing = true";
    let found = found.filter(|_| table.testing);
    found.ok_or_else(|| source.wrong(version, "link_version", expected))
}

pub(super) fn protocols(source: &Source, table: &NodeTable) -> Result<Protocols, Failure> {
    let all = Protocols::parse(cepa_relay::PROTOCOLS).unwrap_or_default();
    let Some(text) = &table.protocols else {
        return Ok(all);
    };
    let fewer = Protocols::parse(text.get_ref()).ok();
    let fewer = fewer.filter(|fewer| table.testing && all.contains_all(fewer));
    let expected = format!(
        "some of {}, and only where testing = true",
        cepa_relay::PROTOCOLS
    );
    fewer.ok_or_else(|| source.wrong(text, "protocols", &expected))
}
