//! Entry guards: which few relays may ever be a first hop (guard-spec; proposals 271 and 310).
//!
//! ```text
//! consensus ─▶ sampled (persistent, in order) ─▶ filtered (listed, allowed) ─▶ primary (first few)
//!                  └──carried traffic──▶ confirmed (persistent) ──────────────────▲
//! ```
//!
//! One guard carries all traffic while it works; the next one is taken only when it fails, and it
//! is tried again on a schedule. No guard leaves the sample but by age or by being unlisted for
//! long, and the sample has a limit, so that nobody can push a client from guard to guard. What
//! circuits do with guards is in [`attempts`]; state survives as text ([`state`]).

mod attempts;
mod candidates;
mod params;
mod selection;
mod set;
mod state;
mod status;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use cepa_crypto::{Ed25519Id, Rng, RsaId};
use cepa_wire::Now;

use crate::select::rules::RulesId;

pub use attempts::{GuardAttempt, GuardEvent, GuardUsability};
pub(crate) use candidates::candidates;
pub use params::GuardParams;
pub use selection::Selection;
use set::GuardSet;
pub use state::{GUARDS_MAX, GuardStateError};
pub use status::{Departure, DepartureReason, GuardChange, GuardRank, GuardStatus};

/// What a circuit is for, as far as guards are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardUse {
    /// Traffic of users: the first guard that works.
    Data,
    /// Directory documents, over one hop: spread over a few guards.
    Directory,
}

/// Whether a guard can be reached, as far as we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reachable {
    /// Nobody knows whether the guard answers: it is worth a try.
    Maybe,
    /// The guard has worked.
    Yes,
    /// The guard has failed, and is not to be tried before its time.
    No,
}

/// A relay that the consensus lists as a guard for all purposes (Guard, Stable, Fast, V2Dir,
/// Running and Valid), or a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardCandidate {
    /// The RSA identity of the relay.
    pub rsa: RsaId,
    /// Its Ed25519 identity, where it is known.
    pub ed: Option<Ed25519Id>,
    /// Its nickname, for readers.
    pub nickname: String,
    /// Where it listens, if it is a bridge.
    pub bridge: Option<SocketAddr>,
    /// Its weight as a guard.
    pub weight: u64,
    /// Whether the operator's rules allow it as a first hop (guard-spec 4.2).
    pub allowed: bool,
}

/// A sampled guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Guard {
    rsa: RsaId,
    ed: Option<Ed25519Id>,
    nickname: String,
    bridge: Option<SocketAddr>,
    sampled_on: SystemTime,
    /// The version of the program that sampled it.
    sampled_by: String,
    /// In the newest consensus, with all the flags.
    listed: bool,
    unlisted_since: Option<SystemTime>,
    confirmed_on: Option<SystemTime>,
    /// Words of its line that other programs know.
    others: Vec<String>,
    /// Listed and allowed by the newest consensus; false before there is one. Not persistent, as
    /// all below.
    allowed: bool,
    reachable: Reachable,
    failing_since: Option<Now>,
    tried_last: Option<Now>,
}

impl Guard {
    fn is_filtered(&self) -> bool {
        self.listed && self.allowed
    }

    fn is_usable(&self) -> bool {
        self.is_filtered() && self.reachable != Reachable::No
    }

    /// A failed one is worth a try again in its time (guard-spec 4.5).
    fn consider_retry(&mut self, is_primary: bool, params: &GuardParams, now: Now) {
        if self.reachable != Reachable::No {
            return;
        }
        let failing_for = self
            .failing_since
            .map_or(Duration::ZERO, |at| since(at, now));
        let wait = params.retry_after(is_primary, failing_for);
        if self.tried_last.is_none_or(|at| since(at, now) >= wait) {
            self.reachable = Reachable::Maybe;
        }
    }

    fn answers(&mut self) {
        self.reachable = Reachable::Yes;
        self.failing_since = None;
    }

    fn fails(&mut self, now: Now) {
        self.reachable = Reachable::No;
        self.failing_since.get_or_insert(now);
        self.tried_last.get_or_insert(now);
    }
}

/// The guards of a client.
#[derive(Debug)]
pub struct Guards {
    params: GuardParams,
    /// The guards of the newest live consensus, and the bridges.
    listed: Vec<GuardCandidate>,
    bridges: Option<Vec<GuardCandidate>>,
    sets: BTreeMap<Selection, GuardSet>,
    /// What the operator's rules say about first hops.
    rules: RulesId,
    /// The set in use; `None` before the first consensus, when it is the default one.
    selection: Option<Selection>,
    has_warned: bool,
    attempts: attempts::Attempts,
    /// When a circuit last succeeded.
    on_internet_last: Option<Now>,
    /// The last guards that were given up.
    departures: VecDeque<Departure>,
    /// What happened to guards, and was not told yet.
    changes: VecDeque<(GuardChange, RsaId, String)>,
    changed: bool,
}

impl Guards {
    /// Guards of a client that has chosen none yet.
    #[must_use]
    pub fn new(params: GuardParams) -> Self {
        Guards {
            params,
            listed: Vec::new(),
            bridges: None,
            sets: BTreeMap::new(),
            rules: RulesId::default(),
            selection: None,
            has_warned: false,
            attempts: attempts::Attempts::default(),
            on_internet_last: None,
            departures: VecDeque::new(),
            changes: VecDeque::new(),
            changed: false,
        }
    }

    /// The guards under rules of the operator's, by which candidates are judged: to be told before
    /// the first consensus.
    #[must_use]
    pub fn with_rules(self, rules: RulesId) -> Self {
        Guards { rules, ..self }
    }

    /// Other rules from the next consensus on, which is to follow.
    pub fn set_rules(&mut self, rules: RulesId) {
        self.rules = rules;
    }

    /// Takes the guards that a consensus lists, and its parameters (guard-spec 4.10). Guards that
    /// vanished are kept as unlisted, old ones go, the primary guards are chosen anew. One that is
    /// not live any more says only what may be tried until there is a newer one.
    pub fn handle_consensus(
        &mut self,
        params: GuardParams,
        listed: Vec<GuardCandidate>,
        is_live: bool,
        now: Now,
        rng: &mut Rng,
    ) {
        self.params = params;
        self.listed = listed;
        let by_id = sampled_of(&self.listed, &self.sets);
        let mut gone = Vec::new();
        for (name, set) in &mut self.sets {
            if *name == Selection::Bridges {
                continue;
            }
            self.changed |= set.update_allowed(&by_id);
            if is_live {
                self.changed |= set.update_listed(&by_id, &self.params, now, rng);
                gone.extend(set.expire(*name, &self.params, now));
            }
        }
        drop(by_id);
        self.remember(gone);
        if is_live {
            self.choose_selection();
        }
        self.complete_sample(is_live, now, rng);
    }

    /// Uses these bridges and no guards of the consensus (guard-spec 2.A), even if there are none
    /// yet; or guards and no bridges.
    pub fn use_bridges(&mut self, bridges: Option<Vec<GuardCandidate>>, now: Now, rng: &mut Rng) {
        self.bridges = bridges;
        if let Some(bridges) = &mut self.bridges {
            bridges.truncate(params::SAMPLE_MAX);
            let by_id = sampled_of(bridges, &self.sets);
            let set = self.sets.entry(Selection::Bridges).or_default();
            self.changed |= set.update_allowed(&by_id);
            self.changed |= set.update_listed(&by_id, &self.params, now, rng);
            let gone = set.expire(Selection::Bridges, &self.params, now);
            self.remember(gone);
        }
        self.choose_selection();
        self.complete_sample(true, now, rng);
    }

    fn choose_selection(&mut self) {
        let allowed = self.listed.iter().filter(|one| one.allowed).count();
        let before = self.selection;
        let now_used = match self.bridges.is_some() {
            true => Selection::Bridges,
            false => Selection::choose(
                before,
                self.rules,
                (allowed, self.listed.len()),
                &self.params,
            ),
        };
        self.selection = Some(now_used);
        if before.is_some_and(|before| before != now_used) {
            tracing::info!("guards are taken from the {} set", now_used.name());
            self.attempts.disown_all();
        }
        let is_extreme = allowed * 100 < self.listed.len() * self.params.extreme_percent;
        if is_extreme && matches!(now_used, Selection::Restricted(_)) && !self.has_warned {
            self.has_warned = true;
            let listed = self.listed.len();
            tracing::warn!(
                "the rules allow {allowed} of {listed} guards: that makes you stand out"
            );
        }
    }

    /// Sees that enough guards are sampled, and which are primary.
    fn complete_sample(&mut self, is_live: bool, now: Now, rng: &mut Rng) {
        let name = self.selection();
        let params = self.params.clone();
        let set = self.sets.entry(name).or_default();
        set.choose_primary(&params);
        let listed = set.sampled.iter().filter(|guard| guard.listed).count();
        let is_short = set.primary.len() < params.primary_max;
        if is_live && listed < params.filtered_min {
            self.expand(now, rng, |guard| guard.listed);
        }
        if is_live && is_short {
            self.expand(now, rng, Guard::is_usable);
        }
        if let Some(set) = self.sets.get_mut(&name) {
            set.choose_primary(&params);
        }
    }

    /// Draws guards into the sample until enough of it count, or it is as large as it may be
    /// (guard-spec 4.1, 4.2).
    fn expand(&mut self, now: Now, rng: &mut Rng, counts: impl Fn(&Guard) -> bool) {
        let name = self.selection();
        let pool = match name {
            Selection::Bridges => self.bridges.as_deref().unwrap_or_default(),
            Selection::Default | Selection::Restricted(_) => &self.listed,
        };
        // A restricted sample is drawn from what is allowed: else it might hold none of it.
        let is_restricted = matches!(name, Selection::Restricted(_));
        let eligible = || pool.iter().filter(|one| !is_restricted || one.allowed);
        let sample_max = match name {
            Selection::Bridges => params::SAMPLE_MAX,
            Selection::Default | Selection::Restricted(_) => {
                self.params.sample_max(eligible().count())
            }
        };
        let set = self.sets.entry(name).or_default();
        let counted = set.sampled.iter().filter(|guard| counts(guard)).count();
        let wanted = self.params.filtered_min.saturating_sub(counted);
        if wanted > 0 && set.sampled.len() < sample_max {
            let eligible = eligible().collect();
            let before = set.sampled.len();
            self.changed |= set.expand(eligible, sample_max, &self.params, now, rng, counts);
            let fresh = set.sampled.iter().skip(before);
            let fresh = fresh.map(|one| (GuardChange::New, one.rsa, one.nickname.clone()));
            self.changes.extend(fresh);
        }
    }

    /// A guard can be reached, or cannot.
    fn note_reachable(&mut self, id: &RsaId, reachable: Reachable, now: Now) {
        let Some(guard) = self.guard_mut(id) else {
            return;
        };
        let before = guard.reachable;
        let change = match reachable {
            Reachable::No => {
                guard.fails(now);
                GuardChange::Down
            }
            _ => {
                guard.answers();
                GuardChange::Up
            }
        };
        if before != reachable {
            let nickname = guard.nickname.clone();
            self.changes.push_back((change, *id, nickname));
        }
    }

    /// Gives up all guards of the set in use (DROPGUARDS); the next consensus, which is to follow,
    /// draws others.
    pub fn give_up_all(&mut self) {
        if let Some(set) = self.sets.remove(&self.selection()) {
            let gone = set.sampled.into_iter();
            let gone = gone.map(|one| (GuardChange::Dropped, one.rsa, one.nickname));
            self.changes.extend(gone);
        }
        self.attempts.disown_all();
        self.changed = true;
    }

    /// What happened to a guard. To be asked until there is nothing more; only the last changes
    /// are kept.
    pub fn poll_change(&mut self) -> Option<(GuardChange, RsaId, String)> {
        let old = self.changes.len().saturating_sub(params::SAMPLE_MAX);
        self.changes.drain(..old);
        self.changes.pop_front()
    }

    /// The guards to try for a new circuit, best first (guard-spec 4.6). The caller takes the first
    /// that its path allows, and says so by [`Guards::begin`]. Empty only if no sampled guard is
    /// listed and allowed.
    pub fn ranked(&mut self, usage: GuardUse, now: Now, rng: &mut Rng) -> Vec<RsaId> {
        self.refresh(now);
        let among = match usage {
            GuardUse::Data => self.params.primary_used,
            GuardUse::Directory => self.params.primary_used_directory,
        };
        if !self.set().is_some_and(GuardSet::has_preferred) {
            self.expand(now, rng, Guard::is_usable);
        }
        let pending = self.attempts.pending();
        let name = self.selection();
        let set = self.sets.entry(name).or_default();
        let ranked = set.ranked(among, &pending, rng);
        if !ranked.is_empty() {
            return ranked;
        }
        // All have failed: each is worth a try again (guard-spec 4.6, the last case).
        for guard in &mut set.sampled {
            guard.reachable = Reachable::Maybe;
        }
        set.ranked(among, &pending, rng)
    }

    /// Lets failed guards be tried again whose time has come (guard-spec 4.5).
    fn refresh(&mut self, now: Now) {
        if let Some(set) = self
            .sets
            .get_mut(&self.selection.unwrap_or(Selection::Default))
        {
            set.consider_retry(&self.params, now);
        }
    }

    /// A guard cannot be connected to (guard-spec 4.7), whatever the circuit was for.
    pub fn handle_unreachable(&mut self, id: &RsaId, now: Now) {
        self.note_reachable(id, Reachable::No, now);
    }

    /// The network may be up again: primary guards that failed are worth a try.
    pub fn retry_primary(&mut self) {
        let name = self.selection();
        if let Some(set) = self.sets.get_mut(&name) {
            set.retry_primary();
        }
    }

    /// Whether a primary guard may be tried: what a client is to do before it leaves them.
    pub fn has_usable_primary(&mut self, now: Now) -> bool {
        self.refresh(now);
        self.set().is_some_and(|set| set.has_usable_primary(&[]))
    }

    /// The set in use.
    #[must_use]
    pub fn selection(&self) -> Selection {
        self.selection.unwrap_or(Selection::Default)
    }

    /// The primary guards, best first.
    #[must_use]
    pub fn primary(&self) -> &[RsaId] {
        self.set().map_or(&[], |set| &set.primary)
    }

    /// All guards of the sample in use, in the order in which they were drawn.
    pub fn sampled(&self) -> impl Iterator<Item = RsaId> {
        let set = self.set().into_iter();
        set.flat_map(|set| set.sampled.iter().map(|guard| guard.rsa))
    }

    /// How many guards are sampled in the set in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.set().map_or(0, |set| set.sampled.len())
    }

    /// True before the first consensus.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of a sampled guard's reachability.
    #[must_use]
    pub fn reachable(&self, id: &RsaId) -> Option<Reachable> {
        self.set()?.guard(id).map(|guard| guard.reachable)
    }

    /// True once after each change of what [`Guards::encode`] writes.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    fn set(&self) -> Option<&GuardSet> {
        self.sets.get(&self.selection())
    }

    fn guard_mut(&mut self, id: &RsaId) -> Option<&mut Guard> {
        let name = self.selection();
        self.sets.get_mut(&name)?.guard_mut(id)
    }
}

/// Those candidates that are sampled already.
fn sampled_of<'a>(
    candidates: &'a [GuardCandidate],
    sets: &BTreeMap<Selection, GuardSet>,
) -> BTreeMap<RsaId, &'a GuardCandidate> {
    let sampled = sets.values().flat_map(|set| &set.sampled);
    let sampled: BTreeSet<RsaId> = sampled.map(|guard| guard.rsa).collect();
    let known = candidates.iter().filter(|one| sampled.contains(&one.rsa));
    known.map(|one| (one.rsa, one)).collect()
}

/// How long ago it was, by the clock that says more: the monotonic one may stand still while a
/// laptop sleeps, the other one may be set back.
fn since(then: Now, now: Now) -> Duration {
    let wall = now.wall.duration_since(then.wall).unwrap_or_default();
    now.mono.saturating_duration_since(then.mono).max(wall)
}

/// A time up to `span` before `time`, so that dates in the state give less away (guard-spec A.2).
fn before_random(time: SystemTime, span: Duration, rng: &mut Rng) -> SystemTime {
    let back = Duration::from_secs(rng.below(span.as_secs().max(1)));
    time.checked_sub(back).unwrap_or(time)
}

#[cfg(test)]
mod tests;
