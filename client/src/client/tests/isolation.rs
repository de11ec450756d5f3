//! Streams that may share a circuit, and how long circuits live.

use cepa_circuit::CircuitKey;

use super::*;
use crate::circuits::pool::{CLEAN_MAX, DIRTY_MAX};

/// The circuit of a new stream, and the stream.
fn circuit(world: &mut World, host: &str, port: u16, user: &str) -> (CircuitKey, StreamKey) {
    let request = world.connect(host, port, user, b"");
    let stream = world.connected(request);
    (
        world.client.shared.plane.stream_circuit(stream).unwrap(),
        stream,
    )
}

fn with(flags: &str) -> World {
    let mut world = World::ready();
    for flag in flags.split_whitespace() {
        world.rules.add_flag(flag).unwrap();
    }
    world
}

#[test]
fn destinations_share_no_circuit_where_that_is_wanted() {
    for (flags, other_host, other_port) in [
        ("", true, true),
        ("IsolateDestAddr", false, true),
        ("IsolateDestPort", true, false),
        ("IsolateDestAddr IsolateDestPort", false, false),
    ] {
        let mut world = with(flags);
        let (one, _) = circuit(&mut world, "example.net", 80, "");
        assert_eq!(circuit(&mut world, "EXAMPLE.net", 80, "").0, one);
        let (host, _) = circuit(&mut world, "example.org", 80, "");
        let (port, _) = circuit(&mut world, "example.net", 443, "");
        assert_eq!(
            (host == one, port == one),
            (other_host, other_port),
            "{flags}"
        );
    }
    let mut world = with("NoIsolateSOCKSAuth");
    let (one, _) = circuit(&mut world, "example.net", 80, "a");
    assert_eq!(circuit(&mut world, "example.net", 80, "b").0, one);
}

#[test]
fn credentials_may_keep_a_circuit() {
    let mut world = with("KeepAliveIsolateSOCKSAuth");
    let (kept, stream) = circuit(&mut world, "example.net", 80, "a");
    let (other, _) = circuit(&mut world, "example.net", 80, "");
    for _ in 0..5 {
        world.wait(DIRTY_MAX / 2 + Duration::from_secs(1));
        let next = circuit(&mut world, "example.net", 80, "a");
        assert_eq!(next.0, kept, "it is used");
        world
            .client
            .stream_close(next.1, EndReason::DONE, world.now);
    }
    let (circuit_now, _) = circuit(&mut world, "example.net", 80, "");
    assert_ne!(circuit_now, other, "who gives no credentials gets another");
    // A stream that does nothing keeps it, too.
    world.wait(3 * DIRTY_MAX);
    assert_eq!(circuit(&mut world, "example.net", 80, "a").0, kept);
    world
        .client
        .stream_close(stream, EndReason::DONE, world.now);
    let lives = |world: &World| world.client.shared.plane.circuit_status(kept).is_some();
    assert!(lives(&world));
    world.wait(2 * DIRTY_MAX);
    assert!(lives(&world), "another stream is open still");
}

#[test]
fn circuits_are_used_for_as_long_as_the_operator_says() {
    let mut world = World::ready();
    let pool = &mut world.client.circuits.pool;
    pool.dirty_max = Some(DIRTY_MAX / 10);
    // Those that were made ahead.
    let ids: Vec<_> = pool.iter().map(|(id, _)| id).collect();
    for id in ids {
        pool.entry_mut(id).unwrap().dirty_max = DIRTY_MAX / 10;
    }
    let (first, _) = circuit(&mut world, "example.net", 80, "");
    world.wait(DIRTY_MAX / 20);
    assert_eq!(circuit(&mut world, "example.net", 80, "").0, first);
    world.wait(DIRTY_MAX / 10);
    assert_ne!(circuit(&mut world, "example.net", 80, "").0, first);
}

#[test]
fn idle_circuits_go_and_clean_ones_stay_ready() {
    let mut world = World::ready();
    while world.client.circuits.build_times.is_learning() {
        world
            .client
            .circuits
            .build_times
            .built(Duration::from_millis(20), false);
    }
    let general = |world: &World| -> Vec<_> {
        let pool = world.client.circuits.pool.iter();
        let general = pool.filter(|(_, entry)| entry.is_general());
        general.map(|(id, _)| id).collect()
    };
    let before = general(&world);
    world.wait(CLEAN_MAX + Duration::from_secs(60));
    let ready = |world: &World| {
        let ready =
            |entry: &crate::circuits::pool::Entry| entry.is_clean() && entry.built().is_some();
        let pool = world.client.circuits.pool.iter();
        pool.filter(|(_, entry)| entry.is_general() && ready(entry))
            .count()
    };
    assert!(general(&world).iter().all(|id| !before.contains(id)));
    assert_eq!(ready(&world), 2);
    // One that is used is replaced at once, not when the next one is wanted.
    let request = world.connect("example.net", 80, "", b"");
    world.connected(request);
    assert_eq!(ready(&world), 2);
}
