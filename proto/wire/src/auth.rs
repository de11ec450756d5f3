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
    /// The cell ends too early.
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

#[cfg(test)]
mod tests {
    use super::*;
    use cepa_crypto::ed25519::Keypair;
    use hex_literal::hex;
    use proptest::prelude::*;

    fn binding(seed: u8) -> Binding {
        Binding {
            initiator_rsa_sha256: [seed; 32],
            responder_rsa_sha256: [2; 32],
            initiator_ed25519: [3; 32].into(),
            responder_ed25519: [4; 32].into(),
            responder_log: [5; 32],
            initiator_log: [6; 32],
            tls_cert_sha256: [7; 32],
            tls_secrets: [8; 32],
        }
    }

    /// Captured from a C tor 0.4.5 test network (as published with Arti).
    #[test]
    fn captured_challenge() {
        let body =
            hex!("00DA5C085DEE4F3656710DA3B73652E48ACD5BAE608335FCA3FB6C4DEE104A51 0002 0001 0003");
        let challenge = AuthChallenge::read(&body).unwrap();
        assert_eq!(challenge.methods, [1, AUTH_ED25519]);
        let mut out = Vec::new();
        challenge.write(&mut out).unwrap();
        assert_eq!(out, body);
        for len in 0..body.len() {
            assert_eq!(AuthChallenge::read(&body[..len]), Err(Truncated));
        }
    }

    #[test]
    fn methods_are_bounded() {
        let mut body = vec![0; 32];
        body.extend(1000_u16.to_be_bytes());
        body.extend([0, 3].repeat(1000));
        let mut challenge = AuthChallenge::read(&body).unwrap();
        assert_eq!(challenge.methods.len(), METHODS_MAX);
        challenge.methods.push(3);
        assert_eq!(challenge.write(&mut Vec::new()), Err(TooLong));
    }

    #[test]
    fn signed_sent_and_checked() {
        let key = Keypair::from_seed(&[9; 32]);
        let binding = binding(1);
        let signed = binding.signed_part(&[10; 24]);
        assert_eq!(signed.len(), 288);
        let sent = Authenticate {
            signed: &signed,
            signature: key.sign(&signed),
        };
        let mut body = Vec::new();
        sent.write(&mut body).unwrap();
        assert_eq!(body[..12], *b"\x00\x03\x01\x60AUTH0003");

        let got = Authenticate::read(&body).unwrap();
        assert!(got == sent && got.is_bound_to(&binding));
        assert!(!got.is_bound_to(&super::tests::binding(2)));
        assert!(key.public().verify(got.signed, &got.signature).is_ok());
        for len in 0..body.len() {
            let error = Err(AuthenticateError::Truncated(Truncated));
            assert_eq!(Authenticate::read(&body[..len]).map(|_| ()), error);
        }
        body[1] = 1;
        let error = Err(AuthenticateError::Type(1));
        assert_eq!(Authenticate::read(&body).map(|_| ()), error);
    }

    #[test]
    fn random_part_may_grow_but_not_be_cut() {
        let binding = binding(1);
        let bound = |len: usize| {
            let signed = [&binding.prefix()[..], &vec![0; len]].concat();
            Authenticate {
                signed: &signed,
                signature: [0; 64],
            }
            .is_bound_to(&binding)
        };
        assert!(bound(24) && bound(100));
        assert!(!bound(23) && !bound(0));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(body in prop::collection::vec(any::<u8>(), 0..500)) {
            let _ = AuthChallenge::read(&body);
            if let Ok(got) = Authenticate::read(&body) {
                prop_assert!(!got.is_bound_to(&binding(1)));
            }
        }
    }
}
