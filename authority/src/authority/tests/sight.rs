//! What an authority tells of itself and of the others: health, evidence, and why a relay has the
//! flags that it has.

use super::*;
use crate::why::Quantity;

/// A vote that an authority makes in another world, for the same interval.
fn other_vote(index: usize, text: &str) -> String {
    let vote = VoteText::parse(text).unwrap();
    let mut vote = (**vote.vote()).clone();
    vote.contact = "somebody else".to_owned();
    vote.signature = None;
    vote.sign(&keys(index).signing).text().to_string()
}

#[test]
fn who_votes_twice_is_proven_to() {
    let mut world = booted();
    world.run_until(32_500);
    let author = keys(0).cert.identity;
    let first = world.places[1].votes[&author].to_string();
    let second = other_vote(0, &first);
    let now = world.now();
    for _ in 0..3 {
        world.with(1, |authority| {
            authority.handle_vote(&second, now);
        });
    }
    world.settle();
    let kept = |world: &World| -> Vec<Row> {
        let rows = world.places[1].rows.values();
        rows.filter(|row| row.kind == RowKind::Equivocation)
            .cloned()
            .collect()
    };
    let rows = kept(&world);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].bytes, [first, second].concat().into_bytes());
    world.kill(1);
    world.start(1);
    let status = world.places[1]
        .authority
        .as_ref()
        .unwrap()
        .status(world.now());
    let [told] = status.health.equivocations.as_slice() else {
        panic!("{:?}", status.health);
    };
    assert_eq!(told.identity, author);
    assert!(
        status
            .health
            .problems
            .iter()
            .any(|one| one.contains("auth0 voted twice"))
    );
    let others = world.places[2]
        .authority
        .as_ref()
        .unwrap()
        .status(world.now());
    assert!(others.health.equivocations.is_empty());
}

#[test]
fn what_is_wrong_is_told() {
    let mut world = booted();
    world.run_until(33_000);
    let health = |world: &World, index: usize| {
        let authority = world.places[index].authority.as_ref().unwrap();
        authority.status(world.now()).health
    };
    let well = health(&world, 0);
    assert_eq!(well.problems, Vec::<String>::new());
    let last = well.last_round.unwrap();
    assert_eq!(
        (
            last.voted.len(),
            last.signed.len(),
            last.relays_in_some_votes
        ),
        (3, 3, 0)
    );
    assert!(last.flags_disputed.is_empty());
    world.kill(2);
    let port = |index: usize| config().authorities[index].dir_addr;
    world.with(0, |authority| {
        authority.handle_clock(port(1), -61);
        authority.handle_clock(port(2), 5);
        authority.handle_clock("192.0.2.1:1".parse().unwrap(), 100);
    });
    world.run_until(61_000);
    let ill = health(&world, 0);
    let wanted = [
        "the clock of auth1 is 61 s behind ours",
        "auth2 did not vote in the last round",
    ];
    assert_eq!(ill.problems, wanted);
    assert_eq!(ill.authorities[2].has_signed, Some(false));
    assert_eq!(ill.authorities[2].clock_ahead_seconds, Some(5));
    // Two of three are left; when one more goes there are no rounds any more.
    world.kill(1);
    world.run_until(200_000);
    let alone = health(&world, 0);
    assert!(alone.rounds_failed > 0);
    assert!(
        alone
            .problems
            .contains(&"no consensus is in force".to_owned())
    );
}

#[test]
fn a_relay_is_told_why() {
    let mut world = booted();
    world.run_until(33_000);
    let id = RELAY_KEYS[1].identity.public().id();
    let authority = world.places[0].authority.as_ref().unwrap();
    let told = authority.why(&id, world.now());
    assert_eq!((told.votes.len(), told.authorities), (3, 3));
    let exit = told.flags.iter().find(|one| one.flag == "Exit").unwrap();
    assert_eq!(
        (exit.is_given, exit.opinions, exit.needed),
        (Some(false), 3, 2)
    );
    let guard = told.flags.iter().find(|one| one.flag == "Guard").unwrap();
    let given: std::collections::BTreeSet<_> = guard.given_by.iter().map(|one| &**one).collect();
    assert_eq!(given, ["auth0", "auth1", "auth2"].into());
    assert!(
        guard.votes[0]
            .checks
            .iter()
            .any(|one| one.what == Quantity::TimeKnown)
    );
    let own = told.own.unwrap();
    assert!(own.is_running && own.reached.is_some() && !own.is_sybil && own.rules.is_empty());
    // What is restored tells it as well.
    world.kill(0);
    world.start(0);
    let authority = world.places[0].authority.as_ref().unwrap();
    assert_eq!(authority.why(&id, world.now()).flags, told.flags);
    assert!(
        authority
            .why(&RsaId::from([9; 20]), world.now())
            .own
            .is_none()
    );
}
