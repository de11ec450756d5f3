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
mod kept;
mod onion;
mod ports;
mod registry;
pub mod relay;
mod replies;
mod socks;
mod transparent;
mod uploads;
mod workers;

use std::net::{SocketAddr, SocketAddrV4};

use cepa_dir::NetworkFile;
use cepa_dir::network::Authority;

use crate::error::{Failure, fail};
use crate::network::Network;

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
