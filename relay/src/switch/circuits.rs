//! The circuits that begin at this switch's channels: they are taken, carry cells both ways, get
//! longer, and end.
//!
//! Streams and points belong to circuits, and are kept in tables of their own: what ends says so
//! by [`Ended`], which is worked off before the next cell.

mod circuit;
mod destroy;
mod extend;
mod foreign;
mod forward;
mod intro_point;
mod sendme;

use std::collections::{BTreeMap, VecDeque};

use cepa_circuit::{CircuitKey, PaddingBudget, RelayCircuit, StreamKey};
use cepa_link::{AcceptError, ChannelKey};
use cepa_wire::Now;
use cepa_wire::cell::{self, CellBuf};
use cepa_wire::destroy::DestroyReason;
use cepa_wire::relay::{RelayCommand, StreamId};
use slotmap::SlotMap;
use tracing::debug;

use super::command::ChannelClose;
use super::place::{CIRCUITS_MAX, Place, Side};
use super::shared::Shared;

pub(super) use circuit::{Circuit, Leg, Next};
pub(super) use forward::Recognised;
pub(super) use intro_point::IntroPoint;

/// All circuits of a switch.
#[derive(Default)]
pub(super) struct Circuits {
    /// Boxed: the table keeps its slots for ever, and a flood leaves many.
    circuits: SlotMap<CircuitKey, Box<Circuit>>,
    ended: VecDeque<Ended>,
    /// How many cells went to clients, and how many of them were padding.
    pub(super) padding_budget: PaddingBudget,
}

/// A circuit that has ended, for those who have something that belonged to it.
pub(super) struct Ended {
    pub(super) circuit: CircuitKey,
    /// What was ahead of it: perhaps a point.
    pub(super) next: Next,
    pub(super) streams: BTreeMap<StreamId, StreamKey>,
    pub(super) reason: DestroyReason,
}

impl Circuits {
    pub(super) fn len(&self) -> usize {
        self.circuits.len()
    }

    pub(super) fn contains_key(&self, key: CircuitKey) -> bool {
        self.circuits.contains_key(key)
    }

    pub(super) fn get(&self, key: CircuitKey) -> Option<&Circuit> {
        self.circuits.get(key).map(Box::as_ref)
    }

    pub(super) fn circuit_mut(&mut self, key: CircuitKey) -> Option<&mut Circuit> {
        self.circuits.get_mut(key).map(Box::as_mut)
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = CircuitKey> + '_ {
        self.circuits.keys()
    }

    /// The cryptography and window of a circuit; `None` before its handshake is done.
    pub(super) fn relay(&self, key: CircuitKey) -> Option<&RelayCircuit> {
        self.get(key)?.relay.as_ref()
    }

    /// Circuits that have ended and left something behind.
    pub(super) fn ended(&self) -> usize {
        self.ended.len()
    }

    /// The next one of them.
    pub(super) fn poll_ended(&mut self) -> Option<Ended> {
        self.ended.pop_front()
    }

    /// Takes the id of a CREATE cell for a new circuit; `None` if it was refused or dropped.
    pub(super) fn accept(
        &mut self,
        channel: ChannelKey,
        cell: &CellBuf,
        shared: &mut Shared,
        now: Now,
    ) -> Result<Option<CircuitKey>, ChannelClose> {
        let circ_id = cell::circ_id(cell);
        let limits = &shared.config.limits;
        let circuits_max = limits.circuits_max.min(CIRCUITS_MAX - 1);
        let link = shared.channels.link_mut(channel);
        let link = link.ok_or(ChannelClose::Unknown)?;
        let is_full = self.circuits.len() >= circuits_max
            || link.accepted >= limits.circuits_per_channel_max
            || !shared.memory.takes_circuits(link.accepted);
        let circuit = Circuit::new(Leg { channel, circ_id });
        let key = self.circuits.insert(Box::new(circuit));
        let place = Place {
            worker: shared.outbox.own,
            circuit: key,
            side: Side::Previous,
        };
        let accepted = if is_full {
            Err(AcceptError::TooMany)
        } else {
            link.channel.accept(circ_id, place.pack())
        };
        let Err(error) = accepted else {
            link.accepted += 1;
            link.idle_since = None;
            return Ok(Some(key));
        };
        self.circuits.remove(key);
        debug!(%error, at = ?now.wall, "circuit refused");
        let reason = match error {
            AcceptError::WrongHalf => DestroyReason::PROTOCOL,
            AcceptError::TooMany => DestroyReason::RESOURCELIMIT,
            AcceptError::Zero | AcceptError::InUse => return Ok(None),
        };
        shared.refuse_create(channel, cell, reason);
        Ok(None)
    }

    /// Sends a message of ours to the client; `false` if that ended the circuit, or it was gone.
    pub(super) fn send(
        &mut self,
        key: CircuitKey,
        command: RelayCommand,
        stream: StreamId,
        data: &[u8],
        shared: &mut Shared,
        now: Now,
    ) -> bool {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return false;
        };
        let Some(relay) = &mut circuit.relay else {
            return false;
        };
        let previous = circuit.previous;
        let mut cell = cell::new_cell(previous.circ_id, cell::Command::RELAY);
        let payload = cell::payload_mut(&mut cell);
        if relay
            .originate(payload, command, stream, data, &mut shared.rng, now.mono)
            .is_err()
        {
            debug_assert!(false, "a message of ours does not fit a cell");
            self.destroy(key, DestroyReason::INTERNAL, shared);
            return false;
        }
        if !shared.channels.queue(previous.channel, &cell, now) {
            self.destroy(key, DestroyReason::RESOURCELIMIT, shared);
            return false;
        }
        self.padding_budget.note(command == RelayCommand::DROP);
        true
    }
}
