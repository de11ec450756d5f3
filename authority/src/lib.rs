//! A directory authority (dir-spec.txt), as a core without sockets, clocks or files.
//!
//! [`Authority`] takes events (`handle_…`), gives [`Command`]s and says when it wants to be woken.
//! It accepts uploads of relays, measures whether they can be reached, keeps their history,
//! votes, computes the consensus of all votes and signs it. Everything that matters is persisted
//! as [`Row`]s, of which [`Authority::restore`] makes the same authority again.
#![forbid(unsafe_code)]

mod command;
pub mod compute;
mod config;
pub mod schedule;

pub use command::{Command, Document, Reply, Row, RowKind};
pub use config::{Config, KnownAuthority, Keys, METHODS, RELAYS_MAX, default_protocols};
