//! The client's circuits as the control core sees them (path-spec 2.1, 2.1.6, 3).
//!
//! ```text
//! insert ─▶ Channel ──channel open──▶ Building ──built──▶ Built ──▶ (gone)
//!              │                          │ └─▶ Waiting ────▲           ▲
//!              └──────────failed, timed out┴───────┴────────────────────┘
//! ```
//!
//! A circuit is clean until its first stream, which binds it to one [`Isolation`] for good; ten
//! minutes later it takes no new streams, and goes when the last one is over.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use cepa_circuit::CircuitKey;
use cepa_circuit::handshake::HopSpec;
use cepa_crypto::RsaId;
use cepa_crypto::onion::OnionAddress;
use cepa_dir::Relay;
use cepa_link::ChannelKey;
use cepa_wire::Now;

use super::build_times::BuildTimes;
use crate::by_hand::HandUse;
use crate::isolation::Isolation;
use crate::plane::Plane;
use crate::select::guards::GuardAttempt;
use crate::select::paths::ExitNeed;

use crate::names::{CircuitId, CircuitName};
use crate::status::{CircuitPurpose, CircuitState, CircuitUse};

/// How long a circuit takes new streams after its first, unless the operator says it
/// (`MaxCircuitDirtiness`).
pub(crate) const DIRTY_MAX: Duration = Duration::from_secs(600);
/// How long a clean circuit is kept (`CircuitsAvailableTimeout`).
pub(crate) const CLEAN_MAX: Duration = Duration::from_secs(1800);
/// How long a directory circuit is kept after a fetch.
pub(crate) const DIRECTORY_IDLE_MAX: Duration = Duration::from_secs(60);
/// After so long in the making, a circuit keeps nobody from trying another.
pub(crate) const SLOW_BUILD: Duration = Duration::from_secs(3);
/// How soon a circuit that is no longer wanted, but in use, is looked at again.
pub(crate) const REVIEW_AGAIN: Duration = Duration::from_secs(5);
/// Most circuits in the making that are not slow, as `tor`'s `MaxClientCircuitsPending`.
pub(crate) const PENDING_MAX: usize = 32;
/// Most circuits in the making.
const SLOW_MAX: usize = 256;
/// Streams go over a controller's circuit by themselves from so many hops on.
const GENERAL_HOPS_MIN: usize = 3;
/// Most circuits at all.
pub(crate) const CIRCUITS_MAX: usize = 1024;

/// What a circuit is for.
#[derive(Debug, Clone)]
pub(crate) enum Purpose {
    /// Directory requests to the only hop.
    Directory,
    /// Streams of applications, by this exit.
    General(Box<Relay>),
    /// Onion services: these three hops, and perhaps more.
    Onion(Box<[Relay; 3]>),
}

/// The name that a path for onion services is bound to, and what it is for under that name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) name: CircuitName,
    pub(crate) purpose: CircuitPurpose,
    /// The service.
    pub(crate) address: Option<OnionAddress>,
    /// The last hop stands, and the machine that gave the name has been told.
    pub(crate) is_ready: bool,
}

/// What is a controller's of a circuit.
#[derive(Debug)]
pub(crate) struct ByHand {
    /// What it is for.
    pub(crate) usage: HandUse,
    /// The controller has chosen hops of it.
    pub(crate) is_path_given: bool,
    /// Hops that are to be added yet, once those before them stand.
    pub(super) rest: VecDeque<HopSpec>,
}

impl ByHand {
    /// Of a circuit whose hops the client has drawn.
    pub(super) fn new() -> Self {
        ByHand {
            usage: HandUse::General,
            is_path_given: false,
            rest: VecDeque::new(),
        }
    }
}

/// How far it is.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Waits for the channel to its first hop; its hops, the first one apart.
    Channel(Box<HopSpec>, Vec<HopSpec>),
    /// Being built.
    Building(CircuitKey),
    /// Built, but not to be used while a better guard may be had (guard-spec 4.8).
    Waiting(CircuitKey),
    /// Ready.
    Built(CircuitKey),
}

/// One circuit.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) purpose: Purpose,
    /// Whose it is, if it is a path for onion services that somebody has taken.
    pub(crate) bound: Option<Bound>,
    /// What is a controller's of it.
    pub(crate) by_hand: Option<ByHand>,
    pub(crate) first: RsaId,
    /// How long it takes new streams after its first.
    pub(crate) dirty_max: Duration,
    /// The use of a guard, if the first hop is one.
    pub(crate) attempt: Option<GuardAttempt>,
    pub(crate) stage: Stage,
    /// How many hops it is to have.
    pub(crate) hops: usize,
    /// The relays that they are, where that is known.
    pub(crate) path: Vec<Option<RsaId>>,
    /// How many of them stand.
    pub(crate) standing: usize,
    pub(crate) since: Instant,
    pub(crate) created: SystemTime,
    /// When its first hop was asked for; until then, `since`.
    pub(crate) begun: Instant,
    /// Too late to be used: it is built only to learn how long that takes (path-spec 2.4.4).
    pub(crate) is_measured_only: bool,
    pub(crate) dirty_since: Option<Instant>,
    /// When it is looked at again: to be closed if it is of no use any more.
    pub(crate) review_at: Instant,
    pub(crate) isolation: Option<Isolation>,
    /// Whether streams were attached to it, and got answers; told of its guard in the end.
    pub(crate) answered: Option<bool>,
    is_worn_out: bool,
    /// Its relays are Stable, or as stable as there are any: it is for streams that live long.
    pub(crate) is_stable: bool,
    /// The relay of its channel does not answer just now.
    pub(crate) is_stalled: bool,
}

impl Entry {
    /// Its key, unless it still waits for a channel.
    pub(crate) fn key(&self) -> Option<CircuitKey> {
        match self.stage {
            Stage::Channel(..) => None,
            Stage::Building(key) | Stage::Waiting(key) | Stage::Built(key) => Some(key),
        }
    }

    pub(crate) fn built(&self) -> Option<CircuitKey> {
        match self.stage {
            Stage::Built(key) => Some(key),
            _ => None,
        }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting(_))
    }

    /// Built, whether it may be used or not.
    pub(crate) fn has_all_hops(&self) -> bool {
        matches!(self.stage, Stage::Built(_) | Stage::Waiting(_))
    }

    /// How far it is, for readers.
    pub(crate) fn state(&self) -> CircuitState {
        match self.stage {
            Stage::Channel(..) => CircuitState::Connecting,
            Stage::Building(_) => CircuitState::Building,
            Stage::Waiting(_) => CircuitState::GuardWait,
            Stage::Built(_) => CircuitState::Built,
        }
    }

    /// Whether it takes streams, for readers.
    pub(crate) fn usage(&self) -> CircuitUse {
        match (self.is_measured_only, self.is_worn_out || self.is_stalled) {
            (true, _) => CircuitUse::Late,
            (_, true) => CircuitUse::Worn,
            _ if self.is_clean() => CircuitUse::Clean,
            _ => CircuitUse::Used,
        }
    }

    pub(crate) fn is_general(&self) -> bool {
        matches!(self.purpose, Purpose::General(_))
    }

    /// The hops that a circuit for onion services began with.
    pub(crate) fn onion_path(&self) -> Option<&[Relay; 3]> {
        match &self.purpose {
            Purpose::Onion(path) => Some(path),
            _ => None,
        }
    }

    /// What it is for, for readers.
    pub(crate) fn shown_purpose(&self) -> CircuitPurpose {
        match (&self.purpose, self.bound) {
            _ if self.is_for_controller() => CircuitPurpose::Controller,
            (Purpose::Directory, _) => CircuitPurpose::Directory,
            (Purpose::General(_), _) => CircuitPurpose::General,
            (Purpose::Onion(_), None) => CircuitPurpose::OnionPath,
            (Purpose::Onion(_), Some(bound)) => bound.purpose,
        }
    }

    /// Whether only a controller attaches streams to it.
    pub(crate) fn is_for_controller(&self) -> bool {
        let by_hand = self.by_hand.as_ref();
        by_hand.is_some_and(|by_hand| by_hand.usage == HandUse::Controller)
    }

    /// Whether a controller has chosen hops of it: nothing is learnt of them.
    pub(crate) fn is_path_given(&self) -> bool {
        let by_hand = self.by_hand.as_ref();
        by_hand.is_some_and(|by_hand| by_hand.is_path_given)
    }

    /// So long in the making that nobody waits for it alone.
    pub(crate) fn is_slow(&self, now: Now) -> bool {
        let age = now.mono.saturating_duration_since(self.since);
        !self.has_all_hops() && age >= SLOW_BUILD
    }

    /// Takes any stream still, as it is bound to none.
    pub(crate) fn is_clean(&self) -> bool {
        let is_new = self.isolation.is_none() && self.dirty_since.is_none();
        is_new && !self.is_worn_out && !self.is_stalled
    }

    /// Takes no more streams, and is closed once it has none.
    pub(crate) fn wear_out(&mut self, now: Now) {
        self.is_worn_out = true;
        self.review_at = now.mono + REVIEW_AGAIN;
    }

    /// Too late to be of use to a stream.
    pub(crate) fn measure_only(&mut self) {
        self.is_measured_only = true;
        self.is_worn_out = true;
    }

    /// It is in use: if its streams want that, its time begins anew (`KeepAliveIsolateSOCKSAuth`).
    pub(crate) fn keep_alive(&mut self, now: Now) {
        let wants = self
            .isolation
            .as_ref()
            .is_some_and(|isolation| isolation.keeps_alive);
        if wants && !self.is_worn_out && self.dirty_since.is_some() {
            self.dirty_since = Some(now.mono);
            self.review_at = now.mono + self.dirty_max;
        }
    }

    /// In the making: when it is to be looked at next.
    pub(super) fn plan_review(&mut self, times: &BuildTimes, now: Now) {
        let mut marks = vec![
            self.since + SLOW_BUILD,
            self.begun + times.first_hop(),
            now.mono + REVIEW_AGAIN,
        ];
        if self.key().is_some() {
            let ages = [times.timeout(self.hops), times.close(self.hops)];
            marks.extend(ages.map(|age| self.begun + age));
        }
        let next = marks.into_iter().filter(|at| *at > now.mono).min();
        self.review_at = next.unwrap_or(now.mono + REVIEW_AGAIN);
    }

    fn is_worn(&self, now: Now) -> bool {
        let age = |since| now.mono.saturating_duration_since(since);
        self.is_worn_out
            || self
                .dirty_since
                .is_some_and(|since| age(since) >= self.dirty_max)
    }

    /// Whether a stream may use it, once it is built.
    pub(crate) fn fits(&self, usage: &Usage<'_>, now: Now) -> bool {
        let Purpose::General(exit) = &self.purpose else {
            return false;
        };
        let shared = self
            .isolation
            .as_ref()
            .is_none_or(|own| own == usage.isolation);
        shared
            && !self.is_stalled
            && !self.is_for_controller()
            && (self.by_hand.is_none() || self.hops >= GENERAL_HOPS_MIN)
            && !self.is_worn(now)
            && usage.need.is_met_by(exit)
            && (self.is_stable || !usage.needs_stable)
            && !usage.excluded_exits.contains(&exit.rsa_id)
    }
}

/// What a stream wants of its circuit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage<'a> {
    pub(crate) need: ExitNeed,
    pub(crate) isolation: &'a Isolation,
    pub(crate) excluded_exits: &'a [RsaId],
    /// Whether it will live long, and so needs Stable relays.
    pub(crate) needs_stable: bool,
}

/// All circuits of a client.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    entries: BTreeMap<CircuitId, Entry>,
    by_key: BTreeMap<CircuitKey, CircuitId>,
    id_last: u64,
    /// How long circuits take new streams after their first, if the operator says it.
    pub(crate) dirty_max: Option<Duration>,
    /// Most circuits in the making that are not slow, if the operator says it.
    pub(crate) pending_max: Option<usize>,
}

impl Pool {
    /// Adds a circuit that waits for its channel; `None` if there are too many.
    pub(crate) fn insert(
        &mut self,
        purpose: Purpose,
        first: (RsaId, HopSpec),
        rest: Vec<HopSpec>,
        now: Now,
    ) -> Option<CircuitId> {
        let pending = self.entries.values().filter(|entry| !entry.has_all_hops());
        let (slow, quick) = pending.partition::<Vec<_>, _>(|entry| entry.is_slow(now));
        let pending_max = self.pending_max.unwrap_or(PENDING_MAX);
        if self.is_full() || quick.len() >= pending_max || slow.len() > SLOW_MAX {
            return None;
        }
        self.id_last += 1;
        let id = CircuitId(self.id_last);
        let later = rest.iter().map(|hop| hop.link_specifiers.rsa_id());
        let entry = Entry {
            purpose,
            bound: None,
            by_hand: None,
            first: first.0,
            dirty_max: self.dirty_max.unwrap_or(DIRTY_MAX),
            attempt: None,
            hops: rest.len() + 1,
            path: std::iter::once(Some(first.0)).chain(later).collect(),
            standing: 0,
            stage: Stage::Channel(Box::new(first.1), rest),
            since: now.mono,
            created: now.wall,
            begun: now.mono,
            is_measured_only: false,
            dirty_since: None,
            review_at: now.mono,
            isolation: None,
            answered: None,
            is_worn_out: false,
            is_stable: false,
            is_stalled: false,
        };
        self.entries.insert(id, entry);
        Some(id)
    }

    /// Whether there is no room for one more.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= CIRCUITS_MAX
    }

    /// All hops stand. It is kept for `idle_max` until a stream uses it.
    pub(crate) fn built(&mut self, id: CircuitId, idle_max: Duration, now: Now) -> Option<&Entry> {
        let entry = self.entries.get_mut(&id)?;
        let key = entry.key()?;
        entry.stage = Stage::Built(key);
        entry.review_at = now.mono
            + match entry.purpose {
                Purpose::Directory => DIRECTORY_IDLE_MAX,
                Purpose::General(_) | Purpose::Onion(_) => idle_max,
            };
        Some(entry)
    }

    /// A stream uses the circuit.
    pub(crate) fn used(&mut self, id: CircuitId, isolation: Option<&Isolation>, now: Now) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        match isolation {
            None => entry.review_at = now.mono + DIRECTORY_IDLE_MAX,
            Some(isolation) => {
                entry.isolation.get_or_insert_with(|| isolation.clone());
                entry.answered.get_or_insert(false);
                let since = *entry.dirty_since.get_or_insert(now.mono);
                entry.review_at = since + entry.dirty_max;
                entry.keep_alive(now);
            }
        }
    }

    /// A stream that used the circuit is over.
    pub(crate) fn left(&mut self, id: CircuitId, now: Now) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.keep_alive(now);
        }
    }

    /// The circuit is being built in the plane.
    pub(crate) fn began(&mut self, id: CircuitId, key: CircuitKey, now: Now) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.stage = Stage::Building(key);
            entry.begun = now.mono;
            self.by_key.insert(key, id);
        }
    }

    pub(crate) fn by_key(&self, key: CircuitKey) -> Option<CircuitId> {
        self.by_key.get(&key).copied()
    }

    /// The name that a circuit is bound to.
    pub(crate) fn name_of(&self, id: CircuitId) -> Option<CircuitName> {
        Some(self.entries.get(&id)?.bound?.name)
    }

    pub(crate) fn by_attempt(&self, attempt: GuardAttempt) -> Option<CircuitId> {
        let mut entries = self.entries.iter();
        let found = entries.find(|(_, entry)| entry.attempt == Some(attempt));
        found.map(|(id, _)| *id)
    }

    pub(crate) fn entry(&self, id: CircuitId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub(crate) fn entry_mut(&mut self, id: CircuitId) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    pub(crate) fn remove(&mut self, id: CircuitId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        if let Some(key) = entry.key() {
            self.by_key.remove(&key);
        }
        Some(entry)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (CircuitId, &Entry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// No circuit takes a new stream any more.
    pub(crate) fn wear_out_all(&mut self, now: Now) {
        self.entries
            .values_mut()
            .for_each(|entry| entry.wear_out(now));
    }

    /// Circuits that are not ready yet.
    pub(crate) fn pending(&self) -> impl Iterator<Item = (CircuitId, &Entry)> {
        self.iter().filter(|(_, entry)| entry.built().is_none())
    }

    /// Paths for onion services that nobody has taken.
    pub(crate) fn free_paths(&self, now: Now) -> impl Iterator<Item = (CircuitId, &Entry)> {
        let is_free = move |entry: &Entry| {
            let is_path = entry.onion_path().is_some() && entry.is_clean() && !entry.is_slow(now);
            is_path && entry.bound.is_none() && entry.by_hand.is_none()
        };
        self.iter().filter(move |(_, entry)| is_free(entry))
    }

    /// The circuits over a channel.
    pub(super) fn over(&self, channel: ChannelKey, plane: &Plane) -> Vec<CircuitId> {
        let is_over = |key| {
            let status = plane.circuit_status(key);
            status.is_some_and(|status| status.channel == channel)
        };
        let over = self.iter();
        over.filter(|(_, entry)| entry.key().is_some_and(is_over))
            .map(|(id, _)| id)
            .collect()
    }

    /// A relay has another name from now on.
    pub(crate) fn rename_first(&mut self, before: &RsaId, now: RsaId) {
        let entries = self.entries.values_mut();
        for entry in entries.filter(|entry| entry.first == *before) {
            entry.first = now;
            if let Some(first) = entry.path.first_mut() {
                *first = Some(now);
            }
        }
    }

    /// Circuits that wait for the channel to a relay.
    pub(crate) fn waiting_for(&self, relay: &RsaId) -> Vec<CircuitId> {
        let waits =
            |entry: &Entry| entry.first == *relay && matches!(entry.stage, Stage::Channel(..));
        self.iter()
            .filter(|(_, entry)| waits(entry))
            .map(|(id, _)| id)
            .collect()
    }

    /// The built circuit for a stream: one that is bound to its isolation, else a clean one.
    pub(crate) fn find_built(
        &self,
        usage: &Usage<'_>,
        now: Now,
    ) -> Option<(CircuitId, CircuitKey)> {
        let fitting = self.iter().filter(|(_, entry)| entry.fits(usage, now));
        let built = fitting.filter_map(|(id, entry)| Some((entry, id, entry.built()?)));
        // The youngest of the bound ones: it will last longest.
        let best = built.min_by_key(|(entry, ..)| (entry.is_clean(), age_order(entry, now)));
        best.map(|(_, id, key)| (id, key))
    }

    /// A circuit in the making for a stream, begun not too long ago.
    pub(crate) fn find_pending(&self, usage: &Usage<'_>, now: Now) -> Option<CircuitId> {
        let fitting = self
            .pending()
            .filter(|(_, entry)| !entry.is_slow(now) && entry.fits(usage, now));
        let best = fitting.min_by_key(|(_, entry)| entry.is_clean());
        best.map(|(id, _)| id)
    }

    /// Notes whether a circuit that was begun is for streams that live long.
    pub(crate) fn note_stable(&mut self, begun: Option<CircuitId>, is_stable: bool) {
        if let Some(entry) = begun.and_then(|id| self.entry_mut(id)) {
            entry.is_stable = is_stable;
        }
    }

    /// Clean circuits, ready or in the making, that serve a need (guard-spec 4.11); of Stable
    /// relays where that is needed.
    pub(crate) fn clean_count(&self, need: &ExitNeed, needs_stable: bool, now: Now) -> usize {
        let serves = |entry: &&Entry| match &entry.purpose {
            Purpose::General(exit) => need.is_met_by(exit) && (entry.is_stable || !needs_stable),
            Purpose::Directory | Purpose::Onion(_) => false,
        };
        self.clean(now).filter(serves).count()
    }

    /// Built circuits that are not to be used while a better guard may be had.
    pub(crate) fn waiting_count(&self) -> usize {
        self.entries
            .values()
            .filter(|entry| entry.is_waiting())
            .count()
    }

    /// All clean circuits, ready or in the making.
    pub(crate) fn clean_total(&self, now: Now) -> usize {
        self.clean(now).count()
    }

    fn clean(&self, now: Now) -> impl Iterator<Item = &Entry> {
        let clean = move |entry: &&Entry| {
            let is_ours = entry.is_general() && entry.by_hand.is_none();
            entry.is_clean() && !entry.is_waiting() && !entry.is_slow(now) && is_ours
        };
        self.entries.values().filter(clean)
    }

    /// The directory circuit to a relay, built or not.
    pub(crate) fn directory(&self, relay: &RsaId) -> Option<(CircuitId, Option<CircuitKey>)> {
        let to_it =
            |entry: &Entry| matches!(entry.purpose, Purpose::Directory) && entry.first == *relay;
        let found = self.iter().find(|(_, entry)| to_it(entry));
        found.map(|(id, entry)| (id, entry.built()))
    }

    /// When the first circuit is to be looked at.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.entries.values().map(|entry| entry.review_at).min()
    }

    /// Circuits that are to be looked at now.
    pub(crate) fn due(&self, now: Now) -> Vec<CircuitId> {
        let due = self.iter().filter(|(_, entry)| entry.review_at <= now.mono);
        due.map(|(id, _)| id).collect()
    }
}

fn age_order(entry: &Entry, now: Now) -> Duration {
    let since = entry.dirty_since.unwrap_or(entry.since);
    now.mono.saturating_duration_since(since)
}
