//! Documents of relays by digest and by relay: server descriptors, extra-infos (dir-spec 2, 4.4).
//!
//! The newest of each relay is the one that its fingerprint asks for. Older ones stay as long as a
//! consensus may list them; then, or past the bound, the oldest go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cepa_crypto::RsaId;

/// How long a document is kept that no consensus lists (dir-spec 4.2: descriptors of the last 48
/// hours).
pub(super) const UNLISTED_AGE_MAX: Duration = Duration::from_secs(48 * 60 * 60);
/// Most documents of one kind.
pub const ROUTER_DOCUMENTS_MAX: usize = 50_000;

/// One document of a relay.
#[derive(Debug, Clone)]
pub struct RouterDocument {
    /// SHA-1 of its signed part.
    pub digest: [u8; 20],
    /// Whose it is.
    pub identity: RsaId,
    /// When it was made.
    pub published: SystemTime,
    /// It.
    pub text: Arc<str>,
}

/// Documents of one kind.
#[derive(Debug, Default)]
pub struct RouterDocuments {
    by_digest: BTreeMap<[u8; 20], RouterDocument>,
    newest: BTreeMap<RsaId, [u8; 20]>,
}

impl RouterDocuments {
    /// Takes a document.
    pub fn insert(&mut self, document: RouterDocument) {
        if self.by_digest.len() >= ROUTER_DOCUMENTS_MAX {
            let oldest = self.by_digest.values().min_by_key(|held| held.published);
            if let Some(digest) = oldest.map(|held| held.digest) {
                self.remove(&digest);
            }
        }
        let held = self.newest.get(&document.identity);
        let held = held.and_then(|digest| self.by_digest.get(digest));
        if held.is_none_or(|held| held.published <= document.published) {
            self.newest.insert(document.identity, document.digest);
        }
        self.by_digest.insert(document.digest, document);
    }

    /// Forgets a document.
    pub fn remove(&mut self, digest: &[u8; 20]) {
        let Some(gone) = self.by_digest.remove(digest) else {
            return;
        };
        if self.newest.get(&gone.identity) != Some(digest) {
            return;
        }
        self.newest.remove(&gone.identity);
        let others = self
            .by_digest
            .values()
            .filter(|held| held.identity == gone.identity);
        if let Some(next) = others.max_by_key(|held| held.published) {
            self.newest.insert(gone.identity, next.digest);
        }
    }

    /// Forgets what is old and not among `listed`.
    pub fn prune(&mut self, listed: &BTreeSet<[u8; 20]>, now: SystemTime) {
        let is_old = |held: &RouterDocument| {
            now.duration_since(held.published)
                .is_ok_and(|age| age > UNLISTED_AGE_MAX)
        };
        self.by_digest
            .retain(|digest, held| listed.contains(digest) || !is_old(held));
        let by_digest = &self.by_digest;
        self.newest
            .retain(|_, digest| by_digest.contains_key(digest));
    }

    /// The document of a digest.
    #[must_use]
    pub fn by_digest(&self, digest: &[u8; 20]) -> Option<&Arc<str>> {
        self.by_digest.get(digest).map(|held| &held.text)
    }

    /// The newest document of a relay.
    #[must_use]
    pub fn of_relay(&self, id: &RsaId) -> Option<&Arc<str>> {
        self.by_digest(self.newest.get(id)?)
    }

    /// The newest document of each relay.
    pub fn newest(&self) -> impl Iterator<Item = &Arc<str>> {
        self.newest
            .values()
            .filter_map(|digest| self.by_digest(digest))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_digest.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_digest.is_empty()
    }
}
