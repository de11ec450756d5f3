//! What the core of a relay is told at its start: the operator's configuration, its address, what
//! an earlier run kept.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, SocketAddrV6};
use std::path::PathBuf;
use std::sync::Arc;

use cepa_crypto::Rng;
use cepa_crypto::ed25519::ExpandedKeypair;
use cepa_crypto::key_file::{self, Kind};
use cepa_dir::NetworkFile;
use cepa_netdoc::family::Family;
use cepa_relay::{Limits, Relay, RelayConfig as CoreConfig, Restored};
use tokio::sync::mpsc;

use super::Event;
use crate::clock;
use crate::config::{BANDWIDTH_DEFAULT, RelayConfig};
use crate::error::{Failure, fail};
use crate::keep::kept;
use crate::keyfiles;
use crate::roles::address::{AddressFinder, exit_options};
use crate::roles::directory::Directory;
use crate::roles::onion_threads;
use crate::store::Store;
use crate::tls;

/// What a relay of a network that has just begun says of its bandwidth, bytes a second.
const TESTING_BANDWIDTH: u32 = 10 << 20;

/// The address that the operator names; if he names none, no address, and what authorities see is
/// an event, then and from time to time: they may be hard to reach, and the relay be asked about
/// it.
pub(super) fn find_address(
    config: &RelayConfig,
    (network, connector): (&Arc<NetworkFile>, &Arc<rustls::ClientConfig>),
    rng: Rng,
    answers: &mpsc::UnboundedSender<Event>,
) -> IpAddr {
    if let Some(address) = config.address {
        return address;
    }
    let mut finder = AddressFinder {
        network: Arc::clone(network),
        connector: Arc::clone(connector),
        bind: config.source(),
        versions: config.link_versions,
        testing: config.testing,
        rng,
    };
    let answers = answers.clone();
    tokio::spawn(async move {
        let mut address = finder.find().await;
        tracing::info!("the authorities see this relay at {address}, which it tells others");
        while answers.send(Event::Address(address)).is_ok() {
            address = finder.find_again().await;
        }
    });
    Ipv4Addr::UNSPECIFIED.into()
}

/// TLS of outgoing links.
pub(super) fn connector() -> Result<Arc<rustls::ClientConfig>, Failure> {
    tls::client_config(tls::provider()).map_err(tls_failure)
}

pub(super) fn tls_failure(error: rustls::Error) -> Failure {
    Failure::new("TLS cannot be set up", "this process", error)
}

/// Takes what an earlier run kept; what the directory holds counts as the relay's memory.
pub(super) fn restore(
    relay: &mut Relay,
    directory: &Directory,
    store: &mut Store,
) -> Result<(), Failure> {
    directory.count_in(relay.memory());
    relay.restore(&restored(store)?, clock::now());
    Ok(())
}

pub(super) fn core_config(config: &RelayConfig, address: IpAddr) -> Result<CoreConfig, Failure> {
    let IpAddr::V4(ip) = address else {
        return fail(
            "a relay needs an IPv4 address",
            address,
            "set address to one",
        );
    };
    let bounds = || config.bandwidth.into_iter().chain(config.relay_bandwidth);
    let advertised = config.max_advertised_bandwidth;
    Ok(CoreConfig {
        nickname: config.nickname.clone(),
        contact: config.contact.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        or_address: SocketAddrV4::new(ip, config.or_port),
        or_address_v6: config
            .ipv6_address
            .map(|ip| SocketAddrV6::new(ip, config.or_port, 0, 0)),
        dir_port: config.dir_port.unwrap_or(0),
        exit: exit_options(config),
        family: Family::parse(&config.family.join(" ")),
        family_keys: family_keys(&config.family_keys)?,
        bandwidth_rate: least(bounds().map(|one| one.rate).chain(advertised)),
        bandwidth_burst: least(bounds().map(|one| one.burst)),
        accounting: config.accounting,
        protocols: config.protocols.clone(),
        bandwidth_observed_min: if config.testing { TESTING_BANDWIDTH } else { 0 },
        serves_directory: config.directory.is_cache,
        // There is no bridge authority in a network of ours: bridges tell nobody of themselves.
        publishes: config.bridge.is_none() && config.publishes_descriptor,
        bridge_distribution: config.bridge.as_ref().map(|one| one.distribution.clone()),
        extend_allow_private: config.testing,
        key_day: config.key_day,
        key_times: config.key_times,
        choices: config.choices,
        dos: config.dos.clone(),
        limits: Limits {
            onionskins: onion_threads::limits(config.workers),
            ..Limits::default()
        },
        max_memory: config.max_memory,
    })
}

/// What a descriptor says where these are the bounds.
fn least(bounds: impl Iterator<Item = u64>) -> u32 {
    u32::try_from(bounds.fold(BANDWIDTH_DEFAULT, u64::min)).unwrap_or(u32::MAX)
}

pub(super) fn family_keys(paths: &[PathBuf]) -> Result<Vec<Arc<ExpandedKeypair>>, Failure> {
    let read = |path: &PathBuf| {
        let Some(bytes) = keyfiles::read_secret(path)? else {
            let advice = "make one with tor --keygen-family";
            return fail("there is no such family key", path.display(), advice);
        };
        let key = key_file::read_ed25519(Kind::FamilySecret, &bytes);
        key.map(Arc::new)
            .map_err(|_| keyfiles::damaged(path, "a family key"))
    };
    paths.iter().map(read).collect()
}

/// What an earlier run kept and is still in use.
fn restored(store: &mut Store) -> Result<Restored, Failure> {
    kept::tidy(store, crate::clock::now().wall)?;
    Ok(Restored {
        certificates: store.texts(kept::CERTIFICATE)?,
        consensuses: store.texts(kept::CONSENSUS)?,
        microdescs: store.texts(kept::MICRODESC)?,
        server_descs: store.texts(kept::SERVER_DESC)?,
        extra_infos: store.texts(kept::EXTRA_INFO)?,
        accounting: store.texts(kept::ACCOUNTING)?.into_iter().next(),
    })
}
