//! The times of votes and consensuses (dir-spec 1.4, 3.4.1, 5.1) and the minimum intervals that
//! `tor` demands of every document that it reads.

use std::time::{Duration, SystemTime};

use crate::item::{Item, ItemError};
use crate::number;

/// The shortest voting interval outside of testing networks.
pub const INTERVAL_MIN: Duration = Duration::from_secs(300);
/// The shortest voting interval of a testing network.
pub const TESTING_INTERVAL_MIN: Duration = Duration::from_secs(10);
/// How long after `valid-until` a consensus is still used for want of a better one: what `tor`
/// calls "reasonably live". It may be as far in the future, for clients with slow clocks.
pub const REASONABLY_LIVE: Duration = Duration::from_secs(24 * 60 * 60);

/// When a vote or consensus is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Its first second.
    pub valid_after: SystemTime,
    /// From here on a newer one is expected.
    pub fresh_until: SystemTime,
    /// Its last second.
    pub valid_until: SystemTime,
}

/// The `voting-delay` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VotingDelay {
    /// Seconds that authorities have to collect all votes.
    pub vote_seconds: u32,
    /// Seconds that they have to collect all signatures.
    pub dist_seconds: u32,
}

/// The least seconds of either delay, in test networks too (`tor`: MIN_VOTE_SECONDS).
const DELAY_SECONDS_MIN: i64 = 2;

impl VotingDelay {
    /// Reads the line.
    pub(crate) fn parse(item: &Item<'_>) -> Result<Self, ItemError> {
        let seconds = |at| {
            let value = number::signed(item.arg(at)?, DELAY_SECONDS_MIN, i64::from(i32::MAX));
            let value = value.and_then(|value| u32::try_from(value).ok());
            value.ok_or_else(|| item.bad_argument(at))
        };
        Ok(Self {
            vote_seconds: seconds(0)?,
            dist_seconds: seconds(1)?,
        })
    }
}

impl Lifetime {
    /// Whether the times are in order and as far apart as `tor` demands: `fresh-until` an interval
    /// behind `valid-after`, `valid-until` two.
    pub fn has_minimum_intervals(&self, is_testing: bool) -> bool {
        let interval_min = if is_testing {
            TESTING_INTERVAL_MIN
        } else {
            INTERVAL_MIN
        };
        let since = |time: SystemTime| time.duration_since(self.valid_after).unwrap_or_default();
        since(self.fresh_until) >= interval_min
            && since(self.valid_until) >= interval_min * 2
            && self.valid_until >= self.fresh_until
    }

    /// Whether the three times are in order.
    pub fn is_in_order(&self) -> bool {
        self.valid_after < self.fresh_until && self.fresh_until <= self.valid_until
    }

    /// Whether `now` is between `valid-after` and `valid-until`.
    pub fn is_live(&self, now: SystemTime) -> bool {
        self.valid_after <= now && now <= self.valid_until
    }

    /// Whether `now` is between `valid-after` and `fresh-until`.
    pub fn is_fresh(&self, now: SystemTime) -> bool {
        self.valid_after <= now && now < self.fresh_until
    }

    /// Whether `now` is within [`REASONABLY_LIVE`] of the time in which the document is live.
    pub fn is_reasonably_live(&self, now: SystemTime) -> bool {
        self.valid_after <= now + REASONABLY_LIVE && now <= self.valid_until + REASONABLY_LIVE
    }

    /// The voting interval: from `valid-after` to `fresh-until`.
    pub fn interval(&self) -> Duration {
        self.fresh_until
            .duration_since(self.valid_after)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timestamp::from_unix;

    fn lifetime(after: u64, fresh: u64, until: u64) -> Lifetime {
        let (valid_after, fresh_until) = (from_unix(after), from_unix(fresh));
        Lifetime {
            valid_after,
            fresh_until,
            valid_until: from_unix(until),
        }
    }

    #[test]
    fn minimum_intervals() {
        assert!(lifetime(1000, 1010, 1020).has_minimum_intervals(true));
        assert!(!lifetime(1000, 1009, 1020).has_minimum_intervals(true));
        assert!(!lifetime(1000, 1010, 1019).has_minimum_intervals(true));
        assert!(!lifetime(1000, 1010, 1020).has_minimum_intervals(false));
        assert!(lifetime(1000, 1300, 1600).has_minimum_intervals(false));
        assert!(!lifetime(1000, 900, 1600).has_minimum_intervals(true));
        assert!(!lifetime(1000, 1900, 1600).has_minimum_intervals(true));
    }

    #[test]
    fn liveness() {
        let times = lifetime(100_000, 103_600, 110_800);
        assert!(times.is_fresh(from_unix(100_000)) && !times.is_fresh(from_unix(103_600)));
        assert!(times.is_live(from_unix(110_800)) && !times.is_live(from_unix(110_801)));
        assert!(!times.is_live(from_unix(99_999)));
        assert!(times.is_reasonably_live(from_unix(110_801)));
        assert!(!times.is_reasonably_live(from_unix(110_801 + 86_400)));
        assert!(times.is_reasonably_live(from_unix(99_999)));
        assert!(!times.is_reasonably_live(from_unix(13_599)));
        assert_eq!(times.interval(), Duration::from_secs(3600));
    }
}
