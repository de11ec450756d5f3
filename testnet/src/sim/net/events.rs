//! What is to happen, in the order of the virtual clock.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

/// A heap of events; those of one instant come in the order in which they were planned.
#[derive(Debug)]
pub(super) struct Events<E> {
    heap: BinaryHeap<Reverse<Planned<E>>>,
    planned: u64,
}

#[derive(Debug)]
struct Planned<E> {
    at: Duration,
    order: u64,
    event: E,
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Planned<E> {}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Planned<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl<E> Events<E> {
    pub(super) fn new() -> Self {
        Events {
            heap: BinaryHeap::new(),
            planned: 0,
        }
    }

    /// Plans an event, at a time since the start.
    pub(super) fn plan(&mut self, at: Duration, event: E) {
        self.planned += 1;
        self.heap.push(Reverse(Planned {
            at,
            order: self.planned,
            event,
        }));
    }

    /// The next event, and when it happens.
    pub(super) fn next(&mut self) -> Option<(Duration, E)> {
        let Reverse(planned) = self.heap.pop()?;
        Some((planned.at, planned.event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_planned_first_happens_first() {
        let mut events = Events::new();
        for (at, name) in [(2, 'c'), (1, 'a'), (2, 'd'), (1, 'b')] {
            events.plan(Duration::from_secs(at), name);
        }
        let order: String = std::iter::from_fn(|| events.next())
            .map(|one| one.1)
            .collect();
        assert_eq!(order, "abcd");
    }
}
