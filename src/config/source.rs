//! A TOML file with its text, so that an error can name the line.
//!
//! `parse` reads a table of serde's; `expect` checks one value of it afterwards and names its
//! line and what stands there when it is not what was expected.
//!
//! Serde stops at the first line that it does not understand. That line is then taken out, and the
//! rest is read again, so that all of them can be told at once (`parse_rest`).

use std::ops::Range;
use std::path::{Path, PathBuf};

use cepa_torrc::toml::{Document, Origin};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::written::Written;
use crate::config::{GRANULARITY_MS, Level, LogConfig, LogPlace, LogStyle, LogTo};
use crate::error::{Failure, fail};

/// The largest configuration that is read, in bytes.
const FILE_LEN_MAX: u64 = 4 << 20;

/// Lines that are told at once, at most, of those that can't be read.
const WRONG_MAX: usize = 32;
/// Characters of a value that are shown in a message.
const SHOWN_MAX: usize = 60;
/// Keys whose values are shown in no message: somebody may have written a password there.
const SECRET_KEYS: [&str; 1] = ["hash"];

/// A TOML file, or a torrc that was written as one.
#[derive(Debug, Clone)]
pub struct Source {
    path: PathBuf,
    text: String,
    /// The folder from which relative paths are meant.
    folder: PathBuf,
    /// Where in a torrc each line comes from.
    origins: Vec<Option<Origin>>,
}

impl Source {
    /// Reads the file.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        match std::fs::metadata(path) {
            Ok(meta) if meta.len() > FILE_LEN_MAX => fail(
                "too large",
                shown,
                format!("expected at most {FILE_LEN_MAX} bytes"),
            ),
            Ok(_) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(Self::from_text(path, &text)),
                Err(error) => fail("cannot read this file", shown, error),
            },
            Err(error) => fail("cannot read this file", shown, error),
        }
    }

    /// A text that is said to come from `path`.
    pub fn from_text(path: &Path, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            folder: path.parent().unwrap_or(Path::new("")).to_owned(),
            origins: Vec::new(),
        }
    }

    /// A torrc as it was written as TOML: errors name its places, and relative paths are meant from
    /// where this process was started.
    pub fn from_torrc(path: &Path, document: &Document) -> Self {
        Self {
            path: path.to_owned(),
            text: document.text(),
            folder: PathBuf::new(),
            origins: document.origins(),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the text as a table.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        match self.parse_rest()? {
            (table, None) => Ok(table),
            (_, Some(wrong)) => Err(wrong),
        }
    }

    /// The same without the lines that can't be read, and what is wrong with them.
    ///
    /// # Errors
    /// All that is wrong if there is no table without those lines.
    pub fn parse_rest<T: DeserializeOwned>(&self) -> Result<(T, Option<Failure>), Failure> {
        let (mut text, mut taken, mut wrong) = (self.text.clone(), Vec::new(), Vec::new());
        loop {
            let error: toml::de::Error = match toml::from_str(&text) {
                Ok(table) => return Ok((table, Failure::several(wrong))),
                Err(error) => error,
            };
            // What was taken out is there, and wrong.
            let lacks = |key: &String| error.message() == format!("missing field `{key}`");
            if !taken.iter().any(lacks) {
                wrong.push(self.unread(&error));
            }
            let is_there = !error.message().starts_with("missing field");
            let rest = error.span().and_then(|span| without(&text, &span));
            match rest.filter(|_| is_there && taken.len() < WRONG_MAX) {
                Some((key, rest)) => {
                    taken.push(key);
                    text = rest;
                }
                None => {
                    let all = Failure::several(wrong);
                    return Err(all.unwrap_or_else(|| self.unread(&error)));
                }
            }
        }
    }

    fn unread(&self, error: &toml::de::Error) -> Failure {
        let place = match error.span() {
            Some(span) => self.place(&span),
            None => self.path.display().to_string(),
        };
        Failure::new("wrong line", place, error.message())
    }

    /// The text as it was written, to be compared with a later one.
    pub fn written(&self) -> Written {
        let written = Written::new(toml::from_str(&self.text).unwrap_or_default());
        written.from_file(&self.path, &self.folder)
    }

    /// A table in the place of what was written.
    pub fn changed(written: &Written, table: &toml::Table) -> Self {
        let (path, folder) = written.places();
        Self {
            path: path.to_owned(),
            text: table.to_string(),
            folder: folder.to_owned(),
            origins: Vec::new(),
        }
    }

    /// An error at a value of this file.
    pub fn wrong<T>(&self, value: &Spanned<T>, key: &str, expected: &str) -> Failure {
        let found = match SECRET_KEYS.contains(&key) {
            true => String::new(),
            false => self.shown(&value.span()),
        };
        Failure::new(
            format!("wrong {key}{found}"),
            self.place(&value.span()),
            format!("expected {expected}"),
        )
    }

    /// What stands at a place, as far as it fits into a message.
    fn shown(&self, span: &Range<usize>) -> String {
        let text = self.text.get(span.clone()).unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        match line.char_indices().nth(SHOWN_MAX) {
            _ if line.is_empty() => String::new(),
            Some((end, _)) => format!(" {}...", line.get(..end).unwrap_or_default()),
            None => format!(" {line}"),
        }
    }

    /// Checks a value.
    pub fn expect<T>(
        &self,
        value: &Spanned<T>,
        key: &str,
        expected: &str,
        is_right: impl FnOnce(&T) -> bool,
    ) -> Result<(), Failure> {
        if is_right(value.get_ref()) {
            Ok(())
        } else {
            Err(self.wrong(value, key, expected))
        }
    }

    /// An error that concerns the file as a whole.
    pub fn lacks(&self, key: &str, expected: &str) -> Failure {
        Failure::new(
            format!("{key} is missing"),
            self.path.display(),
            format!("expected {expected}"),
        )
    }

    /// A path of the file, from the file's own folder when it is relative.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    fn place(&self, span: &Range<usize>) -> String {
        let before = self.text.as_bytes().iter().take(span.start);
        let line = before.filter(|byte| **byte == b'\n').count();
        match self.origins.get(line) {
            Some(Some((place, option))) => format!("{place} ({option})"),
            _ => format!("{} line {}", self.path.display(), line + 1),
        }
    }
}

/// The text without the entry that this place is in, which is replaced by blanks, and its key; none
/// if there is no such entry, or it is a table with a head of its own.
fn without(text: &str, place: &Range<usize>) -> Option<(String, String)> {
    let table = DeTable::parse(text).ok()?;
    let (key, entry) = entry_at(text, table.get_ref(), place)?;
    let keeps = |at: usize, char: char| char == '\n' || !entry.contains(&at);
    let blanked = text.char_indices().map(|(at, char)| match keeps(at, char) {
        true => char,
        // As many bytes as before: places stay what they are.
        false => ' ',
    });
    let is_ascii = text.get(entry.clone()).is_some_and(str::is_ascii);
    is_ascii.then(|| (key, blanked.collect()))
}

/// The innermost entry of a line of its own at a place.
fn entry_at(
    text: &str,
    table: &DeTable<'_>,
    place: &Range<usize>,
) -> Option<(String, Range<usize>)> {
    let mut entries = table.iter();
    entries.find_map(|(key, value)| {
        let inner = match value.get_ref() {
            DeValue::Table(table) => entry_at(text, table, place),
            DeValue::Array(values) => values.iter().find_map(|one| match one.get_ref() {
                DeValue::Table(table) => entry_at(text, table, place),
                _ => None,
            }),
            _ => None,
        };
        inner.or_else(|| {
            let entry = key.span().start..value.span().end;
            let has_sign = text.get(key.span().end..value.span().start)?.trim() == "=";
            let line = text
                .get(..entry.start)?
                .rfind('\n')
                .map_or(0, |end| end + 1);
            let is_first = text.get(line..entry.start)?.trim().is_empty();
            let holds = entry.start <= place.start && place.end <= entry.end;
            let is_it = has_sign && is_first && holds;
            is_it.then(|| (key.get_ref().to_string(), entry))
        })
    })
}

/// A value that comes from no file, for writing one.
pub fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

/// The table `[log]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogTable {
    /// error, warn, info, debug or trace.
    pub level: Level,
    /// A file to append to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Whether to write out the addresses of clients and destinations.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub addresses: bool,
    /// How lines look: `cepa` or `tor`.
    #[serde(skip_serializing_if = "LogStyle::is_ours")]
    pub style: LogStyle,
    /// Whether files are emptied when they are opened.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncate: bool,
    /// In `tor`'s style: of how many milliseconds times of lines are multiples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_granularity_ms: Option<u32>,
    /// Where the log goes instead of `file`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<LogPlaceTable>,
}

/// An entry of `places`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogPlaceTable {
    /// error, warn, info, debug or trace.
    pub level: Level,
    /// A file to append to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Standard output; standard error without it and a file.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stdout: bool,
}

impl LogTable {
    /// The configuration of the log, with its path resolved.
    pub fn checked(self, source: &Source) -> LogConfig {
        let place = |level, file: Option<PathBuf>, stdout| LogPlace {
            level,
            to: match file {
                Some(file) => LogTo::File(source.resolve(&file)),
                None if stdout => LogTo::Stdout,
                None => LogTo::Stderr,
            },
        };
        let mut places = vec![place(self.level, self.file, false)];
        if !self.places.is_empty() {
            places.clear();
            for one in self.places {
                let more = place(one.level, one.file, one.stdout);
                // A line is written once to each place.
                match places.iter_mut().find(|known| known.to == more.to) {
                    Some(known) => known.level = known.level.max(more.level),
                    None => places.push(more),
                }
            }
        }
        LogConfig {
            places,
            addresses: self.addresses,
            style: self.style,
            truncates: self.truncate,
            granularity_ms: self.time_granularity_ms.unwrap_or(GRANULARITY_MS).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        port: u16,
        #[serde(default)]
        names: Vec<String>,
        #[serde(default)]
        log: LogTable,
        #[serde(default)]
        extra: Vec<LogTable>,
    }

    fn read(text: &str) -> Result<(Table, Option<Failure>), Failure> {
        Source::from_text(Path::new("f.toml"), text).parse_rest()
    }

    fn told(wrong: &Failure) -> Vec<String> {
        wrong.each().map(ToString::to_string).collect()
    }

    #[test]
    fn all_lines_that_cannot_be_read_are_told() {
        let text = "prot = 1\nport = 7\nnames = [\n\"a\",\n5]\nother = { a = 1,\n b = 2 }\n\
            [log]\nlevel = \"loud\"\naddresses = true\n[[extra]]\nfile = 9\n";
        let (table, wrong) = read(text).unwrap();
        assert_eq!(
            (table.port, table.names.len(), table.extra.len()),
            (7, 0, 1)
        );
        assert!(table.log.addresses && table.extra[0].file.is_none());
        let told = told(&wrong.unwrap());
        assert_eq!(told.len(), 5, "{told:?}");
        for part in [
            "line 1: wrong line: unknown field `prot`",
            "line 5",
            "line 6",
            "line 9",
            "line 12",
        ] {
            assert!(
                told.iter().any(|one| one.contains(part)),
                "{part}: {told:?}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_not_missing_too() {
        let wrong = told(&read("port = \"x\"\nprot = 1\n").unwrap_err());
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(
            wrong.iter().all(|one| !one.contains("missing")),
            "{wrong:?}"
        );
        let wrong = told(&read("names = []\n").unwrap_err());
        assert!(
            wrong.len() == 1 && wrong[0].contains("missing field `port`"),
            "{wrong:?}"
        );
        // What is no TOML, and what has no line of its own, ends it.
        assert_eq!(told(&read("port = \n").unwrap_err()).len(), 1);
        assert_eq!(
            told(&read("port = 1\n[oops]\na = 1\n").unwrap_err()).len(),
            1
        );
    }

    #[test]
    fn a_value_is_shown_in_part() {
        let text = format!(
            "port = 1\nhash = \"secret\"\nname = \"{}\"\n",
            "n".repeat(100)
        );
        let source = Source::from_text(Path::new("f.toml"), &text);
        let at = |word: &str| {
            let start = text.find(word).unwrap();
            Spanned::new(start..text[start..].find('\n').unwrap() + start, ())
        };
        let wrong = |key, word| source.wrong(&at(word), key, "another").to_string();
        assert_eq!(
            wrong("port", "1"),
            "f.toml line 1: wrong port 1: expected another"
        );
        assert!(!wrong("hash", "\"secret").contains("secret"));
        assert!(wrong("name", "\"nnn").contains("nnn...: expected another"));
    }
}
