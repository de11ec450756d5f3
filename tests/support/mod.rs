//! What tests of whole networks share: networks of ours, a SOCKS client, a server to fetch from.
//!
//! Waiting is for an event wherever there is one (a line that a process prints, a connection); the
//! rest is asked for again and again by `until`, with a limit. Everything is on loopback.

#![allow(
    dead_code,
    reason = "a module of three test targets, none of which uses all of it"
)]

pub(crate) mod bridges;
pub(crate) mod client;
pub(crate) mod clocks;
pub(crate) mod dns;
pub(crate) mod documents;
pub(crate) mod fetch;
pub(crate) mod network;
pub(crate) mod onion;
pub(crate) mod processes;
pub(crate) mod server;
pub(crate) mod space;
pub(crate) mod stem;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How often `until` asks.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// Asks until there is an answer; a test that gets none within `limit` fails.
pub(crate) fn until<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        let over = now().duration_since(started);
        assert!(over < limit, "not within {limit:?}: {what}");
        std::thread::sleep(ASK_INTERVAL);
    }
}

/// The steps of one test that share a network, as starting one takes long: each is tried, whatever
/// became of those before.
#[derive(Default)]
pub(crate) struct Steps {
    failed: Vec<&'static str>,
}

impl Steps {
    /// Tries a step.
    pub(crate) fn step(&mut self, name: &'static str, step: impl FnOnce()) {
        let started = now();
        let done = catch_unwind(AssertUnwindSafe(step));
        let took = now().duration_since(started).as_secs_f64();
        let word = if done.is_ok() { "ok" } else { "FAILED" };
        println!("{name}: {word} ({took:.1} s)");
        if done.is_err() {
            self.failed.push(name);
        }
    }

    /// Fails the test if a step has failed, and shows what may say why.
    pub(crate) fn finish(self, show_logs: impl FnOnce()) {
        if !self.failed.is_empty() {
            show_logs();
        }
        assert!(self.failed.is_empty(), "{:?}", self.failed);
    }
}

/// The time, for limits of a test.
#[expect(
    clippy::disallowed_methods,
    reason = "a test of processes has the system's clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
