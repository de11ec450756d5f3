//! Where a relay connects strangers to: what its descriptor says, and no address of its own house.

use std::io::Write as _;
use std::net::TcpListener;

use cepa_wire::relay::RelayCommand;

use crate::attacker::Sources;
use crate::attacker::circuit::Circuit;
use crate::attacker::link::Link;
use crate::world::{EXIT, GUARD, World};

/// A relay that says `reject *:*`.
const NO_EXIT: &str = "relay2";

/// A relay without a policy connects to nothing, and resolves nothing.
pub(crate) fn no_policy(world: &World) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"secret of a service on loopback\n");
        }
    });
    let mut link = Link::open(Sources::claim().one(), world.target(GUARD).or).unwrap();
    let mut circuit = Circuit::fast(&mut link).unwrap();
    circuit.extend(&mut link, world.target(NO_EXIT)).unwrap();
    let own = world.target(NO_EXIT).or;
    let places = [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("0.0.0.0:{port}"),
        own.to_string(),
        "10.0.0.1:80".to_owned(),
        "169.254.169.254:80".to_owned(),
        "192.0.2.1:80".to_owned(),
    ];
    for (stream, place) in (1..).zip(&places) {
        circuit.begin(&mut link, stream, place).unwrap();
        let (command, _, data) = circuit.receive(&mut link).unwrap();
        let end = (command, data.first().copied());
        println!("BEGIN {place}: {end:?}");
        assert_eq!(command, RelayCommand::END, "{place}: {data:?}");
    }
    let resolve = RelayCommand::RESOLVE;
    circuit
        .send(&mut link, resolve, 90, b"localhost\0")
        .unwrap();
    let (command, _, data) = circuit.receive(&mut link).unwrap();
    let is_address = data.first().is_some_and(|kind| [4, 6].contains(kind));
    assert!(!is_address, "RESOLVE localhost: {command} {data:?}");
}

/// An exit does not connect to the OR port of a relay: nobody comes back into the network so.
pub(crate) fn reentry(world: &World) {
    world.informed(EXIT);
    let mut link = Link::open(Sources::claim().one(), world.target(GUARD).or).unwrap();
    let mut circuit = Circuit::fast(&mut link).unwrap();
    circuit.extend(&mut link, world.target(EXIT)).unwrap();
    for (stream, nickname) in (1..).zip([GUARD, NO_EXIT, "auth1", EXIT]) {
        let place = world.target(nickname).or.to_string();
        circuit.begin(&mut link, stream, &place).unwrap();
        let (command, _, data) = circuit.receive(&mut link).unwrap();
        assert_eq!(command, RelayCommand::END, "{nickname}: {data:?}");
    }
}
