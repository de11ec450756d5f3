//! The directory: which documents are had, which are fetched, and how far the client is with that
//! (dir-spec 5).
//!
//! ```text
//! DirectoryDownload ─fetch─▶ sources ─▶ Fetches ─▶ one-hop circuits ─▶ shell ─reply─▶ the same
//!        └─ consensus, microdescriptors ─▶ view ─▶ Circuits
//! ```

mod bootstrap;
pub(crate) mod bridges;
mod descriptors;
pub(crate) mod fetches;
mod skew;
mod sources;

use std::sync::Arc;
use std::time::Instant;

use cepa_crypto::{Rng, RsaId};
use cepa_dir::fetch::{self, FetchId as DownloadId, Interest, Refusal, Reply};
use cepa_dir::{DirectoryDownload, NetworkFile, NetworkView};
use cepa_netdoc::authcert::AuthCert;
use cepa_netdoc::consensus::{ConsensusText, Flavour};
use cepa_netdoc::microdesc::Microdesc;
use cepa_wire::end::EndReason;
use cepa_wire::{Now, Repeats};

use crate::circuits::{self, Circuits};
use crate::command::{Command, Saved, SavedState};
use crate::context::Shared;
use crate::names::FetchId;
use crate::select::choice::Choice;
use crate::status::bootstrap::BootstrapStatus;
use crate::status::{ConsensusStatus, Event};
use bootstrap::Facts;
use bridges::BridgeFetches;
pub use descriptors::Descriptors;
use fetches::{Fetches, STAGGER, STAGGER_TESTING};

/// The documents of a client, and their fetches.
#[derive(Debug)]
pub(crate) struct Directory {
    download: DirectoryDownload,
    pub(crate) fetches: Fetches,
    pub(crate) bridges: BridgeFetches,
    pub(crate) descriptors: Descriptors,
    bootstrap: BootstrapStatus,
    /// How far the clock of a directory is ahead of ours, in seconds.
    skew_secs: Option<i64>,
    /// The clock is wrong.
    skewed: Repeats,
    /// A consensus was refused.
    refused: Repeats,
}

/// What has changed by something that the download has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brought {
    /// Relays: another consensus, or microdescriptors.
    Relays,
    /// Nothing that matters to others.
    Nothing,
}

impl Directory {
    /// Nothing is had yet.
    pub(crate) fn new(network: &Arc<NetworkFile>, now: Now) -> Self {
        Directory {
            download: DirectoryDownload::new(Arc::clone(network), Interest::client(), now),
            fetches: Fetches::default(),
            bridges: BridgeFetches::default(),
            descriptors: Descriptors::default(),
            bootstrap: BootstrapStatus::default(),
            skew_secs: None,
            skewed: Repeats::default(),
            refused: Repeats::default(),
        }
    }

    /// Takes the documents that were kept. What is damaged is fetched again.
    pub(crate) fn restore(&mut self, saved: &SavedState, rng: &mut Rng, now: Now) {
        let certs = saved
            .certificates
            .iter()
            .filter_map(|text| AuthCert::parse(text).ok());
        self.download.restore_certificates(certs, now);
        if let Some(text) = saved.consensus.clone() {
            let offered = ConsensusText::parse(text)
                .map_err(|error| error.to_string())
                .and_then(|text| {
                    let offered = self.download.offer_consensus(text, now, rng);
                    offered.map_err(|error| error.to_string())
                });
            if let Err(error) = offered {
                tracing::info!("the kept consensus is not used: {error}");
            }
        }
        let found = saved
            .microdescs
            .iter()
            .filter_map(|text| Microdesc::parse(text).ok());
        self.download.restore_microdescs(found);
        // They were kept already.
        while self.download.poll_command().is_some() {}
    }

    /// Server descriptors are kept from now on, for whoever reads them.
    pub(crate) fn want_descriptors(&mut self, now: Now) {
        if self.descriptors.want() {
            self.download.want_server_descs(now);
        }
    }

    /// The consensus that lists server descriptors, where those are kept.
    pub(crate) fn ns_consensus(&self) -> Option<&ConsensusText> {
        self.download.consensus(Flavour::Ns)
    }

    /// The relays for paths, once there is a consensus.
    pub(crate) fn view(&self) -> Option<&NetworkView> {
        self.download.view()
    }

    /// Whether the consensus is not too old for paths.
    pub(crate) fn is_live(&self, now: Now) -> bool {
        let view = self.download.view();
        view.is_some_and(|view| view.consensus().lifetime.is_reasonably_live(now.wall))
    }

    /// Whether a guard's microdescriptor is there, or is not coming; of a bridge, its descriptor.
    pub(crate) fn knows(&self, guard: &RsaId, choice: &Choice) -> bool {
        if choice.bridges().is_in_use() {
            return choice.bridges().relay(guard).is_some() || !self.bridges.is_asking(guard);
        }
        let view = self.download.view();
        view.is_none_or(|view| view.relay(guard).is_some()) || self.fetches.downloads.is_empty()
    }

    /// How far the client is.
    pub(crate) fn bootstrap(&self) -> BootstrapStatus {
        self.bootstrap
    }

    /// The consensus in force.
    pub(crate) fn consensus_status(&self) -> Option<ConsensusStatus> {
        let view = self.download.view()?;
        let lifetime = &view.consensus().lifetime;
        Some(ConsensusStatus {
            valid_after: lifetime.valid_after,
            fresh_until: lifetime.fresh_until,
            valid_until: lifetime.valid_until,
            listed: view.consensus().routers.len(),
            usable: view.relays().len(),
        })
    }

    /// When [`Directory::handle_timeout`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.download.poll_timeout()
    }

    /// Fetches what is due.
    pub(crate) fn handle_timeout(&mut self, rng: &mut Rng, now: Now) {
        if self.poll_timeout().is_some_and(|at| at <= now.mono) {
            self.download.handle_timeout(now, rng);
        }
    }

    /// What the download wants done, in order.
    pub(crate) fn poll_command(&mut self) -> Option<fetch::Command> {
        self.download.poll_command()
    }

    /// Does one thing that the download wants done.
    pub(crate) fn handle_command(
        &mut self,
        command: fetch::Command,
        circuits: &mut Circuits,
        shared: &mut Shared,
        now: Now,
    ) -> Brought {
        match command {
            fetch::Command::Fetch { id, request, from } => {
                let ctx = &mut shared.at(self.download.view(), now);
                let sources = sources::sources(from, &self.fetches, circuits, ctx);
                self.fetches.insert(id, request, sources);
                self.ask_next(id, circuits, shared, now);
            }
            fetch::Command::Consensus(text) if text.consensus().flavour == Flavour::Ns => {
                self.descriptors.prune(text.consensus());
                let saved = Saved::NsConsensus(text.text().clone());
                shared.commands.push_back(Command::Save(saved));
            }
            fetch::Command::Consensus(text) => {
                let routers = text.consensus().routers.iter();
                let saved = Saved::Consensus {
                    text: text.text().clone(),
                    microdescs: routers.filter_map(|one| one.microdesc_digest).collect(),
                };
                shared.commands.push_back(Command::Save(saved));
                circuits.handle_consensus(&mut shared.at(self.download.view(), now));
                if let Some(status) = self.consensus_status() {
                    shared.listener.tell(|| Event::Consensus(status));
                }
                return Brought::Relays;
            }
            fetch::Command::Certificates(certs) => {
                shared.commands.extend(certs.into_iter().map(|cert| {
                    let (identity, text) = (cert.identity, cert.text);
                    Command::Save(Saved::Certificate { identity, text })
                }));
            }
            fetch::Command::Microdescs(found) => {
                shared.listener.tell(|| Event::Descriptors(found.len()));
                let texts = found.into_iter().map(|(_, text)| text).collect();
                let saved = Saved::Microdescs(texts);
                shared.commands.push_back(Command::Save(saved));
                circuits.handle_relays(self.download.view());
                return Brought::Relays;
            }
            fetch::Command::Refused(flavour, refusal) => {
                let flavour = flavour.name();
                match refusal {
                    Refusal::NotServed(_) | Refusal::NotNewer => {
                        tracing::debug!("no new {flavour} consensus: {refusal}");
                    }
                    refusal => {
                        if let Some(unsaid) = self.refused.say(now) {
                            tracing::warn!(unsaid, "{flavour} consensus refused: {refusal}");
                        }
                    }
                }
            }
            fetch::Command::Useless(id) => self.fetches.note_useless(id, now),
            fetch::Command::ServerDescs(found) => {
                let relays = self.descriptors.take(found);
                shared.listener.tell(|| Event::ServerDescriptors(relays));
            }
            fetch::Command::ExtraInfos(_) => {}
        }
        Brought::Nothing
    }

    /// Whether a fetch is one of documents.
    pub(crate) fn is_fetching(&self, fetch: FetchId) -> bool {
        self.fetches.attempts.contains_key(&fetch) || self.bridges.contains(fetch)
    }

    /// Asks bridges for their descriptors where it is time.
    pub(crate) fn review_bridges(
        &mut self,
        circuits: &mut Circuits,
        shared: &mut Shared,
        now: Now,
    ) {
        let ctx = &mut shared.at(self.download.view(), now);
        self.bridges.review(circuits, ctx);
    }

    /// Bridges that failed are asked at once: the network may be another one.
    pub(crate) fn hurry_bridges(&mut self, now: Now) {
        self.bridges.hurry(now);
    }

    /// How an HTTP exchange ended; `None` if no reply came.
    pub(crate) fn handle_reply(
        &mut self,
        fetch: FetchId,
        reply: Option<Reply>,
        circuits: &mut Circuits,
        shared: &mut Shared,
        now: Now,
    ) {
        let ctx = &mut shared.at(self.download.view(), now);
        let Some(attempt) = self.fetches.attempts.remove(&fetch) else {
            let is_first = self.bridges.handle_reply(fetch, reply, circuits, ctx);
            // What waited for a bridge goes on.
            if is_first {
                self.handle_timeout(&mut shared.rng, now);
            }
            return;
        };
        if let Some(stream) = attempt.stream {
            ctx.plane.stream_close(stream, EndReason::DONE, now);
        }
        let download = attempt.download;
        match reply {
            Some(reply) if matches!(reply.status, 200 | 304) => {
                self.fetches.note_answer(&attempt);
                for other in self.fetches.of(download) {
                    self.fetches.cancel(other, ctx);
                }
                if self.fetches.finish(download).is_some() {
                    self.download
                        .handle_reply(download, reply, now, &mut shared.rng);
                }
            }
            other => {
                if let Some(reply) = other {
                    self.fetches.keep(download, reply);
                }
                self.ask_next(download, circuits, shared, now);
            }
        }
    }

    /// Asks the next source of a fetch; reports the failure if there is none, and nobody is asked.
    fn ask_next(
        &mut self,
        download: DownloadId,
        circuits: &mut Circuits,
        shared: &mut Shared,
        now: Now,
    ) {
        let stagger = match shared.network.is_testing {
            true => STAGGER_TESTING,
            false => STAGGER,
        };
        while let Some(source) = self.fetches.next_source(download) {
            let ctx = &mut shared.at(self.download.view(), now);
            let relay = source.target.rsa;
            let (circuit, built) = match circuits.pool.directory(&relay) {
                Some((circuit, built)) => (Some(circuit), built),
                None => {
                    let opened = circuits.launch_directory(source.target, source.hop, ctx);
                    (opened, None)
                }
            };
            let Some(circuit) = circuit else { continue };
            let id = ctx.new_fetch();
            self.fetches
                .begin(id, download, (circuit, relay), stagger, now);
            let is_asked = built.is_none_or(|key| self.fetches.ask(id, key, circuits, ctx));
            if is_asked {
                return;
            }
            self.fetches.cancel(id, ctx);
        }
        if self.fetches.of(download).is_empty()
            && let Some(reply) = self.fetches.finish(download)
        {
            self.download
                .handle_reply(download, reply, now, &mut shared.rng);
        }
    }

    /// A circuit to a directory stands: whoever waits for it is asked. Or it is gone: whoever
    /// waits for it is asked of another source.
    pub(crate) fn handle_circuit(
        &mut self,
        event: circuits::Event,
        circuits: &mut Circuits,
        shared: &mut Shared,
        now: Now,
    ) {
        let ctx = &mut shared.at(self.download.view(), now);
        self.bridges.handle_circuit(&event, circuits, ctx);
        let (id, key) = match event {
            circuits::Event::Built(id, key) => (id, Some(key)),
            circuits::Event::Gone(id, ..) => (id, None),
            circuits::Event::Late(..) | circuits::Event::Due(..) => return,
        };
        for attempt in self.fetches.on_circuit(id) {
            let ctx = &mut shared.at(self.download.view(), now);
            let has_failed = match key {
                Some(key) => !self.fetches.ask(attempt, key, circuits, ctx),
                // With a stream, the shell will tell: the reply may have come whole.
                None => !self.fetches.is_asked(attempt),
            };
            if has_failed {
                self.fail_attempt(attempt, circuits, shared, now);
            }
        }
    }

    fn fail_attempt(
        &mut self,
        id: FetchId,
        circuits: &mut Circuits,
        shared: &mut Shared,
        now: Now,
    ) {
        let ctx = &mut shared.at(self.download.view(), now);
        if let Some(download) = self.fetches.cancel(id, ctx) {
            self.ask_next(download, circuits, shared, now);
        }
    }

    /// Asks others where a source is late.
    pub(crate) fn review(&mut self, circuits: &mut Circuits, shared: &mut Shared, now: Now) {
        for attempt in self.fetches.late(now) {
            self.fail_attempt(attempt, circuits, shared, now);
        }
        for download in self.fetches.staggered(now) {
            self.ask_next(download, circuits, shared, now);
        }
    }

    /// Tells how far the client is, if that is further than before.
    pub(crate) fn update_status(&mut self, circuits: &Circuits, shared: &mut Shared) {
        if self.bootstrap.percent == 100 {
            return;
        }
        let facts = Facts {
            connecting: circuits.links.any_opening(),
            connected: circuits.links.any_open(),
            asking: self.fetches.any_asking(),
            wants_certificates: self.download.is_waiting_for_certificates(),
            has_consensus: self.download.view().is_some(),
            descriptors_percent: self.download.view().map_or(0, percent_usable),
            has_enough: circuits.choice.is_enough(),
            building: circuits.pool.pending().any(|(_, entry)| entry.is_general()),
            has_circuit: circuits.upkeep.has_built(),
        };
        if facts.advance(&mut self.bootstrap) {
            let status = self.bootstrap;
            shared.commands.push_back(Command::Bootstrap(status));
            shared.listener.tell(|| Event::Bootstrap(status));
        }
    }
}

/// How many of the relays of a consensus can be used, in percent.
fn percent_usable(view: &NetworkView) -> u8 {
    let listed = view.consensus().routers.len().max(1);
    u8::try_from(view.relays().len() * 100 / listed).unwrap_or(100)
}
