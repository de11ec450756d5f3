//! What controllers of a client are answered and told (control-spec 3 and 4), beside what every
//! role answers (`crate::control`).
//!
//! One command at a time, on the client's own loop, so that no answer is of two moments. What is
//! listed (`info/names`, `events/names`, `signal/names`) is what works here.

mod by_hand;
mod info;
pub(super) mod options;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use cepa_control::command::{
    AddOnion, ClientAuthAdd, MAX_STREAMS_UNLIMITED, OnionKey, OnionPort, OnionTarget, Resolve,
};
use cepa_control::text::service_id;
use cepa_control::{Command, Event, EventKind, Refusal, Reply, Signal};
use cepa_crypto::onion::OnionAddress;
use cepa_crypto::{Rng, curve25519, ed25519, encoding};
use cepa_dir::netview::NetworkView;
use cepa_torrc::settings::Empty;
use cepa_torrc::translate::Role;
use cepa_wire::host::Host;
use cepa_wire::socks::{SocksAuth, SocksCommand, SocksRequest, SocksVersion};
use tokio::sync::mpsc;

use super::{FIXED, Runner, kept};
use crate::clock;
use crate::config::onion::{PortTarget, Target};
use crate::config::{ClientConfig, GeoIpFiles};
use crate::control::{
    Changed, Conf, ConfError, ConnectionId, Desk, Driven, Goes, Heard, InForce, Key, Process, Said,
    hear, translate,
};
use crate::error::Failure;
use crate::reload::{self, Reread};
use crate::roles::applications::Asked;
use crate::roles::onion::{Added, NotAdded};
use crate::roles::own_relay::{self, Order, OwnRelay};
use crate::torrc::{Torrc, ours};

/// What controllers gave to a client.
pub(super) struct Given {
    /// Services that end with their connection.
    onions: BTreeMap<ConnectionId, BTreeSet<OnionAddress>>,
    /// Services that were added by controllers and belong to none.
    detached: BTreeSet<OnionAddress>,
    /// Keys to services, with the controllers' names for them.
    client_keys: BTreeMap<OnionAddress, ClientAuthAdd>,
    /// The configuration that is in force.
    pub(super) config: ClientConfig,
}

impl Given {
    pub(super) fn new(config: ClientConfig) -> Self {
        Given {
            onions: BTreeMap::new(),
            detached: BTreeSet::new(),
            client_keys: BTreeMap::new(),
            config,
        }
    }

    /// Takes what of another configuration is in force from now on.
    pub(super) fn take(&mut self, config: &ClientConfig) {
        let ours = &mut self.config;
        ours.socks.clone_from(&config.socks);
        ours.socks_unix.clone_from(&config.socks_unix);
        ours.http_connect.clone_from(&config.http_connect);
        ours.http_connect_unix.clone_from(&config.http_connect_unix);
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
}

/// Opens the control port, if there is to be one. Where a relay is in the same process, controllers
/// see both as one relay.
pub(super) async fn open(
    config: &ClientConfig,
    torrc: Option<Torrc>,
    relay: Option<&OwnRelay>,
    rng: Rng,
) -> Result<(Desk, Option<mpsc::Receiver<Said>>, Conf), Failure> {
    let (desk, controllers) = Desk::open(config.control.as_ref(), rng).await?;
    let ours = ours::of_client(config);
    Ok(match relay {
        None => (desk, controllers, Conf::new(Role::Client, torrc, &ours)),
        Some(relay) => {
            let controllers = controllers.map(|controllers| relay.answered(controllers));
            (desk, controllers, Conf::new(Role::Relay, torrc, &ours))
        }
    })
}

impl Driven for Runner {
    const EVENTS: &'static [EventKind] = &info::EVENTS;
    const SIGNALS: &'static [Signal] = Signal::ALL;
    const KEYS: &'static [Key] = &info::KEYS;

    fn more_events(&self) -> &'static [EventKind] {
        match self.relay {
            Some(_) => &own_relay::EVENTS,
            None => &[],
        }
    }

    fn more_keys(&self) -> &[Key] {
        self.relay.as_ref().map_or(&[], |relay| &relay.keys)
    }

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
        let relay = self.relay.as_ref().map(|relay| relay.fixed);
        self.conf.changed(changes, empty, self.in_force(), relay)
    }

    fn loaded(&self, text: &str) -> Result<Changed, ConfError> {
        let relay = self.relay.as_ref().map(|relay| relay.fixed);
        self.conf.loaded(text, self.in_force(), relay)
    }

    fn put(&mut self, changed: &Changed) -> Result<(), Failure> {
        options::put(self, changed)
    }

    fn info(&mut self, from: ConnectionId, key: &str) -> Result<String, Refusal> {
        self.value_of(from, key)
    }

    fn with_view<T>(&self, look: impl FnOnce(Option<&NetworkView>) -> T) -> T {
        self.worker.peek(|client| look(client.view()))
    }

    fn microdescs(&mut self, digests: &[[u8; 32]]) -> String {
        kept::microdescs(self.keep.store(), digests)
    }

    fn geoip_files(&self) -> GeoIpFiles {
        self.given.config.geoip.clone()
    }

    fn process(&self) -> Process<'_> {
        let traffic = self.worker.peek(cepa_client::Client::traffic);
        let (read, written) = self.relay.as_ref().map_or((0, 0), |relay| relay.moved);
        Process {
            written: &self.written,
            max_memory: self.given.config.max_memory,
            moved: (traffic.read_bytes + read, traffic.written_bytes + written),
        }
    }

    fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::Dump | Signal::Heartbeat => {
                self.log_status();
                if let Some(relay) = &self.relay {
                    relay.order(Order::Signal(reload::Asked::Status));
                }
            }
            Signal::NewNym => self.worker.with(cepa_client::Client::new_session),
            Signal::Debug => drop(crate::logs::toggle_debug()),
            Signal::Active | Signal::Dormant => {
                let rests = signal == Signal::Dormant;
                self.worker
                    .with(|client, now| client.controller(now).set_dormant(rests));
            }
            // No answers of exits are kept; the rest is seen to by who calls.
            _ => {}
        }
    }

    /// Has the client tell what happens exactly while somebody wants to know.
    fn wanted(&mut self, events: &BTreeSet<EventKind>) {
        let listens = !events.is_empty();
        self.worker.with(|client, now| client.listen(listens, now));
    }

    fn part_with(&mut self, from: ConnectionId) {
        for address in self.given.onions.remove(&from).unwrap_or_default() {
            self.hosting.remove(address);
        }
    }

    fn obey(&mut self, id: ConnectionId, order: &Command) -> Result<Reply, Refusal> {
        Ok(match order {
            Command::AddOnion(onion) => self.add_onion(id, onion)?,
            Command::DelOnion(address) => self.del_onion(id, *address)?,
            Command::OnionClientAuthAdd(add) => self.add_client_key(add)?,
            Command::OnionClientAuthRemove(address) => self.remove_client_key(*address),
            Command::OnionClientAuthView(address) => self.view_client_keys(*address),
            Command::Resolve(resolve) => self.resolve(resolve),
            Command::ExtendCircuit(asked) => by_hand::extend_circuit(&self.worker, asked)?,
            Command::SetCircuitPurpose(asked) => by_hand::set_circuit_purpose(&self.worker, asked)?,
            Command::CloseCircuit(asked) => by_hand::close_circuit(&self.worker, asked)?,
            Command::AttachStream(asked) => by_hand::attach_stream(&self.worker, asked)?,
            Command::RedirectStream(asked) => by_hand::redirect_stream(&self.worker, asked)?,
            Command::CloseStream(asked) => by_hand::close_stream(&self.worker, asked)?,
            Command::HsFetch(asked) => by_hand::fetch_descriptor(&self.worker, asked)?,
            Command::HsPost(asked) => by_hand::post_descriptor(&self.worker, asked)?,
            Command::MapAddress(mappings) => {
                by_hand::map_addresses(&self.worker, &mut self.desk, mappings)
            }
            Command::PostDescriptor(posted) => by_hand::post_router(posted)?,
            Command::DropGuards => {
                self.worker
                    .with(|client, now| client.controller(now).drop_guards());
                Reply::ok()
            }
            Command::DropTimeouts => {
                self.worker
                    .with(|client, now| client.controller(now).drop_timeouts());
                Reply::ok()
            }
            other => return Err(Refusal::Command(other.name().name().to_owned())),
        })
    }
}

impl Runner {
    /// Hears a controller; whether the process goes on.
    pub(super) fn goes_on(&mut self, heard: Heard, reread: &Reread<ClientConfig>) -> bool {
        let goes = hear(self, heard);
        options::fetch_descriptors(self);
        if goes == Goes::Reload {
            self.handle(reload::Asked::Reload, reread);
        }
        goes != Goes::Away
    }

    fn in_force(&self) -> InForce<'_> {
        InForce {
            written: &self.written,
            fixed: &FIXED,
        }
    }

    /// Tells controllers what has happened to the relay of this process; its bytes are told with
    /// ours.
    pub(super) fn tell_relay(&mut self, event: &Event) {
        match event {
            Event::Bandwidth { read, written } => {
                if let Some(relay) = &mut self.relay {
                    relay.count(*read, *written);
                }
            }
            event if own_relay::EVENTS.contains(&event.kind()) => self.desk.tell(event),
            _ => {}
        }
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
        for mut event in events {
            if let (Event::Bandwidth { read, written }, Some(relay)) = (&mut event, &mut self.relay)
            {
                let (more_read, more_written) = relay.take_counted();
                *read += more_read;
                *written += more_written;
            }
            self.desk.tell(&event);
        }
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
        match onion.detach {
            false => self.given.onions.entry(id).or_default().insert(address),
            true => self.given.detached.insert(address),
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
        let onions = self.given.onions.get_mut(&id);
        let is_own = onions.is_some_and(|onions| onions.remove(&address));
        if !is_own && !self.given.detached.remove(&address) {
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
        let known = self.given.client_keys.insert(address, add.clone());
        Ok(match known.is_none() {
            true => Reply::ok(),
            false => Reply::new(251, "Client for onion existed and replaced"),
        })
    }

    fn remove_client_key(&mut self, address: OnionAddress) -> Reply {
        match self.given.client_keys.remove(&address) {
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
        for (address, add) in &self.given.client_keys {
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
