//! Which flags a relay gets in our vote (dir-spec 3.4.2; `tor`: voteflags.c).
//!
//! Thresholds come from the distribution over the relays that are active, so that flags mean the
//! same in a network of ten relays and of ten thousand: Running, Valid, and none too many on its
//! address or in its network.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use cepa_crypto::RsaId;
use cepa_netdoc::params::Params;
use cepa_netdoc::routerstatus::Flags;
use cepa_netdoc::vote::{FlagThresholds, Stats};

use crate::bandwidth::Measurements;
use crate::config::{Config, FlagTerms};
use crate::relays::{Relay, Relays};
use crate::rules::Verdict;
use crate::voted::believed_kb;

/// A descriptor older than this is stale.
const STALE_AGE: Duration = Duration::from_secs(18 * 60 * 60);
/// How long relays must have been watched before their mean times between failures count.
const MTBF_WATCHED_SECONDS: u64 = 4 * 60 * 60;
/// A relay that carries less than this is Fast only if a quarter is slower, and not an eighth.
const FAST_USUAL_KB: u32 = 37;
/// The least of `FastFlagMinThreshold`, and what it is without a word.
const FAST_MIN_BYTES: i32 = 4;

/// What counts of a relay.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Kilobytes a second that it can carry.
    kilobytes: u32,
    /// Seconds since it was started, by its own account.
    uptime_seconds: u64,
    /// The same for `HSDir`, which is worth a lie: ours, where we have watched for long enough.
    proven_seconds: u64,
    stats: Stats,
    /// Whether it is a general exit that may be used as one.
    is_exit: bool,
}

/// How relays are looked at: by whom, with what, when.
#[derive(Clone, Copy)]
pub(crate) struct Eyes<'a> {
    /// How this authority works.
    pub(crate) config: &'a Config,
    /// The relays that it knows.
    pub(crate) relays: &'a Relays,
    /// What they were measured with.
    pub(crate) measurements: &'a Measurements,
    /// Now.
    pub(crate) now: SystemTime,
    /// Whether somebody could have been watched for as long as `HSDir` asks for, and a little
    /// longer: an authority that is new knows nobody for so long.
    has_watched_for_long: bool,
}

impl<'a> Eyes<'a> {
    /// A look at all of them.
    pub(crate) fn of(
        config: &'a Config,
        relays: &'a Relays,
        measurements: &'a Measurements,
        now: SystemTime,
    ) -> Self {
        let needed = config.flag_terms.hs_dir_uptime_seconds;
        let enough = needed.saturating_add(needed / 10);
        Eyes {
            config,
            relays,
            measurements,
            now,
            has_watched_for_long: !config.is_testing && relays.watched_seconds(now) >= enough,
        }
    }

    /// What a relay needs, from those that are active; `params` are the network's.
    pub(crate) fn thresholds(
        &self,
        sybils: &BTreeSet<RsaId>,
        params: Option<&Params>,
    ) -> FlagThresholds {
        let relays = self.relays.iter().filter(|(id, _)| !sybils.contains(id));
        let active = relays.filter(|(_, relay)| is_active(relay, self.config, self.now));
        let samples: Vec<Sample> = active.map(|(_, relay)| self.sample(relay)).collect();
        FlagThresholds {
            ignoring_advertised: self.measurements.ignores_advertised(self.config),
            ..needs(
                &samples,
                &self.config.flag_terms,
                params,
                self.config.is_testing,
            )
        }
    }

    fn sample(&self, relay: &Relay) -> Sample {
        let declared = relay.uptime_seconds(self.now);
        let measured = relay.history.uptime_seconds(self.now);
        let said = self.config.rules.verdicts(&relay.desc);
        Sample {
            kilobytes: self.credible_kb(relay),
            uptime_seconds: declared,
            proven_seconds: match self.has_watched_for_long {
                true => declared.min(measured),
                false => declared,
            },
            stats: relay.history.stats(self.now),
            is_exit: self.is_exit(relay) && !said.has(Verdict::BadExit),
        }
    }
}

/// Whether a relay is one of those by which thresholds go.
fn is_active(relay: &Relay, config: &Config, now: SystemTime) -> bool {
    let carries = relay.desc.bandwidth.observed > 0 || config.is_testing;
    let said = config.rules.verdicts(&relay.desc);
    carries && relay.is_running(config, now) && !said.has(Verdict::Invalid)
}

/// Thresholds from the distribution over active relays.
fn needs(
    active: &[Sample],
    terms: &FlagTerms,
    params: Option<&Params>,
    is_testing: bool,
) -> FlagThresholds {
    let known = active.iter().map(|one| one.stats.time_known_seconds);
    let known: Vec<u64> = known.collect();
    let enough_mtbf = known.iter().any(|known| *known >= MTBF_WATCHED_SECONDS);
    let guard_tk = nth(known, 1, 8).unwrap_or(0);
    // In a test network nobody has been known for long.
    let enough_known = if is_testing {
        0
    } else {
        terms.guard_time_known_seconds
    };
    let guard_tk = guard_tk.min(enough_known);
    let familiar = active
        .iter()
        .filter(|one| one.stats.time_known_seconds >= guard_tk);
    let wfu = middle_f64(familiar.map(|one| one.stats.wfu).collect());
    let mtbf = middle_f64(active.iter().map(|one| one.stats.mtbf_seconds).collect());
    // Half of a network that is a minute old would not be Stable for having started a second
    // later; in a test network uptime says nothing before there is a history.
    let uptimes = active.iter().map(|one| one.uptime_seconds);
    let uptime = match is_testing {
        true => 0,
        false => middle(uptimes.collect()).unwrap_or(0),
    };
    let all: Vec<u32> = active.iter().map(|one| one.kilobytes).collect();
    let others = active.iter().filter(|one| !one.is_exit);
    let others: Vec<u32> = others.map(|one| one.kilobytes).collect();
    let share = |kilobytes: Vec<u32>| {
        let kilobytes = share(kilobytes, terms.guard_bandwidth_fraction).unwrap_or(0);
        u64::from(kilobytes) * 1000
    };
    FlagThresholds {
        stable_uptime_seconds: uptime.min(terms.stable_uptime_seconds),
        stable_mtbf_seconds: as_seconds(mtbf).min(terms.stable_mtbf_seconds),
        fast_speed_bytes: u64::from(fast_kb(&all, terms, params, is_testing)) * 1000,
        guard_wfu: wfu.min(terms.guard_wfu),
        guard_time_known_seconds: guard_tk,
        guard_bandwidth_with_exits_bytes: share(all),
        guard_bandwidth_without_exits_bytes: share(others),
        enough_mtbf,
        ignoring_advertised: false,
    }
}

/// Kilobytes a second that make a relay Fast: an eighth of all has less, within what the network's
/// parameters allow; whoever has as much as the operator guarantees for is Fast in any case.
fn fast_kb(all: &[u32], terms: &FlagTerms, params: Option<&Params>, is_testing: bool) -> u32 {
    let mut fast = nth(all.to_vec(), 1, 8).unwrap_or(0);
    if fast < FAST_USUAL_KB {
        fast = nth(all.to_vec(), 1, 4).unwrap_or(0);
    }
    let param = |name, default, min| {
        params.map_or(default, |params| params.value(name, default, min, i32::MAX))
    };
    let least = match is_testing {
        true => 0,
        false => param("FastFlagMinThreshold", FAST_MIN_BYTES, FAST_MIN_BYTES),
    };
    let most = param("FastFlagMaxThreshold", i32::MAX, least);
    let kilobytes = |bytes: i32| u32::try_from(bytes / 1000).unwrap_or(0);
    let least = match is_testing {
        true => terms.fast_min_kilobytes,
        false => kilobytes(least),
    };
    let fast = fast.max(least).min(kilobytes(most));
    fast.min(terms.fast_kilobytes)
}

/// What a relay has earned by numbers alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Merits {
    is_fast: bool,
    is_stable: bool,
    is_guard: bool,
    is_hs_dir: bool,
}

impl Merits {
    fn of(sample: &Sample, needs: &FlagThresholds, terms: &FlagTerms, is_testing: bool) -> Self {
        let bytes = u64::from(sample.kilobytes) * 1000;
        let stats = &sample.stats;
        let is_stable = match needs.enough_mtbf {
            true => as_seconds(stats.mtbf_seconds) >= needs.stable_mtbf_seconds,
            false => sample.uptime_seconds >= needs.stable_uptime_seconds,
        };
        let is_fast = bytes >= needs.fast_speed_bytes;
        let share = needs
            .guard_bandwidth_with_exits_bytes
            .min(needs.guard_bandwidth_without_exits_bytes);
        let guard_bytes = share.min(u64::from(terms.guard_kilobytes) * 1000);
        let is_good = is_fast && is_stable;
        let hs_dir_seconds = if is_testing {
            0
        } else {
            terms.hs_dir_uptime_seconds
        };
        Merits {
            is_fast,
            is_stable,
            is_guard: is_good
                && stats.time_known_seconds >= needs.guard_time_known_seconds
                && stats.wfu >= needs.guard_wfu
                && bytes >= guard_bytes,
            is_hs_dir: is_good && sample.proven_seconds >= hs_dir_seconds,
        }
    }
}

/// Where relays are counted: on an IPv4 address, in an IPv6 network of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    V4(Ipv4Addr),
    V6([u8; 8]),
}

/// Relays beyond the number that may be Running on one address, or in one IPv6 network, which who
/// rents one machine has whole. Authorities and those with the most bandwidth stay (dir-spec 3.4.1,
/// "Sybil"). Those that are not Running do not count, as in `tor` since 0.4.9.14: descriptors with
/// another's address cost nothing.
pub(crate) fn sybils(eyes: &Eyes<'_>) -> BTreeSet<RsaId> {
    let (relays, config, now) = (eyes.relays, eyes.config, eyes.now);
    let most = match config.relays_per_address_max {
        0 => return BTreeSet::new(),
        most => most,
    };
    let mut by_place: BTreeMap<Place, Vec<_>> = BTreeMap::new();
    for (id, relay) in relays.iter() {
        let is_authority = config.authorities.iter().any(|one| one.rsa_id == *id);
        if !relay.is_running(config, now) {
            continue;
        }
        let rank = (!is_authority, Reverse(eyes.credible_kb(relay)), *id);
        let v6 = relay.desc.or_address_v6.map(|address| {
            let [a, b, c, d, e, f, g, h, ..] = address.ip().octets();
            Place::V6([a, b, c, d, e, f, g, h])
        });
        let v4 = Place::V4(*relay.desc.or_address.ip());
        for place in std::iter::once(v4).chain(v6) {
            by_place.entry(place).or_default().push(rank);
        }
    }
    let beyond = by_place.into_values().flat_map(|mut ranks| {
        ranks.sort_unstable();
        ranks.into_iter().skip(most)
    });
    beyond.map(|(.., id)| id).collect()
}

/// What is left of a relay's flags if it is one too many on its address.
pub(crate) fn of_sybil(flags: Flags) -> Flags {
    let mut left = Flags::SYBIL;
    for flag in [Flags::BAD_EXIT, Flags::MIDDLE_ONLY, Flags::STALE_DESC] {
        left.set(flag, flags.contains(flag));
    }
    left
}

impl Eyes<'_> {
    /// The flags of one relay.
    pub(crate) fn flags(&self, relay: &Relay, needs: &FlagThresholds) -> Flags {
        let (config, now) = (self.config, self.now);
        let desc = &relay.desc;
        let merits = Merits::of(
            &self.sample(relay),
            needs,
            &config.flag_terms,
            config.is_testing,
        );
        let forced = |flag| config.flags_forced.contains(flag);
        let said = config.rules.verdicts(desc);
        let is_authority = config
            .authorities
            .iter()
            .any(|one| one.rsa_id == desc.identity);
        let is_guard = merits.is_guard || forced(Flags::GUARD);
        // What a set of the operator's says holds whatever a relay has, or lacks.
        let decided = |flag, verdict, is_so: bool| match said.has(verdict) {
            true => true,
            false => is_so && !config.flags_strict.contains(flag),
        };
        // Directories of onion services are asked by circuits that end at them.
        let may_be_hs_dir =
            desc.is_hidden_service_dir && desc.is_dir_server && !said.has(Verdict::StripHsDir);
        let is_hs_dir = merits.is_hs_dir && is_active(relay, config, now);
        let mut flags = Flags::NONE;
        for (flag, has) in [
            (Flags::AUTHORITY, is_authority),
            (Flags::BAD_EXIT, said.has(Verdict::BadExit)),
            (
                Flags::EXIT,
                decided(
                    Flags::EXIT,
                    Verdict::Exit,
                    self.is_exit(relay) || forced(Flags::EXIT),
                ),
            ),
            (Flags::FAST, merits.is_fast),
            (
                Flags::GUARD,
                decided(
                    Flags::GUARD,
                    Verdict::Guard,
                    desc.is_dir_server && is_guard && !said.has(Verdict::StripGuard),
                ),
            ),
            (
                Flags::HS_DIR,
                decided(
                    Flags::HS_DIR,
                    Verdict::HsDir,
                    may_be_hs_dir && (is_hs_dir || forced(Flags::HS_DIR)),
                ),
            ),
            (Flags::MIDDLE_ONLY, said.has(Verdict::MiddleOnly)),
            (Flags::RUNNING, relay.is_running(config, now)),
            (Flags::STABLE, merits.is_stable),
            (Flags::STALE_DESC, desc.published + STALE_AGE < now),
            (
                Flags::V2_DIR,
                desc.is_dir_server && !said.has(Verdict::StripV2Dir),
            ),
            (Flags::VALID, !said.has(Verdict::Invalid)),
        ] {
            flags.set(flag, has);
        }
        flags
    }
}

impl Eyes<'_> {
    /// What a relay can carry, in kilobytes a second: as it was measured lately; else, unless
    /// enough others are measured, as it says and as far as that is believed.
    fn credible_kb(&self, relay: &Relay) -> u32 {
        let measured = self.measurements.measured_lately(&relay.desc.identity);
        measured.unwrap_or_else(|| match self.measurements.ignores_advertised(self.config) {
            true => 0,
            false => believed_kb(&relay.desc),
        })
    }

    /// Whether it is a general exit; in a test network also one that carries enough.
    fn is_exit(&self, relay: &Relay) -> bool {
        let (config, policy) = (self.config, &relay.desc.policy);
        let least = match config.is_testing {
            true => config.flag_terms.exit_min_kilobytes,
            false => 0,
        };
        policy.is_general_exit(config.allows_private_addresses) && self.credible_kb(relay) >= least
    }
}

/// The element below which `part` of `of` equal parts lie.
fn nth<T: Ord + Copy>(mut values: Vec<T>, part: usize, of: usize) -> Option<T> {
    values.sort_unstable();
    values
        .get((values.len() * part / of).min(values.len().saturating_sub(1)))
        .copied()
}

/// The element below which this share of all lies.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a place in a list of relays: not negative, far below 2^52"
)]
fn share(mut values: Vec<u32>, share: f64) -> Option<u32> {
    values.sort_unstable();
    let at = (values.len() as f64 * share.clamp(0.0, 1.0)) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied()
}

/// The middle one, the lower of two.
fn middle<T: Ord>(mut values: Vec<T>) -> Option<T> {
    values.sort_unstable();
    let at = values.len().saturating_sub(1) / 2;
    values.into_iter().nth(at)
}

fn middle_f64(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let at = values.len().saturating_sub(1) / 2;
    values.get(at).copied().unwrap_or(0.0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds of uptime: not negative, far below 2^63"
)]
fn as_seconds(seconds: f64) -> u64 {
    seconds as u64
}

#[cfg(test)]
mod tests;
