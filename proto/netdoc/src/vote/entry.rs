//! One entry of a vote: reading it, and asking whether one of ours will be read (dir-spec 3.4.1).
//!
//! The reader of votes and the check of an entry before it is voted are the same code, so that an
//! authority never says of a relay what another cannot read: one such entry would cost the vote.

use std::fmt::Write as _;

use cepa_crypto::Ed25519Id;

use crate::consensus::StatusError;
use crate::item::{ItemError, Items};
use crate::routerstatus::{EntryKind, EntryReader, digest, kilobytes, percentage, words};
use crate::vote::header::{Args, Rule, Rules};
use crate::vote::part::{LIMITS, next_part};
use crate::vote::{VoteRouter, VotedBandwidth, VotedEd25519};

/// The lines of an entry. That there is one `r` follows from how entries are cut.
const RULES: &[Rule] = &[
    Rule::once("p", Args::Line),
    Rule::required("r", Args::AtLeast(8)),
    Rule::any("a", Args::AtLeast(1)),
    Rule::required("s", Args::AtLeast(0)),
    Rule::once("v", Args::Line),
    Rule::once("w", Args::AtLeast(0)),
    Rule::any("m", Args::Line),
    Rule::any("id", Args::AtLeast(2)),
    Rule::required("pr", Args::Line),
];

/// Why an entry must not stand in a vote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Nobody could read it, or the vote with it.
    #[error(transparent)]
    Unreadable(#[from] StatusError),
    /// The entry would be read as something else.
    #[error("the entry is read as another one")]
    Altered,
}

/// Reads the entry that is the whole of `text`.
pub(super) fn read(text: &str, known_flags: &[String]) -> Result<VoteRouter, StatusError> {
    let mut items = Items::new(text, LIMITS)?;
    let mut rules = Rules::new(RULES);
    let first = items.next().transpose()?;
    let first = first.ok_or_else(|| ItemError::Missing("r".to_owned()))?;
    rules.check(&first)?;
    let mut reader = EntryReader::start(EntryKind::Vote, &first)?;
    let (mut w, mut ed25519, mut stats) = (None, None, None);
    let mut microdescs = Vec::new();
    for item in items {
        let item = item?;
        rules.check(&item)?;
        match item.keyword {
            "id" if item.arg(0)? == "ed25519" => {
                // A relay that says nothing of an identity counts as one that has none.
                ed25519 = Some(match item.arg(1)? {
                    "none" => VotedEd25519::None,
                    text => match digest::<32>(&item, 1, text)? {
                        zeros if zeros == [0; 32] => VotedEd25519::None,
                        id => VotedEd25519::Id(Ed25519Id::from(id)),
                    },
                });
            }
            "w" => w = Some(VotedBandwidth::parse(&item)?),
            "stats" => stats = Some(item.args_text.to_owned()),
            "m" => microdescs.push(item.args_text.to_owned()),
            _ => reader.item(&item, known_flags)?,
        }
    }
    rules.finish()?;
    Ok(VoteRouter {
        status: reader.finish()?,
        w: w.unwrap_or_default(),
        ed25519,
        stats,
        microdescs,
    })
}

impl VoteRouter {
    /// How many bytes the entry adds to a vote with these known flags, if all who read the vote
    /// will read it, and as it is.
    ///
    /// # Errors
    /// [`EntryError`]: what the reader of votes says of it, or that it comes back different.
    pub fn check(&self, known_flags: &[String]) -> Result<usize, EntryError> {
        let mut text = String::with_capacity(1024);
        self.encode(&mut text);
        // In a vote it would be cut where another entry, or the footer, seems to start.
        if next_part(&text, 0) != text.len() {
            return Err(EntryError::Altered);
        }
        match read(&text, known_flags)? == *self {
            true => Ok(text.len()),
            false => Err(EntryError::Altered),
        }
    }

    /// Writes the entry.
    pub(super) fn encode(&self, out: &mut String) {
        self.status.encode_vote(&self.w.encode(), out);
        match &self.ed25519 {
            None => {}
            Some(VotedEd25519::None) => out.push_str("id ed25519 none\n"),
            Some(VotedEd25519::Id(id)) => {
                let _ = writeln!(out, "id ed25519 {id}");
            }
        }
        if let Some(stats) = &self.stats {
            let _ = writeln!(out, "stats {stats}");
        }
        for line in &self.microdescs {
            let _ = writeln!(out, "m {line}");
        }
    }
}

impl VotedBandwidth {
    fn parse(item: &crate::item::Item<'_>) -> Result<Self, ItemError> {
        let mut w = Self::default();
        for (name, value, at) in words(item) {
            let bad = || item.bad_argument(at);
            match name {
                "Bandwidth" => w.bandwidth = Some(kilobytes(value).ok_or_else(bad)?),
                "Measured" => w.measured = Some(kilobytes(value).ok_or_else(bad)?),
                "MeasuredButAuthority" => w.measured_but_authority = kilobytes(value),
                "GuardFraction" => w.guard_fraction = Some(percentage(value).ok_or_else(bad)?),
                _ => {}
            }
        }
        Ok(w)
    }

    /// The line, or nothing.
    fn encode(&self) -> String {
        let mut out = String::new();
        let mut push = |name: &str, value: Option<u32>| {
            if let Some(value) = value {
                let start = if out.is_empty() { "w" } else { "" };
                let _ = write!(out, "{start} {name}={value}");
            }
        };
        push("Bandwidth", self.bandwidth);
        push("Measured", self.measured);
        push("MeasuredButAuthority", self.measured_but_authority);
        push("GuardFraction", self.guard_fraction.map(u32::from));
        if !out.is_empty() {
            out.push('\n');
        }
        out
    }
}
