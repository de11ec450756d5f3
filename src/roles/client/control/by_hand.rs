//! Circuits and streams by hand, and addresses that stand for others (control-spec 3.9 to 3.11,
//! 3.13 to 3.17).

use cepa_client::address_map::{MapError, VirtualKind, is_destination};
use cepa_client::by_hand::{ByHandError, HandUse};
use cepa_client::{CircuitId, Client, RequestId};
use cepa_control::command::{
    AttachStream, CloseCircuit, CloseStream, ExtendCircuit, HsFetch, HsPost, Mapping,
    PostDescriptor, RedirectStream, ServerSpec, SetCircuitPurpose,
};
use cepa_control::event::{AddrMap, CircuitPurpose};
use cepa_control::{Event, Refusal, Reply};
use cepa_crypto::RsaId;
use cepa_netdoc::descriptor::ServerDescriptor;
use cepa_wire::end::EndReason;
use cepa_wire::host::Host;

use crate::control::{self, Desk, translate};
use crate::net::worker::Worker;

pub(super) fn extend_circuit(
    worker: &Worker<Client>,
    asked: &ExtendCircuit,
) -> Result<Reply, Refusal> {
    let usage = asked.purpose.map_or(HandUse::General, hand_use);
    let known = match asked.circuit.as_str() {
        "0" => None,
        _ => Some(circuit(worker, &asked.circuit)?),
    };
    let servers = asked.servers()?;
    let mut path = Vec::new();
    for (server, name) in servers.iter().zip(&asked.path) {
        let id = worker.peek(|client| relay_named(client, server));
        path.push(id.ok_or_else(|| Refusal::Router(name.clone()))?);
    }
    let done = worker.with(|client, now| match known {
        Some(id) => client
            .controller(now)
            .extend_circuit(id, &path)
            .map(|()| id),
        None => client.controller(now).make_circuit(&path, usage),
    });
    let id = done.map_err(|error| match error {
        ByHandError::NoDescriptor(index) => {
            let name = asked.path.get(index).map_or("", String::as_str);
            Refusal::Unrecognized(format!("No descriptor for \"{name}\""))
        }
        error => refusal(error, &asked.circuit, ""),
    })?;
    Ok(Reply::new(250, format!("EXTENDED {}", id.0)))
}

pub(super) fn set_circuit_purpose(
    worker: &Worker<Client>,
    asked: &SetCircuitPurpose,
) -> Result<Reply, Refusal> {
    let id = circuit(worker, &asked.circuit)?;
    let purpose = asked.purpose.clone().map_err(Refusal::Purpose)?;
    let usage = hand_use(purpose);
    let set = worker.with(|client, now| client.controller(now).set_circuit_use(id, usage));
    set.map(|()| Reply::ok())
        .map_err(|error| refusal(error, &asked.circuit, ""))
}

pub(super) fn close_circuit(
    worker: &Worker<Client>,
    asked: &CloseCircuit,
) -> Result<Reply, Refusal> {
    let id = circuit(worker, &asked.circuit)?;
    let is_if_unused = asked.if_unused;
    let closed = worker.with(|client, now| client.controller(now).close_circuit(id, is_if_unused));
    closed
        .map(|()| Reply::ok())
        .map_err(|error| refusal(error, &asked.circuit, ""))
}

pub(super) fn attach_stream(
    worker: &Worker<Client>,
    asked: &AttachStream,
) -> Result<Reply, Refusal> {
    let stream = stream(worker, &asked.stream)?;
    let to = match asked.circuit.as_str() {
        "0" => None,
        name => Some((circuit(worker, name)?, asked.hop_number()?)),
    };
    let attached = worker.with(|client, now| client.controller(now).attach_stream(stream, to));
    attached
        .map(|()| Reply::ok())
        .map_err(|error| refusal(error, &asked.circuit, &asked.stream))
}

pub(super) fn redirect_stream(
    worker: &Worker<Client>,
    asked: &RedirectStream,
) -> Result<Reply, Refusal> {
    let stream = stream(worker, &asked.stream)?;
    let port = asked.port_number()?;
    let host = Host::parse(asked.address.as_bytes())
        .map_err(|_| Refusal::Address(asked.address.clone()))?;
    let redirected =
        worker.with(|client, now| client.controller(now).redirect_stream(stream, host, port));
    redirected
        .map(|()| Reply::ok())
        .map_err(|error| refusal(error, "", &asked.stream))
}

pub(super) fn close_stream(worker: &Worker<Client>, asked: &CloseStream) -> Result<Reply, Refusal> {
    let stream = stream(worker, &asked.stream)?;
    let reason = EndReason(asked.reason_number()?);
    let closed = worker.with(|client, now| client.controller(now).end_stream(stream, reason));
    closed
        .map(|()| Reply::ok())
        .map_err(|error| refusal(error, "", &asked.stream))
}

/// Maps each address; what cannot be is refused in its line.
pub(super) fn map_addresses(
    worker: &Worker<Client>,
    desk: &mut Desk,
    mappings: &[Mapping],
) -> Reply {
    let mut reply = Reply::default();
    for mapping in mappings {
        reply = match map_one(worker, mapping) {
            Ok(from) => {
                desk.tell(&Event::AddrMap(AddrMap {
                    from: from.clone(),
                    to: Some(mapping.to.clone()),
                    expires: None,
                    is_cached: true,
                    stream: None,
                }));
                reply.line(250, format!("{from}={}", mapping.to))
            }
            Err(refusal) => reply.line(refusal.status(), refusal.to_string()),
        };
    }
    reply
}

/// The address that stands for another from now on.
fn map_one(worker: &Worker<Client>, Mapping { from, to }: &Mapping) -> Result<String, Refusal> {
    let kind = match from.as_str() {
        "." => Some(VirtualKind::Name),
        "0.0.0.0" => Some(VirtualKind::Ipv4),
        "::" => Some(VirtualKind::Ipv6),
        _ => None,
    };
    if !is_destination(to) {
        return Err(Refusal::Address(to.clone()));
    }
    let mapped = worker.with(|client, _| match kind {
        Some(kind) => client.map_virtual(kind, to),
        None => client.map_address(from, to).map(|()| from.clone()),
    });
    mapped.map_err(|error| match error {
        MapError::Full => Refusal::Unable(format!("resource exhausted: skipping '{from}={to}'")),
        error => Refusal::Mapping {
            from: from.clone(),
            to: to.clone(),
            why: error.to_string(),
        },
    })
}

pub(super) fn fetch_descriptor(worker: &Worker<Client>, asked: &HsFetch) -> Result<Reply, Refusal> {
    let servers = servers(worker, &asked.servers)?;
    let address = asked.address;
    let fetched =
        worker.with(|client, now| client.controller(now).fetch_descriptor(address, &servers));
    fetched
        .map(|()| Reply::ok())
        .map_err(|error| refusal(error, "", ""))
}

pub(super) fn post_descriptor(worker: &Worker<Client>, asked: &HsPost) -> Result<Reply, Refusal> {
    let servers = servers(worker, &asked.servers)?;
    let (address, text) = (asked.address, asked.descriptor.as_str());
    let posted = worker.with(|client, now| {
        client
            .controller(now)
            .post_descriptor(address, text, &servers)
    });
    posted
        .map(|()| Reply::ok())
        .map_err(|error| refusal(error, "", ""))
}

/// The directories that a controller names.
fn servers(worker: &Worker<Client>, names: &[String]) -> Result<Vec<RsaId>, Refusal> {
    let server = |name: &String| {
        let spec = ServerSpec::parse(name);
        let known = |spec| worker.peek(|client| relay_named(client, spec));
        let id = spec.as_ref().and_then(known);
        id.ok_or_else(|| Refusal::Server(name.clone()))
    };
    names.iter().map(server).collect()
}

/// A descriptor of a relay that a controller has: it is read, and not kept, since clients know
/// relays by the consensus and microdescriptors.
pub(super) fn post_router(posted: &PostDescriptor) -> Result<Reply, Refusal> {
    match ServerDescriptor::parse(&posted.descriptor) {
        Ok(_) => Ok(Reply::new(251, "Descriptor not added")),
        Err(_) => Err(Refusal::Descriptor("Couldn't parse router descriptor.")),
    }
}

fn circuit(worker: &Worker<Client>, name: &str) -> Result<CircuitId, Refusal> {
    let unknown = || Refusal::Circuit(name.to_owned());
    let id = CircuitId(name.parse().map_err(|_| unknown())?);
    let is_there = worker.peek(|client| client.has_circuit(id));
    is_there.then_some(id).ok_or_else(unknown)
}

fn stream(worker: &Worker<Client>, name: &str) -> Result<RequestId, Refusal> {
    let unknown = || Refusal::Stream(name.to_owned());
    let number = name.parse().map_err(|_| unknown())?;
    let id = translate::request_id(number).ok_or_else(unknown)?;
    let is_there = worker.peek(|client| client.has_stream(id));
    is_there.then_some(id).ok_or_else(unknown)
}

fn hand_use(purpose: CircuitPurpose) -> HandUse {
    match purpose {
        CircuitPurpose::Controller => HandUse::Controller,
        _ => HandUse::General,
    }
}

/// The relay that a controller means, if the consensus lists it.
fn relay_named(client: &Client, server: &ServerSpec) -> Option<RsaId> {
    control::relay_named(client.view()?, server)
}

/// The words of `tor` for what cannot be done.
fn refusal(error: ByHandError, circuit: &str, stream: &str) -> Refusal {
    let unable = |text: &str| Refusal::Unable(text.to_owned());
    match error {
        ByHandError::NoCircuit => Refusal::Circuit(circuit.to_owned()),
        ByHandError::NoStream => Refusal::Stream(stream.to_owned()),
        ByHandError::NoDescriptor(_) | ByHandError::NotBegun => unable("Couldn't start circuit"),
        ByHandError::NotExtended => unable("Couldn't send onion skin"),
        ByHandError::NotYours => Refusal::State("Circuit is not managed by controller."),
        ByHandError::NotManaged => Refusal::State("Connection is not managed by controller."),
        ByHandError::NotOpen => unable("Can't attach stream to non-open origin circuit"),
        ByHandError::OneHop => unable("Can't attach stream to this one-hop circuit."),
        ByHandError::NoHop => unable("Circuit doesn't have that many hops."),
        ByHandError::TooMany => unable("Too many fetches and uploads"),
        ByHandError::BadDescriptor => Refusal::Descriptor("Invalid descriptor"),
        ByHandError::NotAttached => unable("Unable to attach stream"),
    }
}
