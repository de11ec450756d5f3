//! What has been seen before, within bounds (rend-spec-v3 3.3).
//!
//! Invariants: an entry is found as long as it is not one of the oldest beyond the bound; memory is
//! at most `entries_max` times three times the length of an entry.
//!
//! Nothing of it is kept over a restart, as with `tor`: the keys of introduction points are in
//! memory alone, too, and what was encrypted to those of another run cannot be read, let alone
//! replayed.

use std::collections::{BTreeSet, VecDeque};

/// A bounded memory of values.
#[derive(Debug)]
pub(super) struct Replays<const N: usize> {
    seen: BTreeSet<[u8; N]>,
    /// The oldest first.
    order: VecDeque<[u8; N]>,
    entries_max: usize,
}

impl<const N: usize> Replays<N> {
    /// Remembers at most so many.
    pub(super) fn new(entries_max: usize) -> Self {
        Replays {
            seen: BTreeSet::new(),
            order: VecDeque::new(),
            entries_max,
        }
    }

    /// Whether it was seen.
    pub(super) fn contains(&self, entry: &[u8; N]) -> bool {
        self.seen.contains(entry)
    }

    /// Whether the next new entry drives out the oldest.
    pub(super) fn is_full(&self) -> bool {
        self.order.len() >= self.entries_max
    }

    /// Remembers an entry; says whether it is new.
    pub(super) fn insert(&mut self, entry: [u8; N]) -> bool {
        if !self.seen.insert(entry) {
            return false;
        }
        self.order.push_back(entry);
        if self.order.len() > self.entries_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_the_oldest_beyond_its_bound_and_nothing_else() {
        let mut replays = Replays::new(3);
        for n in 0..5_u8 {
            assert!(replays.insert([n]));
            assert!(!replays.insert([n]), "seen just now");
        }
        assert_eq!(replays.order.len(), 3);
        assert_eq!(replays.seen.len(), 3);
        assert!(replays.is_full());
        assert!(!replays.contains(&[1]));
        assert!(replays.contains(&[2]) && replays.contains(&[4]));
        assert!(replays.insert([0]), "forgotten, so it is new again");
    }
}
