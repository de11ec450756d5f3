//! Streams, from both ends: applications ask, exits and services answer, directories serve.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cepa_circuit::StreamKey;
use cepa_client::status::StreamSource;
use cepa_client::{FetchId, Isolation, IsolationRules, Protocol, RequestId};
use cepa_dir::DirRequest;
use cepa_wire::begin::Begin;
use cepa_wire::end::EndReason;
use cepa_wire::host::Host;
use cepa_wire::socks::{SocksAuth, SocksCommand, SocksRequest, SocksVersion};

use super::edges::{App, CHUNK, Edge, Exchange, Server, ask};
use super::machines::{Machine, Plane};
use super::{Event, HANGS, Network, directory, http};
use crate::sim::net::between;

/// All servers are here.
const SERVER: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);
const TTL_SECS: u32 = 3600;
const PORT: u16 = 80;
/// What applications ask for, in bytes, and how often each of a hundred.
const SIZES: [(u64, u64); 4] = [(60, 5_000), (25, 51_200), (12, 262_144), (3, 1_048_576)];

impl Network {
    /// An application asks for something, and another one will.
    pub(super) fn visit(&mut self, number: usize) {
        let think = self.size.think;
        let next = between(&mut self.rng, think / 2, think * 3 / 2);
        self.plan_in(next, Event::Visit(number));
        let mut draw = self.rng.below(100);
        let size = SIZES.iter().find(|(share, _)| {
            let is_it = draw < *share;
            draw = draw.saturating_sub(*share);
            is_it
        });
        let size = size.map_or(5_000, |(_, size)| *size);
        let onions = self.onions.len() as u64;
        let is_onion = onions > 0 && self.report.published > 0 && self.rng.below(5) == 0;
        let host = match self.onions.get(self.rng.below(onions) as usize) {
            Some(onion) if is_onion => onion.clone(),
            _ => format!("server{}.example", self.rng.below(20)),
        };
        self.asked += 1;
        let (number_of_ask, now, at) = (self.asked, self.now(), self.at);
        let Some(host_of) = self.machines.get_mut(number).and_then(Machine::client) else {
            return;
        };
        if !host_of.visits {
            return;
        }
        let Ok(address) = Host::parse(host.as_bytes()) else {
            return;
        };
        let request = SocksRequest {
            version: SocksVersion::V5,
            command: SocksCommand::Connect,
            address,
            port: PORT,
            auth: SocksAuth::None,
        };
        let source = StreamSource {
            addr: SocketAddr::from(([127, 0, 0, 1], 40_000)),
            protocol: Protocol::Socks(SocksVersion::V5),
        };
        let listener = SocketAddr::from(([127, 0, 0, 1], 9050));
        let isolation = Isolation::new(&IsolationRules::default(), listener, source, &request);
        host_of.requests += 1;
        let id = RequestId(host_of.requests);
        let app = App {
            number: number_of_ask,
            size,
            asked: at,
            first: None,
            got: 0,
            is_onion,
        };
        host_of.asked.insert(id, app);
        let early = ask(number_of_ask, size);
        let client = &mut host_of.client;
        client.handle_socks_request(id, &request, source, isolation, early, now);
        self.note(format_args!(
            "client {number} asks {number_of_ask} for {size} at {host}"
        ));
        self.settle(number);
    }

    pub(super) fn app_connected(
        &mut self,
        number: usize,
        request: RequestId,
        stream: StreamKey,
        early: &[u8],
    ) {
        let now = self.now();
        let Some(machine) = self.machines.get_mut(number) else {
            return;
        };
        let app = machine
            .client()
            .and_then(|host| host.asked.remove(&request));
        let Some(app) = app else {
            return machine.stream_close(stream, now);
        };
        machine.edges.insert(stream, Edge::App(app));
        machine.stream_send(stream, early, now);
        self.serve_stream(number, stream);
    }

    pub(super) fn app_failed(&mut self, number: usize, request: RequestId, why: &str) {
        let host = self.machines.get_mut(number).and_then(Machine::client);
        if let Some(app) = host.and_then(|host| host.asked.remove(&request)) {
            self.note(format_args!("ask {} fails: {why}", app.number));
            let kind = if app.is_onion { "onion" } else { "exit" };
            let why = format!("{kind}: {why}");
            *self.report.failures.entry(why).or_default() += 1;
        }
    }

    /// Applications that have got neither bytes nor an end for long.
    pub(super) fn look_for_hanging(&mut self) {
        let mut hanging = Vec::new();
        for machine in &self.machines {
            let is_old = |app: &App| app.asked + HANGS < self.at;
            let open = machine.edges.values().filter_map(|edge| match edge {
                Edge::App(app) => Some(app),
                _ => None,
            });
            let asked = match &machine.plane {
                Some(Plane::Client(host)) => Some(host.asked.values()),
                _ => None,
            };
            let all = open.chain(asked.into_iter().flatten());
            hanging.extend(all.filter(|app| is_old(app)).map(|app| app.number));
        }
        for number in hanging {
            self.fail(format!(
                "ask {number} has got no end for {} s",
                HANGS.as_secs()
            ));
        }
    }

    /// An exit is to connect.
    pub(super) fn begin(&mut self, number: usize, stream: StreamKey, begin: &Begin) {
        let now = self.now();
        let (generation, ip) = (self.generation(number), IpAddr::V4(SERVER));
        let Some(host) = self.machines.get_mut(number).and_then(Machine::relay) else {
            return;
        };
        let Some(switch) = &mut host.switch else {
            return;
        };
        match switch.exit_check(ip, begin.port, TTL_SECS) {
            Ok(()) => {
                let trip = self.delay() * 2;
                let connected = Event::Connected(number, generation, stream, ip, begin.port);
                self.plan_in(trip, connected);
            }
            Err(end) => switch.stream_refused(stream, end, now),
        }
    }

    fn generation(&self, number: usize) -> u64 {
        self.machines.get(number).map_or(0, |one| one.generation)
    }

    pub(super) fn connected(&mut self, number: usize, stream: StreamKey, ip: IpAddr, port: u16) {
        let now = self.now();
        let Some(machine) = self.machines.get_mut(number) else {
            return;
        };
        if let Some(switch) = machine.relay().and_then(|host| host.switch.as_mut()) {
            switch.stream_connected(stream, SocketAddr::new(ip, port), TTL_SECS, now);
        }
        machine
            .edges
            .insert(stream, Edge::Server(Server::default()));
        self.serve_stream(number, stream);
    }

    /// A visitor has come to a service.
    pub(super) fn visited(&mut self, number: usize, stream: StreamKey) {
        let now = self.now();
        let Some(machine) = self.machines.get_mut(number) else {
            return;
        };
        let host = machine.client();
        if !host.is_some_and(|host| host.client.onion_stream_connected(stream, now)) {
            return machine.stream_close(stream, now);
        }
        machine
            .edges
            .insert(stream, Edge::Server(Server::default()));
        self.serve_stream(number, stream);
    }

    pub(super) fn ask_directory(
        &mut self,
        number: usize,
        fetch: FetchId,
        stream: StreamKey,
        request: &DirRequest,
        body: &[u8],
    ) {
        let Some(machine) = self.machines.get_mut(number) else {
            return;
        };
        let exchange = Exchange::new(http::request(request, body));
        machine.edges.insert(stream, Edge::Fetch(fetch, exchange));
        if let Some(host) = machine.client() {
            host.fetches.insert(fetch, stream);
        }
        self.serve_stream(number, stream);
    }

    pub(super) fn cancel(&mut self, number: usize, fetch: FetchId) {
        let now = self.now();
        let Some(machine) = self.machines.get_mut(number) else {
            return;
        };
        if let Some(stream) = machine
            .client()
            .and_then(|host| host.fetches.remove(&fetch))
        {
            machine.stream_close(stream, now);
        }
    }

    /// Takes what a stream brings, and gives it what there is to be said.
    pub(super) fn serve_stream(&mut self, number: usize, stream: StreamKey) {
        let (now, at) = (self.now(), self.at);
        let Some(machine) = self.machines.get_mut(number) else {
            return;
        };
        let Some(mut edge) = machine.edges.remove(&stream) else {
            return;
        };
        let mut input = Vec::new();
        let mut end = None;
        while let Some(read) = machine.stream_take(stream, &mut input, CHUNK) {
            end = read.end;
            if !read.more {
                break;
            }
        }
        if !input.is_empty() {
            machine.stream_written(stream, input.len(), now);
        }
        let is_right = match &mut edge {
            Edge::Server(server) => {
                server.take(&input);
                true
            }
            Edge::App(app) => app.take(&input, at),
            Edge::Directory(exchange, _) | Edge::Fetch(_, exchange) => {
                exchange.input.extend_from_slice(&input);
                true
            }
        };
        if let Edge::Directory(exchange, is_anonymous) = &mut edge
            && exchange.output.is_empty()
            && let Some(read) = http::read_request(&exchange.input)
            && let Some(host) = machine.relay()
        {
            let (status, body) =
                directory::answer(host, &read.request, &read.body, *is_anonymous, now);
            exchange.output = http::reply(status, &body);
        }
        say(machine, stream, &mut edge, now);
        let is_over = match &edge {
            Edge::Server(server) => server.is_done(),
            Edge::Directory(exchange, _) => exchange.is_sent(),
            Edge::App(app) => app.got >= app.size,
            Edge::Fetch(_, exchange) => http::read_reply(&exchange.input).is_some(),
        };
        if !is_right && let Edge::App(app) = &edge {
            self.fail(format!(
                "ask {} gets a wrong byte before {}",
                app.number, app.got
            ));
        }
        match (end, is_over) {
            (None, false) => {
                if let Some(machine) = self.machines.get_mut(number) {
                    machine.edges.insert(stream, edge);
                }
            }
            (end, _) => self.over(number, stream, edge, end),
        }
    }

    /// A stream is over, by one end or the other.
    fn over(&mut self, number: usize, stream: StreamKey, edge: Edge, end: Option<EndReason>) {
        let (now, at) = (self.now(), self.at);
        let Some(machine) = self.machines.get_mut(number) else {
            return;
        };
        match edge {
            Edge::Fetch(fetch, exchange) => {
                let reply = http::read_reply(&exchange.input);
                if let Some(host) = machine.client() {
                    host.fetches.remove(&fetch);
                    // It closes the stream.
                    host.client.handle_dir_reply(fetch, reply, now);
                }
            }
            Edge::App(app) => {
                machine.stream_close(stream, now);
                let took = (at - app.asked).as_secs_f64();
                self.note(format_args!(
                    "ask {} is over: {} of {}",
                    app.number, app.got, app.size
                ));
                if app.got >= app.size {
                    let first = app.first.unwrap_or(at) - app.asked;
                    self.report.done(&app, first.as_secs_f64(), took);
                } else {
                    let kind = if app.is_onion { "onion" } else { "exit" };
                    let why = end.map_or("closed".to_owned(), |end| format!("{end:?}"));
                    let why = format!("{kind}: ended early, {why}");
                    *self.report.failures.entry(why).or_default() += 1;
                }
            }
            Edge::Server(_) | Edge::Directory(..) => machine.stream_close(stream, now),
        }
    }
}

/// Sends as much as there is room for.
fn say(machine: &mut Machine, stream: StreamKey, edge: &mut Edge, now: cepa_wire::Now) {
    loop {
        let room = machine.stream_room(stream);
        if room == 0 {
            return;
        }
        let bytes = match edge {
            Edge::Server(server) => server.say(room),
            Edge::Directory(exchange, _) | Edge::Fetch(_, exchange) => exchange.say(room),
            Edge::App(_) => Vec::new(),
        };
        if bytes.is_empty() {
            return;
        }
        machine.stream_send(stream, &bytes, now);
    }
}
