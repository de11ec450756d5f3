//! A configuration of ours as it is written (TOML), each line with the place in a torrc that it
//! comes from.

use std::fmt::Write as _;

use crate::Place;
use crate::settings::Value;

/// Where a line comes from: a place, and the option that stands there.
pub type Origin = (Place, &'static str);

/// A document, line by line.
#[derive(Debug, Clone, Default)]
pub struct Document {
    lines: Vec<(String, Option<Origin>)>,
}

impl Document {
    /// The text.
    pub fn text(&self) -> String {
        let lines = self.lines.iter();
        lines.fold(String::new(), |text, (line, _)| text + line + "\n")
    }

    /// Where each line comes from, in turn.
    pub fn origins(&self) -> Vec<Option<Origin>> {
        self.lines.iter().map(|(_, from)| from.clone()).collect()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The same with a line before all others.
    #[must_use]
    pub fn with_first(mut self, line: &str) -> Self {
        self.lines.insert(0, (line.to_owned(), None));
        self
    }

    /// A line of no torrc.
    pub(crate) fn plain(&mut self, line: impl Into<String>) {
        self.lines.push((line.into(), None));
    }

    /// A key and its value, which is TOML already.
    pub(crate) fn key(&mut self, key: &str, toml: &str, from: &Value) {
        self.line(format!("{key} = {toml}"), from);
    }

    /// A key and a text.
    pub(crate) fn text_key(&mut self, key: &str, text: &str, from: &Value) {
        self.key(key, &string(text), from);
    }

    /// A list of texts, one a line.
    pub(crate) fn list(&mut self, key: &str, texts: &[(String, &Value)]) {
        let Some((_, first)) = texts.first() else {
            return;
        };
        self.line(format!("{key} = ["), first);
        for (text, from) in texts {
            self.line(format!("    {},", string(text)), from);
        }
        self.plain("]");
    }

    pub(crate) fn line(&mut self, line: String, from: &Value) {
        let origin = (from.place.clone(), from.option.name);
        self.lines.push((line, Some(origin)));
    }

    /// Another document behind this one, if there is anything in it.
    pub(crate) fn section(&mut self, head: &str, body: Document) {
        if !body.is_empty() {
            self.plain("");
            self.plain(head);
            self.lines.extend(body.lines);
        }
    }

    /// The lines of another document behind these.
    pub(crate) fn extend(&mut self, more: Document) {
        self.lines.extend(more.lines);
    }
}

/// A text in TOML.
pub fn string(text: &str) -> String {
    let mut toml = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => toml.extend(['\\', c]),
            '\n' => toml.push_str("\\n"),
            '\t' => toml.push_str("\\t"),
            // Writing to a string cannot fail.
            c if c.is_control() => drop(write!(toml, "\\u{:04X}", u32::from(c))),
            c => toml.push(c),
        }
    }
    toml.push('"');
    toml
}
