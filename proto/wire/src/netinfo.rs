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
        let v4: IpAddr = "127.0.0.1".parse().unwrap();
        let v6: IpAddr = "::1".parse().unwrap();
        let cases = [
            (&hex!("00000000 04 04 7F000001 00")[..], 0, v4, vec![]),
            (
                &hex!("5F6F80E1 04 04 7F000001 01 04 04 7F000001"),
                0x5F6F_80E1,
                v4,
                vec![v4],
            ),
            (
                &hex!(
                    "5F6F859C 06 10 00000000000000000000000000000001 02"
                    "04 04 7F000001 06 10 00000000000000000000000000000001"
                ),
                0x5F6F_859C,
                v6,
                vec![v4, v6],
            ),
        ];
        for (bytes, timestamp, other_address, own_addresses) in cases {
            let netinfo = Netinfo {
                timestamp,
                other_address,
                own_addresses,
            };
            assert_eq!(Netinfo::read(&padded(bytes)).as_ref(), Ok(&netinfo));
            let mut payload = [9; PAYLOAD_LEN];
            netinfo.write(&mut payload).unwrap();
            assert_eq!(payload, padded(bytes));
        }
    }

    #[test]
    fn bogus_addresses() {
        let own = hex!("00000000 04 04 7F000001 03 04 06 7F0000010000 BB 02 FFFF 04 04 01020304");
        let netinfo = Netinfo::read(&padded(&own)).unwrap();
        assert_eq!(netinfo.own_addresses, [IpAddr::from([1, 2, 3, 4])]);
        let other = hex!("5F6F859C 06 09 000000000000000000 00");
        assert_eq!(
            Netinfo::read(&padded(&other)),
            Err(NetinfoError::OtherAddress)
        );
        let mut short = [4; PAYLOAD_LEN];
        short[10] = 255;
        assert_eq!(Netinfo::read(&short), Err(Truncated.into()));
    }

    #[test]
    fn too_many_addresses_are_not_written() {
        let own_addresses = vec![IpAddr::from([1, 2, 3, 4]); ADDRESSES_MAX];
        let other_address = IpAddr::from([1, 2, 3, 4]);
        let mut netinfo = Netinfo {
            timestamp: 1,
            other_address,
            own_addresses,
        };
        let mut payload = [0; PAYLOAD_LEN];
        netinfo.write(&mut payload).unwrap();
        assert_eq!(Netinfo::read(&payload).as_ref(), Ok(&netinfo));
        netinfo.own_addresses.push(other_address);
        assert_eq!(netinfo.write(&mut payload), Err(TooLong));
    }

    proptest! {
        #[test]
        fn reading_is_total_and_stable(head in prop::collection::vec(any::<u8>(), 509)) {
            if let Ok(netinfo) = Netinfo::read(&padded(&head)) {
                let mut payload = [0; PAYLOAD_LEN];
                netinfo.write(&mut payload).unwrap();
                prop_assert_eq!(Netinfo::read(&payload), Ok(netinfo));
            }
        }
    }
}
