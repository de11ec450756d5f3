//! The circuits of a channel by their ids (tor-spec 5.1.1).
//!
//! Entries sit in slots that are used again; a hash from id to slot is asked once for each cell.
//! The side that opened the link uses ids with the top bit set, the other those without it, so
//! that both can choose at random without a clash.

use std::collections::HashMap;

use cepa_crypto::rng::Rng;
use cepa_wire::cell::CircId;

use super::CircuitRef;
use super::ring::Ring;

/// Most circuits of a channel. `tor` leaves this to its limits against denial of service.
pub const CIRCUITS_MAX: usize = 65_536;
/// Random ids tried before giving up, as `tor` does; with the half empty one in four billion fails.
const ALLOCATE_TRIES: usize = 64;

/// Why the peer's circuit is not taken. The consequences are `tor`'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// The id 0 belongs to the channel: drop the cell.
    #[error("circuit id 0 cannot be a circuit's")]
    Zero,
    /// The id is of the half that is ours to choose from: answer DESTROY, PROTOCOL.
    #[error("the circuit id is of our half")]
    WrongHalf,
    /// The id is in use: drop the cell.
    #[error("the circuit id is in use")]
    InUse,
    /// The channel has [`CIRCUITS_MAX`] circuits: answer DESTROY, RESOURCELIMIT.
    #[error("the channel has too many circuits")]
    TooMany,
}

/// Why a circuit of ours gets no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// The channel has [`CIRCUITS_MAX`] circuits, or its ids are used up.
    #[error("no circuit id is free on the channel")]
    Exhausted,
}

/// Where an entry is, and which of the entries that were there in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    index: u32,
    generation: u32,
}

/// A circuit on this channel.
pub(super) struct Entry {
    pub(super) circ_id: CircId,
    pub(super) circuit: CircuitRef,
    /// Present exactly while cells are queued.
    pub(super) ring: Option<Ring>,
    /// The queue was at the high mark, and not yet at the low one since.
    pub(super) over_high: bool,
    /// Cells sent, each by its weight at the time.
    pub(super) sent_weight: f64,
    generation: u32,
}

impl Entry {
    pub(super) fn queued(&self) -> usize {
        self.ring.as_ref().map_or(0, Ring::len)
    }
}

/// All circuits of a channel.
#[derive(Default)]
pub(super) struct Circuits {
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_id: HashMap<CircId, u32, foldhash::fast::RandomState>,
    generation: u32,
    active: usize,
}

impl Circuits {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Circuits that have cells queued.
    pub(super) fn active(&self) -> usize {
        self.active
    }

    pub(super) fn became_active(&mut self) {
        self.active += 1;
    }

    pub(super) fn became_idle(&mut self) {
        self.active -= 1;
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().flatten()
    }

    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.slots.iter_mut().flatten()
    }

    pub(super) fn find(&self, id: CircId) -> Option<&Entry> {
        self.slots.get(*self.by_id.get(&id)? as usize)?.as_ref()
    }

    pub(super) fn find_mut(&mut self, id: CircId) -> Option<(Slot, &mut Entry)> {
        let index = *self.by_id.get(&id)?;
        let entry = self.slots.get_mut(index as usize)?.as_mut()?;
        Some((
            Slot {
                index,
                generation: entry.generation,
            },
            entry,
        ))
    }

    pub(super) fn entry(&self, slot: Slot) -> Option<&Entry> {
        let entry = self.slots.get(slot.index as usize)?.as_ref()?;
        (entry.generation == slot.generation).then_some(entry)
    }

    pub(super) fn entry_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        let entry = self.slots.get_mut(slot.index as usize)?.as_mut()?;
        (entry.generation == slot.generation).then_some(entry)
    }

    /// True if the entry is still there and has cells queued.
    pub(super) fn is_active(&self, slot: Slot) -> bool {
        self.entry(slot).is_some_and(|entry| entry.ring.is_some())
    }

    pub(super) fn allocate(
        &mut self,
        rng: &mut Rng,
        initiator: bool,
        circuit: CircuitRef,
    ) -> Result<CircId, AllocateError> {
        if self.len() >= CIRCUITS_MAX {
            return Err(AllocateError::Exhausted);
        }
        let half = if initiator { CircId::INITIATOR_BIT } else { 0 };
        for _ in 0..ALLOCATE_TRIES {
            let bits = u32::from_be_bytes(rng.array());
            let id = CircId(bits & !CircId::INITIATOR_BIT | half);
            if id != CircId::NONE && !self.by_id.contains_key(&id) {
                self.insert(id, circuit);
                return Ok(id);
            }
        }
        Err(AllocateError::Exhausted)
    }

    pub(super) fn accept(
        &mut self,
        id: CircId,
        initiator: bool,
        circuit: CircuitRef,
    ) -> Result<(), AcceptError> {
        if id == CircId::NONE {
            return Err(AcceptError::Zero);
        }
        if id.is_of_initiator() == initiator {
            return Err(AcceptError::WrongHalf);
        }
        if self.by_id.contains_key(&id) {
            return Err(AcceptError::InUse);
        }
        if self.len() >= CIRCUITS_MAX {
            return Err(AcceptError::TooMany);
        }
        self.insert(id, circuit);
        Ok(())
    }

    fn insert(&mut self, circ_id: CircId, circuit: CircuitRef) {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let entry = Entry {
            circ_id,
            circuit,
            ring: None,
            over_high: false,
            sent_weight: 0.0,
            generation,
        };
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(None);
                u32::try_from(self.slots.len() - 1).expect("bounded by CIRCUITS_MAX")
            }
        };
        if let Some(slot) = self.slots.get_mut(index as usize) {
            *slot = Some(entry);
            self.by_id.insert(circ_id, index);
        }
    }

    pub(super) fn remove(&mut self, id: CircId) -> Option<Entry> {
        let index = self.by_id.remove(&id)?;
        let entry = self.slots.get_mut(index as usize)?.take()?;
        self.free.push(index);
        if entry.ring.is_some() {
            self.active -= 1;
        }
        Some(entry)
    }
}
