//! The folder of an onion service, as `tor` has it: `hostname`, `hs_ed25519_secret_key`,
//! `hs_ed25519_public_key`, `authorized_clients/*.auth` (rend-spec-v3 appendix E); and the folder
//! of `*.auth_private` files of a visitor.
//!
//! The folder is 0700 (0750 where its group may read it) and its secrets 0600, or it is refused by
//! name: whoever reads the key is the service. Names and public keys may be 0644, as `tor` and
//! editors leave them. Keys are made once. What does not fit together (key and `hostname`, secret
//! and public key) is refused and left as it is. A line that is no client key is an error, and so
//! is a folder for clients in which nothing is understood: a client that was meant to be let in
//! must not be locked out silently, nor a service be open to all.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use cepa_client::onion::services::MASTERS_MAX;
use cepa_crypto::client_auth::{ClientAuthPrivate, ClientAuthPublic};
use cepa_crypto::ed25519::{ExpandedKeypair, Keypair};
use cepa_crypto::key_file;
use cepa_crypto::onion::{OnionAddress, OnionAddressError};
use cepa_crypto::{Rng, curve25519};

use super::{damaged, read_public, read_secret, read_secret_text, write_secret};
use crate::error::{Failure, fail};
use crate::folder;

const SECRET: &str = "hs_ed25519_secret_key";
const PUBLIC: &str = "hs_ed25519_public_key";
const HOSTNAME: &str = "hostname";
const CLIENTS: &str = "authorized_clients";
const MASTERS: &str = "ob_config";
/// Clients of one service: what fits a descriptor, and more than `tor` takes.
const CLIENTS_MAX: usize = 350;

/// An onion service as its folder has it.
#[derive(Debug)]
pub struct ServiceKeys {
    /// The identity.
    pub identity: ExpandedKeypair,
    /// Its address.
    pub address: OnionAddress,
    /// Clients that may read the descriptor; empty: all may.
    pub clients: Vec<curve25519::PublicKey>,
}

/// Reads the folder of a service, or makes one.
pub fn load_or_make(
    dir: &Path,
    is_group_readable: bool,
    rng: &mut Rng,
) -> Result<ServiceKeys, Failure> {
    if is_group_readable {
        make_for_group(dir)?;
    } else {
        check_private(dir)?;
        folder::make_private(dir)?;
    }
    let path = dir.join(SECRET);
    let identity = match read_secret(&path)? {
        Some(bytes) => key_file::read_hs_secret_key(&bytes)
            .map_err(|_| damaged(&path, "the secret key of an onion service"))?,
        None => make_identity(dir, &path, rng)?,
    };
    let address = OnionAddress::new(&identity.public())
        .map_err(|_| damaged(&path, "the secret key of an onion service"))?;
    check_or_write(&dir.join(PUBLIC), &public_file(&identity), |_| None)?;
    check_or_write(
        &dir.join(HOSTNAME),
        format!("{address}\n").as_bytes(),
        |found| Some(String::from_utf8_lossy(found).trim().to_owned()),
    )?;
    let folder = dir.join(CLIENTS);
    let make = |folder: &Path| match is_group_readable {
        true => make_for_group(folder),
        false => folder::make_private(folder),
    };
    if is_group_readable {
        // What a web server needs to know; keys stay the owner's.
        open_to_group(&dir.join(HOSTNAME), 0o640)?;
    }
    if !folder.exists()
        && let Err(error) = make(&folder)
    {
        // A folder that cannot be written has no clients to be told of.
        tracing::info!("{error}");
    }
    let clients = clients(&folder)?;
    Ok(ServiceKeys {
        identity,
        address,
        clients,
    })
}

/// Reads the keys of a visitor.
pub fn client_secrets(dir: &Path) -> Result<Vec<(OnionAddress, curve25519::SecretKey)>, Failure> {
    check_private(dir)?;
    let mut secrets = Vec::new();
    let (files, others) = files(dir, "auth_private")?;
    tell_others(&others, "auth_private");
    for path in files {
        let expected = "ADDRESS:descriptor:x25519:KEY, as onion services ask their visitors for";
        let text = read_secret_text(&path)?.unwrap_or_default();
        let secret = ClientAuthPrivate::parse(text.trim()).map_err(|_| damaged(&path, expected))?;
        secrets.push((secret.address, secret.key));
    }
    Ok(secrets)
}

/// The addresses that a service answers for beside its own: its file `ob_config` has a line
/// `MasterOnionAddress ADDRESS.onion` for each, as `tor` and onionbalance have it.
pub fn masters(dir: &Path) -> Result<Vec<OnionAddress>, Failure> {
    let path = dir.join(MASTERS);
    let wrong = |what: String| {
        let expected = "expected MasterOnionAddress ADDRESS.onion, a line for each address that \
                        onionbalance puts in front of this service";
        Failure::new(what, path.display(), expected)
    };
    let Some(bytes) = read_public(&path)? else {
        return Err(wrong("this file is not there".into()));
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut masters = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let (keyword, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        if !keyword.eq_ignore_ascii_case("MasterOnionAddress") {
            return Err(wrong(format!("line {number} is no MasterOnionAddress")));
        }
        let address = value.trim().parse();
        masters.push(
            address.map_err(|error: OnionAddressError| wrong(format!("line {number}: {error}")))?,
        );
    }
    match masters.len() {
        0 => Err(wrong("it names no address".into())),
        1..=MASTERS_MAX => Ok(masters),
        count => Err(wrong(format!(
            "{count} addresses, of at most {MASTERS_MAX}"
        ))),
    }
}

/// Makes the folder, if it is not there, for its group to read (`HiddenServiceDirGroupReadable`);
/// one that is there may be so, or private.
fn make_for_group(dir: &Path) -> Result<(), Failure> {
    match std::fs::metadata(dir) {
        Ok(meta) if meta.mode() & 0o027 != 0 => {
            let mode = meta.mode() & 0o777;
            let what = format!("other users may use this folder (mode {mode:o})");
            fail(
                what,
                dir.display(),
                "chmod 750 it if its keys are still secret",
            )
        }
        Ok(_) => Ok(()),
        Err(_) => {
            folder::make_private(dir)?;
            open_to_group(dir, 0o750)
        }
    }
}

fn open_to_group(path: &Path, mode: u32) -> Result<(), Failure> {
    let opened = std::fs::set_permissions(path, Permissions::from_mode(mode));
    opened.or_else(|error| fail("cannot open this to its group", path.display(), error))
}

/// A folder that is there must be its owner's alone.
fn check_private(dir: &Path) -> Result<(), Failure> {
    match std::fs::metadata(dir) {
        Ok(meta) if meta.mode() & 0o077 != 0 => fail(
            format!(
                "other users may use this folder (mode {:o})",
                meta.mode() & 0o777
            ),
            dir.display(),
            "chmod 700 it if its keys are still secret",
        ),
        _ => Ok(()),
    }
}

fn make_identity(dir: &Path, path: &Path, rng: &mut Rng) -> Result<ExpandedKeypair, Failure> {
    for name in [PUBLIC, HOSTNAME] {
        let other = dir.join(name);
        if other.exists() {
            return fail(
                format!("{SECRET} is missing, but {name} is there"),
                dir.display(),
                "restore it from a copy, or choose an empty folder for a new address",
            );
        }
    }
    let identity = Keypair::generate(rng).expand();
    write_secret(path, &key_file::write_hs_secret_key(&identity))?;
    Ok(identity)
}

fn public_file(identity: &ExpandedKeypair) -> Vec<u8> {
    key_file::write_hs_public_key(&identity.public())
}

/// A file that must say what follows from the secret key; `show`: what it says instead.
fn check_or_write(
    path: &Path,
    right: &[u8],
    show: impl FnOnce(&[u8]) -> Option<String>,
) -> Result<(), Failure> {
    let Some(found) = read_public(path)? else {
        return write_secret(path, right);
    };
    if found.trim_ascii() == right.trim_ascii() {
        return Ok(());
    }
    let shown = show(&found).map(|text| format!(" ({text})"));
    fail(
        format!(
            "this file{} is of another key than {SECRET}",
            shown.unwrap_or_default()
        ),
        path.display(),
        "restore both from one copy (nothing was changed)",
    )
}

fn clients(dir: &Path) -> Result<Vec<curve25519::PublicKey>, Failure> {
    let mut clients = Vec::new();
    let (files, others) = files(dir, "auth")?;
    for path in files {
        let bytes = read_public(&path)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let key = ClientAuthPublic::parse(text.trim())
            .map_err(|_| damaged(&path, "descriptor:x25519:KEY, a key of a client"))?;
        clients.push(key.key);
    }
    match others.first() {
        // Somebody wanted it to be for some.
        Some(other) if clients.is_empty() => {
            return fail(
                "no file here is a client's, and the service would be open to all",
                other.display(),
                "rename it to NAME.auth if it is a client's key, or take it away",
            );
        }
        _ => tell_others(&others, "auth"),
    }
    if clients.len() > CLIENTS_MAX {
        return fail(
            format!("{} clients", clients.len()),
            dir.display(),
            format!("expected at most {CLIENTS_MAX}"),
        );
    }
    Ok(clients)
}

fn tell_others(others: &[PathBuf], extension: &str) {
    for other in others {
        let other = other.display();
        tracing::warn!("{other} is not read: expected a name that ends in .{extension}");
    }
}

/// The files of a folder with an extension, and those without, in order; none if there is no
/// folder. Hidden ones do not count.
fn files(dir: &Path, extension: &str) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Failure> {
    let cannot = |error| Failure::new("cannot read this folder", dir.display(), error);
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        Err(error) => return Err(cannot(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(cannot)?.path();
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && !path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    let is_wanted = |path: &PathBuf| path.extension().is_some_and(|found| found == extension);
    Ok(found.into_iter().partition(is_wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> (tempfile::TempDir, PathBuf, OnionAddress) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        let made = load_or_make(&path, false, &mut Rng::from_seed([7; 32])).unwrap();
        (dir, path, made.address)
    }

    fn error_of(path: &Path) -> String {
        let again = load_or_make(path, false, &mut Rng::from_seed([8; 32]));
        again.unwrap_err().to_string()
    }

    #[test]
    fn masters_are_read_or_refused_by_line() {
        let (_dir, path, made) = service("back");
        let says = |text: &str| {
            std::fs::write(path.join(MASTERS), text).unwrap();
            masters(&path).map_err(|error| error.to_string())
        };
        assert!(
            masters(&path)
                .unwrap_err()
                .to_string()
                .contains("is not there")
        );
        let twice =
            format!("# front\r\n\r\nMasterOnionAddress {made}\nmasteronionaddress\t{made} # it\n");
        assert_eq!(says(&twice), Ok(vec![made, made]));
        for (text, why) in [
            ("", "names no address"),
            ("\nMasterOnionAddress\n", "line 2: an onion address has 56"),
            ("MasterOnionAddress abc.onion", "line 1"),
            ("Other x", "line 1 is no MasterOnionAddress"),
            (&twice.repeat(17), "34 addresses, of at most 32"),
        ] {
            let error = says(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn an_address_is_made_once() {
        let (_dir, path, address) = service("hs");
        let again = load_or_make(&path, false, &mut Rng::from_seed([8; 32])).unwrap();
        assert_eq!(again.address, address);
        let hostname = std::fs::read_to_string(path.join("hostname")).unwrap();
        assert_eq!(hostname, format!("{address}\n"));
        let secret = std::fs::read(path.join(SECRET)).unwrap();
        assert_eq!(secret.len(), 96);
        assert!(secret.starts_with(b"== ed25519v1-secret: type0 =="));
        assert!(again.clients.is_empty());
    }

    #[test]
    fn a_folder_may_be_for_its_group_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        let make = |path: &Path| load_or_make(path, true, &mut Rng::from_seed([7; 32]));
        let (fresh, old) = (dir.path().join("fresh"), dir.path().join("old"));
        make(&fresh).unwrap();
        folder::make_private(&old).unwrap();
        make(&old).unwrap();
        assert_eq!((mode(&fresh), mode(&old)), (0o750, 0o700));
        for path in [&fresh, &old] {
            assert_eq!(mode(&path.join(CLIENTS)), 0o750);
            assert_eq!(mode(&path.join(HOSTNAME)), 0o640);
            assert_eq!(mode(&path.join(SECRET)), 0o600);
            make(path).unwrap();
        }
        std::fs::set_permissions(&fresh, Permissions::from_mode(0o755)).unwrap();
        assert!(make(&fresh).unwrap_err().to_string().contains("755"));
    }

    #[test]
    fn public_parts_may_be_read_by_others_and_secrets_not() {
        let (_dir, path, address) = service("hs");
        let secret = curve25519::SecretKey::generate(&mut Rng::from_seed([9; 32]));
        let key = *secret.public();
        let line = ClientAuthPublic { key }.encode();
        let client = path.join(CLIENTS).join("a.auth");
        std::fs::write(&client, line).unwrap();
        let open = |path: &Path| {
            std::fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        };
        for name in [&path.join(HOSTNAME), &path.join(PUBLIC), &client] {
            open(name);
        }
        let read = load_or_make(&path, false, &mut Rng::from_seed([8; 32])).unwrap();
        assert_eq!((read.address, read.clients), (address, vec![key]));
        open(&path.join(SECRET));
        assert!(error_of(&path).contains(SECRET));
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let (_dir, path, address) = service("hs");
        std::fs::write(path.join("hostname"), "other.onion\n").unwrap();
        let error = error_of(&path);
        assert!(
            error.contains("hostname") && error.contains("other.onion"),
            "{error}"
        );
        std::fs::write(path.join("hostname"), format!("{address}\n")).unwrap();
        std::fs::remove_file(path.join(SECRET)).unwrap();
        assert!(error_of(&path).contains("is missing"));
        std::fs::set_permissions(&path, Permissions::from_mode(0o750)).unwrap();
        let error = error_of(&path);
        assert!(error.contains("hs") && error.contains("750"), "{error}");
    }

    #[test]
    fn clients_are_read_and_wrong_ones_named() {
        let (_dir, path, address) = service("hs");
        let secret = curve25519::SecretKey::generate(&mut Rng::from_seed([9; 32]));
        let line = ClientAuthPublic {
            key: *secret.public(),
        }
        .encode();
        write_secret(&path.join(CLIENTS).join("a.auth"), line.as_bytes()).unwrap();
        let read = load_or_make(&path, false, &mut Rng::from_seed([8; 32])).unwrap();
        assert_eq!(read.clients, [*secret.public()]);
        write_secret(&path.join(CLIENTS).join("b.auth"), b"nonsense").unwrap();
        assert!(error_of(&path).contains("b.auth"));

        // Another name locks nobody in where others are let in; alone it must not open the door.
        std::fs::remove_file(path.join(CLIENTS).join("b.auth")).unwrap();
        let (a, other) = (
            path.join(CLIENTS).join("a.auth"),
            path.join(CLIENTS).join("a.auth.txt"),
        );
        std::fs::copy(&a, &other).unwrap();
        std::fs::create_dir(path.join(CLIENTS).join("old")).unwrap();
        let read = load_or_make(&path, false, &mut Rng::from_seed([8; 32])).unwrap();
        assert_eq!(read.clients, [*secret.public()]);
        std::fs::remove_file(&a).unwrap();
        let error = error_of(&path);
        assert!(
            error.contains("a.auth.txt") && error.contains("open to all"),
            "{error}"
        );

        let mine = path.join("mine");
        folder::make_private(&mine).unwrap();
        let line = ClientAuthPrivate {
            address,
            key: secret,
        }
        .encode();
        write_secret(&mine.join("x.auth_private"), line.as_bytes()).unwrap();
        assert_eq!(client_secrets(&mine).unwrap()[0].0, address);
    }
}
