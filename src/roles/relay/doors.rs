//! The ports of a relay beside its OR port, what is behind them, and who always finds a place.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use cepa_crypto::Rng;
use cepa_dir::{DirStore, NetworkFile};
use tokio::net::TcpListener;

use super::AuthorityParts;
use super::bridge::transport_ends;
use crate::config::RelayConfig;
use crate::dns::Resolver;
use crate::doors::{DIR_PORT, Descriptors, Doors};
use crate::error::Failure;
use crate::launched::Shutdown;
use crate::net::pace::{Pace, Traffic};
use crate::roles::directory::Directory;
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

/// Serves the directory at its port, if there is one.
pub(super) async fn serve_dir_port(
    config: &RelayConfig,
    directory: &Directory,
    doors: &Doors,
    (pace, traffic): (&Arc<Pace>, &Arc<Traffic>),
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let Some(addr) = config.dir_listen() else {
        return Ok(());
    };
    let server = directory.server(http::Limits::default(), doors.gate(DIR_PORT));
    let server = server.filtered(directory.filter()).paced(pace, traffic);
    let listener = listen::listen_as("Directory", addr, "dir_port").await?;
    tokio::spawn(server.serve(listener, shutdown.clone()));
    Ok(())
}

/// The documents that are served, an authority's or none, to authorities first.
pub(super) fn directory(
    authority: Option<AuthorityParts>,
    network: &NetworkFile,
    config: &RelayConfig,
) -> Directory {
    let addresses = network.authorities.iter();
    let addresses = addresses.map(|one| IpAddr::V4(*one.dir_addr.ip()));
    let directory = match authority {
        Some(parts) => Directory::new(parts.store, Some(parts.uploads), addresses),
        None => Directory::new(DirStore::new(None), None, addresses),
    };
    directory.set_options(&config.directory);
    directory
}

/// What looks names up.
pub(super) fn resolver(config: &RelayConfig) -> Result<Resolver, Failure> {
    let resolver = Resolver::new(&config.name_servers, config.resolv_conf.as_deref());
    resolver.set_options(config.dns)?;
    Ok(resolver)
}

/// Listens for relays and clients: the listeners, and their places.
pub(super) async fn listen(
    config: &RelayConfig,
) -> Result<(Vec<TcpListener>, Vec<SocketAddr>), Failure> {
    let mut listeners = vec![listen::listen_as("OR", config.or_listen(), "or_port").await?];
    if let Some(place) = config.or_listen_v6() {
        listeners.extend(listen::listen_v6("OR", place, "or_port")?);
    }
    let places = listeners.iter().filter_map(|one| one.local_addr().ok());
    let places = places.collect();
    Ok((listeners, places))
}
