//! The descriptors that a visitor has fetched (rend-spec-v3 2.4; what is in it, 2.5).
//!
//! Invariants: one descriptor a blinded key, replaced only by a higher revision or where the one
//! held could not be read; gone when its lifetime is over, and all are gone when the ring has
//! moved to another time period; bounded in number, the one that was not used for longest goes
//! first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cepa_crypto::onion::OnionAddress;
use cepa_netdoc::hs_descriptor::HsPlaintext;

use super::outcome::VisitError;

/// Most descriptors that are kept.
pub(super) const DESCRIPTORS_MAX: usize = 256;

/// What a descriptor says.
#[derive(Debug)]
pub(super) struct Opened {
    /// What introductions are bound to, beside the keys of the point.
    pub(super) subcredential: [u8; 32],
    /// The introduction points and what else the service says.
    pub(super) plaintext: HsPlaintext,
    /// Whose it is.
    pub(super) address: OnionAddress,
    /// All of it, as it came.
    pub(super) text: Box<str>,
}

impl Opened {
    /// Whether a point with this authentication key is in it.
    pub(super) fn lists(&self, auth_key: &[u8; 32]) -> bool {
        let mut points = self.plaintext.intro_points.iter();
        points.any(|point| point.auth_key.as_bytes() == auth_key)
    }
}

/// What is known of a descriptor.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// It was read.
    Open(Arc<Opened>),
    /// It is for clients with a key that is not ours.
    Locked(VisitError),
}

#[derive(Debug)]
struct Entry {
    revision: u64,
    content: Content,
    until: Instant,
    used: u64,
}

/// The descriptors, by blinded key.
#[derive(Debug, Default)]
pub(super) struct DescriptorCache {
    entries: BTreeMap<[u8; 32], Entry>,
    uses: u64,
}

impl DescriptorCache {
    /// What is known of a service's descriptor.
    pub(super) fn lookup(&mut self, blinded: &[u8; 32], now: Instant) -> Option<Content> {
        self.uses += 1;
        let entry = self.entries.get_mut(blinded)?;
        if now >= entry.until {
            self.entries.remove(blinded);
            return None;
        }
        entry.used = self.uses;
        Some(entry.content.clone())
    }

    /// The text of a service's descriptor, where it could be read.
    pub(super) fn text_of(&self, address: &OnionAddress, now: Instant) -> Option<&str> {
        let fresh = self.entries.values().filter(|entry| now < entry.until);
        let mut open = fresh.filter_map(|entry| match &entry.content {
            Content::Open(opened) => Some(opened),
            Content::Locked(_) => None,
        });
        let found = open.find(|opened| opened.address == *address)?;
        Some(&found.text)
    }

    /// Takes a descriptor, unless a newer one is there.
    pub(super) fn store(
        &mut self,
        blinded: [u8; 32],
        revision: u64,
        lifetime: Duration,
        content: Content,
        now: Instant,
    ) {
        self.entries.retain(|_, entry| now < entry.until);
        self.uses += 1;
        if let Some(entry) = self.entries.get(&blinded) {
            let is_open = matches!(entry.content, Content::Open(_));
            if entry.revision > revision || entry.revision == revision && is_open {
                return;
            }
        } else if self.entries.len() >= DESCRIPTORS_MAX {
            let stalest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            if let Some(key) = stalest.map(|(key, _)| *key) {
                self.entries.remove(&key);
            }
        }
        let entry = Entry {
            revision,
            content,
            until: now + lifetime,
            used: self.uses,
        };
        self.entries.insert(blinded, entry);
    }

    /// Forgets one service's.
    pub(super) fn remove(&mut self, blinded: &[u8; 32]) {
        self.entries.remove(blinded);
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawn::start;

    const HOUR: Duration = Duration::from_secs(3600);

    fn locked() -> Content {
        Content::Locked(VisitError::ClientKeyMissing)
    }

    fn revision(cache: &DescriptorCache, blinded: u8) -> Option<u64> {
        let entry = cache.entries.get(&[blinded; 32]);
        entry.map(|entry| entry.revision)
    }

    #[test]
    fn a_higher_revision_replaces_a_lower_one_only() {
        let now = start().mono;
        let mut cache = DescriptorCache::default();
        cache.store([1; 32], 5, HOUR, locked(), now);
        cache.store([1; 32], 4, HOUR, locked(), now);
        assert_eq!(revision(&cache, 1), Some(5));
        cache.store([1; 32], 6, HOUR, locked(), now);
        assert_eq!(revision(&cache, 1), Some(6));
    }

    #[test]
    fn a_descriptor_ends_with_its_lifetime() {
        let now = start().mono;
        let mut cache = DescriptorCache::default();
        cache.store([1; 32], 5, HOUR, locked(), now);
        assert!(cache.lookup(&[1; 32], now + HOUR / 2).is_some());
        assert!(cache.lookup(&[1; 32], now + HOUR).is_none());
        cache.store([1; 32], 1, HOUR, locked(), now + HOUR);
        assert_eq!(revision(&cache, 1), Some(1), "the old one no longer counts");
        cache.remove(&[1; 32]);
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_used() {
        let now = start().mono;
        let mut cache = DescriptorCache::default();
        let key = |n: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            key
        };
        for n in 0..DESCRIPTORS_MAX {
            cache.store(key(n), 1, HOUR, locked(), now);
        }
        assert!(cache.lookup(&key(0), now).is_some());
        cache.store(key(DESCRIPTORS_MAX), 1, HOUR, locked(), now);
        assert_eq!(cache.len(), DESCRIPTORS_MAX);
        assert!(cache.lookup(&key(0), now).is_some());
        assert!(cache.lookup(&key(1), now).is_none(), "the stalest went");
    }
}
