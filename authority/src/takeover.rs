//! What an authority of `tor` has learnt, taken over: its files `router-stability`,
//! `key-pinning-journal` and `sr-state` as rows of ours, so that an authority moves without its
//! relays losing flags, and without a second commitment in one run of shared randomness.
//!
//! ```text
//! stored-at 2026-11-29 12:00:00          R 0123…                         router-stability
//! data                                   +MTBF 86400 2.00000 S=2026-…    up since S
//!                                        +WFU 86400 90000 S=2026-…       down since S
//! <RSA identity> <Ed25519 identity>      in base64                       key-pinning-journal
//! Commit 1 sha3-256 0123… <commitment> <number>                          sr-state
//! ```
//! Lines that are not understood are passed over.

use std::collections::BTreeMap;
use std::time::SystemTime;

use cepa_crypto::encoding::base64_array;
use cepa_crypto::{Ed25519Id, RsaId};
use cepa_netdoc::consensus::{SharedRandCommit, SharedRandValue};
use cepa_netdoc::timestamp;

use crate::command::{Row, RowKind};
use crate::config::RELAYS_MAX;
use crate::history::{History, Sums};
use crate::schedule::Timing;
use crate::srv::{COMMITS_MAX, SharedRandom};

/// The rows of a file `router-stability`.
#[must_use]
pub fn histories(text: &str) -> Vec<Row> {
    let Some((head, body)) = text.split_once("\ndata\n") else {
        return Vec::new();
    };
    let time = |name: &str| {
        let line = head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        timestamp::parse(line?.trim()).ok()
    };
    let Some(stored) = time("stored-at") else {
        return Vec::new();
    };
    let discounted = time("last-downrated").unwrap_or(stored);
    let mut rows = BTreeMap::new();
    let mut lines = body.lines().peekable();
    while let Some(line) = lines.next() {
        let relay = line
            .strip_prefix("R ")
            .and_then(|id| id.trim().parse::<RsaId>().ok());
        let Some(relay) = relay else { continue };
        let mut sums = Sums::default();
        let (mut up_since, mut down_since) = (None, None);
        while let Some(line) = lines.next_if(|line| line.starts_with('+')) {
            let Some((name, first, second, since)) = measures(line) else {
                continue;
            };
            match name {
                "+MTBF" => {
                    (sums.run_seconds, sums.runs) = (first, second);
                    up_since = since;
                }
                "+WFU" => {
                    (sums.up_seconds, sums.total_seconds) = (first, second);
                    down_since = since;
                }
                _ => {}
            }
        }
        let history = History::of_other(stored, discounted, (up_since, down_since), sums);
        if rows.len() < RELAYS_MAX {
            rows.insert(relay, history.encode());
        }
    }
    rows.into_iter()
        .map(|(relay, text)| row(RowKind::History, relay.to_string(), text))
        .collect()
}

/// A keyword, two numbers, and since when.
fn measures(line: &str) -> Option<(&str, f64, f64, Option<SystemTime>)> {
    let (numbers, since) = line.split_once(" S=").unwrap_or((line, ""));
    let mut words = numbers.split_ascii_whitespace();
    let name = words.next()?;
    let mut number = || {
        let value: f64 = words.next()?.parse().ok()?;
        (value.is_finite() && value >= 0.0).then_some(value)
    };
    Some((
        name,
        number()?,
        number()?,
        timestamp::parse(since.trim()).ok(),
    ))
}

/// The rows of a file `key-pinning-journal`. The last word on a key counts.
#[must_use]
pub fn key_pins(text: &str) -> Vec<Row> {
    let mut pins: BTreeMap<RsaId, Ed25519Id> = BTreeMap::new();
    let mut pinned: BTreeMap<Ed25519Id, RsaId> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let rsa = words.next().and_then(base64_array::<20>).map(RsaId::from);
        let ed: Option<Ed25519Id> = words.next().and_then(|word| word.parse().ok());
        if let (Some(rsa), Some(ed)) = (rsa, ed)
            && (pins.len() < RELAYS_MAX || pins.contains_key(&rsa))
        {
            // Another relay may have had one of both before.
            if let Some(other) = pinned.insert(ed, rsa).filter(|other| *other != rsa) {
                pins.remove(&other);
            }
            if let Some(other) = pins.insert(rsa, ed).filter(|other| *other != ed) {
                pinned.remove(&other);
            }
        }
    }
    pins.into_iter()
        .map(|(rsa, ed)| row(RowKind::KeyPin, rsa.to_string(), ed.to_string()))
        .collect()
}

/// The row of a file `sr-state` of the authority `own`; none if it says nothing.
#[must_use]
pub fn shared_random(text: &str, own: RsaId, timing: &Timing) -> Vec<Row> {
    let mut start = None;
    let mut commits = Vec::new();
    let (mut previous, mut current) = (None, None);
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["ValidAfter", day, time] => start = timestamp::parse_words(day, time).ok(),
            ["Commit", "1", "sha3-256", id, commit, rest @ ..] => {
                let Ok(identity) = id.parse::<RsaId>() else {
                    continue;
                };
                if commits.len() < COMMITS_MAX {
                    commits.push(SharedRandCommit {
                        identity,
                        commit: (*commit).to_owned(),
                        reveal: rest.first().map(|word| (*word).to_owned()),
                    });
                }
            }
            ["SharedRandPreviousValue", reveals, shown] => previous = value(reveals, shown),
            ["SharedRandCurrentValue", reveals, shown] => current = value(reveals, shown),
            _ => {}
        }
    }
    let state =
        start.map(|start| SharedRandom::of_other(start, timing, own, commits, [previous, current]));
    let row = state.map(|state| row(RowKind::SharedRandom, String::new(), state.encode()));
    row.into_iter().collect()
}

fn value(reveals: &str, shown: &str) -> Option<SharedRandValue> {
    Some(SharedRandValue {
        reveals: reveals.parse().ok()?,
        value: base64_array(shown)?,
    })
}

fn row(kind: RowKind, key: String, text: String) -> Row {
    Row {
        kind,
        key,
        bytes: text.into_bytes(),
    }
}

#[cfg(test)]
mod tests;
