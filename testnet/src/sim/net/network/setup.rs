//! The machines of a network, and how each starts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cepa_authority::{Authority, Config};
use cepa_client::{Client, ClientConfig, Directory, SavedState};
use cepa_crypto::Rng;
use cepa_crypto::ed25519::Keypair;
use cepa_crypto::onion::OnionAddress;
use cepa_dir::{DirStore, NetworkFile};
use cepa_limits::DosOptions;
use cepa_netdoc::family::Family;
use cepa_netdoc::policy::AddrPolicy;
use cepa_relay::{ExitOptions, HsDirStore, Limits, PROTOCOLS, Relay, RelayConfig, RelayKeys};
use cepa_wire::Now;

use super::machines::{ClientHost, Machine, Plane, RelayHost};
use super::{Event, Network, Report, Size, TRAFFIC_EVERY, now_at};
use crate::sim::net::events::Events;
use crate::sim::net::trace::Trace;
use crate::sim::net::{between, keys, rng_of};

const OR_PORT: u16 = 9001;
const DIR_PORT: u16 = 9030;
/// What a process of a relay, or a client, may hold.
const MEMORY_MAX: usize = 256 << 20;

/// A /16 of its own for each machine.
fn ip_of(number: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0B01_0001_u32.wrapping_add((number as u32) << 16))
}

fn read_keys(files: &[cepa_relay::KeyFile], now: Now, rng: &mut Rng) -> RelayKeys {
    let files = files.iter();
    let files = files.filter_map(|file| Some((file.path.to_owned(), file.bytes.clone()?)));
    let read = RelayKeys::parse(&files.collect::<BTreeMap<_, _>>(), now.wall, now, rng);
    read.expect("keys of ours are read")
}

fn machine(number: usize, files: Option<Arc<Vec<cepa_relay::KeyFile>>>, rng: &mut Rng) -> Machine {
    Machine {
        ip: ip_of(number),
        plane: None,
        generation: 0,
        links: BTreeMap::new(),
        edges: BTreeMap::new(),
        wake: None,
        busy: Duration::ZERO,
        sent_bytes: 0,
        files: files.unwrap_or_default(),
        number,
        rng: rng.fork(),
    }
}

/// A network whose machines have not started yet.
pub(super) fn network(seed: u64, size: Size, base: Instant, keeps_trace: bool) -> Network {
    let mut rng = rng_of(seed);
    let now = now_at(base, Duration::ZERO);
    let relays = size.authorities + size.relays + size.exits;
    let files = keys::nodes(relays, now);
    let v3 = keys::authorities(size.authorities);
    let all = relays + size.clients + size.onion_services;
    let machines: Vec<Machine> = (0..all)
        .map(|number| machine(number, files.get(number).cloned(), &mut rng))
        .collect();
    let ids = files.iter().map(|files| {
        let keys = read_keys(files, now, &mut rng);
        (keys.rsa_id(), keys.ed25519_id())
    });
    let ids: Vec<_> = ids.collect();
    let mut known = keys::config(&v3).authorities;
    for (number, (known, (rsa, ed))) in known.iter_mut().zip(&ids).enumerate() {
        (known.rsa_id, known.ed25519_id) = (*rsa, Some(*ed));
        known.dir_addr = SocketAddrV4::new(ip_of(number), DIR_PORT);
        known.or_addr = SocketAddrV4::new(ip_of(number), OR_PORT);
    }
    let listed = known.clone();
    let timing = cepa_authority::schedule::Timing::hourly();
    let authorities = Config {
        first_vote_after_relays: Some(relays),
        ..Config::testing(known, "simulated".to_owned(), timing)
    };
    let by_ip = machines.iter().map(|one| (one.ip.into(), one.number));
    let by_rsa = ids.iter().enumerate();
    Network {
        size,
        at: Duration::ZERO,
        base,
        rate: super::Rate(size.rate),
        events: Events::new(),
        trace: Trace::new(keeps_trace),
        by_ip: by_ip.collect(),
        by_rsa: by_rsa.map(|(number, (rsa, _))| (*rsa, number)).collect(),
        machines,
        connections: BTreeMap::new(),
        connections_made: 0,
        tls_cert: Arc::new(keys::tls(now).cert_der),
        file: Arc::new(NetworkFile {
            authorities: listed,
            is_testing: true,
        }),
        authorities,
        onions: Vec::new(),
        bytes_sent: 0,
        same_instant: 0,
        asked: 0,
        seen: BTreeSet::new(),
        report: Report::default(),
        rng,
    }
}

/// A machine starts, with the keys that it has kept.
pub(super) fn start(net: &mut Network, number: usize) {
    let relays = net.size.authorities + net.size.relays + net.size.exits;
    let plane = match number {
        _ if number < relays => Plane::Relay(Box::new(relay_host(net, number))),
        _ => Plane::Client(Box::new(client_host(net, number))),
    };
    let visits = number >= relays && number < relays + net.size.clients;
    if let Some(machine) = net.machines.get_mut(number) {
        machine.plane = Some(plane);
        machine.generation += 1;
        let generation = machine.generation;
        if number < relays {
            net.plan_in(TRAFFIC_EVERY, Event::Traffic(number, generation));
        }
    }
    if visits {
        let first = between(&mut net.rng, Duration::from_secs(1), net.size.think * 2);
        net.plan_in(first, Event::Visit(number));
    }
    net.note(format_args!("machine {number} starts"));
}

fn relay_host(net: &mut Network, number: usize) -> RelayHost {
    let (now, mut rng) = (net.now(), net.rng.fork());
    let files = net.machines.get(number).map(|one| Arc::clone(&one.files));
    let keys = read_keys(&files.unwrap_or_default(), now, &mut rng);
    let is_authority = number < net.size.authorities;
    let is_exit = number >= net.size.authorities + net.size.relays;
    let rules = if is_exit { "accept *:*" } else { "reject *:*" };
    let rules = AddrPolicy::parse_config([rules]).expect("a policy of ours");
    let rate = u32::try_from(net.size.rate).unwrap_or(u32::MAX);
    let config = RelayConfig {
        nickname: format!("machine{number}"),
        contact: None,
        version: "0.1.0".to_owned(),
        or_address: SocketAddrV4::new(ip_of(number), OR_PORT),
        or_address_v6: None,
        dir_port: if is_authority { DIR_PORT } else { 0 },
        exit: ExitOptions::with_rules(rules),
        family: Family::default(),
        family_keys: Vec::new(),
        bandwidth_rate: rate,
        bandwidth_burst: rate,
        accounting: None,
        // Relays differ, so that weights do.
        bandwidth_observed_min: rate / 4 * (1 + number as u32 % 4),
        serves_directory: true,
        bridge_distribution: None,
        publishes: true,
        extend_allow_private: true,
        protocols: PROTOCOLS.parse().expect("protocols of ours"),
        key_day: cepa_relay::DAY,
        key_times: cepa_relay::KeyTimes::default(),
        choices: cepa_relay::Choices::default(),
        dos: DosOptions::default(),
        limits: Limits::default(),
        max_memory: MEMORY_MAX,
    };
    let v3 = keys::authorities(net.size.authorities);
    let v3 = v3.get(number).filter(|_| is_authority);
    let authority = v3.map(|v3| {
        let (config, keys) = (net.authorities.clone(), v3.of_core());
        Authority::restore(config, keys, Vec::new(), rng.fork(), now)
    });
    RelayHost {
        relay: Relay::new(config, Arc::clone(&net.file), keys, now, rng),
        switch: None,
        store: DirStore::new(v3.map(|v3| v3.id())),
        hs: HsDirStore::default(),
        onion: None,
        link: None,
        authority,
        relays: Arc::default(),
        waiting: BTreeMap::new(),
        known: BTreeMap::new(),
        told_bytes: 0,
    }
}

fn client_host(net: &mut Network, number: usize) -> ClientHost {
    let now = net.now();
    let fallbacks = net.file.authorities.iter().map(|one| Directory {
        rsa: one.rsa_id,
        ed: one.ed25519_id,
        or: one.or_addr.into(),
    });
    let config = ClientConfig {
        fallbacks: fallbacks.collect(),
        ..ClientConfig::default()
    };
    let (file, rng) = (Arc::clone(&net.file), net.rng.fork());
    let client = Client::new(config, file, SavedState::default(), rng, now);
    let mut client = client.expect("nothing was kept that could be damaged");
    let clients = net.machines.len() - net.size.onion_services;
    let visits = number < clients;
    if !visits {
        let keys = Keypair::generate(&mut net.rng).expand();
        let address = OnionAddress::new(&keys.public()).expect("a key of ours");
        net.onions.push(address.to_string());
        let config = cepa_client::onion::services::ServiceConfig::new(keys, vec![80]);
        client.add_service(config, now);
    }
    ClientHost {
        client,
        asked: BTreeMap::new(),
        fetches: BTreeMap::new(),
        requests: 0,
        visits,
    }
}
