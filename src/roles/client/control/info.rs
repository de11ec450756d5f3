//! GETINFO: what a client can be asked (control-spec 3.9).
//!
//! [`KEYS`] is both what is answered and what `info/names` lists; a name that ends with `*` has any
//! rest.

use cepa_client::address_map::MappedBy;
use cepa_client::{Client, Phase};
use cepa_control::command::{Feature, ServerSpec};
use cepa_control::event::StatusEvent;
use cepa_control::text::service_id;
use cepa_control::{EventKind, Refusal, Reply};
use cepa_netdoc::routerstatus::EntryKind;
use cepa_netdoc::timestamp;

use super::super::Runner;
use super::by_hand::relay_named;
use super::{ConnectionId, SIGNALS};
use crate::clock;
use crate::config::Listener;
use crate::control::{VERSION, option_defaults, option_names, translate};

/// Events that happen here.
const EVENTS: [EventKind; 16] = [
    EventKind::ConfChanged,
    EventKind::Circ,
    EventKind::CircMinor,
    EventKind::Stream,
    EventKind::OrConn,
    EventKind::Bw,
    EventKind::AddrMap,
    EventKind::StatusGeneral,
    EventKind::StatusClient,
    EventKind::Guard,
    EventKind::NewConsensus,
    EventKind::BuildTimeoutSet,
    EventKind::Signal,
    EventKind::HsDesc,
    EventKind::HsDescContent,
    EventKind::NetworkLiveness,
];

/// What can be asked, by its name and what `info/names` says of it.
const KEYS: [(&str, &str); 47] = [
    (
        "config/defaults",
        "List of default values for configuration options.",
    ),
    (
        "config-defaults-file",
        "Current location of the defaults file.",
    ),
    ("config-file", "Current location of the \"torrc\" file."),
    (
        "config-text",
        "Return the string that would be written by a saveconf command.",
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
        "config-can-saveconf",
        "Is it possible to save the configuration?",
    ),
    ("config/names", "List of configuration options and types."),
    (
        "consensus/fresh-until",
        "Until when the consensus is the newest.",
    ),
    (
        "consensus/valid-after",
        "From when on the consensus is valid.",
    ),
    (
        "consensus/valid-until",
        "Until when the consensus is valid.",
    ),
    ("current-time/utc", "Current UTC time."),
    (
        "dir/status-vote/current/consensus-microdesc",
        "v3 Microdescriptor consensus.",
    ),
    ("dormant", "Is this client dormant?"),
    ("entry-guards", "Which nodes are we using as entry guards?"),
    ("events/names", "Events that happen here."),
    ("features/names", "What arguments can USEFEATURE take?"),
    ("info/names", "List of GETINFO options and documentation."),
    (
        "md/download-enabled",
        "Do we try to download microdescriptors?",
    ),
    (
        "desc/download-enabled",
        "Do we try to download router descriptors?",
    ),
    (
        "net/listeners/control",
        "Where controllers are listened to.",
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
    ("net/listeners/natd", "Where natd is listened to."),
    ("net/listeners/or", "Where relays are listened to."),
    ("net/listeners/socks", "Where SOCKS is listened to."),
    (
        "net/listeners/trans",
        "Where redirected connections are listened to.",
    ),
    ("ns/all", "Brief summary of router status."),
    ("ns/id/*", "Brief summary of router status by ID."),
    ("ns/name/*", "Brief summary of router status by nickname."),
    (
        "onions/current",
        "Onion services owned by the current control connection.",
    ),
    (
        "onions/detached",
        "Onion services detached from the control connection.",
    ),
    ("orconn-status", "A list of current OR connections."),
    ("process/pid", "Process id belonging to this process."),
    ("process/uid", "User id running this process."),
    (
        "signal/names",
        "Signal names recognized by the SIGNAL command",
    ),
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
    ("uptime", "Uptime in seconds."),
    ("version", "The current version."),
];

/// Keys beside them that carry a number which changes all the time.
const TRAFFIC: [(&str, &str); 2] = [
    ("traffic/read", "Bytes read since the process was started."),
    (
        "traffic/written",
        "Bytes written since the process was started.",
    ),
];

impl Runner {
    /// The reply to GETINFO: all of the keys, or what is wrong with each that is.
    pub(super) fn told_info(&self, id: ConnectionId, keys: &[String]) -> Reply {
        let mut refused = Vec::new();
        let mut reply = Reply::default();
        for key in keys {
            match self.info(id, key) {
                Ok(value) => reply = reply.value(key, value),
                Err(refusal) => refused.push(refusal),
            }
        }
        Reply::refusals(&refused).unwrap_or_else(|| reply.line(250, "OK"))
    }

    fn info(&self, id: ConnectionId, key: &str) -> Result<String, Refusal> {
        let config = &self.desk.config;
        Ok(match key {
            "version" => VERSION.to_owned(),
            "info/names" => info_names(),
            "config/names" => option_names(),
            "config/defaults" => option_defaults(),
            "config-can-saveconf" => u8::from(self.conf.can_be_saved()).to_string(),
            "config-file" => self.conf.files(&self.written)[0].clone(),
            "config-defaults-file" => self.conf.files(&self.written)[1].clone(),
            "config-text" => self.conf.text(),
            "events/names" => words(EVENTS.iter()),
            "features/names" => words(Feature::ALL.iter()),
            "signal/names" => words(SIGNALS.iter()),
            "md/download-enabled" => "1".to_owned(),
            "desc/download-enabled" => "0".to_owned(),
            "net/listeners/control" => quoted(self.desk.listeners.iter().cloned()),
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
            // A client has none of these.
            "net/listeners/dir"
            | "net/listeners/extor"
            | "net/listeners/natd"
            | "net/listeners/or" => String::new(),
            "onions/current" | "onions/detached" => self.onions(id, key == "onions/current"),
            "process/pid" => std::process::id().to_string(),
            "process/uid" => rustix::process::getuid().as_raw().to_string(),
            "current-time/utc" => timestamp::encode_joined(clock::now().wall),
            "uptime" => {
                let up = clock::now().mono.duration_since(self.desk.started);
                up.as_secs().to_string()
            }
            _ => self.worker.peek(|client| of_client(client, key))?,
        })
    }

    fn onions(&self, id: ConnectionId, is_current: bool) -> String {
        let own = self
            .desk
            .connections
            .get(&id)
            .map(|connected| &connected.onions);
        let all = match is_current {
            true => own,
            false => Some(&self.desk.detached),
        };
        let ids = all.into_iter().flatten().map(service_id);
        ids.collect::<Vec<_>>().join("\n")
    }
}

fn info_names() -> String {
    let mut names: Vec<_> = KEYS.iter().chain(&TRAFFIC).collect();
    names.sort_unstable();
    let line = |(name, text): &&(&str, &str)| format!("{name} -- {text}");
    names.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn words<T: ToString>(words: impl Iterator<Item = T>) -> String {
    words
        .map(|word| word.to_string())
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(places: impl Iterator<Item = String>) -> String {
    words(places.map(|place| format!("\"{place}\"")))
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
        "traffic/read" => Ok(client.status(clock::now()).traffic.read_bytes.to_string()),
        "traffic/written" => Ok(client
            .status(clock::now())
            .traffic
            .written_bytes
            .to_string()),
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
        _ => of_network(client, key),
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

/// What the client knows of the network.
fn of_network(client: &Client, key: &str) -> Result<String, Refusal> {
    let time = |pick: fn(&cepa_client::status::ConsensusStatus) -> std::time::SystemTime| {
        let consensus = client.consensus_status();
        Ok(consensus.map_or_else(String::new, |one| timestamp::encode(pick(&one))))
    };
    match key {
        "consensus/valid-after" => time(|consensus| consensus.valid_after),
        "consensus/fresh-until" => time(|consensus| consensus.fresh_until),
        "consensus/valid-until" => time(|consensus| consensus.valid_until),
        "ns/all" => Ok(translate::entries(client)),
        "dir/status-vote/current/consensus-microdesc" => match client.view() {
            Some(view) => Ok(view.text().text().to_string()),
            None => Err(Refusal::Unable(
                "Could not open cached consensus.".to_owned(),
            )),
        },
        _ => of_relay(client, key),
    }
}

/// What the client knows of one relay.
fn of_relay(client: &Client, key: &str) -> Result<String, Refusal> {
    let unknown = || Refusal::Key(key.to_owned());
    let (is_id, name) = match key.strip_prefix("ns/id/") {
        Some(name) => (true, name),
        None => (false, key.strip_prefix("ns/name/").ok_or_else(unknown)?),
    };
    let server = ServerSpec::parse(name).ok_or_else(unknown)?;
    let is_fitting = matches!(server, ServerSpec::Fingerprint(..)) == is_id;
    let id = relay_named(client, &server).filter(|_| is_fitting);
    let id = id.ok_or_else(unknown)?;
    let view = client.view().ok_or_else(unknown)?;
    let router = view.consensus().router(&id).ok_or_else(unknown)?;
    let mut text = String::new();
    router.encode_consensus(EntryKind::Ns, &mut text);
    Ok(text)
}
