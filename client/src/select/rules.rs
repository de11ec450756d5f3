//! The operator's own rules on paths: which relays may be first, middle and last hops, and which
//! none at all (path-spec 2.2; `EntryNodes`, `MiddleNodes`, `ExitNodes`, `ExcludeNodes`,
//! `ExcludeExitNodes` and `StrictNodes` of `tor`, which mean the same here).
//!
//! A set that is empty says nothing. Exclusion beats every set. An excluded relay is never a first
//! hop, nor one that this client chooses; where others choose (directories of onion services,
//! introduction and rendezvous points) it is avoided, and never used if the rules are `strict`.
//! Sets bind always: where they leave no path there is none; which of them leaves
//! none is found out elsewhere (`client/src/select/emptied.rs`).
//!
//! Rules are applied to a consensus once; what comes out are [`Permits`].

mod pattern;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use cepa_crypto::{RsaId, digest};
use cepa_dir::{Country, NetworkView, Relay, Role};
use cepa_netdoc::consensus::Consensus;
use cepa_netdoc::routerstatus::RouterStatus;
use cepa_wire::linkspec::LinkSpecifiers;

use super::reach::Reach;

pub use cepa_dir::GeoIp;
pub use pattern::{PATTERNS_MAX, RelayPattern, RelayPatternError};

/// A relay as rules look at it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its RSA identity, where it is known.
    pub rsa: Option<&'a RsaId>,
    /// Its nickname; may be empty.
    pub nickname: &'a str,
    /// The addresses at which the relay listens.
    pub addrs: [Option<IpAddr>; 2],
}

impl<'a> Subject<'a> {
    /// A relay of a consensus.
    #[must_use]
    pub fn listed(status: &'a RouterStatus) -> Self {
        Subject {
            rsa: Some(&status.rsa_id),
            nickname: &status.nickname,
            addrs: [
                Some(status.ip.into()),
                status.or_addr_v6().map(|addr| addr.ip()),
            ],
        }
    }

    /// The country that it is in: that of its IPv4 address, if it has one.
    fn country(&self, geoip: &GeoIp) -> Country {
        let mut addrs = self.addrs.into_iter().flatten();
        addrs
            .next()
            .map_or(Country::UNKNOWN, |addr| geoip.country(addr))
    }

    /// A relay that is known by its identity and address.
    #[must_use]
    pub fn at(rsa: &'a RsaId, nickname: &'a str, addr: SocketAddr) -> Self {
        Subject {
            rsa: Some(rsa),
            nickname,
            addrs: [Some(addr.ip()), None],
        }
    }

    /// A bridge.
    pub(crate) fn bridge(relay: &'a Relay) -> Self {
        Subject {
            rsa: Some(&relay.rsa_id),
            nickname: &relay.nickname,
            addrs: [
                Some((*relay.or_addr.ip()).into()),
                relay.or_addr_v6.map(|addr| addr.ip()),
            ],
        }
    }

    /// A relay that strangers send us to.
    #[must_use]
    pub fn unlisted(id: Option<&'a RsaId>, specifiers: &LinkSpecifiers) -> Self {
        Subject {
            rsa: id,
            nickname: "",
            addrs: [specifiers.ipv4().map(|addr| (*addr.ip()).into()), None],
        }
    }
}

/// A set of relays, named by patterns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RelaySet(pub Vec<RelayPattern>);

impl RelaySet {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a relay is in it.
    #[must_use]
    pub fn contains(&self, relay: &Subject<'_>, geoip: &GeoIp) -> bool {
        self.0.iter().any(|pattern| pattern.matches(relay, geoip))
    }

    /// Whether a country is among its patterns.
    #[must_use]
    pub fn names_country(&self) -> bool {
        self.0.iter().any(RelayPattern::is_country)
    }
}

/// The operator's rules on paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// The relays that may be first hops; they must be guards, too.
    pub entry: RelaySet,
    /// The relays that may be hops between; the second hops of circuits for onion services are
    /// vanguards instead.
    pub middle: RelaySet,
    /// The relays that may be last hops of circuits to the outside.
    pub exit: RelaySet,
    /// The relays that are used nowhere.
    pub exclude: RelaySet,
    /// The relays that are no last hops of circuits to the outside.
    pub exclude_exit: RelaySet,
    /// Whether excluded relays are not used for onion services either where others choose them.
    pub strict: bool,
    /// Whether relays whose country is not known count as excluded; without a word, if any country
    /// is excluded (`GeoIPExcludeUnknown`).
    pub exclude_unknown: Option<bool>,
    /// First hops are drawn anew for each path, from all relays and not only from guards: for
    /// tests, as it gives anonymity away (`UseEntryGuards 0`).
    pub unguarded: bool,
    /// Second hops of circuits for onion services, in the place of vanguards (`HSLayer2Nodes`).
    pub layer2: RelaySet,
    /// Third hops of the same (`HSLayer3Nodes`).
    pub layer3: RelaySet,
    /// Sets of relays of which no two share a path (`NodeFamily`, one a line).
    pub families: Vec<RelaySet>,
    /// Which addresses may be connected to.
    pub reach: Reach,
    /// Which country an address is in.
    pub geoip: Arc<GeoIp>,
    /// The relay of this process, which is used nowhere.
    pub own: Option<RsaId>,
}

/// Names what rules say about first hops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct RulesId(pub u64);

/// What a relay may be by the operator's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    /// Whether the relay may be a first hop.
    pub first: bool,
    /// Whether the relay may be a hop between.
    pub middle: bool,
    /// Whether the relay may be the last hop to the outside.
    pub exit: bool,
    /// Whether the relay may be anything that this client chooses.
    pub any: bool,
}

impl Permit {
    const ALL: Permit = Permit {
        first: true,
        middle: true,
        exit: true,
        any: true,
    };
    const NONE: Permit = Permit {
        first: false,
        middle: false,
        exit: false,
        any: false,
    };
}

impl Rules {
    /// Whether every relay may be anything.
    #[must_use]
    pub fn is_free(&self) -> bool {
        let says_nothing = self.sets().iter().all(|(_, set)| set.is_empty());
        let is_client = self.own.is_none();
        says_nothing && is_client && self.exclude_unknown != Some(true) && self.reach.is_free()
    }

    /// The sets with the names that the configuration has for them.
    #[must_use]
    pub fn sets(&self) -> [(&'static str, &RelaySet); 5] {
        [
            ("entry", &self.entry),
            ("middle", &self.middle),
            ("exit", &self.exit),
            ("exclude", &self.exclude),
            ("exclude_exit", &self.exclude_exit),
        ]
    }

    /// Those, and those that say nothing of a relay alone.
    fn all_sets(&self) -> impl Iterator<Item = (&'static str, &RelaySet)> {
        let layers = [("layer2", &self.layer2), ("layer3", &self.layer3)];
        let families = self.families.iter().map(|set| ("families", set));
        self.sets().into_iter().chain(layers).chain(families)
    }

    /// Whether a country is named anywhere, so that addresses must be looked up.
    #[must_use]
    pub fn needs_geoip(&self) -> bool {
        let names = self.all_sets().any(|(_, set)| set.names_country());
        names || self.exclude_unknown == Some(true)
    }

    fn excludes_by(&self, set: &RelaySet, relay: &Subject<'_>) -> bool {
        let unknown = self.exclude_unknown.unwrap_or_else(|| set.names_country());
        set.contains(relay, &self.geoip)
            || (unknown && !self.geoip.is_empty() && relay.country(&self.geoip).is_unknown())
    }

    /// Names what they say about first hops: the same, however it is written, has the same name.
    #[must_use]
    pub fn first_hops_id(&self) -> RulesId {
        let words = |set: &RelaySet| {
            let words = set
                .0
                .iter()
                .map(|pattern| pattern.to_string().to_lowercase());
            let words: std::collections::BTreeSet<String> = words.collect();
            words.into_iter().collect::<Vec<_>>().join(",")
        };
        let (entry, exclude) = (words(&self.entry), words(&self.exclude));
        let is_silent = entry.is_empty() && exclude.is_empty() && self.exclude_unknown.is_none();
        if is_silent && self.reach.is_free() {
            return RulesId::default();
        }
        let unknown = self.exclude_unknown;
        let mut text = format!("entry {entry}\nexclude {exclude}\nunknown {unknown:?}\n");
        if !self.reach.is_free() {
            text += &self.reach.words();
        }
        let [a, b, c, d, e, f, g, h, ..] = digest::sha256(text.as_bytes());
        RulesId(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    /// Whether a relay is to be used nowhere.
    #[must_use]
    pub fn excludes(&self, relay: &Subject<'_>) -> bool {
        self.excludes_by(&self.exclude, relay)
    }

    /// What a relay may be by these rules.
    #[must_use]
    pub fn permit(&self, relay: &Subject<'_>) -> Permit {
        let is_own = self.own.is_some() && relay.rsa == self.own.as_ref();
        if is_own || self.excludes(relay) {
            return Permit::NONE;
        }
        let within = |set: &RelaySet| set.is_empty() || set.contains(relay, &self.geoip);
        Permit {
            first: within(&self.entry),
            middle: within(&self.middle),
            exit: within(&self.exit) && !self.excludes_by(&self.exclude_exit, relay),
            any: true,
        }
    }

    /// What the rules say to all relays of a consensus.
    #[must_use]
    pub fn permits(&self, consensus: &Consensus) -> Permits {
        let judged = |status: &RouterStatus| {
            let mut permit = self.permit(&Subject::listed(status));
            permit.first &= self.may_reach(status);
            (status.rsa_id, permit)
        };
        Permits {
            families: self.families_of(consensus.routers.iter().map(Subject::listed)),
            by_id: (!self.is_free()).then(|| consensus.routers.iter().map(judged).collect()),
        }
    }

    /// Whether a relay has an address that may be connected to.
    fn may_reach(&self, status: &RouterStatus) -> bool {
        let v4 = status.or_addr();
        let mut addrs = std::iter::once(v4).chain(status.or_addr_v6());
        addrs.any(|addr| self.reach.allows(addr))
    }

    /// The sets of `families` in which relays are, by their places.
    pub(crate) fn families_of<'a>(
        &self,
        relays: impl Iterator<Item = Subject<'a>>,
    ) -> BTreeMap<RsaId, Vec<usize>> {
        if self.families.is_empty() {
            return BTreeMap::new();
        }
        let of = |relay: Subject<'_>| {
            let families = self.families.iter().enumerate();
            let its = families.filter(|(_, set)| set.contains(&relay, &self.geoip));
            let its: Vec<usize> = its.map(|(place, _)| place).collect();
            relay.rsa.filter(|_| !its.is_empty()).map(|id| (*id, its))
        };
        relays.filter_map(of).collect()
    }

    /// The relays of a consensus that are in a set; none where it says nothing.
    pub(crate) fn members(&self, set: &RelaySet, consensus: &Consensus) -> Option<Vec<RsaId>> {
        if set.is_empty() {
            return None;
        }
        let relays = consensus.routers.iter();
        let is_in = |status: &&RouterStatus| set.contains(&Subject::listed(status), &self.geoip);
        Some(relays.filter(is_in).map(|status| status.rsa_id).collect())
    }

    /// Patterns that match no relay of a consensus: the name of the set, and the pattern.
    pub fn unmatched<'a>(
        &'a self,
        consensus: &'a Consensus,
    ) -> impl Iterator<Item = (&'static str, &'a RelayPattern)> {
        let matches = |pattern: &RelayPattern| {
            let mut listed = consensus.routers.iter().map(Subject::listed);
            listed.any(|relay| pattern.matches(&relay, &self.geoip))
        };
        let all = self
            .all_sets()
            .flat_map(|(name, set)| set.0.iter().map(move |pattern| (name, pattern)));
        all.filter(move |(_, pattern)| !matches(pattern))
    }
}

/// What the rules say to each relay of a consensus.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permits {
    /// `None`: there are no rules.
    by_id: Option<BTreeMap<RsaId, Permit>>,
    /// The families of the operator's in which relays are.
    families: BTreeMap<RsaId, Vec<usize>>,
}

impl Permits {
    /// No rules: every relay may be anything.
    pub const FREE: Permits = Permits {
        by_id: None,
        families: BTreeMap::new(),
    };

    /// What a relay may be; one that is not in the consensus, nothing, if there are rules.
    #[must_use]
    pub fn of(&self, id: &RsaId) -> Permit {
        match &self.by_id {
            None => Permit::ALL,
            Some(by_id) => by_id.get(id).copied().unwrap_or(Permit::NONE),
        }
    }

    /// Whether two relays are of one family of the operator's (`NodeFamily`).
    #[must_use]
    pub fn are_family(&self, a: &RsaId, b: &RsaId) -> bool {
        let families = |id| self.families.get(id).map_or(&[][..], Vec::as_slice);
        let (of_a, of_b) = (families(a), families(b));
        of_a.iter().any(|family| of_b.contains(family))
    }

    /// More relays, which the consensus does not list, are in families.
    pub(crate) fn add_families(&mut self, more: BTreeMap<RsaId, Vec<usize>>) {
        self.families.extend(more);
    }

    /// Whether a relay of the consensus is excluded.
    #[must_use]
    pub fn shuns(&self, id: &RsaId) -> bool {
        let permit = self.by_id.as_ref().and_then(|by_id| by_id.get(id));
        permit.is_some_and(|permit| !permit.any)
    }

    /// Whether enough of the network is known to make paths (path-spec 2.1.1): of all of it, and
    /// of the relays that may stand at each place.
    /// `needed` is the share of all paths that an operator wants known.
    #[must_use]
    pub fn know_enough(&self, view: &NetworkView, needed: Option<f64>) -> bool {
        let may = |role, id: &RsaId| {
            let permit = self.of(id);
            match role {
                Role::Guard => permit.first,
                Role::Middle => permit.middle,
                Role::Exit => permit.exit,
            }
        };
        match needed {
            Some(share) => view.usable_fraction_of(may) >= share,
            None => view.is_enough_of(may),
        }
    }
}

#[cfg(test)]
mod tests;
