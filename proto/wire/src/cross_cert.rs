//! The RSA to Ed25519 cross-certificate, type 7 (cert-spec 2.3).
//!
//! ```text
//! ed25519 key 32 | expiration 4 (hours since 1970) | length 1 | RSA signature (length)
//! ```
//!
//! Signed is SHA-256 over a prefix and all before the length, PKCS#1 v1.5 without DigestInfo. The
//! one-byte length makes the RSA key one of 1024 bits in effect. As with `cert`, what is certified
//! is out of reach until it has been checked.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cepa_crypto::digest::sha256;
use cepa_crypto::{Ed25519Id, rsa};

use crate::cert::hours_rounded_up;
use crate::reader::{Reader, Truncated};
use crate::writer::{TooLong, Writer};

const PREFIX: &[u8] = b"Tor TLS RSA/Ed25519 cross-certificate";
/// Bytes that the signature covers, besides the prefix.
const SIGNED_LEN: usize = 36;

/// Why a cross-certificate is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CrossCertError {
    /// It ends too early.
    #[error("cross-certificate: {0}")]
    Truncated(#[from] Truncated),
    /// Bytes after the signature.
    #[error("cross-certificate with trailing bytes")]
    Trailing,
    /// The expiration has passed.
    #[error("cross-certificate has expired")]
    Expired,
    /// The signature is wrong.
    #[error("cross-certificate with a wrong signature")]
    Signature,
}

/// What a valid cross-certificate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrossCert {
    /// The Ed25519 identity that acts with the authority of the RSA identity.
    pub ed25519: Ed25519Id,
    /// The last hour, counted from 1970, that it lives to see begin.
    pub expires_hours: u32,
}

impl CrossCert {
    /// Makes a cross-certificate; `expires` is rounded up to the hour. [`TooLong`] if the RSA key
    /// has more than 2040 bits.
    pub fn make(
        ed25519: &Ed25519Id,
        expires: SystemTime,
        signing: &rsa::Keypair,
    ) -> Result<Vec<u8>, TooLong> {
        let mut out = Vec::with_capacity(SIGNED_LEN + 129);
        let mut w = Writer::new(&mut out);
        w.bytes(ed25519.as_bytes());
        w.u32(hours_rounded_up(expires));
        let signature = signing.sign_digest(&signed_digest(&out));
        Writer::new(&mut out).u8_prefixed(&signature)?;
        Ok(out)
    }
}

/// A well-formed cross-certificate whose signature and expiration have not been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnverifiedCrossCert<'a> {
    cert: CrossCert,
    signed: &'a [u8],
    signature: &'a [u8],
}

impl<'a> UnverifiedCrossCert<'a> {
    /// Parses a certificate of type 7.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, CrossCertError> {
        let mut r = Reader::new(bytes);
        let signed = r.take(SIGNED_LEN)?;
        let mut fields = Reader::new(signed);
        let ed25519 = Ed25519Id::from(fields.array::<32>()?);
        let expires_hours = fields.u32()?;
        let len = r.u8()?;
        let signature = r.take(len.into())?;
        if !r.is_empty() {
            return Err(CrossCertError::Trailing);
        }
        let cert = CrossCert {
            ed25519,
            expires_hours,
        };
        Ok(UnverifiedCrossCert {
            cert,
            signed,
            signature,
        })
    }

    /// Checks expiration and signature.
    pub fn check(
        &self,
        now: SystemTime,
        signing: &rsa::PublicKey,
    ) -> Result<CrossCert, CrossCertError> {
        let expires = Duration::from_secs(u64::from(self.cert.expires_hours) * 3600);
        if now > UNIX_EPOCH + expires {
            return Err(CrossCertError::Expired);
        }
        let verified = signing.verify_digest(&signed_digest(self.signed), self.signature);
        verified.map_err(|_| CrossCertError::Signature)?;
        Ok(self.cert)
    }
}

fn signed_digest(signed: &[u8]) -> [u8; 32] {
    sha256(&[PREFIX, signed].concat())
}
