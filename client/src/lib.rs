//! The client's core: bootstrap, guards, paths, circuits and the streams of applications
//! (path-spec, guard-spec, dir-spec 5).
//!
//! [`Client`] owns the data plane ([`plane`]) and the control of it; the shell drives both by the
//! same object. No I/O: effects are [`Command`]s, time and randomness come from outside.

pub mod by_hand;
mod circuits;
pub mod client;
pub mod command;
pub mod config;
mod context;
mod directory;
#[cfg(test)]
mod drawn;
pub mod isolation;
mod names;
pub mod onion;
pub mod overrides;
pub mod plane;
mod select;
pub mod status;
mod streams;

pub use client::{Client, HsDescriptors};
pub use command::{Command, Saved, SavedState};
pub use config::{ClientConfig, Directory, PaddingLevel, PaddingLevelError};
pub use directory::Descriptors;
pub use isolation::{Isolation, IsolationRules, Protocol};
pub use names::{CircuitId, FetchId, LinkId, RequestId};
pub use overrides::Overrides;
pub use select::paths::LinkTarget;
pub use select::rules::{GeoIp, RelayPattern, RelaySet, Rules};
pub use select::vanguards::VanguardMode;
pub use select::{guards, paths, reach, rules, vanguards};
pub use status::bootstrap::{self, BootstrapStatus, Phase};
pub use streams::request::EARLY_BYTES_MAX;
pub use streams::{address_map, automap, virtual_nets};
