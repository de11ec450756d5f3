//! The medium-term signing key of a relay, and the master key behind it (tor-spec 1.1, cert-spec).
//!
//! The master key signs nothing but certificates of signing keys, so it may be kept away from the
//! relay (`OfflineMasterKey` of `tor`). Then a signing key lasts as long as whoever has the master
//! key said, and is never made anew here: another one comes as files.

use std::time::{Duration, SystemTime};

use cepa_crypto::ed25519::{self, ExpandedKeypair};
use cepa_crypto::{Ed25519Id, Rng};
use cepa_wire::Now;
use cepa_wire::cert::{Cert, CertError, CertKeyType, CertType};

use crate::key_files::{self, KeyFile, KeyFileError};

/// A day.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a signing key is certified that a relay makes for itself, as by `tor`.
pub const SIGNING_DAYS: u32 = 30;

/// The master identity of a relay.
pub(crate) enum Master {
    /// Its secret is at hand.
    Here(Box<ExpandedKeypair>),
    /// Its secret is kept elsewhere.
    Away(Ed25519Id),
}

impl Master {
    pub(crate) fn id(&self) -> Ed25519Id {
        match self {
            Master::Here(key) => key.public().id(),
            Master::Away(id) => *id,
        }
    }

    pub(crate) fn secret(&self) -> Option<&ExpandedKeypair> {
        match self {
            Master::Here(key) => Some(key),
            Master::Away(_) => None,
        }
    }
}

/// A signing key with its certificate.
pub(crate) struct Signing {
    pub(crate) key: ExpandedKeypair,
    pub(crate) cert: Vec<u8>,
    /// Until when it is good.
    pub(crate) until: SystemTime,
}

impl Signing {
    /// A fresh one that is good for so long.
    pub(crate) fn make(master: &ExpandedKeypair, life: Duration, now: Now, rng: &mut Rng) -> Self {
        let key = ed25519::Keypair::generate(rng).expand();
        let (public, until) = (key.public(), now.wall + life);
        let (kind, key_type) = (CertType::ID_SIGNING, CertKeyType::ED25519);
        let cert = Cert::make_expanded(kind, until, key_type, public.as_bytes(), master, true);
        Signing { key, cert, until }
    }

    /// The one in these files, if it is good now and the master identity's.
    pub(crate) fn read(
        secret: &[u8],
        cert: &[u8],
        master: Ed25519Id,
        now: Now,
    ) -> Result<Self, KeyFileError> {
        let (secret_path, cert_path) = (key_files::SIGNING_SECRET, key_files::SIGNING_CERT);
        let files = key_files::read_signing(secret, cert)?;
        if files.cert.unchecked().ed25519_key() != files.key.public().id() {
            return Err(KeyFileError::Mismatch(cert_path, secret_path));
        }
        let checked = files.cert.check(now.wall, Some(master));
        let until = match checked {
            Ok(cert) => cert.expires(),
            Err(CertError::Expired) => return Err(KeyFileError::Ended),
            Err(_) => return Err(KeyFileError::Mismatch(cert_path, key_files::MASTER_PUBLIC)),
        };
        Ok(Signing {
            key: files.key,
            cert: files.text,
            until,
        })
    }

    pub(crate) fn files(&self) -> [KeyFile; 2] {
        key_files::write_signing(&self.key, &self.cert)
    }

    /// How long it is still good.
    pub(crate) fn left(&self, now: Now) -> Duration {
        self.until.duration_since(now.wall).unwrap_or_default()
    }
}

/// The files of a fresh signing key that is good for some days, and until when it is: for a relay
/// that does not have the master key.
#[must_use]
pub fn make_signing_files(
    master: &ExpandedKeypair,
    days: u32,
    now: Now,
    rng: &mut Rng,
) -> ([KeyFile; 2], SystemTime) {
    let made = Signing::make(master, DAY * days, now, rng);
    (made.files(), made.until)
}
