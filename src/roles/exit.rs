//! Streams that leave the network: names, addresses, sockets (tor-spec 6.2, 6.4).
//!
//! Plain request and reply. The exit policy is asked again for each address that a name turned
//! out to have; what it refuses is told with the address, as the specification wants.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cepa_circuit::StreamKey;
use cepa_netdoc::policy::is_internal;
use cepa_relay::Switch;
use cepa_wire::begin::{Begin, BeginFlags};
use cepa_wire::end::{End, EndReason};
use cepa_wire::host::Host;
use cepa_wire::resolve::{Answer, AnswerValue, Resolve};
use tokio::net::TcpStream;

use crate::dns::{self, DnsError, Resolver, clip_ttl_secs};
use crate::doors::{Gate, Pass};
use crate::net::worker::Worker;
use crate::net::{edge, link};

/// How long an exit tries to connect to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Addresses of a name that are tried one after the other.
const ADDRESSES_TRIED_MAX: usize = 3;

/// Connects a stream, and serves it until it ends; gives up when nobody waits for it any more.
pub(crate) async fn connect(
    worker: Rc<Worker<Switch>>,
    (resolver, from): (Resolver, Arc<[IpAddr]>),
    stream: StreamKey,
    begin: Begin,
    gate: Gate,
) {
    // Another stream may need the place, if this one has been idle for longest.
    let Ok(pass) = gate.enter(None) else {
        return refuse(&worker, stream, EndReason::RESOURCELIMIT.into());
    };
    let pass = Arc::new(pass);
    let evicted = async {
        pass.evicted().await;
        tracing::debug!("a stream that has been idle gives up its place");
        // Before its task is dropped, which would end it as if it were done.
        refuse(&worker, stream, EndReason::RESOURCELIMIT.into());
    };
    tokio::select! {
        () = connect_at(&worker, (&resolver, &from), &pass, stream, begin) => {}
        () = evicted => {}
    }
}

fn refuse(worker: &Worker<Switch>, stream: StreamKey, end: End) {
    worker.unregister_stream(stream);
    worker.with(|switch, now| switch.stream_refused(stream, end, now));
}

async fn connect_at(
    worker: &Rc<Worker<Switch>>,
    way: (&Resolver, &[IpAddr]),
    pass: &Arc<Pass>,
    stream: StreamKey,
    begin: Begin,
) {
    let dialled = tokio::select! {
        dialled = dial(worker, way, &begin) => dialled,
        () = worker.stream_over(stream) => return,
    };
    match dialled {
        Ok((tcp, addr, ttl)) => {
            // Batches are made by the circuit, not by the kernel.
            let _ = tcp.set_nodelay(true);
            worker.with(|switch, now| switch.stream_connected(stream, addr, ttl, now));
            let (reader, writer) = tcp.into_split();
            let halves = (worker.paced(reader).at(pass), worker.paced(writer).at(pass));
            edge::serve(worker, stream, halves, Vec::new(), Vec::new()).await;
        }
        Err(end) => refuse(worker, stream, end),
    }
}

/// The connection to a destination, its address, and how long clients may believe in that.
async fn dial(
    worker: &Worker<Switch>,
    (resolver, from): (&Resolver, &[IpAddr]),
    begin: &Begin,
) -> Result<(TcpStream, SocketAddr, u32), End> {
    let internal = worker.peek(Switch::resolves_internal);
    let mut end = End::from(EndReason::RESOLVEFAILED);
    let mut allowed = Vec::new();
    for (addr, ttl) in addresses(resolver, begin, internal).await? {
        match worker.peek(|switch| switch.exit_check(addr.ip(), addr.port(), ttl)) {
            Ok(()) => allowed.push((addr, ttl)),
            Err(refused) => end = refused,
        }
    }
    for (addr, ttl) in allowed.into_iter().take(ADDRESSES_TRIED_MAX) {
        match tokio::time::timeout(CONNECT_TIMEOUT, link::connect(addr, source_for(addr, from)))
            .await
        {
            Ok(Ok(tcp)) => return Ok((tcp, addr, ttl)),
            Ok(Err(error)) => end = end_reason(&error).into(),
            Err(_) => end = EndReason::TIMEOUT.into(),
        }
    }
    Err(end)
}

/// Where a stream to this address leaves from; none: as the system chooses.
fn source_for(to: SocketAddr, from: &[IpAddr]) -> Option<IpAddr> {
    let mut from = from.iter().copied();
    from.find(|ip| ip.is_ipv4() == to.is_ipv4())
}

/// Answers a look-up.
pub(crate) async fn resolve(
    worker: Rc<Worker<Switch>>,
    resolver: Resolver,
    stream: StreamKey,
    resolve: Resolve,
) {
    let internal = worker.peek(Switch::resolves_internal);
    let answers = tokio::select! {
        answers = answers(&resolver, resolve, internal) => answers,
        () = worker.stream_over(stream) => return,
    };
    worker.unregister_stream(stream);
    worker.with(|switch, now| switch.stream_resolved(stream, answers, now));
}

async fn answers(resolver: &Resolver, resolve: Resolve, internal: bool) -> Vec<Answer> {
    let answers = match resolve {
        Resolve::Reverse(address) if is_internal(address) && !internal => Err(DnsError::NoSuchName),
        Resolve::Host(host) => look_up(resolver, &name_of(&host), internal)
            .await
            .map(|answers| {
                let answer = |value, ttl| Answer {
                    value: AnswerValue::Ip(value),
                    ttl: clip_ttl_secs(ttl),
                };
                answers
                    .into_iter()
                    .map(|a| answer(a.value, a.ttl_secs))
                    .collect::<Vec<_>>()
            }),
        Resolve::Reverse(address) => resolver.name(address).await.map(|answer| {
            let value = AnswerValue::Name(answer.value.into_bytes());
            vec![Answer {
                value,
                ttl: clip_ttl_secs(answer.ttl_secs),
            }]
        }),
    };
    answers.unwrap_or_else(|error| {
        let value = match error {
            DnsError::Temporary => AnswerValue::ErrorTransient,
            DnsError::NoSuchName | DnsError::Malformed => AnswerValue::Error,
        };
        vec![Answer {
            value,
            ttl: clip_ttl_secs(0),
        }]
    })
}

/// The addresses of a name. Those of this machine and its neighbours are no business of strangers,
/// whether a name server or `/etc/hosts` knows them, unless the operator has lifted that
/// (`internal`).
async fn look_up(
    resolver: &Resolver,
    name: &str,
    internal: bool,
) -> Result<Vec<dns::Answer<IpAddr>>, DnsError> {
    let mut answers = resolver.addresses(name).await?;
    answers.retain(|answer| internal || !is_internal(answer.value));
    if answers.is_empty() {
        return Err(DnsError::NoSuchName);
    }
    Ok(answers)
}

/// The addresses of a destination that the client can take, in its order of preference.
async fn addresses(
    resolver: &Resolver,
    begin: &Begin,
    internal: bool,
) -> Result<Vec<(SocketAddr, u32)>, EndReason> {
    let found = match &begin.host {
        Host::Ip(ip) => vec![(*ip, clip_ttl_secs(u32::MAX))],
        Host::Name(name) => look_up(resolver, name, internal)
            .await
            .map_err(|_| EndReason::RESOLVEFAILED)?
            .into_iter()
            .map(|answer| (answer.value, clip_ttl_secs(answer.ttl_secs)))
            .collect(),
    };
    let is_name = matches!(begin.host, Host::Name(_));
    let mut usable: Vec<_> = found
        .into_iter()
        .filter(|(ip, _)| !is_name || is_wanted(*ip, begin.flags))
        .map(|(ip, ttl)| (SocketAddr::new(ip, begin.port), ttl))
        .collect();
    let ipv6_first = begin.flags.contains(BeginFlags::IPV6_PREFERRED);
    usable.sort_by_key(|(addr, _)| addr.is_ipv6() != ipv6_first);
    if usable.is_empty() {
        Err(EndReason::RESOLVEFAILED)
    } else {
        Ok(usable)
    }
}

fn is_wanted(ip: IpAddr, flags: BeginFlags) -> bool {
    match ip {
        IpAddr::V4(_) => !flags.contains(BeginFlags::IPV4_NOT_OKAY),
        IpAddr::V6(_) => flags.contains(BeginFlags::IPV6_OKAY),
    }
}

fn name_of(host: &Host) -> String {
    match host {
        Host::Ip(ip) => ip.to_string(),
        Host::Name(name) => name.clone(),
    }
}

fn end_reason(error: &io::Error) -> EndReason {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => EndReason::CONNECTREFUSED,
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => EndReason::NOROUTE,
        io::ErrorKind::TimedOut => EndReason::TIMEOUT,
        io::ErrorKind::ConnectionReset => EndReason::CONNRESET,
        _ => EndReason::MISC,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn streams_leave_from_the_operators_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let from = ["::1".parse().unwrap(), IpAddr::from([127, 8, 9, 10])];
        let source = source_for(to, &from);
        assert_eq!(source, Some(from[1]));
        assert_eq!(source_for("[::1]:1".parse().unwrap(), &from), Some(from[0]));
        assert_eq!(source_for(to, &from[..1]), None);
        let (tcp, accepted) = tokio::join!(link::connect(to, source), listener.accept());
        assert_eq!(tcp.unwrap().local_addr().unwrap().ip(), from[1]);
        assert_eq!(accepted.unwrap().1.ip(), from[1]);
    }
}
