//! An archive of consensuses and votes in the layout of CollecTor, which researchers' tools read.
//!
//! ```text
//! relay-descriptors/consensus/2026/11/29/2026-11-29-12-00-00-consensus
//! relay-descriptors/microdesc/2026/11/consensus-microdesc/29/2026-11-29-12-…-consensus-microdesc
//! relay-descriptors/vote/2026/11/29/2026-11-29-12-00-00-vote-V3IDENT-DIGEST
//! ```
//! Each file begins with a line that says what it is (`@type`), which is no part of the document.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cepa_crypto::encoding::hex_upper;
use cepa_netdoc::consensus::{ConsensusText, Flavour};
use cepa_netdoc::timestamp;
use cepa_netdoc::vote::VoteText;

use crate::keyfiles::write_atomic;

/// The folder in which an archive has all that is of relays.
const RELAYS: &str = "relay-descriptors";
/// How the lines begin that are no part of a document.
const ANNOTATION: char = '@';

/// An archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Archive {
    folder: PathBuf,
}

impl Archive {
    /// The archive in a folder, which need not be there yet.
    pub(crate) fn of(folder: &Path) -> Self {
        let folder = folder.to_owned();
        Archive { folder }
    }

    /// Keeps a consensus, unless it is there.
    pub(crate) fn keep_consensus(&self, text: &ConsensusText) -> io::Result<()> {
        let consensus = text.consensus();
        let path = self.consensus_path(consensus.flavour, consensus.lifetime.valid_after);
        let kind = match consensus.flavour {
            Flavour::Ns => "network-status-consensus-3 1.0",
            Flavour::Microdesc => "network-status-microdesc-consensus-3 1.0",
        };
        keep(&path, kind, text.text())
    }

    /// Keeps a vote, unless it is there.
    pub(crate) fn keep_vote(&self, text: &VoteText) -> io::Result<()> {
        let vote = text.vote();
        let day = Day::of(vote.lifetime.valid_after);
        let (time, author, digest) = (&day.time, vote.author(), hex_upper(text.digest()));
        let path = self.folder.join(RELAYS).join("vote").join(day.folder());
        let path = path.join(format!("{time}-vote-{author}-{digest}"));
        keep(&path, "network-status-vote-3 1.0", text.text())
    }

    /// The last consensus that had begun at a time, of that day or the one before it.
    pub(crate) fn consensus(&self, flavour: Flavour, at: SystemTime) -> io::Result<String> {
        const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);
        let newest = Day::of(at).time;
        for day in [Some(at), at.checked_sub(DAY)].into_iter().flatten() {
            let path = self.consensus_path(flavour, day);
            let folder = path.parent().unwrap_or(&self.folder);
            let entries = match std::fs::read_dir(folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            let ending = suffix(flavour);
            let begun = names.filter(|name| {
                name.strip_suffix(ending)
                    .is_some_and(|time| *time <= *newest)
            });
            if let Some(name) = begun.max() {
                let text = std::fs::read_to_string(folder.join(name))?;
                return Ok(document(&text).to_owned());
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn consensus_path(&self, flavour: Flavour, start: SystemTime) -> PathBuf {
        let day = Day::of(start);
        let relays = self.folder.join(RELAYS);
        let folder = match flavour {
            Flavour::Ns => relays.join("consensus").join(day.folder()),
            Flavour::Microdesc => (relays.join("microdesc").join(&day.year).join(&day.month))
                .join("consensus-microdesc")
                .join(&day.day),
        };
        folder.join(day.time + suffix(flavour))
    }
}

fn suffix(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::Ns => "-consensus",
        Flavour::Microdesc => "-consensus-microdesc",
    }
}

/// A time as names of files have it.
struct Day {
    year: String,
    month: String,
    day: String,
    /// `YYYY-MM-DD-HH-MM-SS`.
    time: String,
}

impl Day {
    fn of(time: SystemTime) -> Self {
        let time = timestamp::encode(time).replace([' ', ':'], "-");
        let mut parts = time.split('-').map(str::to_owned);
        let mut part = || parts.next().unwrap_or_default();
        let (year, month, day) = (part(), part(), part());
        Day {
            year,
            month,
            day,
            time,
        }
    }

    fn folder(&self) -> PathBuf {
        Path::new(&self.year).join(&self.month).join(&self.day)
    }
}

fn keep(path: &Path, kind: &str, text: &str) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let annotated = format!("{ANNOTATION}type {kind}\n{text}");
    write_atomic(path, annotated.as_bytes(), 0o644).map_err(io::Error::other)
}

/// A document of an archive without the lines that are no part of it.
pub(crate) fn document(text: &str) -> &str {
    let mut rest = text;
    while rest.starts_with(ANNOTATION) {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    rest
}

/// A day or a time as people write it: the end of the day's or the minute's first second.
pub(crate) fn date(text: &str) -> Option<SystemTime> {
    let text = text.trim().replace('T', " ");
    let (day, time) = text.split_once(' ').unwrap_or((&text, "00:00:00"));
    let time = match time.matches(':').count() {
        1 => format!("{time}:00"),
        _ => time.to_owned(),
    };
    timestamp::parse(&format!("{day} {time}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSENSUS: &str = include_str!("../tests/vectors/authority/four/consensus");
    const MICRODESC: &str = include_str!("../tests/vectors/authority/four/consensus-microdesc");
    const VOTE: &str = include_str!("../tests/vectors/authority/four/vote-auth0");

    #[test]
    fn what_is_kept_is_found_by_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::of(dir.path());
        let texts = [CONSENSUS, MICRODESC].map(|text| ConsensusText::parse(text).unwrap());
        for text in &texts {
            archive.keep_consensus(text).unwrap();
            archive.keep_consensus(text).unwrap();
        }
        let start = texts[0].consensus().lifetime.valid_after;
        let second = std::time::Duration::from_secs(1);
        let find = |flavour, at| archive.consensus(flavour, at).ok();
        for (flavour, text) in [(Flavour::Ns, CONSENSUS), (Flavour::Microdesc, MICRODESC)] {
            assert_eq!(find(flavour, start).as_deref(), Some(text));
            assert_eq!(find(flavour, start + second * 3600).as_deref(), Some(text));
            assert_eq!(find(flavour, start - second), None);
            assert_eq!(find(flavour, start + second * 3600 * 49), None);
        }
        let vote = VoteText::parse(VOTE).unwrap();
        archive.keep_vote(&vote).unwrap();
        let (author, digest) = (vote.vote().author(), hex_upper(vote.digest()));
        let time = Day::of(vote.vote().lifetime.valid_after);
        let name = format!("{}-vote-{author}-{digest}", time.time);
        let path = dir
            .path()
            .join("relay-descriptors/vote")
            .join(time.folder())
            .join(name);
        let kept = std::fs::read_to_string(path).unwrap();
        assert_eq!(kept.lines().next(), Some("@type network-status-vote-3 1.0"));
        assert_eq!(document(&kept), VOTE);
    }

    #[test]
    fn dates_are_days_and_times() {
        let time = |text| timestamp::parse(text).ok();
        assert_eq!(date("2026-11-29"), time("2026-11-29 00:00:00"));
        assert_eq!(date("2026-11-29T12:30"), time("2026-11-29 12:30:00"));
        assert_eq!(date("2026-11-29 12:30:07"), time("2026-11-29 12:30:07"));
        for wrong in [
            "",
            "yesterday",
            "2026-11",
            "2026-11-29T",
            "2026-11-29T25:00",
        ] {
            assert_eq!(date(wrong), None, "{wrong}");
        }
    }
}
