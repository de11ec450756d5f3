//! The arguments of a transport: pairs of key and value, in the order in which they were written,
//! and the ways in which they travel (pt-spec 3.2.3, 3.3.3, 3.5).

use std::fmt;

/// Most pairs.
pub const PAIRS_MAX: usize = 64;
/// Most bytes of all pairs as user and password of SOCKS 5.
pub const SOCKS_LEN_MAX: usize = 2 * FIELD_LEN_MAX;
/// Most bytes of a field of RFC 1929.
const FIELD_LEN_MAX: usize = 255;

/// Pairs of key and value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Arguments(Vec<(String, String)>);

/// Why something is no argument of a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentsError {
    /// A word is no `key=value`.
    #[error("an argument is no KEY=VALUE")]
    NotAPair,
    /// A character that is not ASCII, or a space.
    #[error("an argument has a character that is no visible one of ASCII")]
    Character,
    /// Too many pairs.
    #[error("more than {PAIRS_MAX} arguments")]
    TooMany,
    /// Too long for a SOCKS request.
    #[error("the arguments have more than {SOCKS_LEN_MAX} bytes")]
    TooLong,
}

impl Arguments {
    /// Adds a pair, whose value may be empty.
    pub fn push(&mut self, key: &str, value: &str) -> Result<(), ArgumentsError> {
        if key.is_empty() {
            return Err(ArgumentsError::NotAPair);
        }
        let mut bytes = key.bytes().chain(value.bytes());
        if !bytes.all(|byte| byte.is_ascii_graphic()) {
            return Err(ArgumentsError::Character);
        }
        if self.0.len() >= PAIRS_MAX {
            return Err(ArgumentsError::TooMany);
        }
        self.0.push((key.to_owned(), value.to_owned()));
        if self.socks_text().len() > SOCKS_LEN_MAX {
            self.0.pop();
            return Err(ArgumentsError::TooLong);
        }
        Ok(())
    }

    /// Adds the pair of a word `key=value`.
    pub fn push_word(&mut self, word: &str) -> Result<(), ArgumentsError> {
        let (key, value) = word.split_once('=').ok_or(ArgumentsError::NotAPair)?;
        self.push(key, value)
    }

    /// The pairs, in order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The user and the password by which SOCKS 5 tells them; `None` if there are none. A password
    /// that nothing is left for is one NUL.
    #[must_use]
    pub fn socks5(&self) -> Option<(String, String)> {
        let mut user = self.socks_text();
        if user.is_empty() {
            return None;
        }
        let password = match user.len() > FIELD_LEN_MAX {
            // All of it is ASCII.
            true => user.split_off(FIELD_LEN_MAX),
            false => "\0".to_owned(),
        };
        Some((user, password))
    }

    /// The user by which SOCKS 4 tells them; empty if there are none.
    #[must_use]
    pub fn socks4(&self) -> String {
        self.socks_text()
    }

    fn socks_text(&self) -> String {
        let pairs = self.pairs();
        let words = pairs.map(|(key, value)| {
            let escaped = [key, value].map(|word| escaped(word, &['\\', '=', ';']));
            escaped.join("=")
        });
        words.collect::<Vec<_>>().join(";")
    }

    /// The word of `TOR_PT_SERVER_TRANSPORT_OPTIONS` for a transport.
    #[must_use]
    pub fn server_options(&self, transport: &str) -> String {
        let pairs = self.pairs();
        let words = pairs.map(|(key, value)| {
            let [key, value] = [key, value].map(|word| escaped(word, &['\\', ':', ';', '=']));
            format!("{transport}:{key}={value}")
        });
        words.collect::<Vec<_>>().join(";")
    }

    /// Reads the option `ARGS:` of SMETHOD, without that word: pairs with commas between them,
    /// `\` before what means itself.
    pub fn parse_args(text: &str) -> Result<Self, ArgumentsError> {
        let mut arguments = Arguments::default();
        let (mut key, mut word) = (None, String::new());
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            match char {
                '\\' => word.push(chars.next().ok_or(ArgumentsError::NotAPair)?),
                '=' if key.is_none() => key = Some(std::mem::take(&mut word)),
                ',' => {
                    let key = key.take().ok_or(ArgumentsError::NotAPair)?;
                    arguments.push(&key, &std::mem::take(&mut word))?;
                }
                char => word.push(char),
            }
        }
        let key = key.ok_or(ArgumentsError::NotAPair)?;
        arguments.push(&key, &word)?;
        Ok(arguments)
    }

    /// Writes what [`Arguments::parse_args`] reads.
    #[must_use]
    pub fn args(&self) -> String {
        let pairs = self.pairs();
        let words = pairs.map(|(key, value)| {
            let escaped = [key, value].map(|word| escaped(word, &['\\', '=', ',']));
            escaped.join("=")
        });
        words.collect::<Vec<_>>().join(",")
    }
}

/// As in a bridge line: words with spaces between them.
impl fmt::Display for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.pairs().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{key}={value}")?;
        }
        Ok(())
    }
}

fn escaped(word: &str, special: &[char]) -> String {
    let mut out = String::with_capacity(word.len());
    for char in word.chars() {
        if special.contains(&char) {
            out.push('\\');
        }
        out.push(char);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn arguments(pairs: &[(&str, &str)]) -> Arguments {
        let mut arguments = Arguments::default();
        for (key, value) in pairs {
            arguments.push(key, value).unwrap();
        }
        arguments
    }

    #[test]
    fn socks_tells_them_as_the_specification_has_it() {
        let pairs = [("shared-secret", "rahasia"), ("secrets-file", "/tmp/blob")];
        let two = arguments(&pairs);
        let text = "shared-secret=rahasia;secrets-file=/tmp/blob";
        assert_eq!(two.socks4(), text);
        assert_eq!(two.socks5(), Some((text.to_owned(), "\0".to_owned())));
        let odd = arguments(&[("a;b", r"c\d=e")]);
        assert_eq!(odd.socks4(), r"a\;b=c\\d\=e");
        assert_eq!(Arguments::default().socks5(), None);
        let long = arguments(&[("k", &"v".repeat(400))]);
        let (user, password) = long.socks5().unwrap();
        assert_eq!((user.len(), password.len()), (255, 147));
        let exact = arguments(&[("k", &"v".repeat(253))]);
        assert_eq!(exact.socks5().unwrap().1, "\0");
    }

    #[test]
    fn bounds_are_kept() {
        let mut one = Arguments::default();
        let too_long = "v".repeat(SOCKS_LEN_MAX);
        assert_eq!(one.push("k", &too_long), Err(ArgumentsError::TooLong));
        assert_eq!(one.push("", "v"), Err(ArgumentsError::NotAPair));
        assert_eq!(one.push("k", "a b"), Err(ArgumentsError::Character));
        assert_eq!(one.push_word("k"), Err(ArgumentsError::NotAPair));
        for _ in 0..PAIRS_MAX {
            one.push("k", "v").unwrap();
        }
        assert_eq!(one.push("k", "v"), Err(ArgumentsError::TooMany));
    }

    #[test]
    fn options_of_servers_are_escaped() {
        let one = arguments(&[("rule", "110"), ("depth", "3:4;5")]);
        let text = r"automata:rule=110;automata:depth=3\:4\;5";
        assert_eq!(one.server_options("automata"), text);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            pairs in prop::collection::vec(("[!-~]{1,8}", "[!-~]{0,16}"), 1..9),
        ) {
            let mut one = Arguments::default();
            for (key, value) in &pairs {
                one.push(key, value).unwrap();
            }
            prop_assert_eq!(Arguments::parse_args(&one.args()), Ok(one));
        }

        #[test]
        fn nothing_makes_it_fail(text in ".{0,200}") {
            if let Ok(read) = Arguments::parse_args(&text) {
                prop_assert!(read.socks4().len() <= SOCKS_LEN_MAX);
            }
        }
    }
}
