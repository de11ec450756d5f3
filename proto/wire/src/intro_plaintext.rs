//! What a visitor tells a service in its INTRODUCE message (rend-spec-v3 3.3; proposal 327 for
//! proof of work, 324 for congestion control).
//!
//! ```text
//! cookie 20 | extensions | onion key type 1 (1: ntor) | length 2 (32) | key 32
//!           | link specifiers | padding
//! ```
//!
//! The link specifiers stay in their order: they go into EXTEND2 as they are. Unknown extensions
//! and padding are ignored. A malformed extension of a known type is an error here, so that no
//! service answers what it did not understand.

use std::fmt;

use cepa_crypto::curve25519;

use crate::extension::{self, Extensions};
use crate::linkspec::{LinkSpecifierError, LinkSpecifiers};
use crate::reader::{Reader, Truncated};
use crate::writer::{TooLong, Writer};

const ONION_KEY_NTOR: u8 = 1;
const ONION_KEY_LEN: u16 = 32;
const EXTENSION_CC_REQUEST: u8 = 1;
const EXTENSION_POW: u8 = 2;
const EXTENSION_SUBPROTOCOLS: u8 = 3;
const POW_V1: u8 = 1;
/// Bytes of a rendezvous cookie.
pub const COOKIE_LEN: usize = 20;

/// Why the plaintext of an INTRODUCE message is refused; it is to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IntroPlaintextError {
    /// The plaintext ends too early.
    #[error("INTRODUCE plaintext: {0}")]
    Truncated(#[from] Truncated),
    /// An onion key that is not ntor's.
    #[error("INTRODUCE with an onion key of type {0}")]
    OnionKeyType(u8),
    /// An ntor onion key of a wrong length.
    #[error("INTRODUCE with an onion key of {0} bytes")]
    OnionKeyLength(u16),
    /// The rendezvous point is not well described.
    #[error("INTRODUCE plaintext: {0}")]
    LinkSpecifiers(#[from] LinkSpecifierError),
    /// An extension of this type is malformed.
    #[error("INTRODUCE with a malformed extension of type {0}")]
    Extension(u8),
}

/// A solved puzzle (proposal 327, scheme 1: Equi-X with Blake2b).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowSolution {
    /// Chosen by the visitor.
    pub nonce: [u8; 16],
    /// How much work the visitor claims to have done.
    pub effort: u32,
    /// The first bytes of the seed that it was for.
    pub seed_head: [u8; 4],
    /// The solution, not verified.
    pub solution: [u8; 16],
}

impl PowSolution {
    /// `None` within for another scheme than the one known.
    fn read(body: &[u8]) -> Result<Option<PowSolution>, Truncated> {
        let mut r = Reader::new(body);
        if r.u8()? != POW_V1 {
            return Ok(None);
        }
        Ok(Some(PowSolution {
            nonce: r.array()?,
            effort: r.u32()?,
            seed_head: r.array()?,
            solution: r.array()?,
        }))
    }

    fn write(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(41);
        let mut w = Writer::new(&mut body);
        w.u8(POW_V1);
        w.bytes(&self.nonce);
        w.u32(self.effort);
        w.bytes(&self.seed_head);
        w.bytes(&self.solution);
        body
    }
}

/// One subprotocol capability that a visitor asks for: protocol and version
/// (proposal 346; experimental).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subprotocol {
    /// Number of the protocol (tor-spec 9: 2 is Relay, 12 FlowCtrl, ...).
    pub protocol: u8,
    /// Its version.
    pub version: u8,
}

/// What a visitor tells a service. `Debug` shows neither the cookie nor the rendezvous point.
#[derive(Clone, PartialEq, Eq)]
pub struct IntroPlaintext {
    /// What the visitor's circuit at the rendezvous point is found by.
    pub cookie: [u8; COOKIE_LEN],
    /// Whether congestion control is wanted on the circuit.
    pub cc_request: bool,
    /// The work that was done for this visit.
    pub pow: Option<PowSolution>,
    /// Subprotocols that the visitor demands; at most 127.
    pub subprotocols: Vec<Subprotocol>,
    /// The ntor key of the rendezvous point.
    pub onion_key: curve25519::PublicKey,
    /// Who and where the rendezvous point is.
    pub link_specifiers: LinkSpecifiers,
}

impl fmt::Debug for IntroPlaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntroPlaintext")
            .field("cc_request", &self.cc_request)
            .field("pow", &self.pow)
            .field("subprotocols", &self.subprotocols)
            .finish_non_exhaustive()
    }
}

impl IntroPlaintext {
    /// Reads what was decrypted.
    pub fn read(plaintext: &[u8]) -> Result<Self, IntroPlaintextError> {
        let mut r = Reader::new(plaintext);
        let cookie = r.array()?;
        let extensions = Extensions::read(&mut r)?;
        let kind = r.u8()?;
        if kind != ONION_KEY_NTOR {
            return Err(IntroPlaintextError::OnionKeyType(kind));
        }
        let len = r.u16()?;
        if len != ONION_KEY_LEN {
            return Err(IntroPlaintextError::OnionKeyLength(len));
        }
        let onion_key = r.array::<32>()?.into();
        let link_specifiers = LinkSpecifiers::read(&mut r)?;
        let pow = extensions.find(EXTENSION_POW).map(PowSolution::read);
        let subprotocols = extensions.find(EXTENSION_SUBPROTOCOLS).unwrap_or_default();
        let (pairs, rest) = subprotocols.as_chunks();
        if !rest.is_empty() {
            return Err(IntroPlaintextError::Extension(EXTENSION_SUBPROTOCOLS));
        }
        Ok(IntroPlaintext {
            cookie,
            cc_request: extensions.find(EXTENSION_CC_REQUEST).is_some(),
            pow: pow
                .transpose()
                .map_err(|_| IntroPlaintextError::Extension(EXTENSION_POW))?
                .flatten(),
            subprotocols: pairs
                .iter()
                .map(|&[protocol, version]| Subprotocol { protocol, version })
                .collect(),
            onion_key,
            link_specifiers,
        })
    }

    /// Appends it, without padding. [`TooLong`] for what does not fit its length fields.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let mut extensions = Vec::new();
        if self.cc_request {
            extensions.push((EXTENSION_CC_REQUEST, Vec::new()));
        }
        if let Some(pow) = &self.pow {
            extensions.push((EXTENSION_POW, pow.write()));
        }
        if !self.subprotocols.is_empty() {
            let pairs = self.subprotocols.iter();
            let body = pairs.flat_map(|s| [s.protocol, s.version]).collect();
            extensions.push((EXTENSION_SUBPROTOCOLS, body));
        }
        let mut w = Writer::new(out);
        w.bytes(&self.cookie);
        extension::write(&extensions, &mut w)?;
        w.u8(ONION_KEY_NTOR);
        w.u16_prefixed(self.onion_key.as_bytes())?;
        self.link_specifiers.write(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linkspec::LinkSpecifier;
    use proptest::prelude::*;

    fn plaintext() -> IntroPlaintext {
        IntroPlaintext {
            cookie: [1; COOKIE_LEN],
            cc_request: true,
            pow: Some(PowSolution {
                nonce: [2; 16],
                effort: 0x0102_0304,
                seed_head: [3; 4],
                solution: [4; 16],
            }),
            subprotocols: vec![Subprotocol {
                protocol: 2,
                version: 6,
            }],
            onion_key: [5; 32].into(),
            link_specifiers: LinkSpecifiers::new(
                "127.0.0.1:5000".parse().ok(),
                [6; 20].into(),
                Some([7; 32].into()),
                "[::1]:5000".parse().ok(),
            ),
        }
    }

    fn written(plaintext: &IntroPlaintext) -> Vec<u8> {
        let mut out = Vec::new();
        plaintext.write(&mut out).unwrap();
        out
    }

    #[test]
    fn extensions_in_ascending_order() {
        let bytes = written(&plaintext());
        assert_eq!(bytes[20..27], [3, 1, 0, 2, 41, 1, 2]);
        assert_eq!(bytes[42..46], [1, 2, 3, 4]);
        assert_eq!(bytes[66..70], [3, 2, 2, 6]);
        assert_eq!(bytes[70..73], [1, 0, 32]);
        assert_eq!(IntroPlaintext::read(&bytes), Ok(plaintext()));
        let padded = [&bytes[..], &[0; 50]].concat();
        assert_eq!(IntroPlaintext::read(&padded), Ok(plaintext()));
        for len in 0..bytes.len() {
            assert!(IntroPlaintext::read(&bytes[..len]).is_err());
        }
    }

    #[test]
    fn each_refusal_has_its_name() {
        let bytes = written(&plaintext());
        let error = |at: usize, value: u8| {
            let mut changed = bytes.clone();
            changed[at] = value;
            IntroPlaintext::read(&changed)
        };
        let key_type = Err(IntroPlaintextError::OnionKeyType(2));
        assert_eq!(error(70, 2), key_type);
        let key_len = Err(IntroPlaintextError::OnionKeyLength(33));
        assert_eq!(error(72, 33), key_len);
        // Another scheme of proof of work is none that we know; a second one is not looked at.
        assert_eq!(error(25, 2).unwrap().pow, None);
        let twice = error(66, 2).unwrap();
        assert_eq!((twice.pow, twice.subprotocols), (plaintext().pow, vec![]));
        // A type that nobody knows.
        assert_eq!(error(23, 0x77).unwrap().pow, None);
        let with = |extension: &[u8]| {
            let head = [&bytes[..20], &[1], extension].concat();
            IntroPlaintext::read(&[&head[..], &bytes[70..]].concat())
        };
        assert_eq!(
            with(&[2, 2, 1, 0]),
            Err(IntroPlaintextError::Extension(EXTENSION_POW))
        );
        assert_eq!(
            with(&[3, 1, 0]),
            Err(IntroPlaintextError::Extension(EXTENSION_SUBPROTOCOLS))
        );
        assert!(with(&[1, 0]).unwrap().cc_request);
        assert!(!with(&[9, 0]).unwrap().cc_request);
    }

    #[test]
    fn the_order_of_link_specifiers_stays() {
        let mut plaintext = plaintext();
        let unknown = LinkSpecifier::Unknown(0x42, vec![1, 2, 3]);
        plaintext.link_specifiers.0.insert(1, unknown);
        plaintext.link_specifiers.0.reverse();
        let read = IntroPlaintext::read(&written(&plaintext)).unwrap();
        assert_eq!(read.link_specifiers, plaintext.link_specifiers);
    }

    proptest! {
        #[test]
        fn written_is_read(
            cookie: [u8; COOKIE_LEN], onion_key: [u8; 32], cc_request: bool,
            pow: Option<([u8; 16], u32, [u8; 4], [u8; 16])>,
            subprotocols in prop::collection::vec(any::<(u8, u8)>(), 0..=127),
        ) {
            let plaintext = IntroPlaintext {
                cookie,
                cc_request,
                pow: pow.map(|(nonce, effort, seed_head, solution)| {
                    PowSolution { nonce, effort, seed_head, solution }
                }),
                subprotocols: subprotocols
                    .into_iter()
                    .map(|(protocol, version)| Subprotocol { protocol, version })
                    .collect(),
                onion_key: onion_key.into(),
                ..plaintext()
            };
            prop_assert_eq!(IntroPlaintext::read(&written(&plaintext)), Ok(plaintext));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = IntroPlaintext::read(&bytes);
            let _ = IntroPlaintext::read(&[&[0; 20][..], &bytes].concat());
            let _ = IntroPlaintext::read(&[&written(&plaintext())[..105], &bytes].concat());
        }
    }
}
