//! What all visits share: circuits, descriptors, what is remembered of failures, client keys.
//!
//! Descriptors and failures are shared by all isolations, as `tor` shares them: what a directory
//! or an introduction point sees of us comes over circuits of their own each time.

use std::collections::BTreeMap;

use cepa_circuit::congestion::CongestionParams;
use cepa_crypto::onion::OnionAddress;
use cepa_crypto::{Rng, curve25519};

use crate::select::rules::Permits;

use super::cache::DescriptorCache;
use super::circuits::VisitCircuits;
use super::memory::{AskedDirectories, IntroFailures};

/// What a visit or a fetch works with.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) rng: Rng,
    pub(super) circuits: VisitCircuits,
    pub(super) cache: DescriptorCache,
    pub(super) asked: AskedDirectories,
    pub(super) failures: IntroFailures,
    pub(super) client_keys: BTreeMap<OnionAddress, curve25519::SecretKey>,
    /// What the operator's rules say: what is excluded comes last (`ExcludeNodes` of `tor`).
    pub(super) permits: Permits,
    /// What the consensus says of congestion control.
    pub(super) congestion: Option<CongestionParams>,
    /// No descriptors are fetched (`FetchHidServDescriptors 0`).
    pub(super) fetches_nothing: bool,
}

impl Shared {
    pub(super) fn new(rng: Rng, testing: bool) -> Self {
        Shared {
            rng,
            circuits: VisitCircuits::default(),
            cache: DescriptorCache::default(),
            asked: AskedDirectories::new(testing),
            failures: IntroFailures::new(testing),
            client_keys: BTreeMap::new(),
            permits: Permits::default(),
            congestion: None,
            fetches_nothing: false,
        }
    }

    /// Draws an order.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let bound = u64::try_from(i).unwrap_or(u64::MAX).saturating_add(1);
            let j = usize::try_from(self.rng.below(bound)).unwrap_or(0);
            items.swap(i, j);
        }
    }
}
