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

/// Why a handshake with an onion service failed.
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

/// What a service has of an INTRODUCE2 message before it knows to which of its descriptors it is
/// bound: one key agreement serves all of them.
pub struct ServiceIntro<'a> {
    names: Names<'a>,
    xb: SharedSecret,
}

impl<'a> ServiceIntro<'a> {
    /// Agrees with the visitor of this key, at the introduction point with this authentication key.
    ///
    /// # Errors
    /// [`HsNtorError::SmallOrder`] if the visitor's key lets nothing be agreed.
    pub fn new(
        enc_secret: &'a SecretKey,
        client_x: &'a PublicKey,
        auth_key: &'a ed25519::PublicKey,
    ) -> Result<Self, HsNtorError> {
        let xb = enc_secret.diffie_hellman(client_x);
        Ok(ServiceIntro {
            names: Names {
                auth_key,
                b: enc_secret.public(),
                x: client_x,
            },
            xb: xb.ok_or(HsNtorError::SmallOrder)?,
        })
    }

    /// The keys of the message, if it is bound to the descriptor of this subcredential.
    pub fn keys(&self, subcredential: &[u8; 32]) -> IntroKeys {
        IntroKeys::derive(&self.xb, &self.names, subcredential)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer;
    use hex_literal::hex;

    /// rend-spec-v3 appendix G.1.
    const AUTH_KEY: [u8; 32] =
        hex!("34E171E4358E501BFF21ED907E96AC6BFEF697C779D040BBAF49ACC30FC5D21F");
    const B: [u8; 32] = hex!("8E5127A40E83AABF6493E41F142B6EE3604B85A3961CD7E38D247239AFF71979");
    const B_SECRET: [u8; 32] =
        hex!("A0ED5DBF94EEB2EDB3B514E4CF6ABFF6022051CC5F103391F1970A3FCD15296A");
    const SUBCREDENTIAL: [u8; 32] =
        hex!("0085D26A9DEBA252263BF0231AEAC59B17CA11BAD8A218238AD6487CBAD68B57");
    const X_SECRET: [u8; 32] =
        hex!("60B4D6BF5234DCF87A4E9D7487BDF3F4A69B6729835E825CA29089CFDDA1E341");
    const X: [u8; 32] = hex!("BF04348B46D09AED726F1D66C618FDEA1DE58E8CB8B89738D7356A0C59111D5D");
    const Y_SECRET: [u8; 32] =
        hex!("68CB5188CA0CD7924250404FAB54EE1392D3D2B9C049A2E446513875952F8F55");
    const MESSAGE: [u8; 64] = hex!(
        "8FBE0DB4D4A9C7FF46701E3E0EE7FD05CD28BE4F302460ADDEEC9E93354EE700"
        "4A92E8437B8424D5E5EC279245D5C72B25A0327ACF6DAF902079FCB643D8B208"
    );

    fn client() -> (ClientState, IntroKeys) {
        let x = SecretKey::from_bytes(&X_SECRET);
        ClientState::begin_with(x, &B.into(), &AUTH_KEY.into(), &SUBCREDENTIAL).unwrap()
    }

    #[test]
    fn vector_of_the_specification() {
        let (state, keys) = client();
        assert_eq!(*state.public().as_bytes(), X);
        assert_eq!(
            keys.enc_key,
            hex!("9B8917BA3D05F3130DACCE5300C3DC27F6D012912F1C733036F822D0ED238706")
        );
        assert_eq!(
            keys.mac_key,
            hex!("FC4058DA59D4DF61E7B40985D122F502FD59336BC21C30CAF5E7F0D4A2C38FD5")
        );
        let (b, auth_key) = (SecretKey::from_bytes(&B_SECRET), AUTH_KEY.into());
        assert_eq!(*b.public().as_bytes(), B);
        let theirs = ServiceIntro::new(&b, &X.into(), &auth_key)
            .unwrap()
            .keys(&SUBCREDENTIAL);
        assert_eq!(
            (theirs.enc_key, theirs.mac_key),
            (keys.enc_key, keys.mac_key)
        );
        let y = SecretKey::from_bytes(&Y_SECRET);
        let (message, seed) = service_rendezvous_with(&y, &b, &X.into(), &auth_key).unwrap();
        assert_eq!(message, MESSAGE);
        assert_eq!(
            *seed,
            hex!("4D0C72FE8AFF35559D95ECC18EB5A36883402B28CDFD48C8A530A5A3D7D578DB")
        );
        // The expansion was computed with Python's SHAKE-256.
        let material = HsKeys::expand(&seed).0;
        assert_eq!(
            *material,
            hex!(
                "d02a24dfe70151ba16fc67a623bdb26b9715ec40628d3c06fa285bfc308c4a80"
                "8af14bebae313947d8d3820c85c273ae2cb14e24e796251571db7163bdd992f8"
                "f191044c02bb743cd58e1ea9aa117bca975afe8207b791210ae4ab82a04e556a"
                "6fb0d1b019e7a548ab9eed89dc5762b8e9ee72a4787a51b3534561e0f4c1f343"
            )
        );
        assert_eq!(*state.finish(&message).unwrap().0, *material);
    }

    #[test]
    fn both_ends_speak_through_their_layers() {
        let mut rng = Rng::from_seed([8; 32]);
        let (b, auth_key) = (SecretKey::generate(&mut rng), AUTH_KEY.into());
        let (state, _) =
            ClientState::begin(&mut rng, b.public(), &auth_key, &SUBCREDENTIAL).unwrap();
        let (message, service) =
            service_rendezvous(&mut rng, &b, state.public(), &auth_key).unwrap();
        let mut client = [state.finish(&message).unwrap().client_layer()];
        let mut service = [service.service_layer()];
        for _ in 0..20 {
            for _ in 0..2 {
                let mut payload = rng.array();
                let sent = layer::originate(&mut client, 3, &mut payload);
                assert_eq!(sent.unwrap().as_bytes().len(), 20);
                let got = layer::peel(&mut service, 3, &mut payload);
                assert_eq!(got, sent.map(|tag| (0, tag)));
                std::mem::swap(&mut client, &mut service);
            }
        }
        let mut payload = rng.array();
        layer::originate(&mut client, 3, &mut payload);
        payload[100] ^= 1;
        assert_eq!(layer::peel(&mut service, 3, &mut payload), None);
    }

    #[test]
    fn padding_is_ignored_and_changes_are_not() {
        let padded = [&MESSAGE[..], &[9; 84]].concat();
        assert!(client().0.finish(&padded).is_ok());
        for len in 0..MESSAGE.len() {
            let error = client().0.finish(&MESSAGE[..len]).unwrap_err();
            assert_eq!(error, HsNtorError::Truncated);
        }
        for at in 0..MESSAGE.len() {
            let mut changed = MESSAGE;
            changed[at] ^= 1;
            let error = client().0.finish(&changed).unwrap_err();
            assert_eq!(error, HsNtorError::WrongAuth);
        }
    }

    #[test]
    fn small_orders_are_refused() {
        let mut rng = Rng::from_seed([8; 32]);
        let (b, auth_key) = (SecretKey::from_bytes(&B_SECRET), AUTH_KEY.into());
        let zero = PublicKey::from([0; 32]);
        let error = HsNtorError::SmallOrder;
        assert_eq!(client().0.finish(&[0; 64]).unwrap_err(), error);
        let begun = ClientState::begin(&mut rng, &zero, &auth_key, &SUBCREDENTIAL);
        assert_eq!(begun.unwrap_err(), error);
        let keys = ServiceIntro::new(&b, &zero, &auth_key);
        assert_eq!(keys.err(), Some(error));
        let answer = service_rendezvous(&mut rng, &b, &zero, &auth_key);
        assert_eq!(answer.unwrap_err(), error);
    }

    #[test]
    fn other_names_give_other_keys() {
        let (b, x) = (SecretKey::from_bytes(&B_SECRET), X.into());
        let (_, keys) = client();
        for (auth_key, subcredential) in [([7; 32], SUBCREDENTIAL), (AUTH_KEY, [7; 32])] {
            let other = ServiceIntro::new(&b, &x, &auth_key.into())
                .unwrap()
                .keys(&subcredential);
            assert_ne!(other.enc_key, keys.enc_key);
            assert_ne!(other.mac_key, keys.mac_key);
        }
        let mut data = *b"data";
        keys.crypt(&mut data);
        assert_ne!(data, *b"data");
        keys.crypt(&mut data);
        assert_eq!(data, *b"data");
        assert_eq!(keys.mac(b"m"), introduce_mac(&keys.mac_key, b"m"));
        assert_eq!(format!("{keys:?}"), "IntroKeys");
    }
}
