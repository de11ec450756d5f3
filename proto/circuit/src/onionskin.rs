//! The relay's side of CREATE2: from an onionskin to a reply and keys (tor-spec 5.1, proposal 332).
//!
//! [`OnionskinJob::run`] is pure and takes a good part of a millisecond's work off the data path:
//! the shell runs it on other threads. ntor and ntor-v3 are answered; TAP and CREATE_FAST inside
//! CREATE2 are refused. Of ntor-v3's extensions, congestion control is granted to all who ask, in
//! whatever position of a circuit (Arti asks every hop that lists FlowCtrl=2, and insists), and so
//! is CGO to who asks for it with congestion control. The reply does not tell of CGO. Every other
//! demand for subprotocols is refused, since none is offered; so is CGO without congestion control,
//! as its cells cannot say a stream-level SENDME. Every error's consequence is DESTROY, reason 1.

use cepa_crypto::curve25519::SecretKey;
use cepa_crypto::layer::Cipher;
use cepa_crypto::{Ed25519Id, KeyStream, Rng, RsaId, ntor, ntor_v3};
use cepa_wire::create::{CREATE2_DATA_MAX, Create2, HandshakeType};

use crate::extensions::{Grant, Request};

/// The string that binds an ntor-v3 handshake to circuits (proposal 332).
const VERIFICATION: &[u8] = b"circuit extend";

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
    sendme_inc_cells: Option<u8>,
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
    /// The cipher of the circuit.
    pub cipher: Cipher,
    /// Congestion control was asked for and granted, with SENDMEs for so many cells.
    pub sendme_inc_cells: Option<u8>,
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
            sendme_inc_cells: None,
            len,
            data,
        })
    }

    /// Congestion control is granted to who asks, with SENDMEs for so many cells; `None`: it is
    /// not, as `cc_alg` is 0.
    #[must_use]
    pub fn granting(mut self, sendme_inc_cells: Option<u8>) -> Self {
        self.sendme_inc_cells = sendme_inc_cells;
        self
    }

    /// The handshake by which the onionskin is to be answered.
    #[must_use]
    pub fn handshake_type(&self) -> HandshakeType {
        self.handshake_type
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
                cipher: Cipher::Tor1,
                sendme_inc_cells: None,
            });
        }
        let request = ntor_v3::server(skin, &keys.ed, &keys.ntor, VERIFICATION)
            .map_err(|_| OnionskinError::Handshake)?;
        let (sendme_inc_cells, cipher) = self.granted(request.message())?;
        let mut message = Vec::new();
        Grant { sendme_inc_cells }.write(&mut message);
        let (data, keys) = request
            .reply(rng, &message)
            .map_err(|_| OnionskinError::Handshake)?;
        Ok(OnionskinReply {
            data,
            keys,
            cipher,
            sendme_inc_cells,
        })
    }

    /// What is granted of what the encrypted message of an ntor-v3 onionskin asks for.
    fn granted(&self, message: &[u8]) -> Result<(Option<u8>, Cipher), OnionskinError> {
        let asked = Request::read(message).map_err(|_| OnionskinError::Extensions)?;
        let sendme_inc_cells = self.sendme_inc_cells.filter(|_| asked.congestion);
        match asked {
            Request { others: true, .. } => Err(OnionskinError::Subprotocols),
            Request { cgo: false, .. } => Ok((sendme_inc_cells, Cipher::Tor1)),
            _ if sendme_inc_cells.is_none() => Err(OnionskinError::Subprotocols),
            _ => Ok((sendme_inc_cells, Cipher::Cgo)),
        }
    }
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

    /// The table of extensions, as `tor` answers them: message, and reply.
    #[test]
    fn ntor_v3_extensions() {
        let mut rng = Rng::from_seed([2; 32]);
        let keys = keys(&mut rng);
        let subprotocols = Err(OnionskinError::Subprotocols);
        type Case = (&'static [u8], Result<&'static [u8], OnionskinError>);
        let cases: [Case; 15] = [
            (&[0], Ok(&[0])),
            (&[1, 1, 0], Ok(&[1, 2, 1, 31])),
            (&[2, 9, 1, 7, 1, 0], Ok(&[1, 2, 1, 31])),
            (&[3, 1, 0, 1, 1, 4, 0, 0], Ok(&[1, 2, 1, 31])),
            (&[0, 5, 5, 5], Ok(&[0])),
            (&[1, 3, 0], Ok(&[0])),
            (&[1, 3, 2, 2, 6], subprotocols),
            (&[2, 1, 0, 3, 2, 2, 6], Ok(&[1, 2, 1, 31])),
            (&[2, 3, 2, 2, 6, 1, 0], Ok(&[1, 2, 1, 31])),
            (&[2, 1, 0, 3, 4, 2, 6, 2, 6], Ok(&[1, 2, 1, 31])),
            (&[2, 1, 0, 3, 4, 2, 6, 2, 5], subprotocols),
            (&[2, 1, 0, 3, 2, 11, 2], subprotocols),
            (&[2, 1, 0, 3, 3, 2, 6, 2], subprotocols),
            (&[1, 3, 1, 2], subprotocols),
            (&[2, 1, 0], Err(OnionskinError::Extensions)),
        ];
        for (sendme_inc_cells, (message, expected)) in cases
            .into_iter()
            .flat_map(|case| [(Some(31), case), (None, case)])
        {
            let key = keys.ntor[0].public();
            let (state, skin) =
                ntor_v3::client_start(&mut rng, &keys.ed, key, message, VERIFICATION).unwrap();
            let job = job(HandshakeType::NTOR_V3, &skin).granting(sendme_inc_cells);
            let reply = job.run(&keys, &mut rng);
            let asks_cgo = message.windows(2).any(|pair| pair == [2, 6]);
            let expected = match sendme_inc_cells {
                None if asks_cgo => subprotocols,
                _ => expected,
            };
            assert_eq!(reply.as_ref().err(), expected.as_ref().err());
            if let (Ok(reply), Ok(expected)) = (reply, expected) {
                let (message, stream) = state.finish(&reply.data).unwrap();
                let expected = sendme_inc_cells.map_or(&[0][..], |_| expected);
                assert_eq!(message, expected);
                assert_eq!(reply.sendme_inc_cells.is_some(), expected.len() == 4);
                assert_eq!(reply.cipher == Cipher::Cgo, asks_cgo);
                assert_eq!(stream.prefix(), reply.keys.prefix());
            }
        }
        let nothing = job(HandshakeType::NTOR_V3, &[]).granted(&[]);
        assert_eq!(nothing, Err(OnionskinError::Extensions));
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
        }
    }
}
