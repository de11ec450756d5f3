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
//! A path is bound to one name, and to none after it. Paths of three hops are kept ready once onion
//! services are in use; each wish takes one, as it is or with one hop more or two. The last hop is
//! to blame when the hop before it says so, or when it could not be reached over two paths.

mod attaching;
mod ending;
mod padding;

use std::time::{Duration, Instant};

use cepa_circuit::CircuitKey;
use cepa_circuit::handshake::HopSpec;
use cepa_crypto::RsaId;
use cepa_crypto::onion::OnionAddress;
use cepa_wire::Now;

use super::Onion;
use super::action::{Ending, LastHop, Purpose};
use crate::circuits::Circuits;
use crate::names::{CircuitId, CircuitName, VisitId};
use crate::select::choice::Layers;
use crate::select::vanguards::VanguardMode;

/// Most circuits that have names. A bound of ours; a service meets each visitor on one.
pub(crate) const HS_CIRCUITS_MAX: usize = 768;
/// Most of them that meet visitors, so that a flood of these leaves room for the rest.
pub(crate) const RENDEZVOUS_MAX: usize = 640;
/// How long a circuit may take from the wish to the end, all tries included.
pub(crate) const OPEN_MAX: Duration = Duration::from_secs(60);
/// How long one hop more may take.
pub(crate) const EXTEND_MAX: Duration = Duration::from_secs(6);
/// How long after their last use paths are kept ready (`PredictedPortsRelevanceTime`).
pub(crate) const READY_AGE_MAX: Duration = Duration::from_secs(3600);
/// Paths that are tried for one circuit.
const PATHS_TRIED_MAX: u32 = 4;
/// Paths over which a last hop may be out of reach until it is to blame.
const SUSPICIONS_MAX: u32 = 2;

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
pub(crate) struct HsCircuit {
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
    /// The visit whose service is at the other end.
    pub(crate) visit: Option<VisitId>,
    /// How often a visitor has guessed at ports that the service does not have.
    pub(crate) guesses: u32,
    /// The circuit ends when its time comes.
    pub(crate) is_marked_for_close: bool,
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

impl HsCircuit {
    pub(crate) fn new(
        purpose: Purpose,
        last: LastHop,
        address: Option<OnionAddress>,
        now: Now,
    ) -> Self {
        HsCircuit {
            purpose,
            last,
            address,
            stage: Stage::Waiting,
            until: now.mono + OPEN_MAX,
            avoided: Vec::new(),
            has_middle: false,
            visit: None,
            guesses: 0,
            is_marked_for_close: false,
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

    /// It stands.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready(_))
    }

    /// Waits for another path.
    pub(crate) fn release(&mut self) {
        (self.stage, self.has_middle) = (Stage::Waiting, false);
    }

    /// True if the third hop may be the last.
    pub(crate) fn ends_at_path(&self, layers: Layers) -> bool {
        let is_ours = matches!(self.last, LastHop::Any(_));
        let is_short = layers.mode != VanguardMode::Full && !layers.is_by_hand;
        is_short && self.purpose == Purpose::Rendezvous && is_ours
    }

    /// Whether a middle is to hide the third layer of vanguards from the last hop, which others
    /// have chosen (proposal 292, 1.2).
    pub(crate) fn wants_middle(&self, layers: Layers) -> bool {
        let by_others = [
            Purpose::Fetch,
            Purpose::Introduce,
            Purpose::ServiceRendezvous,
        ];
        layers.mode == VanguardMode::Full && by_others.contains(&self.purpose)
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

impl Onion {
    /// The circuit of a name, if all its hops stand.
    pub(crate) fn standing(&self, name: CircuitName, circuits: &Circuits) -> Option<CircuitKey> {
        let id = self
            .by_name
            .get(&name)
            .filter(|circuit| circuit.is_ready())?
            .pool()?;
        circuits.pool.entry(id)?.built()
    }

    /// Circuits that wait for a path; those that strangers have us build come last.
    fn waiting(&self) -> Vec<CircuitName> {
        let waits = |circuit: &HsCircuit| circuit.stage == Stage::Waiting;
        let waiting = self.by_name.iter().filter(|(_, circuit)| waits(circuit));
        let (rendezvouses, mut names): (Vec<_>, Vec<_>) =
            waiting.partition(|(_, circuit)| circuit.purpose == Purpose::ServiceRendezvous);
        names.extend(rendezvouses);
        names.into_iter().map(|(name, _)| *name).collect()
    }

    /// Circuits that meet visitors.
    fn rendezvous_count(&self) -> usize {
        let meets = |circuit: &&HsCircuit| circuit.purpose == Purpose::ServiceRendezvous;
        self.by_name.values().filter(meets).count()
    }

    /// Whether somebody may want a path soon.
    pub(crate) fn is_used(&self, now: Now) -> bool {
        let age = |since| now.mono.saturating_duration_since(since);
        let used_last = self.used_last.is_some_and(|at| age(at) < READY_AGE_MAX);
        used_last || !self.by_name.is_empty()
    }

    /// When the first circuit must stand that does not.
    pub(super) fn standing_by(&self) -> Option<Instant> {
        let building = self.by_name.values().filter(|circuit| !circuit.is_ready());
        building.map(|circuit| circuit.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circuits::pool::{self, Pool};
    use crate::drawn::start;
    use crate::names::Owner;
    use cepa_circuit::handshake::HopKey;
    use cepa_crypto::Rng;
    use cepa_wire::linkspec::LinkSpecifiers;

    fn fast() -> HopSpec {
        HopSpec {
            link_specifiers: LinkSpecifiers::new(None, RsaId::from([9; 20]), None, None),
            key: HopKey::Fast,
            congestion: None,
        }
    }

    fn extending(last: LastHop) -> HsCircuit {
        let first = (RsaId::from([1; 20]), fast());
        let pool = &mut Pool::default();
        let id = pool.insert(pool::Purpose::Directory, first, Vec::new(), start());
        let mut circuit = HsCircuit::new(Purpose::Introduce, last, None, start());
        circuit.stage = Stage::Extending(id.unwrap(), Box::new(fast()));
        circuit
    }

    #[test]
    fn who_is_to_blame() {
        let listed = || extending(LastHop::Listed(RsaId::from([9; 20])));
        assert_eq!(listed().fail(Failure::LastHop), Some(Ending::LastHop));
        let mut circuit = listed();
        assert_eq!(circuit.fail(Failure::Suspicion), None);
        assert_eq!(circuit.stage, Stage::Waiting);
        assert_eq!(circuit.fail(Failure::Path), None);
        assert_eq!(circuit.fail(Failure::Suspicion), Some(Ending::LastHop));
        let mut circuit = listed();
        assert_eq!(circuit.fail(Failure::Timeout), None);
        assert_eq!(circuit.fail(Failure::Timeout), Some(Ending::Timeout));
        let mut circuit = listed();
        let ends: Vec<_> = (0..4).map(|_| circuit.fail(Failure::Path)).collect();
        assert_eq!(ends, [None, None, None, Some(Ending::NoPath)]);
        // A relay of our own choice is replaced by another.
        let mut circuit = extending(LastHop::Any(Vec::new()));
        assert_eq!(circuit.fail(Failure::LastHop), None);
        assert_eq!(circuit.avoided, [RsaId::from([9; 20])]);
        assert_eq!(circuit.fail(Failure::Timeout), None);
        assert_eq!(circuit.fail(Failure::Timeout), None);
        assert_eq!(circuit.fail(Failure::Timeout), Some(Ending::NoPath));
    }

    #[test]
    fn meetings_come_last() {
        let mut onion = Onion::new(&mut Rng::from_seed([1; 32]), false);
        for (n, purpose) in [
            Purpose::ServiceRendezvous,
            Purpose::Upload,
            Purpose::ServiceRendezvous,
            Purpose::Fetch,
        ]
        .into_iter()
        .enumerate()
        {
            let (owner, number) = (Owner::Services, n as u64);
            let name = CircuitName { owner, number };
            let circuit = HsCircuit::new(purpose, LastHop::Any(Vec::new()), None, start());
            onion.by_name.insert(name, circuit);
        }
        let order: Vec<u64> = onion.waiting().iter().map(|name| name.number).collect();
        assert_eq!(order, [1, 3, 0, 2]);
        assert_eq!(onion.rendezvous_count(), 2);
    }
}
