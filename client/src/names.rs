//! What a client calls its things. None of these names is used twice.
//!
//! A circuit has three: [`CircuitId`] in the control of the client and for viewers;
//! [`CircuitName`] with a machine of onion services, for which it may be several circuits, tried
//! one after the other; and `CircuitKey` in the plane, which has it as long as it has cells.

use std::fmt;

use serde::Serialize;

/// Names a circuit. The first one is 1, and no number is used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct CircuitId(pub u64);

/// Names a circuit of onion services; the machine that asks for it chooses the name, and uses it
/// once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CircuitName {
    /// The machine.
    pub owner: Owner,
    /// A number that the machine has not used before.
    pub number: u64,
}

impl fmt::Display for CircuitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "circuit {} of {:?}", self.number, self.owner)
    }
}

/// The machine that a circuit of onion services belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The visits of a client ([`crate::onion::Visits`]).
    Visits,
    /// The services that a client hosts ([`crate::onion::services`]).
    Services,
    /// What controllers have fetched and uploaded.
    Controllers,
}

/// Names a visit; used once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VisitId(pub(crate) u64);

/// Names a hosted service while it is hosted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u64);

/// Names a SOCKS request; the shell chooses it, and uses it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RequestId(pub u64);

/// Names a connection that is being opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct LinkId(pub u64);

/// Names a fetch from a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub u64);
