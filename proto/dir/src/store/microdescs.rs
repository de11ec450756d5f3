//! Microdescriptors by digest (dir-spec 4.5).
//!
//! Those of the consensus in force are kept whatever comes; others for a week after a consensus
//! last listed them, or until there is no more room: then the longest unlisted goes first. On an
//! authority each descriptor that a relay uploads makes new ones, so that no relay may have many
//! that no consensus lists, nor push out those of others with them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cepa_crypto::RsaId;

/// How long a microdescriptor is kept that no consensus lists any more (dir-spec 4.5: a week).
pub const MICRODESC_UNLISTED_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The most microdescriptors that are held.
pub const MICRODESCS_MAX: usize = 100_000;
/// Bytes of all of them; ten thousand relays have 7 MB of them at a time.
pub const MICRODESCS_LEN_MAX: usize = 128 << 20;
/// Those that one relay may have without a consensus that lists them: of its descriptors of a day,
/// each by some methods.
pub const MICRODESCS_OF_RELAY_MAX: usize = 16;

#[derive(Debug)]
struct Held {
    text: Arc<str>,
    is_listed: bool,
    /// When it came, or a consensus listed it last.
    listed: SystemTime,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Microdescs {
    held: BTreeMap<[u8; 32], Held>,
    /// The next to go first.
    order: BTreeSet<(bool, SystemTime, [u8; 32])>,
    /// Those that were made of a relay's descriptors, the oldest first.
    made_of: BTreeMap<RsaId, VecDeque<[u8; 32]>>,
    len: usize,
    len_max: usize,
}

impl Default for Microdescs {
    fn default() -> Self {
        Microdescs {
            held: BTreeMap::new(),
            order: BTreeSet::new(),
            made_of: BTreeMap::new(),
            len: 0,
            len_max: MICRODESCS_LEN_MAX,
        }
    }
}

impl Microdescs {
    /// The text of a digest.
    #[must_use]
    pub(super) fn get(&self, digest: &[u8; 32]) -> Option<&Arc<str>> {
        self.held.get(digest).map(|held| &held.text)
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.held.len()
    }

    /// Takes one; `made_of` is the relay of whose upload it was made, if it was.
    pub(super) fn insert(
        &mut self,
        digest: [u8; 32],
        text: Arc<str>,
        made_of: Option<RsaId>,
        now: SystemTime,
    ) {
        let is_listed = self.held.get(&digest).is_some_and(|held| held.is_listed);
        self.remove(&digest);
        if let Some(id) = made_of {
            self.note_made(id, digest);
        }
        while self.held.len() >= MICRODESCS_MAX || self.len + text.len() > self.len_max {
            let Some((.., first)) = self.order.first().copied() else {
                break;
            };
            self.remove(&first);
        }
        self.len += text.len();
        self.order.insert((is_listed, now, digest));
        let listed = now;
        self.held.insert(
            digest,
            Held {
                text,
                is_listed,
                listed,
            },
        );
    }

    fn note_made(&mut self, id: RsaId, digest: [u8; 32]) {
        let made = self.made_of.entry(id).or_default();
        made.retain(|one| *one != digest);
        made.push_back(digest);
        if made.len() <= MICRODESCS_OF_RELAY_MAX {
            return;
        }
        let oldest = made.pop_front();
        let unlisted = oldest.filter(|one| self.held.get(one).is_some_and(|held| !held.is_listed));
        if let Some(digest) = unlisted {
            self.remove(&digest);
        }
    }

    /// A consensus lists these; forgets what none has listed for a week.
    pub(super) fn set_listed(&mut self, listed: &BTreeSet<[u8; 32]>, now: SystemTime) {
        let len = &mut self.len;
        self.held.retain(|digest, held| {
            held.is_listed = listed.contains(digest);
            if held.is_listed {
                held.listed = held.listed.max(now);
            }
            let age = now.duration_since(held.listed);
            let stays = age.is_ok_and(|age| age <= MICRODESC_UNLISTED_MAX) || held.listed > now;
            *len -= if stays { 0 } else { held.text.len() };
            stays
        });
        let order = |(digest, held): (&[u8; 32], &Held)| (held.is_listed, held.listed, *digest);
        self.order = self.held.iter().map(order).collect();
        let held = &self.held;
        self.made_of.retain(|_, made| {
            made.retain(|digest| held.contains_key(digest));
            !made.is_empty()
        });
    }

    fn remove(&mut self, digest: &[u8; 32]) {
        if let Some(held) = self.held.remove(digest) {
            self.order.remove(&(held.is_listed, held.listed, *digest));
            self.len -= held.text.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn digest(n: usize) -> [u8; 32] {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&n.to_be_bytes());
        digest
    }

    #[test]
    fn the_longest_unlisted_goes_first() {
        let (start, text) = (SystemTime::UNIX_EPOCH, "x".repeat(100));
        let mut store = Microdescs {
            len_max: 1000,
            ..Microdescs::default()
        };
        let insert = |store: &mut Microdescs, n: usize, days: u32| {
            store.insert(digest(n), text.as_str().into(), None, start + DAY * days);
        };
        (0..5).for_each(|n| insert(&mut store, n, 0));
        let listed = (0..3).map(digest).collect();
        store.set_listed(&listed, start + DAY);
        // A flood of newer ones pushes out all but those that are listed.
        (10..50).for_each(|n| insert(&mut store, n, 2));
        assert_eq!((store.count(), store.len), (10, 1000));
        assert!((0..3).all(|n| store.get(&digest(n)).is_some()));
        assert!(store.get(&digest(3)).is_none() && store.get(&digest(49)).is_some());
        // After a week without a word of them they go, too.
        store.set_listed(&BTreeSet::from([digest(0)]), start + DAY * 8);
        assert!(store.get(&digest(1)).is_some());
        store.set_listed(&BTreeSet::from([digest(0)]), start + DAY * 9);
        assert!(store.get(&digest(0)).is_some() && store.get(&digest(1)).is_none());
        assert_eq!(store.order.len(), store.count());
    }

    #[test]
    fn one_relay_pushes_out_its_own_alone() {
        let (now, mut store) = (SystemTime::UNIX_EPOCH, Microdescs::default());
        let relay = |n| Some(RsaId::from([n; 20]));
        store.insert(digest(1), "a".into(), relay(1), now);
        for n in 100..1000 {
            store.insert(digest(n), "b".into(), relay(2), now);
        }
        assert_eq!(store.count(), 1 + MICRODESCS_OF_RELAY_MAX);
        assert!(store.get(&digest(1)).is_some() && store.get(&digest(999)).is_some());
        // What a consensus lists stays, whatever its relay uploads.
        store.set_listed(&BTreeSet::from([digest(999)]), now);
        for n in 2000..3000 {
            store.insert(digest(n), "c".into(), relay(2), now);
        }
        assert!(store.get(&digest(999)).is_some());
        assert_eq!(store.count(), 2 + MICRODESCS_OF_RELAY_MAX);
    }
}
