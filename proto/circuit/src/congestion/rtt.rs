//! The round trip of a circuit, from DATA cells and the SENDMEs for them (proposal 324, 2.1).
//!
//! The current round trip is an average over the last few ("N-EWMA"), and so is the least one, so
//! that a single quick SENDME does not count. A measure of nothing, or one that is thousands of
//! times off, speaks of the clock and not of the circuit, and is left out.

use super::params::CwndParams;

/// How many times longer or shorter a round trip is that nobody believes.
const JUMP_FACTOR: u64 = 5000;

/// What is known of a circuit's round trips; all in microseconds, 0 if unknown.
#[derive(Debug, Clone, Default)]
pub struct RttEstimate {
    pub(super) current_usec: u64,
    pub(super) least_usec: u64,
    /// The last measures that could be judged said that the clock stands.
    pub(super) is_clock_stalled: bool,
}

/// What a window is like when a SENDME comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct AtSendme {
    pub(super) in_slow_start: bool,
    /// The window is as small as it may be.
    pub(super) at_minimum: bool,
    /// SENDMEs between two updates of the window.
    pub(super) update_sendmes: u64,
}

impl RttEstimate {
    /// The current round trip, averaged.
    #[must_use]
    pub fn current_usec(&self) -> u64 {
        self.current_usec
    }

    /// The least round trip, which is taken for that without queues.
    #[must_use]
    pub fn least_usec(&self) -> u64 {
        self.least_usec
    }

    /// A measure. `false`: it is not believed, and changes nothing.
    pub(super) fn measured(&mut self, usec: u64, at: AtSendme, params: &CwndParams) -> bool {
        if self.is_stalled_or_jumped(self.current_usec, usec, at.in_slow_start) {
            return false;
        }
        let count = if at.in_slow_start {
            params.ewma_ss.into()
        } else {
            let share = at.update_sendmes * u64::from(params.ewma_cwnd_pct) / 100;
            share.min(params.ewma_max.into())
        };
        self.current_usec = n_ewma(usec, self.current_usec, count.max(2));
        if self.least_usec == 0 {
            self.least_usec = self.current_usec;
        } else if at.at_minimum && !at.in_slow_start {
            // The way out for a window that one odd short round trip has pressed to its minimum.
            self.least_usec = mix(self.current_usec, self.least_usec, params.rtt_reset_pct);
        } else {
            self.least_usec = self.least_usec.min(self.current_usec);
        }
        true
    }

    pub(super) fn is_stalled_or_jumped(
        &mut self,
        old_usec: u64,
        new_usec: u64,
        in_slow_start: bool,
    ) -> bool {
        if new_usec == 0 {
            self.is_clock_stalled = true;
            return true;
        }
        if in_slow_start || self.current_usec == 0 {
            return false;
        }
        if old_usec > new_usec.saturating_mul(JUMP_FACTOR) {
            // It may be the network: only a clock that has stood before is blamed.
            return self.is_clock_stalled;
        }
        if new_usec > old_usec.saturating_mul(JUMP_FACTOR) {
            return true;
        }
        self.is_clock_stalled = false;
        false
    }
}

/// The average over about `count` values, in the form whose rounding all share (2.1.2).
pub(crate) fn n_ewma(value: u64, average: u64, count: u64) -> u64 {
    if average == 0 {
        return value;
    }
    let sum = value
        .saturating_mul(2)
        .saturating_add(average.saturating_mul(count - 1));
    sum / (count + 1)
}

/// The greater of two values with a weight of `percent`, the other with the rest.
fn mix(a: u64, b: u64, percent: u32) -> u64 {
    let percent = u64::from(percent);
    a.max(b).saturating_mul(percent) / 100 + a.min(b).saturating_mul(100 - percent) / 100
}

#[cfg(test)]
mod tests {
    use super::super::CongestionParams;
    use super::*;

    /// `tor`'s unit test congestion_control/clock: old and new delta, slow start; what is
    /// remembered of the clock, and the verdict.
    const CLOCK: [(u64, u64, u8, u8, u8); 17] = [
        (0, 1, 1, 0, 0),
        (0, 0, 1, 1, 1),
        (1, 1, 1, 1, 0),
        (1, 4999, 0, 0, 0),
        (4999, 1, 0, 0, 0),
        (5001, 1, 0, 0, 0),
        (5001, 0, 0, 1, 1),
        (5001, 1, 0, 1, 1),
        (5001, 1, 1, 1, 0),
        (0, 5001, 0, 1, 0),
        (1, 5001, 1, 1, 0),
        (1, 1, 0, 0, 0),
        (5001, 1, 0, 0, 0),
        (1, 5001, 0, 0, 1),
        (0, 5001, 0, 0, 0),
        (5001, 1, 1, 0, 0),
        (1, 1, 0, 0, 0),
    ];

    #[test]
    fn clocks_that_stand_or_jump() {
        let mut rtt = RttEstimate::default();
        for (n, (old, new, in_slow_start, stalled, verdict)) in CLOCK.into_iter().enumerate() {
            rtt.current_usec = old * 1000;
            let said = rtt.is_stalled_or_jumped(old, new, in_slow_start == 1);
            assert_eq!(said, verdict == 1, "{n}");
            assert_eq!(rtt.is_clock_stalled, stalled == 1, "{n}");
        }
    }

    /// `tor`'s unit test congestion_control/rtt: sent and acknowledged at, window, slow start; the
    /// average and the least round trip.
    const RTT: [(u64, u64, u64, bool, u64, u64); 9] = [
        (100_000, 200_000, 124, true, 100_000, 100_000),
        (200_000, 300_000, 124, true, 100_000, 100_000),
        (350_000, 500_000, 124, true, 133_333, 100_000),
        (500_000, 550_000, 124, true, 77_777, 77_777),
        (600_000, 700_000, 124, true, 92_592, 77_777),
        (700_000, 750_000, 124, true, 64_197, 64_197),
        (750_000, 875_000, 124, false, 104_732, 104_732),
        (875_000, 900_000, 124, false, 51_577, 104_732),
        (900_000, 950_000, 200, false, 50_525, 50_525),
    ];

    #[test]
    fn averages_and_least() {
        let params = CongestionParams::default().cwnd;
        let mut rtt = RttEstimate::default();
        for (n, (sent, acked, cwnd, in_slow_start, current, least)) in RTT.into_iter().enumerate() {
            let at = AtSendme {
                in_slow_start,
                at_minimum: cwnd == 124,
                update_sendmes: (cwnd + 480) / 961,
            };
            assert!(rtt.measured(acked - sent, at, &params));
            assert_eq!((rtt.current_usec, rtt.least_usec), (current, least), "{n}");
        }
    }

    #[test]
    fn a_mix_weighs_the_greater() {
        assert_eq!(
            (mix(10, 50, 0), mix(10, 50, 100), mix(10, 50, 25)),
            (10, 50, 19)
        );
        assert_eq!(n_ewma(u64::MAX, u64::MAX, 3), u64::MAX / 4);
    }
}
