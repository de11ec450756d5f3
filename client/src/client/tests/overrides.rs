//! What an operator wants otherwise than the network has it, and which relays he lets be where.

use std::collections::BTreeSet;
use std::time::Duration;

use cepa_crypto::onion::OnionAddress;
use cepa_netdoc::policy::AddrPolicy;

use super::onion::hosted_in;
use super::world::World;
use super::*;
use crate::circuits::path_bias::BiasEvent;
use crate::client::dormancy::DORMANT_AFTER;
use crate::drawn::{Documents, DrawnRelay, start};
use crate::onion::Purpose;
use crate::onion::services::ServiceConfig;
use crate::overrides::Overrides;
use crate::select::reach::Reach;
use crate::select::rules::{Permits, RelaySet, Rules};

const SECOND: Duration = Duration::from_secs(1);

fn overriding(change: impl FnOnce(&mut Overrides)) -> ClientConfig {
    let mut config = ClientConfig::default();
    change(&mut config.overrides);
    config
}

/// A world that has begun, however far it has come.
fn begun(config: ClientConfig) -> World {
    let mut world = World::bridged(Vec::new(), config, start());
    world.run();
    world
}

fn ready(change: impl FnOnce(&mut Overrides)) -> World {
    World::drawn_as((42, 8), overriding(change))
}

fn set(words: &[&str]) -> RelaySet {
    RelaySet(words.iter().map(|word| word.parse().unwrap()).collect())
}

fn id(n: u8) -> RsaId {
    RsaId::from([n; 20])
}

/// The first hops of circuits for so many users.
fn first_hops(world: &mut World, users: u8) -> BTreeSet<RsaId> {
    for user in 0..users {
        let request = world.connect("example.net", 80, &user.to_string(), b"");
        world.connected(request);
    }
    let paths = world.net.paths();
    let long = paths.iter().filter(|path| path.len() == 3);
    long.map(|path| path[0]).collect()
}

#[test]
fn documents_may_be_left_to_a_controller() {
    let mut world = begun(overriding(|overrides| overrides.fetches.no_network = true));
    world.wait(60 * SECOND);
    assert_eq!(world.net.documents_served, 0);
    world.client.set_overrides(Overrides::default(), world.now);
    world.wait(60 * SECOND);
    assert_eq!(world.client.bootstrap().percent, 100);
}

#[test]
fn guards_are_as_many_as_overridden() {
    let mut world = ready(|overrides| {
        overrides.guards.primary = Some(4);
        overrides.guards.used = Some(2);
    });
    assert_eq!(world.client.guards().primary().len(), 4);
    assert_eq!(first_hops(&mut world, 24).len(), 2);
    world.client.set_overrides(Overrides::default(), world.now);
    assert_eq!(world.client.guards().primary().len(), 3);
}

#[test]
fn a_guard_that_fails_too_much_is_given_up_where_that_as_overridden() {
    for drops in [false, true] {
        let mut world = ready(|overrides| {
            overrides.path_bias.circuits_min = Some(10);
            overrides.path_bias.extreme = Some(0.9);
            overrides.path_bias.drops = Some(drops);
        });
        let guard = world.client.guards().primary()[0];
        for _ in 0..100 {
            let bias = &mut world.client.circuits.path_bias;
            bias.count(guard, BiasEvent::Begun);
        }
        // Anything that happens.
        world.client.new_session(world.now);
        let is_used = world.client.guards().primary().contains(&guard);
        assert_eq!(is_used, !drops);
    }
}

#[test]
fn times_are_as_overridden() {
    let mut world = ready(|overrides| {
        overrides.circuits.build = Some(30 * SECOND);
        overrides.circuits.learns_nothing = true;
        overrides.circuits.available = Some(300 * SECOND);
        overrides.circuits.pending_max = Some(1);
    });
    let times = &world.client.circuits.build_times;
    assert!(!times.is_learning());
    assert_eq!(
        (times.timeout(3), times.close(3)),
        (30 * SECOND, 30 * SECOND)
    );
    let general = |world: &World| {
        let pool = world.client.circuits.pool.iter();
        pool.filter(|(_, entry)| entry.is_general()).count()
    };
    assert_eq!(general(&world), 2);
    world.wait(1300 * SECOND);
    assert_eq!(general(&world), 0, "nobody wanted any for twice the time");
    for guard in 2..=6 {
        world.net.frozen.insert(id(guard));
    }
    for user in ["a", "b", "c"] {
        world.connect("example.net", 80, user, b"");
    }
    world.run();
    assert_eq!(world.client.circuits.pool.pending().count(), 1);
}

#[test]
fn the_first_time_out_is_the_operators_until_another_is_learnt() {
    let world = ready(|overrides| overrides.circuits.build = Some(20 * SECOND));
    let times = &world.client.circuits.build_times;
    assert!(times.is_learning());
    assert_eq!(times.timeout(3), 20 * SECOND);
}

#[test]
fn streams_that_live_long_want_stable_relays() {
    let mut world = ready(|overrides| overrides.circuits.long_lived_ports = Some(vec![443]));
    let pool = &mut world.client.circuits.pool;
    let ids: Vec<_> = pool.iter().map(|(id, _)| id).collect();
    for id in &ids {
        pool.entry_mut(*id).unwrap().is_stable = false;
    }
    let mut circuit = |port| {
        let request = world.connect("example.net", port, &port.to_string(), b"");
        let stream = world.connected(request);
        world
            .client
            .circuits
            .of_stream(stream, &world.client.shared.plane)
            .unwrap()
    };
    assert!(ids.contains(&circuit(80)));
    let stable = circuit(443);
    assert!(!ids.contains(&stable));
    assert!(world.client.circuits.pool.entry(stable).unwrap().is_stable);
}

#[test]
fn as_much_is_known_as_overridden() {
    let mut rng = cepa_crypto::Rng::from_seed([3; 32]);
    let mut relays: Vec<_> = (1..=10).map(|n| DrawnRelay::new(n, &mut rng)).collect();
    for relay in &mut relays {
        relay.policy = Some("accept 80");
    }
    let mut documents = Documents::new(&relays, "", start());
    // Three quarters of each hop, cubed.
    documents.microdescs.truncate(8);
    let view = documents.view();
    assert!(Permits::FREE.know_enough(&view, Some(0.4)));
    assert!(!Permits::FREE.know_enough(&view, Some(0.95)));
    assert!(!Permits::FREE.know_enough(&view, None), "60 of a hundred");
}

#[test]
fn rest_begins_as_overridden() {
    let mut world = begun(overriding(|overrides| overrides.dormancy.at_first = true));
    assert!(world.client.is_dormant());
    assert_eq!(world.net.documents_served, 0);
    let state = world.saved_state();
    let request = world.connect("example.net", 80, "", b"");
    world.wait(60 * SECOND);
    world.connected(request);
    assert!(!world.client.is_dormant());
    // As it was left, it begins again; unless each start is a use.
    let mut again = World::start_with(state.clone(), start());
    again.run();
    assert!(again.client.is_dormant());
    let woken = overriding(|overrides| overrides.dormancy.wakes_at_start = true);
    let again = World::restarted((42, 8), woken, state, start());
    assert!(!again.client.is_dormant());
    let state = again.saved_state();
    assert_eq!(state.dormancy.as_deref(), Some("active"));
}

#[test]
fn rest_comes_when_it_as_overridden() {
    let after = |world: &mut World, secs| {
        world.wait(secs * SECOND);
        world.client.is_dormant()
    };
    let mut soon = ready(|overrides| overrides.dormancy.after = Some(700 * SECOND));
    assert!(!after(&mut soon, 600) && after(&mut soon, 200));
    let mut never = ready(|overrides| overrides.dormancy.never = true);
    never.client.dormancy.skip(2 * DORMANT_AFTER);
    assert!(!after(&mut never, 600));
    for is_enough in [true, false] {
        let mut world = ready(|overrides| {
            overrides.dormancy.after = Some(700 * SECOND);
            overrides.dormancy.despite_idle_streams = !is_enough;
        });
        let request = world.connect("example.net", 80, "", b"");
        let stream = world.connected(request);
        for _ in 0..4 {
            world.wait(300 * SECOND);
            world.client.stream_send(stream, b"more", world.now);
        }
        assert!(!world.client.is_dormant(), "it carries something");
        assert_eq!(after(&mut world, 2000), !is_enough);
    }
}

#[test]
fn what_cannot_be_reached_is_not_tried() {
    let reach = |rules: &str| Reach {
        policy: Some(AddrPolicy::parse_config([rules]).unwrap()),
        ..Reach::default()
    };
    let ruled = |reach| {
        World::ruled(Rules {
            reach,
            ..Rules::default()
        })
    };
    let mut world = ruled(reach(
        "accept 127.1.0.0/16:*,accept 127.3.0.0/16:5000,reject *:*",
    ));
    assert_eq!(world.client.bootstrap().percent, 100);
    assert_eq!(first_hops(&mut world, 4), [id(3)].into());
    let asked = world.net.paths().into_iter().map(|path| path[0]);
    assert!(
        asked
            .collect::<BTreeSet<_>>()
            .is_subset(&[id(1), id(3)].into())
    );
    let no_ipv4 = Reach {
        no_ipv4: true,
        ..Reach::default()
    };
    for reach in [reach("accept *:443,reject *:*"), no_ipv4] {
        let world = ruled(reach);
        assert_eq!(world.net.paths(), [] as [Vec<RsaId>; 0]);
    }
    // Another firewall, while the client runs.
    let mut world = World::ready();
    let rules = Rules {
        reach: reach("accept 127.5.0.0/16:*,reject *:*"),
        ..Rules::default()
    };
    world.client.set_rules(rules, world.now);
    assert_eq!(world.client.guards().primary(), [id(5)]);
}

#[test]
fn a_family_of_the_operators_shares_no_path() {
    let mut world = World::ruled(Rules {
        families: vec![set(&[
            "relay2",
            "127.3.0.0/16",
            "relay4",
            "relay5",
            "relay6",
        ])],
        ..Rules::default()
    });
    first_hops(&mut world, 12);
    let paths = world.net.paths();
    let long: Vec<_> = paths.iter().filter(|path| path.len() == 3).collect();
    assert!(!long.is_empty());
    for path in long {
        assert!([id(1), id(7), id(8)].contains(&path[1]), "{path:?}");
    }
}

#[test]
fn layers_are_those_that_the_operator_names() {
    let second = ["relay4", "relay5"];
    let third = ["relay9", "relay10", "relay11", "relay12"];
    for has_third in [true, false] {
        let rules = Rules {
            layer2: set(&second),
            layer3: set(if has_third { &third } else { &[] }),
            ..Rules::default()
        };
        let config = ClientConfig {
            rules,
            ..ClientConfig::default()
        };
        let mut net = hosted_in(World::drawn_as((3, 16), config), |_| {});
        net.visit("");
        let more = usize::from(has_third);
        for (command, hops) in [
            (RelayCommand::ESTABLISH_INTRO, 4),
            (RelayCommand::INTRODUCE1, 4 + more),
            (RelayCommand::ESTABLISH_RENDEZVOUS, 4),
            (RelayCommand::RENDEZVOUS1, 4 + more),
        ] {
            for path in net.world.net.onion.paths_of(command) {
                assert_eq!(path.len(), hops, "{command:?} {path:?}");
                assert!([id(4), id(5)].contains(&path[1]), "{path:?}");
                let is_third = (9..=12).any(|n| path[2] == id(n));
                assert!(is_third || !has_third, "{path:?}");
            }
        }
    }
}

#[test]
fn descriptors_may_be_fetched_by_a_controller_alone() {
    let mut net = hosted_in(World::ready(), |_| {});
    let mut overrides = Overrides::default();
    overrides.fetches.no_onions = true;
    net.world.client.set_overrides(overrides, net.world.now);
    let request = net.world.connect(&net.host, 80, "", b"");
    net.world.run();
    assert_eq!(net.world.failed(request), SocksStatus::HS_DESC_NOT_FOUND);
    let address = OnionAddress::of_host(&net.host).unwrap().unwrap();
    let now = net.world.now;
    let controller = net.world.client.controller(now);
    controller.fetch_descriptor(address, &[]).unwrap();
    net.world.wait(10 * SECOND);
    net.visit("");
}

#[test]
fn descriptors_may_be_published_by_a_controller_alone() {
    let mut world = ready(|overrides| overrides.fetches.publishes_nothing = true);
    let identity = cepa_crypto::ed25519::Keypair::from_seed(&[1; 32]).expand();
    let config = ServiceConfig::new(identity, vec![80]);
    let service = world.client.add_service(config, world.now);
    for _ in 0..20 {
        world.wait(SECOND);
    }
    let uploads = |world: &World| {
        let asked = world.net.onion.asked.iter();
        asked
            .filter(|(purpose, _)| *purpose == Purpose::Upload)
            .count()
    };
    assert_eq!(uploads(&world), 0);
    assert!(world.published.is_empty());
    world.client.set_overrides(Overrides::default(), world.now);
    for _ in 0..20 {
        world.wait(SECOND);
    }
    assert!(uploads(&world) > 0);
    assert_eq!(world.published, [service]);
}
