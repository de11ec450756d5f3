//! The rendezvous circuit of a visit until the service is at its other end
//! (rend-spec-v3 4.1, 4.2).
//!
//! ```text
//! Absent ─▶ Opening ──Built: ESTABLISH_RENDEZVOUS──▶ Asked ──RENDEZVOUS_ESTABLISHED──▶ Standing
//!   ▲          └──────────────┬────────────────────────┴──────────────────────────────┬──┘
//!   └───── end, time, wrong ──┴───────────────────────────────────────────────────────┘
//!                                                     Standing ──RENDEZVOUS2──▶ Joined
//! ```
//!
//! Invariants: a cookie is used for one circuit; a relay that did not serve is not asked again by
//! this visit; after [`TRIES_MAX`] failures the visit fails.

use std::time::{Duration, Instant};

use cepa_circuit::handshake::{HopKey, HopSpec};
use cepa_crypto::{RsaId, curve25519};
use cepa_wire::linkspec::LinkSpecifiers;
use cepa_wire::relay::RelayCommand;
use cepa_wire::rendezvous::EstablishRendezvous;

use super::circuits::Role;
use super::shared::Shared;
use crate::names::CircuitName;
use crate::onion::action::{Ending, LastHop};

/// How long a relay may take to become the rendezvous point, its circuit included.
pub(super) const STAND_MAX: Duration = Duration::from_secs(10);
/// VisitCircuits that a visit may lose before it fails.
pub(super) const TRIES_MAX: u32 = 5;
/// How long to wait after the first time that no path was found; longer after each other.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// Where a service is to meet us.
#[derive(Debug, Clone)]
pub(super) struct RendezvousPoint {
    pub(super) link_specifiers: LinkSpecifiers,
    pub(super) onion_key: curve25519::PublicKey,
    pub(super) cookie: [u8; 20],
}

/// How the circuit stands.
#[derive(Debug)]
pub(super) enum Stage {
    /// None until then.
    Absent { until: Instant },
    /// It is being built.
    Opening {
        circuit: CircuitName,
        until: Instant,
    },
    /// The relay was asked to be the rendezvous point.
    Asked {
        circuit: CircuitName,
        point: RendezvousPoint,
        until: Instant,
    },
    /// It is, and waits for the service.
    Standing {
        circuit: CircuitName,
        point: RendezvousPoint,
    },
    /// The service is there. Since when no stream was open; none while there is one.
    Joined {
        circuit: CircuitName,
        idle_since: Option<Instant>,
    },
}

/// The rendezvous circuit of a visit.
#[derive(Debug)]
pub(super) struct Rendezvous {
    pub(super) stage: Stage,
    failures: u32,
    excluded: Vec<RsaId>,
}

impl Rendezvous {
    /// None yet, to be opened at once.
    pub(super) fn new(now: Instant) -> Self {
        Rendezvous {
            stage: Stage::Absent { until: now },
            failures: 0,
            excluded: Vec::new(),
        }
    }

    /// The circuit, if there is one.
    pub(super) fn circuit(&self) -> Option<CircuitName> {
        match &self.stage {
            Stage::Absent { .. } => None,
            Stage::Opening { circuit, .. }
            | Stage::Asked { circuit, .. }
            | Stage::Standing { circuit, .. }
            | Stage::Joined { circuit, .. } => Some(*circuit),
        }
    }

    /// The circuit, if the service is at its other end.
    pub(super) fn joined(&self) -> Option<CircuitName> {
        match self.stage {
            Stage::Joined { circuit, .. } => Some(circuit),
            _ => None,
        }
    }

    /// Since when a joined circuit has no stream.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        match self.stage {
            Stage::Joined { idle_since, .. } => idle_since,
            _ => None,
        }
    }

    /// Takes note of a joined circuit's first or last stream.
    pub(super) fn set_idle_since(&mut self, since: Option<Instant>) {
        if let Stage::Joined { idle_since, .. } = &mut self.stage {
            *idle_since = since;
        }
    }

    /// When something is due, while the service is not there.
    pub(super) fn until(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Absent { until } | Stage::Opening { until, .. } | Stage::Asked { until, .. } => {
                Some(*until)
            }
            Stage::Standing { .. } | Stage::Joined { .. } => None,
        }
    }

    /// Whether too many circuits were lost.
    pub(super) fn has_failed(&self) -> bool {
        self.failures >= TRIES_MAX
    }

    /// Opens a circuit if there is none, and it is time.
    pub(super) fn open(&mut self, role: Role, shared: &mut Shared, now: Instant) {
        if let Stage::Absent { until } = self.stage
            && until <= now
            && !self.has_failed()
        {
            let circuit = shared
                .circuits
                .open(role, LastHop::Any(self.excluded.clone()));
            self.stage = Stage::Opening {
                circuit,
                until: now + STAND_MAX,
            };
        }
    }

    /// The circuit stands: its last hop is asked to be the rendezvous point.
    pub(super) fn built(&mut self, last: &HopSpec, shared: &mut Shared, now: Instant) {
        let Stage::Opening { circuit, until } = self.stage else {
            return;
        };
        let (HopKey::Ntor { onion_key, .. } | HopKey::NtorV3 { onion_key, .. }) = last.key else {
            // A relay without a known key cannot be named to the service.
            self.lose(shared, now);
            return;
        };
        let cookie = shared.rng.array();
        let mut body = Vec::new();
        EstablishRendezvous { cookie }.write(&mut body);
        let command = RelayCommand::ESTABLISH_RENDEZVOUS;
        shared.circuits.send(circuit, command, body);
        let point = RendezvousPoint {
            link_specifiers: last.link_specifiers.clone(),
            onion_key,
            cookie,
        };
        self.stage = Stage::Asked {
            circuit,
            point,
            until,
        };
    }

    /// RENDEZVOUS_ESTABLISHED. Whether it was due.
    pub(super) fn established(&mut self) -> bool {
        match &self.stage {
            Stage::Asked { circuit, point, .. } => {
                self.stage = Stage::Standing {
                    circuit: *circuit,
                    point: point.clone(),
                };
                true
            }
            _ => false,
        }
    }

    /// The service is there.
    pub(super) fn join(&mut self, circuit: CircuitName, now: Instant) {
        self.stage = Stage::Joined {
            circuit,
            idle_since: Some(now),
        };
    }

    /// Gives the circuit up; another is opened at once, at another relay.
    pub(super) fn lose(&mut self, shared: &mut Shared, now: Instant) {
        if let Stage::Asked { point, .. } | Stage::Standing { point, .. } = &self.stage {
            self.excluded.extend(point.link_specifiers.rsa_id());
        }
        self.renew(shared, now);
        self.failures += 1;
    }

    /// The circuit is gone.
    pub(super) fn ended(&mut self, ending: Ending, shared: &mut Shared, now: Instant) {
        self.lose(shared, now);
        if ending == Ending::NoPath {
            let until = now + PAUSE * self.failures;
            self.stage = Stage::Absent { until };
        }
    }

    /// Closes the circuit without blame; another is opened if the visit goes on.
    pub(super) fn renew(&mut self, shared: &mut Shared, now: Instant) {
        if let Some(circuit) = self.circuit() {
            shared.circuits.close(circuit);
        }
        self.stage = Stage::Absent { until: now };
    }
}
