//! AUTH_CHALLENGE and AUTHENTICATE: a relay that opens a channel proves who it is (tor-spec 4.3,
//! 4.4.2).
//!
//! ```text
//! AUTH_CHALLENGE: challenge 32 | count 2 | method 2 (count) | ignored
//! AUTHENTICATE:   type 2 (3) | length 2 | authentication (length) | ignored
//! authentication: "AUTH0003" | CID | SID | CID_ED | SID_ED | SLOG | CLOG | SCERT | TLSSECRETS
//!                 (32 each) | RAND 24 | ignored but signed | SIG 64
//! ```
//!
//! Only type 3 (Ed25519-SHA256-RFC5705) is left. A reader compares the eight values of
//! [`Binding`] with its own and checks the signature over all that stands before it.

use cepa_crypto::Ed25519Id;
use cepa_crypto::digest::ct_eq;

use crate::reader::{Reader, Truncated};
use crate::writer::{TooLong, Writer};

/// The authentication type that today's peers speak: Ed25519-SHA256-RFC5705.
pub const AUTH_ED25519: u16 = 3;
/// The label of the TLS exporter that gives TLSSECRETS (tor-spec 4.4.2); the context is CID_ED.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER FOR TOR TLS CLIENT BINDING AUTH0003";
/// Most methods that are read of an AUTH_CHALLENGE cell; only three were ever defined.
pub const METHODS_MAX: usize = 64;
/// The TYPE field.
const TYPE: &[u8; 8] = b"AUTH0003";
const SIGNATURE_LEN: usize = 64;

/// The body of an AUTH_CHALLENGE cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthChallenge {
    /// Random bytes of the responder's; they enter the answer by way of SLOG.
    pub challenge: [u8; 32],
    /// The authentication types that the responder takes; those past [`METHODS_MAX`] are dropped.
    pub methods: Vec<u16>,
}

impl AuthChallenge {
    /// Reads the body of an AUTH_CHALLENGE cell.
    pub fn read(body: &[u8]) -> Result<Self, Truncated> {
        let mut r = Reader::new(body);
        let challenge = r.array()?;
        let count = r.u16()?;
        let methods = r.take(2 * usize::from(count))?.as_chunks::<2>().0;
        let methods = methods
            .iter()
            .take(METHODS_MAX)
            .map(|pair| u16::from_be_bytes(*pair));
        Ok(AuthChallenge {
            challenge,
            methods: methods.collect(),
        })
    }

    /// Appends the body of an AUTH_CHALLENGE cell. [`TooLong`] beyond [`METHODS_MAX`] methods.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        if self.methods.len() > METHODS_MAX {
            return Err(TooLong);
        }
        let mut w = Writer::new(out);
        w.bytes(&self.challenge);
        w.u16(u16::try_from(self.methods.len()).map_err(|_| TooLong)?);
        self.methods.iter().for_each(|method| w.u16(*method));
        Ok(())
    }
}

/// What an authentication binds together. Both sides compute it; "initiator" opened the channel.
#[derive(Clone, PartialEq, Eq)]
pub struct Binding {
    /// CID: SHA-256 of the initiator's RSA identity key (PKCS#1 DER).
    pub initiator_rsa_sha256: [u8; 32],
    /// SID: SHA-256 of the responder's RSA identity key.
    pub responder_rsa_sha256: [u8; 32],
    /// CID_ED: the initiator's Ed25519 identity.
    pub initiator_ed25519: Ed25519Id,
    /// SID_ED: the responder's Ed25519 identity; zeros if it has none.
    pub responder_ed25519: Ed25519Id,
    /// SLOG: SHA-256 of all bytes that the responder sent, AUTH_CHALLENGE included.
    pub responder_log: [u8; 32],
    /// CLOG: SHA-256 of all bytes that the initiator sent, CERTS included.
    pub initiator_log: [u8; 32],
    /// SCERT: SHA-256 of the responder's TLS certificate (DER).
    pub tls_cert_sha256: [u8; 32],
    /// TLSSECRETS: the TLS exporter's output for [`EXPORTER_LABEL`] and CID_ED.
    pub tls_secrets: [u8; 32],
}

impl Binding {
    /// The signed part of an authentication: TYPE through RAND.
    #[must_use]
    pub fn signed_part(&self, random: &[u8; 24]) -> Vec<u8> {
        let mut out = self.prefix();
        out.extend_from_slice(random);
        out
    }

    /// TYPE through TLSSECRETS.
    fn prefix(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(TYPE.len() + 8 * 32 + 24 + SIGNATURE_LEN);
        let mut w = Writer::new(&mut out);
        w.bytes(TYPE);
        w.bytes(&self.initiator_rsa_sha256);
        w.bytes(&self.responder_rsa_sha256);
        w.bytes(self.initiator_ed25519.as_bytes());
        w.bytes(self.responder_ed25519.as_bytes());
        w.bytes(&self.responder_log);
        w.bytes(&self.initiator_log);
        w.bytes(&self.tls_cert_sha256);
        w.bytes(&self.tls_secrets);
        out
    }
}

/// Why an AUTHENTICATE cell is refused; the channel is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticateError {
    /// It ends too early.
    #[error("AUTHENTICATE: {0}")]
    Truncated(#[from] Truncated),
    /// An authentication type other than [`AUTH_ED25519`].
    #[error("AUTHENTICATE of type {0}")]
    Type(u16),
}

/// The body of an AUTHENTICATE cell of type 3, borrowed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Authenticate<'a> {
    /// All that is signed: TYPE through RAND, and whatever the sender added.
    pub signed: &'a [u8],
    /// The signature over it, by the key of the type 6 certificate.
    pub signature: [u8; SIGNATURE_LEN],
}

impl<'a> Authenticate<'a> {
    /// Reads the body of an AUTHENTICATE cell; neither the values nor the signature are checked.
    pub fn read(body: &'a [u8]) -> Result<Self, AuthenticateError> {
        let mut r = Reader::new(body);
        let kind = r.u16()?;
        if kind != AUTH_ED25519 {
            return Err(AuthenticateError::Type(kind));
        }
        let len = r.u16()?;
        let authentication = r.take(len.into())?;
        let (signed, signature) = authentication.split_last_chunk().ok_or(Truncated)?;
        Ok(Authenticate {
            signed,
            signature: *signature,
        })
    }

    /// Whether TYPE through TLSSECRETS are exactly those of `expected`, and a RAND follows.
    #[must_use]
    pub fn is_bound_to(&self, expected: &Binding) -> bool {
        let expected = expected.prefix();
        let random = self.signed.len().checked_sub(expected.len());
        random.is_some_and(|len| len >= 24)
            && self
                .signed
                .get(..expected.len())
                .is_some_and(|got| ct_eq(got, &expected))
    }

    /// Appends the body of an AUTHENTICATE cell.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let len = u16::try_from(self.signed.len() + SIGNATURE_LEN).map_err(|_| TooLong)?;
        let mut w = Writer::new(out);
        w.u16(AUTH_ED25519);
        w.u16(len);
        w.bytes(self.signed);
        w.bytes(&self.signature);
        Ok(())
    }
}
