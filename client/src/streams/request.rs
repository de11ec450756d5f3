//! SOCKS requests until they are answered: what they want, where they were tried, and what a
//! stream's end means for them (path-spec 3, tor-spec 6.3).
//!
//! ```text
//! new ─▶ Waiting ──attach──▶ Attached ──CONNECTED, RESOLVED──▶ answered
//!           ▲                    │
//!           └──retriable end─────┘──other end, too many tries, too late──▶ refused
//! ```

use std::net::IpAddr;
use std::time::{Duration, Instant};

use cepa_circuit::StreamKey;
use cepa_crypto::RsaId;
use cepa_crypto::onion::OnionAddress;
use cepa_netdoc::policy::is_internal;
use cepa_wire::Now;
use cepa_wire::begin::{Begin, BeginFlags};
use cepa_wire::end::EndReason;
use cepa_wire::host::{self, Host};
use cepa_wire::resolve::{Answer, AnswerValue, Resolve};
use cepa_wire::socks::{SocksCommand, SocksRequest, SocksStatus};

use crate::circuits::pool::{SLOW_BUILD, Usage};
use crate::names::{CircuitId, VisitId};
use crate::overrides::CircuitOverrides;
use crate::plane::StreamTarget;
use crate::select::paths::ExitNeed;
use crate::status::{StreamState, StreamStatus};

/// How long a request may take in all (`SocksTimeout`).
pub(crate) const REQUEST_MAX: Duration = Duration::from_secs(120);
/// How long an exit may take to answer before another is asked (`CircuitStreamTimeout`).
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Exits that are asked for one request.
pub(crate) const ATTEMPTS_MAX: u32 = 5;
/// Exits that may fail to resolve or reach a name before that is believed.
const UNREACHABLE_MAX: u32 = 3;
/// Most bytes of optimistic data that are kept for a request.
pub const EARLY_BYTES_MAX: usize = 64 * 1024;

/// One request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) target: StreamTarget,
    pub(crate) via: Via,
    /// How it stands, for readers, and what it shares a circuit by.
    pub(crate) status: StreamStatus,
    /// Optimistic data, kept until the answer, for another try.
    pub(crate) early: Vec<u8>,
    /// How much of it was sent over the present stream.
    pub(crate) early_sent: usize,
    pub(crate) state: State,
    pub(crate) until: Instant,
    /// How long an exit may take to answer.
    answer_max: Duration,
    attempts: u32,
    unreachable: u32,
    /// Why the last try failed.
    pub(crate) failure: SocksStatus,
    pub(crate) excluded_exits: Vec<RsaId>,
    /// An exit that did not answer, which may not have been its fault: excluded for a moment.
    late_exit: Option<(RsaId, Instant)>,
    /// Exits that refused others the like: excluded for as long as there are any besides.
    shunned: Vec<RsaId>,
    /// The service is known to be slow, or was met anew already.
    pub(crate) is_patient: bool,
    /// It waits for a controller.
    pub(crate) is_left: bool,
}

/// Who can serve a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// An exit.
    Exit(ExitNeed),
    /// An onion service; and the visit that is to lead to it, once there is one.
    Onion(OnionAddress, Option<VisitId>),
}

/// Where a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// For a circuit.
    Waiting,
    /// An exit was asked.
    Attached {
        stream: StreamKey,
        circuit: CircuitId,
        since: Instant,
    },
}

/// What follows from a SOCKS request before any circuit is asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rewritten {
    /// Ask an exit, or an onion service.
    Ask(StreamTarget, Via),
    /// The answer is known.
    Answer(Vec<Answer>),
    /// It cannot be.
    Refuse(SocksStatus),
}

/// What follows from an attempt's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Try another exit.
    Retry,
    /// Tell the application.
    Refuse(SocksStatus),
}

/// Reads what a request wants.
pub(crate) fn rewrite(request: &SocksRequest, allow_internal: bool) -> Rewritten {
    let refuse_internal = |ip: &IpAddr| !allow_internal && is_internal(*ip);
    let connects = request.command == SocksCommand::Connect;
    match (request.command, &request.address) {
        (command, Host::Name(name)) if OnionAddress::of_host(name).is_some() => {
            visit(command, name, request.port)
        }
        (_, Host::Name(name)) if ends_with(name, ".onion") => {
            Rewritten::Refuse(SocksStatus::HOST_UNREACHABLE)
        }
        // No exit looks it up: said here at once, as with `tor`.
        (_, Host::Name(name)) if ends_with(name, ".exit") || !host::is_name(name) => {
            Rewritten::Refuse(SocksStatus::GENERAL_FAILURE)
        }
        (_, Host::Name(name)) if connects && !allow_internal && is_local(name) => {
            Rewritten::Refuse(SocksStatus::NOT_ALLOWED)
        }
        (SocksCommand::Connect, _) if request.port == 0 => {
            Rewritten::Refuse(SocksStatus::GENERAL_FAILURE)
        }
        (SocksCommand::Connect, Host::Ip(ip)) if refuse_internal(ip) => {
            Rewritten::Refuse(SocksStatus::NOT_ALLOWED)
        }
        (SocksCommand::Connect, host) => {
            let is_ipv6 = matches!(host, Host::Ip(IpAddr::V6(_)));
            let flags = match host {
                Host::Ip(IpAddr::V4(_)) => BeginFlags::default(),
                _ => BeginFlags::IPV6_OKAY,
            };
            let (host, port) = (host.clone(), request.port);
            let begin = Begin { host, port, flags };
            let via = Via::Exit(ExitNeed::Port { port, is_ipv6 });
            Rewritten::Ask(StreamTarget::Begin(begin), via)
        }
        (SocksCommand::Resolve, Host::Ip(ip)) => Rewritten::Answer(vec![Answer {
            value: AnswerValue::Ip(*ip),
            ttl: 60,
        }]),
        (SocksCommand::Resolve, host) => {
            let resolve = Resolve::Host(host.clone());
            Rewritten::Ask(StreamTarget::Resolve(resolve), Via::Exit(ExitNeed::Any))
        }
        (SocksCommand::ResolvePtr, Host::Ip(ip)) if refuse_internal(ip) => {
            Rewritten::Refuse(SocksStatus::NOT_ALLOWED)
        }
        (SocksCommand::ResolvePtr, Host::Ip(ip)) => {
            let resolve = Resolve::Reverse(*ip);
            Rewritten::Ask(StreamTarget::Resolve(resolve), Via::Exit(ExitNeed::Any))
        }
        (SocksCommand::ResolvePtr, Host::Name(_)) => {
            Rewritten::Refuse(SocksStatus::ADDRESS_TYPE_NOT_SUPPORTED)
        }
    }
}

/// Whether a name is of a kind that must never be looked up outside.
fn ends_with(name: &str, end: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name.ends_with(end)
}

/// Names of this machine and its neighbours, which are others at an exit
/// (`ClientRejectInternalAddresses`).
fn is_local(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.ends_with(".local")
}

/// What follows from a name below `.onion`. There is nothing to look up, and no exit is ever asked.
fn visit(command: SocksCommand, name: &str, port: u16) -> Rewritten {
    match (command, OnionAddress::of_host(name)) {
        (SocksCommand::Connect, Some(Ok(_))) if port == 0 => {
            Rewritten::Refuse(SocksStatus::GENERAL_FAILURE)
        }
        (SocksCommand::Connect, Some(Ok(address))) => {
            // The service looks at the port only (rend-spec-v3 4.2).
            let begin = Begin {
                host: Host::Name(String::new()),
                port,
                flags: BeginFlags::default(),
            };
            Rewritten::Ask(StreamTarget::Begin(begin), Via::Onion(address, None))
        }
        (SocksCommand::Connect, Some(Err(error))) => {
            tracing::info!("an application wants an onion service: {error}");
            Rewritten::Refuse(SocksStatus::HS_BAD_ADDRESS)
        }
        _ => Rewritten::Refuse(SocksStatus::HOST_UNREACHABLE),
    }
}

impl Request {
    pub(crate) fn new(
        target: StreamTarget,
        via: Via,
        status: StreamStatus,
        early: Vec<u8>,
        now: Now,
    ) -> Self {
        Request {
            target,
            via,
            status,
            early,
            early_sent: 0,
            state: State::Waiting,
            until: now.mono + REQUEST_MAX,
            answer_max: ANSWER_MAX,
            attempts: 0,
            unreachable: 0,
            failure: SocksStatus::NOT_ALLOWED,
            excluded_exits: Vec::new(),
            late_exit: None,
            shunned: Vec::new(),
            is_patient: false,
            is_left: false,
        }
    }

    /// Takes as long as an operator wants, at most.
    pub(crate) fn heed(&mut self, overrides: &CircuitOverrides, now: Now) {
        if let Some(request) = overrides.request {
            self.until = now.mono + request;
        }
        if let (Some(answer), Via::Exit(_)) = (overrides.answer, self.via) {
            self.answer_max = answer;
        }
    }

    /// The address that it wants to be connected to, if it is none that a name has.
    pub(crate) fn asked_address(&self) -> Option<IpAddr> {
        match &self.target {
            StreamTarget::Begin(begin) => match begin.host {
                Host::Ip(ip) => Some(ip),
                Host::Name(_) => None,
            },
            _ => None,
        }
    }

    /// What it wants of an exit's circuit, if it is for an exit.
    pub(crate) fn usage(&self, long_lived: &[u16]) -> Option<Usage<'_>> {
        match self.via {
            Via::Exit(need) => Some(Usage {
                need,
                isolation: &self.status.isolation,
                excluded_exits: &self.excluded_exits,
                needs_stable: need.wants_stable(long_lived),
            }),
            Via::Onion(..) => None,
        }
    }

    /// The visit that is to lead to it.
    pub(crate) fn visit(&self) -> Option<VisitId> {
        match self.via {
            Via::Onion(_, visit) => visit,
            Via::Exit(_) => None,
        }
    }

    /// Its visit is over.
    pub(crate) fn leave(&mut self) {
        if let Via::Onion(_, visit) = &mut self.via {
            *visit = None;
        }
    }

    pub(crate) fn attach(&mut self, stream: StreamKey, circuit: CircuitId, now: Now) {
        self.attempts += 1;
        self.is_left = false;
        self.early_sent = 0;
        let since = now.mono;
        self.status.state = StreamState::Asked;
        self.status.circuit = Some(circuit);
        self.state = State::Attached {
            stream,
            circuit,
            since,
        };
    }

    /// It has no circuit any more.
    pub(super) fn wait(&mut self) {
        self.state = State::Waiting;
        (self.status.state, self.status.circuit) = (StreamState::Waiting, None);
    }

    /// The exit could not be asked to the end; `exit` is not asked again. What is retriable is
    /// what `tor` retries.
    pub(crate) fn detach(&mut self, reason: EndReason, exit: Option<RsaId>) -> Verdict {
        self.wait();
        self.excluded_exits.extend(exit);
        self.failure = SocksStatus::from(reason);
        if let Via::Onion(..) = self.via {
            self.leave();
            return self.verdict_of_service(reason);
        }
        let retriable = match reason {
            // The exit's fault, or the circuit's.
            EndReason::EXITPOLICY
            | EndReason::HIBERNATING
            | EndReason::RESOURCELIMIT
            | EndReason::INTERNAL
            | EndReason::DESTROY => true,
            // Perhaps the destination's: believed when several exits agree.
            EndReason::RESOLVEFAILED
            | EndReason::MISC
            | EndReason::NOROUTE
            | EndReason::TIMEOUT => {
                self.unreachable += 1;
                self.unreachable < UNREACHABLE_MAX
            }
            _ => false,
        };
        self.verdict(retriable)
    }

    /// Nobody else can be asked in the place of a service, but it may be met again.
    fn verdict_of_service(&mut self, reason: EndReason) -> Verdict {
        if reason == EndReason::DONE {
            // How services answer for a port that they do not have.
            self.failure = SocksStatus::CONNECTION_REFUSED;
        }
        self.verdict(reason == EndReason::DESTROY)
    }

    /// The exit has not answered in time; another one is preferred for a moment.
    pub(crate) fn time_out(&mut self, exit: Option<RsaId>, now: Now) -> Verdict {
        self.wait();
        self.excluded_exits.extend(exit);
        self.late_exit = exit.map(|exit| (exit, now.mono + SLOW_BUILD));
        self.failure = SocksStatus::TTL_EXPIRED;
        self.verdict(true)
    }

    /// Takes back the exclusion of an exit that was late, if its moment is over. True if it was
    /// taken back.
    pub(crate) fn forget_late(&mut self, now: Option<Now>) -> bool {
        if now.is_none() && !self.shunned.is_empty() {
            let shunned = std::mem::take(&mut self.shunned);
            self.excluded_exits.retain(|id| !shunned.contains(id));
            return true;
        }
        let over = |until: Instant| now.is_none_or(|now| until <= now.mono);
        let Some((exit, _)) = self.late_exit.filter(|(_, until)| over(*until)) else {
            return false;
        };
        self.late_exit = None;
        self.excluded_exits.retain(|id| *id != exit);
        true
    }

    /// Keeps away from exits that have refused others the like.
    pub(crate) fn shun(&mut self, exits: Vec<RsaId>) {
        self.excluded_exits.extend(&exits);
        self.shunned = exits;
    }

    fn verdict(&self, retriable: bool) -> Verdict {
        if retriable && self.attempts < ATTEMPTS_MAX {
            Verdict::Retry
        } else {
            Verdict::Refuse(self.failure)
        }
    }

    /// When the next step is due.
    pub(crate) fn deadline(&self) -> Instant {
        match self.state {
            State::Waiting => self.until,
            // A service whose circuit is alive is not asked twice.
            State::Attached { .. } if self.is_patient => self.until,
            State::Attached { since, .. } => self.until.min(since + self.answer_max),
        }
    }
}

#[cfg(test)]
mod tests;
