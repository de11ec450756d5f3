//! Hosts onion services, without circuits of its own (rend-spec-v3 1.2, 2.2, 3, 4).
//!
//! ```text
//!             ┌─ IntroPoints ── standing points ──▶ Publisher ── Upload ──▶ Uploads ─▶ HSDirs
//! a service ──┤       └─ INTRODUCE2 ─▶ Introductions ─ whom to meet ─┐
//!             └─ Meetings ◀──────────────────────────────────────────┘ ─▶ inbound streams
//! ```
//!
//! Invariants: each circuit that is asked for belongs to one service until its end is told or it
//! is closed; a service that is removed leaves no circuit.

mod config;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use cepa_crypto::Rng;
use cepa_wire::Now;

use super::action::{Action, CircuitName, Event};

pub use config::{
    CIRCUITS_MAX_DEFAULT, CLIENTS_MAX, Counts, DescriptorStatus, DosLimits, HsDirStatus,
    INTRO_POINTS_DEFAULT, INTRO_POINTS_MAX, IntroDrop, IntroPointState, IntroPointStatus,
    ServiceConfig, ServiceId, ServiceOutcome, ServiceStatus,
};

/// A service and its machines.
#[derive(Debug)]
struct Service {
    config: ServiceConfig,
}

/// All services of a client.
#[derive(Debug)]
pub struct Services {
    rng: Rng,
    is_testing: bool,
    services: BTreeMap<ServiceId, Service>,
    /// Circuits that carry inbound streams, and to which service.
    joined: BTreeMap<CircuitName, ServiceId>,
    actions: VecDeque<Action>,
    outcomes: VecDeque<ServiceOutcome>,
    names: u64,
}

impl Services {
    /// None yet. `is_testing`: the network's time periods follow its voting interval
    /// (`TestingTorNetwork`).
    pub fn new(rng: Rng, is_testing: bool) -> Self {
        Services {
            rng,
            is_testing,
            services: BTreeMap::new(),
            joined: BTreeMap::new(),
            actions: VecDeque::new(),
            outcomes: VecDeque::new(),
            names: 0,
        }
    }

    /// Hosts a service from now on.
    pub fn add(&mut self, config: ServiceConfig, _now: Now) -> ServiceId {
        self.names += 1;
        let id = ServiceId(self.names);
        let config = config.bounded();
        self.services.insert(id, Service { config });
        id
    }

    /// Hosts it no longer: all of its circuits are closed.
    pub fn remove(&mut self, id: ServiceId, _now: Now) {
        self.services.remove(&id);
        self.joined.retain(|_, service| *service != id);
    }

    /// Takes what became of a circuit, or of the network.
    pub fn handle_event(&mut self, _event: Event<'_>, _now: Now) {}

    /// Does what is due.
    pub fn handle_timeout(&mut self, _now: Now) {}

    /// When [`Services::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// What is to be done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What happened to a service.
    pub fn poll_outcome(&mut self) -> Option<ServiceOutcome> {
        self.outcomes.pop_front()
    }

    /// The service that serves the streams of a joined circuit.
    pub fn service_of(&self, circuit: CircuitName) -> Option<ServiceId> {
        self.joined.get(&circuit).copied()
    }

    /// What was wanted of a service: its ports and limits.
    pub fn config(&self, id: ServiceId) -> Option<&ServiceConfig> {
        self.services.get(&id).map(|service| &service.config)
    }

    /// How all services stand, in the order in which they were added.
    pub fn statuses(&self) -> Vec<ServiceStatus> {
        self.services
            .iter()
            .map(|(id, service)| ServiceStatus {
                service: *id,
                identity: service.config.identity.public(),
                is_published: false,
                descriptors: Vec::new(),
                intro_points: Vec::new(),
                counts: Counts::default(),
            })
            .collect()
    }
}
