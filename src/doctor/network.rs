//! Ports of ours, the authorities, the clock that they have, and the name servers of an exit.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::{Level, Report, Role, files};
use crate::clock;
use crate::config::{ClientConfig, RelayConfig};
use crate::dns::{DnsError, Resolver};
use crate::http::{self, Headers, HttpError, Limits, Peer, Request};
use crate::listen;
use crate::network::Network;

/// How long an authority may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How far our clock may be from an authority's: what documents and links bear.
const SKEW_MAX: Duration = Duration::from_secs(60);
/// From here on nothing works.
const SKEW_BAD: Duration = Duration::from_secs(30 * 60);
/// A name that every name server of the world knows.
const KNOWN_NAME: &str = "a.root-servers.net";

pub(super) async fn look(role: &Role, report: &mut Report) {
    look_at_ports(role, report);
    let place = role.network().to_string();
    let read = Network::of(role.network());
    let counted = |network: &Network| format!("{} authorities", network.authorities.len());
    if let Some(network) = report.judge("network", place, read, counted) {
        look_at_authorities(&network, report).await;
    }
    if let Some(relay) = role.relay().filter(|relay| relay.exit.is_exit()) {
        look_at_names(relay, report).await;
    }
}

fn look_at_ports(role: &Role, report: &mut Report) {
    if files::is_in_use(role.data_dir()) {
        let found = "a node runs in it: its ports are not tried";
        return report.ok("port", role.data_dir().display(), found);
    }
    let ports = match role {
        Role::Client(config) => ports_of_client(config),
        Role::Relay(config) => ports_of_relay(config),
        Role::Authority(config) => ports_of_relay(&config.relay),
    };
    for (purpose, addr) in ports {
        let free = listen::check_free(addr, purpose);
        let place = format!("{purpose} {addr}");
        report.judge("port", place, free, |()| "is free".to_owned());
    }
}

fn ports_of_relay(config: &RelayConfig) -> Vec<(&'static str, SocketAddr)> {
    let mut ports = vec![("or_port", config.or_listen())];
    // Where it need not listen, it does not matter whether it can.
    let v6 = config.or_listen_v6().filter(|(_, is_needed)| *is_needed);
    ports.extend(v6.map(|(addr, _)| ("or_port", addr)));
    ports.extend(config.dir_listen().map(|addr| ("dir_port", addr)));
    ports.extend(config.metrics.as_ref().map(|port| ("metrics", port.addr)));
    ports
}

fn ports_of_client(config: &ClientConfig) -> Vec<(&'static str, SocketAddr)> {
    let named = [
        ("socks", &config.socks),
        ("http_connect", &config.http_connect),
        ("redirect", &config.redirect),
    ];
    let ports = named
        .iter()
        .flat_map(|(purpose, list)| list.iter().map(|listener| (*purpose, listener.addr)));
    ports
        .chain(config.metrics.as_ref().map(|port| ("metrics", port.addr)))
        .collect()
}

/// Asks each authority, all at once.
async fn look_at_authorities(network: &Network, report: &mut Report) {
    let asked: Vec<_> = (network.authorities.iter())
        .map(|authority| {
            let place = format!("{} {}", authority.nickname, authority.dir_addr);
            (place, tokio::spawn(ask(authority.dir_addr.into())))
        })
        .collect();
    let mut answered = 0;
    let all = asked.len();
    for (place, answer) in asked {
        match answer.await {
            Ok(Ok(skew)) => {
                answered += 1;
                report.ok("authority", &place, "answers");
                look_at_skew(place, skew, report);
            }
            Ok(Err(error)) => {
                let remedy = "see whether a firewall is in the way, and whether it runs";
                report.add(Level::Warn, "authority", place, error, remedy);
            }
            // The task has no way to fail but a bug of ours.
            Err(error) => report.add(Level::Warn, "authority", place, error, "tell us of it"),
        }
    }
    if answered == 0 && all > 0 {
        let remedy = "connect this machine, or mend the addresses of network.toml";
        report.add(
            Level::Bad,
            "authority",
            "all of them",
            "none answers",
            remedy,
        );
    }
}

/// How far its clock is from ours, and whether it is behind us.
type Skew = Option<(Duration, bool)>;

async fn ask(addr: SocketAddr) -> Result<Skew, HttpError> {
    let limits = Limits {
        exchange_timeout: ANSWER_MAX,
        ..Limits::default()
    };
    let request = Request {
        method: "GET".to_owned(),
        path: "/tor/keys/authority".to_owned(),
        headers: Headers::default(),
        body: Default::default(),
        peer: Peer::Address(addr),
    };
    let reply = http::request_tcp(addr, request, &limits).await?;
    let date = reply.headers.value("Date");
    let theirs = date.and_then(|date| httpdate::parse_http_date(date).ok());
    Ok(theirs.map(|theirs| distance(clock::now().wall, theirs)))
}

fn distance(ours: SystemTime, theirs: SystemTime) -> (Duration, bool) {
    match ours.duration_since(theirs) {
        Ok(ahead) => (ahead, true),
        Err(behind) => (behind.duration(), false),
    }
}

fn look_at_skew(place: String, skew: Skew, report: &mut Report) {
    let Some((skew, is_behind)) = skew else {
        return;
    };
    let side = if is_behind { "ahead of" } else { "behind" };
    let level = match skew {
        skew if skew >= SKEW_BAD => Level::Bad,
        skew if skew > SKEW_MAX => Level::Warn,
        _ => Level::Ok,
    };
    let found = format!("this machine's clock is {} s {side} its", skew.as_secs());
    let remedy = match level {
        Level::Ok => "",
        _ => "set the clock, and keep it right (NTP)",
    };
    report.add(level, "clock", place, found, remedy);
}

async fn look_at_names(relay: &RelayConfig, report: &mut Report) {
    let place = match relay.name_servers.is_empty() {
        true => "/etc/resolv.conf",
        false => "name_servers",
    };
    let resolver = Resolver::new(&relay.name_servers, relay.resolv_conf.as_deref());
    let found = tokio::time::timeout(ANSWER_MAX, resolver.addresses(KNOWN_NAME)).await;
    match found {
        Ok(Ok(_) | Err(DnsError::NoSuchName)) => report.ok("names", place, "are looked up"),
        _ => report.add(
            Level::Warn,
            "names",
            place,
            format!("no answer about {KNOWN_NAME} in {} s", ANSWER_MAX.as_secs()),
            "name a server that answers: an exit without one refuses every name",
        ),
    }
}
