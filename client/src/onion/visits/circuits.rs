//! The circuits of visits: their names, whose they are, and what is asked of them.
//!
//! ```text
//! open ─▶ named ─┬─ close ─▶ gone (Action::Close)
//!                └─ ended ─▶ gone (the end was told)
//! ```
//!
//! Invariants: a circuit that was opened is named here until it is closed or its end is told, so
//! that none is forgotten; of a circuit that is not named here nothing is believed or asked.

use std::collections::{BTreeMap, VecDeque};

use cepa_crypto::layer::HopLayer;
use cepa_dir::DirRequest;
use cepa_wire::relay::RelayCommand;

use crate::names::{CircuitName, Owner, VisitId};
use crate::onion::action::{Action, LastHop, Purpose};

/// What a circuit is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// To fetch the descriptor of the service with this identity.
    Fetch([u8; 32]),
    /// The rendezvous circuit of a visit.
    Rendezvous(VisitId),
    /// The introduction circuit of a visit.
    Introduction(VisitId),
}

/// All circuits of all visits, and what is yet to be asked of them.
#[derive(Debug, Default)]
pub(super) struct VisitCircuits {
    next: u64,
    roles: BTreeMap<CircuitName, Role>,
    actions: VecDeque<Action>,
}

impl VisitCircuits {
    /// Asks for a circuit.
    pub(super) fn open(&mut self, role: Role, last: LastHop) -> CircuitName {
        let circuit = CircuitName {
            owner: Owner::Visits,
            number: self.next,
        };
        self.next += 1;
        self.roles.insert(circuit, role);
        let purpose = match role {
            Role::Fetch(_) => Purpose::Fetch,
            Role::Rendezvous(_) => Purpose::Rendezvous,
            Role::Introduction(_) => Purpose::Introduce,
        };
        self.actions.push_back(Action::Open {
            circuit,
            purpose,
            last,
        });
        circuit
    }

    /// Sends a message to its last hop.
    pub(super) fn send(&mut self, circuit: CircuitName, command: RelayCommand, body: Vec<u8>) {
        self.act(circuit, |circuit| Action::Send {
            circuit,
            command,
            body,
        });
    }

    /// Asks its last hop's directory.
    pub(super) fn request(&mut self, circuit: CircuitName, request: DirRequest) {
        self.act(circuit, |circuit| Action::Request {
            circuit,
            request,
            body: Vec::new(),
        });
    }

    /// Adds the service as a hop.
    pub(super) fn join(&mut self, circuit: CircuitName, layer: HopLayer, congestion: Option<u8>) {
        self.act(circuit, |circuit| Action::Join {
            circuit,
            layer: Box::new(layer),
            serves: false,
            congestion,
        });
    }

    /// Closes it, unless it is gone.
    pub(super) fn close(&mut self, circuit: CircuitName) {
        if self.roles.remove(&circuit).is_some() {
            self.actions.push_back(Action::Close { circuit });
        }
    }

    /// Takes note of its end. What it was there for; none if it had been closed.
    pub(super) fn ended(&mut self, circuit: CircuitName) -> Option<Role> {
        self.roles.remove(&circuit)
    }

    /// What it is there for; none if it is gone.
    pub(super) fn role(&self, circuit: CircuitName) -> Option<Role> {
        self.roles.get(&circuit).copied()
    }

    /// What is to be done next.
    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// How many stand or are being built.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.roles.len()
    }

    fn act(&mut self, circuit: CircuitName, action: impl FnOnce(CircuitName) -> Action) {
        debug_assert!(self.roles.contains_key(&circuit), "{circuit:?} is gone");
        self.actions.push_back(action(circuit));
    }
}
