//! A bound on a rate that all workers of a relay share (the manual's `BandwidthRate`,
//! `BandwidthBurst`, `RelayBandwidthRate` and `RelayBandwidthBurst`).
//!
//! It is asked before a batch of reads or writes and told of it after, so that it may owe some
//! bytes; what it lacks comes in with time. Without a lock: what one batch costs is one addition.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often it is filled at most.
const TICK: Duration = Duration::from_millis(1);
const NANOS: u128 = 1_000_000_000;

/// The bound.
#[derive(Debug)]
pub struct SharedBucket {
    origin: Instant,
    /// Bytes a second; 0: no bound.
    rate: AtomicU64,
    burst: AtomicI64,
    /// Bytes that may pass; below zero after a batch that was greater than known before.
    tokens: AtomicI64,
    /// Up to when it was filled, in nanoseconds since `origin`.
    filled: AtomicU64,
}

impl SharedBucket {
    /// A full bucket: `rate` bytes a second, `burst` at once; `None` bounds nothing.
    #[must_use]
    pub fn new(bound: Option<(u64, u64)>, now: Instant) -> Self {
        let bucket = SharedBucket {
            origin: now,
            rate: AtomicU64::new(0),
            burst: AtomicI64::new(0),
            tokens: AtomicI64::new(0),
            filled: AtomicU64::new(0),
        };
        bucket.set(bound, now);
        bucket
    }

    /// Another bound from now on; the bucket is full.
    pub fn set(&self, bound: Option<(u64, u64)>, now: Instant) {
        let (rate, burst) = bound.map_or((0, 0), |(rate, burst)| (rate.max(1), burst.max(rate)));
        let burst = i64::try_from(burst).unwrap_or(i64::MAX);
        self.filled.store(self.nanos(now), Ordering::Relaxed);
        self.burst.store(burst, Ordering::Relaxed);
        self.tokens.store(burst, Ordering::Relaxed);
        self.rate.store(rate, Ordering::Relaxed);
    }

    /// How long to wait until bytes may pass; `None`: they may now.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return None;
        }
        self.fill(rate, now);
        let tokens = self.tokens.load(Ordering::Relaxed);
        let missing = u64::try_from(1_i64.saturating_sub(tokens)).unwrap_or(0);
        let wait = Duration::from_secs_f64(missing as f64 / rate as f64);
        (missing > 0).then(|| wait.max(TICK))
    }

    /// So many bytes have passed.
    pub fn take(&self, bytes: usize) {
        if bytes > 0 && self.rate.load(Ordering::Relaxed) != 0 {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            self.tokens.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn fill(&self, rate: u64, now: Instant) {
        let filled = self.filled.load(Ordering::Relaxed);
        let since = u128::from(self.nanos(now).saturating_sub(filled));
        if since < TICK.as_nanos() {
            return;
        }
        // Whole bytes only: the time of a fraction is kept for the next call.
        let gained = since * u128::from(rate) / NANOS;
        let took = u64::try_from(gained * NANOS / u128::from(rate)).unwrap_or(u64::MAX);
        let next = filled.saturating_add(took);
        let order = Ordering::Relaxed;
        // Whoever comes second has nothing to fill.
        if gained > 0
            && self
                .filled
                .compare_exchange(filled, next, order, order)
                .is_ok()
        {
            let gained = i64::try_from(gained).unwrap_or(i64::MAX);
            let burst = self.burst.load(order);
            let fuller = |tokens: i64| Some(tokens.saturating_add(gained).min(burst));
            let _ = self.tokens.fetch_update(order, order, fuller);
        }
    }

    fn nanos(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
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
        let bucket = SharedBucket::new(Some((1000, 5000)), start);
        assert_eq!(bucket.wait(start), None);
        bucket.take(6000);
        assert_eq!(bucket.wait(start), Some(Duration::from_millis(1001)));
        let mut passed = 0;
        for ms in 1..=20_000 {
            let now = start + Duration::from_millis(ms);
            if bucket.wait(now).is_none() {
                bucket.take(100);
                passed += 100;
            }
        }
        // 20 s of the rate, less what was owed.
        assert!((18_900..=19_100).contains(&passed), "{passed}");
        let later = start + Duration::from_secs(1 << 40);
        assert_eq!(bucket.wait(later), None);
        bucket.take(4999);
        assert_eq!(bucket.wait(later), None);
        bucket.take(1);
        assert!(bucket.wait(later).is_some());
    }

    #[test]
    fn a_bound_comes_and_goes() {
        let start = start();
        let bucket = SharedBucket::new(None, start);
        bucket.take(usize::MAX);
        assert_eq!(bucket.wait(start), None);
        bucket.set(Some((10, 10)), start);
        bucket.take(11);
        assert!(bucket.wait(start).is_some());
        bucket.set(None, start);
        assert_eq!(bucket.wait(start), None);
    }
}
