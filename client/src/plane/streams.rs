//! Streams of the plane, between an application's socket and a circuit (tor-spec 6.2 to 6.4, 7.4).
//!
//! A stream lives from `open_stream` to `stream_close`, whatever happens to its circuit meanwhile;
//! only a look-up is gone with its answer. Bytes may be sent before CONNECTED. Room is the least of
//! the stream's window, the circuit's window, the circuit's queue below its high mark, and
//! [`STREAM_ROOM_MAX_CELLS`], so that streams of one circuit take turns.

use cepa_circuit::{CircuitKey, HopWindow, Stream, StreamKey, StreamRead, StreamSide, StreamState};
use cepa_limits::Held;
use cepa_link::channel::QUEUE_HIGH_CELLS;
use cepa_wire::Now;
use cepa_wire::begin::Begin;
use cepa_wire::end::{End, EndReason};
use cepa_wire::relay::{RelayCommand, StreamId};
use cepa_wire::resolve::Resolve;

use super::{Event, Plane};

/// Most cells that a stream may send before it is another's turn.
pub const STREAM_ROOM_MAX_CELLS: usize = 32;

/// What a stream is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamTarget {
    /// A connection from the last hop to an address or name and port.
    Begin(Begin),
    /// The last hop's directory server.
    BeginDir,
    /// A look-up at the last hop.
    Resolve(Resolve),
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

/// What may be said about a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamKind {
    /// A connection.
    Data,
    /// A connection that the peer beyond a rendezvous point asked for.
    Inbound,
    /// A look-up.
    Resolve,
}

/// A stream, its place, and whether it is listed as ready.
#[derive(Debug)]
pub(super) struct PlaneStream {
    pub(super) circuit: CircuitKey,
    pub(super) hop: usize,
    pub(super) kind: StreamKind,
    pub(super) stream: Stream,
    pub(super) ready: bool,
    /// It is in `paced`.
    pub(super) is_paced: bool,
    /// Since when bytes have waited for the application.
    pub(super) held: Held,
}

impl Plane {
    /// Opens a stream at the last hop of a built circuit. [`Event::StreamConnected`],
    /// [`Event::StreamResolved`] or [`Event::StreamEnded`] will tell.
    pub fn open_stream(
        &mut self,
        circuit: CircuitKey,
        target: &StreamTarget,
        now: Now,
    ) -> Result<StreamKey, OpenStreamError> {
        let entry = self
            .circuits
            .get_mut(circuit)
            .ok_or(OpenStreamError::NoCircuit)?;
        if !entry.origin.is_built() {
            return Err(OpenStreamError::NotBuilt);
        }
        if entry.onion.serves() {
            return Err(OpenStreamError::Serves);
        }
        let hop = entry
            .origin
            .hop_count()
            .checked_sub(1)
            .ok_or(OpenStreamError::NotBuilt)?;
        let first = entry.stream_id_next;
        let id = (0..=u16::MAX)
            .map(|n| StreamId(first.0.wrapping_add(n)))
            .find(|id| {
                let taken = entry.streams.contains_key(id) || entry.half_closed.contains(*id);
                *id != StreamId::NONE && !taken
            })
            .ok_or(OpenStreamError::NoStreamId)?;
        entry.stream_id_next = StreamId(id.0.wrapping_add(1));
        let mut body = Vec::new();
        let (command, kind) = match target {
            StreamTarget::Begin(begin) => {
                begin.write(&mut body);
                (RelayCommand::BEGIN, StreamKind::Data)
            }
            StreamTarget::BeginDir => (RelayCommand::BEGIN_DIR, StreamKind::Data),
            StreamTarget::Resolve(resolve) => {
                resolve.write(&mut body);
                (RelayCommand::RESOLVE, StreamKind::Resolve)
            }
        };
        let agreed = entry.origin.window(hop).and_then(HopWindow::agreed);
        let stream = Stream::begin(id).with_congestion(agreed, StreamSide::Client);
        let key = self.streams.insert(PlaneStream {
            circuit,
            hop,
            kind,
            stream,
            ready: false,
            is_paced: false,
            held: Held::default(),
        });
        entry.streams.insert(id, key);
        // If the queue is full, the circuit closes, and an event tells that the stream has ended.
        self.send_message(circuit, hop, command, id, &body, now);
        Ok(key)
    }

    /// True if there is any stream.
    #[must_use]
    pub fn has_streams(&self) -> bool {
        !self.streams.is_empty()
    }

    /// The circuit of a stream; a key that may be stale by now.
    #[must_use]
    pub fn stream_circuit(&self, key: StreamKey) -> Option<CircuitKey> {
        self.streams.get(key).map(|entry| entry.circuit)
    }

    /// Bytes that may be passed to [`Plane::stream_send`] now. With 0, wait until the stream is
    /// listed by [`Plane::take_ready`].
    #[must_use]
    pub fn stream_room(&self, key: StreamKey) -> usize {
        self.room_cells(key).unwrap_or(0) * self.data_max(key)
    }

    /// Bytes that a DATA cell takes to the hop of a stream.
    fn data_max(&self, key: StreamKey) -> usize {
        let entry = self.streams.get(key);
        let circuit = entry.and_then(|entry| Some((entry.hop, self.circuits.get(entry.circuit)?)));
        circuit.map_or(0, |(hop, circuit)| {
            circuit.origin.data_max(hop, RelayCommand::DATA)
        })
    }

    fn room_cells(&self, key: StreamKey) -> Option<usize> {
        let entry = self.streams.get(key)?;
        let circuit = self.circuits.get(entry.circuit)?;
        let channel = &self.channels.get(circuit.channel)?.channel;
        let is_unanswered = entry.stream.state() == StreamState::Connecting;
        if entry.kind == StreamKind::Resolve || is_unanswered {
            return None;
        }
        let queue = QUEUE_HIGH_CELLS.saturating_sub(channel.queued(circuit.origin.circ_id()));
        let windows = entry
            .stream
            .room_cells()
            .min(circuit.origin.room_cells(entry.hop));
        Some(windows.min(queue).min(STREAM_ROOM_MAX_CELLS))
    }

    /// Sends bytes of the application's, at most [`Plane::stream_room`] of them. Those for a stream
    /// that has ended are dropped.
    pub fn stream_send(&mut self, key: StreamKey, bytes: &[u8], now: Now) {
        debug_assert!(
            bytes.len() <= self.stream_room(key) || !self.may_send(key),
            "more bytes than the stream has room for"
        );
        for data in bytes.chunks(self.data_max(key).max(1)) {
            let Some(entry) = self.streams.get_mut(key) else {
                return;
            };
            if matches!(entry.stream.state(), StreamState::Ended(_)) {
                return;
            }
            let (circuit, hop, id) = (entry.circuit, entry.hop, entry.stream.id());
            entry.stream.packaged(data.len());
            if !self.send_message(circuit, hop, RelayCommand::DATA, id, data, now) {
                return;
            }
            if let Some(circuit) = self.circuits.get_mut(circuit) {
                circuit.sent_last = id;
            }
        }
        self.pace(key, now);
    }

    fn may_send(&self, key: StreamKey) -> bool {
        let stream = self.streams.get(key);
        stream.is_some_and(|entry| !matches!(entry.stream.state(), StreamState::Ended(_)))
    }

    /// Moves up to `bytes_max` bytes that came to the end of `out`.
    pub fn stream_take(
        &mut self,
        key: StreamKey,
        out: &mut Vec<u8>,
        bytes_max: usize,
    ) -> StreamRead {
        match self.streams.get_mut(key) {
            Some(entry) => entry.stream.take(out, bytes_max),
            None => StreamRead {
                more: false,
                end: Some(EndReason::DESTROY),
            },
        }
    }

    /// Why nothing more comes on a stream; `None` while more may.
    pub fn stream_end(&self, key: StreamKey) -> Option<EndReason> {
        match self.streams.get(key) {
            Some(entry) => entry.stream.end(),
            None => Some(EndReason::DESTROY),
        }
    }

    /// The application's socket has taken `bytes` of what [`Plane::stream_take`] gave. Only now the
    /// far end hears of it.
    pub fn stream_written(&mut self, key: StreamKey, bytes: usize, now: Now) {
        let Some(entry) = self.streams.get_mut(key) else {
            return;
        };
        entry.stream.written(bytes, now.mono);
        entry.held.taken(bytes);
        self.ledger.gone(bytes);
        self.send_stream_flow(key, now);
    }

    /// Our side of a stream is over: END is sent if it is not too late, and the key goes stale. The
    /// peer is told MISC, whatever the reason is (tor-spec 6.3); a visitor of a service hears it.
    pub fn stream_close(&mut self, key: StreamKey, reason: EndReason, now: Now) {
        let Some(entry) = self.streams.remove(key) else {
            return;
        };
        self.ledger.gone(entry.held.bytes());
        let circuit = self.circuits.get_mut(entry.circuit);
        if let (StreamKind::Inbound, Some(circuit)) = (entry.kind, circuit) {
            circuit.inbound_gone();
        }
        if matches!(entry.stream.state(), StreamState::Ended(_)) {
            return;
        }
        let Some(circuit) = self.circuits.get_mut(entry.circuit) else {
            return;
        };
        let id = entry.stream.id();
        circuit.streams.remove(&id);
        circuit.half_closed.add(&entry.stream);
        if entry.kind == StreamKind::Resolve {
            return;
        }
        let told = match entry.kind {
            StreamKind::Inbound => reason,
            _ => EndReason::MISC,
        };
        self.send_end(entry.circuit, entry.hop, id, told, now);
    }

    pub(super) fn send_end(
        &mut self,
        circuit: CircuitKey,
        hop: usize,
        id: StreamId,
        reason: EndReason,
        now: Now,
    ) {
        let mut body = Vec::new();
        End::from(reason).write(&mut body);
        self.send_message(circuit, hop, RelayCommand::END, id, &body, now);
    }

    /// Ends a stream whose peer broke the protocol: END to the peer, and as if it had sent one.
    pub(super) fn fail_stream(&mut self, key: StreamKey, reason: EndReason, now: Now) {
        let Some(entry) = self.streams.get(key) else {
            return;
        };
        let (circuit, hop, id) = (entry.circuit, entry.hop, entry.stream.id());
        if let Some(circuit) = self.circuits.get_mut(circuit) {
            circuit.streams.remove(&id);
            circuit.half_closed.add(&entry.stream);
        }
        self.end_stream(key, reason.into());
        self.send_end(circuit, hop, id, EndReason::MISC, now);
    }

    /// The peer ended a stream, or its circuit is gone.
    pub(super) fn end_stream(&mut self, key: StreamKey, end: End) {
        let Some(entry) = self.streams.get_mut(key) else {
            return;
        };
        entry.stream.handle_end(end.reason);
        self.ready.stream(key, &mut entry.ready);
        self.events
            .push_back(Event::StreamEnded { stream: key, end });
    }
}
