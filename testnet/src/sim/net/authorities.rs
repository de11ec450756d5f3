//! Authorities alone: 3 to 9 cores of production that vote each hour, and what goes between them.
//!
//! ```text
//! synthetic relays ── descriptors ──▶ Authority ◀── virtual HTTP ──▶ Authority …
//!                                     │  rows kept          ▲ delay, loss, resets, cuts, liars
//!                                     ▼
//!                                     crash, restart with these rows, clocks that are wrong
//! ```
//! Beside them is a [`model`] of what must and must not be. Requests and replies are those of the
//! wire (`DirRequest`, `DirStore`), bodies go uncompressed. The relay that each authority also is,
//! which downloads a consensus that its authority has missed, is a few lines here (`catch_up`).

mod exchange;
mod liar;
mod links;
mod model;
mod node;
mod relays;
mod setup;
mod weather;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use cepa_crypto::{Rng, RsaId};
use cepa_wire::Now;

use self::exchange::{Answer, Message};
use self::liar::Liar;
use self::links::Links;
use self::model::{Hour, Model};
use self::node::Node;
use self::relays::{PUBLISH_EVERY, Relay};
use self::weather::Fault as Weather;
use super::events::Events;
use super::trace::Trace;
use super::{between, one_in};

pub use self::liar::Lie;

const HOUR: Duration = Duration::from_secs(3600);
/// Within so long of the start all relays publish for the first time.
const FIRST_UPLOADS: Duration = Duration::from_secs(240);
/// The hour's weather is drawn so long before its consensus: in a calm hour nothing changes from
/// then on.
const BEFORE: Duration = Duration::from_secs(20 * 60);
/// So long after the consensus was due the hour is judged.
const AFTER: Duration = Duration::from_secs(3 * 60);
/// Clocks may differ so much from the true time for the hour to be one in which all must agree:
/// votes are sent 150 s before the others look which they lack, and may take 30 s.
const SKEW_MAX_MS: i64 = 50_000;
/// An authority says who is Running so long after its start.
const TIME_TO_LEARN: Duration = Duration::from_secs(31 * 60);

/// How large a run is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Authorities, 1 to 9.
    pub authorities: usize,
    /// Relays that publish.
    pub relays: usize,
    /// Hours.
    pub hours: u64,
}

impl Default for Size {
    fn default() -> Self {
        Size {
            authorities: 9,
            relays: 100,
            hours: 168,
        }
    }
}

/// A fault that is put in by hand, to see that it is found (the canary).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The authority signs whatever consensus anybody signs.
    SignsTwice,
    /// It loses its vote and its commitment when it crashes.
    ForgetsRows,
    /// It publishes its consensus before anybody else has signed it.
    PublishesAlone,
    /// It believes a consensus whoever has signed it.
    BelievesAnybody,
}

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// What liars there were: each one's lies.
    pub liars: Vec<Vec<Lie>>,
    /// Hours simulated.
    pub hours: u64,
    /// Hours in which a consensus had to be.
    pub required: usize,
    /// Hours with a consensus.
    pub consensuses: usize,
    /// Hours with two valid ones, each of which liars have signed, too. Nothing in the protocol
    /// keeps them from that (docs/simulation.md).
    pub splits: usize,
    /// Runs with a shared random value.
    pub values: usize,
    /// Crashes.
    pub crashes: u64,
    /// Requests between authorities, and uploads of relays.
    pub requests: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Events.
    pub events: u64,
    /// The hash of the trace.
    pub hash: String,
    /// What must not be.
    pub violations: Vec<String>,
    /// The trace, if it was wanted.
    #[serde(skip)]
    pub trace: Option<String>,
}

/// Runs a seed. `base` is any reading of the monotonic clock: only differences to it matter.
#[must_use]
pub fn run(seed: u64, size: Size, base: Instant) -> Report {
    run_with(seed, size, base, None, false)
}

/// Runs a seed with a fault put in by hand, or with its trace kept.
#[must_use]
pub fn run_with(
    seed: u64,
    size: Size,
    base: Instant,
    fault: Option<Fault>,
    keeps_trace: bool,
) -> Report {
    let mut world = setup::world(seed, size, base, fault, keeps_trace);
    world.run();
    world.finish()
}

/// What happens.
enum Event {
    /// An authority wanted to be woken.
    Wake(usize, u64),
    Arrive(Box<Message>),
    Answer(Box<Answer>),
    /// A test of reachability has ended.
    Reached(usize, u64, RsaId, SocketAddr),
    /// An hour's weather is drawn.
    Dawn(Hour),
    /// An hour is judged; so many were to agree when nothing had changed.
    Dusk(Hour, BTreeSet<usize>, u64),
    Weather(Weather),
    /// A relay publishes.
    Publish(usize),
    /// Relays come and go.
    Churn,
    /// An authority's relay looks for a consensus.
    CatchUp(usize, u64),
    /// A liar sends again what it knows.
    Replay(usize),
}

struct World {
    size: Size,
    at: Duration,
    base: Instant,
    /// The wall clock at the start, since 1970.
    start: Duration,
    end: Duration,
    rng: Rng,
    events: Events<Event>,
    trace: Trace,
    nodes: Vec<Node>,
    relays: Vec<Relay>,
    relay_of: BTreeMap<RsaId, usize>,
    links: Links,
    model: Model,
    /// Counts what changes who can vote with whom, apart from links.
    changes: u64,
    calm_percent: u64,
    certs: Vec<cepa_netdoc::authcert::AuthCert>,
    trusted: Vec<RsaId>,
    good: BTreeMap<[u8; 32], usize>,
    report: Report,
}

impl World {
    fn run(&mut self) {
        for number in 0..self.nodes.len() {
            self.start_node(number);
        }
        for number in 0..self.relays.len() {
            let at = between(&mut self.rng, Duration::from_secs(5), FIRST_UPLOADS);
            self.events.plan(at, Event::Publish(number));
        }
        let first = self.start.as_secs() / 3600;
        for hour in 1..=self.size.hours {
            let at = self.since_start(first + hour) - BEFORE;
            self.events.plan(at, Event::Dawn(first + hour));
            self.events.plan(at, Event::Churn);
        }
        for number in 0..self.nodes.len() {
            if self
                .nodes
                .get(number)
                .is_some_and(|node| node.liar.is_some())
            {
                self.events.plan(HOUR, Event::Replay(number));
            }
        }
        while let Some((at, event)) = self.events.next() {
            if at > self.end {
                return;
            }
            self.at = at;
            self.handle(event);
        }
    }

    fn finish(mut self) -> Report {
        let mut report = self.report;
        report.splits = self.model.splits();
        report.required = self.model.required.len();
        report.consensuses = self.model.hours_with_consensus();
        report.values = self.model.values();
        report.violations = std::mem::take(&mut self.model.violations);
        (report.events, report.hash, report.trace) = self.trace.finish();
        report
    }

    /// When an hour begins.
    fn since_start(&self, hour: Hour) -> Duration {
        Duration::from_secs(hour * 3600).saturating_sub(self.start)
    }

    /// What the clocks of an authority say.
    fn now(&self, number: usize) -> Now {
        let skew = self.nodes.get(number).map_or(0, |node| node.skew);
        let wall = SystemTime::UNIX_EPOCH + self.start + self.at;
        let by = Duration::from_millis(skew.unsigned_abs());
        Now {
            mono: self.base + self.at,
            wall: if skew < 0 { wall - by } else { wall + by },
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Wake(number, generation) => self.wake(number, generation),
            Event::Arrive(message) => exchange::arrive(self, *message),
            Event::Answer(answer) => exchange::take_answer(self, *answer),
            Event::Reached(number, generation, relay, address) => {
                let is_up = self
                    .relay_of
                    .get(&relay)
                    .and_then(|at| self.relays.get(*at));
                let is_up = is_up.is_some_and(|relay| relay.is_up);
                let now = self.now(number);
                if let Some(core) = self.core(number, generation) {
                    core.authority
                        .handle_reachability(&relay, address, is_up, now);
                    exchange::drain(self, number);
                }
            }
            Event::Dawn(hour) => self.dawn(hour),
            Event::Dusk(hour, talking, version) => {
                let is_calm = self.version() == version;
                let talking = if is_calm { talking } else { BTreeSet::new() };
                self.note(format_args!("hour {} judged {talking:?}", hour % 24));
                self.model.judge(hour, &talking);
            }
            Event::Weather(fault) => self.strike(fault),
            Event::Publish(number) => self.publish(number),
            Event::Churn => {
                for relay in &mut self.relays {
                    let one_in_hours = if relay.is_up { 50 } else { 6 };
                    if one_in(&mut self.rng, one_in_hours) {
                        relay.is_up = !relay.is_up;
                    }
                }
            }
            Event::CatchUp(number, generation) => exchange::catch_up(self, number, generation),
            Event::Replay(number) => self.replay(number),
        }
    }

    fn core(&mut self, number: usize, generation: u64) -> Option<&mut node::Core> {
        let node = self.nodes.get_mut(number)?;
        let is_same = node.generation == generation;
        node.core.as_mut().filter(|_| is_same)
    }

    fn wake(&mut self, number: usize, generation: u64) {
        let now = self.now(number);
        let Some(node) = self.nodes.get_mut(number) else {
            return;
        };
        if node.generation != generation || node.wake != Some(self.at) {
            return;
        }
        node.wake = None;
        if let Some(core) = &mut node.core {
            core.authority.handle_timeout(now);
            exchange::drain(self, number);
        }
    }

    fn start_node(&mut self, number: usize) {
        self.changes += 1;
        let (now, at) = (self.now(number), self.at);
        let Some(node) = self.nodes.get_mut(number) else {
            return;
        };
        if node.is_up() {
            return;
        }
        node.start(at, now);
        let generation = node.generation;
        self.note(format_args!("auth{number} starts"));
        let soon = self.at
            + between(
                &mut self.rng,
                Duration::from_secs(5),
                Duration::from_secs(60),
            );
        self.events.plan(soon, Event::CatchUp(number, generation));
        exchange::drain(self, number);
    }

    /// A crash; it comes again after a while, by a clock that may be another.
    fn crash(&mut self, number: usize, down: Duration, jump: i64) {
        self.changes += 1;
        let Some(node) = self.nodes.get_mut(number) else {
            return;
        };
        if !node.is_up() {
            return;
        }
        node.kill();
        node.skew += jump;
        self.report.crashes += 1;
        self.note(format_args!("auth{number} crashes for {}s", down.as_secs()));
        let again = Event::Weather(Weather::Start(number));
        self.events.plan(self.at + down, again);
    }

    /// Counts whatever may keep authorities from agreeing.
    fn version(&self) -> u64 {
        self.changes + self.links.version
    }

    fn publish(&mut self, number: usize) {
        let wall = SystemTime::UNIX_EPOCH + self.start + self.at;
        // Documents have whole seconds.
        let secs = Duration::from_secs(cepa_wire::time::unix_seconds(wall));
        let Some(relay) = self.relays.get_mut(number) else {
            return;
        };
        if relay.is_up {
            relay.publish(SystemTime::UNIX_EPOCH + secs);
            exchange::upload(self, number);
        }
        let next = between(&mut self.rng, PUBLISH_EVERY * 3 / 4, PUBLISH_EVERY);
        self.events.plan(self.at + next, Event::Publish(number));
    }

    fn replay(&mut self, number: usize) {
        let next = SystemTime::UNIX_EPOCH + self.start + self.at;
        let next = cepa_authority::schedule::Timing::hourly().next_interval_start(next);
        let Some(node) = self.nodes.get_mut(number) else {
            return;
        };
        let (generation, is_up) = (node.generation, node.is_up());
        let posted = node.liar.as_mut().map(|liar| liar.replay(next));
        for one in posted.unwrap_or_default().into_iter().filter(|_| is_up) {
            for to in 0..self.nodes.len() {
                if to != number {
                    exchange::send(
                        self,
                        Message::post(Some((number, generation)), to, one.clone()),
                    );
                }
            }
        }
        let soon = between(
            &mut self.rng,
            Duration::from_secs(60),
            Duration::from_secs(1200),
        );
        self.events.plan(self.at + soon, Event::Replay(number));
    }

    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.note(self.at, what);
    }
}

#[cfg(test)]
mod tests;
