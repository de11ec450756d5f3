//! The files of a relay's keys, as `tor` names and writes them (`keys/` of its DataDirectory).
//!
//! ```text
//! tagged file:  "== NAME: TAG ==" padded with zeros to 32 bytes | content
//! ```
//!
//! Bytes in, types out, and back; the shell does the reading and writing, secret files with mode
//! 0600. A file that is damaged is named in the error and never replaced silently.

use cepa_crypto::ed25519::ExpandedKeypair;
use cepa_crypto::{Ed25519Id, RsaId, curve25519, rsa};
use zeroize::Zeroizing;

/// The RSA identity key, PEM.
pub const SECRET_ID_KEY: &str = "keys/secret_id_key";
/// The Ed25519 master identity key.
pub const MASTER_SECRET: &str = "keys/ed25519_master_id_secret_key";
/// Its public half.
pub const MASTER_PUBLIC: &str = "keys/ed25519_master_id_public_key";
/// The Ed25519 signing key.
pub const SIGNING_SECRET: &str = "keys/ed25519_signing_secret_key";
/// The master identity's certificate of it.
pub const SIGNING_CERT: &str = "keys/ed25519_signing_cert";
/// The TAP onion key, PEM; of no use but in descriptors.
pub const SECRET_ONION_KEY: &str = "keys/secret_onion_key";
/// The ntor onion key.
pub const SECRET_ONION_KEY_NTOR: &str = "keys/secret_onion_key_ntor";
/// The ntor onion key before it, in its grace period.
pub const SECRET_ONION_KEY_NTOR_OLD: &str = "keys/secret_onion_key_ntor.old";
/// Nickname and RSA identity, one line.
pub const FINGERPRINT: &str = "fingerprint";
/// Nickname and Ed25519 identity, one line.
pub const FINGERPRINT_ED25519: &str = "fingerprint-ed25519";

/// The files that [`crate::RelayKeys::parse`] reads.
pub const READ_FILES: [&str; 6] = [
    SECRET_ID_KEY,
    MASTER_SECRET,
    MASTER_PUBLIC,
    SECRET_ONION_KEY,
    SECRET_ONION_KEY_NTOR,
    SECRET_ONION_KEY_NTOR_OLD,
];

const TAG_LEN: usize = 32;
const ED25519_SECRET: &str = "== ed25519v1-secret: type0 ==";
const ED25519_PUBLIC: &str = "== ed25519v1-public: type0 ==";
const ED25519_SIGNING: &str = "== ed25519v1-secret: type4 ==";
const ED25519_CERT: &str = "== ed25519v1-cert: type4 ==";
const CURVE25519_ONION: &str = "== c25519v1: onion ==";

/// A file to write.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// Its path below the data folder.
    pub path: &'static str,
    /// Its content; `None`: the file is to go.
    pub bytes: Option<Zeroizing<Vec<u8>>>,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.path)
    }
}

/// Why a key file cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// It is not in the form that `tor` writes.
    #[error("{0} is damaged, or no key of this kind")]
    Damaged(&'static str),
    /// It does not belong to another file.
    #[error("{0} does not belong to {1}")]
    Mismatch(&'static str, &'static str),
    /// One identity key is there, the other is not.
    #[error("{0} is missing, while {1} is there")]
    Missing(&'static str, &'static str),
    /// A key of this kind cannot be generated.
    #[error("no RSA key could be made")]
    Generate,
}

fn tagged(tag: &str, content: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let mut bytes = tag.as_bytes().to_vec();
    bytes.resize(TAG_LEN, 0);
    content
        .iter()
        .for_each(|part| bytes.extend_from_slice(part));
    Zeroizing::new(bytes)
}

/// The content of a tagged file.
fn untagged<'a>(path: &'static str, tag: &str, bytes: &'a [u8]) -> Result<&'a [u8], KeyFileError> {
    let damaged = KeyFileError::Damaged(path);
    let (head, content) = bytes.split_at_checked(TAG_LEN).ok_or(damaged)?;
    let rest = head.strip_prefix(tag.as_bytes()).ok_or(damaged)?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err(damaged);
    }
    Ok(content)
}

/// Writes the Ed25519 master identity key.
#[must_use]
pub fn write_master(key: &ExpandedKeypair) -> [KeyFile; 2] {
    let secret = tagged(ED25519_SECRET, &[&*key.to_bytes()]);
    let public = tagged(ED25519_PUBLIC, &[key.public().as_bytes()]);
    [
        KeyFile {
            path: MASTER_SECRET,
            bytes: Some(secret),
        },
        KeyFile {
            path: MASTER_PUBLIC,
            bytes: Some(public),
        },
    ]
}

/// Reads the Ed25519 master identity key, and checks its public half if that is there.
pub fn read_master(secret: &[u8], public: Option<&[u8]>) -> Result<ExpandedKeypair, KeyFileError> {
    let content = untagged(MASTER_SECRET, ED25519_SECRET, secret)?;
    let content = content
        .try_into()
        .map_err(|_| KeyFileError::Damaged(MASTER_SECRET))?;
    let key = ExpandedKeypair::from_bytes(content);
    if let Some(public) = public {
        let content = untagged(MASTER_PUBLIC, ED25519_PUBLIC, public)?;
        if content != key.public().as_bytes() {
            return Err(KeyFileError::Mismatch(MASTER_PUBLIC, MASTER_SECRET));
        }
    }
    Ok(key)
}

/// Writes the signing key with its certificate.
#[must_use]
pub fn write_signing(key: &ExpandedKeypair, cert: &[u8]) -> [KeyFile; 2] {
    let secret = tagged(ED25519_SIGNING, &[&*key.to_bytes()]);
    [
        KeyFile {
            path: SIGNING_SECRET,
            bytes: Some(secret),
        },
        KeyFile {
            path: SIGNING_CERT,
            bytes: Some(tagged(ED25519_CERT, &[cert])),
        },
    ]
}

/// Writes an ntor onion key.
#[must_use]
pub fn write_ntor(path: &'static str, key: &curve25519::SecretKey) -> KeyFile {
    let content: [&[u8]; 2] = [&*key.to_bytes(), key.public().as_bytes()];
    KeyFile {
        path,
        bytes: Some(tagged(CURVE25519_ONION, &content)),
    }
}

/// Reads an ntor onion key: its secret and its public half, which must fit.
pub fn read_ntor(path: &'static str, bytes: &[u8]) -> Result<curve25519::SecretKey, KeyFileError> {
    let damaged = KeyFileError::Damaged(path);
    let content = untagged(path, CURVE25519_ONION, bytes)?;
    let (secret, public) = content.split_first_chunk::<32>().ok_or(damaged)?;
    let key = curve25519::SecretKey::from_bytes(secret);
    if public != key.public().as_bytes() {
        return Err(damaged);
    }
    Ok(key)
}

/// Writes an RSA key.
#[must_use]
pub fn write_rsa(path: &'static str, key: &rsa::Keypair) -> KeyFile {
    KeyFile {
        path,
        bytes: Some(Zeroizing::new(key.to_pem().as_bytes().to_vec())),
    }
}

/// Reads an RSA key of 1024 bits.
pub fn read_rsa(path: &'static str, bytes: &[u8]) -> Result<rsa::Keypair, KeyFileError> {
    let damaged = KeyFileError::Damaged(path);
    let text = str::from_utf8(bytes).map_err(|_| damaged)?;
    let key = rsa::Keypair::from_pem(text).map_err(|_| damaged)?;
    if key.public().bits() != 1024 {
        return Err(damaged);
    }
    Ok(key)
}

/// The files that tell an operator who the relay is.
#[must_use]
pub fn write_fingerprints(nickname: &str, rsa: RsaId, ed: Ed25519Id) -> [KeyFile; 2] {
    let line = |id: String| Some(Zeroizing::new(format!("{nickname} {id}\n").into_bytes()));
    [
        KeyFile {
            path: FINGERPRINT,
            bytes: line(rsa.to_string()),
        },
        KeyFile {
            path: FINGERPRINT_ED25519,
            bytes: line(ed.to_string()),
        },
    ]
}
