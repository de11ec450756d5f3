//! The visiting side of onion services (rend-spec-v3 1.2, 2, 3.2, 4).
//!
//! Signatures to come, as soon as addresses are there:
//! `Visits::new(rng, testing)`, `request(OnionAddress, &Isolation, now) -> VisitId`,
//! `circuit(visit) -> Option<CircuitName>`, `used(visit, now)` at the first stream of a circuit,
//! `idle(visit, now)` after its last, `cancel(visit, now)` when nobody waits any more,
//! `add_client_key(OnionAddress, SecretKey)`, `remove_client_key(&OnionAddress) -> bool`,
//! `forget_all()` for a new identity, `handle_event(Event, now)`, `poll_action()`, `poll_outcome()`,
//! `poll_timeout() -> Option<Instant>`, `handle_timeout(now)`.

mod outcome;

pub use outcome::{Outcome, VisitError, VisitId};
