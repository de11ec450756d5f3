//! A network whose relays come and go, a consensus an hour, with shared random values
//! (dir-spec 3.8, srv-spec 4), drawn from a seed.
//!
//! A relay is up or down by a chain of hours; a consensus lists those that are up when it is made.
//! The shared random value changes at midnight UTC, and the one before stays for a day.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use cepa_crypto::{Ed25519Id, Rng, RsaId, curve25519, digest, ed25519, encoding, rsa};
use cepa_dir::{Flavour, NetworkView};
use cepa_netdoc::consensus::{
    Consensus, ConsensusText, Lifetime, RequiredProtocols, SharedRandValue, VotingDelay,
};
use cepa_netdoc::microdesc::Microdesc;
use cepa_netdoc::params::Params;
use cepa_netdoc::routerstatus::{Bandwidth, Flags, RouterStatus};

/// Hours from a consensus to the next, and for how long it is valid.
const HOUR: Duration = Duration::from_secs(3600);
const VALID_HOURS: u32 = 3;
const DAY_HOURS: u64 = 24;
/// Bits of the authority's key.
const SIGNING_BITS: usize = 1024;

/// A relay that is up in some hours.
#[derive(Debug, Clone)]
pub struct Relay {
    /// Its RSA identity.
    pub rsa: RsaId,
    ed: Ed25519Id,
    ntor: [u8; 32],
    ip: Ipv4Addr,
    bandwidth: u32,
    /// Whether it is up now.
    pub is_up: bool,
}

/// How often relays go, and how soon they are back: one in so many an hour.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// How many hours a relay that is up stays so on average: one in so many goes each hour.
    pub goes_one_in: u64,
    /// How many hours a relay that is down stays so on average: one in so many returns each hour.
    pub returns_one_in: u64,
}

/// A network that changes.
#[derive(Debug)]
pub struct Churn {
    relays: Vec<Relay>,
    rates: Rates,
    srv_seed: [u8; 32],
    /// Of the one authority, which a text must have; nobody checks it here.
    signing: rsa::Keypair,
    rng: Rng,
}

impl Churn {
    /// A network of so many relays, all up.
    ///
    /// # Panics
    /// If a key of a fixed size cannot be made: a fault of ours.
    #[must_use]
    pub fn new(relays: usize, rates: Rates, mut rng: Rng) -> Self {
        let relay = |number: usize, rng: &mut Rng| Relay {
            rsa: RsaId::from(rng.array()),
            ed: ed25519::Keypair::generate(rng).public().id(),
            ntor: *curve25519::SecretKey::generate(rng).public().as_bytes(),
            // A /16 of its own for each of the first 50,000.
            ip: Ipv4Addr::from(0x0101_0001_u32.wrapping_add((number as u32) << 16)),
            bandwidth: 100 + u32::try_from(rng.below(10_000)).unwrap_or(0),
            is_up: true,
        };
        let mut relays: Vec<Relay> = (0..relays).map(|n| relay(n, &mut rng)).collect();
        relays.sort_by_key(|relay| relay.rsa);
        Churn {
            relays,
            rates,
            srv_seed: rng.array(),
            signing: rsa::Keypair::generate(SIGNING_BITS, &mut rng).expect("the size is fine"),
            rng,
        }
    }

    /// All relays, up or not, ascending by identity.
    #[must_use]
    pub fn relays(&self) -> &[Relay] {
        &self.relays
    }

    /// An hour passes; gives those that went down.
    pub fn pass_hour(&mut self) -> Vec<RsaId> {
        let mut gone = Vec::new();
        for relay in &mut self.relays {
            let one_in = match relay.is_up {
                true => self.rates.goes_one_in,
                false => self.rates.returns_one_in,
            };
            if self.rng.below(one_in) == 0 {
                relay.is_up = !relay.is_up;
                if !relay.is_up {
                    gone.push(relay.rsa);
                }
            }
        }
        gone
    }

    /// The view that the consensus of now gives.
    ///
    /// # Panics
    /// If what was written cannot be read: a fault of ours.
    #[must_use]
    pub fn view(&self, valid_after: SystemTime) -> NetworkView {
        let up = self.relays.iter().filter(|relay| relay.is_up);
        let (routers, microdescs): (Vec<_>, Vec<_>) = up.map(Relay::documents).unzip();
        let mut consensus = Consensus {
            flavour: Flavour::Microdesc,
            method: 33,
            lifetime: Lifetime {
                valid_after,
                fresh_until: valid_after + HOUR,
                valid_until: valid_after + VALID_HOURS * HOUR,
            },
            voting_delay: VotingDelay {
                vote_seconds: 300,
                dist_seconds: 300,
            },
            client_versions: None,
            server_versions: None,
            known_flags: ["Fast", "HSDir", "Running", "Stable", "V2Dir", "Valid"]
                .map(str::to_owned)
                .to_vec(),
            protocols: RequiredProtocols::default(),
            params: Params::new(),
            shared_rand_previous: Some(self.srv(valid_after, 1)),
            shared_rand_current: Some(self.srv(valid_after, 0)),
            authorities: Vec::new(),
            routers,
            bandwidth_weights: Params::new(),
            signatures: Vec::new(),
        };
        let signature = consensus.sign(self.signing.public().id(), &self.signing);
        consensus.signatures.push(signature);
        let text = ConsensusText::parse(consensus.encode()).expect("our consensus is read");
        let mut view = NetworkView::new(text);
        view.add_microdescs(microdescs);
        view
    }

    /// The random value that came out `days_ago` before the day of a time.
    fn srv(&self, at: SystemTime, days_ago: u64) -> SharedRandValue {
        let since = at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let day = since.as_secs() / (DAY_HOURS * HOUR.as_secs()) - days_ago;
        let mut input = self.srv_seed.to_vec();
        input.extend_from_slice(&day.to_be_bytes());
        SharedRandValue {
            reveals: 8,
            value: digest::sha3_256(&input),
        }
    }
}

impl Relay {
    fn documents(&self) -> (RouterStatus, Microdesc) {
        let ntor = encoding::base64_unpadded(&self.ntor);
        let text = format!("onion-key\nntor-onion-key {ntor}\nid ed25519 {}\n", self.ed);
        let microdesc = Microdesc::parse(&text).expect("our microdescriptor is read");
        let status = RouterStatus {
            nickname: "simulated".to_owned(),
            rsa_id: self.rsa,
            descriptor_digest: [0; 20],
            published: SystemTime::UNIX_EPOCH + Duration::from_secs(2_145_916_800),
            ip: self.ip,
            or_port: 9001,
            dir_port: 0,
            a: None,
            flags: Flags::RUNNING
                | Flags::VALID
                | Flags::FAST
                | Flags::STABLE
                | Flags::V2_DIR
                | Flags::HS_DIR,
            flags_unknown: Vec::new(),
            version: None,
            protocols: "HSDir=2 HSIntro=4-5 HSRend=2 Link=4-5 Relay=2-4".to_owned(),
            bandwidth: Some(Bandwidth {
                bandwidth: self.bandwidth,
                ..Bandwidth::default()
            }),
            policy: None,
            microdesc_digest: Some(microdesc.digest),
        };
        (status, microdesc)
    }
}
