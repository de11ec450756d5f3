//! The one place that asks the system for the time and for randomness.
//!
//! Everything below the shell takes both as arguments (`cepa_wire::Now`, `cepa_crypto::Rng`), so
//! that a simulation can bring its own.

use std::time::{Instant, SystemTime};

use cepa_crypto::Rng;
use cepa_wire::Now;

use crate::error::{Failure, fail};

/// Both clocks, read at once.
#[expect(
    clippy::disallowed_methods,
    reason = "the shell's one call of the system's clocks"
)]
pub fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: SystemTime::now(),
    }
}

/// A generator seeded by the operating system.
pub fn rng() -> Result<Rng, Failure> {
    let mut seed = [0; 32];
    match getrandom::fill(&mut seed) {
        Ok(()) => Ok(Rng::from_seed(seed)),
        Err(error) => fail("no randomness", "from the operating system", error),
    }
}
