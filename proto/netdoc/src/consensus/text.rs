//! A consensus as it was received: its exact bytes, its digests and what it says.
//!
//! The signed part runs from the start through the first signature's keyword and the space behind
//! it (dir-spec 3.4.1). Its SHA3-256 names the document as a base of diffs (prop 140), so that the
//! same consensus with other signatures is the same base; a diff's target is named by the
//! SHA3-256 of all of its bytes.

use std::sync::Arc;
use std::time::SystemTime;

use cepa_crypto::{RsaId, digest};

use crate::authcert::AuthCert;
use crate::consensus::signature::Signers;
use crate::consensus::{Consensus, DigestAlgorithm, StatusError, parse};

/// What is signed after the document itself: the first signature's keyword and one space.
pub const SIGNATURE_KEYWORD: &str = "directory-signature ";

/// A parsed consensus with its bytes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ConsensusText {
    text: Arc<str>,
    signed_end: usize,
    sha1: [u8; 20],
    sha256: [u8; 32],
    consensus: Arc<Consensus>,
}

impl ConsensusText {
    /// Reads a consensus of either flavour. Nothing is checked but its form.
    ///
    /// # Errors
    /// [`StatusError`] for whatever `tor` refuses too.
    pub fn parse(text: impl Into<Arc<str>>) -> Result<Self, StatusError> {
        let text = text.into();
        let (consensus, signed_end) = parse::parse(&text)?;
        let signed = text.as_bytes().get(..signed_end).unwrap_or_default();
        Ok(Self {
            signed_end,
            sha1: digest::sha1(signed),
            sha256: digest::sha256(signed),
            consensus: Arc::new(consensus),
            text,
        })
    }

    /// The consensus as it was read.
    pub fn consensus(&self) -> &Arc<Consensus> {
        &self.consensus
    }

    /// The whole document, byte for byte, signatures included.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// The bytes that are signed.
    pub fn signed_text(&self) -> &str {
        self.text.get(..self.signed_end).unwrap_or_default()
    }

    /// SHA-1 of the signed part: what detached signatures name the consensus by.
    pub fn sha1(&self) -> &[u8; 20] {
        &self.sha1
    }

    /// SHA-256 of the signed part.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// The digest of the signed part that a signature of this algorithm is over.
    pub fn signed_digest(&self, algorithm: DigestAlgorithm) -> &[u8] {
        match algorithm {
            DigestAlgorithm::Sha1 => &self.sha1,
            DigestAlgorithm::Sha256 => &self.sha256,
        }
    }

    /// SHA3-256 of the signed part: the name of this consensus as a base of diffs, the value of
    /// the header `X-Or-Diff-From-Consensus`.
    pub fn diff_base_digest(&self) -> [u8; 32] {
        digest::sha3_256(self.signed_text().as_bytes())
    }

    /// Checks every signature against the certificates at hand.
    ///
    /// `trusted` are the v3 identities of the authorities that the network has; a consensus is to
    /// be believed if [`Signers::is_majority`] of their number.
    pub fn signers(&self, certs: &[AuthCert], trusted: &[RsaId], now: SystemTime) -> Signers {
        let digest = |algorithm| self.signed_digest(algorithm);
        // A weaker digest than the flavour's own does not count.
        let enough = self.consensus.flavour.digest_algorithm();
        let signatures = self
            .consensus
            .signatures
            .iter()
            .filter(|one| one.algorithm >= enough);
        Signers::check(signatures, digest, certs, trusted, now)
    }
}
