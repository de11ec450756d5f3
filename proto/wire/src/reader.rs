//! A cursor over hostile bytes (tor-spec 0.2: integers are big-endian).
//!
//! Every field is checked against what is left; a failed call takes nothing. All message readers of
//! this crate are written with it, so none of them indexes.

/// The bytes end before the field does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes end before the field does")]
pub struct Truncated;

/// Takes fields from the front of a byte slice.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// Bytes not yet taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// True when nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Truncated> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(Truncated)?;
        self.rest = tail;
        Ok(head)
    }

    /// Takes `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(Truncated)?;
        self.rest = tail;
        Ok(*head)
    }

    /// Takes one byte.
    pub fn u8(&mut self) -> Result<u8, Truncated> {
        self.array::<1>().map(u8::from_be_bytes)
    }

    /// Takes a big-endian two-byte integer.
    pub fn u16(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_be_bytes)
    }

    /// Takes a big-endian four-byte integer.
    pub fn u32(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_be_bytes)
    }

    /// Takes a big-endian eight-byte integer.
    pub fn u64(&mut self) -> Result<u64, Truncated> {
        self.array().map(u64::from_be_bytes)
    }

    /// Takes the bytes before the next NUL, and the NUL.
    pub fn until_nul(&mut self) -> Result<&'a [u8], Truncated> {
        let at = self
            .rest
            .iter()
            .position(|byte| *byte == 0)
            .ok_or(Truncated)?;
        let text = self.take(at)?;
        self.u8()?;
        Ok(text)
    }

    /// Takes all that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_in_order() {
        let mut r = Reader::new(&[1, 0, 2, 0, 0, 0, 3, b'a', 0, 9, 8]);
        assert_eq!(r.u8(), Ok(1));
        assert_eq!(r.u16(), Ok(2));
        assert_eq!(r.u32(), Ok(3));
        assert_eq!(r.until_nul(), Ok(&b"a"[..]));
        assert_eq!(r.len(), 2);
        assert_eq!(r.rest(), &[9, 8]);
        assert!(r.is_empty());
    }

    #[test]
    fn a_failed_call_takes_nothing() {
        let mut r = Reader::new(&[1, 2, 3]);
        assert_eq!(r.u64(), Err(Truncated));
        assert_eq!(r.take(4), Err(Truncated));
        assert_eq!(r.take(usize::MAX), Err(Truncated));
        assert_eq!(r.until_nul(), Err(Truncated));
        assert_eq!(r.rest(), &[1, 2, 3]);
    }
}
