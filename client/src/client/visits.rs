//! Requests of applications for onion services: each joins the visit of its service and isolation,
//! and gets a stream over its rendezvous circuit ([`crate::onion::Visits`]).
//!
//! ```text
//! request ─▶ visit ─Ready─▶ stream ─CONNECTED─▶ answered
//!    ▲         └─Failed──────▶ refused   └─END─▶ refused
//!    └────────── the circuit died ─────────┘
//! ```

use cepa_circuit::{CircuitKey, StreamKey};
use cepa_crypto::curve25519;
use cepa_crypto::onion::OnionAddress;
use cepa_wire::Now;
use cepa_wire::destroy::DestroyReason;
use cepa_wire::end::EndReason;
use cepa_wire::socks::SocksStatus;

use super::Client;
use crate::command::RequestId;
use crate::onion::{CircuitName, Outcome, Owner, VisitError, VisitId};
use crate::streams::requests::{State, Via};

impl Client {
    /// Takes the key with which a service that is not for everybody knows us. Whether there was
    /// room for it, below [`crate::onion::CLIENT_KEYS_MAX`].
    #[must_use]
    pub fn add_onion_client_key(
        &mut self,
        address: OnionAddress,
        key: curve25519::SecretKey,
        now: Now,
    ) -> bool {
        let has_room = self.visits.add_client_key(address, key);
        self.settle(now);
        has_room
    }

    /// Forgets such a key. Whether there was one.
    pub fn remove_onion_client_key(&mut self, address: &OnionAddress) -> bool {
        self.visits.remove_client_key(address)
    }

    /// The status as applications may see it.
    pub(super) fn shown(&self, status: SocksStatus) -> SocksStatus {
        match self.config.onion_errors {
            true => status,
            false => status.without_extension(),
        }
    }

    /// Begins, or joins, a visit for each request that needs one.
    pub(super) fn begin_visits(&mut self, now: Now) {
        for id in self.requests.waiting() {
            let Some(request) = self.requests.by_id.get_mut(&id) else {
                continue;
            };
            if let Via::Onion(address, visit @ None) = &mut request.via {
                self.onion.used_last = Some(now.mono);
                *visit = Some(
                    self.visits
                        .request(*address, &request.status.isolation, now),
                );
            }
        }
    }

    /// How a visit came out.
    pub(super) fn handle_visit(&mut self, outcome: Outcome, now: Now) {
        match outcome {
            Outcome::Ready { visit, circuit } => {
                self.onion.visits.insert(circuit, visit);
                for id in self.waiting_for(visit) {
                    self.attach_visitor(id, visit, circuit, now);
                }
            }
            Outcome::Failed { visit, error } => {
                let status = self.shown(error.socks_status());
                if error == VisitError::TooMany {
                    tracing::warn!("{error}");
                }
                for id in self.waiting_for(visit) {
                    self.refuse(id, status);
                }
            }
            Outcome::Lost { visit } => {
                for id in self.waiting_for(visit) {
                    if let Some(request) = self.requests.by_id.get_mut(&id) {
                        request.leave();
                    }
                }
            }
        }
    }

    fn waiting_for(&self, visit: VisitId) -> Vec<RequestId> {
        let mut waiting = self.requests.waiting();
        waiting.retain(|id| {
            let request = self.requests.by_id.get(id);
            request.is_some_and(|request| request.visit() == Some(visit))
        });
        waiting
    }

    /// Opens a request's stream at the service.
    fn attach_visitor(&mut self, id: RequestId, visit: VisitId, circuit: CircuitName, now: Now) {
        let name = (Owner::Visits, circuit);
        let (Some(key), Some(pool)) = (self.standing(name), self.onion.pool_of(name)) else {
            return;
        };
        self.attach(id, pool, key, now);
        let request = self.requests.by_id.get(&id);
        if request.is_some_and(|request| matches!(request.state, State::Attached { .. })) {
            self.visits.used(visit);
        } else {
            // No more streams over this one: its end makes room for another visit.
            self.plane.close_circuit(key, DestroyReason::NONE, now);
        }
    }

    /// A request does not wait any more: the visit is given up if nobody else does.
    pub(super) fn cancel_visit(&mut self, visit: Option<VisitId>, now: Now) {
        if let Some(visit) = visit
            && self.waiting_for(visit).is_empty()
        {
            self.visits.cancel(visit, now);
        }
    }

    /// A service has not answered a request for long. If nothing came over its circuit since, that
    /// may be dead, and relays have not told: then the service is met anew, once.
    pub(super) fn doubt_visit(&mut self, id: RequestId, now: Now) {
        let Some(request) = self.requests.by_id.get_mut(&id) else {
            return;
        };
        let State::Attached { stream, since, .. } = request.state else {
            return;
        };
        request.is_patient = true;
        let circuit = self.plane.stream_circuit(stream);
        let status = circuit.and_then(|key| self.plane.circuit_status(key));
        if let Some(visit) = request.visit()
            && status.is_some_and(|status| status.heard_at <= since)
        {
            self.visits.abandon(visit, now);
        }
    }

    /// Our side of a stream is over; perhaps it was the last one of a visit.
    pub(super) fn close_stream(&mut self, stream: StreamKey, reason: EndReason, now: Now) {
        let circuit = self.plane.stream_circuit(stream);
        self.plane.stream_close(stream, reason, now);
        self.stream_gone(stream, reason);
        self.note_idle(circuit, now);
    }

    /// A stream is over. A visit without any is not kept for long.
    pub(super) fn note_idle(&mut self, circuit: Option<CircuitKey>, now: Now) {
        let Some(key) = circuit else { return };
        if let Some(id) = self.pool.by_key(key) {
            self.pool.left(id, now);
        }
        let name = self.pool.by_key(key).and_then(|id| self.onion.name_of(id));
        let Some((Owner::Visits, circuit)) = name else {
            return;
        };
        let status = self.plane.circuit_status(key);
        if let Some(visit) = self.onion.visits.get(&circuit)
            && status.is_some_and(|status| status.stream_count == 0)
        {
            self.visits.idle(*visit, now);
            self.deadline = self.next_deadline(now);
        }
    }
}
