//! Relay messages that are for us (tor-spec 5.1.2, 5.4, 6.1, 6.2, 7.3; rend-spec-v3 3.1 to 4.2).
//!
//! A message that makes no sense here, or that we do not know, is dropped, as a peer newer than us
//! may send it; a fault in lengths, windows or SENDMEs ends the circuit, and under CGO an unknown
//! command or a missing stream id as well. DATA counts for the
//! circuit's window whether or not its stream is known.

use cepa_circuit::{CircuitKey, LocalQueue, RelayCircuit, SendmeTag};
use cepa_wire::Now;
use cepa_wire::cell::{self, Command as CellCommand, Payload};
use cepa_wire::destroy::DestroyReason;
use cepa_wire::relay::{RelayCommand, RelayMessage, StreamId};
use cepa_wire::sendme::{self, Sendme};
use tracing::{debug, trace};

use super::Switch;

impl Switch {
    /// A message for us came in a cell of this command (RELAY or RELAY_EARLY).
    pub(super) fn handle_message(
        &mut self,
        key: CircuitKey,
        cell_command: CellCommand,
        payload: &Payload,
        tag: SendmeTag,
        now: Now,
    ) {
        let Some(relay) = self.circuit_relay(key) else {
            return;
        };
        let RelayMessage {
            command,
            stream_id: id,
            data,
        } = match relay.format().read(payload) {
            Ok(message) => message,
            Err(error) => {
                debug!(%error, "circuit destroyed");
                return self.destroy(key, DestroyReason::PROTOCOL, now);
            }
        };
        match command {
            RelayCommand::DATA => self.handle_data(key, id, data, &tag, now),
            RelayCommand::SENDME if id == StreamId::NONE => self.handle_sendme(key, data, now),
            RelayCommand::SENDME => self.handle_stream_sendme(key, id, now),
            RelayCommand::EXTEND2 if id != StreamId::NONE => {
                debug!("EXTEND2 with a stream id dropped");
            }
            RelayCommand::EXTEND2 if cell_command != CellCommand::RELAY_EARLY => {
                debug!("EXTEND2 outside RELAY_EARLY dropped");
            }
            RelayCommand::EXTEND2 => self.handle_extend2(key, data, now),
            // TAP is not spoken, and neither is its way to extend.
            RelayCommand::EXTEND => self.destroy(key, DestroyReason::PROTOCOL, now),
            RelayCommand::TRUNCATE => self.truncate(key, now),
            RelayCommand::BEGIN | RelayCommand::BEGIN_DIR | RelayCommand::RESOLVE
                if id == StreamId::NONE =>
            {
                debug!(%command, "without a stream id, dropped");
            }
            RelayCommand::BEGIN => self.handle_begin(key, id, data, now),
            RelayCommand::BEGIN_DIR => self.handle_begin_dir(key, id, now),
            RelayCommand::RESOLVE => self.handle_resolve(key, id, data, now),
            RelayCommand::END => self.handle_end(key, id, data),
            RelayCommand::ESTABLISH_INTRO => self.handle_establish_intro(key, data, now),
            RelayCommand::INTRODUCE1 => self.handle_introduce1(key, data, now),
            RelayCommand::ESTABLISH_RENDEZVOUS => {
                self.handle_establish_rendezvous(key, data, now);
            }
            RelayCommand::RENDEZVOUS1 => self.handle_rendezvous1(key, data, now),
            RelayCommand::XOFF | RelayCommand::XON => {
                self.handle_flow_message(key, id, command, data, now);
            }
            RelayCommand::PADDING_NEGOTIATE => self.handle_negotiate_machine(key, data, now),
            RelayCommand::DROP => self.handle_drop(key),
            _ => trace!(%command, "message dropped"),
        }
    }

    pub(super) fn circuit_relay(&self, key: CircuitKey) -> Option<&RelayCircuit> {
        self.circuits.get(key)?.relay.as_ref()
    }

    fn handle_data(
        &mut self,
        key: CircuitKey,
        id: StreamId,
        data: &[u8],
        tag: &SendmeTag,
        now: Now,
    ) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let due = circuit.relay.as_mut().is_some_and(RelayCircuit::delivered);
        if due && let Some(tag) = sendme::SendmeTag::from_bytes(tag.as_bytes()) {
            let mut body = Vec::with_capacity(23);
            Sendme::Authenticated(tag).write(&mut body);
            self.send_message(key, RelayCommand::SENDME, StreamId::NONE, &body, now);
        }
        self.handle_stream_data(key, id, data, now);
    }

    /// A circuit-level SENDME: the client has taken 100 cells, or as many as were agreed on.
    fn handle_sendme(&mut self, key: CircuitKey, data: &[u8], now: Now) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let (Some(relay), previous) = (&mut circuit.relay, circuit.previous) else {
            return;
        };
        let queue = self.channels.get(previous.channel).map(|link| LocalQueue {
            cells: link.channel.queued(previous.circ_id),
            is_blocked: link.channel.is_blocked(previous.circ_id),
        });
        let accepted = Sendme::read_from(data, self.config.sendme_accept_min);
        let handled = match accepted {
            Ok(_) => relay.handle_sendme(data, queue.unwrap_or_default(), now.mono),
            Err(error) => Err(error.into()),
        };
        match handled {
            Ok(()) => self.wake_streams(key),
            Err(violation) => self.violated(key, violation, now),
        }
    }

    /// Sends a message of ours to the client; `false` if that ended the circuit, or it was gone.
    pub(super) fn send_message(
        &mut self,
        key: CircuitKey,
        command: RelayCommand,
        stream: StreamId,
        data: &[u8],
        now: Now,
    ) -> bool {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return false;
        };
        let Some(relay) = &mut circuit.relay else {
            return false;
        };
        let previous = circuit.previous;
        let mut cell = cell::new_cell(previous.circ_id, CellCommand::RELAY);
        let payload = cell::payload_mut(&mut cell);
        if relay
            .originate(payload, command, stream, data, &mut self.rng, now.mono)
            .is_err()
        {
            debug_assert!(false, "a message of ours does not fit a cell");
            self.destroy(key, DestroyReason::INTERNAL, now);
            return false;
        }
        if !self.queue(previous.channel, &cell, now) {
            self.destroy(key, DestroyReason::RESOURCELIMIT, now);
            return false;
        }
        self.padding_budget.note(command == RelayCommand::DROP);
        true
    }
}
