//! Which flags a relay gets in our vote (dir-spec 3.4.2; `tor`: voteflags.c).
//!
//! Thresholds come from the distribution over the relays that are Running, so that flags mean the
//! same in a network of ten relays and of ten thousand.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use cepa_crypto::RsaId;
use cepa_netdoc::routerstatus::Flags;
use cepa_netdoc::vote::FlagThresholds;

use crate::bandwidth::Measurements;
use crate::config::Config;
use crate::relays::{Relay, Relays, believed_kb};
use crate::rules::Verdict;

/// From this uptime on a relay is Stable whatever the others do.
const STABLE_UPTIME_SECONDS: u64 = 30 * 24 * 60 * 60;
/// The same for the mean time between failures.
const STABLE_MTBF_SECONDS: f64 = (5 * 24 * 60 * 60) as f64;
/// From this bandwidth on a relay is Fast.
const FAST_KB: u32 = 100;
/// From this bandwidth on a relay may be a Guard.
const GUARD_KB: u32 = 2000;
/// The same in bytes.
pub(crate) const GUARD_BYTES: f64 = GUARD_KB as f64 * 1000.0;
/// From this weighted fractional uptime on.
const GUARD_WFU: f64 = 0.98;
/// Known for so long is known long enough.
const FAMILIAR_SECONDS: u64 = 8 * 24 * 60 * 60;
/// Uptime that an HSDir needs (`MinUptimeHidServDirectoryV2`).
pub(crate) const HSDIR_UPTIME_SECONDS: u64 = 96 * 60 * 60;
/// A descriptor older than this is stale.
const STALE_AGE: Duration = Duration::from_secs(18 * 60 * 60);
/// How long relays must have been watched before their mean times between failures count.
const MTBF_WATCHED_SECONDS: u64 = 4 * 60 * 60;
/// Bandwidth that a relay of the public network needs to be Fast.
const FAST_MIN_KB: u32 = 4;

/// What a relay needs, from the relays that are Running.
pub(crate) fn thresholds(
    relays: &Relays,
    measurements: &Measurements,
    config: &Config,
    now: SystemTime,
) -> FlagThresholds {
    let relays = relays.iter().map(|(_, relay)| relay);
    let running: Vec<&Relay> = relays.filter(|r| r.is_running(config, now)).collect();
    let stats: Vec<_> = running
        .iter()
        .map(|relay| relay.history.stats(now))
        .collect();
    let known: Vec<u64> = stats.iter().map(|stats| stats.time_known_seconds).collect();
    let enough_mtbf = known.iter().any(|known| *known >= MTBF_WATCHED_SECONDS);
    let guard_tk = nth(known, 1, 8).unwrap_or(0).min(FAMILIAR_SECONDS);
    let familiar = stats
        .iter()
        .filter(|stats| stats.time_known_seconds >= guard_tk);
    let wfu = middle_f64(familiar.map(|stats| stats.wfu).collect());
    let mtbf = middle_f64(stats.iter().map(|stats| stats.mtbf_seconds).collect());
    let uptimes = running.iter().map(|relay| relay.uptime_seconds(now));
    // Half of a network that is a minute old would not be Stable for having started a second
    // later; in a test network uptime says nothing before there is a history.
    let uptime = match config.is_testing {
        true => 0,
        false => middle(uptimes.collect()).unwrap_or(0),
    };
    let kb = |relay: &&Relay| credible_kb(relay, measurements);
    let all: Vec<u32> = running.iter().map(kb).collect();
    let others = running.iter().filter(|relay| !is_exit(relay, config));
    let others: Vec<u32> = others.map(kb).collect();
    let fast_min = if config.is_testing { 0 } else { FAST_MIN_KB };
    let fast = nth(all.clone(), 1, 8).unwrap_or(0).clamp(fast_min, FAST_KB);
    let bytes = |kilobytes: Option<u32>| u64::from(kilobytes.unwrap_or(0)) * 1000;
    FlagThresholds {
        stable_uptime_seconds: uptime.min(STABLE_UPTIME_SECONDS),
        stable_mtbf_seconds: as_seconds(mtbf.min(STABLE_MTBF_SECONDS)),
        fast_speed_bytes: bytes(Some(fast)),
        guard_wfu: wfu.min(GUARD_WFU),
        guard_time_known_seconds: guard_tk,
        guard_bandwidth_with_exits_bytes: bytes(nth(all, 3, 4)),
        guard_bandwidth_without_exits_bytes: bytes(nth(others, 3, 4)),
        enough_mtbf,
        ignoring_advertised: measurements.ignores_advertised(),
    }
}

/// Relays beyond the number that may be Running on one address. Authorities and those with the most
/// bandwidth stay (dir-spec 3.4.1, "Sybil"). Those that are not Running do not count, as in `tor`
/// since 0.4.9.14: descriptors with another's address cost nothing.
pub(crate) fn sybils(
    relays: &Relays,
    measurements: &Measurements,
    config: &Config,
    now: SystemTime,
) -> BTreeSet<RsaId> {
    let most = match config.relays_per_address_max {
        0 => return BTreeSet::new(),
        most => most,
    };
    let mut by_address: BTreeMap<Ipv4Addr, Vec<_>> = BTreeMap::new();
    for (id, relay) in relays.iter() {
        let is_authority = config.authorities.iter().any(|one| one.rsa_id == *id);
        if !relay.is_running(config, now) {
            continue;
        }
        let rank = (
            !is_authority,
            Reverse(credible_kb(relay, measurements)),
            *id,
        );
        let address = *relay.desc.or_address.ip();
        by_address.entry(address).or_default().push(rank);
    }
    let beyond = by_address.into_values().flat_map(|mut ranks| {
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

/// The flags of one relay.
pub(crate) fn flags(
    relay: &Relay,
    needs: &FlagThresholds,
    measurements: &Measurements,
    config: &Config,
    now: SystemTime,
) -> Flags {
    let desc = &relay.desc;
    let stats = relay.history.stats(now);
    let bytes = u64::from(credible_kb(relay, measurements)) * 1000;
    let is_stable = if needs.enough_mtbf {
        as_seconds(stats.mtbf_seconds) >= needs.stable_mtbf_seconds
    } else {
        relay.uptime_seconds(now) >= needs.stable_uptime_seconds
    };
    let is_fast = bytes >= needs.fast_speed_bytes;
    let forced = |flag| config.flags_forced.contains(flag);
    let quarter = needs
        .guard_bandwidth_with_exits_bytes
        .min(needs.guard_bandwidth_without_exits_bytes);
    let guard_bytes = quarter.min(u64::from(GUARD_KB) * 1000);
    let is_guard = is_fast
        && is_stable
        && stats.time_known_seconds >= needs.guard_time_known_seconds
        && stats.wfu >= needs.guard_wfu
        && bytes >= guard_bytes;
    let uptime_min = if config.is_testing {
        0
    } else {
        HSDIR_UPTIME_SECONDS
    };
    let is_hs_dir = is_fast && is_stable && relay.uptime_seconds(now) >= uptime_min;
    let said = config.rules.verdicts(desc);
    let is_authority = config
        .authorities
        .iter()
        .any(|one| one.rsa_id == desc.identity);
    let mut flags = Flags::NONE;
    flags.set(Flags::AUTHORITY, is_authority);
    flags.set(Flags::BAD_EXIT, said.has(Verdict::BadExit));
    flags.set(Flags::EXIT, is_exit(relay, config) || forced(Flags::EXIT));
    flags.set(Flags::FAST, is_fast);
    flags.set(
        Flags::GUARD,
        desc.is_dir_server && (is_guard || forced(Flags::GUARD)) && !said.has(Verdict::StripGuard),
    );
    let may_be_hs_dir = desc.is_hidden_service_dir && !said.has(Verdict::StripHsDir);
    flags.set(
        Flags::HS_DIR,
        may_be_hs_dir && (is_hs_dir || forced(Flags::HS_DIR)),
    );
    flags.set(Flags::MIDDLE_ONLY, said.has(Verdict::MiddleOnly));
    flags.set(Flags::RUNNING, relay.is_running(config, now));
    flags.set(Flags::STABLE, is_stable);
    flags.set(Flags::STALE_DESC, desc.published + STALE_AGE < now);
    let is_v2_dir = desc.is_dir_server && !said.has(Verdict::StripV2Dir);
    flags.set(Flags::V2_DIR, is_v2_dir);
    flags.set(Flags::VALID, !said.has(Verdict::Invalid));
    flags
}

/// What a relay can carry, in kilobytes a second: as it was measured lately; else, unless enough
/// others are measured, as it says and as far as that is believed.
fn credible_kb(relay: &Relay, measurements: &Measurements) -> u32 {
    let measured = measurements.measured_lately(&relay.desc.identity);
    measured.unwrap_or_else(|| match measurements.ignores_advertised() {
        true => 0,
        false => believed_kb(&relay.desc),
    })
}

fn is_exit(relay: &Relay, config: &Config) -> bool {
    relay
        .desc
        .policy
        .is_general_exit(config.allows_private_addresses)
}

/// The element below which `part` of `of` equal parts lie.
fn nth<T: Ord + Copy>(mut values: Vec<T>, part: usize, of: usize) -> Option<T> {
    values.sort_unstable();
    values
        .get((values.len() * part / of).min(values.len().saturating_sub(1)))
        .copied()
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
