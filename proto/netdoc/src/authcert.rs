//! The key certificate of a directory authority: its long-term identity key signs the key that
//! signs votes and consensuses (dir-spec.txt section 3.1).
//!
//! A parsed certificate has been checked: the fingerprint is the identity key's, the signing key
//! has signed the identity (crosscert), the identity key has signed the document. Whether it is
//! in its time is asked with a clock of the caller's.

use std::net::SocketAddrV4;
use std::time::SystemTime;

use cepa_crypto::{RsaId, digest, rsa};

use crate::item::{Item, ItemError, Limits, Section, split_documents};
use crate::pem;
use crate::timestamp;

/// Largest certificate; `tor` allows 128 KiB, real ones have 2 KiB.
pub const CERT_LIMITS: Limits = Limits {
    bytes_max: 16 * 1024,
    items_max: 64,
};
/// Bits of a new identity key, as `tor-gencert` makes it.
pub const IDENTITY_KEY_BITS: usize = 3072;
/// Bits of a new signing key, as `tor-gencert` makes it.
pub const SIGNING_KEY_BITS: usize = 2048;

const VERSION_KEYWORD: &str = "dir-key-certificate-version";
const CERTIFICATION: &str = "dir-key-certification";
const CROSSCERT_TAG: &str = "ID SIGNATURE";

/// Why a text is no key certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthCertError {
    /// An item is missing, repeated or malformed.
    #[error(transparent)]
    Item(#[from] ItemError),
    /// Another version than 3.
    #[error("key certificate of an unknown version")]
    UnknownVersion,
    /// The fingerprint is not that of the identity key.
    #[error("fingerprint does not match the identity key")]
    WrongFingerprint,
    /// The signing key has not signed the identity key.
    #[error("dir-key-crosscert does not verify")]
    BadCrosscert,
    /// The identity key has not signed the certificate.
    #[error("dir-key-certification does not verify")]
    BadCertification,
}

/// A key certificate whose signatures have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthCert {
    /// The certificate as it was read, to be served again.
    pub text: String,
    /// The authority's identity, `v3ident`: SHA-1 of the identity key's DER.
    pub identity: RsaId,
    /// Where the authority's directory port is, if the certificate says so.
    pub address: Option<SocketAddrV4>,
    /// When the certificate was made.
    pub published: SystemTime,
    /// When the certificate ends.
    pub expires: SystemTime,
    /// The long-term key.
    pub identity_key: rsa::PublicKey,
    /// The key that signs votes and consensuses.
    pub signing_key: rsa::PublicKey,
    /// SHA-1 of the signing key's DER, by which signatures name it.
    pub signing_key_digest: RsaId,
    /// SHA-1 of the signed part.
    pub digest: [u8; 20],
}

impl AuthCert {
    /// Reads and checks one certificate.
    pub fn parse(text: &str) -> Result<Self, AuthCertError> {
        let section = Section::parse(text, CERT_LIMITS)?;
        if section.required_at(0, VERSION_KEYWORD)?.arg(0)? != "3" {
            return Err(AuthCertError::UnknownVersion);
        }
        let certification = section.required_from_end(0, CERTIFICATION)?;
        let identity_key = pem::rsa_key(section.required("dir-identity-key")?)?;
        let signing_key = pem::rsa_key(section.required("dir-signing-key")?)?;
        let identity = identity_key.id();
        if section.required("fingerprint")?.arg_as::<RsaId>(0)? != identity {
            return Err(AuthCertError::WrongFingerprint);
        }
        let crosscert = crosscert(section.required("dir-key-crosscert")?)?;
        (signing_key.verify_digest(identity.as_bytes(), &crosscert))
            .map_err(|_| AuthCertError::BadCrosscert)?;
        let start = section.items.first().map_or(0, |item| item.start);
        let signed = certification.through_line(text, start).unwrap_or_default();
        let digest = digest::sha1(signed.as_bytes());
        (identity_key.verify_digest(&digest, &pem::signature(certification)?))
            .map_err(|_| AuthCertError::BadCertification)?;
        let address = section.optional("dir-address")?;
        Ok(Self {
            text: text
                .get(start..certification.end)
                .unwrap_or_default()
                .to_owned(),
            identity,
            address: address.map(|item| item.arg_as(0)).transpose()?,
            published: section.required("dir-key-published")?.timestamp(0)?,
            expires: section.required("dir-key-expires")?.timestamp(0)?,
            signing_key_digest: signing_key.id(),
            identity_key,
            signing_key,
            digest,
        })
    }

    /// Whether the certificate's time has begun and not ended.
    pub fn is_current(&self, now: SystemTime) -> bool {
        self.published <= now && now < self.expires
    }

    /// Writes and signs a certificate.
    pub fn build(
        identity_key: &rsa::Keypair,
        signing_key: &rsa::Keypair,
        address: Option<SocketAddrV4>,
        published: SystemTime,
        expires: SystemTime,
    ) -> String {
        let identity = identity_key.public().id();
        let address = address
            .map(|address| format!("dir-address {address}\n"))
            .unwrap_or_default();
        let crosscert = signing_key.sign_digest(identity.as_bytes());
        let mut text = format!(
            "{VERSION_KEYWORD} 3\n{address}fingerprint {identity}\ndir-key-published {}\n\
             dir-key-expires {}\ndir-identity-key\n{}dir-signing-key\n{}dir-key-crosscert\n{}\
             {CERTIFICATION}\n",
            timestamp::encode(published),
            timestamp::encode(expires),
            identity_key.public().to_pem(),
            signing_key.public().to_pem(),
            pem::encode(CROSSCERT_TAG, &crosscert),
        );
        let signature = identity_key.sign_digest(&digest::sha1(text.as_bytes()));
        text.push_str(&pem::encode(pem::SIGNATURE, &signature));
        text
    }
}

/// The cross-signature; the `ID ` of its tag may be missing.
fn crosscert(item: &Item<'_>) -> Result<Vec<u8>, ItemError> {
    match item.object {
        Some(object) if object.tag == CROSSCERT_TAG => object.decode(512),
        _ => pem::signature(item),
    }
}

/// Cuts a text of several certificates, as `/tor/keys/…` serves them.
pub fn split_certs(text: &str) -> impl Iterator<Item = &str> {
    split_documents(text, &[VERSION_KEYWORD])
}

#[cfg(test)]
mod tests {
    use super::*;
    use cepa_crypto::Rng;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    /// Made by `tor-gencert` 0.4.9.
    const TOR_CERT: &str = include_str!("../../../tests/vectors/netdoc/tor-authority-cert.txt");

    static KEYS: LazyLock<[rsa::Keypair; 2]> = LazyLock::new(|| {
        let mut rng = Rng::from_seed([1; 32]);
        [1024, 1024].map(|bits| rsa::Keypair::generate(bits, &mut rng).unwrap())
    });

    #[test]
    fn a_certificate_of_tor_is_read() {
        let cert = AuthCert::parse(TOR_CERT).unwrap();
        assert_eq!(
            cert.identity.to_string(),
            "22DF6381BB329DCDC9E85687666B15A2B14273D6"
        );
        assert_eq!(cert.address.unwrap().to_string(), "127.0.0.1:21701");
        assert_eq!(
            (cert.identity_key.bits(), cert.signing_key.bits()),
            (3072, 2048)
        );
        assert!(cert.is_current(cert.published) && !cert.is_current(cert.expires));
        assert_eq!(cert.text, TOR_CERT);
        let twice = format!("{TOR_CERT}\n{TOR_CERT}");
        assert!(split_certs(&twice).all(|text| AuthCert::parse(text) == Ok(cert.clone())));
        assert_eq!(split_certs(&twice).count(), 2);
    }

    #[test]
    fn what_is_built_is_read() {
        let [identity, signing] = &*KEYS;
        let (published, expires) = (timestamp::from_unix(1_000), timestamp::from_unix(2_000));
        for address in [None, Some("192.0.2.1:80".parse().unwrap())] {
            let text = AuthCert::build(identity, signing, address, published, expires);
            let cert = AuthCert::parse(&text).unwrap();
            assert_eq!(
                (cert.published, cert.expires, cert.address),
                (published, expires, address)
            );
            assert_eq!(cert.identity, identity.public().id());
            assert_eq!(cert.signing_key_digest, signing.public().id());
            let omitted = text.replace("ID SIGNATURE", "SIGNATURE");
            assert_eq!(
                AuthCert::parse(&omitted),
                Err(AuthCertError::BadCertification)
            );
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let other_print = TOR_CERT.replace("22DF6381", "22DF6382");
        assert_eq!(
            AuthCert::parse(&other_print),
            Err(AuthCertError::WrongFingerprint)
        );
        let version = TOR_CERT.replace("version 3", "version 4");
        assert_eq!(
            AuthCert::parse(&version),
            Err(AuthCertError::UnknownVersion)
        );
        let later = TOR_CERT.replace("dir-key-expires 2027", "dir-key-expires 2028");
        assert_eq!(
            AuthCert::parse(&later),
            Err(AuthCertError::BadCertification)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_changed_byte_is_refused(at in 0..TOR_CERT.len(), byte in 0x21u8..0x7f) {
            let mut bytes = TOR_CERT.as_bytes().to_vec();
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            let result = AuthCert::parse(std::str::from_utf8(&bytes).unwrap());
            prop_assert!(result.is_err() || at >= TOR_CERT.find(CERTIFICATION).unwrap());
        }

        #[test]
        fn truncation_is_refused(len in 0..TOR_CERT.len()) {
            prop_assert!(AuthCert::parse(&TOR_CERT[..len]).is_err());
        }
    }
}
