//! Which relays a circuit goes through: guards first, then paths by the rules of the operator, and
//! vanguards where an onion service is at the end (path-spec, guard-spec, vanguards-spec).

pub(crate) mod bridges;
pub(crate) mod choice;
mod emptied;
pub mod guards;
pub mod paths;
pub mod reach;
pub mod rules;
pub mod vanguards;

use cepa_crypto::Rng;

/// Orders a list at random (Fisher-Yates).
pub(crate) fn shuffle<T>(list: &mut [T], rng: &mut Rng) {
    for at in (1..list.len()).rev() {
        let other = usize::try_from(rng.below(at as u64 + 1)).unwrap_or(0);
        list.swap(at, other);
    }
}
