//! Rounds in which something goes wrong at the worst moment: restarts, posts that are lost, no
//! consensus in force, numbers that are shown too early.

use super::*;
use crate::posts::Posted;
use crate::schedule::Timing;
use crate::srv::SharedRandom;
use cepa_netdoc::consensus::SharedRandCommit;

fn votes_held(world: &World, index: usize) -> usize {
    let authority = world.places[index].authority.as_ref().unwrap();
    authority
        .round
        .as_ref()
        .map_or(0, |round| round.votes.len())
}

fn voters(world: &World) -> usize {
    let text = world.consensus(0, Flavour::Ns);
    text.consensus().authorities.len()
}

#[test]
fn a_restart_just_before_the_vote_misses_no_round() {
    let mut world = booted();
    world.run_until(31_000);
    world.kill(1);
    world.run_until(33_000);
    world.start(1);
    assert!(votes_held(&world, 1) >= 1);
    world.run_until(41_000);
    let mut starts = world.starts(1);
    // What held is served again after a start.
    starts.dedup();
    assert_eq!(starts, [0, 20, 40]);
    assert_eq!(
        (voters(&world), signers(world.consensus(0, Flavour::Ns))),
        (3, 3)
    );
}

#[test]
fn what_was_answered_is_there_after_a_restart() {
    let mut world = booted();
    world.run_until(33_000);
    assert_eq!(votes_held(&world, 1), 3);
    world.kill(1);
    world.start(1);
    assert_eq!(votes_held(&world, 1), 3);
    // When the consensus is computed already it is computed again, and signed.
    world.run_until(37_000);
    world.kill(1);
    world.start(1);
    world.run_until(41_000);
    let mut starts = world.starts(1);
    // What held is served again after a start.
    starts.dedup();
    assert_eq!(starts, [0, 20, 40]);
    assert_eq!(signers(world.consensus(1, Flavour::Ns)), 3);
    let next = |row: &&Row| row.kind == RowKind::Vote && row.key.starts_with("next ");
    assert_eq!(world.places[1].rows.values().filter(next).count(), 0);
}

#[test]
fn posts_are_repeated_to_who_missed_them() {
    let mut world = booted();
    world.run_until(31_000);
    world.kill(2);
    world.run_until(32_100);
    world.start(2);
    // Missing votes are asked for at 34 only.
    world.run_until(33_500);
    assert_eq!(votes_held(&world, 2), 3);
    // Who does not answer at all is left alone some time.
    world.kill(2);
    let now = world.now();
    let port = config().authorities[2].dir_addr;
    let mut posts = 0;
    world.with(0, |authority| {
        for millis in (0..3000).step_by(50) {
            let later = Duration::from_millis(millis);
            let now = Now {
                mono: now.mono + later,
                wall: now.wall + later,
            };
            authority.handle_posted(Posted::Vote, port, 0, now);
            let again = std::iter::from_fn(|| authority.poll_command());
            let to_it = |one: &Command| matches!(one, Command::PostVote { to, .. } if *to == port);
            posts += again.filter(to_it).count();
        }
    });
    assert!(posts <= 8, "{posts}");
}

#[test]
fn without_a_consensus_rounds_come_at_half_the_interval() {
    let config = Config {
        allows_private_addresses: true,
        ..Config::new(config().authorities, "nobody".into())
    };
    let now = Now {
        mono: some_instant(),
        wall: at(0),
    };
    let rng = Rng::from_seed([4; 32]);
    let authority = Authority::restore(config, keys(0), Vec::new(), rng, now);
    let half = Duration::from_secs(1800);
    assert_eq!(authority.next.valid_after, at(0) + half);
    // By the consensus in force otherwise, whatever we were told ourselves.
    let mut world = booted();
    world.run_until(21_000);
    let authority = world.places[0].authority.as_mut().unwrap();
    authority.config.timing = Timing::hourly();
    authority.config.initial_interval_secs = 10;
    let interval = |millis: u64| authority.timing(at(millis)).interval_secs;
    assert_eq!((interval(21_000), interval(80_000)), (20, 20));
    assert_eq!(interval(81_000), 10);
    assert_eq!(
        pace::consensus_end(authority.consensus.as_ref(), at(21_000)),
        Some(at(81_000))
    );
    assert_eq!(
        pace::consensus_end(authority.consensus.as_ref(), at(81_000)),
        None
    );
}

#[test]
fn a_number_that_is_shown_early_binds_nobody() {
    let mut world = booted();
    world.run_until(32_500);
    let author = keys(1).cert.identity;
    let vote = VoteText::parse(world.places[0].votes[&author].as_ref()).unwrap();
    let mut vote = (**vote.vote()).clone();
    let commit = vote
        .shared_rand
        .commits
        .iter()
        .find(|one| one.identity == author);
    let shown = SharedRandCommit {
        reveal: Some("shown".to_owned()),
        ..commit.unwrap().clone()
    };
    let takes = |commit: SharedRandCommit, vote: &mut cepa_netdoc::vote::Vote| {
        let mut state = SharedRandom::default();
        let own = keys(0).cert.identity;
        let mut rng = Rng::from_seed([1; 32]);
        let start = vote.lifetime.valid_after;
        state.advance(start, &timing(), own, &mut rng);
        vote.shared_rand.commits = vec![commit];
        state.handle_vote(vote, &timing());
        state.vote(start, &timing(), own).commits.len()
    };
    let plain = commit.unwrap().clone();
    assert_eq!(takes(shown, &mut vote), 1);
    assert_eq!(takes(plain, &mut vote), 2);
}

#[test]
fn what_is_learnt_between_votes_is_kept() {
    let mut world = booted();
    world.run_until(31_900);
    let state = |world: &World, index: usize| {
        let key = (RowKind::SharedRandom, String::new());
        let row = &world.places[index].rows[&key];
        String::from_utf8(row.bytes.clone()).unwrap()
    };
    // The commitments of all, though the round is not over.
    world.run_until(32_500);
    for index in 0..3 {
        let commits = state(&world, index);
        assert_eq!(commits.matches("\ncommit ").count(), 3, "{commits}");
    }
}

#[test]
fn an_identity_of_before_signs_beside_and_counts_for_nothing() {
    let mut world = booted();
    world.run_until(21_000);
    // Of three authorities one is left: two signatures of it are no majority.
    (1..3).for_each(|index| world.kill(index));
    let before = &RELAY_KEYS[0];
    let text = AuthCert::build(&before.identity, &before.tap, None, at(0), at(400_000_000));
    let legacy = Keys {
        cert: AuthCert::parse(&text).unwrap(),
        signing: cepa_crypto::rsa::Keypair::from_pem(&before.tap.to_pem()).unwrap(),
        legacy: None,
    };
    let identity = legacy.cert.identity;
    let mut own = keys(0);
    own.legacy = Some(Box::new(legacy));
    world.with(0, |authority| authority.keys = own);
    world.run_until(33_000);
    let vote = world.places[0]
        .authority
        .as_ref()
        .unwrap()
        .own_vote
        .clone()
        .unwrap();
    assert_eq!(vote.vote().legacy_dir_key, Some(identity));
    let config = config();
    let mut round = crate::round::Round::new(timing().regular(at(40_000)), vote);
    let authority = world.places[0].authority.as_ref().unwrap();
    round.compute(&config, &authority.keys, false, None);
    let signing = round.signing.as_ref().unwrap();
    let signers: Vec<RsaId> = signing
        .detached()
        .ns
        .iter()
        .map(|one| one.identity)
        .collect();
    assert_eq!(signers, [keys(0).cert.identity, identity]);
    assert!(!round.may_publish(&config, at(40_000)));
    assert!(round.has_no_majority(&config, at(40_000)));
}
