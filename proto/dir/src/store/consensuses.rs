//! The consensus in force of one flavour, those before it, and the differences (prop 140).
//!
//! A difference is made when the first who has that base asks for it, and kept until the next
//! consensus comes. Older bases are forgotten: who has been away that long gets the whole text.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use cepa_netdoc::consensus::ConsensusText;

use super::document::Document;

/// Consensuses before the current one from which differences are made.
pub const BASES_MAX: usize = 8;

#[derive(Debug)]
struct Base {
    text: ConsensusText,
    digest: [u8; 32],
    /// The way from it to the current one.
    diff: OnceLock<Arc<Document>>,
}

/// The current consensus of a flavour.
#[derive(Debug)]
pub(super) struct Current {
    /// What it says.
    pub(super) text: ConsensusText,
    /// What is served.
    pub(super) document: Arc<Document>,
    digest: [u8; 32],
}

/// The consensuses of one flavour.
#[derive(Debug, Default)]
pub(super) struct Consensuses {
    current: Option<Current>,
    /// Newest first.
    bases: VecDeque<Base>,
}

/// What there is for somebody who has certain consensuses already.
#[derive(Debug)]
pub(super) enum Found {
    /// He has the current one.
    Same,
    /// The way from one of his to the current one, and that one, should there be no way.
    Diff(Arc<Document>, Arc<Document>),
    /// The current one.
    Whole(Arc<Document>),
}

impl Consensuses {
    /// Takes a consensus; one that is older than the current one only becomes a base.
    pub(super) fn insert(&mut self, text: ConsensusText) {
        let digest = text.diff_base_digest();
        if self
            .current
            .as_ref()
            .is_some_and(|current| *current.text.text() == *text.text())
        {
            return;
        }
        let valid_after = |text: &ConsensusText| text.consensus().lifetime.valid_after;
        let is_older = |current: &Current| valid_after(&current.text) > valid_after(&text);
        if self.current.as_ref().is_some_and(is_older) {
            return self.add_base(text, digest);
        }
        let document = Arc::new(Document::new(Arc::clone(text.text())));
        let before = self.current.replace(Current {
            text,
            document,
            digest,
        });
        for base in &mut self.bases {
            base.diff = OnceLock::new();
        }
        // The same consensus with more signatures replaces itself.
        if let Some(before) = before.filter(|before| before.digest != digest) {
            self.add_base(before.text, before.digest);
        }
    }

    fn add_base(&mut self, text: ConsensusText, digest: [u8; 32]) {
        if self.bases.iter().any(|base| base.digest == digest) {
            return;
        }
        let valid_after = |text: &ConsensusText| text.consensus().lifetime.valid_after;
        let at = self
            .bases
            .partition_point(|base| valid_after(&base.text) > valid_after(&text));
        self.bases.insert(
            at,
            Base {
                text,
                digest,
                diff: OnceLock::new(),
            },
        );
        self.bases.truncate(BASES_MAX);
    }

    /// The current one.
    #[must_use]
    pub(super) fn current(&self) -> Option<&Current> {
        self.current.as_ref()
    }

    /// What to send to somebody who has those of these digests (SHA3-256 of the signed part). There
    /// is no way from one that is older than `oldest`.
    #[must_use]
    pub(super) fn find(&self, has: &[[u8; 32]], oldest: Option<SystemTime>) -> Option<Found> {
        let current = self.current.as_ref()?;
        if has.contains(&current.digest) {
            return Some(Found::Same);
        }
        let whole = Arc::clone(&current.document);
        let is_old = |base: &Base| {
            let since = base.text.consensus().lifetime.valid_after;
            oldest.is_some_and(|oldest| since < oldest)
        };
        let mut bases = self.bases.iter();
        let found = bases.find(|base| has.contains(&base.digest) && !is_old(base));
        let Some(base) = found else {
            return Some(Found::Whole(whole));
        };
        let make = || Arc::new(Document::diff(base.text.clone(), current.text.clone()));
        Some(Found::Diff(Arc::clone(base.diff.get_or_init(make)), whole))
    }
}
