//! Directory documents in the store: descriptors, votes, consensuses and the like.
//!
//! A document is known by its kind and the digest by which peers ask for it. Bodies are kept as
//! they came: byte for byte what was signed.

use cepa_crypto::RsaId;
use rusqlite::{OptionalExtension as _, Row, params};

use super::{Store, StoreError};

/// The kinds of documents. The numbers are those in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A server descriptor, by SHA-1.
    Descriptor = 1,
    /// An extra-info document, by SHA-1.
    ExtraInfo = 2,
    /// A microdescriptor, by SHA-256.
    Microdesc = 3,
    /// An authority certificate, by the SHA-1 of its signing key.
    Certificate = 4,
    /// A vote, by SHA-1.
    Vote = 5,
    /// A consensus of flavour `ns`, by SHA3-256.
    ConsensusNs = 6,
    /// A consensus of flavour `microdesc`, by SHA3-256.
    ConsensusMicrodesc = 7,
}

/// A document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// By which peers ask for it.
    pub digest: Vec<u8>,
    /// The relay's or authority's identity; none for a consensus or microdescriptor.
    pub owner: Option<RsaId>,
    /// Seconds since 1970: published, or valid after.
    pub time: u64,
    /// What was signed.
    pub body: Vec<u8>,
}

impl Store {
    /// Stores documents, all or none; one with the same digest is replaced.
    pub fn put_documents(&mut self, kind: Kind, documents: &[Document]) -> Result<(), StoreError> {
        self.change(|change| {
            let mut insert = change.prepare_cached(
                "INSERT OR REPLACE INTO document (kind, digest, owner, time, body)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for document in documents {
                let owner = document
                    .owner
                    .map_or(Vec::new(), |owner| owner.as_bytes().to_vec());
                let time = i64::try_from(document.time).unwrap_or(i64::MAX);
                insert.execute(params![
                    kind as u8,
                    document.digest,
                    owner,
                    time,
                    document.body
                ])?;
            }
            Ok(())
        })
    }

    /// The body of a document.
    pub fn document(&self, kind: Kind, digest: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.ask(|db| {
            db.prepare_cached("SELECT body FROM document WHERE kind = ?1 AND digest = ?2")?
                .query_row(params![kind as u8, digest], |row| row.get(0))
                .optional()
        })
    }

    /// All documents of a kind, oldest first.
    pub fn documents(&self, kind: Kind) -> Result<Vec<Document>, StoreError> {
        self.ask(|db| {
            db.prepare_cached(
                "SELECT digest, owner, time, body FROM document WHERE kind = ?1
                 ORDER BY time, digest",
            )?
            .query_map(params![kind as u8], read)?
            .collect()
        })
    }

    /// The newest document of a kind.
    pub fn newest_document(&self, kind: Kind) -> Result<Option<Document>, StoreError> {
        self.ask(|db| {
            db.prepare_cached(
                "SELECT digest, owner, time, body FROM document WHERE kind = ?1
                 ORDER BY time DESC, digest LIMIT 1",
            )?
            .query_row(params![kind as u8], read)
            .optional()
        })
    }

    /// Forgets the documents of a kind from before `time`; returns how many.
    pub fn remove_documents_before(&mut self, kind: Kind, time: u64) -> Result<usize, StoreError> {
        let time = i64::try_from(time).unwrap_or(i64::MAX);
        self.change(|change| {
            change.execute(
                "DELETE FROM document WHERE kind = ?1 AND time < ?2",
                params![kind as u8, time],
            )
        })
    }

    /// Forgets all documents of one owner but its newest; returns how many.
    pub fn remove_superseded(&mut self, kind: Kind, owner: &RsaId) -> Result<usize, StoreError> {
        self.change(|change| {
            change.execute(
                "DELETE FROM document WHERE kind = ?1 AND owner = ?2 AND time <
                 (SELECT max(time) FROM document WHERE kind = ?1 AND owner = ?2)",
                params![kind as u8, owner.as_bytes()],
            )
        })
    }

    /// Forgets one document.
    pub fn remove_document(&mut self, kind: Kind, digest: &[u8]) -> Result<(), StoreError> {
        self.change(|change| {
            change.execute(
                "DELETE FROM document WHERE kind = ?1 AND digest = ?2",
                params![kind as u8, digest],
            )?;
            Ok(())
        })
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Document> {
    let owner: Vec<u8> = row.get(1)?;
    let time: i64 = row.get(2)?;
    Ok(Document {
        digest: row.get(0)?,
        owner: RsaId::from_bytes(&owner),
        time: u64::try_from(time).unwrap_or(0),
        body: row.get(3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Durability;
    use super::*;

    fn document(owner: u8, time: u64) -> Document {
        Document {
            digest: vec![owner, time as u8],
            owner: RsaId::from_bytes(&[owner; 20]),
            time,
            body: format!("of {owner} at {time}").into_bytes(),
        }
    }

    #[test]
    fn documents_come_back_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        let mut store = Store::open(&path, Durability::Full).unwrap();
        let both = [document(1, 10), document(2, 20)];
        store.put_documents(Kind::Descriptor, &both).unwrap();
        store.put_documents(Kind::Descriptor, &both[..1]).unwrap();
        // As after kill -9: neither closed nor checkpointed.
        std::mem::forget(store);
        let store = Store::open(&path, Durability::Full).unwrap();
        assert_eq!(store.documents(Kind::Descriptor).unwrap(), both);
        assert_eq!(store.documents(Kind::Vote).unwrap(), []);
        assert_eq!(
            store.newest_document(Kind::Descriptor).unwrap().as_ref(),
            both.last()
        );
        let body = store.document(Kind::Descriptor, &[1, 10]).unwrap();
        assert_eq!(body.as_deref(), Some(&b"of 1 at 10"[..]));
    }

    #[test]
    fn old_documents_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("store.sqlite"), Durability::Process).unwrap();
        let all = [document(1, 10), document(1, 11), document(2, 5)];
        store.put_documents(Kind::Descriptor, &all).unwrap();
        let owner = RsaId::from_bytes(&[1; 20]).unwrap();
        assert_eq!(
            store.remove_superseded(Kind::Descriptor, &owner).unwrap(),
            1
        );
        assert_eq!(
            store.remove_documents_before(Kind::Descriptor, 6).unwrap(),
            1
        );
        assert_eq!(
            store.documents(Kind::Descriptor).unwrap(),
            [document(1, 11)]
        );
    }
}
