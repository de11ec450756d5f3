//! A few seeds of the year, quickly.

use std::time::{Duration, Instant, SystemTime};

use super::*;

#[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
fn start() -> Now {
    Now {
        mono: Instant::now(),
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    }
}

#[test]
fn a_handful_of_guards_a_year() {
    let years: Vec<Year> = (0..4).map(|seed| year(seed, start())).collect();
    for year in &years {
        for figures in [&year.cepa, &year.model] {
            assert_eq!(figures.illegal(), 0);
            assert!(figures.sample_max() <= 60);
            assert!(figures.main() <= 12, "{}", figures.main());
            let (failures, circuits) = figures.failures();
            assert!(failures * 1000 <= circuits, "{failures} of {circuits}");
            let (longest, _) = figures.stays_days();
            assert!(longest <= 121.0, "{longest}");
        }
    }
    let mean = |of: fn(&Year) -> usize| years.iter().map(of).sum::<usize>();
    let (ours, theirs) = (
        mean(|year| year.cepa.main()),
        mean(|year| year.model.main()),
    );
    assert!(ours <= theirs + 8, "{ours} {theirs}");
    let table = Summary::new(years).to_string();
    assert!(
        table.contains("4 seeds") && table.lines().count() == 12,
        "{table}"
    );
}

#[test]
fn the_same_seed_gives_the_same_year() {
    let one = days(7, 60, start());
    assert_eq!(one, days(7, 60, start() + Duration::from_secs(5)));
    assert_ne!(one, days(8, 60, start()));
}
