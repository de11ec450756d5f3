//! The ntor variant of onion services, which carries data with its first message
//! (rend-spec-v3 3.3.2, 4.2, 4.2.1; vectors in appendix G).
//!
//! ```text
//! client                                           service (auth key, enc key b,B; subcredential)
//! x,X fresh     INTRODUCE  X | data | MAC  ──────▶ IntroKeys of EXP(X,b), reads the data
//!                                                  y,Y fresh
//! HsKeys        RENDEZVOUS Y | AUTH        ◀────── HsKeys
//! ```
//!
//! The client reads AUTH before it trusts the keys. An all-zero agreement is refused by both.

use core::fmt;

use aes::Aes256;
use cipher::{KeyIvInit, StreamCipher};
use ctr::Ctr128BE;
use zeroize::{Zeroize, Zeroizing};

use crate::curve25519::{PublicKey, SecretKey, SharedSecret};
use crate::digest::{ct_eq, mac_sha3_256, shake_256};
use crate::layer::HopLayer;
use crate::tor1::{ONION_KEYS_LEN, OnionHopCrypt};
use crate::{Rng, ed25519};

/// Bytes of the service's message, `Y | AUTH`.
pub const SERVICE_LEN: usize = 64;

const PROTOID: &[u8] = b"tor-hs-ntor-curve25519-sha3-256-1";
const T_HSENC: &[u8] = b"tor-hs-ntor-curve25519-sha3-256-1:hs_key_extract";
const T_HSVERIFY: &[u8] = b"tor-hs-ntor-curve25519-sha3-256-1:hs_verify";
const T_HSMAC: &[u8] = b"tor-hs-ntor-curve25519-sha3-256-1:hs_mac";
const M_HSEXPAND: &[u8] = b"tor-hs-ntor-curve25519-sha3-256-1:hs_key_expand";

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HsNtorError {
    /// The service's message is shorter than `Y | AUTH`.
    #[error("hs-ntor message too short")]
    Truncated,
    /// An agreement gave zero.
    #[error("hs-ntor handshake with a key of small order")]
    SmallOrder,
    /// The service did not prove that it knows its encryption key.
    #[error("hs-ntor authentication failed")]
    WrongAuth,
}

/// What encrypts and authenticates the data of an INTRODUCE message.
pub struct IntroKeys {
    /// Key of AES-256-CTR.
    pub enc_key: [u8; 32],
    /// Key of the MAC.
    pub mac_key: [u8; 32],
}

impl Drop for IntroKeys {
    fn drop(&mut self) {
        self.enc_key.zeroize();
        self.mac_key.zeroize();
    }
}

impl fmt::Debug for IntroKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IntroKeys")
    }
}

impl IntroKeys {
    fn derive(shared: &SharedSecret, names: &Names<'_>, subcredential: &[u8; 32]) -> IntroKeys {
        let mut material = Zeroizing::new([0; 64]);
        let input: [&[u8]; 8] = [
            &shared[..],
            names.auth_key.as_bytes(),
            names.x.as_bytes(),
            names.b.as_bytes(),
            PROTOID,
            T_HSENC,
            M_HSEXPAND,
            subcredential,
        ];
        shake_256(&input, &mut *material);
        let mut keys = IntroKeys {
            enc_key: [0; 32],
            mac_key: [0; 32],
        };
        keys.enc_key.copy_from_slice(&material[..32]);
        keys.mac_key.copy_from_slice(&material[32..]);
        keys
    }

    /// The MAC of an INTRODUCE message: of all bytes before it, from the legacy key id on.
    pub fn mac(&self, bytes: &[u8]) -> [u8; 32] {
        introduce_mac(&self.mac_key, bytes)
    }

    /// Encrypts or decrypts the data of an INTRODUCE message in place.
    pub fn crypt(&self, data: &mut [u8]) {
        Ctr128BE::<Aes256>::new(&self.enc_key.into(), &[0; 16].into()).apply_keystream(data);
    }
}

/// The MAC of an INTRODUCE message (rend-spec-v3 0.3, 3.3.2).
pub fn introduce_mac(mac_key: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    mac_sha3_256(mac_key, bytes)
}

/// The public values of a handshake until the service answers.
struct Names<'a> {
    auth_key: &'a ed25519::PublicKey,
    b: &'a PublicKey,
    x: &'a PublicKey,
}

/// What a client keeps between INTRODUCE1 and RENDEZVOUS2.
pub struct ClientState {
    auth_key: ed25519::PublicKey,
    enc_key: PublicKey,
    ephemeral: SecretKey,
    bx: SharedSecret,
}

impl ClientState {
    /// Begins a handshake with the service that has this encryption key and this authentication
    /// key at an introduction point.
    pub fn begin(
        rng: &mut Rng,
        enc_key: &PublicKey,
        auth_key: &ed25519::PublicKey,
        subcredential: &[u8; 32],
    ) -> Result<(ClientState, IntroKeys), HsNtorError> {
        ClientState::begin_with(SecretKey::generate(rng), enc_key, auth_key, subcredential)
    }

    fn begin_with(
        ephemeral: SecretKey,
        enc_key: &PublicKey,
        auth_key: &ed25519::PublicKey,
        subcredential: &[u8; 32],
    ) -> Result<(ClientState, IntroKeys), HsNtorError> {
        let bx = ephemeral
            .diffie_hellman(enc_key)
            .ok_or(HsNtorError::SmallOrder)?;
        let names = Names {
            auth_key,
            b: enc_key,
            x: ephemeral.public(),
        };
        let keys = IntroKeys::derive(&bx, &names, subcredential);
        let state = ClientState {
            auth_key: *auth_key,
            enc_key: *enc_key,
            ephemeral,
            bx,
        };
        Ok((state, keys))
    }

    /// The client's public key `X`, for the INTRODUCE1 message.
    pub fn public(&self) -> &PublicKey {
        self.ephemeral.public()
    }

    /// Takes the service's message. What follows `Y | AUTH` is padding and ignored.
    pub fn finish(self, body: &[u8]) -> Result<HsKeys, HsNtorError> {
        let (y, rest) = body.split_first_chunk().ok_or(HsNtorError::Truncated)?;
        let (auth, _) = rest
            .split_first_chunk::<32>()
            .ok_or(HsNtorError::Truncated)?;
        let y = PublicKey::from(*y);
        let yx = self
            .ephemeral
            .diffie_hellman(&y)
            .ok_or(HsNtorError::SmallOrder)?;
        let names = Names {
            auth_key: &self.auth_key,
            b: &self.enc_key,
            x: self.ephemeral.public(),
        };
        let (expected, seed) = finish(&names, &y, &yx, &self.bx);
        if ct_eq(&expected, auth) {
            Ok(HsKeys::expand(&seed))
        } else {
            Err(HsNtorError::WrongAuth)
        }
    }
}

impl fmt::Debug for ClientState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hs_ntor::ClientState for {:?}", self.auth_key)
    }
}

/// The keys of an INTRODUCE2 message at the service that has this encryption secret.
pub fn service_intro_keys(
    enc_secret: &SecretKey,
    client_x: &PublicKey,
    auth_key: &ed25519::PublicKey,
    subcredential: &[u8; 32],
) -> Result<IntroKeys, HsNtorError> {
    let xb = enc_secret
        .diffie_hellman(client_x)
        .ok_or(HsNtorError::SmallOrder)?;
    let names = Names {
        auth_key,
        b: enc_secret.public(),
        x: client_x,
    };
    Ok(IntroKeys::derive(&xb, &names, subcredential))
}

/// The service's message for RENDEZVOUS1 (`Y | AUTH`), and the keys.
pub fn service_rendezvous(
    rng: &mut Rng,
    enc_secret: &SecretKey,
    client_x: &PublicKey,
    auth_key: &ed25519::PublicKey,
) -> Result<([u8; SERVICE_LEN], HsKeys), HsNtorError> {
    let ephemeral = SecretKey::generate(rng);
    let (message, seed) = service_rendezvous_with(&ephemeral, enc_secret, client_x, auth_key)?;
    Ok((message, HsKeys::expand(&seed)))
}

fn service_rendezvous_with(
    ephemeral: &SecretKey,
    enc_secret: &SecretKey,
    client_x: &PublicKey,
    auth_key: &ed25519::PublicKey,
) -> Result<([u8; SERVICE_LEN], KeySeed), HsNtorError> {
    let xy = ephemeral.diffie_hellman(client_x);
    let xb = enc_secret.diffie_hellman(client_x);
    let (Some(xy), Some(xb)) = (xy, xb) else {
        return Err(HsNtorError::SmallOrder);
    };
    let names = Names {
        auth_key,
        b: enc_secret.public(),
        x: client_x,
    };
    let (auth, seed) = finish(&names, ephemeral.public(), &xy, &xb);
    let mut message = [0; SERVICE_LEN];
    message[..32].copy_from_slice(ephemeral.public().as_bytes());
    message[32..].copy_from_slice(&auth);
    Ok((message, seed))
}

type KeySeed = Zeroizing<[u8; 32]>;

/// `AUTH_INPUT_MAC` and `NTOR_KEY_SEED` of the agreements `EXP(X,y)` and `EXP(X,b)`.
fn finish(
    names: &Names<'_>,
    y: &PublicKey,
    xy: &SharedSecret,
    xb: &SharedSecret,
) -> ([u8; 32], KeySeed) {
    let (auth_key, b) = (names.auth_key.as_bytes(), names.b.as_bytes());
    let (x, y) = (names.x.as_bytes(), y.as_bytes());
    let mut secret_input = Zeroizing::new(Vec::with_capacity(225));
    for part in [&xy[..], &xb[..], auth_key, b, x, y, PROTOID] {
        secret_input.extend_from_slice(part);
    }
    let seed = Zeroizing::new(mac_sha3_256(&secret_input, T_HSENC));
    let verify = Zeroizing::new(mac_sha3_256(&secret_input, T_HSVERIFY));
    let mut auth_input = Zeroizing::new(Vec::with_capacity(199));
    for part in [&verify[..], auth_key, b, y, x, PROTOID, b"Server"] {
        auth_input.extend_from_slice(part);
    }
    (mac_sha3_256(&auth_input, T_HSMAC), seed)
}

/// The keys that client and service share end to end: `Df | Db | Kf | Kb`.
pub struct HsKeys(Zeroizing<[u8; ONION_KEYS_LEN]>);

impl HsKeys {
    /// The key expansion of rend-spec-v3 4.2.1.
    fn expand(seed: &KeySeed) -> HsKeys {
        let mut material = Zeroizing::new([0; ONION_KEYS_LEN]);
        shake_256(&[&seed[..], M_HSEXPAND], &mut *material);
        HsKeys(material)
    }

    /// The layer of the service, as the client's last hop.
    pub fn client_layer(self) -> HopLayer {
        HopLayer::Onion(Box::new(OnionHopCrypt::client(&self.0)))
    }

    /// The layer of the client, as the service's last hop.
    pub fn service_layer(self) -> HopLayer {
        HopLayer::Onion(Box::new(OnionHopCrypt::service(&self.0)))
    }
}

impl fmt::Debug for HsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HsKeys")
    }
}
