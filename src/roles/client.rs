//! Runs a client until it is stopped: its core, its channels, its SOCKS ports.
//!
//! All of it lives on one thread with a runtime of its own, so that cells, streams and control
//! share the core without a lock. One loop does what the core asks for; links, directory
//! exchanges and applications are tasks beside it.

mod control;
mod links;
mod saved;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use cepa_client::automap::Automap;
use cepa_client::status::ClientStatus;
use cepa_client::{Client, ClientConfig as CoreConfig, Command, Directory, FetchId, Rules, Saved};
use cepa_crypto::onion::OnionAddress;
use cepa_crypto::{Rng, curve25519};
use cepa_dir::DirRequest;
use cepa_limits::{DosCounts, Memory, MemoryShare};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, LocalSet};

use super::applications::{Answer, Applications};
use super::mirror::Mirror;
use super::onion::{self, Hosting};
use super::own_relay::{self, Order, OwnRelay};
use super::ports::{Changing, Ports};
use super::{Lifecycle, fetch as exchange, log_kept, network_file, stays, until};
use crate::clock;
use crate::config::ClientConfig;
use crate::config::written::{Changes, Written};
use crate::control::{Conf, Desk, heard, next};
use crate::doors::{Descriptors, Doors, VISITORS};
use crate::error::{Failure, fail};
use crate::folder::Folder;
use crate::keep::{Keep, kept};
use crate::keyfiles;
use crate::launched::{Reporter, Stage};
use crate::listen;
use crate::logs;
use crate::net::edge;
use crate::net::worker::Worker;
use crate::network::Network;
use crate::proxy::Proxy;
use crate::reload::{Asked, Reread};
use crate::status::{self, Query, Sockets, Subject};
use crate::store::{Change, Durability};
use crate::tls;
use crate::torrc::ours;
use crate::transports::{State, Transports};

/// The keys that take effect at a start only.
const FIXED: [&str; 24] = [
    "inline_network",
    "dns",
    "redirect",
    "tproxy",
    "automap",
    "automap_suffixes",
    "virtual_ipv4",
    "virtual_ipv6",
    "socks_policy",
    "test_socks",
    "safe_socks",
    "warn_plaintext_ports",
    "reject_plaintext_ports",
    "data_dir",
    "network",
    "distinct_subnets",
    "channel_padding",
    "circuit_padding",
    "vanguards",
    "outbound_bind_address",
    "outbound_proxy",
    "max_memory",
    "metrics",
    "control",
];

/// Our keys for services that are not for everybody.
type ClientKeys = Vec<(OnionAddress, curve25519::SecretKey)>;

/// Runs a client until `shutdown`; `reread` gives its configuration as it is by then, and `relay`
/// is in the same process.
pub(crate) async fn run(
    config: ClientConfig,
    reread: Reread<ClientConfig>,
    lifecycle: Lifecycle,
    relay: Option<OwnRelay>,
) -> Result<(), Failure> {
    let thread = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => {
                let client = serve(config, reread, lifecycle, relay);
                LocalSet::new().block_on(&runtime, client)
            }
            Err(error) => fail("cannot start the client's thread", "this process", error),
        }
    });
    thread
        .await
        .unwrap_or_else(|error| fail("the client has stopped", "a bug of ours", error))
}

/// Has the client hold no more than that; the share is that of its worker.
fn limit_memory(client: &mut Client, max_memory: usize) -> MemoryShare {
    let memory = Memory::new(max_memory);
    client.share_memory(Arc::clone(&memory));
    MemoryShare::new(memory)
}

/// The client's core, as it was when it was kept.
fn core(
    config: &ClientConfig,
    network: &Network,
    rules: Rules,
    keep: &mut Keep,
    folder: &Folder,
    rng: Rng,
) -> Result<Client, Failure> {
    let client = Client::new(
        core_config(config, network, rules),
        Arc::new(network_file(network)),
        saved::state(keep.store(), folder)?,
        rng,
        clock::now(),
    );
    client.map_err(|error| {
        let advice = "restore it from a copy, or move it away for new guards";
        Failure::new(
            format!("the guards cannot be read ({error})"),
            keep.store().path(),
            advice,
        )
    })
}

async fn serve(
    mut config: ClientConfig,
    reread: Reread<ClientConfig>,
    lifecycle: Lifecycle,
    relay: Option<OwnRelay>,
) -> Result<(), Failure> {
    let (mut shutdown, mut signals) = (lifecycle.shutdown, lifecycle.signals);
    let rules = rules(&config, relay.as_ref())?;
    let network = Network::of(&config.network)?;
    let folder = Folder::open(&config.data_dir)?;
    let mut keep = Keep::open(folder.path(), Durability::Process)?;
    let ports = Ports::open(&mut config).await?;
    let metrics = listen::metrics(config.metrics.clone()).await?;
    let mut rng = clock::rng()?;
    let (desk, mut controllers, conf) =
        control::open(&config, lifecycle.torrc, relay.as_ref(), rng.fork()).await?;
    let opened = onion::open(&config.onion_services, &mut rng)?;
    let client_keys = client_keys(&config)?;
    let (_sockets, mut queries) = Sockets::open(folder.path(), metrics, shutdown.clone())?;
    let mut client = core(&config, &network, rules, &mut keep, &folder, rng.fork())?;
    let doors = open_doors(rng.fork());
    let share = limit_memory(&mut client, config.max_memory);
    begin_as(&mut client, &config);
    let (worker, mut commands) = Worker::new(client, Arc::default(), share, None);
    let (transports, mut launched) = links::transports(&config, &network)?;
    let mut runner = Runner {
        given: control::Given::new(config.clone()),
        hosting: Hosting::new(Rc::clone(&worker), doors.gate(VISITORS), opened, rng.fork()),
        applications: applications(&worker, &config, &doors, &mut rng),
        tls: connector()?,
        bind: config.outbound_bind_address,
        proxy: config.outbound_proxy.map(Arc::new),
        transports,
        worker: Rc::clone(&worker),
        fetches: Rc::default(),
        client_keys: BTreeSet::new(),
        mirror: Mirror::of(&lifecycle.reporter, folder.path(), keep.store()),
        keep,
        ports: Changing::default(),
        conf,
        written: config.written,
        reporter: lifecycle.reporter,
        desk,
        relay,
        rng,
    };
    runner.know(client_keys);
    control::options::fetch_descriptors(&runner);
    runner.ports = ports.serve(&runner.applications);
    runner.reporter.report(&Stage::Listening);
    tokio::task::spawn_local(Rc::clone(&worker).run_timer());
    worker.settle();
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(command) => runner.run(command, &mut commands),
                None => break,
            },
            Some(query) = queries.recv() => runner.answer(query),
            asked = signals.next() => runner.handle(asked, &reread),
            heard = heard(&mut controllers) => if !runner.goes_on(heard, &reread) { break },
            Some(event) = next(own_relay::events(&mut runner.relay)) => runner.tell_relay(&event),
            Some(state) = launched.recv() => runner.tell_launched(&state),
            () = until(runner.keep.timeout()) => runner.keep.handle_timeout(),
            () = shutdown.wait() => break,
        }
    }
    finish(runner).await;
    Ok(())
}

/// TLS of its links.
fn connector() -> Result<Arc<rustls::ClientConfig>, Failure> {
    let made = tls::client_config(tls::provider());
    made.map_err(|error| Failure::new("TLS cannot be set up", "this process", error))
}

/// Those who come to the ports of a client.
fn applications(
    worker: &Rc<Worker<Client>>,
    config: &ClientConfig,
    doors: &Doors,
    rng: &mut Rng,
) -> Rc<Applications> {
    let automap = config.automap.clone();
    let automap = automap.map(|rules| Automap::new(rules, rng.fork()));
    let caution = config.caution.clone();
    let all = Applications::new(Rc::clone(worker), automap, caution, doors);
    all.set_request_max(config.overrides.circuits.request);
    all
}

/// Tells controllers the last, ends the transports, and keeps what is not kept yet.
async fn finish(mut runner: Runner) {
    runner.desk.flushed().await;
    runner.transports.finish().await;
    runner.keep.finish();
}

/// The doors of a client, which tell what they refuse; it has none of `tor`'s rules for relays.
fn open_doors(rng: Rng) -> Doors {
    let doors = Doors::of_client(Descriptors::raise(), rng);
    let none = || std::future::ready(DosCounts::default());
    tokio::task::spawn_local(doors.clone().run_teller(none));
    doors
}

/// Does what the core asks for.
struct Runner {
    worker: Rc<Worker<Client>>,
    applications: Rc<Applications>,
    hosting: Hosting,
    tls: Arc<rustls::ClientConfig>,
    /// The address that links come from.
    bind: Option<IpAddr>,
    /// The proxy through which they go.
    proxy: Option<Arc<Proxy>>,
    /// The programs by which bridges are reached.
    transports: Transports,
    fetches: Rc<RefCell<BTreeMap<FetchId, AbortHandle>>>,
    /// The services for which we have a key.
    client_keys: BTreeSet<OnionAddress>,
    keep: Keep,
    /// Those of its ports that may change.
    ports: Changing,
    /// The configuration as controllers see it.
    conf: Conf,
    written: Written,
    reporter: Reporter,
    desk: Desk,
    given: control::Given,
    /// The relay in the same process.
    relay: Option<OwnRelay>,
    rng: Rng,
    /// Files of `tor`'s, in its place.
    mirror: Option<Mirror>,
}

impl Runner {
    /// Does a command and all that wait behind it; what is to be kept, in one transaction.
    fn run(&mut self, first: Command, more: &mut mpsc::UnboundedReceiver<Command>) {
        let mut changes = Vec::new();
        let mut next = Some(first);
        while let Some(command) = next {
            self.run_one(command, &mut changes);
            next = more.try_recv().ok();
        }
        if let Some(mirror) = &mut self.mirror {
            mirror.apply(&changes, self.keep.store());
        }
        self.keep.rows(changes);
    }

    fn handle(&mut self, asked: Asked, reread: &Reread<ClientConfig>) {
        match asked {
            Asked::Reload => self.reload(reread),
            Asked::Status => self.log_status(),
        }
        if let Some(relay) = &self.relay {
            relay.order(Order::Signal(asked));
        }
    }

    /// Reads the configuration again, which onion services there are, for whom, and our keys for
    /// those of others. If any of it is wrong, all stays as it was.
    fn reload(&mut self, reread: &Reread<ClientConfig>) {
        match reread().and_then(|config| self.apply(&config)) {
            Ok(changes) => {
                changes.tell("onion services, their clients and client keys");
                let told = self.conf.reread(&ours::of_client(&self.given.config));
                self.desk.tell(&told);
            }
            Err(error) => stays(&error),
        }
    }

    fn apply(&mut self, config: &ClientConfig) -> Result<Changes, Failure> {
        let rules = rules(config, self.relay.as_ref())?;
        let opened = onion::open(&config.onion_services, &mut self.rng)?;
        let client_keys = client_keys(config)?;
        let transports = links::wanted(config)?;
        let mut config = config.clone();
        self.ports.change(&mut config, &self.applications)?;
        logs::change(&config.log)?;
        self.hosting.host(opened);
        self.know(client_keys);
        self.transports.set(transports);
        let request_max = config.overrides.circuits.request;
        self.applications.set_request_max(request_max);
        self.worker.with(|client, now| {
            client.set_bridges(&config.bridges, now);
            client.set_rules(rules, now);
            client.set_overrides(config.overrides.clone(), now);
            client.controller(now).set_manners(config.manners);
            let dirtiness = config.circuit_dirtiness_max;
            client.controller(now).set_circuit_dirtiness(dirtiness);
            client.controller(now).set_onion_errors(config.onion_errors);
            client.set_address_map(&config.mappings);
            client.set_virtual_nets(config.virtual_nets);
            client.set_off(config.is_off, now);
        });
        self.given.take(&config);
        Ok(self.written.read(&config.written, &FIXED))
    }

    /// Tells controllers where transports listen.
    fn tell_launched(&mut self, state: &State) {
        state.launched().for_each(|event| self.desk.tell(&event));
    }

    /// Writes to the log how this client is.
    fn log_status(&self) {
        let status = self.status();
        tracing::info!("Status: {}", status.bootstrap);
        let guards = status::client::guards(&status.guards);
        let circuits = status::client::circuits(&status);
        let told = guards.lines().chain(circuits.lines());
        told.for_each(|line| tracing::info!("Status: {line}"));
        for onion in self.hosting.statuses() {
            let visitors = onion.service.counts.rdv_established_count;
            let published = if onion.service.is_published {
                ""
            } else {
                "not "
            };
            let address = onion.address;
            tracing::info!("Status: {address} is {published}published, {visitors} visitors");
        }
        if let Some(skew) = self.worker.peek(Client::clock_skew_secs) {
            tracing::info!("Status: the directories' clocks are {skew} s ahead of this machine's");
        }
        log_kept(&self.keep);
    }

    fn status(&self) -> ClientStatus {
        self.worker.peek(|client| client.status(clock::now()))
    }

    /// Takes our keys for services of others, and no others.
    fn know(&mut self, client_keys: ClientKeys) {
        let before = std::mem::take(&mut self.client_keys);
        self.client_keys = client_keys.iter().map(|(address, _)| *address).collect();
        for address in before.difference(&self.client_keys) {
            self.worker
                .with(|client, _| client.remove_onion_client_key(address));
        }
        let add = |(address, key)| {
            self.worker
                .with(|client, now| client.add_onion_client_key(address, key, now))
        };
        let beyond = client_keys.into_iter().map(add).filter(|taken| !taken);
        let beyond = beyond.count();
        if beyond > 0 {
            tracing::warn!("{beyond} client keys of onion_auth_dir are too many, and not used");
        }
    }

    fn run_one(&mut self, command: Command, changes: &mut Vec<Change>) {
        match command {
            Command::OpenChannel { link, target } => self.open_channel(link, target),
            Command::CloseChannel { channel, reason } => {
                tracing::debug!(reason, "a channel is closed");
                self.worker.end_channel(channel);
            }
            Command::DirRequest {
                fetch,
                stream,
                request,
                body,
                ..
            } => {
                self.request(fetch, stream, request, body);
            }
            Command::CancelDirRequest { fetch } => {
                if let Some(task) = self.fetches.borrow_mut().remove(&fetch) {
                    task.abort();
                }
            }
            Command::SocksConnected {
                request,
                stream,
                bound,
                early,
            } => {
                self.applications.answer(
                    request,
                    Answer::Connected {
                        stream,
                        bound,
                        early,
                    },
                );
            }
            Command::SocksResolved { request, answers } => {
                self.applications.answer(request, Answer::Resolved(answers));
            }
            Command::SocksFailed { request, status } => {
                self.applications.answer(request, Answer::Failed(status));
            }
            Command::OnionStream {
                stream,
                service,
                circuit,
                port,
            } => self.hosting.connect(stream, (service, circuit), port),
            Command::OnionPublished { service } => {
                if let Some(address) = self.hosting.address(service) {
                    self.reporter.report(&Stage::OnionUp(address.to_string()));
                }
            }
            Command::Save(saved) => {
                if let Saved::Consensus { microdescs, .. } = &saved {
                    let listed = microdescs.iter().copied();
                    self.keep.tend(&kept::listed_microdescs(listed));
                }
                changes.extend(saved::changes(saved));
            }
            Command::Events => self.tell_events(),
            Command::Bootstrap(status) => {
                tracing::info!("{status}");
                self.reporter.report(&Stage::Bootstrapped(status.percent));
            }
        }
    }

    /// Answers a question about this process.
    fn answer(&self, query: Query) {
        let onions = self.hosting.statuses();
        match query.question.subject {
            Subject::Onion => {
                let applications = Rc::clone(&self.applications);
                let visits = match query.question.probes {
                    true => self.hosting.visitable(),
                    false => Vec::new(),
                };
                tokio::task::spawn_local(async move {
                    let mut onions = onions;
                    for (address, port) in visits {
                        let address = address.to_string();
                        let probe = applications.probe(&address, port).await;
                        let found = onions.iter_mut().find(|one| one.address == address);
                        if let Some(onion) = found {
                            onion.probe = Some(probe);
                        }
                    }
                    query.reply(&onions, || status::onion::words(&onions, clock::now().wall));
                });
            }
            Subject::Guards => {
                let guards = self.status().guards;
                query.reply(&guards, || status::client::guards(&guards));
            }
            Subject::Circuits => {
                let status = self.status();
                query.reply(&status, || status::client::circuits(&status));
            }
            Subject::Metrics => {
                let mut text = status::client::metrics(&self.status());
                text.push_str(&status::onion::metrics(&onions));
                status::metrics::kept(&mut text, self.keep.status());
                query.reply_metrics(text);
            }
            Subject::Relay | Subject::Authority | Subject::Health | Subject::Why => {
                query.refuse();
            }
        }
    }

    /// Speaks HTTP over a stream, through an in-memory pipe.
    fn request(
        &self,
        fetch: FetchId,
        stream: cepa_circuit::StreamKey,
        request: DirRequest,
        body: Vec<u8>,
    ) {
        let theirs = edge::pipe(&self.worker, stream);
        let (worker, fetches) = (Rc::clone(&self.worker), Rc::clone(&self.fetches));
        let task = tokio::task::spawn_local(async move {
            let reply = exchange::over_stream(theirs, &request, body.into()).await;
            fetches.borrow_mut().remove(&fetch);
            let reply = Some(reply).filter(|reply| reply.status != 0);
            worker.with(|client, now| client.handle_dir_reply(fetch, reply, now));
        });
        self.fetches.borrow_mut().insert(fetch, task.abort_handle());
    }
}

/// Has a client begin as its configuration wants it.
fn begin_as(client: &mut Client, config: &ClientConfig) {
    client.controller(clock::now()).set_manners(config.manners);
    client.set_address_map(&config.mappings);
    client.set_virtual_nets(config.virtual_nets);
    if config.is_off {
        tracing::info!("DisableNetwork is set: the network is left alone until it is not");
    }
}

/// The rules on paths, with the countries that they name; none goes over the relay of this process,
/// which knows where it begins.
fn rules(config: &ClientConfig, relay: Option<&OwnRelay>) -> Result<Rules, Failure> {
    Ok(Rules {
        geoip: Arc::new(config.geoip.load_for(&config.rules)?),
        own: relay.map(|relay| relay.identity),
        ..config.rules.clone()
    })
}

fn client_keys(config: &ClientConfig) -> Result<ClientKeys, Failure> {
    let dir = config.onion_auth_dir.as_ref();
    dir.map_or(Ok(Vec::new()), |dir| keyfiles::onion::client_secrets(dir))
}

fn core_config(config: &ClientConfig, network: &Network, rules: Rules) -> CoreConfig {
    let fallbacks = network.fallbacks.iter().map(|fallback| Directory {
        rsa: fallback.rsa,
        ed: fallback.ed25519,
        or: fallback.or,
    });
    CoreConfig {
        fallbacks: fallbacks.collect(),
        bridges: config.bridges.clone(),
        rules,
        subnets_shared: !config.distinct_subnets || network.shared_subnets,
        padding: config.padding,
        vanguards: config.vanguards,
        circuit_padding: config.circuit_padding,
        onion_errors: config.onion_errors,
        reject_internal: config.reject_internal,
        dns_reject_internal: config.dns_reject_internal,
        circuit_dirtiness_max: config.circuit_dirtiness_max,
        is_off: config.is_off,
        overrides: config.overrides.clone(),
    }
}
