//! Onion services, visited and hosted (rend-spec-v3).
//!
//! ```text
//! SOCKS ─▶ Visits ─┐                                    ┌─▶ pool, paths (circuits)
//!                  ├─ Action ─▶ client/onion_circuits ──┼─▶ plane (messages, joined layers)
//! Services ────────┘ ◀─ Event ──────────────────────────┴─▶ directory requests
//! ```
//!
//! Both are machines without circuits of their own: they name circuits, say what each is for, and
//! are told what became of it. So a simulation can run them without a cell.

mod action;
pub(crate) mod circuits;
pub mod services;
mod visits;

pub use action::{Action, CircuitName, Ending, Event, LastHop, Owner, Purpose};
pub use visits::{CLIENT_KEYS_MAX, Outcome, VISITS_MAX, VisitError, VisitId, Visits};
