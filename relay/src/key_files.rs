//! The files of a relay's keys, as `tor` names and writes them (`keys/` of its DataDirectory).
//!
//! Bytes in, types out, and back; the shell does the reading and writing, secret files with mode
//! 0600. A file that is damaged is named in the error and never replaced silently.

use cepa_crypto::ed25519::ExpandedKeypair;
use cepa_crypto::key_file::{self, Kind};
use cepa_crypto::{Ed25519Id, RsaId, curve25519, rsa};
use cepa_wire::cert::{CertType, UnverifiedCert};
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
pub const READ_FILES: [&str; 9] = [
    SECRET_ID_KEY,
    MASTER_SECRET,
    MASTER_PUBLIC,
    SIGNING_SECRET,
    SIGNING_CERT,
    SECRET_ONION_KEY,
    SECRET_ONION_KEY_NTOR,
    SECRET_ONION_KEY_NTOR_OLD,
    FINGERPRINT,
];

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
    /// The file is not in the form that `tor` writes.
    #[error("{0} is damaged, or no key of this kind")]
    Damaged(&'static str),
    /// The file does not belong to another one.
    #[error("{0} does not belong to {1}")]
    Mismatch(&'static str, &'static str),
    /// One identity key is there, the other is not.
    #[error("{0} is missing, while {1} is there")]
    Missing(&'static str, &'static str),
    /// A key of this kind cannot be generated.
    #[error("no RSA key could be made")]
    Generate,
    /// The signing key has ended, and the master key that would sign another is elsewhere.
    #[error(
        "{SIGNING_CERT} has ended: renew it where {MASTER_SECRET} is (cepa relay keygen --renew)"
    )]
    Ended,
}

fn tagged(path: &'static str, kind: Kind, content: &[u8]) -> KeyFile {
    KeyFile {
        path,
        bytes: Some(key_file::write(kind, content)),
    }
}

/// Writes the Ed25519 master identity key.
#[must_use]
pub fn write_master(key: &ExpandedKeypair) -> [KeyFile; 2] {
    [
        tagged(MASTER_SECRET, Kind::MasterSecret, &*key.to_bytes()),
        tagged(MASTER_PUBLIC, Kind::MasterPublic, key.public().as_bytes()),
    ]
}

/// Reads the public half of the Ed25519 master identity key.
pub fn read_master_public(public: &[u8]) -> Result<Ed25519Id, KeyFileError> {
    let content = key_file::read(Kind::MasterPublic, public);
    let id = content.ok().and_then(Ed25519Id::from_bytes);
    id.ok_or(KeyFileError::Damaged(MASTER_PUBLIC))
}

/// Reads the Ed25519 master identity key, and checks its public half if that is there.
pub fn read_master(secret: &[u8], public: Option<&[u8]>) -> Result<ExpandedKeypair, KeyFileError> {
    let key = key_file::read_ed25519(Kind::MasterSecret, secret)
        .map_err(|_| KeyFileError::Damaged(MASTER_SECRET))?;
    if let Some(public) = public
        && read_master_public(public)? != key.public().id()
    {
        return Err(KeyFileError::Mismatch(MASTER_PUBLIC, MASTER_SECRET));
    }
    Ok(key)
}

/// Writes the signing key with its certificate.
#[must_use]
pub fn write_signing(key: &ExpandedKeypair, cert: &[u8]) -> [KeyFile; 2] {
    [
        tagged(SIGNING_SECRET, Kind::SigningSecret, &*key.to_bytes()),
        tagged(SIGNING_CERT, Kind::SigningCert, cert),
    ]
}

/// Reads a signing key and its certificate, whoever made it and until when it may last.
pub fn read_signing(secret: &[u8], cert: &[u8]) -> Result<SigningFiles, KeyFileError> {
    let key = key_file::read_ed25519(Kind::SigningSecret, secret)
        .map_err(|_| KeyFileError::Damaged(SIGNING_SECRET))?;
    let damaged = KeyFileError::Damaged(SIGNING_CERT);
    let text = key_file::read(Kind::SigningCert, cert).map_err(|_| damaged)?;
    let cert = UnverifiedCert::parse(text).map_err(|_| damaged)?;
    Ok(SigningFiles {
        key,
        text: text.to_vec(),
        cert: cert.expecting(CertType::ID_SIGNING).map_err(|_| damaged)?,
    })
}

/// A signing key as it is on disk: nothing says yet that its certificate is good.
pub struct SigningFiles {
    /// The key.
    pub key: ExpandedKeypair,
    /// Its certificate.
    pub cert: UnverifiedCert,
    /// The same as bytes.
    pub text: Vec<u8>,
}

/// Writes an ntor onion key.
#[must_use]
pub fn write_ntor(path: &'static str, key: &curve25519::SecretKey) -> KeyFile {
    KeyFile {
        path,
        bytes: Some(key_file::write_onion_key(key)),
    }
}

/// Reads an ntor onion key.
pub fn read_ntor(path: &'static str, bytes: &[u8]) -> Result<curve25519::SecretKey, KeyFileError> {
    key_file::read_onion_key(bytes).map_err(|_| KeyFileError::Damaged(path))
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
