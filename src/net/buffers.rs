//! Large buffers that all links of a thread share, one after the other.
//!
//! A link needs room for a batch only while it moves one. So it takes a buffer, and gives it back
//! as soon as nothing is left in it; what a link holds while it is idle is the rest of a cell or of
//! a TLS record, in as many bytes as that has. One whose peer does not read keeps what is unsent.

use std::cell::RefCell;

/// Room of a buffer: four full TLS records, and what they add.
pub(crate) const BUFFER_BYTES: usize = 66 * 1024;

/// Buffers that a thread keeps: one link at a time has three.
const KEPT_MAX: usize = 6;

/// A buffer that has grown beyond this is not kept.
const KEPT_BYTES_MAX: usize = 256 * 1024;

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer with room.
pub(crate) fn take() -> Vec<u8> {
    KEPT.with_borrow_mut(Vec::pop)
        .unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
}

/// Gives a buffer back, whatever it holds.
pub(crate) fn put(mut buffer: Vec<u8>) {
    let fits = (BUFFER_BYTES..=KEPT_BYTES_MAX).contains(&buffer.capacity());
    KEPT.with_borrow_mut(|kept| {
        if fits && kept.len() < KEPT_MAX {
            buffer.clear();
            kept.push(buffer);
        }
    });
}

/// Makes room behind what a link has kept.
pub(crate) fn fill(buffer: &mut Vec<u8>) {
    if buffer.capacity() < BUFFER_BYTES {
        let mut room = take();
        room.extend_from_slice(buffer);
        *buffer = room;
    }
}

/// Leaves a link no more than what it must keep, if that is little.
pub(crate) fn settle(buffer: &mut Vec<u8>) {
    if buffer.len() < BUFFER_BYTES / 2 && buffer.capacity() >= BUFFER_BYTES {
        let rest = buffer.as_slice().to_vec();
        put(std::mem::replace(buffer, rest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_link_keeps_what_is_left() {
        let mut cells = Vec::new();
        for kept in [0, 100, 5000] {
            fill(&mut cells);
            assert!(cells.capacity() - cells.len() >= BUFFER_BYTES / 2);
            cells.clear();
            cells.resize(40_000, 7);
            cells.drain(..40_000 - kept);
            settle(&mut cells);
            assert_eq!((cells.len(), cells.capacity()), (kept, kept));
        }
        let many: Vec<_> = (0..20).map(|_| take()).collect();
        many.into_iter().for_each(put);
        put(Vec::with_capacity(KEPT_BYTES_MAX + 1));
        put(Vec::new());
        assert_eq!(KEPT.with_borrow(Vec::len), KEPT_MAX);
    }
}
