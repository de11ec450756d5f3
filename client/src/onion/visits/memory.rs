//! What a visitor remembers of others' failures: directories that were asked lately, introduction
//! points that did not work (rend-spec-v3 2.2.3, 3.2 leave it open; as `tor` does it).
//!
//! Invariants: a directory is asked for a blinded key once in [`ASKED_AGE`] (`tor`'s rule). If it
//! gave a descriptor or could not be reached, it is asked again after [`AGAIN_MIN`], and each time
//! it is waited for twice as long, up to [`AGAIN_MAX`]: only so does a visitor find the new
//! descriptor of a service that came back. An introduction point that refused or did not answer
//! rests for [`FAILURE_AGE`], but is tried again after [`REST_MIN`] if there is no other. Both
//! memories are bounded, and forget the oldest first.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cepa_crypto::RsaId;

/// A directory that said that there is no such descriptor, or gave a bad one.
pub(super) const ASKED_AGE: Duration = Duration::from_secs(15 * 60);
/// The same in a test network.
pub(super) const ASKED_AGE_TESTING: Duration = Duration::from_secs(5);
/// A directory that gave a descriptor, or was not reached, for the first time in a row.
pub(super) const AGAIN_MIN: Duration = Duration::from_secs(2);
/// The same after many times.
pub(super) const AGAIN_MAX: Duration = Duration::from_secs(5);
/// Pairs of directory and blinded key that are remembered.
pub(super) const ASKED_MAX: usize = 4096;
/// How long an introduction point is not used after it failed.
pub(super) const FAILURE_AGE: Duration = Duration::from_secs(120);
/// How long it is not used if there is no other.
pub(super) const REST_MIN: Duration = Duration::from_secs(5);
/// The same in a test network.
pub(super) const REST_MIN_TESTING: Duration = Duration::from_secs(2);
/// Times that an introduction point may be out of reach before that counts.
pub(super) const UNREACHABLE_MAX: u32 = 5;
/// Introduction points that are remembered.
pub(super) const FAILURES_MAX: usize = 4096;

/// What came of asking a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A descriptor that could be read, or at least was one; or no connection to it.
    Answered,
    /// Anything else.
    InVain,
}

/// When a directory may be asked again.
#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Instant,
    /// How long it is waited for if it is asked in vain right then.
    next: Duration,
}

/// Directories that were asked lately, by blinded key.
#[derive(Debug)]
pub(super) struct AskedDirectories {
    testing: bool,
    rests: BTreeMap<([u8; 32], RsaId), Rest>,
}

impl AskedDirectories {
    /// Remembers nothing yet.
    pub(super) fn new(testing: bool) -> Self {
        AskedDirectories {
            testing,
            rests: BTreeMap::new(),
        }
    }

    /// Takes note that a directory was asked.
    pub(super) fn note(&mut self, blinded: [u8; 32], hsdir: RsaId, asked: Asked, now: Instant) {
        let key = (blinded, hsdir);
        // Who asks again only now and then does not wait longer each time.
        let known = self.rests.get(&key);
        let known = known.filter(|rest| now <= rest.until + AGAIN_MAX);
        let again = known.map_or(AGAIN_MIN, |rest| rest.next);
        let age = match asked {
            Asked::Answered => again,
            Asked::InVain if self.testing => ASKED_AGE_TESTING,
            Asked::InVain => ASKED_AGE,
        };
        if self.rests.len() >= ASKED_MAX {
            self.rests.retain(|_, rest| rest.until > now);
        }
        drop_oldest(&mut self.rests, ASKED_MAX, |rest| rest.until);
        let next = again.saturating_mul(2).min(AGAIN_MAX);
        let until = now + age;
        self.rests.insert(key, Rest { until, next });
    }

    /// Whether a directory may be asked.
    pub(super) fn allows(&self, blinded: [u8; 32], hsdir: RsaId, now: Instant) -> bool {
        let rest = self.rests.get(&(blinded, hsdir));
        rest.is_none_or(|rest| rest.until <= now)
    }

    /// Forgets all about a blinded key: the service was reached.
    pub(super) fn forget(&mut self, blinded: [u8; 32]) {
        self.rests.retain(|(key, _), _| *key != blinded);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.rests.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.rests.len()
    }
}

/// How an introduction point failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IntroFailure {
    /// It refused, or closed the circuit.
    Refused,
    /// It did not answer.
    TimedOut,
    /// No circuit came to it.
    Unreachable,
}

/// What is known of an introduction point that failed.
#[derive(Debug, Clone, Copy)]
struct Failure {
    since: Instant,
    last: Instant,
    counts: bool,
    unreachable: u32,
}

/// How an introduction point stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// It has not failed lately.
    Good,
    /// It has, and may be tried if there is no other.
    Rested,
    /// It has, just now.
    Bad,
}

/// Introduction points that failed lately, by their authentication key.
#[derive(Debug)]
pub(super) struct IntroFailures {
    rest_min: Duration,
    failures: BTreeMap<[u8; 32], Failure>,
}

impl IntroFailures {
    /// Remembers nothing yet.
    pub(super) fn new(testing: bool) -> Self {
        IntroFailures {
            rest_min: if testing { REST_MIN_TESTING } else { REST_MIN },
            failures: BTreeMap::new(),
        }
    }

    /// Takes note of a failure.
    pub(super) fn note(&mut self, auth_key: [u8; 32], failure: IntroFailure, now: Instant) {
        self.failures
            .retain(|_, failure| now < failure.since + FAILURE_AGE);
        if !self.failures.contains_key(&auth_key) {
            drop_oldest(&mut self.failures, FAILURES_MAX, |failure| failure.last);
        }
        let known = self.failures.entry(auth_key).or_insert(Failure {
            since: now,
            last: now,
            counts: false,
            unreachable: 0,
        });
        known.last = now;
        match failure {
            IntroFailure::Refused | IntroFailure::TimedOut => known.counts = true,
            IntroFailure::Unreachable => known.unreachable += 1,
        }
    }

    /// How a point stands.
    pub(super) fn standing(&self, auth_key: &[u8; 32], now: Instant) -> Standing {
        match self.failures.get(auth_key) {
            None => Standing::Good,
            Some(failure) if now >= failure.since + FAILURE_AGE => Standing::Good,
            Some(failure) if !failure.counts && failure.unreachable < UNREACHABLE_MAX => {
                Standing::Good
            }
            Some(failure) if now >= failure.last + self.rest_min => Standing::Rested,
            Some(_) => Standing::Bad,
        }
    }

    /// Forgets a point's failures: it worked.
    pub(super) fn forget(&mut self, auth_key: &[u8; 32]) {
        self.failures.remove(auth_key);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.failures.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.failures.len()
    }
}

/// Makes room for one more.
fn drop_oldest<K: Ord + Copy, V>(
    map: &mut BTreeMap<K, V>,
    len_max: usize,
    age: impl Fn(&V) -> Instant,
) {
    if map.len() >= len_max {
        let oldest = map.iter().min_by_key(|(_, value)| age(value));
        if let Some(key) = oldest.map(|(key, _)| *key) {
            map.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawn::start;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(n: u32) -> RsaId {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        RsaId::from(bytes)
    }

    #[test]
    fn a_directory_is_not_asked_again_for_a_while() {
        let now = start().mono;
        let mut asked = AskedDirectories::new(false);
        asked.note([1; 32], id(1), Asked::InVain, now);
        asked.note([1; 32], id(2), Asked::Answered, now);
        assert!(!asked.allows([1; 32], id(1), now + ASKED_AGE - SECOND));
        assert!(asked.allows([1; 32], id(1), now + ASKED_AGE));
        assert!(asked.allows([1; 32], id(2), now + AGAIN_MIN));
        assert!(asked.allows([2; 32], id(1), now), "another key's");
        asked.forget([1; 32]);
        assert!(asked.allows([1; 32], id(1), now));

        let mut testing = AskedDirectories::new(true);
        testing.note([1; 32], id(1), Asked::InVain, now);
        assert!(!testing.allows([1; 32], id(1), now + 4 * SECOND));
        assert!(testing.allows([1; 32], id(1), now + 5 * SECOND));
    }

    #[test]
    fn a_directory_that_answers_is_asked_less_and_less_often() {
        let mut now = start().mono;
        let mut asked = AskedDirectories::new(false);
        let mut waits = Vec::new();
        for _ in 0..5 {
            asked.note([1; 32], id(1), Asked::Answered, now);
            let wait = (0..).find(|n| asked.allows([1; 32], id(1), now + *n * SECOND));
            waits.push(wait.unwrap());
            now += wait.unwrap() * SECOND;
        }
        assert_eq!(waits, [2, 4, 5, 5, 5]);
        now += AGAIN_MAX + SECOND;
        asked.note([1; 32], id(1), Asked::Answered, now);
        assert!(asked.allows([1; 32], id(1), now + AGAIN_MIN));
    }

    #[test]
    fn both_memories_are_bounded() {
        let now = start().mono;
        let mut asked = AskedDirectories::new(false);
        let mut failures = IntroFailures::new(false);
        for n in 0..u32::try_from(ASKED_MAX).unwrap() + 10 {
            let now = now + n * Duration::from_micros(1);
            asked.note([7; 32], id(n), Asked::InVain, now);
            let mut auth_key = [0; 32];
            auth_key[..4].copy_from_slice(&n.to_be_bytes());
            failures.note(auth_key, IntroFailure::Refused, now);
        }
        assert_eq!((asked.len(), failures.len()), (ASKED_MAX, FAILURES_MAX));
        assert!(asked.allows([7; 32], id(0), now), "the oldest went");
        assert!(!asked.allows([7; 32], id(11), now));
    }

    #[test]
    fn an_introduction_point_rests_after_it_failed() {
        let now = start().mono;
        let mut failures = IntroFailures::new(false);
        failures.note([1; 32], IntroFailure::Refused, now);
        assert_eq!(failures.standing(&[1; 32], now), Standing::Bad);
        assert_eq!(
            failures.standing(&[1; 32], now + REST_MIN),
            Standing::Rested
        );
        let later = now + FAILURE_AGE;
        assert_eq!(failures.standing(&[1; 32], later), Standing::Good);
        for _ in 1..UNREACHABLE_MAX {
            failures.note([2; 32], IntroFailure::Unreachable, now);
        }
        assert_eq!(failures.standing(&[2; 32], now), Standing::Good);
        failures.note([2; 32], IntroFailure::Unreachable, now);
        assert_eq!(failures.standing(&[2; 32], now), Standing::Bad);
        failures.forget(&[2; 32]);
        assert_eq!(failures.standing(&[2; 32], now), Standing::Good);
    }
}
