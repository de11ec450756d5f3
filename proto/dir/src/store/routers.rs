//! Documents of relays by digest and by relay: server descriptors, extra-infos (dir-spec 2, 4.4).
//!
//! The newest of each relay is the one that its fingerprint asks for. Older ones stay as long as a
//! consensus may list them; then, past a relay's own bound or that of all, the oldest go: what the
//! consensus in force lists goes last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use cepa_crypto::RsaId;

use super::document::Document;

/// How long a document is kept that no consensus lists (dir-spec 4.2: descriptors of the last 48
/// hours).
pub const UNLISTED_AGE_MAX: Duration = Duration::from_secs(48 * 60 * 60);
/// The most documents of one kind that are held.
pub const ROUTER_DOCUMENTS_MAX: usize = 50_000;
/// Bytes of all documents of one kind; those of ten thousand relays have 30 MB.
pub const ROUTER_DOCUMENTS_LEN_MAX: usize = 256 << 20;
/// Most documents of one relay: those of two days, each 18 hours one, and some for its changes.
pub const ROUTER_DOCUMENTS_OF_RELAY_MAX: usize = 8;
/// So long all of them together are served as they were, while there are new ones: making that text
/// takes long, and anybody may ask.
const ALL_AGE_MAX: Duration = Duration::from_secs(5);

/// One document of a relay.
#[derive(Debug, Clone)]
pub struct RouterDocument {
    /// SHA-1 of its signed part.
    pub digest: [u8; 20],
    /// The relay that the document is of.
    pub identity: RsaId,
    /// When the document was made.
    pub published: SystemTime,
    /// The text of the document.
    pub text: Arc<str>,
}

#[derive(Debug)]
struct Held {
    document: RouterDocument,
    is_listed: bool,
}

impl Held {
    fn order(&self) -> (bool, SystemTime, [u8; 20]) {
        let document = &self.document;
        (self.is_listed, document.published, document.digest)
    }
}

/// The newest of each relay, one behind the other, as they were once.
#[derive(Debug)]
struct All {
    document: Arc<Document>,
    made: SystemTime,
    changes: u64,
}

/// Documents of one kind.
#[derive(Debug, Default)]
pub struct RouterDocuments {
    by_digest: BTreeMap<[u8; 20], Held>,
    /// Of each relay, the newest last.
    of_relay: BTreeMap<RsaId, BTreeSet<(SystemTime, [u8; 20])>>,
    /// The next to go first.
    order: BTreeSet<(bool, SystemTime, [u8; 20])>,
    len: usize,
    /// Grows with each change.
    changes: u64,
    all: Mutex<Option<All>>,
}

impl RouterDocuments {
    /// Takes a document.
    pub fn insert(&mut self, document: RouterDocument) {
        let (id, digest) = (document.identity, document.digest);
        let is_listed = self.by_digest.get(&digest).is_some_and(|one| one.is_listed);
        self.remove(&digest);
        while self.of_relay.get(&id).map_or(0, BTreeSet::len) >= ROUTER_DOCUMENTS_OF_RELAY_MAX {
            self.remove_oldest_of(&id);
        }
        let (count_max, len_max) = (ROUTER_DOCUMENTS_MAX, ROUTER_DOCUMENTS_LEN_MAX);
        while self.by_digest.len() >= count_max || self.len + document.text.len() > len_max {
            let Some((.., oldest)) = self.order.first().copied() else {
                break;
            };
            self.remove(&oldest);
        }
        self.len += document.text.len();
        let of_relay = self.of_relay.entry(id).or_default();
        of_relay.insert((document.published, digest));
        let held = Held {
            document,
            is_listed,
        };
        self.order.insert(held.order());
        self.by_digest.insert(digest, held);
        self.changes += 1;
    }

    fn remove_oldest_of(&mut self, id: &RsaId) {
        let of_relay = self.of_relay.get(id).into_iter().flatten();
        let orders = of_relay.filter_map(|(_, digest)| self.by_digest.get(digest));
        if let Some((.., oldest)) = orders.map(Held::order).min() {
            self.remove(&oldest);
        }
    }

    /// Forgets a document.
    pub fn remove(&mut self, digest: &[u8; 20]) {
        let Some(gone) = self.by_digest.remove(digest) else {
            return;
        };
        self.order.remove(&gone.order());
        self.len -= gone.document.text.len();
        let id = gone.document.identity;
        if let Some(of_relay) = self.of_relay.get_mut(&id) {
            of_relay.remove(&(gone.document.published, *digest));
            if of_relay.is_empty() {
                self.of_relay.remove(&id);
            }
        }
        self.changes += 1;
    }

    /// A consensus lists these; forgets what is old and not among them.
    pub fn prune(&mut self, listed: &BTreeSet<[u8; 20]>, now: SystemTime) {
        let mut old = Vec::new();
        for (digest, held) in &mut self.by_digest {
            held.is_listed = listed.contains(digest);
            let age = now.duration_since(held.document.published);
            if !held.is_listed && age.is_ok_and(|age| age > UNLISTED_AGE_MAX) {
                old.push(*digest);
            }
        }
        self.order = self.by_digest.values().map(Held::order).collect();
        old.iter().for_each(|digest| self.remove(digest));
    }

    /// The document of a digest.
    #[must_use]
    pub fn by_digest(&self, digest: &[u8; 20]) -> Option<&Arc<str>> {
        self.by_digest.get(digest).map(|held| &held.document.text)
    }

    /// The newest document of a relay.
    #[must_use]
    pub fn of_relay(&self, id: &RsaId) -> Option<&Arc<str>> {
        let (_, digest) = self.of_relay.get(id)?.last()?;
        self.by_digest(digest)
    }

    /// The newest document of each relay, as they are or were some seconds ago; `None` if there is
    /// none.
    pub(super) fn all(&self, now: SystemTime) -> Option<Arc<Document>> {
        if self.of_relay.is_empty() {
            return None;
        }
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let is_good = |all: &&All| {
            let age = now.duration_since(all.made);
            all.changes == self.changes || age.is_ok_and(|age| age < ALL_AGE_MAX)
        };
        if let Some(all) = all.as_ref().filter(is_good) {
            return Some(Arc::clone(&all.document));
        }
        let texts = self.of_relay.keys().filter_map(|id| self.of_relay(id));
        let document = Arc::new(Document::of_all(texts.cloned().collect()));
        *all = Some(All {
            document: Arc::clone(&document),
            made: now,
            changes: self.changes,
        });
        Some(document)
    }

    /// The number of documents.
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
