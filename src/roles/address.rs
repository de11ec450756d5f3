//! The address of a relay whose operator names none: the one that authorities see (tor-spec 4.5);
//! and the addresses of its machine, which exits refuse.
//!
//! Only authorities are asked, each over a link on which it proves who it is, so that nobody else
//! can tell a relay where it stands. What most of those that answer say counts.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use cepa_crypto::Rng;
use cepa_dir::DirAuthority;
use cepa_dir::NetworkFile;
use cepa_link::PeerExpectation;
use cepa_relay::ExitOptions;
use rustls::ClientConfig;
use tokio::task::JoinSet;

use crate::config::{RelayConfig, is_public};
use crate::net::link::{self, Ours};

/// The wait after nobody has answered, which doubles up to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// How often a running relay asks again.
const AGAIN: Duration = Duration::from_secs(15 * 60);
const AGAIN_IN_TESTS: Duration = Duration::from_secs(5);

/// Addresses of this machine that are refused, at most: each is a rule of the descriptor.
const LOCAL_ADDRESSES_MAX: usize = 64;

/// What the operator wants of streams that leave, with the addresses of this machine.
pub(super) fn exit_options(config: &RelayConfig) -> ExitOptions {
    let mut options = config.exit.clone();
    if options.reject_private {
        options.local.extend(config.source());
    } else if options.is_exit() {
        tracing::info!("streams may leave by this exit to internal addresses, as its file says");
    }
    if config.reject_local_interfaces {
        match if_addrs::get_if_addrs() {
            Ok(found) => {
                let public = found.iter().map(if_addrs::Interface::ip);
                options.local.extend(public.filter(|ip| is_public(*ip)));
            }
            Err(error) => {
                tracing::warn!(%error, "the addresses of this machine's interfaces are not known");
            }
        }
    }
    options.local.truncate(LOCAL_ADDRESSES_MAX);
    options
}

/// Asks for the address of this relay.
pub(super) struct AddressFinder {
    /// Whom to ask.
    pub(super) network: Arc<NetworkFile>,
    /// TLS of outgoing links.
    pub(super) connector: Arc<ClientConfig>,
    /// Source address of outgoing links.
    pub(super) bind: Option<IpAddr>,
    /// The link protocols that are offered.
    pub(super) versions: &'static [u16],
    /// Whether an address will do that other machines cannot reach.
    pub(super) testing: bool,
    /// Randomness of TLS.
    pub(super) rng: Rng,
}

impl AddressFinder {
    /// The address, asked for until it is known.
    pub(super) async fn find(&mut self) -> Ipv4Addr {
        let (mut wait, longest) = RETRY;
        loop {
            let advice = "it asks again; `address` in its configuration would tell it";
            match self.ask().await {
                Some(ip) if self.testing || is_public(ip.into()) => return ip,
                Some(ip) => tracing::warn!(
                    "the authorities see this relay at {ip}, where nobody else reaches it: {advice}"
                ),
                None => tracing::warn!(
                    "no authority answers that could tell this relay its address: {advice}"
                ),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(longest);
        }
    }

    /// The same after a while: the address may have become another one.
    pub(super) async fn find_again(&mut self) -> Ipv4Addr {
        let wait = if self.testing { AGAIN_IN_TESTS } else { AGAIN };
        tokio::time::sleep(wait).await;
        self.find().await
    }

    /// What most authorities that answer see.
    async fn ask(&mut self) -> Option<Ipv4Addr> {
        let mut asked = JoinSet::new();
        for authority in &self.network.authorities {
            let (authority, connector) = (authority.clone(), Arc::clone(&self.connector));
            let (bind, versions, rng) = (self.bind, self.versions, self.rng.fork());
            asked.spawn(async move {
                let ours = Ours {
                    tls: &connector,
                    bind,
                    proxy: None,
                    identity: None,
                    versions,
                    connect_max: link::CONNECT_TIMEOUT,
                };
                seen_by(&authority, ours, rng).await
            });
        }
        let mut votes: BTreeMap<Ipv4Addr, usize> = BTreeMap::new();
        while let Some(seen) = asked.join_next().await {
            let Ok(Some(IpAddr::V4(ip))) = seen else {
                continue;
            };
            let count = votes.entry(ip).or_default();
            *count += 1;
            if *count > self.network.authorities.len() / 2 {
                return Some(ip);
            }
        }
        let most = votes.into_iter().max_by_key(|(_, count)| *count);
        most.map(|(ip, _)| ip)
    }
}

/// The address that an authority sees, if it answers.
async fn seen_by(authority: &DirAuthority, ours: Ours<'_>, mut rng: Rng) -> Option<IpAddr> {
    let expect = PeerExpectation {
        rsa: Some(authority.rsa_id),
        ed: authority.ed25519_id,
    };
    match link::open(&[authority.or_addr.into()], expect, ours, &mut rng).await {
        Ok(link) => Some(link.established.my_addr_seen),
        Err(error) => {
            let nickname = &authority.nickname;
            tracing::info!("the authority {nickname} cannot be asked for our address: {error}");
            None
        }
    }
}
