//! The memory limit: which circuits go when too much is queued (`circuits_handle_oom` of `tor`).
//!
//! Counted are the queues of all channels and the bytes that wait for sockets. Past the limit,
//! those circuits are closed whose oldest cell, or oldest byte for a socket, has waited longest,
//! until a tenth is free: their reader is slowest, or stopped to read on purpose. That is one pass:
//! it looks once at what is queued, never at idle circuits, and as it frees a tenth of the limit,
//! the next one comes only after as much was queued anew. What a closed circuit leaves behind, two
//! DESTROYs, is some bytes until it is sent.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use cepa_circuit::StreamKey;
use cepa_link::{ChannelKey, CircuitRef};
use cepa_wire::Now;
use cepa_wire::cell::{CELL_LEN, CircId};
use cepa_wire::destroy::DestroyReason;
use tracing::warn;

use super::Switch;
use super::circuit::{Place, Side};
use super::command::{Command, Handover};

/// What the memory limit has done, ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryCounts {
    /// Times that it was passed.
    pub passes: u64,
    /// Circuits and streams whose age was looked at.
    pub considered: u64,
    /// Circuits and streams that were closed.
    pub closed: u64,
}

impl std::ops::AddAssign for MemoryCounts {
    fn add_assign(&mut self, other: Self) {
        self.passes += other.passes;
        self.considered += other.considered;
        self.closed += other.closed;
    }
}

/// Since when the bytes of a stream have waited for its socket, the oldest of them.
///
/// Two marks stand for all bytes: when the older part came, and when the first of the rest did. So
/// the age is never less than that of the oldest byte, and it moves on as the socket takes bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Held {
    bytes: usize,
    older_bytes: usize,
    since: Option<Instant>,
    rest_since: Option<Instant>,
}

impl Held {
    pub(super) fn came(&mut self, bytes: usize, now: Instant) {
        if self.since.is_none() {
            self.since = Some(now);
            self.older_bytes = bytes;
        } else {
            self.rest_since.get_or_insert(now);
        }
        self.bytes += bytes;
    }

    pub(super) fn taken(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.older_bytes = self.older_bytes.saturating_sub(bytes);
        if self.older_bytes == 0 {
            self.since = self.rest_since.take().filter(|_| self.bytes > 0);
            self.older_bytes = self.bytes;
        }
    }

    fn since(&self) -> Option<Instant> {
        self.since
    }
}

/// Who holds memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    Circuit(ChannelKey, CircId, CircuitRef),
    Stream(StreamKey),
}

impl Switch {
    pub(super) fn limit_memory(&mut self, now: Now) {
        let bytes_max = self.config.limits.queued_cells_max * CELL_LEN;
        if self.held_bytes() <= bytes_max {
            return;
        }
        self.channels.trim();
        let wanted = bytes_max - bytes_max / 10;
        if self.held_bytes() <= wanted {
            return;
        }
        let mut oldest = self.holders();
        let mut counts = MemoryCounts {
            passes: 1,
            considered: u64::try_from(oldest.len()).unwrap_or(u64::MAX),
            closed: 0,
        };
        while self.held_bytes() > wanted
            && let Some(Reverse((_, holder))) = oldest.pop()
        {
            counts.closed += 1;
            match holder {
                Holder::Circuit(channel, circ_id, circuit) => {
                    self.close_queued(channel, circ_id, circuit, now);
                    self.channels.trim_pool(channel);
                }
                Holder::Stream(stream) => self.close_held(stream, now),
            }
        }
        self.memory_counts += counts;
        warn!(
            closed = counts.closed,
            held_bytes = self.held_bytes(),
            "the memory limit was passed: circuits are closed"
        );
    }

    fn held_bytes(&self) -> usize {
        self.channels.queue_bytes() + self.inbound_bytes
    }

    /// All that holds something, the oldest on top.
    fn holders(&self) -> BinaryHeap<Reverse<(Instant, Holder)>> {
        let queued = self.channels.waiting().map(|(channel, waiting)| {
            let holder = Holder::Circuit(channel, waiting.circ_id, waiting.circuit);
            Reverse((waiting.since, holder))
        });
        let held = self.streams.iter().filter_map(|(key, edge)| {
            let since = edge.held.since()?;
            Some(Reverse((since, Holder::Stream(key))))
        });
        queued.chain(held).collect()
    }

    /// Closes a circuit that has cells queued on a channel.
    fn close_queued(
        &mut self,
        channel: ChannelKey,
        circ_id: CircId,
        circuit: CircuitRef,
        now: Now,
    ) {
        let place = Place::unpack(circuit);
        let reason = DestroyReason::RESOURCELIMIT;
        if place.worker == self.worker {
            self.destroy(place.circuit, reason, now);
        } else if self.forget(channel, circ_id) {
            debug_assert_eq!(place.side, Side::Next);
            let item = Handover::Closed {
                circuit: place.circuit,
                circ_id,
                reason,
            };
            self.hand_over(place.worker, item);
            self.send_destroy(channel, circ_id, reason);
        }
    }

    /// Closes the circuit of a stream that holds bytes for its socket, or the stream alone if that
    /// is all that is left.
    fn close_held(&mut self, key: StreamKey, now: Now) {
        let Some(edge) = self.streams.get(key) else {
            return;
        };
        if let Some(circuit) = edge.circuit {
            self.destroy(circuit, DestroyReason::RESOURCELIMIT, now);
        }
        if self.drop_edge(key).is_some() {
            self.commands
                .push_back(Command::CloseStream { stream: key });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
    fn now() -> Instant {
        Instant::now()
    }

    proptest! {
        /// Against all bytes with their times: never younger than the oldest, and never older than
        /// what came before the older part was taken.
        #[test]
        fn the_age_of_a_stream(
            ops in prop::collection::vec((any::<bool>(), 1_usize..200), 0..100),
        ) {
            let start = now();
            let (mut held, mut model) = (Held::default(), VecDeque::new());
            let mut tick = 0;
            for (comes, bytes) in ops {
                tick += 1;
                let at = start + Duration::from_secs(tick);
                if comes {
                    held.came(bytes, at);
                    model.extend(std::iter::repeat_n(at, bytes));
                } else {
                    let bytes = bytes.min(model.len());
                    held.taken(bytes);
                    model.drain(..bytes);
                }
                prop_assert_eq!(held.since().is_some(), !model.is_empty());
                if let (Some(since), Some(oldest)) = (held.since(), model.front()) {
                    prop_assert!(since <= *oldest);
                }
            }
        }

        #[test]
        fn a_socket_that_takes_all_makes_young(
            counts in prop::collection::vec(1_usize..50, 1..30),
        ) {
            let start = now();
            let mut held = Held::default();
            let mut at = start;
            held.came(10, at);
            let mut waiting = 10;
            for bytes in counts {
                at += Duration::from_secs(1);
                held.came(bytes, at);
                held.taken(waiting);
                waiting = bytes;
                prop_assert_eq!(held.since(), Some(at));
            }
        }
    }
}
