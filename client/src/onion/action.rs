//! What the machines of onion services ask of the client, and what they are told
//! (rend-spec-v3 1.2; path-spec; vanguards-lite for the lengths of paths).
//!
//! ```text
//! Open ─▶ Built ─┬─ Send ─▶ Message ... ─ Join ─▶ streams ─┬─▶ Closed
//!                └─ Request ─▶ Reply ──────────────────────┘
//!   └─▶ Failed
//! ```
//!
//! Invariants: a name is used for one circuit; after [`Ending`] nothing more is told of it; each
//! Request has one Reply, or the circuit's end instead.

use std::fmt;

use cepa_circuit::handshake::HopSpec;
use cepa_crypto::RsaId;
use cepa_crypto::layer::HopLayer;
use cepa_dir::fetch::Reply;
use cepa_dir::{DirRequest, NetworkView};
use cepa_wire::relay::RelayCommand;

use crate::names::CircuitName;
use crate::select::rules::Permits;
use crate::status::CircuitPurpose;

/// What a circuit is for. It decides how many hops lie before the last, and of which layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// A visitor fetches a descriptor.
    Fetch,
    /// A service uploads one.
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

impl From<Purpose> for CircuitPurpose {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Fetch => CircuitPurpose::Fetch,
            Purpose::Upload => CircuitPurpose::Upload,
            Purpose::Introduce => CircuitPurpose::Introduce,
            Purpose::IntroPoint => CircuitPurpose::IntroPoint,
            Purpose::Rendezvous => CircuitPurpose::Rendezvous,
            Purpose::ServiceRendezvous => CircuitPurpose::ServiceRendezvous,
        }
    }
}

/// The last hop of a circuit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastHop {
    /// A relay of the consensus.
    Listed(RsaId),
    /// A relay as a stranger described it. It may be not in the consensus, and no path rule holds
    /// for it but that it stands once in the path.
    Told(Box<HopSpec>),
    /// Any relay that may serve as a rendezvous or introduction point, none of these.
    Any(Vec<RsaId>),
}

/// What a machine of onion services asks of the client.
#[derive(Debug)]
pub enum Action {
    /// Build a circuit, or take one that is ready.
    Open {
        /// Its name from now on.
        circuit: CircuitName,
        /// What the circuit is for.
        purpose: Purpose,
        /// The last hop of the circuit.
        last: LastHop,
    },
    /// Send a message without a stream to the last hop.
    Send {
        /// The circuit over which the message goes.
        circuit: CircuitName,
        /// The command of the message.
        command: RelayCommand,
        /// The body of the message.
        body: Vec<u8>,
    },
    /// Add the peer beyond the rendezvous point as a hop.
    Join {
        /// The circuit to which the peer is added.
        circuit: CircuitName,
        /// Its layer. A service's keys stand the other way round than a visitor's.
        layer: Box<HopLayer>,
        /// Whether the peer may open streams (a service's circuit), or we (a visitor's).
        serves: bool,
        /// DATA cells that one SENDME acknowledges, where the service's descriptor offered
        /// congestion control and the visitor asked for it (proposal 324, 9).
        congestion: Option<u8>,
    },
    /// Ask the last hop's directory over BEGIN_DIR.
    Request {
        /// The circuit whose last hop is asked.
        circuit: CircuitName,
        /// The document that is asked for, or the upload.
        request: DirRequest,
        /// What an upload carries; else empty.
        body: Vec<u8>,
    },
    /// Close the circuit; no end is told.
    Close {
        /// The circuit to be closed.
        circuit: CircuitName,
    },
}

/// How a circuit of onion services ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// No path was found; circuits that were tried failed at another hop than the last.
    NoPath,
    /// The last hop could not be reached, though the hop before could: it is to blame.
    LastHop,
    /// The circuit took too long to be built.
    Timeout,
    /// The circuit stood, and is gone.
    Closed,
}

/// What a machine of onion services is told by the client.
#[derive(Debug)]
pub enum Event<'a> {
    /// The circuit stands.
    Built {
        /// The circuit that stands.
        circuit: CircuitName,
        /// Its last hop: to be named to a peer ([`LastHop::Any`]).
        last: &'a HopSpec,
        /// What both ends of the last hop's handshake derived behind the cell keys: KH, to which
        /// an ESTABLISH_INTRO is bound (rend-spec-v3 3.1.1, tor-spec 5.2.2).
        kh: &'a [u8; 20],
    },
    /// A message without a stream came from the last hop.
    Message {
        /// The circuit over which the message came.
        circuit: CircuitName,
        /// The command of the message.
        command: RelayCommand,
        /// Its body, not checked.
        body: &'a [u8],
    },
    /// The directory's answer, or none.
    Reply {
        /// The circuit over which the directory was asked.
        circuit: CircuitName,
        /// The answer of the directory; a failed one if none came.
        reply: Reply,
    },
    /// The circuit is not there (any more).
    Ended {
        /// The circuit that has ended.
        circuit: CircuitName,
        /// How the circuit ended.
        ending: Ending,
    },
    /// There is a new consensus; and what the operator's rules say to its relays.
    Network(&'a NetworkView, &'a Permits),
}

/// For the log: what happens to which circuit, and neither keys nor addresses of services.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Open {
                circuit,
                purpose,
                last,
            } => {
                write!(f, "{circuit} is wanted: {purpose:?}")?;
                match last {
                    LastHop::Listed(relay) => write!(f, " at {relay}"),
                    LastHop::Told(spec) => match spec.link_specifiers.rsa_id() {
                        Some(relay) => write!(f, " at {relay}"),
                        None => Ok(()),
                    },
                    LastHop::Any(_) => Ok(()),
                }
            }
            Action::Send {
                circuit, command, ..
            } => write!(f, "{circuit}: {command:?} is sent"),
            Action::Join { circuit, .. } => write!(f, "{circuit}: the peer joins"),
            Action::Request { circuit, .. } => write!(f, "{circuit}: a request"),
            Action::Close { circuit } => write!(f, "{circuit} is not wanted any more"),
        }
    }
}

/// For the log, as [`Action`].
impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Built { circuit, last, .. } => {
                write!(f, "{circuit} stands")?;
                let relay = last.link_specifiers.rsa_id();
                relay.map_or(Ok(()), |relay| write!(f, ", to {relay}"))
            }
            Event::Message {
                circuit, command, ..
            } => write!(f, "{circuit}: {command:?} came"),
            Event::Reply { circuit, reply } => {
                write!(f, "{circuit}: the directory says {}", reply.status)
            }
            Event::Ended { circuit, ending } => {
                write!(f, "{circuit} has ended: {ending:?}")
            }
            Event::Network(..) => write!(f, "a consensus"),
        }
    }
}
