//! Onion services over days of periods and shared random values: can a visitor always find them?
//! (rend-spec-v3 2.2)
//!
//! ```text
//! Services (one each, with a consensus that is up to an hour late) ─ uploads ─▶ HSDirs of relays
//! Visits (fresh for each visit, consensus up to two hours late) ─── fetches ──▶   that come and go
//! ```
//!
//! The machines and the directories are those of the product; circuits are replaced by their ends
//! ([`ends`]). Beside the visits, which decrypt what they find, each service is looked up by the
//! ring alone for each age of consensus. The same seed gives the same run.

mod ends;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use cepa_client::Isolation;
use cepa_client::onion::services::{ServiceConfig, Services};
use cepa_client::onion::{Event, Outcome, Visits};
use cepa_client::rules::Permits;
use cepa_crypto::ed25519::{Keypair, PublicKey};
use cepa_crypto::onion::{OnionAddress, TimePeriod, blind};
use cepa_crypto::{Rng, RsaId};
use cepa_dir::NetworkView;
use cepa_dir::hsring::{self, HsRing};
use cepa_wire::Now;

use super::churn::{Churn, Rates};
use ends::{Directories, Ends};

/// The hour at which runs begin: midnight UTC of a day in 2027.
const START: Duration = Duration::from_secs(1_800_057_600);
const TICK: Duration = Duration::from_secs(60);
const TICKS_AN_HOUR: u64 = 60;
/// Consensuses of that many hours are valid.
const AGES: usize = 3;
/// Steps of circuits in one tick.
const STEPS_A_TICK: usize = 6;
/// Seconds that a visit may take: several directories of its six may be down.
const VISIT_SECS_MAX: u32 = 30;

/// How large a run is: relays, services, days.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Relays, all of them directories of onion services.
    pub relays: usize,
    /// Onion services.
    pub services: usize,
    /// Days.
    pub days: u64,
    /// Visits that fetch and decrypt, an hour.
    pub visits_an_hour: usize,
}

impl Default for Size {
    fn default() -> Self {
        Size {
            relays: 200,
            services: 50,
            days: 14,
            visits_an_hour: 20,
        }
    }
}

/// What a run came to: what was counted, and what failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Descriptors that directories took and refused.
    pub uploads: u64,
    /// Those that they refused.
    pub refused: u64,
    /// Visits by the product's machine.
    pub visits: u64,
    /// Those that did not come as far as an introduction point, with what they were told.
    pub failed: Vec<String>,
    /// Look-ups of a service by the ring: a service, an hour, an age of consensus each.
    pub lookups: u64,
    /// Look-ups that found no directory with a descriptor.
    pub missed: u64,
    /// Look-ups by how many of the responsible directories had it.
    pub held_by: BTreeMap<usize, u64>,
}

/// Runs a seed. `base` is where the clocks start.
#[must_use]
pub fn run(seed: u64, size: Size, base: Instant) -> Report {
    let mut world = World::new(seed, size, base);
    for _ in 0..size.days * 24 {
        world.pass_hour();
    }
    world.report
}

/// One hosted service.
struct Host {
    services: Services,
    ends: Ends,
    public: PublicKey,
    address: OnionAddress,
    /// The minute of the hour at which it gets the new consensus.
    lag: u64,
    blinded: BTreeMap<TimePeriod, PublicKey>,
}

struct World {
    size: Size,
    churn: Churn,
    directories: Directories,
    hosts: Vec<Host>,
    /// The consensuses that are valid, the newest first.
    views: Vec<NetworkView>,
    now: Now,
    rng: Rng,
    report: Report,
}

impl World {
    fn new(seed: u64, size: Size, base: Instant) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        let mut rng = Rng::from_seed(bytes);
        let rates = Rates {
            goes_one_in: 50,
            returns_one_in: 6,
        };
        let churn = Churn::new(size.relays, rates, rng.fork());
        let now = Now {
            mono: base,
            wall: SystemTime::UNIX_EPOCH + START,
        };
        let mut world = World {
            size,
            directories: Directories::default(),
            churn,
            hosts: Vec::new(),
            views: Vec::new(),
            now,
            rng,
            report: Report::default(),
        };
        for _ in 0..size.services {
            let host = world.host();
            world.hosts.push(host);
        }
        world
    }

    fn host(&mut self) -> Host {
        let keys = Keypair::generate(&mut self.rng).expand();
        let public = keys.public();
        let mut services = Services::new(self.rng.fork(), false);
        services.add(ServiceConfig::new(keys, vec![80]), self.now);
        Host {
            services,
            ends: Ends::new(self.rng.fork()),
            public,
            address: OnionAddress::new(&public).expect("a key of ours"),
            lag: self.rng.below(TICKS_AN_HOUR),
            blinded: BTreeMap::new(),
        }
    }

    fn pass_hour(&mut self) {
        let gone = self.churn.pass_hour();
        self.directories.restart(&gone);
        for host in &mut self.hosts {
            host.ends.lose(&gone);
        }
        let view = self.churn.view(self.now.wall);
        self.views.insert(0, view);
        // Half of the relays get a consensus an hour late.
        for relay in self.churn.relays().iter().filter(|relay| relay.is_up) {
            let view = self.views.get(self.rng.below(2) as usize);
            if let Some(view) = view.or(self.views.first()) {
                self.directories.handle_network(relay.rsa, view);
            }
        }
        self.views.truncate(AGES);
        for minute in 0..TICKS_AN_HOUR {
            self.tick(minute);
            self.now.mono += TICK;
            self.now.wall += TICK;
        }
        // Once all services have had the time to come up.
        if self.views.len() == AGES {
            self.look_up_all();
            for _ in 0..self.size.visits_an_hour {
                self.visit();
            }
        }
        (self.report.uploads, self.report.refused) = self.directories.counts();
    }

    fn tick(&mut self, minute: u64) {
        let up: Vec<RsaId> = up(&self.churn);
        for host in &mut self.hosts {
            if minute == host.lag
                && let Some(view) = self.views.first()
            {
                host.services
                    .handle_event(Event::Network(view, &Permits::FREE), self.now);
            }
            let due = host.services.poll_timeout();
            if due.is_some_and(|due| due <= self.now.mono) {
                host.services.handle_timeout(self.now);
            }
            // A circuit, a message, a reply: all within the same minute.
            for _ in 0..STEPS_A_TICK {
                while let Some(action) = host.services.poll_action() {
                    host.ends.handle_action(action);
                }
                let (services, directories) = (&mut host.services, &mut self.directories);
                host.ends.tick(&up, directories, self.now, |event, now| {
                    services.handle_event(event, now);
                });
            }
            while host.services.poll_outcome().is_some() {}
        }
    }

    /// Asks, for each service and age of consensus, how many of the directories have it.
    fn look_up_all(&mut self) {
        let rings: Vec<HsRing> = self.views.iter().map(hsring::fetch_ring).collect();
        let (directories, now) = (&mut self.directories, self.now);
        for host in &mut self.hosts {
            for ring in &rings {
                let period = ring.period();
                let public = &host.public;
                let blinded = host.blinded.entry(period);
                let blinded = *blinded.or_insert_with(|| blind(public, period).expect("a key"));
                let responsible = ring.responsible(&blinded);
                let held = responsible
                    .iter()
                    .filter(|id| directories.has(id, &blinded, now));
                let held = held.count();
                *self.report.held_by.entry(held).or_default() += 1;
                self.report.lookups += 1;
                self.report.missed += u64::from(held == 0);
            }
        }
    }

    /// A visit by somebody new, up to an introduction point.
    fn visit(&mut self) {
        let (age, host) = (
            self.rng.below(AGES as u64) as usize,
            self.rng.below(self.hosts.len() as u64) as usize,
        );
        let (Some(view), Some(host)) = (self.views.get(age), self.hosts.get(host)) else {
            return;
        };
        let isolation = Isolation::internal(0);
        let (mut visits, mut ends) = (
            Visits::new(self.rng.fork(), false),
            Ends::new(self.rng.fork()),
        );
        let up = up(&self.churn);
        let mut now = self.now;
        visits.handle_event(Event::Network(view, &Permits::FREE), now);
        visits.request(host.address, &isolation, now);
        self.report.visits += 1;
        for _ in 0..VISIT_SECS_MAX {
            while let Some(action) = visits.poll_action() {
                ends.handle_action(action);
            }
            if ends.has_introduced() {
                return;
            }
            if let Some(Outcome::Failed { error, .. }) = visits.poll_outcome() {
                self.report.failed.push(error.to_string());
                return;
            }
            ends.tick(&up, &mut self.directories, now, |event, now| {
                visits.handle_event(event, now);
            });
            now.mono += Duration::from_secs(1);
            now.wall += Duration::from_secs(1);
            if visits.poll_timeout().is_some_and(|due| due <= now.mono) {
                visits.handle_timeout(now);
            }
        }
        self.report.failed.push("took too long".to_owned());
    }
}

fn up(churn: &Churn) -> Vec<RsaId> {
    let up = churn.relays().iter().filter(|relay| relay.is_up);
    up.map(|relay| relay.rsa).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "a simulation's clock starts somewhere"
    )]
    fn base() -> Instant {
        Instant::now()
    }

    /// A small run over two changes of the random value and of the period; the large ones are
    /// `cepa testnet sim onions`.
    #[test]
    fn every_visitor_finds_every_service() {
        let size = Size {
            relays: 60,
            services: 4,
            days: 2,
            visits_an_hour: 2,
        };
        let report = run(7, size, base());
        assert_eq!(report.failed, [""; 0]);
        assert_eq!(report.missed, 0, "{report:?}");
        assert!(report.visits > 80 && report.lookups > 500 && report.uploads > 500);
        assert_eq!(report, run(7, size, base()), "the same seed, the same run");
    }
}
