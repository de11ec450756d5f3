//! A configuration of ours as a torrc, as far as `tor` has options for it.

use std::path::Path;

use toml::{Table, Value};

use crate::config::{ClientConfig, RelayConfig};

/// Keys that an option of `tor` says as they are.
const SAME: [(&str, &str); 61] = [
    ("disable_network", "DisableNetwork"),
    ("streams_unattached", "__LeaveStreamsUnattached"),
    ("map_address", "MapAddress"),
    ("socks", "SocksPort"),
    ("http_connect", "HTTPTunnelPort"),
    ("dns", "DNSPort"),
    ("redirect", "TransPort"),
    ("automap", "AutomapHostsOnResolve"),
    ("automap_suffixes", "AutomapHostsSuffixes"),
    ("virtual_ipv4", "VirtualAddrNetworkIPv4"),
    ("virtual_ipv6", "VirtualAddrNetworkIPv6"),
    ("socks_policy", "SocksPolicy"),
    ("test_socks", "TestSocks"),
    ("data_dir", "DataDirectory"),
    ("distinct_subnets", "EnforceDistinctSubnets"),
    ("onion_auth_dir", "ClientOnionAuthDir"),
    ("outbound_bind_address", "OutboundBindAddress"),
    ("max_memory", "MaxMemInQueues"),
    (
        "client_reject_internal_addresses",
        "ClientRejectInternalAddresses",
    ),
    (
        "client_dns_reject_internal_addresses",
        "ClientDNSRejectInternalAddresses",
    ),
    ("safe_socks", "SafeSocks"),
    ("max_circuit_dirtiness", "MaxCircuitDirtiness"),
    ("warn_plaintext_ports", "WarnPlaintextPorts"),
    ("reject_plaintext_ports", "RejectPlaintextPorts"),
    ("resolv_conf", "ServerDNSResolvConfFile"),
    ("metrics", "MetricsPort"),
    ("metrics_policy", "MetricsPortPolicy"),
    ("bridge", "BridgeRelay"),
    ("bridge_distribution", "BridgeDistribution"),
    ("server_transport_plugins", "ServerTransportPlugin"),
    ("server_transport_listen", "ServerTransportListenAddr"),
    ("server_transport_options", "ServerTransportOptions"),
    ("geoip", "GeoIPFile"),
    ("geoip6", "GeoIPv6File"),
    ("publish_descriptor", "PublishServerDescriptor"),
    ("refuse_unknown_exits", "RefuseUnknownExits"),
    ("max_onion_queue_delay", "MaxOnionQueueDelay"),
    ("outbound_bind_address_exit", "OutboundBindAddressExit"),
    ("ext_or_port", "ExtORPort"),
    ("ext_or_port_cookie_file", "ExtORPortCookieAuthFile"),
    (
        "ext_or_port_cookie_file_group_readable",
        "ExtORPortCookieAuthFileGroupReadable",
    ),
    ("nickname", "Nickname"),
    ("contact", "ContactInfo"),
    ("address", "Address"),
    ("ipv6_address", "Address"),
    ("or_port", "ORPort"),
    ("dir_port", "DirPort"),
    ("exit_policy", "ExitPolicy"),
    ("reduced_exit_policy", "ReducedExitPolicy"),
    ("ipv6_exit", "IPv6Exit"),
    ("exit_policy_reject_private", "ExitPolicyRejectPrivate"),
    (
        "exit_policy_reject_local_interfaces",
        "ExitPolicyRejectLocalInterfaces",
    ),
    ("reevaluate_exit_policy", "ReevaluateExitPolicy"),
    ("family", "MyFamily"),
    ("bandwidth_rate", "BandwidthRate"),
    ("bandwidth_burst", "BandwidthBurst"),
    ("relay_bandwidth_rate", "RelayBandwidthRate"),
    ("relay_bandwidth_burst", "RelayBandwidthBurst"),
    ("max_advertised_bandwidth", "MaxAdvertisedBandwidth"),
    ("accounting_max", "AccountingMax"),
    ("workers", "NumCPUs"),
];
const PATHS: [(&str, &str); 12] = [
    ("entry", "EntryNodes"),
    ("middle", "MiddleNodes"),
    ("exit", "ExitNodes"),
    ("exclude", "ExcludeNodes"),
    ("exclude_exit", "ExcludeExitNodes"),
    ("layer2", "HSLayer2Nodes"),
    ("layer3", "HSLayer3Nodes"),
    ("families", "NodeFamily"),
    ("strict", "StrictNodes"),
    ("exclude_unknown", "GeoIPExcludeUnknown"),
    ("geoip", "GeoIPFile"),
    ("geoip6", "GeoIPv6File"),
];
const CONTROL: [(&str, &str); 6] = [
    ("listen", "ControlPort"),
    ("cookie", "CookieAuthentication"),
    ("cookie_file", "CookieAuthFile"),
    ("cookie_file_group_readable", "CookieAuthFileGroupReadable"),
    ("write_to_file", "ControlPortWriteToFile"),
    ("file_group_readable", "ControlPortFileGroupReadable"),
];

/// Keys, and the option that each is.
type Keys = &'static [(&'static str, &'static str)];

/// Tables whose keys are options as they are.
const TABLES: [(&str, Keys); 9] = [
    (
        "guards",
        &[
            ("used", "NumEntryGuards"),
            ("primary", "NumPrimaryGuards"),
            ("directory", "NumDirectoryGuards"),
            ("lifetime", "GuardLifetime"),
        ],
    ),
    (
        "path_bias",
        &[
            ("circuits_min", "PathBiasCircThreshold"),
            ("notice", "PathBiasNoticeRate"),
            ("warn", "PathBiasWarnRate"),
            ("extreme", "PathBiasExtremeRate"),
            ("drop_guards", "PathBiasDropGuards"),
            ("scale_circuits", "PathBiasScaleThreshold"),
            ("uses_min", "PathBiasUseThreshold"),
            ("notice_use", "PathBiasNoticeUseRate"),
            ("extreme_use", "PathBiasExtremeUseRate"),
            ("scale_uses", "PathBiasScaleUseThreshold"),
        ],
    ),
    (
        "circuits",
        &[
            ("build_timeout", "CircuitBuildTimeout"),
            ("learn_build_timeout", "LearnCircuitBuildTimeout"),
            ("available_timeout", "CircuitsAvailableTimeout"),
            ("stream_timeout", "CircuitStreamTimeout"),
            ("request_timeout", "SocksTimeout"),
            ("pending_max", "MaxClientCircuitsPending"),
            ("long_lived_ports", "LongLivedPorts"),
            ("paths_needed", "PathsNeededToBuildCircuits"),
        ],
    ),
    (
        "fetches",
        &[
            ("network", "FetchServerDescriptors"),
            ("onion_descriptors", "FetchHidServDescriptors"),
            ("publish_onion_descriptors", "PublishHidServDescriptors"),
        ],
    ),
    (
        "dormancy",
        &[
            ("enabled", "DormantTimeoutEnabled"),
            ("after", "DormantClientTimeout"),
            ("idle_streams", "DormantTimeoutDisabledByIdleStreams"),
            ("at_first_start", "DormantOnFirstStartup"),
            ("canceled_by_start", "DormantCanceledByStartup"),
        ],
    ),
    (
        "reach",
        &[
            ("addresses", "ReachableAddresses"),
            ("ipv4", "ClientUseIPv4"),
            ("ipv6", "ClientUseIPv6"),
            ("prefer_ipv6", "ClientPreferIPv6ORPort"),
        ],
    ),
    (
        "directory",
        &[
            ("dir_cache", "DirCache"),
            ("dir_policy", "DirPolicy"),
            ("dir_port_front_page", "DirPortFrontPage"),
            ("max_consensus_age_for_diffs", "MaxConsensusAgeForDiffs"),
            ("max_hs_dir_cache_bytes", "MaxHSDirCacheBytes"),
        ],
    ),
    (
        "dns",
        &[
            ("server_dns_search_domains", "ServerDNSSearchDomains"),
            ("server_dns_randomize_case", "ServerDNSRandomizeCase"),
            (
                "server_dns_allow_broken_config",
                "ServerDNSAllowBrokenConfig",
            ),
            (
                "server_dns_allow_non_rfc953_hostnames",
                "ServerDNSAllowNonRFC953Hostnames",
            ),
        ],
    ),
    (
        "keys",
        &[
            ("offline_master_key", "OfflineMasterKey"),
            ("signing_key_lifetime", "SigningKeyLifetime"),
            ("ssl_key_lifetime", "SSLKeyLifetime"),
            ("testing_signing_key_slop", "TestingSigningKeySlop"),
            ("testing_link_cert_lifetime", "TestingLinkCertLifetime"),
            ("testing_link_key_slop", "TestingLinkKeySlop"),
            ("testing_auth_key_lifetime", "TestingAuthKeyLifetime"),
            ("testing_auth_key_slop", "TestingAuthKeySlop"),
        ],
    ),
];
/// The same of `[authority.practice]`.
const PRACTICE: [(&str, &str); 22] = [
    ("auth_dir_pin_keys", "AuthDirPinKeys"),
    ("auth_dir_test_reachability", "AuthDirTestReachability"),
    (
        "auth_dir_test_ed25519_link_keys",
        "AuthDirTestEd25519LinkKeys",
    ),
    ("auth_dir_shared_randomness", "AuthDirSharedRandomness"),
    ("auth_dir_list_bad_exits", "AuthDirListBadExits"),
    ("auth_dir_list_middle_only", "AuthDirListMiddleOnly"),
    ("auth_dir_vote_guard", "AuthDirVoteGuard"),
    (
        "minimal_accepted_server_version",
        "MinimalAcceptedServerVersion",
    ),
    (
        "min_measured_bws_for_auth_to_ignore_advertised",
        "MinMeasuredBWsForAuthToIgnoreAdvertised",
    ),
    ("v3_auth_use_legacy_key", "V3AuthUseLegacyKey"),
    (
        "testing_v3_auth_initial_vote_delay",
        "TestingV3AuthInitialVoteDelay",
    ),
    (
        "testing_v3_auth_initial_dist_delay",
        "TestingV3AuthInitialDistDelay",
    ),
    (
        "testing_v3_auth_voting_start_offset",
        "TestingV3AuthVotingStartOffset",
    ),
    (
        "testing_auth_dir_time_to_learn_reachability",
        "TestingAuthDirTimeToLearnReachability",
    ),
    ("testing_dir_auth_vote_guard", "TestingDirAuthVoteGuard"),
    ("testing_dir_auth_vote_exit", "TestingDirAuthVoteExit"),
    ("testing_dir_auth_vote_hs_dir", "TestingDirAuthVoteHSDir"),
    (
        "testing_dir_auth_vote_guard_is_strict",
        "TestingDirAuthVoteGuardIsStrict",
    ),
    (
        "testing_dir_auth_vote_exit_is_strict",
        "TestingDirAuthVoteExitIsStrict",
    ),
    (
        "testing_dir_auth_vote_hs_dir_is_strict",
        "TestingDirAuthVoteHSDirIsStrict",
    ),
    (
        "testing_min_exit_flag_threshold",
        "TestingMinExitFlagThreshold",
    ),
    (
        "testing_min_fast_flag_threshold",
        "TestingMinFastFlagThreshold",
    ),
];
/// What rules on relays are called, and those on countries.
const RULES: [(&str, [&str; 2]); 4] = [
    ("reject", ["AuthDirReject", "AuthDirRejectCCs"]),
    ("invalid", ["AuthDirInvalid", "AuthDirInvalidCCs"]),
    ("badexit", ["AuthDirBadExit", "AuthDirBadExitCCs"]),
    ("middleonly", ["AuthDirMiddleOnly", "AuthDirMiddleOnlyCCs"]),
];

/// A key that an option says the other way round.
const AHEAD: &str = "circuits_ahead";

/// A configuration of ours as a torrc; what `tor` has no option for is a comment.
pub(crate) fn torrc(table: &Table) -> String {
    let mut text = String::new();
    lines(table, &SAME, "", &mut text);
    for (key, value) in table {
        match (key.as_str(), value) {
            ("paths", Value::Table(paths)) => lines(paths, &PATHS, "paths.", &mut text),
            ("control", Value::Table(control)) => lines(control, &CONTROL, "control.", &mut text),
            ("dos", Value::Table(dos)) => dos_lines(dos, &mut text),
            ("authority", Value::Table(authority)) => authority_lines(authority, &mut text),
            ("bridges", Value::Array(all)) if !all.is_empty() => {
                text += "UseBridges 1\n";
                let each = all.iter().map(|one| format!("Bridge {}\n", plain(one)));
                text.extend(each);
            }
            ("transport_plugins", Value::Array(all)) => {
                let line = |one| format!("ClientTransportPlugin {}\n", plain(one));
                text.extend(all.iter().map(line));
            }
            (AHEAD, Value::Boolean(is_on)) => {
                text += &format!("__DisablePredictedCircuits {}\n", u8::from(!is_on));
            }
            ("onion_service", Value::Array(services)) => {
                let services = services.iter().filter_map(Value::as_table);
                services.for_each(|service| onion_lines(service, &mut text));
            }
            (_, Value::Table(table)) => match TABLES.iter().find(|(name, _)| name == key) {
                Some((_, known)) => lines(table, known, &format!("{key}."), &mut text),
                None => text += &format!("# [{key}] has no option of tor\n"),
            },
            _ => {}
        }
    }
    text
}

/// The configuration of a client as a torrc, with what it has by default and `tor` has not.
pub(crate) fn of_client(config: &ClientConfig) -> String {
    let table = config.written.table();
    let mut text = torrc(table);
    if !table.contains_key("socks") {
        for one in &config.socks {
            text += &format!("SocksPort {}\n", one.addr);
        }
        if config.socks.is_empty() {
            text += "SocksPort 0\n";
        }
    }
    with_defaults(text, table, &config.data_dir)
}

/// The same of a relay or an authority.
pub(crate) fn of_relay(config: &RelayConfig) -> String {
    let table = config.written.table();
    let mut text = torrc(table);
    if table.contains_key("authority") {
        text += "AuthoritativeDirectory 1\nV3AuthoritativeDirectory 1\n";
    }
    with_defaults(text, table, &config.data_dir)
}

fn with_defaults(mut text: String, table: &Table, data_dir: &Path) -> String {
    if !table.contains_key("data_dir") {
        text += &format!("DataDirectory {}\n", data_dir.display());
    }
    let control = table.get("control").and_then(Value::as_table);
    if control.is_some_and(|control| !control.contains_key("cookie")) {
        text += "CookieAuthentication 1\n";
    }
    text
}

fn authority_lines(authority: &Table, text: &mut String) {
    for (key, value) in authority {
        match (key.as_str(), value) {
            ("practice", Value::Table(practice)) => {
                lines(practice, &PRACTICE, "authority.practice.", text);
            }
            ("rules", Value::Array(rules)) => {
                let rules = rules.iter().filter_map(Value::as_table);
                rules.for_each(|rule| rule_lines(rule, text));
            }
            _ => *text += &format!("# authority.{key} is not written as an option of tor\n"),
        }
    }
}

/// A rule as the options that say it: one for countries, one for all else.
fn rule_lines(rule: &Table, text: &mut String) {
    let list = |key| {
        rule.get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    for verdict in list("verdicts").map(plain) {
        let Some((_, options)) = RULES.iter().find(|(word, _)| *word == verdict) else {
            *text += &format!("# the verdict {verdict} has no option of tor\n");
            continue;
        };
        for relay in list("relays").map(plain) {
            let code = relay
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'));
            let [relays, countries] = options;
            *text += &match code {
                Some(code) => format!("{countries} {code}\n"),
                None => format!("{relays} {relay}\n"),
            };
        }
    }
}

fn lines(table: &Table, known: &[(&str, &str)], prefix: &str, text: &mut String) {
    for (key, value) in table {
        // `dns` is a list of a client, and a table of a relay.
        let is_table = value.is_table();
        let option = known.iter().find(|(name, _)| name == key && !is_table);
        match (option, value) {
            (Some((_, option)), Value::Array(all)) if is_list(option) => {
                let words: Vec<_> = all.iter().map(plain).collect();
                *text += &format!("{option} {}\n", words.join(","));
            }
            (Some((_, option)), Value::Array(all)) => {
                for one in all {
                    *text += &format!("{option} {}\n", plain(one));
                }
                if all.is_empty() {
                    *text += &format!("{option} 0\n");
                }
            }
            (Some((_, option)), value) => *text += &format!("{option} {}\n", plain(value)),
            (None, Value::Table(_) | Value::Array(_)) => {}
            (None, _) if key == AHEAD => {}
            (None, value) => {
                *text += &format!("# {prefix}{key} = {value} has no option of tor\n");
            }
        }
    }
}

/// Whether an option has its values on one line.
fn is_list(option: &str) -> bool {
    let sets = ["VoteGuard", "VoteExit", "VoteHSDir"];
    ["Nodes", "PlaintextPorts", "LongLivedPorts", "HostsSuffixes"]
        .iter()
        .chain(&sets)
        .any(|end| option.ends_with(end))
        || option == "MyFamily"
}

fn dos_lines(dos: &Table, text: &mut String) {
    for (key, value) in dos {
        let words = key.split('_').map(|word| {
            let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
            first.to_ascii_uppercase() + rest
        });
        *text += &format!("DoS{} {}\n", words.collect::<String>(), plain(value));
    }
}

fn onion_lines(service: &Table, text: &mut String) {
    let mut put = |option: &str, value: Option<&Value>| {
        if let Some(value) = value {
            *text += &format!("{option} {}\n", plain(value));
        }
    };
    put("HiddenServiceDir", service.get("dir"));
    let ports = service.get("ports").and_then(Value::as_array);
    for port in ports.into_iter().flatten() {
        let port = Value::String(plain(port).replacen('=', " ", 1));
        put("HiddenServicePort", Some(&port));
    }
    put(
        "HiddenServiceNumIntroductionPoints",
        service.get("intro_points"),
    );
    for (option, key) in [
        ("HiddenServiceMaxStreams", "streams_max"),
        (
            "HiddenServiceMaxStreamsCloseCircuit",
            "streams_max_close_circuit",
        ),
        ("HiddenServiceAllowUnknownPorts", "allow_unknown_ports"),
        ("HiddenServiceDirGroupReadable", "dir_group_readable"),
        ("HiddenServiceExportCircuitID", "export_circuit_id"),
        ("HiddenServiceOnionBalanceInstance", "onionbalance_instance"),
    ] {
        put(option, service.get(key));
    }
    if let Some(limit) = service.get("introductions").and_then(Value::as_table) {
        put(
            "HiddenServiceEnableIntroDoSDefense",
            Some(&Value::Integer(1)),
        );
        put("HiddenServiceEnableIntroDoSRatePerSec", limit.get("rate"));
        put("HiddenServiceEnableIntroDoSBurstPerSec", limit.get("burst"));
    }
}

/// A value without quotes; 1 and 0 for what is true or not.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Boolean(is_on) => u8::from(*is_on).to_string(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_written_as_a_torrc() {
        let table = "socks = [\"127.0.0.1:1\"]\nautomap = true\nnetwork = \"n\"\n\
            disable_network = true\ncircuits_ahead = false\nmap_address = [\"a b\"]\n\
            [paths]\nexit = [\"a\", \"{de}\"]\nlayer2 = [\"b\"]\nfamilies = [\"c, d\", \"e, f\"]\n\
            [guards]\nused = 2\n[path_bias]\nnotice = 0.5\n[fetches]\nnetwork = false\n\
            [circuits]\nlong_lived_ports = [22, 23]\n[dormancy]\nafter = 700\n\
            [reach]\naddresses = [\"accept *:443\"]\nipv4 = false\n\
            [dos]\nconnection_enabled = true\n\
            [[onion_service]]\ndir = \"d\"\nports = [\"80=127.0.0.1:8080\"]\n";
        let text = torrc(&table.parse().unwrap());
        for line in [
            "SocksPort 127.0.0.1:1\n",
            "AutomapHostsOnResolve 1\n",
            "DisableNetwork 1\n",
            "__DisablePredictedCircuits 1\n",
            "MapAddress a b\n",
            "ExitNodes a,{de}\n",
            "HSLayer2Nodes b\n",
            "NodeFamily c, d\nNodeFamily e, f\n",
            "NumEntryGuards 2\n",
            "PathBiasNoticeRate 0.5\n",
            "FetchServerDescriptors 0\n",
            "LongLivedPorts 22,23\n",
            "DormantClientTimeout 700\n",
            "ReachableAddresses accept *:443\n",
            "ClientUseIPv4 0\n",
            "DoSConnectionEnabled 1\n",
            "HiddenServiceDir d\nHiddenServicePort 80 127.0.0.1:8080\n",
            "# network = \"n\" has no option of tor\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn what_relays_and_authorities_have_is_written_and_read_again() {
        let table = "ext_or_port = [\"127.0.0.1:auto\"]\nrefuse_unknown_exits = false\n\
            publish_descriptor = false\n\
            [directory]\ndir_cache = false\ndir_policy = [\"reject *\"]\n\
            [dns]\nserver_dns_search_domains = true\n[keys]\nsigning_key_lifetime = 864000\n\
            [authority.practice]\nauth_dir_pin_keys = false\n\
            auth_dir_vote_guard = [\"a\", \"b\"]\n\
            [[authority.rules]]\nrelays = [\"{de}\", \"192.0.2.0/24\"]\nverdicts = [\"reject\"]\n";
        let text = torrc(&table.parse().unwrap());
        for line in [
            "ExtORPort 127.0.0.1:auto\n",
            "RefuseUnknownExits 0\n",
            "PublishServerDescriptor 0\n",
            "DirCache 0\n",
            "DirPolicy reject *\n",
            "ServerDNSSearchDomains 1\n",
            "SigningKeyLifetime 864000\n",
            "AuthDirPinKeys 0\n",
            "AuthDirVoteGuard a,b\n",
            "AuthDirRejectCCs de\n",
            "AuthDirReject 192.0.2.0/24\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("DNSPort"), "{text}");
        let known = TABLES.iter().flat_map(|(_, known)| known.iter());
        for (_, option) in known.chain(&PRACTICE).chain(&SAME) {
            assert!(cepa_torrc::names::named(option).is_some(), "{option}");
        }
    }
}
