//! The keys of a relay and their rotation (tor-spec 1.1, dir-spec 2.1.1, cert-spec; param-spec
//! `onion-key-rotation-days`, `onion-key-grace-period-days`).
//!
//! Identities stay for good. The signing key lasts 30 days and is made anew whenever half of its
//! life is over, unless the master key is kept elsewhere ([`crate::signing`]). The ntor onion key
//! lasts 28 days; the one before it answers for a grace period more. The dummy TAP key goes with
//! it: authorities take a change of the ntor key alone for cosmetic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cepa_circuit::OnionKeys;
use cepa_crypto::ed25519;
use cepa_crypto::{Ed25519Id, Rng, RsaId, curve25519, rsa};
use cepa_link::{LinkKeys, LinkTimes};
use cepa_netdoc::descriptor::DescriptorKeys;
use cepa_netdoc::params::Params;
use cepa_wire::Now;
use zeroize::Zeroizing;

use crate::key_files::{self, KeyFile, KeyFileError};
use crate::signing::{DAY, Master, SIGNING_DAYS, Signing};

/// Bits of the identity and the TAP key.
const RSA_BITS: usize = 1024;

/// How long keys and certificates last that a relay makes for itself: options of `tor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyTimes {
    /// A signing key (`SigningKeyLifetime`).
    pub signing: Duration,
    /// So long before its end another is made (`TestingSigningKeySlop`); none: half of its life.
    pub signing_slop: Option<Duration>,
    /// Certificates of links.
    pub links: LinkTimes,
    /// So long before the end of those others are made (`TestingLinkKeySlop`).
    pub link_slop: Duration,
    /// The same of the key that authenticates (`TestingAuthKeySlop`).
    pub auth_slop: Duration,
}

impl Default for KeyTimes {
    fn default() -> Self {
        const SLOP: Duration = Duration::from_secs(3 * 60 * 60);
        KeyTimes {
            signing: DAY * SIGNING_DAYS,
            signing_slop: None,
            links: LinkTimes::default(),
            link_slop: SLOP,
            auth_slop: SLOP,
        }
    }
}

impl KeyTimes {
    /// For how long a TLS key and what belongs to it is used for new links, where `most` is enough.
    pub(crate) fn links_for(&self, most: Duration) -> Duration {
        const LEAST: Duration = Duration::from_secs(60);
        let ends = [
            Some(self.links.link.saturating_sub(self.link_slop)),
            Some(self.links.auth.saturating_sub(self.auth_slop)),
            self.links.tls.map(|life| life / 4),
        ];
        let first = ends.into_iter().flatten().fold(most, Duration::min);
        first.max(LEAST)
    }
}

/// How long keys last: onion keys by the consensus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyLife {
    /// For how long a signing key is certified.
    pub certified: Duration,
    /// After how long a signing key is made anew: half of the time for which it is certified.
    pub signing: Duration,
    /// `onion-key-rotation-days`, 1 to 90.
    pub rotation: Duration,
    /// `onion-key-grace-period-days`, 1 to the rotation.
    pub grace: Duration,
}

impl KeyLife {
    /// What the consensus says, where a day is so long; tests have shorter ones.
    #[must_use]
    pub fn of(params: &Params, day: Duration) -> Self {
        let rotation = params.value("onion-key-rotation-days", 28, 1, 90);
        let grace = params.value("onion-key-grace-period-days", 7, 1, rotation);
        let days = |n: i32| day * u32::try_from(n).unwrap_or(1);
        KeyLife {
            certified: DAY * SIGNING_DAYS,
            signing: day * SIGNING_DAYS / 2,
            rotation: days(rotation),
            grace: days(grace),
        }
    }

    /// The same where the operator says how long a signing key lasts.
    #[must_use]
    pub fn with(self, times: &KeyTimes) -> Self {
        if times.signing == self.certified && times.signing_slop.is_none() {
            return self;
        }
        let slop = times.signing_slop.unwrap_or(times.signing / 2);
        KeyLife {
            certified: times.signing,
            signing: times.signing.saturating_sub(slop),
            ..self
        }
    }
}

/// All keys of a relay but those of TLS.
pub struct RelayKeys {
    identity: Arc<rsa::Keypair>,
    master: Master,
    signing: Signing,
    tap: rsa::Keypair,
    ntor: curve25519::SecretKey,
    ntor_previous: Option<curve25519::SecretKey>,
    ntor_since: SystemTime,
}

impl std::fmt::Debug for RelayKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RelayKeys of ${} {}", self.rsa_id(), self.ed25519_id())
    }
}

impl RelayKeys {
    /// The keys of a new relay. Takes a fraction of a second.
    pub fn generate(now: Now, rng: &mut Rng) -> Result<Self, KeyFileError> {
        RelayKeys::generate_for(KeyTimes::default().signing, now, rng)
    }

    fn generate_for(certified: Duration, now: Now, rng: &mut Rng) -> Result<Self, KeyFileError> {
        let identity = generate_rsa(rng)?;
        let master = ed25519::Keypair::generate(rng).expand();
        let signing = Signing::make(&master, certified, now, rng);
        let master = (Master::Here(Box::new(master)), signing);
        RelayKeys::new(identity, master, None, now.wall, rng)
    }

    /// The keys in the files of a data folder (those of [`key_files::READ_FILES`] that are there),
    /// with onion keys since `ntor_since`. Onion keys that are missing are made; identities that
    /// are missing, only if both are.
    pub fn parse(
        files: &BTreeMap<String, Zeroizing<Vec<u8>>>,
        ntor_since: SystemTime,
        now: Now,
        rng: &mut Rng,
    ) -> Result<Self, KeyFileError> {
        RelayKeys::parse_for(files, ntor_since, KeyTimes::default().signing, now, rng)
    }

    /// The same, where a signing key that has to be made is `certified` for so long.
    pub fn parse_for(
        files: &BTreeMap<String, Zeroizing<Vec<u8>>>,
        ntor_since: SystemTime,
        certified: Duration,
        now: Now,
        rng: &mut Rng,
    ) -> Result<Self, KeyFileError> {
        let file = |path: &str| files.get(path).map(|bytes| bytes.as_slice());
        let id = key_files::SECRET_ID_KEY;
        let is_first_start = file(key_files::FINGERPRINT).is_none();
        let master = read_master(&file, certified, now, rng)?;
        let (identity, master) = match (file(id), master) {
            (None, None) => return RelayKeys::generate_for(certified, now, rng),
            // A first start that was cut off: the fingerprint is written last.
            (None, Some((Master::Here(_), _))) if is_first_start => {
                return RelayKeys::generate_for(certified, now, rng);
            }
            // The first start after the master key was made elsewhere.
            (None, Some(master)) if is_first_start => (generate_rsa(rng)?, master),
            (Some(_), None) => return Err(KeyFileError::Missing(key_files::MASTER_SECRET, id)),
            (None, Some(_)) => return Err(KeyFileError::Missing(id, key_files::MASTER_PUBLIC)),
            (Some(identity), Some(master)) => (key_files::read_rsa(id, identity)?, master),
        };
        let ntor = |path| {
            file(path)
                .map(|bytes| key_files::read_ntor(path, bytes))
                .transpose()
        };
        let current = ntor(key_files::SECRET_ONION_KEY_NTOR)?;
        let previous = ntor(key_files::SECRET_ONION_KEY_NTOR_OLD)?;
        let tap_path = key_files::SECRET_ONION_KEY;
        let tap = file(tap_path)
            .map(|bytes| key_files::read_rsa(tap_path, bytes))
            .transpose()?;
        // Only together: a ntor key with a new TAP key would be a change that is none.
        let onion = current.zip(tap).map(|(ntor, tap)| (ntor, previous, tap));
        let since = if onion.is_some() {
            ntor_since.min(now.wall)
        } else {
            now.wall
        };
        RelayKeys::new(identity, master, onion, since, rng)
    }

    fn new(
        identity: rsa::Keypair,
        (master, signing): (Master, Signing),
        onion: Option<(
            curve25519::SecretKey,
            Option<curve25519::SecretKey>,
            rsa::Keypair,
        )>,
        ntor_since: SystemTime,
        rng: &mut Rng,
    ) -> Result<Self, KeyFileError> {
        let (ntor, ntor_previous, tap) = match onion {
            Some(onion) => onion,
            None => (
                curve25519::SecretKey::generate(rng),
                None,
                generate_rsa(rng)?,
            ),
        };
        Ok(RelayKeys {
            identity: Arc::new(identity),
            master,
            signing,
            tap,
            ntor,
            ntor_previous,
            ntor_since,
        })
    }

    /// The relay's RSA identity.
    #[must_use]
    pub fn rsa_id(&self) -> RsaId {
        self.identity.public().id()
    }

    /// The relay's Ed25519 identity.
    #[must_use]
    pub fn ed25519_id(&self) -> Ed25519Id {
        self.master.id()
    }

    /// The RSA identity key, which signs TLS certificates.
    #[must_use]
    pub fn identity(&self) -> &Arc<rsa::Keypair> {
        &self.identity
    }

    /// Until when the signing key is good.
    #[must_use]
    pub fn signing_until(&self) -> SystemTime {
        self.signing.until
    }

    /// How long the signing key is still good, if no other can be made here.
    #[must_use]
    pub fn signing_left(&self, now: Now) -> Option<Duration> {
        let is_away = self.master.secret().is_none();
        is_away.then(|| self.signing.left(now))
    }

    /// Takes a signing key that was made where the master key is, if it is good for longer than
    /// the one in use. Whether it is.
    pub fn take_signing(
        &mut self,
        secret: &[u8],
        cert: &[u8],
        now: Now,
    ) -> Result<bool, KeyFileError> {
        let read = Signing::read(secret, cert, self.master.id(), now)?;
        let is_later = read.until > self.signing.until;
        if is_later {
            self.signing = read;
        }
        Ok(is_later)
    }

    /// Since when the onion key has been in use; to be kept beside the files.
    #[must_use]
    pub fn ntor_since(&self) -> SystemTime {
        self.ntor_since
    }

    /// What links are authenticated with.
    #[must_use]
    pub fn link_keys(&self) -> LinkKeys<'_> {
        LinkKeys {
            rsa: &self.identity,
            ed: self.ed25519_id(),
            signing: &self.signing.key,
            signing_cert: &self.signing.cert,
        }
    }

    /// What descriptors name and are signed with.
    #[must_use]
    pub fn descriptor_keys(&self) -> DescriptorKeys<'_> {
        DescriptorKeys {
            identity: &self.identity,
            tap_onion: Some(&self.tap),
            ntor_onion: &self.ntor,
            signing: &self.signing.key,
            signing_cert: &self.signing.cert,
        }
    }

    /// What onionskins are answered with.
    #[must_use]
    pub fn onion_keys(&self) -> OnionKeys {
        let ntor = std::iter::once(&self.ntor)
            .chain(&self.ntor_previous)
            .cloned()
            .collect();
        OnionKeys {
            rsa: self.rsa_id(),
            ed: self.ed25519_id(),
            ntor,
        }
    }

    /// Makes keys anew whose time has come, and forgets the onion key whose grace period is over.
    /// What has changed needs new files, a new descriptor, new answers to onionskins.
    pub fn rotate(
        &mut self,
        life: KeyLife,
        now: Now,
        rng: &mut Rng,
    ) -> Result<Rotated, KeyFileError> {
        let age = |since: SystemTime| now.wall.duration_since(since).unwrap_or_default();
        let mut rotated = Rotated::default();
        if let Some(master) = self.master.secret()
            && self.signing.left(now) <= life.certified.saturating_sub(life.signing)
        {
            self.signing = Signing::make(master, life.certified, now, rng);
            rotated.signing = true;
        }
        if age(self.ntor_since) >= life.rotation {
            self.tap = generate_rsa(rng)?;
            let fresh = curve25519::SecretKey::generate(rng);
            self.ntor_previous = Some(std::mem::replace(&mut self.ntor, fresh));
            self.ntor_since = now.wall;
            rotated.onion = true;
        } else if self.ntor_previous.is_some() && age(self.ntor_since) >= life.grace {
            self.ntor_previous = None;
            rotated.grace_over = true;
        }
        Ok(rotated)
    }

    /// All files, to be written in this order: a first start that is cut off lacks the last ones.
    #[must_use]
    pub fn files(&self, nickname: &str) -> Vec<KeyFile> {
        let old = key_files::SECRET_ONION_KEY_NTOR_OLD;
        let previous = self.ntor_previous.as_ref();
        let mut files = Vec::with_capacity(10);
        files.extend(
            self.master
                .secret()
                .into_iter()
                .flat_map(key_files::write_master),
        );
        files.extend(self.signing.files());
        files.push(key_files::write_rsa(key_files::SECRET_ONION_KEY, &self.tap));
        files.push(key_files::write_ntor(
            key_files::SECRET_ONION_KEY_NTOR,
            &self.ntor,
        ));
        files.push(previous.map_or(
            KeyFile {
                path: old,
                bytes: None,
            },
            |key| key_files::write_ntor(old, key),
        ));
        files.push(key_files::write_rsa(
            key_files::SECRET_ID_KEY,
            &self.identity,
        ));
        let (rsa, ed) = (self.rsa_id(), self.ed25519_id());
        files.extend(key_files::write_fingerprints(nickname, rsa, ed));
        files
    }
}

/// What [`RelayKeys::rotate`] has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rotated {
    /// The signing key.
    pub signing: bool,
    /// The onion keys.
    pub onion: bool,
    /// The onion key before has been forgotten.
    pub grace_over: bool,
}

impl Rotated {
    /// Whether anything has.
    #[must_use]
    pub fn any(self) -> bool {
        self != Rotated::default()
    }
}

fn generate_rsa(rng: &mut Rng) -> Result<rsa::Keypair, KeyFileError> {
    rsa::Keypair::generate(RSA_BITS, rng).map_err(|_| KeyFileError::Generate)
}

/// The master identity, if there is any of it, with a signing key that is good.
fn read_master<'a>(
    file: &impl Fn(&str) -> Option<&'a [u8]>,
    certified: Duration,
    now: Now,
    rng: &mut Rng,
) -> Result<Option<(Master, Signing)>, KeyFileError> {
    let (secret_path, public_path) = (key_files::MASTER_SECRET, key_files::MASTER_PUBLIC);
    let public = file(public_path);
    let secret = file(secret_path);
    let secret = secret.map(|secret| key_files::read_master(secret, public));
    let master = match (secret.transpose()?, public) {
        (Some(key), _) => Master::Here(Box::new(key)),
        (None, Some(public)) => Master::Away(key_files::read_master_public(public)?),
        (None, None) => return Ok(None),
    };
    let (key, cert) = (key_files::SIGNING_SECRET, key_files::SIGNING_CERT);
    let found = match (file(key), file(cert)) {
        (Some(key), Some(cert)) => Signing::read(key, cert, master.id(), now),
        (None, _) => Err(KeyFileError::Missing(key, public_path)),
        (_, None) => Err(KeyFileError::Missing(cert, public_path)),
    };
    let signing = match (found, &master) {
        (Err(damaged @ KeyFileError::Damaged(_)), _) => return Err(damaged),
        // What has ended, or was written by halves, is made anew where that is possible.
        (Err(_), Master::Here(secret)) => Signing::make(secret, certified, now, rng),
        (found, _) => found?,
    };
    Ok(Some((master, signing)))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
    fn now() -> Now {
        Now {
            mono: std::time::Instant::now(),
            wall: UNIX_EPOCH + DAY * 20_000,
        }
    }

    fn map(files: Vec<KeyFile>) -> BTreeMap<String, Zeroizing<Vec<u8>>> {
        let files = files.into_iter();
        files
            .filter_map(|file| Some((file.path.to_owned(), file.bytes?)))
            .collect()
    }

    #[test]
    fn files_come_back_as_the_same_keys() {
        let (now, mut rng) = (now(), Rng::from_seed([1; 32]));
        let mut keys = RelayKeys::generate(now, &mut rng).unwrap();
        assert!(
            keys.rotate(KeyLife::of(&Params::new(), DAY), now + DAY * 28, &mut rng)
                .unwrap()
                .onion
        );
        let files = map(keys.files("Foo"));
        let read = RelayKeys::parse(&files, now.wall, now, &mut rng).unwrap();
        assert_eq!(
            (read.rsa_id(), read.ed25519_id()),
            (keys.rsa_id(), keys.ed25519_id())
        );
        let public = |keys: &RelayKeys| {
            keys.onion_keys()
                .ntor
                .iter()
                .map(|key| *key.public())
                .collect::<Vec<_>>()
        };
        assert_eq!(public(&read), public(&keys));
        assert_eq!(public(&read).len(), 2);
        for path in key_files::READ_FILES
            .into_iter()
            .filter(|path| path.contains("key"))
        {
            for cut in [0, 31, 40] {
                let mut files = files.clone();
                files.get_mut(path).unwrap().truncate(cut);
                let damaged = RelayKeys::parse(&files, now.wall, now, &mut rng);
                assert!(damaged.unwrap_err().to_string().contains(path), "{path}");
            }
        }
        let mut half = files.clone();
        half.remove(key_files::MASTER_SECRET);
        half.remove(key_files::MASTER_PUBLIC);
        assert!(matches!(
            RelayKeys::parse(&half, now.wall, now, &mut rng),
            Err(KeyFileError::Missing(key_files::MASTER_SECRET, _))
        ));
        let mut lost = files.clone();
        lost.remove(key_files::SECRET_ID_KEY);
        assert!(RelayKeys::parse(&lost, now.wall, now, &mut rng).is_err());
        lost.remove(key_files::FINGERPRINT);
        assert!(RelayKeys::parse(&lost, now.wall, now, &mut rng).is_ok());
    }

    #[test]
    fn keys_are_rotated_in_time() {
        let (now, mut rng) = (now(), Rng::from_seed([2; 32]));
        let life = KeyLife::of(&Params::new(), DAY);
        let mut keys = RelayKeys::generate(now, &mut rng).unwrap();
        let mut rotate = |days| keys.rotate(life, now + DAY * days, &mut rng).unwrap();
        assert!(!rotate(14).any());
        assert_eq!(
            rotate(15),
            Rotated {
                signing: true,
                ..Rotated::default()
            }
        );
        assert_eq!(
            rotate(28),
            Rotated {
                onion: true,
                ..Rotated::default()
            }
        );
        assert!(!rotate(29).any());
        let both = Rotated {
            signing: true,
            grace_over: true,
            ..Rotated::default()
        };
        assert_eq!(rotate(35), both);
        assert_eq!(keys.onion_keys().ntor.len(), 1);
    }

    #[test]
    fn keys_last_as_long_as_the_operator_says() {
        let (now, mut rng) = (now(), Rng::from_seed([7; 32]));
        let times = KeyTimes {
            signing: DAY * 10,
            signing_slop: Some(DAY * 2),
            ..KeyTimes::default()
        };
        let life = KeyLife::of(&Params::new(), DAY).with(&times);
        let files = BTreeMap::new();
        let parsed = RelayKeys::parse_for(&files, now.wall, times.signing, now, &mut rng);
        let mut keys = parsed.unwrap();
        assert_eq!(keys.signing_until(), now.wall + DAY * 10);
        assert!(!keys.rotate(life, now + DAY * 7, &mut rng).unwrap().signing);
        assert!(keys.rotate(life, now + DAY * 8, &mut rng).unwrap().signing);
        assert_eq!(keys.signing_until(), now.wall + DAY * 18);
        let usual = KeyTimes::default();
        assert_eq!(usual.links_for(DAY / 2), DAY / 2);
        let hours = |hours: u32| DAY / 24 * hours;
        let mut short = usual;
        short.links.link = hours(8);
        assert_eq!(short.links_for(DAY / 2), hours(5));
        short.links.auth = hours(6);
        short.auth_slop = hours(2);
        assert_eq!(short.links_for(DAY / 2), hours(4));
        short.links.tls = Some(hours(12));
        assert_eq!(short.links_for(DAY / 2), hours(3));
    }

    #[test]
    fn a_start_makes_no_signing_key_anew_that_is_good() {
        let (now, mut rng) = (now(), Rng::from_seed([3; 32]));
        let keys = RelayKeys::generate(now, &mut rng).unwrap();
        let files = map(keys.files("Foo"));
        let mut read = |files, days| RelayKeys::parse(files, now.wall, now + DAY * days, &mut rng);
        assert_eq!(map(read(&files, 14).unwrap().files("Foo")), files);
        let cert = |keys: RelayKeys| keys.signing.cert;
        // One that has ended, or was written by halves.
        assert_ne!(cert(read(&files, 31).unwrap()), keys.signing.cert);
        let mut half = files.clone();
        half.remove(key_files::SIGNING_CERT);
        assert_ne!(cert(read(&half, 0).unwrap()), keys.signing.cert);
    }

    #[test]
    fn a_master_key_may_be_elsewhere() {
        let (now, mut rng) = (now(), Rng::from_seed([4; 32]));
        let master = ed25519::Keypair::generate(&mut rng).expand();
        let (signing, until) = crate::signing::make_signing_files(&master, 90, now, &mut rng);
        let mut files = map(key_files::write_master(&master).into());
        files.extend(map(signing.into()));
        files.remove(key_files::MASTER_SECRET);
        let life = KeyLife::of(&Params::new(), DAY);
        // The RSA identity is made here.
        let mut keys = RelayKeys::parse(&files, now.wall, now, &mut rng).unwrap();
        assert_eq!(keys.ed25519_id(), master.public().id());
        let day_60 = now + DAY * 60;
        assert!(!keys.rotate(life, day_60, &mut rng).unwrap().signing);
        assert_eq!(keys.signing_left(day_60), Some(DAY * 30));
        assert_eq!(keys.signing_until(), until);
        let written = map(keys.files("Foo"));
        assert!(!written.contains_key(key_files::MASTER_SECRET));
        files.extend(written);
        let mut parse = |files, days| RelayKeys::parse(files, now.wall, now + DAY * days, &mut rng);
        assert!(parse(&files, 89).is_ok());
        assert!(matches!(parse(&files, 91), Err(KeyFileError::Ended)));
        let mut other = files.clone();
        let stranger = ed25519::Keypair::generate(&mut Rng::from_seed([5; 32])).expand();
        let (forged, _) =
            crate::signing::make_signing_files(&stranger, 90, now, &mut Rng::from_seed([6; 32]));
        let forged = map(forged.into());
        other.extend(forged.clone());
        assert!(matches!(
            parse(&other, 1),
            Err(KeyFileError::Mismatch(key_files::SIGNING_CERT, _))
        ));
        let take = |keys: &mut RelayKeys, files: &BTreeMap<String, Zeroizing<Vec<u8>>>| {
            let file = |path| files[path].as_slice();
            let (key, cert) = (key_files::SIGNING_SECRET, key_files::SIGNING_CERT);
            keys.take_signing(file(key), file(cert), day_60)
        };
        assert!(take(&mut keys, &forged).is_err());
        assert_eq!(take(&mut keys, &files), Ok(false));
        let renewed = crate::signing::make_signing_files(&master, 90, day_60, &mut rng).0;
        assert_eq!(take(&mut keys, &map(renewed.into())), Ok(true));
        assert_eq!(keys.signing_left(day_60), Some(DAY * 90));
        files.remove(key_files::SIGNING_SECRET);
        assert!(matches!(
            RelayKeys::parse(&files, now.wall, now, &mut rng),
            Err(KeyFileError::Missing(key_files::SIGNING_SECRET, _))
        ));
    }
}
