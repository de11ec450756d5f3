//! How much a relay has seen itself carry (dir-spec 2.1.1 "bandwidth").
//!
//! [`BandwidthHistory`] finds the greatest rate over ten seconds of the last day, the lesser of
//! both directions: what the descriptor calls "observed".

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Seconds over which a rate is taken.
const WINDOW_SECONDS: u64 = 10;
/// The greatest rates are kept a period each, for a day.
const PERIOD: Duration = Duration::from_secs(4 * 60 * 60);
const PERIODS_MAX: usize = 6;

/// One direction.
#[derive(Debug, Clone, Default)]
struct Direction {
    /// Bytes of each of the last seconds, oldest first.
    seconds: VecDeque<(u64, u64)>,
    /// The greatest rate of each period, oldest first.
    periods: VecDeque<(u64, u64)>,
}

impl Direction {
    fn add(&mut self, second: u64, bytes: u64) {
        while self
            .seconds
            .front()
            .is_some_and(|(at, _)| at + WINDOW_SECONDS <= second)
        {
            self.seconds.pop_front();
        }
        match self.seconds.back_mut() {
            Some((at, sum)) if *at == second => *sum = sum.saturating_add(bytes),
            _ => self.seconds.push_back((second, bytes)),
        }
        let sum = self
            .seconds
            .iter()
            .fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        let (rate, period) = (sum / WINDOW_SECONDS, second / PERIOD.as_secs());
        match self.periods.back_mut() {
            Some((at, greatest)) if *at == period => *greatest = rate.max(*greatest),
            _ => self.periods.push_back((period, rate)),
        }
        let day = PERIODS_MAX as u64;
        while self
            .periods
            .front()
            .is_some_and(|(at, _)| at + day <= period)
        {
            self.periods.pop_front();
        }
    }

    fn greatest(&self) -> u64 {
        self.periods
            .iter()
            .map(|(_, rate)| *rate)
            .max()
            .unwrap_or(0)
    }
}

/// What a relay has seen itself carry.
#[derive(Debug, Clone)]
pub struct BandwidthHistory {
    started: Instant,
    read: Direction,
    written: Direction,
}

impl BandwidthHistory {
    /// The history of a relay that has carried nothing so far.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        BandwidthHistory {
            started: now,
            read: Direction::default(),
            written: Direction::default(),
        }
    }

    /// So many bytes were read and written since the last call, which was not long ago.
    pub fn add(&mut self, read_bytes: u64, written_bytes: u64, now: Instant) {
        let second = now.saturating_duration_since(self.started).as_secs();
        self.read.add(second, read_bytes);
        self.written.add(second, written_bytes);
    }

    /// The greatest rate over ten seconds of the last day, in bytes a second, of the direction
    /// that has carried less.
    #[must_use]
    pub fn observed(&self) -> u32 {
        let observed = self.read.greatest().min(self.written.greatest());
        u32::try_from(observed).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn observed_is_the_lesser_direction_of_the_last_day() {
        let start = start();
        let mut history = BandwidthHistory::new(start);
        for second in 0..20 {
            history.add(1000, 800, start + Duration::from_secs(second));
        }
        assert_eq!(history.observed(), 800);
        history.add(0, 100_000, start + Duration::from_secs(20));
        assert_eq!(history.observed(), 1000);
        history.add(0, 0, start + Duration::from_secs(30 * 60 * 60));
        assert_eq!(history.observed(), 0);
    }
}
