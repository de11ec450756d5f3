//! A client that hosts an onion service and visits it, over relays in memory.

use std::time::Duration;

use cepa_circuit::CircuitKey;
use cepa_crypto::RsaId;
use cepa_crypto::ed25519::{ExpandedKeypair, Keypair};
use cepa_crypto::onion::OnionAddress;
use cepa_wire::end::EndReason;
use cepa_wire::socks::{SocksCommand, SocksStatus};

use super::world::{World, socks};
use super::*;
use crate::circuits::pool::CIRCUITS_MAX;
use crate::circuits::upkeep::READY_PATHS;
use crate::names::{Owner, RequestId, ServiceId};
use crate::onion::circuits::{HS_CIRCUITS_MAX, Stage};
use crate::onion::services::ServiceConfig;

const PORT: u16 = 80;

fn identity(seed: u8) -> ExpandedKeypair {
    Keypair::from_seed(&[seed; 32]).expand()
}

/// A network with a service that has been published.
pub(super) struct Hosted {
    pub(super) world: World,
    service: ServiceId,
    pub(super) host: String,
}

fn hosted_with(change: impl FnOnce(&mut ServiceConfig)) -> Hosted {
    hosted_in(World::ready(), change)
}

pub(super) fn hosted_in(mut world: World, change: impl FnOnce(&mut ServiceConfig)) -> Hosted {
    world.client.shared.config.onion_errors = true;
    let mut config = ServiceConfig::new(identity(1), vec![PORT]);
    change(&mut config);
    let address = OnionAddress::new(&config.identity.public()).unwrap();
    let service = world.client.add_service(config, world.now);
    for _ in 0..10 {
        world.wait(Duration::from_secs(1));
    }
    assert_eq!(world.published, [service], "{:?}", world.client.onion.told);
    let host = address.to_string();
    Hosted {
        world,
        service,
        host,
    }
}

pub(super) fn hosted() -> Hosted {
    hosted_with(|_| {})
}

impl Hosted {
    fn ask(&mut self, port: u16, user: &str) -> RequestId {
        let host = self.host.clone();
        self.world.connect(&host, port, user, b"GET /")
    }

    /// A stream as the visitor and as the service has it.
    pub(super) fn visit(&mut self, user: &str) -> [StreamKey; 2] {
        let request = self.ask(PORT, user);
        let theirs = self.visitor();
        let now = self.world.now;
        assert!(self.world.client.onion_stream_connected(theirs, now));
        self.world.run();
        [self.world.connected(request), theirs]
    }

    /// The stream that a visitor asks the service for.
    fn visitor(&mut self) -> StreamKey {
        let [(stream, PORT)] = self.world.visitors[..] else {
            panic!(
                "{:?} {:#?}",
                self.world.visitors, self.world.client.onion.told
            );
        };
        self.world.visitors.clear();
        stream
    }

    fn take(&mut self, stream: StreamKey) -> Vec<u8> {
        let mut out = Vec::new();
        let client = &mut self.world.client;
        client.stream_take(stream, &mut out, usize::MAX);
        client.stream_written(stream, out.len(), self.world.now);
        self.world.run();
        out
    }

    pub(super) fn circuit(&self, stream: StreamKey) -> CircuitKey {
        self.world
            .client
            .shared
            .plane
            .stream_circuit(stream)
            .unwrap()
    }

    /// The relays of the circuit of a stream, without the peer.
    pub(super) fn path(&self, stream: StreamKey) -> Vec<RsaId> {
        let client = &self.world.client;
        let id = client.circuits.pool.by_key(self.circuit(stream)).unwrap();
        let path = client
            .circuits
            .pool
            .entry(id)
            .unwrap()
            .onion_path()
            .unwrap();
        path.iter().map(|relay| relay.rsa_id).collect()
    }

    /// Second hops.
    pub(super) fn layer2(&self) -> Vec<RsaId> {
        let (client, now) = (&self.world.client, self.world.now);
        client.circuits.choice.vanguards.layer2(now).unwrap()
    }

    /// Gets in again within so many seconds.
    pub(super) fn visit_within(&mut self, seconds: u32, user: &str) -> [StreamKey; 2] {
        let request = self.ask(PORT, user);
        for _ in 0..seconds {
            if !self.world.visitors.is_empty() {
                break;
            }
            self.world.wait(Duration::from_secs(1));
        }
        let theirs = self.visitor();
        let now = self.world.now;
        assert!(self.world.client.onion_stream_connected(theirs, now));
        self.world.run();
        [self.world.connected(request), theirs]
    }

    /// Gets in within so many seconds, asking again whenever it was refused.
    pub(super) fn visit_again_within(&mut self, seconds: u32) -> [StreamKey; 2] {
        let mut request = self.ask(PORT, "");
        for _ in 0..seconds {
            if !self.world.visitors.is_empty() {
                break;
            }
            self.world.wait(Duration::from_secs(1));
            if self.world.answers.remove(&request).is_some() {
                request = self.ask(PORT, "");
            }
        }
        let theirs = self.visitor();
        let now = self.world.now;
        assert!(self.world.client.onion_stream_connected(theirs, now));
        self.world.run();
        [self.world.connected(request), theirs]
    }
}

#[test]
fn a_service_is_hosted_and_visited() {
    let mut net = hosted();
    let [ours, theirs] = net.visit("");
    assert_eq!(net.take(theirs), b"GET /");
    let now = net.world.now;
    net.world.client.stream_send(theirs, b"200 OK", now);
    net.world.run();
    assert_eq!(net.take(ours), b"200 OK");
    // More than a window, both ways.
    for (from, to) in [(ours, theirs), (theirs, ours)] {
        let (mut sent, mut got) = (0, 0);
        while sent < 1_000_000 {
            let room = net.world.client.stream_room(from);
            assert!(room > 0, "{sent}");
            net.world.client.stream_send(from, &vec![1; room], now);
            sent += room;
            net.world.run();
            got += net.take(to).len();
        }
        assert_eq!(got, sent);
    }
    let client = &mut net.world.client;
    client.stream_close(theirs, EndReason::DONE, now);
    net.world.run();
    let mut out = Vec::new();
    let read = net.world.client.stream_take(ours, &mut out, 10);
    assert_eq!(read.end, Some(EndReason::DONE));
    assert!(net.world.net.begins.is_empty(), "no exit has a part in it");
}

#[test]
fn paths_are_those_of_vanguards_lite() {
    let mut net = hosted();
    net.visit("");
    let guard = net.world.client.circuits.choice.guards.primary()[0];
    let layer2 = net.layer2();
    let mut lengths = Vec::new();
    for (name, named) in &net.world.client.onion.by_name {
        let Stage::Ready(id) = named.stage else {
            continue;
        };
        let key = net
            .world
            .client
            .circuits
            .pool
            .entry(id)
            .unwrap()
            .key()
            .unwrap();
        let status = net.world.client.shared.plane.circuit_status(key).unwrap();
        lengths.push((name.owner, named.purpose, status.hop_count));
    }
    for (owner, purpose, hops) in lengths {
        use crate::onion::Purpose;
        let expected = match purpose {
            // The peer counts, too.
            Purpose::Rendezvous => 4,
            Purpose::ServiceRendezvous => 5,
            _ => 4,
        };
        assert_eq!(hops, expected, "{owner:?} {purpose:?}");
    }
    let onion = |path: &&Vec<RsaId>| layer2.contains(&path[1]);
    let paths = net.world.net.paths();
    for path in paths.iter().filter(|path| path.len() > 2).filter(onion) {
        let mut once = path.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), path.len(), "{path:?}");
    }
    let firsts = paths.iter().filter(|path| path.len() == 4);
    let at_guard = firsts.filter(|path| path[0] == guard).count();
    assert!(at_guard >= 3, "{paths:?}");
    let free = net
        .world
        .client
        .circuits
        .pool
        .iter()
        .filter(|(_, entry)| entry.onion_path().is_some() && entry.bound.is_none());
    assert_eq!(free.count(), READY_PATHS);
}

#[test]
fn streams_share_a_rendezvous_unless_they_are_isolated() {
    let mut net = hosted();
    let [a, _] = net.visit("a");
    let [b, _] = net.visit("b");
    let introductions = net.world.net.onion.introductions;
    let many: Vec<[StreamKey; 2]> = (0..50).map(|_| net.visit("a")).collect();
    assert_eq!(net.world.net.onion.introductions, introductions);
    assert!(
        many.iter()
            .all(|[ours, _]| net.circuit(*ours) == net.circuit(a))
    );
    assert_ne!(net.circuit(a), net.circuit(b));
    // Nobody uses it any more: it goes in time, and the service's end with it.
    let now = net.world.now;
    let (kept, left) = (net.circuit(b), net.circuit(a));
    for [ours, theirs] in many {
        net.world.client.stream_close(ours, EndReason::DONE, now);
        net.world.client.stream_close(theirs, EndReason::DONE, now);
    }
    net.world.client.stream_close(a, EndReason::DONE, now);
    net.world.run();
    for _ in 0..31 {
        net.world.wait(Duration::from_secs(60));
        let later = net.world.now;
        net.world.net.publish(later);
    }
    let status = |key| net.world.client.shared.plane.circuit_status(key);
    assert!(status(left).is_none() && status(kept).is_some());
}

#[test]
fn what_is_wrong_is_told() {
    let mut net = hosted();
    // Ports that the service does not have: a few guesses, then the circuit is gone.
    let [ours, _] = net.visit("");
    let circuit = net.circuit(ours);
    for guess in 81..=89 {
        let stands = |net: &Hosted| {
            net.world
                .client
                .shared
                .plane
                .circuit_status(circuit)
                .is_some()
        };
        assert!(stands(&net), "before guess {guess}");
        let request = net.ask(guess, "");
        assert_eq!(net.world.failed(request), SocksStatus::CONNECTION_REFUSED);
        net.world.wait(Duration::from_secs(1));
        assert_eq!(stands(&net), guess < 89);
    }
    // What stands behind the port is not there.
    let request = net.ask(PORT, "");
    let theirs = net.visitor();
    let now = net.world.now;
    net.world.client.onion_stream_refused(theirs, now);
    net.world.run();
    assert_eq!(net.world.failed(request), SocksStatus::CONNECTION_REFUSED);
    // There is nothing to look up.
    let resolve = socks(SocksCommand::Resolve, &net.host, 0);
    let request = net.world.ask(&resolve, b"");
    assert_eq!(net.world.failed(request), SocksStatus::HOST_UNREACHABLE);
    let mistyped = net.host.replacen(|c| c != 'a', "a", 1);
    let unknown = OnionAddress::new(&identity(2).public())
        .unwrap()
        .to_string();
    for (host, status) in [
        (mistyped, SocksStatus::HS_BAD_ADDRESS),
        (unknown, SocksStatus::HS_DESC_NOT_FOUND),
    ] {
        for errors in [true, false] {
            net.world.client.shared.config.onion_errors = errors;
            let request = net.world.connect(&host, PORT, "", b"");
            net.world.wait(Duration::from_secs(1));
            let plain = SocksStatus::HOST_UNREACHABLE;
            let expected = if errors { status } else { plain };
            assert_eq!(net.world.failed(request), expected);
        }
    }
}

#[test]
fn who_may_guess_ports_keeps_his_circuit() {
    let mut net = hosted_with(|config| config.allows_unknown_ports = true);
    let [ours, _] = net.visit("");
    let circuit = net.circuit(ours);
    for guess in 81..=99 {
        let request = net.ask(guess, "");
        assert_eq!(net.world.failed(request), SocksStatus::CONNECTION_REFUSED);
        net.world.wait(Duration::from_secs(1));
    }
    let plane = &net.world.client.shared.plane;
    assert!(plane.circuit_status(circuit).is_some());
}

#[test]
fn too_many_streams() {
    let mut net = hosted_with(|config| config.streams_max = Some(2));
    let [first, _] = net.visit("");
    net.visit("");
    let request = net.ask(PORT, "");
    assert_eq!(net.world.failed(request), SocksStatus::CONNECTION_REFUSED);
    net.world.wait(Duration::from_secs(2));
    let circuit = net.circuit(first);
    assert!(
        net.world
            .client
            .shared
            .plane
            .circuit_status(circuit)
            .is_some()
    );
    let mut net = hosted_with(|config| {
        config.streams_max = Some(1);
        config.closes_on_excess = true;
    });
    let [first, _] = net.visit("");
    let circuit = net.circuit(first);
    let request = net.ask(PORT, "");
    assert_eq!(net.world.failed(request), SocksStatus::CONNECTION_REFUSED);
    net.world.wait(Duration::from_secs(2));
    assert!(
        net.world
            .client
            .shared
            .plane
            .circuit_status(circuit)
            .is_none()
    );
}

#[test]
fn a_removed_service_leaves_nothing() {
    let mut net = hosted();
    let [_, theirs] = net.visit("");
    let meeting = net.circuit(theirs);
    let (service, now) = (net.service, net.world.now);
    net.world.client.remove_service(service, now);
    net.world.run();
    let client = &net.world.client;
    let of_services = client.onion.by_name.keys();
    assert_eq!(
        of_services
            .filter(|name| name.owner == Owner::Services)
            .count(),
        0
    );
    assert!(client.shared.plane.circuit_status(meeting).is_none());
    let intros = net.world.net.onion.intros.values();
    assert_eq!(intros.filter(|key| net.world.net.has(**key)).count(), 0);
    assert!(client.service_statuses().is_empty());
    let request = net.ask(PORT, "");
    for _ in 0..60 {
        net.world.wait(Duration::from_secs(1));
    }
    net.world.failed(request);
}

#[test]
fn ports_change_while_a_service_is_hosted() {
    let mut net = hosted();
    let [_, theirs] = net.visit("");
    let circuit = net.circuit(theirs);
    let config = ServiceConfig::new(identity(1), vec![PORT + 1]);
    let now = net.world.now;
    net.world.client.change_service(net.service, config, now);
    assert_eq!(net.circuit(theirs), circuit, "what is open stays");
    let request = net.ask(PORT, "");
    assert_eq!(net.world.failed(request), SocksStatus::CONNECTION_REFUSED);
}

#[test]
fn a_killed_relay_of_a_rendezvous_is_survived() {
    // From 35 on: all introduction circuits of the service ended with the relay, and the visitor
    // asked before the service had built others.
    for seed in [1, 2, 3, 4, 35, 76, 91] {
        for (side, place) in [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2)] {
            let mut net = hosted_in(World::ready_from(seed), |_| {});
            let streams = net.visit("");
            let victim = net.path(streams[side])[place];
            net.world.kill(victim);
            let [ours, _] = net.visit_within(30, "");
            assert!(!net.path(ours).contains(&victim), "{seed}: {side} {place}");
        }
    }
}

#[test]
fn the_death_of_all_vanguards_is_survived() {
    for seed in 1..=12 {
        let mut net = hosted_in(World::drawn_as((seed, 16), ClientConfig::default()), |_| {});
        net.visit("");
        let victims = net.layer2();
        assert_eq!(victims.len(), 4);
        for victim in &victims {
            net.world.kill(*victim);
        }
        let [ours, _] = net.visit_within(30, "");
        assert!(net.path(ours).iter().all(|id| !victims.contains(id)));
    }
}

#[test]
fn dead_introduction_points_and_directories_are_survived() {
    let mut net = hosted();
    let guard = net.world.client.circuits.choice.guards.primary()[0];
    let mut victims: Vec<RsaId> = net
        .world
        .net
        .onion
        .intros
        .values()
        .filter_map(|key| net.world.net.last_of(*key))
        .collect();
    victims.retain(|id| *id != guard);
    victims.sort_unstable();
    victims.dedup();
    assert!(victims.len() >= 2);
    let intros: Vec<_> = net.world.net.onion.intros.values().copied().collect();
    let uses = |id: &RsaId| {
        let paths = intros.iter().map(|key| net.world.net.path_of(*key));
        paths.filter(|path| path.contains(id)).count()
    };
    let victim = victims.iter().copied().min_by_key(uses);
    net.world.kill(victim.unwrap());
    net.visit_within(30, "a");
    // One that no introduction goes through: that the service moves takes longer than a visitor
    // waits here, and so small a network may have no other.
    let intros = net.world.net.onion.intros.values();
    let in_use: Vec<RsaId> = intros.flat_map(|key| net.world.net.path_of(*key)).collect();
    let mut dirs = net.world.net.onion.descriptors.keys().map(|(id, _)| *id);
    let victim = dirs.find(|id| *id != guard && !in_use.contains(id));
    if let Some(victim) = victim {
        net.world.kill(victim);
    }
    net.world.client.new_session(net.world.now);
    net.visit_within(30, "b");
}

#[test]
fn relays_that_swallow_all_are_survived() {
    for place in [1, 2] {
        let mut net = hosted();
        let [ours, _] = net.visit("");
        let victim = net.path(ours)[place];
        net.world.net.frozen.insert(victim);
        net.visit_within(60, "other");
    }
}

#[test]
fn a_dead_rendezvous_of_which_nobody_tells_is_left() {
    let mut net = hosted();
    let [ours, _] = net.visit("");
    // The rendezvous point does not pass cells on any more, and says nothing.
    net.world.net.onion.joined.clear();
    let before = net.circuit(ours);
    let [ours, _] = net.visit_within(30, "");
    assert_ne!(net.circuit(ours), before);
}

#[test]
fn a_slow_service_is_waited_for_on_the_same_circuit() {
    let mut net = hosted();
    let [first, first_theirs] = net.visit("");
    let request = net.ask(PORT, "");
    let theirs = net.visitor();
    // Its program takes half a minute, while another stream shows that the circuit is alive.
    for _ in 0..30 {
        let now = net.world.now;
        net.world.client.stream_send(first_theirs, b"!", now);
        net.world.wait(Duration::from_secs(1));
        assert_eq!(net.take(first), b"!");
    }
    let now = net.world.now;
    assert!(net.world.client.onion_stream_connected(theirs, now));
    net.world.run();
    net.world.connected(request);
}

#[test]
fn a_visit_begins_at_once_over_paths_that_are_ready() {
    let mut net = hosted();
    let built = |net: &Hosted| net.world.net.handshakes;
    let before = built(&net);
    net.visit("");
    // Fetch, introduction and meeting take one hop more each; the rendezvous takes none. What is
    // taken is built anew: four paths of three.
    assert_eq!(built(&net) - before, 3 + 4 * 3);
}

#[test]
fn waiting_requests_outlive_a_client_that_is_not_ready() {
    let mut world = World::start(false);
    let address = OnionAddress::new(&identity(1).public()).unwrap();
    let request = world.connect(&address.to_string(), PORT, "", b"");
    world.run();
    world.wait(Duration::from_secs(5));
    assert_eq!(world.failed(request), SocksStatus::HOST_UNREACHABLE);
    let relays = (1..=8).map(|n| RsaId::from([n; 20]));
    world.net.frozen.extend(relays);
    let other = OnionAddress::new(&identity(2).public()).unwrap();
    let hung_up = world.connect(&other.to_string(), PORT, "", b"");
    assert!(!world.client.onion.by_name.is_empty());
    world.client.cancel_socks_request(hung_up, world.now);
    world.wait(Duration::from_secs(5));
    assert!(!world.answers.contains_key(&hung_up));
    let wanted = world.client.onion.by_name.len();
    assert_eq!(wanted, 0, "nothing is built for nobody");
}

#[test]
fn a_name_for_each_request_ends_idle_visits_too() {
    let mut net = hosted();
    let [kept, kept_theirs] = net.visit("kept");
    for number in 0..=CIRCUITS_MAX {
        let (user, now) = (format!("user{number}"), net.world.now);
        let ours = match number % 9 {
            0 => {
                let [ours, theirs] = net.visit(&user);
                net.world.client.stream_close(theirs, EndReason::DONE, now);
                ours
            }
            _ => {
                let request = net.world.connect("example.net", PORT, &user, b"");
                net.world.connected(request)
            }
        };
        net.world.client.stream_close(ours, EndReason::DONE, now);
        net.world.wait(Duration::from_millis(60));
    }
    let client = &net.world.client;
    assert!(client.circuits.pool.iter().count() <= CIRCUITS_MAX);
    // Both ends of the visit that has a stream.
    for stream in [kept, kept_theirs] {
        assert!(client.shared.plane.stream_circuit(stream).is_some());
    }
}

#[test]
fn idle_meetings_go_before_a_visitor_is_turned_away() {
    let mut net = hosted();
    let [kept, _] = net.visit("kept");
    for number in 0..=HS_CIRCUITS_MAX {
        let [ours, theirs] = net.visit(&format!("user{number}"));
        let now = net.world.now;
        for stream in [ours, theirs] {
            net.world.client.stream_close(stream, EndReason::DONE, now);
        }
        net.world.wait(Duration::from_millis(100));
    }
    assert!(net.world.client.onion.by_name.len() <= HS_CIRCUITS_MAX);
    assert!(net.world.client.shared.plane.stream_circuit(kept).is_some());
}
