//! Over many paths each relay has the share that the weights give it (path-spec 2.2; dir-spec
//! 3.8.3; guard-spec 4.1), by Pearson's chi-squared test.
//!
//! What is expected is worked out from the numbers of the `bandwidth-weights` line in plain sums:
//! first the exit, then a guard that may stand with it, then a middle that may stand with both.

use super::*;
use crate::select::guards::{GuardParams, GuardUse, Guards, candidates};

/// Paths that are drawn.
const PATHS: u32 = 100_000;
/// What chi-squared exceeds by chance once in a thousand, for 1 to 30 degrees of freedom.
const CRITICAL: [f64; 30] = [
    10.828, 13.816, 16.266, 18.467, 20.515, 22.458, 24.322, 26.124, 27.877, 29.588, 31.264, 32.909,
    34.528, 36.123, 37.697, 39.252, 40.790, 42.312, 43.820, 45.315, 46.797, 48.268, 49.728, 51.179,
    52.620, 54.052, 55.476, 56.892, 58.301, 59.703,
];

/// How likely each relay is in one position.
type Expected = BTreeMap<RsaId, f64>;

/// Guards, exits, both and neither, of different bandwidths, in a few families and subnets.
fn network(rng: &mut Rng) -> Vec<DrawnRelay> {
    let mut relays: Vec<DrawnRelay> = (1..=28).map(|n| DrawnRelay::new(n, rng)).collect();
    for (n, relay) in (0_u32..).zip(&mut relays) {
        relay.flags.set(Flags::GUARD, n % 4 < 2);
        relay.flags.set(Flags::EXIT, n % 4 == 1 || n % 4 == 2);
        relay.flags.set(Flags::V2_DIR, n % 4 < 2 || n % 3 == 0);
        // Some that have no Exit flag allow the port, too.
        if relay.flags.contains(Flags::EXIT) || n % 5 == 0 {
            relay.policy = Some("accept 80");
        }
        relay.bandwidth = 100 + 37 * (n * n % 23);
        if n % 9 < 2 {
            relay.family_ids.push("ed25519:kin".to_owned());
        }
        if n % 7 == 0 {
            relay.ip = [10, 1, 0, relay.ip.octets()[1]].into();
        }
    }
    relays
}

/// The shares of `WEIGHTS`, in ten-thousandths: for guards, exits, both, neither.
fn share(relay: &DrawnRelay, [guard, exit, both, neither]: [f64; 4]) -> f64 {
    let is = |flag| relay.flags.contains(flag);
    let share = match (is(Flags::GUARD), is(Flags::EXIT)) {
        (true, true) => both,
        (true, false) => guard,
        (false, true) => exit,
        (false, false) => neither,
    };
    share * f64::from(relay.bandwidth)
}

/// Each relay that fits, with its part of all their weight.
fn parts<'a>(
    relays: &'a [DrawnRelay],
    weigh: impl Fn(&DrawnRelay) -> f64 + 'a,
    fits: impl Fn(&DrawnRelay) -> bool,
) -> Vec<(&'a DrawnRelay, f64)> {
    let weighed = relays.iter().filter(|relay| fits(relay));
    let weighed: Vec<_> = weighed.map(|relay| (relay, weigh(relay))).collect();
    let total: f64 = weighed.iter().map(|(_, weight)| weight).sum();
    let parts = weighed.into_iter();
    parts
        .map(|(relay, weight)| (relay, weight / total))
        .collect()
}

/// How likely each relay is as guard, middle and exit.
fn expected(relays: &[DrawnRelay]) -> [Expected; 3] {
    let as_guard = |one: &DrawnRelay| share(one, [6000.0, 0.0, 2000.0, 0.0]);
    let as_middle = |one: &DrawnRelay| share(one, [4000.0, 0.0, 5000.0, 10_000.0]);
    let as_exit = |one: &DrawnRelay| share(one, [3000.0, 10_000.0, 3000.0, 10_000.0]);
    let mut all = [Expected::new(), Expected::new(), Expected::new()];
    let mut add = |place: usize, relay: &DrawnRelay, part: f64| {
        *all[place].entry(relay.rsa).or_default() += part;
    };
    for (exit, p_exit) in parts(relays, as_exit, |one| one.policy.is_some()) {
        add(2, exit, p_exit);
        let is_guard = |one: &DrawnRelay| one.flags.contains(Flags::GUARD) && !conflict(one, exit);
        for (guard, p_guard) in parts(relays, as_guard, is_guard) {
            add(0, guard, p_exit * p_guard);
            let is_free = |one: &DrawnRelay| !conflict(one, exit) && !conflict(one, guard);
            for (middle, p_middle) in parts(relays, as_middle, is_free) {
                add(1, middle, p_exit * p_guard * p_middle);
            }
        }
    }
    all
}

/// Pearson's statistic, and what it must not exceed.
fn chi_squared(seen: &BTreeMap<RsaId, u32>, expected: &Expected) -> (f64, f64) {
    let likely = expected.iter().filter(|(_, part)| **part > 0.0);
    let (mut sum, mut cells) = (0.0, 0);
    for (id, part) in likely {
        let wanted = part * f64::from(PATHS);
        assert!(wanted >= 5.0, "too rare for the test");
        let off = f64::from(seen.get(id).copied().unwrap_or(0)) - wanted;
        sum += off * off / wanted;
        cells += 1;
    }
    (sum, CRITICAL[cells - 2])
}

#[test]
fn each_relay_has_its_share_of_a_hundred_thousand_paths() {
    let mut rng = Rng::from_seed([31; 32]);
    let relays = network(&mut rng);
    let now = start();
    let view = Documents::new(&relays, WEIGHTS, now).view();
    let (listed, params) = (candidates(&view, |_| true), GuardParams::default());
    let mut seen = [(); 3].map(|()| BTreeMap::<RsaId, u32>::new());
    for _ in 0..PATHS {
        // Each path is a new client's.
        let mut guards = Guards::new(params.clone());
        guards.handle_consensus(params.clone(), listed.clone(), true, now, &mut rng);
        let entries = guards.ranked(GuardUse::Data, now, &mut rng);
        let rules = PathRules {
            need: WEB,
            entries: &entries,
            bridges: None,
            permits: &Permits::FREE,
            excluded_exits: &[],
            distinct_subnets: true,
            long_lived: &LONG_LIVED_PORTS,
        };
        let path = choose(&view, &rules, &mut rng).unwrap();
        for (seen, hop) in seen.iter_mut().zip(&path.hops) {
            *seen.entry(hop.rsa_id).or_default() += 1;
        }
    }
    let expected = expected(&relays);
    for (place, (seen, expected)) in ["guard", "middle", "exit"]
        .iter()
        .zip(seen.iter().zip(&expected))
    {
        let never = |id: &&RsaId| expected.get(*id).is_none_or(|part| *part <= 0.0);
        assert_eq!(seen.keys().find(never), None, "{place}: of no weight");
        let (sum, limit) = chi_squared(seen, expected);
        println!("{place}: chi-squared {sum:.1}, less than {limit} with p > 0.001");
        assert!(sum < limit, "{place}: {sum} of at most {limit}");
        // The test would notice weights that are a little off.
        let mut wrong = expected.clone();
        let most = wrong.values_mut().max_by(|a, b| a.total_cmp(b)).unwrap();
        *most *= 1.1;
        let (sum, limit) = chi_squared(seen, &wrong);
        assert!(sum > limit, "{place}: blind, {sum} of {limit}");
    }
}
