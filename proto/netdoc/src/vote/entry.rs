//! One entry of a vote: reading it, and asking whether one of ours will be read (dir-spec 3.4.1).
//!
//! The reader of votes and the check of an entry before it is voted are the same code, so that an
//! authority never says of a relay what another cannot read: one such entry would cost the vote.

use crate::item::{Item, Items};
use crate::routerstatus::{EntryKind, EntryReader, digest};
use crate::vote::parse::LIMITS;
use crate::vote::{
    METHODS_MAX, MICRODESCS_MAX, Stats, StatusError, VoteRouter, VotedEd25519, VotedMicrodesc,
};
use crate::{consensus::once, item::ItemError};
use cepa_crypto::Ed25519Id;

/// Why an entry must not stand in a vote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Nobody could read it, or the vote with it.
    #[error(transparent)]
    Unreadable(#[from] StatusError),
    /// It would be read as something else.
    #[error("the entry is read as another one")]
    Altered,
}

/// An entry that is being read.
#[derive(Debug)]
pub(super) struct EntryInVote {
    reader: EntryReader,
    ed25519: Option<VotedEd25519>,
    stats: Option<Stats>,
    microdescs: Vec<VotedMicrodesc>,
}

impl EntryInVote {
    /// Starts with the `r` item.
    pub(super) fn start(r: &Item<'_>) -> Result<Self, StatusError> {
        Ok(Self {
            reader: EntryReader::start(EntryKind::Vote, r)?,
            ed25519: None,
            stats: None,
            microdescs: Vec::new(),
        })
    }

    /// Takes a further item of the entry.
    pub(super) fn item(
        &mut self,
        item: &Item<'_>,
        known_flags: &[String],
    ) -> Result<(), StatusError> {
        match item.keyword {
            "id" if item.arg(0)? == "ed25519" => {
                let id = match item.arg(1)? {
                    "none" => VotedEd25519::None,
                    text => VotedEd25519::Id(Ed25519Id::from(digest::<32>(item, 1, text)?)),
                };
                once(item, &mut self.ed25519, id)
            }
            "stats" => once(item, &mut self.stats, Stats::parse(item)?),
            "m" => {
                if self.microdescs.len() >= MICRODESCS_MAX {
                    return Err(StatusError::TooMany("m lines"));
                }
                self.microdescs.push(microdesc(item)?);
                Ok(())
            }
            _ => Ok(self.reader.item(item, known_flags)?),
        }
    }

    /// Ends the entry.
    pub(super) fn finish(self) -> Result<VoteRouter, StatusError> {
        Ok(VoteRouter {
            status: self.reader.finish()?,
            ed25519: self.ed25519,
            stats: self.stats,
            microdescs: self.microdescs,
        })
    }
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
        let mut items = Items::new(&text, LIMITS).map_err(StatusError::from)?;
        let first = items.next().transpose().map_err(StatusError::from)?;
        let missing = || StatusError::from(ItemError::Missing("r".to_owned()));
        let mut entry = EntryInVote::start(&first.ok_or_else(missing)?)?;
        for item in items {
            let item = item.map_err(StatusError::from)?;
            // Another entry, or the end of all: nothing that an entry may hold.
            if matches!(
                item.keyword,
                "r" | "directory-footer" | "directory-signature"
            ) {
                return Err(EntryError::Altered);
            }
            entry.item(&item, known_flags)?;
        }
        match entry.finish()? == *self {
            true => Ok(text.len()),
            false => Err(EntryError::Altered),
        }
    }
}

fn microdesc(item: &Item<'_>) -> Result<VotedMicrodesc, StatusError> {
    let mut methods = Vec::new();
    for word in item.arg(0)?.split(',') {
        if methods.len() >= METHODS_MAX {
            return Err(StatusError::TooMany("methods"));
        }
        methods.push(word.parse().map_err(|_| item.bad_argument(0))?);
    }
    let sha256 = item
        .args()
        .skip(1)
        .find_map(|word| word.strip_prefix("sha256="));
    let digest = sha256.map(|text| digest::<32>(item, 1, text)).transpose()?;
    Ok(VotedMicrodesc { methods, digest })
}
