//! Where introduction and rendezvous points are found (rend-spec-v3 3.1 to 4.2).
//!
//! ```text
//! circuit's worker ── Register ──> home of the key ── Registered, or End ──> circuit's worker
//! another circuit's worker ── Introduce, Join ──> home ── Introduced, JoinClient ──> circuit's
//! ```
//!
//! An auth key or cookie is at home with one worker, chosen by its bytes, in a bounded table: no
//! lock, and two workers agree whom to ask. Items between two workers keep their order; items for
//! the worker itself are handled at once. What names a circuit that is gone is harmless, as keys
//! are checked by generation, and a circuit is a point of one key at most in its life.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use cepa_circuit::CircuitKey;
use cepa_wire::Now;
use cepa_wire::destroy::DestroyReason;
use cepa_wire::introduce::IntroduceStatus;

use super::Switch;
use super::circuit::Next;
use super::command::{Handover, WorkerId};
use super::counts::{PointAction, PointCell};

/// The key that a service wants to be introduced under.
pub(super) type AuthKey = [u8; 32];
/// What a client and a service find each other by.
pub(super) type Cookie = [u8; 20];

/// A circuit, and the worker that owns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitPlace {
    /// The owner.
    pub worker: WorkerId,
    /// The circuit there.
    pub circuit: CircuitKey,
}

/// The key by which an introduction or rendezvous point is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PointKey {
    /// An introduction point, by its auth key.
    Intro([u8; 32]),
    /// A rendezvous point, by its cookie.
    Rendezvous([u8; 20]),
}

/// What workers tell each other of points.
#[derive(Debug)]
pub enum PointItem {
    /// To the key's home: this circuit is to be found by it.
    Register {
        /// The key.
        key: PointKey,
        /// The circuit that is to be found by it.
        circuit: CircuitPlace,
    },
    /// From the key's home: the circuit can be found.
    Registered {
        /// The circuit.
        circuit: CircuitKey,
    },
    /// To the key's home: the circuit is gone.
    Unregister {
        /// The key.
        key: PointKey,
        /// The circuit that was found by it.
        circuit: CircuitPlace,
    },
    /// The point (or what wants to become one) is to be closed.
    End {
        /// The circuit.
        circuit: CircuitKey,
        /// Why the point is closed.
        reason: DestroyReason,
    },
    /// To the auth key's home: INTRODUCE1.
    Introduce {
        /// Whom the client wants.
        auth_key: [u8; 32],
        /// The client's circuit, to which the answer goes.
        client: CircuitPlace,
        /// The message.
        body: Vec<u8>,
    },
    /// To the service's circuit: INTRODUCE1 for it.
    Introduced {
        /// The service's circuit.
        circuit: CircuitKey,
        /// The client's circuit, to which the answer goes.
        client: CircuitPlace,
        /// The message.
        body: Vec<u8>,
    },
    /// To the client's circuit: what became of its INTRODUCE1.
    Acknowledge {
        /// The client's circuit.
        circuit: CircuitKey,
        /// The status.
        status: IntroduceStatus,
    },
    /// To the cookie's home: RENDEZVOUS1.
    Join {
        /// The cookie.
        cookie: [u8; 20],
        /// The service's circuit.
        service: CircuitPlace,
        /// The handshake, which the client is to get.
        body: Vec<u8>,
    },
    /// To the client's circuit: RENDEZVOUS1 for it.
    JoinClient {
        /// The client's circuit.
        circuit: CircuitKey,
        /// The service's circuit.
        service: CircuitPlace,
        /// The handshake, which the client is to get.
        body: Vec<u8>,
    },
    /// To the service's circuit: the client's is joined with it.
    Joined {
        /// The service's circuit.
        circuit: CircuitKey,
        /// The client's.
        client: CircuitPlace,
    },
    /// To a joined circuit: the other is gone.
    Unjoined {
        /// The circuit.
        circuit: CircuitKey,
        /// The other.
        from: CircuitPlace,
        /// Why the other circuit is gone.
        reason: DestroyReason,
    },
}

/// The points whose keys are at home here.
#[derive(Debug, Default)]
pub(super) struct Points {
    intros: BTreeMap<AuthKey, CircuitPlace>,
    cookies: BTreeMap<Cookie, CircuitPlace>,
}

impl Points {
    pub(super) fn intro(&self, auth_key: &AuthKey) -> Option<CircuitPlace> {
        self.intros.get(auth_key).copied()
    }

    /// A cookie is good for one service.
    pub(super) fn take_cookie(&mut self, cookie: &Cookie) -> Option<CircuitPlace> {
        self.cookies.remove(cookie)
    }

    fn remove(&mut self, key: PointKey, circuit: CircuitPlace) {
        match key {
            PointKey::Intro(key) => remove(&mut self.intros, key, circuit),
            PointKey::Rendezvous(key) => remove(&mut self.cookies, key, circuit),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.intros.len() + self.cookies.len()
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

impl Switch {
    pub(super) fn place(&self, circuit: CircuitKey) -> CircuitPlace {
        let worker = self.worker;
        CircuitPlace { worker, circuit }
    }

    /// The worker that knows where the point of this key is.
    pub(super) fn home(&self, key: &PointKey) -> WorkerId {
        let first = match key {
            PointKey::Intro(key) => key[0],
            PointKey::Rendezvous(cookie) => cookie[0],
        };
        let workers = u8::try_from(self.handover.len()).unwrap_or(u8::MAX).max(1);
        WorkerId(first % workers)
    }

    /// Tells a worker, which may be this one.
    pub(super) fn tell(&mut self, worker: WorkerId, item: PointItem, now: Now) {
        if worker == self.worker {
            self.handle_point(item, now);
        } else {
            self.hand_over(worker, Handover::Point(item));
        }
    }

    pub(super) fn handle_point(&mut self, item: PointItem, now: Now) {
        match item {
            PointItem::Register { key, circuit } => self.register(key, circuit, now),
            PointItem::Registered { circuit } => self.registered(circuit, now),
            PointItem::Unregister { key, circuit } => self.points.remove(key, circuit),
            PointItem::End { circuit, reason } => self.destroy(circuit, reason, now),
            PointItem::Introduce {
                auth_key,
                client,
                body,
            } => self.introduce(&auth_key, client, body, now),
            PointItem::Introduced {
                circuit,
                client,
                body,
            } => self.introduced(circuit, client, &body, now),
            PointItem::Acknowledge { circuit, status } => self.acknowledge(circuit, status, now),
            PointItem::Join {
                cookie,
                service,
                body,
            } => self.join(&cookie, service, body, now),
            PointItem::JoinClient {
                circuit,
                service,
                body,
            } => self.join_client(circuit, service, &body, now),
            PointItem::Joined { circuit, client } => self.joined(circuit, client, now),
            PointItem::Unjoined {
                circuit,
                from,
                reason,
            } => self.unjoined(circuit, from, reason, now),
        }
    }

    /// Home: takes a circuit into the table. An auth key is the newest circuit's (its MAC and
    /// signature prove whose it is), a cookie the first one's.
    fn register(&mut self, key: PointKey, circuit: CircuitPlace, now: Now) {
        let limits = &self.config.limits;
        let refused = match key {
            PointKey::Intro(key) => {
                let table = &mut self.points.intros;
                let is_full = table.len() >= limits.intro_points_max && !table.contains_key(&key);
                let older = if is_full {
                    None
                } else {
                    table.insert(key, circuit)
                };
                if let Some(older) = older {
                    let reason = DestroyReason::FINISHED;
                    let circuit = older.circuit;
                    self.tell(older.worker, PointItem::End { circuit, reason }, now);
                }
                is_full.then_some((DestroyReason::RESOURCELIMIT, PointAction::Full))
            }
            PointKey::Rendezvous(cookie) => {
                let table = &mut self.points.cookies;
                let is_full = table.len() >= limits.cookies_max;
                match table.entry(cookie) {
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
                }
            }
        };
        let CircuitPlace { worker, circuit } = circuit;
        let answer = match refused {
            None => PointItem::Registered { circuit },
            Some((reason, action)) => {
                let cell = match key {
                    PointKey::Intro(_) => PointCell::EstablishIntro,
                    PointKey::Rendezvous(_) => PointCell::EstablishRendezvous,
                };
                self.point_counts.count(cell, action);
                PointItem::End { circuit, reason }
            }
        };
        self.tell(worker, answer, now);
    }

    /// Owner: what asked to be a point can be found now; it is told so.
    fn registered(&mut self, key: CircuitKey, now: Now) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        match &mut circuit.next {
            Next::Intro(point) if !point.is_established => {
                point.is_established = true;
                self.point_counts.intros += 1;
                self.point_counts
                    .count(PointCell::EstablishIntro, PointAction::Success);
                self.intro_established(key, now);
            }
            Next::Waiting { is_established, .. } if !*is_established => {
                *is_established = true;
                self.point_counts.waiting += 1;
                self.point_counts
                    .count(PointCell::EstablishRendezvous, PointAction::Success);
                self.rendezvous_established(key, now);
            }
            _ => debug_assert!(false, "registered is what asked for it"),
        }
    }

    /// A circuit has ended that had this before it: if it was a point, it is no more.
    pub(super) fn end_point(
        &mut self,
        circuit: CircuitKey,
        next: Next,
        reason: DestroyReason,
        now: Now,
    ) {
        let place = self.place(circuit);
        let key = match next {
            Next::Intro(point) => {
                self.point_counts.intros -= usize::from(point.is_established);
                PointKey::Intro(point.auth_key)
            }
            Next::Waiting {
                cookie,
                is_established,
            } => {
                self.point_counts.waiting -= usize::from(is_established);
                PointKey::Rendezvous(cookie)
            }
            Next::Joined(CircuitPlace { worker, circuit }) => {
                self.point_counts.joined -= 1;
                let from = place;
                let item = PointItem::Unjoined {
                    circuit,
                    from,
                    reason,
                };
                return self.tell(worker, item, now);
            }
            _ => return,
        };
        let circuit = place;
        self.tell(self.home(&key), PointItem::Unregister { key, circuit }, now);
    }
}
