//! A client that nobody uses comes to rest (`DormantClientTimeout` in tor(1)).
//!
//! After a day without a request, an open stream or a hosted service it fetches no documents and
//! builds no circuits; what stands goes when its time comes. The next request wakes it: documents
//! are fetched if they are too old, and the request waits for as long as that takes. Whoever was at
//! rest when he was stopped begins at rest.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cepa_wire::Now;

use crate::command::{Command, Saved, SavedState};
use crate::overrides::DormancyOverrides;

/// How long nobody may use it, unless the operator says it (`DormantClientTimeout`).
pub(crate) const DORMANT_AFTER: Duration = Duration::from_secs(24 * 3600);
/// The shortest time that an operator may say, as with `tor`.
const DORMANT_AFTER_MIN: Duration = Duration::from_secs(600);
/// What is kept of a client at rest, and of one that is awake.
const KEPT: [&str; 2] = ["active", "dormant"];

/// Since when nobody has used it.
#[derive(Debug)]
pub(crate) struct Dormancy {
    used_last: Instant,
    is_dormant: bool,
    /// What was kept last.
    kept: Option<bool>,
    overrides: DormancyOverrides,
}

impl Dormancy {
    /// As it was kept; one that has kept nothing at all has never run.
    pub(crate) fn restored(saved: &SavedState, overrides: DormancyOverrides, now: Now) -> Self {
        let is_known = saved.guards.is_some() || saved.consensus.is_some();
        let kept = saved.dormancy.as_deref().or(is_known.then_some(KEPT[0]));
        let kept = kept.map(|kept| kept == KEPT[1]);
        let is_dormant = kept.unwrap_or(overrides.at_first) && !overrides.wakes_at_start;
        if is_dormant {
            tracing::info!("dormant until somebody wants something");
        }
        Dormancy {
            used_last: now.mono,
            is_dormant,
            kept,
            overrides,
        }
    }

    /// What the operator wants from now on.
    pub(crate) fn set_overrides(&mut self, overrides: DormancyOverrides) {
        self.overrides = overrides;
    }

    /// Has it kept, if it is not what was kept last.
    pub(crate) fn save(&mut self, commands: &mut VecDeque<Command>) {
        if self.kept.replace(self.is_dormant) != Some(self.is_dormant) {
            let text = KEPT[usize::from(self.is_dormant)].to_owned();
            commands.push_back(Command::Save(Saved::Dormancy(text)));
        }
    }

    /// Whether streams keep it awake that carry nothing.
    pub(crate) fn counts_idle_streams(&self) -> bool {
        !self.overrides.despite_idle_streams
    }

    /// As if it had not been used for so much longer.
    #[cfg(test)]
    pub(crate) fn skip(&mut self, time: Duration) {
        self.used_last -= time;
    }

    /// Whether it is at rest.
    pub(crate) fn is_dormant(&self) -> bool {
        self.is_dormant
    }

    /// It is in use, by streams that are open.
    pub(crate) fn used(&mut self, now: Now) {
        self.used_last = now.mono;
    }

    /// Somebody wants something. True if it was at rest.
    pub(crate) fn wake(&mut self, now: Now) -> bool {
        self.used_last = now.mono;
        let was_dormant = std::mem::take(&mut self.is_dormant);
        if was_dormant {
            tracing::info!("awake again: somebody wants something");
        }
        was_dormant
    }

    /// Comes to rest at once, whoever is busy: somebody wants that (the signal DORMANT).
    pub(crate) fn rest(&mut self) {
        self.is_dormant = true;
        tracing::info!("dormant until somebody wants something");
    }

    /// Comes to rest if the time has come; whoever is busy then, or has streams open that count, is
    /// looked at as long later.
    pub(crate) fn review(&mut self, is_busy: bool, has_streams: bool, now: Now) {
        let is_busy = is_busy || (has_streams && self.counts_idle_streams());
        if self.deadline().is_none_or(|at| at > now.mono) {
            return;
        }
        if is_busy {
            self.used_last = now.mono;
            return;
        }
        self.is_dormant = true;
        let secs = self.after().as_secs();
        tracing::info!("nobody has wanted anything for {secs} s: dormant until somebody does");
    }

    /// When to look whether to come to rest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let may_rest = !self.is_dormant && !self.overrides.never;
        may_rest.then(|| self.used_last + self.after())
    }

    fn after(&self) -> Duration {
        let overridden = self
            .overrides
            .after
            .map(|after| after.max(DORMANT_AFTER_MIN));
        overridden.unwrap_or(DORMANT_AFTER)
    }
}
