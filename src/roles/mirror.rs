//! Documents as files of `tor`'s names (`cached-consensus` and the like), where a node runs in its
//! place: programs read them in its data folder. Nothing here reads them: what a node keeps is in
//! its store.
//!
//! As with `tor`, single documents are appended to a file that ends in `.new`, and go to the one
//! without that end, which is written anew, when a consensus comes.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::Failure;
use crate::keep::kept::{CERTIFICATE, CONSENSUS, EXTRA_INFO, MICRODESC, SERVER_DESC};
use crate::keyfiles::write_atomic;
use crate::launched::Reporter;
use crate::store::{Change, Store};

/// Kinds of single documents, and the files that have them.
const SINGLE: [(&str, &str); 3] = [
    (MICRODESC, "cached-microdescs"),
    (SERVER_DESC, "cached-descriptors"),
    (EXTRA_INFO, "cached-extrainfo"),
];

/// The longest file that is appended to: whoever publishes again and again fills no disk.
const NEW_LEN_MAX: u64 = 16 << 20;

/// The files.
pub(crate) struct Mirror {
    folder: PathBuf,
    /// The last attempt failed: that is told once.
    has_failed: bool,
}

impl Mirror {
    /// The files of a node that stands in `tor`'s place; of another there are none.
    pub(crate) fn of(reporter: &Reporter, folder: &Path, store: &Store) -> Option<Self> {
        reporter.is_as_tor().then(|| Mirror::open(folder, store))
    }

    /// In a data folder, with what a store has.
    fn open(folder: &Path, store: &Store) -> Self {
        let mut mirror = Mirror {
            folder: folder.to_owned(),
            has_failed: false,
        };
        let written = mirror.write_all(store);
        mirror.tell(written);
        mirror
    }

    /// Writes what changes; the store may have it already or not.
    pub(crate) fn apply(&mut self, changes: &[Change], store: &Store) {
        let written = self.write(changes, store);
        self.tell(written);
    }

    fn tell(&mut self, written: Result<(), Failure>) {
        if let Err(error) = &written
            && !self.has_failed
        {
            tracing::warn!("files for programs that read tor's are not written: {error}");
        }
        self.has_failed = written.is_err();
    }

    fn write_all(&self, store: &Store) -> Result<(), Failure> {
        for (key, bytes) in store.entries(CONSENSUS)? {
            self.put(consensus_file(&key), &bytes)?;
        }
        self.certificates(store, &[])?;
        SINGLE.iter().try_for_each(|one| self.rebuild(*one, store))
    }

    fn write(&self, changes: &[Change], store: &Store) -> Result<(), Failure> {
        let put = |wanted: &'static str| {
            changes.iter().filter_map(move |change| match change {
                Change::Put { kind, key, bytes } if *kind == wanted => Some((key, bytes)),
                _ => None,
            })
        };
        let mut has_consensus = false;
        for (key, bytes) in put(CONSENSUS) {
            has_consensus = true;
            self.put(consensus_file(key), bytes)?;
        }
        let certificates: Vec<_> = put(CERTIFICATE).collect();
        if !certificates.is_empty() {
            self.certificates(store, &certificates)?;
        }
        for (kind, file) in SINGLE {
            if has_consensus || self.is_long(&format!("{file}.new")) {
                self.rebuild((kind, file), store)?;
            }
            let texts: Vec<u8> = put(kind).flat_map(|(_, bytes)| bytes.clone()).collect();
            if !texts.is_empty() {
                self.append(&format!("{file}.new"), &texts)?;
            }
        }
        Ok(())
    }

    fn certificates(&self, store: &Store, more: &[(&String, &Vec<u8>)]) -> Result<(), Failure> {
        let mut all: std::collections::BTreeMap<_, _> =
            store.entries(CERTIFICATE)?.into_iter().collect();
        all.extend(
            more.iter()
                .map(|(key, text)| ((*key).clone(), (*text).clone())),
        );
        let text: Vec<u8> = all.into_values().flatten().collect();
        self.put("cached-certs", &text)
    }

    /// One kind of single documents, as the store has it.
    fn rebuild(&self, (kind, file): (&str, &str), store: &Store) -> Result<(), Failure> {
        let entries = store.entries(kind)?.into_iter();
        let text: Vec<u8> = entries.flat_map(|(_, bytes)| bytes).collect();
        self.put(file, &text)?;
        self.put(&format!("{file}.new"), &[])
    }

    /// Writes a file anew; one that would have nothing, and is not there, is not made.
    fn put(&self, file: &str, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.folder.join(file);
        if bytes.is_empty() && !path.exists() {
            return Ok(());
        }
        write_atomic(&path, bytes, 0o600)
    }

    fn is_long(&self, file: &str) -> bool {
        let meta = std::fs::metadata(self.folder.join(file));
        meta.is_ok_and(|meta| meta.len() > NEW_LEN_MAX)
    }

    fn append(&self, file: &str, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.folder.join(file);
        let mut options = OpenOptions::new();
        let opened = options.append(true).create(true).mode(0o600).open(&path);
        opened
            .and_then(|mut file| file.write_all(bytes))
            .map_err(|error| Failure::new("cannot write", path.display(), error))
    }
}

/// The file of a consensus: a relay keeps each flavour by its name, a client its only one without.
fn consensus_file(key: &str) -> &'static str {
    match key {
        "ns" => "cached-consensus",
        _ => "cached-microdesc-consensus",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Durability;

    fn put(kind: &'static str, key: &str, text: &str) -> Change {
        Change::Put {
            kind,
            key: key.to_owned(),
            bytes: text.into(),
        }
    }

    #[test]
    fn files_follow_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        let mut store = Store::open(&path, Durability::Process).unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).ok();
        let mut mirror = Mirror::open(dir.path(), &store);
        assert_eq!(read("cached-microdescs"), None);
        let mut change = |mirror: &mut Mirror, changes: &[Change]| {
            mirror.apply(changes, &store);
            store.apply(changes).unwrap();
        };
        change(&mut mirror, &[put(CONSENSUS, "ns", "one\n")]);
        change(&mut mirror, &[put(CONSENSUS, "", "two\n")]);
        let singles = [put(MICRODESC, "a", "A\n"), put(MICRODESC, "b", "B\n")];
        change(&mut mirror, &singles);
        change(&mut mirror, &[put(CERTIFICATE, "x", "X\n")]);
        assert_eq!(read("cached-consensus").as_deref(), Some("one\n"));
        assert_eq!(read("cached-microdesc-consensus").as_deref(), Some("two\n"));
        assert_eq!(read("cached-microdescs.new").as_deref(), Some("A\nB\n"));
        let next = [put(CONSENSUS, "ns", "three\n"), put(MICRODESC, "c", "C\n")];
        change(&mut mirror, &next);
        change(&mut mirror, &[put(CERTIFICATE, "y", "Y\n")]);
        assert_eq!(read("cached-microdescs").as_deref(), Some("A\nB\n"));
        assert_eq!(read("cached-microdescs.new").as_deref(), Some("C\n"));
        assert_eq!(read("cached-certs").as_deref(), Some("X\nY\n"));
        // One that has become long is made short.
        let long = std::fs::File::options()
            .append(true)
            .open(dir.path().join("cached-microdescs.new"));
        long.unwrap().set_len(NEW_LEN_MAX + 1).unwrap();
        change(&mut mirror, &[put(MICRODESC, "d", "D\n")]);
        assert_eq!(read("cached-microdescs").as_deref(), Some("A\nB\nC\n"));
        assert_eq!(read("cached-microdescs.new").as_deref(), Some("D\n"));
        drop(Mirror::open(dir.path(), &store));
        assert_eq!(read("cached-microdescs").as_deref(), Some("A\nB\nC\nD\n"));
        assert_eq!(read("cached-microdescs.new").as_deref(), Some(""));
    }
}
