//! The circuits of onion services: a path for each name, its last hop, what became of it
//! (proposal 333 for the paths; [`crate::onion::circuits`] for the states).
//!
//! Paths of three hops are kept ready once onion services are in use; each wish takes one, as it is
//! or with one hop more, so that most circuits cost one round trip; with full vanguards, two more.

use cepa_circuit::CircuitKey;
use cepa_circuit::handshake::HopSpec;
use cepa_crypto::RsaId;
use cepa_dir::Relay;
use cepa_dir::fetch::Reply;
use cepa_netdoc::policy::is_internal;
use cepa_wire::Now;
use cepa_wire::destroy::DestroyReason;

use super::Client;
use crate::circuits::pool::{self, CLEAN_MAX, CircuitId, Entry};
use crate::onion::circuits::{
    DOOMED_FOR, EXTEND_MAX, Failure, Name, Named, PENDING_PATHS_MAX, READY_PATHS, Stage,
};
use crate::onion::{Ending, Event, LastHop, Purpose};
use crate::plane::CircuitClose;
use crate::select::paths::onion::{self, Behind, OnionRules, is_rendezvous_point};
use crate::select::paths::{PathError, hop, hop_spec};
use crate::select::rules::Subject;
use crate::select::vanguards::VanguardMode;
use crate::status::{CircuitChange, CircuitEnd, CircuitPurpose};

impl Client {
    /// The circuit of a name, if all its hops stand.
    pub(super) fn standing(&self, name: Name) -> Option<CircuitKey> {
        let named = self.onion.by_name.get(&name)?;
        match named.stage {
            Stage::Ready(id) => self.pool.entry(id)?.built(),
            _ => None,
        }
    }

    /// A machine needs a circuit no more.
    pub(super) fn close_named(&mut self, name: Name, end: CircuitEnd, now: Now) {
        for fetch in self.onion.asked_over(name) {
            self.cancel_asked(fetch, now);
        }
        let entry = self
            .onion
            .pool_of(name)
            .and_then(|id| self.take_entry(id, end));
        self.onion.remove(name);
        if let Some(key) = entry.and_then(|entry| entry.key()) {
            self.plane.retire_circuit(key, now);
        }
    }

    /// A circuit will not stand, or stands no more.
    pub(super) fn end_named(&mut self, name: Name, ending: Ending, now: Now) {
        let end = match ending {
            Ending::Timeout => CircuitEnd::Timeout,
            _ => CircuitEnd::Finished,
        };
        self.close_named(name, end, now);
        let (owner, circuit) = name;
        self.tell(owner, Event::Ended { circuit, ending }, now);
    }

    /// Gives each circuit that waits a path: one that is ready, one in the making, a new one.
    pub(super) fn attach_onion(&mut self, now: Now) {
        if !self.is_ready(now) {
            return;
        }
        for name in self.onion.waiting() {
            if !self.attach_named(name, now) {
                break;
            }
        }
    }

    /// False if no more paths may be begun now.
    fn attach_named(&mut self, name: Name, now: Now) -> bool {
        let Some(named) = self.onion.by_name.get(&name) else {
            return true;
        };
        if !self.is_permitted(&named.last) {
            self.end_named(name, Ending::LastHop, now);
            return true;
        }
        let ends_at_path = named.ends_at_path(self.vanguards.mode());
        let free = self.free_paths(now);
        let fitting = free.filter(|(_, entry)| {
            let path = entry.onion_path();
            path.is_some_and(|path| fits(named, ends_at_path, path))
        });
        let best = fitting.min_by_key(|(id, entry)| (entry.built().is_none(), *id));
        if let Some((id, entry)) = best {
            let built = entry.built();
            self.bind(name, id);
            if let Some(key) = built {
                self.continue_named(name, id, key, now);
            }
            return true;
        }
        let rendezvous_excluded = match &named.last {
            LastHop::Any(excluded) if ends_at_path => Some(excluded.clone()),
            _ => None,
        };
        let last = last_id(&named.last);
        match self.launch_path(last, rendezvous_excluded.as_deref(), now) {
            Ok(Some(id)) => {
                self.bind(name, id);
                true
            }
            Ok(None) => false,
            Err(error) => {
                tracing::debug!("no path for an onion service: {error}");
                self.upkeep.note_no_path(now);
                false
            }
        }
    }

    /// A path is for one name from now on.
    fn bind(&mut self, name: Name, id: CircuitId) {
        self.onion.bind(name, id);
        self.tell_circuit(id, CircuitChange::Purpose(CircuitPurpose::OnionPath));
    }

    /// Whether a last hop may be asked for: it is in the consensus, or where strangers may send us.
    fn is_permitted(&self, last: &LastHop) -> bool {
        match last {
            LastHop::Any(_) => true,
            LastHop::Listed(id) => {
                let is_shunned = self.config.rules.strict && !self.permits.of(id).any;
                !is_shunned && self.view().is_some_and(|view| view.relay(id).is_some())
            }
            LastHop::Told(spec) => {
                let (rules, id) = (&self.config.rules, spec.link_specifiers.rsa_id());
                let told = Subject::told(id.as_ref(), &spec.link_specifiers);
                let is_listed = id.is_some_and(|id| {
                    let view = self.view();
                    view.is_some_and(|view| view.consensus().router(&id).is_some())
                });
                let is_shunned = rules.excludes(&told)
                    || (is_listed && id.is_some_and(|id| !self.permits.of(&id).any));
                if rules.strict && is_shunned {
                    return false;
                }
                let address = spec.link_specifiers.ipv4();
                let is_outside = |address: &std::net::SocketAddrV4| {
                    self.network.is_testing || !is_internal((*address.ip()).into())
                };
                spec.link_specifiers.rsa_id().is_some() && address.as_ref().is_none_or(is_outside)
            }
        }
    }

    /// Paths that no name is bound to.
    fn free_paths(&self, now: Now) -> impl Iterator<Item = (CircuitId, &Entry)> {
        let free = move |id: CircuitId, entry: &Entry| {
            let is_path = entry.onion_path().is_some() && entry.is_clean() && !entry.is_slow(now);
            is_path && self.onion.name_of(id).is_none()
        };
        self.pool.iter().filter(move |(id, entry)| free(*id, entry))
    }

    /// Begins a path; `None` if there are too many, or if it is too early after a failure.
    fn launch_path(
        &mut self,
        last: Option<RsaId>,
        ends: Option<&[RsaId]>,
        now: Now,
    ) -> Result<Option<CircuitId>, PathError> {
        let pending = self.pool.pending();
        let pending =
            pending.filter(|(_, entry)| entry.onion_path().is_some() && !entry.is_slow(now));
        if self.upkeep.launch_after > now.mono || pending.count() >= PENDING_PATHS_MAX {
            return Ok(None);
        }
        let entries = self.entries(now);
        let Some(view) = self.download.view() else {
            return Ok(None);
        };
        self.vanguards
            .refresh(view, &self.permits, now, &mut self.rng);
        let (layer2, layer3) = (self.vanguards.layer2(now), self.vanguards.layer3(now));
        let rules = OnionRules {
            entries: &entries,
            layer2: layer2.as_deref(),
            layer3: layer3.as_deref(),
            last: last.as_ref(),
            ends,
            permits: &self.permits,
            distinct_subnets: !self.config.subnets_shared,
        };
        let path = onion::choose(view, &rules, &mut self.rng)?;
        let (target, first, rest) = path.specs(view.params());
        // Guards that cannot be used do not keep the circuit waiting.
        let is_excluded = |id: &RsaId| view.relay(id).is_none();
        let excluded = self.guards.sampled().filter(is_excluded).collect();
        let attempt = self.begin_attempt(&target.rsa, excluded, now);
        let purpose = pool::Purpose::Onion(Box::new(path.hops));
        let opened = self.open_circuit(purpose, target, first, rest, now);
        self.note_attempt(opened, attempt);
        Ok(opened)
    }

    /// Keeps paths ready while onion services are in use.
    pub(super) fn build_paths_ahead(&mut self, now: Now) {
        if !self.is_ready(now) || !self.onion.is_used(now) {
            return;
        }
        let waiting = self.pool.waiting_count();
        if waiting >= READY_PATHS && !self.guards.has_usable_primary(now) {
            return;
        }
        let is_ready = |(_, entry): &(CircuitId, &Entry)| !entry.is_waiting();
        while self.free_paths(now).filter(is_ready).count() < READY_PATHS {
            match self.launch_path(None, None, now) {
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(_) => return self.upkeep.note_no_path(now),
            }
        }
    }

    /// All hops of a circuit for onion services stand, or one more does.
    pub(super) fn onion_circuit_built(&mut self, id: CircuitId, key: CircuitKey, now: Now) {
        let Some(name) = self.onion.name_of(id) else {
            return;
        };
        let Some(named) = self.onion.by_name.get_mut(&name) else {
            return;
        };
        match &named.stage {
            Stage::Path(_) => self.continue_named(name, id, key, now),
            Stage::Middle(..) => {
                named.has_middle = true;
                self.extend_named(name, id, key, now);
            }
            Stage::Extending(_, last) => {
                let last = HopSpec::clone(last);
                self.finish_named(name, id, key, &last, now);
            }
            Stage::Waiting | Stage::Ready(_) => {}
        }
    }

    /// The path of a circuit stands: what comes behind is added, or it is there.
    fn continue_named(&mut self, name: Name, id: CircuitId, key: CircuitKey, now: Now) {
        let mut rng = self.rng.fork();
        let (Some(named), Some(entry)) = (self.onion.by_name.get(&name), self.pool.entry(id))
        else {
            return;
        };
        let Some(path) = entry.onion_path() else {
            return;
        };
        let mode = self.vanguards.mode();
        if named.ends_at_path(mode) {
            let [.., last] = path;
            let last = hop_spec(last, true);
            return self.finish_named(name, id, key, &last, now);
        }
        if !named.wants_middle(mode) {
            return self.extend_named(name, id, key, now);
        }
        let mut excluded = named.avoided.clone();
        excluded.extend(last_id(&named.last));
        let behind = self.behind(path, &excluded);
        let Some(view) = self.download.view() else {
            return;
        };
        let Some(middle) = behind.middle(view, &mut rng) else {
            return self.end_named(name, Ending::NoPath, now);
        };
        let (spec, middle) = (hop(middle, view.params()), middle.rsa_id);
        self.add_hop(name, key, spec, Stage::Middle(id, middle), now);
    }

    /// What may come behind a path.
    fn behind<'a>(&'a self, path: &'a [Relay; 3], excluded: &'a [RsaId]) -> Behind<'a> {
        Behind {
            path,
            excluded,
            permits: &self.permits,
            is_distinct: self.vanguards.mode() != VanguardMode::Full,
            distinct_subnets: !self.config.subnets_shared,
        }
    }

    /// All hops before the last one stand.
    fn extend_named(&mut self, name: Name, id: CircuitId, key: CircuitKey, now: Now) {
        let mut rng = self.rng.fork();
        let (Some(named), Some(entry)) = (self.onion.by_name.get(&name), self.pool.entry(id))
        else {
            return;
        };
        let (Some(path), Some(view)) = (entry.onion_path(), self.download.view()) else {
            return;
        };
        let specs = |relay: &Relay| (hop(relay, view.params()), hop_spec(relay, true));
        let found = match &named.last {
            LastHop::Listed(relay) => view.relay(relay).map(specs),
            LastHop::Told(spec) => Some((HopSpec::clone(spec), HopSpec::clone(spec))),
            LastHop::Any(excluded) => {
                let excluded = [excluded.as_slice(), &named.avoided].concat();
                let behind = self.behind(path, &excluded);
                let chosen = match named.purpose {
                    Purpose::Rendezvous => behind.rendezvous_point(view, &mut rng),
                    _ => behind.intro_point(view, &mut rng),
                };
                chosen.map(specs)
            }
        };
        let Some((spec, told)) = found else {
            let ending = match named.last {
                LastHop::Any(_) => Ending::NoPath,
                _ => Ending::LastHop,
            };
            return self.end_named(name, ending, now);
        };
        self.add_hop(name, key, spec, Stage::Extending(id, Box::new(told)), now);
    }

    /// Extends the circuit of a name by one hop.
    fn add_hop(&mut self, name: Name, key: CircuitKey, spec: HopSpec, stage: Stage, now: Now) {
        let Some(named) = self.onion.by_name.get_mut(&name) else {
            return;
        };
        named.stage = stage;
        if let Some(entry) = named.pool().and_then(|id| self.pool.entry_mut(id)) {
            entry.review_at = now.mono + EXTEND_MAX;
            entry.path.push(spec.link_specifiers.rsa_id());
        }
        if let Err(error) = self.plane.extend_circuit(key, spec, now) {
            tracing::debug!("a circuit cannot be extended: {error}");
            self.drop_named(name, Failure::LastHop, now);
        }
    }

    /// A circuit stands.
    fn finish_named(
        &mut self,
        name: Name,
        id: CircuitId,
        key: CircuitKey,
        last: &HopSpec,
        now: Now,
    ) {
        if let Some(named) = self.onion.by_name.get_mut(&name) {
            named.stage = Stage::Ready(id);
        }
        if let Some(entry) = self.pool.entry_mut(id) {
            entry.review_at = now.mono + CLEAN_MAX;
        }
        self.plane.listen(key);
        let Some(kh) = self
            .plane
            .circuit_kh(key)
            .map(|kh| zeroize::Zeroizing::new(*kh))
        else {
            return;
        };
        let (owner, circuit) = name;
        let built = Event::Built {
            circuit,
            last,
            kh: &kh,
        };
        self.tell(owner, built, now);
    }

    /// A path in the making is too late: its name waits for another.
    pub(super) fn release_path(&mut self, id: CircuitId) {
        let named = self.onion.unbind(id);
        let named = named.and_then(|name| self.onion.by_name.get_mut(&name));
        if let Some(named) = named {
            named.release();
            let was = named.purpose.into();
            self.tell_circuit(id, CircuitChange::Purpose(was));
        }
    }

    /// A circuit with a name does not get on: another path, or the end.
    fn drop_named(&mut self, name: Name, failure: Failure, now: Now) {
        let Some(named) = self.onion.by_name.get_mut(&name) else {
            return;
        };
        let id = named.pool();
        let ending = named.fail(failure);
        if let Some(id) = id {
            let entry = self.take_entry(id, CircuitEnd::Finished);
            self.onion.unbind(id);
            let key = entry.and_then(|entry| entry.key());
            if let Some(key) = key {
                self.plane.close_circuit(key, DestroyReason::NONE, now);
            }
        }
        if let Some(ending) = ending {
            self.end_named(name, ending, now);
        }
    }

    /// A circuit in the pool is gone, and why: what its name is told.
    pub(super) fn onion_circuit_gone(
        &mut self,
        id: CircuitId,
        reason: Option<CircuitClose>,
        now: Now,
    ) {
        let Some(name) = self.onion.name_of(id) else {
            return;
        };
        let Some(named) = self.onion.by_name.get(&name) else {
            return;
        };
        match named.stage {
            Stage::Ready(_) => self.end_named(name, Ending::Closed, now),
            Stage::Extending(..) => {
                let before_last = 2 + usize::from(named.has_middle);
                self.drop_named(name, blame(reason, before_last), now);
            }
            Stage::Path(_) | Stage::Middle(..) | Stage::Waiting => {
                self.drop_named(name, Failure::Path, now)
            }
        }
    }

    /// The time of a built circuit has come. True if it is kept.
    pub(super) fn keeps_onion_circuit(&mut self, id: CircuitId, now: Now) -> bool {
        let Some(name) = self.onion.name_of(id) else {
            return false;
        };
        match self.onion.by_name.get(&name).map(|named| &named.stage) {
            Some(Stage::Ready(_)) if self.onion.doomed.remove(&name) => {
                self.end_named(name, Ending::Closed, now);
                true
            }
            // Its machine decides how long it is of use.
            Some(Stage::Ready(_)) => {
                if let Some(entry) = self.pool.entry_mut(id) {
                    entry.review_at = now.mono + CLEAN_MAX;
                }
                true
            }
            Some(Stage::Extending(..)) => {
                self.drop_named(name, Failure::Timeout, now);
                true
            }
            Some(Stage::Middle(..)) => {
                self.drop_named(name, Failure::Path, now);
                true
            }
            _ => false,
        }
    }

    /// Ends a circuit of ours in a moment, when what was said last is on its way.
    pub(super) fn doom(&mut self, id: CircuitId, now: Now) {
        let Some(name) = self.onion.name_of(id) else {
            return;
        };
        self.onion.doomed.insert(name);
        if let Some(entry) = self.pool.entry_mut(id) {
            entry.review_at = now.mono + DOOMED_FOR;
        }
    }

    /// What is due by the clock.
    pub(super) fn review_onion(&mut self, now: Now) {
        for name in self.onion.late(now) {
            self.end_named(name, Ending::Timeout, now);
        }
        for fetch in self.onion.unanswered(now) {
            let name = self.onion.asked.get(&fetch).map(|asked| asked.name);
            self.cancel_asked(fetch, now);
            if let Some(name) = name {
                self.tell_reply(name, Reply::failed(), now);
            }
        }
    }
}

/// Whether a path can be one of this circuit.
fn fits(named: &Named, ends_at_path: bool, path: &[Relay; 3]) -> bool {
    let [_, second, third] = path;
    match &named.last {
        LastHop::Any(excluded) if ends_at_path => {
            is_rendezvous_point(third) && !excluded.contains(&third.rsa_id)
        }
        // The guard stays, whoever comes last.
        last => {
            let last = last_id(last);
            [second, third].iter().all(|hop| Some(hop.rsa_id) != last)
        }
    }
}

/// The relay that must come last.
fn last_id(last: &LastHop) -> Option<RsaId> {
    match last {
        LastHop::Listed(id) => Some(*id),
        LastHop::Told(spec) => spec.link_specifiers.rsa_id(),
        LastHop::Any(_) => None,
    }
}

/// Who is to blame that a circuit ended while its last hop was added behind this one.
fn blame(reason: Option<CircuitClose>, before_last: usize) -> Failure {
    match reason {
        Some(CircuitClose::Truncated(hop, _)) if hop == before_last => Failure::LastHop,
        Some(CircuitClose::Violation(_)) => Failure::LastHop,
        Some(CircuitClose::Truncated(..) | CircuitClose::Destroyed(_)) => Failure::Suspicion,
        _ => Failure::Path,
    }
}
