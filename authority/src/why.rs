//! Why a relay has the flags that it has: of each flag who gave it, and what the others missed.
//!
//! All of it is read off votes, which are public: a relay's operator sees what an authority's does.
//! What a vote does not say is the relay's uptime, by which `HSDir` goes; the authority that is
//! asked itself adds its own view ([`OwnView`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cepa_crypto::RsaId;
use cepa_netdoc::consensus::Consensus;
use cepa_netdoc::routerstatus::Flags;
use cepa_netdoc::timestamp;
use cepa_netdoc::vote::{Vote, VoteRouter};
use serde::Serialize;

use crate::config::FlagTerms;

/// What is known of one relay's flags.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Why {
    /// The relay's RSA identity.
    pub relay: RsaId,
    /// Its nickname, as the first vote has it that lists it.
    pub nickname: Option<String>,
    /// How many authorities the network has.
    pub authorities: usize,
    /// The consensus of these votes; none if it is not known.
    pub consensus: Option<Outcome>,
    /// What each vote says.
    pub votes: Vec<Opinion>,
    /// Each flag that any vote knows.
    pub flags: Vec<FlagWhy>,
    /// What the authority that was asked knows itself.
    pub own: Option<OwnView>,
}

/// What became of a relay in a consensus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// When the consensus begins.
    #[serde(serialize_with = "timestamp::serialize")]
    pub valid_after: SystemTime,
    /// Its flags; none if it is not listed.
    pub flags: Option<Flags>,
}

/// A vote, and what it says of the relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Opinion {
    /// The nickname of its author.
    pub authority: String,
    /// The v3 identity of its author.
    pub identity: RsaId,
    /// When the consensus begins that it is for.
    #[serde(serialize_with = "timestamp::serialize")]
    pub valid_after: SystemTime,
    /// Whether it lists the relay.
    pub lists: bool,
    /// What the relay can carry by its own account, in kilobytes a second.
    pub bandwidth: Option<u32>,
    /// What it was measured with, in kilobytes a second.
    pub measured: Option<u32>,
    /// Its `stats` line.
    pub stats: Option<String>,
    /// The author's `flag-thresholds` line.
    pub thresholds: Option<String>,
}

/// A flag.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FlagWhy {
    /// Its name.
    pub flag: String,
    /// How many votes have an opinion on it, whether they list the relay or not.
    pub opinions: usize,
    /// How many must give it.
    pub needed: usize,
    /// Who gave it.
    pub given_by: Vec<String>,
    /// Whether the consensus gives it; none if there is none, or it does not list the relay.
    pub is_given: Option<bool>,
    /// What each vote that lists the relay rests upon.
    pub votes: Vec<FlagVote>,
}

/// A flag in one vote.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FlagVote {
    /// The nickname of the vote's author.
    pub authority: String,
    /// Whether it gives the flag; none if its author has no opinion on it.
    pub is_given: Option<bool>,
    /// The numbers that count.
    pub checks: Vec<Check>,
    /// Other flags that are needed and not there.
    pub lacks: Vec<&'static str>,
}

/// A number that must be high enough.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Check {
    /// What it counts.
    pub what: Quantity,
    /// How much it is; none if votes do not say it.
    pub value: Option<f64>,
    /// How much is needed.
    pub needed: f64,
    /// By how much it is too little; 0 if it is enough.
    pub missed_by: f64,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Bytes a second.
    Bandwidth,
    /// Seconds since it was started.
    Uptime,
    /// Mean seconds between failures.
    Mtbf,
    /// Weighted fractional uptime, 0 to 1.
    Wfu,
    /// Weighted seconds that the authority has known it.
    TimeKnown,
}

impl Quantity {
    /// Its name and unit in words.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Quantity::Bandwidth => ("bandwidth", " B/s"),
            Quantity::Uptime => ("uptime", " s"),
            Quantity::Mtbf => ("mean time between failures", " s"),
            Quantity::Wfu => ("weighted fractional uptime", ""),
            Quantity::TimeKnown => ("weighted time known", " s"),
        }
    }
}

/// What the authority that is asked knows of the relay beside its vote.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OwnView {
    /// When its newest descriptor was published.
    #[serde(serialize_with = "timestamp::serialize")]
    pub published: SystemTime,
    /// Whether it is Running now.
    pub is_running: bool,
    /// Whether tests reach it over IPv6; none if it has no such address, or none are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reached_over_ipv6: Option<bool>,
    /// When a test last reached it.
    #[serde(serialize_with = "timestamp::serialize_option")]
    pub reached: Option<SystemTime>,
    /// When a test last began.
    #[serde(serialize_with = "timestamp::serialize_option")]
    pub tested: Option<SystemTime>,
    /// Tests that failed since the last good one.
    pub failures: u32,
    /// Seconds since it was started, by its own account.
    pub uptime_declared_seconds: u64,
    /// Seconds since it is Running without a break, as far as this authority knows.
    pub uptime_measured_seconds: u64,
    /// Whether it is one too many on its address or in its network.
    pub is_sybil: bool,
    /// What the operator said of it.
    pub rules: Vec<RuleSaid>,
}

/// A rule of the operator's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleSaid {
    /// What it says.
    pub verdict: &'static str,
    /// Whom it names.
    pub subject: String,
    /// Why.
    pub comment: String,
}

/// What these votes, of one round of a network of so many authorities, say of a relay.
#[must_use]
pub fn why(
    relay: &RsaId,
    votes: &[Arc<Vote>],
    authorities: usize,
    consensus: Option<&Consensus>,
) -> Why {
    let entries: Vec<(&Vote, Option<&VoteRouter>)> = votes
        .iter()
        .map(|vote| (&**vote, vote.router(relay)))
        .collect();
    let consensus = consensus.map(|consensus| Outcome {
        valid_after: consensus.lifetime.valid_after,
        flags: consensus.router(relay).map(|router| router.flags),
    });
    let names: BTreeSet<&String> = votes.iter().flat_map(|vote| &vote.known_flags).collect();
    Why {
        relay: *relay,
        nickname: entries
            .iter()
            .find_map(|(_, entry)| entry.map(|entry| entry.status.nickname.clone())),
        authorities,
        consensus,
        votes: entries
            .iter()
            .map(|(vote, entry)| opinion(vote, *entry))
            .collect(),
        flags: names
            .into_iter()
            .map(|flag| flag_why(flag, &entries, consensus))
            .collect(),
        own: None,
    }
}

fn opinion(vote: &Vote, entry: Option<&VoteRouter>) -> Opinion {
    Opinion {
        authority: vote.dir_source.nickname.clone(),
        identity: vote.author(),
        valid_after: vote.lifetime.valid_after,
        lists: entry.is_some(),
        bandwidth: entry.and_then(|entry| entry.w.bandwidth),
        measured: entry.and_then(measured),
        stats: entry.and_then(|entry| entry.stats.clone()),
        thresholds: vote.flag_thresholds.clone(),
    }
}

fn measured(entry: &VoteRouter) -> Option<u32> {
    entry.w.measured.or(entry.w.measured_but_authority)
}

fn flag_why(
    flag: &str,
    entries: &[(&Vote, Option<&VoteRouter>)],
    consensus: Option<Outcome>,
) -> FlagWhy {
    let opinions = entries
        .iter()
        .filter(|(vote, _)| has_opinion(vote, flag))
        .count();
    let votes: Vec<FlagVote> = entries
        .iter()
        .filter_map(|(vote, entry)| Some(flag_vote(flag, vote, (*entry)?)))
        .collect();
    let given = votes.iter().filter(|one| one.is_given == Some(true));
    let listed = consensus.and_then(|consensus| consensus.flags);
    FlagWhy {
        flag: flag.to_owned(),
        opinions,
        needed: opinions / 2 + 1,
        given_by: given.map(|one| one.authority.clone()).collect(),
        is_given: listed
            .zip(Flags::from_name(flag))
            .map(|(all, one)| all.contains(one)),
        votes,
    }
}

/// Whether a vote says of every relay whether it has this flag.
pub(crate) fn has_opinion(vote: &Vote, flag: &str) -> bool {
    vote.known_flags.iter().any(|known| known == flag)
}

/// Whether an entry has a flag.
pub(crate) fn has_flag(entry: &VoteRouter, flag: &str) -> bool {
    match Flags::from_name(flag) {
        Some(flag) => entry.status.flags.contains(flag),
        None => entry.status.flags_unknown.iter().any(|one| one == flag),
    }
}

fn flag_vote(flag: &str, vote: &Vote, entry: &VoteRouter) -> FlagVote {
    let is_given = has_opinion(vote, flag).then(|| has_flag(entry, flag));
    let lacks = |needed: &[&'static str]| {
        let missing = needed.iter().filter(|one| !has_flag(entry, one));
        missing.copied().collect()
    };
    let numbers = Numbers::of(vote, entry);
    let (checks, lacks) = match flag {
        "Fast" => (numbers.fast(), Vec::new()),
        "Stable" => (numbers.stable(), Vec::new()),
        "Guard" => (numbers.guard(), lacks(&["Fast", "Stable", "V2Dir"])),
        "HSDir" => (
            numbers.hs_dir(),
            lacks(&["Fast", "Stable", "V2Dir", "Running", "Valid"]),
        ),
        _ => (Vec::new(), Vec::new()),
    };
    FlagVote {
        authority: vote.dir_source.nickname.clone(),
        is_given,
        checks,
        lacks,
    }
}

/// What one vote says of one relay in numbers, and what it asks for.
struct Numbers<'a> {
    stats: BTreeMap<&'a str, f64>,
    needs: BTreeMap<&'a str, f64>,
    bytes: f64,
}

impl<'a> Numbers<'a> {
    fn of(vote: &'a Vote, entry: &'a VoteRouter) -> Self {
        let needs = numbers(vote.flag_thresholds.as_deref());
        let ignores_advertised = needs.get("ignoring-advertised-bws") == Some(&1.0);
        let advertised = entry.w.bandwidth.filter(|_| !ignores_advertised);
        let kilobytes = measured(entry).or(advertised).unwrap_or(0);
        Numbers {
            stats: numbers(entry.stats.as_deref()),
            needs,
            bytes: f64::from(kilobytes) * 1000.0,
        }
    }

    fn check(&self, what: Quantity, value: Option<f64>, needed: Option<f64>) -> Option<Check> {
        let needed = needed?;
        Some(Check {
            what,
            value,
            needed,
            missed_by: value.map_or(0.0, |value| (needed - value).max(0.0)),
        })
    }

    fn need(&self, name: &str) -> Option<f64> {
        self.needs.get(name).copied()
    }

    fn stat(&self, name: &str) -> Option<f64> {
        self.stats.get(name).copied()
    }

    fn fast(&self) -> Vec<Check> {
        let needed = self.need("fast-speed");
        let check = self.check(Quantity::Bandwidth, Some(self.bytes), needed);
        check.into_iter().collect()
    }

    fn stable(&self) -> Vec<Check> {
        let check = match self.need("enough-mtbf") == Some(0.0) {
            true => self.check(Quantity::Uptime, None, self.need("stable-uptime")),
            false => {
                let needed = self.need("stable-mtbf");
                self.check(Quantity::Mtbf, self.stat("mtbf"), needed)
            }
        };
        check.into_iter().collect()
    }

    fn guard(&self) -> Vec<Check> {
        let quarter = [
            self.need("guard-bw-inc-exits"),
            self.need("guard-bw-exc-exits"),
        ];
        let quarter = quarter.into_iter().flatten().reduce(f64::min);
        let enough = f64::from(FlagTerms::default().guard_kilobytes) * 1000.0;
        let bytes = quarter.map(|quarter| quarter.min(enough));
        let wfu = self.need("guard-wfu").map(|percent| percent / 100.0);
        let checks = [
            self.check(Quantity::Bandwidth, Some(self.bytes), bytes),
            self.check(Quantity::Wfu, self.stat("wfu"), wfu),
            self.check(Quantity::TimeKnown, self.stat("tk"), self.need("guard-tk")),
        ];
        checks.into_iter().flatten().collect()
    }

    fn hs_dir(&self) -> Vec<Check> {
        let needed = FlagTerms::default().hs_dir_uptime_seconds;
        let needed = Duration::from_secs(needed).as_secs_f64();
        let check = self.check(Quantity::Uptime, None, Some(needed));
        check.into_iter().collect()
    }
}

/// The numbers of a line of `name=value`, `%` left out.
fn numbers(line: Option<&str>) -> BTreeMap<&str, f64> {
    let words = line.unwrap_or_default().split_ascii_whitespace();
    let number = |word: &'_ str| -> Option<f64> {
        let value = word.trim_end_matches('%').parse::<f64>().ok();
        value.filter(|value| value.is_finite())
    };
    words
        .filter_map(|word| {
            let (name, value) = word.split_once('=')?;
            Some((name, number(value)?))
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests;
