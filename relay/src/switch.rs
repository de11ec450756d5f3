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
mod circuit;
mod command;
mod config;
mod counts;
mod create;
mod destroy;
mod dos;
mod edge;
mod extend;
mod flow;
mod foreign;
mod intro;
mod known;
mod memory;
mod message;
mod onionskins;
mod padding;
mod point;
mod rendezvous;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cepa_circuit::{CircuitKey, PaddingBudget, PaddingSchedule, StreamKey};
use cepa_crypto::Rng;
use cepa_limits::{Account, DosCounts};
use cepa_link::{Channel, ChannelKey, CircuitRef, Established};
use cepa_wire::Now;
use cepa_wire::cell::{self, CellBuf};
use slotmap::SlotMap;

use channels::Channels;
use circuit::{Circuit, Place};
use edge::Edge;
use memory::Ledger;
use onionskins::Onionskins;
use point::Points;

pub use command::{ChannelClose, Command, Handover, LinkTarget, WORKERS_MAX, WorkerId};
pub use config::{CONNECTING_SHARE, Limits, PointParams, SwitchConfig};
pub use counts::{PointAction, PointCell, PointCounts, StreamCounts, SwitchCounts};
pub use known::KnownRelays;
pub use memory::MemoryCounts;
pub use onionskins::{OnionskinCounts, OnionskinKind, OnionskinLimits};
pub use point::{CircuitPlace, PointItem, PointKey};

/// Cells of one [`Switch::take_output`]: as many as fit one TLS record of 16 KiB.
pub const OUTPUT_CELLS_MAX: usize = 31;
/// How often channels are looked at for padding and idleness.
const TICK: Duration = Duration::from_secs(1);
/// How long a channel without circuits stays open if there is a better one to the same relay: for
/// circuits that are on their way to it. The value is ours.
const RETIRED_IDLE: Duration = Duration::from_secs(10);

/// One worker's part of the relay.
pub struct Switch {
    worker: WorkerId,
    config: Arc<SwitchConfig>,
    relays: Arc<KnownRelays>,
    rng: Rng,
    channels: Channels,
    /// Boxed: the table keeps its slots for ever, and a flood leaves many.
    circuits: SlotMap<CircuitKey, Box<Circuit>>,
    streams: SlotMap<StreamKey, Edge>,
    commands: VecDeque<Command>,
    /// Where the points are whose keys are at home with this worker.
    points: Points,
    point_counts: PointCounts,
    streams_taken: StreamCounts,
    dos_counts: DosCounts,
    /// By worker.
    handover: Vec<Vec<Handover>>,
    ready_streams: Vec<StreamKey>,
    /// Streams that wait for what their rate allows.
    paced_streams: Vec<StreamKey>,
    /// Circuits with padding to send.
    padding: PaddingSchedule,
    padding_budget: PaddingBudget,
    drained: Vec<CircuitRef>,
    onionskins: Onionskins,
    /// Whether no new circuits are taken, as the relay has used up what it may carry.
    is_hibernating: bool,
    ledger: Ledger,
    /// Bytes that came for streams and that their sockets have not taken.
    inbound_bytes: usize,
    /// Streams that wait for a connection or an answer of the DNS.
    connecting: usize,
    next_tick: Option<Instant>,
    next_pace: Option<Instant>,
}

impl std::fmt::Debug for Switch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Switch")
            .field("worker", &self.worker)
            .field("channels", &self.channels.len())
            .field("circuits", &self.circuits.len())
            .field("streams", &self.streams.len())
            .field("queued_cells", &self.channels.queued_cells())
            .finish_non_exhaustive()
    }
}

impl Switch {
    /// The switch of one of `workers` workers.
    #[must_use]
    pub fn new(worker: WorkerId, workers: usize, config: Arc<SwitchConfig>, rng: Rng) -> Self {
        debug_assert!(usize::from(worker.0) < workers && workers <= WORKERS_MAX);
        let ledger = Ledger::new(Arc::clone(&config.memory));
        Switch {
            worker,
            config,
            relays: Arc::default(),
            rng,
            channels: Channels::default(),
            circuits: SlotMap::with_key(),
            streams: SlotMap::with_key(),
            commands: VecDeque::new(),
            points: Points::default(),
            point_counts: PointCounts::default(),
            streams_taken: StreamCounts::default(),
            dos_counts: DosCounts::default(),
            handover: (0..workers).map(|_| Vec::new()).collect(),
            ready_streams: Vec::new(),
            paced_streams: Vec::new(),
            padding: PaddingSchedule::default(),
            padding_budget: PaddingBudget::default(),
            drained: Vec::new(),
            onionskins: Onionskins::default(),
            ledger,
            is_hibernating: false,
            inbound_bytes: 0,
            connecting: 0,
            next_tick: None,
            next_pace: None,
        }
    }

    /// Takes no new circuits from now on, or takes them again.
    pub fn set_hibernating(&mut self, is_hibernating: bool) {
        self.is_hibernating = is_hibernating;
    }

    /// Replaces the configuration; streams that may no longer leave are closed if the operator
    /// wants that.
    pub fn set_config(&mut self, config: Arc<SwitchConfig>, now: Now) {
        let before = std::mem::replace(&mut self.config, config);
        self.reevaluate_streams(&before.exit_policy, now);
    }

    /// Replaces what is known of the other relays, after a new consensus.
    pub fn set_relays(&mut self, relays: Arc<KnownRelays>) {
        self.relays = relays;
    }

    /// How many channels, circuits, streams and cells there are, and what was counted.
    #[must_use]
    pub fn counts(&self) -> SwitchCounts {
        let channels = self.channels.values();
        SwitchCounts {
            channels: self.channels.len(),
            channels_initiated: channels.filter(|it| it.channel.link().initiator).count(),
            circuits: self.circuits.len(),
            streams: self.streams.len(),
            queued_cells: self.channels.queued_cells(),
            onionskins: self.onionskins.len(),
            onionskins_ever: self.onionskins.counts,
            streams_taken: self.streams_taken,
            dos: self.dos_counts,
            points: self.point_counts.clone(),
            memory: self.ledger.counts(),
        }
    }

    /// Takes over a link whose handshake is done.
    pub fn add_channel(&mut self, link: Established, now: Now) -> ChannelKey {
        let is_client = !link.initiator && link.peer.is_none();
        let mut channel = Channel::new(link, now);
        if is_client {
            channel.set_padding(Some(self.config.padding), &mut self.rng);
        }
        self.next_tick.get_or_insert(now.mono + TICK);
        self.channels.insert(channel, now)
    }

    /// No circuit is given this channel any more: there is a better one to the same relay.
    pub fn retire_channel(&mut self, channel: ChannelKey) {
        if let Some(link) = self.channels.link_mut(channel) {
            link.is_retired = true;
        }
    }

    /// What is known of the other relays.
    #[must_use]
    pub fn known_relays(&self) -> &KnownRelays {
        &self.relays
    }

    /// Counts what a channel's peer asks for with all else that its address does.
    pub fn set_account(&mut self, channel: ChannelKey, account: Option<Arc<Account>>) {
        if let Some(link) = self.channels.link_mut(channel) {
            link.account = account;
        }
    }

    /// What the handshake of a channel found out.
    #[must_use]
    pub fn link(&self, channel: ChannelKey) -> Option<&Established> {
        self.channels.get(channel).map(|link| link.channel.link())
    }

    /// Appends up to about one TLS record of cells to `out`, in scheduling order.
    pub fn take_output(&mut self, channel: ChannelKey, out: &mut Vec<u8>, now: Now) {
        let mut drained = std::mem::take(&mut self.drained);
        self.channels.change(channel, |link| {
            link.channel
                .take_output(out, OUTPUT_CELLS_MAX, now, &mut drained)
        });
        for place in drained.drain(..).map(Place::unpack) {
            if place.worker == self.worker {
                self.wake_streams(place.circuit);
            }
        }
        self.drained = drained;
    }

    /// Whether [`Switch::take_output`] has something to give.
    #[must_use]
    pub fn has_output(&self, channel: ChannelKey) -> bool {
        self.channels
            .get(channel)
            .is_some_and(|link| link.channel.has_output())
    }

    /// Moves out the channels that have new output and the streams that have new input or room
    /// since last asked; each stands there once.
    pub fn take_ready(&mut self, channels: &mut Vec<ChannelKey>, streams: &mut Vec<StreamKey>) {
        self.channels.take_ready(channels);
        for key in &self.ready_streams {
            if let Some(edge) = self.streams.get_mut(*key) {
                edge.listed = false;
            }
        }
        streams.append(&mut self.ready_streams);
    }

    /// The next thing that the outside is to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When [`Switch::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timers = [self.next_tick, self.next_pace, self.padding.next()];
        timers.into_iter().flatten().min()
    }

    /// Lets streams go on at their rates, sends due padding, and closes channels that have been
    /// idle for long.
    pub fn handle_timeout(&mut self, now: Now) {
        self.handle_pace(now);
        self.handle_padding(now);
        if self.next_tick.is_none_or(|tick| now.mono < tick) {
            return;
        }
        self.next_tick = (!self.channels.is_empty()).then_some(now.mono + TICK);
        let (idle_max, retired_max) = (self.config.limits.channel_idle, RETIRED_IDLE);
        let (rng, commands) = (&mut self.rng, &mut self.commands);
        let idle = self.channels.tick(|channel, link| {
            link.channel.handle_timeout(now, rng);
            let is_used = link.channel.circuit_count() > 0;
            if is_used != link.is_used && !link.channel.link().initiator {
                link.is_used = is_used;
                commands.push_back(Command::ChannelUsed { channel, is_used });
            }
            if is_used {
                link.idle_since = None;
                return false;
            }
            let since = *link.idle_since.get_or_insert(now.mono);
            let idle_max = if link.is_retired {
                retired_max
            } else {
                idle_max
            };
            now.mono.saturating_duration_since(since) >= idle_max
        });
        for key in idle {
            self.close_channel(key, ChannelClose::Idle, now);
        }
        self.limit_memory(now);
    }

    /// Queues a cell for the circuit that its id names on a channel of ours. `false`: there is no
    /// such circuit, or its queue is full.
    fn queue(&mut self, channel: ChannelKey, cell: &CellBuf, now: Now) -> bool {
        self.channels.queue(channel, cell, now)
    }

    /// A channel whose peer provokes answers without reading them is closed.
    fn close_unread(&mut self, channel: ChannelKey) {
        let Some(link) = self.channels.link_mut(channel) else {
            return;
        };
        if !std::mem::replace(&mut link.closing, true) {
            let reason = ChannelClose::NotReading;
            self.commands
                .push_back(Command::CloseChannel { channel, reason });
        }
    }

    /// Forgets a circuit on a channel, and the cells queued for it; `false` if there is none.
    fn forget(&mut self, channel: ChannelKey, circ_id: cell::CircId) -> bool {
        let Some(circuit) = self.channels.forget(channel, circ_id) else {
            return false;
        };
        if let Some(link) = self.channels.link_mut(channel)
            && Place::unpack(circuit).side == circuit::Side::Previous
        {
            link.accepted = link.accepted.saturating_sub(1);
        }
        true
    }

    /// The batch of items for another worker, to be given to its [`Switch::handle_handover`].
    #[must_use]
    pub fn take_handover(&mut self, worker: WorkerId) -> Vec<Handover> {
        self.handover
            .get_mut(usize::from(worker.0))
            .map(std::mem::take)
            .unwrap_or_default()
    }

    fn hand_over(&mut self, worker: WorkerId, item: Handover) {
        if let Some(batch) = self.handover.get_mut(usize::from(worker.0)) {
            batch.push(item);
        }
    }
}
