//! Circuit padding as the second hop of a visitor's circuit (padding-spec 3).
//!
//! ```text
//! PADDING_NEGOTIATE START ─▶ running ─┬─ all DROP cells are sent, or STOP ─▶ over
//!                                     └─ another START takes its place
//! ```
//!
//! A circuit has one machine at a time, and stands in the schedule once: a hostile client gets no
//! more work or memory by asking often. What the consensus says counts for each cell. Who asks for
//! a machine that we do not know, or for any while the consensus has none, is refused.

use cepa_circuit::{CircuitKey, PaddingMachine};
use cepa_wire::Now;
use cepa_wire::circuit_padding::{MachineCommand, MachineNegotiated, NegotiateMachine};
use cepa_wire::relay::{RelayCommand, StreamId};
use tracing::debug;

use super::Switch;

/// What a circuit has of padding.
#[derive(Debug, Default)]
pub(super) struct Padding {
    machine: Option<PaddingMachine>,
    /// It is in the schedule.
    is_scheduled: bool,
}

impl Switch {
    /// PADDING_NEGOTIATE.
    pub(super) fn handle_negotiate_machine(&mut self, key: CircuitKey, data: &[u8], now: Now) {
        let asked = match NegotiateMachine::read(data) {
            Ok(asked) => asked,
            Err(error) => return debug!(%error, "dropped"),
        };
        let NegotiateMachine {
            command,
            machine,
            counter,
        } = asked;
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let is_accepted = match command {
            MachineCommand::Start => {
                let is_allowed = !self.config.circuit_padding.is_disabled;
                let rng = &mut self.rng;
                let begun = PaddingMachine::at_relay(machine, counter, rng, now.mono);
                let begun = begun.filter(|_| is_allowed);
                if begun.is_some() {
                    circuit.padding.machine = begun;
                }
                begun.is_some()
            }
            MachineCommand::Stop => {
                let is_meant = |held: &mut PaddingMachine| held.is_meant(machine, counter);
                if circuit.padding.machine.take_if(is_meant).is_none() {
                    // It has ended meanwhile: nobody waits for an answer.
                    return debug!(%machine, "no such machine to stop");
                }
                true
            }
        };
        debug!(%machine, ?command, is_accepted, "circuit padding negotiated");
        let answer = MachineNegotiated {
            command,
            is_accepted,
            machine,
            counter,
        };
        if self.send_negotiated(key, answer, now) {
            self.schedule_padding(key);
        }
    }

    /// DROP: padding of the client's.
    pub(super) fn handle_drop(&self, key: CircuitKey) {
        let circuit = self.circuits.get(key);
        if let Some(machine) = circuit.and_then(|circuit| circuit.padding.machine.as_ref()) {
            debug!(machine = %machine.machine, "a padding cell came");
        }
    }

    /// Sends the circuit padding that is due.
    pub(super) fn handle_padding(&mut self, now: Now) {
        while let Some(key) = self.padding.pop_due(now.mono) {
            if let Some(circuit) = self.circuits.get_mut(key) {
                circuit.padding.is_scheduled = false;
                self.pad_circuit(key, now);
            }
        }
    }

    fn pad_circuit(&mut self, key: CircuitKey, now: Now) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let Some(machine) = &mut circuit.padding.machine else {
            return;
        };
        if machine.due().is_none_or(|due| due > now.mono) {
            // Another one, that took the place of that which was scheduled.
            return self.schedule_padding(key);
        }
        let params = &self.config.circuit_padding;
        if params.is_disabled || !self.padding_budget.allows(params) {
            machine.end();
        } else {
            machine.sent(&mut self.rng, now.mono);
            let previous = circuit.previous;
            let link = self.channels.get(previous.channel);
            let queued = link.map_or(0, |link| link.channel.queued(previous.circ_id));
            // Beyond that the cell counts as sent.
            if queued <= params.queued_cells_max
                && !self.send_message(key, RelayCommand::DROP, StreamId::NONE, &[], now)
            {
                return;
            }
        }
        self.end_padding(key, now);
        self.schedule_padding(key);
    }

    /// If a machine has sent its last cell, the client is told, unless it knows by itself.
    fn end_padding(&mut self, key: CircuitKey, now: Now) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let is_over = |held: &mut PaddingMachine| held.due().is_none() && held.tells_end();
        let Some(ended) = circuit.padding.machine.take_if(is_over) else {
            return;
        };
        debug!(machine = %ended.machine, "circuit padding is over");
        let told = MachineNegotiated {
            command: MachineCommand::Stop,
            is_accepted: true,
            machine: ended.machine,
            counter: ended.counter,
        };
        self.send_negotiated(key, told, now);
    }

    /// Lists a circuit for its next cell.
    fn schedule_padding(&mut self, key: CircuitKey) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let padding = &mut circuit.padding;
        if let Some(due) = padding.machine.and_then(|machine| machine.due())
            && !std::mem::replace(&mut padding.is_scheduled, true)
        {
            self.padding.push(due, key);
        }
    }

    fn send_negotiated(&mut self, key: CircuitKey, answer: MachineNegotiated, now: Now) -> bool {
        let mut body = Vec::with_capacity(8);
        answer.write(&mut body);
        let command = RelayCommand::PADDING_NEGOTIATED;
        self.send_message(key, command, StreamId::NONE, &body, now)
    }
}
