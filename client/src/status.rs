//! How a client stands, as types: the one door through which it is seen.
//!
//! [`Client::status`](crate::Client::status) and its like take snapshots; [`event`] is what happens
//! between two of them. Commands, metrics and the control protocol are written on these types and
//! on nothing else: they hold what control-spec 3.9 and 4.1 tell of a client, none of its words.
//! Snapshots can be written as JSON by `serde`; secrets (passwords of SOCKS) are left out there.

pub mod bootstrap;
mod event;
mod services;

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use cepa_crypto::onion::OnionAddress;
use cepa_crypto::{Ed25519Id, RsaId};
use cepa_netdoc::timestamp;
use cepa_wire::Now;
use cepa_wire::host::Host;
use cepa_wire::socks::{SocksAuth, SocksCommand, SocksRequest};
use serde::{Serialize, Serializer};

pub use crate::isolation::StreamSource;
use crate::isolation::{Isolation, user};
pub use crate::names::CircuitId;
use crate::names::{LinkId, RequestId};
pub use crate::select::guards::GuardChange;
use crate::select::guards::{Departure, GuardStatus, Selection};
use crate::select::vanguards::{VanguardMode, VanguardStatus};
use bootstrap::BootstrapStatus;

pub(crate) use event::Listener;
pub use event::{
    BuildTimesChange, CircuitChange, CircuitEnd, DescriptorChange, DescriptorFailure,
    DescriptorTransfer, EVENTS_MAX, Event, LinkChange, LinkEnd, StreamChange, StreamEnd,
};
pub use services::{
    Counts, DescriptorStatus, HsDirStatus, IntroDrop, IntroPointState, IntroPointStatus,
    ServiceStatus,
};

/// A whole client at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClientStatus {
    /// When the snapshot was taken.
    #[serde(serialize_with = "timestamp::serialize")]
    pub at: SystemTime,
    /// How far the client is.
    pub bootstrap: BootstrapStatus,
    /// Whether nobody has wanted anything for a day, so that the client does nothing.
    pub is_dormant: bool,
    /// What is known of the network; none before the first consensus.
    pub consensus: Option<ConsensusStatus>,
    /// What the links have carried.
    pub traffic: Traffic,
    /// How long circuits take.
    pub build_times: BuildTimesStatus,
    /// The guards and vanguards.
    pub guards: GuardsStatus,
    /// The links, by the relay that they lead to.
    pub links: Vec<LinkStatus>,
    /// The circuits, the oldest first.
    pub circuits: Vec<CircuitStatus>,
    /// The streams of applications, the oldest first.
    pub streams: Vec<StreamStatus>,
    /// The onion services that the client hosts.
    pub services: Vec<ServiceStatus>,
    /// The visits to onion services, the oldest first.
    pub visits: Vec<VisitStatus>,
}

/// A visit to an onion service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VisitStatus {
    /// The service.
    pub address: OnionAddress,
    /// Whether the visit waits for a descriptor.
    pub is_fetching: bool,
    /// Whether the rendezvous circuit stands, with the service at the other end.
    pub is_ready: bool,
    /// What the streams of the visit have in common.
    pub isolation: Isolation,
}

/// A consensus that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConsensusStatus {
    /// From when on the consensus is valid.
    #[serde(serialize_with = "timestamp::serialize")]
    pub valid_after: SystemTime,
    /// When a newer one is due.
    #[serde(serialize_with = "timestamp::serialize")]
    pub fresh_until: SystemTime,
    /// Until when the consensus is valid.
    #[serde(serialize_with = "timestamp::serialize")]
    pub valid_until: SystemTime,
    /// How many relays the consensus lists.
    pub listed: usize,
    /// How many of them can be used: their microdescriptors are known.
    pub usable: usize,
}

/// Bytes that links have carried since the client began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Traffic {
    /// Bytes of cells that came.
    pub read_bytes: u64,
    /// Bytes of cells that went.
    pub written_bytes: u64,
}

/// How long circuits may take (path-spec 2.4).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BuildTimesStatus {
    /// How many times are known.
    pub count: usize,
    /// Whether there are too few yet for an estimate.
    pub is_learning: bool,
    /// From when on a circuit of three hops is late.
    #[serde(serialize_with = "millis")]
    pub timeout: Duration,
    /// From when on such a circuit is given up.
    #[serde(serialize_with = "millis")]
    pub close: Duration,
    /// The share of all circuits that the time-out is to let pass, from 0 to 1.
    pub quantile: f64,
    /// The share of the last circuits that were late, from 0 to 1.
    pub late: f64,
    /// The lowest value of the curve, in milliseconds (Xm); 0 while nothing is known.
    pub lowest_ms: f64,
    /// The exponent of the curve; 0 where there is none.
    pub alpha: f64,
}

/// The guards and vanguards.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GuardsStatus {
    /// The set in use.
    pub selection: Selection,
    /// The guards of all sets, those in use first, in the order of preference.
    pub sampled: Vec<GuardStatus>,
    /// The guards that were given up lately, the latest first.
    pub departures: Vec<Departure>,
    /// What became of circuits by guards that were used (path-spec 7).
    pub path_bias: Vec<PathBiasStatus>,
    /// Which layers of vanguards there are.
    pub vanguard_mode: VanguardMode,
    /// The vanguards, second hops first.
    pub vanguards: Vec<NamedVanguard>,
}

/// A vanguard with its nickname.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedVanguard {
    /// The relay's nickname, if the consensus lists it.
    pub nickname: Option<String>,
    /// How the vanguard stands.
    #[serde(flatten)]
    pub vanguard: VanguardStatus,
}

/// What a guard let become of circuits. Counts are scaled down as they grow.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PathBiasStatus {
    /// The guard's RSA identity.
    pub guard: RsaId,
    /// How many circuits had two hops.
    pub attempts: f64,
    /// How many of them came to stand, and were not closed on us.
    pub successes: f64,
    /// How many circuits had streams attached to them.
    pub use_attempts: f64,
    /// How many of those answered.
    pub use_successes: f64,
}

/// How far a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// The link is being opened.
    Opening,
    /// The link stands.
    Open,
    /// The link stands, but its relay does not answer just now.
    Silent,
}

/// A link to a relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkStatus {
    /// The name of the link.
    pub id: LinkId,
    /// The relay's RSA identity.
    pub rsa: RsaId,
    /// The relay's Ed25519 identity, where it is known.
    pub ed: Option<Ed25519Id>,
    /// Where the relay listens: the first address that is tried, or the one that is connected.
    pub addr: Option<SocketAddr>,
    /// How far the link is.
    pub state: LinkState,
    /// Since when the link is opening, or open.
    #[serde(serialize_with = "timestamp::serialize")]
    pub since: SystemTime,
    /// How many circuits go over the link.
    pub circuits: usize,
}

/// How far a circuit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitState {
    /// The circuit waits for the link to its first hop.
    Connecting,
    /// Hops are being added.
    Building,
    /// The circuit is built, but not to be used while a better guard may be had (guard-spec 4.8).
    GuardWait,
    /// The circuit stands.
    Built,
}

/// What a circuit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitPurpose {
    /// Directory requests to its only hop.
    Directory,
    /// Streams of applications by an exit.
    General,
    /// Streams that a controller attaches.
    Controller,
    /// Three hops that are ready for any use of onion services.
    OnionPath,
    /// A visitor fetches a descriptor.
    Fetch,
    /// A service uploads a descriptor.
    Upload,
    /// A visitor's circuit to an introduction point.
    Introduce,
    /// A service's circuit to an introduction point.
    IntroPoint,
    /// A visitor's circuit to the rendezvous point.
    Rendezvous,
    /// A service's circuit to the rendezvous point that a visitor has chosen.
    ServiceRendezvous,
}

impl fmt::Display for CircuitPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CircuitPurpose::Directory => "directory",
            CircuitPurpose::General => "exit",
            CircuitPurpose::Controller => "controller",
            CircuitPurpose::OnionPath => "onion services",
            CircuitPurpose::Fetch => "fetch of a descriptor",
            CircuitPurpose::Upload => "upload of a descriptor",
            CircuitPurpose::Introduce => "introduction",
            CircuitPurpose::IntroPoint => "introduction point",
            CircuitPurpose::Rendezvous => "rendezvous",
            CircuitPurpose::ServiceRendezvous => "rendezvous with a visitor",
        })
    }
}

/// A hop of a circuit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HopStatus {
    /// The relay; none where only a stranger has described it, without its RSA identity.
    pub rsa: Option<RsaId>,
    /// Its nickname, if the consensus lists it.
    pub nickname: Option<String>,
}

/// Whether a circuit takes streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitUse {
    /// It takes any stream that it fits: none has used it yet.
    Clean,
    /// It takes streams of its isolation.
    Used,
    /// It takes none: its time is over, or its relay does not answer just now.
    Worn,
    /// It takes none: it is late, and is built only to learn how long that takes.
    Late,
}

/// A circuit, from its beginning to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CircuitStatus {
    /// The name of the circuit.
    pub id: CircuitId,
    /// How far the circuit is.
    pub state: CircuitState,
    /// What the circuit is for.
    pub purpose: CircuitPurpose,
    /// The hops that stand, the first one first.
    pub path: Vec<HopStatus>,
    /// The first hop, which may not stand yet.
    pub guard: RsaId,
    /// How many hops the circuit is to have.
    pub hops: usize,
    /// When the circuit was begun.
    #[serde(serialize_with = "timestamp::serialize")]
    pub created: SystemTime,
    /// Whether the circuit takes streams.
    #[serde(rename = "use")]
    pub usage: CircuitUse,
    /// How many streams are open on the circuit.
    pub streams: usize,
    /// What the streams of the circuit have in common; none before the first.
    pub isolation: Option<Isolation>,
    /// The onion service that the circuit is for.
    pub onion: Option<OnionAddress>,
    /// Whether a controller has chosen its path.
    pub by_hand: bool,
}

impl CircuitStatus {
    /// Whether the circuit has one hop only, which is asked for documents.
    #[must_use]
    pub fn is_one_hop(&self) -> bool {
        self.purpose == CircuitPurpose::Directory
    }

    /// Whether no stream leaves the network by this circuit.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        let leaves = [CircuitPurpose::General, CircuitPurpose::Controller];
        !leaves.contains(&self.purpose)
    }
}

/// How far a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamState {
    /// The stream waits for a circuit.
    Waiting,
    /// The far end was asked.
    Asked,
    /// The stream is open.
    Open,
}

/// A stream of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamStatus {
    /// The name of the stream: that of the request.
    pub id: RequestId,
    /// How far the stream is.
    pub state: StreamState,
    /// The circuit that carries the stream.
    pub circuit: Option<CircuitId>,
    /// Whether the stream is a connection, or a look-up.
    #[serde(serialize_with = "name_of_command")]
    pub command: SocksCommand,
    /// The host that the stream leads to, or that is looked up.
    #[serde(serialize_with = "shown")]
    pub host: Host,
    /// The port that the stream leads to; 0 for look-ups.
    pub port: u16,
    /// Who asks.
    #[serde(serialize_with = "addr_of_source")]
    pub source: StreamSource,
    /// What the application said about itself.
    #[serde(serialize_with = "user")]
    pub auth: SocksAuth,
    /// What the stream shares with the others of its circuit.
    pub isolation: Isolation,
    /// When the stream was asked for.
    #[serde(serialize_with = "timestamp::serialize")]
    pub created: SystemTime,
}

impl StreamStatus {
    pub(crate) fn new(
        id: RequestId,
        request: &SocksRequest,
        source: StreamSource,
        isolation: Isolation,
        now: Now,
    ) -> Self {
        StreamStatus {
            id,
            state: StreamState::Waiting,
            circuit: None,
            command: request.command,
            host: request.address.clone(),
            port: request.port,
            source,
            auth: request.auth.clone(),
            isolation,
            created: now.wall,
        }
    }
}

fn shown<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn millis<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn name_of_command<S: Serializer>(
    command: &SocksCommand,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match command {
        SocksCommand::Connect => "connect",
        SocksCommand::Resolve => "resolve",
        SocksCommand::ResolvePtr => "resolve_ptr",
    })
}

fn addr_of_source<S: Serializer>(source: &StreamSource, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&source.addr)
}
