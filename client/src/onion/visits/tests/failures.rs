//! What visits do when others fail or lie, and which error comes of it.

use std::collections::BTreeSet;
use std::time::Duration;

use cepa_wire::relay::RelayCommand;

use super::super::*;
use super::world::{Dir, Intro, Rend, World};
use crate::names::Owner;
use crate::onion::action::Ending;

const SECOND: Duration = Duration::from_secs(1);

fn repeat<T: Clone>(what: T, times: usize) -> std::collections::VecDeque<T> {
    std::iter::repeat_n(what, times).collect()
}

#[test]
fn no_directory_has_it() {
    let mut world = World::new();
    world.dirs = repeat(Dir::Missing, 100);
    assert_eq!(world.error(), VisitError::DescriptorNotFound);
    let asked: BTreeSet<_> = world.asked.iter().copied().collect();
    assert_eq!((asked.len(), world.asked.len()), (6, 6), "each once");
    assert_eq!(world.error(), VisitError::DescriptorNotFound);
    assert_eq!(world.asked.len(), 6, "none is asked again at once");
    world.pass(5 * SECOND);
    world.dirs.clear();
    world.ready();
    assert_eq!(world.asked.len(), 7);
}

#[test]
fn the_next_directory_is_asked_if_one_fails() {
    let failures = [
        Dir::Missing,
        Dir::Garbage,
        Dir::Silent,
        Dir::Dead(Ending::LastHop),
        Dir::Dead(Ending::Timeout),
    ];
    for failure in failures {
        let mut world = World::new();
        world.dirs.push_back(failure.clone());
        let begun = world.now.mono;
        world.ready();
        let took = world.now.mono - begun;
        assert!(took <= 8 * SECOND, "{failure:?}: {took:?}");
        assert_eq!(world.asked.len(), 2, "{failure:?}");
        assert_ne!(world.asked[0], world.asked[1]);
    }
}

#[test]
fn a_bad_descriptor_counts_more_than_none() {
    let mut world = World::new();
    world.dirs = [Dir::Garbage]
        .into_iter()
        .chain(repeat(Dir::Missing, 9))
        .collect();
    assert_eq!(world.error(), VisitError::DescriptorInvalid);
    assert_eq!(world.asked.len(), 6);
}

#[test]
fn a_descriptor_of_another_service_is_invalid() {
    let mut world = World::new();
    world.dirs = repeat(Dir::Silent, 1);
    world.visit();
    let circuit = world.open_circuits()[1];
    let period = world.period();
    let body = World::of_service(10).descriptor(period).into_bytes();
    let reply = cepa_dir::fetch::Reply { status: 200, body };
    world.dirs = repeat(Dir::Missing, 9);
    let event = Event::Reply { circuit, reply };
    world.visits.handle_event(event, world.now);
    world.run();
    let outcome = world.visits.poll_outcome();
    let Some(Outcome::Failed { error, .. }) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(error, VisitError::DescriptorInvalid);
}

#[test]
fn without_paths_the_visit_fails_in_time() {
    let mut world = World::new();
    world.dirs = repeat(Dir::Dead(Ending::NoPath), 100);
    assert_eq!(world.error(), VisitError::NoPath);
    assert_eq!(world.asked.len(), 12, "each twice");

    let mut world = World::new();
    world.dirs = repeat(Dir::Dead(Ending::NoPath), 3);
    world.intros = repeat(Intro::Dead(Ending::NoPath), 3);
    world.rends = repeat(Rend::Dead(Ending::NoPath), 3);
    world.ready();
}

#[test]
fn an_introduction_point_that_fails_gives_way_to_another() {
    let failures = [
        Intro::Nack(1),
        Intro::Nack(2),
        Intro::Nack(999),
        Intro::BadAck,
        Intro::Silent,
        Intro::Closes,
        Intro::WrongAuth,
        Intro::AckOnly,
        Intro::Dead(Ending::LastHop),
        Intro::Dead(Ending::Timeout),
        Intro::Dead(Ending::NoPath),
    ];
    for failure in failures {
        let mut world = World::new();
        world.intros.push_back(failure.clone());
        let begun = world.now.mono;
        world.ready();
        assert!(world.now.mono - begun <= 12 * SECOND, "{failure:?}");
        assert_eq!(world.count("open Introduce"), 2, "{failure:?}");
        // It asks whether the service is elsewhere, too.
        let doubts = match failure {
            Intro::Nack(_) | Intro::BadAck => 1,
            Intro::AckOnly => 7,
            _ => 0,
        };
        assert_eq!(world.count("open Fetch"), 1 + doubts, "{failure:?}");
        // Where the service may have heard of it, its cookie is not used again.
        let rendezvous = match failure {
            Intro::Silent | Intro::Closes | Intro::WrongAuth | Intro::AckOnly => 2,
            _ => 1,
        };
        assert_eq!(world.count("open Rendezvous"), rendezvous, "{failure:?}");
        assert_eq!(world.open_circuits().len(), 1, "{failure:?}");
    }
}

#[test]
fn the_service_may_be_faster_than_the_answer() {
    let mut world = World::new();
    world.intros.push_back(Intro::NoAck);
    world.ready();
    assert_eq!(world.open_circuits().len(), 1);
}

#[test]
fn a_new_descriptor_is_fetched_when_all_points_failed() {
    let mut world = World::new();
    let (_, circuit) = world.ready();
    world.end(circuit, Ending::Closed);
    world.visits.poll_outcome();
    // The service was killed and is back.
    world.renew_points();
    world.intros = repeat(Intro::Nack(1), 3);
    world.ready();
    assert_eq!(
        (world.count("open Fetch"), world.count("open Introduce")),
        (2, 5)
    );
}

#[test]
fn a_service_that_has_moved_is_found_though_its_old_points_accept() {
    let mut world = World::new();
    let (_, circuit) = world.ready();
    world.end(circuit, Ending::Closed);
    world.visits.poll_outcome();
    // It was killed and is back, but relays have not noticed that its old circuits are dead.
    world.renew_points();
    world.intros = repeat(Intro::AckOnly, 1);
    let begun = world.now.mono;
    world.ready();
    assert!(world.now.mono - begun <= 3 * SECOND);
    assert_eq!(world.count("open Introduce"), 3);
    assert_eq!(world.count("open Fetch"), 2);
    assert_eq!(world.open_circuits().len(), 1);
}

#[test]
fn a_service_that_is_slow_is_waited_for_while_directories_are_asked() {
    let mut world = World::new();
    world.intros = repeat(Intro::AckOnly, 1);
    assert_eq!(world.visit().1, None);
    world.pass(11 * SECOND);
    // Directories of a test network are asked again after five seconds, and know nothing newer.
    assert_eq!(world.count("open Introduce"), 1);
    let fetches = world.count("open Fetch");
    assert!((2..=4).contains(&fetches), "{fetches}");
    world.pass(SECOND);
    assert_eq!(world.count("open Introduce"), 2);
}

/// How long it takes to get in again after a service was away for a minute, during which its
/// visitor asked every second.
fn time_to_come_back(mut world: World, renew: bool) -> Duration {
    let (_, circuit) = world.ready();
    world.end(circuit, Ending::Closed);
    world.visits.poll_outcome();
    world.intros = repeat(Intro::Nack(1), 100_000);
    for _ in 0..60 {
        world.error();
        world.pass(SECOND);
    }
    world.intros.clear();
    if renew {
        world.renew_points();
    }
    let back = world.now.mono;
    while !matches!(world.visit_to_the_end(), Outcome::Ready { .. }) {
        world.pass(SECOND);
    }
    world.now.mono - back
}

#[test]
fn a_visitor_gets_in_again_within_half_a_minute() {
    for renew in [true, false] {
        let testing = time_to_come_back(World::new(), renew);
        assert!(testing <= 6 * SECOND, "{renew}: {testing:?}");
        let public = time_to_come_back(World::in_public(), renew);
        assert!(public <= 30 * SECOND, "{renew}: {public:?}");
    }
}

#[test]
fn directories_that_have_nothing_are_not_asked_again_for_long() {
    let mut world = World::in_public();
    world.dirs = repeat(Dir::Missing, 100);
    for _ in 0..100 {
        assert_eq!(world.error(), VisitError::DescriptorNotFound);
        world.pass(8 * SECOND);
    }
    assert_eq!(world.asked.len(), 6);
    world.pass(100 * SECOND);
    world.dirs.clear();
    world.ready();
}

#[test]
fn all_points_refuse_and_no_directory_knows_better() {
    let mut world = World::new();
    world.intros = repeat(Intro::Nack(1), 100);
    let begun = world.now.mono;
    assert_eq!(world.error(), VisitError::IntroductionFailed);
    assert!(world.asked.len() <= 20, "{}", world.asked.len());
    // They rest, and are tried once more before the visitor gives up.
    let took = world.now.mono - begun;
    assert_eq!(took, introduction::RETURN_MAX);
    assert_eq!(world.count("open Introduce"), 6);
    world.intros.clear();
    world.ready();
    assert_eq!(world.count("open Introduce"), 7);
}

#[test]
fn a_service_that_is_about_to_come_back_is_waited_for() {
    for mut world in [World::new(), World::in_public()] {
        world.intros = repeat(Intro::Nack(1), 3);
        let begun = world.now.mono;
        world.ready();
        assert_eq!(world.count("open Introduce"), 4);
        let took = world.now.mono - begun;
        assert!(took <= 12 * SECOND, "{took:?}");
    }
}

/// A service is killed and comes back after so long, while a visitor with its old descriptor
/// waits: how long until he is in.
fn time_until_in(world: &mut World, away: Duration) -> Duration {
    world.intros = repeat(Intro::Nack(1), 1000);
    let back = world.now.mono + away;
    assert_eq!(world.visit().1, None);
    while let Some(until) = world.visits.poll_timeout()
        && until < back
    {
        world.pass(until.saturating_duration_since(world.now.mono));
    }
    world.pass(back.saturating_duration_since(world.now.mono));
    world.intros.clear();
    world.renew_points();
    let (_, circuit) = world.ready();
    let took = world.now.mono - back;
    world.end(circuit, Ending::Closed);
    world.visits.poll_outcome();
    took
}

#[test]
fn a_service_that_comes_back_is_found_within_seconds_each_time() {
    for mut world in [World::new(), World::in_public()] {
        let (_, circuit) = world.ready();
        world.end(circuit, Ending::Closed);
        world.visits.poll_outcome();
        for millis in [300, 1000, 300, 600, 3000, 7000] {
            let took = time_until_in(&mut world, Duration::from_millis(millis));
            assert!(took <= 2 * SECOND, "{millis} ms: {took:?}");
        }
    }
}

#[test]
fn no_point_answers() {
    let mut world = World::new();
    world.intros = repeat(Intro::Silent, 100);
    assert_eq!(world.error(), VisitError::IntroductionTimedOut);
    let mut world = World::new();
    world.intros = repeat(Intro::Silent, 100);
    world.intros[1] = Intro::Nack(1);
    assert_eq!(world.error(), VisitError::IntroductionFailed);
}

#[test]
fn no_point_can_be_reached() {
    let mut world = World::new();
    world.intros = repeat(Intro::Dead(Ending::LastHop), 100);
    assert_eq!(world.error(), VisitError::IntroductionFailed);
    assert_eq!(world.count("open Introduce"), 6, "each twice");
}

#[test]
fn the_service_does_not_come() {
    let mut world = World::new();
    world.intros = repeat(Intro::AckOnly, 100);
    let begun = world.now.mono;
    assert_eq!(world.error(), VisitError::RendezvousFailed);
    assert!(world.now.mono - begun <= super::super::visit::VISIT_MAX);
}

#[test]
fn another_rendezvous_point_is_taken_if_one_fails() {
    for failure in [Rend::Silent, Rend::Dead(Ending::LastHop)] {
        let mut world = World::new();
        world.rends.push_back(failure.clone());
        world.ready();
        assert_eq!(world.count("open Rendezvous"), 2, "{failure:?}");
        assert_eq!(world.count("open Introduce"), 1, "{failure:?}");
        let mut world = World::new();
        world.rends = repeat(failure, 100);
        assert_eq!(world.error(), VisitError::RendezvousFailed);
    }
}

#[test]
fn a_rendezvous_point_that_lies_is_left() {
    let mut world = World::new();
    world.dirs.push_back(Dir::Silent);
    world.visit();
    let circuit = world.open_circuits()[0];
    world.message(circuit, RelayCommand::RENDEZVOUS2, &[7; 64]);
    world.run();
    assert!(!world.open_circuits().contains(&circuit));
    let circuit = *world.open_circuits().last().unwrap();
    world.message(circuit, RelayCommand::RENDEZVOUS_ESTABLISHED, &[]);
    world.run();
    assert!(!world.open_circuits().contains(&circuit));
    assert!(matches!(world.wait(), Outcome::Ready { .. }));
}

#[test]
fn a_second_rendezvous2_ends_the_circuit() {
    let mut world = World::new();
    let (visit, circuit) = world.ready();
    world.message(circuit, RelayCommand::RENDEZVOUS2, &[7; 64]);
    world.run();
    assert_eq!(world.visits.poll_outcome(), Some(Outcome::Lost { visit }));
    assert_eq!(world.open_circuits(), []);
}

#[test]
fn what_is_not_for_us_is_let_go() {
    let mut world = World::new();
    let (_, circuit) = world.ready();
    let ack = RelayCommand::INTRODUCE_ACK;
    for command in [RelayCommand::DROP, RelayCommand::INTRODUCE2, ack] {
        world.message(circuit, command, &[7; 64]);
    }
    let (owner, number) = (Owner::Visits, 999);
    let stranger = CircuitName { owner, number };
    world.message(stranger, ack, &[0, 0, 0]);
    world.end(stranger, Ending::Closed);
    world.run();
    assert_eq!(world.open_circuits(), [circuit]);
    assert_eq!(world.visits.poll_outcome(), None);
}
