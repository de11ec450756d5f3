//! Circuits on their way: begun, one hop after the other, built (path-spec 2.1, 2.5; guard-spec
//! 4.7 to 4.9).

use cepa_circuit::CircuitKey;
use cepa_circuit::handshake::HopSpec;
use cepa_crypto::RsaId;
use cepa_dir::Relay;
use cepa_link::ChannelKey;
use cepa_wire::Now;

use super::build_times::MEASURED_HOPS;
use super::ending::vanguard_failed;
use super::links::Need;
use super::path_bias::BiasEvent;
use super::pool::{Purpose, Stage};
use super::{Circuits, Event, by_hand};
use crate::context::Context;
use crate::names::CircuitId;
use crate::select::choice::Chosen;
use crate::select::guards::{GuardAttempt, GuardEvent, GuardUsability, GuardUse};
use crate::select::paths::LinkTarget;
use crate::select::paths::{ExitNeed, PathError};
use crate::status::{CircuitChange, CircuitEnd};

/// Most paths for onion services in the making.
const PENDING_PATHS_MAX: usize = 24;

impl Circuits {
    /// Begins a circuit to an exit that meets a need.
    pub(crate) fn launch(
        &mut self,
        need: ExitNeed,
        excluded_exits: &[RsaId],
        ctx: &mut Context<'_>,
    ) -> Result<Option<CircuitId>, PathError> {
        let Some(view) = ctx.view else {
            return Ok(None);
        };
        let chosen = self
            .choice
            .exit_path(need, excluded_exits, view, ctx.rng, ctx.now)?;
        tracing::debug!(path = %chosen.0, "a circuit is begun");
        let is_stable = self.choice.is_stable(&chosen.0, need);
        let purpose = |[_, _, exit]: [Relay; 3]| Purpose::General(Box::new(exit));
        let opened = self.open_path(chosen, purpose, ctx);
        self.pool.note_stable(opened, is_stable);
        Ok(opened)
    }

    /// Begins a path for onion services; `None` if there are too many, or if it is too early after
    /// a failure.
    pub(crate) fn launch_path(
        &mut self,
        last: Option<RsaId>,
        ends: Option<&[RsaId]>,
        ctx: &mut Context<'_>,
    ) -> Result<Option<CircuitId>, PathError> {
        let pending = self.pool.pending().filter(|(_, entry)| {
            let is_path = entry.onion_path().is_some();
            is_path && !entry.is_slow(ctx.now)
        });
        if !self.upkeep.may_launch(ctx.now) || pending.count() >= PENDING_PATHS_MAX {
            return Ok(None);
        }
        let Some(view) = ctx.view else {
            return Ok(None);
        };
        let chosen = self.choice.onion_path(last, ends, view, ctx.rng, ctx.now)?;
        let purpose = |hops| Purpose::Onion(Box::new(hops));
        Ok(self.open_path(chosen, purpose, ctx))
    }

    /// Begins a circuit to a directory, of this hop only.
    pub(crate) fn launch_directory(
        &mut self,
        target: LinkTarget,
        hop: HopSpec,
        ctx: &mut Context<'_>,
    ) -> Option<CircuitId> {
        let (guards, usage) = (&mut self.choice.guards, GuardUse::Directory);
        let attempt = guards.begin(&target.rsa, usage, Vec::new(), ctx.now);
        let opened = self.open(Purpose::Directory, target, hop, Vec::new(), ctx);
        self.tie(opened, attempt);
        opened
    }

    fn open_path(
        &mut self,
        (path, excluded): Chosen,
        purpose: impl FnOnce([Relay; 3]) -> Purpose,
        ctx: &mut Context<'_>,
    ) -> Option<CircuitId> {
        let (target, first, rest) = path.specs(ctx.view?.params());
        let target = self.choice.bridges().target(&target.rsa).unwrap_or(target);
        let attempt = self.choice.begin(&target.rsa, excluded, ctx.now);
        let opened = self.open(purpose(path.hops), target, first, rest, ctx);
        self.tie(opened, attempt);
        opened
    }

    /// Ties the use of a guard to its circuit, if that was begun.
    fn tie(&mut self, opened: Option<CircuitId>, attempt: Option<GuardAttempt>) {
        let Some(attempt) = attempt else { return };
        match opened.and_then(|id| self.pool.entry_mut(id)) {
            Some(entry) => entry.attempt = Some(attempt),
            None => self.choice.guards.handle_end(attempt),
        }
    }

    /// Begins a circuit, with a channel if there is one; `None` if there are too many.
    pub(super) fn open(
        &mut self,
        purpose: Purpose,
        target: LinkTarget,
        first: HopSpec,
        rest: Vec<HopSpec>,
        ctx: &mut Context<'_>,
    ) -> Option<CircuitId> {
        if self.is_off {
            return None;
        }
        self.make_room(ctx);
        let first = (target.rsa, first);
        let id = self.pool.insert(purpose, first, rest, ctx.now)?;
        if let Some(entry) = self.pool.entry_mut(id) {
            entry.by_hand = self.making.take();
        }
        self.tell(id, CircuitChange::Launched, ctx);
        let way = self.choice.reachable(target);
        match way.map_or(Need::Full, |to| self.links.need(to, ctx.now, ctx.commands)) {
            Need::Open(channel) => self.begin(id, channel, ctx),
            Need::Opening => self.plan_review(id, ctx.now),
            Need::Full => {
                self.take(id, CircuitEnd::NoLink, ctx);
            }
        }
        self.pool.entry(id).map(|_| id)
    }

    /// The channel to the first hop stands.
    pub(super) fn begin(&mut self, id: CircuitId, channel: ChannelKey, ctx: &mut Context<'_>) {
        let Some(entry) = self.pool.entry(id) else {
            return;
        };
        let Stage::Channel(first, rest) = &entry.stage else {
            return;
        };
        let (first, rest) = (HopSpec::clone(first), rest.clone());
        if !matches!(entry.purpose, Purpose::Directory) {
            self.padding.pad(channel, ctx);
        }
        match ctx.plane.open_circuit(channel, first, rest, ctx.now) {
            Ok(key) => {
                self.pool.began(id, key, ctx.now);
                self.plan_review(id, ctx.now);
            }
            Err(error) => {
                tracing::warn!("a circuit cannot be begun: {error}");
                self.drop_circuit(id, CircuitEnd::NoLink, ctx);
            }
        }
    }

    /// One more hop of a circuit stands, and not the last.
    pub(crate) fn handle_hop(&mut self, key: CircuitKey, hop: usize, ctx: &mut Context<'_>) {
        let Some(id) = self.pool.by_key(key) else {
            return;
        };
        self.note_standing(id, hop + 1, ctx);
        let entry = self.pool.entry(id);
        if let Some(entry) = entry.filter(|_| hop == 0) {
            self.links.served(&entry.first);
        }
        let path = entry.and_then(|entry| entry.onion_path());
        if let Some(relay) = path.and_then(|path| path.get(hop)) {
            self.choice.vanguards.handle_answer(hop, &relay.rsa_id);
        }
        let is_building = self.note_build_time(id, hop + 1, ctx.now);
        if is_building && hop == 1 {
            self.note_bias(id, BiasEvent::Begun);
        }
    }

    /// All hops of a circuit stand.
    pub(crate) fn handle_built(&mut self, key: CircuitKey, ctx: &mut Context<'_>) {
        let Some(id) = self.pool.by_key(key) else {
            return;
        };
        let hops = self.pool.entry(id).map_or(0, |entry| entry.hops);
        let was_building = self.note_build_time(id, hops, ctx.now);
        if was_building {
            self.note_bias(id, BiasEvent::Built);
        }
        let standing = ctx.plane.circuit_status(key).map(|one| one.hop_count);
        self.note_standing(id, standing.unwrap_or(hops), ctx);
        if by_hand::add_hop(self, id, key, ctx) {
            return;
        }
        // Those that are built to learn go sooner.
        let idle_max = match self.build_times.is_learning() {
            true => self.build_times.params().learning_idle_max,
            false => self.upkeep.idle_max(),
        };
        let Some(entry) = self.pool.built(id, idle_max, ctx.now) else {
            return;
        };
        self.links.served(&entry.first);
        let is_directory = matches!(entry.purpose, Purpose::Directory);
        let (attempt, is_late) = (entry.attempt, was_building && entry.is_measured_only);
        if is_directory {
            self.tell(id, CircuitChange::Built, ctx);
        } else {
            self.upkeep.note_success();
        }
        let guards = &mut self.choice.guards;
        let verdict = attempt.map(|attempt| guards.handle_success(attempt, ctx.now, ctx.rng));
        if is_directory {
            return self.events.push_back(Event::Built(id, key));
        }
        if is_late {
            return self.close(id, CircuitEnd::Measured, ctx);
        }
        match verdict {
            Some(GuardUsability::Waiting) => {
                if let Some(entry) = self.pool.entry_mut(id) {
                    entry.stage = Stage::Waiting(key);
                }
                self.tell(id, CircuitChange::GuardWait, ctx);
            }
            Some(GuardUsability::Never) => self.close(id, CircuitEnd::Unwanted, ctx),
            Some(GuardUsability::Now) | None => self.is_usable_now(id, key, ctx),
        }
    }

    fn is_usable_now(&mut self, id: CircuitId, key: CircuitKey, ctx: &mut Context<'_>) {
        self.upkeep.note_usable();
        self.tell(id, CircuitChange::Built, ctx);
        if self.pool.name_of(id).is_some() {
            self.events.push_back(Event::Built(id, key));
        }
    }

    /// Learns from the guards what becomes of circuits that waited (guard-spec 4.9).
    pub(crate) fn settle_guards(&mut self, ctx: &mut Context<'_>) {
        while let Some(event) = self.choice.guards.poll_event(ctx.now, ctx.rng) {
            let (GuardEvent::Usable(attempt) | GuardEvent::Unwanted(attempt)) = event;
            let Some(id) = self.pool.by_attempt(attempt) else {
                self.choice.guards.handle_end(attempt);
                continue;
            };
            let Some(entry) = self.pool.entry_mut(id) else {
                continue;
            };
            match (event, &entry.stage) {
                (GuardEvent::Usable(_), &Stage::Waiting(key)) => {
                    entry.stage = Stage::Built(key);
                    self.is_usable_now(id, key, ctx);
                }
                (GuardEvent::Usable(_), _) => {}
                (GuardEvent::Unwanted(_), Stage::Built(_)) => entry.wear_out(ctx.now),
                (GuardEvent::Unwanted(_), _) => self.close(id, CircuitEnd::Unwanted, ctx),
            }
        }
    }

    /// So many hops of a circuit stand, one more than before.
    fn note_standing(&mut self, id: CircuitId, hops: usize, ctx: &mut Context<'_>) {
        if let Some(entry) = self.pool.entry_mut(id) {
            entry.standing = hops;
        }
        self.tell(id, CircuitChange::Extended, ctx);
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
        if hops == MEASURED_HOPS && !entry.is_path_given() {
            let took = now.mono.saturating_duration_since(entry.begun);
            self.build_times.built(took, entry.is_measured_only);
        }
        true
    }

    fn note_bias(&mut self, id: CircuitId, event: BiasEvent) {
        if let Some(entry) = self.pool.entry(id) {
            self.path_bias.note(entry, event, &self.choice.guards);
        }
    }

    /// The time of a circuit in the making has come. True if it is given up.
    pub(super) fn give_up_building(
        &mut self,
        id: CircuitId,
        hops: usize,
        ctx: &mut Context<'_>,
    ) -> bool {
        let others_stand = self.pool.iter().any(|(_, entry)| entry.built().is_some());
        let Some(entry) = self.pool.entry_mut(id) else {
            return false;
        };
        let begun = entry.begun;
        let age = ctx.now.mono.saturating_duration_since(begun);
        let first_hop_late = hops == 0 && age >= self.build_times.first_hop();
        if first_hop_late || age >= self.build_times.close(entry.hops) {
            tracing::debug!("a circuit was not built in time");
            self.build_times.given_up(begun);
            vanguard_failed(entry, hops, false, &mut self.choice.vanguards, ctx.now);
            self.drop_circuit(id, CircuitEnd::Timeout, ctx);
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
            vanguard_failed(entry, hops, false, &mut self.choice.vanguards, ctx.now);
            self.release(id, ctx);
        }
        if self
            .pool
            .entry(id)
            .is_some_and(|entry| entry.is_slow(ctx.now))
        {
            self.release(id, ctx);
        }
        self.plan_review(id, ctx.now);
        false
    }

    /// A path in the making is too late for its name, which takes another.
    fn release(&mut self, id: CircuitId, ctx: &mut Context<'_>) {
        let entry = self.pool.entry_mut(id);
        if let Some(bound) = entry.and_then(|entry| entry.bound.take()) {
            self.events.push_back(Event::Late(id, bound.name));
            self.tell(id, CircuitChange::Purpose(bound.purpose), ctx);
        }
    }

    /// When a circuit in the making is to be looked at next.
    fn plan_review(&mut self, id: CircuitId, now: Now) {
        let entry = self.pool.entry_mut(id);
        if let Some(entry) = entry.filter(|entry| !entry.is_path_given()) {
            entry.plan_review(&self.build_times, now);
        }
    }
}
