//! A configuration of ours as a torrc, as far as `tor` has options for it.

use std::path::Path;

use toml::{Table, Value};

use crate::config::{ClientConfig, RelayConfig};

/// Keys that an option of `tor` says as they are.
const SAME: [(&str, &str); 52] = [
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
const WISHES: [(&str, Keys); 6] = [
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
            (key, Value::Table(table)) => match WISHES.iter().find(|(name, _)| *name == key) {
                Some((name, known)) => lines(table, known, &format!("{name}."), &mut text),
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

fn lines(table: &Table, known: &[(&str, &str)], prefix: &str, text: &mut String) {
    for (key, value) in table {
        let option = known.iter().find(|(name, _)| name == key);
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
    ["Nodes", "PlaintextPorts", "LongLivedPorts", "HostsSuffixes"]
        .iter()
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
}
