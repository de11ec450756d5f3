//! What an operator has an authority leave out, or decide by hand.

use cepa_dir::GeoIp;

use super::*;
use crate::config::Duties;
use crate::rules::{Rule, Rules, Subject, Verdict};

fn rsa(relay: usize) -> RsaId {
    RELAY_KEYS[relay].identity.public().id()
}

/// An authority alone, with this configuration, after relay `relay` has told it of itself.
fn alone(config: Config, relay: usize) -> (Authority, impl Fn(u64) -> Now) {
    let mono = some_instant();
    let clock = move |secs: u64| Now {
        mono: mono + Duration::from_secs(secs),
        wall: at(0) + Duration::from_secs(secs),
    };
    let rng = Rng::from_seed([4; 32]);
    let mut authority = Authority::restore(config, keys(0), Vec::new(), rng, clock(0));
    let reply = authority.handle_descriptor(&descriptor(relay, at(0), |_| {}), clock(1));
    assert_eq!(reply.status, 200, "{}", reply.reason);
    authority.handle_timeout(clock(1));
    (authority, clock)
}

/// The Ed25519 identities that tests which are wanted now ask for.
fn tests(authority: &mut Authority) -> Vec<Option<cepa_crypto::Ed25519Id>> {
    let commands = std::iter::from_fn(|| authority.poll_command());
    let tests = commands.filter_map(|command| match command {
        Command::TestReachability { ed25519, .. } => Some(ed25519),
        _ => None,
    });
    tests.collect()
}

/// Its vote at this time.
fn vote(authority: &mut Authority, now: Now) -> VoteText {
    authority.handle_timeout(now);
    let commands = std::iter::from_fn(|| authority.poll_command());
    let posted = commands.filter_map(|command| match command {
        Command::PostVote { body, .. } => Some(body),
        _ => None,
    });
    VoteText::parse(posted.last().expect("it votes")).unwrap()
}

fn with(duties: Duties) -> Config {
    Config { duties, ..config() }
}

#[test]
fn links_are_tested_with_one_key_or_both_or_not_at_all() {
    let usual = Duties::default();
    let (mut authority, _) = alone(with(usual), 0);
    let ed25519 = Some(RELAY_KEYS[0].master.public().id());
    assert_eq!(tests(&mut authority), [ed25519]);
    let (mut authority, _) = alone(
        with(Duties {
            tests_link_keys: false,
            ..usual
        }),
        0,
    );
    assert_eq!(tests(&mut authority), [None]);
    let (mut authority, clock) = alone(
        with(Duties {
            tests_reachability: false,
            ..usual
        }),
        0,
    );
    assert_eq!(tests(&mut authority), []);
    // A network that votes when relays are Running waits for as many.
    let asleep = descriptor(1, at(0), |fields| fields.is_hibernating = true);
    assert_eq!(authority.handle_descriptor(&asleep, clock(2)).status, 200);
    let vote = vote(&mut authority, clock(72));
    let runs = |relay| {
        let router = vote.vote().router(&rsa(relay)).unwrap();
        router.status.flags.contains(Flags::RUNNING)
    };
    assert!(runs(0) && !runs(1));
}

#[test]
fn keys_are_pinned_unless_the_operator_lifts_it() {
    let pins = |pins_keys| {
        with(Duties {
            pins_keys,
            ..Duties::default()
        })
    };
    for (config, status) in [(pins(true), 400), (pins(false), 200)] {
        let (mut authority, clock) = alone(config, 0);
        let other = RELAY_KEYS[1].master.public().id();
        authority.relays.restore_pin(rsa(0), other);
        let newer = descriptor(0, at(0) + Duration::from_secs(20), |fields| {
            fields.uptime_seconds = 1;
            fields.contact = Some("x".into());
        });
        let reply = authority.handle_descriptor(&newer, clock(20));
        assert_eq!(reply.status, status, "{}", reply.reason);
    }
}

#[test]
fn who_takes_no_part_in_shared_randomness_says_nothing_of_it() {
    for shares_randomness in [true, false] {
        let config = with(Duties {
            shares_randomness,
            ..Duties::default()
        });
        let (mut authority, clock) = alone(config, 0);
        let vote = vote(&mut authority, clock(72));
        let said = &vote.vote().shared_rand;
        assert_eq!(said.participates, shares_randomness);
        assert_eq!(said.commits.len(), usize::from(shares_randomness));
    }
}

#[test]
fn flags_are_voted_on_where_the_operator_wants_it() {
    let known = |config: Config| {
        let (mut authority, clock) = alone(config, 0);
        let vote = vote(&mut authority, clock(72));
        let has = |flag: &str| vote.vote().known_flags.iter().any(|one| one == flag);
        let router = vote.vote().router(&rsa(0)).unwrap();
        let is_bad = router.status.flags.contains(Flags::BAD_EXIT);
        (has("BadExit"), has("MiddleOnly"), is_bad)
    };
    let rules = rules([("127.1.0.1/32", Verdict::BadExit)]);
    let listed = |bad, middle| Config {
        rules: rules.clone(),
        ..with(Duties {
            lists_bad_exits: bad,
            lists_middle_only: middle,
            ..Duties::default()
        })
    };
    assert_eq!(known(listed(None, None)), (true, false, true));
    assert_eq!(known(listed(Some(false), Some(true))), (false, true, false));
    assert_eq!(known(config()), (false, false, false));
}

fn rules<const N: usize>(all: [(&str, Verdict); N]) -> Rules {
    let mut rules = Rules::default();
    for (subject, verdict) in all {
        rules.push(Rule {
            subject: Subject::of_set(subject).unwrap(),
            verdict,
            comment: String::new(),
        });
    }
    rules
}

#[test]
fn sets_give_flags_and_strict_ones_take_them() {
    let flags = |config: Config, relay| {
        let (mut authority, clock) = alone(config, relay);
        let vote = vote(&mut authority, clock(72));
        vote.vote().router(&rsa(relay)).unwrap().status.flags
    };
    let all = Flags::GUARD | Flags::EXIT | Flags::HS_DIR;
    let given = rules([
        ("relay1", Verdict::Guard),
        ("*", Verdict::Exit),
        ("127.2.0.0/16", Verdict::HsDir),
    ]);
    let strict = Config {
        rules: given,
        flags_forced: Flags::NONE,
        flags_strict: all,
        ..config()
    };
    assert!(flags(strict.clone(), 1).contains(all));
    let other = flags(strict, 0);
    assert!(!other.contains(Flags::GUARD) && !other.contains(Flags::HS_DIR));
    assert!(other.contains(Flags::EXIT));
    // Without a word the thresholds decide; this relay exits.
    let usual = Config {
        flags_forced: Flags::NONE,
        ..config()
    };
    assert!(flags(usual.clone(), 0).contains(Flags::EXIT));
    assert!(!flags(usual.clone(), 1).contains(Flags::EXIT));
    let mut terms = usual.flag_terms;
    (terms.exit_min_kilobytes, terms.fast_min_kilobytes) = (1, 1);
    let demanding = Config {
        flag_terms: terms,
        ..usual
    };
    let slow = flags(demanding, 0);
    assert!(!slow.contains(Flags::EXIT) && !slow.contains(Flags::FAST));
}

#[test]
fn rules_go_by_countries() {
    let mut countries = GeoIp::default();
    countries
        .read_v4("127.1.0.0,127.1.255.255,DE\n127.2.0.0,127.2.255.255,FR\n")
        .unwrap();
    let mut rules = rules([("{de}", Verdict::Reject), ("{fr}", Verdict::Invalid)]);
    assert!(rules.need_countries());
    rules.set_countries(countries.into());
    let (mut authority, clock) = alone(Config { rules, ..config() }, 1);
    let reply = authority.handle_descriptor(&descriptor(0, at(0), |_| {}), clock(2));
    assert_eq!(reply.reason, "Suspicious relay address range");
    let vote = vote(&mut authority, clock(72));
    let router = vote.vote().router(&rsa(1)).unwrap();
    assert!(!router.status.flags.contains(Flags::VALID));
}

#[test]
fn old_versions_are_refused_from_where_the_operator_says() {
    let tor = |fields: &mut cepa_netdoc::descriptor::DescriptorFields| {
        fields.platform = "Tor 0.4.9.5 on Linux".into();
    };
    for (oldest, status) in [("0.4.9.1-alpha", 200), ("0.4.9.6", 400)] {
        let config = Config {
            tor_version_min: oldest.into(),
            ..config()
        };
        let (mut authority, clock) = alone(config, 0);
        let reply = authority.handle_descriptor(&descriptor(1, at(0), tor), clock(2));
        assert_eq!(reply.status, status, "{}", reply.reason);
    }
}

#[test]
fn first_rounds_have_delays_and_patience_of_their_own() {
    let config = Config {
        initial_delays_secs: [Some(3), Some(2)],
        time_to_learn: Duration::from_secs(80),
        ..config()
    };
    let initial = config.initial_timing();
    assert_eq!((initial.vote_secs, initial.dist_secs), (3, 2));
    let (mut authority, clock) = alone(config, 0);
    let vote = vote(&mut authority, clock(75));
    assert_eq!(vote.vote().voting_delay.vote_seconds, 4);
    let knows = vote.vote().known_flags.iter().any(|one| one == "Running");
    assert!(!knows, "it has not looked at all relays yet");
}
