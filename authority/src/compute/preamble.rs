//! The head of the consensus: flags, protocols, parameters, shared random values (dir-spec 3.8).

use cepa_netdoc::consensus::{RequiredProtocols, SharedRandValue};
use cepa_netdoc::params::Params;
use cepa_netdoc::protover::Protocols;
use cepa_netdoc::vote::Vote;

use super::{Ballot, low_median};

/// So many votes are enough for a parameter, however many authorities there are (dir-spec 3.8).
const PARAM_VOTES: usize = 3;

/// Every flag that some vote knows, and NoEdConsensus; sorted.
pub(super) fn known_flags(votes: &[&Vote]) -> Vec<String> {
    let listed = votes
        .iter()
        .flat_map(|vote| vote.known_flags.iter().cloned());
    let mut flags: Vec<String> = listed.chain(["NoEdConsensus".to_owned()]).collect();
    flags.sort_unstable();
    flags.dedup();
    flags
}

/// Recommended: what at least half of all authorities recommend; required: two thirds.
pub(super) fn protocols(votes: &[&Vote], authorities: usize) -> RequiredProtocols {
    let half = authorities.div_ceil(2);
    let two_thirds = (authorities * 2).div_ceil(3);
    let tally = |pick: fn(&RequiredProtocols) -> &Option<String>, threshold: usize| {
        let texts = votes
            .iter()
            .filter_map(|vote| pick(&vote.protocols).as_deref());
        let lists: Vec<Protocols> = texts
            .filter_map(|text| Protocols::parse_first(text).ok())
            .collect();
        Some(Protocols::tally(&lists, threshold).encode())
    };
    RequiredProtocols {
        recommended_client: tally(|lists| &lists.recommended_client, half),
        recommended_relay: tally(|lists| &lists.recommended_relay, half),
        required_client: tally(|lists| &lists.required_client, two_thirds),
        required_relay: tally(|lists| &lists.required_relay, two_thirds),
    }
}

/// The low median of each parameter that more than half of all authorities, or three votes, have.
pub(super) fn params(votes: &[&Vote], authorities: usize) -> Params {
    let mut values: Vec<(&str, i32)> = votes.iter().flat_map(|vote| vote.params.iter()).collect();
    values.sort_unstable();
    let series = values.chunk_by(|a, b| a.0 == b.0);
    let enough = series.filter(|run| run.len() > authorities / 2 || run.len() >= PARAM_VOTES);
    enough
        .filter_map(|run| {
            let median = low_median(run.iter().map(|(_, value)| *value))?;
            run.first().map(|(name, _)| (*name, median))
        })
        .collect()
}

/// A parameter of the consensus that is being made, for the computation itself.
pub(super) fn param_value(params: &Params, name: &str, default: i32) -> i32 {
    params.lookup(name).unwrap_or(default)
}

/// The previous and the current value of those who take part, each if a majority of all authorities
/// has it; in the first consensus of a run as many as `AuthDirNumSRVAgreements` says, two thirds by
/// default (srv-spec 4.1.3). How many reveals it is of the first says who has it.
pub(super) fn shared_random(
    votes: &[&Vote],
    params: &Params,
    ballot: &Ballot<'_>,
) -> (Option<SharedRandValue>, Option<SharedRandValue>) {
    let agreements = i32::try_from(ballot.authorities * 2 / 3).unwrap_or(i32::MAX);
    let agreements = param_value(params, "AuthDirNumSRVAgreements", agreements);
    let agreements = usize::try_from(agreements).unwrap_or(0);
    let taking_part = || votes.iter().filter(|vote| vote.shared_rand.participates);
    let majority = ballot.authorities / 2 + 1;
    let needed = if ballot.is_shared_random_fresh {
        majority.max(agreements)
    } else {
        majority
    };
    let agreed = |values: Vec<SharedRandValue>| {
        let mut values = values;
        values.sort_by_key(|value| value.value);
        let runs = values.chunk_by(|a, b| a.value == b.value);
        let most = runs.max_by_key(|run| run.len())?;
        most.first().copied().filter(|_| most.len() >= needed)
    };
    let previous = taking_part()
        .filter_map(|vote| vote.shared_rand.previous)
        .collect();
    let current = taking_part()
        .filter_map(|vote| vote.shared_rand.current)
        .collect();
    (agreed(previous), agreed(current))
}
