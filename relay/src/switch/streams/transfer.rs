//! Bytes of streams, both ways (tor-spec 6.2, 7.4).
//!
//! A stream may send while its own window, its circuit's window and the queue of its channel have
//! room; it is listed when there is room again.

use cepa_circuit::relay::RelayViolation;
use cepa_circuit::{CircuitKey, RelayCircuit, StreamKey, StreamRead, StreamState, StreamViolation};
use cepa_link::channel::QUEUE_HIGH_CELLS;
use cepa_wire::Now;
use cepa_wire::end::EndReason;
use cepa_wire::relay::{RelayCommand, StreamId};

use super::{Edge, Streams};
use crate::switch::channels::Channels;
use crate::switch::circuits::Circuits;
use crate::switch::context::Context;

/// Cells that one stream may send at a time, so that others of its circuit get a turn.
const TURN_CELLS_MAX: usize = 64;

impl Streams {
    /// Bytes that may be read from the socket and sent now; if none, the stream is listed once
    /// there is room.
    pub(crate) fn room(&self, key: StreamKey, circuits: &Circuits, channels: &Channels) -> usize {
        let Some(edge) = self.edges.get(key) else {
            return 0;
        };
        let cells = room_cells(edge, circuits, channels).unwrap_or(0);
        edge.waits_for_room.set(cells == 0);
        cells * data_max(edge, circuits)
    }

    /// Packages bytes of the socket into DATA cells; at most [`Streams::room`] of them.
    pub(crate) fn send(&mut self, key: StreamKey, bytes: &[u8], ctx: &mut Context<'_>) {
        let edge = self.edges.get(key);
        let cell_max = edge.map_or(0, |edge| data_max(edge, ctx.circuits));
        for data in bytes.chunks(cell_max.max(1)) {
            let Some(edge) = self.edges.get_mut(key) else {
                return;
            };
            let (Some(circuit), id) = (edge.circuit, edge.stream.id()) else {
                return;
            };
            let relay = ctx.circuits.relay(circuit);
            let has_room =
                relay.is_some_and(|relay| relay.room_cells() > 0) && edge.stream.room_cells() > 0;
            if !has_room || edge.stream.state() != StreamState::Open {
                return debug_assert!(false, "more bytes than there was room for");
            }
            edge.stream.packaged(data.len());
            if !ctx.send(circuit, RelayCommand::DATA, id, data) {
                return;
            }
        }
        self.pace(key, ctx.now);
    }

    /// Moves up to `max` bytes that the client sent to the end of `out`. The end is told once all
    /// bytes were taken; with it the stream is forgotten.
    pub(crate) fn take(
        &mut self,
        key: StreamKey,
        out: &mut Vec<u8>,
        max: usize,
        circuits: &mut Circuits,
    ) -> StreamRead {
        let Some(edge) = self.edges.get_mut(key) else {
            return StreamRead {
                more: false,
                end: Some(EndReason::DESTROY),
            };
        };
        let read = edge.stream.take(out, max);
        if read.end.is_some() {
            self.remove(key, circuits);
        }
        read
    }

    /// The socket took `bytes` of what [`Streams::take`] gave.
    pub(crate) fn written(&mut self, key: StreamKey, bytes: usize, ctx: &mut Context<'_>) {
        let Some(edge) = self.edges.get_mut(key) else {
            return;
        };
        edge.stream.written(bytes, ctx.now.mono);
        edge.held.taken(bytes);
        self.inbound_bytes = self.inbound_bytes.saturating_sub(bytes);
        self.send_flow(key, ctx);
    }

    /// DATA for a stream. What has no stream is dropped.
    pub(crate) fn handle_data(
        &mut self,
        key: CircuitKey,
        id: StreamId,
        data: &[u8],
        ctx: &mut Context<'_>,
    ) {
        let now: Now = ctx.now;
        let Some((stream, edge)) = self.of_circuit(key, id, ctx.circuits) else {
            return;
        };
        match edge.stream.handle_data(data, now.mono) {
            Ok(()) => {
                edge.held.came(data.len(), now.mono);
                self.inbound_bytes += data.len();
                self.list(stream);
                self.send_flow(stream, ctx);
            }
            Err(StreamViolation::Window(violation)) => {
                let violation = RelayViolation::Window(violation);
                ctx.circuits.violated(key, violation, ctx.shared);
            }
            Err(StreamViolation::State) => {}
        }
    }

    /// There is room again on a circuit: its streams that wait are listed, beginning behind the
    /// one that was first the last time.
    pub(crate) fn wake(&mut self, key: CircuitKey, circuits: &mut Circuits, channels: &Channels) {
        let Some(circuit) = circuits.circuit_mut(key) else {
            return;
        };
        let room = circuit.relay.as_ref().map_or(0, RelayCircuit::room_cells);
        if room == 0 || circuit.queued(channels) >= QUEUE_HIGH_CELLS {
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
            let edge = self.edges.get(stream);
            if edge.is_some_and(|edge| edge.waits_for_room.take()) {
                self.list(stream);
            }
        }
    }
}

/// Bytes that a DATA cell takes on the circuit of a stream.
fn data_max(edge: &Edge, circuits: &Circuits) -> usize {
    let relay = edge.circuit.and_then(|key| circuits.relay(key));
    relay.map_or(0, |relay| relay.format().data_max(RelayCommand::DATA))
}

fn room_cells(edge: &Edge, circuits: &Circuits, channels: &Channels) -> Option<usize> {
    if edge.stream.state() != StreamState::Open {
        return None;
    }
    let circuit = circuits.get(edge.circuit?)?;
    let link = channels.get(circuit.previous.channel)?;
    let queued = link.channel.queued(circuit.previous.circ_id);
    let room = circuit.relay.as_ref()?.room_cells();
    let room = room.min(edge.stream.room_cells()).min(TURN_CELLS_MAX);
    Some(room.min(QUEUE_HIGH_CELLS.saturating_sub(queued)))
}
