//! Requests for onion services: each joins the visit of its service and isolation, and gets a
//! stream over its rendezvous circuit ([`crate::onion::Visits`]).
//!
//! ```text
//! request ─▶ visit ─Ready─▶ stream ─CONNECTED─▶ answered
//!    ▲         └─Failed──────▶ refused   └─END─▶ refused
//!    └────────── the circuit died ─────────┘
//! ```

use cepa_wire::Now;
use cepa_wire::destroy::DestroyReason;

use super::request::{State, Via};
use super::{Streams, shown};
use crate::circuits::Circuits;
use crate::context::Context;
use crate::names::{CircuitName, RequestId, VisitId};
use crate::onion::{Onion, Outcome, VisitError};

impl Streams {
    /// Begins, or joins, a visit for each request that needs one.
    pub(crate) fn begin_visits(&mut self, onion: &mut Onion, now: Now) {
        let waiting = self.by_id.values_mut();
        for request in waiting.filter(|one| one.state == State::Waiting && !one.is_left) {
            if let Via::Onion(address, visit @ None) = &mut request.via {
                onion.used(now);
                let isolation = &request.status.isolation;
                *visit = Some(onion.visits.request(*address, isolation, now));
            }
        }
    }

    /// How a visit came out.
    pub(crate) fn handle_visit(
        &mut self,
        outcome: Outcome,
        onion: &mut Onion,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        match outcome {
            Outcome::Ready { visit, circuit } => {
                if let Some(named) = onion.by_name.get_mut(&circuit) {
                    named.visit = Some(visit);
                }
                for id in self.waiting_for(visit) {
                    self.attach_visitor(id, visit, circuit, onion, circuits, ctx);
                }
            }
            Outcome::Failed { visit, error } => {
                let status = shown(error.socks_status(), ctx.config);
                if error == VisitError::TooMany {
                    tracing::warn!("{error}");
                }
                for id in self.waiting_for(visit) {
                    self.refuse(id, status, ctx);
                }
            }
            Outcome::Lost { visit } => {
                for id in self.waiting_for(visit) {
                    if let Some(request) = self.by_id.get_mut(&id) {
                        request.leave();
                    }
                }
            }
        }
    }

    fn waiting_for(&self, visit: VisitId) -> Vec<RequestId> {
        let waiting = self.by_id.iter();
        let waiting = waiting.filter(|(_, request)| {
            request.state == State::Waiting && request.visit() == Some(visit)
        });
        waiting.map(|(id, _)| *id).collect()
    }

    /// Opens a request's stream at the service.
    fn attach_visitor(
        &mut self,
        id: RequestId,
        visit: VisitId,
        circuit: CircuitName,
        onion: &mut Onion,
        circuits: &mut Circuits,
        ctx: &mut Context<'_>,
    ) {
        let key = onion.standing(circuit, circuits);
        let Some((key, pool)) = key.and_then(|key| Some((key, circuits.pool.by_key(key)?))) else {
            return;
        };
        self.attach(id, (pool, key, None), circuits, ctx);
        let request = self.by_id.get(&id);
        if request.is_some_and(|request| matches!(request.state, State::Attached { .. })) {
            onion.visits.used(visit);
        } else {
            // No more streams over this one: its end makes room for another visit.
            ctx.plane.close_circuit(key, DestroyReason::NONE, ctx.now);
        }
    }

    /// A request does not wait any more: the visit is given up if nobody else does.
    pub(super) fn cancel_visit(&self, visit: Option<VisitId>, onion: &mut Onion, now: Now) {
        if let Some(visit) = visit
            && self.waiting_for(visit).is_empty()
        {
            onion.visits.cancel(visit, now);
        }
    }

    /// A service has not answered a request for long. If nothing came over its circuit since, that
    /// may be dead, and relays have not told: then the service is met anew, once.
    pub(super) fn doubt_visit(&mut self, id: RequestId, onion: &mut Onion, ctx: &Context<'_>) {
        let Some(request) = self.by_id.get_mut(&id) else {
            return;
        };
        let State::Attached { stream, since, .. } = request.state else {
            return;
        };
        request.is_patient = true;
        let circuit = ctx.plane.stream_circuit(stream);
        let status = circuit.and_then(|key| ctx.plane.circuit_status(key));
        if let Some(visit) = request.visit()
            && status.is_some_and(|status| status.heard_at <= since)
        {
            onion.visits.abandon(visit, ctx.now);
        }
    }
}
