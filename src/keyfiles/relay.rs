//! The keys of a relay, in `keys/` of its data folder.
//!
//! Names and formats are `tor`'s: `secret_id_key`, `secret_onion_key` (PEM),
//! `ed25519_master_id_{secret,public}_key`, `ed25519_signing_{secret_key,cert}`,
//! `secret_onion_key_ntor` (tagged). Identities are made once; the others are replaced by whoever
//! rotates them (dir-spec 2.1, tor-spec 1.1).

use std::path::{Path, PathBuf};

use cepa_crypto::encoding::hex_upper;
use cepa_crypto::key_file::{self, Kind};
use cepa_crypto::{Ed25519Id, Rng, RsaId, curve25519, ed25519, rsa};

use super::{damaged, read_secret, read_secret_text, write_atomic, write_secret};
use crate::error::{Failure, fail};

/// Bits of the RSA identity and of the obsolete onion key, which peers insist on (tor-spec 0.3).
pub const LEGACY_RSA_BITS: usize = 1024;

/// Who a relay is.
pub struct Identity {
    /// The RSA identity.
    pub rsa: rsa::Keypair,
    /// The Ed25519 identity.
    pub ed25519: ed25519::ExpandedKeypair,
}

impl Identity {
    /// The RSA identity's digest.
    pub fn rsa_id(&self) -> RsaId {
        self.rsa.public().id()
    }

    /// The Ed25519 identity.
    pub fn ed25519_id(&self) -> Ed25519Id {
        self.ed25519.public().id()
    }

    /// Makes both.
    pub fn generate(rng: &mut Rng) -> Result<Self, Failure> {
        let rsa = generate_rsa(LEGACY_RSA_BITS, rng)?;
        Ok(Self {
            rsa,
            ed25519: ed25519::Keypair::generate(rng).expand(),
        })
    }
}

/// The keys folder of a relay.
#[derive(Debug, Clone)]
pub struct RelayKeyFiles {
    keys: PathBuf,
}

impl RelayKeyFiles {
    /// Of a folder that exists and is private (`Folder::keys`).
    pub fn new(keys: &Path) -> Self {
        Self {
            keys: keys.to_owned(),
        }
    }

    /// The identity, which is made if there is none. Half of one is an error.
    pub fn load_or_make_identity(&self, rng: &mut Rng) -> Result<Identity, Failure> {
        match (self.load_rsa("secret_id_key")?, self.load_master()?) {
            (Some(rsa), Some(ed25519)) => Ok(Identity { rsa, ed25519 }),
            (None, None) => {
                let identity = Identity::generate(rng)?;
                self.store_identity(&identity)?;
                Ok(identity)
            }
            (None, Some(_)) => self.half("secret_id_key"),
            (Some(_), None) => self.half("ed25519_master_id_secret_key"),
        }
    }

    /// Writes a new identity.
    pub fn store_identity(&self, identity: &Identity) -> Result<(), Failure> {
        let master = &identity.ed25519;
        self.store(
            "ed25519_master_id_secret_key",
            Kind::MasterSecret,
            &*master.to_bytes(),
        )?;
        let public = master.public();
        self.store(
            "ed25519_master_id_public_key",
            Kind::MasterPublic,
            public.as_bytes(),
        )?;
        // Last: without this one the identity counts as half.
        self.store_rsa("secret_id_key", &identity.rsa)
    }

    /// The key that signs descriptors and links, with the bytes of its certificate (cert-spec,
    /// type 4); `None` if either is missing, which is no loss.
    pub fn load_signing(&self) -> Result<Option<(ed25519::ExpandedKeypair, Vec<u8>)>, Failure> {
        let secret = self.load_ed25519("ed25519_signing_secret_key", Kind::SigningSecret)?;
        let path = self.keys.join("ed25519_signing_cert");
        let Some((secret, file)) = secret.zip(read_secret(&path)?) else {
            return Ok(None);
        };
        match key_file::read(Kind::SigningCert, &file) {
            Ok(cert) => Ok(Some((secret, cert.to_vec()))),
            Err(error) => Err(damaged(&path, &format!("a signing certificate ({error})"))),
        }
    }

    /// Writes the signing key and its certificate.
    pub fn store_signing(
        &self,
        key: &ed25519::ExpandedKeypair,
        cert: &[u8],
    ) -> Result<(), Failure> {
        self.store(
            "ed25519_signing_secret_key",
            Kind::SigningSecret,
            &*key.to_bytes(),
        )?;
        self.store("ed25519_signing_cert", Kind::SigningCert, cert)
    }

    /// The current ntor key; `None` if there is none yet.
    pub fn load_ntor(&self) -> Result<Option<curve25519::SecretKey>, Failure> {
        self.load_ntor_named("secret_onion_key_ntor")
    }

    /// The ntor key before it, which is still good for a while (dir-spec 2.1.1).
    pub fn load_ntor_old(&self) -> Result<Option<curve25519::SecretKey>, Failure> {
        self.load_ntor_named("secret_onion_key_ntor.old")
    }

    /// Writes the current ntor key and the one before it.
    pub fn store_ntor(
        &self,
        key: &curve25519::SecretKey,
        old: Option<&curve25519::SecretKey>,
    ) -> Result<(), Failure> {
        if let Some(old) = old {
            self.store_ntor_named("secret_onion_key_ntor.old", old)?;
        }
        self.store_ntor_named("secret_onion_key_ntor", key)
    }

    /// The obsolete RSA onion key, which descriptors still need; `None` if there is none yet.
    pub fn load_tap(&self) -> Result<Option<rsa::Keypair>, Failure> {
        self.load_rsa("secret_onion_key")
    }

    /// Writes the obsolete RSA onion key.
    pub fn store_tap(&self, key: &rsa::Keypair) -> Result<(), Failure> {
        self.store_rsa("secret_onion_key", key)
    }

    fn load_rsa(&self, name: &str) -> Result<Option<rsa::Keypair>, Failure> {
        let path = self.keys.join(name);
        let Some(pem) = read_secret_text(&path)? else {
            return Ok(None);
        };
        let key = rsa::Keypair::from_pem(&pem).ok();
        match key.filter(|key| key.public().bits() == LEGACY_RSA_BITS) {
            Some(key) => Ok(Some(key)),
            None => Err(damaged(&path, "an RSA PRIVATE KEY of 1024 bits")),
        }
    }

    fn store_rsa(&self, name: &str, key: &rsa::Keypair) -> Result<(), Failure> {
        write_secret(&self.keys.join(name), key.to_pem().as_bytes())
    }

    fn load_master(&self) -> Result<Option<ed25519::ExpandedKeypair>, Failure> {
        self.load_ed25519("ed25519_master_id_secret_key", Kind::MasterSecret)
    }

    fn load_ed25519(
        &self,
        name: &str,
        kind: Kind,
    ) -> Result<Option<ed25519::ExpandedKeypair>, Failure> {
        let path = self.keys.join(name);
        let Some(file) = read_secret(&path)? else {
            return Ok(None);
        };
        let key = key_file::read_ed25519(kind, &file);
        key.map(Some)
            .map_err(|error| damaged(&path, &format!("an Ed25519 key ({error})")))
    }

    fn store(&self, name: &str, kind: Kind, key: &[u8]) -> Result<(), Failure> {
        write_secret(&self.keys.join(name), &key_file::write(kind, key))
    }

    fn load_ntor_named(&self, name: &str) -> Result<Option<curve25519::SecretKey>, Failure> {
        let path = self.keys.join(name);
        let Some(file) = read_secret(&path)? else {
            return Ok(None);
        };
        let key = key_file::read_onion_key(&file);
        key.map(Some)
            .map_err(|error| damaged(&path, &format!("an onion key ({error})")))
    }

    fn store_ntor_named(&self, name: &str, key: &curve25519::SecretKey) -> Result<(), Failure> {
        write_secret(&self.keys.join(name), &key_file::write_onion_key(key))
    }

    fn half<T>(&self, name: &str) -> Result<T, Failure> {
        fail(
            "half of this relay's identity is missing",
            self.keys.join(name).display(),
            "restore it from a copy, or empty the keys folder for a new identity",
        )
    }
}

/// Writes `fingerprint` and `fingerprint-ed25519` into a data folder, in `tor`'s format.
pub fn store_fingerprints(
    data_dir: &Path,
    nickname: &str,
    identity: &Identity,
) -> Result<(), Failure> {
    let rsa = format!("{nickname} {}\n", hex_upper(identity.rsa_id().as_bytes()));
    write_atomic(&data_dir.join("fingerprint"), rsa.as_bytes(), 0o600)?;
    let ed25519 = format!("{nickname} {}\n", identity.ed25519_id());
    write_atomic(
        &data_dir.join("fingerprint-ed25519"),
        ed25519.as_bytes(),
        0o600,
    )
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
    fn keys_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let files = RelayKeyFiles::new(dir.path());
        let rng = &mut Rng::from_seed([1; 32]);
        let made = files.load_or_make_identity(rng).unwrap();
        let again = files.load_or_make_identity(rng).unwrap();
        assert_eq!(made.rsa_id(), again.rsa_id());
        assert_eq!(made.ed25519_id(), again.ed25519_id());
        assert!(files.load_ntor().unwrap().is_none());
        let ntor = curve25519::SecretKey::generate(rng);
        files.store_ntor(&ntor, None).unwrap();
        assert_eq!(files.load_ntor().unwrap().unwrap().public(), ntor.public());
        let signing = ed25519::Keypair::generate(rng).expand();
        files.store_signing(&signing, &[3; 140]).unwrap();
        let (loaded, cert) = files.load_signing().unwrap().unwrap();
        assert_eq!(
            (loaded.public().id(), cert.len()),
            (signing.public().id(), 140)
        );
    }

    #[test]
    fn half_an_identity_is_not_completed() {
        let dir = tempfile::tempdir().unwrap();
        let files = RelayKeyFiles::new(dir.path());
        let rng = &mut Rng::from_seed([2; 32]);
        files.load_or_make_identity(rng).unwrap();
        std::fs::remove_file(dir.path().join("secret_id_key")).unwrap();
        let error = files.load_or_make_identity(rng).err().unwrap().to_string();
        assert!(error.contains("secret_id_key"), "{error}");
    }
}
