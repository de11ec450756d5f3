//! INTRODUCE1, INTRODUCE2 and INTRODUCE_ACK: a visitor calls a service through its introduction
//! point (rend-spec-v3 3.2, 3.3.2). What is encrypted is in [`crate::intro_plaintext`].
//!
//! ```text
//! INTRODUCE1, 2:  zero 20 | auth key 35 | extensions | X 32 | ciphertext | MAC 32
//! INTRODUCE_ACK:  status 2 | extensions
//! ```
//!
//! The point reads no further than to the extensions and passes the bytes on as they are. The MAC
//! covers all before it. A service keeps a replay cache of [`Introduce::encrypted`].

use cepa_crypto::curve25519;
use cepa_crypto::digest::ct_eq;
use cepa_crypto::ed25519::PublicKey;
use cepa_crypto::hs_ntor::IntroKeys;
use zeroize::Zeroizing;

use crate::auth_key::{self, AuthKeyError};
use crate::codes::codes;
use crate::extension::Extensions;
use crate::intro_plaintext::IntroPlaintext;
use crate::reader::{Reader, Truncated};
use crate::relay::RELAY_DATA_MAX;
use crate::writer::{TooLong, Writer};

const LEGACY_KEY_ID: [u8; 20] = [0; 20];
const CLIENT_KEY_LEN: usize = 32;
const MAC_LEN: usize = 32;
/// Bytes of an INTRODUCE1 without extensions, before `X`.
const HEAD_LEN: usize = 56;
/// Fewest bytes of header and plaintext together, as C tor pads them
/// (`HS_CELL_INTRODUCE1_MIN_SIZE`).
const PADDED_LEN: usize = 246;

/// Why an INTRODUCE1 or INTRODUCE2 message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IntroduceError {
    /// It ends too early, or has nothing encrypted.
    #[error("INTRODUCE: {0}")]
    Truncated(#[from] Truncated),
    /// Of version 2, which is gone.
    #[error("INTRODUCE with a legacy key")]
    Legacy,
    /// The key is none that we know.
    #[error("INTRODUCE: {0}")]
    AuthKey(#[from] AuthKeyError),
    /// The keys are not the sender's, or something was changed.
    #[error("INTRODUCE with a wrong MAC")]
    Mac,
}

/// The body of an INTRODUCE1 or INTRODUCE2 message, as the introduction point sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Introduce<'a> {
    /// Which of its services the point shall pass it to.
    pub auth_key: PublicKey,
    /// What only the service reads; never empty.
    pub encrypted: &'a [u8],
    whole: &'a [u8],
}

impl<'a> Introduce<'a> {
    /// Reads the data of an INTRODUCE1 or INTRODUCE2 message.
    pub fn read(data: &'a [u8]) -> Result<Self, IntroduceError> {
        let mut r = Reader::new(data);
        if r.array()? != LEGACY_KEY_ID {
            return Err(IntroduceError::Legacy);
        }
        let auth_key = auth_key::read(&mut r)?;
        Extensions::read(&mut r)?;
        let encrypted = r.rest();
        if encrypted.is_empty() {
            return Err(Truncated.into());
        }
        Ok(Introduce {
            auth_key,
            encrypted,
            whole: data,
        })
    }

    /// The visitor's key `X`, for [`cepa_crypto::hs_ntor::service_intro_keys`].
    pub fn client_key(&self) -> Result<curve25519::PublicKey, Truncated> {
        let (key, rest) = self.encrypted.split_first_chunk().ok_or(Truncated)?;
        if rest.len() < MAC_LEN {
            return Err(Truncated);
        }
        Ok((*key).into())
    }

    /// Checks the MAC and decrypts: the bytes for [`IntroPlaintext::read`].
    pub fn open(&self, keys: &IntroKeys) -> Result<Zeroizing<Vec<u8>>, IntroduceError> {
        let (authenticated, mac) = self.whole.split_last_chunk::<MAC_LEN>().ok_or(Truncated)?;
        let ciphertext = self
            .encrypted
            .get(CLIENT_KEY_LEN..self.encrypted.len().saturating_sub(MAC_LEN))
            .ok_or(Truncated)?;
        if !ct_eq(&keys.mac(authenticated), mac) {
            return Err(IntroduceError::Mac);
        }
        let mut plaintext = Zeroizing::new(ciphertext.to_vec());
        keys.crypt(&mut plaintext);
        Ok(plaintext)
    }

    /// The data of an INTRODUCE1 message, padded as C tor does. `client_key` is
    /// [`cepa_crypto::hs_ntor::ClientState::public`]. [`TooLong`] if it does not fit a cell.
    pub fn make(
        auth_key: &PublicKey,
        client_key: &curve25519::PublicKey,
        keys: &IntroKeys,
        plaintext: &IntroPlaintext,
    ) -> Result<Vec<u8>, TooLong> {
        let mut clear = Zeroizing::new(Vec::with_capacity(RELAY_DATA_MAX));
        plaintext.write(&mut clear)?;
        let padded_len = clear.len().max(PADDED_LEN - HEAD_LEN);
        clear.resize(padded_len, 0);
        keys.crypt(&mut clear);
        let mut out = Vec::with_capacity(RELAY_DATA_MAX);
        let mut w = Writer::new(&mut out);
        w.bytes(&LEGACY_KEY_ID);
        auth_key::write(auth_key, &mut w);
        w.u8(0);
        w.bytes(client_key.as_bytes());
        w.bytes(&clear);
        let mac = keys.mac(&out);
        out.extend_from_slice(&mac);
        if out.len() > RELAY_DATA_MAX {
            return Err(TooLong);
        }
        Ok(out)
    }
}

codes! {
    /// What became of an INTRODUCE1 (rend-spec-v3 3.2.2).
    pub struct IntroduceStatus(u16) {
        SUCCESS = 0,
        UNKNOWN_ID = 1,
        BAD_FORMAT = 2,
        CANT_RELAY = 3,
    }
}

/// The body of an INTRODUCE_ACK message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntroduceAck {
    /// Whether the service was told.
    pub status: IntroduceStatus,
}

impl IntroduceAck {
    /// Reads the data of an INTRODUCE_ACK message.
    pub fn read(data: &[u8]) -> Result<Self, Truncated> {
        let mut r = Reader::new(data);
        let status = IntroduceStatus(r.u16()?);
        Extensions::read(&mut r)?;
        Ok(IntroduceAck { status })
    }

    /// Appends the data of an INTRODUCE_ACK message.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        w.u16(self.status.0);
        w.u8(0);
    }
}
