//! Streams that we ended while the peer may not know it yet (tor-spec 6.3).
//!
//! After our END, messages that crossed it on their way still arrive: DATA within the window that
//! the stream had left, SENDMEs for what we had sent (with congestion control what may be under way
//! in place of both, and XON and XOFF), one answer if none had come, and one END,
//! after which nothing more may. They are dropped. A list holds [`HALF_CLOSED_STREAMS_MAX`] entries
//! and forgets the oldest beyond that, as a peer never confirms an END.

use std::collections::VecDeque;

use cepa_wire::relay::{RelayCommand, StreamId};

use crate::stream::{Stream, StreamState};

/// Streams of one circuit that are remembered after our END. A bound of ours: no section has one,
/// and a stream forgotten is treated as unknown, which drops its messages as well.
pub const HALF_CLOSED_STREAMS_MAX: usize = 512;

/// What a message for a stream that is not open is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// The message crossed our END on its way, and is to be dropped.
    Tolerated,
    /// No honest peer sends it; drop it, and count it.
    Unexpected,
}

#[derive(Debug)]
struct Entry {
    id: StreamId,
    data_cells: u16,
    messages: u16,
    answer: bool,
}

/// The streams of one circuit that we ended.
#[derive(Debug, Default)]
pub struct HalfClosed {
    entries: VecDeque<Entry>,
}

impl HalfClosed {
    /// Remembers a stream for which we are sending END. One that the peer ended is not remembered:
    /// nothing more can come.
    pub fn add(&mut self, stream: &Stream) {
        if matches!(stream.state(), StreamState::Ended(_)) {
            return;
        }
        if self.entries.len() >= HALF_CLOSED_STREAMS_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry {
            id: stream.id(),
            data_cells: stream.deliverable_cells(),
            messages: stream.messages_pending(),
            answer: stream.state() == StreamState::Begun,
        });
    }

    /// True if the id is still taken.
    #[must_use]
    pub fn contains(&self, id: StreamId) -> bool {
        self.entries.iter().any(|entry| entry.id == id)
    }

    /// The peer opens a stream of this id anew, and so has seen our END.
    pub fn forget(&mut self, id: StreamId) {
        self.entries.retain(|entry| entry.id != id);
    }

    /// A message came for a stream that is not open.
    pub fn handle(&mut self, id: StreamId, command: RelayCommand) -> Late {
        let Some(at) = self.entries.iter().position(|entry| entry.id == id) else {
            return Late::Unexpected;
        };
        let Some(entry) = self.entries.get_mut(at) else {
            return Late::Unexpected;
        };
        match command {
            RelayCommand::DATA if entry.data_cells > 0 => entry.data_cells -= 1,
            RelayCommand::SENDME | RelayCommand::XON | RelayCommand::XOFF if entry.messages > 0 => {
                entry.messages -= 1;
            }
            RelayCommand::CONNECTED if entry.answer => entry.answer = false,
            RelayCommand::END | RelayCommand::RESOLVED => {
                self.entries.remove(at);
            }
            _ => return Late::Unexpected,
        }
        Late::Tolerated
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::congestion::{Congestion, CongestionParams, CongestionPath};
    use crate::stream_flow::{QUEUE_MAX_CELLS, StreamSide};
    use cepa_wire::end::EndReason;

    #[test]
    fn what_was_under_way_is_tolerated_once() {
        let id = StreamId(9);
        let mut stream = Stream::begin(id);
        for _ in 0..120 {
            stream.packaged(498);
        }
        let mut half = HalfClosed::default();
        half.add(&stream);
        assert!(half.contains(id));
        let mut tolerated = |command| half.handle(id, command) == Late::Tolerated;
        assert!(tolerated(RelayCommand::CONNECTED));
        assert!(!tolerated(RelayCommand::CONNECTED));
        assert!(tolerated(RelayCommand::SENDME) && tolerated(RelayCommand::SENDME));
        assert!(!tolerated(RelayCommand::SENDME));
        assert!((0..500).all(|_| tolerated(RelayCommand::DATA)));
        assert!(!tolerated(RelayCommand::DATA));
        assert!(tolerated(RelayCommand::END));
        assert!(!tolerated(RelayCommand::END));
    }

    #[test]
    fn with_congestion_control_as_much_as_a_queue_holds_may_be_under_way() {
        let congestion = Congestion {
            params: Arc::new(CongestionParams::default()),
            sendme_inc_cells: 31,
            path: CongestionPath::Exit,
        };
        let id = StreamId(9);
        let stream = Stream::begin(id).with_congestion(Some(&congestion), StreamSide::Client);
        let mut half = HalfClosed::default();
        half.add(&stream);
        let mut tolerated = |command| half.handle(id, command) == Late::Tolerated;
        assert!(tolerated(RelayCommand::CONNECTED));
        assert!(tolerated(RelayCommand::XOFF) && tolerated(RelayCommand::XON));
        assert!((0..QUEUE_MAX_CELLS).all(|_| tolerated(RelayCommand::DATA)));
        assert!(!tolerated(RelayCommand::DATA));
        assert!(tolerated(RelayCommand::END));
        assert!(!tolerated(RelayCommand::XON));
    }

    #[test]
    fn ended_streams_are_not_kept_and_the_list_is_bounded() {
        let mut half = HalfClosed::default();
        let mut ended = Stream::begin(StreamId(1));
        ended.handle_end(EndReason::DONE);
        half.add(&ended);
        assert!(!half.contains(StreamId(1)));
        for id in 1..=2000 {
            half.add(&Stream::begin(StreamId(id)));
        }
        assert!(!half.contains(StreamId(1488)) && half.contains(StreamId(1489)));
        half.forget(StreamId(1489));
        assert!(!half.contains(StreamId(1489)) && half.contains(StreamId(1490)));
    }
}
