//! Circuits with names that end, or do not get on: another path, or the end.
//!
//! At [`HS_CIRCUITS_MAX`] and [`RENDEZVOUS_MAX`] an idle visit goes, then an idle rendezvous
//! (for a rendezvous, only the latter). Else the machine that wants another is told.

use std::time::Duration;

use cepa_circuit::CircuitKey;
use cepa_wire::Now;
use cepa_wire::destroy::DestroyReason;

use super::{Failure, HS_CIRCUITS_MAX, HsCircuit, RENDEZVOUS_MAX, Stage};
use crate::circuits::pool::{CLEAN_MAX, Entry};
use crate::circuits::room::Idle;
use crate::circuits::{self, Circuits};
use crate::context::Context;
use crate::names::{CircuitId, CircuitName};
use crate::onion::Onion;
use crate::onion::action::{Ending, Event, Purpose};
use crate::plane::CircuitClose;
use crate::status::CircuitEnd;

/// How long a circuit outlives the last word to a peer that is turned away.
const DOOMED_FOR: Duration = Duration::from_millis(500);

impl Onion {
    /// A machine needs a circuit no more.
    pub(in crate::onion) fn close(
        &mut self,
        name: CircuitName,
        end: CircuitEnd,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        self.asked.cancel_over(name, ctx);
        let circuit = self.by_name.remove(&name);
        let id = circuit.and_then(|circuit| circuit.pool());
        let entry = id.and_then(|id| circuits.take(id, end, ctx));
        if let Some(key) = entry.and_then(|entry| entry.key()) {
            ctx.plane.retire_circuit(key, ctx.now);
        }
    }

    /// A circuit will not stand, or stands no more.
    pub(super) fn end(
        &mut self,
        name: CircuitName,
        ending: Ending,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let end = match ending {
            Ending::Timeout => CircuitEnd::Timeout,
            _ => CircuitEnd::Finished,
        };
        self.close(name, end, circuits, ctx);
        let circuit = name;
        self.tell(name, Event::Ended { circuit, ending }, ctx.now);
    }

    /// A circuit does not get on: another path, or the end.
    pub(super) fn drop_path(
        &mut self,
        name: CircuitName,
        failure: Failure,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let Some(circuit) = self.by_name.get_mut(&name) else {
            return;
        };
        let id = circuit.pool();
        let ending = circuit.fail(failure);
        let entry = id.and_then(|id| circuits.take(id, CircuitEnd::Finished, ctx));
        if let Some(key) = entry.and_then(|entry| entry.key()) {
            ctx.plane.close_circuit(key, DestroyReason::NONE, ctx.now);
        }
        if let Some(ending) = ending {
            self.end(name, ending, circuits, ctx);
        }
    }

    /// What became of the circuit in the pool that a name is bound to.
    pub(crate) fn handle_circuit(
        &mut self,
        name: CircuitName,
        event: circuits::Event,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        match event {
            circuits::Event::Built(id, key) => self.handle_built(name, id, key, circuits, ctx),
            circuits::Event::Gone(id, _, why) => self.handle_gone((name, id), why, circuits, ctx),
            circuits::Event::Due(id, _) => self.handle_due(name, id, circuits, ctx),
            // It waits for another.
            circuits::Event::Late(id, _) => {
                if let Some(circuit) = self.bound_to(name, id) {
                    circuit.release();
                }
            }
        }
    }

    /// The circuit that a name is bound to, if it is this one still.
    fn bound_to(&mut self, name: CircuitName, id: CircuitId) -> Option<&mut HsCircuit> {
        let circuit = self.by_name.get_mut(&name)?;
        (circuit.pool() == Some(id)).then_some(circuit)
    }

    /// A circuit in the pool is gone, and why.
    fn handle_gone(
        &mut self,
        (name, id): (CircuitName, CircuitId),
        reason: Option<CircuitClose>,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let Some(circuit) = self.bound_to(name, id) else {
            return;
        };
        match circuit.stage {
            Stage::Ready(_) => self.end(name, Ending::Closed, circuits, ctx),
            Stage::Extending(..) => {
                let before_last = 2 + usize::from(circuit.has_middle);
                self.drop_path(name, blame(reason, before_last), circuits, ctx);
            }
            Stage::Path(_) | Stage::Middle(..) | Stage::Waiting => {
                self.drop_path(name, Failure::Path, circuits, ctx);
            }
        }
    }

    /// The time of a built circuit has come.
    fn handle_due(
        &mut self,
        name: CircuitName,
        id: CircuitId,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let Some(circuit) = self.bound_to(name, id) else {
            return;
        };
        match circuit.stage {
            Stage::Ready(_) if circuit.is_marked_for_close => {
                self.end(name, Ending::Closed, circuits, ctx)
            }
            // Its machine decides how long it is of use.
            Stage::Ready(_) => {
                if let Some(entry) = circuits.pool.entry_mut(id) {
                    entry.review_at = ctx.now.mono + CLEAN_MAX;
                }
            }
            Stage::Extending(..) => self.drop_path(name, Failure::Timeout, circuits, ctx),
            Stage::Path(_) | Stage::Middle(..) | Stage::Waiting => {
                self.drop_path(name, Failure::Path, circuits, ctx);
            }
        }
    }

    /// Ends a circuit in a moment, when what was said last is on its way.
    pub(in crate::onion) fn doom(&mut self, name: CircuitName, circuits: &mut Circuits, now: Now) {
        let Some(circuit) = self.by_name.get_mut(&name) else {
            return;
        };
        circuit.is_marked_for_close = true;
        let entry = circuit.pool().and_then(|id| circuits.pool.entry_mut(id));
        if let Some(entry) = entry {
            entry.review_at = now.mono + DOOMED_FOR;
        }
    }

    /// Ends circuits that have not come to stand in time, and requests without an answer.
    pub(crate) fn review(&mut self, circuits: &mut Circuits, ctx: &mut Context<'_>) {
        let is_late = |circuit: &HsCircuit| !circuit.is_ready() && circuit.until <= ctx.now.mono;
        let late = self.by_name.iter().filter(|(_, circuit)| is_late(circuit));
        for name in late.map(|(name, _)| *name).collect::<Vec<_>>() {
            self.end(name, Ending::Timeout, circuits, ctx);
        }
        self.review_asked(ctx);
    }

    /// Where no more circuits may have names, one goes that carries nothing. Whether there is room
    /// for one of this purpose.
    pub(super) fn make_room(
        &mut self,
        purpose: Purpose,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) -> bool {
        let is_full = self.by_name.len() >= HS_CIRCUITS_MAX;
        let meets = purpose == Purpose::ServiceRendezvous;
        let is_crowded = meets && self.rendezvous_count() >= RENDEZVOUS_MAX;
        if !is_full && !is_crowded {
            return true;
        }
        // Strangers take no places but their own.
        let may_go =
            |entry: &Entry, why| entry.bound.is_some() && (!meets || why == Idle::Rendezvous);
        let idlest = circuits.idlest(ctx, may_go);
        let name = idlest.and_then(|id| circuits.pool.name_of(id));
        if let Some(name) = name {
            self.end(name, Ending::Closed, circuits, ctx);
        } else if let Some(unsaid) = self.full.say(ctx.now) {
            tracing::warn!(
                unsaid,
                ?purpose,
                "all circuits of onion services are in use: another is refused"
            );
        }
        name.is_some()
    }

    /// A stream over a circuit is over. A visit without any is not kept for long: true if that is
    /// one now.
    pub(crate) fn note_idle(
        &mut self,
        key: CircuitKey,
        circuits: &Circuits,
        ctx: &Context<'_>,
    ) -> bool {
        let id = circuits.pool.by_key(key);
        let name = id.and_then(|id| circuits.pool.name_of(id));
        let circuit = name.and_then(|name| self.by_name.get(&name));
        let Some(visit) = circuit.and_then(|circuit| circuit.visit) else {
            return false;
        };
        let status = ctx.plane.circuit_status(key);
        let is_idle = status.is_some_and(|status| status.stream_count == 0);
        if is_idle {
            self.visits.idle(visit, ctx.now);
        }
        is_idle
    }
}

/// Who is to blame that a circuit ended while its last hop was added behind this one.
fn blame(reason: Option<CircuitClose>, before_last: usize) -> Failure {
    match reason {
        Some(CircuitClose::Truncated(hop, _)) if hop == before_last => Failure::LastHop,
        Some(CircuitClose::Violation(_)) => Failure::LastHop,
        Some(CircuitClose::Truncated(..) | CircuitClose::Destroyed(_)) => Failure::Suspicion,
        _ => Failure::Path,
    }
}
