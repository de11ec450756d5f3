//! What is done for onion services, in numbers.
//!
//! The names of cells and actions are those of `tor`'s metrics (`tor_relay_est_intro_total` and
//! the like, with the label `action`), so that a dashboard shows both programs.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::Serializer;

/// What is done for onion services, and what was.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct PointCounts {
    /// Circuits that are introduction points.
    pub intros: usize,
    /// Circuits on which a client waits for a service.
    pub waiting: usize,
    /// Circuits joined with another, two for each rendezvous.
    pub joined: usize,
    /// How many messages of each kind came to which end, since the start.
    #[serde(serialize_with = "by_name")]
    pub actions: BTreeMap<(PointCell, PointAction), u64>,
}

impl PointCounts {
    /// Counts a message.
    pub(crate) fn count(&mut self, cell: PointCell, action: PointAction) {
        *self.actions.entry((cell, action)).or_default() += 1;
    }

    /// How often that became of such a message.
    #[must_use]
    pub fn number(&self, cell: PointCell, action: PointAction) -> u64 {
        self.actions.get(&(cell, action)).copied().unwrap_or(0)
    }
}

impl AddAssign<&PointCounts> for PointCounts {
    fn add_assign(&mut self, other: &PointCounts) {
        self.intros += other.intros;
        self.waiting += other.waiting;
        self.joined += other.joined;
        for (key, count) in &other.actions {
            *self.actions.entry(*key).or_default() += count;
        }
    }
}

/// Under a name for each: `EstablishIntro.success`.
fn by_name<S: Serializer>(
    actions: &BTreeMap<(PointCell, PointAction), u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let name = |cell: PointCell, action: PointAction| format!("{cell:?}.{}", action.label());
    let rows = actions.iter();
    serializer.collect_map(rows.map(|((cell, action), count)| (name(*cell, *action), count)))
}

/// A message that makes or uses a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PointCell {
    /// ESTABLISH_INTRO.
    EstablishIntro,
    /// ESTABLISH_RENDEZVOUS.
    EstablishRendezvous,
    /// INTRODUCE1.
    Introduce1,
    /// RENDEZVOUS1.
    Rendezvous1,
}

/// What became of a message for an introduction or rendezvous point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PointAction {
    /// The message did what it asked for.
    Success,
    /// The message does not parse, or proves nothing.
    Malformed,
    /// Its circuit is something else already, or does not end here.
    UnsuitableCircuit,
    /// The message came from one hop away.
    SingleHop,
    /// The circuit that it is for, or came from, has ended.
    CircuitDead,
    /// Its cookie is taken.
    DuplicateCookie,
    /// There are as many points as may be.
    Full,
    /// No service here has that key.
    UnknownService,
    /// The service wants no more for now.
    RateLimited,
    /// Its circuit has introduced before.
    CircuitReused,
    /// Nobody waits with that cookie.
    UnknownCookie,
}

impl PointCell {
    /// All messages that are counted.
    pub const ALL: [Self; 4] = [
        Self::EstablishIntro,
        Self::EstablishRendezvous,
        Self::Introduce1,
        Self::Rendezvous1,
    ];

    /// The actions that `tor` has for it, and ours.
    #[must_use]
    pub fn actions(self) -> &'static [PointAction] {
        use PointAction::{
            CircuitDead, CircuitReused, DuplicateCookie, Full, Malformed, RateLimited, SingleHop,
            Success, UnknownCookie, UnknownService, UnsuitableCircuit,
        };
        match self {
            Self::EstablishIntro => &[Success, Malformed, UnsuitableCircuit, CircuitDead, Full],
            Self::EstablishRendezvous => &[
                Success,
                UnsuitableCircuit,
                SingleHop,
                Malformed,
                DuplicateCookie,
                CircuitDead,
                Full,
            ],
            Self::Introduce1 => &[
                Success,
                CircuitDead,
                Malformed,
                UnknownService,
                RateLimited,
                CircuitReused,
                SingleHop,
            ],
            Self::Rendezvous1 => &[
                Success,
                UnsuitableCircuit,
                Malformed,
                UnknownCookie,
                CircuitDead,
            ],
        }
    }
}

impl PointAction {
    /// The value of the label `action`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Malformed => "malformed",
            Self::UnsuitableCircuit => "unsuitable_circuit",
            Self::SingleHop => "single_hop",
            Self::CircuitDead => "circuit_dead",
            Self::DuplicateCookie => "duplicate_cookie",
            Self::Full => "full",
            Self::UnknownService => "unknown_service",
            Self::RateLimited => "rate_limited",
            Self::CircuitReused => "circuit_reused",
            Self::UnknownCookie => "unknown_cookie",
        }
    }
}
