//! A client's data plane: what its guard and the relays behind may send, honestly and not, while
//! streams open and close (tor-spec 5 to 7).
//!
//! The relays answer as they should when the script says so, with keys that the client knows; any
//! of them can then say anything. At the end the link closes, and nothing may be left.

#![no_main]

mod script;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cepa_circuit::handshake::CongestionRequest;
use cepa_circuit::onionskin::{OnionKeys, OnionskinJob};
use cepa_circuit::{CircuitKey, Congestion, CongestionPath, Forward, RelayCircuit, StreamKey};
use cepa_client::plane::{HopKey, HopSpec, Plane, StreamTarget};
use cepa_crypto::layer::{Cipher, RelayLayer};
use cepa_crypto::{Rng, curve25519, fast};
use cepa_link::ChannelKey;
use cepa_wire::Now;
use cepa_wire::begin::{Begin, BeginFlags};
use cepa_wire::cell::{self, CELL_LEN, CellBuf, CircId, Command};
use cepa_wire::create::{Create2, CreateFast, Created2, CreatedFast};
use cepa_wire::destroy::DestroyReason;
use cepa_wire::end::EndReason;
use cepa_wire::extend::{Extend2, Extended2};
use cepa_wire::host::Host;
use cepa_wire::linkspec::LinkSpecifiers;
use cepa_wire::relay::{RelayCommand, StreamId};
use cepa_wire::resolve::Resolve;
use script::{Script, identity, link, now};

/// Hops of a circuit here, at most.
const HOPS_MAX: usize = 3;
/// Bytes that a socket takes or gives at a time.
const SOCKET_LEN: usize = 2000;
/// Circuits that are open at a time.
const CIRCUITS_MAX: usize = 8;

struct World {
    plane: Plane,
    channel: ChannelKey,
    keys: OnionKeys,
    rng: Rng,
    now: Now,
    /// The relays of each circuit, the guard first.
    relays: BTreeMap<u32, Vec<RelayCircuit>>,
    circ_ids: Vec<CircId>,
    circuits: Vec<CircuitKey>,
    streams: Vec<StreamKey>,
    /// Streams as the last relays know them.
    stream_ids: Vec<StreamId>,
}

fn world() -> World {
    let mut rng = Rng::from_seed([2; 32]);
    let mut plane = Plane::new(rng.fork());
    let now = now();
    let channel = plane.add_channel(link(true, Some(identity(1)), 1), now);
    let ntor = vec![curve25519::SecretKey::generate(&mut rng)];
    World {
        plane,
        channel,
        keys: OnionKeys {
            rsa: identity(1).rsa,
            ed: identity(1).ed,
            ntor,
        },
        rng,
        now,
        relays: BTreeMap::new(),
        circ_ids: Vec::new(),
        circuits: Vec::new(),
        streams: Vec::new(),
        stream_ids: Vec::new(),
    }
}

impl World {
    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        match step % 8 {
            0 => self.raw_cell(step, script),
            1 => self.open_circuit(step),
            2 => self.take_output(true),
            3 => self.message(script),
            4 => self.open_stream(step, script),
            5 => self.sockets(script),
            6 => self.time(script),
            _ => self.close(script),
        }
        while self.plane.poll_event().is_some() {}
    }

    fn deliver(&mut self, cell: &mut [u8]) {
        if self
            .plane
            .handle_cells(self.channel, cell, self.now)
            .is_err()
        {
            self.reopen();
        }
    }

    fn raw_cell(&mut self, step: u8, script: &mut Script<'_>) {
        let command = Command(script.byte());
        let known = script.pick(&self.circ_ids).filter(|_| step & 0x80 == 0);
        let id = known.unwrap_or(CircId(u32::from(step)));
        let body = script.bytes();
        if command.is_variable() {
            let mut cell = Vec::new();
            let len = cell::CircIdLen::Four;
            cell::write_variable(&mut cell, len, command, body).expect("510 bytes fit");
            return self.deliver(&mut cell);
        }
        let mut cell = cell::new_cell(id, command);
        for (to, from) in cell::payload_mut(&mut cell).iter_mut().zip(body) {
            *to = *from;
        }
        self.deliver(&mut cell);
    }

    fn open_circuit(&mut self, step: u8) {
        if self.circuits.len() >= CIRCUITS_MAX {
            return;
        }
        let onion_key = *self.keys.ntor[0].public();
        let ntor = HopKey::Ntor {
            rsa: self.keys.rsa,
            onion_key,
        };
        let v3 = HopKey::NtorV3 {
            ed: self.keys.ed,
            onion_key,
        };
        let link_specifiers = LinkSpecifiers::new(None, self.keys.rsa, None, None);
        let cipher = match step & 0x60 {
            0x60 => Cipher::Cgo,
            _ => Cipher::Tor1,
        };
        let hop = |key| HopSpec {
            link_specifiers: link_specifiers.clone(),
            key,
            // Of hops with ntor-v3 only.
            congestion: Some(CongestionRequest {
                cipher,
                ..CongestionRequest::default()
            }),
        };
        let first = if step & 0x80 == 0 {
            HopKey::Fast
        } else {
            ntor.clone()
        };
        let rest = match step & 0x60 {
            0 => Vec::new(),
            0x20 => vec![hop(ntor)],
            _ => vec![hop(ntor), hop(v3)],
        };
        let opened = self
            .plane
            .open_circuit(self.channel, hop(first), rest, self.now);
        self.circuits.extend(opened);
    }

    /// What the plane sends; the relays answer it, or lose it.
    fn take_output(&mut self, answer: bool) {
        while self.plane.has_output(self.channel) {
            let mut out = Vec::new();
            self.plane.take_output(self.channel, &mut out, self.now);
            let (cells, rest) = out.as_chunks_mut::<CELL_LEN>();
            assert!(rest.is_empty());
            for cell in cells.iter_mut().filter(|_| answer) {
                self.at_guard(cell);
            }
        }
    }

    fn at_guard(&mut self, cell: &mut CellBuf) {
        let (id, command) = (cell::circ_id(cell), cell::command(cell));
        let payload = cell::payload_mut(cell);
        match command {
            Command::CREATE2 => {
                let create = Create2::read(payload).expect("ours");
                let job = OnionskinJob::new(&create).expect("ours").granting(Some(31));
                let reply = job.run(&self.keys, &mut self.rng).expect("ours");
                let mut cell = cell::new_cell(id, Command::CREATED2);
                let created = Created2 { data: &reply.data };
                created
                    .write(cell::payload_mut(&mut cell))
                    .expect("it fits");
                let (layer, _) = RelayLayer::new(reply.cipher, reply.keys);
                self.stands(id, RelayCircuit::with_layer(layer), &mut cell);
            }
            Command::CREATE_FAST => {
                let create = CreateFast::read(payload).expect("ours");
                let (y, derivative, keys) = fast::server(&mut self.rng, &create.x);
                let mut cell = cell::new_cell(id, Command::CREATED_FAST);
                CreatedFast { y, derivative }.write(cell::payload_mut(&mut cell));
                self.stands(id, RelayCircuit::new(&keys.tor1()), &mut cell);
            }
            Command::RELAY | Command::RELAY_EARLY => self.at_relays(id, command, cell),
            Command::DESTROY => self.forget(id),
            _ => {}
        }
    }

    fn stands(&mut self, id: CircId, relay: RelayCircuit, cell: &mut CellBuf) {
        self.relays.insert(id.0, vec![relay]);
        self.circ_ids.push(id);
        self.deliver(cell);
    }

    fn at_relays(&mut self, id: CircId, command: Command, cell: &mut CellBuf) {
        let Some(relays) = self.relays.get_mut(&id.0) else {
            return;
        };
        let payload = cell::payload_mut(cell);
        let is_here = |relay: &mut RelayCircuit| {
            matches!(relay.handle_forward(command, payload), Ok(Forward::Here(_)))
        };
        // Not recognised: a raw cell has put the layers out of step.
        let Some(hop) = relays.iter_mut().position(is_here) else {
            return;
        };
        let Ok(said) = relays[hop].format().read(payload) else {
            return;
        };
        match said.command {
            RelayCommand::EXTEND2 if relays.len() < HOPS_MAX => {
                let extend = Extend2::read(said.data).expect("ours");
                let create = Create2 {
                    handshake_type: extend.handshake_type,
                    data: extend.data,
                };
                let job = OnionskinJob::new(&create).expect("ours").granting(Some(31));
                let reply = job.run(&self.keys, &mut self.rng).expect("ours");
                let mut body = Vec::new();
                Extended2 { data: &reply.data }
                    .write(&mut body)
                    .expect("it fits");
                self.say(id, hop, RelayCommand::EXTENDED2, StreamId::NONE, &body);
                if let Some(relays) = self.relays.get_mut(&id.0) {
                    let congestion = reply.sendme_inc_cells.map(|sendme_inc_cells| Congestion {
                        params: Arc::default(),
                        sendme_inc_cells,
                        path: CongestionPath::Exit,
                    });
                    let (layer, _) = RelayLayer::new(reply.cipher, reply.keys);
                    let relay = RelayCircuit::with_layer(layer);
                    relays.push(relay.with_congestion(congestion));
                }
            }
            RelayCommand::BEGIN | RelayCommand::BEGIN_DIR | RelayCommand::RESOLVE => {
                self.stream_ids.push(said.stream_id);
            }
            _ => {}
        }
    }

    /// A message of one relay, under the layers of those before it.
    fn say(&mut self, id: CircId, hop: usize, command: RelayCommand, at: StreamId, data: &[u8]) {
        let mut cell = cell::new_cell(id, Command::RELAY);
        let payload = cell::payload_mut(&mut cell);
        let Some(relays) = self.relays.get_mut(&id.0) else {
            return;
        };
        let Some((last, before)) = relays.get_mut(..=hop).and_then(<[_]>::split_last_mut) else {
            return;
        };
        if command == RelayCommand::DATA && last.room_cells() == 0 {
            return;
        }
        last.originate(payload, command, at, data, &mut self.rng, self.now.mono)
            .expect("it fits");
        for relay in before.iter_mut().rev() {
            relay.backward(payload);
        }
        self.deliver(&mut cell);
    }

    fn message(&mut self, script: &mut Script<'_>) {
        let Some(id) = script.pick(&self.circ_ids) else {
            return;
        };
        let (hop, command) = (script.byte(), RelayCommand(script.byte()));
        let Some(relays) = self.relays.get(&id.0) else {
            return;
        };
        let hop = usize::from(hop) % relays.len().max(1);
        let stream = script
            .pick(&self.stream_ids)
            .filter(|_| command.0 & 0x80 == 0);
        let stream = stream.unwrap_or_default();
        let count = 1 + u8::from(command == RelayCommand::DATA) * (script.byte() % 64);
        let body = script.bytes();
        let said = RelayCommand(command.0 & 0x7f);
        let body_max = relays
            .get(hop)
            .map_or(0, |relay| relay.format().data_max(said));
        let body = body.get(..body.len().min(body_max)).unwrap_or_default();
        for _ in 0..count {
            self.say(id, hop, said, stream, body);
        }
    }

    fn open_stream(&mut self, step: u8, script: &mut Script<'_>) {
        let Some(circuit) = script.pick(&self.circuits) else {
            return;
        };
        let host = Host::Name("example.net".into());
        let target = match step & 0xc0 {
            0 => StreamTarget::BeginDir,
            0x40 => StreamTarget::Resolve(Resolve::Host(host)),
            _ => StreamTarget::Begin(Begin {
                host,
                port: 80,
                flags: BeginFlags::default(),
            }),
        };
        let opened = self.plane.open_stream(circuit, &target, self.now);
        self.streams.extend(opened);
    }

    fn sockets(&mut self, script: &mut Script<'_>) {
        let (given, mut taken) = ([0; SOCKET_LEN], Vec::new());
        for _ in 0..script.byte() % 16 {
            for stream in &self.streams {
                let room = self.plane.stream_room(*stream).min(SOCKET_LEN);
                let given = given.get(..room).unwrap_or_default();
                self.plane.stream_send(*stream, given, self.now);
                taken.clear();
                self.plane.stream_take(*stream, &mut taken, SOCKET_LEN);
                self.plane.stream_written(*stream, taken.len(), self.now);
            }
        }
    }

    fn time(&mut self, script: &mut Script<'_>) {
        self.now = self.now + Duration::from_secs(script.byte().into());
        self.plane.handle_timeout(self.now);
        self.plane.take_ready(&mut Vec::new(), &mut Vec::new());
        self.take_output(script.byte() & 1 == 0);
    }

    fn close(&mut self, script: &mut Script<'_>) {
        let what = script.byte();
        match what & 3 {
            0 | 1 => {
                let Some(stream) = script.pick(&self.streams) else {
                    return;
                };
                self.plane.stream_close(stream, EndReason(what), self.now);
                self.streams.retain(|known| *known != stream);
            }
            2 => {
                let Some(circuit) = script.pick(&self.circuits) else {
                    return;
                };
                self.plane
                    .close_circuit(circuit, DestroyReason(what), self.now);
                self.circuits.retain(|known| *known != circuit);
            }
            _ => self.reopen(),
        }
    }

    fn forget(&mut self, id: CircId) {
        self.relays.remove(&id.0);
        self.circ_ids.retain(|known| *known != id);
    }

    fn reopen(&mut self) {
        self.plane.channel_closed(self.channel, self.now);
        for circuit in self.circuits.drain(..) {
            assert!(
                self.plane.circuit_status(circuit).is_none(),
                "a circuit outlives its link"
            );
        }
        self.relays.clear();
        self.circ_ids.clear();
        self.channel = self
            .plane
            .add_channel(link(true, Some(identity(1)), 1), self.now);
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (mut world, mut script) = (world(), Script::new(data));
    while let Some(step) = script.step() {
        world.step(step, &mut script);
    }
    world.reopen();
});
