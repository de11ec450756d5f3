//! Networks of the cores of production: no I/O, one virtual clock, one thread, one seed
//! (docs/simulation.md).
//!
//! A world keeps a heap of events ([`events`]). Each event goes to one core; the core's commands
//! become events to come, as `src/roles` turns them into sockets. Whatever happens is a line of the
//! trace ([`trace`]), of which a hash is kept: the same seed gives the same hash.

pub mod authorities;
mod events;
mod keys;
pub mod network;
pub mod trace;

use std::time::Duration;

use cepa_crypto::Rng;

/// Midnight UTC of a day in 2027, since 1970: where the wall clock of worlds starts.
const START: Duration = Duration::from_secs(1_800_057_600);

/// The generator of a seed.
fn rng_of(seed: u64) -> Rng {
    let mut bytes = [0; 32];
    let (front, _) = bytes.split_at_mut(8);
    front.copy_from_slice(&seed.to_le_bytes());
    Rng::from_seed(bytes)
}

/// Whether something happens that happens once in so many times; 0 is never.
fn one_in(rng: &mut Rng, times: u64) -> bool {
    times > 0 && rng.below(times) == 0
}

/// A time from `from` to `to`.
fn between(rng: &mut Rng, from: Duration, to: Duration) -> Duration {
    let span = to.saturating_sub(from).as_millis();
    from + Duration::from_millis(rng.below(u64::try_from(span).unwrap_or(u64::MAX)))
}
