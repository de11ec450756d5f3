//! Directory fetches over one-hop circuits, and what they bring (dir-spec 5; path-spec 2.1.0).

use cepa_circuit::CircuitKey;
use cepa_circuit::handshake::{HopKey, HopSpec};
use cepa_crypto::RsaId;
use cepa_dir::NetworkView;
use cepa_dir::fetch::{self, FetchId as DownloadId, Origin, Refusal, Reply};
use cepa_netdoc::routerstatus::RouterStatus;
use cepa_wire::Now;
use cepa_wire::end::EndReason;
use cepa_wire::linkspec::LinkSpecifiers;

use super::Client;
use super::circuit_padding;
use super::padding::PaddingParams;
use crate::circuits::build_times::BuildTimeParams;
use crate::circuits::path_bias::PathBiasParams;
use crate::circuits::pool::{CircuitId, Purpose};
use crate::command::{Command, FetchId, LinkTarget, Saved};
use crate::directory::fetches::{SOURCES_MAX, STAGGER, STAGGER_TESTING, Source};
use crate::plane::StreamTarget;
use crate::select::guards::{self, GuardParams, GuardUse};
use crate::select::paths::{hop, link_target};
use crate::select::shuffle;
use crate::status::Event;

/// Guards that are asked for documents before the authorities are.
const GUARD_SOURCES_MAX: usize = 4;

impl Client {
    /// How the HTTP exchange of [`Command::DirRequest`] ended; `None` if no reply came. The body
    /// is decompressed.
    pub fn handle_dir_reply(&mut self, fetch: FetchId, reply: Option<Reply>, now: Now) {
        let Some(attempt) = self.fetches.attempts.remove(&fetch) else {
            if self.onion_reply(fetch, reply, now) {
                self.settle(now);
            }
            return;
        };
        if let Some(stream) = attempt.stream {
            self.plane.stream_close(stream, EndReason::DONE, now);
        }
        let download = attempt.download;
        match reply {
            Some(reply) if matches!(reply.status, 200 | 304) => {
                self.fetches.note_answer(&attempt);
                for other in self.fetches.of(download) {
                    self.cancel(other, now);
                }
                if self.fetches.finish(download).is_some() {
                    self.download
                        .handle_reply(download, reply, now, &mut self.rng);
                }
            }
            other => {
                if let Some(reply) = other {
                    self.fetches.keep(download, reply);
                }
                self.ask_next(download, now);
            }
        }
        self.settle(now);
    }

    pub(super) fn handle_download(&mut self, command: fetch::Command, now: Now) {
        match command {
            fetch::Command::Fetch { id, request, from } => {
                let sources = self.sources(from, now);
                self.fetches.insert(id, request, sources);
                self.ask_next(id, now);
            }
            fetch::Command::Consensus(text) => {
                let routers = text.consensus().routers.iter();
                let saved = Saved::Consensus {
                    text: text.text().clone(),
                    microdescs: routers.filter_map(|one| one.microdesc_digest).collect(),
                };
                self.commands.push_back(Command::Save(saved));
                self.handle_consensus(now);
                if let Some(status) = self.consensus_status() {
                    self.listener.tell(|| Event::Consensus(status));
                }
            }
            fetch::Command::Certificates(certs) => {
                self.commands.extend(certs.into_iter().map(|cert| {
                    let (identity, text) = (cert.identity, cert.text);
                    Command::Save(Saved::Certificate { identity, text })
                }));
            }
            fetch::Command::Microdescs(found) => {
                self.listener.tell(|| Event::Descriptors(found.len()));
                let texts = found.into_iter().map(|(_, text)| text).collect();
                self.commands
                    .push_back(Command::Save(Saved::Microdescs(texts)));
                self.upkeep.note_view(self.download.view(), &self.permits);
                self.review_rules();
                self.onion.network_told = false;
            }
            fetch::Command::Refused(flavour, refusal) => {
                let flavour = flavour.name();
                match refusal {
                    Refusal::NotServed(_) | Refusal::NotNewer => {
                        tracing::debug!("no new {flavour} consensus: {refusal}");
                    }
                    refusal => {
                        if let Some(unsaid) = self.upkeep.refused.say(now) {
                            tracing::warn!(unsaid, "{flavour} consensus refused: {refusal}");
                        }
                    }
                }
            }
            fetch::Command::Useless(id) => self.fetches.note_useless(id, now),
            fetch::Command::ServerDescs(_) | fetch::Command::ExtraInfos(_) => {}
        }
    }

    /// A consensus is in force: guards are seen to.
    pub(super) fn handle_consensus(&mut self, now: Now) {
        self.apply_rules();
        let Some(view) = self.download.view() else {
            return;
        };
        self.build_times
            .set_params(BuildTimeParams::read(view.params()));
        self.padding = PaddingParams::read(view.params());
        let circuit_padding = circuit_padding::allowed(view.params(), self.config.circuit_padding);
        self.plane.set_circuit_padding(circuit_padding);
        let sendme = (view.params()).value("sendme_accept_min_version", 0, 0, u8::MAX.into());
        self.plane.set_sendme_min(u8::try_from(sendme).unwrap_or(0));
        let params = GuardParams::from_consensus(view.params(), self.network.is_testing);
        let is_first = |id: &RsaId| self.permits.of(id).first;
        let found = guards::candidates(view, |one| is_first(&one.rsa_id));
        let is_live = view.consensus().lifetime.is_reasonably_live(now.wall);
        self.guards
            .handle_consensus(params, found, is_live, now, &mut self.rng);
        let sampled: Vec<RsaId> = self.guards.sampled().collect();
        self.path_bias
            .set(PathBiasParams::read(view.params()), &sampled);
        self.upkeep.note_view(Some(view), &self.permits);
        self.review_rules();
        self.onion.network_told = false;
    }

    /// Where to ask, relays that the operator excludes left out.
    fn sources(&mut self, from: Origin, now: Now) -> Vec<Source> {
        let mut sources = self.all_sources(from, now);
        let consensus = self.download.view().map(NetworkView::consensus);
        sources.retain(|source| self.may_ask(source, consensus.map(AsRef::as_ref)));
        if sources.is_empty() {
            tracing::warn!("`exclude` leaves nobody to ask for directory documents");
        }
        self.fetches.sort(&mut sources, now);
        sources.truncate(SOURCES_MAX);
        sources
    }

    /// Where to ask: guards once there is a consensus, then fallback directories, then
    /// authorities.
    fn all_sources(&mut self, from: Origin, now: Now) -> Vec<Source> {
        let mut sources = Vec::new();
        if let Some(view) = self.download.view() {
            let guards = self.guards.ranked(GuardUse::Directory, now, &mut self.rng);
            for id in guards.iter().take(GUARD_SOURCES_MAX) {
                let status = view.consensus().router(id);
                sources.extend(match (view.relay(id), status) {
                    (Some(relay), _) => Some(Source {
                        target: link_target(relay),
                        hop: hop(relay, view.params()),
                    }),
                    (None, Some(status)) => Some(by_status(status)),
                    (None, None) => None,
                });
            }
        }
        // In a network that is known, guards are asked and nobody else (guard-spec 1); in a young
        // one they may have nothing to serve yet.
        let is_known = self.download.view().is_some_and(|view| {
            view.consensus().lifetime.is_reasonably_live(now.wall) && !self.network.is_testing
        });
        if is_known && !sources.is_empty() {
            return sources;
        }
        let mut others: Vec<Source> = self
            .config
            .fallbacks
            .iter()
            .map(|one| fast_source(one.rsa, one.ed, one.or))
            .collect();
        shuffle(&mut others, &mut self.rng);
        let (Origin::BeginDir { fallback } | Origin::DirPort(fallback)) = from;
        let authorities = self.network.authorities.iter();
        let (before, behind) = authorities
            .as_slice()
            .split_at_checked(fallback)
            .unwrap_or_default();
        others.extend(
            behind
                .iter()
                .chain(before)
                .map(|one| fast_source(one.rsa_id, one.ed25519_id, one.or_addr.into())),
        );
        sources.extend(others);
        sources
    }

    /// Asks the next source of a fetch; reports the failure if there is none, and nobody is asked.
    fn ask_next(&mut self, download: DownloadId, now: Now) {
        let stagger = match self.network.is_testing {
            true => STAGGER_TESTING,
            false => STAGGER,
        };
        loop {
            let Some(fetch) = self.fetches.downloads.get_mut(&download) else {
                return;
            };
            let Some(source) = fetch.sources.pop_front() else {
                self.fetches.stop_stagger(download);
                break;
            };
            let relay = source.target.rsa;
            let found = self.pool.directory(&relay);
            let (circuit, built) = match found {
                Some((circuit, built)) => (Some(circuit), built),
                None => {
                    let usage = GuardUse::Directory;
                    let attempt = self.guards.begin(&relay, usage, Vec::new(), now);
                    let Source { target, hop } = source;
                    let purpose = Purpose::Directory;
                    let opened = self.open_circuit(purpose, target, hop, Vec::new(), now);
                    self.note_attempt(opened, attempt);
                    (opened, None)
                }
            };
            let Some(circuit) = circuit else { continue };
            let attempt = self.fetches.begin(download, (circuit, relay), stagger, now);
            if let Some(key) = built {
                self.ask(attempt, key, now);
            }
            return;
        }
        if self.fetches.of(download).is_empty()
            && let Some(reply) = self.fetches.finish(download)
        {
            self.download
                .handle_reply(download, reply, now, &mut self.rng);
        }
    }

    /// Sends the request over a built circuit.
    fn ask(&mut self, id: FetchId, key: CircuitKey, now: Now) {
        let Some(attempt) = self.fetches.attempts.get_mut(&id) else {
            return;
        };
        let Some(fetch) = self.fetches.downloads.get(&attempt.download) else {
            return;
        };
        match self.plane.open_stream(key, &StreamTarget::BeginDir, now) {
            Ok(stream) => {
                attempt.stream = Some(stream);
                let request = fetch.request.clone();
                self.pool.used(attempt.circuit, None, now);
                self.commands.push_back(Command::DirRequest {
                    fetch: id,
                    stream,
                    body_bytes_max: fetch::reply_bytes_max(&request),
                    request,
                    body: Vec::new(),
                });
            }
            Err(error) => {
                tracing::debug!("a directory stream cannot be opened: {error}");
                self.fail_attempt(id, now);
            }
        }
    }

    pub(super) fn directory_circuit_built(&mut self, id: CircuitId, key: CircuitKey, now: Now) {
        if let Some(attempt) = self.pool.entry(id).and_then(|entry| entry.attempt) {
            self.guards.handle_success(attempt, now, &mut self.rng);
        }
        for attempt in self.fetches.on_circuit(id) {
            self.ask(attempt, key, now);
        }
    }

    pub(super) fn directory_circuit_gone(&mut self, id: CircuitId, now: Now) {
        for attempt in self.fetches.on_circuit(id) {
            // With a stream, the shell will tell: the reply may have come whole.
            let asked = self.fetches.attempts.get(&attempt);
            if asked.is_some_and(|attempt| attempt.stream.is_none()) {
                self.fail_attempt(attempt, now);
            }
        }
    }

    pub(super) fn fail_attempt(&mut self, id: FetchId, now: Now) {
        let download = self
            .fetches
            .attempts
            .get(&id)
            .map(|attempt| attempt.download);
        self.cancel(id, now);
        if let Some(download) = download {
            self.ask_next(download, now);
        }
    }

    /// Drops an attempt without a word to the fetch.
    fn cancel(&mut self, id: FetchId, now: Now) {
        let Some(attempt) = self.fetches.attempts.remove(&id) else {
            return;
        };
        if let Some(stream) = attempt.stream {
            self.plane.stream_close(stream, EndReason::DONE, now);
            self.commands
                .push_back(Command::CancelDirRequest { fetch: id });
        }
    }

    pub(super) fn review_fetches(&mut self, now: Now) {
        for attempt in self.fetches.late(now) {
            self.fail_attempt(attempt, now);
        }
        for download in self.fetches.staggered(now) {
            self.ask_next(download, now);
        }
    }
}

/// A relay of which no microdescriptor is known.
fn by_status(status: &RouterStatus) -> Source {
    let mut source = fast_source(status.rsa_id, None, status.or_addr());
    source.target.addrs.extend(status.or_addr_v6());
    source
}

/// A relay whose onion key is not known: CREATE_FAST (tor-spec 5.1.5).
fn fast_source(rsa: RsaId, ed: Option<cepa_crypto::Ed25519Id>, or: std::net::SocketAddr) -> Source {
    Source {
        target: LinkTarget {
            rsa,
            ed,
            addrs: vec![or],
        },
        hop: HopSpec {
            link_specifiers: LinkSpecifiers::default(),
            key: HopKey::Fast,
            congestion: None,
        },
    }
}
