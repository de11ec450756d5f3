//! The roles, each wired to the world: sockets, timers, the store, the log.

mod address;
mod applications;
pub mod authority;
pub mod client;
mod directory;
mod dns_port;
mod exit;
pub(crate) mod fetch;
mod guards;
mod http_connect;
mod mirror;
mod onion;
mod onion_threads;
mod own_relay;
mod ports;
mod registry;
pub mod relay;
pub mod relay_and_client;
mod replies;
mod socks;
mod transparent;
mod uploads;
mod workers;

pub(crate) use relay::BRIDGE_LINES_FILE;

use std::time::Instant;

use cepa_dir::NetworkFile;

use crate::error::Failure;
use crate::keep::Keep;
use crate::launched::{Reporter, Shutdown};
use crate::network::Network;
use crate::reload::Signals;
use crate::torrc::Torrc;

/// How a role is told what to do, and tells how far it is.
pub struct Lifecycle {
    /// The stages that it has reached.
    pub reporter: Reporter,
    /// Tells when the role is to stop.
    pub shutdown: Shutdown,
    /// Tells what signals ask.
    pub signals: Signals,
    /// The torrc that the role was started by.
    pub(crate) torrc: Option<Torrc>,
}

/// Tells that a configuration which was read again is wrong.
fn stays(error: &Failure) {
    tracing::error!("the configuration stays as it was: {error}");
}

/// Writes to the log what waits for the disk.
fn log_kept(keep: &Keep) {
    let status = keep.status();
    match keep.error() {
        Some(error) => tracing::warn!("Status: not kept: {} entries: {error}", status.waiting),
        None => tracing::info!("Status: all is kept, {} failures before", status.failures),
    }
}

/// Waits until then; for ever without a time.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// The network file as the directory protocol wants it.
fn network_file(network: &Network) -> NetworkFile {
    NetworkFile {
        authorities: network.authorities.clone(),
        is_testing: network.testing,
    }
}
