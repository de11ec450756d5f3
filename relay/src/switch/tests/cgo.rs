//! Circuits with the CGO cipher: at each place of a path, their streams, and who errs on them.

use std::net::{IpAddr, Ipv4Addr};

use cepa_crypto::ed25519::Keypair;
use cepa_crypto::layer::HopLayer;
use cepa_crypto::ntor_v3;
use cepa_wire::cell::{self, CircId, Command as Cell};
use cepa_wire::create::{Create2, Created2, HandshakeType};
use cepa_wire::introduce::IntroduceStatus;
use cepa_wire::relay::RelayCommand;
use cepa_wire::resolve::{Answer, AnswerValue, Resolved};
use cepa_wire::sendme::Sendme;

use super::flow::extend_v3;
use super::net::{Net, Path};
use super::points::World;
use super::streams::{exit, open};
use crate::switch::{Command, SwitchConfig};

/// A client's ntor-v3 message that asks for congestion control and CGO, or without the latter.
pub(super) const ASKS_CGO: &[u8] = &[2, 1, 0, 3, 2, 2, 6];
const ASKS_TOR1: &[u8] = &[1, 1, 0];

fn asks(mix: usize, hop: usize) -> &'static [u8] {
    [ASKS_TOR1, ASKS_CGO][mix >> hop & 1]
}

/// CREATE2 of ntor-v3 with this message: the circuit, or the reason of a DESTROY.
fn create_v3(net: &mut Net, client: usize, message: &[u8]) -> Result<Path, u8> {
    let keys = &net.nodes[0].keys;
    let (ed, onion) = (keys.ed, *keys.ntor[0].public());
    let verification = ntor_v3::CIRCUIT_VERIFICATION;
    let (state, data) =
        ntor_v3::client_start(&mut net.rng, &ed, &onion, message, verification).unwrap();
    let circ_id = CircId(0x8000_0001);
    let mut cell = cell::new_cell(circ_id, Cell::CREATE2);
    let handshake_type = HandshakeType::NTOR_V3;
    let data = &data;
    let create = Create2 {
        handshake_type,
        data,
    };
    create.write(cell::payload_mut(&mut cell)).unwrap();
    net.send(client, &cell).unwrap();
    let reply = net.inbox[client].pop_front().unwrap();
    if cell::command(&reply) == Cell::DESTROY {
        return Err(cell::payload(&reply)[0]);
    }
    let created = Created2::read(cell::payload(&reply)).unwrap();
    let (_, keys) = state.finish(created.data).unwrap();
    let cipher = match message == ASKS_CGO {
        true => cepa_crypto::layer::Cipher::Cgo,
        false => cepa_crypto::layer::Cipher::Tor1,
    };
    let (layer, kh) = HopLayer::new(cipher, keys);
    Ok(Path {
        client,
        circ_id,
        hops: vec![layer],
        kh: *kh,
    })
}

/// Three hops, with CGO where a bit of `mix` is set.
pub(super) fn three(mix: usize) -> (Net, Path) {
    let mut net = Net::with(&[2, 2, 1], |_| {});
    net.link((0, 0), (1, 0));
    net.link((1, 1), (2, 0));
    let client = net.client((0, 0));
    let mut path = create_v3(&mut net, client, asks(mix, 0)).unwrap();
    for hop in 1..3 {
        let granted = extend_v3(&mut net, &mut path, hop, asks(mix, hop));
        assert_eq!(granted.as_deref(), Some(&[1, 2, 1, 31][..]));
    }
    (net, path)
}

#[test]
fn streams_over_every_mix_of_ciphers() {
    for mix in 0..8 {
        let (mut net, mut path) = three(mix);
        let stream = open(&mut net, &mut path, 5);
        let (len, tag_len) = [(498, 20), (488, 16)][mix >> 2];
        let now = net.now;
        // Out of the exit, in cells as long as its cipher has them.
        assert_eq!(exit(&mut net).stream_room(stream), 64 * len);
        exit(&mut net).stream_send(stream, &vec![7; 30 * len + 9], now);
        net.run();
        let lens: Vec<usize> = (0..31)
            .map(|_| path.receive(&mut net).unwrap().data.len())
            .collect();
        assert_eq!((lens[0], lens[29], lens[30]), (len, len, 9));
        // Into it: the 31st cell is acknowledged by its tag.
        for _ in 0..31 {
            let cell = path.cell(&mut net, RelayCommand::DATA, 5, &vec![1; len]);
            net.send(path.client, &cell).unwrap();
        }
        let sendme = path.receive(&mut net).unwrap();
        assert_eq!((sendme.hop, sendme.command), (2, RelayCommand::SENDME));
        let Ok(Sendme::Authenticated(tag)) = Sendme::read(&sendme.data) else {
            panic!("authenticated")
        };
        assert_eq!(tag.as_bytes().len(), tag_len);
        let mut taken = Vec::new();
        exit(&mut net).stream_take(stream, &mut taken, usize::MAX);
        assert_eq!(taken.len(), 31 * len);
        // A directory stream and a look-up, with more answers than fit.
        path.send(&mut net, RelayCommand::BEGIN_DIR, 6, &[]);
        let opened = net.nodes[2].commands.remove(0).1;
        assert!(matches!(opened, Command::OpenDir { .. }), "{opened:?}");
        path.send(&mut net, RelayCommand::RESOLVE, 7, b"example.com\0");
        let Command::Resolve { stream, .. } = net.nodes[2].commands.remove(0).1 else {
            panic!("no look-up")
        };
        let answer = Answer {
            value: AnswerValue::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            ttl: 60,
        };
        exit(&mut net).stream_resolved(stream, vec![answer; 100], now);
        net.run();
        let resolved = (0..2)
            .filter_map(|_| path.receive(&mut net))
            .find(|message| message.command == RelayCommand::RESOLVED)
            .unwrap();
        assert_eq!(Resolved::read(&resolved.data).unwrap().answers.len(), 48);
        assert_eq!(exit(&mut net).counts().circuits, 1);
    }
}

#[test]
fn a_demand_that_is_refused_is_a_destroy() {
    let demands: [&[u8]; 4] = [
        &[1, 3, 2, 2, 6],
        &[2, 1, 0, 3, 2, 2, 5],
        &[2, 1, 0, 3, 4, 2, 6, 1, 3],
        &[2, 1, 0, 3, 3, 2, 6, 2],
    ];
    let refused = |edit: fn(&mut SwitchConfig), message: &[u8]| {
        let mut net = Net::with(&[1], edit);
        let client = net.client((0, 0));
        create_v3(&mut net, client, message).err()
    };
    for message in demands {
        assert_eq!(refused(|_| {}, message), Some(1));
    }
    assert_eq!(refused(|_| {}, ASKS_CGO), None);
    // Without congestion control there is no CGO.
    let off: fn(&mut SwitchConfig) = |config| {
        let mut params = (*config.congestion).clone();
        params.is_enabled = false;
        config.congestion = std::sync::Arc::new(params);
    };
    assert_eq!(refused(off, ASKS_CGO), Some(1));
    assert_eq!(refused(off, ASKS_TOR1), None);
}

/// tor1 drops both messages; under CGO they end the circuit, as the cell cannot be read.
#[test]
fn unknown_commands_and_missing_streams_end_the_circuit() {
    for (command, is_the_end) in [
        (RelayCommand(99), true),
        (RelayCommand::DATA, true),
        (RelayCommand::BEGIN, true),
        (RelayCommand::DROP, false),
        (RelayCommand::CONFLUX_LINK, false),
    ] {
        for mix in [0, 4] {
            let (mut net, mut path) = three(mix);
            path.send(&mut net, command, 0, &[]);
            let circuits = usize::from(!(is_the_end && mix == 4));
            assert_eq!(
                exit(&mut net).counts().circuits,
                circuits,
                "{command} {mix}"
            );
        }
    }
}

#[test]
fn a_changed_bit_ends_the_circuit() {
    let (mut net, mut path) = three(4);
    let mut cell = path.cell(&mut net, RelayCommand::DROP, 0, &[]);
    cell::payload_mut(&mut cell)[400] ^= 4;
    net.send(path.client, &cell).unwrap();
    assert_eq!(exit(&mut net).counts().circuits, 0);
}

#[test]
fn an_introduction_too_long_for_the_services_cipher() {
    for (len, status) in [
        (490, IntroduceStatus::SUCCESS),
        (491, IntroduceStatus::CANT_RELAY),
    ] {
        let mut world = World::new(1);
        let key = Keypair::generate(&mut world.net.rng);
        let tor1 = world.path(0);
        let mut service = world.path(0);
        assert_eq!(service.hops[1].cipher(), cepa_crypto::layer::Cipher::Cgo);
        world.establish(&mut service, &key, None);
        world.close(&tor1);
        let head = super::points::introduce1(&key, b"").len();
        let what = vec![9; len - head];
        assert_eq!(world.introduce(0, &key, &what), status);
        assert_eq!(world.is_silent(&service), len == 491);
        assert_eq!(world.counts().intros, 1);
    }
}
