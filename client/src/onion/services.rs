//! Hosts onion services, without circuits of its own (rend-spec-v3 1.2, 2.2, 3, 4).
//!
//! ```text
//!             ┌─ IntroPoints ── standing points ──▶ Publisher ── Upload ──▶ Uploads ─▶ HSDirs
//! a service ──┤       └─ INTRODUCE2 ─▶ Introductions ─ whom to meet ─┐
//!             └─ Rendezvouses ◀──────────────────────────────────────────┘ ─▶ inbound streams
//! ```
//!
//! Invariants: each circuit that is asked for belongs to one service until its end is told or it
//! is closed; a service that is removed leaves no circuit; nothing is begun before there is a
//! consensus.

mod circuits;
mod config;
mod descriptor;
mod intro_points;
mod introductions;
mod point;
mod publisher;
mod rendezvous;
mod replays;
mod service;
mod uploads;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use cepa_crypto::Rng;
use cepa_crypto::onion::OnionAddress;
use cepa_dir::{NetworkView, hsring};
use cepa_wire::Now;

use super::action::{Action, Event};
use crate::names::CircuitName;
use crate::select::rules::Permits;
use circuits::{Context, Network, Part, ServiceCircuits};
use service::Service;

pub use crate::names::ServiceId;
pub use crate::status::{
    Counts, DescriptorStatus, HsDirStatus, IntroDrop, IntroPointState, IntroPointStatus,
    ServiceStatus,
};
pub use config::{
    CIRCUITS_MAX_DEFAULT, CLIENTS_MAX, DosLimits, INTRO_POINTS_DEFAULT, INTRO_POINTS_MAX,
    MASTERS_MAX, ServiceConfig, ServiceOutcome,
};
pub use descriptor::UploadId;
pub use publisher::{Publisher, Upload};

/// All services of a client.
#[derive(Debug)]
pub struct Services {
    rng: Rng,
    is_testing: bool,
    network: Option<Box<Network>>,
    services: BTreeMap<ServiceId, Service>,
    circuits: ServiceCircuits,
    /// Services whose uploads wait for others' to end.
    waiting: BTreeSet<ServiceId>,
    outcomes: VecDeque<ServiceOutcome>,
    added: u64,
}

impl Services {
    /// None yet. `is_testing`: rendezvous points may have private addresses (`TestingTorNetwork`).
    pub fn new(rng: Rng, is_testing: bool) -> Self {
        Services {
            rng,
            is_testing,
            network: None,
            services: BTreeMap::new(),
            circuits: ServiceCircuits::default(),
            waiting: BTreeSet::new(),
            outcomes: VecDeque::new(),
            added: 0,
        }
    }

    /// Uploads no descriptors from now on (`PublishHidServDescriptors 0`), or all that wait.
    pub fn publish_nothing(&mut self, is_silent: bool, now: Now) {
        self.circuits.is_silent = is_silent;
        self.fill_room(now);
    }

    /// Hosts a service from now on.
    pub fn add(&mut self, config: ServiceConfig, now: Now) -> ServiceId {
        self.added += 1;
        let id = ServiceId(self.added);
        let service = Service::new(config.bounded(), self.is_testing);
        self.services.insert(id, service);
        self.with(id, now, |service, network, ctx| {
            if let Some(network) = network {
                service.handle_network(network, ctx);
            }
            true
        });
        id
    }

    /// Hosts a service otherwise from now on: with other ports, clients, limits or introduction
    /// points. What stands stays. The identity is the same as before: an address is for ever.
    pub fn change(&mut self, id: ServiceId, config: ServiceConfig, now: Now) {
        self.with(id, now, |service, _, ctx| {
            service.change(config.bounded(), ctx);
            true
        });
    }

    /// Hosts it no longer: all of its circuits are closed.
    pub fn remove(&mut self, id: ServiceId, now: Now) {
        self.services.remove(&id);
        self.waiting.remove(&id);
        self.circuits.close_all(id);
        self.fill_room(now);
        self.outcomes.retain(|outcome| match outcome {
            ServiceOutcome::Published { service } => *service != id,
        });
    }

    /// Takes what became of a circuit, or of the network.
    pub fn handle_event(&mut self, event: Event<'_>, now: Now) {
        match event {
            Event::Network(view, permits) => self.handle_network(view, permits, now),
            Event::Built { circuit, kh, .. } => {
                self.with_owner(circuit, now, |service, part, ctx| {
                    service.handle_built(circuit, part, kh, ctx);
                    true
                });
            }
            Event::Message {
                circuit,
                command,
                body,
            } => self.with_owner(circuit, now, |service, part, ctx| {
                part == Part::Intro && service.handle_message(circuit, command, body, ctx)
            }),
            Event::Reply { circuit, reply } => {
                self.with_owner(circuit, now, |service, _, ctx| {
                    service.handle_reply(circuit, reply.status, ctx);
                    true
                });
            }
            Event::Ended { circuit, ending } => {
                let Some((id, part)) = self.circuits.ended(circuit) else {
                    return;
                };
                self.with(id, now, |service, _, ctx| {
                    service.handle_ended(circuit, part, ending, ctx);
                    true
                });
            }
        }
        self.fill_room(now);
    }

    fn handle_network(&mut self, view: &NetworkView, permits: &Permits, now: Now) {
        self.network = Some(Box::new(Network {
            view: view.clone(),
            permits: permits.clone(),
            rings: hsring::store_rings(view),
        }));
        self.for_all(now, |service, network, ctx| {
            if let Some(network) = network {
                service.handle_network(network, ctx);
            }
            true
        });
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.for_all(now, |_, _, _| true);
        self.fill_room(now);
    }

    /// When [`Services::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.network.as_ref()?;
        self.services
            .values()
            .filter_map(Service::poll_timeout)
            .min()
    }

    /// The next thing that the services ask of the client.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.circuits.poll_action()
    }

    /// The next thing that has happened to a service.
    pub fn poll_outcome(&mut self) -> Option<ServiceOutcome> {
        self.outcomes.pop_front()
    }

    /// The service that serves the streams of a joined circuit.
    pub fn service_of(&self, circuit: CircuitName) -> Option<ServiceId> {
        let (id, _) = self.circuits.owner(circuit)?;
        let service = self.services.get(&id)?;
        service.is_joined(circuit).then_some(id)
    }

    /// The address of the service that a circuit is for, until it is closed.
    pub(crate) fn address_of(&self, circuit: CircuitName) -> Option<OnionAddress> {
        let (id, _) = self.circuits.owner(circuit)?;
        OnionAddress::new(&self.config(id)?.identity.public()).ok()
    }

    /// The visitor at the end of a joined circuit has opened a stream: it may stay.
    pub fn handle_stream(&mut self, circuit: CircuitName) {
        if let Some((id, _)) = self.circuits.owner(circuit)
            && let Some(service) = self.services.get_mut(&id)
        {
            service.used(circuit);
        }
    }

    /// What was wanted of a service: its ports and limits.
    pub fn config(&self, id: ServiceId) -> Option<&ServiceConfig> {
        self.services.get(&id).map(|service| &service.config)
    }

    /// The text of a service's descriptor of the first of its periods, once there is one.
    pub fn descriptor(&self, address: &OnionAddress) -> Option<&str> {
        let mut services = self.services.values();
        let is_it = |one: &&Service| one.config.identity.public() == *address.key();
        services.find(is_it)?.descriptor()
    }

    /// How all services stand, in the order in which they were added.
    pub fn statuses(&self) -> Vec<ServiceStatus> {
        let services = self.services.iter();
        services.map(|(id, service)| service.status(*id)).collect()
    }

    fn for_all(
        &mut self,
        now: Now,
        mut act: impl FnMut(&mut Service, Option<&Network>, &mut Context<'_>) -> bool,
    ) {
        let ids: Vec<ServiceId> = self.services.keys().copied().collect();
        for id in ids {
            self.with(id, now, &mut act);
        }
    }

    fn with_owner(
        &mut self,
        circuit: CircuitName,
        now: Now,
        act: impl FnOnce(&mut Service, Part, &mut Context<'_>) -> bool,
    ) {
        if let Some((id, part)) = self.circuits.owner(circuit) {
            self.with(id, now, |service, _, ctx| act(service, part, ctx));
        }
    }

    /// Lets a service act, and brings it up to date if it says so.
    fn with(
        &mut self,
        id: ServiceId,
        now: Now,
        act: impl FnOnce(&mut Service, Option<&Network>, &mut Context<'_>) -> bool,
    ) {
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let mut ctx = Context {
            service: id,
            now,
            rng: &mut self.rng,
            circuits: &mut self.circuits,
        };
        let network = self.network.as_deref();
        let is_changed = act(service, network, &mut ctx);
        let (true, Some(network)) = (is_changed, network) else {
            return;
        };
        let advance = service.advance(network, &mut ctx);
        if advance.is_published {
            let published = ServiceOutcome::Published { service: id };
            self.outcomes.push_back(published);
        }
        if advance.waits_for_room {
            self.waiting.insert(id);
        }
    }

    /// Lets uploads begin that waited for others to end.
    fn fill_room(&mut self, now: Now) {
        while self.circuits.has_room_for_upload()
            && let Some(id) = self.waiting.pop_first()
        {
            self.with(id, now, |_, _, _| true);
        }
    }
}

#[cfg(test)]
mod tests;
