//! Subprotocol versions: `Cons=1-2 Desc=1-2 …` of `proto` and `pr` lines (tor-spec.txt
//! section 9; dir-spec.txt section 2.1.1).
//!
//! Versions are 0 to 63, one bit each. Names that we do not know are kept like all others.
//! What `tor` refuses we refuse: no `=`, an empty or overlong name, a version above 63, a
//! range that falls. Encoding is canonical: names sorted, ranges as compact as possible.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::item::LINE_LEN_MAX;

/// Longest name of a subprotocol, in bytes (`tor`'s `MAX_PROTOCOL_NAME_LENGTH`).
pub const NAME_LEN_MAX: usize = 100;
/// Highest version.
pub const VERSION_MAX: u8 = 63;

/// Why a text is no list of subprotocol versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadProtocols {
    /// An entry has no `=`, or a bad name.
    #[error("not an entry of the form NAME=VERSIONS")]
    BadEntry,
    /// A version is no number from 0 to 63, or a range falls.
    #[error("not a version from 0 to 63, or not a range of them")]
    BadRange,
    /// Longer than a line may be. `tor` has no other bound on the entries, and a vote that one
    /// authority reads all must read.
    #[error("longer than {LINE_LEN_MAX} bytes")]
    TooLong,
}

/// Names of the subprotocols that there are (tor-spec.txt section 9; `FlowCtrl` and `Conflux`
/// from proposals 324 and 329).
pub mod name {
    /// Link protocols.
    pub const LINK: &str = "Link";
    /// Authentication of links.
    pub const LINK_AUTH: &str = "LinkAuth";
    /// Relay cells and circuit extension.
    pub const RELAY: &str = "Relay";
    /// Introduction points.
    pub const HS_INTRO: &str = "HSIntro";
    /// Rendezvous points.
    pub const HS_REND: &str = "HSRend";
    /// Directories of onion services.
    pub const HS_DIR: &str = "HSDir";
    /// Directory caches.
    pub const DIR_CACHE: &str = "DirCache";
    /// Server descriptors.
    pub const DESC: &str = "Desc";
    /// Microdescriptors.
    pub const MICRODESC: &str = "Microdesc";
    /// Consensuses.
    pub const CONS: &str = "Cons";
    /// Padding.
    pub const PADDING: &str = "Padding";
    /// Flow control.
    pub const FLOW_CTRL: &str = "FlowCtrl";
    /// Multipath circuits.
    pub const CONFLUX: &str = "Conflux";
}

/// A set of subprotocol versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocols {
    entries: BTreeMap<String, u64>,
}

impl Protocols {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a list; entries of one name are joined.
    pub fn parse(text: &str) -> Result<Self, BadProtocols> {
        Self::parse_with(text, |before, versions| before | versions)
    }

    /// Reads a list; of entries of one name the first counts, as in what votes recommend and
    /// require.
    pub fn parse_first(text: &str) -> Result<Self, BadProtocols> {
        Self::parse_with(text, |before, _| before)
    }

    fn parse_with(text: &str, join: impl Fn(u64, u64) -> u64) -> Result<Self, BadProtocols> {
        let mut entries: BTreeMap<String, u64> = BTreeMap::new();
        if text.len() > LINE_LEN_MAX {
            return Err(BadProtocols::TooLong);
        }
        for entry in text.split(' ').filter(|word| !word.is_empty()) {
            let (name, versions) = entry.split_once('=').ok_or(BadProtocols::BadEntry)?;
            if !is_name(name) {
                return Err(BadProtocols::BadEntry);
            }
            let versions = parse_versions(versions)?;
            let joined = entries
                .get(name)
                .map_or(versions, |before| join(*before, versions));
            entries.insert(name.to_owned(), joined);
        }
        Ok(Self { entries })
    }

    /// Writes the list in canonical form; the empty set is the empty string.
    pub fn encode(&self) -> String {
        self.to_string()
    }

    /// Whether a version of a subprotocol is in the set.
    pub fn supports(&self, name: &str, version: u8) -> bool {
        version <= VERSION_MAX && self.versions(name) & (1 << version) != 0
    }

    /// The versions of a subprotocol, one bit each; zero if the name is unknown.
    pub fn versions(&self, name: &str) -> u64 {
        self.entries.get(name).copied().unwrap_or(0)
    }

    /// Adds one version; one above 63 or of a bad name is not added.
    pub fn insert(&mut self, name: &str, version: u8) {
        if version <= VERSION_MAX && is_name(name) {
            *self.entries.entry(name.to_owned()).or_insert(0) |= 1 << version;
        }
    }

    /// What of `required` is not in this set.
    pub fn missing(&self, required: &Self) -> Self {
        let entries = required.entries.iter().filter_map(|(name, versions)| {
            let missing = versions & !self.versions(name);
            (missing != 0).then(|| (name.clone(), missing))
        });
        Self {
            entries: entries.collect(),
        }
    }

    /// Whether all of `required` is in this set.
    pub fn contains_all(&self, required: &Self) -> bool {
        required
            .entries
            .iter()
            .all(|(name, versions)| versions & !self.versions(name) == 0)
    }

    /// Whether no version is in the set.
    pub fn is_empty(&self) -> bool {
        self.entries.values().all(|versions| *versions == 0)
    }

    /// Names and their versions as bits, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.entries
            .iter()
            .map(|(name, versions)| (name.as_str(), *versions))
    }

    /// The versions that at least `threshold` of `votes` have (dir-spec.txt section 3.8).
    pub fn tally<'a>(votes: impl IntoIterator<Item = &'a Self>, threshold: usize) -> Self {
        let mut counts: BTreeMap<&str, [usize; 64]> = BTreeMap::new();
        for (name, versions) in votes.into_iter().flat_map(Self::iter) {
            let count = counts.entry(name).or_insert([0; 64]);
            for (version, count) in count.iter_mut().enumerate() {
                *count += usize::from(versions >> version & 1 != 0);
            }
        }
        let entries = counts.into_iter().filter_map(|(name, count)| {
            let versions = (count.iter().enumerate())
                .filter(|(_, count)| **count >= threshold.max(1))
                .fold(0, |versions, (version, _)| versions | 1 << version);
            (versions != 0).then(|| (name.to_owned(), versions))
        });
        Self {
            entries: entries.collect(),
        }
    }
}

impl FromStr for Protocols {
    type Err = BadProtocols;

    fn from_str(text: &str) -> Result<Self, BadProtocols> {
        Self::parse(text)
    }
}

impl fmt::Display for Protocols {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, versions)) in self.entries.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(out, "{separator}{name}=")?;
            for (index, (low, high)) in ranges(*versions).into_iter().enumerate() {
                let separator = if index == 0 { "" } else { "," };
                write!(out, "{separator}{low}")?;
                if high > low {
                    write!(out, "-{high}")?;
                }
            }
        }
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_LEN_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Reads `1-3,5` as bits; nothing at all is no version, as `tor` has it.
fn parse_versions(text: &str) -> Result<u64, BadProtocols> {
    if text.is_empty() {
        return Ok(0);
    }
    let mut bits = 0;
    for range in text.split(',') {
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let (low, high) = (parse_version(low)?, parse_version(high)?);
        if low > high {
            return Err(BadProtocols::BadRange);
        }
        bits |= (u64::MAX >> (VERSION_MAX - (high - low))) << low;
    }
    Ok(bits)
}

fn parse_version(text: &str) -> Result<u8, BadProtocols> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(version) if is_number && version <= VERSION_MAX => Ok(version),
        _ => Err(BadProtocols::BadRange),
    }
}

/// The runs of set bits, ascending, both ends included.
fn ranges(bits: u64) -> Vec<(u8, u8)> {
    let mut runs: Vec<(u8, u8)> = Vec::new();
    for version in (0..=VERSION_MAX).filter(|version| bits >> version & 1 != 0) {
        match runs.last_mut() {
            Some((_, high)) if *high + 1 == version => *high = version,
            _ => runs.push((version, version)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_writes_what_tor_advertises() {
        let line = "Conflux=1 Cons=1-2 Desc=1-4 DirCache=2 FlowCtrl=1-2 HSDir=2 HSIntro=4-5 \
                    HSRend=1-2 Link=3-5 LinkAuth=3 Microdesc=1-3 Padding=2 Relay=2-6";
        let protocols = Protocols::parse(line).unwrap();
        assert_eq!(protocols.encode(), line);
        assert!(protocols.supports(name::RELAY, 6) && !protocols.supports(name::RELAY, 1));
        assert!(!protocols.supports(name::RELAY, 64) && !protocols.supports("Relais", 2));
        assert_eq!(protocols.versions(name::LINK), 0b11_1000);
    }

    #[test]
    fn refuses_what_tor_refuses() {
        for text in [
            "Link",
            "=1",
            "Link=1-",
            "Link=-1",
            "Link=3-1",
            "Link=64",
            "Link=1-64",
            "Link=+1",
            "Link=1,,2",
            "Link=,1",
            "Li_nk=1",
            "Link=1 Cons",
            "Link=1\t",
            "Link=1=2",
            "Link=a",
        ] {
            assert!(Protocols::parse(text).is_err(), "{text}");
        }
        assert!(Protocols::parse(&format!("{}=1", "a".repeat(101))).is_err());
    }

    #[test]
    fn joins_sorts_and_compacts() {
        let protocols = Protocols::parse("Foo=63  Bar=3,1-2 Foo=0-62 Baz=").unwrap();
        assert_eq!(protocols.encode(), "Bar=1-3 Baz= Foo=0-63");
    }

    #[test]
    fn counts_votes() {
        let votes = ["Link=1-3 Cons=1", "Link=2-4", "Link=3-5"].map(|t| t.parse().unwrap());
        assert_eq!(Protocols::tally(&votes, 2).encode(), "Link=2-4");
        assert_eq!(Protocols::tally(&votes, 3).encode(), "Link=3");
        let (all, some) = (&votes[0], &votes[1]);
        assert_eq!(all.missing(some).encode(), "Link=4");
        assert!(!all.contains_all(some) && all.contains_all(&Protocols::new()));
    }

    proptest! {
        #[test]
        fn encoded_lists_parse(entries in proptest::collection::btree_map(
            "[A-Za-z0-9-]{1,8}", any::<u64>(), 0..8)
        ) {
            let protocols = Protocols { entries };
            prop_assert_eq!(Protocols::parse(&protocols.encode()), Ok(protocols));
        }

        #[test]
        fn any_text_is_survived(text in "[A-C=,0-9 -]{0,20}|\\PC{0,20}") {
            let _ = Protocols::parse(&text);
        }
    }
}
