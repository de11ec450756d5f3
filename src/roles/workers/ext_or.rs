//! The Extended ORPort: where transports of a bridge hand clients on, and say where these come from
//! (ext-orport-spec), so that limits are those of each client, and not of all at once.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cepa_crypto::Rng;
use cepa_pt::{Conversation, ExtOrClient, ExtOrCookie, ExtOrStep, ext_or};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Incoming, Message, Workers};
use crate::config::{ExtOrConfig, RelayConfig};
use crate::doors::{HANDSHAKES, OR_PORT, Pass};
use crate::error::Failure;
use crate::{keyfiles, listen};

/// The file of the cookie in the data folder, as `tor` names it.
const COOKIE_FILE: &str = "extended_orport_auth_cookie";
/// How long a transport may take to say whom it hands on.
const TALK_MAX: Duration = Duration::from_secs(15);
/// Transports that say so at the same time; more wait.
const TALKS_MAX: usize = 512;

/// The port, and what transports know who may use it.
pub(crate) struct ExtOrPort {
    listeners: Vec<TcpListener>,
    cookie: ExtOrCookie,
    file: PathBuf,
}

impl ExtOrPort {
    /// Listens, if that is wanted, with a new cookie in its file.
    pub(crate) async fn open(
        config: &RelayConfig,
        folder: &Path,
        rng: &mut Rng,
    ) -> Result<Option<Self>, Failure> {
        let Some(wanted) = &config.ext_or else {
            return Ok(None);
        };
        let mut listeners = Vec::new();
        for addr in &wanted.listen {
            let listener = listen::listen(*addr, "ext_or_port").await?;
            listen::tell("Extended OR", listener.local_addr().unwrap_or(*addr));
            listeners.push(listener);
        }
        let file = cookie_file(wanted, folder);
        let cookie = ExtOrCookie::generate(rng);
        let mode = if wanted.is_group_readable {
            0o640
        } else {
            0o600
        };
        keyfiles::write_atomic(&file, &cookie.file(), mode)?;
        Ok(Some(ExtOrPort {
            listeners,
            cookie,
            file: std::path::absolute(&file).unwrap_or(file),
        }))
    }

    /// The first place, and the path of the cookie, as transports are told.
    pub(crate) fn for_transports(&self) -> Option<(SocketAddr, String)> {
        let first = self.listeners.first()?.local_addr().ok()?;
        Some((first, self.file.display().to_string()))
    }
}

fn cookie_file(wanted: &ExtOrConfig, folder: &Path) -> PathBuf {
    let named = wanted.cookie_file.clone();
    named.unwrap_or_else(|| folder.join(COOKIE_FILE))
}

impl Workers {
    /// Takes what transports hand on, for as long as the process lives.
    pub(crate) fn accept_extended(&self, port: ExtOrPort, rng: &mut Rng) {
        let cookie = Arc::new(port.cookie);
        for listener in port.listeners {
            let door = ExtOrDoor {
                workers: self.clone(),
                cookie: Arc::clone(&cookie),
            };
            tokio::spawn(door.serve(listener, rng.fork()));
        }
    }
}

/// What is needed to talk to one transport.
#[derive(Clone)]
struct ExtOrDoor {
    workers: Workers,
    cookie: Arc<ExtOrCookie>,
}

impl ExtOrDoor {
    async fn serve(self, listener: TcpListener, mut rng: Rng) {
        let talks = Arc::new(Semaphore::new(TALKS_MAX));
        let links = self.workers.shared.doors.gate(OR_PORT);
        let mut worker = 0;
        loop {
            // The place is that of the transport until it has said whose it is.
            let (tcp, peer, pass) = links.accept(&listener).await;
            let Ok(permit) = Arc::clone(&talks).acquire_owned().await else {
                return;
            };
            worker = (worker + 1) % self.workers.shared.messages.len().max(1);
            tokio::spawn(
                self.clone()
                    .take(tcp, (peer, pass), worker, permit, rng.fork()),
            );
        }
    }

    /// Takes one client, and hands him to a worker.
    async fn take(
        self,
        mut tcp: TcpStream,
        (peer, pass): (SocketAddr, Pass),
        worker: usize,
        permit: OwnedSemaphorePermit,
        mut rng: Rng,
    ) {
        let talk = tokio::time::timeout(TALK_MAX, talk(&mut tcp, &self.cookie, &mut rng));
        let client = match talk.await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return tracing::debug!(%error, "a transport hands nobody on"),
            Err(_) => return tracing::debug!("a transport takes too long to hand somebody on"),
        };
        drop(permit);
        let places = self.enter(client.addr.map(|addr| addr.ip()), pass);
        let reply = match places {
            Some(_) => ext_or::OKAY,
            None => ext_or::DENY,
        };
        if tcp.write_all(&reply).await.is_err() {
            return;
        }
        let (Some((link, handshake)), Ok(tcp)) = (places, tcp.into_std()) else {
            return;
        };
        let transport = client.transport.map(|name| name.to_string());
        tracing::debug!(?transport, "a client comes by the Extended ORPort");
        let incoming = Incoming {
            tcp,
            peer: client.addr.unwrap_or(peer),
            transport,
            link,
            handshake,
        };
        self.workers
            .tell(worker, Message::Accept(Box::new(incoming)));
    }

    /// The places of the client's own address, as if he had come to the ORPort; of his transport's
    /// if it does not say where he comes from.
    fn enter(&self, ip: Option<IpAddr>, transport: Pass) -> Option<(Pass, Pass)> {
        let shared = &self.workers.shared;
        let of = ip.or(transport.ip());
        let handshake = shared.doors.gate(HANDSHAKES).enter(of).ok()?;
        let link = match ip {
            Some(_) => {
                drop(transport);
                shared.doors.gate(OR_PORT).enter(ip).ok()?
            }
            None => transport,
        };
        self.workers.takes_links().then_some((link, handshake))
    }
}

/// Whom a transport hands on.
async fn talk(
    tcp: &mut TcpStream,
    cookie: &ExtOrCookie,
    rng: &mut Rng,
) -> std::io::Result<ExtOrClient> {
    let (mut conversation, first) = Conversation::begin();
    tcp.write_all(&first).await?;
    loop {
        let mut bytes = vec![0; conversation.needs()];
        tcp.read_exact(&mut bytes).await?;
        let step = conversation.handle(&bytes, cookie, rng);
        match step.map_err(std::io::Error::other)? {
            ExtOrStep::Reply(reply) => tcp.write_all(&reply).await?,
            ExtOrStep::Refused(reply) => {
                tcp.write_all(&reply).await?;
                return Err(std::io::Error::other("it does not know the cookie"));
            }
            ExtOrStep::Done(client) => return Ok(client),
        }
    }
}
