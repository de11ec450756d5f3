//! RELAY_CONNECTED: the stream is open (tor-spec 6.2).
//!
//! ```text
//! empty | IPv4 4, ttl 4 | zeros 4, type 6, IPv6 16, ttl 4
//! ```
//!
//! Empty for directory and onion-service streams. Trailing bytes are ignored. Four zeros that no
//! IPv6 address follows are read as empty: for BEGIN_DIR the section lets relays send zeros.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::reader::Reader;
use crate::writer::Writer;

/// The type byte before an IPv6 address.
const ADDRESS_TYPE_IPV6: u8 = 6;

/// A CONNECTED message that is none of the three formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed CONNECTED message")]
pub struct ConnectedError;

/// The body of a CONNECTED message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Connected {
    /// Where the exit connected to, and the seconds for which that may be cached.
    pub address: Option<(IpAddr, u32)>,
}

impl Connected {
    /// Reads the data of a CONNECTED message.
    pub fn read(data: &[u8]) -> Result<Self, ConnectedError> {
        if data.is_empty() {
            return Ok(Connected::default());
        }
        let mut r = Reader::new(data);
        let v4: [u8; 4] = r.array().map_err(|_| ConnectedError)?;
        if v4 != [0; 4] {
            // Exits may leave the lifetime out, as C tor's reader allows.
            let ttl = if r.is_empty() {
                0
            } else {
                r.u32().map_err(|_| ConnectedError)?
            };
            return Ok(Connected {
                address: Some((Ipv4Addr::from(v4).into(), ttl)),
            });
        }
        if r.u8().unwrap_or(0) == 0 {
            return Ok(Connected::default());
        }
        let mut r = Reader::new(data.get(4..).unwrap_or_default());
        let kind = r.u8().map_err(|_| ConnectedError)?;
        let v6: [u8; 16] = r.array().map_err(|_| ConnectedError)?;
        let ttl = r.u32().map_err(|_| ConnectedError)?;
        if kind != ADDRESS_TYPE_IPV6 {
            return Err(ConnectedError);
        }
        Ok(Connected {
            address: Some((Ipv6Addr::from(v6).into(), ttl)),
        })
    }

    /// Appends the data of a CONNECTED message.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        match self.address {
            None => {}
            Some((IpAddr::V4(address), ttl)) => {
                w.bytes(&address.octets());
                w.u32(ttl);
            }
            Some((IpAddr::V6(address), ttl)) => {
                w.u32(0);
                w.u8(ADDRESS_TYPE_IPV6);
                w.bytes(&address.octets());
                w.u32(ttl);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    fn written(connected: Connected) -> Vec<u8> {
        let mut out = Vec::new();
        connected.write(&mut out);
        out
    }

    #[test]
    fn published_vectors() {
        assert_eq!(Connected::read(&[]), Ok(Connected { address: None }));
        let v4 = Connected {
            address: Some(("127.0.0.1".parse().unwrap(), 3600)),
        };
        assert_eq!(Connected::read(&hex!("7F000001 00000E10")), Ok(v4));
        assert_eq!(written(v4), hex!("7F000001 00000E10"));
        let v6 = Connected {
            address: Some(("2001:db8::1122".parse().unwrap(), 3600)),
        };
        let bytes = hex!("00000000 06 20010db8 00000000 00000000 00001122 00000E10");
        assert_eq!(Connected::read(&bytes), Ok(v6));
        assert_eq!(written(v6), bytes);
        for len in 5..bytes.len() {
            assert_eq!(Connected::read(&bytes[..len]), Err(ConnectedError));
        }
    }

    #[test]
    fn zeros_and_missing_lifetime() {
        assert_eq!(Connected::read(&[0; 498]), Ok(Connected::default()));
        assert_eq!(Connected::read(&[0; 3]), Err(ConnectedError));
        let no_ttl = Connected::read(&hex!("7F000001")).unwrap().address;
        assert_eq!(no_ttl, Some(("127.0.0.1".parse().unwrap(), 0)));
    }

    proptest! {
        #[test]
        fn reading_is_total_and_stable(data in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(connected) = Connected::read(&data) {
                prop_assert_eq!(Connected::read(&written(connected)), Ok(connected));
            }
        }
    }
}
