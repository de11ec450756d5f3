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
