//! Who goes first where no circuit more can be held.
//!
//! What was used longest ago and carries nothing now; then a meeting that is idle for longest; then
//! what was built ahead. Else the request waits.
//!
//! With a name for each stream all places are taken within a minute, by circuits that nobody will
//! use again and that would stay for ten. A meeting is a visitor's circuit at a service of ours.

use std::time::{Duration, Instant};

use cepa_wire::Now;

use super::pool::Entry;
use super::{Circuits, Event};
use crate::context::Context;
use crate::names::CircuitId;
use crate::plane::Plane;
use crate::status::{CircuitEnd, CircuitPurpose};

/// How long a visitor has to ask for a stream before its place may be taken.
const RENDEZVOUS_AGE_MIN: Duration = Duration::from_secs(5);

/// Why an idle circuit may go, the first one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Idle {
    /// Streams used it, and none does now.
    Used,
    /// A visitor asks for nothing.
    Rendezvous,
    /// It was built ahead.
    Ahead,
}

impl Circuits {
    /// Where no circuit more can be held, one goes that carries nothing now, if there is any.
    pub(super) fn make_room(&mut self, ctx: &mut Context<'_>) {
        if !self.pool.is_full() {
            return;
        }
        let Some(id) = self.idlest(ctx, |_, _| true) else {
            return self.upkeep.note_full(ctx.now);
        };
        match self.pool.name_of(id) {
            // One with a name is a rendezvous or a meeting, which may have padding to send yet.
            Some(name) => {
                let entry = self.take(id, CircuitEnd::Finished, ctx);
                if let Some(key) = entry.and_then(|entry| entry.key()) {
                    ctx.plane.retire_circuit(key, ctx.now);
                }
                self.events.push_back(Event::Gone(id, Some(name), None));
            }
            None => self.close(id, CircuitEnd::Room, ctx),
        }
    }

    /// The circuit that carries nothing, of those that may go, and is the first to.
    pub(crate) fn idlest(
        &self,
        ctx: &Context<'_>,
        may_go: impl Fn(&Entry, Idle) -> bool,
    ) -> Option<CircuitId> {
        let idle = self.pool.iter().filter_map(|(id, entry)| {
            let (why, since) = idle(entry, ctx.plane, ctx.now)?;
            may_go(entry, why).then_some((why, since, id))
        });
        idle.min().map(|(_, _, id)| id)
    }
}

/// Whether a circuit carries nothing, and since when.
fn idle(entry: &Entry, plane: &Plane, now: Now) -> Option<(Idle, Instant)> {
    let status = plane.circuit_status(entry.built()?)?;
    if status.stream_count > 0 || entry.by_hand.is_some() {
        return None;
    }
    let Some(bound) = entry.bound else {
        return Some(match entry.dirty_since {
            Some(since) => (Idle::Used, since),
            None => (Idle::Ahead, entry.since),
        });
    };
    match bound.purpose {
        CircuitPurpose::Rendezvous if bound.is_ready => Some((Idle::Used, entry.dirty_since?)),
        CircuitPurpose::ServiceRendezvous if bound.is_ready => {
            let age = now.mono.saturating_duration_since(status.heard_at);
            (age >= RENDEZVOUS_AGE_MIN).then_some((Idle::Rendezvous, status.heard_at))
        }
        _ => None,
    }
}
