//! Intervals of the calendar, and a relay that sleeps and wakes over months.

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> SystemTime {
    cepa_netdoc::timestamp::parse(text).unwrap()
}

fn config(max: u64, start: &str) -> AccountingConfig {
    AccountingConfig {
        max,
        start: start.parse().unwrap(),
        rule: AccountingRule::Max,
    }
}

#[test]
fn starts_are_read_as_tor_reads_them() {
    let noon = Time::from_hms(12, 30, 0).unwrap();
    assert_eq!("day 12:30".parse(), Ok(AccountingStart::Day(noon)));
    assert_eq!("week 7 12:30".parse(), Ok(AccountingStart::Week(7, noon)));
    assert_eq!(
        "month 28 12:30".parse(),
        Ok(AccountingStart::Month(28, noon))
    );
    for wrong in [
        "",
        "day",
        "day 1 12:30",
        "day 24:00",
        "week 0 00:00",
        "week 8 00:00",
        "month 29 00:00",
        "month 1",
        "year 1 00:00",
        "month 1 00:00 x",
    ] {
        assert_eq!(
            wrong.parse::<AccountingStart>(),
            Err(AccountingStartError),
            "{wrong}"
        );
    }
}

#[test]
fn intervals_of_the_calendar() {
    let cases = [
        (
            "day 06:00",
            "2026-03-01 05:59:59",
            "2026-02-28 06:00:00",
            "2026-03-01 06:00:00",
        ),
        (
            "day 06:00",
            "2026-03-01 06:00:00",
            "2026-03-01 06:00:00",
            "2026-03-02 06:00:00",
        ),
        // 2026-11-28 is a Saturday.
        (
            "week 1 00:00",
            "2026-11-28 12:00:00",
            "2026-11-23 00:00:00",
            "2026-11-30 00:00:00",
        ),
        (
            "week 6 13:00",
            "2026-11-28 12:00:00",
            "2026-11-21 13:00:00",
            "2026-11-28 13:00:00",
        ),
        (
            "month 1 00:00",
            "2026-12-31 23:59:59",
            "2026-12-01 00:00:00",
            "2027-01-01 00:00:00",
        ),
        (
            "month 28 08:00",
            "2027-01-28 07:59:59",
            "2026-12-28 08:00:00",
            "2027-01-28 08:00:00",
        ),
        (
            "month 28 08:00",
            "2028-02-29 00:00:00",
            "2028-02-28 08:00:00",
            "2028-03-28 08:00:00",
        ),
    ];
    for (start, now, begins, ends) in cases {
        let start: AccountingStart = start.parse().unwrap();
        assert_eq!(start.interval(at(now)), (at(begins), at(ends)), "{now}");
    }
}

#[test]
fn a_relay_sleeps_and_wakes() {
    let now = at("2026-11-28 12:00:00");
    let mut accounting = Accounting::new(config(1000, "day 00:00"), None, now);
    accounting.add(949, 100, now);
    assert_eq!(accounting.wakefulness(), Wakefulness::Awake);
    accounting.add(1, 100, now);
    assert_eq!(accounting.wakefulness(), Wakefulness::Soft);
    accounting.add(50, 0, now);
    assert_eq!(accounting.wakefulness(), Wakefulness::Hard);
    assert_eq!(
        accounting.to_string(),
        "1000 of 1000 bytes (accounting_max) are used, 100 %, until 2026-11-29 00:00:00 UTC"
    );
    // A greater allowance wakes it at once, a clock that is set back does not.
    accounting.advance(at("2026-11-27 12:00:00"));
    assert_eq!(accounting.wakefulness(), Wakefulness::Hard);
    accounting.set_config(config(2000, "day 00:00"), at("2026-11-27 12:00:00"));
    assert_eq!(accounting.wakefulness(), Wakefulness::Awake);
    accounting.set_config(config(1000, "day 00:00"), at("2026-11-27 12:00:00"));
    accounting.advance(at("2026-11-28 00:00:00"));
    assert_eq!(accounting.wakefulness(), Wakefulness::Awake);
    assert_eq!(accounting.bytes(), (0, 0));
}

#[test]
fn rules_count_what_they_say() {
    let now = at("2026-11-28 12:00:00");
    for (rule, counted) in [
        (AccountingRule::Max, 7),
        (AccountingRule::Sum, 10),
        (AccountingRule::In, 3),
        (AccountingRule::Out, 7),
    ] {
        let config = AccountingConfig {
            rule,
            ..config(1000, "day 00:00")
        };
        let mut accounting = Accounting::new(config, None, now);
        accounting.add(3, 7, now);
        assert_eq!(accounting.counted(), counted);
    }
}

#[test]
fn a_great_allowance_leaves_half_a_gigabyte_for_the_soft_sleep() {
    let now = at("2026-11-28 12:00:00");
    let max = 100_u64 << 30;
    let mut accounting = Accounting::new(config(max, "month 1 00:00"), None, now);
    accounting.add(max - SOFT_BYTES - 1, 0, now);
    assert_eq!(accounting.wakefulness(), Wakefulness::Awake);
    accounting.add(1, 0, now);
    assert_eq!(accounting.wakefulness(), Wakefulness::Soft);
}

#[test]
fn another_start_or_a_damaged_state_does_not_end_anything() {
    let now = at("2026-11-28 12:00:00");
    for kept in ["", "1 2 3", "a b c d", "18446744073709551615 1 1 1"] {
        let accounting = Accounting::new(config(10, "day 00:00"), Some(kept), now);
        assert_eq!(accounting.bytes(), (0, 0), "{kept}");
    }
    let mut accounting = Accounting::new(config(10, "day 00:00"), None, now);
    accounting.add(10, 0, now);
    accounting.set_config(config(10, "month 1 00:00"), now);
    assert_eq!(accounting.wakefulness(), Wakefulness::Hard);
    assert_eq!(accounting.wakes(), at("2026-12-01 00:00:00"));
}

fn starts() -> impl Strategy<Value = AccountingStart> {
    let time = (0_u8..24, 0_u8..60).prop_map(|(h, m)| Time::from_hms(h, m, 0).unwrap());
    (0..3, 1_u8..29, time).prop_map(|(kind, day, time)| match kind {
        0 => AccountingStart::Day(time),
        1 => AccountingStart::Week(1 + day % 7, time),
        _ => AccountingStart::Month(day, time),
    })
}

proptest! {
    /// Intervals lie end to end, and each instant is in exactly one.
    #[test]
    fn intervals_tile_the_years(start in starts(), secs in 0_u64..4_000_000_000) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
        let (begins, ends) = start.interval(now);
        prop_assert!(begins <= now && now < ends);
        prop_assert_eq!(start.interval(ends).0, ends);
        prop_assert_eq!(start.interval(ends - Duration::from_secs(1)), (begins, ends));
        let days = ends.duration_since(begins).unwrap().as_secs() / 86_400;
        let (least, most) = match start {
            AccountingStart::Day(_) => (1, 1),
            AccountingStart::Week(..) => (7, 7),
            AccountingStart::Month(..) => (28, 31),
        };
        prop_assert!((least..=most).contains(&days));
    }

    /// Over months of traffic with kills at any instant: no interval has more than was allowed,
    /// but for what was not kept yet; and each begins anew.
    #[test]
    fn kills_give_little_away(
        start in starts(),
        steps in proptest::collection::vec(
            (1_u64..200_000, 0_u64..(8 << 20), any::<bool>()),
            1..300,
        ),
    ) {
        let max = 256_u64 << 20;
        let config = AccountingConfig { max, start, rule: AccountingRule::In };
        let mut now = at("2026-01-31 23:00:00");
        let mut accounting = Accounting::new(config, None, now);
        let mut kept = accounting.poll_keep(now).unwrap();
        let (mut carried, mut interval, mut kills) = (0_u64, start.interval(now).0, 0_u64);
        for (secs, bytes, is_killed) in steps {
            now += Duration::from_secs(secs);
            accounting.advance(now);
            let begins = start.interval(now).0;
            if begins > interval {
                (carried, interval, kills) = (0, begins, 0);
                prop_assert_eq!(accounting.wakefulness(), Wakefulness::Awake);
            }
            if accounting.wakefulness() != Wakefulness::Hard {
                accounting.add(bytes, 0, now);
                carried += bytes;
            }
            if let Some(text) = accounting.poll_keep(now) {
                kept = text;
            }
            if is_killed {
                accounting = Accounting::new(config, Some(&kept), now);
                kills += 1;
            }
            prop_assert!(carried <= max + (8 << 20) + kills * (KEEP_BYTES + (8 << 20)));
        }
    }
}
