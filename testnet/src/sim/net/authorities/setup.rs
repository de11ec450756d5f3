//! A world as a seed draws it, and who of it must agree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cepa_authority::Config;
use cepa_crypto::Rng;

use super::liar::{Liar, Lie};
use super::links::Links;
use super::model::Model;
use super::node::Node;
use super::relays::Relay;
use super::{AFTER, BEFORE, Fault, HOUR, Report, SKEW_MAX_MS, Size, TIME_TO_LEARN, World};
use crate::sim::net::events::Events;
use crate::sim::net::keys::{self, AuthorityKeys};
use crate::sim::net::trace::Trace;
use crate::sim::net::{START, one_in, rng_of};

/// A world in which nothing has started yet.
pub(super) fn world(
    seed: u64,
    size: Size,
    base: Instant,
    fault: Option<Fault>,
    keeps_trace: bool,
) -> World {
    let mut rng = rng_of(seed);
    let keys = keys::authorities(size.authorities.clamp(1, 9));
    let config = keys::config(&keys);
    let pick = |rng: &mut Rng, from: &[u64]| {
        let at = rng.below(from.len() as u64) as usize;
        from.get(at).copied().unwrap_or(0)
    };
    let links = Links::new(
        Duration::from_millis(pick(&mut rng, &[50, 500, 5_000, 30_000])),
        pick(&mut rng, &[0, 100, 10]),
    );
    let skew = i64::try_from(pick(&mut rng, &[0, 5_000, 50_000, 600_000])).unwrap_or(0);
    let liars = liars(keys.len(), &mut rng);
    let mut report = Report {
        hours: size.hours,
        ..Report::default()
    };
    let mut nodes = Vec::new();
    for (number, keys) in keys.iter().enumerate() {
        let is_liar = number + liars >= config.authorities.len();
        let node = node(number, keys, &config, skew, is_liar, &mut rng);
        let lies = node.liar.iter().map(Liar::lies);
        report.liars.extend(lies);
        nodes.push(node);
    }
    if let Some(node) = nodes.first_mut() {
        node.fault = fault;
    }
    let honest = nodes.iter().enumerate();
    let honest = honest.filter(|(_, node)| node.liar.is_none());
    let honest: BTreeSet<usize> = honest.map(|(number, _)| number).collect();
    let start = START + HOUR * u32::try_from(rng.below(24)).unwrap_or(0);
    let wall = SystemTime::UNIX_EPOCH + start;
    let relay_keys = keys::relays(size.relays).into_iter().enumerate();
    let relays: Vec<Relay> = relay_keys
        .map(|(number, keys)| Relay::new(number, keys, wall, &mut rng))
        .collect();
    let relay_of = relays.iter().enumerate();
    let relay_of = relay_of.map(|(number, relay)| (relay.id(), number));
    World {
        size,
        at: Duration::ZERO,
        // Clocks may be set back.
        base: base + HOUR * 24,
        start,
        end: HOUR * u32::try_from(size.hours).unwrap_or(u32::MAX) + AFTER * 2,
        events: Events::new(),
        trace: Trace::new(keeps_trace),
        relay_of: relay_of.collect(),
        nodes,
        relays,
        links,
        model: Model::new(keys.len(), honest),
        changes: 0,
        calm_percent: 50 + rng.below(40),
        certs: keys.iter().map(|keys| keys.cert.clone()).collect(),
        trusted: config.v3_identities(),
        good: BTreeMap::new(),
        report,
        rng,
    }
}

/// How many lie: none in half of the seeds, else less than half of them.
fn liars(authorities: usize, rng: &mut Rng) -> usize {
    let most = (authorities as u64).saturating_sub(1) / 2;
    let drawn = match rng.below(2) {
        0 => 0,
        _ => 1 + rng.below(most.max(1)),
    };
    usize::try_from(drawn).unwrap_or(0).min(authorities / 2)
}

/// A machine with its clock, and its lies if it has any.
fn node(
    number: usize,
    keys: &Arc<AuthorityKeys>,
    config: &Config,
    skew: i64,
    is_liar: bool,
    rng: &mut Rng,
) -> Node {
    let mut node = Node::new(Arc::clone(keys), config.clone(), rng.fork());
    let span = u64::try_from(2 * skew).unwrap_or(0) + 1;
    node.skew = i64::try_from(rng.below(span)).unwrap_or(0) - skew;
    // Clocks that are far off are few.
    if number > 1 {
        node.skew = node.skew.clamp(-SKEW_MAX_MS, SKEW_MAX_MS);
    }
    if is_liar {
        let mut lies: BTreeSet<Lie> = Lie::ALL.into();
        lies.retain(|_| one_in(rng, 4));
        node.liar = Some(Liar::new(lies, keys.signing(), rng.fork()));
    }
    node
}

/// Who must agree on the next consensus, as things are: a majority of honest ones that can all
/// talk, while nobody else can talk to only some of them or divides them.
pub(super) fn talking(world: &World) -> BTreeSet<usize> {
    let none = BTreeSet::new;
    if world.links.reset_one_in > 0 {
        return none();
    }
    let numbers = 0..world.nodes.len();
    let up = numbers.filter(|number| world.nodes.get(*number).is_some_and(Node::is_up));
    let up: BTreeSet<usize> = up.collect();
    let apart = |a: &usize, b: &usize| world.links.is_cut(*a, *b) && world.links.is_cut(*b, *a);
    let joined = |a: &usize, b: &usize| !world.links.is_cut(*a, *b) && !world.links.is_cut(*b, *a);
    let group = up.iter().map(|one| {
        let mut group: BTreeSet<usize> = up.clone();
        group.retain(|other| one == other || joined(one, other));
        group
    });
    let Some(group) = group.max_by_key(BTreeSet::len) else {
        return none();
    };
    let pairs = || group.iter().flat_map(|a| group.iter().map(move |b| (a, b)));
    let is_whole = pairs().all(|(a, b)| a == b || joined(a, b));
    let mut others = up.difference(&group);
    let is_apart = others.all(|other| group.iter().all(|one| apart(one, other)));
    let is_fine = |number: &usize| {
        let node = world.nodes.get(*number);
        node.is_some_and(|node| {
            let divides = |liar: &Liar| liar.lies.iter().any(|lie| lie.divides());
            node.crash.is_none()
                && node.skew.abs() <= SKEW_MAX_MS
                && !node.liar.as_ref().is_some_and(divides)
        })
    };
    let honest = group
        .iter()
        .copied()
        .filter(|one| world.model.is_honest(*one));
    let honest: BTreeSet<usize> = honest.collect();
    let knows = |number: &usize| {
        let node = world.nodes.get(*number);
        node.is_some_and(|node| node.since + TIME_TO_LEARN <= world.at + BEFORE / 2)
    };
    let may = is_whole
        && is_apart
        && group.iter().all(is_fine)
        && honest.iter().any(knows)
        && honest.len() >= world.model.majority();
    if may { honest } else { none() }
}
