//! The relay in a client's process, as the client sees it (`super::relay_and_client`).

use cepa_control::{Command, Event, EventKind, Refusal};
use cepa_crypto::RsaId;
use tokio::sync::{mpsc, oneshot};
use toml::Table;

use crate::config::source::Source;
use crate::config::written::Written;
use crate::config::{self, RelayConfig};
use crate::control::{Answers, Key, LINKS, Said};
use crate::error::Failure;
use crate::reload::Asked;

/// Orders that wait for the relay: each controller has one under way.
const ORDERS_MAX: usize = 64;
/// Events of the relay that wait for the client: some a second.
pub(super) const EVENTS_MAX: usize = 256;
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
pub(crate) struct OwnRelay {
    /// Who it is.
    pub(super) identity: RsaId,
    /// The keys of its configuration that take effect at a start only.
    pub(super) fixed: &'static [&'static str],
    /// The keys of GETINFO that it answers.
    pub(super) keys: Vec<Key>,
    /// Bytes that it has read and written on links.
    pub(super) moved: (u64, u64),
    /// Those of which controllers were not told yet.
    counted: (u64, u64),
    /// Its configuration at the start, for the places that are in it.
    written: Written,
    events: mpsc::Receiver<Event>,
    orders: mpsc::Sender<Order>,
}

impl OwnRelay {
    /// A relay that begins, and where it finds what is asked of it.
    pub(super) fn new(
        identity: RsaId,
        written: Written,
        (fixed, keys): (&'static [&'static str], &[Key]),
        events: mpsc::Receiver<Event>,
    ) -> (Self, mpsc::Receiver<Order>) {
        let (orders, taken) = mpsc::channel(ORDERS_MAX);
        let keys = keys.iter().filter(|(name, _)| is_of_relay(name)).copied();
        let relay = OwnRelay {
            identity,
            fixed,
            keys: keys.collect(),
            moved: (0, 0),
            counted: (0, 0),
            written,
            events,
            orders,
        };
        (relay, taken)
    }

    /// Orders something.
    pub(super) fn order(&self, order: Order) {
        if self.orders.try_send(order).is_err() {
            tracing::warn!("the relay of this process is too busy for what was asked of it");
        }
    }

    /// A place for an order that must not be lost.
    ///
    /// # Errors
    /// If there is none: too many are given faster than the relay obeys.
    pub(super) fn place(&self) -> Result<mpsc::OwnedPermit<Order>, Failure> {
        let place = self.orders.clone().try_reserve_owned();
        place.map_err(|error| Failure::new("the relay is busy", "this process", error))
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

    /// Another configuration of it, checked.
    pub(super) fn changed(&self, table: &Table) -> Result<RelayConfig, Failure> {
        config::node::read(Source::changed(&self.written, table))?.into_relay()
    }

    /// What controllers say, with the relay's answers on the keys that they ask for. Must be called
    /// within a runtime.
    pub(super) fn answered(&self, mut controllers: mpsc::Receiver<Said>) -> mpsc::Receiver<Said> {
        let orders = self.orders.clone();
        let (sender, receiver) = mpsc::channel(ORDERS_MAX);
        tokio::spawn(async move {
            while let Some(said) = controllers.recv().await {
                let said = match said {
                    Said::Command(id, order, _, done) => {
                        let answers = answers(&orders, &order).await;
                        Said::Command(id, order, answers, done)
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

/// The relay's answers on the keys that a command asks for.
async fn answers(orders: &mpsc::Sender<Order>, command: &Command) -> Answers {
    let Command::GetInfo(keys) = command else {
        return Answers::new();
    };
    let keys: Vec<String> = keys
        .iter()
        .filter(|key| is_of_relay(key))
        .cloned()
        .collect();
    if keys.is_empty() {
        return Answers::new();
    }
    let (reply, told) = oneshot::channel();
    let order = Order::Info(keys.clone(), reply);
    match orders.send(order).await {
        // It fails where the process ends.
        Ok(()) => keys
            .into_iter()
            .zip(told.await.unwrap_or_default())
            .collect(),
        Err(_) => Answers::new(),
    }
}

fn is_of_relay(key: &str) -> bool {
    KEYS.into_iter().any(|of| match of.ends_with('/') {
        true => key.starts_with(of),
        false => key == of,
    })
}

/// What happens to the relay, if there is one.
pub(super) fn events(relay: &mut Option<OwnRelay>) -> Option<&mut mpsc::Receiver<Event>> {
    relay.as_mut().map(|relay| &mut relay.events)
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
