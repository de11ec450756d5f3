//! Names of transports: as identifiers of C are (pt-spec 2.1).

use std::fmt;
use std::str::FromStr;

/// The longest name of a transport.
pub const NAME_LEN_MAX: usize = 64;

/// The name of a transport, such as `obfs4`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransportName(String);

/// A word that names no transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a transport's name has letters, digits and _, no digit first, at most {NAME_LEN_MAX}")]
pub struct NameError;

impl TransportName {
    /// The name as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TransportName {
    type Err = NameError;

    fn from_str(word: &str) -> Result<Self, NameError> {
        let is_first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        let mut bytes = word.bytes();
        let is_name = word.len() <= NAME_LEN_MAX
            && bytes.next().is_some_and(is_first)
            && bytes.all(|byte| byte.is_ascii_digit() || is_first(byte));
        is_name
            .then(|| TransportName(word.to_owned()))
            .ok_or(NameError)
    }
}

impl fmt::Display for TransportName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_identifiers() {
        for right in ["obfs4", "_x", "meek_lite", &"a".repeat(NAME_LEN_MAX)] {
            assert_eq!(right.parse::<TransportName>().unwrap().as_str(), right);
        }
        for wrong in [
            "",
            "4obfs",
            "a-b",
            "a b",
            "é",
            &"a".repeat(NAME_LEN_MAX + 1),
        ] {
            assert_eq!(wrong.parse::<TransportName>(), Err(NameError));
        }
    }
}
