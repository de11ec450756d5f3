//! The visiting side of onion services: from an address to a circuit with the service at its
//! other end (rend-spec-v3 1.2, 2.2, 2.5, 3.2, 4; socks-extensions for what may go wrong).
//!
//! ```text
//!            ┌─▶ Fetch (one a service) ─▶ descriptors ─┐
//! request ─▶ Visit (one a service and isolation) ◀─────┘ ─▶ Outcome
//!            ├─▶ Introduction: one circuit at a time
//!            └─▶ Rendezvous: one rendezvous circuit, opened while the descriptor is fetched
//! ```
//!
//! Invariants: a machine without circuits of its own ([`Action`], [`Event`]); all streams of one
//! isolation to one service share a rendezvous circuit; each request is answered once; each
//! circuit that is opened is closed, or its end was told; visits, descriptors and what is
//! remembered are bounded.

mod cache;
mod circuits;
mod fetch;
mod introduction;
mod memory;
mod outcome;
mod rendezvous;
mod shared;
#[cfg(test)]
mod tests;
mod visit;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use cepa_crypto::onion::OnionAddress;
use cepa_crypto::{Rng, curve25519};
use cepa_dir::NetworkView;
use cepa_dir::hsring::{HsRing, fetch_ring};
use cepa_wire::Now;

use super::action::{Action, Event};
use crate::isolation::Isolation;
use crate::names::{CircuitName, VisitId};
use crate::select::paths::congestion_params;
use crate::status::VisitStatus;
use cache::Content;
use circuits::Role;
use fetch::{Fetch, Progress};
use shared::Shared;
use visit::{Need, Visit};

pub use outcome::{Outcome, VisitError};

/// Most visits at a time, those that are ready included.
pub const VISITS_MAX: usize = 512;
/// The most keys for services of others that a client keeps.
pub const CLIENT_KEYS_MAX: usize = 65_536;

/// All visits of a client.
#[derive(Debug)]
pub struct Visits {
    shared: Shared,
    ring: Option<HsRing>,
    visits: BTreeMap<VisitId, Visit>,
    /// By identity key.
    fetches: BTreeMap<[u8; 32], Fetch>,
    outcomes: VecDeque<Outcome>,
    next_id: u64,
}

impl Visits {
    /// None yet. In a test network directories may be asked again sooner.
    #[must_use]
    pub fn new(rng: Rng, testing: bool) -> Self {
        Visits {
            shared: Shared::new(rng, testing),
            ring: None,
            visits: BTreeMap::new(),
            fetches: BTreeMap::new(),
            outcomes: VecDeque::new(),
            next_id: 0,
        }
    }

    /// The text of a service's descriptor, if it is kept and could be read.
    #[must_use]
    pub fn descriptor(&self, address: &OnionAddress, now: Now) -> Option<&str> {
        self.shared.cache.text_of(address, now.mono)
    }

    /// Asks for a circuit to a service. The visit that there is already for the same service and
    /// isolation is named again. [`Outcome::Ready`] or [`Outcome::Failed`] follows in any case; if
    /// several requests wait for one visit, one answer is for all of them.
    pub fn request(&mut self, address: OnionAddress, isolation: &Isolation, now: Now) -> VisitId {
        let known = self
            .visits
            .iter()
            .find(|(_, visit)| visit.address == address && visit.isolation == *isolation);
        if let Some((&visit, known)) = known {
            if let Some(circuit) = known.rendezvous.joined() {
                self.outcomes.push_back(Outcome::Ready { visit, circuit });
            }
            return visit;
        }
        let visit = VisitId(self.next_id);
        self.next_id += 1;
        if self.visits.len() >= VISITS_MAX && !self.end_idle(now) {
            let error = VisitError::TooMany;
            self.outcomes.push_back(Outcome::Failed { visit, error });
            return visit;
        }
        let begun = Visit::new(visit, address, isolation.clone(), now.mono);
        self.visits.insert(visit, begun);
        self.settle(visit, now);
        visit
    }

    /// The rendezvous circuit of a visit, if the service is there.
    #[must_use]
    pub fn circuit(&self, visit: VisitId) -> Option<CircuitName> {
        self.visits.get(&visit)?.rendezvous.joined()
    }

    /// The service of a visit that has not ended.
    #[must_use]
    pub fn address(&self, visit: VisitId) -> Option<OnionAddress> {
        Some(self.visits.get(&visit)?.address)
    }

    /// The service that a circuit is for, until it is closed.
    pub(crate) fn address_of(&self, circuit: CircuitName) -> Option<OnionAddress> {
        match self.shared.circuits.role(circuit)? {
            Role::Fetch(identity) => Some(self.fetches.get(&identity)?.address()),
            Role::Rendezvous(visit) | Role::Introduction(visit) => self.address(visit),
        }
    }

    /// How they stand, the oldest first.
    pub(crate) fn statuses(&self) -> Vec<VisitStatus> {
        let status = |visit: &Visit| VisitStatus {
            address: visit.address,
            is_fetching: visit.is_fetching(),
            is_ready: visit.rendezvous.joined().is_some(),
            isolation: visit.isolation.clone(),
        };
        self.visits.values().map(status).collect()
    }

    /// A stream is open on the visit's circuit, which is kept from now on.
    pub fn used(&mut self, visit: VisitId) {
        self.set_idle_since(visit, None);
    }

    /// No stream is open on the visit's circuit any more: it is closed after a while, unless it
    /// is [used](Visits::used) again. [`Outcome::Lost`] tells of it.
    pub fn idle(&mut self, visit: VisitId, now: Now) {
        self.set_idle_since(visit, Some(now.mono));
    }

    /// Nobody waits for the visit any more. If it is not ready it ends, and nothing is told of it.
    pub fn cancel(&mut self, visit: VisitId, now: Now) {
        if self.visits.contains_key(&visit) && self.circuit(visit).is_none() {
            self.end(visit, now);
        }
    }

    /// The circuit of a ready visit does not do: the service does not answer on it. It is closed,
    /// and [`Outcome::Lost`] follows.
    pub fn abandon(&mut self, visit: VisitId, now: Now) {
        if self.circuit(visit).is_some() {
            self.settle_or_lose(visit, true, now);
        }
    }

    /// Takes the client key for a service, in the place of another. Whether there was room.
    pub fn add_client_key(&mut self, address: OnionAddress, key: curve25519::SecretKey) -> bool {
        let has_room = self.shared.client_keys.len() < CLIENT_KEYS_MAX
            || self.shared.client_keys.contains_key(&address);
        if has_room {
            self.shared.client_keys.insert(address, key);
            self.forget_descriptor(&address);
        }
        has_room
    }

    /// Forgets the client key for a service. Whether there was one.
    pub fn remove_client_key(&mut self, address: &OnionAddress) -> bool {
        self.forget_descriptor(address);
        self.shared.client_keys.remove(address).is_some()
    }

    /// Forgets all descriptors and failures, for a new identity. Visits go on.
    pub fn forget_all(&mut self) {
        self.shared.cache.clear();
        self.shared.asked.clear();
        self.shared.failures.clear();
    }

    /// Takes what became of a circuit, or a new consensus.
    pub fn handle_event(&mut self, event: Event<'_>, now: Now) {
        match event {
            Event::Network(view, permits) => {
                self.shared.permits = permits.clone();
                self.handle_network(view, now);
            }
            Event::Built { circuit, last, .. } => match self.shared.circuits.role(circuit) {
                Some(Role::Fetch(identity)) => {
                    if let Some(fetch) = self.fetches.get_mut(&identity) {
                        fetch.built(circuit, &mut self.shared, now);
                    }
                }
                Some(role @ (Role::Rendezvous(visit) | Role::Introduction(visit))) => {
                    if let Some(known) = self.visits.get_mut(&visit) {
                        known.built(role, last, &mut self.shared, now);
                    }
                    self.settle(visit, now);
                }
                None => {}
            },
            Event::Message {
                circuit,
                command,
                body,
            } => {
                let role = self.shared.circuits.role(circuit);
                if let Some(role @ (Role::Rendezvous(visit) | Role::Introduction(visit))) = role {
                    let is_over = self.visits.get_mut(&visit).is_some_and(|known| {
                        known.handle_message(role, command, body, &mut self.shared, now)
                    });
                    self.settle_or_lose(visit, is_over, now);
                }
            }
            Event::Reply { circuit, reply } => {
                if let Some(Role::Fetch(identity)) = self.shared.circuits.role(circuit)
                    && let Some(fetch) = self.fetches.get_mut(&identity)
                {
                    let progress = fetch.handle_reply(circuit, &reply, &mut self.shared, now);
                    self.handle_fetch(identity, progress, now);
                }
            }
            Event::Ended { circuit, ending } => match self.shared.circuits.ended(circuit) {
                Some(Role::Fetch(identity)) => {
                    if let Some(fetch) = self.fetches.get_mut(&identity) {
                        let progress = fetch.ended(ending, &mut self.shared, now);
                        self.handle_fetch(identity, progress, now);
                    }
                }
                Some(role @ (Role::Rendezvous(visit) | Role::Introduction(visit))) => {
                    let is_over = self
                        .visits
                        .get_mut(&visit)
                        .is_some_and(|known| known.ended(role, ending, &mut self.shared, now));
                    self.settle_or_lose(visit, is_over, now);
                }
                None => {}
            },
        }
    }

    /// The next thing that the visits ask of the client.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.shared.circuits.poll_action()
    }

    /// The next visit that has come out, and how.
    pub fn poll_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    /// When [`Visits::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let visits = self.visits.values().filter_map(Visit::until);
        visits.chain(self.fetches.values().map(Fetch::until)).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        let late: Vec<_> = self
            .fetches
            .iter()
            .filter(|(_, fetch)| fetch.until() <= now.mono)
            .map(|(identity, _)| *identity)
            .collect();
        for identity in late {
            if let Some(fetch) = self.fetches.get_mut(&identity) {
                let progress = fetch.handle_timeout(&mut self.shared, now);
                self.handle_fetch(identity, progress, now);
            }
        }
        let late: Vec<_> = self
            .visits
            .iter()
            .filter(|(_, visit)| visit.until().is_some_and(|until| until <= now.mono))
            .map(|(visit, _)| *visit)
            .collect();
        for visit in late {
            let Some(known) = self.visits.get_mut(&visit) else {
                continue;
            };
            let was_ready = known.rendezvous.joined().is_some();
            match known.handle_timeout(&mut self.shared, now) {
                Need::End(_) if was_ready => self.settle_or_lose(visit, true, now),
                Need::End(error) => self.fail(visit, error, now),
                _ => self.settle(visit, now),
            }
        }
    }

    fn handle_network(&mut self, view: &NetworkView, now: Now) {
        let ring = fetch_ring(view);
        let period = self.ring.as_ref().map(HsRing::period);
        let has_moved = period != Some(ring.period());
        self.ring = Some(ring);
        self.shared.congestion = Some(congestion_params(view.params()));
        if has_moved {
            // Descriptors are of a period, and so are the directories that have them.
            self.shared.cache.clear();
            for (_, fetch) in std::mem::take(&mut self.fetches) {
                fetch.abort(&mut self.shared);
            }
        }
        let waiting: Vec<_> = self
            .visits
            .iter_mut()
            .filter(|(_, visit)| visit.wants_descriptor())
            .filter(|(_, visit)| !self.fetches.contains_key(visit.address.key().as_bytes()))
            .map(|(id, visit)| {
                visit.descriptor_arrived(None, &mut self.shared, now);
                *id
            })
            .collect();
        for visit in waiting {
            self.settle(visit, now);
        }
    }

    /// Lets a visit go on, and does what it needs, until it waits for others.
    fn settle(&mut self, visit: VisitId, now: Now) {
        while let Some(known) = self.visits.get_mut(&visit) {
            let address = known.address;
            let content = self.ring.as_ref().and_then(|ring| {
                let blinded = address.blind(ring.period());
                self.shared.cache.lookup(blinded.as_bytes(), now.mono)
            });
            let opened = match &content {
                Some(Content::Open(opened)) => Some(opened.as_ref()),
                _ => None,
            };
            match known.advance(opened, &mut self.shared, now) {
                Need::Nothing => return,
                Need::Ready(circuit) => {
                    self.outcomes.push_back(Outcome::Ready { visit, circuit });
                    if let Some(ring) = &self.ring {
                        let blinded = address.blind(ring.period());
                        self.shared.asked.forget(*blinded.as_bytes());
                    }
                    return;
                }
                Need::End(error) => return self.fail(visit, error, now),
                Need::Descriptor => {
                    let Some(error) = self.fetch(address, content.as_ref(), now) else {
                        return;
                    };
                    self.descriptor_failed(visit, error, opened.is_some(), now);
                }
                Need::Newer => {
                    // If all directories were asked lately, there is none.
                    if let Some(error) = self.fetch(address, content.as_ref(), now) {
                        self.descriptor_failed(visit, error, opened.is_some(), now);
                    }
                    return;
                }
            }
        }
    }

    /// Fetches no descriptors from now on (`FetchHidServDescriptors 0`), or does again.
    pub(crate) fn fetch_nothing(&mut self, fetches_nothing: bool) {
        self.shared.fetches_nothing = fetches_nothing;
    }

    /// Takes a descriptor that a controller has had fetched; one that is none is passed over.
    pub(crate) fn take_descriptor(&mut self, address: OnionAddress, body: &[u8], now: Now) {
        if let Some(period) = self.ring.as_ref().map(HsRing::period) {
            // It may be of another period, or cut short.
            let _ = fetch::read((address, period), body, &mut self.shared, now);
        }
    }

    /// Sees to it that a descriptor is fetched; why it cannot be.
    fn fetch(
        &mut self,
        address: OnionAddress,
        content: Option<&Content>,
        now: Now,
    ) -> Option<VisitError> {
        let identity = *address.key().as_bytes();
        let ring = self.ring.as_ref()?;
        if self.fetches.contains_key(&identity) {
            return None;
        }
        match Fetch::begin(address, ring, &mut self.shared, now) {
            Some(fetch) => {
                self.fetches.insert(identity, fetch);
                None
            }
            None => Some(match content {
                Some(Content::Locked(error)) => *error,
                _ if ring.is_empty() => VisitError::NoPath,
                _ => VisitError::DescriptorNotFound,
            }),
        }
    }

    /// Tells those who wait for a fetch how it ended.
    fn handle_fetch(&mut self, identity: [u8; 32], progress: Progress, now: Now) {
        if progress == Progress::Waits {
            return;
        }
        self.fetches.remove(&identity);
        let waiting: Vec<_> = self
            .visits
            .iter()
            .filter(|(_, visit)| visit.wants_descriptor())
            .filter(|(_, visit)| *visit.address.key().as_bytes() == identity)
            .map(|(id, visit)| (*id, visit.address))
            .collect();
        for (visit, address) in waiting {
            let content = self.ring.as_ref().and_then(|ring| {
                let blinded = address.blind(ring.period());
                self.shared.cache.lookup(blinded.as_bytes(), now.mono)
            });
            let opened = match &content {
                Some(Content::Open(opened)) => Some(opened.as_ref()),
                _ => None,
            };
            match (progress, &content) {
                (Progress::Arrived, Some(Content::Locked(error))) => {
                    self.descriptor_failed(visit, *error, false, now);
                }
                (Progress::Failed(error), _) => {
                    self.descriptor_failed(visit, error, opened.is_some(), now);
                }
                _ => {
                    if let Some(known) = self.visits.get_mut(&visit) {
                        known.descriptor_arrived(opened, &mut self.shared, now);
                    }
                }
            }
            self.settle(visit, now);
        }
    }

    fn descriptor_failed(&mut self, visit: VisitId, error: VisitError, is_open: bool, now: Now) {
        if let Some(known) = self.visits.get_mut(&visit)
            && let Need::End(error) = known.descriptor_failed(error, is_open)
        {
            self.fail(visit, error, now);
        }
    }

    fn settle_or_lose(&mut self, visit: VisitId, is_over: bool, now: Now) {
        if is_over {
            self.end(visit, now);
            self.outcomes.push_back(Outcome::Lost { visit });
        } else {
            self.settle(visit, now);
        }
    }

    fn fail(&mut self, visit: VisitId, error: VisitError, now: Now) {
        self.end(visit, now);
        self.outcomes.push_back(Outcome::Failed { visit, error });
    }

    /// Ends a visit, and the fetch that nobody else waits for.
    fn end(&mut self, visit: VisitId, now: Now) {
        let Some(mut ended) = self.visits.remove(&visit) else {
            return;
        };
        ended.close(&mut self.shared, now);
        let is_wanted = self
            .visits
            .values()
            .any(|other| other.address == ended.address && other.wants_descriptor());
        if !is_wanted && let Some(fetch) = self.fetches.remove(ended.address.key().as_bytes()) {
            fetch.abort(&mut self.shared);
        }
    }

    /// Makes room: ends the ready visit that is idle for longest. Whether there was one.
    fn end_idle(&mut self, now: Now) -> bool {
        let idle = self.visits.iter().filter_map(|(id, visit)| {
            let since = visit.rendezvous.idle_since()?;
            Some((since, *id))
        });
        let Some((_, visit)) = idle.min() else {
            return false;
        };
        self.settle_or_lose(visit, true, now);
        true
    }

    fn set_idle_since(&mut self, visit: VisitId, since: Option<Instant>) {
        if let Some(known) = self.visits.get_mut(&visit) {
            known.rendezvous.set_idle_since(since);
        }
    }

    /// Another key reads another descriptor, which may be fetched at once.
    fn forget_descriptor(&mut self, address: &OnionAddress) {
        if let Some(ring) = &self.ring {
            let blinded = *address.blind(ring.period()).as_bytes();
            self.shared.cache.remove(&blinded);
            self.shared.asked.forget(blinded);
        }
    }
}
