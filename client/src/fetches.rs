//! Fetches from directories: one download asked of several sources, until one has answered
//! (dir-spec 5; path-spec 2.1.0 for the order of sources).
//!
//! ```text
//! Fetch ─▶ attempt at source 1 ─▶ circuit ─▶ BEGIN_DIR ─▶ reply ─▶ done
//!            └─ fails, or is not connected after a moment ─▶ attempt at source 2 ...
//! ```
//!
//! A slow source delays a fetch by [`STAGGER`] only; once a source is connected, no other is asked
//! beside it. Tables only; circuits and streams are the client's business.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use cepa_circuit::StreamKey;
use cepa_circuit::handshake::HopSpec;
use cepa_dir::DirRequest;
use cepa_dir::fetch::{FetchId as DownloadId, Reply};
use cepa_wire::Now;

use crate::command::{FetchId, LinkTarget};
use crate::pool::PoolId;

/// How long one source may take to be connected before another is asked as well.
pub(crate) const STAGGER: Duration = Duration::from_millis(1000);
/// The same in a test network, where all are near.
pub(crate) const STAGGER_TESTING: Duration = Duration::from_millis(300);
/// Sources that are asked for one fetch.
pub(crate) const SOURCES_MAX: usize = 8;
/// How long one source may take in all.
pub(crate) const ATTEMPT_MAX: Duration = Duration::from_secs(120);

/// Where to ask.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) target: LinkTarget,
    pub(crate) hop: HopSpec,
}

/// A download.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) request: DirRequest,
    /// Not asked yet.
    pub(crate) sources: VecDeque<Source>,
    /// When another is asked, if none is connected by then.
    stagger_at: Option<Instant>,
    /// The last answer that was no good.
    last: Option<Reply>,
}

/// One source being asked.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) download: DownloadId,
    pub(crate) circuit: PoolId,
    pub(crate) stream: Option<StreamKey>,
    connected: bool,
    until: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    pub(crate) downloads: BTreeMap<DownloadId, Fetch>,
    pub(crate) attempts: BTreeMap<FetchId, Attempt>,
    id_next: u64,
}

impl Fetches {
    pub(crate) fn insert(&mut self, id: DownloadId, request: DirRequest, sources: Vec<Source>) {
        let fetch = Fetch {
            request,
            sources: sources.into(),
            stagger_at: None,
            last: None,
        };
        self.downloads.insert(id, fetch);
    }

    /// A name for a fetch, used once.
    pub(crate) fn new_id(&mut self) -> FetchId {
        let id = FetchId(self.id_next);
        self.id_next += 1;
        id
    }

    /// A source is being asked.
    pub(crate) fn begin(
        &mut self,
        download: DownloadId,
        circuit: PoolId,
        stagger: Duration,
        now: Now,
    ) -> FetchId {
        let id = self.new_id();
        let attempt = Attempt {
            download,
            circuit,
            stream: None,
            connected: false,
            until: now.mono + ATTEMPT_MAX,
        };
        self.attempts.insert(id, attempt);
        if let Some(fetch) = self.downloads.get_mut(&download) {
            fetch.stagger_at = Some(now.mono + stagger);
        }
        id
    }

    /// A source is connected: it is not raced.
    pub(crate) fn connected(&mut self, stream: StreamKey) {
        let mut attempts = self.attempts.values_mut();
        let Some(attempt) = attempts.find(|one| one.stream == Some(stream)) else {
            return;
        };
        attempt.connected = true;
        if let Some(fetch) = self.downloads.get_mut(&attempt.download) {
            fetch.stagger_at = None;
        }
    }

    /// Keeps an answer that was no good, in case that none is.
    pub(crate) fn keep(&mut self, download: DownloadId, reply: Reply) {
        if let Some(fetch) = self.downloads.get_mut(&download) {
            fetch.last = Some(reply);
        }
    }

    /// The fetch is over: what to report if nothing better came.
    pub(crate) fn finish(&mut self, download: DownloadId) -> Option<Reply> {
        let fetch = self.downloads.remove(&download)?;
        Some(fetch.last.unwrap_or_else(Reply::failed))
    }

    /// Attempts of one fetch.
    pub(crate) fn of(&self, download: DownloadId) -> Vec<FetchId> {
        let of = |one: &Attempt| one.download == download;
        self.attempts
            .iter()
            .filter(|(_, one)| of(one))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Attempts that use, or wait for, a circuit.
    pub(crate) fn on_circuit(&self, circuit: PoolId) -> Vec<FetchId> {
        let on = |one: &Attempt| one.circuit == circuit;
        self.attempts
            .iter()
            .filter(|(_, one)| on(one))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Attempts that have taken too long.
    pub(crate) fn late(&self, now: Now) -> Vec<FetchId> {
        let late = |one: &Attempt| one.until <= now.mono;
        self.attempts
            .iter()
            .filter(|(_, one)| late(one))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Fetches that are to be asked of one more source.
    pub(crate) fn staggered(&self, now: Now) -> Vec<DownloadId> {
        let due = |one: &Fetch| one.stagger_at.is_some_and(|at| at <= now.mono);
        self.downloads
            .iter()
            .filter(|(_, one)| due(one))
            .map(|(id, _)| *id)
            .collect()
    }

    /// No other source is left.
    pub(crate) fn stop_stagger(&mut self, download: DownloadId) {
        if let Some(fetch) = self.downloads.get_mut(&download) {
            fetch.stagger_at = None;
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let staggers = self.downloads.values().filter_map(|one| one.stagger_at);
        self.attempts
            .values()
            .map(|one| one.until)
            .chain(staggers)
            .min()
    }

    /// True if a request is on its way.
    pub(crate) fn any_asking(&self) -> bool {
        self.attempts.values().any(|one| one.stream.is_some())
    }
}
