//! Runs a relay until it is stopped: its control core, its workers, its directory.
//!
//! One loop: await an event, apply it, keep what changed, do what the core asks, wait again.
//! An authority runs the same node with its own core beside it (`roles::authority`).

mod bridge;
mod control;
mod core;
mod doors;
mod keys;
mod reload;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cepa_control::Event as ControlEvent;
use cepa_crypto::Rng;
use cepa_crypto::rsa::RsaKeyError;
use cepa_dir::fetch::{self, FetchId, Origin};
use cepa_dir::{DirDocument, DirRequest, DirStore, NetworkFile};
use cepa_link::{LinkIdentity, TlsKeyAndCert};
use cepa_netdoc::consensus::ConsensusText;
use cepa_netdoc::routerstatus::Flags;
use cepa_relay::relay::Command;
use cepa_relay::{Accounting, Relay, SwitchCounts, Wakefulness};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

pub(crate) use self::bridge::LINES_FILE as BRIDGE_LINES_FILE;
use self::bridge::{Bridge, transport_ends};
pub(super) use self::control::KEYS;
use self::core::{core_config, find_address, restore};
use self::doors::{authorities, directory, open_doors, resolver};
use self::keys::read_keys;
pub(super) use self::reload::FIXED;
use super::directory::Directory;
use super::mirror::Mirror;
use super::own_relay::Order;
use super::uploads::Uploads;
use super::workers::{Came, ExtOrPort, NodeKeys, Workers};
use super::{Lifecycle, fetch as exchange, log_kept, network_file};
use crate::clock;
use crate::config::RelayConfig;
use crate::control::{Conf, Desk, Said, heard, next};
use crate::dns::Resolver;
use crate::doors::Doors;
use crate::error::Failure;
use crate::folder::Folder;
use crate::keep::{Keep, kept};
use crate::launched::{Reporter, Shutdown, Stage};
use crate::listen;
use crate::net::pace::{Pace, Traffic, count};
use crate::network::Network;
use crate::reload::{Asked, Reread, Signals};
use crate::status::relay::NodeStatus;
use crate::status::{self, Query, Sockets, Subject};
use crate::store::Durability;
use crate::torrc::Torrc;
use crate::transports::State;

/// How often the core is told of the bytes that were moved.
const TRAFFIC_EVERY: Duration = Duration::from_secs(1);

/// Clients of a bridge that wait to be counted; the others are not.
const CAME_MAX: usize = 1024;

/// The answers to what the core asked for.
enum Event {
    Fetched(FetchId, fetch::Reply),
    Uploaded(usize, u16, String),
    TlsKey(Box<Result<TlsKeyAndCert, RsaKeyError>>),
    /// A transport serves, or does not any more.
    Transports(State),
    Address(Ipv4Addr),
}

/// Runs a relay until `shutdown`.
pub async fn run(
    config: RelayConfig,
    reread: Reread<RelayConfig>,
    lifecycle: Lifecycle,
) -> Result<(), Failure> {
    let shutdown = lifecycle.shutdown;
    let by = (lifecycle.reporter, lifecycle.torrc);
    let mut stops = shutdown.clone();
    let node = tokio::select! {
        node = Node::start(config, None, by, &shutdown) => node?,
        () = stops.wait() => return Ok(()),
    };
    serve(node, None, &reread, lifecycle.signals, shutdown).await
}

/// Serves until `shutdown`; `orders` come from a client in this process.
pub(super) async fn serve(
    mut node: Node,
    mut orders: Option<mpsc::Receiver<Order>>,
    reread: &Reread<RelayConfig>,
    mut signals: Signals,
    mut shutdown: Shutdown,
) -> Result<(), Failure> {
    let mut controllers = node.take_controllers();
    loop {
        node.drain()?;
        let timeout = node.timeout();
        tokio::select! {
            () = node.next_event() => {}
            heard = heard(&mut controllers) => if !node.goes_on(heard, reread) { break },
            Some(order) = next(orders.as_mut()) => node.obey_client(order, reread),
            () = tokio::time::sleep_until(timeout.into()) => node.handle_timeout(),
            asked = signals.next() => match asked {
                Asked::Reload => node.reread(reread),
                Asked::Status => node.log_status(),
            },
            () = shutdown.wait() => break,
        }
    }
    node.flushed().await;
    node.finish_bridge().await;
    node.finish();
    Ok(())
}

/// What an authority brings to the node that it runs on.
pub(crate) struct AuthorityParts {
    /// The documents, of which those of the round are the authority's.
    pub(crate) store: DirStore,
    /// Where uploads go.
    pub(crate) uploads: Uploads,
}

/// A running relay.
pub(crate) struct Node {
    /// The control core.
    pub(crate) relay: Relay,
    /// What is served.
    pub(crate) directory: Directory,
    /// What survives.
    pub(crate) keep: Keep,
    /// Files of `tor`'s, in its place.
    mirror: Option<Mirror>,
    /// The network file.
    pub(crate) network: Arc<NetworkFile>,
    /// The stages reached.
    pub(crate) reporter: Reporter,
    /// Randomness.
    pub(crate) rng: Rng,
    /// TLS of outgoing links.
    pub(crate) connector: Arc<rustls::ClientConfig>,
    /// Source address of outgoing links.
    pub(crate) bind: Option<IpAddr>,
    folder: Folder,
    workers: Option<Workers>,
    keys: Option<watch::Sender<Arc<NodeKeys>>>,
    onion: Option<Arc<cepa_circuit::OnionKeys>>,
    switch: Option<Arc<cepa_relay::SwitchConfig>>,
    relays: Arc<cepa_relay::KnownRelays>,
    resolver: Resolver,
    /// Where relays are listened to, until there are workers to take them.
    listeners: Vec<TcpListener>,
    /// The places of them.
    or_places: Vec<SocketAddr>,
    config: RelayConfig,
    published: bool,
    traffic: Arc<Traffic>,
    pace: Arc<Pace>,
    traffic_due: Instant,
    doors: Doors,
    bridge: Option<Bridge>,
    /// Where transports hand clients on, until there are workers to take these.
    extended: Option<ExtOrPort>,
    /// Bytes that were read and written before what `traffic` has.
    moved: (u64, u64),
    flags: Option<Flags>,
    _sockets: Sockets,
    queries: mpsc::Receiver<Query>,
    unanswered: Vec<Query>,
    is_authority: bool,
    consensuses: Vec<ConsensusText>,
    /// Who tells of clients of this bridge, and those that are not counted yet.
    clients: (mpsc::Sender<Came>, mpsc::Receiver<Came>),
    desk: Desk,
    controllers: Option<mpsc::Receiver<Said>>,
    /// The configuration as controllers see it.
    conf: Conf,
    events: mpsc::UnboundedReceiver<Event>,
    answers: mpsc::UnboundedSender<Event>,
}

impl Node {
    /// Opens folder, ports and keys, and starts the core.
    pub(crate) async fn start(
        config: RelayConfig,
        authority: Option<AuthorityParts>,
        (reporter, torrc): (Reporter, Option<Torrc>),
        shutdown: &Shutdown,
    ) -> Result<Self, Failure> {
        let folder = Folder::open(&config.data_dir)?;
        let network = Arc::new(network_file(&Network::of(&config.network)?));
        let mut keep = Keep::open(folder.path(), Durability::Full)?;
        let mut rng = clock::rng()?;
        let keys = read_keys(&folder, keep.store(), &config, &mut rng)?;
        let doors = open_doors(&config, &network, rng.fork());
        let (listeners, or_places) = doors::listen(&config).await?;
        let is_authority = authority.is_some();
        let directory = directory(authority, &network, &config);
        let (pace, traffic) = (Arc::new(Pace::of(&config)), Arc::<Traffic>::default());
        doors::serve_dir_port(&config, &directory, &doors, (&pace, &traffic), shutdown).await?;
        let metrics = listen::metrics(config.metrics.clone()).await?;
        let (sockets, queries) = Sockets::open(folder.path(), metrics, shutdown.clone())?;
        let connector = core::connector()?;
        let (desk, controllers, conf) =
            control::open(&config, torrc, is_authority, &mut rng).await?;
        let (answers, events) = mpsc::unbounded_channel();
        let address = find_address(&config, (&network, &connector), rng.fork(), &answers);
        let (core, chance) = (core_config(&config, address)?, rng.fork());
        let mut relay = Relay::new(core, Arc::clone(&network), keys, clock::now(), chance);
        restore(&mut relay, &directory, keep.store())?;
        let (bridge, extended) = bridge::open(&config, folder.path(), &answers, &mut rng).await?;
        Ok(Node {
            relay,
            directory,
            mirror: Mirror::of(&reporter, folder.path(), keep.store()),
            keep,
            network,
            reporter,
            rng,
            connector,
            bind: config.source(),
            folder,
            workers: None,
            keys: None,
            onion: None,
            switch: None,
            relays: Arc::default(),
            resolver: resolver(&config)?,
            listeners,
            or_places,
            config,
            published: false,
            traffic,
            pace,
            traffic_due: clock::now().mono + TRAFFIC_EVERY,
            doors,
            bridge,
            extended,
            moved: (0, 0),
            flags: None,
            _sockets: sockets,
            queries,
            unanswered: Vec::new(),
            is_authority,
            consensuses: Vec::new(),
            clients: mpsc::channel(CAME_MAX),
            desk,
            controllers,
            conf,
            events,
            answers,
        })
    }

    /// Waits for the next answer and applies it.
    pub(crate) async fn next_event(&mut self) {
        let event = tokio::select! {
            // The sender is ours: the channel never ends.
            Some(event) = self.events.recv() => event,
            Some(query) = self.queries.recv() => return self.answer(query),
            Some(came) = self.clients.1.recv() => {
                let client = bridge::client(&mut self.desk, &self.config, came);
                return self.relay.handle_bridge_client(&client);
            }
        };
        let now = clock::now();
        match event {
            Event::Fetched(id, reply) => {
                count(&self.traffic.other_read_bytes, reply.body.len());
                self.relay.handle_fetch(id, reply, now);
            }
            Event::Uploaded(authority, status, reason) => {
                if status == 200 && !self.published {
                    self.published = true;
                    self.reporter.report(&Stage::Published);
                }
                self.tell_upload(authority, status, &reason);
                self.relay.handle_upload(authority, status, &reason, now);
            }
            Event::TlsKey(made) => self.relay.handle_tls_key(*made, now),
            Event::Address(ip) => {
                self.relay.set_address(ip, now);
                self.write_bridge();
            }
            Event::Transports(state) => {
                self.write_bridge();
                state.launched().for_each(|event| self.desk.tell(&event));
            }
        }
    }

    /// Answers a question about this process.
    fn answer(&mut self, query: Query) {
        match query.question.subject {
            Subject::Relay => {
                let status = self.status();
                tokio::spawn(async move {
                    let status = status.await;
                    query.reply(&status, || status::relay::words(&status));
                });
            }
            Subject::Metrics if self.is_authority => self.unanswered.push(query),
            Subject::Metrics => self.answer_metrics(query, String::new()),
            Subject::Authority | Subject::Health | Subject::Why if self.is_authority => {
                self.unanswered.push(query);
            }
            _ => query.refuse(),
        }
    }

    /// Answers with the metrics of this node, and more behind them.
    pub(crate) fn answer_metrics(&self, query: Query, more: String) {
        let status = self.status();
        tokio::spawn(async move {
            let (status, now) = (status.await, clock::now().wall);
            query.reply_metrics(status::relay::metrics(&status, now) + &more);
        });
    }

    /// The data folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Questions about the authority beside.
    pub(crate) fn take_unanswered(&mut self) -> Vec<Query> {
        std::mem::take(&mut self.unanswered)
    }

    /// How this relay is.
    fn status(&self) -> impl Future<Output = NodeStatus> + Send + use<> {
        let mut status = NodeStatus {
            relay: self.relay.status(clock::now()),
            flags: self.flags,
            counts: SwitchCounts::default(),
            dos: self.doors.dos_counts(),
            doors: self.doors.door_counts(),
            is_dry_run: self.config.dos.is_dry_run,
            hsdir: self.directory.hs_counts(),
            dns: self.resolver.counts(),
            read_bytes: self.moved.0 + self.traffic.read_bytes.load(Ordering::Relaxed),
            written_bytes: self.moved.1 + self.traffic.written_bytes.load(Ordering::Relaxed),
            kept: self.keep.status(),
            memory: Arc::clone(self.relay.memory()),
        };
        let workers = self.workers.clone();
        async move {
            if let Some(workers) = workers {
                status.counts = workers.counts().await;
                status.dos += &status.counts.dos;
            }
            status
        }
    }

    /// Writes to the log how this relay is.
    pub(crate) fn log_status(&self) {
        log_kept(&self.keep);
        let status = self.status();
        tokio::spawn(async move {
            let words = status::relay::words(&status.await);
            words
                .lines()
                .for_each(|line| tracing::info!("Status: {line}"));
        });
    }

    /// When [`Node::handle_timeout`] is due.
    pub(crate) fn timeout(&self) -> Instant {
        let due = self.relay.poll_timeout().into_iter();
        due.chain(self.keep.timeout())
            .fold(self.traffic_due, Instant::min)
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self) {
        let now = clock::now();
        if self.traffic_due <= now.mono {
            self.traffic_due = now.mono + TRAFFIC_EVERY;
            let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
            let read_bytes = take(&self.traffic.read_bytes);
            let written_bytes = take(&self.traffic.written_bytes);
            self.moved.0 += read_bytes;
            self.moved.1 += written_bytes;
            self.desk.tell(&ControlEvent::Bandwidth {
                read: read_bytes,
                written: written_bytes,
            });
            self.relay.handle_traffic(read_bytes, written_bytes, now);
            let read_bytes = take(&self.traffic.other_read_bytes);
            let written_bytes = take(&self.traffic.other_written_bytes);
            self.relay
                .handle_other_traffic(read_bytes, written_bytes, now);
        }
        self.relay.handle_timeout(now);
        if self.keep.timeout().is_some_and(|due| due <= now.mono) {
            tokio::task::block_in_place(|| self.keep.handle_timeout());
        }
    }

    /// Keeps what is not kept yet: the last call.
    pub(crate) fn finish(&mut self) {
        let used = self.relay.accounting().map(Accounting::encode);
        self.keep.rows(used.map(kept::accounting));
        tokio::task::block_in_place(|| self.keep.finish());
    }

    /// The consensuses that came into force since last asked; for the authority beside.
    pub(crate) fn take_consensuses(&mut self) -> Vec<ConsensusText> {
        std::mem::take(&mut self.consensuses)
    }

    /// What links of this node show, once there is a TLS key.
    pub(crate) fn link_identity(&self) -> Option<Arc<LinkIdentity>> {
        self.keys
            .as_ref()
            .map(|keys| Arc::clone(&keys.borrow().link))
    }

    /// Does all that the core asks for; first of all what must not be lost.
    ///
    /// # Errors
    /// What is fatal to a relay that has not begun to work.
    pub(crate) fn drain(&mut self) -> Result<(), Failure> {
        let mut changes = Vec::new();
        let mut commands = Vec::new();
        while let Some(command) = self.relay.poll_command() {
            match command {
                Command::KeepAccounting(text) => changes.push(kept::accounting(text)),
                Command::Serve(document) => {
                    changes.extend(kept::change(&document));
                    commands.push(Command::Serve(document));
                }
                other => commands.push(other),
            }
        }
        tokio::task::block_in_place(|| {
            if let Some(mirror) = &mut self.mirror {
                mirror.apply(&changes, self.keep.store());
            }
            self.keep.rows(changes);
        });
        for command in commands {
            match self.run_command(command) {
                // What runs goes on with what it had before.
                Err(error) if self.workers.is_some() => tracing::error!("{error}"),
                done => done?,
            }
        }
        Ok(())
    }

    fn run_command(&mut self, command: Command) -> Result<(), Failure> {
        let answers = self.answers.clone();
        match command {
            Command::Fetch { id, request, from } => self.fetch(id, request, from),
            Command::Upload {
                authority,
                to,
                body,
            } => {
                tokio::spawn(async move {
                    let body = bytes::Bytes::from_owner(body.as_bytes().to_vec());
                    let request = DirRequest::PostDescriptor;
                    let told = exchange::upload(to.into(), &request, body).await;
                    let _ = answers.send(Event::Uploaded(authority, told.status, told.reason));
                });
            }
            Command::Serve(document) => self.serve(document),
            Command::SaveKeys { files, ntor_since } => self.save_keys(files, ntor_since)?,
            Command::ReadSigningKey => self.read_signing_key()?,
            Command::OnionKeys(onion) => self.set_onion_keys(onion),
            Command::MakeTlsKey(job) => {
                let mut rng = self.rng.fork();
                tokio::task::spawn_blocking(move || {
                    let made = job.run(clock::now(), &mut rng);
                    let _ = answers.send(Event::TlsKey(Box::new(made)));
                });
            }
            Command::Link { tls, identity } => self.set_link(&tls, identity)?,
            Command::Switch(config) => {
                self.doors.set_dos(config.dos);
                if let Some(workers) = &self.workers {
                    workers.set_config(&config);
                }
                self.switch = Some(config);
            }
            Command::HsDuty(duty) => self.directory.set_hs_duty(*duty),
            Command::Sleep(wakefulness) => {
                self.tell_sleep(wakefulness);
                self.directory.set_closed(wakefulness == Wakefulness::Hard);
                if let Some(workers) = &self.workers {
                    workers.set_wakefulness(wakefulness);
                }
            }
            Command::ClientsSeen(seen) => {
                let event = ControlEvent::ClientsSeen(bridge::clients_seen(&seen));
                self.desk.tell(&event);
            }
            // Kept before.
            Command::KeepAccounting(_) => {}
            Command::Relays(relays) => {
                if let Some(workers) = &self.workers {
                    workers.set_relays(&relays);
                }
                self.relays = relays;
            }
        }
        Ok(())
    }

    fn fetch(&self, id: FetchId, request: DirRequest, from: Origin) {
        let (Origin::DirPort(index) | Origin::BeginDir { fallback: index }) = from;
        let addr = self
            .network
            .authorities
            .get(index)
            .map(|authority| authority.dir_addr);
        // One that sleeps spends nothing on what it can't serve.
        let is_asleep = self.relay.wakefulness() == Wakefulness::Hard;
        let addr = addr.filter(|_| !is_asleep);
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let reply = match addr {
                Some(addr) => exchange::over_dir_port(addr.into(), &request).await,
                None => fetch::Reply::failed(),
            };
            let _ = answers.send(Event::Fetched(id, reply));
        });
    }

    fn serve(&mut self, document: DirDocument) {
        let relays = match &document {
            DirDocument::Consensus(text) => {
                if self.is_authority {
                    self.consensuses.push(text.clone());
                }
                let listed = text.consensus().router(&self.relay.keys().rsa_id());
                self.flags = listed.map(|router| router.flags);
                let routers = text.consensus().routers.iter();
                let ips = routers.flat_map(|router| {
                    let more = router.a.iter().map(|addr| IpAddr::V6(*addr.ip()));
                    more.chain([IpAddr::V4(router.ip)])
                });
                let doors = transport_ends(&self.config);
                let known = authorities(&self.network).chain(ips).chain(doors);
                self.doors.set_known(known);
                Some(text.consensus().routers.len())
            }
            _ => None,
        };
        self.tell_document(&document);
        let upkeep = kept::upkeep(&document);
        tokio::task::block_in_place(|| self.keep.tend(&upkeep));
        self.directory.insert(document);
        // What is reported can be fetched: of an authority, people ask for either flavour.
        if let Some(relays) = relays
            && (!self.is_authority || self.directory.has_both_flavours())
        {
            if self.is_authority {
                // In tor's words: programs wait for it, and fetch it then.
                tracing::info!("Published microdesc consensus");
            }
            self.reporter.report(&Stage::Consensus(relays));
        }
    }
}
