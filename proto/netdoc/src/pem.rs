//! Objects that are RSA keys and signatures (dir-spec.txt sections 1.2, 1.3 and 2.1.1).
//!
//! Keys are PKCS#1 DER with the exponent 65537, but for the identities of relays, which `tor` takes
//! with any; the keys of relays have exactly 1024 bits.
//! Signatures are at most as long as the largest key that we read.

use cepa_crypto::encoding;
use cepa_crypto::rsa;

use crate::item::{Item, ItemError};

/// The tag of RSA public keys.
pub const RSA_PUBLIC_KEY: &str = "RSA PUBLIC KEY";
/// The tag of signatures.
pub const SIGNATURE: &str = "SIGNATURE";
/// The tag of Ed25519 certificates.
pub const ED25519_CERT: &str = "ED25519 CERT";

/// Bits of the identity and onion keys of relays.
pub const RELAY_KEY_BITS: usize = 1024;
/// Longest DER of a key: 4096 bits and their framing.
const KEY_LEN_MAX: usize = 600;
/// Longest signature: that of a key of 4096 bits.
const SIGNATURE_LEN_MAX: usize = 512;
/// Longest Ed25519 certificate: one with a few extensions more than there are today.
const CERT_LEN_MAX: usize = 1024;

/// The RSA key of an item.
pub fn rsa_key(item: &Item<'_>) -> Result<rsa::PublicKey, ItemError> {
    key_if(item, rsa::PublicKey::has_tor_exponent)
}

/// The RSA key of an item that must be the identity of a relay.
pub fn relay_identity(item: &Item<'_>) -> Result<rsa::PublicKey, ItemError> {
    key_if(item, |key| key.bits() == RELAY_KEY_BITS)
}

/// The RSA key of an item that must be the TAP key of a relay.
pub fn relay_tap_key(item: &Item<'_>) -> Result<rsa::PublicKey, ItemError> {
    key_if(item, |key| {
        key.bits() == RELAY_KEY_BITS && key.has_tor_exponent()
    })
}

fn key_if(
    item: &Item<'_>,
    is_wanted: impl Fn(&rsa::PublicKey) -> bool,
) -> Result<rsa::PublicKey, ItemError> {
    let der = item.object_bytes(RSA_PUBLIC_KEY, KEY_LEN_MAX)?;
    let key = rsa::PublicKey::from_der(&der).ok().filter(is_wanted);
    key.ok_or_else(|| ItemError::WrongObject(item.keyword.to_owned()))
}

/// The RSA signature of an item, under the tag `SIGNATURE`.
pub fn signature(item: &Item<'_>) -> Result<Vec<u8>, ItemError> {
    item.object_bytes(SIGNATURE, SIGNATURE_LEN_MAX)
}

/// The bytes of an item's object that is a certificate of Ed25519.
pub fn ed25519_cert(item: &Item<'_>, tag: &str) -> Result<Vec<u8>, ItemError> {
    item.object_bytes(tag, CERT_LEN_MAX)
}

/// Writes an object, its lines each ended by a newline.
pub fn encode(tag: &str, bytes: &[u8]) -> String {
    encoding::pem_encode(tag, bytes)
}
