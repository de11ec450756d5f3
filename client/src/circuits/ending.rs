//! Circuits that end: closed by us, lost in the plane, late, worn (path-spec 2.1.6, 2.5); and what
//! an end says of guards and vanguards.

use cepa_circuit::CircuitKey;
use cepa_wire::Now;
use cepa_wire::destroy::DestroyReason;

use super::pool::{Entry, REVIEW_AGAIN};
use super::{Circuits, Event, by_hand};
use crate::context::Context;
use crate::names::CircuitId;
use crate::plane::CircuitClose;
use crate::select::vanguards::Vanguards;
use crate::status::{CircuitChange, CircuitEnd};

impl Circuits {
    /// Takes a circuit out of the pool, for whoever it is bound to; its guard is told nothing.
    pub(crate) fn take(
        &mut self,
        id: CircuitId,
        end: CircuitEnd,
        ctx: &mut Context<'_>,
    ) -> Option<Entry> {
        let entry = self.pool.entry(id)?;
        self.path_bias.note_end(entry, &self.choice.guards);
        let change = match entry.has_all_hops() {
            true => CircuitChange::Closed(end),
            false => CircuitChange::Failed(end),
        };
        self.tell(id, change, ctx);
        let entry = self.pool.remove(id)?;
        if let Some(attempt) = entry.attempt {
            self.choice.guards.handle_end(attempt);
        }
        Some(entry)
    }

    /// Takes a circuit out of the pool, and tells so whom it was for.
    fn forget(&mut self, id: CircuitId, end: CircuitEnd, ctx: &mut Context<'_>) {
        let name = self.pool.name_of(id);
        self.take(id, end, ctx);
        let reason = match end {
            CircuitEnd::Plane(reason) => Some(reason),
            _ => None,
        };
        self.events.push_back(Event::Gone(id, name, reason));
    }

    /// Closes a circuit; nobody is to blame.
    pub(crate) fn close(&mut self, id: CircuitId, end: CircuitEnd, ctx: &mut Context<'_>) {
        let key = self.pool.entry(id).and_then(|entry| entry.key());
        self.forget(id, end, ctx);
        if let Some(key) = key {
            ctx.plane.close_circuit(key, DestroyReason::NONE, ctx.now);
        }
    }

    /// A circuit of the plane's is gone; with the hop that was being added if it was not built.
    pub(crate) fn handle_gone(
        &mut self,
        key: CircuitKey,
        failed: Option<usize>,
        reason: CircuitClose,
        ctx: &mut Context<'_>,
    ) {
        let Some(id) = self.pool.by_key(key) else {
            return;
        };
        self.judge_first_hop(id, failed, reason, ctx.now);
        if let Some(entry) = self.pool.entry(id) {
            match failed {
                None => {
                    let guards = &self.choice.guards;
                    self.path_bias.note_collapse(entry, reason, guards);
                }
                Some(hop) => {
                    let vanguards = &mut self.choice.vanguards;
                    blame(entry, hop, reason, vanguards, ctx.now);
                }
            }
        }
        let end = CircuitEnd::Plane(reason);
        if failed.is_some() {
            self.drop_circuit(id, end, ctx);
        } else {
            self.forget(id, end, ctx);
        }
    }

    /// What a circuit that failed says of its guard: nothing, whoever may have brought that about,
    /// unless the guard has done nothing but refuse (`tor` 0.4.9.13: guards are blamed for
    /// connections that fail, no longer for circuits and streams).
    fn judge_first_hop(
        &mut self,
        id: CircuitId,
        failed: Option<usize>,
        reason: CircuitClose,
        now: Now,
    ) {
        let is_refusal = failed == Some(0)
            && matches!(
                reason,
                CircuitClose::Destroyed(_) | CircuitClose::Violation(_)
            );
        let Some(entry) = self.pool.entry(id).filter(|_| is_refusal) else {
            return;
        };
        let relay = entry.first;
        if self.links.refused(&relay) {
            tracing::info!(%relay, "a relay refuses all circuits");
            self.choice.guards.handle_unreachable(&relay, now);
        }
    }

    /// A circuit that was not built is gone: the next ones may have to wait.
    pub(super) fn drop_circuit(&mut self, id: CircuitId, end: CircuitEnd, ctx: &mut Context<'_>) {
        if let Some(entry) = self.pool.entry(id).filter(|one| !one.is_path_given()) {
            self.upkeep.note_failure(entry, ctx.now);
        }
        self.forget(id, end, ctx);
    }

    /// A circuit was not built in time, or a worn one is no longer used.
    pub(super) fn review_circuit(&mut self, id: CircuitId, ctx: &mut Context<'_>) {
        if by_hand::review(self, id, ctx) {
            return;
        }
        let Some(entry) = self.pool.entry_mut(id) else {
            return;
        };
        let (key, is_built) = (entry.key(), entry.has_all_hops());
        let status = key.and_then(|key| ctx.plane.circuit_status(key));
        if is_built {
            if let Some(bound) = entry.bound {
                return self.events.push_back(Event::Due(id, bound.name));
            }
            if status.is_some_and(|status| status.stream_count > 0) {
                entry.review_at = ctx.now.mono + REVIEW_AGAIN;
                return entry.keep_alive(ctx.now);
            }
            self.forget(id, CircuitEnd::Finished, ctx);
        } else if !self.give_up_building(id, status.map_or(0, |status| status.hop_count), ctx) {
            return;
        }
        if let Some(key) = key {
            ctx.plane.close_circuit(key, DestroyReason::NONE, ctx.now);
        }
    }
}

/// A circuit ended while the hop of this index was being added: what that says of vanguards.
fn blame(entry: &Entry, hop: usize, reason: CircuitClose, vanguards: &mut Vanguards, now: Now) {
    let mut failed = |hop, is_told| vanguard_failed(entry, hop, is_told, vanguards, now);
    match reason {
        CircuitClose::Truncated(before, _) if before + 1 == hop => failed(hop, true),
        // `tor`'s relays say the same if they die and if they cannot reach the next one.
        CircuitClose::Truncated(before, _) => (before + 1..=hop).for_each(|hop| failed(hop, false)),
        CircuitClose::Destroyed(_) if hop == 1 => failed(hop, true),
        CircuitClose::Violation(_) => failed(hop, true),
        _ => {}
    }
}

/// A circuit for onion services did not get to its hop of this index.
pub(super) fn vanguard_failed(
    entry: &Entry,
    hop: usize,
    is_told: bool,
    vanguards: &mut Vanguards,
    now: Now,
) {
    if let Some(relay) = entry.onion_path().and_then(|path| path.get(hop)) {
        vanguards.handle_failure(hop, &relay.rsa_id, is_told, now);
    }
}
