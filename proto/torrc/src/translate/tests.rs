//! Torrcs of programs as configurations of ours.

mod nodes;

use proptest::prelude::*;

use super::*;
use crate::include::{self, tests::Shelf};
use crate::names;

fn translated(text: &str) -> Result<Translated, Vec<String>> {
    let told = |wrong: Vec<Problem>| wrong.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut files = Shelf::default();
    files.0.insert("/etc/resolv.conf", "nameserver 9.9.9.9\n");
    files.0.insert("/fam/a.secret_family_key", "");
    let entries = include::read("torrc", text, &files).map_err(|wrong| told(vec![wrong]))?;
    let settings = Settings::read(&[entries]).map_err(told)?;
    let world = World {
        home: Some("/home/u".to_owned()),
        network: Some("/etc/cepa/network.toml".to_owned()),
        has_client: false,
        files: &files,
    };
    translate(&settings, &world).map_err(told)
}

fn toml(text: &str) -> String {
    translated(text).unwrap().document.text()
}

#[test]
fn an_empty_torrc_is_a_client() {
    let read = translated("").unwrap();
    assert_eq!(read.role, Role::Client);
    let text = read.document.text();
    for line in [
        "socks = [\"127.0.0.1:9050\"]",
        "data_dir = \"/home/u/.tor\"",
        "network = \"/etc/cepa/network.toml\"",
        "places = [{ level = \"info\", stdout = true }]",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("[control]"));
}

#[test]
fn a_line_knows_its_place() {
    let read = translated("SocksPort 1.2.3.4:5\n\nSocksPort auto IsolateDestAddr\n").unwrap();
    let text = read.document.text();
    let at = text
        .lines()
        .position(|line| line.contains(":auto Isolate"))
        .unwrap();
    let origins = read.document.origins();
    let (place, option) = origins[at].clone().unwrap();
    assert_eq!(
        (place.to_string().as_str(), option),
        ("torrc line 3", "SocksPort")
    );
}

#[test]
fn onionshare_and_a_service() {
    let text = toml(
        "DataDirectory /d\nSocksPort 127.0.0.1:9999\nCookieAuthentication 1\n\
         ControlSocket /d/control\nHiddenServiceDir /d/hs\nHiddenServicePort 80 unix:/d/s\n\
         HiddenServicePort 81 127.0.0.1:82\nHiddenServiceMaxStreams 5\n\
         HiddenServiceDir /d/b\nHiddenServicePort 22\nHiddenServiceEnableIntroDoSDefense 1\n",
    );
    for part in [
        "    \"unix:/d/control\",",
        "cookie = true",
        "\"80=unix:/d/s\"",
        "\"81=127.0.0.1:82\"",
        "streams_max = 5",
        "introductions = { rate = 25, burst = 200 }",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert_eq!(text.matches("[[onion_service]]").count(), 2);
}

#[test]
fn ports_are_for_some_and_names_get_addresses() {
    let text = toml(
        "SocksPolicy accept 192.0.2.7, reject *\nTestSocks 1\nAutomapHostsOnResolve 1\n\
         AutomapHostsSuffixes .onion,.net\nVirtualAddrNetworkIPv4 10.192.0.0/10\n\
         VirtualAddrNetworkIPv6 [fd00::]/8\n",
    );
    for part in [
        "test_socks = true\n",
        "socks_policy = [\n    \"accept 192.0.2.7\",\n    \"reject *\",\n]\n",
        "automap_suffixes = [\".onion\", \".net\"]\n",
        "virtual_ipv4 = \"10.192.0.0/10\"\nvirtual_ipv6 = \"[fd00::]/8\"\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn logs_are_emptied_and_have_coarse_times() {
    let text = toml("Log notice file /l\nTruncateLogFile 1\nLogTimeGranularity 250\n");
    assert!(
        text.contains("time_granularity_ms = 250\ntruncate = true\n"),
        "{text}"
    );
    let times = |torrc: &str| {
        let text = toml(torrc);
        let line = text
            .lines()
            .find(|line| line.starts_with("time_granularity"));
        line.map(str::to_owned)
    };
    assert_eq!(
        times("LogTimeGranularity 300").unwrap(),
        "time_granularity_ms = 500"
    );
    assert_eq!(
        times("LogTimeGranularity 1500").unwrap(),
        "time_granularity_ms = 2000"
    );
    assert_eq!(times("Nickname a"), None);
    assert!(translated("LogTimeGranularity 0").is_err());
    let control = toml("ControlPort 1\nControlPortWriteToFile /c\nControlPortFileGroupReadable 1");
    assert!(
        control.contains("file_group_readable = true\n"),
        "{control}"
    );
}

#[test]
fn a_process_is_as_it_is_said() {
    let process = |torrc: &str| translated(torrc).unwrap().process;
    let usual = process("");
    assert_eq!(
        (
            usual.is_debuggable,
            usual.descriptors_min,
            usual.leaves_signals
        ),
        (false, 1000, false)
    );
    let bounds = |torrc: &str| {
        let told = process(torrc);
        (told.is_sandboxed, told.no_exec)
    };
    let (plugin, own) = (
        "ClientTransportPlugin a exec /a\n",
        "ClientTransportPlugin webtunnel own\n",
    );
    assert_eq!(bounds(""), (false, false));
    assert_eq!(bounds("Sandbox 1\n"), (true, true));
    assert_eq!(bounds("NoExec 1\n"), (false, true));
    assert_eq!(bounds(&format!("Sandbox 1\n{plugin}")), (true, false));
    assert_eq!(bounds(&format!("Sandbox 1\n{own}")), (true, true));
    assert!(translated(&format!("NoExec 1\n{plugin}")).is_err());
    let told = process("DisableDebuggerAttachment 0\nConnLimit 60\n__DisableSignalHandlers 1\n");
    assert_eq!(
        (
            told.is_debuggable,
            told.descriptors_min,
            told.leaves_signals
        ),
        (true, 60, true)
    );
}

#[test]
fn a_service_says_what_visitors_may() {
    let service = "HiddenServiceDir /d\nHiddenServicePort 80\n";
    let text = toml(&format!(
        "{service}HiddenServiceMaxStreamsCloseCircuit 1\nHiddenServiceAllowUnknownPorts 1\n\
         HiddenServiceDirGroupReadable 1\nHiddenServiceExportCircuitID haproxy\n\
         HiddenServiceOnionBalanceInstance 1\n"
    ));
    let said = "streams_max_close_circuit = true\nallow_unknown_ports = true\n\
        dir_group_readable = true\nonionbalance_instance = true\nexport_circuit_id = \"haproxy\"\n";
    assert!(text.contains(said), "{text}");
    let none = toml(&format!("{service}HiddenServiceExportCircuitID none\n"));
    assert!(!none.contains("export_circuit_id"), "{none}");
    for wrong in [
        "HiddenServiceExportCircuitID x",
        "HiddenServiceAllowUnknownPorts 2",
    ] {
        assert!(
            translated(&format!("{service}{wrong}\n")).is_err(),
            "{wrong}"
        );
    }
}

const AUTHORITY: &str = "DirAuthority a1 orport=5000 no-v2 \
    v3ident=0123456789012345678901234567890123456789 127.0.0.1:7000 \
    0123 4567 8901 2345 6789 0123 4567 8901 2345 6789\n";

#[test]
fn a_network_comes_from_lines() {
    let text = toml(&format!("TestingTorNetwork 1\n{AUTHORITY}"));
    for part in [
        "distinct_subnets = false",
        "[inline_network]\ntesting = true",
        "or = \"127.0.0.1:5000\"",
        "dir = \"127.0.0.1:7000\"",
        "nickname = \"a1\"",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("network.toml"));
    for wrong in [
        "DirAuthority x",
        "DirAuthority a 127.0.0.1:1 0123",
        "TestingTorNetwork 1",
        "FallbackDir 1.2.3.4:80 orport=1 id=0123456789012345678901234567890123456789",
    ] {
        assert!(translated(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn chutney_and_tor_browser() {
    let common = "TestingTorNetwork 1\nPathsNeededToBuildCircuits 0.25\nTestingDirAuthVoteExit *\n\
        TestingDirAuthVoteHSDir *\nV3AuthNIntervalsValid 2\nTestingDirAuthVoteGuard *\n\
        TestingMinExitFlagThreshold 0\nDataDirectory /d\nRunAsDaemon 1\nConnLimit 60\n\
        Nickname test000a\nShutdownWaitLength 2\nDisableDebuggerAttachment 0\n\
        ControlPort 8000\nControlSocket /d/control\nCookieAuthentication 1\nPidFile /d/pid\n\
        Log notice file /d/notice.log\nLog info file /d/info.log\nProtocolWarnings 1\n\
        SafeLogging 0\nLogTimeGranularity 1\nSocksPort 0\nOrPort 5000\nAddress 127.0.0.1\n\
        ServerDNSDetectHijacking 0\nServerDNSTestAddresses\n";
    let authority = format!(
        "{common}{AUTHORITY}AuthoritativeDirectory 1\nV3AuthoritativeDirectory 1\n\
         ContactInfo a@b\nDirPort 7000\nExitPolicy reject *:*\nV3AuthVotingInterval 20\n\
         TestingV3AuthInitialVotingInterval 20\nV3AuthVoteDelay 4\nV3AuthDistDelay 4\n"
    );
    assert_eq!(translated(&authority).unwrap().role, Role::Authority);
    let relay = translated(&format!(
        "{common}{AUTHORITY}ExitRelay 1\nExitPolicy accept *:*\n"
    ));
    let relay = relay.unwrap();
    assert!(relay.process.is_daemon && relay.process.pid_file.is_some());
    let warned = relay.notes.iter().find(|note| note.0 == Severity::Warning);
    assert_eq!(warned, None, "{:?}", relay.notes);
    let text = relay.document.text();
    for part in ["127.0.0.1:8000", "unix:/d/control"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let browser = "AvoidDiskWrites 1\nLog notice stdout\nCookieAuthentication 1\n\
        SocksPort 9150 IPv6Traffic PreferIPv6 KeepAliveIsolateSOCKSAuth\nControlPort 9151\n\
        ClientTransportPlugin meek_lite,obfs4 exec ./lyrebird\nDormantCanceledByStartup 1\n\
        GeoIPFile /g\nGeoIPv6File /g6\nClientOnionAuthDir /d/onion-auth\n";
    let text = toml(browser);
    assert!(
        text.contains("127.0.0.1:9150 KeepAliveIsolateSOCKSAuth"),
        "{text}"
    );
}

#[test]
fn links_go_through_a_proxy() {
    let proxy = |text: &str| {
        let text = toml(text);
        let line = text.lines().find(|line| line.starts_with("outbound_proxy"));
        line.unwrap_or_default().to_owned()
    };
    for (torrc, url) in [
        ("Socks4Proxy 10.0.0.1", "socks4://10.0.0.1:1080"),
        ("TCPProxy haproxy 10.0.0.1:9", "haproxy://10.0.0.1:9"),
        ("Socks5Proxy [::1]", "socks5://[::1]:1080"),
        (
            "Socks5Proxy a.example:9\nSocks5ProxyUsername u\nSocks5ProxyPassword p:q",
            "socks5://u:p:q@a.example:9",
        ),
        (
            "HTTPSProxy [::1]:8080\nHTTPSProxyAuthenticator u:p",
            "http://u:p@[::1]:8080",
        ),
    ] {
        assert_eq!(
            proxy(torrc),
            format!("outbound_proxy = \"{url}\""),
            "{torrc}"
        );
    }
    assert_eq!(proxy("Socks5ProxyUsername u"), "");
    assert!(translated("Socks4Proxy 1.2.3.4\nHTTPSProxy 1.2.3.4\n").is_err());
    assert!(translated("TCPProxy haproxy 1.2.3.4:5\nHTTPSProxy 1.2.3.4\n").is_err());
    assert!(translated("TCPProxy socks 1.2.3.4:5\n").is_err());
}

#[test]
fn bridges_are_used_where_that_is_said() {
    let line = "obfs4 192.0.2.1:443 cert=a iat-mode=0";
    let plugin = "obfs4 exec /usr/bin/obfs4proxy";
    let lines = format!("Bridge {line}\nClientTransportPlugin {plugin}\n");
    let text = toml(&format!("UseBridges 1\n{lines}"));
    assert!(
        text.contains(&format!("bridges = [\n    \"{line}\",\n]")),
        "{text}"
    );
    assert!(text.contains(plugin), "{text}");
    let unused = toml(&lines);
    assert!(!unused.contains("bridges =") && unused.contains(plugin));
    assert!(translated("UseBridges 1\n").unwrap_err()[0].contains("line 1: UseBridges"));
}

#[test]
fn what_is_refused_names_line_option_and_reason() {
    let wrong = translated("ControlPort 9051\nDisableAllSwap 1\nSocksPort x\nLog loud\nUser a\n");
    let wrong = wrong.unwrap_err();
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    for (told, start) in wrong.iter().zip([
        "torrc line 2: DisableAllSwap: ",
        "torrc line 3: SocksPort: ",
        "torrc line 4: Log: ",
    ]) {
        assert!(told.starts_with(start), "{told}");
    }
    assert!(translated("ORPort 1\nHiddenServiceDir a\n").is_err());
}

#[test]
fn nothing_is_passed_over_silently() {
    let before = |kind: u8| match kind {
        0 => {
            "ORPort 9001\nAuthoritativeDirectory 1\nV3AuthoritativeDirectory 1\n\
                 VersioningAuthoritativeDirectory 1\nAccountingMax 1 GB\nMetricsPort 1\n"
        }
        1 => {
            "ControlPort auto\nHiddenServiceDir a\nHiddenServicePort 1\nMetricsPort 1\n\
                  HiddenServiceEnableIntroDoSDefense 1\nTransPort 1\nSocksPort unix:/s\n\
                  ControlSocket /c\nHTTPSProxy 10.0.0.9\n"
        }
        _ => "Socks5Proxy 10.0.0.9\n",
    };
    let shown = |text: &str| match translated(text) {
        Ok(read) => {
            let notes: Vec<_> = read.notes.iter().map(|note| note.1.to_string()).collect();
            format!("{}{:?}{notes:?}", read.document.text(), read.process)
        }
        Err(wrong) => format!("{wrong:?}"),
    };
    let mut silent = Vec::new();
    for option in names::all()
        .into_iter()
        .filter(|option| option.fate == Fate::Meant)
    {
        let texts = [
            "0",
            "1",
            "7",
            "200 KB",
            "x",
            "auto",
            "10.0.0.1",
            "/x",
            "notice stderr",
        ];
        let tells = texts.iter().any(|text| {
            (0..3).any(|kind| {
                let without = before(kind).to_owned();
                let with = format!("{without}{} {text}\n", option.name);
                shown(&with) != shown(&without)
            })
        });
        if !tells {
            silent.push(option.name);
        }
    }
    assert_eq!(silent, Vec::<&str>::new());
}

#[test]
fn overrides_have_tables_of_their_own() {
    let text = toml(
        "NumEntryGuards 2\nNumPrimaryGuards 4\nNumDirectoryGuards 5\nGuardLifetime 30 days\n\
         PathBiasCircThreshold 20\nPathBiasNoticeRate 1\nPathBiasWarnRate -1\n\
         PathBiasExtremeRate 0.25\nPathBiasDropGuards 1\nPathBiasScaleThreshold -1\n\
         PathBiasUseThreshold 3\nPathBiasNoticeUseRate 0.5\nPathBiasExtremeUseRate 0.125\n\
         PathBiasScaleUseThreshold 9\nCircuitBuildTimeout 1 minute\n\
         LearnCircuitBuildTimeout 0\nCircuitStreamTimeout 60\nCircuitsAvailableTimeout 2 hours\n\
         SocksTimeout 30\nMaxClientCircuitsPending 9\nLongLivedPorts 22,6667\n\
         PathsNeededToBuildCircuits 0.5\nFetchHidServDescriptors 0\n\
         FetchServerDescriptors 0\nPublishHidServDescriptors 0\nDormantClientTimeout 1 day\n\
         DormantTimeoutDisabledByIdleStreams 0\nDormantTimeoutEnabled 0\n\
         DormantOnFirstStartup 1\nDormantCanceledByStartup 1\nHSLayer2Nodes a,{de}\n\
         HSLayer3Nodes b\nNodeFamily $0123456789012345678901234567890123456789~x, y\n\
         NodeFamily 10.0.0.0/8,z\n",
    );
    for part in [
        "[guards]\nused = 2\nprimary = 4\ndirectory = 5\nlifetime = 2592000\n",
        "[path_bias]\ncircuits_min = 20\nnotice = 1.0\nextreme = 0.25\ndrop_guards = true\n\
         uses_min = 3\nnotice_use = 0.5\nextreme_use = 0.125\nscale_uses = 9\n",
        "[circuits]\nbuild_timeout = 60\nlearn_build_timeout = false\n\
         available_timeout = 7200\nstream_timeout = 60\nrequest_timeout = 30\n\
         pending_max = 9\nlong_lived_ports = [22, 6667]\npaths_needed = 0.5\n",
        "[fetches]\nnetwork = false\nonion_descriptors = false\n\
         publish_onion_descriptors = false\n",
        "[dormancy]\nenabled = false\nafter = 86400\nidle_streams = false\n\
         at_first_start = true\ncanceled_by_start = true\n",
        "layer2 = [\n    \"a\",\n    \"{de}\",\n]\nlayer3 = [\n    \"b\",\n]\n",
        "families = [\n    \"$0123456789012345678901234567890123456789, y\",\n    \
         \"10.0.0.0/8, z\",\n]\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    for wrong in [
        "NumPrimaryGuards 2\nNumEntryGuards 3",
        "MaxClientCircuitsPending 0",
        "DormantClientTimeout 5 minutes",
        "LongLivedPorts ssh",
    ] {
        assert!(translated(wrong).is_err(), "{wrong}");
    }
    assert!(!toml("NumEntryGuards 3").contains("primary"));
}

#[test]
fn a_firewall_lets_some_addresses_through() {
    let reach = |torrc: &str| {
        let text = toml(torrc);
        let (_, reach) = text.split_once("[reach]\n").unwrap_or_default();
        reach.split("\n\n").next().unwrap_or_default().to_owned()
    };
    let list = |rules: &[&str]| {
        let rules: String = rules
            .iter()
            .map(|rule| format!("    \"{rule}\",\n"))
            .collect();
        format!("addresses = [\n{rules}]\n")
    };
    assert_eq!(reach("FascistFirewall 1"), list(&["accept *:443"]));
    assert_eq!(
        reach("FascistFirewall 1\nFirewallPorts 80,443"),
        list(&["accept *:80", "accept *:443"])
    );
    assert_eq!(reach("FirewallPorts 80"), "");
    let both = "ReachableAddresses *:1\nReachableORAddresses 10.0.0.0/8:2, reject *:3\n\
        FascistFirewall 1";
    assert_eq!(reach(both), list(&["accept 10.0.0.0/8:2", "reject *:3"]));
    assert_eq!(reach("ReachableAddresses *:1"), list(&["accept *:1"]));
    assert_eq!(
        reach("ReachableDirAddresses *:80\nClientPreferIPv6DirPort 1"),
        ""
    );
    assert_eq!(
        reach("ClientUseIPv4 0\nClientUseIPv6 1\nClientPreferIPv6ORPort 1"),
        "ipv4 = false\nipv6 = true\nprefer_ipv6 = true\n"
    );
    assert_eq!(reach("ClientPreferIPv6ORPort auto"), "");
    for wrong in [
        "ReachableAddresses *:1",
        "FascistFirewall 1",
        "ClientUseIPv4 0",
    ] {
        let relay = format!("ORPort 9001\n{wrong}\n");
        assert!(translated(&relay).is_err(), "{wrong}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_torrc_is_translated_or_refused(
        lines in proptest::collection::vec((0..377usize, "[ -~]{0,30}"), 0..12)
    ) {
        let all = names::all();
        let lines = lines.iter().map(|(at, value)| format!("{} {value}\n", all[*at].name));
        let _ = translated(&lines.collect::<String>());
    }
}
