//! The client: the data plane and all control over it, as one object that the shell drives.
//!
//! ```text
//! DirectoryDownload ─fetch─▶ Fetches ─┐                 ┌─▶ Links ─OpenChannel─▶ shell
//! SOCKS ─request─▶ Requests ──────────┴─▶ Pool ─circuit─┴─▶ Plane ─cells─▶ shell
//! ```
//!
//! Each call ends with [`Client::settle`]: events of the plane and commands of the download are
//! worked off, waiting requests are attached, circuits are built ahead. The sub-machines are tables
//! and rules in files of their own; here and in the files beside they are joined.

mod bias;
mod circuit_padding;
mod circuits;
mod directory;
mod dormancy;
mod onion;
mod onion_circuits;
mod padding;
mod room;
mod rules;
mod services;
mod silence;
mod skew;
mod socks;
mod status;
mod upkeep;
mod visits;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use cepa_circuit::{StreamKey, StreamRead};
use cepa_crypto::Rng;
use cepa_dir::fetch::Interest;
use cepa_dir::{DirectoryDownload, NetworkFile, NetworkView};
use cepa_limits::Memory;
use cepa_link::{ChannelKey, Established};
use cepa_netdoc::authcert::AuthCert;
use cepa_netdoc::consensus::ConsensusText;
use cepa_netdoc::microdesc::Microdesc;
use cepa_netdoc::params::Params;
use cepa_wire::Now;
use cepa_wire::end::EndReason;

use crate::circuits::build_times::BuildTimes;
use crate::circuits::links::Links;
use crate::circuits::path_bias::PathBias;
use crate::circuits::pool::Pool;
use crate::command::{Command, LinkId, Saved};
use crate::config::ClientConfig;
use crate::directory::bootstrap::BootstrapStatus;
use crate::directory::fetches::Fetches;
use crate::onion::Visits;
use crate::onion::circuits::OnionCircuits;
use crate::onion::services::Services;
use crate::plane::{ChannelClose, Event, Plane};
use crate::select::guards::{GuardParams, GuardStateError, Guards};
use crate::select::rules::Permits;
use crate::select::vanguards::Vanguards;
use crate::status::{CircuitEnd, LinkEnd, Listener, Traffic};
use crate::streams::requests::Requests;
use dormancy::Rest;
use padding::PaddingParams;
use upkeep::Upkeep;

/// What was kept by [`Command::Save`]; all empty at the first start.
#[derive(Debug, Clone, Default)]
pub struct SavedState {
    /// The guards.
    pub guards: Option<String>,
    /// How long circuits took to be built.
    pub build_times: Option<String>,
    /// What guards let become of circuits.
    pub path_bias: Option<String>,
    /// The vanguards of full mode.
    pub vanguards: Option<String>,
    /// Certificates of authorities.
    pub certificates: Vec<String>,
    /// The newest consensus.
    pub consensus: Option<Arc<str>>,
    /// Microdescriptors; those that the consensus does not list are dropped.
    pub microdescs: Vec<String>,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    network: Arc<NetworkFile>,
    plane: Plane,
    links: Links,
    pool: Pool,
    requests: Requests,
    guards: Guards,
    build_times: BuildTimes,
    /// What the operator's rules say to the relays of the consensus.
    permits: Permits,
    /// What has been told about them.
    told_rules: BTreeSet<String>,
    /// Whether they leave no path at all.
    is_cut_off: bool,
    path_bias: PathBias,
    padding: PaddingParams,
    rest: Rest,
    vanguards: Vanguards,
    onion: OnionCircuits,
    services: Services,
    visits: Visits,
    download: DirectoryDownload,
    fetches: Fetches,
    upkeep: Upkeep,
    bootstrap: BootstrapStatus,
    listener: Listener,
    traffic: Traffic,
    /// Whether anything came from the network lately.
    is_live: bool,
    commands: VecDeque<Command>,
    deadline: Option<Instant>,
    rng: Rng,
    /// What the machines of onion services were told.
    #[cfg(test)]
    told: Vec<(crate::onion::Owner, String)>,
}

impl Client {
    /// A client of a network, with what it kept of its last run. It begins to bootstrap at once.
    ///
    /// # Errors
    /// If the guards' state is damaged: it must not be replaced silently. Other documents that are
    /// damaged are fetched again.
    pub fn new(
        config: ClientConfig,
        network: Arc<NetworkFile>,
        saved: SavedState,
        mut rng: Rng,
        now: Now,
    ) -> Result<Self, GuardStateError> {
        let params = GuardParams {
            testing: network.is_testing,
            ..GuardParams::default()
        };
        let guards = match &saved.guards {
            Some(text) => Guards::parse(text, params)?,
            None => Guards::new(params),
        };
        let guards = guards.with_rules(config.rules.first_hops_id());
        let download = DirectoryDownload::new(Arc::clone(&network), Interest::client(), now);
        let mut client = Client {
            plane: Plane::new(rng.fork()),
            links: Links::default(),
            pool: Pool::default(),
            requests: Requests::default(),
            guards,
            build_times: BuildTimes::new(now),
            permits: Permits::default(),
            told_rules: BTreeSet::new(),
            is_cut_off: false,
            path_bias: PathBias::default(),
            padding: PaddingParams::read(&Params::new()),
            rest: Rest::new(now),
            vanguards: Vanguards::new(config.vanguards),
            onion: OnionCircuits::default(),
            services: Services::new(rng.fork(), network.is_testing),
            visits: Visits::new(rng.fork(), network.is_testing),
            download,
            fetches: Fetches::default(),
            upkeep: Upkeep::new(now),
            bootstrap: BootstrapStatus::default(),
            listener: Listener::default(),
            traffic: Traffic::default(),
            is_live: true,
            commands: VecDeque::new(),
            deadline: None,
            config,
            network,
            rng,
            #[cfg(test)]
            told: Vec::new(),
        };
        client.restore(saved, now);
        client.download.handle_timeout(now, &mut client.rng);
        client.settle(now);
        Ok(client)
    }

    fn restore(&mut self, saved: SavedState, now: Now) {
        if let Some(text) = &saved.build_times {
            match BuildTimes::parse(text, &mut self.rng, now) {
                Ok(read) => self.build_times = read,
                Err(error) => tracing::warn!("{error}; they are learnt anew"),
            }
        }
        match saved.path_bias.as_deref().map(PathBias::parse) {
            Some(Ok(read)) => self.path_bias = read,
            Some(Err(line)) => tracing::warn!("line {line} of the kept path bias is damaged"),
            None => {}
        }
        let vanguards = saved.vanguards.as_deref().unwrap_or_default();
        for line in self.vanguards.restore(vanguards, now) {
            tracing::error!(
                "line {line} of the kept vanguards is damaged: another takes its place"
            );
        }
        let certs = saved
            .certificates
            .iter()
            .filter_map(|text| AuthCert::parse(text).ok());
        self.download.restore_certificates(certs, now);
        if let Some(text) = saved.consensus {
            let offered = ConsensusText::parse(text)
                .map_err(|error| error.to_string())
                .and_then(|text| {
                    let offered = self.download.offer_consensus(text, now, &mut self.rng);
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
        self.handle_consensus(now);
    }

    /// How far it is.
    #[must_use]
    pub fn bootstrap(&self) -> BootstrapStatus {
        self.bootstrap
    }

    /// The guards: which ones, since when, why.
    #[must_use]
    pub fn guards(&self) -> &Guards {
        &self.guards
    }

    /// The network, once there is a consensus.
    #[must_use]
    pub fn view(&self) -> Option<&NetworkView> {
        self.download.view()
    }

    /// The connection of [`Command::OpenChannel`] stands, and its link handshake has proven the
    /// target. `None`: nobody waits for it any more; close it.
    pub fn handle_channel_opened(
        &mut self,
        link: LinkId,
        established: Established,
        now: Now,
    ) -> Option<ChannelKey> {
        let relay = self.links.relay_of(link)?;
        self.build_times.heard(now);
        self.note_skew(&relay, established.clock_skew_secs, now);
        let addr = established.peer_addr;
        let channel = self.plane.add_channel(established, now);
        self.links.opened(relay, addr, channel, now);
        self.supersede_silent(&relay);
        self.negotiate_padding(channel);
        for circuit in self.pool.waiting_for(&relay) {
            self.begin_circuit(circuit, channel, now);
        }
        self.settle(now);
        Some(channel)
    }

    /// No connection, or not to who was wanted.
    pub fn handle_channel_failed(&mut self, link: LinkId, now: Now) {
        let Some(relay) = self.links.failed(link) else {
            return;
        };
        self.guards.handle_unreachable(&relay, now);
        for circuit in self.pool.waiting_for(&relay) {
            self.drop_circuit(circuit, CircuitEnd::NoLink, now);
        }
        self.settle(now);
    }

    /// What the outside must do next.
    pub fn poll_command(&mut self) -> Option<Command> {
        let command = self.commands.pop_front();
        command.or_else(|| self.listener.calls().then_some(Command::Events))
    }

    /// When [`Client::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.plane
            .poll_timeout()
            .into_iter()
            .chain(self.deadline)
            .chain(self.listener.poll_timeout())
            .min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.plane.handle_timeout(now);
        self.listener.handle_timeout(self.traffic, now);
        self.run_download(now);
        self.handle_onion_timeout(now);
        self.review(now);
        self.settle(now);
    }

    /// Works off all that follows from a call.
    fn settle(&mut self, now: Now) {
        loop {
            while let Some(event) = self.plane.poll_event() {
                self.handle_event(event, now);
            }
            if let Some(command) = self.download.poll_command() {
                self.handle_download(command, now);
                continue;
            }
            self.settle_guards(now);
            self.attach_onion(now);
            while self.run_onion(now) {
                self.attach_onion(now);
            }
            self.attach_waiting(now);
            self.build_ahead(now);
            // What made room may have been theirs.
            if self.run_onion(now) {
                continue;
            }
            // Only a circuit whose queue was full leaves an event here, once.
            let Some(event) = self.plane.poll_event() else {
                break;
            };
            self.handle_event(event, now);
        }
        if self.guards.take_changed() {
            let saved = Saved::Guards(self.guards.encode());
            self.commands.push_back(Command::Save(saved));
        }
        if self.path_bias.take_changed() {
            let saved = Saved::PathBias(self.path_bias.encode());
            self.commands.push_back(Command::Save(saved));
        }
        if self.vanguards.take_changed() {
            let saved = Saved::Vanguards(self.vanguards.encode(now));
            self.commands.push_back(Command::Save(saved));
        }
        if self.build_times.take_changed() {
            let saved = Saved::BuildTimes(self.build_times.encode());
            self.commands.push_back(Command::Save(saved));
        }
        self.update_status();
        self.tell_changes();
        self.deadline = self.next_deadline(now);
    }

    fn settle_events(&mut self, now: Now) {
        if let Some(event) = self.plane.poll_event() {
            self.handle_event(event, now);
            self.settle(now);
        }
    }

    fn handle_event(&mut self, event: Event, now: Now) {
        match event {
            Event::ChannelClosed { channel } => {
                self.links.closed(channel, LinkEnd::Broken);
            }
            Event::ChannelSuspect { channel } => self.channel_suspect(channel, now),
            Event::ChannelHeard { channel } => self.channel_heard(channel),
            Event::ChannelDead {
                channel,
                has_spoken,
            } => self.channel_dead(channel, has_spoken, now),
            Event::CircuitHop { circuit, hop } => self.circuit_hop(circuit, hop, now),
            Event::CircuitBuilt { circuit } => self.circuit_built(circuit, now),
            Event::CircuitFailed {
                circuit,
                hop,
                reason,
            } => {
                tracing::debug!("circuit failed at hop {hop}: {reason}");
                self.circuit_gone(circuit, Some(hop), reason, now);
            }
            Event::CircuitClosed { circuit, reason } => {
                tracing::debug!("circuit closed: {reason}");
                self.circuit_gone(circuit, None, reason, now);
            }
            Event::CircuitMessage {
                circuit,
                command,
                data,
            } => self.onion_message(circuit, command, &data, now),
            Event::StreamRequested { stream, begin } => {
                self.stream_requested(stream, begin.port, now);
            }
            Event::StreamConnected { stream, address } => {
                self.fetches.connected(stream);
                self.request_connected(stream, address, now);
            }
            Event::StreamResolved { stream, answers } => {
                self.request_resolved(stream, answers, now);
            }
            Event::StreamEnded { stream, end } => {
                let circuit = self.plane.stream_circuit(stream);
                self.request_ended(stream, end.reason, now);
                self.note_idle(circuit, now);
            }
        }
    }
}

/// The plane's methods, as the shell's driver knows them.
impl Client {
    /// From now on no more than this is to be held, over all that share it; of itself a client
    /// takes what `tor` takes where it does not know its machine.
    pub fn share_memory(&mut self, memory: Arc<Memory>) {
        self.plane.share_memory(memory);
    }

    /// Takes the whole cells at the front of `buf`, decrypted in place; returns their bytes. An
    /// error: close the connection, and call [`Client::channel_closed`].
    pub fn handle_cells(
        &mut self,
        channel: ChannelKey,
        buf: &mut [u8],
        now: Now,
    ) -> Result<usize, ChannelClose> {
        self.build_times.heard(now);
        let handled = self.plane.handle_cells(channel, buf, now);
        let read_bytes = *handled.as_ref().unwrap_or(&0);
        self.traffic.read_bytes += u64::try_from(read_bytes).unwrap_or(0);
        self.settle_events(now);
        handled
    }

    /// Appends up to one TLS record of cells.
    pub fn take_output(&mut self, channel: ChannelKey, out: &mut Vec<u8>, now: Now) {
        let before = out.len();
        self.plane.take_output(channel, out, now);
        let written_bytes = out.len().saturating_sub(before);
        self.traffic.written_bytes += u64::try_from(written_bytes).unwrap_or(0);
    }

    /// True if [`Client::take_output`] has cells to give.
    #[must_use]
    pub fn has_output(&self, channel: ChannelKey) -> bool {
        self.plane.has_output(channel)
    }

    /// The connection under a channel is gone.
    pub fn channel_closed(&mut self, channel: ChannelKey, now: Now) {
        self.plane.channel_closed(channel, now);
        self.settle(now);
    }

    /// Bytes that may be sent over a stream now.
    #[must_use]
    pub fn stream_room(&self, stream: StreamKey) -> usize {
        self.plane.stream_room(stream)
    }

    /// Sends bytes of the application's.
    pub fn stream_send(&mut self, stream: StreamKey, bytes: &[u8], now: Now) {
        self.plane.stream_send(stream, bytes, now);
        self.settle_events(now);
    }

    /// Moves up to `max` bytes that came to the end of `out`.
    pub fn stream_take(&mut self, stream: StreamKey, out: &mut Vec<u8>, max: usize) -> StreamRead {
        self.plane.stream_take(stream, out, max)
    }

    /// Why nothing more comes on a stream; `None` while more may.
    #[must_use]
    pub fn stream_end(&self, stream: StreamKey) -> Option<EndReason> {
        self.plane.stream_end(stream)
    }

    /// The application's socket took bytes.
    pub fn stream_written(&mut self, stream: StreamKey, bytes: usize, now: Now) {
        self.plane.stream_written(stream, bytes, now);
        self.settle_events(now);
    }

    /// Our side of a stream is over.
    pub fn stream_close(&mut self, stream: StreamKey, reason: EndReason, now: Now) {
        self.close_stream(stream, reason, now);
        self.settle_events(now);
    }

    /// Appends the channels with output and the streams with bytes, an end or room.
    pub fn take_ready(&mut self, channels: &mut Vec<ChannelKey>, streams: &mut Vec<StreamKey>) {
        self.plane.take_ready(channels, streams);
    }
}

#[cfg(test)]
mod tests;
