//! Channels of the plane: cells in, cells out (tor-spec 3, 4).
//!
//! A client's channel carries only circuits of the client's own. Cells of the link's handshake
//! close an open channel; a peer's CREATE cells are answered with DESTROY; what has no circuit is
//! dropped, as are commands that nobody knows (tor-spec 3).

use std::collections::VecDeque;
use std::time::Instant;

use cepa_circuit::CircuitKey;
use cepa_crypto::Rng;
use cepa_link::channel::{ControlFull, PaddingRange};
use cepa_link::{Channel, ChannelKey, CircuitRef, Established};
use cepa_wire::Now;
use cepa_wire::cell::{self, CellBuf, CellMut, CircId, Command};
use cepa_wire::destroy::DestroyReason;
use cepa_wire::padding::PaddingNegotiate;
use slotmap::{Key, KeyData, SlotMap};

use super::liveness::{Liveness, Silence};
use super::{CircuitClose, Event, Plane};

/// Cells that one call of [`Plane::take_output`] gives: about one TLS record.
const OUTPUT_CELLS_MAX: usize = 31;

/// Link protocol from which on padding is negotiated (tor-spec 4.1).
const LINK_WITH_PADDING: u16 = 5;

/// Why a channel is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelClose {
    /// A cell that may not come on an open link (tor-spec 4).
    #[error("cell {} on an open link", .0.0)]
    Unexpected(Command),
    /// The peer provokes answers without reading them.
    #[error("the peer does not read what it asks for")]
    NotReading,
    /// The plane has no such channel.
    #[error("the channel is not known")]
    Unknown,
}

impl From<ControlFull> for ChannelClose {
    fn from(_: ControlFull) -> Self {
        ChannelClose::NotReading
    }
}

/// A channel, and whether it is listed as ready.
#[derive(Debug)]
struct PlaneChannel {
    channel: Channel,
    ready: bool,
    liveness: Liveness,
    /// How it is padded.
    padding: Option<PaddingRange>,
}

/// All channels of a plane, and those that came to have output since that was last asked.
#[derive(Debug, Default)]
pub(super) struct PlaneChannels {
    by_key: SlotMap<ChannelKey, PlaneChannel>,
    ready: Vec<ChannelKey>,
}

impl PlaneChannels {
    fn add(&mut self, link: Established, now: Now) -> ChannelKey {
        self.by_key.insert(PlaneChannel {
            channel: Channel::new(link, now),
            ready: false,
            liveness: Liveness::new(now),
            padding: None,
        })
    }

    /// What is queued on a channel, and for which circuits.
    pub(super) fn channel(&self, key: ChannelKey) -> Option<&Channel> {
        self.by_key.get(key).map(|entry| &entry.channel)
    }

    /// A channel for which somebody else has cells; [`PlaneChannels::sent`] is to be told of them.
    pub(super) fn channel_mut(&mut self, key: ChannelKey) -> Option<&mut Channel> {
        self.by_key.get_mut(key).map(|entry| &mut entry.channel)
    }

    /// Cells were queued: the channel has output. What the relay answers, or acknowledges sooner
    /// or later, is expected to be followed by something.
    pub(super) fn sent(&mut self, key: ChannelKey, is_answered: bool, now: Now) {
        if let Some(entry) = self.by_key.get_mut(key) {
            if is_answered {
                entry.liveness.sent(now);
            }
            entry.list(key, &mut self.ready);
        }
    }

    /// Queues a cell of a circuit. False if the circuit's queue is full, or the channel gone.
    pub(super) fn queue(
        &mut self,
        key: ChannelKey,
        cell: &CellBuf,
        is_answered: bool,
        now: Now,
    ) -> bool {
        let Some(entry) = self.by_key.get_mut(key) else {
            return false;
        };
        if is_answered {
            entry.liveness.sent(now);
        }
        entry.list(key, &mut self.ready);
        entry.channel.queue(cell, now).is_ok()
    }

    /// Tells the first hop that a circuit is closed.
    pub(super) fn destroy(&mut self, key: ChannelKey, circ_id: CircId) {
        if let Some(entry) = self.by_key.get_mut(key) {
            // A peer that does not read learns of it when the channel closes.
            let queued = entry.channel.queue_destroy(circ_id, DestroyReason::NONE);
            if queued.is_ok() {
                entry.list(key, &mut self.ready);
            }
        }
    }

    /// Asks the relay to pad its side of a channel, or to stop that, where the link knows how.
    fn negotiate_padding(&mut self, key: ChannelKey, wish: PaddingNegotiate) {
        let Some(entry) = self.by_key.get_mut(key) else {
            return;
        };
        if entry.channel.link().version < LINK_WITH_PADDING {
            return;
        }
        let mut cell = cell::new_cell(CircId::NONE, Command::PADDING_NEGOTIATE);
        wish.write(cell::payload_mut(&mut cell));
        // A queue that is full has more to say than this.
        if entry.channel.queue_control(&cell).is_ok() {
            entry.list(key, &mut self.ready);
        }
    }

    /// Takes a cell that is no circuit's of ours, unless it is: then that circuit is told.
    fn handle_cell(
        &mut self,
        key: ChannelKey,
        cell: &CellBuf,
    ) -> Result<Option<CircuitKey>, ChannelClose> {
        let entry = self.by_key.get_mut(key).ok_or(ChannelClose::Unknown)?;
        let circ_id = cell::circ_id(cell);
        match cell::command(cell) {
            // A circuit that we closed is unknown already while its cells are on their way.
            Command::RELAY
            | Command::RELAY_EARLY
            | Command::DESTROY
            | Command::CREATED2
            | Command::CREATED_FAST
            | Command::CREATED => Ok(entry.channel.circuit(circ_id).map(circuit_key)),
            Command::CREATE | Command::CREATE2 | Command::CREATE_FAST => {
                let reason = DestroyReason::PROTOCOL;
                entry.channel.queue_refusal(circ_id, reason)?;
                entry.list(key, &mut self.ready);
                Ok(None)
            }
            Command::NETINFO => Err(ChannelClose::Unexpected(Command::NETINFO)),
            _ => Ok(None),
        }
    }

    /// Cells came over a channel. True if its relay was not expected to answer any more.
    fn heard(&mut self, key: ChannelKey, now: Now) -> bool {
        let Some(entry) = self.by_key.get_mut(key) else {
            return false;
        };
        let (probe, was_suspect) = entry.liveness.heard(now);
        if let Some(circ_id) = probe {
            entry.channel.remove(circ_id);
            self.destroy(key, circ_id);
        }
        was_suspect
    }

    /// Appends up to one TLS record of cells; the circuits whose queues have room again.
    fn take_output(&mut self, key: ChannelKey, out: &mut Vec<u8>, now: Now) -> Vec<CircuitRef> {
        let mut drained = Vec::new();
        if let Some(entry) = self.by_key.get_mut(key) {
            let channel = &mut entry.channel;
            channel.take_output(out, OUTPUT_CELLS_MAX, now, &mut drained);
        }
        drained
    }

    /// Asks relays that are silent, tells of those that do not answer, and pads. `is_used`:
    /// whether anything of ours depends on a channel.
    fn handle_timeout(
        &mut self,
        is_used: impl Fn(ChannelKey) -> bool,
        events: &mut VecDeque<Event>,
        rng: &mut Rng,
        now: Now,
    ) {
        for (key, entry) in &mut self.by_key {
            let channel = &mut entry.channel;
            let silence = entry.liveness.review(channel, || is_used(key), rng, now);
            events.extend(silence.map(|silence| match silence {
                Silence::Suspect => Event::ChannelSuspect { channel: key },
                Silence::Dead { has_spoken } => Event::ChannelDead {
                    channel: key,
                    has_spoken,
                },
            }));
            channel.handle_timeout(now, rng);
            if channel.has_output() {
                entry.list(key, &mut self.ready);
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let entries = self.by_key.values();
        let times =
            entries.flat_map(|entry| [entry.channel.poll_timeout(), entry.liveness.poll_timeout()]);
        times.flatten().min()
    }

    /// Moves the list of those that came to have output to the end of another.
    pub(super) fn take_ready(&mut self, ready: &mut Vec<ChannelKey>) {
        ready.append(&mut self.ready);
        for key in ready {
            if let Some(entry) = self.by_key.get_mut(*key) {
                entry.ready = false;
            }
        }
    }

    /// Bytes of cells that wait.
    pub(super) fn queue_bytes(&self) -> usize {
        let entries = self.by_key.values();
        entries.map(|entry| entry.channel.queue_bytes()).sum()
    }
}

impl PlaneChannel {
    /// Lists it as ready, unless it is listed.
    fn list(&mut self, key: ChannelKey, ready: &mut Vec<ChannelKey>) {
        if !std::mem::replace(&mut self.ready, true) {
            ready.push(key);
        }
    }
}

/// How channels name a circuit.
pub(super) fn circuit_ref(key: CircuitKey) -> CircuitRef {
    CircuitRef(key.data().as_ffi())
}

fn circuit_key(CircuitRef(bits): CircuitRef) -> CircuitKey {
    KeyData::from_ffi(bits).into()
}

impl Plane {
    /// Takes an open link on.
    pub fn add_channel(&mut self, link: Established, now: Now) -> ChannelKey {
        self.channels.add(link, now)
    }

    /// Circuits on a channel.
    #[must_use]
    pub fn channel_circuit_count(&self, key: ChannelKey) -> usize {
        self.channels.channel(key).map_or(0, Channel::circuit_count)
    }

    /// Pads a channel that is idle for a random time in this range, or stops that.
    pub fn pad_channel(&mut self, key: ChannelKey, range: Option<PaddingRange>) {
        if let Some(entry) = self.channels.by_key.get_mut(key)
            && std::mem::replace(&mut entry.padding, range) != range
        {
            entry.channel.set_padding(range, &mut self.rng);
        }
    }

    /// Asks the relay to pad its side of a channel, or to stop that, where the link knows how
    /// (padding-spec 2.5).
    pub fn negotiate_padding(&mut self, key: ChannelKey, wish: PaddingNegotiate) {
        self.channels.negotiate_padding(key, wish);
    }

    /// A fresh link to the relay of a suspect channel stands: this one will not be waited for much
    /// longer.
    pub fn supersede_channel(&mut self, key: ChannelKey) {
        if let Some(entry) = self.channels.by_key.get_mut(key) {
            entry.liveness.supersede();
        }
    }

    /// Takes the whole cells at the front of `buf`, which is decrypted in place; returns how many
    /// bytes they are. An error: close the connection, and call [`Plane::channel_closed`].
    pub fn handle_cells(
        &mut self,
        key: ChannelKey,
        buf: &mut [u8],
        now: Now,
    ) -> Result<usize, ChannelClose> {
        let mut consumed = 0;
        while let Some((cell, len)) = buf.get_mut(consumed..).and_then(cell::split_cell_mut) {
            consumed += len;
            match cell {
                CellMut::Fixed(cell) => {
                    if let Some(circuit) = self.channels.handle_cell(key, cell)? {
                        self.handle_circuit_cell(circuit, cell, now);
                    }
                }
                CellMut::Variable(cell) => {
                    if is_of_handshake(cell.command) {
                        return Err(ChannelClose::Unexpected(cell.command));
                    }
                }
            }
        }
        if consumed > 0 && self.channels.heard(key, now) {
            self.events.push_back(Event::ChannelHeard { channel: key });
        }
        self.limit_memory();
        Ok(consumed)
    }

    /// Appends up to one TLS record of cells.
    pub fn take_output(&mut self, key: ChannelKey, out: &mut Vec<u8>, now: Now) {
        for circuit in self.channels.take_output(key, out, now) {
            self.wake_streams(circuit_key(circuit), None);
        }
    }

    /// True if [`Plane::take_output`] has cells to give.
    #[must_use]
    pub fn has_output(&self, key: ChannelKey) -> bool {
        self.channels.channel(key).is_some_and(Channel::has_output)
    }

    /// The connection under a channel is gone, and all its circuits with it.
    pub fn channel_closed(&mut self, key: ChannelKey, _now: Now) {
        let Some(entry) = self.channels.by_key.remove(key) else {
            return;
        };
        for (_, circuit) in entry.channel.circuit_refs() {
            self.remove_circuit(circuit_key(circuit), CircuitClose::ChannelClosed);
        }
        self.events.push_back(Event::ChannelClosed { channel: key });
    }

    /// When [`Plane::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let channels = self.channels.poll_timeout().into_iter();
        channels
            .chain(self.streams.pace_at)
            .chain(self.padding.next())
            .min()
    }

    /// Lets streams go on at their rates, sends the padding that is due, and asks relays that are
    /// silent.
    pub fn handle_timeout(&mut self, now: Now) {
        self.streams.handle_pace(now);
        self.handle_padding(now);
        let circuits = &self.circuits;
        let is_used = |key| {
            let mut over = circuits.values().filter(|one| one.channel == key);
            over.any(|one| one.is_in_use())
        };
        let (events, rng) = (&mut self.events, &mut self.rng);
        self.channels.handle_timeout(is_used, events, rng, now);
    }
}

/// True for the variable cells that only the link's handshake has.
fn is_of_handshake(command: Command) -> bool {
    matches!(
        command,
        Command::VERSIONS | Command::CERTS | Command::AUTH_CHALLENGE | Command::AUTHENTICATE
    )
}
