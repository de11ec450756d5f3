//! `directory-signature`: making and checking the signatures of votes and consensuses
//! (dir-spec 3.4.1, 3.9, 3.10).
//!
//! A signature is PKCS#1 v1.5 over the bare digest, with the authority's signing key. It counts if
//! the key is the one of an unexpired certificate of a trusted authority, and once an authority.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::SystemTime;

use cepa_crypto::{RsaId, encoding, rsa};

use crate::authcert::AuthCert;
use crate::item::{Item, ItemError};

/// The largest signature in bytes: that of a 4096-bit key.
pub const SIGNATURE_LEN_MAX: usize = 512;

/// The digest that a signature is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DigestAlgorithm {
    /// SHA-1: votes and ns consensuses; the word is left out.
    Sha1,
    /// SHA-256: microdesc consensuses.
    Sha256,
}

/// A `directory-signature` item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectorySignature {
    /// The digest that is signed.
    pub algorithm: DigestAlgorithm,
    /// The digest of the authority's long-term identity key.
    pub identity: RsaId,
    /// The digest of the signing key.
    pub signing_key: RsaId,
    /// The signature itself.
    pub signature: Vec<u8>,
}

impl DirectorySignature {
    /// Signs a digest with an authority's signing key.
    ///
    /// `digest` is that of the whole document before the signatures and of the first one's
    /// keyword and space ([`super::SIGNATURE_KEYWORD`]).
    pub fn sign(
        algorithm: DigestAlgorithm,
        digest: &[u8],
        identity: RsaId,
        key: &rsa::Keypair,
    ) -> Self {
        let signing_key = key.public().id();
        Self {
            algorithm,
            identity,
            signing_key,
            signature: key.sign_digest(digest),
        }
    }

    /// Reads the item; `None` if its algorithm is one that nobody here knows (to be skipped).
    pub(crate) fn parse(item: &Item<'_>) -> Result<Option<Self>, ItemError> {
        let (algorithm, at) = match item.args().count() {
            0..=2 => (Some(DigestAlgorithm::Sha1), 0),
            _ => (DigestAlgorithm::from_name(item.arg(0)?), 1),
        };
        let Some(algorithm) = algorithm else {
            return Ok(None);
        };
        Ok(Some(Self::parse_from(item, algorithm, at)?))
    }

    /// Reads identity and key digest from argument `at` on, and the object.
    pub(crate) fn parse_from(
        item: &Item<'_>,
        algorithm: DigestAlgorithm,
        at: usize,
    ) -> Result<Self, ItemError> {
        Ok(Self {
            algorithm,
            identity: item.arg_as(at)?,
            signing_key: item.arg_as(at + 1)?,
            signature: item.object_bytes("SIGNATURE", SIGNATURE_LEN_MAX)?,
        })
    }

    /// Whether this signature is by the certificate's signing key over `digest`.
    pub fn verifies(&self, digest: &[u8], cert: &AuthCert) -> bool {
        cert.signing_key_digest == self.signing_key
            && cert.identity == self.identity
            && cert
                .signing_key
                .verify_digest(digest, &self.signature)
                .is_ok()
    }

    /// Writes the item after `keyword` (and the algorithm's word, where it has one).
    pub(crate) fn encode(&self, out: &mut String) {
        out.push_str("directory-signature ");
        if self.algorithm == DigestAlgorithm::Sha256 {
            out.push_str("sha256 ");
        }
        self.encode_tail(out);
    }

    pub(crate) fn encode_tail(&self, out: &mut String) {
        let _ = writeln!(out, "{} {}", self.identity, self.signing_key);
        out.push_str("-----BEGIN SIGNATURE-----\n");
        out.push_str(&encoding::base64_wrapped(&self.signature));
        out.push_str("-----END SIGNATURE-----\n");
    }
}

impl DigestAlgorithm {
    /// The word of `directory-signature` lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    /// The algorithm of a word.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sha1, Self::Sha256]
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }
}

/// Whose signatures of a consensus are good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signers {
    /// Trusted authorities with a good signature.
    pub good: BTreeSet<RsaId>,
    /// Trusted authorities whose signature is wrong.
    pub bad: BTreeSet<RsaId>,
    /// Identity and signing key of trusted authorities for which no certificate is at hand.
    pub missing_certs: BTreeSet<(RsaId, RsaId)>,
    /// Authorities that signed but are not trusted.
    pub unknown: BTreeSet<RsaId>,
}

impl Signers {
    /// Sorts the signatures of one document with the given digests.
    pub(crate) fn check<'a>(
        signatures: impl IntoIterator<Item = &'a DirectorySignature>,
        digest: impl Fn(DigestAlgorithm) -> &'a [u8],
        certs: &[AuthCert],
        trusted: &[RsaId],
        now: SystemTime,
    ) -> Self {
        let mut signers = Self::default();
        for signature in signatures {
            if !trusted.contains(&signature.identity) {
                signers.unknown.insert(signature.identity);
                continue;
            }
            if signers.good.contains(&signature.identity) {
                continue;
            }
            let cert = certs.iter().find(|cert| {
                cert.identity == signature.identity
                    && cert.signing_key_digest == signature.signing_key
                    && now <= cert.expires
            });
            match cert {
                None => {
                    signers
                        .missing_certs
                        .insert((signature.identity, signature.signing_key));
                }
                Some(cert) if signature.verifies(digest(signature.algorithm), cert) => {
                    signers.bad.remove(&signature.identity);
                    signers.good.insert(signature.identity);
                }
                Some(_) => {
                    signers.bad.insert(signature.identity);
                }
            }
        }
        signers
    }

    /// Whether more than half of `authorities` trusted ones signed well (dir-spec 5.1).
    pub fn is_majority(&self, authorities: usize) -> bool {
        self.good.len() > authorities / 2
    }

    /// Whether they would if every certificate that is missing confirmed its signature.
    pub fn could_be_majority(&self, authorities: usize) -> bool {
        let missing: BTreeSet<RsaId> = self.missing_certs.iter().map(|(id, _)| *id).collect();
        missing.union(&self.good).count() > authorities / 2
    }
}
