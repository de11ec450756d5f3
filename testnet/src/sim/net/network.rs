//! A whole network: authorities, relays, exits, clients and onion services, the cores of
//! production, with their links, cells, circuits and streams.
//!
//! ```text
//! applications ─▶ Client ═ cells ═▶ Switch ═▶ Switch ═▶ Switch ─▶ virtual servers
//!                   │ BEGIN_DIR        │ beside each: Relay, a store; Authority at some
//!                   └──── documents ───┘ virtual HTTP between DirPorts
//! ```
//! TCP and TLS are a delay, a rate and an order ([`links`]); what goes over them is real. A model
//! looks on: each byte of a stream comes once and in order, or the stream's end is told; the hops
//! of a circuit are of different /16s; circuits begin at guards of the client's sample.

mod directory;
mod edges;
mod http;
mod links;
mod machines;
mod report;
mod setup;
mod streams;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cepa_circuit::StreamKey;
use cepa_client::Command as ClientCommand;
use cepa_client::status::{CircuitId, CircuitPurpose, CircuitState};
use cepa_crypto::{Rng, RsaId};
use cepa_dir::NetworkFile;
use cepa_relay::{SwitchCommand, WorkerId};
use cepa_wire::Now;

use self::directory::{HttpReply, HttpRequest};
use self::links::{Connection, Purpose, Rate, expect};
use self::machines::{Machine, Plane};
use super::events::Events;
use super::trace::Trace;
use super::{START, between, one_in};

pub use self::report::Report;

/// How often circuits are looked at, and applications ask again.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// How often a relay is told what it has carried.
const TRAFFIC_EVERY: Duration = Duration::from_secs(10);
/// An application that has got nothing for so long, and no end, hangs.
const HANGS: Duration = Duration::from_secs(600);
/// Events of one instant: more say that somebody wants to be woken without end.
const EVENTS_AT_ONCE_MAX: u64 = 100_000;
/// Rounds of commands that may follow from one event.
const ROUNDS_MAX: usize = 10_000;

/// How large a network is, and what its links are like.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Authorities.
    pub authorities: usize,
    /// Relays that are no exits.
    pub relays: usize,
    /// Exits.
    pub exits: usize,
    /// Clients.
    pub clients: usize,
    /// Onion services, each a client that hosts one.
    pub onion_services: usize,
    /// How long it runs.
    pub time: Duration,
    /// How long bytes take from machine to machine.
    pub delay: Duration,
    /// How much longer at most.
    pub jitter: Duration,
    /// Bytes a second that a machine sends.
    pub rate: u64,
    /// Once in so many looks (every 20 s) some relay crashes; 0 is never.
    pub crash_one_in: u64,
    /// How long an application waits on average before it asks again.
    pub think: Duration,
}

impl Default for Size {
    fn default() -> Self {
        Size {
            authorities: 3,
            relays: 12,
            exits: 4,
            clients: 4,
            onion_services: 1,
            time: Duration::from_secs(3600),
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(5),
            rate: 2_000_000,
            crash_one_in: 0,
            think: Duration::from_secs(15),
        }
    }
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, size: Size, base: Instant, keeps_trace: bool) -> Report {
    let mut network = setup::network(seed, size, base, keeps_trace);
    network.run();
    network.finish()
}

/// What happens.
enum Event {
    Wake(usize, u64),
    /// Bytes come at one end of a connection.
    Bytes(u64, usize, Vec<u8>),
    Pump(u64, usize),
    Closed(u64, usize),
    Failed(usize, u64, Purpose),
    Request(Box<HttpRequest>),
    Reply(Box<HttpReply>),
    /// An exit's connection to a server stands.
    Connected(usize, u64, StreamKey, IpAddr, u16),
    Traffic(usize, u64),
    /// An application asks for something.
    Visit(usize),
    Look,
    Start(usize),
}

struct Network {
    size: Size,
    at: Duration,
    base: Instant,
    rate: Rate,
    rng: Rng,
    events: Events<Event>,
    trace: Trace,
    machines: Vec<Machine>,
    by_ip: BTreeMap<IpAddr, usize>,
    by_rsa: BTreeMap<RsaId, usize>,
    connections: BTreeMap<u64, Connection>,
    connections_made: u64,
    tls_cert: links::Shared,
    file: Arc<NetworkFile>,
    authorities: cepa_authority::Config,
    onions: Vec<String>,
    bytes_sent: u64,
    same_instant: u64,
    asked: u64,
    /// Circuits of clients that were seen to stand.
    seen: BTreeSet<(usize, CircuitId)>,
    report: Report,
}

fn now_at(base: Instant, at: Duration) -> Now {
    Now {
        mono: base + at,
        wall: SystemTime::UNIX_EPOCH + START + at,
    }
}

impl Network {
    fn run(&mut self) {
        for number in 0..self.machines.len() {
            // Clients come when there may be a network.
            let is_client = number >= self.size.authorities + self.size.relays + self.size.exits;
            let from = Duration::from_secs(if is_client { 60 } else { 0 });
            let at = between(&mut self.rng, from, from + Duration::from_secs(5));
            self.events.plan(at, Event::Start(number));
        }
        self.events.plan(LOOK_EVERY, Event::Look);
        while let Some((at, event)) = self.events.next() {
            if at > self.size.time {
                return;
            }
            self.same_instant = if at > self.at {
                0
            } else {
                self.same_instant + 1
            };
            if self.same_instant > EVENTS_AT_ONCE_MAX {
                return self.fail("time stands still".to_owned());
            }
            self.at = at;
            self.handle(event);
        }
    }

    fn now(&self) -> Now {
        now_at(self.base, self.at)
    }

    fn plan_in(&mut self, delay: Duration, event: Event) {
        self.events.plan(self.at + delay, event);
    }

    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.note(self.at, what);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Wake(number, generation) => self.wake(number, generation),
            Event::Bytes(number, side, bytes) => {
                self.note(format_args!("link {number}.{side} {} bytes", bytes.len()));
                links::bytes(self, number, side, &bytes);
            }
            Event::Pump(number, side) => links::pump_again(self, number, side),
            Event::Closed(number, side) => links::closed(self, number, side),
            Event::Failed(number, generation, purpose) => {
                if self.is_same(number, generation) {
                    links::failed(self, number, purpose);
                    self.settle(number);
                }
            }
            Event::Request(request) => directory::serve(self, *request),
            Event::Reply(reply) => directory::take_reply(self, *reply),
            Event::Connected(number, generation, stream, ip, port) => {
                if self.is_same(number, generation) {
                    self.connected(number, stream, ip, port);
                    self.settle(number);
                }
            }
            Event::Traffic(number, generation) => self.traffic(number, generation),
            Event::Visit(number) => self.visit(number),
            Event::Look => self.look(),
            Event::Start(number) => {
                setup::start(self, number);
                self.settle(number);
            }
        }
    }

    fn is_same(&self, number: usize, generation: u64) -> bool {
        let machine = self.machines.get(number);
        machine.is_some_and(|one| one.generation == generation && one.plane.is_some())
    }

    fn wake(&mut self, number: usize, generation: u64) {
        let now = self.now();
        if !self.is_same(number, generation) {
            return;
        }
        if let Some(machine) = self.machines.get_mut(number)
            && machine.wake == Some(self.at)
        {
            machine.wake = None;
            machine.handle_timeout(now);
            self.settle(number);
        }
    }

    fn traffic(&mut self, number: usize, generation: u64) {
        let now = self.now();
        if !self.is_same(number, generation) {
            return;
        }
        let machine = self.machines.get_mut(number);
        let sent = machine.as_ref().map_or(0, |one| one.sent_bytes);
        if let Some(host) = machine.and_then(Machine::relay) {
            // What comes is about what goes.
            let moved = sent.saturating_sub(host.told_bytes);
            host.told_bytes = sent;
            host.relay.handle_traffic(moved, moved, now);
        }
        self.settle(number);
        self.plan_in(TRAFFIC_EVERY, Event::Traffic(number, generation));
    }

    /// Does all that follows at a machine: commands, streams, output; then plans its next wake-up.
    fn settle(&mut self, number: usize) {
        for _ in 0..ROUNDS_MAX {
            let mut moved = self.run_commands(number);
            let Some(machine) = self.machines.get_mut(number) else {
                return;
            };
            let (channels, streams) = machine.take_ready();
            moved |= !streams.is_empty();
            for stream in streams {
                self.serve_stream(number, stream);
            }
            for channel in channels {
                links::pump(self, number, channel);
            }
            if !moved {
                return self.plan_wake(number);
            }
        }
        self.fail(format!("machine {number} does not come to rest"));
    }

    fn plan_wake(&mut self, number: usize) {
        let (base, at) = (self.base, self.at);
        let Some(machine) = self.machines.get_mut(number) else {
            return;
        };
        let Some(due) = machine.due() else { return };
        let due = due.saturating_duration_since(base).max(at);
        if machine
            .wake
            .is_none_or(|planned| due < planned || planned < at)
        {
            machine.wake = Some(due);
            let generation = machine.generation;
            self.events.plan(due, Event::Wake(number, generation));
        }
    }

    fn run_commands(&mut self, number: usize) -> bool {
        let Some(machine) = self.machines.get_mut(number) else {
            return false;
        };
        let (mut of_client, mut of_relay) = (Vec::new(), Vec::new());
        let (mut of_switch, mut of_authority) = (Vec::new(), Vec::new());
        match &mut machine.plane {
            Some(Plane::Client(host)) => {
                of_client.extend(std::iter::from_fn(|| host.client.poll_command()));
            }
            Some(Plane::Relay(host)) => {
                of_relay.extend(std::iter::from_fn(|| host.relay.poll_command()));
                if let Some(switch) = &mut host.switch {
                    of_switch.extend(std::iter::from_fn(|| switch.poll_command()));
                }
                if let Some(authority) = &mut host.authority {
                    of_authority.extend(std::iter::from_fn(|| authority.poll_command()));
                }
            }
            None => {}
        }
        let count = of_client.len() + of_relay.len() + of_switch.len() + of_authority.len();
        of_client
            .into_iter()
            .for_each(|one| self.do_client(number, one));
        of_authority
            .into_iter()
            .for_each(|one| directory::do_authority(self, number, one));
        of_relay
            .into_iter()
            .for_each(|one| directory::do_relay(self, number, one));
        of_switch
            .into_iter()
            .for_each(|one| self.do_switch(number, one));
        count > 0
    }

    fn do_switch(&mut self, number: usize, command: SwitchCommand) {
        let now = self.now();
        let Some(machine) = self.machines.get_mut(number) else {
            return;
        };
        let generation = machine.generation;
        let rng = &mut machine.rng;
        let Some(Plane::Relay(host)) = &mut machine.plane else {
            return;
        };
        let Some(switch) = &mut host.switch else {
            return;
        };
        match command {
            SwitchCommand::Onionskin { circuit, job } => {
                let Some(keys) = &host.onion else { return };
                let reply = job.run(keys, rng);
                switch.handle_onionskin(circuit, reply, now);
            }
            SwitchCommand::NeedChannel { circuit, target } => {
                if let Some(key) = host.known.get(&target.rsa) {
                    switch.handle_channel_found(circuit, Some((WorkerId(0), *key)), now);
                    return;
                }
                let Some(addr) = target.addrs.first().copied() else {
                    return switch.handle_channel_found(circuit, None, now);
                };
                let waiting = host.waiting.entry(target.rsa).or_default();
                waiting.push(circuit);
                if waiting.len() == 1 {
                    let expected = expect(target.rsa, target.ed);
                    links::connect(self, number, addr, expected, Purpose::Relay(target.rsa));
                }
            }
            SwitchCommand::ChannelUnwanted { circuit, rsa } => {
                if let Some(waiting) = host.waiting.get_mut(&rsa) {
                    waiting.retain(|one| *one != circuit);
                }
            }
            SwitchCommand::Connect { stream, begin } => self.begin(number, stream, &begin),
            SwitchCommand::Resolve { stream, .. } => {
                switch.stream_resolved(stream, Vec::new(), now);
            }
            SwitchCommand::OpenDir { stream, anonymous } => {
                switch.stream_dir_connected(stream, now);
                let exchange = edges::Exchange::new(Vec::new());
                let edge = edges::Edge::Directory(exchange, anonymous);
                machine.edges.insert(stream, edge);
                self.serve_stream(number, stream);
            }
            SwitchCommand::CloseStream { stream } => {
                machine.edges.remove(&stream);
            }
            SwitchCommand::ChannelUsed { .. } => {}
            SwitchCommand::CloseChannel { channel, .. } => {
                if let Some((link, side)) = machine.links.get(&channel).copied() {
                    links::close(self, link, side);
                }
            }
        }
        debug_assert!(self.is_same(number, generation));
    }

    fn do_client(&mut self, number: usize, command: ClientCommand) {
        match command {
            ClientCommand::OpenChannel { link, target } => {
                let expected = expect(target.rsa, target.ed);
                match target.addrs.first().copied() {
                    Some(addr) => {
                        links::connect(self, number, addr, expected, Purpose::Client(link))
                    }
                    None => links::failed(self, number, Purpose::Client(link)),
                }
            }
            ClientCommand::CloseChannel { channel, .. } => {
                let machine = self.machines.get(number);
                let link = machine.and_then(|one| one.links.get(&channel).copied());
                if let Some((link, side)) = link {
                    links::close(self, link, side);
                }
            }
            ClientCommand::DirRequest {
                fetch,
                stream,
                request,
                body,
                ..
            } => self.ask_directory(number, fetch, stream, &request, &body),
            ClientCommand::CancelDirRequest { fetch } => self.cancel(number, fetch),
            ClientCommand::SocksConnected {
                request,
                stream,
                early,
                ..
            } => self.app_connected(number, request, stream, &early),
            ClientCommand::SocksFailed { request, status } => {
                self.app_failed(number, request, &format!("{status:?}"));
            }
            ClientCommand::SocksResolved { request, .. } => {
                self.app_failed(number, request, "resolved");
            }
            ClientCommand::OnionStream { stream, .. } => self.visited(number, stream),
            ClientCommand::OnionPublished { .. } => {
                self.note(format_args!("machine {number} has published its service"));
                self.report.published += 1;
            }
            ClientCommand::Bootstrap(status) => {
                if status.percent == 100 {
                    let after = self.at.as_secs_f64();
                    self.note(format_args!("machine {number} has bootstrapped"));
                    self.report.bootstrapped.push(after);
                }
            }
            ClientCommand::Save(_) | ClientCommand::Events => {}
        }
    }

    /// Looks at all circuits of clients; relays crash; applications that hang are told.
    fn look(&mut self) {
        let now = self.now();
        let mut wrong = Vec::new();
        for number in 0..self.machines.len() {
            let Some(host) = self.machines.get_mut(number).and_then(Machine::client) else {
                continue;
            };
            let status = host.client.status(now);
            let sample: BTreeSet<RsaId> = status
                .guards
                .sampled
                .iter()
                .map(|guard| guard.rsa)
                .collect();
            for circuit in &status.circuits {
                let hops: Vec<RsaId> = circuit.path.iter().filter_map(|hop| hop.rsa).collect();
                let nets = hops.iter().filter_map(|hop| {
                    let IpAddr::V4(ip) = self.by_rsa.get(hop).map(|at| self.ip_of(*at))? else {
                        return None;
                    };
                    let [a, b, ..] = ip.octets();
                    Some([a, b])
                });
                let nets: BTreeSet<[u8; 2]> = nets.collect();
                // The last hop of an onion circuit is whoever it must be.
                let is_free = circuit.purpose == CircuitPurpose::General;
                if is_free && nets.len() != hops.len() {
                    wrong.push(format!("client {number}: hops {hops:?} are not apart"));
                }
                if !circuit.is_one_hop() && !sample.contains(&circuit.guard) {
                    wrong.push(format!("client {number}: {} is no guard", circuit.guard));
                }
                if circuit.state == CircuitState::Built && self.seen.insert((number, circuit.id)) {
                    self.report.circuits += 1;
                }
            }
        }
        wrong.into_iter().for_each(|what| self.fail(what));
        self.look_for_hanging();
        if one_in(&mut self.rng, self.size.crash_one_in) {
            let relays = (self.size.relays + self.size.exits) as u64;
            let number = self.size.authorities + self.rng.below(relays) as usize;
            self.crash(number);
        }
        self.plan_in(LOOK_EVERY, Event::Look);
    }

    fn ip_of(&self, number: usize) -> IpAddr {
        let machine = self.machines.get(number);
        machine.map_or(IpAddr::from([0, 0, 0, 0]), |one| one.ip.into())
    }

    /// A relay is gone, but for its keys, and comes again.
    fn crash(&mut self, number: usize) {
        let Some(machine) = self.machines.get_mut(number) else {
            return;
        };
        if machine.plane.take().is_none() {
            return;
        }
        machine.generation += 1;
        machine.edges.clear();
        let links: Vec<(u64, usize)> = std::mem::take(&mut machine.links).into_values().collect();
        machine.wake = None;
        self.report.crashes += 1;
        self.note(format_args!("machine {number} crashes"));
        for (link, side) in links {
            links::close(self, link, side);
        }
        let down = between(
            &mut self.rng,
            Duration::from_secs(5),
            Duration::from_secs(300),
        );
        self.plan_in(down, Event::Start(number));
    }

    fn fail(&mut self, what: String) {
        self.note(format_args!("wrong: {what}"));
        if !self.report.violations.contains(&what) {
            self.report.violations.push(what);
        }
    }
}

#[cfg(test)]
mod tests;
