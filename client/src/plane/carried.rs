//! What circuits and streams have carried since that was last told (control-spec 4.1.13, 4.1.22).
//!
//! Counted always, as two additions a cell; told while somebody listens. Cells that no honest hop
//! would have sent are in no message: whoever watches circuits for them sees the difference.

use cepa_circuit::{CircuitKey, StreamKey};
use slotmap::SecondaryMap;

/// Bytes of a relay cell behind its header, as `tor` counts what a circuit reads and writes.
const CELL_BYTES: u64 = 509;
/// Bytes of them that a message may fill.
const MESSAGE_BYTES: u64 = 498;

/// What a circuit has carried, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CircuitCarried {
    /// Relay cells that came.
    pub read_bytes: u64,
    /// Relay cells that went.
    pub written_bytes: u64,
    /// Bodies of messages that came and were expected.
    pub delivered_read_bytes: u64,
    /// What the cells of those had room for besides.
    pub overhead_read_bytes: u64,
    /// Bodies of messages that went.
    pub delivered_written_bytes: u64,
    /// What the cells of those had room for besides.
    pub overhead_written_bytes: u64,
}

/// What a stream has carried, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamCarried {
    /// Bytes for the application.
    pub read_bytes: u64,
    /// Bytes of the application's.
    pub written_bytes: u64,
}

/// Cells of one direction, and the bytes of the messages in them.
#[derive(Debug, Clone, Copy, Default)]
struct Cells {
    count: u64,
    body_bytes: u64,
}

impl Cells {
    fn add(&mut self, body_bytes: usize) {
        self.count += 1;
        self.body_bytes += u64::try_from(body_bytes).unwrap_or(0);
    }

    /// Bytes of bodies in so many cells, and what room there was besides.
    fn filled(&self, count: u64) -> (u64, u64) {
        let room = count * MESSAGE_BYTES;
        let delivered = self.body_bytes.min(room);
        (delivered, room - delivered)
    }
}

#[derive(Debug, Default)]
struct Count {
    came: Cells,
    went: Cells,
    /// Cells that were dropped before what is counted now.
    dropped: u64,
}

/// What all circuits and streams of a plane have carried.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    circuits: SecondaryMap<CircuitKey, Count>,
    streams: SecondaryMap<StreamKey, StreamCarried>,
}

impl Carried {
    /// A relay cell came, with so many bytes of a message for us.
    pub(super) fn came(&mut self, circuit: CircuitKey, body_bytes: usize) {
        if let Some(count) = self.circuits.entry(circuit) {
            count.or_default().came.add(body_bytes);
        }
    }

    /// A relay cell went.
    pub(super) fn went(&mut self, circuit: CircuitKey, body_bytes: usize) {
        if let Some(count) = self.circuits.entry(circuit) {
            count.or_default().went.add(body_bytes);
        }
    }

    /// Bytes came for an application, or from it.
    pub(super) fn moved(&mut self, stream: StreamKey, read: usize, written: usize) {
        let bytes = |count: usize| u64::try_from(count).unwrap_or(0);
        if let Some(count) = self.streams.entry(stream) {
            let count = count.or_default();
            count.read_bytes += bytes(read);
            count.written_bytes += bytes(written);
        }
    }

    /// A circuit is gone.
    pub(super) fn forget_circuit(&mut self, circuit: CircuitKey) {
        self.circuits.remove(circuit);
    }

    /// What a circuit has carried since the last call, if anything; `dropped` cells since it was
    /// begun were nothing.
    pub(crate) fn take_circuit(
        &mut self,
        circuit: CircuitKey,
        dropped: u64,
    ) -> Option<CircuitCarried> {
        let count = self.circuits.get_mut(circuit)?;
        if count.came.count == 0 && count.went.count == 0 {
            return None;
        }
        let taken = std::mem::replace(
            count,
            Count {
                dropped,
                ..Count::default()
            },
        );
        let valid = taken.came.count;
        let valid = valid.saturating_sub(dropped.saturating_sub(taken.dropped));
        let (delivered_read_bytes, overhead_read_bytes) = taken.came.filled(valid);
        let (delivered_written_bytes, overhead_written_bytes) = taken.went.filled(taken.went.count);
        Some(CircuitCarried {
            read_bytes: taken.came.count * CELL_BYTES,
            written_bytes: taken.went.count * CELL_BYTES,
            delivered_read_bytes,
            overhead_read_bytes,
            delivered_written_bytes,
            overhead_written_bytes,
        })
    }

    /// What a stream has carried since the last call, if anything.
    pub(crate) fn take_stream(&mut self, stream: StreamKey) -> Option<StreamCarried> {
        self.streams.remove(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slotmap::SlotMap;

    #[test]
    fn what_was_dropped_is_in_no_message() {
        let mut keys = SlotMap::<CircuitKey, ()>::with_key();
        let circuit = keys.insert(());
        let mut carried = Carried::default();
        assert_eq!(carried.take_circuit(circuit, 0), None);
        carried.came(circuit, 100);
        carried.came(circuit, 0);
        carried.went(circuit, 498);
        let told = carried.take_circuit(circuit, 1).unwrap();
        let expected = CircuitCarried {
            read_bytes: 1018,
            written_bytes: 509,
            delivered_read_bytes: 100,
            overhead_read_bytes: 398,
            delivered_written_bytes: 498,
            overhead_written_bytes: 0,
        };
        assert_eq!(told, expected);
        assert_eq!(carried.take_circuit(circuit, 1), None);
        carried.came(circuit, 0);
        let told = carried.take_circuit(circuit, 1).unwrap();
        assert_eq!(told.overhead_read_bytes, 498, "the one before was told");
        carried.forget_circuit(circuit);
        assert_eq!(carried.take_circuit(circuit, 1), None);
    }

    #[test]
    fn bytes_of_streams_are_told_once() {
        let mut keys = SlotMap::<StreamKey, ()>::with_key();
        let stream = keys.insert(());
        let mut carried = Carried::default();
        carried.moved(stream, 5, 0);
        carried.moved(stream, 0, 7);
        let told = StreamCarried {
            read_bytes: 5,
            written_bytes: 7,
        };
        assert_eq!(carried.take_stream(stream), Some(told));
        assert_eq!(carried.take_stream(stream), None);
    }
}
