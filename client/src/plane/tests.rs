//! The plane against a relay in memory that is first and last hop at once.

mod endings;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use cepa_circuit::onionskin::{OnionKeys, OnionskinJob};
use cepa_circuit::{
    Congestion, CongestionPath, Forward, LocalQueue, RelayCircuit, StreamRead, WindowViolation,
};
use cepa_crypto::layer::RelayLayer;
use cepa_crypto::{Ed25519Id, RsaId, curve25519};
use cepa_link::Established;
use cepa_link::channel::QUEUE_HIGH_CELLS;
use cepa_wire::Now;
use cepa_wire::begin::{Begin, BeginFlags};
use cepa_wire::cell::{self, CELL_LEN, CellBuf, CircId, Command};
use cepa_wire::create::{Create2, Created2};
use cepa_wire::destroy::DestroyReason;
use cepa_wire::end::EndReason;
use cepa_wire::host::Host;
use cepa_wire::linkspec::LinkSpecifiers;
use cepa_wire::relay::{RelayCommand, StreamId};
use cepa_wire::resolve::{Answer, AnswerValue, Resolve, Resolved};
use proptest::prelude::{any, proptest};

use super::*;
use cepa_circuit::origin::OriginViolation;

const CONNECTED: &[u8] = &[127, 0, 0, 1, 0, 0, 0, 9];

pub(super) struct World {
    pub(super) plane: Plane,
    pub(super) channel: ChannelKey,
    pub(super) keys: OnionKeys,
    pub(super) relay: Option<RelayCircuit>,
    circ_id: CircId,
    /// What the relay was told about streams, in order.
    pub(super) told: Vec<(RelayCommand, StreamId, Vec<u8>)>,
    pub(super) destroyed: Vec<DestroyReason>,
    /// Circuits that only asked whether the relay is there.
    asked: Vec<CircId>,
    pub(super) now: Now,
    rng: Rng,
}

#[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
pub(super) fn world() -> World {
    let mut rng = Rng::from_seed([1; 32]);
    let now = Now {
        mono: Instant::now(),
        wall: SystemTime::UNIX_EPOCH,
    };
    let mut plane = Plane::new(rng.fork());
    let address = SocketAddr::from(([127, 0, 0, 1], 9001));
    let link = Established {
        version: 5,
        initiator: true,
        peer: None,
        peer_addr: address,
        peer_addrs: Vec::new(),
        my_addr_seen: address.ip(),
        clock_skew_secs: None,
        canonical: true,
    };
    let keys = OnionKeys {
        rsa: RsaId::from([3; 20]),
        ed: Ed25519Id::from([4; 32]),
        ntor: vec![curve25519::SecretKey::generate(&mut rng)],
    };
    let channel = plane.add_channel(link, now);
    World {
        plane,
        channel,
        keys,
        relay: None,
        circ_id: CircId::NONE,
        told: Vec::new(),
        destroyed: Vec::new(),
        asked: Vec::new(),
        now,
        rng,
    }
}

fn congestion() -> Congestion {
    Congestion {
        params: Arc::default(),
        sendme_inc_cells: 31,
        path: CongestionPath::Exit,
    }
}

impl World {
    pub(super) fn hop(&self) -> HopSpec {
        HopSpec {
            link_specifiers: LinkSpecifiers::new(None, self.keys.rsa, None, None),
            key: HopKey::Ntor {
                rsa: self.keys.rsa,
                onion_key: *self.keys.ntor[0].public(),
            },
            congestion: None,
        }
    }

    fn open(&mut self) -> CircuitKey {
        let hop = self.hop();
        self.plane
            .open_circuit(self.channel, hop, Vec::new(), self.now)
            .unwrap()
    }

    pub(super) fn built() -> (World, CircuitKey) {
        let mut world = world();
        let circuit = world.open();
        world.run();
        assert_eq!(world.events(), [Event::CircuitBuilt { circuit }]);
        (world, circuit)
    }

    /// With a stream whose BEGIN the relay has seen and answered.
    pub(super) fn connected() -> (World, CircuitKey, StreamKey, StreamId) {
        let (world, circuit) = World::built();
        world.connect(circuit)
    }

    pub(super) fn connect(self, circuit: CircuitKey) -> (World, CircuitKey, StreamKey, StreamId) {
        let mut world = self;
        let stream = world.stream(circuit);
        world.run();
        let (command, id, _) = world.told.pop().unwrap();
        assert_eq!(command, RelayCommand::BEGIN);
        world.say(RelayCommand::CONNECTED, id, CONNECTED);
        let address = Some((IpAddr::from(Ipv4Addr::LOCALHOST), 9));
        assert_eq!(world.events(), [Event::StreamConnected { stream, address }]);
        world.ready();
        (world, circuit, stream, id)
    }

    pub(super) fn stream(&mut self, circuit: CircuitKey) -> StreamKey {
        let host = Host::Name("example.net".into());
        let begin = Begin {
            host,
            port: 80,
            flags: BeginFlags::default(),
        };
        self.plane
            .open_stream(circuit, &StreamTarget::Begin(begin), self.now)
            .unwrap()
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.plane.poll_event()).collect()
    }

    pub(super) fn ready(&mut self) -> (Vec<ChannelKey>, Vec<StreamKey>) {
        let (mut channels, mut streams) = (Vec::new(), Vec::new());
        self.plane.take_ready(&mut channels, &mut streams);
        (channels, streams)
    }

    /// One TLS record of the plane's output goes to the relay.
    fn step(&mut self) {
        let mut out = Vec::new();
        self.plane.take_output(self.channel, &mut out, self.now);
        let (cells, rest) = out.as_chunks_mut::<CELL_LEN>();
        assert!(rest.is_empty());
        for cell in cells {
            self.at_relay(cell);
        }
    }

    pub(super) fn run(&mut self) {
        while self.plane.has_output(self.channel) {
            self.step();
        }
    }

    fn at_relay(&mut self, cell: &mut CellBuf) {
        let (circ_id, command) = (cell::circ_id(cell), cell::command(cell));
        let payload = cell::payload_mut(cell);
        match command {
            Command::CREATE2 => {
                let job = OnionskinJob::new(&Create2::read(payload).unwrap()).unwrap();
                let job = job.granting(Some(31));
                let reply = job.run(&self.keys, &mut self.rng).unwrap();
                let congestion = reply.sendme_inc_cells.map(|_| congestion());
                let (layer, _) = RelayLayer::new(reply.cipher, reply.keys);
                let relay = RelayCircuit::with_layer(layer);
                self.relay = Some(relay.with_congestion(congestion));
                self.circ_id = circ_id;
                let mut cell = cell::new_cell(circ_id, Command::CREATED2);
                Created2 { data: &reply.data }
                    .write(cell::payload_mut(&mut cell))
                    .unwrap();
                self.deliver(&mut cell);
            }
            // Asked whether it is there, a relay answers.
            Command::CREATE_FAST => {
                self.asked.push(circ_id);
                let mut cell = cell::new_cell(circ_id, Command::CREATED_FAST);
                self.deliver(&mut cell);
            }
            Command::DESTROY if self.asked.contains(&circ_id) => {}
            Command::DESTROY => self.destroyed.push(DestroyReason::read(payload)),
            Command::RELAY => {
                let relay = self.relay.as_mut().unwrap();
                let here = relay.handle_forward(command, payload).unwrap();
                assert!(matches!(here, Forward::Here(_)));
                let said = relay.format().read(payload).unwrap();
                match (said.command, said.stream_id) {
                    (RelayCommand::SENDME, StreamId::NONE) => {
                        let queue = LocalQueue::default();
                        relay
                            .handle_sendme(said.data, queue, self.now.mono)
                            .unwrap();
                    }
                    (command, id) => self.told.push((command, id, said.data.to_vec())),
                }
            }
            command => panic!("{command:?}"),
        }
    }

    fn deliver(&mut self, cell: &mut CellBuf) {
        let bytes = self.plane.handle_cells(self.channel, cell, self.now);
        assert_eq!(bytes, Ok(CELL_LEN));
    }

    /// The relay says something.
    pub(super) fn say(&mut self, command: RelayCommand, id: StreamId, data: &[u8]) {
        let mut cell = cell::new_cell(self.circ_id, Command::RELAY);
        let relay = self.relay.as_mut().unwrap();
        relay
            .originate(
                cell::payload_mut(&mut cell),
                command,
                id,
                data,
                &mut self.rng,
                self.now.mono,
            )
            .unwrap();
        self.deliver(&mut cell);
    }

    pub(super) fn told_count(&self, command: RelayCommand) -> usize {
        self.told.iter().filter(|told| told.0 == command).count()
    }
}

#[test]
fn a_stream_from_begin_to_end() {
    let (mut world, circuit) = World::built();
    let stream = world.stream(circuit);
    // Optimistic data: the answer has not come.
    world.plane.stream_send(stream, b"GET /", world.now);
    assert_eq!(world.ready().0, [world.channel]);
    world.run();
    let id = world.told[0].1;
    let expected = [
        (RelayCommand::BEGIN, id, b"example.net:80\0".to_vec()),
        (RelayCommand::DATA, id, b"GET /".to_vec()),
    ];
    assert_eq!(world.told, expected);
    world.say(RelayCommand::CONNECTED, id, &[]);
    world.say(RelayCommand::DATA, id, b"200 ");
    world.say(RelayCommand::DATA, id, b"OK");
    assert_eq!(world.ready().1, [stream]);
    let mut out = Vec::new();
    let read = world.plane.stream_take(stream, &mut out, 100);
    assert_eq!(
        (read, &out[..]),
        (
            StreamRead {
                more: false,
                end: None
            },
            &b"200 OK"[..]
        )
    );
    world.say(RelayCommand::END, id, &[6]);
    let read = world.plane.stream_take(stream, &mut out, 100);
    assert_eq!(read.end, Some(EndReason::DONE));
    let events = [
        Event::StreamConnected {
            stream,
            address: None,
        },
        Event::StreamEnded {
            stream,
            end: EndReason::DONE.into(),
        },
    ];
    assert_eq!(world.events(), events);
    world.plane.stream_close(stream, EndReason::DONE, world.now);
    world.run();
    assert_eq!(
        world.told_count(RelayCommand::END),
        0,
        "END is not answered with END"
    );
    assert_eq!(world.plane.stream_room(stream), 0);
    assert_eq!(world.plane.circuit_status(circuit).unwrap().stream_count, 0);
}

#[test]
fn the_queue_and_the_stream_window_stop_a_sender() {
    let (mut world, _, stream, id) = World::connected();
    let mut sent = 0;
    while let room @ 1.. = world.plane.stream_room(stream) {
        assert!(room <= STREAM_ROOM_MAX_CELLS * 498);
        world.plane.stream_send(stream, &vec![7; room], world.now);
        sent += room / 498;
    }
    assert_eq!(sent, QUEUE_HIGH_CELLS);
    world.ready();
    for _ in 0..6 {
        world.step();
    }
    assert!(world.ready().1.is_empty(), "above the low mark");
    world.step();
    assert_eq!(world.ready().1, [stream]);
    loop {
        let room = world.plane.stream_room(stream);
        world.plane.stream_send(stream, &vec![7; room], world.now);
        world.run();
        if room == 0 {
            break;
        }
    }
    assert_eq!(world.told_count(RelayCommand::DATA), 500);
    world.ready();
    world.say(RelayCommand::SENDME, id, &[]);
    assert_eq!(world.ready().1, [stream]);
    assert_eq!(world.plane.stream_room(stream), 32 * 498);
}

#[test]
fn streams_of_a_circuit_take_turns() {
    let (mut world, circuit, _, _) = World::connected();
    let mut streams: Vec<StreamKey> = (0..4).map(|_| world.stream(circuit)).collect();
    streams.sort_by_key(|key| world.plane.streams.by_key[*key].stream.id());
    world.run();
    let relay_window = |world: &mut World| {
        // All tags of the cells sent so far are the relay's to give back; a version 0 SENDME is
        // taken without one.
        world.say(RelayCommand::SENDME, StreamId::NONE, &[]);
    };
    for stream in streams.iter().cycle() {
        let room = world.plane.stream_room(*stream);
        world.plane.stream_send(*stream, &vec![1; room], world.now);
        world.run();
        if room == 0
            && streams
                .iter()
                .all(|stream| world.plane.stream_room(*stream) == 0)
        {
            break;
        }
    }
    assert_eq!(world.told_count(RelayCommand::DATA), 1000);
    world.ready();
    let mut served = Vec::new();
    for _ in 0..4 {
        relay_window(&mut world);
        let ready = world.ready().1;
        assert_eq!(ready.len(), 5);
        for stream in ready.into_iter().filter(|stream| streams.contains(stream)) {
            let room = world.plane.stream_room(stream);
            world.plane.stream_send(stream, &vec![1; room], world.now);
            world.run();
            served.extend((room > 0).then_some(stream));
        }
    }
    for stream in streams {
        let turns = served.iter().filter(|served| **served == stream).count();
        assert!(
            (3..=5).contains(&turns),
            "{turns} turns of {}",
            served.len()
        );
    }
}

#[test]
fn the_far_end_hears_only_of_what_was_written() {
    let (mut world, circuit, stream, id) = World::connected();
    for _ in 0..500 {
        world.say(RelayCommand::DATA, id, &[1; 498]);
    }
    let mut out = Vec::new();
    let read = world.plane.stream_take(stream, &mut out, usize::MAX);
    assert_eq!((read.more, out.len()), (false, 500 * 498));
    world.run();
    assert_eq!(world.told_count(RelayCommand::SENDME), 0);
    world.plane.stream_written(stream, 120 * 498, world.now);
    world.run();
    assert_eq!(world.told_count(RelayCommand::SENDME), 2);
    for _ in 0..100 {
        world.say(RelayCommand::DATA, id, &[1; 498]);
    }
    assert!(world.events().is_empty());
    world.say(RelayCommand::DATA, id, &[1]);
    let reason = CircuitClose::Violation(OriginViolation::Window(WindowViolation::StreamOverrun));
    let end = EndReason::DESTROY.into();
    let events = [
        Event::StreamEnded { stream, end },
        Event::CircuitClosed { circuit, reason },
    ];
    assert_eq!(world.events(), events);
    world.run();
    assert_eq!(world.destroyed, [DestroyReason::NONE]);
}

#[test]
fn what_crosses_our_end_is_tolerated() {
    let (mut world, circuit, stream, id) = World::connected();
    world
        .plane
        .stream_close(stream, EndReason::CONNRESET, world.now);
    world.run();
    assert_eq!(world.told.pop(), Some((RelayCommand::END, id, vec![1])));
    for _ in 0..500 {
        world.say(RelayCommand::DATA, id, b"late");
    }
    let dropped = |world: &World| world.plane.circuit_status(circuit).unwrap().dropped_cells;
    assert_eq!(dropped(&world), 0);
    world.say(RelayCommand::CONNECTED, id, &[]);
    assert_eq!(dropped(&world), 1);
    world.say(RelayCommand::END, id, &[6]);
    assert_eq!(dropped(&world), 1);
    world.say(RelayCommand::DATA, id, b"too late");
    world.say(RelayCommand::BEGIN, StreamId(1), b"x:1\0");
    assert_eq!(dropped(&world), 3);
    assert!(world.events().is_empty());
}

#[test]
fn look_ups() {
    let (mut world, circuit) = World::built();
    let target = StreamTarget::Resolve(Resolve::Host(Host::Name("example.net".into())));
    let stream = world
        .plane
        .open_stream(circuit, &target, world.now)
        .unwrap();
    assert_eq!(world.plane.stream_room(stream), 0);
    world.run();
    let (command, id, data) = world.told.pop().unwrap();
    assert_eq!(
        (command, &data[..]),
        (RelayCommand::RESOLVE, &b"example.net\0"[..])
    );
    world.say(RelayCommand::CONNECTED, id, CONNECTED);
    assert!(world.events().is_empty());
    let value = AnswerValue::Ip(Ipv4Addr::LOCALHOST.into());
    let answers = vec![Answer { value, ttl: 60 }];
    let mut body = Vec::new();
    Resolved {
        answers: answers.clone(),
    }
    .write(&mut body)
    .unwrap();
    world.say(RelayCommand::RESOLVED, id, &body);
    assert_eq!(world.events(), [Event::StreamResolved { stream, answers }]);
    assert_eq!(world.plane.circuit_status(circuit).unwrap().stream_count, 0);
}

#[test]
fn cells_of_the_channel() {
    let (mut world, _) = World::built();
    let mut buf = Vec::new();
    for command in [Command::PADDING, Command::PADDING_NEGOTIATE, Command(99)] {
        buf.extend_from_slice(&cell::new_cell(CircId::NONE, command));
    }
    buf.extend_from_slice(&[0, 0, 0, 0, 128, 0, 1, 5]);
    buf.extend_from_slice(&cell::new_cell(CircId(5), Command::CREATE2));
    let whole = buf.len();
    buf.extend_from_slice(&[0; 513]);
    assert_eq!(
        world.plane.handle_cells(world.channel, &mut buf, world.now),
        Ok(whole)
    );
    world.run();
    assert_eq!(world.destroyed, [DestroyReason::PROTOCOL]);
    let mut netinfo = cell::new_cell(CircId::NONE, Command::NETINFO);
    let error = world
        .plane
        .handle_cells(world.channel, &mut netinfo, world.now);
    assert_eq!(error, Err(ChannelClose::Unexpected(Command::NETINFO)));
    let mut versions = [0, 0, 0, 0, 7, 0, 2, 0, 4];
    let error = world
        .plane
        .handle_cells(world.channel, &mut versions, world.now);
    assert_eq!(error, Err(ChannelClose::Unexpected(Command::VERSIONS)));
}

proptest! {
    #[test]
    fn garbage_never_panics(
        messages in proptest::collection::vec(
            (any::<u8>(), any::<bool>(), any::<[u8; 24]>()),
            1..40,
        ),
        mut bytes in proptest::collection::vec(any::<u8>(), 0..3000),
    ) {
        let (mut world, circuit, stream, id) = World::connected();
        for (command, known, data) in messages {
            let id = if known { id } else { StreamId(u16::from(data[0])) };
            world.say(RelayCommand(command % 45), id, &data);
            world.plane.stream_send(stream, b"x", world.now);
            if world.plane.circuit_status(circuit).is_none() {
                break;
            }
        }
        let _ = world.plane.handle_cells(world.channel, &mut bytes, world.now);
        world.plane.stream_take(stream, &mut Vec::new(), 10);
        let _ = world.events();
    }
}
