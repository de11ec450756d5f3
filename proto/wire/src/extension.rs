//! The list of extensions in messages of onion services (rend-spec-v3 3.1.1 and others).
//!
//! ```text
//! count 1 | (type 1 | length 1 | body (length)) (count)
//! ```
//!
//! Unknown types are ignored, and of a known type all occurrences after the first. Nothing is
//! copied; the count bounds the list at 255. Messages write their extensions in ascending order.

use crate::reader::{Reader, Truncated};
use crate::writer::{TooLong, Writer};

/// A list of extensions, whole: each lies within the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extensions<'a>(Vec<(u8, &'a [u8])>);

impl<'a> Extensions<'a> {
    /// Takes a list from the front of a message.
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self, Truncated> {
        (0..r.u8()?)
            .map(|_| {
                let kind = r.u8()?;
                let len = r.u8()?;
                Ok((kind, r.take(len.into())?))
            })
            .collect::<Result<_, _>>()
            .map(Extensions)
    }

    /// The body of the first extension of a type.
    pub(crate) fn find(&self, kind: u8) -> Option<&'a [u8]> {
        self.0
            .iter()
            .find_map(|(found, body)| (*found == kind).then_some(*body))
    }
}

/// Appends a list. [`TooLong`] for more than 255, or one of more than 255 bytes.
pub(crate) fn write(extensions: &[(u8, Vec<u8>)], w: &mut Writer<'_>) -> Result<(), TooLong> {
    w.u8(u8::try_from(extensions.len()).map_err(|_| TooLong)?);
    extensions.iter().try_for_each(|(kind, body)| {
        w.u8(*kind);
        w.u8_prefixed(body)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_of_a_type_counts() {
        let bytes = [3, 9, 1, 0xAA, 1, 0, 9, 1, 0xBB, 0xCC];
        let mut r = Reader::new(&bytes);
        let list = Extensions::read(&mut r).unwrap();
        assert_eq!(list.find(9), Some(&[0xAA][..]));
        assert_eq!(list.find(1), Some(&[][..]));
        assert_eq!((list.find(2), r.rest()), (None, &[0xCC][..]));
        for len in 0..bytes.len() - 1 {
            let read = Extensions::read(&mut Reader::new(&bytes[..len]));
            assert_eq!(read, Err(Truncated));
        }
    }

    proptest! {
        #[test]
        fn written_is_read(list in prop::collection::vec(
            (any::<u8>(), prop::collection::vec(any::<u8>(), 0..=255)), 0..9,
        )) {
            let mut out = Vec::new();
            write(&list, &mut Writer::new(&mut out)).unwrap();
            let read = Extensions::read(&mut Reader::new(&out)).unwrap();
            let expected: Vec<_> = list.iter().map(|(kind, body)| (*kind, &body[..])).collect();
            prop_assert_eq!(read.0, expected);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = Extensions::read(&mut Reader::new(&bytes));
        }
    }
}
