//! A year of one client and its guards, in a network that changes as the public one does
//! (guard-spec; the facts of the network are in [`world`]).
//!
//! The guards of production ([`cepa`]) and a naive model of the specification's text ([`model`])
//! live through the same year: the same relays come and go, the same circuits are wanted. What is
//! counted ([`figures`]) is what an adversary works with: how many guards, for how long, and how
//! many circuits go through those of his.

mod cepa;
mod figures;
mod model;
mod world;

use cepa_crypto::Rng;
use cepa_wire::Now;

use cepa::Cepa;
pub use figures::{Figures, Summary};
use model::Model;
use world::World;

/// Days of a simulated year.
pub const DAYS: u32 = 365;
/// A step: so often a circuit is wanted, in seconds.
const STEP_SECS: u64 = 1800;
/// Steps of a day.
const STEPS_PER_DAY: u32 = 48;
/// Steps from one consensus of the client's to the next: clients fetch each two to four hours.
const CONSENSUS_STEPS: u32 = 6;
/// Tries that a client makes for one circuit.
const TRIES_MAX: usize = 60;

/// Who chooses guards.
trait Chooser {
    /// A consensus lists these.
    fn consensus(&mut self, listed: &[world::Relay], now: Now);
    /// Builds a circuit: the guard that carries it, if any could be reached. `try_guard` says
    /// whether one answers; `is_excluded` is what the exit rules out.
    fn circuit(
        &mut self,
        is_excluded: &dyn Fn(u32) -> bool,
        try_guard: &mut dyn FnMut(u32) -> bool,
        now: Now,
    ) -> Option<u32>;
    /// The program is started again.
    fn restart(&mut self);
    /// The sample.
    fn sample(&self) -> Vec<u32>;
}

/// A year of one seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Year {
    /// The guards of production.
    pub cepa: Figures,
    /// The naive model.
    pub model: Figures,
}

/// Simulates a year. `start` is any reading of the clocks: only differences to it matter.
#[must_use]
pub fn year(seed: u64, start: Now) -> Year {
    days(seed, DAYS, start)
}

/// Lives through so many days instead of a year.
#[must_use]
pub fn days(seed: u64, days: u32, start: Now) -> Year {
    let mut bytes = [0; 32];
    let (front, _) = bytes.split_at_mut(8);
    front.copy_from_slice(&seed.to_le_bytes());
    let mut rng = Rng::from_seed(bytes);
    let mut world = World::new(rng.fork());
    let mut cepa = Cepa::new(rng.fork());
    let mut model = Model::new(rng.fork());
    let (mut of_cepa, mut of_model) = (Figures::default(), Figures::default());
    for step in 0..days * STEPS_PER_DAY {
        let now = start + std::time::Duration::from_secs(u64::from(step) * STEP_SECS);
        world.advance(step);
        if step % CONSENSUS_STEPS == 0 {
            cepa.consensus(world.listed(), now);
            model.consensus(world.listed(), now);
            of_cepa.note_sample(&cepa.sample());
            of_model.note_sample(&model.sample());
        }
        let Some(wish) = world.wish(step) else {
            continue;
        };
        if wish.is_restart {
            cepa.restart();
            model.restart();
        }
        use_guard(&mut cepa, &mut of_cepa, &world, &wish, step, now);
        use_guard(&mut model, &mut of_model, &world, &wish, step, now);
    }
    Year {
        cepa: of_cepa,
        model: of_model,
    }
}

fn use_guard(
    chooser: &mut dyn Chooser,
    figures: &mut Figures,
    world: &World,
    wish: &world::Wish,
    step: u32,
    now: Now,
) {
    let is_excluded = |relay: u32| world.is_near(relay, wish.exit_group);
    let mut count = 0;
    let mut try_guard = |relay: u32| {
        count += 1;
        world.answers(relay, wish, count)
    };
    let guard = chooser.circuit(&is_excluded, &mut try_guard, now);
    match guard {
        Some(guard) => {
            let sides = world.sides(guard);
            let legal = world.is_up(guard) && !wish.is_offline && !is_excluded(guard);
            figures.note(guard, step, sides, legal);
        }
        None => figures.note_failure(wish.is_offline),
    }
}

#[cfg(test)]
mod tests;
