//! Times of directory documents: `YYYY-MM-DD HH:MM:SS`, always UTC (dir-spec.txt section 1.2
//! and its uses).
//!
//! Whole seconds from 1970 to 9999. Parsing is `tor`'s: leading zeros may be missing, and second 60
//! is the next one; nothing may stand before or behind. Encoding clamps to that range, since our
//! own clock is no hostile input.

use std::time::{Duration, SystemTime};

use serde::Serializer;
use time::{Date, Month, OffsetDateTime, Time};

/// The last second of the year 9999.
const UNIX_SECONDS_MAX: u64 = 253_402_300_799;

/// A text is not a time of the wanted form, or before 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time of the form YYYY-MM-DD HH:MM:SS")]
pub struct BadTimestamp;

/// Reads `YYYY-MM-DD HH:MM:SS`.
pub fn parse(text: &str) -> Result<SystemTime, BadTimestamp> {
    let (date, time) = text.split_once(' ').ok_or(BadTimestamp)?;
    parse_words(date, time)
}

/// Reads a time that stands in two arguments, `YYYY-MM-DD` and `HH:MM:SS`.
pub fn parse_words(date: &str, time: &str) -> Result<SystemTime, BadTimestamp> {
    read(date, time).ok_or(BadTimestamp)
}

fn read(date: &str, time: &str) -> Option<SystemTime> {
    let number = |text: &str, digits_max: usize| -> Option<u16> {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let is_short = (1..=digits_max).contains(&text.len());
        text.parse().ok().filter(|_| is_number && is_short)
    };
    let two = |text: &str| number(text, 2).and_then(|value| u8::try_from(value).ok());
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let mut clock = time.split(':');
    let (hour, minute, second) = (clock.next()?, clock.next()?, clock.next()?);
    if parts.next().is_some() || clock.next().is_some() {
        return None;
    }
    // A year has more digits only with zeros before it.
    let year = number(year.trim_start_matches('0'), 4).filter(|year| *year >= 1970)?;
    let month = Month::try_from(two(month)?).ok()?;
    let date = Date::from_calendar_date(i32::from(year), month, two(day)?).ok()?;
    let second = two(second).filter(|second| *second <= 60)?;
    let utc = date.with_time(Time::from_hms(two(hour)?, two(minute)?, 0).ok()?);
    let minutes = u64::try_from(utc.assume_utc().unix_timestamp()).ok()?;
    Some(from_unix(minutes + u64::from(second)))
}

/// Reads `YYYY-MM-DDTHH:MM:SS`.
pub fn parse_joined(text: &str) -> Result<SystemTime, BadTimestamp> {
    let (date, time) = text.split_once('T').ok_or(BadTimestamp)?;
    parse_words(date, time)
}

/// Writes `YYYY-MM-DD HH:MM:SS`.
pub fn encode(time: SystemTime) -> String {
    encode_with(time, ' ')
}

/// Writes `YYYY-MM-DDTHH:MM:SS`.
pub fn encode_joined(time: SystemTime) -> String {
    encode_with(time, 'T')
}

fn encode_with(time: SystemTime, separator: char) -> String {
    let seconds = unix_seconds(time).min(UNIX_SECONDS_MAX);
    let utc = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, time) = (utc.date(), utc.time());
    format!(
        "{:04}-{:02}-{:02}{separator}{:02}:{:02}:{:02}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// Whole seconds since 1970; zero before it.
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The time so many seconds after 1970, clamped to the year 9999.
pub fn from_unix(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(UNIX_SECONDS_MAX))
}

/// Writes a time into a snapshot, as `serde` wants it.
pub fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&encode(*time))
}

/// The same of a time that may be missing.
pub fn serialize_option<S: Serializer>(
    time: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serialize(time, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_writes_known_times() {
        let time = parse("2023-06-01 12:34:56").unwrap();
        assert_eq!(unix_seconds(time), 1_685_622_896);
        assert_eq!(encode(time), "2023-06-01 12:34:56");
        assert_eq!(encode_joined(time), "2023-06-01T12:34:56");
        assert_eq!(parse_joined("2023-06-01T12:34:56"), Ok(time));
    }

    #[test]
    fn reads_what_tor_reads() {
        assert_eq!(parse("2023-6-1 1:2:3"), parse("2023-06-01 01:02:03"));
        assert_eq!(parse("2023-06-30 23:59:60"), parse("2023-07-01 00:00:00"));
    }

    #[test]
    fn refuses_other_forms() {
        for text in [
            "",
            "2023-06-01",
            "2023-06-01  1:34:56",
            "2023-06-01 12:34:61",
            "2023-06-01 12:34:056",
            "2023-06-+1 12:34:56",
            " 2023-06-01 12:34:56",
            "2023-06-01 12:34:56.5",
            "2023-06-01 24:00:00",
            "2023-02-30 00:00:00",
            "1969-12-31 23:59:59",
            "+023-06-01 12:34:56",
            "-023-06-01 12:34:56",
            "2023-06-01 12:34:56 ",
            "2023-06-01T12:34:56",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn encoded_times_parse(seconds in 0..=UNIX_SECONDS_MAX) {
            let time = from_unix(seconds);
            prop_assert_eq!(parse(&encode(time)), Ok(time));
            prop_assert_eq!(parse_joined(&encode_joined(time)), Ok(time));
        }

        #[test]
        fn any_text_is_survived(text in "\\PC{0,24}") {
            let _ = parse(&text);
            let _ = parse_joined(&text);
        }
    }
}
