//! Meets visitors at the rendezvous points that they chose (rend-spec-v3 4.2).
//!
//! ```text
//! Introduction ─▶ Opening ─ built ─▶ RENDEZVOUS1, Join ─▶ Joined ─▶ (ended, or never used)
//!                  ▲    │ ended
//!                  └────┴─ tried too often, or too late ─▶ (failed)
//! ```
//!
//! Invariants: a rendezvous has one circuit at a time; its keys serve one joined circuit; a
//! service has no more rendezvouses than its configuration allows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cepa_wire::relay::RelayCommand;
use cepa_wire::rendezvous::Rendezvous1;

use super::circuits::{Context, Part};
use super::introductions::Introduction;
use crate::names::CircuitName;
use crate::onion::action::LastHop;

/// Circuits that are tried for one rendezvous.
const TRIES_MAX: u32 = 3;
/// How long a visitor may be expected to wait (`tor`: `MAX_REND_TIMEOUT`).
const RENDEZVOUS_TIME_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Opening {
    introduction: Introduction,
    tries: u32,
    until: Instant,
}

/// How long a visitor may take to open its first stream. It comes for one, which waits already.
const UNUSED_MAX: Duration = Duration::from_secs(120);
/// From then on one that has opened none makes room for others.
const UNUSED_MIN: Duration = Duration::from_secs(10);

/// A visitor that was met.
#[derive(Debug, Clone, Copy)]
struct Visitor {
    since: Instant,
    /// It has opened a stream.
    is_used: bool,
}

#[derive(Debug)]
enum Rendezvous {
    Opening(Box<Opening>),
    Joined(Visitor),
}

impl Rendezvous {
    /// Since when a visitor has been there that has opened no stream.
    fn unused_since(&self) -> Option<Instant> {
        match self {
            Rendezvous::Joined(visitor) if !visitor.is_used => Some(visitor.since),
            _ => None,
        }
    }
}

/// What became of a rendezvous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RendezvousEnd {
    /// It goes on over another circuit.
    Retried,
    /// No circuit to the rendezvous point could be built.
    Failed,
    /// It had been joined.
    Left,
}

/// The rendezvouses of a service.
#[derive(Debug)]
pub(super) struct Rendezvouses {
    rendezvouses: BTreeMap<CircuitName, Rendezvous>,
    circuits_max: usize,
}

impl Rendezvouses {
    /// At most so many at once.
    pub(super) fn new(circuits_max: usize) -> Self {
        Rendezvouses {
            rendezvouses: BTreeMap::new(),
            circuits_max,
        }
    }

    /// At most so many from now on; those beyond stay.
    pub(super) fn bound(&mut self, circuits_max: usize) {
        self.circuits_max = circuits_max;
    }

    /// Whether there is room for another.
    pub(super) fn has_room(&self) -> bool {
        self.rendezvouses.len() < self.circuits_max
    }

    /// Closes the circuit of the visitor that has been there longest without any stream; `false` if
    /// there is none to blame.
    pub(super) fn make_room(&mut self, ctx: &mut Context<'_>) -> bool {
        let unused = self
            .rendezvouses
            .iter()
            .filter_map(|(circuit, rendezvous)| {
                let since = rendezvous.unused_since()?;
                (since + UNUSED_MIN <= ctx.now.mono).then_some((since, *circuit))
            });
        let Some((_, circuit)) = unused.min() else {
            return false;
        };
        self.rendezvouses.remove(&circuit);
        ctx.close(circuit);
        true
    }

    /// A visitor has opened a stream.
    pub(super) fn used(&mut self, circuit: CircuitName) {
        if let Some(Rendezvous::Joined(visitor)) = self.rendezvouses.get_mut(&circuit) {
            visitor.is_used = true;
        }
    }

    /// Sets out to meet a visitor.
    pub(super) fn begin(&mut self, introduction: Introduction, ctx: &mut Context<'_>) {
        let opening = Opening {
            introduction,
            tries: 0,
            until: ctx.now.mono + RENDEZVOUS_TIME_MAX,
        };
        self.open(Box::new(opening), ctx);
    }

    fn open(&mut self, mut opening: Box<Opening>, ctx: &mut Context<'_>) {
        opening.tries += 1;
        let rendezvous_point = opening.introduction.rendezvous_point.clone();
        let circuit = ctx.open(Part::Rendezvous, LastHop::Told(Box::new(rendezvous_point)));
        self.rendezvouses
            .insert(circuit, Rendezvous::Opening(opening));
    }

    /// The circuit stands: tells the visitor, who is then its last hop.
    pub(super) fn handle_built(&mut self, circuit: CircuitName, ctx: &mut Context<'_>) {
        let Some(rendezvous) = self.rendezvouses.get_mut(&circuit) else {
            return;
        };
        let visitor = Visitor {
            since: ctx.now.mono,
            is_used: false,
        };
        if matches!(rendezvous, Rendezvous::Joined(_)) {
            return;
        }
        let Rendezvous::Opening(opening) =
            std::mem::replace(rendezvous, Rendezvous::Joined(visitor))
        else {
            return;
        };
        let introduction = opening.introduction;
        let body = Rendezvous1::make(&introduction.cookie, &introduction.handshake, ctx.rng);
        ctx.send(circuit, RelayCommand::RENDEZVOUS1, body);
        let layer = introduction.keys.service_layer();
        ctx.join(circuit, layer, introduction.congestion);
    }

    /// The circuit is gone.
    pub(super) fn handle_ended(
        &mut self,
        circuit: CircuitName,
        ctx: &mut Context<'_>,
    ) -> Option<RendezvousEnd> {
        match self.rendezvouses.remove(&circuit)? {
            Rendezvous::Joined(_) => Some(RendezvousEnd::Left),
            Rendezvous::Opening(it) if it.tries < TRIES_MAX && ctx.now.mono < it.until => {
                self.open(it, ctx);
                Some(RendezvousEnd::Retried)
            }
            Rendezvous::Opening(_) => Some(RendezvousEnd::Failed),
        }
    }

    /// Gives up those for which nobody waits any more; says how many. Visitors that have opened no
    /// stream in their time are left.
    pub(super) fn handle_timeout(&mut self, ctx: &mut Context<'_>) -> u64 {
        let mut late = 0;
        self.rendezvouses.retain(|circuit, rendezvous| {
            let is_late = matches!(rendezvous, Rendezvous::Opening(it) if it.until <= ctx.now.mono);
            let is_unused = rendezvous
                .unused_since()
                .is_some_and(|since| since + UNUSED_MAX <= ctx.now.mono);
            if is_late || is_unused {
                ctx.close(*circuit);
            }
            late += u64::from(is_late);
            !is_late && !is_unused
        });
        late
    }

    /// When the next is given up, or left.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let untils = self
            .rendezvouses
            .values()
            .filter_map(|rendezvous| match rendezvous {
                Rendezvous::Opening(it) => Some(it.until),
                Rendezvous::Joined(_) => rendezvous.unused_since().map(|since| since + UNUSED_MAX),
            });
        untils.min()
    }

    /// Whether the visitor is the last hop of a circuit.
    pub(super) fn is_joined(&self, circuit: CircuitName) -> bool {
        matches!(self.rendezvouses.get(&circuit), Some(Rendezvous::Joined(_)))
    }

    /// Circuits that are joined.
    pub(super) fn joined(&self) -> usize {
        let rendezvouses = self.rendezvouses.values();
        let joined = rendezvouses.filter(|it| matches!(it, Rendezvous::Joined(_)));
        joined.count()
    }
}
