//! Relays of one or several switches, the links between them, and a client, all in memory.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use cepa_circuit::{OnionKeys, PaddingParams, StreamKey};
use cepa_crypto::curve25519::SecretKey;
use cepa_crypto::layer::{self, HopLayer};
use cepa_crypto::{Ed25519Id, Rng, RsaId, ntor};
use cepa_limits::Memory;
use cepa_link::channel::PaddingRange;
use cepa_link::{ChannelKey, Established, PeerIdentity};
use cepa_netdoc::policy::AddrPolicy;
use cepa_wire::Now;
use cepa_wire::cell::{self, CELL_LEN, CellBuf, CircId, Command as Cell};
use cepa_wire::create::{Create2, CreateFast, Created2, CreatedFast, HandshakeType};
use cepa_wire::extend::{Extend2, Extended2};
use cepa_wire::linkspec::LinkSpecifiers;
use cepa_wire::relay::{RelayCommand, RelayFormat, StreamId};

use crate::switch::*;
use crate::{ExitOptions, ExitPolicy};

pub(super) struct Node {
    pub(super) switches: Vec<Switch>,
    pub(super) keys: OnionKeys,
    pub(super) addr: SocketAddr,
    pub(super) commands: Vec<(usize, Command)>,
    /// Streams that were told to have room or input.
    pub(super) ready: Vec<StreamKey>,
}

/// Where a link ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum End {
    Node(usize, usize, ChannelKey),
    Client(usize),
}

pub(super) struct Net {
    pub(super) now: Now,
    pub(super) rng: Rng,
    pub(super) nodes: Vec<Node>,
    peers: BTreeMap<End, End>,
    /// By client: cells that came.
    pub(super) inbox: Vec<VecDeque<CellBuf>>,
}

pub(super) fn id(n: usize) -> PeerIdentity {
    let byte = n as u8 + 1;
    PeerIdentity {
        rsa: RsaId::from([byte; 20]),
        ed: Ed25519Id::from([byte; 32]),
    }
}

/// The policy of an exit in a test network.
pub(super) fn exit_policy(rules: &str) -> Arc<ExitPolicy> {
    let rules = AddrPolicy::parse_config([rules]).unwrap();
    let options = ExitOptions {
        reject_private: false,
        ipv6: true,
        reevaluate: true,
        ..ExitOptions::with_rules(rules)
    };
    Arc::new(ExitPolicy::new(&options, []).unwrap())
}

pub(super) fn config(n: usize) -> SwitchConfig {
    SwitchConfig {
        rsa: id(n).rsa,
        ed: id(n).ed,
        exit_policy: exit_policy("accept *:80,accept 10.0.0.0/8:1000-2000"),
        serves_directory: true,
        extend_allow_private: true,
        extend_ipv6: false,
        points: PointParams::default(),
        congestion: Arc::default(),
        sendme_accept_min: 0,
        padding: PaddingRange {
            low_ms: 0,
            high_ms: 0,
        },
        circuit_padding: PaddingParams::default(),
        dos: cepa_limits::DosParams::default(),
        limits: Limits::default(),
        memory: Memory::new(1 << 30),
    }
}

impl Net {
    /// Relays of so many workers each, and one client.
    pub(super) fn new(workers: &[usize]) -> Net {
        Net::with(workers, |_| {})
    }

    pub(super) fn with(workers: &[usize], edit: impl Fn(&mut SwitchConfig)) -> Net {
        let mut rng = Rng::from_seed([9; 32]);
        let known = Arc::new(KnownRelays {
            ids: (0..workers.len())
                .map(|n| (id(n).rsa, Some(id(n).ed)))
                .collect(),
            refuse_unknown_exits: true,
            ..KnownRelays::default()
        });
        let nodes = workers.iter().enumerate().map(|(n, count)| {
            let mut config = config(n);
            edit(&mut config);
            let config = Arc::new(config);
            let switches = (0..*count).map(|worker| {
                let worker = WorkerId(worker as u8);
                let mut switch = Switch::new(worker, *count, config.clone(), rng.fork());
                switch.set_relays(known.clone());
                switch
            });
            let switches = switches.collect();
            let PeerIdentity { rsa, ed } = id(n);
            let keys = OnionKeys {
                rsa,
                ed,
                ntor: vec![SecretKey::generate(&mut rng)],
            };
            let addr = SocketAddr::new(Ipv4Addr::new(127, n as u8 + 1, 0, 1).into(), 9001);
            Node {
                switches,
                keys,
                addr,
                commands: Vec::new(),
                ready: Vec::new(),
            }
        });
        let nodes = nodes.collect();
        let now = Now {
            mono: instant(),
            wall: SystemTime::UNIX_EPOCH,
        };
        let inbox = Vec::new();
        Net {
            now,
            rng,
            nodes,
            peers: BTreeMap::new(),
            inbox,
        }
    }

    fn established(initiator: bool, peer: Option<PeerIdentity>, addr: SocketAddr) -> Established {
        Established {
            version: 5,
            initiator,
            peer,
            peer_addr: addr,
            peer_addrs: vec![addr.ip()],
            my_addr_seen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            clock_skew_secs: Some(0),
            canonical: true,
        }
    }

    /// A link from worker `a.1` of relay `a.0` to worker `b.1` of relay `b.0`.
    pub(super) fn link(&mut self, a: (usize, usize), b: (usize, usize)) {
        let (addr_a, addr_b) = (self.nodes[a.0].addr, self.nodes[b.0].addr);
        let to_b = Net::established(true, Some(id(b.0)), addr_b);
        let to_a = Net::established(false, Some(id(a.0)), addr_a);
        let key_a = self.nodes[a.0].switches[a.1].add_channel(to_b, self.now);
        let key_b = self.nodes[b.0].switches[b.1].add_channel(to_a, self.now);
        let (a, b) = (End::Node(a.0, a.1, key_a), End::Node(b.0, b.1, key_b));
        self.peers.insert(a, b);
        self.peers.insert(b, a);
    }

    /// A client's link to a worker of a relay; returns the client's number.
    pub(super) fn client(&mut self, to: (usize, usize)) -> usize {
        let client = self.inbox.len();
        self.inbox.push(VecDeque::new());
        let from = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 40_000);
        let link = Net::established(false, None, from);
        let key = self.nodes[to.0].switches[to.1].add_channel(link, self.now);
        let (end, client_end) = (End::Node(to.0, to.1, key), End::Client(client));
        self.peers.insert(end, client_end);
        self.peers.insert(client_end, end);
        client
    }

    pub(super) fn channel_of_client(&self, client: usize) -> (usize, usize, ChannelKey) {
        match self.peers[&End::Client(client)] {
            End::Node(node, worker, key) => (node, worker, key),
            End::Client(_) => unreachable!(),
        }
    }

    /// Sends bytes of the client's.
    pub(super) fn send(&mut self, client: usize, bytes: &[u8]) -> Result<(), ChannelClose> {
        let (node, worker, key) = self.channel_of_client(client);
        let mut bytes = bytes.to_vec();
        let len = bytes.len();
        let used = self.nodes[node].switches[worker].handle_cells(key, &mut bytes, self.now)?;
        assert_eq!(used, len / CELL_LEN * CELL_LEN);
        self.run();
        Ok(())
    }

    /// Until nothing moves any more. Commands that concern sockets are kept in the node.
    pub(super) fn run(&mut self) {
        loop {
            let mut moved = false;
            for node in 0..self.nodes.len() {
                moved |= self.run_commands(node);
                moved |= self.run_handover(node);
                moved |= self.run_output(node);
            }
            if !moved {
                break;
            }
        }
    }

    /// A little of what [`Net::run`] does: one kind of work, at every relay.
    pub(super) fn step(&mut self, step: usize) {
        for node in 0..self.nodes.len() {
            let _ = match step % 2 {
                0 => self.run_output(node),
                _ => self.run_handover_once(node),
            };
        }
    }

    fn run_commands(&mut self, node: usize) -> bool {
        let mut moved = false;
        for worker in 0..self.nodes[node].switches.len() {
            while let Some(command) = self.nodes[node].switches[worker].poll_command() {
                moved = true;
                let found = match &command {
                    Command::NeedChannel { target, .. } => self.find(node, target),
                    _ => None,
                };
                let (
                    now,
                    Node {
                        switches,
                        keys,
                        commands,
                        ..
                    },
                ) = (self.now, &mut self.nodes[node]);
                match command {
                    Command::Onionskin { circuit, job } => {
                        let reply = job.run(keys, &mut self.rng);
                        switches[worker].handle_onionskin(circuit, reply, now);
                    }
                    Command::NeedChannel { circuit, .. } => {
                        switches[worker].handle_channel_found(circuit, found, now);
                    }
                    command => commands.push((worker, command)),
                }
            }
        }
        moved
    }

    fn find(&self, node: usize, target: &LinkTarget) -> Option<(WorkerId, ChannelKey)> {
        self.peers.keys().find_map(|end| match end {
            End::Node(n, worker, key) if *n == node => {
                let peer = self.nodes[node].switches[*worker].link(*key)?.peer?;
                assert!(target.ed.is_some(), "filled in from the consensus");
                (peer.rsa == target.rsa).then_some((WorkerId(*worker as u8), *key))
            }
            _ => None,
        })
    }

    fn run_handover(&mut self, node: usize) -> bool {
        let mut moved = false;
        let switches = &mut self.nodes[node].switches;
        for from in 0..switches.len() {
            for to in 0..switches.len() {
                let items = switches[from].take_handover(WorkerId(to as u8));
                moved |= !items.is_empty();
                switches[to].handle_handover(items, self.now);
            }
        }
        moved
    }

    /// What the switches have for each other by now, and not what follows from it.
    fn run_handover_once(&mut self, node: usize) -> bool {
        let switches = &mut self.nodes[node].switches;
        let mut batches = Vec::new();
        for from in 0..switches.len() {
            for to in 0..switches.len() {
                batches.push((to, switches[from].take_handover(WorkerId(to as u8))));
            }
        }
        let moved = batches.iter().any(|(_, items)| !items.is_empty());
        for (to, items) in batches {
            switches[to].handle_handover(items, self.now);
        }
        moved
    }

    /// What the switches still have for each other, without any output.
    pub(super) fn run_all_handover(&mut self) {
        for node in 0..self.nodes.len() {
            while self.run_handover(node) {}
        }
    }

    fn run_output(&mut self, node: usize) -> bool {
        let mut moved = false;
        for worker in 0..self.nodes[node].switches.len() {
            let switch = &mut self.nodes[node].switches[worker];
            let (mut channels, mut streams) = (Vec::new(), Vec::new());
            switch.take_ready(&mut channels, &mut streams);
            self.nodes[node].ready.append(&mut streams);
            for key in channels {
                let mut out = Vec::new();
                let switch = &mut self.nodes[node].switches[worker];
                while switch.has_output(key) {
                    switch.take_output(key, &mut out, self.now);
                }
                moved |= !out.is_empty();
                self.deliver(self.peers[&End::Node(node, worker, key)], out);
            }
        }
        moved
    }

    fn deliver(&mut self, to: End, mut bytes: Vec<u8>) {
        match to {
            End::Client(client) => {
                let cells = bytes
                    .chunks_exact(CELL_LEN)
                    .map(|cell| CellBuf::try_from(cell).unwrap());
                self.inbox[client].extend(cells);
            }
            End::Node(node, worker, key) => {
                let switch = &mut self.nodes[node].switches[worker];
                let _ = switch.handle_cells(key, &mut bytes, self.now);
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
fn instant() -> Instant {
    Instant::now()
}

/// What a client knows of a circuit.
pub(super) struct Path {
    pub(super) client: usize,
    pub(super) circ_id: CircId,
    pub(super) hops: Vec<HopLayer>,
    /// KH of the last hop.
    pub(super) kh: [u8; 20],
}

/// A message that came to the client.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(super) struct Message {
    pub(super) hop: usize,
    pub(super) command: RelayCommand,
    pub(super) stream: StreamId,
    pub(super) data: Vec<u8>,
    pub(super) tag: Vec<u8>,
}

impl Path {
    pub(super) fn create_fast(net: &mut Net, client: usize, circ_id: u32) -> Path {
        let (state, x) = cepa_crypto::fast::client_start(&mut net.rng);
        let circ_id = CircId(circ_id);
        let mut cell = cell::new_cell(circ_id, Cell::CREATE_FAST);
        CreateFast { x }.write(cell::payload_mut(&mut cell));
        net.send(client, &cell).unwrap();
        let reply = net.inbox[client].pop_front().unwrap();
        assert_eq!(
            (cell::circ_id(&reply), cell::command(&reply)),
            (circ_id, Cell::CREATED_FAST)
        );
        let created = CreatedFast::read(cell::payload(&reply)).unwrap();
        let keys = state.finish(&created.y, &created.derivative).unwrap();
        let (keys, kh) = keys.tor1_with_kh();
        Path {
            client,
            circ_id,
            hops: vec![HopLayer::tor1(&keys)],
            kh: *kh,
        }
    }

    pub(super) fn create(net: &mut Net, client: usize, circ_id: u32, node: usize) -> Path {
        let keys = &net.nodes[node].keys;
        let (rsa, onion) = (keys.rsa, *keys.ntor[0].public());
        let (state, skin) = ntor::client_start(&mut net.rng, &rsa, &onion);
        let circ_id = CircId(circ_id);
        let mut cell = cell::new_cell(circ_id, Cell::CREATE2);
        Create2 {
            handshake_type: HandshakeType::NTOR,
            data: &skin,
        }
        .write(cell::payload_mut(&mut cell))
        .unwrap();
        net.send(client, &cell).unwrap();
        let reply = net.inbox[client].pop_front().unwrap();
        assert_eq!(
            (cell::circ_id(&reply), cell::command(&reply)),
            (circ_id, Cell::CREATED2)
        );
        let created = Created2::read(cell::payload(&reply)).unwrap();
        let (keys, kh) = state.finish(created.data).unwrap().tor1_with_kh();
        Path {
            client,
            circ_id,
            hops: vec![HopLayer::tor1(&keys)],
            kh: *kh,
        }
    }

    pub(super) fn extend(&mut self, net: &mut Net, node: usize) {
        let keys = &net.nodes[node].keys;
        let (rsa, onion) = (keys.rsa, *keys.ntor[0].public());
        let (state, skin) = ntor::client_start(&mut net.rng, &rsa, &onion);
        let body = extend2_body(net, node, &skin);
        let last = self.hops.len() - 1;
        self.send_at(
            net,
            last,
            Cell::RELAY_EARLY,
            RelayCommand::EXTEND2,
            StreamId(0),
            &body,
        );
        let reply = self.receive(net).unwrap();
        assert_eq!((reply.hop, reply.command), (last, RelayCommand::EXTENDED2));
        let extended = Extended2::read(&reply.data).unwrap();
        let (keys, kh) = state.finish(extended.data).unwrap().tor1_with_kh();
        self.hops.push(HopLayer::tor1(&keys));
        self.kh = *kh;
    }

    /// A cell to the last hop.
    pub(super) fn cell(
        &mut self,
        net: &mut Net,
        command: RelayCommand,
        id: u16,
        data: &[u8],
    ) -> CellBuf {
        let last = self.hops.len() - 1;
        self.cell_at(net, last, Cell::RELAY, command, StreamId(id), data)
    }

    pub(super) fn cell_at(
        &mut self,
        net: &mut Net,
        hop: usize,
        cell_command: Cell,
        command: RelayCommand,
        id: StreamId,
        data: &[u8],
    ) -> CellBuf {
        let mut cell = cell::new_cell(self.circ_id, cell_command);
        let payload = cell::payload_mut(&mut cell);
        let format = RelayFormat::from(self.hops[hop].cipher());
        format
            .write(payload, command, id, data, &mut net.rng)
            .unwrap();
        layer::originate(&mut self.hops[..=hop], cell_command.0, payload).unwrap();
        cell
    }

    pub(super) fn send(&mut self, net: &mut Net, command: RelayCommand, id: u16, data: &[u8]) {
        let cell = self.cell(net, command, id, data);
        net.send(self.client, &cell).unwrap();
    }

    pub(super) fn send_at(
        &mut self,
        net: &mut Net,
        hop: usize,
        cell_command: Cell,
        command: RelayCommand,
        id: StreamId,
        data: &[u8],
    ) {
        let cell = self.cell_at(net, hop, cell_command, command, id, data);
        net.send(self.client, &cell).unwrap();
    }

    /// The next message; `None` if nothing came.
    pub(super) fn receive(&mut self, net: &mut Net) -> Option<Message> {
        let mut cell = net.inbox[self.client].pop_front()?;
        assert_eq!(
            (cell::circ_id(&cell), cell::command(&cell)),
            (self.circ_id, Cell::RELAY)
        );
        let payload = cell::payload_mut(&mut cell);
        let (hop, tag) = layer::peel(&mut self.hops, Cell::RELAY.0, payload).expect("recognised");
        let format = RelayFormat::from(self.hops[hop].cipher());
        let said = format.read(payload).unwrap();
        Some(Message {
            hop,
            command: said.command,
            stream: said.stream_id,
            data: said.data.to_vec(),
            tag: tag.as_bytes().to_vec(),
        })
    }

    /// The reason of the DESTROY cell that must be what came.
    pub(super) fn destroyed(&self, net: &mut Net) -> u8 {
        let cell = net.inbox[self.client].pop_front().expect("a cell");
        assert_eq!(
            (cell::circ_id(&cell), cell::command(&cell)),
            (self.circ_id, Cell::DESTROY)
        );
        cell::payload(&cell)[0]
    }
}

pub(super) fn extend2_body(net: &Net, node: usize, skin: &[u8]) -> Vec<u8> {
    let SocketAddr::V4(addr) = net.nodes[node].addr else {
        unreachable!()
    };
    let link_specifiers = LinkSpecifiers::new(Some(addr), id(node).rsa, None, None);
    let mut body = Vec::new();
    Extend2 {
        link_specifiers,
        handshake_type: HandshakeType::NTOR,
        data: skin,
    }
    .write(&mut body)
    .unwrap();
    body
}

/// A client, and a circuit through relays 0 to 2, each over a link of its own.
pub(super) fn three_hops(workers: &[usize], place: fn(usize) -> usize) -> (Net, Path) {
    three_hops_of(Net::new(workers), place)
}

pub(super) fn three_hops_of(mut net: Net, place: fn(usize) -> usize) -> (Net, Path) {
    net.link((0, place(0)), (1, 0));
    net.link((1, place(1)), (2, place(2)));
    let client = net.client((0, 0));
    let mut path = Path::create(&mut net, client, 0x8000_0001, 0);
    path.extend(&mut net, 1);
    path.extend(&mut net, 2);
    (net, path)
}
