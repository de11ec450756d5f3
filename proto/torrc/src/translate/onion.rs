//! Onion services: a folder, and the lines behind it.

use super::{Work, ports};
use crate::settings::{Severity, Value};
use crate::toml::Document;

/// What introduction points let through unless it is said: a second, and at once.
const RATE_DEFAULT: (&str, &str) = ("25", "200");

/// A table for each service.
pub(super) fn onions<'a>(work: &mut Work<'a>, document: &mut Document) {
    let mut services: Vec<(&Value, Vec<&Value>)> = Vec::new();
    for line in work.settings.onions() {
        match (line.option.name, services.last_mut()) {
            ("HiddenServiceDir", _) => services.push((line, Vec::new())),
            (_, Some((_, lines))) => lines.push(line),
            (_, None) => work.refuse(line, "it stands before any HiddenServiceDir"),
        }
    }
    for (folder, lines) in services {
        let body = service(work, folder, &lines);
        document.section("[[onion_service]]", body);
    }
}

fn service<'a>(work: &mut Work<'a>, folder: &'a Value, lines: &[&'a Value]) -> Document {
    let mut body = Document::default();
    body.text_key("dir", &work.path(&folder.text), folder);
    let of = |name: &'static str| {
        lines
            .iter()
            .copied()
            .filter(move |line| line.option.name == name)
    };
    let mut targets = Vec::new();
    for line in of("HiddenServicePort") {
        match target(work, &line.text) {
            Some(target) => targets.push((target, line)),
            None => work.refuse(line, "it is PORT, or PORT and a target of one word"),
        }
    }
    match targets.is_empty() {
        // As in tor, which takes it, and publishes a service that nobody can use.
        true => work.refuse(folder, "the service has no HiddenServicePort"),
        false => body.list("ports", &targets),
    }
    for (name, key) in [
        ("HiddenServiceNumIntroductionPoints", "intro_points"),
        ("HiddenServiceMaxStreams", "streams_max"),
    ] {
        let Some(line) = of(name).next_back() else {
            continue;
        };
        match line.text.trim().parse::<u16>() {
            Ok(0) => {}
            Ok(number) => body.key(key, &number.to_string(), line),
            Err(_) => work.refuse(line, "it is a number up to 65535"),
        }
    }
    for line in of("HiddenServiceVersion") {
        if line.text.trim() != "3" {
            work.refuse(line, "services have version 3");
        }
    }
    for (name, key) in [
        (
            "HiddenServiceMaxStreamsCloseCircuit",
            "streams_max_close_circuit",
        ),
        ("HiddenServiceAllowUnknownPorts", "allow_unknown_ports"),
        ("HiddenServiceDirGroupReadable", "dir_group_readable"),
        ("HiddenServiceOnionBalanceInstance", "onionbalance_instance"),
    ] {
        let Some(line) = of(name).next_back() else {
            continue;
        };
        match line.text.trim() {
            "1" => body.key(key, "true", line),
            "0" => {}
            _ => work.refuse(line, "it is 0 or 1"),
        }
    }
    if let Some(line) = of("HiddenServiceExportCircuitID").next_back() {
        match line.text.trim().to_ascii_lowercase().as_str() {
            "haproxy" => body.text_key("export_circuit_id", "haproxy", line),
            "none" => {}
            _ => work.refuse(line, "it is haproxy or none"),
        }
    }
    introductions(work, &mut body, lines);
    body
}

fn introductions<'a>(work: &mut Work<'a>, body: &mut Document, lines: &[&'a Value]) {
    let last = |name: &str| lines.iter().copied().rfind(|line| line.option.name == name);
    let rate = last("HiddenServiceEnableIntroDoSRatePerSec");
    let burst = last("HiddenServiceEnableIntroDoSBurstPerSec");
    let defense = last("HiddenServiceEnableIntroDoSDefense");
    let Some(defense) = defense.filter(|line| line.text.trim() == "1") else {
        for line in [rate, burst].into_iter().flatten() {
            let what = "of no effect without HiddenServiceEnableIntroDoSDefense 1";
            work.note(Severity::Info, line, what);
        }
        return;
    };
    for line in [rate, burst].into_iter().flatten() {
        if line.text.trim().parse::<u32>().is_err() {
            return work.refuse(line, "it is a number");
        }
    }
    let rate = rate.map_or(RATE_DEFAULT.0, |line| line.text.trim());
    let burst = burst.map_or(RATE_DEFAULT.1, |line| line.text.trim());
    let limit = format!("{{ rate = {rate}, burst = {burst} }}");
    body.key("introductions", &limit, defense);
}

/// `PORT=TARGET` of our own files.
fn target(work: &Work<'_>, text: &str) -> Option<String> {
    let (port, target) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let target = target.trim();
    if target.is_empty() {
        return Some(port.to_owned());
    }
    if let Some((path, rest)) = ports::unix(target) {
        let is_all = rest.trim().is_empty();
        return is_all.then(|| format!("{port}=unix:{}", work.path(path)));
    }
    if target.contains(char::is_whitespace) {
        return None;
    }
    match ports::ip(target) {
        Some(ip) if ip.is_ipv6() => Some(format!("{port}=[{ip}]:{port}")),
        Some(ip) => Some(format!("{port}={ip}:{port}")),
        None if target.eq_ignore_ascii_case("localhost") => Some(format!("{port}={port}")),
        None => Some(format!("{port}={target}")),
    }
}
