//! The order of versions of `tor` and what votes agree on of them (dir-spec 3.8; version-spec).
//!
//! `MAJOR.MINOR[.MICRO[(.|pre|rc)PATCHLEVEL]][-STATUS] [(rREVISION)|(git-HEX)]`, with `Tor ` before
//! it in `v` lines. What is no version comes after all that are, in the order of its bytes. Two
//! spellings of one version are equal in this order, and stay in the order in which they came:
//! sorting is stable, and takes any order without harm.

use std::cmp::Ordering;

use cepa_netdoc::vote::{Vote, VoteRouter};

use super::most_frequent as most_frequent_item;

/// The bytes of a status tag that count.
const TAG_LEN_MAX: usize = 31;
/// Most digits of a commit.
const COMMIT_LEN_MAX: usize = 40;
/// What ends a status tag.
const BLANKS: [char; 5] = [' ', '\t', '\r', '\n', '#'];

/// What follows the third number: a pre-release of old, a candidate of old, or neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    Pre,
    Candidate,
    Release,
}

/// A version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version<'a> {
    numbers: [u32; 3],
    status: Status,
    patch_level: u32,
    tag: &'a [u8],
    revision: u32,
    commit: &'a str,
}

impl<'a> Version<'a> {
    /// Reads a version, with or without `Tor ` before it.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let prefix = text
            .get(..4)
            .filter(|prefix| prefix.eq_ignore_ascii_case("tor "));
        let mut rest = text.get(prefix.map_or(0, str::len)..)?;
        let mut version = Version {
            numbers: [0; 3],
            status: Status::Release,
            patch_level: 0,
            tag: &[],
            revision: 0,
            commit: "",
        };
        version.numbers[0] = number(&mut rest)?;
        rest = rest.strip_prefix('.')?;
        version.numbers[1] = number(&mut rest)?;
        if rest.is_empty() || rest.starts_with('-') {
            return version.with_tag(rest);
        }
        rest = rest.strip_prefix('.')?;
        version.numbers[2] = number(&mut rest)?;
        if rest.is_empty() || rest.starts_with('-') {
            return version.with_tag(rest);
        }
        let statuses = [
            (".", Status::Release),
            ("pre", Status::Pre),
            ("rc", Status::Candidate),
        ];
        let behind = statuses
            .into_iter()
            .find_map(|(word, status)| Some((rest.strip_prefix(word)?, status)));
        (rest, version.status) = behind?;
        version.patch_level = number(&mut rest)?;
        version.with_tag(rest)
    }

    /// Reads the status tag, and what may stand behind it.
    fn with_tag(mut self, rest: &'a str) -> Option<Self> {
        let rest = rest.strip_prefix(['-', '.']).unwrap_or(rest);
        let (tag, behind) = rest.split_at(rest.find(BLANKS).unwrap_or(rest.len()));
        let tag = tag.as_bytes();
        self.tag = tag.get(..TAG_LEN_MAX).unwrap_or(tag);
        let behind = behind.trim_start_matches([' ', '\t', '\r', '\n']);
        if let Some(revision) = behind.strip_prefix("(r") {
            let digits = revision.len()
                - revision
                    .trim_start_matches(|c: char| c.is_ascii_digit())
                    .len();
            let digits = revision.get(..digits).unwrap_or_default();
            // The low 32 bits of what C makes of it.
            let value: i64 = digits.parse().unwrap_or(match digits {
                "" => 0,
                _ => i64::MAX,
            });
            let [a, b, c, d, ..] = value.to_le_bytes();
            self.revision = u32::from_le_bytes([a, b, c, d]);
        } else if let Some(commit) = behind.strip_prefix("(git-") {
            let (hex, _) = commit.split_once(')')?;
            let is_hex = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
            let len = hex.len();
            if !is_hex || len == 0 || len % 2 == 1 || len > COMMIT_LEN_MAX {
                return None;
            }
            self.commit = hex;
        }
        Some(self)
    }

    /// Whether it is older than a version of ours.
    pub(crate) fn is_before(&self, other: &str) -> bool {
        let other = Version::parse(other);
        other.is_some_and(|other| self.compare(&other) == Ordering::Less)
    }

    /// Which is later. Numbers are compared by their difference in 32 bits, as `tor` does.
    fn compare(&self, other: &Version<'_>) -> Ordering {
        let by = |a: u32, b: u32| a.wrapping_sub(b).cast_signed().cmp(&0);
        let [major, minor, micro] = self.numbers;
        let [other_major, other_minor, other_micro] = other.numbers;
        by(major, other_major)
            .then(by(minor, other_minor))
            .then(by(micro, other_micro))
            .then(self.status.cmp(&other.status))
            .then(by(self.patch_level, other.patch_level))
            .then(self.tag.cmp(other.tag))
            .then(by(self.revision, other.revision))
            .then(self.commit.len().cmp(&other.commit.len()))
            .then_with(|| {
                let lower = |text: &str| text.to_ascii_lowercase();
                lower(self.commit).cmp(&lower(other.commit))
            })
    }
}

/// A number at the start of a text, which it is cut from; at most `i32::MAX`.
fn number(rest: &mut &str) -> Option<u32> {
    let behind = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = rest.get(..rest.len() - behind.len())?;
    let value: u32 = match digits.trim_start_matches('0') {
        "" if digits.is_empty() => return None,
        "" => 0,
        digits => digits.parse().ok()?,
    };
    *rest = behind;
    (value <= i32::MAX.unsigned_abs()).then_some(value)
}

/// Versions that more than half of the votes with such a line list, joined by commas.
pub(super) fn recommended(votes: &[&Vote], pick: impl Fn(&Vote) -> Option<&str>) -> String {
    let lists: Vec<&str> = votes.iter().filter_map(|vote| pick(vote)).collect();
    let mut versions: Vec<&str> = Vec::new();
    for list in &lists {
        let own = list.split(',').map(|one| one.trim_matches(is_space));
        let own: Vec<&str> = own.filter(|version| !version.is_empty()).collect();
        let mut own = sorted(own);
        own.dedup_by(|a, b| order(a, b) == Ordering::Equal);
        versions.extend(own);
    }
    let versions = sorted(versions);
    let runs = versions
        .chunk_by(|a, b| a == b)
        .filter(|run| run.len() > lists.len() / 2);
    runs.filter_map(|run| run.first().copied())
        .collect::<Vec<_>>()
        .join(",")
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | '\x0b' | '\x0c')
}

/// The version that most entries of one relay state.
pub(super) fn most_frequent(entries: &[&VoteRouter]) -> Option<String> {
    let stated = entries
        .iter()
        .filter_map(|entry| entry.status.version.as_deref());
    let versions = sorted(stated.filter(|version| !version.is_empty()).collect());
    most_frequent_item(&versions).map(|version| (*version).to_owned())
}

fn order(a: &str, b: &str) -> Ordering {
    match (Version::parse(a), Version::parse(b)) {
        (Some(a), Some(b)) => a.compare(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// Sorts by merging, as C's library does: where the order contradicts itself, which differences
/// in 32 bits let it do, the result is the same as there.
fn sorted(versions: Vec<&str>) -> Vec<&str> {
    if versions.len() < 2 {
        return versions;
    }
    let mut left = versions;
    let right = left.split_off(left.len() / 2);
    let (left, right) = (sorted(left), sorted(right));
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let next = match order(a, b) {
            Ordering::Greater => right.next(),
            _ => left.next(),
        };
        merged.extend(next);
    }
    merged.extend(left);
    merged.extend(right);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_are_ordered_as_tor_orders_them() {
        let ascending = [
            "0.4",
            "0.4.8.9",
            "0.4.8.10-alpha",
            "0.4.9pre7",
            "0.4.9rc5",
            "Tor 0.4.9.1-rc",
            "0.4.9.1-rc (r7)",
            "0.4.9.1-rc (r12)",
            "0.4.9.11",
            "0.4.9.11 (git-ab)",
            "0.4.9.11 (git-ABCD)",
            "0.4.9.11.5",
            "0.4.9.2147483647",
            "banana",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(order(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(order(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(order("0.4.9.11", "TOR 00.4.9.011-"), Ordering::Equal);
        for text in [
            "",
            "Tor ",
            "1",
            "1.",
            "1.2.3x4",
            "1.2.3.",
            "0.4.9.2147483648",
            "1.2.3.4 (git-a)",
        ] {
            assert!(Version::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_spelling_that_came_first_stays_first() {
        assert_eq!(
            sorted(vec!["1.2.03", "1.2.3", "1.2.1"]),
            ["1.2.1", "1.2.03", "1.2.3"]
        );
    }

    proptest! {
        #[test]
        fn any_texts_are_sorted(texts in prop::collection::vec(version_like(), 0..9)) {
            let mut before: Vec<&str> = texts.iter().map(String::as_str).collect();
            let mut after = sorted(before.clone());
            after.sort_unstable();
            before.sort_unstable();
            prop_assert_eq!(before, after);
        }
    }

    fn version_like() -> impl Strategy<Value = String> {
        const PART: &str = "\\.[0-9]{0,12}|rc|pre|-|[a-z]| |\\(r|\\(git-|\\)";
        let form = format!("([Tt]or )?[0-9]{{0,12}}({PART}){{0,7}}");
        prop::string::string_regex(&form).unwrap()
    }
}
