//! A directory authority (dir-spec.txt), as a core without sockets, clocks or files.
//!
//! [`Authority`] takes events (`handle_…`), gives [`Command`]s and says when it wants to be woken.
//! It accepts uploads of relays, measures whether they can be reached, keeps their history,
//! votes, computes the consensus of all votes and signs it. Everything that matters is persisted
//! as [`Row`]s, of which [`Authority::restore`] makes the same authority again.

mod authority;
pub mod bandwidth;
mod command;
pub mod compute;
mod config;
pub mod diff;
mod equivocations;
mod flags;
mod health;
mod history;
mod intake;
mod posts;
mod relays;
mod round;
pub mod rules;
pub mod schedule;
mod srv;
pub mod status;
pub mod takeover;
mod uploads;
mod vote;
mod voted;
pub mod why;

pub use authority::Authority;
pub use command::{Command, Reply, Row, RowKind};
pub use config::{
    Config, Duties, FlagTerms, Keys, METHOD_MAX, METHODS, RELAYS_MAX, default_protocols,
};
pub use intake::{VoteDoor, VoteLook, read_descriptors, read_signatures};
pub use posts::Posted;
pub use uploads::RelayUpload;
