//! What the operator is told about the guards, in words: which, since when, why.
//!
//! [`Guards::statuses`] says how each guard of the sample stands; [`Departure`]s say which ones
//! were given up lately. Dates of the sample are blurred (guard-spec A.2), and told as they are.

use std::fmt;
use std::time::SystemTime;

use cepa_crypto::RsaId;
use cepa_netdoc::timestamp;

use super::{Guard, Guards, Reachable, Selection};

/// Guards that were given up, as many as are remembered.
pub(super) const DEPARTURES_MAX: usize = 32;

/// What happened to a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardChange {
    /// The guard was drawn into the sample.
    New,
    /// The guard can be reached.
    Up,
    /// The guard cannot be reached.
    Down,
    /// The guard was given up.
    Dropped,
}

/// Why a guard was given up (guard-spec 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DepartureReason {
    /// No consensus listed it as a guard for 20 days.
    Unlisted,
    /// It was sampled 120 days ago, and not confirmed in the last 60.
    Old,
}

impl DepartureReason {
    pub(super) fn name(self) -> &'static str {
        match self {
            DepartureReason::Unlisted => "unlisted",
            DepartureReason::Old => "old",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [DepartureReason::Unlisted, DepartureReason::Old]
            .into_iter()
            .find(|one| one.name() == name)
    }
}

/// A guard that was given up.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Departure {
    /// The set that it was in.
    pub selection: Selection,
    /// The identity of the guard that left.
    pub rsa: RsaId,
    /// Its nickname; may be empty.
    pub nickname: String,
    /// When it left the sample.
    #[serde(serialize_with = "timestamp::serialize")]
    pub on: SystemTime,
    /// Whether it had carried traffic.
    pub was_confirmed: bool,
    /// Why it left the sample.
    pub reason: DepartureReason,
}

/// How far up in the order of preference a guard stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardRank {
    /// Among the primary guards, at this place from 1.
    Primary(usize),
    /// It has carried traffic, but others come first.
    Confirmed,
    /// In the sample, for when others fail.
    Sampled,
}

/// One guard of the sample, for its operator: who it is, how far up, since when, and whether it
/// answers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct GuardStatus {
    /// The set that it is in.
    pub selection: Selection,
    /// The guard's identity.
    pub rsa: RsaId,
    /// Its nickname; may be empty.
    pub nickname: String,
    /// How far up in the order of preference the guard stands.
    pub rank: GuardRank,
    /// Whether traffic goes through it now: it is the first primary guard that is not failing.
    pub is_in_use: bool,
    /// When the guard was drawn.
    #[serde(serialize_with = "timestamp::serialize")]
    pub sampled_on: SystemTime,
    /// When the guard first carried traffic.
    #[serde(serialize_with = "timestamp::serialize_option")]
    pub confirmed_on: Option<SystemTime>,
    /// Since when no consensus lists it as a guard.
    #[serde(serialize_with = "timestamp::serialize_option")]
    pub unlisted_since: Option<SystemTime>,
    /// Whether the operator's rules allow it; true before the first consensus.
    pub is_allowed: bool,
    /// Whether it can be reached.
    pub reachable: Reachable,
    /// Since when the guard cannot be reached.
    #[serde(serialize_with = "timestamp::serialize_option")]
    pub failing_since: Option<SystemTime>,
}

impl Guards {
    /// How each guard stands, those of the set in use first, and these in the order of preference.
    #[must_use]
    pub fn statuses(&self) -> Vec<GuardStatus> {
        let used = self.selection();
        let mut names: Vec<Selection> = self.sets.keys().copied().collect();
        names.sort_by_key(|name| *name != used);
        let mut all = Vec::new();
        for name in names {
            let Some(set) = self.sets.get(&name) else {
                continue;
            };
            // A state that is only read has no primary guards yet: those that will be.
            let will_be = self
                .selection
                .is_none()
                .then(|| set.primary_to_be(&self.params));
            let primary = will_be.as_ref().unwrap_or(&set.primary);
            let usable = |id: &&RsaId| {
                let guard = set.guard(id);
                guard.is_some_and(|guard| guard.reachable != Reachable::No)
            };
            let first = primary.iter().find(usable).filter(|_| name == used);
            let status = |guard: &Guard| {
                let place = primary.iter().position(|id| *id == guard.rsa);
                guard.status(
                    name,
                    place,
                    first == Some(&guard.rsa),
                    self.selection.is_none(),
                )
            };
            let mut of_set: Vec<GuardStatus> = set.sampled.iter().map(status).collect();
            of_set.sort_by_key(|one| match one.rank {
                GuardRank::Primary(place) => (0, place),
                GuardRank::Confirmed => (1, 0),
                GuardRank::Sampled => (2, 0),
            });
            all.extend(of_set);
        }
        all
    }

    /// Remembers the last ones that were given up.
    pub(super) fn remember(&mut self, gone: Vec<Departure>) {
        self.changed |= !gone.is_empty();
        for one in gone {
            let change = (GuardChange::Dropped, one.rsa, one.nickname.clone());
            self.changes.push_back(change);
            self.departures.push_front(one);
        }
        self.departures.truncate(DEPARTURES_MAX);
    }

    /// The last guards that were given up, the latest first.
    pub fn departures(&self) -> impl Iterator<Item = &Departure> {
        self.departures.iter()
    }
}

impl Guard {
    fn status(
        &self,
        selection: Selection,
        place: Option<usize>,
        is_in_use: bool,
        is_only_read: bool,
    ) -> GuardStatus {
        GuardStatus {
            selection,
            rsa: self.rsa,
            nickname: self.nickname.clone(),
            rank: match (place, self.confirmed_on) {
                (Some(place), _) => GuardRank::Primary(place + 1),
                (None, Some(_)) => GuardRank::Confirmed,
                (None, None) => GuardRank::Sampled,
            },
            is_in_use,
            sampled_on: self.sampled_on,
            confirmed_on: self.confirmed_on,
            unlisted_since: self.unlisted_since,
            is_allowed: self.allowed || is_only_read,
            reachable: self.reachable,
            failing_since: self.failing_since.map(|at| at.wall),
        }
    }
}

/// A time to the minute, in UTC.
struct Minute(SystemTime);

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = timestamp::encode(self.0);
        f.write_str(text.get(..16).unwrap_or(&text))
    }
}

impl fmt::Display for GuardStatus {
    /// One line: `moria (RSA): in use as primary guard 1; drawn about 2026-01-02 03:04, ...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(f, &self.nickname, &self.rsa)?;
        f.write_str(if self.is_in_use { ": in use as " } else { ": " })?;
        match self.rank {
            GuardRank::Primary(place) => write!(f, "primary guard {place}")?,
            GuardRank::Confirmed => f.write_str("kept behind the primary guards")?,
            GuardRank::Sampled => f.write_str("in reserve")?,
        }
        write!(f, "; drawn about {}", Minute(self.sampled_on))?;
        match self.confirmed_on {
            // Both dates are blurred, each for itself.
            Some(on) => {
                let on = Minute(on.max(self.sampled_on));
                write!(f, ", carries traffic since about {on}")?;
            }
            None => f.write_str(", has carried no traffic")?,
        }
        if let Some(since) = self.unlisted_since {
            write!(f, "; not listed as a guard since about {}", Minute(since))?;
        } else if !self.is_allowed {
            f.write_str("; not allowed by the rules")?;
        }
        match (self.reachable, self.failing_since) {
            (Reachable::Yes, _) => f.write_str("; reachable"),
            (_, Some(since)) => write!(f, "; not reachable since {}", Minute(since)),
            (Reachable::No, None) => f.write_str("; not reachable"),
            (Reachable::Maybe, None) => Ok(()),
        }
    }
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(f, &self.nickname, &self.rsa)?;
        let traffic = match self.was_confirmed {
            true => "carried traffic",
            false => "carried no traffic",
        };
        write!(f, ": given up {}, {traffic}; ", Minute(self.on))?;
        f.write_str(match self.reason {
            DepartureReason::Unlisted => "it was not listed as a guard for too long",
            DepartureReason::Old => "its time was over",
        })
    }
}

fn write_name(f: &mut fmt::Formatter<'_>, nickname: &str, rsa: &RsaId) -> fmt::Result {
    match nickname {
        "" => write!(f, "{rsa}"),
        nickname => write!(f, "{nickname} ({rsa})"),
    }
}
