//! Connections: TCP and TLS as a delay, the link handshake of production, then cells.
//!
//! Bytes of one direction come in order; a machine sends one batch after the other, at its rate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cepa_client::LinkId;
use cepa_crypto::RsaId;
use cepa_crypto::digest::sha256;
use cepa_link::{
    ChannelKey, Established, Handshake, LINK_VERSIONS, PeerExpectation, Step, TlsBinding,
};
use cepa_relay::WorkerId;
use cepa_wire::Now;

use super::machines::Machine;
use super::{Event, Network, Plane};
use crate::sim::net::between;

/// Round trips before the link handshake: TCP's, and two of TLS.
const SETUP_TRIPS: u32 = 3;

/// Whom a connection is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// A client's link.
    Client(LinkId),
    /// A relay's, by which circuits are extended.
    Relay(RsaId),
    /// An authority tests a relay.
    Test(RsaId, SocketAddr),
}

/// One end of a connection.
pub(super) struct End {
    machine: usize,
    generation: u64,
    handshake: Option<Handshake>,
    key: Option<ChannelKey>,
    input: Vec<u8>,
    /// When the last bytes towards it arrive.
    last: Duration,
    /// Whether it is to be asked for more output when its machine has sent what it has.
    is_planned: bool,
}

/// A connection.
pub(super) struct Connection {
    ends: [End; 2],
    purpose: Purpose,
    /// What virtual TLS has in common.
    secret: [u8; 32],
    cert: Vec<u8>,
}

/// Virtual TLS.
struct Tls<'a> {
    secret: &'a [u8; 32],
    cert: Option<&'a [u8]>,
}

impl TlsBinding for Tls<'_> {
    fn export(&self, label: &[u8], context: &[u8], out: &mut [u8; 32]) -> bool {
        *out = sha256(&[self.secret, label, context].concat());
        true
    }

    fn peer_cert_der(&self) -> Option<&[u8]> {
        self.cert
    }
}

fn other(side: usize) -> usize {
    1 - side
}

/// A machine connects to a relay.
pub(super) fn connect(
    net: &mut Network,
    from: usize,
    addr: SocketAddr,
    expect: PeerExpectation,
    purpose: Purpose,
) {
    let target = net.by_ip.get(&addr.ip()).copied();
    let trip = net.delay() * 2;
    let generation = net.machines.get(from).map_or(0, |one| one.generation);
    let identity = target.and_then(|to| net.machines.get_mut(to)?.relay()?.link.clone());
    let (Some(to), Some(identity)) = (target, identity) else {
        let failed = Event::Failed(from, generation, purpose);
        return net.plan_in(trip, failed);
    };
    let own = net.machines.get_mut(from).and_then(|one| one.relay());
    let own = own.and_then(|host| host.link.clone());
    let from_addr = net
        .machines
        .get(from)
        .map_or(addr, |one| SocketAddr::new(one.ip.into(), 40_000));
    let initiator = Handshake::initiator(expect, own, addr, &LINK_VERSIONS);
    let responder = Handshake::responder(identity, from_addr, &LINK_VERSIONS);
    let end = |machine, generation, handshake| End {
        machine,
        generation,
        handshake: Some(handshake),
        key: None,
        input: Vec::new(),
        last: Duration::ZERO,
        is_planned: false,
    };
    let there = net.machines.get(to).map_or(0, |one| one.generation);
    net.connections_made += 1;
    let number = net.connections_made;
    let connection = Connection {
        ends: [end(from, generation, initiator), end(to, there, responder)],
        purpose,
        secret: net.rng.array(),
        cert: net.tls_cert.as_ref().clone(),
    };
    net.connections.insert(number, connection);
    net.plan_in(trip * SETUP_TRIPS, Event::Bytes(number, 0, Vec::new()));
}

/// Bytes have come at one end.
pub(super) fn bytes(net: &mut Network, number: u64, side: usize, bytes: &[u8]) {
    let Some(connection) = net.connections.get_mut(&number) else {
        return;
    };
    let Some(end) = connection.ends.get_mut(side) else {
        return;
    };
    let (machine, generation) = (end.machine, end.generation);
    if net
        .machines
        .get(machine)
        .is_none_or(|one| one.generation != generation)
    {
        return hang_up(net, number, side);
    }
    end.input.extend_from_slice(bytes);
    let is_open = if end.handshake.is_some() {
        shake(net, number, side)
    } else {
        true
    };
    if is_open {
        cells(net, number, side);
    }
    net.settle(machine);
}

/// Goes on with a handshake; whether the link is open since.
fn shake(net: &mut Network, number: u64, side: usize) -> bool {
    let Some(connection) = net.connections.get_mut(&number) else {
        return false;
    };
    let purpose = connection.purpose;
    let cert = (side == 0).then_some(connection.cert.as_slice());
    let tls = Tls {
        secret: &connection.secret,
        cert,
    };
    let Some(end) = connection.ends.get_mut(side) else {
        return false;
    };
    let machine = end.machine;
    let Some(mut handshake) = end.handshake.take() else {
        return false;
    };
    let now = super::now_at(net.base, net.at);
    let Some(host) = net.machines.get_mut(machine) else {
        return false;
    };
    let step = handshake.handle_bytes(&mut end.input, &tls, now, &mut host.rng);
    let output = handshake.take_output();
    let established = match step {
        Ok(Step::Continue) => {
            end.handshake = Some(handshake);
            transmit(net, number, side, output);
            return false;
        }
        Ok(Step::Done(established)) => *established,
        Err(error) => {
            net.note(format_args!("link {number}: {error}"));
            hang_up(net, number, side);
            close(net, number, side);
            return false;
        }
    };
    let key = open(host, purpose, side == 1, established, now);
    if let Some(key) = key {
        host.links.insert(key, (number, side));
        end.key = Some(key);
    }
    transmit(net, number, side, output);
    if key.is_none() {
        close(net, number, side);
    }
    key.is_some()
}

/// A link is open: whoever wanted it takes it over, or has learnt enough.
fn open(
    host: &mut Machine,
    purpose: Purpose,
    is_accepted: bool,
    established: Established,
    now: Now,
) -> Option<ChannelKey> {
    let peer = established.peer;
    match (host.plane.as_mut()?, purpose) {
        (Plane::Client(client), Purpose::Client(link)) => {
            client.client.handle_channel_opened(link, established, now)
        }
        (Plane::Client(_), _) => None,
        (Plane::Relay(relay), Purpose::Test(rsa, address)) if !is_accepted => {
            if let Some(authority) = &mut relay.authority {
                authority.handle_reachability(&rsa, address, true, now);
            }
            None
        }
        (Plane::Relay(relay), _) => {
            let switch = relay.switch.as_mut()?;
            let key = switch.add_channel(established, now);
            if let Some(peer) = peer {
                relay.known.insert(peer.rsa, key);
                for circuit in relay.waiting.remove(&peer.rsa).unwrap_or_default() {
                    switch.handle_channel_found(circuit, Some((WorkerId(0), key)), now);
                }
            }
            Some(key)
        }
    }
}

/// Gives a channel the cells that have come.
fn cells(net: &mut Network, number: u64, side: usize) {
    let now = super::now_at(net.base, net.at);
    let end = net.connections.get_mut(&number);
    let Some(end) = end.and_then(|one| one.ends.get_mut(side)) else {
        return;
    };
    let (Some(key), Some(machine)) = (end.key, net.machines.get_mut(end.machine)) else {
        return;
    };
    match machine.handle_cells(key, &mut end.input, now) {
        Some(used) => {
            end.input.drain(..used);
        }
        None => close(net, number, side),
    }
}

/// Sends bytes from one end, when the machine has sent what came before.
fn transmit(net: &mut Network, number: u64, side: usize, bytes: Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let delay = net.delay();
    let Some(connection) = net.connections.get_mut(&number) else {
        return;
    };
    let machine = connection.ends.get(side).map_or(0, |end| end.machine);
    let Some(host) = net.machines.get_mut(machine) else {
        return;
    };
    let takes = net.rate.time_of(bytes.len());
    host.busy = host.busy.max(net.at) + takes;
    host.sent_bytes += bytes.len() as u64;
    let Some(end) = connection.ends.get_mut(other(side)) else {
        return;
    };
    end.last = end.last.max(host.busy + delay);
    let at = end.last;
    net.bytes_sent += bytes.len() as u64;
    net.events
        .plan(at, Event::Bytes(number, other(side), bytes));
}

/// A channel has output: as much goes out as the machine can send now.
pub(super) fn pump(net: &mut Network, machine: usize, key: ChannelKey) {
    let now = super::now_at(net.base, net.at);
    let Some(host) = net.machines.get_mut(machine) else {
        return;
    };
    let Some((number, side)) = host.links.get(&key).copied() else {
        return;
    };
    let busy = host.busy;
    let end = net.connections.get_mut(&number);
    let Some(end) = end.and_then(|one| one.ends.get_mut(side)) else {
        return;
    };
    if busy > net.at {
        if !end.is_planned {
            end.is_planned = true;
            net.events.plan(busy, Event::Pump(number, side));
        }
        return;
    }
    let mut out = Vec::new();
    host.take_output(key, &mut out, now);
    let has_more = host.has_output(key);
    transmit(net, number, side, out);
    let busy = net.machines.get(machine).map_or(net.at, |one| one.busy);
    let end = net.connections.get_mut(&number);
    if let Some(end) = end.and_then(|one| one.ends.get_mut(side))
        && has_more
        && !end.is_planned
    {
        end.is_planned = true;
        net.events.plan(busy, Event::Pump(number, side));
    }
}

/// The machine may send again.
pub(super) fn pump_again(net: &mut Network, number: u64, side: usize) {
    let end = net.connections.get_mut(&number);
    let Some(end) = end.and_then(|one| one.ends.get_mut(side)) else {
        return;
    };
    end.is_planned = false;
    let (machine, key, generation) = (end.machine, end.key, end.generation);
    let is_same = net
        .machines
        .get(machine)
        .is_some_and(|one| one.generation == generation);
    if let Some(key) = key.filter(|_| is_same) {
        pump(net, machine, key);
        net.settle(machine);
    }
}

/// One end closes the connection; the other one hears of it.
pub(super) fn close(net: &mut Network, number: u64, side: usize) {
    let delay = net.delay();
    let end = net.connections.get(&number);
    let last = end
        .and_then(|one| one.ends.get(other(side)))
        .map(|end| end.last);
    let at = last.unwrap_or_default().max(net.at + delay);
    end_of(net, number, side);
    net.events.plan(at, Event::Closed(number, other(side)));
}

/// An end is there no more, and tells nobody.
fn hang_up(net: &mut Network, number: u64, side: usize) {
    end_of(net, number, side);
    let delay = net.delay();
    net.plan_in(delay, Event::Closed(number, other(side)));
}

/// What an end hears when the connection is over.
pub(super) fn closed(net: &mut Network, number: u64, side: usize) {
    let machine = end_of(net, number, side);
    net.connections.remove(&number);
    if let Some(machine) = machine {
        net.settle(machine);
    }
}

fn end_of(net: &mut Network, number: u64, side: usize) -> Option<usize> {
    let now = super::now_at(net.base, net.at);
    let connection = net.connections.get_mut(&number)?;
    let purpose = connection.purpose;
    let end = connection.ends.get_mut(side)?;
    let (machine, generation) = (end.machine, end.generation);
    let (key, was_shaking) = (end.key.take(), end.handshake.take().is_some());
    let host = net.machines.get_mut(machine)?;
    if host.generation != generation {
        return None;
    }
    if let Some(key) = key {
        host.channel_closed(key, now);
    } else if was_shaking && side == 0 {
        failed(net, machine, purpose);
    }
    Some(machine)
}

/// A connection did not come to stand.
pub(super) fn failed(net: &mut Network, machine: usize, purpose: Purpose) {
    let now = super::now_at(net.base, net.at);
    let Some(host) = net.machines.get_mut(machine) else {
        return;
    };
    match (&mut host.plane, purpose) {
        (Some(Plane::Client(client)), Purpose::Client(link)) => {
            client.client.handle_channel_failed(link, now);
        }
        (Some(Plane::Relay(relay)), Purpose::Relay(rsa)) => {
            for circuit in relay.waiting.remove(&rsa).unwrap_or_default() {
                if let Some(switch) = &mut relay.switch {
                    switch.handle_channel_found(circuit, None, now);
                }
            }
        }
        (Some(Plane::Relay(relay)), Purpose::Test(rsa, address)) => {
            if let Some(authority) = &mut relay.authority {
                authority.handle_reachability(&rsa, address, false, now);
            }
        }
        _ => {}
    }
}

impl Network {
    /// How long bytes take from machine to machine.
    pub(super) fn delay(&mut self) -> Duration {
        let (least, most) = (self.size.delay, self.size.delay + self.size.jitter);
        between(&mut self.rng, least, most)
    }
}

/// How fast a machine sends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate(pub(super) u64);

impl Rate {
    fn time_of(self, bytes: usize) -> Duration {
        Duration::from_nanos(bytes as u64 * 1_000_000_000 / self.0.max(1))
    }
}

/// Who is expected at the other end.
pub(super) fn expect(rsa: RsaId, ed: Option<cepa_crypto::Ed25519Id>) -> PeerExpectation {
    PeerExpectation { rsa: Some(rsa), ed }
}

/// Certificates are shared.
pub(super) type Shared = Arc<Vec<u8>>;
