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
use cepa_wire::cell::CircId;
use tracing::warn;

use super::channels::Channels;
use super::circuits::{Circuit, Circuits};
use super::handover::Outbox;
use super::points::Points;
use super::streams::Streams;

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
pub(super) enum Holder {
    /// A circuit that has cells queued on a channel.
    Circuit(ChannelKey, CircId, CircuitRef),
    /// A stream that has bytes for its socket.
    Stream(StreamKey),
}

/// All that holds something, the oldest on top.
type Holders = BinaryHeap<Reverse<(Instant, Holder)>>;

/// What a switch holds, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    cells: usize,
    streams: usize,
    circuits: usize,
    links: usize,
    points: usize,
}

impl Load {
    pub(super) fn of(
        channels: &Channels,
        circuits: &Circuits,
        streams: &Streams,
        points: &Points,
    ) -> Self {
        Load {
            cells: channels.queue_bytes(),
            streams: streams.inbound_bytes,
            circuits: circuits.len() * CIRCUIT_BYTES + streams.len() * STREAM_BYTES,
            links: channels.len() * LINK_BYTES,
            points: points.len() * POINT_BYTES,
        }
    }

    fn queued(self) -> usize {
        self.cells + self.streams
    }

    /// What can be freed.
    fn total(self) -> usize {
        self.queued() + self.circuits
    }
}

/// What a switch tells of its memory.
#[derive(Debug)]
pub(super) struct Ledger {
    share: MemoryShare,
    pub(super) counts: MemoryCounts,
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

    /// Tells what is held. Small moves wait until they are more.
    pub(super) fn tell(&mut self, load: Load) {
        self.share.tell(MemoryClass::Cells, load.cells);
        self.share.tell(MemoryClass::Streams, load.streams);
        self.share.tell(MemoryClass::Circuits, load.circuits);
        self.share.tell(MemoryClass::Links, load.links);
        self.share.tell(MemoryClass::Introductions, load.points);
    }

    /// What is too much over all workers; the others are asked once to free their part of it.
    pub(super) fn shortage(&mut self, outbox: &mut Outbox) -> Option<Shortage> {
        let shortage = self.share.memory().shortage();
        let Some(shortage) = shortage else {
            self.has_asked = false;
            return None;
        };
        if !std::mem::replace(&mut self.has_asked, true) {
            outbox.ask_for_memory(shortage);
        }
        Some(shortage)
    }

    /// Begins to free this switch's part; `None` if there is nothing to gain.
    pub(super) fn begin_pass(
        &self,
        shortage: Shortage,
        before: Load,
        channels: &mut Channels,
        streams: &Streams,
    ) -> Option<Pass> {
        let to_free = shortage.share(before.queued());
        if to_free == 0 || before.queued() < self.share.memory().max_bytes() / QUEUED_PART {
            return None;
        }
        channels.trim();
        let queued = channels.waiting().map(|(channel, waiting)| {
            let holder = Holder::Circuit(channel, waiting.circ_id, waiting.circuit);
            Reverse((waiting.since, holder))
        });
        let held = streams.held();
        let held = held.map(|(since, key)| Reverse((since, Holder::Stream(key))));
        let oldest: Holders = queued.chain(held).collect();
        let counts = MemoryCounts {
            passes: 1,
            considered: u64::try_from(oldest.len()).unwrap_or(u64::MAX),
            closed: 0,
        };
        Some(Pass {
            before,
            to_free,
            oldest,
            counts,
        })
    }

    /// A pass has closed what it had to, which leaves so much.
    pub(super) fn end_pass(&mut self, pass: &Pass, after: Load) {
        let Pass { before, counts, .. } = pass;
        self.counts += *counts;
        let memory = self.share.memory();
        for (class, before, after) in [
            (MemoryClass::Cells, before.cells, after.cells),
            (MemoryClass::Streams, before.streams, after.streams),
            (MemoryClass::Circuits, before.circuits, after.circuits),
        ] {
            memory.note_freed(class, before.saturating_sub(after));
        }
        self.tell(after);
        let memory = self.share.memory();
        warn!(
            closed = counts.closed,
            held_bytes = memory.total_bytes(),
            max_bytes = memory.max_bytes(),
            "max_memory is passed: the circuits that have waited longest are closed"
        );
    }
}

/// The circuits that have waited longest are closed.
pub(super) struct Pass {
    before: Load,
    to_free: usize,
    oldest: Holders,
    counts: MemoryCounts,
}

impl Pass {
    /// Who goes next, while so much is held still; `None` once enough is free.
    pub(super) fn next(&mut self, load: Load) -> Option<Holder> {
        let before = self.before.total();
        if before - load.total().min(before) >= self.to_free {
            return None;
        }
        let Reverse((_, holder)) = self.oldest.pop()?;
        self.counts.closed += 1;
        Some(holder)
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
