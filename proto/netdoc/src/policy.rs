//! Exit policies: the rules of a server descriptor, and the port lists that microdescriptors and
//! consensuses make of them (dir-spec.txt sections 2.1.1, 2.1.3 and 3.8.2).
//!
//! [`AddrPolicy`] is an ordered list of rules on addresses and ports, [`PortPolicy`] a list of
//! ports that are all accepted or all rejected. In a descriptor `*` is every IPv4 address; in a
//! configuration it is every address. Port 0 is never allowed.

mod addr;
mod ports;
mod rule;
mod summary;

pub use addr::AddrPolicy;
pub use ports::PortPolicy;
pub use rule::{AddrRule, PRIVATE_NETS, is_internal};

use std::fmt;
use std::str::FromStr;

/// Most rules of a policy; a descriptor of 20000 bytes cannot hold more.
pub const RULES_MAX: usize = 2048;
/// Longest summary, in bytes, its first word included (dir-spec.txt section 3.8.2).
pub const SUMMARY_LEN_MAX: usize = 1000;

/// Why a text is no policy, or no rule of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPolicy {
    /// The first word is neither accept nor reject.
    #[error("policy starts with neither accept nor reject")]
    BadAction,
    /// An address, or the mask behind it, is malformed.
    #[error("malformed address in a policy")]
    BadAddress,
    /// A port or range of ports is malformed.
    #[error("malformed port in a policy")]
    BadPorts,
    /// `accept6` and `reject6` have an IPv4 address, or the other way round.
    #[error("address of the wrong family in a policy")]
    WrongFamily,
    /// More than [`RULES_MAX`] rules, or a port list of more than [`SUMMARY_LEN_MAX`] entries.
    #[error("policy has too many entries")]
    TooLong,
    /// A port list without one port.
    #[error("policy lists no port")]
    Empty,
}

/// What a rule does with what matches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Connections are made.
    Accept,
    /// Connections are refused.
    Reject,
}

impl Action {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl FromStr for Action {
    type Err = BadPolicy;

    fn from_str(text: &str) -> Result<Self, BadPolicy> {
        match text {
            "accept" => Ok(Self::Accept),
            "reject" => Ok(Self::Reject),
            _ => Err(BadPolicy::BadAction),
        }
    }
}

/// Ports from `low` to `high`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// The lowest port.
    pub low: u16,
    /// The highest port, not below `low`.
    pub high: u16,
}

impl PortRange {
    /// All ports that there are.
    pub const ALL: Self = Self {
        low: 1,
        high: u16::MAX,
    };

    /// Whether a port is in the range.
    pub fn contains(&self, port: u16) -> bool {
        (self.low..=self.high).contains(&port)
    }

    /// Whether it is every port; a low end of 0 is taken for 1.
    pub fn is_all(&self) -> bool {
        self.low <= 1 && self.high == u16::MAX
    }

    /// Reads `80` or `80-90`.
    pub fn parse(text: &str) -> Result<Self, BadPolicy> {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let (low, high) = (parse_port(low)?, parse_port(high)?);
        if low > high {
            Err(BadPolicy::BadPorts)
        } else {
            Ok(Self { low, high })
        }
    }
}

fn parse_port(text: &str) -> Result<u16, BadPolicy> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadPolicy::BadPorts);
    }
    text.parse().map_err(|_| BadPolicy::BadPorts)
}

impl fmt::Display for PortRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            write!(out, "{}", self.low)
        } else {
            write!(out, "{}-{}", self.low, self.high)
        }
    }
}
