//! The client against a network in memory.

mod bridges;
mod by_hand;
mod circuit_padding;
mod dormancy;
mod isolation;
mod onion;
mod overrides;
mod padding;
mod rules;
mod silence;
mod status;
mod times;
mod vanguards;
mod world;

use std::time::Duration;

use cepa_circuit::{StreamKey, StreamRead};
use cepa_crypto::RsaId;
use cepa_wire::end::EndReason;
use cepa_wire::relay::RelayCommand;
use cepa_wire::resolve::AnswerValue;
use cepa_wire::socks::{SocksAuth, SocksCommand, SocksStatus};

use super::*;
use crate::circuits::pool::CIRCUITS_MAX;
use crate::command::Saved;
use crate::names::RequestId;
use world::{World, exits, socks};

#[test]
fn bootstraps_and_builds_ahead() {
    let world = World::ready();
    let tags: Vec<&str> = world
        .statuses
        .iter()
        .map(|status| status.phase.tag())
        .collect();
    assert_eq!(tags.first(), Some(&"conn"));
    assert_eq!(tags.last(), Some(&"done"));
    assert!(
        tags.contains(&"requesting_status") && tags.contains(&"circuit_create"),
        "{tags:?}"
    );
    assert!(world.statuses.is_sorted_by_key(|status| status.percent));
    assert_eq!(world.client.bootstrap().percent, 100);
    let ready = world
        .client
        .circuits
        .pool
        .iter()
        .filter(|(_, entry)| entry.built().is_some());
    // Two for the first ports, one to learn how long that takes.
    assert_eq!(ready.filter(|(_, entry)| entry.is_general()).count(), 3);
    // Guards, consensus, certificate and microdescriptors are to be kept.
    let kinds: Vec<u8> = world
        .saved
        .iter()
        .map(|saved| match saved {
            Saved::Guards(_) => 0,
            Saved::Consensus { .. } => 1,
            Saved::Certificate { .. } => 2,
            Saved::Microdescs(_) => 3,
            Saved::BuildTimes(_)
            | Saved::PathBias(_)
            | Saved::Vanguards(_)
            | Saved::Dormancy(_) => 4,
            Saved::NsConsensus(_) => 5,
        })
        .collect();
    assert!((0..4).all(|kind| kinds.contains(&kind)), "{kinds:?}");
}

#[test]
fn a_stream_through_three_hops() {
    let mut world = World::ready();
    let request = world.connect("example.net", 80, "", b"GET /");
    let stream = world.connected(request);
    assert_eq!(world.net.received, b"GET /");
    let paths = world.net.paths();
    assert!(
        paths.iter().filter(|path| path.len() == 3).count() >= 2,
        "{paths:?}"
    );
    world.client.stream_send(stream, b" HTTP/1.0", world.now);
    world.run();
    assert_eq!(world.net.received, b"GET / HTTP/1.0");
    let mut out = Vec::new();
    world.net.say_to_all(b"200 OK");
    world.run();
    let read = world.client.stream_take(stream, &mut out, 100);
    assert_eq!((out.as_slice(), read.end), (&b"200 OK"[..], None));
    world
        .client
        .stream_close(stream, EndReason::DONE, world.now);
    let read = world.client.stream_take(stream, &mut out, 100);
    assert!(matches!(read, StreamRead { end: Some(_), .. }));
}

#[test]
fn streams_share_a_circuit_unless_they_are_isolated() {
    let mut world = World::ready();
    let mut circuit = |user: &str| {
        let request = world.connect("example.net", 80, user, b"");
        let stream = world.connected(request);
        world.client.shared.plane.stream_circuit(stream).unwrap()
    };
    let (a, b, a_again) = (circuit("a"), circuit("b"), circuit("a"));
    assert_eq!(a, a_again);
    assert_ne!(a, b);
    let nobody = circuit("");
    assert!(nobody != a && nobody != b);
    world.client.new_session(world.now);
    let request = world.connect("example.net", 80, "a", b"");
    let stream = world.connected(request);
    assert_ne!(world.client.shared.plane.stream_circuit(stream), Some(a));
}

#[test]
fn a_name_for_each_stream_ends_old_circuits_not_the_service() {
    let mut world = World::ready();
    let kept = world.connect("example.net", 80, "kept", b"");
    let kept = world.connected(kept);
    let kept_circuit = world.client.shared.plane.stream_circuit(kept).unwrap();
    for number in 0..=CIRCUITS_MAX {
        let request = world.connect("example.net", 80, &format!("user{number}"), b"");
        let stream = world.connected(request);
        world
            .client
            .stream_close(stream, EndReason::DONE, world.now);
        world.run();
    }
    // The oldest of all carries a stream.
    assert!(
        world
            .client
            .shared
            .plane
            .circuit_status(kept_circuit)
            .is_some()
    );
    assert!(world.client.circuits.pool.iter().count() <= CIRCUITS_MAX);
}

#[test]
fn dirty_circuits_are_replaced_after_ten_minutes() {
    let mut world = World::ready();
    let request = world.connect("example.net", 80, "", b"");
    let old = world.connected(request);
    let circuit = world.client.shared.plane.stream_circuit(old).unwrap();
    world.wait(Duration::from_secs(599));
    let request = world.connect("example.net", 80, "", b"");
    let second = world.connected(request);
    assert_eq!(
        world.client.shared.plane.stream_circuit(second),
        Some(circuit)
    );
    world.wait(Duration::from_secs(1));
    let request = world.connect("example.net", 80, "", b"");
    let third = world.connected(request);
    assert_ne!(
        world.client.shared.plane.stream_circuit(third),
        Some(circuit)
    );
    // It lives as long as its streams do.
    assert!(world.client.shared.plane.circuit_status(circuit).is_some());
    for stream in [old, second] {
        world
            .client
            .stream_close(stream, EndReason::DONE, world.now);
    }
    world.wait(Duration::from_secs(11));
    assert!(world.client.shared.plane.circuit_status(circuit).is_none());
}

#[test]
fn refused_at_once() {
    let mut world = World::ready();
    for (host, port, status) in [
        ("x.onion", 80, SocksStatus::HOST_UNREACHABLE),
        ("example.net", 25, SocksStatus::NOT_ALLOWED),
        ("2001:db8::1", 80, SocksStatus::NOT_ALLOWED),
    ] {
        let request = world.connect(host, port, "", b"");
        assert_eq!(world.failed(request), status, "{host}:{port}");
    }
    assert!(world.net.begins.is_empty());
}

#[test]
fn other_exits_are_asked_where_that_may_help() {
    let mut world = World::ready();
    let [one, two] = exits(&world);
    world.net.ends.insert(one, EndReason::EXITPOLICY);
    for user in ["a", "b", "c", "d", "e"] {
        let request = world.connect("example.net", 80, user, b"early");
        world.connected(request);
    }
    assert!(world.net.begins.contains(&one));
    // It is known now: nobody asks it for that port while there is another.
    let before = world.net.begins.len();
    for user in ["h", "i", "j", "k", "l", "m"] {
        let request = world.connect("example.org", 80, user, b"");
        world.connected(request);
    }
    assert!(world.net.begins[before..].iter().all(|exit| *exit == two));
    // Both refuse: that is the answer.
    world.net.ends.insert(two, EndReason::EXITPOLICY);
    let request = world.connect("example.net", 80, "f", b"");
    assert_eq!(world.failed(request), SocksStatus::NOT_ALLOWED);
    // A refused connection is believed.
    world.net.ends = [
        (one, EndReason::CONNECTREFUSED),
        (two, EndReason::CONNECTREFUSED),
    ]
    .into();
    let before = world.net.begins.len();
    let request = world.connect("example.net", 80, "g", b"");
    assert_eq!(world.failed(request), SocksStatus::CONNECTION_REFUSED);
    assert_eq!(world.net.begins.len(), before + 1);
}

#[test]
fn silent_exits_are_given_up() {
    let mut world = World::ready();
    let [one, two] = exits(&world);
    world.net.silent.insert(one);
    for user in ["a", "b", "c", "d"] {
        let request = world.connect("example.net", 80, user, b"");
        for _ in 0..4 {
            if !world.answers.contains_key(&request) {
                world.wait(Duration::from_secs(10));
            }
        }
        world.connected(request);
    }
    world.net.silent.insert(two);
    let request = world.connect("example.net", 80, "e", b"");
    for _ in 0..12 {
        world.wait(Duration::from_secs(10));
    }
    let status = world.failed(request);
    assert!(
        [SocksStatus::TTL_EXPIRED, SocksStatus::NOT_ALLOWED].contains(&status),
        "{status}"
    );
}

#[test]
fn names_are_looked_up_at_the_exit() {
    let mut world = World::ready();
    let request = world.ask(&socks(SocksCommand::Resolve, "example.net", 0), b"");
    assert!(matches!(
        world.answers.remove(&request),
        Some(Command::SocksResolved { answers, .. }) if answers.len() == 1
    ));
}

#[test]
fn internal_addresses_that_exits_tell_are_not_believed() {
    for (rejects, is_believed) in [(Some(true), false), (None, true)] {
        let config = ClientConfig {
            dns_reject_internal: rejects,
            ..ClientConfig::default()
        };
        let mut world = World::drawn_as((42, 8), config);
        world.net.address = [10, 0, 0, 1];
        let request = world.connect("example.net", 80, "", b"");
        match is_believed {
            true => {
                world.connected(request);
            }
            false => assert_eq!(world.failed(request), SocksStatus::GENERAL_FAILURE),
        }
        let request = world.ask(&socks(SocksCommand::Resolve, "example.net", 0), b"");
        let Some(Command::SocksResolved { answers, .. }) = world.answers.remove(&request) else {
            panic!("no answer")
        };
        let address = AnswerValue::Ip(world.net.address.into());
        let expected = match is_believed {
            true => address,
            false => AnswerValue::ErrorTransient,
        };
        assert_eq!(answers[0].value, expected);
        // What was asked for by its number is no answer of a name server's.
        let request = world.connect("10.0.0.1", 80, "", b"");
        world.connected(request);
    }
}

#[test]
fn a_killed_relay_is_survived() {
    for place in [0, 1, 2] {
        let mut world = World::ready();
        let request = world.connect("example.net", 80, "", b"");
        world.connected(request);
        let victim = world.net.path_of_last_begin()[place];
        world.kill(victim);
        for n in 0..3 {
            let user = format!("{place}{n}");
            let request = world.connect("example.net", 80, &user, b"");
            for _ in 0..9 {
                if world.answers.contains_key(&request) {
                    break;
                }
                world.wait(Duration::from_secs(1));
            }
            world.connected(request);
            assert!(!world.net.path_of_last_begin().contains(&victim));
        }
    }
}

#[test]
fn a_relay_that_swallows_all_is_survived() {
    for place in [0, 1, 2] {
        let mut world = World::ready();
        let request = world.connect("example.net", 80, "", b"");
        world.connected(request);
        let victim = world.net.path_of_last_begin()[place];
        world.net.frozen.insert(victim);
        let requests = [0, 1, 2].map(|n| world.connect("example.net", 80, &n.to_string(), b""));
        for _ in 0..6 {
            world.wait(Duration::from_secs(10));
        }
        for request in requests {
            world.connected(request);
        }
        let last = world.net.path_of_last_begin();
        assert!(!last.contains(&victim), "{place} {victim} {last:?}");
    }
}

#[test]
fn the_same_guard_after_a_restart() {
    let mut world = World::ready();
    let guard = world.client.circuits.choice.guards.primary()[0];
    let state = world.saved_state();
    let text = state.guards.clone().unwrap();
    let mut again = World::start_with(state, world.now);
    again.run();
    assert_eq!(again.client.bootstrap().percent, 100);
    assert_eq!(again.client.circuits.choice.guards.primary()[0], guard);
    assert_eq!(again.net.documents_served, 0, "all was kept");
    let damaged = SavedState {
        guards: Some(text.replace("sampled_on", "x")),
        ..SavedState::default()
    };
    let rng = Rng::from_seed([1; 32]);
    let network = Arc::clone(&world.client.shared.network);
    let refused = Client::new(ClientConfig::default(), network, damaged, rng, world.now);
    assert_eq!(refused.err(), Some(GuardStateError::Line(1)));
    world.run();
}

#[test]
fn a_dead_authority_is_survived_by_fallbacks() {
    let mut world = World::start(true);
    let authority = RsaId::from([1; 20]);
    world.kill(authority);
    world.run();
    for _ in 0..5 {
        world.wait(Duration::from_millis(500));
    }
    assert_eq!(world.client.bootstrap().percent, 100);
}

#[test]
fn a_new_consensus_is_fetched_while_it_runs() {
    let mut world = World::ready();
    let valid_after = |world: &World| {
        world
            .client
            .view()
            .unwrap()
            .consensus()
            .lifetime
            .valid_after
    };
    let before = valid_after(&world);
    let later = world.now + Duration::from_secs(20);
    world.net.publish(later);
    for _ in 0..40 {
        world.wait(Duration::from_secs(1));
    }
    assert!(valid_after(&world) > before);
}

#[test]
fn an_application_that_hangs_up_is_forgotten() {
    let mut world = World::ready();
    for exit in exits(&world) {
        world.net.silent.insert(exit);
    }
    let request = world.connect("example.net", 80, "", b"");
    assert_eq!(
        world.client.handle_socks_early(request, b"more", world.now),
        4
    );
    world.client.cancel_socks_request(request, world.now);
    world.run();
    assert!(world.client.streams.by_id.is_empty() && world.client.streams.by_stream.is_empty());
    assert_eq!(
        world.client.handle_socks_early(request, b"more", world.now),
        0
    );
    assert_eq!(world.net.received, b"more");
    assert!(!world.answers.contains_key(&request));
}

#[test]
fn data_that_crosses_our_end_counts_for_the_circuit_and_is_borne_within_its_window() {
    let mut world = World::ready();
    let request = world.connect("example.net", 80, "", b"");
    let stream = world.connected(request);
    let circuit = world.client.shared.plane.stream_circuit(stream).unwrap();
    let dropped = |world: &World| {
        let status = world.client.shared.plane.circuit_status(circuit);
        status.expect("the circuit stands").dropped_cells
    };
    let sendmes = |world: &World| {
        let said = world.net.onion.said.iter();
        said.filter(|(command, _)| *command == RelayCommand::SENDME)
            .count()
    };
    world
        .client
        .stream_close(stream, EndReason::DONE, world.now);
    world.run();
    assert_eq!((dropped(&world), sendmes(&world)), (0, 0));
    // A whole window of the stream was under way: the circuit acknowledges each hundred.
    for _ in 0..500 {
        world.net.say_to_all(&[1; 498]);
    }
    world.run();
    assert_eq!((dropped(&world), sendmes(&world)), (0, 5));
    // What no honest exit would have sent is counted against it; the circuit's own window goes on.
    for _ in 0..100 {
        world.net.say_to_all(&[1; 498]);
    }
    world.run();
    assert_eq!((dropped(&world), sendmes(&world)), (100, 6));
    // Other streams are none the worse for it.
    let request = world.connect("example.net", 80, "", b"");
    let stream = world.connected(request);
    assert_eq!(
        world.client.shared.plane.stream_circuit(stream),
        Some(circuit)
    );
}
