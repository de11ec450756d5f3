//! The congestion window of one hop: how many DATA cells may be under way, as measured (proposal
//! 324, as `tor` 0.4.9 runs it).
//!
//! Each `sendme_inc`-th DATA cell sent leaves its tag and its time. The SENDME for it gives the
//! round trip, from which [`Vegas`] moves the window. Windows move by integer arithmetic, in the
//! order of operations that `tor` has, so that its tables hold here. No cell is sent while as many
//! are under way as the window says; a SENDME that nothing waits for, or with another tag, is a
//! violation. Towards us each `sendme_inc`-th DATA cell is acknowledged at once.

mod params;
mod rtt;
mod vegas;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::window::{SendmeTag, WindowViolation};

pub use params::{CongestionParams, CwndParams, FlowParams, VegasParams};
pub use rtt::RttEstimate;
pub(crate) use rtt::n_ewma;
pub use vegas::Vegas;

/// What a circuit is for: how many relays its cells queue at (proposal 324, 6.5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CongestionPath {
    /// Three hops, to an exit or a directory.
    Exit,
    /// Six hops, between a client and a service.
    Onion,
}

/// The congestion control that both ends of a hop have agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Congestion {
    /// The parameters of the consensus.
    pub params: Arc<CongestionParams>,
    /// DATA cells that one SENDME acknowledges: agreed on, at least 1.
    pub sendme_inc_cells: u8,
    /// Whose thresholds of Vegas hold: those of paths to exits or to onion services.
    pub path: CongestionPath,
}

/// The queue of the circuit on the channel that our cells leave by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LocalQueue {
    /// Cells in it.
    pub cells: usize,
    /// It has been so long that streams were stopped: a sign of congestion.
    pub is_blocked: bool,
}

/// Both directions of one hop's congestion window over all streams.
#[derive(Debug)]
pub struct CongestionWindow {
    agreed: Congestion,
    vegas: Vegas,
    sendme_inc_cells: u32,
    inflight_cells: u32,
    /// Cells sent since the last that left its tag.
    unmarked_cells: u32,
    /// Tags and times of each `sendme_inc`-th cell not yet acknowledged, oldest first; as many as
    /// fit the window.
    pending: VecDeque<(SendmeTag, Instant)>,
    /// DATA cells that arrived and are not acknowledged.
    unacked_cells: u32,
}

impl CongestionWindow {
    /// The window of a new hop.
    #[must_use]
    pub fn new(agreed: Congestion) -> Self {
        let sendme_inc_cells = u32::from(agreed.sendme_inc_cells.max(1));
        CongestionWindow {
            vegas: Vegas::new(&agreed.params, agreed.path, sendme_inc_cells),
            agreed,
            sendme_inc_cells,
            inflight_cells: 0,
            unmarked_cells: 0,
            pending: VecDeque::new(),
            unacked_cells: 0,
        }
    }

    /// What the two ends of the circuit have agreed on.
    #[must_use]
    pub fn agreed(&self) -> &Congestion {
        &self.agreed
    }

    /// The algorithm and its estimates.
    #[must_use]
    pub fn vegas(&self) -> &Vegas {
        &self.vegas
    }

    /// DATA cells sent and not acknowledged.
    #[must_use]
    pub fn inflight_cells(&self) -> u32 {
        self.inflight_cells
    }

    /// DATA cells that may be sent now.
    #[must_use]
    pub fn room_cells(&self) -> usize {
        // The window may have shrunk below what is under way.
        self.vegas.cwnd_cells().saturating_sub(self.inflight_cells) as usize
    }

    /// One DATA cell was sent; `tag` is the one that its encryption gave.
    pub fn packaged(&mut self, tag: &SendmeTag, now: Instant) {
        debug_assert!(self.room_cells() > 0, "a DATA cell was sent without room");
        self.inflight_cells += 1;
        self.unmarked_cells += 1;
        if self.unmarked_cells == self.sendme_inc_cells {
            self.unmarked_cells = 0;
            self.pending.push_back((*tag, now));
        }
    }

    /// A circuit-level SENDME came; `tag` is `None` in one of version 0, which peers still accept.
    pub fn handle_sendme(
        &mut self,
        tag: Option<&[u8]>,
        queue: LocalQueue,
        now: Instant,
    ) -> Result<(), WindowViolation> {
        let (expected, sent) = self
            .pending
            .pop_front()
            .ok_or(WindowViolation::CircuitSendmeEarly)?;
        if tag.is_some_and(|tag| !expected.matches(tag)) {
            return Err(WindowViolation::CircuitSendmeTag);
        }
        let rtt = now.saturating_duration_since(sent).as_micros();
        let rtt_usec = u64::try_from(rtt).unwrap_or(u64::MAX);
        self.vegas
            .acknowledged(rtt_usec, self.inflight_cells, queue);
        self.inflight_cells = self.inflight_cells.saturating_sub(self.sendme_inc_cells);
        Ok(())
    }

    /// One DATA cell arrived, on whatever stream, even one that is not known. `true`: a SENDME
    /// with the tag of this very cell must be sent at once.
    #[must_use]
    pub fn delivered(&mut self) -> bool {
        self.unacked_cells += 1;
        let due = self.unacked_cells >= self.sendme_inc_cells;
        if due {
            self.unacked_cells = 0;
        }
        due
    }
}

#[cfg(test)]
pub(crate) mod tests;
