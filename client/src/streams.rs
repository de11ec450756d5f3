//! The streams of applications: requests until they are answered, and what is open since
//! (path-spec 2.1.2, 3).
//!
//! ```text
//! request ─▶ attach_waiting ─▶ a circuit: built, in the making, a new one ─▶ stream ─▶ answer
//!    ▲                         a visit, for onion services                      │
//!    └───────────────────────── another circuit, exit or visit ◀────────────────┘
//! ```
//!
//! The stream is opened, and optimistic data sent, as soon as a circuit is there; the shell gets
//! the stream when the exit is connected. Until then a request may move from exit to exit unseen.

pub mod address_map;
mod answers;
pub mod automap;
mod by_hand;
pub(crate) mod request;
pub mod virtual_nets;
mod visiting;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cepa_circuit::{CircuitKey, StreamKey};
use cepa_crypto::RsaId;
use cepa_wire::Now;
use cepa_wire::end::EndReason;
use cepa_wire::socks::{SocksRequest, SocksStatus};

use crate::circuits::Circuits;
use crate::command::Command;
use crate::config::ClientConfig;
use crate::context::Context;
use crate::isolation::Isolation;
use crate::names::{CircuitId, RequestId};
use crate::onion::Onion;
use crate::plane::{Plane, StreamPlace, StreamTarget};
use crate::select::paths::{ExitNeed, PathError};
use crate::status::{Listener, StreamChange, StreamEnd, StreamStatus};
use address_map::AddressMap;
use request::{EARLY_BYTES_MAX, Request, Rewritten, State, Via, rewrite};

/// Most requests that wait at a time.
pub(crate) const REQUESTS_MAX: usize = 4096;
/// How long an exit that refused a port is not asked for it, if others can be.
const REFUSAL_AGE_MAX: Duration = Duration::from_secs(3600);
/// Refusals that are remembered.
const REFUSALS_MAX: usize = 256;

/// All streams of applications.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// Requests that wait for an answer.
    pub(crate) by_id: BTreeMap<RequestId, Request>,
    pub(crate) by_stream: BTreeMap<StreamKey, RequestId>,
    /// Those that were answered with a stream, until it is closed; and why it has ended,
    /// if it has.
    open: BTreeMap<StreamKey, (StreamStatus, Option<StreamEnd>)>,
    /// Exits that said that their policy refuses what its summary allows, by port (tor-spec 6.2).
    refusals: BTreeMap<(RsaId, u16), Instant>,
    /// Counts new identities: streams of two share no circuit.
    session: u64,
    /// New streams wait for a controller.
    pub(crate) leaves_streams: bool,
    /// Addresses that stand for others.
    pub(crate) map: AddressMap,
}

impl Streams {
    /// Takes a request of an application, with what came behind it (optimistic data).
    pub(crate) fn handle_request(
        &mut self,
        mut status: StreamStatus,
        request: &SocksRequest,
        early: Vec<u8>,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let id = status.id;
        debug_assert!(
            !self.by_id.contains_key(&id),
            "each request has an id of its own"
        );
        status.isolation.session = self.session;
        let full = self.by_id.len() >= REQUESTS_MAX || early.len() > EARLY_BYTES_MAX;
        // What waits for a controller is mapped when it is attached.
        let map = (!self.leaves_streams).then_some(&self.map);
        let mapped = map.and_then(|map| map.rewrite(&request.address));
        let aimed = mapped.map(|address| SocksRequest {
            address,
            ..request.clone()
        });
        let request = aimed.as_ref().unwrap_or(request);
        match rewrite(request, by_hand::allows_internal(ctx)) {
            _ if full => self.refuse(id, SocksStatus::GENERAL_FAILURE, ctx),
            _ if circuits.is_off => self.refuse(id, SocksStatus::NETWORK_UNREACHABLE, ctx),
            Rewritten::Refuse(status) => self.refuse(id, shown(status, ctx.config), ctx),
            Rewritten::Answer(answers) => {
                let request = id;
                ctx.commands
                    .push_back(Command::SocksResolved { request, answers });
            }
            Rewritten::Ask(target, via) => {
                let mapped = aimed.map(|aimed| aimed.address);
                let mut request = Request::new(target, via, status, early, ctx.now);
                request.heed(&ctx.config.overrides.circuits, ctx.now);
                if let Via::Exit(need) = via {
                    circuits.upkeep.note_need(need, ctx.now);
                    if let ExitNeed::Port { port, .. } = need {
                        request.shun(self.refusals(port, ctx.now));
                    }
                }
                self.by_id.insert(id, request);
                self.tell(id, StreamChange::New, ctx.listener);
                self.show_mapped(id, mapped, ctx);
                self.leave_to_controller(id, ctx);
            }
        }
    }

    /// More optimistic data for a request that is not answered yet; returns how much was taken.
    pub(crate) fn handle_early(
        &mut self,
        id: RequestId,
        bytes: &[u8],
        ctx: &mut Context<'_>,
    ) -> usize {
        let Some(request) = self.by_id.get_mut(&id) else {
            return 0;
        };
        let room = EARLY_BYTES_MAX.saturating_sub(request.early.len());
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        request.early.extend_from_slice(taken);
        request.send_early(ctx);
        taken.len()
    }

    /// The application hung up before its answer.
    pub(crate) fn cancel(
        &mut self,
        id: RequestId,
        onion: &mut Onion,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let end = StreamChange::Failed(StreamEnd::Ours(EndReason::DONE));
        let Some(request) = self.take(id, end, ctx.listener) else {
            return;
        };
        if let State::Attached { stream, .. } = request.state {
            self.close(stream, EndReason::DONE, onion, circuits, ctx);
        }
        self.cancel_visit(request.visit(), onion, ctx.now);
    }

    /// From now on no stream shares a circuit with earlier ones.
    pub(crate) fn new_session(&mut self) {
        self.session += 1;
    }

    /// Takes out a request that is over, and tells how.
    fn take(
        &mut self,
        id: RequestId,
        change: StreamChange,
        listener: &mut Listener,
    ) -> Option<Request> {
        self.tell(id, change, listener);
        let request = self.by_id.remove(&id)?;
        if let State::Attached { stream, .. } = request.state {
            self.by_stream.remove(&stream);
        }
        Some(request)
    }

    fn refuse(&mut self, request: RequestId, status: SocksStatus, ctx: &mut Context<'_>) {
        let end = StreamEnd::Refused(status);
        self.take(request, StreamChange::Failed(end), ctx.listener);
        ctx.commands
            .push_back(Command::SocksFailed { request, status });
    }

    fn waiting(&self) -> Vec<RequestId> {
        let waits = |request: &Request| request.state == State::Waiting && !request.is_left;
        let waiting = self.by_id.iter().filter(|(_, one)| waits(one));
        waiting.map(|(id, _)| *id).collect()
    }

    /// Gives each waiting request a circuit, or begins one for it.
    pub(crate) fn attach_waiting(&mut self, circuits: &mut Circuits, ctx: &mut Context<'_>) {
        for id in self.waiting() {
            if circuits.choice.is_cut_off() {
                self.refuse(id, SocksStatus::NOT_ALLOWED, ctx);
            }
            let Some(request) = self.by_id.get_mut(&id) else {
                continue;
            };
            request.forget_late(Some(ctx.now));
            let Some(usage) = request.usage(circuits.choice.long_lived_ports()) else {
                continue;
            };
            if let Some((circuit, key)) = circuits.pool.find_built(&usage, ctx.now) {
                self.attach(id, (circuit, key, None), circuits, ctx);
            } else if let Some(circuit) = circuits.pool.find_pending(&usage, ctx.now) {
                reserve(circuit, &request.status.isolation, circuits);
            } else if circuits.upkeep.may_launch(ctx.now) {
                self.launch_for(id, circuits, ctx);
            }
        }
    }

    fn launch_for(&mut self, id: RequestId, circuits: &mut Circuits, ctx: &mut Context<'_>) {
        let Some(request) = self.by_id.get_mut(&id) else {
            return;
        };
        let Via::Exit(need) = request.via else {
            return;
        };
        let view = ctx.view;
        let is_nowhere = |circuits: &Circuits, excluded: &[RsaId]| {
            view.is_some_and(|view| !circuits.choice.has_exit(need, excluded, view))
        };
        match circuits.launch(need, &request.excluded_exits, ctx) {
            Ok(Some(circuit)) => reserve(circuit, &request.status.isolation, circuits),
            Ok(None) => {}
            Err(PathError::NoExit) if request.forget_late(None) => {
                self.launch_for(id, circuits, ctx);
            }
            Err(PathError::NoExit) if is_nowhere(circuits, &request.excluded_exits) => {
                let status = request.failure;
                self.refuse(id, status, ctx);
            }
            Err(error) => {
                tracing::debug!("no path: {error}");
                circuits.upkeep.note_no_path(ctx.now);
            }
        }
    }

    /// Opens a request's stream over a circuit, at a hop or at its end.
    fn attach(
        &mut self,
        id: RequestId,
        (circuit, key, hop): (CircuitId, CircuitKey, Option<usize>),
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let Some(request) = self.by_id.get_mut(&id) else {
            return;
        };
        let place = StreamPlace { circuit: key, hop };
        match ctx.plane.open_stream(place, &request.target, ctx.now) {
            Ok(stream) => {
                request.attach(stream, circuit, ctx.now);
                self.by_stream.insert(stream, id);
                let isolation = &request.status.isolation;
                circuits.pool.used(circuit, Some(isolation), ctx.now);
                ctx.listener
                    .tell_stream(StreamChange::Asked, Some(&request.status));
                request.send_early(ctx);
            }
            Err(error) => {
                tracing::debug!("a stream cannot be opened: {error}");
                // Not to be found again: it takes no more streams.
                if let Some(entry) = circuits.pool.entry_mut(circuit) {
                    entry.wear_out(ctx.now);
                }
            }
        }
    }

    /// Our side of a stream is over; perhaps it was the last one of a visit: true then.
    pub(crate) fn close(
        &mut self,
        stream: StreamKey,
        reason: EndReason,
        onion: &mut Onion,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) -> bool {
        let circuit = ctx.plane.stream_circuit(stream);
        let carried = ctx.plane.stream_carried(stream);
        ctx.plane.stream_close(stream, reason, ctx.now);
        if let Some((status, end)) = self.open.remove(&stream) {
            ctx.listener.tell_stream_carried(status.id, carried);
            // Perhaps its far end closed it before, or a controller.
            let end = end.unwrap_or(StreamEnd::Ours(reason));
            ctx.listener
                .tell_stream(StreamChange::Closed(end), Some(&status));
        }
        circuit.is_some_and(|key| note_left(key, onion, circuits, ctx))
    }

    /// Looks at the requests whose time has come.
    pub(crate) fn review(
        &mut self,
        onion: &mut Onion,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let due = |request: &Request| request.deadline() <= ctx.now.mono;
        let late = self.by_id.iter().filter(|(_, request)| due(request));
        for id in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(request) = self.by_id.get(&id) else {
                continue;
            };
            let (visit, state) = (request.visit(), request.state);
            if request.until <= ctx.now.mono {
                if let State::Attached { stream, .. } = state {
                    self.close(stream, EndReason::DONE, onion, circuits, ctx);
                }
                self.refuse(id, SocksStatus::TTL_EXPIRED, ctx);
                self.cancel_visit(visit, onion, ctx.now);
            } else if visit.is_some() {
                self.doubt_visit(id, onion, ctx);
            } else {
                self.time_out(id, onion, circuits, ctx);
            }
        }
    }

    /// When the first request is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.by_id.values().map(Request::deadline).min()
    }

    /// An exit's policy refuses what was asked of it.
    fn note_refusal(&mut self, exit: RsaId, port: u16, now: Now) {
        let is_young = |since: Instant| now.mono.saturating_duration_since(since) < REFUSAL_AGE_MAX;
        self.refusals.retain(|_, since| is_young(*since));
        if self.refusals.len() < REFUSALS_MAX {
            self.refusals.insert((exit, port), now.mono);
        }
    }

    /// The exits that refused a port lately.
    fn refusals(&self, port: u16, now: Now) -> Vec<RsaId> {
        let is_young = |since: Instant| now.mono.saturating_duration_since(since) < REFUSAL_AGE_MAX;
        let refusals = self.refusals.iter();
        let lately = refusals.filter(|((_, refused), since)| *refused == port && is_young(**since));
        lately.map(|((exit, _), _)| *exit).collect()
    }

    /// Whether there is such a stream, open or not.
    pub(crate) fn has(&self, id: RequestId) -> bool {
        let mut open = self.open.values();
        self.by_id.contains_key(&id) || open.any(|(status, _)| status.id == id)
    }

    /// Tells what streams have carried.
    pub(crate) fn tell_carried(&self, plane: &mut Plane, listener: &mut Listener) {
        for (stream, (status, _)) in &self.open {
            let carried = plane.stream_carried(*stream);
            listener.tell_stream_carried(status.id, carried);
        }
    }

    /// The streams, the oldest first.
    pub(crate) fn statuses(&self) -> Vec<StreamStatus> {
        let waiting = self.by_id.values().map(|one| &one.status);
        let open = self.open.values().map(|(status, _)| status);
        let mut all: Vec<StreamStatus> = waiting.chain(open).cloned().collect();
        all.sort_by_key(|one| one.id);
        all
    }

    fn tell(&self, id: RequestId, change: StreamChange, listener: &mut Listener) {
        let request = self.by_id.get(&id);
        listener.tell_stream(change, request.map(|one| &one.status));
    }
}

impl Request {
    /// Sends what the stream has room for of the optimistic data.
    fn send_early(&mut self, ctx: &mut Context<'_>) {
        let State::Attached { stream, .. } = self.state else {
            return;
        };
        if !matches!(self.target, StreamTarget::Begin(_)) {
            return;
        }
        let unsent = self.early.get(self.early_sent..).unwrap_or_default();
        let room = ctx.plane.stream_room(stream).min(unsent.len());
        let now_sent = unsent.get(..room).unwrap_or_default();
        if !now_sent.is_empty() {
            ctx.plane.stream_send(stream, now_sent, ctx.now);
            self.early_sent += room;
        }
    }
}

/// Keeps a circuit in the making for one isolation.
fn reserve(circuit: CircuitId, isolation: &Isolation, circuits: &mut Circuits) {
    if let Some(entry) = circuits.pool.entry_mut(circuit) {
        entry.isolation.get_or_insert_with(|| isolation.clone());
    }
}

/// A stream that used a circuit is over. True if its visit has none any more.
fn note_left(
    key: CircuitKey,
    onion: &mut Onion,
    circuits: &mut Circuits,
    ctx: &Context<'_>,
) -> bool {
    if let Some(id) = circuits.pool.by_key(key) {
        circuits.pool.left(id, ctx.now);
    }
    onion.note_idle(key, circuits, ctx)
}

/// The status as applications may see it.
fn shown(status: SocksStatus, config: &ClientConfig) -> SocksStatus {
    match config.onion_errors {
        true => status,
        false => status.without_extension(),
    }
}
