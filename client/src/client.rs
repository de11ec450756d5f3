//! The client: which machine an input is for, and in which order they are worked off.
//!
//! ```text
//! SOCKS ───▶ Streams ──┬─▶ Onion ──┐                     ┌─▶ cells ─▶ shell
//! shell ◀──────────────┘           ├─▶ Circuits ─▶ Plane ┤
//! replies ─▶ Directory ────────────┘ ◀──Event────────────┴── Event
//! ```
//!
//! Each machine owns what it is about, and calls those to its right; what goes the other way are
//! events, which only stand here. Each call ends with [`Client::settle`]: events of the plane and
//! of circuits and commands of the download are worked off, requests are attached, circuits are
//! built ahead.

mod bridges;
pub mod by_hand;
mod data;
mod dormancy;
mod mapping;
mod network;
mod overrides;
mod services;
mod status;

use std::sync::Arc;
use std::time::Instant;

use cepa_crypto::Rng;
use cepa_dir::NetworkFile;
use cepa_dir::fetch::Reply;
use cepa_link::{ChannelKey, Established};
use cepa_wire::Now;
use cepa_wire::socks::SocksRequest;

use crate::circuits::{self, Circuits};
use crate::command::{Command, SavedState};
use crate::config::ClientConfig;
use crate::context::{Context, Shared};
use crate::directory::{Brought, Directory};
use crate::isolation::Isolation;
use crate::names::{FetchId, LinkId, RequestId};
use crate::onion::Onion;
use crate::plane::{Event, Plane};
use crate::select::choice::Choice;
use crate::select::guards::{GuardParams, GuardStateError, Guards};
use crate::select::rules::Rules;
use crate::select::vanguards::Vanguards;
use crate::status::{Listener, StreamSource, StreamStatus, Traffic};
use crate::streams::Streams;
use dormancy::Dormancy;
pub use status::HsDescriptors;

/// A client.
#[derive(Debug)]
pub struct Client {
    streams: Streams,
    onion: Onion,
    directory: Directory,
    circuits: Circuits,
    shared: Shared,
    dormancy: Dormancy,
    traffic: Traffic,
    deadline: Option<Instant>,
}

impl Client {
    /// A client of a network, with what it kept of its last run. It begins to bootstrap at once.
    ///
    /// # Errors
    /// If the guards' state is damaged: it must not be replaced silently. Other documents that are
    /// damaged are fetched again.
    pub fn new(
        mut config: ClientConfig,
        network: Arc<NetworkFile>,
        saved: SavedState,
        mut rng: Rng,
        now: Now,
    ) -> Result<Self, GuardStateError> {
        let is_testing = network.is_testing;
        let params = GuardParams {
            testing: is_testing,
            ..GuardParams::default()
        };
        let guards = match &saved.guards {
            Some(text) => Guards::parse(text, params)?,
            None => Guards::new(params),
        };
        let vanguards = Vanguards::new(config.vanguards);
        let (rules, is_distinct) = (std::mem::take(&mut config.rules), !config.subnets_shared);
        let choice = Choice::new(guards, vanguards, rules, is_distinct, is_testing);
        let plane = Plane::new(rng.fork());
        let dormancy = Dormancy::restored(&saved, config.overrides.dormancy, now);
        let mut client = Client {
            streams: Streams::default(),
            onion: Onion::new(&mut rng, is_testing),
            directory: Directory::new(&network, now),
            circuits: Circuits::new(choice, config.circuit_dirtiness_max, now),
            shared: Shared {
                config,
                network,
                plane,
                listener: Listener::default(),
                commands: Default::default(),
                rng,
                fetch_next: 0,
            },
            dormancy,
            traffic: Traffic::default(),
            deadline: None,
        };
        client.circuits.is_off = client.shared.config.is_off;
        client.heed(now);
        if !client.shared.config.bridges.is_empty() {
            client.use_bridges(now);
        }
        client.restore(&saved, now);
        client.run_download(now);
        client.settle(now);
        Ok(client)
    }

    fn restore(&mut self, saved: &SavedState, now: Now) {
        let rng = &mut self.shared.rng;
        self.circuits.restore(saved, rng, now);
        self.directory.restore(saved, rng, now);
        let (_, _, circuits, ctx) = &mut self.split(now);
        circuits.handle_consensus(ctx);
    }

    /// The connection of [`Command::OpenChannel`] stands, and its link handshake has proven the
    /// target. `None`: nobody waits for it any more; close it.
    pub fn handle_channel_opened(
        &mut self,
        link: LinkId,
        established: Established,
        now: Now,
    ) -> Option<ChannelKey> {
        let relay = self.circuits.links.relay_of(link)?;
        if self.circuits.is_off {
            self.circuits.links.failed(link);
            return None;
        }
        if let Some(peer) = established.peer {
            self.bridge_proved(relay, &peer, now);
        }
        let skew = established.clock_skew_secs;
        self.directory
            .note_skew(&relay, skew, &mut self.shared, now);
        let (_, _, circuits, ctx) = &mut self.split(now);
        let channel = circuits.link_opened(link, established, ctx);
        self.settle(now);
        channel
    }

    /// No connection, or not to who was wanted.
    pub fn handle_channel_failed(&mut self, link: LinkId, now: Now) {
        let (_, _, circuits, ctx) = &mut self.split(now);
        circuits.link_failed(link, ctx);
        self.settle(now);
    }

    /// How the HTTP exchange of [`Command::DirRequest`] ended; `None` if no reply came. The body
    /// is decompressed.
    pub fn handle_dir_reply(&mut self, fetch: FetchId, reply: Option<Reply>, now: Now) {
        if self.directory.is_fetching(fetch) {
            let (circuits, shared) = (&mut self.circuits, &mut self.shared);
            self.directory
                .handle_reply(fetch, reply, circuits, shared, now);
        } else {
            let (_, onion, _, ctx) = &mut self.split(now);
            onion.handle_reply(fetch, reply, ctx);
        }
        self.settle(now);
    }

    /// A request of an application. `early` is what came behind it (optimistic data). The answer
    /// is one of [`Command::SocksConnected`], [`Command::SocksResolved`], [`Command::SocksFailed`].
    pub fn handle_socks_request(
        &mut self,
        id: RequestId,
        request: &SocksRequest,
        source: StreamSource,
        isolation: Isolation,
        early: Vec<u8>,
        now: Now,
    ) {
        self.wake(now);
        let status = StreamStatus::new(id, request, source, isolation, now);
        let (streams, _, circuits, ctx) = &mut self.split(now);
        streams.handle_request(status, request, early, circuits, ctx);
        self.settle(now);
    }

    /// More optimistic data for a request that is not answered yet; returns how much was taken.
    pub fn handle_socks_early(&mut self, id: RequestId, bytes: &[u8], now: Now) -> usize {
        let (streams, _, _, ctx) = &mut self.split(now);
        let taken = streams.handle_early(id, bytes, ctx);
        self.settle_events(now);
        taken
    }

    /// The application hung up before its answer.
    pub fn cancel_socks_request(&mut self, id: RequestId, now: Now) {
        let (streams, onion, circuits, ctx) = &mut self.split(now);
        streams.cancel(id, onion, circuits, ctx);
        self.settle(now);
    }

    /// From now on no stream shares a circuit with earlier ones (the signal NEWNYM).
    pub fn new_session(&mut self, now: Now) {
        self.streams.new_session();
        self.onion.visits.forget_all();
        self.settle(now);
    }

    /// Chooses paths by these rules from now on. No new stream goes over a circuit that was built
    /// by those before; streams that are open stay.
    pub fn set_rules(&mut self, rules: Rules, now: Now) {
        if !self.circuits.choice.set_rules(rules) {
            return;
        }
        let (_, _, circuits, ctx) = &mut self.split(now);
        circuits.choice.update_bridges(ctx.rng, ctx.now);
        circuits.handle_consensus(ctx);
        circuits.pool.wear_out_all(now);
        self.onion.network_changed();
        self.settle(now);
    }

    /// The machines, and what they work with while an input of now is worked off.
    fn split(&mut self, now: Now) -> (&mut Streams, &mut Onion, &mut Circuits, Context<'_>) {
        let ctx = self.shared.at(self.directory.view(), now);
        let (streams, onion) = (&mut self.streams, &mut self.onion);
        (streams, onion, &mut self.circuits, ctx)
    }

    /// What the outside must do next.
    pub fn poll_command(&mut self) -> Option<Command> {
        let command = self.shared.commands.pop_front();
        command.or_else(|| self.shared.listener.calls().then_some(Command::Events))
    }

    /// When [`Client::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let plane = self.shared.plane.poll_timeout().into_iter();
        plane
            .chain(self.deadline)
            .chain(self.shared.listener.poll_timeout())
            .min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.shared.plane.handle_timeout(now);
        if self.shared.listener.handle_timeout(self.traffic, now) {
            let Shared {
                plane, listener, ..
            } = &mut self.shared;
            circuits::status::tell_carried(&self.circuits.pool, plane, listener);
            self.streams.tell_carried(plane, listener);
        }
        self.run_download(now);
        self.onion.handle_timeout(now);
        self.review(now);
        self.settle(now);
    }

    /// All that is due by the clock, of circuits and of what uses them.
    fn review(&mut self, now: Now) {
        let (_, _, circuits, ctx) = &mut self.split(now);
        circuits.review(ctx);
        self.settle_circuits(now);
        let (streams, onion, circuits, ctx) = &mut self.split(now);
        streams.review(onion, circuits, ctx);
        self.review_bridges(now);
        self.directory
            .review(&mut self.circuits, &mut self.shared, now);
        let (streams, onion, circuits, ctx) = &mut self.split(now);
        onion.review(circuits, ctx);
        circuits.review_links(ctx);
        let (are_open, is_waiting) = (ctx.plane.has_streams(), !streams.by_id.is_empty());
        let is_busy = is_waiting || !onion.services.statuses().is_empty();
        self.dormancy.review(is_busy, are_open, now);
    }

    /// Somebody wants something.
    fn wake(&mut self, now: Now) {
        if self.dormancy.wake(now) {
            self.circuits.upkeep.wake(now);
            self.run_download(now);
        }
    }

    /// Lets the download do what is due.
    fn run_download(&mut self, now: Now) {
        if self.may_fetch() {
            self.directory.handle_timeout(&mut self.shared.rng, now);
        }
    }

    /// Whether documents of the network can be fetched: not while all bridges are unknown.
    fn may_fetch(&self) -> bool {
        let is_wanted = !self.shared.config.overrides.fetches.no_network;
        is_wanted && !self.is_at_rest() && !self.circuits.choice.bridges().are_awaited()
    }

    /// Whether paths can be chosen: enough is known, the consensus is not too old, and a circuit
    /// was built, or the best guard is known: a client must not go over to another guard only
    /// because documents are late (guard-spec 4.12).
    fn is_ready(&self, now: Now) -> bool {
        let choice = &self.circuits.choice;
        let best = choice.guards.primary().first();
        choice.is_enough()
            && !self.circuits.is_off
            && self.directory.is_live(now)
            && (self.circuits.upkeep.has_built()
                || best.is_none_or(|best| self.directory.knows(best, choice)))
    }

    /// Works off all that follows from a call.
    fn settle(&mut self, now: Now) {
        loop {
            self.settle_plane(now);
            if let Some(command) = self.directory.poll_command() {
                let (circuits, shared) = (&mut self.circuits, &mut self.shared);
                let brought = self
                    .directory
                    .handle_command(command, circuits, shared, now);
                if brought == Brought::Relays {
                    self.onion.network_changed();
                }
                continue;
            }
            let (_, _, circuits, ctx) = &mut self.split(now);
            circuits.settle_guards(ctx);
            self.settle_circuits(now);
            self.attach_onion(now);
            while self.run_onion(now) {
                self.attach_onion(now);
            }
            if self.is_ready(now) {
                let is_dormant = self.is_dormant();
                let (streams, onion, circuits, ctx) = &mut self.split(now);
                streams.attach_waiting(circuits, ctx);
                if !is_dormant {
                    circuits.build_ahead(onion.is_used(now), ctx);
                }
                self.settle_circuits(now);
            }
            // What made room may have been theirs. Only a circuit whose queue was full leaves an
            // event in the plane here, once.
            if !self.run_onion(now) && !self.settle_plane(now) {
                break;
            }
        }
        let (_, _, circuits, ctx) = &mut self.split(now);
        circuits.save_changes(ctx);
        self.dormancy.save(&mut self.shared.commands);
        self.directory
            .update_status(&self.circuits, &mut self.shared);
        self.circuits.tell_changes(&mut self.shared.listener);
        self.deadline = self.next_deadline(now);
    }

    fn settle_events(&mut self, now: Now) {
        if self.settle_plane(now) {
            self.settle(now);
        }
    }

    /// Works off the events of the plane. False if there were none.
    fn settle_plane(&mut self, now: Now) -> bool {
        let mut idle = true;
        while let Some(event) = self.shared.plane.poll_event() {
            self.handle_event(event, now);
            self.settle_circuits(now);
            idle = false;
        }
        !idle
    }

    /// Tells those whose circuits they are what became of them.
    fn settle_circuits(&mut self, now: Now) {
        while let Some(event) = self.circuits.poll_event() {
            let name = match event {
                circuits::Event::Built(id, _) => self.circuits.pool.name_of(id),
                circuits::Event::Gone(_, name, _) => name,
                circuits::Event::Late(_, name) | circuits::Event::Due(_, name) => Some(name),
            };
            if let Some(name) = name {
                let (_, onion, circuits, ctx) = &mut self.split(now);
                onion.handle_circuit(name, event, circuits, ctx);
            } else {
                let (circuits, shared) = (&mut self.circuits, &mut self.shared);
                self.directory.handle_circuit(event, circuits, shared, now);
            }
        }
    }

    /// Gives circuits of onion services paths.
    fn attach_onion(&mut self, now: Now) {
        if self.is_ready(now) {
            let (_, onion, circuits, ctx) = &mut self.split(now);
            onion.attach(circuits, ctx);
            self.settle_circuits(now);
        }
    }

    /// Lets the machines of onion services do what they have to do. False if that was nothing.
    fn run_onion(&mut self, now: Now) -> bool {
        let is_ready = self.is_ready(now);
        let (streams, onion, circuits, ctx) = &mut self.split(now);
        streams.begin_visits(onion, now);
        if is_ready {
            onion.tell_network(circuits, ctx);
        }
        let mut idle = !onion.run(circuits, ctx);
        while let Some(outcome) = onion.visits.poll_outcome() {
            streams.handle_visit(outcome, onion, circuits, ctx);
            idle = false;
        }
        self.settle_circuits(now);
        !idle
    }

    /// When to look again.
    fn next_deadline(&self, now: Now) -> Option<Instant> {
        let download = self.directory.poll_timeout();
        [
            download.filter(|_| self.may_fetch()),
            (self.directory.bridges.deadline()).filter(|_| !self.is_at_rest()),
            self.dormancy.deadline(),
            self.circuits.deadline(now),
            self.streams.deadline(),
            self.directory.fetches.deadline(),
            self.onion.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn handle_event(&mut self, event: Event, now: Now) {
        if let Event::StreamConnected { stream, .. } = event {
            self.directory.fetches.connected(stream);
        }
        let (streams, onion, circuits, ctx) = &mut self.split(now);
        match event {
            Event::ChannelClosed { channel } => circuits.link_closed(channel),
            Event::ChannelSuspect { channel } => {
                circuits.link_suspect(channel, ctx);
                streams.leave_stalled(onion, circuits, ctx);
            }
            Event::ChannelHeard { channel } => circuits.link_heard(channel, ctx),
            Event::ChannelDead {
                channel,
                has_spoken,
            } => circuits.link_dead(channel, has_spoken, ctx),
            Event::CircuitHop { circuit, hop } => circuits.handle_hop(circuit, hop, ctx),
            Event::CircuitBuilt { circuit } => circuits.handle_built(circuit, ctx),
            Event::CircuitFailed {
                circuit,
                hop,
                reason,
            } => {
                tracing::debug!("circuit failed at hop {hop}: {reason}");
                circuits.handle_gone(circuit, Some(hop), reason, ctx);
            }
            Event::CircuitClosed { circuit, reason } => {
                tracing::debug!("circuit closed: {reason}");
                circuits.handle_gone(circuit, None, reason, ctx);
            }
            Event::CircuitMessage {
                circuit,
                command,
                data,
            } => onion.handle_message(circuit, command, &data, circuits, ctx),
            Event::StreamRequested { stream, begin } => {
                onion.stream_requested(stream, begin.port, circuits, ctx);
            }
            Event::StreamConnected { stream, address } => {
                streams.connected(stream, address, onion, circuits, ctx);
            }
            Event::StreamResolved { stream, answers } => {
                streams.resolved(stream, answers, onion, circuits, ctx);
            }
            Event::StreamEnded { stream, end } => {
                let reason = end.reason;
                streams.ended(stream, reason, onion, circuits, ctx);
            }
        }
    }
}

#[cfg(test)]
mod tests;
