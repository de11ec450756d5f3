//! Torrcs of relays, bridges and authorities.

use super::*;

#[test]
fn a_relay_and_an_authority() {
    let relay = "ORPort 10.0.0.1:9001\nNickname r\nExitPolicy accept *:80\nBandwidthRate 1 MB\n\
        MyFamily $0123456789012345678901234567890123456789~x, y\nSocksPort 0\n\
        AccountingMax 1 GB\nAccountingStart  day  12:00\nDoSConnectionEnabled 1\n\
        ServerDNSResolvConfFile /etc/resolv.conf\nFamilyKeyDirectory /fam\n";
    let read = translated(relay).unwrap();
    assert_eq!(read.role, Role::Relay);
    let text = read.document.text();
    for part in [
        "or_port = 9001",
        "listen = \"10.0.0.1\"",
        "accept *:80",
        "reject *:25",
        "bandwidth_rate = 1048576",
        "bandwidth_burst = 1073741824",
        "\"$0123456789012345678901234567890123456789\"",
        "accounting_start = \"day 12:00\"",
        "connection_enabled = true",
        "resolv_conf = \"/etc/resolv.conf\"",
        "\"/fam/a.secret_family_key\"",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let authority = format!(
        "{relay}{AUTHORITY}AuthoritativeDirectory 1\nV3AuthoritativeDirectory 1\n\
         V3AuthVotingInterval 5 minutes\nAuthDirReject 1.2.3.0/24, reject 4.5.6.7:*\n\
         ConsensusParams a=1 b=-2\nDirPort 7000\n"
    );
    let read = translated(&authority).unwrap();
    assert_eq!(read.role, Role::Authority);
    let text = read.document.text();
    for part in [
        "voting_interval = 300",
        "\"4.5.6.7\"",
        "verdicts = [\"reject\"]",
        "\"b\" = -2",
        "dir_port = 7000",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn what_a_relay_serves_and_how_long_its_keys_last() {
    let relay = "ORPort 9001\nDirCache 0\nDirPolicy reject 192.0.2.0/24, accept *\n\
        DirPortFrontPage ~/page.html\nMaxConsensusAgeForDiffs 2 hours\n\
        MaxHSDirCacheBytes 1 MB\nServerDNSSearchDomains 1\nServerDNSRandomizeCase 0\n\
        ServerDNSAllowBrokenConfig 0\nServerDNSAllowNonRFC953Hostnames 1\nOfflineMasterKey 1\n\
        SigningKeyLifetime 10 days\nSSLKeyLifetime 1 day\nRefuseUnknownExits 0\n\
        MaxOnionQueueDelay 20 msec\nOutboundBindAddressExit 192.0.2.9\n\
        OutboundBindAddressExit [2001:db8::9]\nGeoIPFile /g\n";
    let text = toml(relay);
    for part in [
        "[directory]\ndir_cache = false\ndir_policy = [\n    \"reject 192.0.2.0/24, accept *\",\n]",
        "dir_port_front_page = \"/home/u/page.html\"",
        "max_consensus_age_for_diffs = 7200",
        "max_hs_dir_cache_bytes = 1048576",
        "[dns]\nserver_dns_search_domains = true",
        "server_dns_randomize_case = false",
        "server_dns_allow_broken_config = false",
        "server_dns_allow_non_rfc953_hostnames = true",
        "[keys]\noffline_master_key = true\nsigning_key_lifetime = 864000",
        "ssl_key_lifetime = 86400",
        "refuse_unknown_exits = false",
        "max_onion_queue_delay = 20",
        "outbound_bind_address_exit = [\n    \"192.0.2.9\",\n    \"2001:db8::9\",\n]",
        "geoip = \"/g\"",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let testing = "ORPort 9001\nTestingSigningKeySlop 1 hour\nTestingLinkCertLifetime 1 day\n\
        TestingLinkKeySlop 2 hours\nTestingAuthKeyLifetime 1 day\nTestingAuthKeySlop 1 hour\n";
    assert!(!toml(testing).contains("[keys]"));
    let text = toml(&format!("TestingTorNetwork 1\n{AUTHORITY}{testing}"));
    for part in [
        "testing_signing_key_slop = 3600",
        "testing_link_cert_lifetime = 86400",
        "testing_link_key_slop = 7200",
        "testing_auth_key_lifetime = 86400",
        "testing_auth_key_slop = 3600",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn an_authority_practises_as_its_torrc_says() {
    let base = format!(
        "ORPort 9001\nDirPort 7000\n{AUTHORITY}AuthoritativeDirectory 1\n\
         V3AuthoritativeDirectory 1\n"
    );
    let text = toml(&base);
    for part in [
        "[authority.practice]",
        "auth_dir_list_bad_exits = false",
        "auth_dir_list_middle_only = false",
        "v3_auth_use_legacy_key = false",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let told = "AuthDirPinKeys 0\nAuthDirTestReachability 0\nAuthDirTestEd25519LinkKeys 0\n\
        AuthDirSharedRandomness 0\nAuthDirListBadExits 1\nAuthDirListMiddleOnly 1\n\
        AuthDirVoteGuard moria1, {de}\nMinimalAcceptedServerVersion 0.4.9.5\n\
        MinMeasuredBWsForAuthToIgnoreAdvertised 3\nV3AuthUseLegacyKey 1\n\
        AuthDirRejectCCs de,fr\nAuthDirInvalidCCs it\nAuthDirBadExitCCs es\n\
        AuthDirMiddleOnlyCCs pt\n";
    let text = toml(&format!("{base}{told}"));
    for part in [
        "auth_dir_pin_keys = false",
        "auth_dir_test_reachability = false",
        "auth_dir_test_ed25519_link_keys = false",
        "auth_dir_shared_randomness = false",
        "auth_dir_list_bad_exits = true",
        "auth_dir_list_middle_only = true",
        "auth_dir_vote_guard = [\n    \"moria1\",\n    \"{de}\",\n]",
        "minimal_accepted_server_version = \"0.4.9.5\"",
        "min_measured_bws_for_auth_to_ignore_advertised = 3",
        "v3_auth_use_legacy_key = true",
        "    \"{de}\",\n    \"{fr}\",\n]\nverdicts = [\"reject\"]",
        "    \"{it}\",\n]\nverdicts = [\"invalid\"]",
        "    \"{es}\",\n]\nverdicts = [\"badexit\"]",
        "    \"{pt}\",\n]\nverdicts = [\"middleonly\"]",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let testing = "TestingV3AuthInitialVoteDelay 3\nTestingV3AuthInitialDistDelay 4\n\
        TestingV3AuthVotingStartOffset 5\nTestingAuthDirTimeToLearnReachability 6\n\
        TestingDirAuthVoteGuard *\nTestingDirAuthVoteExit a\nTestingDirAuthVoteExitIsStrict 1\n\
        TestingDirAuthVoteGuardIsStrict 1\nTestingDirAuthVoteHSDirIsStrict 1\n\
        TestingMinExitFlagThreshold 7 KB\nTestingMinFastFlagThreshold 8 KB\n";
    assert!(!toml(&format!("{base}{testing}")).contains("testing_"));
    let text = toml(&format!("TestingTorNetwork 1\n{base}{testing}"));
    for part in [
        "testing_v3_auth_initial_vote_delay = 3",
        "testing_v3_auth_initial_dist_delay = 4",
        "testing_v3_auth_voting_start_offset = 5",
        "testing_auth_dir_time_to_learn_reachability = 6",
        "testing_dir_auth_vote_guard = [\n    \"*\",\n]",
        "testing_dir_auth_vote_exit = [\n    \"a\",\n]",
        "testing_dir_auth_vote_hs_dir = []",
        "testing_dir_auth_vote_guard_is_strict = true",
        "testing_dir_auth_vote_exit_is_strict = true",
        "testing_dir_auth_vote_hs_dir_is_strict = true",
        "testing_min_exit_flag_threshold = 7168",
        "testing_min_fast_flag_threshold = 8192",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn a_bridge_has_its_transports() {
    let text = toml(
        "ORPort 9001\nBridgeRelay 1\nPublishServerDescriptor 0\nBridgeDistribution none\n\
         ServerTransportPlugin obfs4 exec /usr/bin/obfs4proxy\nExtORPort auto\n\
         ServerTransportListenAddr obfs4 0.0.0.0:443\nServerTransportOptions obfs4 iat-mode=1\n\
         __ExtORPort [::1]:9002\nExtORPortCookieAuthFile ~/c\n\
         ExtORPortCookieAuthFileGroupReadable 1\n",
    );
    for part in [
        "bridge = true",
        "bridge_distribution = \"none\"",
        "\"obfs4 exec /usr/bin/obfs4proxy\"",
        "\"obfs4 0.0.0.0:443\"",
        "\"obfs4 iat-mode=1\"",
        "ext_or_port = [\n    \"127.0.0.1:auto\",\n    \"[::1]:9002\",\n]",
        "ext_or_port_cookie_file = \"/home/u/c\"",
        "ext_or_port_cookie_file_group_readable = true",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let with = |word: &str| format!("ORPort 9001\nPublishServerDescriptor {word}\n");
    let is_kept = |word: &str| toml(&with(word)).contains("publish_descriptor = false\n");
    assert_eq!(["0", "1", "v3"].map(is_kept), [true, false, false]);
    assert_eq!(["0,v3", "bridge"].map(is_kept), [false, true]);
    assert!(translated(&with("x")).is_err());
}

#[test]
fn a_relay_with_ports_of_clients_is_both() {
    let relay = "DataDirectory /d\nORPort 10.0.0.1:9001\nSocksPort 9050\nExitNodes {de}\n\
        HiddenServiceDir /h\nHiddenServicePort 80\nControlPort 9051\nMetricsPort 9035\n\
        Log notice file /l\nOutboundBindAddress 10.0.0.1\nDisableAllSwap 0\n";
    let read = translated(&format!("{AUTHORITY}{relay}")).unwrap();
    assert_eq!((read.role, &read.notes[..]), (Role::Relay, &[][..]));
    let (own, client) = (read.document.text(), read.client.unwrap().text());
    for (part, of_relay, of_client) in [
        ("data_dir = \"/d\"", true, false),
        ("data_dir = \"/d/client\"", false, true),
        ("or_port = 9001", true, false),
        ("127.0.0.1:9050", false, true),
        ("[[onion_service]]", false, true),
        ("[paths]", false, true),
        ("[control]", true, false),
        ("[log]", true, false),
        ("metrics = ", true, false),
        ("[[inline_network.authority]]", true, true),
        ("outbound_bind_address = \"10.0.0.1\"", false, true),
    ] {
        assert_eq!(own.contains(part), of_relay, "{part}\n{own}");
        assert_eq!(client.contains(part), of_client, "{part}\n{client}");
    }
    // No port is opened that nobody asked for.
    let service = translated("ORPort 9001\nHiddenServiceDir /h\nHiddenServicePort 80\n").unwrap();
    assert!(service.client.unwrap().text().contains("socks = []"));
    for mere in ["ORPort 9001\n", "ORPort 9001\nSocksPort 0\nDNSPort 0\n"] {
        assert!(translated(mere).unwrap().client.is_none(), "{mere}");
    }
    assert!(translated("ORPort 9001\nUseBridges 1\nBridge 10.0.0.1:1\n").is_err());
    let authority = "ORPort 9001\nDirPort 7000\nSocksPort 9050\nAuthoritativeDirectory 1\n\
        V3AuthoritativeDirectory 1\n";
    assert!(translated(&format!("{AUTHORITY}{authority}")).is_err());
}
