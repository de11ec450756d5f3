//! The sample of guards and its upkeep with each consensus (guard-spec 4.1, 4.10, appendix A).
//!
//! Guards are drawn by bandwidth weight, kept in the order in which they were drawn, and given up
//! only when they were unlisted for 20 days, or are 120 days old without having been confirmed in
//! the last 60. A failure to connect never removes one.

use std::collections::BTreeMap;
use std::time::Duration;

use cepa_crypto::{Ed25519Id, Rng, RsaId};
use cepa_netdoc::params::Params;
use cepa_wire::Now;

use super::{Guard, GuardSet, Reachable, before_random};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// When failing guards are tried again: failing for less than the first, wait the second
/// (guard-spec appendix A, PRIMARY_GUARDS_RETRY_SCHED).
const RETRY_PRIMARY: [(Duration, Duration); 4] = [
    (Duration::from_secs(6 * 3600), Duration::from_secs(600)),
    (
        Duration::from_secs(4 * 86_400),
        Duration::from_secs(90 * 60),
    ),
    (
        Duration::from_secs(7 * 86_400),
        Duration::from_secs(4 * 3600),
    ),
    (Duration::MAX, Duration::from_secs(9 * 3600)),
];
/// The same for all other guards (GUARDS_RETRY_SCHED).
const RETRY_OTHER: [(Duration, Duration); 4] = [
    (Duration::from_secs(6 * 3600), HOUR),
    (
        Duration::from_secs(4 * 86_400),
        Duration::from_secs(4 * 3600),
    ),
    (
        Duration::from_secs(7 * 86_400),
        Duration::from_secs(18 * 3600),
    ),
    (Duration::MAX, Duration::from_secs(36 * 3600)),
];
/// In a test network hours pass in minutes.
const TESTING_RETRY_DIVISOR: u32 = 60;

/// A relay that the consensus lists as a guard for all purposes: Guard, Stable, Fast, V2Dir,
/// Running and Valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardCandidate {
    /// Its RSA identity.
    pub rsa: RsaId,
    /// Its Ed25519 identity, where it is known.
    pub ed: Option<Ed25519Id>,
    /// Its nickname, for the state file's readers.
    pub nickname: String,
    /// Its weight as a guard.
    pub weight: u64,
}

/// The numbers of guard-spec appendix A, which consensus parameters may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardParams {
    /// How long an unconfirmed guard stays.
    pub lifetime: Duration,
    /// How long a confirmed guard stays at least.
    pub confirmed_lifetime_min: Duration,
    /// How long an unlisted guard stays.
    pub unlisted_max: Duration,
    /// Guards that the sample has that may be tried, where the consensus has as many.
    pub filtered_min: usize,
    /// Most guards in the sample.
    pub sample_max: usize,
    /// Most of the consensus's guards in the sample, percent.
    pub sample_percent_max: usize,
    /// How many guards are primary.
    pub primary_max: usize,
    /// How many of them carry traffic.
    pub primary_used: usize,
    /// How many of them serve the directory.
    pub primary_used_directory: usize,
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
            testing,
        }
    }

    /// How long after a try the next one follows, for a guard that has failed for so long.
    pub(super) fn retry_after(&self, is_primary: bool, failing_for: Duration) -> Duration {
        let schedule = if is_primary {
            RETRY_PRIMARY
        } else {
            RETRY_OTHER
        };
        let (divisor, [first, ..]) = match self.testing {
            true => (TESTING_RETRY_DIVISOR, schedule),
            false => (1, schedule),
        };
        let row = schedule.iter().find(|(until, _)| failing_for < *until);
        row.unwrap_or(&first).1 / divisor
    }

    fn sample_max(&self, candidates: usize) -> usize {
        let percent = candidates * self.sample_percent_max / 100;
        percent.min(self.sample_max).max(self.filtered_min)
    }
}

impl Default for GuardParams {
    /// The numbers of the specification.
    fn default() -> Self {
        GuardParams::from_consensus(&Params::new(), false)
    }
}

impl GuardSet {
    /// Takes the guards that a new consensus lists, and its parameters. Guards that vanished are
    /// kept as unlisted, the sample is filled up, the primary guards are chosen anew.
    pub fn handle_consensus(
        &mut self,
        params: GuardParams,
        candidates: &[GuardCandidate],
        now: Now,
        rng: &mut Rng,
    ) {
        self.params = params;
        let by_id: BTreeMap<RsaId, &GuardCandidate> =
            candidates.iter().map(|one| (one.rsa, one)).collect();
        self.update_listed(&by_id, now, rng);
        self.expire(now);
        self.fill(candidates, now, rng);
        self.choose_primary();
    }

    fn update_listed(&mut self, by_id: &BTreeMap<RsaId, &GuardCandidate>, now: Now, rng: &mut Rng) {
        for guard in &mut self.sampled {
            let found = by_id.get(&guard.rsa);
            let listed = found.is_some();
            if let Some(candidate) = found {
                self.changed |= guard.unlisted_since.is_some() || guard.ed != candidate.ed;
                guard.unlisted_since = None;
                guard.ed = candidate.ed.or(guard.ed);
                guard.nickname.clone_from(&candidate.nickname);
            } else if guard.unlisted_since.is_none() {
                let since = before_random(now.wall, self.params.unlisted_max / 5, rng);
                guard.unlisted_since = Some(since);
                self.changed = true;
            }
            self.changed |= guard.listed != listed;
            guard.listed = listed;
        }
    }

    fn expire(&mut self, now: Now) {
        let age = |time| now.wall.duration_since(time).unwrap_or_default();
        let params = &self.params;
        let before = self.sampled.len();
        self.sampled.retain(|guard| {
            let gone = guard
                .unlisted_since
                .is_some_and(|since| age(since) > params.unlisted_max);
            let confirmed_lately = guard
                .confirmed
                .is_some_and(|confirmed| age(confirmed.on) <= params.confirmed_lifetime_min);
            let old = age(guard.sampled_on) > params.lifetime && !confirmed_lately;
            !gone && !old
        });
        self.changed |= self.sampled.len() != before;
        self.primary
            .retain(|id| self.sampled.iter().any(|guard| guard.rsa == *id));
    }

    /// Draws new guards until enough of the sample may be tried.
    fn fill(&mut self, candidates: &[GuardCandidate], now: Now, rng: &mut Rng) {
        let sample_max = self.params.sample_max(candidates.len());
        let mut left: Vec<&GuardCandidate> = candidates
            .iter()
            .filter(|one| self.guard(&one.rsa).is_none())
            .collect();
        let usable = |guard: &&Guard| guard.listed && guard.reachable != Reachable::No;
        let mut filtered = self.sampled.iter().filter(usable).count();
        while filtered < self.params.filtered_min && self.sampled.len() < sample_max {
            let Some(drawn) = draw(&mut left, rng) else {
                return;
            };
            self.sampled.push(Guard {
                rsa: drawn.rsa,
                ed: drawn.ed,
                nickname: drawn.nickname.clone(),
                sampled_on: before_random(now.wall, self.params.lifetime / 10, rng),
                listed: true,
                unlisted_since: None,
                confirmed: None,
                reachable: Reachable::Maybe,
                failing_since: None,
                tried_last: None,
                pending: false,
            });
            self.changed = true;
            filtered += 1;
        }
    }
}

/// Takes one out, by weight; by mere chance if none has any.
fn draw<'a>(left: &mut Vec<&'a GuardCandidate>, rng: &mut Rng) -> Option<&'a GuardCandidate> {
    let total = left
        .iter()
        .fold(0_u64, |sum, one| sum.saturating_add(one.weight));
    let at = if total == 0 {
        usize::try_from(rng.below(left.len() as u64)).ok()?
    } else {
        let mut point = rng.below(total);
        left.iter()
            .position(|one| match point.checked_sub(one.weight) {
                Some(rest) => {
                    point = rest;
                    false
                }
                None => true,
            })?
    };
    (at < left.len()).then(|| left.swap_remove(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_schedules() {
        let params = GuardParams::default();
        assert_eq!(params.retry_after(true, Duration::ZERO), HOUR / 6);
        assert_eq!(params.retry_after(true, DAY), HOUR * 3 / 2);
        assert_eq!(params.retry_after(true, 30 * DAY), 9 * HOUR);
        assert_eq!(params.retry_after(false, Duration::ZERO), HOUR);
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
}
