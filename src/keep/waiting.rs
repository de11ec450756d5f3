//! What waits for a disk, and when it is tried again.
//!
//! ```text
//! put ─> due at once ─> written
//!          failed ─> 1 s ─> 2 s ─> ... ─> 60 s ─> written: said once
//! ```
//! Of each row and file the newest waits. Rows that are a cache are dropped beyond a bound, all
//! others never.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::KeepStatus;
use super::kept::is_cache;
use crate::error::Failure;
use crate::store::{Change, StoreError};

/// First and last wait before what failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often the operator is reminded of what is not kept.
const REMIND_EVERY: Duration = Duration::from_secs(10 * 60);
/// How soon another reason is told.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// Bytes of documents that wait at most; they can be fetched again.
const CACHE_BYTES_MAX: usize = 64 << 20;

/// Why the disk took something not.
#[derive(Debug)]
pub(super) struct Fault {
    text: String,
    remedy: &'static str,
}

impl Fault {
    pub(super) fn of_store(error: StoreError) -> Self {
        let remedy = error.remedy();
        let text = error.to_string();
        Fault { text, remedy }
    }

    pub(super) fn of_file(failure: Failure) -> Self {
        Fault {
            text: failure.to_string(),
            remedy: "free space, remount it writable, or check the disk and ulimit -n",
        }
    }
}

/// Attempts that failed in a row.
#[derive(Debug)]
struct Failing {
    since: Instant,
    due: Instant,
    wait: Duration,
    error: String,
    told: Instant,
}

/// What waits.
#[derive(Default)]
pub(super) struct Waiting {
    /// In the order in which they are to be written, which means something to their readers.
    files: VecDeque<(PathBuf, Option<Zeroizing<Vec<u8>>>)>,
    vital: BTreeMap<(&'static str, String), Change>,
    caches: BTreeMap<(&'static str, String), Change>,
    cache_bytes: usize,
    failing: Option<Failing>,
    failures: u64,
    dropped: u64,
}

impl Waiting {
    /// A row that is to be written, in place of what waits for the same.
    pub(super) fn put(&mut self, change: Change) {
        let (Change::Put { kind, key, .. } | Change::Drop { kind, key }) = &change;
        let place = (*kind, key.clone());
        if !is_cache(place.0) {
            self.vital.insert(place, change);
            return;
        }
        self.cache_bytes += len(&change);
        if let Some(before) = self.caches.insert(place, change) {
            self.cache_bytes -= len(&before);
        }
        if self.cache_bytes > CACHE_BYTES_MAX && self.failing.is_some() {
            let count = u64::try_from(self.caches.len()).unwrap_or(u64::MAX);
            self.dropped = self.dropped.saturating_add(count);
            self.caches.clear();
            self.cache_bytes = 0;
        }
    }

    /// A file that is to be written, or removed.
    pub(super) fn put_file(&mut self, path: PathBuf, bytes: Option<Zeroizing<Vec<u8>>>) {
        self.files.retain(|(other, _)| *other != path);
        self.files.push_back((path, bytes));
    }

    pub(super) fn has_file(&self, path: &Path) -> bool {
        self.files.iter().any(|(file, _)| file == path)
    }

    /// Files that are as they should be need not be written.
    pub(super) fn drop_files(&mut self, is_right: impl Fn(&Path, Option<&[u8]>) -> bool) {
        self.files.retain(|(path, bytes)| {
            let bytes = bytes.as_ref().map(|bytes| bytes.as_slice());
            !is_right(path, bytes)
        });
    }

    pub(super) fn next_file(&self) -> Option<(&Path, Option<&Zeroizing<Vec<u8>>>)> {
        let (path, bytes) = self.files.front()?;
        Some((path, bytes.as_ref()))
    }

    pub(super) fn file_done(&mut self) {
        self.files.pop_front();
    }

    pub(super) fn rows(&self, vital: bool) -> impl Iterator<Item = &Change> {
        if vital {
            self.vital.values()
        } else {
            self.caches.values()
        }
    }

    pub(super) fn rows_done(&mut self, vital: bool) {
        if vital {
            self.vital.clear();
        } else {
            self.caches.clear();
            self.cache_bytes = 0;
        }
    }

    fn is_empty(&self) -> bool {
        self.files.is_empty() && self.vital.is_empty() && self.caches.is_empty()
    }

    /// Whether to try now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let may_try = self.failing.as_ref().is_none_or(|one| one.due <= now);
        !self.is_empty() && may_try
    }

    /// When to try next.
    pub(super) fn timeout(&self) -> Option<Instant> {
        let failing = self.failing.as_ref().filter(|_| !self.is_empty());
        failing.map(|one| one.due)
    }

    /// The next attempt is due at once.
    pub(super) fn hurry(&mut self) {
        if let Some(failing) = &mut self.failing {
            failing.due = failing.since;
        }
    }

    pub(super) fn error(&self) -> Option<&str> {
        self.failing.as_ref().map(|one| one.error.as_str())
    }

    /// All was written; what to say of it.
    pub(super) fn done(&mut self, now: Instant) -> Option<String> {
        let failing = self.failing.take()?;
        let secs = now.saturating_duration_since(failing.since).as_secs();
        Some(format!(
            "all is kept again that waited for the disk, {secs} s"
        ))
    }

    /// An attempt failed; what to say of it, unless that was just said.
    pub(super) fn failed(&mut self, fault: Fault, now: Instant) -> Option<String> {
        self.failures = self.failures.saturating_add(1);
        let is_first = self.failing.is_none();
        let failing = self.failing.get_or_insert_with(|| Failing {
            since: now,
            due: now,
            wait: RETRY.0,
            error: String::new(),
            told: now,
        });
        failing.due = now + failing.wait;
        failing.wait = (failing.wait * 2).min(RETRY.1);
        let silent = now.saturating_duration_since(failing.told);
        let is_other = failing.error != fault.text && silent >= TELL_AGAIN;
        failing.error = fault.text;
        if !(is_first || is_other || silent >= REMIND_EVERY) {
            return None;
        }
        failing.told = now;
        let (error, secs) = (failing.error.clone(), RETRY.1.as_secs());
        Some(format!(
            "not kept: {}: {error}; {}; it is tried again within {secs} s, and lost only if this \
             process ends before",
            self.summary(),
            fault.remedy
        ))
    }

    /// What waits, in words.
    pub(super) fn summary(&self) -> String {
        let mut kinds = BTreeMap::<&str, usize>::new();
        for (kind, _) in self.vital.keys() {
            *kinds.entry(kind).or_default() += 1;
        }
        if !self.files.is_empty() {
            kinds.insert("key files", self.files.len());
        }
        if !self.caches.is_empty() {
            kinds.insert("documents", self.caches.len());
        }
        let words = kinds.iter().map(|(kind, count)| format!("{count} {kind}"));
        words.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn status(&self) -> KeepStatus {
        let waiting_vital = self.files.len() + self.vital.len();
        KeepStatus {
            waiting: waiting_vital + self.caches.len(),
            waiting_vital,
            failures: self.failures,
            dropped: self.dropped,
        }
    }
}

fn len(change: &Change) -> usize {
    match change {
        Change::Put { key, bytes, .. } => key.len() + bytes.len(),
        Change::Drop { key, .. } => key.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(kind: &'static str, key: &str, len: usize) -> Change {
        Change::Put {
            kind,
            key: key.to_owned(),
            bytes: vec![0; len],
        }
    }

    fn fault(text: &str) -> Fault {
        Fault {
            text: text.to_owned(),
            remedy: "free space",
        }
    }

    #[test]
    fn attempts_back_off_and_are_told_seldom() {
        let start = crate::clock::now().mono;
        let mut waiting = Waiting::default();
        assert!(!waiting.is_due(start) && waiting.timeout().is_none());
        waiting.put(put("guards", "", 3));
        assert!(waiting.is_due(start));
        let told = waiting.failed(fault("full"), start).unwrap();
        for word in ["1 guards", "full", "free space"] {
            assert!(told.contains(word), "{told}");
        }
        let (mut now, mut tries, mut said) = (start, 0, 0);
        while now < start + Duration::from_secs(3600) {
            now = waiting.timeout().unwrap();
            assert!(!waiting.is_due(now - Duration::from_millis(1)) && waiting.is_due(now));
            tries += 1;
            said += usize::from(waiting.failed(fault("full"), now).is_some());
        }
        assert!((55..70).contains(&tries) && said <= 6, "{tries} {said}");
        let soon = now + Duration::from_secs(61);
        assert!(waiting.failed(fault("read-only"), soon).is_some());
        waiting.rows_done(true);
        assert!(waiting.done(soon).unwrap().contains("kept again"));
        assert!(waiting.done(soon).is_none() && waiting.timeout().is_none());
    }

    #[test]
    fn documents_make_room_and_what_matters_does_not() {
        let now = crate::clock::now().mono;
        let mut waiting = Waiting::default();
        waiting.put(put("vote", "a", 10));
        waiting.put(put("vote", "a", 20));
        waiting.failed(fault("full"), now);
        let microdesc = super::super::kept::MICRODESC;
        for number in 0..100 {
            waiting.put(put(microdesc, &number.to_string(), 1 << 20));
            assert!(waiting.cache_bytes <= CACHE_BYTES_MAX);
        }
        let status = waiting.status();
        assert_eq!(status.waiting_vital, 1);
        assert!(status.dropped > 0 && status.waiting < 100, "{status:?}");
        assert_eq!(waiting.rows(true).count(), 1);
    }
}
