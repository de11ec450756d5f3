//! The circuits of hosted services: their names, and whose each is (rend-spec-v3 1.2).
//!
//! ```text
//! open ─▶ owned ─┬─ close ─▶ (forgotten)
//!                └─ ended ─▶ (forgotten)
//! ```
//!
//! Invariants: a name is given once. What is opened is owned until it is closed or its end is
//! told, so that no circuit is ever without an owner; nothing is asked of a circuit that is not
//! owned.

use std::collections::{BTreeMap, VecDeque};

use cepa_crypto::Rng;
use cepa_crypto::layer::HopLayer;
use cepa_dir::hsring::HsRing;
use cepa_dir::{DirRequest, NetworkView};
use cepa_wire::Now;
use cepa_wire::relay::RelayCommand;

use crate::names::{CircuitName, Owner, ServiceId};
use crate::onion::action::{Action, LastHop, Purpose};
use crate::onion::circuits::RENDEZVOUS_MAX;
use crate::select::rules::Permits;

/// ServiceCircuits of uploads at once, for all services together.
const UPLOADS_MAX: usize = 64;

/// Which machine of a service a circuit belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Its introduction points.
    Intro,
    /// Its uploads.
    Upload,
    /// Its rendezvous.
    Rendezvous,
}

/// All circuits of all services, and what is to be done with them.
#[derive(Debug, Default)]
pub(super) struct ServiceCircuits {
    owners: BTreeMap<CircuitName, (ServiceId, Part)>,
    actions: VecDeque<Action>,
    named: u64,
    uploads: usize,
    rendezvouses: usize,
    /// Nothing is uploaded (`PublishHidServDescriptors 0`).
    pub(super) is_silent: bool,
}

impl ServiceCircuits {
    /// Whether another upload may begin.
    pub(super) fn has_room_for_upload(&self) -> bool {
        !self.is_silent && self.uploads < UPLOADS_MAX
    }

    /// Whether another visitor may be met, of whatever service.
    pub(super) fn has_room_for_rendezvous(&self) -> bool {
        self.rendezvouses < RENDEZVOUS_MAX
    }

    /// Whose a circuit is.
    pub(super) fn owner(&self, circuit: CircuitName) -> Option<(ServiceId, Part)> {
        self.owners.get(&circuit).copied()
    }

    /// Its end was told: it is nobody's any more.
    pub(super) fn ended(&mut self, circuit: CircuitName) -> Option<(ServiceId, Part)> {
        let owner = self.owners.remove(&circuit)?;
        if let Some(count) = self.count(owner.1) {
            *count = count.saturating_sub(1);
        }
        Some(owner)
    }

    /// Closes all circuits of a service.
    pub(super) fn close_all(&mut self, service: ServiceId) {
        let of_service = |(name, (owner, _)): (&CircuitName, &(ServiceId, Part))| {
            (*owner == service).then_some(*name)
        };
        let names: Vec<CircuitName> = self.owners.iter().filter_map(of_service).collect();
        for circuit in names {
            self.close(circuit);
        }
    }

    /// The next action.
    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// How many there are of a kind that is bounded.
    fn count(&mut self, part: Part) -> Option<&mut usize> {
        match part {
            Part::Upload => Some(&mut self.uploads),
            Part::Rendezvous => Some(&mut self.rendezvouses),
            Part::Intro => None,
        }
    }

    fn close(&mut self, circuit: CircuitName) {
        if self.ended(circuit).is_some() {
            self.actions.push_back(Action::Close { circuit });
        }
    }
}

/// What services are to know of the network.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) view: NetworkView,
    /// What the operator's rules say to its relays.
    pub(super) permits: Permits,
    pub(super) rings: [HsRing; 2],
}

/// What a machine of a service works with.
#[derive(Debug)]
pub(super) struct Context<'a> {
    /// The service.
    pub(super) service: ServiceId,
    /// The time.
    pub(super) now: Now,
    /// Randomness.
    pub(super) rng: &'a mut Rng,
    /// Where circuits are asked for.
    pub(super) circuits: &'a mut ServiceCircuits,
}

impl Context<'_> {
    /// Asks for a circuit.
    pub(super) fn open(&mut self, part: Part, last: LastHop) -> CircuitName {
        self.circuits.named += 1;
        let circuit = CircuitName {
            owner: Owner::Services,
            number: self.circuits.named,
        };
        self.circuits.owners.insert(circuit, (self.service, part));
        if let Some(count) = self.circuits.count(part) {
            *count += 1;
        }
        let purpose = match part {
            Part::Intro => Purpose::IntroPoint,
            Part::Upload => Purpose::Upload,
            Part::Rendezvous => Purpose::ServiceRendezvous,
        };
        self.circuits.actions.push_back(Action::Open {
            circuit,
            purpose,
            last,
        });
        circuit
    }

    /// Sends a message to the last hop.
    pub(super) fn send(&mut self, circuit: CircuitName, command: RelayCommand, body: Vec<u8>) {
        self.circuits.actions.push_back(Action::Send {
            circuit,
            command,
            body,
        });
    }

    /// Adds the visitor as a hop.
    pub(super) fn join(&mut self, circuit: CircuitName, layer: HopLayer, congestion: Option<u8>) {
        self.circuits.actions.push_back(Action::Join {
            circuit,
            layer: Box::new(layer),
            serves: true,
            congestion,
        });
    }

    /// Uploads to the last hop.
    pub(super) fn upload(&mut self, circuit: CircuitName, text: &str) {
        self.circuits.actions.push_back(Action::Request {
            circuit,
            request: DirRequest::PostHsDescriptor,
            body: text.as_bytes().to_vec(),
        });
    }

    /// Closes a circuit.
    pub(super) fn close(&mut self, circuit: CircuitName) {
        self.circuits.close(circuit);
    }
}
