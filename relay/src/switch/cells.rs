//! Cells of a channel, one after the other: whose they are and where they go (tor-spec 3, 5, 6).
//!
//! The hot path is [`Switch::handle_relay_cell`]: one look-up in the channel's table, one in the
//! circuits, one layer in place, one copy into a queue. Cells for circuits that are not known are
//! dropped, as they may cross a DESTROY of ours; so are commands that are not known.

use cepa_circuit::{CircuitKey, Forward, relay::RelayViolation};
use cepa_link::ChannelKey;
use cepa_wire::Now;
use cepa_wire::cell::{self, CellBuf, CellMut, Command};
use cepa_wire::destroy::DestroyReason;
use tracing::debug;

use super::Switch;
use super::circuit::{Next, Place, Side};
use super::command::{ChannelClose, Handover};
use super::rendezvous::JOINING_CELLS_MAX;

impl Switch {
    /// Handles the whole cells at the front of `buf`, which are decrypted in place, and returns how
    /// many bytes they took. An error closes the channel; it is gone already.
    pub fn handle_cells(
        &mut self,
        channel: ChannelKey,
        buf: &mut [u8],
        now: Now,
    ) -> Result<usize, ChannelClose> {
        if !self.channels.contains_key(channel) {
            return Err(ChannelClose::Unknown);
        }
        let mut consumed = 0;
        let mut rest = buf;
        while let Some((cell, len)) = cell::split_cell_mut(rest) {
            let handled = match cell {
                CellMut::Fixed(cell) => self.handle_cell(channel, cell, now),
                CellMut::Variable(cell) => check_variable(cell.command),
            };
            if let Err(reason) = handled {
                self.channel_closed(channel, now);
                return Err(reason);
            }
            consumed += len;
            rest = rest.get_mut(len..).unwrap_or_default();
        }
        self.limit_memory(now);
        Ok(consumed)
    }

    fn handle_cell(
        &mut self,
        channel: ChannelKey,
        cell: &mut CellBuf,
        now: Now,
    ) -> Result<(), ChannelClose> {
        match cell::command(cell) {
            Command::RELAY | Command::RELAY_EARLY => self.handle_relay_cell(channel, cell, now),
            Command::CREATE2 => self.handle_create2(channel, cell, now)?,
            Command::CREATE_FAST => self.handle_create_fast(channel, cell, now)?,
            Command::CREATE => self.refuse_create(channel, cell, DestroyReason::PROTOCOL),
            Command::CREATED2 | Command::CREATED | Command::CREATED_FAST => {
                self.handle_from_next(channel, cell, now);
            }
            Command::DESTROY => self.handle_destroy(channel, cell, now),
            Command::PADDING_NEGOTIATE => self.handle_padding_negotiate(channel, cell),
            // NETINFO on an open link is dropped, as all that is not known.
            _ => {}
        }
        Ok(())
    }

    fn handle_relay_cell(&mut self, channel: ChannelKey, cell: &mut CellBuf, now: Now) {
        let Some(link) = self.channels.get(channel) else {
            return;
        };
        let Some(circuit) = link.channel.circuit(cell::circ_id(cell)) else {
            return;
        };
        let place = Place::unpack(circuit);
        match place.side {
            Side::Previous => self.forward(place.circuit, cell, now),
            Side::Next if place.worker == self.worker => self.backward(place.circuit, cell, now),
            Side::Next => {
                let item = Handover::Backward {
                    circuit: place.circuit,
                    cell: *cell,
                };
                self.hand_over(place.worker, item);
            }
        }
    }

    /// A relay cell from the client's side.
    fn forward(&mut self, key: CircuitKey, cell: &mut CellBuf, now: Now) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let Some(relay) = &mut circuit.relay else {
            // A client cannot have keys before we have answered.
            return self.destroy(key, DestroyReason::PROTOCOL, now);
        };
        let command = cell::command(cell);
        match relay.handle_forward(command, cell::payload_mut(cell)) {
            Ok(Forward::Here(tag)) => {
                self.handle_message(key, command, cell::payload(cell), tag, now);
            }
            Ok(Forward::Onward) => self.onward(key, command, cell, now),
            Err(violation) => self.violated(key, violation, now),
        }
    }

    fn onward(&mut self, key: CircuitKey, command: Command, cell: &mut CellBuf, now: Now) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let hop = match &mut circuit.next {
            Next::Open(hop) => *hop,
            Next::Joined(other) => {
                let other = *other;
                return self.cross(key, other, cell, now);
            }
            Next::Joining(cells) if cells.len() < JOINING_CELLS_MAX => return cells.push(*cell),
            _ => {
                debug!("a cell that nobody recognises at the end of a circuit");
                return self.destroy(key, DestroyReason::PROTOCOL, now);
            }
        };
        cell::set_header(cell, hop.circ_id, command);
        if hop.worker == self.worker {
            if !self.queue(hop.channel, cell, now) {
                self.destroy(key, DestroyReason::RESOURCELIMIT, now);
            }
            return;
        }
        let place = Place {
            worker: self.worker,
            circuit: key,
            side: Side::Next,
        };
        let (circuit, channel) = (place.pack(), hop.channel);
        self.hand_over(
            hop.worker,
            Handover::Forward {
                circuit,
                channel,
                cell: *cell,
            },
        );
    }

    /// A relay cell from the next hop, for a circuit of ours.
    pub(super) fn backward(&mut self, key: CircuitKey, cell: &mut CellBuf, now: Now) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let is_open = matches!(circuit.next, Next::Open(_));
        let Some(relay) = circuit.relay.as_mut().filter(|_| is_open) else {
            return self.destroy(key, DestroyReason::PROTOCOL, now);
        };
        if cell::command(cell) != Command::RELAY {
            debug!("a RELAY_EARLY cell towards the client");
            return self.destroy(key, DestroyReason::PROTOCOL, now);
        }
        relay.backward(cell::payload_mut(cell));
        let previous = circuit.previous;
        cell::set_header(cell, previous.circ_id, Command::RELAY);
        self.padding_budget.note(false);
        if !self.queue(previous.channel, cell, now) {
            self.destroy(key, DestroyReason::RESOURCELIMIT, now);
        }
    }

    /// The client did what it may not.
    pub(super) fn violated(&mut self, key: CircuitKey, violation: RelayViolation, now: Now) {
        debug!(%violation, "circuit destroyed");
        self.destroy(key, DestroyReason::PROTOCOL, now);
    }

    fn handle_padding_negotiate(&mut self, channel: ChannelKey, cell: &CellBuf) {
        let Some(link) = self.channels.link_mut(channel) else {
            return;
        };
        let asked = link
            .channel
            .handle_padding_negotiate(cell, self.config.padding, &mut self.rng);
        match asked {
            Ok(()) => debug!("padding negotiated"),
            Err(ignored) => debug!(%ignored, "no padding"),
        }
    }
}

/// Of the variable cells, those of the handshake may not come on an open link (tor-spec 4);
/// VPADDING, and what is not known, are ignored.
fn check_variable(command: Command) -> Result<(), ChannelClose> {
    match command {
        Command::VERSIONS | Command::CERTS | Command::AUTH_CHALLENGE | Command::AUTHENTICATE => {
            Err(ChannelClose::Unexpected(command))
        }
        _ => Ok(()),
    }
}
