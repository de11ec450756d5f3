//! Requests of applications: attached to circuits, tried again elsewhere, answered
//! (path-spec 2.1.2, 3).
//!
//! The stream is opened, and optimistic data sent, as soon as a circuit is there; the shell gets
//! the stream when the exit is connected. Until then a request may move from exit to exit unseen.

use std::net::IpAddr;

use cepa_circuit::{CircuitKey, StreamKey};
use cepa_crypto::RsaId;
use cepa_netdoc::policy::is_internal;
use cepa_wire::Now;
use cepa_wire::end::EndReason;
use cepa_wire::host::{self, Host};
use cepa_wire::resolve::{Answer, AnswerValue};
use cepa_wire::socks::{SocksRequest, SocksStatus};

use super::Client;
use crate::circuits::pool::{CircuitId, Purpose};
use crate::command::{Command, RequestId};
use crate::isolation::Isolation;
use crate::plane::StreamTarget;
use crate::select::paths::{self, ExitNeed, PathError, PathRules};
use crate::status::{StreamChange, StreamEnd, StreamSource, StreamStatus};
use crate::streams::requests::{
    EARLY_BYTES_MAX, Outset, REQUESTS_MAX, Request, State, Verdict, Via, outset,
};

impl Client {
    /// A request of an application. `early` is what came behind it (optimistic data). The answer
    /// is one of [`Command::SocksConnected`], [`Command::SocksResolved`], [`Command::SocksFailed`].
    pub fn handle_socks_request(
        &mut self,
        id: RequestId,
        request: &SocksRequest,
        source: StreamSource,
        mut isolation: Isolation,
        early: Vec<u8>,
        now: Now,
    ) {
        debug_assert!(
            !self.requests.by_id.contains_key(&id),
            "each request has an id of its own"
        );
        self.wake(now);
        isolation.session = self.upkeep.session;
        let full = self.requests.by_id.len() >= REQUESTS_MAX || early.len() > EARLY_BYTES_MAX;
        let rejects = self.config.reject_internal;
        match outset(request, !rejects.unwrap_or(!self.network.is_testing)) {
            _ if full => self.refuse(id, SocksStatus::GENERAL_FAILURE),
            Outset::Refuse(status) => self.refuse(id, self.shown(status)),
            Outset::Answer(answers) => {
                let request = id;
                self.commands
                    .push_back(Command::SocksResolved { request, answers });
            }
            Outset::Ask(target, via) => {
                if let Via::Exit(need) = via {
                    self.upkeep.note_need(need, now);
                }
                let status = StreamStatus::new(id, request, source, isolation, now);
                let mut request = Request::new(target, via, status, early, now);
                if let Via::Exit(ExitNeed::Port { port, .. }) = via {
                    request.shun(self.requests.refusals(port, now));
                }
                self.requests.by_id.insert(id, request);
                self.tell_request(id, StreamChange::New);
            }
        }
        self.settle(now);
    }

    /// More optimistic data for a request that is not answered yet; returns how much was taken.
    pub fn handle_socks_early(&mut self, id: RequestId, bytes: &[u8], now: Now) -> usize {
        let Some(request) = self.requests.by_id.get_mut(&id) else {
            return 0;
        };
        let room = EARLY_BYTES_MAX.saturating_sub(request.early.len());
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        request.early.extend_from_slice(taken);
        let taken = taken.len();
        self.send_early(id, now);
        self.settle_events(now);
        taken
    }

    /// The application hung up before its answer.
    pub fn cancel_socks_request(&mut self, id: RequestId, now: Now) {
        let end = StreamChange::Failed(StreamEnd::Ours(EndReason::DONE));
        let Some(request) = self.take_request(id, end) else {
            return;
        };
        if let State::Attached { stream, .. } = request.state {
            self.close_stream(stream, EndReason::DONE, now);
        }
        self.cancel_visit(request.visit(), now);
        self.settle(now);
    }

    /// From now on no stream shares a circuit with earlier ones (the signal NEWNYM).
    pub fn new_session(&mut self, now: Now) {
        self.upkeep.session += 1;
        self.visits.forget_all();
        self.settle(now);
    }

    /// Takes out a request that is over, and tells how.
    fn take_request(&mut self, id: RequestId, change: StreamChange) -> Option<Request> {
        self.tell_request(id, change);
        self.requests.remove(id)
    }

    pub(super) fn refuse(&mut self, request: RequestId, status: SocksStatus) {
        let end = StreamEnd::Refused(status);
        self.take_request(request, StreamChange::Failed(end));
        self.commands
            .push_back(Command::SocksFailed { request, status });
    }

    /// Gives each waiting request a circuit, or begins one for it.
    pub(super) fn attach_waiting(&mut self, now: Now) {
        if !self.is_ready(now) {
            return;
        }
        for id in self.requests.waiting() {
            if self.is_cut_off {
                self.refuse(id, SocksStatus::NOT_ALLOWED);
            }
            let Some(request) = self.requests.by_id.get_mut(&id) else {
                continue;
            };
            request.forget_late(Some(now));
            let Some(wish) = request.wish() else {
                continue;
            };
            if let Some((circuit, key)) = self.pool.find_built(&wish, now) {
                self.attach(id, circuit, key, now);
            } else if let Some(circuit) = self.pool.find_pending(&wish, now) {
                let isolation = request.status.isolation.clone();
                self.reserve(circuit, isolation);
            } else if self.upkeep.launch_after <= now.mono {
                self.launch_for(id, now);
            }
        }
    }

    /// Keeps a circuit in the making for one isolation.
    fn reserve(&mut self, circuit: CircuitId, isolation: Isolation) {
        if let Some(entry) = self.pool.entry_mut(circuit) {
            entry.isolation.get_or_insert(isolation);
        }
    }

    fn launch_for(&mut self, id: RequestId, now: Now) {
        let Some(request) = self.requests.by_id.get(&id) else {
            return;
        };
        let Via::Exit(need) = request.via else {
            return;
        };
        let isolation = request.status.isolation.clone();
        let (excluded, status) = (request.excluded_exits.clone(), request.failure);
        match self.launch(need, &excluded, now) {
            Ok(Some(circuit)) => self.reserve(circuit, isolation),
            Ok(None) => {}
            Err(PathError::NoExit) if self.forget_late(id) => self.launch_for(id, now),
            Err(PathError::NoExit) if !self.has_exit(need, &excluded) => self.refuse(id, status),
            Err(error) => {
                tracing::debug!("no path: {error}");
                self.upkeep.note_no_path(now);
            }
        }
    }

    fn forget_late(&mut self, id: RequestId) -> bool {
        let request = self.requests.by_id.get_mut(&id);
        request.is_some_and(|request| request.forget_late(None))
    }

    fn has_exit(&self, need: paths::ExitNeed, excluded_exits: &[RsaId]) -> bool {
        let rules = PathRules {
            need,
            entries: &[],
            permits: &self.permits,
            excluded_exits,
            distinct_subnets: !self.config.subnets_shared,
        };
        self.download
            .view()
            .is_none_or(|view| paths::has_exit(view, &rules))
    }

    pub(super) fn attach(&mut self, id: RequestId, circuit: CircuitId, key: CircuitKey, now: Now) {
        let Some(request) = self.requests.by_id.get_mut(&id) else {
            return;
        };
        match self.plane.open_stream(key, &request.target, now) {
            Ok(stream) => {
                request.attach(stream, circuit, now);
                self.requests.by_stream.insert(stream, id);
                self.pool
                    .used(circuit, Some(&request.status.isolation), now);
                self.tell_request(id, StreamChange::Asked);
                self.note_tried(circuit);
                self.send_early(id, now);
            }
            Err(error) => {
                tracing::debug!("a stream cannot be opened: {error}");
                // Not to be found again: it takes no more streams.
                if let Some(entry) = self.pool.entry_mut(circuit) {
                    entry.wear_out(now);
                }
            }
        }
    }

    /// Sends what the stream has room for of the optimistic data.
    fn send_early(&mut self, id: RequestId, now: Now) {
        let Some(request) = self.requests.by_id.get_mut(&id) else {
            return;
        };
        let State::Attached { stream, .. } = request.state else {
            return;
        };
        if !matches!(request.target, StreamTarget::Begin(_)) {
            return;
        }
        let unsent = request.early.get(request.early_sent..).unwrap_or_default();
        let room = self.plane.stream_room(stream).min(unsent.len());
        let now_sent = unsent.get(..room).unwrap_or_default();
        if !now_sent.is_empty() {
            self.plane.stream_send(stream, now_sent, now);
            request.early_sent += room;
        }
    }

    /// Whether an address that an exit tells is not believed: an internal one leads elsewhere here
    /// than there.
    fn disbelieves(&self, address: IpAddr) -> bool {
        let rejects = self.config.dns_reject_internal;
        rejects.unwrap_or(!self.network.is_testing) && is_internal(address)
    }

    pub(super) fn request_connected(
        &mut self,
        stream: StreamKey,
        address: Option<(IpAddr, u32)>,
        now: Now,
    ) {
        let bound = address.map(|(ip, _)| ip);
        let Some(id) = self.requests.by_stream.get(&stream).copied() else {
            return;
        };
        let asked = self
            .requests
            .by_id
            .get(&id)
            .and_then(Request::asked_address);
        if bound.is_some_and(|bound| Some(bound) != asked && self.disbelieves(bound)) {
            tracing::info!("an exit says that it has connected to an internal address");
            return self.detach(id, EndReason::TORPROTOCOL, now);
        }
        self.note_answer(stream, true);
        if let Some((ip, ttl)) = address {
            self.tell_address(id, Host::Ip(ip), ttl);
            self.tell_request(id, StreamChange::Remapped(ip));
        }
        let Some(request) = self.requests.connected(id) else {
            return;
        };
        self.tell_open(stream, StreamChange::Succeeded);
        let early = request
            .early
            .get(request.early_sent..)
            .unwrap_or_default()
            .to_vec();
        self.commands.push_back(Command::SocksConnected {
            request: id,
            stream,
            bound,
            early,
        });
    }

    pub(super) fn request_resolved(&mut self, stream: StreamKey, answers: Vec<Answer>, now: Now) {
        let Some(id) = self.requests.by_stream.get(&stream).copied() else {
            return;
        };
        self.note_answer(stream, true);
        let mut good = answers;
        let transient = good
            .iter()
            .any(|one| one.value == AnswerValue::ErrorTransient);
        let before = good.len();
        good.retain(|one| match &one.value {
            AnswerValue::Ip(ip) => !self.disbelieves(*ip),
            AnswerValue::Name(name) => str::from_utf8(name).is_ok_and(host::is_name),
            _ => true,
        });
        let lied = good.len() < before;
        good.retain(|one| matches!(one.value, AnswerValue::Name(_) | AnswerValue::Ip(_)));
        if !good.is_empty() {
            for one in &good {
                match &one.value {
                    AnswerValue::Ip(ip) => self.tell_address(id, Host::Ip(*ip), one.ttl),
                    AnswerValue::Name(name) => {
                        let name = String::from_utf8_lossy(name).into_owned();
                        self.tell_address(id, Host::Name(name), one.ttl);
                    }
                    _ => {}
                }
            }
            let done = StreamEnd::Peer(EndReason::DONE);
            self.take_request(id, StreamChange::Closed(done));
            let (request, answers) = (id, good);
            self.commands
                .push_back(Command::SocksResolved { request, answers });
        } else if lied {
            tracing::info!("an exit answers a look-up with an internal address, or with no name");
            self.resolve_failed(id);
        } else if transient {
            self.detach(id, EndReason::RESOLVEFAILED, now);
        } else {
            self.refuse(id, SocksStatus::HOST_UNREACHABLE);
        }
    }

    /// A look-up has failed for now: another time there may be an answer.
    fn resolve_failed(&mut self, id: RequestId) {
        let end = StreamEnd::Peer(EndReason::RESOLVEFAILED);
        if self.take_request(id, StreamChange::Failed(end)).is_some() {
            let answer = Answer {
                value: AnswerValue::ErrorTransient,
                ttl: 0,
            };
            let (request, answers) = (id, vec![answer]);
            self.commands
                .push_back(Command::SocksResolved { request, answers });
        }
    }

    pub(super) fn request_ended(&mut self, stream: StreamKey, reason: EndReason, now: Now) {
        if let Some(id) = self.requests.by_stream.get(&stream).copied() {
            // These are of the circuit's making, the others come from an exit that was reached.
            let is_bad = [
                EndReason::DESTROY,
                EndReason::TORPROTOCOL,
                EndReason::INTERNAL,
            ];
            self.note_answer(stream, !is_bad.contains(&reason));
            self.detach(id, reason, now);
        } else if let Some((_, end)) = self.requests.open.get_mut(&stream) {
            *end = Some(reason);
        }
    }

    /// A stream ended before it was connected.
    pub(super) fn detach(&mut self, id: RequestId, reason: EndReason, now: Now) {
        // A circuit that broke says nothing against its exit.
        let broke = reason == EndReason::DESTROY;
        self.detach_with(id, Some(reason), now, |request, exit| {
            request.detach(reason, exit.filter(|_| !broke))
        });
    }

    /// A try has failed: another, or the bad news.
    fn detach_with(
        &mut self,
        id: RequestId,
        reason: Option<EndReason>,
        now: Now,
        judge: impl FnOnce(&mut Request, Option<RsaId>) -> Verdict,
    ) {
        let Some(request) = self.requests.by_id.get_mut(&id) else {
            return;
        };
        let State::Attached {
            stream, circuit, ..
        } = request.state
        else {
            return;
        };
        let exit = match self.pool.entry(circuit).map(|entry| &entry.purpose) {
            Some(Purpose::General(exit)) => Some(exit.rsa_id),
            _ => None,
        };
        let no_answer = reason == Some(EndReason::RESOLVEFAILED)
            && matches!(request.target, StreamTarget::Resolve(_));
        let end = match reason {
            Some(reason) => StreamEnd::Peer(reason),
            None => StreamEnd::Ours(EndReason::TIMEOUT),
        };
        let verdict = judge(request, exit);
        let refused = match (reason, request.via, exit) {
            (Some(EndReason::EXITPOLICY), Via::Exit(ExitNeed::Port { port, .. }), Some(exit)) => {
                Some((exit, port))
            }
            _ => None,
        };
        if let Some((exit, port)) = refused {
            self.requests.note_refusal(exit, port, now);
        }
        self.requests.by_stream.remove(&stream);
        self.close_stream(stream, EndReason::DONE, now);
        match verdict {
            Verdict::Retry => self.tell_request(id, StreamChange::Detached(circuit, end)),
            Verdict::Refuse(_) if no_answer => self.resolve_failed(id),
            Verdict::Refuse(status) => {
                self.take_request(id, StreamChange::Failed(end));
                self.refuse(id, status);
            }
        }
    }

    /// No answer came: another circuit. Whose fault it was nobody knows; the circuit is not used
    /// again, its exit may be when no other can be reached.
    fn time_out(&mut self, id: RequestId, now: Now) {
        let state = self.requests.by_id.get(&id).map(|request| request.state);
        if let Some(State::Attached { circuit, .. }) = state
            && let Some(entry) = self.pool.entry_mut(circuit)
        {
            entry.wear_out(now);
        }
        self.detach_with(id, None, now, |request, exit| request.time_out(exit, now));
    }

    pub(super) fn review_requests(&mut self, now: Now) {
        let due = |request: &Request| request.deadline() <= now.mono;
        let by_id = self.requests.by_id.iter();
        let late: Vec<RequestId> = by_id
            .filter(|(_, request)| due(request))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            let over = self
                .requests
                .by_id
                .get(&id)
                .is_some_and(|one| one.until <= now.mono);
            if over {
                let visit = self.requests.by_id.get(&id).and_then(Request::visit);
                self.cancel_stream(id, now);
                self.refuse(id, SocksStatus::TTL_EXPIRED);
                self.cancel_visit(visit, now);
            } else if self
                .requests
                .by_id
                .get(&id)
                .and_then(Request::visit)
                .is_some()
            {
                self.doubt_visit(id, now);
            } else {
                self.time_out(id, now);
            }
        }
    }

    fn cancel_stream(&mut self, id: RequestId, now: Now) {
        if let Some(State::Attached { stream, .. }) = self.requests.by_id.get(&id).map(|r| r.state)
        {
            self.close_stream(stream, EndReason::DONE, now);
        }
    }
}
