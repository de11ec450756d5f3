//! What an authority remembers of its peers and of the last round, for whoever watches over it.
//!
//! Each list has an entry an authority at most.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::{Duration, SystemTime};

use cepa_crypto::RsaId;
use cepa_netdoc::consensus::Consensus;
use cepa_netdoc::vote::VoteText;

use crate::config::Config;
use crate::diff::Differences;
use crate::round::Round;
use crate::status::{CLOCK_SKEW_MAX_SECONDS, RoundOutcome};

/// From so long before its end on, a certificate is warned of.
const EXPIRY_WARNING: Duration = Duration::from_secs(28 * DAY_SECS);
const DAY_SECS: u64 = 24 * 60 * 60;

/// What is remembered.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// How far the clocks of the others are ahead of ours, in seconds, as they said last.
    pub(crate) clocks_ahead: BTreeMap<RsaId, i64>,
    /// Votes that came too late since the start.
    pub(crate) late: BTreeMap<RsaId, u64>,
    /// Rounds since the start that ended without a consensus.
    pub(crate) rounds_failed: u64,
    /// How the last round ended that had a consensus.
    pub(crate) last: Option<RoundOutcome>,
    /// When certificates were warned of last.
    warned: Option<SystemTime>,
}

impl Health {
    /// A round has its consensus.
    pub(crate) fn handle_published(&mut self, votes: &[VoteText], signed: &[&Consensus]) {
        let all: Vec<_> = votes.iter().map(|text| text.vote().clone()).collect();
        let differences = Differences::of(&all);
        let has_signed = |id: &RsaId| {
            let by = |one: &&Consensus| one.signatures.iter().any(|by| by.identity == *id);
            signed.iter().all(by)
        };
        let Some(first) = signed.first() else { return };
        let mut signers: Vec<RsaId> = first.signatures.iter().map(|one| one.identity).collect();
        signers.retain(has_signed);
        self.last = Some(RoundOutcome {
            valid_after: first.lifetime.valid_after,
            voted: all.iter().map(|vote| vote.author()).collect(),
            signed: signers,
            flags_disputed: differences.flag_counts(),
            relays_in_some_votes: differences.partial.len(),
        });
    }

    /// By how many seconds the clock of the authority with this DirPort is ahead of ours.
    pub(crate) fn handle_clock(&mut self, config: &Config, dir_port: SocketAddrV4, ahead: i64) {
        let mut others = config.authorities.iter();
        let found = others.find(|one| one.dir_addr == dir_port);
        let Some(known) = found else { return };
        let before = self.clocks_ahead.insert(known.v3_identity, ahead);
        if is_wrong(ahead) && !before.is_some_and(is_wrong) {
            tracing::warn!(
                authority = known.nickname,
                ahead_seconds = ahead,
                "the clock of another authority is not ours"
            );
        }
    }

    /// A round ended without a consensus.
    pub(crate) fn handle_failed(&mut self, round: &Round, config: &Config) {
        self.rounds_failed = self.rounds_failed.saturating_add(1);
        let missing = round.missing_votes(config);
        let missing: Vec<&str> = missing.iter().map(|id| config.nickname(id)).collect();
        tracing::warn!(
            votes = round.votes.len(),
            missing = missing.join(" "),
            "a round has no consensus"
        );
    }

    /// A vote came too late.
    pub(crate) fn handle_late(&mut self, author: RsaId) {
        let count = self.late.entry(author).or_default();
        *count = count.saturating_add(1);
    }

    /// Warns once a day of certificates that end soon, ours and those of the others.
    pub(crate) fn warn_of_certificates<'a>(
        &mut self,
        ends: impl Iterator<Item = (&'a str, bool, SystemTime)>,
        now: SystemTime,
    ) {
        let is_told = |warned: SystemTime| {
            let since = now.duration_since(warned);
            since.is_ok_and(|since| since < Duration::from_secs(DAY_SECS))
        };
        if self.warned.is_some_and(is_told) {
            return;
        }
        for (authority, is_ours, end) in ends {
            if now + EXPIRY_WARNING < end {
                continue;
            }
            self.warned = Some(now);
            let days = days_left(end, now);
            match is_ours {
                true => tracing::warn!(
                    days,
                    "this authority's certificate ends soon: renew it with `cepa authority keygen`"
                ),
                false => tracing::warn!(
                    authority,
                    days,
                    "the certificate of another authority ends soon: tell its operator"
                ),
            }
        }
    }
}

fn is_wrong(ahead_seconds: i64) -> bool {
    ahead_seconds.unsigned_abs() > CLOCK_SKEW_MAX_SECONDS
}

/// Whole days until `end`; negative once it is over.
pub(crate) fn days_left(end: SystemTime, now: SystemTime) -> i64 {
    let days = |time: Duration| i64::try_from(time.as_secs() / DAY_SECS).unwrap_or(i64::MAX);
    match end.duration_since(now) {
        Ok(left) => days(left),
        Err(over) => -days(over.duration()) - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn days_are_counted_to_the_end_and_beyond() {
        let at = |secs: u64| UNIX_EPOCH + Duration::from_secs(secs);
        assert_eq!(days_left(at(10 * DAY_SECS), at(3 * DAY_SECS)), 7);
        assert_eq!(days_left(at(10 * DAY_SECS), at(10 * DAY_SECS)), 0);
        assert_eq!(days_left(at(10 * DAY_SECS), at(10 * DAY_SECS + 1)), -1);
    }

    #[test]
    fn an_end_is_warned_of_once_a_day_from_four_weeks_before_it() {
        let at = |days: u64| UNIX_EPOCH + Duration::from_secs(days * DAY_SECS);
        let mut health = Health::default();
        let mut warns = |now: u64| {
            let before = health.warned;
            health.warn_of_certificates([("a", true, at(100))].into_iter(), at(now));
            health.warned != before
        };
        assert!(!warns(71));
        assert!(warns(72));
        assert!(!warns(72));
        assert!(warns(73));
        assert!(warns(101));
    }
}
