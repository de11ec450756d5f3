//! The client's core: bootstrap, guards, paths, circuits and the streams of applications
//! (path-spec, guard-spec, dir-spec 5).
//!
//! [`Client`] owns the data plane ([`plane`]) and the control of it; the shell drives both by the
//! same object. No I/O: effects are [`Command`]s, time and randomness come from outside.

pub mod automap;
pub mod bootstrap;
mod build_times;
pub mod client;
pub mod command;
#[cfg(test)]
mod drawn;
mod fetches;
pub mod guards;
pub mod isolation;
mod links;
pub mod network;
pub mod onion;
mod onion_circuits;
mod path_bias;
pub mod paths;
pub mod plane;
mod pool;
mod requests;
pub mod rules;
pub mod status;
pub mod vanguards;

pub use bootstrap::{BootstrapStatus, Phase};
pub use client::{Client, SavedState};
pub use command::{Command, FetchId, LinkId, LinkTarget, RequestId, Saved};
pub use isolation::{Isolation, IsolationRules, Protocol};
pub use network::{ClientConfig, Directory, PaddingLevel, PaddingLevelError};
pub use requests::EARLY_BYTES_MAX;
pub use rules::{GeoIp, RelayPattern, RelaySet, Rules};
pub use vanguards::VanguardMode;
