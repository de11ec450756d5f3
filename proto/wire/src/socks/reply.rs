//! Answers to SOCKS requests (RFC 1928 section 6, socks-extensions, `ExtendedErrors` in tor(1)).
//!
//! ```text
//! 4: 0 | code 1 (5A granted, 5B rejected) | port 2 | IPv4 4
//! 5: 5 | status 1 | 0 | type 1 | address | port 2
//! ```
//!
//! An answer that the protocol cannot carry (an IPv6 address or a name in SOCKS 4, a name of more
//! than 255 bytes) becomes a failure, never a wrong address.

use std::net::{IpAddr, Ipv4Addr};

use super::{SocksAddr, SocksVersion};
use crate::codes::codes;
use crate::end::EndReason;
use crate::host::Host;
use crate::writer::Writer;

/// What HTTP clients hear that come to the SOCKS port (socks-extensions 4).
pub const HTTP_REPLY: &[u8] = b"HTTP/1.0 501 Not Implemented\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\n\
    \r\n\
    This is a SOCKS port of an onion-routing client, not an HTTP proxy.\n\
    Set it as the SOCKS5 proxy of your program, with host names resolved by the proxy.\n";

codes! {
    /// How a request ended: the REP field of SOCKS 5. Those from F0 on are Tor's own, to be sent
    /// only where the port's `ExtendedErrors` is set.
    pub struct SocksStatus(u8) {
        SUCCEEDED = 0x00,
        GENERAL_FAILURE = 0x01,
        NOT_ALLOWED = 0x02,
        NETWORK_UNREACHABLE = 0x03,
        HOST_UNREACHABLE = 0x04,
        CONNECTION_REFUSED = 0x05,
        TTL_EXPIRED = 0x06,
        COMMAND_NOT_SUPPORTED = 0x07,
        ADDRESS_TYPE_NOT_SUPPORTED = 0x08,
        HS_DESC_NOT_FOUND = 0xF0,
        HS_DESC_INVALID = 0xF1,
        HS_INTRO_FAILED = 0xF2,
        HS_REND_FAILED = 0xF3,
        HS_MISSING_CLIENT_AUTH = 0xF4,
        HS_BAD_CLIENT_AUTH = 0xF5,
        HS_BAD_ADDRESS = 0xF6,
        HS_INTRO_TIMED_OUT = 0xF7,
    }
}

impl SocksStatus {
    /// The status without Tor's own codes: HOST_UNREACHABLE in their place.
    #[must_use]
    pub fn without_extension(self) -> Self {
        if self.0 >= SocksStatus::HS_DESC_NOT_FOUND.0 {
            SocksStatus::HOST_UNREACHABLE
        } else {
            self
        }
    }
}

impl From<EndReason> for SocksStatus {
    /// The status for a stream that ended before it was connected.
    fn from(reason: EndReason) -> Self {
        match reason {
            EndReason::RESOLVEFAILED | EndReason::NOROUTE => SocksStatus::HOST_UNREACHABLE,
            EndReason::CONNECTREFUSED | EndReason::CONNRESET => SocksStatus::CONNECTION_REFUSED,
            EndReason::EXITPOLICY => SocksStatus::NOT_ALLOWED,
            EndReason::TIMEOUT => SocksStatus::TTL_EXPIRED,
            _ => SocksStatus::GENERAL_FAILURE,
        }
    }
}

/// The answer to a request. `bound` is the address found by RESOLVE, the name found by RESOLVE_PTR,
/// or where a stream is bound; without it (and on failure) zeros stand there.
#[must_use]
pub fn reply(
    version: SocksVersion,
    status: SocksStatus,
    bound: Option<(&SocksAddr, u16)>,
) -> Vec<u8> {
    let nowhere = Host::Ip(Ipv4Addr::UNSPECIFIED.into());
    let succeeded = status == SocksStatus::SUCCEEDED;
    let (address, port) = bound.filter(|_| succeeded).unwrap_or((&nowhere, 0));
    match version {
        SocksVersion::V4 => reply4(succeeded, address, port),
        SocksVersion::V5 => reply5(status, address, port),
    }
}

fn reply4(succeeded: bool, address: &SocksAddr, port: u16) -> Vec<u8> {
    let (code, port, address) = match address {
        Host::Ip(IpAddr::V4(address)) if succeeded => (0x5A, port, *address),
        _ => (0x5B, 0, Ipv4Addr::UNSPECIFIED),
    };
    let mut out = Vec::with_capacity(8);
    let mut w = Writer::new(&mut out);
    w.bytes(&[0, code]);
    w.u16(port);
    w.bytes(&address.octets());
    out
}

fn reply5(status: SocksStatus, address: &SocksAddr, port: u16) -> Vec<u8> {
    let mut out = Vec::with_capacity(22);
    let mut w = Writer::new(&mut out);
    w.bytes(&[5, status.0, 0]);
    match address {
        Host::Ip(IpAddr::V4(address)) => {
            w.u8(1);
            w.bytes(&address.octets());
        }
        Host::Ip(IpAddr::V6(address)) => {
            w.u8(4);
            w.bytes(&address.octets());
        }
        Host::Name(name) => {
            w.u8(3);
            if w.u8_prefixed(name.as_bytes()).is_err() {
                return reply(SocksVersion::V5, SocksStatus::GENERAL_FAILURE, None);
            }
        }
    }
    w.u16(port);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reason_of_an_end_is_success() {
        // `tor` told applications so of reason 0, up to 0.4.9.12.
        for reason in 0..=255 {
            let status = SocksStatus::from(EndReason(reason));
            assert_ne!(status, SocksStatus::SUCCEEDED, "{reason}");
        }
    }

    #[test]
    fn socks4() {
        let granted = reply(SocksVersion::V4, SocksStatus::SUCCEEDED, None);
        assert_eq!(granted, [0, 0x5A, 0, 0, 0, 0, 0, 0]);
        let found = SocksAddr::Ip([1, 2, 3, 4].into());
        let resolved = reply(SocksVersion::V4, SocksStatus::SUCCEEDED, Some((&found, 5)));
        assert_eq!(resolved, [0, 0x5A, 0, 5, 1, 2, 3, 4]);
        let failed = reply(
            SocksVersion::V4,
            SocksStatus::NOT_ALLOWED,
            Some((&found, 5)),
        );
        assert_eq!(failed, [0, 0x5B, 0, 0, 0, 0, 0, 0]);
        let v6 = SocksAddr::Ip("::1".parse().unwrap());
        assert_eq!(
            reply(SocksVersion::V4, SocksStatus::SUCCEEDED, Some((&v6, 0)))[1],
            0x5B
        );
    }

    #[test]
    fn socks5() {
        let of = |status, bound: Option<&SocksAddr>| {
            reply(
                SocksVersion::V5,
                status,
                bound.map(|address| (address, 258)),
            )
        };
        assert_eq!(
            of(SocksStatus::SUCCEEDED, None),
            [5, 0, 0, 1, 0, 0, 0, 0, 0, 0]
        );
        let failed = of(SocksStatus::HS_BAD_ADDRESS, None);
        assert_eq!(failed, [5, 0xF6, 0, 1, 0, 0, 0, 0, 0, 0]);
        let v4 = SocksAddr::Ip([1, 2, 3, 4].into());
        assert_eq!(
            of(SocksStatus::SUCCEEDED, Some(&v4)),
            [5, 0, 0, 1, 1, 2, 3, 4, 1, 2]
        );
        let v6 = of(
            SocksStatus::SUCCEEDED,
            Some(&SocksAddr::Ip("::1".parse().unwrap())),
        );
        assert_eq!((v6[3], v6[19], v6.len()), (4, 1, 22));
        let name = of(SocksStatus::SUCCEEDED, Some(&SocksAddr::Name("a.b".into())));
        assert_eq!(name, b"\x05\x00\x00\x03\x03a.b\x01\x02");
        let long = of(
            SocksStatus::SUCCEEDED,
            Some(&SocksAddr::Name("a".repeat(256))),
        );
        assert_eq!(long, [5, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn statuses() {
        assert_eq!(
            SocksStatus::from(EndReason::EXITPOLICY),
            SocksStatus::NOT_ALLOWED
        );
        assert_eq!(
            SocksStatus::from(EndReason(99)),
            SocksStatus::GENERAL_FAILURE
        );
        let plain = SocksStatus::HS_REND_FAILED.without_extension();
        assert_eq!(plain, SocksStatus::HOST_UNREACHABLE);
        assert_eq!(
            SocksStatus::TTL_EXPIRED.without_extension(),
            SocksStatus::TTL_EXPIRED
        );
    }
}
