//! What is said of relays in votes of `tor` that disagree, and of thresholds at their edges.

use super::*;
use cepa_netdoc::consensus::ConsensusText;
use cepa_netdoc::vote::VoteText;

macro_rules! vector {
    ($name:literal) => {
        include_str!(concat!("../../../tests/vectors/authority/four/", $name))
    };
}

pub(crate) fn votes() -> Vec<Arc<Vote>> {
    let texts = [
        vector!("vote-auth0"),
        vector!("vote-auth1"),
        vector!("vote-auth2"),
        vector!("vote-auth3"),
    ];
    let read = texts.map(|text| Arc::clone(VoteText::parse(text).unwrap().vote()));
    read.into()
}

fn of(line: &str, stats: &str, entry: &VoteRouter, vote: &Vote, flag: &str) -> FlagVote {
    let mut vote = vote.clone();
    let mut entry = entry.clone();
    vote.flag_thresholds = Some(line.to_owned());
    entry.stats = Some(stats.to_owned());
    flag_vote(flag, &vote, &entry)
}

#[test]
fn who_gave_a_flag_and_who_did_not_is_what_the_votes_say() {
    let votes = votes();
    let text = ConsensusText::parse(vector!("consensus")).unwrap();
    for router in &text.consensus().routers {
        let told = why(&router.rsa_id, &votes, 4, Some(text.consensus()));
        assert_eq!(told.nickname.as_deref(), Some(router.nickname.as_str()));
        for one in &told.flags {
            let is_given = one.is_given.unwrap();
            assert_eq!(
                is_given,
                router.flags.to_string().split(' ').any(|f| f == one.flag)
            );
            // A MiddleOnly relay loses flags that most have given it.
            let is_most = one.given_by.len() >= one.needed;
            assert!(is_given == is_most || !is_given, "{one:?}");
        }
        assert!(
            told.flags
                .iter()
                .any(|one| one.flag == "Guard" && !one.votes.is_empty())
        );
    }
    let nobody = why(&RsaId::from([7; 20]), &votes, 4, Some(text.consensus()));
    assert_eq!(nobody.nickname, None);
    assert_eq!(nobody.consensus.and_then(|one| one.flags), None);
    assert!(nobody.votes.iter().all(|vote| !vote.lists));
    assert!(
        nobody
            .flags
            .iter()
            .all(|one| one.votes.is_empty() && one.given_by.is_empty())
    );
}

#[test]
fn what_is_missed_is_counted_to_the_edge() {
    let votes = votes();
    let vote = &votes[0];
    let mut entry = vote.routers[0].clone();
    entry.w.bandwidth = Some(1500);
    entry.w.measured = None;
    entry.w.measured_but_authority = None;
    let line = "stable-uptime=10 stable-mtbf=5000 fast-speed=1500000 guard-wfu=98.000% \
                guard-tk=691200 guard-bw-inc-exits=3000000 guard-bw-exc-exits=4000000 \
                enough-mtbf=1 ignoring-advertised-bws=0";
    let edge = "wfu=0.980000 tk=691200 mtbf=5000";
    let missed = |flag: &str, line: &str, stats: &str| -> Vec<f64> {
        let checks = of(line, stats, &entry, vote, flag).checks;
        checks.iter().map(|check| check.missed_by).collect()
    };
    assert_eq!(missed("Fast", line, edge), [0.0]);
    assert_eq!(missed("Stable", line, edge), [0.0]);
    // 2,097 kilobytes are enough, whatever the quarter is.
    assert_eq!(missed("Guard", line, edge), [597_000.0, 0.0, 0.0]);
    let below = missed("Guard", line, "wfu=0.979000 tk=691199 mtbf=4999");
    assert!(
        (below[1] - 0.001).abs() < 1e-9 && below[2] == 1.0,
        "{below:?}"
    );
    assert_eq!(missed("Stable", line, "mtbf=4999"), [1.0]);
    let ignoring = line.replace("advertised-bws=0", "advertised-bws=1");
    assert_eq!(missed("Fast", &ignoring, edge), [1_500_000.0]);
    // Uptime is in no vote.
    let young = line.replace("enough-mtbf=1", "enough-mtbf=0");
    let checks = of(&young, edge, &entry, vote, "Stable").checks;
    assert_eq!((checks[0].what, checks[0].value), (Quantity::Uptime, None));
    for odd in ["", "wfu", "wfu=", "wfu=nan tk=-", "=1", "wfu=inf"] {
        assert!(
            of(odd, odd, &entry, vote, "Guard").checks.len() <= 3,
            "{odd}"
        );
    }
}
