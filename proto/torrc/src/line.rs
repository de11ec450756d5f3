//! The lines of one file: comments, continuations, quoted values (tor(1), "THE CONFIGURATION
//! FILE FORMAT"). Total: any text is read, or its first wrong line is named.

use crate::VALUE_LEN_MAX;

/// A line that is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The first word.
    pub(crate) key: String,
    /// The rest.
    pub(crate) value: String,
    /// The number of the line on which it begins.
    pub(crate) number: u32,
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadLine {
    #[error("a quoted value does not end, or has an unknown escape")]
    Quoting,
    #[error("something stands behind a quoted value")]
    Excess,
    #[error("the value is too long")]
    TooLong,
    #[error("a byte of zero")]
    Zero,
}

/// Reads lines one by one.
pub(crate) struct Lines<'a> {
    rest: &'a str,
    number: u32,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Lines {
            rest: text.strip_prefix('\u{feff}').unwrap_or(text),
            number: 1,
        }
    }

    /// One line of the text as it is, without its end.
    fn take(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.number = self.number.saturating_add(1);
        Some(line.strip_suffix('\r').unwrap_or(line))
    }

    fn read(&mut self, line: &'a str) -> Result<(String, String), BadLine> {
        let end = line.find(|c: char| c.is_ascii_whitespace() || c == '#');
        let (key, rest) = line.split_at(end.unwrap_or(line.len()));
        // A key may be continued at once: its value is on the next line.
        let (key, rest) = match key.strip_suffix('\\') {
            Some(key) if rest.is_empty() => (key, "\\"),
            _ => (key, rest),
        };
        let rest = rest.trim_start();
        let value = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => self.plain(rest)?,
        };
        Ok((key.to_owned(), value))
    }

    /// A value without quotes, over as many lines as it is continued; lines of comments in it are
    /// no part of it.
    fn plain(&mut self, first: &'a str) -> Result<String, BadLine> {
        let mut value = String::new();
        let mut piece = first;
        loop {
            // Also in a line that continues another: what is read must be written back.
            if piece.contains('\0') {
                return Err(BadLine::Zero);
            }
            let without = piece.split('#').next().unwrap_or_default();
            let is_comment = without.len() < piece.len();
            let continued = (!is_comment).then(|| without.strip_suffix('\\')).flatten();
            value.push_str(continued.unwrap_or(without));
            if value.len() > VALUE_LEN_MAX {
                return Err(BadLine::TooLong);
            }
            // Within a value, a line that is all comment is passed over.
            let goes_on = continued.is_some()
                || (is_comment && without.trim().is_empty() && !std::ptr::eq(piece, first));
            match goes_on.then(|| self.take()).flatten() {
                Some(next) => piece = next,
                None => return Ok(value.trim().to_owned()),
            }
        }
    }
}

impl Iterator for Lines<'_> {
    type Item = (u32, Result<Line, BadLine>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let number = self.number;
            let line = self.take()?;
            let line = line.trim_start();
            if line.contains('\0') {
                return Some((number, Err(BadLine::Zero)));
            }
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let read = self.read(line);
            return Some((number, read.map(|(key, value)| Line { key, value, number })));
        }
    }
}

/// The value behind an opening quote (escapes as in C), and nothing behind it but a comment.
pub(crate) fn unquote(text: &str) -> Result<String, BadLine> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes().enumerate().peekable();
    let end = loop {
        let (at, byte) = rest.next().ok_or(BadLine::Quoting)?;
        match byte {
            b'"' => break at,
            b'\\' => {
                let (_, escape) = rest.next().ok_or(BadLine::Quoting)?;
                let mut digits = |base: u32, most: usize, mut value: u32| {
                    let mut count = 0;
                    while count < most
                        && let Some((_, next)) = rest.peek()
                        && let Some(digit) = char::from(*next).to_digit(base)
                    {
                        value = value * base + digit;
                        count += 1;
                        rest.next();
                    }
                    let is_byte = count == most || base == 8;
                    u8::try_from(value).ok().filter(|_| is_byte)
                };
                bytes.push(match escape {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'"' | b'\\' | b'\'' => escape,
                    b'x' | b'X' => digits(16, 2, 0).ok_or(BadLine::Quoting)?,
                    b'0'..=b'7' => {
                        digits(8, 2, u32::from(escape - b'0')).ok_or(BadLine::Quoting)?
                    }
                    _ => return Err(BadLine::Quoting),
                });
            }
            byte => bytes.push(byte),
        }
        if bytes.len() > VALUE_LEN_MAX {
            return Err(BadLine::TooLong);
        }
    };
    let behind = text.get(end + 1..).unwrap_or_default().trim_start();
    if !behind.is_empty() && !behind.starts_with('#') {
        return Err(BadLine::Excess);
    }
    if bytes.contains(&0) {
        return Err(BadLine::Zero);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A value as a torrc may have it: quoted where it must be.
pub(crate) fn quote(value: &str) -> String {
    let is_plain = !value.contains(['#', '"', '\\', '\n', '\r'])
        && value.trim() == value
        && !value.contains(char::is_control);
    if is_plain {
        return value.to_owned();
    }
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String, u32)>, BadLine> {
        let lines = Lines::new(text).map(|(_, line)| line);
        lines
            .map(|line| line.map(|line| (line.key, line.value, line.number)))
            .collect()
    }

    fn one(text: &str) -> Result<String, BadLine> {
        read(text).map(|lines| lines[0].1.clone())
    }

    #[test]
    fn no_line_has_a_zero() {
        for text in [
            "Nickname a\0",
            "Nickname a\\\nb\0",
            "Nickname a\\\n# \0\nb",
            "Nickname \"\\0\"",
        ] {
            assert_eq!(read(text), Err(BadLine::Zero), "{text:?}");
        }
    }

    #[test]
    fn lines_are_read_as_tor_reads_them() {
        let text = "# a\r\n\r\n  SocksPort 9050  # b\r\nLog\tnotice   stdout\nNickname\n%include x";
        let lines = read(text).unwrap();
        let is: Vec<_> = lines.iter().map(|(a, b, n)| (&**a, &**b, *n)).collect();
        let expected = [
            ("SocksPort", "9050", 3),
            ("Log", "notice   stdout", 4),
            ("Nickname", "", 5),
            ("%include", "x", 6),
        ];
        assert_eq!(is, expected);
    }

    #[test]
    fn values_go_over_lines_and_have_quotes() {
        assert_eq!(one("A a \\\n b\nB c").unwrap(), "a  b");
        assert_eq!(one("A a \\\n# no\n b\nB c").unwrap(), "a  b");
        assert_eq!(read("A a \\\n# no\n b\nB c").unwrap()[1].2, 4);
        assert_eq!(one("A a#b").unwrap(), "a");
        assert_eq!(one("A \"a # b\" # c").unwrap(), "a # b");
        assert_eq!(
            one("A \"\\n\\t\\x41\\101\\\"\\\\\\'\"").unwrap(),
            "\n\tAA\"\\'"
        );
        assert_eq!(one("A \"a\" b"), Err(BadLine::Excess));
        assert_eq!(one("A \"a"), Err(BadLine::Quoting));
        assert_eq!(one("A \"\\q\""), Err(BadLine::Quoting));
        assert_eq!(one("A \"\\x4\""), Err(BadLine::Quoting));
        assert_eq!(one("A \"\\777\""), Err(BadLine::Quoting));
        assert_eq!(one("A a\0b"), Err(BadLine::Zero));
        assert_eq!(one("A a\\"), Ok("a".to_owned()));
    }

    proptest! {
        #[test]
        fn any_text_ends(text in "\\PC*|[ -~\n\"\\\\#]{0,200}") {
            let _ = read(&text);
        }

        #[test]
        fn what_is_quoted_is_read(value in "[ -~éß\n\t\"\\\\#]{0,60}") {
            let text = format!("A {}\nB b", quote(&value));
            let lines = read(&text).unwrap();
            prop_assert_eq!(&lines[0].1, &value);
            prop_assert_eq!(&lines[1].0, "B");
        }
    }
}
