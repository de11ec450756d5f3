//! The channels of a switch, and what waits on them.
//!
//! What waits (cells, bytes) is counted where it changes, over all channels, and a channel that has
//! new output is listed once for the shell. A channel whose peer provokes DESTROYs without reading
//! them is closed. Circuits are known here by their ids and places alone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cepa_crypto::Rng;
use cepa_limits::Account;
use cepa_link::channel::{ControlFull, PaddingRange, Waiting};
use cepa_link::{Channel, ChannelKey, CircuitRef, Established, PeerIdentity};
use cepa_wire::Now;
use cepa_wire::cell::{self, CellBuf, CircId, Payload};
use cepa_wire::destroy::DestroyReason;
use slotmap::SlotMap;
use tracing::debug;

use super::command::{ChannelClose, Command};
use super::place::{Place, Side};

/// How often channels are looked at for padding and idleness.
const TICK: Duration = Duration::from_secs(1);
/// How long a channel without circuits stays open if there is a better one to the same relay: for
/// circuits that are on their way to it. The value is ours.
const RETIRED_IDLE: Duration = Duration::from_secs(10);

/// A channel as the switch holds it.
pub(super) struct Link {
    pub(super) channel: Channel,
    /// It is in `ready`.
    listed: bool,
    /// Since when it has had no circuit.
    pub(super) idle_since: Option<Instant>,
    /// Circuits that the peer made and that are still there.
    pub(super) accepted: usize,
    /// The shell was asked to close it.
    closing: bool,
    /// There is a better one to the same relay: it ends when it is idle.
    pub(super) is_retired: bool,
    /// The shell was told that it has circuits.
    is_used: bool,
    /// What its address may do; `None` for what has none, or is ours.
    pub(super) account: Option<Arc<Account>>,
}

impl Link {
    fn load(&self) -> Load {
        Load {
            cells: self.channel.queued_total(),
            bytes: self.channel.queue_bytes(),
        }
    }

    /// Pads, if that is due, tells the shell whether there are circuits, and whether the channel
    /// has been without for too long.
    fn is_idle(
        &mut self,
        key: ChannelKey,
        idle_max: Duration,
        rng: &mut Rng,
        commands: &mut VecDeque<Command>,
        now: Now,
    ) -> bool {
        self.channel.handle_timeout(now, rng);
        let is_used = self.channel.circuit_count() > 0;
        if is_used != self.is_used && !self.channel.link().initiator {
            self.is_used = is_used;
            let channel = key;
            commands.push_back(Command::ChannelUsed { channel, is_used });
        }
        if is_used {
            self.idle_since = None;
            return false;
        }
        let since = *self.idle_since.get_or_insert(now.mono);
        let idle_max = if self.is_retired {
            RETIRED_IDLE
        } else {
            idle_max
        };
        now.mono.saturating_duration_since(since) >= idle_max
    }
}

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Load {
    cells: usize,
    bytes: usize,
}

/// All channels of a switch.
#[derive(Default)]
pub(super) struct Channels {
    links: SlotMap<ChannelKey, Link>,
    /// Those that have new output since the shell last asked.
    ready: Vec<ChannelKey>,
    load: Load,
    /// When they are looked at again; `None` while there are none.
    pub(super) next_tick: Option<Instant>,
}

impl Channels {
    /// Takes over a link whose handshake is done; one of a client's is padded.
    pub(super) fn add(
        &mut self,
        link: Established,
        padding: PaddingRange,
        rng: &mut Rng,
        now: Now,
    ) -> ChannelKey {
        let is_client = !link.initiator && link.peer.is_none();
        let mut channel = Channel::new(link, now);
        if is_client {
            channel.set_padding(Some(padding), rng);
        }
        self.next_tick.get_or_insert(now.mono + TICK);
        self.links.insert(Link {
            channel,
            listed: false,
            idle_since: Some(now.mono),
            accepted: 0,
            closing: false,
            is_retired: false,
            is_used: false,
            account: None,
        })
    }

    /// Takes a channel out, with all that waits on it.
    pub(super) fn remove(&mut self, key: ChannelKey) -> Option<Link> {
        let link = self.links.remove(key)?;
        self.count(link.load(), Load::default());
        Some(link)
    }

    pub(super) fn get(&self, key: ChannelKey) -> Option<&Link> {
        self.links.get(key)
    }

    /// For what changes nothing that waits; else [`Channels::change`].
    pub(super) fn link_mut(&mut self, key: ChannelKey) -> Option<&mut Link> {
        self.links.get_mut(key)
    }

    pub(super) fn contains_key(&self, key: ChannelKey) -> bool {
        self.links.contains_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = ChannelKey> + '_ {
        self.links.keys()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ChannelKey, &Link)> {
        self.links.iter()
    }

    /// Those of them that we opened.
    pub(super) fn initiated(&self) -> usize {
        let links = self.links.values();
        links.filter(|it| it.channel.link().initiator).count()
    }

    /// The relay at the other end of a channel; `None` if that is a client.
    pub(super) fn peer(&self, key: ChannelKey) -> Option<PeerIdentity> {
        self.get(key)?.channel.link().peer
    }

    /// The circuit that an id names.
    pub(super) fn circuit(&self, key: ChannelKey, circ_id: CircId) -> Option<Place> {
        let circuit = self.get(key)?.channel.circuit(circ_id)?;
        Some(Place::unpack(circuit))
    }

    /// Whether an id still names this circuit.
    pub(super) fn names(&self, key: ChannelKey, circ_id: CircId, circuit: CircuitRef) -> bool {
        let link = self.get(key);
        link.is_some_and(|link| link.channel.circuit(circ_id) == Some(circuit))
    }

    /// Cells that wait for a circuit.
    pub(super) fn queued(&self, key: ChannelKey, circ_id: CircId) -> usize {
        self.get(key).map_or(0, |link| link.channel.queued(circ_id))
    }

    /// Cells that wait, over all channels.
    pub(super) fn queued_cells(&self) -> usize {
        self.load.cells
    }

    /// Memory of what waits, over all channels.
    pub(super) fn queue_bytes(&self) -> usize {
        self.load.bytes
    }

    fn count(&mut self, before: Load, after: Load) {
        self.load.cells = self.load.cells + after.cells - before.cells;
        self.load.bytes = self.load.bytes + after.bytes - before.bytes;
    }

    /// Changes what waits on a channel, and lists it if that is more than before.
    pub(super) fn change<R>(
        &mut self,
        key: ChannelKey,
        change: impl FnOnce(&mut Link) -> R,
    ) -> Option<R> {
        let link = self.links.get_mut(key)?;
        let before = link.load();
        let result = change(link);
        let after = link.load();
        if after.cells > before.cells && !std::mem::replace(&mut link.listed, true) {
            self.ready.push(key);
        }
        self.count(before, after);
        Some(result)
    }

    /// Queues a cell for the circuit that its id names. `false`: there is no such circuit, or its
    /// queue is full.
    pub(super) fn queue(&mut self, key: ChannelKey, cell: &CellBuf, now: Now) -> bool {
        self.change(key, |link| link.channel.queue(cell, now).is_ok())
            .unwrap_or(false)
    }

    /// Queues the DESTROY of a circuit.
    pub(super) fn send_destroy(
        &mut self,
        key: ChannelKey,
        circ_id: CircId,
        reason: DestroyReason,
        commands: &mut VecDeque<Command>,
    ) {
        let queued = self.change(key, |link| link.channel.queue_destroy(circ_id, reason));
        if let Some(Err(ControlFull)) = queued {
            self.close_unread(key, commands);
        }
    }

    /// Answers a CREATE cell with DESTROY. If its id names a circuit, it is dropped instead: the
    /// DESTROY would hit that one.
    pub(super) fn refuse_create(
        &mut self,
        key: ChannelKey,
        cell: &CellBuf,
        reason: DestroyReason,
        commands: &mut VecDeque<Command>,
    ) {
        let circ_id = cell::circ_id(cell);
        if circ_id == CircId::NONE || self.circuit(key, circ_id).is_some() {
            return;
        }
        let queued = self.change(key, |link| link.channel.queue_refusal(circ_id, reason));
        if let Some(Err(ControlFull)) = queued {
            self.close_unread(key, commands);
        }
    }

    /// A channel whose peer provokes answers without reading them is closed.
    fn close_unread(&mut self, channel: ChannelKey, commands: &mut VecDeque<Command>) {
        let Some(link) = self.links.get_mut(channel) else {
            return;
        };
        if !std::mem::replace(&mut link.closing, true) {
            let reason = ChannelClose::NotReading;
            commands.push_back(Command::CloseChannel { channel, reason });
        }
    }

    /// Gives a circuit an id on a channel and sends CREATE2 there.
    pub(super) fn send_create2(
        &mut self,
        key: ChannelKey,
        circuit: CircuitRef,
        create: &Payload,
        rng: &mut Rng,
        now: Now,
    ) -> Option<CircId> {
        let link = self.links.get_mut(key)?;
        let circ_id = link.channel.allocate(rng, circuit).ok()?;
        link.idle_since = None;
        let mut cell = cell::new_cell(circ_id, cell::Command::CREATE2);
        *cell::payload_mut(&mut cell) = *create;
        if self.queue(key, &cell, now) {
            return Some(circ_id);
        }
        self.forget(key, circ_id);
        None
    }

    /// Forgets a circuit on a channel, and the cells queued for it; `false` if there is none.
    pub(super) fn forget(&mut self, key: ChannelKey, circ_id: CircId) -> bool {
        let forgotten = self.change(key, |link| {
            let circuit = link.channel.remove(circ_id)?;
            if Place::unpack(circuit).side == Side::Previous {
                link.accepted = link.accepted.saturating_sub(1);
            }
            Some(())
        });
        forgotten.flatten().is_some()
    }

    /// PADDING_NEGOTIATE of a client.
    pub(super) fn handle_padding_negotiate(
        &mut self,
        key: ChannelKey,
        cell: &CellBuf,
        padding: PaddingRange,
        rng: &mut Rng,
    ) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        match link.channel.handle_padding_negotiate(cell, padding, rng) {
            Ok(()) => debug!("padding negotiated"),
            Err(ignored) => debug!(%ignored, "no padding"),
        }
    }

    /// Frees the memory of queues that no circuit of a channel uses now.
    pub(super) fn trim_pool(&mut self, key: ChannelKey) {
        self.change(key, |link| link.channel.trim_pool());
    }

    /// Frees the memory of queues that no circuit of any channel uses now.
    pub(super) fn trim(&mut self) {
        for link in self.links.values_mut() {
            let before = link.channel.queue_bytes();
            link.channel.trim();
            self.load.bytes = self.load.bytes - before + link.channel.queue_bytes();
        }
    }

    /// All circuits that have cells queued, in no order.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (ChannelKey, Waiting)> + '_ {
        self.iter()
            .flat_map(|(key, link)| link.channel.waiting().map(move |waiting| (key, waiting)))
    }

    /// Sends due padding, tells which channels have circuits, and returns those that have had none
    /// for so long that they are to be closed; `None` before it is time.
    pub(super) fn handle_timeout(
        &mut self,
        idle_max: Duration,
        rng: &mut Rng,
        commands: &mut VecDeque<Command>,
        now: Now,
    ) -> Option<Vec<ChannelKey>> {
        if self.next_tick.is_none_or(|tick| now.mono < tick) {
            return None;
        }
        self.next_tick = (!self.links.is_empty()).then_some(now.mono + TICK);
        let mut idle: Vec<ChannelKey> = self.links.keys().collect();
        idle.retain(|key| {
            let is_idle = self.change(*key, |link| {
                link.is_idle(*key, idle_max, rng, commands, now)
            });
            is_idle == Some(true)
        });
        Some(idle)
    }

    /// Moves out the channels that have new output since last asked; each stands there once.
    pub(super) fn take_ready(&mut self, out: &mut Vec<ChannelKey>) {
        for key in &self.ready {
            if let Some(link) = self.links.get_mut(*key) {
                link.listed = false;
            }
        }
        out.append(&mut self.ready);
    }
}
