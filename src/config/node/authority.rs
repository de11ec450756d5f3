//! The table `[authority]`: the times of voting (dir-spec 1.4) and what goes into votes.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use cepa_authority::rules::{BadRule, Rule, Rules};
use cepa_authority::{FlagTerms, METHODS};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::practice::{Practice, PracticeTable, is_versions};
use crate::config::source::Source;
use crate::config::{AuthorityConfig, RelayConfig};
use crate::error::{Failure, fail};

/// Seconds of a day, which each voting interval divides (dir-spec 1.4).
const DAY_SECS: u32 = 86_400;
/// The shortest voting interval that peers accept, in seconds.
pub const INTERVAL_SECS_MIN: u32 = 10;
/// The shortest delay of votes or signatures that peers accept, in seconds.
const DELAY_SECS_MIN: u32 = 2;
/// The longest default of a delay, in seconds (dir-spec 1.4).
const DELAY_SECS_DEFAULT: u32 = 300;

/// The table `[authority]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthorityTable {
    /// Seconds; an hour without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voting_interval: Option<Spanned<u32>>,
    /// Seconds from one round to the next while no consensus is in force; half of the interval
    /// without it, in a test network all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_voting_interval: Option<Spanned<u32>>,
    /// Seconds; a fifth of the interval without it, 300 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vote_delay: Option<Spanned<u32>>,
    /// Seconds; the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dist_delay: Option<Spanned<u32>>,
    /// Intervals for which a consensus is valid; 3 without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intervals_valid: Option<Spanned<u32>>,
    /// Testing: relays that have published before the first vote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_vote_after_relays: Option<Spanned<usize>>,
    /// Versions of `tor` to recommend, joined by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommended_versions: Option<Spanned<String>>,
    /// The highest consensus method to vote for, 32 to 37; 35 without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consensus_method_max: Option<Spanned<u32>>,
    /// Relays that may be Running on one address; 2 without it, any number in a test network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_dir_max_servers_per_addr: Option<usize>,
    /// Whether relays are tested at their IPv6 addresses, too; it takes an IPv6 connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tests_ipv6: Option<bool>,
    /// The bandwidth file of a scanner such as sbws (`V3BandwidthsFile`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_file: Option<PathBuf>,
    /// The file of GuardFraction (`GuardfractionFile`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardfraction_file: Option<PathBuf>,
    /// Where every consensus and vote is kept, in the layout of CollecTor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_dir: Option<PathBuf>,
    /// Rules in `tor`'s format; `approved-routers` in the data folder without it, if it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved_routers: Option<PathBuf>,
    /// What is good enough for a flag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<FlagsTable>,
    /// What it leaves out, and what is decided by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub practice: Option<PracticeTable>,
    /// What is said of single relays.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RulesTable>,
    /// Consensus parameters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, Spanned<i32>>,
}

/// The table `[authority.flags]`: options of `tor`, with its defaults.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlagsTable {
    /// Bytes a second that make a relay Fast whatever the others have; 102,400.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_dir_fast_guarantee: Option<u32>,
    /// Bytes a second that are enough for Guard; 2,097,152.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_dir_guard_bw_guarantee: Option<u32>,
    /// The share of relays that has less than Guard takes; 0.75.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_dir_vote_guard_bw_threshold_fraction: Option<f64>,
    /// Seconds known that are enough for Guard; eight days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_dir_vote_guard_guarantee_time_known: Option<u64>,
    /// Weighted fractional uptime that is enough for Guard; 0.98.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_dir_vote_guard_guarantee_wfu: Option<f64>,
    /// Seconds of uptime that are enough for Stable; 30 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_dir_vote_stable_guarantee_min_uptime: Option<u64>,
    /// Seconds between failures that are enough for Stable; five days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_dir_vote_stable_guarantee_mtbf: Option<u64>,
    /// Seconds of uptime that `HSDir` needs; four days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_uptime_hid_serv_directory_v2: Option<u64>,
}

impl FlagsTable {
    fn terms(self) -> FlagTerms {
        let usual = FlagTerms::default();
        let kilobytes = |bytes: u32| bytes / 1000;
        let share = |share: f64| share.clamp(0.0, 1.0);
        FlagTerms {
            fast_kilobytes: (self.auth_dir_fast_guarantee).map_or(usual.fast_kilobytes, kilobytes),
            guard_kilobytes: (self.auth_dir_guard_bw_guarantee)
                .map_or(usual.guard_kilobytes, kilobytes),
            guard_bandwidth_fraction: (self.auth_dir_vote_guard_bw_threshold_fraction)
                .map_or(usual.guard_bandwidth_fraction, share),
            guard_wfu: (self.auth_dir_vote_guard_guarantee_wfu).map_or(usual.guard_wfu, share),
            guard_time_known_seconds: (self.auth_dir_vote_guard_guarantee_time_known)
                .unwrap_or(usual.guard_time_known_seconds),
            stable_uptime_seconds: (self.auth_dir_vote_stable_guarantee_min_uptime)
                .unwrap_or(usual.stable_uptime_seconds),
            stable_mtbf_seconds: (self.auth_dir_vote_stable_guarantee_mtbf)
                .unwrap_or(usual.stable_mtbf_seconds),
            hs_dir_uptime_seconds: (self.min_uptime_hid_serv_directory_v2)
                .unwrap_or(usual.hs_dir_uptime_seconds),
            ..usual
        }
    }
}

/// A table `[[authority.rules]]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesTable {
    /// Fingerprints, Ed25519 identities, networks such as `192.0.2.0/24`, countries such as `{de}`.
    pub relays: Vec<Spanned<String>>,
    /// `reject`, `invalid`, `badexit`, `middleonly`, `stripguard`, `striphsdir`, `stripv2dir`,
    /// `guard`, `exit`, `hsdir`.
    pub verdicts: Vec<Spanned<String>>,
    /// Why; for whoever reads it later.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

/// The file of rules in the data folder, as `tor` has it.
const APPROVED_ROUTERS: &str = "approved-routers";
/// The largest file of rules, in bytes.
const APPROVED_ROUTERS_LEN_MAX: u64 = 16 << 20;

/// All rules: those of the tables, then those of the file.
fn rules(source: &Source, data_dir: &Path, table: &AuthorityTable) -> Result<Rules, Failure> {
    let mut rules = Rules::default();
    for one in &table.rules {
        for (verdict, subject) in (one.verdicts.iter())
            .flat_map(|verdict| one.relays.iter().map(move |relay| (verdict, relay)))
        {
            let wrong = |value, key, error: BadRule| source.wrong(value, key, error.expected());
            rules.push(Rule {
                verdict: (verdict.get_ref().parse())
                    .map_err(|error| wrong(verdict, "verdicts", error))?,
                subject: (subject.get_ref().parse())
                    .map_err(|error| wrong(subject, "relays", error))?,
                comment: one.comment.clone(),
            });
        }
    }
    let (path, is_named) = match &table.approved_routers {
        Some(path) => (source.resolve(path), true),
        None => (data_dir.join(APPROVED_ROUTERS), false),
    };
    for rule in approved_routers(&path, is_named)? {
        rules.push(rule);
    }
    Ok(rules)
}

/// The rules of a file in `tor`'s format; none if it is not there and nobody has named it.
fn approved_routers(path: &Path, is_named: bool) -> Result<Vec<Rule>, Failure> {
    let read = std::fs::File::open(path).and_then(|file| {
        let mut text = String::new();
        file.take(APPROVED_ROUTERS_LEN_MAX)
            .read_to_string(&mut text)?;
        Ok(text)
    });
    let text = match read {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_named => return Ok(Vec::new()),
        Err(error) => return fail("cannot read this file", path.display(), error),
    };
    let read = Rules::read(&text).map(|(number, rule)| {
        let place = || format!("{} line {number}", path.display());
        rule.map_err(|error| Failure::new("wrong rule", place(), error))
    });
    read.collect()
}

/// Checks the table.
pub(super) fn check(
    source: &Source,
    relay: RelayConfig,
    table: AuthorityTable,
) -> Result<AuthorityConfig, Failure> {
    let interval = table
        .voting_interval
        .as_ref()
        .map_or(3600, |interval| *interval.get_ref());
    let shortest = if relay.testing {
        INTERVAL_SECS_MIN
    } else {
        300
    };
    if let Some(value) = &table.voting_interval {
        let expected = format!("a divisor of a day (86400 seconds), {shortest} at least");
        source.expect(value, "voting_interval", &expected, |secs| {
            *secs >= shortest && DAY_SECS.is_multiple_of(*secs)
        })?;
    }
    let delay_default = DELAY_SECS_DEFAULT.min(interval / 5);
    let vote = table
        .vote_delay
        .as_ref()
        .map_or(delay_default, |delay| *delay.get_ref());
    let dist = table
        .dist_delay
        .as_ref()
        .map_or(delay_default, |delay| *delay.get_ref());
    for (key, delay) in [
        ("vote_delay", &table.vote_delay),
        ("dist_delay", &table.dist_delay),
    ] {
        if let Some(delay) = delay {
            let expected = "2 seconds or more, both delays together less than half the interval";
            source.expect(delay, key, expected, |secs| {
                *secs >= DELAY_SECS_MIN
                    && u64::from(vote) + u64::from(dist) < u64::from(interval) / 2
            })?;
        }
    }
    check_votes(source, &relay, &table)?;
    let resolve = |path: &PathBuf| source.resolve(path);
    let (rules, practice) = ruled(source, &relay, &table)?;
    Ok(AuthorityConfig {
        rules,
        practice,
        bandwidth_file: table.bandwidth_file.as_ref().map(resolve),
        guardfraction_file: table.guardfraction_file.as_ref().map(resolve),
        archive_dir: table.archive_dir.as_ref().map(resolve),
        initial_interval_secs: initial(source, &table, interval, relay.testing)?,
        flag_terms: table.flags.unwrap_or_default().terms(),
        relay,
        voting_interval_secs: interval,
        vote_delay_secs: vote,
        dist_delay_secs: dist,
        intervals_valid: table.intervals_valid.map_or(3, Spanned::into_inner),
        params: table
            .params
            .into_iter()
            .map(|(k, v)| (k, v.into_inner()))
            .collect(),
        first_vote_after_relays: table.first_vote_after_relays.map(Spanned::into_inner),
        recommended_versions: table.recommended_versions.map(Spanned::into_inner),
        consensus_method_max: table.consensus_method_max.map(Spanned::into_inner),
        auth_dir_max_servers_per_addr: table.auth_dir_max_servers_per_addr,
        tests_ipv6: table.tests_ipv6.unwrap_or(false),
    })
}

/// What is said of single relays, and what is done by hand.
fn ruled(
    source: &Source,
    relay: &RelayConfig,
    table: &AuthorityTable,
) -> Result<(Rules, Practice), Failure> {
    let mut rules = rules(source, &relay.data_dir, table)?;
    let practice = table.practice.clone().unwrap_or_default();
    let practice = Practice::checked(source, practice, relay.testing, &mut rules)?;
    if rules.need_countries() {
        rules.set_countries(relay.geoip.load("a rule of [authority]")?.into());
    }
    Ok((rules, practice))
}

/// Without a consensus rounds come at half the interval, where that divides a day.
fn initial(
    source: &Source,
    table: &AuthorityTable,
    interval: u32,
    is_testing: bool,
) -> Result<u32, Failure> {
    if let Some(value) = &table.initial_voting_interval {
        let expected = "a divisor of a day (86400 seconds), no more than voting_interval";
        source.expect(value, "initial_voting_interval", expected, |secs| {
            (INTERVAL_SECS_MIN..=interval).contains(secs) && DAY_SECS.is_multiple_of(*secs)
        })?;
        return Ok(*value.get_ref());
    }
    let half = interval / 2;
    let is_whole = is_testing || half == 0 || !DAY_SECS.is_multiple_of(half);
    Ok(if is_whole { interval } else { half })
}

/// What an authority is to put into its votes.
fn check_votes(
    source: &Source,
    relay: &RelayConfig,
    table: &AuthorityTable,
) -> Result<(), Failure> {
    if let Some(intervals) = &table.intervals_valid {
        let expected = "2 to 100 intervals";
        source.expect(intervals, "intervals_valid", expected, |intervals| {
            (2..=100).contains(intervals)
        })?;
    }
    if let Some(relays) = &table.first_vote_after_relays {
        let expected = "to stand in a test network only (testing = true)";
        source.expect(relays, "first_vote_after_relays", expected, |_| {
            relay.testing
        })?;
    }
    if let Some(method) = &table.consensus_method_max {
        let expected = "a consensus method from 32 to 37";
        source.expect(method, "consensus_method_max", expected, |method| {
            METHODS.contains(method)
        })?;
    }
    if let Some(versions) = &table.recommended_versions {
        let expected = "versions such as 0.4.9.11, joined by commas";
        source.expect(versions, "recommended_versions", expected, |text| {
            is_versions(text)
        })?;
    }
    for (name, value) in &table.params {
        let expected = "names of params without spaces or equals signs";
        source.expect(value, "params", expected, |_| is_param_name(name))?;
    }
    Ok(())
}

/// Whether a consensus parameter can have this name.
pub fn is_param_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}
