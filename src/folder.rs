//! A node's data folder: private to its user, and used by one process at a time.
//!
//! The folder is 0700; its file `lock` is held with flock(2) while the process lives, and names
//! the process, so that a second one can say who is in the way. The lock goes with the process,
//! also after kill -9.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::clock;
use crate::error::{Failure, fail};
use crate::terminal::complain;

/// How long a folder that is in use is waited for, and how often it is looked at meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);
const BETWEEN_TRIES: Duration = Duration::from_millis(50);
/// Folders of one name that are tried, at most.
const FOLDERS_MAX: u8 = 99;

/// A locked data folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Holds the lock while it is open.
    _lock: File,
}

impl Folder {
    /// Makes the folder if need be and takes its lock. One that is in use is waited for as long as
    /// `tor` waits: a process that was killed has its lock until its last thread is gone, and
    /// whoever starts it anew is often faster.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let first = match Self::try_open(path)? {
            Ok(folder) => return Ok(folder),
            Err(user) => user,
        };
        let wait = PATIENCE.as_secs();
        let shown = path.display();
        complain(&format!(
            "{shown} is used by another cepa{first}: waiting {wait} seconds for its end"
        ));
        let until = clock::now().mono + PATIENCE;
        while clock::now().mono < until {
            std::thread::sleep(BETWEEN_TRIES);
            if let Ok(folder) = Self::try_open(path)? {
                return Ok(folder);
            }
        }
        fail(
            format!("this folder is used by another cepa{first}"),
            shown,
            "stop it, or choose another",
        )
    }

    /// The same with the first folder of `path`, `path-2`, `path-3` and so on that no other
    /// process uses.
    pub fn open_first_unused(path: &Path) -> Result<Self, Failure> {
        let more = (2..=FOLDERS_MAX).map(|number| {
            let mut name = path.as_os_str().to_owned();
            name.push(format!("-{number}"));
            PathBuf::from(name)
        });
        for path in std::iter::once(path.to_owned()).chain(more) {
            if let Ok(folder) = Self::try_open(&path)? {
                return Ok(folder);
            }
        }
        Self::open(path)
    }

    /// Takes the lock, or says who has it.
    fn try_open(path: &Path) -> Result<Result<Self, String>, Failure> {
        make_private(path)?;
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|error| Failure::new("cannot open the lock", lock_path.display(), error))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            // Whoever holds it has written its number; an empty file is just as good.
            let _ = lock.read_to_string(&mut pid);
            let pid = pid.trim();
            let user = if pid.is_empty() {
                String::new()
            } else {
                format!(" (pid {pid})")
            };
            return Ok(Err(user));
        }
        write_pid(&mut lock)
            .map_err(|error| Failure::new("cannot write the lock", lock_path.display(), error))?;
        Ok(Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        }))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the keys, which is made if need be.
    pub fn keys(&self) -> Result<PathBuf, Failure> {
        let keys = self.path.join("keys");
        make_private(&keys)?;
        Ok(keys)
    }
}

fn write_pid(lock: &mut File) -> std::io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

/// Makes a folder of mode 0700, with its parents. One that exists must be ours, and no other user
/// may read or write it.
pub fn make_private(path: &Path) -> Result<(), Failure> {
    let shown = path.display().to_string();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| Failure::new("cannot make this folder", &shown, error))?;
    let meta = std::fs::metadata(path)
        .map_err(|error| Failure::new("cannot look at this folder", &shown, error))?;
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return fail(
            "this folder belongs to another user",
            shown,
            "choose another",
        );
    }
    if meta.mode() & 0o022 != 0 {
        return fail("other users may write this folder", shown, "chmod 700 it");
    }
    if meta.mode() & 0o055 != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(|error| Failure::new("cannot make this folder private", shown, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_user_is_told_who_is_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node");
        let first = Folder::open(&path).unwrap();
        let error = Folder::open(&path).unwrap_err().to_string();
        let pid = std::process::id().to_string();
        assert!(
            error.contains("used by another cepa") && error.contains(&pid),
            "{error}"
        );
        let second = Folder::open_first_unused(&path).unwrap();
        let third = Folder::open_first_unused(&path).unwrap();
        assert_eq!(second.path(), dir.path().join("node-2"));
        assert_eq!(third.path(), dir.path().join("node-3"));
        drop(first);
        assert_eq!(Folder::open_first_unused(&path).unwrap().path(), path);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_folder_that_others_may_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(
            Folder::open(dir.path())
                .unwrap_err()
                .to_string()
                .contains("chmod")
        );
    }
}
