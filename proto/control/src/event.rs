//! What happens, told to those who asked by SETEVENTS (control-spec 4.1): the 31 events of `tor`.
//!
//! An [`Event`] is made by the roles' status and written as `tor` writes it, field by field and in
//! its order, since programs split lines on spaces. Ids of circuits, streams and connections are
//! numbers that never repeat while the program runs; 0 is none.

mod bandwidth;
mod circuit;
mod directory;
mod encode;
mod onion;
mod status;
mod stream;

use std::time::SystemTime;

use cepa_crypto::RsaId;
use cepa_netdoc::timestamp;

use crate::keyword::keywords;
use crate::signal::Signal;

pub use bandwidth::{
    BuildTimeout, BuildTimeoutKind, CellCount, CellStats, CircuitBandwidth, CongestionState,
    ConnBandwidth, ConnKind, QueueStats, StreamBandwidth,
};
pub use circuit::{
    BuildFlag, CircuitDescription, CircuitEvent, CircuitMinor, CircuitMinorEvent, CircuitPurpose,
    CircuitReason, CircuitStatus, HsState,
};
pub use directory::{AddrMap, ClientsSeen, GuardStatus, OrConnEvent, OrReason, OrStatus};
pub use onion::{HsDescAction, HsDescContent, HsDescEvent, HsDescReason};
pub use status::{
    Bootstrap, BootstrapProblem, Severity, StatusAction, StatusEvent, StatusKind, StatusValue,
};
pub use stream::{
    ClientProtocol, IsoField, RemapSource, StreamEvent, StreamIsolation, StreamPurpose,
    StreamReason, StreamStatus,
};

keywords! {
    /// The name of an event, in `tor`'s order of `events/names`.
    pub enum EventKind {
        Circ = "CIRC",
        CircMinor = "CIRC_MINOR",
        Stream = "STREAM",
        OrConn = "ORCONN",
        Bw = "BW",
        Debug = "DEBUG",
        Info = "INFO",
        Notice = "NOTICE",
        Warn = "WARN",
        Err = "ERR",
        NewDesc = "NEWDESC",
        AddrMap = "ADDRMAP",
        DescChanged = "DESCCHANGED",
        Ns = "NS",
        StatusGeneral = "STATUS_GENERAL",
        StatusClient = "STATUS_CLIENT",
        StatusServer = "STATUS_SERVER",
        Guard = "GUARD",
        StreamBw = "STREAM_BW",
        ClientsSeen = "CLIENTS_SEEN",
        NewConsensus = "NEWCONSENSUS",
        BuildTimeoutSet = "BUILDTIMEOUT_SET",
        Signal = "SIGNAL",
        ConfChanged = "CONF_CHANGED",
        ConnBw = "CONN_BW",
        CellStats = "CELL_STATS",
        CircBw = "CIRC_BW",
        TransportLaunched = "TRANSPORT_LAUNCHED",
        HsDesc = "HS_DESC",
        HsDescContent = "HS_DESC_CONTENT",
        NetworkLiveness = "NETWORK_LIVENESS",
    }
}

keywords! {
    /// How much a line of the log matters.
    pub enum LogLevel {
        Debug = "DEBUG",
        Info = "INFO",
        Notice = "NOTICE",
        Warn = "WARN",
        Err = "ERR",
    }
}

/// A relay as events name it: `$FINGERPRINT~nickname`, or without a nickname where none is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LongName {
    /// The digest of its RSA identity.
    pub id: RsaId,
    /// Its nickname.
    pub nickname: Option<String>,
}

impl std::fmt::Display for LongName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.nickname {
            Some(nickname) => write!(f, "${}~{nickname}", self.id),
            None => write!(f, "${}", self.id),
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A circuit changed.
    Circuit(CircuitEvent),
    /// A circuit got another use.
    CircuitMinor(CircuitMinorEvent),
    /// A stream changed.
    Stream(StreamEvent),
    /// A channel changed.
    OrConn(OrConnEvent),
    /// Bytes of the last second.
    Bandwidth {
        /// Bytes read.
        read: u64,
        /// Bytes written.
        written: u64,
    },
    /// A line of the log.
    Log {
        /// How much it matters.
        level: LogLevel,
        /// The line; line breaks in it are written as spaces.
        message: String,
    },
    /// Descriptors of these relays came; not empty.
    NewDesc(Vec<LongName>),
    /// An address was mapped or looked up.
    AddrMap(AddrMap),
    /// Our own descriptor changed.
    DescChanged,
    /// The status of relays changed: their entries, each line ended by LF (dir-spec 3.4.1).
    NetworkStatus(String),
    /// Something on the whole of the program.
    Status(StatusEvent),
    /// A guard changed.
    Guard {
        /// The guard.
        relay: LongName,
        /// What it became.
        status: GuardStatus,
    },
    /// Bytes of a stream.
    StreamBandwidth(StreamBandwidth),
    /// Which countries a bridge's clients came from.
    ClientsSeen(ClientsSeen),
    /// A new consensus: the entries of all its relays, each line ended by LF.
    NewConsensus(String),
    /// The time-out of circuits changed.
    BuildTimeoutSet(BuildTimeout),
    /// A signal was acted upon.
    Signal(Signal),
    /// Options changed; one without a value is back at its default.
    ConfChanged(Vec<(String, Option<String>)>),
    /// Bytes of a connection.
    ConnBandwidth(ConnBandwidth),
    /// Cells of a circuit.
    CellStats(CellStats),
    /// Bytes of a circuit.
    CircuitBandwidth(CircuitBandwidth),
    /// A pluggable transport listens.
    TransportLaunched {
        /// Whether it is a server's, else a client's.
        is_server: bool,
        /// Its name.
        name: String,
        /// Where it listens.
        address: std::net::SocketAddr,
    },
    /// A descriptor of an onion service is fetched or uploaded.
    HsDesc(HsDescEvent),
    /// A fetched descriptor of an onion service.
    HsDescContent(HsDescContent),
    /// The network seems to be there, or not.
    NetworkLiveness(bool),
}

impl Event {
    /// By which name it is asked for.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self {
            Event::Circuit(_) => EventKind::Circ,
            Event::CircuitMinor(_) => EventKind::CircMinor,
            Event::Stream(_) => EventKind::Stream,
            Event::OrConn(_) => EventKind::OrConn,
            Event::Bandwidth { .. } => EventKind::Bw,
            Event::Log { level, .. } => match level {
                LogLevel::Debug => EventKind::Debug,
                LogLevel::Info => EventKind::Info,
                LogLevel::Notice => EventKind::Notice,
                LogLevel::Warn => EventKind::Warn,
                LogLevel::Err => EventKind::Err,
            },
            Event::NewDesc(_) => EventKind::NewDesc,
            Event::AddrMap(_) => EventKind::AddrMap,
            Event::DescChanged => EventKind::DescChanged,
            Event::NetworkStatus(_) => EventKind::Ns,
            Event::Status(status) => match status.action.kind() {
                StatusKind::General => EventKind::StatusGeneral,
                StatusKind::Client => EventKind::StatusClient,
                StatusKind::Server => EventKind::StatusServer,
            },
            Event::Guard { .. } => EventKind::Guard,
            Event::StreamBandwidth(_) => EventKind::StreamBw,
            Event::ClientsSeen(_) => EventKind::ClientsSeen,
            Event::NewConsensus(_) => EventKind::NewConsensus,
            Event::BuildTimeoutSet(_) => EventKind::BuildTimeoutSet,
            Event::Signal(_) => EventKind::Signal,
            Event::ConfChanged(_) => EventKind::ConfChanged,
            Event::ConnBandwidth(_) => EventKind::ConnBw,
            Event::CellStats(_) => EventKind::CellStats,
            Event::CircuitBandwidth(_) => EventKind::CircBw,
            Event::TransportLaunched { .. } => EventKind::TransportLaunched,
            Event::HsDesc(_) => EventKind::HsDesc,
            Event::HsDescContent(_) => EventKind::HsDescContent,
            Event::NetworkLiveness(_) => EventKind::NetworkLiveness,
        }
    }
}

/// ISOTime2Frac of control-spec 2.4, with six digits behind the point, as `tor` writes it.
pub(crate) fn time_with_micros(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let micros = since.map_or(0, |since| since.subsec_micros());
    format!("{}.{micros:06}", timestamp::encode_joined(time))
}

/// Writes ` KEY=value` for each that is there.
pub(crate) fn push_field(line: &mut String, key: &str, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        line.push_str(&format!(" {key}={value}"));
    }
}
