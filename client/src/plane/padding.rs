//! Circuit padding as the client of a circuit's second hop (padding-spec 3).
//!
//! ```text
//! start_machine ─START─▶ running ─┬─ STOP of the hop ─▶ none
//!                                 └─ refused ─▶ none, and no other on this circuit
//! ```
//!
//! Only the second hop may pad, and answer, and only where a machine was asked for and has not been
//! stopped; all else is dropped and counted. A circuit that was hidden so is not closed when it has
//! served, but kept for as long as one that carries a stream: else how short it lives would say
//! what it was.

use std::time::{Duration, Instant};

use cepa_circuit::{CircuitKey, PaddingBudget, PaddingMachine, PaddingParams, PaddingSchedule};
use cepa_wire::Now;
use cepa_wire::circuit_padding::{
    MachineCommand, MachineNegotiated, MachineType, NegotiateMachine,
};
use cepa_wire::destroy::DestroyReason;
use cepa_wire::relay::{RelayCommand, StreamId};

use super::Plane;

/// The hop that pads: the second.
const PADDING_HOP: usize = 1;
/// How long a circuit is kept that has served: `tor`'s MaxCircuitDirtiness.
pub const RETIRED_FOR: Duration = Duration::from_secs(600);
/// Most circuits that are kept so. A bound of ours; past it the oldest is closed.
pub const RETIRED_MAX: usize = 64;

/// What the plane has of circuit padding.
#[derive(Debug, Default)]
pub(super) struct Padding {
    params: PaddingParams,
    budget: PaddingBudget,
    schedule: PaddingSchedule,
    /// Circuits that are kept though they have served, and until when; in order.
    retired: Vec<(Instant, CircuitKey)>,
}

/// What a circuit has of it.
#[derive(Debug, Default)]
pub(super) struct CircuitPadding {
    machine: Option<PaddingMachine>,
    /// Machines that were begun.
    count: u32,
    /// How short it lives is to be hidden as well.
    outlives: bool,
    /// The hop has refused one.
    is_refused: bool,
}

impl Padding {
    /// A cell of ours is sent.
    pub(super) fn note(&mut self, command: RelayCommand) {
        self.budget.note(command == RelayCommand::DROP);
    }

    /// When something is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let retired = self.retired.first().map(|(until, _)| *until);
        self.schedule.next().into_iter().chain(retired).min()
    }
}

impl Plane {
    /// Takes what a consensus says.
    pub fn set_circuit_padding(&mut self, params: PaddingParams) {
        self.padding.params = params;
    }

    /// Asks the second hop of a built circuit, which must know it, for a padding machine. Nothing
    /// happens if the consensus has none, or the hop has refused one before.
    pub fn start_machine(&mut self, key: CircuitKey, machine: MachineType, now: Now) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let params = &self.padding.params;
        let is_off = params.is_disabled || params.is_reduced || circuit.padding.is_refused;
        if is_off || circuit.origin.hop_count() <= PADDING_HOP {
            return;
        }
        let counter = circuit.padding.count.saturating_add(1);
        let begun = PaddingMachine::at_client(machine, counter, &mut self.rng, now.mono);
        circuit.padding.machine = begun;
        circuit.padding.count = counter;
        circuit.padding.outlives |= machine == MachineType::HIDE_INTRO;
        let asked = NegotiateMachine {
            command: MachineCommand::Start,
            machine,
            counter,
        };
        let mut body = Vec::with_capacity(8);
        asked.write(&mut body);
        tracing::debug!(%machine, "a padding machine is asked for");
        let command = RelayCommand::PADDING_NEGOTIATE;
        if self.send_message(key, PADDING_HOP, command, StreamId::NONE, &body, now)
            && let Some(due) = begun.and_then(|begun| begun.due())
        {
            self.padding.schedule.push(due, key);
        }
    }

    /// PADDING_NEGOTIATED.
    pub(super) fn handle_negotiated(&mut self, key: CircuitKey, hop: usize, data: &[u8]) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let padding = &mut circuit.padding;
        let (Some(held), PADDING_HOP, Ok(answer)) =
            (padding.machine, hop, MachineNegotiated::read(data))
        else {
            circuit.dropped_cells += 1;
            return;
        };
        let MachineNegotiated {
            command,
            is_accepted,
            machine,
            counter,
        } = answer;
        tracing::debug!(%machine, ?command, is_accepted, "circuit padding negotiated");
        let is_over = command == MachineCommand::Stop || !is_accepted;
        if is_over && held.is_meant(machine, counter) {
            padding.machine = None;
            padding.is_refused |= command == MachineCommand::Start;
        }
    }

    /// DROP.
    pub(super) fn handle_drop(&mut self, key: CircuitKey, hop: usize) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        match &circuit.padding.machine {
            Some(held) if hop == PADDING_HOP => {
                tracing::debug!(machine = %held.machine, "a padding cell came");
            }
            _ => circuit.dropped_cells += 1,
        }
    }

    /// A circuit has served: it is closed, at once or, if padding hides what it is, when one of
    /// another kind would be.
    pub fn retire_circuit(&mut self, key: CircuitKey, now: Now) {
        let Some(circuit) = self.circuits.get(key) else {
            return;
        };
        if !circuit.padding.outlives || circuit.padding.is_refused {
            return self.close_circuit(key, DestroyReason::NONE, now);
        }
        tracing::debug!("a circuit is kept to look like others");
        let retired = &mut self.padding.retired;
        retired.push((now.mono + RETIRED_FOR, key));
        if retired.len() > RETIRED_MAX {
            let (_, oldest) = retired.remove(0);
            self.close_circuit(oldest, DestroyReason::NONE, now);
        }
    }

    /// Sends the circuit padding that is due, and closes circuits that were kept for long enough.
    pub(super) fn handle_padding(&mut self, now: Now) {
        while let Some(key) = self.padding.schedule.pop_due(now.mono) {
            self.pad_circuit(key, now);
        }
        while let Some((until, key)) = self.padding.retired.first().copied()
            && until <= now.mono
        {
            self.padding.retired.remove(0);
            self.close_circuit(key, DestroyReason::NONE, now);
        }
    }

    fn pad_circuit(&mut self, key: CircuitKey, now: Now) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let Some(machine) = &mut circuit.padding.machine else {
            return;
        };
        let Some(due) = machine.due() else {
            return;
        };
        if due > now.mono {
            return self.padding.schedule.push(due, key);
        }
        let params = &self.padding.params;
        if params.is_disabled || !self.padding.budget.allows(params) {
            return machine.end();
        }
        machine.sent(&mut self.rng, now.mono);
        if let Some(due) = machine.due() {
            self.padding.schedule.push(due, key);
        }
        let machine = machine.machine;
        tracing::debug!(%machine, "a padding cell goes");
        let command = RelayCommand::DROP;
        self.send_message(key, PADDING_HOP, command, StreamId::NONE, &[], now);
    }
}

#[cfg(test)]
mod tests;
