//! Padding machines that hide a visitor's circuits (padding-spec 3.3).

use cepa_netdoc::params::Params;
use cepa_wire::circuit_padding::{
    MachineCommand, MachineNegotiated, MachineType, NegotiateMachine,
};
use cepa_wire::relay::{RelayCommand, StreamId};

use super::onion::{Hosted, hosted};
use super::*;
use crate::circuits::padding::of_circuits;
use crate::config::PaddingLevel;
use crate::plane::RETIRED_FOR;

const SECOND: usize = 1;

/// What the hops of an introduction and a rendezvous circuit were asked for, in this order.
fn machines(net: &Hosted) -> Vec<(usize, MachineCommand, MachineType, u32)> {
    let read = |body: &Vec<u8>| NegotiateMachine::read(body).unwrap();
    let asked = net.world.net.onion.padding.iter();
    let mut machines: Vec<_> = asked
        .filter(|asked| asked.2 == RelayCommand::PADDING_NEGOTIATE)
        .map(|(_, hop, _, body)| (*hop, read(body)))
        .map(|(hop, asked)| (hop, asked.command, asked.machine, asked.counter))
        .collect();
    machines.sort_by_key(|machine| machine.2);
    machines
}

fn drops(net: &Hosted) -> Vec<usize> {
    let asked = net.world.net.onion.padding.iter();
    let drops = asked.filter(|asked| asked.2 == RelayCommand::DROP);
    drops.map(|asked| asked.1).collect()
}

fn with(padding: PaddingLevel) -> Hosted {
    let mut net = hosted();
    net.world.client.shared.config.circuit_padding = padding;
    let (client, now) = (&mut net.world.client, net.world.now);
    let ctx = &mut client.shared.at(client.directory.view(), now);
    client.circuits.handle_consensus(ctx);
    net
}

#[test]
fn a_visitors_circuits_are_hidden() {
    let mut net = with(PaddingLevel::Full);
    assert_eq!(machines(&net), [], "a service's are not");
    let [ours, _] = net.visit("");
    net.world.wait(Duration::from_millis(1));
    let start = MachineCommand::Start;
    assert_eq!(
        machines(&net),
        [
            (SECOND, start, MachineType::HIDE_INTRO, 1),
            (SECOND, start, MachineType::HIDE_REND, 1)
        ]
    );
    assert_eq!(
        drops(&net),
        [SECOND],
        "to the second hop of the rendezvous circuit"
    );

    // The introduction circuit is not wanted any more, and is there for a while all the same.
    let intro = net.world.net.onion.padding.iter();
    let mut intro = intro.filter(|asked| asked.2 == RelayCommand::PADDING_NEGOTIATE);
    let intro = intro.next_back().unwrap().0;
    let is_there = |net: &Hosted| net.world.net.has(intro);
    assert!(is_there(&net));
    net.world.wait(RETIRED_FOR - Duration::from_secs(5));
    assert!(is_there(&net));
    net.world.wait(Duration::from_secs(6));
    assert!(!is_there(&net));
    let circuit = net.circuit(ours);
    let status = net.world.client.shared.plane.circuit_status(circuit);
    assert_eq!(status.unwrap().dropped_cells, 0);
}

#[test]
fn whoever_wants_less_asks_for_nothing() {
    for padding in [PaddingLevel::Off, PaddingLevel::Reduced] {
        let mut net = with(padding);
        net.visit("");
        net.world.wait(Duration::from_secs(1));
        assert_eq!((machines(&net), drops(&net)), (vec![], vec![]));
    }
}

#[test]
fn the_consensus_has_its_say() {
    let consensus = |name: &str| Params::parse(&format!("{name}=1")).unwrap();
    let full = PaddingLevel::Full;
    let none = of_circuits(&consensus("circpad_padding_disabled"), full);
    assert!(none.is_disabled && !none.is_reduced);
    let less = of_circuits(&consensus("circpad_padding_reduced"), full);
    assert!(!less.is_disabled && less.is_reduced);
    let all = of_circuits(&Params::new(), full);
    assert!(!all.is_disabled && !all.is_reduced);
    assert!(of_circuits(&Params::new(), PaddingLevel::Off).is_disabled);
    assert!(of_circuits(&Params::new(), PaddingLevel::Reduced).is_reduced);
}

#[test]
fn padding_that_nobody_asked_for_is_counted() {
    let mut net = with(PaddingLevel::Full);
    net.world.net.onion.refuses_machines = true;
    let [ours, _] = net.visit("");
    let circuit = net.circuit(ours);
    let key = net.world.net.onion.padding.iter();
    let key = key.map(|asked| asked.0).next().unwrap();
    let dropped = |net: &Hosted| {
        let status = net.world.client.shared.plane.circuit_status(circuit);
        status.unwrap().dropped_cells
    };
    assert_eq!(dropped(&net), 0, "to refuse is no offence");
    let mut body = Vec::new();
    let answer = MachineNegotiated {
        command: MachineCommand::Start,
        is_accepted: true,
        machine: MachineType::HIDE_REND,
        counter: 1,
    };
    answer.write(&mut body);
    for (hop, command, body) in [
        (SECOND, RelayCommand::DROP, &[][..]),
        (0, RelayCommand::DROP, &[]),
        (SECOND, RelayCommand::PADDING_NEGOTIATED, &body),
        (SECOND, RelayCommand::PADDING_NEGOTIATE, &body),
    ] {
        let before = dropped(&net);
        net.world.net.say(key, hop, command, StreamId::NONE, body);
        net.world.run();
        assert_eq!(dropped(&net), before + 1, "{command}");
    }
    net.world.wait(Duration::from_secs(1));
    assert_eq!(drops(&net), [], "no cells for a hop that refuses");
}
