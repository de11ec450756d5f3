//! Rows that are no longer in use go: what no consensus lists any more.
//!
//! Of each row is known when it was put or last seen in use. Upkeep that fails, as the disk takes
//! nothing, is no loss: it is done again with the next consensus.

use std::time::{Duration, SystemTime};

use cepa_wire::time::unix_seconds;
use rusqlite::{Connection, params};

use super::{Store, StoreError};
use crate::clock;

/// What is known of rows by what uses them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upkeep {
    /// Those of these that are there are in use.
    Seen {
        /// The kind.
        kind: &'static str,
        /// The keys of the rows in use.
        keys: Vec<String>,
    },
    /// What was not seen for long goes, and what is too many.
    Prune {
        /// The kind.
        kind: &'static str,
        /// What was neither put nor seen for longer goes.
        unseen_max: Duration,
        /// The most rows of the kind that may stay: beyond it those go that were not seen for
        /// longest.
        count_max: u32,
    },
}

const PRUNE_OLD: &str = "DELETE FROM entry WHERE kind = ?1 AND seen < ?2";
const PRUNE_MANY: &str = "
    DELETE FROM entry WHERE kind = ?1 AND key IN (
        SELECT key FROM entry WHERE kind = ?1 ORDER BY seen DESC, key LIMIT -1 OFFSET ?2
    )
";

impl Store {
    /// Does this upkeep, all or none.
    pub fn tend(&mut self, upkeep: &[Upkeep]) -> Result<(), StoreError> {
        self.tend_at(upkeep, clock::now().wall)
    }

    fn tend_at(&mut self, upkeep: &[Upkeep], now: SystemTime) -> Result<(), StoreError> {
        let done = self.db.transaction().and_then(|transaction| {
            for one in upkeep {
                tend_one(&transaction, one, seconds(now))?;
            }
            transaction.commit()
        });
        done.map_err(|error| self.explain(error))
    }
}

/// A time as it stands in a row.
pub(super) fn seconds(time: SystemTime) -> i64 {
    i64::try_from(unix_seconds(time)).unwrap_or(i64::MAX)
}

fn tend_one(db: &Connection, upkeep: &Upkeep, now: i64) -> rusqlite::Result<()> {
    match upkeep {
        Upkeep::Seen { kind, keys } => {
            let mut seen =
                db.prepare_cached("UPDATE entry SET seen = ?3 WHERE kind = ?1 AND key = ?2")?;
            for key in keys {
                seen.execute(params![kind, key, now])?;
            }
        }
        Upkeep::Prune {
            kind,
            unseen_max,
            count_max,
        } => {
            let unseen_max = i64::try_from(unseen_max.as_secs()).unwrap_or(i64::MAX);
            let oldest = now.saturating_sub(unseen_max);
            db.prepare_cached(PRUNE_OLD)?
                .execute(params![kind, oldest])?;
            db.prepare_cached(PRUNE_MANY)?
                .execute(params![kind, count_max])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Change, Durability};
    use super::*;

    #[test]
    fn what_is_no_longer_seen_goes() {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        let mut store = Store::open(&path, Durability::Process).unwrap();
        let start = SystemTime::UNIX_EPOCH + DAY * 1000;
        let put = |store: &mut Store, kind, key: &str, days: u32| {
            let change = Change::Put {
                kind,
                key: key.to_owned(),
                bytes: key.as_bytes().to_vec(),
            };
            store.apply_at([&change], start + DAY * days).unwrap();
        };
        let prune = |count_max| Upkeep::Prune {
            kind: "doc",
            unseen_max: DAY * 7,
            count_max,
        };
        let tend = |store: &mut Store, upkeep: Upkeep, days: u32| {
            store.tend_at(&[upkeep], start + DAY * days).unwrap();
            store.texts("doc").unwrap().join(" ")
        };
        put(&mut store, "other", "x", 0);
        ["a", "b", "c"]
            .into_iter()
            .for_each(|key| put(&mut store, "doc", key, 0));
        let seen = Upkeep::Seen {
            kind: "doc",
            keys: vec!["a".into(), "missing".into()],
        };
        assert_eq!(tend(&mut store, seen, 5), "a b c");
        // Put again as it was, at a start, say.
        put(&mut store, "doc", "b", 6);
        assert_eq!(tend(&mut store, prune(9), 7), "a b c");
        put(&mut store, "doc", "d", 8);
        assert_eq!(tend(&mut store, prune(9), 8), "a d");
        assert_eq!(tend(&mut store, prune(1), 8), "d");
        assert_eq!(store.texts("other").unwrap(), ["x"]);
    }

    #[test]
    fn a_file_of_the_first_version_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(
            "CREATE TABLE entry (kind TEXT NOT NULL, key TEXT NOT NULL, bytes BLOB NOT NULL,
                PRIMARY KEY (kind, key)) WITHOUT ROWID;
             INSERT INTO entry VALUES ('doc', 'a', x'61');
             PRAGMA user_version = 1;",
        )
        .unwrap();
        drop(db);
        let prune = Upkeep::Prune {
            kind: "doc",
            unseen_max: Duration::from_secs(1000),
            count_max: 9,
        };
        for _ in 0..2 {
            let mut store = Store::open(&path, Durability::Full).unwrap();
            store.tend(std::slice::from_ref(&prune)).unwrap();
            assert_eq!(store.texts("doc").unwrap(), ["a"]);
        }
    }
}
