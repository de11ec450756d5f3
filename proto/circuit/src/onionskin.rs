//! The relay's side of CREATE2: from an onionskin to a reply and keys (tor-spec 5.1, proposal 332).
//!
//! [`OnionskinJob::run`] is pure and takes a good part of a millisecond's work off the data path:
//! the shell runs it on other threads. ntor and ntor-v3 are answered; TAP and CREATE_FAST inside
//! CREATE2 are refused. Of ntor-v3's extensions, a wish for congestion control is ignored, as is
//! anything unknown (the reply then is the empty list), and a demand for subprotocols is refused,
//! since none that could be demanded is offered. Every error's consequence is DESTROY, reason 1.

use cepa_crypto::curve25519::SecretKey;
use cepa_crypto::{Ed25519Id, KeyStream, Rng, RsaId, ntor, ntor_v3};
use cepa_wire::Reader;
use cepa_wire::create::{CREATE2_DATA_MAX, Create2, HandshakeType};

/// The string that binds an ntor-v3 handshake to circuits (proposal 332).
const VERIFICATION: &[u8] = b"circuit extend";
/// The extension by which a client demands subprotocols of this circuit.
const EXTENSION_SUBPROTOCOLS: u8 = 3;
/// A list of no extensions: the reply to all that we accept.
const NO_EXTENSIONS: &[u8] = &[0];

/// Why an onionskin is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OnionskinError {
    /// Neither ntor nor ntor-v3.
    #[error("handshake type {0} is not spoken")]
    Type(HandshakeType),
    /// The handshake does not verify, or is for another relay or for a key that is no more.
    #[error("the handshake does not verify")]
    Handshake,
    /// The encrypted message of an ntor-v3 handshake is malformed.
    #[error("malformed extensions")]
    Extensions,
    /// Subprotocols are demanded that we do not offer.
    #[error("subprotocols demanded that are not offered")]
    Subprotocols,
}

/// What a relay answers onionskins with.
#[derive(Debug)]
pub struct OnionKeys {
    /// Its identity, which ntor binds.
    pub rsa: RsaId,
    /// Its identity, which ntor-v3 binds.
    pub ed: Ed25519Id,
    /// Its onion keys: the current one and those of the grace period.
    pub ntor: Vec<SecretKey>,
}

/// An onionskin to be answered.
pub struct OnionskinJob {
    handshake_type: HandshakeType,
    len: u16,
    data: [u8; CREATE2_DATA_MAX],
}

/// The answer to an onionskin.
#[derive(Debug)]
pub struct OnionskinReply {
    /// The handshake data of CREATED2.
    pub data: Vec<u8>,
    /// The keys of the circuit.
    pub keys: KeyStream,
}

impl std::fmt::Debug for OnionskinJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OnionskinJob of type {}", self.handshake_type)
    }
}

impl OnionskinJob {
    /// The job of a CREATE2 cell, if its handshake is one that we answer.
    pub fn new(create: &Create2<'_>) -> Result<Self, OnionskinError> {
        let handshake_type = create.handshake_type;
        if !matches!(handshake_type, HandshakeType::NTOR | HandshakeType::NTOR_V3) {
            return Err(OnionskinError::Type(handshake_type));
        }
        let mut data = [0; CREATE2_DATA_MAX];
        let field = data
            .get_mut(..create.data.len())
            .ok_or(OnionskinError::Handshake)?;
        field.copy_from_slice(create.data);
        let len = u16::try_from(create.data.len()).map_err(|_| OnionskinError::Handshake)?;
        Ok(OnionskinJob {
            handshake_type,
            len,
            data,
        })
    }

    /// Answers the onionskin.
    pub fn run(&self, keys: &OnionKeys, rng: &mut Rng) -> Result<OnionskinReply, OnionskinError> {
        let skin = self.data.get(..usize::from(self.len)).unwrap_or_default();
        if self.handshake_type == HandshakeType::NTOR {
            let (data, stream) = ntor::server(rng, skin, &keys.rsa, &keys.ntor)
                .map_err(|_| OnionskinError::Handshake)?;
            return Ok(OnionskinReply {
                data: data.to_vec(),
                keys: stream,
            });
        }
        let request = ntor_v3::server(skin, &keys.ed, &keys.ntor, VERIFICATION)
            .map_err(|_| OnionskinError::Handshake)?;
        check_extensions(request.message())?;
        let (data, keys) = request
            .reply(rng, NO_EXTENSIONS)
            .map_err(|_| OnionskinError::Handshake)?;
        Ok(OnionskinReply { data, keys })
    }
}

/// Checks the encrypted message of an ntor-v3 onionskin: `N_EXT u8`, then `N_EXT` times
/// `{type u8, length u8, body}`. Order, duplicates and trailing bytes are of no concern.
fn check_extensions(message: &[u8]) -> Result<(), OnionskinError> {
    let malformed = |_| OnionskinError::Extensions;
    let mut r = Reader::new(message);
    for _ in 0..r.u8().map_err(malformed)? {
        let kind = r.u8().map_err(malformed)?;
        let len = r.u8().map_err(malformed)?;
        let body = r.take(len.into()).map_err(malformed)?;
        if kind == EXTENSION_SUBPROTOCOLS && !body.is_empty() {
            return Err(OnionskinError::Subprotocols);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;

    fn keys(rng: &mut Rng) -> OnionKeys {
        let ntor = vec![SecretKey::generate(rng), SecretKey::generate(rng)];
        OnionKeys {
            rsa: RsaId::from([1; 20]),
            ed: Ed25519Id::from([2; 32]),
            ntor,
        }
    }

    fn job(handshake_type: HandshakeType, data: &[u8]) -> OnionskinJob {
        OnionskinJob::new(&Create2 {
            handshake_type,
            data,
        })
        .unwrap()
    }

    #[test]
    fn ntor_with_the_current_and_the_previous_key() {
        let mut rng = Rng::from_seed([1; 32]);
        let keys = keys(&mut rng);
        for key in &keys.ntor {
            let (state, skin) = ntor::client_start(&mut rng, &keys.rsa, key.public());
            let reply = job(HandshakeType::NTOR, &skin)
                .run(&keys, &mut rng)
                .unwrap();
            let client = state.finish(&reply.data).unwrap();
            assert_eq!(client.prefix(), reply.keys.prefix());
        }
        let stranger = SecretKey::generate(&mut rng);
        let (_, skin) = ntor::client_start(&mut rng, &keys.rsa, stranger.public());
        let refused = job(HandshakeType::NTOR, &skin).run(&keys, &mut rng);
        assert_eq!(refused.unwrap_err(), OnionskinError::Handshake);
    }

    /// The table of extensions: message, and whether it is accepted.
    #[test]
    fn ntor_v3_extensions() {
        let mut rng = Rng::from_seed([2; 32]);
        let keys = keys(&mut rng);
        let cases: [(&[u8], Result<(), OnionskinError>); 8] = [
            (&[0], Ok(())),
            (&[1, 1, 0], Ok(())),
            (&[2, 9, 1, 7, 1, 0], Ok(())),
            (&[0, 5, 5, 5], Ok(())),
            (&[1, 3, 0], Ok(())),
            (&[1, 3, 2, 2, 6], Err(OnionskinError::Subprotocols)),
            (&[1, 3, 1, 2], Err(OnionskinError::Subprotocols)),
            (&[2, 1, 0], Err(OnionskinError::Extensions)),
        ];
        for (message, expected) in cases {
            let key = keys.ntor[0].public();
            let (state, skin) =
                ntor_v3::client_start(&mut rng, &keys.ed, key, message, VERIFICATION).unwrap();
            let reply = job(HandshakeType::NTOR_V3, &skin).run(&keys, &mut rng);
            assert_eq!(reply.as_ref().map(|_| ()).map_err(|error| *error), expected);
            if let Ok(reply) = reply {
                let (message, stream) = state.finish(&reply.data).unwrap();
                assert_eq!(message, [0]);
                assert_eq!(stream.prefix(), reply.keys.prefix());
            }
        }
        assert_eq!(check_extensions(&[]), Err(OnionskinError::Extensions));
    }

    #[test]
    fn other_handshakes_are_refused() {
        for handshake_type in [HandshakeType::TAP, HandshakeType::FAST, HandshakeType(4)] {
            let refused = OnionskinJob::new(&Create2 {
                handshake_type,
                data: &[0; 84],
            });
            assert_eq!(refused.unwrap_err(), OnionskinError::Type(handshake_type));
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused(data in proptest::collection::vec(any::<u8>(), 0..=505), v3: bool) {
            let mut rng = Rng::from_seed([3; 32]);
            let keys = keys(&mut rng);
            let kind = if v3 { HandshakeType::NTOR_V3 } else { HandshakeType::NTOR };
            prop_assert!(job(kind, &data).run(&keys, &mut rng).is_err());
            let _ = check_extensions(&data);
        }
    }
}
