//! Options of clients: ports, paths, circuits, how the network is reached.

use crate::option::{Fate, Kind, OptionInfo};

table! {
    Meant SocksPort: Lines = "", "`socks`; 0 opens none";
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
    Refused AutomapHostsSuffixes: Words = ".onion,.exit", "names of .onion alone are mapped";
    Refused VirtualAddrNetworkIPv4: Text = "127.192.0.0/10",
        "addresses that stand for names are of 127.192.0.0/10";
    Refused VirtualAddrNetworkIPv6: Text = "[FE80::]/10",
        "addresses that stand for names are of [FE80::]/10";
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
    Refused NumEntryGuards: Number = "0", "as many guards as the network says";
    Refused NumPrimaryGuards: Number = "0", "as many guards as the network says";
    Refused NumDirectoryGuards: Number = "0", "as many guards as the network says";
    Refused GuardLifetime: Interval = "0 minutes",
        "guards are kept for as long as the network says";
    Meant ClientOnionAuthDir: Path = "", "`onion_auth_dir`";
    Meant ConnectionPadding: AutoBool = "auto", "`channel_padding`: off where it is 0";
    Meant ReducedConnectionPadding: Bool = "0", "`channel_padding`: reduced where it is 1";
    Meant CircuitPadding: Bool = "1", "`circuit_padding`: off where it is 0";
    Meant ReducedCircuitPadding: Bool = "0", "`circuit_padding`: reduced where it is 1";
    Meant VanguardsLiteEnabled: AutoBool = "auto",
        "`vanguards`: lite where it is 1, off where it is 0";
    Refused HSLayer2Nodes: Routers = "", "second hops are chosen by `vanguards`, not by hand";
    Refused HSLayer3Nodes: Routers = "", "third hops are chosen by `vanguards`, not by hand";
    Meant ClientRejectInternalAddresses: Bool = "1", "`client_reject_internal_addresses`";
    Meant ClientDNSRejectInternalAddresses: Bool = "1", "`client_dns_reject_internal_addresses`";
    Meant ClientOnly: Bool = "0", "1: a client, whatever ORPort says";
    Refused ClientUseIPv4: Bool = "1", "links are made over IPv4";
    Accepted ClientUseIPv6: Bool = "1", "links are made over the address that suits";
    Accepted ClientPreferIPv6ORPort: AutoBool = "auto",
        "links are made over the address that suits";
    Accepted ClientPreferIPv6DirPort: AutoBool = "auto",
        "directories are asked over onion-routing links";
    Refused SocksPolicy: Lines = "",
        "who may use a port is said by its address or by the rights of its socket";
    Meant UnixSocksGroupWritable: Bool = "0", "unix sockets of SOCKS may be used by their group";
    Meant SafeSocks: Bool = "0", "`safe_socks`";
    Accepted TestSocks: Bool = "0", "no note is made of each request";
    Meant WarnPlaintextPorts: Words = "23,109,110,143", "`warn_plaintext_ports`";
    Meant RejectPlaintextPorts: Words = "", "`reject_plaintext_ports`";
    Accepted AllowNonRFC953Hostnames: Bool = "0", "names are checked at the exit";
    Meant MapAddress: Lines = "", "`map_address`";
    Refused TrackHostExits: Words = "", "exits are not kept by host";
    Accepted TrackHostExitsExpire: Interval = "30 minutes", "exits are not kept by host";
    Meant MaxCircuitDirtiness: Interval = "10 minutes", "`max_circuit_dirtiness`, in seconds";
    Accepted NewCircuitPeriod: Interval = "30 seconds",
        "spare circuits are made when they are needed";
    Accepted CircuitBuildTimeout: Interval = "0", "the time-out is learnt";
    Accepted LearnCircuitBuildTimeout: Bool = "1", "the time-out is learnt";
    Accepted CircuitStreamTimeout: Interval = "0", "the time-out is that of the network";
    Accepted CircuitsAvailableTimeout: Interval = "0",
        "spare circuits are kept as the network says";
    Accepted SocksTimeout: Interval = "2 minutes", "streams wait as long as the default says";
    Accepted MaxClientCircuitsPending: Number = "32",
        "circuits in the making are bounded otherwise";
    Accepted LongLivedPorts: Words = "21,22,706,1863,5050,5190,5222,5223,6523,6667,6697,8300",
        "long-lived streams take the circuits of all";
    Accepted ConfluxEnabled: AutoBool = "auto", "there is no conflux";
    Accepted ConfluxClientUX: Text = "throughput", "there is no conflux";
    Accepted __AlwaysCongestionControl: Bool = "0", "congestion control is always on";
    Accepted PathsNeededToBuildCircuits: Float = "-1", "the network says it";
    Accepted PathBiasCircThreshold: Signed = "-1", "guards are not judged by rates of circuits";
    Accepted PathBiasDropGuards: AutoBool = "0", "guards are not judged by rates of circuits";
    Accepted PathBiasExtremeRate: Float = "-1", "guards are not judged by rates of circuits";
    Accepted PathBiasExtremeUseRate: Float = "-1", "guards are not judged by rates of circuits";
    Accepted PathBiasNoticeRate: Float = "-1", "guards are not judged by rates of circuits";
    Accepted PathBiasNoticeUseRate: Float = "-1", "guards are not judged by rates of circuits";
    Accepted PathBiasScaleThreshold: Signed = "-1", "guards are not judged by rates of circuits";
    Accepted PathBiasScaleUseThreshold: Signed = "-1", "guards are not judged by rates of circuits";
    Accepted PathBiasUseThreshold: Signed = "-1", "guards are not judged by rates of circuits";
    Accepted PathBiasWarnRate: Float = "-1", "guards are not judged by rates of circuits";
    Accepted FetchDirInfoEarly: Bool = "0", "documents are fetched when they are due";
    Accepted FetchDirInfoExtraEarly: Bool = "0", "documents are fetched when they are due";
    Refused FetchHidServDescriptors: Bool = "1", "descriptors of onion services are fetched";
    Refused FetchServerDescriptors: Bool = "1", "the documents of the network are fetched";
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
    Refused FascistFirewall: Bool = "0", "links are made to any port";
    Accepted FirewallPorts: Words = "", "of no effect without FascistFirewall, which is refused";
    Refused ReachableAddresses: Lines = "", "links are made to any address";
    Refused ReachableDirAddresses: Lines = "", "links are made to any address";
    Refused ReachableORAddresses: Lines = "", "links are made to any address";
    Accepted HTTPProxy: Text = "", "directories are asked over links";
    Accepted HTTPProxyAuthenticator: Text = "", "directories are asked over links";
    Meant HTTPSProxy: Text = "", "`outbound_proxy`, http://";
    Meant HTTPSProxyAuthenticator: Text = "", "the name and password in it";
    Meant Socks4Proxy: Text = "", "`outbound_proxy`, socks4://";
    Meant Socks5Proxy: Text = "", "`outbound_proxy`, socks5://";
    Meant Socks5ProxyUsername: Text = "", "the name in it";
    Meant Socks5ProxyPassword: Text = "", "the password in it";
    Refused TCPProxy: Text = "", "links are made without a proxy of that protocol";
    Meant UseBridges: Bool = "0", "`bridges`, if it is 1";
    Meant Bridge: Lines = "", "`bridges`, with UseBridges";
    Meant ClientTransportPlugin: Lines = "", "`transport_plugins`";
    Accepted UpdateBridgesFromAuthority: Bool = "0",
        "bridges are asked for their own descriptors";
    Accepted ReconfigDropsBridgeDescs: Bool = "0", "bridges are asked again when they change";
    Refused AlternateBridgeAuthority: Lines = "", "there are no bridge authorities";
    Refused NodeFamily: Lines = "", "families are those that relays declare";
    Meant DisableNetwork: Bool = "0", "`disable_network`; for a client";
    Accepted DormantClientTimeout: Interval = "24 hours", "a client does not fall asleep";
    Accepted DormantTimeoutDisabledByIdleStreams: Bool = "1", "a client does not fall asleep";
    Accepted DormantTimeoutEnabled: Bool = "1", "a client does not fall asleep";
    Refused DormantOnFirstStartup: Bool = "0", "a client does not fall asleep";
    Accepted DormantCanceledByStartup: Bool = "0", "a client does not fall asleep";
    Meant __DisablePredictedCircuits: Bool = "0", "`circuits_ahead = false`";
    Meant __LeaveStreamsUnattached: Bool = "0", "`streams_unattached`";
    Refused __AllDirActionsPrivate: Bool = "0", "directories are asked over circuits of one hop";
    Accepted TestingEnableConnBwEvent: Bool = "0", "the event is not there";
    Accepted TestingEnableCellStatsEvent: Bool = "0", "the event is not there";
}
