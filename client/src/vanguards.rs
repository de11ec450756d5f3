//! Vanguards-lite: which few relays may ever be a second hop of circuits for onion services
//! (proposal 333; vanguards-spec).
//!
//! A stranger who makes a client or a service build circuits at will would sooner or later own the
//! hop behind the guard, and see the guard. So that hop is one of a handful, each kept for a
//! random time, the longer of two draws between the network's bounds. As in `tor` the set is not
//! kept across restarts. A relay that is not listed any more is replaced.

use std::time::{Duration, Instant};

use cepa_crypto::{Rng, RsaId};
use cepa_dir::{NetworkView, Relay, Role};
use cepa_netdoc::params::Params;
use cepa_netdoc::routerstatus::Flags;
use cepa_wire::Now;

use crate::rules::Permits;

const DAY_SECONDS: i32 = 86_400;

/// One of them.
#[derive(Debug, Clone, Copy)]
struct Vanguard {
    id: RsaId,
    until: Instant,
}

/// The second hops of circuits for onion services.
#[derive(Debug, Default)]
pub struct Vanguards {
    layer2: Vec<Vanguard>,
}

impl Vanguards {
    /// Replaces those that are too old, or listed no more, so that there are as many as the network
    /// wants (`guard-hs-l2-number`) or has.
    pub fn refresh(&mut self, view: &NetworkView, permits: &Permits, now: Now, rng: &mut Rng) {
        let usable = |relay: &Relay| {
            relay.flags.contains(Flags::RUNNING | Flags::VALID) && permits.of(&relay.rsa_id).any
        };
        self.layer2
            .retain(|one| one.until > now.mono && view.relay(&one.id).is_some_and(usable));
        let wanted = view.params().value("guard-hs-l2-number", 4, 1, 19);
        let wanted = usize::try_from(wanted).unwrap_or(1);
        self.layer2.truncate(wanted);
        while self.layer2.len() < wanted {
            let is_new =
                |relay: &Relay| usable(relay) && !self.layer2.iter().any(|v| v.id == relay.rsa_id);
            let draw = |rng: &mut Rng, flags: Flags| {
                let fits = |relay: &Relay| is_new(relay) && relay.flags.contains(flags);
                view.choose(rng, Role::Middle, fits)
                    .map(|relay| relay.rsa_id)
            };
            let id = draw(rng, Flags::FAST | Flags::STABLE).or_else(|| draw(rng, Flags::NONE));
            let Some(id) = id else { return };
            let until = now.mono + lifetime(view.params(), rng);
            self.layer2.push(Vanguard { id, until });
        }
    }

    /// Those in use.
    pub fn layer2(&self) -> impl Iterator<Item = RsaId> {
        self.layer2.iter().map(|one| one.id)
    }

    /// When [`Vanguards::refresh`] has something to do, without a new consensus.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.layer2.iter().map(|one| one.until).min()
    }
}

/// How long one is kept: the longer of two uniform draws (proposal 333, section 1).
fn lifetime(params: &Params, rng: &mut Rng) -> Duration {
    let bound = |name, default| params.value(name, default, 1, i32::MAX).unsigned_abs();
    let min = bound("guard-hs-l2-lifetime-min", DAY_SECONDS);
    let max = bound("guard-hs-l2-lifetime-max", 12 * DAY_SECONDS).max(min);
    let span = u64::from(max - min) + 1;
    let drawn = rng.below(span).max(rng.below(span));
    Duration::from_secs(u64::from(min) + drawn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawn::{Documents, DrawnRelay, start};

    fn relays(count: u8) -> Vec<DrawnRelay> {
        let mut rng = Rng::from_seed([3; 32]);
        (1..=count).map(|n| DrawnRelay::new(n, &mut rng)).collect()
    }

    #[test]
    fn four_that_are_kept_for_days_and_replaced_one_by_one() {
        let (now, mut rng) = (start(), Rng::from_seed([4; 32]));
        let view = Documents::new(&relays(12), "", now).view();
        let mut vanguards = Vanguards::default();
        vanguards.refresh(&view, &Permits::default(), now, &mut rng);
        let first: Vec<RsaId> = vanguards.layer2().collect();
        assert_eq!(first.len(), 4);
        let day = Duration::from_secs(86_400);
        let mut unique = first.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), 4);
        let soonest = vanguards.poll_timeout().unwrap();
        assert!(soonest >= now.mono + day && soonest <= now.mono + 12 * day);
        let just_before = now + (soonest - now.mono - Duration::from_secs(1));
        vanguards.refresh(&view, &Permits::default(), just_before, &mut rng);
        assert_eq!(vanguards.layer2().collect::<Vec<_>>(), first);
        vanguards.refresh(
            &view,
            &Permits::default(),
            now + (soonest - now.mono),
            &mut rng,
        );
        let second: Vec<RsaId> = vanguards.layer2().collect();
        // The one may be drawn again, for another time.
        assert!(second.iter().filter(|id| first.contains(id)).count() >= 3);
        assert!(vanguards.poll_timeout().unwrap() > soonest);
        // Not listed any more: replaced at once.
        let gone = second[0];
        let mut fewer = relays(12);
        fewer.retain(|relay| relay.rsa != gone);
        let view = Documents::new(&fewer, "", now).view();
        vanguards.refresh(&view, &Permits::default(), now, &mut rng);
        assert!(vanguards.layer2().all(|id| id != gone));
        assert_eq!(vanguards.layer2().count(), 4);
    }

    #[test]
    fn as_many_as_a_small_network_has() {
        let (now, mut rng) = (start(), Rng::from_seed([4; 32]));
        let mut few = relays(3);
        for relay in &mut few {
            relay.flags.remove(Flags::FAST);
        }
        let view = Documents::new(&few, "", now).view();
        let mut vanguards = Vanguards::default();
        vanguards.refresh(&view, &Permits::default(), now, &mut rng);
        assert_eq!(vanguards.layer2().count(), 3);
    }

    #[test]
    fn lifetimes_are_the_longer_of_two_draws() {
        let mut rng = Rng::from_seed([5; 32]);
        let params = Params::new();
        let days: Vec<f64> = (0..2000)
            .map(|_| lifetime(&params, &mut rng).as_secs_f64() / 86_400.0)
            .collect();
        assert!(days.iter().all(|days| (1.0..=12.0).contains(days)));
        // The mean of the longer of two is two thirds of the span.
        let mean = days.iter().sum::<f64>() / 2000.0;
        assert!((8.0..8.7).contains(&mean), "{mean}");
    }
}
