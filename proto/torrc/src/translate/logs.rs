//! The log: `Log LEVEL PLACE`, one place a line.

use super::Work;
use crate::settings::{Severity, Value};
use crate::toml::{Document, string};
use crate::value;

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
        times(self, &mut log);
        self.switches(&mut log, &[("TruncateLogFile", "truncate")]);
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

/// `LogTimeGranularity`, which is made a divisor or a multiple of a second, as by `tor`.
fn times(work: &mut Work<'_>, log: &mut Document) {
    let Some(value) = work.settings.one("LogTimeGranularity") else {
        return;
    };
    let ms = value::millis(&value.text).and_then(|ms| u32::try_from(ms).ok());
    let Some(ms) = ms.filter(|ms| *ms > 0) else {
        let what = format!("Log time granularity '{}' has to be positive.", value.text);
        return work.refuse(value, what);
    };
    let granularity = match ms {
        ..1000 => (ms.saturating_sub(39).max(1)..=1000).find(|ms| 1000 % ms == 0),
        _ => ms.checked_next_multiple_of(1000),
    };
    let granularity = match 1000 % ms {
        0 => ms,
        _ => granularity.unwrap_or(1000),
    };
    if granularity != ms {
        let what = format!("it is no divisor or multiple of a second: {granularity} ms are taken");
        work.note(Severity::Warning, value, what);
    }
    log.key("time_granularity_ms", &granularity.to_string(), value);
}
