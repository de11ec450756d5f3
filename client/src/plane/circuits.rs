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
use cepa_circuit::{CircuitKey, HalfClosed, LocalQueue, StreamKey};
use cepa_link::{AllocateError, ChannelKey};
use cepa_wire::Now;
use cepa_wire::cell::CellBuf;
use cepa_wire::destroy::DestroyReason;
use cepa_wire::end::EndReason;
use cepa_wire::relay::{RelayCommand, StreamId};

use super::channels::circuit_ref;
use super::liveness::is_answered;
use super::onion::OnionUse;
use super::padding::CircuitPadding;
use super::{Event, HopSpec, Plane};

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
    pub(super) stream_id_next: StreamId,
    /// The stream that sent last: behind it the next round of wake-ups begins.
    pub(super) sent_last: StreamId,
    pub(super) dropped_cells: u64,
    heard_at: Instant,
    /// Whether messages without a stream are told, and streams of the peer's taken.
    pub(super) onion: OnionUse,
    pub(super) padding: CircuitPadding,
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
        let entry = self
            .channels
            .get_mut(channel)
            .ok_or(OpenCircuitError::NoChannel)?;
        let hops = std::iter::once(first).chain(rest).collect();
        let stream_id_next = StreamId(u16::from_be_bytes(self.rng.array()));
        let key = self.circuits.try_insert_with_key(|key| {
            let circ_id = entry.channel.allocate(&mut self.rng, circuit_ref(key))?;
            let mut send = |cell: &CellBuf| {
                let queued = entry.channel.queue(cell, now);
                debug_assert!(queued.is_ok(), "a new circuit's queue is empty");
            };
            let origin = OriginCircuit::create(circ_id, hops, &mut self.rng, &mut send);
            let mut origin = origin.inspect_err(|_| {
                entry.channel.remove(circ_id);
            })?;
            origin.set_sendme_min(self.sendme_min);
            Ok::<_, OpenCircuitError>(Circuit {
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
            })
        })?;
        entry.liveness.sent(now);
        self.ready.channel(channel, &mut entry.ready);
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
        let entry = self
            .channels
            .get_mut(circuit.channel)
            .ok_or(OpenCircuitError::NoChannel)?;
        let mut full = false;
        let mut send = |cell: &CellBuf| full |= entry.channel.queue(cell, now).is_err();
        circuit.origin.extend(hop, &mut self.rng, &mut send)?;
        entry.liveness.sent(now);
        self.ready.channel(circuit.channel, &mut entry.ready);
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
        let circuit = self.circuits.get(key)?;
        Some(CircuitStatus {
            channel: circuit.channel,
            hop_count: circuit.origin.hop_count(),
            is_built: circuit.origin.is_built(),
            stream_count: circuit.streams.len(),
            dropped_cells: circuit.dropped_cells,
            heard_at: circuit.heard_at,
        })
    }

    /// Takes one cell of a circuit.
    pub(super) fn handle_circuit_cell(&mut self, key: CircuitKey, cell: &mut CellBuf, now: Now) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let Some(entry) = self.channels.get_mut(circuit.channel) else {
            return;
        };
        circuit.heard_at = now.mono;
        let circ_id = circuit.origin.circ_id();
        let queue = LocalQueue {
            cells: entry.channel.queued(circ_id),
            is_blocked: entry.channel.is_blocked(circ_id),
        };
        let (mut sent, mut full) = (false, false);
        let mut send = |cell: &CellBuf| {
            sent = true;
            full |= entry.channel.queue(cell, now).is_err();
        };
        let received = circuit
            .origin
            .handle_cell(cell, queue, &mut self.rng, &mut send, now.mono);
        if sent {
            self.ready.channel(circuit.channel, &mut entry.ready);
        }
        if full {
            return self.destroy_circuit(key, CircuitClose::QueueFull);
        }
        match received {
            Ok(Received::Message {
                hop,
                command,
                stream_id,
                data,
            }) => {
                self.handle_message(key, hop, command, stream_id, data, now);
            }
            Ok(Received::Room(hop)) => self.handle_circuit_room(key, hop),
            Ok(Received::Hop(hop)) => {
                self.events
                    .push_back(Event::CircuitHop { circuit: key, hop });
            }
            Ok(Received::Built(hop)) => {
                tracing::debug!(hop, cipher = ?circuit.origin.cipher(hop), "circuit built");
                circuit.built = true;
                self.events.push_back(Event::CircuitBuilt { circuit: key });
            }
            Ok(Received::Dropped(Dropped::Padding(hop))) => self.handle_drop(key, hop),
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

    /// A circuit-level SENDME came: if the window was closed, all streams of that hop may send.
    fn handle_circuit_room(&mut self, key: CircuitKey, hop: usize) {
        let room = self
            .circuits
            .get(key)
            .map_or(0, |circuit| circuit.origin.room_cells(hop));
        // Under congestion control a SENDME may bring none, and one that brings some may be any.
        if room > 0 {
            self.wake_streams(key, Some(hop));
        }
    }

    /// Lists the streams of a circuit (at one hop, if given) as ready, beginning behind the one
    /// that sent last.
    pub(super) fn wake_streams(&mut self, key: CircuitKey, hop: Option<usize>) {
        let Some(circuit) = self.circuits.get(key) else {
            return;
        };
        let (first, second) = (
            circuit
                .streams
                .range(StreamId(circuit.sent_last.0.saturating_add(1))..),
            circuit.streams.range(..=circuit.sent_last),
        );
        for key in first.chain(second).map(|(_, key)| *key) {
            let Some(stream) = self.streams.get_mut(key) else {
                continue;
            };
            if hop.is_none_or(|hop| hop == stream.hop) {
                self.ready.stream(key, &mut stream.ready);
            }
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
        let Some(entry) = self.channels.get_mut(circuit.channel) else {
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
        if is_answered(command) {
            entry.liveness.sent(now);
        }
        self.ready.channel(circuit.channel, &mut entry.ready);
        if entry.channel.queue(&cell, now).is_err() {
            self.destroy_circuit(key, CircuitClose::QueueFull);
            return false;
        }
        true
    }

    /// Closes a circuit, and tells the first hop.
    pub(super) fn destroy_circuit(&mut self, key: CircuitKey, reason: CircuitClose) {
        let Some(circuit) = self.circuits.get(key) else {
            return;
        };
        if let Some(entry) = self.channels.get_mut(circuit.channel) {
            let (circ_id, reason) = (circuit.origin.circ_id(), DestroyReason::NONE);
            // A peer that does not read learns of it when the channel closes.
            if entry.channel.queue_destroy(circ_id, reason).is_ok() {
                self.ready.channel(circuit.channel, &mut entry.ready);
            }
        }
        self.remove_circuit(key, reason);
    }

    /// Forgets a circuit, and ends its streams.
    pub(super) fn remove_circuit(&mut self, key: CircuitKey, reason: CircuitClose) {
        let Some(circuit) = self.circuits.remove(key) else {
            return;
        };
        if let Some(entry) = self.channels.get_mut(circuit.channel) {
            entry.channel.remove(circuit.origin.circ_id());
        }
        for stream in circuit.streams.values() {
            self.end_stream(*stream, EndReason::DESTROY.into());
        }
        let hop = circuit.origin.hop_count();
        self.events.push_back(match circuit.built {
            true => Event::CircuitClosed {
                circuit: key,
                reason,
            },
            false => Event::CircuitFailed {
                circuit: key,
                hop,
                reason,
            },
        });
    }
}
