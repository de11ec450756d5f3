//! What happens to a client, in the words of the control protocol (control-spec 4.1).
//!
//! Nothing is kept here: each event is made of one of the client's, or of a snapshot.

mod carried;
mod onion;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use cepa_client::bootstrap::{BootstrapStatus, Phase};
use cepa_client::guards::{GuardStatus, Reachable};
use cepa_client::isolation::Group;
use cepa_client::plane::CircuitClose;
use cepa_client::status::{
    self, BuildTimesChange, CircuitChange, CircuitEnd, CircuitState, CircuitStatus, GuardChange,
    HopStatus, LinkChange, LinkEnd, LinkState, LinkStatus, StreamChange, StreamEnd, StreamState,
    StreamStatus,
};
use cepa_client::{Client, Protocol};
use cepa_control::event::{
    self, AddrMap, Bootstrap, BuildFlag, BuildTimeout, BuildTimeoutKind, CircuitDescription,
    CircuitEvent, CircuitMinor, CircuitMinorEvent, CircuitPurpose, CircuitReason, ClientProtocol,
    Event, IsoField, LongName, OrConnEvent, OrReason, OrStatus, RemapSource, Severity,
    StatusAction, StatusEvent, StatusValue, StreamEvent, StreamIsolation, StreamPurpose,
    StreamReason,
};
use cepa_control::text::service_id;
use cepa_crypto::RsaId;
use cepa_wire::destroy::DestroyReason;
use cepa_wire::end::EndReason;
use cepa_wire::host::Host;
use cepa_wire::socks::{SocksAuth, SocksCommand, SocksStatus, SocksVersion};

/// What one event of a client is to controllers; most are one.
pub(crate) fn events(happened: &status::Event, client: &Client, now: SystemTime) -> Vec<Event> {
    match happened {
        status::Event::Circuit { change, circuit } => vec![circuit_event(*change, circuit)],
        status::Event::Stream { change, stream } => stream_events(change, stream, now),
        status::Event::Link { change, link } => vec![link_event(*change, link, client)],
        status::Event::Guard {
            change,
            guard,
            nickname,
        } => vec![Event::Guard {
            relay: long_name(guard, Some(nickname)),
            status: match change {
                GuardChange::New => event::GuardStatus::New,
                GuardChange::Up => event::GuardStatus::Up,
                GuardChange::Down => event::GuardStatus::Down,
                GuardChange::Dropped => event::GuardStatus::Dropped,
            },
        }],
        status::Event::Bandwidth(traffic) => vec![Event::Bandwidth {
            read: traffic.read_bytes,
            written: traffic.written_bytes,
        }],
        status::Event::CircuitCarried { circuit, carried } => {
            vec![Event::CircuitBandwidth(carried::of_circuit(
                *circuit, carried, now,
            ))]
        }
        status::Event::StreamCarried { stream, carried } => {
            vec![Event::StreamBandwidth(carried::of_stream(
                *stream, carried, now,
            ))]
        }
        status::Event::BuildTimes { change, times } => vec![build_times(*change, times)],
        status::Event::Consensus(_) => vec![
            Event::NewConsensus(super::entries(client.view())),
            notice(StatusAction::ConsensusArrived, Vec::new()),
        ],
        status::Event::Bootstrap(bootstrap) => bootstrap_events(*bootstrap),
        status::Event::AddressMap {
            name,
            address,
            ttl_secs,
        } => vec![Event::AddrMap(AddrMap {
            from: host(name),
            to: Some(host(address)),
            expires: Some(now + Duration::from_secs((*ttl_secs).into())),
            is_cached: false,
            stream: None,
        })],
        status::Event::Liveness(is_live) => vec![Event::NetworkLiveness(*is_live)],
        status::Event::ClockSkew { secs, relay } => vec![clock_skew(*secs, relay, client)],
        status::Event::OnionDescriptor { change, transfer } => {
            onion::events(*change, transfer, client)
        }
        status::Event::ServerDescriptors(relays) if relays.is_empty() => Vec::new(),
        status::Event::ServerDescriptors(relays) => {
            let name = |id: &RsaId| LongName {
                id: *id,
                nickname: client.nickname(id).map(str::to_owned),
            };
            vec![Event::NewDesc(relays.iter().map(name).collect())]
        }
        // Names of relays are not told with these, and a lack of events is none.
        status::Event::Descriptors(_) | status::Event::Missed(_) => Vec::new(),
    }
}

/// The number by which controllers know a stream: 0 is none for them.
pub(crate) fn stream_id(stream: &StreamStatus) -> u64 {
    number_of(stream.id)
}

fn number_of(stream: cepa_client::RequestId) -> u64 {
    stream.0 + 1
}

/// The stream of such a number, if it is one.
pub(crate) fn request_id(number: u64) -> Option<cepa_client::RequestId> {
    number.checked_sub(1).map(cepa_client::RequestId)
}

fn notice(action: StatusAction, arguments: Vec<(&'static str, StatusValue)>) -> Event {
    Event::Status(StatusEvent {
        severity: Severity::Notice,
        action,
        arguments,
    })
}

fn long_name(id: &RsaId, nickname: Option<&String>) -> LongName {
    LongName {
        id: *id,
        nickname: nickname.filter(|nickname| !nickname.is_empty()).cloned(),
    }
}

/// How far our clock is ahead; the client knows how far the directory is.
fn clock_skew(secs: i64, relay: &RsaId, client: &Client) -> Event {
    let mut arguments = vec![("SKEW", StatusValue::Word(secs.saturating_neg().to_string()))];
    let links = client.link_statuses();
    let addr = links
        .iter()
        .find(|link| link.rsa == *relay)
        .and_then(|link| link.addr);
    arguments.extend(addr.map(|addr| ("SOURCE", StatusValue::Word(format!("OR:{addr}")))));
    Event::Status(StatusEvent {
        severity: Severity::Warn,
        action: StatusAction::ClockSkew,
        arguments,
    })
}

/// How far bootstrapping is.
pub(crate) fn bootstrap(status: BootstrapStatus) -> Bootstrap {
    Bootstrap {
        progress: status.percent,
        tag: status.phase.tag().to_owned(),
        summary: status.phase.summary().to_owned(),
        problem: None,
    }
}

fn bootstrap_events(status: BootstrapStatus) -> Vec<Event> {
    let mut events = vec![Event::Status(StatusEvent::from(&bootstrap(status)))];
    match status.phase {
        Phase::EnoughDirinfo => events.push(notice(StatusAction::EnoughDirInfo, Vec::new())),
        Phase::Done => events.push(notice(StatusAction::CircuitEstablished, Vec::new())),
        _ => {}
    }
    events
}

fn build_times(change: BuildTimesChange, times: &status::BuildTimesStatus) -> Event {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Event::BuildTimeoutSet(BuildTimeout {
        kind: match change {
            BuildTimesChange::Computed => BuildTimeoutKind::Computed,
            BuildTimesChange::Reset => BuildTimeoutKind::Reset,
        },
        times: times.count as u64,
        timeout_ms: millis(times.timeout),
        xm_ms: millis(Duration::try_from_secs_f64(times.lowest_ms / 1e3).unwrap_or_default()),
        alpha: times.alpha,
        quantile: times.quantile,
        timeout_rate: times.late,
        close_ms: millis(times.close),
        // None is closed of which it is not known how long it would have taken.
        close_rate: Some(0.0),
    })
}

/// What a circuit is.
pub(crate) fn description(circuit: &CircuitStatus) -> CircuitDescription {
    let hop = |hop: &HopStatus| hop.rsa.map(|rsa| long_name(&rsa, hop.nickname.as_ref()));
    let flags = [
        (circuit.is_one_hop(), BuildFlag::OneHopTunnel),
        (circuit.is_internal(), BuildFlag::IsInternal),
        (
            !circuit.is_one_hop() && !circuit.by_hand,
            BuildFlag::NeedCapacity,
        ),
    ];
    let auth = circuit.isolation.as_ref().and_then(|one| one.auth.as_ref());
    let (socks_username, socks_password) = credentials(auth);
    CircuitDescription {
        path: circuit.path.iter().filter_map(hop).collect(),
        build_flags: flags
            .iter()
            .filter(|(is, _)| *is)
            .map(|(_, flag)| *flag)
            .collect(),
        purpose: purpose(circuit.purpose),
        hs_state: None,
        rend_query: circuit.onion.as_ref().map(service_id),
        created: circuit.created,
        socks_username,
        socks_password,
        pow_effort: None,
    }
}

fn credentials(auth: Option<&SocksAuth>) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    match auth {
        None | Some(SocksAuth::None) => (None, None),
        Some(SocksAuth::Username(name, password)) => (Some(name.clone()), Some(password.clone())),
        Some(SocksAuth::Socks4(name)) => (Some(name.clone()), None),
    }
}

fn purpose(purpose: status::CircuitPurpose) -> CircuitPurpose {
    match purpose {
        status::CircuitPurpose::Directory | status::CircuitPurpose::General => {
            CircuitPurpose::General
        }
        status::CircuitPurpose::Controller => CircuitPurpose::Controller,
        status::CircuitPurpose::OnionPath => CircuitPurpose::HsVanguards,
        status::CircuitPurpose::Fetch => CircuitPurpose::HsClientHsdir,
        status::CircuitPurpose::Upload => CircuitPurpose::HsServiceHsdir,
        status::CircuitPurpose::Introduce => CircuitPurpose::HsClientIntro,
        status::CircuitPurpose::IntroPoint => CircuitPurpose::HsServiceIntro,
        status::CircuitPurpose::Rendezvous => CircuitPurpose::HsClientRend,
        status::CircuitPurpose::ServiceRendezvous => CircuitPurpose::HsServiceRend,
    }
}

fn circuit_event(change: CircuitChange, circuit: &CircuitStatus) -> Event {
    let (status, end) = match change {
        CircuitChange::Launched => (event::CircuitStatus::Launched, None),
        CircuitChange::Extended => (event::CircuitStatus::Extended, None),
        CircuitChange::GuardWait => (event::CircuitStatus::GuardWait, None),
        CircuitChange::Built => (event::CircuitStatus::Built, None),
        CircuitChange::Failed(end) => (event::CircuitStatus::Failed, Some(end)),
        CircuitChange::Closed(end) => (event::CircuitStatus::Closed, Some(end)),
        CircuitChange::Purpose(old) => {
            return Event::CircuitMinor(CircuitMinorEvent {
                id: circuit.id.0,
                event: CircuitMinor::PurposeChanged,
                description: description(circuit),
                old_purpose: purpose(old),
                old_hs_state: None,
            });
        }
    };
    let (reason, remote_reason) = end.map(circuit_reasons).unzip();
    Event::Circuit(CircuitEvent {
        id: circuit.id.0,
        status,
        description: description(circuit),
        reason,
        remote_reason: remote_reason.flatten(),
    })
}

/// Our reason for the end of a circuit, and that of the far end, if it had one.
fn circuit_reasons(end: CircuitEnd) -> (CircuitReason, Option<CircuitReason>) {
    let ours = match end {
        CircuitEnd::Plane(close) => match close {
            CircuitClose::Destroyed(reason) | CircuitClose::Truncated(_, reason) => {
                return (CircuitReason::Destroyed, Some(destroy_reason(reason)));
            }
            CircuitClose::Violation(_) => CircuitReason::TorProtocol,
            CircuitClose::ChannelClosed => CircuitReason::ChannelClosed,
            CircuitClose::MemoryShort | CircuitClose::QueueFull => CircuitReason::ResourceLimit,
            CircuitClose::Requested(reason) => destroy_reason(reason),
        },
        CircuitEnd::Finished | CircuitEnd::Unwanted | CircuitEnd::Room => CircuitReason::Finished,
        CircuitEnd::Timeout | CircuitEnd::Silent => CircuitReason::Timeout,
        CircuitEnd::Measured => CircuitReason::MeasurementExpired,
        CircuitEnd::NoLink => CircuitReason::ConnectFailed,
    };
    (ours, None)
}

fn destroy_reason(reason: DestroyReason) -> CircuitReason {
    match reason {
        DestroyReason::PROTOCOL => CircuitReason::TorProtocol,
        DestroyReason::INTERNAL => CircuitReason::Internal,
        DestroyReason::REQUESTED => CircuitReason::Requested,
        DestroyReason::HIBERNATING => CircuitReason::Hibernating,
        DestroyReason::RESOURCELIMIT => CircuitReason::ResourceLimit,
        DestroyReason::CONNECTFAILED => CircuitReason::ConnectFailed,
        DestroyReason::OR_IDENTITY => CircuitReason::OrIdentity,
        DestroyReason::CHANNEL_CLOSED => CircuitReason::ChannelClosed,
        DestroyReason::FINISHED => CircuitReason::Finished,
        DestroyReason::TIMEOUT => CircuitReason::Timeout,
        DestroyReason::DESTROYED => CircuitReason::Destroyed,
        DestroyReason::NOSUCHSERVICE => CircuitReason::NoSuchService,
        _ => CircuitReason::None,
    }
}

/// The line of a circuit in `GETINFO circuit-status`.
pub(crate) fn circuit_line(circuit: &CircuitStatus) -> String {
    let status = match circuit.state {
        CircuitState::Built => event::CircuitStatus::Built,
        CircuitState::GuardWait => event::CircuitStatus::GuardWait,
        CircuitState::Building | CircuitState::Connecting if circuit.path.is_empty() => {
            event::CircuitStatus::Launched
        }
        CircuitState::Building | CircuitState::Connecting => event::CircuitStatus::Extended,
    };
    format!("{} {status} {}", circuit.id.0, description(circuit))
}

/// A host as lines have it: without spaces, an IPv6 address in brackets.
fn host(host: &Host) -> String {
    match host {
        Host::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
        other => other
            .to_string()
            .replace(|c: char| c.is_whitespace() || c.is_control(), "?"),
    }
}

fn pick<T>(is_look_up: bool, connect: T, look_up: T) -> T {
    if is_look_up { look_up } else { connect }
}

fn stream_events(change: &StreamChange, stream: &StreamStatus, now: SystemTime) -> Vec<Event> {
    let is_look_up = stream.command != SocksCommand::Connect;
    let mut told = StreamEvent {
        id: stream_id(stream),
        status: event::StreamStatus::New,
        circuit: stream.circuit.map_or(0, |circuit| circuit.0),
        target: host(&stream.host),
        port: stream.port,
        reason: None,
        remote_reason: None,
        source: None,
        source_addr: None,
        purpose: None,
        isolation: Some(isolation(stream)),
    };
    let end = happened(change, is_look_up, &mut told, stream);
    let (reason, remote_reason) = end.map(stream_reasons).unzip();
    (told.reason, told.remote_reason) = (reason, remote_reason.flatten());
    let mut events = vec![Event::Stream(told)];
    if is_look_up && matches!(change, StreamChange::Failed(_)) {
        events.push(not_found(stream, now));
    }
    events
}

/// Writes what happened to a stream; how it ended, if it did.
fn happened(
    change: &StreamChange,
    is_look_up: bool,
    told: &mut StreamEvent,
    stream: &StreamStatus,
) -> Option<StreamEnd> {
    match change {
        StreamChange::New => {
            told.status = pick(
                is_look_up,
                event::StreamStatus::New,
                event::StreamStatus::NewResolve,
            );
            told.source_addr = Some(stream.source.addr);
            told.purpose = Some(pick(
                is_look_up,
                StreamPurpose::User,
                StreamPurpose::DnsRequest,
            ));
            None
        }
        StreamChange::Mapped => {
            told.status = event::StreamStatus::Remap;
            told.source = Some(RemapSource::Cache);
            None
        }
        StreamChange::Left => {
            told.status = event::StreamStatus::ControllerWait;
            None
        }
        StreamChange::Asked => {
            let asked = event::StreamStatus::SentConnect;
            told.status = pick(is_look_up, asked, event::StreamStatus::SentResolve);
            None
        }
        StreamChange::Remapped(ip) => {
            told.status = event::StreamStatus::Remap;
            told.target = host(&Host::Ip(*ip));
            told.source = Some(RemapSource::Exit);
            None
        }
        StreamChange::Succeeded => {
            told.status = event::StreamStatus::Succeeded;
            None
        }
        StreamChange::Detached(circuit, end) => {
            told.status = event::StreamStatus::Detached;
            told.circuit = circuit.0;
            Some(*end)
        }
        StreamChange::Failed(end) => {
            told.status = event::StreamStatus::Failed;
            Some(*end)
        }
        StreamChange::Closed(end) => {
            told.status = event::StreamStatus::Closed;
            Some(*end)
        }
    }
}

/// RESOLVE's answers are awaited as mappings, and its failures, too.
fn not_found(stream: &StreamStatus, now: SystemTime) -> Event {
    Event::AddrMap(AddrMap {
        from: host(&stream.host),
        to: None,
        expires: Some(now),
        is_cached: false,
        stream: Some(stream_id(stream)),
    })
}

fn isolation(stream: &StreamStatus) -> StreamIsolation {
    let ours = &stream.isolation;
    let (socks_username, socks_password) = credentials(Some(&stream.auth));
    let fields = [
        (ours.client.is_some(), IsoField::ClientAddr),
        (ours.dest_port.is_some(), IsoField::DestPort),
        (ours.dest_addr.is_some(), IsoField::DestAddr),
        (ours.auth.is_some(), IsoField::SocksUsername),
        (ours.auth.is_some(), IsoField::SocksPassword),
        (ours.protocol.is_some(), IsoField::ClientProtocol),
        (true, IsoField::SessionGroup),
        (true, IsoField::NymEpoch),
    ];
    StreamIsolation {
        socks_username,
        socks_password,
        client_protocol: match stream.source.protocol {
            Protocol::Socks(SocksVersion::V4) => ClientProtocol::Socks4,
            Protocol::Socks(SocksVersion::V5) => ClientProtocol::Socks5,
            Protocol::HttpConnect => ClientProtocol::HttpConnect,
            Protocol::Transparent => ClientProtocol::Trans,
            Protocol::Dns => ClientProtocol::Dns,
        },
        nym_epoch: ours.session,
        session_group: match ours.group {
            Group::Session(number) => number.into(),
            Group::Listener(addr) => listener_group(addr),
        },
        iso_fields: fields
            .iter()
            .filter(|(is, _)| *is)
            .map(|(_, field)| *field)
            .collect(),
    }
}

/// A number below zero for a listener that is a group of its own.
fn listener_group(addr: SocketAddr) -> i64 {
    let ip: u64 = match addr.ip() {
        IpAddr::V4(ip) => u32::from(ip).into(),
        // Two of a machine's addresses differ in their ends.
        IpAddr::V6(ip) => (u128::from(ip) as u64) & ((1 << 40) - 1),
    };
    -1 - i64::try_from((ip << 16) | u64::from(addr.port())).unwrap_or(0)
}

/// Our reason for the end of a stream, and that of the far end, if it had one.
fn stream_reasons(end: StreamEnd) -> (StreamReason, Option<StreamReason>) {
    match end {
        StreamEnd::Peer(EndReason::DESTROY) => (StreamReason::Destroy, None),
        StreamEnd::Peer(reason) => (StreamReason::End, Some(end_reason(reason))),
        StreamEnd::Ours(reason) => (end_reason(reason), None),
        StreamEnd::Refused(status) => (refused(status), None),
        StreamEnd::CannotAttach => (StreamReason::CantAttach, None),
    }
}

fn end_reason(reason: EndReason) -> StreamReason {
    match reason {
        EndReason::RESOLVEFAILED => StreamReason::ResolveFailed,
        EndReason::CONNECTREFUSED => StreamReason::ConnectRefused,
        EndReason::EXITPOLICY => StreamReason::ExitPolicy,
        EndReason::DESTROY => StreamReason::Destroy,
        EndReason::DONE => StreamReason::Done,
        EndReason::TIMEOUT => StreamReason::Timeout,
        EndReason::NOROUTE => StreamReason::NoRoute,
        EndReason::HIBERNATING => StreamReason::Hibernating,
        EndReason::INTERNAL => StreamReason::Internal,
        EndReason::RESOURCELIMIT => StreamReason::ResourceLimit,
        EndReason::CONNRESET => StreamReason::ConnReset,
        EndReason::TORPROTOCOL => StreamReason::TorProtocol,
        EndReason::NOTDIRECTORY => StreamReason::NotDirectory,
        _ => StreamReason::Misc,
    }
}

fn refused(status: SocksStatus) -> StreamReason {
    match status {
        SocksStatus::NOT_ALLOWED => StreamReason::ExitPolicy,
        SocksStatus::NETWORK_UNREACHABLE => StreamReason::NetUnreachable,
        SocksStatus::HOST_UNREACHABLE => StreamReason::ResolveFailed,
        SocksStatus::CONNECTION_REFUSED => StreamReason::ConnectRefused,
        SocksStatus::TTL_EXPIRED | SocksStatus::HS_INTRO_TIMED_OUT => StreamReason::Timeout,
        _ => StreamReason::Misc,
    }
}

/// The line of a stream in `GETINFO stream-status`.
pub(crate) fn stream_line(stream: &StreamStatus) -> String {
    let is_look_up = stream.command != SocksCommand::Connect;
    let status = match (stream.state, is_look_up) {
        (StreamState::Waiting, false) => event::StreamStatus::New,
        (StreamState::Waiting, true) => event::StreamStatus::NewResolve,
        (StreamState::Asked, false) => event::StreamStatus::SentConnect,
        (StreamState::Asked, true) => event::StreamStatus::SentResolve,
        (StreamState::Open, _) => event::StreamStatus::Succeeded,
    };
    let circuit = stream.circuit.map_or(0, |circuit| circuit.0);
    let (id, target) = (stream_id(stream), host(&stream.host));
    format!("{id} {status} {circuit} {target}:{}", stream.port)
}

fn link_name(link: &LinkStatus, client: &Client) -> LongName {
    LongName {
        id: link.rsa,
        nickname: client.nickname(&link.rsa).map(str::to_owned),
    }
}

fn link_event(change: LinkChange, link: &LinkStatus, client: &Client) -> Event {
    let (status, reason) = match change {
        LinkChange::Launched => (OrStatus::Launched, None),
        LinkChange::Connected => (OrStatus::Connected, None),
        LinkChange::Failed => (OrStatus::Failed, Some(OrReason::Misc)),
        LinkChange::Closed(end) => {
            let reason = match end {
                LinkEnd::Idle => OrReason::Done,
                LinkEnd::Silent => OrReason::Timeout,
                LinkEnd::Broken => OrReason::IoError,
            };
            (OrStatus::Closed, Some(reason))
        }
    };
    Event::OrConn(OrConnEvent {
        id: link.id.0,
        target: link_name(link, client).to_string(),
        status,
        reason,
        circuits: None,
    })
}

/// The line of a link in `GETINFO orconn-status`.
pub(crate) fn link_line(link: &LinkStatus, client: &Client) -> String {
    let status = match link.state {
        LinkState::Opening => OrStatus::Launched,
        LinkState::Open | LinkState::Silent => OrStatus::Connected,
    };
    format!("{} {status}", link_name(link, client))
}

/// The line of a guard in `GETINFO entry-guards`.
pub(crate) fn guard_line(guard: &GuardStatus) -> String {
    let name = long_name(&guard.rsa, Some(&guard.nickname));
    if guard.unlisted_since.is_some() {
        return format!("{name} unlisted");
    }
    if !guard.is_allowed {
        return format!("{name} unusable");
    }
    let since = |time: &SystemTime| cepa_netdoc::timestamp::encode(*time);
    match (guard.reachable, guard.failing_since, guard.confirmed_on) {
        (_, Some(failing), _) => format!("{name} down {}", since(&failing)),
        (Reachable::Yes, None, _) | (_, None, Some(_)) => format!("{name} up"),
        (_, None, None) => format!("{name} never-connected"),
    }
}
