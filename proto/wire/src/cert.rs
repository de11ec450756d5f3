//! Ed25519 certificates (cert-spec 2.1, 2.2).
//!
//! ```text
//! version 1 (1) | type 1 | expiration 4 (hours since 1970) | key type 1 | key 32 | count 1 |
//! (length 2 | type 1 | flags 1 | data (length)) (count) | signature 64
//!
//! bytes --parse--> UnverifiedCert --check--> Cert
//! ```
//!
//! The fields of a certificate are out of reach until signature and expiration have been checked.
//! An unknown extension is ignored unless it says that it affects validation.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cepa_crypto::Ed25519Id;
use cepa_crypto::ed25519::{ExpandedKeypair, Keypair, PublicKey};

use crate::codes::codes;
use crate::reader::{Reader, Truncated};
use crate::time::unix_seconds;
use crate::writer::Writer;

const VERSION: u8 = 1;
const SIGNATURE_LEN: usize = 64;
/// The extension that names the signing key (cert-spec 2.2.1).
const EXTENSION_SIGNING_KEY: u8 = 4;
/// The flag of an extension that must be understood (AFFECTS_VALIDATION).
const FLAG_AFFECTS_VALIDATION: u8 = 1;
const SECONDS_IN_HOUR: u64 = 3600;

codes! {
    /// What a certificate is for (cert-spec A.1, and proposal 321 for 0x0C).
    pub struct CertType(u8) {
        TLS_LINK = 0x01,
        RSA_ID = 0x02,
        RSA_LINK_AUTH = 0x03,
        ID_SIGNING = 0x04,
        SIGNING_TLS = 0x05,
        SIGNING_LINK_AUTH = 0x06,
        RSA_ID_CROSS = 0x07,
        HS_BLINDED_SIGNING = 0x08,
        HS_INTRO_AUTH = 0x09,
        NTOR_CROSS = 0x0A,
        HS_INTRO_ENC = 0x0B,
        FAMILY_ID = 0x0C,
    }
}

codes! {
    /// What the certified key is (cert-spec A.4).
    pub struct CertKeyType(u8) {
        ED25519 = 1,
        RSA_SHA256 = 2,
        X509_SHA256 = 3,
    }
}

/// Why a certificate is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    /// It ends too early.
    #[error("certificate: {0}")]
    Truncated(#[from] Truncated),
    /// A version other than 1.
    #[error("certificate of version {0}")]
    Version(u8),
    /// Bytes after the signature.
    #[error("certificate with trailing bytes")]
    Trailing,
    /// The signing-key extension has a wrong length or stands there twice.
    #[error("certificate with a malformed signing-key extension")]
    SigningKeyExtension,
    /// An unknown extension that must be understood.
    #[error("certificate with extension {0}, which affects validation and is unknown")]
    UnknownExtension(u8),
    /// Not of the type that its place asks for.
    #[error("certificate of type {0}")]
    Type(CertType),
    /// Nothing says who signed it.
    #[error("certificate without a signing key")]
    NoSigningKey,
    /// It names another signing key than it must be signed by.
    #[error("certificate of another signing key")]
    OtherSigningKey,
    /// The expiration has passed.
    #[error("certificate has expired")]
    Expired,
    /// The signature is wrong.
    #[error("certificate with a wrong signature")]
    Signature,
}

/// What a valid certificate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cert {
    /// What it is for.
    pub cert_type: CertType,
    /// The last hour, counted from 1970, that it lives to see begin.
    pub expires_hours: u32,
    /// What `key` is; may be 1 for any key, which old peers wrote (cert-spec A.4).
    pub key_type: CertKeyType,
    /// The certified key, or a digest of it.
    pub key: [u8; 32],
    /// The key that signed, when the certificate names it.
    pub signing_key: Option<Ed25519Id>,
}

impl Cert {
    /// Makes a certificate. `expires` is rounded up to the hour; `include_signing_key` names the
    /// signer in an extension, with no flag set, as C tor does.
    #[must_use]
    pub fn make(
        cert_type: CertType,
        expires: SystemTime,
        key_type: CertKeyType,
        key: &[u8; 32],
        signing: &Keypair,
        include_signing_key: bool,
    ) -> Vec<u8> {
        let signing_key = include_signing_key.then(|| signing.public().id());
        let expires_hours = hours_rounded_up(expires);
        Cert {
            cert_type,
            expires_hours,
            key_type,
            key: *key,
            signing_key,
        }
        .encode(|signed| signing.sign(signed))
    }

    /// As [`Cert::make`], with a key that has no seed: blinded, or of an ntor onion key.
    #[must_use]
    pub fn make_expanded(
        cert_type: CertType,
        expires: SystemTime,
        key_type: CertKeyType,
        key: &[u8; 32],
        signing: &ExpandedKeypair,
        include_signing_key: bool,
    ) -> Vec<u8> {
        let signing_key = include_signing_key.then(|| signing.public().id());
        let expires_hours = hours_rounded_up(expires);
        Cert {
            cert_type,
            expires_hours,
            key_type,
            key: *key,
            signing_key,
        }
        .encode(|signed| signing.sign(signed))
    }

    /// The certified key as an Ed25519 identity.
    #[must_use]
    pub fn ed25519_key(&self) -> Ed25519Id {
        Ed25519Id::from(self.key)
    }

    /// The moment after which it is not valid.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(u64::from(self.expires_hours) * SECONDS_IN_HOUR)
    }

    /// The bytes, signed by `sign`.
    fn encode(&self, sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE_LEN]) -> Vec<u8> {
        let mut out = Vec::with_capacity(140);
        let mut w = Writer::new(&mut out);
        w.u8(VERSION);
        w.u8(self.cert_type.0);
        w.u32(self.expires_hours);
        w.u8(self.key_type.0);
        w.bytes(&self.key);
        match self.signing_key {
            None => w.u8(0),
            Some(signing_key) => {
                w.u8(1);
                w.u16(32);
                w.bytes(&[EXTENSION_SIGNING_KEY, 0]);
                w.bytes(signing_key.as_bytes());
            }
        }
        let signature = sign(&out);
        out.extend_from_slice(&signature);
        out
    }
}

/// A well-formed certificate whose signature and expiration have not been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedCert {
    cert: Cert,
    signed: Vec<u8>,
    signature: [u8; SIGNATURE_LEN],
}

impl UnverifiedCert {
    /// Parses a certificate of any type but 7 (see `cross_cert`).
    pub fn parse(bytes: &[u8]) -> Result<Self, CertError> {
        let mut r = Reader::new(bytes);
        let version = r.u8()?;
        if version != VERSION {
            return Err(CertError::Version(version));
        }
        let cert_type = CertType(r.u8()?);
        let expires_hours = r.u32()?;
        let key_type = CertKeyType(r.u8()?);
        let key = r.array()?;
        let mut signing_key = None;
        for _ in 0..r.u8()? {
            let named = read_extension(&mut r)?;
            if named.is_some() && signing_key.is_some() {
                return Err(CertError::SigningKeyExtension);
            }
            signing_key = signing_key.or(named);
        }
        let signature = r.array()?;
        if !r.is_empty() {
            return Err(CertError::Trailing);
        }
        let signed = bytes
            .get(..bytes.len() - SIGNATURE_LEN)
            .unwrap_or_default()
            .to_vec();
        let cert = Cert {
            cert_type,
            expires_hours,
            key_type,
            key,
            signing_key,
        };
        Ok(UnverifiedCert {
            cert,
            signed,
            signature,
        })
    }

    /// Refuses a certificate that is not of this type.
    pub fn expecting(self, cert_type: CertType) -> Result<Self, CertError> {
        if self.cert.cert_type == cert_type {
            Ok(self)
        } else {
            Err(CertError::Type(self.cert.cert_type))
        }
    }

    /// Checks expiration and signature. `signing_key` is who must have signed; `None` to go by
    /// the key that the certificate names (which is then the caller's to trust or not).
    pub fn check(self, now: SystemTime, signing_key: Option<Ed25519Id>) -> Result<Cert, CertError> {
        let signer = self.signer(signing_key)?;
        if now > self.cert.expires() {
            return Err(CertError::Expired);
        }
        let verified = PublicKey::from(signer).verify(&self.signed, &self.signature);
        verified.map_err(|_| CertError::Signature)?;
        Ok(self.cert)
    }

    /// Who must have signed: `signing_key`, which must not contradict the one that is named.
    pub fn signer(&self, signing_key: Option<Ed25519Id>) -> Result<Ed25519Id, CertError> {
        match (signing_key, self.cert.signing_key) {
            (Some(expected), Some(named)) if expected != named => Err(CertError::OtherSigningKey),
            (Some(key), _) | (None, Some(key)) => Ok(key),
            (None, None) => Err(CertError::NoSigningKey),
        }
    }

    /// What the certificate claims. Nothing of it has been checked: only for finding the keys that
    /// a check needs, and for batches of signatures.
    #[must_use]
    pub fn unchecked(&self) -> &Cert {
        &self.cert
    }

    /// The bytes that are signed.
    #[must_use]
    pub fn signed(&self) -> &[u8] {
        &self.signed
    }

    /// The signature over [`UnverifiedCert::signed`].
    #[must_use]
    pub fn signature(&self) -> &[u8; SIGNATURE_LEN] {
        &self.signature
    }
}

/// Takes one extension; gives the signing key if that is what it is.
fn read_extension(r: &mut Reader<'_>) -> Result<Option<Ed25519Id>, CertError> {
    let len = r.u16()?;
    let kind = r.u8()?;
    let flags = r.u8()?;
    let data = r.take(len.into())?;
    if kind == EXTENSION_SIGNING_KEY {
        let key = Ed25519Id::from_bytes(data).ok_or(CertError::SigningKeyExtension)?;
        return Ok(Some(key));
    }
    if flags & FLAG_AFFECTS_VALIDATION != 0 {
        return Err(CertError::UnknownExtension(kind));
    }
    Ok(None)
}

/// Whole hours since 1970 that are not before `time`; the last that four bytes hold at most.
pub(crate) fn hours_rounded_up(time: SystemTime) -> u32 {
    u32::try_from(unix_seconds(time).div_ceil(SECONDS_IN_HOUR)).unwrap_or(u32::MAX)
}
