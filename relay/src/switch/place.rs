//! Where a circuit is: which worker has it, and its key there.
//!
//! A [`CircuitRef`] on a channel packs the owning worker, the circuit's key there, and whether that
//! channel is the circuit's previous or next one: generation 32 bits, worker 7, side 1, index 24.

use cepa_circuit::CircuitKey;
use cepa_link::CircuitRef;
use slotmap::{Key, KeyData};

/// One of the worker threads; each has one switch. Numbered from 0, below [`WORKERS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WorkerId(pub u8);

/// Most workers: what a circuit's reference on a foreign channel has bits for.
pub const WORKERS_MAX: usize = 128;

/// A circuit, and the worker that owns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitPlace {
    /// The owner.
    pub worker: WorkerId,
    /// The circuit there.
    pub circuit: CircuitKey,
}

/// Most circuits that a switch can name.
pub(super) const CIRCUITS_MAX: usize = 1 << INDEX_BITS;

const INDEX_BITS: u32 = 24;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
const SIDE_BIT: u64 = 1 << INDEX_BITS;
const WORKER_SHIFT: u32 = INDEX_BITS + 1;
const GENERATION_MASK: u64 = 0xffff_ffff << 32;

/// Which side of a circuit a channel is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Towards the client.
    Previous,
    /// Away from the client.
    Next,
}

/// A [`CircuitRef`] taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The worker that owns the circuit.
    pub(super) worker: WorkerId,
    /// The circuit's key there.
    pub(super) circuit: CircuitKey,
    /// Which of its channels this is.
    pub(super) side: Side,
}

impl Place {
    pub(super) fn pack(self) -> CircuitRef {
        let key = self.circuit.data().as_ffi();
        debug_assert!(key & 0xffff_ffff <= INDEX_MASK, "the index fits its bits");
        let side = if self.side == Side::Next { SIDE_BIT } else { 0 };
        let worker = u64::from(self.worker.0) << WORKER_SHIFT;
        CircuitRef((key & (GENERATION_MASK | INDEX_MASK)) | worker | side)
    }

    pub(super) fn unpack(CircuitRef(bits): CircuitRef) -> Place {
        let key = KeyData::from_ffi(bits & (GENERATION_MASK | INDEX_MASK));
        let side = if bits & SIDE_BIT == 0 {
            Side::Previous
        } else {
            Side::Next
        };
        let worker = WorkerId(((bits >> WORKER_SHIFT) & 0x7f) as u8);
        Place {
            worker,
            circuit: key.into(),
            side,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn references_come_back(
            index in 0_u64..1 << 24,
            generation in any::<u32>(),
            worker in 0_u8..128,
            next: bool,
        ) {
            let ffi = u64::from(generation | 1) << 32 | index;
            let side = if next { Side::Next } else { Side::Previous };
            let circuit = KeyData::from_ffi(ffi).into();
            let place = Place { worker: WorkerId(worker), circuit, side };
            prop_assert_eq!(Place::unpack(place.pack()), place);
        }
    }
}
