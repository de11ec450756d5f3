//! One flavour of consensus: the one that is held, those that wait for certificates, and when to
//! ask for the next (dir-spec 5.1).
//!
//! What waits blocks nothing: whoever serves a document that names keys which do not exist would
//! otherwise keep all others from being asked. For one answer about the certificates the next
//! question waits, then another directory is asked, and the documents beside each other until one
//! is confirmed. A forger has [`CANDIDATES_MAX`] of them, and each for [`CANDIDATE_AGE_MAX`].

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use cepa_crypto::{Rng, RsaId};
use cepa_netdoc::consensus::{ConsensusText, Flavour, Lifetime, REASONABLY_LIVE};
use cepa_netdoc::diff;
use cepa_wire::time::Now;

use super::retry::{Retry, between};
use super::{FetchId, Refusal};

/// How far in the future a consensus may begin for a cache: clocks differ. A client, whose clock
/// nobody looks after, takes what is [`REASONABLY_LIVE`], as `tor` does.
const FUTURE_MAX: Duration = Duration::from_secs(60 * 60);
/// Caches wait so long after `fresh-until` before they ask the authorities.
const CACHE_WAIT: Duration = Duration::from_secs(120);

/// Consensuses of a flavour that wait for certificates at a time; the oldest gives way.
pub(super) const CANDIDATES_MAX: usize = 3;
/// How long a consensus waits for certificates (`tor`: DELAY_WHILE_FETCHING_CERTS).
pub(super) const CANDIDATE_AGE_MAX: Duration = Duration::from_secs(20 * 60);
/// How long no other directory is asked while the first answer about certificates is awaited.
const CERTS_PATIENCE: Duration = Duration::from_secs(10);
/// The same in a test network, where all are near.
const CERTS_PATIENCE_TESTING: Duration = Duration::from_secs(2);

/// A consensus that enough authorities have signed if certificates that are not at hand say so.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) text: ConsensusText,
    /// The fetch that brought it, if one did.
    pub(super) from: Option<FetchId>,
    /// The certificates that would confirm it: identity and signing key.
    pub(super) missing: BTreeSet<(RsaId, RsaId)>,
    /// It is given up then.
    pub(super) until: Instant,
}

/// A flavour that is kept up to date.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) flavour: Flavour,
    /// Whether others are served with it.
    is_cache: bool,
    pub(super) held: Option<ConsensusText>,
    /// Oldest first.
    pub(super) candidates: VecDeque<Candidate>,
    /// No other directory is asked before the first answer about the newest candidate.
    is_patient: bool,
    pub(super) in_flight: Option<FetchId>,
    pub(super) retry: Retry,
    /// A diff did not work: the next request asks for the whole document.
    pub(super) is_whole: bool,
}

impl Slot {
    pub(super) fn new(flavour: Flavour, is_cache: bool, is_testing: bool, now: Now) -> Self {
        let retry = Retry::new(is_testing, now);
        Self {
            flavour,
            is_cache,
            held: None,
            candidates: VecDeque::new(),
            is_patient: false,
            in_flight: None,
            retry,
            is_whole: false,
        }
    }

    /// Whether to ask now.
    pub(super) fn is_due(&self, now: Now) -> bool {
        self.in_flight.is_none() && self.retry.next <= now.mono
    }

    pub(super) fn timeout(&self) -> Option<Instant> {
        let ask = self.in_flight.is_none().then_some(self.retry.next);
        let candidates = self.candidates.iter().map(|one| one.until);
        ask.into_iter().chain(candidates).min()
    }

    /// Keeps a consensus until its certificates come. `false`: it waits already.
    pub(super) fn wait(&mut self, candidate: Candidate, is_testing: bool, now: Now) -> bool {
        let text = candidate.text.text();
        if self.candidates.iter().any(|one| one.text.text() == text) {
            return false;
        }
        if self.candidates.len() >= CANDIDATES_MAX {
            self.candidates.pop_front();
        }
        self.candidates.push_back(candidate);
        self.is_patient = true;
        self.retry.next = now.mono
            + match is_testing {
                true => CERTS_PATIENCE_TESTING,
                false => CERTS_PATIENCE,
            };
        true
    }

    /// An answer about certificates has not confirmed the candidates: another directory is asked.
    pub(super) fn end_patience(&mut self, now: Now, rng: &mut Rng) {
        if std::mem::take(&mut self.is_patient) {
            self.retry.fail(now, rng);
        }
    }

    /// The bases of which a diff will do.
    pub(super) fn diff_bases(&self) -> Vec<[u8; 32]> {
        let held = self.held.iter().filter(|_| !self.is_whole);
        held.map(ConsensusText::diff_base_digest).collect()
    }

    /// Reads the body of a reply, a diff or a whole document, and checks all but signatures.
    pub(super) fn read(
        &self,
        body: &str,
        now: Now,
        is_testing: bool,
    ) -> Result<ConsensusText, Refusal> {
        let text = match (&self.held, diff::is_diff(body)) {
            (Some(held), true) => {
                let whole = diff::apply(held, body).map_err(Refusal::Diff)?;
                ConsensusText::parse(whole)
            }
            _ => ConsensusText::parse(body),
        };
        let text = text.map_err(Refusal::Malformed)?;
        self.check(&text, now, is_testing)?;
        Ok(text)
    }

    /// Checks a consensus's flavour and times.
    pub(super) fn check(
        &self,
        text: &ConsensusText,
        now: Now,
        is_testing: bool,
    ) -> Result<(), Refusal> {
        let consensus = text.consensus();
        let lifetime = &consensus.lifetime;
        if consensus.flavour != self.flavour {
            return Err(Refusal::Flavour);
        }
        if !lifetime.has_minimum_intervals(is_testing) {
            return Err(Refusal::Intervals);
        }
        if self.has_ended(lifetime, now) {
            let ended = now.wall.duration_since(lifetime.valid_until);
            return Err(Refusal::Expired(ended.unwrap_or_default().as_secs() / 60));
        }
        let future_max = match self.is_cache {
            true => FUTURE_MAX,
            false => REASONABLY_LIVE,
        };
        if let Ok(future) = lifetime.valid_after.duration_since(now.wall)
            && future > future_max
        {
            return Err(Refusal::Future(future.as_secs() / 60));
        }
        let is_newer =
            |held: &ConsensusText| lifetime.valid_after > held.consensus().lifetime.valid_after;
        if self.held.as_ref().is_some_and(|held| !is_newer(held)) {
            return Err(Refusal::NotNewer);
        }
        Ok(())
    }

    fn has_ended(&self, lifetime: &Lifetime, now: Now) -> bool {
        let slack = match self.is_cache {
            true => Duration::ZERO,
            false => REASONABLY_LIVE,
        };
        lifetime.valid_until + slack < now.wall
    }

    /// Takes a consensus that enough authorities have signed.
    pub(super) fn accept(&mut self, text: ConsensusText, when: When<'_>) {
        let lifetime = text.consensus().lifetime;
        let at = next_fetch(&lifetime, self.is_cache, when.is_testing, when.rng);
        // What begins in the future says that our clock is slow: it was signed before it came.
        let wall = when.now.wall.max(lifetime.valid_after);
        match at.duration_since(wall) {
            Ok(delay) => self.retry.succeed(when.now.mono + delay),
            // Our clock is fast or this is an old one: another is asked, less and less often.
            Err(_) if when.is_answer => self.retry.fail(when.now, when.rng),
            Err(_) => self.retry.succeed(when.now.mono),
        }
        self.held = Some(text);
        self.candidates.clear();
        self.is_patient = false;
        // What still comes was asked for before.
        self.in_flight = None;
        self.is_whole = false;
    }

    /// Drops what has waited for too long; says which fetches brought it.
    pub(super) fn expire(&mut self, now: Now) -> Vec<Option<FetchId>> {
        let is_over = |one: &Candidate| {
            one.until <= now.mono || self.has_ended(&one.text.consensus().lifetime, now)
        };
        let (over, kept): (VecDeque<_>, VecDeque<_>) =
            self.candidates.iter().cloned().partition(is_over);
        self.candidates = kept;
        over.iter().map(|one| one.from).collect()
    }
}

/// What [`Slot::accept`] needs to plan ahead.
pub(super) struct When<'a> {
    pub(super) now: Now,
    pub(super) is_testing: bool,
    /// Whether a directory has just given it.
    pub(super) is_answer: bool,
    pub(super) rng: &'a mut Rng,
}

/// When to ask for the successor: caches soon after `fresh-until`, clients late enough for caches
/// to have it, both at a random time (dir-spec 4.6 and 5.1). In testing networks, where hours last
/// seconds, clients hurry as caches do.
fn next_fetch(lifetime: &Lifetime, is_cache: bool, is_testing: bool, rng: &mut Rng) -> SystemTime {
    let interval = lifetime.interval();
    let fresh_until = lifetime.fresh_until;
    let left = |start: SystemTime| {
        lifetime
            .valid_until
            .duration_since(start)
            .unwrap_or_default()
    };
    if is_testing {
        let wait = if is_cache {
            Duration::ZERO
        } else {
            interval / 16
        };
        return fresh_until + between(wait, interval / 8, rng);
    }
    let (start, span) = if is_cache {
        let start = fresh_until + CACHE_WAIT.min(interval / 16);
        (start, (interval / 2).min(left(start)))
    } else {
        let start = fresh_until + interval * 3 / 4;
        (start, left(start) * 7 / 8)
    };
    start + between(Duration::ZERO, span, rng)
}

#[cfg(test)]
mod tests {
    use cepa_netdoc::timestamp::from_unix;

    use super::*;

    #[test]
    fn the_next_fetch_is_in_time() {
        let mut rng = Rng::from_seed([2; 32]);
        let lifetime = Lifetime {
            valid_after: from_unix(3600),
            fresh_until: from_unix(7200),
            valid_until: from_unix(14_400),
        };
        for _ in 0..500 {
            let cache = next_fetch(&lifetime, true, false, &mut rng);
            assert!(from_unix(7320) <= cache && cache <= from_unix(9120));
            let client = next_fetch(&lifetime, false, false, &mut rng);
            assert!(from_unix(9900) <= client && client <= from_unix(13_838));
            for is_cache in [false, true] {
                let hurried = next_fetch(&lifetime, is_cache, true, &mut rng);
                assert!(from_unix(7200) <= hurried && hurried <= from_unix(7650));
            }
        }
    }
}
