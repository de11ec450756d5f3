//! What happens to a client, as types, for whoever listens.
//!
//! ```text
//! machines ─tell─▶ Listener (bounded) ─Command::Events─▶ shell ─poll_status_event─▶ viewers
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
use cepa_crypto::onion::OnionAddress;
use cepa_wire::Now;
use cepa_wire::end::EndReason;
use cepa_wire::host::Host;
use cepa_wire::socks::SocksStatus;

use super::{
    BuildTimesStatus, CircuitPurpose, CircuitStatus, ConsensusStatus, LinkStatus, StreamStatus,
    Traffic,
};
use crate::names::{CircuitId, RequestId};
use crate::plane::{CircuitCarried, CircuitClose, StreamCarried};
use crate::select::guards::GuardChange;
use crate::status::bootstrap::BootstrapStatus;

/// Events that wait at most.
pub const EVENTS_MAX: usize = 4096;
/// How often what links have carried is told.
const BANDWIDTH_EVERY: Duration = Duration::from_secs(1);

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Something happened to a circuit.
    Circuit {
        /// What happened.
        change: CircuitChange,
        /// The circuit as it stands since then, or as it stood last.
        circuit: Box<CircuitStatus>,
    },
    /// Something happened to a stream of an application.
    Stream {
        /// What happened.
        change: StreamChange,
        /// The stream as it stands since then, or as it stood last.
        stream: Box<StreamStatus>,
    },
    /// Something happened to a link.
    Link {
        /// What happened.
        change: LinkChange,
        /// The link as it stands since then, or as it stood last.
        link: Box<LinkStatus>,
    },
    /// Something happened to a guard.
    Guard {
        /// What happened.
        change: GuardChange,
        /// The guard's RSA identity.
        guard: RsaId,
        /// Its nickname; may be empty.
        nickname: String,
    },
    /// Bytes that links have carried in about a second.
    Bandwidth(Traffic),
    /// What a circuit has carried since that was last told.
    CircuitCarried {
        /// The circuit.
        circuit: CircuitId,
        /// What it has carried.
        carried: CircuitCarried,
    },
    /// What a stream has carried since that was last told.
    StreamCarried {
        /// The stream.
        stream: RequestId,
        /// What it has carried.
        carried: StreamCarried,
    },
    /// Circuits may take another time than before.
    BuildTimes {
        /// Why they may.
        change: BuildTimesChange,
        /// How long they may take now.
        times: BuildTimesStatus,
    },
    /// Something happened to a descriptor of an onion service, on its way from or to a directory.
    OnionDescriptor {
        /// What happened.
        change: DescriptorChange,
        /// Which way it goes, and from or to whom.
        transfer: Box<DescriptorTransfer>,
    },
    /// Another consensus is in force.
    Consensus(ConsensusStatus),
    /// So many microdescriptors of relays came.
    Descriptors(usize),
    /// The server descriptors of these relays came.
    ServerDescriptors(Vec<RsaId>),
    /// The client is further than before.
    Bootstrap(BootstrapStatus),
    /// A name was looked up, or a connection to it has shown its address.
    AddressMap {
        /// The name, or the address that was looked up.
        name: Host,
        /// The address of the name, or the name of the address.
        address: Host,
        /// For how many seconds the answer may be believed.
        ttl_secs: u32,
    },
    /// The network has fallen silent (false), or is heard again (true).
    Liveness(bool),
    /// The clock is wrong, as a directory that was known beforehand has it.
    ClockSkew {
        /// Seconds by which the directory is ahead of us.
        secs: i64,
        /// The directory's RSA identity.
        relay: RsaId,
    },
    /// So many events were dropped here, since they were not taken in time.
    Missed(u64),
}

/// What happened to a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitChange {
    /// The circuit is begun.
    Launched,
    /// One more hop stands.
    Extended,
    /// The circuit is built, and waits for what becomes of better guards.
    GuardWait,
    /// All hops stand, and the circuit may be used.
    Built,
    /// The circuit is for something else now than for this.
    Purpose(CircuitPurpose),
    /// The circuit ended before it was built.
    Failed(CircuitEnd),
    /// The circuit ended after it was built.
    Closed(CircuitEnd),
}

/// Why a circuit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitEnd {
    /// Somebody else's doing, or for want of room.
    Plane(CircuitClose),
    /// The circuit was used and is of no more use, or was of none for too long.
    Finished,
    /// The circuit was not built in time.
    Timeout,
    /// The circuit was late, and was built only to learn how long that takes.
    Measured,
    /// There was no link to the first hop, or none could be opened.
    NoLink,
    /// A better guard can be had, or the circuit's guard is none of ours any more.
    Unwanted,
    /// The relay at the other end of the link did not answer.
    Silent,
    /// The circuit made room for another.
    Room,
}

/// What happened to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamChange {
    /// An application asks for the stream.
    New,
    /// The stream leads elsewhere than was asked for, since that address stands for another.
    Mapped,
    /// The stream waits for a controller to attach it.
    Left,
    /// The far end of the circuit was asked.
    Asked,
    /// The exit has connected to this address.
    Remapped(IpAddr),
    /// The stream is open.
    Succeeded,
    /// The stream has lost this circuit, and is to have another.
    Detached(CircuitId, StreamEnd),
    /// The stream ended before it was open.
    Failed(StreamEnd),
    /// The stream ended, or the look-up has its answer.
    Closed(StreamEnd),
}

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// The far end said so; or its circuit broke (`DESTROY`).
    Peer(EndReason),
    /// We ended the stream, or the application did.
    Ours(EndReason),
    /// The stream could not be, and this is what the application hears.
    Refused(SocksStatus),
    /// A controller wanted the stream on a circuit on which it cannot be.
    CannotAttach,
}

/// What happened to a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkChange {
    /// The link is being opened.
    Launched,
    /// The link stands.
    Connected,
    /// The link could not be opened.
    Failed,
    /// The link ended.
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

/// A descriptor of an onion service on its way from a directory, or to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescriptorTransfer {
    /// The service.
    pub address: Option<OnionAddress>,
    /// The directory.
    pub hsdir: Option<RsaId>,
    /// Whether it is an upload, of a service of ours.
    pub is_upload: bool,
    /// The blinded key, by which directories know it, once that is known.
    pub blinded: Option<[u8; 32]>,
    /// The descriptor, once it is there.
    pub text: String,
}

/// What became of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DescriptorChange {
    /// The directory is asked for it, or offered it.
    Asked,
    /// It was received, or taken.
    Done,
    /// Neither.
    Failed(DescriptorFailure),
}

/// Why a descriptor was not received, or not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DescriptorFailure {
    /// The directory does not have it.
    NotFound,
    /// The directory does not take it.
    Rejected,
    /// It is not what was asked for.
    Bad,
    /// No answer came.
    Broken,
}

/// Why circuits may take another time than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildTimesChange {
    /// The time-out was computed of what circuits took.
    Computed,
    /// Most circuits were late: the time is learnt anew.
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

    /// Tells what a stream has carried, if anything.
    pub(crate) fn tell_stream_carried(&mut self, id: RequestId, carried: Option<StreamCarried>) {
        if let Some(carried) = carried {
            self.tell(|| Event::StreamCarried {
                stream: id,
                carried,
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

    /// Tells what was carried, if that is due: what circuits and streams have carried is then, too.
    pub(crate) fn handle_timeout(&mut self, traffic: Traffic, now: Now) -> bool {
        if self.bandwidth_at.is_none_or(|at| at > now.mono) {
            return false;
        }
        self.bandwidth_at = Some(now.mono + BANDWIDTH_EVERY);
        let before = std::mem::replace(&mut self.told, traffic);
        self.tell(|| {
            Event::Bandwidth(Traffic {
                read_bytes: traffic.read_bytes.saturating_sub(before.read_bytes),
                written_bytes: traffic.written_bytes.saturating_sub(before.written_bytes),
            })
        });
        true
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
