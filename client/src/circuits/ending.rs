//! Circuits that end: closed by us, lost in the plane, late, worn (path-spec 2.1.6, 2.5); and what
//! an end says of guards and vanguards.

use std::time::Duration;

use cepa_circuit::CircuitKey;
use cepa_wire::Now;
use cepa_wire::destroy::DestroyReason;

use super::pool::{Entry, Purpose, REVIEW_AGAIN, Stage};
use super::{Circuits, Event};
use crate::context::Context;
use crate::names::CircuitId;
use crate::plane::CircuitClose;
use crate::status::{CircuitChange, CircuitEnd};

/// Circuits that may fail in a row before the next ones wait.
const FAILURES_FREE: u32 = 3;
/// The first wait then, which doubles with each further failure.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait where the first hop stands: the next path may be better.
const BACKOFF_BEYOND_MAX: Duration = Duration::from_millis(400);
/// The longest wait.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

impl Circuits {
    /// Takes a circuit out of the pool, for whoever it is bound to; its guard is told nothing.
    pub(crate) fn take(
        &mut self,
        id: CircuitId,
        end: CircuitEnd,
        ctx: &mut Context<'_>,
    ) -> Option<Entry> {
        self.note_used(id);
        let change = match self.pool.entry(id)?.has_all_hops() {
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
    pub(super) fn close(&mut self, id: CircuitId, end: CircuitEnd, ctx: &mut Context<'_>) {
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
        self.note_collapse(id, failed.is_none(), reason);
        if let Some(hop) = failed {
            self.blame_vanguards(id, hop, reason, ctx.now);
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

    /// A circuit ended while the hop of this index was being added.
    fn blame_vanguards(&mut self, id: CircuitId, hop: usize, reason: CircuitClose, now: Now) {
        match reason {
            CircuitClose::Truncated(before, _) if before + 1 == hop => {
                self.vanguard_failed(id, hop, true, now);
            }
            // `tor`'s relays say the same if they die and if they cannot reach the next one.
            CircuitClose::Truncated(before, _) => {
                for hop in before + 1..=hop {
                    self.vanguard_failed(id, hop, false, now);
                }
            }
            CircuitClose::Destroyed(_) if hop == 1 => self.vanguard_failed(id, hop, true, now),
            CircuitClose::Violation(_) => self.vanguard_failed(id, hop, true, now),
            _ => {}
        }
    }

    /// A circuit for onion services did not get to its hop of this index.
    pub(super) fn vanguard_failed(&mut self, id: CircuitId, hop: usize, is_told: bool, now: Now) {
        let path = self.pool.entry(id).and_then(|entry| entry.onion_path());
        if let Some(relay) = path.and_then(|path| path.get(hop)) {
            let vanguards = &mut self.choice.vanguards;
            vanguards.handle_failure(hop, &relay.rsa_id, is_told, now);
        }
    }

    /// A circuit that was not built is gone: the next ones may have to wait.
    pub(super) fn drop_circuit(&mut self, id: CircuitId, end: CircuitEnd, ctx: &mut Context<'_>) {
        let entry = self.pool.entry(id);
        let entry = entry.filter(|entry| !matches!(entry.purpose, Purpose::Directory));
        // Those that were begun before the last wait say nothing more than what led to it.
        if let Some(entry) = entry.filter(|entry| entry.since >= self.upkeep.launch_after) {
            let wait_max = match entry.stage {
                Stage::Channel(..) => BACKOFF_MAX,
                _ => BACKOFF_BEYOND_MAX,
            };
            self.upkeep.failures = self.upkeep.failures.saturating_add(1);
            let beyond = self.upkeep.failures.saturating_sub(FAILURES_FREE);
            if beyond > 0 {
                let wait = BACKOFF_MIN * 2_u32.saturating_pow(beyond.min(10) - 1);
                self.upkeep.launch_after = ctx.now.mono + wait.min(wait_max);
            }
        }
        self.forget(id, end, ctx);
    }

    /// A circuit was not built in time, or a worn one is no longer used.
    pub(super) fn review_circuit(&mut self, id: CircuitId, ctx: &mut Context<'_>) {
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
