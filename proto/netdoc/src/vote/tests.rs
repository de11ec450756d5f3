//! Votes of a running `tor` network, read and written again.

use proptest::prelude::*;

use super::*;
use crate::timestamp;

macro_rules! real {
    ($name:literal) => {
        include_str!(concat!(
            "../../../../tests/vectors/netdoc/consensus/",
            $name
        ))
    };
}

const VOTE: &str = real!("vote-auth0");
const SRV: &str = real!("vote-srv-reveal");

fn now() -> SystemTime {
    timestamp::parse("2026-11-21 03:17:30").unwrap()
}

#[test]
fn votes_of_tor_round_trip_and_verify() {
    for text in [
        VOTE,
        real!("vote-auth1"),
        real!("vote-auth2"),
        real!("vote-srv-commit"),
        SRV,
    ] {
        let parsed = VoteText::parse(text).expect("tor's own vote");
        assert_eq!(parsed.vote().encode(), text);
        assert!(parsed.is_signed(now()));
        assert!(!parsed.is_signed(timestamp::parse("2036-11-21 03:17:30").unwrap()));
        assert_eq!(parsed.vote().routers.len(), 9);
    }
}

#[test]
fn its_digest_is_the_one_in_the_consensus() {
    let consensus = crate::consensus::ConsensusText::parse(real!("consensus-2")).unwrap();
    for text in [VOTE, real!("vote-auth1"), real!("vote-auth2")] {
        let parsed = VoteText::parse(text).unwrap();
        let mut authorities = consensus.consensus().authorities.iter();
        let entry = authorities.find(|entry| entry.dir_source.identity == parsed.vote().author());
        assert_eq!(entry.unwrap().vote_digest.as_ref(), Some(parsed.digest()));
    }
}

#[test]
fn its_values_are_read() {
    let parsed = VoteText::parse(VOTE).unwrap();
    let vote = parsed.vote();
    assert_eq!(vote.methods, ["32", "33", "34", "35"]);
    assert_eq!(vote.params.lookup("foo2"), Some(-7));
    let router = vote
        .routers
        .iter()
        .find(|one| one.status.nickname == "exit0")
        .unwrap();
    assert!(matches!(router.ed25519, Some(VotedEd25519::Id(_))));
    assert!(router.microdesc_digest(35).is_some());
    assert_eq!(router.microdesc_digest(31), None);
    assert_eq!(router.w.measured, Some(800));
    assert_eq!(vote.router(&router.status.rsa_id), Some(router));
    let srv = VoteText::parse(SRV).unwrap();
    let commits = &srv.vote().shared_rand.commits;
    assert!(commits.len() == 3 && commits.iter().all(|commit| commit.reveal.is_some()));
}

#[test]
fn a_changed_vote_is_not_signed() {
    let forged = VoteText::parse(VOTE.replacen("foo=3", "foo=4", 1)).unwrap();
    assert!(!forged.is_signed(now()));
}

#[test]
fn our_own_vote_round_trips() {
    let mut rng = cepa_crypto::Rng::from_seed([9; 32]);
    let key = cepa_crypto::rsa::Keypair::generate(1024, &mut rng).unwrap();
    let mut vote = Vote::clone(VoteText::parse(SRV).unwrap().vote());
    vote.flag_thresholds = Some(
        FlagThresholds {
            guard_wfu: 0.98,
            ..Default::default()
        }
        .to_string(),
    );
    vote.routers[0].ed25519 = Some(VotedEd25519::None);
    vote.routers[1].microdescs[0] = "31,32".to_owned();
    vote.routers.truncate(4);
    let made = vote.sign(&key);
    let read = VoteText::parse(made.text().clone()).unwrap();
    assert_eq!(read.vote().encode(), *made.text().as_ref());
    assert_eq!(read.vote().routers, made.vote().routers);
    assert_eq!(read.digest(), made.digest());
    let signature = made.vote().signature.as_ref().unwrap();
    assert!(
        key.public()
            .verify_digest(made.digest(), &signature.signature)
            .is_ok()
    );
    assert!(made.text().contains("guard-wfu=98.000% "));
}

#[test]
fn what_tor_refuses_is_refused() {
    let without = |line: &str| -> String {
        VOTE.lines()
            .filter(|l| !l.starts_with(line))
            .map(|l| format!("{l}\n"))
            .collect()
    };
    for line in [
        "vote-status",
        "published",
        "valid-after",
        "voting-delay",
        "known-flags",
        "contact",
        "dir-source",
        "s ",
        "pr ",
        "directory-signature",
        "dir-key-certificate-version",
        "dir-identity-key",
    ] {
        assert!(VoteText::parse(without(line)).is_err(), "{line}");
    }
    let twice = format!(
        "{VOTE}{}",
        &VOTE[VOTE.find("directory-signature").unwrap()..]
    );
    // A second signature of the same kind is not looked at.
    assert!(VoteText::parse(twice).is_ok());
    let id = VOTE
        .lines()
        .find(|line| line.starts_with("id ed25519"))
        .unwrap();
    let same: String = VOTE
        .lines()
        .map(|line| {
            if line.starts_with("id ed25519") {
                id
            } else {
                line
            }
            .to_owned()
                + "\n"
        })
        .collect();
    assert!(matches!(
        VoteText::parse(same),
        Err(StatusError::Order("Ed25519 identities"))
    ));
    for (from, to) in [
        ("vote-status vote", "vote-status consensus"),
        ("\ns Authority", "\ns Unheard"),
        ("foo2=-7 foo=3", "foo=3 foo2=-7"),
        ("consensus-methods 32 33 34 35", "consensus-methods"),
        ("dir-source auth0 E", "dir-source auth0 F"),
    ] {
        assert!(VOTE.contains(from), "{from}");
        assert!(VoteText::parse(VOTE.replacen(from, to, 3)).is_err(), "{to}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damage_never_panics(at in 0..SRV.len(), byte in 0u8..128, len in 0..=SRV.len()) {
        let mut bytes = SRV.as_bytes().to_vec();
        bytes[at] = byte;
        bytes.truncate(len.max(at));
        let _ = VoteText::parse(String::from_utf8(bytes).expect("ASCII"));
    }
}
