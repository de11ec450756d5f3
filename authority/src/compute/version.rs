//! The order of versions of `tor` and what votes agree on of them (dir-spec 3.8; version-spec).
//!
//! `MAJOR.MINOR.MICRO[.PATCHLEVEL][-STATUS]`, with `Tor ` before it in `v` lines. What is no
//! version comes after all that are, in the order of its bytes.

use cepa_netdoc::vote::{Vote, VoteRouter};

use super::most_frequent as most_frequent_item;

/// Numbers and status tag; a text that is no version has no numbers.
type Order<'a> = (bool, [u32; 4], &'a str, &'a str);

/// Versions that more than half of the votes with such a line list, joined by commas.
pub(super) fn recommended(votes: &[&Vote], pick: impl Fn(&Vote) -> Option<&str>) -> String {
    let lists: Vec<&str> = votes.iter().filter_map(|vote| pick(vote)).collect();
    let mut versions: Vec<&str> = Vec::new();
    for list in &lists {
        let mut own: Vec<&str> = list
            .split(',')
            .map(str::trim)
            .filter(|version| !version.is_empty())
            .collect();
        own.sort_by_key(|version| order(version));
        own.dedup();
        versions.extend(own);
    }
    versions.sort_by_key(|version| order(version));
    let runs = versions
        .chunk_by(|a, b| a == b)
        .filter(|run| run.len() > lists.len() / 2);
    runs.filter_map(|run| run.first().copied())
        .collect::<Vec<_>>()
        .join(",")
}

/// The version that most entries of one relay state.
pub(super) fn most_frequent(entries: &[&VoteRouter]) -> Option<String> {
    let stated = entries
        .iter()
        .filter_map(|entry| entry.status.version.as_deref());
    let mut versions: Vec<&str> = stated.filter(|version| !version.is_empty()).collect();
    versions.sort_by_key(|version| order(version));
    most_frequent_item(&versions).map(|version| (*version).to_owned())
}

fn order(text: &str) -> Order<'_> {
    let tag = |text| split(text).map_or("", |(_, tag)| tag);
    numbers(text).map_or((true, [0; 4], "", text), |numbers| {
        (false, numbers, tag(text), text)
    })
}

/// The four numbers of a version; the last may be missing. None if it is no version.
pub(crate) fn numbers(text: &str) -> Option<[u32; 4]> {
    let (dotted, _) = split(text)?;
    let mut numbers = [0; 4];
    let mut count = 0;
    for (place, part) in dotted.split('.').enumerate() {
        *numbers.get_mut(place)? = part.parse().ok()?;
        count += 1;
    }
    (count >= 3).then_some(numbers)
}

/// Numbers and status tag.
fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix("Tor ").unwrap_or(text);
    let text = text.split(' ').next()?;
    Some(text.split_once('-').unwrap_or((text, "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        let sorted = [
            "0.4.8.9",
            "0.4.8.10-alpha",
            "Tor 0.4.9.1-rc",
            "0.4.9.11",
            "banana",
        ];
        assert!(sorted.is_sorted_by_key(|version| order(version)));
    }
}
