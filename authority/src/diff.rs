//! In what the votes of one round differ: relays that some alone list, flags, and all that is said
//! of the network as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use cepa_crypto::RsaId;
use cepa_crypto::encoding::hex_upper;
use cepa_netdoc::consensus::SharedRandValue;
use cepa_netdoc::timestamp;
use cepa_netdoc::vote::{Vote, VoteRouter};
use serde::Serialize;

use crate::why::{has_flag, has_opinion};

/// In what votes differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// The votes.
    pub votes: Vec<Voter>,
    /// Lines about the whole network that are not the same in all votes.
    pub lines: Vec<LineDifference>,
    /// Relays that not all votes list.
    pub partial: Vec<PartialRelay>,
    /// Relays of which votes name different descriptors.
    pub descriptors: Vec<RelayName>,
    /// Flags on which those disagree that list a relay and have an opinion.
    pub flags: Vec<FlagDifference>,
}

/// A vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Voter {
    /// The nickname of its author.
    pub authority: String,
    /// The v3 identity of its author.
    pub identity: RsaId,
    /// When it was made.
    #[serde(serialize_with = "timestamp::serialize")]
    pub published: SystemTime,
    /// How many relays it lists.
    pub relays: usize,
    /// How many of them it has measured.
    pub measured: usize,
    /// Its `flag-thresholds` line.
    pub thresholds: Option<String>,
}

/// A line that votes have in different forms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LineDifference {
    /// Its keyword, of parameters with the name.
    pub line: String,
    /// Each form, and who has it; none: the line is missing.
    pub forms: Vec<(Option<String>, Vec<String>)>,
}

/// A relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RelayName {
    /// Its RSA identity.
    pub relay: RsaId,
    /// Its nickname.
    pub nickname: String,
}

/// A relay that not all votes list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartialRelay {
    /// Which one.
    #[serde(flatten)]
    pub relay: RelayName,
    /// Who lists it.
    pub listed_by: Vec<String>,
}

/// A flag of a relay on which votes disagree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlagDifference {
    /// Which relay.
    #[serde(flatten)]
    pub relay: RelayName,
    /// The flag.
    pub flag: String,
    /// Who gives it.
    pub given_by: Vec<String>,
    /// Who lists the relay and does not.
    pub withheld_by: Vec<String>,
}

impl Differences {
    /// In what these votes differ.
    #[must_use]
    pub fn of(votes: &[Arc<Vote>]) -> Self {
        let mut found = Differences {
            votes: votes.iter().map(|vote| voter(vote)).collect(),
            lines: lines(votes),
            ..Differences::default()
        };
        let mut relays: BTreeMap<RsaId, Vec<(&Vote, &VoteRouter)>> = BTreeMap::new();
        for vote in votes {
            for entry in &vote.routers {
                relays
                    .entry(entry.status.rsa_id)
                    .or_default()
                    .push((vote, entry));
            }
        }
        let flags: BTreeSet<&String> = votes.iter().flat_map(|vote| &vote.known_flags).collect();
        for entries in relays.values() {
            found.add(entries, votes.len(), &flags);
        }
        found
    }

    fn add(&mut self, entries: &[(&Vote, &VoteRouter)], votes: usize, flags: &BTreeSet<&String>) {
        let Some((_, first)) = entries.first() else {
            return;
        };
        let relay = || RelayName {
            relay: first.status.rsa_id,
            nickname: first.status.nickname.clone(),
        };
        let name = |vote: &Vote| vote.dir_source.nickname.clone();
        if entries.len() < votes {
            self.partial.push(PartialRelay {
                relay: relay(),
                listed_by: entries.iter().map(|(vote, _)| name(vote)).collect(),
            });
        }
        let digest = first.status.descriptor_digest;
        if entries
            .iter()
            .any(|(_, entry)| entry.status.descriptor_digest != digest)
        {
            self.descriptors.push(relay());
        }
        // Most entries are the same in all votes.
        let flags_of = |entry: &VoteRouter| (entry.status.flags, entry.status.flags_unknown.len());
        let same = entries
            .iter()
            .all(|(_, entry)| flags_of(entry) == flags_of(first));
        if same && first.status.flags_unknown.is_empty() {
            return;
        }
        for flag in flags {
            let judges = entries.iter().filter(|(vote, _)| has_opinion(vote, flag));
            let (given, withheld): (Vec<_>, Vec<_>) =
                judges.partition(|(_, entry)| has_flag(entry, flag));
            if given.is_empty() || withheld.is_empty() {
                continue;
            }
            self.flags.push(FlagDifference {
                relay: relay(),
                flag: (*flag).clone(),
                given_by: given.iter().map(|(vote, _)| name(vote)).collect(),
                withheld_by: withheld.iter().map(|(vote, _)| name(vote)).collect(),
            });
        }
    }

    /// On how many relays votes disagree, by flag.
    #[must_use]
    pub fn flag_counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for one in &self.flags {
            *counts.entry(one.flag.clone()).or_default() += 1;
        }
        counts
    }
}

fn voter(vote: &Vote) -> Voter {
    let has_measured = |entry: &&VoteRouter| {
        entry.w.measured.is_some() || entry.w.measured_but_authority.is_some()
    };
    Voter {
        authority: vote.dir_source.nickname.clone(),
        identity: vote.author(),
        published: vote.published,
        relays: vote.routers.len(),
        measured: vote.routers.iter().filter(has_measured).count(),
        thresholds: vote.flag_thresholds.clone(),
    }
}

fn lines(votes: &[Arc<Vote>]) -> Vec<LineDifference> {
    let mut found = Vec::new();
    let mut compare = |line: &str, form: &dyn Fn(&Vote) -> Option<String>| {
        let mut forms: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
        for vote in votes {
            let name = vote.dir_source.nickname.clone();
            forms.entry(form(vote)).or_default().push(name);
        }
        if forms.len() > 1 {
            found.push(LineDifference {
                line: line.to_owned(),
                forms: forms.into_iter().collect(),
            });
        }
    };
    let time = |at| Some(timestamp::encode(at));
    compare("consensus-methods", &|vote| Some(vote.methods.join(" ")));
    compare("valid-after", &|vote| time(vote.lifetime.valid_after));
    compare("fresh-until", &|vote| time(vote.lifetime.fresh_until));
    compare("valid-until", &|vote| time(vote.lifetime.valid_until));
    compare("voting-delay", &|vote| {
        let delay = vote.voting_delay;
        Some(format!("{} {}", delay.vote_seconds, delay.dist_seconds))
    });
    compare("client-versions", &|vote| vote.client_versions.clone());
    compare("server-versions", &|vote| vote.server_versions.clone());
    compare("known-flags", &|vote| Some(vote.known_flags.join(" ")));
    compare("recommended-client-protocols", &|vote| {
        vote.protocols.recommended_client.clone()
    });
    compare("recommended-relay-protocols", &|vote| {
        vote.protocols.recommended_relay.clone()
    });
    compare("required-client-protocols", &|vote| {
        vote.protocols.required_client.clone()
    });
    compare("required-relay-protocols", &|vote| {
        vote.protocols.required_relay.clone()
    });
    compare("shared-rand-previous-value", &|vote| {
        value(vote.shared_rand.previous)
    });
    compare("shared-rand-current-value", &|vote| {
        value(vote.shared_rand.current)
    });
    let names: BTreeSet<&str> = votes
        .iter()
        .flat_map(|vote| vote.params.iter().map(|(name, _)| name))
        .collect();
    for name in names {
        compare(&format!("params {name}"), &|vote| {
            vote.params.lookup(name).map(|value| value.to_string())
        });
    }
    // Commitments of one authority that votes name differently: who shows two has none that counts.
    let commits = votes.iter().flat_map(|vote| &vote.shared_rand.commits);
    let authors: BTreeSet<RsaId> = commits.map(|commit| commit.identity).collect();
    for author in authors {
        compare(&format!("shared-rand-commit {author}"), &|vote| {
            let mut commits = vote.shared_rand.commits.iter();
            let found = commits.find(|commit| commit.identity == author);
            found.map(|commit| commit.commit.clone())
        });
    }
    found
}

fn value(value: Option<SharedRandValue>) -> Option<String> {
    value.map(|value| format!("{} {}", value.reveals, hex_upper(&value.value)))
}

#[cfg(test)]
mod tests;
