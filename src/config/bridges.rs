//! Bridges and transports in a configuration: lines as `tor` has them, checked.

use cepa_pt::plugin::OWN;
use cepa_pt::{BridgeLine, TransportPlugin};
use toml::Spanned;

use super::source::Source;
use crate::error::Failure;

/// Most lines of a kind.
const LINES_MAX: usize = 200;

/// What is expected of a line that says who speaks a transport.
const PLUGIN: &str = "NAMES exec PATH [ARGUMENTS], NAMES socks5 ADDRESS:PORT, or webtunnel own";

/// Bridges: of a line with a transport, somebody must speak that.
pub(super) fn bridges(
    source: &Source,
    lines: &[Spanned<String>],
    plugins: &[Spanned<String>],
) -> Result<Vec<BridgeLine>, Failure> {
    let plugins = self::plugins(source, plugins)?;
    few(source, lines, "bridges")?;
    Failure::all(lines.iter().map(|text| {
        let wrong = |expected: &str| source.wrong(text, "bridges", expected);
        let line = text.get_ref().parse::<BridgeLine>();
        let line = line.map_err(|error| wrong(&error.to_string()))?;
        let Some(name) = &line.transport else {
            return Ok(line);
        };
        let is_spoken =
            name.as_str() == OWN || plugins.iter().any(|plugin| plugin.names.contains(name));
        match is_spoken {
            true => Ok(line),
            false => Err(wrong(&format!(
                "a transport that a line of transport_plugins speaks, and none speaks {name}"
            ))),
        }
    }))
}

/// Who speaks transports.
pub(super) fn plugins(
    source: &Source,
    lines: &[Spanned<String>],
) -> Result<Vec<TransportPlugin>, Failure> {
    few(source, lines, "transport_plugins")?;
    Failure::all(lines.iter().map(|text| {
        let plugin = text.get_ref().parse();
        plugin.map_err(|_| source.wrong(text, "transport_plugins", PLUGIN))
    }))
}

fn few(source: &Source, lines: &[Spanned<String>], key: &str) -> Result<(), Failure> {
    match lines.get(LINES_MAX) {
        Some(beyond) => Err(source.wrong(beyond, key, "at most 200 lines")),
        None => Ok(()),
    }
}
