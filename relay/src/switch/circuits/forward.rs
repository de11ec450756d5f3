//! RELAY cells through a circuit, both ways (tor-spec 6; rend-spec-v3 4.3).
//!
//! This is the hot path: one look-up in the channel's table, one in the circuits, one layer in
//! place, one copy into a queue. What nobody recognises at a rendezvous point goes back on the
//! circuit that it was joined with: one layer off, one layer on; RELAY_EARLY becomes RELAY. What
//! cannot be queued closes the circuit.

use cepa_circuit::relay::RelayViolation;
use cepa_circuit::{CircuitKey, Forward, SendmeTag};
use cepa_link::ChannelKey;
use cepa_wire::Now;
use cepa_wire::cell::{self, CellBuf, Command};
use cepa_wire::destroy::DestroyReason;
use tracing::debug;

use super::Circuits;
use super::circuit::Next;
use crate::switch::handover::CircuitItem;
use crate::switch::place::{CircuitPlace, Side};
use crate::switch::shared::Shared;

/// Cells that a service may send behind its RENDEZVOUS1 before the other circuit is found. An
/// honest one waits for the client to speak.
const JOINING_CELLS_MAX: usize = 16;

/// A cell that is for us, and is in clear now.
pub(crate) struct Recognised {
    /// The circuit by which it came.
    pub(crate) circuit: CircuitKey,
    /// What a SENDME for it must say.
    pub(crate) tag: SendmeTag,
}

impl Circuits {
    /// A RELAY or RELAY_EARLY cell, which goes on unless it is for us.
    pub(crate) fn handle_relay_cell(
        &mut self,
        channel: ChannelKey,
        cell: &mut CellBuf,
        shared: &mut Shared,
        now: Now,
    ) -> Option<Recognised> {
        let place = shared.channels.circuit(channel, cell::circ_id(cell))?;
        match place.side {
            Side::Previous => return self.forward(place.circuit, cell, shared, now),
            Side::Next if place.worker == shared.outbox.own => {
                self.backward(place.circuit, cell, shared, now);
            }
            Side::Next => {
                let item = CircuitItem::Backward {
                    circuit: place.circuit,
                    cell: *cell,
                };
                shared.outbox.push(place.worker, item);
            }
        }
        None
    }

    /// A relay cell from the client's side.
    fn forward(
        &mut self,
        key: CircuitKey,
        cell: &mut CellBuf,
        shared: &mut Shared,
        now: Now,
    ) -> Option<Recognised> {
        let circuit = self.circuit_mut(key)?;
        let Some(relay) = &mut circuit.relay else {
            // A client cannot have keys before we have answered.
            self.destroy(key, DestroyReason::PROTOCOL, shared);
            return None;
        };
        let command = cell::command(cell);
        match relay.handle_forward(command, cell::payload_mut(cell)) {
            Ok(Forward::Here(tag)) => return Some(Recognised { circuit: key, tag }),
            Ok(Forward::Onward) => self.onward(key, command, cell, shared, now),
            Err(violation) => self.violated(key, violation, shared),
        }
        None
    }

    fn onward(
        &mut self,
        key: CircuitKey,
        command: Command,
        cell: &mut CellBuf,
        shared: &mut Shared,
        now: Now,
    ) {
        let Some(circuit) = self.circuit_mut(key) else {
            return;
        };
        let hop = match &mut circuit.next {
            Next::Open(hop) => *hop,
            Next::Joined(other) => {
                let other = *other;
                return self.cross(key, other, cell, shared, now);
            }
            Next::Joining(cells) if cells.len() < JOINING_CELLS_MAX => return cells.push(*cell),
            _ => {
                debug!("a cell that nobody recognises at the end of a circuit");
                return self.destroy(key, DestroyReason::PROTOCOL, shared);
            }
        };
        cell::set_header(cell, hop.circ_id, command);
        if hop.worker == shared.outbox.own {
            if !shared.channels.queue(hop.channel, cell, now) {
                self.destroy(key, DestroyReason::RESOURCELIMIT, shared);
            }
            return;
        }
        let item = CircuitItem::Forward {
            circuit: shared.outbox.next_of(key),
            channel: hop.channel,
            cell: *cell,
        };
        shared.outbox.push(hop.worker, item);
    }

    /// A relay cell from the next hop, for a circuit of ours.
    pub(super) fn backward(
        &mut self,
        key: CircuitKey,
        cell: &mut CellBuf,
        shared: &mut Shared,
        now: Now,
    ) {
        let Some(circuit) = self.circuit_mut(key) else {
            return;
        };
        let is_open = matches!(circuit.next, Next::Open(_));
        let Some(relay) = circuit.relay.as_mut().filter(|_| is_open) else {
            return self.destroy(key, DestroyReason::PROTOCOL, shared);
        };
        if cell::command(cell) != Command::RELAY {
            debug!("a RELAY_EARLY cell towards the client");
            return self.destroy(key, DestroyReason::PROTOCOL, shared);
        }
        relay.backward(cell::payload_mut(cell));
        let previous = circuit.previous;
        cell::set_header(cell, previous.circ_id, Command::RELAY);
        self.padding_budget.note(false);
        if !shared.channels.queue(previous.channel, cell, now) {
            self.destroy(key, DestroyReason::RESOURCELIMIT, shared);
        }
    }

    /// A cell that nobody recognised on a joined circuit: it goes back on the other.
    pub(crate) fn cross(
        &mut self,
        key: CircuitKey,
        other: CircuitPlace,
        cell: &mut CellBuf,
        shared: &mut Shared,
        now: Now,
    ) {
        let (circuit, from) = (other.circuit, shared.outbox.place(key));
        if other.worker == from.worker {
            return self.crossed(circuit, from, cell, shared, now);
        }
        let item = CircuitItem::Crossed {
            circuit,
            from,
            cell: *cell,
        };
        shared.outbox.push(other.worker, item);
    }

    /// A cell of the other circuit, for the client of this one.
    pub(super) fn crossed(
        &mut self,
        key: CircuitKey,
        from: CircuitPlace,
        cell: &mut CellBuf,
        shared: &mut Shared,
        now: Now,
    ) {
        let Some(circuit) = self.circuit_mut(key) else {
            return;
        };
        let (Next::Joined(other), Some(relay)) = (&circuit.next, &mut circuit.relay) else {
            return;
        };
        if *other != from {
            return;
        }
        relay.backward(cell::payload_mut(cell));
        let previous = circuit.previous;
        cell::set_header(cell, previous.circ_id, Command::RELAY);
        if !shared.channels.queue(previous.channel, cell, now) {
            self.destroy(key, DestroyReason::RESOURCELIMIT, shared);
        }
    }

    /// The client did what it may not.
    pub(crate) fn violated(
        &mut self,
        key: CircuitKey,
        violation: RelayViolation,
        shared: &mut Shared,
    ) {
        debug!(%violation, "circuit destroyed");
        self.destroy(key, DestroyReason::PROTOCOL, shared);
    }
}
