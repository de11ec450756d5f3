//! What circuits and streams have carried since that was last told (control-spec 4.1.13, 4.1.22).
//!
//! Counted always, as two additions a cell, beside what it is about; told while somebody listens.
//! Cells that no honest hop would have sent are in no message: whoever watches circuits for them
//! sees the difference.

use cepa_circuit::{CircuitKey, StreamKey};

use super::Plane;

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
    fn add(&mut self, count: usize, body_bytes: usize) {
        self.count += bytes(count);
        self.body_bytes += bytes(body_bytes);
    }

    /// Bytes of bodies in so many cells, and what room there was besides.
    fn filled(&self, count: u64) -> (u64, u64) {
        let room = count * MESSAGE_BYTES;
        let delivered = self.body_bytes.min(room);
        (delivered, room - delivered)
    }
}

/// What a circuit has carried since that was last told.
#[derive(Debug, Default)]
pub(super) struct CircuitCount {
    came: Cells,
    went: Cells,
    /// Cells that were dropped before what is counted now.
    dropped: u64,
}

impl CircuitCount {
    /// A relay cell came, with so many bytes of a message for us.
    pub(super) fn came(&mut self, body_bytes: usize) {
        self.came.add(1, body_bytes);
    }

    /// So many relay cells went, with so many bytes of messages.
    pub(super) fn went(&mut self, cells: usize, body_bytes: usize) {
        self.went.add(cells, body_bytes);
    }

    /// What is to be told, if anything; `dropped` cells since the circuit was begun were nothing.
    pub(super) fn take(&mut self, dropped: u64) -> Option<CircuitCarried> {
        if self.came.count == 0 && self.went.count == 0 {
            return None;
        }
        let next = CircuitCount {
            dropped,
            ..CircuitCount::default()
        };
        let taken = std::mem::replace(self, next);
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
}

impl StreamCarried {
    /// So many bytes came for an application, and so many from it.
    pub(super) fn moved(&mut self, read: usize, written: usize) {
        self.read_bytes += bytes(read);
        self.written_bytes += bytes(written);
    }

    /// What is to be told, if anything.
    fn take(&mut self) -> Option<StreamCarried> {
        let taken = std::mem::take(self);
        (taken != StreamCarried::default()).then_some(taken)
    }
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl Plane {
    /// What a circuit has carried since the last call, if anything.
    pub(crate) fn circuit_carried(&mut self, key: CircuitKey) -> Option<CircuitCarried> {
        self.circuits.get_mut(key)?.take_carried()
    }

    /// What a stream has carried since the last call, if anything.
    pub(crate) fn stream_carried(&mut self, key: StreamKey) -> Option<StreamCarried> {
        self.streams.entry_mut(key)?.carried.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_is_in_no_message() {
        let mut carried = CircuitCount::default();
        assert_eq!(carried.take(0), None);
        carried.came(100);
        carried.came(0);
        carried.went(1, 498);
        let expected = CircuitCarried {
            read_bytes: 1018,
            written_bytes: 509,
            delivered_read_bytes: 100,
            overhead_read_bytes: 398,
            delivered_written_bytes: 498,
            overhead_written_bytes: 0,
        };
        assert_eq!(carried.take(1), Some(expected));
        assert_eq!(carried.take(1), None);
        carried.came(0);
        let told = carried.take(1).unwrap();
        assert_eq!(told.overhead_read_bytes, 498, "the one before was told");
    }

    #[test]
    fn bytes_of_streams_are_told_once() {
        let mut carried = StreamCarried::default();
        carried.moved(5, 0);
        carried.moved(0, 7);
        let told = StreamCarried {
            read_bytes: 5,
            written_bytes: 7,
        };
        assert_eq!(carried.take(), Some(told));
        assert_eq!(carried.take(), None);
    }
}
