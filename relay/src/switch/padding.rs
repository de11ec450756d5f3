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

use std::time::Instant;

use cepa_circuit::{CircuitKey, PaddingMachine, PaddingSchedule};
use cepa_wire::circuit_padding::{MachineCommand, MachineNegotiated, NegotiateMachine};
use cepa_wire::relay::{RelayCommand, StreamId};
use tracing::debug;

use super::circuits::Circuits;
use super::context::Context;

/// The circuits that have padding to send.
#[derive(Debug, Default)]
pub(super) struct Padding {
    schedule: PaddingSchedule,
}

impl Padding {
    /// When the next cell is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.schedule.next()
    }

    /// PADDING_NEGOTIATE.
    pub(super) fn handle_negotiate(&mut self, key: CircuitKey, data: &[u8], ctx: &mut Context<'_>) {
        let asked = match NegotiateMachine::read(data) {
            Ok(asked) => asked,
            Err(error) => return debug!(%error, "dropped"),
        };
        let NegotiateMachine {
            command,
            machine,
            counter,
        } = asked;
        let Some(circuit) = ctx.circuits.circuit_mut(key) else {
            return;
        };
        let is_accepted = match command {
            MachineCommand::Start => {
                let is_allowed = !ctx.shared.config.circuit_padding.is_disabled;
                let rng = &mut ctx.shared.rng;
                let begun = PaddingMachine::at_relay(machine, counter, rng, ctx.now.mono);
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
        if send_negotiated(key, answer, ctx) {
            self.schedule(key, ctx.circuits);
        }
    }

    /// DROP: padding of the client's.
    pub(super) fn handle_drop(key: CircuitKey, circuits: &Circuits) {
        let circuit = circuits.get(key);
        if let Some(machine) = circuit.and_then(|circuit| circuit.padding.machine.as_ref()) {
            debug!(machine = %machine.machine, "a padding cell came");
        }
    }

    /// Sends the circuit padding that is due.
    pub(super) fn handle_timeout(&mut self, ctx: &mut Context<'_>) {
        while let Some(key) = self.schedule.pop_due(ctx.now.mono) {
            if let Some(circuit) = ctx.circuits.circuit_mut(key) {
                circuit.padding.is_scheduled = false;
                self.pad(key, ctx);
            }
        }
    }

    fn pad(&mut self, key: CircuitKey, ctx: &mut Context<'_>) {
        let params = &ctx.shared.config.circuit_padding;
        let is_allowed = !params.is_disabled && ctx.circuits.padding_budget.allows(params);
        let Some(circuit) = ctx.circuits.circuit_mut(key) else {
            return;
        };
        let Some(machine) = &mut circuit.padding.machine else {
            return;
        };
        if machine.due().is_none_or(|due| due > ctx.now.mono) {
            // Another one, that took the place of that which was scheduled.
            return self.schedule(key, ctx.circuits);
        }
        if is_allowed {
            machine.sent(&mut ctx.shared.rng, ctx.now.mono);
            // Beyond that the cell counts as sent.
            if circuit.queued(&ctx.shared.channels) <= params.queued_cells_max
                && !ctx.send(key, RelayCommand::DROP, StreamId::NONE, &[])
            {
                return;
            }
        } else {
            machine.end();
        }
        end_padding(key, ctx);
        self.schedule(key, ctx.circuits);
    }

    /// Lists a circuit for its next cell.
    fn schedule(&mut self, key: CircuitKey, circuits: &mut Circuits) {
        let Some(circuit) = circuits.circuit_mut(key) else {
            return;
        };
        let padding = &mut circuit.padding;
        if let Some(due) = padding.machine.and_then(|machine| machine.due())
            && !std::mem::replace(&mut padding.is_scheduled, true)
        {
            self.schedule.push(due, key);
        }
    }
}

/// If a machine has sent its last cell, the client is told, unless it knows by itself.
fn end_padding(key: CircuitKey, ctx: &mut Context<'_>) {
    let Some(circuit) = ctx.circuits.circuit_mut(key) else {
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
    send_negotiated(key, told, ctx);
}

fn send_negotiated(key: CircuitKey, answer: MachineNegotiated, ctx: &mut Context<'_>) -> bool {
    let mut body = Vec::with_capacity(8);
    answer.write(&mut body);
    let command = RelayCommand::PADDING_NEGOTIATED;
    ctx.send(key, command, StreamId::NONE, &body)
}
