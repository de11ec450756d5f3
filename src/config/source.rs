//! A TOML file with its text, so that an error can name the line.
//!
//! `parse` reads a table of serde's; `expect` checks one value of it afterwards and names its
//! line when it is not what was expected.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::config::{Level, LogConfig};
use crate::error::{Failure, fail};
use crate::reload::Written;

/// The largest configuration that is read, in bytes.
const FILE_LEN_MAX: u64 = 4 << 20;

/// A TOML file.
#[derive(Debug, Clone)]
pub struct Source {
    path: PathBuf,
    text: String,
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
                Ok(text) => Ok(Self {
                    path: path.to_owned(),
                    text,
                }),
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
        }
    }

    /// Reads the text as a table.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        toml::from_str(&self.text).map_err(|error| {
            let place = match error.span() {
                Some(span) => self.place(&span),
                None => self.path.display().to_string(),
            };
            Failure::new("wrong line", place, error.message())
        })
    }

    /// The text as it was written, to be compared with a later one.
    pub fn written(&self) -> Written {
        Written::new(toml::from_str(&self.text).unwrap_or_default())
    }

    /// An error at a value of this file.
    pub fn wrong<T>(&self, value: &Spanned<T>, key: &str, expected: &str) -> Failure {
        Failure::new(
            format!("wrong {key}"),
            self.place(&value.span()),
            format!("expected {expected}"),
        )
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
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }

    fn place(&self, span: &Range<usize>) -> String {
        let before = self.text.as_bytes().iter().take(span.start);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        format!("{} line {line}", self.path.display())
    }
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
}

impl LogTable {
    /// The configuration of the log, with its path resolved.
    pub fn checked(self, source: &Source) -> LogConfig {
        let file = self.file.map(|file| source.resolve(&file));
        LogConfig {
            level: self.level,
            file,
            addresses: self.addresses,
        }
    }
}
