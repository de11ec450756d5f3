//! Paths of circuits for onion services (proposal 333, section 1; path-spec 2.2).
//!
//! ```text
//! visitor: guard, vanguard, rendezvous point
//! others:  guard, vanguard, middle, HSDir or introduction point or rendezvous point
//! ```
//!
//! What is chosen here are the first three, so that a circuit built ahead serves all: its third hop
//! may be a rendezvous point, or is extended by one. The guard comes first, for good: rules of
//! family and subnet, and vanguards, are given up in small networks before the guard is. The relay
//! that comes behind stands once in a path wherever there is another way.

use cepa_crypto::{Rng, RsaId};
use cepa_dir::{NetworkView, Relay, Role};
use cepa_netdoc::protover::name;
use cepa_netdoc::routerstatus::Flags;

use super::{Path, PathError, Quality};
use crate::guards::shuffle;
use crate::rules::Permits;

/// The subprotocol versions that rend-spec-v3 needs (tor-spec 9).
const HS_REND: u8 = 2;
const HS_INTRO: u8 = 4;

/// What relays may be chosen.
#[derive(Debug, Clone, Copy)]
pub struct OnionRules<'a> {
    /// First hops, best first.
    pub entries: &'a [RsaId],
    /// Second hops.
    pub vanguards: &'a [RsaId],
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
fn steps() -> impl Iterator<Item = Step> {
    let step = |quality, is_distinct, needs_vanguard| Step {
        quality,
        is_distinct,
        needs_vanguard,
    };
    let any = Quality(Flags::NONE);
    Quality::steps(true)
        .map(move |quality| step(quality, true, true))
        .chain([step(any, false, true), step(any, true, false)])
        .chain([step(any, false, false)])
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
    let mut entries: Vec<&Relay> = rules.entries.iter().filter_map(listed).collect();
    entries.retain(|relay| permit(relay).first);
    let mut vanguards: Vec<&Relay> = rules.vanguards.iter().filter_map(listed).collect();
    vanguards.retain(|relay| permit(relay).any);
    for last_once in [true, false] {
        let is_free = |relay: &Relay| !last_once || rules.last != Some(&relay.rsa_id);
        for &entry in entries.iter().filter(|entry| is_free(entry)) {
            for step in steps() {
                let mut layer2: Vec<&Relay> = match step.needs_vanguard {
                    true => vanguards.clone(),
                    false => {
                        let all = view.relays().iter();
                        all.filter(|relay| permit(relay).middle).collect()
                    }
                };
                layer2.retain(|relay| is_free(relay) && may_share(rules, step, entry, relay));
                layer2.retain(|relay| Quality(Flags::NONE).is_met_by(relay));
                shuffle(&mut layer2, rng);
                for second in layer2 {
                    if let Some(third) = choose_third(view, rules, step, [entry, second], rng) {
                        let hops = [entry, second, third].map(Relay::clone);
                        return Ok(Path { hops });
                    }
                }
            }
        }
    }
    Err(PathError::NoPath)
}

fn may_share(rules: &OnionRules<'_>, step: Step, a: &Relay, b: &Relay) -> bool {
    let is_near = rules.distinct_subnets && a.is_near(b);
    a.rsa_id != b.rsa_id && !(step.is_distinct && (is_near || a.is_family_of(b)))
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

/// Chooses an introduction point to come behind `path`, none of `excluded`.
pub fn choose_intro_point<'v>(
    view: &'v NetworkView,
    path: &[Relay],
    excluded: &[RsaId],
    permits: &Permits,
    distinct_subnets: bool,
    rng: &mut Rng,
) -> Option<&'v Relay> {
    let is_near = |a: &Relay, b: &Relay| distinct_subnets && a.is_near(b) || a.is_family_of(b);
    let choices = Quality::steps(true)
        .map(|quality| (quality, true))
        .chain([(Quality(Flags::NONE), false)]);
    for (quality, is_distinct) in choices {
        let fits = |relay: &Relay| {
            quality.is_met_by(relay)
                && is_intro_point(relay)
                && permits.of(&relay.rsa_id).any
                && !excluded.contains(&relay.rsa_id)
                && path.iter().all(|hop| hop.rsa_id != relay.rsa_id)
                && !(is_distinct && path.iter().any(|hop| is_near(hop, relay)))
        };
        if let Some(relay) = view.choose(rng, Role::Middle, fits) {
            return Some(relay);
        }
    }
    None
}

#[cfg(test)]
mod tests;
