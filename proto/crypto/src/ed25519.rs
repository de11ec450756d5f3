//! Ed25519 keys and signatures (RFC 8032; tor-spec 1.1, cert-spec).
//!
//! Verification is the plain equation with the encoded R compared byte for byte, as C tor's: a
//! public key of small order is not refused (`verify_strict` would), a scalar S that is not
//! reduced is. C tor looks at the top three bits of S only; no honest signer gives such an S.
//! `ExpandedKeypair` is the 64-byte form (scalar, prefix) of tor's key files, which the
//! Curve25519 conversion of dir-spec 2.1.1 and the blinding of onion services make without a seed.

use core::fmt;

use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::montgomery::MontgomeryPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity as _;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

use crate::{Ed25519Id, Rng, curve25519};

/// Bytes of a signature.
pub const SIGNATURE_LEN: usize = 64;

/// Why a signature was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The public key is no point of the curve.
    #[error("the ed25519 public key is not a point")]
    BadKey,
    /// The signature does not belong to the key and the message.
    #[error("the ed25519 signature is wrong")]
    Wrong,
}

/// A public key: any 32 bytes, found to be a point or not when it verifies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key of these 32 bytes; `None` for any other length.
    pub fn from_bytes(bytes: &[u8]) -> Option<PublicKey> {
        bytes.try_into().ok().map(PublicKey)
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The identity of whoever has this key: the same bytes.
    pub fn id(&self) -> Ed25519Id {
        Ed25519Id::from(self.0)
    }

    /// Whether the bytes are a point of the curve.
    pub fn is_point(&self) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok()
    }

    /// Whether the bytes are the canonical form of a point of the large subgroup, other than the
    /// neutral one: what the identity of an onion service must be (rend-spec-v3 2.2.7).
    pub fn is_torsion_free(&self) -> bool {
        let compressed = CompressedEdwardsY(self.0);
        compressed.decompress().is_some_and(|point| {
            point.compress() == compressed && !point.is_identity() && point.is_torsion_free()
        })
    }

    /// The key blinded by a factor (rend-spec-v3 A.2), which is clamped here; `None` if this one
    /// is no point.
    pub(crate) fn blind_by(&self, factor: &[u8; 32]) -> Option<PublicKey> {
        let point = CompressedEdwardsY(self.0).decompress()?;
        Some(PublicKey(point.mul_clamped(*factor).compress().to_bytes()))
    }

    /// Checks a signature of a message.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), SignatureError> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| SignatureError::BadKey)?;
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        ed25519_dalek::Verifier::verify(&key, message, &signature)
            .map_err(|_| SignatureError::Wrong)
    }
}

impl From<[u8; 32]> for PublicKey {
    fn from(bytes: [u8; 32]) -> PublicKey {
        PublicKey(bytes)
    }
}

impl From<Ed25519Id> for PublicKey {
    fn from(id: Ed25519Id) -> PublicKey {
        PublicKey(*id.as_bytes())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.id(), f)
    }
}

/// One signature to check among others.
#[derive(Clone, Copy, Debug)]
pub struct BatchItem<'a> {
    /// The key that is said to have signed.
    pub key: PublicKey,
    /// The message that was signed.
    pub message: &'a [u8],
    /// The signature.
    pub signature: [u8; 64],
}

/// Checks that all signatures are right. They are checked one by one: the batch equation
/// accepts some signatures that the single one refuses, and peers must agree.
pub fn verify_batch(items: &[BatchItem<'_>]) -> Result<(), SignatureError> {
    items
        .iter()
        .try_for_each(|item| item.key.verify(item.message, &item.signature))
}

/// A signing key made from a 32-byte seed.
pub struct Keypair(SigningKey);

impl Keypair {
    /// A fresh key.
    pub fn generate(rng: &mut Rng) -> Keypair {
        Keypair::from_seed(&Zeroizing::new(rng.array()))
    }

    /// The key of a seed (RFC 8032's "secret key").
    pub fn from_seed(seed: &[u8; 32]) -> Keypair {
        Keypair(SigningKey::from_bytes(seed))
    }

    /// Its seed, to be stored.
    pub fn to_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// Its public key.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// The key in its expanded form, as tor's key files have it.
    pub fn expand(&self) -> ExpandedKeypair {
        let mut bytes = Zeroizing::new([0; 64]);
        bytes.copy_from_slice(&Sha512::digest(self.0.as_bytes()));
        let scalar: [u8; 32] = bytes.first_chunk().copied().unwrap_or_default();
        let clamped = Zeroizing::new(curve25519_dalek::scalar::clamp_integer(scalar));
        bytes[..32].copy_from_slice(&*clamped);
        ExpandedKeypair::from_bytes(&bytes)
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keypair of {:?}", self.public())
    }
}

/// A signing key in expanded form: a scalar and the prefix that nonces are hashed with.
pub struct ExpandedKeypair {
    bytes: Zeroizing<[u8; 64]>,
    secret: ExpandedSecretKey,
    public: VerifyingKey,
}

impl ExpandedKeypair {
    /// The key of tor's 64 bytes: scalar (little-endian, used as it is), prefix. The scalar is
    /// not clamped again: a blinded or converted key must stay what it is.
    pub fn from_bytes(bytes: &[u8; 64]) -> ExpandedKeypair {
        let (scalar, prefix) = bytes.split_at(32);
        let mut halves = Zeroizing::new([[0; 32]; 2]);
        halves[0].copy_from_slice(scalar);
        halves[1].copy_from_slice(prefix);
        let secret = ExpandedSecretKey {
            scalar: Scalar::from_bytes_mod_order(halves[0]),
            hash_prefix: halves[1],
        };
        let public = VerifyingKey::from(&secret);
        ExpandedKeypair {
            bytes: Zeroizing::new(*bytes),
            secret,
            public,
        }
    }

    /// Its 64 bytes, to be stored (the content of `ed25519_master_id_secret_key`).
    pub fn to_bytes(&self) -> Zeroizing<[u8; 64]> {
        self.bytes.clone()
    }

    /// Its public key.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.public.to_bytes())
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        raw_sign::<Sha512>(&self.secret, message, &self.public).to_bytes()
    }

    /// The key blinded by a factor (rend-spec-v3 A.2), which is clamped here.
    pub(crate) fn blind_by(&self, factor: &[u8; 32]) -> ExpandedKeypair {
        const LABEL: &[u8] = b"Derive temporary signing key hash input";
        let clamped = Zeroizing::new(curve25519_dalek::scalar::clamp_integer(*factor));
        let scalar = Zeroizing::new(Scalar::from_bytes_mod_order(*clamped) * self.secret.scalar);
        let mut bytes = Zeroizing::new([0; 64]);
        bytes.copy_from_slice(
            &Sha512::new()
                .chain_update(LABEL)
                .chain_update(self.secret.hash_prefix)
                .finalize(),
        );
        bytes.copy_within(..32, 32);
        bytes[..32].copy_from_slice(scalar.as_bytes());
        ExpandedKeypair::from_bytes(&bytes)
    }

    /// The key of a Curve25519 secret (dir-spec 2.1.1, "ntor-onion-key-crosscert", and its
    /// appendix C), with the sign bit that a verifier needs to find its public key.
    pub fn for_curve25519(secret: &curve25519::SecretKey) -> (ExpandedKeypair, bool) {
        const LABEL: &[u8] = b"Derive high part of ed25519 key from curve25519 key\0";
        let scalar = secret.to_bytes();
        let clamped = Zeroizing::new(curve25519_dalek::scalar::clamp_integer(*scalar));
        let prefix = Sha512::new()
            .chain_update(*clamped)
            .chain_update(LABEL)
            .finalize();
        let mut bytes = Zeroizing::new([0; 64]);
        bytes[..32].copy_from_slice(&*clamped);
        bytes[32..].copy_from_slice(&prefix[..32]);
        let keypair = ExpandedKeypair::from_bytes(&bytes);
        let sign_bit = keypair.public().as_bytes()[31] >> 7 == 1;
        (keypair, sign_bit)
    }
}

impl fmt::Debug for ExpandedKeypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExpandedKeypair of {:?}", self.public())
    }
}

/// The Ed25519 key of a Curve25519 public key and a sign bit (appendix C of dir-spec); `None`
/// when there is no such point.
pub fn public_from_curve25519(public: &curve25519::PublicKey, sign_bit: bool) -> Option<PublicKey> {
    let point = MontgomeryPoint(*public.as_bytes()).to_edwards(u8::from(sign_bit))?;
    Some(PublicKey(point.compress().to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use hex_literal::hex;
    use proptest::prelude::*;

    /// RFC 8032 section 7.1, test 2.
    const SEED: [u8; 32] = hex!("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
    const PUBLIC: [u8; 32] =
        hex!("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
    const SIGNATURE: [u8; 64] = hex!(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    );

    #[test]
    fn rfc8032_vector() {
        let keypair = Keypair::from_seed(&SEED);
        assert_eq!(*keypair.to_seed(), SEED);
        assert_eq!(*keypair.public().as_bytes(), PUBLIC);
        assert_eq!(keypair.sign(&[0x72]), SIGNATURE);
        assert_eq!(keypair.expand().sign(&[0x72]), SIGNATURE);
        assert_eq!(keypair.expand().public(), keypair.public());
        assert_eq!(keypair.public().verify(&[0x72], &SIGNATURE), Ok(()));
        assert_eq!(
            keypair.public().verify(&[0x73], &SIGNATURE),
            Err(SignatureError::Wrong)
        );
        let stored = ExpandedKeypair::from_bytes(&keypair.expand().to_bytes());
        assert_eq!(stored.public(), keypair.public());
    }

    #[test]
    fn a_scalar_not_reduced_is_refused() {
        // S + L, little-endian, is the same scalar written in another way.
        const L: [u8; 32] =
            hex!("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        let mut signature = SIGNATURE;
        let mut carry = 0u16;
        for (byte, add) in signature[32..].iter_mut().zip(L) {
            carry += u16::from(*byte) + u16::from(add);
            *byte = carry as u8;
            carry >>= 8;
        }
        assert_eq!(
            PublicKey::from(PUBLIC).verify(&[0x72], &signature),
            Err(SignatureError::Wrong)
        );
    }

    #[test]
    fn a_key_that_is_no_point_is_named() {
        // y = 2 has no x.
        let mut two = [0; 32];
        two[0] = 2;
        let key = PublicKey::from(two);
        assert!(!key.is_point() && PublicKey::from(PUBLIC).is_point());
        assert_eq!(key.verify(b"", &SIGNATURE), Err(SignatureError::BadKey));
    }

    #[test]
    fn batches_hold_when_each_does() {
        let keypair = Keypair::from_seed(&SEED);
        let message = [0x72];
        let good = BatchItem {
            key: keypair.public(),
            message: &message,
            signature: SIGNATURE,
        };
        assert_eq!(verify_batch(&[]), Ok(()));
        assert_eq!(verify_batch(&[good, good]), Ok(()));
        let bad = BatchItem {
            message: &[],
            ..good
        };
        assert_eq!(verify_batch(&[good, bad, good]), Err(SignatureError::Wrong));
    }

    #[test]
    fn curve25519_conversion_has_both_signs() {
        let mut rng = Rng::from_seed([9; 32]);
        let mut seen = [false; 2];
        for _ in 0..16 {
            let secret = curve25519::SecretKey::generate(&mut rng);
            let (keypair, sign_bit) = ExpandedKeypair::for_curve25519(&secret);
            seen[usize::from(sign_bit)] = true;
            let public = public_from_curve25519(secret.public(), sign_bit).unwrap();
            assert_eq!(public, keypair.public());
            assert_eq!(public.verify(b"cross", &keypair.sign(b"cross")), Ok(()));
            let other = public_from_curve25519(secret.public(), !sign_bit).unwrap();
            assert!(other.verify(b"cross", &keypair.sign(b"cross")).is_err());
        }
        assert_eq!(seen, [true; 2]);
        // u = -1 has no image.
        let minus_one = hex!("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
        assert_eq!(public_from_curve25519(&minus_one.into(), false), None);
    }

    /// C tor's (`ed25519_vectors.inc`, the first and the last but one): seed, factor, blinded
    /// secret and public key.
    #[test]
    fn blinding_vectors() {
        for (seed, factor, secret, public) in [
            (
                hex!("26c76712d89d906e6672dafa614c42e5cb1caac8c6568e4d2493087db51f0d36"),
                hex!("54a513898b471d1d448a2f3c55c1de2c0ef718c447b04497eeb999ed32027823"),
                hex!(
                    "293c3acff4e902f6f63ddc5d5caa2a57e771db4f24de65d4c28df3232f47fa01"
                    "171d43f24e3f53e70ec7ac280044ac77d4942dee5d6807118a59bdf3ee647e89"
                ),
                hex!("1fc1fa4465bd9d4956fdbdc9d3acb3c7019bb8d5606b951c2e1dfe0b42eaeb41"),
            ),
            (
                hex!("c6bbcce615839756aed2cc78b1de13884dd3618f48367a17597a16c1cd7a290b"),
                [0; 32],
                hex!(
                    "e5cd03eb4cc456e11bc36724b558873df0045729b22d8b748360067a7770ac02"
                    "053d9c00c81e1331c06ab50087be8cfc7dc11691b132614474f1aa9c2503cccd"
                ),
                hex!("312404d06a0a9de489904b18d5233e83a50b225977fa8734f2c897a73c067952"),
            ),
        ] {
            let keypair = Keypair::from_seed(&seed);
            let blinded = keypair.expand().blind_by(&factor);
            assert_eq!(*blinded.to_bytes(), secret);
            assert_eq!(*blinded.public().as_bytes(), public);
            let blinded = keypair.public().blind_by(&factor);
            assert_eq!(blinded, Some(PublicKey::from(public)));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_checked_without_panic(
            key: [u8; 32],
            message: Vec<u8>,
            r: [u8; 32],
            s: [u8; 32],
        ) {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&r);
            signature[32..].copy_from_slice(&s);
            prop_assert!(PublicKey::from(key).verify(&message, &signature).is_err());
            let _ = public_from_curve25519(&key.into(), s[0] & 1 == 1);
        }
    }
}
