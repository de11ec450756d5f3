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
pub(in crate::switch) struct Leg {
    pub(in crate::switch) channel: ChannelKey,
    pub(in crate::switch) circ_id: CircId,
}

/// A circuit's id on its next channel, whoever's that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::switch) struct Hop {
    pub(in crate::switch) worker: WorkerId,
    pub(in crate::switch) channel: ChannelKey,
    /// 0 until another worker's switch has told it.
    pub(in crate::switch) circ_id: CircId,
}

/// What a channel was asked for.
#[derive(Debug)]
pub(in crate::switch) struct Wanted {
    /// The relay at its other end.
    pub(in crate::switch) rsa: RsaId,
    /// The CREATE2 payload to be sent there.
    pub(in crate::switch) create: Payload,
}

/// How far the way onward is.
#[derive(Debug)]
pub(in crate::switch) enum Next {
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
    pub(in crate::switch) fn hop(&self) -> Option<Hop> {
        match self {
            Next::Creating(hop) | Next::Open(hop) => Some(*hop),
            _ => None,
        }
    }

    /// Whether the circuit is, or is to become, an introduction or rendezvous point.
    pub(in crate::switch) fn is_point(&self) -> bool {
        match self {
            Next::Intro(_) | Next::Waiting { .. } | Next::Joining(_) | Next::Joined(_) => true,
            Next::None | Next::Wanted(_) | Next::Creating(_) | Next::Open(_) => false,
        }
    }
}

/// What a circuit has of padding.
#[derive(Debug, Default)]
pub(in crate::switch) struct CircuitPadding {
    pub(in crate::switch) machine: Option<PaddingMachine>,
    /// It is in the schedule.
    pub(in crate::switch) is_scheduled: bool,
}

/// One circuit.
#[derive(Debug)]
pub(in crate::switch) struct Circuit {
    pub(in crate::switch) previous: Leg,
    pub(in crate::switch) next: Next,
    /// `None` while the onionskin waits for its answer.
    pub(in crate::switch) relay: Option<RelayCircuit>,
    /// KH of the handshake, to which ESTABLISH_INTRO is bound (tor-spec 5.2.2).
    pub(in crate::switch) kh: Zeroizing<[u8; 20]>,
    /// Streams that wait for a connection or an answer of the DNS.
    pub(in crate::switch) connecting: u16,
    /// An INTRODUCE1 has come, and no second one may.
    pub(in crate::switch) has_introduced: bool,
    pub(in crate::switch) streams: BTreeMap<StreamId, StreamKey>,
    /// The stream behind which the next round of wake-ups begins, so that all get their turn.
    pub(in crate::switch) woken_last: StreamId,
    pub(in crate::switch) padding: CircuitPadding,
    /// What it has asked for, once that was something.
    pub(in crate::switch) asked: Option<Box<Asked>>,
}

impl Circuit {
    /// The handshake is done.
    pub(in crate::switch) fn open(
        &mut self,
        cipher: Cipher,
        keys: KeyStream,
        window: Option<Congestion>,
    ) {
        let (layer, kh) = RelayLayer::new(cipher, keys);
        self.relay = Some(RelayCircuit::with_layer(layer).with_congestion(window));
        self.kh = kh;
    }

    pub(in crate::switch) fn new(previous: Leg) -> Self {
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
    pub(in crate::switch) fn queued(&self, channels: &Channels) -> usize {
        let Leg { channel, circ_id } = self.previous;
        channels.queued(channel, circ_id)
    }
}
