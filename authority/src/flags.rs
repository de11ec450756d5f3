//! Which flags a relay gets in our vote (dir-spec 3.4.2; `tor`: voteflags.c).
//!
//! Thresholds come from the distribution over the relays that are Running, so that flags mean the
//! same in a network of ten relays and of ten thousand.

use std::time::{Duration, SystemTime};

use cepa_netdoc::routerstatus::Flags;
use cepa_netdoc::vote::FlagThresholds;

use crate::config::Config;
use crate::relays::{Relay, Relays};

/// From this uptime on a relay is Stable whatever the others do.
const STABLE_UPTIME_SECONDS: u64 = 30 * 24 * 60 * 60;
/// The same for the mean time between failures.
const STABLE_MTBF_SECONDS: f64 = (5 * 24 * 60 * 60) as f64;
/// From this bandwidth on a relay is Fast.
const FAST_KB: u32 = 100;
/// From this bandwidth on a relay may be a Guard.
const GUARD_KB: u32 = 2000;
/// From this weighted fractional uptime on.
const GUARD_WFU: f64 = 0.98;
/// Known for so long is known long enough.
const FAMILIAR_SECONDS: u64 = 8 * 24 * 60 * 60;
/// Uptime that an HSDir needs (`MinUptimeHidServDirectoryV2`).
const HSDIR_UPTIME_SECONDS: u64 = 96 * 60 * 60;
/// A descriptor older than this is stale.
const STALE_AGE: Duration = Duration::from_secs(18 * 60 * 60);
/// Relays whose failures were seen, from which on their mean times count.
const MTBF_RELAYS_MIN: usize = 4;

/// What a relay needs, from the relays that are Running.
pub(crate) fn thresholds(relays: &Relays, config: &Config, now: SystemTime) -> FlagThresholds {
    let running: Vec<&Relay> = relays
        .iter()
        .map(|(_, relay)| relay)
        .filter(|r| r.is_running(config, now))
        .collect();
    let stats: Vec<_> = running
        .iter()
        .map(|relay| relay.history.stats(now))
        .collect();
    let uptimes = running
        .iter()
        .map(|relay| relay.uptime_seconds(now))
        .collect();
    let bandwidths = running.iter().map(|relay| relay.bandwidth_kb()).collect();
    let known = stats.iter().map(|stats| stats.time_known_seconds).collect();
    let guard_tk = nth(known, 1, 8).unwrap_or(0).min(FAMILIAR_SECONDS);
    let familiar = stats
        .iter()
        .filter(|stats| stats.time_known_seconds >= guard_tk);
    let wfu = nth_f64(familiar.map(|stats| stats.wfu).collect(), 1, 2);
    let mtbf: Vec<f64> = stats.iter().map(|stats| stats.mtbf_seconds).collect();
    let enough_mtbf = mtbf.iter().filter(|mtbf| **mtbf > 0.0).count() >= MTBF_RELAYS_MIN;
    let guard_kb = |exits: bool| {
        let share = running
            .iter()
            .filter(|relay| exits || !is_exit(relay, config));
        nth(share.map(|relay| relay.bandwidth_kb()).collect(), 3, 4)
            .unwrap_or(0)
            .min(GUARD_KB)
    };
    FlagThresholds {
        stable_uptime_seconds: nth(uptimes, 1, 2).unwrap_or(0).min(STABLE_UPTIME_SECONDS),
        stable_mtbf_seconds: as_seconds(nth_f64(mtbf, 1, 2).min(STABLE_MTBF_SECONDS)),
        fast_speed_bytes: u64::from(nth(bandwidths, 1, 8).unwrap_or(0).min(FAST_KB)) * 1000,
        guard_wfu: wfu.min(GUARD_WFU),
        guard_time_known_seconds: guard_tk,
        guard_bandwidth_with_exits_bytes: u64::from(guard_kb(true)) * 1000,
        guard_bandwidth_without_exits_bytes: u64::from(guard_kb(false)) * 1000,
        enough_mtbf,
        ignoring_advertised: false,
    }
}

/// The flags of one relay.
pub(crate) fn flags(
    relay: &Relay,
    needs: &FlagThresholds,
    config: &Config,
    now: SystemTime,
) -> Flags {
    let desc = &relay.desc;
    let stats = relay.history.stats(now);
    let bytes = u64::from(relay.bandwidth_kb()) * 1000;
    let is_stable = if needs.enough_mtbf {
        as_seconds(stats.mtbf_seconds) >= needs.stable_mtbf_seconds
    } else {
        relay.uptime_seconds(now) >= needs.stable_uptime_seconds
    };
    let is_fast = bytes >= needs.fast_speed_bytes;
    let forced = |flag| config.flags_forced.contains(flag);
    let is_guard = is_fast
        && is_stable
        && stats.time_known_seconds >= needs.guard_time_known_seconds
        && stats.wfu >= needs.guard_wfu
        && bytes >= needs.guard_bandwidth_with_exits_bytes;
    let uptime_min = if config.is_testing {
        0
    } else {
        HSDIR_UPTIME_SECONDS
    };
    let is_hs_dir = is_fast && is_stable && relay.uptime_seconds(now) >= uptime_min;
    let is_bad_exit = config.bad_exits.contains(&desc.identity);
    let is_middle_only = config.middle_only.contains(&desc.identity);
    let is_authority = config
        .authorities
        .iter()
        .any(|one| one.rsa_id == desc.identity);
    let mut flags = Flags::NONE;
    flags.set(Flags::AUTHORITY, is_authority);
    flags.set(Flags::BAD_EXIT, is_bad_exit);
    flags.set(Flags::EXIT, is_exit(relay, config) || forced(Flags::EXIT));
    flags.set(Flags::FAST, is_fast);
    flags.set(
        Flags::GUARD,
        desc.is_dir_server && (is_guard || forced(Flags::GUARD)),
    );
    let may_be_hs_dir = desc.is_hidden_service_dir;
    flags.set(
        Flags::HS_DIR,
        may_be_hs_dir && (is_hs_dir || forced(Flags::HS_DIR)),
    );
    flags.set(Flags::MIDDLE_ONLY, is_middle_only);
    flags.set(Flags::RUNNING, relay.is_running(config, now));
    flags.set(Flags::STABLE, is_stable);
    flags.set(Flags::STALE_DESC, desc.published + STALE_AGE < now);
    flags.set(Flags::V2_DIR, desc.is_dir_server);
    flags.set(Flags::VALID, true);
    flags
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

fn nth_f64(mut values: Vec<f64>, part: usize, of: usize) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let at = (values.len() * part / of).min(values.len().saturating_sub(1));
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
