//! What happens to a client, as types, for whoever listens.
//!
//! ```text
//! machines ─tell─▶ Listener (bounded) ─Command::Events─▶ shell ─Client::poll_status_event─▶ viewers
//! ```
//!
//! While nobody listens an event costs one branch. While somebody does, [`EVENTS_MAX`] wait at
//! most; what comes then is dropped and counted ([`Event::Missed`]). Events of one circuit, stream
//! or link come in order, each with how it stands after the change, so that the events since a
//! snapshot make the next one of it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use cepa_crypto::RsaId;
use cepa_wire::Now;
use cepa_wire::end::EndReason;
use cepa_wire::host::Host;
use cepa_wire::socks::SocksStatus;

use super::{
    BuildTimesStatus, CircuitId, CircuitPurpose, CircuitStatus, ConsensusStatus, LinkStatus,
    StreamStatus, Traffic,
};
use crate::bootstrap::BootstrapStatus;
use crate::plane::CircuitClose;

/// Events that wait at most.
pub const EVENTS_MAX: usize = 4096;
/// How often what links have carried is told.
const BANDWIDTH_EVERY: Duration = Duration::from_secs(1);

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// To a circuit.
    Circuit {
        /// What.
        change: CircuitChange,
        /// How it stands since, or stood last.
        circuit: Box<CircuitStatus>,
    },
    /// To a stream of an application.
    Stream {
        /// What.
        change: StreamChange,
        /// How it stands since, or stood last.
        stream: Box<StreamStatus>,
    },
    /// To a link.
    Link {
        /// What.
        change: LinkChange,
        /// How it stands since, or stood last.
        link: Box<LinkStatus>,
    },
    /// To a guard.
    Guard {
        /// What.
        change: GuardChange,
        /// Which.
        guard: RsaId,
        /// Its nickname; may be empty.
        nickname: String,
    },
    /// Bytes that links have carried in about a second.
    Bandwidth(Traffic),
    /// How long circuits may take.
    BuildTimes {
        /// Why that is another time now.
        change: BuildTimesChange,
        /// The times.
        times: BuildTimesStatus,
    },
    /// Another consensus is in force.
    Consensus(ConsensusStatus),
    /// So many microdescriptors of relays came.
    Descriptors(usize),
    /// The client is further than before.
    Bootstrap(BootstrapStatus),
    /// A name was looked up, or a connection to it has shown its address.
    AddressMap {
        /// The name.
        name: Host,
        /// Its address, or the name of an address.
        address: Host,
        /// For how many seconds that may be believed.
        ttl_secs: u32,
    },
    /// Whether anything comes from the network at all.
    Liveness(bool),
    /// The clock is wrong, as a directory that was known beforehand has it.
    ClockSkew {
        /// Seconds by which the directory is ahead of us.
        secs: i64,
        /// The directory.
        relay: RsaId,
    },
    /// So many events were dropped here, since they were not taken in time.
    Missed(u64),
}

/// What happened to a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitChange {
    /// It is begun.
    Launched,
    /// One more hop stands.
    Extended,
    /// It is built, and waits for what becomes of better guards.
    GuardWait,
    /// All its hops stand.
    Built,
    /// It is for something else now than for this.
    Purpose(CircuitPurpose),
    /// It ended before it was built.
    Failed(CircuitEnd),
    /// It ended.
    Closed(CircuitEnd),
}

/// Why a circuit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitEnd {
    /// Somebody else's doing, or for want of room.
    Plane(CircuitClose),
    /// It was used, and is of no more use, or was of none for too long.
    Finished,
    /// It was not built in time.
    Timeout,
    /// It was late, and built only to learn how long that takes.
    Measured,
    /// There was no link to its first hop, or none could be opened.
    NoLink,
    /// A better guard can be had, or its guard is none of ours any more.
    Unwanted,
    /// The relay of its link did not answer.
    Silent,
    /// It made room for another.
    Room,
}

/// What happened to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamChange {
    /// It is asked for.
    New,
    /// The far end of its circuit was asked.
    Asked,
    /// The exit has connected to this address.
    Remapped(IpAddr),
    /// It is open.
    Succeeded,
    /// It has lost this circuit, and is to have another.
    Detached(CircuitId, StreamEnd),
    /// It ended before it was open.
    Failed(StreamEnd),
    /// It ended.
    Closed(StreamEnd),
}

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// The far end said so; or its circuit broke (`DESTROY`).
    Peer(EndReason),
    /// We did, or the application.
    Ours(EndReason),
    /// It could not be, and that is what the application was told.
    Refused(SocksStatus),
}

/// What happened to a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkChange {
    /// It is being opened.
    Launched,
    /// It stands.
    Connected,
    /// It was not opened.
    Failed,
    /// It ended.
    Closed(LinkEnd),
}

/// Why a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEnd {
    /// No circuit used it for a while.
    Idle,
    /// Its relay did not answer.
    Silent,
    /// The connection broke, or its relay closed it.
    Broken,
}

/// What happened to a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardChange {
    /// It was drawn into the sample.
    New,
    /// It can be reached.
    Up,
    /// It cannot be reached.
    Down,
    /// It was given up.
    Dropped,
}

/// Why circuits may take another time than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildTimesChange {
    /// It was computed.
    Computed,
    /// Most circuits were late: it is learnt anew.
    Reset,
}

/// Where events wait for whoever listens.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    /// When bandwidth is told next; none while nobody listens.
    bandwidth_at: Option<Instant>,
    told: Traffic,
    events: VecDeque<Event>,
    missed: u64,
    /// The shell was asked to take them.
    has_called: bool,
}

impl Listener {
    /// Somebody listens from now on, or nobody does.
    pub(crate) fn listen(&mut self, listens: bool, traffic: Traffic, now: Now) {
        if listens == self.listens() {
            return;
        }
        *self = Listener {
            bandwidth_at: listens.then(|| now.mono + BANDWIDTH_EVERY),
            told: traffic,
            ..Listener::default()
        };
    }

    /// Whether anybody does.
    pub(crate) fn listens(&self) -> bool {
        self.bandwidth_at.is_some()
    }

    pub(crate) fn tell_stream(&mut self, change: StreamChange, stream: Option<&StreamStatus>) {
        if let Some(stream) = stream {
            self.tell(|| Event::Stream {
                change,
                stream: Box::new(stream.clone()),
            });
        }
    }

    /// Tells what `event` makes, if anybody listens.
    pub(crate) fn tell(&mut self, event: impl FnOnce() -> Event) {
        if !self.listens() {
            return;
        }
        if self.events.len() >= EVENTS_MAX {
            self.missed += 1;
            return;
        }
        if self.missed > 0 {
            self.events.push_back(Event::Missed(self.missed));
            self.missed = 0;
        }
        self.events.push_back(event());
    }

    /// Tells what was carried, if that is due.
    pub(crate) fn handle_timeout(&mut self, traffic: Traffic, now: Now) {
        if self.bandwidth_at.is_none_or(|at| at > now.mono) {
            return;
        }
        self.bandwidth_at = Some(now.mono + BANDWIDTH_EVERY);
        let before = std::mem::replace(&mut self.told, traffic);
        self.tell(|| {
            Event::Bandwidth(Traffic {
                read_bytes: traffic.read_bytes.saturating_sub(before.read_bytes),
                written_bytes: traffic.written_bytes.saturating_sub(before.written_bytes),
            })
        });
    }

    /// When that is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.bandwidth_at
    }

    /// True once when there are events to be taken.
    pub(crate) fn calls(&mut self) -> bool {
        !self.events.is_empty() && !std::mem::replace(&mut self.has_called, true)
    }

    pub(crate) fn poll(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        self.has_called = false;
        let missed = std::mem::take(&mut self.missed);
        (missed > 0).then_some(Event::Missed(missed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawn::start;

    #[test]
    fn what_is_not_taken_in_time_is_counted() {
        let (mut listener, now) = (Listener::default(), start());
        let tell = |listener: &mut Listener| listener.tell(|| Event::Liveness(true));
        tell(&mut listener);
        assert!(!listener.calls());
        listener.listen(true, Traffic::default(), now);
        for _ in 0..EVENTS_MAX + 5 {
            tell(&mut listener);
        }
        assert!(listener.calls() && !listener.calls());
        assert_eq!(listener.poll(), Some(Event::Liveness(true)));
        tell(&mut listener);
        let mut events = std::iter::from_fn(|| listener.poll());
        assert_eq!(
            events
                .by_ref()
                .take_while(|one| *one == Event::Liveness(true))
                .count(),
            EVENTS_MAX - 1
        );
        assert_eq!(events.count(), 1, "what came after the gap");
        tell(&mut listener);
        assert!(listener.calls(), "once it was all taken");
        listener.listen(false, Traffic::default(), now);
        assert_eq!(listener.poll(), None);
    }
}
