//! The onion services that a client hosts: their folders, their programs, how they are.
//!
//! A visitor's stream is connected to the target of its virtual port, a TCP address, a host that is
//! looked up for it or a unix socket, and served like any other. What a program refuses is told to
//! the visitor as a refused connection. Several targets of one port take turns at random, as with
//! `tor`.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cepa_circuit::StreamKey;
use cepa_client::onion::services::{DosLimits, ServiceConfig, ServiceId, ServiceStatus};
use cepa_client::{CircuitId, Client};
use cepa_crypto::onion::OnionAddress;
use cepa_crypto::{Rng, curve25519, ed25519};
use cepa_wire::end::EndReason;
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::clock;
use crate::config::OnionServiceConfig;
use crate::config::onion::{PortTarget, Target};
use crate::doors::{Gate, Pass};
use crate::error::{Failure, fail};
use crate::keyfiles::onion::{ServiceKeys, load_or_make};
use crate::net::edge;
use crate::net::worker::Worker;
use crate::net::writer::Writer;
use crate::status::onion::OnionStatus;

/// How long a program may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A service with its address and its programs.
struct Hosted {
    address: OnionAddress,
    ports: Vec<PortTarget>,
    /// Its programs are told which circuit a connection is of.
    tells_circuits: bool,
    /// A controller has added it; no configuration knows of it.
    is_added: bool,
}

/// A service that a controller adds: it has no folder.
pub(crate) struct Added {
    /// Its key.
    pub(crate) identity: ed25519::ExpandedKeypair,
    /// The address that follows from the key.
    pub(crate) address: OnionAddress,
    /// The clients that may visit it; empty: all may.
    pub(crate) clients: Vec<curve25519::PublicKey>,
    /// Where its virtual ports lead.
    pub(crate) ports: Vec<PortTarget>,
    /// Streams of one visitor at once; no limit without.
    pub(crate) streams_max: Option<usize>,
    /// Whether a visitor with more streams loses his circuit.
    pub(crate) closes_on_excess: bool,
}

/// Services that controllers may have added at a time: each has three circuits that stand.
const ADDED_MAX: usize = 1024;

/// Why a service is not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotAdded {
    /// One of this address is hosted.
    Collision,
    /// There are [`ADDED_MAX`].
    TooMany,
}

/// All services of this process.
pub(crate) struct Hosting {
    worker: Rc<Worker<Client>>,
    gate: Gate,
    services: BTreeMap<ServiceId, Hosted>,
    /// Visitors to whom no program answers.
    unanswered: Rc<Cell<cepa_wire::Repeats>>,
    rng: Rng,
}

/// A service whose folder has been read.
pub(crate) struct Opened {
    keys: ServiceKeys,
    config: OnionServiceConfig,
}

/// Reads the folders of all services, before anything is started.
pub(crate) fn open(configs: &[OnionServiceConfig], rng: &mut Rng) -> Result<Vec<Opened>, Failure> {
    let mut opened: Vec<Opened> = Vec::new();
    for config in configs {
        let keys = load_or_make(&config.dir, config.is_group_readable, rng)?;
        if opened.iter().any(|one| one.keys.address == keys.address) {
            return fail(
                "two services of one address",
                config.dir.display(),
                "give each service a folder of its own",
            );
        }
        tracing::info!("onion service {} in {}", keys.address, config.dir.display());
        let config = config.clone();
        opened.push(Opened { keys, config });
    }
    Ok(opened)
}

impl Opened {
    /// What is wanted of the core, and what is left for us.
    fn core(self) -> (ServiceConfig, OnionServiceConfig) {
        let config = self.config;
        let core = ServiceConfig {
            clients: self.keys.clients,
            masters: config.masters.clone(),
            intro_points: usize::from(config.intro_points),
            dos: config.introductions.map(|limit| DosLimits {
                rate: limit.rate,
                burst: limit.burst,
            }),
            streams_max: config.streams_max.and_then(|max| usize::try_from(max).ok()),
            closes_on_excess: config.closes_on_excess,
            allows_unknown_ports: config.allows_unknown_ports,
            ..ServiceConfig::new(self.keys.identity, virtual_ports(&config.ports))
        };
        (core, config)
    }
}

impl Hosting {
    /// Hosts what was opened; each stream of a visitor needs a place at the gate.
    pub(crate) fn new(
        worker: Rc<Worker<Client>>,
        gate: Gate,
        opened: Vec<Opened>,
        rng: Rng,
    ) -> Self {
        let mut hosting = Hosting {
            worker,
            gate,
            services: BTreeMap::new(),
            unanswered: Rc::default(),
            rng,
        };
        hosting.host(opened);
        hosting
    }

    /// Hosts what was opened, and nothing else: what was hosted before stays up, with its new
    /// ports, clients and limits.
    pub(crate) fn host(&mut self, opened: Vec<Opened>) {
        let stays =
            |one: &Hosted| one.is_added || opened.iter().any(|it| it.keys.address == one.address);
        let gone = self.services.iter().filter(|(_, one)| !stays(one));
        let gone: Vec<ServiceId> = gone.map(|(id, _)| *id).collect();
        for id in gone {
            if let Some(one) = self.services.remove(&id) {
                tracing::info!("onion service {} is hosted no longer", one.address);
            }
            self.worker
                .with(|client, now| client.remove_service(id, now));
        }
        for one in opened {
            let address = one.keys.address;
            let mut hosted = self.services.iter();
            let known = hosted.find(|(_, one)| one.address == address);
            let known = known.map(|(id, _)| *id);
            let (core, config) = one.core();
            let id = self.worker.with(|client, now| match known {
                Some(id) => {
                    client.change_service(id, core, now);
                    id
                }
                None => client.add_service(core, now),
            });
            let hosted = Hosted {
                address,
                ports: config.ports,
                tells_circuits: config.tells_circuits,
                is_added: false,
            };
            self.services.insert(id, hosted);
        }
    }

    /// Hosts one more, until it is removed.
    ///
    /// # Errors
    /// There is one of its address already, or there are too many.
    pub(crate) fn add(&mut self, added: Added) -> Result<(), NotAdded> {
        let address = added.address;
        if self.services.values().any(|one| one.address == address) {
            return Err(NotAdded::Collision);
        }
        if self.services.values().filter(|one| one.is_added).count() >= ADDED_MAX {
            return Err(NotAdded::TooMany);
        }
        let core = ServiceConfig {
            clients: added.clients,
            streams_max: added.streams_max,
            closes_on_excess: added.closes_on_excess,
            ..ServiceConfig::new(added.identity, virtual_ports(&added.ports))
        };
        let id = self
            .worker
            .with(|client, now| client.add_service(core, now));
        let hosted = Hosted {
            address,
            ports: added.ports,
            tells_circuits: false,
            is_added: true,
        };
        self.services.insert(id, hosted);
        Ok(())
    }

    /// Hosts a service no longer that was added.
    pub(crate) fn remove(&mut self, address: OnionAddress) {
        let is_it = |one: &Hosted| one.is_added && one.address == address;
        let found = self.services.iter().find(|(_, one)| is_it(one));
        if let Some(id) = found.map(|(id, _)| *id) {
            self.services.remove(&id);
            self.worker
                .with(|client, now| client.remove_service(id, now));
        }
    }

    /// The address of a service.
    pub(crate) fn address(&self, service: ServiceId) -> Option<OnionAddress> {
        self.services.get(&service).map(|one| one.address)
    }

    /// The services, each with a port that a visit can try.
    pub(crate) fn visitable(&self) -> Vec<(OnionAddress, u16)> {
        let ported = |one: &Hosted| Some((one.address, one.ports.first()?.port));
        self.services.values().filter_map(ported).collect()
    }

    /// Connects a visitor's stream and serves it until it ends.
    pub(crate) fn connect(
        &mut self,
        stream: StreamKey,
        (service, circuit): (ServiceId, CircuitId),
        port: u16,
    ) {
        let hosted = self.services.get(&service);
        let tells_circuits = hosted.is_some_and(|one| one.tells_circuits);
        let ports = hosted.map(|one| &one.ports[..]);
        let targets = ports.unwrap_or_default().iter();
        let targets: Vec<&Target> = targets
            .filter(|one| one.port == port)
            .map(|one| &one.target)
            .collect();
        let drawn = self.rng.below(targets.len().max(1) as u64);
        let target = usize::try_from(drawn).ok().and_then(|one| targets.get(one));
        let worker = Rc::clone(&self.worker);
        match target {
            Some(target) => {
                let waiting = Waiting {
                    worker,
                    gate: self.gate.clone(),
                    unanswered: Rc::clone(&self.unanswered),
                    header: tells_circuits.then(|| proxy_header(circuit, port)),
                };
                tokio::task::spawn_local(connect(waiting, stream, Target::clone(target)));
            }
            None => worker.with(|client, now| client.onion_stream_refused(stream, now)),
        }
    }

    /// How the services are.
    pub(crate) fn statuses(&self) -> Vec<OnionStatus> {
        let statuses = self.worker.peek(Client::service_statuses).into_iter();
        let shown = |service: ServiceStatus| {
            let address = self.address(service.service)?.to_string();
            Some(OnionStatus {
                address,
                probe: None,
                service,
            })
        };
        statuses.filter_map(shown).collect()
    }
}

/// The virtual ports, each once.
fn virtual_ports(ports: &[PortTarget]) -> Vec<u16> {
    let mut ports: Vec<u16> = ports.iter().map(|port| port.port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// What serving a visitor needs.
struct Waiting {
    worker: Rc<Worker<Client>>,
    gate: Gate,
    unanswered: Rc<Cell<cepa_wire::Repeats>>,
    /// What its program is told first.
    header: Option<String>,
}

/// The header of the PROXY protocol by which programs tell circuits apart, as `tor` writes it: the
/// number of the circuit is in an address of a range of its own.
fn proxy_header(circuit: CircuitId, port: u16) -> String {
    let [.., a, b, c, d] = circuit.0.to_be_bytes();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    format!("PROXY TCP6 fc00:dead:beef:4dad::{high:x}:{low:x} ::1 {low} {port}\r\n")
}

async fn connect(waiting: Waiting, stream: StreamKey, target: Target) {
    let worker = &waiting.worker;
    let Ok(pass) = waiting.gate.enter(None) else {
        return worker.with(|client, now| client.onion_stream_refused(stream, now));
    };
    let pass = Arc::new(pass);
    let evicted = async {
        pass.evicted().await;
        tracing::debug!("a visitor's stream that has been idle gives up its place");
        // Before its task is dropped, which would end it as if it were done.
        let reason = EndReason::RESOURCELIMIT;
        worker.with(|client, now| client.stream_close(stream, reason, now));
    };
    let served = tokio::select! {
        served = connect_at(&waiting, &pass, stream, target) => served,
        () = evicted => return,
    };
    if let Err(error) = served {
        let mut repeats = waiting.unanswered.get();
        if let Some(unsaid) = repeats.say(clock::now()) {
            tracing::warn!(%error, unsaid, "a visitor is turned away: no program answers");
        }
        waiting.unanswered.set(repeats);
        worker.with(|client, now| client.onion_stream_refused(stream, now));
    }
}

async fn connect_at(
    waiting: &Waiting,
    pass: &Arc<Pass>,
    stream: StreamKey,
    target: Target,
) -> io::Result<()> {
    let worker = &waiting.worker;
    let header = waiting.header.as_deref().unwrap_or_default().as_bytes();
    let tcp = match target {
        Target::Tcp(addr) => while_wanted(worker, stream, TcpStream::connect(addr)).await?,
        Target::Host(host, port) => {
            while_wanted(worker, stream, TcpStream::connect((host, port))).await?
        }
        Target::Unix(path) => {
            if let Some(mut unix) = while_wanted(worker, stream, UnixStream::connect(path)).await? {
                unix.write_all(header).await?;
                serve(worker, pass, stream, unix.into_split()).await;
            }
            return Ok(());
        }
    };
    if let Some(mut tcp) = tcp {
        tcp.write_all(header).await?;
        // Batches are made by the circuit, not by the kernel.
        let _ = tcp.set_nodelay(true);
        serve(worker, pass, stream, tcp.into_split()).await;
    }
    Ok(())
}

/// Connects within time, and as long as the visitor waits; one that has gone is `None`.
async fn while_wanted<T>(
    worker: &Worker<Client>,
    stream: StreamKey,
    connecting: impl Future<Output = io::Result<T>>,
) -> io::Result<Option<T>> {
    let connected = tokio::select! {
        connected = within(connecting) => connected.map(Some),
        () = worker.stream_over(stream) => {
            worker.with(|client, now| client.stream_close(stream, EndReason::DONE, now));
            return Ok(None);
        }
    };
    worker.unregister_stream(stream);
    connected
}

async fn serve<R, W>(
    worker: &Rc<Worker<Client>>,
    pass: &Arc<Pass>,
    stream: StreamKey,
    (reader, writer): (R, W),
) where
    R: AsyncRead + Unpin,
    W: Writer,
{
    // A visitor that gave up meanwhile: the stream has ended, and is closed by its task.
    worker.with(|client, now| client.onion_stream_connected(stream, now));
    let halves = (worker.paced(reader).at(pass), worker.paced(writer).at(pass));
    edge::serve(worker, stream, halves, Vec::new(), Vec::new()).await;
}

async fn within<T>(connecting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
    connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circuits_are_told_as_tor_tells_them() {
        assert_eq!(
            proxy_header(CircuitId(0x0001_002a), 80),
            "PROXY TCP6 fc00:dead:beef:4dad::1:2a ::1 42 80\r\n"
        );
    }
}
