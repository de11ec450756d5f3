//! RELAY_END: a stream is over (tor-spec 6.3).
//!
//! Reading never fails, as the section asks: an empty message is MISC, and an address that is
//! absent or of a wrong length is as if it were not there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::codes::codes;
use crate::reader::Reader;
use crate::writer::Writer;

/// What a missing lifetime stands for.
pub const TTL_ABSENT: u32 = u32::MAX;

codes! {
    /// Why a stream ended (tor-spec 6.3).
    pub struct EndReason(u8) {
        MISC = 1,
        RESOLVEFAILED = 2,
        CONNECTREFUSED = 3,
        EXITPOLICY = 4,
        DESTROY = 5,
        DONE = 6,
        TIMEOUT = 7,
        NOROUTE = 8,
        HIBERNATING = 9,
        INTERNAL = 10,
        RESOURCELIMIT = 11,
        CONNRESET = 12,
        TORPROTOCOL = 13,
        NOTDIRECTORY = 14,
    }
}

/// The body of an END message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Why the stream is over.
    pub reason: EndReason,
    /// With EXITPOLICY: the address that was refused, and the seconds for which that may be
    /// believed ([`TTL_ABSENT`] if unsaid).
    pub refused: Option<(IpAddr, u32)>,
}

impl From<EndReason> for End {
    fn from(reason: EndReason) -> Self {
        End {
            reason,
            refused: None,
        }
    }
}

impl End {
    /// Reads the data of an END message.
    #[must_use]
    pub fn read(data: &[u8]) -> Self {
        let mut r = Reader::new(data);
        let Ok(reason) = r.u8().map(EndReason) else {
            return EndReason::MISC.into();
        };
        let address = match r.len() {
            4 | 8 => r
                .array()
                .map(|octets: [u8; 4]| IpAddr::from(Ipv4Addr::from(octets))),
            16 | 20 => r
                .array()
                .map(|octets: [u8; 16]| IpAddr::from(Ipv6Addr::from(octets))),
            _ => return reason.into(),
        };
        match address {
            Ok(address) if reason == EndReason::EXITPOLICY => End {
                reason,
                refused: Some((address, r.u32().unwrap_or(TTL_ABSENT))),
            },
            _ => reason.into(),
        }
    }

    /// Appends the data of an END message. The address is left out for reasons that have none.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        w.u8(self.reason.0);
        if let (EndReason::EXITPOLICY, Some((address, ttl))) = (self.reason, self.refused) {
            match address {
                IpAddr::V4(address) => w.bytes(&address.octets()),
                IpAddr::V6(address) => w.bytes(&address.octets()),
            }
            w.u32(ttl);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    fn written(end: End) -> Vec<u8> {
        let mut out = Vec::new();
        end.write(&mut out);
        out
    }

    #[test]
    fn published_vectors() {
        assert_eq!(End::read(&hex!("06")), EndReason::DONE.into());
        let refused = Some(("127.0.0.7".parse().unwrap(), 256));
        let end = End {
            reason: EndReason::EXITPOLICY,
            refused,
        };
        assert_eq!(End::read(&hex!("04 7f000007 00000100")), end);
        assert_eq!(written(end), hex!("04 7f000007 00000100"));
        let refused = Some(("2001:db8::f00b".parse().unwrap(), 512));
        let end = End {
            reason: EndReason::EXITPOLICY,
            refused,
        };
        let bytes = hex!("04 20010db8 00000000 00000000 0000f00b 00000200");
        assert_eq!(End::read(&bytes), end);
        assert_eq!(written(end), bytes);
    }

    #[test]
    fn lenient_as_the_section_asks() {
        assert_eq!(End::read(&[]), EndReason::MISC.into());
        assert_eq!(End::read(&[200, 1]).reason, EndReason(200));
        assert_eq!(End::read(&hex!("04 7f0000")), EndReason::EXITPOLICY.into());
        let without_ttl = End::read(&hex!("04 7f000001")).refused;
        assert_eq!(
            without_ttl,
            Some(("127.0.0.1".parse().unwrap(), TTL_ABSENT))
        );
        assert_eq!(
            End::read(&hex!("06 7f000001 00000001")),
            EndReason::DONE.into()
        );
    }

    proptest! {
        #[test]
        fn reading_is_total_and_stable(data in prop::collection::vec(any::<u8>(), 0..40)) {
            let end = End::read(&data);
            prop_assert_eq!(End::read(&written(end)), end);
        }
    }
}
