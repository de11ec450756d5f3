//! The data plane of a relay, for one worker thread: cells in, cells out (tor-spec 5 to 7).
//!
//! ```text
//! handle_cells ─> circuit ─┬─ recognised ─> message (extend, streams, SENDME, ...)
//!                          └─ onward ─────> queue of the other channel ─> take_output
//! ```
//!
//! No I/O, no clock, no lock. A cell costs a look-up, a layer of AES in place and a copy into a
//! queue; nothing is allocated for it. A circuit lives with the switch of its previous channel; if
//! its next channel is another worker's, cells cross in batches of [`Handover`]. Every violation
//! ends what the specification says it ends: a cell, a circuit, a channel.

mod cells;
mod channels;
mod circuits;
mod command;
mod config;
mod context;
mod counts;
mod dos;
mod handover;
mod known;
mod memory;
mod message;
mod onionskins;
mod padding;
mod place;
mod points;
mod shared;
mod stream;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cepa_circuit::{CircuitKey, OnionskinError, OnionskinReply, StreamKey};
use cepa_crypto::Rng;
use cepa_limits::{Account, Shortage};
use cepa_link::{ChannelKey, CircuitRef, Established};
use cepa_wire::Now;
use cepa_wire::destroy::DestroyReason;

use channels::Channels;
use circuits::Circuits;
use context::Context;
use dos::Defenses;
use handover::Outbox;
use memory::{Holder, Ledger, Load};
use onionskins::Onionskins;
use padding::Padding;
use place::Place;
use points::Points;
use shared::Shared;
use streams::Streams;

pub use command::{ChannelClose, Command, LinkTarget};
pub use config::{CONNECTING_SHARE, Limits, OnionskinLimits, PointParams, SwitchConfig};
pub use counts::SwitchCounts;
pub use handover::{CircuitItem, Handover, PointItem, PointKey};
pub use known::KnownRelays;
pub use memory::MemoryCounts;
pub use onionskins::{OnionskinCounts, OnionskinKind};
pub use place::{CircuitPlace, WORKERS_MAX, WorkerId};
pub use points::{PointAction, PointCell, PointCounts};
pub use streams::StreamCounts;

/// Cells of one [`Switch::take_output`]: as many as fit one TLS record of 16 KiB.
pub const OUTPUT_CELLS_MAX: usize = 31;

/// One worker's part of the relay.
///
/// It says which table an input is for, and works off what follows from it. The circuits know
/// neither streams nor points, which belong to circuits; all work with what they share.
pub struct Switch {
    shared: Shared,
    circuits: Circuits,
    streams: Streams,
    points: Points,
    onionskins: Onionskins,
    padding: Padding,
    ledger: Ledger,
    /// Room for circuits that have drained, which is kept.
    drained: Vec<CircuitRef>,
}

impl std::fmt::Debug for Switch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Switch")
            .field("worker", &self.worker())
            .field("channels", &self.shared.channels.len())
            .field("circuits", &self.circuits.len())
            .field("streams", &self.streams.len())
            .field("queued_cells", &self.shared.channels.queued_cells())
            .finish_non_exhaustive()
    }
}

impl Switch {
    /// The switch of one of `workers` workers.
    #[must_use]
    pub fn new(worker: WorkerId, workers: usize, config: Arc<SwitchConfig>, rng: Rng) -> Self {
        debug_assert!(usize::from(worker.0) < workers && workers <= WORKERS_MAX);
        let memory = Arc::clone(&config.memory);
        Switch {
            ledger: Ledger::new(Arc::clone(&memory)),
            shared: Shared {
                config,
                relays: Arc::default(),
                memory,
                rng,
                channels: Channels::default(),
                outbox: Outbox::new(worker, workers),
                commands: VecDeque::new(),
                defenses: Defenses::default(),
            },
            circuits: Circuits::default(),
            streams: Streams::default(),
            points: Points::default(),
            onionskins: Onionskins::default(),
            padding: Padding::default(),
            drained: Vec::new(),
        }
    }

    /// The worker of this switch.
    #[must_use]
    pub fn worker(&self) -> WorkerId {
        self.shared.outbox.own
    }

    /// How many workers there are, this one included.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.shared.outbox.workers()
    }

    /// Takes no new circuits from now on, or takes them again.
    pub fn set_hibernating(&mut self, is_hibernating: bool) {
        self.onionskins.is_hibernating = is_hibernating;
    }

    /// Replaces the configuration; streams that may no longer leave are closed if the operator
    /// wants that.
    pub fn set_config(&mut self, config: Arc<SwitchConfig>, now: Now) {
        let before = std::mem::replace(&mut self.shared.config, config);
        self.with_streams(now, |streams, ctx| {
            streams.reevaluate(&before.exit_policy, ctx);
        });
    }

    /// Replaces what is known of the other relays, after a new consensus.
    pub fn set_relays(&mut self, relays: Arc<KnownRelays>) {
        self.shared.relays = relays;
    }

    /// What is known of the other relays.
    #[must_use]
    pub fn known_relays(&self) -> &KnownRelays {
        &self.shared.relays
    }

    /// How many channels, circuits, streams and cells there are, and what was counted.
    #[must_use]
    pub fn counts(&self) -> SwitchCounts {
        let channels = &self.shared.channels;
        SwitchCounts {
            channels: channels.len(),
            channels_initiated: channels.initiated(),
            circuits: self.circuits.len(),
            streams: self.streams.len(),
            queued_cells: channels.queued_cells(),
            onionskins: self.onionskins.len(),
            onionskins_ever: self.onionskins.counts,
            streams_taken: self.streams.taken,
            dos: self.shared.defenses.counts,
            points: self.points.counts.clone(),
            memory: self.ledger.counts,
        }
    }

    /// Takes over a link whose handshake is done.
    pub fn add_channel(&mut self, link: Established, now: Now) -> ChannelKey {
        let (padding, rng) = (self.shared.config.padding, &mut self.shared.rng);
        self.shared.channels.add(link, padding, rng, now)
    }

    /// No circuit is given this channel any more: there is a better one to the same relay.
    pub fn retire_channel(&mut self, channel: ChannelKey) {
        if let Some(link) = self.shared.channels.link_mut(channel) {
            link.is_retired = true;
        }
    }

    /// Counts what a channel's peer asks for with all else that its address does.
    pub fn set_account(&mut self, channel: ChannelKey, account: Option<Arc<Account>>) {
        if let Some(link) = self.shared.channels.link_mut(channel) {
            link.account = account;
        }
    }

    /// What the handshake of a channel found out.
    #[must_use]
    pub fn link(&self, channel: ChannelKey) -> Option<&Established> {
        let link = self.shared.channels.get(channel)?;
        Some(link.channel.link())
    }

    /// The connection under a channel is gone: all its circuits end.
    pub fn channel_closed(&mut self, channel: ChannelKey, now: Now) {
        let Some(link) = self.shared.channels.remove(channel) else {
            return;
        };
        self.onionskins.forget(channel);
        for (circ_id, circuit) in link.channel.circuit_refs() {
            self.circuits
                .channel_closed(circ_id, circuit, &mut self.shared);
            self.settle(now);
        }
        self.ledger.tell(self.load());
    }

    /// Appends up to about one TLS record of cells to `out`, in scheduling order.
    pub fn take_output(&mut self, channel: ChannelKey, out: &mut Vec<u8>, now: Now) {
        let (channels, own) = (&mut self.shared.channels, self.shared.outbox.own);
        let drained = &mut self.drained;
        channels.change(channel, |link| {
            link.channel
                .take_output(out, OUTPUT_CELLS_MAX, now, drained)
        });
        for place in self.drained.drain(..).map(Place::unpack) {
            if place.worker == own {
                let circuits = &mut self.circuits;
                self.streams.wake(place.circuit, circuits, channels);
            }
        }
    }

    /// Whether [`Switch::take_output`] has something to give.
    #[must_use]
    pub fn has_output(&self, channel: ChannelKey) -> bool {
        let link = self.shared.channels.get(channel);
        link.is_some_and(|link| link.channel.has_output())
    }

    /// Moves out the channels that have new output and the streams that have new input or room
    /// since last asked; each stands there once.
    pub fn take_ready(&mut self, channels: &mut Vec<ChannelKey>, streams: &mut Vec<StreamKey>) {
        self.shared.channels.take_ready(channels);
        self.streams.take_ready(streams);
    }

    /// The next thing that the outside is to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        debug_assert!(self.is_settled(), "an input is worked off to its end");
        self.shared.commands.pop_front()
    }

    /// When [`Switch::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (tick, pace) = (self.shared.channels.next_tick, self.streams.next_pace);
        let timers = [tick, pace, self.padding.next()];
        timers.into_iter().flatten().min()
    }

    /// Lets streams go on at their rates, sends due padding, and closes channels that have been
    /// idle for long.
    pub fn handle_timeout(&mut self, now: Now) {
        self.streams.handle_timeout(now);
        let ctx = &mut Context::new(&mut self.circuits, &mut self.shared, now);
        self.padding.handle_timeout(ctx);
        self.settle(now);
        let Shared {
            channels,
            config,
            rng,
            commands,
            ..
        } = &mut self.shared;
        let idle_max = config.limits.channel_idle;
        let Some(idle) = channels.handle_timeout(idle_max, rng, commands, now) else {
            return;
        };
        for channel in idle {
            let reason = ChannelClose::Idle;
            let close = Command::CloseChannel { channel, reason };
            self.shared.commands.push_back(close);
            self.channel_closed(channel, now);
        }
        self.limit_memory(now);
    }

    /// The answer to [`Command::Onionskin`].
    pub fn handle_onionskin(
        &mut self,
        key: CircuitKey,
        reply: Result<OnionskinReply, OnionskinError>,
        now: Now,
    ) {
        let ctx = &mut Context::new(&mut self.circuits, &mut self.shared, now);
        self.onionskins.handle_reply(key, reply, ctx);
        self.settle(now);
    }

    /// What answering an onionskin has cost, by which it is judged how long others would wait.
    pub fn note_onionskin_cost(&mut self, cost: Duration) {
        self.onionskins.note_cost(cost);
    }

    /// The answer to [`Command::NeedChannel`]: which worker has the channel, and its key there.
    pub fn handle_channel_found(
        &mut self,
        key: CircuitKey,
        found: Option<(WorkerId, ChannelKey)>,
        now: Now,
    ) {
        let shared = &mut self.shared;
        self.circuits.handle_channel_found(key, found, shared, now);
        self.settle(now);
    }

    /// The batch of items for another worker, to be given to its [`Switch::handle_handover`].
    #[must_use]
    pub fn take_handover(&mut self, worker: WorkerId) -> Vec<Handover> {
        self.shared.outbox.take(worker)
    }

    /// Handles a batch that another worker's switch has collected for this one.
    pub fn handle_handover(&mut self, items: Vec<Handover>, now: Now) {
        for item in items {
            let (circuits, shared) = (&mut self.circuits, &mut self.shared);
            match item {
                Handover::Circuit(item) => circuits.handle_item(item, shared, now),
                Handover::Point(item) => {
                    let ctx = &mut Context::new(circuits, shared, now);
                    self.points.handle_item(item, ctx);
                }
                Handover::MemoryShort(shortage) => self.free_memory(shortage, now),
            }
            self.settle(now);
        }
        self.limit_memory(now);
    }

    /// Works off what follows from an input: circuits have ended to which streams and points
    /// belonged, and this worker has told itself something of points.
    #[inline]
    fn settle(&mut self, now: Now) {
        // After most cells there is nothing.
        while !self.is_settled() {
            self.settle_one(now);
        }
    }

    fn settle_one(&mut self, now: Now) {
        let ctx = &mut Context::new(&mut self.circuits, &mut self.shared, now);
        if let Some(ended) = ctx.circuits.poll_ended() {
            let (circuit, reason) = (ended.circuit, ended.reason);
            self.points.ended(circuit, ended.next, reason, ctx);
            for stream in ended.streams.into_values() {
                self.streams.orphan(stream, ctx);
            }
        } else if let Some(item) = ctx.shared.outbox.poll_own() {
            self.points.handle_item(item, ctx);
        }
    }

    fn is_settled(&self) -> bool {
        self.circuits.ended() == 0 && self.shared.outbox.own_items() == 0
    }

    /// What is held, in bytes.
    fn load(&self) -> Load {
        let (channels, circuits) = (&self.shared.channels, &self.circuits);
        Load::of(channels, circuits, &self.streams, &self.points)
    }

    /// Tells what is held, and if that is too much over all workers, closes the circuits that have
    /// waited longest.
    fn limit_memory(&mut self, now: Now) {
        self.ledger.tell(self.load());
        if let Some(shortage) = self.ledger.shortage(&mut self.shared.outbox) {
            self.free_memory(shortage, now);
        }
    }

    /// Closes the circuits that have waited longest, until this switch's part of what is to be
    /// freed is free.
    fn free_memory(&mut self, shortage: Shortage, now: Now) {
        let (before, channels) = (self.load(), &mut self.shared.channels);
        let pass = self
            .ledger
            .begin_pass(shortage, before, channels, &self.streams);
        let Some(mut pass) = pass else {
            return;
        };
        while let Some(holder) = pass.next(self.load()) {
            match holder {
                Holder::Circuit(channel, circ_id, circuit) => {
                    let shared = &mut self.shared;
                    self.circuits
                        .close_queued(channel, circ_id, circuit, shared);
                    shared.channels.trim_pool(channel);
                }
                Holder::Stream(stream) => self.close_held(stream, now),
            }
            self.settle(now);
        }
        self.ledger.end_pass(&pass, self.load());
    }

    /// Closes the circuit of a stream that holds bytes for its socket, and the stream.
    fn close_held(&mut self, stream: StreamKey, now: Now) {
        if let Some(circuit) = self.streams.circuit(stream) {
            let shared = &mut self.shared;
            let reason = DestroyReason::RESOURCELIMIT;
            self.circuits.destroy(circuit, reason, shared);
        }
        // Before the stream is told that its circuit is gone: it would be read to its end.
        self.with_streams(now, |streams, ctx| streams.discard(stream, ctx));
    }
}
