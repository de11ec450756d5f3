//! NETINFO: clocks and addresses as each side sees them (tor-spec 4.5).
//!
//! ```text
//! timestamp 4 | other's address | count 1 | own addresses (count)
//! address: type 1 (4 or 6) | length 1 (4 or 16) | octets (length)
//! ```
//!
//! C tor closes the channel when the first address is no IPv4 or IPv6 address or the list is cut
//! short; own addresses that it cannot read it skips. So do we. Trailing bytes are ignored.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::cell::{PAYLOAD_LEN, Payload};
use crate::create::fill;
use crate::reader::{Reader, Truncated};
use crate::writer::{TooLong, Writer};

const TYPE_IPV4: u8 = 4;
const TYPE_IPV6: u8 = 6;
/// Most own addresses that are kept: no more fit the cell.
pub const ADDRESSES_MAX: usize = (PAYLOAD_LEN - 11) / 6;

/// Why a NETINFO cell is refused; the channel is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NetinfoError {
    /// The cell ends within an address.
    #[error("NETINFO: {0}")]
    Truncated(#[from] Truncated),
    /// The address of the reader's side is neither IPv4 nor IPv6.
    #[error("NETINFO: the other side's address is none")]
    OtherAddress,
}

/// The payload of a NETINFO cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Netinfo {
    /// The sender's clock, seconds since 1970; 0 from clients and bridges.
    pub timestamp: u32,
    /// The address at which the sender sees the receiver.
    pub other_address: IpAddr,
    /// The sender's own addresses; none from clients and bridges.
    pub own_addresses: Vec<IpAddr>,
}

impl Netinfo {
    /// Reads the payload of a NETINFO cell.
    pub fn read(payload: &Payload) -> Result<Self, NetinfoError> {
        let mut r = Reader::new(payload);
        let timestamp = r.u32()?;
        let other_address = read_address(&mut r)?.ok_or(NetinfoError::OtherAddress)?;
        let mut own_addresses = Vec::new();
        for _ in 0..r.u8()? {
            let address = read_address(&mut r)?;
            own_addresses.extend(address.filter(|_| own_addresses.len() < ADDRESSES_MAX));
        }
        Ok(Netinfo {
            timestamp,
            other_address,
            own_addresses,
        })
    }

    /// Fills the payload of a NETINFO cell. [`TooLong`] if it has too many addresses.
    pub fn write(&self, payload: &mut Payload) -> Result<(), TooLong> {
        let mut body = Vec::with_capacity(PAYLOAD_LEN);
        Writer::new(&mut body).u32(self.timestamp);
        write_address(self.other_address, &mut body);
        body.push(u8::try_from(self.own_addresses.len()).map_err(|_| TooLong)?);
        self.own_addresses
            .iter()
            .for_each(|address| write_address(*address, &mut body));
        fill(payload, &[&body])
    }
}

/// One address; `None` for a type or a length that is not known.
fn read_address(r: &mut Reader<'_>) -> Result<Option<IpAddr>, Truncated> {
    let kind = r.u8()?;
    let len = r.u8()?;
    let octets = r.take(len.into())?;
    Ok(match kind {
        TYPE_IPV4 => <[u8; 4]>::try_from(octets)
            .ok()
            .map(|octets| Ipv4Addr::from(octets).into()),
        TYPE_IPV6 => <[u8; 16]>::try_from(octets)
            .ok()
            .map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    })
}

fn write_address(address: IpAddr, out: &mut Vec<u8>) {
    let mut w = Writer::new(out);
    match address {
        IpAddr::V4(address) => {
            w.bytes(&[TYPE_IPV4, 4]);
            w.bytes(&address.octets());
        }
        IpAddr::V6(address) => {
            w.bytes(&[TYPE_IPV6, 16]);
            w.bytes(&address.octets());
        }
    }
}
