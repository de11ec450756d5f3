//! Computing a consensus of votes (dir-spec 3.8), with the very bytes that `tor` 0.4.9 computes.
//!
//! A pure function of the votes, of how many authorities the network has, and of whether the
//! shared random value is of this run. All authorities with the same votes get the same
//! document, or their signatures are of no use to each other: thresholds, ties and roundings
//! below are `tor`'s where the text leaves them open (docs/protocol.md section 5).
//! `tor` computes the ns flavour with the votes in the order of their arrival, the other with them
//! sorted; it shows where two spellings of a version, or two counts of reveals, are equal to it.

mod collate;
mod names;
mod preamble;
mod router;
mod version;
mod weights;

use cepa_crypto::RsaId;
use cepa_netdoc::consensus::{
    Consensus, ConsensusAuthority, DirSource, Flavour, Lifetime, VotingDelay,
};
use cepa_netdoc::routerstatus::RouterStatus;
use cepa_netdoc::timestamp;
use cepa_netdoc::vote::{Vote, VoteText};

use crate::config::METHODS;
use weights::Totals;

pub(crate) use version::Version;
pub use weights::bandwidth_weights;

/// The first method whose microdesc consensuses have a constant for the time of publication.
const METHOD_WITHOUT_PUBLISHED: u32 = 33;

/// What is computed of: votes of different authorities, all for the same interval.
#[derive(Debug, Clone, Copy)]
pub struct Ballot<'a> {
    /// The votes, in the order of their arrival.
    pub votes: &'a [VoteText],
    /// How many authorities the network has, whether they voted or not.
    pub authorities: usize,
    /// Whether the shared random value was made at the start of the run that goes on: then more
    /// of them must agree on it (srv-spec 4.1.3).
    pub is_shared_random_fresh: bool,
    /// The highest method that is computed: of [`METHODS`] for an authority of ours, a lower one to
    /// get what authorities of an older `tor` computed.
    pub method_max: u32,
}

/// The consensus in both flavours, unsigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Computed {
    /// The consensus of the flavour ns, which names server descriptors.
    pub ns: Consensus,
    /// The consensus of the flavour microdesc, which names microdescriptors.
    pub microdesc: Consensus,
}

impl Computed {
    /// The document of a flavour, up to its signatures.
    #[must_use]
    pub fn text(&self, flavour: Flavour) -> String {
        match flavour {
            Flavour::Ns => self.ns.encode_unsigned(),
            Flavour::Microdesc => self.microdesc.encode_unsigned(),
        }
    }
}

/// Computes the consensus; nothing if there is no vote, or none that knows who is Running.
#[must_use]
pub fn compute(ballot: &Ballot<'_>) -> Option<Computed> {
    let mut sorted: Vec<&VoteText> = ballot.votes.iter().collect();
    sorted.sort_by_key(|text| text.vote().author());
    let votes: Vec<&Vote> = sorted.iter().map(|text| &**text.vote()).collect();
    let arrived: Vec<&Vote> = ballot.votes.iter().map(|text| &**text.vote()).collect();
    let knows_running = |vote: &&Vote| vote.known_flags.iter().any(|flag| flag == "Running");
    if !votes.iter().any(knows_running) {
        return None;
    }
    let method = method(&votes, ballot.method_max);
    let known_flags = preamble::known_flags(&votes);
    let params = preamble::params(&votes, ballot.authorities);
    let decided = router::decide(&votes, method, &known_flags, &params, ballot.authorities);
    let totals: Totals = decided.iter().map(|one| one.share).sum();
    let scale = preamble::param_value(&params, "bwweightscale", weights::SCALE_DEFAULT).max(1);
    let times = |pick: fn(&Lifetime) -> std::time::SystemTime| {
        low_median(votes.iter().map(|vote| pick(&vote.lifetime)))
    };
    let ns = Consensus {
        flavour: Flavour::Ns,
        method,
        lifetime: Lifetime {
            valid_after: times(|lifetime| lifetime.valid_after)?,
            fresh_until: times(|lifetime| lifetime.fresh_until)?,
            valid_until: times(|lifetime| lifetime.valid_until)?,
        },
        voting_delay: VotingDelay {
            vote_seconds: low_median(votes.iter().map(|vote| vote.voting_delay.vote_seconds))?,
            dist_seconds: low_median(votes.iter().map(|vote| vote.voting_delay.dist_seconds))?,
        },
        client_versions: None,
        server_versions: None,
        known_flags,
        protocols: preamble::protocols(&votes, ballot.authorities),
        params,
        shared_rand_previous: None,
        shared_rand_current: None,
        authorities: sources(&sorted),
        routers: decided.iter().map(|one| one.status.clone()).collect(),
        bandwidth_weights: bandwidth_weights(totals, scale).unwrap_or_default(),
        signatures: Vec::new(),
    };
    let routers = decided
        .into_iter()
        .filter_map(|one| microdesc_entry(one.status, method));
    let microdesc = Consensus {
        flavour: Flavour::Microdesc,
        routers: routers.collect(),
        ..ns.clone()
    };
    let ns = without_microdescs(ns);
    Some(Computed {
        ns: with_order(ns, &arrived, ballot),
        microdesc: with_order(microdesc, &votes, ballot),
    })
}

/// The consensus with the lines that depend on the order of the votes.
fn with_order(mut consensus: Consensus, votes: &[&Vote], ballot: &Ballot<'_>) -> Consensus {
    let versions = |pick: fn(&Vote) -> Option<&str>| Some(version::recommended(votes, pick));
    consensus.client_versions = versions(|vote| vote.client_versions.as_deref());
    consensus.server_versions = versions(|vote| vote.server_versions.as_deref());
    let values = preamble::shared_random(votes, &consensus.params, ballot);
    (
        consensus.shared_rand_previous,
        consensus.shared_rand_current,
    ) = values;
    consensus
}

/// The highest method that more than two thirds of the votes list; if it is none that is computed,
/// the highest that is.
fn method(votes: &[&Vote], method_max: u32) -> u32 {
    let enough = votes.len() * 2 / 3;
    // What is no method stands before all that are, in the order of its bytes.
    let value = |word: &str| word.parse().map_or(0, |value: i32| value.max(0));
    let key = |word: &&str| {
        let text = if value(word) == 0 { *word } else { "" };
        (value(word), text.to_owned())
    };
    let mut methods: Vec<&str> = Vec::new();
    for vote in votes {
        let mut own: Vec<&str> = vote.methods.iter().map(String::as_str).collect();
        own.sort_by_key(key);
        own.dedup_by_key(|word| key(&&**word));
        methods.extend(own);
    }
    methods.sort_by_key(key);
    let mut frequent = methods
        .chunk_by(|a, b| a == b)
        .filter(|run| run.len() > enough)
        .filter_map(<[&str]>::first);
    let highest = frequent.next_back().map_or(1, |word| value(word));
    let is_ours = |method: &u32| *method <= method_max && METHODS.contains(method);
    let agreed = u32::try_from(highest).ok().filter(is_ours);
    agreed.unwrap_or(method_max)
}

/// The middle one, the lower of two.
fn low_median<T: Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    let middle = values.len().checked_sub(1)? / 2;
    values.into_iter().nth(middle)
}

/// The item that stands there most often in a sorted list; of several, the last.
fn most_frequent<T: PartialEq>(sorted: &[T]) -> Option<&T> {
    sorted
        .chunk_by(|a, b| a == b)
        .max_by_key(|run| run.len())
        .and_then(<[T]>::first)
}

/// The authorities' lines, by identity, old keys as entries of their own.
fn sources(votes: &[&VoteText]) -> Vec<ConsensusAuthority> {
    let mut sources: Vec<ConsensusAuthority> = Vec::new();
    for text in votes {
        let vote = text.vote();
        sources.push(ConsensusAuthority {
            dir_source: vote.dir_source.clone(),
            contact: Some(vote.contact.clone()),
            vote_digest: Some(*text.digest()),
        });
        if let Some(identity) = vote.legacy_dir_key.filter(|id| *id != RsaId::from([0; 20])) {
            let nickname = format!("{}-legacy", vote.dir_source.nickname);
            let dir_source = DirSource {
                nickname,
                identity,
                ..vote.dir_source.clone()
            };
            sources.push(ConsensusAuthority {
                dir_source,
                contact: None,
                vote_digest: None,
            });
        }
    }
    sources.sort_by_key(|one| one.dir_source.identity);
    sources
}

/// An entry as it stands in the microdesc flavour; none without a microdescriptor.
fn microdesc_entry(mut status: RouterStatus, method: u32) -> Option<RouterStatus> {
    status.microdesc_digest?;
    if method >= METHOD_WITHOUT_PUBLISHED {
        status.published = timestamp::parse("2038-01-01 00:00:00").unwrap_or(status.published);
    }
    status.descriptor_digest = [0; 20];
    status.policy = None;
    Some(status)
}

fn without_microdescs(mut ns: Consensus) -> Consensus {
    for router in &mut ns.routers {
        router.microdesc_digest = None;
    }
    ns
}

#[cfg(test)]
mod tests;
