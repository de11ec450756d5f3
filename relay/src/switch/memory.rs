//! What a switch holds of the process's memory, and which circuits go when that is short
//! (`circuits_handle_oom` of `tor`).
//!
//! Past the limit, those circuits are closed whose oldest cell, or oldest byte for a socket, has
//! waited longest, until a tenth is free: their reader is slowest, or stopped to read on purpose.
//! Each worker frees its part; who notices first asks the others. That is one pass: it looks once
//! at what is queued, never at idle circuits, and as a tenth of the limit gets free, the next one
//! comes only after as much was queued anew. What a closed circuit leaves behind, two DESTROYs, is
//! some bytes until it is sent.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Instant;

use cepa_circuit::StreamKey;
use cepa_limits::{Memory, MemoryClass, MemoryShare, Shortage};
use cepa_link::{ChannelKey, CircuitRef};
use cepa_wire::Now;
use cepa_wire::cell::CircId;
use cepa_wire::destroy::DestroyReason;
use tracing::warn;

use super::Switch;
use super::circuit::{Circuit, Place, Side};
use super::command::{Command, Handover, WorkerId};

/// What a link costs besides its queues and the buffers of TLS: its state here, of TLS and of its
/// task, as measured.
pub(super) const LINK_BYTES: usize = 8 * 1024;
/// What a circuit costs besides its queues: its state, its keys, its places on two channels.
const CIRCUIT_BYTES: usize = size_of::<Circuit>() + 400;
/// What a stream costs besides what waits for its socket: its state, its task and its buffer.
const STREAM_BYTES: usize = 20 * 1024;
/// What an introduction point or a rendezvous costs besides its circuit.
const POINT_BYTES: usize = 256;
/// With less than this part of the limit queued there is nothing to gain from closing circuits.
const QUEUED_PART: usize = 128;

/// What the memory limit has done, ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
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

/// Who holds memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    Circuit(ChannelKey, CircId, CircuitRef),
    Stream(StreamKey),
}

/// What a switch tells of its memory.
#[derive(Debug)]
pub(super) struct Ledger {
    share: MemoryShare,
    counts: MemoryCounts,
    /// The other workers were asked to free their part, and enough was not free since.
    has_asked: bool,
}

impl Ledger {
    pub(super) fn new(memory: Arc<Memory>) -> Self {
        Ledger {
            share: MemoryShare::new(memory),
            counts: MemoryCounts::default(),
            has_asked: false,
        }
    }

    pub(super) fn counts(&self) -> MemoryCounts {
        self.counts
    }

    /// Whether one more circuit of a link, or stream of a circuit, is taken that has so many.
    pub(super) fn takes_circuits(&self, has: usize) -> bool {
        self.share.memory().takes_circuits(has)
    }
}

/// What a switch holds, in bytes.
#[derive(Debug, Clone, Copy)]
struct Load {
    cells: usize,
    streams: usize,
    circuits: usize,
}

impl Load {
    fn queued(self) -> usize {
        self.cells + self.streams
    }

    fn total(self) -> usize {
        self.queued() + self.circuits
    }
}

impl Switch {
    /// Tells what is held, and if that is too much over all workers, closes the circuits that have
    /// waited longest.
    pub(super) fn limit_memory(&mut self, now: Now) {
        self.tell_memory();
        let Some(shortage) = self.ledger.share.memory().shortage() else {
            self.ledger.has_asked = false;
            return;
        };
        if !std::mem::replace(&mut self.ledger.has_asked, true) {
            let others = (0..self.handover.len()).filter_map(|it| u8::try_from(it).ok());
            let own = self.worker;
            for worker in others.map(WorkerId).filter(|it| *it != own) {
                self.hand_over(worker, Handover::MemoryShort(shortage));
            }
        }
        self.free_memory(shortage, now);
    }

    fn load(&self) -> Load {
        Load {
            cells: self.channels.queue_bytes(),
            streams: self.inbound_bytes,
            circuits: self.circuits.len() * CIRCUIT_BYTES + self.streams.len() * STREAM_BYTES,
        }
    }

    /// Tells what is held. Small moves wait until they are more.
    pub(super) fn tell_memory(&mut self) {
        let load = self.load();
        let points = self.points.len() * POINT_BYTES;
        let share = &mut self.ledger.share;
        share.tell(MemoryClass::Cells, load.cells);
        share.tell(MemoryClass::Streams, load.streams);
        share.tell(MemoryClass::Circuits, load.circuits);
        share.tell(MemoryClass::Links, self.channels.len() * LINK_BYTES);
        share.tell(MemoryClass::Introductions, points);
    }

    /// Closes the circuits that have waited longest, until this switch's part of what is to be
    /// freed is free.
    pub(super) fn free_memory(&mut self, shortage: Shortage, now: Now) {
        let memory = Arc::clone(self.ledger.share.memory());
        let before = self.load();
        let to_free = shortage.share(before.queued());
        if to_free == 0 || before.queued() < memory.max_bytes() / QUEUED_PART {
            return;
        }
        self.channels.trim();
        let mut oldest = self.holders();
        let mut counts = MemoryCounts {
            passes: 1,
            considered: u64::try_from(oldest.len()).unwrap_or(u64::MAX),
            closed: 0,
        };
        while before.total() - self.load().total().min(before.total()) < to_free
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
        self.ledger.counts += counts;
        let after = self.load();
        for (class, before, after) in [
            (MemoryClass::Cells, before.cells, after.cells),
            (MemoryClass::Streams, before.streams, after.streams),
            (MemoryClass::Circuits, before.circuits, after.circuits),
        ] {
            memory.note_freed(class, before.saturating_sub(after));
        }
        self.tell_memory();
        warn!(
            closed = counts.closed,
            held_bytes = memory.total_bytes(),
            max_bytes = memory.max_bytes(),
            "max_memory is passed: the circuits that have waited longest are closed"
        );
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

/// Memory for a relay of so many links, where so many cells may wait.
#[cfg(test)]
pub(super) fn with_room_for(links: usize, cells: usize) -> Arc<Memory> {
    let standing = links * (LINK_BYTES + CIRCUIT_BYTES);
    Memory::new(standing + cells * QUEUED_CELL_BYTES)
}

/// What a cell takes that waits, and its circuit if it has no more.
#[cfg(test)]
pub(super) const QUEUED_CELL_BYTES: usize = cepa_wire::cell::CELL_LEN + 6;
#[cfg(test)]
pub(super) const CIRCUIT_WITH_CELL_BYTES: usize = CIRCUIT_BYTES + QUEUED_CELL_BYTES;
