//! One set of guards: the sample and its upkeep with each consensus, the primary guards, the order
//! in which guards are tried (guard-spec 4.1 to 4.6, 4.10).
//!
//! Guards are drawn by bandwidth weight and kept in the order in which they were drawn, the order
//! of preference among confirmed ones, too (proposal 310). They are given up only when they
//! were unlisted for 20 days, or are 120 days old without having been confirmed in the last 60. A
//! failure to connect never removes one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use cepa_crypto::{Rng, RsaId};
use cepa_wire::Now;

use super::status::{Departure, DepartureReason};
use super::{Guard, GuardCandidate, GuardParams, Reachable, Selection, before_random};
use crate::select::shuffle;

/// How a guard's rank begins its sort key; the first is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Confirmed,
    /// A circuit through it was built, but is not used yet.
    Proven,
    Pending,
    Other,
}

/// A set of guards.
#[derive(Debug, Default)]
pub(super) struct GuardSet {
    /// In the order in which they were sampled.
    pub(super) sampled: Vec<Guard>,
    /// In the order of preference.
    pub(super) primary: Vec<RsaId>,
}

impl GuardSet {
    /// Notes which guards may be used; true if the state has changed.
    pub(super) fn update_allowed(&mut self, by_id: &BTreeMap<RsaId, &GuardCandidate>) -> bool {
        let mut changed = false;
        for guard in &mut self.sampled {
            let found = by_id.get(&guard.rsa);
            guard.allowed = found.is_some_and(|candidate| candidate.allowed);
            let Some(candidate) = found else { continue };
            changed |= candidate.ed.is_some() && guard.ed != candidate.ed;
            guard.ed = candidate.ed.or(guard.ed);
            guard.nickname.clone_from(&candidate.nickname);
            guard.bridge = candidate.bridge;
        }
        changed
    }

    /// Notes which guards are listed, and since when others are not; true if that is news.
    pub(super) fn update_listed(
        &mut self,
        by_id: &BTreeMap<RsaId, &GuardCandidate>,
        params: &GuardParams,
        now: Now,
        rng: &mut Rng,
    ) -> bool {
        let mut changed = false;
        for guard in &mut self.sampled {
            let listed = by_id.contains_key(&guard.rsa);
            changed |= guard.listed != listed;
            guard.listed = listed;
            if listed {
                changed |= guard.unlisted_since.take().is_some();
            } else if guard.unlisted_since.is_none() {
                let since = before_random(now.wall, params.unlisted_max / 5, rng);
                guard.unlisted_since = Some(since);
                changed = true;
            }
            changed |= guard.forget_future(now.wall);
        }
        changed
    }

    /// Gives up what was unlisted for long, and what is old (guard-spec 4.1).
    pub(super) fn expire(
        &mut self,
        selection: Selection,
        params: &GuardParams,
        now: Now,
    ) -> Vec<Departure> {
        let mut gone = Vec::new();
        self.sampled.retain(|guard| {
            let reason = guard.reason_to_go(params, now.wall);
            gone.extend(reason.map(|reason| Departure {
                selection,
                rsa: guard.rsa,
                nickname: guard.nickname.clone(),
                on: now.wall,
                was_confirmed: guard.confirmed_on.is_some(),
                reason,
            }));
            reason.is_none()
        });
        let sampled = &self.sampled;
        self.primary
            .retain(|id| sampled.iter().any(|guard| guard.rsa == *id));
        gone
    }

    /// Draws new guards until enough of the sample count; true if there are new ones.
    pub(super) fn expand(
        &mut self,
        mut eligible: Vec<&GuardCandidate>,
        sample_max: usize,
        params: &GuardParams,
        now: Now,
        rng: &mut Rng,
        counts: impl Fn(&Guard) -> bool,
    ) -> bool {
        let mut count = self.sampled.iter().filter(|guard| counts(guard)).count();
        let sampled: BTreeSet<RsaId> = self.sampled.iter().map(|guard| guard.rsa).collect();
        eligible.retain(|one| !sampled.contains(&one.rsa));
        let before = self.sampled.len();
        while count < params.filtered_min && self.sampled.len() < sample_max {
            let Some(drawn) = draw(&mut eligible, rng) else {
                break;
            };
            let sampled_on = before_random(now.wall, params.lifetime / 10, rng);
            let guard = Guard::sampled(drawn, sampled_on);
            count += usize::from(counts(&guard));
            self.sampled.push(guard);
        }
        self.sampled.len() > before
    }

    /// Chooses the primary guards: confirmed ones, then those that are primary already, then the
    /// rest of the filtered ones, each in the sample's order (guard-spec 4.4).
    pub(super) fn choose_primary(&mut self, params: &GuardParams) {
        self.primary = self.first(params, Guard::is_filtered);
    }

    /// The primary guards of a state that no consensus has been applied to.
    pub(super) fn primary_to_be(&self, params: &GuardParams) -> Vec<RsaId> {
        self.first(params, |guard| guard.listed)
    }

    fn first(&self, params: &GuardParams, counts: impl Fn(&Guard) -> bool) -> Vec<RsaId> {
        let mut found: Vec<&Guard> = self.sampled.iter().filter(|one| counts(one)).collect();
        found.sort_by_key(|guard| {
            let kept = self.primary.iter().position(|id| *id == guard.rsa);
            match guard.confirmed_on {
                Some(_) => (0, 0),
                None => (1, kept.unwrap_or(usize::MAX)),
            }
        });
        let ids = found.iter().map(|guard| guard.rsa);
        ids.take(params.primary_max).collect()
    }

    pub(super) fn consider_retry(&mut self, params: &GuardParams, now: Now) {
        for guard in &mut self.sampled {
            let is_primary = self.primary.contains(&guard.rsa);
            guard.consider_retry(is_primary, params, now);
        }
    }

    pub(super) fn retry_primary(&mut self) {
        for guard in &mut self.sampled {
            if self.primary.contains(&guard.rsa) && guard.reachable == Reachable::No {
                guard.reachable = Reachable::Maybe;
            }
        }
    }

    /// Whether a primary guard that is not excluded may be tried.
    pub(super) fn has_usable_primary(&self, excluded: &[RsaId]) -> bool {
        let mut primary = self.primary.iter().filter(|id| !excluded.contains(id));
        primary.any(|id| self.guard(id).is_some_and(Guard::is_usable))
    }

    /// Whether any guard may be tried that is primary or confirmed.
    pub(super) fn has_preferred(&self) -> bool {
        let is_confirmed = |guard: &Guard| guard.confirmed_on.is_some() && guard.is_usable();
        self.has_usable_primary(&[]) || self.sampled.iter().any(is_confirmed)
    }

    /// The usable guards, best first: primary ones, the first `among` of them in random order; then
    /// confirmed ones; then the others. Of those that are not primary, the ones through which a
    /// circuit is being built come last.
    pub(super) fn ranked(
        &self,
        among: usize,
        pending: &BTreeSet<RsaId>,
        rng: &mut Rng,
    ) -> Vec<RsaId> {
        let mut ranked: Vec<RsaId> = self.primary.clone();
        ranked.retain(|id| self.guard(id).is_some_and(Guard::is_usable));
        let end = among.min(ranked.len());
        shuffle(ranked.get_mut(..end).unwrap_or_default(), rng);
        let mut others: Vec<&Guard> = self
            .sampled
            .iter()
            .filter(|guard| guard.is_usable() && !self.primary.contains(&guard.rsa))
            .collect();
        // Stable: in the sample's order where the rest is equal.
        others.sort_by_key(|guard| (pending.contains(&guard.rsa), guard.confirmed_on.is_none()));
        ranked.extend(others.iter().map(|guard| guard.rsa));
        ranked
    }

    /// How a guard is preferred to others when both work (guard-spec 4.3); the least is the best.
    pub(super) fn priority(
        &self,
        id: &RsaId,
        pending: &BTreeSet<RsaId>,
    ) -> Option<(Class, Option<std::time::Instant>, usize)> {
        let place = self.sampled.iter().position(|guard| guard.rsa == *id)?;
        let guard = self.sampled.get(place)?;
        Some(if guard.confirmed_on.is_some() {
            (Class::Confirmed, None, place)
        } else if guard.reachable == Reachable::Yes {
            (Class::Proven, None, place)
        } else if pending.contains(id) {
            (Class::Pending, guard.tried_last.map(|at| at.mono), place)
        } else {
            (Class::Other, None, place)
        })
    }

    /// A guard carries traffic: it is preferred from now on. True if it did not before.
    pub(super) fn confirm(
        &mut self,
        id: &RsaId,
        params: &GuardParams,
        now: Now,
        rng: &mut Rng,
    ) -> bool {
        let on = before_random(now.wall, params.lifetime / 10, rng);
        match self.guard_mut(id) {
            Some(guard) if guard.confirmed_on.is_none() => guard.confirmed_on = Some(on),
            _ => return false,
        }
        self.choose_primary(params);
        true
    }

    pub(super) fn is_primary(&self, id: &RsaId) -> bool {
        self.primary.contains(id)
    }

    pub(super) fn guard(&self, id: &RsaId) -> Option<&Guard> {
        self.sampled.iter().find(|guard| guard.rsa == *id)
    }

    pub(super) fn guard_mut(&mut self, id: &RsaId) -> Option<&mut Guard> {
        self.sampled.iter_mut().find(|guard| guard.rsa == *id)
    }
}

impl Guard {
    fn sampled(drawn: &GuardCandidate, sampled_on: SystemTime) -> Guard {
        Guard {
            rsa: drawn.rsa,
            ed: drawn.ed,
            nickname: drawn.nickname.clone(),
            bridge: drawn.bridge,
            sampled_on,
            sampled_by: concat!("cepa-", env!("CARGO_PKG_VERSION")).to_owned(),
            listed: true,
            unlisted_since: None,
            confirmed_on: None,
            others: Vec::new(),
            allowed: drawn.allowed,
            reachable: Reachable::Maybe,
            failing_since: None,
            tried_last: None,
        }
    }

    /// Dates of a clock that was wrong must not make a guard stay longer; true if there were any.
    fn forget_future(&mut self, now: SystemTime) -> bool {
        let dates = [
            Some(&mut self.sampled_on),
            self.confirmed_on.as_mut(),
            self.unlisted_since.as_mut(),
        ];
        let mut changed = false;
        for date in dates.into_iter().flatten() {
            changed |= *date > now;
            *date = (*date).min(now);
        }
        changed
    }

    fn reason_to_go(&self, params: &GuardParams, now: SystemTime) -> Option<DepartureReason> {
        let age = |time| now.duration_since(time).unwrap_or(Duration::ZERO);
        if !self.listed
            && self
                .unlisted_since
                .is_some_and(|at| age(at) > params.unlisted_max)
        {
            return Some(DepartureReason::Unlisted);
        }
        let confirmed_lately = self
            .confirmed_on
            .is_some_and(|on| age(on) <= params.confirmed_lifetime_min);
        let is_old = age(self.sampled_on) > params.lifetime && !confirmed_lately;
        is_old.then_some(DepartureReason::Old)
    }
}

/// Takes one out, by weight; by mere chance if none has any.
fn draw<'a>(left: &mut Vec<&'a GuardCandidate>, rng: &mut Rng) -> Option<&'a GuardCandidate> {
    let total = left
        .iter()
        .fold(0_u64, |sum, one| sum.saturating_add(one.weight));
    let at = if left.is_empty() {
        return None;
    } else if total == 0 {
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
