//! Networks for tests: drawn relays as signed documents and as a view.

use std::net::Ipv4Addr;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use cepa_crypto::{Ed25519Id, Rng, RsaId, curve25519, digest, encoding, rsa};
use cepa_dir::{DirAuthority, Flavour, NetworkFile, NetworkView};
use cepa_netdoc::authcert::AuthCert;
use cepa_netdoc::consensus::{Consensus, ConsensusText, Lifetime, RequiredProtocols, VotingDelay};
use cepa_netdoc::microdesc::Microdesc;
use cepa_netdoc::params::Params;
use cepa_netdoc::routerstatus::{Bandwidth, Flags, RouterStatus};
use cepa_wire::Now;

/// The start of a test's clock.
#[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
pub(crate) fn start() -> Now {
    Now {
        mono: Instant::now(),
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    }
}

/// What a relay can do unless a test says otherwise.
const PROTOCOLS: &str = "HSDir=2 HSIntro=4-5 HSRend=1-2 Link=4-5 LinkAuth=3 Padding=2 Relay=2-4";

/// A relay of a test's network.
#[derive(Debug, Clone)]
pub(crate) struct DrawnRelay {
    pub(crate) rsa: RsaId,
    pub(crate) ed: Ed25519Id,
    pub(crate) nickname: String,
    pub(crate) ip: Ipv4Addr,
    pub(crate) flags: Flags,
    pub(crate) bandwidth: u32,
    /// The lines `p` and `p6`, where they are not `reject 1-65535`.
    pub(crate) policy: Option<&'static str>,
    /// What stands on the line `family`.
    pub(crate) family: Vec<String>,
    /// The subprotocols that the consensus tells.
    pub(crate) protocols: &'static str,
    pub(crate) family_ids: Vec<String>,
    pub(crate) ntor: [u8; 32],
}

impl DrawnRelay {
    /// A relay with all flags but Exit, in a /16 of its own.
    pub(crate) fn new(n: u8, rng: &mut Rng) -> Self {
        let ntor = curve25519::SecretKey::generate(rng);
        DrawnRelay {
            rsa: RsaId::from([n; 20]),
            ed: Ed25519Id::from([n; 32]),
            nickname: format!("relay{n}"),
            ip: Ipv4Addr::new(127, n, 0, 1),
            flags: Flags::RUNNING
                | Flags::VALID
                | Flags::FAST
                | Flags::STABLE
                | Flags::GUARD
                | Flags::V2_DIR,
            bandwidth: 100,
            policy: None,
            family: Vec::new(),
            family_ids: Vec::new(),
            protocols: PROTOCOLS,
            ntor: *ntor.public().as_bytes(),
        }
    }

    fn microdesc(&self) -> String {
        let ntor = encoding::base64_unpadded(&self.ntor);
        let mut text = format!("onion-key\nntor-onion-key {ntor}\n");
        if !self.family.is_empty() {
            text += &format!("family {}\n", self.family.join(" "));
        }
        if !self.family_ids.is_empty() {
            text += &format!("family-ids {}\n", self.family_ids.join(" "));
        }
        if let Some(policy) = self.policy {
            text += &format!("p {policy}\n");
        }
        text + &format!("id ed25519 {}\n", self.ed)
    }

    fn status(&self, microdesc: &str) -> RouterStatus {
        RouterStatus {
            nickname: self.nickname.clone(),
            rsa_id: self.rsa,
            descriptor_digest: [0; 20],
            published: SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_800),
            ip: self.ip,
            or_port: 5000,
            dir_port: 0,
            a: None,
            flags: self.flags,
            flags_unknown: Vec::new(),
            version: None,
            protocols: self.protocols.to_owned(),
            bandwidth: Some(Bandwidth {
                bandwidth: self.bandwidth,
                ..Bandwidth::default()
            }),
            policy: None,
            microdesc_digest: Some(digest::sha256(microdesc.as_bytes())),
        }
    }
}

/// Identity and signing key of the one authority; small, as only time is at stake.
static KEYS: LazyLock<[rsa::Keypair; 2]> = LazyLock::new(|| {
    let mut rng = Rng::from_seed([77; 32]);
    [(); 2].map(|()| rsa::Keypair::generate(1024, &mut rng).unwrap())
});

/// A network's documents.
#[derive(Debug, Clone)]
pub(crate) struct Documents {
    pub(crate) consensus: String,
    pub(crate) microdescs: Vec<String>,
}

impl Documents {
    /// Of these relays, valid from `now` for a minute.
    pub(crate) fn new(relays: &[DrawnRelay], weights: &str, now: Now) -> Self {
        Self::with_params(relays, weights, "", now)
    }

    /// The same, with parameters of the network.
    pub(crate) fn with_params(
        relays: &[DrawnRelay],
        weights: &str,
        params: &str,
        now: Now,
    ) -> Self {
        let mut relays = relays.to_vec();
        relays.sort_by_key(|relay| relay.rsa);
        let microdescs: Vec<String> = relays.iter().map(DrawnRelay::microdesc).collect();
        let routers = relays.iter().zip(&microdescs);
        let second = Duration::from_secs(1);
        let mut consensus = Consensus {
            flavour: Flavour::Microdesc,
            method: 33,
            lifetime: Lifetime {
                valid_after: now.wall,
                fresh_until: now.wall + 20 * second,
                valid_until: now.wall + 60 * second,
            },
            voting_delay: VotingDelay {
                vote_seconds: 4,
                dist_seconds: 4,
            },
            client_versions: None,
            server_versions: None,
            known_flags: [
                "Authority",
                "BadExit",
                "Exit",
                "Fast",
                "Guard",
                "HSDir",
                "MiddleOnly",
                "Running",
                "Stable",
                "V2Dir",
                "Valid",
            ]
            .map(str::to_owned)
            .to_vec(),
            protocols: RequiredProtocols::default(),
            params: Params::parse(params).unwrap(),
            shared_rand_previous: None,
            shared_rand_current: None,
            authorities: Vec::new(),
            routers: routers.map(|(relay, text)| relay.status(text)).collect(),
            bandwidth_weights: Params::parse(weights).unwrap(),
            signatures: Vec::new(),
        };
        let [identity, signing] = &*KEYS;
        let signature = consensus.sign(identity.public().id(), signing);
        consensus.signatures.push(signature);
        Documents {
            consensus: consensus.encode(),
            microdescs,
        }
    }

    /// The view that a client makes of them.
    pub(crate) fn view(&self) -> NetworkView {
        let mut view = NetworkView::new(ConsensusText::parse(self.consensus.as_str()).unwrap());
        let microdescs = self
            .microdescs
            .iter()
            .map(|text| Microdesc::parse(text).unwrap());
        view.add_microdescs(microdescs);
        view
    }
}

/// The certificate of the one authority.
pub(crate) fn certificate(now: Now) -> String {
    let [identity, signing] = &*KEYS;
    let day = Duration::from_secs(86_400);
    AuthCert::build(identity, signing, None, now.wall - day, now.wall + day)
}

/// The network of one authority, which is this relay.
pub(crate) fn network(authority: &DrawnRelay) -> NetworkFile {
    let [identity, _] = &*KEYS;
    let authority = DirAuthority {
        nickname: authority.nickname.clone(),
        v3_identity: identity.public().id(),
        rsa_id: authority.rsa,
        ed25519_id: Some(authority.ed),
        dir_addr: std::net::SocketAddrV4::new(authority.ip, 5001),
        or_addr: std::net::SocketAddrV4::new(authority.ip, 5000),
        or_addr_v6: None,
    };
    NetworkFile {
        authorities: vec![authority],
        is_testing: true,
    }
}
