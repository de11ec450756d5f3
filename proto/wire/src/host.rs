//! A host as it stands in messages and SOCKS requests: an address, or a name for the exit to
//! resolve (tor-spec 6.2, 6.4).
//!
//! A name is printable ASCII without colons and brackets, so that it cannot break out of ADDRPORT
//! or a log line. Whether it is a good DNS name is for the resolver to say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest host name (RFC 1035 section 2.3.4), as everywhere in Tor.
pub const NAME_LEN_MAX: usize = 255;

/// Longest label of a name (RFC 1035 section 2.3.4).
pub const LABEL_LEN_MAX: usize = 63;

/// An address or a name still to be resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A name: at most [`NAME_LEN_MAX`] bytes of printable ASCII without colons; may be empty.
    Name(String),
}

/// Not a host that may stand in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Longer than [`NAME_LEN_MAX`].
    #[error("host name longer than {NAME_LEN_MAX} bytes")]
    TooLong,
    /// A byte that is not printable ASCII, a colon or a bracket outside of an IPv6 address.
    #[error("host name with a character that none may have")]
    Character,
}

impl Host {
    /// Parses an IPv4 address, an IPv6 address (bare or in brackets) or a name.
    pub fn parse(text: &[u8]) -> Result<Self, HostError> {
        if text.len() > NAME_LEN_MAX {
            return Err(HostError::TooLong);
        }
        let text = str::from_utf8(text).map_err(|_| HostError::Character)?;
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(text).parse::<Ipv6Addr>() {
            return Ok(Host::Ip(address.into()));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Host::Ip(address.into()));
        }
        let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b':' | b'[' | b']');
        if text.bytes().all(allowed) {
            Ok(Host::Name(text.to_owned()))
        } else {
            Err(HostError::Character)
        }
    }
}

/// Whether a text is a name that may be looked up: letters, digits, `-`, `_`, dots between labels
/// of 1 to [`LABEL_LEN_MAX`] bytes, with a dot behind the last or not. What peers and applications
/// use beside RFC 1123 is the `_`, as with `tor` (`address_is_invalid_destination`).
#[must_use]
pub fn is_name(text: &str) -> bool {
    let bare = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=LABEL_LEN_MAX).contains(&label.len()) && label.bytes().all(allowed)
    };
    text.len() <= NAME_LEN_MAX && bare.split('.').all(is_label)
}

impl std::fmt::Display for Host {
    /// As in ADDRPORT: IPv6 in brackets, names in lower case.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Host::Ip(IpAddr::V4(address)) => write!(f, "{address}"),
            Host::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Host::Name(name) => f.write_str(&name.to_ascii_lowercase()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names() {
        assert_eq!(Host::parse(b"1.2.3.4"), Ok(Host::Ip([1, 2, 3, 4].into())));
        let v6 = Host::Ip("2001:db8::1".parse().unwrap());
        assert_eq!(Host::parse(b"[2001:db8::1]"), Ok(v6.clone()));
        assert_eq!(Host::parse(b"2001:DB8::1"), Ok(v6.clone()));
        assert_eq!(v6.to_string(), "[2001:db8::1]");
        assert_eq!(Host::parse(b"").unwrap().to_string(), "");
        assert_eq!(
            Host::parse(b"WWW.Example_x.com").unwrap().to_string(),
            "www.example_x.com"
        );
    }

    #[test]
    fn names_that_may_be_looked_up() {
        let long = format!("{}.example", "a".repeat(63));
        for name in [
            "a",
            "WWW.example_x.com",
            "a-b.c.",
            "1.2.3",
            "xn--mller-kva.de",
            &long,
        ] {
            assert!(is_name(name), "{name}");
        }
        let (label, name) = (format!("a{long}"), "a.".repeat(128));
        for name in [
            "", ".", "a..b", ".a", "a b", "a\\b", "<a>", "a\u{1}", "a@b", &label, &name,
        ] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn what_no_name_may_have() {
        for text in [
            &b"a b"[..],
            b"a:1",
            b"[x]",
            b"a\r\nb",
            b"\xFF",
            b"[1.2.3.4]",
            "\u{e9}".as_bytes(),
        ] {
            assert_eq!(Host::parse(text), Err(HostError::Character));
        }
        assert_eq!(Host::parse(&[b'a'; 256]), Err(HostError::TooLong));
        assert!(Host::parse(&[b'a'; 255]).is_ok());
    }
}
