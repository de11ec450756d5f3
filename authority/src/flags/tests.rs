//! Each threshold at its edge, for samples of relays without their descriptors.

use super::*;

const TERMS_KB: u32 = 2097;

fn terms() -> FlagTerms {
    FlagTerms::default()
}

/// A relay that has all that any flag asks for, and not a bit more.
fn edge() -> (Sample, FlagThresholds) {
    let needs = FlagThresholds {
        stable_uptime_seconds: 1000,
        stable_mtbf_seconds: 5000,
        fast_speed_bytes: 90_000,
        guard_wfu: 0.97,
        guard_time_known_seconds: 600_000,
        guard_bandwidth_with_exits_bytes: 3_000_000,
        guard_bandwidth_without_exits_bytes: 2_500_000,
        enough_mtbf: true,
        ignoring_advertised: false,
    };
    let sample = Sample {
        kilobytes: TERMS_KB,
        uptime_seconds: 1000,
        proven_seconds: terms().hs_dir_uptime_seconds,
        stats: Stats {
            wfu: 0.97,
            time_known_seconds: 600_000,
            mtbf_seconds: 5000.0,
        },
        is_exit: false,
    };
    (sample, needs)
}

fn merits(sample: &Sample, needs: &FlagThresholds) -> Merits {
    Merits::of(sample, needs, &terms(), false)
}

const ALL: Merits = Merits {
    is_fast: true,
    is_stable: true,
    is_guard: true,
    is_hs_dir: true,
};

#[test]
fn who_has_just_enough_has_all() {
    let (sample, needs) = edge();
    assert_eq!(merits(&sample, &needs), ALL);
}

#[test]
fn a_guard_is_up_known_and_wide_enough() {
    let (sample, needs) = edge();
    let without = Merits {
        is_guard: false,
        ..ALL
    };
    let mut below = sample;
    below.stats.wfu = 0.969_999;
    assert_eq!(merits(&below, &needs), without);
    let mut below = sample;
    below.stats.time_known_seconds -= 1;
    assert_eq!(merits(&below, &needs), without);
    let mut below = sample;
    below.kilobytes -= 1;
    assert_eq!(merits(&below, &needs), without);
    // The lower of both shares counts, if it is below what is enough in any case.
    let mut few = needs;
    few.guard_bandwidth_with_exits_bytes = 1_500_000;
    for (kilobytes, is_guard) in [(1500, true), (1499, false)] {
        let sample = Sample {
            kilobytes,
            ..sample
        };
        assert_eq!(merits(&sample, &few).is_guard, is_guard);
    }
}

#[test]
fn stable_goes_by_failures_once_enough_is_known_of_them() {
    let (sample, needs) = edge();
    let mut below = sample;
    below.stats.mtbf_seconds = 4999.9;
    let merits_below = merits(&below, &needs);
    // Who is not Stable is neither Guard nor HSDir.
    let only_fast = Merits {
        is_stable: false,
        is_guard: false,
        is_hs_dir: false,
        ..ALL
    };
    assert_eq!(merits_below, only_fast);
    let mut young = needs;
    young.enough_mtbf = false;
    assert!(merits(&below, &young).is_stable);
    below.uptime_seconds -= 1;
    assert!(!merits(&below, &young).is_stable);
}

#[test]
fn fast_is_what_the_threshold_says() {
    let (mut sample, needs) = edge();
    sample.kilobytes = 90;
    assert!(merits(&sample, &needs).is_fast);
    sample.kilobytes = 89;
    let none = merits(&sample, &needs);
    assert!(!none.is_fast && !none.is_guard && !none.is_hs_dir && none.is_stable);
}

#[test]
fn an_hs_dir_is_up_for_four_days_by_what_is_proven() {
    let (mut sample, needs) = edge();
    sample.proven_seconds = 96 * 3600 - 1;
    assert!(!merits(&sample, &needs).is_hs_dir && merits(&sample, &needs).is_guard);
    sample.proven_seconds += 1;
    assert!(merits(&sample, &needs).is_hs_dir);
    sample.proven_seconds = 0;
    assert!(Merits::of(&sample, &needs, &terms(), true).is_hs_dir);
}

/// So many relays, the first the slowest, youngest and worst.
fn network(size: u32) -> Vec<Sample> {
    let one = |number: u32| Sample {
        kilobytes: 50 + number,
        uptime_seconds: u64::from(number) * 10,
        proven_seconds: 0,
        stats: Stats {
            wfu: f64::from(number) / 100.0,
            time_known_seconds: u64::from(number) * 100,
            mtbf_seconds: f64::from(number) * 7.0,
        },
        is_exit: number.is_multiple_of(2),
    };
    (0..size).map(one).collect()
}

fn needed(active: &[Sample], params: &[(&str, i32)]) -> FlagThresholds {
    let mut set = Params::new();
    params
        .iter()
        .for_each(|(name, value)| set.set(name, *value));
    needs(active, &terms(), Some(&set), false)
}

#[test]
fn thresholds_are_shares_of_the_network() {
    let active = network(80);
    let found = needed(&active, &[]);
    assert_eq!(found.stable_uptime_seconds, 390);
    assert_eq!(found.stable_mtbf_seconds, 39 * 7);
    assert_eq!(found.fast_speed_bytes, 60_000);
    assert_eq!(found.guard_time_known_seconds, 1000);
    // Of those that are known for as long: 10 to 79.
    assert!((found.guard_wfu - 0.44).abs() < 1e-9, "{found:?}");
    assert_eq!(found.guard_bandwidth_with_exits_bytes, 110_000);
    // Of the odd ones.
    assert_eq!(found.guard_bandwidth_without_exits_bytes, 111_000);
    assert!(!found.enough_mtbf);
    let mut long = active;
    long[3].stats.time_known_seconds = 4 * 3600;
    assert!(needed(&long, &[]).enough_mtbf);
    long[3].stats.time_known_seconds -= 1;
    assert!(!needed(&long, &[]).enough_mtbf);
    let nobody = needed(&[], &[]);
    assert_eq!(
        (nobody.fast_speed_bytes, nobody.guard_time_known_seconds),
        (0, 0)
    );
}

#[test]
fn what_is_enough_in_any_case_bounds_the_shares() {
    let mut rich = network(80);
    for sample in &mut rich {
        sample.kilobytes += 100_000;
        sample.uptime_seconds += 1 << 30;
        sample.stats.wfu = 1.0;
        sample.stats.time_known_seconds += 1 << 30;
        sample.stats.mtbf_seconds += f64::from(1 << 30);
    }
    let found = needed(&rich, &[]);
    let terms = terms();
    assert_eq!(found.stable_uptime_seconds, terms.stable_uptime_seconds);
    assert_eq!(found.stable_mtbf_seconds, terms.stable_mtbf_seconds);
    assert_eq!(
        found.fast_speed_bytes,
        u64::from(terms.fast_kilobytes) * 1000
    );
    assert_eq!(
        found.guard_time_known_seconds,
        terms.guard_time_known_seconds
    );
    assert!((found.guard_wfu - terms.guard_wfu).abs() < 1e-9);
}

#[test]
fn the_networks_parameters_bound_fast() {
    let active = network(80);
    let fast = |params: &[(&str, i32)]| needed(&active, params).fast_speed_bytes;
    assert_eq!(fast(&[("FastFlagMinThreshold", 60_000)]), 60_000);
    assert_eq!(fast(&[("FastFlagMinThreshold", 61_000)]), 61_000);
    assert_eq!(fast(&[("FastFlagMaxThreshold", 60_000)]), 60_000);
    assert_eq!(fast(&[("FastFlagMaxThreshold", 59_000)]), 59_000);
    // The operator's guarantee is above both.
    assert_eq!(fast(&[("FastFlagMinThreshold", 5_000_000)]), 102_000);
    // A network of slow relays goes by its quarter.
    let mut slow = network(80);
    slow.iter_mut().for_each(|sample| sample.kilobytes -= 45);
    assert_eq!(needed(&slow, &[]).fast_speed_bytes, 25_000);
}
