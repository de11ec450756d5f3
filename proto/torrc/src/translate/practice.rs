//! `[authority.practice]`: what an authority leaves out, and what its operator decides by hand.

use super::by_kind::{self, Same};
use super::{Work, value};
use crate::settings::Severity;
use crate::toml::{Document, string};

/// Options of any authority.
const ALWAYS: [Same; 7] = [
    ("AuthDirPinKeys", "auth_dir_pin_keys"),
    ("AuthDirTestReachability", "auth_dir_test_reachability"),
    (
        "AuthDirTestEd25519LinkKeys",
        "auth_dir_test_ed25519_link_keys",
    ),
    ("AuthDirSharedRandomness", "auth_dir_shared_randomness"),
    ("AuthDirVoteGuard", "auth_dir_vote_guard"),
    (
        "MinimalAcceptedServerVersion",
        "minimal_accepted_server_version",
    ),
    (
        "MinMeasuredBWsForAuthToIgnoreAdvertised",
        "min_measured_bws_for_auth_to_ignore_advertised",
    ),
];

/// Options that are off unless they are written, where a file of ours goes by what is there.
const OFF: [Same; 3] = [
    ("AuthDirListBadExits", "auth_dir_list_bad_exits"),
    ("AuthDirListMiddleOnly", "auth_dir_list_middle_only"),
    ("V3AuthUseLegacyKey", "v3_auth_use_legacy_key"),
];

/// Options of test networks alone.
const TESTING: [Same; 9] = [
    (
        "TestingV3AuthInitialVoteDelay",
        "testing_v3_auth_initial_vote_delay",
    ),
    (
        "TestingV3AuthInitialDistDelay",
        "testing_v3_auth_initial_dist_delay",
    ),
    (
        "TestingV3AuthVotingStartOffset",
        "testing_v3_auth_voting_start_offset",
    ),
    (
        "TestingAuthDirTimeToLearnReachability",
        "testing_auth_dir_time_to_learn_reachability",
    ),
    (
        "TestingDirAuthVoteGuardIsStrict",
        "testing_dir_auth_vote_guard_is_strict",
    ),
    (
        "TestingDirAuthVoteExitIsStrict",
        "testing_dir_auth_vote_exit_is_strict",
    ),
    (
        "TestingDirAuthVoteHSDirIsStrict",
        "testing_dir_auth_vote_hs_dir_is_strict",
    ),
    (
        "TestingMinExitFlagThreshold",
        "testing_min_exit_flag_threshold",
    ),
    (
        "TestingMinFastFlagThreshold",
        "testing_min_fast_flag_threshold",
    ),
];

/// Sets of relays of test networks; whoever is in none has to earn the flag.
const SETS: [Same; 3] = [
    ("TestingDirAuthVoteGuard", "testing_dir_auth_vote_guard"),
    ("TestingDirAuthVoteExit", "testing_dir_auth_vote_exit"),
    ("TestingDirAuthVoteHSDir", "testing_dir_auth_vote_hs_dir"),
];

/// Options with rules on countries, and what each says of the relays there.
const COUNTRIES: [(&str, &str); 4] = [
    ("AuthDirRejectCCs", "reject"),
    ("AuthDirInvalidCCs", "invalid"),
    ("AuthDirBadExitCCs", "badexit"),
    ("AuthDirMiddleOnlyCCs", "middleonly"),
];

/// Writes the table, and the rules on countries.
pub(super) fn practice(work: &mut Work<'_>, document: &mut Document) {
    let mut table = Document::default();
    by_kind::write(work, &mut table, &ALWAYS);
    for (option, key) in OFF {
        if work.settings.one(option).is_none() {
            table.plain(format!("{key} = false"));
        }
    }
    by_kind::write(work, &mut table, &OFF);
    let all = TESTING.iter().chain(&SETS);
    if work.settings.is_on("TestingTorNetwork") {
        by_kind::write(work, &mut table, &TESTING);
        by_kind::write(work, &mut table, &SETS);
        for (option, key) in SETS {
            if work.settings.one(option).is_none() {
                table.plain(format!("{key} = []"));
            }
        }
    } else {
        for (option, _) in all {
            for line in work.lines(&[option]) {
                let what = "of no effect without TestingTorNetwork";
                work.note(Severity::Info, line, what);
            }
        }
    }
    document.section("[authority.practice]", table);
    for (option, verdict) in COUNTRIES {
        for line in work.lines(&[option]) {
            let words = value::words(&line.text).filter(|word| !word.is_empty());
            let relays = words.map(|code| (format!("{{{}}}", code.trim_matches(['{', '}'])), line));
            let mut rule = Document::default();
            rule.list("relays", &relays.collect::<Vec<_>>());
            if !rule.is_empty() {
                rule.key("verdicts", &format!("[{}]", string(verdict)), line);
                document.section("[[authority.rules]]", rule);
            }
        }
    }
}
