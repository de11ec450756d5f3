//! The outer layer: what a directory sees and checks (rend-spec-v3 2.4).
//!
//! The certificate carries both keys: it is signed by the blinded key, and certifies the
//! short-term key that has signed the document. Whether the blinded key is the one that was
//! asked for is checked where the address is known ([`HsDescriptor::decrypt`]).

use std::time::SystemTime;

use cepa_crypto::ed25519::PublicKey;
use cepa_crypto::encoding::base64_array;
use cepa_crypto::onion::{self, TimePeriod};
use cepa_crypto::{curve25519, hs_layer};
use cepa_wire::cert::{CertType, UnverifiedCert};

use super::middle::{LayerKeys, Middle};
use super::{
    HS_DESCRIPTOR_LEN_MAX, HS_DESCRIPTOR_LIFETIME_MINUTES_MAX, HsDecryptError, HsDescriptorError,
    HsPlaintext, LIMITS, MESSAGE, SIGNATURE_PREFIX, inner, layer_text,
};
use crate::item::{Item, Section};
use crate::pem;

/// A descriptor whose certificate and signature have been verified, still encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HsDescriptor {
    /// How long a directory keeps it, in minutes; 0 to [`HS_DESCRIPTOR_LIFETIME_MINUTES_MAX`].
    pub lifetime_minutes: u16,
    /// The service's key of the period: the name by which it is asked for.
    pub blinded_key: PublicKey,
    /// The short-term key that has signed.
    pub signing_key: PublicKey,
    /// The moment after which the signing key's certificate is not valid.
    pub expires: SystemTime,
    /// The revision counter: of two descriptors of a key the one with the higher is kept.
    pub revision: u64,
    /// The middle layer, encrypted.
    pub superencrypted: Vec<u8>,
}

impl HsDescriptor {
    /// Reads a descriptor, and checks certificate and signature.
    pub fn parse(text: &str, now: SystemTime) -> Result<Self, HsDescriptorError> {
        let section = Section::parse(text, LIMITS)?;
        let version = section.required_at(0, "hs-descriptor")?;
        if version.arg(0)? != "3" {
            return Err(HsDescriptorError::Version);
        }
        let lifetime_minutes = section.required("descriptor-lifetime")?.arg_as(0)?;
        if lifetime_minutes > HS_DESCRIPTOR_LIFETIME_MINUTES_MAX {
            return Err(HsDescriptorError::Lifetime(lifetime_minutes));
        }
        let revision = section.required("revision-counter")?.arg_as(0)?;
        let superencrypted = section
            .required("superencrypted")?
            .object_bytes(MESSAGE, HS_DESCRIPTOR_LEN_MAX)?;
        let signature = section.required_from_end(0, "signature")?;

        let item = section.required("descriptor-signing-key-cert")?;
        let cert = UnverifiedCert::parse(&pem::ed25519_cert(item, pem::ED25519_CERT)?)?;
        let cert = cert.expecting(CertType::HS_BLINDED_SIGNING)?;
        let blinded_key = PublicKey::from(cert.signer(None)?);
        let cert = cert.check(now, None)?;
        let signing_key = PublicKey::from(cert.ed25519_key());
        check_signature(text, signature, &signing_key)?;
        Ok(Self {
            lifetime_minutes,
            blinded_key,
            signing_key,
            expires: cert.expires(),
            revision,
            superencrypted,
        })
    }

    /// Reads the inner layers with the service's address, the period that was asked for, and the
    /// visitor's key if it has one for this service. A key that is not needed does no harm.
    pub fn decrypt(
        &self,
        identity: &PublicKey,
        period: TimePeriod,
        client_key: Option<&curve25519::SecretKey>,
        now: SystemTime,
    ) -> Result<HsPlaintext, HsDecryptError> {
        // Without this, whoever knows the address could write a descriptor of it.
        if onion::blind(identity, period) != Some(self.blinded_key) {
            return Err(HsDecryptError::OtherKey);
        }
        let subcredential = onion::subcredential(identity, &self.blinded_key);
        let keys = LayerKeys {
            blinded: self.blinded_key.as_bytes(),
            subcredential: &subcredential,
            revision: self.revision,
        };
        let middle = hs_layer::decrypt(
            keys.blinded,
            keys.subcredential,
            keys.revision,
            hs_layer::SUPERENCRYPTED,
            &self.superencrypted,
        );
        let middle = middle.and_then(layer_text).ok_or(HsDecryptError::Middle)?;
        let inner = Middle::parse(&middle)?.decrypt(keys, client_key)?;
        inner::parse(&inner, &self.signing_key, now)
    }
}

/// Checks the signature: of all before the line that holds it.
fn check_signature(
    text: &str,
    item: &Item<'_>,
    signing_key: &PublicKey,
) -> Result<(), HsDescriptorError> {
    let bad = HsDescriptorError::Signature;
    let signature: [u8; 64] = base64_array(item.arg(0)?).ok_or(bad.clone())?;
    let signed = text.get(..item.start).unwrap_or_default();
    let signed = [SIGNATURE_PREFIX, signed.as_bytes()].concat();
    signing_key.verify(&signed, &signature).map_err(|_| bad)
}
