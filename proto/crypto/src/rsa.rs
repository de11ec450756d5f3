//! RSA keys and signatures: relay and authority identities (tor-spec 0.3, dir-spec 1.2, 2.1).
//!
//! A public key is its PKCS#1 DER, whose SHA-1 is the identity. Directory documents are signed
//! with PKCS#1 v1.5 padding of the bare digest, without the DigestInfo that X.509 has. Sizes
//! from 1024 bits (relay identities; TLS libraries refuse them) to 4096 are taken, and any odd
//! exponent that the arithmetic bounds; who wants an identity asks `has_tor_exponent`.
//! Private operations are blinded besides being constant in time.

use core::fmt;

use ::rsa as backend;
use backend::pkcs1::{DecodeRsaPrivateKey, EncodeRsaPrivateKey, EncodeRsaPublicKey};
use backend::pkcs1::{LineEnding, RsaPublicKeyRef};
use backend::pkcs8::der::pem::PemLabel;
use backend::pkcs8::{
    DecodePrivateKey, EncodePrivateKey, EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef,
};
use backend::traits::PublicKeyParts;
use backend::{BoxedUint, Pkcs1v15Sign, PrivateKey};
use zeroize::Zeroizing;

use crate::{Rng, RsaId, digest, encoding};

/// Smallest modulus taken, in bits: that of relay identities (tor-spec 0.3).
pub const BITS_MIN: usize = 1024;
/// Largest modulus taken, in bits: no more is asked of a verifier.
pub const BITS_MAX: usize = 4096;

/// The exponent of every key that C tor makes, and demands of identities.
const TOR_EXPONENT: u32 = 65537;

/// Longest PKCS#1 public key of `BITS_MAX` bits, generously.
const PUBLIC_DER_LEN_MAX: usize = 1024;

/// DER of the DigestInfo that precedes a SHA-256 digest (RFC 8017 section 9.2, note 1).
const SHA256_DIGEST_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

/// Why an RSA key could not be read or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RsaKeyError {
    /// Not the DER, or not the PEM, of an RSA key.
    #[error("malformed RSA key")]
    Malformed,
    /// The modulus is shorter or longer than what is taken.
    #[error("RSA key of an unacceptable size")]
    BadSize,
    /// The private key is encrypted with a passphrase, which was not given, or in a way that is
    /// not read.
    #[error("the RSA private key is encrypted: remove its passphrase")]
    Encrypted,
    /// The private key is encrypted with another passphrase.
    #[error("wrong passphrase of an RSA private key")]
    WrongPassphrase,
}

/// A signature that does not belong to the key and the digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the RSA signature is wrong")]
pub struct WrongSignature;

/// An RSA public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: backend::PublicKey,
    der: Vec<u8>,
}

impl PublicKey {
    /// Reads a PKCS#1 `RSAPublicKey`, with nothing after it.
    pub fn from_der(der: &[u8]) -> Result<PublicKey, RsaKeyError> {
        if der.len() > PUBLIC_DER_LEN_MAX {
            return Err(RsaKeyError::BadSize);
        }
        let parts = RsaPublicKeyRef::try_from(der).map_err(|_| RsaKeyError::Malformed)?;
        let [n, e] = [parts.modulus, parts.public_exponent]
            .map(|number| BoxedUint::from_be_slice_vartime(number.as_bytes()));
        backend::PublicKey::new_with_size_limits(n, e, BITS_MIN..=BITS_MAX)
            .map_err(|error| match error {
                backend::Error::ModulusTooSmall | backend::Error::ModulusTooLarge => {
                    RsaKeyError::BadSize
                }
                _ => RsaKeyError::Malformed,
            })
            .and_then(PublicKey::checked)
    }

    /// Reads a "RSA PUBLIC KEY" object, as directory documents have it.
    pub fn from_pem(pem: &str) -> Result<PublicKey, RsaKeyError> {
        let der = encoding::pem_decode(pem, "RSA PUBLIC KEY").ok_or(RsaKeyError::Malformed)?;
        PublicKey::from_der(&der)
    }

    fn checked(key: backend::PublicKey) -> Result<PublicKey, RsaKeyError> {
        if !(BITS_MIN..=BITS_MAX).contains(&bits_of(&key)) {
            return Err(RsaKeyError::BadSize);
        }
        let der = key
            .to_pkcs1_der()
            .map_err(|_| RsaKeyError::Malformed)?
            .into_vec();
        Ok(PublicKey { key, der })
    }

    /// Its PKCS#1 DER.
    pub fn to_der(&self) -> &[u8] {
        &self.der
    }

    /// The object "RSA PUBLIC KEY" of directory documents, ended by a newline.
    pub fn to_pem(&self) -> String {
        encoding::pem_encode("RSA PUBLIC KEY", &self.der)
    }

    /// SHA-1 of the DER: the identity, or "fingerprint", of the key.
    pub fn id(&self) -> RsaId {
        RsaId::from(digest::sha1(&self.der))
    }

    /// SHA-256 of the DER, as the AUTHENTICATE cell has it (tor-spec 4.4).
    pub fn sha256(&self) -> [u8; 32] {
        digest::sha256(&self.der)
    }

    /// Bits of the modulus.
    pub fn bits(&self) -> usize {
        bits_of(&self.key)
    }

    /// Whether the exponent is 65537, which identities and onion keys must have.
    pub fn has_tor_exponent(&self) -> bool {
        *self.key.e() == BoxedUint::from(TOR_EXPONENT)
    }

    /// Checks a signature of a bare digest (SHA-1 or SHA-256; dir-spec 1.3): PKCS#1 v1.5
    /// without DigestInfo.
    pub fn verify_digest(&self, digest: &[u8], signature: &[u8]) -> Result<(), WrongSignature> {
        self.verify(Pkcs1v15Sign::new_unprefixed(), digest, signature)
    }

    /// Checks a signature of a message by `sha256WithRSAEncryption` (X.509).
    pub fn verify_sha256_pkcs1(
        &self,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), WrongSignature> {
        self.verify(sha256_scheme(), &digest::sha256(message), signature)
    }

    fn verify(
        &self,
        scheme: Pkcs1v15Sign,
        digest: &[u8],
        signature: &[u8],
    ) -> Result<(), WrongSignature> {
        self.key
            .verify(scheme, digest, signature)
            .map_err(|_| WrongSignature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RSA-{} {}", self.bits(), self.id())
    }
}

/// An RSA private key, with its public key.
pub struct Keypair {
    key: PrivateKey,
    public: PublicKey,
    /// Seeds the blinding of each signature, together with what is signed.
    blinding: Zeroizing<[u8; 32]>,
}

impl Keypair {
    /// A fresh key of that many bits, from `BITS_MIN` to `BITS_MAX`, with exponent 65537.
    pub fn generate(bits: usize, rng: &mut Rng) -> Result<Keypair, RsaKeyError> {
        if !(BITS_MIN..=BITS_MAX).contains(&bits) {
            return Err(RsaKeyError::BadSize);
        }
        let key = PrivateKey::new(rng, bits).map_err(|_| RsaKeyError::BadSize)?;
        Keypair::checked(key)
    }

    /// Reads a PEM "RSA PRIVATE KEY" (PKCS#1; tor's `secret_id_key`) or "PRIVATE KEY" (PKCS#8;
    /// tor-gencert's `authority_identity_key`), not encrypted.
    pub fn from_pem(pem: &str) -> Result<Keypair, RsaKeyError> {
        if pem.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || pem.contains(",ENCRYPTED") {
            return Err(RsaKeyError::Encrypted);
        }
        let object = |keyword| encoding::pem_decode(pem, keyword).map(Zeroizing::new);
        let key = if let Some(der) = object("RSA PRIVATE KEY") {
            PrivateKey::from_pkcs1_der(&der).map_err(|_| RsaKeyError::Malformed)?
        } else {
            let der = object("PRIVATE KEY").ok_or(RsaKeyError::Malformed)?;
            PrivateKey::from_pkcs8_der(&der).map_err(|_| RsaKeyError::Malformed)?
        };
        Keypair::checked(key)
    }

    /// Reads the same, and a PEM "ENCRYPTED PRIVATE KEY" (PKCS#8 by PBES2 of RFC 8018, as `openssl
    /// pkcs8 -topk8` writes it) under this passphrase.
    pub fn from_pem_under(pem: &str, passphrase: &[u8]) -> Result<Keypair, RsaKeyError> {
        let Some(der) = encoding::pem_decode(pem, "ENCRYPTED PRIVATE KEY") else {
            return Keypair::from_pem(pem);
        };
        let encrypted = EncryptedPrivateKeyInfoRef::try_from(&der[..]);
        let encrypted = encrypted.map_err(|_| RsaKeyError::Encrypted)?;
        let plain = encrypted.decrypt(passphrase);
        let plain = plain.map_err(|_| RsaKeyError::WrongPassphrase)?;
        let key = PrivateKey::from_pkcs8_der(plain.as_bytes());
        Keypair::checked(key.map_err(|_| RsaKeyError::Malformed)?)
    }

    /// Its PEM "ENCRYPTED PRIVATE KEY" under a passphrase, as `from_pem_under` and OpenSSL read it.
    pub fn to_encrypted_pem(&self, passphrase: &[u8], rng: &mut Rng) -> Zeroizing<String> {
        let der = self.to_pkcs8_der();
        let plain = PrivateKeyInfoRef::try_from(&der[..]).expect("it was written just now");
        plain
            .encrypt_with_rng(rng, passphrase)
            .and_then(|encrypted| {
                Ok(encrypted.to_pem(EncryptedPrivateKeyInfoRef::PEM_LABEL, LineEnding::LF)?)
            })
            .expect("the generator gives bytes, and a key has an encoding")
    }

    fn checked(key: PrivateKey) -> Result<Keypair, RsaKeyError> {
        let public = PublicKey::checked(key.to_public_key())?;
        let der = key.to_pkcs1_der().map_err(|_| RsaKeyError::Malformed)?;
        let blinding = Zeroizing::new(digest::hmac_sha256(b"blinding", der.as_bytes()));
        Ok(Keypair {
            key,
            public,
            blinding,
        })
    }

    /// Its PEM "RSA PRIVATE KEY" (PKCS#1), as tor's key files have it.
    pub fn to_pem(&self) -> Zeroizing<String> {
        self.key
            .to_pkcs1_pem(LineEnding::LF)
            .expect("a checked key has an encoding")
    }

    /// Its PKCS#8 DER, as TLS libraries take it.
    pub fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        self.key
            .to_pkcs8_der()
            .expect("a checked key has an encoding")
            .to_bytes()
    }

    /// Its public key.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a bare digest of at most 64 bytes (dir-spec 1.3): PKCS#1 v1.5 without DigestInfo.
    pub fn sign_digest(&self, digest: &[u8]) -> Vec<u8> {
        self.sign(Pkcs1v15Sign::new_unprefixed(), digest)
    }

    /// Signs a message by `sha256WithRSAEncryption` (X.509).
    pub fn sign_sha256_pkcs1(&self, message: &[u8]) -> Vec<u8> {
        self.sign(sha256_scheme(), &digest::sha256(message))
    }

    fn sign(&self, scheme: Pkcs1v15Sign, digest: &[u8]) -> Vec<u8> {
        assert!(digest.len() <= 64, "a digest, not a message, is signed");
        let mut rng = Rng::from_seed(digest::hmac_sha256(&*self.blinding, digest));
        self.key
            .sign_with_rng(&mut rng, scheme, digest)
            .expect("1024 bits have room for a padded digest, and the key was checked")
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keypair of {:?}", self.public)
    }
}

fn sha256_scheme() -> Pkcs1v15Sign {
    Pkcs1v15Sign {
        hash_len: Some(32),
        prefix: Box::new(SHA256_DIGEST_INFO),
    }
}

/// Bits of the modulus.
fn bits_of(key: &backend::PublicKey) -> usize {
    key.n().bit_width_vartime() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use hex_literal::hex;
    use proptest::prelude::*;

    const PKCS1: &str = include_str!("../testdata/openssl_pkcs1.pem");
    const PKCS8: &str = include_str!("../testdata/openssl_pkcs8.pem");
    const PKCS1_ENCRYPTED: &str = include_str!("../testdata/openssl_pkcs1_encrypted.pem");
    const PKCS8_ENCRYPTED: &str = include_str!("../testdata/openssl_pkcs8_encrypted.pem");

    #[test]
    fn openssl_vectors() {
        let keypair = Keypair::from_pem(PKCS1).unwrap();
        let public = keypair.public();
        assert_eq!(
            public.id().to_string(),
            "38D3EB3E408AFBF774750536E3952B9311CFB869"
        );
        assert_eq!(public.bits(), 1024);
        assert!(public.has_tor_exponent());
        let bare = hex!(
            "72d44b594759adedbf14c8997c503be2d9c2c1789b20f224a377830e86b7b468"
            "6146a87719ccab1168d9082404028cb6ac1ae9a5e0b07483677821e8a1126cf6"
            "809b5d2b8d454539ac7d24fe7027aac33c711676325a396516db31a1492655ec"
            "cb83ce7a941dda95dd886b0fe47322ed6be32b76aa102e35ee78b7b3dcdc4390"
        );
        assert_eq!(keypair.sign_digest(b"0123456789abcdefghij"), bare);
        assert_eq!(public.verify_digest(b"0123456789abcdefghij", &bare), Ok(()));
        assert_eq!(
            public.verify_digest(b"0123456789abcdefghi", &bare),
            Err(WrongSignature)
        );
        assert_eq!(
            public.verify_digest(b"0123456789abcdefghik", &bare),
            Err(WrongSignature)
        );
        let x509 = hex!(
            "4d36426e01aa3006f884496e3449f8c6508c24106f3f8deb3d0d6c111637fe88"
            "f6eba73d4c6cbcf38419f687bf268e5ffd39fd3b48cc5707c2bad1c9b9a74283"
            "0bd3c6236327a70ba3427ebbe765d4f2024b960d937ab55e8f9d015a882c49ec"
            "a74abbbc20f0a120a677214e458ac60c18a468451299692bc1261d435f07f84d"
        );
        assert_eq!(keypair.sign_sha256_pkcs1(b"hello"), x509);
        assert_eq!(public.verify_sha256_pkcs1(b"hello", &x509), Ok(()));
        assert_eq!(
            public.verify_sha256_pkcs1(b"hullo", &x509),
            Err(WrongSignature)
        );
        assert_eq!(
            public.verify_digest(&digest::sha256(b"hello"), &x509),
            Err(WrongSignature)
        );
    }

    #[test]
    fn a_signature_of_3072_bits_verifies() {
        let pem = include_str!("../testdata/openssl_3072_public.pem");
        let signature = include_bytes!("../testdata/openssl_3072_signature");
        let public = PublicKey::from_pem(pem).unwrap();
        assert_eq!((public.bits(), public.to_pem().as_str()), (3072, pem));
        assert_eq!(
            public.verify_digest(&digest::sha256(b""), signature),
            Ok(())
        );
    }

    #[test]
    fn a_passphrase_keeps_a_private_key() {
        let key = Keypair::from_pem(PKCS1).unwrap();
        let pem = key.to_encrypted_pem(b"a b", &mut Rng::from_seed([1; 32]));
        assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
        let read = Keypair::from_pem_under(&pem, b"a b").unwrap();
        assert_eq!(read.public(), key.public());
        let wrong = Keypair::from_pem_under(&pem, b"a c").unwrap_err();
        assert_eq!(wrong, RsaKeyError::WrongPassphrase);
        assert_eq!(Keypair::from_pem(&pem).unwrap_err(), RsaKeyError::Encrypted);
        // What has no passphrase is read, too.
        assert!(Keypair::from_pem_under(PKCS8, b"a b").is_ok());
    }

    #[test]
    fn private_keys_are_read_and_written() {
        let one = Keypair::from_pem(PKCS1).unwrap();
        let eight = Keypair::from_pem(PKCS8).unwrap();
        assert_eq!(one.public(), eight.public());
        assert_eq!(*one.to_pem(), PKCS1);
        let pkcs8 = encoding::pem_decode(PKCS8, "PRIVATE KEY").unwrap();
        assert_eq!(*one.to_pkcs8_der(), pkcs8);
        for encrypted in [PKCS1_ENCRYPTED, PKCS8_ENCRYPTED] {
            assert_eq!(
                Keypair::from_pem(encrypted).unwrap_err(),
                RsaKeyError::Encrypted
            );
        }
        assert_eq!(Keypair::from_pem("").unwrap_err(), RsaKeyError::Malformed);
        assert!(!format!("{one:?}").contains("PRIVATE"));
    }

    #[test]
    fn public_keys_come_back_and_damage_does_not_panic() {
        let public = Keypair::from_pem(PKCS1).unwrap().public().clone();
        assert_eq!(PublicKey::from_der(public.to_der()), Ok(public.clone()));
        assert_eq!(PublicKey::from_pem(&public.to_pem()), Ok(public.clone()));
        assert_eq!(PublicKey::from_pem(PKCS1), Err(RsaKeyError::Malformed));
        let der = public.to_der();
        for len in 0..der.len() {
            assert!(PublicKey::from_der(&der[..len]).is_err());
        }
        assert!(PublicKey::from_der(&[der, &[0]].concat()).is_err());
        assert!(PublicKey::from_der(&[0; 5000]).is_err());
        for at in 0..der.len() {
            let mut damaged = der.to_vec();
            damaged[at] ^= 0x81;
            if let Ok(key) = PublicKey::from_der(&damaged) {
                assert_eq!(key.to_der(), damaged);
                assert!(key.verify_digest(&[7; 20], &[0x55; 128]).is_err());
            }
        }
    }

    #[test]
    fn sizes_are_bounded() {
        let mut rng = Rng::from_seed([2; 32]);
        assert_eq!(
            Keypair::generate(1023, &mut rng).unwrap_err(),
            RsaKeyError::BadSize
        );
        assert_eq!(
            Keypair::generate(8192, &mut rng).unwrap_err(),
            RsaKeyError::BadSize
        );
        // 512 bits: a modulus of as many ones, and an exponent of 3.
        let modulus = [&hex!("3046024100")[..], &[0xff; 64]].concat();
        let der = [&modulus, &hex!("020103")[..]].concat();
        assert_eq!(PublicKey::from_der(&der), Err(RsaKeyError::BadSize));
    }

    #[test]
    fn fresh_keys_of_each_size_sign() {
        let mut rng = Rng::from_seed([3; 32]);
        for bits in [1024, 2048] {
            let keypair = Keypair::generate(bits, &mut rng).unwrap();
            assert_eq!(keypair.public().bits(), bits);
            let signature = keypair.sign_digest(&[9; 32]);
            assert_eq!(signature.len(), bits / 8);
            assert_eq!(keypair.public().verify_digest(&[9; 32], &signature), Ok(()));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(der: Vec<u8>, text in ".*") {
            let _ = PublicKey::from_der(&der);
            let _ = (PublicKey::from_pem(&text), Keypair::from_pem(&text).map(|_| ()));
            let _ = Keypair::from_pem(&encoding::pem_encode("PRIVATE KEY", &der)).map(|_| ());
        }

        #[test]
        fn any_signature_is_refused_without_panic(signature: Vec<u8>) {
            let public = Keypair::from_pem(PKCS1).unwrap().public().clone();
            prop_assert!(public.verify_digest(&[0; 20], &signature).is_err());
        }
    }
}
