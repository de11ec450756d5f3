//! Padding machines at the second hop: who gets what, how fast, and who asks for too much.

use std::time::Duration;

use cepa_circuit::PaddingParams;
use cepa_wire::cell::Command as Cell;
use cepa_wire::circuit_padding::{
    MachineCommand, MachineNegotiated, MachineType, NegotiateMachine,
};
use cepa_wire::relay::{RelayCommand, StreamId};

use super::net::{Net, Path, three_hops, three_hops_of};

const MIDDLE: usize = 1;

fn asked(command: MachineCommand, machine: MachineType, counter: u32) -> Vec<u8> {
    let mut body = Vec::new();
    let asked = NegotiateMachine {
        command,
        machine,
        counter,
    };
    asked.write(&mut body);
    body
}

fn say(net: &mut Net, path: &mut Path, command: RelayCommand, body: &[u8]) {
    path.send_at(net, MIDDLE, Cell::RELAY, command, StreamId::NONE, body);
}

fn ask(net: &mut Net, path: &mut Path, command: MachineCommand, machine: MachineType, n: u32) {
    let body = asked(command, machine, n);
    say(net, path, RelayCommand::PADDING_NEGOTIATE, &body);
}

fn start(net: &mut Net, path: &mut Path, machine: MachineType, counter: u32) {
    ask(net, path, MachineCommand::Start, machine, counter);
}

/// Lets half a second pass at the middle relay, in the steps that it wants.
fn pass(net: &mut Net) {
    let until = net.now.mono + Duration::from_millis(500);
    while let Some(due) = net.nodes[MIDDLE].switches[0].poll_timeout()
        && due < until
    {
        net.now.mono = due;
        let now = net.now;
        net.nodes[MIDDLE].switches[0].handle_timeout(now);
        net.run();
    }
    net.now.mono = until;
}

/// What came of the middle relay since: commands, `+` and `-` for answers.
fn came(net: &mut Net, path: &mut Path) -> String {
    let mut text = String::new();
    while let Some(message) = path.receive(net) {
        assert_eq!((message.hop, message.stream), (MIDDLE, StreamId::NONE));
        match message.command {
            RelayCommand::DROP => text.push('.'),
            RelayCommand::PADDING_NEGOTIATED => {
                let answer = MachineNegotiated::read(&message.data).unwrap();
                text.push(match (answer.command, answer.is_accepted) {
                    (MachineCommand::Start, true) => '+',
                    (MachineCommand::Start, false) => '-',
                    (MachineCommand::Stop, true) => '!',
                    (MachineCommand::Stop, false) => '?',
                });
            }
            command => panic!("{command}"),
        }
    }
    text
}

#[test]
fn an_introduction_is_hidden() {
    let (mut net, mut path) = three_hops(&[1, 1, 1], |_| 0);
    start(&mut net, &mut path, MachineType::HIDE_INTRO, 1);
    assert_eq!(came(&mut net, &mut path), "+");
    let begun = net.now.mono;
    pass(&mut net);
    let text = came(&mut net, &mut path);
    assert!(
        ["........!", ".......!", ".........!"].contains(&&*text),
        "{text}"
    );
    assert!(net.now.mono.duration_since(begun) >= Duration::from_millis(7));
    // Another one on the same circuit, for the next try.
    start(&mut net, &mut path, MachineType::HIDE_INTRO, 2);
    pass(&mut net);
    let text = came(&mut net, &mut path);
    assert!(
        text.starts_with("+.......") && text.ends_with(".!"),
        "{text}"
    );
}

#[test]
fn a_rendezvous_is_hidden() {
    let (mut net, mut path) = three_hops(&[1, 1, 1], |_| 0);
    start(&mut net, &mut path, MachineType::HIDE_REND, 1);
    say(&mut net, &mut path, RelayCommand::DROP, &[]);
    pass(&mut net);
    assert_eq!(came(&mut net, &mut path), "+.");
    // It is there until the client, or the circuit, ends it.
    ask(
        &mut net,
        &mut path,
        MachineCommand::Stop,
        MachineType::HIDE_REND,
        1,
    );
    ask(
        &mut net,
        &mut path,
        MachineCommand::Stop,
        MachineType::HIDE_REND,
        1,
    );
    assert_eq!(came(&mut net, &mut path), "!");
}

/// In relay cells of version 1, too, which Arti may ask a second hop for.
#[test]
fn either_cipher_will_do() {
    for mix in [0, 1 << MIDDLE] {
        let (mut net, mut path) = super::cgo::three(mix);
        start(&mut net, &mut path, MachineType::HIDE_REND, 1);
        say(&mut net, &mut path, RelayCommand::DROP, &[]);
        pass(&mut net);
        assert_eq!(came(&mut net, &mut path), "+.");
    }
}

#[test]
fn a_machine_is_stopped_and_replaced() {
    let (mut net, mut path) = three_hops(&[1, 1, 1], |_| 0);
    start(&mut net, &mut path, MachineType::HIDE_INTRO, 1);
    // Too old a counter; then its own.
    ask(
        &mut net,
        &mut path,
        MachineCommand::Stop,
        MachineType::HIDE_INTRO,
        9,
    );
    ask(
        &mut net,
        &mut path,
        MachineCommand::Stop,
        MachineType::HIDE_INTRO,
        1,
    );
    pass(&mut net);
    assert_eq!(came(&mut net, &mut path), "+!");
    start(&mut net, &mut path, MachineType::HIDE_INTRO, 2);
    start(&mut net, &mut path, MachineType::HIDE_REND, 3);
    pass(&mut net);
    assert_eq!(came(&mut net, &mut path), "++.");
}

#[test]
fn what_is_not_known_or_not_allowed_is_refused() {
    let (mut net, mut path) = three_hops(&[1, 1, 1], |_| 0);
    start(&mut net, &mut path, MachineType(7), 1);
    say(
        &mut net,
        &mut path,
        RelayCommand::PADDING_NEGOTIATE,
        &[0, 9, 0, 0],
    );
    say(&mut net, &mut path, RelayCommand::PADDING_NEGOTIATE, &[]);
    say(
        &mut net,
        &mut path,
        RelayCommand::PADDING_NEGOTIATED,
        &[0; 8],
    );
    assert_eq!(came(&mut net, &mut path), "-");
    let net = Net::with(&[1, 1, 1], |config| {
        config.circuit_padding.is_disabled = true;
    });
    let (mut net, mut path) = three_hops_of(net, |_| 0);
    start(&mut net, &mut path, MachineType::HIDE_REND, 1);
    pass(&mut net);
    assert_eq!(came(&mut net, &mut path), "-");
}

#[test]
fn the_consensus_ends_what_runs() {
    let (mut net, mut path) = three_hops(&[1, 1, 1], |_| 0);
    start(&mut net, &mut path, MachineType::HIDE_INTRO, 1);
    let mut config = super::net::config(MIDDLE);
    config.circuit_padding.is_disabled = true;
    net.nodes[MIDDLE].switches[0].set_config(config.into(), net.now);
    pass(&mut net);
    assert_eq!(came(&mut net, &mut path), "+!");
}

#[test]
fn padding_keeps_to_its_share() {
    let net = Net::with(&[1, 1, 1], |config| {
        config.circuit_padding = PaddingParams {
            allowed_cells: 5,
            share_max_pct: 50,
            ..PaddingParams::default()
        };
    });
    let (mut net, mut path) = three_hops_of(net, |_| 0);
    start(&mut net, &mut path, MachineType::HIDE_INTRO, 1);
    pass(&mut net);
    assert_eq!(came(&mut net, &mut path), "+.....!");
}

/// Who asks again and again has one machine at a time, which is scheduled once.
#[test]
fn asking_often_is_no_use() {
    let (mut net, mut path) = three_hops(&[1, 1, 1], |_| 0);
    for n in 1..=1000 {
        start(&mut net, &mut path, MachineType::HIDE_INTRO, n);
    }
    assert_eq!(came(&mut net, &mut path), "+".repeat(1000));
    pass(&mut net);
    let text = came(&mut net, &mut path);
    assert!(text.len() <= 10, "{text}");
    // What was scheduled for a circuit that is gone goes nowhere.
    start(&mut net, &mut path, MachineType::HIDE_INTRO, 1001);
    let mut destroy = cepa_wire::cell::new_cell(path.circ_id, Cell::DESTROY);
    cepa_wire::cell::payload_mut(&mut destroy)[0] = 9;
    net.send(path.client, &destroy).unwrap();
    net.inbox[path.client].clear();
    pass(&mut net);
    assert!(net.inbox[path.client].is_empty());
    assert_eq!(net.nodes[MIDDLE].switches[0].counts().circuits, 0);
}
