//! The hash ring of onion-service directories: where the descriptors of a period are
//! (rend-spec-v3 2.2.1, 2.2.3, 2.2.4, 2.3.1), as `tor` computes it.
//!
//! ```text
//! SRV#1       TP#1        SRV#2       TP#2        SRV#3      ─▶ valid-after
//!   ═══════════╪───────────╪═══════════╪───────────╪═════
//! ═  a value is out, its period has not begun:   ask TP#N−1 (previous value), store there and
//!                                                in TP#N (current value)
//! ─  its period has begun:                       ask TP#N (current value), store there and in
//!                                                TP#N−1 (previous value)
//! ```
//!
//! All is decided by the consensus' `valid-after`, never by a clock. A visitor asks the ring of
//! the current period. A service stores in two rings: that one, and its neighbour for visitors
//! whose consensus is older (after a new period) or newer (after a new random value).
//! No relay stands twice among those responsible.

use cepa_crypto::ed25519::PublicKey;
use cepa_crypto::onion::{TimePeriod, disaster_srv, hs_index, hsdir_index};
use cepa_crypto::{Ed25519Id, RsaId};
use cepa_netdoc::consensus::{Consensus, SharedRandValue};
use cepa_netdoc::params::Params;
use cepa_netdoc::protover::name;
use cepa_netdoc::routerstatus::Flags;
use cepa_netdoc::timestamp::unix_seconds;

use crate::netview::{NetworkView, Relay};

/// Votings of a run of the shared randomness protocol (srv-spec 2): commit and reveal.
const VOTINGS_IN_RUN: u64 = 24;
/// Votings of its first half; periods begin that long after a run (rend-spec-v3 2.2.1).
const VOTINGS_IN_PHASE: u64 = 12;
/// The version of `HSDir` that directories must speak (rend-spec-v3 2).
const HSDIR_VERSION: u8 = 2;

/// The periods of a network at the time of a consensus, and their shared random values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HsSchedule {
    /// The current period.
    pub period: TimePeriod,
    /// Whether a new period has begun since the newest random value came out, which is then
    /// its own. Otherwise its own is the previous one.
    pub is_after_period_start: bool,
    previous_srv: Option<[u8; 32]>,
    current_srv: Option<[u8; 32]>,
}

impl HsSchedule {
    /// That of a view, when its consensus was made.
    pub(crate) fn of(view: &NetworkView) -> Self {
        Self::new(view.consensus(), view.is_testing())
    }

    /// Reads a consensus. In a testing network a period is as long as a run, whatever the
    /// parameter `hsdir_interval` says: `tor` does not look at it there.
    pub fn new(consensus: &Consensus, is_testing: bool) -> Self {
        let valid_after = unix_seconds(consensus.lifetime.valid_after);
        // Of a parsed consensus it is more than zero.
        let interval = consensus.lifetime.interval().as_secs().max(1);
        let length_minutes = period_minutes(&consensus.params, interval, is_testing);
        let number_at = |seconds: u64| {
            let offset_minutes = VOTINGS_IN_PHASE * interval / 60;
            (seconds / 60).saturating_sub(offset_minutes) / length_minutes
        };
        // `tor` counts the votings of a run from the epoch, in whole intervals.
        let in_run = (valid_after / interval % VOTINGS_IN_RUN) * interval;
        let run_start = valid_after.saturating_sub(in_run);
        let next_start = number_at(run_start)
            .saturating_add(1)
            .saturating_mul(length_minutes * 60)
            .saturating_add(VOTINGS_IN_PHASE * interval);
        let value = |srv: &Option<SharedRandValue>| srv.as_ref().map(|srv| srv.value);
        Self {
            period: TimePeriod {
                number: number_at(valid_after),
                length_minutes,
            },
            is_after_period_start: valid_after >= next_start,
            previous_srv: value(&consensus.shared_rand_previous),
            current_srv: value(&consensus.shared_rand_current),
        }
    }

    /// The period and random value of a visitor's ring.
    pub fn fetch(&self) -> (TimePeriod, [u8; 32]) {
        let srv = if self.is_after_period_start {
            self.current_srv
        } else {
            self.previous_srv
        };
        with_srv(self.period, srv)
    }

    /// The periods and random values of a service's two rings, the older first.
    pub fn store(&self) -> [(TimePeriod, [u8; 32]); 2] {
        let (first, second) = if self.is_after_period_start {
            (self.period.previous(), self.period)
        } else {
            (self.period, self.period.next())
        };
        [
            with_srv(first, self.previous_srv),
            with_srv(second, self.current_srv),
        ]
    }
}

/// The length of periods; `interval` is that between votings, in seconds.
fn period_minutes(params: &Params, interval: u64, is_testing: bool) -> u64 {
    if is_testing {
        return (VOTINGS_IN_RUN * interval / 60).max(1);
    }
    let minutes = params.value("hsdir_interval", 1440, 5, 14_400);
    u64::from(minutes.unsigned_abs())
}

fn with_srv(period: TimePeriod, srv: Option<[u8; 32]>) -> (TimePeriod, [u8; 32]) {
    (period, srv.unwrap_or_else(|| disaster_srv(period)))
}

/// The ring that a visitor asks for descriptors.
pub fn fetch_ring(view: &NetworkView) -> HsRing {
    let spread = spread_param(view.params(), "hsdir_spread_fetch", 3);
    ring(view, HsSchedule::of(view).fetch(), spread)
}

/// The rings in which a service stores its descriptors, one of each ring's period: the older
/// period first.
pub fn store_rings(view: &NetworkView) -> [HsRing; 2] {
    let spread = spread_param(view.params(), "hsdir_spread_store", 4);
    let places = HsSchedule::of(view).store();
    places.map(|place| ring(view, place, spread))
}

fn spread_param(params: &Params, name: &str, default: i32) -> u32 {
    params.value(name, default, 1, 128).unsigned_abs()
}

fn ring(view: &NetworkView, (period, srv): (TimePeriod, [u8; 32]), spread: u32) -> HsRing {
    let replicas = view.params().value("hsdir_n_replicas", 2, 1, 16);
    let ids = view.relays().iter().filter_map(directory_ids);
    HsRing::new(ids, period, &srv, replicas.unsigned_abs(), spread)
}

/// The identities of a relay that is a directory of onion services. Whether the authorities agree
/// upon the Ed25519 one (NoEdConsensus) does not matter to `tor` here, so not to us.
fn directory_ids(relay: &Relay) -> Option<(RsaId, Ed25519Id)> {
    let is_directory = relay.flags.contains(Flags::HS_DIR)
        && relay.protocols.supports(name::HS_DIR, HSDIR_VERSION);
    let ed25519 = relay.microdesc.ed25519.filter(|_| is_directory)?;
    Some((relay.rsa_id, ed25519))
}

/// The directories of a period in the order of their places on the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HsRing {
    period: TimePeriod,
    replicas: u32,
    spread: u32,
    places: Vec<([u8; 32], RsaId)>,
}

impl HsRing {
    /// The ring of these directories, each named once, on which `replicas` times `spread` of them
    /// hold a descriptor.
    pub fn new(
        directories: impl IntoIterator<Item = (RsaId, Ed25519Id)>,
        period: TimePeriod,
        srv: &[u8; 32],
        replicas: u32,
        spread: u32,
    ) -> Self {
        let mut places: Vec<_> = directories
            .into_iter()
            .map(|(rsa, ed25519)| (hsdir_index(&ed25519, srv, period), rsa))
            .collect();
        places.sort_unstable();
        Self {
            period,
            replicas,
            spread,
            places,
        }
    }

    /// The period: of its blinded keys the descriptors are.
    pub fn period(&self) -> TimePeriod {
        self.period
    }

    /// The number of directories in the ring.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The directories that hold the descriptor of a blinded key of [`HsRing::period`]: for each
    /// replica the next `spread` ones that no replica before has. Each stands once; there are
    /// fewer than `replicas * spread` where the ring has fewer.
    pub fn responsible(&self, blinded: &PublicKey) -> Vec<RsaId> {
        let spread = usize::try_from(self.spread).unwrap_or(usize::MAX);
        let mut found: Vec<RsaId> = Vec::new();
        for replica in 1..=self.replicas {
            let index = hs_index(blinded, replica.into(), self.period);
            let start = self.places.partition_point(|(place, _)| *place < index);
            let (before, behind) = self.places.split_at(start);
            let wanted: Vec<RsaId> = behind
                .iter()
                .chain(before)
                .map(|(_, id)| *id)
                .filter(|id| !found.contains(id))
                .take(spread)
                .collect();
            found.extend(wanted);
        }
        found
    }

    /// Whether a directory is so near to the places of a blinded key of [`HsRing::period`] that
    /// a service whose consensus differs a little may find it responsible. True of all that are
    /// [`HsRing::responsible`].
    pub fn may_hold(&self, id: &RsaId, blinded: &PublicKey) -> bool {
        let reach = usize::try_from(self.replicas.saturating_mul(self.spread));
        (1..=self.replicas).any(|replica| {
            let index = hs_index(blinded, replica.into(), self.period);
            let start = self.places.partition_point(|(place, _)| *place < index);
            let (before, behind) = self.places.split_at(start);
            let next = behind.iter().chain(before);
            next.take(reach.unwrap_or(usize::MAX))
                .any(|(_, one)| one == id)
        })
    }
}

#[cfg(test)]
mod tests;
