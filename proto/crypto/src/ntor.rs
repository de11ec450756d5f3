//! The ntor handshake of CREATE2 and EXTEND2 type 2 (tor-spec 5.1.4).
//!
//! ```text
//! client                                   relay (id, onion key b,B)
//! x,X fresh      ID | B | X  ────────────▶ y,Y fresh
//!                            ◀──────────── Y | AUTH
//! ```
//!
//! Both sides refuse an all-zero agreement; the relay does so only after all its arithmetic,
//! and looks its keys up in a time that does not depend on which one matches.

use core::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::curve25519::{PublicKey, SecretKey};
use crate::digest::{ct_eq, hmac_sha256};
use crate::{KeyStream, Rng, RsaId};

/// Bytes of the client's message.
pub const CLIENT_LEN: usize = 84;
/// Bytes of the relay's message.
pub const SERVER_LEN: usize = 64;

const PROTOID: &[u8] = b"ntor-curve25519-sha256-1";
const T_MAC: &[u8] = b"ntor-curve25519-sha256-1:mac";
const T_KEY: &[u8] = b"ntor-curve25519-sha256-1:key_extract";
const T_VERIFY: &[u8] = b"ntor-curve25519-sha256-1:verify";
const M_EXPAND: &[u8] = b"ntor-curve25519-sha256-1:key_expand";

/// Why an ntor handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NtorError {
    /// The message has not the length of the handshake.
    #[error("ntor message of a wrong length")]
    WrongLength,
    /// The client meant another relay.
    #[error("ntor handshake for another relay")]
    WrongIdentity,
    /// The client used an onion key that is not, or no more, ours.
    #[error("ntor handshake for an unknown onion key")]
    UnknownKey,
    /// An agreement gave zero.
    #[error("ntor handshake with a key of small order")]
    SmallOrder,
    /// The relay did not prove that it knows the onion key.
    #[error("ntor authentication failed")]
    WrongAuth,
}

/// What a client keeps between its message and the relay's.
pub struct ClientState {
    id: RsaId,
    onion_key: PublicKey,
    ephemeral: SecretKey,
}

/// Begins a handshake with the relay of this identity and onion key: the client's message.
pub fn client_start(
    rng: &mut Rng,
    id: &RsaId,
    onion_key: &PublicKey,
) -> (ClientState, [u8; CLIENT_LEN]) {
    let state = ClientState {
        id: *id,
        onion_key: *onion_key,
        ephemeral: SecretKey::generate(rng),
    };
    let mut message = [0; CLIENT_LEN];
    message[..20].copy_from_slice(id.as_bytes());
    message[20..52].copy_from_slice(onion_key.as_bytes());
    message[52..].copy_from_slice(state.ephemeral.public().as_bytes());
    (state, message)
}

impl ClientState {
    /// Takes the relay's message. Bytes after the first 64 are refused.
    pub fn finish(self, message: &[u8]) -> Result<KeyStream, NtorError> {
        let message: &[u8; SERVER_LEN] = message.try_into().map_err(|_| NtorError::WrongLength)?;
        let (y, auth) = message.split_at(32);
        let y = PublicKey::from_bytes(y).ok_or(NtorError::WrongLength)?;
        let shared = [
            self.ephemeral.diffie_hellman(&y),
            self.ephemeral.diffie_hellman(&self.onion_key),
        ];
        let transcript = Transcript {
            id: &self.id,
            b: &self.onion_key,
            x: self.ephemeral.public(),
            y: &y,
        };
        let (expected, keys) = transcript.derive(shared)?;
        if ct_eq(&expected, auth) {
            Ok(keys)
        } else {
            Err(NtorError::WrongAuth)
        }
    }
}

impl fmt::Debug for ClientState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ntor::ClientState for {}", self.id)
    }
}

/// Answers a client's message as the relay `id` that has these onion keys (the current one and,
/// for some time, the previous one): the relay's message, and the keys.
pub fn server(
    rng: &mut Rng,
    message: &[u8],
    id: &RsaId,
    onion_keys: &[SecretKey],
) -> Result<([u8; SERVER_LEN], KeyStream), NtorError> {
    server_with(SecretKey::generate(rng), message, id, onion_keys)
}

fn server_with(
    ephemeral: SecretKey,
    message: &[u8],
    id: &RsaId,
    onion_keys: &[SecretKey],
) -> Result<([u8; SERVER_LEN], KeyStream), NtorError> {
    let message: &[u8; CLIENT_LEN] = message.try_into().map_err(|_| NtorError::WrongLength)?;
    if !ct_eq(&message[..20], id.as_bytes()) {
        return Err(NtorError::WrongIdentity);
    }
    let onion_key = find_key(onion_keys, &message[20..52]).ok_or(NtorError::UnknownKey)?;
    let x = PublicKey::from_bytes(&message[52..]).ok_or(NtorError::WrongLength)?;
    let shared = [ephemeral.diffie_hellman(&x), onion_key.diffie_hellman(&x)];
    let transcript = Transcript {
        id,
        b: onion_key.public(),
        x: &x,
        y: ephemeral.public(),
    };
    let (auth, keys) = transcript.derive(shared)?;
    let mut reply = [0; SERVER_LEN];
    reply[..32].copy_from_slice(ephemeral.public().as_bytes());
    reply[32..].copy_from_slice(&auth);
    Ok((reply, keys))
}

/// The key whose public key has these bytes; all keys are looked at.
pub(crate) fn find_key<'a>(keys: &'a [SecretKey], public: &[u8]) -> Option<&'a SecretKey> {
    let mut found = u64::MAX;
    for (index, key) in (0u64..).zip(keys) {
        let same: Choice = key.public().as_bytes()[..].ct_eq(public);
        found.conditional_assign(&index, same);
    }
    usize::try_from(found)
        .ok()
        .and_then(|index| keys.get(index))
}

/// The public values that both sides hash.
struct Transcript<'a> {
    id: &'a RsaId,
    b: &'a PublicKey,
    x: &'a PublicKey,
    y: &'a PublicKey,
}

impl Transcript<'_> {
    /// AUTH and the keys of the two agreements, `EXP(X,y)` and `EXP(X,b)`.
    fn derive(
        &self,
        shared: [Option<Zeroizing<[u8; 32]>>; 2],
    ) -> Result<([u8; 32], KeyStream), NtorError> {
        let [Some(xy), Some(xb)] = shared else {
            return Err(NtorError::SmallOrder);
        };
        let (id, b) = (self.id.as_bytes(), self.b.as_bytes());
        let (x, y) = (self.x.as_bytes(), self.y.as_bytes());
        let mut secret_input = Zeroizing::new(Vec::with_capacity(204));
        for part in [&xy[..], &xb[..], id, b, x, y, PROTOID] {
            secret_input.extend_from_slice(part);
        }
        let verify = Zeroizing::new(hmac_sha256(T_VERIFY, &secret_input));
        let mut auth_input = Zeroizing::new(Vec::with_capacity(178));
        for part in [&verify[..], id, b, y, x, PROTOID, b"Server"] {
            auth_input.extend_from_slice(part);
        }
        let auth = hmac_sha256(T_MAC, &auth_input);
        // KEY_SEED is the extract step of HKDF, and the KDF its expand step (tor-spec 5.2.2).
        let hkdf = Hkdf::<Sha256>::new(Some(T_KEY), &secret_input);
        let keys = KeyStream::derive(|material| {
            hkdf.expand(M_EXPAND, material)
                .expect("shorter than 255 blocks");
        });
        Ok((auth, keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    /// A vector that C tor and Arti test with.
    #[test]
    fn vector() {
        let b = SecretKey::from_bytes(&hex!(
            "4820544f4c4420594f5520444f474954204b454550532048415050454e494e47"
        ));
        let x = SecretKey::from_bytes(&hex!(
            "706f6461792069207075742e2e2e2e2e2e2e2e4a454c4c59206f6e2074686973"
        ));
        let y = SecretKey::from_bytes(&hex!(
            "70686520737175697272656c2e2e2e2e2e2e2e2e686173206869732067616d65"
        ));
        let id = RsaId::from(hex!("69546f6c64596f7541626f75745374616972732e"));
        let mut skin = [0; CLIENT_LEN];
        skin[..20].copy_from_slice(id.as_bytes());
        skin[20..52].copy_from_slice(b.public().as_bytes());
        skin[52..].copy_from_slice(x.public().as_bytes());
        let keys = hex!(
            "0c62dee7f48893370d0ef896758d35729867beef1a5121df80e00f79ed349af39b51cae1"
            "25719182f19d932a667dae1afbf2e336e6910e7822223e763afad0a13342157969dc6b79"
        );
        let state = ClientState {
            id,
            onion_key: *b.public(),
            ephemeral: x,
        };
        let (reply, relay_keys) = server_with(y, &skin, &id, &[b]).unwrap();
        assert_eq!(
            reply,
            hex!(
                "390480a14362761d6aec1fea840f6e9e928fb2adb7b25c670be1045e35133a37"
                "1cbdf68b89923e1f85e8e18ee6e805ea333fe4849c790ffd2670bd80fec95cc8"
            )
        );
        assert_eq!(relay_keys.prefix()[..72], keys);
        assert_eq!(state.finish(&reply).unwrap().tor1().kb[..], keys[56..]);
    }

    struct Fixture {
        rng: Rng,
        id: RsaId,
        keys: [SecretKey; 2],
    }

    fn fixture() -> Fixture {
        let mut rng = Rng::from_seed([6; 32]);
        let keys = [SecretKey::generate(&mut rng), SecretKey::generate(&mut rng)];
        Fixture {
            id: RsaId::from(rng.array()),
            rng,
            keys,
        }
    }

    #[test]
    fn the_current_and_the_previous_key_answer() {
        let Fixture { mut rng, id, keys } = fixture();
        for key in &keys {
            let (state, skin) = client_start(&mut rng, &id, key.public());
            let (reply, relay) = server(&mut rng, &skin, &id, &keys).unwrap();
            assert_eq!(state.finish(&reply).unwrap().prefix(), relay.prefix());
        }
    }

    #[test]
    fn each_refusal_has_its_name() {
        let Fixture { mut rng, id, keys } = fixture();
        let (state, skin) = client_start(&mut rng, &id, keys[0].public());
        let mut answer = |skin: &[u8], id, keys| server(&mut rng, skin, id, keys).unwrap_err();
        assert_eq!(answer(&skin[..83], &id, &keys), NtorError::WrongLength);
        let other = RsaId::from([1; 20]);
        assert_eq!(answer(&skin, &other, &keys), NtorError::WrongIdentity);
        assert_eq!(answer(&skin, &id, &keys[1..]), NtorError::UnknownKey);
        assert_eq!(answer(&skin, &id, &[]), NtorError::UnknownKey);
        let mut zero = skin;
        zero[52..].fill(0);
        assert_eq!(answer(&zero, &id, &keys), NtorError::SmallOrder);
        assert_eq!(state.finish(&[0; 64]).unwrap_err(), NtorError::SmallOrder);
    }

    #[test]
    fn no_other_reply_is_taken() {
        let Fixture { mut rng, id, keys } = fixture();
        for at in [0, 31, 32, 63] {
            let (state, skin) = client_start(&mut rng, &id, keys[0].public());
            let (mut reply, _) = server(&mut rng, &skin, &id, &keys).unwrap();
            reply[at] ^= 1;
            assert_eq!(state.finish(&reply).unwrap_err(), NtorError::WrongAuth);
            let (state, _) = client_start(&mut rng, &id, keys[0].public());
            assert_eq!(
                state.finish(&reply[..at]).unwrap_err(),
                NtorError::WrongLength
            );
        }
    }
}
