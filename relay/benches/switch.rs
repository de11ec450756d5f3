//! Time for a cell that a middle relay passes on: found, one layer taken off, queued, sent.
//!
//! `cargo bench -p cepa-relay`; prints nanoseconds a cell, forward and backward, for circuits that
//! fit the cache and for many.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use cepa_circuit::{OnionKeys, PaddingParams};
use cepa_crypto::curve25519::SecretKey;
use cepa_crypto::{Ed25519Id, Rng, RsaId};
use cepa_limits::Memory;
use cepa_link::channel::PaddingRange;
use cepa_link::{ChannelKey, Established, PeerIdentity};
use cepa_relay::{ExitPolicy, Limits, PointParams, Switch, SwitchCommand, SwitchConfig, WorkerId};
use cepa_wire::Now;
use cepa_wire::cell::{self, CELL_LEN, CircId, Command};
use cepa_wire::create::{Create2, CreateFast, HandshakeType};
use cepa_wire::extend::Extend2;
use cepa_wire::linkspec::LinkSpecifiers;
use cepa_wire::relay::{self, RelayCommand, StreamId};

/// Cells of one TLS record.
const BATCH: usize = 31;
const BATCHES: usize = 20_000;

struct Bench {
    switch: Switch,
    previous: ChannelKey,
    next: ChannelKey,
    now: Now,
    rng: Rng,
    /// Of each circuit, on both channels.
    ids: Vec<(CircId, CircId)>,
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn instant() -> Instant {
    Instant::now()
}

fn id(n: u8) -> PeerIdentity {
    PeerIdentity {
        rsa: RsaId::from([n; 20]),
        ed: Ed25519Id::from([n; 32]),
    }
}

fn link(initiator: bool, n: u8) -> Established {
    let ip = Ipv4Addr::new(127, n, 0, 1).into();
    Established {
        version: 5,
        initiator,
        peer: Some(id(n)),
        peer_addr: SocketAddr::new(ip, 9001),
        peer_addrs: vec![ip],
        my_addr_seen: ip,
        clock_skew_secs: None,
        canonical: true,
    }
}

impl Bench {
    fn new() -> Self {
        let now = Now {
            mono: instant(),
            wall: SystemTime::UNIX_EPOCH,
        };
        let mut rng = Rng::from_seed([1; 32]);
        let config = SwitchConfig {
            rsa: id(1).rsa,
            ed: id(1).ed,
            exit_policy: ExitPolicy::none().into(),
            serves_directory: false,
            extend_allow_private: true,
            extend_ipv6: false,
            points: PointParams::default(),
            congestion: Arc::default(),
            sendme_accept_min: 0,
            padding: PaddingRange {
                low_ms: 0,
                high_ms: 0,
            },
            circuit_padding: PaddingParams::default(),
            dos: cepa_limits::DosParams::default(),
            limits: Limits {
                circuits_per_channel_max: 100_000,
                ..Limits::default()
            },
            memory: Memory::new(1 << 30),
        };
        let mut switch = Switch::new(WorkerId(0), 1, Arc::new(config), rng.fork());
        let previous = switch.add_channel(link(false, 2), now);
        let next = switch.add_channel(link(true, 3), now);
        Bench {
            switch,
            previous,
            next,
            now,
            rng,
            ids: Vec::new(),
        }
    }

    /// A circuit through this relay; the client's keys are of no interest.
    fn add_circuit(&mut self) {
        let number = u32::try_from(self.ids.len()).expect("few");
        let circ_id = CircId(0x8000_0001 + number);
        let (state, x) = cepa_crypto::fast::client_start(&mut self.rng);
        let mut create = cell::new_cell(circ_id, Command::CREATE_FAST);
        CreateFast { x }.write(cell::payload_mut(&mut create));
        self.handle(self.previous, &mut create);
        let created = self.output(self.previous);
        let payload = created[5..].first_chunk().expect("a cell");
        let created = cell_wire_created(payload);
        let keys = state
            .finish(&created.0, &created.1)
            .expect("our own handshake")
            .tor1();
        let mut hop = cepa_crypto::tor1::HopCrypt::new(&keys);
        let SocketAddr::V4(addr) = link(true, 3).peer_addr else {
            return;
        };
        let mut body = Vec::new();
        let link_specifiers = LinkSpecifiers::new(Some(addr), id(3).rsa, Some(id(3).ed), None);
        Extend2 {
            link_specifiers,
            handshake_type: HandshakeType::NTOR,
            data: &[0; 84],
        }
        .write(&mut body)
        .expect("it fits");
        let mut extend = cell::new_cell(circ_id, Command::RELAY_EARLY);
        let payload = cell::payload_mut(&mut extend);
        let id = StreamId::NONE;
        relay::write(payload, RelayCommand::EXTEND2, id, &body, &mut self.rng).expect("it fits");
        hop.originate_forward(payload);
        self.handle(self.previous, &mut extend);
        let Some(SwitchCommand::NeedChannel { circuit, .. }) = self.switch.poll_command() else {
            return;
        };
        let found = Some((WorkerId(0), self.next));
        self.switch.handle_channel_found(circuit, found, self.now);
        let create = self.output(self.next);
        let create: &cell::CellBuf = create.first_chunk().expect("a cell");
        assert!(Create2::read(cell::payload(create)).is_ok());
        let next_id = cell::circ_id(create);
        let mut created = cell::new_cell(next_id, Command::CREATED2);
        self.handle(self.next, &mut created);
        self.output(self.previous);
        self.ids.push((circ_id, next_id));
    }

    fn handle(&mut self, channel: ChannelKey, cells: &mut [u8]) {
        self.switch
            .handle_cells(channel, cells, self.now)
            .expect("nothing wrong");
    }

    fn output(&mut self, channel: ChannelKey) -> Vec<u8> {
        let mut out = Vec::new();
        while self.switch.has_output(channel) {
            self.switch.take_output(channel, &mut out, self.now);
        }
        out
    }

    /// Nanoseconds a cell from one channel to the other.
    fn run(&mut self, forward: bool) -> f64 {
        let (from, to) = match forward {
            true => (self.previous, self.next),
            false => (self.next, self.previous),
        };
        let mut batch = vec![0; BATCH * CELL_LEN];
        self.rng.fill(&mut batch);
        let (mut out, mut n) = (Vec::with_capacity(BATCH * CELL_LEN), 0);
        let (mut channels, mut streams) = (Vec::new(), Vec::new());
        let start = instant();
        for _ in 0..BATCHES {
            for cell in batch.chunks_exact_mut(CELL_LEN) {
                // A few cells in a row, as they come.
                let (previous, next) = self.ids[n / 4 % self.ids.len()];
                let id = if forward { previous } else { next };
                let cell = cell.first_chunk_mut().expect("a cell");
                cell::set_header(cell, id, Command::RELAY);
                n += 1;
            }
            self.handle(from, &mut batch);
            self.switch.take_ready(&mut channels, &mut streams);
            while self.switch.has_output(to) {
                out.clear();
                self.switch.take_output(to, &mut out, self.now);
                black_box(&out);
            }
            channels.clear();
        }
        let nanos = instant().duration_since(start).as_nanos();
        assert_eq!(self.switch.counts().circuits, self.ids.len());
        nanos as f64 / (BATCHES * BATCH) as f64
    }
}

/// Y and KH of a CREATED_FAST cell.
fn cell_wire_created(payload: &cell::Payload) -> ([u8; 20], [u8; 20]) {
    let created = cepa_wire::create::CreatedFast::read(payload).expect("a CREATED_FAST");
    (created.y, created.derivative)
}

/// What one onionskin costs, which bounds how fast circuits are built.
fn onionskin_micros() -> f64 {
    let mut rng = Rng::from_seed([2; 32]);
    let PeerIdentity { rsa, ed } = id(1);
    let keys = OnionKeys {
        rsa,
        ed,
        ntor: vec![SecretKey::generate(&mut rng)],
    };
    let public = *keys.ntor[0].public();
    let (_, skin) = cepa_crypto::ntor::client_start(&mut rng, &rsa, &public);
    let create = Create2 {
        handshake_type: HandshakeType::NTOR,
        data: &skin,
    };
    let job = cepa_circuit::OnionskinJob::new(&create).expect("an ntor onionskin");
    let start = instant();
    for _ in 0..2000 {
        black_box(job.run(&keys, &mut rng).is_ok());
    }
    instant().duration_since(start).as_secs_f64() * 1e6 / 2000.0
}

#[expect(clippy::print_stdout, reason = "a bench prints its result")]
fn main() {
    println!("onionskin (ntor)  {:8.1} us", onionskin_micros());
    for circuits in [1, 100, 10_000] {
        let mut bench = Bench::new();
        while bench.ids.len() < circuits {
            bench.add_circuit();
        }
        let (forward, backward) = (bench.run(true), bench.run(false));
        println!("{circuits:6} circuits: forward {forward:6.0} ns a cell, backward {backward:6.0}");
    }
}
