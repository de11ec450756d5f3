//! A clock that is wrong is said once: by how much, which way, what to do.
//!
//! Relays tell their time as a link opens (NETINFO, tor-spec 4.5). Only that of authorities and
//! fallback directories is believed, whose keys were there before any consensus was: a guard that
//! lies about the time must not send anybody to turn back a clock.

use std::time::Duration;

use cepa_crypto::RsaId;
use cepa_netdoc::consensus::REASONABLY_LIVE;
use cepa_wire::Now;

use super::Directory;
use crate::context::Shared;
use crate::status::Event;

/// From so much on a clock is wrong enough to be told (`tor` does so from an hour on): consensuses
/// and certificates of the near past or future are taken, but not those of more than a day.
const TOLD_FROM_SECS: u64 = 30 * 60;

impl Directory {
    /// A link has shown how far the clock of its relay is ahead of ours, in seconds.
    pub(crate) fn note_skew(
        &mut self,
        relay: &RsaId,
        skew_secs: Option<i64>,
        shared: &mut Shared,
        now: Now,
    ) {
        let Some(skew) = skew_secs.filter(|_| is_known_beforehand(relay, shared)) else {
            return;
        };
        self.skew_secs = Some(skew);
        if skew.unsigned_abs() < TOLD_FROM_SECS {
            self.skewed.reset();
        } else if self.skewed.say(now).is_some() {
            tracing::warn!("{}", told(skew, relay));
            let (secs, relay) = (skew, *relay);
            shared.listener.tell(|| Event::ClockSkew { secs, relay });
        }
    }

    /// How far the clock of the directory that told its time last is ahead of ours, in seconds.
    pub(crate) fn skew_secs(&self) -> Option<i64> {
        self.skew_secs
    }
}

fn is_known_beforehand(relay: &RsaId, shared: &Shared) -> bool {
    let mut authorities = shared.network.authorities.iter();
    authorities.any(|one| one.rsa_id == *relay)
        || shared.config.fallbacks.iter().any(|one| one.rsa == *relay)
}

/// What is wrong with the clock, and what to do.
fn told(skew_secs: i64, relay: &RsaId) -> String {
    let way = match skew_secs > 0 {
        true => "behind",
        false => "ahead of",
    };
    let minutes = skew_secs.unsigned_abs() / 60;
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    let so_far = match Duration::from_secs(skew_secs.unsigned_abs()) < REASONABLY_LIVE {
        true => "the network can still be used from day to day",
        false => "the network cannot be used until then",
    };
    format!(
        "the clock of this machine is {days} d {hours} h {minutes} min {way} that of the \
         directory {relay}: set it (its time zone, too); {so_far}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_much_and_which_way() {
        let relay = RsaId::from([1; 20]);
        let behind = told(2 * 86_400 + 3600, &relay);
        assert!(behind.contains("clock of this machine is 2 d 1 h 0 min behind that"));
        let ahead = told(-7259, &relay);
        assert!(ahead.contains("is 0 d 2 h 0 min ahead of that"), "{ahead}");
        assert!(ahead.contains("set it"));
    }
}
