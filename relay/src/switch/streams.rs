//! Streams that end here: at the exit, the directory server, the DNS (tor-spec 6.2 to 6.4, 7.4).
//!
//! The circuits know their streams by id, this table what each has. What the client sent waits here
//! until the socket takes it, and only then is acknowledged, so that back-pressure reaches the far
//! end.

mod begin;
mod flow;
mod transfer;

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Instant;

use cepa_circuit::{CircuitKey, Stream, StreamKey, StreamState};
use cepa_limits::Held;
use cepa_wire::end::{End, EndReason};
use cepa_wire::relay::{RelayCommand, StreamId};
use cepa_wire::resolve::{Answer, AnswerValue, Resolved};
use slotmap::SlotMap;

use super::circuits::Circuits;
use super::command::Command;
use super::context::Context;

/// Seconds for which a client may believe that an address is refused, or does not resolve.
const REFUSED_TTL_SECS: u32 = 60;

/// Streams by how they began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct StreamCounts {
    /// Streams to addresses outside (BEGIN).
    pub begin: u64,
    /// Streams to the directory (BEGIN_DIR).
    pub begin_dir: u64,
    /// Look-ups of names and addresses (RESOLVE).
    pub resolve: u64,
}

/// What is at the other end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EdgeKind {
    /// A TCP connection.
    Exit,
    /// Our directory server.
    Dir,
    /// A look-up.
    Resolve,
}

/// One stream.
#[derive(Debug)]
struct Edge {
    /// Where it is connected to.
    addr: Option<SocketAddr>,
    /// `None` once the circuit is gone; what arrived may still be taken.
    circuit: Option<CircuitKey>,
    stream: Stream,
    kind: EdgeKind,
    /// It is in `ready`.
    listed: bool,
    /// There was no room when it was last asked for.
    waits_for_room: Cell<bool>,
    /// It is in `paced`.
    is_paced: bool,
    /// Since when bytes have waited for the socket.
    held: Held,
}

/// All streams of a switch.
#[derive(Debug, Default)]
pub(super) struct Streams {
    edges: SlotMap<StreamKey, Edge>,
    /// Those that have new input or room since the shell last asked.
    ready: Vec<StreamKey>,
    /// Those that wait for what their rate allows.
    paced: Vec<StreamKey>,
    /// When they may go on.
    pub(super) next_pace: Option<Instant>,
    /// Bytes that came and that their sockets have not taken.
    pub(super) inbound_bytes: usize,
    /// Those that wait for a connection or an answer of the DNS.
    connecting: usize,
    pub(super) taken: StreamCounts,
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.edges.len()
    }

    /// Moves out the streams that have new input or room since last asked; each stands there once.
    pub(super) fn take_ready(&mut self, out: &mut Vec<StreamKey>) {
        for key in &self.ready {
            if let Some(edge) = self.edges.get_mut(*key) {
                edge.listed = false;
            }
        }
        out.append(&mut self.ready);
    }

    /// The circuit by which a stream comes.
    pub(super) fn circuit(&self, key: StreamKey) -> Option<CircuitKey> {
        self.edges.get(key)?.circuit
    }

    /// Why nothing more comes on a stream; `None` while more may.
    pub(super) fn end(&self, key: StreamKey) -> Option<EndReason> {
        match self.edges.get(key) {
            Some(edge) => edge.stream.end(),
            None => Some(EndReason::DESTROY),
        }
    }

    /// The streams that hold bytes for their sockets, each with since when.
    pub(super) fn held(&self) -> impl Iterator<Item = (Instant, StreamKey)> + '_ {
        let edges = self.edges.iter();
        edges.filter_map(|(key, edge)| Some((edge.held.since()?, key)))
    }

    /// END came.
    pub(super) fn handle_end(
        &mut self,
        key: CircuitKey,
        id: StreamId,
        data: &[u8],
        ctx: &mut Context<'_>,
    ) {
        let Some(circuit) = ctx.circuits.circuit_mut(key) else {
            return;
        };
        let Some(stream) = circuit.streams.remove(&id) else {
            return;
        };
        self.end_edge(stream, End::read(data).reason, ctx);
    }

    /// The circuit of a stream is gone.
    pub(super) fn orphan(&mut self, stream: StreamKey, ctx: &mut Context<'_>) {
        self.end_edge(stream, EndReason::DESTROY, ctx);
    }

    /// Nothing more comes for a stream, and nothing more may be sent: one that is connected is
    /// read to its end, any other is gone at once.
    fn end_edge(&mut self, key: StreamKey, reason: EndReason, ctx: &mut Context<'_>) {
        let Some(edge) = self.edges.get_mut(key) else {
            return;
        };
        if edge.stream.state() == StreamState::Open {
            edge.circuit = None;
            edge.stream.handle_end(reason);
            return self.list(key);
        }
        self.discard(key, ctx);
    }

    /// Forgets a stream, and whatever waits for its socket.
    pub(super) fn discard(&mut self, stream: StreamKey, ctx: &mut Context<'_>) {
        if self.remove(stream, ctx.circuits).is_some() {
            let gone = Command::CloseStream { stream };
            ctx.shared.commands.push_back(gone);
        }
    }

    /// The socket ended or failed, or there is none: the client is told.
    pub(super) fn close(&mut self, key: StreamKey, end: End, ctx: &mut Context<'_>) {
        let Some((circuit, id, kind)) = self.detach(key, ctx.circuits) else {
            return;
        };
        match kind {
            EdgeKind::Resolve => send_resolved(circuit, id, vec![failure()], ctx),
            EdgeKind::Exit | EdgeKind::Dir => send_end(circuit, id, end, ctx),
        }
    }

    /// Forgets a stream; its circuit, if that is there still, its id and its kind.
    fn detach(
        &mut self,
        key: StreamKey,
        circuits: &mut Circuits,
    ) -> Option<(CircuitKey, StreamId, EdgeKind)> {
        let edge = self.remove(key, circuits)?;
        let (circuit, id) = (edge.circuit?, edge.stream.id());
        if let Some(circuit) = circuits.circuit_mut(circuit) {
            circuit.streams.remove(&id);
        }
        Some((circuit, id, edge.kind))
    }

    fn remove(&mut self, key: StreamKey, circuits: &mut Circuits) -> Option<Edge> {
        let edge = self.edges.remove(key)?;
        self.inbound_bytes = self.inbound_bytes.saturating_sub(edge.held.bytes());
        if edge.kind != EdgeKind::Dir && edge.stream.state() == StreamState::Connecting {
            self.count_connected(edge.circuit, circuits);
        }
        Some(edge)
    }

    /// A stream of this circuit waits for nothing more.
    fn count_connected(&mut self, circuit: Option<CircuitKey>, circuits: &mut Circuits) {
        self.connecting = self.connecting.saturating_sub(1);
        if let Some(circuit) = circuit.and_then(|key| circuits.circuit_mut(key)) {
            circuit.connecting = circuit.connecting.saturating_sub(1);
        }
    }

    fn of_circuit(
        &mut self,
        key: CircuitKey,
        id: StreamId,
        circuits: &Circuits,
    ) -> Option<(StreamKey, &mut Edge)> {
        let stream = *circuits.get(key)?.streams.get(&id)?;
        Some((stream, self.edges.get_mut(stream)?))
    }

    fn list(&mut self, key: StreamKey) {
        if let Some(edge) = self.edges.get_mut(key)
            && !std::mem::replace(&mut edge.listed, true)
        {
            self.ready.push(key);
        }
    }
}

/// What a look-up is told that may be tried again.
fn failure() -> Answer {
    Answer {
        value: AnswerValue::ErrorTransient,
        ttl: REFUSED_TTL_SECS,
    }
}

fn send_end(circuit: CircuitKey, id: StreamId, end: End, ctx: &mut Context<'_>) {
    let mut body = Vec::with_capacity(21);
    end.write(&mut body);
    ctx.send(circuit, RelayCommand::END, id, &body);
}

fn send_resolved(circuit: CircuitKey, id: StreamId, answers: Vec<Answer>, ctx: &mut Context<'_>) {
    let mut resolved = Resolved { answers };
    let mut body = Vec::new();
    // What does not fit a cell is left out, from the end.
    while resolved.write(&mut body).is_err() && resolved.answers.pop().is_some() {}
    ctx.send(circuit, RelayCommand::RESOLVED, id, &body);
}
