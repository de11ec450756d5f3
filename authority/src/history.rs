//! How a relay was in the past: weighted fractional uptime and mean time between failures
//! (dir-spec 3.4.2, "WFU" and "MTBF"; `tor`: rephist).
//!
//! ```text
//! unknown ──reached──> up since … ──not reached──> down since … ──reached──> up since …
//! ```
//! What was before a relay was first reached or missed is unknown, neither up nor down. Runs and
//! breaks that are over count less and less: every 12 hours all sums are multiplied by 0.95. A
//! history is one line of text, so that it survives a restart; the time in which nobody watched is
//! taken out of it ([`History::resume`]).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cepa_netdoc::vote::Stats;
use cepa_wire::time::unix_seconds;

/// How often older observations lose weight.
const DISCOUNT_EVERY: Duration = Duration::from_secs(12 * 60 * 60);
/// What is left of their weight.
const DISCOUNT: f64 = 0.95;
/// So often they lose weight at once, at most: nothing is left then.
const DISCOUNTS_MAX: u64 = 1000;
/// Fewer runs than this are none.
const RUNS_MIN: f64 = 0.0001;

/// How a relay is, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    /// Nobody has looked yet.
    Unknown,
    /// Tests reach it.
    Up(SystemTime),
    /// They do not.
    Down(SystemTime),
}

/// What an authority has seen of a relay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct History {
    /// When it was last brought up to date.
    pub(crate) recorded: SystemTime,
    /// When a test last reached it.
    pub(crate) reached: Option<SystemTime>,
    pub(crate) discounted: SystemTime,
    run: Run,
    /// Sums over runs and breaks that are over.
    pub(crate) sums: Sums,
}

/// Weighted sums over runs and breaks that are over.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sums {
    pub(crate) up_seconds: f64,
    pub(crate) total_seconds: f64,
    pub(crate) runs: f64,
    pub(crate) run_seconds: f64,
}

impl History {
    /// Of a relay that was never seen before.
    pub(crate) fn new(now: SystemTime) -> Self {
        History {
            recorded: now,
            reached: None,
            discounted: now,
            run: Run::Unknown,
            sums: Sums::default(),
        }
    }

    /// Of a relay that another program watched until `stored`, up or down since then.
    pub(crate) fn of_other(
        stored: SystemTime,
        discounted: SystemTime,
        (up_since, down_since): (Option<SystemTime>, Option<SystemTime>),
        sums: Sums,
    ) -> Self {
        History {
            recorded: stored,
            reached: None,
            discounted,
            run: match (up_since, down_since) {
                (Some(since), _) => Run::Up(since),
                (None, Some(since)) => Run::Down(since),
                (None, None) => Run::Unknown,
            },
            sums,
        }
    }

    /// A test has reached it.
    pub(crate) fn handle_reached(&mut self, now: SystemTime) {
        match self.run {
            Run::Up(_) => return,
            Run::Down(since) => self.sums.total_seconds += seconds(since, now),
            Run::Unknown => {}
        }
        self.run = Run::Up(now);
    }

    /// It cannot be reached since `when`.
    pub(crate) fn handle_missed(&mut self, when: SystemTime) {
        match self.run {
            Run::Up(since) => {
                let run = seconds(since, when);
                let sums = &mut self.sums;
                sums.runs += 1.0;
                sums.run_seconds += run;
                sums.up_seconds += run;
                sums.total_seconds += run;
                self.run = Run::Down(when.max(since));
            }
            Run::Down(_) => {}
            Run::Unknown => self.run = Run::Down(when),
        }
    }

    /// A test has reached it at another address than before: until clients know of that it is of no
    /// use to them, which counts as `unknown_for` of not being there.
    pub(crate) fn handle_moved(&mut self, unknown_for: Duration, now: SystemTime) {
        if let Run::Up(since) = self.run
            && let Some(when) = now.checked_sub(unknown_for)
        {
            // One that moved soon after it came has run for less than nothing.
            let debt = seconds(when, since);
            self.handle_missed(when);
            self.sums.run_seconds = (self.sums.run_seconds - debt).max(0.0);
            self.sums.up_seconds = (self.sums.up_seconds - debt).max(0.0);
        }
        self.handle_reached(now);
    }

    /// Brings it up to date, once a round: what is over loses weight.
    pub(crate) fn record(&mut self, now: SystemTime) {
        self.recorded = now;
        let passed = now.duration_since(self.discounted).unwrap_or_default();
        let times = (passed.as_secs() / DISCOUNT_EVERY.as_secs()).min(DISCOUNTS_MAX);
        if times == 0 {
            return;
        }
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        self.discounted = match u64::from(times) < DISCOUNTS_MAX {
            true => self.discounted + DISCOUNT_EVERY * times,
            false => now,
        };
        let left = DISCOUNT.powf(f64::from(times));
        let sums = &mut self.sums;
        for sum in [
            &mut sums.up_seconds,
            &mut sums.total_seconds,
            &mut sums.runs,
            &mut sums.run_seconds,
        ] {
            *sum *= left;
        }
    }

    /// Goes on after nobody has watched since it was recorded: that time was neither up nor down.
    pub(crate) fn resume(&mut self, now: SystemTime) {
        let unwatched = now.duration_since(self.recorded).unwrap_or_default();
        let later = |since: SystemTime| since.checked_add(unwatched).unwrap_or(now).min(now);
        self.run = match self.run {
            Run::Up(since) => Run::Up(later(since)),
            Run::Down(since) => Run::Down(later(since)),
            Run::Unknown => Run::Unknown,
        };
    }

    /// The numbers of the vote's `stats` line.
    pub(crate) fn stats(&self, now: SystemTime) -> Stats {
        let Sums {
            mut up_seconds,
            mut total_seconds,
            mut runs,
            mut run_seconds,
        } = self.sums;
        match self.run {
            Run::Up(since) => {
                let run = seconds(since, now);
                up_seconds += run;
                total_seconds += run;
                run_seconds += run;
                runs += 1.0;
            }
            Run::Down(since) => total_seconds += seconds(since, now),
            Run::Unknown => {}
        }
        let wfu = match total_seconds > 0.0 {
            true => up_seconds / total_seconds,
            // Nothing is known against it.
            false => 1.0,
        };
        Stats {
            wfu: wfu.clamp(0.0, 1.0),
            time_known_seconds: Duration::try_from_secs_f64(total_seconds)
                .unwrap_or_default()
                .as_secs(),
            mtbf_seconds: if runs >= RUNS_MIN {
                run_seconds / runs
            } else {
                0.0
            },
        }
    }

    /// For how long it has been reached without a break.
    pub(crate) fn uptime_seconds(&self, now: SystemTime) -> u64 {
        match self.run {
            Run::Up(since) => now.duration_since(since).unwrap_or_default().as_secs(),
            Run::Down(_) | Run::Unknown => 0,
        }
    }

    /// One line: times in seconds since 1970 (0: never, not so), the four sums, since when it is
    /// down.
    pub(crate) fn encode(&self) -> String {
        let (up_since, down_since) = match self.run {
            Run::Up(since) => (unix_seconds(since), 0),
            Run::Down(since) => (0, unix_seconds(since)),
            Run::Unknown => (0, 0),
        };
        let sums = &self.sums;
        format!(
            "{} {} {} {up_since} {} {} {} {} {down_since}",
            unix_seconds(self.recorded),
            self.reached.map_or(0, unix_seconds),
            unix_seconds(self.discounted),
            sums.up_seconds,
            sums.total_seconds,
            sums.runs,
            sums.run_seconds
        )
    }

    /// Reads such a line.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let [
            recorded,
            reached,
            discounted,
            up_since,
            sums @ ..,
            down_since,
        ] = words.as_slice()
        else {
            return None;
        };
        let time = |word: &str| -> Option<SystemTime> {
            let secs: u64 = word.parse().ok()?;
            UNIX_EPOCH.checked_add(Duration::from_secs(secs))
        };
        let ever = |word: &str| Some(time(word)?).map(|at| Some(at).filter(|at| *at > UNIX_EPOCH));
        let sum = |word: &&str| word.parse().ok().filter(|sum: &f64| sum.is_finite());
        let sums: Option<Vec<f64>> = sums.iter().map(sum).collect();
        let [up_seconds, total_seconds, runs, run_seconds] = sums?.try_into().ok()?;
        let mut history = Self::of_other(
            time(recorded)?,
            time(discounted)?,
            (ever(up_since)?, ever(down_since)?),
            Sums {
                up_seconds,
                total_seconds,
                runs,
                run_seconds,
            },
        );
        history.reached = ever(reached)?;
        Some(history)
    }
}

/// Seconds from one time to a later one; 0 if it is not later.
fn seconds(from: SystemTime, to: SystemTime) -> f64 {
    to.duration_since(from).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000 + hours * 3600)
    }

    #[test]
    fn uptime_and_failures_are_counted() {
        let mut history = History::new(at(0));
        history.handle_reached(at(0));
        history.handle_missed(at(6));
        history.handle_missed(at(7));
        history.handle_reached(at(8));
        history.handle_reached(at(8));
        let stats = history.stats(at(8));
        assert!((stats.wfu - 0.75).abs() < 1e-9, "{stats:?}");
        assert_eq!(stats.time_known_seconds, 8 * 3600);
        let mtbf = stats.mtbf_seconds;
        assert!((mtbf - 3.0 * 3600.0).abs() < 1e-6, "{stats:?}");
        assert_eq!(history.uptime_seconds(at(10)), 2 * 3600);
    }

    #[test]
    fn what_was_before_the_first_test_is_unknown() {
        let mut history = History::new(at(0));
        assert_eq!(
            (
                history.stats(at(5)).wfu,
                history.stats(at(5)).time_known_seconds
            ),
            (1.0, 0)
        );
        history.record(at(5));
        history.handle_reached(at(5));
        let stats = history.stats(at(6));
        assert_eq!((stats.wfu, stats.time_known_seconds), (1.0, 3600));
        let mut missed = History::new(at(0));
        missed.handle_missed(at(5));
        let stats = missed.stats(at(6));
        assert_eq!((stats.wfu, stats.time_known_seconds), (0.0, 3600));
    }

    #[test]
    fn an_outage_of_the_authority_is_nobodys() {
        for (is_up, wfu) in [(true, 1.0), (false, 0.5)] {
            let mut history = History::new(at(0));
            history.handle_reached(at(0));
            if !is_up {
                history.handle_missed(at(5));
            }
            history.record(at(10));
            let before = history.stats(at(10));
            assert!((before.wfu - wfu).abs() < 1e-9);
            let mut restored = History::parse(&history.encode()).unwrap();
            restored.resume(at(500));
            assert_eq!(
                restored.stats(at(500)).time_known_seconds,
                before.time_known_seconds
            );
            assert!((restored.stats(at(500)).wfu - wfu).abs() < 1e-9);
            assert_eq!(
                restored.uptime_seconds(at(500)),
                history.uptime_seconds(at(10))
            );
            // A clock that was set back makes nobody younger than new.
            restored.resume(at(3));
            assert_eq!(restored.uptime_seconds(at(3)), 0);
        }
    }

    #[test]
    fn a_new_address_costs_what_clients_need_to_hear_of_it() {
        let mut history = History::new(at(0));
        history.handle_reached(at(0));
        history.handle_moved(Duration::from_secs(2 * 3600), at(10));
        let stats = history.stats(at(10));
        assert!((stats.wfu - 0.8).abs() < 1e-9, "{stats:?}");
        assert_eq!(history.uptime_seconds(at(11)), 3600);
        let mut young = History::new(at(0));
        young.handle_reached(at(0));
        young.handle_moved(Duration::from_secs(2 * 3600), at(1));
        let stats = young.stats(at(1));
        assert_eq!((stats.wfu, stats.mtbf_seconds), (0.0, 0.0), "{stats:?}");
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut history = History::new(at(0));
        history.handle_missed(at(0));
        history.handle_reached(at(24));
        (24..24 * 60).for_each(|hour| history.record(at(hour)));
        let stats = history.stats(at(24 * 60));
        assert!(stats.wfu > 0.99, "{stats:?}");
        let half = |times: u64| {
            let mut history = History::new(at(0));
            history.handle_reached(at(0));
            history.handle_missed(at(1));
            history.record(at(1 + 12 * times));
            history.sums.up_seconds
        };
        assert!((half(1) - 3600.0 * 0.95).abs() < 1e-6);
        assert!((half(3) - 3600.0 * 0.95_f64.powi(3)).abs() < 1e-6);
        assert!(half(1_000_000) < 1e-6);
    }

    #[test]
    fn a_history_survives_as_a_line() {
        let mut history = History::new(at(0));
        for step in [1, 2, 3] {
            assert_eq!(History::parse(&history.encode()), Some(history));
            match step {
                1 => history.handle_reached(at(1)),
                _ => history.handle_missed(at(30)),
            }
            history.record(at(30));
            history.reached = Some(at(1));
        }
        for odd in [
            "",
            "1 2 3",
            "1 2 3 4 NaN 1 1 1 0",
            "1 2 3 4 1 1 1 1 x",
            "1 2 3 4 1 1 1 1 1 1",
        ] {
            assert_eq!(History::parse(odd), None, "{odd}");
        }
    }
}
