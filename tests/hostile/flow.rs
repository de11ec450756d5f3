//! XOFF and XON (proposal 324): on a stream that is being sent much, on streams that are not there,
//! malformed, without end.

use std::net::{Ipv4Addr, SocketAddr};

use cepa_wire::relay::RelayCommand;

use crate::attacker::Sources;
use crate::attacker::circuit::{Circuit, Ended, Target};
use crate::attacker::link::Link;
use crate::trial::{FLOOD, Flood};
use crate::world::{EXIT, GUARD, World};

const STOP: RelayCommand = RelayCommand::XOFF;
const GO_ON: RelayCommand = RelayCommand::XON;
/// What is said again and again: the command, the stream, the data.
const MESSAGES: [(RelayCommand, u16, &[u8]); 12] = [
    (STOP, 1, &[0]),
    (STOP, 1, &[0]),
    (GO_ON, 1, &[0, 0, 0, 0, 1]),
    (GO_ON, 1, &[0, 255, 255, 255, 255]),
    (GO_ON, 1, &[0, 0, 0, 0, 0]),
    (STOP, 1, &[]),
    (STOP, 1, &[9]),
    (GO_ON, 1, &[0, 1]),
    (GO_ON, 1, &[7; 498]),
    (STOP, 77, &[0]),
    (GO_ON, 77, &[0, 0, 0, 0, 0]),
    (GO_ON, 0, &[0, 0, 0, 0, 0]),
];

/// On circuits with congestion control and on those without.
pub(crate) fn xon_xoff(world: &World) {
    let (from, server) = (Sources::claim(), world.server);
    let relays = [GUARD, EXIT].map(|nickname| world.target(nickname).clone());
    let mut trial = world.fetchers("XOFF and XON without end", EXIT);
    let flood = Flood::start(2, move |thread, goes_on| {
        let (mut sent, mut circuits) = (0, 0);
        while goes_on() {
            let from = from.host(thread * 1000 + circuits);
            sent += toggle(from, &relays, server, thread == 0, goes_on).unwrap_or(0);
            circuits += 1;
        }
        sent
    });
    let sent = trial.during_flood(flood, FLOOD);
    trial.end(sent, "messages", 32, 16);
}

/// One circuit, until it is closed; how many messages it was told.
fn toggle(
    from: Ipv4Addr,
    [guard, exit]: &[Target; 2],
    server: SocketAddr,
    is_congested: bool,
    goes_on: &dyn Fn() -> bool,
) -> Result<usize, Ended> {
    let mut link = Link::open(from, guard.or)?;
    let mut circuit = Circuit::fast(&mut link)?;
    match is_congested {
        true => circuit.extend_congested(&mut link, exit)?,
        false => circuit.extend(&mut link, exit)?,
    }
    circuit.begin(&mut link, 1, &server.to_string())?;
    circuit.wait_for(&mut link, RelayCommand::CONNECTED)?;
    let get = b"GET /bytes/100000000 HTTP/1.0\r\n\r\n";
    circuit.send(&mut link, RelayCommand::DATA, 1, get)?;
    let mut sent = 0;
    while goes_on() && link.drain().is_ok() {
        for (command, stream, data) in MESSAGES {
            if circuit.send(&mut link, command, stream, data).is_err() {
                return Ok(sent);
            }
            sent += 1;
        }
    }
    Ok(sent)
}
