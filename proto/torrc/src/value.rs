//! Values: numbers, times, sizes, lists, with `tor`'s units. Each reader is total.

use crate::option::Kind;

/// Names of units of bytes, and how many bits each is.
const SIZES: [(&[&str], u64); 9] = [
    (&["", "b", "byte", "bytes"], 8),
    (&["bit", "bits"], 1),
    (
        &["kb", "kbyte", "kbytes", "kilobyte", "kilobytes", "k"],
        8 << 10,
    ),
    (&["kbit", "kbits", "kilobit", "kilobits"], 1 << 10),
    (
        &["mb", "mbyte", "mbytes", "megabyte", "megabytes", "m"],
        8 << 20,
    ),
    (&["mbit", "mbits", "megabit", "megabits"], 1 << 20),
    (
        &["gb", "gbyte", "gbytes", "gigabyte", "gigabytes", "g"],
        8 << 30,
    ),
    (&["gbit", "gbits", "gigabit", "gigabits"], 1 << 30),
    (
        &["tb", "tbyte", "tbytes", "terabyte", "terabytes", "t"],
        8 << 40,
    ),
];
const TERABITS: (&[&str], u64) = (&["tbit", "tbits", "terabit", "terabits"], 1 << 40);

/// Names of units of time, and how many milliseconds each is.
const TIMES: [(&[&str], u64); 7] = [
    (&["msec", "msecs", "millisecond", "milliseconds"], 1),
    (&["second", "seconds", "s", "sec", "secs"], 1000),
    (&["minute", "minutes"], 60_000),
    (&["hour", "hours"], 3_600_000),
    (&["day", "days"], 86_400_000),
    (&["week", "weeks"], 604_800_000),
    (&["month", "months"], 2_629_728_000),
];

/// What a value of this kind is to be, if this text is none; lines, texts and paths are anything.
pub fn wrong(kind: Kind, text: &str) -> Option<&'static str> {
    let text = text.trim();
    let (is_right, expected) = match kind {
        Kind::Bool => (bool(text).is_some(), "0 or 1"),
        Kind::AutoBool => (
            bool(text).is_some() || text.eq_ignore_ascii_case("auto"),
            "0, 1 or auto",
        ),
        Kind::Number => (
            text.parse::<u32>().is_ok_and(|n| i32::try_from(n).is_ok()),
            "a number from 0 to 2147483647",
        ),
        Kind::Number64 => (text.parse::<u64>().is_ok(), "a number from 0 on"),
        Kind::Signed => (text.parse::<i32>().is_ok(), "a number"),
        Kind::Float => (text.parse::<f64>().is_ok(), "a number"),
        Kind::Interval => (
            seconds(text).is_some_and(|n| i32::try_from(n).is_ok()),
            "a time, such as 10 minutes",
        ),
        Kind::Millis => (millis(text).is_some(), "a time, such as 100 msec"),
        Kind::Size => (size(text).is_some(), "a number of bytes, such as 10 MBytes"),
        Kind::Words | Kind::Routers | Kind::Text | Kind::Path | Kind::Lines => (true, ""),
    };
    (!is_right).then_some(expected)
}

/// A value as `tor` tells it where it is a number: bytes, seconds and milliseconds without a unit,
/// fractions with six digits; none for other kinds.
pub fn plain(kind: Kind, text: &str) -> Option<String> {
    if kind == Kind::Float {
        let number = text.trim().parse::<f64>().ok()?;
        return Some(format!("{number:.6}"));
    }
    let number = match kind {
        Kind::Interval => seconds(text),
        Kind::Millis => millis(text),
        Kind::Size => size(text),
        _ => None,
    };
    number.map(|number| number.to_string())
}

/// 0 or 1.
pub fn bool(text: &str) -> Option<bool> {
    match text.trim() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// A number of bytes.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = parts(text)?;
    let mut units = SIZES.iter().chain(std::iter::once(&TERABITS));
    let (_, bits) = units.find(|(names, _)| is_of(unit, names))?;
    scaled(number, *bits, 8)
}

/// A number of seconds.
pub fn seconds(text: &str) -> Option<u64> {
    time(text, 1000)
}

/// A number of milliseconds.
pub fn millis(text: &str) -> Option<u64> {
    time(text, 1)
}

fn time(text: &str, plain: u64) -> Option<u64> {
    let (number, unit) = parts(text)?;
    let mut units = TIMES.iter();
    let factor = match unit {
        "" => plain,
        unit => units.find(|(names, _)| is_of(unit, names))?.1,
    };
    scaled(number, factor, plain)
}

fn is_of(unit: &str, names: &[&str]) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case(unit))
}

/// A number and the word behind it.
fn parts(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    (!number.is_empty()).then(|| (number, unit.trim()))
}

/// A number, whole or not, times and by.
fn scaled(number: &str, times: u64, by: u64) -> Option<u64> {
    if let Ok(whole) = number.parse::<u64>() {
        return Some(whole.checked_mul(times)? / by);
    }
    let number: f64 = number.parse().ok()?;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a fraction of a unit, which is positive and within range"
    )]
    let scaled = {
        let scaled = number * times as f64 / by as f64;
        (scaled.is_finite() && scaled < 1e18).then_some(scaled as u64)
    };
    scaled
}

/// The words of a list with commas.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_are_tors() {
        for (text, bytes) in [
            ("100", Some(100)),
            ("100KB", Some(102_400)),
            ("1.5 MB", Some(1_572_864)),
            ("8 kbits", Some(1024)),
            ("10 MBytes", Some(10 << 20)),
            ("1 GBit", Some(1 << 27)),
            ("1 TBytes", Some(1 << 40)),
            ("1 foo", None),
            ("MB", None),
            ("-1", None),
            ("99999999999999999999", None),
            ("99999999999 TB", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
        assert_eq!(seconds("2 hours"), Some(7200));
        assert_eq!(seconds("30"), Some(30));
        assert_eq!(millis("30"), Some(30));
        assert_eq!(millis("1 second"), Some(1000));
        assert_eq!(seconds("10 parsecs"), None);
    }

    #[test]
    fn kinds_are_checked() {
        assert_eq!(wrong(Kind::Bool, "2"), Some("0 or 1"));
        assert_eq!(wrong(Kind::AutoBool, "AUTO"), None);
        assert_eq!(wrong(Kind::Signed, "-5"), None);
        assert!(wrong(Kind::Number, "-5").is_some());
        assert!(wrong(Kind::Number, "3000000000").is_some());
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_none(text in "\\PC*|[0-9.]{0,25} ?[a-zA-Z]{0,9}") {
            let _ = (size(&text), seconds(&text), millis(&text));
            let _ = words(&text).count();
        }
    }
}
