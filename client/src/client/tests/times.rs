//! What the client makes of the time that circuits take (path-spec 2.4).

use super::*;
use crate::circuits::pool::SLOW_BUILD;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A client that knows that circuits take 50 ms.
fn learnt() -> World {
    let mut world = World::ready();
    while world.client.circuits.build_times.is_learning() {
        world.client.circuits.build_times.built(ms(50), false);
    }
    assert!(world.client.circuits.build_times.timeout(3) < ms(60));
    world
}

#[test]
fn a_late_circuit_keeps_nobody_waiting() {
    let mut world = learnt();
    let [silent, other] = exits(&world);
    world.net.frozen.insert(silent);
    let mut late = 0;
    for n in 0..12 {
        let request = world.connect("example.net", 80, &n.to_string(), b"");
        world.wait(ms(300));
        // A circuit to that exit that stood already is another matter.
        if world.answers.contains_key(&request) {
            world.connected(request);
        }
        let pool = world.client.circuits.pool.iter();
        late += pool.filter(|(_, entry)| entry.is_measured_only).count();
    }
    assert!(late > 0, "no circuit was late");
    assert_eq!(world.net.path_of_last_begin().last(), Some(&other));
    // Late ones go in the end.
    world.net.frozen.insert(other);
    world.wait(Duration::from_secs(70));
    let old = world.now.mono - Duration::from_secs(61);
    let pool = world.client.circuits.pool.iter();
    let left = pool.filter(|(_, entry)| entry.is_measured_only && entry.begun < old);
    assert_eq!(left.count(), 0);
}

#[test]
fn a_frozen_guard_costs_one_tenth_of_a_minute_and_its_circuits_no_more() {
    let mut world = World::ready();
    let guard = world.client.circuits.choice.guards.primary()[0];
    world.net.frozen.insert(guard);
    let request = world.connect("example.net", 80, "a", b"");
    world.wait(SLOW_BUILD);
    assert!(
        !world.answers.contains_key(&request),
        "it has a circuit by that guard"
    );
    world.wait(Duration::from_secs(20));
    world.connected(request);
    assert_ne!(world.net.path_of_last_begin().first(), Some(&guard));
}

#[test]
fn times_are_learnt_and_kept() {
    let mut world = World::ready();
    assert!(world.client.circuits.build_times.is_learning());
    // One circuit in ten seconds, ten at a time, each for three minutes: half an hour.
    world.wait(Duration::from_secs(31 * 60));
    assert!(!world.client.circuits.build_times.is_learning());
    assert_eq!(world.client.circuits.build_times.timeout(3), ms(10));
    let state = world.saved_state();
    assert!(state.build_times.is_some());
    let again = World::start_with(state, world.now);
    assert_eq!(again.client.circuits.build_times.timeout(3), ms(10));
}
