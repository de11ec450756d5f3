//! The memory limit: which circuits go when too much is queued (as `tor`'s out-of-memory handler).
//!
//! Counted are the cells queued on all channels and the bytes that wait for sockets, in cells. Past
//! the limit the circuits whose first queued cell is oldest are closed until a tenth is free: they
//! are those whose reader is slowest, or stopped to read on purpose. With no cell left to blame, it
//! is the circuit of the stream that holds most for its socket.

use std::time::Instant;

use cepa_link::{ChannelKey, CircuitRef};
use cepa_wire::Now;
use cepa_wire::cell::{CELL_LEN, CircId};
use cepa_wire::destroy::DestroyReason;
use tracing::warn;

use super::Switch;
use super::circuit::{Place, Side};
use super::command::{Command, Handover};

impl Switch {
    pub(super) fn limit_memory(&mut self, now: Now) {
        let cells_max = self.config.limits.queued_cells_max;
        if self.held_cells() <= cells_max {
            return;
        }
        let wanted = cells_max - cells_max / 10;
        let mut closed = 0_usize;
        while self.held_cells() > wanted && (self.close_oldest(now) || self.close_fullest(now)) {
            closed += 1;
        }
        warn!(
            closed,
            held = self.held_cells(),
            "memory limit: circuits closed"
        );
    }

    fn held_cells(&self) -> usize {
        self.queued_cells + self.inbound_bytes / CELL_LEN
    }

    /// Closes the circuit with the oldest queued cell; `false` if none has any.
    fn close_oldest(&mut self, now: Now) -> bool {
        let oldest = self.channels.iter().filter_map(|(key, link)| {
            let (circ_id, circuit, since) = link.channel.oldest_queued()?;
            Some((since, key, circ_id, circuit))
        });
        let oldest: Option<(Instant, ChannelKey, CircId, CircuitRef)> = oldest.min();
        let Some((_, channel, circ_id, circuit)) = oldest else {
            return false;
        };
        let place = Place::unpack(circuit);
        let reason = DestroyReason::RESOURCELIMIT;
        if place.worker == self.worker {
            self.destroy(place.circuit, reason, now);
        } else {
            debug_assert_eq!(place.side, Side::Next);
            let item = Handover::Closed {
                circuit: place.circuit,
                circ_id,
                reason,
            };
            self.hand_over(place.worker, item);
            self.send_destroy(channel, circ_id, reason);
        }
        // In case the circuit itself was gone: the loop must end.
        self.forget(channel, circ_id);
        true
    }

    /// With nothing queued, closes the circuit of the stream whose socket takes least; `false` if
    /// no stream holds anything.
    fn close_fullest(&mut self, now: Now) -> bool {
        let held = self
            .streams
            .iter()
            .map(|(key, edge)| (edge.stream.inbound_bytes(), key));
        let Some((_, key)) = held.filter(|(bytes, _)| *bytes > 0).max() else {
            return false;
        };
        let circuit = self.streams.get(key).and_then(|edge| edge.circuit);
        if let Some(circuit) = circuit {
            self.destroy(circuit, DestroyReason::RESOURCELIMIT, now);
        }
        self.drop_edge(key);
        self.commands
            .push_back(Command::CloseStream { stream: key });
        true
    }
}
