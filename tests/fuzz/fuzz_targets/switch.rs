//! A relay's data plane: the cells of a client whom nobody knows, and of the relay behind, among
//! all that sockets may answer (tor-spec 5 to 7).
//!
//! The client, and a relay before, can make circuits for which they have the keys, so that what
//! they say is recognised; with it come onion services, proved and not, and who wants to meet them.
//! At the end all links close, and nothing may be left.

#![no_main]

mod script;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cepa_circuit::{OnionKeys, PaddingParams, StreamKey};
use cepa_crypto::ed25519::Keypair;
use cepa_crypto::layer::{Cipher, HopLayer};
use cepa_crypto::{Rng, curve25519, fast, ntor_v3};
use cepa_limits::Memory;
use cepa_link::ChannelKey;
use cepa_link::channel::PaddingRange;
use cepa_netdoc::policy::AddrPolicy;
use cepa_relay::{
    ExitOptions, ExitPolicy, KnownRelays, Limits, OnionskinLimits, PointParams, Switch,
    SwitchCommand, SwitchConfig, WorkerId,
};
use cepa_wire::Now;
use cepa_wire::cell::{self, CELL_LEN, CellBuf, CircId, Command};
use cepa_wire::create::{Create2, CreateFast, Created2, CreatedFast, HandshakeType};
use cepa_wire::end::{End, EndReason};
use cepa_wire::establish_intro::{DosParams, EstablishIntro};
use cepa_wire::relay::{RelayCommand, RelayFormat, StreamId};
use cepa_wire::resolve::{Answer, AnswerValue};
use script::{Script, identity, link, now};

/// Bytes that a socket takes or gives at a time.
const SOCKET_LEN: usize = 2000;
/// Circuit ids that are the client's; as many more are the relay's before us.
const CLIENT_IDS: u32 = 8;

enum Begun {
    Fast(fast::ClientState),
    Cgo(ntor_v3::ClientState),
}

struct World {
    switch: Switch,
    client: ChannelKey,
    /// From a relay before us.
    before: ChannelKey,
    next: ChannelKey,
    keys: OnionKeys,
    rng: Rng,
    now: Now,
    /// Layers and KH, by circuit id: those of the client's, below [`CLIENT_IDS`], and of the relay
    /// before.
    layers: BTreeMap<u32, (HopLayer, [u8; 20])>,
    /// Handshakes that wait for their answer: CREATE_FAST, or ntor-v3 that asks for CGO.
    begun: BTreeMap<u32, Begun>,
    /// Ids of circuits towards the relay behind.
    next_ids: Vec<CircId>,
    commands: Vec<SwitchCommand>,
    streams: Vec<StreamKey>,
}

fn world() -> World {
    let mut rng = Rng::from_seed([1; 32]);
    let rules = AddrPolicy::parse_config(["accept *:1-1000"]).expect("rules");
    let options = ExitOptions {
        ipv6: true,
        reject_private: false,
        ..ExitOptions::with_rules(rules)
    };
    let policy = ExitPolicy::new(&options, []);
    let config = SwitchConfig {
        rsa: identity(1).rsa,
        ed: identity(1).ed,
        exit_policy: Arc::new(policy.expect("a policy")),
        serves_directory: true,
        extend_allow_private: true,
        extend_ipv6: true,
        congestion: Arc::default(),
        sendme_accept_min: 0,
        points: PointParams::default(),
        padding: PaddingRange {
            low_ms: 1500,
            high_ms: 9500,
        },
        circuit_padding: PaddingParams::default(),
        dos: Default::default(),
        limits: Limits {
            circuits_per_channel_max: 20,
            streams_per_circuit_max: 10,
            onionskins: OnionskinLimits {
                waiting_max: 10,
                out_max: 3,
                ..OnionskinLimits::default()
            },
            ..Limits::default()
        },
        // What stands takes a fifth.
        memory: Memory::new(2 << 20),
    };
    let mut switch = Switch::new(WorkerId(0), 1, Arc::new(config), rng.fork());
    let ids = BTreeMap::from([(identity(2).rsa, Some(identity(2).ed))]);
    switch.set_relays(Arc::new(KnownRelays {
        ids,
        ..KnownRelays::default()
    }));
    let now = now();
    let client = switch.add_channel(link(false, None, 9), now);
    let before = switch.add_channel(link(false, Some(identity(3)), 3), now);
    let next = switch.add_channel(link(true, Some(identity(2)), 2), now);
    let ntor = vec![curve25519::SecretKey::generate(&mut rng)];
    World {
        switch,
        client,
        before,
        next,
        keys: OnionKeys {
            rsa: identity(1).rsa,
            ed: identity(1).ed,
            ntor,
        },
        rng,
        now,
        layers: BTreeMap::new(),
        begun: BTreeMap::new(),
        next_ids: Vec::new(),
        commands: Vec::new(),
        streams: Vec::new(),
    }
}

impl World {
    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        match step % 8 {
            0 => self.raw_cell(step, script),
            1 if step & 0xc0 == 0xc0 => self.create_cgo(script),
            1 => self.create_fast(script),
            2 | 3 => self.message(step, script),
            4 => self.answer(step),
            5 => self.sockets(script),
            6 => self.time(script),
            _ => self.close(script),
        }
        while let Some(command) = self.switch.poll_command() {
            self.take(command);
        }
    }

    fn deliver(&mut self, channel: ChannelKey, cell: &mut [u8]) {
        if self.switch.handle_cells(channel, cell, self.now).is_err() {
            self.reopen(channel);
        }
    }

    /// Whatever a stranger, or the relay behind, may send.
    fn raw_cell(&mut self, step: u8, script: &mut Script<'_>) {
        let (command, id) = (Command(script.byte()), script.byte());
        let to_next = step & 0x80 != 0;
        let half = if step & 0x40 == 0 {
            CircId::INITIATOR_BIT
        } else {
            0
        };
        let known = usize::from(id).checked_rem(self.next_ids.len());
        let id = match known
            .filter(|_| to_next)
            .and_then(|at| self.next_ids.get(at))
        {
            Some(id) => *id,
            None => CircId(u32::from(id) | half),
        };
        let channel = if to_next { self.next } else { self.origin(id) };
        let body = script.bytes();
        if command.is_variable() {
            let mut cell = Vec::new();
            let len = cell::CircIdLen::Four;
            cell::write_variable(&mut cell, len, command, body).expect("510 bytes fit");
            return self.deliver(channel, &mut cell);
        }
        let mut cell = cell::new_cell(id, command);
        fill(&mut cell, body);
        self.deliver(channel, &mut cell);
    }

    /// Where circuits of an id come from.
    fn origin(&self, id: CircId) -> ChannelKey {
        match id.0 & CLIENT_IDS {
            0 => self.client,
            _ => self.before,
        }
    }

    fn create_fast(&mut self, script: &mut Script<'_>) {
        let id = u32::from(script.byte() % 16) | CircId::INITIATOR_BIT;
        let (state, x) = fast::client_start(&mut self.rng);
        let mut cell = cell::new_cell(CircId(id), Command::CREATE_FAST);
        CreateFast { x }.write(cell::payload_mut(&mut cell));
        self.begun.insert(id, Begun::Fast(state));
        self.deliver(self.origin(CircId(id)), &mut cell);
        self.take_output();
    }

    fn create_cgo(&mut self, script: &mut Script<'_>) {
        let id = u32::from(script.byte() % 16) | CircId::INITIATOR_BIT;
        let asks = [2, 1, 0, 3, 2, 2, 6];
        let onion = *self.keys.ntor[0].public();
        let verification = ntor_v3::CIRCUIT_VERIFICATION;
        let ed = self.keys.ed;
        let (state, data) =
            ntor_v3::client_start(&mut self.rng, &ed, &onion, &asks, verification).expect("a key");
        let mut cell = cell::new_cell(CircId(id), Command::CREATE2);
        let create = Create2 {
            handshake_type: HandshakeType::NTOR_V3,
            data: &data,
        };
        create.write(cell::payload_mut(&mut cell)).expect("it fits");
        self.begun.insert(id, Begun::Cgo(state));
        self.deliver(self.origin(CircId(id)), &mut cell);
        while let Some(command) = self.switch.poll_command() {
            self.take(command);
        }
        self.answer(0);
        self.take_output();
    }

    /// A message that is for this relay, or, without a key, for none.
    fn message(&mut self, step: u8, script: &mut Script<'_>) {
        let id = u32::from(script.byte() % 16) | CircId::INITIATOR_BIT;
        let command = RelayCommand(script.byte());
        let stream = StreamId(u16::from(script.byte()));
        let body = script.bytes();
        let layer = self.layers.get(&id).map(|(layer, _)| layer.cipher());
        let format = RelayFormat::from(layer.unwrap_or_default());
        let body = body
            .get(..body.len().min(format.data_max(command)))
            .unwrap_or_default();
        let made = (step & 0x40 != 0).then(|| self.point_message(id, command, body));
        let body = made.flatten().unwrap_or_else(|| body.to_vec());
        let early = step & 0x80 != 0;
        let outer = if early {
            Command::RELAY_EARLY
        } else {
            Command::RELAY
        };
        let mut cell = cell::new_cell(CircId(id), outer);
        let payload = cell::payload_mut(&mut cell);
        format
            .write(payload, command, stream, &body, &mut self.rng)
            .expect("it fits");
        if let Some((layer, _)) = self.layers.get_mut(&id) {
            layer.originate_forward(outer.0, payload);
        }
        self.deliver(self.origin(CircId(id)), &mut cell);
    }

    /// A good message about one of a few services, or cookies.
    fn point_message(&self, id: u32, command: RelayCommand, body: &[u8]) -> Option<Vec<u8>> {
        let (which, rest) = body.split_first()?;
        let key = Keypair::from_seed(&[which % 4; 32]);
        match command {
            RelayCommand::ESTABLISH_INTRO => {
                let (_, kh) = self.layers.get(&id)?;
                let (rate_per_s, burst) = (u64::from(*rest.first()?), 3);
                let dos = DosParams { rate_per_s, burst };
                Some(EstablishIntro::make(&key, kh, Some(dos)))
            }
            RelayCommand::INTRODUCE1 => {
                let key = key.public();
                let rest = rest.get(..rest.len().min(200))?;
                Some([&[0; 20][..], &[2, 0, 32], &key.as_bytes()[..], &[0], rest].concat())
            }
            RelayCommand::ESTABLISH_RENDEZVOUS => Some(vec![which % 4; 20]),
            RelayCommand::RENDEZVOUS1 => Some(vec![which % 4; 84]),
            _ => None,
        }
    }

    fn take(&mut self, command: SwitchCommand) {
        match &command {
            SwitchCommand::Connect { stream, .. }
            | SwitchCommand::Resolve { stream, .. }
            | SwitchCommand::OpenDir { stream, .. } => self.streams.push(*stream),
            SwitchCommand::CloseStream { stream } => {
                self.streams.retain(|known| known != stream);
                self.commands.retain(|waiting| !is_about(waiting, *stream));
            }
            SwitchCommand::CloseChannel { channel, .. } => self.reopen(*channel),
            _ => {}
        }
        self.commands.push(command);
    }

    fn answer(&mut self, step: u8) {
        let is_good = step & 0x80 == 0;
        let addr = SocketAddr::from(([9, 9, 9, 9], 80));
        for command in std::mem::take(&mut self.commands) {
            let (switch, now) = (&mut self.switch, self.now);
            match command {
                SwitchCommand::Onionskin { circuit, job } => {
                    switch.handle_onionskin(circuit, job.run(&self.keys, &mut self.rng), now);
                }
                SwitchCommand::NeedChannel { circuit, .. } => {
                    let found = is_good.then_some((WorkerId(0), self.next));
                    switch.handle_channel_found(circuit, found, now);
                }
                SwitchCommand::Connect { stream, .. } if is_good => {
                    switch.stream_connected(stream, addr, 60, now);
                }
                SwitchCommand::Connect { stream, .. } if step & 0x40 == 0 => {
                    let reason = EndReason::EXITPOLICY;
                    let refused = Some((addr.ip(), 60));
                    switch.stream_refused(stream, End { reason, refused }, now);
                }
                SwitchCommand::Connect { stream, .. } => {
                    switch.stream_failed(stream, EndReason::CONNECTREFUSED, now);
                }
                SwitchCommand::Resolve { stream, .. } => {
                    let answer = Answer {
                        value: AnswerValue::Ip(addr.ip()),
                        ttl: 60,
                    };
                    let answers = vec![answer; usize::from(is_good) * 40];
                    switch.stream_resolved(stream, answers, now);
                }
                SwitchCommand::OpenDir { stream, .. } => switch.stream_dir_connected(stream, now),
                SwitchCommand::CloseStream { .. }
                | SwitchCommand::CloseChannel { .. }
                | SwitchCommand::ChannelUsed { .. }
                | SwitchCommand::ChannelUnwanted { .. } => {}
            }
        }
    }

    fn sockets(&mut self, script: &mut Script<'_>) {
        let (given, mut taken) = ([0; SOCKET_LEN], Vec::new());
        for _ in 0..script.byte() % 32 {
            for stream in &self.streams {
                let room = self.switch.stream_room(*stream).min(SOCKET_LEN);
                let given = given.get(..room).unwrap_or_default();
                self.switch.stream_send(*stream, given, self.now);
                taken.clear();
                self.switch.stream_take(*stream, &mut taken, SOCKET_LEN);
                self.switch.stream_written(*stream, taken.len(), self.now);
            }
        }
    }

    fn time(&mut self, script: &mut Script<'_>) {
        self.now = self.now + Duration::from_secs(script.byte().into());
        self.switch.handle_timeout(self.now);
        self.switch.take_ready(&mut Vec::new(), &mut Vec::new());
        self.take_output();
    }

    fn close(&mut self, script: &mut Script<'_>) {
        let what = script.byte();
        if let Some(stream) = script.pick(&self.streams) {
            self.switch.stream_close(stream, EndReason(what), self.now);
        }
        match what {
            0xf0 => self.reopen(self.client),
            0xf1 => self.reopen(self.next),
            0xf2 => self.reopen(self.before),
            _ => {}
        }
    }

    /// A link is gone, and another like it comes.
    fn reopen(&mut self, channel: ChannelKey) {
        self.switch.channel_closed(channel, self.now);
        if channel == self.client || channel == self.before {
            let of_client = channel == self.client;
            let stays = |id: &u32| (id & CLIENT_IDS == 0) != of_client;
            self.layers.retain(|id, _| stays(id));
            self.begun.retain(|id, _| stays(id));
        }
        if channel == self.client {
            self.client = self.switch.add_channel(link(false, None, 9), self.now);
        } else if channel == self.before {
            let peer = Some(identity(3));
            self.before = self.switch.add_channel(link(false, peer, 3), self.now);
        } else if channel == self.next {
            self.next_ids.clear();
            let peer = Some(identity(2));
            self.next = self.switch.add_channel(link(true, peer, 2), self.now);
        }
    }

    /// Empties all queues, and reads of them what the client and the relay behind need to know.
    fn take_output(&mut self) {
        for channel in [self.client, self.before, self.next] {
            let mut out = Vec::new();
            while self.switch.has_output(channel) {
                self.switch.take_output(channel, &mut out, self.now);
            }
            let (cells, rest) = out.as_chunks::<CELL_LEN>();
            assert!(rest.is_empty());
            for cell in cells {
                let id = cell::circ_id(cell);
                match cell::command(cell) {
                    Command::CREATED_FAST | Command::CREATED2 => self.created(id, cell),
                    Command::CREATE2 => self.next_ids.push(id),
                    _ => {}
                }
            }
        }
    }

    fn created(&mut self, id: CircId, cell: &CellBuf) {
        // Of two handshakes for one id the second is dropped, and its keys with it.
        let (cipher, keys) = match (self.begun.remove(&id.0), cell::command(cell)) {
            (Some(Begun::Fast(state)), Command::CREATED_FAST) => {
                let created = CreatedFast::read(cell::payload(cell)).expect("it was written");
                let keys = state.finish(&created.y, &created.derivative);
                (Cipher::Tor1, keys.ok())
            }
            (Some(Begun::Cgo(state)), Command::CREATED2) => {
                let created = Created2::read(cell::payload(cell)).expect("it was written");
                let keys = state.finish(created.data).map(|(_, keys)| keys);
                (Cipher::Cgo, keys.ok())
            }
            _ => return,
        };
        if let Some(keys) = keys {
            let (layer, kh) = HopLayer::new(cipher, keys);
            self.layers.insert(id.0, (layer, *kh));
        }
    }

    fn end(mut self) {
        for channel in [self.client, self.before, self.next] {
            self.switch.channel_closed(channel, self.now);
        }
        self.answer(0);
        for stream in std::mem::take(&mut self.streams) {
            self.switch.stream_take(stream, &mut Vec::new(), usize::MAX);
        }
        let counts = self.switch.counts();
        let left = [counts.channels, counts.circuits, counts.streams];
        assert_eq!(left, [0; 3], "{counts:?}");
        let points = counts.points;
        assert_eq!(
            [points.intros, points.waiting, points.joined],
            [0; 3],
            "{points:?}"
        );
        assert_eq!((counts.queued_cells, counts.onionskins), (0, 0));
    }
}

fn is_about(command: &SwitchCommand, closed: StreamKey) -> bool {
    match command {
        SwitchCommand::Connect { stream, .. }
        | SwitchCommand::Resolve { stream, .. }
        | SwitchCommand::OpenDir { stream, .. } => *stream == closed,
        _ => false,
    }
}

fn fill(cell: &mut CellBuf, body: &[u8]) {
    for (to, from) in cell::payload_mut(cell).iter_mut().zip(body) {
        *to = *from;
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (mut world, mut script) = (world(), Script::new(data));
    while let Some(step) = script.step() {
        world.step(step, &mut script);
    }
    world.end();
});
