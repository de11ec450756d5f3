//! The client's side of a hop's handshake: CREATE_FAST, ntor and ntor-v3 (tor-spec 5.1; proposal
//! 332 for the extension list of ntor-v3).
//!
//! A [`HopSpec`] says how to reach a hop and which keys it must prove. [`begin`] gives what the
//! CREATE2 or EXTEND2 carries, [`ClientHandshake::finish`] takes the reply, by value, and gives the
//! keys. We ask for no extension, so that a grant of congestion control fails the hop.
//!
//! ```text
//! extension list:  count u8 | (type u8 | length u8 | body (length)) (count)
//! ```

use cepa_crypto::ntor::NtorError;
use cepa_crypto::ntor_v3::{self, NtorV3Error};
use cepa_crypto::{Ed25519Id, KeyStream, Rng, RsaId, curve25519, fast, ntor};
use cepa_wire::Reader;
use cepa_wire::cell::{self, CellBuf, CircId, Command};
use cepa_wire::create::{Create2, CreateFast, HandshakeType};
use cepa_wire::linkspec::LinkSpecifiers;

/// A list of no extensions. An empty message would be refused.
const NO_EXTENSIONS: &[u8] = &[0];
/// The extension that grants congestion control (proposal 324).
const EXTENSION_CC_GRANTED: u8 = 2;

/// The keys that a hop must prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HopKey {
    /// None: the first hop, when no onion key of it is known (tor-spec 5.1.5).
    Fast,
    /// Plain ntor.
    Ntor {
        /// Its RSA identity.
        rsa: RsaId,
        /// Its ntor onion key.
        onion_key: curve25519::PublicKey,
    },
    /// ntor-v3, for relays with subprotocol Relay=4.
    NtorV3 {
        /// Its Ed25519 identity.
        ed: Ed25519Id,
        /// Its ntor onion key.
        onion_key: curve25519::PublicKey,
    },
}

/// One hop to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HopSpec {
    /// Where it is and who it must be, for EXTEND2; not looked at for the first hop, to which the
    /// channel leads.
    pub link_specifiers: LinkSpecifiers,
    /// The keys that it must prove.
    pub key: HopKey,
}

/// Why a hop's handshake failed; the circuit is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// CREATE_FAST beyond the first hop.
    #[error("CREATE_FAST only reaches the first hop")]
    FastExtend,
    /// The reply is of another kind than what was asked.
    #[error("a reply to another handshake")]
    OtherKind,
    /// The hop did not prove its key.
    #[error("CREATED_FAST does not verify")]
    Fast,
    /// The hop did not prove its key.
    #[error(transparent)]
    Ntor(#[from] NtorError),
    /// The hop did not prove its key, or what we know of it is no key.
    #[error(transparent)]
    NtorV3(#[from] NtorV3Error),
    /// The hop's ntor-v3 message is no extension list.
    #[error("malformed extension list in an ntor-v3 reply")]
    Extensions,
    /// Congestion control was granted without being asked for.
    #[error("congestion control granted unasked")]
    UnaskedExtension,
}

/// What a client keeps until the hop's reply comes.
pub enum ClientHandshake {
    /// CREATE_FAST.
    Fast(fast::ClientState),
    /// ntor.
    Ntor(ntor::ClientState),
    /// ntor-v3.
    NtorV3(Box<ntor_v3::ClientState>),
}

impl std::fmt::Debug for ClientHandshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ClientHandshake::Fast(_) => "ClientHandshake::Fast",
            ClientHandshake::Ntor(_) => "ClientHandshake::Ntor",
            ClientHandshake::NtorV3(_) => "ClientHandshake::NtorV3",
        })
    }
}

/// The client's half of a handshake.
#[derive(Debug)]
pub struct Begun {
    /// What waits for the reply.
    pub state: ClientHandshake,
    /// Which handshake.
    pub handshake_type: HandshakeType,
    /// The onionskin; 20 to 129 bytes.
    pub data: Vec<u8>,
}

/// Begins a handshake.
pub fn begin(key: &HopKey, rng: &mut Rng) -> Result<Begun, HandshakeError> {
    let (state, handshake_type, data) = match key {
        HopKey::Fast => {
            let (state, x) = fast::client_start(rng);
            (
                ClientHandshake::Fast(state),
                HandshakeType::FAST,
                x.to_vec(),
            )
        }
        HopKey::Ntor { rsa, onion_key } => {
            let (state, skin) = ntor::client_start(rng, rsa, onion_key);
            (
                ClientHandshake::Ntor(state),
                HandshakeType::NTOR,
                skin.to_vec(),
            )
        }
        HopKey::NtorV3 { ed, onion_key } => {
            let verification = ntor_v3::CIRCUIT_VERIFICATION;
            let (state, skin) =
                ntor_v3::client_start(rng, ed, onion_key, NO_EXTENSIONS, verification)?;
            (
                ClientHandshake::NtorV3(Box::new(state)),
                HandshakeType::NTOR_V3,
                skin,
            )
        }
    };
    Ok(Begun {
        state,
        handshake_type,
        data,
    })
}

/// Begins the handshake with a first hop: fills the CREATE2 or CREATE_FAST cell.
pub fn begin_first(
    key: &HopKey,
    circ_id: CircId,
    cell: &mut CellBuf,
    rng: &mut Rng,
) -> Result<ClientHandshake, HandshakeError> {
    let Begun {
        state,
        handshake_type,
        data,
    } = begin(key, rng)?;
    if let (HopKey::Fast, Ok(x)) = (key, <[u8; 20]>::try_from(data.as_slice())) {
        cell::set_header(cell, circ_id, Command::CREATE_FAST);
        CreateFast { x }.write(cell::payload_mut(cell));
    } else {
        cell::set_header(cell, circ_id, Command::CREATE2);
        let create = Create2 {
            handshake_type,
            data: &data,
        };
        create
            .write(cell::payload_mut(cell))
            .expect("our onionskins fit a cell");
    }
    Ok(state)
}

impl ClientHandshake {
    /// Takes the reply of CREATED2 or EXTENDED2: the keys of the hop.
    pub fn finish(self, reply: &[u8]) -> Result<KeyStream, HandshakeError> {
        match self {
            ClientHandshake::Fast(_) => Err(HandshakeError::OtherKind),
            ClientHandshake::Ntor(state) => Ok(state.finish(reply)?),
            ClientHandshake::NtorV3(state) => {
                let (message, keys) = state.finish(reply)?;
                check_extensions(&message)?;
                Ok(keys)
            }
        }
    }

    /// Takes the `Y` and `KH` of CREATED_FAST: the keys of the hop.
    pub fn finish_fast(self, y: &[u8; 20], kh: &[u8; 20]) -> Result<KeyStream, HandshakeError> {
        match self {
            ClientHandshake::Fast(state) => state.finish(y, kh).map_err(|_| HandshakeError::Fast),
            _ => Err(HandshakeError::OtherKind),
        }
    }
}

/// Checks the extensions of a relay's ntor-v3 message: well-formed, and no congestion control.
/// Unknown ones and bytes after the list are ignored.
fn check_extensions(message: &[u8]) -> Result<(), HandshakeError> {
    let mut r = Reader::new(message);
    let malformed = |_| HandshakeError::Extensions;
    for _ in 0..r.u8().map_err(malformed)? {
        let kind = r.u8().map_err(malformed)?;
        let len = r.u8().map_err(malformed)?;
        r.take(len.into()).map_err(malformed)?;
        if kind == EXTENSION_CC_GRANTED {
            return Err(HandshakeError::UnaskedExtension);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply_with(message: &[u8]) -> Result<(), HandshakeError> {
        let mut rng = Rng::from_seed([5; 32]);
        let onion = curve25519::SecretKey::generate(&mut rng);
        let ed = Ed25519Id::from([8; 32]);
        let key = HopKey::NtorV3 {
            ed,
            onion_key: *onion.public(),
        };
        let begun = begin(&key, &mut rng).unwrap();
        assert_eq!(begun.handshake_type, HandshakeType::NTOR_V3);
        let request =
            ntor_v3::server(&begun.data, &ed, &[onion], ntor_v3::CIRCUIT_VERIFICATION).unwrap();
        assert_eq!(request.message(), [0]);
        let (reply, theirs) = request.reply(&mut rng, message).unwrap();
        let ours = begun.state.finish(&reply)?;
        assert_eq!(ours.prefix(), theirs.prefix());
        Ok(())
    }

    #[test]
    fn extension_lists() {
        assert_eq!(reply_with(&[0]), Ok(()));
        assert_eq!(reply_with(&[1, 9, 2, 0, 0]), Ok(()));
        assert_eq!(reply_with(&[]), Err(HandshakeError::Extensions));
        assert_eq!(reply_with(&[1, 9, 2, 0]), Err(HandshakeError::Extensions));
        assert_eq!(
            reply_with(&[1, 2, 1, 31]),
            Err(HandshakeError::UnaskedExtension)
        );
    }

    #[test]
    fn replies_of_another_kind() {
        let mut rng = Rng::from_seed([6; 32]);
        let fast = begin(&HopKey::Fast, &mut rng).unwrap().state;
        assert_eq!(
            fast.finish(&[0; 64]).unwrap_err(),
            HandshakeError::OtherKind
        );
        let onion_key = *curve25519::SecretKey::generate(&mut rng).public();
        let key = HopKey::Ntor {
            rsa: RsaId::from([1; 20]),
            onion_key,
        };
        let ntor = begin(&key, &mut rng).unwrap().state;
        assert_eq!(
            ntor.finish_fast(&[0; 20], &[0; 20]).unwrap_err(),
            HandshakeError::OtherKind
        );
        let ntor = begin(&key, &mut rng).unwrap().state;
        assert!(matches!(
            ntor.finish(&[9; 64]),
            Err(HandshakeError::Ntor(_))
        ));
    }
}
