//! When a download that failed is tried again: after random delays that grow (dir-spec 5.5).

use std::time::{Duration, Instant};

use cepa_crypto::Rng;
use cepa_wire::time::Now;

/// The bounds of delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    min: Duration,
    max: Duration,
}

impl Bounds {
    pub(super) fn of(is_testing: bool) -> Self {
        match is_testing {
            true => Self {
                min: Duration::from_millis(200),
                max: Duration::from_secs(2),
            },
            false => Self {
                min: Duration::from_secs(1),
                max: Duration::from_secs(30 * 60),
            },
        }
    }
}

/// The delays of one kind of download.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    bounds: Bounds,
    last: Duration,
    /// Not before this.
    pub(super) next: Instant,
}

impl Retry {
    /// May start at once.
    pub(super) fn new(is_testing: bool, now: Now) -> Self {
        let bounds = Bounds::of(is_testing);
        Self {
            bounds,
            last: bounds.min,
            next: now.mono,
        }
    }

    /// After a failure: waits between the least delay and three times the last one.
    pub(super) fn fail(&mut self, now: Now, rng: &mut Rng) {
        let high = (self.last * 3).min(self.bounds.max);
        self.last = between(self.bounds.min, high, rng);
        self.next = now.mono + self.last;
    }

    /// After a success: the next failure is the first.
    pub(super) fn succeed(&mut self, next: Instant) {
        self.last = self.bounds.min;
        self.next = next;
    }
}

/// A random duration of the range, in milliseconds.
pub(super) fn between(low: Duration, high: Duration, rng: &mut Rng) -> Duration {
    let span = high.saturating_sub(low).as_millis();
    let span = u64::try_from(span).unwrap_or(u64::MAX - 1);
    low + Duration::from_millis(rng.below(span + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_within_their_bounds() {
        let now = crate::fetch::tests::at("2026-11-21 03:17:25");
        for is_testing in [true, false] {
            let bounds = Bounds::of(is_testing);
            let mut rng = Rng::from_seed([1; 32]);
            let mut retry = Retry::new(is_testing, now);
            assert_eq!(retry.next, now.mono);
            let mut longest = Duration::ZERO;
            for _ in 0..200 {
                retry.fail(now, &mut rng);
                let delay = retry.next - now.mono;
                assert!(bounds.min <= delay && delay <= bounds.max);
                longest = longest.max(delay);
            }
            assert!(longest > bounds.max / 2);
            retry.succeed(now.mono);
            retry.fail(now, &mut rng);
            assert!(retry.next - now.mono <= bounds.min * 3);
        }
    }
}
