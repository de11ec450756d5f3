//! A network in memory: relays that peel layers, extend, connect and look up, and a shell that
//! answers the client's commands at once.

mod answers;
mod onion;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use cepa_circuit::onionskin::{OnionKeys, OnionskinJob};
use cepa_circuit::{Forward, RelayCircuit};
use cepa_crypto::{RsaId, curve25519, fast};
use cepa_dir::DirRequest;
use cepa_dir::fetch::Reply;
use cepa_link::PeerIdentity;
use cepa_netdoc::routerstatus::Flags;
use cepa_wire::cell::{self, CELL_LEN, CellBuf, CircId, Command as CellCommand};
use cepa_wire::create::{Create2, CreateFast, Created2, CreatedFast};
use cepa_wire::end::End;
use cepa_wire::extend::{Extend2, Extended2};
use cepa_wire::host::Host;
use cepa_wire::relay::{self, RelayCommand, StreamId};
use cepa_wire::resolve::{Answer, AnswerValue, Resolved};
use cepa_wire::socks::{SocksRequest, SocksVersion};

use super::*;
use crate::config::Directory;
use crate::drawn::{self, Documents, DrawnRelay, start};
use crate::isolation::{Isolation, IsolationRules, Protocol};
use crate::onion::LastHop;
use crate::select::rules::Rules;
use crate::status::StreamSource;
use crate::status::bootstrap::BootstrapStatus;

/// Cells on their way to the client.
type Inbox = Vec<(ChannelKey, CellBuf)>;

/// The hops of one circuit, the first one first.
struct Hops(Vec<(RsaId, RelayCircuit)>);

pub(super) struct FakeNetwork {
    relays: Vec<DrawnRelay>,
    keys: BTreeMap<RsaId, OnionKeys>,
    dead: BTreeSet<RsaId>,
    /// Directories that answer with an empty document, whatever is asked for.
    pub(super) liars: BTreeSet<RsaId>,
    /// Bridges, by their addresses: who each is, and its descriptor.
    pub(super) bridges: BTreeMap<SocketAddr, (PeerIdentity, String)>,
    /// Relays that swallow all that they get.
    pub(super) frozen: BTreeSet<RsaId>,
    /// Relays that refuse all circuits.
    pub(super) refusing: BTreeSet<RsaId>,
    /// Channels over which nothing comes through, and what waits there.
    held: BTreeMap<ChannelKey, Vec<CellBuf>>,
    is_down: bool,
    channels: BTreeMap<ChannelKey, RsaId>,
    circuits: BTreeMap<(ChannelKey, CircId), Hops>,
    streams: Vec<(ChannelKey, CircId, StreamId)>,
    documents: Documents,
    certificate: String,
    pub(super) documents_served: usize,
    /// Exits that end each stream, and why.
    pub(super) ends: BTreeMap<RsaId, EndReason>,
    /// The address that exits tell of all names.
    pub(super) address: [u8; 4],
    /// Exits that do not answer.
    pub(super) silent: BTreeSet<RsaId>,
    /// The exits that saw BEGIN, in order.
    pub(super) begins: Vec<RsaId>,
    last_begin: Vec<RsaId>,
    /// All DATA that exits got.
    pub(super) received: Vec<u8>,
    inbox: Inbox,
    /// Padding that relays got, and what they were told of it.
    pub(super) padding: Vec<(RsaId, CellCommand, u8)>,
    /// Handshakes that relays have answered.
    pub(super) handshakes: usize,
    /// What relays keep for onion services.
    pub(super) onion: onion::OnionRelays,
    rng: Rng,
}

pub(super) struct World {
    pub(super) client: Client,
    pub(super) net: FakeNetwork,
    pub(super) now: Now,
    pub(super) statuses: Vec<BootstrapStatus>,
    pub(super) saved: Vec<Saved>,
    pub(super) events: Vec<crate::status::Event>,
    /// Streams that visitors asked for.
    pub(super) visitors: Vec<(StreamKey, u16)>,
    pub(super) published: Vec<crate::onion::services::ServiceId>,
    pub(super) answers: BTreeMap<RequestId, Command>,
    request_next: u64,
    /// Of the links; from 5 on they are padded.
    pub(super) link_version: u16,
    /// Of the port that requests come to.
    pub(super) rules: IsolationRules,
}

pub(super) fn exits(world: &World) -> [RsaId; 2] {
    [world.net.relays[6].rsa, world.net.relays[7].rsa]
}

pub(super) fn socks(command: SocksCommand, host: &str, port: u16) -> SocksRequest {
    SocksRequest {
        version: SocksVersion::V5,
        command,
        address: Host::parse(host.as_bytes()).unwrap(),
        port,
        auth: SocksAuth::None,
    }
}

impl World {
    /// Lets all happen that happens without time.
    pub(super) fn run(&mut self) {
        loop {
            let mut idle = true;
            while let Some(command) = self.client.poll_command() {
                self.obey(command);
                idle = false;
            }
            let channels: Vec<ChannelKey> = self.net.channels.keys().copied().collect();
            for channel in channels {
                let mut out = Vec::new();
                self.client.take_output(channel, &mut out, self.now);
                for bytes in out.chunks_exact_mut(CELL_LEN) {
                    let cell = bytes.try_into().expect("whole cells");
                    self.net.handle_cell(channel, cell);
                    idle = false;
                }
            }
            for (channel, mut cell) in std::mem::take(&mut self.net.inbox) {
                let handled = self.client.handle_cells(channel, &mut cell, self.now);
                assert_eq!(handled, Ok(CELL_LEN));
                idle = false;
            }
            if idle {
                return;
            }
        }
    }

    /// Lets time pass, with every time-out at its time.
    pub(super) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.run();
            match self.client.poll_timeout() {
                Some(at) if at <= end.mono => {
                    let step = at.saturating_duration_since(self.now.mono);
                    self.now = self.now + step;
                    self.client.handle_timeout(self.now);
                    let next = self.client.poll_timeout();
                    assert!(
                        next.is_none_or(|next| next > self.now.mono),
                        "time stands still"
                    );
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn obey(&mut self, command: Command) {
        let now = self.now;
        match command {
            Command::OpenChannel { link, target } => {
                let bridge = self.net.bridges.get(&target.addrs[0]);
                let peer = bridge.map(|(peer, _)| *peer);
                assert_eq!(peer.is_some(), !target.lines.is_empty(), "{target:?}");
                let relay = peer.map_or(target.rsa, |peer| peer.rsa);
                if self.net.is_down || self.net.dead.contains(&relay) {
                    return self.client.handle_channel_failed(link, now);
                }
                let established = Established {
                    version: self.link_version,
                    initiator: true,
                    peer,
                    peer_addr: target.addrs[0],
                    peer_addrs: Vec::new(),
                    my_addr_seen: target.addrs[0].ip(),
                    clock_skew_secs: None,
                    canonical: true,
                };
                let channel = self.client.handle_channel_opened(link, established, now);
                self.net.channels.insert(channel.unwrap(), relay);
            }
            Command::CloseChannel { channel, .. } => {
                self.net.channels.remove(&channel);
                self.net.circuits.retain(|(of, _), _| *of != channel);
            }
            Command::DirRequest {
                fetch,
                request,
                body,
                ..
            } => {
                let reply = Some(self.reply_to(fetch, &request, &body));
                self.client.handle_dir_reply(fetch, reply, now);
            }
            Command::CancelDirRequest { .. } => {}
            Command::Events => {
                let events = std::iter::from_fn(|| self.client.poll_status_event());
                self.events.extend(events);
            }
            Command::Save(saved) => self.saved.push(saved),
            Command::Bootstrap(status) => self.statuses.push(status),
            Command::OnionStream { stream, port, .. } => self.visitors.push((stream, port)),
            Command::OnionPublished { service } => self.published.push(service),
            Command::SocksConnected { request, .. }
            | Command::SocksResolved { request, .. }
            | Command::SocksFailed { request, .. } => {
                let earlier = self.answers.insert(request, command);
                assert!(earlier.is_none(), "one answer to each request");
            }
        }
    }

    /// What a directory, whichever it is, answers to a request.
    fn reply_to(&mut self, fetch: FetchId, request: &DirRequest, body: &[u8]) -> Reply {
        let now = self.now;
        let asked = self.client.onion.asked.by_fetch.get(&fetch);
        let named = asked.and_then(|asked| self.client.onion.by_name.get(&asked.name));
        let over = named.and_then(|named| {
            let key = self.client.circuits.pool.entry(named.pool()?)?.key()?;
            let hops = self.client.shared.plane.circuit_status(key)?.hop_count;
            Some((named.purpose, hops))
        });
        self.net.onion.asked.extend(over);
        let attempt = self.client.directory.fetches.attempts.get(&fetch);
        let is_lie = attempt.is_some_and(|one| self.net.liars.contains(&one.relay));
        let bridge = self.client.directory.bridges.bridge_of(fetch);
        let own = bridge.and_then(|id| self.net.descriptor_of(&id));
        match named.map(|named| &named.last) {
            _ if own.is_some() => Reply {
                status: 200,
                body: own.unwrap_or_default().into_bytes(),
            },
            Some(LastHop::Listed(id)) => {
                let id = *id;
                self.net.serve_onion(id, request, body, now)
            }
            _ if is_lie => Reply {
                status: 200,
                body: Vec::new(),
            },
            _ => self.net.serve(request),
        }
    }

    pub(super) fn ask(&mut self, request: &SocksRequest, early: &[u8]) -> RequestId {
        let id = RequestId(self.request_next);
        self.request_next += 1;
        let listener = "127.0.0.1:9050".parse().unwrap();
        let source = StreamSource {
            addr: "127.0.0.1:40000".parse().unwrap(),
            protocol: Protocol::Socks(request.version),
        };
        let isolation = Isolation::new(&self.rules, listener, source, request);
        self.client
            .handle_socks_request(id, request, source, isolation, early.to_vec(), self.now);
        self.run();
        id
    }

    pub(super) fn connect(&mut self, host: &str, port: u16, user: &str, early: &[u8]) -> RequestId {
        let mut request = socks(SocksCommand::Connect, host, port);
        if !user.is_empty() {
            request.auth = SocksAuth::Username(user.into(), Vec::new());
        }
        self.ask(&request, early)
    }

    /// A relay is gone from one moment to the next.
    pub(super) fn kill(&mut self, relay: RsaId) {
        self.net.dead.insert(relay);
        let channels = self.net.channels.iter().filter(|(_, id)| **id == relay);
        let channels: Vec<ChannelKey> = channels.map(|(channel, _)| *channel).collect();
        for channel in channels {
            self.net.channels.remove(&channel);
            self.client.channel_closed(channel, self.now);
        }
        self.net.truncate_at(relay);
        self.run();
    }
}

impl FakeNetwork {
    /// The authorities agree on a new consensus.
    pub(super) fn publish(&mut self, now: Now) {
        self.documents = Documents::new(&self.relays, "", now);
        self.certificate = drawn::certificate(now);
    }

    fn descriptor_of(&self, id: &RsaId) -> Option<String> {
        let mut bridges = self.bridges.values();
        let found = bridges.find(|(peer, _)| peer.rsa == *id);
        found.map(|(_, text)| text.clone())
    }

    fn serve(&mut self, request: &DirRequest) -> Reply {
        self.documents_served += 1;
        let text = match request {
            DirRequest::Consensus { .. } => self.documents.consensus.clone(),
            DirRequest::Certificates(_) => self.certificate.clone(),
            DirRequest::Microdescs(digests) => {
                let wanted = |text: &&String| {
                    digests.contains(&cepa_crypto::digest::sha256(text.as_bytes()))
                };
                self.documents
                    .microdescs
                    .iter()
                    .filter(wanted)
                    .cloned()
                    .collect()
            }
            other => panic!("a client asks for {other:?}"),
        };
        Reply {
            status: 200,
            body: text.into_bytes(),
        }
    }

    /// The channels to a relay.
    pub(super) fn channels_to(&self, relay: RsaId) -> Vec<ChannelKey> {
        let channels = self.channels.iter().filter(|(_, id)| **id == relay);
        channels.map(|(channel, _)| *channel).collect()
    }

    /// Nothing comes through the present channels of a relay any more.
    pub(super) fn hold(&mut self, relay: RsaId) {
        for channel in self.channels_to(relay) {
            self.held.insert(channel, Vec::new());
        }
    }

    /// Nothing comes through anywhere.
    pub(super) fn go_down(&mut self) {
        self.is_down = true;
        let channels = self.channels.keys();
        self.held = channels.map(|channel| (*channel, Vec::new())).collect();
    }

    /// All that waited comes through.
    pub(super) fn come_up(&mut self) {
        self.is_down = false;
        for (channel, cells) in std::mem::take(&mut self.held) {
            for mut cell in cells {
                if self.channels.contains_key(&channel) {
                    self.handle_cell(channel, &mut cell);
                }
            }
        }
    }

    /// A relay is there again.
    pub(super) fn revive(&mut self, relay: RsaId) {
        self.dead.remove(&relay);
    }

    /// The relays of each circuit.
    pub(super) fn paths(&self) -> Vec<Vec<RsaId>> {
        let circuits = self.circuits.values();
        circuits
            .map(|hops| hops.0.iter().map(|(id, _)| *id).collect())
            .collect()
    }

    /// All relays.
    pub(super) fn ids(&self) -> Vec<RsaId> {
        self.relays.iter().map(|relay| relay.rsa).collect()
    }

    pub(super) fn path_of_last_begin(&self) -> &[RsaId] {
        &self.last_begin
    }

    /// Every exit says this on every stream.
    pub(super) fn say_to_all(&mut self, data: &[u8]) {
        for (channel, circ_id, id) in self.streams.clone() {
            let last = self.circuits[&(channel, circ_id)].0.len() - 1;
            self.say((channel, circ_id), last, RelayCommand::DATA, id, data);
        }
    }

    /// Circuits end before a relay that is gone.
    fn truncate_at(&mut self, relay: RsaId) {
        let keys: Vec<_> = self.circuits.keys().copied().collect();
        for key in keys {
            let hops = &self.circuits[&key].0;
            if hops.iter().any(|(id, _)| *id == relay) {
                self.onion.dead.push(key);
            }
            match hops.iter().position(|(id, _)| *id == relay) {
                Some(0) => {
                    self.circuits.remove(&key);
                }
                Some(at) => self.say(key, at - 1, RelayCommand::TRUNCATED, StreamId::NONE, &[8]),
                None => {}
            }
        }
        self.part_dead();
    }

    fn handle_cell(&mut self, channel: ChannelKey, cell: &mut CellBuf) {
        let key = (channel, cell::circ_id(cell));
        if let Some(held) = self.held.get_mut(&channel) {
            return held.push(*cell);
        }
        let relay = self.channels[&channel];
        if self.frozen.contains(&relay) {
            return;
        }
        let command = cell::command(cell);
        let payload = cell::payload_mut(cell);
        match command {
            CellCommand::PADDING | CellCommand::PADDING_NEGOTIATE => {
                self.padding.push((relay, command, payload[1]));
            }
            CellCommand::CREATE_FAST => {
                let create = CreateFast::read(payload).unwrap();
                let (y, derivative, keys) = fast::server(&mut self.rng, &create.x);
                let circuit = RelayCircuit::new(&keys.tor1());
                self.circuits.insert(key, Hops(vec![(relay, circuit)]));
                let mut reply = cell::new_cell(key.1, CellCommand::CREATED_FAST);
                CreatedFast { y, derivative }.write(cell::payload_mut(&mut reply));
                self.inbox.push((channel, reply));
            }
            CellCommand::CREATE2 if self.refusing.contains(&relay) => {
                let mut destroy = cell::new_cell(key.1, CellCommand::DESTROY);
                cell::payload_mut(&mut destroy)[0] = 5;
                self.inbox.push((channel, destroy));
            }
            CellCommand::CREATE2 => {
                let create = Create2::read(payload).unwrap();
                let (data, circuit) = self.handshake(relay, &create);
                self.circuits.insert(key, Hops(vec![(relay, circuit)]));
                let mut reply = cell::new_cell(key.1, CellCommand::CREATED2);
                Created2 { data: &data }
                    .write(cell::payload_mut(&mut reply))
                    .unwrap();
                self.inbox.push((channel, reply));
            }
            CellCommand::DESTROY => {
                self.circuits.remove(&key);
                self.part(key);
                self.streams
                    .retain(|(channel, circ_id, _)| (*channel, *circ_id) != key);
            }
            _ => self.handle_relay(key, command, cell),
        }
    }

    fn handshake(&mut self, relay: RsaId, create: &Create2<'_>) -> (Vec<u8>, RelayCircuit) {
        let job = OnionskinJob::new(create).unwrap();
        let reply = job.run(&self.keys[&relay], &mut self.rng).unwrap();
        self.handshakes += 1;
        let (keys, kh) = reply.keys.tor1_with_kh();
        self.onion.kh_last = *kh;
        (reply.data, RelayCircuit::new(&keys))
    }

    fn handle_relay(
        &mut self,
        key: (ChannelKey, CircId),
        command: CellCommand,
        cell: &mut CellBuf,
    ) {
        let Some(hops) = self.circuits.get_mut(&key) else {
            return;
        };
        let payload = cell::payload_mut(cell);
        let here = hops.0.iter_mut().position(|(_, hop)| {
            matches!(
                hop.handle_forward(command, payload).unwrap(),
                Forward::Here(_)
            )
        });
        let Some(here) = here else {
            return self.pass_on(key, cell);
        };
        let (command, id) = (relay::command(payload), relay::stream_id(payload));
        let data = relay::data(payload).unwrap().to_vec();
        let relay = hops.0[here].0;
        if hops.0[..=here]
            .iter()
            .any(|(id, _)| self.frozen.contains(id))
        {
            return;
        }
        let path: Vec<RsaId> = hops.0.iter().map(|(id, _)| *id).collect();
        self.onion.said.push((command, path.clone()));
        match command {
            RelayCommand::EXTEND2 => self.extend(key, here, &data),
            RelayCommand::BEGIN_DIR => self.say(key, here, RelayCommand::CONNECTED, id, &[]),
            RelayCommand::BEGIN => {
                self.begins.push(relay);
                self.last_begin = path;
                self.streams.push((key.0, key.1, id));
                let mut body = Vec::new();
                match self.ends.get(&relay) {
                    _ if self.silent.contains(&relay) => {}
                    None => {
                        let address = self.address;
                        self.say(key, here, RelayCommand::CONNECTED, id, &address);
                    }
                    Some(reason) => {
                        End::from(*reason).write(&mut body);
                        self.say(key, here, RelayCommand::END, id, &body);
                    }
                }
            }
            RelayCommand::RESOLVE => {
                let value = AnswerValue::Ip(self.address.into());
                let answers = vec![Answer { value, ttl: 60 }];
                let mut body = Vec::new();
                Resolved { answers }.write(&mut body).unwrap();
                self.say(key, here, RelayCommand::RESOLVED, id, &body);
            }
            RelayCommand::DATA => self.received.extend(data),
            command => self.handle_onion(key, here, command, &data),
        }
    }

    fn extend(&mut self, key: (ChannelKey, CircId), here: usize, data: &[u8]) {
        let extend = Extend2::read(data).unwrap();
        let target = extend.link_specifiers.rsa_id().unwrap();
        if self.frozen.contains(&target) {
            return;
        }
        if self.dead.contains(&target) {
            return self.say(key, here, RelayCommand::TRUNCATED, StreamId::NONE, &[6]);
        }
        let create = Create2 {
            handshake_type: extend.handshake_type,
            data: extend.data,
        };
        let (data, circuit) = self.handshake(target, &create);
        let mut body = Vec::new();
        Extended2 { data: &data }.write(&mut body).unwrap();
        self.say(key, here, RelayCommand::EXTENDED2, StreamId::NONE, &body);
        self.circuits
            .get_mut(&key)
            .unwrap()
            .0
            .push((target, circuit));
        self.onion.kh.insert(key, self.onion.kh_last);
    }

    /// The hop of an index says something to the client.
    pub(super) fn say(
        &mut self,
        key: (ChannelKey, CircId),
        hop: usize,
        command: RelayCommand,
        id: StreamId,
        data: &[u8],
    ) {
        let mut cell = cell::new_cell(key.1, CellCommand::RELAY);
        let payload = cell::payload_mut(&mut cell);
        let hops = &mut self.circuits.get_mut(&key).unwrap().0[..=hop];
        let (last, before) = hops.split_last_mut().unwrap();
        last.1
            .originate(
                payload,
                command,
                id,
                data,
                &mut self.rng,
                crate::drawn::start().mono,
            )
            .unwrap();
        for (_, hop) in before.iter_mut().rev() {
            hop.backward(payload);
        }
        self.inbox.push((key.0, cell));
    }
}
