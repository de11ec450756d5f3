//! Authorities that vote twice for one interval, and not the same: others may have the other vote,
//! and then there is no consensus that all sign. Both votes are signed, so that together they prove
//! it; they are kept and told of.

use cepa_crypto::encoding::hex_upper;
use cepa_netdoc::vote::VoteText;
use cepa_wire::time::unix_seconds;

use crate::command::{Command, Row, RowKind};
use crate::status::Equivocation;

/// Pairs of votes of one author for one interval that are kept as evidence: the newest.
const EQUIVOCATIONS_MAX: usize = 4;

/// What is known of pairs of votes of one author for one interval; the votes are in their rows.
#[derive(Debug, Default)]
pub(crate) struct Equivocations(Vec<Equivocation>);

impl Equivocations {
    /// A pair that an earlier run kept, one vote behind the other.
    pub(crate) fn restore(&mut self, both: &str) {
        let second = both
            .get(1..)
            .and_then(|rest| rest.find("\nnetwork-status-version 3"));
        let halves = second.and_then(|second| both.split_at_checked(second + 2));
        let read = halves.and_then(|(first, second)| {
            Some([VoteText::parse(first).ok()?, VoteText::parse(second).ok()?])
        });
        self.0
            .extend(read.map(|[first, second]| told(&first, &second)));
        self.0.sort_by_key(|one| one.valid_after);
    }

    /// Looks whether a good vote is the second of its author for its interval, after one of those
    /// that are held; what becomes of the rows of evidence, if that is new.
    pub(crate) fn look<'a>(
        &mut self,
        mut held: impl Iterator<Item = &'a VoteText>,
        text: &VoteText,
    ) -> Vec<Command> {
        let which = |text: &VoteText| (text.vote().author(), text.vote().lifetime.valid_after);
        let is_other =
            |held: &&VoteText| which(held) == which(text) && held.digest() != text.digest();
        let Some(first) = held.find(is_other) else {
            return Vec::new();
        };
        let new = told(first, text);
        let is_same = |one: &Equivocation| row(one) == row(&new);
        if self.0.iter().any(is_same) {
            return Vec::new();
        }
        tracing::warn!(
            authority = text.vote().dir_source.nickname,
            v3_ident = %new.identity,
            "an authority has voted twice for one interval, and not the same"
        );
        let mut commands = vec![Command::Put(Row {
            kind: RowKind::Equivocation,
            key: row(&new),
            bytes: [first.text().as_bytes(), text.text().as_bytes()].concat(),
        })];
        self.0.push(new);
        if self.0.len() > EQUIVOCATIONS_MAX {
            let oldest = self.0.remove(0);
            commands.push(Command::Drop(RowKind::Equivocation, row(&oldest)));
        }
        commands
    }

    /// What is told of them.
    pub(crate) fn status(&self) -> Vec<Equivocation> {
        self.0.clone()
    }
}

fn told(first: &VoteText, second: &VoteText) -> Equivocation {
    Equivocation {
        identity: first.vote().author(),
        valid_after: first.vote().lifetime.valid_after,
        digests: [first, second].map(|text| hex_upper(text.digest())),
    }
}

/// The key of the row that has both votes.
fn row(one: &Equivocation) -> String {
    format!("{} {}", one.identity, unix_seconds(one.valid_after))
}
