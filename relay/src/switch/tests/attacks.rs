//! What hostile peers send, and what it costs them.

use std::net::SocketAddrV4;

use cepa_crypto::{Ed25519Id, Rng, RsaId};
use cepa_limits::Memory;
use cepa_wire::cell::{self, CELL_LEN, CircId, Command as Cell};
use cepa_wire::create::{Create2, HandshakeType};
use cepa_wire::extend::Extend2;
use cepa_wire::linkspec::{LinkSpecifier, LinkSpecifiers};
use cepa_wire::relay::{RelayCommand, StreamId};
use proptest::prelude::{any, prop, proptest};

use super::net::{Net, Path, extend2_body, id, three_hops, three_hops_of};
use crate::switch::memory::{CIRCUIT_WITH_CELL_BYTES, LINK_BYTES, with_room_for};
use crate::switch::{ChannelClose, Command, Limits, WorkerId};

#[test]
fn handshakes_that_are_refused() {
    let mut net = Net::new(&[1]);
    let client = net.client((0, 0));
    let mut circ_id = 0x8000_0000;
    for kind in [
        HandshakeType::TAP,
        HandshakeType::FAST,
        HandshakeType(7),
        HandshakeType::NTOR,
    ] {
        circ_id += 1;
        let mut cell = cell::new_cell(CircId(circ_id), Cell::CREATE2);
        Create2 {
            handshake_type: kind,
            data: &[1; 84],
        }
        .write(cell::payload_mut(&mut cell))
        .unwrap();
        net.send(client, &cell).unwrap();
        let answer = net.inbox[client].pop_front().unwrap();
        assert_eq!(
            (cell::circ_id(&answer), answer[4], answer[5]),
            (CircId(circ_id), 4, 1)
        );
    }
    net.send(client, &cell::new_cell(CircId(0x8000_0009), Cell::CREATE))
        .unwrap();
    assert_eq!(net.inbox[client].pop_front().unwrap()[4], Cell::DESTROY.0);
    assert_eq!(net.nodes[0].switches[0].counts().circuits, 0);
    assert_eq!(net.nodes[0].switches[0].counts().onionskins, 0);
}

#[test]
fn a_relay_that_sleeps_takes_no_new_circuits() {
    let mut net = Net::new(&[1]);
    let client = net.client((0, 0));
    Path::create_fast(&mut net, client, 0x8000_0001);
    net.nodes[0].switches[0].set_hibernating(true);
    for (circ_id, kind) in [
        (0x8000_0002, Cell::CREATE_FAST),
        (0x8000_0003, Cell::CREATE2),
    ] {
        net.send(client, &cell::new_cell(CircId(circ_id), kind))
            .unwrap();
        let answer = net.inbox[client].pop_front().unwrap();
        // HIBERNATING is 4 (tor-spec 5.4).
        assert_eq!((answer[4], answer[5]), (Cell::DESTROY.0, 4));
    }
    assert_eq!(net.nodes[0].switches[0].counts().circuits, 1);
    net.nodes[0].switches[0].set_hibernating(false);
    Path::create_fast(&mut net, client, 0x8000_0002);
}

#[test]
fn circuits_past_the_limit() {
    let mut net = Net::with(&[1], |config| {
        config.limits = Limits {
            circuits_per_channel_max: 2,
            ..Limits::default()
        };
    });
    let client = net.client((0, 0));
    let first = Path::create_fast(&mut net, client, 0x8000_0001);
    Path::create_fast(&mut net, client, 0x8000_0002);
    net.send(
        client,
        &cell::new_cell(CircId(0x8000_0003), Cell::CREATE_FAST),
    )
    .unwrap();
    let answer = net.inbox[client].pop_front().unwrap();
    assert_eq!((answer[4], answer[5]), (Cell::DESTROY.0, 5));
    net.send(client, &cell::new_cell(first.circ_id, Cell::DESTROY))
        .unwrap();
    Path::create_fast(&mut net, client, 0x8000_0003);
}

/// Each violation, on a fresh circuit of one hop, ends it with reason 1.
#[test]
fn violations_end_the_circuit() {
    let cases: [(Cell, RelayCommand, &[u8]); 5] = [
        (Cell::RELAY, RelayCommand::EXTEND, &[]),
        (Cell::RELAY, RelayCommand::SENDME, &[]),
        (Cell::RELAY, RelayCommand::SENDME, &[1, 0, 20]),
        (Cell::RELAY, RelayCommand::SENDME, &[2, 0, 0]),
        (Cell::RELAY_EARLY, RelayCommand::EXTEND2, &[0]),
    ];
    for (cell_command, command, data) in cases {
        let mut net = Net::new(&[1]);
        let client = net.client((0, 0));
        let mut path = Path::create_fast(&mut net, client, 0x8000_0001);
        path.send_at(&mut net, 0, cell_command, command, StreamId(0), data);
        assert_eq!(path.destroyed(&mut net), 1, "{command}");
        assert_eq!(net.nodes[0].switches[0].counts().circuits, 0);
    }
}

#[test]
fn what_is_only_dropped() {
    let mut net = Net::new(&[1, 1]);
    net.link((0, 0), (1, 0));
    let client = net.client((0, 0));
    let mut path = Path::create_fast(&mut net, client, 0x8000_0001);
    let extend = extend2_body(&net, 1, &[0; 84]);
    let cases: [(RelayCommand, u16, &[u8]); 10] = [
        (RelayCommand::DROP, 0, &[1, 2]),
        (RelayCommand(200), 7, &[1, 2]),
        (RelayCommand::DATA, 0, b"x"),
        (RelayCommand::DATA, 9, b"x"),
        (RelayCommand::SENDME, 9, &[]),
        (RelayCommand::END, 9, &[]),
        (RelayCommand::BEGIN, 0, b"a:80\0"),
        (RelayCommand::CONNECTED, 9, &[]),
        (RelayCommand::EXTEND2, 0, &extend),
        (RelayCommand::TRUNCATED, 0, &[]),
    ];
    for (command, stream, data) in cases {
        path.send(&mut net, command, stream, data);
        assert_eq!(net.inbox[client].len(), 0, "{command}");
    }
    let early = Cell::RELAY_EARLY;
    path.send_at(
        &mut net,
        0,
        early,
        RelayCommand::EXTEND2,
        StreamId(3),
        &extend,
    );
    assert_eq!(net.inbox[client].len(), 0);
    assert_eq!(net.nodes[0].switches[0].counts().circuits, 1);
    assert!(net.nodes[0].commands.is_empty());
}

#[test]
fn extend2_that_is_refused() {
    let v4: SocketAddrV4 = "127.2.0.1:9001".parse().unwrap();
    let list = |rsa: RsaId, ed, addr: Option<&str>| {
        let addr = addr.map(|addr| addr.parse().unwrap());
        LinkSpecifiers::new(addr, rsa, ed, None)
    };
    let stranger = RsaId::from([77; 20]);
    let public = Some("1.2.3.4:9001");
    let mut twice = list(stranger, None, public);
    twice.0.push(LinkSpecifier::Rsa(stranger));
    let cases = [
        list(id(1).rsa, None, public),
        list(stranger, Some(id(1).ed), public),
        list(id(0).rsa, None, public),
        list(stranger, Some(id(0).ed), public),
        list(RsaId::from([0; 20]), None, public),
        list(stranger, None, None),
        list(stranger, None, Some("1.2.3.4:0")),
        list(stranger, None, Some(&v4.to_string())),
        LinkSpecifiers(vec![LinkSpecifier::Ipv4(v4)]),
        LinkSpecifiers::new(
            None,
            stranger,
            None,
            Some("[2606::1]:9001".parse().unwrap()),
        ),
        twice,
    ];
    for (n, link_specifiers) in cases.into_iter().enumerate() {
        let mut net = Net::new(&[1, 1]);
        net.link((0, 0), (1, 0));
        let client = net.client((0, 0));
        let mut path = Path::create(&mut net, client, 0x8000_0001, 0);
        path.extend(&mut net, 1);
        let mut config = super::net::config(1);
        config.extend_allow_private = false;
        net.nodes[1].switches[0].set_config(config.into(), net.now);
        let mut body = Vec::new();
        let handshake_type = HandshakeType::NTOR;
        Extend2 {
            link_specifiers,
            handshake_type,
            data: &[0; 84],
        }
        .write(&mut body)
        .unwrap();
        let early = Cell::RELAY_EARLY;
        path.send_at(
            &mut net,
            1,
            early,
            RelayCommand::EXTEND2,
            StreamId(0),
            &body,
        );
        let message = path.receive(&mut net).unwrap();
        assert_eq!(message.command, RelayCommand::TRUNCATED, "case {n}");
        assert_eq!((message.hop, message.data), (0, vec![1]), "case {n}");
    }
}

#[test]
fn a_second_extend_and_an_unreachable_relay() {
    let mut net = Net::new(&[1, 1]);
    let client = net.client((0, 0));
    let early = Cell::RELAY_EARLY;
    // No link to relay 1, and the shell cannot open one.
    let mut path = Path::create_fast(&mut net, client, 0x8000_0001);
    let body = extend2_body(&net, 1, &[0; 84]);
    path.send_at(
        &mut net,
        0,
        early,
        RelayCommand::EXTEND2,
        StreamId(0),
        &body,
    );
    assert_eq!(path.destroyed(&mut net), 6);
    // Two at once, before the channel is there.
    let mut path = Path::create_fast(&mut net, client, 0x8000_0002);
    let mut two = Vec::new();
    for _ in 0..2 {
        let extend = RelayCommand::EXTEND2;
        two.extend(path.cell_at(&mut net, 0, early, extend, StreamId(0), &body));
    }
    net.send(client, &two).unwrap();
    assert_eq!(path.destroyed(&mut net), 1);
}

#[test]
fn early_cells_are_counted_and_come_from_one_side_only() {
    let (mut net, mut path) = three_hops(&[1, 1, 1], |_| 0);
    // Two were spent on extending.
    for n in 3..=8 {
        path.send_at(
            &mut net,
            0,
            Cell::RELAY_EARLY,
            RelayCommand::DROP,
            StreamId(0),
            &[],
        );
        assert_eq!(net.inbox[0].len(), 0, "{n}");
    }
    path.send_at(
        &mut net,
        0,
        Cell::RELAY_EARLY,
        RelayCommand::DROP,
        StreamId(0),
        &[],
    );
    assert_eq!(path.destroyed(&mut net), 1);
    // An inbound one, from the middle relay.
    let (mut net, path) = three_hops(&[1, 1, 1], |_| 0);
    let switch = &mut net.nodes[0].switches[0];
    let (key, link) = switch
        .shared
        .channels
        .iter()
        .find(|(_, l)| l.channel.link().initiator)
        .unwrap();
    let (circ_id, _) = link.channel.circuit_refs().next().unwrap();
    let mut inbound = cell::new_cell(circ_id, Cell::RELAY_EARLY);
    let now = net.now;
    switch.handle_cells(key, &mut inbound, now).unwrap();
    net.run();
    assert_eq!(path.destroyed(&mut net), 1);
}

#[test]
fn an_unrecognised_cell_at_the_end() {
    let (mut net, mut path) = three_hops(&[1, 1, 1], |_| 0);
    let cell = cell::new_cell(path.circ_id, Cell::RELAY);
    net.send(path.client, &cell).unwrap();
    let message = path.receive(&mut net).unwrap();
    assert_eq!(
        (message.hop, message.command, message.data[0]),
        (1, RelayCommand::TRUNCATED, 1)
    );
}

#[test]
fn handshake_cells_close_the_channel() {
    let mut net = Net::new(&[1]);
    let client = net.client((0, 0));
    let path = Path::create_fast(&mut net, client, 0x8000_0001);
    let certs = [0, 0, 0, 0, Cell::CERTS.0, 0, 1, 0];
    let (_, _, key) = net.channel_of_client(client);
    let now = net.now;
    let switch = &mut net.nodes[0].switches[0];
    // VPADDING and PADDING are nothing.
    let mut padding = vec![0, 0, 0, 0, Cell::VPADDING.0, 0, 2, 9, 9];
    padding.extend(cell::new_cell(CircId::NONE, Cell::PADDING));
    assert_eq!(
        switch.handle_cells(key, &mut padding, now),
        Ok(9 + CELL_LEN)
    );
    let closed = switch.handle_cells(key, &mut certs.to_vec(), now);
    assert_eq!(closed, Err(ChannelClose::Unexpected(Cell::CERTS)));
    assert_eq!((switch.counts().circuits, switch.counts().channels), (0, 0));
    let closed = switch.handle_cells(key, &mut cell::new_cell(path.circ_id, Cell::RELAY), now);
    assert_eq!(closed, Err(ChannelClose::Unknown));
}

#[test]
fn the_memory_limit_takes_the_oldest() {
    let net = Net::with(&[1, 1, 1], |config| config.memory = with_room_for(2, 100));
    let (mut net, mut path) = three_hops_of(net, |_| 0);
    let (_, _, key) = net.channel_of_client(path.client);
    let now = net.now;
    let mut cells = Vec::new();
    for _ in 0..300 {
        cells.extend(path.cell(&mut net, RelayCommand::DROP, 0, &[]));
    }
    // Nobody takes the output meanwhile.
    net.nodes[0].switches[0]
        .handle_cells(key, &mut cells, now)
        .unwrap();
    let counts = net.nodes[0].switches[0].counts();
    assert_eq!((counts.circuits, counts.queued_cells), (0, 2));
    net.run();
    assert_eq!(path.destroyed(&mut net), 5);
}

/// Many links ask for circuits and read no answer, again and again. What is closed is the oldest
/// tenth, not all; its work is in proportion to what is closed, and what it leaves is little.
#[test]
fn the_memory_limit_costs_in_proportion() {
    const LINKS: usize = 20;
    const CIRCUITS: u32 = 1500;
    let cells_max = 10_000;
    let mut net = Net::with(&[1], |config| {
        config.memory = Memory::new(LINKS * LINK_BYTES + cells_max * CIRCUIT_WITH_CELL_BYTES);
    });
    let clients: Vec<usize> = (0..LINKS).map(|_| net.client((0, 0))).collect();
    let channels: Vec<_> = clients
        .iter()
        .map(|client| net.channel_of_client(*client).2)
        .collect();
    let mut now = net.now;
    let switch = &mut net.nodes[0].switches[0];
    let mut made = 0;
    for number in 0..CIRCUITS {
        now = now + std::time::Duration::from_millis(1);
        for channel in &channels {
            let id = CircId(0x8000_0001 + number);
            let mut cell = cell::new_cell(id, Cell::CREATE_FAST);
            switch.handle_cells(*channel, &mut cell, now).unwrap();
            made += 1;
            let circuits = switch.counts().circuits;
            assert!(circuits <= cells_max + cells_max / 100, "{circuits}");
            // A pass leaves what it need not take.
            assert!(circuits >= made.min(cells_max * 8 / 10), "{circuits}");
        }
    }
    let counts = switch.counts().memory;
    assert_eq!(counts.closed, (made - switch.counts().circuits) as u64);
    assert!(counts.passes <= 2 * counts.closed / (cells_max as u64 / 10));
    assert!(counts.considered <= 12 * counts.closed, "{counts:?}");
    // The youngest are left.
    let oldest = switch
        .shared
        .channels
        .waiting()
        .map(|(_, waiting)| waiting.since);
    assert!(oldest.min().unwrap() > net.now.mono + std::time::Duration::from_millis(900));
}

/// Circuits that are idle cost a pass nothing.
#[test]
fn the_memory_limit_looks_at_what_is_queued() {
    let mut net = Net::with(&[1], |config| {
        config.memory = Memory::new(2 * LINK_BYTES + 1000 * CIRCUIT_WITH_CELL_BYTES);
    });
    let (idle, busy) = (net.client((0, 0)), net.client((0, 0)));
    for number in 1..=500 {
        Path::create_fast(&mut net, idle, 0x8000_0000 + number);
    }
    let (_, _, key) = net.channel_of_client(busy);
    let now = net.now;
    let switch = &mut net.nodes[0].switches[0];
    for number in 1..=2000 {
        let mut cell = cell::new_cell(CircId(0x8000_0000 + number), Cell::CREATE_FAST);
        switch.handle_cells(key, &mut cell, now).unwrap();
    }
    let memory = switch.counts().memory;
    assert!(memory.closed > 0 && memory.considered <= 800 * memory.passes);
    let (_, _, key) = net.channel_of_client(idle);
    let link = net.nodes[0].switches[0].shared.channels.get(key).unwrap();
    assert_eq!(link.channel.circuit_count(), 500);
}

#[test]
fn the_memory_limit_reaches_streams() {
    let net = Net::with(&[1, 1, 1], |config| config.memory = with_room_for(5, 50));
    let (mut net, mut path) = three_hops_of(net, |_| 0);
    for id in [1, 2] {
        path.send(&mut net, RelayCommand::BEGIN, id, b"example.com:80\0");
    }
    for n in 0..60 {
        path.send(&mut net, RelayCommand::DATA, 1 + n % 2, &[7; 498]);
    }
    let counts = net.nodes[2].switches[0].counts();
    assert_eq!((counts.circuits, counts.streams), (0, 0));
    let closed = net.nodes[2].commands.iter();
    let closed = closed.filter(|(_, command)| matches!(command, Command::CloseStream { .. }));
    assert!(closed.count() >= 2);
}

#[test]
fn a_peer_that_does_not_read_is_cut_off() {
    let mut net = Net::new(&[1]);
    let client = net.client((0, 0));
    let (_, _, key) = net.channel_of_client(client);
    let now = net.now;
    let switch = &mut net.nodes[0].switches[0];
    for n in 0..5000 {
        let mut cell = cell::new_cell(CircId(n + 1), Cell::CREATE_FAST);
        switch.handle_cells(key, &mut cell, now).unwrap();
    }
    let reason = ChannelClose::NotReading;
    let Some(Command::CloseChannel {
        channel,
        reason: got,
    }) = switch.poll_command()
    else {
        panic!("the channel is to be closed")
    };
    assert_eq!((channel, got), (key, reason));
    assert!(switch.poll_command().is_none());
}

/// Circuits that nothing is queued for hold memory too: before they have it all, no more are taken,
/// and what moves on others goes on.
#[test]
fn idle_circuits_leave_memory_to_others() {
    let each = CIRCUIT_WITH_CELL_BYTES;
    let mut net = Net::with(&[1], |config| config.memory = Memory::new(1000 * each));
    let (idle, busy) = (net.client((0, 0)), net.client((0, 0)));
    let mut path = Path::create_fast(&mut net, busy, 0x8000_0001);
    let mut refused = 0;
    for number in 1..=4000 {
        let create = cell::new_cell(CircId(0x8000_0000 + number), Cell::CREATE_FAST);
        net.send(idle, &create).unwrap();
        let answer = net.inbox[idle].pop_front().unwrap();
        refused += usize::from((answer[4], answer[5]) == (Cell::DESTROY.0, 5));
    }
    let counts = net.nodes[0].switches[0].counts();
    assert!(
        refused > 2000 && counts.circuits > 500,
        "{refused} {counts:?}"
    );
    assert_eq!(counts.memory.closed, 0);
    path.send(&mut net, RelayCommand::TRUNCATE, 0, &[0]);
    let answer = path.receive(&mut net).unwrap();
    assert_eq!(answer.command, RelayCommand::TRUNCATED);
    // What is closed makes room again.
    for number in 1..=400 {
        let destroy = cell::new_cell(CircId(0x8000_0000 + number), Cell::DESTROY);
        net.send(idle, &destroy).unwrap();
    }
    Path::create_fast(&mut net, busy, 0x8000_0002);
}

/// The worker that takes in too much asks the one that holds it.
#[test]
fn the_memory_of_all_workers_is_one() {
    let mut net = Net::with(&[2], |config| config.memory = with_room_for(4, 4000));
    let (first, second) = (net.client((0, 0)), net.client((0, 1)));
    let mut now = net.now;
    let keys = [
        net.channel_of_client(first).2,
        net.channel_of_client(second).2,
    ];
    let switches = &mut net.nodes[0].switches;
    for (at, count) in [(0, 1500), (1, 2500)] {
        for number in 1..=count {
            now = now + std::time::Duration::from_millis(1);
            let mut cell = cell::new_cell(CircId(0x8000_0000 + number), Cell::CREATE_FAST);
            switches[at].handle_cells(keys[at], &mut cell, now).unwrap();
            let items = switches[1].take_handover(WorkerId(0));
            switches[0].handle_handover(items, now);
        }
    }
    for switch in switches {
        let memory = switch.counts().memory;
        assert!(memory.passes > 0 && memory.closed > 0, "{memory:?}");
    }
    // Both have freed a part of theirs, neither all.
    assert!(
        net.nodes[0]
            .switches
            .iter()
            .all(|it| it.counts().circuits > 100)
    );
}

proptest! {
    /// Cells of random commands and ids among those of a circuit: no panic, nothing left over.
    #[test]
    fn garbage(
        seed: [u8; 32],
        kinds in prop::collection::vec((0_u8..16, 0_u8..4, any::<bool>()), 1..60),
    ) {
        let (mut net, path) = three_hops(&[2, 2, 1], |n| usize::from(n == 0));
        let mut rng = Rng::from_seed(seed);
        for (kind, id, valid) in kinds {
            let ids = [path.circ_id, CircId(0), CircId(0x8000_0002), CircId(5)];
            let circ_id = ids[usize::from(id)];
            let mut cell: [u8; CELL_LEN] = rng.array();
            if valid {
                cell = cell::new_cell(circ_id, Cell(kind));
            }
            cell::set_header(&mut cell, circ_id, Cell(kind));
            if Cell(kind).is_variable() {
                continue;
            }
            net.send(path.client, &cell).unwrap();
        }
        let (_, _, key) = net.channel_of_client(path.client);
        let now = net.now;
        for node in &mut net.nodes {
            for switch in &mut node.switches {
                let keys: Vec<_> = switch.shared.channels.keys().collect();
                for key in keys {
                    switch.channel_closed(key, now);
                }
            }
        }
        let _ = key;
        net.run_all_handover();
        for node in &net.nodes {
            for switch in &node.switches {
                let counts = switch.counts();
                assert_eq!((counts.circuits, counts.streams, counts.queued_cells), (0, 0, 0));
            }
        }
    }

    /// Relay messages of random content at each hop.
    #[test]
    fn garbage_messages(
        seed: [u8; 32],
        messages in prop::collection::vec((0_u8..48, 0_usize..3, 0_u16..3, 0_usize..498), 1..40),
    ) {
        let (mut net, mut path) = three_hops(&[2, 2, 1], |n| usize::from(n == 0));
        let mut rng = Rng::from_seed(seed);
        for (command, hop, stream, len) in messages {
            let mut data = vec![0; len];
            rng.fill(&mut data);
            let (command, stream) = (RelayCommand(command), StreamId(stream));
            path.send_at(&mut net, hop, Cell::RELAY, command, stream, &data);
        }
    }
}

#[test]
fn unknown_ed25519_identities_are_not_invented() {
    let known = crate::KnownRelays::default();
    assert_eq!(known.ed(&RsaId::from([1; 20])), None::<Ed25519Id>);
}
