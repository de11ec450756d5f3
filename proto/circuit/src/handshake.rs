//! The client's side of a hop's handshake: CREATE_FAST, ntor and ntor-v3 (tor-spec 5.1; proposal
//! 332 for the extension list of ntor-v3).
//!
//! A [`HopSpec`] says how to reach a hop, which keys it must prove, and whether congestion control
//! is asked for, and CGO with it, which only ntor-v3 can do. [`begin`] gives what the CREATE2 or
//! EXTEND2 carries, [`ClientHandshake::finish`] takes the reply, by value, and gives the keys and
//! what was agreed on. A hop that was asked for congestion control and grants nothing is used with
//! fixed windows, but not with CGO, of whose consent a reply says nothing else; one that grants
//! what it was not asked for, or a `sendme_inc` far from the consensus's, fails.

use std::sync::Arc;

use cepa_crypto::layer::Cipher;
use cepa_crypto::ntor::NtorError;
use cepa_crypto::ntor_v3::{self, NtorV3Error};
use cepa_crypto::{Ed25519Id, KeyStream, Rng, RsaId, curve25519, fast, ntor};
use cepa_wire::cell::{self, CellBuf, CircId, Command};
use cepa_wire::create::{Create2, CreateFast, HandshakeType};
use cepa_wire::linkspec::LinkSpecifiers;

use crate::congestion::{Congestion, CongestionParams, CongestionPath};
use crate::extensions::{Grant, Request};

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
    /// Ask for congestion control; without ntor-v3 it is not asked for.
    pub congestion: Option<CongestionRequest>,
}

/// What to ask a hop for with congestion control; CGO is never without it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CongestionRequest {
    /// The parameters of congestion control.
    pub params: Arc<CongestionParams>,
    /// The cipher to use with it.
    pub cipher: Cipher,
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
    /// CGO was asked for, and congestion control, which comes with it, was not granted.
    #[error("CGO without congestion control")]
    NoCongestion,
    /// Congestion control was granted with SENDMEs too far from the consensus's.
    #[error("congestion control granted with a SENDME for {0} cells")]
    SendmeIncrement(u8),
}

/// What a client keeps until the hop's reply comes.
pub enum ClientHandshake {
    /// CREATE_FAST.
    Fast(fast::ClientState),
    /// ntor.
    Ntor(ntor::ClientState),
    /// ntor-v3, and the congestion control asked for.
    NtorV3(Box<ntor_v3::ClientState>, Option<CongestionRequest>),
}

impl std::fmt::Debug for ClientHandshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ClientHandshake::Fast(_) => "ClientHandshake::Fast",
            ClientHandshake::Ntor(_) => "ClientHandshake::Ntor",
            ClientHandshake::NtorV3(..) => "ClientHandshake::NtorV3",
        })
    }
}

/// The client's half of a handshake.
#[derive(Debug)]
pub struct Begun {
    /// The state of the handshake, which waits for the hop's reply.
    pub state: ClientHandshake,
    /// The kind of handshake that was begun.
    pub handshake_type: HandshakeType,
    /// The onionskin; 20 to 129 bytes.
    pub data: Vec<u8>,
}

/// Begins a handshake.
pub fn begin(hop: &HopSpec, rng: &mut Rng) -> Result<Begun, HandshakeError> {
    let (state, handshake_type, data) = match &hop.key {
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
            let message = Request::message(hop.congestion.as_ref().map(|asked| asked.cipher));
            let (state, skin) = ntor_v3::client_start(rng, ed, onion_key, message, verification)?;
            (
                ClientHandshake::NtorV3(Box::new(state), hop.congestion.clone()),
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
    hop: &HopSpec,
    circ_id: CircId,
    cell: &mut CellBuf,
    rng: &mut Rng,
) -> Result<ClientHandshake, HandshakeError> {
    let Begun {
        state,
        handshake_type,
        data,
    } = begin(hop, rng)?;
    if let (HopKey::Fast, Ok(x)) = (&hop.key, <[u8; 20]>::try_from(data.as_slice())) {
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
    /// Takes the reply of CREATED2 or EXTENDED2: the keys of the hop, and what was agreed on.
    pub fn finish(self, reply: &[u8]) -> Result<(KeyStream, Agreed), HandshakeError> {
        match self {
            ClientHandshake::Fast(_) => Err(HandshakeError::OtherKind),
            ClientHandshake::Ntor(state) => Ok((state.finish(reply)?, Agreed::default())),
            ClientHandshake::NtorV3(state, asked) => {
                let (message, keys) = state.finish(reply)?;
                Ok((keys, agreed(&message, asked)?))
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

/// What the two ends have agreed on by a handshake that is done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Agreed {
    /// The hop's cipher.
    pub cipher: Cipher,
    /// The hop's congestion control, if it has any.
    pub congestion: Option<Congestion>,
}

/// What a relay's ntor-v3 message agrees to, of what was asked.
fn agreed(message: &[u8], asked: Option<CongestionRequest>) -> Result<Agreed, HandshakeError> {
    let grant = Grant::read(message).map_err(|_| HandshakeError::Extensions)?;
    let (cells, CongestionRequest { params, cipher }) = match (grant.sendme_inc_cells, asked) {
        (None, Some(asked)) if asked.cipher == Cipher::Cgo => {
            return Err(HandshakeError::NoCongestion);
        }
        (None, _) => return Ok(Agreed::default()),
        (Some(_), None) => return Err(HandshakeError::UnaskedExtension),
        (Some(cells), Some(asked)) => (cells, asked),
    };
    if !params.accepts_sendme_inc(cells) {
        return Err(HandshakeError::SendmeIncrement(cells));
    }
    let congestion = Some(Congestion {
        params,
        sendme_inc_cells: cells,
        path: CongestionPath::Exit,
    });
    Ok(Agreed { cipher, congestion })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKS: [Option<Cipher>; 3] = [None, Some(Cipher::Tor1), Some(Cipher::Cgo)];

    fn hop(key: HopKey, asks: Option<Cipher>) -> HopSpec {
        let rsa = RsaId::from([1; 20]);
        HopSpec {
            link_specifiers: LinkSpecifiers::new(None, rsa, None, None),
            key,
            congestion: asks.map(|cipher| CongestionRequest {
                params: Arc::default(),
                cipher,
            }),
        }
    }

    fn reply_with(message: &[u8], asks: Option<Cipher>) -> Result<Agreed, HandshakeError> {
        let mut rng = Rng::from_seed([5; 32]);
        let onion = curve25519::SecretKey::generate(&mut rng);
        let ed = Ed25519Id::from([8; 32]);
        let key = HopKey::NtorV3 {
            ed,
            onion_key: *onion.public(),
        };
        let begun = begin(&hop(key, asks), &mut rng).unwrap();
        assert_eq!(begun.handshake_type, HandshakeType::NTOR_V3);
        let request =
            ntor_v3::server(&begun.data, &ed, &[onion], ntor_v3::CIRCUIT_VERIFICATION).unwrap();
        assert_eq!(request.message(), Request::message(asks));
        let (reply, theirs) = request.reply(&mut rng, message).unwrap();
        let (ours, agreed) = begun.state.finish(&reply)?;
        assert_eq!(ours.prefix(), theirs.prefix());
        Ok(agreed)
    }

    #[test]
    fn extension_lists() {
        for asks in ASKS {
            let nothing = match asks {
                Some(Cipher::Cgo) => Err(HandshakeError::NoCongestion),
                _ => Ok(Agreed::default()),
            };
            assert_eq!(reply_with(&[0], asks), nothing);
            assert_eq!(reply_with(&[1, 9, 2, 0, 0], asks), nothing);
            assert_eq!(reply_with(&[], asks), Err(HandshakeError::Extensions));
            assert_eq!(
                reply_with(&[1, 9, 2, 0], asks),
                Err(HandshakeError::Extensions)
            );
        }
        assert_eq!(
            reply_with(&[1, 2, 1, 31], None),
            Err(HandshakeError::UnaskedExtension)
        );
    }

    #[test]
    fn grants_near_the_consensus() {
        for (cells, asked) in (0..=255).flat_map(|cells| [(cells, ASKS[1]), (cells, ASKS[2])]) {
            let agreed = reply_with(&[1, 2, 1, cells], asked);
            if (30..=32).contains(&cells) {
                let agreed = agreed.unwrap();
                assert_eq!(agreed.congestion.unwrap().sendme_inc_cells, cells);
                assert_eq!(Some(agreed.cipher), asked);
            } else {
                assert_eq!(agreed, Err(HandshakeError::SendmeIncrement(cells)));
            }
        }
    }

    #[test]
    fn replies_of_another_kind() {
        let mut rng = Rng::from_seed([6; 32]);
        let fast = begin(&hop(HopKey::Fast, ASKS[1]), &mut rng).unwrap().state;
        assert_eq!(
            fast.finish(&[0; 64]).unwrap_err(),
            HandshakeError::OtherKind
        );
        let onion_key = *curve25519::SecretKey::generate(&mut rng).public();
        let key = HopKey::Ntor {
            rsa: RsaId::from([1; 20]),
            onion_key,
        };
        let ntor = begin(&hop(key.clone(), ASKS[1]), &mut rng).unwrap().state;
        assert_eq!(
            ntor.finish_fast(&[0; 20], &[0; 20]).unwrap_err(),
            HandshakeError::OtherKind
        );
        let ntor = begin(&hop(key, ASKS[1]), &mut rng).unwrap().state;
        assert!(matches!(
            ntor.finish(&[9; 64]),
            Err(HandshakeError::Ntor(_))
        ));
    }
}
