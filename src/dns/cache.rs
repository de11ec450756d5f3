//! Answers that are kept, for a time that tells nobody when they were asked for.
//!
//! Whoever sees an exit's look-ups leave, or its answers come faster, learns what its users visit,
//! the better the more exactly he knows how long an answer stays (TROVE-2021-009; Greschbach and
//! others, "The Effect of DNS on Tor's Anonymity", 2017). So there are two times only, whatever
//! servers say, and each answer's own is up to four minutes off: as `tor` does it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::proto::rr::Name;
use moka::Expiry;
use moka::sync::Cache as Moka;

use super::{Answer, DnsError};

/// Answers that are kept; those that are seldom asked for go first.
const ANSWERS_MAX: u64 = 8192;
/// How far the time of an answer is off, either way.
const FUZZ_SECS: u64 = 240;

/// How long clients may believe an answer, in seconds, whose server said `ttl_secs`: one of two
/// times.
#[must_use]
pub fn clip_ttl_secs(ttl_secs: u32) -> u32 {
    const SHORT_SECS: u32 = 300;
    const LONG_SECS: u32 = 3600;
    if ttl_secs < SHORT_SECS {
        SHORT_SECS
    } else {
        LONG_SECS
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Question {
    Addresses(Name),
    Name(IpAddr),
}

#[derive(Debug, Clone)]
struct Kept {
    found: Result<Found, DnsError>,
    stays: Duration,
}

#[derive(Debug, Clone)]
enum Found {
    Addresses(Arc<[Answer<IpAddr>]>),
    Name(Answer<String>),
}

/// Cheap to clone: clones share what they keep.
#[derive(Clone)]
pub(super) struct Cache {
    answers: Moka<Question, Kept>,
}

impl Cache {
    pub(super) fn new() -> Self {
        let builder = Moka::builder().max_capacity(ANSWERS_MAX);
        Cache {
            answers: builder.expire_after(Own).build(),
        }
    }

    /// What was found when the addresses of `name` were asked for.
    pub(super) fn addresses(&self, name: &Name) -> Option<Result<Vec<Answer<IpAddr>>, DnsError>> {
        let kept = self.answers.get(&Question::Addresses(name.clone()))?;
        match kept.found {
            Ok(Found::Addresses(answers)) => Some(Ok(answers.to_vec())),
            Ok(Found::Name(_)) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// What was found when the name of `address` was asked for.
    pub(super) fn name(&self, address: IpAddr) -> Option<Result<Answer<String>, DnsError>> {
        let kept = self.answers.get(&Question::Name(address))?;
        match kept.found {
            Ok(Found::Name(answer)) => Some(Ok(answer)),
            Ok(Found::Addresses(_)) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Keeps what was found for `name`: for as long as its first address is good.
    pub(super) fn keep_addresses(&self, name: Name, found: &Result<Vec<Answer<IpAddr>>, DnsError>) {
        let answers = found.as_ref().map_err(|error| *error);
        let ttl_secs = answers.map_or(0, |answers| {
            answers
                .iter()
                .map(|answer| answer.ttl_secs)
                .min()
                .unwrap_or(0)
        });
        let found = answers.map(|answers| Found::Addresses(answers.as_slice().into()));
        self.keep(Question::Addresses(name), found, ttl_secs);
    }

    /// Keeps what was found for `address`.
    pub(super) fn keep_name(&self, address: IpAddr, found: &Result<Answer<String>, DnsError>) {
        let ttl_secs = found.as_ref().map_or(0, |answer| answer.ttl_secs);
        let found = found.clone().map(Found::Name);
        self.keep(Question::Name(address), found, ttl_secs);
    }

    fn keep(&self, question: Question, found: Result<Found, DnsError>, ttl_secs: u32) {
        // A server that did not answer may do so the next time.
        if matches!(found, Err(DnsError::Temporary)) {
            return;
        }
        let stays = stays(ttl_secs);
        self.answers.insert(question, Kept { found, stays });
    }
}

/// How long an answer is kept whose server said `ttl_secs`.
fn stays(ttl_secs: u32) -> Duration {
    // Without randomness from the system nothing of ours would have started.
    let fuzz_secs = getrandom::u64().unwrap_or(0) % (2 * FUZZ_SECS + 1);
    Duration::from_secs(u64::from(clip_ttl_secs(ttl_secs)) - FUZZ_SECS + fuzz_secs)
}

/// Each answer has a time of its own.
struct Own;

impl Expiry<Question, Kept> for Own {
    fn expire_after_create(&self, _: &Question, kept: &Kept, _: Instant) -> Option<Duration> {
        Some(kept.stays)
    }

    fn expire_after_update(
        &self,
        _: &Question,
        kept: &Kept,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(kept.stays)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_shows_in_two_times_only() {
        let told = [0, 60, 299, 300, 86_400].map(clip_ttl_secs);
        assert_eq!(told, [300, 300, 300, 3600, 3600]);
        for (ttl_secs, around) in [(1, 300), (1_000_000, 3600)] {
            let all: Vec<_> = (0..64).map(|_| stays(ttl_secs).as_secs()).collect();
            assert!(all.iter().all(|secs| secs.abs_diff(around) <= FUZZ_SECS));
            let first = all.first();
            assert!(all.iter().any(|secs| Some(secs) != first));
        }
    }
}
