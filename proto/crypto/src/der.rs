//! The little of DER (X.690) that link certificates need: elements of a tag and a definite
//! length of at most four bytes, and times.
//!
//! Reading borrows, never goes past its input, and takes the shortest form of a length only, so
//! that what was read is what was signed.

use std::time::SystemTime;

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
pub(crate) const CONTEXT_0: u8 = 0xa0;

/// One element of the input.
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// The element with its tag and length.
    pub(crate) whole: &'a [u8],
}

/// Takes the next element off the input.
pub(crate) fn next<'a>(input: &mut &'a [u8]) -> Option<Element<'a>> {
    let whole = *input;
    let (&tag, rest) = whole.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let len = bytes
                .iter()
                .fold(0u32, |len, &byte| (len << 8) | u32::from(byte));
            // The shortest form only: no leading zero, and not what one byte can say.
            if bytes.first() == Some(&0) || len < 0x80 {
                return None;
            }
            (usize::try_from(len).ok()?, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    *input = rest;
    Some(Element {
        tag,
        content,
        whole: &whole[..whole.len() - rest.len()],
    })
}

/// Takes the next element, which must have this tag.
pub(crate) fn expect<'a>(input: &mut &'a [u8], tag: u8) -> Option<Element<'a>> {
    next(input).filter(|element| element.tag == tag)
}

/// The bytes of a bit string of whole bytes.
pub(crate) fn bit_string<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (&unused_bits, bytes) = expect(input, BIT_STRING)?.content.split_first()?;
    (unused_bits == 0).then_some(bytes)
}

/// A UTCTime (of 1950 to 2049) or GeneralizedTime, in seconds and UTC as RFC 5280 wants it.
pub(crate) fn time(input: &mut &[u8]) -> Option<SystemTime> {
    let element = next(input)?;
    let digits = element.content.strip_suffix(b"Z")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |bytes: &[u8]| bytes.iter().fold(0u16, |n, b| n * 10 + u16::from(b - b'0'));
    let (year, rest) = match (element.tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year = number(&digits[..2]);
            (
                if year < 50 { 2000 + year } else { 1900 + year },
                &digits[2..],
            )
        }
        (GENERALIZED_TIME, 14) => (number(&digits[..4]), &digits[4..]),
        _ => return None,
    };
    let mut fields = rest
        .chunks(2)
        .map(|pair| u8::try_from(number(pair)).unwrap_or(u8::MAX));
    let month = Month::try_from(fields.next()?).ok()?;
    let date = Date::from_calendar_date(year.into(), month, fields.next()?).ok()?;
    let time = Time::from_hms(fields.next()?, fields.next()?, fields.next()?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc().into())
}

/// An element of these parts.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut out = vec![tag];
    match u8::try_from(len) {
        Ok(len) if len < 0x80 => out.push(len),
        _ => {
            let bytes = len.to_be_bytes();
            let skip = bytes.iter().take_while(|&&byte| byte == 0).count();
            out.push(0x80 | (bytes.len() - skip) as u8);
            out.extend_from_slice(&bytes[skip..]);
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// A time, in the form that RFC 5280 gives its year.
pub(crate) fn time_element(time: SystemTime) -> Vec<u8> {
    let t = OffsetDateTime::from(time);
    let (year, month, day) = t.to_calendar_date();
    let (hour, minute, second) = t.to_hms();
    let rest = format!(
        "{:02}{day:02}{hour:02}{minute:02}{second:02}Z",
        u8::from(month)
    );
    if (1950..2050).contains(&year) {
        element(
            UTC_TIME,
            &[format!("{:02}", year % 100).as_bytes(), rest.as_bytes()],
        )
    } else {
        element(
            GENERALIZED_TIME,
            &[format!("{year:04}").as_bytes(), rest.as_bytes()],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        #[test]
        fn elements_come_back(tag: u8, content in prop::collection::vec(any::<u8>(), 0..600)) {
            let written = element(tag, &[&content]);
            let mut input = &written[..];
            let read = next(&mut input).unwrap();
            prop_assert!(input.is_empty());
            prop_assert_eq!((read.tag, read.content), (tag, &content[..]));
            prop_assert_eq!(read.whole, &written[..]);
            for len in 0..written.len() {
                prop_assert!(next(&mut &written[..len]).is_none());
            }
        }

        #[test]
        fn times_come_back(seconds in 0..7_000_000_000u64) {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            prop_assert_eq!(time(&mut &time_element(at)[..]), Some(at));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = (next(&mut &bytes[..]), time(&mut &bytes[..]), bit_string(&mut &bytes[..]));
            let _ = time(&mut &element(UTC_TIME, &[&bytes])[..]);
        }
    }

    #[test]
    fn only_the_shortest_length_is_taken() {
        assert!(next(&mut &[4, 0x81, 1, 7][..]).is_none());
        assert!(next(&mut &[4, 0x80, 0, 0][..]).is_none());
        assert!(next(&mut &[4, 0x85, 1, 0, 0, 0, 0][..]).is_none());
        assert!(time(&mut &element(UTC_TIME, &[b"991332000000Z"])[..]).is_none());
    }
}
