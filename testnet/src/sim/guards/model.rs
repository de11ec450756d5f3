//! A naive model of guards: guard-spec section 4, sentence by sentence, each set made anew whenever
//! it is asked for. It knows nothing of the guards of production.
//!
//! Circuits are built one after the other here, so that no guard is ever pending. As the text says,
//! a guard is confirmed when a circuit through it succeeds (4.8), at the end of the list; where the
//! text leaves a circuit waiting although its guard is primary by that, it is used, as C tor does.

use cepa_crypto::Rng;
use cepa_wire::Now;

use super::world::Relay;
use super::{Chooser, TRIES_MAX};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

// A.1, in the text's names.
const MAX_SAMPLE_THRESHOLD_PERCENT: usize = 20;
const MAX_SAMPLE_SIZE: usize = 60;
const GUARD_LIFETIME: u64 = 120 * DAY;
const REMOVE_UNLISTED_GUARDS_AFTER: u64 = 20 * DAY;
const MIN_FILTERED_SAMPLE: usize = 20;
const N_PRIMARY_GUARDS: usize = 3;
const INTERNET_LIKELY_DOWN_INTERVAL: u64 = 10 * MINUTE;
const GUARD_CONFIRMED_MIN_LIFETIME: u64 = 60 * DAY;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IsReachable {
    Yes,
    No,
    Maybe,
}

#[derive(Debug, Clone)]
struct Sampled {
    number: u32,
    added_on: u64,
    is_listed: bool,
    first_unlisted_at: u64,
    confirmed_on: Option<u64>,
    last_tried_connect: u64,
    is_reachable: IsReachable,
    failing_since: Option<u64>,
}

/// The model.
#[derive(Debug)]
pub(super) struct Model {
    guards: Vec<Relay>,
    sampled: Vec<Sampled>,
    confirmed: Vec<u32>,
    primary: Vec<u32>,
    last_time_on_internet: Option<u64>,
    rng: Rng,
}

impl Model {
    pub(super) fn new(rng: Rng) -> Self {
        Model {
            guards: Vec::new(),
            sampled: Vec::new(),
            confirmed: Vec::new(),
            primary: Vec::new(),
            last_time_on_internet: None,
            rng,
        }
    }

    /// RAND of A.2.
    fn rand(&mut self, now: u64, interval: u64) -> u64 {
        now - self.rng.below(interval)
    }

    fn max_sample(&self) -> usize {
        let percent = self.guards.len() * MAX_SAMPLE_THRESHOLD_PERCENT / 100;
        percent.clamp(MIN_FILTERED_SAMPLE, MAX_SAMPLE_SIZE)
    }

    fn add_to_sample(&mut self, now: u64) -> bool {
        let is_new = |relay: &&Relay| !self.sampled.iter().any(|one| one.number == relay.number);
        let left: Vec<Relay> = self.guards.iter().filter(is_new).cloned().collect();
        let total: u64 = left.iter().map(|relay| relay.weight).sum();
        let mut point = self.rng.below(total);
        for relay in left {
            if point < relay.weight {
                let added_on = self.rand(now, GUARD_LIFETIME / 10);
                self.sampled.push(Sampled {
                    number: relay.number,
                    added_on,
                    is_listed: true,
                    first_unlisted_at: 0,
                    confirmed_on: None,
                    last_tried_connect: 0,
                    is_reachable: IsReachable::Maybe,
                    failing_since: None,
                });
                return true;
            }
            point -= relay.weight;
        }
        false
    }

    fn one(&mut self, number: u32) -> Option<&mut Sampled> {
        self.sampled.iter_mut().find(|one| one.number == number)
    }

    fn filtered(&self) -> Vec<u32> {
        let listed = self.sampled.iter().filter(|one| one.is_listed);
        listed.map(|one| one.number).collect()
    }

    fn usable_filtered(&self) -> Vec<u32> {
        let usable = |one: &&Sampled| one.is_listed && one.is_reachable != IsReachable::No;
        let usable = self.sampled.iter().filter(usable);
        usable.map(|one| one.number).collect()
    }

    fn compute_primary(&mut self) {
        let filtered = self.filtered();
        let mut primary: Vec<u32> = self.confirmed.clone();
        primary.extend(&self.primary);
        primary.extend(&filtered);
        let mut chosen: Vec<u32> = Vec::new();
        for number in primary {
            if filtered.contains(&number) && !chosen.contains(&number) {
                chosen.push(number);
            }
        }
        chosen.truncate(N_PRIMARY_GUARDS);
        self.primary = chosen;
    }

    /// 4.5.
    fn update_reachable(&mut self, now: u64) {
        for one in &mut self.sampled {
            if one.is_reachable != IsReachable::No {
                continue;
            }
            let failing_for = now - one.failing_since.unwrap_or(now);
            let is_primary = self.primary.contains(&one.number);
            let wait = match (is_primary, failing_for) {
                (true, 0..21_600) => 10 * MINUTE,
                (true, 21_600..345_600) => 90 * MINUTE,
                (true, 345_600..604_800) => 4 * HOUR,
                (true, _) => 9 * HOUR,
                (false, 0..21_600) => HOUR,
                (false, 21_600..345_600) => 4 * HOUR,
                (false, 345_600..604_800) => 18 * HOUR,
                (false, _) => 36 * HOUR,
            };
            if now >= one.last_tried_connect + wait {
                one.is_reachable = IsReachable::Maybe;
            }
        }
    }

    /// 4.6.
    fn select(&mut self, is_excluded: &dyn Fn(u32) -> bool, now: u64) -> Option<(u32, bool)> {
        self.update_reachable(now);
        let usable = self.usable_filtered();
        let may = |number: &&u32| usable.contains(number) && !is_excluded(**number);
        if let Some(first) = self.primary.iter().find(may) {
            return Some((*first, true));
        }
        if let Some(first) = self.confirmed.iter().find(may) {
            return Some((*first, false));
        }
        while self.usable_filtered().len() < MIN_FILTERED_SAMPLE
            && self.sampled.len() < self.max_sample()
            && self.add_to_sample(now)
        {}
        let usable = self.usable_filtered();
        if usable.is_empty() {
            for one in &mut self.sampled {
                one.is_reachable = IsReachable::Maybe;
            }
        }
        let first = usable.into_iter().find(|number| !is_excluded(*number));
        first.map(|number| (number, false))
    }

    fn succeeded(&mut self, number: u32, now: u64) {
        let confirmed_on = self.rand(now, GUARD_LIFETIME / 10);
        let Some(one) = self.one(number) else { return };
        one.is_reachable = IsReachable::Yes;
        one.failing_since = None;
        if one.confirmed_on.is_none() {
            one.confirmed_on = Some(confirmed_on);
            self.confirmed.push(number);
            self.compute_primary();
        }
    }

    fn failed(&mut self, number: u32, now: u64) {
        if let Some(one) = self.one(number) {
            one.is_reachable = IsReachable::No;
            one.failing_since.get_or_insert(now);
        }
    }

    fn all_primary_are_down(&self, is_excluded: &dyn Fn(u32) -> bool) -> bool {
        let usable = self.usable_filtered();
        let mut primary = self.primary.iter();
        !primary.any(|number| usable.contains(number) && !is_excluded(*number))
    }
}

impl Chooser for Model {
    /// 4.10.
    fn consensus(&mut self, listed: &[Relay], now: Now) {
        let now = now.unix_seconds();
        self.guards = listed.to_vec();
        for at in 0..self.sampled.len() {
            let first_unlisted_at = self.rand(now, REMOVE_UNLISTED_GUARDS_AFTER / 5);
            let Some(one) = self.sampled.get_mut(at) else {
                continue;
            };
            let is_listed = listed.iter().any(|relay| relay.number == one.number);
            if one.is_listed && !is_listed {
                one.first_unlisted_at = first_unlisted_at;
            }
            one.is_listed = is_listed;
        }
        self.sampled.retain(|one| {
            let is_gone =
                !one.is_listed && now - one.first_unlisted_at > REMOVE_UNLISTED_GUARDS_AFTER;
            let is_unconfirmed = match one.confirmed_on {
                None => true,
                Some(on) => now - on > GUARD_CONFIRMED_MIN_LIFETIME,
            };
            let is_old = now - one.added_on > GUARD_LIFETIME && is_unconfirmed;
            !is_gone && !is_old
        });
        let left: Vec<u32> = self.sampled.iter().map(|one| one.number).collect();
        self.confirmed.retain(|number| left.contains(number));
        self.primary.retain(|number| left.contains(number));
        while self.filtered().len() < MIN_FILTERED_SAMPLE
            && self.sampled.len() < self.max_sample()
            && self.add_to_sample(now)
        {}
        self.compute_primary();
    }

    fn circuit(
        &mut self,
        is_excluded: &dyn Fn(u32) -> bool,
        try_guard: &mut dyn FnMut(u32) -> bool,
        now: Now,
    ) -> Option<u32> {
        let now = now.unix_seconds();
        let mut waiting: Vec<u32> = Vec::new();
        for _ in 0..TRIES_MAX {
            let Some((number, is_primary)) = self.select(is_excluded, now) else {
                continue;
            };
            self.one(number)?.last_tried_connect = now;
            if try_guard(number) {
                let before = self.last_time_on_internet.replace(now);
                self.succeeded(number, now);
                if is_primary || self.primary.contains(&number) {
                    return Some(number);
                }
                waiting.push(number);
                if before.is_none_or(|before| now - before > INTERNET_LIKELY_DOWN_INTERVAL) {
                    let primary = self.primary.clone();
                    for one in &mut self.sampled {
                        if primary.contains(&one.number) {
                            one.is_reachable = IsReachable::Maybe;
                        }
                    }
                }
            } else {
                self.failed(number, now);
            }
            // 4.9: the best of those that wait, in the order of the confirmed ones.
            if !waiting.is_empty() && self.all_primary_are_down(is_excluded) {
                let mut confirmed = self.confirmed.iter();
                return confirmed.find(|number| waiting.contains(number)).copied();
            }
        }
        None
    }

    fn restart(&mut self) {
        for one in &mut self.sampled {
            one.last_tried_connect = 0;
            one.is_reachable = IsReachable::Maybe;
            one.failing_since = None;
        }
        self.last_time_on_internet = None;
        self.primary.clear();
        self.compute_primary();
    }

    fn sample(&self) -> Vec<u32> {
        self.sampled.iter().map(|one| one.number).collect()
    }
}
