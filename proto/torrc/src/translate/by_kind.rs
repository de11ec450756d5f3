//! Options that a key of ours says as they are: written as their type is in TOML.

use super::{Work, client};
use crate::option::Kind;
use crate::settings::Value;
use crate::toml::{Document, string};
use crate::value;

/// An option and the key that says the same.
pub(super) type Same = (&'static str, &'static str);

/// Writes those that stand in the torrc; `auto` is what is not written.
pub(super) fn write(work: &Work<'_>, document: &mut Document, all: &[Same]) {
    for (option, key) in all {
        let lines = work.settings.lines(option);
        let Some(value) = lines.last() else { continue };
        match value.option.kind {
            Kind::Words | Kind::Routers => write_list(document, key, lines),
            Kind::Lines => {
                let lines: Vec<_> = lines.iter().map(|line| (line.text.clone(), line)).collect();
                document.list(key, &lines);
            }
            kind => {
                if let Some(text) = toml(work, kind, &value.text) {
                    document.key(key, &text, value);
                }
            }
        }
    }
}

/// A list with commas, of which an empty one says that there is nobody.
fn write_list(document: &mut Document, key: &str, lines: &[Value]) {
    let words = lines.iter().flat_map(|line| {
        let words = value::words(&line.text).filter(|word| !word.is_empty());
        words.map(move |word| (client::pattern(word), line))
    });
    let words: Vec<_> = words.collect();
    match (words.is_empty(), lines.last()) {
        (true, Some(line)) => document.key(key, "[]", line),
        _ => document.list(key, &words),
    }
}

fn toml(work: &Work<'_>, kind: Kind, text: &str) -> Option<String> {
    let most = u64::try_from(i64::MAX).unwrap_or(u64::MAX);
    let number = |number: Option<u64>| number.map(|number| number.min(most).to_string());
    match kind {
        Kind::Bool | Kind::AutoBool => value::bool(text).map(|is_on| is_on.to_string()),
        Kind::Interval => number(value::seconds(text)),
        Kind::Millis => number(value::millis(text)),
        Kind::Size => number(value::size(text)),
        Kind::Number | Kind::Number64 | Kind::Signed => Some(text.trim().to_owned()),
        Kind::Float => {
            let float: f64 = text.trim().parse().ok()?;
            Some(format!("{float:?}"))
        }
        Kind::Path => Some(string(&work.path(text))),
        Kind::Text => Some(string(text.trim())),
        Kind::Words | Kind::Routers | Kind::Lines => None,
    }
}
