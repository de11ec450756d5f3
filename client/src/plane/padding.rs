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
use cepa_crypto::Rng;
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
    /// Whether a machine may be asked for on a circuit.
    fn allows(&self, of: &CircuitPadding) -> bool {
        !(self.params.is_disabled || self.params.is_reduced || of.is_refused)
    }

    /// A circuit has served that is kept so that it looks like others; the one that goes instead
    /// where there are too many.
    fn retire(&mut self, key: CircuitKey, now: Now) -> Option<CircuitKey> {
        tracing::debug!("a circuit is kept to look like others");
        self.retired.push((now.mono + RETIRED_FOR, key));
        (self.retired.len() > RETIRED_MAX).then(|| self.retired.remove(0).1)
    }

    /// A circuit that was kept for long enough.
    fn pop_retired(&mut self, now: Now) -> Option<CircuitKey> {
        let (until, _) = self.retired.first()?;
        (*until <= now.mono).then(|| self.retired.remove(0).1)
    }

    /// Whether padding goes over a circuit whose time has come; when it does next is planned.
    fn pads(&mut self, key: CircuitKey, of: &mut CircuitPadding, rng: &mut Rng, now: Now) -> bool {
        let Some(machine) = &mut of.machine else {
            return false;
        };
        let Some(due) = machine.due() else {
            return false;
        };
        if due > now.mono {
            self.schedule.push(due, key);
            return false;
        }
        if self.params.is_disabled || !self.budget.allows(&self.params) {
            machine.end();
            return false;
        }
        machine.sent(rng, now.mono);
        if let Some(due) = machine.due() {
            self.schedule.push(due, key);
        }
        let machine = machine.machine;
        tracing::debug!(%machine, "a padding cell goes");
        true
    }

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

impl CircuitPadding {
    /// PADDING_NEGOTIATED came from a hop. False if that is none of its business.
    pub(super) fn handle_negotiated(&mut self, hop: usize, data: &[u8]) -> bool {
        let (Some(held), PADDING_HOP, Ok(answer)) =
            (self.machine, hop, MachineNegotiated::read(data))
        else {
            return false;
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
            self.machine = None;
            self.is_refused |= command == MachineCommand::Start;
        }
        true
    }

    /// DROP came from a hop. False if no machine is running there.
    pub(super) fn handle_drop(&self, hop: usize) -> bool {
        let held = self.machine.as_ref().filter(|_| hop == PADDING_HOP);
        if let Some(held) = held {
            tracing::debug!(machine = %held.machine, "a padding cell came");
        }
        held.is_some()
    }

    /// Begins a machine; the number under which the hop is asked for it, and when it pads first.
    fn begin(&mut self, machine: MachineType, rng: &mut Rng, now: Now) -> (u32, Option<Instant>) {
        let counter = self.count.saturating_add(1);
        let begun = PaddingMachine::at_client(machine, counter, rng, now.mono);
        self.machine = begun;
        self.count = counter;
        self.outlives |= machine == MachineType::HIDE_INTRO;
        (counter, begun.and_then(|begun| begun.due()))
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
        let is_there = circuit.origin.hop_count() > PADDING_HOP;
        if !is_there || !self.padding.allows(&circuit.padding) {
            return;
        }
        let (counter, due) = circuit.padding.begin(machine, &mut self.rng, now);
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
            && let Some(due) = due
        {
            self.padding.schedule.push(due, key);
        }
    }

    /// A circuit has served: it is closed, at once or, if padding hides what it is, when one of
    /// another kind would be.
    pub fn retire_circuit(&mut self, key: CircuitKey, now: Now) {
        let Some(circuit) = self.circuits.get(key) else {
            return;
        };
        let is_hidden = circuit.padding.outlives && !circuit.padding.is_refused;
        let goes = match is_hidden {
            true => self.padding.retire(key, now),
            false => Some(key),
        };
        if let Some(key) = goes {
            self.close_circuit(key, DestroyReason::NONE, now);
        }
    }

    /// Sends the circuit padding that is due, and closes circuits that were kept for long enough.
    pub(super) fn handle_padding(&mut self, now: Now) {
        while let Some(key) = self.padding.schedule.pop_due(now.mono) {
            if let Some(circuit) = self.circuits.get_mut(key)
                && self
                    .padding
                    .pads(key, &mut circuit.padding, &mut self.rng, now)
            {
                let command = RelayCommand::DROP;
                self.send_message(key, PADDING_HOP, command, StreamId::NONE, &[], now);
            }
        }
        while let Some(key) = self.padding.pop_retired(now) {
            self.close_circuit(key, DestroyReason::NONE, now);
        }
    }
}

#[cfg(test)]
mod tests;
