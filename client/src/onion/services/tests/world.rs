//! Relays, directories and visitors of hosted services.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cepa_circuit::handshake::HopSpec;
use cepa_crypto::ed25519::{self, ExpandedKeypair, Keypair, PublicKey};
use cepa_crypto::hs_ntor::{ClientState, HsKeys};
use cepa_crypto::layer::HopLayer;
use cepa_crypto::{Rng, RsaId, curve25519, onion};
use cepa_dir::fetch::Reply;
use cepa_dir::{DirRequest, NetworkView, hsring};
use cepa_netdoc::hs_descriptor::{HsDescriptor, HsPlaintext, IntroPoint};
use cepa_netdoc::routerstatus::Flags;
use cepa_wire::Now;
use cepa_wire::establish_intro::{DosParams, EstablishIntro, IntroEstablished};
use cepa_wire::intro_plaintext::IntroPlaintext;
use cepa_wire::introduce::Introduce;
use cepa_wire::linkspec::LinkSpecifiers;
use cepa_wire::relay::RelayCommand;
use cepa_wire::rendezvous::{Rendezvous1, Rendezvous2};

use crate::drawn::{Documents, DrawnRelay, start};
use crate::names::{CircuitName, ServiceId};
use crate::onion::action::{Action, Ending, Event, LastHop, Purpose};
use crate::onion::services::{ServiceConfig, ServiceOutcome, Services};
use crate::select::paths;
use crate::select::rules::Permits;

/// Votings of the test's network, in seconds; a period has 24 of them.
pub(super) const VOTING_SECONDS: u64 = 20;

/// What a relay knows of a circuit that ends at it.
pub(super) struct Circuit {
    pub(super) purpose: Purpose,
    pub(super) last: LastHop,
    pub(super) kh: [u8; 20],
    pub(super) is_built: bool,
    /// The key that an introduction point was given.
    pub(super) auth_key: Option<PublicKey>,
    pub(super) dos: Option<DosParams>,
    pub(super) rendezvous1: Option<Vec<u8>>,
    pub(super) layer: Option<Box<HopLayer>>,
    /// Cells of a SENDME, where congestion control was agreed on.
    pub(super) congestion: Option<u8>,
}

impl Circuit {
    pub(super) fn relay(&self) -> Option<RsaId> {
        match &self.last {
            LastHop::Listed(id) => Some(*id),
            _ => None,
        }
    }
}

pub(super) struct World {
    pub(super) now: Now,
    pub(super) rng: Rng,
    pub(super) services: Services,
    pub(super) relays: Vec<DrawnRelay>,
    pub(super) view: NetworkView,
    /// What the operator's rules say to the relays.
    pub(super) permits: Permits,
    /// Relays that circuits do not reach.
    pub(super) dead: BTreeSet<RsaId>,
    /// Whether circuits are built at all.
    pub(super) is_online: bool,
    /// Whether circuits and requests wait for the test to go on.
    pub(super) is_lazy: bool,
    /// Uploads that wait for an answer.
    pub(super) requests: BTreeMap<CircuitName, Vec<u8>>,
    pub(super) circuits: BTreeMap<CircuitName, Circuit>,
    /// What each directory has, by blinded key.
    pub(super) stores: BTreeMap<RsaId, BTreeMap<PublicKey, HsDescriptor>>,
    pub(super) refused: u64,
    pub(super) opened: u64,
    pub(super) ended: u64,
    pub(super) outcomes: Vec<ServiceOutcome>,
    names: BTreeSet<CircuitName>,
}

/// A visitor that has introduced itself.
pub(super) struct Visitor {
    pub(super) cookie: [u8; 20],
    state: ClientState,
}

impl Visitor {
    /// The visitor's layer, from what the service sent to the rendezvous point.
    pub(super) fn meet(self, rendezvous1: &[u8]) -> HsKeys {
        let message = Rendezvous1::read(rendezvous1).unwrap();
        assert_eq!(message.cookie, self.cookie);
        let handshake = Rendezvous2::read(message.handshake).unwrap().handshake;
        self.state.finish(&handshake).unwrap()
    }
}

impl World {
    pub(super) fn new(relays: u8, seed: u8) -> Self {
        let mut rng = Rng::from_seed([seed; 32]);
        let draw = |n| {
            let mut relay = DrawnRelay::new(n, &mut rng);
            relay.flags = relay.flags | Flags::HS_DIR;
            relay
        };
        let relays: Vec<DrawnRelay> = (1..=relays).map(draw).collect();
        let now = start();
        let view = view(&relays, now);
        World {
            now,
            services: Services::new(rng.fork(), true),
            rng,
            relays,
            view,
            permits: Permits::default(),
            dead: BTreeSet::new(),
            is_online: true,
            is_lazy: false,
            requests: BTreeMap::new(),
            circuits: BTreeMap::new(),
            stores: BTreeMap::new(),
            refused: 0,
            opened: 0,
            ended: 0,
            outcomes: Vec::new(),
            names: BTreeSet::new(),
        }
    }

    pub(super) fn identity(&mut self) -> ExpandedKeypair {
        Keypair::generate(&mut self.rng).expand()
    }

    pub(super) fn add(&mut self, config: ServiceConfig) -> ServiceId {
        self.services.add(config, self.now)
    }

    /// A service as usual, published.
    pub(super) fn published(relays: u8, seed: u8) -> (Self, ServiceId, PublicKey) {
        let mut world = World::new(relays, seed);
        let identity = world.identity();
        let public = identity.public();
        let id = world.add(ServiceConfig::new(identity, vec![80]));
        world.tell_network();
        world.run();
        assert_eq!(
            world.outcomes,
            [ServiceOutcome::Published { service: id }],
            "published without any time passing"
        );
        (world, id, public)
    }

    pub(super) fn tell_network(&mut self) {
        self.services
            .handle_event(Event::Network(&self.view, &self.permits), self.now);
    }

    /// A consensus of this moment.
    pub(super) fn vote(&mut self) {
        self.view = view(&self.relays, self.now);
        self.tell_network();
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.wall += time;
    }

    /// Lets time pass, doing what is due at its time.
    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now.mono + time;
        for _ in 0..100_000 {
            self.run();
            let due = self.services.poll_timeout().filter(|at| *at < end);
            let at = due.unwrap_or(end).max(self.now.mono);
            self.pass(at - self.now.mono);
            self.services.handle_timeout(self.now);
            if due.is_none() {
                self.run();
                return;
            }
        }
        panic!("the services are never done");
    }

    /// Carries actions out until there is none, in no time.
    pub(super) fn run(&mut self) {
        while let Some(action) = self.services.poll_action() {
            self.act(action);
        }
        self.outcomes
            .extend(std::iter::from_fn(|| self.services.poll_outcome()));
    }

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Open {
                circuit,
                purpose,
                last,
            } => self.open(circuit, purpose, last),
            Action::Send {
                circuit,
                command,
                body,
            } => self.take(circuit, command, body),
            Action::Join {
                circuit,
                layer,
                serves,
                congestion,
            } => {
                assert!(serves, "a service's circuit");
                let circuit = self.circuits.get_mut(&circuit).unwrap();
                assert_eq!(circuit.purpose, Purpose::ServiceRendezvous);
                circuit.layer = Some(layer);
                circuit.congestion = congestion;
            }
            Action::Request {
                circuit,
                request,
                body,
            } => {
                assert_eq!(request, DirRequest::PostHsDescriptor);
                assert!(self.circuits[&circuit].is_built);
                self.requests.insert(circuit, body);
                if !self.is_lazy {
                    self.reply(circuit);
                }
            }
            Action::Close { circuit } => {
                self.requests.remove(&circuit);
                self.circuits.remove(&circuit).expect("it is open");
                self.ended += 1;
            }
        }
    }

    /// The directory answers.
    pub(super) fn reply(&mut self, circuit: CircuitName) {
        let body = self.requests.remove(&circuit).unwrap();
        let reply = self.store(circuit, &body);
        self.event(Event::Reply { circuit, reply });
    }

    pub(super) fn event(&mut self, event: Event<'_>) {
        self.services.handle_event(event, self.now);
    }

    fn open(&mut self, name: CircuitName, purpose: Purpose, last: LastHop) {
        assert!(self.names.insert(name), "a name is used once");
        self.opened += 1;
        let circuit = Circuit {
            purpose,
            last,
            kh: self.rng.array(),
            is_built: false,
            auth_key: None,
            dos: None,
            rendezvous1: None,
            layer: None,
            congestion: None,
        };
        let is_dead = circuit.relay().is_some_and(|id| self.dead.contains(&id));
        self.circuits.insert(name, circuit);
        if self.is_lazy {
            return;
        }
        self.go_on(name, is_dead);
    }

    fn go_on(&mut self, name: CircuitName, is_dead: bool) {
        if !self.is_online {
            self.end(name, Ending::NoPath);
        } else if is_dead {
            self.end(name, Ending::LastHop);
        } else {
            self.build(name);
        }
    }

    pub(super) fn build(&mut self, name: CircuitName) {
        let circuit = self.circuits.get_mut(&name).unwrap();
        circuit.is_built = true;
        let last = match &circuit.last {
            LastHop::Listed(id) => paths::hop_spec(self.view.relay(id).unwrap(), false),
            LastHop::Told(spec) => HopSpec::clone(spec),
            LastHop::Any(_) => panic!("services choose their points"),
        };
        let event = Event::Built {
            circuit: name,
            last: &last,
            kh: &circuit.kh.clone(),
        };
        self.services.handle_event(event, self.now);
    }

    pub(super) fn end(&mut self, circuit: CircuitName, ending: Ending) {
        if self.circuits.remove(&circuit).is_some() {
            self.requests.remove(&circuit);
            self.ended += 1;
            self.event(Event::Ended { circuit, ending });
        }
    }

    /// Kills a relay: its circuits end, what it stored is gone.
    pub(super) fn kill(&mut self, relay: RsaId) {
        self.dead.insert(relay);
        self.stores.remove(&relay);
        let at =
            |(name, it): (&CircuitName, &Circuit)| (it.relay() == Some(relay)).then_some(*name);
        let names: Vec<CircuitName> = self.circuits.iter().filter_map(at).collect();
        for name in names {
            self.end(name, Ending::Closed);
            self.run();
        }
    }

    fn take(&mut self, name: CircuitName, command: RelayCommand, body: Vec<u8>) {
        let circuit = self.circuits.get_mut(&name).unwrap();
        assert!(circuit.is_built);
        match command {
            RelayCommand::ESTABLISH_INTRO => {
                let message = EstablishIntro::read(&body).unwrap();
                message.verify(&circuit.kh).unwrap();
                circuit.auth_key = Some(message.auth_key);
                circuit.dos = message.dos;
                let mut body = Vec::new();
                IntroEstablished.write(&mut body);
                self.message(name, RelayCommand::INTRO_ESTABLISHED, &body);
            }
            RelayCommand::RENDEZVOUS1 => circuit.rendezvous1 = Some(body),
            other => panic!("a service sends {other:?}"),
        }
    }

    pub(super) fn message(&mut self, circuit: CircuitName, command: RelayCommand, body: &[u8]) {
        self.event(Event::Message {
            circuit,
            command,
            body,
        });
    }

    /// As a directory does: the revision must be higher than what it has.
    fn store(&mut self, name: CircuitName, body: &[u8]) -> Reply {
        let relay = self.circuits[&name].relay().unwrap();
        let text = std::str::from_utf8(body).unwrap();
        let descriptor = HsDescriptor::parse(text, self.now.wall).unwrap();
        let store = self.stores.entry(relay).or_default();
        let before = store.get(&descriptor.blinded_key);
        let is_newer = before.is_none_or(|before| before.revision < descriptor.revision);
        self.refused += u64::from(!is_newer);
        if is_newer {
            store.insert(descriptor.blinded_key, descriptor);
        }
        Reply {
            status: if is_newer { 200 } else { 400 },
            body: Vec::new(),
        }
    }

    /// The descriptors that a visitor with this view finds at the directories of its ring.
    pub(super) fn found(&self, view: &NetworkView, identity: &PublicKey) -> Vec<HsDescriptor> {
        let ring = hsring::fetch_ring(view);
        let blinded = onion::blind(identity, ring.period()).unwrap();
        let directories = ring.responsible(&blinded);
        let stored = directories.iter().filter_map(|id| self.stores.get(id));
        stored.filter_map(|it| it.get(&blinded).cloned()).collect()
    }

    /// What a visitor reads, if it finds anything.
    pub(super) fn fetch(
        &self,
        identity: &PublicKey,
        key: Option<&curve25519::SecretKey>,
    ) -> Option<HsPlaintext> {
        let period = hsring::fetch_ring(&self.view).period();
        let descriptor = self.found(&self.view, identity).into_iter().next()?;
        descriptor
            .decrypt(identity, period, key, self.now.wall)
            .ok()
    }

    /// The introduction circuit whose point has a key.
    pub(super) fn intro_circuit(&self, auth_key: &PublicKey) -> Option<CircuitName> {
        let mut circuits = self.circuits.iter();
        let found = circuits.find(|(_, it)| it.auth_key == Some(*auth_key));
        found.map(|(name, _)| *name)
    }

    /// A visitor's INTRODUCE1 for a point, changed by the test before it is encrypted.
    pub(super) fn introduction(
        &mut self,
        identity: &PublicKey,
        point: &IntroPoint,
        change: impl FnOnce(&mut IntroPlaintext),
    ) -> (Visitor, Vec<u8>) {
        let period = hsring::fetch_ring(&self.view).period();
        let blinded = onion::blind(identity, period).unwrap();
        let subcredential = onion::subcredential(identity, &blinded);
        let keys = ClientState::begin(
            &mut self.rng,
            &point.enc_key,
            &point.auth_key,
            &subcredential,
        );
        let (state, keys) = keys.unwrap();
        let meeting_point = self.view.relays().last().unwrap();
        let mut plaintext = IntroPlaintext {
            cookie: self.rng.array(),
            cc_request: false,
            pow: None,
            subprotocols: Vec::new(),
            onion_key: meeting_point.ntor_key,
            link_specifiers: LinkSpecifiers::new(
                Some(meeting_point.or_addr),
                meeting_point.rsa_id,
                meeting_point.ed25519_id,
                None,
            ),
        };
        change(&mut plaintext);
        let body = Introduce::make(&point.auth_key, state.public(), &keys, &plaintext).unwrap();
        let cookie = plaintext.cookie;
        (Visitor { cookie, state }, body)
    }

    /// Hands an INTRODUCE2 to the service.
    pub(super) fn introduce(&mut self, auth_key: &ed25519::PublicKey, body: &[u8]) {
        let circuit = self.intro_circuit(auth_key).expect("the point stands");
        self.message(circuit, RelayCommand::INTRODUCE2, body);
    }

    /// Circuits for a purpose.
    pub(super) fn circuits_for(&self, purpose: Purpose) -> Vec<CircuitName> {
        let circuits = self.circuits.iter();
        let fitting = circuits.filter(|(_, it)| it.purpose == purpose);
        fitting.map(|(name, _)| *name).collect()
    }

    /// Circuits that stand for visits, by the cookie.
    pub(super) fn rendezvous(&self, cookie: &[u8; 20]) -> Option<CircuitName> {
        let met = |it: &Circuit| {
            it.rendezvous1
                .as_ref()
                .is_some_and(|b| b.starts_with(cookie))
        };
        let mut circuits = self.circuits.iter();
        circuits.find(|(_, it)| met(it)).map(|(name, _)| *name)
    }
}

/// The relays that are Running, in a consensus of a testing network.
pub(super) fn view(relays: &[DrawnRelay], now: Now) -> NetworkView {
    let relays: Vec<DrawnRelay> = relays
        .iter()
        .filter(|relay| relay.flags.contains(Flags::RUNNING))
        .cloned()
        .collect();
    Documents::new(&relays, "", now).view().testing(true)
}
