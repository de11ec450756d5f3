//! A visitor's plane and a service's, back to back over a rendezvous point in memory.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use cepa_circuit::onionskin::{OnionKeys, OnionskinJob};
use cepa_circuit::origin::BuildError;
use cepa_circuit::{Forward, RelayCircuit};
use cepa_crypto::hs_ntor::{self, ClientState};
use cepa_crypto::{Ed25519Id, Rng, RsaId, curve25519, ed25519};
use cepa_link::{ChannelKey, Established};
use cepa_wire::begin::Begin;
use cepa_wire::begin::BeginFlags;
use cepa_wire::cell::{self, CELL_LEN, CellBuf, CircId, Command};
use cepa_wire::create::{Create2, Created2};
use cepa_wire::host::Host;
use cepa_wire::linkspec::LinkSpecifiers;
use cepa_wire::relay;
use proptest::prelude::{any, proptest};

use super::*;
use crate::plane::INBOUND_STREAMS_MAX;
use crate::plane::{HopKey, HopSpec, OpenStreamError, StreamTarget};

/// One side: a plane with a circuit of one hop, and that hop's end of it.
struct Side {
    plane: Plane,
    channel: ChannelKey,
    circuit: CircuitKey,
    circ_id: CircId,
    relay: Option<RelayCircuit>,
    /// What the rendezvous point was told.
    told: Vec<RelayCommand>,
    is_destroyed: bool,
}

const VISITOR: usize = 0;
const SERVICE: usize = 1;

struct Meeting {
    sides: [Side; 2],
    keys: OnionKeys,
    now: Now,
    rng: Rng,
}

fn side(keys: &OnionKeys, now: Now, rng: &mut Rng) -> Side {
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
    let channel = plane.add_channel(link, now);
    let hop = HopSpec {
        link_specifiers: LinkSpecifiers::new(None, keys.rsa, None, None),
        key: HopKey::Ntor {
            rsa: keys.rsa,
            onion_key: *keys.ntor[0].public(),
        },
        congestion: None,
    };
    let circuit = plane.open_circuit(channel, hop, Vec::new(), now).unwrap();
    Side {
        plane,
        channel,
        circuit,
        circ_id: CircId::NONE,
        relay: None,
        told: Vec::new(),
        is_destroyed: false,
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
fn apart() -> Meeting {
    let mut rng = Rng::from_seed([1; 32]);
    let now = Now {
        mono: Instant::now(),
        wall: SystemTime::UNIX_EPOCH,
    };
    let keys = OnionKeys {
        rsa: RsaId::from([3; 20]),
        ed: Ed25519Id::from([4; 32]),
        ntor: vec![curve25519::SecretKey::generate(&mut rng)],
    };
    let sides = [(); 2].map(|()| side(&keys, now, &mut rng));
    let mut meeting = Meeting {
        sides,
        keys,
        now,
        rng,
    };
    meeting.run();
    for side in [VISITOR, SERVICE] {
        let circuit = meeting.sides[side].circuit;
        assert_eq!(meeting.events(side), [Event::CircuitBuilt { circuit }]);
    }
    meeting
}

fn joined() -> Meeting {
    let mut meeting = apart();
    let rng = &mut meeting.rng;
    let enc = curve25519::SecretKey::generate(rng);
    let auth = ed25519::Keypair::generate(rng).public();
    let (client, _) = ClientState::begin(rng, enc.public(), &auth, &[5; 32]).unwrap();
    let (reply, service) = hs_ntor::service_rendezvous(rng, &enc, client.public(), &auth).unwrap();
    let layers = [
        client.finish(&reply).unwrap().client_layer(),
        service.service_layer(),
    ];
    for ((side, layer), serves) in meeting.sides.iter_mut().zip(layers).zip([false, true]) {
        side.plane.listen(side.circuit);
        side.plane
            .join_circuit(side.circuit, layer, None, serves)
            .unwrap();
    }
    meeting
}

impl Meeting {
    fn events(&mut self, side: usize) -> Vec<Event> {
        std::iter::from_fn(|| self.sides[side].plane.poll_event()).collect()
    }

    /// Moves cells until none is under way.
    fn run(&mut self) {
        let mut idle = 0;
        for at in (0..2).cycle() {
            let mut out = Vec::new();
            let side = &mut self.sides[at];
            side.plane.take_output(side.channel, &mut out, self.now);
            idle = if out.is_empty() { idle + 1 } else { 0 };
            if idle == 2 {
                return;
            }
            for bytes in out.chunks_exact_mut(CELL_LEN) {
                self.at_relay(at, bytes.try_into().unwrap());
            }
        }
    }

    fn at_relay(&mut self, at: usize, cell: &mut CellBuf) {
        let (circ_id, command) = (cell::circ_id(cell), cell::command(cell));
        let payload = cell::payload_mut(cell);
        match command {
            Command::CREATE2 => {
                let job = OnionskinJob::new(&Create2::read(payload).unwrap()).unwrap();
                let reply = job.run(&self.keys, &mut self.rng).unwrap();
                self.sides[at].relay = Some(RelayCircuit::new(&reply.keys.tor1()));
                self.sides[at].circ_id = circ_id;
                let mut cell = cell::new_cell(circ_id, Command::CREATED2);
                let created = Created2 { data: &reply.data };
                created.write(cell::payload_mut(&mut cell)).unwrap();
                self.deliver(at, &mut cell);
            }
            Command::DESTROY => self.sides[at].is_destroyed = true,
            _ => {
                let relay = self.sides[at].relay.as_mut().unwrap();
                match relay.handle_forward(command, payload).unwrap() {
                    Forward::Here(_) => self.sides[at].told.push(relay::command(payload)),
                    // What is for nobody here goes to the other one, as at a rendezvous point.
                    Forward::Onward => {
                        let other = &mut self.sides[1 - at];
                        other.relay.as_mut().unwrap().backward(payload);
                        cell::set_header(cell, other.circ_id, Command::RELAY);
                        self.deliver(1 - at, cell);
                    }
                }
            }
        }
    }

    fn deliver(&mut self, at: usize, cell: &mut CellBuf) {
        let side = &mut self.sides[at];
        let handled = side.plane.handle_cells(side.channel, cell, self.now);
        assert_eq!(handled, Ok(CELL_LEN));
    }

    /// The rendezvous point says something.
    fn relay_says(&mut self, at: usize, command: RelayCommand, id: StreamId, data: &[u8]) {
        let side = &mut self.sides[at];
        let mut cell = cell::new_cell(side.circ_id, Command::RELAY);
        let payload = cell::payload_mut(&mut cell);
        let relay = side.relay.as_mut().unwrap();
        relay
            .originate(payload, command, id, data, &mut self.rng, self.now.mono)
            .unwrap();
        self.deliver(at, &mut cell);
    }

    /// The visitor says something that its plane would not.
    fn visitor_says(&mut self, command: RelayCommand, id: StreamId, data: &[u8]) {
        let side = &mut self.sides[VISITOR];
        let sent = side
            .plane
            .send_message(side.circuit, 1, command, id, data, self.now);
        assert!(sent);
        self.run();
    }

    /// A stream of the visitor's to port 80, as the service sees it.
    fn request(&mut self) -> [StreamKey; 2] {
        let begin = Begin {
            host: Host::Name(String::new()),
            port: 80,
            flags: BeginFlags::default(),
        };
        let target = StreamTarget::Begin(begin.clone());
        let side = &mut self.sides[VISITOR];
        let ours = side
            .plane
            .open_stream(side.circuit, &target, self.now)
            .unwrap();
        self.run();
        let events = self.events(SERVICE);
        let [
            Event::StreamRequested {
                stream,
                begin: seen,
            },
        ] = &events[..]
        else {
            panic!("requested, not {events:?}");
        };
        assert_eq!(*seen, begin);
        [ours, *stream]
    }

    fn accept(&mut self) -> [StreamKey; 2] {
        let streams = self.request();
        assert!(
            self.sides[SERVICE]
                .plane
                .stream_accept(streams[SERVICE], self.now)
        );
        self.run();
        let (stream, address) = (streams[VISITOR], None);
        let connected = Event::StreamConnected { stream, address };
        assert_eq!(self.events(VISITOR), [connected]);
        streams
    }

    fn ready(&mut self, side: usize) -> Vec<StreamKey> {
        let (mut channels, mut streams) = (Vec::new(), Vec::new());
        let plane = &mut self.sides[side].plane;
        plane.take_ready(&mut channels, &mut streams);
        streams
    }

    fn dropped(&self, side: usize) -> u64 {
        let side = &self.sides[side];
        let status = side.plane.circuit_status(side.circuit);
        status.unwrap().dropped_cells
    }

    /// Sends what there is room for, until there is none or all is sent; how much was sent.
    fn push(&mut self, side: usize, stream: StreamKey, left: usize) -> usize {
        let mut sent = 0;
        while sent < left {
            let plane = &mut self.sides[side].plane;
            let room = plane.stream_room(stream).min(left - sent);
            if room == 0 {
                break;
            }
            plane.stream_send(stream, &vec![7; room], self.now);
            sent += room;
            self.run();
        }
        sent
    }

    fn pull(&mut self, side: usize, stream: StreamKey) -> usize {
        let mut out = Vec::new();
        let plane = &mut self.sides[side].plane;
        plane.stream_take(stream, &mut out, usize::MAX);
        plane.stream_written(stream, out.len(), self.now);
        self.run();
        out.len()
    }
}

#[test]
fn a_stream_between_visitor_and_service() {
    let mut meeting = joined();
    let [ours, theirs] = meeting.request();
    assert_eq!(meeting.sides[SERVICE].plane.stream_room(theirs), 0);
    // Optimistic data comes before the answer.
    meeting.push(VISITOR, ours, 5);
    assert_eq!(meeting.ready(SERVICE), [theirs]);
    assert!(
        meeting.sides[SERVICE]
            .plane
            .stream_accept(theirs, meeting.now)
    );
    assert_eq!(meeting.ready(SERVICE), [theirs]);
    assert_eq!(meeting.pull(SERVICE, theirs), 5);
    assert_eq!(meeting.push(SERVICE, theirs, 2000), 2000);
    assert_eq!(meeting.pull(VISITOR, ours), 2000);
    // A visitor hears why.
    let (service, now) = (&mut meeting.sides[SERVICE].plane, meeting.now);
    service.stream_close(theirs, EndReason::CONNRESET, now);
    meeting.run();
    let read = meeting.sides[VISITOR]
        .plane
        .stream_take(ours, &mut Vec::new(), 1);
    assert_eq!(read.end, Some(EndReason::CONNRESET));
    assert!(
        !meeting.sides[SERVICE]
            .plane
            .stream_accept(theirs, meeting.now)
    );
    assert!(meeting.sides.iter().all(|side| side.told.is_empty()));
}

/// A visitor that opens streams which nobody reads is closed when memory is short, and before that
/// opens no more; what has come for other streams is still to be had.
#[test]
fn unread_streams_are_bounded() {
    let mut meeting = joined();
    let memory = cepa_limits::Memory::new(1 << 20);
    let plane = &mut meeting.sides[SERVICE].plane;
    plane.share_memory(std::sync::Arc::clone(&memory));
    let first = meeting.accept();
    for _ in 0..4 {
        let [ours, _] = meeting.accept();
        meeting.push(VISITOR, ours, 240_000);
        if meeting.sides[SERVICE].is_destroyed {
            break;
        }
    }
    let service = &mut meeting.sides[SERVICE];
    assert!(service.is_destroyed);
    assert!(memory.total_bytes() <= 1 << 20, "{}", memory.total_bytes());
    assert!(memory.freed_bytes(cepa_limits::MemoryClass::Streams) > 100_000);
    let read = service
        .plane
        .stream_take(first[SERVICE], &mut Vec::new(), 1);
    assert_eq!(read.end, Some(EndReason::DESTROY));
    // The next one finds no room for streams.
    let mut meeting = joined();
    let full = cepa_limits::Memory::new(32 << 10);
    meeting.sides[SERVICE].plane.share_memory(full);
    let [ours, _] = meeting.accept();
    meeting.visitor_says(RelayCommand::BEGIN, StreamId(9), b":80\0");
    assert!(meeting.events(SERVICE).is_empty());
    assert_eq!(meeting.push(VISITOR, ours, 5), 5);
}

#[test]
fn refused_streams_and_those_that_visitors_give_up() {
    let mut meeting = joined();
    let [ours, theirs] = meeting.request();
    let (service, now) = (&mut meeting.sides[SERVICE].plane, meeting.now);
    service.stream_refuse(theirs, EndReason::CONNECTREFUSED, now);
    meeting.run();
    let end = EndReason::CONNECTREFUSED.into();
    let ended = Event::StreamEnded { stream: ours, end };
    assert_eq!(meeting.events(VISITOR), [ended]);
    let [ours, theirs] = meeting.request();
    let visitor = &mut meeting.sides[VISITOR].plane;
    visitor.stream_close(ours, EndReason::DONE, now);
    meeting.run();
    let end = EndReason::MISC.into();
    let ended = Event::StreamEnded {
        stream: theirs,
        end,
    };
    assert_eq!(meeting.events(SERVICE), [ended]);
    assert!(!meeting.sides[SERVICE].plane.stream_accept(theirs, now));
    let service = &mut meeting.sides[SERVICE].plane;
    service.stream_close(theirs, EndReason::DONE, now);
    meeting.run();
    assert_eq!((meeting.dropped(VISITOR), meeting.dropped(SERVICE)), (0, 0));
}

#[test]
fn back_pressure_reaches_over_the_rendezvous() {
    let mut meeting = joined();
    let [ours, theirs] = meeting.accept();
    let window = 500 * cepa_wire::relay::RELAY_DATA_MAX;
    assert_eq!(meeting.push(SERVICE, theirs, 10 * window), window);
    let [_, second] = meeting.accept();
    assert_eq!(meeting.push(SERVICE, second, 10 * window), window);
    meeting.ready(SERVICE);
    // The circuit's window goes on, as cells arrive; the stream's only as bytes are taken.
    let mut all = window;
    for _ in 0..6 {
        assert_eq!(meeting.pull(VISITOR, ours), window);
        assert!(meeting.ready(SERVICE).contains(&theirs));
        assert_eq!(meeting.push(SERVICE, theirs, 10 * window), window);
        all += window;
    }
    assert_eq!(all, 7 * window);
    assert!(meeting.events(VISITOR).is_empty() && meeting.events(SERVICE).is_empty());
}

#[test]
fn streams_are_the_visitors_to_open() {
    let mut meeting = joined();
    let target = StreamTarget::BeginDir;
    let service = &mut meeting.sides[SERVICE];
    let opened = service
        .plane
        .open_stream(service.circuit, &target, meeting.now);
    assert_eq!(opened, Err(OpenStreamError::Serves));
    // The service may not open any at a visitor, nor the rendezvous point at anybody.
    for side in [VISITOR, SERVICE] {
        meeting.relay_says(side, RelayCommand::BEGIN, StreamId(9), b":80\0");
        assert_eq!(meeting.dropped(side), 1);
    }
    let service = &mut meeting.sides[SERVICE];
    let (plane, circuit) = (&mut service.plane, service.circuit);
    assert!(plane.send_message(
        circuit,
        1,
        RelayCommand::BEGIN,
        StreamId(9),
        b":80\0",
        meeting.now
    ));
    meeting.run();
    assert_eq!(meeting.dropped(VISITOR), 2);
    assert!(meeting.events(VISITOR).is_empty() && meeting.events(SERVICE).is_empty());
}

#[test]
fn what_a_visitor_may_not_say() {
    let mut meeting = joined();
    meeting.visitor_says(RelayCommand::BEGIN, StreamId::NONE, b":80\0");
    meeting.visitor_says(RelayCommand::RESOLVE, StreamId(5), b"example.net\0");
    meeting.visitor_says(RelayCommand::INTRODUCE2, StreamId::NONE, b"x");
    meeting.visitor_says(RelayCommand::DATA, StreamId(5), b"x");
    assert_eq!(meeting.dropped(SERVICE), 4);
    let [_, theirs] = meeting.request();
    let id = meeting.sides[SERVICE].plane.streams.by_key[theirs]
        .stream
        .id();
    meeting.visitor_says(RelayCommand::BEGIN, id, b":80\0");
    meeting.visitor_says(RelayCommand::CONNECTED, id, b"");
    assert_eq!(meeting.dropped(SERVICE), 6);
    // Refused, with the reason, and no stream.
    for (command, body, reason) in [
        (RelayCommand::BEGIN_DIR, &b""[..], EndReason::NOTDIRECTORY),
        (RelayCommand::BEGIN, b":0\0", EndReason::TORPROTOCOL),
        (RelayCommand::BEGIN, b"no end", EndReason::TORPROTOCOL),
    ] {
        let hop = 1;
        let circuit = meeting.sides[VISITOR].circuit;
        let begun = Stream::begin(StreamId(77));
        let streams = &mut meeting.sides[VISITOR].plane.streams;
        let stream = streams.add((circuit, hop), StreamKind::Data, begun);
        let visitor = &mut meeting.sides[VISITOR].plane;
        visitor.circuits[circuit]
            .streams
            .insert(StreamId(77), stream);
        meeting.visitor_says(command, StreamId(77), body);
        let end = reason.into();
        assert_eq!(
            meeting.events(VISITOR),
            [Event::StreamEnded { stream, end }]
        );
    }
    assert!(meeting.events(SERVICE).is_empty());
}

#[test]
fn streams_without_end_are_bounded() {
    let mut meeting = joined();
    let mut begun = VecDeque::new();
    for _ in 0..INBOUND_STREAMS_MAX {
        begun.push_back(meeting.request());
    }
    // The visitor ends them all: they count until our own side has let go of them.
    for [ours, _] in &begun {
        let visitor = &mut meeting.sides[VISITOR].plane;
        visitor.stream_close(*ours, EndReason::DONE, meeting.now);
    }
    meeting.run();
    assert_eq!(meeting.events(SERVICE).len(), INBOUND_STREAMS_MAX);
    let id = StreamId(7);
    meeting.visitor_says(RelayCommand::BEGIN, id, b":80\0");
    assert!(meeting.events(SERVICE).is_empty());
    let [_, theirs] = begun.pop_front().unwrap();
    let service = &mut meeting.sides[SERVICE].plane;
    service.stream_close(theirs, EndReason::DONE, meeting.now);
    meeting.request();
    // An id that we ended may be used again at once.
    let theirs = begun.pop_front().unwrap()[SERVICE];
    let service = &mut meeting.sides[SERVICE].plane;
    service.stream_refuse(theirs, EndReason::DONE, meeting.now);
    meeting.visitor_says(RelayCommand::BEGIN, id, b":80\0");
    let events = meeting.events(SERVICE);
    let [Event::StreamRequested { stream, .. }] = events[..] else {
        panic!("{events:?}");
    };
    let service = &mut meeting.sides[SERVICE].plane;
    service.stream_refuse(stream, EndReason::DONE, meeting.now);
    meeting.run();
    meeting.visitor_says(RelayCommand::BEGIN, id, b":80\0");
    assert_eq!(meeting.events(SERVICE).len(), 1);
}

#[test]
fn messages_of_the_last_hop() {
    let mut meeting = apart();
    let say = |meeting: &mut Meeting, command, id| {
        meeting.relay_says(VISITOR, command, id, b"body");
    };
    // Nobody listens yet.
    say(
        &mut meeting,
        RelayCommand::INTRO_ESTABLISHED,
        StreamId::NONE,
    );
    assert_eq!(meeting.dropped(VISITOR), 1);
    let circuit = meeting.sides[VISITOR].circuit;
    meeting.sides[VISITOR].plane.listen(circuit);
    for command in [
        RelayCommand::INTRO_ESTABLISHED,
        RelayCommand::INTRODUCE2,
        RelayCommand::INTRODUCE_ACK,
        RelayCommand::RENDEZVOUS_ESTABLISHED,
        RelayCommand::RENDEZVOUS2,
    ] {
        say(&mut meeting, command, StreamId::NONE);
        let data = b"body".to_vec();
        let message = Event::CircuitMessage {
            circuit,
            command,
            data,
        };
        assert_eq!(meeting.events(VISITOR), [message]);
    }
    for command in [RelayCommand::ESTABLISH_INTRO, RelayCommand::RENDEZVOUS1] {
        say(&mut meeting, command, StreamId::NONE);
    }
    say(&mut meeting, RelayCommand::INTRODUCE2, StreamId(4));
    assert_eq!(meeting.dropped(VISITOR), 4);
    let kh = meeting.sides[VISITOR].plane.circuit_kh(circuit);
    assert!(kh.is_some_and(|kh| *kh != [0; 20]));
    let visitor = &mut meeting.sides[VISITOR].plane;
    let command = RelayCommand::ESTABLISH_RENDEZVOUS;
    assert!(visitor.send_control(circuit, command, &[1; 20], meeting.now));
    assert!(!visitor.send_control(circuit, command, &[1; 499], meeting.now));
    meeting.run();
    assert_eq!(meeting.sides[VISITOR].told, [command]);
    // Once a peer is joined, the rendezvous point has nothing more to say.
    let mut meeting = joined();
    say(&mut meeting, RelayCommand::RENDEZVOUS2, StreamId::NONE);
    assert_eq!(meeting.dropped(VISITOR), 1);
    let circuit = meeting.sides[VISITOR].circuit;
    let layer = HopLayer::tor1(&cepa_crypto::tor1::Keys::read(&[7; 72]));
    let error = meeting.sides[VISITOR]
        .plane
        .join_circuit(circuit, layer, None, true);
    assert_eq!(error, Err(JoinError::Build(BuildError::Joined)));
    meeting.request();
}

proptest! {
    #[test]
    fn garbage_of_a_visitor_never_panics(
        messages in proptest::collection::vec((0_u8..45, 0_u16..4, any::<[u8; 24]>()), 1..60),
    ) {
        let mut meeting = joined();
        for (command, id, data) in messages {
            let (command, id) = (RelayCommand(command), StreamId(id));
            meeting.visitor_says(command, id, &data);
            for event in meeting.events(SERVICE) {
                if let Event::StreamRequested { stream, .. } = event {
                    let service = &mut meeting.sides[SERVICE].plane;
                    service.stream_accept(stream, meeting.now);
                    service.stream_send(stream, b"x", meeting.now);
                }
            }
            // A visitor that closes its own circuit by what it hears has nothing more to say.
            let visitor = &meeting.sides[VISITOR];
            if visitor.plane.circuit_status(visitor.circuit).is_none() {
                break;
            }
        }
    }
}
