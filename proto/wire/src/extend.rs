//! RELAY_EXTEND2 and RELAY_EXTENDED2: one more hop (tor-spec 5.1.2).
//!
//! ```text
//! EXTEND2:   link specifiers | handshake type 2 | length 2 | onionskin (length)
//! EXTENDED2: length 2 | reply (length)
//! ```
//!
//! Duplicate identities are refused while reading. Which handshakes and addresses a relay extends
//! to is the circuit's to decide. Trailing bytes are ignored.

use crate::create::{HandshakeType, len16};
use crate::linkspec::{LinkSpecifierError, LinkSpecifiers};
use crate::reader::{Reader, Truncated};
use crate::relay::RELAY_DATA_MAX;
use crate::writer::{TooLong, Writer};

/// Most bytes of reply in an EXTENDED2 message.
pub const EXTENDED2_DATA_MAX: usize = RELAY_DATA_MAX - 2;

/// Why an EXTEND2 message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExtendError {
    /// The next hop is not well described.
    #[error("EXTEND2: {0}")]
    LinkSpecifiers(#[from] LinkSpecifierError),
    /// It ends within the onionskin.
    #[error("EXTEND2: {0}")]
    Truncated(#[from] Truncated),
}

/// The body of an EXTEND2 message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extend2<'a> {
    /// Who and where the next hop is.
    pub link_specifiers: LinkSpecifiers,
    /// Which handshake to ask of it.
    pub handshake_type: HandshakeType,
    /// The onionskin, for the CREATE2 cell.
    pub data: &'a [u8],
}

impl<'a> Extend2<'a> {
    /// Reads the data of an EXTEND2 message.
    pub fn read(data: &'a [u8]) -> Result<Self, ExtendError> {
        let mut r = Reader::new(data);
        let link_specifiers = LinkSpecifiers::read(&mut r)?;
        link_specifiers.check_identities()?;
        let handshake_type = HandshakeType(r.u16()?);
        let len = r.u16()?;
        Ok(Extend2 {
            link_specifiers,
            handshake_type,
            data: r.take(len.into())?,
        })
    }

    /// Appends the data of an EXTEND2 message. [`TooLong`] if it does not fit a relay cell; `out`
    /// is then as before.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let start = out.len();
        let len = len16(self.data)?;
        self.link_specifiers.write(out)?;
        let mut w = Writer::new(out);
        w.u16(self.handshake_type.0);
        w.bytes(&len);
        w.bytes(self.data);
        if out.len() - start > RELAY_DATA_MAX {
            out.truncate(start);
            return Err(TooLong);
        }
        Ok(())
    }
}

/// The body of an EXTENDED2 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extended2<'a> {
    /// The new hop's reply, from its CREATED2 cell.
    pub data: &'a [u8],
}

impl<'a> Extended2<'a> {
    /// Reads the data of an EXTENDED2 message.
    pub fn read(data: &'a [u8]) -> Result<Self, Truncated> {
        let mut r = Reader::new(data);
        let len = r.u16()?;
        Ok(Extended2 {
            data: r.take(len.into())?,
        })
    }

    /// Appends the data of an EXTENDED2 message. [`TooLong`] beyond [`EXTENDED2_DATA_MAX`].
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        if self.data.len() > EXTENDED2_DATA_MAX {
            return Err(TooLong);
        }
        Writer::new(out).u16_prefixed(self.data)
    }
}
