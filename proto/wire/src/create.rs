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
    /// The handshake that the onionskin is of.
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

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    fn padded(bytes: &[u8]) -> Payload {
        let mut payload = [0; PAYLOAD_LEN];
        payload[..bytes.len()].copy_from_slice(bytes);
        payload
    }

    /// Captured from a C tor 0.4.5 test network (as published with Arti).
    #[test]
    fn captured_cells() {
        let payload = padded(&hex!(
            "0002 0054 09164430E84D3BC56EC7E1D22734742345E2DECE0DE535B66B8E8A0EBBDAE3263C53E02E"
            "C2215685CD3A977DC7946FF47F84CD7025F75D252D1B35DEA28F32FA912513889A207E5049992DBC9B"
            "C541194C13624A"
        ));
        let create2 = Create2::read(&payload).unwrap();
        assert_eq!(create2.handshake_type, HandshakeType::NTOR);
        assert_eq!((create2.data.len(), create2.data[83]), (84, 0x4A));

        let payload = padded(&hex!(
            "0040 0108907A701030ADB6CA9C6AF097DC4855614655659B6A7BF21C1097DCE7C66EE0E4EF287DE7"
            "CED40BEECA8B90140C05DB6138AEB551CE0C037068C315E307A0"
        ));
        assert_eq!(Created2::read(&payload).unwrap().data.len(), 64);

        let payload = padded(&hex!(
            "03B74250B01D09FDA72B70D63AE7994926F13055BED23485F6B3C8C3CEAFE1DF48A9FF8BAC4993FC"
        ));
        let created = CreatedFast::read(&payload).unwrap();
        assert_eq!((created.y[0], created.derivative[19]), (0x03, 0xFC));
        let mut written = [1; PAYLOAD_LEN];
        created.write(&mut written);
        assert_eq!(written, payload);
    }

    #[test]
    fn lengths_beyond_the_cell() {
        assert_eq!(Create2::read(&padded(&[0, 2, 1, 250])), Err(Truncated));
        assert_eq!(Created2::read(&padded(&[1, 252])), Err(Truncated));
        let data = &[0; CREATE2_DATA_MAX + 1];
        let create2 = Create2 {
            handshake_type: HandshakeType::NTOR,
            data,
        };
        assert_eq!(create2.write(&mut [0; PAYLOAD_LEN]), Err(TooLong));
    }

    proptest! {
        #[test]
        fn written_is_read(kind: u16, data in prop::collection::vec(any::<u8>(), 0..=505)) {
            let mut payload = [9; PAYLOAD_LEN];
            let create2 = Create2 { handshake_type: HandshakeType(kind), data: &data };
            create2.write(&mut payload).unwrap();
            prop_assert_eq!(Create2::read(&payload), Ok(create2));
            Created2 { data: &data }.write(&mut payload).unwrap();
            prop_assert_eq!(Created2::read(&payload), Ok(Created2 { data: &data }));
        }

        #[test]
        fn any_payload_is_read_without_panic(head: [u8; 32]) {
            let _ = Create2::read(&padded(&head));
            let _ = Created2::read(&padded(&head));
            prop_assert!(CreateFast::read(&padded(&head)).is_ok());
        }
    }
}
