//! A role as controllers see it: what is asked of it where not every role answers the same.

use std::collections::BTreeSet;

use cepa_control::{Command as Order, EventKind, Refusal, Reply, Signal};
use cepa_dir::netview::NetworkView;
use cepa_torrc::settings::Empty;

use super::{Changed, Conf, ConfError, ConnectionId, Desk};
use crate::config::GeoIpFiles;
use crate::config::written::Written;
use crate::error::Failure;

/// What becomes of the process after a controller was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goes {
    /// It goes on.
    On,
    /// It goes on with its configuration read again.
    Reload,
    /// It is to stop.
    Away,
}

/// A key of GETINFO: its name, which may end with `*` for any rest, and what `info/names` says.
pub(crate) type Key = (&'static str, &'static str);

/// What is told of a process.
pub(crate) struct Process<'a> {
    /// Its configuration.
    pub(crate) written: &'a Written,
    /// Bytes of memory that it may hold.
    pub(crate) max_memory: usize,
    /// Bytes that it has read and written on links.
    pub(crate) moved: (u64, u64),
}

/// A role that controllers drive.
pub(crate) trait Driven {
    /// The events that happen here, for `events/names`.
    const EVENTS: &'static [EventKind];
    /// The signals that are acted upon, for `signal/names`.
    const SIGNALS: &'static [Signal];
    /// The keys that this role answers beside those of every role.
    const KEYS: &'static [Key];

    /// The events that happen in another role of the process.
    fn more_events(&self) -> &'static [EventKind] {
        &[]
    }
    /// The keys that another role of the process answers.
    fn more_keys(&self) -> &[Key] {
        &[]
    }

    /// Who is connected.
    fn desk(&self) -> &Desk;
    /// The same, to be changed.
    fn desk_mut(&mut self) -> &mut Desk;
    /// The options as they stand.
    fn conf(&self) -> &Conf;
    /// The same, to be changed.
    fn conf_mut(&mut self) -> &mut Conf;

    /// Other options, by the way of a reload.
    fn changed(&self, changes: &[(String, String)], empty: Empty) -> Result<Changed, ConfError>;
    /// The options that a text sets.
    fn loaded(&self, text: &str) -> Result<Changed, ConfError>;
    /// Has another configuration take effect, or leaves all as it was.
    fn put(&mut self, changed: &Changed) -> Result<(), Failure>;

    /// The value of one of this role's keys.
    fn info(&mut self, from: ConnectionId, key: &str) -> Result<String, Refusal>;
    /// Looks at the network as it is known, if it is.
    fn with_view<T>(&self, look: impl FnOnce(Option<&NetworkView>) -> T) -> T;
    /// The texts of microdescriptors by their SHA-256, one behind the other.
    fn microdescs(&mut self, digests: &[[u8; 32]]) -> String;
    /// The files that say which country an address is in.
    fn geoip_files(&self) -> GeoIpFiles {
        GeoIpFiles::default()
    }
    /// What is told of the process: for keys of every role.
    fn process(&self) -> Process<'_>;
    /// A command that not every role has.
    fn obey(&mut self, from: ConnectionId, order: &Order) -> Result<Reply, Refusal> {
        let _ = from;
        Err(Refusal::Command(order.name().name().to_owned()))
    }
    /// Does what a signal asks of the role beside stopping and reading the configuration again.
    fn signal(&mut self, signal: Signal);
    /// Other events are wanted than before.
    fn wanted(&mut self, events: &BTreeSet<EventKind>) {
        let _ = events;
    }
    /// A controller is gone.
    fn part_with(&mut self, from: ConnectionId) {
        let _ = from;
    }
}
