//! Which country an address is in, from files in `tor`'s format (`geoip`, `geoip6`; in Debian's
//! package `tor-geoipdb`).
//!
//! A line is `LOW,HIGH,CC`: for IPv4 numbers, for IPv6 addresses; in quotes or not, more columns
//! ignored, comments after `#`. A line that is anything else is an error that names it. Ranges may
//! come in any order; the one that begins last before an address decides. As in `tor`, a relay is
//! where its IPv4 address is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most ranges of a file.
const RANGES_MAX: usize = 4_000_000;

/// A country of two letters, upper case; `??` for none that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Country([u8; 2]);

impl Country {
    /// The country of an address that no file has.
    pub const UNKNOWN: Country = Country(*b"??");
    /// Anonymous proxies, in old files: as good as unknown.
    const PROXY: Country = Country(*b"A1");

    /// Reads two letters or digits, or `??`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let code: [u8; 2] = text.as_bytes().try_into().ok()?;
        let is_code = code.iter().all(u8::is_ascii_alphanumeric) || code == *b"??";
        is_code.then(|| Country(code.map(|byte| byte.to_ascii_uppercase())))
    }

    /// Whether it is none.
    #[must_use]
    pub fn is_unknown(self) -> bool {
        self == Country::UNKNOWN || self == Country::PROXY
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0).to_lowercase())
    }
}

/// Why a file of countries is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GeoIpError {
    /// The line of this number, from 1, is no range.
    #[error("line {0}: expected LOW,HIGH,CC, a range of {1} addresses and a country")]
    Line(usize, &'static str),
    /// More than `RANGES_MAX` ranges.
    #[error("more than {RANGES_MAX} ranges")]
    TooMany,
    /// The file has no range at all.
    #[error("no line of the form LOW,HIGH,CC")]
    Empty,
}

/// Countries of addresses; knows none by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GeoIp {
    v4: Vec<(u32, u32, Country)>,
    v6: Vec<(u128, u128, Country)>,
}

impl GeoIp {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Takes a file `geoip`.
    ///
    /// # Errors
    /// The first line that is no range.
    pub fn read_v4(&mut self, text: &str) -> Result<(), GeoIpError> {
        self.v4 = ranges(text, "IPv4", |word| {
            let dotted = || word.parse().map(Ipv4Addr::to_bits).ok();
            word.parse().ok().or_else(dotted)
        })?;
        Ok(())
    }

    /// Takes a file `geoip6`.
    ///
    /// # Errors
    /// The first line that is no range.
    pub fn read_v6(&mut self, text: &str) -> Result<(), GeoIpError> {
        self.v6 = ranges(text, "IPv6", |word| {
            word.parse().map(Ipv6Addr::to_bits).ok()
        })?;
        Ok(())
    }

    /// Whether there are countries of IPv4 addresses.
    #[must_use]
    pub fn has_v4(&self) -> bool {
        !self.v4.is_empty()
    }

    /// Whether there are countries of IPv6 addresses.
    #[must_use]
    pub fn has_v6(&self) -> bool {
        !self.v6.is_empty()
    }

    /// The country of an address.
    #[must_use]
    pub fn country(&self, addr: IpAddr) -> Country {
        let found = match addr {
            IpAddr::V4(addr) => lookup(&self.v4, addr.to_bits()),
            IpAddr::V6(addr) => lookup(&self.v6, addr.to_bits()),
        };
        found.unwrap_or(Country::UNKNOWN)
    }
}

fn lookup<T: Copy + Ord>(ranges: &[(T, T, Country)], addr: T) -> Option<Country> {
    let behind = ranges.partition_point(|(low, ..)| *low <= addr);
    let (_, high, country) = ranges.get(behind.checked_sub(1)?)?;
    (addr <= *high).then_some(*country)
}

fn ranges<T: Ord>(
    text: &str,
    family: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<(T, T, Country)>, GeoIpError> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split(',').map(|word| word.trim().trim_matches('"'));
        let range = (|| {
            let (low, high) = (parse(words.next()?)?, parse(words.next()?)?);
            let country = Country::parse(words.next()?)?;
            (low <= high).then_some((low, high, country))
        })();
        found.push(range.ok_or(GeoIpError::Line(at + 1, family))?);
        if found.len() > RANGES_MAX {
            return Err(GeoIpError::TooMany);
        }
    }
    if found.is_empty() {
        return Err(GeoIpError::Empty);
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_files_of_tor() {
        let mut geoip = GeoIp::default();
        let v4 = "# a comment\n\n16777216,16777471,AU\n\"16777472\",\"16778239\",\"cn\",\"CHN\"\n";
        geoip.read_v4(v4).unwrap();
        geoip.read_v6("2001:200::,2001:200:ffff::,JP\r\n").unwrap();
        let country = |addr: &str| geoip.country(addr.parse().unwrap()).to_string();
        assert_eq!(country("1.0.0.0"), "au");
        assert_eq!(country("1.0.0.255"), "au");
        assert_eq!(country("1.0.1.0"), "cn");
        assert_eq!(country("1.0.4.0"), "??");
        assert_eq!(country("0.0.0.1"), "??");
        assert_eq!(country("2001:200::1"), "jp");
        assert_eq!(country("2001:201::1"), "??");
    }

    #[test]
    fn a_wrong_line_is_named() {
        let mut geoip = GeoIp::default();
        for wrong in ["x", "1,2", "2,1,DE", "1,2,DEU", "::,::1,DE"] {
            let text = format!("1,2,DE\n# fine\n{wrong}\n");
            let error = geoip.read_v4(&text).unwrap_err();
            assert_eq!(error, GeoIpError::Line(3, "IPv4"), "{wrong}");
        }
        assert!(geoip.read_v6("1,2,DE\n").is_err());
        assert_eq!(geoip.read_v6("# none\n"), Err(GeoIpError::Empty));
        assert!(geoip.is_empty());
    }
}
