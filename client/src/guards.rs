//! Entry guards: which few relays may ever be a first hop (guard-spec 4).
//!
//! ```text
//! consensus ─▶ sampled (persistent, in order) ─▶ filtered (listed now) ─▶ primary (first few)
//!                  └──first success──▶ confirmed (persistent, in order) ───────▲
//! ```
//!
//! One guard carries all traffic while it works; the next one is taken only when it fails, and it
//! is tried again on a schedule. No guard leaves the sample but by age or by being unlisted for
//! long, so that nobody can push a client from guard to guard. State survives as text ([`state`]).

mod sample;
mod state;

use std::time::{Duration, Instant, SystemTime};

use cepa_crypto::{Ed25519Id, Rng, RsaId};
use cepa_wire::Now;

pub use sample::{GuardCandidate, GuardParams};
pub use state::{GUARDS_MAX, GuardStateError};

/// After so long without success the network is taken to have been down, not the guards
/// (guard-spec appendix A, INTERNET_LIKELY_DOWN_INTERVAL).
const INTERNET_LIKELY_DOWN: Duration = Duration::from_secs(600);

/// What a circuit is for, as far as guards are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardUse {
    /// Traffic of users: the first guard that works.
    Data,
    /// Directory documents, over one hop: spread over a few guards.
    Directory,
}

/// Whether a guard can be reached, as far as we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachable {
    /// Worth a try.
    Maybe,
    /// It has worked.
    Yes,
    /// It has failed; not to be tried before its time.
    No,
}

/// When and in which place a guard was confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Confirmed {
    index: u32,
    on: SystemTime,
}

/// A sampled guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Guard {
    rsa: RsaId,
    ed: Option<Ed25519Id>,
    nickname: String,
    sampled_on: SystemTime,
    /// In the newest consensus, with all the flags.
    listed: bool,
    unlisted_since: Option<SystemTime>,
    confirmed: Option<Confirmed>,
    reachable: Reachable,
    failing_since: Option<Instant>,
    tried_last: Option<Instant>,
    /// A circuit through it, not a primary guard, is being built.
    pending: bool,
}

impl Guard {
    /// Whether it may be tried now; a failed one becomes [`Reachable::Maybe`] in time.
    fn is_usable(&self, is_primary: bool, params: &GuardParams, now: Now) -> bool {
        self.listed && (self.reachable != Reachable::No || self.is_due(is_primary, params, now))
    }

    fn is_due(&self, is_primary: bool, params: &GuardParams, now: Now) -> bool {
        let (Some(since), Some(tried)) = (self.failing_since, self.tried_last) else {
            return true;
        };
        let failing_for = now.mono.saturating_duration_since(since);
        let wait = params.retry_after(is_primary, failing_for);
        now.mono.saturating_duration_since(tried) >= wait
    }
}

/// The guards of a client.
#[derive(Debug)]
pub struct GuardSet {
    params: GuardParams,
    /// In the order in which they were sampled.
    sampled: Vec<Guard>,
    /// In the order of preference.
    primary: Vec<RsaId>,
    /// When a circuit last succeeded.
    on_internet_last: Option<Instant>,
    changed: bool,
}

impl GuardSet {
    /// No guards yet.
    #[must_use]
    pub fn new(params: GuardParams) -> Self {
        GuardSet {
            params,
            sampled: Vec::new(),
            primary: Vec::new(),
            on_internet_last: None,
            changed: false,
        }
    }

    /// The guards to try for a new circuit, best first (guard-spec 4.6). The caller takes the first
    /// that its path allows, and says so by [`GuardSet::handle_attempt`]. Empty only if no sampled
    /// guard is listed.
    pub fn ranked(&mut self, usage: GuardUse, now: Now, rng: &mut Rng) -> Vec<RsaId> {
        let mut ranked = self.ranked_usable(usage, now, rng);
        if ranked.is_empty() {
            // All have failed: each is worth a try again (guard-spec 4.6, the last case).
            for guard in &mut self.sampled {
                guard.reachable = Reachable::Maybe;
                guard.pending = false;
            }
            ranked = self.ranked_usable(usage, now, rng);
        }
        ranked
    }

    fn ranked_usable(&self, usage: GuardUse, now: Now, rng: &mut Rng) -> Vec<RsaId> {
        let usable = |id: &RsaId, is_primary| {
            let guard = self.guard(id);
            guard.is_some_and(|guard| guard.is_usable(is_primary, &self.params, now))
        };
        let mut ranked: Vec<RsaId> = self.primary.clone();
        ranked.retain(|id| usable(id, true));
        let among = match usage {
            GuardUse::Data => self.params.primary_used,
            GuardUse::Directory => self.params.primary_used_directory,
        };
        let end = among.min(ranked.len());
        shuffle(ranked.get_mut(..end).unwrap_or_default(), rng);
        let mut others: Vec<&Guard> = self
            .sampled
            .iter()
            .filter(|guard| !self.is_primary(&guard.rsa) && usable(&guard.rsa, false))
            .collect();
        // Confirmed ones in their order before the others in theirs; pending ones behind.
        others.sort_by_key(|guard| {
            let place = guard
                .confirmed
                .map_or(u32::MAX, |confirmed| confirmed.index);
            (guard.pending, place)
        });
        ranked.extend(others.iter().map(|guard| guard.rsa));
        ranked
    }

    /// A circuit through this guard is being built.
    pub fn handle_attempt(&mut self, id: &RsaId, now: Now) {
        let is_primary = self.is_primary(id);
        if let Some(guard) = self.guard_mut(id) {
            guard.tried_last = Some(now.mono);
            guard.pending |= !is_primary;
        }
    }

    /// The guard cannot be reached, or fails to build circuits (guard-spec 4.7).
    pub fn handle_failure(&mut self, id: &RsaId, now: Now) {
        if let Some(guard) = self.guard_mut(id) {
            guard.reachable = Reachable::No;
            guard.failing_since.get_or_insert(now.mono);
            guard.tried_last = Some(now.mono);
            guard.pending = false;
        }
    }

    /// A circuit through this guard was built (guard-spec 4.8). False if it is not to be used: the
    /// network was down, so that better guards are to be tried first.
    pub fn handle_success(&mut self, id: &RsaId, now: Now, rng: &mut Rng) -> bool {
        let before = self.on_internet_last.replace(now.mono);
        let is_primary = self.is_primary(id);
        let Some(guard) = self.guard_mut(id) else {
            return true;
        };
        guard.reachable = Reachable::Yes;
        guard.failing_since = None;
        guard.pending = false;
        let is_new = guard.confirmed.is_none();
        let was_down = before.is_some_and(|before| {
            now.mono.saturating_duration_since(before) > INTERNET_LIKELY_DOWN
        });
        if !is_primary && was_down {
            self.retry_primary();
            return false;
        }
        if is_new {
            self.confirm(id, now, rng);
        }
        true
    }

    /// The guard answers, on a circuit that carries no traffic of users.
    pub fn handle_reachable(&mut self, id: &RsaId) {
        if let Some(guard) = self.guard_mut(id) {
            guard.reachable = Reachable::Yes;
            guard.failing_since = None;
            guard.pending = false;
        }
    }

    /// The network may be up again: primary guards that failed are worth a try.
    pub fn retry_primary(&mut self) {
        for guard in &mut self.sampled {
            if self.primary.contains(&guard.rsa) && guard.reachable == Reachable::No {
                guard.reachable = Reachable::Maybe;
            }
        }
    }

    fn confirm(&mut self, id: &RsaId, now: Now, rng: &mut Rng) {
        let indices = self.sampled.iter().filter_map(|guard| guard.confirmed);
        let index = indices
            .map(|confirmed| confirmed.index + 1)
            .max()
            .unwrap_or(0);
        let on = before_random(now.wall, self.params.lifetime / 10, rng);
        if let Some(guard) = self.guard_mut(id) {
            guard.confirmed = Some(Confirmed { index, on });
            self.changed = true;
            self.choose_primary();
        }
    }

    /// Fills the primary guards: confirmed ones, then those that are primary already, then the
    /// rest of the sample in order (guard-spec 4.4).
    fn choose_primary(&mut self) {
        let mut listed: Vec<&Guard> = self.sampled.iter().filter(|guard| guard.listed).collect();
        listed.sort_by_key(|guard| {
            let place = guard
                .confirmed
                .map_or(u32::MAX, |confirmed| confirmed.index);
            let kept = self.primary.iter().position(|id| *id == guard.rsa);
            (place, kept.unwrap_or(usize::MAX))
        });
        let ids = listed.iter().map(|guard| guard.rsa);
        self.primary = ids.take(self.params.primary_max).collect();
    }

    /// The primary guards, best first.
    #[must_use]
    pub fn primary(&self) -> &[RsaId] {
        &self.primary
    }

    /// How many guards are sampled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sampled.len()
    }

    /// True before the first consensus.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sampled.is_empty()
    }

    /// What is known of a sampled guard's reachability.
    #[must_use]
    pub fn reachable(&self, id: &RsaId) -> Option<Reachable> {
        self.guard(id).map(|guard| guard.reachable)
    }

    /// True once after each change of what [`GuardSet::encode`] writes.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    fn is_primary(&self, id: &RsaId) -> bool {
        self.primary.contains(id)
    }

    fn guard(&self, id: &RsaId) -> Option<&Guard> {
        self.sampled.iter().find(|guard| guard.rsa == *id)
    }

    fn guard_mut(&mut self, id: &RsaId) -> Option<&mut Guard> {
        self.sampled.iter_mut().find(|guard| guard.rsa == *id)
    }
}

/// A time up to `span` before `time`, so that dates in the state give less away.
fn before_random(time: SystemTime, span: Duration, rng: &mut Rng) -> SystemTime {
    let back = Duration::from_secs(rng.below(span.as_secs()));
    time.checked_sub(back).unwrap_or(time)
}

/// Orders a list at random (Fisher-Yates).
pub(crate) fn shuffle<T>(list: &mut [T], rng: &mut Rng) {
    for at in (1..list.len()).rev() {
        let other = usize::try_from(rng.below(at as u64 + 1)).unwrap_or(0);
        list.swap(at, other);
    }
}

#[cfg(test)]
mod tests;
