//! RELAY_BEGIN: open a stream to an address and port (tor-spec 6.2).
//!
//! ```text
//! address ':' port NUL | flags 4 (optional, 0 if absent) | ignored
//! ```
//!
//! Names are kept as they came and written in lower case. An empty name is valid: clients of an
//! onion service send ":80".

use crate::host::{Host, HostError};
use crate::reader::Reader;
use crate::writer::Writer;

/// The FLAGS field (tor-spec 6.2). Reserved bits are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct BeginFlags(pub u32);

impl BeginFlags {
    /// The client can learn about and use IPv6 addresses.
    pub const IPV6_OKAY: BeginFlags = BeginFlags(1);
    /// The client wants no IPv4 address.
    pub const IPV4_NOT_OKAY: BeginFlags = BeginFlags(2);
    /// Where there are both, the client wants the IPv6 address.
    pub const IPV6_PREFERRED: BeginFlags = BeginFlags(4);

    /// True if all bits of `flags` are set.
    #[must_use]
    pub fn contains(self, flags: BeginFlags) -> bool {
        self.0 & flags.0 == flags.0
    }
}

impl std::ops::BitOr for BeginFlags {
    type Output = BeginFlags;

    fn bitor(self, other: BeginFlags) -> BeginFlags {
        BeginFlags(self.0 | other.0)
    }
}

/// Why a BEGIN message is refused (END with TORPROTOCOL).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BeginError {
    /// The address is not terminated.
    #[error("BEGIN without NUL")]
    Unterminated,
    /// No colon, or what follows it is no port from 1 to 65535.
    #[error("BEGIN without a port")]
    Port,
    /// The address is none.
    #[error("BEGIN: {0}")]
    Host(#[from] HostError),
}

/// The body of a BEGIN message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// The host to connect to.
    pub host: Host,
    /// The port, 1 to 65535.
    pub port: u16,
    /// What addresses the client can use.
    pub flags: BeginFlags,
}

impl Begin {
    /// Reads the data of a BEGIN message.
    pub fn read(data: &[u8]) -> Result<Self, BeginError> {
        let mut r = Reader::new(data);
        let text = r.until_nul().map_err(|_| BeginError::Unterminated)?;
        let flags = BeginFlags(r.u32().unwrap_or(0));
        let colon = text
            .iter()
            .rposition(|byte| *byte == b':')
            .ok_or(BeginError::Port)?;
        let (host, port) = text.split_at(colon);
        let port = port
            .strip_prefix(b":")
            .and_then(parse_port)
            .ok_or(BeginError::Port)?;
        Ok(Begin {
            host: Host::parse(host)?,
            port,
            flags,
        })
    }

    /// Appends the data of a BEGIN message. The flags are left out when none is set, as C tor does.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        w.bytes(format!("{}:{}\0", self.host, self.port).as_bytes());
        if self.flags != BeginFlags::default() {
            w.u32(self.flags.0);
        }
    }
}

/// A decimal port from 1 to 65535, without a sign.
fn parse_port(digits: &[u8]) -> Option<u16> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits)
        .ok()?
        .parse()
        .ok()
        .filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    fn written(begin: &Begin) -> Vec<u8> {
        let mut out = Vec::new();
        begin.write(&mut out);
        out
    }

    fn begin(host: &str, port: u16, flags: u32) -> Begin {
        Begin {
            host: Host::parse(host.as_bytes()).unwrap(),
            port,
            flags: BeginFlags(flags),
        }
    }

    #[test]
    fn published_vectors() {
        let cases = [
            (
                &hex!("3132372E302E302E313A3730303300")[..],
                begin("127.0.0.1", 7003, 0),
            ),
            (
                &hex!("7777772e786b63642e636f6d3a34343300 00000003"),
                begin("www.xkcd.com", 443, 3),
            ),
            (
                &hex!("5b323030313a6462383a3a315d3a323200"),
                begin("2001:db8::1", 22, 0),
            ),
            (b":80\0", begin("", 80, 0)),
        ];
        for (bytes, message) in cases {
            assert_eq!(Begin::read(bytes).as_ref(), Ok(&message));
            assert_eq!(written(&message), bytes);
        }
        let flags = BeginFlags::IPV6_OKAY | BeginFlags::IPV6_PREFERRED;
        assert!(flags.contains(BeginFlags::IPV6_OKAY));
        assert!(!flags.contains(BeginFlags::IPV4_NOT_OKAY));
    }

    #[test]
    fn malformed() {
        assert_eq!(Begin::read(b"a:80"), Err(BeginError::Unterminated));
        for text in [
            &b"a\0"[..],
            b"a:\0",
            b"a:0\0",
            b"a:65536\0",
            b"a:+80\0",
            b"a: 80\0",
        ] {
            assert_eq!(Begin::read(text), Err(BeginError::Port));
        }
        let error = BeginError::Host(HostError::Character);
        assert_eq!(Begin::read(b"a b:80\0"), Err(error));
        assert_eq!(Begin::read(b"a:1:80\0"), Err(error));
        assert_eq!(Begin::read(b"A.b:80\0\0\0").unwrap().flags, BeginFlags(0));
        assert_eq!(written(&Begin::read(b"A.b:80\0").unwrap()), b"a.b:80\0");
    }

    proptest! {
        #[test]
        fn written_is_read(name in "[a-z0-9._-]{0,255}", port in 1_u16.., flags: u32) {
            let message = begin(&name, port, flags);
            prop_assert_eq!(Begin::read(&written(&message)), Ok(message));
        }

        #[test]
        fn any_bytes_are_read_without_panic(data in prop::collection::vec(any::<u8>(), 0..498)) {
            let _ = Begin::read(&data);
        }
    }
}
