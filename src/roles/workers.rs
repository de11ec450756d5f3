//! The threads of a relay that carry cells: one `Switch` each, every core in use.
//!
//! ```text
//! or_port --accepted sockets, in turn--> worker 0   worker 1   ...      a thread each
//!                                           |  <-batches->  |
//! registry: the channels to each relay, whichever workers have them
//! ```
//! What a switch asks of the outside is done here: onionskins by other threads, links to other
//! relays, streams to the world, the directory through an in-memory pipe.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cepa_circuit::{CircuitKey, OnionKeys, OnionskinJob};
use cepa_crypto::Rng;
use cepa_limits::{Memory, MemoryShare};
use cepa_link::{ChannelKey, LinkIdentity};
use cepa_relay::{
    Handover, KnownRelays, Switch, SwitchCommand, SwitchConfig, SwitchCounts, Wakefulness, WorkerId,
};
use slotmap::SecondaryMap;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::LocalSet;

mod ext_or;
mod links;

pub(crate) use self::ext_or::ExtOrPort;
use super::exit;
use super::onion_threads::{self, Answer, OnionThreads};
use super::registry::Registry;
use crate::clock;
use crate::dns::Resolver;
use crate::doors::{Doors, EXITS, HANDSHAKES, OR_PORT, Pass};
use crate::error::Failure;
use crate::http;
use crate::net::edge;
use crate::net::link::{self, LinkError};
use crate::net::pace::{Pace, Traffic};
use crate::net::worker::{HANDOVER_BATCHES_MAX, Worker};

/// Commands of a switch that are looked at together, so that onionskins go out in batches.
const COMMANDS_MAX: usize = 64;

/// What links and circuits are opened with; replaced as a whole when keys are rotated.
pub(crate) struct NodeKeys {
    /// TLS of incoming links.
    pub(crate) acceptor: Arc<rustls::ServerConfig>,
    /// What the link handshake shows; it names the certificate of `acceptor`.
    pub(crate) link: Arc<LinkIdentity>,
    /// What onionskins are answered with.
    pub(crate) onion: Arc<OnionKeys>,
}

/// What all workers share.
pub(crate) struct Shared {
    /// The keys in use.
    pub(crate) keys: watch::Receiver<Arc<NodeKeys>>,
    /// TLS of outgoing links.
    pub(crate) connector: Arc<rustls::ClientConfig>,
    /// Source address of outgoing links, so that peers see the one in our descriptor.
    pub(crate) bind: Option<IpAddr>,
    /// Where streams leave from, to addresses of each one's family.
    exit_from: Mutex<Arc<[IpAddr]>>,
    /// The link protocols that are spoken.
    pub(crate) link_versions: &'static [u16],
    /// Whether other relays are told who we are: a bridge is a client to them.
    pub(crate) shows_identity: bool,
    /// The look-ups of streams that leave here.
    pub(crate) resolver: Resolver,
    /// The directory, for BEGIN_DIR.
    pub(crate) directory: http::Server,
    /// Where the directory's tasks run.
    pub(crate) control: tokio::runtime::Handle,
    /// What the workers count into.
    pub(crate) traffic: Arc<Traffic>,
    /// What the process holds.
    pub(crate) memory: Arc<Memory>,
    onion_threads: OnionThreads,
    /// What they keep to.
    pub(crate) pace: Arc<Pace>,
    /// Whether no new links are taken.
    is_asleep: AtomicBool,
    /// Who may come in.
    pub(crate) doors: Doors,
    registry: Registry,
    /// Of a bridge: where its clients are counted.
    clients: Option<mpsc::Sender<Came>>,
    messages: Vec<mpsc::UnboundedSender<Message>>,
}

/// What a worker is told. Few at a time: one for each link, circuit extension and configuration.
enum Message {
    Accept(Box<Incoming>),
    ChannelFound(CircuitKey, Option<(WorkerId, ChannelKey)>),
    Retire(ChannelKey),
    Config(Arc<SwitchConfig>),
    Relays(Arc<KnownRelays>),
    Sleep(Wakefulness),
    Count(oneshot::Sender<SwitchCounts>),
}

/// A connection that was let in, for its link and for the handshake before it.
struct Incoming {
    tcp: std::net::TcpStream,
    peer: SocketAddr,
    /// The transport that handed it on.
    transport: Option<String>,
    link: Pass,
    handshake: Pass,
}

/// From where a client has come to a bridge, and by which transport.
pub(crate) type Came = (IpAddr, Option<String>);

/// The workers of a relay; they end with the process.
#[derive(Clone)]
pub(crate) struct Workers {
    shared: Arc<Shared>,
}

/// What [`Workers::start`] needs of its surroundings.
pub(crate) struct Setup {
    /// Threads.
    pub(crate) workers: usize,
    /// What the switches begin with.
    pub(crate) config: Arc<SwitchConfig>,
    /// What they know of other relays at first.
    pub(crate) relays: Arc<KnownRelays>,
    /// See [`Shared`], as for all that follow.
    pub(crate) keys: watch::Receiver<Arc<NodeKeys>>,
    pub(crate) connector: Arc<rustls::ClientConfig>,
    pub(crate) bind: Option<IpAddr>,
    pub(crate) exit_from: Vec<IpAddr>,
    pub(crate) link_versions: &'static [u16],
    pub(crate) shows_identity: bool,
    pub(crate) resolver: Resolver,
    pub(crate) directory: http::Server,
    pub(crate) control: tokio::runtime::Handle,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) pace: Arc<Pace>,
    pub(crate) doors: Doors,
    pub(crate) clients: Option<mpsc::Sender<Came>>,
}

impl Workers {
    /// Starts the threads.
    pub(crate) fn start(setup: Setup, rng: &mut Rng) -> Result<Self, Failure> {
        let count = setup.workers.clamp(1, cepa_relay::switch::WORKERS_MAX);
        let (messages, inboxes): (Vec<_>, Vec<_>) =
            (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let (batches, batch_inboxes): (Vec<_>, Vec<_>) = (0..count)
            .map(|_| mpsc::channel(HANDOVER_BATCHES_MAX))
            .unzip();
        let shared = Arc::new(Shared {
            keys: setup.keys,
            connector: setup.connector,
            bind: setup.bind,
            exit_from: Mutex::new(setup.exit_from.into()),
            link_versions: setup.link_versions,
            shows_identity: setup.shows_identity,
            resolver: setup.resolver,
            directory: setup.directory,
            control: setup.control,
            traffic: setup.traffic,
            memory: setup.memory,
            onion_threads: OnionThreads::start(onion_threads::cores())?,
            pace: setup.pace,
            is_asleep: AtomicBool::new(false),
            doors: setup.doors,
            registry: Registry::new(clock::now().mono),
            clients: setup.clients,
            messages,
        });
        let inboxes = inboxes.into_iter().zip(batch_inboxes);
        for (number, (inbox, batch_inbox)) in (0_u8..).zip(inboxes) {
            let id = WorkerId(number);
            let mut switch = Switch::new(id, count, Arc::clone(&setup.config), rng.fork());
            switch.set_relays(Arc::clone(&setup.relays));
            let thread = Thread {
                id,
                shared: Arc::clone(&shared),
                rng: rng.fork(),
                inbox,
                batch_inbox,
                batches: batches.clone(),
            };
            std::thread::Builder::new()
                .name(format!("cells-{number}"))
                .spawn(move || thread.run(switch))
                .map_err(|error| Failure::new("cannot start a thread", "this process", error))?;
        }
        Ok(Workers { shared })
    }

    /// Hands accepted connections to the workers in turn, for as long as the listener lives.
    pub(crate) async fn accept(self, listener: tokio::net::TcpListener) {
        let mut next = 0;
        let (links, handshakes) = (
            self.shared.doors.gate(OR_PORT),
            self.shared.doors.gate(HANDSHAKES),
        );
        loop {
            let (tcp, peer, link) = links.accept(&listener).await;
            let Ok(handshake) = handshakes.enter(Some(peer.ip())) else {
                tracing::debug!("too many handshakes: a connection is closed");
                continue;
            };
            if !self.takes_links() {
                continue;
            }
            let Ok(tcp) = tcp.into_std() else { continue };
            let incoming = Incoming {
                tcp,
                peer,
                transport: None,
                link,
                handshake,
            };
            self.tell(next, Message::Accept(Box::new(incoming)));
            next = (next + 1) % self.shared.messages.len();
        }
    }

    /// Whether new links are taken: it is awake, and has memory for them.
    fn takes_links(&self) -> bool {
        let has_memory = self.shared.memory.takes_links();
        if !has_memory {
            tracing::debug!("memory is short: a connection is closed");
        }
        has_memory && !self.shared.is_asleep.load(Ordering::Relaxed)
    }

    /// Replaces the configuration of all switches.
    pub(crate) fn links(&self) -> Vec<(cepa_crypto::RsaId, bool)> {
        self.shared.registry.links()
    }

    pub(crate) fn set_config(&self, config: &Arc<SwitchConfig>) {
        for worker in 0..self.shared.messages.len() {
            self.tell(worker, Message::Config(Arc::clone(config)));
        }
    }

    /// New streams leave from these addresses.
    pub(crate) fn set_exit_from(&self, from: &[IpAddr]) {
        let held = self.shared.exit_from.lock();
        *held.unwrap_or_else(PoisonError::into_inner) = from.into();
    }

    /// Tells all switches of the relays in a new consensus.
    pub(crate) fn set_relays(&self, relays: &Arc<KnownRelays>) {
        for worker in 0..self.shared.messages.len() {
            self.tell(worker, Message::Relays(Arc::clone(relays)));
        }
    }

    /// Takes links and circuits, takes no new ones, or closes all.
    pub(crate) fn set_wakefulness(&self, wakefulness: Wakefulness) {
        let is_asleep = wakefulness != Wakefulness::Awake;
        self.shared.is_asleep.store(is_asleep, Ordering::Relaxed);
        for worker in 0..self.shared.messages.len() {
            self.tell(worker, Message::Sleep(wakefulness));
        }
    }

    /// What all switches count together.
    pub(crate) async fn counts(self) -> SwitchCounts {
        let mut all = SwitchCounts::default();
        for worker in 0..self.shared.messages.len() {
            let (answer, counts) = oneshot::channel();
            self.tell(worker, Message::Count(answer));
            if let Ok(counts) = counts.await {
                all += &counts;
            }
        }
        all
    }

    fn tell(&self, worker: usize, message: Message) {
        if let Some(inbox) = self.shared.messages.get(worker) {
            // Workers end with the process.
            let _ = inbox.send(message);
        }
    }
}

impl Shared {
    /// Those channels end when they are idle.
    fn retire(&self, channels: Vec<(WorkerId, ChannelKey)>) {
        for (worker, channel) in channels {
            if let Some(inbox) = self.messages.get(usize::from(worker.0)) {
                let _ = inbox.send(Message::Retire(channel));
            }
        }
    }

    fn exit_from(&self) -> Arc<[IpAddr]> {
        let held = self.exit_from.lock();
        Arc::clone(&held.unwrap_or_else(PoisonError::into_inner))
    }

    fn keys(&self) -> Arc<NodeKeys> {
        Arc::clone(&self.keys.borrow())
    }

    fn tell_found(
        &self,
        waiters: Vec<(WorkerId, CircuitKey)>,
        place: Option<(WorkerId, ChannelKey)>,
    ) {
        for (worker, circuit) in waiters {
            if let Some(inbox) = self.messages.get(usize::from(worker.0)) {
                let _ = inbox.send(Message::ChannelFound(circuit, place));
            }
        }
    }
}

/// What one thread begins with.
struct Thread {
    id: WorkerId,
    shared: Arc<Shared>,
    rng: Rng,
    inbox: mpsc::UnboundedReceiver<Message>,
    batch_inbox: mpsc::Receiver<Vec<Handover>>,
    batches: Vec<mpsc::Sender<Vec<Handover>>>,
}

impl Thread {
    fn run(self, switch: Switch) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => LocalSet::new().block_on(&runtime, self.serve(switch)),
            Err(error) => tracing::error!(%error, "a worker cannot run"),
        }
    }

    async fn serve(mut self, switch: Switch) {
        let share = MemoryShare::new(Arc::clone(&self.shared.memory));
        let (traffic, pace) = (self.shared.traffic.clone(), Arc::clone(&self.shared.pace));
        let (worker, commands) = Worker::new(switch, traffic, share, Some(pace));
        tokio::task::spawn_local(Rc::clone(&worker).run_courier(self.batches));
        tokio::task::spawn_local(Rc::clone(&worker).run_inbox(self.batch_inbox));
        tokio::task::spawn_local(Rc::clone(&worker).run_timer());
        let (answers, answered) = mpsc::unbounded_channel();
        tokio::task::spawn_local(take_answers(Rc::clone(&worker), answered));
        let runner = Runner {
            id: self.id,
            answers,
            worker: Rc::clone(&worker),
            shared: self.shared,
            passes: Rc::default(),
        };
        tokio::task::spawn_local(runner.clone().run_commands(commands, self.rng.fork()));
        while let Some(message) = self.inbox.recv().await {
            match message {
                Message::Accept(incoming) => runner.accept(*incoming, self.rng.fork()),
                Message::ChannelFound(circuit, found) => {
                    worker.with(|switch, now| switch.handle_channel_found(circuit, found, now));
                }
                Message::Retire(channel) => {
                    worker.with(|switch, _| switch.retire_channel(channel));
                }
                Message::Config(config) => {
                    worker.with(|switch, now| switch.set_config(config, now));
                }
                Message::Relays(relays) => worker.with(|switch, _| switch.set_relays(relays)),
                Message::Sleep(wakefulness) => {
                    let is_hibernating = wakefulness != Wakefulness::Awake;
                    worker.with(|switch, _| switch.set_hibernating(is_hibernating));
                    if wakefulness == Wakefulness::Hard {
                        worker.end_all_channels();
                    }
                }
                Message::Count(answer) => {
                    let _ = answer.send(worker.peek(Switch::counts));
                }
            }
        }
    }
}

/// Does what the switch of one worker asks for.
#[derive(Clone)]
struct Runner {
    id: WorkerId,
    worker: Rc<Worker<Switch>>,
    shared: Arc<Shared>,
    /// The places of those who came to our door.
    passes: Rc<RefCell<SecondaryMap<ChannelKey, Rc<Pass>>>>,
    answers: mpsc::UnboundedSender<Vec<Answer>>,
}

/// Gives the switch of a worker the answers to its onionskins.
async fn take_answers(
    worker: Rc<Worker<Switch>>,
    mut answered: mpsc::UnboundedReceiver<Vec<Answer>>,
) {
    while let Some(batch) = answered.recv().await {
        worker.with(|switch, now| {
            for answer in batch {
                switch.note_onionskin_cost(answer.cost);
                switch.handle_onionskin(answer.circuit, answer.reply, now);
            }
        });
    }
}

impl Runner {
    async fn run_commands(
        self,
        mut commands: mpsc::UnboundedReceiver<SwitchCommand>,
        mut rng: Rng,
    ) {
        let (mut batch, mut onionskins) = (Vec::new(), Vec::new());
        while commands.recv_many(&mut batch, COMMANDS_MAX).await > 0 {
            for command in batch.drain(..) {
                match command {
                    SwitchCommand::Onionskin { circuit, job } => onionskins.push((circuit, job)),
                    command => self.run_command(command, &mut rng),
                }
            }
            self.answer_onionskins(&mut onionskins, &mut rng);
        }
    }

    fn run_command(&self, command: SwitchCommand, rng: &mut Rng) {
        let worker = Rc::clone(&self.worker);
        let resolver = self.shared.resolver.clone();
        match command {
            SwitchCommand::Onionskin { circuit, job } => {
                self.answer_onionskins(&mut vec![(circuit, job)], rng);
            }
            SwitchCommand::NeedChannel { circuit, target } => {
                self.find_channel(circuit, target, rng.fork());
            }
            SwitchCommand::ChannelUnwanted { circuit, rsa } => {
                self.shared.registry.unwanted(rsa, (self.id, circuit));
            }
            SwitchCommand::Connect { stream, begin } => {
                let gate = self.shared.doors.gate(EXITS);
                let way = (resolver, self.shared.exit_from());
                tokio::task::spawn_local(exit::connect(worker, way, stream, begin, gate));
            }
            SwitchCommand::Resolve { stream, resolve } => {
                tokio::task::spawn_local(exit::resolve(worker, resolver, stream, resolve));
            }
            SwitchCommand::OpenDir { stream, anonymous } => {
                self.open_directory(stream, anonymous);
            }
            SwitchCommand::CloseStream { stream } => worker.ring_stream(stream),
            SwitchCommand::ChannelUsed { channel, is_used } => {
                if let Some(pass) = self.passes.borrow().get(channel) {
                    pass.set_busy(is_used);
                }
            }
            SwitchCommand::CloseChannel { channel, reason } => {
                tracing::debug!(%reason, "a channel is closed");
                worker.end_channel(channel);
            }
        }
    }

    fn answer_onionskins(&self, jobs: &mut Vec<(CircuitKey, Box<OnionskinJob>)>, rng: &mut Rng) {
        while !jobs.is_empty() {
            let rest = jobs.split_off(jobs.len().min(onion_threads::BATCH));
            let jobs = std::mem::replace(jobs, rest);
            self.shared.onion_threads.send(onion_threads::Batch {
                jobs,
                keys: Arc::clone(&self.shared.keys().onion),
                rng: rng.fork(),
                answers: self.answers.clone(),
            });
        }
    }

    fn accept(&self, incoming: Incoming, mut rng: Rng) {
        let Incoming {
            tcp,
            peer,
            transport,
            link: pass,
            handshake,
        } = incoming;
        let Ok(tcp) = TcpStream::from_std(tcp) else {
            return;
        };
        let runner = self.clone();
        tokio::task::spawn_local(async move {
            let keys = runner.shared.keys();
            let identity = Arc::clone(&keys.link);
            let (tls, versions) = (&keys.acceptor, runner.shared.link_versions);
            let link = link::accept(tcp, peer, tls, identity, versions, &mut rng);
            let link = tokio::select! {
                link = link => link,
                () = handshake.evicted() => Err(LinkError::Evicted),
                () = pass.evicted() => Err(LinkError::Evicted),
            };
            if let Err(LinkError::Timeout(_)) = link {
                handshake.timed_out();
            }
            drop(handshake);
            match link {
                Ok(link) => {
                    pass.opened();
                    if let (None, Some(clients)) = (link.established.peer, &runner.shared.clients) {
                        // Where more come than are counted, these are not.
                        let _ = clients.try_send((peer.ip(), transport));
                    }
                    // In a task of its own, which is smaller than that of the handshake.
                    let served = runner.serve_link(link, None, Some(pass));
                    drop(tokio::task::spawn_local(served));
                }
                Err(error) => tracing::debug!(%error, "an incoming link failed"),
            }
        });
    }

    fn open_directory(&self, stream: cepa_circuit::StreamKey, anonymous: bool) {
        self.worker
            .with(|switch, now| switch.stream_dir_connected(stream, now));
        let theirs = edge::pipe(&self.worker, stream);
        let server = self.shared.directory.clone();
        let neighbour = self.worker.peek(|switch| switch.neighbour(stream));
        let peer = match neighbour.filter(|_| !anonymous) {
            Some(addr) => http::Peer::Neighbour(addr.ip()),
            None => http::Peer::Circuit,
        };
        self.shared
            .control
            .spawn(async move { server.serve_stream(theirs, peer).await });
    }
}
