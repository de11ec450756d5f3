//! Options of clients: ports, paths, circuits, how the network is reached.

use crate::option::{Fate, Kind, OptionInfo};

table! {
    Meant SocksPort: Lines = "",
        "`socks`; 0 opens none; a relay where it is written is a client, too";
    Meant __SocksPort: Lines = "", "as SocksPort, and not written to a file by controllers";
    Meant HTTPTunnelPort: Lines = "", "`http_connect`";
    Meant __HTTPTunnelPort: Lines = "", "as HTTPTunnelPort";
    Meant DNSPort: Lines = "", "`dns`";
    Meant __DNSPort: Lines = "", "as DNSPort";
    Meant TransPort: Lines = "", "`redirect`, or `tproxy` where TransProxyType says so";
    Meant __TransPort: Lines = "", "as TransPort";
    Meant TransProxyType: Text = "default",
        "whether TransPort is `redirect` (default) or `tproxy` (TPROXY)";
    Refused NATDPort: Lines = "", "ipfw's protocol is of other systems";
    Refused __NATDPort: Lines = "", "ipfw's protocol is of other systems";
    Meant AutomapHostsOnResolve: Bool = "0", "`automap`";
    Meant AutomapHostsSuffixes: Words = ".onion,.exit", "`automap_suffixes`";
    Meant VirtualAddrNetworkIPv4: Text = "127.192.0.0/10", "`virtual_ipv4`";
    Meant VirtualAddrNetworkIPv6: Text = "[FE80::]/10", "`virtual_ipv6`";
    Meant EnforceDistinctSubnets: Bool = "1", "`distinct_subnets`; off in test networks";
    Meant EntryNodes: Routers = "", "`entry` of `[paths]`";
    Meant MiddleNodes: Routers = "", "`middle` of `[paths]`";
    Meant ExitNodes: Routers = "", "`exit` of `[paths]`";
    Meant ExcludeNodes: Routers = "", "`exclude` of `[paths]`";
    Meant ExcludeExitNodes: Routers = "", "`exclude_exit` of `[paths]`";
    Meant StrictNodes: Bool = "0", "`strict` of `[paths]`";
    Meant GeoIPExcludeUnknown: AutoBool = "auto", "`exclude_unknown` of `[paths]`";
    Meant GeoIPFile: Path = "/usr/share/tor/geoip", "`geoip` of `[paths]`";
    Meant GeoIPv6File: Path = "/usr/share/tor/geoip6", "`geoip6` of `[paths]`";
    Meant UseEntryGuards: Bool = "1", "`unguarded` of `[paths]` where it is 0";
    Meant NumEntryGuards: Number = "0", "`used` of `[guards]`";
    Meant NumPrimaryGuards: Number = "0", "`primary` of `[guards]`";
    Meant NumDirectoryGuards: Number = "0", "`directory` of `[guards]`";
    Meant GuardLifetime: Interval = "0 minutes", "`lifetime` of `[guards]`, in seconds";
    Meant ClientOnionAuthDir: Path = "", "`onion_auth_dir`";
    Meant ConnectionPadding: AutoBool = "auto", "`channel_padding`: off where it is 0";
    Meant ReducedConnectionPadding: Bool = "0", "`channel_padding`: reduced where it is 1";
    Meant CircuitPadding: Bool = "1", "`circuit_padding`: off where it is 0";
    Meant ReducedCircuitPadding: Bool = "0", "`circuit_padding`: reduced where it is 1";
    Meant VanguardsLiteEnabled: AutoBool = "auto",
        "`vanguards`: lite where it is 1, off where it is 0";
    Meant HSLayer2Nodes: Routers = "", "`layer2` of `[paths]`";
    Meant HSLayer3Nodes: Routers = "", "`layer3` of `[paths]`";
    Meant ClientRejectInternalAddresses: Bool = "1", "`client_reject_internal_addresses`";
    Meant ClientDNSRejectInternalAddresses: Bool = "1", "`client_dns_reject_internal_addresses`";
    Meant ClientOnly: Bool = "0", "1: a client, whatever ORPort says";
    Meant ClientUseIPv4: Bool = "1", "`ipv4` of `[reach]`";
    Meant ClientUseIPv6: Bool = "1", "`ipv6` of `[reach]`";
    Meant ClientPreferIPv6ORPort: AutoBool = "auto", "`prefer_ipv6` of `[reach]`";
    Meant ClientPreferIPv6DirPort: AutoBool = "auto", "nothing, as in `tor`";
    Meant SocksPolicy: Lines = "", "`socks_policy`";
    Meant UnixSocksGroupWritable: Bool = "0", "unix sockets of SOCKS may be used by their group";
    Meant SafeSocks: Bool = "0", "`safe_socks`";
    Meant TestSocks: Bool = "0", "`test_socks`";
    Meant WarnPlaintextPorts: Words = "23,109,110,143", "`warn_plaintext_ports`";
    Meant RejectPlaintextPorts: Words = "", "`reject_plaintext_ports`";
    Accepted AllowNonRFC953Hostnames: Bool = "0", "names are checked at the exit";
    Meant MapAddress: Lines = "", "`map_address`";
    Refused TrackHostExits: Words = "", "exits are not kept by host";
    Accepted TrackHostExitsExpire: Interval = "30 minutes", "exits are not kept by host";
    Meant MaxCircuitDirtiness: Interval = "10 minutes", "`max_circuit_dirtiness`, in seconds";
    Accepted NewCircuitPeriod: Interval = "30 seconds",
        "spare circuits are made when they are needed";
    Meant CircuitBuildTimeout: Interval = "0", "`build_timeout` of `[circuits]`, in seconds";
    Meant LearnCircuitBuildTimeout: Bool = "1", "`learn_build_timeout` of `[circuits]`";
    Meant CircuitStreamTimeout: Interval = "0", "`stream_timeout` of `[circuits]`, in seconds";
    Meant CircuitsAvailableTimeout: Interval = "0",
        "`available_timeout` of `[circuits]`, in seconds";
    Meant SocksTimeout: Interval = "2 minutes", "`request_timeout` of `[circuits]`, in seconds";
    Meant MaxClientCircuitsPending: Number = "32", "`pending_max` of `[circuits]`";
    Meant LongLivedPorts: Words = "21,22,706,1863,5050,5190,5222,5223,6523,6667,6697,8300",
        "`long_lived_ports` of `[circuits]`";
    Accepted ConfluxEnabled: AutoBool = "auto", "there is no conflux";
    Accepted ConfluxClientUX: Text = "throughput", "there is no conflux";
    Accepted __AlwaysCongestionControl: Bool = "0", "congestion control is always on";
    Meant PathsNeededToBuildCircuits: Float = "-1", "`paths_needed` of `[circuits]`";
    Meant PathBiasCircThreshold: Signed = "-1", "`circuits_min` of `[path_bias]`";
    Meant PathBiasDropGuards: AutoBool = "0", "`drop_guards` of `[path_bias]`";
    Meant PathBiasExtremeRate: Float = "-1", "`extreme` of `[path_bias]`";
    Meant PathBiasExtremeUseRate: Float = "-1", "`extreme_use` of `[path_bias]`";
    Meant PathBiasNoticeRate: Float = "-1", "`notice` of `[path_bias]`";
    Meant PathBiasNoticeUseRate: Float = "-1", "`notice_use` of `[path_bias]`";
    Meant PathBiasScaleThreshold: Signed = "-1", "`scale_circuits` of `[path_bias]`";
    Meant PathBiasScaleUseThreshold: Signed = "-1", "`scale_uses` of `[path_bias]`";
    Meant PathBiasUseThreshold: Signed = "-1", "`uses_min` of `[path_bias]`";
    Meant PathBiasWarnRate: Float = "-1", "`warn` of `[path_bias]`";
    Accepted FetchDirInfoEarly: Bool = "0", "documents are fetched when they are due";
    Accepted FetchDirInfoExtraEarly: Bool = "0", "documents are fetched when they are due";
    Meant FetchHidServDescriptors: Bool = "1", "`onion_descriptors` of `[fetches]`";
    Meant FetchServerDescriptors: Bool = "1", "`network` of `[fetches]`";
    Accepted FetchUselessDescriptors: Bool = "0", "a client fetches what it needs";
    Accepted DownloadExtraInfo: Bool = "0", "extra-info documents are not fetched";
    Accepted UseMicrodescriptors: AutoBool = "auto", "clients use microdescriptors";
    Accepted UseGuardFraction: AutoBool = "auto", "the network says it";
    Accepted ClientBootstrapConsensusAuthorityDownloadInitialDelay: Interval = "6",
        "first fetches have a schedule of their own";
    Accepted ClientBootstrapConsensusAuthorityOnlyDownloadInitialDelay: Interval = "0",
        "first fetches have a schedule of their own";
    Accepted ClientBootstrapConsensusFallbackDownloadInitialDelay: Interval = "0",
        "first fetches have a schedule of their own";
    Accepted ClientBootstrapConsensusMaxInProgressTries: Number = "3",
        "first fetches have a schedule of their own";
    Accepted TestingClientConsensusDownloadInitialDelay: Interval = "0",
        "fetches have a schedule of their own";
    Accepted TestingClientDownloadInitialDelay: Interval = "0",
        "fetches have a schedule of their own";
    Accepted TestingClientMaxIntervalWithoutRequest: Interval = "10 minutes",
        "fetches have a schedule of their own";
    Accepted TestingBridgeBootstrapDownloadInitialDelay: Interval = "0",
        "bridges have a schedule of their own";
    Accepted TestingBridgeDownloadInitialDelay: Interval = "10800",
        "bridges have a schedule of their own";
    Accepted TestingDirConnectionMaxStall: Interval = "5 minutes",
        "exchanges have a time-out of their own";
    Meant FascistFirewall: Bool = "0", "`addresses` of `[reach]`: port 443, or FirewallPorts";
    Meant FirewallPorts: Words = "", "the ports of FascistFirewall";
    Meant ReachableAddresses: Lines = "", "`addresses` of `[reach]`";
    Meant ReachableDirAddresses: Lines = "", "nothing, as in `tor`";
    Meant ReachableORAddresses: Lines = "", "as ReachableAddresses, and before it";
    Accepted HTTPProxy: Text = "", "directories are asked over links";
    Accepted HTTPProxyAuthenticator: Text = "", "directories are asked over links";
    Meant HTTPSProxy: Text = "", "`outbound_proxy`, http://";
    Meant HTTPSProxyAuthenticator: Text = "", "the name and password in it";
    Meant Socks4Proxy: Text = "", "`outbound_proxy`, socks4://";
    Meant Socks5Proxy: Text = "", "`outbound_proxy`, socks5://";
    Meant Socks5ProxyUsername: Text = "", "the name in it";
    Meant Socks5ProxyPassword: Text = "", "the password in it";
    Meant TCPProxy: Text = "", "`outbound_proxy`, haproxy://";
    Meant UseBridges: Bool = "0", "`bridges`, if it is 1";
    Meant Bridge: Lines = "", "`bridges`, with UseBridges";
    Meant ClientTransportPlugin: Lines = "", "`transport_plugins`";
    Accepted UpdateBridgesFromAuthority: Bool = "0",
        "bridges are asked for their own descriptors";
    Accepted ReconfigDropsBridgeDescs: Bool = "0", "bridges are asked again when they change";
    Refused AlternateBridgeAuthority: Lines = "", "there are no bridge authorities";
    Meant NodeFamily: Lines = "", "`families` of `[paths]`";
    Meant DisableNetwork: Bool = "0", "`disable_network`; for a client";
    Meant DormantClientTimeout: Interval = "24 hours", "`after` of `[dormancy]`, in seconds";
    Meant DormantTimeoutDisabledByIdleStreams: Bool = "1", "`idle_streams` of `[dormancy]`";
    Meant DormantTimeoutEnabled: Bool = "1", "`enabled` of `[dormancy]`";
    Meant DormantOnFirstStartup: Bool = "0", "`at_first_start` of `[dormancy]`";
    Meant DormantCanceledByStartup: Bool = "0", "`canceled_by_start` of `[dormancy]`";
    Meant __DisablePredictedCircuits: Bool = "0", "`circuits_ahead = false`";
    Meant __LeaveStreamsUnattached: Bool = "0", "`streams_unattached`";
    Refused __AllDirActionsPrivate: Bool = "0", "directories are asked over circuits of one hop";
    Accepted TestingEnableConnBwEvent: Bool = "0", "the event is not there";
    Accepted TestingEnableCellStatsEvent: Bool = "0", "the event is not there";
}
