//! Circuits of the client: begun, built, lost (path-spec 2.1, 2.5; guard-spec 4.7, 4.8).

use std::time::Duration;

use cepa_circuit::CircuitKey;
use cepa_circuit::handshake::HopSpec;
use cepa_crypto::RsaId;
use cepa_link::ChannelKey;
use cepa_wire::Now;
use cepa_wire::destroy::DestroyReason;

use super::Client;
use crate::circuits::build_times::MEASURED_HOPS;
use crate::circuits::links::Need;
use crate::circuits::path_bias::BiasEvent;
use crate::circuits::pool::{
    CLEAN_MAX, CircuitId, Entry, Purpose, REVIEW_AGAIN, SLOW_BUILD, Stage,
};
use crate::command::LinkTarget;
use crate::plane::CircuitClose;
use crate::select::guards::{GuardAttempt, GuardEvent, GuardUsability, GuardUse};
use crate::select::paths::{self, ExitNeed, PathError, PathRules};
use crate::status::{CircuitChange, CircuitEnd};

/// Circuits that may fail in a row before the next ones wait.
const FAILURES_FREE: u32 = 3;
/// The first wait then, which doubles with each further failure.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait where the first hop stands: the next path may be better.
const BACKOFF_BEYOND_MAX: Duration = Duration::from_millis(400);
/// The longest wait.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

impl Client {
    /// Begins a circuit to an exit that meets a need.
    pub(super) fn launch(
        &mut self,
        need: ExitNeed,
        excluded_exits: &[RsaId],
        now: Now,
    ) -> Result<Option<CircuitId>, PathError> {
        let entries = self.entries(now);
        let Some(view) = self.download.view() else {
            return Ok(None);
        };
        let rules = PathRules {
            need,
            entries: &entries,
            permits: &self.permits,
            excluded_exits,
            distinct_subnets: !self.config.subnets_shared,
        };
        let path = paths::choose(view, &rules, &mut self.rng)?;
        tracing::debug!(%path, "a circuit is begun");
        let (target, first, rest) = path.specs(view.params());
        let [_, _, exit] = path.hops;
        // Guards that this exit rules out do not keep the circuit waiting.
        let is_excluded = |id: &RsaId| {
            let relay = view.relay(id);
            relay.is_none_or(|relay| !rules.may_share_path(relay, &exit))
        };
        let excluded = self.guards.sampled().filter(is_excluded).collect();
        let attempt = self.begin_attempt(&target.rsa, excluded, now);
        let purpose = Purpose::General(Box::new(exit));
        let opened = self.open_circuit(purpose, target, first, rest, now);
        self.note_attempt(opened, attempt);
        Ok(opened)
    }

    /// A circuit for traffic through a guard is begun; what is drawn anew is none.
    pub(super) fn begin_attempt(
        &mut self,
        guard: &RsaId,
        excluded: Vec<RsaId>,
        now: Now,
    ) -> Option<GuardAttempt> {
        let is_guarded = !self.config.rules.unguarded;
        is_guarded.then(|| self.guards.begin(guard, GuardUse::Data, excluded, now))?
    }

    /// Ties the use of a guard to its circuit, if that was begun.
    pub(super) fn note_attempt(
        &mut self,
        opened: Option<CircuitId>,
        attempt: Option<GuardAttempt>,
    ) {
        let Some(attempt) = attempt else { return };
        match opened.and_then(|id| self.pool.entry_mut(id)) {
            Some(entry) => entry.attempt = Some(attempt),
            None => self.guards.handle_end(attempt),
        }
    }

    /// The first hops to choose from, best first.
    pub(super) fn entries(&mut self, now: Now) -> Vec<RsaId> {
        let view = self.download.view();
        match view.filter(|_| self.config.rules.unguarded) {
            Some(view) => {
                let relays = view.relays().iter();
                let allowed = relays.filter(|relay| self.permits.of(&relay.rsa_id).first);
                let mut ids: Vec<RsaId> = allowed.map(|relay| relay.rsa_id).collect();
                crate::select::shuffle(&mut ids, &mut self.rng);
                ids
            }
            None => self.guards.ranked(GuardUse::Data, now, &mut self.rng),
        }
    }

    /// Begins a circuit, with a channel if there is one; `None` if there are too many.
    pub(super) fn open_circuit(
        &mut self,
        purpose: Purpose,
        target: LinkTarget,
        first: HopSpec,
        rest: Vec<HopSpec>,
        now: Now,
    ) -> Option<CircuitId> {
        self.make_room(now);
        let id = self.pool.insert(purpose, (target.rsa, first), rest, now)?;
        self.tell_circuit(id, CircuitChange::Launched);
        match self.links.need(target, now, &mut self.commands) {
            Need::Open(channel) => self.begin_circuit(id, channel, now),
            Need::Opening => self.plan_review(id, now),
            Need::Full => {
                self.take_entry(id, CircuitEnd::NoLink);
            }
        }
        self.pool.entry(id).map(|_| id)
    }

    /// The channel to the first hop stands.
    pub(super) fn begin_circuit(&mut self, id: CircuitId, channel: ChannelKey, now: Now) {
        let Some(entry) = self.pool.entry(id) else {
            return;
        };
        let Stage::Channel(first, rest) = &entry.stage else {
            return;
        };
        let (first, rest) = (HopSpec::clone(first), rest.clone());
        if !matches!(entry.purpose, Purpose::Directory) {
            self.pad_channel(channel);
        }
        match self.plane.open_circuit(channel, first, rest, now) {
            Ok(key) => {
                self.pool.began(id, key, now);
                self.plan_review(id, now);
            }
            Err(error) => {
                tracing::warn!("a circuit cannot be begun: {error}");
                self.drop_circuit(id, CircuitEnd::NoLink, now);
            }
        }
    }

    pub(super) fn circuit_built(&mut self, key: CircuitKey, now: Now) {
        let Some(id) = self.pool.by_key(key) else {
            return;
        };
        let hops = self.pool.entry(id).map_or(0, |entry| entry.hops);
        let was_building = self.note_build_time(id, hops, now);
        if was_building {
            self.note_bias(id, BiasEvent::Built);
        }
        let standing = self.plane.circuit_status(key).map(|one| one.hop_count);
        self.note_standing(id, standing.unwrap_or(hops));
        let idle_max = self.clean_max();
        let Some(entry) = self.pool.built(id, idle_max, now) else {
            return;
        };
        self.links.served(&entry.first);
        let (attempt, is_late) = (entry.attempt, was_building && entry.is_measured_only);
        let is_onion = entry.onion_path().is_some();
        if matches!(entry.purpose, Purpose::Directory) {
            self.tell_circuit(id, CircuitChange::Built);
            return self.directory_circuit_built(id, key, now);
        }
        self.upkeep.failures = 0;
        let verdict =
            attempt.map(|attempt| self.guards.handle_success(attempt, now, &mut self.rng));
        if is_late {
            return self.close_circuit(id, CircuitEnd::Measured, now);
        }
        match verdict {
            Some(GuardUsability::Waiting) => {
                if let Some(entry) = self.pool.entry_mut(id) {
                    entry.stage = Stage::Waiting(key);
                }
                self.tell_circuit(id, CircuitChange::GuardWait);
            }
            Some(GuardUsability::Never) => self.close_circuit(id, CircuitEnd::Unwanted, now),
            Some(GuardUsability::Now) | None => self.circuit_usable(id, key, is_onion, now),
        }
    }

    fn circuit_usable(&mut self, id: CircuitId, key: CircuitKey, is_onion: bool, now: Now) {
        self.upkeep.has_built = true;
        self.tell_circuit(id, CircuitChange::Built);
        if is_onion {
            self.onion_circuit_built(id, key, now);
        }
    }

    /// Learns from the guards what becomes of circuits that waited (guard-spec 4.9).
    pub(super) fn settle_guards(&mut self, now: Now) {
        while let Some(event) = self.guards.poll_event(now, &mut self.rng) {
            let (GuardEvent::Usable(attempt) | GuardEvent::Unwanted(attempt)) = event;
            let Some(id) = self.pool.by_attempt(attempt) else {
                self.guards.handle_end(attempt);
                continue;
            };
            let Some(entry) = self.pool.entry_mut(id) else {
                continue;
            };
            match (event, &entry.stage) {
                (GuardEvent::Usable(_), &Stage::Waiting(key)) => {
                    entry.stage = Stage::Built(key);
                    let is_onion = entry.onion_path().is_some();
                    self.circuit_usable(id, key, is_onion, now);
                }
                (GuardEvent::Usable(_), _) => {}
                (GuardEvent::Unwanted(_), Stage::Built(_)) => entry.wear_out(now),
                (GuardEvent::Unwanted(_), _) => {
                    self.close_circuit(id, CircuitEnd::Unwanted, now);
                }
            }
        }
    }

    /// Closes a circuit; nobody is to blame.
    pub(super) fn close_circuit(&mut self, id: CircuitId, end: CircuitEnd, now: Now) {
        let key = self.pool.entry(id).and_then(|entry| entry.key());
        self.forget_circuit(id, end, now);
        if let Some(key) = key {
            self.plane.close_circuit(key, DestroyReason::NONE, now);
        }
    }

    /// A circuit of the plane's is gone; with the hop that was being added if it was not built.
    pub(super) fn circuit_gone(
        &mut self,
        key: CircuitKey,
        failed: Option<usize>,
        reason: CircuitClose,
        now: Now,
    ) {
        let Some(id) = self.pool.by_key(key) else {
            return;
        };
        self.judge_first_hop(id, failed, reason, now);
        self.note_collapse(id, failed.is_none(), reason);
        if let Some(hop) = failed {
            self.blame_vanguards(id, hop, reason, now);
        }
        let end = CircuitEnd::Plane(reason);
        if failed.is_some() {
            self.drop_circuit(id, end, now);
        } else {
            self.forget_circuit(id, end, now);
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
            self.guards.handle_unreachable(&relay, now);
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
    fn vanguard_failed(&mut self, id: CircuitId, hop: usize, is_told: bool, now: Now) {
        let path = self.pool.entry(id).and_then(|entry| entry.onion_path());
        if let Some(relay) = path.and_then(|path| path.get(hop)) {
            self.vanguards
                .handle_failure(hop, &relay.rsa_id, is_told, now);
        }
    }

    /// A circuit was not built in time, or a worn one is no longer used.
    pub(super) fn review_circuit(&mut self, id: CircuitId, now: Now) {
        let Some(entry) = self.pool.entry(id) else {
            return;
        };
        let (key, is_built) = (entry.key(), entry.has_all_hops());
        let status = key.and_then(|key| self.plane.circuit_status(key));
        if is_built {
            if self.keeps_onion_circuit(id, now) {
                return;
            }
            if status.is_some_and(|status| status.stream_count > 0) {
                if let Some(entry) = self.pool.entry_mut(id) {
                    entry.review_at = now.mono + REVIEW_AGAIN;
                    entry.keep_alive(now);
                }
                return;
            }
            self.forget_circuit(id, CircuitEnd::Finished, now);
        } else if !self.give_up_building(id, status.map_or(0, |status| status.hop_count), now) {
            return;
        }
        if let Some(key) = key {
            self.plane.close_circuit(key, DestroyReason::NONE, now);
        }
    }

    /// The time of a circuit in the making has come. True if it is given up.
    fn give_up_building(&mut self, id: CircuitId, hops: usize, now: Now) -> bool {
        let others_stand = self.pool.iter().any(|(_, entry)| entry.built().is_some());
        let Some(entry) = self.pool.entry_mut(id) else {
            return false;
        };
        let (begun, age) = (entry.begun, now.mono.saturating_duration_since(entry.begun));
        let first_hop_late = hops == 0 && age >= self.build_times.first_hop();
        if first_hop_late || age >= self.build_times.close(entry.hops) {
            tracing::debug!("a circuit was not built in time");
            self.build_times.given_up(begun);
            self.vanguard_failed(id, hops, false, now);
            self.drop_circuit(id, CircuitEnd::Timeout, now);
            return true;
        }
        let is_late = age >= self.build_times.timeout(entry.hops);
        // Where nothing stands, a first hop may take its time.
        let may_wait = hops == 0 && !others_stand;
        if is_late && !may_wait && entry.key().is_some() && !entry.is_measured_only {
            entry.measure_only();
            tracing::debug!("a circuit is late: its time is measured, no more");
            if self.build_times.late(hops > 0) {
                tracing::info!("most circuits are late: their times are learnt anew");
            }
            self.vanguard_failed(id, hops, false, now);
            self.release_path(id);
        }
        if self.pool.entry(id).is_some_and(|entry| entry.is_slow(now)) {
            self.release_path(id);
        }
        self.plan_review(id, now);
        false
    }

    /// When a circuit in the making is to be looked at next.
    fn plan_review(&mut self, id: CircuitId, now: Now) {
        let Some(entry) = self.pool.entry_mut(id) else {
            return;
        };
        let (times, hops) = (&self.build_times, entry.hops);
        let mut marks = vec![
            entry.since + SLOW_BUILD,
            entry.begun + times.first_hop(),
            now.mono + REVIEW_AGAIN,
        ];
        if entry.key().is_some() {
            marks.extend([times.timeout(hops), times.close(hops)].map(|age| entry.begun + age));
        }
        let next = marks.into_iter().filter(|at| *at > now.mono).min();
        entry.review_at = next.unwrap_or(now.mono + REVIEW_AGAIN);
    }

    /// One more hop of a circuit stands.
    pub(super) fn circuit_hop(&mut self, key: CircuitKey, hop: usize, now: Now) {
        if let Some(id) = self.pool.by_key(key) {
            self.note_standing(id, hop + 1);
            let entry = self.pool.entry(id);
            if let Some(entry) = entry.filter(|_| hop == 0) {
                self.links.served(&entry.first);
            }
            let path = entry.and_then(|entry| entry.onion_path());
            if let Some(relay) = path.and_then(|path| path.get(hop)) {
                self.vanguards.handle_answer(hop, &relay.rsa_id);
            }
            let is_building = self.note_build_time(id, hop + 1, now);
            if is_building && hop == 1 {
                self.note_bias(id, BiasEvent::Begun);
            }
        }
    }

    /// So many hops of a circuit stand, one more than before.
    fn note_standing(&mut self, id: CircuitId, hops: usize) {
        if let Some(entry) = self.pool.entry_mut(id) {
            entry.standing = hops;
        }
        self.tell_circuit(id, CircuitChange::Extended);
    }

    /// So many hops of a circuit stand: with the third, its time is known. True if it was not yet
    /// built to its end.
    fn note_build_time(&mut self, id: CircuitId, hops: usize, now: Now) -> bool {
        let Some(entry) = self.pool.entry(id) else {
            return false;
        };
        if !matches!(entry.stage, Stage::Building(_)) {
            return false;
        }
        if hops == MEASURED_HOPS {
            let took = now.mono.saturating_duration_since(entry.begun);
            self.build_times.built(took, entry.is_measured_only);
        }
        true
    }

    /// How long a circuit is kept that nobody uses.
    fn clean_max(&self) -> Duration {
        match self.build_times.is_learning() {
            true => self.build_times.params().learning_idle_max,
            false => CLEAN_MAX,
        }
    }

    /// A circuit that was not built is gone: the next ones may have to wait.
    pub(super) fn drop_circuit(&mut self, id: CircuitId, end: CircuitEnd, now: Now) {
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
                self.upkeep.launch_after = now.mono + wait.min(wait_max);
            }
        }
        self.forget_circuit(id, end, now);
    }

    /// Takes a circuit out of the pool; its guard is told nothing.
    pub(super) fn take_entry(&mut self, id: CircuitId, end: CircuitEnd) -> Option<Entry> {
        self.note_used(id);
        self.tell_circuit(
            id,
            match self.pool.entry(id)?.has_all_hops() {
                true => CircuitChange::Closed(end),
                false => CircuitChange::Failed(end),
            },
        );
        let entry = self.pool.remove(id)?;
        if let Some(attempt) = entry.attempt {
            self.guards.handle_end(attempt);
        }
        Some(entry)
    }

    pub(super) fn forget_circuit(&mut self, id: CircuitId, end: CircuitEnd, now: Now) {
        self.take_entry(id, end);
        self.directory_circuit_gone(id, now);
        let reason = match end {
            CircuitEnd::Plane(reason) => Some(reason),
            _ => None,
        };
        self.onion_circuit_gone(id, reason, now);
    }
}
