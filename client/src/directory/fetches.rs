//! Fetches from directories: one download asked of several sources, until one has answered
//! (dir-spec 5; path-spec 2.1.0 for the order of sources).
//!
//! ```text
//! Fetch ─▶ attempt at source 1 ─▶ circuit ─▶ BEGIN_DIR ─▶ reply ─▶ done
//!            └─ fails, or is not connected after a moment ─▶ attempt at source 2 ...
//! ```
//!
//! A slow source delays a fetch by [`STAGGER`] only; once a source is connected, no other is asked
//! beside it. One that answered with nothing of use is asked after all others for a while, so that
//! no guard or fallback can keep a client from what an honest one has.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use cepa_circuit::handshake::HopSpec;
use cepa_circuit::{CircuitKey, StreamKey};
use cepa_crypto::RsaId;
use cepa_dir::DirRequest;
use cepa_dir::fetch::{FetchId as DownloadId, Reply, reply_bytes_max};
use cepa_wire::Now;
use cepa_wire::end::EndReason;

use crate::circuits::Circuits;
use crate::command::Command;
use crate::context::Context;
use crate::names::{CircuitId, FetchId};
use crate::plane::StreamTarget;
use crate::select::paths::LinkTarget;

/// How long one source may take to be connected before another is asked as well.
pub(crate) const STAGGER: Duration = Duration::from_millis(1000);
/// The same in a test network, where all are near.
pub(crate) const STAGGER_TESTING: Duration = Duration::from_millis(300);
/// Sources that are asked for one fetch.
pub(crate) const SOURCES_MAX: usize = 8;
/// How long one source may take in all.
pub(crate) const ATTEMPT_MAX: Duration = Duration::from_secs(120);
/// How long a source that had nothing of use is asked last.
const USELESS_FOR: Duration = Duration::from_secs(10 * 60);
/// Sources of which that is remembered; as many as are asked in so long.
const USELESS_MAX: usize = 64;
/// Fetches of which is remembered who answered; a consensus may wait for a while before it turns
/// out to be of no use.
const ANSWERED_MAX: usize = 64;

/// Where to ask.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) target: LinkTarget,
    pub(crate) hop: HopSpec,
}

/// A download.
#[derive(Debug)]
pub(crate) struct Fetch {
    request: DirRequest,
    /// Not asked yet.
    sources: VecDeque<Source>,
    /// When another is asked, if none is connected by then.
    stagger_at: Option<Instant>,
    /// The last answer that was no good.
    last: Option<Reply>,
}

/// One source being asked.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) download: DownloadId,
    pub(crate) circuit: CircuitId,
    /// Who is asked.
    pub(crate) relay: RsaId,
    pub(crate) stream: Option<StreamKey>,
    connected: bool,
    until: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    pub(crate) downloads: BTreeMap<DownloadId, Fetch>,
    pub(crate) attempts: BTreeMap<FetchId, Attempt>,
    /// Who answered which fetch, the last one last.
    answered: VecDeque<(DownloadId, RsaId)>,
    /// Who is asked last, and until when.
    useless: BTreeMap<RsaId, Instant>,
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

    /// A source is being asked.
    pub(crate) fn begin(
        &mut self,
        id: FetchId,
        download: DownloadId,
        (circuit, relay): (CircuitId, RsaId),
        stagger: Duration,
        now: Now,
    ) {
        let attempt = Attempt {
            download,
            circuit,
            relay,
            stream: None,
            connected: false,
            until: now.mono + ATTEMPT_MAX,
        };
        self.attempts.insert(id, attempt);
        if let Some(fetch) = self.downloads.get_mut(&download) {
            fetch.stagger_at = Some(now.mono + stagger);
        }
    }

    /// The next source of a fetch; none if it is over, or all are being asked.
    pub(crate) fn next_source(&mut self, download: DownloadId) -> Option<Source> {
        let fetch = self.downloads.get_mut(&download)?;
        let source = fetch.sources.pop_front();
        if source.is_none() {
            fetch.stagger_at = None;
        }
        source
    }

    /// Sends the request over a built circuit. False if that cannot be.
    pub(crate) fn ask(
        &mut self,
        id: FetchId,
        key: CircuitKey,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) -> bool {
        let Some(attempt) = self.attempts.get_mut(&id) else {
            return true;
        };
        let Some(fetch) = self.downloads.get(&attempt.download) else {
            return true;
        };
        match ctx.plane.open_stream(key, &StreamTarget::BeginDir, ctx.now) {
            Ok(stream) => {
                attempt.stream = Some(stream);
                let request = fetch.request.clone();
                circuits.pool.used(attempt.circuit, None, ctx.now);
                ctx.commands.push_back(Command::DirRequest {
                    fetch: id,
                    stream,
                    body_bytes_max: reply_bytes_max(&request),
                    request,
                    body: Vec::new(),
                });
                true
            }
            Err(error) => {
                tracing::debug!("a directory stream cannot be opened: {error}");
                false
            }
        }
    }

    /// Drops an attempt without a word to the fetch, which is named.
    pub(crate) fn cancel(&mut self, id: FetchId, ctx: &mut Context<'_>) -> Option<DownloadId> {
        let attempt = self.attempts.remove(&id)?;
        if let Some(stream) = attempt.stream {
            ctx.plane.stream_close(stream, EndReason::DONE, ctx.now);
            let fetch = id;
            ctx.commands.push_back(Command::CancelDirRequest { fetch });
        }
        Some(attempt.download)
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

    /// The source of this attempt has answered.
    pub(crate) fn note_answer(&mut self, attempt: &Attempt) {
        if self.answered.len() >= ANSWERED_MAX {
            self.answered.pop_front();
        }
        self.answered.push_back((attempt.download, attempt.relay));
    }

    /// What answered this fetch was of no use.
    pub(crate) fn note_useless(&mut self, download: DownloadId, now: Now) {
        let Some((_, relay)) = self.answered.iter().find(|(id, _)| *id == download) else {
            return;
        };
        self.useless.retain(|_, until| *until > now.mono);
        if self.useless.len() < USELESS_MAX {
            self.useless.insert(*relay, now.mono + USELESS_FOR);
        }
    }

    /// Puts those last that had nothing of use.
    pub(crate) fn sort(&self, sources: &mut [Source], now: Now) {
        let is_useless = |one: &Source| {
            let until = self.useless.get(&one.target.rsa);
            until.is_some_and(|until| *until > now.mono)
        };
        sources.sort_by_key(is_useless);
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
    pub(crate) fn on_circuit(&self, circuit: CircuitId) -> Vec<FetchId> {
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

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let staggers = self.downloads.values().filter_map(|one| one.stagger_at);
        self.attempts
            .values()
            .map(|one| one.until)
            .chain(staggers)
            .min()
    }

    /// Whether the request of an attempt was sent, or there is none any more.
    pub(crate) fn is_asked(&self, id: FetchId) -> bool {
        let attempt = self.attempts.get(&id);
        attempt.is_none_or(|attempt| attempt.stream.is_some())
    }

    /// True if a request is on its way.
    pub(crate) fn any_asking(&self) -> bool {
        self.attempts.values().any(|one| one.stream.is_some())
    }
}
