//! What happened, a line an event: its hash always, its text for who wants to read it.

use std::fmt::{Arguments, Write as _};
use std::time::Duration;

use cepa_crypto::digest::Sha256Running;
use cepa_crypto::encoding::hex_upper;

/// A running trace.
pub struct Trace {
    hash: Sha256Running,
    events: u64,
    text: Option<String>,
    line: String,
}

impl Trace {
    /// An empty trace, which keeps its lines or only their hash.
    #[must_use]
    pub fn new(keeps_lines: bool) -> Self {
        Trace {
            hash: Sha256Running::new(),
            events: 0,
            text: keeps_lines.then(String::new),
            line: String::new(),
        }
    }

    /// Adds a line: what happened so long after the start.
    pub(super) fn note(&mut self, at: Duration, what: Arguments<'_>) {
        self.line.clear();
        // Writing to a string does not fail.
        let _ = writeln!(self.line, "{:.3} {what}", at.as_secs_f64());
        self.hash.update(self.line.as_bytes());
        self.events += 1;
        if let Some(text) = &mut self.text {
            text.push_str(&self.line);
        }
    }

    /// How many lines, the hash of all in hexadecimal digits, and the lines if they were kept.
    #[must_use]
    pub fn finish(self) -> (u64, String, Option<String>) {
        (self.events, hex_upper(&self.hash.finish()), self.text)
    }
}
