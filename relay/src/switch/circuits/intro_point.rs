//! What a circuit needs to be an introduction point (rend-spec-v3 3.1; proposal 305).

use std::time::Instant;

use cepa_limits::{Meter, Rate};
use cepa_wire::establish_intro::DosParams;

use crate::switch::handover::AuthKey;

/// What a circuit needs to be an introduction point.
#[derive(Debug)]
pub(crate) struct IntroPoint {
    pub(crate) auth_key: AuthKey,
    limiter: Option<Limiter>,
    /// The auth key's home knows it.
    pub(crate) is_established: bool,
}

impl IntroPoint {
    /// A point that its home does not know yet; `asked` is what the service or the consensus says
    /// of how many introductions it is to get.
    pub(crate) fn new(auth_key: AuthKey, asked: Option<DosParams>) -> Self {
        IntroPoint {
            auth_key,
            limiter: asked.and_then(Limiter::new),
            is_established: false,
        }
    }

    /// Whether the service wants one more introduction now.
    pub(crate) fn lets_through(&mut self, now: Instant) -> bool {
        let limiter = self.limiter.as_mut();
        limiter.is_none_or(|limiter| limiter.lets_through(now))
    }
}

/// How many introductions a service gets.
#[derive(Debug)]
struct Limiter {
    rate: Rate,
    meter: Meter,
}

impl Limiter {
    /// `None`: nothing is limited.
    fn new(asked: DosParams) -> Option<Self> {
        let (rate, burst) = asked.limit()?;
        Some(Limiter {
            rate: Rate::new(rate, burst)?,
            meter: Meter::default(),
        })
    }

    fn lets_through(&mut self, now: Instant) -> bool {
        self.meter.take(self.rate, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
    fn now() -> Instant {
        Instant::now()
    }

    fn limiter(rate_per_s: u64, burst: u64) -> Option<Limiter> {
        Limiter::new(DosParams { rate_per_s, burst })
    }

    #[test]
    fn the_limiter_is_exact() {
        let start = now();
        let mut limiter = limiter(4, 10).unwrap();
        let mut let_through = |at: Duration, asked: usize| {
            let asked = 0..asked;
            asked.filter(|_| limiter.lets_through(start + at)).count()
        };
        let ms = Duration::from_millis;
        assert_eq!(let_through(ms(0), 100), 10);
        assert_eq!(let_through(ms(249), 100), 0);
        assert_eq!(let_through(ms(250), 100), 1);
        assert_eq!(let_through(ms(1249), 100), 3);
        assert_eq!(let_through(ms(3000), 100), 8);
        // Asked all the time, the rate is kept; rested, no more than the burst is saved up.
        let hour = Duration::from_secs(3600);
        let asked: usize = (0..36_000)
            .map(|n| let_through(hour + ms(100) * n, 5))
            .sum();
        assert_eq!(asked, 10 + 4 * 3600 - 1);
        assert_eq!(let_through(hour * 10, 100), 10);
    }

    #[test]
    fn what_makes_no_sense_limits_nothing() {
        for (rate, burst) in [(0, 5), (5, 0), (5, 4), (1 << 31, 1 << 31), (1, u64::MAX)] {
            assert!(limiter(rate, burst).is_none());
        }
        let mut widest = limiter(1, (1 << 31) - 1).unwrap();
        assert!(widest.lets_through(now()));
        let mut fastest = limiter((1 << 31) - 1, (1 << 31) - 1).unwrap();
        assert!(fastest.lets_through(now()));
    }
}
