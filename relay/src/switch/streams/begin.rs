//! How streams begin, and what becomes of that (tor-spec 6.2 to 6.4).
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

use cepa_circuit::{CircuitKey, Stream, StreamKey, StreamSide, StreamState};
use cepa_limits::Held;
use cepa_limits::dos::StreamDefense;
use cepa_wire::begin::Begin;
use cepa_wire::connected::Connected;
use cepa_wire::destroy::DestroyReason;
use cepa_wire::end::EndReason;
use cepa_wire::host::Host;
use cepa_wire::relay::{RelayCommand, StreamId};
use cepa_wire::resolve::{Answer, AnswerValue, Resolve};
use tracing::debug;

use super::{Edge, EdgeKind, REFUSED_TTL_SECS, Streams, failure, send_end, send_resolved};
use crate::exit_policy::ExitPolicy;
use crate::switch::command::Command;
use crate::switch::config::CONNECTING_SHARE;
use crate::switch::context::Context;

impl Streams {
    pub(crate) fn handle_begin(
        &mut self,
        key: CircuitKey,
        id: StreamId,
        data: &[u8],
        ctx: &mut Context<'_>,
    ) {
        if !may_open(key, id, EdgeKind::Exit, ctx) {
            return;
        }
        let begin = match Begin::read(data) {
            Ok(begin) => begin,
            Err(error) => {
                debug!(%error, "BEGIN refused");
                return send_end(key, id, EndReason::TORPROTOCOL.into(), ctx);
            }
        };
        if let Err(reason) = check_hops(key, ctx) {
            return send_end(key, id, reason.into(), ctx);
        }
        let policy = &ctx.shared.config.exit_policy;
        let checked = match begin.host {
            Host::Ip(ip) => ctx.shared.exit_check(ip, begin.port, REFUSED_TTL_SECS),
            Host::Name(_) if policy.allows_somewhere(begin.port) => Ok(()),
            Host::Name(_) => Err(EndReason::EXITPOLICY.into()),
        };
        if let Err(end) = checked {
            return send_end(key, id, end, ctx);
        }
        if !self.may_connect(key, ctx) {
            // Not RESOURCELIMIT, for which clients avoid a relay until the next consensus.
            return send_end(key, id, EndReason::MISC.into(), ctx);
        }
        if let Some(stream) = self.open(key, id, EdgeKind::Exit, ctx) {
            let wanted = Command::Connect { stream, begin };
            ctx.shared.commands.push_back(wanted);
        }
    }

    pub(crate) fn handle_begin_dir(
        &mut self,
        key: CircuitKey,
        id: StreamId,
        ctx: &mut Context<'_>,
    ) {
        if !may_open(key, id, EdgeKind::Dir, ctx) {
            return;
        }
        if !ctx.shared.config.serves_directory {
            return send_end(key, id, EndReason::NOTDIRECTORY.into(), ctx);
        }
        let anonymous = ctx.previous_peer(key).is_some();
        if let Some(stream) = self.open(key, id, EdgeKind::Dir, ctx) {
            let wanted = Command::OpenDir { stream, anonymous };
            ctx.shared.commands.push_back(wanted);
        }
    }

    pub(crate) fn handle_resolve(
        &mut self,
        key: CircuitKey,
        id: StreamId,
        data: &[u8],
        ctx: &mut Context<'_>,
    ) {
        if !may_open(key, id, EdgeKind::Resolve, ctx) {
            return;
        }
        let is_exit = ctx.shared.config.exit_policy.is_exit();
        let refused = |value| Answer {
            value,
            ttl: REFUSED_TTL_SECS,
        };
        let answer = match Resolve::read(data) {
            Ok(Resolve::Host(Host::Ip(ip))) => refused(AnswerValue::Ip(ip)),
            Ok(_) if is_exit && !self.may_connect(key, ctx) => failure(),
            Ok(resolve) if is_exit => {
                if let Some(stream) = self.open(key, id, EdgeKind::Resolve, ctx) {
                    let wanted = Command::Resolve { stream, resolve };
                    ctx.shared.commands.push_back(wanted);
                }
                return;
            }
            Ok(_) | Err(_) => refused(AnswerValue::Error),
        };
        send_resolved(key, id, vec![answer], ctx);
    }

    /// Whether a stream of this circuit may wait for a connection or an answer of the DNS.
    fn may_connect(&self, key: CircuitKey, ctx: &Context<'_>) -> bool {
        let limits = &ctx.shared.config.limits;
        let share = match self.connecting < limits.connecting_max / 2 {
            true => limits.connecting_per_circuit_max,
            false => CONNECTING_SHARE,
        };
        let circuit = ctx.circuits.get(key);
        self.connecting < limits.connecting_max && circuit.is_some_and(|it| it.connecting < share)
    }

    fn open(
        &mut self,
        key: CircuitKey,
        id: StreamId,
        kind: EdgeKind,
        ctx: &mut Context<'_>,
    ) -> Option<StreamKey> {
        let circuit = ctx.circuits.circuit_mut(key)?;
        let relay = circuit.relay.as_ref();
        let agreed = relay.and_then(|relay| relay.window().agreed());
        let stream = self.edges.insert(Edge {
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
        let taken = &mut self.taken;
        *match kind {
            EdgeKind::Exit => &mut taken.begin,
            EdgeKind::Dir => &mut taken.begin_dir,
            EdgeKind::Resolve => &mut taken.resolve,
        } += 1;
        Some(stream)
    }

    /// The outside has connected a stream, to this address, which the client may remember for so
    /// many seconds; to none if it is the directory's.
    pub(crate) fn connected(
        &mut self,
        key: StreamKey,
        to: Option<(SocketAddr, u32)>,
        ctx: &mut Context<'_>,
    ) {
        let Some(edge) = self.edges.get_mut(key) else {
            return;
        };
        if let Some((addr, _)) = to {
            edge.addr = Some(addr);
        }
        let (Some(circuit), id) = (edge.circuit, edge.stream.id()) else {
            return;
        };
        if edge.kind == EdgeKind::Resolve || edge.stream.state() != StreamState::Connecting {
            return debug_assert!(false, "only a stream that connects can be connected");
        }
        edge.stream.connected();
        let kind = edge.kind;
        if kind == EdgeKind::Exit {
            self.count_connected(Some(circuit), ctx.circuits);
        }
        let address: Option<(IpAddr, u32)> = to
            .filter(|_| kind == EdgeKind::Exit)
            .map(|(addr, ttl_secs)| (addr.ip(), ttl_secs));
        let mut body = Vec::with_capacity(25);
        Connected { address }.write(&mut body);
        if ctx.send(circuit, RelayCommand::CONNECTED, id, &body) {
            self.list(key);
        }
    }

    /// The DNS has answered; none at all is told as a failure.
    pub(crate) fn resolved(
        &mut self,
        key: StreamKey,
        mut answers: Vec<Answer>,
        ctx: &mut Context<'_>,
    ) {
        if answers.is_empty() {
            answers.push(failure());
        }
        if let Some((circuit, id, _)) = self.detach(key, ctx.circuits) {
            send_resolved(circuit, id, answers, ctx);
        }
    }

    /// Closes the streams that the policy no longer allows, if that is wanted and it is another
    /// policy than `before` (`ReevaluateExitPolicy`).
    pub(crate) fn reevaluate(&mut self, before: &ExitPolicy, ctx: &mut Context<'_>) {
        let policy = &ctx.shared.config.exit_policy;
        if !policy.reevaluates() || **policy == *before {
            return;
        }
        let refused = self.edges.iter().filter_map(|(key, edge)| {
            let addr = edge.addr?;
            (!policy.allows(addr.ip(), addr.port())).then_some(key)
        });
        let refused: Vec<StreamKey> = refused.collect();
        for stream in refused {
            self.close(stream, EndReason::EXITPOLICY.into(), ctx);
            let gone = Command::CloseStream { stream };
            ctx.shared.commands.push_back(gone);
        }
    }
}

/// Whether a stream of this id may be opened; if not, the client has been told what it needs.
fn may_open(key: CircuitKey, id: StreamId, kind: EdgeKind, ctx: &mut Context<'_>) -> bool {
    let Some(circuit) = ctx.circuits.circuit_mut(key) else {
        return false;
    };
    if circuit.streams.contains_key(&id) {
        debug!("a stream id in use, dropped");
        return false;
    }
    let has = circuit.streams.len();
    let is_full = has >= ctx.shared.config.limits.streams_per_circuit_max;
    if is_full || !ctx.shared.memory.takes_circuits(has) {
        send_end(key, id, EndReason::RESOURCELIMIT.into(), ctx);
        return false;
    }
    let asked = circuit.asked.get_or_insert_default();
    let (defenses, dos) = (&mut ctx.shared.defenses, &ctx.shared.config.dos);
    let refused = match kind {
        EdgeKind::Exit | EdgeKind::Resolve => defenses.refuses_stream(asked, dos, ctx.now),
        EdgeKind::Dir => {
            let peer = ctx.shared.channels.peer(circuit.previous.channel);
            defenses.refuses_begin_dir(asked, peer.is_some(), dos, ctx.now)
        }
    };
    let Some(defense) = refused else {
        return true;
    };
    match (defense, kind) {
        (StreamDefense::Close, _) => ctx.destroy(key, DestroyReason::RESOURCELIMIT),
        (_, EdgeKind::Resolve) => send_resolved(key, id, vec![failure()], ctx),
        // RESOURCELIMIT would have a client of `tor` think that nothing works here.
        (_, EdgeKind::Exit | EdgeKind::Dir) => send_end(key, id, EndReason::MISC.into(), ctx),
    }
    false
}

/// Whether streams may leave at all for who is on the other end of the circuit's channel
/// (`tor`: no exit for those who come straight to it).
fn check_hops(key: CircuitKey, ctx: &Context<'_>) -> Result<(), EndReason> {
    let peer = ctx.previous_peer(key).ok_or(EndReason::TORPROTOCOL)?;
    let relays = &ctx.shared.relays;
    if relays.refuse_unknown_exits && !relays.ids.contains_key(&peer.rsa) {
        return Err(EndReason::MISC);
    }
    Ok(())
}
