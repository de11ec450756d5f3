//! Circuits whose next channel is another worker's: both halves of the hand-over.
//!
//! ```text
//! owner (previous channel)                     host (next channel)
//!        Open ────────────────────────────────────>  id allocated, CREATE2 queued
//!           <──────────────────────── Opened | Closed
//!     Forward ────────────────────────────────────>  queued
//!           <──────────────────────────────── Backward (CREATED2, RELAY, DESTROY)
//!       Close ────────────────────────────────────>  DESTROY queued, forgotten
//! ```
//!
//! Batches keep their order. Both ends check that what an item names is still what it was.

use cepa_circuit::CircuitKey;
use cepa_link::{ChannelKey, CircuitRef};
use cepa_wire::Now;
use cepa_wire::cell::{self, CellBuf, CircId, Command, Payload};
use cepa_wire::destroy::DestroyReason;

use super::Switch;
use super::circuit::{Hop, Next, Place};
use super::command::{Handover, WorkerId};

impl Switch {
    /// Handles a batch that another worker's switch has collected for this one.
    pub fn handle_handover(&mut self, items: Vec<Handover>, now: Now) {
        for item in items {
            match item {
                Handover::Open {
                    circuit,
                    channel,
                    create,
                } => {
                    self.open_foreign(circuit, channel, &create, now);
                }
                Handover::Opened {
                    circuit,
                    host,
                    channel,
                    circ_id,
                } => {
                    self.foreign_opened(
                        circuit,
                        Hop {
                            worker: host,
                            channel,
                            circ_id,
                        },
                    );
                }
                Handover::Forward {
                    circuit,
                    channel,
                    cell,
                } => {
                    self.forward_foreign(circuit, channel, &cell, now);
                }
                Handover::Backward { circuit, mut cell } => {
                    self.backward_foreign(circuit, &mut cell, now);
                }
                Handover::Close {
                    circuit,
                    channel,
                    circ_id,
                    reason,
                } => {
                    if self.names(channel, circ_id, circuit) {
                        self.forget(channel, circ_id);
                        self.send_destroy(channel, circ_id, reason);
                    }
                }
                Handover::Closed {
                    circuit,
                    circ_id,
                    reason,
                } => {
                    let hop = self
                        .circuits
                        .get(circuit)
                        .and_then(|circuit| circuit.next.hop());
                    if hop.is_some_and(|hop| hop.circ_id == circ_id || circ_id == CircId::NONE) {
                        self.closed_foreign(circuit, reason, now);
                    }
                }
                Handover::Crossed {
                    circuit,
                    from,
                    mut cell,
                } => self.crossed(circuit, from, &mut cell, now),
                Handover::Point(item) => self.handle_point(item, now),
                Handover::MemoryShort(shortage) => self.free_memory(shortage, now),
            }
        }
        self.limit_memory(now);
    }

    /// Whether an id on a channel of ours still names this circuit.
    fn names(&self, channel: ChannelKey, circ_id: CircId, circuit: CircuitRef) -> bool {
        let link = self.channels.get(channel);
        link.is_some_and(|link| link.channel.circuit(circ_id) == Some(circuit))
    }

    /// Host: gives another worker's circuit an id on our channel.
    fn open_foreign(
        &mut self,
        circuit: CircuitRef,
        channel: ChannelKey,
        create: &Payload,
        now: Now,
    ) {
        let place = Place::unpack(circuit);
        let circ_id = self.send_create(circuit, channel, create, now);
        let circuit = place.circuit;
        let item = match circ_id {
            Some(circ_id) => Handover::Opened {
                circuit,
                host: self.worker,
                channel,
                circ_id,
            },
            None => {
                let reason = DestroyReason::CONNECTFAILED;
                Handover::Closed {
                    circuit,
                    circ_id: CircId::NONE,
                    reason,
                }
            }
        };
        self.hand_over(place.worker, item);
    }

    /// Owner: the host has sent CREATE2.
    fn foreign_opened(&mut self, key: CircuitKey, opened: Hop) {
        if let Some(circuit) = self.circuits.get_mut(key)
            && let Next::Creating(hop) = &mut circuit.next
            && (hop.worker, hop.channel) == (opened.worker, opened.channel)
            && hop.circ_id == CircId::NONE
        {
            hop.circ_id = opened.circ_id;
        } else {
            self.close_next(key, opened, DestroyReason::DESTROYED);
        }
    }

    /// Host: queues a cell of another worker's circuit.
    fn forward_foreign(
        &mut self,
        circuit: CircuitRef,
        channel: ChannelKey,
        cell: &CellBuf,
        now: Now,
    ) {
        let circ_id = cell::circ_id(cell);
        if !self.names(channel, circ_id, circuit) || self.queue(channel, cell, now) {
            return;
        }
        let reason = DestroyReason::RESOURCELIMIT;
        self.forget(channel, circ_id);
        self.send_destroy(channel, circ_id, reason);
        let place = Place::unpack(circuit);
        let item = Handover::Closed {
            circuit: place.circuit,
            circ_id,
            reason,
        };
        self.hand_over(place.worker, item);
    }

    /// Owner: a cell of the next hop of our circuit.
    fn backward_foreign(&mut self, key: CircuitKey, cell: &mut CellBuf, now: Now) {
        let hop = self
            .circuits
            .get(key)
            .and_then(|circuit| circuit.next.hop());
        if hop.is_none_or(|hop| hop.circ_id != cell::circ_id(cell)) {
            return;
        }
        match cell::command(cell) {
            Command::RELAY | Command::RELAY_EARLY => self.backward(key, cell, now),
            Command::DESTROY => {
                self.next_destroyed(key, DestroyReason::read(cell::payload(cell)), now);
            }
            _ => self.handle_created(key, cell, now),
        }
    }

    /// Owner: the next leg is gone, the host has forgotten it.
    fn closed_foreign(&mut self, key: CircuitKey, reason: DestroyReason, now: Now) {
        if let Some(circuit) = self.circuits.get_mut(key) {
            circuit.next = Next::None;
        }
        self.destroy(key, reason, now);
    }

    /// The worker of this switch.
    #[must_use]
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// How many workers there are, this one included.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.handover.len()
    }
}
