//! A circuit as a switch holds it, and how channels name it.
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
//!
//! A [`CircuitRef`] on a channel packs the owning worker, the circuit's key there, and whether that
//! channel is the circuit's previous or next one: generation 32 bits, worker 7, side 1, index 24.

use std::collections::BTreeMap;

use cepa_circuit::{CircuitKey, Congestion, RelayCircuit, StreamKey};
use cepa_crypto::layer::{Cipher, RelayLayer};
use cepa_crypto::{KeyStream, RsaId};
use cepa_link::{ChannelKey, CircuitRef};
use cepa_wire::cell::{CellBuf, CircId, Payload};
use cepa_wire::relay::StreamId;
use slotmap::{Key, KeyData};
use zeroize::Zeroizing;

use super::command::WorkerId;
use super::dos::Asked;
use super::intro::IntroPoint;
use super::padding::Padding;
use super::point::{CircuitPlace, Cookie};

/// Most circuits that a switch can name.
pub(super) const CIRCUITS_MAX: usize = 1 << INDEX_BITS;

const INDEX_BITS: u32 = 24;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
const SIDE_BIT: u64 = 1 << INDEX_BITS;
const WORKER_SHIFT: u32 = INDEX_BITS + 1;
const GENERATION_MASK: u64 = 0xffff_ffff << 32;

/// Which side of a circuit a channel is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Towards the client.
    Previous,
    /// Away from the client.
    Next,
}

/// A [`CircuitRef`] taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The worker that owns the circuit.
    pub(super) worker: WorkerId,
    /// The circuit's key there.
    pub(super) circuit: CircuitKey,
    /// Which of its channels this is.
    pub(super) side: Side,
}

impl Place {
    pub(super) fn pack(self) -> CircuitRef {
        let key = self.circuit.data().as_ffi();
        debug_assert!(key & 0xffff_ffff <= INDEX_MASK, "the index fits its bits");
        let side = if self.side == Side::Next { SIDE_BIT } else { 0 };
        let worker = u64::from(self.worker.0) << WORKER_SHIFT;
        CircuitRef((key & (GENERATION_MASK | INDEX_MASK)) | worker | side)
    }

    pub(super) fn unpack(CircuitRef(bits): CircuitRef) -> Place {
        let key = KeyData::from_ffi(bits & (GENERATION_MASK | INDEX_MASK));
        let side = if bits & SIDE_BIT == 0 {
            Side::Previous
        } else {
            Side::Next
        };
        let worker = WorkerId(((bits >> WORKER_SHIFT) & 0x7f) as u8);
        Place {
            worker,
            circuit: key.into(),
            side,
        }
    }
}

/// A circuit's id on a channel of this switch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leg {
    pub(super) channel: ChannelKey,
    pub(super) circ_id: CircId,
}

/// A circuit's id on its next channel, whoever's that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) worker: WorkerId,
    pub(super) channel: ChannelKey,
    /// 0 until another worker's switch has told it.
    pub(super) circ_id: CircId,
}

/// What a channel was asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The relay at its other end.
    pub(super) rsa: RsaId,
    /// The CREATE2 payload to be sent there.
    pub(super) create: Payload,
}

/// How far the way onward is.
#[derive(Debug)]
pub(super) enum Next {
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
    pub(super) fn hop(&self) -> Option<Hop> {
        match self {
            Next::Creating(hop) | Next::Open(hop) => Some(*hop),
            _ => None,
        }
    }
}

/// One circuit.
#[derive(Debug)]
pub(super) struct Circuit {
    pub(super) previous: Leg,
    pub(super) next: Next,
    /// `None` while the onionskin waits for its answer.
    pub(super) relay: Option<RelayCircuit>,
    /// KH of the handshake, to which ESTABLISH_INTRO is bound (tor-spec 5.2.2).
    pub(super) kh: Zeroizing<[u8; 20]>,
    /// Streams that wait for a connection or an answer of the DNS.
    pub(super) connecting: u16,
    /// An INTRODUCE1 has come, and no second one may.
    pub(super) has_introduced: bool,
    pub(super) streams: BTreeMap<StreamId, StreamKey>,
    /// The stream behind which the next round of wake-ups begins, so that all get their turn.
    pub(super) woken_last: StreamId,
    pub(super) padding: Padding,
    /// What it has asked for, once that was something.
    pub(super) asked: Option<Box<Asked>>,
}

impl Circuit {
    /// The handshake is done.
    pub(super) fn open(&mut self, cipher: Cipher, keys: KeyStream, window: Option<Congestion>) {
        let (layer, kh) = RelayLayer::new(cipher, keys);
        self.relay = Some(RelayCircuit::with_layer(layer).with_congestion(window));
        self.kh = kh;
    }

    pub(super) fn new(previous: Leg) -> Self {
        Circuit {
            previous,
            next: Next::None,
            relay: None,
            kh: Zeroizing::default(),
            connecting: 0,
            has_introduced: false,
            streams: BTreeMap::new(),
            woken_last: StreamId::NONE,
            padding: Padding::default(),
            asked: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn references_come_back(
            index in 0_u64..1 << 24,
            generation in any::<u32>(),
            worker in 0_u8..128,
            next: bool,
        ) {
            let ffi = u64::from(generation | 1) << 32 | index;
            let side = if next { Side::Next } else { Side::Previous };
            let circuit = KeyData::from_ffi(ffi).into();
            let place = Place { worker: WorkerId(worker), circuit, side };
            prop_assert_eq!(Place::unpack(place.pack()), place);
        }
    }
}
