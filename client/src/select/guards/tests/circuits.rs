//! Circuits that wait for better guards (guard-spec 4.6 to 4.9).

use super::*;

/// A world in which the first guard carried traffic, and then all primary ones failed.
fn without_primary() -> World {
    let mut world = world(200);
    let first = world.best();
    world.succeed(first);
    world.fail_primary();
    let best = world.best();
    assert!(!world.guards.primary().contains(&best));
    world
}

#[test]
fn another_guard_is_used_when_all_primary_ones_are_down() {
    let mut world = without_primary();
    let other = world.best();
    let attempt = world.begin(other);
    assert!(world.confirmed().len() == 1);
    assert_eq!(world.built(attempt), GuardUsability::Now);
    assert_eq!(world.event(), None);
    // It is confirmed, and so primary: the second confirmed one.
    assert!(world.confirmed().contains(&other));
    assert_eq!(world.guards.primary()[1], other);
    assert_eq!(world.best(), other);
    assert_eq!(world.succeed(other), GuardUsability::Now);
}

#[test]
fn after_an_outage_better_guards_are_tried_first() {
    let mut world = without_primary();
    let primary = world.guards.primary().to_vec();
    let other = world.best();
    world.wait(601);
    world.fail_primary();
    let attempt = world.begin(other);
    assert_eq!(world.built(attempt), GuardUsability::Waiting);
    assert_eq!(world.event(), None);
    assert!(!world.confirmed().contains(&other));
    assert_eq!(world.best(), primary[0]);
    // They are all down: the circuit is good, after all.
    for id in &primary {
        assert_eq!(world.event(), None);
        world.fail(*id);
    }
    assert_eq!(world.event(), Some(GuardEvent::Usable(attempt)));
    assert!(world.confirmed().contains(&other));
}

#[test]
fn a_circuit_that_waits_in_vain_is_given_up() {
    let mut world = without_primary();
    let other = world.best();
    world.wait(601);
    let attempt = world.begin(other);
    assert_eq!(world.built(attempt), GuardUsability::Waiting);
    let primary = world.best();
    assert_eq!(world.succeed(primary), GuardUsability::Now);
    let idle = Duration::from_secs(600);
    assert_eq!(
        world.guards.poll_timeout(world.now),
        Some(world.now.mono + idle)
    );
    world.wait(599);
    assert_eq!(world.event(), None);
    world.wait(1);
    assert_eq!(world.event(), Some(GuardEvent::Unwanted(attempt)));
    assert_eq!(world.event(), None);
    assert_eq!(world.guards.poll_timeout(world.now), None);
    world.guards.handle_end(attempt);
    assert!(!world.confirmed().contains(&other));
}

#[test]
fn a_better_guard_in_the_making_blocks_for_fifteen_seconds() {
    let mut world = without_primary();
    let second = world.best();
    let slow = world.begin(second);
    let third = world.best();
    assert_ne!(third, second, "one circuit through each");
    // The guard that works is preferred to one of which nobody knows.
    let attempt = world.begin(third);
    assert_eq!(world.built(attempt), GuardUsability::Now);
    world.guards.handle_end(slow);
    world.guards.handle_end(attempt);
    // But a confirmed one is waited for. It takes four to have one that is not primary.
    let mut confirmed = vec![third];
    while world.confirmed().len() < 4 {
        world.fail_primary();
        let best = world.best();
        world.succeed(best);
        confirmed.push(best);
    }
    let primary = world.guards.primary().to_vec();
    world.fail_primary();
    let better = world.best();
    assert!(world.confirmed().contains(&better) && !primary.contains(&better));
    let slow = world.begin(better);
    let next = world.best();
    let attempt = world.begin(next);
    assert_eq!(world.built(attempt), GuardUsability::Waiting);
    let at = world.guards.poll_timeout(world.now).unwrap();
    assert_eq!(at, world.now.mono + Duration::from_secs(15));
    world.wait(14);
    assert_eq!(world.event(), None);
    world.wait(1);
    assert_eq!(world.event(), Some(GuardEvent::Usable(attempt)));
    assert_eq!(world.built(slow), GuardUsability::Now);
}

#[test]
fn restrictions_are_remembered() {
    let mut world = world(200);
    let first = world.best();
    world.succeed(first);
    // The exit of this circuit rules the primary guards out: their state does not matter to it.
    let excluded = world.guards.primary().to_vec();
    let ranked = world.ranked(GuardUse::Data);
    let other = *ranked.iter().find(|id| !excluded.contains(id)).unwrap();
    let attempt = world
        .guards
        .begin(&other, GuardUse::Data, excluded, world.now)
        .unwrap();
    assert_eq!(world.built(attempt), GuardUsability::Now);
    // One that could have had a primary guard waits for it.
    let mut world = self::world(200);
    let first = world.best();
    world.succeed(first);
    let attempt = world.begin(other);
    assert_eq!(world.built(attempt), GuardUsability::Waiting);
}

#[test]
fn at_the_start_the_network_counts_as_down() {
    let mut world = world(200);
    let primary = world.guards.primary().to_vec();
    world.fail_primary();
    let other = world.best();
    let attempt = world.begin(other);
    assert_eq!(world.built(attempt), GuardUsability::Waiting);
    assert_eq!(world.best(), primary[0]);
}

#[test]
fn strangers_and_guards_that_left_are_no_guards() {
    let mut world = world(60);
    let stranger = id(999);
    let begun = world
        .guards
        .begin(&stranger, GuardUse::Data, Vec::new(), world.now);
    assert_eq!(begun, None);
    let first = world.best();
    let attempt = world.begin(first);
    world.wait(200 * 86_400);
    world.consensus(candidates(60));
    if !world.sampled().contains(&first) {
        assert_eq!(world.built(attempt), GuardUsability::Never);
    }
    world.guards.handle_end(attempt);
    assert_eq!(world.built(attempt), GuardUsability::Never);
}
