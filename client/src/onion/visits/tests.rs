//! Visits against a service, directories and relays in memory, which write with the production
//! wire and cryptography.

mod failures;
mod random;
mod ways;
mod world;
