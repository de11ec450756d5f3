//! Documents that are named by their digests and wanted: asked for in batches, several at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use cepa_crypto::Rng;
use cepa_wire::time::Now;

use super::FetchId;
use super::retry::Retry;

/// What is wanted of one kind of document.
#[derive(Clone, Debug)]
pub(super) struct Wanted<D> {
    missing: BTreeSet<D>,
    in_flight: BTreeMap<FetchId, Vec<D>>,
    retry: Retry,
}

impl<D: Ord + Copy> Wanted<D> {
    pub(super) fn new(is_testing: bool, now: Now) -> Self {
        let retry = Retry::new(is_testing, now);
        Self {
            missing: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            retry,
        }
    }

    /// Wants exactly these from now on.
    pub(super) fn replace(&mut self, missing: impl IntoIterator<Item = D>, now: Now) {
        let before = std::mem::replace(&mut self.missing, missing.into_iter().collect());
        if !self.missing.is_subset(&before) {
            self.retry.succeed(now.mono);
        }
    }

    /// Wants this too.
    pub(super) fn insert(&mut self, digest: D) {
        self.missing.insert(digest);
    }

    /// Wants this no longer; says whether it did.
    pub(super) fn remove(&mut self, digest: &D) -> bool {
        self.missing.remove(digest)
    }

    /// The next batch to ask for, if it is time for one and few enough are in flight.
    pub(super) fn batch(&self, now: Now, len_max: usize, in_flight_max: usize) -> Vec<D> {
        if self.retry.next > now.mono || self.in_flight.len() >= in_flight_max {
            return Vec::new();
        }
        let asked: BTreeSet<&D> = self.in_flight.values().flatten().collect();
        let rest: Vec<D> = self
            .missing
            .iter()
            .filter(|digest| !asked.contains(digest))
            .copied()
            .collect();
        // Spread what is left over the fetches that may still run beside each other.
        let slots = in_flight_max - self.in_flight.len();
        let len = rest.len().div_ceil(slots).clamp(1, len_max);
        rest.into_iter().take(len).collect()
    }

    pub(super) fn start(&mut self, id: FetchId, batch: Vec<D>) {
        self.in_flight.insert(id, batch);
    }

    /// A fetch has ended; says whether it was one of these.
    pub(super) fn end(&mut self, id: FetchId) -> Option<Vec<D>> {
        self.in_flight.remove(&id)
    }

    /// After a fetch: whether it brought anything decides when the next one starts.
    pub(super) fn settle(&mut self, brought: bool, now: Now, rng: &mut Rng) {
        if brought {
            self.retry.succeed(now.mono)
        } else {
            self.retry.fail(now, rng)
        }
    }

    /// When the next batch may start, if one is due later; none while as many are in flight as may
    /// be, as nothing starts before one of them has ended.
    pub(super) fn timeout(&self, in_flight_max: usize) -> Option<Instant> {
        if self.in_flight.len() >= in_flight_max {
            return None;
        }
        let asked: usize = self.in_flight.values().map(Vec::len).sum();
        (self.missing.len() > asked).then_some(self.retry.next)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.missing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    /// Found by `cepa testnet sim network --seed 1`: a relay that wanted one document more while it
    /// had asked for as much as it may was woken without end.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
    fn nothing_is_due_while_all_fetches_are_under_way() {
        let now = Now {
            mono: Instant::now(),
            wall: SystemTime::UNIX_EPOCH,
        };
        let mut wanted = Wanted::new(true, now);
        for number in 0..3 {
            wanted.insert(number);
            let batch = wanted.batch(now, 10, 3);
            assert_eq!(batch, [number]);
            wanted.start(FetchId(number), batch);
        }
        wanted.insert(3);
        assert!(wanted.batch(now, 10, 3).is_empty());
        assert_eq!(wanted.timeout(3), None);
        wanted.end(FetchId(0));
        assert!(wanted.timeout(3).is_some_and(|due| due <= now.mono));
    }
}
