//! A circuit as a switch holds it.
//!
//! ```text
//! Pending ──onionskin answered──> Open
//!
//! next:  None ──EXTEND2──> Wanted ──channel found──> Creating ──CREATED2──> Open
//!          ^───────────── TRUNCATE, or DESTROY from ahead ───────────────────┘
//!        None ──ESTABLISH_INTRO──> Intro
//!        None ──ESTABLISH_RENDEZVOUS──> Waiting ──the other's RENDEZVOUS1──> Joined
//!        None ──RENDEZVOUS1──> Joining ──the other was found──> Joined
//! ```

use std::collections::BTreeMap;

use cepa_circuit::{Congestion, PaddingMachine, RelayCircuit, StreamKey};
use cepa_crypto::layer::{Cipher, RelayLayer};
use cepa_crypto::{KeyStream, RsaId};
use cepa_link::ChannelKey;
use cepa_wire::cell::{CellBuf, CircId, Payload};
use cepa_wire::relay::StreamId;
use zeroize::Zeroizing;

use super::intro_point::IntroPoint;
use crate::switch::channels::Channels;
use crate::switch::dos::Asked;
use crate::switch::handover::Cookie;
use crate::switch::place::{CircuitPlace, WorkerId};

/// A circuit's id on a channel of this switch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leg {
    pub(crate) channel: ChannelKey,
    pub(crate) circ_id: CircId,
}

/// A circuit's id on its next channel, whoever's that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) worker: WorkerId,
    pub(crate) channel: ChannelKey,
    /// 0 until another worker's switch has told it.
    pub(crate) circ_id: CircId,
}

/// What a channel was asked for.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The relay at its other end.
    pub(crate) rsa: RsaId,
    /// The CREATE2 payload to be sent there.
    pub(crate) create: Payload,
}

/// How far the way onward is.
#[derive(Debug)]
pub(crate) enum Next {
    /// The circuit ends here.
    None,
    /// A channel was asked for.
    Wanted(Box<Wanted>),
    /// CREATE2 was sent.
    Creating(Hop),
    /// There is a next hop.
    Open(Hop),
    /// The circuit ends here, with a service that wants to be introduced.
    Intro(Box<IntroPoint>),
    /// The circuit ends here, with a client that waits for a service.
    Waiting {
        /// What the service will name.
        cookie: Cookie,
        /// The cookie's home knows it.
        is_established: bool,
    },
    /// A service has named a cookie; what it says next waits for the client's circuit.
    Joining(Vec<CellBuf>),
    /// Joined with another circuit, to whose client what goes onward goes back.
    Joined(CircuitPlace),
}

impl Next {
    pub(crate) fn hop(&self) -> Option<Hop> {
        match self {
            Next::Creating(hop) | Next::Open(hop) => Some(*hop),
            _ => None,
        }
    }

    /// Whether the circuit is, or is to become, an introduction or rendezvous point.
    pub(crate) fn is_point(&self) -> bool {
        match self {
            Next::Intro(_) | Next::Waiting { .. } | Next::Joining(_) | Next::Joined(_) => true,
            Next::None | Next::Wanted(_) | Next::Creating(_) | Next::Open(_) => false,
        }
    }
}

/// What a circuit has of padding.
#[derive(Debug, Default)]
pub(crate) struct CircuitPadding {
    pub(crate) machine: Option<PaddingMachine>,
    /// It is in the schedule.
    pub(crate) is_scheduled: bool,
}

/// One circuit.
#[derive(Debug)]
pub(crate) struct Circuit {
    pub(crate) previous: Leg,
    pub(crate) next: Next,
    /// `None` while the onionskin waits for its answer.
    pub(crate) relay: Option<RelayCircuit>,
    /// KH of the handshake, to which ESTABLISH_INTRO is bound (tor-spec 5.2.2).
    pub(crate) kh: Zeroizing<[u8; 20]>,
    /// Streams that wait for a connection or an answer of the DNS.
    pub(crate) connecting: u16,
    /// An INTRODUCE1 has come, and no second one may.
    pub(crate) has_introduced: bool,
    pub(crate) streams: BTreeMap<StreamId, StreamKey>,
    /// The stream behind which the next round of wake-ups begins, so that all get their turn.
    pub(crate) woken_last: StreamId,
    pub(crate) padding: CircuitPadding,
    /// What it has asked for, once that was something.
    pub(crate) asked: Option<Box<Asked>>,
}

impl Circuit {
    /// The handshake is done.
    pub(crate) fn open(&mut self, cipher: Cipher, keys: KeyStream, window: Option<Congestion>) {
        let (layer, kh) = RelayLayer::new(cipher, keys);
        self.relay = Some(RelayCircuit::with_layer(layer).with_congestion(window));
        self.kh = kh;
    }

    pub(crate) fn new(previous: Leg) -> Self {
        Circuit {
            previous,
            next: Next::None,
            relay: None,
            kh: Zeroizing::default(),
            connecting: 0,
            has_introduced: false,
            streams: BTreeMap::new(),
            woken_last: StreamId::NONE,
            padding: CircuitPadding::default(),
            asked: None,
        }
    }

    /// Cells that wait for the client.
    pub(crate) fn queued(&self, channels: &Channels) -> usize {
        let Leg { channel, circ_id } = self.previous;
        channels.queued(channel, circ_id)
    }
}
