//! Streams as the shell sees them: room, bytes in, bytes out, ends (tor-spec 6.2, 6.3, 7.4).
//!
//! A stream may send while its own window, its circuit's window and the queue of its channel have
//! room; it is told by `take_ready` when there is room again. What the client sent waits here until
//! the socket takes it, and only then is acknowledged, so that back-pressure reaches the far end.

use std::net::SocketAddr;

use cepa_circuit::{CircuitKey, StreamKey, StreamRead, StreamState};
use cepa_link::channel::QUEUE_HIGH_CELLS;
use cepa_wire::Now;
use cepa_wire::connected::Connected;
use cepa_wire::end::{End, EndReason};
use cepa_wire::relay::{RelayCommand, StreamId};
use cepa_wire::resolve::{Answer, AnswerValue};

use super::Switch;
use super::edge::{EdgeKind, REFUSED_TTL_SECS};

/// Cells that one stream may send at a time, so that others of its circuit get a turn.
const TURN_CELLS_MAX: usize = 64;

impl Switch {
    /// Bytes that may be read from the socket and given to [`Switch::stream_send`] now. 0: wait
    /// until the stream is among those of [`Switch::take_ready`].
    #[must_use]
    pub fn stream_room(&self, key: StreamKey) -> usize {
        let Some(edge) = self.streams.get(key) else {
            return 0;
        };
        let cells = self.room_cells(edge).unwrap_or(0);
        edge.waits_for_room.set(cells == 0);
        cells * self.data_max(edge)
    }

    /// Bytes that a DATA cell takes on the circuit of a stream.
    fn data_max(&self, edge: &super::edge::Edge) -> usize {
        let relay = edge.circuit.and_then(|key| self.circuit_relay(key));
        relay.map_or(0, |relay| relay.format().data_max(RelayCommand::DATA))
    }

    fn room_cells(&self, edge: &super::edge::Edge) -> Option<usize> {
        if edge.stream.state() != StreamState::Open {
            return None;
        }
        let circuit = self.circuits.get(edge.circuit?)?;
        let link = self.channels.get(circuit.previous.channel)?;
        let queued = link.channel.queued(circuit.previous.circ_id);
        let room = circuit.relay.as_ref()?.room_cells();
        let room = room.min(edge.stream.room_cells()).min(TURN_CELLS_MAX);
        Some(room.min(QUEUE_HIGH_CELLS.saturating_sub(queued)))
    }

    /// Packages bytes of the socket into DATA cells; at most [`Switch::stream_room`] of them.
    pub fn stream_send(&mut self, key: StreamKey, bytes: &[u8], now: Now) {
        let cell_max = self.streams.get(key).map_or(0, |edge| self.data_max(edge));
        for data in bytes.chunks(cell_max.max(1)) {
            let Some(edge) = self.streams.get_mut(key) else {
                return;
            };
            let (Some(circuit), id) = (edge.circuit, edge.stream.id()) else {
                return;
            };
            let relay = self
                .circuits
                .get(circuit)
                .and_then(|circuit| circuit.relay.as_ref());
            let has_room =
                relay.is_some_and(|relay| relay.room_cells() > 0) && edge.stream.room_cells() > 0;
            if !has_room || edge.stream.state() != StreamState::Open {
                return debug_assert!(false, "more bytes than there was room for");
            }
            edge.stream.packaged(data.len());
            if !self.send_message(circuit, RelayCommand::DATA, id, data, now) {
                return;
            }
        }
        self.pace(key, now);
        self.limit_memory(now);
    }

    /// Moves up to `max` bytes that the client sent to the end of `out`. The end is told once all
    /// bytes were taken; with it the stream is forgotten.
    pub fn stream_take(&mut self, key: StreamKey, out: &mut Vec<u8>, max: usize) -> StreamRead {
        let Some(edge) = self.streams.get_mut(key) else {
            return StreamRead {
                more: false,
                end: Some(EndReason::DESTROY),
            };
        };
        let read = edge.stream.take(out, max);
        if read.end.is_some() {
            self.drop_edge(key);
        }
        read
    }

    /// Why nothing more comes on a stream; `None` while more may.
    #[must_use]
    pub fn stream_end(&self, key: StreamKey) -> Option<EndReason> {
        match self.streams.get(key) {
            Some(edge) => edge.stream.end(),
            None => Some(EndReason::DESTROY),
        }
    }

    /// The socket took `bytes` of what [`Switch::stream_take`] gave.
    pub fn stream_written(&mut self, key: StreamKey, bytes: usize, now: Now) {
        let Some(edge) = self.streams.get_mut(key) else {
            return;
        };
        edge.stream.written(bytes, now.mono);
        edge.held.taken(bytes);
        self.inbound_bytes = self.inbound_bytes.saturating_sub(bytes);
        self.send_stream_flow(key, now);
    }

    /// The socket ended or failed: the client gets END.
    pub fn stream_close(&mut self, key: StreamKey, reason: EndReason, now: Now) {
        self.close_with(key, reason.into(), now);
    }

    fn close_with(&mut self, key: StreamKey, end: End, now: Now) {
        let Some(edge) = self.drop_edge(key) else {
            return;
        };
        let Some(circuit) = edge.circuit else { return };
        let id = edge.stream.id();
        if let Some(circuit) = self.circuits.get_mut(circuit) {
            circuit.streams.remove(&id);
        }
        match edge.kind {
            EdgeKind::Resolve => {
                let answer = Answer {
                    value: AnswerValue::ErrorTransient,
                    ttl: REFUSED_TTL_SECS,
                };
                self.send_resolved(circuit, id, vec![answer], now);
            }
            EdgeKind::Exit | EdgeKind::Dir => self.send_end(circuit, id, end, now),
        }
    }

    /// The answer to [`super::Command::Connect`]: connected to this address, which the client may
    /// remember for `ttl_secs`.
    pub fn stream_connected(&mut self, key: StreamKey, addr: SocketAddr, ttl_secs: u32, now: Now) {
        if let Some(edge) = self.streams.get_mut(key) {
            edge.addr = Some(addr);
        }
        self.connected(key, Some((addr.ip(), ttl_secs)), now);
    }

    /// The other end of the link that a stream came over.
    #[must_use]
    pub fn neighbour(&self, key: StreamKey) -> Option<SocketAddr> {
        let circuit = self.circuits.get(self.streams.get(key)?.circuit?)?;
        let link = self.channels.get(circuit.previous.channel)?;
        Some(link.channel.link().peer_addr)
    }

    /// The answer to [`super::Command::OpenDir`].
    pub fn stream_dir_connected(&mut self, key: StreamKey, now: Now) {
        self.connected(key, None, now);
    }

    fn connected(&mut self, key: StreamKey, address: Option<(std::net::IpAddr, u32)>, now: Now) {
        let Some(edge) = self.streams.get_mut(key) else {
            return;
        };
        let (Some(circuit), id) = (edge.circuit, edge.stream.id()) else {
            return;
        };
        if edge.kind == EdgeKind::Resolve || edge.stream.state() != StreamState::Connecting {
            return debug_assert!(false, "only a stream that connects can be connected");
        }
        edge.stream.connected();
        let kind = edge.kind;
        if kind == EdgeKind::Exit {
            self.count_connected(Some(circuit));
        }
        let address = address.filter(|_| kind == EdgeKind::Exit);
        let mut body = Vec::with_capacity(25);
        Connected { address }.write(&mut body);
        if self.send_message(circuit, RelayCommand::CONNECTED, id, &body, now) {
            self.list_stream(key);
        }
    }

    /// The answer to [`super::Command::Connect`] if it failed.
    pub fn stream_failed(&mut self, key: StreamKey, reason: EndReason, now: Now) {
        self.close_with(key, reason.into(), now);
    }

    /// The answer to [`super::Command::Connect`] if [`Switch::exit_check`] refuses all addresses
    /// that the name has; what it said of one of them is told.
    pub fn stream_refused(&mut self, key: StreamKey, end: End, now: Now) {
        self.close_with(key, end, now);
    }

    /// The answer to [`super::Command::Resolve`]; none at all is told as a failure.
    pub fn stream_resolved(&mut self, key: StreamKey, mut answers: Vec<Answer>, now: Now) {
        if answers.is_empty() {
            answers.push(Answer {
                value: AnswerValue::ErrorTransient,
                ttl: REFUSED_TTL_SECS,
            });
        }
        let Some(edge) = self.drop_edge(key) else {
            return;
        };
        let Some(circuit) = edge.circuit else { return };
        let id = edge.stream.id();
        if let Some(circuit) = self.circuits.get_mut(circuit) {
            circuit.streams.remove(&id);
        }
        self.send_resolved(circuit, id, answers, now);
    }

    /// There is room again on a circuit: its streams that wait are listed, beginning behind the
    /// one that was first the last time.
    pub(super) fn wake_streams(&mut self, key: CircuitKey) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let room = circuit
            .relay
            .as_ref()
            .map_or(0, cepa_circuit::RelayCircuit::room_cells);
        let queued = self.channels.get(circuit.previous.channel);
        let queued = queued.map_or(0, |link| link.channel.queued(circuit.previous.circ_id));
        if room == 0 || queued >= QUEUE_HIGH_CELLS {
            return;
        }
        let after = circuit.woken_last;
        let (before, behind): (Vec<_>, Vec<_>) = circuit
            .streams
            .iter()
            .map(|(id, stream)| (*id, *stream))
            .partition(|s| s.0 <= after);
        let order: Vec<(StreamId, _)> = behind.into_iter().chain(before).collect();
        if let Some((first, _)) = order.first() {
            circuit.woken_last = *first;
        }
        for (_, stream) in order {
            let waits = self
                .streams
                .get(stream)
                .is_some_and(|edge| edge.waits_for_room.take());
            if waits {
                self.list_stream(stream);
            }
        }
    }
}
