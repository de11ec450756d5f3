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
use cepa_wire::Now;
use cepa_wire::cell::{self, CellBuf, Command};
use cepa_wire::destroy::DestroyReason;
use cepa_wire::relay::{RelayCommand, StreamId};
use cepa_wire::rendezvous::{EstablishRendezvous, Rendezvous1};
use tracing::debug;

use super::Switch;
use super::circuit::Next;
use super::command::Handover;
use super::counts::{PointAction, PointCell};
use super::point::{CircuitPlace, Cookie, PointItem, PointKey};

/// Cells that a service may send behind its RENDEZVOUS1 before the other circuit is found. An
/// honest one waits for the client to speak.
pub(super) const JOINING_CELLS_MAX: usize = 16;

/// Why a message is refused that is wrong itself, or came over a circuit that is something else.
fn fault(next: &Next) -> PointAction {
    match next {
        Next::None => PointAction::Malformed,
        _ => PointAction::UnsuitableCircuit,
    }
}

impl Switch {
    pub(super) fn handle_establish_rendezvous(&mut self, key: CircuitKey, data: &[u8], now: Now) {
        let is_direct = self.previous_peer(key).is_none();
        let refuses = self.config.dos.refuses_single_hop;
        if is_direct && refuses && self.refuses(DosRule::SingleHopRefused) {
            // No answer: whoever does this is to lose time.
            self.point_counts
                .count(PointCell::EstablishRendezvous, PointAction::SingleHop);
            return debug!("ESTABLISH_RENDEZVOUS from one hop away dropped");
        }
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let (Next::None, Ok(EstablishRendezvous { cookie })) =
            (&circuit.next, EstablishRendezvous::read(data))
        else {
            let action = fault(&circuit.next);
            debug!(action = action.label(), "ESTABLISH_RENDEZVOUS refused");
            self.point_counts
                .count(PointCell::EstablishRendezvous, action);
            return self.destroy(key, DestroyReason::PROTOCOL, now);
        };
        circuit.next = Next::Waiting {
            cookie,
            is_established: false,
        };
        let point_key = PointKey::Rendezvous(cookie);
        let item = PointItem::Register {
            key: point_key,
            circuit: self.place(key),
        };
        self.tell(self.home(&point_key), item, now);
    }

    pub(super) fn rendezvous_established(&mut self, key: CircuitKey, now: Now) {
        let command = RelayCommand::RENDEZVOUS_ESTABLISHED;
        self.send_message(key, command, StreamId::NONE, &[], now);
    }

    pub(super) fn handle_rendezvous1(&mut self, key: CircuitKey, data: &[u8], now: Now) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let (Next::None, Ok(rendezvous)) = (&circuit.next, Rendezvous1::read(data)) else {
            let action = fault(&circuit.next);
            debug!(action = action.label(), "RENDEZVOUS1 refused");
            self.point_counts.count(PointCell::Rendezvous1, action);
            return self.destroy(key, DestroyReason::PROTOCOL, now);
        };
        circuit.next = Next::Joining(Vec::new());
        let item = PointItem::Join {
            cookie: rendezvous.cookie,
            service: self.place(key),
            body: rendezvous.handshake.to_vec(),
        };
        self.tell(
            self.home(&PointKey::Rendezvous(rendezvous.cookie)),
            item,
            now,
        );
    }

    /// The cookie's home: whose circuit waits?
    pub(super) fn join(&mut self, cookie: &Cookie, service: CircuitPlace, body: Vec<u8>, now: Now) {
        let Some(CircuitPlace { worker, circuit }) = self.points.take_cookie(cookie) else {
            debug!("a rendezvous cookie that nobody has given");
            return self.refuse_join(service, PointAction::UnknownCookie, now);
        };
        let item = PointItem::JoinClient {
            circuit,
            service,
            body,
        };
        self.tell(worker, item, now);
    }

    fn refuse_join(&mut self, service: CircuitPlace, action: PointAction, now: Now) {
        self.point_counts.count(PointCell::Rendezvous1, action);
        let CircuitPlace { worker, circuit } = service;
        let reason = DestroyReason::PROTOCOL;
        self.tell(worker, PointItem::End { circuit, reason }, now);
    }

    /// The client's worker: the service has come.
    pub(super) fn join_client(
        &mut self,
        key: CircuitKey,
        service: CircuitPlace,
        body: &[u8],
        now: Now,
    ) {
        let client = self.place(key);
        let Some(circuit) = self.circuits.get_mut(key) else {
            return self.refuse_join(service, PointAction::CircuitDead, now);
        };
        if !matches!(circuit.next, Next::Waiting { .. }) {
            return self.refuse_join(service, PointAction::CircuitDead, now);
        }
        circuit.next = Next::Joined(service);
        self.point_counts.waiting -= 1;
        self.point_counts.joined += 1;
        if !self.send_message(key, RelayCommand::RENDEZVOUS2, StreamId::NONE, body, now) {
            // That ended the circuit, and with it the service's.
            return;
        }
        self.point_counts
            .count(PointCell::Rendezvous1, PointAction::Success);
        let CircuitPlace { worker, circuit } = service;
        self.tell(worker, PointItem::Joined { circuit, client }, now);
    }

    /// The service's worker: its client has been told; what the service said since may follow.
    pub(super) fn joined(&mut self, key: CircuitKey, client: CircuitPlace, now: Now) {
        let from = self.place(key);
        let Some(circuit) = self.circuits.get_mut(key) else {
            let CircuitPlace { worker, circuit } = client;
            let item = PointItem::Unjoined {
                circuit,
                from,
                reason: DestroyReason::DESTROYED,
            };
            return self.tell(worker, item, now);
        };
        let Next::Joining(cells) = std::mem::replace(&mut circuit.next, Next::Joined(client))
        else {
            debug_assert!(false, "joined is what asked for it");
            return;
        };
        self.point_counts.joined += 1;
        for mut cell in cells {
            self.cross(key, client, &mut cell, now);
        }
    }

    /// A cell that nobody recognised on a joined circuit: it goes back on the other.
    pub(super) fn cross(
        &mut self,
        key: CircuitKey,
        other: CircuitPlace,
        cell: &mut CellBuf,
        now: Now,
    ) {
        let (circuit, from) = (other.circuit, self.place(key));
        if other.worker == self.worker {
            return self.crossed(circuit, from, cell, now);
        }
        let item = Handover::Crossed {
            circuit,
            from,
            cell: *cell,
        };
        self.hand_over(other.worker, item);
    }

    /// A cell of the other circuit, for the client of this one.
    pub(super) fn crossed(
        &mut self,
        key: CircuitKey,
        from: CircuitPlace,
        cell: &mut CellBuf,
        now: Now,
    ) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let (Next::Joined(other), Some(relay)) = (&circuit.next, &mut circuit.relay) else {
            return;
        };
        if *other != from {
            return;
        }
        relay.backward(cell::payload_mut(cell));
        let previous = circuit.previous;
        cell::set_header(cell, previous.circ_id, Command::RELAY);
        if !self.queue(previous.channel, cell, now) {
            self.destroy(key, DestroyReason::RESOURCELIMIT, now);
        }
    }

    /// The other circuit has ended, and so does this one.
    pub(super) fn unjoined(
        &mut self,
        key: CircuitKey,
        from: CircuitPlace,
        reason: DestroyReason,
        now: Now,
    ) {
        let next = self.circuits.get(key).map(|circuit| &circuit.next);
        let is_joined = match next {
            Some(Next::Joined(other)) => *other == from,
            // The client's end came before the news of its circuit.
            Some(Next::Joining(_)) => true,
            _ => false,
        };
        if is_joined {
            self.destroy(key, reason, now);
        }
    }
}
