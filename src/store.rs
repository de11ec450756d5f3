//! The store of a node: documents, relay history, guards and state, in one SQLite file.
//!
//! What a call has stored survives kill -9 at any instant (WAL); with `Durability::Full` a power
//! cut as well. Calls block and take one connection: a caller that must not wait keeps the store
//! on a thread of its own. A damaged file is reported by its name and never replaced; one that a
//! newer version wrote is left alone.

pub mod documents;
pub mod records;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, ffi};

use crate::error::{Failure, fail};

/// The version of the tables, kept in the file.
const SCHEMA_VERSION: i64 = 1;
/// How long to wait for another process that reads the file.
const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

const SCHEMA: &str = "
    CREATE TABLE document (
        kind INTEGER NOT NULL,      -- documents::Kind
        digest BLOB NOT NULL,       -- by which peers ask for it
        owner BLOB NOT NULL,        -- 20 bytes: the relay or authority; empty for a consensus
        time INTEGER NOT NULL,      -- seconds since 1970: published, or valid after
        body BLOB NOT NULL,
        PRIMARY KEY (kind, digest)
    ) WITHOUT ROWID;
    CREATE INDEX document_by_owner ON document (kind, owner, time);
    CREATE INDEX document_by_time ON document (kind, time);
    CREATE TABLE history (
        rsa BLOB PRIMARY KEY NOT NULL,
        record BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE guard (
        rank INTEGER PRIMARY KEY NOT NULL,
        rsa BLOB NOT NULL UNIQUE,
        record BLOB NOT NULL
    );
    CREATE TABLE state (
        key TEXT PRIMARY KEY NOT NULL,
        value BLOB NOT NULL
    ) WITHOUT ROWID;
";

/// What must survive.
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

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is damaged.
    #[error(
        "{path}: this file is damaged: restore it from a copy, or move it away (it is left as it is)"
    )]
    Damaged {
        /// The file.
        path: String,
    },
    /// The disk is full, the file not to be read, or the like.
    #[error("{path}: the store failed: {error}")]
    Failed {
        /// The file.
        path: String,
        /// What SQLite says.
        error: rusqlite::Error,
    },
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
            Ok(version) if version <= SCHEMA_VERSION => Ok(store),
            Ok(version) => fail(
                format!("this store has version {version}, written by a newer cepa"),
                shown,
                format!("expected at most version {SCHEMA_VERSION}: start the newer one"),
            ),
            Err(error) => Err(store.explain(error).into()),
        }
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
            return Ok(version);
        }
        let change = self.db.transaction()?;
        change.execute_batch(SCHEMA)?;
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

    /// Runs one transaction.
    fn change<T>(
        &mut self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let done = self.db.transaction().and_then(|change| {
            let value = work(&change)?;
            change.commit()?;
            Ok(value)
        });
        done.map_err(|error| self.explain(error))
    }

    /// Runs one query.
    fn ask<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        work(&self.db).map_err(|error| self.explain(error))
    }
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
