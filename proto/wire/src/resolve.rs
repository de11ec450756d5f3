//! RELAY_RESOLVE and RELAY_RESOLVED: look a name or an address up at the exit (tor-spec 6.4).
//!
//! ```text
//! RESOLVE:  name NUL, where the name of an address is its in-addr.arpa or ip6.arpa name
//! RESOLVED: (type 1 | length 1 | value (length) | ttl 4)*
//! ```
//!
//! An answer of an unknown type is kept. An error beside other answers is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::host::{Host, HostError};
use crate::reader::{Reader, Truncated};
use crate::relay::{RELAY_BODY_MAX, RELAY_DATA_MAX};
use crate::writer::{TooLong, Writer};

/// Bytes of an answer besides its value.
const ANSWER_HEADER_LEN: usize = 6;
/// Most answers in a message: no more fit a relay cell.
pub const ANSWERS_MAX: usize = RELAY_DATA_MAX / ANSWER_HEADER_LEN;
/// What relays put into an error; readers ignore it (tor-spec 6.4).
const ERROR_TEXT: &[u8] = b"Error resolving hostname";
const IPV4_SUFFIX: &str = ".in-addr.arpa";
const IPV6_SUFFIX: &str = ".ip6.arpa";

const TYPE_NAME: u8 = 0x00;
const TYPE_IPV4: u8 = 0x04;
const TYPE_IPV6: u8 = 0x06;
const TYPE_ERROR_TRANSIENT: u8 = 0xF0;
const TYPE_ERROR: u8 = 0xF1;

/// Why a RESOLVE message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The name is not terminated.
    #[error("RESOLVE without NUL")]
    Unterminated,
    /// The name is none, or empty.
    #[error("RESOLVE: no host name")]
    Host,
    /// A name under in-addr.arpa or ip6.arpa that stands for no address.
    #[error("RESOLVE: malformed reverse name")]
    Reverse,
}

impl From<HostError> for ResolveError {
    fn from(_: HostError) -> Self {
        ResolveError::Host
    }
}

/// The body of a RESOLVE message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolve {
    /// Which addresses has this name (or, uselessly, address)?
    Host(Host),
    /// Which name has this address?
    Reverse(IpAddr),
}

impl Resolve {
    /// Reads the data of a RESOLVE message.
    pub fn read(data: &[u8]) -> Result<Self, ResolveError> {
        let text = Reader::new(data)
            .until_nul()
            .map_err(|_| ResolveError::Unterminated)?;
        let host = Host::parse(text)?;
        let Host::Name(name) = &host else {
            return Ok(Resolve::Host(host));
        };
        let lower = name.to_ascii_lowercase();
        if name.is_empty() {
            Err(ResolveError::Host)
        } else if let Some(octets) = lower.strip_suffix(IPV4_SUFFIX) {
            reverse_ipv4(octets)
                .map(Resolve::Reverse)
                .ok_or(ResolveError::Reverse)
        } else if let Some(nibbles) = lower.strip_suffix(IPV6_SUFFIX) {
            reverse_ipv6(nibbles)
                .map(Resolve::Reverse)
                .ok_or(ResolveError::Reverse)
        } else {
            Ok(Resolve::Host(host))
        }
    }

    /// Appends the data of a RESOLVE message.
    pub fn write(&self, out: &mut Vec<u8>) {
        let text = match self {
            Resolve::Host(Host::Ip(address)) => address.to_string(),
            Resolve::Host(host) => host.to_string(),
            Resolve::Reverse(IpAddr::V4(address)) => {
                let [a, b, c, d] = address.octets();
                format!("{d}.{c}.{b}.{a}{IPV4_SUFFIX}")
            }
            Resolve::Reverse(IpAddr::V6(address)) => {
                let octets = address.octets().into_iter().rev();
                let nibbles = octets.map(|octet| format!("{:x}.{:x}", octet & 15, octet >> 4));
                nibbles.collect::<Vec<_>>().join(".") + IPV6_SUFFIX
            }
        };
        let mut w = Writer::new(out);
        w.bytes(text.as_bytes());
        w.u8(0);
    }
}

/// "4.3.2.1" is 1.2.3.4.
fn reverse_ipv4(text: &str) -> Option<IpAddr> {
    let [a, b, c, d] = text.parse::<Ipv4Addr>().ok()?.octets();
    Some(Ipv4Addr::new(d, c, b, a).into())
}

/// 32 hexadecimal digits between dots, the last of the address first.
fn reverse_ipv6(text: &str) -> Option<IpAddr> {
    let mut address = 0_u128;
    let mut digits = 0_u32;
    for label in text.split('.') {
        let mut chars = label.chars();
        let (Some(digit), None) = (chars.next(), chars.next()) else {
            return None;
        };
        let nibble = u128::from(digit.to_digit(16)?);
        address |= nibble.checked_shl(4 * digits).filter(|_| digits < 32)?;
        digits += 1;
    }
    (digits == 32).then(|| Ipv6Addr::from(address).into())
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerValue {
    /// The name of an address. Any bytes: it comes from a DNS server by way of a relay.
    Name(Vec<u8>),
    /// An address.
    Ip(IpAddr),
    /// It failed; trying again may help.
    ErrorTransient,
    /// The look-up failed for good.
    Error,
    /// A type that the specification does not know.
    Unknown(u8, Vec<u8>),
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The value of the answer.
    pub value: AnswerValue,
    /// The seconds for which it may be cached.
    pub ttl: u32,
}

/// Why a RESOLVED message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResolvedError {
    /// The message ends within an answer.
    #[error("RESOLVED: {0}")]
    Truncated(#[from] Truncated),
    /// An address whose length is not that of its type.
    #[error("RESOLVED: wrong length of an address")]
    AddressLength,
    /// More than [`ANSWERS_MAX`].
    #[error("RESOLVED: more than {ANSWERS_MAX} answers")]
    TooMany,
    /// An error among other answers.
    #[error("RESOLVED: an error beside other answers")]
    ErrorAmongAnswers,
}

/// The body of a RESOLVED message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolved {
    /// At most [`ANSWERS_MAX`] answers; an error stands alone.
    pub answers: Vec<Answer>,
}

impl Resolved {
    /// Reads the data of a RESOLVED message.
    pub fn read(data: &[u8]) -> Result<Self, ResolvedError> {
        let mut r = Reader::new(data);
        let mut answers = Vec::new();
        while !r.is_empty() {
            if answers.len() == ANSWERS_MAX {
                return Err(ResolvedError::TooMany);
            }
            answers.push(read_answer(&mut r)?);
        }
        let is_error = |answer: &Answer| {
            matches!(
                answer.value,
                AnswerValue::Error | AnswerValue::ErrorTransient
            )
        };
        if answers.len() > 1 && answers.iter().any(is_error) {
            return Err(ResolvedError::ErrorAmongAnswers);
        }
        Ok(Resolved { answers })
    }

    /// Appends the data of a RESOLVED message. [`TooLong`] if a value is longer than 255 bytes or
    /// all of them than a relay cell; the caller then sends fewer.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let start = out.len();
        let written = self
            .answers
            .iter()
            .try_for_each(|answer| write_answer(answer, out));
        if written.is_err() || out.len() - start > RELAY_BODY_MAX {
            out.truncate(start);
            return Err(TooLong);
        }
        Ok(())
    }
}

fn read_answer(r: &mut Reader<'_>) -> Result<Answer, ResolvedError> {
    let kind = r.u8()?;
    let len = r.u8()?;
    let value = r.take(len.into())?;
    let ttl = r.u32()?;
    let value = match kind {
        TYPE_NAME => AnswerValue::Name(value.to_vec()),
        TYPE_IPV4 => AnswerValue::Ip(Ipv4Addr::from(array::<4>(value)?).into()),
        TYPE_IPV6 => AnswerValue::Ip(Ipv6Addr::from(array::<16>(value)?).into()),
        TYPE_ERROR_TRANSIENT => AnswerValue::ErrorTransient,
        TYPE_ERROR => AnswerValue::Error,
        _ => AnswerValue::Unknown(kind, value.to_vec()),
    };
    Ok(Answer { value, ttl })
}

fn array<const N: usize>(value: &[u8]) -> Result<[u8; N], ResolvedError> {
    value.try_into().map_err(|_| ResolvedError::AddressLength)
}

fn write_answer(answer: &Answer, out: &mut Vec<u8>) -> Result<(), TooLong> {
    let octets;
    let (kind, value) = match &answer.value {
        AnswerValue::Name(name) => (TYPE_NAME, name.as_slice()),
        AnswerValue::Ip(IpAddr::V4(address)) => {
            octets = address.to_ipv6_mapped().octets();
            (TYPE_IPV4, &octets[12..])
        }
        AnswerValue::Ip(IpAddr::V6(address)) => {
            octets = address.octets();
            (TYPE_IPV6, octets.as_slice())
        }
        AnswerValue::ErrorTransient => (TYPE_ERROR_TRANSIENT, ERROR_TEXT),
        AnswerValue::Error => (TYPE_ERROR, ERROR_TEXT),
        AnswerValue::Unknown(kind, value) => (*kind, value.as_slice()),
    };
    let mut w = Writer::new(out);
    w.u8(kind);
    w.u8_prefixed(value)?;
    w.u32(answer.ttl);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    fn round_trip(bytes: &[u8], message: &Resolve) {
        assert_eq!(Resolve::read(bytes).as_ref(), Ok(message));
        let mut out = Vec::new();
        message.write(&mut out);
        assert_eq!(out, bytes);
    }

    #[test]
    fn published_resolve_vectors() {
        let name = Host::Name("www.torproject.org".into());
        round_trip(b"www.torproject.org\0", &Resolve::Host(name));
        let v4 = Resolve::Reverse("127.0.0.1".parse().unwrap());
        round_trip(b"1.0.0.127.in-addr.arpa\0", &v4);
        let v6 = Resolve::Reverse("2001::".parse().unwrap());
        let text = b"0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.2.ip6.arpa\0";
        round_trip(text, &v6);
        let v6 = Resolve::Host(Host::Ip("2001:db8::1".parse().unwrap()));
        round_trip(b"2001:db8::1\0", &v6);
    }

    #[test]
    fn malformed_resolve() {
        assert_eq!(Resolve::read(b"a"), Err(ResolveError::Unterminated));
        assert_eq!(Resolve::read(b"\0"), Err(ResolveError::Host));
        assert_eq!(Resolve::read(b"a b\0"), Err(ResolveError::Host));
        let long = [&b"0."[..]].repeat(32).concat();
        let long = [&long, &b"0.ip6.arpa\0"[..]].concat();
        for text in [
            &b"1.in-addr.arpa\0"[..],
            b"1.2.3.400.IN-ADDR.arpa\0",
            b"0.ip6.arpa\0",
            &long,
        ] {
            assert_eq!(Resolve::read(text), Err(ResolveError::Reverse));
        }
    }

    #[test]
    fn published_resolved_vectors() {
        let ip = |text: &str, ttl| Answer {
            value: AnswerValue::Ip(text.parse().unwrap()),
            ttl,
        };
        let name = b"www.torproject.org".to_vec();
        let cases = [
            (&b""[..], vec![]),
            (
                &hex!("04 04 7f000001 00000E10 04 04 7f000002 00001c20"),
                vec![ip("127.0.0.1", 3600), ip("127.0.0.2", 7200)],
            ),
            (
                &hex!("06 10 12340000000000000000000000005678 00000080"),
                vec![ip("1234::5678", 128)],
            ),
            (
                &hex!("00 12 7777772e746f7270726f6a6563742e6f7267 00000258"),
                vec![Answer {
                    value: AnswerValue::Name(name.clone()),
                    ttl: 600,
                }],
            ),
            (
                &hex!("63 12 7777772e746f7270726f6a6563742e6f7267 00000258"),
                vec![Answer {
                    value: AnswerValue::Unknown(99, name),
                    ttl: 600,
                }],
            ),
        ];
        for (bytes, answers) in cases {
            let message = Resolved { answers };
            assert_eq!(Resolved::read(bytes).as_ref(), Ok(&message));
            let mut out = Vec::new();
            message.write(&mut out).unwrap();
            assert_eq!(out, bytes);
        }
        let error = Resolved::read(&hex!("F0 00 00000E10")).unwrap().answers;
        assert_eq!(
            error,
            [Answer {
                value: AnswerValue::ErrorTransient,
                ttl: 3600
            }]
        );
    }

    #[test]
    fn malformed_resolved() {
        let mixed = hex!("04 04 7f000001 00000E10 F1 00 00000000");
        assert_eq!(
            Resolved::read(&mixed),
            Err(ResolvedError::ErrorAmongAnswers)
        );
        assert_eq!(
            Resolved::read(&hex!("04 03 7f0000 00000E10")),
            Err(ResolvedError::AddressLength)
        );
        assert_eq!(
            Resolved::read(&[0; 6 * (ANSWERS_MAX + 1)]),
            Err(ResolvedError::TooMany)
        );
        for len in (1..mixed.len()).filter(|len| *len != 10) {
            assert_eq!(Resolved::read(&mixed[..len]), Err(Truncated.into()));
        }
    }

    #[test]
    fn more_than_a_cell_is_not_written() {
        let answer = Answer {
            value: AnswerValue::Name(vec![b'a'; 255]),
            ttl: 1,
        };
        let mut out = vec![1];
        let message = Resolved {
            answers: vec![answer.clone(), answer],
        };
        assert_eq!((message.write(&mut out), out), (Err(TooLong), vec![1]));
    }

    proptest! {
        #[test]
        fn reading_is_total_and_stable(data in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Resolve::read(&data);
            let _ = Resolved::read(&data);
        }

        #[test]
        fn reverse_names_come_back(v4: [u8; 4], v6: [u8; 16]) {
            for address in [IpAddr::from(v4), IpAddr::from(v6)] {
                let mut out = Vec::new();
                Resolve::Reverse(address).write(&mut out);
                prop_assert_eq!(Resolve::read(&out), Ok(Resolve::Reverse(address)));
            }
        }
    }
}
