//! What the consensus says of each relay (dir-spec 3.8): which descriptor, which flags, which
//! bandwidth and which policy.
//!
//! Ties between descriptors: most votes, then the newest, then the lower digest. Where a most
//! frequent item is wanted, of several equally frequent the last in order wins, as in `tor`.

use std::cmp::Reverse;
use std::net::SocketAddrV6;

use cepa_netdoc::params::Params;
use cepa_netdoc::routerstatus::{Bandwidth, Flags, RouterStatus};
use cepa_netdoc::vote::{Vote, VoteRouter};

use super::collate::{Collated, collate};
use super::names::{self, Names};
use super::weights::Totals;
use super::{low_median, most_frequent, preamble, version};

/// The most that relays which nobody has measured count for, in kilobytes a second.
const UNMEASURED_MAX_DEFAULT: i32 = 20;
/// The parameter for it.
const UNMEASURED_MAX_PARAM: &str = "maxunmeasuredbw";
/// From so many measurements on the bandwidth is theirs (dir-spec 3.8).
const MEASUREMENTS_MIN: usize = 3;

/// A relay of the consensus.
pub(super) struct Decided {
    /// Its entry, with descriptor, microdescriptor and policy.
    pub(super) status: RouterStatus,
    /// What it adds to the bandwidth totals.
    pub(super) share: Totals,
}

/// The rules of one computation.
struct Rules<'a> {
    method: u32,
    authorities: usize,
    /// Each known flag, and how many votes decide upon it.
    flags: Vec<(&'a str, usize)>,
    names: Names,
    /// The most for relays that are not measured, if enough authorities measure.
    unmeasured_max: Option<u32>,
}

/// All relays that are Running and Valid, by RSA identity.
pub(super) fn decide(
    votes: &[&Vote],
    method: u32,
    known_flags: &[String],
    params: &Params,
    authorities: usize,
) -> Vec<Decided> {
    let knows = |vote: &Vote, flag: &str| vote.known_flags.iter().any(|known| known == flag);
    let flags = known_flags.iter().map(|flag| {
        (
            flag.as_str(),
            votes.iter().filter(|vote| knows(vote, flag)).count(),
        )
    });
    let measures = |vote: &&&Vote| {
        vote.routers
            .iter()
            .any(|router| router.w.measured.is_some())
    };
    let measuring = votes.iter().filter(measures).count();
    // A negative value is a very large one.
    let max = preamble::param_value(params, UNMEASURED_MAX_PARAM, UNMEASURED_MAX_DEFAULT);
    let rules = Rules {
        method,
        authorities,
        flags: flags.collect(),
        names: Names::of(votes),
        unmeasured_max: (measuring >= MEASUREMENTS_MIN).then_some(max.cast_unsigned().max(1)),
    };
    let collated = collate(votes, authorities);
    collated
        .into_values()
        .filter_map(|one| rules.decide(&one))
        .collect()
}

impl Rules<'_> {
    fn decide(&self, relay: &Collated<'_>) -> Option<Decided> {
        if relay.entries.len() <= self.authorities / 2 {
            return None;
        }
        let winners = winning_descriptor(&relay.entries);
        let mut status = winners.first()?.status.clone();
        let chosen_name = names::chosen(&relay.entries);
        if let Some(name) = chosen_name {
            status.nickname = name.to_owned();
        }
        let owner = self.names.owner(&status.nickname, &status.rsa_id);
        let names = self.flags(relay, owner);
        status.flags = Flags::NONE;
        status.flags_unknown.clear();
        for name in names {
            match Flags::from_name(name) {
                Some(flag) => status.flags.insert(flag),
                None => status.flags_unknown.push(name.to_owned()),
            }
        }
        if !status.flags.contains(Flags::RUNNING | Flags::VALID) {
            return None;
        }
        if status.flags.contains(Flags::MIDDLE_ONLY) {
            for flag in [Flags::EXIT, Flags::V2_DIR, Flags::GUARD, Flags::HS_DIR] {
                status.flags.remove(flag);
            }
            let is_listed = self.flags.iter().any(|(name, _)| *name == "BadExit");
            status.flags.set(Flags::BAD_EXIT, is_listed);
        }
        status.a = alternative_address(&winners);
        status.version = version::most_frequent(&relay.entries);
        status.protocols = most_frequent_protocols(&relay.entries);
        status.policy = policy(&winners, &relay.entries);
        status.microdesc_digest = microdesc(&winners, self.method);
        status.bandwidth = self.bandwidth(&relay.entries, status.flags);
        let share = status
            .bandwidth
            .map(|bandwidth| Totals::of(bandwidth, status.flags));
        Some(Decided {
            status,
            share: share.unwrap_or_default(),
        })
    }

    /// Each flag that more than half of the votes that know it give; and NoEdConsensus.
    fn flags(&self, relay: &Collated<'_>, owner: Option<bool>) -> Vec<&str> {
        let has = |entry: &VoteRouter, name: &str| match Flags::from_name(name) {
            Some(flag) => entry.status.flags.contains(flag),
            None => entry.status.flags_unknown.iter().any(|flag| flag == name),
        };
        let wins = |(name, voters): &&(&str, usize)| match *name {
            "NoEdConsensus" => !relay.has_ed_consensus,
            "Named" => owner == Some(true),
            "Unnamed" => owner == Some(false),
            name => {
                relay
                    .entries
                    .iter()
                    .filter(|entry| has(entry, name))
                    .count()
                    > voters / 2
            }
        };
        self.flags
            .iter()
            .filter(wins)
            .map(|(name, _)| *name)
            .collect()
    }

    fn bandwidth(&self, entries: &[&VoteRouter], flags: Flags) -> Option<Bandwidth> {
        let lines = || entries.iter().map(|entry| entry.w);
        let fractions = lines().filter_map(|line| line.guard_fraction);
        let guard_fraction = (flags.contains(Flags::GUARD)
            && fractions.clone().count() >= MEASUREMENTS_MIN)
            .then(|| low_median(fractions))
            .flatten();
        let measured = lines().filter_map(|line| line.measured);
        if measured.clone().count() >= MEASUREMENTS_MIN {
            let bandwidth = low_median(measured)?;
            return Some(Bandwidth {
                bandwidth,
                unmeasured: false,
                guard_fraction,
            });
        }
        let advertised = low_median(lines().filter_map(|line| line.bandwidth))?;
        let bandwidth = self
            .unmeasured_max
            .map_or(advertised, |max| advertised.min(max));
        Some(Bandwidth {
            bandwidth,
            unmeasured: true,
            guard_fraction,
        })
    }
}

/// The entries for the descriptor that is chosen; they agree in all but the lines beside `r`.
fn winning_descriptor<'a>(entries: &[&'a VoteRouter]) -> Vec<&'a VoteRouter> {
    let mut sorted = entries.to_vec();
    let key = |entry: &VoteRouter| {
        let status = &entry.status;
        let published = Reverse(status.published);
        let ports = (Reverse(status.or_port), Reverse(status.dir_port));
        (
            status.descriptor_digest,
            published,
            Reverse(status.nickname.clone()),
            status.ip,
            ports,
        )
    };
    sorted.sort_by_cached_key(|entry| key(entry));
    let mut best: Option<&[&VoteRouter]> = None;
    for run in sorted.chunk_by(|a, b| key(a) == key(b)) {
        let rank = |run: &[&VoteRouter]| (run.len(), run.first().map(|one| one.status.published));
        if best.is_none_or(|before| rank(run) > rank(before)) {
            best = Some(run);
        }
    }
    best.unwrap_or_default().to_vec()
}

fn alternative_address(winners: &[&VoteRouter]) -> Option<SocketAddrV6> {
    let listed = winners.iter().filter_map(|entry| entry.status.a);
    let mut addresses: Vec<SocketAddrV6> = listed
        .filter(|address| !address.ip().is_unspecified())
        .collect();
    addresses.sort_by_key(|address| (*address.ip(), Reverse(address.port())));
    most_frequent(&addresses).copied()
}

fn most_frequent_protocols(entries: &[&VoteRouter]) -> String {
    let mut protocols: Vec<&str> = entries
        .iter()
        .map(|entry| entry.status.protocols.as_str())
        .collect();
    protocols.sort_unstable();
    most_frequent(&protocols).map_or_else(String::new, |text| (*text).to_owned())
}

/// The policy that the votes for the chosen descriptor list most often; if they list none, that
/// of all votes.
fn policy(winners: &[&VoteRouter], entries: &[&VoteRouter]) -> Option<String> {
    let digest = winners.first().map(|one| one.status.descriptor_digest)?;
    let most = |entries: &mut dyn Iterator<Item = &&VoteRouter>| {
        let texts = entries.filter_map(|one| one.status.policy.as_deref());
        let mut texts: Vec<&str> = texts.collect();
        texts.sort_unstable();
        most_frequent(&texts).map(|text| (*text).to_owned())
    };
    let of_chosen = |entry: &&&VoteRouter| entry.status.descriptor_digest == digest;
    most(&mut entries.iter().filter(of_chosen)).or_else(|| most(&mut entries.iter()))
}

fn microdesc(winners: &[&VoteRouter], method: u32) -> Option<[u8; 32]> {
    let mut digests: Vec<[u8; 32]> = winners
        .iter()
        .filter_map(|entry| entry.microdesc_digest(method))
        .collect();
    digests.sort_unstable();
    most_frequent(&digests)
        .copied()
        .filter(|digest| *digest != [0; 32])
}
