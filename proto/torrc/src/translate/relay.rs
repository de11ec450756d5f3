//! What only relays have and a key of ours says as it is: `[directory]`, `[dns]`, `[keys]`, and
//! some keys of their own.

use super::by_kind::{self, Same};
use super::{Work, ports};
use crate::settings::Severity;
use crate::toml::Document;
use crate::value;

const DIRECTORY: [Same; 5] = [
    ("DirCache", "dir_cache"),
    ("DirPolicy", "dir_policy"),
    ("DirPortFrontPage", "dir_port_front_page"),
    ("MaxConsensusAgeForDiffs", "max_consensus_age_for_diffs"),
    ("MaxHSDirCacheBytes", "max_hs_dir_cache_bytes"),
];

const DNS: [Same; 4] = [
    ("ServerDNSSearchDomains", "server_dns_search_domains"),
    ("ServerDNSRandomizeCase", "server_dns_randomize_case"),
    (
        "ServerDNSAllowBrokenConfig",
        "server_dns_allow_broken_config",
    ),
    (
        "ServerDNSAllowNonRFC953Hostnames",
        "server_dns_allow_non_rfc953_hostnames",
    ),
];

const KEYS: [Same; 3] = [
    ("OfflineMasterKey", "offline_master_key"),
    ("SigningKeyLifetime", "signing_key_lifetime"),
    ("SSLKeyLifetime", "ssl_key_lifetime"),
];

/// Those of test networks alone.
const TESTING_KEYS: [Same; 5] = [
    ("TestingSigningKeySlop", "testing_signing_key_slop"),
    ("TestingLinkCertLifetime", "testing_link_cert_lifetime"),
    ("TestingLinkKeySlop", "testing_link_key_slop"),
    ("TestingAuthKeyLifetime", "testing_auth_key_lifetime"),
    ("TestingAuthKeySlop", "testing_auth_key_slop"),
];

/// Keys that stand before all tables.
pub(super) fn keys(work: &mut Work<'_>, document: &mut Document) {
    let refuses = ("RefuseUnknownExits", "refuse_unknown_exits");
    by_kind::write(work, document, &[refuses]);
    if let Some(value) = work.settings.one("MaxOnionQueueDelay")
        && let Some(millis) = value::millis(&value.text).filter(|millis| *millis > 0)
    {
        document.key("max_onion_queue_delay", &millis.to_string(), value);
    }
    work.paths(
        document,
        &[("GeoIPFile", "geoip"), ("GeoIPv6File", "geoip6")],
    );
    let of_exits = work.lines(&["OutboundBindAddressExit"]);
    let lines = match of_exits.is_empty() {
        true => work.lines(&["OutboundBindAddress"]),
        false => of_exits,
    };
    let mut addresses = Vec::new();
    for line in lines {
        match ports::ip(line.text.trim()) {
            Some(ip) => addresses.push((ip.to_string(), line)),
            None => work.refuse(line, "it is an address, IPv6 in brackets"),
        }
    }
    document.list("outbound_bind_address_exit", &addresses);
}

/// The tables.
pub(super) fn tables(work: &mut Work<'_>, document: &mut Document) {
    for (head, all) in [("[directory]", &DIRECTORY[..]), ("[dns]", &DNS)] {
        let mut table = Document::default();
        by_kind::write(work, &mut table, all);
        document.section(head, table);
    }
    let mut table = Document::default();
    by_kind::write(work, &mut table, &KEYS);
    if work.settings.is_on("TestingTorNetwork") {
        by_kind::write(work, &mut table, &TESTING_KEYS);
    } else {
        for (option, _) in TESTING_KEYS {
            for line in work.lines(&[option]) {
                work.note(
                    Severity::Info,
                    line,
                    "of no effect without TestingTorNetwork",
                );
            }
        }
    }
    document.section("[keys]", table);
}
