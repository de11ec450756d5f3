//! Which relay a nickname belongs to, if votes still say so (Named and Unnamed; dir-spec 3.8).
//!
//! Nobody votes for these any more, but whoever does is heard as `tor` hears it.

use std::collections::BTreeMap;

use cepa_crypto::RsaId;
use cepa_netdoc::vote::{Vote, VoteRouter};

const NAMED: &str = "Named";
const UNNAMED: &str = "Unnamed";

/// Whose a nickname is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// This relay's.
    Relay(RsaId),
    /// Votes disagree.
    Disputed,
    /// Some other relay's.
    Unknown,
}

/// All nicknames that votes say something of, in lower case.
#[derive(Debug, Default)]
pub(super) struct Names {
    owners: BTreeMap<String, Owner>,
}

impl Names {
    /// What the votes say; they are sorted by author.
    pub(super) fn of(votes: &[&Vote]) -> Self {
        let mut names = Names::default();
        let listed = |flag: &'static str| {
            let votes = votes.iter();
            let votes = votes.filter(move |vote| vote.known_flags.iter().any(|one| one == flag));
            let routers = votes.flat_map(|vote| &vote.routers);
            routers.filter(move |router| has(router, flag))
        };
        for router in listed(NAMED) {
            let own = Owner::Relay(router.status.rsa_id);
            let key = router.status.nickname.to_ascii_lowercase();
            let held = names.owners.entry(key).or_insert(own);
            if *held != own {
                *held = Owner::Disputed;
            }
        }
        for router in listed(UNNAMED) {
            let key = router.status.nickname.to_ascii_lowercase();
            let held = names.owners.entry(key).or_insert(Owner::Unknown);
            if *held == Owner::Relay(router.status.rsa_id) {
                *held = Owner::Disputed;
            }
        }
        names
    }

    /// Whether a nickname is this relay's; nothing if nobody says.
    pub(super) fn owner(&self, nickname: &str, id: &RsaId) -> Option<bool> {
        if self.owners.is_empty() {
            return None;
        }
        let owner = self.owners.get(&nickname.to_ascii_lowercase())?;
        Some(*owner == Owner::Relay(*id))
    }
}

/// The nickname of the entries that are Named, if they agree.
pub(super) fn chosen<'a>(entries: &[&'a VoteRouter]) -> Option<&'a str> {
    let named = entries.iter().filter(|entry| has(entry, NAMED));
    let mut names = named.map(|entry| entry.status.nickname.as_str());
    let first = names.next()?;
    names.all(|name| name == first).then_some(first)
}

fn has(router: &VoteRouter, flag: &str) -> bool {
    router.status.flags_unknown.iter().any(|one| one == flag)
}
