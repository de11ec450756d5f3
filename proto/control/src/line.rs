//! The bytes of a controller, cut into commands (control-spec 2.2).
//!
//! A command is a line, or a line that starts with `+` and the data behind it, up to a line of one
//! dot. Lines end with CRLF or LF. Length is bounded, and less so before authentication. A web page
//! that makes a browser talk to the port is told so in HTTP, as by `tor`.

use zeroize::{Zeroize, Zeroizing};

/// Bytes of one command with its data, at most, as in `tor`.
pub const COMMAND_LEN_MAX: usize = 1024 * 1024;
/// Bytes of one command before authentication, at most: passwords are short.
pub const STRANGER_LEN_MAX: usize = 4096;

/// What a browser is told, before its connection is closed.
pub const HTTP_REPLY: &str = concat!(
    "HTTP/1.0 501 Tor ControlPort is not an HTTP proxy\r\n",
    "Content-Type: text/plain; charset=us-ascii\r\n",
    "Connection: close\r\n\r\n",
    "This is a control port (control-spec), and no HTTP proxy. The SOCKS port is another one.\r\n"
);

/// The verbs by which `tor` knows HTTP; they are case-sensitive.
const HTTP_VERBS: [&[u8]; 5] = [b"CONNECT ", b"DELETE ", b"GET ", b"POST ", b"PUT "];

/// A command as it came, before its arguments are read.
#[derive(Clone, PartialEq, Eq)]
pub struct RawCommand {
    /// The first word, with its `+`, as it was written; lossy where it is not UTF-8.
    pub keyword: String,
    /// What follows on the line, without the line's end.
    pub arguments: Zeroizing<Vec<u8>>,
    /// What follows the line of a `+` command: dots unescaped, lines ended by LF.
    pub data: Option<Zeroizing<Vec<u8>>>,
}

impl std::fmt::Debug for RawCommand {
    /// Only the keyword: arguments may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawCommand")
            .field("keyword", &self.keyword)
            .finish_non_exhaustive()
    }
}

/// Why a connection is closed for its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// A command is longer than [`COMMAND_LEN_MAX`], or [`STRANGER_LEN_MAX`] before authentication.
    #[error("a control command without an end")]
    TooLong,
    /// The stranger speaks HTTP.
    #[error("an HTTP client on the control port")]
    Http,
}

impl LineError {
    /// What to send before closing.
    #[must_use]
    pub fn reply(self) -> &'static str {
        match self {
            LineError::TooLong => "500 Line too long.\r\n",
            LineError::Http => HTTP_REPLY,
        }
    }
}

/// Cuts the bytes of one connection into commands.
pub struct LineReader {
    buffer: Zeroizing<Vec<u8>>,
    /// Where the search for the next line's end goes on: all before it was looked at.
    searched: usize,
    /// Where the line behind the last line's end begins, within a command with data.
    line_start: usize,
    /// How long the command's own line is with its end, once it is whole and data follow.
    head: Option<usize>,
    is_trusted: bool,
}

impl LineReader {
    /// For a connection that has not authenticated.
    #[must_use]
    pub fn new() -> LineReader {
        LineReader {
            buffer: Zeroizing::new(Vec::with_capacity(STRANGER_LEN_MAX)),
            searched: 0,
            line_start: 0,
            head: None,
            is_trusted: false,
        }
    }

    /// From now on commands may be as long as [`COMMAND_LEN_MAX`], and HTTP is not looked for.
    pub fn trust(&mut self) {
        self.is_trusted = true;
    }

    /// Adds what was read; call [`LineReader::next_command`] until it has no more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// How many bytes wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next whole command, if there is one.
    pub fn next_command(&mut self) -> Result<Option<RawCommand>, LineError> {
        if !self.is_trusted && HTTP_VERBS.iter().any(|verb| self.buffer.starts_with(verb)) {
            return Err(LineError::Http);
        }
        let len_max = if self.is_trusted {
            COMMAND_LEN_MAX
        } else {
            STRANGER_LEN_MAX
        };
        loop {
            let unseen = self.buffer.get(self.searched..).unwrap_or_default();
            let Some(at) = unseen.iter().position(|byte| *byte == b'\n') else {
                self.searched = self.buffer.len();
                let is_long = self.buffer.len() > len_max;
                return if is_long {
                    Err(LineError::TooLong)
                } else {
                    Ok(None)
                };
            };
            let line_end = self.searched + at + 1;
            if line_end > len_max {
                return Err(LineError::TooLong);
            }
            self.searched = line_end;
            match self.head {
                None if self.buffer.first() == Some(&b'+') => self.head = Some(line_end),
                None => return Ok(Some(self.take(line_end, None))),
                Some(head) => {
                    let line = self.buffer.get(self.line_start..line_end);
                    if matches!(line, Some(b".\r\n" | b".\n")) {
                        return Ok(Some(self.take(head, Some(line_end))));
                    }
                }
            }
            self.line_start = line_end;
        }
    }

    /// Cuts off a command whose line ends at `head`, and its data at `end`.
    fn take(&mut self, head: usize, end: Option<usize>) -> RawCommand {
        let line = trim_end(self.buffer.get(..head).unwrap_or_default());
        let word_len = line
            .iter()
            .position(|byte| byte.is_ascii_whitespace())
            .unwrap_or(line.len());
        let (keyword, arguments) = line.split_at(word_len);
        let data = end.map(|end| {
            let data = self.buffer.get(head..self.line_start.min(end));
            unescape(data.unwrap_or_default())
        });
        let command = RawCommand {
            keyword: String::from_utf8_lossy(keyword).into_owned(),
            arguments: Zeroizing::new(arguments.trim_ascii().to_vec()),
            data,
        };
        let taken = end.unwrap_or(head);
        let len = self.buffer.len();
        self.buffer.copy_within(taken.., 0);
        if let Some(left) = self.buffer.get_mut(len - taken..) {
            left.zeroize();
        }
        self.buffer.truncate(len - taken);
        if self.buffer.is_empty() && self.buffer.capacity() > 2 * STRANGER_LEN_MAX {
            self.buffer = Zeroizing::new(Vec::with_capacity(STRANGER_LEN_MAX));
        }
        (self.searched, self.line_start, self.head) = (0, 0, None);
        command
    }
}

impl Default for LineReader {
    fn default() -> LineReader {
        LineReader::new()
    }
}

fn trim_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// A line of data without its end, however many CR that has: one alone means nothing.
fn content(line: &[u8]) -> &[u8] {
    let mut line = line.strip_suffix(b"\n").unwrap_or(line);
    while let Some(rest) = line.strip_suffix(b"\r") {
        line = rest;
    }
    line
}

/// The data of a `+` command: CRLF becomes LF, and the dot before a line's own dot goes.
fn unescape(data: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(data.len()));
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        let line = content(line);
        text.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        text.push(b'\n');
    }
    text
}

/// Data as they stand between a `+` line and a line of one dot: lines end with CRLF, and one that
/// begins with a dot has another before it. The line of one dot is written, too.
#[must_use]
pub fn escape(data: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(data.len() + data.len() / 32 + 5);
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            text.push(b'.');
        }
        text.extend_from_slice(content(line));
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b".\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All commands of these bytes, pushed in pieces of that size.
    fn commands(bytes: &[u8], step: usize) -> Result<Vec<RawCommand>, LineError> {
        let mut reader = LineReader::new();
        reader.trust();
        let mut commands = Vec::new();
        for piece in bytes.chunks(step.max(1)) {
            reader.push(piece);
            while let Some(command) = reader.next_command()? {
                commands.push(command);
            }
        }
        Ok(commands)
    }

    fn raw(keyword: &str, arguments: &str, data: Option<&str>) -> RawCommand {
        RawCommand {
            keyword: keyword.to_owned(),
            arguments: Zeroizing::new(arguments.as_bytes().to_vec()),
            data: data.map(|data| Zeroizing::new(data.as_bytes().to_vec())),
        }
    }

    #[test]
    fn commands_are_cut() {
        let bytes =
            b"GETINFO  version \r\nquit\n+LOADCONF\r\nA 1\r\n..b\n\r\n.\r\n\r\n x\n+x y\n.\n";
        for step in [1, 2, 3, 7, 1000] {
            assert_eq!(
                commands(bytes, step).unwrap(),
                [
                    raw("GETINFO", "version", None),
                    raw("quit", "", None),
                    raw("+LOADCONF", "", Some("A 1\n.b\n\n")),
                    raw("", "", None),
                    raw("", "x", None),
                    raw("+x", "y", Some("")),
                ]
            );
        }
    }

    #[test]
    fn browsers_are_known_before_authentication_only() {
        for verb in [
            "GET / HTTP/1.1\r\n",
            "POST ",
            "CONNECT a:1",
            "PUT x",
            "DELETE x",
        ] {
            let mut reader = LineReader::new();
            reader.push(verb.as_bytes());
            assert_eq!(reader.next_command(), Err(LineError::Http), "{verb}");
            reader.trust();
            assert!(reader.next_command().is_ok());
        }
        let mut reader = LineReader::new();
        reader.push(b"GETINFO version\r\n");
        assert!(reader.next_command().unwrap().is_some());
    }

    #[test]
    fn a_line_without_end_is_refused_and_never_kept() {
        let mut reader = LineReader::new();
        reader.push(&[b'a'; STRANGER_LEN_MAX]);
        assert_eq!(reader.next_command(), Ok(None));
        reader.push(b"a");
        assert_eq!(reader.next_command(), Err(LineError::TooLong));
        reader.trust();
        assert_eq!(reader.next_command(), Ok(None));
        reader.push(&vec![b'a'; COMMAND_LEN_MAX]);
        assert_eq!(reader.next_command(), Err(LineError::TooLong));
        // Data count, however short their lines are.
        let data = format!("+LOADCONF\r\n{}", "\r\n".repeat(COMMAND_LEN_MAX / 2));
        assert_eq!(commands(data.as_bytes(), 5000), Err(LineError::TooLong));
    }

    proptest! {
        #[test]
        fn data_come_back(
            lines in prop::collection::vec("[.a\t]{0,4}\r{0,2}", 0..8),
            step in 1..9_usize,
        ) {
            let data: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let mut bytes = b"+A b\r\n".to_vec();
            bytes.extend(escape(data.as_bytes()));
            bytes.extend_from_slice(b"C\r\n");
            // A CR at the end of a line belongs to that end.
            let data = data.replace('\r', "");
            let expected = [raw("+A", "b", Some(&data)), raw("C", "", None)];
            prop_assert_eq!(commands(&bytes, step).unwrap(), expected);
        }

        #[test]
        fn cuts_do_not_matter(bytes in "[+.a \r\n]{0,60}", step in 1..9_usize) {
            let whole = commands(bytes.as_bytes(), bytes.len());
            prop_assert_eq!(commands(bytes.as_bytes(), step), whole);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>, step in 1..9_usize) {
            let _ = commands(&bytes, step);
        }
    }
}
