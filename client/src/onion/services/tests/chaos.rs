//! Events in any order: every circuit that was asked for is closed or its end was told, their
//! number is bounded, and when the network is calm again, so are the services.

use std::time::Duration;

use cepa_crypto::ed25519::PublicKey;
use cepa_dir::fetch::Reply;
use cepa_wire::relay::RelayCommand;
use proptest::prelude::*;

use super::world::World;
use crate::names::{CircuitName, Owner, ServiceId};
use crate::onion::action::{Ending, Event, Purpose};
use crate::onion::services::ServiceConfig;

const CIRCUITS_MAX: usize = 6;
/// Circuits of a service: introduction points with those extra and retiring, uploads, rendezvouses.
const PER_SERVICE_MAX: usize = 5 + 6 + 16 + CIRCUITS_MAX;

#[derive(Debug, Clone)]
enum Step {
    Add,
    Remove(usize),
    Build(usize),
    End(usize, u8),
    Reply(usize),
    Junk(usize, u8, Vec<u8>),
    Introduce(usize),
    Stranger(u64),
    Pass(u64),
    Timeout,
    Kill(usize),
    Revive,
    Vote,
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..1000_usize;
    prop_oneof![
        2 => Just(Step::Add),
        1 => at.clone().prop_map(Step::Remove),
        30 => at.clone().prop_map(Step::Build),
        12 => (at.clone(), 0..4_u8).prop_map(|(at, how)| Step::End(at, how)),
        15 => at.clone().prop_map(Step::Reply),
        6 => (at.clone(), 30..45_u8, prop::collection::vec(any::<u8>(), 0..498))
            .prop_map(|(at, command, body)| Step::Junk(at, command, body)),
        10 => at.clone().prop_map(Step::Introduce),
        2 => any::<u64>().prop_map(Step::Stranger),
        8 => (0..600_000_u64).prop_map(Step::Pass),
        8 => Just(Step::Timeout),
        3 => at.prop_map(Step::Kill),
        2 => Just(Step::Revive),
        3 => Just(Step::Vote),
    ]
}

struct Chaos {
    world: World,
    hosted: Vec<(ServiceId, PublicKey)>,
}

fn pick<T: Clone>(from: &[T], at: usize) -> Option<T> {
    from.get(at.checked_rem(from.len())?).cloned()
}

impl Chaos {
    fn new(seed: u8) -> Self {
        let mut world = World::new(12, seed);
        world.is_lazy = true;
        Chaos {
            world,
            hosted: Vec::new(),
        }
    }

    fn names(&self, is_built: bool) -> Vec<CircuitName> {
        let circuits = self.world.circuits.iter();
        let fitting = circuits.filter(|(_, it)| it.is_built == is_built);
        fitting.map(|(name, _)| *name).collect()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Add if self.hosted.len() < 3 => self.add(),
            Step::Remove(at) => self.remove(at),
            Step::Build(at) => {
                if let Some(name) = pick(&self.names(false), at) {
                    self.build(name);
                }
            }
            Step::End(at, how) => self.end(at, how),
            Step::Reply(at) => {
                let waiting: Vec<CircuitName> = self.world.requests.keys().copied().collect();
                pick(&waiting, at)
                    .into_iter()
                    .for_each(|name| self.world.reply(name));
            }
            Step::Junk(at, command, body) => {
                if let Some(name) = pick(&self.names(true), at) {
                    self.world.message(name, RelayCommand(command), &body);
                }
            }
            Step::Introduce(at) => self.introduce(at),
            Step::Stranger(name) => {
                let (owner, number) = (Owner::Services, name.saturating_add(1 << 40));
                self.stranger(CircuitName { owner, number });
            }
            Step::Pass(millis) => self.world.pass(Duration::from_millis(millis)),
            Step::Timeout => self.world.services.handle_timeout(self.world.now),
            Step::Kill(at) => {
                let relay = pick(&self.world.relays, at).unwrap();
                self.world.kill(relay.rsa);
            }
            Step::Revive => self.world.dead.clear(),
            Step::Vote => self.world.vote(),
            Step::Add => {}
        }
        self.world.run();
    }

    fn add(&mut self) {
        let identity = self.world.identity();
        let public = identity.public();
        let mut config = ServiceConfig::new(identity, vec![80]);
        config.circuits_max = CIRCUITS_MAX;
        let id = self.world.add(config);
        self.hosted.push((id, public));
    }

    fn remove(&mut self, at: usize) {
        if let Some((id, _)) = pick(&self.hosted, at) {
            self.hosted.retain(|(other, _)| *other != id);
            self.world.services.remove(id, self.world.now);
        }
    }

    fn build(&mut self, name: CircuitName) {
        let relay = self.world.circuits[&name].relay();
        let is_there = relay.is_none_or(|id| {
            self.world.view.relay(&id).is_some() && !self.world.dead.contains(&id)
        });
        if is_there {
            self.world.build(name);
        } else {
            self.world.end(name, Ending::LastHop);
        }
    }

    fn end(&mut self, at: usize, how: u8) {
        let names: Vec<CircuitName> = self.world.circuits.keys().copied().collect();
        let endings = [
            Ending::NoPath,
            Ending::LastHop,
            Ending::Timeout,
            Ending::Closed,
        ];
        if let Some(name) = pick(&names, at) {
            self.world.end(name, endings[usize::from(how)]);
        }
    }

    fn introduce(&mut self, at: usize) {
        let Some((_, identity)) = pick(&self.hosted, at) else {
            return;
        };
        let Some(plaintext) = self.world.fetch(&identity, None) else {
            return;
        };
        let point = pick(&plaintext.intro_points, at).unwrap();
        if let Some(circuit) = self.world.intro_circuit(&point.auth_key) {
            let (_, body) = self.world.introduction(&identity, &point, |_| ());
            self.world.message(circuit, RelayCommand::INTRODUCE2, &body);
        }
    }

    fn stranger(&mut self, circuit: CircuitName) {
        let reply = Reply::failed();
        self.world.event(Event::Reply { circuit, reply });
        let ending = Ending::Closed;
        self.world.event(Event::Ended { circuit, ending });
        self.world.message(circuit, RelayCommand::INTRODUCE2, &[]);
        assert_eq!(self.world.services.service_of(circuit), None);
    }

    fn check(&self) {
        let bound = self.hosted.len() * PER_SERVICE_MAX;
        let count = self.world.circuits.len();
        assert!(count <= bound, "{count} circuits");
        for (name, circuit) in &self.world.circuits {
            let is_joined = circuit.layer.is_some();
            assert_eq!(self.world.services.service_of(*name).is_some(), is_joined);
            assert!(!is_joined || circuit.purpose == Purpose::ServiceRendezvous);
        }
    }

    /// The network works again: all services are found.
    fn calm(&mut self) {
        self.world.is_lazy = false;
        self.world.dead.clear();
        for name in self.names(false) {
            if self.world.circuits.contains_key(&name) {
                self.build(name);
                self.world.run();
            }
        }
        let waiting: Vec<CircuitName> = self.world.requests.keys().copied().collect();
        for name in waiting {
            if self.world.requests.contains_key(&name) {
                self.world.reply(name);
                self.world.run();
            }
        }
        self.world.vote();
        for _ in 0..3 {
            self.world.run_for(Duration::from_secs(400));
            self.world.vote();
            self.world.run();
        }
        for (_, identity) in &self.hosted {
            let points = self
                .world
                .fetch(identity, None)
                .expect("found")
                .intro_points;
            assert_eq!(points.len(), 3);
            let stands = |key| self.world.intro_circuit(key).is_some();
            assert!(points.iter().all(|point| stands(&point.auth_key)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_circuit_is_accounted_for(
        seed: u8,
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let mut chaos = Chaos::new(seed);
        chaos.step(Step::Vote);
        chaos.step(Step::Add);
        for step in steps {
            chaos.step(step);
            chaos.check();
        }
        chaos.calm();
        for (id, _) in std::mem::take(&mut chaos.hosted) {
            chaos.world.services.remove(id, chaos.world.now);
        }
        chaos.world.run();
        prop_assert!(chaos.world.circuits.is_empty());
        prop_assert_eq!(chaos.world.opened, chaos.world.ended);
        prop_assert_eq!(chaos.world.services.poll_timeout(), None);
    }
}
