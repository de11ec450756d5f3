//! What controllers of a client are answered and told (control-spec 3 and 4).
//!
//! One command at a time, on the client's own loop, so that no answer is of two moments. What is
//! listed (`info/names`, `events/names`, `signal/names`) is what works here; a command of `tor`
//! that does not is refused as unrecognized.

mod by_hand;
mod info;
mod options;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use cepa_control::command::{
    AddOnion, ClientAuthAdd, MAX_STREAMS_UNLIMITED, OnionKey, OnionPort, OnionTarget, Resolve,
};
use cepa_control::text::service_id;
use cepa_control::{Command as Order, Event, EventKind, Refusal, Reply, Signal};
use cepa_crypto::onion::OnionAddress;
use cepa_crypto::{curve25519, ed25519, encoding};
use cepa_torrc::settings::Empty;
use cepa_wire::host::Host;
use cepa_wire::socks::{SocksAuth, SocksCommand, SocksRequest, SocksVersion};
use tokio::sync::mpsc;

use super::Runner;
use crate::clock;
use crate::config::ClientConfig;
use crate::config::onion::{PortTarget, Target};
use crate::control::{ConnectionId, ControlPort, Outbox, Said, translate};
use crate::error::Failure;
use crate::reload::Reread;
use crate::roles::applications::Asked;
use crate::roles::onion::{Added, NotAdded};

/// How long the last replies may take to be sent when the process is to stop.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Signals that are acted upon.
const SIGNALS: [Signal; 10] = [
    Signal::Reload,
    Signal::Hup,
    Signal::Shutdown,
    Signal::Dump,
    Signal::Usr1,
    Signal::Halt,
    Signal::Term,
    Signal::Int,
    Signal::NewNym,
    Signal::Heartbeat,
];

/// A controller.
struct Connected {
    outbox: Rc<Outbox>,
    events: BTreeSet<EventKind>,
    /// Services that end with it.
    onions: BTreeSet<OnionAddress>,
    /// The process ends with it.
    is_owner: bool,
}

/// What is known of controllers.
pub(super) struct Desk {
    connections: BTreeMap<ConnectionId, Connected>,
    /// Services that were added by controllers and belong to none.
    detached: BTreeSet<OnionAddress>,
    /// Keys to services that controllers gave, with their names for them.
    client_keys: BTreeMap<OnionAddress, ClientAuthAdd>,
    listeners: Vec<String>,
    pub(super) config: ClientConfig,
    started: Instant,
}

/// Whether the process goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goes {
    /// It does.
    On,
    /// It is to stop.
    Away,
}

/// Opens the control port, if there is to be one, and serves it: what is said comes out of the
/// queue.
pub(super) async fn open(
    config: &ClientConfig,
    rng: cepa_crypto::Rng,
) -> Result<(Desk, Option<mpsc::Receiver<Said>>), Failure> {
    let mut desk = Desk {
        connections: BTreeMap::new(),
        detached: BTreeSet::new(),
        client_keys: BTreeMap::new(),
        listeners: Vec::new(),
        config: config.clone(),
        started: clock::now().mono,
    };
    let Some(control) = &config.control else {
        return Ok((desk, None));
    };
    let port = ControlPort::open(control, rng).await?;
    desk.listeners = port.places();
    Ok((desk, Some(port.serve())))
}

/// What controllers say next; nothing, for ever, where there are none.
pub(super) async fn said(queue: &mut Option<mpsc::Receiver<Said>>) -> Option<Said> {
    match queue {
        Some(queue) => queue.recv().await,
        None => std::future::pending().await,
    }
}

impl Desk {
    /// Takes what of another configuration is in force from now on.
    pub(super) fn take(&mut self, config: &ClientConfig) {
        let ours = &mut self.config;
        ours.rules.clone_from(&config.rules);
        ours.geoip.clone_from(&config.geoip);
        ours.onion_services.clone_from(&config.onion_services);
        ours.onion_auth_dir.clone_from(&config.onion_auth_dir);
        ours.log.clone_from(&config.log);
        ours.manners = config.manners;
        ours.mappings.clone_from(&config.mappings);
        ours.is_off = config.is_off;
        ours.written.clone_from(&config.written);
    }

    /// Tells an event to those who asked for it. One who does not read is told no more.
    fn tell(&mut self, event: &Event) {
        let kind = event.kind();
        let mut bytes = None;
        for (id, connected) in &mut self.connections {
            if !connected.events.contains(&kind) {
                continue;
            }
            let bytes = bytes.get_or_insert_with(|| event.encode());
            if !connected.outbox.push_event(bytes) {
                connected.events.clear();
                tracing::warn!(
                    controller = id.0,
                    "a controller does not read its events, and is told no more of them"
                );
            }
        }
    }

    fn is_anybody_told(&self) -> bool {
        let mut connections = self.connections.values();
        connections.any(|connected| !connected.events.is_empty())
    }

    /// Waits, within reason, until everything is sent.
    pub(super) async fn flushed(&self) {
        for connected in self.connections.values() {
            let flushed = connected.outbox.flushed();
            let _ = tokio::time::timeout(FLUSH_TIMEOUT, flushed).await;
        }
    }
}

impl Runner {
    /// Hears a controller.
    pub(super) fn hear(&mut self, said: Said, reread: &Reread<ClientConfig>) -> Goes {
        match said {
            Said::Opened(id, outbox) => {
                let connected = Connected {
                    outbox,
                    events: BTreeSet::new(),
                    onions: BTreeSet::new(),
                    is_owner: false,
                };
                self.desk.connections.insert(id, connected);
                Goes::On
            }
            Said::Command(id, order, done) => {
                let (reply, goes) = match self.obey(id, &order, reread) {
                    Ok((reply, goes)) => (reply, goes),
                    Err(refusal) => (refusal.into(), Goes::On),
                };
                if let Some(connected) = self.desk.connections.get(&id) {
                    connected.outbox.push_reply(reply.encode());
                }
                let _ = done.send(());
                if let Order::Signal(signal) = *order
                    && SIGNALS.contains(&signal)
                    && goes == Goes::On
                {
                    self.desk.tell(&Event::Signal(signal));
                }
                goes
            }
            Said::Closed(id) => self.part_with(id),
        }
    }

    fn part_with(&mut self, id: ConnectionId) -> Goes {
        let Some(connected) = self.desk.connections.remove(&id) else {
            return Goes::On;
        };
        for address in connected.onions {
            self.hosting.remove(address);
        }
        self.listen();
        if connected.is_owner {
            tracing::info!("Stopping: the controller that owns this process is gone");
            return Goes::Away;
        }
        Goes::On
    }

    /// Has the client tell what happens exactly while somebody wants to know.
    fn listen(&self) {
        let listens = self.desk.is_anybody_told();
        self.worker.with(|client, now| client.listen(listens, now));
    }

    /// Tells controllers what has happened to the client.
    pub(super) fn tell_events(&mut self) {
        let now = clock::now().wall;
        let events = self.worker.with(|client, _| {
            let mut events = Vec::new();
            while let Some(happened) = client.poll_status_event() {
                events.extend(translate::events(&happened, client, now));
            }
            events
        });
        for event in &events {
            self.desk.tell(event);
        }
    }

    fn obey(
        &mut self,
        id: ConnectionId,
        order: &Order,
        reread: &Reread<ClientConfig>,
    ) -> Result<(Reply, Goes), Refusal> {
        let reply = match order {
            Order::GetInfo(keys) => self.told_info(id, keys),
            Order::GetConf(keys) => self.conf.values_of(keys),
            Order::SetConf(settings) => self.set_conf(settings, Empty::Nought)?,
            Order::ResetConf(settings) => self.set_conf(settings, Empty::Default)?,
            Order::LoadConf(text) => self.load_conf(text)?,
            Order::SaveConf(is_forced) => {
                self.conf.save(*is_forced).map_err(Refusal::Unable)?;
                Reply::ok()
            }
            Order::SetEvents(events) => {
                if let Some(connected) = self.desk.connections.get_mut(&id) {
                    connected.events = events.iter().copied().collect();
                }
                self.listen();
                Reply::ok()
            }
            Order::Signal(signal) => {
                let goes = self.signal(*signal, reread)?;
                return Ok((Reply::ok(), goes));
            }
            Order::TakeOwnership | Order::DropOwnership => {
                if let Some(connected) = self.desk.connections.get_mut(&id) {
                    connected.is_owner = matches!(order, Order::TakeOwnership);
                }
                Reply::ok()
            }
            // Both are always on.
            Order::UseFeature(_) => Reply::ok(),
            Order::AddOnion(onion) => self.add_onion(id, onion)?,
            Order::DelOnion(address) => self.del_onion(id, *address)?,
            Order::OnionClientAuthAdd(add) => self.add_client_key(add)?,
            Order::OnionClientAuthRemove(address) => self.remove_client_key(*address),
            Order::OnionClientAuthView(address) => self.view_client_keys(*address),
            Order::Resolve(resolve) => self.resolve(resolve),
            Order::ExtendCircuit(asked) => by_hand::extend_circuit(&self.worker, asked)?,
            Order::SetCircuitPurpose(asked) => by_hand::set_circuit_purpose(&self.worker, asked)?,
            Order::CloseCircuit(asked) => by_hand::close_circuit(&self.worker, asked)?,
            Order::AttachStream(asked) => by_hand::attach_stream(&self.worker, asked)?,
            Order::RedirectStream(asked) => by_hand::redirect_stream(&self.worker, asked)?,
            Order::CloseStream(asked) => by_hand::close_stream(&self.worker, asked)?,
            Order::HsFetch(asked) => by_hand::fetch_descriptor(&self.worker, asked)?,
            Order::HsPost(asked) => by_hand::post_descriptor(&self.worker, asked)?,
            Order::MapAddress(mappings) => {
                by_hand::map_addresses(&self.worker, &mut self.desk, mappings)
            }
            other => return Err(Refusal::Command(other.name().name().to_owned())),
        };
        Ok((reply, Goes::On))
    }

    fn signal(&mut self, signal: Signal, reread: &Reread<ClientConfig>) -> Result<Goes, Refusal> {
        match signal.canonical() {
            Signal::Shutdown | Signal::Halt => {
                tracing::info!("Stopping: a controller wants it");
                return Ok(Goes::Away);
            }
            Signal::Reload => self.reload(reread),
            Signal::Dump | Signal::Heartbeat => self.log_status(),
            Signal::NewNym => self.worker.with(cepa_client::Client::new_session),
            _ => return Err(Refusal::Signal(signal.name().to_owned())),
        }
        Ok(Goes::On)
    }

    fn add_onion(&mut self, id: ConnectionId, onion: &AddOnion) -> Result<Reply, Refusal> {
        if onion.non_anonymous {
            return Err(Refusal::Syntax("Tor is in anonymous hidden service mode"));
        }
        if onion.pow_defenses || onion.pow_queue_rate.is_some() || onion.pow_queue_burst.is_some() {
            return Err(Refusal::Syntax("Proofs of work are not known here"));
        }
        let identity = match &onion.key {
            OnionKey::New => ed25519::Keypair::generate(&mut self.rng).expand(),
            OnionKey::Ed25519V3(bytes) => ed25519::ExpandedKeypair::from_bytes(bytes),
        };
        let secret = identity.to_bytes();
        let address = OnionAddress::new(&identity.public())
            .map_err(|_| Refusal::Syntax("Failed to decode ED25519-V3 key"))?;
        let max = usize::from(onion.max_streams);
        let added = Added {
            identity,
            address,
            clients: onion.clients.clone(),
            ports: onion.ports.iter().map(port_target).collect(),
            streams_max: (onion.max_streams != MAX_STREAMS_UNLIMITED).then_some(max),
            closes_on_excess: onion.max_streams_close_circuit,
        };
        self.hosting.add(added).map_err(|why| match why {
            NotAdded::Collision => Refusal::OnionCollision,
            NotAdded::TooMany => Refusal::Unable("Too many onion services".to_owned()),
        })?;
        match self.desk.connections.get_mut(&id) {
            Some(connected) if !onion.detach => connected.onions.insert(address),
            _ => self.desk.detached.insert(address),
        };
        let mut reply = Reply::new(250, format!("ServiceID={}", service_id(&address)));
        if onion.key == OnionKey::New && !onion.discard_key {
            let key = encoding::base64(&*secret);
            reply = reply.line(250, format!("PrivateKey=ED25519-V3:{key}"));
        }
        for client in &onion.clients {
            let client = encoding::base32_lower(client.as_bytes());
            reply = reply.line(250, format!("ClientAuthV3={client}"));
        }
        Ok(reply.line(250, "OK"))
    }

    fn del_onion(&mut self, id: ConnectionId, address: OnionAddress) -> Result<Reply, Refusal> {
        let connected = self.desk.connections.get_mut(&id);
        let is_own = connected.is_some_and(|connected| connected.onions.remove(&address));
        if !is_own && !self.desk.detached.remove(&address) {
            return Err(Refusal::OnionService);
        }
        self.hosting.remove(address);
        Ok(Reply::ok())
    }

    fn add_client_key(&mut self, add: &ClientAuthAdd) -> Result<Reply, Refusal> {
        if add.is_permanent {
            let address = service_id(&add.address);
            let mistake = format!("Unable to store creds for \"{address}\"");
            return Err(Refusal::Store(mistake));
        }
        let key = curve25519::SecretKey::from_bytes(&add.key);
        let address = add.address;
        let has_room = self
            .worker
            .with(|client, now| client.add_onion_client_key(address, key, now));
        if !has_room {
            return Err(Refusal::Unable("Too many client keys".to_owned()));
        }
        let known = self.desk.client_keys.insert(address, add.clone());
        Ok(match known.is_none() {
            true => Reply::ok(),
            false => Reply::new(251, "Client for onion existed and replaced"),
        })
    }

    fn remove_client_key(&mut self, address: OnionAddress) -> Reply {
        match self.desk.client_keys.remove(&address) {
            Some(_) => {
                self.worker
                    .with(|client, _| client.remove_onion_client_key(&address));
                Reply::ok()
            }
            None => Reply::new(
                251,
                format!("No credentials for \"{}\"", service_id(&address)),
            ),
        }
    }

    fn view_client_keys(&self, wanted: Option<OnionAddress>) -> Reply {
        let asked = wanted.map_or_else(String::new, |one| format!(" {}", service_id(&one)));
        let mut reply = Reply::new(250, format!("ONION_CLIENT_AUTH_VIEW{asked}"));
        for (address, add) in &self.desk.client_keys {
            if wanted.is_some_and(|wanted| wanted != *address) {
                continue;
            }
            let (address, key) = (service_id(address), encoding::base64(&*add.key));
            let name = add.client_name.iter();
            let name: String = name.map(|name| format!(" ClientName={name}")).collect();
            reply = reply.line(250, format!("CLIENT {address} x25519:{key}{name}"));
        }
        reply.line(250, "OK")
    }

    /// Looks up each name, in a stream of its own; the answers come as events.
    fn resolve(&self, resolve: &Resolve) -> Reply {
        for name in &resolve.names {
            let address = match name.parse() {
                Ok(ip) => Host::Ip(ip),
                Err(_) => Host::Name(name.clone()),
            };
            let command = match resolve.is_reverse {
                true => SocksCommand::ResolvePtr,
                false => SocksCommand::Resolve,
            };
            let request = SocksRequest {
                version: SocksVersion::V5,
                command,
                address,
                port: 0,
                auth: SocksAuth::None,
            };
            let nobody = std::net::SocketAddr::from(([0; 4], 0));
            let protocol = cepa_client::Protocol::Socks(SocksVersion::V5);
            let asked = Asked::new(nobody.into(), nobody, protocol, request);
            let applications = Rc::clone(&self.applications);
            tokio::task::spawn_local(async move {
                let mut waiting = applications.ask(asked);
                waiting.answer().await;
            });
        }
        Reply::ok()
    }
}

fn port_target(port: &OnionPort) -> PortTarget {
    PortTarget {
        port: port.virtual_port,
        target: match &port.target {
            OnionTarget::Tcp(addr) => Target::Tcp(*addr),
            OnionTarget::Unix(path) => Target::Unix(path.clone()),
        },
    }
}
