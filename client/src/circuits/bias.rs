//! What becomes of circuits, counted for their guards (path-spec 7).
//!
//! A circuit to which a stream was attached counts as used; it has answered if the exit said
//! anything that only it can say. One that we close without an answer is not counted, as it is not
//! probed.

use crate::names::CircuitId;
use cepa_circuit::StreamKey;

use super::Circuits;
use super::path_bias::{BiasEvent, Level};
use super::pool::Purpose;
use crate::plane::{CircuitClose, Plane};

impl Circuits {
    /// Counts something that happened to a circuit, if its first hop is a guard of ours.
    pub(super) fn note_bias(&mut self, id: CircuitId, event: BiasEvent) {
        let Some(entry) = self.pool.entry(id) else {
            return;
        };
        let guard = entry.first;
        let is_counted = !matches!(entry.purpose, Purpose::Directory)
            && self.choice.guards.sampled().any(|one| one == guard);
        if !is_counted {
            return;
        }
        match self.path_bias.count(guard, event) {
            None | Some(Level::Fine) => {}
            Some(Level::Notice) => {
                tracing::info!("guard {guard} lets fewer circuits succeed than others do");
            }
            Some(Level::Warn) => {
                tracing::warn!("guard {guard} fails many circuits: it may be overloaded");
            }
            Some(Level::Extreme) => {
                tracing::warn!("guard {guard} fails most circuits: it may be hostile");
            }
        }
    }

    /// A circuit was closed on us.
    pub(super) fn note_collapse(&mut self, id: CircuitId, was_built: bool, reason: CircuitClose) {
        let is_theirs = matches!(
            reason,
            CircuitClose::Destroyed(_) | CircuitClose::Truncated(..) | CircuitClose::Violation(_)
        );
        let Some(entry) = self.pool.entry(id).filter(|_| is_theirs && was_built) else {
            return;
        };
        // One for onion services may have lost a last hop that is no relay of the path.
        if entry.is_general() {
            if entry.answered == Some(false) {
                self.note_bias(id, BiasEvent::Used { answered: false });
            }
            self.note_bias(id, BiasEvent::Collapsed);
        }
    }

    /// A stream was attached to a circuit.
    pub(crate) fn note_tried(&mut self, id: CircuitId) {
        if let Some(entry) = self.pool.entry_mut(id) {
            entry.answered.get_or_insert(false);
        }
    }

    /// An exit has answered, or a stream has failed for a reason that is the circuit's.
    pub(crate) fn note_answer(&mut self, stream: StreamKey, answered: bool, plane: &Plane) {
        let id = self.of_stream(stream, plane);
        if let Some(entry) = id.and_then(|id| self.pool.entry_mut(id)) {
            entry.answered = Some(answered);
        }
    }

    /// A circuit is forgotten.
    pub(super) fn note_used(&mut self, id: CircuitId) {
        let entry = self.pool.entry(id);
        if entry.is_some_and(|entry| entry.answered == Some(true) && entry.is_general()) {
            self.note_bias(id, BiasEvent::Used { answered: true });
        }
    }
}
