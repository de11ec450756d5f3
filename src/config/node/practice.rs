//! The table `[authority.practice]`: what an authority leaves out of what it could do, and what
//! its operator decides by hand. Options of `tor` in `snake_case`, with its defaults.

use cepa_authority::rules::{BadRule, Rule, Rules, Subject, Verdict};
use cepa_authority::{Config, Duties};
use cepa_netdoc::routerstatus::Flags;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::config::source::Source;
use crate::error::Failure;

/// Entries of a set of relays, at most.
const SET_MAX: usize = 10_000;
/// Seconds of a day.
const DAY_SECS: u32 = 86_400;
/// The shortest delay of votes or signatures that peers accept, in seconds.
const DELAY_SECS_MIN: u32 = 2;

/// The table.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PracticeTable {
    /// Whether a relay's two identity keys belong together for ever; yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_dir_pin_keys: Option<bool>,
    /// Whether relays are tested; yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_dir_test_reachability: Option<bool>,
    /// Whether a test asks for the Ed25519 identity; yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_dir_test_ed25519_link_keys: Option<bool>,
    /// Whether it takes part in shared randomness; yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_dir_shared_randomness: Option<bool>,
    /// Whether it votes on the flag `BadExit`; if any rule is about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_dir_list_bad_exits: Option<bool>,
    /// Whether it votes on the flag `MiddleOnly`; if any rule is about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_dir_list_middle_only: Option<bool>,
    /// Relays that get the flag Guard.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub auth_dir_vote_guard: Vec<Spanned<String>>,
    /// The oldest version of `tor` that is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimal_accepted_server_version: Option<Spanned<String>>,
    /// Where more relays are measured, what others say of themselves counts for nothing; 500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_measured_bws_for_auth_to_ignore_advertised: Option<i32>,
    /// Whether consensuses are signed with a legacy key, too; if there is one in `keys`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v3_auth_use_legacy_key: Option<bool>,
    /// Seconds for votes to arrive while no consensus is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub testing_v3_auth_initial_vote_delay: Option<Spanned<u32>>,
    /// Seconds for signatures to arrive while no consensus is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub testing_v3_auth_initial_dist_delay: Option<Spanned<u32>>,
    /// So many seconds after midnight, and not at midnight, intervals begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub testing_v3_auth_voting_start_offset: Option<Spanned<u32>>,
    /// Seconds after its start until it says who is Running; 0 in a test network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub testing_auth_dir_time_to_learn_reachability: Option<Spanned<u32>>,
    /// Relays that get the flag Guard in a test network; all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub testing_dir_auth_vote_guard: Option<Vec<Spanned<String>>>,
    /// Relays that get the flag Exit in a test network; none but exits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub testing_dir_auth_vote_exit: Option<Vec<Spanned<String>>>,
    /// Relays that get the flag `HSDir` in a test network; all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub testing_dir_auth_vote_hs_dir: Option<Vec<Spanned<String>>>,
    /// Whether no others get Guard.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub testing_dir_auth_vote_guard_is_strict: bool,
    /// Whether no others get Exit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub testing_dir_auth_vote_exit_is_strict: bool,
    /// Whether no others get `HSDir`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub testing_dir_auth_vote_hs_dir_is_strict: bool,
    /// Bytes a second that an Exit of a test network has at least; 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub testing_min_exit_flag_threshold: Option<u32>,
    /// Bytes a second that a Fast relay of a test network has at least; 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub testing_min_fast_flag_threshold: Option<u32>,
}

/// What is given by hand: the flag, its set, and whether nobody else gets it.
type Given<'a> = (Flags, Verdict, Option<&'a [Spanned<String>]>, bool, &'a str);

/// The table, checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Practice {
    table: PracticeTable,
}

impl Practice {
    /// Checks the table; what it says of single relays is added to the rules.
    pub(super) fn checked(
        source: &Source,
        table: PracticeTable,
        is_testing: bool,
        rules: &mut Rules,
    ) -> Result<Self, Failure> {
        for (key, value, least) in [
            (
                "testing_v3_auth_initial_vote_delay",
                &table.testing_v3_auth_initial_vote_delay,
                DELAY_SECS_MIN,
            ),
            (
                "testing_v3_auth_initial_dist_delay",
                &table.testing_v3_auth_initial_dist_delay,
                DELAY_SECS_MIN,
            ),
            (
                "testing_v3_auth_voting_start_offset",
                &table.testing_v3_auth_voting_start_offset,
                0,
            ),
            (
                "testing_auth_dir_time_to_learn_reachability",
                &table.testing_auth_dir_time_to_learn_reachability,
                0,
            ),
        ] {
            let expected = format!("{least} to a day's seconds, and only where testing = true");
            let is_right = |secs: &u32| is_testing && (least..DAY_SECS).contains(secs);
            if let Some(value) = value {
                source.expect(value, key, &expected, is_right)?;
            }
        }
        if let Some(version) = &table.minimal_accepted_server_version {
            let expected = "a version such as 0.4.9.11";
            let key = "minimal_accepted_server_version";
            source.expect(version, key, expected, |text| is_versions(text))?;
        }
        let practice = Practice { table };
        let guard = (
            Verdict::Guard,
            practice.table.auth_dir_vote_guard.as_slice(),
            "auth_dir_vote_guard",
        );
        let given = practice.given();
        let given = given.iter().filter(|_| is_testing);
        let given = given.filter_map(|(_, verdict, set, _, key)| Some((*verdict, (*set)?, *key)));
        for (verdict, set, key) in std::iter::once(guard).chain(given) {
            if let Some(more) = set.get(SET_MAX) {
                return Err(source.wrong(more, key, &format!("at most {SET_MAX} relays")));
            }
            for entry in set {
                let wrong = |error: BadRule| source.wrong(entry, key, error.expected());
                rules.push(Rule {
                    verdict,
                    subject: Subject::of_set(entry.get_ref().trim()).map_err(wrong)?,
                    comment: String::new(),
                });
            }
        }
        Ok(practice)
    }

    fn given(&self) -> [Given<'_>; 3] {
        let table = &self.table;
        [
            (
                Flags::GUARD,
                Verdict::Guard,
                table.testing_dir_auth_vote_guard.as_deref(),
                table.testing_dir_auth_vote_guard_is_strict,
                "testing_dir_auth_vote_guard",
            ),
            (
                Flags::EXIT,
                Verdict::Exit,
                table.testing_dir_auth_vote_exit.as_deref(),
                table.testing_dir_auth_vote_exit_is_strict,
                "testing_dir_auth_vote_exit",
            ),
            (
                Flags::HS_DIR,
                Verdict::HsDir,
                table.testing_dir_auth_vote_hs_dir.as_deref(),
                table.testing_dir_auth_vote_hs_dir_is_strict,
                "testing_dir_auth_vote_hs_dir",
            ),
        ]
    }

    /// Whether a legacy key is used where there is one.
    pub(crate) fn uses_legacy_key(&self) -> bool {
        self.table.v3_auth_use_legacy_key.unwrap_or(true)
    }

    /// Has an authority do so.
    pub(crate) fn apply(&self, core: &mut Config) {
        let table = &self.table;
        let usual = Duties::default();
        core.duties = Duties {
            pins_keys: table.auth_dir_pin_keys.unwrap_or(usual.pins_keys),
            tests_reachability: (table.auth_dir_test_reachability)
                .unwrap_or(usual.tests_reachability),
            tests_link_keys: (table.auth_dir_test_ed25519_link_keys)
                .unwrap_or(usual.tests_link_keys),
            shares_randomness: (table.auth_dir_shared_randomness)
                .unwrap_or(usual.shares_randomness),
            lists_bad_exits: table.auth_dir_list_bad_exits,
            lists_middle_only: table.auth_dir_list_middle_only,
        };
        if let Some(version) = &table.minimal_accepted_server_version {
            core.tor_version_min.clone_from(version.get_ref());
        }
        if let Some(relays) = table.min_measured_bws_for_auth_to_ignore_advertised {
            core.measured_min = relays;
        }
        if !core.is_testing {
            return;
        }
        let secs = |value: &Option<Spanned<u32>>| value.as_ref().map(|secs| *secs.get_ref());
        core.initial_delays_secs = [
            secs(&table.testing_v3_auth_initial_vote_delay),
            secs(&table.testing_v3_auth_initial_dist_delay),
        ];
        let offset = secs(&table.testing_v3_auth_voting_start_offset);
        core.timing.offset_secs = offset.unwrap_or(0);
        if let Some(secs) = secs(&table.testing_auth_dir_time_to_learn_reachability) {
            core.time_to_learn = std::time::Duration::from_secs(secs.into());
        }
        for (flag, _, set, is_strict, _) in self.given() {
            // Who names some has not all.
            if set.is_some() || is_strict {
                core.flags_forced.remove(flag);
            }
            core.flags_strict.set(flag, is_strict);
        }
        let kilobytes = |bytes: Option<u32>| bytes.unwrap_or(0) / 1000;
        core.flag_terms.exit_min_kilobytes = kilobytes(table.testing_min_exit_flag_threshold);
        core.flag_terms.fast_min_kilobytes = kilobytes(table.testing_min_fast_flag_threshold);
    }
}

/// A list of versions as votes have it: no spaces, no empty one (dir-spec 3.4.1).
pub(super) fn is_versions(text: &str) -> bool {
    text.split(',').all(|version| {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
        version.starts_with(|first: char| first.is_ascii_digit()) && version.bytes().all(is_word)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cepa_authority::schedule::Timing;

    use super::*;

    fn applied(text: &str, is_testing: bool) -> Result<(Config, Rules), Failure> {
        let source = Source::from_text(Path::new("a.toml"), text);
        let mut rules = Rules::default();
        let practice = Practice::checked(&source, source.parse()?, is_testing, &mut rules)?;
        let mut core = match is_testing {
            true => Config::testing(Vec::new(), String::new(), Timing::hourly()),
            false => Config::new(Vec::new(), String::new()),
        };
        practice.apply(&mut core);
        Ok((core, rules))
    }

    #[test]
    fn an_authority_practises_as_it_is_told() {
        let (core, rules) = applied("", true).unwrap();
        assert_eq!(core.duties, Duties::default());
        assert!(core.flags_forced.contains(Flags::GUARD | Flags::HS_DIR));
        assert_eq!(rules, Rules::default());
        let text = "auth_dir_pin_keys = false\nauth_dir_list_bad_exits = true\n\
            minimal_accepted_server_version = \"0.4.9.5\"\n\
            min_measured_bws_for_auth_to_ignore_advertised = 3\n\
            testing_v3_auth_initial_vote_delay = 20\n\
            testing_v3_auth_voting_start_offset = 7\n\
            testing_auth_dir_time_to_learn_reachability = 60\n\
            testing_dir_auth_vote_guard = [\"moria1\", \"{de}\"]\n\
            testing_dir_auth_vote_exit_is_strict = true\n\
            testing_min_fast_flag_threshold = 5000\n";
        let (core, rules) = applied(text, true).unwrap();
        assert!(!core.duties.pins_keys && core.duties.lists_bad_exits == Some(true));
        assert_eq!((&*core.tor_version_min, core.measured_min), ("0.4.9.5", 3));
        assert_eq!(core.initial_timing().vote_secs, 20);
        assert_eq!(core.timing.offset_secs, 7);
        assert_eq!(core.time_to_learn.as_secs(), 60);
        assert!(!core.flags_forced.contains(Flags::GUARD));
        assert!(core.flags_forced.contains(Flags::HS_DIR));
        assert!(core.flags_strict.contains(Flags::EXIT));
        assert_eq!(core.flag_terms.fast_min_kilobytes, 5);
        assert!(rules.say(Verdict::Guard) && rules.need_countries());
    }

    #[test]
    fn what_is_for_tests_stays_there() {
        assert!(applied("testing_v3_auth_initial_vote_delay = 20", false).is_err());
        let text = "testing_dir_auth_vote_guard_is_strict = true";
        let (core, _) = applied(text, false).unwrap();
        assert_eq!(core.flags_strict, Flags::NONE);
        let (_, rules) = applied("auth_dir_vote_guard = [\"*\"]", false).unwrap();
        assert!(rules.say(Verdict::Guard));
        for wrong in [
            "auth_dir_vote_guard = [\"a b\"]",
            "minimal_accepted_server_version = \"new\"",
            "testing_v3_auth_initial_vote_delay = 1",
        ] {
            assert!(applied(wrong, true).is_err(), "{wrong}");
        }
    }
}
