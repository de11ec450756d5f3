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

use super::Circuits;
use super::circuit::{Hop, Next};
use super::destroy::{close_foreign, close_next};
use crate::switch::handover::CircuitItem;
use crate::switch::place::Place;
use crate::switch::shared::Shared;

impl Circuits {
    /// Handles what another worker's switch has handed over of a circuit.
    pub(crate) fn handle_item(&mut self, item: CircuitItem, shared: &mut Shared, now: Now) {
        match item {
            CircuitItem::Open {
                circuit,
                channel,
                create,
            } => open_foreign(circuit, channel, &create, shared, now),
            CircuitItem::Opened {
                circuit,
                host,
                channel,
                circ_id,
            } => {
                let worker = host;
                let hop = Hop {
                    worker,
                    channel,
                    circ_id,
                };
                self.foreign_opened(circuit, hop, shared);
            }
            CircuitItem::Forward {
                circuit,
                channel,
                cell,
            } => forward_foreign(circuit, channel, &cell, shared, now),
            CircuitItem::Backward { circuit, mut cell } => {
                self.backward_foreign(circuit, &mut cell, shared, now);
            }
            CircuitItem::Close {
                circuit,
                channel,
                circ_id,
                reason,
            } => {
                if shared.channels.names(channel, circ_id, circuit) {
                    shared.channels.forget(channel, circ_id);
                    shared.send_destroy(channel, circ_id, reason);
                }
            }
            CircuitItem::Closed {
                circuit,
                circ_id,
                reason,
            } => self.closed_foreign(circuit, circ_id, reason, shared),
            CircuitItem::Crossed {
                circuit,
                from,
                mut cell,
            } => self.crossed(circuit, from, &mut cell, shared, now),
        }
    }

    /// Owner: the host has sent CREATE2.
    fn foreign_opened(&mut self, key: CircuitKey, opened: Hop, shared: &mut Shared) {
        if let Some(circuit) = self.circuit_mut(key)
            && let Next::Creating(hop) = &mut circuit.next
            && (hop.worker, hop.channel) == (opened.worker, opened.channel)
            && hop.circ_id == CircId::NONE
        {
            hop.circ_id = opened.circ_id;
        } else {
            close_next(key, opened, DestroyReason::DESTROYED, shared);
        }
    }

    /// Owner: a cell of the next hop of our circuit.
    fn backward_foreign(
        &mut self,
        key: CircuitKey,
        cell: &mut CellBuf,
        shared: &mut Shared,
        now: Now,
    ) {
        let hop = self.get(key).and_then(|circuit| circuit.next.hop());
        if hop.is_none_or(|hop| hop.circ_id != cell::circ_id(cell)) {
            return;
        }
        match cell::command(cell) {
            Command::RELAY | Command::RELAY_EARLY => self.backward(key, cell, shared, now),
            Command::DESTROY => {
                let reason = DestroyReason::read(cell::payload(cell));
                self.next_destroyed(key, reason, shared, now);
            }
            _ => self.handle_created(key, cell, shared, now),
        }
    }

    /// Owner: the next leg, which had this id if it had one, is gone; the host has forgotten it.
    fn closed_foreign(
        &mut self,
        key: CircuitKey,
        circ_id: CircId,
        reason: DestroyReason,
        shared: &mut Shared,
    ) {
        let Some(circuit) = self.circuit_mut(key) else {
            return;
        };
        let hop = circuit.next.hop();
        if hop.is_some_and(|hop| hop.circ_id == circ_id || circ_id == CircId::NONE) {
            circuit.next = Next::None;
            self.destroy(key, reason, shared);
        }
    }
}

/// Host: gives another worker's circuit an id on our channel.
fn open_foreign(
    circuit: CircuitRef,
    channel: ChannelKey,
    create: &Payload,
    shared: &mut Shared,
    now: Now,
) {
    let place = Place::unpack(circuit);
    let (channels, rng) = (&mut shared.channels, &mut shared.rng);
    let item = match channels.send_create2(channel, circuit, create, rng, now) {
        Some(circ_id) => CircuitItem::Opened {
            circuit: place.circuit,
            host: shared.outbox.own,
            channel,
            circ_id,
        },
        None => CircuitItem::Closed {
            circuit: place.circuit,
            circ_id: CircId::NONE,
            reason: DestroyReason::CONNECTFAILED,
        },
    };
    shared.outbox.push(place.worker, item);
}

/// Host: queues a cell of another worker's circuit.
fn forward_foreign(
    circuit: CircuitRef,
    channel: ChannelKey,
    cell: &CellBuf,
    shared: &mut Shared,
    now: Now,
) {
    let circ_id = cell::circ_id(cell);
    if shared.channels.names(channel, circ_id, circuit)
        && !shared.channels.queue(channel, cell, now)
    {
        close_foreign(channel, circ_id, Place::unpack(circuit), shared);
    }
}
