//! RELAY_SENDME: more cells may come (tor-spec 7.3.1).
//!
//! ```text
//! empty (version 0) | version 1, length 2, tag (length) | ignored
//! ```
//!
//! The tag proves that the sender saw the DATA cell that made the message due: 20 bytes of running
//! digest with tor1, 16 bytes with CGO. C tor refuses every other length, although the section
//! would let a longer one be cut; so do we.

use crate::reader::{Reader, Truncated};
use crate::writer::Writer;

const VERSION_UNAUTHENTICATED: u8 = 0;
const VERSION_AUTHENTICATED: u8 = 1;
/// Bytes of a tag with tor1 relay cryptography.
pub const TAG_LEN_TOR1: usize = 20;
/// Bytes of a tag with CGO relay cryptography.
pub const TAG_LEN_CGO: usize = 16;

/// Which cell a SENDME acknowledges, by its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendmeTag {
    /// The running digest after the cell.
    Tor1([u8; TAG_LEN_TOR1]),
    /// The encrypted tag of the cell.
    Cgo([u8; TAG_LEN_CGO]),
}

impl SendmeTag {
    /// The tag's bytes, 20 or 16 of them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            SendmeTag::Tor1(tag) => tag,
            SendmeTag::Cgo(tag) => tag,
        }
    }

    /// A tag of 20 or 16 bytes; `None` for any other length.
    #[must_use]
    pub fn from_bytes(tag: &[u8]) -> Option<Self> {
        let tor1 = || tag.try_into().map(SendmeTag::Tor1);
        tor1().or_else(|_| tag.try_into().map(SendmeTag::Cgo)).ok()
    }
}

/// Why a SENDME message is refused; the circuit is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendmeError {
    /// The message ends before the tag does.
    #[error("SENDME: {0}")]
    Truncated(#[from] Truncated),
    /// A version that is neither 0 nor 1, or is no longer accepted.
    #[error("SENDME of version {0}")]
    Version(u8),
    /// A tag of neither 16 nor 20 bytes.
    #[error("SENDME with a tag of {0} bytes")]
    TagLength(u16),
}

/// The body of a SENDME message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sendme {
    /// Version 0, and all messages about streams.
    Unauthenticated,
    /// Version 1.
    Authenticated(SendmeTag),
}

impl Sendme {
    /// Reads the data of a SENDME message.
    pub fn read(data: &[u8]) -> Result<Self, SendmeError> {
        let mut r = Reader::new(data);
        if r.is_empty() {
            return Ok(Sendme::Unauthenticated);
        }
        match r.u8()? {
            VERSION_UNAUTHENTICATED => Ok(Sendme::Unauthenticated),
            VERSION_AUTHENTICATED => {
                let len = r.u16()?;
                let tag = r.take(len.into())?;
                let tag = SendmeTag::from_bytes(tag).ok_or(SendmeError::TagLength(len))?;
                Ok(Sendme::Authenticated(tag))
            }
            version => Err(SendmeError::Version(version)),
        }
    }

    /// Reads the data of a circuit-level SENDME where none of a version below `version_min` is
    /// accepted (consensus parameter `sendme_accept_min_version`).
    pub fn read_from(data: &[u8], version_min: u8) -> Result<Self, SendmeError> {
        let sendme = Self::read(data)?;
        let version = match sendme {
            Sendme::Unauthenticated => VERSION_UNAUTHENTICATED,
            Sendme::Authenticated(_) => VERSION_AUTHENTICATED,
        };
        match version < version_min {
            true => Err(SendmeError::Version(version)),
            false => Ok(sendme),
        }
    }

    /// Appends the data of a SENDME message; nothing for version 0.
    pub fn write(&self, out: &mut Vec<u8>) {
        if let Sendme::Authenticated(tag) = self {
            let mut w = Writer::new(out);
            w.u8(VERSION_AUTHENTICATED);
            w.u16_prefixed(tag.as_bytes())
                .expect("a tag has at most 20 bytes");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    fn written(sendme: Sendme) -> Vec<u8> {
        let mut out = Vec::new();
        sendme.write(&mut out);
        out
    }

    #[test]
    fn versions_that_are_no_longer_accepted() {
        let mut bytes = Vec::new();
        Sendme::Authenticated(SendmeTag::Tor1([7; 20])).write(&mut bytes);
        for (min, is_read) in [(0, [true, true]), (1, [false, true]), (2, [false, false])] {
            let read = |data: &[u8]| Sendme::read_from(data, min).is_ok();
            assert_eq!([read(&[]), read(&bytes)], is_read);
        }
    }

    #[test]
    fn published_vectors() {
        assert_eq!(Sendme::read(&[]), Ok(Sendme::Unauthenticated));
        let tag = hex!("F01234989823478bcdefabcdef01234567890123");
        let sendme = Sendme::Authenticated(SendmeTag::Tor1(tag));
        let bytes = hex!("01 0014 F01234989823478bcdefabcdef01234567890123");
        assert_eq!(Sendme::read(&bytes), Ok(sendme));
        assert_eq!(written(sendme), bytes);
        for len in 1..bytes.len() {
            assert_eq!(
                Sendme::read(&bytes[..len]),
                Err(SendmeError::Truncated(Truncated))
            );
        }
    }

    #[test]
    fn versions_and_lengths() {
        assert_eq!(Sendme::read(&[0, 9, 9]), Ok(Sendme::Unauthenticated));
        assert_eq!(Sendme::read(&[2]), Err(SendmeError::Version(2)));
        assert_eq!(Sendme::read(&[1, 0, 1, 7]), Err(SendmeError::TagLength(1)));
        let long = [&[1, 0, 21][..], &[0; 21]].concat();
        assert_eq!(Sendme::read(&long), Err(SendmeError::TagLength(21)));
        assert_eq!(SendmeTag::from_bytes(&[0; 17]), None);
    }

    proptest! {
        #[test]
        fn written_is_read(tor1: [u8; 20], cgo: [u8; 16], rest: [u8; 9]) {
            for tag in [SendmeTag::Tor1(tor1), SendmeTag::Cgo(cgo)] {
                prop_assert_eq!(SendmeTag::from_bytes(tag.as_bytes()), Some(tag));
                let sendme = Sendme::Authenticated(tag);
                let bytes = [&written(sendme)[..], &rest].concat();
                prop_assert_eq!(Sendme::read(&bytes), Ok(sendme));
            }
        }
    }
}
