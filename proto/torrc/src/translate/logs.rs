//! The log: `Log LEVEL PLACE`, one place a line.

use super::Work;
use crate::settings::{Severity, Value};
use crate::toml::{Document, string};

/// Levels of `tor`, and ours: what a node does, a line a stage, is notice there and info here.
const LEVELS: [(&str, &str); 5] = [
    ("err", "error"),
    ("warn", "warn"),
    ("notice", "info"),
    ("info", "debug"),
    ("debug", "trace"),
];

impl Work<'_> {
    /// `[log]`, in `tor`'s style.
    pub(super) fn log(&mut self) -> Document {
        let mut log = Document::default();
        let mut more = Vec::new();
        for line in self.lines(&["Log"]) {
            let Some((level, place)) = self.log_line(line) else {
                continue;
            };
            more.push((format!("{{ level = \"{level}\"{place} }}"), line));
        }
        log.plain("style = \"tor\"");
        match more.is_empty() {
            true => log.plain("places = [{ level = \"info\", stdout = true }]"),
            false => {
                log.plain("places = [");
                for (line, from) in more {
                    log.line(format!("    {line},"), from);
                }
                log.plain("]");
            }
        }
        if let Some(value) = self.settings.one("SafeLogging") {
            match value.text.trim().to_ascii_lowercase().as_str() {
                "0" => log.key("addresses", "true", value),
                "1" => {}
                "relay" => self.note(Severity::Info, value, "nothing is written out, as with 1"),
                _ => self.refuse(value, "it is 0, 1 or relay"),
            }
        }
        log
    }

    /// Our level and the rest of the table.
    fn log_line(&mut self, line: &Value) -> Option<(&'static str, String)> {
        let mut text = line.text.trim();
        while let Some((_, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
            // A level of some domains, and behind it perhaps one of all.
            let (of_domains, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let is_level = |word: &str| LEVELS.iter().any(|(name, _)| word.starts_with(name));
            let next = rest.trim_start();
            let has_plain = next.starts_with('[') || next.split(' ').next().is_some_and(is_level);
            let what = "lines are not told apart by domain: the level of all counts";
            self.note(Severity::Warning, line, what);
            if !has_plain {
                let place = (!next.is_empty()).then(|| format!("{of_domains} {next}"));
                return self.log_at(line, &place.unwrap_or(of_domains.to_owned()));
            }
            text = next;
        }
        self.log_at(line, text)
    }

    fn log_at(&mut self, line: &Value, text: &str) -> Option<(&'static str, String)> {
        let mut words = text.splitn(3, char::is_whitespace);
        let level = words.next().unwrap_or_default();
        let lowest = level.strip_suffix("-err").unwrap_or(level);
        let found = LEVELS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(lowest));
        let Some((_, ours)) = found else {
            let what = match lowest.contains('-') {
                true => "a level has no upper end but err",
                false => "the level is err, warn, notice, info or debug",
            };
            self.refuse(line, what);
            return None;
        };
        let kind = words.next().unwrap_or("stdout").to_ascii_lowercase();
        let rest = words.next().unwrap_or_default().trim();
        let place = match kind.as_str() {
            "stdout" => ", stdout = true".to_owned(),
            "stderr" => String::new(),
            "syslog" => {
                let note = "lines go to standard error, which the journal takes";
                self.note(Severity::Info, line, note);
                String::new()
            }
            "file" if !rest.is_empty() => format!(", file = {}", string(&self.path(rest))),
            _ => {
                self.refuse(line, "the place is stdout, stderr, syslog or file PATH");
                return None;
            }
        };
        Some((ours, place))
    }
}
