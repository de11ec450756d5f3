//! Debian's `tor`, and stem's parsers, at the other end.
//!
//! `their_client`: a `tor` client, and stem, on a network of ours. `their_network`: our client and
//! our relay in a network of `tor` authorities and relays. `paths`: rules on paths, given to both.
//! `onions`: services and visitors of both, in either and in a mixed one. `throughput`: a
//! measurement beside `tor`, by hand. Where `tor` is not installed a test says so in a line and
//! passes, except under `CI=true`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail, and says what it saw"
)]

mod control;
mod onions;
mod paths;
#[path = "../support/mod.rs"]
mod support;
mod their_client;
mod their_network;
mod throughput;
mod tor;
mod tor_network;
