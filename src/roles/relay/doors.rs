//! The ports of a relay beside its OR port, and who always finds a place behind them.

use std::net::{IpAddr, SocketAddr};

use cepa_crypto::Rng;
use cepa_dir::NetworkFile;

use super::bridge::transport_ends;
use crate::config::RelayConfig;
use crate::doors::{Descriptors, Doors};
use crate::error::Failure;
use crate::launched::Shutdown;
use crate::{http, listen};

/// The doors of a relay, with places for authorities from the start.
pub(super) fn open_doors(config: &RelayConfig, network: &NetworkFile, rng: Rng) -> Doors {
    let doors = Doors::of_relay(Descriptors::raise(), config.testing, rng);
    doors.set_known(authorities(network).chain(transport_ends(config)));
    doors
}

/// The addresses of the authorities.
pub(super) fn authorities(network: &NetworkFile) -> impl Iterator<Item = IpAddr> {
    let authorities = network.authorities.iter();
    authorities.flat_map(|authority| {
        let dir = IpAddr::V4(*authority.dir_addr.ip());
        let more = authority.or_addr_v6.map(|addr| addr.ip());
        [dir, IpAddr::V4(*authority.or_addr.ip())]
            .into_iter()
            .chain(more)
    })
}

/// Serves the directory at this address.
pub(super) async fn serve_dir_port(
    addr: SocketAddr,
    server: http::Server,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let listener = listen::listen_as("Directory", addr, "dir_port").await?;
    tokio::spawn(server.serve(listener, shutdown.clone()));
    Ok(())
}
