//! An authority as controllers see it: as its relay, but that other options are taken by both.

use cepa_control::{EventKind, Refusal, Signal};
use cepa_dir::netview::NetworkView;
use cepa_torrc::settings::Empty;

use super::Running;
use crate::config::source::Source;
use crate::config::{self, AuthorityConfig};
use crate::control::{
    Changed, Conf, ConfError, ConnectionId, Desk, Driven, Goes, Heard, Key, Process, hear,
};
use crate::error::Failure;
use crate::reload::Reread;
use crate::roles::relay::Node;

impl Running {
    /// Hears a controller; whether the process goes on.
    pub(super) fn goes_on(&mut self, heard: Heard, reread: &Reread<AuthorityConfig>) -> bool {
        let goes = hear(self, heard);
        if goes == Goes::Reload {
            self.reread(reread);
        }
        goes != Goes::Away
    }
}

impl Driven for Running {
    const EVENTS: &'static [EventKind] = Node::EVENTS;
    const SIGNALS: &'static [Signal] = Node::SIGNALS;
    const KEYS: &'static [Key] = Node::KEYS;

    fn desk(&self) -> &Desk {
        self.node.desk()
    }

    fn desk_mut(&mut self) -> &mut Desk {
        self.node.desk_mut()
    }

    fn conf(&self) -> &Conf {
        self.node.conf()
    }

    fn conf_mut(&mut self) -> &mut Conf {
        self.node.conf_mut()
    }

    fn changed(&self, changes: &[(String, String)], empty: Empty) -> Result<Changed, ConfError> {
        self.node.changed(changes, empty)
    }

    fn loaded(&self, text: &str) -> Result<Changed, ConfError> {
        self.node.loaded(text)
    }

    fn put(&mut self, changed: &Changed) -> Result<(), Failure> {
        let source = Source::changed(self.node.process().written, &changed.table);
        let config = config::node::read(source)?.into_authority()?;
        self.reload(config).map(drop)
    }

    fn info(&mut self, from: ConnectionId, key: &str) -> Result<String, Refusal> {
        self.node.info(from, key)
    }

    fn with_view<T>(&self, look: impl FnOnce(Option<&NetworkView>) -> T) -> T {
        self.node.with_view(look)
    }

    fn microdescs(&mut self, digests: &[[u8; 32]]) -> String {
        self.node.microdescs(digests)
    }

    fn process(&self) -> Process<'_> {
        self.node.process()
    }

    fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::Dump | Signal::Heartbeat => self.log_status(),
            other => self.node.signal(other),
        }
    }
}
