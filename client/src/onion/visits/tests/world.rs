//! The world of a visitor: it does what the machine asks, as it was told to, and checks that
//! circuits are opened, used and closed as they may be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use cepa_circuit::handshake::{HopKey, HopSpec};
use cepa_crypto::hs_ntor::{ServiceIntro, service_rendezvous};
use cepa_crypto::layer::HopLayer;
use cepa_crypto::onion::{OnionAddress, TimePeriod, subcredential};
use cepa_crypto::{Rng, RsaId, curve25519, ed25519};
use cepa_dir::fetch::Reply;
use cepa_dir::{DirRequest, NetworkView};
use cepa_netdoc::consensus::ConsensusText;
use cepa_netdoc::hs_descriptor::{HsDescriptorBuilder, HsPlaintext, IntroPoint};
use cepa_netdoc::microdesc::Microdesc;
use cepa_netdoc::routerstatus::Flags;
use cepa_wire::Now;
use cepa_wire::intro_plaintext::IntroPlaintext;
use cepa_wire::introduce::{Introduce, IntroduceAck, IntroduceStatus};
use cepa_wire::linkspec::LinkSpecifiers;
use cepa_wire::relay::RelayCommand;
use cepa_wire::rendezvous::{EstablishRendezvous, Rendezvous2};

use super::super::*;
use crate::drawn::{Documents, DrawnRelay, start};
use crate::onion::action::{Ending, LastHop, Purpose};
use crate::select::rules::Permits;

/// What a directory does when it is asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Dir {
    Good,
    Missing,
    Garbage,
    Silent,
    Dead(Ending),
}

/// What an introduction point does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Intro {
    Good,
    /// The service does not come.
    AckOnly,
    /// The service comes, the answer does not.
    NoAck,
    /// RENDEZVOUS2 has a wrong AUTH.
    WrongAuth,
    Nack(u16),
    BadAck,
    Silent,
    /// It closes the circuit when it is asked.
    Closes,
    Dead(Ending),
}

/// What a rendezvous point does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Rend {
    Good,
    Silent,
    Dead(Ending),
}

/// An introduction point's keys, as the service has them.
pub(super) struct Keys {
    auth: ed25519::Keypair,
    enc: curve25519::SecretKey,
    pub(super) relay: usize,
}

/// A circuit as the world sees it.
#[derive(Debug)]
struct Circuit {
    purpose: Purpose,
    last: LastHop,
    cookie: Option<[u8; 20]>,
    joined: bool,
}

pub(super) struct World {
    pub(super) visits: Visits,
    pub(super) now: Now,
    pub(super) address: OnionAddress,
    pub(super) clients: Vec<curve25519::PublicKey>,
    pub(super) points: Vec<Keys>,
    pub(super) revision: u64,
    /// What the operator's rules say to the relays.
    pub(super) permits: Permits,
    /// What happens next; good if nothing is said.
    pub(super) dirs: VecDeque<Dir>,
    pub(super) intros: VecDeque<Intro>,
    pub(super) rends: VecDeque<Rend>,
    /// What the machine asked for, in order.
    pub(super) trace: Vec<String>,
    pub(super) asked: Vec<RsaId>,
    /// Introduction points to which circuits were wanted.
    pub(super) introduced: Vec<RsaId>,
    pub(super) rng: Rng,
    /// The service's layers of the circuits that it came to.
    service_layers: BTreeMap<CircuitName, HopLayer>,
    /// As the visitor's consensus has it.
    period: Option<TimePeriod>,
    identity: ed25519::ExpandedKeypair,
    signing: ed25519::Keypair,
    relays: Vec<DrawnRelay>,
    circuits: BTreeMap<CircuitName, Circuit>,
    ended: BTreeSet<CircuitName>,
    plans: BTreeMap<CircuitName, Intro>,
}

impl World {
    /// Twelve relays, and a service with three introduction points; the visitor knows no network.
    pub(super) fn without_network() -> World {
        World::of_service(9)
    }

    /// The same with the service of this seed.
    pub(super) fn of_service(seed: u8) -> World {
        let mut rng = Rng::from_seed([9; 32]);
        let relays = (1..=12).map(|n| {
            let mut relay = DrawnRelay::new(n, &mut rng);
            relay.flags = relay.flags | Flags::HS_DIR;
            relay
        });
        let relays: Vec<_> = relays.collect();
        let identity = ed25519::Keypair::from_seed(&[seed; 32]).expand();
        let mut world = World {
            visits: Visits::new(rng.fork(), true),
            now: start(),
            address: OnionAddress::new(&identity.public()).unwrap(),
            clients: Vec::new(),
            points: Vec::new(),
            revision: 1,
            dirs: VecDeque::new(),
            intros: VecDeque::new(),
            rends: VecDeque::new(),
            trace: Vec::new(),
            asked: Vec::new(),
            service_layers: BTreeMap::new(),
            period: None,
            introduced: Vec::new(),
            permits: Permits::default(),
            signing: ed25519::Keypair::generate(&mut rng),
            identity,
            relays,
            circuits: BTreeMap::new(),
            ended: BTreeSet::new(),
            plans: BTreeMap::new(),
            rng,
        };
        world.renew_points();
        world
    }

    /// The same, and the visitor knows the network.
    pub(super) fn new() -> World {
        let mut world = World::without_network();
        world.meet_network();
        world
    }

    /// The same in a network that is not for tests.
    pub(super) fn in_public() -> World {
        let mut world = World::without_network();
        world.visits = Visits::new(world.rng.fork(), false);
        world.meet_network();
        world
    }

    /// The service has new introduction points and a new descriptor.
    pub(super) fn renew_points(&mut self) {
        let rng = &mut self.rng;
        self.points = (0..3)
            .map(|relay| Keys {
                auth: ed25519::Keypair::generate(rng),
                enc: curve25519::SecretKey::generate(rng),
                relay,
            })
            .collect();
        self.revision += 1;
    }

    pub(super) fn view(&self) -> NetworkView {
        let documents = Documents::new(&self.relays, "", self.now);
        let text = documents
            .consensus
            .replace("Guard MiddleOnly", "Guard HSDir MiddleOnly")
            .replace("Relay=2-4", "HSDir=2 Relay=2-4");
        let mut view = NetworkView::new(ConsensusText::parse(text).unwrap()).testing(true);
        let microdescs = documents.microdescs.iter();
        view.add_microdescs(microdescs.map(|text| Microdesc::parse(text).unwrap()));
        view
    }

    pub(super) fn meet_network(&mut self) {
        let view = self.view();
        let ring = fetch_ring(&view);
        assert_eq!(ring.len(), 12);
        self.period = Some(ring.period());
        self.visits
            .handle_event(Event::Network(&view, &self.permits), self.now);
    }

    pub(super) fn period(&self) -> TimePeriod {
        self.period.expect("there is a network")
    }

    pub(super) fn isolation(n: u64) -> Isolation {
        Isolation::internal(n)
    }

    /// Asks for the service, does all that follows without time going by, and what came of it.
    pub(super) fn visit(&mut self) -> (VisitId, Option<Outcome>) {
        let isolation = World::isolation(0);
        let visit = self.visits.request(self.address, &isolation, self.now);
        self.run();
        (visit, self.visits.poll_outcome())
    }

    /// The same, with as much time as it takes.
    pub(super) fn visit_to_the_end(&mut self) -> Outcome {
        let (_, outcome) = self.visit();
        outcome.unwrap_or_else(|| self.wait())
    }

    /// Lets time go by until something comes of a visit.
    pub(super) fn wait(&mut self) -> Outcome {
        for _ in 0..1000 {
            if let Some(outcome) = self.visits.poll_outcome() {
                return outcome;
            }
            let until = self.visits.poll_timeout().expect("something is due");
            self.pass(until.saturating_duration_since(self.now.mono));
        }
        panic!("nothing came of it: {:#?}", self.trace);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.wall += time;
        self.visits.handle_timeout(self.now);
        self.run();
    }

    pub(super) fn error(&mut self) -> VisitError {
        match self.visit_to_the_end() {
            Outcome::Failed { error, .. } => {
                assert_eq!(self.circuits.len(), 0, "{:?}", self.circuits);
                assert!(self.visits.poll_timeout().is_none());
                error
            }
            other => panic!("{other:?} after {:#?}", self.trace),
        }
    }

    /// Visits, and the rendezvous circuit. Checks that the layers of both sides fit.
    pub(super) fn ready(&mut self) -> (VisitId, CircuitName) {
        match self.visit_to_the_end() {
            Outcome::Ready { visit, circuit } => {
                assert!(self.circuits[&circuit].joined);
                (visit, circuit)
            }
            other => panic!("{other:?} after {:#?}", self.trace),
        }
    }

    pub(super) fn count(&self, what: &str) -> usize {
        let lines = self.trace.iter();
        lines.filter(|line| line.starts_with(what)).count()
    }

    pub(super) fn open_circuits(&self) -> Vec<CircuitName> {
        self.circuits.keys().copied().collect()
    }

    pub(super) fn purpose(&self, circuit: CircuitName) -> Purpose {
        self.circuits[&circuit].purpose
    }

    /// Does what the machine asks until it waits.
    pub(super) fn run(&mut self) {
        while let Some(action) = self.visits.poll_action() {
            self.act(action);
        }
        self.check();
    }

    /// No circuit is forgotten, and no visit has more than two.
    fn check(&self) {
        let visits = &self.visits;
        assert_eq!(visits.shared.circuits.len(), self.circuits.len());
        let bound = 2 * visits.visits.len() + visits.fetches.len();
        assert!(self.circuits.len() <= bound, "{:?}", self.circuits);
        let rendezvous = |c: &&Circuit| c.purpose == Purpose::Rendezvous;
        let count = self.circuits.values().filter(rendezvous).count();
        assert!(count <= visits.visits.len(), "{:?}", self.circuits);
    }

    /// Takes an action and only writes it down.
    pub(super) fn note(&mut self, action: &Action) {
        match action {
            Action::Open {
                circuit,
                purpose,
                last,
            } => {
                self.trace.push(format!("open {purpose:?}"));
                if let LastHop::Told(spec) = last {
                    self.introduced.extend(spec.link_specifiers.rsa_id());
                }
                let opened = Circuit {
                    purpose: *purpose,
                    last: last.clone(),
                    cookie: None,
                    joined: false,
                };
                let before = self.circuits.insert(*circuit, opened);
                assert!(before.is_none(), "a name is used once");
            }
            Action::Send {
                circuit,
                command,
                body,
            } => {
                self.trace.push(format!("send {command:?}"));
                let known = self.circuits.get_mut(circuit).expect("it is open");
                if *command == RelayCommand::ESTABLISH_RENDEZVOUS {
                    known.cookie = Some(EstablishRendezvous::read(body).unwrap().cookie);
                }
            }
            Action::Join {
                circuit, serves, ..
            } => {
                self.trace.push("join".to_owned());
                assert!(!serves);
                let known = self.circuits.get_mut(circuit).expect("it is open");
                assert!(!std::mem::replace(&mut known.joined, true));
            }
            Action::Request { circuit, body, .. } => {
                self.trace.push("request".to_owned());
                assert!(self.circuits.contains_key(circuit) && body.is_empty());
            }
            Action::Close { circuit } => {
                match self.circuits.remove(circuit) {
                    Some(closed) => self.trace.push(format!("close {:?}", closed.purpose)),
                    // Its end was told while this was on its way.
                    None => assert!(self.ended.remove(circuit)),
                }
            }
        }
    }

    fn act(&mut self, action: Action) {
        self.note(&action);
        match action {
            Action::Open {
                circuit,
                purpose,
                last,
            } => self.open(circuit, purpose, &last),
            Action::Send {
                circuit,
                command,
                body,
            } if command == RelayCommand::ESTABLISH_RENDEZVOUS => {
                assert!(!body.is_empty());
                if self.rends.pop_front().unwrap_or(Rend::Good) == Rend::Good {
                    let command = RelayCommand::RENDEZVOUS_ESTABLISHED;
                    self.message(circuit, command, &[]);
                }
            }
            Action::Send { circuit, body, .. } => self.introduce(circuit, &body),
            Action::Request {
                circuit, request, ..
            } => {
                let answer = self.dirs.pop_front().unwrap_or(Dir::Good);
                self.reply(circuit, &request, &answer);
            }
            Action::Join {
                circuit, mut layer, ..
            } => {
                assert!(self.circuits.contains_key(&circuit));
                let mut payload = [0; 509];
                let tag = layer.originate_forward(3, &mut payload);
                let service = self.service_layers.get_mut(&circuit);
                let service = service.expect("the service came");
                let read = service.decrypt_backward(3, &mut payload);
                assert_eq!(read, Some(tag), "both have the same keys");
            }
            Action::Close { .. } => {}
        }
    }

    fn open(&mut self, circuit: CircuitName, purpose: Purpose, last: &LastHop) {
        let dead = match purpose {
            Purpose::Rendezvous => match self.rends.front() {
                Some(Rend::Dead(ending)) => Some((*ending, self.rends.pop_front().is_some())),
                _ => None,
            },
            Purpose::Introduce => {
                let plan = self.intros.pop_front().unwrap_or(Intro::Good);
                self.plans.insert(circuit, plan.clone());
                match plan {
                    Intro::Dead(ending) => Some((ending, true)),
                    _ => None,
                }
            }
            _ => match self.dirs.front() {
                Some(Dir::Dead(ending)) => Some((*ending, self.dirs.pop_front().is_some())),
                _ => None,
            },
        };
        if let LastHop::Listed(id) = last {
            self.asked.push(*id);
        }
        match dead {
            Some((ending, _)) => self.end(circuit, ending),
            None => self.build(circuit),
        }
    }

    /// A circuit stands.
    pub(super) fn build(&mut self, circuit: CircuitName) {
        let hop = match &self.circuits[&circuit].last {
            LastHop::Told(hop) => (**hop).clone(),
            LastHop::Listed(id) => self.hop(self.index(id)),
            LastHop::Any(excluded) => {
                let mut free = (0..self.relays.len()).filter(|&n| {
                    let id = self.relays[n].rsa;
                    !excluded.contains(&id)
                });
                self.hop(free.next_back().unwrap())
            }
        };
        let event = Event::Built {
            circuit,
            last: &hop,
            kh: &[0; 20],
        };
        self.visits.handle_event(event, self.now);
    }

    pub(super) fn end(&mut self, circuit: CircuitName, ending: Ending) {
        if self.circuits.remove(&circuit).is_some() {
            self.ended.insert(circuit);
        }
        self.visits
            .handle_event(Event::Ended { circuit, ending }, self.now);
    }

    pub(super) fn message(&mut self, circuit: CircuitName, command: RelayCommand, body: &[u8]) {
        let event = Event::Message {
            circuit,
            command,
            body,
        };
        self.visits.handle_event(event, self.now);
    }

    pub(super) fn reply(&mut self, circuit: CircuitName, request: &DirRequest, answer: &Dir) {
        let DirRequest::HsDescriptor(blinded) = request else {
            panic!("{request:?}");
        };
        let period = self.period();
        assert_eq!(self.address.blind(period).as_bytes(), blinded);
        let reply = match answer {
            Dir::Good => Reply {
                status: 200,
                body: self.descriptor(period).into_bytes(),
            },
            Dir::Garbage => Reply {
                status: 200,
                body: self
                    .descriptor(period)
                    .replace("revision", "revolution")
                    .into(),
            },
            Dir::Missing => Reply {
                status: 404,
                body: Vec::new(),
            },
            Dir::Silent => return,
            Dir::Dead(_) => Reply::failed(),
        };
        self.visits
            .handle_event(Event::Reply { circuit, reply }, self.now);
    }

    /// INTRODUCE1 reaches the introduction point.
    fn introduce(&mut self, circuit: CircuitName, body: &[u8]) {
        let plan = self.plans.remove(&circuit).expect("one INTRODUCE1");
        let status = match plan {
            Intro::Silent => return,
            Intro::Closes => return self.end(circuit, Ending::Closed),
            Intro::Nack(status) => IntroduceStatus(status),
            Intro::Good if point(&self.points, body).is_none() => IntroduceStatus::UNKNOWN_ID,
            _ => IntroduceStatus::SUCCESS,
        };
        let mut ack = Vec::new();
        IntroduceAck { status }.write(&mut ack);
        if plan == Intro::BadAck {
            ack.truncate(1);
        }
        if plan != Intro::NoAck {
            self.message(circuit, RelayCommand::INTRODUCE_ACK, &ack);
        }
        if let Intro::Good | Intro::NoAck | Intro::WrongAuth = plan {
            self.meet(body, plan == Intro::WrongAuth);
        }
    }

    /// The service comes to the rendezvous, if it can read the introduction.
    pub(super) fn meet(&mut self, body: &[u8], is_wrong: bool) {
        let blinded = self.address.blind(self.period());
        let subcredential = subcredential(self.address.key(), &blinded);
        let introduce = Introduce::read(body).unwrap();
        let x = introduce.client_key().unwrap();
        let Some(point) = point(&self.points, body) else {
            return;
        };
        let auth_key = point.auth.public();
        let intro = ServiceIntro::new(&point.enc, &x, &auth_key).unwrap();
        let Ok(plaintext) = introduce.open(&intro.keys(&subcredential)) else {
            return;
        };
        let plaintext = IntroPlaintext::read(&plaintext).unwrap();
        assert!(!plaintext.cc_request && plaintext.pow.is_none());
        let (mut handshake, hs_keys) =
            service_rendezvous(&mut self.rng, &point.enc, &x, &auth_key).unwrap();
        if is_wrong {
            handshake[63] ^= 1;
        }
        let cookie = Some(plaintext.cookie);
        let mut circuits = self.circuits.iter();
        let found = circuits.find(|(_, circuit)| circuit.cookie == cookie);
        let Some((&circuit, _)) = found else {
            return;
        };
        self.service_layers.insert(circuit, hs_keys.service_layer());
        let rendezvous = plaintext.link_specifiers.rsa_id().unwrap();
        let relay = &self.relays[self.index(&rendezvous)];
        assert_eq!(plaintext.onion_key.as_bytes(), &relay.ntor);
        let mut body = Vec::new();
        Rendezvous2 { handshake }.write(&mut body);
        self.message(circuit, RelayCommand::RENDEZVOUS2, &body);
    }

    /// The service's descriptor.
    pub(super) fn descriptor(&mut self, period: TimePeriod) -> String {
        let points = self.points.iter().map(|keys| IntroPoint {
            link_specifiers: self.hop(keys.relay).link_specifiers,
            onion_key: curve25519::PublicKey::from(self.relays[keys.relay].ntor),
            auth_key: keys.auth.public(),
            enc_key: *keys.enc.public(),
        });
        let plaintext = HsPlaintext {
            intro_auth_required: Vec::new(),
            is_single_onion: false,
            flow_control: None,
            pow_params: None,
            intro_points: points.collect(),
        };
        let builder = HsDescriptorBuilder {
            identity: self.address.key(),
            blinded: &self.identity.blind(period),
            signing: &self.signing,
            revision: self.revision,
            lifetime_minutes: 180,
            plaintext: &plaintext,
            clients: &self.clients,
        };
        builder.encode(self.now.wall, &mut self.rng).unwrap()
    }

    fn index(&self, id: &RsaId) -> usize {
        let mut relays = self.relays.iter();
        relays.position(|relay| relay.rsa == *id).unwrap()
    }

    fn hop(&self, n: usize) -> HopSpec {
        let relay = &self.relays[n];
        let address = SocketAddrV4::new(Ipv4Addr::from(relay.ip.octets()), 5000);
        let (rsa, ed) = (relay.rsa, relay.ed);
        let onion_key = curve25519::PublicKey::from(relay.ntor);
        HopSpec {
            link_specifiers: LinkSpecifiers::new(Some(address), rsa, Some(ed), None),
            key: HopKey::NtorV3 { ed, onion_key },
            congestion: None,
        }
    }
}

/// The point that is asked for, if the service is behind it still.
fn point<'a>(points: &'a [Keys], body: &[u8]) -> Option<&'a Keys> {
    let auth_key = Introduce::read(body).unwrap().auth_key;
    points.iter().find(|point| point.auth.public() == auth_key)
}
