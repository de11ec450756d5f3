//! What befalls authorities in an hour: nothing as a rule, or one to three faults.

use std::collections::BTreeSet;
use std::time::Duration;

use super::node::CrashPlan;
use super::setup::talking;
use super::{AFTER, BEFORE, Event, HOUR, World, between, one_in};
use crate::sim::net::authorities::model::Hour;

/// Most steps of a round that a crash may wait for.
const STEPS_MAX: u64 = 60;

/// A change of the conditions.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// A crash, for so long, and so much is the clock off afterwards.
    Crash(usize, Duration, i64),
    /// A crash within what it does next.
    CrashSoon(usize, CrashPlan),
    Start(usize),
    /// A clock is set.
    Jump(usize, i64),
    /// Pairs who cannot connect any more, for so long.
    Cut(BTreeSet<(usize, usize)>, Duration),
    Heal(u64),
    /// One connection in so many is reset from now on.
    Resets(u64),
}

impl World {
    /// Draws what an hour brings, and says who must agree if it brings nothing.
    pub(super) fn dawn(&mut self, hour: Hour) {
        let is_calm = self.rng.below(100) < self.calm_percent;
        let dusk = self.since_start(hour) + AFTER;
        if is_calm {
            let talking = talking(self);
            let version = self.version();
            self.events.plan(dusk, Event::Dusk(hour, talking, version));
        } else {
            for _ in 0..=self.rng.below(3) {
                self.brew(hour);
            }
            let talking = BTreeSet::new();
            self.events.plan(dusk, Event::Dusk(hour, talking, u64::MAX));
        }
        // Whoever lacks the consensus looks for it within the hour.
        for number in 0..self.nodes.len() {
            let generation = self.nodes.get(number).map_or(0, |node| node.generation);
            let at =
                self.since_start(hour) + between(&mut self.rng, Duration::from_secs(60), HOUR / 2);
            self.events.plan(at, Event::CatchUp(number, generation));
        }
    }

    /// Plans one fault around a consensus.
    fn brew(&mut self, hour: Hour) {
        let count = self.nodes.len() as u64;
        let number = self.rng.below(count) as usize;
        let from = self.since_start(hour) - BEFORE;
        let at = between(&mut self.rng, from + Duration::from_secs(120), from + HOUR);
        let down = self.a_while();
        match self.rng.below(10) {
            0 => self.plan(at, Fault::Crash(number, down, 0)),
            1 | 2 => {
                let plan = self.crash_plan(0);
                self.plan(from, Fault::CrashSoon(number, plan));
            }
            3 => {
                let back = i64::try_from(self.rng.below(600_000)).unwrap_or(0);
                let plan = self.crash_plan(-back);
                self.plan(from, Fault::CrashSoon(number, plan));
                let later = self.since_start(hour) + HOUR / 3;
                self.plan(later, Fault::Jump(number, back));
            }
            4 => {
                let by = i64::try_from(self.rng.below(1_200_000)).unwrap_or(0) - 600_000;
                self.plan(at, Fault::Jump(number, by));
                self.plan(at + down, Fault::Jump(number, -by));
            }
            5 => {
                let resets = 2 + self.rng.below(20);
                self.plan(from, Fault::Resets(resets));
                self.plan(from + HOUR / 2, Fault::Resets(0));
            }
            6 if one_in(&mut self.rng, 2) => {
                // The power fails everywhere.
                for number in 0..self.nodes.len() {
                    let down = self.a_while();
                    self.plan(at, Fault::Crash(number, down, 0));
                }
            }
            _ => {
                let cut = self.draw_cut();
                let at = between(&mut self.rng, from, from + BEFORE);
                self.plan(at, Fault::Cut(cut, down));
            }
        }
    }

    fn plan(&mut self, at: Duration, fault: Fault) {
        self.events.plan(at.max(self.at), Event::Weather(fault));
    }

    fn crash_plan(&mut self, jump: i64) -> CrashPlan {
        CrashPlan {
            steps: u32::try_from(self.rng.below(STEPS_MAX)).unwrap_or(0),
            down: self.a_while(),
            jump,
        }
    }

    /// A second to an hour and a half, short ones as often as long ones.
    fn a_while(&mut self) -> Duration {
        let longest = match self.rng.below(3) {
            0 => 10,
            1 => 300,
            _ => 5400,
        };
        between(
            &mut self.rng,
            Duration::from_secs(1),
            Duration::from_secs(longest),
        )
    }

    /// Who cannot connect to whom: one with all others, halves, one way, or any pairs.
    fn draw_cut(&mut self) -> BTreeSet<(usize, usize)> {
        let count = self.nodes.len();
        let kind = self.rng.below(4);
        let first = self.rng.below(count as u64) as usize;
        let size = match kind {
            0 => 1 + self.rng.below((count as u64 / 2).max(1)) as usize,
            _ => count / 2,
        };
        let is_in = |number: usize| (number + count - first) % count < size;
        let mut pairs = BTreeSet::new();
        for from in 0..count {
            for to in (0..count).filter(|to| *to != from) {
                let is_cut = match kind {
                    0 | 1 => is_in(from) != is_in(to),
                    2 => is_in(from) && !is_in(to),
                    _ => self.rng.below(4) == 0,
                };
                if is_cut {
                    pairs.insert((from, to));
                }
            }
        }
        pairs
    }

    /// It happens.
    pub(super) fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::Crash(number, down, jump) => self.crash(number, down, jump),
            Fault::CrashSoon(number, plan) => {
                self.changes += 1;
                let node = self.nodes.get_mut(number).filter(|node| node.is_up());
                if let Some(node) = node {
                    // Reachability tests take steps all the time: the crash is for the round.
                    node.crash = Some(plan);
                }
            }
            Fault::Start(number) => self.start_node(number),
            Fault::Jump(number, by) => {
                self.changes += 1;
                if let Some(node) = self.nodes.get_mut(number) {
                    node.skew += by;
                }
                self.note(format_args!("auth{number}'s clock is set by {by} ms"));
            }
            Fault::Cut(pairs, span) => {
                let cut = self.links.cut(pairs);
                self.note(format_args!("cut {cut}"));
                self.plan(self.at + span, Fault::Heal(cut));
            }
            Fault::Heal(cut) => {
                self.links.heal(cut);
                self.note(format_args!("cut {cut} heals"));
            }
            Fault::Resets(one_in) => {
                self.links.set_resets(one_in);
                self.note(format_args!("resets: one in {one_in}"));
            }
        }
    }
}
