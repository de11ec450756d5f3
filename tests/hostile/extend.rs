//! EXTEND2 with a relay's identity and another address: a stranger must not choose the way of a
//! link that others use, nor keep others waiting for it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use cepa_wire::relay::RelayCommand;

use crate::attacker::Sources;
use crate::attacker::circuit::{Circuit, specifiers};
use crate::attacker::link::Link;
use crate::attacker::tcp::{Blackhole, Proxy};
use crate::support::now;
use crate::world::{HONEST, World};

/// Whom the honest extend to; no relay beside the network has a link to it yet.
const VICTIM: &str = "relay3";
/// What the handshake of a link, and of the attacker's own circuit, may take of the proxy.
const OWN_BYTES_MAX: u64 = 40_000;
/// How long an honest extension may take on a busy machine.
const EXTEND_MAX: Duration = Duration::from_secs(5);

/// The link that opens by the attacker's address carries nothing of others.
pub(crate) fn chosen_way(world: &World) {
    let or = SocketAddr::from(([127, 91, 0, 1], world.target(VICTIM).or.port()));
    let solo = world.solo("shared", or, 1000, "");
    for (number, has_ed) in [(2, false), (3, true)] {
        let victim = world.target(VICTIM);
        let proxy = Proxy::open(Ipv4Addr::new(127, 91, 0, number), victim.or);
        let mut mine = Link::open(Sources::claim().one(), solo.or).unwrap();
        let mut circuit = Circuit::fast(&mut mine).unwrap();
        let list = specifiers(victim, proxy.addr, has_ed);
        let pending = circuit.ask_to_extend(&mut mine, victim, &list).unwrap();
        let came = circuit.extended(&mut mine, pending);
        println!("with Ed25519 {has_ed}: {came:?}, {} bytes", proxy.carried());
        let mut link = Link::open(HONEST, solo.or).unwrap();
        let mut honest = Circuit::fast(&mut link).unwrap();
        honest.extend(&mut link, victim).unwrap();
        for stream in 1..300 {
            honest
                .send(&mut link, RelayCommand::DROP, 0, &[1; 400])
                .unwrap();
            let _ = stream;
        }
        // An answer from the far relay: all before it has passed.
        honest.begin(&mut link, 1, "127.0.0.1:1").unwrap();
        honest.wait_for(&mut link, RelayCommand::END).unwrap();
        let carried = proxy.carried();
        assert!(
            carried < OWN_BYTES_MAX,
            "{carried} bytes of others went by the attacker's address"
        );
        circuit.destroy(&mut mine).unwrap();
    }
}

/// An address that never answers holds up nobody's extension but the attacker's.
pub(crate) fn blackhole(world: &World) {
    let or = SocketAddr::from(([127, 92, 0, 1], world.target(VICTIM).or.port()));
    let solo = world.solo("held", or, 1000, "");
    let victim = world.target(VICTIM);
    let hole = Blackhole::open(Ipv4Addr::new(127, 92, 0, 2));
    let mut mine = Link::open(Sources::claim().one(), solo.or).unwrap();
    for has_ed in [false, true] {
        let mut circuit = Circuit::fast(&mut mine).unwrap();
        let list = specifiers(victim, hole.addr, has_ed);
        circuit.ask_to_extend(&mut mine, victim, &list).unwrap();
    }
    let started = now();
    let mut link = Link::open(HONEST, solo.or).unwrap();
    let mut honest = Circuit::fast(&mut link).unwrap();
    honest.extend(&mut link, victim).unwrap();
    let took = now().duration_since(started);
    println!("an honest EXTEND2 took {took:?}");
    assert!(took < EXTEND_MAX, "an honest EXTEND2 took {took:?}");
}
