//! The X.509 certificates of a link (tor-spec 2, 4.2; what C tor sends today).
//!
//! A relay's TLS certificate is v3 without extensions: an RSA-2048 key, signed with SHA-256 by
//! the RSA-1024 identity, subject `CN=www.<random>.net`, issuer `CN=www.<random>.com`. The
//! identity certificate (CERTS type 2) is signed by its own key. Nothing in their names means
//! anything. TLS libraries refuse both, so what a verifier needs of a peer's certificate is
//! read here, out of hostile bytes, without looking at extensions.

use std::time::SystemTime;

use crate::der::{self, CONTEXT_0, Tag};
use crate::rsa::{self, Keypair, PublicKey};
use crate::{Rng, digest};

/// Longest certificate that is looked at, in bytes: a CERTS entry has 16 bits of length.
pub const CERT_LEN_MAX: usize = 65535;

/// Bits of the key of a link certificate.
pub const LINK_KEY_BITS: usize = 2048;

const SHA256_WITH_RSA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const RSA_ENCRYPTION: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// Why an X.509 certificate was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    /// Not the DER of a certificate.
    #[error("malformed X.509 certificate")]
    Malformed,
    /// Signed by, or holding a key of, another algorithm than RSA (with SHA-256).
    #[error("X.509 certificate of an unexpected algorithm")]
    UnexpectedAlgorithm,
    /// The key in it is not one that we take.
    #[error("X.509 certificate with a bad key: {0}")]
    BadKey(#[from] rsa::RsaKeyError),
    /// The signature is not by the key.
    #[error("X.509 certificate with a wrong signature")]
    WrongSignature,
}

/// The validity of a certificate: not before, not after.
pub type Validity = (SystemTime, SystemTime);

/// The random names that a relay's two certificates share.
#[derive(Clone, Debug)]
pub struct Names {
    /// Subject of the link certificate, `www.<random>.net`.
    pub link: String,
    /// Its issuer, and subject and issuer of the identity certificate, `www.<random>.com`.
    pub identity: String,
}

impl Names {
    /// Fresh random names.
    pub fn generate(rng: &mut Rng) -> Names {
        Names {
            link: random_name(rng, ".net"),
            identity: random_name(rng, ".com"),
        }
    }
}

fn random_name(rng: &mut Rng, suffix: &str) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let len = 8 + rng.below(13);
    let letters = (0..len).map(|_| char::from(LETTERS[rng.below(32) as usize]));
    format!("www.{}{suffix}", letters.collect::<String>())
}

/// The certificate of a link key, signed by the relay's identity: what TLS presents.
pub fn link_cert(
    rng: &mut Rng,
    identity: &Keypair,
    link_key: &PublicKey,
    names: &Names,
    validity: Validity,
) -> Vec<u8> {
    make(
        rng,
        identity,
        link_key,
        (&names.link, &names.identity),
        validity,
    )
}

/// The certificate of an identity, signed by itself: CERTS type 2.
pub fn identity_cert(
    rng: &mut Rng,
    identity: &Keypair,
    names: &Names,
    validity: Validity,
) -> Vec<u8> {
    make(
        rng,
        identity,
        identity.public(),
        (&names.identity, &names.identity),
        validity,
    )
}

fn make(
    rng: &mut Rng,
    signer: &Keypair,
    key: &PublicKey,
    (subject, issuer): (&str, &str),
    (not_before, not_after): Validity,
) -> Vec<u8> {
    let mut serial: [u8; 8] = rng.array();
    // Positive, and without a leading zero byte.
    serial[0] = (serial[0] & 0x3f) | 0x40;
    let algorithm = algorithm(&SHA256_WITH_RSA);
    let validity = der::element(
        Tag::Sequence,
        &[
            &der::time_element(not_before),
            &der::time_element(not_after),
        ],
    );
    let tbs = der::element(
        Tag::Sequence,
        &[
            &der::element(CONTEXT_0, &[&der::element(Tag::Integer, &[&[2]])]),
            &der::element(Tag::Integer, &[&serial]),
            &algorithm,
            &name(issuer),
            &validity,
            &name(subject),
            &spki(key),
        ],
    );
    let signature = signer.sign_sha256_pkcs1(&tbs);
    let signature = der::element(Tag::BitString, &[&[0], &signature]);
    der::element(Tag::Sequence, &[&tbs, &algorithm, &signature])
}

fn algorithm(oid: &[u8]) -> Vec<u8> {
    der::element(
        Tag::Sequence,
        &[
            &der::element(Tag::ObjectIdentifier, &[oid]),
            &der::element(Tag::Null, &[]),
        ],
    )
}

fn name(common_name: &str) -> Vec<u8> {
    let value = der::element(Tag::Utf8String, &[common_name.as_bytes()]);
    let pair = der::element(
        Tag::Sequence,
        &[
            &der::element(Tag::ObjectIdentifier, &[&COMMON_NAME]),
            &value,
        ],
    );
    der::element(Tag::Sequence, &[&der::element(Tag::Set, &[&pair])])
}

fn spki(key: &PublicKey) -> Vec<u8> {
    let bits = der::element(Tag::BitString, &[&[0], key.to_der()]);
    der::element(Tag::Sequence, &[&algorithm(&RSA_ENCRYPTION), &bits])
}

/// What is read of a certificate.
struct Cert<'a> {
    tbs: &'a [u8],
    validity: Validity,
    spki: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Cert<'a> {
    fn read(cert_der: &'a [u8]) -> Result<Cert<'a>, CertError> {
        if cert_der.len() > CERT_LEN_MAX {
            return Err(CertError::Malformed);
        }
        Cert::fields(cert_der).ok_or(CertError::Malformed)
    }

    fn fields(cert_der: &'a [u8]) -> Option<Cert<'a>> {
        let mut input = cert_der;
        let mut cert = der::expect(&mut input, Tag::Sequence)?.content;
        let tbs = der::expect(&mut cert, Tag::Sequence)?;
        let algorithm = der::expect(&mut cert, Tag::Sequence)?;
        let signature = der::bit_string(&mut cert)?;
        let mut fields = tbs.content;
        let mut serial = der::next(&mut fields)?;
        // A version is absent from v1 certificates.
        if serial.tag == CONTEXT_0 {
            serial = der::next(&mut fields)?;
        }
        let inner_algorithm = der::expect(&mut fields, Tag::Sequence)?;
        let _issuer = der::expect(&mut fields, Tag::Sequence)?;
        let mut times = der::expect(&mut fields, Tag::Sequence)?.content;
        let validity = (der::time(&mut times)?, der::time(&mut times)?);
        let _subject = der::expect(&mut fields, Tag::Sequence)?;
        let spki = der::expect(&mut fields, Tag::Sequence)?;
        let sound = serial.tag == Tag::Integer
            && inner_algorithm.whole == algorithm.whole
            && times.is_empty()
            && cert.is_empty()
            && input.is_empty();
        sound.then_some(Cert {
            tbs: tbs.whole,
            validity,
            spki: spki.whole,
            algorithm: algorithm.content,
            signature,
        })
    }

    fn rsa_public_key(&self) -> Result<PublicKey, CertError> {
        let (algorithm, key) = self.key_parts().ok_or(CertError::Malformed)?;
        if !is_algorithm(algorithm, &RSA_ENCRYPTION) {
            return Err(CertError::UnexpectedAlgorithm);
        }
        Ok(PublicKey::from_der(key)?)
    }

    /// The algorithm and the key inside the SubjectPublicKeyInfo.
    fn key_parts(&self) -> Option<(&'a [u8], &'a [u8])> {
        let mut input = self.spki;
        let mut spki = der::expect(&mut input, Tag::Sequence)?.content;
        let algorithm = der::expect(&mut spki, Tag::Sequence)?.content;
        Some((algorithm, der::bit_string(&mut spki)?))
    }

    fn verify(&self, key: &PublicKey) -> Result<(), CertError> {
        if !is_algorithm(self.algorithm, &SHA256_WITH_RSA) {
            return Err(CertError::UnexpectedAlgorithm);
        }
        key.verify_sha256_pkcs1(self.tbs, self.signature)
            .map_err(|_| CertError::WrongSignature)
    }
}

/// Whether an AlgorithmIdentifier is this one of PKCS#1, whose parameters are NULL or absent.
fn is_algorithm(mut content: &[u8], oid: &[u8]) -> bool {
    let found =
        der::expect(&mut content, Tag::ObjectIdentifier).is_some_and(|found| found.content == oid);
    found && (content.is_empty() || content == [0x05, 0])
}

/// The SubjectPublicKeyInfo, of any algorithm, by which a TLS handshake's signature is checked.
pub fn spki_der(cert_der: &[u8]) -> Result<&[u8], CertError> {
    Ok(Cert::read(cert_der)?.spki)
}

/// The RSA key in a certificate.
pub fn rsa_public_key(cert_der: &[u8]) -> Result<PublicKey, CertError> {
    Cert::read(cert_der)?.rsa_public_key()
}

/// When a certificate begins and ends to be valid.
pub fn validity(cert_der: &[u8]) -> Result<Validity, CertError> {
    Ok(Cert::read(cert_der)?.validity)
}

/// Checks that a certificate is signed by this key (RSA, SHA-256).
pub fn verify_signed_by(cert_der: &[u8], key: &PublicKey) -> Result<(), CertError> {
    Cert::read(cert_der)?.verify(key)
}

/// Checks that a certificate is signed by the RSA key in it, and gives the key.
pub fn verify_self_signed(cert_der: &[u8]) -> Result<PublicKey, CertError> {
    let cert = Cert::read(cert_der)?;
    let key = cert.rsa_public_key()?;
    cert.verify(&key)?;
    Ok(key)
}

/// SHA-256 of a certificate's DER, by which CERTS and AUTHENTICATE name it.
pub fn sha256(cert_der: &[u8]) -> [u8; 32] {
    digest::sha256(cert_der)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use proptest::prelude::*;
    use std::time::Duration;

    const TOR_CERT: &[u8] = include_bytes!("../testdata/tor_link_cert.der");
    const TOR_IDENTITY: &str = include_str!("../testdata/secret_id_key");
    const OTHER: &str = include_str!("../testdata/openssl_pkcs1.pem");

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_certificate_of_tor_is_read() {
        let identity = Keypair::from_pem(TOR_IDENTITY).unwrap();
        let other = Keypair::from_pem(OTHER).unwrap();
        assert_eq!(verify_signed_by(TOR_CERT, identity.public()), Ok(()));
        assert_eq!(
            verify_signed_by(TOR_CERT, other.public()),
            Err(CertError::WrongSignature)
        );
        assert_eq!(verify_self_signed(TOR_CERT), Err(CertError::WrongSignature));
        let key = rsa_public_key(TOR_CERT).unwrap();
        assert_eq!(key.bits(), 2048);
        assert_eq!(spki_der(TOR_CERT).unwrap(), spki(&key));
        // 2026-04-26 00:00:00 to 2027-02-13 23:59:59.
        assert_eq!(
            validity(TOR_CERT),
            Ok((at(1_777_161_600), at(1_802_563_199)))
        );
    }

    #[test]
    fn our_certificates_come_back() {
        let mut rng = Rng::from_seed([1; 32]);
        let identity = Keypair::from_pem(TOR_IDENTITY).unwrap();
        let link = Keypair::from_pem(OTHER).unwrap();
        let names = Names::generate(&mut rng);
        assert!(names.link.starts_with("www.") && names.link.ends_with(".net"));
        let valid = (at(1_700_000_000), at(3_000_000_000));
        let cert = link_cert(&mut rng, &identity, link.public(), &names, valid);
        assert_eq!(rsa_public_key(&cert).as_ref(), Ok(link.public()));
        assert_eq!(validity(&cert), Ok(valid));
        assert_eq!(verify_signed_by(&cert, identity.public()), Ok(()));
        let own = identity_cert(&mut rng, &identity, &names, valid);
        assert_eq!(verify_self_signed(&own).as_ref(), Ok(identity.public()));
    }

    #[test]
    fn no_damaged_certificate_is_taken() {
        let identity = Keypair::from_pem(TOR_IDENTITY).unwrap();
        for len in 0..TOR_CERT.len() {
            assert_eq!(validity(&TOR_CERT[..len]), Err(CertError::Malformed));
        }
        assert_eq!(
            validity(&[TOR_CERT, &[0]].concat()),
            Err(CertError::Malformed)
        );
        for index in 0..TOR_CERT.len() {
            let mut damaged = TOR_CERT.to_vec();
            damaged[index] ^= 0x04;
            assert!(
                verify_signed_by(&damaged, identity.public()).is_err(),
                "{index}"
            );
            let _ = (
                rsa_public_key(&damaged),
                validity(&damaged),
                spki_der(&damaged),
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            prop_assert!(spki_der(&bytes).is_err());
            prop_assert!(verify_self_signed(&bytes).is_err());
        }
    }
}
