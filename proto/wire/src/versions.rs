//! VERSIONS: which link protocols each side speaks (tor-spec 4.1).
//!
//! The body is a list of two-byte numbers and nothing else; the highest that both sides list wins.
//! Looked at in place, so that a body of 64 KB costs no memory.

use crate::writer::{TooLong, Writer};

/// The body has an odd number of bytes; the channel is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("VERSIONS cell of {0} bytes, an odd number")]
pub struct OddLength(pub usize);

/// The body of a VERSIONS cell, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions<'a> {
    body: &'a [u8],
}

impl<'a> Versions<'a> {
    /// Reads the body of a VERSIONS cell.
    pub fn read(body: &'a [u8]) -> Result<Self, OddLength> {
        if body.len().is_multiple_of(2) {
            Ok(Versions { body })
        } else {
            Err(OddLength(body.len()))
        }
    }

    /// The versions, in the order in which they stand.
    pub fn iter(&self) -> impl Iterator<Item = u16> + 'a {
        self.body
            .as_chunks::<2>()
            .0
            .iter()
            .map(|pair| u16::from_be_bytes(*pair))
    }

    /// The highest version that is also one of `ours`; with `None` the channel is to be closed.
    #[must_use]
    pub fn highest_common(&self, ours: &[u16]) -> Option<u16> {
        self.iter().filter(|version| ours.contains(version)).max()
    }
}

/// Appends the body of a VERSIONS cell.
pub fn write(versions: &[u16], out: &mut Vec<u8>) -> Result<(), TooLong> {
    if versions.len() > usize::from(u16::MAX) / 2 {
        return Err(TooLong);
    }
    let mut w = Writer::new(out);
    versions.iter().for_each(|version| w.u16(*version));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn highest_common() {
        let mut body = Vec::new();
        write(&[3, 4, 5], &mut body).unwrap();
        assert_eq!(body, [0, 3, 0, 4, 0, 5]);
        let versions = Versions::read(&body).unwrap();
        assert_eq!(versions.iter().collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(versions.highest_common(&[4, 5, 6]), Some(5));
        assert_eq!(versions.highest_common(&[6]), None);
        assert_eq!(Versions::read(&[]).unwrap().highest_common(&[4]), None);
        assert_eq!(Versions::read(&body[..5]), Err(OddLength(5)));
        assert_eq!(write(&[4; 32768], &mut body), Err(TooLong));
    }
}
