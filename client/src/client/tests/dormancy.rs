//! A client over days: at rest, awake again, with a stream that says nothing; and what it learns
//! of its guards.

use super::*;
use crate::client::dormancy::DORMANT_AFTER;

const HOUR: Duration = Duration::from_secs(3600);

/// Lets a day go by: two hours with all that happens in them (circuits and channels grow old, and
/// documents older), and the rest of it by the clock of idleness alone.
fn a_day(world: &mut World) {
    world.wait(2 * HOUR);
    world.client.dormancy.skip(DORMANT_AFTER - 3 * HOUR);
    world.wait(HOUR);
}

/// Circuits and documents that the network has seen.
fn work(world: &World) -> (usize, usize) {
    (world.net.handshakes, world.net.documents_served)
}

#[test]
fn who_is_not_used_comes_to_rest() {
    let mut world = World::ready();
    world.wait(2 * HOUR);
    assert!(!world.client.is_dormant());
    let general = |world: &World| {
        let pool = world.client.circuits.pool.iter();
        pool.filter(|(_, entry)| entry.is_general()).count()
    };
    assert_eq!(general(&world), 0, "nothing was wanted for an hour");
    world.client.dormancy.skip(DORMANT_AFTER - 3 * HOUR);
    world.wait(HOUR);
    assert!(world.client.is_dormant());
    let before = work(&world);
    world.wait(30 * HOUR);
    assert_eq!(work(&world), before, "no circuit, no document");
    assert_eq!(world.client.circuits.pool.iter().count(), 0);
    // The next request wakes it; its consensus is too old by then.
    world.net.publish(world.now);
    let request = world.connect("example.net", 80, "", b"");
    world.wait(Duration::from_secs(60));
    world.connected(request);
    assert!(!world.client.is_dormant());
    assert!(work(&world).1 > before.1);
}

#[test]
fn a_stream_that_says_nothing_for_a_day_lives() {
    let mut world = World::ready();
    let request = world.connect("example.net", 22, "", b"");
    assert_eq!(
        world.failed(request),
        SocksStatus::NOT_ALLOWED,
        "no exit to 22"
    );
    let request = world.connect("example.net", 443, "", b"");
    let stream = world.connected(request);
    a_day(&mut world);
    assert!(!world.client.is_dormant(), "a stream is open");
    world.net.say_to_all(b"still there");
    world.run();
    let mut out = Vec::new();
    let read = world.client.stream_take(stream, &mut out, 100);
    assert_eq!((out.as_slice(), read.end), (&b"still there"[..], None));
    world.client.stream_send(stream, b"yes", world.now);
    world.run();
    assert_eq!(world.net.received, b"yes");
}

#[test]
fn circuits_are_counted_for_their_guards() {
    let mut world = World::ready();
    let guard = world.client.circuits.choice.guards.primary()[0];
    for n in 0..20 {
        let request = world.connect("example.net", 80, &n.to_string(), b"");
        let stream = world.connected(request);
        world
            .client
            .stream_close(stream, EndReason::DONE, world.now);
    }
    world.wait(Duration::from_secs(700));
    let counts = |world: &World| {
        let mut all = world.client.circuits.path_bias.iter();
        *all.find(|(id, _)| **id == guard).unwrap().1
    };
    let before = counts(&world);
    assert!(before.attempts >= 20.0 && (before.attempts - before.successes).abs() < 0.1);
    assert!(
        before.use_attempts >= 20.0 && before.use_successes >= 20.0,
        "{before:?}"
    );
    // An exit that swallows all: circuits are begun and never built.
    for exit in exits(&world) {
        world.net.frozen.insert(exit);
    }
    let request = world.connect("example.net", 80, "x", b"");
    world.wait(Duration::from_secs(130));
    world.failed(request);
    let after = counts(&world);
    assert!(after.attempts > before.attempts + 5.0, "{after:?}");
    assert!(
        (after.successes - before.successes).abs() < 0.1,
        "{after:?}"
    );
    let state = world.saved_state();
    let again = World::start_with(state, world.now);
    let kept: Vec<_> = again.client.circuits.path_bias.iter().collect();
    assert!(
        kept.iter()
            .any(|(id, counts)| **id == guard && counts.attempts > 20.0)
    );
}

#[test]
fn a_directory_of_no_use_is_asked_last() {
    let mut world = World::start(true);
    // The fallback directory, which is asked before the authority.
    let fallback = world.client.shared.config.fallbacks[0].rsa;
    world.net.liars.insert(fallback);
    world.run();
    assert!(world.client.view().is_none());
    for _ in 0..20 {
        world.wait(Duration::from_millis(500));
    }
    assert_eq!(world.client.bootstrap().percent, 100);
}
