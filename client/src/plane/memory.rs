//! What the plane holds, and which circuits go when that is too much (`MaxMemInQueues` of `tor`).
//!
//! A peer can fill a window for each stream that its application does not read: a visitor's of a
//! service, which opens many, and an exit's. Past the limit, the circuits whose oldest byte has
//! waited longest are closed in one pass, until a tenth is free; and while what stands is too much,
//! no stream of a visitor is taken.

use std::cmp::Reverse;
use std::sync::Arc;

use cepa_limits::memory::{Memory, MemoryClass, MemoryShare, default_max_bytes};
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
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger {
            share: MemoryShare::new(Memory::new(default_max_bytes(None))),
        }
    }
}

impl Ledger {
    /// So many bytes are held.
    fn tell(&mut self, cells: usize, streams: usize, circuits: usize) {
        self.share.tell(MemoryClass::Cells, cells);
        self.share.tell(MemoryClass::Streams, streams);
        self.share.tell(MemoryClass::Circuits, circuits);
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
    pub(super) fn limit_memory(&mut self) {
        self.tell_memory();
        let memory = Arc::clone(self.ledger.share.memory());
        let Some(shortage) = memory.shortage() else {
            return;
        };
        let before = self.streams.inbound_bytes;
        let to_free = shortage.share(self.queued());
        let mut oldest = self.streams.waiting();
        let mut closed = 0_u64;
        while before - self.streams.inbound_bytes.min(before) < to_free
            && let Some(Reverse((_, key))) = oldest.pop()
        {
            closed += 1;
            if let Some(circuit) = self.streams.discard(key) {
                self.destroy_circuit(circuit, CircuitClose::MemoryShort);
            }
        }
        if closed == 0 {
            return;
        }
        memory.note_freed(
            MemoryClass::Streams,
            before - self.streams.inbound_bytes.min(before),
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
        self.channels.queue_bytes() + self.streams.inbound_bytes
    }

    fn tell_memory(&mut self) {
        let circuits = self.circuits.len() * CIRCUIT_BYTES;
        let standing = circuits + self.streams.by_key.len() * STREAM_BYTES;
        let cells = self.channels.queue_bytes();
        self.ledger
            .tell(cells, self.streams.inbound_bytes, standing);
    }
}
