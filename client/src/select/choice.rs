//! Who may be where in a path: guards, vanguards and the operator's rules as they stand, and paths
//! drawn by them (path-spec 2.2).
//!
//! The rules are applied to each new consensus, and where they say something that cannot be the
//! operator hears of it, once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;

use cepa_circuit::handshake::HopSpec;
use cepa_crypto::{Rng, RsaId};
use cepa_dir::{NetworkView, Relay};
use cepa_link::PeerIdentity;
use cepa_netdoc::consensus::Consensus;
use cepa_netdoc::descriptor::ServerDescriptor;
use cepa_netdoc::policy::is_internal;
use cepa_pt::BridgeLine;
use cepa_wire::Now;

use super::bridges::{BridgeDescriptorError, Bridges};
use super::emptied::emptied;
use super::guards::{self, GuardAttempt, GuardParams, GuardUse, Guards, Selection};
use super::paths::onion::{self, Behind, OnionRules};
use super::paths::{self, ExitNeed, LinkTarget, Path, PathError, PathRules};
use super::rules::{Permits, Rules, Subject};
use super::shuffle;
use super::vanguards::{VanguardMode, Vanguards};
use crate::overrides::Overrides;

/// Bridges whose descriptors are kept ready: as many as there are primary guards.
const BRIDGES_DESCRIBED: usize = 3;

/// A path, and the guards that could not have been its first hop whatever they do.
pub(crate) type Chosen = (Path, Vec<RsaId>);

/// Which layers circuits for onion services have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layers {
    pub(crate) mode: VanguardMode,
    /// The operator names them.
    pub(crate) is_by_hand: bool,
}

/// All that decides which relays come into paths, beside the consensus.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) guards: Guards,
    pub(crate) vanguards: Vanguards,
    bridges: Bridges,
    rules: Rules,
    /// Whether no two relays of one subnet may stand in one path.
    distinct_subnets: bool,
    /// Whether relays may have internal addresses (`TestingTorNetwork`).
    is_testing: bool,
    /// What the rules say to the relays of the consensus.
    permits: Permits,
    /// What the operator has been told about them.
    told: BTreeSet<String>,
    /// Whether enough of the network is known to make paths.
    is_enough: bool,
    /// Whether the rules leave no path at all.
    is_cut_off: bool,
    /// What is wanted otherwise than the network has it.
    overrides: Overrides,
    /// Second and third hops of circuits for onion services that the operator names.
    layers: [Option<Vec<RsaId>>; 2],
    /// Guards that fail too many circuits, and are used no more (`PathBiasDropGuards`).
    dropped: Vec<RsaId>,
}

impl Choice {
    pub(crate) fn new(
        guards: Guards,
        vanguards: Vanguards,
        rules: Rules,
        distinct_subnets: bool,
        is_testing: bool,
    ) -> Self {
        Choice {
            guards: guards.with_rules(rules.first_hops_id()),
            vanguards,
            bridges: Bridges::default(),
            rules,
            distinct_subnets,
            is_testing,
            permits: Permits::default(),
            told: BTreeSet::new(),
            is_enough: false,
            is_cut_off: false,
            overrides: Overrides::default(),
            layers: [None, None],
            dropped: Vec::new(),
        }
    }

    /// Which layers circuits for onion services have.
    pub(crate) fn layers(&self) -> Layers {
        Layers {
            mode: match &self.layers {
                [_, Some(_)] => VanguardMode::Full,
                [Some(_), None] => VanguardMode::Lite,
                [None, None] => self.vanguards.mode(),
            },
            is_by_hand: self.is_by_hand(),
        }
    }

    fn is_by_hand(&self) -> bool {
        self.layers.iter().any(Option::is_some)
    }

    /// The same relay, with the addresses that may be connected to; none if it has none of these.
    pub(crate) fn reachable(&self, mut target: LinkTarget) -> Option<LinkTarget> {
        let reach = &self.rules.reach;
        reach.limit(&mut target.addrs, &mut target.lines);
        if target.addrs.is_empty() {
            tracing::debug!(relay = %target.rsa, "no address of it may be connected to");
            return None;
        }
        Some(target)
    }

    /// Whether a path is for streams that live long: its relays are Stable, or it was drawn for
    /// one, and there were no such relays.
    pub(crate) fn is_stable(&self, path: &Path, need: ExitNeed) -> bool {
        path.is_stable() || need.wants_stable(self.long_lived_ports())
    }

    /// What is wanted otherwise than the network has it.
    pub(crate) fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// Heeds these from the next consensus on, which is to follow. False if they are those that
    /// there were.
    pub(crate) fn set_overrides(&mut self, overrides: &Overrides) -> bool {
        let is_new = self.overrides != *overrides;
        self.overrides.clone_from(overrides);
        is_new
    }

    /// Uses these guards no more. False if that is so already.
    pub(crate) fn drop_guards(&mut self, dropped: Vec<RsaId>) -> bool {
        let is_new = self.dropped != dropped;
        self.dropped = dropped;
        is_new
    }

    /// Ports whose streams live long, and so want Stable relays.
    pub(crate) fn long_lived_ports(&self) -> &[u16] {
        let overridden = self.overrides.circuits.long_lived_ports.as_deref();
        overridden.unwrap_or(&paths::LONG_LIVED_PORTS)
    }

    pub(crate) fn permits(&self) -> &Permits {
        &self.permits
    }

    pub(crate) fn is_enough(&self) -> bool {
        self.is_enough
    }

    pub(crate) fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    /// The bridges that are first hops, if any are.
    pub(crate) fn bridges(&self) -> &Bridges {
        &self.bridges
    }

    /// Uses bridges and no other first hops; with no lines, no bridges.
    pub(crate) fn set_bridges(&mut self, lines: &[BridgeLine], rng: &mut Rng, now: Now) {
        self.bridges.set(lines);
        self.update_bridges(rng, now);
    }

    /// A link to a bridge has proven who it is.
    pub(crate) fn bridge_proved(
        &mut self,
        id: &RsaId,
        peer: &PeerIdentity,
        rng: &mut Rng,
        now: Now,
    ) {
        if self.bridges.handle_identity(id, peer) {
            self.update_bridges(rng, now);
        }
    }

    /// A bridge has given its descriptor. True if there was none of it.
    pub(crate) fn bridge_described(
        &mut self,
        id: &RsaId,
        descriptor: &ServerDescriptor,
        rng: &mut Rng,
        now: Now,
    ) -> Result<bool, BridgeDescriptorError> {
        let is_new = self.bridges.handle_descriptor(id, descriptor)?;
        self.update_bridges(rng, now);
        Ok(is_new)
    }

    /// The rules, or what is known of bridges, have changed.
    pub(crate) fn update_bridges(&mut self, rng: &mut Rng, now: Now) {
        let is_in_use = self.bridges.is_in_use();
        if !is_in_use && self.guards.selection() != Selection::Bridges {
            return;
        }
        let candidates = is_in_use.then(|| {
            let mut candidates = self.bridges.candidates(&self.rules);
            for one in &mut candidates {
                one.allowed &= !self.dropped.contains(&one.rsa);
            }
            candidates
        });
        self.guards.use_bridges(candidates, now, rng);
        self.note_bridges();
    }

    /// Bridges are in families, too.
    fn note_bridges(&mut self) {
        let bridges = self.bridges.relays().into_iter().flat_map(BTreeMap::values);
        let more = self.rules.families_of(bridges.map(Subject::bridge));
        self.permits.add_families(more);
    }

    /// The bridges whose descriptors are worth a fetch: those that are nameless, and the guards
    /// that would be taken next.
    pub(crate) fn bridges_wanted(&mut self, rng: &mut Rng, now: Now) -> Vec<RsaId> {
        let mut wanted: Vec<RsaId> = self.bridges.nameless().collect();
        let ranked = self.guards.ranked(GuardUse::Data, now, rng);
        wanted.extend(ranked.into_iter().take(BRIDGES_DESCRIBED));
        wanted
    }

    /// What the operator has been told about the rules.
    #[cfg(test)]
    pub(crate) fn warned(&self) -> &BTreeSet<String> {
        &self.told
    }

    /// Chooses by these rules from now on; they are applied with the next consensus. False if they
    /// are those that there were.
    pub(crate) fn set_rules(&mut self, rules: Rules) -> bool {
        let is_new = self.rules != rules;
        if is_new {
            self.guards.set_rules(rules.first_hops_id());
            self.rules = rules;
            self.told.clear();
        }
        is_new
    }

    /// A consensus is in force: its relays are judged, and guards are seen to. A pattern that
    /// matches nothing is told once.
    pub(crate) fn handle_consensus(&mut self, view: &NetworkView, rng: &mut Rng, now: Now) {
        let consensus = view.consensus();
        self.permits = self.rules.permits(consensus);
        self.note_bridges();
        let layers = [&self.rules.layer2, &self.rules.layer3];
        self.layers = layers.map(|set| self.rules.members(set, consensus));
        for (set, pattern) in self.rules.unmatched(consensus) {
            let kind = pattern.kind_name();
            let text = format!("`{set}`: no relay of the network has the {kind} {pattern}");
            if self.told.insert(text.clone()) {
                tracing::warn!("{text}");
            }
        }
        let params = GuardParams::from_consensus(view.params(), self.is_testing);
        let params = params.overridden(&self.overrides.guards);
        let found = guards::candidates(view, |one| {
            self.permits.of(&one.rsa_id).first && !self.dropped.contains(&one.rsa_id)
        });
        let is_live = consensus.lifetime.is_reasonably_live(now.wall);
        self.guards
            .handle_consensus(params, found, is_live, now, rng);
    }

    /// More is known of the relays, or they are judged otherwise: finds out whether the rules
    /// leave any path, and tells which of them empties which hop.
    pub(crate) fn review(&mut self, view: &NetworkView) {
        self.is_enough = self
            .permits
            .know_enough(view, self.overrides.circuits.paths_needed);
        self.is_cut_off = false;
        if !self.is_enough {
            return;
        }
        for one in emptied(&self.rules, &self.permits, view, self.distinct_subnets) {
            self.is_cut_off |= one.cuts_off();
            let text = format!("no path: {one}");
            if self.told.insert(text.clone()) {
                tracing::error!("{text}");
            }
        }
    }

    /// The first hops to choose from, best first.
    fn entries(&mut self, view: &NetworkView, rng: &mut Rng, now: Now) -> Vec<RsaId> {
        if !self.draws_anew() {
            return self.guards.ranked(GuardUse::Data, now, rng);
        }
        let ids = view.relays().iter().map(|relay| relay.rsa_id);
        let mut ids: Vec<RsaId> = ids.filter(|id| self.permits.of(id).first).collect();
        shuffle(&mut ids, rng);
        ids
    }

    /// Whether first hops are drawn anew for each path; bridges are not.
    fn draws_anew(&self) -> bool {
        self.rules.unguarded && !self.bridges.is_in_use()
    }

    /// What is known of a guard.
    pub(crate) fn first_hop<'a>(&'a self, view: &'a NetworkView, id: &RsaId) -> Option<&'a Relay> {
        match self.bridges.is_in_use() {
            true => self.bridges.relay(id),
            false => view.relay(id),
        }
    }

    /// A circuit for traffic through a guard is begun; what is drawn anew is none.
    pub(crate) fn begin(
        &mut self,
        guard: &RsaId,
        excluded: Vec<RsaId>,
        now: Now,
    ) -> Option<GuardAttempt> {
        let is_guarded = !self.draws_anew();
        is_guarded.then(|| self.guards.begin(guard, GuardUse::Data, excluded, now))?
    }

    fn path_rules<'a>(
        &'a self,
        need: ExitNeed,
        entries: &'a [RsaId],
        excluded_exits: &'a [RsaId],
    ) -> PathRules<'a> {
        PathRules {
            need,
            entries,
            bridges: self.bridges.relays(),
            permits: &self.permits,
            excluded_exits,
            distinct_subnets: self.distinct_subnets,
            long_lived: self.long_lived_ports(),
        }
    }

    /// Draws a path to an exit that meets a need.
    pub(crate) fn exit_path(
        &mut self,
        need: ExitNeed,
        excluded_exits: &[RsaId],
        view: &NetworkView,
        rng: &mut Rng,
        now: Now,
    ) -> Result<Chosen, PathError> {
        let entries = self.entries(view, rng, now);
        let rules = self.path_rules(need, &entries, excluded_exits);
        let path = paths::choose(view, &rules, rng)?;
        let [_, _, exit] = &path.hops;
        // Guards that this exit rules out do not keep the circuit waiting.
        let is_excluded = |id: &RsaId| {
            let relay = self.first_hop(view, id);
            relay.is_none_or(|relay| !rules.may_share_path(relay, exit))
        };
        let excluded = self.guards.sampled().filter(is_excluded).collect();
        Ok((path, excluded))
    }

    /// Whether any exit meets a need, whoever comes before.
    pub(crate) fn has_exit(
        &self,
        need: ExitNeed,
        excluded_exits: &[RsaId],
        view: &NetworkView,
    ) -> bool {
        paths::has_exit(view, &self.path_rules(need, &[], excluded_exits))
    }

    /// Draws the first three hops of a circuit for onion services, before this last hop; or such
    /// as end at a rendezvous point, which is none of these.
    pub(crate) fn onion_path(
        &mut self,
        last: Option<RsaId>,
        ends: Option<&[RsaId]>,
        view: &NetworkView,
        rng: &mut Rng,
        now: Now,
    ) -> Result<Chosen, PathError> {
        let entries = self.entries(view, rng, now);
        self.refresh_vanguards(view, rng, now);
        let is_by_hand = self.is_by_hand();
        let [layer2, layer3] = match is_by_hand {
            true => self.layers.clone(),
            false => [self.vanguards.layer2(now), self.vanguards.layer3(now)],
        };
        let rules = OnionRules {
            entries: &entries,
            bridges: self.bridges.relays(),
            layer2: layer2.as_deref(),
            layer3: layer3.as_deref(),
            is_bound: is_by_hand,
            last: last.as_ref(),
            ends,
            permits: &self.permits,
            distinct_subnets: self.distinct_subnets,
        };
        let path = onion::choose(view, &rules, rng)?;
        // Guards that cannot be used do not keep the circuit waiting.
        let is_excluded = |id: &RsaId| self.first_hop(view, id).is_none();
        let excluded = self.guards.sampled().filter(is_excluded).collect();
        Ok((path, excluded))
    }

    /// Draws vanguards where they are too few, or too old.
    pub(crate) fn refresh_vanguards(&mut self, view: &NetworkView, rng: &mut Rng, now: Now) {
        self.vanguards.refresh(view, &self.permits, now, rng);
    }

    /// What may come behind the first three hops of a circuit for onion services.
    pub(crate) fn behind<'a>(&'a self, path: &'a [Relay; 3], excluded: &'a [RsaId]) -> Behind<'a> {
        Behind {
            path,
            excluded,
            permits: &self.permits,
            is_distinct: self.layers().mode != VanguardMode::Full,
            distinct_subnets: self.distinct_subnets,
        }
    }

    /// Whether a relay of the consensus may come last where a machine of onion services names it.
    pub(crate) fn may_end_at(&self, id: &RsaId, view: &NetworkView) -> bool {
        let is_shunned = self.rules.strict && !self.permits.of(id).any;
        !is_shunned && view.relay(id).is_some()
    }

    /// Whether a relay may come last that a stranger has described: it is where strangers may send
    /// us.
    pub(crate) fn may_end_at_stranger(&self, spec: &HopSpec, view: &NetworkView) -> bool {
        let specifiers = &spec.link_specifiers;
        let Some(id) = specifiers.rsa_id() else {
            return false;
        };
        let is_listed = view.consensus().router(&id).is_some();
        let is_shunned = self
            .rules
            .excludes(&Subject::unlisted(Some(&id), specifiers))
            || (is_listed && !self.permits.of(&id).any);
        if self.rules.strict && is_shunned {
            return false;
        }
        let is_outside =
            |address: SocketAddrV4| self.is_testing || !is_internal((*address.ip()).into());
        specifiers.ipv4().is_none_or(is_outside)
    }

    /// Whether a directory may be asked: an excluded relay is no first hop, not even of that.
    pub(crate) fn may_ask(
        &self,
        target: &LinkTarget,
        nickname: &str,
        consensus: Option<&Consensus>,
    ) -> bool {
        let listed = consensus.and_then(|consensus| consensus.router(&target.rsa));
        let mut addrs = target.addrs.iter();
        if self.reachable(target.clone()).is_none() {
            return false;
        }
        let excludes = |subject: &Subject<'_>| self.rules.excludes(subject);
        !addrs.any(|addr| excludes(&Subject::at(&target.rsa, nickname, *addr)))
            && !listed.is_some_and(|status| excludes(&Subject::listed(status)))
    }
}
