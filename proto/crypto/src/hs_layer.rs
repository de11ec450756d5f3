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
