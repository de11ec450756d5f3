//! Circuits come, grow, shrink and go.

use cepa_wire::cell::{self, CircId, Command as Cell};
use cepa_wire::relay::{RelayCommand, StreamId};

use super::net::{Net, Path, id, three_hops};
use crate::switch::{Command, WorkerId};

fn counts(net: &Net) -> Vec<usize> {
    let nodes = net.nodes.iter();
    nodes
        .map(|node| {
            node.switches
                .iter()
                .map(|switch| switch.counts().circuits)
                .sum()
        })
        .collect()
}

fn queued(net: &Net) -> usize {
    let switches = net.nodes.iter().flat_map(|node| &node.switches);
    switches.map(|switch| switch.counts().queued_cells).sum()
}

#[test]
fn three_hops_and_a_message_to_each() {
    for (workers, place) in [
        (&[1, 1, 1], (|_| 0) as fn(usize) -> usize),
        (&[2, 3, 2], |n| n.min(1)),
        (&[2, 3, 2], |_| 1),
    ] {
        let (mut net, mut path) = three_hops(workers, place);
        assert_eq!(counts(&net), [1, 1, 1]);
        // BEGIN_DIR is answered by every hop (leaky pipe).
        for hop in 0..3 {
            let begin = RelayCommand::BEGIN_DIR;
            path.send_at(&mut net, hop, Cell::RELAY, begin, StreamId(4), &[]);
            assert_eq!(
                net.nodes[hop].commands.len(),
                1,
                "{:?}",
                net.nodes[hop].commands
            );
        }
        let mut destroy = cell::new_cell(path.circ_id, Cell::DESTROY);
        destroy[5] = 9;
        net.send(path.client, &destroy).unwrap();
        assert_eq!(counts(&net), [0, 0, 0]);
        assert_eq!((net.inbox[0].len(), queued(&net)), (0, 0));
    }
}

#[test]
fn create_fast_and_ids() {
    let mut net = Net::new(&[1]);
    let client = net.client((0, 0));
    let path = Path::create_fast(&mut net, client, 0x8000_0005);
    // In use, and zero: dropped. The relay's half: DESTROY.
    for (circ_id, answers) in [(0x8000_0005, 0), (0, 0), (7, 1)] {
        let cell = cell::new_cell(CircId(circ_id), Cell::CREATE_FAST);
        net.send(client, &cell).unwrap();
        assert_eq!(net.inbox[client].len(), answers);
    }
    let answer = net.inbox[client].pop_front().unwrap();
    assert_eq!((answer[4], answer[5]), (Cell::DESTROY.0, 1));
    assert_eq!((counts(&net), path.hops.len()), (vec![1], 1));
}

#[test]
fn the_way_ahead_ends_and_a_new_one_is_found() {
    let (mut net, mut path) = three_hops(&[2, 2, 2], |_| 1);
    // The last relay ends the circuit: the middle one says TRUNCATED.
    path.send(&mut net, RelayCommand::EXTEND, 0, &[]);
    let message = path.receive(&mut net).unwrap();
    assert_eq!((message.hop, message.command), (1, RelayCommand::TRUNCATED));
    assert_eq!(message.data, [1]);
    path.hops.truncate(2);
    path.extend(&mut net, 2);
    assert_eq!(counts(&net), [1, 1, 1]);
    // The client does.
    path.send_at(
        &mut net,
        1,
        Cell::RELAY,
        RelayCommand::TRUNCATE,
        StreamId(0),
        &[],
    );
    assert_eq!(counts(&net), [1, 1, 0]);
    let message = path.receive(&mut net).unwrap();
    assert_eq!((message.hop, message.command), (1, RelayCommand::TRUNCATED));
    path.hops.truncate(2);
    path.extend(&mut net, 2);
    assert_eq!(counts(&net), [1, 1, 1]);
}

#[test]
fn a_channel_that_closes_ends_its_circuits() {
    for workers in [[1, 1, 1], [2, 2, 2]] {
        let (mut net, path) = three_hops(&workers, |_| 0);
        let (node, worker, key) = net.channel_of_client(path.client);
        assert_eq!((node, worker), (0, 0));
        let now = net.now;
        net.nodes[0].switches[0].channel_closed(key, now);
        net.run();
        assert_eq!((counts(&net), queued(&net)), (vec![0, 0, 0], 0));
    }
    // From ahead the client hears of it.
    let (mut net, path) = three_hops(&[2, 2, 2], |_| 1);
    let now = net.now;
    let switch = &mut net.nodes[1].switches[1];
    let key = switch.shared.channels.keys().next().unwrap();
    assert_eq!(switch.link(key).unwrap().peer, Some(id(2)));
    switch.channel_closed(key, now);
    net.run();
    assert_eq!(counts(&net)[..2], [1, 0]);
    let mut path = path;
    let message = path.receive(&mut net).unwrap();
    assert_eq!(
        (message.hop, message.command, message.data),
        (0, RelayCommand::TRUNCATED, vec![8])
    );
}

#[test]
fn a_circuit_that_ends_while_its_channel_is_looked_for() {
    let mut net = Net::new(&[2, 1]);
    net.link((0, 1), (1, 0));
    let client = net.client((0, 0));
    let mut path = Path::create(&mut net, client, 0x8000_0001, 0);
    let body = super::net::extend2_body(&net, 1, &[0; 84]);
    let extend = path.cell_at(
        &mut net,
        0,
        Cell::RELAY_EARLY,
        RelayCommand::EXTEND2,
        StreamId(0),
        &body,
    );
    let (_, _, key) = net.channel_of_client(client);
    let (now, switches) = (net.now, &mut net.nodes[0].switches);
    switches[0]
        .handle_cells(key, &mut extend.clone(), now)
        .unwrap();
    let Some(crate::SwitchCommand::Onionskin { .. } | crate::SwitchCommand::NeedChannel { .. }) =
        switches[0].poll_command()
    else {
        panic!("a channel is needed");
    };
    let circuit = switches[0].circuits.keys().next().unwrap();
    let channel = switches[1].shared.channels.keys().next().unwrap();
    switches[0].handle_channel_found(circuit, Some((WorkerId(1), channel)), now);
    // DESTROY before the host's answer has come back.
    let mut destroy = cell::new_cell(path.circ_id, Cell::DESTROY);
    switches[0].handle_cells(key, &mut destroy, now).unwrap();
    net.run();
    assert_eq!(counts(&net), [0, 0]);
    let link = net.nodes[0].switches[1]
        .shared
        .channels
        .get(channel)
        .unwrap();
    assert_eq!(link.channel.circuit_count(), 0);
}

#[test]
fn idle_channels_are_closed() {
    let mut net = Net::new(&[1]);
    let client = net.client((0, 0));
    let path = Path::create_fast(&mut net, client, 0x8000_0001);
    let hour = std::time::Duration::from_secs(3600);
    let step = |net: &mut Net| {
        net.now = net.now + hour;
        let now = net.now;
        net.nodes[0].switches[0].handle_timeout(now);
        net.run();
        let commands = net.nodes[0].commands.iter();
        commands
            .filter(|(_, it)| matches!(it, Command::CloseChannel { .. }))
            .count()
    };
    assert_eq!(step(&mut net), 0);
    net.send(client, &cell::new_cell(path.circ_id, Cell::DESTROY))
        .unwrap();
    assert_eq!((step(&mut net), step(&mut net)), (0, 1));
    assert_eq!(net.nodes[0].switches[0].counts().channels, 0);
    assert!(net.nodes[0].switches[0].poll_timeout().is_some());
}
