//! Three authorities in one process, under a clock of the test: what one posts or asks for, the
//! others get at once, unless they are dead.

mod duties;
mod odd;
mod operator;
mod rounds;
mod sight;
mod world;

use super::*;
use crate::intake::{VoteDoor, VoteLook};
use cepa_netdoc::consensus::Consensus;
use cepa_netdoc::routerstatus::Flags;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use world::*;

#[test]
fn a_new_network_votes_as_soon_as_its_relays_are_there() {
    let world = booted();
    let first = world.consensus(0, Flavour::Ns);
    let consensus: &Consensus = first.consensus();
    assert_eq!(world.starts(0), [0]);
    assert_eq!(consensus.routers.len(), RELAYS);
    for flavour in [Flavour::Ns, Flavour::Microdesc] {
        let text = world.consensus(0, flavour);
        assert_eq!(signers(text), 3);
        for index in 1..3 {
            assert_eq!(world.consensus(index, flavour).text(), text.text());
        }
    }
    for router in &consensus.routers {
        let wanted = Flags::FAST | Flags::GUARD | Flags::HS_DIR | Flags::RUNNING | Flags::STABLE;
        assert!(
            router.flags.contains(wanted | Flags::V2_DIR | Flags::VALID),
            "{router:?}"
        );
        assert_eq!(
            router.flags.contains(Flags::EXIT),
            router.nickname == "relay0"
        );
    }
    assert_eq!(consensus.params.lookup("hsdir_interval"), Some(8));
}

#[test]
fn rounds_follow_the_grid_after_the_first() {
    let mut world = booted();
    world.run_until(65_000);
    for index in 0..3 {
        assert_eq!(world.starts(index), [0, 20, 40, 60]);
        assert_eq!(
            world.consensus(index, Flavour::Ns).text(),
            world.consensus(0, Flavour::Ns).text()
        );
    }
}

#[test]
fn two_of_three_go_on_and_the_third_comes_back() {
    let mut world = booted();
    world.run_until(13_000);
    world.kill(2);
    world.run_until(45_000);
    assert_eq!(world.starts(0), [0, 20, 40]);
    assert_eq!(signers(world.consensus(0, Flavour::Microdesc)), 2);
    world.start(2);
    // What it has of itself: its descriptors, and the consensus that it had seen.
    assert_eq!(
        world.places[2].authority.as_ref().unwrap().relays_known(),
        RELAYS
    );
    world.run_until(61_000);
    assert_eq!(world.starts(0), [0, 20, 40, 60]);
    assert_eq!(signers(world.consensus(0, Flavour::Ns)), 3);
    assert_eq!(
        world.consensus(2, Flavour::Ns).text(),
        world.consensus(0, Flavour::Ns).text()
    );
}

#[test]
fn a_late_authority_joins_the_first_vote() {
    let mut world = World::new(3_000);
    world.start(0);
    world.start(1);
    world.upload_all();
    assert!(world.starts(0).is_empty());
    world.run_until(4_500);
    world.start(2);
    world.upload_all();
    assert_eq!(world.starts(2), [0]);
    assert_eq!(signers(world.consensus(1, Flavour::Ns)), 3);
}

#[test]
fn two_of_three_make_the_first_consensus_without_the_third() {
    let mut world = World::new(3_000);
    world.start(0);
    world.start(1);
    world.upload_all();
    world.run_until(19_000);
    assert_eq!(world.starts(0), [0]);
    assert_eq!(world.starts(1), [0]);
}

#[test]
fn an_authority_that_missed_uploads_fetches_them() {
    let mut world = booted();
    let text = descriptor(3, at(9_000), |fields| fields.nickname = "renamed".into());
    world.millis = 9_000;
    for index in 0..2 {
        assert_eq!(
            world.upload(index, &text).map(|reply| reply.status),
            Some(200)
        );
    }
    world.run_until(33_000);
    world.run_until(61_000);
    let named = |router: &cepa_netdoc::routerstatus::RouterStatus| router.nickname == "renamed";
    assert!(
        world
            .consensus(2, Flavour::Ns)
            .consensus()
            .routers
            .iter()
            .any(named)
    );
    let own = &world.places[2].rows;
    let texts = own.values().filter(|row| row.kind == RowKind::Descriptor);
    let mut texts = texts.map(|row| String::from_utf8(row.bytes.clone()).unwrap());
    assert!(texts.any(|held| held == text));
}

#[test]
fn there_are_never_two_votes_of_one_authority_for_one_interval() {
    let mut world = booted();
    world.run_until(32_500);
    let id = keys(1).cert.identity;
    let before = world.places[1]
        .votes
        .get(&id)
        .cloned()
        .expect("it has voted for 40");
    world.kill(1);
    world.places[1].votes.clear();
    world.run_until(33_000);
    world.start(1);
    world.run_until(45_000);
    // It comes too late to vote again, and had it voted, it would have been the same vote.
    let votes = world.places[1].votes.get(&id);
    assert!(votes.is_none_or(|vote| *vote == before));
    assert!(world.starts(0).contains(&40));
}

#[test]
fn garbage_is_refused_and_does_no_harm() {
    let mut world = booted();
    world.run_until(32_500);
    let now = world.now();
    let vote = world.places[0].votes.values().next().unwrap().to_string();
    let authority = world.places[2].authority.as_mut().unwrap();
    let forged = vote.replacen("w Bandwidth=0", "w Bandwidth=9", 1);
    let cut = &vote[..vote.len() / 2];
    for body in ["", "network-status-version 3\n", cut, &forged, "\0\0"] {
        assert_eq!(authority.handle_vote(body, now).status, 400, "{body:.40}");
        authority.handle_fetched_votes(body, now);
        assert_ne!(authority.handle_signatures(body, now).status, 200);
        authority.handle_fetched_signatures(body, now);
    }
    world.settle();
    world.run_until(41_000);
    assert_eq!(world.starts(2), [0, 20, 40]);
    // A vote for an interval that is over.
    let now = world.now();
    let authority = world.places[2].authority.as_mut().unwrap();
    assert_eq!(authority.handle_vote(&vote, now).status, 400);
}

#[test]
fn a_vote_is_judged_by_its_head_and_its_signature_before_it_is_read() {
    let mut world = booted();
    world.run_until(32_500);
    let now = world.now().wall;
    let vote = world.places[0].votes.values().next().unwrap().to_string();
    let author = VoteText::parse(vote.as_str()).unwrap().vote().author();
    let door = |world: &World| {
        let authority = world.places[2].authority.as_ref().unwrap();
        authority.vote_door(world.now().wall)
    };
    let before = door(&world);
    let head = &vote.as_bytes()[..=vote.find("\nr ").unwrap()];
    assert_eq!(before.look(&head[..100], now), VoteLook::More);
    assert_eq!(before.look(head, now), VoteLook::Of(author));
    // It is held already: nobody reads it again.
    assert_eq!(before.read(&vote, now).unwrap_err().status, 200);
    let forged = vote.replacen("w Bandwidth=0", "w Bandwidth=9", 1);
    let refusal = before.read(&forged, now).unwrap_err();
    assert!(refusal.reason.contains("signature"), "{refusal:?}");
    assert!(before.read_all(&(vote.clone() + &forged), now).is_empty());
    // Of nobody, by default; and of no round that is over.
    assert!(matches!(
        VoteDoor::default().look(head, now),
        VoteLook::Refused(_)
    ));
    world.run_until(41_000);
    let refused = door(&world).look(head, world.now().wall);
    assert!(matches!(refused, VoteLook::Refused(_)), "{refused:?}");
}

#[test]
fn uploads_are_taken_or_refused_with_a_reason() {
    let mut world = World::new(100_000_000);
    world.start(0);
    let published = at(100_000_000);
    let hour = Duration::from_secs(3600);
    let good = descriptor(1, published, |_| {});
    let mut status = |text: &str| {
        world
            .upload(0, text)
            .map(|reply| (reply.status, reply.is_not_new))
    };
    assert_eq!(status(&good), Some((200, false)));
    assert_eq!(status(&good), Some((200, true)));
    let cosmetic = descriptor(1, published + hour, |fields| fields.uptime_seconds += 3600);
    assert_eq!(status(&cosmetic), Some((200, true)));
    let moved = descriptor(1, published + hour, |fields| {
        fields.or_address = "127.0.0.9:99".parse().unwrap();
    });
    assert_eq!(status(&moved), Some((200, false)));
    let platform =
        |platform: &str| descriptor(2, published, |fields| fields.platform = platform.into());
    assert_eq!(
        status(&platform("Tor 0.4.7.9 on Linux")),
        Some((400, false))
    );
    assert_eq!(status(&platform("Tor abc on Linux")), Some((400, false)));
    let refused = [
        "",
        "router",
        "\u{feff}router x",
        &good[..good.len() - 20],
        &good.replacen("relay1", "relay2", 1),
        &descriptor(2, published + 13 * hour, |_| {}),
        &descriptor(2, published - 25 * hour, |_| {}),
    ];
    for text in refused {
        assert_eq!(status(text).map(|one| one.0), Some(400), "{text:.60}");
    }
    assert_eq!(
        status(&platform("Tor 0.4.9.11 on Linux")),
        Some((200, false))
    );
    assert_eq!(
        world.places[0].authority.as_ref().unwrap().relays_known(),
        2
    );
}

/// The public network's way: hourly, by the grid, a limit on relays of one address.
#[test]
fn a_public_network_says_who_runs_only_after_half_an_hour() {
    let (now, relays) = (at(0), RELAYS);
    let mono = some_instant();
    let clock = |secs: u64| Now {
        mono: mono + Duration::from_secs(secs),
        wall: now + Duration::from_secs(secs),
    };
    let config = Config {
        allows_private_addresses: true,
        ..Config::new(config().authorities, "nobody".into())
    };
    let rng = Rng::from_seed([4; 32]);
    let mut authority = Authority::restore(config, keys(0), Vec::new(), rng, clock(0));
    let vote_at = |authority: &mut Authority, secs: u64| {
        authority.handle_timeout(clock(secs));
        let commands = std::iter::from_fn(|| authority.poll_command());
        let posted = commands.filter_map(|command| match command {
            Command::PostVote { body, .. } => Some(body),
            _ => None,
        });
        VoteText::parse(posted.last().expect("it votes")).unwrap()
    };
    for relay in 0..relays {
        let text = descriptor(relay, now, |fields| {
            fields.or_address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9001 + relay as u16);
            fields.bandwidth.observed = 100_000 * (relay as u32 + 1);
        });
        assert_eq!(authority.handle_descriptor(&text, clock(1000)).status, 200);
    }
    let id = |relay: usize| RELAY_KEYS[relay].identity.public().id();
    let port = |relay: usize| SocketAddr::from((Ipv4Addr::LOCALHOST, 9001 + relay as u16));
    (1..relays).for_each(|relay| {
        authority.handle_reachability(&id(relay), port(relay), true, clock(1000));
    });
    let has = |vote: &VoteText, relay: usize, flag: Flags| {
        vote.vote()
            .router(&id(relay))
            .is_some_and(|router| router.status.flags.contains(flag))
    };
    let knows = |vote: &VoteText| vote.vote().known_flags.contains(&"Running".to_owned());
    let early = vote_at(&mut authority, 3000);
    assert!(knows(&early) && has(&early, 3, Flags::RUNNING));
    // Two may share an address: those that are Running and carry most.
    // One that is not Running does not count, and is none too many.
    for (relay, is_sybil) in [(0, false), (1, true), (2, false), (3, false)] {
        assert_eq!(has(&early, relay, Flags::SYBIL), is_sybil, "{relay}");
        assert_eq!(has(&early, relay, Flags::VALID), !is_sybil, "{relay}");
    }
    assert!(has(&early, 3, Flags::FAST) && !has(&early, 3, Flags::HS_DIR));
    // Nobody reached them for 45 minutes.
    let later = vote_at(&mut authority, 6600);
    assert!(!has(&later, 3, Flags::RUNNING) && has(&later, 3, Flags::VALID));
    let rows = std::iter::empty();
    let rng = Rng::from_seed([5; 32]);
    let config = authority.config.clone();
    let mut young = Authority::restore(config, keys(0), rows.collect(), rng, clock(2000));
    assert!(!knows(&vote_at(&mut young, 3000)));
}

/// `AuthDirHasIPv6Connectivity`: at both addresses, or not at all.
#[test]
fn who_says_ipv6_must_be_reached_there_too() {
    let mono = some_instant();
    let clock = |secs: u64| Now {
        mono: mono + Duration::from_secs(secs),
        wall: at(0) + Duration::from_secs(secs),
    };
    let config = Config {
        allows_private_addresses: true,
        tests_ipv6: true,
        ..Config::new(config().authorities, "nobody".into())
    };
    let rng = Rng::from_seed([4; 32]);
    let mut authority = Authority::restore(config, keys(0), Vec::new(), rng, clock(0));
    let v6 = "[2001:db8::7]:9001".parse().unwrap();
    let text = descriptor(0, at(0), |fields| fields.or_address_v6 = Some(v6));
    assert_eq!(authority.handle_descriptor(&text, clock(1)).status, 200);
    authority.handle_timeout(clock(1));
    let tests = std::iter::from_fn(|| authority.poll_command());
    let tests = tests.filter_map(|command| match command {
        Command::TestReachability { address, .. } => Some(address),
        _ => None,
    });
    let tests: Vec<_> = tests.collect();
    let (v4, v6) = (tests[0], SocketAddr::V6(v6));
    assert_eq!(tests, [v4, v6]);

    let id = RELAY_KEYS[0].identity.public().id();
    let vote = |authority: &mut Authority, secs: u64| {
        authority.handle_timeout(clock(secs));
        let commands = std::iter::from_fn(|| authority.poll_command());
        let posted = commands.filter_map(|command| match command {
            Command::PostVote { body, .. } => Some(body),
            _ => None,
        });
        let vote = VoteText::parse(posted.last().expect("it votes")).unwrap();
        let status = &vote.vote().router(&id).unwrap().status;
        (status.flags.contains(Flags::RUNNING), status.a)
    };
    // What nobody has tested counts neither way, and is not passed on.
    authority.handle_reachability(&id, v4, true, clock(2000));
    assert_eq!(vote(&mut authority, 3000), (true, None));
    // Of an address that it does not have nothing follows.
    authority.handle_reachability(&id, "127.9.9.9:1".parse().unwrap(), false, clock(6000));
    authority.handle_reachability(&id, v4, true, clock(6000));
    authority.handle_reachability(&id, v6, true, clock(6000));
    let SocketAddr::V6(listed) = v6 else { return };
    assert_eq!(vote(&mut authority, 6600), (true, Some(listed)));
    authority.handle_reachability(&id, v4, true, clock(10_000));
    authority.handle_reachability(&id, v6, false, clock(10_000));
    assert_eq!(vote(&mut authority, 10_200), (false, None));
}

#[test]
fn a_run_of_rounds_makes_one_shared_random_value() {
    let mut world = booted();
    world.run_until(490_000);
    let value = world
        .consensus(0, Flavour::Ns)
        .consensus()
        .shared_rand_current;
    assert_eq!(value.expect("all have shown their numbers").reveals, 3);
    for index in 1..3 {
        let text = world.consensus(index, Flavour::Ns);
        assert_eq!(text.text(), world.consensus(0, Flavour::Ns).text());
    }
}

#[test]
fn signatures_of_strangers_take_no_place() {
    let mut world = booted();
    world.run_until(33_000);
    let now = world.now();
    let text = world.consensus(0, Flavour::Ns).clone();
    let of = |start: u64, signatures| {
        let mut lifetime = text.consensus().lifetime;
        lifetime.valid_after = at(start);
        let detached = DetachedSignatures {
            consensus_digest: *text.sha1(),
            lifetime,
            microdesc_digest: None,
            ns: signatures,
            microdesc: Vec::new(),
        };
        detached.encode()
    };
    let good = text.consensus().signatures.clone();
    let mut wrong = good.clone();
    wrong.iter_mut().for_each(|one| one.signature.reverse());
    let authority = world.places[1].authority.as_mut().unwrap();
    for body in [of(40_000, wrong), of(80_000, good.clone())] {
        assert_eq!(authority.handle_signatures(&body, now).status, 400);
    }
    assert!(authority.early_signatures.is_empty());
    let early = authority.handle_signatures(&of(40_000, good), now);
    assert_eq!((early.status, authority.early_signatures.len()), (200, 3));
    world.run_until(41_000);
    assert_eq!(world.starts(1), [0, 20, 40]);
}

#[test]
fn a_consensus_of_the_past_or_of_others_is_not_restored() {
    let mut world = booted();
    let rows: Vec<Row> = world.places[0].rows.values().cloned().collect();
    let (now, millis) = (world.now(), world.millis);
    let restored = |rows: &[Row], now| {
        let rng = Rng::from_seed([7; 32]);
        Authority::restore(config(), keys(0), rows.to_vec(), rng, now)
            .consensus
            .is_some()
    };
    assert!(restored(&rows, now));
    world.millis = millis + 60_000;
    assert!(!restored(&rows, world.now()));
    let foreign = rows.iter().filter(|row| row.kind != RowKind::Certificate);
    let foreign: Vec<Row> = foreign.cloned().collect();
    assert!(!restored(&foreign, now));
}

/// Seed 11 of `cepa testnet sim authorities --hours 26 --relays 6`: an authority that crashed when
/// it had signed, and came again with its clock set back, signed a second consensus.
#[test]
fn no_second_consensus_of_an_interval_is_signed() {
    let mut world = booted();
    world.run_until(36_100);
    let key = (RowKind::Signed, String::new());
    let signed = world.places[0].rows[&key].clone();
    world.kill(0);
    let absent = keys(2).cert.identity;
    for place in &mut world.places {
        place.votes.remove(&absent);
    }
    // Nor is it kept: with the same votes it is the same consensus.
    let rows = &mut world.places[0].rows;
    let is_absent = |kind, key: &str| kind == RowKind::Vote && key.contains(&absent.to_string());
    rows.retain(|(kind, key), _| !is_absent(*kind, key));
    world.millis = 31_000;
    world.start(0);
    world.run_until(37_000);
    let round = world.places[0].authority.as_ref().unwrap().round.as_ref();
    let round = round.unwrap();
    assert_eq!((round.votes.len(), round.is_void), (2, true));
    assert_eq!(world.places[0].rows[&key], signed);
}

#[test]
fn a_clock_that_is_set_back_does_not_stop_the_rounds() {
    let mut world = booted();
    world.run_until(33_000);
    let mono = world.now().mono;
    let authority = world.places[0].authority.as_mut().unwrap();
    let wall = at(0) - Duration::from_secs(86_400);
    authority.handle_timeout(Now { mono, wall });
    let interval = Duration::from_secs(20);
    assert!(authority.next.valid_after <= wall + interval * 2);
    assert!(
        authority
            .poll_timeout()
            .is_some_and(|due| due <= mono + interval * 2)
    );
}
