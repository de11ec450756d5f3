//! Configuration of nodes: TOML files, read into checked types.
//!
//! A wrong line names the file, the line, and what was expected. Unknown keys are errors, so that
//! a misspelt one is not silently ignored. Relative paths are meant from the folder of the file
//! that they stand in. What the roles get is `RelayConfig`, `AuthorityConfig` or `ClientConfig`;
//! the raw tables (`config::node`, `config::client`) also write the files of a test network.

mod access;
mod bridges;
pub mod client;
pub mod control;
pub mod listener;
mod memory;
pub mod metrics;
mod network_source;
pub mod node;
pub mod onion;
pub mod overrides;
pub mod paths;
pub mod source;
pub mod written;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cepa_client::automap::AutomapRules;
use cepa_client::by_hand::Manners;
use cepa_client::virtual_nets::VirtualNets;
use cepa_client::{Overrides, PaddingLevel, Rules, VanguardMode};
use cepa_limits::DosOptions;
use cepa_netdoc::policy::{AddrPolicy, is_internal};
use cepa_netdoc::protover::Protocols;
use cepa_pt::{BridgeLine, TransportPlugin};
use cepa_relay::{AccountingConfig, Choices, ExitOptions, KeyTimes};
use serde::{Deserialize, Serialize};

pub use self::control::ControlConfig;
pub use self::listener::{Listener, UnixListener};
pub use self::metrics::MetricsPort;
pub use self::network_source::NetworkSource;
pub use self::node::{BridgeConfig, DirectoryOptions, ExtOrConfig};
pub use self::onion::OnionServiceConfig;
pub use self::paths::GeoIpFiles;
use crate::dns::DnsOptions;
use crate::error::Failure;
use crate::proxy::Proxy;
use written::Written;

/// What a relay without a bound says of its bandwidth, in bytes a second: `tor`'s default.
pub const BANDWIDTH_DEFAULT: u64 = 1 << 30;

/// A bound on traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bandwidth {
    /// Bytes a second, on average.
    pub rate: u64,
    /// Bytes at once.
    pub burst: u64,
}

/// Whether other machines may reach this one at an address.
pub(crate) fn is_public(address: IpAddr) -> bool {
    let is_broadcast = address == IpAddr::from([255; 4]);
    !(is_internal(address) || address.is_multicast() || is_broadcast)
}

/// A relay, or the relay side of an authority.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// 1 to 19 letters and digits.
    pub nickname: String,
    /// How the operator can be reached.
    pub contact: Option<String>,
    /// The address in the descriptor; without it the one that authorities see.
    pub address: Option<IpAddr>,
    /// An IPv6 address for the same `or_port`, if it has one.
    pub ipv6_address: Option<Ipv6Addr>,
    /// The port of the onion-routing protocol.
    pub or_port: u16,
    /// The port of the directory over plain HTTP; authorities have one, relays need none.
    pub dir_port: Option<u16>,
    /// The address to listen on: `address`, or any without it, unless the file says otherwise.
    pub listen: IpAddr,
    /// Whether to listen over IPv6, too.
    pub listens_v6: bool,
    /// Keys and documents.
    pub data_dir: PathBuf,
    /// The network to be part of.
    pub network: NetworkSource,
    /// What the operator says of the streams that leave here.
    pub exit: ExitOptions,
    /// Whether the addresses of this machine's interfaces are refused to them.
    pub reject_local_interfaces: bool,
    /// Relays of the same operator: `$` and 40 hexadecimal digits, or nicknames.
    pub family: Vec<String>,
    /// Files of family keys, as `tor --keygen-family` makes them.
    pub family_keys: Vec<PathBuf>,
    /// The bound on all traffic, in each direction; none: as much as there is.
    pub bandwidth: Option<Bandwidth>,
    /// The bound on traffic of links with other relays and with clients.
    pub relay_bandwidth: Option<Bandwidth>,
    /// The most that the descriptor says of the rate, in bytes a second.
    pub max_advertised_bandwidth: Option<u64>,
    /// How much it may carry in a day, a week or a month.
    pub accounting: Option<AccountingConfig>,
    /// `[dos]`: what is refused to who asks for too much, where not as the network wants.
    pub dos: DosOptions,
    /// Threads that carry cells.
    pub workers: usize,
    /// Bytes of memory that may be held (`MaxMemInQueues`).
    pub max_memory: usize,
    /// What it is as a bridge; none: it is none.
    pub bridge: Option<BridgeConfig>,
    /// Where transports hand clients on, if they may.
    pub ext_or: Option<ExtOrConfig>,
    /// The files that say which country an address is in.
    pub geoip: GeoIpFiles,
    /// What is served of the directory, and to whom.
    pub directory: DirectoryOptions,
    /// How long keys and certificates last.
    pub key_times: KeyTimes,
    /// Whether the master key is never made or read here.
    pub is_master_offline: bool,
    /// What the operator decides in place of the network.
    pub choices: Choices,
    /// Where streams leave from, to addresses of each one's family.
    pub exit_from: Vec<IpAddr>,
    /// How names are looked up for them.
    pub dns: DnsOptions,
    /// Whether private addresses and short intervals are fine.
    pub testing: bool,
    /// Where to serve metrics, and to whom.
    pub metrics: Option<MetricsPort>,
    /// The link protocols that are spoken; not all of them in tests only.
    pub link_versions: &'static [u16],
    /// The subprotocols that are promised; not all of them in tests only.
    pub protocols: Protocols,
    /// Who looks names up for streams that leave here; none: the system's servers.
    pub name_servers: Vec<SocketAddr>,
    /// The file that names them where there are none (`ServerDNSResolvConfFile`); none: the
    /// system's.
    pub resolv_conf: Option<PathBuf>,
    /// Whether authorities are brought its descriptor (`PublishServerDescriptor`).
    pub publishes_descriptor: bool,
    /// How long a day is for keys that are rotated; other than a day in tests only.
    pub key_day: Duration,
    /// Where controllers are listened to, and what they may do.
    pub control: Option<ControlConfig>,
    /// The log: how much of it, and where it goes.
    pub log: LogConfig,
    /// The file's own words.
    pub written: Written,
}

impl RelayConfig {
    /// The source address of outgoing links; none: as the system likes, as where only transports of
    /// this machine reach the port.
    pub fn source(&self) -> Option<IpAddr> {
        let is_outside = |ip: &IpAddr| self.testing || !ip.is_loopback();
        let listen = Some(self.listen).filter(|ip| !ip.is_unspecified());
        listen.filter(|ip| self.bridge.is_none() || is_outside(ip))
    }

    /// The address at which the node listens for channels.
    pub fn or_listen(&self) -> SocketAddr {
        SocketAddr::new(self.listen, self.or_port)
    }

    /// Where it listens over IPv6 besides: at its address of that, or at any where it listens at
    /// any of IPv4; and whether it must, as a machine may have no IPv6.
    pub fn or_listen_v6(&self) -> Option<(SocketAddr, bool)> {
        let is_any = self.listen.is_unspecified();
        let is_hidden = self.listen.is_loopback();
        let own = self
            .ipv6_address
            .filter(|ip| !is_hidden || ip.is_loopback());
        let ip = match own {
            Some(own) if !is_any => own,
            None if !is_any => return None,
            _ => Ipv6Addr::UNSPECIFIED,
        };
        let is_wanted = self.listens_v6 && self.listen.is_ipv4();
        is_wanted.then(|| (SocketAddr::new(ip.into(), self.or_port), own.is_some()))
    }

    /// Where to listen for directory requests, if there is a directory port.
    pub fn dir_listen(&self) -> Option<SocketAddr> {
        self.dir_port.map(|port| SocketAddr::new(self.listen, port))
    }
}

/// What applications are kept from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caution {
    /// To ask a SOCKS port for an address, which they have looked up by themselves (`SafeSocks`).
    pub safe_socks: bool,
    /// Ports of which the log warns (`WarnPlaintextPorts`).
    pub warned_ports: Vec<u16>,
    /// Ports to which nobody is connected (`RejectPlaintextPorts`).
    pub rejected_ports: Vec<u16>,
    /// Whether each request is told, and whether it was for a name (`TestSocks`).
    pub test_socks: bool,
    /// Who may use the ports of applications, if not everybody (`SocksPolicy`).
    pub policy: Option<AddrPolicy>,
}

/// A directory authority: a relay that also votes.
#[derive(Debug, Clone)]
pub struct AuthorityConfig {
    /// Its relay side; `dir_port` is always there.
    pub relay: RelayConfig,
    /// Seconds from one consensus to the next; divides a day.
    pub voting_interval_secs: u32,
    /// Seconds for votes to arrive (dir-spec 1.4, VoteSeconds).
    pub vote_delay_secs: u32,
    /// Seconds for signatures to arrive (DistSeconds).
    pub dist_delay_secs: u32,
    /// Intervals for which a consensus is valid (`V3AuthNIntervalsValid`).
    pub intervals_valid: u32,
    /// Consensus parameters to vote for.
    pub params: BTreeMap<String, i32>,
    /// Testing: take the first vote as soon as so many relays have published.
    pub first_vote_after_relays: Option<usize>,
    /// Versions of `tor` to recommend to clients and relays, joined by commas.
    pub recommended_versions: Option<String>,
    /// The highest consensus method to vote for, if the file says it.
    pub consensus_method_max: Option<u32>,
    /// Relays that may be Running on one address, if the file says it.
    pub auth_dir_max_servers_per_addr: Option<usize>,
    /// Whether relays are tested over IPv6, too.
    pub tests_ipv6: bool,
    /// What is said of single relays.
    pub rules: cepa_authority::rules::Rules,
    /// The bandwidth file of a scanner.
    pub bandwidth_file: Option<PathBuf>,
    /// The file of GuardFraction.
    pub guardfraction_file: Option<PathBuf>,
    /// Where every consensus and vote is kept.
    pub archive_dir: Option<PathBuf>,
    /// Seconds from one round to the next while no consensus is in force.
    pub initial_interval_secs: u32,
    /// What is good enough for a flag.
    pub flag_terms: cepa_authority::FlagTerms,
    /// What it leaves out, and what is decided by hand.
    pub(crate) practice: node::Practice,
}

/// A client.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The ports for SOCKS.
    pub socks: Vec<Listener>,
    /// The ports for HTTP CONNECT.
    pub http_connect: Vec<Listener>,
    /// Unix sockets for SOCKS.
    pub socks_unix: Vec<UnixListener>,
    /// Unix sockets for HTTP CONNECT.
    pub http_connect_unix: Vec<UnixListener>,
    /// The ports that answer DNS questions, over UDP.
    pub dns: Vec<Listener>,
    /// The ports to which the firewall leads connections by REDIRECT.
    pub redirect: Vec<Listener>,
    /// The ports to which the firewall leads connections by TPROXY.
    pub tproxy: Vec<Listener>,
    /// Which names that are looked up get an address that stands for them, if any do.
    pub automap: Option<AutomapRules>,
    /// Of which networks addresses are that stand for names.
    pub virtual_nets: VirtualNets,
    /// Guards and documents.
    pub data_dir: PathBuf,
    /// The network to join.
    pub network: NetworkSource,
    /// The rules on paths, without countries.
    pub rules: Rules,
    /// The files that say which country an address is in.
    pub geoip: GeoIpFiles,
    /// Whether no two relays of one /16 share a path.
    pub distinct_subnets: bool,
    /// What applications are kept from.
    pub caution: Caution,
    /// The onion services that it hosts.
    pub onion_services: Vec<OnionServiceConfig>,
    /// A folder of `*.auth_private` files: keys of ours for onion services that ask for one.
    pub onion_auth_dir: Option<PathBuf>,
    /// How much padding channels are to have.
    pub padding: PaddingLevel,
    /// Which vanguards circuits for onion services have; none: as the network wants.
    pub vanguards: Option<VanguardMode>,
    /// Whether circuits to onion services are.
    pub circuit_padding: PaddingLevel,
    /// Whether SOCKS 5 replies tell why an onion service failed (`ExtendedErrors`, F0 to F7).
    pub onion_errors: bool,
    /// The address that links come from, to relays of its family (`OutboundBindAddressOR`); none:
    /// as the system chooses.
    pub outbound_bind_address: Option<IpAddr>,
    /// The proxy through which links go (`Socks4Proxy`, `Socks5Proxy`, `HTTPSProxy`).
    pub outbound_proxy: Option<Proxy>,
    /// Bytes of memory that may be held (`MaxMemInQueues`).
    pub max_memory: usize,
    /// Whether connections to internal addresses are refused; none: but in a test network.
    pub reject_internal: Option<bool>,
    /// Whether internal addresses that an exit tells are refused; none: but in a test network.
    pub dns_reject_internal: Option<bool>,
    /// How long a circuit takes new streams after its first (`MaxCircuitDirtiness`).
    pub circuit_dirtiness_max: Option<Duration>,
    /// Bridges: the only relays that are connected to, if there are any (`UseBridges`, `Bridge`).
    pub bridges: Vec<BridgeLine>,
    /// Who speaks transports (`ClientTransportPlugin`).
    pub transport_plugins: Vec<TransportPlugin>,
    /// Where to serve metrics, at `/metrics`, and to whom.
    pub metrics: Option<MetricsPort>,
    /// Where controllers are listened to, and what they may do.
    pub control: Option<ControlConfig>,
    /// Whether the network is left alone.
    pub is_off: bool,
    /// What the client does of itself.
    pub manners: Manners,
    /// What is wanted otherwise than the network has it.
    pub overrides: Overrides,
    /// Addresses that stand for others.
    pub mappings: Vec<(String, String)>,
    /// The log: how much of it, and where it goes.
    pub log: LogConfig,
    /// The file's own words.
    pub written: Written,
}

/// What times of lines are multiples of, unless it is said, as with `tor`.
pub(crate) const GRANULARITY_MS: u32 = 1000;

/// How much is logged.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Failures only.
    Error,
    /// And what an operator should look at.
    Warn,
    /// And what a node does, a line a stage.
    #[default]
    Info,
    /// And each decision.
    Debug,
    /// And each message.
    Trace,
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStyle {
    /// As ours.
    #[default]
    Cepa,
    /// As `tor`'s, which programs read.
    Tor,
}

impl LogStyle {
    fn is_ours(&self) -> bool {
        *self == LogStyle::Cepa
    }
}

/// A place that the log goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPlace {
    /// How much goes there.
    pub level: Level,
    /// Where it is.
    pub to: LogTo,
}

/// Where lines of the log go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LogTo {
    /// Standard error.
    #[default]
    Stderr,
    /// Standard output.
    Stdout,
    /// A file to append to.
    File(PathBuf),
}

/// Where the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Where, and how much; one place at least.
    pub places: Vec<LogPlace>,
    /// Whether addresses of clients and destinations are written out.
    pub addresses: bool,
    /// How lines look.
    pub style: LogStyle,
    /// Whether files are emptied when they are opened (`TruncateLogFile`).
    pub truncates: bool,
    /// Times of lines in `tor`'s style are multiples of so many milliseconds
    /// (`LogTimeGranularity`).
    pub granularity_ms: u32,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            places: vec![LogPlace {
                level: Level::default(),
                to: LogTo::default(),
            }],
            addresses: false,
            style: LogStyle::default(),
            truncates: false,
            granularity_ms: GRANULARITY_MS,
        }
    }
}

impl LogConfig {
    /// How much is logged where most is.
    pub fn level(&self) -> Level {
        let levels = self.places.iter().map(|place| place.level);
        levels.max().unwrap_or_default()
    }
}

/// Reads the configuration of `cepa relay`.
pub fn load_relay(path: &Path) -> Result<RelayConfig, Failure> {
    node::load(path)?.into_relay()
}

/// Reads the configuration of `cepa authority`.
pub fn load_authority(path: &Path) -> Result<AuthorityConfig, Failure> {
    node::load(path)?.into_authority()
}

/// Reads the configuration of `cepa client`.
pub fn load_client(path: &Path) -> Result<ClientConfig, Failure> {
    client::load(path)
}
