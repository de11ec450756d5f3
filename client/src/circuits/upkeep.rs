//! What is done without being asked: circuits built ahead, worn ones closed, links that nobody uses
//! given up (path-spec 2.1.1, 2.1.6).
//!
//! For each kind of port that was wanted in the last hour (in the first one: 80) two clean circuits
//! are kept ready, [`CLEAN_CIRCUITS_MAX`] at most; and paths while onion services are in use, so
//! that most circuits for them cost one round trip (with full vanguards, two more).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cepa_crypto::Rng;
use cepa_dir::NetworkView;
use cepa_wire::{Now, Repeats};

use super::Circuits;
use super::pool::{CIRCUITS_MAX, CLEAN_MAX, Entry, Purpose, Stage};
use crate::command::Command;
use crate::context::Context;
use crate::select::paths::{ExitNeed, PathError};

/// Clean circuits that are kept for each need.
pub(crate) const CLEAN_EACH: usize = 2;
/// Most clean circuits.
pub(crate) const CLEAN_CIRCUITS_MAX: usize = 6;
/// Paths for onion services that are kept ready: a visit takes three.
pub(crate) const READY_PATHS: usize = 3;
/// Needs that are remembered.
const NEEDS_MAX: usize = 8;
/// How long a need is remembered (`PredictedPortsRelevanceTime`).
const NEED_AGE_MAX: Duration = Duration::from_secs(3600);
/// Idle channels are looked for that often.
const LINKS_REVIEW: Duration = Duration::from_secs(30);
/// How long to wait where no path is found.
const NO_PATH_WAIT: Duration = Duration::from_secs(1);
/// Circuits that may fail in a row before the next ones wait.
const FAILURES_FREE: u32 = 3;
/// The first wait then, which doubles with each further failure.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait where the first hop stands: the next path may be better.
const BACKOFF_BEYOND_MAX: Duration = Duration::from_millis(400);
/// The longest wait.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// What most clients want first.
const WEB: ExitNeed = ExitNeed::Port {
    port: 80,
    is_ipv6: false,
};

/// When circuits are begun, and for what.
#[derive(Debug)]
pub(crate) struct Upkeep {
    /// Circuits that failed in a row.
    failures: u32,
    /// No circuit is begun before this.
    launch_after: Instant,
    /// A circuit was built.
    has_built: bool,
    /// No circuit more can be held.
    full: Repeats,
    /// What a client that was asked for nothing yet is ready for.
    first_need: ExitNeed,
    /// Since when it is.
    began: Instant,
    /// The latest at the end.
    needs: VecDeque<(ExitNeed, Instant)>,
    links_at: Instant,
    /// When the next circuit is built only to learn how long that takes.
    learn_at: Instant,
    /// A controller wants no circuits but those that are asked for.
    is_asked_only: bool,
    /// How long circuits are kept that nobody uses, and needs remembered, if an operator says it.
    age_overridden: Option<Duration>,
}

impl Upkeep {
    pub(crate) fn new(now: Now) -> Self {
        Upkeep {
            failures: 0,
            launch_after: now.mono,
            has_built: false,
            full: Repeats::default(),
            first_need: WEB,
            began: now.mono,
            needs: VecDeque::new(),
            links_at: now.mono + LINKS_REVIEW,
            learn_at: now.mono,
            is_asked_only: false,
            age_overridden: None,
        }
    }

    /// Keeps circuits that nobody uses, and remembers needs, for so long and up to twice as long,
    /// as is drawn here (`CircuitsAvailableTimeout`).
    pub(super) fn remember_for(&mut self, age: Option<Duration>, rng: &mut Rng) {
        self.age_overridden = age.map(|age| {
            let more = rng.below(age.as_secs().max(1));
            age + Duration::from_secs(more)
        });
    }

    /// How long a circuit that nobody uses is kept.
    pub(super) fn idle_max(&self) -> Duration {
        self.age_overridden.unwrap_or(CLEAN_MAX)
    }

    /// Whether no circuits are to be built but those that are asked for.
    pub(crate) fn build_nothing_ahead(&mut self, is_asked_only: bool) {
        self.is_asked_only = is_asked_only;
    }

    /// Whether a circuit that may be used was ever built.
    pub(crate) fn has_built(&self) -> bool {
        self.has_built
    }

    /// Whether circuits may be begun now: not so soon after failures.
    pub(crate) fn may_launch(&self, now: Now) -> bool {
        self.launch_after <= now.mono
    }

    /// Somebody wants circuits after a long time: what failed then is of no interest.
    pub(crate) fn wake(&mut self, now: Now) {
        self.launch_after = now.mono;
    }

    /// No path was found: not each event is to look for one again.
    pub(crate) fn note_no_path(&mut self, now: Now) {
        self.launch_after = now.mono + NO_PATH_WAIT;
    }

    /// A circuit that was not built is gone: the next ones may have to wait.
    pub(super) fn note_failure(&mut self, entry: &Entry, now: Now) {
        let is_directory = matches!(entry.purpose, Purpose::Directory);
        // Those that were begun before the last wait say nothing more than what led to it.
        if is_directory || entry.since < self.launch_after {
            return;
        }
        let wait_max = match entry.stage {
            Stage::Channel(..) => BACKOFF_MAX,
            _ => BACKOFF_BEYOND_MAX,
        };
        self.failures = self.failures.saturating_add(1);
        let beyond = self.failures.saturating_sub(FAILURES_FREE);
        if beyond > 0 {
            let wait = BACKOFF_MIN * 2_u32.saturating_pow(beyond.min(10) - 1);
            self.launch_after = now.mono + wait.min(wait_max);
        }
    }

    /// A circuit stands: failures before it are forgotten.
    pub(super) fn note_success(&mut self) {
        self.failures = 0;
    }

    /// A circuit may be used.
    pub(super) fn note_usable(&mut self) {
        self.has_built = true;
    }

    /// No circuit more can be held.
    pub(super) fn note_full(&mut self, now: Now) {
        if let Some(unsaid) = self.full.say(now) {
            tracing::warn!(
                unsaid,
                "all {CIRCUITS_MAX} circuits are in use: what wants another waits until one is free"
            );
        }
    }

    /// Somebody wants such a circuit, and may want another.
    pub(crate) fn note_need(&mut self, need: ExitNeed, now: Now) {
        self.needs.retain(|(known, _)| *known != need);
        if self.needs.len() >= NEEDS_MAX {
            self.needs.pop_front();
        }
        self.needs.push_back((need, now.mono));
    }

    /// Other relays can be used than before.
    pub(super) fn note_view(&mut self, view: &NetworkView) {
        let serves_web = view.relays().iter().any(|relay| WEB.is_met_by(relay));
        self.first_need = if serves_web { WEB } else { ExitNeed::Any };
    }

    /// What to be ready for, the latest first.
    fn needs(&self, now: Now) -> Vec<ExitNeed> {
        let age = |since| now.mono.saturating_duration_since(since);
        let age_max = self.age_overridden.unwrap_or(NEED_AGE_MAX);
        let latest = self.needs.iter().rev();
        let young = latest.filter(|(_, since)| age(*since) < age_max);
        let mut needs: Vec<ExitNeed> = young.map(|(need, _)| *need).collect();
        if needs.is_empty() && age(self.began) < age_max {
            needs.push(self.first_need);
        }
        needs
    }
}

impl Circuits {
    /// Keeps clean circuits ready, and paths if onion services are in use.
    pub(crate) fn build_ahead(&mut self, is_onion_used: bool, ctx: &mut Context<'_>) {
        // Enough circuits wait to know that there is no better guard, and none is to be tried.
        let waiting = self.pool.waiting_count();
        let is_stuck = waiting >= CLEAN_EACH && !self.choice.guards.has_usable_primary(ctx.now);
        if is_stuck || self.upkeep.is_asked_only {
            return;
        }
        for need in self.upkeep.needs(ctx.now) {
            self.build_ahead_for(need, ctx);
        }
        if is_onion_used {
            self.build_paths_ahead(ctx);
        }
        self.build_to_learn(ctx);
    }

    fn build_ahead_for(&mut self, need: ExitNeed, ctx: &mut Context<'_>) {
        let needs_stable = need.wants_stable(self.choice.long_lived_ports());
        while self.upkeep.may_launch(ctx.now)
            && self.pool.clean_count(&need, needs_stable, ctx.now) < CLEAN_EACH
            && self.pool.clean_total(ctx.now) < CLEAN_CIRCUITS_MAX
        {
            match self.launch(need, &[], ctx) {
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(PathError::NoExit) => {
                    return self.upkeep.needs.retain(|(known, _)| *known != need);
                }
                Err(PathError::NoPath) => return self.upkeep.note_no_path(ctx.now),
            }
        }
    }

    fn build_paths_ahead(&mut self, ctx: &mut Context<'_>) {
        let waiting = self.pool.waiting_count();
        if waiting >= READY_PATHS && !self.choice.guards.has_usable_primary(ctx.now) {
            return;
        }
        let now = ctx.now;
        let count = |circuits: &Self| {
            let free = circuits.pool.free_paths(now);
            free.filter(|(_, entry)| !entry.is_waiting()).count()
        };
        while count(self) < READY_PATHS {
            match self.launch_path(None, None, ctx) {
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(_) => return self.upkeep.note_no_path(ctx.now),
            }
        }
    }

    /// Builds circuits only to learn how long that takes, until that is known (path-spec 2.4.2).
    fn build_to_learn(&mut self, ctx: &mut Context<'_>) {
        let params = self.build_times.params();
        let (every, open_max) = (params.test_every, params.learning_open_max);
        let Some(need) = self.upkeep.needs(ctx.now).first().copied() else {
            return;
        };
        if !self.build_times.is_learning()
            || self.upkeep.learn_at > ctx.now.mono
            || !self.upkeep.may_launch(ctx.now)
        {
            return;
        }
        self.upkeep.learn_at = ctx.now.mono + every;
        if self.pool.clean_total(ctx.now) < open_max
            && let Err(error) = self.launch(need, &[], ctx)
        {
            tracing::debug!("no path to learn from: {error}");
        }
    }

    /// Looks at the circuits whose time has come.
    pub(crate) fn review(&mut self, ctx: &mut Context<'_>) {
        for circuit in self.pool.due(ctx.now) {
            self.review_circuit(circuit, ctx);
        }
    }

    /// Closes links that no circuit has used for a while, now and then.
    pub(crate) fn review_links(&mut self, ctx: &mut Context<'_>) {
        if self.upkeep.links_at > ctx.now.mono {
            return;
        }
        self.upkeep.links_at = ctx.now.mono + LINKS_REVIEW;
        let plane = &ctx.plane;
        let circuits = |channel| plane.channel_circuit_count(channel);
        for channel in self.links.take_idle(circuits, ctx.now) {
            ctx.plane.channel_closed(channel, ctx.now);
            let reason = "no circuit has used it for a while";
            ctx.commands
                .push_back(Command::CloseChannel { channel, reason });
        }
    }

    /// When to look again.
    pub(crate) fn deadline(&self, now: Now) -> Option<Instant> {
        let waits = self.upkeep.launch_after > now.mono;
        let learns = self.build_times.is_learning() && self.upkeep.learn_at > now.mono;
        [
            self.pool.deadline(),
            waits.then_some(self.upkeep.launch_after),
            learns.then_some(self.upkeep.learn_at),
            Some(self.upkeep.links_at),
            self.choice.guards.poll_timeout(now),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
