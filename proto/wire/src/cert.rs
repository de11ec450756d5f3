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
    /// The certificate ends too early.
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
    /// Nothing in the certificate says who signed it.
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
    /// What the certificate is for.
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

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    // From a CERTS cell of a C tor 0.4.5 test network (as published with Arti).
    const ID: [u8; 32] = hex!("DCB604DB2034B00FD16986D4ADB9D16B21CB4E4457A33DEC0F538903683E96E9");
    const SIGNING: [u8; 32] =
        hex!("F82294B866A31F01FC5D0DA8572850A9B929545C3266558D7D2316E3B74172B0");
    const ID_SIGNING_CERT: &[u8] = &hex!(
        "01 04 0006CC2A 01 F82294B866A31F01FC5D0DA8572850A9B929545C3266558D7D2316E3B74172B0"
        "01 0020 04 00 DCB604DB2034B00FD16986D4ADB9D16B21CB4E4457A33DEC0F538903683E96E9"
        "FF1A5203FA27F86EF7528D89A0845D2520166E340754FFEA2AAE0F612B7CE5DA"
        "094A0236CDAC45034B0B6842C18E7F6B51B93A3CF7E60663B8AD061C30A62602"
    );
    const SIGNING_TLS_CERT: &[u8] = &hex!(
        "01 05 0006C98A 03 B4FD606B64E4CBD466B8D76CB131069BAE6F3AA1878857C9F624E31D77A799B8 00"
        "7173E5F8068431D0D3F5EE16B4C9FFD59DF373E152A87281BAE744AA5FCF7217"
        "1BF4B27C4E8FC1C6A9FC5CA11058BC49647063D7903CFD9F512F89099B27BC0C"
    );

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn captured_chain() {
        let now = at(1_601_000_000);
        let parsed = UnverifiedCert::parse(ID_SIGNING_CERT).unwrap();
        let cert = parsed
            .expecting(CertType::ID_SIGNING)
            .unwrap()
            .check(now, None)
            .unwrap();
        assert_eq!(cert.signing_key, Some(ID.into()));
        assert_eq!(cert.ed25519_key(), SIGNING.into());
        assert_eq!(
            (cert.key_type, cert.expires_hours),
            (CertKeyType::ED25519, 0x6CC2A)
        );

        let parsed = UnverifiedCert::parse(SIGNING_TLS_CERT).unwrap();
        assert_eq!(
            parsed.clone().check(now, None),
            Err(CertError::NoSigningKey)
        );
        assert_eq!(
            parsed.clone().check(now, Some(ID.into())),
            Err(CertError::Signature)
        );
        let cert = parsed.check(now, Some(SIGNING.into())).unwrap();
        assert_eq!(cert.cert_type, CertType::SIGNING_TLS);
        assert_eq!(
            (cert.key_type, cert.key[0]),
            (CertKeyType::X509_SHA256, 0xB4)
        );
    }

    #[test]
    fn refusals() {
        let parsed = || UnverifiedCert::parse(ID_SIGNING_CERT).unwrap();
        let expires = parsed().unchecked().expires();
        assert!(parsed().check(expires, Some(ID.into())).is_ok());
        let late = expires + Duration::from_secs(1);
        assert_eq!(parsed().check(late, None), Err(CertError::Expired));
        let other = Some(SIGNING.into());
        assert_eq!(
            parsed().check(at(0), other),
            Err(CertError::OtherSigningKey)
        );
        let error = Err(CertError::Type(CertType::ID_SIGNING));
        assert_eq!(parsed().expecting(CertType::SIGNING_TLS), error);
        let long = [ID_SIGNING_CERT, &[0]].concat();
        assert_eq!(UnverifiedCert::parse(&long), Err(CertError::Trailing));
        for len in 0..ID_SIGNING_CERT.len() {
            assert!(UnverifiedCert::parse(&ID_SIGNING_CERT[..len]).is_err());
        }
    }

    #[test]
    fn extensions() {
        let with = |extensions: &[u8]| {
            let signature = [0; SIGNATURE_LEN];
            UnverifiedCert::parse(&[&ID_SIGNING_CERT[..39], extensions, &signature].concat())
        };
        assert_eq!(
            with(&[1, 0, 1, 9, 1, 0]),
            Err(CertError::UnknownExtension(9))
        );
        assert_eq!(
            with(&[1, 0, 1, 9, 2, 0]).unwrap().unchecked().signing_key,
            None
        );
        assert_eq!(
            with(&[1, 0, 1, 4, 0, 0]),
            Err(CertError::SigningKeyExtension)
        );
        let key = [&[0, 32, 4, 1][..], &[7; 32]].concat();
        let named = with(&[&[1], &key[..]].concat()).unwrap();
        assert_eq!(named.unchecked().signing_key, Some([7; 32].into()));
        let twice = with(&[&[2], &key[..], &key].concat());
        assert_eq!(twice, Err(CertError::SigningKeyExtension));
        let error = Err(CertError::Version(3));
        assert_eq!(UnverifiedCert::parse(&[3]), error);
    }

    #[test]
    fn hours_are_rounded_up() {
        assert_eq!(hours_rounded_up(at(0)), 0);
        assert_eq!(hours_rounded_up(at(1)), 1);
        assert_eq!(hours_rounded_up(at(7200)), 2);
        assert_eq!(hours_rounded_up(at(u64::from(u32::MAX) * 3601)), u32::MAX);
    }

    proptest! {
        #[test]
        fn made_is_valid(
            seed: [u8; 32], key: [u8; 32], kind in 4_u8.., hours: u32, include: bool, bit: usize,
        ) {
            let signing = Keypair::from_seed(&seed);
            let expires = at(u64::from(hours) * 3600);
            let kind = CertType(kind);
            let key_type = CertKeyType::ED25519;
            let bytes = Cert::make(kind, expires, key_type, &key, &signing, include);
            let expanded = signing.expand();
            let same = Cert::make_expanded(kind, expires, key_type, &key, &expanded, include);
            prop_assert_eq!(&bytes, &same);
            let id = signing.public().id();
            let cert = UnverifiedCert::parse(&bytes).unwrap().check(expires, Some(id)).unwrap();
            prop_assert_eq!((cert.cert_type, cert.key, cert.expires()), (kind, key, expires));
            prop_assert_eq!(cert.signing_key, include.then_some(id));

            let mut forged = bytes.clone();
            forged[bit / 8 % bytes.len()] ^= 1 << (bit % 8);
            let checked = UnverifiedCert::parse(&forged).and_then(|c| c.check(at(0), Some(id)));
            prop_assert!(checked.is_err());
        }

        #[test]
        fn any_bytes_are_read_without_panic(tail in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = UnverifiedCert::parse(&tail);
            let _ = UnverifiedCert::parse(&[&ID_SIGNING_CERT[..39], &tail].concat());
        }
    }
}
