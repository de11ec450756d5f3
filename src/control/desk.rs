//! Who is connected to a control port, and what each is told; the same for every role.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cepa_client::GeoIp;
use cepa_control::event::LogLevel;
use cepa_control::{Event, EventKind};
use cepa_crypto::{Rng, digest};
use tokio::sync::mpsc;
use tracing::Level;

use super::{ConnectionId, ControlPort, Outbox, Said};
use crate::clock;
use crate::config::GeoIpFiles;
use crate::config::control::ControlConfig;
use crate::error::Failure;

/// How long the last replies may take to be sent when the process is to stop.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// Seconds of which `bw-event-cache` tells the bytes.
const BANDWIDTHS_MAX: usize = 600;

/// A controller.
struct Connected {
    outbox: Arc<Outbox>,
    events: BTreeSet<EventKind>,
    /// The process ends with it.
    is_owner: bool,
}

/// What is known of controllers.
pub(crate) struct Desk {
    connections: BTreeMap<ConnectionId, Connected>,
    /// Where controllers are listened to.
    pub(super) listeners: Vec<String>,
    pub(super) started: Instant,
    /// Bytes read and written, a pair a second, the latest last.
    bandwidths: VecDeque<(u64, u64)>,
    /// The entries of the last consensus that was told, by their SHA-256.
    listed: BTreeSet<[u8; 32]>,
    /// Which country an address is in, once somebody has asked.
    countries: Option<Arc<GeoIp>>,
    /// Where events go if another role of the process has the controllers.
    passed_on: Option<mpsc::Sender<Event>>,
}

/// What a line of the log is to controllers, as in `tor`'s style of the log.
const LOG_LEVELS: [(Level, LogLevel); 5] = [
    (Level::ERROR, LogLevel::Err),
    (Level::WARN, LogLevel::Warn),
    (Level::INFO, LogLevel::Notice),
    (Level::DEBUG, LogLevel::Info),
    (Level::TRACE, LogLevel::Debug),
];

/// The entries of relays one by one: each begins with a line `r`.
fn entries_of(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = rest.find("\nr ").map_or(rest.len(), |end| end + 1);
        let (entry, behind) = rest.split_at(end);
        rest = behind;
        (!entry.is_empty()).then_some(entry)
    })
}

/// How much of the log is to be heard for these events.
pub(super) fn log_level(wanted: &BTreeSet<EventKind>) -> Option<Level> {
    let is_wanted = |level: LogLevel| {
        let message = String::new();
        wanted.contains(&Event::Log { level, message }.kind())
    };
    let mut levels = LOG_LEVELS.iter().rev();
    let found = levels.find(|(_, level)| is_wanted(*level));
    found.map(|(level, _)| *level)
}

impl Desk {
    /// Opens the control port, if there is to be one, and serves it: what is said comes out of the
    /// queue. Must be called within a runtime.
    pub(crate) async fn open(
        control: Option<&ControlConfig>,
        rng: Rng,
    ) -> Result<(Self, Option<mpsc::Receiver<Said>>), Failure> {
        let mut desk = Desk {
            connections: BTreeMap::new(),
            listeners: Vec::new(),
            started: clock::now().mono,
            bandwidths: VecDeque::new(),
            listed: BTreeSet::new(),
            countries: None,
            passed_on: None,
        };
        let Some(control) = control else {
            return Ok((desk, None));
        };
        let port = ControlPort::open(control, rng).await?;
        desk.listeners = port.places();
        Ok((desk, Some(port.serve())))
    }

    /// Has another role of the process, which has the controllers, tell what happens here.
    pub(crate) fn pass_on(&mut self, events: mpsc::Sender<Event>) {
        self.passed_on = Some(events);
    }

    /// A controller has proved who it is.
    pub(super) fn welcome(&mut self, id: ConnectionId, outbox: Arc<Outbox>) {
        let connected = Connected {
            outbox,
            events: BTreeSet::new(),
            is_owner: false,
        };
        self.connections.insert(id, connected);
    }

    /// A controller is gone; whether the process was its.
    pub(super) fn dismiss(&mut self, id: ConnectionId) -> bool {
        let gone = self.connections.remove(&id);
        gone.is_some_and(|connected| connected.is_owner)
    }

    /// A controller owns the process from now on, or not.
    pub(super) fn set_owner(&mut self, id: ConnectionId, is_owner: bool) {
        if let Some(connected) = self.connections.get_mut(&id) {
            connected.is_owner = is_owner;
        }
    }

    /// A controller wants these events, and no others.
    pub(super) fn set_events(&mut self, id: ConnectionId, events: &[EventKind]) {
        if let Some(connected) = self.connections.get_mut(&id) {
            connected.events = events.iter().copied().collect();
        }
    }

    /// Sends a reply.
    pub(super) fn answer(&self, id: ConnectionId, reply: Vec<u8>) {
        if let Some(connected) = self.connections.get(&id) {
            connected.outbox.push_reply(reply);
        }
    }

    /// Tells an event to those who asked for it. One who does not read is told no more.
    pub(crate) fn tell(&mut self, event: &Event) {
        if let Event::Bandwidth { read, written } = event {
            self.bandwidths.push_back((*read, *written));
            let superfluous = self.bandwidths.len().saturating_sub(BANDWIDTHS_MAX);
            self.bandwidths.drain(..superfluous);
        }
        if *event == Event::ConfChanged(Vec::new()) {
            return;
        }
        if let Some(events) = &self.passed_on {
            // Where nobody takes them up, there is nobody to be told.
            let _ = events.try_send(event.clone());
        }
        if let Event::NewConsensus(entries) = event {
            self.tell_changed(entries);
        }
        let kind = event.kind();
        let mut bytes = None;
        for (id, connected) in &mut self.connections {
            if !connected.events.contains(&kind) {
                continue;
            }
            let bytes = bytes.get_or_insert_with(|| event.encode());
            if !connected.outbox.push_event(bytes) {
                connected.events.clear();
                tracing::warn!(
                    controller = id.0,
                    "a controller does not read its events, and is told no more of them"
                );
            }
        }
    }

    /// Tells which entries the consensus before had not (NS).
    fn tell_changed(&mut self, entries: &str) {
        let (mut listed, mut changed) = (BTreeSet::new(), String::new());
        for entry in entries_of(entries) {
            let digest = digest::sha256(entry.as_bytes());
            if !self.listed.contains(&digest) {
                changed.push_str(entry);
            }
            listed.insert(digest);
        }
        let is_first = std::mem::replace(&mut self.listed, listed).is_empty();
        if !is_first && !changed.is_empty() {
            self.tell(&Event::NetworkStatus(changed));
        }
    }

    /// Tells lines of the log.
    pub(crate) fn tell_log(&mut self, lines: Vec<(Level, String)>) {
        for (of, message) in lines {
            let known = LOG_LEVELS.iter().find(|(level, _)| *level == of);
            if let Some((_, level)) = known {
                let level = *level;
                self.tell(&Event::Log { level, message });
            }
        }
    }

    /// The events that somebody wants.
    pub(crate) fn wanted(&self) -> BTreeSet<EventKind> {
        let connections = self.connections.values();
        connections.flat_map(|one| &one.events).copied().collect()
    }

    /// The bytes of the last seconds, as `bw-event-cache` tells them.
    pub(super) fn bandwidths(&self) -> String {
        let pairs = self.bandwidths.iter();
        let pairs = pairs.map(|(read, written)| format!("{read},{written}"));
        pairs.collect::<Vec<_>>().join(" ")
    }

    /// Which country an address is in, by these files; read once.
    pub(crate) fn countries(&mut self, files: &GeoIpFiles) -> Arc<GeoIp> {
        let read = || Arc::new(files.countries());
        Arc::clone(self.countries.get_or_insert_with(read))
    }

    /// Waits, within reason, until everything is sent.
    pub(crate) async fn flushed(&self) {
        for connected in self.connections.values() {
            let flushed = connected.outbox.flushed();
            let _ = tokio::time::timeout(FLUSH_TIMEOUT, flushed).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_cut_where_they_begin() {
        let text = "r a b\ns Fast\nr c d\ns\n";
        let entries: Vec<_> = entries_of(text).collect();
        assert_eq!(entries, ["r a b\ns Fast\n", "r c d\ns\n"]);
        assert_eq!(entries_of("").count(), 0);
    }

    #[test]
    fn as_much_of_the_log_is_heard_as_somebody_wants() {
        let level = |kinds: &[EventKind]| log_level(&kinds.iter().copied().collect());
        assert_eq!(level(&[EventKind::Bw]), None);
        assert_eq!(level(&[EventKind::Err]), Some(Level::ERROR));
        assert_eq!(
            level(&[EventKind::Notice, EventKind::Err]),
            Some(Level::INFO)
        );
        assert_eq!(level(&[EventKind::Debug]), Some(Level::TRACE));
    }
}
