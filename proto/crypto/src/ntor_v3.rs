//! The ntor-v3 handshake of CREATE2 and EXTEND2 type 3 (proposal 332).
//!
//! ```text
//! client                                               relay (id, onion key b,B)
//! x,X fresh      ID | B | X | ENC(CM) | MAC  ────────▶ reads CM, y,Y fresh
//!                                            ◀──────── Y | AUTH | ENC(SM)
//! ```
//!
//! As ntor, with a message each way and a verification string that both must share, which for
//! circuits is `CIRCUIT_VERIFICATION`. The relay reads the client's message before it composes
//! its own: `server` returns a `ServerRequest`. An all-zero agreement is refused.

use core::fmt;

use aes::Aes256;
use cipher::{KeyIvInit, StreamCipher};
use ctr::Ctr128BE;
use sha3::{Digest, Sha3_256};
use shake::digest::{ExtendableOutput, Update, XofReader};
use shake::{Shake256, Shake256Reader};
use zeroize::Zeroizing;

use crate::curve25519::{PublicKey, SecretKey, SharedSecret};
use crate::digest::ct_eq;
use crate::ntor::find_key;
use crate::{Ed25519Id, KeyStream, Rng};

/// The verification string of circuit extension.
pub const CIRCUIT_VERIFICATION: &[u8] = b"circuit extend";
/// Bytes of the client's handshake beside its message.
pub const CLIENT_OVERHEAD: usize = 128;
/// Bytes of the relay's handshake beside its message.
pub const SERVER_OVERHEAD: usize = 64;

const PROTOID: &[u8] = b"ntor3-curve25519-sha3_256-1";
const T_MSGKDF: &[u8] = b"ntor3-curve25519-sha3_256-1:kdf_phase1";
const T_MSGMAC: &[u8] = b"ntor3-curve25519-sha3_256-1:msg_mac";
const T_KEY_SEED: &[u8] = b"ntor3-curve25519-sha3_256-1:key_seed";
const T_VERIFY: &[u8] = b"ntor3-curve25519-sha3_256-1:verify";
const T_FINAL: &[u8] = b"ntor3-curve25519-sha3_256-1:kdf_final";
const T_AUTH: &[u8] = b"ntor3-curve25519-sha3_256-1:auth_final";

/// Why an ntor-v3 handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NtorV3Error {
    /// The handshake is shorter than its fixed parts.
    #[error("ntor-v3 handshake too short")]
    Truncated,
    /// The client meant another relay.
    #[error("ntor-v3 handshake for another relay")]
    WrongIdentity,
    /// The client used an onion key that is not, or no more, ours.
    #[error("ntor-v3 handshake for an unknown onion key")]
    UnknownKey,
    /// An agreement gave zero.
    #[error("ntor-v3 handshake with a key of small order")]
    SmallOrder,
    /// The client's message is not authentic, or of another verification string.
    #[error("ntor-v3 client message is not authentic")]
    WrongMac,
    /// The relay did not prove that it knows the onion key.
    #[error("ntor-v3 authentication failed")]
    WrongAuth,
}

/// What a client keeps between its handshake and the relay's.
pub struct ClientState {
    id: Ed25519Id,
    onion_key: PublicKey,
    ephemeral: SecretKey,
    bx: SharedSecret,
    mac: [u8; 32],
    verification: Vec<u8>,
}

/// Begins a handshake with the relay of this identity and onion key, carrying `message`.
pub fn client_start(
    rng: &mut Rng,
    id: &Ed25519Id,
    onion_key: &PublicKey,
    message: &[u8],
    verification: &[u8],
) -> Result<(ClientState, Vec<u8>), NtorV3Error> {
    client_start_with(
        SecretKey::generate(rng),
        id,
        onion_key,
        message,
        verification,
    )
}

fn client_start_with(
    ephemeral: SecretKey,
    id: &Ed25519Id,
    onion_key: &PublicKey,
    message: &[u8],
    verification: &[u8],
) -> Result<(ClientState, Vec<u8>), NtorV3Error> {
    let bx = ephemeral
        .diffie_hellman(onion_key)
        .ok_or(NtorV3Error::SmallOrder)?;
    let x = *ephemeral.public();
    let phase1 = Phase1::derive(&bx, id, &x, onion_key, verification);
    let mut skin = Vec::with_capacity(CLIENT_OVERHEAD + message.len());
    skin.extend_from_slice(id.as_bytes());
    skin.extend_from_slice(onion_key.as_bytes());
    skin.extend_from_slice(x.as_bytes());
    let mut encrypted = message.to_vec();
    crypt(&phase1.enc_key, &mut encrypted);
    skin.extend_from_slice(&encrypted);
    let mac = phase1.mac(id, onion_key, &x, &encrypted);
    skin.extend_from_slice(&mac);
    let verification = verification.to_vec();
    Ok((
        ClientState {
            id: *id,
            onion_key: *onion_key,
            ephemeral,
            bx,
            mac,
            verification,
        },
        skin,
    ))
}

impl ClientState {
    /// Takes the relay's handshake: its message, and the keys.
    pub fn finish(self, reply: &[u8]) -> Result<(Vec<u8>, KeyStream), NtorV3Error> {
        let (y, rest) = reply
            .split_first_chunk::<32>()
            .ok_or(NtorV3Error::Truncated)?;
        let (auth, encrypted) = rest
            .split_first_chunk::<32>()
            .ok_or(NtorV3Error::Truncated)?;
        let y = PublicKey::from(*y);
        let yx = self
            .ephemeral
            .diffie_hellman(&y)
            .ok_or(NtorV3Error::SmallOrder)?;
        let transcript = Transcript {
            id: &self.id,
            b: &self.onion_key,
            x: self.ephemeral.public(),
            y: &y,
            mac: &self.mac,
            verification: &self.verification,
        };
        let secrets = transcript.secrets(&yx, &self.bx);
        if !ct_eq(&transcript.auth(&secrets, encrypted), auth) {
            return Err(NtorV3Error::WrongAuth);
        }
        let mut message = encrypted.to_vec();
        let keys = secrets.crypt(&mut message);
        Ok((message, keys))
    }
}

impl fmt::Debug for ClientState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ntor_v3::ClientState for {}", self.id)
    }
}

/// A client's authentic handshake at the relay, to be answered.
pub struct ServerRequest {
    id: Ed25519Id,
    onion_key: PublicKey,
    x: PublicKey,
    xb: SharedSecret,
    mac: [u8; 32],
    message: Vec<u8>,
    verification: Vec<u8>,
}

/// Reads a client's handshake as the relay `id` that has these onion keys (the current one and,
/// for some time, the previous one).
pub fn server(
    skin: &[u8],
    id: &Ed25519Id,
    onion_keys: &[SecretKey],
    verification: &[u8],
) -> Result<ServerRequest, NtorV3Error> {
    let (their_id, rest) = skin
        .split_first_chunk::<32>()
        .ok_or(NtorV3Error::Truncated)?;
    let (key_id, rest) = rest
        .split_first_chunk::<32>()
        .ok_or(NtorV3Error::Truncated)?;
    let (x, rest) = rest
        .split_first_chunk::<32>()
        .ok_or(NtorV3Error::Truncated)?;
    let (encrypted, mac) = rest
        .split_last_chunk::<32>()
        .ok_or(NtorV3Error::Truncated)?;
    if !ct_eq(their_id, id.as_bytes()) {
        return Err(NtorV3Error::WrongIdentity);
    }
    let onion_key = find_key(onion_keys, key_id).ok_or(NtorV3Error::UnknownKey)?;
    let x = PublicKey::from(*x);
    let xb = onion_key
        .diffie_hellman(&x)
        .ok_or(NtorV3Error::SmallOrder)?;
    let phase1 = Phase1::derive(&xb, id, &x, onion_key.public(), verification);
    if !ct_eq(&phase1.mac(id, onion_key.public(), &x, encrypted), mac) {
        return Err(NtorV3Error::WrongMac);
    }
    let mut message = encrypted.to_vec();
    crypt(&phase1.enc_key, &mut message);
    Ok(ServerRequest {
        id: *id,
        onion_key: *onion_key.public(),
        x,
        xb,
        mac: *mac,
        message,
        verification: verification.to_vec(),
    })
}

impl ServerRequest {
    /// The client's message.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Answers with a message: the relay's handshake, and the keys.
    pub fn reply(self, rng: &mut Rng, message: &[u8]) -> Result<(Vec<u8>, KeyStream), NtorV3Error> {
        self.reply_with(SecretKey::generate(rng), message)
    }

    fn reply_with(
        self,
        ephemeral: SecretKey,
        message: &[u8],
    ) -> Result<(Vec<u8>, KeyStream), NtorV3Error> {
        let xy = ephemeral
            .diffie_hellman(&self.x)
            .ok_or(NtorV3Error::SmallOrder)?;
        let transcript = Transcript {
            id: &self.id,
            b: &self.onion_key,
            x: &self.x,
            y: ephemeral.public(),
            mac: &self.mac,
            verification: &self.verification,
        };
        let secrets = transcript.secrets(&xy, &self.xb);
        let mut encrypted = message.to_vec();
        let keys = secrets.crypt(&mut encrypted);
        let auth = transcript.auth(&secrets, &encrypted);
        let mut reply = Vec::with_capacity(SERVER_OVERHEAD + encrypted.len());
        reply.extend_from_slice(ephemeral.public().as_bytes());
        reply.extend_from_slice(&auth);
        reply.extend_from_slice(&encrypted);
        Ok((reply, keys))
    }
}

impl fmt::Debug for ServerRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ntor_v3::ServerRequest of {} bytes", self.message.len())
    }
}

/// The keys of the client's message (phase 1 of the proposal).
struct Phase1 {
    enc_key: Zeroizing<[u8; 32]>,
    mac_key: Zeroizing<[u8; 32]>,
}

impl Phase1 {
    fn derive(
        bx: &SharedSecret,
        id: &Ed25519Id,
        x: &PublicKey,
        b: &PublicKey,
        verification: &[u8],
    ) -> Phase1 {
        let mut kdf = kdf(T_MSGKDF);
        for part in [&bx[..], id.as_bytes(), x.as_bytes(), b.as_bytes(), PROTOID] {
            kdf.update(part);
        }
        encap(verification, |part| kdf.update(part));
        let mut stream = kdf.finalize_xof();
        Phase1 {
            enc_key: read_key(&mut stream),
            mac_key: read_key(&mut stream),
        }
    }

    fn mac(&self, id: &Ed25519Id, b: &PublicKey, x: &PublicKey, encrypted: &[u8]) -> [u8; 32] {
        let mut hash = hash(T_MSGMAC);
        encap(&*self.mac_key, |part| Digest::update(&mut hash, part));
        for part in [id.as_bytes(), b.as_bytes(), x.as_bytes(), encrypted] {
            Digest::update(&mut hash, part);
        }
        hash.finalize().into()
    }
}

/// The values that both sides hash in phase 2.
struct Transcript<'a> {
    id: &'a Ed25519Id,
    b: &'a PublicKey,
    x: &'a PublicKey,
    y: &'a PublicKey,
    mac: &'a [u8; 32],
    verification: &'a [u8],
}

impl Transcript<'_> {
    fn secrets(&self, xy: &SharedSecret, xb: &SharedSecret) -> Secrets {
        let (id, b) = (self.id.as_bytes(), self.b.as_bytes());
        let (x, y) = (self.x.as_bytes(), self.y.as_bytes());
        let tweaked = |tweak| {
            let mut hash = hash(tweak);
            for part in [&xy[..], &xb[..], id, b, x, y, PROTOID] {
                Digest::update(&mut hash, part);
            }
            encap(self.verification, |part| Digest::update(&mut hash, part));
            Zeroizing::new(hash.finalize().into())
        };
        Secrets {
            key_seed: tweaked(T_KEY_SEED),
            verify: tweaked(T_VERIFY),
        }
    }

    fn auth(&self, secrets: &Secrets, encrypted: &[u8]) -> [u8; 32] {
        let mut hash = hash(T_AUTH);
        let (id, b) = (self.id.as_bytes(), self.b.as_bytes());
        let (x, y) = (self.x.as_bytes(), self.y.as_bytes());
        for part in [&secrets.verify[..], id, b, y, x, self.mac] {
            Digest::update(&mut hash, part);
        }
        encap(encrypted, |part| Digest::update(&mut hash, part));
        Digest::update(&mut hash, PROTOID);
        Digest::update(&mut hash, b"Server");
        hash.finalize().into()
    }
}

/// What both sides of phase 2 know and nobody else.
struct Secrets {
    key_seed: Zeroizing<[u8; 32]>,
    verify: Zeroizing<[u8; 32]>,
}

impl Secrets {
    /// Encrypts or decrypts the relay's message; what follows its key are the circuit's keys.
    fn crypt(&self, message: &mut [u8]) -> KeyStream {
        let mut stream = kdf(T_FINAL).chain(&self.key_seed[..]).finalize_xof();
        crypt(&read_key(&mut stream), message);
        KeyStream::derive(|material| stream.read(material))
    }
}

/// `ENCAP(s)`: the length in 8 bytes, then the bytes.
fn encap(bytes: &[u8], mut update: impl FnMut(&[u8])) {
    update(&(bytes.len() as u64).to_be_bytes());
    update(bytes);
}

fn kdf(tweak: &[u8]) -> Shake256 {
    let mut kdf = Shake256::default();
    encap(tweak, |part| kdf.update(part));
    kdf
}

fn hash(tweak: &[u8]) -> Sha3_256 {
    let mut hash = Sha3_256::new();
    encap(tweak, |part| Digest::update(&mut hash, part));
    hash
}

fn read_key(stream: &mut Shake256Reader) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    stream.read(&mut *key);
    key
}

/// `ENC` and `DEC`: AES-256-CTR from a zero counter.
fn crypt(key: &[u8; 32], message: &mut [u8]) {
    Ctr128BE::<Aes256>::new(key.into(), &[0; 16].into()).apply_keystream(message);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use hex_literal::hex;
    use proptest::prelude::*;

    /// Proposal 332, section X.2.
    #[test]
    fn vector() {
        let key = SecretKey::from_bytes;
        let b = key(&hex!(
            "4051daa5921cfa2a1c27b08451324919538e79e788a81b38cbed097a5dff454a"
        ));
        let x = key(&hex!(
            "b825a3719147bcbe5fb1d0b0fcb9c09e51948048e2e3283d2ab7b45b5ef38b49"
        ));
        let y = key(&hex!(
            "4865a5b7689dafd978f529291c7171bc159be076b92186405d13220b80e2a053"
        ));
        let id = Ed25519Id::from(hex!(
            "9fad2af287ef942632833d21f946c6260c33fae6172b60006e86e4a6911753a2"
        ));
        let client_handshake = hex!(
            "9fad2af287ef942632833d21f946c6260c33fae6172b60006e86e4a6911753a2f8307a2b"
            "c1870b00b828bb74dbb8fd88e632a6375ab3bcd1ae706aaa8b6cdd1d252fe9ae91264c91"
            "d4ecb8501f79d0387e34ad8ca0f7c995184f7d11d5da4f463bebd9151fd3b47c180abc9e"
            "044d53565f04d82bbb3bebed3d06cea65db8be9c72b68cd461942088502f67"
        );
        let server_handshake = hex!(
            "4bf4814326fdab45ad5184f5518bd7fae25dc59374062698201a50a22954246d2fc5f877"
            "3ca824542bc6cf6f57c7c29bbf4e5476461ab130c5b18ab0a91276651202c3e1e87c0d32"
            "054c"
        );
        let key_stream = hex!(
            "9c19b631fd94ed86a817e01f6c80b0743a43f5faebd39cfaa8b00fa8bcc65c3bfeaa403d"
            "91acbd68a821bf6ee8504602b094a254392a07737d5662768c7a9fb1b2814bb34780eaee"
            "6e867c773e28c212ead563e98a1cd5d5b4576f5ee61c59bde025ff2851bb19b721421694"
            "f263818e3531e43a9e4e3e2c661e2ad547d8984caa28ebecd3e4525452299be26b9185a2"
            "0a90ce1eac20a91f2832d731b54502b09749b5a2a2949292f8cfcbeffb790c7790ed935a"
            "9d251e7e336148ea83b063a5"
        );
        let (state, skin) =
            client_start_with(x, &id, b.public(), b"hello world", b"xyzzy").unwrap();
        assert_eq!(skin, client_handshake);
        let request = server(&skin, &id, &[b], b"xyzzy").unwrap();
        assert_eq!(request.message(), b"hello world");
        let (reply, relay_keys) = request.reply_with(y, b"Hola Mundo").unwrap();
        assert_eq!(reply, server_handshake);
        assert_eq!(*relay_keys.prefix(), key_stream);
        let (message, client_keys) = state.finish(&reply).unwrap();
        assert_eq!(message, b"Hola Mundo");
        assert_eq!(*client_keys.prefix(), key_stream);
    }

    fn fixture() -> (Rng, Ed25519Id, [SecretKey; 2]) {
        let mut rng = Rng::from_seed([8; 32]);
        let keys = [SecretKey::generate(&mut rng), SecretKey::generate(&mut rng)];
        (Rng::from_seed([9; 32]), Ed25519Id::from(rng.array()), keys)
    }

    #[test]
    fn each_refusal_has_its_name() {
        let (mut rng, id, keys) = fixture();
        let (state, skin) =
            client_start(&mut rng, &id, keys[1].public(), b"", CIRCUIT_VERIFICATION).unwrap();
        let refusal = |skin: &[u8], id: &Ed25519Id, keys: &[SecretKey], verification| {
            server(skin, id, keys, verification).unwrap_err()
        };
        let ver = CIRCUIT_VERIFICATION;
        assert_eq!(refusal(&skin[1..], &id, &keys, ver), NtorV3Error::Truncated);
        let other = Ed25519Id::from([1; 32]);
        assert_eq!(
            refusal(&skin, &other, &keys, ver),
            NtorV3Error::WrongIdentity
        );
        assert_eq!(
            refusal(&skin, &id, &keys[..1], ver),
            NtorV3Error::UnknownKey
        );
        assert_eq!(refusal(&skin, &id, &keys, b"hs"), NtorV3Error::WrongMac);
        let mut zero = skin.clone();
        zero[64..96].fill(0);
        assert_eq!(refusal(&zero, &id, &keys, ver), NtorV3Error::SmallOrder);
        assert_eq!(state.finish(&[0; 64]).unwrap_err(), NtorV3Error::SmallOrder);
        let zero = PublicKey::from([0; 32]);
        let refused = client_start(&mut rng, &id, &zero, b"", ver).map(|_| ());
        assert_eq!(refused, Err(NtorV3Error::SmallOrder));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn messages_come_through_and_damage_does_not(
            to in prop::collection::vec(any::<u8>(), 0..300),
            fro in prop::collection::vec(any::<u8>(), 0..300),
            at: prop::sample::Index,
        ) {
            let (mut rng, id, keys) = fixture();
            let ver = CIRCUIT_VERIFICATION;
            let (state, skin) =
                client_start(&mut rng, &id, keys[0].public(), &to, ver).unwrap();
            prop_assert_eq!(skin.len(), CLIENT_OVERHEAD + to.len());
            let mut damaged = skin.clone();
            damaged[at.index(skin.len())] ^= 0x10;
            prop_assert!(server(&damaged, &id, &keys, ver).is_err());
            prop_assert!(server(&skin[..at.index(skin.len())], &id, &keys, ver).is_err());

            let request = server(&skin, &id, &keys, ver).unwrap();
            prop_assert_eq!(request.message(), &to[..]);
            let (mut reply, relay) = request.reply(&mut rng, &fro).unwrap();
            prop_assert_eq!(reply.len(), SERVER_OVERHEAD + fro.len());
            if to.len() % 2 == 0 {
                let (message, client) = state.finish(&reply).unwrap();
                prop_assert_eq!((message, client.prefix()), (fro, relay.prefix()));
            } else {
                let at = at.index(reply.len());
                reply[at] ^= 0x10;
                prop_assert!(state.finish(&reply).is_err());
            }
        }
    }
}
