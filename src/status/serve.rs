//! The serving side: sockets on the runtime, answers from the client's own loop.
//!
//! A handler passes each request as a [`Query`] to the loop that owns the client, which answers
//! when it has the answer; one that never does is given up with the exchange.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Question, Subject};
use crate::config::MetricsPort;
use crate::doors::{Doors, Gate};
use crate::error::{Failure, fail};
use crate::http::{Handler, Limits, Peer, Reply, Request, Server};
use crate::launched::Shutdown;

/// Questions that wait at once.
const QUERIES_MAX: usize = 16;
/// The pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A question to the process.
#[derive(Debug)]
pub struct Query {
    /// What is asked.
    pub question: Question,
    answer: oneshot::Sender<Reply>,
}

impl Query {
    /// Answers with a snapshot, or what `prose` makes of it.
    pub fn reply(self, snapshot: &impl Serialize, prose: impl FnOnce() -> String) {
        let reply = match (self.question.is_json, serde_json::to_vec_pretty(snapshot)) {
            (false, _) => Reply::new(200).with_body(prose()),
            (true, Ok(json)) => Reply::new(200)
                .with_header("Content-Type", "application/json")
                .with_body(json),
            (true, Err(_)) => Reply::new(500),
        };
        self.send(reply);
    }

    /// Answers with metrics.
    pub fn reply_metrics(self, metrics: String) {
        let reply = Reply::new(200).with_header("Content-Type", "text/plain");
        self.send(reply.with_body(metrics));
    }

    /// Says that this process has no such thing.
    pub fn refuse(self) {
        self.send(Reply::new(404));
    }

    /// An asker that hung up is no matter.
    fn send(self, reply: Reply) {
        let _ = self.answer.send(reply);
    }
}

/// What was opened. The socket's file goes with it.
#[derive(Debug)]
pub struct Sockets {
    path: std::path::PathBuf,
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Sockets {
    /// Opens the socket in a data folder whose lock is held, and answers connections to the port
    /// for metrics too. Queries come out of the queue. Must be called within a runtime.
    pub fn open(
        folder: &Path,
        metrics: Option<(TcpListener, MetricsPort)>,
        shutdown: Shutdown,
    ) -> Result<(Self, mpsc::Receiver<Query>), Failure> {
        let path = folder.join(super::SOCKET);
        // Of a process that was killed: the folder's lock is ours.
        let _ = std::fs::remove_file(&path);
        let bound = super::socket_in(folder).and_then(|(path, _open)| UnixListener::bind(path));
        let listener = match bound {
            Ok(listener) => listener,
            Err(error) => return fail("cannot open this socket", path.display(), error),
        };
        let (sender, queries) = mpsc::channel(QUERIES_MAX);
        let handler = handler(sender);
        let server = |gate| Server::new(Arc::clone(&handler), Limits::default(), gate);
        let status = server(Doors::aside(&["status"]));
        tokio::spawn(accept(listener, status, shutdown.clone()));
        if let Some((listener, port)) = metrics {
            let gate = Doors::aside(&["metrics"]);
            let server = server(gate.clone());
            tokio::spawn(accept_metrics(listener, port, (gate, server), shutdown));
        }
        Ok((Sockets { path }, queries))
    }
}

fn handler(queries: mpsc::Sender<Query>) -> Handler {
    Arc::new(move |request: Request| {
        let queries = queries.clone();
        Box::pin(async move {
            // Metrics are for others; what else is told is for the user of the socket alone.
            let is_local = matches!(request.peer, Peer::Circuit);
            let question = Question::parse(&request.path).filter(|question| {
                request.method == "GET" && (is_local || question.subject == Subject::Metrics)
            });
            let Some(question) = question else {
                return Reply::new(404);
            };
            let (answer, answered) = oneshot::channel();
            match queries.send(Query { question, answer }).await {
                Ok(()) => answered.await.unwrap_or_else(|_| Reply::new(503)),
                Err(_) => Reply::new(503),
            }
        })
    })
}

/// Who may not read metrics learns no more than that there is a port.
async fn accept_metrics(
    listener: TcpListener,
    port: MetricsPort,
    (gate, server): (Gate, Server),
    mut shutdown: Shutdown,
) {
    loop {
        let (stream, addr, pass) = tokio::select! {
            accepted = gate.accept(&listener) => accepted,
            () = shutdown.wait() => return,
        };
        if !port.allows(addr.ip()) {
            tracing::debug!("metrics_policy rejects a connection");
            continue;
        }
        let server = server.clone();
        tokio::spawn(async move { server.exchange(stream, Peer::Address(addr), pass).await });
    }
}

async fn accept(listener: UnixListener, server: Server, mut shutdown: Shutdown) {
    let places = Arc::new(Semaphore::new(QUERIES_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.wait() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let server = server.clone();
                tokio::spawn(async move {
                    server.serve_stream(stream, Peer::Circuit).await;
                    drop(place);
                });
            }
            // Out of descriptors, say, which passes.
            Err(error) => {
                tracing::debug!(%error, "the status socket could not accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
