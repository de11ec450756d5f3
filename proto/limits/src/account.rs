//! What one address, and its prefix, may still do with its links, whichever worker has them.
//!
//! Shared by all links of an address: a worker asks it for each CREATE cell, with a few atomic
//! operations and no lock. It follows `tor`'s DoSCircuitCreation defence: past the rate, an address
//! with enough links is marked for a while, and its circuits are refused; or, more gently, only
//! what exceeds the rate is. The prefix has eight times the rate, and is never marked: its other
//! hosts did nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cepa_crypto::Rng;

use crate::dos::{CircuitDefense, CircuitRules};

/// How many times the rate of one address its prefix has.
pub const PREFIX_TIMES: u32 = 8;

/// Whether a circuit may be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitVerdict {
    /// Whether the circuit is refused.
    pub is_refused: bool,
    /// The address was marked by this.
    pub is_marked_now: bool,
}

/// What outlives the links of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct CircuitState {
    /// Up to when circuits are paid for.
    pub(crate) paid_until: Option<Instant>,
    /// Up to when they are refused.
    pub(crate) marked_until: Option<Instant>,
}

/// What one address has done over all of its connections, shared by those who count it.
#[derive(Debug)]
pub struct Account {
    /// Where the times below are counted from, in microseconds.
    epoch: Instant,
    paid_until: AtomicU64,
    marked_until: AtomicU64,
    /// Links whose handshake is done.
    open: AtomicU32,
    prefix: Option<Arc<Account>>,
}

impl Account {
    pub(crate) fn new(state: CircuitState, prefix: Option<Arc<Account>>, epoch: Instant) -> Self {
        let micros = |at: Option<Instant>| at.map_or(0, |at| micros(at, epoch));
        Account {
            epoch,
            paid_until: AtomicU64::new(micros(state.paid_until)),
            marked_until: AtomicU64::new(micros(state.marked_until)),
            open: AtomicU32::new(0),
            prefix,
        }
    }

    pub(crate) fn state(&self) -> CircuitState {
        let instant = |at: &AtomicU64| match at.load(Ordering::Relaxed) {
            0 => None,
            micros => self.epoch.checked_add(Duration::from_micros(micros)),
        };
        CircuitState {
            paid_until: instant(&self.paid_until),
            marked_until: instant(&self.marked_until),
        }
    }

    /// A link of this address is open.
    pub fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
        if let Some(prefix) = &self.prefix {
            prefix.opened();
        }
    }

    /// A link that [`Account::opened`] was told of is not open any more.
    pub fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(prefix) = &self.prefix {
            prefix.closed();
        }
    }

    /// Its open links.
    #[must_use]
    pub fn open_links(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a CREATE cell; says what becomes of it.
    pub fn take_circuit(
        &self,
        rules: &CircuitRules,
        rng: &mut Rng,
        now: Instant,
    ) -> CircuitVerdict {
        let mut verdict = CircuitVerdict {
            is_refused: false,
            is_marked_now: false,
        };
        if !rules.is_enabled {
            return verdict;
        }
        let now_us = micros(now, self.epoch);
        let is_over = !self.pay(rules, 1, now_us);
        let is_prefix_over =
            (self.prefix.as_ref()).is_some_and(|it| !it.pay(rules, PREFIX_TIMES, now_us));
        let has_many = |account: &Account| account.open_links() >= rules.min_connections;
        let is_marked = self.marked_until.load(Ordering::Relaxed) > now_us;
        let is_over = is_over && has_many(self);
        let is_prefix_over = is_prefix_over && self.prefix.as_deref().is_some_and(has_many);
        if is_over && rules.defense == CircuitDefense::Mark {
            let until = now_us.saturating_add(draw_us(rules.period, rng));
            self.marked_until.store(until, Ordering::Relaxed);
            verdict.is_marked_now = !is_marked;
        }
        verdict.is_refused = match rules.defense {
            CircuitDefense::None => false,
            CircuitDefense::Mark => is_marked || is_over || is_prefix_over,
            CircuitDefense::Limit => is_over || is_prefix_over,
        };
        verdict
    }

    /// Pays for one circuit, if the rate lets it.
    fn pay(&self, rules: &CircuitRules, times: u32, now_us: u64) -> bool {
        let Some(rate) = rules.rate else { return true };
        let rate = rate.times(times);
        let interval = as_micros(rate.interval).max(1);
        let ahead_max = as_micros(rate.ahead_max);
        let pay = |paid: u64| {
            let begin = paid.max(now_us);
            (begin - now_us <= ahead_max).then(|| begin.saturating_add(interval))
        };
        let order = Ordering::Relaxed;
        self.paid_until.fetch_update(order, order, pay).is_ok()
    }
}

/// How long a defence lasts: from the period to half as much again, so that nobody knows its end.
pub(crate) fn draw(period: Duration, rng: &mut Rng) -> Duration {
    Duration::from_micros(draw_us(period, rng))
}

fn draw_us(period: Duration, rng: &mut Rng) -> u64 {
    let period = as_micros(period);
    period.saturating_add(rng.below((period / 2).max(1)))
}

fn micros(at: Instant, epoch: Instant) -> u64 {
    as_micros(at.saturating_duration_since(epoch))
}

fn as_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dos::DosParams;

    const EPOCH_IS_BEFORE: Duration = Duration::from_secs(5);

    #[expect(clippy::disallowed_methods, reason = "any instant is as good")]
    fn now() -> Instant {
        Instant::now() + EPOCH_IS_BEFORE
    }

    fn rules(defense: CircuitDefense) -> CircuitRules {
        CircuitRules {
            is_enabled: true,
            defense,
            ..DosParams::default().circuit
        }
    }

    fn account(links: u32, now: Instant) -> (Account, Arc<Account>) {
        let epoch = now - EPOCH_IS_BEFORE;
        let prefix = Arc::new(Account::new(CircuitState::default(), None, epoch));
        let account = Account::new(CircuitState::default(), Some(Arc::clone(&prefix)), epoch);
        (0..links).for_each(|_| account.opened());
        (account, prefix)
    }

    fn refused(account: &Account, rules: &CircuitRules, times: u32, now: Instant) -> u32 {
        let mut rng = Rng::from_seed([1; 32]);
        let verdicts = (0..times).map(|_| account.take_circuit(rules, &mut rng, now));
        verdicts.filter(|verdict| verdict.is_refused).count() as u32
    }

    #[test]
    fn few_links_may_create_as_many_as_they_like() {
        let now = now();
        let (account, _) = account(2, now);
        assert_eq!(refused(&account, &rules(CircuitDefense::Mark), 500, now), 0);
    }

    #[test]
    fn a_flood_from_many_links_is_marked_for_an_hour_or_more() {
        let (now, rules) = (now(), rules(CircuitDefense::Mark));
        let (account, _) = account(3, now);
        let mut rng = Rng::from_seed([2; 32]);
        let mut marked = 0;
        for n in 0..100 {
            let verdict = account.take_circuit(&rules, &mut rng, now);
            assert_eq!(verdict.is_refused, n >= 90, "{n}");
            marked += u32::from(verdict.is_marked_now);
        }
        assert_eq!(marked, 1);
        let hour = Duration::from_secs(3600);
        assert_eq!(refused(&account, &rules, 1, now + hour), 1);
        assert_eq!(refused(&account, &rules, 1, now + hour * 3 / 2), 0);
        assert!(
            account
                .state()
                .marked_until
                .is_some_and(|until| until > now + hour)
        );
    }

    #[test]
    fn the_gentle_defence_lets_the_rate_through() {
        let (now, rules) = (now(), rules(CircuitDefense::Limit));
        let (account, _) = account(3, now);
        assert_eq!(refused(&account, &rules, 100, now), 10);
        assert_eq!(
            refused(&account, &rules, 10, now + Duration::from_secs(2)),
            4
        );
    }

    #[test]
    fn a_prefix_is_limited_but_not_marked() {
        let (now, rules) = (now(), rules(CircuitDefense::Mark));
        let epoch = now - EPOCH_IS_BEFORE;
        let prefix = Arc::new(Account::new(CircuitState::default(), None, epoch));
        let hosts: Vec<_> = (0..100)
            .map(|_| Account::new(CircuitState::default(), Some(Arc::clone(&prefix)), epoch))
            .collect();
        hosts.iter().for_each(Account::opened);
        let refused: u32 = hosts
            .iter()
            .map(|host| refused(host, &rules, 10, now))
            .sum();
        assert_eq!(refused, 1000 - 90 * PREFIX_TIMES);
        assert!(hosts.iter().all(|host| host.state().marked_until.is_none()));
    }

    #[test]
    fn nothing_is_refused_unless_the_rule_is_on() {
        let now = now();
        let (account, _) = account(9, now);
        let off = DosParams::default().circuit;
        assert_eq!(refused(&account, &off, 1000, now), 0);
        assert_eq!(
            refused(&account, &rules(CircuitDefense::None), 1000, now),
            0
        );
    }
}
