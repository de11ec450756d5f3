//! `torrc` and the command line of `tor`: read, checked, and written as configurations of ours.
//!
//! ```text
//! torrc ─▶ line ─▶ include ─▶ Entry ─┐
//! argv ──▶ arguments ────────▶ Entry ─┴▶ Settings ─▶ translate ─▶ Document (TOML) + Process
//!                                          ▲ table: what each option is, and what becomes of it
//! ```
//!
//! The law is tor(1) and what `tor` 0.4.9.15 does where it differs. Nothing here touches a file:
//! whoever calls gives what `%include` names (`include::Files`). Each line of a `Document` knows
//! the place in a torrc that it comes from, so that what is wrong with it is told of that place.

pub mod arguments;
pub mod dump;
mod glob;
pub mod include;
mod line;
pub mod manual;
pub mod names;
pub mod option;
pub mod settings;
mod table;
pub mod toml;
pub mod translate;
pub mod value;

use std::fmt;
use std::sync::Arc;

pub use self::settings::Settings;

/// The longest file, in bytes.
pub const FILE_LEN_MAX: usize = 4 << 20;
/// The longest value, in bytes: lists of thousands of relays fit.
pub const VALUE_LEN_MAX: usize = 1 << 20;
/// Entries of a torrc with all that it includes, at most.
pub const ENTRIES_MAX: usize = 100_000;
/// Files of a torrc with all that it includes, at most.
pub const FILES_MAX: usize = 1000;
/// How deep files may include files, as in `tor`.
pub const DEPTH_MAX: usize = 31;

/// Where an entry stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, or what else it is.
    pub file: Arc<str>,
    /// The line, from 1 on; 0 where there are no lines.
    pub line: u32,
}

impl Place {
    /// The command line.
    pub fn arguments() -> Self {
        Place {
            file: "command line".into(),
            line: 0,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{} line {line}", self.file),
        }
    }
}

/// How an entry changes what was there before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// In place of what an earlier file said.
    Set,
    /// Behind it (`+`).
    Append,
    /// None of it any more (`/`).
    Clear,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it does.
    pub change: Change,
    /// The option, as it is written.
    pub name: String,
    /// The value, without quotes and comments.
    pub value: String,
    /// Where it stands.
    pub place: Place,
}

/// What is wrong, or worth a word, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, if it is anywhere.
    pub place: Option<Place>,
    /// The option, if it is one's.
    pub option: Option<String>,
    /// What, in words.
    pub what: String,
}

impl Problem {
    /// A problem of a place.
    pub fn at(place: &Place, what: impl fmt::Display) -> Self {
        Problem {
            place: Some(place.clone()),
            option: None,
            what: what.to_string(),
        }
    }

    /// A problem of an option's entry.
    pub fn of(name: &str, place: &Place, what: impl fmt::Display) -> Self {
        Problem {
            place: Some(place.clone()),
            option: Some(name.to_owned()),
            what: what.to_string(),
        }
    }

    /// A problem of no place.
    pub fn general(what: impl fmt::Display) -> Self {
        Problem {
            place: None,
            option: None,
            what: what.to_string(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if let Some(option) = &self.option {
            write!(f, "{option}: ")?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for Problem {}
