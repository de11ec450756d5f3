//! A relay as paths see it: its consensus entry and its microdescriptor in one
//! (path-spec 2.2, dir-spec 3.3 and 3.9).

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;

use cepa_crypto::{Ed25519Id, RsaId, curve25519};
use cepa_netdoc::microdesc::Microdesc;
use cepa_netdoc::policy::PortPolicy;
use cepa_netdoc::protover::Protocols;
use cepa_netdoc::routerstatus::{Flags, RouterStatus};

/// A relay that a path can be built through.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Its nickname.
    pub nickname: String,
    /// Its RSA identity.
    pub rsa_id: RsaId,
    /// Its Ed25519 identity, unless it has none that the authorities agree upon.
    pub ed25519_id: Option<Ed25519Id>,
    /// Its key for ntor handshakes.
    pub ntor_key: curve25519::PublicKey,
    /// Its ORPort.
    pub or_addr: SocketAddrV4,
    /// Its ORPort over IPv6.
    pub or_addr_v6: Option<SocketAddr>,
    /// Its flags.
    pub flags: Flags,
    /// Its agreed bandwidth, without unit.
    pub bandwidth: u32,
    /// The subprotocols that the relay speaks.
    pub protocols: Arc<Protocols>,
    /// Ports, policies and family, from here.
    pub microdesc: Arc<Microdesc>,
}

impl Relay {
    pub(super) fn new(
        status: &RouterStatus,
        microdesc: &Arc<Microdesc>,
        protocols: Arc<Protocols>,
    ) -> Self {
        let is_agreed = !status.flags.contains(Flags::NO_ED_CONSENSUS);
        Self {
            nickname: status.nickname.clone(),
            rsa_id: status.rsa_id,
            ed25519_id: microdesc.ed25519.filter(|_| is_agreed),
            ntor_key: microdesc.ntor_onion_key,
            or_addr: SocketAddrV4::new(status.ip, status.or_port),
            or_addr_v6: status.or_addr_v6(),
            flags: status.flags,
            bandwidth: status.bandwidth.map_or(0, |w| w.bandwidth),
            protocols,
            microdesc: Arc::clone(microdesc),
        }
    }

    /// The ports that it connects to over IPv4.
    pub fn policy(&self) -> &PortPolicy {
        &self.microdesc.policy
    }

    /// The ports that it connects to over IPv6.
    pub fn policy_v6(&self) -> &PortPolicy {
        &self.microdesc.ipv6_policy
    }

    /// Whether the two may not be in one path: the same relay, each listing the other as family,
    /// or certified for one family (path-spec 2.2).
    pub fn is_family_of(&self, other: &Self) -> bool {
        let lists = |a: &Self, b: &Self| a.microdesc.family.contains(&b.rsa_id, &b.nickname);
        self.rsa_id == other.rsa_id
            || (lists(self, other) && lists(other, self))
            || self.microdesc.shares_family_id(&other.microdesc)
    }

    /// Whether the two have IPv4 addresses in one /16, or IPv6 addresses in one /32: too near for
    /// one path (path-spec 2.2). Testing networks do not ask.
    pub fn is_near(&self, other: &Self) -> bool {
        let [a, b, ..] = self.or_addr.ip().octets();
        let [c, d, ..] = other.or_addr.ip().octets();
        let v6 = |relay: &Self| match relay.or_addr_v6 {
            Some(SocketAddr::V6(address)) => {
                let [e, f, ..] = address.ip().segments();
                Some((e, f))
            }
            _ => None,
        };
        (a, b) == (c, d) || v6(self).is_some_and(|own| v6(other) == Some(own))
    }
}
