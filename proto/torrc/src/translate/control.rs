//! The control port.

use super::{Work, ports};
use crate::settings::Value;
use crate::toml::Document;

/// `[control]`, if there is a control port.
pub(super) fn control(work: &mut Work<'_>, document: &mut Document) {
    let mut listen = Vec::new();
    for line in work.lines(&["ControlPort", "__ControlPort"]) {
        if !ports::is_none(&line.text)
            && let Some(text) = control_port(work, line)
        {
            listen.push((text, line));
        }
    }
    for line in work.lines(&["ControlSocket"]) {
        if ports::is_none(&line.text) {
            continue;
        }
        match control_socket(work, line, &line.text) {
            Some(text) => listen.push((text, line)),
            None => work.refuse(line, "it is no path of one word"),
        }
    }
    if listen.is_empty() {
        return;
    }
    let mut body = Document::default();
    body.list("listen", &listen);
    match work.settings.one("CookieAuthentication") {
        Some(_) => work.switches(&mut body, &[("CookieAuthentication", "cookie")]),
        None => body.plain("cookie = false"),
    }
    work.paths(
        &mut body,
        &[
            ("ControlPortWriteToFile", "write_to_file"),
            ("CookieAuthFile", "cookie_file"),
        ],
    );
    let keys = [
        ("CookieAuthFileGroupReadable", "cookie_file_group_readable"),
        ("ControlPortFileGroupReadable", "file_group_readable"),
    ];
    work.switches(&mut body, &keys);
    document.section("[control]", body);
    for line in work.lines(&["HashedControlPassword", "__HashedControlSessionPassword"]) {
        let mut password = Document::default();
        password.text_key("hash", line.text.trim(), line);
        document.section("[[control.passwords]]", password);
    }
}

fn control_port(work: &mut Work<'_>, line: &Value) -> Option<String> {
    if line.text.starts_with("unix:") {
        let text = control_socket(work, line, &line.text);
        if text.is_none() {
            work.refuse(line, "it is no path of one word");
        }
        return text;
    }
    let word = line.text.split_whitespace().next().unwrap_or_default();
    match ports::socket(word) {
        // Its own word: the free port is one of loopback.
        Some(place) if place.is_auto && !place.has_address => Some("auto".to_owned()),
        Some(place) => Some(place.addr.to_string()),
        None => {
            work.refuse(line, ports::invalid(line, word));
            None
        }
    }
}

/// A socket with its mode; `unix:` may be left out.
fn control_socket(work: &Work<'_>, line: &Value, text: &str) -> Option<String> {
    let prefixed = match text.starts_with("unix:") {
        true => text.to_owned(),
        false => format!("unix:{text}"),
    };
    let (path, flags) = ports::unix(&prefixed)?;
    if path.contains(char::is_whitespace) {
        return None;
    }
    let mut modes: Vec<_> = flags
        .split_whitespace()
        .filter(|word| {
            let word = word.to_ascii_lowercase();
            word == "groupwritable" || word == "worldwritable"
        })
        .map(ports::canonical_mode)
        .collect();
    let is_socket = line.option.name == "ControlSocket";
    if is_socket && work.settings.is_on("ControlSocketsGroupWritable") {
        modes.push("GroupWritable");
    }
    modes.sort_unstable();
    modes.dedup();
    let mut text = format!("unix:{}", work.path(path));
    modes.iter().for_each(|mode| text.extend([" ", mode]));
    Some(text)
}
