//! The numbers of guard-spec A.1, which consensus parameters may set, and the schedules by which
//! failing guards are tried again.

use std::time::Duration;

use cepa_netdoc::params::Params;

use crate::overrides::GuardOverrides;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// When failing guards are tried again: failing for less than the first, wait the second
/// (guard-spec A.1, PRIMARY_GUARDS_RETRY_SCHED). Seconds.
const RETRY_PRIMARY: [(u64, u64); 4] = [
    (6 * 3600, 600),
    (4 * 86_400, 90 * 60),
    (7 * 86_400, 4 * 3600),
    (u64::MAX, 9 * 3600),
];
/// The same for all other guards (GUARDS_RETRY_SCHED).
const RETRY_OTHER: [(u64, u64); 4] = [
    (6 * 3600, 3600),
    (4 * 86_400, 4 * 3600),
    (7 * 86_400, 18 * 3600),
    (u64::MAX, 36 * 3600),
];
/// In a test network hours pass in minutes.
const TESTING_DIVISOR: u32 = 60;
/// Most guards in a sample, whatever the parameters say.
pub(super) const SAMPLE_MAX: usize = 200;

/// The numbers of guard-spec A.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardParams {
    /// How long an unconfirmed guard stays (GUARD_LIFETIME).
    pub lifetime: Duration,
    /// How long a confirmed guard stays at least (GUARD_CONFIRMED_MIN_LIFETIME).
    pub confirmed_lifetime_min: Duration,
    /// How long an unlisted guard stays (REMOVE_UNLISTED_GUARDS_AFTER).
    pub unlisted_max: Duration,
    /// Guards of the sample that may be tried, where there are as many (MIN_FILTERED_SAMPLE).
    pub filtered_min: usize,
    /// Most guards in the sample (MAX_SAMPLE_SIZE).
    pub sample_max: usize,
    /// Most of the consensus's guards in the sample, percent (MAX_SAMPLE_THRESHOLD).
    pub sample_percent_max: usize,
    /// How many guards are primary (N_PRIMARY_GUARDS).
    pub primary_max: usize,
    /// How many of them carry traffic (NUM_USABLE_PRIMARY_GUARDS).
    pub primary_used: usize,
    /// How many of them serve the directory (NUM_USABLE_PRIMARY_DIRECTORY_GUARDS).
    pub primary_used_directory: usize,
    /// After so long without success the network is taken to have been down, not the guards
    /// (INTERNET_LIKELY_DOWN_INTERVAL).
    pub internet_likely_down: Duration,
    /// How long a better guard's circuit that is being built keeps a built one waiting
    /// (NONPRIMARY_GUARD_CONNECT_TIMEOUT).
    pub connect_timeout: Duration,
    /// How long a built circuit waits at most (NONPRIMARY_GUARD_IDLE_TIMEOUT).
    pub idle_timeout: Duration,
    /// With fewer of the consensus's guards allowed, percent, a sample of their own is kept
    /// (MEANINGFUL_RESTRICTION_FRAC).
    pub restricted_percent: usize,
    /// With fewer, percent, the operator is warned (EXTREME_RESTRICTION_FRAC).
    pub extreme_percent: usize,
    /// A test network: failing guards are retried within seconds.
    pub testing: bool,
}

impl GuardParams {
    /// The numbers that a consensus gives, or those of the specification.
    #[must_use]
    pub fn from_consensus(params: &Params, testing: bool) -> Self {
        let days = |name, default| {
            let days = params.value(name, default, 1, 3650);
            DAY * days.unsigned_abs()
        };
        let count = |name, default, max| {
            let count = params.value(name, default, 1, max);
            usize::try_from(count).unwrap_or(1)
        };
        let percent = |name, default| {
            let percent = params.value(name, default, 0, 100);
            usize::try_from(percent).unwrap_or(0)
        };
        let seconds = |name, default| {
            let seconds = params.value(name, default, 1, i32::MAX);
            Duration::from_secs(u64::from(seconds.unsigned_abs()))
        };
        let pace = if testing { TESTING_DIVISOR / 10 } else { 1 };
        GuardParams {
            lifetime: days("guard-lifetime-days", 120),
            confirmed_lifetime_min: days("guard-confirmed-min-lifetime-days", 60),
            unlisted_max: days("guard-remove-unlisted-guards-after-days", 20),
            filtered_min: count("guard-min-filtered-sample-size", 20, 100),
            sample_max: count("guard-max-sample-size", 60, 200),
            sample_percent_max: count("guard-max-sample-threshold-percent", 20, 100),
            primary_max: count("guard-n-primary-guards", 3, 100),
            primary_used: count("guard-n-primary-guards-to-use", 1, 100),
            primary_used_directory: count("guard-n-primary-dir-guards-to-use", 3, 100),
            internet_likely_down: seconds("guard-internet-likely-down-interval", 600),
            connect_timeout: seconds("guard-nonprimary-guard-connect-timeout", 15) / pace,
            idle_timeout: seconds("guard-nonprimary-guard-idle-timeout", 600),
            restricted_percent: percent("guard-meaningful-restriction-percent", 20),
            extreme_percent: percent("guard-extreme-restriction-percent", 1),
            testing,
        }
    }

    /// The same where an operator says otherwise. A lifetime of less than a day is none.
    #[must_use]
    pub fn overridden(mut self, overrides: &GuardOverrides) -> Self {
        if let Some(lifetime) = overrides.lifetime.filter(|time| *time >= DAY) {
            (self.lifetime, self.confirmed_lifetime_min) = (lifetime, lifetime);
        }
        let bounded = |said: Option<usize>, else_: usize| match said {
            None | Some(0) => else_,
            Some(count) => count.min(SAMPLE_MAX),
        };
        self.primary_used = bounded(overrides.used, self.primary_used);
        self.primary_used_directory = bounded(overrides.directory, self.primary_used_directory);
        self.primary_max = bounded(overrides.primary, self.primary_max);
        self
    }

    /// How long after a try the next one follows, for a guard that has failed for so long
    /// (guard-spec 4.5).
    #[must_use]
    pub fn retry_after(&self, is_primary: bool, failing_for: Duration) -> Duration {
        let schedule = if is_primary {
            RETRY_PRIMARY
        } else {
            RETRY_OTHER
        };
        let divisor = if self.testing { TESTING_DIVISOR } else { 1 };
        let [.., last] = schedule;
        let mut rows = schedule.iter();
        let row = rows.find(|(until, _)| failing_for.as_secs() < *until);
        Duration::from_secs(row.unwrap_or(&last).1) / divisor
    }

    /// Most guards in a sample, where the consensus lists so many (guard-spec 4.1).
    #[must_use]
    pub fn sample_max(&self, listed: usize) -> usize {
        let percent = listed.saturating_mul(self.sample_percent_max) / 100;
        percent
            .min(self.sample_max)
            .max(self.filtered_min)
            .min(SAMPLE_MAX)
    }
}

impl Default for GuardParams {
    /// The numbers of the specification.
    fn default() -> Self {
        GuardParams::from_consensus(&Params::new(), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn retry_schedules() {
        let params = GuardParams::default();
        assert_eq!(params.retry_after(true, Duration::ZERO), HOUR / 6);
        assert_eq!(params.retry_after(true, 6 * HOUR), HOUR * 3 / 2);
        assert_eq!(params.retry_after(true, 4 * DAY), 4 * HOUR);
        assert_eq!(params.retry_after(true, 7 * DAY), 9 * HOUR);
        assert_eq!(params.retry_after(false, Duration::ZERO), HOUR);
        assert_eq!(params.retry_after(false, 6 * HOUR), 4 * HOUR);
        assert_eq!(params.retry_after(false, 4 * DAY), 18 * HOUR);
        assert_eq!(params.retry_after(false, Duration::MAX), 36 * HOUR);
        let testing = GuardParams {
            testing: true,
            ..params
        };
        let wait = testing.retry_after(true, Duration::ZERO);
        assert_eq!(wait, Duration::from_secs(10));
    }

    #[test]
    fn sample_sizes() {
        let params = GuardParams::default();
        assert_eq!(params.sample_max(8), 20);
        assert_eq!(params.sample_max(200), 40);
        assert_eq!(params.sample_max(5000), 60);
    }

    #[test]
    fn an_operator_sets_the_numbers() {
        let text = "guard-lifetime-days=30 guard-n-primary-guards=4";
        let params = GuardParams::from_consensus(&Params::parse(text).unwrap(), false);
        assert_eq!(
            params.clone().overridden(&GuardOverrides::default()),
            params
        );
        let overrides = GuardOverrides {
            used: Some(2),
            primary: Some(5),
            directory: Some(6),
            lifetime: Some(40 * DAY),
        };
        let overridden = params.clone().overridden(&overrides);
        assert_eq!((overridden.primary_used, overridden.primary_max), (2, 5));
        assert_eq!(overridden.primary_used_directory, 6);
        assert_eq!(
            (overridden.lifetime, overridden.confirmed_lifetime_min),
            (40 * DAY, 40 * DAY)
        );
        let nothing = GuardOverrides {
            used: Some(0),
            lifetime: Some(HOUR),
            ..GuardOverrides::default()
        };
        assert_eq!(params.clone().overridden(&nothing), params);
    }

    #[test]
    fn a_consensus_sets_the_numbers() {
        let text = "guard-lifetime-days=30 guard-max-sample-size=5000 \
                    guard-n-primary-guards=0 guard-nonprimary-guard-connect-timeout=7";
        let params = GuardParams::from_consensus(&Params::parse(text).unwrap(), false);
        assert_eq!(params.lifetime, 30 * DAY);
        assert_eq!(params.sample_max, 200);
        assert_eq!(params.primary_max, 1);
        assert_eq!(params.connect_timeout, Duration::from_secs(7));
        assert_eq!(params.confirmed_lifetime_min, 60 * DAY);
    }
}
