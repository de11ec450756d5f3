//! Circuits of the plane: built to their end, used, closed (tor-spec 5).
//!
//! ```text
//! open_circuit ──▶ building ──Built──▶ built ──▶ closed
//!                     └──────CircuitFailed / CircuitClosed──────▲
//! ```
//!
//! A circuit builds itself hop by hop as answers come; timeouts are the control core's, which then
//! closes it. Our own DESTROY always says NONE, so as not to tell hops why (tor-spec 5.4); the
//! event has the true reason.

use std::collections::BTreeMap;
use std::time::Instant;

use cepa_circuit::origin::{BuildError, Dropped, OriginCircuit, OriginViolation, Received};
use cepa_circuit::{CircuitKey, Congestion, HalfClosed, LocalQueue, Stream, StreamKey};
use cepa_crypto::Rng;
use cepa_crypto::layer::HopLayer;
use cepa_link::{AllocateError, Channel, ChannelKey};
use cepa_wire::Now;
use cepa_wire::begin::Begin;
use cepa_wire::cell::{self, CellBuf, Command};
use cepa_wire::destroy::DestroyReason;
use cepa_wire::end::EndReason;
use cepa_wire::relay::{RelayCommand, StreamId};

use super::carried::{CircuitCarried, CircuitCount};
use super::channels::circuit_ref;
use super::liveness::is_answered;
use super::padding::CircuitPadding;
use super::{Event, HopSpec, Plane};

/// Most streams that a peer may have open on one circuit. A bound of ours: `tor` has none unless
/// `HiddenServiceMaxStreams` says so, and each stream may hold a window of bytes.
pub const INBOUND_STREAMS_MAX: usize = 1024;

/// Why a circuit was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CircuitClose {
    /// The first hop destroyed it.
    #[error("destroyed: {0}")]
    Destroyed(DestroyReason),
    /// The circuit ended after the hop of this index, which said why.
    #[error("truncated after hop {0}: {1}")]
    Truncated(usize, DestroyReason),
    /// A hop broke the protocol.
    #[error(transparent)]
    Violation(#[from] OriginViolation),
    /// The connection to the first hop is gone.
    #[error("the channel was closed")]
    ChannelClosed,
    /// Too much waits for applications, and what has waited longest was its.
    #[error("memory is short")]
    MemoryShort,
    /// Its queue on the channel is full.
    #[error("the first hop does not read")]
    QueueFull,
    /// We asked for it.
    #[error("closed by us: {0}")]
    Requested(DestroyReason),
}

/// Why a circuit is not even begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenCircuitError {
    /// The plane has no such channel.
    #[error("the channel is not known")]
    NoChannel,
    /// The plane has no such circuit.
    #[error("the circuit is not known")]
    NoCircuit,
    /// The channel has no circuit id left.
    #[error(transparent)]
    Allocate(#[from] AllocateError),
    /// The hops cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Why a stream is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenStreamError {
    /// The plane has no such circuit.
    #[error("the circuit is not known")]
    NoCircuit,
    /// Not all hops stand yet.
    #[error("the circuit is not built")]
    NotBuilt,
    /// The peer opens the streams of this circuit.
    #[error("the circuit serves a peer")]
    Serves,
    /// All stream ids of the circuit are taken.
    #[error("the circuit has no stream id left")]
    NoStreamId,
}

/// Why the peer beyond a rendezvous point is not joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The plane has no such circuit.
    #[error("the circuit is not known")]
    NoCircuit,
    /// The circuit is not built, or has a peer already.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// How a circuit of the plane stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitStatus {
    /// The channel to its first hop.
    pub channel: ChannelKey,
    /// The number of hops that stand.
    pub hop_count: usize,
    /// True if all of them do.
    pub is_built: bool,
    /// The number of the circuit's open streams.
    pub stream_count: usize,
    /// Cells that no honest hop would have sent, and that were dropped.
    pub dropped_cells: u64,
    /// When a cell last came over it, or it was begun.
    pub heard_at: Instant,
}

/// What a circuit does for onion services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum OnionUse {
    /// Nothing.
    #[default]
    None,
    /// Messages of the last hop are told.
    Listens,
    /// A service is joined; we open streams.
    Visits,
    /// A visitor is joined, and opens streams; how many are open.
    Serves(usize),
}

impl OnionUse {
    fn serves(self) -> bool {
        matches!(self, OnionUse::Serves(_))
    }
}

/// What a cell was.
struct Taken<'c> {
    received: Result<Received<'c>, OriginViolation>,
    /// Cells that were sent for it.
    sent: usize,
    /// One of them had no room.
    is_full: bool,
}

/// A circuit and its streams.
#[derive(Debug)]
pub(super) struct Circuit {
    pub(super) channel: ChannelKey,
    pub(super) origin: OriginCircuit,
    /// All hops that `open_circuit` asked for have stood.
    built: bool,
    pub(super) streams: BTreeMap<StreamId, StreamKey>,
    pub(super) half_closed: HalfClosed,
    /// Where the search for a free stream id goes on.
    stream_id_next: StreamId,
    /// The stream that sent last: behind it the next round of wake-ups begins.
    pub(super) sent_last: StreamId,
    pub(super) dropped_cells: u64,
    heard_at: Instant,
    /// What it does for onion services.
    onion: OnionUse,
    pub(super) padding: CircuitPadding,
    pub(super) carried: CircuitCount,
}

impl Circuit {
    fn new(channel: ChannelKey, origin: OriginCircuit, stream_id_next: StreamId, now: Now) -> Self {
        Circuit {
            channel,
            origin,
            built: false,
            streams: BTreeMap::new(),
            half_closed: HalfClosed::default(),
            stream_id_next,
            sent_last: StreamId::NONE,
            dropped_cells: 0,
            heard_at: now.mono,
            onion: OnionUse::default(),
            padding: CircuitPadding::default(),
            carried: CircuitCount::default(),
        }
    }

    /// Takes a cell of its first hop's; what it is to answer at once is queued.
    fn take_cell<'c>(
        &mut self,
        cell: &'c mut CellBuf,
        on: &mut Channel,
        rng: &mut Rng,
        now: Now,
    ) -> Taken<'c> {
        self.heard_at = now.mono;
        let is_relay = cell::command(cell) == Command::RELAY;
        let circ_id = self.origin.circ_id();
        let queue = LocalQueue {
            cells: on.queued(circ_id),
            is_blocked: on.is_blocked(circ_id),
        };
        let (mut sent, mut is_full) = (0, false);
        let mut send = |cell: &CellBuf| {
            sent += 1;
            is_full |= on.queue(cell, now).is_err();
        };
        let origin = &mut self.origin;
        let received = origin.handle_cell(cell, queue, rng, &mut send, now.mono);
        if is_relay {
            self.carried.came(match &received {
                Ok(Received::Message { data, .. }) => data.len(),
                _ => 0,
            });
        }
        self.carried.went(sent, 0);
        Taken {
            received,
            sent,
            is_full,
        }
    }

    /// What it has carried since the last call, if anything.
    pub(super) fn take_carried(&mut self) -> Option<CircuitCarried> {
        self.carried.take(self.dropped_cells)
    }

    /// What is told of its end.
    fn end(&self, circuit: CircuitKey, reason: CircuitClose) -> Event {
        match self.built {
            true => Event::CircuitClosed { circuit, reason },
            false => Event::CircuitFailed {
                circuit,
                hop: self.origin.hop_count(),
                reason,
            },
        }
    }

    /// A stream is over on our side, while the peer may not know it.
    pub(super) fn leave(&mut self, stream: &Stream) {
        self.streams.remove(&stream.id());
        self.half_closed.add(stream);
    }

    fn status(&self) -> CircuitStatus {
        CircuitStatus {
            channel: self.channel,
            hop_count: self.origin.hop_count(),
            is_built: self.origin.is_built(),
            stream_count: self.streams.len(),
            dropped_cells: self.dropped_cells,
            heard_at: self.heard_at,
        }
    }

    /// The place for a stream of ours: its hop, and an id that is not in use.
    pub(super) fn stream_place(&mut self) -> Result<(usize, StreamId), OpenStreamError> {
        let hop = self.origin.hop_count().checked_sub(1);
        let hop = hop.filter(|_| self.origin.is_built());
        let hop = hop.ok_or(OpenStreamError::NotBuilt)?;
        if self.onion.serves() {
            return Err(OpenStreamError::Serves);
        }
        let first = self.stream_id_next;
        let id = (0..=u16::MAX)
            .map(|n| StreamId(first.0.wrapping_add(n)))
            .find(|id| {
                let taken = self.streams.contains_key(id) || self.half_closed.contains(*id);
                *id != StreamId::NONE && !taken
            })
            .ok_or(OpenStreamError::NoStreamId)?;
        self.stream_id_next = StreamId(id.0.wrapping_add(1));
        Ok((hop, id))
    }

    /// From now on, messages of the last hop are told.
    pub(super) fn listen(&mut self) {
        if self.onion == OnionUse::None {
            self.onion = OnionUse::Listens;
        }
    }

    /// Adds the peer beyond the rendezvous point as the last hop.
    pub(super) fn join(
        &mut self,
        layer: HopLayer,
        congestion: Option<Congestion>,
        serves: bool,
    ) -> Result<(), JoinError> {
        self.origin.join(layer, congestion)?;
        self.onion = match serves {
            true => OnionUse::Serves(0),
            false => OnionUse::Visits,
        };
        Ok(())
    }

    /// Whether something of ours depends on it.
    pub(super) fn is_in_use(&self) -> bool {
        !self.streams.is_empty() || self.onion != OnionUse::None
    }

    /// Whether a message without a stream is told: the circuit listens, and its last hop speaks.
    pub(super) fn awaits(&self, hop: usize, command: RelayCommand) -> bool {
        let listens = self.onion == OnionUse::Listens && self.origin.is_built();
        let is_last = hop + 1 == self.origin.hop_count();
        listens && is_last && is_of_onion_services(command)
    }

    /// Whether a BEGIN is the peer's to send, and names no stream that is open.
    pub(super) fn takes_begin(&self, hop: usize, id: StreamId) -> bool {
        self.onion.serves()
            && self.origin.is_joined()
            && hop + 1 == self.origin.hop_count()
            && !self.streams.contains_key(&id)
    }

    /// Whether a stream that the peer asks for may be, and what it wants; it is counted then.
    /// `has_room`: whether memory has room for one more than so many.
    pub(super) fn take_begin(
        &mut self,
        command: RelayCommand,
        data: &[u8],
        has_room: impl FnOnce(usize) -> bool,
    ) -> Result<Begin, EndReason> {
        let OnionUse::Serves(count) = &mut self.onion else {
            return Err(EndReason::MISC);
        };
        if command == RelayCommand::BEGIN_DIR {
            return Err(EndReason::NOTDIRECTORY);
        }
        if *count >= INBOUND_STREAMS_MAX || !has_room(*count) {
            return Err(EndReason::RESOURCELIMIT);
        }
        let begin = Begin::read(data).map_err(|_| EndReason::TORPROTOCOL)?;
        *count += 1;
        Ok(begin)
    }

    /// A stream of the peer's is gone.
    pub(super) fn inbound_gone(&mut self) {
        if let OnionUse::Serves(count) = &mut self.onion {
            *count = count.saturating_sub(1);
        }
    }
}

impl Plane {
    /// Begins a circuit over a channel to `first` and onwards over `rest`; it builds itself to the
    /// end. [`Event::CircuitBuilt`] or [`Event::CircuitFailed`] will tell.
    pub fn open_circuit(
        &mut self,
        channel: ChannelKey,
        first: HopSpec,
        rest: Vec<HopSpec>,
        now: Now,
    ) -> Result<CircuitKey, OpenCircuitError> {
        let on = self
            .channels
            .channel_mut(channel)
            .ok_or(OpenCircuitError::NoChannel)?;
        let hops = std::iter::once(first).chain(rest).collect();
        let stream_id_next = StreamId(u16::from_be_bytes(self.rng.array()));
        let key = self.circuits.try_insert_with_key(|key| {
            let circ_id = on.allocate(&mut self.rng, circuit_ref(key))?;
            let mut send = |cell: &CellBuf| {
                let queued = on.queue(cell, now);
                debug_assert!(queued.is_ok(), "a new circuit's queue is empty");
            };
            let origin = OriginCircuit::create(circ_id, hops, &mut self.rng, &mut send);
            let mut origin = origin.inspect_err(|_| {
                on.remove(circ_id);
            })?;
            origin.set_sendme_min(self.sendme_min);
            Ok::<_, OpenCircuitError>(Circuit::new(channel, origin, stream_id_next, now))
        })?;
        self.channels.sent(channel, true, now);
        Ok(key)
    }

    /// Adds a hop to a built circuit. [`Event::CircuitBuilt`] comes again, or the circuit closes.
    pub fn extend_circuit(
        &mut self,
        key: CircuitKey,
        hop: HopSpec,
        now: Now,
    ) -> Result<(), OpenCircuitError> {
        let circuit = self
            .circuits
            .get_mut(key)
            .ok_or(OpenCircuitError::NoCircuit)?;
        let on = self
            .channels
            .channel_mut(circuit.channel)
            .ok_or(OpenCircuitError::NoChannel)?;
        let mut full = false;
        let mut send = |cell: &CellBuf| full |= on.queue(cell, now).is_err();
        circuit.origin.extend(hop, &mut self.rng, &mut send)?;
        self.channels.sent(circuit.channel, true, now);
        circuit.carried.went(1, 0);
        if full {
            self.destroy_circuit(key, CircuitClose::QueueFull);
        }
        Ok(())
    }

    /// Closes a circuit and all its streams, and tells the first hop.
    pub fn close_circuit(&mut self, key: CircuitKey, reason: DestroyReason, _now: Now) {
        self.destroy_circuit(key, CircuitClose::Requested(reason));
    }

    /// How a circuit stands; `None` once it is closed.
    #[must_use]
    pub fn circuit_status(&self, key: CircuitKey) -> Option<CircuitStatus> {
        self.circuits.get(key).map(Circuit::status)
    }

    /// Takes one cell of a circuit.
    pub(super) fn handle_circuit_cell(&mut self, key: CircuitKey, cell: &mut CellBuf, now: Now) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let Some(on) = self.channels.channel_mut(circuit.channel) else {
            return;
        };
        let taken = circuit.take_cell(cell, on, &mut self.rng, now);
        if taken.sent > 0 {
            self.channels.sent(circuit.channel, false, now);
        }
        if taken.is_full {
            return self.destroy_circuit(key, CircuitClose::QueueFull);
        }
        match taken.received {
            Ok(Received::Message {
                hop,
                command,
                stream_id,
                data,
            }) => {
                self.handle_message(key, hop, command, stream_id, data, now);
            }
            // Under congestion control a SENDME may bring none; one that brings some may be any.
            Ok(Received::Room(hop)) if circuit.origin.room_cells(hop) == 0 => {}
            Ok(Received::Room(hop)) => self.wake_streams(key, Some(hop)),
            Ok(Received::Hop(hop)) => {
                self.events
                    .push_back(Event::CircuitHop { circuit: key, hop });
            }
            Ok(Received::Built(hop)) => {
                tracing::debug!(hop, cipher = ?circuit.origin.cipher(hop), "circuit built");
                circuit.built = true;
                self.events.push_back(Event::CircuitBuilt { circuit: key });
            }
            Ok(Received::Dropped(Dropped::Padding(hop))) => {
                circuit.dropped_cells += u64::from(!circuit.padding.handle_drop(hop));
            }
            Ok(Received::Dropped(Dropped::Unrecognized)) => circuit.dropped_cells += 1,
            Ok(Received::Truncated(hop, reason)) => {
                self.destroy_circuit(key, CircuitClose::Truncated(hop, reason));
            }
            Ok(Received::Destroyed(reason)) => {
                self.remove_circuit(key, CircuitClose::Destroyed(reason));
            }
            Err(violation) => self.destroy_circuit(key, violation.into()),
        }
    }

    /// Lists the streams of a circuit (at one hop, if given) as ready, beginning behind the one
    /// that sent last.
    pub(super) fn wake_streams(&mut self, key: CircuitKey, hop: Option<usize>) {
        let Some(circuit) = self.circuits.get(key) else {
            return;
        };
        let behind = StreamId(circuit.sent_last.0.saturating_add(1));
        let (first, second) = (
            circuit.streams.range(behind..),
            circuit.streams.range(..=circuit.sent_last),
        );
        for (_, stream) in first.chain(second) {
            self.streams.wake(*stream, hop);
        }
    }

    /// Queues a message of ours. `false`: the circuit is gone, or had to be closed.
    pub(super) fn send_message(
        &mut self,
        key: CircuitKey,
        hop: usize,
        command: RelayCommand,
        stream_id: StreamId,
        data: &[u8],
        now: Now,
    ) -> bool {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return false;
        };
        let cell = circuit
            .origin
            .write(hop, command, stream_id, data, &mut self.rng, now.mono);
        let Ok(cell) = cell else {
            debug_assert!(false, "what we say fits a cell, and we say it to a hop");
            return false;
        };
        self.padding.note(command);
        circuit.carried.went(1, data.len());
        let channel = circuit.channel;
        let is_queued = self
            .channels
            .queue(channel, &cell, is_answered(command), now);
        if !is_queued {
            self.destroy_circuit(key, CircuitClose::QueueFull);
        }
        is_queued
    }

    /// Closes a circuit, and tells the first hop.
    pub(super) fn destroy_circuit(&mut self, key: CircuitKey, reason: CircuitClose) {
        let Some(circuit) = self.circuits.get(key) else {
            return;
        };
        let circ_id = circuit.origin.circ_id();
        self.channels.destroy(circuit.channel, circ_id);
        self.remove_circuit(key, reason);
    }

    /// Forgets a circuit, and ends its streams.
    pub(super) fn remove_circuit(&mut self, key: CircuitKey, reason: CircuitClose) {
        let Some(circuit) = self.circuits.remove(key) else {
            return;
        };
        if let Some(on) = self.channels.channel_mut(circuit.channel) {
            on.remove(circuit.origin.circ_id());
        }
        for stream in circuit.streams.values() {
            self.end_stream(*stream, EndReason::DESTROY.into());
        }
        self.events.push_back(circuit.end(key, reason));
    }
}

/// Whether a visitor or a service waits for such a message (rend-spec-v3 3.1.2 to 4.1).
fn is_of_onion_services(command: RelayCommand) -> bool {
    matches!(
        command,
        RelayCommand::INTRO_ESTABLISHED
            | RelayCommand::INTRODUCE2
            | RelayCommand::INTRODUCE_ACK
            | RelayCommand::RENDEZVOUS_ESTABLISHED
            | RelayCommand::RENDEZVOUS2
    )
}
