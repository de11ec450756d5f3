//! The two clocks, as an argument.
//!
//! Every core takes [`Now`] instead of asking the system: timers run on the monotonic clock, dates
//! of documents and certificates on the wall clock (which operators and NTP may move). A simulation
//! hands in clocks of its own.

use std::ops::Add;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock: for timeouts and rates.
    pub mono: Instant,
    /// The wall clock: for dates in documents and certificates.
    pub wall: SystemTime,
}

impl Now {
    /// Whole seconds of the wall clock since 1970; 0 for a clock before that.
    #[must_use]
    pub fn unix_seconds(&self) -> u64 {
        unix_seconds(self.wall)
    }
}

/// Whole seconds from 1970 to `time`; 0 for a time before that.
#[must_use]
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

impl Add<Duration> for Now {
    type Output = Now;

    /// Both clocks moved on by `by`.
    fn add(self, by: Duration) -> Now {
        Now {
            mono: self.mono + by,
            wall: self.wall + by,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_before_1970_are_zero() {
        assert_eq!(unix_seconds(UNIX_EPOCH - Duration::from_secs(5)), 0);
        assert_eq!(unix_seconds(UNIX_EPOCH + Duration::from_millis(5999)), 5);
    }
}
