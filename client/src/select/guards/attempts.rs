//! What the circuits of a client do with guards (guard-spec 4.6 to 4.9).
//!
//! ```text
//! begin ─▶ UsableOnCompletion ──────────built─────────────────────▶ Complete
//!     └──▶ UsableIfNoBetter ──built──▶ Waiting ──nothing better───────▲
//!                   └─the guard is primary by now, built──────────────┘
//! ```
//!
//! A circuit through a primary guard is used when it is built; one through another guard only when
//! all primary guards have failed, and no better guard's circuit is there or about to be. It is
//! confirmed when a circuit for traffic through it is used (4.3), not already when it is built: so
//! none is committed to that was tried only because the network was down. Until then a guard that
//! works ranks behind the confirmed ones and before all others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use cepa_crypto::{Rng, RsaId};
use cepa_wire::Now;

use super::{GuardUse, Guards, Reachable, since};

/// Names the use of a guard by one circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuardAttempt(u64);

/// Whether a built circuit may carry traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardUsability {
    /// The circuit may be used at once.
    Now,
    /// Perhaps later: [`Guards::poll_event`] will tell.
    Waiting,
    /// Not at all: its guard is none of ours any more.
    Never,
}

/// What becomes of a circuit through one of the guards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardEvent {
    /// A circuit that waited may carry traffic.
    Usable(GuardAttempt),
    /// A circuit is to take no more streams: it has waited too long for a better one, or its guard
    /// is of a set that is not in use any more. Close it when it has none.
    Unwanted(GuardAttempt),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    UsableOnCompletion,
    UsableIfNoBetter,
    Waiting,
    Complete,
}

#[derive(Debug)]
struct Attempt {
    guard: RsaId,
    usage: GuardUse,
    /// Guards that this circuit could not have (guard-spec 4.6, restrictions).
    excluded: Vec<RsaId>,
    stage: Stage,
    /// When it came to this stage.
    since: Now,
    /// Its guard's set is not in use any more.
    is_disowned: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    by_id: BTreeMap<GuardAttempt, Attempt>,
    id_next: u64,
    events: VecDeque<GuardEvent>,
}

impl Attempts {
    /// Guards, not primary, through which circuits are being built (`is_pending`).
    pub(super) fn pending(&self) -> BTreeSet<RsaId> {
        let attempts = self.by_id.values();
        let is_pending = |one: &&Attempt| one.stage == Stage::UsableIfNoBetter;
        attempts.filter(is_pending).map(|one| one.guard).collect()
    }

    /// The set of guards has changed.
    pub(super) fn disown_all(&mut self) {
        for (id, attempt) in &mut self.by_id {
            if !std::mem::replace(&mut attempt.is_disowned, true) {
                self.events.push_back(GuardEvent::Unwanted(*id));
            }
        }
    }

    fn set_stage(&mut self, id: GuardAttempt, stage: Stage, now: Now) {
        if let Some(attempt) = self.by_id.get_mut(&id) {
            attempt.stage = stage;
            attempt.since = now;
        }
    }

    fn waiting(&self) -> impl Iterator<Item = (GuardAttempt, &Attempt)> {
        let by_id = self.by_id.iter();
        by_id
            .filter(|(_, one)| one.stage == Stage::Waiting && !one.is_disowned)
            .map(|(id, one)| (*id, one))
    }
}

impl Guards {
    /// A circuit through this guard is begun; `excluded` are sampled guards that it could not have
    /// for its other hops' sake. `None`: the relay is no guard of the set in use, and nothing is to
    /// be told about it. Each attempt ends with [`Guards::handle_failure`] or
    /// [`Guards::handle_end`].
    pub fn begin(
        &mut self,
        id: &RsaId,
        usage: GuardUse,
        excluded: Vec<RsaId>,
        now: Now,
    ) -> Option<GuardAttempt> {
        self.guard_mut(id)?.tried_last = Some(now);
        let is_primary = self.set()?.is_primary(id);
        let name = GuardAttempt(self.attempts.id_next);
        self.attempts.id_next += 1;
        let attempt = Attempt {
            guard: *id,
            usage,
            excluded,
            stage: match is_primary || usage == GuardUse::Directory {
                true => Stage::UsableOnCompletion,
                false => Stage::UsableIfNoBetter,
            },
            since: now,
            is_disowned: false,
        };
        self.attempts.by_id.insert(name, attempt);
        Some(name)
    }

    /// The circuit is built (guard-spec 4.8).
    pub fn handle_success(&mut self, id: GuardAttempt, now: Now, rng: &mut Rng) -> GuardUsability {
        let Some(attempt) = self.attempts.by_id.get(&id) else {
            return GuardUsability::Never;
        };
        let (guard, usage, stage) = (attempt.guard, attempt.usage, attempt.stage);
        let is_disowned = attempt.is_disowned;
        let was_down = self.was_down(now);
        self.on_internet_last = Some(now);
        if is_disowned || self.guard_mut(&guard).is_none() {
            return GuardUsability::Never;
        }
        self.note_reachable(&guard, Reachable::Yes, now);
        let is_primary = self.set().is_some_and(|set| set.is_primary(&guard));
        if !is_primary && was_down {
            // It was the network, not the guards: better ones first.
            self.retry_primary();
        }
        if stage == Stage::UsableIfNoBetter && !is_primary {
            self.attempts.set_stage(id, Stage::Waiting, now);
            if !was_down {
                self.update_waiting(now, rng);
            }
        } else {
            self.complete(id, guard, usage, now, rng);
        }
        match self.attempts.by_id.get(&id).map(|one| one.stage) {
            Some(Stage::Complete) => {
                let told = GuardEvent::Usable(id);
                self.attempts.events.retain(|event| *event != told);
                GuardUsability::Now
            }
            _ => GuardUsability::Waiting,
        }
    }

    /// Whether nothing succeeded for so long that the network must have been down.
    fn was_down(&self, now: Now) -> bool {
        let limit = self.params.internet_likely_down;
        self.on_internet_last
            .is_none_or(|at| since(at, now) > limit)
    }

    fn complete(
        &mut self,
        id: GuardAttempt,
        guard: RsaId,
        usage: GuardUse,
        now: Now,
        rng: &mut Rng,
    ) {
        self.attempts.set_stage(id, Stage::Complete, now);
        let name = self.selection();
        if usage == GuardUse::Data
            && let Some(set) = self.sets.get_mut(&name)
        {
            self.changed |= set.confirm(&guard, &self.params, now, rng);
        }
    }

    /// The circuit failed before its first hop stood: its guard is taken to be unreachable
    /// (guard-spec 4.7).
    pub fn handle_failure(&mut self, id: GuardAttempt, now: Now) {
        let Some(attempt) = self.attempts.by_id.remove(&id) else {
            return;
        };
        if !attempt.is_disowned {
            self.handle_unreachable(&attempt.guard, now);
        }
    }

    /// The circuit is gone, for a reason that says nothing against its guard.
    pub fn handle_end(&mut self, id: GuardAttempt) {
        self.attempts.by_id.remove(&id);
    }

    /// What became of a circuit. To be asked until there is nothing more after each call that told
    /// something, and when [`Guards::poll_timeout`] says so.
    pub fn poll_event(&mut self, now: Now, rng: &mut Rng) -> Option<GuardEvent> {
        if self.attempts.waiting().next().is_some() {
            self.expire_waiting(now);
            self.update_waiting(now, rng);
        }
        loop {
            let event = self.attempts.events.pop_front()?;
            let (GuardEvent::Usable(id) | GuardEvent::Unwanted(id)) = event;
            if self.attempts.by_id.contains_key(&id) {
                return Some(event);
            }
        }
    }

    /// When waiting circuits are to be looked at again, after what is due now was polled.
    #[must_use]
    pub fn poll_timeout(&self, now: Now) -> Option<Instant> {
        let waiting = self.attempts.waiting();
        let idle = waiting.map(|(_, one)| one.since.mono + self.params.idle_timeout);
        let first = idle.min()?;
        let blockers = self.attempts.by_id.values();
        let blockers = blockers
            .filter(|one| one.stage == Stage::UsableIfNoBetter)
            .map(|one| one.since.mono + self.params.connect_timeout)
            .filter(|at| *at > now.mono);
        blockers.chain([first]).min()
    }

    /// Gives up circuits that have waited for too long (guard-spec 4.9).
    fn expire_waiting(&mut self, now: Now) {
        let limit = self.params.idle_timeout;
        let attempts = &mut self.attempts;
        for (id, attempt) in &mut attempts.by_id {
            let waits = attempt.stage == Stage::Waiting && !attempt.is_disowned;
            if waits && now.mono.saturating_duration_since(attempt.since.mono) >= limit {
                attempt.is_disowned = true;
                attempts.events.push_back(GuardEvent::Unwanted(*id));
            }
        }
    }

    /// Lets circuits be used that wait for nothing better any more (guard-spec 4.9).
    fn update_waiting(&mut self, now: Now, rng: &mut Rng) {
        self.refresh(now);
        let pending = self.attempts.pending();
        let waiting = self.attempts.waiting();
        let free: Vec<(GuardAttempt, RsaId, GuardUse)> = waiting
            .filter(|(_, one)| self.is_best(one, &pending, now))
            .map(|(id, one)| (id, one.guard, one.usage))
            .collect();
        for (id, guard, usage) in free {
            self.complete(id, guard, usage, now, rng);
            self.attempts.events.push_back(GuardEvent::Usable(id));
        }
    }

    /// Whether nothing better than a waiting circuit is there or about to be.
    fn is_best(&self, waiting: &Attempt, pending: &BTreeSet<RsaId>, now: Now) -> bool {
        let Some(set) = self.set() else {
            return false;
        };
        if set.is_primary(&waiting.guard) {
            return true;
        }
        let own = set.priority(&waiting.guard, pending);
        let blocks = |other: &Attempt| {
            let age = now.mono.saturating_duration_since(other.since.mono);
            let is_in_time = match other.stage {
                Stage::Complete => other.usage == GuardUse::Data,
                Stage::Waiting => true,
                Stage::UsableIfNoBetter => age < self.params.connect_timeout,
                Stage::UsableOnCompletion => false,
            };
            let rank = set.priority(&other.guard, pending);
            !other.is_disowned
                && is_in_time
                && !waiting.excluded.contains(&other.guard)
                && rank.is_some()
                && rank < own
        };
        own.is_some()
            && !set.has_usable_primary(&waiting.excluded)
            && !self.attempts.by_id.values().any(blocks)
    }
}
