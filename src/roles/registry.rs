//! The one channel to each relay, whichever worker has it (tor-spec 2.1: links are shared).
//!
//! Asked once for a circuit that is extended, never for a cell. Who asks while a link is being
//! opened waits for that one instead of opening a second.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cepa_circuit::CircuitKey;
use cepa_crypto::RsaId;
use cepa_link::{ChannelKey, PeerIdentity};
use cepa_relay::{LinkTarget, WorkerId};

/// Where an open channel is.
pub(crate) type Place = (WorkerId, ChannelKey);

/// A circuit that waits for a channel, and the worker that owns it.
pub(crate) type Waiter = (WorkerId, CircuitKey);

/// All open and opening channels to relays.
#[derive(Default)]
pub(crate) struct Registry {
    channels: Mutex<BTreeMap<RsaId, Entry>>,
}

enum Entry {
    Open { peer: PeerIdentity, place: Place },
    Opening(Vec<Waiter>),
}

/// What to do for a circuit that needs a channel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is there.
    Open(Place),
    /// Somebody is opening it; the waiter will be told.
    Waiting,
    /// The relay of that RSA identity is connected, and has another Ed25519 identity.
    Mismatch,
    /// Nobody has it: open it, then call [`Registry::opened`] or [`Registry::failed`].
    Missing,
}

impl Registry {
    /// Looks a channel up for `waiter`.
    pub(crate) fn find(&self, target: &LinkTarget, waiter: Waiter) -> Found {
        let mut channels = self.lock();
        match channels.get_mut(&target.rsa) {
            Some(Entry::Open { peer, place })
                if target.ed.is_none_or(|wanted| wanted == peer.ed) =>
            {
                Found::Open(*place)
            }
            Some(Entry::Opening(waiters)) => {
                waiters.push(waiter);
                Found::Waiting
            }
            Some(Entry::Open { .. }) => Found::Mismatch,
            None => {
                channels.insert(target.rsa, Entry::Opening(vec![waiter]));
                Found::Missing
            }
        }
    }

    /// A channel is open; returns those who wait for it. A channel that a peer opened to us is
    /// kept only where there is none yet.
    pub(crate) fn opened(&self, peer: PeerIdentity, place: Place) -> Vec<Waiter> {
        let mut channels = self.lock();
        if let Some(Entry::Open { .. }) = channels.get(&peer.rsa) {
            return Vec::new();
        }
        match channels.insert(peer.rsa, Entry::Open { peer, place }) {
            Some(Entry::Opening(waiters)) => waiters,
            _ => Vec::new(),
        }
    }

    /// A channel could not be opened; returns those who wait for it.
    pub(crate) fn failed(&self, rsa: RsaId) -> Vec<Waiter> {
        let mut channels = self.lock();
        match channels.get(&rsa) {
            Some(Entry::Opening(_)) => match channels.remove(&rsa) {
                Some(Entry::Opening(waiters)) => waiters,
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// A channel is closed.
    pub(crate) fn closed(&self, rsa: RsaId, closed: Place) {
        let mut channels = self.lock();
        if matches!(channels.get(&rsa), Some(Entry::Open { place, .. }) if *place == closed) {
            channels.remove(&rsa);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RsaId, Entry>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cepa_crypto::Ed25519Id;

    fn target(ed: Option<u8>) -> LinkTarget {
        LinkTarget {
            rsa: RsaId::from([1; 20]),
            ed: ed.map(|byte| Ed25519Id::from([byte; 32])),
            addrs: Default::default(),
        }
    }

    #[test]
    fn a_link_is_opened_once_for_all_who_wait() {
        let registry = Registry::default();
        let waiter = |worker| (WorkerId(worker), CircuitKey::default());
        let peer = PeerIdentity {
            rsa: RsaId::from([1; 20]),
            ed: Ed25519Id::from([2; 32]),
        };
        assert_eq!(registry.find(&target(None), waiter(0)), Found::Missing);
        assert_eq!(registry.find(&target(Some(2)), waiter(1)), Found::Waiting);
        let place = (WorkerId(1), ChannelKey::default());
        assert_eq!(registry.opened(peer, place), vec![waiter(0), waiter(1)]);
        assert_eq!(
            registry.find(&target(Some(2)), waiter(1)),
            Found::Open(place)
        );
        assert_eq!(registry.find(&target(Some(3)), waiter(1)), Found::Mismatch);
        assert_eq!(registry.failed(peer.rsa), vec![]);
        registry.closed(peer.rsa, (WorkerId(0), ChannelKey::default()));
        assert_eq!(registry.find(&target(None), waiter(0)), Found::Open(place));
        registry.closed(peer.rsa, place);
        assert_eq!(registry.find(&target(None), waiter(0)), Found::Missing);
        assert_eq!(registry.failed(peer.rsa), vec![waiter(0)]);
    }
}
