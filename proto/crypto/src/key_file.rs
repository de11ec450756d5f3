//! The binary key files of tor's data directory: a tag of 32 bytes, then the key.
//!
//! The tag is `== kind: name ==` with zero bytes after it. No specification has it; C tor
//! writes it (`lib/crypt_ops/crypto_format.c`), and operators move these files from one
//! program to the other. What follows the tag is for the reader of the kind to check. An onion
//! service's folder has the same two forms as a relay's master key.

use zeroize::Zeroizing;

/// Bytes of the tag.
pub const TAG_LEN: usize = 32;

/// Kind of a file, as its tag tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ed25519_master_id_secret_key`, `hs_ed25519_secret_key`: 64 bytes, expanded.
    MasterSecret,
    /// `ed25519_master_id_public_key`, `hs_ed25519_public_key`: 32 bytes.
    MasterPublic,
    /// `ed25519_signing_secret_key`: 64 bytes, expanded.
    SigningSecret,
    /// `ed25519_signing_cert`: a certificate of cert-spec, type 4.
    SigningCert,
    /// `secret_onion_key_ntor`: secret and public key, 32 bytes each.
    OnionKey,
    /// `NAME.secret_family_key` (proposal 321): 64 bytes, expanded.
    FamilySecret,
}

/// Why a key file was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Shorter than its tag.
    #[error("key file too short")]
    Truncated,
    /// The tag of another kind, or none.
    #[error("key file of another kind")]
    WrongTag,
    /// The key after the tag has a wrong length, or its halves do not belong together.
    #[error("key file with a malformed key")]
    Malformed,
}

impl Kind {
    fn tag(self) -> [u8; TAG_LEN] {
        let text: &[u8] = match self {
            Kind::MasterSecret => b"== ed25519v1-secret: type0 ==",
            Kind::FamilySecret => b"== ed25519v1-secret: fmly-id ==",
            Kind::MasterPublic => b"== ed25519v1-public: type0 ==",
            Kind::SigningSecret => b"== ed25519v1-secret: type4 ==",
            Kind::SigningCert => b"== ed25519v1-cert: type4 ==",
            Kind::OnionKey => b"== c25519v1: onion ==",
        };
        let mut tag = [0; TAG_LEN];
        tag[..text.len()].copy_from_slice(text);
        tag
    }
}

/// The file of a key: its tag and its bytes.
pub fn write(kind: Kind, key: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut file = Zeroizing::new(Vec::with_capacity(TAG_LEN + key.len()));
    file.extend_from_slice(&kind.tag());
    file.extend_from_slice(key);
    file
}

/// The bytes of the key in a file of this kind.
pub fn read(kind: Kind, file: &[u8]) -> Result<&[u8], KeyFileError> {
    let (tag, key) = file.split_first_chunk().ok_or(KeyFileError::Truncated)?;
    if *tag == kind.tag() {
        Ok(key)
    } else {
        Err(KeyFileError::WrongTag)
    }
}

/// The expanded key in a file of this kind (`MasterSecret`, `SigningSecret`).
pub fn read_ed25519(
    kind: Kind,
    file: &[u8],
) -> Result<crate::ed25519::ExpandedKeypair, KeyFileError> {
    let key = read(kind, file)?
        .try_into()
        .map_err(|_| KeyFileError::Malformed)?;
    Ok(crate::ed25519::ExpandedKeypair::from_bytes(key))
}

/// The identity of an onion service in its `hs_ed25519_secret_key`.
pub fn read_hs_secret_key(file: &[u8]) -> Result<crate::ed25519::ExpandedKeypair, KeyFileError> {
    read_ed25519(Kind::MasterSecret, file)
}

/// The `hs_ed25519_secret_key` of an onion service's identity.
pub fn write_hs_secret_key(key: &crate::ed25519::ExpandedKeypair) -> Zeroizing<Vec<u8>> {
    write(Kind::MasterSecret, &*key.to_bytes())
}

/// The public identity of an onion service in its `hs_ed25519_public_key`.
pub fn read_hs_public_key(file: &[u8]) -> Result<crate::ed25519::PublicKey, KeyFileError> {
    crate::ed25519::PublicKey::from_bytes(read(Kind::MasterPublic, file)?)
        .ok_or(KeyFileError::Malformed)
}

/// The `hs_ed25519_public_key` of an onion service's identity.
pub fn write_hs_public_key(key: &crate::ed25519::PublicKey) -> Vec<u8> {
    write(Kind::MasterPublic, key.as_bytes()).to_vec()
}

/// The onion key in a `secret_onion_key_ntor`.
pub fn read_onion_key(file: &[u8]) -> Result<crate::curve25519::SecretKey, KeyFileError> {
    let key = read(Kind::OnionKey, file)?;
    let key: &[u8; 64] = key.try_into().map_err(|_| KeyFileError::Malformed)?;
    let (secret, public) = key.split_first_chunk().ok_or(KeyFileError::Malformed)?;
    let key = crate::curve25519::SecretKey::from_bytes(secret);
    if key.public().as_bytes() == public {
        Ok(key)
    } else {
        Err(KeyFileError::Malformed)
    }
}

/// The `secret_onion_key_ntor` of an onion key.
pub fn write_onion_key(key: &crate::curve25519::SecretKey) -> Zeroizing<Vec<u8>> {
    let mut both = Zeroizing::new([0; 64]);
    both[..32].copy_from_slice(&*key.to_bytes());
    both[32..].copy_from_slice(key.public().as_bytes());
    write(Kind::OnionKey, &*both)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTER_SECRET: &[u8] = include_bytes!("../testdata/ed25519_master_id_secret_key");
    const MASTER_PUBLIC: &[u8] = include_bytes!("../testdata/ed25519_master_id_public_key");
    const ONION_KEY: &[u8] = include_bytes!("../testdata/secret_onion_key_ntor");
    const SIGNING_CERT: &[u8] = include_bytes!("../testdata/ed25519_signing_cert");

    #[test]
    fn files_of_tor_are_read_and_written() {
        let master = read_ed25519(Kind::MasterSecret, MASTER_SECRET).unwrap();
        let public = read(Kind::MasterPublic, MASTER_PUBLIC).unwrap();
        assert_eq!(master.public().as_bytes()[..], *public);
        assert_eq!(
            *write(Kind::MasterSecret, &*master.to_bytes()),
            MASTER_SECRET
        );
        assert_eq!(*write(Kind::MasterPublic, public), MASTER_PUBLIC);
        let onion = read_onion_key(ONION_KEY).unwrap();
        assert_eq!(*write_onion_key(&onion), ONION_KEY);
        // The master key's signature, in the last 64 bytes of the certificate it gave.
        let cert = read(Kind::SigningCert, SIGNING_CERT).unwrap();
        let (body, signature) = cert.split_last_chunk().unwrap();
        assert_eq!(master.public().verify(body, signature), Ok(()));
        assert_eq!(master.sign(body), *signature);
    }

    #[test]
    fn an_onion_service_s_folder_of_tor_is_read_and_written() {
        const SECRET: &[u8] = include_bytes!("../testdata/hs_ed25519_secret_key");
        const PUBLIC: &[u8] = include_bytes!("../testdata/hs_ed25519_public_key");
        const HOSTNAME: &str = include_str!("../testdata/hs_hostname");
        let secret = read_hs_secret_key(SECRET).unwrap();
        let public = read_hs_public_key(PUBLIC).unwrap();
        assert_eq!(secret.public(), public);
        assert_eq!(*write_hs_secret_key(&secret), SECRET);
        assert_eq!(write_hs_public_key(&public), PUBLIC);
        let address = crate::onion::OnionAddress::new(&public).unwrap();
        assert_eq!(address.to_string(), HOSTNAME.trim_end());
        for len in 0..PUBLIC.len() {
            assert!(read_hs_public_key(&PUBLIC[..len]).is_err());
            assert!(read_hs_secret_key(&SECRET[..len]).is_err());
        }
    }

    #[test]
    fn other_files_are_refused() {
        assert_eq!(
            read(Kind::MasterSecret, MASTER_PUBLIC),
            Err(KeyFileError::WrongTag)
        );
        for len in 0..ONION_KEY.len() {
            assert!(read_onion_key(&ONION_KEY[..len]).is_err());
            assert!(read_ed25519(Kind::MasterSecret, &MASTER_SECRET[..len]).is_err());
        }
        let mut other = ONION_KEY.to_vec();
        other[95] ^= 1;
        assert_eq!(read_onion_key(&other).unwrap_err(), KeyFileError::Malformed);
    }
}
