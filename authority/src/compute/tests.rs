//! The consensus of real votes, and properties of the rules that make it.

mod wild;

use proptest::prelude::*;

use super::*;
use cepa_netdoc::consensus::ConsensusText;

macro_rules! real {
    ($name:literal) => {
        include_str!(concat!("../../../tests/vectors/netdoc/consensus/", $name))
    };
}

macro_rules! vector {
    ($name:literal) => {
        include_str!(concat!("../../../tests/vectors/authority/", $name))
    };
}

fn check(votes: &[&str], authorities: usize, ns: &str, microdesc: &str) {
    let votes: Vec<VoteText> = votes
        .iter()
        .map(|text| VoteText::parse(*text).expect("tor's vote"))
        .collect();
    let ballot = Ballot {
        votes: &votes,
        authorities,
        is_shared_random_fresh: false,
        method_max: crate::config::METHOD_MAX,
    };
    let computed = compute(&ballot).expect("votes");
    for (ours, theirs) in [(&computed.ns, ns), (&computed.microdesc, microdesc)] {
        let body = theirs
            .split("directory-signature ")
            .next()
            .expect("a first part");
        assert_eq!(ours.encode_unsigned(), body);
        let text = ConsensusText::parse(theirs).expect("tor's consensus");
        let algorithm = ours.flavour.digest_algorithm();
        assert_eq!(ours.signed_digest(), text.signed_digest(algorithm));
    }
}

#[test]
fn it_is_the_consensus_that_tor_computed_of_the_same_votes() {
    check(
        &[
            real!("vote-auth0"),
            real!("vote-auth1"),
            real!("vote-auth2"),
        ],
        3,
        real!("consensus-2"),
        real!("consensus-microdesc-2"),
    );
}

/// Four authorities of different opinions: parameters, measurements, guards, versions, flags.
#[test]
fn it_is_the_consensus_of_tors_that_disagree() {
    check(
        &[
            vector!("four/vote-auth0"),
            vector!("four/vote-auth1"),
            vector!("four/vote-auth2"),
            vector!("four/vote-auth3"),
        ],
        4,
        vector!("four/consensus"),
        vector!("four/consensus-microdesc"),
    );
}

/// The same network after one of the authorities and a relay have died.
#[test]
fn it_is_the_consensus_of_three_of_four() {
    check(
        &[
            vector!("three/vote-auth2"),
            vector!("three/vote-auth0"),
            vector!("three/vote-auth1"),
        ],
        4,
        vector!("three/consensus"),
        vector!("three/consensus-microdesc"),
    );
}

/// Each of four authorities invents as many flags as a vote may have, and gives them to all: the
/// consensus has more than any vote, and is read.
#[test]
fn flags_that_one_authority_invents_do_not_end_the_consensus() {
    let texts = [
        vector!("four/vote-auth0"),
        vector!("four/vote-auth1"),
        vector!("four/vote-auth2"),
        vector!("four/vote-auth3"),
    ];
    let votes: Vec<VoteText> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let lines = text.lines().map(|line| {
                let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
                if matches!(words[0].as_str(), "known-flags" | "s") {
                    let known = text.lines().find(|line| line.starts_with("known-flags "));
                    let own = known.unwrap().split(' ').count() - 1;
                    words.extend((own..64).map(|n| format!("X{index}invented{n}")));
                    words[1..].sort_unstable();
                }
                words.join(" ") + "\n"
            });
            VoteText::parse(lines.collect::<String>()).unwrap()
        })
        .collect();
    let ballot = Ballot {
        votes: &votes,
        authorities: 4,
        is_shared_random_fresh: false,
        method_max: crate::config::METHOD_MAX,
    };
    let computed = compute(&ballot).unwrap();
    assert!(computed.ns.known_flags.len() > 200);
    for mut consensus in [computed.ns, computed.microdesc] {
        consensus.signatures = votes[0].vote().signature.clone().into_iter().collect();
        let read = ConsensusText::parse(consensus.encode()).unwrap();
        assert_eq!(read.consensus().known_flags, consensus.known_flags);
        assert!(
            read.consensus()
                .routers
                .iter()
                .all(|one| one.flags_unknown.len() > 200)
        );
    }
}

proptest! {
    #[test]
    fn weights_of_each_kind_sum_to_the_scale(
        guards in 0i64..1 << 40,
        middles in 0i64..1 << 40,
        exits in 0i64..1 << 40,
        both in 0i64..1 << 40,
        small in 0u8..16,
    ) {
        let cut = |value: i64, bit: u8| if small >> bit & 1 == 0 { value } else { value % 100 };
        let (guards, middles) = (cut(guards, 0), cut(middles, 1));
        let (exits, both) = (cut(exits, 2), cut(both, 3));
        let total = guards + middles + exits + both;
        let totals = Totals { guards, middles, exits, both, total };
        if let Some(line) = bandwidth_weights(totals, 10_000) {
            prop_assert_eq!(line.len(), 19);
            let w = |name: &str| i64::from(line.lookup(name).expect("one of 19"));
            for names in [&["Wed", "Wmd", "Wgd"][..], &["Wgg", "Wmg"], &["Wee", "Wme"]] {
                let sum: i64 = names.iter().map(|name| w(name)).sum();
                prop_assert!((sum - 10_000).abs() <= 10, "{names:?} {sum}");
            }
            prop_assert!(line.iter().all(|(_, weight)| (0..=10_000).contains(&weight)));
        }
    }
}
