//! The keys of a directory authority, with the names and formats of `tor-gencert`.
//!
//! `authority_identity_key` is the long-term key that stays offline; `authority_signing_key` and
//! `authority_certificate` (dir-spec 3.1) are what a running authority has in its `keys/`.

use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cepa_crypto::{Rng, RsaId, rsa};
use cepa_netdoc::authcert::{AuthCert, IDENTITY_KEY_BITS, SIGNING_KEY_BITS};
use cepa_wire::Now;
use zeroize::Zeroizing;

use super::relay::generate_rsa;
use super::{damaged, read_secret_text, write_atomic, write_secret};
use crate::error::{Failure, fail};

/// A month, as `tor-gencert` counts: 30.5 days.
const MONTH: Duration = Duration::from_secs(30 * 86_400 + 43_200);
/// The largest certificate that is read.
const CERTIFICATE_LEN_MAX: usize = 16 << 10;

/// What a running authority signs with.
pub struct AuthorityKeys {
    /// The medium-term key.
    pub signing: rsa::Keypair,
    /// Its certificate.
    pub certificate: AuthCert,
    /// The same of an identity that the authority had before.
    pub legacy: Option<Box<AuthorityKeys>>,
}

impl AuthorityKeys {
    /// The same, with the key of an earlier identity or without.
    #[must_use]
    pub fn with_legacy(self, is_used: bool) -> Self {
        AuthorityKeys {
            legacy: self.legacy.filter(|_| is_used),
            ..self
        }
    }
}

/// The sizes of new keys, in bits.
#[derive(Debug, Clone, Copy)]
pub struct KeySizes {
    /// The bits of the identity key.
    pub identity: usize,
    /// The bits of the signing key.
    pub signing: usize,
}

impl Default for KeySizes {
    fn default() -> Self {
        Self {
            identity: IDENTITY_KEY_BITS,
            signing: SIGNING_KEY_BITS,
        }
    }
}

/// The terms of a new certificate.
#[derive(Debug, Clone, Copy)]
pub struct CertificateTerms {
    /// The directory port, to be named in it.
    pub address: Option<SocketAddrV4>,
    /// For how many months the certificate is good.
    pub months: u16,
    /// The sizes of keys that have to be made.
    pub sizes: KeySizes,
    /// Whether the signing key that is there gets another certificate.
    pub reuse: bool,
    /// Whether there must be no identity key yet.
    pub create_identity: bool,
    /// A new identity key goes under a passphrase.
    pub under_passphrase: bool,
}

/// Where the three files are.
#[derive(Debug, Clone)]
pub struct KeyPaths {
    /// The long-term identity key.
    pub identity: PathBuf,
    /// The medium-term signing key.
    pub signing: PathBuf,
    /// Its certificate.
    pub certificate: PathBuf,
}

impl KeyPaths {
    /// Under the usual names in a folder.
    #[must_use]
    pub fn within(dir: &Path) -> Self {
        KeyPaths {
            identity: dir.join("authority_identity_key"),
            signing: dir.join("authority_signing_key"),
            certificate: dir.join("authority_certificate"),
        }
    }
}

/// Loads the signing key and its certificate, and checks that they belong together and are good
/// now.
pub fn load(keys: &Path, now: Now) -> Result<AuthorityKeys, Failure> {
    let loaded = read(keys)?;
    check_time(keys, &loaded, now)?;
    Ok(loaded)
}

/// Whether the certificate is good now.
pub fn check_time(keys: &Path, loaded: &AuthorityKeys, now: Now) -> Result<(), Failure> {
    if loaded.certificate.is_current(now.wall) {
        return Ok(());
    }
    fail(
        "this certificate is expired or not yet good",
        keys.join("authority_certificate").display(),
        "renew it with `cepa authority keygen`, or set the clock",
    )
}

/// The same at any time.
pub fn read(keys: &Path) -> Result<AuthorityKeys, Failure> {
    let mut read = read_pair(keys, ["authority_signing_key", "authority_certificate"])?;
    let legacy = ["legacy_signing_key", "legacy_certificate"];
    // As `tor` names them; who has no former identity has none of both.
    if legacy.iter().any(|name| keys.join(name).exists()) {
        read.legacy = Some(Box::new(read_pair(keys, legacy)?));
    }
    Ok(read)
}

fn read_pair(keys: &Path, [key, certificate]: [&str; 2]) -> Result<AuthorityKeys, Failure> {
    let key_path = keys.join(key);
    let certificate_path = keys.join(certificate);
    let Some(pem) = read_secret_text(&key_path)? else {
        let advice = format!("make one: cepa authority keygen --dir {}", keys.display());
        return fail("there is no authority key", key_path.display(), advice);
    };
    let signing = rsa::Keypair::from_pem(&pem)
        .map_err(|_| damaged(&key_path, "an RSA PRIVATE KEY without passphrase"))?;
    let certificate = AuthCert::parse(&read_certificate(&certificate_path)?)
        .map_err(|error| damaged(&certificate_path, &format!("a key certificate ({error})")))?;
    if certificate.signing_key.id() != signing.public().id() {
        return fail(
            "this certificate is for another key",
            certificate_path.display(),
            "put the files of one `cepa authority keygen` here",
        );
    }
    Ok(AuthorityKeys {
        signing,
        certificate,
        legacy: None,
    })
}

/// Asks for the passphrase of a key.
pub type Passphrase<'a> = dyn FnMut() -> Result<Zeroizing<Vec<u8>>, Failure> + 'a;

/// Makes a signing key and its certificate, and an identity key if there is none. Returns the
/// identity. A passphrase is asked for where the identity key is under one, or is to be.
pub fn make(
    paths: &KeyPaths,
    terms: CertificateTerms,
    passphrase: &mut Passphrase<'_>,
    now: Now,
    rng: &mut Rng,
) -> Result<RsaId, Failure> {
    let identity_path = &paths.identity;
    let identity = match load_identity(identity_path, passphrase)? {
        Some(_) if terms.create_identity => {
            let advice = "take another file, or leave --create-identity-key out to use it";
            return fail("there is an identity key", identity_path.display(), advice);
        }
        Some(identity) => identity,
        None => {
            let passphrase = terms.under_passphrase.then(&mut *passphrase).transpose()?;
            let identity = generate_rsa(terms.sizes.identity, rng)?;
            let pem = match passphrase.filter(|passphrase| !passphrase.is_empty()) {
                Some(passphrase) => identity.to_encrypted_pem(&passphrase, rng),
                None => identity.to_pem(),
            };
            write_secret(identity_path, pem.as_bytes())?;
            identity
        }
    };
    let signing = match terms.reuse {
        false => generate_rsa(terms.sizes.signing, rng)?,
        true => match load_key(&paths.signing)? {
            Some(signing) => signing,
            None => {
                let place = paths.signing.display();
                return fail(
                    "there is no signing key",
                    place,
                    "leave --reuse out to make one",
                );
            }
        },
    };
    let expires = now.wall + MONTH * u32::from(terms.months);
    let text = AuthCert::build(&identity, &signing, terms.address, whole(now.wall), expires);
    if !terms.reuse {
        write_secret(&paths.signing, signing.to_pem().as_bytes())?;
    }
    write_atomic(&paths.certificate, text.as_bytes(), 0o600)?;
    Ok(identity.public().id())
}

/// The identity in an authority's certificate; `None` if there is no certificate.
pub fn certified_identity(keys: &Path) -> Result<Option<RsaId>, Failure> {
    let path = keys.join("authority_certificate");
    if !path.exists() {
        return Ok(None);
    }
    let text = read_certificate(&path)?;
    let certificate = AuthCert::parse(&text)
        .map_err(|error| damaged(&path, &format!("a key certificate ({error})")))?;
    Ok(Some(certificate.identity))
}

/// Reads the identity key, if there is one; its passphrase is asked for if it has one.
fn load_identity(
    path: &Path,
    passphrase: &mut Passphrase<'_>,
) -> Result<Option<rsa::Keypair>, Failure> {
    let Some(pem) = read_secret_text(path)? else {
        return Ok(None);
    };
    let read = match rsa::Keypair::from_pem(&pem) {
        Err(rsa::RsaKeyError::Encrypted) => rsa::Keypair::from_pem_under(&pem, &passphrase()?),
        read => read,
    };
    match read {
        Ok(key) => Ok(Some(key)),
        // tor-gencert's own way is one of OpenSSL's, PBE of PKCS#12.
        Err(rsa::RsaKeyError::WrongPassphrase | rsa::RsaKeyError::Encrypted) => fail(
            "the passphrase of this key is another, or the key is encrypted in an old way",
            path.display(),
            "try it with `openssl pkcs8 -topk8 -in FILE -out NEW`, which also writes the new way",
        ),
        Err(_) => Err(damaged(path, "an RSA PRIVATE KEY")),
    }
}

/// Reads a key without a passphrase, if there is one.
fn load_key(path: &Path) -> Result<Option<rsa::Keypair>, Failure> {
    let Some(pem) = read_secret_text(path)? else {
        return Ok(None);
    };
    let read = rsa::Keypair::from_pem(&pem);
    let read = read.map_err(|_| damaged(path, "an RSA PRIVATE KEY without passphrase"));
    read.map(Some)
}

fn read_certificate(path: &Path) -> Result<String, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.len() <= CERTIFICATE_LEN_MAX => Ok(text),
        Ok(_) => Err(damaged(path, "a key certificate of at most 16 KiB")),
        Err(error) => fail("cannot read this certificate", path.display(), error),
    }
}

/// The time without its fraction: documents know whole seconds.
fn whole(time: SystemTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(cepa_wire::time::unix_seconds(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(sizes: KeySizes) -> CertificateTerms {
        let address = Some("127.1.0.1:5001".parse().unwrap());
        CertificateTerms {
            address,
            months: 12,
            sizes,
            reuse: false,
            create_identity: false,
            under_passphrase: false,
        }
    }

    #[test]
    fn a_certificate_is_renewed_under_the_same_identity() {
        let dir = tempfile::tempdir().unwrap();
        let rng = &mut Rng::from_seed([5; 32]);
        let now = crate::clock::now();
        let small = terms(KeySizes {
            identity: 1024,
            signing: 1024,
        });
        let paths = KeyPaths::within(dir.path());
        let mut ask = || -> Result<Zeroizing<Vec<u8>>, Failure> { panic!("there is none") };
        let first = make(&paths, small, &mut ask, now, rng).unwrap();
        let keys = load(dir.path(), now).unwrap();
        assert_eq!(certified_identity(dir.path()).unwrap(), Some(first));
        assert_eq!(make(&paths, small, &mut ask, now, rng).unwrap(), first);
        let renewed = load(dir.path(), now).unwrap();
        assert_ne!(renewed.signing.public().id(), keys.signing.public().id());
        let again = CertificateTerms {
            reuse: true,
            ..small
        };
        assert_eq!(make(&paths, again, &mut ask, now, rng).unwrap(), first);
        let reused = load(dir.path(), now).unwrap();
        assert_eq!(reused.signing.public().id(), renewed.signing.public().id());
        let anew = CertificateTerms {
            create_identity: true,
            ..small
        };
        assert!(make(&paths, anew, &mut ask, now, rng).is_err());
        // What was moves to the names of an identity of before, and signs beside.
        for name in ["signing_key", "certificate"] {
            let from = dir.path().join(format!("authority_{name}"));
            std::fs::rename(from, dir.path().join(format!("legacy_{name}"))).unwrap();
        }
        std::fs::remove_file(&paths.identity).unwrap();
        assert_ne!(make(&paths, anew, &mut ask, now, rng).unwrap(), first);
        let legacy = load(dir.path(), now).unwrap().legacy.unwrap();
        assert_eq!(legacy.certificate.identity, first);
        let later = Now {
            wall: now.wall + MONTH * 13,
            ..now
        };
        assert!(
            load(dir.path(), later)
                .err()
                .unwrap()
                .to_string()
                .contains("expired")
        );
    }
}
