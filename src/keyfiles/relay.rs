//! The identity of a relay, in `keys/` of its data folder, where it is needed without the relay.
//!
//! Names and formats are `tor`'s (`cepa_relay::key_files`). A launcher makes identities before it
//! starts relays, which then make their other keys. Half of an identity is an error.

use std::path::Path;

use cepa_crypto::{Ed25519Id, Rng, RsaId, ed25519, rsa};
use cepa_relay::key_files::{self, KeyFile, KeyFileError};

use super::{read_public, read_secret, write_secret};
use crate::error::Failure;

/// Bits of the RSA identity, on which peers insist (tor-spec 0.3).
const IDENTITY_BITS: usize = 1024;

/// The identity of a relay, as its key files have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The digest of the RSA identity.
    pub rsa: RsaId,
    /// The Ed25519 identity.
    pub ed25519: Ed25519Id,
}

/// Reads the identity of the relay in `data_dir`, or makes one if there is none at all.
///
/// The folder `keys` must be there.
pub fn load_or_make(data_dir: &Path, nickname: &str, rng: &mut Rng) -> Result<Identity, Failure> {
    let wrong = |error: KeyFileError| {
        let advice = "restore it from a copy, or empty the keys folder for a new identity";
        Failure::new(error, data_dir.display(), advice)
    };
    let (id_name, master_name) = (key_files::SECRET_ID_KEY, key_files::MASTER_SECRET);
    let id = read_secret(&data_dir.join(id_name))?;
    let master = read_secret(&data_dir.join(master_name))?;
    let public = read_public(&data_dir.join(key_files::MASTER_PUBLIC))?;
    let rsa = |id: &[u8]| {
        let id = key_files::read_rsa(id_name, id);
        id.map(|id| id.public().id()).map_err(wrong)
    };
    match (id, master, public) {
        (Some(id), Some(master), _) => {
            let master = key_files::read_master(&master, None).map_err(wrong)?;
            Ok(Identity {
                rsa: rsa(&id)?,
                ed25519: master.public().id(),
            })
        }
        // The master key is kept elsewhere.
        (Some(id), None, Some(public)) => Ok(Identity {
            rsa: rsa(&id)?,
            ed25519: key_files::read_master_public(&public).map_err(wrong)?,
        }),
        (None, None, _) => make(data_dir, nickname, rng),
        (None, Some(_), _) => Err(wrong(KeyFileError::Missing(id_name, master_name))),
        (Some(_), None, None) => Err(wrong(KeyFileError::Missing(master_name, id_name))),
    }
}

fn make(data_dir: &Path, nickname: &str, rng: &mut Rng) -> Result<Identity, Failure> {
    let id = generate_rsa(IDENTITY_BITS, rng)?;
    let master = ed25519::Keypair::generate(rng).expand();
    let identity = Identity {
        rsa: id.public().id(),
        ed25519: master.public().id(),
    };
    write(data_dir, &key_files::write_master(&master))?;
    write(
        data_dir,
        &[key_files::write_rsa(key_files::SECRET_ID_KEY, &id)],
    )?;
    // Last: it tells that the identity is whole.
    write(
        data_dir,
        &key_files::write_fingerprints(nickname, identity.rsa, identity.ed25519),
    )?;
    Ok(identity)
}

/// Writes key files, or removes those that are to go.
pub fn write(data_dir: &Path, files: &[KeyFile]) -> Result<(), Failure> {
    for file in files {
        let path = data_dir.join(file.path);
        match &file.bytes {
            Some(bytes) => write_secret(&path, bytes)?,
            None => super::remove(&path)?,
        }
    }
    Ok(())
}

/// Makes an RSA key of a size that this program chose itself.
pub fn generate_rsa(bits: usize, rng: &mut Rng) -> Result<rsa::Keypair, Failure> {
    rsa::Keypair::generate(bits, rng)
        .map_err(|error| Failure::new("cannot make a key", format!("RSA of {bits} bits"), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once_and_never_halved() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("keys")).unwrap();
        let rng = &mut Rng::from_seed([1; 32]);
        let made = load_or_make(dir.path(), "relay1", rng).unwrap();
        assert_eq!(load_or_make(dir.path(), "relay1", rng).unwrap(), made);
        std::fs::remove_file(dir.path().join(key_files::SECRET_ID_KEY)).unwrap();
        let error = load_or_make(dir.path(), "relay1", rng)
            .unwrap_err()
            .to_string();
        assert!(error.contains("secret_id_key"), "{error}");
    }
}
