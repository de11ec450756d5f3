//! The authentication key of an introduction point, as messages name it (rend-spec-v3 3.1.1).
//!
//! ```text
//! type 1 (2: Ed25519) | length 2 (32) | key 32
//! ```
//!
//! Types 0 and 1 were version 2's. Whether the bytes are a point is found when it verifies.

use cepa_crypto::ed25519;

use crate::reader::{Reader, Truncated};
use crate::writer::Writer;

const TYPE_ED25519: u8 = 2;
const ED25519_LEN: u16 = 32;

/// Why an authentication key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthKeyError {
    /// The key ends too early.
    #[error("authentication key: {0}")]
    Truncated(#[from] Truncated),
    /// Another type than Ed25519.
    #[error("authentication key of type {0}")]
    Type(u8),
    /// Not as long as its type is.
    #[error("authentication key of {0} bytes")]
    Length(u16),
}

/// Takes a key from the front of a message.
pub(crate) fn read(r: &mut Reader<'_>) -> Result<ed25519::PublicKey, AuthKeyError> {
    let kind = r.u8()?;
    if kind != TYPE_ED25519 {
        return Err(AuthKeyError::Type(kind));
    }
    let len = r.u16()?;
    if len != ED25519_LEN {
        return Err(AuthKeyError::Length(len));
    }
    Ok(r.array::<32>()?.into())
}

/// Appends a key.
pub(crate) fn write(key: &ed25519::PublicKey, w: &mut Writer<'_>) {
    w.u8(TYPE_ED25519);
    w.u16(ED25519_LEN);
    w.bytes(key.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ed25519_of_its_length() {
        let key = ed25519::PublicKey::from([7; 32]);
        let mut out = Vec::new();
        write(&key, &mut Writer::new(&mut out));
        assert_eq!(read(&mut Reader::new(&out)), Ok(key));
        for len in 0..out.len() {
            let error = read(&mut Reader::new(&out[..len])).unwrap_err();
            assert_eq!(error, AuthKeyError::Truncated(Truncated));
        }
        out[2] = 31;
        assert_eq!(read(&mut Reader::new(&out)), Err(AuthKeyError::Length(31)));
        out[0] = 1;
        assert_eq!(read(&mut Reader::new(&out)), Err(AuthKeyError::Type(1)));
    }
}
