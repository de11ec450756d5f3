//! What a command is answered (control-spec 2.3).
//!
//! A reply is a list of lines; all but the last have `-` behind their code, one with data has `+`.
//! A line break within a text would forge a reply, so none is written.

use crate::line::escape;
use crate::refusal::Refusal;

/// One line of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Text {
        status: u16,
        text: String,
    },
    Data {
        status: u16,
        text: String,
        data: String,
    },
}

/// The reply to one command; without lines it is `250 OK`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    lines: Vec<Line>,
}

impl Reply {
    /// `250 OK`.
    #[must_use]
    pub fn ok() -> Reply {
        Reply::new(250, "OK")
    }

    /// A reply of one line.
    #[must_use]
    pub fn new(status: u16, text: impl Into<String>) -> Reply {
        Reply::default().line(status, text)
    }

    /// Adds a line.
    #[must_use]
    pub fn line(mut self, status: u16, text: impl Into<String>) -> Reply {
        let text = text.into();
        self.lines.push(Line::Text { status, text });
        self
    }

    /// Adds a line of GETINFO, `250-key=value`, or with data where the value has line breaks.
    #[must_use]
    pub fn value(mut self, key: &str, value: impl Into<String>) -> Reply {
        let (status, data) = (250, value.into());
        self.lines.push(if data.contains('\n') {
            let text = format!("{key}=");
            Line::Data { status, text, data }
        } else {
            let text = format!("{key}={data}");
            Line::Text { status, text }
        });
        self
    }

    /// Adds the lines of another reply.
    #[must_use]
    pub fn and(mut self, other: Reply) -> Reply {
        self.lines.extend(other.lines);
        self
    }

    /// A reply of each refusal, or nothing where there is none.
    #[must_use]
    pub fn refusals(refusals: &[Refusal]) -> Option<Reply> {
        (!refusals.is_empty()).then(|| {
            let line =
                |reply: Reply, refusal: &Refusal| reply.line(refusal.status(), refusal.to_string());
            refusals.iter().fold(Reply::default(), line)
        })
    }

    /// Whether it says that the command was done: every code begins with 2.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.lines.iter().all(|line| match line {
            Line::Text { status, .. } | Line::Data { status, .. } => status / 100 == 2,
        })
    }

    /// The bytes; a reply that would end with data gets its `250 OK`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut lines = self.lines.iter().peekable();
        while let Some(line) = lines.next() {
            match line {
                Line::Text { status, text } => {
                    let mark = if lines.peek().is_some() { '-' } else { ' ' };
                    bytes.extend(format!("{status}{mark}{}\r\n", one_line(text)).into_bytes());
                }
                Line::Data { status, text, data } => {
                    bytes.extend(format!("{status}+{}\r\n", one_line(text)).into_bytes());
                    bytes.extend(escape(data.as_bytes()));
                }
            }
        }
        if !matches!(self.lines.last(), Some(Line::Text { .. })) {
            bytes.extend_from_slice(b"250 OK\r\n");
        }
        bytes
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Reply {
        Reply::new(refusal.status(), refusal.to_string())
    }
}

/// A text without line breaks: each becomes a space.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(reply: &Reply) -> String {
        String::from_utf8(reply.encode()).unwrap()
    }

    #[test]
    fn replies_are_written_as_tor_writes_them() {
        assert_eq!(text(&Reply::ok()), "250 OK\r\n");
        assert_eq!(text(&Reply::default()), "250 OK\r\n");
        let info = Reply::default()
            .value("config-text", "SocksPort 0\n.x\n")
            .value("version", "0.4.9.11")
            .line(250, "OK");
        assert_eq!(
            text(&info),
            "250+config-text=\r\nSocksPort 0\r\n..x\r\n.\r\n250-version=0.4.9.11\r\n250 OK\r\n"
        );
        let data = Reply::default().value("a", "b\nc");
        assert_eq!(text(&data), "250+a=\r\nb\r\nc\r\n.\r\n250 OK\r\n");
    }

    #[test]
    fn refusals_have_tors_codes_and_texts() {
        let keys = ["foo", "bar"].map(|key| Refusal::Key(key.to_owned()));
        let reply = Reply::refusals(&keys).unwrap();
        assert!(!reply.is_success());
        assert_eq!(
            text(&reply),
            "552-Unrecognized key \"foo\"\r\n552 Unrecognized key \"bar\"\r\n"
        );
        assert_eq!(Reply::refusals(&[]), None);
        let collision = Reply::from(Refusal::OnionCollision);
        assert_eq!(text(&collision), "550 Onion address collision\r\n");
    }

    proptest! {
        #[test]
        fn no_text_forges_a_line(text: String, key: String, value: String) {
            let reply = Reply::default().value(&key, &*value).line(552, text);
            let bytes = reply.encode();
            let ends = bytes.windows(2).filter(|pair| pair == b"\r\n").count();
            let data_lines = value.split_inclusive('\n').count();
            let expected = if value.contains('\n') { data_lines + 3 } else { 2 };
            prop_assert_eq!(ends, expected);
        }
    }
}
