//! GETINFO: what a client can be asked beside what every role can (control-spec 3.9).

use std::collections::BTreeSet;

use cepa_client::address_map::MappedBy;
use cepa_client::{Client, HsDescriptors, Phase};
use cepa_control::command::ServerSpec;
use cepa_control::event::StatusEvent;
use cepa_control::text::service_id;
use cepa_control::{EventKind, Refusal};
use cepa_crypto::onion::{ADDRESS_LEN, OnionAddress};

use super::super::Runner;
use super::ConnectionId;
use crate::clock;
use crate::config::Listener;
use crate::control::{Key, quoted, relay_named, translate};

/// Events that happen here.
pub(super) const EVENTS: [EventKind; 26] = [
    EventKind::Circ,
    EventKind::CircMinor,
    EventKind::Stream,
    EventKind::OrConn,
    EventKind::Bw,
    EventKind::Debug,
    EventKind::Info,
    EventKind::Notice,
    EventKind::Warn,
    EventKind::Err,
    EventKind::NewDesc,
    EventKind::AddrMap,
    EventKind::StatusGeneral,
    EventKind::StatusClient,
    EventKind::Guard,
    EventKind::Ns,
    EventKind::StreamBw,
    EventKind::NewConsensus,
    EventKind::BuildTimeoutSet,
    EventKind::Signal,
    EventKind::ConfChanged,
    EventKind::CircBw,
    EventKind::TransportLaunched,
    EventKind::HsDesc,
    EventKind::HsDescContent,
    EventKind::NetworkLiveness,
];

/// What can be asked, by its name and what `info/names` says of it. What is answered only where
/// server descriptors are fetched is not listed.
pub(super) const KEYS: [Key; 31] = [
    (
        "accounting/enabled",
        "Is accounting enabled? Never at a client.",
    ),
    ("address-mappings/all", "Current address mappings."),
    (
        "address-mappings/cache",
        "Addresses that exits have told; none is kept.",
    ),
    (
        "address-mappings/config",
        "Address mappings of the configuration.",
    ),
    (
        "address-mappings/control",
        "Address mappings of controllers.",
    ),
    (
        "circuit-status",
        "List of current circuits originating here.",
    ),
    (
        "desc/all-recent",
        "Router descriptors, where they are fetched.",
    ),
    (
        "desc/download-enabled",
        "Do we try to download router descriptors?",
    ),
    (
        "dir/status-vote/current/consensus-microdesc",
        "v3 Microdescriptor consensus.",
    ),
    ("dormant", "Is this client dormant?"),
    ("entry-guards", "Which nodes are we using as entry guards?"),
    (
        "hs/client/desc/id/*",
        "Hidden Service descriptor in client's cache by onion.",
    ),
    (
        "hs/service/desc/id/*",
        "Hidden Service descriptor in services's cache by onion.",
    ),
    (
        "md/download-enabled",
        "Do we try to download microdescriptors?",
    ),
    (
        "net/listeners/dir",
        "Where directory requests are listened to.",
    ),
    ("net/listeners/dns", "Where DNS is listened to."),
    (
        "net/listeners/extor",
        "Where pluggable transports are listened to.",
    ),
    (
        "net/listeners/httptunnel",
        "Where HTTP CONNECT is listened to.",
    ),
    ("net/listeners/metrics", "Where metrics are served."),
    ("net/listeners/natd", "Where natd is listened to."),
    ("net/listeners/or", "Where relays are listened to."),
    ("net/listeners/socks", "Where SOCKS is listened to."),
    (
        "net/listeners/trans",
        "Where redirected connections are listened to.",
    ),
    (
        "network-liveness",
        "Current opinion on whether the network is live",
    ),
    (
        "onions/current",
        "Onion services owned by the current control connection.",
    ),
    (
        "onions/detached",
        "Onion services detached from the control connection.",
    ),
    ("orconn-status", "A list of current OR connections."),
    (
        "status/bootstrap-phase",
        "The last bootstrap phase status event.",
    ),
    (
        "status/circuit-established",
        "Whether we think client functionality is working.",
    ),
    (
        "status/enough-dir-info",
        "Whether there is enough directory information for circuits.",
    ),
    ("stream-status", "List of current streams."),
];

impl Runner {
    /// The value of a key.
    pub(super) fn value_of(&mut self, id: ConnectionId, key: &str) -> Result<String, Refusal> {
        let config = &self.given.config;
        Ok(match key {
            "md/download-enabled" => "1".to_owned(),
            "accounting/enabled" => "0".to_owned(),
            "net/listeners/socks"
            | "net/listeners/dns"
            | "net/listeners/httptunnel"
            | "net/listeners/trans"
                if config.is_off =>
            {
                String::new()
            }
            "net/listeners/socks" => listeners(&config.socks),
            "net/listeners/dns" => listeners(&config.dns),
            "net/listeners/httptunnel" => listeners(&config.http_connect),
            "net/listeners/trans" => {
                let all = [&config.redirect[..], &config.tproxy].concat();
                listeners(&all)
            }
            "net/listeners/metrics" => {
                let metrics = config.metrics.iter();
                quoted(metrics.map(|port| port.addr.to_string()))
            }
            // A client has none of these.
            "net/listeners/dir"
            | "net/listeners/extor"
            | "net/listeners/natd"
            | "net/listeners/or" => String::new(),
            _ if key.starts_with("hs/") => self.hs_descriptor(key)?,
            "onions/current" => onions(self.given.onions.get(&id)),
            "onions/detached" => onions(Some(&self.given.detached)),
            _ => match self.worker.peek(|client| described(client, key)) {
                Some(told) => told?,
                None => match nowhere(key) {
                    Some(refusal) => return Err(refusal),
                    None => self.worker.peek(|client| of_client(client, key))?,
                },
            },
        })
    }
}

impl Runner {
    /// A descriptor of an onion service: hosted here, or fetched for a visit.
    fn hs_descriptor(&self, key: &str) -> Result<String, Refusal> {
        let (hosted, visited) = ("hs/service/desc/id/", "hs/client/desc/id/");
        let named = key.strip_prefix(hosted).or(key.strip_prefix(visited));
        let name = named.ok_or_else(|| Refusal::Key(key.to_owned()))?;
        // As with tor, an address without its end.
        let address = Some(name).filter(|name| name.len() == ADDRESS_LEN);
        let address = address.and_then(|name| name.parse().ok());
        let address = address.ok_or_else(|| Refusal::Unable("Invalid address".to_owned()))?;
        let found = self.worker.peek(|client| {
            let all = HsDescriptors::of(client);
            let text = match key.starts_with(hosted) {
                true => all.hosted(&address),
                false => all.visited(&address, clock::now()),
            };
            text.map(str::to_owned)
        });
        found.ok_or_else(|| Refusal::Unable("Not found in cache".to_owned()))
    }
}

/// What is answered of server descriptors; none where they are not kept.
fn described(client: &Client, key: &str) -> Option<Result<String, Refusal>> {
    let (kept, unknown) = (client.descriptors(), || Refusal::Key(key.to_owned()));
    match key {
        "desc/download-enabled" => return Some(Ok(u8::from(kept.is_wanted()).to_string())),
        "desc/all-recent" => return Some(Ok(kept.all().collect())),
        _ if !kept.is_wanted() => return None,
        "dir/status-vote/current/consensus" => {
            return client.ns_consensus().map(|text| Ok(text.to_owned()));
        }
        _ => {}
    }
    let name = key.strip_prefix("desc/id/");
    let name = name.or_else(|| key.strip_prefix("desc/name/"))?;
    let relay = ServerSpec::parse(name).and_then(|one| relay_named(client.view()?, &one));
    let text = relay.and_then(|relay| kept.of(&relay));
    Some(text.map(str::to_owned).ok_or_else(unknown))
}

/// What no client can tell, in `tor`'s words.
fn nowhere(key: &str) -> Option<Refusal> {
    let unrecognized = |text: &str| Some(Refusal::Unrecognized(text.to_owned()));
    let unable = |text: &str| Some(Refusal::Unable(text.to_owned()));
    const NO_SERVER: &str = "Not running in server mode";
    match key {
        "address" | "address/v4" | "address/v6" => unable("Address unknown"),
        "fingerprint" => unable(NO_SERVER),
        "status/fresh-relay-descs" => unable("Only relays have descriptors"),
        "exit-policy/full"
        | "exit-policy/ipv4"
        | "exit-policy/ipv6"
        | "exit-policy/reject-private/relay" => unrecognized(NO_SERVER),
        "dir/status-vote/current/consensus" => unable(
            "Could not open cached consensus. Make sure FetchUselessDescriptors is set to 1.",
        ),
        _ if key.starts_with("desc/id/") => unrecognized(
            "We fetch microdescriptors, not router descriptors. You'll need to use md/id/* \
             instead of desc/id/*.",
        ),
        _ if key.starts_with("desc/name/") => unrecognized(
            "We fetch microdescriptors, not router descriptors. You'll need to use md/name/* \
             instead of desc/name/*.",
        ),
        _ => None,
    }
}

fn onions(addresses: Option<&BTreeSet<OnionAddress>>) -> String {
    let ids = addresses.into_iter().flatten().map(service_id);
    ids.collect::<Vec<_>>().join("\n")
}

fn listeners(listeners: &[Listener]) -> String {
    quoted(listeners.iter().map(|one| one.addr.to_string()))
}

/// What the client itself knows.
fn of_client(client: &Client, key: &str) -> Result<String, Refusal> {
    let lines = |lines: Vec<String>| Ok(lines.join("\n"));
    let flag = |is: bool| Ok(u8::from(is).to_string());
    match key {
        "status/bootstrap-phase" => {
            let bootstrap = translate::bootstrap(client.bootstrap());
            Ok(StatusEvent::from(&bootstrap).to_string())
        }
        "status/circuit-established" => flag(client.bootstrap().phase == Phase::Done),
        "status/enough-dir-info" => flag(client.bootstrap().phase >= Phase::EnoughDirinfo),
        "dormant" => flag(client.is_dormant()),
        "address-mappings/all" => lines(mappings(client, None)),
        // Answers of exits are told, and not kept.
        "address-mappings/cache" => Ok(String::new()),
        "address-mappings/config" => lines(mappings(client, Some(MappedBy::Config))),
        "address-mappings/control" => lines(mappings(client, Some(MappedBy::Controller))),
        "network-liveness" => Ok((if client.is_live() { "up" } else { "down" }).to_owned()),
        "dir/status-vote/current/consensus-microdesc" => match client.view() {
            Some(view) => Ok(view.text().text().to_string()),
            None => Err(Refusal::Unable(
                "Could not open cached consensus.".to_owned(),
            )),
        },
        "circuit-status" => lines(
            client
                .circuit_statuses()
                .iter()
                .map(translate::circuit_line)
                .collect(),
        ),
        "stream-status" => lines(
            client
                .stream_statuses()
                .iter()
                .map(translate::stream_line)
                .collect(),
        ),
        "orconn-status" => {
            let links = client.link_statuses();
            lines(
                links
                    .iter()
                    .map(|link| translate::link_line(link, client))
                    .collect(),
            )
        }
        "entry-guards" => {
            let guards = client.guards().statuses();
            lines(guards.iter().map(translate::guard_line).collect())
        }
        _ => Err(Refusal::Key(key.to_owned())),
    }
}

/// Which address stands for which, by whom that is wanted.
fn mappings(client: &Client, by: Option<MappedBy>) -> Vec<String> {
    let all = client.address_map().iter();
    let wanted = all.filter(|one| by.is_none_or(|by| one.by == by));
    wanted
        .map(|one| format!("{} {} NEVER", one.from, one.to))
        .collect()
}
