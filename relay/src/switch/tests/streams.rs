//! Streams: to an exit, to the directory, look-ups, windows, ends.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cepa_circuit::StreamKey;
use cepa_wire::begin::{Begin, BeginFlags};
use cepa_wire::connected::Connected;
use cepa_wire::end::{End, EndReason};
use cepa_wire::host::Host;
use cepa_wire::relay::RelayCommand;
use cepa_wire::resolve::{Answer, AnswerValue, Resolve, Resolved};
use cepa_wire::sendme::Sendme;

use super::net::{Net, Path, exit_policy, three_hops, three_hops_of};
use crate::ExitPolicy;
use crate::switch::{CONNECTING_SHARE, Command, Switch};

fn begin(host: &str, port: u16) -> Vec<u8> {
    let host = Host::parse(host.as_bytes()).unwrap();
    let mut body = Vec::new();
    Begin {
        host,
        port,
        flags: BeginFlags::default(),
    }
    .write(&mut body);
    body
}

pub(super) fn exit(net: &mut Net) -> &mut Switch {
    &mut net.nodes[2].switches[0]
}

fn command(net: &mut Net) -> Command {
    net.nodes[2].commands.remove(0).1
}

/// A stream that stands, with its key at the exit.
pub(super) fn open(net: &mut Net, path: &mut Path, id: u16) -> StreamKey {
    path.send(net, RelayCommand::BEGIN, id, &begin("example.com", 80));
    let Command::Connect { stream, begin } = command(net) else {
        panic!("no Connect")
    };
    assert_eq!(
        (begin.host, begin.port),
        (Host::Name("example.com".into()), 80)
    );
    let (now, addr) = (
        net.now,
        SocketAddr::new(Ipv4Addr::new(9, 8, 7, 6).into(), 80),
    );
    exit(net).stream_connected(stream, addr, 60, now);
    net.run();
    let message = path.receive(net).unwrap();
    assert_eq!(
        (message.hop, message.command, message.stream.0),
        (2, RelayCommand::CONNECTED, id)
    );
    assert_eq!(
        Connected::read(&message.data).unwrap().address,
        Some((addr.ip(), 60))
    );
    stream
}

fn three() -> (Net, Path) {
    three_hops(&[2, 2, 1], |n| usize::from(n == 1))
}

#[test]
fn bytes_both_ways_and_the_end() {
    let (mut net, mut path) = three();
    let stream = open(&mut net, &mut path, 5);
    path.send(&mut net, RelayCommand::DATA, 5, b"GET / HTTP/1.0\r\n\r\n");
    let mut taken = Vec::new();
    let read = exit(&mut net).stream_take(stream, &mut taken, 4);
    assert_eq!(
        (read.more, read.end, taken.as_slice()),
        (true, None, &b"GET "[..])
    );
    let now = net.now;
    assert!(exit(&mut net).stream_room(stream) >= 498);
    exit(&mut net).stream_send(stream, &[7; 600], now);
    exit(&mut net).stream_close(stream, EndReason::DONE, now);
    net.run();
    let (a, b, c) = (
        path.receive(&mut net),
        path.receive(&mut net),
        path.receive(&mut net),
    );
    assert_eq!((a.unwrap().data.len(), b.unwrap().data.len()), (498, 102));
    let end = c.unwrap();
    assert_eq!((end.command, end.data), (RelayCommand::END, vec![6]));
    // What crossed the END is dropped; the id may be used again.
    path.send(&mut net, RelayCommand::DATA, 5, b"late");
    path.send(&mut net, RelayCommand::END, 5, &[6]);
    open(&mut net, &mut path, 5);
    assert_eq!(exit(&mut net).counts().streams, 1);
}

#[test]
fn optimistic_data_and_the_clients_end() {
    let (mut net, mut path) = three();
    path.send(&mut net, RelayCommand::BEGIN, 9, &begin("10.1.2.3", 1500));
    path.send(&mut net, RelayCommand::DATA, 9, b"early");
    let Command::Connect { stream, .. } = command(&mut net) else {
        panic!("no Connect")
    };
    let (now, addr) = (
        net.now,
        SocketAddr::new(Ipv4Addr::new(10, 1, 2, 3).into(), 1500),
    );
    exit(&mut net).stream_connected(stream, addr, 0, now);
    path.send(&mut net, RelayCommand::END, 9, &[6]);
    let mut taken = Vec::new();
    let read = exit(&mut net).stream_take(stream, &mut taken, 100);
    assert_eq!(
        (read.end, taken.as_slice()),
        (Some(EndReason::DONE), &b"early"[..])
    );
    exit(&mut net).stream_written(stream, 5, now);
    exit(&mut net).stream_close(stream, EndReason::DONE, now);
    assert_eq!(exit(&mut net).counts().streams, 0);
    // One that ends before it is connected: the shell is told.
    path.send(&mut net, RelayCommand::BEGIN, 9, &begin("example.com", 80));
    path.send(&mut net, RelayCommand::END, 9, &[6]);
    let (first, second) = (command(&mut net), command(&mut net));
    let (Command::Connect { stream: a, .. }, Command::CloseStream { stream: b }) = (first, second)
    else {
        panic!("opened and closed")
    };
    assert_eq!(a, b);
}

#[test]
fn what_the_exit_refuses() {
    let (mut net, mut path) = three();
    let refused = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));
    for (host, port, expected) in [
        (
            "10.1.2.3",
            81,
            End {
                reason: EndReason::EXITPOLICY,
                refused: Some((refused, 60)),
            },
        ),
        ("example.com", 443, EndReason::EXITPOLICY.into()),
    ] {
        path.send(&mut net, RelayCommand::BEGIN, 5, &begin(host, port));
        let message = path.receive(&mut net).unwrap();
        assert_eq!(
            (message.command, End::read(&message.data)),
            (RelayCommand::END, expected)
        );
    }
    path.send(&mut net, RelayCommand::BEGIN, 5, b"no port\0");
    assert_eq!(
        path.receive(&mut net).unwrap().data,
        [EndReason::TORPROTOCOL.0]
    );
    // A name whose address the policy refuses.
    path.send(
        &mut net,
        RelayCommand::BEGIN,
        5,
        &begin("example.com", 1500),
    );
    let Command::Connect { stream, .. } = command(&mut net) else {
        panic!("no Connect")
    };
    let addr: SocketAddr = "1.2.3.4:1500".parse().unwrap();
    let now = net.now;
    let end = exit(&mut net).exit_check(addr.ip(), addr.port(), 30);
    exit(&mut net).stream_refused(stream, end.unwrap_err(), now);
    net.run();
    let message = path.receive(&mut net).unwrap();
    assert_eq!(End::read(&message.data).refused, Some((addr.ip(), 30)));
    // Straight from a client, and from a relay that the consensus does not list.
    let client = net.client((2, 0));
    let mut single = Path::create_fast(&mut net, client, 0x8000_0001);
    single.send(&mut net, RelayCommand::BEGIN, 5, &begin("example.com", 80));
    assert_eq!(
        single.receive(&mut net).unwrap().data,
        [EndReason::TORPROTOCOL.0]
    );
    let known = crate::KnownRelays {
        refuse_unknown_exits: true,
        ..Default::default()
    };
    exit(&mut net).set_relays(known.into());
    path.send(&mut net, RelayCommand::BEGIN, 5, &begin("example.com", 80));
    assert_eq!(path.receive(&mut net).unwrap().data, [EndReason::MISC.0]);
}

#[test]
fn no_stream_leaves_by_a_relay_that_is_no_exit() {
    let (mut net, mut path) = three();
    let mut config = super::net::config(2);
    config.exit_policy = ExitPolicy::none().into();
    let now = net.now;
    exit(&mut net).set_config(config.into(), now);
    for host in ["127.0.0.1", "198.51.100.1", "localhost", "example.com"] {
        path.send(&mut net, RelayCommand::BEGIN, 5, &begin(host, 80));
        let message = path.receive(&mut net).unwrap();
        let end = End::read(&message.data);
        assert_eq!(
            (message.command, end.reason),
            (RelayCommand::END, EndReason::EXITPOLICY)
        );
        let mut body = Vec::new();
        Resolve::Host(Host::parse(host.as_bytes()).unwrap()).write(&mut body);
        path.send(&mut net, RelayCommand::RESOLVE, 6, &body);
        let message = path.receive(&mut net).unwrap();
        let value = &Resolved::read(&message.data).unwrap().answers[0].value;
        let expected = match host.parse() {
            Ok(ip) => AnswerValue::Ip(ip),
            Err(_) => AnswerValue::Error,
        };
        assert_eq!(*value, expected);
    }
    assert!(net.nodes[2].commands.is_empty());
}

#[test]
fn no_stream_leaves_for_the_ports_of_relays() {
    let (mut net, mut path) = three();
    let mut known = crate::KnownRelays::default();
    known.reentry.insert("10.1.2.3:1500".parse().unwrap());
    exit(&mut net).set_relays(known.into());
    for host in ["10.1.2.3", "::ffff:10.1.2.3"] {
        path.send(&mut net, RelayCommand::BEGIN, 5, &begin(host, 1500));
        let message = path.receive(&mut net).unwrap();
        let expected = EndReason::CONNECTREFUSED;
        assert_eq!(End::read(&message.data).reason, expected);
    }
    // Of a name that is known later, and of another port.
    let check = exit(&mut net).exit_check("10.1.2.3".parse().unwrap(), 1500, 1);
    assert_eq!(check, Err(EndReason::CONNECTREFUSED.into()));
    path.send(&mut net, RelayCommand::BEGIN, 5, &begin("10.1.2.3", 1501));
    assert!(matches!(command(&mut net), Command::Connect { .. }));
}

#[test]
fn a_new_policy_closes_what_it_refuses() {
    let (mut net, mut path) = three();
    let kept = open(&mut net, &mut path, 5);
    path.send(&mut net, RelayCommand::BEGIN, 7, &begin("10.1.2.3", 1500));
    let Command::Connect {
        stream: refused, ..
    } = command(&mut net)
    else {
        panic!("no Connect")
    };
    let now = net.now;
    exit(&mut net).stream_connected(refused, "10.1.2.3:1500".parse().unwrap(), 0, now);
    net.run();
    path.receive(&mut net).unwrap();
    let mut config = super::net::config(2);
    config.exit_policy = exit_policy("accept *:80");
    exit(&mut net).set_config(config.into(), now);
    net.run();
    let message = path.receive(&mut net).unwrap();
    let ended = (message.command, message.stream.0, message.data[0]);
    assert_eq!(ended, (RelayCommand::END, 7, EndReason::EXITPOLICY.0));
    let Command::CloseStream { stream } = command(&mut net) else {
        panic!("not closed")
    };
    assert_eq!((stream, exit(&mut net).counts().streams), (refused, 1));
    assert!(exit(&mut net).stream_room(kept) > 0);
}

#[test]
fn sendmes_without_proof_are_taken_as_the_consensus_says() {
    for (version_min, is_taken) in [(0, true), (1, false)] {
        let net = Net::with(&[2, 2, 1], |config| config.sendme_accept_min = version_min);
        let (mut net, mut path) = three_hops_of(net, |n| usize::from(n == 1));
        let stream = open(&mut net, &mut path, 5);
        flood(&mut net, &mut path, &[stream]);
        path.send(&mut net, RelayCommand::SENDME, 0, &[]);
        assert_eq!(exit(&mut net).counts().circuits, usize::from(is_taken));
    }
}

#[test]
fn connections_under_way_are_bounded() {
    let mut net = Net::with(&[2, 2, 1], |config| {
        config.limits.connecting_per_circuit_max = 20;
        config.limits.connecting_max = 24;
    });
    net = three_hops_of(net, |n| usize::from(n == 1)).0;
    let client = net.client((0, 0));
    let mut one = Path::create(&mut net, client, 0x8000_0002, 0);
    let mut two = Path::create(&mut net, client, 0x8000_0003, 0);
    for path in [&mut one, &mut two] {
        path.extend(&mut net, 1);
        path.extend(&mut net, 2);
    }
    let begun = |net: &mut Net, path: &mut Path, ids: std::ops::Range<u16>| {
        let before = net.nodes[2].commands.len();
        for id in ids {
            path.send(net, RelayCommand::BEGIN, id, &begin("example.com", 80));
            // END with MISC, if it is refused.
            while let Some(message) = path.receive(net) {
                assert_eq!(message.data, [EndReason::MISC.0]);
            }
        }
        net.nodes[2].commands.len() - before
    };
    // All that one circuit may have: half of what there is, then a share.
    assert_eq!(begun(&mut net, &mut one, 1..30), 12);
    assert_eq!(
        begun(&mut net, &mut two, 1..30),
        usize::from(CONNECTING_SHARE)
    );
    // Those that were given up, or stand, make room.
    let Command::Connect { stream, .. } = command(&mut net) else {
        panic!("no Connect")
    };
    let now = net.now;
    exit(&mut net).stream_connected(stream, "9.8.7.6:80".parse().unwrap(), 60, now);
    net.run();
    one.receive(&mut net).unwrap();
    for id in 2..13 {
        one.send(&mut net, RelayCommand::END, id, &[6]);
    }
    assert_eq!(begun(&mut net, &mut two, 40..50), 4);
    assert_eq!(begun(&mut net, &mut one, 40..50), 8);
}

#[test]
fn look_ups() {
    let (mut net, mut path) = three();
    let ask = |name: &str| {
        let mut body = Vec::new();
        Resolve::Host(Host::parse(name.as_bytes()).unwrap()).write(&mut body);
        body
    };
    path.send(&mut net, RelayCommand::RESOLVE, 3, &ask("example.com"));
    let Command::Resolve { stream, .. } = command(&mut net) else {
        panic!("no Resolve")
    };
    let answer = Answer {
        value: AnswerValue::Ip(Ipv4Addr::new(1, 2, 3, 4).into()),
        ttl: 300,
    };
    let now = net.now;
    exit(&mut net).stream_resolved(stream, vec![answer.clone(); 100], now);
    net.run();
    let message = path.receive(&mut net).unwrap();
    assert_eq!(
        (message.command, message.stream.0),
        (RelayCommand::RESOLVED, 3)
    );
    let resolved = Resolved::read(&message.data).unwrap();
    assert_eq!(
        (resolved.answers.len(), &resolved.answers[0]),
        (48, &answer)
    );
    path.send(&mut net, RelayCommand::RESOLVE, 3, &ask("1.2.3.4"));
    let message = path.receive(&mut net).unwrap();
    assert_eq!(
        Resolved::read(&message.data).unwrap().answers[0].value,
        answer.value
    );
    path.send(&mut net, RelayCommand::RESOLVE, 3, b"no end");
    let message = path.receive(&mut net).unwrap();
    assert_eq!(
        Resolved::read(&message.data).unwrap().answers[0].value,
        AnswerValue::Error
    );
    assert_eq!(exit(&mut net).counts().streams, 0);
}

/// Sends all that the windows allow, with the client silent; returns the messages.
fn flood(net: &mut Net, path: &mut Path, streams: &[StreamKey]) -> Vec<super::net::Message> {
    let now = net.now;
    loop {
        let mut sent = false;
        for stream in streams {
            let room = exit(net).stream_room(*stream);
            exit(net).stream_send(*stream, &vec![1; room], now);
            sent |= room > 0;
        }
        net.run();
        if !sent {
            break;
        }
    }
    std::iter::from_fn(|| path.receive(net)).collect()
}

#[test]
fn windows_stop_and_sendmes_go_on() {
    let (mut net, mut path) = three();
    let streams = [3, 4, 5].map(|id| open(&mut net, &mut path, id));
    let one = flood(&mut net, &mut path, &streams[..1]);
    assert_eq!(one.len(), 500);
    let more = flood(&mut net, &mut path, &streams);
    assert_eq!(more.len(), 500);
    assert!(flood(&mut net, &mut path, &streams).is_empty());
    net.nodes[2].ready.clear();
    let mut sendme = Vec::new();
    let tag = cepa_wire::sendme::SendmeTag::from_bytes(&one[99].tag).unwrap();
    Sendme::Authenticated(tag).write(&mut sendme);
    path.send(&mut net, RelayCommand::SENDME, 0, &sendme);
    assert_eq!(net.nodes[2].ready.len(), 3, "all that wait are told");
    assert_eq!(flood(&mut net, &mut path, &streams[1..]).len(), 100);
    // The first is at its own window's end as well.
    path.send(&mut net, RelayCommand::SENDME, 3, &[]);
    assert_eq!(exit(&mut net).stream_room(streams[0]), 0);
    let tag = cepa_wire::sendme::SendmeTag::from_bytes(&one[199].tag).unwrap();
    sendme.clear();
    Sendme::Authenticated(tag).write(&mut sendme);
    path.send(&mut net, RelayCommand::SENDME, 0, &sendme);
    assert_eq!(flood(&mut net, &mut path, &streams[..1]).len(), 50);
}

#[test]
fn what_comes_is_acknowledged_when_it_is_written() {
    let (mut net, mut path) = three();
    let stream = open(&mut net, &mut path, 3);
    let mut tags = Vec::new();
    for _ in 0..100 {
        let cell = path.cell(&mut net, RelayCommand::DATA, 3, &[5; 498]);
        tags.push(cell[5]);
        net.send(path.client, &cell).unwrap();
    }
    let message = path.receive(&mut net).unwrap();
    assert_eq!(
        (message.command, message.stream.0),
        (RelayCommand::SENDME, 0)
    );
    assert!(matches!(
        Sendme::read(&message.data),
        Ok(Sendme::Authenticated(_))
    ));
    assert_eq!(path.receive(&mut net), None);
    let (mut out, now) = (Vec::new(), net.now);
    exit(&mut net).stream_take(stream, &mut out, usize::MAX);
    assert_eq!(out.len(), 100 * 498);
    exit(&mut net).stream_written(stream, 60 * 498, now);
    exit(&mut net).stream_written(stream, 40 * 498, now);
    net.run();
    let got: Vec<_> = std::iter::from_fn(|| path.receive(&mut net)).collect();
    assert_eq!(got.len(), 2);
    assert!(
        got.iter()
            .all(|m| (m.command, m.stream.0) == (RelayCommand::SENDME, 3))
    );
}

#[test]
fn a_circuit_that_goes_leaves_what_had_come() {
    let (mut net, mut path) = three();
    let stream = open(&mut net, &mut path, 3);
    path.send(&mut net, RelayCommand::DATA, 3, b"last words");
    path.send(&mut net, RelayCommand::SENDME, 0, &[]);
    assert_eq!(exit(&mut net).counts().circuits, 0);
    let mut out = Vec::new();
    let read = exit(&mut net).stream_take(stream, &mut out, 100);
    assert_eq!(
        (read.end, out.as_slice()),
        (Some(EndReason::DESTROY), &b"last words"[..])
    );
    assert_eq!(exit(&mut net).counts().streams, 0);
}
