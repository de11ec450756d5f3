//! An established link: its circuits, their queues, and what is sent next (tor-spec 5.1, 6).
//!
//! ```text
//! queue(cell) ──> ring of the circuit ──EWMA──┐
//! queue_destroy(id) ──> list of ids ─half─────┤
//! queue_control(cell) ──> control ring ─first─┴──> take_output ──> one TLS record
//! ```
//!
//! One plane owns a channel. Every queue is bounded; what a bound refuses is a named error with the
//! consequence for the owner to draw. The rings of idle circuits go back to a pool, so that in the
//! steady state no cell costs an allocation.

mod circuits;
mod ewma;
mod padding;
mod ring;

use std::collections::VecDeque;
use std::time::Instant;

use cepa_crypto::rng::Rng;
use cepa_wire::Now;
use cepa_wire::cell::{self, CellBuf, CircId, Command};
use cepa_wire::destroy::DestroyReason;

use crate::handshake::Established;
use circuits::{Circuits, Entry};
use ewma::Schedule;
use ring::Pool;

pub use circuits::{AcceptError, AllocateError, CIRCUITS_MAX};
pub use padding::{PaddingIgnored, PaddingRange};

slotmap::new_key_type! {
    /// Names a channel within its plane; a key of a closed channel finds nothing.
    pub struct ChannelKey;
}

/// Names a circuit to the owner of the channel (a key, or a worker and a key); the channel only
/// hands it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CircuitRef(pub u64);

/// From this many queued cells on, edges stop packaging for the circuit until it is reported as
/// drained.
pub const QUEUE_HIGH_CELLS: usize = 256;
/// A circuit that was at the high mark is reported as drained at this length.
pub const QUEUE_LOW_CELLS: usize = 64;
/// Longest queue of a circuit. An honest peer stays far below: windows allow 1000 cells, and the
/// slow start of congestion control 5000 (proposal 324). `tor` closes such a circuit too.
pub const QUEUE_MAX_CELLS: usize = 8192;
/// Most control cells that wait, and most refusals of circuits; a peer that provokes more without
/// reading is cut off.
pub const CONTROL_MAX_CELLS: usize = 4096;

/// Most DESTROYs of circuits that wait: as many as a channel has circuits. A peer whose circuits
/// are closed again and again, and that does not read it, is cut off.
pub const DESTROYS_MAX: usize = CIRCUITS_MAX;

/// Why a cell was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The channel has no such circuit: drop the cell.
    #[error("no circuit has that id")]
    NoCircuit,
    /// The queue is at [`QUEUE_MAX_CELLS`]: close the circuit (DESTROY, RESOURCELIMIT).
    #[error("the queue of the circuit is full")]
    Full,
}

/// [`CONTROL_MAX_CELLS`] or [`DESTROYS_MAX`] wait already: the peer does not read; close the
/// channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many control cells wait for a peer that does not read")]
pub struct ControlFull;

/// A DESTROY that waits; most are many at once, and it becomes a cell only when it is sent.
struct Destroy {
    circ_id: CircId,
    reason: DestroyReason,
    /// No circuit has had this id here.
    is_refusal: bool,
}

/// A circuit that has cells queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Since when the first of them has waited.
    pub since: Instant,
    /// The circuit's id here.
    pub circ_id: CircId,
    /// The circuit, as the channel's owner calls it.
    pub circuit: CircuitRef,
}

/// An established link.
pub struct Channel {
    link: Established,
    circuits: Circuits,
    schedule: Schedule,
    pool: Pool,
    control: VecDeque<CellBuf>,
    destroys: VecDeque<Destroy>,
    refusals: usize,
    queued_cells: usize,
    opened: Instant,
    last_sent: Instant,
    padding: padding::Padding,
}

impl Channel {
    /// A channel without circuits over a link whose handshake is done.
    #[must_use]
    pub fn new(link: Established, now: Now) -> Self {
        Channel {
            link,
            circuits: Circuits::default(),
            schedule: Schedule::new(now.mono),
            pool: Pool::default(),
            control: VecDeque::new(),
            destroys: VecDeque::new(),
            refusals: 0,
            queued_cells: 0,
            opened: now.mono,
            last_sent: now.mono,
            padding: padding::Padding::default(),
        }
    }

    /// The link below, as its handshake found it: peer, version, addresses.
    #[must_use]
    pub fn link(&self) -> &Established {
        &self.link
    }

    /// Circuits that have an id on this channel.
    #[must_use]
    pub fn circuit_count(&self) -> usize {
        self.circuits.len()
    }

    /// The circuits of this channel, in no meaningful order, for when it closes.
    pub fn circuit_refs(&self) -> impl Iterator<Item = (CircId, CircuitRef)> + '_ {
        self.circuits
            .entries()
            .map(|entry| (entry.circ_id, entry.circuit))
    }

    /// Gives a circuit of ours an unused id: top bit set exactly if we opened the link
    /// (tor-spec 5.1.1).
    pub fn allocate(
        &mut self,
        rng: &mut Rng,
        circuit: CircuitRef,
    ) -> Result<CircId, AllocateError> {
        self.circuits.allocate(rng, self.link.initiator, circuit)
    }

    /// Takes the id that the peer chose for a new circuit.
    pub fn accept(&mut self, id: CircId, circuit: CircuitRef) -> Result<(), AcceptError> {
        self.circuits.accept(id, self.link.initiator, circuit)
    }

    /// The circuit of a cell that came in.
    #[must_use]
    pub fn circuit(&self, id: CircId) -> Option<CircuitRef> {
        self.circuits.find(id).map(|entry| entry.circuit)
    }

    /// Names the circuit anew, for an owner that learns its key after the id was taken.
    pub fn set_circuit(&mut self, id: CircId, circuit: CircuitRef) -> bool {
        let Some((_, entry)) = self.circuits.find_mut(id) else {
            return false;
        };
        entry.circuit = circuit;
        true
    }

    /// Forgets a circuit and all cells queued for it.
    pub fn remove(&mut self, id: CircId) -> Option<CircuitRef> {
        let entry = self.circuits.remove(id)?;
        self.queued_cells -= entry.queued();
        if let Some(ring) = entry.ring {
            self.pool.put(ring);
            self.schedule.left(&self.circuits);
        }
        Some(entry.circuit)
    }

    /// Queues a copy of a cell for the circuit that its id names; returns the length of that queue.
    pub fn queue(&mut self, cell: &CellBuf, now: Now) -> Result<usize, QueueError> {
        let found = self.circuits.find_mut(cell::circ_id(cell));
        let (slot, entry) = found.ok_or(QueueError::NoCircuit)?;
        let since_opened = now.mono.saturating_duration_since(self.opened);
        if let Some(ring) = &mut entry.ring {
            if ring.len() >= QUEUE_MAX_CELLS {
                return Err(QueueError::Full);
            }
            self.pool.push(ring, cell, since_opened);
            entry.over_high |= ring.len() >= QUEUE_HIGH_CELLS;
            self.queued_cells += 1;
            return Ok(ring.len());
        }
        let mut ring = self.pool.take();
        self.pool.push(&mut ring, cell, since_opened);
        entry.ring = Some(ring);
        self.schedule.push(slot, entry);
        self.circuits.became_active();
        self.queued_cells += 1;
        Ok(1)
    }

    /// Queues the DESTROY of a circuit. It goes before what circuits have queued, but takes no more
    /// than half of the channel from them (as in `tor`).
    pub fn queue_destroy(
        &mut self,
        circ_id: CircId,
        reason: DestroyReason,
    ) -> Result<(), ControlFull> {
        if self.destroys.len() >= DESTROYS_MAX {
            return Err(ControlFull);
        }
        self.destroys.push_back(Destroy {
            circ_id,
            reason,
            is_refusal: false,
        });
        Ok(())
    }

    /// Queues the DESTROY that answers a CREATE cell which is refused.
    pub fn queue_refusal(
        &mut self,
        circ_id: CircId,
        reason: DestroyReason,
    ) -> Result<(), ControlFull> {
        if self.refusals >= CONTROL_MAX_CELLS || self.destroys.len() >= DESTROYS_MAX {
            return Err(ControlFull);
        }
        self.refusals += 1;
        self.destroys.push_back(Destroy {
            circ_id,
            reason,
            is_refusal: true,
        });
        Ok(())
    }

    /// DESTROY cells that wait.
    #[must_use]
    pub fn queued_destroys(&self) -> usize {
        self.destroys.len()
    }

    /// Queues a cell of the channel itself (PADDING, ...), which goes before all others.
    pub fn queue_control(&mut self, cell: &CellBuf) -> Result<(), ControlFull> {
        if self.control.len() >= CONTROL_MAX_CELLS {
            return Err(ControlFull);
        }
        self.control.push_back(*cell);
        Ok(())
    }

    /// Cells queued for a circuit.
    #[must_use]
    pub fn queued(&self, id: CircId) -> usize {
        self.circuits.find(id).map_or(0, Entry::queued)
    }

    /// True if a circuit's queue was at [`QUEUE_HIGH_CELLS`], and not yet at [`QUEUE_LOW_CELLS`]
    /// since: its streams are stopped.
    #[must_use]
    pub fn is_blocked(&self, id: CircId) -> bool {
        self.circuits.find(id).is_some_and(|entry| entry.over_high)
    }

    /// Cells queued for all circuits and for the channel itself.
    #[must_use]
    pub fn queued_total(&self) -> usize {
        self.queued_cells + self.control.len() + self.destroys.len()
    }

    /// True if [`Channel::take_output`] has something to give.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.queued_total() != 0
    }

    /// Bytes of memory in queues and in the pool of their rings.
    #[must_use]
    pub fn queue_bytes(&self) -> usize {
        self.pool.bytes()
            + self.control.capacity() * cell::CELL_LEN
            + self.destroys.capacity() * size_of::<Destroy>()
    }

    /// The circuits that have cells queued, in no order; those that have none cost nothing.
    pub fn waiting(&self) -> impl Iterator<Item = Waiting> + '_ {
        let slots = self.schedule.slots();
        slots.filter_map(|slot| {
            let entry = self.circuits.entry(slot)?;
            Some(Waiting {
                since: self.opened + entry.ring.as_ref()?.oldest()?,
                circ_id: entry.circ_id,
                circuit: entry.circuit,
            })
        })
    }

    /// Gives the rings back that no circuit uses now.
    pub fn trim_pool(&mut self) {
        self.pool.trim();
    }

    /// Gives the memory of idle queues back.
    pub fn trim(&mut self) {
        self.pool.trim();
        self.control.shrink_to_fit();
        self.destroys.shrink_to_fit();
    }

    /// Appends up to `cells_max` whole cells to `out`: control cells, DESTROYs, then the circuits
    /// that sent least of late. Adds to `drained` each circuit that fell from [`QUEUE_HIGH_CELLS`]
    /// to [`QUEUE_LOW_CELLS`]. Returns how many cells it appended.
    pub fn take_output(
        &mut self,
        out: &mut Vec<u8>,
        cells_max: usize,
        now: Now,
        drained: &mut Vec<CircuitRef>,
    ) -> usize {
        let mut left = cells_max;
        let control = self.control.len().min(left);
        for cell in self.control.drain(..control) {
            out.extend_from_slice(&cell);
        }
        left -= control;
        left -= self.take_destroys(out, left);
        let weight = self.schedule.weight(now.mono, &mut self.circuits);
        while left > 0 {
            let Some((slot, limit)) = self.schedule.pop(&self.circuits) else {
                break;
            };
            let Some(entry) = self.circuits.entry_mut(slot) else {
                break;
            };
            let sent = send_from(entry, left, weight, limit, out);
            left -= sent;
            self.queued_cells -= sent;
            if entry.over_high && entry.queued() <= QUEUE_LOW_CELLS {
                entry.over_high = false;
                drained.push(entry.circuit);
            }
            if entry.queued() > 0 {
                self.schedule.push(slot, entry);
            } else if let Some(ring) = entry.ring.take() {
                self.pool.put(ring);
                self.circuits.became_idle();
            }
        }
        let taken = cells_max - left;
        if taken > 0 {
            self.last_sent = now.mono;
        }
        taken
    }

    /// Appends DESTROY cells: at most `room`, and half of that while circuits have cells queued.
    fn take_destroys(&mut self, out: &mut Vec<u8>, room: usize) -> usize {
        let share = match self.queued_cells {
            0 => room,
            _ => room.div_ceil(2),
        };
        let count = self.destroys.len().min(share);
        for destroy in self.destroys.drain(..count) {
            let mut cell = cell::new_cell(destroy.circ_id, Command::DESTROY);
            destroy.reason.write(cell::payload_mut(&mut cell));
            out.extend_from_slice(&cell);
            self.refusals -= usize::from(destroy.is_refusal);
        }
        count
    }
}

/// Sends cells of one circuit while it is the one that has sent least; at least one.
fn send_from(entry: &mut Entry, left: usize, weight: f64, limit: f64, out: &mut Vec<u8>) -> usize {
    let Some(ring) = &mut entry.ring else {
        return 0;
    };
    let mut sent = 0;
    while sent < left && (sent == 0 || entry.sent_weight <= limit) {
        if !ring.pop_into(out) {
            break;
        }
        entry.sent_weight += weight;
        sent += 1;
    }
    sent
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel")
            .field("link", &self.link)
            .field("circuits", &self.circuits.len())
            .field("queued_cells", &self.queued_total())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
