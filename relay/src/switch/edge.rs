//! Streams that leave the network here, as the circuit sees them (tor-spec 6.2 to 6.4).
//!
//! ```text
//! BEGIN     ─> Connect ─> connected ─> DATA both ways ─> END
//! BEGIN_DIR ─> OpenDir ─> connected ─> the same
//! RESOLVE   ─> Resolve ─> RESOLVED, and gone
//! ```
//!
//! An id that is in use, and messages for ids that are not, are dropped: they may have crossed an
//! END of ours. BEGIN is refused by the exit policy, and for who is one hop away: a client, or a
//! relay that the consensus does not list.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use cepa_circuit::relay::RelayViolation;
use cepa_circuit::{CircuitKey, Stream, StreamKey, StreamSide, StreamState, StreamViolation};
use cepa_limits::Held;
use cepa_limits::dos::StreamDefense;
use cepa_wire::Now;
use cepa_wire::begin::Begin;
use cepa_wire::destroy::DestroyReason;
use cepa_wire::end::{End, EndReason};
use cepa_wire::host::Host;
use cepa_wire::relay::{RelayCommand, StreamId};
use cepa_wire::resolve::{Answer, AnswerValue, Resolve, Resolved};
use tracing::debug;

use super::Switch;
use super::command::Command;
use super::config::CONNECTING_SHARE;
use crate::exit_policy::ExitPolicy;

/// Seconds for which a client may believe that an address is refused, or does not resolve.
pub(super) const REFUSED_TTL_SECS: u32 = 60;

/// What is at the other end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EdgeKind {
    /// A TCP connection.
    Exit,
    /// Our directory server.
    Dir,
    /// A look-up.
    Resolve,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Edge {
    /// Where it is connected to.
    pub(super) addr: Option<SocketAddr>,
    /// `None` once the circuit is gone; what arrived may still be taken.
    pub(super) circuit: Option<CircuitKey>,
    pub(super) stream: Stream,
    pub(super) kind: EdgeKind,
    /// It is in `ready_streams`.
    pub(super) listed: bool,
    /// There was no room when it was last asked for.
    pub(super) waits_for_room: Cell<bool>,
    /// It is in `paced_streams`.
    pub(super) is_paced: bool,
    /// Since when bytes have waited for the socket.
    pub(super) held: Held,
}

impl Switch {
    pub(super) fn handle_begin(&mut self, key: CircuitKey, id: StreamId, data: &[u8], now: Now) {
        if !self.may_open(key, id, EdgeKind::Exit, now) {
            return;
        }
        let begin = match Begin::read(data) {
            Ok(begin) => begin,
            Err(error) => {
                debug!(%error, "BEGIN refused");
                return self.send_end(key, id, EndReason::TORPROTOCOL.into(), now);
            }
        };
        if let Err(reason) = self.check_hops(key) {
            return self.send_end(key, id, reason.into(), now);
        }
        let checked = match begin.host {
            Host::Ip(ip) => self.exit_check(ip, begin.port, REFUSED_TTL_SECS),
            Host::Name(_) if self.config.exit_policy.allows_somewhere(begin.port) => Ok(()),
            Host::Name(_) => Err(EndReason::EXITPOLICY.into()),
        };
        if let Err(end) = checked {
            return self.send_end(key, id, end, now);
        }
        if !self.may_connect(key) {
            // Not RESOURCELIMIT, for which clients avoid a relay until the next consensus.
            return self.send_end(key, id, EndReason::MISC.into(), now);
        }
        if let Some(stream) = self.open(key, id, EdgeKind::Exit) {
            self.commands.push_back(Command::Connect { stream, begin });
        }
    }

    pub(super) fn handle_begin_dir(&mut self, key: CircuitKey, id: StreamId, now: Now) {
        if !self.may_open(key, id, EdgeKind::Dir, now) {
            return;
        }
        if !self.config.serves_directory {
            return self.send_end(key, id, EndReason::NOTDIRECTORY.into(), now);
        }
        let anonymous = self.previous_peer(key).is_some();
        if let Some(stream) = self.open(key, id, EdgeKind::Dir) {
            self.commands
                .push_back(Command::OpenDir { stream, anonymous });
        }
    }

    pub(super) fn handle_resolve(&mut self, key: CircuitKey, id: StreamId, data: &[u8], now: Now) {
        if !self.may_open(key, id, EdgeKind::Resolve, now) {
            return;
        }
        let resolve = match Resolve::read(data) {
            Ok(Resolve::Host(Host::Ip(ip))) => {
                let answer = Answer {
                    value: AnswerValue::Ip(ip),
                    ttl: REFUSED_TTL_SECS,
                };
                return self.send_resolved(key, id, vec![answer], now);
            }
            Ok(_) if self.config.exit_policy.is_exit() && !self.may_connect(key) => {
                let answer = Answer {
                    value: AnswerValue::ErrorTransient,
                    ttl: REFUSED_TTL_SECS,
                };
                return self.send_resolved(key, id, vec![answer], now);
            }
            Ok(resolve) if self.config.exit_policy.is_exit() => resolve,
            Ok(_) | Err(_) => {
                let answer = Answer {
                    value: AnswerValue::Error,
                    ttl: REFUSED_TTL_SECS,
                };
                return self.send_resolved(key, id, vec![answer], now);
            }
        };
        if let Some(stream) = self.open(key, id, EdgeKind::Resolve) {
            self.commands
                .push_back(Command::Resolve { stream, resolve });
        }
    }

    /// Whether a stream of this id may be opened; if not, the client has been told what it needs.
    fn may_open(&mut self, key: CircuitKey, id: StreamId, kind: EdgeKind, now: Now) -> bool {
        let Some(circuit) = self.circuits.get(key) else {
            return false;
        };
        if circuit.streams.contains_key(&id) {
            debug!("a stream id in use, dropped");
            return false;
        }
        let has = circuit.streams.len();
        let is_full = has >= self.config.limits.streams_per_circuit_max;
        if is_full || !self.ledger.takes_circuits(has) {
            self.send_end(key, id, EndReason::RESOURCELIMIT.into(), now);
            return false;
        }
        let Some(defense) = self.refuses_stream(key, kind, now) else {
            return true;
        };
        match (defense, kind) {
            (StreamDefense::Close, _) => self.destroy(key, DestroyReason::RESOURCELIMIT, now),
            (_, EdgeKind::Resolve) => {
                let answer = Answer {
                    value: AnswerValue::ErrorTransient,
                    ttl: REFUSED_TTL_SECS,
                };
                self.send_resolved(key, id, vec![answer], now);
            }
            // RESOURCELIMIT would have a client of `tor` think that nothing works here.
            (_, EdgeKind::Exit | EdgeKind::Dir) => {
                self.send_end(key, id, EndReason::MISC.into(), now);
            }
        }
        false
    }

    /// Whether a stream of this circuit may wait for a connection or an answer of the DNS.
    fn may_connect(&self, key: CircuitKey) -> bool {
        let limits = &self.config.limits;
        let share = match self.connecting < limits.connecting_max / 2 {
            true => limits.connecting_per_circuit_max,
            false => CONNECTING_SHARE,
        };
        let circuit = self.circuits.get(key);
        self.connecting < limits.connecting_max && circuit.is_some_and(|it| it.connecting < share)
    }

    /// A stream of this circuit waits for nothing more.
    pub(super) fn count_connected(&mut self, circuit: Option<CircuitKey>) {
        self.connecting = self.connecting.saturating_sub(1);
        if let Some(circuit) = circuit.and_then(|key| self.circuits.get_mut(key)) {
            circuit.connecting = circuit.connecting.saturating_sub(1);
        }
    }

    fn open(&mut self, key: CircuitKey, id: StreamId, kind: EdgeKind) -> Option<StreamKey> {
        let circuit = self.circuits.get_mut(key)?;
        let relay = circuit.relay.as_ref();
        let agreed = relay.and_then(|relay| relay.window().agreed());
        let stream = self.streams.insert(Edge {
            addr: None,
            circuit: Some(key),
            stream: Stream::accept(id).with_congestion(agreed, StreamSide::Exit),
            kind,
            listed: false,
            waits_for_room: Cell::new(true),
            is_paced: false,
            held: Held::default(),
        });
        circuit.streams.insert(id, stream);
        if kind != EdgeKind::Dir {
            circuit.connecting += 1;
            self.connecting += 1;
        }
        let taken = &mut self.streams_taken;
        *match kind {
            EdgeKind::Exit => &mut taken.begin,
            EdgeKind::Dir => &mut taken.begin_dir,
            EdgeKind::Resolve => &mut taken.resolve,
        } += 1;
        Some(stream)
    }

    /// The relay that a circuit comes from; `None` if that is a client.
    pub(super) fn previous_peer(&self, key: CircuitKey) -> Option<cepa_link::PeerIdentity> {
        let channel = self.circuits.get(key)?.previous.channel;
        self.channels.get(channel)?.channel.link().peer
    }

    /// Whether streams may leave at all for who is on the other end of the circuit's channel
    /// (`tor`: no exit for those who come straight to it).
    fn check_hops(&self, key: CircuitKey) -> Result<(), EndReason> {
        let peer = self.previous_peer(key).ok_or(EndReason::TORPROTOCOL)?;
        if self.relays.refuse_unknown_exits && !self.relays.ids.contains_key(&peer.rsa) {
            return Err(EndReason::MISC);
        }
        Ok(())
    }

    /// Whether a stream may leave to an address, which a client may remember for `ttl_secs`.
    ///
    /// # Errors
    /// What the client is told: the exit policy refuses it, or it leads back into the network
    /// (for which `tor` says CONNECTREFUSED, so that no other exit is tried).
    pub fn exit_check(&self, address: IpAddr, port: u16, ttl_secs: u32) -> Result<(), End> {
        if !self.config.exit_policy.allows(address, port) {
            return Err(End {
                reason: EndReason::EXITPOLICY,
                refused: Some((address, ttl_secs)),
            });
        }
        if self.relays.is_reentry(address, port) {
            return Err(EndReason::CONNECTREFUSED.into());
        }
        Ok(())
    }

    /// Whether an internal address is an answer to a look-up.
    #[must_use]
    pub fn resolves_internal(&self) -> bool {
        self.config.exit_policy.resolves_internal()
    }

    /// Closes the streams that the policy no longer allows, if that is wanted and it is another
    /// policy than `before` (`ReevaluateExitPolicy`).
    pub(super) fn reevaluate_streams(&mut self, before: &ExitPolicy, now: Now) {
        let policy = Arc::clone(&self.config.exit_policy);
        if !policy.reevaluates() || *policy == *before {
            return;
        }
        let refused = self.streams.iter().filter_map(|(key, edge)| {
            let addr = edge.addr?;
            (!policy.allows(addr.ip(), addr.port())).then_some(key)
        });
        let refused: Vec<StreamKey> = refused.collect();
        for stream in refused {
            self.stream_failed(stream, EndReason::EXITPOLICY, now);
            self.commands.push_back(Command::CloseStream { stream });
        }
    }

    /// DATA for a stream. What has no stream is dropped.
    pub(super) fn handle_stream_data(
        &mut self,
        key: CircuitKey,
        id: StreamId,
        data: &[u8],
        now: Now,
    ) {
        let Some((stream, edge)) = self.edge_mut(key, id) else {
            return;
        };
        match edge.stream.handle_data(data, now.mono) {
            Ok(()) => {
                edge.held.came(data.len(), now.mono);
                self.inbound_bytes += data.len();
                self.list_stream(stream);
                self.send_stream_flow(stream, now);
            }
            Err(StreamViolation::Window(violation)) => {
                self.violated(key, RelayViolation::Window(violation), now);
            }
            Err(StreamViolation::State) => {}
        }
    }

    pub(super) fn handle_end(&mut self, key: CircuitKey, id: StreamId, data: &[u8]) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let Some(stream) = circuit.streams.remove(&id) else {
            return;
        };
        self.end_edge(stream, End::read(data).reason);
    }

    /// The circuit of a stream is gone.
    pub(super) fn orphan(&mut self, stream: StreamKey, _now: Now) {
        self.end_edge(stream, EndReason::DESTROY);
    }

    /// Nothing more comes for a stream, and nothing more may be sent: one that is connected is
    /// read to its end, any other is gone at once.
    fn end_edge(&mut self, key: StreamKey, reason: EndReason) {
        let Some(edge) = self.streams.get_mut(key) else {
            return;
        };
        if edge.stream.state() == StreamState::Open {
            edge.circuit = None;
            edge.stream.handle_end(reason);
            return self.list_stream(key);
        }
        self.drop_edge(key);
        self.commands
            .push_back(Command::CloseStream { stream: key });
    }

    pub(super) fn drop_edge(&mut self, key: StreamKey) -> Option<Edge> {
        let edge = self.streams.remove(key)?;
        self.inbound_bytes = self.inbound_bytes.saturating_sub(edge.held.bytes());
        if edge.kind != EdgeKind::Dir && edge.stream.state() == StreamState::Connecting {
            self.count_connected(edge.circuit);
        }
        Some(edge)
    }

    pub(super) fn edge_mut(
        &mut self,
        key: CircuitKey,
        id: StreamId,
    ) -> Option<(StreamKey, &mut Edge)> {
        let stream = *self.circuits.get(key)?.streams.get(&id)?;
        Some((stream, self.streams.get_mut(stream)?))
    }

    pub(super) fn list_stream(&mut self, key: StreamKey) {
        if let Some(edge) = self.streams.get_mut(key)
            && !std::mem::replace(&mut edge.listed, true)
        {
            self.ready_streams.push(key);
        }
    }

    pub(super) fn send_end(&mut self, key: CircuitKey, id: StreamId, end: End, now: Now) {
        let mut body = Vec::with_capacity(21);
        end.write(&mut body);
        self.send_message(key, RelayCommand::END, id, &body, now);
    }

    pub(super) fn send_resolved(
        &mut self,
        key: CircuitKey,
        id: StreamId,
        answers: Vec<Answer>,
        now: Now,
    ) {
        let mut resolved = Resolved { answers };
        let mut body = Vec::new();
        // What does not fit a cell is left out, from the end.
        while resolved.write(&mut body).is_err() && resolved.answers.pop().is_some() {}
        self.send_message(key, RelayCommand::RESOLVED, id, &body, now);
    }
}
