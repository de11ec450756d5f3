//! The network and the user, as they are drawn for a year.
//!
//! Rough facts of the public network, each a constant here: bandwidth is uneven (a tenth of the
//! guards carries about half); relays live for months or years, and come back under another
//! identity or not at all; they reboot for hours, break for days, sometimes for weeks; a few lose
//! the Guard flag for a while. There are fewer guards here than in the public network (some 3,000):
//! samples hold 60 of them either way. The user's computer runs from 8 to 24 o'clock, and is behind
//! a captive portal or without a network now and then.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use cepa_crypto::{Rng, RsaId};

use super::STEPS_PER_DAY;

/// Relays that are guards when they are up.
const GUARDS: u32 = 600;
/// The spread of weights: the standard deviation of their logarithm.
const WEIGHT_SPREAD: f64 = 1.3;
/// Groups of relays (families, subnets) that share no path; an exit is in one of them.
const GROUPS: u64 = 200;
/// Days that relays live, on average: a quarter of them for months, the others for years.
const LIFE_DAYS: [f64; 2] = [90.0, 900.0];
/// Days from one interruption to the next, on average.
const UP_DAYS: f64 = 40.0;
/// How long interruptions are, in days on average, and how many of a hundred are so.
const DOWN: [(u64, f64); 4] = [(60, 0.2), (20, 3.0), (8, 25.0), (12, 7.0)];
/// The last of these: the relay is up, but has lost the flag.
const FLAG_LOST: usize = 3;
/// Of 1,000 tries, how many fail although the guard is up.
const FAILING_PER_MILLE: u64 = 3;
/// Days from one outage at the client to the next, and how long they are, in days on average.
const OUTAGE: (f64, f64) = (7.0, 0.25);
/// The steps of a day in which the client runs.
const AWAKE: std::ops::Range<u32> = 16..48;
/// Percent of guard weight that the two adversaries have.
pub(super) const SIDES_PERCENT: [u64; 2] = [5, 20];

/// A relay that a consensus lists as a guard.
#[derive(Debug, Clone)]
pub(super) struct Relay {
    pub(super) number: u32,
    pub(super) weight: u64,
}

impl Relay {
    /// The identity of a relay of that number.
    pub(super) fn rsa(number: u32) -> RsaId {
        let mut bytes = [0; 20];
        let (front, _) = bytes.split_at_mut(4);
        front.copy_from_slice(&number.to_be_bytes());
        RsaId::from(bytes)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    /// Up, but no guard.
    Flagless,
    Down,
    Gone,
}

#[derive(Debug)]
struct Life {
    weight: u64,
    group: u64,
    sides: [bool; 2],
    state: State,
    ends_at: u32,
}

/// What the user wants in a step.
#[derive(Debug)]
pub(super) struct Wish {
    /// The program has just been started.
    pub(super) is_restart: bool,
    /// Nothing can be reached.
    pub(super) is_offline: bool,
    /// Where the exit is.
    pub(super) exit_group: u64,
    /// Decides which tries fail.
    luck: u64,
}

/// The network, and the user's days.
#[derive(Debug)]
pub(super) struct World {
    rng: Rng,
    lives: Vec<Life>,
    changes: BinaryHeap<Reverse<(u32, u32)>>,
    listed: Vec<Relay>,
    offline_until: u32,
    offline_from: u32,
}

impl World {
    pub(super) fn new(rng: Rng) -> Self {
        let mut world = World {
            rng,
            lives: Vec::new(),
            changes: BinaryHeap::new(),
            listed: Vec::new(),
            offline_until: 0,
            offline_from: 0,
        };
        for _ in 0..GUARDS {
            world.add(0);
        }
        world.offline_from = world.steps(OUTAGE.0);
        world.list();
        world
    }

    /// Lets a step pass. The consensus that a client has at its end is of its beginning.
    pub(super) fn advance(&mut self, step: u32) {
        self.list_if_due(step);
        while let Some(&Reverse((at, number))) = self.changes.peek()
            && at <= step
        {
            self.changes.pop();
            self.change(number, step);
        }
    }

    fn list_if_due(&mut self, step: u32) {
        if step.is_multiple_of(super::CONSENSUS_STEPS) {
            self.list();
        }
    }

    fn list(&mut self) {
        let lives = (0..).zip(&self.lives);
        let up = lives.filter(|(_, life)| life.state == State::Up);
        self.listed = up
            .map(|(number, life)| Relay {
                number,
                weight: life.weight,
            })
            .collect();
    }

    fn add(&mut self, step: u32) {
        let number = u32::try_from(self.lives.len()).unwrap_or(u32::MAX);
        let weight = (1000.0 * (WEIGHT_SPREAD * self.normal()).exp())
            .round()
            .max(1.0);
        let days = LIFE_DAYS[usize::from(self.rng.below(4) > 0)];
        let life = Life {
            // Less than 2^53, and not negative.
            weight: weight as u64,
            group: self.rng.below(GROUPS),
            sides: SIDES_PERCENT.map(|percent| self.rng.below(100) < percent),
            state: State::Up,
            ends_at: step + self.steps(days),
        };
        self.lives.push(life);
        let next = step + self.steps(UP_DAYS);
        self.changes.push(Reverse((next, number)));
    }

    fn change(&mut self, number: u32, step: u32) {
        let Some(life) = self.lives.get(number as usize) else {
            return;
        };
        let (state, next) = if life.ends_at <= step {
            (State::Gone, None)
        } else if life.state == State::Up {
            let (state, days) = self.interruption();
            (state, Some(step + self.steps(days)))
        } else {
            (State::Up, Some(step + self.steps(UP_DAYS)))
        };
        if let Some(life) = self.lives.get_mut(number as usize) {
            life.state = state;
        }
        match next {
            Some(next) => self.changes.push(Reverse((next, number))),
            None => self.add(step),
        }
    }

    fn interruption(&mut self) -> (State, f64) {
        let mut point = self.rng.below(100);
        for (kind, (percent, days)) in DOWN.into_iter().enumerate() {
            match point.checked_sub(percent) {
                Some(rest) => point = rest,
                None if kind == FLAG_LOST => return (State::Flagless, days),
                None => return (State::Down, days),
            }
        }
        (State::Down, 1.0)
    }

    /// The relays that the newest consensus lists as guards.
    pub(super) fn listed(&self) -> &[Relay] {
        &self.listed
    }

    /// What the user wants; nothing at night.
    pub(super) fn wish(&mut self, step: u32) -> Option<Wish> {
        if step >= self.offline_until && step >= self.offline_from {
            self.offline_until = step + self.steps(OUTAGE.1);
            self.offline_from = self.offline_until + self.steps(OUTAGE.0);
        }
        let (exit_group, luck) = (self.rng.below(GROUPS), self.rng.u64());
        let hour = step % STEPS_PER_DAY;
        AWAKE.contains(&hour).then_some(Wish {
            is_restart: hour == AWAKE.start,
            is_offline: step < self.offline_until,
            exit_group,
            luck,
        })
    }

    /// Whether a relay answers the n-th try of a step.
    pub(super) fn answers(&self, relay: u32, wish: &Wish, count: u64) -> bool {
        let drawn = wish
            .luck
            .rotate_left((count % 64) as u32)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let is_lucky = (drawn >> 32) % 1000 >= FAILING_PER_MILLE;
        self.is_up(relay) && !wish.is_offline && is_lucky
    }

    pub(super) fn is_up(&self, relay: u32) -> bool {
        let life = self.lives.get(relay as usize);
        life.is_some_and(|life| matches!(life.state, State::Up | State::Flagless))
    }

    /// Whether a relay may not be in a path with an exit of that group.
    pub(super) fn is_near(&self, relay: u32, group: u64) -> bool {
        let life = self.lives.get(relay as usize);
        life.is_some_and(|life| life.group == group)
    }

    /// Which of the adversaries has the relay.
    pub(super) fn sides(&self, relay: u32) -> [bool; 2] {
        let life = self.lives.get(relay as usize);
        life.map_or([false; 2], |life| life.sides)
    }

    /// Steps until something happens that happens so often on average; one at least.
    fn steps(&mut self, days: f64) -> u32 {
        let steps = -self.fraction().ln() * days * f64::from(STEPS_PER_DAY);
        // Saturates.
        (steps as u32).max(1)
    }

    /// Above 0, up to 1.
    fn fraction(&mut self) -> f64 {
        // 53 bits are exact.
        ((self.rng.u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Of the standard normal distribution (Box and Muller).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.fraction().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.fraction()).cos()
    }
}
