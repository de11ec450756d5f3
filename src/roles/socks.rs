//! The SOCKS port: one task for each application (socks-extensions; RFC 1928, 1929).
//!
//! Reads the request, hands it to the client core, passes optimistic data on while it waits, then
//! writes the reply and serves the stream. Garbage is hung up on.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use cepa_circuit::StreamKey;
use cepa_client::{Client, Isolation, RequestId};
use cepa_wire::end::EndReason;
use cepa_wire::host::Host;
use cepa_wire::resolve::{Answer as Resolved, AnswerValue};
use cepa_wire::socks::{
    self, Handshake, Progress, SocksAuth, SocksCommand, SocksRequest, SocksStatus, SocksVersion,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};

use crate::clock;
use crate::net::edge;
use crate::net::worker::Worker;
use crate::status::Probe;

/// How long an application may take to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Applications served at once.
const CONNECTIONS_MAX: usize = 10_000;
/// Bytes read from an application at once while its request waits.
const READ_BYTES: usize = 4096;

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

/// The SOCKS side of a client.
pub(crate) struct Socks {
    worker: Rc<Worker<Client>>,
    waiting: RefCell<BTreeMap<RequestId, oneshot::Sender<Answer>>>,
    next: Cell<u64>,
    places: Semaphore,
}

impl Socks {
    /// Without applications so far.
    pub(crate) fn new(worker: Rc<Worker<Client>>) -> Rc<Self> {
        Rc::new(Socks {
            worker,
            waiting: RefCell::default(),
            next: Cell::new(0),
            places: Semaphore::new(CONNECTIONS_MAX),
        })
    }

    /// Tells the task of a request what became of it.
    pub(crate) fn answer(&self, request: RequestId, answer: Answer) {
        if let Some(waiting) = self.waiting.borrow_mut().remove(&request) {
            // An application that hung up in the meantime is noticed by its own task.
            let _ = waiting.send(answer);
        }
    }

    /// Visits an onion service and hangs up; whether a stream was opened.
    pub(crate) async fn probe(&self, host: &str, port: u16) -> Probe {
        let began = clock::now().mono;
        let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let id = RequestId(self.next.get());
        self.next.set(id.0 + 1);
        // Credentials of its own: a rendezvous of its own, not one that stands already.
        let auth = SocksAuth::Username(b"probe".to_vec(), id.0.to_be_bytes().to_vec());
        let request = SocksRequest {
            version: SocksVersion::V5,
            command: SocksCommand::Connect,
            address: Host::Name(host.to_owned()),
            port,
            auth: auth.clone(),
        };
        let isolation = Isolation::new(nobody, nobody.ip(), SocksVersion::V5, auth);
        let (sender, answer) = oneshot::channel();
        self.waiting.borrow_mut().insert(id, sender);
        self.worker.with(|client, now| {
            client.handle_socks_request(id, &request, isolation, Vec::new(), now);
        });
        let answer = answer.await;
        let took_ms = clock::now().mono.duration_since(began).as_millis();
        let error = match answer {
            Ok(Answer::Connected { stream, .. }) => {
                let close = |client: &mut Client, now| {
                    client.stream_close(stream, EndReason::DONE, now);
                };
                self.worker.with(close);
                None
            }
            Ok(Answer::Failed(status)) => Some(status.to_string()),
            _ => Some("no answer".to_owned()),
        };
        Probe {
            reached: error.is_none(),
            took_ms: u64::try_from(took_ms).unwrap_or(u64::MAX),
            error,
        }
    }

    /// Serves the applications that connect, for as long as the listener lives.
    pub(crate) async fn accept(self: Rc<Self>, listener: TcpListener) {
        let Ok(address) = listener.local_addr() else {
            return;
        };
        loop {
            match crate::listen::accept(&listener).await {
                Ok((tcp, peer)) => {
                    let socks = Rc::clone(&self);
                    tokio::task::spawn_local(async move {
                        let Ok(_place) = socks.places.try_acquire() else {
                            return;
                        };
                        if let Err(error) = socks.serve(tcp, address, peer).await {
                            tracing::debug!(%error, "an application is hung up on");
                        }
                    });
                }
                Err(error) => {
                    tracing::error!(%error, "a SOCKS port is given up");
                    return;
                }
            }
        }
    }

    async fn serve(
        &self,
        mut tcp: TcpStream,
        listener: SocketAddr,
        peer: SocketAddr,
    ) -> io::Result<()> {
        // Batches are made by the circuit, not by the kernel.
        tcp.set_nodelay(true)?;
        let asked = tokio::time::timeout(REQUEST_TIMEOUT, read_request(&mut tcp)).await;
        let (request, early) = asked.map_err(|_| io::ErrorKind::TimedOut)??;
        let isolation = Isolation::new(listener, peer.ip(), request.version, request.auth.clone());
        let id = RequestId(self.next.get());
        self.next.set(id.0 + 1);
        let (sender, mut answer) = oneshot::channel();
        self.waiting.borrow_mut().insert(id, sender);
        self.worker
            .with(|client, now| client.handle_socks_request(id, &request, isolation, early, now));
        let (answer, unsent) = self.wait(&mut tcp, id, &mut answer).await?;
        self.reply(tcp, &request, answer, unsent).await
    }

    /// Waits for the answer; what the application sends in the meantime goes ahead.
    async fn wait(
        &self,
        tcp: &mut TcpStream,
        id: RequestId,
        answer: &mut oneshot::Receiver<Answer>,
    ) -> io::Result<(Answer, Vec<u8>)> {
        let mut unsent = Vec::new();
        let mut buffer = [0; READ_BYTES];
        loop {
            tokio::select! {
                biased;
                answer = &mut *answer => {
                    let answer = answer.unwrap_or(Answer::Failed(SocksStatus::GENERAL_FAILURE));
                    return Ok((answer, unsent));
                }
                read = tcp.read(&mut buffer), if unsent.is_empty() => match read {
                    Ok(bytes) if bytes > 0 => {
                        let data = buffer.get(..bytes).unwrap_or_default();
                        let taken = self
                            .worker
                            .with(|client, now| client.handle_socks_early(id, data, now));
                        unsent.extend_from_slice(data.get(taken..).unwrap_or_default());
                    }
                    _ => {
                        self.waiting.borrow_mut().remove(&id);
                        self.worker.with(|client, now| client.cancel_socks_request(id, now));
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
    }

    async fn reply(
        &self,
        mut tcp: TcpStream,
        request: &SocksRequest,
        answer: Answer,
        unsent: Vec<u8>,
    ) -> io::Result<()> {
        match answer {
            Answer::Connected {
                stream,
                bound,
                mut early,
            } => {
                early.extend_from_slice(&unsent);
                let bound = bound.map(Host::Ip);
                let bound = bound.as_ref().map(|host| (host, request.port));
                let reply = socks::reply(request.version, SocksStatus::SUCCEEDED, bound);
                edge::serve(&self.worker, stream, tcp.into_split(), reply, early).await;
                Ok(())
            }
            Answer::Resolved(answers) => {
                let host = answers.iter().find_map(host_of);
                let status = match host {
                    Some(_) => SocksStatus::SUCCEEDED,
                    None => SocksStatus::HOST_UNREACHABLE,
                };
                let bound = host.as_ref().map(|host| (host, 0));
                tcp.write_all(&socks::reply(request.version, status, bound))
                    .await?;
                tcp.shutdown().await
            }
            Answer::Failed(status) => {
                tcp.write_all(&socks::reply(request.version, status, None))
                    .await?;
                tcp.shutdown().await
            }
        }
    }
}

async fn read_request(tcp: &mut TcpStream) -> io::Result<(SocksRequest, Vec<u8>)> {
    let mut handshake = Handshake::new();
    let mut buffer = [0; 1024];
    let mut bytes = 0;
    loop {
        match handshake.handle_bytes(buffer.get(..bytes).unwrap_or_default()) {
            Ok(Progress::Request(request)) => return Ok((request, handshake.take_rest())),
            Ok(Progress::Reply(reply)) => {
                tcp.write_all(&reply).await?;
                bytes = 0;
            }
            Ok(Progress::NeedMore) => {
                bytes = tcp.read(&mut buffer).await?;
                if bytes == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(error) => {
                tcp.write_all(&error.reply()).await?;
                tcp.shutdown().await?;
                return Err(io::Error::other(error));
            }
        }
    }
}

fn host_of(answer: &Resolved) -> Option<Host> {
    match &answer.value {
        AnswerValue::Ip(ip) => Some(Host::Ip(*ip)),
        AnswerValue::Name(name) => String::from_utf8(name.clone()).ok().map(Host::Name),
        _ => None,
    }
}
