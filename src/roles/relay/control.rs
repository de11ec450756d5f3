//! What controllers of a relay are answered and told, beside what every role answers
//! (`crate::control`); an authority is asked of its relay, too.

use std::net::{IpAddr, Ipv4Addr};
use std::time::SystemTime;

use cepa_control::event::{Bootstrap, Severity, StatusAction, StatusEvent, StatusValue};
use cepa_control::{Event, EventKind, Refusal, Signal};
use cepa_crypto::Rng;
use cepa_crypto::encoding::hex_upper;
use cepa_dir::DirDocument;
use cepa_dir::netview::NetworkView;
use cepa_netdoc::consensus::Flavour;
use cepa_netdoc::timestamp;
use cepa_relay::{Accounting, Wakefulness};
use cepa_torrc::settings::Empty;
use cepa_torrc::translate::Role;
use tokio::sync::mpsc;

use super::Node;
use super::reload::FIXED;
use crate::config;
use crate::config::source::Source;
use crate::control::{
    Changed, Conf, ConfError, ConnectionId, Desk, Driven, Goes, Heard, InForce, Key, Process, Said,
    entries, hear, quoted, relay_named,
};
use crate::error::Failure;
use crate::keep::kept;
use crate::reload::{Asked, Reread};
use crate::roles::own_relay::Order;
use crate::roles::stays;
use crate::torrc::{Torrc, ours};

/// What a relay that sends nothing of its own has in `tor`'s lists.
const NOTHING: [&str; 11] = [
    "circuit-status",
    "stream-status",
    "entry-guards",
    "net/listeners/socks",
    "net/listeners/dns",
    "net/listeners/extor",
    "net/listeners/httptunnel",
    "net/listeners/natd",
    "net/listeners/trans",
    "onions/current",
    "onions/detached",
];

/// Events that happen here.
pub(in crate::roles) const EVENTS: [EventKind; 15] = [
    EventKind::Bw,
    EventKind::Debug,
    EventKind::Info,
    EventKind::Notice,
    EventKind::Warn,
    EventKind::Err,
    EventKind::DescChanged,
    EventKind::StatusClient,
    EventKind::StatusServer,
    EventKind::Ns,
    EventKind::NewConsensus,
    EventKind::Signal,
    EventKind::ConfChanged,
    EventKind::TransportLaunched,
    EventKind::ClientsSeen,
];

/// Signals that are taken: all of `tor`'s, as programs send NEWNYM whatever they are connected to.
/// Those about circuits of its own, about answers of exits and about rest find nothing at a relay.
pub(in crate::roles) const SIGNALS: &[Signal] = Signal::ALL;

/// What can be asked, by its name and what `info/names` says of it.
pub(in crate::roles) const KEYS: &[Key] = &[
    (
        "accounting/bytes",
        "Bytes read and written in this interval.",
    ),
    (
        "accounting/bytes-left",
        "Bytes that may still be read and written in this interval.",
    ),
    ("accounting/enabled", "Is accounting currently enabled?"),
    ("accounting/hibernating", "Are we hibernating or awake?"),
    ("accounting/interval-end", "Time when the interval ends."),
    ("accounting/interval-start", "Time when the interval began."),
    (
        "accounting/interval-wake",
        "Time to wake up in this interval: at its start.",
    ),
    ("address", "IP address of this relay."),
    ("address/v4", "IPv4 address of this relay."),
    ("address/v6", "IPv6 address of this relay."),
    (
        "circuit-status",
        "Circuits that begin here; a relay has none.",
    ),
    ("desc/all-recent", "The newest descriptor of each relay."),
    ("desc/download-enabled", "Are router descriptors fetched?"),
    ("desc/id/*", "Router descriptors by ID."),
    ("desc/name/*", "Router descriptors by nickname."),
    (
        "dir/server/*",
        "Router descriptors as retrieved from a DirPort.",
    ),
    (
        "dir/status-vote/current/consensus",
        "Consensus as retrieved from a DirPort.",
    ),
    (
        "dir/status-vote/current/consensus-microdesc",
        "Microdescriptor consensus as retrieved from a DirPort.",
    ),
    ("dormant", "Is this process dormant? A relay never is."),
    ("entry-guards", "Guards; a relay has none."),
    ("exit-policy/full", "The entire exit policy of this relay."),
    ("exit-policy/ipv4", "IPv4 parts of the exit policy."),
    ("exit-policy/ipv6", "IPv6 parts of the exit policy."),
    ("extra-info/digest/*", "Extra-info documents by digest."),
    ("fingerprint", "The digest of the RSA identity."),
    ("md/download-enabled", "Are microdescriptors fetched?"),
    (
        "net/listeners/dir",
        "Where directory requests are listened to.",
    ),
    ("net/listeners/dns", "Nowhere at a relay."),
    ("net/listeners/extor", "Nowhere at a relay."),
    ("net/listeners/httptunnel", "Nowhere at a relay."),
    ("net/listeners/metrics", "Where metrics are served."),
    ("net/listeners/natd", "Nowhere at a relay."),
    ("net/listeners/or", "Where relays are listened to."),
    ("net/listeners/socks", "Nowhere at a relay."),
    ("net/listeners/trans", "Nowhere at a relay."),
    ("onions/current", "Onion services; a relay has none."),
    ("onions/detached", "Onion services; a relay has none."),
    ("orconn-status", "A list of current OR connections."),
    (
        "status/bootstrap-phase",
        "The last bootstrap phase status event.",
    ),
    (
        "status/circuit-established",
        "Whether the network is known so far that circuits could be built.",
    ),
    (
        "status/enough-dir-info",
        "Whether there is a consensus with most of its relays.",
    ),
    (
        "status/clients-seen",
        "Breakdown of client countries seen by a bridge.",
    ),
    (
        "status/fresh-relay-descs",
        "The descriptor and extra-info of this relay.",
    ),
    (
        "status/reachability-succeeded",
        "Whether authorities have found the ports to be reachable.",
    ),
    (
        "status/reachability-succeeded/or",
        "Whether authorities list this relay as running.",
    ),
    (
        "stream-status",
        "Streams of applications; a relay has none.",
    ),
];

impl Driven for Node {
    const EVENTS: &'static [EventKind] = &EVENTS;
    const SIGNALS: &'static [Signal] = SIGNALS;
    const KEYS: &'static [Key] = KEYS;

    fn desk(&self) -> &Desk {
        &self.desk
    }

    fn desk_mut(&mut self) -> &mut Desk {
        &mut self.desk
    }

    fn conf(&self) -> &Conf {
        &self.conf
    }

    fn conf_mut(&mut self) -> &mut Conf {
        &mut self.conf
    }

    fn changed(&self, changes: &[(String, String)], empty: Empty) -> Result<Changed, ConfError> {
        self.conf.changed(changes, empty, self.in_force(), None)
    }

    fn loaded(&self, text: &str) -> Result<Changed, ConfError> {
        self.conf.loaded(text, self.in_force(), None)
    }

    fn put(&mut self, changed: &Changed) -> Result<(), Failure> {
        let source = Source::changed(&self.config.written, &changed.table);
        let config = config::node::read(source)?.into_relay()?;
        self.reload(config).map(drop)
    }

    fn info(&mut self, _: ConnectionId, key: &str) -> Result<String, Refusal> {
        self.value_of(key)
    }

    fn with_view<T>(&self, look: impl FnOnce(Option<&NetworkView>) -> T) -> T {
        look(self.relay.directory().view())
    }

    fn microdescs(&mut self, digests: &[[u8; 32]]) -> String {
        kept::microdescs(self.keep.store(), digests)
    }

    fn process(&self) -> Process<'_> {
        Process {
            written: &self.config.written,
            max_memory: self.relay.memory().max_bytes(),
            moved: self.moved,
        }
    }

    fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::Dump | Signal::Heartbeat => self.log_status(),
            Signal::Debug => drop(crate::logs::toggle_debug()),
            _ => {}
        }
    }
}

/// Opens the control port, if there is to be one.
pub(super) async fn open(
    config: &config::RelayConfig,
    torrc: Option<Torrc>,
    is_authority: bool,
    rng: &mut Rng,
) -> Result<(Desk, Option<mpsc::Receiver<Said>>, Conf), Failure> {
    let (desk, controllers) = Desk::open(config.control.as_ref(), rng.fork()).await?;
    let role = match is_authority {
        true => Role::Authority,
        false => Role::Relay,
    };
    let conf = Conf::new(role, torrc, &ours::of_relay(config));
    Ok((desk, controllers, conf))
}

impl Node {
    /// Hears a controller; whether the process goes on.
    pub(super) fn goes_on(&mut self, heard: Heard, reread: &Reread<config::RelayConfig>) -> bool {
        let goes = hear(self, heard);
        if goes == Goes::Reload {
            self.reread(reread);
        }
        goes != Goes::Away
    }

    fn in_force(&self) -> InForce<'_> {
        InForce {
            written: &self.config.written,
            fixed: &FIXED,
        }
    }

    /// What happens here, for the client of this process; at most so many events wait.
    pub(in crate::roles) fn pass_on_events(&mut self, most: usize) -> mpsc::Receiver<Event> {
        let (sender, events) = mpsc::channel(most);
        self.desk.pass_on(sender);
        events
    }

    /// Does what the client of this process asks.
    pub(super) fn obey_client(&mut self, order: Order, reread: &Reread<config::RelayConfig>) {
        match order {
            Order::Info(keys, reply) => {
                // Whoever does not wait for it needs none.
                let _ = reply.send(keys.iter().map(|key| self.value_of(key)).collect());
            }
            Order::Put(config) => {
                if let Err(error) = self.reload(*config) {
                    stays(&error);
                }
            }
            Order::Signal(Asked::Reload) => self.reread(reread),
            Order::Signal(Asked::Status) => self.log_status(),
        }
    }

    /// What controllers say, once.
    pub(crate) fn take_controllers(&mut self) -> Option<mpsc::Receiver<Said>> {
        self.controllers.take()
    }

    /// Waits, within reason, until controllers are sent all that was told them.
    pub(crate) async fn flushed(&self) {
        self.desk.flushed().await;
    }

    /// Reads the configuration again; what controllers have changed is forgotten.
    pub(super) fn reread(&mut self, reread: &Reread<config::RelayConfig>) {
        match reread().and_then(|config| self.reload(config)) {
            Ok(changes) => {
                changes.tell("family keys");
                self.forget_changes();
            }
            Err(error) => stays(&error),
        }
    }

    /// The options are those of the files, which were read again.
    pub(crate) fn forget_changes(&mut self) {
        let told = self.conf.reread(&ours::of_relay(&self.config));
        self.desk.tell(&told);
    }

    /// The value of a key.
    pub(crate) fn value_of(&mut self, key: &str) -> Result<String, Refusal> {
        let config = &self.config;
        let status = || self.relay.status(crate::clock::now());
        let unable = |text: &str| Refusal::Unable(text.to_owned());
        let flag = |is: bool| u8::from(is).to_string();
        Ok(match key {
            "fingerprint" => self.relay.keys().rsa_id().to_string(),
            "address" | "address/v4" => match *status().or_address.ip() {
                Ipv4Addr::UNSPECIFIED => return Err(unable("Address unknown")),
                ip => ip.to_string(),
            },
            "address/v6" => match status().or_address_v6 {
                Some(addr) => addr.ip().to_string(),
                None => return Err(unable("Address unknown")),
            },
            "net/listeners/or" => quoted(self.or_places.iter().map(ToString::to_string)),
            "net/listeners/dir" => quoted(config.dir_listen().iter().map(ToString::to_string)),
            "net/listeners/metrics" => {
                quoted(config.metrics.iter().map(|port| port.addr.to_string()))
            }
            "exit-policy/full" => status().exit_policy.join("\n"),
            "exit-policy/ipv4" => policy_of(&status().exit_policy, |rule| !rule.contains('[')),
            "exit-policy/ipv6" => policy_of(&status().exit_policy, |rule| !is_v4(rule)),
            "desc/download-enabled" | "md/download-enabled" => flag(true),
            "dormant" => flag(false),
            "status/bootstrap-phase" => {
                StatusEvent::from(&bootstrap(self.has_network())).to_string()
            }
            "status/circuit-established" | "status/enough-dir-info" => flag(self.has_network()),
            "status/reachability-succeeded/or" => flag(self.is_running()),
            "status/reachability-succeeded" => {
                let is = flag(self.is_running());
                format!("OR={is} DIR={is}")
            }
            "status/fresh-relay-descs" => fresh_documents(&self.relay)?,
            "orconn-status" => self.links(),
            "status/clients-seen" => match self.relay.bridge_clients() {
                Some(seen) => super::bridge::clients_seen(&seen).to_string(),
                None => return Err(unable("No bridge-client stats available")),
            },
            _ if NOTHING.contains(&key) => String::new(),
            _ => match key.strip_prefix("accounting/") {
                Some(key) => self.accounted(key)?,
                None => self.document(key)?,
            },
        })
    }

    fn is_running(&self) -> bool {
        let running = cepa_netdoc::routerstatus::Flags::RUNNING;
        self.flags.is_some_and(|flags| flags.contains(running))
    }

    fn has_network(&self) -> bool {
        self.relay.directory().view().is_some()
    }

    /// The links to relays, a line each.
    fn links(&self) -> String {
        let view = self.relay.directory().view();
        let links = self.workers.as_ref().map(|workers| workers.links());
        let line = |(id, is_open): (cepa_crypto::RsaId, bool)| {
            let router = view.and_then(|view| view.consensus().router(&id));
            let name = router.map_or_else(String::new, |router| format!("~{}", router.nickname));
            let word = if is_open { "CONNECTED" } else { "LAUNCHED" };
            format!("${id}{name} {word}")
        };
        let lines: Vec<_> = links.unwrap_or_default().into_iter().map(line).collect();
        lines.join("\n")
    }

    /// What was used of what may be carried.
    fn accounted(&self, key: &str) -> Result<String, Refusal> {
        let accounting = self.relay.accounting();
        let time = |pick: fn(&Accounting) -> SystemTime| {
            accounting.map_or_else(String::new, |one| timestamp::encode(pick(one)))
        };
        let pair = |(read, written): (u64, u64)| format!("{read} {written}");
        Ok(match key {
            "enabled" => u8::from(accounting.is_some()).to_string(),
            "hibernating" => word_of(self.relay.wakefulness()).to_ascii_lowercase(),
            "bytes" => pair(accounting.map_or((0, 0), Accounting::bytes)),
            "bytes-left" => pair(accounting.map_or((0, 0), Accounting::left)),
            "interval-start" | "interval-wake" => time(Accounting::began),
            "interval-end" => time(Accounting::wakes),
            _ => return Err(Refusal::Key(format!("accounting/{key}"))),
        })
    }

    /// A document, as the directory serves it.
    fn document(&self, key: &str) -> Result<String, Refusal> {
        let unknown = || Refusal::Key(key.to_owned());
        let path = match key.split_once('/') {
            Some(("dir", rest)) => format!("/tor/{rest}"),
            Some(("extra-info", rest)) => {
                format!("/tor/extra/{}", rest.replace("digest/", "d/"))
            }
            Some(("desc", "all-recent")) => "/tor/server/all".to_owned(),
            Some(("desc", rest)) => {
                let name = rest.strip_prefix("id/").or(rest.strip_prefix("name/"));
                let server = name.and_then(cepa_control::command::ServerSpec::parse);
                let view = self.relay.directory().view();
                let found = view
                    .zip(server)
                    .and_then(|(view, one)| relay_named(view, &one));
                let own = self.relay.keys().rsa_id();
                let is_own = name.is_some_and(|name| {
                    let names = [&own.to_string(), &self.config.nickname];
                    names.iter().any(|own| own.eq_ignore_ascii_case(name))
                });
                let found = found.or(is_own.then_some(own));
                let id = found.ok_or_else(unknown)?;
                format!("/tor/server/fp/{}", hex_upper(id.as_bytes()))
            }
            _ => return Err(unknown()),
        };
        let text = self.directory.text_of(&path);
        let own = || {
            let own = self.relay.own()?;
            let is_own = path.ends_with(&self.relay.keys().rsa_id().to_string());
            is_own.then(|| own.descriptor.text.to_string())
        };
        text.or_else(own).ok_or_else(unknown)
    }

    /// Tells how an authority took our descriptor.
    pub(super) fn tell_upload(&mut self, authority: usize, status: u16, reason: &str) {
        let Some(authority) = self.network.authorities.get(authority) else {
            return;
        };
        let at = ("DIRAUTH", StatusValue::Word(authority.dir_addr.to_string()));
        match status {
            200 => self.tell_server(StatusAction::AcceptedServerDescriptor, vec![at]),
            0 => {}
            _ => {
                let why = ("REASON", StatusValue::Text(reason.to_owned()));
                self.tell_server(StatusAction::BadServerDescriptor, vec![at, why]);
            }
        }
    }

    /// Tells that the relay sleeps, or is awake.
    pub(super) fn tell_sleep(&mut self, wakefulness: Wakefulness) {
        let word = StatusValue::Word(word_of(wakefulness).to_owned());
        self.tell_server(StatusAction::HibernationStatus, vec![("STATUS", word)]);
    }

    fn tell_server(&mut self, action: StatusAction, arguments: Vec<(&'static str, StatusValue)>) {
        let severity = match action {
            StatusAction::BadServerDescriptor => Severity::Warn,
            _ => Severity::Notice,
        };
        self.desk.tell(&Event::Status(StatusEvent {
            severity,
            action,
            arguments,
        }));
    }

    /// Tells of a document that is served from now on.
    pub(super) fn tell_document(&mut self, document: &DirDocument) {
        let own = self.relay.keys().rsa_id();
        match document {
            DirDocument::Consensus(text) if text.consensus().flavour == Flavour::Microdesc => {
                let kinds = [EventKind::NewConsensus, EventKind::Ns];
                let wanted = self.desk.wanted();
                if kinds.iter().any(|kind| wanted.contains(kind)) {
                    let told = entries(self.relay.directory().view());
                    self.desk.tell(&Event::NewConsensus(told));
                }
                self.desk.tell(&Event::Status(StatusEvent {
                    severity: Severity::Notice,
                    action: StatusAction::ConsensusArrived,
                    arguments: Vec::new(),
                }));
            }
            DirDocument::ServerDesc(desc) if desc.identity == own => {
                self.desk.tell(&Event::DescChanged);
            }
            _ => {}
        }
    }
}

/// The descriptor and the extra-info as they would be made now. Where it is not known at which
/// address others see this relay, an address of this machine stands in them, as with `tor`.
fn fresh_documents(relay: &cepa_relay::Relay) -> Result<String, Refusal> {
    let interfaces = || if_addrs::get_if_addrs().unwrap_or_default().into_iter();
    let guess = || {
        interfaces().find_map(|one| match one.ip() {
            IpAddr::V4(ip) if !ip.is_loopback() => Some(ip),
            _ => None,
        })
    };
    let guess = || guess().unwrap_or(Ipv4Addr::LOCALHOST);
    match relay.fresh_documents(guess, crate::clock::now()) {
        Ok(own) => Ok(format!("{}{}", own.descriptor.text, own.extra_info.text)),
        Err(error) => Err(Refusal::Unable(format!(
            "Cannot make a descriptor: {error}"
        ))),
    }
}

/// The rules of a family of addresses.
fn policy_of(rules: &[String], is_of: impl Fn(&str) -> bool) -> String {
    let rules = rules.iter().filter(|rule| is_of(rule));
    rules.cloned().collect::<Vec<_>>().join("\n")
}

/// Whether a rule is about IPv4 addresses alone: `accept 192.0.2.0/24:80`.
fn is_v4(rule: &str) -> bool {
    let pattern = rule.split(' ').nth(1).unwrap_or_default();
    pattern.starts_with(|first: char| first.is_ascii_digit())
}

fn word_of(wakefulness: Wakefulness) -> &'static str {
    match wakefulness {
        Wakefulness::Awake => "AWAKE",
        Wakefulness::Soft => "SOFT",
        Wakefulness::Hard => "HARD",
    }
}

/// A relay has the network, or begins to.
fn bootstrap(has_network: bool) -> Bootstrap {
    let (progress, tag, summary) = match has_network {
        true => (100, "done", "Done"),
        false => (0, "starting", "Starting"),
    };
    Bootstrap {
        progress,
        tag: tag.to_owned(),
        summary: summary.to_owned(),
        problem: None,
    }
}
