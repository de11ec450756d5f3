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
pub(crate) mod kept;
mod mirror;
mod onion;
mod onion_threads;
mod ports;
mod registry;
pub mod relay;
mod replies;
mod socks;
mod transparent;
mod uploads;
mod workers;

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Instant;

use cepa_dir::NetworkFile;
use cepa_dir::network::Authority;

use crate::error::{Failure, fail};
use crate::keep::Keep;
use crate::launched::{Reporter, Shutdown};
use crate::network::Network;
use crate::reload::Signals;
use crate::torrc::Torrc;

/// How a role is told what to do, and tells how far it is.
pub struct Told {
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
fn network_file(network: &Network) -> Result<NetworkFile, Failure> {
    let v4 = |addr: SocketAddr| -> Result<SocketAddrV4, Failure> {
        match addr {
            SocketAddr::V4(addr) => Ok(addr),
            SocketAddr::V6(_) => fail(
                "an authority needs an IPv4 address",
                addr,
                "change it in the network file",
            ),
        }
    };
    let authorities = network.authorities.iter().map(|authority| {
        Ok(Authority {
            nickname: authority.nickname.clone(),
            v3_identity: authority.v3_ident,
            rsa_id: authority.rsa,
            ed25519_id: authority.ed25519,
            dir_addr: v4(authority.dir)?,
            or_addr: v4(authority.or)?,
            or_addr_v6: None,
        })
    });
    Ok(NetworkFile {
        authorities: authorities.collect::<Result<_, Failure>>()?,
        is_testing: network.testing,
    })
}
