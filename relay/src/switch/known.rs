//! What the network has told of its relays: who they are and where they listen.
//!
//! Made anew with each consensus, of the authorities alone before the first one; shared by all
//! workers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use cepa_crypto::{Ed25519Id, RsaId};
use cepa_dir::NetworkFile;
use cepa_dir::netview::NetworkView;
use cepa_link::Established;
use smallvec::SmallVec;

/// The relays of the current consensus.
#[derive(Debug, Clone, Default)]
pub struct KnownRelays {
    /// Their identities; the second may be unknown so far.
    pub ids: BTreeMap<RsaId, Option<Ed25519Id>>,
    /// Their ORPorts.
    pub addrs: BTreeMap<RsaId, SmallVec<[SocketAddr; 1]>>,
    /// The ORPorts of relays, and the ORPorts and DirPorts of authorities: where no stream leaves
    /// to, lest circuits become endless (`tor`: re-entry). Empty where the consensus allows it.
    pub reentry: BTreeSet<SocketAddr>,
    /// Consensus parameter `refuseunknownexits` (default 1): whether streams are refused that come
    /// straight from a relay which is not among `ids`.
    pub refuse_unknown_exits: bool,
}

impl KnownRelays {
    /// What is known before the first consensus.
    #[must_use]
    pub fn of_network(network: &NetworkFile) -> Self {
        KnownRelays {
            reentry: ports_of_authorities(network).collect(),
            ..KnownRelays::default()
        }
    }

    /// What a consensus and its microdescriptors tell.
    #[must_use]
    pub fn new(view: &NetworkView, network: &NetworkFile) -> Self {
        let routers = &view.consensus().routers;
        let parameter = |name, default| view.params().value(name, default, 0, 1) == 1;
        let mut known = KnownRelays {
            refuse_unknown_exits: parameter("refuseunknownexits", 1),
            ..KnownRelays::default()
        };
        for router in routers {
            let v4 = SocketAddr::new(router.ip.into(), router.or_port);
            known.reentry.insert(v4);
            known.add(router.rsa_id, None, v4);
        }
        for relay in view.relays() {
            known.add(relay.rsa_id, relay.ed25519_id, relay.or_addr.into());
            if let Some(v6) = relay.or_addr_v6 {
                known.reentry.insert(v6);
                known.add(relay.rsa_id, relay.ed25519_id, v6);
            }
        }
        known.reentry.extend(ports_of_authorities(network));
        if parameter("allow-network-reentry", 0) {
            known.reentry.clear();
        }
        known
    }

    fn add(&mut self, rsa: RsaId, ed: Option<Ed25519Id>, address: SocketAddr) {
        *self.ids.entry(rsa).or_default() = ed;
        let addrs = self.addrs.entry(rsa).or_default();
        if !addrs.contains(&address) {
            addrs.push(address);
        }
    }

    /// The Ed25519 identity of a relay, if the consensus has one.
    #[must_use]
    pub fn ed(&self, rsa: &RsaId) -> Option<Ed25519Id> {
        self.ids.get(rsa).copied().flatten()
    }

    /// Whether a stream that leaves to this address would come back into the network.
    #[must_use]
    pub fn is_reentry(&self, address: IpAddr, port: u16) -> bool {
        let address = SocketAddr::new(address.to_canonical(), port);
        self.reentry.contains(&address)
    }

    /// Whether a link goes to the address of the relay at its other end: one that the consensus
    /// has for it, or that it told itself in NETINFO (tor-spec 5.3.1). No other is shared.
    #[must_use]
    pub fn is_canonical(&self, link: &Established) -> bool {
        let Some(peer) = link.peer else { return false };
        let same_ed = self.ed(&peer.rsa).is_none_or(|ed| ed == peer.ed);
        let address = link.peer_addr.ip().to_canonical();
        let mut listed = self.addrs.get(&peer.rsa).into_iter().flatten();
        link.canonical || (same_ed && listed.any(|addr| addr.ip() == address))
    }

    /// Whether the consensus lists this relay at these addresses.
    #[must_use]
    pub fn lists(&self, rsa: &RsaId, ed: Option<Ed25519Id>, addrs: &[SocketAddr]) -> bool {
        let Some(listed) = self.addrs.get(rsa) else {
            return false;
        };
        self.ed(rsa) == ed && addrs.iter().all(|addr| listed.contains(addr))
    }
}

fn ports_of_authorities(network: &NetworkFile) -> impl Iterator<Item = SocketAddr> {
    network.authorities.iter().flat_map(|authority| {
        let v4 = [authority.or_addr.into(), authority.dir_addr.into()];
        v4.into_iter().chain(authority.or_addr_v6)
    })
}
