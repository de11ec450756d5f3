//! The guards as text, a line each, in the form of `tor`'s state file (guard-spec A.5):
//! `Guard in=default rsa_id=… nickname=… sampled_on=… sampled_idx=… listed=1 confirmed_on=…`, and
//! `Departed` lines for the last guards that were given up, with the reason.
//!
//! Times are `YYYY-MM-DDTHH:MM:SS`. Words that are not known are kept; a line without what is
//! needed is an error that names it, so that a damaged state is never silently replaced.

use std::fmt::Write as _;
use std::time::SystemTime;

use cepa_crypto::Ed25519Id;
use cepa_netdoc::timestamp;

use super::params::SAMPLE_MAX;
use super::status::{DEPARTURES_MAX, Departure, DepartureReason};
use super::{Guard, GuardParams, Guards, Reachable, Selection};

/// Most guards that a set of the state may hold: the most that parameters let a sample have.
pub const GUARDS_MAX: usize = SAMPLE_MAX;
/// Most bytes of a line that are kept of what is not known.
const OTHERS_BYTES_MAX: usize = 1000;

/// Why a state is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GuardStateError {
    /// The line of this number, from 1, is no guard.
    #[error("line {0} of the guards' state is damaged")]
    Line(usize),
    /// The line of this number names a guard again.
    #[error("line {0} of the guards' state names a guard twice")]
    Twice(usize),
    /// More than [`GUARDS_MAX`] guards in a set.
    #[error("the guards' state has more than {GUARDS_MAX} guards in a set")]
    TooMany,
}

impl Guards {
    /// Reads what [`Guards::encode`] wrote, or the `Guard` lines of a `tor`. No guard is used
    /// before the next consensus.
    pub fn parse(text: &str, params: GuardParams) -> Result<Self, GuardStateError> {
        let mut guards = Guards::new(params);
        let mut places: Vec<(Selection, u32, Guard)> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let error = GuardStateError::Line(at + 1);
            if let Some(words) = line.strip_prefix("Guard ") {
                let found = parse_guard(words).ok_or(error)?;
                let of_set = || places.iter().filter(|one| one.0 == found.0);
                if of_set().any(|(.., guard)| guard.rsa == found.2.rsa) {
                    return Err(GuardStateError::Twice(at + 1));
                }
                if of_set().count() >= GUARDS_MAX {
                    return Err(GuardStateError::TooMany);
                }
                places.push(found);
            } else if let Some(words) = line.strip_prefix("Departed ") {
                let found = parse_departure(words).ok_or(error)?;
                guards.departures.push_back(found);
                guards.departures.truncate(DEPARTURES_MAX);
            } else if !line.is_empty() && !line.starts_with('#') {
                return Err(error);
            }
        }
        places.sort_by_key(|(_, index, _)| *index);
        for (selection, _, guard) in places {
            let set = guards.sets.entry(selection).or_default();
            set.sampled.push(guard);
        }
        Ok(guards)
    }

    /// Writes what must survive.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::new();
        for (selection, set) in &self.sets {
            let mut confirmed = 0;
            for (index, guard) in set.sampled.iter().enumerate() {
                // Writing to a string cannot fail.
                let _ = write_guard(&mut out, *selection, index, confirmed, guard);
                confirmed += usize::from(guard.confirmed_on.is_some());
            }
        }
        for one in &self.departures {
            let _ = write_departure(&mut out, one);
        }
        out
    }
}

fn write_guard(
    out: &mut String,
    selection: Selection,
    index: usize,
    confirmed_index: usize,
    guard: &Guard,
) -> std::fmt::Result {
    let time = timestamp::encode_joined;
    write!(out, "Guard in={} rsa_id={}", selection.name(), guard.rsa)?;
    if let Some(ed) = guard.ed {
        write!(out, " ed25519={ed}")?;
    }
    if let Some(bridge) = guard.bridge {
        write!(out, " bridge_addr={bridge}")?;
    }
    if !guard.nickname.is_empty() {
        write!(out, " nickname={}", guard.nickname)?;
    }
    write!(out, " sampled_on={}", time(guard.sampled_on))?;
    write!(out, " sampled_idx={index}")?;
    if !guard.sampled_by.is_empty() {
        write!(out, " sampled_by={}", guard.sampled_by)?;
    }
    write!(out, " listed={}", u8::from(guard.listed))?;
    if let Some(since) = guard.unlisted_since {
        write!(out, " unlisted_since={}", time(since))?;
    }
    if let Some(on) = guard.confirmed_on {
        write!(out, " confirmed_on={}", time(on))?;
        write!(out, " confirmed_idx={confirmed_index}")?;
    }
    for word in &guard.others {
        write!(out, " {word}")?;
    }
    out.push('\n');
    Ok(())
}

fn write_departure(out: &mut String, one: &Departure) -> std::fmt::Result {
    write!(
        out,
        "Departed in={} rsa_id={}",
        one.selection.name(),
        one.rsa
    )?;
    if !one.nickname.is_empty() {
        write!(out, " nickname={}", one.nickname)?;
    }
    let (on, confirmed) = (
        timestamp::encode_joined(one.on),
        u8::from(one.was_confirmed),
    );
    writeln!(
        out,
        " on={on} confirmed={confirmed} reason={}",
        one.reason.name()
    )
}

/// The words `key=value` of a line; the first of each key counts.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn take(&mut self, key: &str) -> Option<&'a str> {
        let value = |word: &&'a str| {
            let (name, value) = word.split_once('=')?;
            (name == key).then_some(value)
        };
        let at = self.0.iter().position(|word| value(word).is_some())?;
        value(&self.0.remove(at))
    }

    /// `None` if the value is damaged.
    fn take_time(&mut self, key: &str) -> Option<Option<SystemTime>> {
        match self.take(key) {
            Some(text) => timestamp::parse_joined(text).map(Some).ok(),
            None => Some(None),
        }
    }

    /// The same for other values.
    fn take_parsed<T: std::str::FromStr>(&mut self, key: &str) -> Option<Option<T>> {
        match self.take(key) {
            Some(text) => text.parse().map(Some).ok(),
            None => Some(None),
        }
    }
}

fn parse_guard(words: &str) -> Option<(Selection, u32, Guard)> {
    let mut words = Words(words.split(' ').filter(|word| !word.is_empty()).collect());
    let selection = Selection::parse(words.take("in")?)?;
    let index: u32 = words.take_parsed("sampled_idx")??;
    let confirmed_on = words.take_time("confirmed_on")?;
    // The order of confirmed guards is the sample's (proposal 310); the number is for `tor`.
    let confirmed_index: Option<u32> = words.take_parsed("confirmed_idx")?;
    if confirmed_on.is_some() != confirmed_index.is_some() {
        return None;
    }
    let listed = match words.take("listed")? {
        "0" => false,
        "1" => true,
        _ => return None,
    };
    let guard = Guard {
        rsa: words.take_parsed("rsa_id")??,
        ed: words.take_parsed::<Ed25519Id>("ed25519")?,
        nickname: words.take("nickname").unwrap_or("").to_owned(),
        bridge: words.take_parsed("bridge_addr")?,
        sampled_on: words.take_time("sampled_on")??,
        sampled_by: words.take("sampled_by").unwrap_or("").to_owned(),
        listed,
        unlisted_since: words.take_time("unlisted_since")?,
        confirmed_on,
        others: kept_words(&words.0),
        allowed: false,
        reachable: Reachable::Maybe,
        failing_since: None,
        tried_last: None,
    };
    Some((selection, index, guard))
}

/// What must be retained although it means nothing to us (guard-spec A.5).
fn kept_words(words: &[&str]) -> Vec<String> {
    let mut room = OTHERS_BYTES_MAX;
    let mut kept = Vec::new();
    for word in words {
        let Some(left) = room.checked_sub(word.len() + 1) else {
            break;
        };
        room = left;
        kept.push((*word).to_owned());
    }
    kept
}

fn parse_departure(words: &str) -> Option<Departure> {
    let mut words = Words(words.split(' ').filter(|word| !word.is_empty()).collect());
    Some(Departure {
        selection: Selection::parse(words.take("in")?)?,
        rsa: words.take_parsed("rsa_id")??,
        nickname: words.take("nickname").unwrap_or("").to_owned(),
        on: words.take_time("on")??,
        was_confirmed: words.take("confirmed")? == "1",
        reason: DepartureReason::parse(words.take("reason")?)?,
    })
}
