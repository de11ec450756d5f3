//! Which relay's reachability is tested when (dir-spec 3.4.2, "Running"; `tor`: reachability.c).
//!
//! Each relay that was reached before is tested once in [`ReachTimes::test_every`], at an instant
//! of its own, so that tests are spread also after a restart. Those that were not, *strangers*,
//! wait in a line of their own. Both lines move at a bounded pace: an upload puts a relay into the
//! line and makes nobody connect anywhere by itself. A test network tests at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use cepa_crypto::RsaId;

use crate::config::Config;

/// So many tests of strangers begin within [`PACE_WINDOW`]: `tor`'s pace.
const PACE_TESTS: u32 = 15;
const PACE_WINDOW: Duration = Duration::from_secs(5);
/// The line of the others moves this much faster than on average it has to.
const PACE_SLACK: u32 = 2;

/// After a failed test the next one comes so soon, at first: a relay that has just started may
/// publish a moment before its port answers.
const RETRY: Duration = Duration::from_secs(60);
/// The same in a test network.
const RETRY_TESTING: Duration = Duration::from_secs(1);
/// How many of the tests come so soon.
const RETRIES_MAX: u32 = 5;
/// A relay with a new address is tested there, but not sooner after its last test.
const MOVED: Duration = Duration::from_secs(60);

/// Times between tests of one relay, and how long a good one counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReachTimes {
    pub(crate) test_every: Duration,
    pub(crate) running_for: Duration,
    is_testing: bool,
}

impl ReachTimes {
    /// `tor`'s: 1280 s and 45 min. In a test network each interval, and two of them, so that a
    /// relay that was killed is missed soon.
    pub(crate) fn new(config: &Config) -> Self {
        let interval = Duration::from_secs(u64::from(config.timing.interval_secs));
        let (test_every, running_for) = match config.is_testing {
            true => (interval, interval * 2),
            false => (Duration::from_secs(1280), Duration::from_secs(45 * 60)),
        };
        ReachTimes {
            test_every,
            running_for,
            is_testing: config.is_testing,
        }
    }

    /// When a relay that is known from an earlier run is tested first: at an instant of the round
    /// that is its own.
    pub(crate) fn spread(self, id: &RsaId, now: SystemTime) -> SystemTime {
        if self.is_testing {
            return now;
        }
        let [a, b, ..] = *id.as_bytes();
        let part = u32::from(u16::from_be_bytes([a, b]));
        now + self.test_every * part / u32::from(u16::MAX)
    }

    /// When a relay is tested after `failures` tests that have failed.
    pub(crate) fn again(self, failures: u32, now: SystemTime) -> SystemTime {
        let retry = if self.is_testing {
            RETRY_TESTING
        } else {
            RETRY
        };
        match failures {
            1..=RETRIES_MAX => now + retry.min(self.test_every),
            _ => now + self.test_every,
        }
    }

    /// When a relay with a new address is tested there.
    pub(crate) fn moved(self, tested: Option<SystemTime>, now: SystemTime) -> SystemTime {
        match tested {
            Some(tested) if !self.is_testing => now.max(tested + MOVED),
            _ => now,
        }
    }
}

/// A pace: one test in `every`, and what was not used within the window at once.
#[derive(Debug, Default)]
struct Pace {
    /// When all that was let through would have gone, one after the other.
    used_until: Option<SystemTime>,
}

impl Pace {
    /// When the next may go.
    fn next(&self, now: SystemTime) -> SystemTime {
        let used = self.used_until.unwrap_or(now);
        // Unless the clock was set back.
        let used = used.min(now + PACE_WINDOW);
        used.checked_sub(PACE_WINDOW).unwrap_or(now).max(now)
    }

    fn take(&mut self, every: Duration, now: SystemTime) -> bool {
        let used = self.used_until.unwrap_or(now).min(now + PACE_WINDOW);
        let used = used.max(now) + every;
        let may = used <= now + PACE_WINDOW;
        if may {
            self.used_until = Some(used);
        }
        may
    }
}

/// The tests that are to come.
#[derive(Debug, Default)]
pub(crate) struct TestsDue {
    planned: BTreeMap<RsaId, (bool, SystemTime)>,
    strangers: BTreeSet<(SystemTime, RsaId)>,
    known: BTreeSet<(SystemTime, RsaId)>,
    strangers_pace: Pace,
    known_pace: Pace,
}

impl TestsDue {
    /// The relay is tested next at `at`, or as soon after it as others let it.
    pub(crate) fn plan(&mut self, id: RsaId, is_stranger: bool, at: SystemTime) {
        self.cancel(&id);
        self.planned.insert(id, (is_stranger, at));
        self.line(is_stranger).insert((at, id));
    }

    /// The relay is tested no more.
    pub(crate) fn cancel(&mut self, id: &RsaId) {
        if let Some((is_stranger, at)) = self.planned.remove(id) {
            self.line(is_stranger).remove(&(at, *id));
        }
    }

    /// A relay whose test begins now; it is planned no more.
    pub(crate) fn pop(&mut self, times: ReachTimes, now: SystemTime) -> Option<RsaId> {
        let slow = PACE_WINDOW / PACE_TESTS;
        let relays = u32::try_from(self.known.len().max(1)).unwrap_or(u32::MAX);
        let fast = slow.min(times.test_every / relays / PACE_SLACK);
        for (is_stranger, every) in [(false, fast), (true, slow)] {
            let (line, pace) = match is_stranger {
                true => (&self.strangers, &mut self.strangers_pace),
                false => (&self.known, &mut self.known_pace),
            };
            let first = line.first().filter(|(at, _)| *at <= now);
            if let Some((_, id)) = first.copied()
                && (times.is_testing || pace.take(every, now))
            {
                self.cancel(&id);
                return Some(id);
            }
        }
        None
    }

    /// When [`TestsDue::pop`] may give one.
    pub(crate) fn next(&self, times: ReachTimes, now: SystemTime) -> Option<SystemTime> {
        let lines = [
            (&self.known, &self.known_pace),
            (&self.strangers, &self.strangers_pace),
        ];
        let due = lines.into_iter().filter_map(|(line, pace)| {
            let (at, _) = line.first()?;
            // A moment later than the pace allows, or the clock would wake us for nothing.
            let free = pace.next(now) + PACE_WINDOW / PACE_TESTS;
            Some(if times.is_testing { *at } else { free.max(*at) })
        });
        due.min()
    }

    fn line(&mut self, is_stranger: bool) -> &mut BTreeSet<(SystemTime, RsaId)> {
        match is_stranger {
            true => &mut self.strangers,
            false => &mut self.known,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn id(number: u16) -> RsaId {
        let [a, b] = number.to_be_bytes();
        let mut bytes = [0; 20];
        (bytes[0], bytes[1]) = (a, b);
        RsaId::from(bytes)
    }

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000) + Duration::from_millis(millis)
    }

    /// Runs until `until`, woken as it wishes; gives the instants of the tests.
    fn run(due: &mut TestsDue, is_stranger: bool, until: u64) -> Vec<u64> {
        let times = ReachTimes::new(&Config::new(Vec::new(), String::new()));
        let (mut started, mut now) = (Vec::new(), 0);
        while now <= until {
            while let Some(id) = due.pop(times, at(now)) {
                started.push(now);
                due.plan(id, is_stranger, at(now) + times.test_every);
            }
            let next = due.next(times, at(now)).unwrap_or(at(until + 1));
            let millis = next.duration_since(at(0)).unwrap().as_millis();
            now = u64::try_from(millis).unwrap().max(now + 1);
        }
        started
    }

    fn most_within(started: &[u64], window: u64) -> usize {
        let from = started.iter();
        from.map(|from| {
            started
                .iter()
                .filter(|at| (*from..*from + window).contains(at))
                .count()
        })
        .max()
        .unwrap_or(0)
    }

    #[test]
    fn strangers_are_tested_at_a_pace() {
        let mut due = TestsDue::default();
        (0..2500).for_each(|number| due.plan(id(number), true, at(0)));
        let started = run(&mut due, true, 120_000);
        assert_eq!(started.iter().filter(|at| **at == 0).count(), 15);
        assert!(
            most_within(&started, 5000) <= 30,
            "{}",
            most_within(&started, 5000)
        );
        assert!((300..400).contains(&started.len()), "{}", started.len());
    }

    #[test]
    fn relays_of_an_earlier_run_are_tested_over_the_whole_round() {
        let times = ReachTimes::new(&Config::new(Vec::new(), String::new()));
        let mut due = TestsDue::default();
        for number in 0..10_000u16 {
            let id = id(number.wrapping_mul(6553));
            due.plan(id, false, times.spread(&id, at(0)));
        }
        let count = due.planned.len();
        let started = run(&mut due, false, 1_280_000);
        assert!(started.len() >= count - 10, "{} of {count}", started.len());
        assert!(
            most_within(&started, 5000) <= 120,
            "{}",
            most_within(&started, 5000)
        );
    }

    #[test]
    fn no_upload_makes_a_test_by_itself() {
        let times = ReachTimes::new(&Config::new(Vec::new(), String::new()));
        let mut due = TestsDue::default();
        let mut tested = None;
        let mut tests = 0;
        for millis in (0..60_000).step_by(100) {
            due.plan(id(1), true, times.moved(tested, at(millis)));
            while due.pop(times, at(millis)).is_some() {
                tests += 1;
                tested = Some(at(millis));
            }
        }
        assert_eq!(tests, 1);
    }

    #[test]
    fn the_clock_may_be_set_back() {
        let times = ReachTimes::new(&Config::new(Vec::new(), String::new()));
        let mut due = TestsDue::default();
        (0..40).for_each(|number| due.plan(id(number), true, at(0)));
        while due.pop(times, at(3_600_000)).is_some() {}
        assert!(due.next(times, at(0)).unwrap() <= at(6000));
    }
}
