//! Congestion control at an exit: what is granted, windows, XON and XOFF, and who lies.

use std::collections::VecDeque;
use std::time::Duration;

use cepa_circuit::StreamKey;
use cepa_circuit::stream_flow::QUEUE_MAX_CELLS;
use cepa_crypto::layer::{Cipher, HopLayer};
use cepa_crypto::ntor_v3;
use cepa_wire::cell::Command as Cell;
use cepa_wire::create::HandshakeType;
use cepa_wire::destroy::DestroyReason;
use cepa_wire::extend::{Extend2, Extended2};
use cepa_wire::linkspec::LinkSpecifiers;
use cepa_wire::relay::{RelayCommand, StreamId};
use cepa_wire::sendme::{Sendme, SendmeTag};

use super::net::{Message, Net, Path, id};
use super::streams::{exit, open};
use crate::switch::SwitchConfig;

/// An ntor-v3 handshake with the relay behind the path, and this message; its reply's message.
pub(super) fn extend_v3(
    net: &mut Net,
    path: &mut Path,
    node: usize,
    message: &[u8],
) -> Option<Vec<u8>> {
    let is_cgo = message.ends_with(&[3, 2, 2, 6]);
    let keys = &net.nodes[node].keys;
    let (ed, onion) = (keys.ed, *keys.ntor[0].public());
    let verification = ntor_v3::CIRCUIT_VERIFICATION;
    let (state, skin) =
        ntor_v3::client_start(&mut net.rng, &ed, &onion, message, verification).unwrap();
    let addr = match net.nodes[node].addr {
        std::net::SocketAddr::V4(addr) => addr,
        std::net::SocketAddr::V6(_) => unreachable!(),
    };
    let mut body = Vec::new();
    let extend = Extend2 {
        link_specifiers: LinkSpecifiers::new(Some(addr), id(node).rsa, None, None),
        handshake_type: HandshakeType::NTOR_V3,
        data: &skin,
    };
    extend.write(&mut body).unwrap();
    let last = path.hops.len() - 1;
    let (early, none) = (Cell::RELAY_EARLY, StreamId::NONE);
    path.send_at(net, last, early, RelayCommand::EXTEND2, none, &body);
    let reply = path.receive(net).unwrap();
    if reply.command != RelayCommand::EXTENDED2 {
        return None;
    }
    let (message, keys) = state
        .finish(Extended2::read(&reply.data).unwrap().data)
        .unwrap();
    let cipher = match is_cgo {
        true => Cipher::Cgo,
        false => Cipher::Tor1,
    };
    let (layer, kh) = HopLayer::new(cipher, keys);
    path.hops.push(layer);
    path.kh = *kh;
    Some(message)
}

/// A circuit of three hops, of which the last two were asked for congestion control.
fn three_of(edit: fn(&mut SwitchConfig)) -> (Net, Path, [Option<Vec<u8>>; 2]) {
    let mut net = Net::with(&[2, 2, 1], edit);
    net.link((0, 0), (1, 0));
    net.link((1, 1), (2, 0));
    let client = net.client((0, 0));
    let mut path = Path::create(&mut net, client, 0x8000_0001, 0);
    let granted = [1, 2].map(|node| extend_v3(&mut net, &mut path, node, &[1, 1, 0]));
    (net, path, granted)
}

fn three() -> (Net, Path) {
    let (net, path, granted) = three_of(|_| {});
    assert!(
        granted
            .iter()
            .all(|message| message.as_deref() == Some(&[1, 2, 1, 31]))
    );
    (net, path)
}

fn received(net: &mut Net, path: &mut Path) -> Vec<Message> {
    std::iter::from_fn(|| path.receive(net)).collect()
}

/// Sends as much as there is room for; how many cells came.
fn fill(net: &mut Net, path: &mut Path, stream: StreamKey) -> Vec<Message> {
    let now = net.now;
    while exit(net).stream_room(stream) > 0 {
        exit(net).stream_send(stream, &[1; 498], now);
        net.run();
    }
    received(net, path)
}

fn sendme(net: &mut Net, path: &mut Path, tag: &[u8]) {
    let mut body = Vec::new();
    Sendme::Authenticated(SendmeTag::from_bytes(tag).unwrap()).write(&mut body);
    path.send(net, RelayCommand::SENDME, 0, &body);
}

/// The exit has destroyed the circuit, and the relay before it says why.
fn assert_lost(net: &mut Net, path: &mut Path) {
    assert_eq!(exit(net).counts().circuits, 0);
    let told = received(net, path).pop().unwrap();
    assert_eq!((told.hop, told.command), (1, RelayCommand::TRUNCATED));
    assert_eq!(told.data, [DestroyReason::PROTOCOL.0]);
}

#[test]
fn granted_wherever_it_is_asked_for_unless_the_consensus_says_no() {
    three();
    let (mut net, mut path, granted) = three_of(|config| {
        let mut params = cepa_circuit::CongestionParams::clone(&config.congestion);
        params.is_enabled = false;
        config.congestion = std::sync::Arc::new(params);
    });
    assert!(
        granted
            .iter()
            .all(|message| message.as_deref() == Some(&[0]))
    );
    let stream = open(&mut net, &mut path, 5);
    assert_eq!(fill(&mut net, &mut path, stream).len(), 500);
}

#[test]
fn an_exit_stops_at_124_cells_and_sendmes_move_it() {
    let (mut net, mut path) = three();
    let stream = open(&mut net, &mut path, 5);
    let cells = fill(&mut net, &mut path, stream);
    assert_eq!(cells.len(), 124);
    net.now = net.now + Duration::from_millis(50);
    net.nodes[2].ready.clear();
    // 31 acknowledged, and slow start adds as many; no window of the stream's stops it.
    sendme(&mut net, &mut path, &cells[30].tag);
    assert_eq!(net.nodes[2].ready, [stream]);
    assert_eq!(fill(&mut net, &mut path, stream).len(), 62);
    sendme(&mut net, &mut path, &cells[60].tag);
    assert_lost(&mut net, &mut path);
}

#[test]
fn who_acknowledges_what_was_not_sent_loses_the_circuit() {
    for tag in [&[0; 20][..], &[0; 16]] {
        let (mut net, mut path) = three();
        sendme(&mut net, &mut path, tag);
        assert_lost(&mut net, &mut path);
    }
    let (mut net, mut path) = three();
    open(&mut net, &mut path, 5);
    // A stream-level SENDME: there are none.
    path.send(&mut net, RelayCommand::SENDME, 5, &[]);
    assert_lost(&mut net, &mut path);
}

#[test]
fn each_31st_cell_is_acknowledged_and_the_stream_not_at_all() {
    let (mut net, mut path) = three();
    let stream = open(&mut net, &mut path, 5);
    let (now, mut out) = (net.now, Vec::new());
    for n in 1..=310 {
        path.send(&mut net, RelayCommand::DATA, 5, &[2; 498]);
        exit(&mut net).stream_take(stream, &mut out, usize::MAX);
        exit(&mut net).stream_written(stream, 498, now);
        let told = received(&mut net, &mut path);
        assert_eq!(told.len(), usize::from(n % 31 == 0));
        assert!(
            told.iter()
                .all(|m| (m.command, m.stream.0) == (RelayCommand::SENDME, 0))
        );
    }
}

#[test]
fn a_socket_that_does_not_take_stops_the_client() {
    let (mut net, mut path) = three();
    let stream = open(&mut net, &mut path, 5);
    let mut told = Vec::new();
    for _ in 0..600 {
        path.send(&mut net, RelayCommand::DATA, 5, &[2; 498]);
        told.extend(received(&mut net, &mut path));
    }
    told.retain(|message| message.stream.0 == 5);
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].command, &told[0].data[..]),
        (RelayCommand::XOFF, &[0][..])
    );
    let mut out = Vec::new();
    exit(&mut net).stream_take(stream, &mut out, usize::MAX);
    assert_eq!(out.len(), 600 * 498);
    // The last 540 cells in a tenth of a second: all written, the client hears how fast.
    for cells in [60, 540] {
        net.now = net.now + Duration::from_millis(100);
        let now = net.now;
        exit(&mut net).stream_written(stream, cells * 498, now);
    }
    net.run();
    let told = received(&mut net, &mut path);
    let kbps = 540 * 498 / 100;
    let expected = [&[0][..], &u32::to_be_bytes(kbps)].concat();
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].command, &told[0].data),
        (RelayCommand::XON, &expected)
    );
}

#[test]
fn a_client_that_ignores_xoff_loses_the_circuit() {
    let (mut net, mut path) = three();
    open(&mut net, &mut path, 5);
    for _ in 0..=QUEUE_MAX_CELLS {
        assert_eq!(exit(&mut net).counts().circuits, 1);
        path.send(&mut net, RelayCommand::DATA, 5, &[2; 498]);
        if exit(&mut net).counts().circuits > 0 {
            received(&mut net, &mut path);
        }
    }
    assert_lost(&mut net, &mut path);
}

#[test]
fn xoff_stops_xon_goes_on_and_its_rate_is_kept() {
    let (mut net, mut path) = three();
    let stream = open(&mut net, &mut path, 5);
    path.send(&mut net, RelayCommand::XOFF, 5, &[0]);
    assert_eq!(exit(&mut net).stream_room(stream), 0);
    assert_eq!(
        net.nodes[2].switches[0]
            .poll_timeout()
            .map(|at| at > net.now.mono),
        Some(true)
    );
    net.nodes[2].ready.clear();
    // Malformed, and of another version.
    for body in [&[0, 0, 0][..], &[1, 0, 0, 0, 0]] {
        path.send(&mut net, RelayCommand::XON, 5, body);
        assert_eq!(exit(&mut net).stream_room(stream), 0);
    }
    // 10 kB/s: 21 cells at once.
    path.send(&mut net, RelayCommand::XON, 5, &[0, 0, 0, 0, 10]);
    assert_eq!(net.nodes[2].ready, [stream]);
    assert_eq!(fill(&mut net, &mut path, stream).len(), 21);
    net.nodes[2].ready.clear();
    let mut cells = 0;
    for _ in 0..100 {
        net.now = net.now + Duration::from_millis(20);
        let now = net.now;
        exit(&mut net).handle_timeout(now);
        net.run();
        if !std::mem::take(&mut net.nodes[2].ready).is_empty() {
            cells += fill(&mut net, &mut path, stream).len();
        }
    }
    // Two seconds' worth.
    assert!((39..=41).contains(&cells), "{cells}");
    path.send(&mut net, RelayCommand::XON, 5, &[0, 0, 0, 0, 0]);
    assert_eq!(fill(&mut net, &mut path, stream).len(), 124 - 21 - cells);
}

#[test]
fn xoff_without_congestion_control_means_nothing() {
    let (mut net, mut path) = super::net::three_hops(&[1, 1, 1], |_| 0);
    let stream = open(&mut net, &mut path, 5);
    path.send(&mut net, RelayCommand::XOFF, 5, &[0]);
    path.send(&mut net, RelayCommand::XOFF, 9, &[0]);
    assert!(exit(&mut net).stream_room(stream) > 0);
    assert_eq!(received(&mut net, &mut path), []);
}

/// A download through a bottleneck behind the guard: so many cells a millisecond, and SENDMEs, for
/// each `every` cells, that take 100 ms more. Returns cells that came within the time, and the
/// longest queue.
fn download(mut net: Net, mut path: Path, every: usize) -> (usize, usize) {
    const RUN_MS: u64 = 2000;
    const CELLS_PER_MS: usize = 3;
    let stream = open(&mut net, &mut path, 5);
    let mut acks: VecDeque<(u64, Option<Vec<u8>>)> = VecDeque::new();
    let (mut came, mut longest) = (0, 0);
    let (mut unacked, mut stream_unacked) = (0, 0);
    for ms in 0..RUN_MS {
        net.now = net.now + Duration::from_millis(1);
        while acks.front().is_some_and(|(at, _)| *at <= ms) {
            match acks.pop_front().unwrap().1 {
                Some(tag) => sendme(&mut net, &mut path, &tag),
                None => path.send(&mut net, RelayCommand::SENDME, 5, &[]),
            }
        }
        let now = net.now;
        loop {
            let room = exit(&mut net).stream_room(stream);
            if room == 0 {
                break;
            }
            exit(&mut net).stream_send(stream, &vec![1; room], now);
            net.run();
        }
        longest = longest.max(net.inbox[path.client].len());
        for _ in 0..CELLS_PER_MS {
            let Some(cell) = path.receive(&mut net) else {
                break;
            };
            (came, unacked, stream_unacked) = (came + 1, unacked + 1, stream_unacked + 1);
            if unacked == every {
                unacked = 0;
                acks.push_back((ms + 100, Some(cell.tag)));
            }
            if every == 100 && stream_unacked == 50 {
                stream_unacked = 0;
                acks.push_back((ms + 100, None));
            }
        }
    }
    (came, longest)
}

#[test]
fn a_download_fills_a_bottleneck_with_a_short_queue() {
    let (net, path) = three();
    let (with_congestion, queue) = download(net, path, 31);
    let (net, path) = super::net::three_hops(&[2, 2, 1], |n| usize::from(n == 1));
    let (with_windows, _) = download(net, path, 100);
    // 6000 cells could come, but for the first round trips.
    assert!(with_congestion >= 4800, "{with_congestion} cells");
    assert!(
        with_congestion * 10 >= with_windows * 9,
        "{with_congestion} to {with_windows}"
    );
    assert!(queue <= 400, "a queue of {queue} cells");
}
