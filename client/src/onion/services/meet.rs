//! Meets visitors at the rendezvous points that they chose (rend-spec-v3 4.2).
//!
//! ```text
//! Introduction ─▶ Opening ─ built ─▶ RENDEZVOUS1, Join ─▶ Joined ─▶ (ended, or never used)
//!                  ▲    │ ended
//!                  └────┴─ tried too often, or too late ─▶ (failed)
//! ```
//!
//! Invariants: a meeting has one circuit at a time; the keys of a meeting serve one joined circuit;
//! a service has no more meetings than its configuration allows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cepa_wire::relay::RelayCommand;
use cepa_wire::rendezvous::Rendezvous1;

use super::circuits::{Context, Part};
use super::introductions::Introduction;
use crate::names::CircuitName;
use crate::onion::action::LastHop;

/// Circuits that are tried for one meeting.
const TRIES_MAX: u32 = 3;
/// How long a visitor may be expected to wait (`tor`: `MAX_REND_TIMEOUT`).
const MEETING_TIME_MAX: Duration = Duration::from_secs(30);

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
enum Meeting {
    Opening(Box<Opening>),
    Joined(Visitor),
}

impl Meeting {
    /// Since when a visitor has been there that has opened no stream.
    fn unused_since(&self) -> Option<Instant> {
        match self {
            Meeting::Joined(visitor) if !visitor.is_used => Some(visitor.since),
            _ => None,
        }
    }
}

/// What became of a meeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MeetingEnd {
    /// It goes on over another circuit.
    Retried,
    /// No circuit to the rendezvous point could be built.
    Failed,
    /// It had been joined.
    Left,
}

/// The meetings of a service.
#[derive(Debug)]
pub(super) struct Meetings {
    meetings: BTreeMap<CircuitName, Meeting>,
    circuits_max: usize,
}

impl Meetings {
    /// At most so many at once.
    pub(super) fn new(circuits_max: usize) -> Self {
        Meetings {
            meetings: BTreeMap::new(),
            circuits_max,
        }
    }

    /// At most so many from now on; those beyond stay.
    pub(super) fn bound(&mut self, circuits_max: usize) {
        self.circuits_max = circuits_max;
    }

    /// Whether there is room for another.
    pub(super) fn has_room(&self) -> bool {
        self.meetings.len() < self.circuits_max
    }

    /// Closes the circuit of the visitor that has been there longest without any stream; `false` if
    /// there is none to blame.
    pub(super) fn make_room(&mut self, ctx: &mut Context<'_>) -> bool {
        let unused = self.meetings.iter().filter_map(|(circuit, meeting)| {
            let since = meeting.unused_since()?;
            (since + UNUSED_MIN <= ctx.now.mono).then_some((since, *circuit))
        });
        let Some((_, circuit)) = unused.min() else {
            return false;
        };
        self.meetings.remove(&circuit);
        ctx.close(circuit);
        true
    }

    /// A visitor has opened a stream.
    pub(super) fn used(&mut self, circuit: CircuitName) {
        if let Some(Meeting::Joined(visitor)) = self.meetings.get_mut(&circuit) {
            visitor.is_used = true;
        }
    }

    /// Sets out to meet a visitor.
    pub(super) fn begin(&mut self, introduction: Introduction, ctx: &mut Context<'_>) {
        let opening = Opening {
            introduction,
            tries: 0,
            until: ctx.now.mono + MEETING_TIME_MAX,
        };
        self.open(Box::new(opening), ctx);
    }

    fn open(&mut self, mut opening: Box<Opening>, ctx: &mut Context<'_>) {
        opening.tries += 1;
        let rendezvous_point = opening.introduction.rendezvous_point.clone();
        let circuit = ctx.open(Part::Meet, LastHop::Told(Box::new(rendezvous_point)));
        self.meetings.insert(circuit, Meeting::Opening(opening));
    }

    /// The circuit stands: tells the visitor, who is then its last hop.
    pub(super) fn handle_built(&mut self, circuit: CircuitName, ctx: &mut Context<'_>) {
        let Some(meeting) = self.meetings.get_mut(&circuit) else {
            return;
        };
        let visitor = Visitor {
            since: ctx.now.mono,
            is_used: false,
        };
        if matches!(meeting, Meeting::Joined(_)) {
            return;
        }
        let Meeting::Opening(opening) = std::mem::replace(meeting, Meeting::Joined(visitor)) else {
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
    ) -> Option<MeetingEnd> {
        match self.meetings.remove(&circuit)? {
            Meeting::Joined(_) => Some(MeetingEnd::Left),
            Meeting::Opening(it) if it.tries < TRIES_MAX && ctx.now.mono < it.until => {
                self.open(it, ctx);
                Some(MeetingEnd::Retried)
            }
            Meeting::Opening(_) => Some(MeetingEnd::Failed),
        }
    }

    /// Gives up those for which nobody waits any more; says how many. Visitors that have opened no
    /// stream in their time are left.
    pub(super) fn handle_timeout(&mut self, ctx: &mut Context<'_>) -> u64 {
        let mut late = 0;
        self.meetings.retain(|circuit, meeting| {
            let is_late = matches!(meeting, Meeting::Opening(it) if it.until <= ctx.now.mono);
            let is_unused = meeting
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
        let untils = self.meetings.values().filter_map(|meeting| match meeting {
            Meeting::Opening(it) => Some(it.until),
            Meeting::Joined(_) => meeting.unused_since().map(|since| since + UNUSED_MAX),
        });
        untils.min()
    }

    /// Whether the visitor is the last hop of a circuit.
    pub(super) fn is_joined(&self, circuit: CircuitName) -> bool {
        matches!(self.meetings.get(&circuit), Some(Meeting::Joined(_)))
    }

    /// Circuits that are joined.
    pub(super) fn joined(&self) -> usize {
        let meetings = self.meetings.values();
        let joined = meetings.filter(|it| matches!(it, Meeting::Joined(_)));
        joined.count()
    }
}
