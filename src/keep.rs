//! What a running node keeps on its disk: rows of the store and files of keys.
//!
//! A disk that takes nothing (full, read-only, failing, without descriptors) ends no node that
//! runs. What it does not take waits in memory, the newest of each, and is tried again with a
//! back-off until all is written; the operator is warned with what, where and the remedy, and
//! metrics tell of it. What matters (keys, guards, votes) goes first and is never dropped;
//! documents that can be fetched again make room beyond a bound.

pub(crate) mod kept;
mod waiting;

use std::path::{Path, PathBuf};
use std::time::Instant;

use zeroize::Zeroizing;

use crate::clock;
use crate::error::Failure;
use crate::folder;
use crate::keyfiles;
use crate::store::{Change, Durability, Store, Upkeep};

use self::waiting::{Fault, Waiting};

/// A file of the data folder that is to be kept.
pub struct KeptFile {
    /// Its path.
    pub path: PathBuf,
    /// Its content, secret; none: the file is to go.
    pub bytes: Option<Zeroizing<Vec<u8>>>,
}

/// How well the disk takes what is to be kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct KeepStatus {
    /// Rows and files that wait for the disk.
    pub waiting: usize,
    /// Those among them that matter: keys, guards, votes.
    pub waiting_vital: usize,
    /// Attempts that failed since the start.
    pub failures: u64,
    /// Documents that were not kept for want of room in memory.
    pub dropped: u64,
}

/// The keeper of a node.
pub struct Keep {
    store: Store,
    waiting: Waiting,
}

impl Keep {
    /// Opens `store.sqlite` in a data folder.
    ///
    /// # Errors
    /// If it cannot be opened: a node that starts must see what it kept.
    pub fn open(folder: &Path, durability: Durability) -> Result<Self, Failure> {
        let store = Store::open(&folder.join("store.sqlite"), durability)?;
        let waiting = Waiting::default();
        Ok(Keep { store, waiting })
    }

    /// What was kept, to be read at the start.
    pub fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Keeps these changes, at once where the disk takes them.
    pub fn rows(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            self.waiting.put(change);
        }
        self.run(clock::now().mono);
    }

    /// Forgets what is no longer in use. What the disk does not take of that is done another time.
    pub fn tend(&mut self, upkeep: &[Upkeep]) {
        if upkeep.is_empty() || self.waiting.error().is_some() {
            return;
        }
        if let Err(error) = self.store.tend(upkeep) {
            tracing::debug!(%error, "rows that are no longer in use stay for now");
        }
    }

    /// Keeps these files and rows, at once where the disk takes them: the files first.
    pub fn files(&mut self, files: impl IntoIterator<Item = KeptFile>, rows: Vec<Change>) {
        for file in files {
            self.waiting.put_file(file.path, file.bytes);
        }
        self.rows(rows);
    }

    /// Whether a file waits for the disk.
    pub fn is_waiting(&self, path: &Path) -> bool {
        self.waiting.has_file(path)
    }

    /// Why the last attempt failed, while something waits.
    pub fn error(&self) -> Option<&str> {
        self.waiting.error()
    }

    /// When [`Keep::handle_timeout`] is due; none: nothing waits.
    pub fn timeout(&self) -> Option<Instant> {
        self.waiting.timeout()
    }

    /// Tries again what waits, if that is due.
    pub fn handle_timeout(&mut self) {
        self.run(clock::now().mono);
    }

    /// The last attempt before the end.
    pub fn finish(&mut self) {
        self.waiting.hurry();
        self.run(clock::now().mono);
        if let Some(error) = self.waiting.error() {
            let lost = self.waiting.summary();
            tracing::error!("stopping with {lost} not kept: {error}");
        }
    }

    /// How well the disk takes what is to be kept.
    pub fn status(&self) -> KeepStatus {
        self.waiting.status()
    }

    fn run(&mut self, now: Instant) {
        if !self.waiting.is_due(now) {
            return;
        }
        match self.write() {
            Ok(()) => {
                if let Some(told) = self.waiting.done(now) {
                    tracing::info!("{told}");
                }
            }
            Err(fault) => {
                if let Some(told) = self.waiting.failed(fault, now) {
                    tracing::warn!("{told}");
                }
            }
        }
    }

    /// Writes what waits, what matters first; what is written waits no more.
    fn write(&mut self) -> Result<(), Fault> {
        // A disk that takes nothing may have it all.
        self.waiting.drop_files(|path, bytes| match bytes {
            Some(bytes) => keyfiles::holds(path, bytes),
            None => keyfiles::is_absent(path),
        });
        while let Some((path, bytes)) = self.waiting.next_file() {
            write_file(path, bytes.map(|bytes| &bytes[..])).map_err(Fault::of_file)?;
            self.waiting.file_done();
        }
        for vital in [true, false] {
            let changes = self.waiting.rows(vital);
            self.store.apply(changes).map_err(Fault::of_store)?;
            self.waiting.rows_done(vital);
        }
        Ok(())
    }
}

/// Writes a secret, or removes it.
fn write_file(path: &Path, bytes: Option<&[u8]>) -> Result<(), Failure> {
    let Some(bytes) = bytes else {
        return keyfiles::remove(path);
    };
    if let Some(folder) = path.parent() {
        folder::make_private(folder)?;
    }
    keyfiles::write_secret(path, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guards(bytes: &[u8]) -> Change {
        Change::Put {
            kind: "guards",
            key: String::new(),
            bytes: bytes.to_vec(),
        }
    }

    /// SQLite's own bound on a file stands for a full disk.
    #[test]
    fn a_full_disk_ends_nothing_and_all_is_kept_when_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let mut keep = Keep::open(dir.path(), Durability::Full).unwrap();
        keep.rows([guards(b"before")]);
        keep.store().limit_pages(4);
        let big = vec![7; 100_000];
        keep.rows([guards(&big)]);
        let status = keep.status();
        assert_eq!((status.waiting, status.waiting_vital), (1, 1));
        assert!(keep.error().unwrap().contains("full"), "{:?}", keep.error());
        assert!(keep.timeout().is_some());
        // Nothing is tried before its time, and the newest is what waits.
        let big = vec![8; 100_000];
        keep.rows([guards(&big)]);
        assert_eq!(keep.status().failures, 1);
        keep.store().limit_pages(1 << 20);
        keep.finish();
        assert_eq!((keep.status().waiting, keep.timeout()), (0, None));
        let kept = keep.store().entries("guards").unwrap();
        assert_eq!(kept, [(String::new(), big)]);
    }

    #[test]
    fn another_process_that_locks_the_store_holds_nothing_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut keep = Keep::open(dir.path(), Durability::Full).unwrap();
        let other = rusqlite::Connection::open(dir.path().join("store.sqlite")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        keep.rows([guards(b"new")]);
        assert_eq!(keep.status().waiting_vital, 1);
        assert!(
            keep.error().unwrap().contains("locked"),
            "{:?}",
            keep.error()
        );
        other.execute_batch("COMMIT").unwrap();
        keep.finish();
        assert_eq!(keep.store().texts("guards").unwrap(), ["new"]);
    }

    #[test]
    fn files_wait_too_and_what_is_right_is_not_rewritten() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let mut keep = Keep::open(dir.path(), Durability::Full).unwrap();
        let path = dir.path().join("keys/secret");
        let file = |bytes: &[u8]| KeptFile {
            path: path.clone(),
            bytes: Some(Zeroizing::new(bytes.to_vec())),
        };
        // A file stands where the folder should be.
        std::fs::write(dir.path().join("keys"), b"").unwrap();
        keep.files([file(b"one")], vec![guards(b"with it")]);
        assert!(keep.is_waiting(&path));
        std::fs::remove_file(dir.path().join("keys")).unwrap();
        keep.finish();
        assert!(!keep.is_waiting(&path) && keep.status().waiting == 0);
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        let inode = || std::fs::metadata(&path).unwrap().ino();
        let before = inode();
        keep.files([file(b"one")], Vec::new());
        assert_eq!(inode(), before);
        keep.files([file(b"two")], Vec::new());
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        // One that cannot be written keeps nobody from seeing that the next one is there.
        let blocked = KeptFile {
            path: dir.path().join("store.sqlite/no-folder"),
            bytes: Some(Zeroizing::new(b"x".to_vec())),
        };
        keep.files([blocked, file(b"two")], Vec::new());
        assert!(!keep.is_waiting(&path) && keep.status().waiting_vital == 1);
    }
}
