//! The two layers of encryption of an onion service's descriptor, and the cookie that opens the
//! inner one for authorized clients (rend-spec-v3 2.5.1.1, 2.5.1.2, 2.5.2.1, 2.5.3).
//!
//! ```text
//! salt 16 | ciphertext | MAC 32        keys = SHAKE-256(secret data | subcredential
//!                                              | revision 8 | salt | constant)
//! ```
//!
//! Padding of the outer layer is the caller's, before encryption. The cookie has 16 bytes, as C
//! tor's (and the encrypted one of 2.5.1.2); the text says 32 in one place. A blob is decrypted
//! only after its MAC was found right.

use core::fmt;

use aes::Aes256;
use cipher::{KeyIvInit, StreamCipher};
use ctr::Ctr128BE;
use zeroize::Zeroizing;

use crate::Rng;
use crate::curve25519::{PublicKey, SecretKey};
use crate::digest::{Sha3Running, ct_eq, sha3_256, shake_256};

/// The constant of the outer layer, whose secret data is the blinded key (2.5.1.1).
pub const SUPERENCRYPTED: &[u8] = b"hsdir-superencrypted-data";
/// The constant of the inner layer, whose secret data is the blinded key and, with client
/// authorization, the descriptor cookie (2.5.2.1).
pub const ENCRYPTED: &[u8] = b"hsdir-encrypted-data";

/// Bytes of a descriptor cookie.
pub const COOKIE_LEN: usize = 16;
/// Bytes of a client's id in its `auth-client` line.
pub const CLIENT_ID_LEN: usize = 8;
/// Bytes that a layer adds to its plaintext.
pub const OVERHEAD: usize = SALT_LEN + MAC_LEN;

const SALT_LEN: usize = 16;
const MAC_LEN: usize = 32;
const KEY_LEN: usize = 32;
const IV_LEN: usize = 16;

/// Encrypts a layer: `secret_data` and `constant` as the two constants of this file say.
pub fn encrypt(
    secret_data: &[u8],
    subcredential: &[u8; 32],
    revision: u64,
    constant: &[u8],
    plaintext: &[u8],
    rng: &mut Rng,
) -> Vec<u8> {
    // Hashed, so that no output of the generator is published (rend-spec-v3 0.3).
    let mut salt = [0; SALT_LEN];
    salt.copy_from_slice(&sha3_256(&rng.array::<32>())[..SALT_LEN]);
    let keys = Keys::derive(secret_data, subcredential, revision, &salt, constant);
    let mut blob = Vec::with_capacity(plaintext.len() + OVERHEAD);
    blob.extend_from_slice(&salt);
    blob.extend_from_slice(plaintext);
    let (_, text) = blob.split_at_mut(SALT_LEN);
    keys.crypt(text);
    let mac = keys.mac(&salt, text);
    blob.extend_from_slice(&mac);
    blob
}

/// Decrypts a layer; `None` if it is not authentic under these secrets.
pub fn decrypt(
    secret_data: &[u8],
    subcredential: &[u8; 32],
    revision: u64,
    constant: &[u8],
    blob: &[u8],
) -> Option<Vec<u8>> {
    let (salt, rest) = blob.split_first_chunk::<SALT_LEN>()?;
    let (text, mac) = rest.split_last_chunk::<MAC_LEN>()?;
    let keys = Keys::derive(secret_data, subcredential, revision, salt, constant);
    if !ct_eq(&keys.mac(salt, text), mac) {
        return None;
    }
    let mut text = text.to_vec();
    keys.crypt(&mut text);
    Some(text)
}

/// The keys of one layer of one descriptor: cipher key, initial counter, MAC key.
struct Keys(Zeroizing<[u8; KEY_LEN + IV_LEN + MAC_LEN]>);

impl Keys {
    fn derive(
        secret_data: &[u8],
        subcredential: &[u8; 32],
        revision: u64,
        salt: &[u8; SALT_LEN],
        constant: &[u8],
    ) -> Keys {
        let mut keys = Zeroizing::new([0; KEY_LEN + IV_LEN + MAC_LEN]);
        let revision = revision.to_be_bytes();
        let input: [&[u8]; 5] = [secret_data, subcredential, &revision, salt, constant];
        shake_256(&input, &mut *keys);
        Keys(keys)
    }

    fn crypt(&self, text: &mut [u8]) {
        let (key, rest) = self.0.split_at(KEY_LEN);
        crypt(key, &rest[..IV_LEN], text);
    }

    fn mac(&self, salt: &[u8; SALT_LEN], text: &[u8]) -> [u8; MAC_LEN] {
        const LENS: [[u8; 8]; 2] = [
            (MAC_LEN as u64).to_be_bytes(),
            (SALT_LEN as u64).to_be_bytes(),
        ];
        let mut hash = Sha3Running::new();
        for part in [&LENS[0], &self.0[KEY_LEN + IV_LEN..], &LENS[1], salt, text] {
            hash.update(part);
        }
        hash.finish()
    }
}

fn crypt(key: &[u8], iv: &[u8], text: &mut [u8]) {
    Ctr128BE::<Aes256>::new_from_slices(key, iv)
        .expect("keys of 32 bytes and counters of 16")
        .apply_keystream(text);
}

/// What a descriptor's ephemeral key and a client's key agree upon: the client's line in the
/// descriptor and the key of the cookie therein (2.5.1.2).
pub struct ClientKeys(Zeroizing<[u8; CLIENT_ID_LEN + KEY_LEN]>);

impl ClientKeys {
    /// At the service: its ephemeral secret, the client's public key. At the client: its secret,
    /// the ephemeral public key. `None` for a public key of small order.
    pub fn derive(
        subcredential: &[u8; 32],
        secret: &SecretKey,
        public: &PublicKey,
    ) -> Option<ClientKeys> {
        let seed = secret.diffie_hellman(public)?;
        let mut keys = Zeroizing::new([0; CLIENT_ID_LEN + KEY_LEN]);
        shake_256(&[subcredential, &*seed], &mut *keys);
        Some(ClientKeys(keys))
    }

    /// The client's id.
    pub fn client_id(&self) -> &[u8; CLIENT_ID_LEN] {
        self.0.first_chunk().expect("longer than the id")
    }

    /// Encrypts or decrypts the descriptor cookie of the client's line.
    pub fn crypt_cookie(&self, iv: &[u8; 16], cookie: &mut [u8; COOKIE_LEN]) {
        crypt(&self.0[CLIENT_ID_LEN..], iv, cookie);
    }
}

impl fmt::Debug for ClientKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hs_layer::ClientKeys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use hex_literal::hex;
    use proptest::prelude::*;

    const SUBCREDENTIAL: [u8; 32] = [2; 32];

    /// Computed with Python's hashlib and OpenSSL's AES after 2.5.3.
    #[test]
    fn vectors() {
        let inner = [[1; 32].as_slice(), &[9; 16]].concat();
        for (secret_data, constant, blob) in [
            (
                &inner[..32],
                SUPERENCRYPTED,
                hex!(
                    "000102030405060708090a0b0c0d0e0f2835a09ce709681e0ae964"
                    "81965dee73ea9d6fe639081730aa8182e774a99c9350676e6ab3675d615adce6"
                ),
            ),
            (
                &inner[..],
                ENCRYPTED,
                hex!(
                    "000102030405060708090a0b0c0d0e0f42ab519ab7c896ce153860"
                    "d2ae93d07166883c04fd218cd2be9ae9843bd1932b5b7f362822c9789d8a640a"
                ),
            ),
        ] {
            let text = decrypt(secret_data, &SUBCREDENTIAL, 7, constant, &blob);
            assert_eq!(text.as_deref(), Some(&b"hello hello"[..]));
            let other = |secret_data, subcredential, revision, constant| {
                decrypt(secret_data, subcredential, revision, constant, &blob)
            };
            assert_eq!(other(b"", &SUBCREDENTIAL, 7, constant), None);
            assert_eq!(other(secret_data, &[3; 32], 7, constant), None);
            assert_eq!(other(secret_data, &SUBCREDENTIAL, 8, constant), None);
            assert_eq!(other(secret_data, &SUBCREDENTIAL, 7, b""), None);
        }
    }

    /// C tor's (`test_hs_descriptor.c`, test_build_authorized_client).
    #[test]
    fn client_vector() {
        let ephemeral = SecretKey::from_bytes(&hex!(
            "d023b674d993a5c8446bd2ca97e9961149b3c0e88c7dc14e8777744dd3468d6a"
        ));
        let client = PublicKey::from(hex!(
            "8c1298fa6050e372f8598f6deca32e27b0ad457741422c2629ebb132cf7fae37"
        ));
        let keys = ClientKeys::derive(&[42; 32], &ephemeral, &client).unwrap();
        assert_eq!(*keys.client_id(), hex!("EC19B7FF4D2DDA13"));
        let mut cookie = hex!("07d087f1d8c68393721f6e70316d3b29");
        keys.crypt_cookie(&[1; 16], &mut cookie);
        assert_eq!(cookie, hex!("B21222BE13F385F355BD07B2381F9F29"));
        assert!(ClientKeys::derive(&[42; 32], &ephemeral, &[0; 32].into()).is_none());
    }

    proptest! {
        #[test]
        fn encrypted_is_decrypted(
            seed: [u8; 32],
            secret_data: Vec<u8>,
            revision: u64,
            text: Vec<u8>,
            change: prop::sample::Index,
        ) {
            let mut rng = Rng::from_seed(seed);
            let mut make = || {
                encrypt(&secret_data, &SUBCREDENTIAL, revision, ENCRYPTED, &text, &mut rng)
            };
            let (mut blob, second) = (make(), make());
            let open = |blob: &[u8]| {
                decrypt(&secret_data, &SUBCREDENTIAL, revision, ENCRYPTED, blob)
            };
            prop_assert_ne!(&blob, &second);
            prop_assert_eq!(blob.len(), text.len() + OVERHEAD);
            prop_assert_eq!(open(&blob), Some(text.clone()));
            let len = change.index(blob.len());
            prop_assert_eq!(open(&blob[..len]), None);
            blob[len] ^= 1;
            prop_assert_eq!(open(&blob), None);
        }

        #[test]
        fn both_sides_derive_the_same(seed: [u8; 32], iv: [u8; 16], cookie: [u8; COOKIE_LEN]) {
            let mut rng = Rng::from_seed(seed);
            let (service, client) = (SecretKey::generate(&mut rng), SecretKey::generate(&mut rng));
            let ours = ClientKeys::derive(&seed, &service, client.public()).unwrap();
            let theirs = ClientKeys::derive(&seed, &client, service.public()).unwrap();
            prop_assert_eq!(ours.client_id(), theirs.client_id());
            let mut text = cookie;
            ours.crypt_cookie(&iv, &mut text);
            prop_assert_ne!(text, cookie);
            theirs.crypt_cookie(&iv, &mut text);
            prop_assert_eq!(text, cookie);
        }
    }
}
