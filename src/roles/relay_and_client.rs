//! A relay and a client in one process, as a torrc with ports of both asks for (tor(1), ORPort).
//!
//! ```text
//! controllers ─▶ OwnRelay::answered ─▶ the client's loop ─ Order ─▶ the relay's loop
//!                   └──── keys of the relay: Order ─────────────▶
//!                                 the client's loop ◀── Event ───┘
//! ```
//!
//! Each is what it is alone, with a loop, a store and a folder of its own; the client's is `client`
//! in the relay's. The client has the control port, since most of what controllers do is about
//! circuits; what they ask of the relay goes over two queues. The client never uses its own relay.

use super::own_relay::{EVENTS_MAX, OwnRelay};
use super::relay::{self, Node};
use super::{Lifecycle, client};
use crate::config::{ClientConfig, RelayConfig};
use crate::error::Failure;
use crate::reload::{Reread, Signals};

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
    let identity = node.relay.keys().rsa_id();
    let of_relays = (&relay::FIXED[..], relay::KEYS);
    let events = node.pass_on_events(EVENTS_MAX);
    let (own, orders) = OwnRelay::new(identity, relay.written, of_relays, events);
    let of_client_stops = shutdown.clone();
    let lifecycle = Lifecycle {
        shutdown: of_client_stops,
        ..lifecycle
    };
    let relay = async {
        // The client is asked by signals, and passes on what they ask.
        let done = relay::serve(
            node,
            Some(orders),
            &of_relay,
            Signals::unwatched(),
            shutdown,
        )
        .await;
        let _ = ask.send(true);
        done
    };
    let client = async {
        let done = client::run(client, of_client, lifecycle, Some(own)).await;
        let _ = ask.send(true);
        done
    };
    let (relay, client) = tokio::join!(relay, client);
    client.and(relay)
}
