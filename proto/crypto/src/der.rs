//! The little of DER (X.690) that link certificates need: elements taken off a slice one by one,
//! and times, over the crate `der`.
//!
//! Reading borrows, never goes past its input, and takes the shortest form of a length only, so
//! that what was read is what was signed.

use std::time::SystemTime;

use der::asn1::{AnyRef, BitStringRef, GeneralizedTime, UtcTime};
use der::{Decode as _, Encode as _, Reader as _, SliceReader};
pub(crate) use der::{Tag, TagNumber};

/// The tag `[0]` of a certificate's version.
pub(crate) const CONTEXT_0: Tag = Tag::ContextSpecific {
    constructed: true,
    number: TagNumber(0),
};

/// One element of the input.
pub(crate) struct Element<'a> {
    pub(crate) tag: Tag,
    pub(crate) content: &'a [u8],
    /// The element with its tag and length.
    pub(crate) whole: &'a [u8],
}

/// Takes the next element off the input.
pub(crate) fn next<'a>(input: &mut &'a [u8]) -> Option<Element<'a>> {
    let whole = SliceReader::new(input).ok()?.tlv_bytes().ok()?;
    let any = AnyRef::from_der(whole).ok()?;
    *input = input.get(whole.len()..)?;
    Some(Element {
        tag: any.header().tag(),
        content: any.value(),
        whole,
    })
}

/// Takes the next element, which must have this tag.
pub(crate) fn expect<'a>(input: &mut &'a [u8], tag: Tag) -> Option<Element<'a>> {
    next(input).filter(|element| element.tag == tag)
}

/// The bytes of a bit string of whole bytes.
pub(crate) fn bit_string<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let bits = BitStringRef::from_der(next(input)?.whole).ok()?;
    bits.as_bytes()
}

/// A UTCTime (of 1970 to 2049) or GeneralizedTime, in seconds and UTC as RFC 5280 wants it.
pub(crate) fn time(input: &mut &[u8]) -> Option<SystemTime> {
    let whole = next(input)?.whole;
    let utc = UtcTime::from_der(whole).map(|time| time.to_system_time());
    let time = utc.or_else(|_| GeneralizedTime::from_der(whole).map(|time| time.to_system_time()));
    time.ok()
}

/// An element of these parts.
pub(crate) fn element(tag: Tag, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let element = AnyRef::new(tag, &content).and_then(|element| element.to_der());
    element.expect("what is written here is shorter than 4 GiB")
}

/// A time, in the form that RFC 5280 gives its year; before 1970 and after 9999 the nearest one.
pub(crate) fn time_element(time: SystemTime) -> Vec<u8> {
    let time = time.max(SystemTime::UNIX_EPOCH);
    UtcTime::from_system_time(time)
        .and_then(|time| time.to_der())
        .or_else(|_| GeneralizedTime::from_system_time(time)?.to_der())
        .or_else(|_| GeneralizedTime::from_date_time(der::DateTime::INFINITY).to_der())
        .expect("a time has an encoding")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        #[test]
        fn elements_come_back(content in prop::collection::vec(any::<u8>(), 0..600)) {
            let written = element(Tag::OctetString, &[&content]);
            let mut input = &written[..];
            let read = next(&mut input).unwrap();
            prop_assert!(input.is_empty());
            prop_assert_eq!((read.tag, read.content), (Tag::OctetString, &content[..]));
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
            let _ = time(&mut &element(Tag::UtcTime, &[&bytes])[..]);
        }
    }

    #[test]
    fn only_the_shortest_length_is_taken() {
        assert!(next(&mut &[4, 0x81, 1, 7][..]).is_none());
        assert!(next(&mut &[4, 0x80, 0, 0][..]).is_none());
        assert!(next(&mut &[4, 0x85, 1, 0, 0, 0, 0][..]).is_none());
        assert!(time(&mut &element(Tag::UtcTime, &[b"991332000000Z"])[..]).is_none());
    }

    #[test]
    fn times_beyond_what_can_be_written_do_not_panic() {
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(400_000_000_000);
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert!(time(&mut &time_element(far)[..]).is_some());
        assert_eq!(
            time(&mut &time_element(before)[..]),
            Some(SystemTime::UNIX_EPOCH)
        );
    }
}
