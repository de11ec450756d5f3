//! The origin against a chain of relays in memory.

mod cgo;
mod congestion;

use super::*;
use crate::congestion::CongestionPath;
use crate::congestion::tests::epoch;
use crate::handshake::CongestionRequest;
use crate::onionskin::{OnionKeys, OnionskinJob};
use crate::relay::{Forward, RelayCircuit};
use cepa_crypto::layer::{Cipher, RelayLayer};
use cepa_crypto::{Ed25519Id, RsaId, curve25519, fast, tor1};
use cepa_wire::create::{Create2, CreateFast};
use cepa_wire::linkspec::LinkSpecifiers;
use cepa_wire::relay::{self, LengthError};
use proptest::prelude::{any, proptest};

const ID: CircId = CircId(0x8000_0001);
const STREAM: StreamId = StreamId(77);
const QUEUE: LocalQueue = LocalQueue {
    cells: 0,
    is_blocked: false,
};

struct TestRelay {
    keys: OnionKeys,
    circuit: Option<RelayCircuit>,
    early_seen: usize,
    /// Messages recognised here, with their tags.
    messages: Vec<(RelayCommand, StreamId, Vec<u8>, SendmeTag)>,
}

struct Chain {
    relays: Vec<TestRelay>,
    to_client: VecDeque<CellBuf>,
    rng: Rng,
}

impl Chain {
    fn new(count: u8) -> Chain {
        let mut rng = Rng::from_seed([1; 32]);
        let relays = (0..count)
            .map(|n| TestRelay {
                keys: OnionKeys {
                    rsa: RsaId::from([n; 20]),
                    ed: Ed25519Id::from([n; 32]),
                    ntor: vec![curve25519::SecretKey::generate(&mut rng)],
                },
                circuit: None,
                early_seen: 0,
                messages: Vec::new(),
            })
            .collect();
        Chain {
            relays,
            to_client: VecDeque::new(),
            rng,
        }
    }

    /// ntor for even hops, ntor-v3 for odd ones.
    fn hops(&self) -> Vec<HopSpec> {
        let spec = |(n, relay): (usize, &TestRelay)| {
            let onion_key = *relay.keys.ntor[0].public();
            let (rsa, ed) = (relay.keys.rsa, relay.keys.ed);
            HopSpec {
                link_specifiers: LinkSpecifiers::new(None, rsa, Some(ed), None),
                key: match n % 2 {
                    0 => HopKey::Ntor { rsa, onion_key },
                    _ => HopKey::NtorV3 { ed, onion_key },
                },
                congestion: None,
            }
        };
        self.relays.iter().enumerate().map(spec).collect()
    }

    fn create(&mut self, at: usize, create: &Create2<'_>) -> Vec<u8> {
        let job = OnionskinJob::new(create).unwrap().granting(Some(31));
        let relay = &mut self.relays[at];
        let reply = job.run(&relay.keys, &mut self.rng).unwrap();
        let congestion = reply.sendme_inc_cells.map(|_| congestion());
        let (layer, _) = RelayLayer::new(reply.cipher, reply.keys);
        let circuit = RelayCircuit::with_layer(layer).with_congestion(congestion);
        relay.circuit = Some(circuit);
        reply.data
    }

    /// A cell from the client.
    fn forward(&mut self, mut cell: CellBuf) {
        let command = cell::command(&cell);
        let mut reply = cell::new_cell(ID, Command::CREATED2);
        match command {
            Command::CREATE2 => {
                let create = Create2::read(cell::payload(&cell)).unwrap();
                let data = self.create(0, &create);
                Created2 { data: &data }
                    .write(cell::payload_mut(&mut reply))
                    .unwrap();
                self.to_client.push_back(reply);
            }
            Command::CREATE_FAST => {
                let create = CreateFast::read(cell::payload(&cell)).unwrap();
                let (y, derivative, keys) = fast::server(&mut self.rng, &create.x);
                self.relays[0].circuit = Some(RelayCircuit::new(&keys.tor1()));
                cell::set_header(&mut reply, ID, Command::CREATED_FAST);
                CreatedFast { y, derivative }.write(cell::payload_mut(&mut reply));
                self.to_client.push_back(reply);
            }
            _ => self.relay(command, &mut cell),
        }
    }

    fn relay(&mut self, command: Command, cell: &mut CellBuf) {
        let payload = cell::payload_mut(cell);
        for at in 0..self.relays.len() {
            let relay = &mut self.relays[at];
            relay.early_seen += usize::from(command == Command::RELAY_EARLY);
            let circuit = relay
                .circuit
                .as_mut()
                .expect("the circuit ends before the cell");
            if let Forward::Here(tag) = circuit.handle_forward(command, payload).unwrap() {
                let said = circuit.format().read(payload).unwrap();
                let message = (said.command, said.stream_id, said.data.to_vec(), tag);
                return self.message(at, command, message);
            }
        }
        panic!("no relay recognised the cell");
    }

    fn message(
        &mut self,
        at: usize,
        link_command: Command,
        message: (RelayCommand, StreamId, Vec<u8>, SendmeTag),
    ) {
        match message.0 {
            RelayCommand::EXTEND2 => {
                assert_eq!(link_command, Command::RELAY_EARLY);
                let extend = Extend2::read(&message.2).unwrap();
                assert_eq!(
                    extend.link_specifiers.rsa_id(),
                    Some(self.relays[at + 1].keys.rsa)
                );
                let (handshake_type, data) = (extend.handshake_type, extend.data);
                let reply = self.create(
                    at + 1,
                    &Create2 {
                        handshake_type,
                        data,
                    },
                );
                let mut body = Vec::new();
                Extended2 { data: &reply }.write(&mut body).unwrap();
                self.say(at, RelayCommand::EXTENDED2, StreamId::NONE, &body);
            }
            RelayCommand::SENDME if message.1 == StreamId::NONE => {
                let circuit = self.relays[at].circuit.as_mut().unwrap();
                circuit.handle_sendme(&message.2, QUEUE, epoch()).unwrap();
            }
            _ => self.relays[at].messages.push(message),
        }
    }

    /// A relay says something to the client.
    fn say(&mut self, at: usize, command: RelayCommand, stream_id: StreamId, data: &[u8]) {
        let mut cell = cell::new_cell(ID, Command::RELAY);
        let payload = cell::payload_mut(&mut cell);
        let circuit = self.relays[at].circuit.as_mut().unwrap();
        circuit
            .originate(payload, command, stream_id, data, &mut self.rng, epoch())
            .unwrap();
        for relay in self.relays[..at].iter_mut().rev() {
            relay.circuit.as_mut().unwrap().backward(payload);
        }
        self.to_client.push_back(cell);
    }
}

fn congestion() -> Congestion {
    Congestion {
        params: std::sync::Arc::default(),
        sendme_inc_cells: 31,
        path: CongestionPath::Exit,
    }
}

fn rng() -> Rng {
    Rng::from_seed([2; 32])
}

/// Lets the client read what waits; returns what it was, with data copied.
fn read_all(circuit: &mut OriginCircuit, chain: &mut Chain) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(mut cell) = chain.to_client.pop_front() {
        let mut sent = Vec::new();
        let received = circuit.handle_cell(
            &mut cell,
            QUEUE,
            &mut rng(),
            &mut |cell| sent.push(*cell),
            epoch(),
        );
        seen.push(match received {
            Ok(Received::Message {
                hop,
                command,
                stream_id,
                data,
            }) => {
                format!(
                    "{hop} {command} {} {}",
                    stream_id.0,
                    String::from_utf8_lossy(data)
                )
            }
            other => format!("{other:?}"),
        });
        for cell in sent {
            chain.forward(cell);
        }
    }
    seen
}

fn begin(chain: &mut Chain, hops: Vec<HopSpec>) -> OriginCircuit {
    let mut sent = Vec::new();
    let circuit =
        OriginCircuit::create(ID, hops, &mut rng(), &mut |cell| sent.push(*cell)).unwrap();
    sent.into_iter().for_each(|cell| chain.forward(cell));
    circuit
}

fn built(hops: u8) -> (OriginCircuit, Chain) {
    let mut chain = Chain::new(hops);
    let specs = chain.hops();
    let mut circuit = begin(&mut chain, specs);
    let seen = read_all(&mut circuit, &mut chain);
    assert_eq!(seen.last(), Some(&format!("Ok(Built({}))", hops - 1)));
    assert!(circuit.is_built());
    (circuit, chain)
}

fn say_to(circuit: &mut OriginCircuit, chain: &mut Chain, hop: usize, data: &[u8]) {
    let cell = circuit
        .write(hop, RelayCommand::DATA, STREAM, data, &mut rng(), epoch())
        .unwrap();
    chain.forward(cell);
}

#[test]
fn three_hops_and_data_both_ways() {
    let (mut circuit, mut chain) = built(3);
    assert_eq!((circuit.hop_count(), circuit.circ_id()), (3, ID));
    let early: Vec<usize> = chain.relays.iter().map(|relay| relay.early_seen).collect();
    assert_eq!(early, [2, 1, 0]);
    for hop in [2, 0, 1, 2] {
        say_to(&mut circuit, &mut chain, hop, b"there");
        let (command, stream_id, data, _) = chain.relays[hop].messages.last().unwrap();
        assert_eq!(
            (*command, *stream_id, &data[..]),
            (RelayCommand::DATA, STREAM, &b"there"[..])
        );
        chain.say(hop, RelayCommand::DATA, STREAM, b"back");
    }
    let seen = read_all(&mut circuit, &mut chain);
    assert_eq!(
        seen,
        [
            "2 DATA 77 back",
            "0 DATA 77 back",
            "1 DATA 77 back",
            "2 DATA 77 back"
        ]
    );
}

#[test]
fn create_fast_reaches_one_hop_and_a_built_circuit_extends() {
    let mut chain = Chain::new(2);
    let mut specs = chain.hops();
    specs[0].key = HopKey::Fast;
    let second = specs.pop().unwrap();
    let mut circuit = begin(&mut chain, specs);
    let not_yet = circuit.extend(second.clone(), &mut rng(), &mut |_| {});
    assert_eq!(not_yet, Err(BuildError::NotBuilt));
    assert_eq!(read_all(&mut circuit, &mut chain), ["Ok(Built(0))"]);
    let mut sent = Vec::new();
    circuit
        .extend(second, &mut rng(), &mut |cell| sent.push(*cell))
        .unwrap();
    chain.forward(sent[0]);
    assert_eq!(read_all(&mut circuit, &mut chain), ["Ok(Built(1))"]);
    let fast = HopSpec {
        link_specifiers: LinkSpecifiers::default(),
        key: HopKey::Fast,
        congestion: None,
    };
    let error = circuit.extend(fast, &mut rng(), &mut |_| {});
    assert_eq!(error, Err(HandshakeError::FastExtend.into()));
}

#[test]
fn nine_hops_are_the_most() {
    let (mut circuit, _) = built(9);
    let one_more = Chain::new(1).hops().remove(0);
    let error = circuit.extend(one_more, &mut rng(), &mut |_| {});
    assert_eq!(error, Err(BuildError::Hops));
    for count in [0, 10] {
        let hops = Chain::new(count).hops();
        let error = OriginCircuit::create(ID, hops, &mut rng(), &mut |_| {}).unwrap_err();
        assert_eq!(error, BuildError::Hops);
    }
}

#[test]
fn the_window_stops_at_1000_and_sendmes_move_it() {
    let (mut circuit, mut chain) = built(3);
    for n in 0..1000 {
        assert_eq!(circuit.room_cells(2), 1000 - n);
        say_to(&mut circuit, &mut chain, 2, b"x");
    }
    assert_eq!(
        (
            circuit.room_cells(2),
            circuit.room_cells(1),
            circuit.room_cells(3)
        ),
        (0, 1000, 0)
    );
    let tag = |chain: &Chain, n: usize| {
        let mut body = Vec::new();
        let (_, _, _, tag) = &chain.relays[2].messages[n - 1];
        let tag = sendme::SendmeTag::from_bytes(tag.as_bytes()).unwrap();
        Sendme::Authenticated(tag).write(&mut body);
        body
    };
    let (first, second) = (tag(&chain, 100), tag(&chain, 200));
    chain.say(2, RelayCommand::SENDME, StreamId::NONE, &first);
    chain.say(2, RelayCommand::SENDME, StreamId::NONE, &second);
    assert_eq!(
        read_all(&mut circuit, &mut chain),
        ["Ok(Room(2))", "Ok(Room(2))"]
    );
    assert_eq!(circuit.room_cells(2), 200);
    let wrong = tag(&chain, 301);
    chain.say(2, RelayCommand::SENDME, StreamId::NONE, &wrong);
    assert_eq!(
        read_all(&mut circuit, &mut chain),
        ["Err(Window(CircuitSendmeTag))"]
    );
    chain.say(1, RelayCommand::SENDME, StreamId::NONE, &first);
    chain.say(2, RelayCommand::SENDME, StreamId::NONE, &[1, 0]);
    assert_eq!(
        read_all(&mut circuit, &mut chain),
        [
            "Err(Window(CircuitSendmeEarly))",
            "Err(Sendme(Truncated(Truncated)))"
        ]
    );
}

#[test]
fn each_100th_data_cell_is_acknowledged_with_its_tag() {
    let (mut circuit, mut chain) = built(3);
    for n in 0..2500 {
        assert!(chain.relays[2].circuit.as_ref().unwrap().room_cells() > 0);
        // Streams that nobody knows count too; other messages do not.
        chain.say(2, RelayCommand::DATA, StreamId(n % 3), b"y");
        chain.say(2, RelayCommand::CONNECTED, STREAM, &[]);
        // The relay checks the tags.
        read_all(&mut circuit, &mut chain);
    }
    assert_eq!(chain.relays[2].circuit.as_ref().unwrap().room_cells(), 1000);
}

#[test]
fn cells_that_nobody_waits_for() {
    let (mut circuit, mut chain) = built(2);
    let mut handle = |cell: &mut CellBuf| {
        format!(
            "{:?}",
            circuit.handle_cell(cell, QUEUE, &mut rng(), &mut |_| panic!("a reply"), epoch())
        )
    };
    for command in [Command::CREATED, Command::CREATE2, Command::PADDING] {
        let expected = format!("Err(UnexpectedCell(Command({})))", command.0);
        assert_eq!(handle(&mut cell::new_cell(ID, command)), expected);
    }
    let early = handle(&mut cell::new_cell(ID, Command::RELAY_EARLY));
    assert_eq!(early, "Err(InboundEarly)");
    let garbage = handle(&mut cell::new_cell(ID, Command::RELAY));
    assert_eq!(garbage, "Ok(Dropped(Unrecognized))");

    // The garbage has moved the key streams of all relays but not ours, as on a real circuit.
    let (mut circuit, mut chain_2) = built(2);
    std::mem::swap(&mut chain, &mut chain_2);
    chain.say(1, RelayCommand::DROP, StreamId::NONE, &[]);
    chain.say(0, RelayCommand::TRUNCATED, StreamId::NONE, &[8]);
    chain.say(1, RelayCommand::EXTENDED2, StreamId::NONE, &[0, 0]);
    let mut seen = read_all(&mut circuit, &mut chain);
    let mut destroy = cell::new_cell(ID, Command::DESTROY);
    DestroyReason::TIMEOUT.write(cell::payload_mut(&mut destroy));
    chain.to_client.push_back(destroy);
    seen.extend(read_all(&mut circuit, &mut chain));
    assert_eq!(
        seen,
        [
            "Ok(Dropped(Padding(1)))",
            "Ok(Truncated(0, DestroyReason(8)))",
            "Err(UnexpectedExtended)",
            "Ok(Destroyed(DestroyReason(10)))"
        ]
    );
}

#[test]
fn only_the_last_hop_extends() {
    let mut chain = Chain::new(3);
    let specs = chain.hops();
    let mut circuit = begin(&mut chain, specs);
    let mut sent = Vec::new();
    for _ in 0..2 {
        let mut cell = chain.to_client.pop_front().unwrap();
        let mut send = |cell: &CellBuf| sent.push(*cell);
        circuit
            .handle_cell(&mut cell, QUEUE, &mut rng(), &mut send, epoch())
            .unwrap();
        chain.forward(sent.pop().unwrap());
    }
    // Two hops stand and the third's EXTENDED2 is due from hop 1: hop 0 says it instead.
    chain.to_client.clear();
    let (circuits, _) = chain.relays.split_at_mut(2);
    let mut cell = cell::new_cell(ID, Command::RELAY);
    let first = circuits[0].circuit.as_mut().unwrap();
    let payload = cell::payload_mut(&mut cell);
    // One backward cell was dropped above; its key stream has to pass on our side as well.
    let mut lost = cell::new_cell(ID, Command::RELAY);
    let dropped = circuit.handle_cell(&mut lost, QUEUE, &mut rng(), &mut |_| {}, epoch());
    assert_eq!(dropped, Ok(Received::Dropped(Dropped::Unrecognized)));
    first
        .originate(
            payload,
            RelayCommand::EXTENDED2,
            StreamId::NONE,
            &[0, 0],
            &mut chain.rng,
            epoch(),
        )
        .unwrap();
    let error = circuit.handle_cell(&mut cell, QUEUE, &mut rng(), &mut |_| {}, epoch());
    assert_eq!(error, Err(OriginViolation::UnexpectedExtended));
}

#[test]
fn a_relay_with_another_key_fails_the_circuit() {
    let mut chain = Chain::new(2);
    let mut specs = chain.hops();
    let mut circuit = begin(&mut chain, std::mem::take(&mut specs));
    let mut cell = chain.to_client.pop_front().unwrap();
    cell[50] ^= 1;
    let error = circuit.handle_cell(
        &mut cell,
        QUEUE,
        &mut rng(),
        &mut |_| panic!("a reply"),
        epoch(),
    );
    assert!(matches!(
        error,
        Err(OriginViolation::Handshake(HandshakeError::Ntor(_)))
    ));
    let again = circuit.handle_cell(
        &mut cell,
        QUEUE,
        &mut rng(),
        &mut |_| panic!("a reply"),
        epoch(),
    );
    assert_eq!(
        again,
        Err(OriginViolation::UnexpectedCell(Command::CREATED2))
    );
}

#[test]
fn lengths_beyond_the_cell() {
    let mut rng = rng();
    let keys = tor1::Keys::read(&rng.array());
    let (mut circuit, _) = built(1);
    circuit.layers[0] = HopLayer::tor1(&keys);
    let mut cell = cell::new_cell(ID, Command::RELAY);
    let payload = cell::payload_mut(&mut cell);
    relay::write(payload, RelayCommand::DATA, STREAM, b"", &mut rng).unwrap();
    payload[9..11].copy_from_slice(&499u16.to_be_bytes());
    tor1::RelayCrypt::new(&keys).originate_backward(payload);
    let error = circuit.handle_cell(&mut cell, QUEUE, &mut rng, &mut |_| {}, epoch());
    assert_eq!(
        error,
        Err(OriginViolation::RelayCell(LengthError(499).into()))
    );
}

proptest! {
    #[test]
    fn garbage_never_panics(
        hops in 1u8..4,
        started in any::<bool>(),
        cells in proptest::collection::vec((any::<u8>(), any::<[u8; 32]>()), 1..20),
    ) {
        let (mut circuit, mut chain) = if started {
            built(hops)
        } else {
            let mut chain = Chain::new(hops);
            let specs = chain.hops();
            (begin(&mut chain, specs), chain)
        };
        for (command, bytes) in cells {
            let mut cell = cell::new_cell(ID, Command(command % 14));
            cell[5..37].copy_from_slice(&bytes);
            let _ = circuit.handle_cell(&mut cell, QUEUE, &mut rng(), &mut |_| {}, epoch());
            if started {
                chain.say(usize::from(hops) - 1, RelayCommand(bytes[0]), StreamId(1), &bytes);
                for mut cell in chain.to_client.drain(..) {
                    let _ = circuit.handle_cell(&mut cell, QUEUE, &mut rng(), &mut |_| {}, epoch());
                }
            }
        }
    }
}

#[test]
fn a_joined_peer_is_the_last_hop_with_a_window_of_its_own() {
    let (mut circuit, mut chain) = built(2);
    let kh = *circuit.kh();
    assert_ne!(kh, [0; 20]);
    let keys = || tor1::Keys::read(&[7; 72]);
    // The peer's end lies behind all relays, as one more of them.
    let mut peer = Chain::new(1).relays.remove(0);
    peer.circuit = Some(RelayCircuit::new(&keys()));
    chain.relays.push(peer);
    let layer = HopLayer::tor1(&keys());
    let joined = circuit.join(layer, None);
    let again = circuit.join(HopLayer::tor1(&keys()), None);
    assert_eq!((joined, again), (Ok(2), Err(BuildError::Joined)));
    assert!(circuit.is_joined() && circuit.is_built());
    assert_eq!((circuit.hop_count(), *circuit.kh()), (3, kh));
    let hop = Chain::new(1).hops().remove(0);
    let error = circuit.extend(hop, &mut rng(), &mut |_| {});
    assert_eq!(error, Err(BuildError::Joined));
    for _ in 0..100 {
        say_to(&mut circuit, &mut chain, 2, b"through");
        chain.say(2, RelayCommand::DATA, STREAM, b"back");
    }
    assert_eq!(chain.relays[2].messages.len(), 100);
    assert_eq!((circuit.room_cells(2), circuit.room_cells(1)), (900, 1000));
    chain.say(1, RelayCommand::DATA, STREAM, b"other");
    let seen = read_all(&mut circuit, &mut chain);
    assert_eq!(seen.first().unwrap(), "2 DATA 77 back");
    assert_eq!(seen.last().unwrap(), "1 DATA 77 other");
    // The peer has no say in the path.
    chain.say(2, RelayCommand::EXTENDED2, StreamId::NONE, &[0, 0]);
    let seen = read_all(&mut circuit, &mut chain);
    assert_eq!(seen, ["Err(UnexpectedExtended)"]);
}
