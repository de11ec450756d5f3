//! An authority that votes twice for one interval, and not the same: others may have the other
//! vote, and then there is no consensus that all sign. Both votes are signed, so that together they
//! prove it; they are kept and told of.

use cepa_netdoc::vote::VoteText;
use cepa_wire::time::unix_seconds;

use super::Authority;
use crate::command::RowKind;
use crate::health::EQUIVOCATIONS_MAX;

impl Authority {
    /// Looks whether a good vote is the second of its author for its interval.
    pub(super) fn look_for_equivocation(&mut self, text: &VoteText) {
        let vote = text.vote();
        let start = |text: &VoteText| text.vote().lifetime.valid_after;
        let round = self.round.as_ref().map(|round| &round.votes);
        let is_other =
            |held: &&VoteText| start(held) == start(text) && held.digest() != text.digest();
        let first = (round.into_iter().chain([&self.early_votes]))
            .filter_map(|votes| votes.get(&vote.author()))
            .find(is_other)
            .cloned();
        let Some(first) = first else {
            return;
        };
        let is_known = |pair: &[VoteText; 2]| {
            pair[0].vote().author() == vote.author() && start(&pair[0]) == start(text)
        };
        if self.equivocations.iter().any(is_known) {
            return;
        }
        tracing::warn!(
            authority = self.config.nickname(&vote.author()),
            "an authority has voted twice for one interval, and not the same; both votes are kept"
        );
        if self.equivocations.len() < EQUIVOCATIONS_MAX {
            let key = format!("{} {}", vote.author(), unix_seconds(start(text)));
            let both = [&**first.text(), &**text.text()].concat();
            self.put(RowKind::Equivocation, key, &both);
            self.equivocations.push([first, text.clone()]);
        }
    }
}

/// Two votes that stand one behind the other.
pub(super) fn read(both: &str) -> Option<[VoteText; 2]> {
    let second = both.get(1..)?.find("\nnetwork-status-version 3")? + 2;
    let (first, second) = both.split_at_checked(second)?;
    Some([VoteText::parse(first).ok()?, VoteText::parse(second).ok()?])
}
