//! What relays of the network in memory do for onion services: directories, introduction points,
//! rendezvous points.

use std::collections::BTreeMap;

use cepa_crypto::RsaId;
use cepa_dir::DirRequest;
use cepa_dir::fetch::Reply;
use cepa_link::ChannelKey;
use cepa_netdoc::hs_descriptor::HsDescriptor;
use cepa_wire::Now;
use cepa_wire::cell::{self, CellBuf, CircId, Command as CellCommand};
use cepa_wire::circuit_padding::{
    MachineCommand, MachineNegotiated, MachineType, NegotiateMachine,
};
use cepa_wire::destroy::DestroyReason;
use cepa_wire::establish_intro::{EstablishIntro, IntroEstablished};
use cepa_wire::introduce::{Introduce, IntroduceAck, IntroduceStatus};
use cepa_wire::relay::{RelayCommand, StreamId};
use cepa_wire::rendezvous::{EstablishRendezvous, Rendezvous1};

use super::FakeNetwork;
use crate::onion::Purpose;

type Key = (ChannelKey, CircId);

/// What relays keep for onion services.
#[derive(Default)]
pub(crate) struct OnionRelays {
    /// KH of the handshake that was made last.
    pub(super) kh_last: [u8; 20],
    /// KH of the last hop of each circuit.
    pub(super) kh: BTreeMap<Key, [u8; 20]>,
    /// Introduction circuits by authentication key.
    pub(crate) intros: BTreeMap<[u8; 32], Key>,
    cookies: BTreeMap<[u8; 20], Key>,
    /// Circuits that were joined.
    pub(crate) joined: BTreeMap<Key, Key>,
    /// By relay and blinded key.
    pub(crate) descriptors: BTreeMap<(RsaId, [u8; 32]), String>,
    /// Relays that have no descriptors.
    pub(crate) forgetful: bool,
    pub(crate) introductions: usize,
    /// What clients said to hops, and over which paths.
    pub(crate) said: Vec<(RelayCommand, Vec<RsaId>)>,
    /// For what directories were asked, and over how many hops.
    pub(crate) asked: Vec<(Purpose, usize)>,
    /// What concerns padding that relays were told: the circuit, the hop, what, and its body.
    pub(crate) padding: Vec<(Key, usize, RelayCommand, Vec<u8>)>,
    /// They know no padding machines.
    pub(crate) refuses_machines: bool,
    /// Circuits that had a relay that is gone.
    pub(super) dead: Vec<Key>,
}

impl OnionRelays {
    /// The paths over which clients said this; at least one.
    pub(crate) fn paths_of(&self, command: RelayCommand) -> Vec<&Vec<RsaId>> {
        let of_this = self.said.iter().filter(|(said, _)| *said == command);
        let paths: Vec<_> = of_this.map(|(_, path)| path).collect();
        assert!(!paths.is_empty(), "{command:?}");
        paths
    }
}

impl FakeNetwork {
    pub(super) fn serve_onion(
        &mut self,
        relay: RsaId,
        request: &DirRequest,
        body: &[u8],
        now: Now,
    ) -> Reply {
        let (status, body) = match request {
            DirRequest::PostHsDescriptor => {
                let text = std::str::from_utf8(body).unwrap();
                let parsed = HsDescriptor::parse(text, now.wall).unwrap();
                let key = (relay, *parsed.blinded_key.as_bytes());
                self.onion.descriptors.insert(key, text.to_owned());
                (200, Vec::new())
            }
            DirRequest::HsDescriptor(blinded) => {
                let found = self.onion.descriptors.get(&(relay, *blinded));
                match found.filter(|_| !self.onion.forgetful) {
                    Some(text) => (200, text.clone().into_bytes()),
                    None => (404, Vec::new()),
                }
            }
            other => panic!("an HSDir is asked for {other:?}"),
        };
        Reply { status, body }
    }

    /// A message for the last hop that is about onion services.
    pub(super) fn handle_onion(
        &mut self,
        key: Key,
        here: usize,
        command: RelayCommand,
        data: &[u8],
    ) {
        let none = StreamId::NONE;
        let mut body = Vec::new();
        match command {
            RelayCommand::ESTABLISH_INTRO => {
                let establish = EstablishIntro::read(data).unwrap();
                establish.verify(&self.onion.kh[&key]).unwrap();
                let auth = *establish.auth_key.as_bytes();
                self.onion.intros.insert(auth, key);
                IntroEstablished.write(&mut body);
                self.say(key, here, RelayCommand::INTRO_ESTABLISHED, none, &body);
            }
            RelayCommand::INTRODUCE1 => {
                self.onion.introductions += 1;
                let introduce = Introduce::read(data).unwrap();
                let service = self.onion.intros.get(introduce.auth_key.as_bytes());
                let service = service
                    .copied()
                    .filter(|key| self.circuits.contains_key(key));
                let status = match service {
                    Some(service) => {
                        let last = self.circuits[&service].0.len() - 1;
                        self.say(service, last, RelayCommand::INTRODUCE2, none, data);
                        IntroduceStatus::SUCCESS
                    }
                    None => IntroduceStatus::UNKNOWN_ID,
                };
                IntroduceAck { status }.write(&mut body);
                self.say(key, here, RelayCommand::INTRODUCE_ACK, none, &body);
            }
            RelayCommand::ESTABLISH_RENDEZVOUS => {
                let cookie = EstablishRendezvous::read(data).unwrap().cookie;
                self.onion.cookies.insert(cookie, key);
                self.say(key, here, RelayCommand::RENDEZVOUS_ESTABLISHED, none, &[]);
            }
            RelayCommand::RENDEZVOUS1 => {
                let meet = Rendezvous1::read(data).unwrap();
                let visitor = self.onion.cookies.remove(&meet.cookie).unwrap();
                self.onion.joined.insert(visitor, key);
                self.onion.joined.insert(key, visitor);
                let last = self.circuits[&visitor].0.len() - 1;
                let command = RelayCommand::RENDEZVOUS2;
                self.say(visitor, last, command, none, meet.handshake);
            }
            RelayCommand::DROP => self.onion.padding.push((key, here, command, data.to_vec())),
            RelayCommand::PADDING_NEGOTIATE => self.pad(key, here, data),
            _ => {}
        }
    }

    /// What a relay does that is asked for a padding machine.
    fn pad(&mut self, key: Key, here: usize, data: &[u8]) {
        let (none, negotiated) = (StreamId::NONE, RelayCommand::PADDING_NEGOTIATED);
        let command = RelayCommand::PADDING_NEGOTIATE;
        self.onion.padding.push((key, here, command, data.to_vec()));
        let is_accepted = !self.onion.refuses_machines;
        let asked = NegotiateMachine::read(data).unwrap();
        let mut answer = MachineNegotiated {
            command: asked.command,
            is_accepted,
            machine: asked.machine,
            counter: asked.counter,
        };
        let mut body = Vec::new();
        answer.write(&mut body);
        self.say(key, here, negotiated, none, &body);
        let is_intro = asked.machine == MachineType::HIDE_INTRO;
        for _ in 0..if is_intro { 8 } else { 1 } * u8::from(is_accepted) {
            self.say(key, here, RelayCommand::DROP, none, &[]);
        }
        if is_intro && is_accepted {
            answer.command = MachineCommand::Stop;
            body.clear();
            answer.write(&mut body);
            self.say(key, here, negotiated, none, &body);
        }
    }

    /// A cell for nobody on its circuit goes on over the one that it was joined with.
    pub(super) fn pass_on(&mut self, key: Key, cell: &mut CellBuf) {
        let Some(other) = self.onion.joined.get(&key).copied() else {
            return;
        };
        let Some(hops) = self.circuits.get_mut(&other) else {
            return;
        };
        for (_, hop) in hops.0.iter_mut().rev() {
            hop.backward(cell::payload_mut(cell));
        }
        cell::set_header(cell, other.1, CellCommand::RELAY);
        self.inbox.push((other.0, *cell));
    }

    /// One of two joined circuits has ended.
    pub(super) fn part(&mut self, key: Key) {
        let Some(other) = self.onion.joined.remove(&key) else {
            return;
        };
        self.onion.joined.remove(&other);
        if self.circuits.remove(&other).is_some() {
            let mut destroy = cell::new_cell(other.1, CellCommand::DESTROY);
            DestroyReason::FINISHED.write(cell::payload_mut(&mut destroy));
            self.inbox.push((other.0, destroy));
        }
    }

    /// Whether a circuit is there.
    pub(crate) fn has(&self, key: Key) -> bool {
        self.circuits.contains_key(&key)
    }

    /// The last relay of a circuit.
    pub(crate) fn last_of(&self, key: Key) -> Option<RsaId> {
        let hops = self.circuits.get(&key)?;
        hops.0.last().map(|(id, _)| *id)
    }

    /// The relays of a circuit; none once it is gone.
    pub(crate) fn path_of(&self, key: Key) -> Vec<RsaId> {
        let hops = self.circuits.get(&key).map(|hops| hops.0.iter());
        hops.into_iter().flatten().map(|(id, _)| *id).collect()
    }

    /// Rendezvous end where a relay is gone.
    pub(super) fn part_dead(&mut self) {
        for key in std::mem::take(&mut self.onion.dead) {
            self.part(key);
        }
    }
}
