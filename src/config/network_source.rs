//! Where a configuration says which network it is of: `network`, a file, or `[inline_network]`,
//! which is what that file would have.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::Table;

use super::source::Source;
use crate::error::Failure;

/// Where it is said which network it is.
#[derive(Debug, Clone)]
pub enum NetworkSource {
    /// In a `network.toml`.
    File(PathBuf),
    /// In the configuration itself.
    Inline(Source),
}

impl NetworkSource {
    /// What a configuration says.
    pub(super) fn checked(
        source: &Source,
        file: Option<&Path>,
        inline: Option<&Table>,
    ) -> Result<Self, Failure> {
        match (file, inline) {
            (Some(file), None) => Ok(Self::File(source.resolve(file))),
            (None, Some(_)) => Ok(Self::Inline(source.clone())),
            (None, None) => Err(source.lacks("network", "a file, or [inline_network]")),
            (Some(_), Some(_)) => Err(source.lacks("one network", "no file and a table at once")),
        }
    }
}

impl From<PathBuf> for NetworkSource {
    fn from(file: PathBuf) -> Self {
        Self::File(file)
    }
}

impl fmt::Display for NetworkSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.display().fmt(f),
            Self::Inline(source) => source.path().display().fmt(f),
        }
    }
}
