//! Which entries of different votes are of the same relay (dir-spec 3.8.0.1, proposal 220).
//!
//! First by both identities: a pair that more than half of the authorities list. Votes that say
//! nothing of an Ed25519 identity count for that pair. RSA identities without such a pair are
//! collected by themselves, and their relays get the flag NoEdConsensus.

use std::collections::BTreeMap;

use cepa_crypto::RsaId;
use cepa_netdoc::vote::{Vote, VoteRouter, VotedEd25519};

/// One relay, with the entries that it has in the votes.
pub(super) struct Collated<'a> {
    /// The entries, in the order of the votes; not every vote has one.
    pub(super) entries: Vec<&'a VoteRouter>,
    /// Whether they agree on its Ed25519 identity.
    pub(super) has_ed_consensus: bool,
}

/// What a vote's `id` line says, zeros for `none`; nothing if there is no such line.
fn ed25519(router: &VoteRouter) -> Option<[u8; 32]> {
    router.ed25519.map(|listed| match listed {
        VotedEd25519::None => [0; 32],
        VotedEd25519::Id(id) => *id.as_bytes(),
    })
}

/// The relays that more than half of the authorities list, by RSA identity.
pub(super) fn collate<'a>(votes: &[&'a Vote], authorities: usize) -> BTreeMap<RsaId, Collated<'a>> {
    let mut by_rsa: BTreeMap<RsaId, Vec<&VoteRouter>> = BTreeMap::new();
    for vote in votes {
        for router in &vote.routers {
            by_rsa.entry(router.status.rsa_id).or_default().push(router);
        }
    }
    let is_enough = |listed: usize| listed > authorities / 2;
    by_rsa.retain(|_, entries| is_enough(entries.len()));
    by_rsa
        .into_iter()
        .map(|(id, entries)| {
            let mut keys: Vec<[u8; 32]> = entries.iter().copied().filter_map(ed25519).collect();
            keys.sort_unstable();
            let agreed = keys
                .chunk_by(|a, b| a == b)
                .find(|run| is_enough(run.len()));
            let agreed = agreed.and_then(|run| run.first().copied());
            let entries = match agreed {
                None => entries,
                Some(key) => entries
                    .into_iter()
                    .filter(|one| ed25519(one).is_none_or(|listed| listed == key))
                    .collect(),
            };
            (
                id,
                Collated {
                    entries,
                    has_ed_consensus: agreed.is_some(),
                },
            )
        })
        .collect()
}
