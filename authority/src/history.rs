//! How a relay was in the past: weighted fractional uptime and mean time between failures
//! (dir-spec 3.4.2, "WFU" and "MTBF"; `tor`: rephist).
//!
//! Old observations count less: every 12 hours all sums are multiplied by 0.95. A history is one
//! line of text, so that it survives a restart.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cepa_netdoc::vote::Stats;
use cepa_wire::time::unix_seconds;

/// How often older observations lose weight.
const DISCOUNT_EVERY: Duration = Duration::from_secs(12 * 60 * 60);
/// What is left of their weight.
const DISCOUNT: f64 = 0.95;

/// What an authority has seen of a relay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct History {
    /// When it was last Running or found not to be.
    pub(crate) recorded: SystemTime,
    /// When a test last reached it.
    pub(crate) reached: Option<SystemTime>,
    discounted: SystemTime,
    up_since: Option<SystemTime>,
    up_seconds: f64,
    total_seconds: f64,
    runs: f64,
    run_seconds: f64,
}

impl History {
    /// Of a relay that was never seen before.
    pub(crate) fn new(now: SystemTime) -> Self {
        History {
            recorded: now,
            reached: None,
            discounted: now,
            up_since: None,
            up_seconds: 0.0,
            total_seconds: 0.0,
            runs: 0.0,
            run_seconds: 0.0,
        }
    }

    /// The relay is Running now, or not; the time since the last record counts as it was then.
    pub(crate) fn record(&mut self, is_running: bool, now: SystemTime) {
        let passed = now.duration_since(self.recorded).unwrap_or_default();
        self.recorded = self.recorded.max(now);
        self.total_seconds += passed.as_secs_f64();
        if self.up_since.is_some() {
            self.up_seconds += passed.as_secs_f64();
        }
        match (self.up_since, is_running) {
            (None, true) => self.up_since = Some(now),
            (Some(since), false) => {
                let run = now.duration_since(since).unwrap_or_default();
                self.runs += 1.0;
                self.run_seconds += run.as_secs_f64();
                self.up_since = None;
            }
            _ => {}
        }
        while self.discounted + DISCOUNT_EVERY <= now {
            self.discounted += DISCOUNT_EVERY;
            for sum in [
                &mut self.up_seconds,
                &mut self.total_seconds,
                &mut self.runs,
                &mut self.run_seconds,
            ] {
                *sum *= DISCOUNT;
            }
        }
    }

    /// The numbers of the vote's `stats` line.
    pub(crate) fn stats(&self, now: SystemTime) -> Stats {
        let current = self.up_since.map_or(0.0, |since| {
            now.duration_since(since).unwrap_or_default().as_secs_f64()
        });
        let runs = self.runs + if self.up_since.is_some() { 1.0 } else { 0.0 };
        let wfu = if self.total_seconds > 0.0 {
            self.up_seconds / self.total_seconds
        } else {
            1.0
        };
        Stats {
            wfu: wfu.clamp(0.0, 1.0),
            time_known_seconds: self.time_known(now).as_secs(),
            mtbf_seconds: if runs > 0.0 {
                (self.run_seconds + current) / runs
            } else {
                0.0
            },
        }
    }

    /// For how long it has been Running without a break.
    pub(crate) fn uptime_seconds(&self, now: SystemTime) -> u64 {
        let since = self
            .up_since
            .and_then(|since| now.duration_since(since).ok());
        since.unwrap_or_default().as_secs()
    }

    /// How long it has been watched, weighted like all else.
    fn time_known(&self, now: SystemTime) -> Duration {
        let since = now.duration_since(self.recorded).unwrap_or_default();
        let before = Duration::try_from_secs_f64(self.total_seconds).unwrap_or_default();
        before.saturating_add(since)
    }

    /// One line: times in seconds since 1970 (0: never, not up), then the four sums.
    pub(crate) fn encode(&self) -> String {
        let up_since = self.up_since.map_or(0, unix_seconds);
        format!(
            "{} {} {} {up_since} {} {} {} {}",
            unix_seconds(self.recorded),
            self.reached.map_or(0, unix_seconds),
            unix_seconds(self.discounted),
            self.up_seconds,
            self.total_seconds,
            self.runs,
            self.run_seconds
        )
    }

    /// Reads such a line.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let mut time = || {
            let secs: u64 = words.next()?.parse().ok()?;
            UNIX_EPOCH.checked_add(Duration::from_secs(secs))
        };
        let (recorded, reached, discounted, up_since) = (time()?, time()?, time()?, time()?);
        let mut sum = || {
            words
                .next()?
                .parse()
                .ok()
                .filter(|sum: &f64| sum.is_finite())
        };
        let (up_seconds, total_seconds, runs, run_seconds) = (sum()?, sum()?, sum()?, sum()?);
        Some(History {
            recorded,
            reached: Some(reached).filter(|time| *time > UNIX_EPOCH),
            discounted,
            up_since: Some(up_since).filter(|time| *time > UNIX_EPOCH),
            up_seconds,
            total_seconds,
            runs,
            run_seconds,
        })
    }
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
        history.record(true, at(0));
        history.record(false, at(6));
        history.record(true, at(8));
        let stats = history.stats(at(8));
        assert!((stats.wfu - 0.75).abs() < 1e-9, "{stats:?}");
        assert_eq!(stats.time_known_seconds, 8 * 3600);
        assert!(
            (stats.mtbf_seconds - 3.0 * 3600.0).abs() < 1e-6,
            "{stats:?}"
        );
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut history = History::new(at(0));
        history.record(false, at(24));
        history.record(true, at(24));
        for hour in 24..24 * 60 {
            history.record(true, at(hour));
        }
        let stats = history.stats(at(24 * 60));
        assert!(stats.wfu > 0.99, "{stats:?}");
    }

    #[test]
    fn a_history_survives_as_a_line() {
        let mut history = History::new(at(0));
        history.record(true, at(1));
        history.record(true, at(30));
        assert_eq!(History::parse(&history.encode()), Some(history));
        assert_eq!(History::parse("1 2 3"), None);
        assert_eq!(History::parse("1 2 3 4 NaN 1 1 1"), None);
    }
}
