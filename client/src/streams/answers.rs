//! What the far ends of streams say: connected, resolved, ended; and what follows for the request
//! (path-spec 3, tor-spec 6.3).

use std::net::IpAddr;

use cepa_circuit::{CircuitKey, StreamKey};
use cepa_crypto::RsaId;
use cepa_netdoc::policy::is_internal;
use cepa_wire::end::EndReason;
use cepa_wire::host::{self, Host};
use cepa_wire::resolve::{Answer, AnswerValue};
use cepa_wire::socks::SocksStatus;

use super::request::{Request, State, Verdict, Via};
use super::{Streams, note_left};
use crate::circuits::Circuits;
use crate::circuits::pool::Purpose;
use crate::command::Command;
use crate::context::Context;
use crate::names::RequestId;
use crate::onion::Onion;
use crate::plane::StreamTarget;
use crate::select::paths::ExitNeed;
use crate::status::{Event, Listener, StreamChange, StreamEnd, StreamState, StreamStatus};

impl Streams {
    /// CONNECTED came.
    pub(crate) fn connected(
        &mut self,
        stream: StreamKey,
        address: Option<(IpAddr, u32)>,
        onion: &mut Onion,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let bound = address.map(|(ip, _)| ip);
        let Some(id) = self.by_stream.get(&stream).copied() else {
            return;
        };
        let asked = self.by_id.get(&id).and_then(Request::asked_address);
        if bound.is_some_and(|bound| Some(bound) != asked && disbelieves(bound, ctx)) {
            tracing::info!("an exit says that it has connected to an internal address");
            return self.detach(id, EndReason::TORPROTOCOL, onion, circuits, ctx);
        }
        circuits.note_answer(stream, true, ctx.plane);
        if let Some((ip, ttl)) = address {
            self.tell_address(id, Host::Ip(ip), ttl, ctx.listener);
            self.tell(id, StreamChange::Remapped(ip), ctx.listener);
        }
        let Some(request) = self.by_id.remove(&id) else {
            return;
        };
        self.by_stream.remove(&stream);
        let status = StreamStatus {
            state: StreamState::Open,
            ..request.status
        };
        ctx.listener
            .tell_stream(StreamChange::Succeeded, Some(&status));
        self.open.insert(stream, (status, None));
        let unsent = request.early.get(request.early_sent..);
        ctx.commands.push_back(Command::SocksConnected {
            request: id,
            stream,
            bound,
            early: unsent.unwrap_or_default().to_vec(),
        });
    }

    /// RESOLVED came.
    pub(crate) fn resolved(
        &mut self,
        stream: StreamKey,
        answers: Vec<Answer>,
        onion: &mut Onion,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let Some(id) = self.by_stream.get(&stream).copied() else {
            return;
        };
        circuits.note_answer(stream, true, ctx.plane);
        let mut good = answers;
        let transient = good
            .iter()
            .any(|one| one.value == AnswerValue::ErrorTransient);
        let before = good.len();
        good.retain(|one| match &one.value {
            AnswerValue::Ip(ip) => !disbelieves(*ip, ctx),
            AnswerValue::Name(name) => str::from_utf8(name).is_ok_and(host::is_name),
            _ => true,
        });
        let lied = good.len() < before;
        good.retain(|one| matches!(one.value, AnswerValue::Name(_) | AnswerValue::Ip(_)));
        if !good.is_empty() {
            for one in &good {
                let shown = match &one.value {
                    AnswerValue::Ip(ip) => Host::Ip(*ip),
                    AnswerValue::Name(name) => {
                        Host::Name(String::from_utf8_lossy(name).into_owned())
                    }
                    _ => continue,
                };
                self.tell_address(id, shown, one.ttl, ctx.listener);
            }
            let done = StreamEnd::Peer(EndReason::DONE);
            self.take(id, StreamChange::Closed(done), ctx.listener);
            let (request, answers) = (id, good);
            ctx.commands
                .push_back(Command::SocksResolved { request, answers });
        } else if lied {
            tracing::info!("an exit answers a look-up with an internal address, or with no name");
            self.resolve_failed(id, ctx);
        } else if transient {
            self.detach(id, EndReason::RESOLVEFAILED, onion, circuits, ctx);
        } else {
            self.refuse(id, SocksStatus::HOST_UNREACHABLE, ctx);
        }
    }

    /// A look-up has failed for now: another time there may be an answer.
    fn resolve_failed(&mut self, id: RequestId, ctx: &mut Context<'_>) {
        let end = StreamEnd::Peer(EndReason::RESOLVEFAILED);
        let failed = StreamChange::Failed(end);
        if self.take(id, failed, ctx.listener).is_some() {
            let answer = Answer {
                value: AnswerValue::ErrorTransient,
                ttl: 0,
            };
            let (request, answers) = (id, vec![answer]);
            ctx.commands
                .push_back(Command::SocksResolved { request, answers });
        }
    }

    /// END came, or the circuit is gone.
    pub(crate) fn ended(
        &mut self,
        stream: StreamKey,
        reason: EndReason,
        onion: &mut Onion,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let circuit: Option<CircuitKey> = ctx.plane.stream_circuit(stream);
        if let Some(id) = self.by_stream.get(&stream).copied() {
            // These are of the circuit's making, the others come from an exit that was reached.
            let is_bad = [
                EndReason::DESTROY,
                EndReason::TORPROTOCOL,
                EndReason::INTERNAL,
            ];
            circuits.note_answer(stream, !is_bad.contains(&reason), ctx.plane);
            self.detach(id, reason, onion, circuits, ctx);
        } else if let Some((_, end)) = self.open.get_mut(&stream) {
            end.get_or_insert(StreamEnd::Peer(reason));
        }
        if let Some(key) = circuit {
            note_left(key, onion, circuits, ctx);
        }
    }

    /// A stream ended before it was connected.
    fn detach(
        &mut self,
        id: RequestId,
        reason: EndReason,
        onion: &mut Onion,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        // A circuit that broke says nothing against its exit.
        let broke = reason == EndReason::DESTROY;
        let judge = |request: &mut Request, exit: Option<RsaId>| {
            request.detach(reason, exit.filter(|_| !broke))
        };
        self.detach_with(id, StreamEnd::Peer(reason), judge, onion, circuits, ctx);
    }

    /// Requests that wait for an exit's answer over circuits that are stalled go elsewhere.
    pub(crate) fn leave_stalled(
        &mut self,
        onion: &mut Onion,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let is_stalled = |request: &Request| match (request.via, request.state) {
            (Via::Exit(_), State::Attached { circuit, .. }) => {
                let entry = circuits.pool.entry(circuit);
                entry.is_some_and(|entry| entry.is_stalled)
            }
            _ => false,
        };
        let asked = self.by_id.iter().filter(|(_, request)| is_stalled(request));
        for id in asked.map(|(id, _)| *id).collect::<Vec<_>>() {
            // Another circuit may answer; the old one says nothing against its exit.
            self.detach(id, EndReason::DESTROY, onion, circuits, ctx);
        }
    }

    /// No answer came: another circuit. Whose fault it was nobody knows; the circuit is not used
    /// again, its exit may be when no other can be reached.
    pub(super) fn time_out(
        &mut self,
        id: RequestId,
        onion: &mut Onion,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let state = self.by_id.get(&id).map(|request| request.state);
        if let Some(State::Attached { circuit, .. }) = state
            && let Some(entry) = circuits.pool.entry_mut(circuit)
        {
            entry.wear_out(ctx.now);
        }
        let (end, now) = (StreamEnd::Ours(EndReason::TIMEOUT), ctx.now);
        let judge = |request: &mut Request, exit| request.time_out(exit, now);
        self.detach_with(id, end, judge, onion, circuits, ctx);
    }

    /// A try has failed: another, or the bad news.
    fn detach_with(
        &mut self,
        id: RequestId,
        end: StreamEnd,
        judge: impl FnOnce(&mut Request, Option<RsaId>) -> Verdict,
        onion: &mut Onion,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let Some(request) = self.by_id.get_mut(&id) else {
            return;
        };
        let State::Attached {
            stream, circuit, ..
        } = request.state
        else {
            return;
        };
        let exit = match circuits.pool.entry(circuit).map(|entry| &entry.purpose) {
            Some(Purpose::General(exit)) => Some(exit.rsa_id),
            _ => None,
        };
        let reason = match end {
            StreamEnd::Peer(reason) => Some(reason),
            _ => None,
        };
        let no_answer = reason == Some(EndReason::RESOLVEFAILED)
            && matches!(request.target, StreamTarget::Resolve(_));
        let verdict = judge(request, exit);
        if let (Some(EndReason::EXITPOLICY), Some(exit)) = (reason, exit)
            && let Via::Exit(ExitNeed::Port { port, .. }) = request.via
        {
            self.note_refusal(exit, port, ctx.now);
        }
        self.by_stream.remove(&stream);
        self.close(stream, EndReason::DONE, onion, circuits, ctx);
        match verdict {
            Verdict::Retry => {
                self.tell(id, StreamChange::Detached(circuit, end), ctx.listener);
                self.leave_to_controller(id, ctx);
            }
            Verdict::Refuse(_) if no_answer => self.resolve_failed(id, ctx),
            Verdict::Refuse(status) => {
                self.take(id, StreamChange::Failed(end), ctx.listener);
                self.refuse(id, status, ctx);
            }
        }
    }

    /// What a request asked for has shown its address or name.
    fn tell_address(&self, id: RequestId, address: Host, ttl_secs: u32, listener: &mut Listener) {
        let Some(request) = self.by_id.get(&id) else {
            return;
        };
        let name = &request.status.host;
        if *name != address {
            listener.tell(|| Event::AddressMap {
                name: name.clone(),
                address,
                ttl_secs,
            });
        }
    }
}

/// Whether an address that an exit tells is not believed: an internal one leads elsewhere here
/// than there.
fn disbelieves(address: IpAddr, ctx: &Context<'_>) -> bool {
    let rejects = ctx.config.dns_reject_internal;
    rejects.unwrap_or(!ctx.network.is_testing) && is_internal(address)
}
