//! The control port (control-spec): programs that drive `tor` drive this one.
//!
//! ```text
//! connection: bytes ─▶ LineReader ─▶ Authenticator ─▶ Profile ─▶ Said ─▶ the role's loop
//!                 ▲                                                 │ replies, events
//!                 └────────────────── Outbox ◀──────────────────────┘
//! ```
//!
//! A connection is a task; what it may say goes to the loop that owns the role, one command at a
//! time, and replies and events come back as whole messages in one queue, so that neither tears the
//! other. A controller that does not read is told no more events; replies wait, since the next
//! command waits for them.

mod conf;
mod connection;
mod desk;
mod driven;
mod hearing;
mod info;
mod network;
mod outbox;
pub(crate) mod translate;

use std::collections::BTreeMap;
use std::sync::Arc;

use cepa_control::auth::{Cookie, Credentials};
use cepa_control::{Command, Refusal};
use cepa_crypto::Rng;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::config::control::{ControlConfig, ControlListen};
use crate::doors::Doors;
use crate::error::Failure;
use crate::keyfiles;
use crate::listen::{self, OwnedSocket};

pub(crate) use conf::{Changed, Conf, ConfError, InForce};
pub(crate) use desk::Desk;
pub(crate) use driven::{Driven, Goes, Key, Process};
pub(crate) use hearing::{Heard, hear, heard, next};
pub(crate) use info::{LINKS, quoted};
pub(crate) use network::{entries, relay_named};
use outbox::Outbox;

/// What version controllers are told: they compare it with those of `tor`, whose protocol this is.
pub(crate) const VERSION: &str = concat!("0.4.9.11 (cepa-", env!("CARGO_PKG_VERSION"), ")");

/// Commands that wait for the loop at once; each connection has one under way.
const SAID_MAX: usize = 64;

/// Names a connection; no number is used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// What another role of the process answers to keys of GETINFO before this one is asked.
pub(crate) type Answers = BTreeMap<String, Result<String, Refusal>>;

/// What the loop hears of connections.
pub(crate) enum Said {
    /// A controller has proved who it is; its messages go here.
    Opened(ConnectionId, Arc<Outbox>),
    /// It says something that it may say, and waits until the reply is in its outbox.
    Command(ConnectionId, Box<Command>, Answers, oneshot::Sender<()>),
    /// It is gone.
    Closed(ConnectionId),
}

/// Listeners that are open, and who may come in.
pub(crate) struct ControlPort {
    tcp: Vec<TcpListener>,
    unix: Vec<OwnedSocket>,
    credentials: Arc<Credentials>,
    rng: Rng,
}

impl ControlPort {
    /// Listens, makes the cookie, and says where. Must be called within a runtime.
    pub(crate) async fn open(config: &ControlConfig, mut rng: Rng) -> Result<Self, Failure> {
        let (mut tcp, mut unix) = (Vec::new(), Vec::new());
        for place in &config.listen {
            match place {
                ControlListen::Tcp(addr) => tcp.push(listen::listen(*addr, "control").await?),
                ControlListen::Unix(path, mode) => {
                    unix.push(listen::listen_unix(path, *mode, "control")?);
                }
            }
        }
        let cookie = match &config.cookie {
            Some(cookie) => {
                let secret = Cookie::generate(&mut rng);
                let mode = if cookie.is_group_readable {
                    0o640
                } else {
                    0o600
                };
                keyfiles::write_atomic(&cookie.path, secret.as_bytes(), mode)?;
                // Controllers read it from folders of their own.
                let path = std::path::absolute(&cookie.path).unwrap_or(cookie.path.clone());
                let path = path.display().to_string();
                Some((secret, path, Arc::clone(&cookie.profile)))
            }
            None => None,
        };
        let port = ControlPort {
            tcp,
            unix,
            credentials: Arc::new(Credentials {
                cookie,
                passwords: config.passwords.clone(),
                without: Arc::clone(&config.without),
            }),
            rng,
        };
        if let Some(path) = &config.write_to_file {
            let mode = match config.is_file_group_readable {
                true => 0o640,
                false => 0o600,
            };
            keyfiles::write_atomic(path, port.lines().as_bytes(), mode)?;
        }
        for place in port.places() {
            listen::tell("Control", place.strip_prefix("unix:").unwrap_or(&place));
        }
        Ok(port)
    }

    /// Where it listens, as `GETINFO net/listeners/control` tells it, without quotes.
    pub(crate) fn places(&self) -> Vec<String> {
        let tcp = self
            .tcp
            .iter()
            .filter_map(|listener| listener.local_addr().ok());
        let unix = self
            .unix
            .iter()
            .map(|socket| format!("unix:{}", socket.path.display()));
        tcp.map(|addr| addr.to_string()).chain(unix).collect()
    }

    /// Where it listens, as `ControlPortWriteToFile` has it.
    fn lines(&self) -> String {
        let line = |place: String| match place.strip_prefix("unix:") {
            Some(path) => format!("UNIX_PORT={path}\n"),
            None => format!("PORT={place}\n"),
        };
        self.places().into_iter().map(line).collect()
    }

    /// Serves all of it, a task a listener and a task a connection.
    pub(crate) fn serve(self) -> mpsc::Receiver<Said> {
        let (desk, said) = mpsc::channel(SAID_MAX);
        let gate = Doors::aside(&["the control port"]);
        let shared = connection::Shared::new(desk, self.credentials, self.rng);
        for listener in self.tcp {
            let (gate, shared) = (gate.clone(), shared.clone());
            tokio::task::spawn(async move {
                loop {
                    let (tcp, _, pass) = gate.accept(&listener).await;
                    let _ = tcp.set_nodelay(true);
                    tokio::task::spawn(shared.clone().serve(tcp, pass));
                }
            });
        }
        for socket in self.unix {
            let (gate, shared) = (gate.clone(), shared.clone());
            tokio::task::spawn(async move {
                loop {
                    let (unix, pass) = gate.accept_unix(&socket.listener).await;
                    tokio::task::spawn(shared.clone().serve(unix, pass));
                }
            });
        }
        said
    }
}
