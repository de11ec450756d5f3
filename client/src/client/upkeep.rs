//! What is done without being asked: circuits built ahead, worn ones closed, time-outs, the status
//! (path-spec 2.1.1, 2.1.6).
//!
//! For each kind of port that was wanted in the last hour (in the first one: 80) two clean circuits
//! are kept ready, [`CLEAN_CIRCUITS_MAX`] at most.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cepa_dir::NetworkView;
use cepa_wire::{Now, Repeats};

use super::Client;
use crate::command::Command;
use crate::directory::bootstrap::Facts;
use crate::select::paths::{ExitNeed, PathError};
use crate::select::rules::Permits;
use crate::status::Event;

/// Clean circuits that are kept for each need.
pub(crate) const CLEAN_EACH: usize = 2;
/// Most clean circuits.
pub(crate) const CLEAN_CIRCUITS_MAX: usize = 6;
/// Needs that are remembered.
const NEEDS_MAX: usize = 8;
/// How long a need is remembered (`PredictedPortsRelevanceTime`).
const NEED_AGE_MAX: Duration = Duration::from_secs(3600);
/// Idle channels are looked for that often.
const LINKS_REVIEW: Duration = Duration::from_secs(30);
/// How long to wait where no path is found.
const NO_PATH_WAIT: Duration = Duration::from_secs(1);
/// What most clients want first.
const WEB: ExitNeed = ExitNeed::Port {
    port: 80,
    is_ipv6: false,
};

/// The state of it.
#[derive(Debug)]
pub(crate) struct Upkeep {
    /// Circuits that failed in a row.
    pub(crate) failures: u32,
    /// No circuit is begun before this.
    pub(crate) launch_after: Instant,
    /// A circuit was built.
    pub(crate) has_built: bool,
    /// Counts new identities.
    pub(crate) session: u64,
    /// What a client that was asked for nothing yet is ready for.
    first_need: ExitNeed,
    /// Until when it is.
    first_until: Instant,
    /// The latest at the end.
    needs: VecDeque<(ExitNeed, Instant)>,
    links_at: Instant,
    /// When the next circuit is built only to learn how long that takes.
    learn_at: Instant,
    descriptors_percent: u8,
    has_view: bool,
    is_enough: bool,
    /// How far the clock of a directory is ahead of ours, in seconds.
    pub(super) skew_secs: Option<i64>,
    /// The clock is wrong.
    pub(super) skewed: Repeats,
    /// A consensus was refused.
    pub(super) refused: Repeats,
    /// No circuit more can be held.
    pub(super) full: Repeats,
    /// Nor one more for onion services.
    pub(super) named_full: Repeats,
}

impl Upkeep {
    pub(crate) fn new(now: Now) -> Self {
        Upkeep {
            failures: 0,
            launch_after: now.mono,
            has_built: false,
            session: 0,
            first_need: WEB,
            first_until: now.mono + NEED_AGE_MAX,
            needs: VecDeque::new(),
            links_at: now.mono + LINKS_REVIEW,
            learn_at: now.mono,
            descriptors_percent: 0,
            has_view: false,
            is_enough: false,
            skew_secs: None,
            skewed: Repeats::default(),
            refused: Repeats::default(),
            full: Repeats::default(),
            named_full: Repeats::default(),
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

    /// The view has changed.
    pub(crate) fn note_view(&mut self, view: Option<&NetworkView>, permits: &Permits) {
        let Some(view) = view else { return };
        let listed = view.consensus().routers.len().max(1);
        let percent = view.relays().len() * 100 / listed;
        self.descriptors_percent = u8::try_from(percent).unwrap_or(100);
        self.has_view = true;
        self.is_enough = permits.know_enough(view);
        let serves_web = view.relays().iter().any(|relay| WEB.is_met_by(relay));
        self.first_need = if serves_web { WEB } else { ExitNeed::Any };
    }

    /// No path was found: not each event is to look for one again.
    pub(crate) fn note_no_path(&mut self, now: Now) {
        self.launch_after = now.mono + NO_PATH_WAIT;
    }

    /// What to be ready for, the latest first.
    fn needs(&self, now: Now) -> Vec<ExitNeed> {
        let age = |since| now.mono.saturating_duration_since(since);
        let young = self
            .needs
            .iter()
            .rev()
            .filter(|(_, since)| age(*since) < NEED_AGE_MAX);
        let mut needs: Vec<ExitNeed> = young.map(|(need, _)| *need).collect();
        if needs.is_empty() && now.mono < self.first_until {
            needs.push(self.first_need);
        }
        needs
    }
}

impl Client {
    /// Whether paths can be chosen: enough is known, and the consensus is not too old.
    pub(super) fn is_ready(&self, now: Now) -> bool {
        self.upkeep.is_enough
            && self
                .download
                .view()
                .is_some_and(|view| view.consensus().lifetime.is_reasonably_live(now.wall))
            && (self.upkeep.has_built || self.knows_guard())
    }

    /// The best guard's microdescriptor is there, or is not coming: a client must not go over to
    /// another guard only because documents are late (guard-spec 4.12).
    fn knows_guard(&self) -> bool {
        let (Some(view), Some(guard)) = (self.download.view(), self.guards.primary().first())
        else {
            return true;
        };
        view.relay(guard).is_some() || self.fetches.downloads.is_empty()
    }

    /// Keeps clean circuits ready.
    pub(super) fn build_ahead(&mut self, now: Now) {
        if !self.is_ready(now) || self.is_dormant() {
            return;
        }
        // Enough circuits wait to know that there is no better guard, and none is to be tried.
        let waiting = self.pool.waiting_count();
        if waiting >= CLEAN_EACH && !self.guards.has_usable_primary(now) {
            return;
        }
        for need in self.upkeep.needs(now) {
            self.build_ahead_for(need, now);
        }
        self.build_paths_ahead(now);
        self.build_to_learn(now);
    }

    /// Builds circuits only to learn how long that takes, until that is known (path-spec 2.4.2).
    fn build_to_learn(&mut self, now: Now) {
        let params = self.build_times.params();
        let (every, open_max) = (params.test_every, params.learning_open_max);
        let Some(need) = self.upkeep.needs(now).first().copied() else {
            return;
        };
        if !self.build_times.is_learning()
            || self.upkeep.learn_at > now.mono
            || self.upkeep.launch_after > now.mono
        {
            return;
        }
        self.upkeep.learn_at = now.mono + every;
        if self.pool.clean_total(now) < open_max {
            let launched = self.launch(need, &[], now);
            if let Err(error) = launched {
                tracing::debug!("no path to learn from: {error}");
            }
        }
    }

    fn build_ahead_for(&mut self, need: ExitNeed, now: Now) {
        while self.upkeep.launch_after <= now.mono
            && self.pool.clean_count(&need, now) < CLEAN_EACH
            && self.pool.clean_total(now) < CLEAN_CIRCUITS_MAX
        {
            match self.launch(need, &[], now) {
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(PathError::NoExit) => {
                    return self.upkeep.needs.retain(|(known, _)| *known != need);
                }
                Err(PathError::NoPath) => return self.upkeep.note_no_path(now),
            }
        }
    }

    /// All that is due by the clock.
    pub(super) fn review(&mut self, now: Now) {
        for circuit in self.pool.due(now) {
            self.review_circuit(circuit, now);
        }
        self.review_requests(now);
        self.review_fetches(now);
        self.review_onion(now);
        self.review_rest(now);
        if self.upkeep.links_at <= now.mono {
            self.upkeep.links_at = now.mono + LINKS_REVIEW;
            let idle = {
                let plane = &self.plane;
                self.links
                    .take_idle(|channel| plane.channel_circuit_count(channel), now)
            };
            for channel in idle {
                self.plane.channel_closed(channel, now);
                let reason = "no circuit has used it for a while";
                self.commands
                    .push_back(Command::CloseChannel { channel, reason });
            }
        }
    }

    /// When to look again.
    pub(super) fn next_deadline(&self, now: Now) -> Option<Instant> {
        let waits = self.upkeep.launch_after > now.mono;
        let learns = self.build_times.is_learning() && self.upkeep.learn_at > now.mono;
        [
            self.download.poll_timeout().filter(|_| !self.is_dormant()),
            self.rest_at(),
            self.pool.deadline(),
            self.requests.deadline(),
            self.fetches.deadline(),
            self.onion.deadline(),
            self.services.poll_timeout(),
            self.visits.poll_timeout(),
            waits.then_some(self.upkeep.launch_after),
            learns.then_some(self.upkeep.learn_at),
            Some(self.upkeep.links_at),
            self.guards.poll_timeout(now),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Tells how far the client is, if that is further than before.
    pub(super) fn update_status(&mut self) {
        if self.bootstrap.percent == 100 {
            return;
        }
        let facts = Facts {
            connecting: self.links.any_opening(),
            connected: self.links.any_open(),
            asking: self.fetches.any_asking(),
            wants_certificates: self.download.is_waiting_for_certificates(),
            has_consensus: self.upkeep.has_view,
            descriptors_percent: self.upkeep.descriptors_percent,
            has_enough: self.upkeep.is_enough,
            building: self.pool.pending().any(|(_, entry)| entry.is_general()),
            has_circuit: self.upkeep.has_built,
        };
        if self.bootstrap.update(&facts) {
            let status = self.bootstrap;
            self.commands.push_back(Command::Bootstrap(status));
            self.listener.tell(|| Event::Bootstrap(status));
        }
    }
}
