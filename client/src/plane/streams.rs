//! Streams of the plane, between an application's socket and a circuit (tor-spec 6.2 to 6.4, 7.4).
//!
//! A stream lives from `open_stream` to `stream_close`, whatever happens to its circuit meanwhile;
//! only a look-up is gone with its answer. Bytes may be sent before CONNECTED. Room is the least of
//! the stream's window, the circuit's window, the circuit's queue below its high mark, and
//! [`STREAM_ROOM_MAX_CELLS`], so that streams of one circuit take turns.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use cepa_circuit::{
    CircuitKey, HopWindow, Stream, StreamKey, StreamRead, StreamSide, StreamState, StreamViolation,
};
use cepa_limits::Held;
use cepa_link::Channel;
use cepa_link::channel::QUEUE_HIGH_CELLS;
use cepa_wire::Now;
use cepa_wire::begin::Begin;
use cepa_wire::end::{End, EndReason};
use cepa_wire::relay::{RelayCommand, StreamId};
use cepa_wire::resolve::Resolve;
use slotmap::SlotMap;

use super::carried::StreamCarried;
use super::circuits::{Circuit, OpenStreamError};
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

/// Where a stream leaves a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamPlace {
    /// The circuit.
    pub circuit: CircuitKey,
    /// The hop, the first one being 0; at the last one, if none is given.
    pub hop: Option<usize>,
}

impl From<CircuitKey> for StreamPlace {
    fn from(circuit: CircuitKey) -> Self {
        StreamPlace { circuit, hop: None }
    }
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
    pub(super) carried: StreamCarried,
}

/// All streams of a plane, and those that came to have bytes, an end or room since that was last
/// asked.
#[derive(Debug, Default)]
pub(super) struct PlaneStreams {
    pub(super) by_key: SlotMap<StreamKey, PlaneStream>,
    ready: Vec<StreamKey>,
    /// Those that wait for what their rate allows, and when more of it is given.
    pub(super) paced: Vec<StreamKey>,
    pub(super) pace_at: Option<Instant>,
    /// Bytes that wait for applications.
    pub(super) inbound_bytes: usize,
}

impl PlaneStreams {
    pub(super) fn entry(&self, key: StreamKey) -> Option<&PlaneStream> {
        self.by_key.get(key)
    }

    pub(super) fn entry_mut(&mut self, key: StreamKey) -> Option<&mut PlaneStream> {
        self.by_key.get_mut(key)
    }

    pub(super) fn add(
        &mut self,
        (circuit, hop): (CircuitKey, usize),
        kind: StreamKind,
        stream: Stream,
    ) -> StreamKey {
        self.by_key.insert(PlaneStream {
            circuit,
            hop,
            kind,
            stream,
            ready: false,
            is_paced: false,
            held: Held::default(),
            carried: StreamCarried::default(),
        })
    }

    /// Takes a stream out, with what waits for its application.
    pub(super) fn remove(&mut self, key: StreamKey) -> Option<PlaneStream> {
        let entry = self.by_key.remove(key)?;
        self.inbound_bytes = self.inbound_bytes.saturating_sub(entry.held.bytes());
        Some(entry)
    }

    /// A stream of a hop (of any, if none is given) may go on: it is listed as ready.
    pub(super) fn wake(&mut self, key: StreamKey, hop: Option<usize>) {
        if let Some(entry) = self.by_key.get_mut(key)
            && hop.is_none_or(|hop| hop == entry.hop)
        {
            entry.list(key, &mut self.ready);
        }
    }

    /// Moves the list of those that may go on to the end of another.
    pub(super) fn take_ready(&mut self, ready: &mut Vec<StreamKey>) {
        ready.append(&mut self.ready);
        for key in ready {
            if let Some(entry) = self.by_key.get_mut(*key) {
                entry.ready = false;
            }
        }
    }

    /// DATA came.
    pub(super) fn data(
        &mut self,
        key: StreamKey,
        data: &[u8],
        now: Now,
    ) -> Result<(), StreamViolation> {
        let Some(entry) = self.by_key.get_mut(key) else {
            return Ok(());
        };
        entry.stream.handle_data(data, now.mono)?;
        if !data.is_empty() {
            entry.carried.moved(data.len(), 0);
            entry.held.came(data.len(), now.mono);
            self.inbound_bytes += data.len();
            entry.list(key, &mut self.ready);
        }
        Ok(())
    }

    /// CONNECTED came.
    pub(super) fn connected(&mut self, key: StreamKey) -> Result<(), StreamViolation> {
        if let Some(entry) = self.by_key.get_mut(key) {
            entry.stream.handle_connected()?;
            entry.list(key, &mut self.ready);
        }
        Ok(())
    }

    /// Whether nothing more is sent over a stream.
    fn has_ended(&self, key: StreamKey) -> bool {
        let entry = self.by_key.get(key);
        entry.is_none_or(|entry| matches!(entry.stream.state(), StreamState::Ended(_)))
    }

    /// The application's socket has taken bytes.
    fn written(&mut self, key: StreamKey, bytes: usize, now: Now) {
        if let Some(entry) = self.by_key.get_mut(key) {
            entry.stream.written(bytes, now.mono);
            entry.held.taken(bytes);
            self.inbound_bytes = self.inbound_bytes.saturating_sub(bytes);
        }
    }

    /// Streams whose bytes wait for applications, those that have waited longest first.
    pub(super) fn waiting(&self) -> BinaryHeap<Reverse<(Instant, StreamKey)>> {
        let waiting = self.by_key.iter().filter_map(|(key, entry)| {
            let since = entry.held.since()?;
            Some(Reverse((since, key)))
        });
        waiting.collect()
    }

    /// Throws away what waits for an application; the circuit of the stream.
    pub(super) fn discard(&mut self, key: StreamKey) -> Option<CircuitKey> {
        let entry = self.by_key.get_mut(key)?;
        let bytes = entry.stream.discard();
        entry.held.taken(bytes);
        self.inbound_bytes = self.inbound_bytes.saturating_sub(bytes);
        Some(entry.circuit)
    }

    /// The peer ended a stream, or its circuit is gone. False if there is no such stream.
    fn end(&mut self, key: StreamKey, reason: EndReason) -> bool {
        let Some(entry) = self.by_key.get_mut(key) else {
            return false;
        };
        entry.stream.handle_end(reason);
        entry.list(key, &mut self.ready);
        true
    }
}

impl PlaneStream {
    /// Lists it as ready, unless it is listed.
    pub(super) fn list(&mut self, key: StreamKey, ready: &mut Vec<StreamKey>) {
        if !std::mem::replace(&mut self.ready, true) {
            ready.push(key);
        }
    }

    /// Cells that it may send now over its circuit and channel; none if it is not to send at all.
    fn room_cells(&self, circuit: &Circuit, channel: &Channel) -> Option<usize> {
        let is_unanswered = self.stream.state() == StreamState::Connecting;
        if self.kind == StreamKind::Resolve || is_unanswered {
            return None;
        }
        let queue = QUEUE_HIGH_CELLS.saturating_sub(channel.queued(circuit.origin.circ_id()));
        let windows = self
            .stream
            .room_cells()
            .min(circuit.origin.room_cells(self.hop));
        Some(windows.min(queue).min(STREAM_ROOM_MAX_CELLS))
    }
}

impl StreamTarget {
    /// Writes the message that asks for it.
    fn write(&self, body: &mut Vec<u8>) -> (RelayCommand, StreamKind) {
        match self {
            StreamTarget::Begin(begin) => {
                begin.write(body);
                (RelayCommand::BEGIN, StreamKind::Data)
            }
            StreamTarget::BeginDir => (RelayCommand::BEGIN_DIR, StreamKind::Data),
            StreamTarget::Resolve(resolve) => {
                resolve.write(body);
                (RelayCommand::RESOLVE, StreamKind::Resolve)
            }
        }
    }
}

impl Plane {
    /// Opens a stream at a hop of a built circuit. [`Event::StreamConnected`],
    /// [`Event::StreamResolved`] or [`Event::StreamEnded`] will tell.
    pub fn open_stream(
        &mut self,
        at: impl Into<StreamPlace>,
        target: &StreamTarget,
        now: Now,
    ) -> Result<StreamKey, OpenStreamError> {
        let StreamPlace { circuit, hop: at } = at.into();
        let entry = self
            .circuits
            .get_mut(circuit)
            .ok_or(OpenStreamError::NoCircuit)?;
        let (last, id) = entry.stream_place()?;
        let hop = at.map_or(last, |hop| hop.min(last));
        let mut body = Vec::new();
        let (command, kind) = target.write(&mut body);
        let agreed = entry.origin.window(hop).and_then(HopWindow::agreed);
        let stream = Stream::begin(id).with_congestion(agreed, StreamSide::Client);
        let key = self.streams.add((circuit, hop), kind, stream);
        entry.streams.insert(id, key);
        // If the queue is full, the circuit closes, and an event tells that the stream has ended.
        self.send_message(circuit, hop, command, id, &body, now);
        Ok(key)
    }

    /// True if there is any stream.
    #[must_use]
    pub fn has_streams(&self) -> bool {
        !self.streams.by_key.is_empty()
    }

    /// The circuit of a stream; a key that may be stale by now.
    #[must_use]
    pub fn stream_circuit(&self, key: StreamKey) -> Option<CircuitKey> {
        self.streams.entry(key).map(|entry| entry.circuit)
    }

    /// Bytes that may be passed to [`Plane::stream_send`] now. With 0, wait until the stream is
    /// listed by [`Plane::take_ready`].
    #[must_use]
    pub fn stream_room(&self, key: StreamKey) -> usize {
        self.room_cells(key).unwrap_or(0) * self.data_max(key)
    }

    /// Bytes that a DATA cell takes to the hop of a stream.
    fn data_max(&self, key: StreamKey) -> usize {
        let entry = self.streams.entry(key);
        let circuit = entry.and_then(|entry| Some((entry.hop, self.circuits.get(entry.circuit)?)));
        circuit.map_or(0, |(hop, circuit)| {
            circuit.origin.data_max(hop, RelayCommand::DATA)
        })
    }

    fn room_cells(&self, key: StreamKey) -> Option<usize> {
        let entry = self.streams.entry(key)?;
        let circuit = self.circuits.get(entry.circuit)?;
        let channel = self.channels.channel(circuit.channel)?;
        entry.room_cells(circuit, channel)
    }

    /// Sends bytes of the application's, at most [`Plane::stream_room`] of them. Those for a stream
    /// that has ended are dropped.
    pub fn stream_send(&mut self, key: StreamKey, bytes: &[u8], now: Now) {
        debug_assert!(
            bytes.len() <= self.stream_room(key) || self.streams.has_ended(key),
            "more bytes than the stream has room for"
        );
        for data in bytes.chunks(self.data_max(key).max(1)) {
            let Some(entry) = self.streams.entry_mut(key) else {
                return;
            };
            if matches!(entry.stream.state(), StreamState::Ended(_)) {
                return;
            }
            let (circuit, hop, id) = (entry.circuit, entry.hop, entry.stream.id());
            entry.stream.packaged(data.len());
            entry.carried.moved(0, data.len());
            if !self.send_message(circuit, hop, RelayCommand::DATA, id, data, now) {
                return;
            }
            if let Some(circuit) = self.circuits.get_mut(circuit) {
                circuit.sent_last = id;
            }
        }
        self.streams.pace(key, now);
    }

    /// Moves up to `bytes_max` bytes that came to the end of `out`.
    pub fn stream_take(
        &mut self,
        key: StreamKey,
        out: &mut Vec<u8>,
        bytes_max: usize,
    ) -> StreamRead {
        match self.streams.entry_mut(key) {
            Some(entry) => entry.stream.take(out, bytes_max),
            None => StreamRead {
                more: false,
                end: Some(EndReason::DESTROY),
            },
        }
    }

    /// Why nothing more comes on a stream; `None` while more may.
    pub fn stream_end(&self, key: StreamKey) -> Option<EndReason> {
        match self.streams.entry(key) {
            Some(entry) => entry.stream.end(),
            None => Some(EndReason::DESTROY),
        }
    }

    /// The application's socket has taken `bytes` of what [`Plane::stream_take`] gave. Only now the
    /// far end hears of it.
    pub fn stream_written(&mut self, key: StreamKey, bytes: usize, now: Now) {
        self.streams.written(key, bytes, now);
        self.send_stream_flow(key, now);
    }

    /// Our side of a stream is over: END is sent if it is not too late, and the key goes stale. The
    /// peer is told MISC, whatever the reason is (tor-spec 6.3); a visitor of a service hears it.
    pub fn stream_close(&mut self, key: StreamKey, reason: EndReason, now: Now) {
        let Some(entry) = self.streams.remove(key) else {
            return;
        };
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
        circuit.leave(&entry.stream);
        let told = match entry.kind {
            StreamKind::Resolve => return,
            StreamKind::Inbound => reason,
            StreamKind::Data => EndReason::MISC,
        };
        self.send_end(entry.circuit, entry.hop, entry.stream.id(), told, now);
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

    /// Ends a stream on both sides: its peer broke the protocol, or it is not wanted any more.
    pub(crate) fn fail_stream(&mut self, key: StreamKey, reason: EndReason, now: Now) {
        let Some(entry) = self.streams.entry(key) else {
            return;
        };
        let (circuit, hop, id) = (entry.circuit, entry.hop, entry.stream.id());
        if let Some(circuit) = self.circuits.get_mut(circuit) {
            circuit.leave(&entry.stream);
        }
        self.end_stream(key, reason.into());
        self.send_end(circuit, hop, id, EndReason::MISC, now);
    }

    /// The peer ended a stream, or its circuit is gone.
    pub(super) fn end_stream(&mut self, stream: StreamKey, end: End) {
        if self.streams.end(stream, end.reason) {
            self.events.push_back(Event::StreamEnded { stream, end });
        }
    }
}
