//! The weighted view of the network: a microdesc consensus and the microdescriptors that are at
//! hand, as relays that paths can be made of (path-spec 2.2, dir-spec 3.8.3).
//!
//! Invariants: [`NetworkView::relays`] are those of the consensus whose microdescriptor is known,
//! ascending by RSA identity. Microdescriptors that the consensus does not list are not kept. A
//! new consensus takes over those that it lists too.

mod relay;
mod weights;

use std::collections::BTreeMap;
use std::sync::Arc;

use cepa_crypto::{Ed25519Id, Rng, RsaId};
use cepa_netdoc::consensus::{Consensus, ConsensusText};
use cepa_netdoc::microdesc::Microdesc;
use cepa_netdoc::params::Params;
use cepa_netdoc::protover::Protocols;
use cepa_netdoc::routerstatus::{Flags, RouterStatus};

use weights::Weights;

pub use relay::Relay;
pub use weights::Role;

/// A consensus with what is known of its relays.
#[derive(Clone, Debug)]
pub struct NetworkView {
    text: ConsensusText,
    microdescs: BTreeMap<[u8; 32], Arc<Microdesc>>,
    relays: Vec<Relay>,
    by_ed25519: BTreeMap<Ed25519Id, usize>,
    weights: Weights,
    is_testing: bool,
}

impl NetworkView {
    /// The view that a microdesc consensus gives, before any microdescriptor is known.
    pub fn new(text: ConsensusText) -> Self {
        let weights = Weights::of(text.consensus());
        Self {
            text,
            microdescs: BTreeMap::new(),
            relays: Vec::new(),
            by_ed25519: BTreeMap::new(),
            weights,
            is_testing: false,
        }
    }

    /// The view of a testing network, or not of one: the periods of onion services are others.
    #[must_use]
    pub fn testing(self, is_testing: bool) -> Self {
        Self { is_testing, ..self }
    }

    /// Whether its network is a testing one.
    #[must_use]
    pub fn is_testing(&self) -> bool {
        self.is_testing
    }

    /// Goes over to a newer consensus, with the microdescriptors that it still lists.
    pub fn replace_consensus(&mut self, text: ConsensusText) {
        let held = std::mem::take(&mut self.microdescs);
        *self = Self::new(text).testing(self.is_testing);
        self.add(held.into_values());
    }

    /// Takes microdescriptors; says how many of them were missing.
    pub fn add_microdescs(&mut self, found: impl IntoIterator<Item = Microdesc>) -> usize {
        self.add(found.into_iter().map(Arc::new))
    }

    fn add(&mut self, found: impl IntoIterator<Item = Arc<Microdesc>>) -> usize {
        let before = self.microdescs.len();
        let consensus = Arc::clone(self.text.consensus());
        let mut wanted: Vec<&[u8; 32]> = consensus
            .routers
            .iter()
            .filter_map(|one| one.microdesc_digest.as_ref())
            .collect();
        wanted.sort_unstable();
        for microdesc in found {
            if wanted.binary_search(&&microdesc.digest).is_ok() {
                self.microdescs.insert(microdesc.digest, microdesc);
            }
        }
        let added = self.microdescs.len() - before;
        if added > 0 {
            self.index(&consensus);
        }
        added
    }

    fn index(&mut self, consensus: &Consensus) {
        let mut spoken: BTreeMap<&str, Arc<Protocols>> = BTreeMap::new();
        self.relays.clear();
        for status in &consensus.routers {
            let Some(microdesc) = self.microdesc(status) else {
                continue;
            };
            let protocols = spoken
                .entry(&status.protocols)
                .or_insert_with(|| Arc::new(status.protocol_versions().unwrap_or_default()));
            let relay = Relay::new(status, microdesc, Arc::clone(protocols));
            self.relays.push(relay);
        }
        self.by_ed25519 = self
            .relays
            .iter()
            .enumerate()
            .filter_map(|(at, relay)| Some((relay.ed25519_id?, at)))
            .collect();
    }

    fn microdesc(&self, status: &RouterStatus) -> Option<&Arc<Microdesc>> {
        self.microdescs.get(status.microdesc_digest.as_ref()?)
    }

    /// The consensus with its bytes.
    pub fn text(&self) -> &ConsensusText {
        &self.text
    }

    /// The consensus.
    pub fn consensus(&self) -> &Arc<Consensus> {
        self.text.consensus()
    }

    /// The network's parameters.
    pub fn params(&self) -> &Params {
        &self.text.consensus().params
    }

    /// The relays of which all is known, ascending by RSA identity.
    pub fn relays(&self) -> &[Relay] {
        &self.relays
    }

    /// The relay of an RSA identity.
    pub fn relay(&self, id: &RsaId) -> Option<&Relay> {
        let at = self
            .relays
            .binary_search_by(|relay| relay.rsa_id.cmp(id))
            .ok()?;
        self.relays.get(at)
    }

    /// The relay of an Ed25519 identity.
    pub fn relay_by_ed25519(&self, id: &Ed25519Id) -> Option<&Relay> {
        self.relays.get(*self.by_ed25519.get(id)?)
    }

    /// The digests of microdescriptors that are not at hand, in the order of the consensus.
    pub fn missing_microdescs(&self) -> Vec<[u8; 32]> {
        let listed = self
            .consensus()
            .routers
            .iter()
            .filter_map(|one| one.microdesc_digest);
        listed
            .filter(|digest| !self.microdescs.contains_key(digest))
            .collect()
    }

    /// How often a relay is chosen for a role, relative to the others.
    pub fn weight(&self, relay: &Relay, role: Role) -> u64 {
        self.weights.weigh(role, relay.flags, relay.bandwidth)
    }

    /// How often a relay is chosen for a role, of which perhaps no more is known than its consensus
    /// entry.
    pub fn weigh(&self, status: &RouterStatus, role: Role) -> u64 {
        let bandwidth = status.bandwidth.map_or(0, |w| w.bandwidth);
        self.weights.weigh(role, status.flags, bandwidth)
    }

    /// Draws a relay for a role among those that pass the filter, by weight. If all of them weigh
    /// nothing (small networks before their first measurements), each is as likely.
    ///
    /// The filter need not look at what [`Role::allows`] does.
    pub fn choose(
        &self,
        rng: &mut Rng,
        role: Role,
        mut filter: impl FnMut(&Relay) -> bool,
    ) -> Option<&Relay> {
        let mut total = 0_u64;
        // Each candidate with the sum of all weights up to and with its own.
        let candidates: Vec<(&Relay, u64)> = self
            .relays
            .iter()
            .filter(|relay| role.allows(relay.flags) && filter(relay))
            .map(|relay| {
                total = total.saturating_add(self.weight(relay, role));
                (relay, total)
            })
            .collect();
        if candidates.is_empty() {
            return None;
        }
        let at = if total == 0 {
            let len = u64::try_from(candidates.len()).unwrap_or(u64::MAX);
            usize::try_from(rng.below(len)).unwrap_or_default()
        } else {
            let drawn = rng.below(total);
            candidates.partition_point(|(_, sum)| *sum <= drawn)
        };
        candidates.get(at).map(|(relay, _)| *relay)
    }

    /// The share of all possible paths that can be built with the microdescriptors at hand, 0 to
    /// 1: the product of the shares of guards, middles and exits by weight (path-spec 2.1.1). In a
    /// network without exits, onion services still make paths: middles count twice.
    pub fn usable_fraction(&self) -> f64 {
        self.usable_fraction_of(|_, _| true)
    }

    /// The share of all possible paths for one who lets only some relays have a role. Of each role
    /// the lesser share counts, that of all relays or of these: a cache that gave out one relay
    /// after the other would else see, by when circuits begin, which ones these are.
    pub fn usable_fraction_of(&self, may: impl Fn(Role, &RsaId) -> bool) -> f64 {
        let share = |role: Role| {
            let ours = |status: &RouterStatus| may(role, &status.rsa_id);
            let all = self.fraction(role, |status| role.allows(status.flags))?;
            let flagged = self.fraction(role, |status| role.allows(status.flags) && ours(status));
            // Whoever names relays without the flag may mean them: exits go by their policy.
            let is_running = |flags: Flags| flags.contains(Flags::RUNNING | Flags::VALID);
            let any = || self.fraction(role, |status| is_running(status.flags) && ours(status));
            // One who leaves none has no path, whatever is known, and is to be told.
            Some(all.min(flagged.or_else(any).unwrap_or(1.0)))
        };
        let guard = share(Role::Guard).unwrap_or(0.0);
        let middle = share(Role::Middle).unwrap_or(0.0);
        guard * middle * share(Role::Exit).unwrap_or(middle)
    }

    /// Whether enough is known to build circuits: `min_paths_for_circs_pct` of all paths.
    pub fn is_enough(&self) -> bool {
        self.is_enough_of(|_, _| true)
    }

    /// Whether enough of the network is known for one who lets only some relays have a role
    /// ([`NetworkView::usable_fraction_of`]).
    pub fn is_enough_of(&self, may: impl Fn(Role, &RsaId) -> bool) -> bool {
        let percent = self.params().value("min_paths_for_circs_pct", 60, 25, 95);
        self.usable_fraction_of(may) * 100.0 >= f64::from(percent)
    }

    /// The known share of the weight that some relays have in a role; none if there are none.
    fn fraction(&self, role: Role, is_one: impl Fn(&RouterStatus) -> bool) -> Option<f64> {
        let (mut known, mut all) = ((0_u64, 0_u32), (0_u64, 0_u32));
        for status in &self.consensus().routers {
            if !is_one(status) {
                continue;
            }
            let weight = self.weigh(status, role);
            let add = |sum: &mut (u64, u32)| *sum = (sum.0.saturating_add(weight), sum.1 + 1);
            add(&mut all);
            if self.microdesc(status).is_some() {
                add(&mut known);
            }
        }
        match all {
            (_, 0) => None,
            (0, count) => Some(f64::from(known.1) / f64::from(count)),
            // Weights are far below 2^53 in any real network, and only their ratio matters.
            (weight, _) => Some(known.0 as f64 / weight as f64),
        }
    }
}

#[cfg(test)]
mod tests;
