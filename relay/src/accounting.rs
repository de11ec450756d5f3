//! How much a relay may carry in a day, a week or a month, and its sleep when that is used up
//! (the manual's `AccountingMax`, `AccountingStart` and `AccountingRule`; `tor`'s hibernate.c).
//!
//! ```text
//! Awake ─ 95 %, or all but 500 MB ─> Soft ─ all ─> Hard
//!   ^ the interval's start ───────────┴─────────────┘
//! ```
//! Soft: no new links nor circuits, the descriptor says `hibernating 1`. Hard: nothing at all.
//! Intervals are of UTC, where `tor`'s are of local time: a core knows no time zone. A relay wakes
//! at its interval's start, not at a time drawn within. A clock that was set back gives nothing
//! that was used already.

use std::fmt;
use std::time::{Duration, SystemTime};

use time::{Date, Month, OffsetDateTime, Time, UtcOffset};

/// What is left at the soft limit is this part of the whole at most...
const SOFT_PARTS: u64 = 20;
/// ... and so many bytes at most (`SOFT_LIM_BYTES` in `tor`).
const SOFT_BYTES: u64 = 500 << 20;
/// State is to be kept after so many bytes...
const KEEP_BYTES: u64 = 16 << 20;
/// ... and after so long, if there was any traffic.
const KEEP_EVERY: Duration = Duration::from_secs(60);

/// Which bytes count against what a relay may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccountingRule {
    /// Those of the direction that has more.
    #[default]
    Max,
    /// The bytes of both directions together count.
    Sum,
    /// The bytes that are read count.
    In,
    /// The bytes that are written count.
    Out,
}

/// When an interval begins, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountingStart {
    /// An interval begins each day at this time.
    Day(Time),
    /// Each week, on a day from 1 (Monday) to 7.
    Week(u8, Time),
    /// Each month, on a day from 1 to 28.
    Month(u8, Time),
}

impl Default for AccountingStart {
    fn default() -> Self {
        AccountingStart::Month(1, Time::MIDNIGHT)
    }
}

/// Words that name no start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not `day HH:MM`, `week 1..7 HH:MM` or `month 1..28 HH:MM`")]
pub struct AccountingStartError;

impl std::str::FromStr for AccountingStart {
    type Err = AccountingStartError;

    /// Reads `month 3 00:00`, as `AccountingStart` has it.
    fn from_str(text: &str) -> Result<Self, AccountingStartError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |text: &str| text.parse::<u8>().map_err(|_| AccountingStartError);
        let clock = |text: &str| {
            let (hour, minute) = text.split_once(':').ok_or(AccountingStartError)?;
            Time::from_hms(number(hour)?, number(minute)?, 0).map_err(|_| AccountingStartError)
        };
        let within = |day: u8, last: u8| match (1..=last).contains(&day) {
            true => Ok(day),
            false => Err(AccountingStartError),
        };
        match words[..] {
            ["day", at] => Ok(Self::Day(clock(at)?)),
            ["week", day, at] => Ok(Self::Week(within(number(day)?, 7)?, clock(at)?)),
            ["month", day, at] => Ok(Self::Month(within(number(day)?, 28)?, clock(at)?)),
            _ => Err(AccountingStartError),
        }
    }
}

impl AccountingStart {
    /// The start of the interval that `at` is in, and that of the next one.
    #[must_use]
    pub fn interval(self, at: SystemTime) -> (SystemTime, SystemTime) {
        let at = OffsetDateTime::from(at).to_offset(UtcOffset::UTC);
        let today = at.date();
        let (time, first) = match self {
            Self::Day(time) => (time, today),
            Self::Week(day, time) => {
                let since = (7 + today.weekday().number_from_monday() - day) % 7;
                (time, days_on(today, -i32::from(since)))
            }
            Self::Month(day, time) => (time, today.replace_day(day).unwrap_or(today)),
        };
        let begins = |date: Date| date.with_time(time).assume_utc();
        let (mut start, mut date) = (begins(first), first);
        if start > at {
            date = self.before(first);
            start = begins(date);
        }
        (start.into(), begins(self.after(date)).into())
    }

    fn after(self, date: Date) -> Date {
        match self {
            Self::Day(_) => days_on(date, 1),
            Self::Week(..) => days_on(date, 7),
            Self::Month(..) => month(date, Month::next),
        }
    }

    fn before(self, date: Date) -> Date {
        match self {
            Self::Day(_) => days_on(date, -1),
            Self::Week(..) => days_on(date, -7),
            Self::Month(..) => month(date, Month::previous),
        }
    }
}

/// A date some days later; at the end of the calendar, the same.
fn days_on(date: Date, days: i32) -> Date {
    let later = date.checked_add(time::Duration::days(i64::from(days)));
    later.unwrap_or(date)
}

/// The same day of the month next to it: there is one, as the day is 28 at most.
fn month(date: Date, step: fn(Month) -> Month) -> Date {
    let month = step(date.month());
    let year = match (date.month(), month) {
        (Month::December, Month::January) => date.year() + 1,
        (Month::January, Month::December) => date.year() - 1,
        _ => date.year(),
    };
    Date::from_calendar_date(year, month, date.day()).unwrap_or(date)
}

/// What the operator lets a relay carry in an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountingConfig {
    /// Bytes of an interval.
    pub max: u64,
    /// When an interval begins.
    pub start: AccountingStart,
    /// Which bytes count.
    pub rule: AccountingRule,
}

/// Whether a relay works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wakefulness {
    /// The relay works.
    #[default]
    Awake,
    /// What is there goes on, nothing new is taken.
    Soft,
    /// The relay does nothing: it has closed its links.
    Hard,
}

/// What was used in an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Used {
    start: SystemTime,
    end: SystemTime,
    read: u64,
    written: u64,
}

/// The accounting of a relay.
#[derive(Debug, Clone)]
pub struct Accounting {
    config: AccountingConfig,
    used: Used,
    /// Bytes of both directions when the state was last kept, and when that was.
    kept: (u64, SystemTime),
    changed: bool,
}

impl Accounting {
    /// Goes on from what an earlier run kept, if that is of this interval.
    #[must_use]
    pub fn new(config: AccountingConfig, kept: Option<&str>, now: SystemTime) -> Self {
        let (start, end) = config.start.interval(now);
        let fresh = Used {
            start,
            end,
            read: 0,
            written: 0,
        };
        let used = kept.and_then(Used::parse).unwrap_or(fresh);
        let mut accounting = Accounting {
            config,
            used,
            kept: (used.total(), now),
            changed: true,
        };
        accounting.advance(now);
        accounting
    }

    /// Another allowance, from now on; what was used stays used.
    pub fn set_config(&mut self, config: AccountingConfig, now: SystemTime) {
        if self.config != config {
            self.config = config;
            self.changed = true;
        }
        self.advance(now);
    }

    /// So many bytes were moved.
    pub fn add(&mut self, read: u64, written: u64, now: SystemTime) {
        self.advance(now);
        self.used.read = self.used.read.saturating_add(read);
        self.used.written = self.used.written.saturating_add(written);
    }

    /// The time has come to look at the clock. An interval that is over gives a new allowance; one
    /// that lies otherwise, as the clock was set back or intervals begin at another time, gives
    /// none: what was used stays used.
    pub fn advance(&mut self, now: SystemTime) {
        let (start, end) = self.config.start.interval(now);
        if now >= self.used.end {
            (self.used.read, self.used.written) = (0, 0);
        }
        if (start, end) != (self.used.start, self.used.end) {
            (self.used.start, self.used.end) = (start, end);
            self.changed = true;
        }
    }

    /// Whether the relay works.
    #[must_use]
    pub fn wakefulness(&self) -> Wakefulness {
        let used = self.counted();
        if used >= self.config.max {
            Wakefulness::Hard
        } else if used >= self.soft_limit() {
            Wakefulness::Soft
        } else {
            Wakefulness::Awake
        }
    }

    /// The bytes that count by the rule.
    #[must_use]
    pub fn counted(&self) -> u64 {
        let Used { read, written, .. } = self.used;
        match self.config.rule {
            AccountingRule::Max => read.max(written),
            AccountingRule::Sum => read.saturating_add(written),
            AccountingRule::In => read,
            AccountingRule::Out => written,
        }
    }

    /// Bytes read and written in this interval.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.used.read, self.used.written)
    }

    /// Bytes that may be used in an interval.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.config.max
    }

    /// When this interval began.
    #[must_use]
    pub fn began(&self) -> SystemTime {
        self.used.start
    }

    /// Bytes that may still be read and written in this interval.
    #[must_use]
    pub fn left(&self) -> (u64, u64) {
        let Used { read, written, .. } = self.used;
        let (max, left) = (self.config.max, |used| self.config.max.saturating_sub(used));
        match self.config.rule {
            AccountingRule::Max => (left(read), left(written)),
            AccountingRule::Sum => (left(self.counted()), left(self.counted())),
            AccountingRule::In => (left(read), max),
            AccountingRule::Out => (max, left(written)),
        }
    }

    /// When the next interval begins, with which the relay wakes.
    #[must_use]
    pub fn wakes(&self) -> SystemTime {
        self.used.end
    }

    fn soft_limit(&self) -> u64 {
        let left = (self.config.max / SOFT_PARTS).min(SOFT_BYTES);
        self.config.max - left
    }

    /// The state, if it is to be kept now: after a minute, or 16 MiB.
    pub fn poll_keep(&mut self, now: SystemTime) -> Option<String> {
        let (total, (kept, at)) = (self.used.total(), self.kept);
        let moved = total.abs_diff(kept);
        let is_old = now.duration_since(at).is_ok_and(|age| age >= KEEP_EVERY);
        let is_due = self.changed || moved >= KEEP_BYTES || (moved > 0 && is_old);
        is_due.then(|| {
            self.changed = false;
            self.kept = (total, now);
            self.used.encode()
        })
    }

    /// The state, at the end.
    #[must_use]
    pub fn encode(&self) -> String {
        self.used.encode()
    }
}

impl fmt::Display for Accounting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (used, max) = (self.counted(), self.config.max);
        let percent = u128::from(used) * 100 / u128::from(max.max(1));
        let until = cepa_netdoc::timestamp::encode(self.used.end);
        write!(
            f,
            "{used} of {max} bytes (accounting_max) are used, {percent} %, until {until} UTC"
        )
    }
}

impl Used {
    fn total(&self) -> u64 {
        self.read.saturating_add(self.written)
    }

    /// `START END READ WRITTEN`: seconds since 1970, bytes.
    fn encode(&self) -> String {
        let secs = cepa_wire::time::unix_seconds;
        let (start, end) = (secs(self.start), secs(self.end));
        format!("{start} {end} {} {}", self.read, self.written)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(' ').map(|word| word.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        let at = |secs| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(secs));
        Some(Used {
            start: at(next()?)?,
            end: at(next()?)?,
            read: next()?,
            written: next()?,
        })
    }
}

#[cfg(test)]
mod tests;
