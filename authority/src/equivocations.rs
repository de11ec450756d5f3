//! Authorities that vote twice for one interval, and not the same: others may have the other vote,
//! and then there is no consensus that all sign. Both votes are signed, so that together they prove
//! it; they are kept and told of.

use cepa_crypto::encoding::hex_upper;
use cepa_netdoc::vote::VoteText;
use cepa_wire::time::unix_seconds;

use crate::command::{Row, RowKind};
use crate::status::Equivocation;

/// Pairs of votes of one author for one interval that are kept as evidence.
const EQUIVOCATIONS_MAX: usize = 4;

/// Pairs of votes of one author for one interval, the first ones.
#[derive(Debug, Default)]
pub(crate) struct Equivocations(Vec<[VoteText; 2]>);

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
            .extend(read.filter(|_| self.0.len() < EQUIVOCATIONS_MAX));
    }

    /// Looks whether a good vote is the second of its author for its interval, after one of those
    /// that are held; the row of evidence, if that is new.
    pub(crate) fn look<'a>(
        &mut self,
        mut held: impl Iterator<Item = &'a VoteText>,
        text: &VoteText,
    ) -> Option<Row> {
        let which = |text: &VoteText| (text.vote().author(), text.vote().lifetime.valid_after);
        let first =
            held.find(|held| which(held) == which(text) && held.digest() != text.digest())?;
        if self.0.iter().any(|[first, _]| which(first) == which(text)) {
            return None;
        }
        let (author, start) = which(text);
        tracing::warn!(
            authority = text.vote().dir_source.nickname,
            v3_ident = %author,
            "an authority has voted twice for one interval, and not the same"
        );
        if self.0.len() >= EQUIVOCATIONS_MAX {
            return None;
        }
        self.0.push([first.clone(), text.clone()]);
        Some(Row {
            kind: RowKind::Equivocation,
            key: format!("{author} {}", unix_seconds(start)),
            bytes: [first.text().as_bytes(), text.text().as_bytes()].concat(),
        })
    }

    /// What is told of them.
    pub(crate) fn status(&self) -> Vec<Equivocation> {
        let told = self.0.iter().map(|[first, second]| Equivocation {
            identity: first.vote().author(),
            valid_after: first.vote().lifetime.valid_after,
            digests: [first, second].map(|text| hex_upper(text.digest())),
        });
        told.collect()
    }
}
