//! Consensus diffs: what changed from one consensus to the next, as a script of `ed`
//! (dir-spec 3.10.1 and prop 140).
//!
//! A script's commands run from the last line to the first and never overlap, so that one pass
//! applies them; the first one alone may say `$`. The base is named by the SHA3-256 of its signed
//! part, the target by that of all of its bytes, and a result with another digest is refused. Work
//! and memory are bounded by the sizes of base and script.

mod apply;
mod make;

use cepa_crypto::{digest, encoding};

use crate::consensus::CONSENSUS_BYTES_MAX;

pub use apply::apply;
pub use make::make;

/// The largest diff that is read.
pub const DIFF_BYTES_MAX: usize = CONSENSUS_BYTES_MAX;

/// The first line of every diff.
const FIRST_LINE: &str = "network-status-diff-version 1";

/// Why a diff cannot be applied, or is not worth making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    /// The first two lines are not those of a diff.
    #[error("not a consensus diff of version 1")]
    Header,
    /// The diff is for another base.
    #[error("the diff is for another consensus")]
    OtherBase,
    /// A line that should be a command is none.
    #[error("malformed command in a consensus diff")]
    Command,
    /// The commands do not run from the end to the start, or reach behind the end.
    #[error("commands of a consensus diff are out of order")]
    Order,
    /// Lines to be added do not end in a line with a dot.
    #[error("consensus diff is cut short")]
    Truncated,
    /// Diff or result are larger than allowed.
    #[error("consensus diff or its result is too large")]
    TooLarge,
    /// The result has not the digest that the diff names.
    #[error("consensus diff does not give the consensus that it names")]
    WrongResult,
    /// The two consensuses are of different flavours.
    #[error("consensuses of different flavours")]
    Flavours,
}

/// The digests at a diff's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiffHeader {
    /// SHA3-256 of the signed part of the base.
    pub base: [u8; 32],
    /// SHA3-256 of the target.
    pub target: [u8; 32],
}

/// Whether a document that came in reply to a request for a consensus is a diff.
pub fn is_diff(text: &str) -> bool {
    text.split('\n').next() == Some(FIRST_LINE)
}

impl DiffHeader {
    /// Reads the two first lines; gives the script behind them too.
    ///
    /// # Errors
    /// [`DiffError::Header`], [`DiffError::TooLarge`].
    pub fn parse(diff: &str) -> Result<(Self, &str), DiffError> {
        if diff.len() > DIFF_BYTES_MAX {
            return Err(DiffError::TooLarge);
        }
        let rest = diff
            .strip_prefix(FIRST_LINE)
            .and_then(|rest| rest.strip_prefix('\n'));
        let (hashes, script) = rest
            .and_then(|rest| rest.split_once('\n'))
            .ok_or(DiffError::Header)?;
        let mut words = hashes.split(' ');
        let keyword = words.next();
        let mut hash = || encoding::hex_decode(words.next()?)?.try_into().ok();
        let (Some("hash"), Some(base), Some(target)) = (keyword, hash(), hash()) else {
            return Err(DiffError::Header);
        };
        Ok((Self { base, target }, script))
    }

    fn encode(&self) -> String {
        let [base, target] = [&self.base, &self.target].map(|digest| encoding::hex_upper(digest));
        format!("{FIRST_LINE}\nhash {base} {target}\n")
    }
}

fn document_digest(text: &str) -> [u8; 32] {
    digest::sha3_256(text.as_bytes())
}

#[cfg(test)]
mod tests;
