//! Connections: TCP and TLS as a delay, the link handshake of production, then cells.
//!
//! Bytes of one direction come in order; a machine sends one batch after the other, at its rate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cepa_client::LinkId;
use cepa_crypto::RsaId;
use cepa_crypto::digest::sha256;
use cepa_link::{ChannelKey, Handshake, LINK_VERSIONS, PeerExpectation, Step, TlsBinding};

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
    Test(RsaId),
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

impl Network {
    /// A machine connects to a relay.
    pub(super) fn connect(
        &mut self,
        from: usize,
        addr: SocketAddr,
        expect: PeerExpectation,
        purpose: Purpose,
    ) {
        let target = self.by_ip.get(&addr.ip()).copied();
        let trip = self.delay() * 2;
        let generation = self.machines.get(from).map_or(0, |one| one.generation);
        let identity = target.and_then(|to| self.machines.get_mut(to)?.relay()?.link.clone());
        let (Some(to), Some(identity)) = (target, identity) else {
            let failed = Event::Failed(from, generation, purpose);
            return self.plan_in(trip, failed);
        };
        let own = self.machines.get_mut(from).and_then(|one| one.relay());
        let own = own.and_then(|host| host.link.clone());
        let from_addr = self
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
        let there = self.machines.get(to).map_or(0, |one| one.generation);
        self.connections_made += 1;
        let number = self.connections_made;
        let connection = Connection {
            ends: [end(from, generation, initiator), end(to, there, responder)],
            purpose,
            secret: self.rng.array(),
            cert: self.tls_cert.as_ref().clone(),
        };
        self.connections.insert(number, connection);
        self.plan_in(trip * SETUP_TRIPS, Event::Bytes(number, 0, Vec::new()));
    }

    /// Bytes have come at one end.
    pub(super) fn bytes(&mut self, number: u64, side: usize, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let Some(end) = connection.ends.get_mut(side) else {
            return;
        };
        let (machine, generation) = (end.machine, end.generation);
        if self
            .machines
            .get(machine)
            .is_none_or(|one| one.generation != generation)
        {
            return self.hang_up(number, side);
        }
        end.input.extend_from_slice(bytes);
        let is_open = if end.handshake.is_some() {
            self.shake(number, side)
        } else {
            true
        };
        if is_open {
            self.cells(number, side);
        }
        self.settle(machine);
    }

    /// Goes on with a handshake; whether the link is open since.
    fn shake(&mut self, number: u64, side: usize) -> bool {
        let Some(connection) = self.connections.get_mut(&number) else {
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
        let now = super::now_at(self.base, self.at);
        let Some(host) = self.machines.get_mut(machine) else {
            return false;
        };
        let step = handshake.handle_bytes(&mut end.input, &tls, now, &mut host.rng);
        let output = handshake.take_output();
        let established = match step {
            Ok(Step::Continue) => {
                end.handshake = Some(handshake);
                self.transmit(number, side, output);
                return false;
            }
            Ok(Step::Done(established)) => *established,
            Err(error) => {
                self.note(format_args!("link {number}: {error}"));
                self.hang_up(number, side);
                self.close(number, side);
                return false;
            }
        };
        let (peer, is_relays) = (established.peer, side == 1);
        let key = match &mut host.plane {
            Some(Plane::Client(client)) => match purpose {
                Purpose::Client(link) => {
                    client.client.handle_channel_opened(link, established, now)
                }
                _ => None,
            },
            Some(Plane::Relay(relay)) if is_relays || matches!(purpose, Purpose::Relay(_)) => {
                let key = relay
                    .switch
                    .as_mut()
                    .map(|one| one.add_channel(established, now));
                if let (Some(key), Some(peer)) = (key, peer) {
                    relay.known.insert(peer.rsa, key);
                    let waiting = relay.waiting.remove(&peer.rsa).unwrap_or_default();
                    for circuit in waiting {
                        if let Some(switch) = &mut relay.switch {
                            let place = Some((cepa_relay::WorkerId(0), key));
                            switch.handle_channel_found(circuit, place, now);
                        }
                    }
                }
                key
            }
            Some(Plane::Relay(relay)) => {
                if let (Purpose::Test(rsa), Some(authority)) = (purpose, &mut relay.authority) {
                    authority.handle_reachability(&rsa, true, now);
                }
                None
            }
            None => None,
        };
        if let Some(key) = key {
            host.links.insert(key, (number, side));
            end.key = Some(key);
        }
        self.transmit(number, side, output);
        if key.is_none() {
            self.close(number, side);
        }
        key.is_some()
    }

    /// Gives a channel the cells that have come.
    fn cells(&mut self, number: u64, side: usize) {
        let now = super::now_at(self.base, self.at);
        let end = self.connections.get_mut(&number);
        let Some(end) = end.and_then(|one| one.ends.get_mut(side)) else {
            return;
        };
        let (Some(key), Some(machine)) = (end.key, self.machines.get_mut(end.machine)) else {
            return;
        };
        match machine.handle_cells(key, &mut end.input, now) {
            Some(used) => {
                end.input.drain(..used);
            }
            None => self.close(number, side),
        }
    }

    /// Sends bytes from one end, when the machine has sent what came before.
    fn transmit(&mut self, number: u64, side: usize, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let delay = self.delay();
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let machine = connection.ends.get(side).map_or(0, |end| end.machine);
        let Some(host) = self.machines.get_mut(machine) else {
            return;
        };
        let takes = self.rate.time_of(bytes.len());
        host.busy = host.busy.max(self.at) + takes;
        host.sent_bytes += bytes.len() as u64;
        let Some(end) = connection.ends.get_mut(other(side)) else {
            return;
        };
        end.last = end.last.max(host.busy + delay);
        let at = end.last;
        self.bytes_sent += bytes.len() as u64;
        self.events
            .plan(at, Event::Bytes(number, other(side), bytes));
    }

    /// A channel has output: as much goes out as the machine can send now.
    pub(super) fn pump(&mut self, machine: usize, key: ChannelKey) {
        let now = super::now_at(self.base, self.at);
        let Some(host) = self.machines.get_mut(machine) else {
            return;
        };
        let Some((number, side)) = host.links.get(&key).copied() else {
            return;
        };
        let busy = host.busy;
        let end = self.connections.get_mut(&number);
        let Some(end) = end.and_then(|one| one.ends.get_mut(side)) else {
            return;
        };
        if busy > self.at {
            if !end.is_planned {
                end.is_planned = true;
                self.events.plan(busy, Event::Pump(number, side));
            }
            return;
        }
        let mut out = Vec::new();
        host.take_output(key, &mut out, now);
        let has_more = host.has_output(key);
        self.transmit(number, side, out);
        let busy = self.machines.get(machine).map_or(self.at, |one| one.busy);
        let end = self.connections.get_mut(&number);
        if let Some(end) = end.and_then(|one| one.ends.get_mut(side))
            && has_more
            && !end.is_planned
        {
            end.is_planned = true;
            self.events.plan(busy, Event::Pump(number, side));
        }
    }

    /// The machine may send again.
    pub(super) fn pump_again(&mut self, number: u64, side: usize) {
        let end = self.connections.get_mut(&number);
        let Some(end) = end.and_then(|one| one.ends.get_mut(side)) else {
            return;
        };
        end.is_planned = false;
        let (machine, key, generation) = (end.machine, end.key, end.generation);
        let is_same = self
            .machines
            .get(machine)
            .is_some_and(|one| one.generation == generation);
        if let Some(key) = key.filter(|_| is_same) {
            self.pump(machine, key);
            self.settle(machine);
        }
    }

    /// One end closes the connection; the other one hears of it.
    pub(super) fn close(&mut self, number: u64, side: usize) {
        let delay = self.delay();
        let end = self.connections.get(&number);
        let last = end
            .and_then(|one| one.ends.get(other(side)))
            .map(|end| end.last);
        let at = last.unwrap_or_default().max(self.at + delay);
        self.end_of(number, side);
        self.events.plan(at, Event::Closed(number, other(side)));
    }

    /// An end is there no more, and tells nobody.
    fn hang_up(&mut self, number: u64, side: usize) {
        self.end_of(number, side);
        let delay = self.delay();
        self.plan_in(delay, Event::Closed(number, other(side)));
    }

    /// What an end hears when the connection is over.
    pub(super) fn closed(&mut self, number: u64, side: usize) {
        let machine = self.end_of(number, side);
        self.connections.remove(&number);
        if let Some(machine) = machine {
            self.settle(machine);
        }
    }

    fn end_of(&mut self, number: u64, side: usize) -> Option<usize> {
        let now = super::now_at(self.base, self.at);
        let connection = self.connections.get_mut(&number)?;
        let purpose = connection.purpose;
        let end = connection.ends.get_mut(side)?;
        let (machine, generation) = (end.machine, end.generation);
        let (key, was_shaking) = (end.key.take(), end.handshake.take().is_some());
        let host = self.machines.get_mut(machine)?;
        if host.generation != generation {
            return None;
        }
        if let Some(key) = key {
            host.channel_closed(key, now);
        } else if was_shaking && side == 0 {
            self.failed(machine, purpose);
        }
        Some(machine)
    }

    /// A connection did not come to stand.
    pub(super) fn failed(&mut self, machine: usize, purpose: Purpose) {
        let now = super::now_at(self.base, self.at);
        let Some(host) = self.machines.get_mut(machine) else {
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
            (Some(Plane::Relay(relay)), Purpose::Test(rsa)) => {
                if let Some(authority) = &mut relay.authority {
                    authority.handle_reachability(&rsa, false, now);
                }
            }
            _ => {}
        }
    }

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
