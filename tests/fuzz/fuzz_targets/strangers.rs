//! A relay's data plane between several strangers and one honest client (tor-spec 5 to 7).
//!
//! The strangers make circuits, say what they like on them and on each other's ids, name other
//! relays at any address, stop reading, hang up and come again. The honest client has a circuit
//! from before; whatever they do it is there at the end, and opens a stream.

#![no_main]

mod script;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cepa_circuit::{CircuitKey, PaddingParams, StreamKey};
use cepa_crypto::layer::{Cipher, HopLayer};
use cepa_crypto::{Rng, fast};
use cepa_limits::Memory;
use cepa_link::channel::PaddingRange;
use cepa_link::{ChannelKey, PeerIdentity};
use cepa_netdoc::policy::AddrPolicy;
use cepa_relay::{
    ExitOptions, ExitPolicy, KnownRelays, Limits, PointParams, Switch, SwitchCommand, SwitchConfig,
    WorkerId,
};
use cepa_wire::Now;
use cepa_wire::cell::{self, CELL_LEN, CellBuf, CircId, Command};
use cepa_wire::create::{CreateFast, CreatedFast, HandshakeType};
use cepa_wire::end::EndReason;
use cepa_wire::extend::Extend2;
use cepa_wire::linkspec::{LinkSpecifier, LinkSpecifiers};
use cepa_wire::relay::{RELAY_DATA_MAX, RelayCommand, RelayFormat, StreamId};
use script::{Script, identity, link, now};

const STRANGERS: usize = 4;
/// Circuits of a link, and streams of a circuit.
const CIRCUITS_MAX: usize = 20;
const STREAMS_MAX: usize = 10;
/// What all may take: the honest client never waits, so that memory is not taken from it.
const MEMORY_MAX: usize = 64 << 20;
/// The circuit of the honest client.
const HONEST_ID: u32 = CircId::INITIATOR_BIT | 77;

/// Somebody at the other end of a link.
struct Peer {
    channel: ChannelKey,
    reads: bool,
    begun: BTreeMap<u32, fast::ClientState>,
    layers: BTreeMap<u32, HopLayer>,
    /// Messages that came on circuits whose keys are known.
    came: Vec<RelayCommand>,
}

struct World {
    switch: Switch,
    rng: Rng,
    now: Now,
    /// The honest client first.
    peers: Vec<Peer>,
    next: ChannelKey,
    wanted: Vec<CircuitKey>,
    streams: Vec<(StreamKey, Awaits)>,
}

fn world() -> World {
    let mut rng = Rng::from_seed([2; 32]);
    let rules = AddrPolicy::parse_config(["accept *:1-1000"]).expect("rules");
    let policy = ExitPolicy::new(&ExitOptions::with_rules(rules), []);
    let config = SwitchConfig {
        rsa: identity(1).rsa,
        ed: identity(1).ed,
        exit_policy: Arc::new(policy.expect("a policy")),
        sendme_accept_min: 0,
        serves_directory: true,
        extend_allow_private: true,
        extend_ipv6: true,
        congestion: Arc::default(),
        points: PointParams::default(),
        padding: PaddingRange {
            low_ms: 1500,
            high_ms: 9500,
        },
        circuit_padding: PaddingParams::default(),
        limits: Limits {
            circuits_per_channel_max: CIRCUITS_MAX,
            streams_per_circuit_max: STREAMS_MAX,
            ..Limits::default()
        },
        memory: Memory::new(MEMORY_MAX),
        dos: Default::default(),
    };
    let mut switch = Switch::new(WorkerId(0), 1, Arc::new(config), rng.fork());
    let ids = BTreeMap::from([(identity(2).rsa, Some(identity(2).ed))]);
    switch.set_relays(Arc::new(KnownRelays {
        ids,
        ..KnownRelays::default()
    }));
    let now = now();
    let next = switch.add_channel(link(true, Some(identity(2)), 2), now);
    let mut world = World {
        switch,
        rng,
        now,
        peers: Vec::new(),
        next,
        wanted: Vec::new(),
        streams: Vec::new(),
    };
    for _ in 0..=STRANGERS {
        // The honest client comes by way of a relay: from nearer by no exit lets it out.
        let relay = world.peers.is_empty().then(|| identity(3));
        let peer = world.peer(relay);
        world.peers.push(peer);
    }
    world.create(0, HONEST_ID);
    world.take_output();
    assert_eq!(world.peers[0].layers.len(), 1);
    world
}

impl World {
    fn peer(&mut self, relay: Option<PeerIdentity>) -> Peer {
        let link = link(false, relay, 9);
        Peer {
            channel: self.switch.add_channel(link, self.now),
            reads: true,
            begun: BTreeMap::new(),
            layers: BTreeMap::new(),
            came: Vec::new(),
        }
    }

    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        let stranger = usize::from(step >> 3) % STRANGERS + 1;
        match step % 8 {
            0 => self.raw_cell(stranger, script),
            1 => self.create(stranger, id(script)),
            2 | 3 => self.message(stranger, script),
            4 => self.extend(stranger, script),
            5 => self.answer(script.byte()),
            6 => {
                self.now = self.now + Duration::from_millis(u64::from(script.byte()) * 100);
                self.switch.handle_timeout(self.now);
            }
            _ if step & 0x80 == 0 => self.peers[stranger].reads ^= true,
            _ => self.reopen(stranger),
        }
        self.take_output();
        self.take_commands();
        let counts = self.switch.counts();
        assert!(counts.circuits <= (STRANGERS + 2) * CIRCUITS_MAX);
        assert!(counts.streams <= counts.circuits * STREAMS_MAX);
    }

    fn deliver(&mut self, peer: usize, cell: &mut [u8]) {
        let channel = self.peers[peer].channel;
        if self.switch.handle_cells(channel, cell, self.now).is_err() {
            self.reopen(peer);
        }
    }

    fn reopen(&mut self, peer: usize) {
        assert_ne!(peer, 0, "the honest client's link is closed");
        self.switch
            .channel_closed(self.peers[peer].channel, self.now);
        self.peers[peer] = self.peer(None);
    }

    fn raw_cell(&mut self, peer: usize, script: &mut Script<'_>) {
        let (command, id) = (Command(script.byte()), id(script));
        let body = script.bytes();
        if command.is_variable() {
            let mut cell = Vec::new();
            let len = cell::CircIdLen::Four;
            cell::write_variable(&mut cell, len, command, body).expect("510 bytes fit");
            return self.deliver(peer, &mut cell);
        }
        let mut cell = cell::new_cell(CircId(id), command);
        for (to, from) in cell::payload_mut(&mut cell).iter_mut().zip(body) {
            *to = *from;
        }
        self.deliver(peer, &mut cell);
    }

    fn create(&mut self, peer: usize, id: u32) {
        let (state, x) = fast::client_start(&mut self.rng);
        let mut cell = cell::new_cell(CircId(id), Command::CREATE_FAST);
        CreateFast { x }.write(cell::payload_mut(&mut cell));
        self.peers[peer].begun.insert(id, state);
        self.deliver(peer, &mut cell);
    }

    fn message(&mut self, peer: usize, script: &mut Script<'_>) {
        let (id, command) = (id(script), RelayCommand(script.byte()));
        let (stream, early, body) = (script.byte(), script.byte(), script.bytes());
        let body = &body[..body.len().min(RELAY_DATA_MAX)];
        let outer = match early & 1 {
            0 => Command::RELAY,
            _ => Command::RELAY_EARLY,
        };
        self.say(peer, id, (outer, command, stream.into()), body);
    }

    /// A relay of ours, or another, at any address.
    fn extend(&mut self, peer: usize, script: &mut Script<'_>) {
        let (id, which, place) = (id(script), script.byte(), script.byte());
        let relay = identity(which % 4);
        let mut list = vec![
            LinkSpecifier::from(SocketAddr::from(([127, place, 0, 1], 9001))),
            LinkSpecifier::Rsa(relay.rsa),
        ];
        list.extend((which & 0x80 != 0).then_some(LinkSpecifier::Ed25519(relay.ed)));
        let extend = Extend2 {
            link_specifiers: LinkSpecifiers(list),
            handshake_type: HandshakeType(u16::from(which >> 4 & 3)),
            data: &[place; 84],
        };
        let mut body = Vec::new();
        extend.write(&mut body).expect("it fits");
        let what = (Command::RELAY_EARLY, RelayCommand::EXTEND2, 0);
        self.say(peer, id, what, &body);
    }

    fn say(
        &mut self,
        peer: usize,
        id: u32,
        (outer, command, stream): (Command, RelayCommand, u16),
        body: &[u8],
    ) {
        let mut cell = cell::new_cell(CircId(id), outer);
        let payload = cell::payload_mut(&mut cell);
        let stream = StreamId(stream);
        RelayFormat::V0
            .write(payload, command, stream, body, &mut self.rng)
            .expect("it fits");
        if let Some(layer) = self.peers[peer].layers.get_mut(&id) {
            layer.originate_forward(outer.0, payload);
        }
        self.deliver(peer, &mut cell);
    }

    fn take_commands(&mut self) {
        while let Some(command) = self.switch.poll_command() {
            match command {
                SwitchCommand::NeedChannel { circuit, .. } => self.wanted.push(circuit),
                SwitchCommand::Connect { stream, .. } => {
                    self.streams.push((stream, Awaits::Connection));
                }
                SwitchCommand::Resolve { stream, .. } => {
                    self.streams.push((stream, Awaits::Answers));
                }
                SwitchCommand::OpenDir { stream, .. } => {
                    self.streams.push((stream, Awaits::Directory));
                }
                SwitchCommand::CloseStream { stream } => {
                    self.streams.retain(|(known, _)| *known != stream);
                }
                SwitchCommand::CloseChannel { channel, .. } => {
                    let found = self.peers.iter().position(|peer| peer.channel == channel);
                    if let Some(peer) = found {
                        self.reopen(peer);
                    } else if channel == self.next {
                        let peer = Some(identity(2));
                        self.next = self.switch.add_channel(link(true, peer, 2), self.now);
                    }
                }
                // Strangers who know no key get no answer.
                SwitchCommand::Onionskin { .. }
                | SwitchCommand::ChannelUsed { .. }
                | SwitchCommand::ChannelUnwanted { .. } => {}
            }
        }
    }

    fn answer(&mut self, how: u8) {
        let found = (how & 1 == 0).then_some((WorkerId(0), self.next));
        for circuit in std::mem::take(&mut self.wanted) {
            self.switch.handle_channel_found(circuit, found, self.now);
        }
        let mut streams = std::mem::take(&mut self.streams);
        streams.retain_mut(|(stream, awaits)| self.answer_stream(*stream, awaits, how >> 1 & 3));
        self.streams.append(&mut streams);
    }

    /// Does for a stream what its socket would, as is its turn; false if it ends by that.
    fn answer_stream(&mut self, stream: StreamKey, awaits: &mut Awaits, how: u8) -> bool {
        let (addr, now) = (SocketAddr::from(([9, 9, 9, 9], 80)), self.now);
        match (how, *awaits) {
            (0, Awaits::Connection) => {
                self.switch.stream_connected(stream, addr, 60, now);
                *awaits = Awaits::Nothing;
            }
            (0, Awaits::Directory) => {
                self.switch.stream_dir_connected(stream, now);
                *awaits = Awaits::Nothing;
            }
            (0, Awaits::Answers) => {
                self.switch.stream_resolved(stream, Vec::new(), now);
                return false;
            }
            (1, Awaits::Nothing) => {
                self.switch.stream_close(stream, EndReason::DONE, now);
                return false;
            }
            (1, _) => {
                self.switch
                    .stream_failed(stream, EndReason::CONNECTREFUSED, now);
                return false;
            }
            (2, Awaits::Nothing) => {
                let room = self.switch.stream_room(stream).min(2000);
                self.switch.stream_send(stream, &[7; 2000][..room], now);
            }
            (3, Awaits::Nothing) => {
                let mut taken = Vec::new();
                self.switch.stream_take(stream, &mut taken, 2000);
                self.switch.stream_written(stream, taken.len(), now);
            }
            _ => {}
        }
        true
    }

    /// Empties the queues of all who read.
    fn take_output(&mut self) {
        for peer in 0..self.peers.len() {
            if !self.peers[peer].reads {
                continue;
            }
            let (mut out, channel) = (Vec::new(), self.peers[peer].channel);
            while self.switch.has_output(channel) {
                self.switch.take_output(channel, &mut out, self.now);
            }
            let (cells, rest) = out.as_chunks_mut::<CELL_LEN>();
            assert!(rest.is_empty());
            for cell in cells {
                self.peers[peer].came(cell);
            }
        }
        let mut out = Vec::new();
        while self.switch.has_output(self.next) {
            self.switch.take_output(self.next, &mut out, self.now);
            out.clear();
        }
    }

    /// What the honest client was there for.
    fn end(mut self) {
        self.take_commands();
        let before = self.streams.len();
        let what = (Command::RELAY, RelayCommand::BEGIN, 1);
        self.say(0, HONEST_ID, what, b"9.9.9.9:80\0\0\0\0\0");
        self.take_commands();
        assert_eq!(self.streams.len(), before + 1, "no stream for the honest");
        let addr = SocketAddr::from(([9, 9, 9, 9], 80));
        let (stream, _) = *self.streams.last().expect("it was counted");
        self.switch.stream_connected(stream, addr, 60, self.now);
        self.take_output();
        assert_eq!(self.peers[0].came, [RelayCommand::CONNECTED]);
        let channels: Vec<_> = self.peers.iter().map(|peer| peer.channel).collect();
        for channel in channels.into_iter().chain([self.next]) {
            self.switch.channel_closed(channel, self.now);
        }
        while self.switch.poll_command().is_some() {}
        let counts = self.switch.counts();
        let left = [counts.channels, counts.circuits, counts.queued_cells];
        assert_eq!(left, [0; 3], "{counts:?}");
    }
}

/// What a stream waits for.
#[derive(Clone, Copy)]
enum Awaits {
    Connection,
    Answers,
    Directory,
    Nothing,
}

impl Peer {
    fn came(&mut self, cell: &mut CellBuf) {
        let (id, command) = (cell::circ_id(cell).0, cell::command(cell));
        if command == Command::CREATED_FAST
            && let Some(state) = self.begun.remove(&id)
        {
            let created = CreatedFast::read(cell::payload(cell)).expect("it was written");
            if let Ok(keys) = state.finish(&created.y, &created.derivative) {
                let (layer, _) = HopLayer::new(Cipher::Tor1, keys);
                self.layers.insert(id, layer);
            }
        }
        if let Some(layer) = self
            .layers
            .get_mut(&id)
            .filter(|_| command == Command::RELAY)
        {
            let payload = cell::payload_mut(cell);
            if layer.decrypt_backward(command.0, payload).is_some() {
                self.came.push(cepa_wire::relay::command(payload));
            }
        }
    }
}

/// One of a few ids that an initiator may choose.
fn id(script: &mut Script<'_>) -> u32 {
    u32::from(script.byte() % 32) | CircId::INITIATOR_BIT
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (mut world, mut script) = (world(), Script::new(data));
    while let Some(step) = script.step() {
        world.step(step, &mut script);
    }
    world.end();
});
