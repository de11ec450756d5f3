//! What lies between authorities: delay, loss as delay, resets, and cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cepa_crypto::Rng;

use super::super::{between, one_in};

/// No message takes longer than that: what would is what a time-out makes of it.
pub(super) const DELAY_MAX: Duration = Duration::from_secs(30);
/// What a lost packet costs at most: a time-out of TCP, doubled a few times.
const LOSS_MAX: Duration = Duration::from_secs(6);

/// Links of all pairs.
pub(super) struct Links {
    pub(super) delay_max: Duration,
    pub(super) loss_one_in: u64,
    pub(super) reset_one_in: u64,
    /// The cuts that hold: pairs of who cannot connect to whom.
    cuts: BTreeMap<u64, BTreeSet<(usize, usize)>>,
    made: u64,
    /// Counts changes of anything here.
    pub(super) version: u64,
}

impl Links {
    pub(super) fn new(delay_max: Duration, loss_one_in: u64) -> Self {
        Links {
            delay_max,
            loss_one_in,
            reset_one_in: 0,
            cuts: BTreeMap::new(),
            made: 0,
            version: 0,
        }
    }

    /// How long a message takes; `None` if the connection is reset.
    pub(super) fn delay(&self, rng: &mut Rng) -> Option<Duration> {
        if one_in(rng, self.reset_one_in) {
            return None;
        }
        let mut delay = between(rng, self.delay_max / 5, self.delay_max);
        while delay < DELAY_MAX && one_in(rng, self.loss_one_in) {
            delay += between(rng, Duration::from_millis(200), LOSS_MAX);
        }
        Some(delay.min(DELAY_MAX))
    }

    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.values().any(|cut| cut.contains(&(from, to)))
    }

    pub(super) fn cut(&mut self, pairs: BTreeSet<(usize, usize)>) -> u64 {
        self.made += 1;
        self.version += 1;
        self.cuts.insert(self.made, pairs);
        self.made
    }

    pub(super) fn heal(&mut self, cut: u64) {
        self.version += 1;
        self.cuts.remove(&cut);
    }

    pub(super) fn set_resets(&mut self, one_in: u64) {
        self.version += 1;
        self.reset_one_in = one_in;
    }
}
