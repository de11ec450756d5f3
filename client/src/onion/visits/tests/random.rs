//! Whatever comes in whatever order: nothing panics, no circuit is forgotten.

use std::time::Duration;

use cepa_wire::relay::RelayCommand;
use proptest::prelude::*;

use super::super::*;
use super::world::{Dir, Intro, Rend, World};
use crate::names::Owner;
use crate::onion::action::Ending;

#[derive(Debug, Clone)]
enum Step {
    Request(u64),
    Cancel(u64),
    Use(u64),
    Idle(u64),
    Ended(usize, Ending),
    Message(usize, u8, Vec<u8>),
    Reply(usize, u16),
    Built(usize),
    Pass(u64),
    Network(u64),
    Renew,
    Forget,
    Dir(Dir),
    Intro(Intro),
    Rend(Rend),
}

fn ending() -> impl Strategy<Value = Ending> {
    prop::sample::select(vec![
        Ending::NoPath,
        Ending::LastHop,
        Ending::Timeout,
        Ending::Closed,
    ])
}

fn faults() -> impl Strategy<Value = Step> {
    let dir = prop_oneof![
        Just(Dir::Missing),
        Just(Dir::Garbage),
        Just(Dir::Silent),
        ending().prop_map(Dir::Dead),
    ];
    let intro = prop_oneof![
        Just(Intro::AckOnly),
        Just(Intro::NoAck),
        Just(Intro::WrongAuth),
        Just(Intro::Nack(1)),
        Just(Intro::BadAck),
        Just(Intro::Silent),
        Just(Intro::Closes),
        ending().prop_map(Intro::Dead),
    ];
    let rend = prop_oneof![Just(Rend::Silent), ending().prop_map(Rend::Dead)];
    prop_oneof![
        dir.prop_map(Step::Dir),
        intro.prop_map(Step::Intro),
        rend.prop_map(Step::Rend),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let body = prop::collection::vec(any::<u8>(), 0..70);
    prop_oneof![
        4 => (0..4u64).prop_map(Step::Request),
        1 => (0..8u64).prop_map(Step::Cancel),
        1 => (0..8u64).prop_map(Step::Use),
        1 => (0..8u64).prop_map(Step::Idle),
        2 => (0..8usize, ending()).prop_map(|(n, ending)| Step::Ended(n, ending)),
        3 => (0..8usize, 30..42u8, body).prop_map(|(n, c, body)| Step::Message(n, c, body)),
        1 => (0..8usize, prop::sample::select(vec![0u16, 200, 404, 503]))
            .prop_map(|(n, status)| Step::Reply(n, status)),
        1 => (0..8usize).prop_map(Step::Built),
        4 => (1..15_000u64).prop_map(Step::Pass),
        1 => (0..600u64).prop_map(Step::Network),
        1 => Just(Step::Renew),
        1 => Just(Step::Forget),
        8 => faults(),
    ]
}

fn take(world: &mut World, step: Step) {
    let open = world.open_circuits();
    let stranger = CircuitName {
        owner: Owner::Visits,
        number: 1_000_000,
    };
    let nth = |n: usize| open.get(n).copied().unwrap_or(stranger);
    let now = world.now;
    match step {
        Step::Request(n) => {
            let isolation = World::isolation(n);
            world.visits.request(world.address, &isolation, now);
        }
        Step::Cancel(n) => world.visits.cancel(VisitId(n), now),
        Step::Use(n) => world.visits.used(VisitId(n)),
        Step::Idle(n) => world.visits.idle(VisitId(n), now),
        Step::Ended(n, ending) => world.end(nth(n), ending),
        Step::Message(n, command, body) => world.message(nth(n), RelayCommand(command), &body),
        Step::Reply(n, status) => {
            let body = b"hs-descriptor 3\n".to_vec();
            let reply = cepa_dir::fetch::Reply { status, body };
            let circuit = nth(n);
            let event = Event::Reply { circuit, reply };
            world.visits.handle_event(event, now);
        }
        Step::Built(n) if n < open.len() => world.build(nth(n)),
        Step::Built(_) => {}
        Step::Pass(millis) => world.pass(Duration::from_millis(millis)),
        Step::Network(seconds) => {
            world.now.wall += Duration::from_secs(seconds);
            world.meet_network();
        }
        Step::Renew => world.renew_points(),
        Step::Forget => world.visits.forget_all(),
        Step::Dir(dir) => world.dirs.push_back(dir),
        Step::Intro(intro) => world.intros.push_back(intro),
        Step::Rend(rend) => world.rends.push_back(rend),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_circuit_is_forgotten(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::without_network();
        for step in steps {
            take(&mut world, step);
            world.run();
        }
        // Whatever waits comes to an end, and then nothing is left.
        for _ in 0..2000 {
            while world.visits.poll_outcome().is_some() {}
            let Some(until) = world.visits.poll_timeout() else {
                break;
            };
            world.pass(until.saturating_duration_since(world.now.mono));
        }
        let in_use = world.visits.visits.values();
        let in_use = in_use.filter(|visit| visit.rendezvous.joined().is_some()).count();
        prop_assert_eq!(world.visits.visits.len(), in_use);
        prop_assert_eq!(world.open_circuits().len(), in_use);
        prop_assert!(world.visits.fetches.is_empty());
    }
}
