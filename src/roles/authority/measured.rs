//! The files of measurements, followed: before each vote an authority knows what they say then.
//!
//! A scanner renames a finished file over the one before, or turns a link to it; what cannot be
//! read is named once, until it changes.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cepa_authority::Authority;

use crate::clock;
use crate::config::AuthorityConfig;

/// The largest file that is read, in bytes: 100,000 relays of a kilobyte each, and more.
const FILE_LEN_MAX: u64 = 256 << 20;

/// Both files.
#[derive(Debug, Default)]
pub(super) struct Measured {
    bandwidth: Followed,
    guard_fraction: Followed,
}

impl Measured {
    /// The files that a configuration names.
    pub(super) fn of(config: &AuthorityConfig) -> Self {
        let mut measured = Self::default();
        measured.name(config);
        measured
    }

    /// From now on those that this one names.
    pub(super) fn name(&mut self, config: &AuthorityConfig) {
        self.bandwidth.name(config.bandwidth_file.as_deref());
        self.guard_fraction
            .name(config.guardfraction_file.as_deref());
    }

    /// Tells the core what has changed since the last look.
    pub(super) fn follow(&mut self, authority: &mut Authority) {
        let now = clock::now();
        if let Some(bytes) = self.bandwidth.changed() {
            let read = authority.handle_bandwidth_file(bytes.as_deref(), now);
            self.bandwidth.tell("the bandwidth file", read);
        }
        if let Some(bytes) = self.guard_fraction.changed() {
            let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            let read = authority.handle_guard_fractions(text.as_deref(), now);
            self.guard_fraction.tell("the file of GuardFraction", read);
        }
    }
}

/// By what it is seen that a file is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            len: meta.len(),
            modified: meta.modified().ok(),
        }
    }
}

/// A file, or none.
#[derive(Debug, Default)]
struct Followed {
    path: Option<PathBuf>,
    /// How it was at the last look: an error has none, and is told once.
    seen: Option<Result<Stamp, io::ErrorKind>>,
}

impl Followed {
    fn name(&mut self, path: Option<&Path>) {
        if self.path.as_deref() != path {
            self.path = path.map(Path::to_owned);
            // What the one before said goes.
            self.seen = None;
        }
    }

    /// What it says now, if that is not what it said at the last look; nothing, if it cannot be
    /// read.
    fn changed(&mut self) -> Option<Option<Vec<u8>>> {
        let Some(path) = &self.path else {
            let gone = Some(Err(io::ErrorKind::Unsupported));
            return (std::mem::replace(&mut self.seen, gone) != gone).then_some(None);
        };
        let now = std::fs::metadata(path);
        let now = now
            .map(|meta| Stamp::of(&meta))
            .map_err(|error| error.kind());
        if self.seen == Some(now) {
            return None;
        }
        self.seen = Some(now);
        match tokio::task::block_in_place(|| read(path)) {
            Ok(bytes) => Some(Some(bytes)),
            Err(error) => {
                let file = path.display();
                tracing::warn!("{file} cannot be read: votes go without it ({error})");
                Some(None)
            }
        }
    }

    fn tell(&self, what: &str, read: Result<usize, cepa_authority::bandwidth::FileError>) {
        let Some(path) = &self.path else {
            return;
        };
        let file = path.display();
        match read {
            Ok(0) => {}
            Ok(relays) => tracing::info!(relays, "{what} is read: {file}"),
            Err(error) => {
                tracing::warn!("{what} says nothing, votes go without it: {file}: {error}")
            }
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path)?
        .take(FILE_LEN_MAX + 1)
        .read_to_end(&mut bytes)?;
    match u64::try_from(read).is_ok_and(|read| read <= FILE_LEN_MAX) {
        true => Ok(bytes),
        false => Err(io::ErrorKind::FileTooLarge.into()),
    }
}
