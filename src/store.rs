//! The store of a node: rows of a kind, a key and bytes, in one SQLite file.
//!
//! What a call has stored survives kill -9 at any instant (WAL); with `Durability::Full` a power
//! cut as well. Calls block, and run in one transaction each. A damaged file is reported by its
//! name and never replaced; one that a newer version wrote is left alone.

mod upkeep;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rusqlite::{Connection, OpenFlags, ffi, params};

pub use self::upkeep::Upkeep;
use self::upkeep::seconds;
use crate::clock;
use crate::error::{Failure, fail};

/// The version of the tables, kept in the file.
const SCHEMA_VERSION: i64 = 2;
/// How long to wait at the start for another process that uses the file.
const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
/// How long to wait for it later: who keeps something tries again, and serves others meanwhile.
const BUSY_TIMEOUT_RUNNING: std::time::Duration = std::time::Duration::from_millis(50);

const SCHEMA: &str = "
    CREATE TABLE entry (
        kind TEXT NOT NULL,         -- of which document or state, in words
        key TEXT NOT NULL,          -- which one: a digest, an identity; empty for the only one
        bytes BLOB NOT NULL,
        seen INTEGER NOT NULL,      -- when it was put, or last seen in use: seconds since 1970
        PRIMARY KEY (kind, key)
    ) WITHOUT ROWID;
";

/// From version 1 to 2; what is there then is taken for seen today.
const SEEN_ADDED: &str = "
    ALTER TABLE entry ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
    UPDATE entry SET seen = unixepoch();
";

/// One change of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Store these bytes, in place of what was there.
    Put {
        /// The kind.
        kind: &'static str,
        /// The key of the row.
        key: String,
        /// The content.
        bytes: Vec<u8>,
    },
    /// Remove what is there, if anything.
    Drop {
        /// The kind.
        kind: &'static str,
        /// The key of the row.
        key: String,
    },
}

/// What rows survive once the call that stores them has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Kill -9 and power cuts: authorities, guards.
    Full,
    /// Kill -9; after a power cut the last moments may be missing: caches.
    Process,
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    path: PathBuf,
}

/// Why a call of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is damaged.
    #[error("{path}: this file is damaged, and left as it is")]
    Damaged {
        /// The file.
        path: String,
    },
    /// The disk is full, the file not to be read, or the like.
    #[error("{path}: the store failed: {error}")]
    Failed {
        /// The file.
        path: String,
        /// The error of SQLite.
        error: rusqlite::Error,
    },
}

impl StoreError {
    /// What the operator can do about it.
    pub fn remedy(&self) -> &'static str {
        use rusqlite::ErrorCode as Code;
        let Self::Failed { error, .. } = self else {
            return "stop this node, then restore the file from a copy or move it away";
        };
        match error.sqlite_error_code() {
            Some(Code::DiskFull) => "free space on its disk",
            Some(Code::ReadOnly | Code::PermissionDenied) => {
                "remount its disk writable, or give this user the right to write"
            }
            Some(Code::DatabaseBusy | Code::DatabaseLocked) => "end the program that holds it",
            _ => "check the disk, its free space, and the limit of open files (ulimit -n)",
        }
    }
}

impl Store {
    /// Opens a store, which is made if there is none.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, Failure> {
        let shown = path.display();
        crate::keyfiles::make_file(path, 0o600)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = match Connection::open_with_flags(path, flags) {
            Ok(db) => db,
            Err(error) => return fail("cannot open the store", shown, error),
        };
        let mut store = Self {
            db,
            path: path.to_owned(),
        };
        match store.prepare(durability) {
            Ok(version) if version <= SCHEMA_VERSION => {
                let set = store.db.busy_timeout(BUSY_TIMEOUT_RUNNING);
                set.map_err(|error| store.explain(error))?;
                Ok(store)
            }
            Ok(version) => fail(
                format!("this store has version {version}, written by a newer cepa"),
                shown,
                format!("expected at most version {SCHEMA_VERSION}: start the newer one"),
            ),
            Err(error) => Err(store.explain(error).into()),
        }
    }

    /// Its file, for messages.
    pub fn path(&self) -> impl std::fmt::Display + '_ {
        self.path.display()
    }

    /// Sets it up, makes the tables if need be, and returns their version.
    fn prepare(&mut self, durability: Durability) -> rusqlite::Result<i64> {
        self.db.busy_timeout(BUSY_TIMEOUT)?;
        self.db.pragma_update(None, "journal_mode", "WAL")?;
        let level = if durability == Durability::Full {
            "FULL"
        } else {
            "NORMAL"
        };
        self.db.pragma_update(None, "synchronous", level)?;
        let version: i64 = self
            .db
            .query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version > 0 {
            self.check()?;
        }
        if version >= SCHEMA_VERSION {
            return Ok(version);
        }
        let change = self.db.transaction()?;
        change.execute_batch(if version == 0 { SCHEMA } else { SEEN_ADDED })?;
        change.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        change.commit()?;
        Ok(SCHEMA_VERSION)
    }

    fn check(&self) -> rusqlite::Result<()> {
        let verdict: String = self
            .db
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if verdict == "ok" {
            return Ok(());
        }
        tracing::error!(%verdict, "the store is damaged");
        Err(rusqlite::Error::SqliteFailure(
            ffi::Error::new(ffi::SQLITE_CORRUPT),
            Some(verdict),
        ))
    }

    fn explain(&self, error: rusqlite::Error) -> StoreError {
        let path = self.path.display().to_string();
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                StoreError::Damaged { path }
            }
            _ => StoreError::Failed { path, error },
        }
    }

    /// Makes these changes, all or none.
    pub fn apply<'a>(
        &mut self,
        changes: impl IntoIterator<Item = &'a Change>,
    ) -> Result<(), StoreError> {
        self.apply_at(changes, clock::now().wall)
    }

    fn apply_at<'a>(
        &mut self,
        changes: impl IntoIterator<Item = &'a Change>,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let mut changes = changes.into_iter().peekable();
        if changes.peek().is_none() {
            return Ok(());
        }
        let done = self.db.transaction().and_then(|transaction| {
            for change in changes {
                make_change(&transaction, change, seconds(now))?;
            }
            transaction.commit()
        });
        done.map_err(|error| self.explain(error))
    }

    /// A bound on the file's length, in pages, as a full disk has one.
    #[cfg(test)]
    pub(crate) fn limit_pages(&mut self, pages: u32) {
        let set = self.db.pragma_update(None, "max_page_count", pages);
        set.unwrap_or_else(|error| panic!("{error}"));
    }

    /// All rows of a kind with their keys, in the order of the keys.
    pub fn entries(&self, kind: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.ask(|db| {
            db.prepare_cached("SELECT key, bytes FROM entry WHERE kind = ?1 ORDER BY key")?
                .query_map(params![kind], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
    }

    /// All entries of a kind that are texts; others are no documents of ours and left out.
    pub fn texts(&self, kind: &str) -> Result<Vec<String>, StoreError> {
        let entries = self.entries(kind)?.into_iter();
        Ok(entries
            .filter_map(|(_, bytes)| String::from_utf8(bytes).ok())
            .collect())
    }

    /// The entries of a kind under these keys, as far as there are any that are texts.
    pub fn texts_of(
        &self,
        kind: &str,
        keys: impl IntoIterator<Item = String>,
    ) -> Result<Vec<String>, StoreError> {
        const ONE: &str = "SELECT bytes FROM entry WHERE kind = ?1 AND key = ?2";
        self.ask(|db| {
            let mut query = db.prepare_cached(ONE)?;
            let mut found = Vec::new();
            for key in keys {
                let rows = query.query_map(params![kind, key], |row| row.get(0))?;
                for bytes in rows {
                    found.extend(String::from_utf8(bytes?).ok());
                }
            }
            Ok(found)
        })
    }

    /// Runs one query.
    fn ask<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        work(&self.db).map_err(|error| self.explain(error))
    }
}

/// What is put again as it was is not seen by that: it is so at each start.
const PUT: &str = "
    INSERT INTO entry (kind, key, bytes, seen) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (kind, key) DO UPDATE SET bytes = excluded.bytes, seen = excluded.seen
    WHERE bytes <> excluded.bytes
";

fn make_change(db: &Connection, change: &Change, now: i64) -> rusqlite::Result<()> {
    let changed = match change {
        Change::Put { kind, key, bytes } => db
            .prepare_cached(PUT)?
            .execute(params![kind, key, bytes, now]),
        Change::Drop { kind, key } => db
            .prepare_cached("DELETE FROM entry WHERE kind = ?1 AND key = ?2")?
            .execute(params![kind, key]),
    };
    changed.map(|_| ())
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged { path } => Failure::new(
                "this file is damaged",
                path,
                "restore it from a copy, or move it away (it is left as it is)",
            ),
            StoreError::Failed { path, error } => Failure::new("the store failed", path, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_named_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        let garbage = b"this is no database, whatever its name says".repeat(100);
        std::fs::write(&path, &garbage).unwrap();
        let error = Store::open(&path, Durability::Full)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("store.sqlite") && error.contains("damaged"),
            "{error}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), garbage);
    }

    #[test]
    fn entries_survive_and_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        let put = |key: &str, bytes: &[u8]| Change::Put {
            kind: "vote",
            key: key.to_owned(),
            bytes: bytes.to_vec(),
        };
        let mut store = Store::open(&path, Durability::Full).unwrap();
        store
            .apply(&[put("b", b"1"), put("a", b"2"), put("b", b"3")])
            .unwrap();
        drop(store);
        let mut store = Store::open(&path, Durability::Full).unwrap();
        let entries = store.entries("vote").unwrap();
        assert_eq!(
            entries,
            [("a".into(), b"2".to_vec()), ("b".into(), b"3".to_vec())]
        );
        store
            .apply(&[Change::Drop {
                kind: "vote",
                key: "a".into(),
            }])
            .unwrap();
        assert_eq!(store.texts("vote").unwrap(), ["3"]);
        assert!(store.entries("consensus").unwrap().is_empty());
    }

    #[test]
    fn a_newer_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        let store = Store::open(&path, Durability::Process).unwrap();
        store.db.pragma_update(None, "user_version", 99).unwrap();
        drop(store);
        let error = Store::open(&path, Durability::Process)
            .unwrap_err()
            .to_string();
        assert!(error.contains("newer"), "{error}");
    }
}
