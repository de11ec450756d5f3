//! What is no document: a relay's history, a client's guards, and named state.
//!
//! The bytes are their owners' own (authority, client, relay): this file only keeps them.

use cepa_crypto::RsaId;
use rusqlite::{OptionalExtension as _, params};

use super::{Store, StoreError};

impl Store {
    /// Stores the histories of relays, all or none.
    pub fn put_history(&mut self, records: &[(RsaId, Vec<u8>)]) -> Result<(), StoreError> {
        self.change(|change| {
            let mut insert = change
                .prepare_cached("INSERT OR REPLACE INTO history (rsa, record) VALUES (?1, ?2)")?;
            for (rsa, record) in records {
                insert.execute(params![rsa.as_bytes(), record])?;
            }
            Ok(())
        })
    }

    /// The histories of all relays, by identity.
    pub fn history(&self) -> Result<Vec<(RsaId, Vec<u8>)>, StoreError> {
        self.ask(|db| pairs(db, "SELECT rsa, record FROM history ORDER BY rsa"))
    }

    /// Forgets a relay's history.
    pub fn remove_history(&mut self, rsa: &RsaId) -> Result<(), StoreError> {
        self.change(|change| {
            change.execute(
                "DELETE FROM history WHERE rsa = ?1",
                params![rsa.as_bytes()],
            )?;
            Ok(())
        })
    }

    /// Replaces the list of guards, in order.
    pub fn put_guards(&mut self, guards: &[(RsaId, Vec<u8>)]) -> Result<(), StoreError> {
        self.change(|change| {
            change.execute("DELETE FROM guard", [])?;
            let mut insert = change
                .prepare_cached("INSERT INTO guard (rank, rsa, record) VALUES (?1, ?2, ?3)")?;
            for (rank, (rsa, record)) in (0_i64..).zip(guards) {
                insert.execute(params![rank, rsa.as_bytes(), record])?;
            }
            Ok(())
        })
    }

    /// The list of guards, in order.
    pub fn guards(&self) -> Result<Vec<(RsaId, Vec<u8>)>, StoreError> {
        self.ask(|db| pairs(db, "SELECT rsa, record FROM guard ORDER BY rank"))
    }

    /// Stores a named value.
    pub fn put_state(&mut self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.change(|change| {
            change
                .prepare_cached("INSERT OR REPLACE INTO state (key, value) VALUES (?1, ?2)")?
                .execute(params![key, value])?;
            Ok(())
        })
    }

    /// A named value.
    pub fn state(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.ask(|db| {
            db.prepare_cached("SELECT value FROM state WHERE key = ?1")?
                .query_row(params![key], |row| row.get(0))
                .optional()
        })
    }
}

fn pairs(db: &rusqlite::Connection, query: &str) -> rusqlite::Result<Vec<(RsaId, Vec<u8>)>> {
    let mut select = db.prepare_cached(query)?;
    let rows = select.query_map([], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?)))?;
    let mut list = Vec::new();
    for row in rows {
        let (rsa, record) = row?;
        if let Some(rsa) = RsaId::from_bytes(&rsa) {
            list.push((rsa, record));
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::super::Durability;
    use super::*;

    #[test]
    fn records_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        let id = |n: u8| RsaId::from_bytes(&[n; 20]).unwrap();
        let mut store = Store::open(&path, Durability::Full).unwrap();
        store.put_guards(&[(id(1), vec![1])]).unwrap();
        store
            .put_guards(&[(id(9), vec![2]), (id(1), vec![3])])
            .unwrap();
        store.put_history(&[(id(4), vec![7])]).unwrap();
        store.put_state("a", b"b").unwrap();
        drop(store);
        let store = Store::open(&path, Durability::Full).unwrap();
        assert_eq!(
            store.guards().unwrap(),
            [(id(9), vec![2]), (id(1), vec![3])]
        );
        assert_eq!(store.history().unwrap(), [(id(4), vec![7])]);
        assert_eq!(store.state("a").unwrap().as_deref(), Some(&b"b"[..]));
        assert_eq!(store.state("c").unwrap(), None);
    }
}
