//! Whom work and places are counted against: an address, and the prefix that it is part of.
//!
//! An address is an IPv4 /32 or an IPv6 /64, which is what one host is given (RFC 6177, RFC 7421).
//! A prefix is an IPv4 /24 or an IPv6 /48: the smallest blocks that are routed and rented, so that
//! who has one address of it may well have all. An IPv4 /16 would hold 65,536 hosts of people who
//! have nothing to do with each other, and an attacker could have them all punished.

use std::fmt;
use std::net::IpAddr;

/// An address or a prefix. Neither is ever printed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    kind: Kind,
    bits: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    V4,
    V4Prefix,
    V6,
    V6Prefix,
}

/// The bits of an IPv4 address that are its prefix.
const V4_PREFIX_BITS: u32 = 24;
/// The bits of an IPv6 address that are its prefix.
const V6_PREFIX_BITS: u32 = 48;

impl Source {
    /// The source that an address is.
    #[must_use]
    pub fn of(ip: IpAddr) -> Source {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Source {
                kind: Kind::V4,
                bits: ip.to_bits().into(),
            },
            IpAddr::V6(ip) => Source {
                kind: Kind::V6,
                bits: (ip.to_bits() >> 64) as u64,
            },
        }
    }

    /// The prefix that an address is part of; a prefix is its own.
    #[must_use]
    pub fn prefix(self) -> Source {
        match self.kind {
            Kind::V4 => Source {
                kind: Kind::V4Prefix,
                bits: self.bits >> (32 - V4_PREFIX_BITS),
            },
            Kind::V6 => Source {
                kind: Kind::V6Prefix,
                bits: self.bits >> (64 - V6_PREFIX_BITS),
            },
            Kind::V4Prefix | Kind::V6Prefix => self,
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({:?})", self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    #[test]
    fn a_host_and_its_neighbours() {
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("192.0.2.1").prefix(), of("192.0.2.2").prefix());
        assert_ne!(of("192.0.2.1").prefix(), of("192.0.3.1").prefix());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(
            of("2001:db8:1:2::1").prefix(),
            of("2001:db8:1:3::1").prefix()
        );
        assert_ne!(
            of("2001:db8:1:2::1").prefix(),
            of("2001:db8:2:2::1").prefix()
        );
        assert_eq!(of("192.0.2.1").prefix().prefix(), of("192.0.2.1").prefix());
    }

    #[test]
    fn no_address_is_printed() {
        assert_eq!(format!("{:?}", of("192.0.2.1")), "Source(V4)");
    }
}
