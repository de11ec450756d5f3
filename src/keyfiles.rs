//! Key files with the names and formats of `tor`, so that an operator can bring a relay over.
//!
//! A file is written whole or not at all: temporary file, fsync, rename, fsync of the folder;
//! secrets are 0600. A secret that other users can read is refused by its name. A damaged file is
//! reported by its name and never replaced: what is there is never made anew.

pub mod authority;
pub mod onion;
pub mod relay;

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::{Failure, fail};

/// The largest key file that is read, in bytes.
const KEY_FILE_LEN_MAX: u64 = 64 << 10;

/// Writes a file whole or not at all. `mode` is its permissions.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    // Where a link leads the file is kept elsewhere, and the link stays.
    let target = std::fs::canonicalize(path);
    let path = target.as_deref().unwrap_or(path);
    let written = || -> std::io::Result<()> {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".tmp");
        let temporary = path.with_file_name(name);
        let _ = std::fs::remove_file(&temporary);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    written().map_err(|error| Failure::new("cannot write this file", path.display(), error))
}

/// Makes an empty file with these permissions where there is none.
pub fn make_file(path: &Path, mode: u32) -> Result<(), Failure> {
    match OpenOptions::new()
        .append(true)
        .create(true)
        .mode(mode)
        .open(path)
    {
        Ok(_) => Ok(()),
        Err(error) => fail("cannot write this file", path.display(), error),
    }
}

/// Writes a secret: 0600.
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_atomic(path, bytes, 0o600)
}

/// Whether a file is there with this content. (That a secret is its owner's alone was seen when it
/// was read.)
pub fn holds(path: &Path, bytes: &[u8]) -> bool {
    std::fs::read(path).is_ok_and(|found| Zeroizing::new(found)[..] == *bytes)
}

/// Whether there is no such file: one that need not be removed.
pub fn is_absent(path: &Path) -> bool {
    let found = std::fs::symlink_metadata(path);
    found.is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Removes a file, if it is there.
pub fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Failure::new(
            "cannot remove this file",
            path.display(),
            error,
        )),
        _ => Ok(()),
    }
}

/// Reads a secret; `None` if there is no such file.
pub fn read_secret(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    read(path, |meta| meta.mode() & 0o077 == 0)
}

/// Reads a file that others may read, too: a public key, a name; `None` if there is no such file.
pub fn read_public(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    Ok(read(path, |_| true)?.map(|bytes| bytes.to_vec()))
}

fn read(
    path: &Path,
    is_private: impl FnOnce(&std::fs::Metadata) -> bool,
) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    let shown = path.display().to_string();
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return fail("cannot read this key", shown, error),
    };
    let meta = file
        .metadata()
        .map_err(|error| Failure::new("cannot look at this key", &shown, error))?;
    if !is_private(&meta) {
        return fail(
            "other users can read this key",
            shown,
            "chmod 600 it if it is still secret",
        );
    }
    if meta.len() > KEY_FILE_LEN_MAX {
        return fail(
            "this is no key",
            shown,
            format!("expected at most {KEY_FILE_LEN_MAX} bytes"),
        );
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(meta.len() as usize + 1));
    match (&mut file).take(KEY_FILE_LEN_MAX).read_to_end(&mut bytes) {
        Ok(_) => Ok(Some(bytes)),
        Err(error) => fail("cannot read this key", shown, error),
    }
}

/// Reads a secret that is a text, such as PEM; `None` if there is no such file.
pub fn read_secret_text(path: &Path) -> Result<Option<Zeroizing<String>>, Failure> {
    let Some(bytes) = read_secret(path)? else {
        return Ok(None);
    };
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Some(Zeroizing::new(text.to_owned()))),
        Err(_) => Err(damaged(path, "a text")),
    }
}

/// The error for a file that does not hold what its name says.
pub fn damaged(path: &Path, expected: &str) -> Failure {
    Failure::new(
        "this file is damaged",
        path.display(),
        format!("expected {expected}; restore it from a copy (it is left as it is)"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert!(read_secret(&path).unwrap().is_none());
        write_secret(&path, b"first").unwrap();
        write_secret(&path, b"second").unwrap();
        assert_eq!(read_secret(&path).unwrap().unwrap()[..], b"second"[..]);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_kept_elsewhere_stays_there() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (path, target) = (dir.path().join("key"), elsewhere.path().join("key"));
        write_secret(&target, b"first").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        write_secret(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"second");
        assert!(std::fs::symlink_metadata(&path).unwrap().is_symlink());
        assert!(!is_absent(&path) && is_absent(&dir.path().join("none")));
    }

    #[test]
    fn a_readable_key_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_secret(&path, b"secret").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let error = read_secret(&path).unwrap_err().to_string();
        assert!(
            error.contains("other users") && error.contains("key"),
            "{error}"
        );
    }
}
