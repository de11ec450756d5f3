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

/// Why a handshake failed.
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
