//! Network parameters: the `params` line of votes and consensuses, and the `bandwidth-weights`
//! line, which has the same form (dir-spec 3.4.1, 3.8.3; param-spec).
//!
//! Invariants: names are unique and stand in the order of their `name=` bytes, which is the order
//! that `tor` writes and demands (it compares whole `name=value` words, so that `foo2=1` stands
//! before `foo=1`). Values are `i32`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::item::{ARGS_MAX, args};
use crate::number;

/// Most parameters that one line may hold, as in `tor`; the live network has about 60.
pub const PARAMS_MAX: usize = ARGS_MAX;

/// Why a line of parameters was refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ParamsError {
    /// A word is not `name=value` with a 32-bit signed value.
    #[error("a parameter is not NAME=INT32")]
    Word,
    /// The words are not sorted, or a name occurs twice.
    #[error("parameters are not sorted and unique")]
    Order,
    /// More than [`PARAMS_MAX`] words.
    #[error("too many parameters")]
    TooMany,
}

/// A sorted map from names to values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params {
    entries: Vec<(String, i32)>,
}

impl Params {
    /// A list without parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads `name=value` words separated by spaces (dir-spec 3.4.1); the empty text is no words.
    ///
    /// # Errors
    /// [`ParamsError`]: what `tor` refuses in a vote or consensus is refused here too.
    pub fn parse(line: &str) -> Result<Self, ParamsError> {
        let mut entries: Vec<(String, i32)> = Vec::new();
        for word in args(line) {
            if entries.len() >= PARAMS_MAX {
                return Err(ParamsError::TooMany);
            }
            let (name, value) = parse_word(word).ok_or(ParamsError::Word)?;
            if let Some((before, _)) = entries.last()
                && order(before, name) != Ordering::Less
            {
                return Err(ParamsError::Order);
            }
            entries.push((name.to_owned(), value));
        }
        Ok(Self { entries })
    }

    /// The words joined by single spaces, without the keyword of the line.
    pub fn encode(&self) -> String {
        self.to_string()
    }

    /// The value as the line states it, if it does.
    pub fn lookup(&self, name: &str) -> Option<i32> {
        let found = self.position(name).ok()?;
        self.entries.get(found).map(|(_, value)| *value)
    }

    /// The value to use: the stated one or the default, moved into `min..=max` (param-spec).
    ///
    /// # Panics
    /// If `min > max`: a mistake of the caller.
    pub fn value(&self, name: &str, default: i32, min: i32, max: i32) -> i32 {
        self.lookup(name).unwrap_or(default).clamp(min, max)
    }

    /// States a value, replacing an earlier one.
    pub fn set(&mut self, name: &str, value: i32) {
        debug_assert!(is_name(name), "a parameter's name has no space and no `=`");
        match self.position(name) {
            Ok(found) => self.entries[found].1 = value,
            Err(place) => self.entries.insert(place, (name.to_owned(), value)),
        }
    }

    /// The parameters in their order on the line.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i32)> {
        self.entries
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
    }

    /// The number of parameters.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.entries
            .binary_search_by(|(entry, _)| order(entry, name))
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.entries.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{name}={value}")?;
        }
        Ok(())
    }
}

impl FromStr for Params {
    type Err = ParamsError;

    fn from_str(line: &str) -> Result<Self, ParamsError> {
        Self::parse(line)
    }
}

impl<'a> FromIterator<(&'a str, i32)> for Params {
    fn from_iter<T: IntoIterator<Item = (&'a str, i32)>>(words: T) -> Self {
        let mut params = Self::new();
        for (name, value) in words {
            params.set(name, value);
        }
        params
    }
}

/// Reads `name=value`; the name may be anything, even nothing.
pub(crate) fn parse_word(word: &str) -> Option<(&str, i32)> {
    let (name, value) = word.split_once('=')?;
    let value = number::signed(value, i64::from(i32::MIN), i64::from(i32::MAX))?;
    Some((name, i32::try_from(value).ok()?))
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'=')
}

/// The order of the words `a=…` and `b=…`.
fn order(a: &str, b: &str) -> Ordering {
    a.bytes().chain([b'=']).cmp(b.bytes().chain([b'=']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_of_tor_round_trips() {
        let line = "AuthDirMaxServersPerAddr=0 foo2=-7 foo=3 hsdir_interval=8";
        let params = Params::parse(line).expect("sorted as tor sorts");
        assert_eq!(params.encode(), line);
        assert_eq!(params.lookup("foo"), Some(3));
        assert_eq!(params.lookup("foo2"), Some(-7));
        assert_eq!(params.lookup("bar"), None);
        assert_eq!(params.value("hsdir_interval", 1440, 5, 14400), 8);
        assert_eq!(params.value("foo2", 1, 0, 9), 0);
        assert_eq!(params.value("bar", 4, 0, 9), 4);
    }

    #[test]
    fn what_tor_refuses_is_refused() {
        assert_eq!(Params::parse("b=1 a=1"), Err(ParamsError::Order));
        assert_eq!(Params::parse("a=1 a=1"), Err(ParamsError::Order));
        assert_eq!(Params::parse("foo=1 foo2=1"), Err(ParamsError::Order));
        assert_eq!(Params::parse("a=2147483648"), Err(ParamsError::Word));
        assert_eq!(Params::parse("a"), Err(ParamsError::Word));
        assert_eq!(Params::parse("a=1x"), Err(ParamsError::Word));
        assert_eq!(Params::parse(""), Ok(Params::new()));
        assert_eq!(
            Params::parse("=1 a=+2\tb=-0").unwrap().encode(),
            "=1 a=2 b=0"
        );
        let many: String = (0..=PARAMS_MAX).map(|n| format!("p{n:05}=1 ")).collect();
        assert_eq!(Params::parse(&many), Err(ParamsError::TooMany));
    }

    proptest! {
        #[test]
        fn round_trip(words in prop::collection::vec(("[a-z0-9_-]{1,8}", any::<i32>()), 0..20)) {
            let params: Params = words.iter().map(|(n, v)| (n.as_str(), *v)).collect();
            prop_assert_eq!(Params::parse(&params.encode()), Ok(params));
        }

        #[test]
        fn hostile(line in ".{0,60}") {
            let _ = Params::parse(&line);
        }
    }
}
