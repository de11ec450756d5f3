//! Rendezvous points (rend-spec-v3 4.1, 4.2, 4.3; `tor`'s rendmid.c).
//!
//! ```text
//! client: ESTABLISH_RENDEZVOUS ─> Waiting ───────────┐ RENDEZVOUS2
//! service: RENDEZVOUS1 ─> Joining ─> the cookie's home ─> Joined <─> Joined
//! ```
//!
//! From then on what nobody recognises on one circuit goes back on the other: one layer off, one
//! layer on, in place, as in ordinary forwarding; RELAY_EARLY becomes RELAY. What cannot be queued
//! closes the circuit, and either's end closes the other.

use cepa_circuit::CircuitKey;
use cepa_limits::DosRule;
use cepa_wire::destroy::DestroyReason;
use cepa_wire::relay::{RelayCommand, StreamId};
use cepa_wire::rendezvous::{EstablishRendezvous, Rendezvous1};
use tracing::debug;

use super::{PointAction, PointCell, Points};
use crate::switch::circuits::Next;
use crate::switch::context::Context;
use crate::switch::handover::{Cookie, PointItem, PointKey};
use crate::switch::place::CircuitPlace;

/// Why a message is refused that is wrong itself, or came over a circuit that is something else.
fn fault(next: &Next) -> PointAction {
    match next {
        Next::None => PointAction::Malformed,
        _ => PointAction::UnsuitableCircuit,
    }
}

impl Points {
    pub(crate) fn handle_establish_rendezvous(
        &mut self,
        key: CircuitKey,
        data: &[u8],
        ctx: &mut Context<'_>,
    ) {
        let (is_direct, dos) = (ctx.previous_peer(key).is_none(), &ctx.shared.config.dos);
        let defenses = &mut ctx.shared.defenses;
        if is_direct && dos.refuses_single_hop && defenses.refuses(DosRule::SingleHopRefused, dos) {
            // No answer: whoever does this is to lose time.
            self.counts
                .count(PointCell::EstablishRendezvous, PointAction::SingleHop);
            return debug!("ESTABLISH_RENDEZVOUS from one hop away dropped");
        }
        let Some(circuit) = ctx.circuits.circuit_mut(key) else {
            return;
        };
        let (Next::None, Ok(EstablishRendezvous { cookie })) =
            (&circuit.next, EstablishRendezvous::read(data))
        else {
            let action = fault(&circuit.next);
            debug!(action = action.label(), "ESTABLISH_RENDEZVOUS refused");
            self.counts.count(PointCell::EstablishRendezvous, action);
            return ctx.destroy(key, DestroyReason::PROTOCOL);
        };
        circuit.next = Next::Waiting {
            cookie,
            is_established: false,
        };
        let outbox = &mut ctx.shared.outbox;
        let point_key = PointKey::Rendezvous(cookie);
        let item = PointItem::Register {
            key: point_key,
            circuit: outbox.place(key),
        };
        outbox.tell(outbox.home(&point_key), item);
    }

    pub(crate) fn handle_rendezvous1(
        &mut self,
        key: CircuitKey,
        data: &[u8],
        ctx: &mut Context<'_>,
    ) {
        let Some(circuit) = ctx.circuits.circuit_mut(key) else {
            return;
        };
        let (Next::None, Ok(rendezvous)) = (&circuit.next, Rendezvous1::read(data)) else {
            let action = fault(&circuit.next);
            debug!(action = action.label(), "RENDEZVOUS1 refused");
            self.counts.count(PointCell::Rendezvous1, action);
            return ctx.destroy(key, DestroyReason::PROTOCOL);
        };
        circuit.next = Next::Joining(Vec::new());
        let outbox = &mut ctx.shared.outbox;
        let home = outbox.home(&PointKey::Rendezvous(rendezvous.cookie));
        let item = PointItem::Join {
            cookie: rendezvous.cookie,
            service: outbox.place(key),
            body: rendezvous.handshake.to_vec(),
        };
        outbox.tell(home, item);
    }

    /// The cookie's home: whose circuit waits? A cookie is good for one service.
    pub(super) fn join(
        &mut self,
        cookie: &Cookie,
        service: CircuitPlace,
        body: Vec<u8>,
        ctx: &mut Context<'_>,
    ) {
        let Some(CircuitPlace { worker, circuit }) = self.cookies.remove(cookie) else {
            debug!("a rendezvous cookie that nobody has given");
            return self.refuse_join(service, PointAction::UnknownCookie, ctx);
        };
        let item = PointItem::JoinClient {
            circuit,
            service,
            body,
        };
        ctx.shared.outbox.tell(worker, item);
    }

    fn refuse_join(&mut self, service: CircuitPlace, action: PointAction, ctx: &mut Context<'_>) {
        self.counts.count(PointCell::Rendezvous1, action);
        let CircuitPlace { worker, circuit } = service;
        let reason = DestroyReason::PROTOCOL;
        let end = PointItem::End { circuit, reason };
        ctx.shared.outbox.tell(worker, end);
    }

    /// The client's worker: the service has come.
    pub(super) fn join_client(
        &mut self,
        key: CircuitKey,
        service: CircuitPlace,
        body: &[u8],
        ctx: &mut Context<'_>,
    ) {
        let client = ctx.shared.outbox.place(key);
        let next = ctx
            .circuits
            .circuit_mut(key)
            .map(|circuit| &mut circuit.next);
        let Some(next @ Next::Waiting { .. }) = next else {
            return self.refuse_join(service, PointAction::CircuitDead, ctx);
        };
        *next = Next::Joined(service);
        self.counts.waiting -= 1;
        self.counts.joined += 1;
        if !ctx.send(key, RelayCommand::RENDEZVOUS2, StreamId::NONE, body) {
            // That ended the circuit, and with it the service's.
            return;
        }
        self.counts
            .count(PointCell::Rendezvous1, PointAction::Success);
        let CircuitPlace { worker, circuit } = service;
        let item = PointItem::Joined { circuit, client };
        ctx.shared.outbox.tell(worker, item);
    }

    /// The service's worker: its client has been told; what the service said since may follow.
    pub(super) fn joined(&mut self, key: CircuitKey, client: CircuitPlace, ctx: &mut Context<'_>) {
        let Some(circuit) = ctx.circuits.circuit_mut(key) else {
            let item = PointItem::Unjoined {
                circuit: client.circuit,
                from: ctx.shared.outbox.place(key),
                reason: DestroyReason::DESTROYED,
            };
            return ctx.shared.outbox.tell(client.worker, item);
        };
        let Next::Joining(cells) = std::mem::replace(&mut circuit.next, Next::Joined(client))
        else {
            debug_assert!(false, "joined is what asked for it");
            return;
        };
        self.counts.joined += 1;
        for mut cell in cells {
            ctx.circuits
                .cross(key, client, &mut cell, ctx.shared, ctx.now);
        }
    }
}

/// The other circuit has ended, and so does this one.
pub(super) fn unjoined(
    key: CircuitKey,
    from: CircuitPlace,
    reason: DestroyReason,
    ctx: &mut Context<'_>,
) {
    let next = ctx.circuits.get(key).map(|circuit| &circuit.next);
    let is_joined = match next {
        Some(Next::Joined(other)) => *other == from,
        // The client's end came before the news of its circuit.
        Some(Next::Joining(_)) => true,
        _ => false,
    };
    if is_joined {
        ctx.destroy(key, reason);
    }
}
