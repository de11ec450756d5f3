//! Where introduction and rendezvous points are found (rend-spec-v3 3.1 to 4.2).
//!
//! ```text
//! circuit's worker ── Register ──> home of the key ── Registered, or End ──> circuit's worker
//! another circuit's worker ── Introduce, Join ──> home ── Introduced, JoinClient ──> circuit's
//! ```
//!
//! An auth key or cookie is at home with one worker, chosen by its bytes, in a bounded table: no
//! lock, and two workers agree whom to ask. Items between two workers keep their order; items for
//! the worker itself are handled before its next cell. What names a circuit that is gone is
//! harmless, as keys are checked by generation, and a circuit is a point of one key at most in its
//! life.

mod counts;
mod intro;
mod rendezvous;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use cepa_circuit::CircuitKey;
use cepa_wire::destroy::DestroyReason;
use cepa_wire::relay::{RelayCommand, StreamId};

use super::circuits::Next;
use super::context::Context;
use super::handover::{AuthKey, Cookie, PointItem, PointKey};
use super::place::CircuitPlace;

pub use counts::{PointAction, PointCell, PointCounts};

/// The points whose keys are at home here, and what was done for points.
#[derive(Debug, Default)]
pub(super) struct Points {
    intros: BTreeMap<AuthKey, CircuitPlace>,
    cookies: BTreeMap<Cookie, CircuitPlace>,
    pub(super) counts: PointCounts,
}

impl Points {
    /// Keys that are at home here.
    pub(super) fn len(&self) -> usize {
        self.intros.len() + self.cookies.len()
    }

    /// Handles what another worker, or this one, has to tell of points.
    pub(super) fn handle_item(&mut self, item: PointItem, ctx: &mut Context<'_>) {
        match item {
            PointItem::Register { key, circuit } => self.register(key, circuit, ctx),
            PointItem::Registered { circuit } => self.registered(circuit, ctx),
            PointItem::Unregister { key, circuit } => self.unregister(key, circuit),
            PointItem::End { circuit, reason } => ctx.destroy(circuit, reason),
            PointItem::Introduce {
                auth_key,
                client,
                body,
            } => self.introduce(&auth_key, client, body, ctx),
            PointItem::Introduced {
                circuit,
                client,
                body,
            } => self.introduced(circuit, client, &body, ctx),
            PointItem::Acknowledge { circuit, status } => intro::acknowledge(circuit, status, ctx),
            PointItem::Join {
                cookie,
                service,
                body,
            } => self.join(&cookie, service, body, ctx),
            PointItem::JoinClient {
                circuit,
                service,
                body,
            } => self.join_client(circuit, service, &body, ctx),
            PointItem::Joined { circuit, client } => self.joined(circuit, client, ctx),
            PointItem::Unjoined {
                circuit,
                from,
                reason,
            } => rendezvous::unjoined(circuit, from, reason, ctx),
        }
    }

    /// Home: takes a circuit into the table. An auth key is the newest circuit's (its MAC and
    /// signature prove whose it is), a cookie the first one's.
    fn register(&mut self, key: PointKey, circuit: CircuitPlace, ctx: &mut Context<'_>) {
        let (limits, outbox) = (&ctx.shared.config.limits, &mut ctx.shared.outbox);
        let refused = match key {
            PointKey::Intro(key) => {
                let table = &mut self.intros;
                let is_full = table.len() >= limits.intro_points_max && !table.contains_key(&key);
                let older = if is_full {
                    None
                } else {
                    table.insert(key, circuit)
                };
                if let Some(CircuitPlace { worker, circuit }) = older {
                    let reason = DestroyReason::FINISHED;
                    outbox.tell(worker, PointItem::End { circuit, reason });
                }
                let full = (PointCell::EstablishIntro, PointAction::Full);
                is_full.then_some((DestroyReason::RESOURCELIMIT, full))
            }
            PointKey::Rendezvous(cookie) => {
                let is_full = self.cookies.len() >= limits.cookies_max;
                let refused = match self.cookies.entry(cookie) {
                    Entry::Occupied(_) => {
                        Some((DestroyReason::PROTOCOL, PointAction::DuplicateCookie))
                    }
                    Entry::Vacant(_) if is_full => {
                        Some((DestroyReason::RESOURCELIMIT, PointAction::Full))
                    }
                    Entry::Vacant(free) => {
                        free.insert(circuit);
                        None
                    }
                };
                refused.map(|(reason, action)| (reason, (PointCell::EstablishRendezvous, action)))
            }
        };
        let CircuitPlace { worker, circuit } = circuit;
        let answer = match refused {
            None => PointItem::Registered { circuit },
            Some((reason, (cell, action))) => {
                self.counts.count(cell, action);
                PointItem::End { circuit, reason }
            }
        };
        outbox.tell(worker, answer);
    }

    /// Home: forgets a key, if it is this circuit's still.
    fn unregister(&mut self, key: PointKey, circuit: CircuitPlace) {
        match key {
            PointKey::Intro(key) => remove(&mut self.intros, key, circuit),
            PointKey::Rendezvous(key) => remove(&mut self.cookies, key, circuit),
        }
    }

    /// Owner: what asked to be a point can be found now; it is told so.
    fn registered(&mut self, key: CircuitKey, ctx: &mut Context<'_>) {
        let Some(circuit) = ctx.circuits.circuit_mut(key) else {
            return;
        };
        match &mut circuit.next {
            Next::Intro(point) if !point.is_established => {
                point.is_established = true;
                self.counts.intros += 1;
                self.counts
                    .count(PointCell::EstablishIntro, PointAction::Success);
                intro::established(key, ctx);
            }
            Next::Waiting { is_established, .. } if !*is_established => {
                *is_established = true;
                self.counts.waiting += 1;
                self.counts
                    .count(PointCell::EstablishRendezvous, PointAction::Success);
                let command = RelayCommand::RENDEZVOUS_ESTABLISHED;
                ctx.send(key, command, StreamId::NONE, &[]);
            }
            _ => debug_assert!(false, "registered is what asked for it"),
        }
    }

    /// A circuit of ours has ended that had this before it: if it was a point, it is no more.
    pub(super) fn ended(
        &mut self,
        circuit: CircuitKey,
        next: Next,
        reason: DestroyReason,
        ctx: &mut Context<'_>,
    ) {
        let outbox = &mut ctx.shared.outbox;
        let place = outbox.place(circuit);
        let key = match next {
            Next::Intro(point) => {
                self.counts.intros -= usize::from(point.is_established);
                PointKey::Intro(point.auth_key)
            }
            Next::Waiting {
                cookie,
                is_established,
            } => {
                self.counts.waiting -= usize::from(is_established);
                PointKey::Rendezvous(cookie)
            }
            Next::Joined(CircuitPlace { worker, circuit }) => {
                self.counts.joined -= 1;
                let item = PointItem::Unjoined {
                    circuit,
                    from: place,
                    reason,
                };
                return outbox.tell(worker, item);
            }
            _ => return,
        };
        let circuit = place;
        let gone = PointItem::Unregister { key, circuit };
        outbox.tell(outbox.home(&key), gone);
    }
}

/// Forgets a key, if it is this circuit's still.
fn remove<K: Ord>(table: &mut BTreeMap<K, CircuitPlace>, key: K, circuit: CircuitPlace) {
    if let Entry::Occupied(held) = table.entry(key)
        && *held.get() == circuit
    {
        held.remove();
    }
}
