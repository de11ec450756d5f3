//! When rounds begin: by the grid of the consensus in force, sooner without one, at once in a test
//! network whose relays are there, and again after a restart within a round.

use std::time::{Duration, SystemTime};

use cepa_netdoc::consensus::ConsensusText;
use cepa_wire::Now;

use super::Authority;
use crate::config::Config;
use crate::round::Round;
use crate::schedule::{Schedule, Timing};

/// Intervals after which a network without a consensus votes by the grid, even if relays that
/// were to come first have not.
const PATIENCE_INTERVALS: u32 = 2;

impl Authority {
    /// The timing of rounds now.
    pub(super) fn timing(&self, now: SystemTime) -> Timing {
        timing(&self.config, self.consensus.as_ref(), now)
    }

    /// After a start: goes on with the round that goes on, as long as there is something to do for
    /// who has voted in it, or has still time to.
    pub(super) fn join_round(&mut self, now: SystemTime) {
        self.next_timing = self.timing(now);
        self.next = self.next_timing.this_round(now);
        let this = self.next_timing.next_interval_start(now);
        let voted = self
            .own_vote
            .as_ref()
            .map(|own| own.vote().lifetime.valid_after);
        if voted == Some(this) {
            self.next = self.next_timing.regular(this);
        }
    }

    /// Begins rounds, and takes their steps.
    pub(super) fn advance_rounds(&mut self, now: Now) {
        self.keep_to_the_clock(now.wall);
        let timing = self.timing(now.wall);
        if timing != self.next_timing {
            self.next_timing = timing;
            self.next = timing.this_round(now.wall);
        }
        if let Some(schedule) = self.late_round(now.wall) {
            self.begin(schedule, now);
        } else if self.next.vote <= now.wall {
            let due = self.next;
            // After a long sleep it is another one that goes on.
            let this = timing.this_round(now.wall);
            let schedule = if due.compute <= now.wall { this } else { due };
            self.next = timing.next_round(now.wall);
            // Whoever comes when the others compute has nobody to vote with, unless he had voted.
            let voted = self
                .own_vote
                .as_ref()
                .map(|own| own.vote().lifetime.valid_after);
            let has_voted = voted == Some(due.valid_after) && now.wall < due.publish;
            if has_voted && self.may_vote_by_the_grid(now.wall) {
                self.begin(due, now);
            } else if schedule.vote <= now.wall
                && now.wall < schedule.compute
                && self.may_vote_by_the_grid(now.wall)
            {
                self.begin(schedule, now);
            }
        }
        self.step_votes(now);
        self.step_signatures(now);
        self.step_posts(now.wall);
    }

    /// The clock may have been set back: what is planned is at most two intervals ahead.
    fn keep_to_the_clock(&mut self, now: SystemTime) {
        let timing = self.timing(now);
        let horizon = now + timing.interval() * 2;
        if self.next.valid_after > horizon {
            self.next = timing.next_round(now);
        }
        let is_beyond = |round: &Round| round.schedule.publish > horizon;
        if self.round.as_ref().is_some_and(is_beyond) {
            tracing::warn!("the clock was set back: the voting round is given up");
            self.round = None;
        }
    }

    /// A late round, if there is to be one now: no consensus is in force, enough relays are
    /// Running, and no round is being signed or is a late one for this interval.
    fn late_round(&self, now: SystemTime) -> Option<Schedule> {
        let relays = self.config.first_vote_after_relays?;
        let schedule = self.config.timing.late(now);
        let goes_on = self.round.as_ref().is_some_and(|round| {
            let is_for_now = round.schedule.valid_after == schedule.valid_after;
            round.signing.is_some() || (round.schedule.late && is_for_now)
        });
        let is_vain = !self.keys.cert.is_current(now) || self.unvoted == Some(schedule.valid_after);
        let may_begin = self.config.is_testing && !goes_on && !is_vain;
        let begins = may_begin && !self.has_live_consensus(now);
        let enough = begins && self.relays.running(&self.config, now) >= relays;
        enough.then_some(schedule)
    }

    fn may_vote_by_the_grid(&self, now: SystemTime) -> bool {
        let interval = u64::from(self.config.timing.interval_secs);
        let patience = Duration::from_secs(interval) * PATIENCE_INTERVALS;
        self.config.first_vote_after_relays.is_none()
            || self.has_live_consensus(now)
            || self.started + patience <= now
    }

    pub(super) fn has_live_consensus(&self, now: SystemTime) -> bool {
        let held = self.consensus.as_ref();
        held.is_some_and(|text| text.consensus().lifetime.is_live(now))
    }
}

/// The timing of rounds: that of the consensus in force, which all authorities see alike; without
/// one, rounds come sooner.
fn timing(config: &Config, consensus: Option<&ConsensusText>, now: SystemTime) -> Timing {
    let live = consensus.map(|text| text.consensus());
    let Some(live) = live.filter(|one| one.lifetime.is_live(now)) else {
        return config.initial_timing();
    };
    let interval = live
        .lifetime
        .fresh_until
        .duration_since(live.lifetime.valid_after);
    let secs = interval.unwrap_or_default().as_secs();
    Timing {
        interval_secs: u32::try_from(secs).unwrap_or(u32::MAX).max(1),
        vote_secs: live.voting_delay.vote_seconds,
        dist_secs: live.voting_delay.dist_seconds,
        ..config.timing
    }
}

/// When the consensus ends that is in force.
pub(super) fn consensus_end(
    consensus: Option<&ConsensusText>,
    now: SystemTime,
) -> Option<SystemTime> {
    let lifetime = &consensus?.consensus().lifetime;
    let end = lifetime.valid_until + Duration::from_secs(1);
    lifetime.is_live(now).then_some(end)
}
