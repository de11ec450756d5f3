//! All options of `tor` 0.4.9.15 (0.4.9.11 has five fewer), what becomes of each, and the names
//! that some of them had.
//!
//! Types and defaults are those of `GETINFO config/names` and `--dump-config full`.

/// Options, one a line: what becomes of it, its name, its type, its default, and why.
macro_rules! table {
    ($($fate:ident $name:ident: $kind:ident = $default:literal, $why:literal;)*) => {
        pub(super) const TABLE: &[OptionInfo] = &[
            $(OptionInfo {
                name: stringify!($name),
                kind: Kind::$kind,
                default: $default,
                fate: Fate::$fate,
                why: $why,
            }),*
        ];
    };
}

mod authority;
mod client;
mod control;
mod network;
mod onion;
mod process;
mod relay;

use crate::option::OptionInfo;

/// The tables, by what they are about.
pub(crate) const TABLES: [&[OptionInfo]; 7] = [
    client::TABLE,
    onion::TABLE,
    control::TABLE,
    process::TABLE,
    network::TABLE,
    relay::TABLE,
    authority::TABLE,
];

/// Other spellings, which are read without a word.
pub(crate) const SPELLINGS: [(&str, &str); 24] = [
    ("AuthDirBadExitCC", "AuthDirBadExitCCs"),
    ("AuthDirInvalidCC", "AuthDirInvalidCCs"),
    ("AuthDirMiddleOnlyCC", "AuthDirMiddleOnlyCCs"),
    ("AuthDirRejectCC", "AuthDirRejectCCs"),
    ("AutomapHostSuffixes", "AutomapHostsSuffixes"),
    ("BandwidthBurstBytes", "BandwidthBurst"),
    ("BandwidthRateBytes", "BandwidthRate"),
    ("BridgeAuthoritativeDirectory", "BridgeAuthoritativeDir"),
    ("DirBindAddress", "DirListenAddress"),
    ("DirServer", "DirAuthority"),
    ("EntryNode", "EntryNodes"),
    ("ExcludeNode", "ExcludeNodes"),
    ("FirewallPort", "FirewallPorts"),
    ("LongLivedPort", "LongLivedPorts"),
    ("MaxMemInCellQueues", "MaxMemInQueues"),
    ("NumEntryNodes", "NumEntryGuards"),
    ("NumHelperNodes", "NumEntryGuards"),
    ("ORBindAddress", "ORListenAddress"),
    ("PreferTunnelledDirConns", "PreferTunneledDirConns"),
    (
        "ServerDNSAllowBrokenResolvConf",
        "ServerDNSAllowBrokenConfig",
    ),
    ("SocksBindAddress", "SocksListenAddress"),
    ("StrictNode", "StrictNodes"),
    ("UseEntryNodes", "UseEntryGuards"),
    ("UseHelperNodes", "UseEntryGuards"),
];

/// Names that options had; it is told what they are called now.
pub(crate) const RENAMED: [(&str, &str); 5] = [
    ("MaxConn", "ConnLimit"),
    ("ResolvConf", "ServerDNSResolvConfFile"),
    ("SearchDomains", "ServerDNSSearchDomains"),
    (
        "TestingBridgeBootstrapDownloadSchedule",
        "TestingBridgeBootstrapDownloadInitialDelay",
    ),
    ("VirtualAddrNetwork", "VirtualAddrNetworkIPv4"),
];

/// Options that there were once: `tor` passes over them with a warning.
pub(crate) const OBSOLETE: &[&str] = &[
    "AllowDotExit",
    "AllowInvalidNodes",
    "AllowSingleHopCircuits",
    "AllowSingleHopExits",
    "AuthDirBadDir",
    "AuthDirBadDirCCs",
    "AuthDirListBadDirs",
    "AuthDirMaxServersPerAuthAddr",
    "AuthDirRejectUnlisted",
    "ClientAutoIPv6ORPort",
    "CloseHSClientCircuitsImmediatelyOnTimeout",
    "CloseHSServiceRendCircuitsImmediatelyOnTimeout",
    "ControlListenAddress",
    "DirListenAddress",
    "DisableIOCP",
    "DisableV2DirectoryInfo_",
    "DNSListenAddress",
    "DynamicDHGroups",
    "ExcludeSingleHopRelays",
    "FallbackNetworkstatusFile",
    "FastFirstHopPK",
    "FetchV2Networkstatus",
    "Group",
    "HiddenServiceAuthorizeClient",
    "HidServAuth",
    "HidServDirectoryV2",
    "NamingAuthoritativeDirectory",
    "NATDListenAddress",
    "OptimisticData",
    "ORListenAddress",
    "PortForwarding",
    "PortForwardingHelper",
    "PreferTunneledDirConns",
    "RecommendedPackages",
    "RunTesting",
    "SchedulerHighWaterMark__",
    "SchedulerLowWaterMark__",
    "SchedulerMaxFlushCells__",
    "SocksListenAddress",
    "StrictEntryNodes",
    "StrictExitNodes",
    "Support022HiddenServices",
    "TestingCertMaxDownloadTries",
    "TestingConsensusMaxDownloadTries",
    "TestingDescriptorMaxDownloadTries",
    "TestingEstimatedDescriptorPropagationTime",
    "TestingMicrodescMaxDownloadTries",
    "TLSECGroup",
    "Tor2webMode",
    "Tor2webRendezvousPoints",
    "TransListenAddress",
    "TunnelDirConns",
    "UseNTorHandshake",
    "UserspaceIOCPBuffers",
    "V1AuthoritativeDirectory",
    "V2AuthoritativeDirectory",
    "VoteOnHidServDirectoriesV2",
    "WarnUnsafeSocks",
];
