//! The guards as text, a line each, in the form of `tor`'s state file (guard-spec appendix B):
//! `Guard in=default rsa_id=… nickname=… sampled_on=… sampled_idx=… listed=1 confirmed_on=…`.
//!
//! Times are `YYYY-MM-DDTHH:MM:SS`. Unknown keys are skipped; a line without what is needed is an
//! error that names it, so that a damaged state is never silently replaced.

use std::fmt::Write as _;

use cepa_crypto::{Ed25519Id, RsaId};
use cepa_netdoc::timestamp;

use super::{Confirmed, Guard, GuardParams, GuardSet, Reachable};

/// Most guards that a state may hold: the most that parameters let a sample have.
pub const GUARDS_MAX: usize = 200;

/// Why a state is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GuardStateError {
    /// The line of this number, from 1, is no guard.
    #[error("line {0} of the guards' state is damaged")]
    Line(usize),
    /// The line of this number names a guard again.
    #[error("line {0} of the guards' state names a guard twice")]
    Twice(usize),
    /// More than [`GUARDS_MAX`] lines.
    #[error("the guards' state has more than {GUARDS_MAX} guards")]
    TooMany,
}

impl GuardSet {
    /// Reads what [`GuardSet::encode`] wrote. Until the next consensus no guard counts as listed
    /// that was not.
    pub fn parse(text: &str, params: GuardParams) -> Result<Self, GuardStateError> {
        let mut guards: Vec<(u32, Guard)> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let number = at + 1;
            let Some(words) = line.strip_prefix("Guard ") else {
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                return Err(GuardStateError::Line(number));
            };
            let entry = parse_guard(words).ok_or(GuardStateError::Line(number))?;
            if guards.iter().any(|(_, guard)| guard.rsa == entry.1.rsa) {
                return Err(GuardStateError::Twice(number));
            }
            if guards.len() >= GUARDS_MAX {
                return Err(GuardStateError::TooMany);
            }
            guards.push(entry);
        }
        guards.sort_by_key(|(index, _)| *index);
        let mut set = GuardSet::new(params);
        set.sampled = guards.into_iter().map(|(_, guard)| guard).collect();
        set.choose_primary();
        Ok(set)
    }

    /// Writes what must survive.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::new();
        for (index, guard) in self.sampled.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = write_guard(&mut out, index, guard);
        }
        out
    }
}

fn write_guard(out: &mut String, index: usize, guard: &Guard) -> std::fmt::Result {
    write!(out, "Guard in=default rsa_id={}", guard.rsa)?;
    if let Some(ed) = guard.ed {
        write!(out, " ed25519={ed}")?;
    }
    let sampled_on = timestamp::encode_joined(guard.sampled_on);
    write!(out, " nickname={} sampled_on={sampled_on}", guard.nickname)?;
    write!(
        out,
        " sampled_idx={index} listed={}",
        u8::from(guard.listed)
    )?;
    if let Some(since) = guard.unlisted_since {
        write!(out, " unlisted_since={}", timestamp::encode_joined(since))?;
    }
    if let Some(confirmed) = guard.confirmed {
        let on = timestamp::encode_joined(confirmed.on);
        write!(out, " confirmed_on={on} confirmed_idx={}", confirmed.index)?;
    }
    out.push('\n');
    Ok(())
}

fn parse_guard(words: &str) -> Option<(u32, Guard)> {
    let value = |key: &str| {
        let mut words = words.split(' ').filter_map(|word| word.split_once('='));
        words.find(|(name, _)| *name == key).map(|(_, value)| value)
    };
    let time = |key: &str| match value(key) {
        Some(text) => timestamp::parse_joined(text).map(Some).ok(),
        None => Some(None),
    };
    let rsa: RsaId = value("rsa_id")?.parse().ok()?;
    let ed = match value("ed25519") {
        Some(text) => Some(text.parse::<Ed25519Id>().ok()?),
        None => None,
    };
    let confirmed = match (time("confirmed_on")?, value("confirmed_idx")) {
        (Some(on), Some(index)) => Some(Confirmed {
            // Below the most that `u32` holds, so that there is always a next one.
            index: index
                .parse::<u32>()
                .ok()
                .filter(|index| *index < u32::MAX - 1)?,
            on,
        }),
        (None, None) => None,
        _ => return None,
    };
    let guard = Guard {
        rsa,
        ed,
        nickname: value("nickname").unwrap_or("").to_owned(),
        sampled_on: time("sampled_on")??,
        listed: value("listed")? == "1",
        unlisted_since: time("unlisted_since")?,
        confirmed,
        reachable: Reachable::Maybe,
        failing_since: None,
        tried_last: None,
        pending: false,
    };
    Some((value("sampled_idx")?.parse().ok()?, guard))
}
