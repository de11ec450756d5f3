//! The other way round of [`crate::reader`]: appends big-endian fields to a `Vec<u8>`.
//!
//! A body too long for its length field is the caller's to answer for, hence [`TooLong`]; nothing
//! is ever cut off silently.

/// What is to be written does not fit its length field, or its cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too long for its length field or its cell")]
pub struct TooLong;

/// Appends fields to a buffer of the caller's.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Appends to `out`; what it holds already stays.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Writer { out }
    }

    /// Appends one byte.
    pub fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    /// Appends a big-endian two-byte integer.
    pub fn u16(&mut self, value: u16) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends a big-endian four-byte integer.
    pub fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends a big-endian eight-byte integer.
    pub fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Appends a one-byte length and `bytes`. [`TooLong`] beyond 255 bytes; then nothing is added.
    pub fn u8_prefixed(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.u8(u8::try_from(bytes.len()).map_err(|_| TooLong)?);
        self.bytes(bytes);
        Ok(())
    }

    /// Appends a two-byte length and `bytes`. [`TooLong`] beyond 65535 bytes; nothing is added.
    pub fn u16_prefixed(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.u16(u16::try_from(bytes.len()).map_err(|_| TooLong)?);
        self.bytes(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_in_order() {
        let mut out = vec![7];
        let mut w = Writer::new(&mut out);
        w.u8(1);
        w.u16(2);
        w.u32(3);
        w.u64(4);
        w.u8_prefixed(b"a").unwrap();
        w.u16_prefixed(b"b").unwrap();
        let long = vec![0; 65536];
        assert_eq!(w.u8_prefixed(&long[..256]), Err(TooLong));
        assert_eq!(w.u16_prefixed(&long), Err(TooLong));
        let expected = [
            7, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 1, b'a', 0, 1, b'b',
        ];
        assert_eq!(out, expected);
    }
}
