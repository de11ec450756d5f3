//! Bridge lines: where a bridge is, who it is, by which transport it is reached, as `tor` reads
//! them (`Bridge` in tor(1)): `[transport] ADDRESS[:PORT] [fingerprint] [key=value…]`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use cepa_crypto::RsaId;
use cepa_crypto::encoding::hex_array;

use crate::arguments::{Arguments, ArgumentsError};
use crate::name::TransportName;

/// The longest line.
pub const LINE_LEN_MAX: usize = 2048;
/// The port of a line that has none, as in `tor`.
const PORT_DEFAULT: u16 = 443;

/// How a bridge is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BridgeLine {
    /// The address that is connected to, or that the transport is told.
    pub addr: SocketAddr,
    /// The RSA identity that the bridge must prove; of a line without one, whichever it proves.
    pub fingerprint: Option<RsaId>,
    /// The transport; none: the bridge's own port is connected to.
    pub transport: Option<TransportName>,
    /// What the transport is told for each connection. Empty without a transport.
    pub arguments: Arguments,
}

/// Why a text is no bridge line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BridgeLineError {
    /// The line is longer than [`LINE_LEN_MAX`].
    #[error("a bridge line has at most {LINE_LEN_MAX} bytes")]
    TooLong,
    /// No address stands where one should.
    #[error("a bridge line has an IP address and a port, behind the transport if there is one")]
    Address,
    /// The word behind the address is neither a fingerprint nor an argument.
    #[error("behind the address stands a fingerprint of 40 hexadecimal digits, or KEY=VALUE")]
    Fingerprint,
    /// Arguments need a transport that takes them.
    #[error("arguments without a transport")]
    ArgumentsAlone,
    /// An argument is wrong.
    #[error(transparent)]
    Arguments(#[from] ArgumentsError),
}

impl FromStr for BridgeLine {
    type Err = BridgeLineError;

    /// Reads a line; the word `Bridge` before it is passed over.
    fn from_str(line: &str) -> Result<Self, BridgeLineError> {
        if line.len() > LINE_LEN_MAX {
            return Err(BridgeLineError::TooLong);
        }
        let mut words = line.split_ascii_whitespace().peekable();
        words.next_if(|word| word.eq_ignore_ascii_case("bridge"));
        let first = words.next().ok_or(BridgeLineError::Address)?;
        let transport = first.parse::<TransportName>().ok();
        let place = match transport {
            Some(_) => words.next().ok_or(BridgeLineError::Address)?,
            None => first,
        };
        let addr = address(place).ok_or(BridgeLineError::Address)?;
        let fingerprint = match words.peek() {
            Some(word) if !word.contains('=') => {
                let digits = word.strip_prefix('$').unwrap_or(word);
                let id = hex_array(digits).map(RsaId::from);
                words.next();
                Some(id.ok_or(BridgeLineError::Fingerprint)?)
            }
            _ => None,
        };
        let mut arguments = Arguments::default();
        for word in words {
            arguments.push_word(word)?;
        }
        if transport.is_none() && !arguments.is_empty() {
            return Err(BridgeLineError::ArgumentsAlone);
        }
        Ok(BridgeLine {
            addr,
            fingerprint,
            transport,
            arguments,
        })
    }
}

/// An address with a port that is not zero, or an address alone.
fn address(word: &str) -> Option<SocketAddr> {
    if let Ok(addr) = word.parse::<SocketAddr>() {
        return (addr.port() != 0).then_some(addr);
    }
    let inside = word.strip_prefix('[').and_then(|w| w.strip_suffix(']'));
    let ip = match inside {
        Some(inside) => IpAddr::V6(inside.parse::<Ipv6Addr>().ok()?),
        None => word.parse().ok()?,
    };
    Some(SocketAddr::new(ip, PORT_DEFAULT))
}

/// As it is read, without the word `Bridge`.
impl fmt::Display for BridgeLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(transport) = &self.transport {
            write!(f, "{transport} ")?;
        }
        write!(f, "{}", self.addr)?;
        if let Some(fingerprint) = &self.fingerprint {
            write!(f, " {fingerprint}")?;
        }
        if !self.arguments.is_empty() {
            write!(f, " {}", self.arguments)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "4352E58420E68F5E40BF7C74FADDCCD9D1349413";

    fn read(line: &str) -> Result<BridgeLine, BridgeLineError> {
        line.parse()
    }

    #[test]
    fn lines_of_all_shapes_are_read() {
        let plain = read("198.51.100.4:9001").unwrap();
        assert_eq!((plain.fingerprint, &plain.transport), (None, &None));
        let named = read(&format!("Bridge 198.51.100.4:9001 {ID}")).unwrap();
        assert_eq!(named.fingerprint.unwrap().to_string(), ID);
        let dollar = read(&format!("198.51.100.4:9001 ${}", ID.to_lowercase())).unwrap();
        assert_eq!(dollar, named);
        let v6 = read("[2001:db8::1]:443").unwrap();
        assert!(v6.addr.is_ipv6());
        assert_eq!(read("[2001:db8::1]").unwrap(), v6);
        assert_eq!(read("198.51.100.4").unwrap().addr.port(), 443);
        let text = format!("obfs4 198.51.100.4:9001 {ID} cert=a+b/c= iat-mode=0");
        let obfs4 = read(&text).unwrap();
        let pairs: Vec<_> = obfs4.arguments.pairs().collect();
        assert_eq!(pairs, [("cert", "a+b/c="), ("iat-mode", "0")]);
        assert_eq!(obfs4.to_string(), text);
        let nameless = read("webtunnel [2001:db8::2]:443 url=https://a.example/x").unwrap();
        assert_eq!(nameless.fingerprint, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, error) in [
            ("", BridgeLineError::Address),
            ("obfs4", BridgeLineError::Address),
            ("bridge.example:443", BridgeLineError::Address),
            ("198.51.100.4:0", BridgeLineError::Address),
            ("198.51.100.4:9001 abc", BridgeLineError::Fingerprint),
            ("198.51.100.4:9001 k=v", BridgeLineError::ArgumentsAlone),
            (
                "x 198.51.100.4:9001 k=v w",
                BridgeLineError::Arguments(ArgumentsError::NotAPair),
            ),
        ] {
            assert_eq!(read(line), Err(error), "{line}");
        }
        let long = "a".repeat(LINE_LEN_MAX + 1);
        assert_eq!(read(&long), Err(BridgeLineError::TooLong));
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_and_read_the_same(line in "[ -~]{0,120}") {
            if let Ok(one) = read(&line) {
                prop_assert_eq!(read(&one.to_string()), Ok(one));
            }
        }

        #[test]
        fn lines_survive(
            transport in prop::option::of("[a-z][a-z0-9_]{0,9}"),
            ip in any::<IpAddr>(),
            port in 1_u16..,
            id in prop::option::of(any::<[u8; 20]>()),
            pairs in prop::collection::vec(("[a-z-]{1,8}", "[!-~]{0,30}"), 0..5),
        ) {
            let transport = transport.filter(|name| name != "bridge");
            let mut arguments = Arguments::default();
            for (key, value) in pairs.iter().filter(|_| transport.is_some()) {
                arguments.push(key, value).unwrap();
            }
            let line = BridgeLine {
                addr: SocketAddr::new(ip, port),
                fingerprint: id.map(RsaId::from),
                transport: transport.map(|name| name.parse().unwrap()),
                arguments,
            };
            prop_assert_eq!(read(&line.to_string()), Ok(line));
        }
    }
}
