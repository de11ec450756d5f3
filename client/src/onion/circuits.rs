//! Circuits that machines of onion services asked for, by the names that these gave them
//! (rend-spec-v3 1.2; path-spec 2.4).
//!
//! ```text
//! Waiting ──a path of three hops──▶ Path ─┬─ ends there ─▶ Ready ──▶ told Closed
//!    ▲                                    ├─ Middle ─┐       ▲
//!    │                                    └─▶ Extending ─────┘
//!    └────────── it failed, a few times ──────────┘──▶ told NoPath, LastHop, Timeout
//! ```
//!
//! Tables and the judgement of failures; what follows is done by the client. A path is bound to one
//! name, and to none after it. The last hop is to blame when the hop before it says so, or when it
//! could not be reached over two paths.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cepa_circuit::StreamKey;
use cepa_circuit::handshake::HopSpec;
use cepa_crypto::RsaId;
use cepa_crypto::onion::OnionAddress;
use cepa_wire::Now;

use crate::circuits::pool::CircuitId;
use crate::command::FetchId;
use crate::onion::{CircuitName, Ending, LastHop, Owner, Purpose, VisitId};
use crate::select::vanguards::VanguardMode;
use crate::status::DescriptorTransfer;

/// Most circuits that have names. A bound of ours; a service meets each visitor on one.
pub(crate) const NAMED_MAX: usize = 768;
/// Most of them that meet visitors, so that a flood of these leaves room for the rest.
pub(crate) const MEETINGS_MAX: usize = 640;
/// How long a circuit may take from the wish to the end, all tries included.
pub(crate) const OPEN_MAX: Duration = Duration::from_secs(60);
/// How long one hop more may take.
pub(crate) const EXTEND_MAX: Duration = Duration::from_secs(6);
/// How long a directory's answer may take.
pub(crate) const REQUEST_MAX: Duration = Duration::from_secs(30);
/// How long after their last use paths are kept ready (`PredictedPortsRelevanceTime`).
pub(crate) const READY_AGE_MAX: Duration = Duration::from_secs(3600);
/// Paths that are kept ready then: a visit takes three.
pub(crate) const READY_PATHS: usize = 3;
/// How long a circuit outlives the last word to a peer that is turned away.
pub(crate) const DOOMED_FOR: Duration = Duration::from_millis(500);
/// Most paths in the making.
pub(crate) const PENDING_PATHS_MAX: usize = 24;
/// Paths that are tried for one circuit.
const PATHS_TRIED_MAX: u32 = 4;
/// Paths over which a last hop may be out of reach until it is to blame.
const SUSPICIONS_MAX: u32 = 2;

/// Whose circuit, and its name.
pub(crate) type Name = (Owner, CircuitName);

/// How far a circuit is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// For a path.
    Waiting,
    /// It has one that is ready or in the making.
    Path(CircuitId),
    /// A hop behind the path is being added, so that the last one does not see vanguards.
    Middle(CircuitId, RsaId),
    /// The last hop, as its peers are to know it, is being added.
    Extending(CircuitId, Box<HopSpec>),
    /// It stands.
    Ready(CircuitId),
}

/// A circuit with a name.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) purpose: Purpose,
    pub(crate) last: LastHop,
    /// The service that it is for.
    pub(crate) address: Option<OnionAddress>,
    pub(crate) stage: Stage,
    /// When it must stand.
    pub(crate) until: Instant,
    /// Relays of our choice that could not be reached.
    pub(crate) avoided: Vec<RsaId>,
    /// Whether a middle stands between the path and the last hop.
    pub(crate) has_middle: bool,
    failures: u32,
    suspicions: u32,
}

/// What went wrong with a circuit that does not stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Some hop before the last, or nobody knows who.
    Path,
    /// Perhaps the last hop: the circuit broke while it was added.
    Suspicion,
    /// The last hop, as the hop before it said, or as it did not prove its key.
    LastHop,
    /// The last hop was not there in time.
    Timeout,
}

impl Named {
    pub(crate) fn new(purpose: Purpose, last: LastHop, now: Now) -> Self {
        Named {
            purpose,
            last,
            address: None,
            stage: Stage::Waiting,
            until: now.mono + OPEN_MAX,
            avoided: Vec::new(),
            has_middle: false,
            failures: 0,
            suspicions: 0,
        }
    }

    /// The circuit in the pool.
    pub(crate) fn pool(&self) -> Option<CircuitId> {
        match self.stage {
            Stage::Waiting => None,
            Stage::Path(id) | Stage::Middle(id, _) | Stage::Extending(id, _) | Stage::Ready(id) => {
                Some(id)
            }
        }
    }

    /// Waits for another path.
    pub(crate) fn release(&mut self) {
        (self.stage, self.has_middle) = (Stage::Waiting, false);
    }

    /// True if the third hop may be the last.
    pub(crate) fn ends_at_path(&self, mode: VanguardMode) -> bool {
        let is_ours = matches!(self.last, LastHop::Any(_));
        mode != VanguardMode::Full && self.purpose == Purpose::Rendezvous && is_ours
    }

    /// Whether a middle is to hide the third layer of vanguards from the last hop, which others
    /// have chosen (proposal 292, 1.2).
    pub(crate) fn wants_middle(&self, mode: VanguardMode) -> bool {
        let by_others = [Purpose::Fetch, Purpose::Introduce, Purpose::Meet];
        mode == VanguardMode::Full && by_others.contains(&self.purpose)
    }

    /// A try has failed: how the circuit has ended, unless it is worth another.
    pub(crate) fn fail(&mut self, failure: Failure) -> Option<Ending> {
        self.failures += 1;
        let ours = matches!(self.last, LastHop::Any(_));
        let suspect = matches!(failure, Failure::Suspicion | Failure::Timeout);
        self.suspicions += u32::from(suspect);
        if let Stage::Extending(_, last) = &self.stage
            && ours
        {
            self.avoided.extend(last.link_specifiers.rsa_id());
        }
        if let Stage::Middle(_, id) = self.stage {
            self.avoided.push(id);
        }
        self.release();
        if !ours && failure == Failure::LastHop {
            return Some(Ending::LastHop);
        }
        if !ours && self.suspicions >= SUSPICIONS_MAX {
            return Some(match failure {
                Failure::Timeout => Ending::Timeout,
                _ => Ending::LastHop,
            });
        }
        (self.failures >= PATHS_TRIED_MAX).then_some(Ending::NoPath)
    }
}

/// A directory request under way.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) name: Name,
    pub(crate) stream: StreamKey,
    pub(crate) until: Instant,
    /// What is told of the descriptor that is asked for, or uploaded.
    pub(crate) transfer: DescriptorTransfer,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct OnionCircuits {
    pub(crate) by_name: BTreeMap<Name, Named>,
    by_pool: BTreeMap<CircuitId, Name>,
    pub(crate) asked: BTreeMap<FetchId, Asked>,
    /// Visits by their circuit, when the service is at the other end.
    pub(crate) visits: BTreeMap<CircuitName, VisitId>,
    /// When one was last asked for.
    pub(crate) used_last: Option<Instant>,
    /// Circuits that end when their time comes.
    pub(crate) doomed: BTreeSet<Name>,
    /// Guesses at ports that a service does not have, by the visitor's circuit.
    pub(crate) guesses: BTreeMap<Name, u32>,
    /// The machines have seen the network as it is.
    pub(crate) network_told: bool,
}

impl OnionCircuits {
    /// The name to which a circuit of the pool's is bound.
    pub(crate) fn name_of(&self, id: CircuitId) -> Option<Name> {
        self.by_pool.get(&id).copied()
    }

    /// The circuit in the pool that a name is bound to.
    pub(crate) fn pool_of(&self, name: Name) -> Option<CircuitId> {
        self.by_name.get(&name)?.pool()
    }

    /// Binds a circuit of the pool's.
    pub(crate) fn bind(&mut self, name: Name, id: CircuitId) {
        if let Some(named) = self.by_name.get_mut(&name) {
            named.stage = Stage::Path(id);
            self.by_pool.insert(id, name);
        }
    }

    /// The circuit in the pool is gone, or is to be.
    pub(crate) fn unbind(&mut self, id: CircuitId) -> Option<Name> {
        self.by_pool.remove(&id)
    }

    /// Forgets a circuit.
    pub(crate) fn remove(&mut self, name: Name) -> Option<Named> {
        let named = self.by_name.remove(&name)?;
        self.doomed.remove(&name);
        self.guesses.remove(&name);
        if let (Owner::Visits, circuit) = name {
            self.visits.remove(&circuit);
        }
        if let Some(id) = named.pool() {
            self.by_pool.remove(&id);
        }
        Some(named)
    }

    /// Circuits that wait for a path; those that strangers have us build come last.
    pub(crate) fn waiting(&self) -> Vec<Name> {
        let waits = |named: &Named| named.stage == Stage::Waiting;
        let waiting = self.by_name.iter().filter(|(_, named)| waits(named));
        let (meetings, mut names): (Vec<_>, Vec<_>) =
            waiting.partition(|(_, named)| named.purpose == Purpose::Meet);
        names.extend(meetings);
        names.into_iter().map(|(name, _)| *name).collect()
    }

    /// Circuits that meet visitors.
    pub(crate) fn meeting_count(&self) -> usize {
        let meets = |named: &&Named| named.purpose == Purpose::Meet;
        self.by_name.values().filter(meets).count()
    }

    /// Circuits that have not come to stand in time.
    pub(crate) fn late(&self, now: Now) -> Vec<Name> {
        let late = |named: &Named| !is_ready(named) && named.until <= now.mono;
        let names = self.by_name.iter().filter(|(_, named)| late(named));
        names.map(|(name, _)| *name).collect()
    }

    /// Requests without an answer for too long.
    pub(crate) fn unanswered(&self, now: Now) -> Vec<FetchId> {
        let late = self.asked.iter().filter(|(_, one)| one.until <= now.mono);
        late.map(|(id, _)| *id).collect()
    }

    /// Requests over a circuit.
    pub(crate) fn asked_over(&self, name: Name) -> Vec<FetchId> {
        let over = self.asked.iter().filter(|(_, one)| one.name == name);
        over.map(|(id, _)| *id).collect()
    }

    /// Whether somebody may want a path soon.
    pub(crate) fn is_used(&self, now: Now) -> bool {
        let age = |since| now.mono.saturating_duration_since(since);
        let used_last = self.used_last.is_some_and(|at| age(at) < READY_AGE_MAX);
        used_last || !self.by_name.is_empty()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let building = self.by_name.values().filter(|named| !is_ready(named));
        building
            .map(|named| named.until)
            .chain(self.asked.values().map(|one| one.until))
            .min()
    }
}

fn is_ready(named: &Named) -> bool {
    matches!(named.stage, Stage::Ready(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawn::start;
    use cepa_circuit::handshake::HopKey;
    use cepa_wire::linkspec::LinkSpecifiers;

    fn fast() -> HopSpec {
        HopSpec {
            link_specifiers: LinkSpecifiers::new(None, RsaId::from([9; 20]), None, None),
            key: HopKey::Fast,
            congestion: None,
        }
    }

    fn extending(last: LastHop) -> Named {
        let first = (RsaId::from([1; 20]), fast());
        let pool = &mut crate::circuits::pool::Pool::default();
        let id = pool.insert(
            crate::circuits::pool::Purpose::Directory,
            first,
            Vec::new(),
            start(),
        );
        let mut named = Named::new(Purpose::Introduce, last, start());
        named.stage = Stage::Extending(id.unwrap(), Box::new(fast()));
        named
    }

    #[test]
    fn who_is_to_blame() {
        let listed = || extending(LastHop::Listed(RsaId::from([9; 20])));
        assert_eq!(listed().fail(Failure::LastHop), Some(Ending::LastHop));
        let mut named = listed();
        assert_eq!(named.fail(Failure::Suspicion), None);
        assert_eq!(named.stage, Stage::Waiting);
        assert_eq!(named.fail(Failure::Path), None);
        assert_eq!(named.fail(Failure::Suspicion), Some(Ending::LastHop));
        let mut named = listed();
        assert_eq!(named.fail(Failure::Timeout), None);
        assert_eq!(named.fail(Failure::Timeout), Some(Ending::Timeout));
        let mut named = listed();
        let ends: Vec<_> = (0..4).map(|_| named.fail(Failure::Path)).collect();
        assert_eq!(ends, [None, None, None, Some(Ending::NoPath)]);
        // A relay of our own choice is replaced by another.
        let mut named = extending(LastHop::Any(Vec::new()));
        assert_eq!(named.fail(Failure::LastHop), None);
        assert_eq!(named.avoided, [RsaId::from([9; 20])]);
        assert_eq!(named.fail(Failure::Timeout), None);
        assert_eq!(named.fail(Failure::Timeout), None);
        assert_eq!(named.fail(Failure::Timeout), Some(Ending::NoPath));
    }

    #[test]
    fn meetings_come_last() {
        let mut circuits = OnionCircuits::default();
        for (n, purpose) in [
            Purpose::Meet,
            Purpose::Upload,
            Purpose::Meet,
            Purpose::Fetch,
        ]
        .into_iter()
        .enumerate()
        {
            let name = (Owner::Services, CircuitName(n as u64));
            let named = Named::new(purpose, LastHop::Any(Vec::new()), start());
            circuits.by_name.insert(name, named);
        }
        let order: Vec<u64> = circuits.waiting().iter().map(|name| name.1.0).collect();
        assert_eq!(order, [1, 3, 0, 2]);
        assert_eq!(circuits.meeting_count(), 2);
    }
}
