//! RELAY_XOFF and RELAY_XON: stop and resume one stream (proposal 324, section 4.1).
//!
//! ```text
//! XOFF: version 1 (0)     XON: version 1 (0) | kbps 4
//! ```
//!
//! Only on circuits with congestion control. Another version than 0 is a protocol violation.

use crate::reader::{Reader, Truncated};
use crate::writer::Writer;

const VERSION: u8 = 0;

/// Why an XON or XOFF message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum XonError {
    /// The message ends too early.
    #[error("XON or XOFF: {0}")]
    Truncated(#[from] Truncated),
    /// A version other than 0.
    #[error("XON or XOFF of version {0}")]
    Version(u8),
}

/// The body of an XOFF message: send no more on this stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Xoff;

impl Xoff {
    /// Reads the data of an XOFF message.
    pub fn read(data: &[u8]) -> Result<Self, XonError> {
        read_version(&mut Reader::new(data)).map(|()| Xoff)
    }

    /// Appends the data of an XOFF message.
    pub fn write(&self, out: &mut Vec<u8>) {
        Writer::new(out).u8(VERSION);
    }
}

/// The body of an XON message: send again on this stream, not faster than told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Xon {
    /// Units of 1000 bytes a second; 0 for no limit.
    pub kbps: u32,
}

impl Xon {
    /// Reads the data of an XON message.
    pub fn read(data: &[u8]) -> Result<Self, XonError> {
        let mut r = Reader::new(data);
        read_version(&mut r)?;
        Ok(Xon { kbps: r.u32()? })
    }

    /// Appends the data of an XON message.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        w.u8(VERSION);
        w.u32(self.kbps);
    }
}

fn read_version(r: &mut Reader<'_>) -> Result<(), XonError> {
    match r.u8()? {
        VERSION => Ok(()),
        version => Err(XonError::Version(version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_is_read() {
        let mut out = Vec::new();
        Xoff.write(&mut out);
        assert_eq!((Xoff::read(&out), &out[..]), (Ok(Xoff), &[0][..]));
        out.clear();
        Xon { kbps: 258 }.write(&mut out);
        assert_eq!(
            (Xon::read(&out), &out[..]),
            (Ok(Xon { kbps: 258 }), &[0, 0, 0, 1, 2][..])
        );
        for len in 0..out.len() {
            assert_eq!(Xon::read(&out[..len]), Err(Truncated.into()));
        }
        assert_eq!(Xoff::read(&[]), Err(Truncated.into()));
        assert_eq!(Xoff::read(&[1]), Err(XonError::Version(1)));
        assert_eq!(Xon::read(&[7, 0, 0, 0, 0]), Err(XonError::Version(7)));
    }
}
