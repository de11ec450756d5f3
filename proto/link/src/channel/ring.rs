//! The queue of a circuit: a ring of whole cells with the time each came, and the pool that lends
//! rings to circuits which have something queued.
//!
//! A ring that runs empty goes back, so that the thousands of idle circuits of a channel hold no
//! memory, and the next busy one finds a ring that has grown already. What the pool keeps is
//! bounded, and it counts the memory of all its rings, those that are lent included.

use std::collections::VecDeque;
use std::time::Duration;

use cepa_wire::cell::{CELL_LEN, CellBuf};

/// Most cells of room that a pool keeps, over all its rings: about 260 KB a channel.
const POOL_CELLS_MAX: usize = 512;
/// Room of a new ring: a circuit whose answer nobody reads holds one cell.
const RING_CELLS_MIN: usize = 1;

/// A cell, and the milliseconds from the opening of the channel to its arrival here (49 days).
struct Queued {
    cell: CellBuf,
    at_ms: u32,
}

/// Cells in the order in which they came.
pub(super) struct Ring {
    cells: VecDeque<Queued>,
}

impl Ring {
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    fn push(&mut self, cell: &CellBuf, since_opened: Duration) {
        let at_ms = u32::try_from(since_opened.as_millis()).unwrap_or(u32::MAX);
        self.cells.push_back(Queued { cell: *cell, at_ms });
    }

    /// Appends the first cell to `out`; false if there is none.
    pub(super) fn pop_into(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(queued) = self.cells.front() else {
            return false;
        };
        out.extend_from_slice(&queued.cell);
        self.cells.pop_front();
        true
    }

    /// When the first cell came, as time since the opening of the channel.
    pub(super) fn oldest(&self) -> Option<Duration> {
        self.cells
            .front()
            .map(|queued| Duration::from_millis(u64::from(queued.at_ms)))
    }

    fn room_cells(&self) -> usize {
        self.cells.capacity()
    }
}

/// Rings that no circuit uses now, and how much memory there is in all.
#[derive(Default)]
pub(super) struct Pool {
    rings: Vec<Ring>,
    /// Room of those that are not lent.
    room_cells: usize,
    /// Room of those that are.
    lent_cells: usize,
}

impl Pool {
    /// An empty ring, the one used last if there is any.
    pub(super) fn take(&mut self) -> Ring {
        let ring = match self.rings.pop() {
            Some(ring) => {
                self.room_cells -= ring.room_cells();
                ring
            }
            None => Ring {
                cells: VecDeque::with_capacity(RING_CELLS_MIN),
            },
        };
        self.lent_cells += ring.room_cells();
        ring
    }

    /// Puts a copy of a cell behind those of a ring that was lent.
    pub(super) fn push(&mut self, ring: &mut Ring, cell: &CellBuf, since_opened: Duration) {
        let before = ring.room_cells();
        ring.push(cell, since_opened);
        self.lent_cells += ring.room_cells() - before;
    }

    /// Takes a ring back, or frees it when the pool has room enough.
    pub(super) fn put(&mut self, mut ring: Ring) {
        ring.cells.clear();
        self.lent_cells -= ring.room_cells();
        if self.room_cells + ring.room_cells() > POOL_CELLS_MAX {
            return;
        }
        self.room_cells += ring.room_cells();
        self.rings.push(ring);
    }

    /// Frees the rings that are not lent.
    pub(super) fn trim(&mut self) {
        self.rings = Vec::new();
        self.room_cells = 0;
    }

    /// Memory of all rings.
    pub(super) fn bytes(&self) -> usize {
        (self.room_cells + self.lent_cells) * size_of::<Queued>()
    }
}

const _: () = assert!(size_of::<Queued>() == CELL_LEN.next_multiple_of(4) + 4);
