//! Quoting and keyword arguments (control-spec 2.1, 2.1.1, 3.1).
//!
//! Two kinds of quoted string look alike: in a `QuotedString` a backslash stands for the character
//! behind it; in a `CString` it begins an escape of C. `tor` reads passwords and nonces as the
//! first, configuration values as the second, and writes the second. Keyword arguments are read as
//! `tor` reads them: white space between them may be absent after a quoted value.

use std::borrow::Cow;
use std::fmt::Write as _;

use cepa_crypto::onion::{ADDRESS_LEN, OnionAddress};
use zeroize::Zeroizing;

/// Arguments of one command, at most; `tor` sets no bound but that of the line.
pub const ARGUMENTS_MAX: usize = 4096;

const FORM_FEED: u8 = 0x0C;

/// How a list of keyword arguments is written; what is not allowed makes it unreadable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// A value may stand without its key.
    pub(crate) may_omit_keys: bool,
    /// A key may stand without a value.
    pub(crate) may_omit_values: bool,
    /// How a value in quotes is read, if it may have any.
    pub(crate) quotes: Quotes,
}

/// What a pair of quotes means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quotes {
    /// Nowhere allowed.
    None,
    /// `QuotedString`: a backslash stands for the character behind it.
    Plain,
    /// `CString`: a backslash begins an escape of C.
    C,
}

/// A keyword argument; the key is empty where the style lets it be absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    /// The key as it was written.
    pub(crate) key: Vec<u8>,
    /// The value, empty where it is absent.
    pub(crate) value: Zeroizing<Vec<u8>>,
    /// Whether the value stood in quotes.
    pub(crate) is_quoted: bool,
}

/// What parts arguments. A form feed does not, though it is trimmed at the end of a line.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0B)
}

/// The length of what comes before the first byte that is one of these.
fn span_until(bytes: &[u8], is_end: impl Fn(u8) -> bool) -> usize {
    bytes
        .iter()
        .position(|byte| is_end(*byte))
        .unwrap_or(bytes.len())
}

/// Reads keyword arguments up to the end of `line`; `None` if one cannot be read or there are more
/// than [`ARGUMENTS_MAX`].
pub(crate) fn read_pairs(line: &[u8], style: Style) -> Option<Vec<Pair>> {
    // Where no value may be quoted, a quote anywhere is a mistake: `tor` takes none either.
    if style.quotes == Quotes::None && line.contains(&b'"') {
        return None;
    }
    let mut pairs = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.get(span_until(rest, |byte| !is_space(byte))..)?;
        if rest.is_empty() {
            return Some(pairs);
        }
        if pairs.len() == ARGUMENTS_MAX {
            return None;
        }
        let (pair, after) = read_pair(rest, style)?;
        pairs.push(pair);
        rest = after;
    }
}

/// Reads one argument at the start of a text that is not empty.
fn read_pair(rest: &[u8], style: Style) -> Option<(Pair, &[u8])> {
    let is_bare_quote = style.may_omit_keys && rest.first() == Some(&b'"');
    let key_len = span_until(rest, |byte| byte == b'=' || is_space(byte));
    let has_value = !is_bare_quote && rest.get(key_len) == Some(&b'=');
    let (key, value_at) = if has_value {
        (rest.get(..key_len)?, rest.get(key_len + 1..)?)
    } else if style.may_omit_keys {
        (&[][..], rest)
    } else if style.may_omit_values {
        let key = rest.get(..key_len)?;
        let pair = Pair {
            key: key.to_vec(),
            value: Zeroizing::default(),
            is_quoted: false,
        };
        let is_word = !key.is_empty() && !key.contains(&b'"') && !key.contains(&FORM_FEED);
        return is_word.then_some((pair, rest.get(key_len..)?));
    } else {
        return None;
    };
    if has_value && (key.is_empty() || key.contains(&b'"')) {
        return None;
    }
    let is_quoted = value_at.first() == Some(&b'"');
    let (value, after) = match (is_quoted, style.quotes) {
        (true, Quotes::None) => return None,
        (true, Quotes::Plain) => read_quoted(value_at)?,
        (true, Quotes::C) => read_c_quoted(value_at)?,
        (false, _) => {
            let (value, after) = value_at.split_at(span_until(value_at, is_space));
            (Zeroizing::new(value.to_vec()), after)
        }
    };
    let pair = Pair {
        key: key.to_vec(),
        value,
        is_quoted,
    };
    // One with a form feed in it could be written back in quotes only; `tor` refuses it, too.
    let has_form_feed = pair.key.contains(&FORM_FEED)
        || style.quotes == Quotes::None && pair.value.contains(&FORM_FEED);
    (!has_form_feed).then_some((pair, after))
}

/// Reads a `QuotedString` at the start of `text`: its bytes, and what follows it.
///
/// `None` if it does not begin or does not end with a quote.
#[must_use]
pub fn read_quoted(text: &[u8]) -> Option<(Zeroizing<Vec<u8>>, &[u8])> {
    let mut value = Zeroizing::new(Vec::with_capacity(text.len()));
    let (mut rest, mut is_escaped) = (text.strip_prefix(b"\"")?, false);
    loop {
        let (byte, after) = rest.split_first()?;
        rest = after;
        match (is_escaped, byte) {
            (false, b'"') => return Some((value, rest)),
            (false, b'\\') => is_escaped = true,
            _ => {
                value.push(*byte);
                is_escaped = false;
            }
        }
    }
}

/// Reads a `CString` at the start of `text`: its bytes, and what follows it.
///
/// Escapes are `\n`, `\t`, `\r`, `\"`, `\\`, `\'`, one to three octal digits and `\x` with two
/// hexadecimal ones; another one, a line break, a zero byte or a missing quote make it unreadable.
#[must_use]
pub fn read_c_quoted(text: &[u8]) -> Option<(Zeroizing<Vec<u8>>, &[u8])> {
    let mut value = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        let (byte, after) = rest.split_first()?;
        rest = after;
        let read = match byte {
            b'"' => return Some((value, rest)),
            b'\n' | b'\r' => return None,
            b'\\' => {
                let (byte, after) = read_escape(rest)?;
                rest = after;
                byte
            }
            byte => *byte,
        };
        if read == 0 {
            return None;
        }
        value.push(read);
    }
}

/// Reads what follows a backslash of a `CString`.
fn read_escape(rest: &[u8]) -> Option<(u8, &[u8])> {
    let (kind, after) = rest.split_first()?;
    let byte = match kind {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'"' | b'\\' | b'\'' => *kind,
        b'x' | b'X' => {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            let byte = u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
            return Some((byte, after.get(2..)?));
        }
        b'0'..=b'7' => {
            let len = span_until(rest, |digit| !(b'0'..=b'7').contains(&digit)).min(3);
            let digits = std::str::from_utf8(rest.get(..len)?).ok()?;
            let byte = u8::from_str_radix(digits, 8).ok()?;
            return Some((byte, rest.get(len..)?));
        }
        _ => return None,
    };
    Some((byte, after))
}

/// Writes a `QuotedString`: only backslashes and quotes are escaped.
#[must_use]
pub fn quote(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(2 * bytes.len() + 2));
    text.push(b'"');
    for byte in bytes {
        if matches!(byte, b'"' | b'\\') {
            text.push(b'\\');
        }
        text.push(*byte);
    }
    text.push(b'"');
    text
}

/// Writes a `CString`: quotes, backslashes and all that is not printable ASCII are escaped.
#[must_use]
pub fn c_quote(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for byte in bytes {
        match byte {
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b'\r' => text.push_str("\\r"),
            b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(*byte));
            }
            b' '..=b'~' => text.push(char::from(*byte)),
            byte => {
                let _ = write!(text, "\\{byte:03o}");
            }
        }
    }
    text.push('"');
    text
}

/// A value of the configuration as GETCONF and SAVECONF write it: quoted where `torrc` needs it.
#[must_use]
pub fn config_value(value: &str) -> Cow<'_, str> {
    let is_printable = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'#';
    if value.starts_with('"') || !value.bytes().all(is_printable) {
        Cow::Owned(c_quote(value.as_bytes()))
    } else {
        Cow::Borrowed(value)
    }
}

/// An onion address as commands, replies and events have it: without `.onion`.
#[must_use]
pub fn service_id(address: &OnionAddress) -> String {
    let mut text = address.to_string();
    text.truncate(ADDRESS_LEN);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SETCONF: Style = Style {
        may_omit_keys: false,
        may_omit_values: true,
        quotes: Quotes::C,
    };
    const AUTHENTICATE: Style = Style {
        may_omit_keys: true,
        may_omit_values: false,
        quotes: Quotes::Plain,
    };

    fn pairs(line: &str, style: Style) -> Option<Vec<(String, String)>> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let pairs = read_pairs(line.as_bytes(), style)?;
        let texts = pairs
            .iter()
            .map(|pair| (text(&pair.key), text(&pair.value)));
        Some(texts.collect())
    }

    fn owned(pairs: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Some(pairs.iter().map(owned).collect())
    }

    #[test]
    fn pairs_are_read_as_tor_reads_them() {
        let read = |line| pairs(line, SETCONF);
        assert_eq!(read("a=b  c"), owned(&[("a", "b"), ("c", "")]));
        assert_eq!(read("a=\"x\"y"), owned(&[("a", "x"), ("y", "")]));
        assert_eq!(read("a=b=c d="), owned(&[("a", "b=c"), ("d", "")]));
        assert_eq!(read("a=b\"c\td"), owned(&[("a", "b\"c"), ("d", "")]));
        assert_eq!(read(r#"a="\"\n\101\x42\\""#), owned(&[("a", "\"\nAB\\")]));
        assert_eq!(
            read("a=b\x0cc d=\x0b"),
            owned(&[("a", "b\x0cc"), ("d", "")])
        );
        for bad in ["=b", "a = b", "a=\"b", "\"a\"=b", r#"a="\q""#, r#"a="\0""#] {
            assert_eq!(read(bad), None, "{bad}");
        }
        for bad in ["a\x0cb", "\x0ca=b", "a\x0cb=c"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        let read = |line| pairs(line, AUTHENTICATE);
        assert_eq!(read(r#"  "b\ar" "#), owned(&[("", "bar")]));
        assert_eq!(read("00ff x"), owned(&[("", "00ff"), ("", "x")]));
        assert_eq!(read(r#""a b"c=d"#), owned(&[("", "a b"), ("c", "d")]));
        assert_eq!(read("\"foo"), None);
        assert_eq!(read("=b"), None);
    }

    #[test]
    fn configuration_values_are_quoted_where_tor_quotes_them() {
        assert_eq!(config_value("notice file /x"), "notice file /x");
        assert_eq!(config_value("a\"b"), "a\"b");
        assert_eq!(config_value("a # c"), "\"a # c\"");
        assert_eq!(config_value("a\tb"), "\"a\\tb\"");
        assert_eq!(config_value("\"a"), "\"\\\"a\"");
    }

    proptest! {
        #[test]
        fn quoted_strings_come_back(value: Vec<u8>, tail in "[a-z ]*") {
            let mut text = quote(&value).to_vec();
            text.extend_from_slice(tail.as_bytes());
            let (read, rest) = read_quoted(&text).unwrap();
            prop_assert_eq!(&*read, &value);
            prop_assert_eq!(rest, tail.as_bytes());
        }

        #[test]
        fn c_strings_come_back(value in prop::collection::vec(1..=255_u8, 0..50)) {
            let text = c_quote(&value);
            prop_assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            let (read, rest) = read_c_quoted(text.as_bytes()).unwrap();
            prop_assert_eq!(&*read, &value);
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_read_without_panic(line: Vec<u8>, omit: (bool, bool), quotes in 0..3_u8) {
            let quotes = [Quotes::None, Quotes::Plain, Quotes::C][usize::from(quotes)];
            let style = Style { may_omit_keys: omit.0, may_omit_values: omit.1, quotes };
            let _ = read_pairs(&line, style);
        }
    }

    #[test]
    fn arguments_are_bounded() {
        let line = "a ".repeat(ARGUMENTS_MAX);
        assert_eq!(
            read_pairs(line.as_bytes(), SETCONF).unwrap().len(),
            ARGUMENTS_MAX
        );
        assert_eq!(read_pairs(format!("{line} b").as_bytes(), SETCONF), None);
    }
}
