//! Numbers as `tor` reads them, with C's `strtol` and its kin: a sign may stand before the digits,
//! zeros too. Documents that all authorities must judge alike are read with these; a text that is
//! no number of the wanted range is none.

/// A signed number within `min..=max`.
pub(crate) fn signed(text: &str, min: i64, max: i64) -> Option<i64> {
    let (is_negative, digits) = split(text)?;
    let value: i128 = digits.parse().ok()?;
    let value = i64::try_from(if is_negative { -value } else { value }).ok()?;
    (min..=max).contains(&value).then_some(value)
}

/// A number from zero to `max`.
pub(crate) fn unsigned(text: &str, max: u64) -> Option<u64> {
    let (is_negative, digits) = split(text)?;
    let value: u64 = digits.parse().ok()?;
    // C gives the two's complement of a negative one: a very large number.
    let value = if is_negative {
        value.wrapping_neg()
    } else {
        value
    };
    (value <= max).then_some(value)
}

/// A port, from 0.
pub(crate) fn port(text: &str) -> Option<u16> {
    signed(text, 0, i64::from(u16::MAX)).and_then(|value| u16::try_from(value).ok())
}

fn split(text: &str) -> Option<(bool, &str)> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // As long as it may be with zeros before it; more are no number that anybody writes.
    is_number.then(|| {
        let bare = digits.trim_start_matches('0');
        let bare = if bare.is_empty() { "0" } else { bare };
        (text.starts_with('-'), bare)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_cs() {
        assert_eq!(signed("+5", 0, 9), Some(5));
        assert_eq!(signed("-0007", -9, 9), Some(-7));
        assert_eq!(signed("10", 0, 9), None);
        assert_eq!(signed("99999999999999999999", i64::MIN, i64::MAX), None);
        assert_eq!(unsigned("-0", 9), Some(0));
        assert_eq!(unsigned("-1", u64::from(u32::MAX)), None);
        assert_eq!(unsigned("00000000000000000000000007", 9), Some(7));
        assert_eq!(port("65536"), None);
        for text in ["", "-", "+-1", "1 ", "1a", "0x1", "١"] {
            assert_eq!(signed(text, i64::MIN, i64::MAX), None, "{text}");
        }
    }
}
