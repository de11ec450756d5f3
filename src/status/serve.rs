//! The serving side: sockets on the runtime, answers from the client's own loop.
//!
//! A handler passes each request as a [`Query`] to the loop that owns the client, which answers
//! when it has the answer; one that never does is given up with the exchange.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, oneshot};

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
    /// What is asked, such as `/onion?probe`.
    pub path: String,
    /// Takes the answer to whoever asked.
    pub answer: oneshot::Sender<Reply>,
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
            if request.method != "GET" || !(is_local || request.path == "/metrics") {
                return Reply::new(404);
            }
            let (answer, answered) = oneshot::channel();
            let path = request.path;
            match queries.send(Query { path, answer }).await {
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
