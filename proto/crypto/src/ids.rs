//! The two identities of a relay (tor-spec 1.1, 1.2): the digest of its RSA key and its Ed25519
//! master key.
//!
//! Their texts are those of directory documents: 40 upper-case hexadecimal digits for `RsaId`,
//! 43 characters of base64 without padding for `Ed25519Id`. Reading is tolerant of case and
//! of padding, writing is not.

use core::fmt;
use core::str::FromStr;

use serde::{Serialize, Serializer};

use crate::encoding;

/// An identity's text that is not of the right length or alphabet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed relay identity")]
pub struct MalformedId;

/// SHA-1 of a relay's or authority's RSA identity key in PKCS#1 DER (the "fingerprint").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RsaId([u8; 20]);

/// A relay's Ed25519 master identity key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ed25519Id([u8; 32]);

impl RsaId {
    /// The identity of these 20 bytes; `None` for any other length.
    pub fn from_bytes(bytes: &[u8]) -> Option<RsaId> {
        bytes.try_into().ok().map(RsaId)
    }

    /// Its 20 bytes.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl Ed25519Id {
    /// The identity of these 32 bytes (not checked to be a point); `None` for any other length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Ed25519Id> {
        bytes.try_into().ok().map(Ed25519Id)
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 20]> for RsaId {
    fn from(bytes: [u8; 20]) -> RsaId {
        RsaId(bytes)
    }
}

impl From<[u8; 32]> for Ed25519Id {
    fn from(bytes: [u8; 32]) -> Ed25519Id {
        Ed25519Id(bytes)
    }
}

impl fmt::Display for RsaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encoding::hex_upper(&self.0))
    }
}

impl Serialize for RsaId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for RsaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RsaId {
    type Err = MalformedId;

    fn from_str(text: &str) -> Result<RsaId, MalformedId> {
        encoding::hex_array(text).map(RsaId).ok_or(MalformedId)
    }
}

impl fmt::Display for Ed25519Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encoding::base64_unpadded(&self.0))
    }
}

impl Serialize for Ed25519Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for Ed25519Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Ed25519Id {
    type Err = MalformedId;

    fn from_str(text: &str) -> Result<Ed25519Id, MalformedId> {
        encoding::base64_array(text)
            .map(Ed25519Id)
            .ok_or(MalformedId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn texts_come_back(rsa: [u8; 20], ed: [u8; 32]) {
            let (rsa, ed) = (RsaId::from(rsa), Ed25519Id::from(ed));
            prop_assert_eq!(rsa.to_string().parse(), Ok(rsa));
            prop_assert_eq!(rsa.to_string().to_lowercase().parse(), Ok(rsa));
            prop_assert_eq!(ed.to_string().parse(), Ok(ed));
            prop_assert_eq!(format!("{ed}=").parse(), Ok(ed));
            prop_assert_eq!(format!("{rsa:?}").len(), 40);
            prop_assert_eq!(format!("{ed:?}").len(), 43);
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".*") {
            let _ = text.parse::<RsaId>();
            let _ = text.parse::<Ed25519Id>();
        }
    }

    #[test]
    fn wrong_lengths_are_refused() {
        assert_eq!(RsaId::from_bytes(&[0; 19]), None);
        assert_eq!(Ed25519Id::from_bytes(&[0; 33]), None);
        assert_eq!("00".parse::<RsaId>(), Err(MalformedId));
        assert_eq!("AAAA".parse::<Ed25519Id>(), Err(MalformedId));
    }
}
