//! A bound on a rate with room for bursts, in one point of time.
//!
//! What is let through is paid for ahead of time: each thing takes `1 / rate`, and a burst is how
//! far ahead it may reach. The same as a token bucket that is refilled continuously.

use std::time::{Duration, Instant};

/// So many a second, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// What one takes.
    pub(crate) interval: Duration,
    /// How far ahead the next one may begin.
    pub(crate) ahead_max: Duration,
}

impl Rate {
    /// `per_second` on average and `burst` at once, of which one at least; no rate is no limit.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Option<Rate> {
        let interval = Duration::from_secs(1).checked_div(per_second)?;
        Some(Rate {
            interval,
            ahead_max: interval * burst.saturating_sub(1),
        })
    }

    /// A rate of `times` as many a second, and at once.
    #[must_use]
    pub fn times(self, times: u32) -> Rate {
        let interval = self.interval / times.max(1);
        Rate {
            interval,
            ahead_max: self.ahead_max + self.interval.saturating_sub(interval),
        }
    }
}

/// How much of a [`Rate`] is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meter {
    paid_until: Option<Instant>,
}

impl Meter {
    /// Whether one more may pass; it is counted if it does.
    pub fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let begin = self.paid_until.map_or(now, |paid| paid.max(now));
        let is_due = begin.saturating_duration_since(now) <= rate.ahead_max;
        if is_due {
            self.paid_until = begin.checked_add(rate.interval);
        }
        is_due
    }

    /// Until when something is remembered; `None` if nothing is any more.
    #[must_use]
    pub fn until(&self, now: Instant) -> Option<Instant> {
        self.paid_until.filter(|paid| *paid > now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert, proptest};

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant is as good")]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert_eq!(Rate::new(0, 5), None);
    }

    #[test]
    fn a_burst_then_the_rate() {
        let (rate, mut now) = (Rate::new(3, 90).unwrap(), now());
        let mut meter = Meter::default();
        let taken = (0..1000).filter(|_| meter.take(rate, now)).count();
        assert_eq!(taken, 90);
        now += Duration::from_secs(10);
        let taken = (0..1000).filter(|_| meter.take(rate, now)).count();
        assert!((29..=30).contains(&taken), "{taken}");
        assert!(meter.until(now).is_some());
        assert_eq!(meter.until(now + Duration::from_secs(31)), None);
    }

    #[test]
    fn eight_times_as_many() {
        let (rate, now) = (Rate::new(4, 10).unwrap().times(8), now());
        let mut meter = Meter::default();
        let taken = (0..1000).filter(|_| meter.take(rate, now)).count();
        assert_eq!(taken, 80);
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(
            rate in 1_u32..1000,
            burst in 1_u32..1000,
            steps in prop::collection::vec(0_u64..200, 1..200),
        ) {
            let (limit, start) = (Rate::new(rate, burst).unwrap(), now());
            let (mut meter, mut at, mut taken) = (Meter::default(), start, 0_u64);
            for ms in steps {
                at += Duration::from_millis(ms);
                taken += u64::from(meter.take(limit, at));
                let since_ms = at.duration_since(start).as_millis() as u64;
                // An interval is cut to whole nanoseconds: one more in a million.
                prop_assert!(taken <= u64::from(burst) + since_ms * u64::from(rate) / 1000 + 1);
            }
        }
    }
}
