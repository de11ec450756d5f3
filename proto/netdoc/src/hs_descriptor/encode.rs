//! Writing a descriptor: three layers from the innermost out (rend-spec-v3 2.4, 2.5).
//!
//! The text is as `tor` writes it, to the byte where nothing is random: the middle layer has no
//! newline at its end, the document has one.

use std::time::SystemTime;

use cepa_crypto::ed25519::{ExpandedKeypair, Keypair, PublicKey};
use cepa_crypto::{Rng, curve25519, encoding, hs_layer, onion};
use cepa_wire::cert::{Cert, CertKeyType, CertType};

use super::middle::{self, LayerKeys};
use super::{
    HS_CERT_LIFETIME, HS_DESCRIPTOR_LEN_MAX, HsEncodeError, HsPlaintext, MESSAGE, PADDING_MULTIPLE,
    SIGNATURE_PREFIX,
};
use crate::pem;

/// All that a descriptor is made of.
#[derive(Clone, Copy, Debug)]
pub struct HsDescriptorBuilder<'a> {
    /// The service's identity: its address.
    pub identity: &'a PublicKey,
    /// The identity, blinded for the period of the descriptor.
    pub blinded: &'a ExpandedKeypair,
    /// The short-term key of this service and period.
    pub signing: &'a Keypair,
    /// Higher than that of every descriptor of this blinded key before.
    pub revision: u64,
    /// How long directories keep it, in minutes: [`super::HS_DESCRIPTOR_LIFETIME_MINUTES`].
    pub lifetime_minutes: u16,
    /// What the descriptor tells visitors, in its inner layer.
    pub plaintext: &'a HsPlaintext,
    /// Who may visit; everybody who knows the address if it is empty.
    pub clients: &'a [curve25519::PublicKey],
}

impl HsDescriptorBuilder<'_> {
    /// The document. Certificates are valid for [`HS_CERT_LIFETIME`]; salts, cookie and the keys
    /// for clients are new in each call.
    pub fn encode(&self, now: SystemTime, rng: &mut Rng) -> Result<String, HsEncodeError> {
        let inner = self.plaintext.encode(self.signing, now)?;
        self.around(&inner, now, rng)
    }

    /// The document around an inner layer.
    pub(super) fn around(
        &self,
        inner: &str,
        now: SystemTime,
        rng: &mut Rng,
    ) -> Result<String, HsEncodeError> {
        let blinded = self.blinded.public();
        let subcredential = onion::subcredential(self.identity, &blinded);
        let keys = LayerKeys {
            blinded: blinded.as_bytes(),
            subcredential: &subcredential,
            revision: self.revision,
        };
        let mut padded = middle::encode(inner, keys, self.clients, rng).into_bytes();
        padded.resize(padded.len().next_multiple_of(PADDING_MULTIPLE), 0);
        let superencrypted = hs_layer::encrypt(
            keys.blinded,
            keys.subcredential,
            keys.revision,
            hs_layer::SUPERENCRYPTED,
            &padded,
            rng,
        );
        let cert = Cert::make_expanded(
            CertType::HS_BLINDED_SIGNING,
            now + HS_CERT_LIFETIME,
            CertKeyType::ED25519,
            self.signing.public().as_bytes(),
            self.blinded,
            true,
        );
        let mut text = format!(
            "hs-descriptor 3\ndescriptor-lifetime {}\ndescriptor-signing-key-cert\n{}\
             revision-counter {}\nsuperencrypted\n{}",
            self.lifetime_minutes,
            pem::encode(pem::ED25519_CERT, &cert),
            self.revision,
            pem::encode(MESSAGE, &superencrypted),
        );
        let signature = self
            .signing
            .sign(&[SIGNATURE_PREFIX, text.as_bytes()].concat());
        text.push_str("signature ");
        text.push_str(&encoding::base64_unpadded(&signature));
        text.push('\n');
        if text.len() >= HS_DESCRIPTOR_LEN_MAX {
            return Err(HsEncodeError::TooLong);
        }
        Ok(text)
    }
}
