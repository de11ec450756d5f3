//! What others have measured for this authority: the bandwidth file of a scanner such as sbws
//! (bandwidth-file-spec, versions 1.0 to 1.9) and the file of GuardFraction (proposal 236).
//!
//! ```text
//! 1523911758                                  when it was written, seconds since 1970
//! version=1.9.0                               headers, each a key and a value
//! =====
//! bw=38000 node_id=$F013… nick=…              a relay: kilobytes a second, and what else is known
//! ```
//! Files are read as `tor` reads them, line by line: one that is not understood is passed over
//! (lines may end in CRLF here, and more than 32 bits of bandwidth are not cut but bounded). A
//! file older than three days says nothing, and what a relay was measured with is remembered as
//! long, for flags: the next file may lack it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cepa_crypto::{RsaId, digest, encoding};
use cepa_netdoc::timestamp;

use crate::config::Config;

/// A measurement older than this says nothing (`MAX_MEASUREMENT_AGE`).
const MEASUREMENT_AGE_MAX: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// A file of GuardFraction older than this says nothing.
const GUARD_FRACTION_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Headers that go into a vote (`MAX_BW_FILE_HEADER_COUNT_IN_VOTE`).
const HEADERS_MAX: usize = 50;
/// Bytes of headers that go into a vote.
const HEADERS_LEN_MAX: usize = 2048;
/// What stands between the headers and the relays.
const TERMINATOR: &str = "=====";

/// Why a file says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The first line is not the time at which it was written.
    #[error("its first line is no time in seconds since 1970")]
    NoTime,
    /// It was written too long ago.
    #[error("it was written {0} hours ago")]
    Stale(u64),
    /// A line that must be there is missing or malformed: its number, and what was expected.
    #[error("line {0}: {1}")]
    Malformed(usize, &'static str),
}

/// A bandwidth file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BandwidthFile {
    /// When it was written.
    pub written: SystemTime,
    /// What a vote says of it (`bandwidth-file-headers`).
    pub headers: String,
    /// What a vote says of its bytes (`bandwidth-file-digest`).
    pub digest: String,
    /// Kilobytes a second.
    pub measured: BTreeMap<RsaId, u32>,
}

impl BandwidthFile {
    /// Reads a file; `now` is the time of the machine.
    ///
    /// # Errors
    /// It has no time, or one that is too long ago.
    pub fn parse(bytes: &[u8], now: SystemTime) -> Result<Self, FileError> {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.lines();
        let first = lines.next().and_then(|line| line.parse::<u64>().ok());
        let seconds = first.ok_or(FileError::NoTime)?;
        let written = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        let written = written.ok_or(FileError::NoTime)?;
        is_recent(written, now, MEASUREMENT_AGE_MAX)?;
        let mut headers = format!("timestamp={seconds}");
        let (mut is_after_headers, mut count) = (false, 1);
        let mut measured = BTreeMap::new();
        for line in lines {
            if let Some((relay, kilobytes)) = measurement(line) {
                is_after_headers = true;
                measured.insert(relay, kilobytes);
            } else if line == TERMINATOR {
                is_after_headers = true;
            } else if !is_after_headers
                && is_header(line)
                && count < HEADERS_MAX
                && headers.len() + 1 + line.len() <= HEADERS_LEN_MAX
            {
                let _ = write!(headers, " {line}");
                count += 1;
            }
        }
        let sha256 = encoding::base64_unpadded(&digest::sha256(bytes));
        Ok(BandwidthFile {
            written,
            headers,
            digest: format!("sha256={sha256}"),
            measured,
        })
    }
}

/// The relay of a line and its kilobytes a second. `None` for one that is to have no vote
/// (`vote=0`) as for one that is none.
fn measurement(line: &str) -> Option<(RsaId, u32)> {
    let (mut relay, mut kilobytes) = (None, None);
    for word in line.split([' ', '\t']) {
        if word.starts_with("vote=0") {
            return None;
        }
        if let Some(value) = word.strip_prefix("bw=") {
            let value = value.trim_end_matches('\r').parse::<u64>().ok()?;
            if kilobytes.replace(value).is_some() {
                return None;
            }
        } else if let Some(value) = word.strip_prefix("node_id=") {
            let value = value.trim_end_matches('\r');
            let value = value.strip_prefix('$').unwrap_or(value);
            if relay.replace(value.parse::<RsaId>().ok()?).is_some() {
                return None;
            }
        }
    }
    Some((relay?, u32::try_from(kilobytes?).unwrap_or(u32::MAX)))
}

/// `key=value`, of what is one word in a vote; the value may be empty.
fn is_header(line: &str) -> bool {
    line.bytes().all(|byte| byte.is_ascii_graphic())
        && line.split_once('=').is_some_and(|(key, _)| !key.is_empty())
}

fn is_recent(written: SystemTime, now: SystemTime, age_max: Duration) -> Result<(), FileError> {
    let age = now.duration_since(written).unwrap_or_default();
    match age > age_max {
        true => Err(FileError::Stale(age.as_secs() / 3600)),
        false => Ok(()),
    }
}

/// How much of the time each relay was a guard lately, in percent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuardFractionFile {
    /// Percent, 0 to 100.
    pub fractions: BTreeMap<RsaId, u8>,
}

impl GuardFractionFile {
    /// Reads a file.
    ///
    /// # Errors
    /// It is of another version, too old, or a line of a guard is malformed.
    pub fn parse(text: &str, now: SystemTime) -> Result<Self, FileError> {
        let mut fractions = BTreeMap::new();
        let mut written = None;
        for (number, line) in (1..).zip(text.lines()) {
            let bad = |expected| FileError::Malformed(number, expected);
            match line.split_once(' ').unwrap_or((line, "")) {
                ("guardfraction-file-version", "1") => {}
                ("guardfraction-file-version", _) => return Err(bad("version 1")),
                ("written-at", time) => {
                    let time = timestamp::parse(time);
                    written = Some(time.map_err(|_| bad("a time, YYYY-MM-DD HH:MM:SS"))?);
                }
                ("guard-seen", guard) => {
                    let mut words = guard.split(' ');
                    let relay = words.next().and_then(|word| word.parse().ok());
                    let percent = words.next().and_then(|word| word.parse::<u8>().ok());
                    let percent = percent.filter(|percent| *percent <= 100);
                    let expected = "a fingerprint and a percentage";
                    let (relay, percent) = relay.zip(percent).ok_or_else(|| bad(expected))?;
                    fractions.insert(relay, percent);
                }
                _ => {}
            }
        }
        is_recent(
            written.ok_or(FileError::NoTime)?,
            now,
            GUARD_FRACTION_AGE_MAX,
        )?;
        Ok(GuardFractionFile { fractions })
    }
}

/// What this authority knows of measurements.
#[derive(Debug, Default)]
pub(crate) struct Measurements {
    /// The file that is voted with, while there is one that is recent.
    file: Option<BandwidthFile>,
    guards: GuardFractionFile,
    /// What relays were measured with lately, and when that was written.
    lately: BTreeMap<RsaId, (u32, SystemTime)>,
    /// The relays among them that are listed here, as they were counted last.
    listed: usize,
}

impl Measurements {
    /// The file as it is now: what is to be served of it, and how many relays it has.
    pub(crate) fn read_file(
        &mut self,
        bytes: Option<&[u8]>,
        now: SystemTime,
    ) -> (Option<Arc<str>>, Result<usize, FileError>) {
        let read = bytes.map(|bytes| BandwidthFile::parse(bytes, now));
        match (bytes, read.transpose()) {
            (Some(bytes), Ok(Some(file))) => {
                let relays = file.measured.len();
                self.set_file(Some(file));
                (Some(String::from_utf8_lossy(bytes).into()), Ok(relays))
            }
            (_, read) => {
                self.set_file(None);
                (None, read.map(|_| 0))
            }
        }
    }

    /// The file of GuardFraction as it is now, and how many relays it has.
    pub(crate) fn read_guards(
        &mut self,
        text: Option<&str>,
        now: SystemTime,
    ) -> Result<usize, FileError> {
        let read = text.map(|text| GuardFractionFile::parse(text, now));
        // One that cannot be read says nothing.
        self.guards = GuardFractionFile::default();
        self.guards = read.transpose()?.unwrap_or_default();
        Ok(self.guards.fractions.len())
    }

    /// Votes with this file from now on; with none, if the one that was there has gone or cannot
    /// be read.
    fn set_file(&mut self, file: Option<BandwidthFile>) {
        if let Some(file) = &file {
            let measured = file.measured.iter();
            self.lately
                .extend(measured.map(|(id, kilobytes)| (*id, (*kilobytes, file.written))));
        }
        self.file = file;
    }

    /// Before a vote: what is too old goes; `known` are the relays that may be voted for.
    pub(crate) fn prepare(&mut self, known: impl Fn(&RsaId) -> bool, now: SystemTime) {
        let is_recent = |written: SystemTime| is_recent(written, now, MEASUREMENT_AGE_MAX).is_ok();
        self.file = self.file.take().filter(|file| is_recent(file.written));
        self.lately.retain(|_, (_, written)| is_recent(*written));
        self.listed = self.lately.keys().filter(|id| known(id)).count();
    }

    /// The file to vote with.
    pub(crate) fn file(&self) -> Option<&BandwidthFile> {
        self.file.as_ref()
    }

    /// What the file to vote with says of a relay.
    pub(crate) fn measured(&self, relay: &RsaId) -> Option<u32> {
        self.file.as_ref()?.measured.get(relay).copied()
    }

    /// What a relay was measured with lately.
    pub(crate) fn measured_lately(&self, relay: &RsaId) -> Option<u32> {
        self.lately.get(relay).map(|(kilobytes, _)| *kilobytes)
    }

    /// Whether so many are measured that what relays say of themselves counts for nothing.
    pub(crate) fn ignores_advertised(&self, config: &Config) -> bool {
        i64::try_from(self.listed).unwrap_or(i64::MAX) > i64::from(config.measured_min)
    }

    /// The percentage of a guard.
    pub(crate) fn guard_fraction(&self, relay: &RsaId) -> Option<u8> {
        self.guards.fractions.get(relay).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0123456789ABCDEF0123456789ABCDEF01234567";
    const B: &str = "1123456789ABCDEF0123456789ABCDEF01234567";
    const C: &str = "2123456789ABCDEF0123456789ABCDEF01234567";
    const WRITTEN: u64 = 1_700_000_000;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn id(text: &str) -> RsaId {
        text.parse().unwrap()
    }

    #[test]
    fn a_file_of_sbws_is_read() {
        let text = format!(
            "{WRITTEN}\nversion=1.9.0\nearliest_bandwidth=2023-11-14T20:13:20\nempty=\n\
             no header\n=====\nlate=1\n\
             bw=38000 bw_mean=1127824 node_id=${A} nick=a rtt=380\n\
             node_id={B} bw=1\n\
             bw=5 node_id=${C} vote=0 under_min_report=1\n\
             bw=6 bw=7 node_id=${C}\nbw=-6 node_id=${C}\nbw=6 node_id={C}x\n"
        );
        let file = BandwidthFile::parse(text.as_bytes(), at(WRITTEN + 60)).unwrap();
        assert_eq!(
            file.headers,
            "timestamp=1700000000 version=1.9.0 earliest_bandwidth=2023-11-14T20:13:20 empty="
        );
        assert_eq!(file.measured, BTreeMap::from([(id(A), 38_000), (id(B), 1)]));
        assert!(file.digest.starts_with("sha256=") && file.digest.len() == 7 + 43);
    }

    #[test]
    fn a_file_of_version_1_0_has_no_headers() {
        let text = format!("{WRITTEN}\nnode_id=${A} bw=760 nick=Test\n");
        let file = BandwidthFile::parse(text.as_bytes(), at(WRITTEN)).unwrap();
        assert_eq!(
            (file.headers.as_str(), file.measured.len()),
            ("timestamp=1700000000", 1)
        );
    }

    #[test]
    fn headers_stay_within_what_a_vote_can_hold() {
        let mut text = format!("{WRITTEN}\n");
        for number in 0..1000 {
            let _ = writeln!(text, "key{number}={}", "x".repeat(60));
        }
        text.push_str("odd=\u{1}\n=====\n");
        let file = BandwidthFile::parse(text.as_bytes(), at(WRITTEN)).unwrap();
        assert!(file.headers.len() <= HEADERS_LEN_MAX);
        assert!(file.headers.split(' ').count() <= HEADERS_MAX);
    }

    #[test]
    fn what_is_old_says_nothing() {
        let text = format!("{WRITTEN}\nnode_id=${A} bw=760\n");
        let parse = |now| BandwidthFile::parse(text.as_bytes(), at(now));
        let edge = WRITTEN + 3 * 86_400;
        assert!(parse(edge).is_ok() && parse(0).is_ok());
        assert_eq!(parse(edge + 1), Err(FileError::Stale(72)));
        let none = BandwidthFile::parse(b"node_id", at(WRITTEN));
        assert_eq!(none, Err(FileError::NoTime));
        // It ages out between two votes as well, and so does what it said for flags.
        let mut measurements = Measurements::default();
        measurements.set_file(parse(edge).ok());
        measurements.prepare(|_| true, at(edge));
        let both = |m: &Measurements| (m.measured(&id(A)), m.measured_lately(&id(A)));
        assert_eq!(both(&measurements), (Some(760), Some(760)));
        measurements.set_file(None);
        assert_eq!(both(&measurements), (None, Some(760)));
        measurements.set_file(parse(edge).ok());
        measurements.prepare(|_| true, at(edge + 1));
        assert_eq!(both(&measurements), (None, None));
    }

    #[test]
    fn advertised_bandwidths_count_until_enough_are_measured() {
        let mut text = format!("{WRITTEN}\n");
        for number in 0..=500 {
            let _ = writeln!(text, "bw=1 node_id=${number:040X}");
        }
        let mut measurements = Measurements::default();
        measurements.set_file(BandwidthFile::parse(text.as_bytes(), at(WRITTEN)).ok());
        measurements.prepare(|_| true, at(WRITTEN));
        let mut config = Config::new(Vec::new(), String::new());
        assert!(measurements.ignores_advertised(&config));
        config.measured_min = 501;
        assert!(!measurements.ignores_advertised(&config));
        config.measured_min = 500;
        let missing = id(&format!("{:040X}", 7));
        measurements.prepare(|id| *id != missing, at(WRITTEN));
        assert!(!measurements.ignores_advertised(&config));
        config.measured_min = -1;
        assert!(Measurements::default().ignores_advertised(&config));
    }

    #[test]
    fn guard_fractions_are_read() {
        let text = format!(
            "guardfraction-file-version 1\nwritten-at 2023-11-14 22:13:20\nn-inputs 420 3 30\n\
             guard-seen {A} 100 420\nguard-seen {B} 3\n"
        );
        let read = |text: &str, now| GuardFractionFile::parse(text, at(now));
        let file = read(&text, WRITTEN).unwrap();
        assert_eq!(file.fractions, BTreeMap::from([(id(A), 100), (id(B), 3)]));
        assert_eq!(
            read(&text, WRITTEN + 8 * 86_400),
            Err(FileError::Stale(192))
        );
        for (from, to) in [
            (" 100 ", " 101 "),
            ("-version 1", "-version 2"),
            ("2023-", "x-"),
        ] {
            let bad = read(&text.replace(from, to), WRITTEN);
            assert!(
                matches!(bad, Err(FileError::Malformed(..))),
                "{to}: {bad:?}"
            );
        }
    }
}
