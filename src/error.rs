//! The one shape of an error that a user sees: what went wrong, where, and what to do about it.
//!
//! Each prints as a single line. Errors of the libraries keep their own enums; they become a
//! `Failure` where the shell knows the file, the port or the folder that they concern.

use std::fmt;

/// An error for the user: one line (and one for each that was found with it), exit code 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What is wrong, such as `port is taken`.
    pub what: String,
    /// The file, port or folder that it concerns.
    pub place: String,
    /// What to do about it, or the underlying error.
    pub advice: String,
    /// Further errors that were found with it.
    pub more: Vec<Failure>,
}

impl Failure {
    /// An error of three parts.
    pub fn new(
        what: impl fmt::Display,
        place: impl fmt::Display,
        advice: impl fmt::Display,
    ) -> Self {
        Self {
            what: what.to_string(),
            place: place.to_string(),
            advice: advice.to_string(),
            more: Vec::new(),
        }
    }

    /// All of these as one, if there are any.
    pub fn several(failures: impl IntoIterator<Item = Failure>) -> Option<Self> {
        failures.into_iter().reduce(Failure::with)
    }

    /// No error, if none of these is one; else all of them.
    pub fn none_of(failures: impl IntoIterator<Item = Option<Failure>>) -> Result<(), Self> {
        match Self::several(failures.into_iter().flatten()) {
            Some(all) => Err(all),
            None => Ok(()),
        }
    }

    /// All that was read, or all that is wrong with any of it.
    pub fn all<T>(read: impl Iterator<Item = Result<T, Failure>>) -> Result<Vec<T>, Self> {
        let mut wrong = Vec::new();
        let right = read.filter_map(|one| one.map_err(|error| wrong.push(error)).ok());
        let right = right.collect();
        match Self::several(wrong) {
            Some(all) => Err(all),
            None => Ok(right),
        }
    }

    /// This one, and another that was found with it.
    #[must_use]
    pub fn with(mut self, mut other: Failure) -> Self {
        let more = std::mem::take(&mut other.more);
        self.more.push(other);
        self.more.extend(more);
        self
    }

    /// What was read, unless this or something else is wrong with it; then all that is.
    pub fn or_worse<T>(found: Option<Self>, read: Result<T, Self>) -> Result<T, Self> {
        match (found, read) {
            (None, read) => read,
            (Some(found), Ok(_)) => Err(found),
            (Some(found), Err(more)) => Err(found.with(more)),
        }
    }

    /// This one and those that were found with it.
    pub fn each(&self) -> impl Iterator<Item = &Failure> {
        std::iter::once(self).chain(&self.more)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}: {}: {}", self.place, self.what, self.advice);
        // One line, whatever an underlying error's text holds.
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        f.write_str(&line)
    }
}

impl std::error::Error for Failure {}

/// Shorthand for an `Err(Failure)`.
pub fn fail<T>(
    what: impl fmt::Display,
    place: impl fmt::Display,
    advice: impl fmt::Display,
) -> Result<T, Failure> {
    Err(Failure::new(what, place, advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_one_line() {
        let failure = Failure::new("port is taken", "127.0.0.1:9050", "choose\n  another");
        assert_eq!(
            failure.to_string(),
            "127.0.0.1:9050: port is taken: choose another"
        );
    }
}
