//! One layer of vanguards (vanguards-spec, "Selection and rotation").
//!
//! ```text
//! drawn ─▶ regular (the first so many) or spare ─▶ its time is over, or it is not listed ─▶ gone
//!            answers ──failed──▶ rests ──time──▶ answers
//! ```
//!
//! Invariants: no relay twice; never more than twice as many as wanted; who rests is kept all the
//! same, so that failures never make room for others before their time.

use std::fmt::Write;
use std::time::{Duration, Instant};

use cepa_crypto::{Rng, RsaId};
use cepa_dir::{NetworkView, Role};
use cepa_netdoc::params::Params;
use cepa_netdoc::routerstatus::{Flags, RouterStatus};
use cepa_netdoc::timestamp;
use cepa_wire::Now;

use super::VanguardStatus;
use crate::select::rules::Permits;

const HOUR_SECONDS: i32 = 3600;
const DAY_SECONDS: i32 = 86_400;
/// Most that the network may want in one layer (`tor`'s bound for `guard-hs-l2-number`).
const NUMBER_MAX: i32 = 19;
/// So many are to answer at least: whoever chooses our last hop rules one of them out.
const ANSWERING_MIN: usize = 2;
/// How long one rests after its first failure; twice as long after each further one.
const REST_MIN: Duration = Duration::from_secs(10);
/// The longest rest.
const REST_MAX: Duration = Duration::from_secs(600);

/// How many, and for how long (param-spec, "Vanguard parameters", which beats proposal 292).
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetimes {
    number: usize,
    seconds_min: u32,
    seconds_max: u32,
}

impl Lifetimes {
    /// Those of the second and of the third layer.
    pub(super) fn read(params: &Params) -> [Self; 2] {
        let read = |layer: &str, number, min, max| {
            let value = |name: &str, default, bound| {
                let name = format!("guard-hs-{layer}-{name}");
                params.value(&name, default, 1, bound).unsigned_abs()
            };
            let seconds_min = value("lifetime-min", min, i32::MAX);
            Lifetimes {
                number: usize::try_from(value("number", number, NUMBER_MAX)).unwrap_or(1),
                seconds_min,
                seconds_max: value("lifetime-max", max, i32::MAX).max(seconds_min),
            }
        };
        [
            read("l2", 4, DAY_SECONDS, 12 * DAY_SECONDS),
            read("l3", 8, HOUR_SECONDS, 48 * HOUR_SECONDS),
        ]
    }

    /// How long one is kept: the longer of two uniform draws.
    pub(super) fn draw(&self, rng: &mut Rng) -> Duration {
        let span = u64::from(self.seconds_max - self.seconds_min) + 1;
        let drawn = rng.below(span).max(rng.below(span));
        Duration::from_secs(u64::from(self.seconds_min) + drawn)
    }
}

/// One of them.
#[derive(Debug, Clone, Copy)]
struct Vanguard {
    id: RsaId,
    until: Instant,
    /// In a row.
    failures: u32,
    rests_until: Option<Instant>,
}

impl Vanguard {
    fn new(id: RsaId, until: Instant) -> Self {
        Vanguard {
            id,
            until,
            failures: 0,
            rests_until: None,
        }
    }

    fn answers(&self, now: Now) -> bool {
        self.rests_until.is_none_or(|until| until <= now.mono)
    }
}

/// A layer.
#[derive(Debug, Default)]
pub(super) struct Layer {
    members: Vec<Vanguard>,
    wanted: usize,
}

impl Layer {
    /// Drops and draws. True if something has changed.
    pub(super) fn refresh(
        &mut self,
        lifetimes: Lifetimes,
        view: &NetworkView,
        permits: &Permits,
        now: Now,
        rng: &mut Rng,
    ) -> bool {
        let before = self.members.len();
        self.wanted = lifetimes.number;
        // A clock that was wrong, or a network that has changed its mind, keeps none for longer.
        let latest = now.mono + Duration::from_secs(u64::from(lifetimes.seconds_max));
        let is_usable = |status: &RouterStatus| {
            status.flags.contains(Flags::RUNNING | Flags::VALID) && permits.of(&status.rsa_id).any
        };
        // By the consensus: a new microdescriptor of one that stays will come.
        self.members.retain_mut(|one| {
            one.until = one.until.min(latest);
            let status = view.consensus().router(&one.id);
            one.until > now.mono && status.is_some_and(is_usable)
        });
        self.members.truncate(2 * self.wanted);
        let mut is_changed = self.members.len() != before;
        while self.lacks(now) {
            let draw = |rng: &mut Rng, flags: Flags| {
                let is_known = |id: &RsaId| self.members.iter().any(|one| one.id == *id);
                let fits = |relay: &cepa_dir::Relay| {
                    relay.flags.contains(flags | Flags::RUNNING | Flags::VALID)
                        && permits.of(&relay.rsa_id).any
                        && !is_known(&relay.rsa_id)
                };
                let drawn = view.choose(rng, Role::Middle, fits);
                drawn.map(|relay| relay.rsa_id)
            };
            let id = draw(rng, Flags::FAST | Flags::STABLE).or_else(|| draw(rng, Flags::NONE));
            let Some(id) = id else { break };
            let until = now.mono + lifetimes.draw(rng);
            self.members.push(Vanguard::new(id, until));
            is_changed = true;
        }
        is_changed
    }

    /// Whether another is to be drawn.
    fn lacks(&self, now: Now) -> bool {
        let answering = self.members.iter().filter(|one| one.answers(now)).count();
        let is_cut_off = answering < ANSWERING_MIN.min(self.wanted);
        let len = self.members.len();
        len < self.wanted || (is_cut_off && len < 2 * self.wanted)
    }

    /// Those that may be hops now: the regular ones that answer, and as many spares as it takes
    /// that some do; all of the regular ones if nobody answers.
    pub(super) fn in_use(&self, now: Now) -> Vec<RsaId> {
        let (regular, spare) = self.members.split_at(self.wanted.min(self.members.len()));
        let answering = |one: &&Vanguard| one.answers(now);
        let mut used: Vec<RsaId> = regular.iter().filter(answering).map(|one| one.id).collect();
        let lacking = ANSWERING_MIN.min(self.wanted).saturating_sub(used.len());
        let spare = spare.iter().filter(answering).map(|one| one.id);
        used.extend(spare.take(lacking));
        if used.is_empty() {
            used.extend(regular.iter().map(|one| one.id));
        }
        used
    }

    /// One could not be reached. Silence alone may have other causes, once.
    pub(super) fn handle_failure(&mut self, id: &RsaId, is_told: bool, now: Now) {
        let Some(one) = self.members.iter_mut().find(|one| one.id == *id) else {
            return;
        };
        one.failures = one.failures.saturating_add(1);
        if is_told || one.failures > 1 {
            let doublings = (one.failures - 1).min(10);
            let rest = (REST_MIN * 2_u32.pow(doublings)).min(REST_MAX);
            one.rests_until = Some(now.mono + rest);
        }
    }

    /// One was reached.
    pub(super) fn handle_answer(&mut self, id: &RsaId) {
        if let Some(one) = self.members.iter_mut().find(|one| one.id == *id) {
            (one.failures, one.rests_until) = (0, None);
        }
    }

    /// Each of them, with what becomes of it.
    pub(super) fn statuses(&self, hop: usize, now: Now) -> impl Iterator<Item = VanguardStatus> {
        let status = move |(place, one): (usize, &Vanguard)| VanguardStatus {
            hop,
            id: one.id,
            until: now.wall + one.until.saturating_duration_since(now.mono),
            is_spare: place >= self.wanted,
            is_resting: !one.answers(now),
        };
        self.members.iter().enumerate().map(status)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.members.iter().map(|one| one.until).min()
    }

    /// Writes a line for each; times are those of the wall clock.
    pub(super) fn write(&self, name: &str, now: Now, out: &mut String) {
        for one in &self.members {
            let left = one.until.saturating_duration_since(now.mono);
            let until = timestamp::encode_joined(now.wall + left);
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{name} {} {until}", one.id);
        }
    }

    /// Reads such a line; one whose time is over is forgotten.
    pub(super) fn restore(&mut self, words: &str, now: Now) -> Option<()> {
        let (id, until) = words.split_once(' ')?;
        let id: RsaId = id.parse().ok()?;
        let until = timestamp::parse_joined(until).ok()?;
        let is_known = self.members.iter().any(|one| one.id == id);
        let len_max = 2 * usize::try_from(NUMBER_MAX).unwrap_or_default();
        if is_known || self.members.len() >= len_max {
            return None;
        }
        if let Ok(left) = until.duration_since(now.wall) {
            let until = now.mono.checked_add(left)?;
            self.members.push(Vanguard::new(id, until));
        }
        Some(())
    }
}
