//! Links over which nothing comes any more, though their connections stand.

use super::onion::hosted;
use super::*;
use crate::plane::liveness::{DEAD_AFTER, DEAD_ALONE_AFTER, PROBE_AFTER, QUIET_MAX, SUSPECT_AFTER};

const STEP: Duration = Duration::from_millis(100);

/// Until a request is answered; how long that took.
fn answered(world: &mut World, request: RequestId) -> Duration {
    let mut took = Duration::ZERO;
    while !world.answers.contains_key(&request) && took < Duration::from_secs(120) {
        world.wait(STEP);
        took += STEP;
    }
    took
}

fn links_to(world: &World, relay: RsaId) -> usize {
    world.net.channels_to(relay).len()
}

#[test]
fn a_silent_link_is_left_within_seconds_and_its_guard_kept() {
    let mut world = World::ready();
    let request = world.connect("example.net", 80, "", b"");
    let old = world.connected(request);
    let guard = world.net.path_of_last_begin()[0];
    world.net.hold(guard);
    // One that would share the old circuit, and one that wants another.
    let requests = ["", "other"].map(|user| world.connect("example.net", 80, user, b""));
    for request in requests {
        assert!(answered(&mut world, request) <= PROBE_AFTER + SUSPECT_AFTER + STEP);
        world.connected(request);
        assert_eq!(world.net.path_of_last_begin()[0], guard);
    }
    // The stream over the dead link has its end.
    let since = PROBE_AFTER + DEAD_AFTER;
    world.wait(since);
    let mut out = Vec::new();
    let read = world.client.stream_take(old, &mut out, 10);
    assert_eq!(read.end, Some(EndReason::DESTROY));
    assert_eq!(links_to(&world, guard), 1);
    assert!(
        world
            .client
            .circuits
            .choice
            .guards
            .has_usable_primary(world.now)
    );
    assert_eq!(world.client.circuits.choice.guards.primary()[0], guard);
}

#[test]
fn streams_outlive_a_network_that_was_gone_for_a_while() {
    let mut world = World::ready();
    let request = world.connect("example.net", 80, "", b"");
    let stream = world.connected(request);
    let circuit = world.client.shared.plane.stream_circuit(stream).unwrap();
    let guard = world.net.path_of_last_begin()[0];
    world.net.go_down();
    let request = world.connect("example.net", 80, "", b"");
    world.wait(DEAD_ALONE_AFTER / 2);
    assert!(!world.answers.contains_key(&request));
    world.net.come_up();
    assert!(answered(&mut world, request) <= Duration::from_secs(3));
    world.connected(request);
    assert_eq!(
        world.client.shared.plane.stream_circuit(stream),
        Some(circuit)
    );
    world.wait(Duration::from_secs(3));
    let request = world.connect("example.net", 80, "third", b"");
    world.connected(request);
    assert_eq!(world.net.path_of_last_begin()[0], guard);
}

#[test]
fn a_slow_far_end_is_no_silent_link() {
    let mut world = World::ready();
    let request = world.connect("example.net", 80, "", b"");
    world.connected(request);
    let guard = world.net.path_of_last_begin()[0];
    for exit in exits(&world) {
        world.net.silent.insert(exit);
    }
    let channels = world.net.channels_to(guard);
    world.connect("example.net", 80, "", b"");
    for _ in 0..90 {
        world.wait(Duration::from_secs(1));
    }
    assert_eq!(world.net.channels_to(guard), channels);
}

#[test]
fn a_service_notices_that_nobody_can_ask_for_it() {
    let mut net = hosted();
    net.visit("before");
    let guard = net.world.client.circuits.choice.guards.primary()[0];
    net.world.net.hold(guard);
    net.world
        .wait(QUIET_MAX + SUSPECT_AFTER + DEAD_AFTER + STEP);
    net.world.wait(Duration::from_secs(5));
    net.world.client.new_session(net.world.now);
    net.visit_within(3, "after");
    assert_eq!(net.world.client.circuits.choice.guards.primary()[0], guard);
}

#[test]
fn a_guard_that_refuses_all_is_left_and_one_that_refuses_some_is_not() {
    let mut world = World::ready();
    let guard = world.client.circuits.choice.guards.primary()[0];
    world.net.refusing.insert(guard);
    for user in 0..40 {
        world.connect("example.net", 80, &user.to_string(), b"");
        world.wait(Duration::from_secs(1));
    }
    let is_first = |world: &World| world.net.path_of_last_begin().first() == Some(&guard);
    assert!(
        world
            .client
            .circuits
            .choice
            .guards
            .has_usable_primary(world.now)
    );
    world.net.refusing.clear();
    let request = world.connect("example.net", 80, "again", b"");
    assert!(answered(&mut world, request) <= Duration::from_secs(5));
    assert!(is_first(&world), "it had served us");
    // Over a new link it serves nobody.
    let mut world = World::ready();
    world.kill(guard);
    world.net.revive(guard);
    world.net.refusing.insert(guard);
    let request = world.connect("example.net", 80, "", b"");
    assert!(answered(&mut world, request) <= Duration::from_secs(30));
    world.connected(request);
    assert!(!is_first(&world));
}
