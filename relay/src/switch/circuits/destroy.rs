//! The end of circuits: DESTROY, both ways, and TRUNCATE (tor-spec 5.4).
//!
//! DESTROY from the client's side ends the whole circuit, and the next hop is told. From ahead it
//! ends what lies ahead: the client gets RELAY_TRUNCATED and may extend anew. A channel that closes
//! ends all its circuits, and the other sides are told.

use cepa_circuit::CircuitKey;
use cepa_link::{ChannelKey, CircuitRef};
use cepa_wire::Now;
use cepa_wire::cell::{self, CellBuf, CircId};
use cepa_wire::destroy::DestroyReason;
use cepa_wire::relay::{RelayCommand, StreamId};

use super::circuit::{Circuit, Hop, Leg, Next};
use super::{Circuits, Ended};
use crate::switch::command::Command;
use crate::switch::handover::CircuitItem;
use crate::switch::place::{Place, Side};
use crate::switch::shared::Shared;

impl Circuits {
    /// Ends a circuit and tells both sides.
    pub(crate) fn destroy(&mut self, key: CircuitKey, reason: DestroyReason, shared: &mut Shared) {
        let Some(circuit) = self.get(key) else {
            return;
        };
        let Leg { channel, circ_id } = circuit.previous;
        self.end(key, reason, shared);
        shared.send_destroy(channel, circ_id, reason);
    }

    /// Ends a circuit and tells the next hop.
    fn end(&mut self, key: CircuitKey, reason: DestroyReason, shared: &mut Shared) {
        let Some(circuit) = self.circuits.remove(key) else {
            return;
        };
        let Circuit {
            previous,
            next,
            streams,
            ..
        } = *circuit;
        shared.channels.forget(previous.channel, previous.circ_id);
        if let Some(hop) = next.hop() {
            close_next(key, hop, reason, shared);
        }
        if let Next::Wanted(wanted) = &next {
            let (circuit, rsa) = (key, wanted.rsa);
            let unwanted = Command::ChannelUnwanted { circuit, rsa };
            shared.commands.push_back(unwanted);
        }
        if next.is_point() || !streams.is_empty() {
            self.ended.push_back(Ended {
                circuit: key,
                next,
                streams,
                reason,
            });
        }
    }

    pub(crate) fn handle_destroy(
        &mut self,
        channel: ChannelKey,
        cell: &CellBuf,
        shared: &mut Shared,
        now: Now,
    ) {
        let circ_id = cell::circ_id(cell);
        let Some(place) = shared.channels.circuit(channel, circ_id) else {
            return;
        };
        let reason = DestroyReason::read(cell::payload(cell));
        match place.side {
            Side::Previous => self.end(place.circuit, reason, shared),
            Side::Next => {
                shared.channels.forget(channel, circ_id);
                if place.worker == shared.outbox.own {
                    return self.next_destroyed(place.circuit, reason, shared, now);
                }
                let item = CircuitItem::Backward {
                    circuit: place.circuit,
                    cell: *cell,
                };
                shared.outbox.push(place.worker, item);
            }
        }
    }

    /// The next hop ended the circuit; it has been forgotten on its channel.
    pub(super) fn next_destroyed(
        &mut self,
        key: CircuitKey,
        reason: DestroyReason,
        shared: &mut Shared,
        now: Now,
    ) {
        let Some(circuit) = self.circuit_mut(key) else {
            return;
        };
        circuit.next = Next::None;
        self.send_truncated(key, reason, shared, now);
    }

    /// The client wants the circuit to end here (RELAY_TRUNCATE).
    pub(crate) fn truncate(&mut self, key: CircuitKey, shared: &mut Shared, now: Now) {
        let reason = DestroyReason::REQUESTED;
        let Some(circuit) = self.circuit_mut(key) else {
            return;
        };
        match std::mem::replace(&mut circuit.next, Next::None) {
            // The channel that was asked for may still be found, and be taken for that of another
            // EXTEND2. No client does this.
            Next::Wanted(_) => return self.destroy(key, reason, shared),
            // Neither does it before the other worker has answered.
            Next::Creating(hop) if hop.circ_id == CircId::NONE => {
                return self.destroy(key, reason, shared);
            }
            Next::Creating(hop) | Next::Open(hop) => close_next(key, hop, reason, shared),
            Next::None => {}
            // A point of an onion service is not what lies ahead.
            point => {
                circuit.next = point;
                return self.destroy(key, reason, shared);
            }
        }
        self.send_truncated(key, reason, shared, now);
    }

    fn send_truncated(
        &mut self,
        key: CircuitKey,
        reason: DestroyReason,
        shared: &mut Shared,
        now: Now,
    ) {
        let (command, data) = (RelayCommand::TRUNCATED, reason.truncated_data());
        self.send(key, command, StreamId::NONE, &data, shared, now);
    }

    /// The channel is gone on which a circuit had this id.
    pub(crate) fn channel_closed(
        &mut self,
        circ_id: CircId,
        circuit: CircuitRef,
        shared: &mut Shared,
    ) {
        let reason = DestroyReason::CHANNEL_CLOSED;
        let place = Place::unpack(circuit);
        match place.side {
            Side::Previous => self.end(place.circuit, reason, shared),
            Side::Next if place.worker == shared.outbox.own => {
                self.destroy(place.circuit, reason, shared);
            }
            Side::Next => {
                let item = CircuitItem::Closed {
                    circuit: place.circuit,
                    circ_id,
                    reason,
                };
                shared.outbox.push(place.worker, item);
            }
        }
    }

    /// Closes a circuit that has cells queued on a channel, whosever it is: there is no room.
    pub(crate) fn close_queued(
        &mut self,
        channel: ChannelKey,
        circ_id: CircId,
        circuit: CircuitRef,
        shared: &mut Shared,
    ) {
        let place = Place::unpack(circuit);
        if place.worker == shared.outbox.own {
            self.destroy(place.circuit, DestroyReason::RESOURCELIMIT, shared);
        } else {
            debug_assert_eq!(place.side, Side::Next);
            close_foreign(channel, circ_id, place, shared);
        }
    }
}

/// Host: there is no room on our channel for another worker's circuit; both sides are told.
pub(super) fn close_foreign(
    channel: ChannelKey,
    circ_id: CircId,
    place: Place,
    shared: &mut Shared,
) {
    if !shared.channels.forget(channel, circ_id) {
        return;
    }
    let reason = DestroyReason::RESOURCELIMIT;
    let item = CircuitItem::Closed {
        circuit: place.circuit,
        circ_id,
        reason,
    };
    shared.outbox.push(place.worker, item);
    shared.send_destroy(channel, circ_id, reason);
}

/// Tells the next hop that a circuit of ours is over.
pub(super) fn close_next(key: CircuitKey, hop: Hop, reason: DestroyReason, shared: &mut Shared) {
    let Hop {
        worker,
        channel,
        circ_id,
    } = hop;
    if worker == shared.outbox.own {
        shared.channels.forget(channel, circ_id);
        shared.send_destroy(channel, circ_id, reason);
    } else if circ_id != CircId::NONE {
        let item = CircuitItem::Close {
            circuit: shared.outbox.next_of(key),
            channel,
            circ_id,
            reason,
        };
        shared.outbox.push(worker, item);
    }
    // Without an id yet, the answer to CircuitItem::Open finds the circuit gone, and closes it.
}
