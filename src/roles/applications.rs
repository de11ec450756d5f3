//! Requests of applications, whichever port they came to: asked of the client core, answered.
//!
//! A port reads what an application wants in its own protocol and says it as a SOCKS request, the
//! most general of them; the answer goes back in the port's words. Optimistic data is passed on
//! while the request waits.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use cepa_circuit::StreamKey;
use cepa_client::automap::Automap;
use cepa_client::status::StreamSource;
use cepa_client::{Client, Isolation, Protocol, RequestId};
use cepa_netdoc::policy::PortRange;
use cepa_wire::Repeats;
use cepa_wire::end::EndReason;
use cepa_wire::host::Host;
use cepa_wire::resolve::{Answer as Resolved, AnswerValue};
use cepa_wire::socks::{SocksAuth, SocksCommand, SocksRequest, SocksStatus, SocksVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::oneshot;

use crate::clock;
use crate::config::{Caution, Listener};
use crate::doors::{APPLICATIONS, Doors, Gate, Pass};
use crate::listen::OwnedSocket;
use crate::logs::Scrubbed;
use crate::net::edge::{self, Socket};
use crate::net::worker::Worker;
use crate::status::onion::Probe;

/// Bytes read from an application at once while its request waits.
const READ_BYTES: usize = 4096;

/// How long an application may take to say what it wants, unless the operator says it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long an address that stands for a name may be kept, in seconds.
const AUTOMAP_TTL_SECS: u32 = 60;

/// What became of a request.
pub(crate) enum Answer {
    /// The stream is open; these bytes are still to be sent first.
    Connected {
        stream: StreamKey,
        bound: Option<IpAddr>,
        early: Vec<u8>,
    },
    /// The answers of a look-up.
    Resolved(Vec<Resolved>),
    /// It failed.
    Failed(SocksStatus),
}

/// A connection to a port: which, from where, and its place. It rests until it is known what is
/// wanted.
#[derive(Clone)]
pub(crate) struct Visitor {
    pub(crate) port: Listener,
    pub(crate) peer: SocketAddr,
    pub(crate) place: Rc<Pass>,
}

/// A request that an application made, with what it sent behind it.
pub(crate) struct Asked {
    pub(crate) request: SocksRequest,
    pub(crate) source: StreamSource,
    pub(crate) isolation: Isolation,
    pub(crate) early: Vec<u8>,
}

impl Asked {
    /// What a visitor wants, who is busy from now on.
    pub(crate) fn by(visitor: &Visitor, protocol: Protocol, request: SocksRequest) -> Self {
        visitor.place.set_busy(true);
        Asked::new(visitor.port, visitor.peer, protocol, request)
    }

    /// What came to a port of ours from `peer`.
    pub(crate) fn new(
        port: Listener,
        peer: SocketAddr,
        protocol: Protocol,
        request: SocksRequest,
    ) -> Self {
        let source = StreamSource {
            addr: peer,
            protocol,
        };
        Asked {
            isolation: Isolation::new(&port.rules, port.addr, source, &request),
            source,
            request,
            early: Vec::new(),
        }
    }
}

/// A request that waits for its answer; dropped before, it is cancelled.
pub(crate) struct Waiting<'a> {
    applications: &'a Applications,
    id: RequestId,
    answer: oneshot::Receiver<Answer>,
}

impl Waiting<'_> {
    /// The answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        let answer = (&mut self.answer).await;
        answer.unwrap_or(Answer::Failed(SocksStatus::GENERAL_FAILURE))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let (applications, id) = (self.applications, self.id);
        if applications.waiting.borrow_mut().remove(&id).is_some() {
            let cancel = |client: &mut Client, now| client.cancel_socks_request(id, now);
            applications.worker.with(cancel);
        }
    }
}

/// All applications of a client.
pub(crate) struct Applications {
    pub(super) worker: Rc<Worker<Client>>,
    waiting: RefCell<BTreeMap<RequestId, oneshot::Sender<Answer>>>,
    next: Cell<u64>,
    /// Addresses that stand for names, if they are wanted.
    automap: Option<RefCell<Automap>>,
    caution: Caution,
    /// Ports of which the log has warned; 0: addresses that were asked for.
    warned: RefCell<BTreeSet<u16>>,
    request_max: Cell<Duration>,
    /// Those whom the policy refuses.
    refused: RefCell<Repeats>,
    gate: Gate,
}

impl Applications {
    /// None so far.
    pub(crate) fn new(
        worker: Rc<Worker<Client>>,
        automap: Option<Automap>,
        caution: Caution,
        doors: &Doors,
    ) -> Rc<Self> {
        Rc::new(Applications {
            worker,
            waiting: RefCell::default(),
            next: Cell::new(0),
            automap: automap.map(RefCell::new),
            caution,
            warned: RefCell::default(),
            request_max: Cell::new(REQUEST_TIMEOUT),
            refused: RefCell::default(),
            gate: doors.gate(APPLICATIONS),
        })
    }

    /// Tells whoever waits for a request what became of it.
    pub(crate) fn answer(&self, request: RequestId, answer: Answer) {
        if let Some(waiting) = self.waiting.borrow_mut().remove(&request) {
            // An application that hung up in the meantime is noticed by its own task.
            let _ = waiting.send(answer);
        }
    }

    /// Serves the connections of one port, a task each, for as long as its listener lives.
    pub(crate) async fn accept<F>(
        self: Rc<Self>,
        (listener, port): (TcpListener, Listener),
        purpose: &'static str,
        serve: impl Fn(Rc<Self>, TcpStream, Visitor) -> F,
    ) where
        F: Future<Output = io::Result<()>> + 'static,
    {
        loop {
            let (tcp, peer, place) = self.gate.accept(&listener).await;
            if !self.may_use(peer) {
                continue;
            }
            // Batches are made by the circuit, not by the kernel.
            let _ = tcp.set_nodelay(true);
            let place = Rc::new(place);
            let visitor = Visitor { port, peer, place };
            let place = Rc::clone(&visitor.place);
            begin(serve(Rc::clone(&self), tcp, visitor), place, purpose);
        }
    }

    /// The same of a unix socket, whose file goes with its listener.
    pub(crate) async fn accept_unix<F>(
        self: Rc<Self>,
        (socket, port): (OwnedSocket, Listener),
        purpose: &'static str,
        serve: impl Fn(Rc<Self>, UnixStream, Visitor) -> F,
    ) where
        F: Future<Output = io::Result<()>> + 'static,
    {
        let peer = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        loop {
            let (unix, place) = self.gate.accept_unix(&socket.listener).await;
            let place = Rc::new(place);
            let visitor = Visitor { port, peer, place };
            let place = Rc::clone(&visitor.place);
            begin(serve(Rc::clone(&self), unix, visitor), place, purpose);
        }
    }

    /// Whether a port is for somebody at this address (`SocksPolicy`).
    pub(crate) fn may_use(&self, peer: SocketAddr) -> bool {
        let policy = self.caution.policy.as_ref();
        let may = policy.is_none_or(|policy| policy.allows(peer.ip(), PortRange::ALL.low));
        // Anybody can be refused, and as often as he likes.
        if !may && let Some(more) = self.refused.borrow_mut().say(clock::now()) {
            let peer = Scrubbed(peer);
            tracing::info!(%peer, more, "not one of those whom SocksPolicy accepts");
        }
        may
    }

    /// How long an application may take to say what it wants (`SocksTimeout`).
    pub(crate) fn request_max(&self) -> Duration {
        self.request_max.get()
    }

    /// The same from now on; none: as long as is usual.
    pub(crate) fn set_request_max(&self, max: Option<Duration>) {
        self.request_max.set(max.unwrap_or(REQUEST_TIMEOUT));
    }

    /// Asks, waits, writes the reply that `reply` makes of the answer, serves the stream.
    pub(crate) async fn serve<S: Socket>(
        &self,
        mut tcp: S,
        asked: Asked,
        reply: impl Fn(&SocksRequest, &Answer) -> Vec<u8>,
    ) -> io::Result<()> {
        let request = asked.request.clone();
        let mut waiting = self.ask(asked);
        let (answer, unsent) = self.wait(&mut tcp, &mut waiting).await?;
        drop(waiting);
        let reply = reply(&request, &answer);
        match answer {
            Answer::Connected {
                stream, mut early, ..
            } => {
                early.extend_from_slice(&unsent);
                edge::serve(&self.worker, stream, tcp.halves(), reply, early).await;
                Ok(())
            }
            _ => {
                tcp.write_all(&reply).await?;
                tcp.shutdown().await
            }
        }
    }

    /// Asks the core. A request whose answer nobody waits for any more is cancelled.
    pub(crate) fn ask(&self, asked: Asked) -> Waiting<'_> {
        let id = RequestId(self.next.get());
        self.next.set(id.0 + 1);
        let (sender, answer) = oneshot::channel();
        let Asked {
            mut request,
            source,
            isolation,
            early,
        } = asked;
        let known = self.map_address(&mut request);
        let known = known.or_else(|| self.refuse(&request, source.protocol));
        if let Some(known) = known {
            let _ = sender.send(known);
        } else {
            self.waiting.borrow_mut().insert(id, sender);
            self.worker.with(|client, now| {
                client.handle_socks_request(id, &request, source, isolation, early, now);
            });
        }
        Waiting {
            applications: self,
            id,
            answer,
        }
    }

    /// The answer to who asks for what is not to be asked for; says so once.
    fn refuse(&self, request: &SocksRequest, protocol: Protocol) -> Option<Answer> {
        let refused = Some(Answer::Failed(SocksStatus::NOT_ALLOWED));
        let is_first = |port| self.warned.borrow_mut().insert(port);
        let is_connect = request.command == SocksCommand::Connect;
        let port = Some(request.port).filter(|_| is_connect);
        if let Some(port) = port.filter(|port| self.caution.rejected_ports.contains(port)) {
            if is_first(port) {
                tracing::warn!("connections to port {port} are refused (RejectPlaintextPorts)");
            }
            return refused;
        }
        if let Some(port) = port.filter(|port| self.caution.warned_ports.contains(port))
            && is_first(port)
        {
            tracing::warn!("port {port}: its protocol is seldom encrypted, and the exit reads it");
        }
        let is_address = matches!(request.address, Host::Ip(_))
            && request.command != SocksCommand::ResolvePtr
            && matches!(protocol, Protocol::Socks(_));
        if let (Protocol::Socks(version), true) = (protocol, self.caution.test_socks) {
            let port = request.port;
            match is_address {
                true => tracing::info!(
                    "unsafe: an application asks for an address ({version:?}, port {port}), which \
                     it may have looked up by itself (TestSocks)"
                ),
                false => tracing::info!(
                    "safe: an application leaves the name to us ({version:?}, port {port}) \
                     (TestSocks)"
                ),
            }
        }
        let is_mapped = || {
            self.worker
                .peek(|client| client.is_mapped(&request.address))
        };
        if !self.caution.safe_socks || !is_address || is_mapped() {
            return None;
        }
        if is_first(0) {
            tracing::warn!(
                "an application asks for an address, which it may have looked up by itself, and \
                 is refused (SafeSocks): have it ask for names, by SOCKS 4a or 5"
            );
        }
        refused
    }

    /// Puts the name in the place of an address that stands for it, or knows the answer.
    fn map_address(&self, request: &mut SocksRequest) -> Option<Answer> {
        // What a controller has mapped is the core's.
        let host = &request.address;
        if self.worker.peek(|client| client.is_mapped(host)) {
            return None;
        }
        let mut automap = self.automap.as_ref()?.borrow_mut();
        match (request.command, &request.address) {
            (SocksCommand::Connect, Host::Ip(ip)) => match automap.name(*ip) {
                Ok(None) => None,
                Ok(Some(name)) => {
                    request.address = Host::Name(name);
                    None
                }
                Err(()) => Some(Answer::Failed(SocksStatus::HOST_UNREACHABLE)),
            },
            (SocksCommand::Resolve, Host::Name(name)) if automap.is_for(name) => {
                let answer = |is_ipv6| Resolved {
                    value: AnswerValue::Ip(automap.address(name, is_ipv6)),
                    ttl: AUTOMAP_TTL_SECS,
                };
                Some(Answer::Resolved([false, true].map(answer).into()))
            }
            _ => None,
        }
    }

    /// Waits for the answer; what the application sends in the meantime goes ahead.
    async fn wait<S: Socket>(
        &self,
        tcp: &mut S,
        waiting: &mut Waiting<'_>,
    ) -> io::Result<(Answer, Vec<u8>)> {
        let mut unsent = Vec::new();
        let mut buffer = [0; READ_BYTES];
        loop {
            tokio::select! {
                biased;
                answer = waiting.answer() => return Ok((answer, unsent)),
                read = tcp.read(&mut buffer), if unsent.is_empty() => match read {
                    Ok(bytes) if bytes > 0 => {
                        let data = buffer.get(..bytes).unwrap_or_default();
                        let taken = self
                            .worker
                            .with(|client, now| client.handle_socks_early(waiting.id, data, now));
                        unsent.extend_from_slice(data.get(taken..).unwrap_or_default());
                    }
                    _ => return Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
        }
    }

    /// Closes a stream that nobody serves.
    pub(crate) fn close(&self, stream: StreamKey) {
        let close = |client: &mut Client, now| client.stream_close(stream, EndReason::DONE, now);
        self.worker.with(close);
    }

    /// Visits an onion service and hangs up; whether a stream was opened.
    pub(crate) async fn probe(&self, host: &str, port: u16) -> Probe {
        let began = clock::now().mono;
        // Credentials of its own: a rendezvous of its own, not one that stands already.
        let number = self.next.get().to_be_bytes().to_vec();
        let request = SocksRequest {
            version: SocksVersion::V5,
            command: SocksCommand::Connect,
            address: Host::Name(host.to_owned()),
            port,
            auth: SocksAuth::Username(b"probe".to_vec(), number),
        };
        let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let protocol = Protocol::Socks(SocksVersion::V5);
        let mut waiting = self.ask(Asked::new(nobody.into(), nobody, protocol, request));
        let answer = waiting.answer().await;
        let took_ms = clock::now().mono.duration_since(began).as_millis();
        let error = match answer {
            Answer::Connected { stream, .. } => {
                self.close(stream);
                None
            }
            Answer::Failed(status) => Some(status.to_string()),
            Answer::Resolved(_) => Some("no stream".to_owned()),
        };
        Probe {
            reached: error.is_none(),
            took_ms: u64::try_from(took_ms).unwrap_or(u64::MAX),
            error,
        }
    }
}

/// Serves an application as long as its place is not needed for another.
fn begin(
    served: impl Future<Output = io::Result<()>> + 'static,
    place: Rc<Pass>,
    purpose: &'static str,
) {
    tokio::task::spawn_local(async move {
        let served = tokio::select! {
            served = served => served,
            () = place.evicted() => Err(io::Error::other("its place is needed")),
        };
        if let Err(error) = served {
            tracing::debug!(%error, purpose, "an application is hung up on");
        }
    });
}

/// The host of an answer to a look-up, if it has one.
pub(crate) fn host_of(answer: &Resolved) -> Option<Host> {
    match &answer.value {
        AnswerValue::Ip(ip) => Some(Host::Ip(*ip)),
        AnswerValue::Name(name) => Host::parse(name).ok(),
        _ => None,
    }
}
