//! What the switches of a relay hand to each other, in batches that keep their order.
//!
//! A circuit lives with the worker of its previous channel (the owner); its next channel may be
//! another worker's (the host). A point's key is at home with one worker, whose circuit ever it
//! names. What a worker has to tell itself of points waits here as well.

use std::collections::VecDeque;

use cepa_circuit::CircuitKey;
use cepa_limits::Shortage;
use cepa_link::{ChannelKey, CircuitRef};
use cepa_wire::cell::{CellBuf, CircId, Payload};
use cepa_wire::destroy::DestroyReason;
use cepa_wire::introduce::IntroduceStatus;

use super::place::{CircuitPlace, Place, Side, WorkerId};

/// The key that a service wants to be introduced under.
pub(super) type AuthKey = [u8; 32];
/// What a client and a service find each other by.
pub(super) type Cookie = [u8; 20];

/// What one worker's switch hands to another's.
#[expect(
    clippy::large_enum_variant,
    reason = "most items are cells, and none is allocated"
)]
#[derive(Debug)]
pub enum Handover {
    /// What concerns a circuit between two workers' channels.
    Circuit(CircuitItem),
    /// What concerns introduction and rendezvous points.
    Point(PointItem),
    /// The process holds too much: whoever gets this frees its part.
    MemoryShort(Shortage),
}

/// What workers tell each other of a circuit. It lives with the worker of its previous channel (the
/// owner); its next channel may be another worker's (the host).
#[derive(Debug)]
pub enum CircuitItem {
    /// Owner to host: give the circuit an id on this channel and send CREATE2.
    Open {
        /// The circuit, as the host's channel is to name it.
        circuit: CircuitRef,
        /// The host's channel.
        channel: ChannelKey,
        /// The payload of the CREATE2 cell.
        create: Box<Payload>,
    },
    /// Host to owner: CREATE2 is on its way.
    Opened {
        /// The owner's circuit.
        circuit: CircuitKey,
        /// The host.
        host: WorkerId,
        /// The host's channel.
        channel: ChannelKey,
        /// The id that the circuit has there.
        circ_id: CircId,
    },
    /// Owner to host: queue this cell, whose circuit id is set.
    Forward {
        /// The circuit, which the id must name on that channel still.
        circuit: CircuitRef,
        /// The host's channel.
        channel: ChannelKey,
        /// The cell.
        cell: CellBuf,
    },
    /// Host to owner: this cell came from the next hop.
    Backward {
        /// The owner's circuit.
        circuit: CircuitKey,
        /// The cell as it came.
        cell: CellBuf,
    },
    /// Owner to host: the circuit is over; send DESTROY and forget it.
    Close {
        /// The circuit, which the id must name on that channel still.
        circuit: CircuitRef,
        /// The host's channel.
        channel: ChannelKey,
        /// The id that the circuit has there.
        circ_id: CircId,
        /// The reason that the DESTROY cell is to give.
        reason: DestroyReason,
    },
    /// Host to owner: the next leg of the circuit is gone (or never came to be).
    Closed {
        /// The owner's circuit.
        circuit: CircuitKey,
        /// The id that it had; 0 if it got none.
        circ_id: CircId,
        /// Why the leg is gone.
        reason: DestroyReason,
    },
    /// To a circuit joined at a rendezvous: a cell that came on the other.
    Crossed {
        /// The circuit.
        circuit: CircuitKey,
        /// The other.
        from: CircuitPlace,
        /// The cell.
        cell: CellBuf,
    },
}

/// The key by which an introduction or rendezvous point is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PointKey {
    /// An introduction point, by its auth key.
    Intro([u8; 32]),
    /// A rendezvous point, by its cookie.
    Rendezvous([u8; 20]),
}

/// What workers tell each other of points.
#[derive(Debug)]
pub enum PointItem {
    /// To the key's home: this circuit is to be found by it.
    Register {
        /// The key.
        key: PointKey,
        /// The circuit that is to be found by it.
        circuit: CircuitPlace,
    },
    /// From the key's home: the circuit can be found.
    Registered {
        /// The circuit.
        circuit: CircuitKey,
    },
    /// To the key's home: the circuit is gone.
    Unregister {
        /// The key.
        key: PointKey,
        /// The circuit that was found by it.
        circuit: CircuitPlace,
    },
    /// The point (or what wants to become one) is to be closed.
    End {
        /// The circuit.
        circuit: CircuitKey,
        /// Why the point is closed.
        reason: DestroyReason,
    },
    /// To the auth key's home: INTRODUCE1.
    Introduce {
        /// Whom the client wants.
        auth_key: [u8; 32],
        /// The client's circuit, to which the answer goes.
        client: CircuitPlace,
        /// The message.
        body: Vec<u8>,
    },
    /// To the service's circuit: INTRODUCE1 for it.
    Introduced {
        /// The service's circuit.
        circuit: CircuitKey,
        /// The client's circuit, to which the answer goes.
        client: CircuitPlace,
        /// The message.
        body: Vec<u8>,
    },
    /// To the client's circuit: what became of its INTRODUCE1.
    Acknowledge {
        /// The client's circuit.
        circuit: CircuitKey,
        /// The status.
        status: IntroduceStatus,
    },
    /// To the cookie's home: RENDEZVOUS1.
    Join {
        /// The cookie.
        cookie: [u8; 20],
        /// The service's circuit.
        service: CircuitPlace,
        /// The handshake, which the client is to get.
        body: Vec<u8>,
    },
    /// To the client's circuit: RENDEZVOUS1 for it.
    JoinClient {
        /// The client's circuit.
        circuit: CircuitKey,
        /// The service's circuit.
        service: CircuitPlace,
        /// The handshake, which the client is to get.
        body: Vec<u8>,
    },
    /// To the service's circuit: the client's is joined with it.
    Joined {
        /// The service's circuit.
        circuit: CircuitKey,
        /// The client's.
        client: CircuitPlace,
    },
    /// To a joined circuit: the other is gone.
    Unjoined {
        /// The circuit.
        circuit: CircuitKey,
        /// The other.
        from: CircuitPlace,
        /// Why the other circuit is gone.
        reason: DestroyReason,
    },
}

/// What waits to be handed over.
#[derive(Debug)]
pub(super) struct Outbox {
    /// The worker of this switch.
    pub(super) own: WorkerId,
    /// By worker; nothing goes into its own.
    batches: Vec<Vec<Handover>>,
    /// What it tells itself.
    own_items: VecDeque<PointItem>,
}

impl Outbox {
    pub(super) fn new(own: WorkerId, workers: usize) -> Self {
        Outbox {
            own,
            batches: (0..workers).map(|_| Vec::new()).collect(),
            own_items: VecDeque::new(),
        }
    }

    /// How many workers there are, this one included.
    pub(super) fn workers(&self) -> usize {
        self.batches.len()
    }

    /// Where a circuit of ours is.
    pub(super) fn place(&self, circuit: CircuitKey) -> CircuitPlace {
        let worker = self.own;
        CircuitPlace { worker, circuit }
    }

    /// How the next channel of a circuit of ours names it.
    pub(super) fn next_of(&self, circuit: CircuitKey) -> CircuitRef {
        Place {
            worker: self.own,
            circuit,
            side: Side::Next,
        }
        .pack()
    }

    /// The worker that knows where the point of this key is.
    pub(super) fn home(&self, key: &PointKey) -> WorkerId {
        let first = match key {
            PointKey::Intro(key) => key[0],
            PointKey::Rendezvous(cookie) => cookie[0],
        };
        let workers = u8::try_from(self.batches.len()).unwrap_or(u8::MAX).max(1);
        WorkerId(first % workers)
    }

    /// Hands what concerns a circuit to another worker.
    pub(super) fn push(&mut self, worker: WorkerId, item: CircuitItem) {
        self.hand_over(worker, Handover::Circuit(item));
    }

    fn hand_over(&mut self, worker: WorkerId, item: Handover) {
        debug_assert_ne!(worker, self.own, "what is ours is done, not handed over");
        if let Some(batch) = self.batches.get_mut(usize::from(worker.0)) {
            batch.push(item);
        }
    }

    /// Tells a worker of points, which may be this one.
    pub(super) fn tell(&mut self, worker: WorkerId, item: PointItem) {
        if worker == self.own {
            self.own_items.push_back(item);
        } else {
            self.hand_over(worker, Handover::Point(item));
        }
    }

    /// Asks all other workers to free their part.
    pub(super) fn ask_for_memory(&mut self, shortage: Shortage) {
        for (worker, batch) in (0..).map(WorkerId).zip(&mut self.batches) {
            if worker != self.own {
                batch.push(Handover::MemoryShort(shortage));
            }
        }
    }

    /// What this worker has told itself.
    pub(super) fn own_items(&self) -> usize {
        self.own_items.len()
    }

    /// The next one of these.
    pub(super) fn poll_own(&mut self) -> Option<PointItem> {
        self.own_items.pop_front()
    }

    /// The batch for a worker.
    pub(super) fn take(&mut self, worker: WorkerId) -> Vec<Handover> {
        self.batches
            .get_mut(usize::from(worker.0))
            .map(std::mem::take)
            .unwrap_or_default()
    }
}
