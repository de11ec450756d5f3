//! Acknowledgements that prove nothing, and messages that no honest end would send.

use cepa_wire::relay::RelayCommand;

use crate::attacker::Sources;
use crate::attacker::circuit::{Circuit, Ended};
use crate::attacker::link::Link;
use crate::world::{EXIT, GUARD, World};

/// Cells that a SENDME of a circuit acknowledges.
const SENDME_CELLS: usize = 100;

/// A SENDME without a tag, where the consensus asks for version 1 (`sendme_accept_min_version`).
pub(crate) fn sendme(world: &World) {
    world.informed(EXIT);
    for (version, body) in [(0, Vec::new()), (1, [&[1, 0, 20][..], &[7; 20]].concat())] {
        let mut link = Link::open(Sources::claim().one(), world.target(GUARD).or).unwrap();
        let mut circuit = Circuit::fast(&mut link).unwrap();
        circuit.extend(&mut link, world.target(EXIT)).unwrap();
        let to = world.server.to_string();
        circuit.begin(&mut link, 1, &to).unwrap();
        let connected = circuit.wait_for(&mut link, RelayCommand::CONNECTED);
        connected.unwrap();
        let get = b"GET /bytes/10000000 HTTP/1.0\r\n\r\n";
        circuit.send(&mut link, RelayCommand::DATA, 1, get).unwrap();
        for _ in 0..SENDME_CELLS {
            let data = circuit.wait_for(&mut link, RelayCommand::DATA);
            data.unwrap();
        }
        circuit
            .send(&mut link, RelayCommand::SENDME, 0, &body)
            .unwrap();
        // Answered, if the circuit is there still.
        circuit.begin(&mut link, 2, "127.79.0.9:1").unwrap();
        let end = loop {
            match circuit.receive(&mut link) {
                Err(Ended::Link(error)) => panic!("version {version}: {error}"),
                Err(end) => break end,
                Ok((command, 2, _)) => panic!("version {version} was taken: {command}"),
                Ok(_) => {}
            }
        };
        println!("version {version}: {end:?}");
    }
}
