//! What visitors, and those who only pretend to be, can do with an INTRODUCE2.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use cepa_crypto::RsaId;
use cepa_crypto::ed25519::PublicKey;
use cepa_crypto::hs_ntor::ClientState;
use cepa_crypto::onion::{self, OnionAddress};
use cepa_dir::hsring;
use cepa_netdoc::hs_descriptor::IntroPoint;
use cepa_wire::intro_plaintext::{IntroPlaintext, PowSolution};
use cepa_wire::linkspec::{LinkSpecifier, LinkSpecifiers};

use super::world::World;
use crate::onion::action::{Ending, Purpose};
use crate::onion::services::{IntroDrop, ServiceConfig, Services};

const SECOND: Duration = Duration::from_secs(1);

fn dropped(world: &World) -> BTreeMap<IntroDrop, u64> {
    let status = world.services.statuses().remove(0);
    status.counts.intro_rejected_intro_req_count
}

/// A published service and its first point.
fn called(seed: u8) -> (World, PublicKey, IntroPoint) {
    let (world, _, identity) = World::published(20, seed);
    let point = world.fetch(&identity, None).unwrap().intro_points.remove(0);
    (world, identity, point)
}

#[test]
fn the_same_introduction_twice_is_one_meeting() {
    let (mut world, identity, point) = called(21);
    let (visitor, body) = world.introduction(&identity, &point, |_| ());
    world.introduce(&point.auth_key, &body);
    world.introduce(&point.auth_key, &body);
    let cookie = visitor.cookie;
    let (_, other) = world.introduction(&identity, &point, |it| it.cookie = cookie);
    world.introduce(&point.auth_key, &other);
    world.run();
    assert_eq!(world.circuits_for(Purpose::ServiceRendezvous).len(), 1);
    let expected = [(IntroDrop::Replay, 1), (IntroDrop::CookieReplay, 1)];
    assert_eq!(dropped(&world), BTreeMap::from(expected));
    assert!(expected.iter().all(|(drop, _)| drop.reason() == "replay"));
}

#[test]
fn what_was_changed_on_the_way_is_dropped() {
    let (mut world, identity, point) = called(22);
    let (_, body) = world.introduction(&identity, &point, |_| ());
    for at in 0..body.len() {
        let mut changed = body.clone();
        changed[at] ^= 1;
        world.introduce(&point.auth_key, &changed);
        world.pass(SECOND / 100);
    }
    for len in 0..body.len() {
        world.introduce(&point.auth_key, &body[..len]);
        world.pass(SECOND / 100);
    }
    let longer = [body.as_slice(), &[0; 500]].concat();
    world.introduce(&point.auth_key, &longer);
    world.run();
    assert!(world.circuits_for(Purpose::ServiceRendezvous).is_empty());
    let dropped = dropped(&world);
    let total: u64 = dropped.values().sum();
    assert_eq!(total, u64::try_from(2 * body.len() + 1).unwrap());
    let kinds = [IntroDrop::Malformed, IntroDrop::AuthKey, IntroDrop::Mac];
    assert!(dropped.keys().eq(kinds.iter()), "{dropped:?}");
    world.introduce(&point.auth_key, &body);
    world.run();
    assert_eq!(
        world.circuits_for(Purpose::ServiceRendezvous).len(),
        1,
        "still heard"
    );
}

#[test]
fn congestion_control_is_used_where_it_is_asked_for() {
    for asked in [true, false] {
        let (mut world, identity, point) = called(24);
        let (_, body) = world.introduction(&identity, &point, |it| it.cc_request = asked);
        world.introduce(&point.auth_key, &body);
        world.run();
        let [circuit] = world.circuits_for(Purpose::ServiceRendezvous)[..] else {
            panic!("one comes");
        };
        let agreed = world.circuits[&circuit].congestion;
        assert_eq!(agreed, asked.then_some(31), "as the descriptor offers");
    }
}

#[test]
fn what_cannot_be_done_is_dropped_by_its_reason() {
    let (mut world, identity, point) = called(23);
    let address = LinkSpecifier::Ipv4(SocketAddrV4::new([127, 0, 0, 1].into(), 0));
    type Change = Box<dyn FnOnce(&mut IntroPlaintext)>;
    let pow = PowSolution {
        nonce: [1; 16],
        effort: 1,
        seed_head: [2; 4],
        solution: [3; 16],
    };
    let rsa = RsaId::from([0; 20]);
    let mut small_order = [0; 32];
    small_order[0] = 1;
    let changes: [(IntroDrop, Change); 7] = [
        (
            IntroDrop::LinkSpecifiers,
            Box::new(|it| it.onion_key = [0; 32].into()),
        ),
        (
            IntroDrop::LinkSpecifiers,
            Box::new(move |it| it.onion_key = small_order.into()),
        ),
        (
            IntroDrop::ProofOfWork,
            Box::new(move |it| it.pow = Some(pow)),
        ),
        (
            IntroDrop::LinkSpecifiers,
            Box::new(|it| it.link_specifiers = LinkSpecifiers::default()),
        ),
        (
            IntroDrop::LinkSpecifiers,
            Box::new(|it| {
                it.link_specifiers.0.remove(0);
            }),
        ),
        (
            IntroDrop::LinkSpecifiers,
            Box::new(move |it| it.link_specifiers.0[0] = address),
        ),
        (
            IntroDrop::LinkSpecifiers,
            Box::new(move |it| it.link_specifiers.0[1] = LinkSpecifier::Rsa(rsa)),
        ),
    ];
    let mut expected = BTreeMap::new();
    for (reason, change) in changes {
        let (_, body) = world.introduction(&identity, &point, change);
        world.introduce(&point.auth_key, &body);
        *expected.entry(reason).or_default() += 1;
    }
    world.run();
    assert_eq!(dropped(&world), expected);
    assert!(world.circuits_for(Purpose::ServiceRendezvous).is_empty());
}

#[test]
fn another_points_key_is_not_this_ones() {
    let (mut world, identity, point) = called(24);
    let points = world.fetch(&identity, None).unwrap().intro_points;
    let (_, body) = world.introduction(&identity, &point, |_| ());
    world.introduce(&points[1].auth_key, &body);
    assert_eq!(dropped(&world), BTreeMap::from([(IntroDrop::AuthKey, 1)]));
}

/// A message with any plaintext, authentic.
fn sealed(world: &mut World, identity: &PublicKey, point: &IntroPoint, clear: &[u8]) -> Vec<u8> {
    let period = hsring::fetch_ring(&world.view).period();
    let blinded = onion::blind(identity, period).unwrap();
    let subcredential = onion::subcredential(identity, &blinded);
    let begun = ClientState::begin(
        &mut world.rng,
        &point.enc_key,
        &point.auth_key,
        &subcredential,
    );
    let (state, keys) = begun.unwrap();
    let mut clear = clear.to_vec();
    keys.crypt(&mut clear);
    let head = [&[0; 20][..], &[2, 0, 32], point.auth_key.as_bytes(), &[0]].concat();
    let mut body = [&head[..], state.public().as_bytes(), &clear].concat();
    let mac = keys.mac(&body);
    body.extend_from_slice(&mac);
    body
}

#[test]
fn unknown_extensions_are_ignored_and_nonsense_is_not() {
    let (mut world, identity, point) = called(25);
    let relay = world.view.relays()[0].clone();
    let specifiers = LinkSpecifiers::new(Some(relay.or_addr), relay.rsa_id, None, None);
    let mut tail = [&[1, 0, 32][..], relay.ntor_key.as_bytes()].concat();
    specifiers.write(&mut tail).unwrap();
    let unknown = [&[7; 20][..], &[2, 99, 3, 1, 2, 3, 200, 0], &tail].concat();
    let overlong = [&[8; 20][..], &[1, 99, 255, 1, 2, 3], &tail].concat();
    let body = sealed(&mut world, &identity, &point, &unknown);
    world.introduce(&point.auth_key, &body);
    world.run();
    assert!(world.rendezvous(&[7; 20]).is_some());
    for clear in [&overlong[..], &[], &[1; 300]] {
        let body = sealed(&mut world, &identity, &point, clear);
        world.introduce(&point.auth_key, &body);
    }
    world.run();
    assert_eq!(world.circuits_for(Purpose::ServiceRendezvous).len(), 1);
    assert_eq!(dropped(&world).values().sum::<u64>(), 3);
}

#[test]
fn a_flood_is_looked_at_in_part_only() {
    let (mut world, identity, point) = called(26);
    let (_, body) = world.introduction(&identity, &point, |_| ());
    let mut junk = body.clone();
    for n in 0..20_000_u32 {
        let at = junk.len() - 4;
        junk[at..].copy_from_slice(&n.to_be_bytes());
        world.introduce(&point.auth_key, &junk);
        world.pass(SECOND / 10_000);
    }
    let dropped = dropped(&world);
    assert!(dropped[&IntroDrop::Mac] <= 1000, "{dropped:?}");
    assert!(dropped[&IntroDrop::Rate] >= 19_000);
    world.pass(SECOND);
    world.introduce(&point.auth_key, &body);
    world.run();
    assert_eq!(world.circuits_for(Purpose::ServiceRendezvous).len(), 1);
}

#[test]
fn a_service_answers_for_the_masters_that_it_knows() {
    let mut world = World::new(20, 29);
    let [identity, front, other] = [(); 3].map(|()| world.identity());
    let public = identity.public();
    let mut config = ServiceConfig::new(identity, vec![80]);
    config.masters = vec![OnionAddress::new(&front.public()).unwrap()];
    world.add(config);
    world.tell_network();
    world.run();
    let point = world.fetch(&public, None).unwrap().intro_points.remove(0);
    for (count, identity) in [(1, &front.public()), (1, &other.public()), (2, &public)] {
        let (_, body) = world.introduction(identity, &point, |_| ());
        world.introduce(&point.auth_key, &body);
        world.run();
        let met = world.circuits_for(Purpose::ServiceRendezvous).len();
        assert_eq!(met, count);
    }
    assert_eq!(dropped(&world), BTreeMap::from([(IntroDrop::Mac, 1)]));
    // A period later, its descriptors are others, and so are the master's.
    world.run_for(SECOND * 86_400);
    let point = world.fetch(&public, None).unwrap().intro_points.remove(0);
    let before = world.circuits_for(Purpose::ServiceRendezvous).len();
    let (_, body) = world.introduction(&front.public(), &point, |_| ());
    world.introduce(&point.auth_key, &body);
    world.run();
    let met = world.circuits_for(Purpose::ServiceRendezvous).len();
    assert_eq!(met, before + 1);
}

#[test]
fn a_service_takes_no_more_circuits_than_it_may() {
    let mut world = World::new(20, 27);
    let identity = world.identity();
    let public = identity.public();
    let mut config = ServiceConfig::new(identity, vec![80]);
    config.circuits_max = 5;
    world.add(config);
    world.tell_network();
    world.run();
    let point = world.fetch(&public, None).unwrap().intro_points.remove(0);
    for _ in 0..8 {
        let (_, body) = world.introduction(&public, &point, |_| ());
        world.introduce(&point.auth_key, &body);
        world.run();
    }
    assert_eq!(world.circuits_for(Purpose::ServiceRendezvous).len(), 5);
    assert_eq!(dropped(&world), BTreeMap::from([(IntroDrop::Circuits, 3)]));
    let left = world.circuits_for(Purpose::ServiceRendezvous)[0];
    world.end(left, Ending::Closed);
    let (_, body) = world.introduction(&public, &point, |_| ());
    world.introduce(&point.auth_key, &body);
    world.run();
    assert_eq!(world.circuits_for(Purpose::ServiceRendezvous).len(), 5);
}

#[test]
fn a_rendezvous_point_is_tried_three_times() {
    let (mut world, identity, point) = called(28);
    let (_, body) = world.introduction(&identity, &point, |_| ());
    world.is_online = false;
    let before = world.opened;
    world.introduce(&point.auth_key, &body);
    world.run();
    assert_eq!(world.opened - before, 3);
    assert!(world.circuits_for(Purpose::ServiceRendezvous).is_empty());
    let counts = world.services.statuses().remove(0).counts;
    assert_eq!((counts.rdv_num_total, counts.rdv_error_count), (1, 1));
}

#[test]
fn nobody_is_met_at_a_private_address_but_in_a_test() {
    let mut world = World::new(20, 29);
    world.services = Services::new(world.rng.fork(), false);
    let identity = world.identity();
    let public = identity.public();
    world.add(ServiceConfig::new(identity, vec![80]));
    world.tell_network();
    world.run();
    let point = world.fetch(&public, None).unwrap().intro_points.remove(0);
    let (_, body) = world.introduction(&public, &point, |_| ());
    world.introduce(&point.auth_key, &body);
    let (visitor, body) = world.introduction(&public, &point, |it| {
        let public = SocketAddrV4::new([198, 41, 0, 4].into(), 443);
        it.link_specifiers.0[0] = LinkSpecifier::Ipv4(public);
    });
    world.introduce(&point.auth_key, &body);
    world.run();
    assert!(world.rendezvous(&visitor.cookie).is_some());
    let expected = BTreeMap::from([(IntroDrop::LinkSpecifiers, 1)]);
    assert_eq!(dropped(&world), expected);
}
