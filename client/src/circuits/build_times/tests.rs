//! Fits against hand-computed ones and against drawn curves; what changes the estimate.

use super::*;
use crate::drawn::start;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn params(text: &str) -> BuildTimeParams {
    BuildTimeParams::read(&Params::parse(text).unwrap())
}

/// Build times with those that stand here in pairs: so many, of so many milliseconds.
fn with(times: &[(usize, u64)]) -> BuildTimes {
    let mut build_times = BuildTimes::new(start());
    for (count, time) in times {
        for _ in 0..*count {
            build_times.built(ms(*time), false);
        }
    }
    build_times
}

/// Of these the middles are 105, 115, 125, 305 and 805 ms.
const HUNDRED: [(usize, u64); 5] = [(40, 101), (30, 112), (20, 125), (5, 300), (5, 800)];

fn near(time: Duration, expected_ms: f64) {
    let ms = time.as_secs_f64() * 1000.0;
    assert!(
        (ms - expected_ms).abs() < 0.01,
        "{ms} ms, not {expected_ms}"
    );
}

#[test]
fn the_fit_is_the_one_made_by_hand() {
    // Xm = (40*105 + 30*115 + 20*125 + 5*305 + 5*805) / 100 = 157;
    // alpha = 100 / (5 ln(300/157) + 5 ln(800/157)) = 8.7877; F(0.8) = Xm / 0.2^(1/alpha).
    let times = with(&HUNDRED);
    assert_eq!(times.lowest(), Some(157.0));
    near(times.timeout(3), 188.555_426);
    assert_eq!(times.close(3), ms(60_000), "never below the first timeout");
    // With two modes, Xm = (40*105 + 30*115) / 70 = 109.2857, and alpha = 5.4273.
    let mut times = with(&HUNDRED);
    times.set_params(params("cbtinitialtimeout=200 cbtnummodes=2"));
    near(times.timeout(3), 147.011_230);
    near(times.close(3), 255.310_579);
    // Of bins that are as full, the earlier ones count.
    let mut times = with(&[(50, 300), (50, 100)]);
    times.set_params(params("cbtnummodes=1"));
    assert_eq!(times.lowest(), Some(105.0));
}

#[test]
fn the_fit_finds_the_curve_that_was_drawn() {
    for (seed, alpha, lowest) in [(1, 2.0, 400.0), (2, 3.5, 1500.0), (3, 1.5, 900.0)] {
        let mut rng = Rng::from_seed([seed; 32]);
        let mut times = BuildTimes::new(start());
        for _ in 0..TIMES_MAX {
            let share = (to_f64(usize::try_from(rng.below(1 << 30)).unwrap()) + 1.0) / 1.1e9;
            let time: f64 = lowest / share.min(1.0).powf(1.0 / alpha);
            times.built(Duration::from_secs_f64(time.min(120_000.0) / 1000.0), false);
        }
        let wanted = lowest / 0.2_f64.powf(1.0 / alpha);
        let found = times.timeout(3).as_secs_f64() * 1000.0;
        let ratio = found / wanted;
        assert!(
            (0.85..1.15).contains(&ratio),
            "{found} of {wanted}: {ratio}"
        );
        // What matters: about four of five circuits are in time.
        let in_time = times.times.iter().filter(|ms| f64::from(**ms) <= found);
        let share = to_f64(in_time.count()) / 1000.0;
        assert!((0.75..0.86).contains(&share), "{share} are in time");
    }
}

#[test]
fn nothing_is_guessed_before_there_are_enough() {
    let mut times = with(&[(99, 20)]);
    assert!(times.is_learning());
    assert_eq!(
        (times.timeout(3), times.first_hop()),
        (ms(60_000), ms(10_000))
    );
    assert_eq!(times.timeout(4), ms(100_000), "ten round trips, not six");
    times.built(ms(30), false);
    assert!(!times.is_learning() && times.timeout(3) < ms(31));
    assert_eq!(times.close(3), ms(60_000));
    // All alike, and quick: the least timeout.
    let times = with(&[(100, 1)]);
    assert_eq!(times.timeout(3), ms(10));
}

#[test]
fn a_network_that_changes_is_learnt_anew() {
    let mut times = with(&HUNDRED);
    for _ in 0..17 {
        assert!(!times.late(true));
        assert!(
            !times.late(false),
            "no first hop: says nothing about the rest"
        );
    }
    times.built(ms(100), false);
    assert!(times.late(true), "18 of the last 20");
    assert!(times.is_learning());
    assert_eq!(times.timeout(3), ms(60_000));
    // Late even so: twice the time.
    for _ in 0..18 {
        times.late(true);
    }
    assert_eq!(times.timeout(3), ms(120_000));
    // A late one that comes to stand after all counts as late, and its time is known.
    let mut times = with(&HUNDRED);
    for n in 0..18 {
        assert_eq!(times.late(true), n == 17);
        times.built(ms(5000), true);
    }
}

#[test]
fn a_silent_network_teaches_nothing() {
    let now = start();
    let mut times = with(&[(50, 100)]);
    times.heard(now);
    times.given_up((now + ms(1)).mono);
    times.built(ms(100), false);
    assert_eq!(times.times.len(), 50);
    times.heard(now + ms(5));
    times.built(ms(100), false);
    assert_eq!(times.times.len(), 51);
    // A circuit that outlived its time slept with the machine.
    times.built(ms(121_001), false);
    assert_eq!(times.times.len(), 51);
}

#[test]
fn the_histogram_is_kept() {
    let mut rng = Rng::from_seed([5; 32]);
    let times = with(&HUNDRED);
    let text = times.encode();
    assert_eq!(
        text,
        "build-times 1\n105 40\n115 30\n125 20\n305 5\n805 5\n"
    );
    let read = BuildTimes::parse(&text, &mut rng, start()).unwrap();
    assert_eq!(read.encode(), text);
    assert_eq!(read.lowest(), times.lowest());
    assert!(read.timeout(3) < ms(200));
    assert!(!read.times.iter().is_sorted(), "the order is not kept");
    for (text, line) in [
        ("", 1),
        ("build-times 2\n", 1),
        ("build-times 1\n105 40\nx 1\n", 3),
        ("build-times 1\n105 1001\n", 2),
        ("build-times 1\n105 -1\n", 2),
        ("build-times 1\n99999999999 1\n", 2),
    ] {
        let error = BuildTimes::parse(text, &mut rng, start()).unwrap_err();
        assert_eq!(error, BuildTimesError(line), "{text:?}");
    }
}

#[test]
fn it_is_kept_now_and_then() {
    let mut times = with(&[(19, 100)]);
    assert!(!times.take_changed());
    times.built(ms(100), false);
    assert!(times.take_changed() && !times.take_changed());
    let mut times = with(&[(100, 100)]);
    assert!(times.take_changed());
    times.set_params(params("cbtdisabled=1"));
    assert!(times.take_changed(), "the history goes");
    times.built(ms(100), false);
    assert!(times.times.is_empty() && !times.is_learning());
    assert_eq!(times.timeout(3), ms(60_000));
}

#[test]
fn only_the_last_thousand_count() {
    let times = with(&[(600, 1000), (1000, 50)]);
    assert_eq!(times.times.len(), TIMES_MAX);
    assert!(times.timeout(3) <= ms(55));
}
