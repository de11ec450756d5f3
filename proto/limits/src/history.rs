//! What is remembered of addresses that have no connection now, in constant memory.
//!
//! A table of [`SETS`] sets of [`WAYS`] records, found by a keyed hash. In a full set the record
//! that ends soonest gives way, unless the newcomer's ends sooner still, who is then forgotten.
//! Records are exact: nobody is ever punished for what another has done.
//!
//! What it costs an attacker to have his own record forgotten: the hash's key is secret, so he
//! cannot choose addresses of the same set, and each that pushes his out must carry a record that
//! lasts longer than his, that is, must have been marked later. Filling all sets takes some
//! `SETS * WAYS` = 65,536 addresses (or IPv6 /64s), each marked; what he gains is the forgiveness
//! of addresses that he has more of anyway.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use cepa_crypto::Rng;

use crate::account::CircuitState;
use crate::{Meter, Source};

/// Sets of the table.
const SETS: usize = 1 << 14;
/// Records of a set.
const WAYS: usize = 4;

/// What is remembered of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Record {
    pub(crate) circuits: CircuitState,
    /// Connections to the doors that count them.
    pub(crate) connects: Meter,
    /// Up to when its connections are refused.
    pub(crate) refused_until: Option<Instant>,
    /// Directory requests.
    pub(crate) requests: Meter,
}

impl Record {
    /// When nothing of it matters any more; `None` if nothing does now.
    fn until(&self, now: Instant) -> Option<Instant> {
        let ends = [
            self.circuits.paid_until,
            self.circuits.marked_until,
            self.refused_until,
            self.connects.until(now),
            self.requests.until(now),
        ];
        ends.into_iter().flatten().filter(|end| *end > now).max()
    }
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct History {
    key: [u8; 16],
    /// Made when somebody is remembered in it.
    sets: Vec<Option<Box<Set>>>,
}

type Set = [Option<(Source, Record)>; WAYS];

impl History {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        Self::with_sets(SETS, rng)
    }

    fn with_sets(sets: usize, rng: &mut Rng) -> Self {
        History {
            key: rng.array(),
            sets: vec![None; sets],
        }
    }

    /// Takes out what is known of an address.
    pub(crate) fn take(&mut self, source: Source) -> Record {
        let set = self.set(source).as_deref_mut();
        let ways = set.map_or(&mut [][..], |set| &mut set[..]).iter_mut();
        let mut ours = ways.filter(|way| way.is_some_and(|it| it.0 == source));
        let found = ours.next().and_then(Option::take);
        found.map_or_else(Record::default, |(_, record)| record)
    }

    /// Remembers an address that has left.
    pub(crate) fn put(&mut self, source: Source, record: Record, now: Instant) {
        let Some(until) = record.until(now) else {
            return;
        };
        let end = |way: &Option<(Source, Record)>| way.and_then(|it| it.1.until(now));
        let ways = self.set(source).get_or_insert_default();
        if let Some(soonest) = ways.iter_mut().min_by_key(|way| end(way))
            && end(soonest).is_none_or(|end| end < until)
        {
            *soonest = Some((source, record));
        }
    }

    fn set(&mut self, source: Source) -> &mut Option<Box<Set>> {
        let mut hasher = DefaultHasher::new();
        self.key.hash(&mut hasher);
        source.hash(&mut hasher);
        let set = (hasher.finish() as usize) % self.sets.len();
        &mut self.sets[set]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant is as good")]
    fn now() -> Instant {
        Instant::now()
    }

    fn host(n: u32) -> Source {
        Source::of(IpAddr::V4(Ipv4Addr::from_bits(n)))
    }

    fn until(end: Instant) -> Record {
        Record {
            refused_until: Some(end),
            ..Record::default()
        }
    }

    fn held(history: &History) -> Vec<(Source, Record)> {
        let sets = history.sets.iter().flatten();
        sets.flat_map(|set| set.iter().flatten()).copied().collect()
    }

    #[test]
    fn a_million_addresses_do_not_push_out_a_longer_punishment() {
        let (now, mut rng) = (now(), Rng::from_seed([1; 32]));
        let mut history = History::new(&mut rng);
        let marked = until(now + Duration::from_secs(3600));
        history.put(host(1), marked, now);
        for n in 2..1_000_000 {
            history.put(host(n), until(now + Duration::from_secs(60)), now);
        }
        assert_eq!(history.sets.len(), SETS);
        assert_eq!(history.take(host(1)), marked);
        assert_eq!(history.take(host(1)), Record::default());
    }

    #[test]
    fn what_is_over_takes_no_room() {
        let (now, mut rng) = (now(), Rng::from_seed([1; 32]));
        let mut history = History::with_sets(1, &mut rng);
        history.put(host(9), Record::default(), now);
        history.put(host(9), until(now), now);
        assert!(held(&history).is_empty());
        for n in 0..4 {
            history.put(host(n), until(now + Duration::from_secs(1)), now);
        }
        let later = now + Duration::from_secs(1);
        let new = until(later + Duration::from_millis(1));
        history.put(host(5), new, later);
        assert_eq!(history.take(host(5)), new);
    }

    proptest! {
        /// Whatever is remembered is what was put in last, and the longest are remembered.
        #[test]
        fn as_a_map_without_bounds(
            puts in prop::collection::vec((0_u32..40, 1_u64..100), 1..100),
        ) {
            let (now, mut rng) = (now(), Rng::from_seed([1; 32]));
            let mut history = History::with_sets(1, &mut rng);
            let mut model = BTreeMap::new();
            for (n, seconds) in puts {
                let source = host(n);
                let known = history.take(source);
                if known != Record::default() {
                    prop_assert_eq!(Some(&known), model.get(&source));
                }
                let record = until(now + Duration::from_secs(seconds));
                history.put(source, record, now);
                model.insert(source, record);
            }
            let held = held(&history);
            prop_assert!(held.len() == WAYS.min(model.len()));
            for (source, record) in held {
                prop_assert_eq!(model.get(&source), Some(&record));
            }
        }
    }
}
