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
use crate::relay::RELAY_DATA_MAX;
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
    /// It failed for good.
    Error,
    /// A type that the specification does not know.
    Unknown(u8, Vec<u8>),
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it says.
    pub value: AnswerValue,
    /// The seconds for which it may be cached.
    pub ttl: u32,
}

/// Why a RESOLVED message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResolvedError {
    /// It ends within an answer.
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
        if written.is_err() || out.len() - start > RELAY_DATA_MAX {
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
