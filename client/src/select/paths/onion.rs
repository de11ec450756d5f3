//! Paths of circuits for onion services (vanguards-spec; proposals 292, 1.2 and 2.2, and 333, 1).
//!
//! ```text
//! lite, visitor: guard, vanguard, rendezvous point
//!       others:  guard, vanguard, middle, HSDir or introduction point or rendezvous point
//! full, last hop of our choice or upload: guard, vanguard, vanguard, last hop
//!       others:                           guard, vanguard, vanguard, middle, last hop
//! ```
//!
//! What is chosen here are the first three, so that a circuit built ahead serves all, and what
//! comes behind. The guard comes first, for good, whoever comes behind: else a stranger who names
//! guards as last hops would learn ours by its absence. In lite mode rules of family and subnet,
//! and vanguards, are given up in small networks; full mode does not look at the former, and never
//! gives up the latter. Two hops that follow each other are never the same relay.

use std::collections::BTreeMap;

use cepa_crypto::{Rng, RsaId};
use cepa_dir::{NetworkView, Relay, Role};
use cepa_netdoc::protover::name;
use cepa_netdoc::routerstatus::Flags;

use super::{Path, PathError, Quality, draw, first_hops};
use crate::select::rules::Permits;

/// The subprotocol versions that rend-spec-v3 needs (tor-spec 9).
const HS_REND: u8 = 2;
const HS_INTRO: u8 = 4;

/// Which relays may be the first three hops of a circuit for onion services.
#[derive(Debug, Clone, Copy)]
pub struct OnionRules<'a> {
    /// First hops, best first.
    pub entries: &'a [RsaId],
    /// The relays that these are, if bridges are in use ([`super::PathRules::bridges`]).
    pub bridges: Option<&'a BTreeMap<RsaId, Relay>>,
    /// Second hops; `None` if any relay may be one.
    pub layer2: Option<&'a [RsaId]>,
    /// Third hops, in full mode.
    pub layer3: Option<&'a [RsaId]>,
    /// Both are the operator's, and drawn by weight: where none of them can be a hop there is no
    /// path.
    pub is_bound: bool,
    /// The relay that comes behind the path.
    pub last: Option<&'a RsaId>,
    /// Whether the path ends at a rendezvous point, and which relays may not be that.
    pub ends: Option<&'a [RsaId]>,
    /// What the operator's rules allow.
    pub permits: &'a Permits,
    /// Whether no two relays may be of one /16 (IPv4) or /32 (IPv6).
    pub distinct_subnets: bool,
}

/// How much is asked of a path.
#[derive(Debug, Clone, Copy)]
struct Step {
    quality: Quality,
    is_distinct: bool,
    needs_vanguard: bool,
}

/// The next one is tried where a network has no path of the one before.
fn steps(rules: &OnionRules<'_>) -> Vec<Step> {
    let step = |quality, is_distinct, needs_vanguard| Step {
        quality,
        is_distinct,
        needs_vanguard,
    };
    let any = Quality(Flags::NONE);
    if rules.layer3.is_some() {
        return vec![step(any, false, rules.layer2.is_some())];
    }
    let steps = Quality::steps(true).map(move |quality| step(quality, true, true));
    let last = [(false, true), (true, false), (false, false)];
    let last = last.map(|(is_distinct, needs_vanguard)| step(any, is_distinct, needs_vanguard));
    let mut steps: Vec<Step> = steps.chain(last).collect();
    if rules.layer2.is_none() {
        steps
            .iter_mut()
            .for_each(|step| step.needs_vanguard = false);
    } else if rules.is_bound {
        steps.retain(|step| step.needs_vanguard);
    }
    steps
}

/// Whether a relay may be a rendezvous point.
#[must_use]
pub fn is_rendezvous_point(relay: &Relay) -> bool {
    relay.protocols.supports(name::HS_REND, HS_REND) && !relay.flags.contains(Flags::MIDDLE_ONLY)
}

/// Whether a relay may be an introduction point.
#[must_use]
pub fn is_intro_point(relay: &Relay) -> bool {
    relay.protocols.supports(name::HS_INTRO, HS_INTRO) && !relay.flags.contains(Flags::MIDDLE_ONLY)
}

/// Chooses guard, vanguard and the hop behind it, which is a rendezvous point if there is any.
pub fn choose(
    view: &NetworkView,
    rules: &OnionRules<'_>,
    rng: &mut Rng,
) -> Result<Path, PathError> {
    let listed = |id: &RsaId| {
        let relay = view.relay(id);
        relay.filter(|relay| Quality(Flags::NONE).is_met_by(relay))
    };
    let permit = |relay: &Relay| rules.permits.of(&relay.rsa_id);
    let entries = first_hops(view, rules.entries, rules.bridges, rules.permits);
    let named = |ids: &[RsaId]| {
        let mut relays: Vec<&Relay> = ids.iter().filter_map(listed).collect();
        relays.retain(|relay| permit(relay).any);
        relays
    };
    let vanguards = rules.layer2.map(named).unwrap_or_default();
    let thirds = rules.layer3.map(named);
    let weight = |relay: &Relay| match rules.is_bound {
        true => view.weight(relay, Role::Middle),
        false => 1,
    };
    for &entry in &entries {
        for last_once in [true, false] {
            let is_free = |relay: &Relay| !last_once || rules.last != Some(&relay.rsa_id);
            for step in steps(rules) {
                let mut left: Vec<(&Relay, u64)> = match step.needs_vanguard {
                    true => vanguards
                        .iter()
                        .map(|relay| (*relay, weight(relay)))
                        .collect(),
                    false => weighed_middles(view, rules),
                };
                left.retain(|(relay, _)| is_free(relay) && may_share(rules, step, entry, relay));
                while let Some(second) = draw(&mut left, rng) {
                    let before = [entry, second];
                    let third = match &thirds {
                        Some(thirds) => {
                            let thirds = thirds.iter().map(|relay| (*relay, weight(relay)));
                            draw_third(thirds, rules, step, before, rng)
                        }
                        None => choose_third(view, rules, step, before, rng),
                    };
                    if let Some(third) = third {
                        let hops = [entry, second, third].map(Relay::clone);
                        return Ok(Path { hops });
                    }
                }
            }
        }
    }
    Err(PathError::NoPath)
}

fn weighed_middles<'v>(view: &'v NetworkView, rules: &OnionRules<'_>) -> Vec<(&'v Relay, u64)> {
    let all = view.relays().iter();
    let may = |relay: &&Relay| {
        Quality(Flags::NONE).is_met_by(relay) && rules.permits.of(&relay.rsa_id).middle
    };
    all.filter(may)
        .map(|relay| (relay, view.weight(relay, Role::Middle)))
        .collect()
}

/// A third hop of full mode.
fn draw_third<'v>(
    thirds: impl Iterator<Item = (&'v Relay, u64)>,
    rules: &OnionRules<'_>,
    step: Step,
    before: [&Relay; 2],
    rng: &mut Rng,
) -> Option<&'v Relay> {
    let fits = |(relay, _): &(&Relay, u64)| {
        rules.last != Some(&relay.rsa_id)
            && before.iter().all(|one| may_share(rules, step, one, relay))
    };
    let mut fitting = thirds.filter(fits).collect();
    draw(&mut fitting, rng)
}

fn may_share(rules: &OnionRules<'_>, step: Step, a: &Relay, b: &Relay) -> bool {
    let is_near = rules.distinct_subnets && a.is_near(b);
    let is_family = a.is_family_of(b) || rules.permits.are_family(&a.rsa_id, &b.rsa_id);
    a.rsa_id != b.rsa_id && !(step.is_distinct && (is_near || is_family))
}

/// The third hop; it stands beside the last one, and so is never the same.
fn choose_third<'v>(
    view: &'v NetworkView,
    rules: &OnionRules<'_>,
    step: Step,
    before: [&Relay; 2],
    rng: &mut Rng,
) -> Option<&'v Relay> {
    let fits = |relay: &Relay| {
        step.quality.is_met_by(relay)
            && rules.last != Some(&relay.rsa_id)
            && before.iter().all(|one| may_share(rules, step, one, relay))
    };
    let excluded = rules.ends.unwrap_or_default();
    let permit = |relay: &Relay| rules.permits.of(&relay.rsa_id);
    let is_middle = |relay: &Relay| fits(relay) && permit(relay).middle;
    let meets = |relay: &Relay| is_rendezvous_point(relay) && !excluded.contains(&relay.rsa_id);
    match rules.ends {
        // The end of the path, not a middle.
        Some(_) => view.choose(rng, Role::Middle, |relay| {
            fits(relay) && permit(relay).any && meets(relay)
        }),
        None => view
            .choose(rng, Role::Middle, |relay| is_middle(relay) && meets(relay))
            .or_else(|| view.choose(rng, Role::Middle, is_middle)),
    }
}

/// What decides which relays may come behind the first three hops of a circuit for onion services.
#[derive(Debug, Clone, Copy)]
pub struct Behind<'a> {
    /// The first three hops.
    pub path: &'a [Relay],
    /// Relays that it must not be.
    pub excluded: &'a [RsaId],
    /// What the operator's rules allow.
    pub permits: &'a Permits,
    /// Whether relays near to those of the path are avoided (not in full mode); and whether those
    /// of one /16 are near.
    pub is_distinct: bool,
    /// Whether relays of one subnet may not stand in one path ([`OnionRules::distinct_subnets`]).
    pub distinct_subnets: bool,
}

impl Behind<'_> {
    /// Chooses an introduction point.
    #[must_use]
    pub fn intro_point<'v>(&self, view: &'v NetworkView, rng: &mut Rng) -> Option<&'v Relay> {
        let may = |relay: &Relay| is_intro_point(relay) && self.permits.of(&relay.rsa_id).any;
        self.choose(view, rng, may)
    }

    /// Chooses a rendezvous point.
    #[must_use]
    pub fn rendezvous_point<'v>(&self, view: &'v NetworkView, rng: &mut Rng) -> Option<&'v Relay> {
        let may = |relay: &Relay| is_rendezvous_point(relay) && self.permits.of(&relay.rsa_id).any;
        self.choose(view, rng, may)
    }

    /// Chooses a hop that hides the third layer of vanguards from the last hop.
    #[must_use]
    pub fn middle<'v>(&self, view: &'v NetworkView, rng: &mut Rng) -> Option<&'v Relay> {
        self.choose(view, rng, |relay| self.permits.of(&relay.rsa_id).middle)
    }

    fn choose<'v>(
        &self,
        view: &'v NetworkView,
        rng: &mut Rng,
        may: impl Fn(&Relay) -> bool,
    ) -> Option<&'v Relay> {
        let is_near = |a: &Relay, b: &Relay| {
            let is_family = a.is_family_of(b) || self.permits.are_family(&a.rsa_id, &b.rsa_id);
            self.distinct_subnets && a.is_near(b) || is_family
        };
        let choices = Quality::steps(true)
            .map(|quality| (quality, self.is_distinct))
            .chain([(Quality(Flags::NONE), false)]);
        for (quality, is_distinct) in choices {
            let fits = |relay: &Relay| {
                quality.is_met_by(relay)
                    && may(relay)
                    && !self.excluded.contains(&relay.rsa_id)
                    && self.path.iter().all(|hop| hop.rsa_id != relay.rsa_id)
                    && !(is_distinct && self.path.iter().any(|hop| is_near(hop, relay)))
            };
            if let Some(relay) = view.choose(rng, Role::Middle, fits) {
                return Some(relay);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
