//! The two signatures at the end of server descriptors and extra-info documents, and the
//! certificate at their start (dir-spec.txt section 2.1.1; cert-spec.txt).
//!
//! `router-sig-ed25519` signs SHA-256 of a prefix and the text through the space behind its own
//! keyword; `router-signature` signs SHA-1 of the text through its own line. The first is made
//! with the key that the certificate of type 4 certifies, which must stand in second position.

use cepa_crypto::ed25519::{self, BatchItem};
use cepa_crypto::{Ed25519Id, digest, encoding, rsa};
use cepa_wire::cert::{CertType, UnverifiedCert};

use super::DescriptorError;
use crate::item::Section;
use crate::pem;

const ED25519_PREFIX: &[u8] = b"Tor router descriptor signature v1";
const IDENTITY: &str = "identity-ed25519";
const ED25519_SIGNATURE: &str = "router-sig-ed25519";
const RSA_SIGNATURE: &str = "router-signature";

/// What a document is signed with, read and found to be in its place, but not verified.
#[derive(Debug)]
pub(crate) struct RouterSignatures {
    /// The certificate of the signing key, as bytes.
    pub(crate) cert_bytes: Vec<u8>,
    /// The same, read.
    pub(crate) cert: UnverifiedCert,
    /// The master identity that the certificate names.
    pub(crate) master: Ed25519Id,
    /// SHA-1 of the part that the RSA key signs.
    pub(crate) sha1: [u8; 20],
    /// SHA-256 of the same part.
    pub(crate) sha256: [u8; 32],
    /// Offset behind the last item.
    pub(crate) end: usize,
    ed25519_digest: [u8; 32],
    ed25519_signature: [u8; 64],
    rsa_signature: Vec<u8>,
}

impl RouterSignatures {
    /// Finds the certificate and the signatures of a document.
    pub(crate) fn read(section: &Section<'_>) -> Result<Self, DescriptorError> {
        let start = section.items.first().map_or(0, |item| item.start);
        let cert_bytes = pem::ed25519_cert(section.required_at(1, IDENTITY)?, pem::ED25519_CERT)?;
        let bad_cert = |error| DescriptorError::BadCert(IDENTITY, error);
        let cert = UnverifiedCert::parse(&cert_bytes).map_err(bad_cert)?;
        let cert = cert.expecting(CertType::ID_SIGNING).map_err(bad_cert)?;
        let master = cert.signer(None).map_err(bad_cert)?;

        let ed25519 = section.required_from_end(1, ED25519_SIGNATURE)?;
        let signed = ed25519
            .through_space(section.text, start)
            .ok_or_else(|| ed25519.bad_argument(0))?;
        let ed25519_signature =
            encoding::base64_array(ed25519.arg(0)?).ok_or_else(|| ed25519.bad_argument(0))?;
        let rsa = section.required_from_end(0, RSA_SIGNATURE)?;
        let rsa_signed = rsa.through_line(section.text, start).unwrap_or_default();
        Ok(Self {
            cert_bytes,
            cert,
            master,
            sha1: digest::sha1(rsa_signed.as_bytes()),
            sha256: digest::sha256(rsa_signed.as_bytes()),
            end: rsa.end,
            ed25519_digest: ed25519_digest(signed),
            ed25519_signature,
            rsa_signature: pem::signature(rsa)?,
        })
    }

    /// Verifies the certificate, the Ed25519 signature and what else is to be verified with
    /// Ed25519 keys, all at once.
    pub(crate) fn verify_ed25519(&self, others: &[BatchItem<'_>]) -> Result<(), DescriptorError> {
        let mut batch = vec![
            batch_item(&self.cert, self.master),
            BatchItem {
                key: ed25519::PublicKey::from(self.cert.unchecked().ed25519_key()),
                message: &self.ed25519_digest,
                signature: self.ed25519_signature,
            },
        ];
        batch.extend_from_slice(others);
        ed25519::verify_batch(&batch).map_err(|_| DescriptorError::BadSignature(ED25519_SIGNATURE))
    }

    /// Verifies the RSA signature.
    pub(crate) fn verify_rsa(&self, key: &rsa::PublicKey) -> Result<(), DescriptorError> {
        (key.verify_digest(&self.sha1, &self.rsa_signature))
            .map_err(|_| DescriptorError::BadSignature(RSA_SIGNATURE))
    }
}

/// The signature of a certificate, to be verified with others.
pub(super) fn batch_item(cert: &UnverifiedCert, signer: Ed25519Id) -> BatchItem<'_> {
    BatchItem {
        key: ed25519::PublicKey::from(signer),
        message: cert.signed(),
        signature: *cert.signature(),
    }
}

fn ed25519_digest(signed: &str) -> [u8; 32] {
    let mut running = digest::Sha256Running::new();
    running.update(ED25519_PREFIX);
    running.update(signed.as_bytes());
    running.finish()
}

/// Signs a document that lacks only its signatures.
pub(crate) fn append_signatures(
    text: &mut String,
    signing: &ed25519::ExpandedKeypair,
    identity: &rsa::Keypair,
) {
    text.push_str(ED25519_SIGNATURE);
    text.push(' ');
    let signature = signing.sign(&ed25519_digest(text));
    text.push_str(&encoding::base64_unpadded(&signature));
    text.push('\n');
    text.push_str(RSA_SIGNATURE);
    text.push('\n');
    let signature = identity.sign_digest(&digest::sha1(text.as_bytes()));
    text.push_str(&pem::encode(pem::SIGNATURE, &signature));
}
