//! Debian's `tor`, and stem's parsers, at the other end.
//!
//! `matrix`: what works with `tor`, in both directions, as a table. `faults`: what breaks around
//! both, `clocks`: clocks that are wrong, `keys`: master keys that are kept elsewhere, `statuses`:
//! what applications are told. `bridges`: bridges and clients of both, plain and over obfs4,
//! `webtunnel`: through a web site.
//! `their_client`: a `tor` client, and stem, on a network of ours.
//! `paths`: rules on paths, given to both, `torrcs`: whole configurations. By hand: `throughput`, a
//! measurement beside `tor`, and `rounds`, a relay of ours through 240 rounds of `tor`. Where `tor`
//! is not installed a test says so in a line and passes, except under `CI=true`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail, and says what it saw"
)]

mod among_ours;
mod among_theirs;
mod bridges;
mod clocks;
mod control;
mod family;
mod faults;
mod keys;
mod machines;
mod matrix;
mod netinfo;
mod onions;
mod paths;
mod programs;
mod returns;
mod rounds;
mod statuses;
#[path = "../support/mod.rs"]
mod support;
mod their_client;
mod throughput;
mod tor;
mod torrcs;
mod traffic;
mod voting;
mod webtunnel;
mod world;
