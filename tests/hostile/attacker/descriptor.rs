//! Server descriptors with any line changed, and all signatures good for all that.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, SystemTime};

use cepa_crypto::digest::{sha1, sha256};
use cepa_crypto::encoding::base64_unpadded;
use cepa_crypto::{Ed25519Id, Rng, curve25519, ed25519, rsa};
use cepa_netdoc::descriptor::{Bandwidth, DescriptorFields, DescriptorKeys};
use cepa_netdoc::family::Family;
use cepa_netdoc::pem;
use cepa_netdoc::policy::AddrPolicy;
use cepa_netdoc::protover::Protocols;
use cepa_wire::cert::{Cert, CertKeyType, CertType};

/// What the Ed25519 signature is made of (dir-spec 2.1.1).
const PREFIX: &[u8] = b"Tor router descriptor signature v1";
/// What an honest relay says.
const PROTOCOLS: &str = "Cons=2 Desc=2 DirCache=2 FlowCtrl=1-2 HSDir=2 HSIntro=4-5 HSRend=2 \
    Link=4-5 LinkAuth=3 Microdesc=2 Relay=2-4";

/// The keys of a relay that there is not, or that lies.
pub(crate) struct Forger {
    pub(crate) identity: rsa::Keypair,
    pub(crate) ed: Ed25519Id,
    pub(crate) ntor: curve25519::SecretKey,
    pub(crate) signing: ed25519::ExpandedKeypair,
    pub(crate) signing_cert: Vec<u8>,
}

impl Forger {
    pub(crate) fn new(seed: u8) -> Self {
        let mut rng = Rng::from_seed([seed; 32]);
        let (master, signing) = (
            ed25519::Keypair::generate(&mut rng),
            ed25519::Keypair::generate(&mut rng).expand(),
        );
        let expires = now() + Duration::from_secs(20 * 86_400);
        let (kind, key) = (CertType::ID_SIGNING, signing.public());
        let key_type = CertKeyType::ED25519;
        Self {
            identity: rsa::Keypair::generate(1024, &mut rng).unwrap(),
            ed: master.public().id(),
            ntor: curve25519::SecretKey::generate(&mut rng),
            signing_cert: Cert::make(kind, expires, key_type, key.as_bytes(), &master, true),
            signing,
        }
    }

    /// A descriptor whose signed text went through `change`.
    pub(crate) fn descriptor(
        &self,
        nickname: &str,
        ip: Ipv4Addr,
        change: impl FnOnce(String) -> String,
    ) -> String {
        let or = SocketAddrV4::new(ip, 9999);
        self.descriptor_at(nickname, or, AddrPolicy::reject_all(), change)
    }

    /// The same of a relay with an address and a policy.
    pub(crate) fn descriptor_at(
        &self,
        nickname: &str,
        or_address: SocketAddrV4,
        policy: AddrPolicy,
        change: impl FnOnce(String) -> String,
    ) -> String {
        let fields = DescriptorFields {
            nickname: nickname.to_owned(),
            or_address,
            dir_port: 0,
            or_address_v6: None,
            platform: "Tor 0.4.9.11 on Linux".to_owned(),
            protocols: Protocols::parse(PROTOCOLS).unwrap(),
            published: now(),
            uptime_seconds: 1,
            bandwidth: Bandwidth {
                average: 1_000_000,
                burst: 1_000_000,
                observed: 1_000_000,
            },
            extra_info_digest: None,
            caches_extra_info: false,
            family: Family::default(),
            family_certs: Vec::new(),
            is_hibernating: false,
            is_hidden_service_dir: false,
            contact: None,
            bridge_distribution_request: None,
            policy,
            is_dir_server: true,
            overload_general: None,
        };
        let keys = DescriptorKeys {
            identity: &self.identity,
            // Authorities want one, of whichever key.
            tap_onion: Some(&self.identity),
            ntor_onion: &self.ntor,
            signing: &self.signing,
            signing_cert: &self.signing_cert,
        };
        let text = fields.build(&keys).unwrap();
        let (body, _) = text.split_once("router-sig-ed25519 ").unwrap();
        self.sign(change(body.to_owned()))
    }

    fn sign(&self, mut text: String) -> String {
        text.push_str("router-sig-ed25519 ");
        let digest = sha256(&[PREFIX, text.as_bytes()].concat());
        text.push_str(&base64_unpadded(&self.signing.sign(&digest)));
        text.push_str("\nrouter-signature\n");
        let signature = self.identity.sign_digest(&sha1(text.as_bytes()));
        text.push_str(&pem::encode(pem::SIGNATURE, &signature));
        text
    }
}

/// The line with this keyword replaced by another.
pub(crate) fn with_line(text: &str, keyword: &str, line: &str) -> String {
    let replace = |old: &str| match old.split(' ').next() == Some(keyword) {
        true => format!("{line}\n"),
        false => format!("{old}\n"),
    };
    text.lines().map(replace).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test of processes has the system's clock"
)]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}
