//! How an operator names relays: `$HEX` or 40 digits, a nickname, an address or a range of them
//! (`192.0.2.0/24`, `[2001:db8::]/32`), a country (`{de}`; `{??}` where it is not known). These are
//! the forms of `tor`'s lists; `$HEX~nickname` and `$HEX=nickname` mean `$HEX`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use cepa_crypto::RsaId;
use cepa_dir::{Country, GeoIp};

use super::Subject;

/// Most patterns of a set.
pub const PATTERNS_MAX: usize = 10_000;
/// The longest nickname (dir-spec 2.1.3).
const NICKNAME_LEN_MAX: usize = 19;

/// A text that names no relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected $ and 40 hexadecimal digits, a nickname, an address or range, or {{cc}}")]
pub struct RelayPatternError;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Rsa(RsaId),
    /// In any case of letters. Nicknames are not unique.
    Nickname,
    /// The first bits of an address.
    Range(IpAddr, u8),
    Country(Country),
}

/// Names one relay or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayPattern {
    /// As it was written.
    text: String,
    kind: Kind,
}

impl RelayPattern {
    /// Whether a relay is meant.
    #[must_use]
    pub fn matches(&self, relay: &Subject<'_>, geoip: &GeoIp) -> bool {
        match &self.kind {
            Kind::Rsa(id) => relay.rsa == Some(id),
            Kind::Nickname => self.text.eq_ignore_ascii_case(relay.nickname),
            Kind::Range(base, len) => {
                let mut addrs = relay.addrs.iter().flatten();
                addrs.any(|addr| is_within(*addr, *base, *len))
            }
            Kind::Country(country) => !geoip.is_empty() && relay.country(geoip) == *country,
        }
    }

    pub(super) fn is_country(&self) -> bool {
        matches!(self.kind, Kind::Country(_))
    }

    /// What kind of name it is, in words.
    #[must_use]
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Rsa(_) => "fingerprint",
            Kind::Nickname => "nickname",
            Kind::Range(..) => "address range",
            Kind::Country(_) => "country",
        }
    }
}

fn is_within(addr: IpAddr, base: IpAddr, len: u8) -> bool {
    let prefix = |bits: u128, width: u8| match len {
        0 => 0,
        len => bits >> width.saturating_sub(len),
    };
    match (addr, base) {
        (IpAddr::V4(addr), IpAddr::V4(base)) => {
            prefix(addr.to_bits().into(), 32) == prefix(base.to_bits().into(), 32)
        }
        (IpAddr::V6(addr), IpAddr::V6(base)) => {
            prefix(addr.to_bits(), 128) == prefix(base.to_bits(), 128)
        }
        _ => false,
    }
}

fn parse_range(text: &str) -> Option<Kind> {
    let (addr, len) = match text.split_once('/') {
        Some((addr, len)) => (addr, Some(len)),
        None => (text, None),
    };
    let bare = addr
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let addr: IpAddr = bare.unwrap_or(addr).parse().ok()?;
    let width = if addr.is_ipv4() { 32 } else { 128 };
    if bare.is_some() && addr.is_ipv4() {
        return None;
    }
    let len: u8 = match len {
        Some(len) => len.parse().ok()?,
        None => width,
    };
    (len <= width).then_some(Kind::Range(addr, len))
}

fn parse_id(text: &str) -> Option<Kind> {
    let digits = text.strip_prefix('$').unwrap_or(text);
    let (id, rest) = digits.split_at_checked(40)?;
    let name = rest.strip_prefix(['~', '=']);
    let is_named = name.is_some_and(is_nickname) && text.starts_with('$');
    let id = (rest.is_empty() || is_named).then(|| id.parse().ok())?;
    id.map(Kind::Rsa)
}

fn is_nickname(text: &str) -> bool {
    (1..=NICKNAME_LEN_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

impl FromStr for RelayPattern {
    type Err = RelayPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let in_braces = text
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        let kind = match in_braces {
            Some(code) => Country::parse(code).map(Kind::Country),
            None => parse_id(text)
                .or_else(|| is_nickname(text).then_some(Kind::Nickname))
                .or_else(|| parse_range(text)),
        };
        let kind = kind.ok_or(RelayPatternError)?;
        let text = text.to_owned();
        Ok(RelayPattern { text, kind })
    }
}

impl fmt::Display for RelayPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
