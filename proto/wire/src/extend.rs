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
use crate::relay::RELAY_BODY_MAX;
use crate::writer::{TooLong, Writer};

/// Most bytes of reply in an EXTENDED2 message.
pub const EXTENDED2_DATA_MAX: usize = RELAY_BODY_MAX - 2;

/// Why an EXTEND2 message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExtendError {
    /// The next hop is not well described.
    #[error("EXTEND2: {0}")]
    LinkSpecifiers(#[from] LinkSpecifierError),
    /// The message ends within the onionskin.
    #[error("EXTEND2: {0}")]
    Truncated(#[from] Truncated),
}

/// The body of an EXTEND2 message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extend2<'a> {
    /// Who and where the next hop is.
    pub link_specifiers: LinkSpecifiers,
    /// The handshake to ask of the next hop.
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
        if out.len() - start > RELAY_BODY_MAX {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linkspec::LinkSpecifier;
    use hex_literal::hex;

    /// Captured from a C tor 0.4.5 test network (as published with Arti).
    #[test]
    fn captured_messages() {
        let bytes = hex!(
            "02 00 06 7F0000011388 02 14 03479E93EBF3FF2C58C1C9DBF2DE9DE9C2801B3E 0002 0054"
            "03479E93EBF3FF2C58C1C9DBF2DE9DE9C2801B3E36A3E0BDB1F1A10579820243DD2E228B902940EB49EF84"
            "2646E3926768C28410074BEE50A535116D657C6BFB7E5114119DC69F05DF907EF62002EA782B0A357F"
        );
        let message = Extend2::read(&bytes).unwrap();
        assert_eq!(
            message.link_specifiers.ipv4(),
            "127.0.0.1:5000".parse().ok()
        );
        assert_eq!(
            message.link_specifiers.rsa_id().unwrap().as_bytes(),
            &message.data[..20]
        );
        assert_eq!(
            (message.handshake_type, message.data.len()),
            (HandshakeType::NTOR, 84)
        );
        let mut out = Vec::new();
        message.write(&mut out).unwrap();
        assert_eq!(out, bytes);
        for len in 0..bytes.len() {
            assert!(Extend2::read(&bytes[..len]).is_err());
        }

        let bytes = hex!(
            "0040 0026619058EB2661834D54C2624828728F28915587CDAD1AD3373B85F33A480EEA9D3B2CEF8D39C1"
            "DBD2FA519E75296B96960690C79A28D6A0D9454F8E9634BD"
        );
        let message = Extended2::read(&bytes).unwrap();
        let mut out = Vec::new();
        message.write(&mut out).unwrap();
        assert_eq!(out, bytes);
        for len in 0..bytes.len() {
            assert_eq!(Extended2::read(&bytes[..len]), Err(Truncated));
        }
    }

    #[test]
    fn duplicate_identities_are_refused() {
        let id = LinkSpecifier::Ed25519([1; 32].into());
        let link_specifiers = LinkSpecifiers(vec![id.clone(), id]);
        let handshake_type = HandshakeType::NTOR;
        let message = Extend2 {
            link_specifiers,
            handshake_type,
            data: &[],
        };
        let mut out = Vec::new();
        message.write(&mut out).unwrap();
        let error = LinkSpecifierError::DuplicateIdentity.into();
        assert_eq!(Extend2::read(&out), Err(error));
    }

    #[test]
    fn more_than_a_cell_is_not_written() {
        let data = &[0; 498];
        let link_specifiers = LinkSpecifiers::default();
        let message = Extend2 {
            link_specifiers,
            handshake_type: HandshakeType::NTOR,
            data,
        };
        let mut out = vec![1];
        assert_eq!(
            (message.write(&mut out), &out[..]),
            (Err(TooLong), &[1][..])
        );
        assert_eq!(Extended2 { data }.write(&mut out), Err(TooLong));
        assert_eq!(Extended2 { data: &data[..486] }.write(&mut out), Ok(()));
    }
}
