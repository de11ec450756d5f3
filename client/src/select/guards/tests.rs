//! The guards through outages, consensuses and years, and their state.

mod circuits;
mod hostile;
mod model;
mod text;

use super::*;
use crate::drawn::start;

fn id(n: u16) -> RsaId {
    let mut bytes = [0; 20];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    RsaId::from(bytes)
}

fn candidate(n: u16) -> GuardCandidate {
    GuardCandidate {
        rsa: id(n),
        ed: Some(Ed25519Id::from([n.to_be_bytes()[1]; 32])),
        nickname: format!("relay{n}"),
        bridge: None,
        weight: u64::from(n),
        allowed: true,
    }
}

fn candidates(count: u16) -> Vec<GuardCandidate> {
    (1..=count).map(candidate).collect()
}

struct World {
    guards: Guards,
    now: Now,
    rng: Rng,
}

fn world(count: u16) -> World {
    let mut world = World {
        guards: Guards::new(GuardParams::default()),
        now: start(),
        rng: Rng::from_seed([3; 32]),
    };
    world.consensus(candidates(count));
    world
}

impl World {
    /// The same client with other rules, and who is allowed by them.
    fn restart_with(&mut self, rules: RulesId, listed: Vec<GuardCandidate>) {
        let text = self.guards.encode();
        let guards = Guards::parse(&text, GuardParams::default()).unwrap();
        self.guards = guards.with_rules(rules);
        self.consensus(listed);
    }

    fn consensus(&mut self, listed: Vec<GuardCandidate>) {
        let params = self.guards.params.clone();
        self.guards
            .handle_consensus(params, listed, true, self.now, &mut self.rng);
    }

    fn ranked(&mut self, usage: GuardUse) -> Vec<RsaId> {
        self.guards.ranked(usage, self.now, &mut self.rng)
    }

    fn best(&mut self) -> RsaId {
        self.ranked(GuardUse::Data)[0]
    }

    fn wait(&mut self, secs: u64) {
        self.now = self.now + Duration::from_secs(secs);
    }

    fn begin(&mut self, id: RsaId) -> GuardAttempt {
        let attempt = self.guards.begin(&id, GuardUse::Data, Vec::new(), self.now);
        attempt.unwrap()
    }

    fn built(&mut self, attempt: GuardAttempt) -> GuardUsability {
        self.guards.handle_success(attempt, self.now, &mut self.rng)
    }

    fn event(&mut self) -> Option<GuardEvent> {
        self.guards.poll_event(self.now, &mut self.rng)
    }

    fn fail(&mut self, id: RsaId) {
        let attempt = self.begin(id);
        self.guards.handle_failure(attempt, self.now);
    }

    fn fail_primary(&mut self) {
        for id in self.guards.primary().to_vec() {
            self.fail(id);
        }
    }

    fn succeed(&mut self, id: RsaId) -> GuardUsability {
        let attempt = self.begin(id);
        let usability = self.built(attempt);
        if usability == GuardUsability::Now {
            self.guards.handle_end(attempt);
        }
        usability
    }

    fn sampled(&self) -> Vec<RsaId> {
        self.guards.sampled().collect()
    }

    fn confirmed(&self) -> BTreeSet<RsaId> {
        let all = self.guards.statuses().into_iter();
        all.filter(|one| one.confirmed_on.is_some())
            .map(|one| one.rsa)
            .collect()
    }
}

#[test]
fn one_guard_while_it_works() {
    let mut world = world(40);
    assert_eq!(world.guards.len(), 20);
    assert_eq!(world.guards.primary().len(), 3);
    let first = world.best();
    for _ in 0..100 {
        assert_eq!(world.best(), first);
        assert_eq!(world.succeed(first), GuardUsability::Now);
    }
    // The next one on failure, and the first again in its time.
    world.fail(first);
    let second = world.best();
    assert_ne!(second, first);
    assert!(world.guards.primary().contains(&second));
    world.wait(599);
    assert_eq!(world.best(), second);
    world.wait(1);
    assert_eq!(world.best(), first);
    assert_eq!(world.succeed(first), GuardUsability::Now);
    assert_eq!(world.guards.reachable(&first), Some(Reachable::Yes));
}

#[test]
fn retries_become_rarer() {
    let mut world = world(40);
    let first = world.best();
    let mut gaps = Vec::new();
    let mut last = world.now.mono;
    world.fail(first);
    // Ten days, minute by minute.
    for _ in 0..14_400 {
        world.wait(60);
        if world.best() == first {
            gaps.push((world.now.mono - last).as_secs() / 60);
            last = world.now.mono;
            world.fail(first);
        }
    }
    let count = |minutes| gaps.iter().filter(|gap| **gap == minutes).count();
    assert_eq!(gaps[..35], [10; 35]);
    assert_eq!((count(10), count(90), count(240)), (35, 60, 18));
    assert!(gaps.is_sorted(), "{gaps:?}");
    assert_eq!(gaps.last(), Some(&540));
}

#[test]
fn directories_are_spread_over_three() {
    let mut world = world(40);
    let mut firsts = BTreeSet::new();
    for _ in 0..100 {
        firsts.insert(world.ranked(GuardUse::Directory)[0]);
    }
    assert_eq!(firsts.len(), 3);
    assert!(firsts.iter().all(|id| world.guards.primary().contains(id)));
    // They are reached, but not committed to.
    for id in firsts {
        let attempt = world
            .guards
            .begin(&id, GuardUse::Directory, Vec::new(), world.now);
        assert_eq!(world.built(attempt.unwrap()), GuardUsability::Now);
        assert_eq!(world.guards.reachable(&id), Some(Reachable::Yes));
    }
    assert!(world.confirmed().is_empty());
}

#[test]
fn all_failed_means_all_may_be_tried() {
    let mut world = world(5);
    assert_eq!(world.guards.len(), 5);
    for _ in 0..5 {
        let best = world.best();
        world.fail(best);
    }
    assert_eq!(world.ranked(GuardUse::Data).len(), 5);
    let maybe = |id| world.guards.reachable(&id) == Some(Reachable::Maybe);
    assert!(world.sampled().into_iter().all(maybe));
}

#[test]
fn unlisted_guards_stay_for_twenty_days() {
    let mut world = world(25);
    let first = world.best();
    world.succeed(first);
    let without: Vec<_> = candidates(25)
        .into_iter()
        .filter(|one| one.rsa != first)
        .collect();
    world.consensus(without.clone());
    assert_ne!(world.best(), first);
    assert!(world.sampled().contains(&first));
    world.wait(10 * 86_400);
    world.consensus(candidates(25));
    assert_eq!(world.best(), first, "listed again, it is the confirmed one");
    world.consensus(without.clone());
    world.wait(16 * 86_400 - 1);
    world.consensus(without.clone());
    assert!(world.sampled().contains(&first));
    world.wait(4 * 86_400 + 2);
    world.consensus(without);
    assert!(!world.sampled().contains(&first));
    let departure = world.guards.departures().next().unwrap();
    assert_eq!(departure.reason, DepartureReason::Unlisted);
    assert!(departure.was_confirmed && departure.rsa == first);
}

#[test]
fn old_guards_are_replaced_unless_confirmed_lately() {
    let mut world = world(60);
    let first = world.best();
    let before = world.sampled();
    world.wait(100 * 86_400);
    world.succeed(first);
    world.wait(25 * 86_400);
    world.consensus(candidates(60));
    let after = world.sampled();
    assert_eq!(after[0], first);
    assert!(after.iter().filter(|id| before.contains(id)).count() < 20);
    assert_eq!(after.len(), 20);
    world.wait(60 * 86_400);
    world.consensus(candidates(60));
    assert!(!world.sampled().contains(&first));
}

#[test]
fn a_stale_consensus_changes_nothing() {
    let mut world = world(60);
    let first = world.best();
    world.succeed(first);
    let (before, text) = (world.sampled(), world.guards.encode());
    world.wait(200 * 86_400);
    let params = GuardParams::default();
    let some = candidates(60).split_off(30);
    world
        .guards
        .handle_consensus(params, some.clone(), false, world.now, &mut world.rng);
    assert_eq!(world.sampled(), before);
    assert_eq!(world.guards.encode(), text);
    let listed: BTreeSet<RsaId> = some.iter().map(|one| one.rsa).collect();
    assert!(
        world
            .ranked(GuardUse::Data)
            .iter()
            .all(|id| listed.contains(id))
    );
}

#[test]
fn few_allowed_guards_make_a_sample_of_their_own() {
    let mut world = world(200);
    let (before, first) = (world.sampled(), world.best());
    world.succeed(first);
    let attempt = world.begin(first);
    let allow = |share: u16| {
        let mut all = candidates(200);
        for (n, one) in (0..).zip(&mut all) {
            one.allowed = n % share == 0;
        }
        all
    };
    // A third: the same sample, filtered, and so enlarged up to its limit.
    world.consensus(allow(3));
    assert_eq!(world.guards.selection(), Selection::Default);
    assert!(world.sampled().starts_with(&before));
    assert!(world.guards.len() <= 40);
    // A tenth: another, of allowed ones only.
    world.consensus(allow(10));
    let restricted = world.guards.selection();
    assert!(matches!(restricted, Selection::Restricted(_)));
    assert_eq!(world.event(), Some(GuardEvent::Unwanted(attempt)));
    assert_eq!(world.guards.len(), 20);
    let allowed = |id: &RsaId| allow(10).iter().any(|one| one.rsa == *id && one.allowed);
    assert!(world.ranked(GuardUse::Data).iter().all(allowed));
    assert_eq!(world.built(attempt), GuardUsability::Never);
    let few = world.sampled();
    // Other rules: others of their own, however full that sample is.
    let mut all = candidates(200);
    for (n, one) in (0..).zip(&mut all) {
        one.allowed = n % 10 == 1;
    }
    world.restart_with(RulesId(2), all.clone());
    assert_eq!(world.guards.selection(), Selection::Restricted(RulesId(2)));
    let other = |id: &RsaId| all.iter().any(|one| one.rsa == *id && one.allowed);
    assert!(world.sampled().iter().all(other) && world.guards.len() == 20);
    // The former rules: the former guards.
    world.restart_with(RulesId::default(), allow(10));
    assert_eq!(world.sampled(), few);
    // And back.
    world.consensus(candidates(200));
    assert_eq!(world.guards.selection(), Selection::Default);
    assert_eq!(world.best(), first);
}

#[test]
fn bridges_have_a_sample_without_a_limit() {
    let mut world = world(200);
    let first = world.best();
    world.succeed(first);
    let bridges: Vec<GuardCandidate> = (1000..1100)
        .map(|n| GuardCandidate {
            bridge: Some(([192, 0, 2, 1], n).into()),
            weight: 1,
            ..candidate(n)
        })
        .collect();
    let is_bridge = |id: &RsaId| bridges.iter().any(|one| one.rsa == *id);
    world
        .guards
        .use_bridges(Some(bridges.clone()), world.now, &mut world.rng);
    assert_eq!(world.guards.selection(), Selection::Bridges);
    for _ in 0..100 {
        let best = world.best();
        assert!(is_bridge(&best));
        world.fail(best);
    }
    assert_eq!(world.guards.len(), 100);
    world.consensus(candidates(200));
    assert_eq!(world.guards.selection(), Selection::Bridges);
    let read = Guards::parse(&world.guards.encode(), GuardParams::default()).unwrap();
    assert_eq!(read.encode(), world.guards.encode());
    world.guards.use_bridges(None, world.now, &mut world.rng);
    assert_eq!(world.guards.selection(), Selection::Default);
    assert_eq!(world.best(), first);
}
