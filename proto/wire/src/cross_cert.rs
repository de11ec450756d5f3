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
    /// The certificate ends too early.
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

#[cfg(test)]
mod tests {
    use super::*;
    use cepa_crypto::Rng;
    use hex_literal::hex;

    // From a CERTS cell of a C tor 0.4.5 test network (as published with Arti).
    const RSA: &[u8] = &hex!(
        "30818902818100d38b1e6ceb946e0db0751f4cbace3dcb9688b6c25304227b4710c35afb73627e50500f5913e1"
        "58b621802612d1c75827003703338375237552eb3cd3c12f6ab3604e60c1a2d26bb1fbad206ff023969a90909d"
        "6a65a5458a5312c26ebd3a3dad30302d4515cdcd264146ac18e6fc60a04bd3ec327f04294d96ba5aa25b464c3f"
        "0203010001"
    );
    const CERT: &[u8] = &hex!(
        "DCB604DB2034B00FD16986D4ADB9D16B21CB4E4457A33DEC0F538903683E96E9 0006DA3A 80"
        "5CF6006F9179066534DE6B45AD47A5C469063EE462762723396DC9F25452A0A5"
        "2DA3F5087DD239F2A311F6B0D4DFEFF4ABD089DC3D0237A0ABAB19EB2045B91C"
        "DCAF04BE0A72D548A27BF2E77BD876ECFE5E1BE622350DA6BF31F6E306ED8964"
        "88DD5B39409B23FC3EB7B2C9F7328EB18DA36D54D80575899EA6507CCBFCDF1F"
    );

    #[test]
    fn captured() {
        let now = UNIX_EPOCH + Duration::from_secs(1_601_000_000);
        let key = rsa::PublicKey::from_der(RSA).unwrap();
        let parsed = UnverifiedCrossCert::parse(CERT).unwrap();
        let cert = parsed.check(now, &key).unwrap();
        assert_eq!(cert.ed25519.as_bytes(), &CERT[..32]);
        let late = UNIX_EPOCH + Duration::from_secs(u64::from(cert.expires_hours) * 3600 + 1);
        assert_eq!(parsed.check(late, &key), Err(CrossCertError::Expired));

        let mut forged = CERT.to_vec();
        forged[0] ^= 1;
        let parsed = UnverifiedCrossCert::parse(&forged).unwrap();
        assert_eq!(parsed.check(now, &key), Err(CrossCertError::Signature));
        for len in 0..CERT.len() {
            assert_eq!(
                UnverifiedCrossCert::parse(&CERT[..len]),
                Err(Truncated.into())
            );
        }
        forged.push(0);
        assert_eq!(
            UnverifiedCrossCert::parse(&forged),
            Err(CrossCertError::Trailing)
        );
    }

    #[test]
    fn made_is_valid() {
        let mut rng = Rng::from_seed([1; 32]);
        let key = rsa::Keypair::generate(1024, &mut rng).unwrap();
        let expires = UNIX_EPOCH + Duration::from_secs(3600 * 500_000);
        let id = Ed25519Id::from([7; 32]);
        let bytes = CrossCert::make(&id, expires, &key).unwrap();
        let cert = UnverifiedCrossCert::parse(&bytes)
            .unwrap()
            .check(expires, key.public());
        assert_eq!(
            cert,
            Ok(CrossCert {
                ed25519: id,
                expires_hours: 500_000
            })
        );
    }
}
