//! The guards through outages, consensuses and years, and their state.

use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::drawn::start;

fn candidate(n: u8) -> GuardCandidate {
    GuardCandidate {
        rsa: RsaId::from([n; 20]),
        ed: Some(Ed25519Id::from([n; 32])),
        nickname: format!("relay{n}"),
        weight: u64::from(n),
    }
}

fn candidates(count: u8) -> Vec<GuardCandidate> {
    (1..=count).map(candidate).collect()
}

struct World {
    guards: GuardSet,
    now: Now,
    rng: Rng,
}

fn world(count: u8) -> World {
    let mut world = World {
        guards: GuardSet::new(GuardParams::default()),
        now: start(),
        rng: Rng::from_seed([3; 32]),
    };
    world.consensus(&candidates(count));
    world
}

impl World {
    fn consensus(&mut self, listed: &[GuardCandidate]) {
        let params = self.guards.params.clone();
        self.guards
            .handle_consensus(params, listed, self.now, &mut self.rng);
    }

    fn data(&mut self) -> Vec<RsaId> {
        self.guards.ranked(GuardUse::Data, self.now, &mut self.rng)
    }

    fn best(&mut self) -> RsaId {
        self.data()[0]
    }

    fn wait(&mut self, secs: u64) {
        self.now = self.now + Duration::from_secs(secs);
    }

    fn fail(&mut self, id: RsaId) {
        self.guards.handle_attempt(&id, self.now);
        self.guards.handle_failure(&id, self.now);
    }

    fn succeed(&mut self, id: RsaId) -> bool {
        self.guards.handle_attempt(&id, self.now);
        self.guards.handle_success(&id, self.now, &mut self.rng)
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
        assert!(world.succeed(first));
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
    assert!(world.succeed(first));
    assert_eq!(world.guards.reachable(&first), Some(Reachable::Yes));
}

#[test]
fn directories_are_spread_over_three() {
    let mut world = world(40);
    let mut firsts = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let (now, rng) = (world.now, &mut world.rng);
        firsts.insert(world.guards.ranked(GuardUse::Directory, now, rng)[0]);
    }
    assert_eq!(firsts.len(), 3);
    assert!(firsts.iter().all(|id| world.guards.primary().contains(id)));
}

#[test]
fn all_failed_means_all_may_be_tried() {
    let mut world = world(5);
    assert_eq!(world.guards.len(), 5);
    for _ in 0..5 {
        let best = world.best();
        world.fail(best);
    }
    assert_eq!(world.data().len(), 5);
    assert!(
        world
            .guards
            .sampled
            .iter()
            .all(|one| one.reachable == Reachable::Maybe)
    );
}

#[test]
fn a_worse_guard_after_an_outage_is_not_used() {
    let mut world = world(40);
    let first = world.best();
    assert!(world.succeed(first));
    for _ in 0..3 {
        let best = world.best();
        world.fail(best);
    }
    let other = world.best();
    assert!(!world.guards.primary().contains(&other));
    // Within ten minutes of the last success the other is right, and becomes confirmed.
    world.wait(60);
    let mut soon = World {
        guards: GuardSet::parse(&world.guards.encode(), GuardParams::default()).unwrap(),
        now: world.now,
        rng: Rng::from_seed([4; 32]),
    };
    soon.guards.on_internet_last = world.guards.on_internet_last;
    assert!(soon.succeed(other));
    assert!(soon.guards.guard(&other).unwrap().confirmed.is_some());
    // Much later it was the network: the primary guards are tried again.
    world.wait(700);
    assert!(!world.succeed(other));
    assert_eq!(world.best(), first);
}

#[test]
fn unlisted_guards_stay_for_twenty_days() {
    let mut world = world(25);
    let first = world.best();
    assert!(world.succeed(first));
    let without: Vec<_> = candidates(25)
        .into_iter()
        .filter(|one| one.rsa != first)
        .collect();
    world.consensus(&without);
    assert_ne!(world.best(), first);
    assert!(world.guards.guard(&first).is_some());
    world.wait(10 * 86_400);
    world.consensus(&candidates(25));
    assert_eq!(world.best(), first, "listed again, it is the confirmed one");
    world.consensus(&without);
    world.wait(21 * 86_400);
    world.consensus(&without);
    assert!(world.guards.guard(&first).is_none());
}

#[test]
fn old_guards_are_replaced_unless_confirmed_lately() {
    let mut world = world(60);
    let first = world.best();
    let before: Vec<RsaId> = world.guards.sampled.iter().map(|guard| guard.rsa).collect();
    world.wait(100 * 86_400);
    assert!(world.succeed(first));
    world.wait(25 * 86_400);
    world.consensus(&candidates(60));
    let after: Vec<RsaId> = world.guards.sampled.iter().map(|guard| guard.rsa).collect();
    assert_eq!(after[0], first);
    assert!(after.iter().filter(|id| before.contains(id)).count() < 20);
    assert_eq!(after.len(), 20);
}

#[test]
fn damaged_states_are_named() {
    let mut world = world(5);
    let first = world.best();
    world.succeed(first);
    let text = world.guards.encode();
    let parse = |text: &str| GuardSet::parse(text, GuardParams::default()).map(|set| set.len());
    assert_eq!(parse(&text), Ok(5));
    assert_eq!(parse(""), Ok(0));
    assert_eq!(parse("# a comment\n"), Ok(0));
    assert_eq!(parse("nonsense"), Err(GuardStateError::Line(1)));
    let lines: Vec<&str> = text.lines().collect();
    let twice = format!("{text}{}\n", lines[0]);
    assert_eq!(parse(&twice), Err(GuardStateError::Twice(6)));
    assert_eq!(
        parse(&text.replace("sampled_on=20", "sampled_on=x")),
        Err(GuardStateError::Line(1))
    );
    for cut in 1..lines[0].len() {
        let _ = parse(&text[..cut]);
    }
}

proptest! {
    /// Whatever happens: the state round-trips, the sample stays within its bounds, and no guard
    /// leaves it for having failed.
    #[test]
    fn any_history(seed: [u8; 32], steps in prop::collection::vec(0_u8..6, 1..60)) {
        let mut world = world(30);
        world.rng = Rng::from_seed(seed);
        let mut listed = candidates(30);
        for step in steps {
            let before: Vec<RsaId> = world.guards.sampled.iter().map(|one| one.rsa).collect();
            match step {
                0 | 1 => { let best = world.best(); world.fail(best); }
                2 => { let best = world.best(); world.succeed(best); }
                3 => world.wait(300),
                4 => {
                    shuffle(&mut listed, &mut world.rng);
                    let some = listed[..25].to_vec();
                    world.consensus(&some);
                }
                _ => world.consensus(&candidates(30)),
            }
            let after: Vec<RsaId> = world.guards.sampled.iter().map(|one| one.rsa).collect();
            prop_assert!(after.starts_with(&before));
            prop_assert!(after.len() <= 30);
            prop_assert!(world.guards.primary().len() <= 3);
            prop_assert!(!world.data().is_empty());
            let text = world.guards.encode();
            let read = GuardSet::parse(&text, GuardParams::default()).unwrap();
            prop_assert_eq!(read.encode(), text);
        }
    }

    #[test]
    fn any_text_is_survived(
        text in "(Guard ([a-z_]{1,10}=[0-9A-F:T-]{0,40} ?){0,3}\n){0,4}|\\PC{0,80}"
    ) {
        let _ = GuardSet::parse(&text, GuardParams::default());
    }
}
