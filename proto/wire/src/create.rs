//! CREATE2, CREATED2, CREATE_FAST and CREATED_FAST cells (tor-spec 5.1).
//!
//! The handshakes themselves are opaque here. Padding after the handshake is ignored when read and
//! zero when written. CREATE and CREATED (TAP) are not spoken by today's peers, nor here.

use crate::cell::{PAYLOAD_LEN, Payload};
use crate::codes::codes;
use crate::reader::{Reader, Truncated};
use crate::writer::TooLong;

/// Most bytes of handshake in a CREATE2 cell.
pub const CREATE2_DATA_MAX: usize = PAYLOAD_LEN - 4;
/// Most bytes of handshake in a CREATED2 cell. One that travels on as EXTENDED2 is shorter.
pub const CREATED2_DATA_MAX: usize = PAYLOAD_LEN - 2;

codes! {
    /// Which handshake a CREATE2 or EXTEND2 carries (tor-spec 5.1, proposal 332).
    pub struct HandshakeType(u16) {
        TAP = 0,
        FAST = 1,
        NTOR = 2,
        NTOR_V3 = 3,
    }
}

/// The client's half of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Create2<'a> {
    /// Which handshake.
    pub handshake_type: HandshakeType,
    /// The onionskin.
    pub data: &'a [u8],
}

impl<'a> Create2<'a> {
    /// Reads the payload of a CREATE2 cell.
    pub fn read(payload: &'a Payload) -> Result<Self, Truncated> {
        let mut r = Reader::new(payload);
        let handshake_type = HandshakeType(r.u16()?);
        let len = r.u16()?;
        Ok(Create2 {
            handshake_type,
            data: r.take(len.into())?,
        })
    }

    /// Fills the payload of a CREATE2 cell. [`TooLong`] beyond [`CREATE2_DATA_MAX`].
    pub fn write(&self, payload: &mut Payload) -> Result<(), TooLong> {
        fill(
            payload,
            &[
                &self.handshake_type.0.to_be_bytes(),
                &len16(self.data)?,
                self.data,
            ],
        )
    }
}

/// The relay's half of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created2<'a> {
    /// The relay's reply.
    pub data: &'a [u8],
}

impl<'a> Created2<'a> {
    /// Reads the payload of a CREATED2 cell.
    pub fn read(payload: &'a Payload) -> Result<Self, Truncated> {
        let mut r = Reader::new(payload);
        let len = r.u16()?;
        Ok(Created2 {
            data: r.take(len.into())?,
        })
    }

    /// Fills the payload of a CREATED2 cell. [`TooLong`] beyond [`CREATED2_DATA_MAX`].
    pub fn write(&self, payload: &mut Payload) -> Result<(), TooLong> {
        fill(payload, &[&len16(self.data)?, self.data])
    }
}

/// The client's half of the handshake without public keys (tor-spec 5.1.6).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CreateFast {
    /// Random bytes of the client's.
    pub x: [u8; 20],
}

impl CreateFast {
    /// Reads the payload of a CREATE_FAST cell.
    pub fn read(payload: &Payload) -> Result<Self, Truncated> {
        Ok(CreateFast {
            x: Reader::new(payload).array()?,
        })
    }

    /// Fills the payload of a CREATE_FAST cell.
    pub fn write(&self, payload: &mut Payload) {
        fill(payload, &[&self.x]).expect("20 bytes fit");
    }
}

/// The relay's half of the handshake without public keys (tor-spec 5.1.6).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CreatedFast {
    /// Random bytes of the relay's.
    pub y: [u8; 20],
    /// Proof that the relay derived the same keys (KH).
    pub derivative: [u8; 20],
}

impl CreatedFast {
    /// Reads the payload of a CREATED_FAST cell.
    pub fn read(payload: &Payload) -> Result<Self, Truncated> {
        let mut r = Reader::new(payload);
        Ok(CreatedFast {
            y: r.array()?,
            derivative: r.array()?,
        })
    }

    /// Fills the payload of a CREATED_FAST cell.
    pub fn write(&self, payload: &mut Payload) {
        fill(payload, &[&self.y, &self.derivative]).expect("40 bytes fit");
    }
}

/// A two-byte length field for `data`.
pub(crate) fn len16(data: &[u8]) -> Result<[u8; 2], TooLong> {
    u16::try_from(data.len())
        .map(u16::to_be_bytes)
        .map_err(|_| TooLong)
}

/// Fills a payload with these fields and zeros.
pub(crate) fn fill(payload: &mut Payload, fields: &[&[u8]]) -> Result<(), TooLong> {
    if fields.iter().map(|field| field.len()).sum::<usize>() > PAYLOAD_LEN {
        return Err(TooLong);
    }
    let mut rest = payload.as_mut_slice();
    for field in fields {
        let (head, tail) = rest.split_at_mut(field.len());
        head.copy_from_slice(field);
        rest = tail;
    }
    rest.fill(0);
    Ok(())
}
