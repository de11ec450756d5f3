//! Vegas: a congestion window that keeps the queues along a circuit short (proposal 324, 3.3).
//!
//! ```text
//! slow start ──queue ≥ gamma, or blocked, or ss_max──▶ steady: queue > delta  cut to delta
//!  (grows at each SENDME while full,                            queue > beta   shrinks
//!   slower beyond ss_cap: RFC 3742)                             queue < alpha  grows, if full
//! ```
//!
//! The queue is what the window exceeds the product of bandwidth and delay by, which is the window
//! times the least over the current round trip. A window that is not used to the full never grows,
//! and it never leaves its bounds.

use super::params::{CwndParams, VegasParams};
use super::rtt::{AtSendme, RttEstimate};
use super::{CongestionParams, CongestionPath, LocalQueue};

/// Longest round trip that is told apart: an hour and more. It keeps all products within 64 bits.
const RTT_USEC_MAX: u64 = u32::MAX as u64;

/// The window of one hop and what moves it.
#[derive(Debug)]
pub struct Vegas {
    cwnd: CwndParams,
    thresholds: VegasParams,
    sendme_inc: u64,
    min: u64,
    max: u64,
    cells: u64,
    rtt: RttEstimate,
    /// The product of bandwidth and delay, in cells.
    bdp: u64,
    in_slow_start: bool,
    is_full: bool,
    was_blocked: bool,
    /// SENDMEs until the window moves again.
    update_in: u64,
    /// SENDMEs until a window's worth of cells was acknowledged.
    turn_in: u64,
}

impl Vegas {
    /// The window of a new hop.
    #[must_use]
    pub fn new(params: &CongestionParams, path: CongestionPath, sendme_inc_cells: u32) -> Self {
        let thresholds = match path {
            CongestionPath::Exit => params.exit,
            CongestionPath::Onion => params.onion,
        };
        // Below one SENDME's worth of cells none would ever be acknowledged.
        let min = u64::from(params.cwnd.min_cells.max(sendme_inc_cells));
        let max = u64::from(params.cwnd.max_cells).max(min);
        Vegas {
            cwnd: params.cwnd,
            thresholds,
            sendme_inc: sendme_inc_cells.max(1).into(),
            min,
            max,
            cells: u64::from(params.cwnd.init_cells).clamp(min, max),
            rtt: RttEstimate::default(),
            bdp: 0,
            in_slow_start: true,
            is_full: false,
            was_blocked: false,
            update_in: 1,
            turn_in: 0,
        }
    }

    /// The window.
    #[must_use]
    pub fn cwnd_cells(&self) -> u32 {
        u32::try_from(self.cells).unwrap_or(u32::MAX)
    }

    /// The round trips of the circuit, as far as they are known.
    #[must_use]
    pub fn rtt(&self) -> &RttEstimate {
        &self.rtt
    }

    /// Whether the window still grows at each SENDME.
    #[must_use]
    pub fn in_slow_start(&self) -> bool {
        self.in_slow_start
    }

    /// A SENDME came, for a cell that was sent `rtt_usec` ago, while `inflight_cells` were under
    /// way, those that it acknowledges included.
    pub fn acknowledged(&mut self, rtt_usec: u64, inflight_cells: u32, queue: LocalQueue) {
        self.update_in = self.update_in.saturating_sub(1);
        self.turn_in = self.turn_in.saturating_sub(1);
        if !self.estimate(rtt_usec, queue) {
            return;
        }
        let queue_use = self.cells.saturating_sub(self.bdp);
        let inflight = u64::from(inflight_cells);
        if inflight + u64::from(self.cwnd.full_gap) * self.sendme_inc >= self.cells {
            self.is_full = true;
        } else if 100 * inflight < u64::from(self.cwnd.full_min_pct) * self.cells {
            self.is_full = false;
        }
        if self.in_slow_start {
            self.start(queue_use);
        } else if self.update_in == 0 {
            self.adjust(queue_use);
        }
        self.cells = self.cells.clamp(self.min, self.max);
        self.count_on();
    }

    /// Estimates round trip, product, and whether the channel is a bottleneck. `false`: the window
    /// must not move by what is known.
    fn estimate(&mut self, rtt_usec: u64, queue: LocalQueue) -> bool {
        let at = AtSendme {
            in_slow_start: self.in_slow_start,
            at_minimum: self.cells == self.min,
            update_sendmes: self.update_sendmes(),
        };
        let rtt_usec = rtt_usec.min(RTT_USEC_MAX);
        let is_measured = self.rtt.measured(rtt_usec, at, &self.cwnd);
        if self.rtt.current_usec == 0 {
            // The clock has stood all the time: only the queue tells something.
            self.bdp = self.cells;
            if queue.is_blocked {
                self.bdp = self.cells.saturating_sub(queue.cells as u64).max(self.min);
            }
            self.was_blocked = queue.is_blocked;
            return queue.is_blocked;
        }
        self.bdp = self.cells.saturating_mul(self.rtt.least_usec) / self.rtt.current_usec;
        if queue.is_blocked != self.was_blocked {
            self.was_blocked = queue.is_blocked;
            self.update_in = 0;
        }
        is_measured || queue.is_blocked
    }

    fn start(&mut self, queue_use: u64) {
        if queue_use >= u64::from(self.thresholds.gamma_cells) || self.was_blocked {
            self.cells = self.bdp + u64::from(self.thresholds.gamma_cells);
            self.in_slow_start = false;
        } else if self.is_full {
            let inc = self.start_inc();
            self.cells += inc;
            let steady = u64::from(self.cwnd.inc_cells) * u64::from(self.cwnd.inc_rate);
            self.in_slow_start = inc * self.window_sendmes() > steady;
        }
        let ss_max = u64::from(self.cwnd.ss_max_cells);
        if self.cells >= ss_max {
            self.cells = ss_max;
            self.in_slow_start = false;
        }
    }

    /// What slow start adds at a SENDME (RFC 3742).
    fn start_inc(&self) -> u64 {
        let cap = u64::from(self.thresholds.ss_cap_cells);
        if self.cells <= cap {
            (u64::from(self.cwnd.inc_pct_ss) * self.sendme_inc + 50) / 100
        } else {
            ((self.sendme_inc * cap + self.cells) / (2 * self.cells)).max(1)
        }
    }

    fn adjust(&mut self, queue_use: u64) {
        let inc = u64::from(self.cwnd.inc_cells);
        let VegasParams {
            alpha_cells,
            beta_cells,
            delta_cells,
            ..
        } = self.thresholds;
        if queue_use > u64::from(delta_cells) {
            self.cells = (self.bdp + u64::from(delta_cells)).saturating_sub(inc);
        } else if queue_use > u64::from(beta_cells) || self.was_blocked {
            self.cells = self.cells.saturating_sub(inc);
        } else if self.is_full && queue_use < u64::from(alpha_cells) {
            self.cells += inc;
        }
    }

    /// Starts the counters anew that have run out; then, whether the window is full is seen anew.
    fn count_on(&mut self) {
        if self.turn_in == 0 {
            self.turn_in = self.window_sendmes();
        }
        if self.update_in == 0 {
            self.update_in = self.update_sendmes();
        }
        let is_over = if self.cwnd.full_per_cwnd {
            self.turn_in == self.window_sendmes()
        } else {
            self.update_in == self.update_sendmes()
        };
        if is_over {
            self.is_full = false;
        }
    }

    /// SENDMEs for a window's worth of cells, rounded.
    fn window_sendmes(&self) -> u64 {
        (self.cells + self.sendme_inc / 2) / self.sendme_inc
    }

    /// SENDMEs between two moves of the window, rounded; 0 counts as 1.
    fn update_sendmes(&self) -> u64 {
        if self.in_slow_start {
            return 1;
        }
        let cells = u64::from(self.cwnd.inc_rate) * self.sendme_inc;
        (self.cells + cells / 2) / cells
    }

    #[cfg(test)]
    pub(super) fn flags(&self) -> (bool, bool, bool) {
        (self.in_slow_start, self.is_full, self.was_blocked)
    }
}
