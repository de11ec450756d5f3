//! What the plane holds, and which circuits go when that is too much (`MaxMemInQueues` of `tor`).
//!
//! A peer can fill a window for each stream that its application does not read: a visitor's of a
//! service, which opens many, and an exit's. Past the limit, the circuits whose oldest byte has
//! waited longest are closed in one pass, until a tenth is free; and while what stands is too much,
//! no stream of a visitor is taken.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Instant;

use cepa_circuit::StreamKey;
use cepa_limits::memory::{Memory, MemoryClass, MemoryShare, default_max_bytes};
use cepa_wire::Now;
use tracing::warn;

use super::{CircuitClose, Plane};

/// What a circuit costs besides its queue: the layers of its hops, most of all.
const CIRCUIT_BYTES: usize = 8 * 1024;
/// What a stream costs besides what waits for its socket: its state, its task and its buffer.
const STREAM_BYTES: usize = 20 * 1024;

/// What the plane tells of its memory.
#[derive(Debug)]
pub(super) struct Ledger {
    share: MemoryShare,
    /// Bytes that wait for applications.
    inbound_bytes: usize,
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger {
            share: MemoryShare::new(Memory::new(default_max_bytes(None))),
            inbound_bytes: 0,
        }
    }
}

impl Ledger {
    /// So many bytes came for an application.
    pub(super) fn came(&mut self, bytes: usize) {
        self.inbound_bytes += bytes;
    }

    /// So many were taken, or thrown away.
    pub(super) fn gone(&mut self, bytes: usize) {
        self.inbound_bytes = self.inbound_bytes.saturating_sub(bytes);
    }

    /// Whether a visitor may open one more stream.
    pub(super) fn takes_streams(&self) -> bool {
        self.share.memory().takes_circuits(usize::MAX)
    }
}

impl Plane {
    /// From now on no more than this is to be held, over all that share it.
    pub fn share_memory(&mut self, memory: Arc<Memory>) {
        self.ledger.share = MemoryShare::new(memory);
        self.tell_memory();
    }

    /// Tells what is held, and closes what has waited longest if that is too much.
    pub(super) fn limit_memory(&mut self, now: Now) {
        self.tell_memory();
        let memory = Arc::clone(self.ledger.share.memory());
        let Some(shortage) = memory.shortage() else {
            return;
        };
        let before = self.ledger.inbound_bytes;
        let to_free = shortage.share(self.queued());
        let waiting = self.streams.iter().filter_map(|(key, entry)| {
            let since = entry.held.since()?;
            Some(Reverse((since, key)))
        });
        let mut oldest: BinaryHeap<Reverse<(Instant, StreamKey)>> = waiting.collect();
        let mut closed = 0_u64;
        while before - self.ledger.inbound_bytes.min(before) < to_free
            && let Some(Reverse((_, key))) = oldest.pop()
        {
            closed += 1;
            self.drop_held(key, now);
        }
        if closed == 0 {
            return;
        }
        memory.note_freed(
            MemoryClass::Streams,
            before - self.ledger.inbound_bytes.min(before),
        );
        self.tell_memory();
        warn!(
            closed,
            held_bytes = memory.total_bytes(),
            max_bytes = memory.max_bytes(),
            "max_memory is passed: the circuits that have waited longest are closed"
        );
    }

    fn queued(&self) -> usize {
        let channels = self.channels.values();
        let cells: usize = channels.map(|entry| entry.channel.queue_bytes()).sum();
        cells + self.ledger.inbound_bytes
    }

    fn tell_memory(&mut self) {
        let queued = self.queued();
        let streams = self.ledger.inbound_bytes;
        let circuits = self.circuits.len() * CIRCUIT_BYTES + self.streams.len() * STREAM_BYTES;
        let share = &mut self.ledger.share;
        share.tell(MemoryClass::Cells, queued - streams);
        share.tell(MemoryClass::Streams, streams);
        share.tell(MemoryClass::Circuits, circuits);
    }

    /// Closes the circuit of a stream, and throws away what waits for its application.
    fn drop_held(&mut self, key: StreamKey, _now: Now) {
        let Some(entry) = self.streams.get_mut(key) else {
            return;
        };
        let bytes = entry.stream.discard();
        entry.held.taken(bytes);
        self.ledger.gone(bytes);
        let circuit = entry.circuit;
        self.destroy_circuit(circuit, CircuitClose::MemoryShort);
    }
}
