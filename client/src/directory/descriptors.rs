//! Server descriptors, which no path needs: kept for controllers that read them, such as scanners
//! of bandwidth, once that is wanted (dir-spec 2.1.1, `UseMicrodescriptors` in tor(1)).
//!
//! What the consensus of the ns flavour does not list any more is dropped.

use std::collections::{BTreeMap, BTreeSet};

use cepa_crypto::RsaId;
use cepa_netdoc::consensus::Consensus;
use cepa_netdoc::descriptor::ServerDescriptor;

/// The texts of descriptors, by relay.
#[derive(Debug, Default)]
pub struct Descriptors {
    is_wanted: bool,
    by_relay: BTreeMap<RsaId, String>,
}

impl Descriptors {
    /// Whether they are kept.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// The text of a relay's descriptor, if it is at hand.
    #[must_use]
    pub fn of(&self, relay: &RsaId) -> Option<&str> {
        self.by_relay.get(relay).map(String::as_str)
    }

    /// The texts of all.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.by_relay.values().map(String::as_str)
    }

    /// They are kept from now on. True if they were not before.
    pub(super) fn want(&mut self) -> bool {
        !std::mem::replace(&mut self.is_wanted, true)
    }

    /// Takes descriptors; those of which relays came.
    pub(super) fn take(&mut self, found: Vec<ServerDescriptor>) -> Vec<RsaId> {
        let take = |one: ServerDescriptor| {
            let relay = one.identity;
            self.by_relay.insert(relay, one.text);
            relay
        };
        found.into_iter().map(take).collect()
    }

    /// Drops what another consensus does not list.
    pub(super) fn prune(&mut self, consensus: &Consensus) {
        let routers = consensus.routers.iter();
        let listed: BTreeSet<RsaId> = routers.map(|one| one.rsa_id).collect();
        self.by_relay.retain(|relay, _| listed.contains(relay));
    }
}
