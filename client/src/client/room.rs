//! Who goes first where no circuit more can be held.
//!
//! At [`CIRCUITS_MAX`]: what was used longest ago and carries nothing
//! now; then a meeting that is idle for longest; then what was built ahead. Else the request waits.
//! At [`NAMED_MAX`] and [`MEETINGS_MAX`]: an idle visit, then an idle meeting (for a meeting, only
//! the latter). Else its machine is told.
//!
//! With a name for each stream all places are taken within a minute, by circuits that nobody will
//! use again and that would stay for ten. A meeting is a visitor's circuit at a service of ours.

use std::time::{Duration, Instant};

use cepa_wire::Now;

use super::Client;
use crate::circuits::pool::{CIRCUITS_MAX, CircuitId, Entry};
use crate::onion::circuits::{MEETINGS_MAX, NAMED_MAX, Stage};
use crate::onion::{Ending, Owner, Purpose};
use crate::status::CircuitEnd;

/// How long a visitor has to ask for a stream before its place may be taken.
const MEETING_AGE_MIN: Duration = Duration::from_secs(5);

/// Why an idle circuit may go, the first one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Idle {
    /// Streams used it, and none does now.
    Used,
    /// A visitor asks for nothing.
    Meeting,
    /// It was built ahead.
    Ahead,
}

impl Client {
    /// Where no circuit more can be held, one goes that carries nothing now, if there is any.
    pub(super) fn make_room(&mut self, now: Now) {
        if !self.pool.is_full() {
            return;
        }
        let idle = self.pool.iter().filter_map(|(id, entry)| {
            let (why, since) = self.idle(id, entry, now)?;
            Some((why, since, id))
        });
        match idle.min() {
            Some((_, _, id)) => self.close_idle(id, now),
            None => {
                if let Some(unsaid) = self.upkeep.full.say(now) {
                    let most = CIRCUITS_MAX;
                    tracing::warn!(
                        unsaid,
                        "all {most} circuits are in use: what wants another waits until one is free"
                    );
                }
            }
        }
    }

    /// Where no more circuits may have names, one goes that carries nothing. Whether there is room
    /// for one of this purpose.
    pub(super) fn make_named_room(&mut self, purpose: Purpose, now: Now) -> bool {
        let is_full = self.onion.by_name.len() >= NAMED_MAX;
        let meets = purpose == Purpose::Meet;
        let is_crowded = meets && self.onion.meeting_count() >= MEETINGS_MAX;
        if !is_full && !is_crowded {
            return true;
        }
        let idle = self.onion.by_name.values().filter_map(|named| {
            let Stage::Ready(id) = named.stage else {
                return None;
            };
            let (why, since) = self.idle(id, self.pool.entry(id)?, now)?;
            // Strangers take no places but their own.
            (!meets || why == Idle::Meeting).then_some((why, since, id))
        });
        let first = idle.min();
        if let Some((_, _, id)) = first {
            self.close_idle(id, now);
        } else if let Some(unsaid) = self.upkeep.named_full.say(now) {
            tracing::warn!(
                unsaid,
                ?purpose,
                "all circuits of onion services are in use: another is refused"
            );
        }
        first.is_some()
    }

    /// Whether a circuit carries nothing, and since when.
    fn idle(&self, id: CircuitId, entry: &Entry, now: Now) -> Option<(Idle, Instant)> {
        let status = self.plane.circuit_status(entry.built()?)?;
        if status.stream_count > 0 {
            return None;
        }
        let Some(name) = self.onion.name_of(id) else {
            return Some(match entry.dirty_since {
                Some(since) => (Idle::Used, since),
                None => (Idle::Ahead, entry.since),
            });
        };
        let named = self.onion.by_name.get(&name)?;
        match (name.0, named.purpose, named.stage == Stage::Ready(id)) {
            (Owner::Visits, Purpose::Rendezvous, true) => Some((Idle::Used, entry.dirty_since?)),
            (Owner::Services, Purpose::Meet, true) => {
                let age = now.mono.saturating_duration_since(status.heard_at);
                (age >= MEETING_AGE_MIN).then_some((Idle::Meeting, status.heard_at))
            }
            _ => None,
        }
    }

    fn close_idle(&mut self, id: CircuitId, now: Now) {
        match self.onion.name_of(id) {
            Some(name) => self.end_named(name, Ending::Closed, now),
            None => self.close_circuit(id, CircuitEnd::Room, now),
        }
    }
}
