//! What visits do when all is well, and how long they stay.

use std::time::Duration;

use cepa_crypto::{RsaId, curve25519, ed25519};

use super::super::visit::{IDLE_MAX, VISIT_MAX};
use super::super::*;
use super::world::{Dir, World};
use crate::onion::action::Purpose;
use crate::select::rules::{RelaySet, Rules};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_visit_takes_one_of_each_and_keeps_the_rendezvous() {
    let mut world = World::new();
    let (visit, circuit) = world.ready();
    assert_eq!(world.visits.circuit(visit), Some(circuit));
    assert_eq!(world.visits.address(visit), Some(world.address));
    assert_eq!(world.open_circuits(), [circuit]);
    assert_eq!(
        &world.trace[..2],
        ["open Rendezvous", "open Fetch"],
        "both at once"
    );
    for what in ["open Fetch", "open Introduce", "open Rendezvous", "join"] {
        assert_eq!(world.count(what), 1, "{what}");
    }
    assert_eq!(world.visits.poll_outcome(), None);
}

#[test]
fn streams_of_one_isolation_share_the_circuit_and_others_the_descriptor() {
    let mut world = World::new();
    let (visit, circuit) = world.ready();
    assert_eq!(
        world.visit(),
        (visit, Some(Outcome::Ready { visit, circuit }))
    );
    let other = World::isolation(1);
    let second = world.visits.request(world.address, &other, world.now);
    let again = world.visits.request(world.address, &other, world.now);
    assert!(second == again && second != visit);
    world.run();
    let Some(Outcome::Ready { circuit: other, .. }) = world.visits.poll_outcome() else {
        panic!("{:#?}", world.trace);
    };
    assert_ne!(other, circuit);
    assert_eq!(world.visits.poll_outcome(), None, "one answer for both");
    assert_eq!((world.count("open Fetch"), world.count("join")), (1, 2));
}

#[test]
fn a_client_key_opens_what_is_for_clients() {
    let mut world = World::new();
    let key = curve25519::SecretKey::generate(&mut world.rng);
    let other = curve25519::SecretKey::generate(&mut world.rng);
    world.clients.push(*key.public());
    assert_eq!(world.error(), VisitError::ClientKeyMissing);
    assert_eq!(world.error(), VisitError::ClientKeyMissing);
    world.visits.add_client_key(world.address, other);
    assert_eq!(world.error(), VisitError::ClientKeyWrong);
    for _ in 0..7 {
        assert_eq!(
            world.error(),
            VisitError::ClientKeyWrong,
            "whoever is asked"
        );
    }
    world.visits.add_client_key(world.address, key);
    world.ready();
    assert!(world.visits.remove_client_key(&world.address));
    assert!(!world.visits.remove_client_key(&world.address));
    let other = World::isolation(1);
    world.visits.request(world.address, &other, world.now);
    world.run();
    let outcome = world.visits.poll_outcome();
    assert!(
        matches!(
            outcome,
            Some(Outcome::Failed {
                error: VisitError::ClientKeyMissing,
                ..
            })
        ),
        "{outcome:?}"
    );
}

#[test]
fn a_key_that_is_not_needed_does_no_harm() {
    let mut world = World::new();
    let key = curve25519::SecretKey::generate(&mut world.rng);
    world.visits.add_client_key(world.address, key);
    world.ready();
}

#[test]
fn a_ready_visit_ends_with_its_circuit_and_the_next_begins_anew() {
    let mut world = World::new();
    let (visit, circuit) = world.ready();
    world.visits.used(visit);
    world.end(circuit, crate::onion::Ending::Closed);
    assert_eq!(world.visits.poll_outcome(), Some(Outcome::Lost { visit }));
    assert_eq!(world.visits.circuit(visit), None);
    let (next, _) = world.ready();
    assert_ne!(next, visit);
    assert_eq!(world.count("open Fetch"), 1, "the descriptor is still good");
}

#[test]
fn a_circuit_that_does_not_do_is_left() {
    let mut world = World::new();
    let (visit, _) = world.ready();
    world.visits.abandon(visit, world.now);
    world.run();
    assert_eq!(world.open_circuits(), []);
    assert_eq!(world.visits.poll_outcome(), Some(Outcome::Lost { visit }));
    world.visits.abandon(visit, world.now);
    assert_eq!(world.visits.poll_outcome(), None);
}

#[test]
fn an_idle_circuit_is_closed_after_a_while() {
    let mut world = World::new();
    let (visit, circuit) = world.ready();
    world.visits.used(visit);
    world.pass(2 * IDLE_MAX);
    assert_eq!(world.open_circuits(), [circuit]);
    world.visits.idle(visit, world.now);
    world.pass(IDLE_MAX - SECOND);
    assert_eq!(world.open_circuits(), [circuit]);
    world.pass(SECOND);
    assert_eq!(world.open_circuits(), []);
    assert_eq!(world.visits.poll_outcome(), Some(Outcome::Lost { visit }));
    assert!(world.visits.poll_timeout().is_none());
}

#[test]
fn a_visit_waits_for_the_network() {
    let mut world = World::without_network();
    let (_, outcome) = world.visit();
    assert_eq!((outcome, world.count("open Fetch")), (None, 0));
    world.pass(5 * SECOND);
    world.meet_network();
    world.run();
    let outcome = world.visits.poll_outcome();
    assert!(
        matches!(outcome, Some(Outcome::Ready { .. })),
        "{outcome:?}"
    );

    let mut world = World::without_network();
    let begun = world.now.mono;
    assert_eq!(world.error(), VisitError::DescriptorNotFound);
    assert_eq!(world.now.mono - begun, VISIT_MAX);
}

#[test]
fn a_new_period_has_descriptors_of_its_own() {
    let mut world = World::new();
    let (visit, circuit) = world.ready();
    world.now.mono += 600 * SECOND / 2;
    world.now.wall += 600 * SECOND;
    world.meet_network();
    assert_eq!(world.visits.shared.cache.len(), 0);
    assert_eq!(world.visits.circuit(visit), Some(circuit), "it is not lost");
    world.end(circuit, crate::onion::Ending::Closed);
    world.visits.poll_outcome();
    world.ready();
    assert_eq!(world.count("open Fetch"), 2);
}

#[test]
fn a_fetch_of_the_last_period_begins_again() {
    let mut world = World::new();
    world.dirs.push_back(Dir::Silent);
    let (_, outcome) = world.visit();
    assert_eq!(outcome, None);
    world.now.wall += 600 * SECOND;
    world.meet_network();
    world.run();
    let outcome = world.visits.poll_outcome();
    assert!(
        matches!(outcome, Some(Outcome::Ready { .. })),
        "{outcome:?}"
    );
    assert_eq!(world.count("close Fetch"), 2);
}

#[test]
fn a_visit_that_is_cancelled_leaves_nothing() {
    let mut world = World::new();
    world.dirs.push_back(Dir::Silent);
    let (visit, _) = world.visit();
    assert_eq!(world.open_circuits().len(), 2);
    world.visits.cancel(visit, world.now);
    world.run();
    assert_eq!(world.open_circuits(), []);
    assert_eq!(world.visits.poll_outcome(), None);
    assert!(world.visits.poll_timeout().is_none());
    let (visit, circuit) = world.ready();
    world.visits.cancel(visit, world.now);
    assert_eq!(
        world.visits.circuit(visit),
        Some(circuit),
        "a ready one stays"
    );
}

#[test]
fn a_fetch_goes_on_while_another_waits_for_it() {
    let mut world = World::new();
    world.dirs.push_back(Dir::Silent);
    let (visit, _) = world.visit();
    let other = World::isolation(1);
    world.visits.request(world.address, &other, world.now);
    world.visits.cancel(visit, world.now);
    world.run();
    let open = world.open_circuits();
    assert!(open.iter().any(|c| world.purpose(*c) == Purpose::Fetch));
    assert!(matches!(world.wait(), Outcome::Ready { .. }));
}

#[test]
fn visits_are_bounded_and_idle_ones_make_room() {
    let mut world = World::new();
    let (idle, _) = world.ready();
    let before = world.visits.visits.len();
    for n in before..VISITS_MAX {
        let key = ed25519::Keypair::generate(&mut world.rng).public();
        let address = OnionAddress::new(&key).unwrap();
        let isolation = World::isolation(u64::try_from(n).unwrap());
        world.visits.request(address, &isolation, world.now);
    }
    assert_eq!(world.visits.visits.len(), VISITS_MAX);
    assert_eq!(world.visits.poll_outcome(), None);
    let isolation = World::isolation(1);
    world.visits.request(world.address, &isolation, world.now);
    assert_eq!(world.visits.visits.len(), VISITS_MAX);
    let lost = Some(Outcome::Lost { visit: idle });
    assert_eq!(world.visits.poll_outcome(), lost);
    let isolation = World::isolation(2);
    let visit = world.visits.request(world.address, &isolation, world.now);
    let error = VisitError::TooMany;
    let refused = Some(Outcome::Failed { visit, error });
    assert_eq!(world.visits.poll_outcome(), refused);
}

#[test]
fn a_new_identity_forgets() {
    let mut world = World::new();
    world.ready();
    world.visits.forget_all();
    assert_eq!(world.visits.shared.cache.len(), 0);
    let other = World::isolation(1);
    world.visits.request(world.address, &other, world.now);
    world.run();
    assert_eq!(world.count("open Fetch"), 2);
}

#[test]
fn excluded_relays_come_last() {
    for seed in 1..=10 {
        let mut world = World::new();
        world.visits.shared.rng = Rng::from_seed([seed; 32]);
        // Half of the directories, and the relays of two of the three introduction points.
        let points: Vec<RsaId> = (world.points.iter())
            .map(|point| RsaId::from([point.relay as u8 + 1; 20]))
            .collect();
        let is_excluded =
            |id: &RsaId| points[..2].contains(id) || id.as_bytes()[0].is_multiple_of(2);
        let relays = (0..=255).map(|n| RsaId::from([n; 20]));
        let excluded: Vec<String> = relays
            .filter(|id| is_excluded(id) && *id != points[2])
            .map(|id| format!("${id}"))
            .collect();
        let rules = Rules {
            exclude: RelaySet(excluded.iter().map(|word| word.parse().unwrap()).collect()),
            ..Rules::default()
        };
        world.permits = rules.permits(world.view().consensus());
        world.meet_network();
        world.dirs = (0..6).map(|_| Dir::Missing).collect();
        assert_eq!(world.error(), VisitError::DescriptorNotFound);
        let shunned: Vec<bool> = world
            .asked
            .iter()
            .map(|id| world.permits.shuns(id))
            .collect();
        assert!(shunned.is_sorted() && shunned.len() == 6, "{shunned:?}");
        world.dirs.clear();
        world.pass(Duration::from_secs(6));
        world.ready();
        assert_eq!(world.introduced, points[2..]);
    }
}
