//! How much a relay may carry, and how much it has seen itself carry (dir-spec 2.1.1 "bandwidth";
//! the manual's `RelayBandwidthRate` and `RelayBandwidthBurst`).
//!
//! A [`TokenBucket`] is asked before each read or write and told of it after; what it lacks comes
//! in with time. [`BandwidthHistory`] finds the greatest rate over ten seconds of the last day, the
//! lesser of both directions: what the descriptor calls "observed".

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Seconds over which a rate is taken.
const WINDOW_SECONDS: u64 = 10;
/// The greatest rates are kept a period each, for a day.
const PERIOD: Duration = Duration::from_secs(4 * 60 * 60);
const PERIODS_MAX: usize = 6;

/// A bound on a rate, with room for bursts.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    rate: u64,
    burst: u64,
    /// Bytes that may pass; below zero after a read that was greater than known before.
    tokens: i64,
    filled: Instant,
}

impl TokenBucket {
    /// A full bucket; both in bytes, `rate` a second.
    #[must_use]
    pub fn new(rate: u64, burst: u64, now: Instant) -> Self {
        let burst = burst.max(rate).min(i64::MAX as u64);
        TokenBucket {
            rate: rate.max(1),
            burst,
            tokens: burst as i64,
            filled: now,
        }
    }

    /// Bytes that may pass now; 0 means to wait for [`TokenBucket::wait`].
    #[must_use]
    pub fn available(&mut self, now: Instant) -> usize {
        self.fill(now);
        usize::try_from(self.tokens.max(0)).unwrap_or(usize::MAX)
    }

    /// So many bytes have passed.
    pub fn take(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.tokens = self.tokens.saturating_sub(bytes).max(-(self.burst as i64));
    }

    /// How long to wait until at least `bytes` (or all that the bucket can hold) may pass.
    #[must_use]
    pub fn wait(&self, bytes: usize) -> Duration {
        let wanted = i64::try_from(bytes)
            .unwrap_or(i64::MAX)
            .min(self.burst as i64);
        let missing = u64::try_from(wanted.saturating_sub(self.tokens)).unwrap_or(0);
        Duration::from_secs_f64(missing as f64 / self.rate as f64)
    }

    fn fill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.filled);
        // Whole tokens only: what a fraction of one took in time is kept for the next call.
        let gained = (since.as_secs_f64() * self.rate as f64) as u64;
        if gained == 0 {
            return;
        }
        self.filled += Duration::from_secs_f64(gained as f64 / self.rate as f64);
        let gained = i64::try_from(gained).unwrap_or(i64::MAX);
        self.tokens = self.tokens.saturating_add(gained).min(self.burst as i64);
    }
}

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
    /// Nothing so far.
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
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = start();
        let mut bucket = TokenBucket::new(100, 500, start);
        assert_eq!(bucket.available(start), 500);
        bucket.take(600);
        assert_eq!(
            (bucket.available(start), bucket.wait(1)),
            (0, Duration::from_millis(1010))
        );
        let later = start + Duration::from_secs(3);
        assert_eq!(bucket.available(later), 200);
        // A thousand looks within a second do not lose fractions.
        let mut taken = 0;
        for n in 1..=1000 {
            let now = later + Duration::from_millis(n);
            let available = bucket.available(now);
            bucket.take(available);
            taken += available;
        }
        assert!((299..=300).contains(&taken), "{taken}");
        assert_eq!(bucket.available(start + Duration::from_secs(1 << 40)), 500);
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
