//! Relays that only publish: a descriptor each 18 hours, up or down by a chain of hours.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cepa_crypto::{Rng, RsaId};
use cepa_netdoc::descriptor::{Bandwidth, DescriptorFields, DescriptorKeys};
use cepa_netdoc::family::Family;
use cepa_netdoc::policy::AddrPolicy;
use cepa_wire::cert::{Cert, CertKeyType, CertType};

use crate::sim::net::keys::RelayKeys;

/// How often a relay publishes (dir-spec 2.1).
pub(super) const PUBLISH_EVERY: Duration = Duration::from_secs(18 * 3600);
/// How long its signing key's certificate holds.
const CERT_LIFE: Duration = Duration::from_secs(30 * 86_400);

/// One relay.
pub(super) struct Relay {
    keys: Arc<RelayKeys>,
    address: SocketAddrV4,
    kilobytes: u32,
    started: SystemTime,
    pub(super) is_up: bool,
    /// Its last descriptor.
    pub(super) body: Arc<str>,
}

impl Relay {
    pub(super) fn new(number: usize, keys: Arc<RelayKeys>, at: SystemTime, rng: &mut Rng) -> Self {
        // A /16 of its own for each.
        let ip = 0x0B01_0001_u32.wrapping_add((number as u32) << 16);
        Relay {
            keys,
            address: SocketAddrV4::new(Ipv4Addr::from(ip), 9001),
            kilobytes: 100 + u32::try_from(rng.below(9_000)).unwrap_or(0),
            started: at - Duration::from_secs(rng.below(30 * 86_400)),
            is_up: true,
            body: "".into(),
        }
    }

    pub(super) fn id(&self) -> RsaId {
        self.keys.identity.public().id()
    }

    /// A new descriptor.
    pub(super) fn publish(&mut self, published: SystemTime) {
        let keys = &self.keys;
        let signing_cert = Cert::make(
            CertType::ID_SIGNING,
            published + CERT_LIFE,
            CertKeyType::ED25519,
            keys.signing.public().as_bytes(),
            &keys.master,
            true,
        );
        let policy = AddrPolicy::parse_config(["reject *:*"]).expect("a policy of ours");
        let since = published.duration_since(self.started);
        let rate = self.kilobytes * 1000;
        let fields = DescriptorFields {
            nickname: "simulated".to_owned(),
            or_address: self.address,
            dir_port: 0,
            or_address_v6: None,
            platform: "Cepa 0.1.0".to_owned(),
            protocols: "Cons=2 Desc=2 DirCache=2 HSDir=2 Link=4-5 LinkAuth=3 Relay=2-4"
                .parse()
                .expect("protocols of ours"),
            published,
            uptime_seconds: since.unwrap_or_default().as_secs(),
            bandwidth: Bandwidth {
                average: rate,
                burst: rate,
                observed: rate,
            },
            extra_info_digest: None,
            caches_extra_info: false,
            family: Family::default(),
            family_certs: Vec::new(),
            is_hibernating: false,
            is_hidden_service_dir: true,
            contact: None,
            bridge_distribution_request: None,
            policy,
            is_dir_server: true,
            overload_general: None,
        };
        let text = fields.build(&DescriptorKeys {
            identity: &keys.identity,
            tap_onion: None,
            ntor_onion: &keys.ntor,
            signing: &keys.signing,
            signing_cert: &signing_cert,
        });
        self.body = text.expect("a descriptor of ours is written").into();
    }
}
