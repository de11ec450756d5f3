//! Options of relays.

use crate::option::{Fate, Kind, OptionInfo};

table! {
    Meant ORPort: Lines = "", "`or_port`, `listen`, `ipv6_address`: a relay";
    Meant __ORPort: Lines = "", "as ORPort";
    Meant DirPort: Lines = "", "`dir_port`";
    Meant __DirPort: Lines = "", "as DirPort";
    Meant DirPortFrontPage: Path = "", "`dir_port_front_page` of `[directory]`";
    Meant DirPolicy: Lines = "", "`dir_policy` of `[directory]`";
    Meant DirCache: Bool = "1", "`dir_cache` of `[directory]`";
    Meant Nickname: Text = "", "`nickname`";
    Meant ContactInfo: Text = "", "`contact`";
    Meant Address: Lines = "", "`address`, which is no name";
    Meant MyFamily: Lines = "", "`family`";
    Meant FamilyKeyDirectory: Path = "", "`family_keys`: its files `*.secret_family_key`";
    Accepted FamilyId: Lines = "", "the family is that of the keys";
    Meant ExitRelay: AutoBool = "auto", "without it no `exit_policy`, unless there is a policy";
    Meant ExitPolicy: Lines = "", "`exit_policy`, with the default policy behind it";
    Meant ReducedExitPolicy: Bool = "0", "`reduced_exit_policy`";
    Meant IPv6Exit: Bool = "0", "`ipv6_exit`";
    Meant ExitPolicyRejectPrivate: Bool = "1", "`exit_policy_reject_private`";
    Meant ExitPolicyRejectLocalInterfaces: Bool = "0", "`exit_policy_reject_local_interfaces`";
    Meant ReevaluateExitPolicy: Bool = "0", "`reevaluate_exit_policy`";
    Meant BandwidthRate: Size = "1 GB", "`bandwidth_rate`";
    Meant BandwidthBurst: Size = "1 GB", "`bandwidth_burst`";
    Meant RelayBandwidthRate: Size = "0", "`relay_bandwidth_rate`";
    Meant RelayBandwidthBurst: Size = "0", "`relay_bandwidth_burst`";
    Meant MaxAdvertisedBandwidth: Size = "1 GB", "`max_advertised_bandwidth`";
    Refused PerConnBWRate: Size = "0", "links are bounded together";
    Refused PerConnBWBurst: Size = "0", "links are bounded together";
    Accepted CountPrivateBandwidth: Bool = "0", "traffic of private addresses counts";
    Meant AccountingMax: Size = "0 bytes", "`accounting_max`";
    Meant AccountingStart: Text = "", "`accounting_start`, in UTC";
    Meant AccountingRule: Text = "max", "`accounting_rule`";
    Meant NumCPUs: Number = "0", "`workers`";
    Meant MaxOnionQueueDelay: Millis = "0", "`max_onion_queue_delay`";
    Meant PublishServerDescriptor: Words = "1",
        "`publish_descriptor`; a bridge brings its descriptor to nobody";
    Accepted AssumeReachable: Bool = "0", "a relay publishes without a test of its own";
    Accepted AssumeReachableIPv6: AutoBool = "auto", "a relay publishes without a test of its own";
    Meant RefuseUnknownExits: AutoBool = "auto", "`refuse_unknown_exits`";
    Accepted ExtendByEd25519ID: AutoBool = "auto", "relays are known by both identities";
    Meant SigningKeyLifetime: Interval = "30 days", "`signing_key_lifetime` of `[keys]`";
    Meant OfflineMasterKey: Bool = "0", "`offline_master_key` of `[keys]`";
    Meant SSLKeyLifetime: Interval = "0", "`ssl_key_lifetime` of `[keys]`";
    Meant BridgeRelay: Bool = "0", "`bridge`";
    Meant BridgeDistribution: Text = "", "`bridge_distribution`";
    Accepted BridgeRecordUsageByCountry: Bool = "1", "these statistics are not kept";
    Meant ExtORPort: Lines = "", "`ext_or_port`";
    Meant __ExtORPort: Lines = "", "as ExtORPort";
    Meant ExtORPortCookieAuthFile: Path = "", "`ext_or_port_cookie_file`";
    Meant ExtORPortCookieAuthFileGroupReadable: Bool = "0",
        "`ext_or_port_cookie_file_group_readable`";
    Meant ServerTransportPlugin: Lines = "", "`server_transport_plugins`, of a bridge";
    Meant ServerTransportListenAddr: Lines = "", "`server_transport_listen`";
    Meant ServerTransportOptions: Lines = "", "`server_transport_options`";
    Meant ServerDNSResolvConfFile: Path = "", "`resolv_conf`";
    Meant ServerDNSAllowBrokenConfig: Bool = "1", "`server_dns_allow_broken_config` of `[dns]`";
    Meant ServerDNSAllowNonRFC953Hostnames: Bool = "0",
        "`server_dns_allow_non_rfc953_hostnames` of `[dns]`";
    Accepted ServerDNSDetectHijacking: Bool = "1", "answers of name servers are taken as they are";
    Meant ServerDNSRandomizeCase: Bool = "1", "`server_dns_randomize_case` of `[dns]`";
    Meant ServerDNSSearchDomains: Bool = "0", "`server_dns_search_domains` of `[dns]`";
    Accepted ServerDNSTestAddresses: Words =
        "www.google.com,www.mit.edu,www.yahoo.com,www.slashdot.org",
        "answers of name servers are taken as they are";
    Accepted CellStatistics: Bool = "0", "these statistics are not kept";
    Accepted ConnDirectionStatistics: Bool = "0", "these statistics are not kept";
    Accepted DirReqStatistics: Bool = "1", "these statistics are not kept";
    Accepted EntryStatistics: Bool = "0", "these statistics are not kept";
    Accepted ExitPortStatistics: Bool = "0", "these statistics are not kept";
    Accepted ExtraInfoStatistics: Bool = "1", "these statistics are not kept";
    Accepted HiddenServiceStatistics: Bool = "1", "these statistics are not kept";
    Accepted OverloadStatistics: Bool = "1", "these statistics are not kept";
    Accepted PaddingStatistics: Bool = "1", "these statistics are not kept";
    Meant MaxConsensusAgeForDiffs: Interval = "0 seconds",
        "`max_consensus_age_for_diffs` of `[directory]`";
    Meant MaxHSDirCacheBytes: Size = "0", "`max_hs_dir_cache_bytes` of `[directory]`";
    Meant MinUptimeHidServDirectoryV2: Interval = "96 hours",
        "`min_uptime_hid_serv_directory_v2` of `[authority.flags]`";
    Meant DoSCircuitCreationEnabled: AutoBool = "auto", "`[dos]`";
    Meant DoSCircuitCreationMinConnections: Number = "0", "`[dos]`";
    Meant DoSCircuitCreationRate: Number = "0", "`[dos]`";
    Meant DoSCircuitCreationBurst: Number = "0", "`[dos]`";
    Meant DoSCircuitCreationDefenseType: Signed = "0", "`[dos]`";
    Meant DoSCircuitCreationDefenseTimePeriod: Interval = "0", "`[dos]`";
    Meant DoSConnectionEnabled: AutoBool = "auto", "`[dos]`";
    Meant DoSConnectionMaxConcurrentCount: Number = "0", "`[dos]`";
    Meant DoSConnectionDefenseType: Signed = "0", "`[dos]`";
    Meant DoSConnectionConnectRate: Number = "0", "`[dos]`";
    Meant DoSConnectionConnectBurst: Number = "0", "`[dos]`";
    Meant DoSConnectionConnectDefenseTimePeriod: Interval = "0", "`[dos]`";
    Meant DoSStreamCreationEnabled: AutoBool = "auto", "`[dos]`";
    Meant DoSStreamCreationDefenseType: Signed = "0", "`[dos]`";
    Meant DoSStreamCreationRate: Number = "0", "`[dos]`";
    Meant DoSStreamCreationBurst: Number = "0", "`[dos]`";
    Meant DoSRefuseSingleHopClientRendezvous: AutoBool = "auto", "`[dos]`";
    Meant DoSBeginDirRateEnabled: AutoBool = "auto", "`[dos]`";
    Meant DoSBeginDirDefenseType: Signed = "0", "`[dos]`";
    Meant DoSBeginDirRate: Number = "0", "`[dos]`";
    Meant DoSBeginDirBurst: Number = "0", "`[dos]`";
    Accepted TestingServerConsensusDownloadInitialDelay: Interval = "0",
        "fetches have a schedule of their own";
    Accepted TestingServerDownloadInitialDelay: Interval = "0",
        "fetches have a schedule of their own";
    Accepted TestingMinTimeToReportBandwidth: Interval = "1 day",
        "a test network reports bandwidth at once";
    Meant TestingLinkCertLifetime: Interval = "2 days", "`testing_link_cert_lifetime` of `[keys]`";
    Meant TestingLinkKeySlop: Interval = "3 hours", "`testing_link_key_slop` of `[keys]`";
    Meant TestingSigningKeySlop: Interval = "1 day", "`testing_signing_key_slop` of `[keys]`";
    Meant TestingAuthKeyLifetime: Interval = "2 days", "`testing_auth_key_lifetime` of `[keys]`";
    Meant TestingAuthKeySlop: Interval = "3 hours", "`testing_auth_key_slop` of `[keys]`";
    Accepted AccelDir: Path = "", "what the processor has is used";
    Accepted AccelName: Text = "", "what the processor has is used";
}
