//! A client of bridges, over relays in memory: whatever it does, it connects to bridges alone, as
//! the world itself sees to.

use std::net::SocketAddr;

use cepa_circuit::onionskin::OnionKeys;
use cepa_crypto::curve25519;
use cepa_crypto::ed25519::Keypair;
use cepa_crypto::rsa;
use cepa_link::PeerIdentity;
use cepa_netdoc::descriptor::{Bandwidth, DescriptorFields, DescriptorKeys};
use cepa_netdoc::family::Family;
use cepa_netdoc::policy::AddrPolicy;
use cepa_wire::cert::{Cert, CertKeyType, CertType};

use super::*;
use crate::drawn::start;
use crate::select::guards::{Reachable, Selection};

/// A bridge: who it is, where, and what it says of itself.
pub(super) struct DrawnBridge {
    pub(super) addr: SocketAddr,
    pub(super) peer: PeerIdentity,
    pub(super) ntor: curve25519::SecretKey,
    pub(super) text: String,
}

impl DrawnBridge {
    fn new(n: u8, now: Now) -> Self {
        let mut rng = Rng::from_seed([n; 32]);
        let (identity, master) = (
            rsa::Keypair::generate(1024, &mut rng).unwrap(),
            Keypair::generate(&mut rng),
        );
        let signing = Keypair::generate(&mut rng).expand();
        let ntor = curve25519::SecretKey::generate(&mut rng);
        let until = now.wall + Duration::from_secs(30 * 86_400);
        let signing_cert = Cert::make(
            CertType::ID_SIGNING,
            until,
            CertKeyType::ED25519,
            signing.public().as_bytes(),
            &master,
            true,
        );
        let keys = DescriptorKeys {
            identity: &identity,
            tap_onion: None,
            ntor_onion: &ntor,
            signing: &signing,
            signing_cert: &signing_cert,
        };
        let addr: SocketAddr = ([127, 100 + n, 0, 1], 5000).into();
        let SocketAddr::V4(or_address) = addr else {
            unreachable!("it is IPv4");
        };
        let fields = DescriptorFields {
            nickname: format!("bridge{n}"),
            or_address,
            dir_port: 0,
            or_address_v6: None,
            platform: "Cepa".to_owned(),
            protocols: "DirCache=2 Link=4-5 LinkAuth=3 Relay=2-4".parse().unwrap(),
            published: now.wall,
            uptime_seconds: 1,
            bandwidth: Bandwidth {
                average: 1,
                burst: 1,
                observed: 1,
            },
            extra_info_digest: None,
            caches_extra_info: false,
            family: Family::default(),
            family_certs: Vec::new(),
            is_hibernating: false,
            is_hidden_service_dir: false,
            contact: None,
            bridge_distribution_request: Some("any".to_owned()),
            policy: AddrPolicy::parse_config(["reject *:*"]).unwrap(),
            is_dir_server: true,
            overload_general: None,
        };
        DrawnBridge {
            addr,
            peer: PeerIdentity {
                rsa: identity.public().id(),
                ed: master.public().id(),
            },
            text: fields.build(&keys).unwrap(),
            ntor,
        }
    }

    /// The keys by which it answers handshakes.
    pub(super) fn keys(&self) -> (RsaId, OnionKeys) {
        let (rsa, ed) = (self.peer.rsa, self.peer.ed);
        let ntor = vec![self.ntor.clone()];
        (rsa, OnionKeys { rsa, ed, ntor })
    }

    /// The bridge as the world has it, by its address.
    pub(super) fn told(self) -> (SocketAddr, (PeerIdentity, String)) {
        (self.addr, (self.peer, self.text))
    }

    fn line(&self) -> String {
        format!("{} {}", self.addr, self.peer.rsa)
    }
}

/// A client with these lines, where so many bridges are.
fn bridged(bridges: u8, lines: impl Fn(&[DrawnBridge]) -> Vec<String>) -> (World, Vec<RsaId>) {
    let now = start();
    let bridges: Vec<DrawnBridge> = (1..=bridges).map(|n| DrawnBridge::new(n, now)).collect();
    let ids = bridges.iter().map(|one| one.peer.rsa).collect();
    let lines = lines(&bridges).into_iter();
    let config = ClientConfig {
        bridges: lines.map(|line| line.parse().unwrap()).collect(),
        ..ClientConfig::default()
    };
    let mut world = World::bridged(bridges, config, now);
    world.run();
    (world, ids)
}

fn all(bridges: &[DrawnBridge]) -> Vec<String> {
    bridges.iter().map(DrawnBridge::line).collect()
}

fn serves(world: &mut World, user: &str) -> RsaId {
    let request = world.connect("example.com", 80, user, b"");
    // Bridges that failed before come first again when their time has come.
    for _ in 0..20 {
        if !world.answers.contains_key(&request) {
            world.wait(Duration::from_secs(5));
        }
    }
    world.connected(request);
    world.net.path_of_last_begin()[0]
}

#[test]
fn all_goes_over_a_bridge() {
    let (mut world, ids) = bridged(2, all);
    assert_eq!(world.client.bootstrap().percent, 100);
    assert!(ids.contains(&serves(&mut world, "a")));
    let guards = &world.client.circuits.choice.guards;
    assert_eq!(guards.selection(), Selection::Bridges);
    let firsts = world.net.paths().into_iter().map(|path| path[0]);
    assert!(firsts.into_iter().all(|first| ids.contains(&first)));
    let kept = world.saved_state().guards.unwrap();
    assert!(kept.contains("in=bridges") && kept.contains("bridge_addr=127.10"));
}

#[test]
fn a_bridge_without_a_fingerprint_is_who_it_proves_to_be() {
    let nameless = |bridges: &[DrawnBridge]| vec![bridges[0].addr.to_string()];
    let (mut world, ids) = bridged(1, nameless);
    assert_eq!(world.client.bootstrap().percent, 100);
    assert_eq!(serves(&mut world, "a"), ids[0]);
    let bridges = world.client.circuits.choice.bridges();
    assert!(bridges.nameless().next().is_none() && bridges.contains(&ids[0]));
}

#[test]
fn the_next_one_is_taken_when_one_fails() {
    let (mut world, ids) = bridged(5, all);
    let mut left = ids.clone();
    for round in 0..4 {
        let used = serves(&mut world, &round.to_string());
        left.retain(|id| *id != used);
        world.kill(used);
        world.wait(Duration::from_secs(120));
    }
    assert_eq!(left.len(), 1);
    assert_eq!(serves(&mut world, "last"), left[0]);
}

#[test]
fn one_that_comes_back_is_found_and_nothing_else_is_tried_meanwhile() {
    let (mut world, ids) = bridged(1, all);
    world.kill(ids[0]);
    world.wait(Duration::from_secs(1800));
    let guards = &world.client.circuits.choice.guards;
    assert_ne!(guards.reachable(&ids[0]), Some(Reachable::Yes));
    world.net.revive(ids[0]);
    world.wait(Duration::from_secs(1800));
    assert_eq!(serves(&mut world, "b"), ids[0]);
}

#[test]
fn descriptors_of_others_and_garbage_are_not_taken() {
    let now = start();
    let mut bridges: Vec<DrawnBridge> = (1..=3).map(|n| DrawnBridge::new(n, now)).collect();
    let ids: Vec<RsaId> = bridges.iter().map(|one| one.peer.rsa).collect();
    bridges[0].text = bridges[1].text.clone();
    bridges[1].text = "no descriptor".to_owned();
    let lines = all(&bridges).into_iter();
    let config = ClientConfig {
        bridges: lines.map(|line| line.parse().unwrap()).collect(),
        ..ClientConfig::default()
    };
    let mut world = World::bridged(bridges, config, now);
    world.wait(Duration::from_secs(60));
    assert_eq!(serves(&mut world, "a"), ids[2]);
}

#[test]
fn bridges_can_be_changed_while_it_runs() {
    let (mut world, ids) = bridged(2, |bridges| vec![bridges[0].line()]);
    assert_eq!(serves(&mut world, "a"), ids[0]);
    let second = DrawnBridge::new(2, world.now).line();
    let now = world.now;
    world.client.set_bridges(&[second.parse().unwrap()], now);
    world.wait(Duration::from_secs(5));
    assert!(world.net.channels_to(ids[0]).is_empty());
    assert_eq!(serves(&mut world, "b"), ids[1]);
}
