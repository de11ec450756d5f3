//! A relay and a client in one process, as a torrc with ports of both asks for (tor(1), ORPort).
//!
//! ```text
//! controllers ─▶ Told ─▶ the client's loop ─ Order ─▶ the relay's loop
//!                  └──── keys of the relay ─ Order ─▶
//!                           the client's loop ◀─ Event ─┘
//! ```
//!
//! Each is what it is alone, with a loop, a store and a folder of its own; the client's is `client` in the
//! relay's. The client has the control port, since most of what controllers do is about circuits; what they
//! ask of the relay goes over two queues. The client never uses its own relay.

use std::sync::OnceLock;

use cepa_control::{Command, Event, EventKind, Refusal};
use cepa_crypto::RsaId;
use tokio::sync::{mpsc, oneshot};
use toml::Table;

use super::relay::{self, Node};
use super::{Lifecycle, client};
use crate::config::source::Source;
use crate::config::written::Written;
use crate::config::{self, ClientConfig, RelayConfig};
use crate::control::{Key, LINKS, Said, Told};
use crate::error::Failure;
use crate::reload::{Asked, Reread, Signals};

/// Orders that wait for the relay: each controller has one under way.
const ORDERS_MAX: usize = 64;
/// Events of the relay that wait for the client: some a second.
const EVENTS_MAX: usize = 256;
/// Events that the relay tells, and the client does not.
pub(super) const EVENTS: [EventKind; 4] = [
    EventKind::StatusServer,
    EventKind::DescChanged,
    EventKind::TransportLaunched,
    EventKind::ClientsSeen,
];
/// Keys of GETINFO that the relay answers; one that ends with `/` stands for all that begin so.
const KEYS: [&str; 23] = [
    LINKS,
    "accounting/",
    "address",
    "address/v4",
    "address/v6",
    "desc/all-recent",
    "desc/download-enabled",
    "desc/id/",
    "desc/name/",
    "dir/server/",
    "dir/status-vote/current/consensus",
    "exit-policy/full",
    "exit-policy/ipv4",
    "exit-policy/ipv6",
    "extra-info/",
    "fingerprint",
    "net/listeners/dir",
    "net/listeners/metrics",
    "net/listeners/or",
    "status/clients-seen",
    "status/fresh-relay-descs",
    "status/reachability-succeeded",
    "status/reachability-succeeded/",
];

/// What the client asks of the relay in its process.
pub(super) enum Order {
    /// The values of keys of GETINFO, in turn.
    Info(Vec<String>, oneshot::Sender<Vec<Result<String, Refusal>>>),
    /// To have another configuration take effect.
    Put(Box<RelayConfig>),
    /// What a signal asks.
    Signal(Asked),
}

/// The relay in a client's process, as the client sees it.
pub(crate) struct RelayBeside {
    /// Who it is.
    pub(super) identity: RsaId,
    /// Bytes that it has read and written on links.
    pub(super) moved: (u64, u64),
    /// Those of which controllers were not told yet.
    counted: (u64, u64),
    /// Its configuration at the start, for the places that are in it.
    written: Written,
    events: mpsc::Receiver<Event>,
    orders: mpsc::Sender<Order>,
}

impl RelayBeside {
    /// Orders something.
    pub(super) fn order(&self, order: Order) {
        if self.orders.try_send(order).is_err() {
            tracing::warn!("the relay of this process is too busy for what was asked of it");
        }
    }

    /// Counts bytes that it has moved.
    pub(super) fn count(&mut self, read: u64, written: u64) {
        for pair in [&mut self.moved, &mut self.counted] {
            *pair = (pair.0 + read, pair.1 + written);
        }
    }

    /// The bytes that were counted since this was last asked.
    pub(super) fn take_counted(&mut self) -> (u64, u64) {
        std::mem::take(&mut self.counted)
    }

    /// The keys of its configuration that take effect at a start only.
    pub(super) fn fixed(&self) -> &'static [&'static str] {
        &relay::FIXED
    }

    /// Another configuration of it, checked.
    pub(super) fn changed(&self, table: &Table) -> Result<RelayConfig, Failure> {
        config::node::read(Source::changed(&self.written, table))?.into_relay()
    }

    /// What controllers say, with what the relay tells of the keys that they ask for. Must be called within a
    /// runtime.
    pub(super) fn told(&self, mut controllers: mpsc::Receiver<Said>) -> mpsc::Receiver<Said> {
        let orders = self.orders.clone();
        let (sender, receiver) = mpsc::channel(ORDERS_MAX);
        tokio::spawn(async move {
            while let Some(said) = controllers.recv().await {
                let said = match said {
                    Said::Command(id, order, _, done) => {
                        let told = told(&orders, &order).await;
                        Said::Command(id, order, told, done)
                    }
                    other => other,
                };
                if sender.send(said).await.is_err() {
                    return;
                }
            }
        });
        receiver
    }
}

/// What the relay tells of the keys that a command asks for.
async fn told(orders: &mpsc::Sender<Order>, command: &Command) -> Told {
    let Command::GetInfo(keys) = command else {
        return Told::new();
    };
    let keys: Vec<String> = keys
        .iter()
        .filter(|key| is_of_relay(key))
        .cloned()
        .collect();
    if keys.is_empty() {
        return Told::new();
    }
    let (reply, told) = oneshot::channel();
    let order = Order::Info(keys.clone(), reply);
    match orders.send(order).await {
        // It fails where the process ends.
        Ok(()) => keys
            .into_iter()
            .zip(told.await.unwrap_or_default())
            .collect(),
        Err(_) => Told::new(),
    }
}

fn is_of_relay(key: &str) -> bool {
    KEYS.into_iter().any(|of| match of.ends_with('/') {
        true => key.starts_with(of),
        false => key == of,
    })
}

/// The keys that the relay answers, for `info/names`.
pub(super) fn keys() -> &'static [Key] {
    static FOUND: OnceLock<Vec<Key>> = OnceLock::new();
    let own = || {
        relay::KEYS
            .iter()
            .filter(|(name, _)| is_of_relay(name))
            .copied()
    };
    FOUND.get_or_init(|| own().collect())
}

/// The next event of the relay; none where there is no relay. Cancel-safe.
pub(super) async fn next(relay: &mut Option<RelayBeside>) -> Option<Event> {
    match relay {
        Some(relay) => relay.events.recv().await,
        None => std::future::pending().await,
    }
}

/// Runs both until one of them ends, or until `shutdown`.
pub async fn run(
    (relay, of_relay): (RelayConfig, Reread<RelayConfig>),
    (client, of_client): (ClientConfig, Reread<ClientConfig>),
    lifecycle: Lifecycle,
) -> Result<(), Failure> {
    let (ask, mut shutdown) = lifecycle.shutdown.with_asker();
    let config = RelayConfig {
        control: None,
        ..relay.clone()
    };
    let by = (lifecycle.reporter.second(), lifecycle.torrc.clone());
    let stops = shutdown.clone();
    let mut node = tokio::select! {
        node = Node::start(config, None, by, &stops) => node?,
        () = shutdown.wait() => return Ok(()),
    };
    let (orders, taken) = mpsc::channel(ORDERS_MAX);
    let beside = RelayBeside {
        identity: node.relay.keys().rsa_id(),
        moved: (0, 0),
        counted: (0, 0),
        written: relay.written,
        events: node.tell_beside(EVENTS_MAX),
        orders,
    };
    let of_client_stops = shutdown.clone();
    let lifecycle = Lifecycle {
        shutdown: of_client_stops,
        ..lifecycle
    };
    let relay = async {
        // The client is asked by signals, and passes on what they ask.
        let done = relay::serve(node, Some(taken), &of_relay, Signals::unwatched(), shutdown).await;
        let _ = ask.send(true);
        done
    };
    let client = async {
        let done = client::run(client, of_client, lifecycle, Some(beside)).await;
        let _ = ask.send(true);
        done
    };
    let (relay, client) = tokio::join!(relay, client);
    client.and(relay)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_relay_are_its_own() {
        let of_relay = [
            "fingerprint",
            "accounting/bytes",
            "desc/id/AB",
            "status/reachability-succeeded/or",
            "orconn-status",
        ];
        assert!(of_relay.into_iter().all(is_of_relay));
        let of_client = [
            "circuit-status",
            "addresses",
            "version",
            "desc",
            "status/bootstrap-phase",
        ];
        assert!(!of_client.into_iter().any(is_of_relay));
    }
}
