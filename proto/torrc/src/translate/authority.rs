//! What only a directory authority's configuration has.

use super::{Work, practice};
use crate::settings::{Severity, Value};
use crate::toml::{Document, string};
use crate::value;

/// Options with rules on relays, and what each says of them.
const RULES: [(&str, &str); 4] = [
    ("AuthDirReject", "reject"),
    ("AuthDirInvalid", "invalid"),
    ("AuthDirBadExit", "badexit"),
    ("AuthDirMiddleOnly", "middleonly"),
];

/// How a value is written here.
type Written = fn(&str) -> Option<String>;

/// Options about flags, their keys, and how their values are written.
const FLAGS: [(&str, &str, Written); 8] = [
    ("AuthDirFastGuarantee", "auth_dir_fast_guarantee", bytes),
    (
        "AuthDirGuardBWGuarantee",
        "auth_dir_guard_bw_guarantee",
        bytes,
    ),
    (
        "AuthDirVoteGuardBwThresholdFraction",
        "auth_dir_vote_guard_bw_threshold_fraction",
        share,
    ),
    (
        "AuthDirVoteGuardGuaranteeTimeKnown",
        "auth_dir_vote_guard_guarantee_time_known",
        seconds,
    ),
    (
        "AuthDirVoteGuardGuaranteeWFU",
        "auth_dir_vote_guard_guarantee_wfu",
        share,
    ),
    (
        "AuthDirVoteStableGuaranteeMinUptime",
        "auth_dir_vote_stable_guarantee_min_uptime",
        seconds,
    ),
    (
        "AuthDirVoteStableGuaranteeMTBF",
        "auth_dir_vote_stable_guarantee_mtbf",
        seconds,
    ),
    (
        "MinUptimeHidServDirectoryV2",
        "min_uptime_hid_serv_directory_v2",
        seconds,
    ),
];

fn bytes(text: &str) -> Option<String> {
    let bytes = u32::try_from(value::size(text)?);
    Some(bytes.unwrap_or(u32::MAX).to_string())
}

fn seconds(text: &str) -> Option<String> {
    Some(value::seconds(text)?.to_string())
}

/// TOML tells 1.0 from 1.
fn share(text: &str) -> Option<String> {
    let share: f64 = text.trim().parse().ok()?;
    Some(format!("{share:?}"))
}

/// Options that are a number in either file.
const NUMBERS: [(&str, &str); 2] = [
    ("V3AuthNIntervalsValid", "intervals_valid"),
    ("AuthDirMaxServersPerAddr", "auth_dir_max_servers_per_addr"),
];

impl Work<'_> {
    /// `[authority]` and what is below it.
    pub(super) fn authority(&mut self, document: &mut Document) {
        let mut body = Document::default();
        let is_testing = self.settings.is_on("TestingTorNetwork");
        // A test network of tor's votes at its first interval before it has any consensus.
        let first = self.settings.one("TestingV3AuthInitialVotingInterval");
        let interval = self.settings.one("V3AuthVotingInterval");
        for (value, key) in [
            (interval.or(first.filter(|_| is_testing)), "voting_interval"),
            (self.settings.one("V3AuthVoteDelay"), "vote_delay"),
            (self.settings.one("V3AuthDistDelay"), "dist_delay"),
        ] {
            if let Some(value) = value
                && let Some(seconds) = value::seconds(&value.text)
            {
                body.key(key, &seconds.to_string(), value);
            }
        }
        for (option, key) in NUMBERS {
            if let Some(value) = self.settings.one(option) {
                body.key(key, value.text.trim(), value);
            }
        }
        if let Some(value) = self.settings.one("AuthDirHasIPv6Connectivity") {
            let is_on = value.text.trim() == "1";
            body.key("tests_ipv6", &is_on.to_string(), value);
        }
        self.versions(&mut body);
        self.paths(
            &mut body,
            &[
                ("V3BandwidthsFile", "bandwidth_file"),
                ("GuardfractionFile", "guardfraction_file"),
            ],
        );
        document.plain("");
        document.plain("[authority]");
        document.extend(body);
        let mut flags = Document::default();
        for (option, key, written) in FLAGS {
            if let Some(value) = self.settings.one(option)
                && let Some(text) = written(&value.text)
            {
                flags.key(key, &text, value);
            }
        }
        document.section("[authority.flags]", flags);
        let mut params = Document::default();
        for line in self.lines(&["ConsensusParams"]) {
            for word in line.text.split_whitespace() {
                match word.split_once('=') {
                    Some((key, number)) if number.parse::<i32>().is_ok() => {
                        params.key(&string(key), number, line);
                    }
                    _ => self.refuse(line, format!("{word:?} is no NAME=NUMBER")),
                }
            }
        }
        document.section("[authority.params]", params);
        practice::practice(self, document);
        for (option, verdict) in RULES {
            for line in self.lines(&[option]) {
                let mut table = Document::default();
                table.list("relays", &relays(line));
                table.key("verdicts", &format!("[{}]", string(verdict)), line);
                document.section("[[authority.rules]]", table);
            }
        }
    }

    fn versions(&mut self, body: &mut Document) {
        let names = [
            "RecommendedVersions",
            "RecommendedClientVersions",
            "RecommendedServerVersions",
        ];
        let joined = |name: &&str| {
            let lines = self.settings.lines(name).iter();
            let versions: Vec<_> = lines.flat_map(|line| value::words(&line.text)).collect();
            (!versions.is_empty()).then(|| versions.join(","))
        };
        let all: Vec<_> = names.iter().filter_map(joined).collect();
        let lines = self.lines(&names);
        let Some(line) = lines.first() else { return };
        if !self.settings.is_on("VersioningAuthoritativeDirectory") {
            let what = "of no effect without VersioningAuthoritativeDirectory 1";
            return self.note(Severity::Info, line, what);
        }
        match all.first() {
            Some(first) if all.iter().all(|one| one == first) => {
                body.text_key("recommended_versions", first, line);
            }
            _ => self.refuse(line, "clients and relays are recommended the same versions"),
        }
    }
}

/// The relays and networks of a rule, without its action and its ports.
fn relays(line: &Value) -> Vec<(String, &Value)> {
    let rules = value::words(&line.text).map(|rule| {
        let address = rule.split_whitespace().next_back().unwrap_or_default();
        let address = address.strip_suffix(":*").unwrap_or(address);
        (address.to_owned(), line)
    });
    rules.collect()
}
