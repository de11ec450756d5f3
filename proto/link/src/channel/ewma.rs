//! Which circuit sends next: the one that sent least of late (Tang and Goldberg's EWMA, as `tor`'s
//! circuit scheduler has it).
//!
//! A cell sent a half-life ago counts half as much as one sent now. Instead of shrinking all old
//! counts as time goes by, new cells weigh more, which orders circuits the same way; when the
//! weights get large, all counts are scaled down at once. The order is kept in a heap of the
//! circuits that have cells queued. Entries of removed circuits are skipped when they surface, and
//! swept out when they are the greater part.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::circuits::{Circuits, Entry, Slot};

/// After this time a sent cell counts half (`tor`'s `CircuitPriorityHalflifeMsec` default).
const HALF_LIFE: Duration = Duration::from_secs(30);
/// Half-lives after which all counts are scaled down; a weight stays below 2 to this power.
const HALF_LIVES_MAX: f64 = 16.0;
/// Stale heap entries that are not worth a sweep.
const STALE_MIN: usize = 64;

/// A circuit in the heap; the least weight sent is the greatest.
struct Turn {
    sent_weight: f64,
    slot: Slot,
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .sent_weight
            .total_cmp(&self.sent_weight)
            .then(other.slot.cmp(&self.slot))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Turn {}

/// The circuits that have cells queued, by what they have sent.
pub(super) struct Schedule {
    heap: BinaryHeap<Turn>,
    /// When a cell weighed 1.
    epoch: Instant,
}

impl Schedule {
    pub(super) fn new(now: Instant) -> Self {
        Schedule {
            heap: BinaryHeap::new(),
            epoch: now,
        }
    }

    /// What a cell sent now weighs.
    pub(super) fn weight(&mut self, now: Instant, circuits: &mut Circuits) -> f64 {
        let age = now.saturating_duration_since(self.epoch);
        let half_lives = age.as_secs_f64() / HALF_LIFE.as_secs_f64();
        if half_lives < HALF_LIVES_MAX {
            return half_lives.exp2();
        }
        let scale = (-half_lives).exp2();
        circuits
            .entries_mut()
            .for_each(|entry| entry.sent_weight *= scale);
        let turns = std::mem::take(&mut self.heap).into_vec();
        let scaled = turns.into_iter().map(|turn| Turn {
            sent_weight: turn.sent_weight * scale,
            ..turn
        });
        self.heap = scaled.collect();
        self.epoch = now;
        1.0
    }

    /// Enters a circuit that has cells queued and is not in the heap.
    pub(super) fn push(&mut self, slot: Slot, entry: &Entry) {
        self.heap.push(Turn {
            sent_weight: entry.sent_weight,
            slot,
        });
    }

    /// Takes out the circuit whose turn it is; with it the weight up to which it stays ahead of the
    /// next.
    pub(super) fn pop(&mut self, circuits: &Circuits) -> Option<(Slot, f64)> {
        let turn = loop {
            let turn = self.heap.pop()?;
            if circuits.is_active(turn.slot) {
                break turn;
            }
        };
        let limit = self
            .heap
            .peek()
            .map_or(f64::INFINITY, |next| next.sent_weight);
        Some((turn.slot, limit))
    }

    /// The circuits in the heap, in no order; among them some that are gone.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.heap.iter().map(|turn| turn.slot)
    }

    /// Entries in the heap, stale ones too.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// A circuit left while it was in the heap; `active` still have cells queued.
    pub(super) fn left(&mut self, circuits: &Circuits) {
        if self.heap.len() > circuits.active() * 2 + STALE_MIN {
            self.heap.retain(|turn| circuits.is_active(turn.slot));
        }
    }
}
