//! Hosting as a whole: published at once, visited, kept up, removed.

use std::time::Duration;

use cepa_crypto::ed25519::ExpandedKeypair;
use cepa_crypto::onion;
use cepa_crypto::{Rng, curve25519};
use cepa_dir::hsring;
use cepa_netdoc::routerstatus::Flags;
use cepa_wire::cell::PAYLOAD_LEN;

use super::world::{VOTING_SECONDS, World};
use crate::onion::action::{Ending, LastHop, Purpose};
use crate::onion::services::{
    DosLimits, IntroPointState, ServiceConfig, ServiceOutcome, ServiceStatus,
};

use crate::select::rules::{RelaySet, Rules};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

fn status(world: &World) -> ServiceStatus {
    world.services.statuses().remove(0)
}

#[test]
fn is_published_at_once_and_visited() {
    let (mut world, id, identity) = World::published(30, 1);
    assert_eq!(world.circuits_for(Purpose::IntroPoint).len(), 3);
    assert!(world.circuits_for(Purpose::Upload).is_empty(), "all done");
    assert_eq!(world.refused, 0);

    let plaintext = world.fetch(&identity, None).unwrap();
    assert_eq!(plaintext.intro_points.len(), 3);
    for point in &plaintext.intro_points {
        let (visitor, body) = world.introduction(&identity, point, |_| ());
        world.introduce(&point.auth_key, &body);
        world.run();
        let name = world.rendezvous(&visitor.cookie).unwrap();
        assert_eq!(world.services.service_of(name), Some(id));
        assert_eq!(world.services.config(id).unwrap().ports, [80]);
        let circuit = world.circuits.get_mut(&name).unwrap();
        assert!(matches!(circuit.last, LastHop::Told(_)));
        let mut ours = visitor
            .meet(circuit.rendezvous1.as_ref().unwrap())
            .client_layer();
        let mut theirs = circuit.layer.take().unwrap();
        let mut payload = Rng::from_seed([9; 32]).array::<PAYLOAD_LEN>();
        payload[1..3].fill(0);
        let sent = ours.originate_forward(3, &mut payload);
        assert_eq!(theirs.decrypt_backward(3, &mut payload), Some(sent));
        let sent = theirs.originate_forward(3, &mut payload);
        assert_eq!(ours.decrypt_backward(3, &mut payload), Some(sent));
    }
    let counts = status(&world).counts;
    assert_eq!(counts.intro_num_total, 3);
    assert_eq!(counts.rdv_established_count, 3);
    assert_eq!(counts.intro_established_count, 3);

    for name in world.circuits_for(Purpose::ServiceRendezvous) {
        world.end(name, Ending::Closed);
        assert_eq!(world.services.service_of(name), None);
    }
    assert_eq!(status(&world).counts.rdv_established_count, 0);
}

#[test]
fn hides_from_those_without_a_key() {
    let mut world = World::new(20, 2);
    let identity = world.identity();
    let public = identity.public();
    let client = curve25519::SecretKey::generate(&mut world.rng);
    let stranger = curve25519::SecretKey::generate(&mut world.rng);
    let mut config = ServiceConfig::new(identity, vec![80]);
    config.clients = vec![*client.public()];
    world.add(config);
    world.tell_network();
    world.run();
    assert!(world.fetch(&public, None).is_none());
    assert!(world.fetch(&public, Some(&stranger)).is_none());
    let plaintext = world.fetch(&public, Some(&client)).unwrap();
    assert_eq!(plaintext.intro_points.len(), 3);
}

#[test]
fn as_many_points_and_clients_as_fit_are_published() {
    for (clients, points) in [(0, 20), (128, 19), (400, 5)] {
        let mut world = World::new(40, 3);
        let identity = world.identity();
        let public = identity.public();
        let keys: Vec<curve25519::SecretKey> = (0..clients)
            .map(|_| curve25519::SecretKey::generate(&mut world.rng))
            .collect();
        let mut config = ServiceConfig::new(identity, vec![80]);
        config.clients = keys.iter().map(|key| *key.public()).collect();
        config.intro_points = 50;
        config.dos = Some(DosLimits {
            rate: 10,
            burst: 20,
        });
        world.add(config);
        world.tell_network();
        world.run();
        let plaintext = world.fetch(&public, keys.first()).unwrap();
        assert_eq!(plaintext.intro_points.len(), points);
        for name in world.circuits_for(Purpose::IntroPoint) {
            let dos = world.circuits[&name].dos.unwrap();
            assert_eq!((dos.rate_per_s, dos.burst), (10, 20));
        }
    }
}

/// Visitors that open no stream make room for others, the oldest first, and go at last; one that
/// has opened a stream stays.
#[test]
fn idle_visitors_make_room() {
    let mut world = World::new(20, 14);
    let identity = world.identity();
    let public = identity.public();
    let mut config = ServiceConfig::new(identity, vec![80]);
    config.circuits_max = 3;
    world.add(config);
    world.tell_network();
    world.run();
    let point = world.fetch(&public, None).unwrap().intro_points.remove(0);
    let visit = |world: &mut World| {
        let (visitor, body) = world.introduction(&public, &point, |_| ());
        world.introduce(&point.auth_key, &body);
        world.run();
        world.rendezvous(&visitor.cookie)
    };
    let used = visit(&mut world).unwrap();
    world.services.handle_stream(used);
    let idle = [visit(&mut world).unwrap(), visit(&mut world).unwrap()];
    assert_eq!(visit(&mut world), None, "they may be about to open one");
    world.run_for(11 * SECOND);
    assert!(visit(&mut world).is_some());
    let is_there = |world: &World, name| world.services.service_of(name).is_some();
    assert!(is_there(&world, used) && !is_there(&world, idle[0]) && is_there(&world, idle[1]));
    world.run_for(130 * SECOND);
    assert!(is_there(&world, used));
    assert_eq!(status(&world).counts.rdv_established_count, 1);
}

#[test]
fn removal_closes_everything_at_once() {
    let (mut world, id, identity) = World::published(20, 4);
    let point = world.fetch(&identity, None).unwrap().intro_points.remove(0);
    let (_, body) = world.introduction(&identity, &point, |_| ());
    world.introduce(&point.auth_key, &body);
    world.run();
    world.services.remove(id, world.now);
    world.run();
    assert!(world.circuits.is_empty());
    assert!(world.services.statuses().is_empty());
    assert_eq!(world.services.poll_timeout(), None);
    assert_eq!(world.opened, world.ended);
}

#[test]
fn a_change_keeps_what_stands() {
    let mut world = World::new(30, 15);
    let identity = world.identity();
    let public = identity.public();
    let same = || ExpandedKeypair::from_bytes(&identity.to_bytes());
    let id = world.add(ServiceConfig::new(same(), vec![80]));
    world.tell_network();
    world.run();
    world.run_for(2 * SECOND);
    let opened = world.opened;
    let before = world.fetch(&public, None).unwrap().intro_points;
    world
        .services
        .change(id, ServiceConfig::new(same(), vec![22]), world.now);
    world.run_for(2 * SECOND);
    assert_eq!(world.services.config(id).unwrap().ports, [22]);
    assert_eq!(world.opened, opened, "the descriptor says the same");

    let client = curve25519::SecretKey::generate(&mut world.rng);
    let mut config = ServiceConfig::new(same(), vec![22]);
    config.clients = vec![*client.public()];
    world.services.change(id, config, world.now);
    world.run_for(2 * SECOND);
    assert!(world.fetch(&public, None).is_none());
    let after = world.fetch(&public, Some(&client)).unwrap().intro_points;
    assert_eq!(after, before);
    assert_eq!(world.circuits_for(Purpose::IntroPoint).len(), 3);

    let mut config = ServiceConfig::new(same(), vec![22]);
    config.intro_points = 5;
    world.services.change(id, config, world.now);
    world.run_for(2 * SECOND);
    let more = world.fetch(&public, None).unwrap().intro_points;
    assert_eq!(more.len(), 5);
    assert!(before.iter().all(|point| more.contains(point)));
    world
        .services
        .change(id, ServiceConfig::new(same(), vec![22]), world.now);
    world.run_for(2 * SECOND);
    let fewer = world.fetch(&public, None).unwrap().intro_points;
    assert_eq!(fewer.len(), 3);
    assert!(fewer.iter().all(|point| more.contains(point)));
}

#[test]
fn hosts_before_there_is_a_network_and_many_at_once() {
    let mut world = World::new(40, 5);
    for _ in 0..10 {
        let identity = world.identity();
        world.add(ServiceConfig::new(identity, vec![80]));
    }
    world.run();
    assert_eq!(world.opened, 0);
    assert_eq!(world.services.poll_timeout(), None);
    world.tell_network();
    world.run();
    assert_eq!(world.outcomes.len(), 10);
    for status in world.services.statuses() {
        assert!(status.is_published);
        assert_eq!(status.descriptors.len(), 2);
        for descriptor in &status.descriptors {
            assert_eq!(descriptor.hsdirs.len(), 8);
            assert!(descriptor.hsdirs.iter().all(|dir| dir.revision.is_some()));
        }
    }
}

#[test]
fn uploads_of_many_services_wait_for_each_other() {
    let mut world = World::new(40, 14);
    world.is_lazy = true;
    for _ in 0..20 {
        let identity = world.identity();
        world.add(ServiceConfig::new(identity, vec![80]));
    }
    world.tell_network();
    world.run();
    let mut most = 0;
    while let Some(name) = world.circuits.iter().find(|(_, it)| !it.is_built) {
        let name = *name.0;
        world.build(name);
        world.run();
        let uploads = world.circuits_for(Purpose::Upload);
        most = most.max(uploads.len());
        if uploads.len() == 64 {
            let first = world.requests.keys().next().copied();
            first.into_iter().for_each(|name| world.reply(name));
            world.run();
        }
    }
    while let Some(name) = world.requests.keys().next().copied() {
        world.reply(name);
        world.run();
        let unbuilt = world.circuits.iter().filter(|(_, it)| !it.is_built);
        let unbuilt: Vec<_> = unbuilt.map(|(name, _)| *name).collect();
        unbuilt.into_iter().for_each(|name| world.build(name));
        world.run();
    }
    assert_eq!(most, 64);
    assert_eq!(world.outcomes.len(), 20);
    assert!(world.circuits_for(Purpose::Upload).is_empty());
}

#[test]
fn a_lost_point_is_established_again_with_its_keys() {
    let (mut world, _, identity) = World::published(20, 6);
    let before = world.fetch(&identity, None).unwrap().intro_points;
    let circuit = world.intro_circuit(&before[0].auth_key).unwrap();
    world.end(circuit, Ending::Closed);
    world.run();
    let again = world.intro_circuit(&before[0].auth_key).unwrap();
    assert_ne!(circuit, again);
    world.run_for(HOUR / 2);
    assert_eq!(world.fetch(&identity, None).unwrap().intro_points, before);
}

#[test]
fn a_dead_point_is_replaced_within_seconds() {
    let (mut world, _, identity) = World::published(20, 7);
    let before = world.fetch(&identity, None).unwrap().intro_points;
    let dead = before[0].link_specifiers.rsa_id().unwrap();
    world.kill(dead);
    world.run_for(15 * SECOND);
    let after = world.fetch(&identity, None).unwrap().intro_points;
    assert_eq!(after.len(), 3);
    assert!(
        after
            .iter()
            .all(|it| it.link_specifiers.rsa_id() != Some(dead))
    );
    assert!(
        after
            .iter()
            .all(|it| world.intro_circuit(&it.auth_key).is_some())
    );
}

#[test]
fn points_are_replaced_by_age_while_the_old_ones_still_serve() {
    let (mut world, _, identity) = World::published(30, 8);
    let before = world.fetch(&identity, None).unwrap().intro_points;
    let keys = |points: &[cepa_netdoc::hs_descriptor::IntroPoint]| {
        points.iter().map(|it| it.auth_key).collect::<Vec<_>>()
    };
    let mut seen = 0;
    for _ in 0..(26 * 6) {
        world.run_for(600 * SECOND);
        world.vote();
        world.run();
        let points = world.fetch(&identity, None).unwrap().intro_points;
        assert_eq!(points.len(), 3);
        assert!(
            points
                .iter()
                .all(|it| world.intro_circuit(&it.auth_key).is_some())
        );
        seen = seen.max(world.circuits_for(Purpose::IntroPoint).len());
    }
    let after = world.fetch(&identity, None).unwrap().intro_points;
    assert!(keys(&after).iter().all(|key| !keys(&before).contains(key)));
    assert!((4..=9).contains(&seen), "{seen} at once");
    world.run_for(4 * HOUR);
    assert!(
        keys(&before)
            .iter()
            .all(|key| world.intro_circuit(key).is_none())
    );
    assert_eq!(world.refused, 0);
}

#[test]
fn a_point_that_leaves_the_consensus_is_replaced() {
    let (mut world, _, identity) = World::published(20, 9);
    let before = world.fetch(&identity, None).unwrap().intro_points;
    let gone = before[0].link_specifiers.rsa_id().unwrap();
    let relay = world.relays.iter_mut().find(|it| it.rsa == gone).unwrap();
    relay.flags = Flags::VALID;
    world.pass(VOTING_SECONDS as u32 * SECOND);
    world.vote();
    world.run_for(2 * SECOND);
    let after = world.fetch(&identity, None).unwrap().intro_points;
    assert!(
        after
            .iter()
            .all(|it| it.link_specifiers.rsa_id() != Some(gone))
    );
    assert!(
        world.intro_circuit(&before[0].auth_key).is_some(),
        "for those who know it"
    );
    let retiring = status(&world).intro_points.into_iter();
    let retiring = retiring.filter(|it| it.state == IntroPointState::Retiring);
    assert_eq!(retiring.count(), 1);
}

#[test]
fn waits_out_an_outage_and_is_back_soon_after() {
    let (mut world, _, identity) = World::published(20, 10);
    world.is_online = false;
    let names = world.circuits_for(Purpose::IntroPoint);
    names
        .iter()
        .for_each(|name| world.end(*name, Ending::Closed));
    let before = world.opened;
    world.run_for(HOUR);
    assert!(
        world.opened - before < 400,
        "{} tries",
        world.opened - before
    );
    world.is_online = true;
    world.vote();
    world.run_for(90 * SECOND);
    let points = world.fetch(&identity, None).unwrap().intro_points;
    assert_eq!(points.len(), 3);
    assert!(
        points
            .iter()
            .all(|it| world.intro_circuit(&it.auth_key).is_some())
    );
}

#[test]
fn a_small_network_gives_what_it_has() {
    let mut world = World::new(2, 11);
    let identity = world.identity();
    let public = identity.public();
    world.add(ServiceConfig::new(identity, vec![80]));
    world.tell_network();
    world.run();
    assert_eq!(world.outcomes.len(), 1);
    assert_eq!(world.fetch(&public, None).unwrap().intro_points.len(), 2);
    assert!(world.services.poll_timeout().unwrap() > world.now.mono);
}

#[test]
fn slow_points_are_waited_for_a_little() {
    let mut world = World::new(20, 12);
    let identity = world.identity();
    let public = identity.public();
    // All but one relay swallow what they are sent: their circuits never stand.
    world.add(ServiceConfig::new(identity, vec![80]));
    world.tell_network();
    let mut opens = Vec::new();
    while let Some(action) = world.services.poll_action() {
        opens.push(action);
    }
    let mut opens = opens.into_iter();
    world.act(opens.next().unwrap());
    world.run();
    assert!(world.outcomes.is_empty(), "one of three stands");
    world.run_for(4 * SECOND);
    assert_eq!(world.outcomes.len(), 1);
    assert_eq!(world.fetch(&public, None).unwrap().intro_points.len(), 1);
    opens.for_each(|action| world.act(action));
    world.run_for(2 * SECOND);
    assert_eq!(world.fetch(&public, None).unwrap().intro_points.len(), 3);
    assert_eq!(world.circuits_for(Purpose::IntroPoint).len(), 3);
}

#[test]
fn visitors_find_it_through_all_periods_whatever_their_consensus() {
    let (mut world, _, identity) = World::published(60, 13);
    let mut periods = std::collections::BTreeSet::new();
    for round in 0..100_u64 {
        let older = world.view.clone();
        world.run_for(VOTING_SECONDS as u32 * SECOND);
        // Relays come and go.
        let at = usize::try_from(world.rng.below(60)).unwrap();
        let relay = &mut world.relays[at];
        relay.flags = if relay.flags.contains(Flags::RUNNING) {
            Flags::VALID
        } else {
            relay.flags | Flags::RUNNING | Flags::FAST | Flags::STABLE | Flags::HS_DIR
        };
        world.vote();
        world.run();
        for view in [&older, &world.view] {
            let found = world.found(view, &identity);
            assert!(found.len() >= 3, "round {round}: {}", found.len());
        }
        let period = hsring::fetch_ring(&world.view).period();
        periods.insert(period);
        assert!(onion::blind(&identity, period).is_some());
    }
    assert!(periods.len() > 4);
    assert_eq!(world.refused, 0);
    assert_eq!(
        world.outcomes,
        [ServiceOutcome::Published {
            service: status(&world).service
        }]
    );
}

#[test]
fn introduction_points_are_none_of_the_excluded() {
    let mut world = World::new(12, 1);
    let identity = world.identity();
    let id = world.add(ServiceConfig::new(identity, vec![80]));
    let excluded = ["relay1", "relay2", "relay3", "relay4", "relay5", "relay6"];
    let rules = Rules {
        exclude: RelaySet(excluded.map(|word| word.parse().unwrap()).to_vec()),
        ..Rules::default()
    };
    world.permits = rules.permits(world.view.consensus());
    world.tell_network();
    world.run();
    let statuses = world.services.statuses();
    let service = statuses.iter().find(|one| one.service == id).unwrap();
    assert!(service.intro_points.len() >= 3);
    for point in &service.intro_points {
        assert!(!world.permits.shuns(&point.relay), "{}", point.relay);
    }
}
