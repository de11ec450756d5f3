//! Lines of the shared randomness protocol in votes and consensuses (srv-spec 4.1).
//!
//! Commitments and reveals are kept as their base64 texts: the protocol hashes those texts.
//! `tor` refuses a document whose value line has not two arguments, and ignores a malformed value.

use std::fmt::Write as _;

use cepa_crypto::{RsaId, encoding};

use crate::item::{Item, ItemError};
use crate::number;

/// The length of a commitment's and a reveal's base64 text.
pub const COMMIT_TEXT_LEN: usize = 56;

/// The length of a value's base64 text, padding included; what stands in its place is not read.
const VALUE_TEXT_LEN: usize = 44;

/// A `shared-rand-previous-value` or `shared-rand-current-value` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedRandValue {
    /// How many reveals went into the value.
    pub reveals: u64,
    /// The value.
    pub value: [u8; 32],
}

/// A `shared-rand-commit` line of a vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedRandCommit {
    /// The v3 identity of the authority that committed.
    pub identity: RsaId,
    /// base64 of time stamp and hash, 56 characters.
    pub commit: String,
    /// base64 of time stamp and random number, 56 characters.
    pub reveal: Option<String>,
}

impl SharedRandValue {
    /// Reads the value; nothing if it is malformed, which `tor` ignores.
    pub(crate) fn read(item: &Item<'_>) -> Option<Self> {
        let text = item
            .arg(1)
            .ok()
            .filter(|text| text.len() == VALUE_TEXT_LEN)?;
        Some(Self {
            reveals: number::unsigned(item.arg(0).ok()?, u64::MAX)?,
            value: encoding::base64_array(text.get(..VALUE_TEXT_LEN - 1)?)?,
        })
    }

    pub(crate) fn encode(&self, keyword: &str, out: &mut String) {
        let value = data_encoding::BASE64.encode(&self.value);
        let _ = writeln!(out, "{keyword} {} {value}", self.reveals);
    }
}

impl SharedRandCommit {
    pub(crate) fn parse(item: &Item<'_>) -> Result<Self, ItemError> {
        if item.arg(0)? != "1" {
            return Err(item.bad_argument(0));
        }
        if item.arg(1)? != "sha3-256" {
            return Err(item.bad_argument(1));
        }
        let reveal = match item.args().nth(4) {
            None => None,
            Some(_) => Some(commit_text(item, 4)?),
        };
        Ok(Self {
            identity: item.arg_as(2)?,
            commit: commit_text(item, 3)?,
            reveal,
        })
    }

    pub(crate) fn encode(&self, out: &mut String) {
        let _ = write!(
            out,
            "shared-rand-commit 1 sha3-256 {} {}",
            self.identity, self.commit
        );
        if let Some(reveal) = &self.reveal {
            let _ = write!(out, " {reveal}");
        }
        out.push('\n');
    }
}

fn commit_text(item: &Item<'_>, at: usize) -> Result<String, ItemError> {
    let text = item.arg(at)?;
    let is_base64 = data_encoding::BASE64.decode(text.as_bytes()).is_ok();
    if text.len() != COMMIT_TEXT_LEN || !is_base64 {
        return Err(item.bad_argument(at));
    }
    Ok(text.to_owned())
}
