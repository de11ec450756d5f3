//! When authorities vote (dir-spec 1.4, 3.4; docs/protocol.md section 5).
//!
//! ```text
//! S-dist-vote   S-dist-vote/2      S-dist            S-dist/2            S
//! votes posted  missing ones       consensus         missing             consensus
//!               fetched            computed, signed  signatures fetched  published
//! ```
//! Intervals count from midnight UTC, so that all authorities, and those of `tor`, agree on S
//! without a word. A network that has no consensus yet may vote *late* for the interval that has
//! begun already: all five instants are then as soon as the documents have arrived.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds of a day, which every interval divides.
const DAY_SECS: u64 = 86_400;

/// The lengths that authorities have agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From one consensus to the next, in seconds; divides a day, at least 10.
    pub interval_secs: u32,
    /// How long votes may take to arrive, in seconds; at least 2.
    pub vote_secs: u32,
    /// How long signatures may take to arrive, in seconds; at least 2.
    pub dist_secs: u32,
    /// Intervals for which a consensus is valid; at least 2 (`V3AuthNIntervalsValid`).
    pub intervals_valid: u32,
    /// So much later than midnight intervals begin (`TestingV3AuthVotingStartOffset`), in seconds.
    pub offset_secs: u32,
}

impl Timing {
    /// The public network's: hourly, 5 minutes each for votes and signatures.
    #[must_use]
    pub fn hourly() -> Self {
        Timing {
            interval_secs: 3600,
            vote_secs: 300,
            dist_secs: 300,
            intervals_valid: 3,
            offset_secs: 0,
        }
    }

    /// The start of the interval in which `now` lies.
    #[must_use]
    pub fn interval_start(&self, now: SystemTime) -> SystemTime {
        let secs = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let offset = u64::from(self.offset_secs);
        let secs = secs.saturating_sub(offset);
        let midnight = secs - secs % DAY_SECS;
        let interval = u64::from(self.interval_secs.max(1));
        UNIX_EPOCH
            + Duration::from_secs(midnight + (secs - midnight) / interval * interval + offset)
    }

    /// The start of the interval after the one in which `now` lies.
    #[must_use]
    pub fn next_interval_start(&self, now: SystemTime) -> SystemTime {
        // The last interval of a day may be cut short only if the interval does not divide it.
        self.interval_start(now) + Duration::from_secs(u64::from(self.interval_secs))
    }

    /// The schedule of the first round whose votes are not yet due at `now`.
    #[must_use]
    pub fn next_round(&self, now: SystemTime) -> Schedule {
        let mut schedule = self.regular(self.next_interval_start(now));
        if schedule.vote <= now {
            schedule = self.regular(self.next_interval_start(schedule.valid_after));
        }
        schedule
    }

    /// The schedule of the round that goes on, if its consensus is still to be computed; else that
    /// of the first one whose votes are not yet due.
    #[must_use]
    pub fn this_round(&self, now: SystemTime) -> Schedule {
        let schedule = self.regular(self.next_interval_start(now));
        match now < schedule.compute {
            true => schedule,
            false => self.next_round(now),
        }
    }

    /// The regular schedule of the round whose consensus begins at `start`.
    #[must_use]
    pub fn regular(&self, start: SystemTime) -> Schedule {
        let (vote, dist) = self.delays();
        Schedule {
            valid_after: start,
            vote: start - dist - vote,
            fetch_votes: start - dist - vote / 2,
            compute: start - dist,
            fetch_signatures: start - dist / 2,
            publish: start,
            late: false,
        }
    }

    /// A round at once for the interval that has begun: each step waits for the documents, and at
    /// most as long as in a regular round.
    #[must_use]
    pub fn late(&self, now: SystemTime) -> Schedule {
        let (vote, dist) = self.delays();
        Schedule {
            valid_after: self.interval_start(now),
            vote: now,
            fetch_votes: now + vote / 2,
            compute: now + vote,
            fetch_signatures: now + vote + dist / 2,
            publish: now + vote + dist,
            late: true,
        }
    }

    /// When a consensus that begins at `start` stops being fresh.
    #[must_use]
    pub fn fresh_until(&self, start: SystemTime) -> SystemTime {
        start + Duration::from_secs(u64::from(self.interval_secs))
    }

    /// When a consensus that begins at `start` stops being valid.
    #[must_use]
    pub fn valid_until(&self, start: SystemTime) -> SystemTime {
        let secs = u64::from(self.interval_secs) * u64::from(self.intervals_valid.max(2));
        start + Duration::from_secs(secs)
    }

    /// The length of an interval.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_secs(u64::from(self.interval_secs.max(1)))
    }

    /// Both delays; a quarter of the interval each where they would take more than its half.
    fn delays(&self) -> (Duration, Duration) {
        let (vote, dist) = (u64::from(self.vote_secs), u64::from(self.dist_secs));
        let interval = u64::from(self.interval_secs);
        if vote + dist > interval / 2 {
            (
                Duration::from_secs(interval / 4),
                Duration::from_secs(interval / 4),
            )
        } else {
            (Duration::from_secs(vote), Duration::from_secs(dist))
        }
    }
}

/// The five instants of one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// When the consensus begins to be valid (S).
    pub valid_after: SystemTime,
    /// Votes are posted.
    pub vote: SystemTime,
    /// Missing votes are fetched; from here on a posted vote is late.
    pub fetch_votes: SystemTime,
    /// The consensus is computed of the votes that are there.
    pub compute: SystemTime,
    /// Missing signatures are fetched.
    pub fetch_signatures: SystemTime,
    /// The consensus is published if a majority has signed.
    pub publish: SystemTime,
    /// A round at once: a step is taken as soon as all documents for it are there.
    pub late: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(20_000 * DAY_SECS + secs)
    }

    fn timing(interval: u32, vote: u32, dist: u32) -> Timing {
        Timing {
            interval_secs: interval,
            vote_secs: vote,
            dist_secs: dist,
            intervals_valid: 3,
            offset_secs: 0,
        }
    }

    #[test]
    fn intervals_may_begin_later_than_midnight() {
        let t = Timing {
            offset_secs: 7,
            ..timing(20, 4, 4)
        };
        assert_eq!(t.interval_start(at(59)), at(47));
        assert_eq!(t.interval_start(at(6)), at(0) - Duration::from_secs(13));
        assert_eq!(t.next_round(at(30)).valid_after, at(47));
        assert_eq!(t.regular(at(47)).publish, at(47));
    }

    #[test]
    fn intervals_count_from_midnight() {
        let t = timing(20, 4, 4);
        assert_eq!(t.interval_start(at(59)), at(40));
        assert_eq!(t.next_interval_start(at(86_399)), at(86_400));
        assert_eq!(Timing::hourly().interval_start(at(7300)), at(7200));
    }

    #[test]
    fn a_round_whose_votes_are_due_is_left_out() {
        let t = timing(20, 4, 4);
        assert_eq!(t.next_round(at(31)).valid_after, at(40));
        assert_eq!(t.next_round(at(32)).valid_after, at(60));
        let round = t.next_round(at(0));
        assert_eq!(
            (
                round.vote,
                round.fetch_votes,
                round.compute,
                round.fetch_signatures
            ),
            (at(12), at(14), at(16), at(18))
        );
    }

    #[test]
    fn a_round_that_goes_on_can_be_joined_until_it_is_computed() {
        let t = timing(20, 4, 4);
        for (now, start) in [(31, 40), (32, 40), (35, 40), (36, 60), (39, 60), (40, 60)] {
            assert_eq!(t.this_round(at(now)).valid_after, at(start), "{now}");
        }
    }

    #[test]
    fn long_delays_are_cut_to_a_quarter_each() {
        let round = timing(20, 8, 4).regular(at(40));
        assert_eq!((round.vote, round.compute), (at(30), at(35)));
    }

    #[test]
    fn a_late_round_is_for_the_interval_that_has_begun() {
        let round = timing(20, 4, 4).late(at(53));
        assert_eq!(
            (round.valid_after, round.vote, round.publish),
            (at(40), at(53), at(61))
        );
    }
}
