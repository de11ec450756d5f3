//! The publisher without any circuit: days of periods, random values and directories that come
//! and go, under a clock of the test's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cepa_crypto::ed25519::{ExpandedKeypair, Keypair, PublicKey};
use cepa_crypto::onion::{self, TimePeriod};
use cepa_crypto::{Ed25519Id, Rng, RsaId, curve25519, digest};
use cepa_dir::hsring::{HsRing, HsSchedule};
use cepa_netdoc::consensus::{
    Consensus, Lifetime, RequiredProtocols, SharedRandValue, VotingDelay,
};
use cepa_netdoc::hs_descriptor::{HsDescriptor, IntroPoint};
use cepa_netdoc::params::Params;
use cepa_wire::Now;
use cepa_wire::linkspec::LinkSpecifiers;
use proptest::prelude::*;

use crate::drawn::start;
use crate::onion::services::{Publisher, Upload};

const HOUR_SECONDS: u64 = 60 * 60;
const DAY_SECONDS: u64 = 24 * HOUR_SECONDS;
/// Times the consensus is valid, in hours.
const VALID_HOURS: usize = 3;

fn after(now: Now, time: Duration) -> Now {
    Now {
        mono: now.mono + time,
        wall: now.wall + time,
    }
}

/// The shared random value that comes out on a day.
fn random_value(day: u64) -> Option<SharedRandValue> {
    // On some days the authorities fail to agree.
    (day % 5 != 3).then(|| SharedRandValue {
        reveals: 9,
        value: digest::sha3_256(&day.to_be_bytes()),
    })
}

/// The periods of a consensus of this hour.
fn schedule(now: Now) -> HsSchedule {
    let hour = now.unix_seconds() / HOUR_SECONDS * HOUR_SECONDS;
    let day = hour / DAY_SECONDS;
    let valid_after = std::time::UNIX_EPOCH + Duration::from_secs(hour);
    let consensus = Consensus {
        flavour: cepa_dir::Flavour::Microdesc,
        method: 33,
        lifetime: Lifetime {
            valid_after,
            fresh_until: valid_after + Duration::from_secs(HOUR_SECONDS),
            valid_until: valid_after + Duration::from_secs(3 * HOUR_SECONDS),
        },
        voting_delay: VotingDelay {
            vote_seconds: 300,
            dist_seconds: 300,
        },
        client_versions: None,
        server_versions: None,
        known_flags: Vec::new(),
        protocols: RequiredProtocols::default(),
        params: Params::new(),
        shared_rand_previous: random_value(day - 1),
        shared_rand_current: random_value(day),
        authorities: Vec::new(),
        routers: Vec::new(),
        bandwidth_weights: Params::new(),
        signatures: Vec::new(),
    };
    HsSchedule::new(&consensus, false)
}

/// The rings of a consensus.
struct Network {
    store: [HsRing; 2],
    fetch: HsRing,
}

impl Network {
    /// As these directories are listed at a time.
    fn new(now: Now, listed: &[(RsaId, Ed25519Id)]) -> Self {
        let schedule = schedule(now);
        let ring = |(period, srv): (TimePeriod, [u8; 32]), spread| {
            HsRing::new(listed.iter().copied(), period, &srv, 2, spread)
        };
        Network {
            store: schedule.store().map(|place| ring(place, 4)),
            fetch: ring(schedule.fetch(), 3),
        }
    }

    /// Of twenty directories.
    fn small(now: Now) -> Self {
        let listed: Vec<_> = (0..20).map(|n| Directory::new(n).ids).collect();
        Network::new(now, &listed)
    }
}

struct Directory {
    ids: (RsaId, Ed25519Id),
    is_up: bool,
    /// Revision and end of what it has, by blinded key.
    held: BTreeMap<PublicKey, (u64, Now)>,
}

impl Directory {
    fn new(n: u8) -> Self {
        Directory {
            ids: (RsaId::from([n; 20]), Ed25519Id::from([n; 32])),
            is_up: true,
            held: BTreeMap::new(),
        }
    }

    /// Whether it takes a descriptor.
    fn take(&mut self, descriptor: &HsDescriptor, now: Now) -> bool {
        let held = self.held.get(&descriptor.blinded_key);
        let is_newer = held.is_none_or(|(revision, _)| *revision < descriptor.revision);
        if self.is_up && is_newer {
            let lifetime = Duration::from_secs(u64::from(descriptor.lifetime_minutes) * 60);
            let entry = (descriptor.revision, after(now, lifetime));
            self.held.insert(descriptor.blinded_key, entry);
        }
        self.is_up && is_newer
    }
}

fn points(count: usize, rng: &mut Rng) -> Vec<IntroPoint> {
    let rsa = RsaId::from([1; 20]);
    let address = "10.0.0.1:443".parse().ok();
    let one = |_| IntroPoint {
        link_specifiers: LinkSpecifiers::new(address, rsa, None, None),
        onion_key: *curve25519::SecretKey::generate(rng).public(),
        auth_key: Keypair::generate(rng).public(),
        enc_key: *curve25519::SecretKey::generate(rng).public(),
    };
    (0..count).map(one).collect()
}

struct Simulation {
    rng: Rng,
    now: Now,
    directories: BTreeMap<RsaId, Directory>,
    /// The newest consensus last.
    consensuses: Vec<Network>,
    services: Vec<(PublicKey, Publisher)>,
    uploads: u64,
    refused_by_standing: u64,
    fetches: u64,
}

impl Simulation {
    fn new(seed: u8, services: usize) -> Self {
        let mut rng = Rng::from_seed([seed; 32]);
        let directories: Vec<Directory> = (0..200).map(Directory::new).collect();
        let mut add = |_| {
            let identity = Keypair::generate(&mut rng).expand();
            (identity.public(), Publisher::new(&identity, Vec::new()))
        };
        let services = (0..services).map(&mut add).collect();
        Simulation {
            rng,
            now: start(),
            directories: directories.into_iter().map(|it| (it.ids.0, it)).collect(),
            consensuses: Vec::new(),
            services,
            uploads: 0,
            refused_by_standing: 0,
            fetches: 0,
        }
    }

    /// Relays go down, come back with nothing, and a consensus says who is up.
    fn vote(&mut self) {
        for directory in self.directories.values_mut() {
            match (directory.is_up, self.rng.below(100)) {
                (true, 0..3) => {
                    directory.is_up = false;
                    directory.held.clear();
                }
                (false, 0..30) => directory.is_up = true,
                _ => {}
            }
        }
        let up = self.directories.values().filter(|it| it.is_up);
        let listed: Vec<_> = up.map(|it| it.ids).collect();
        let network = Network::new(self.now, &listed);
        self.consensuses.push(network);
        if self.consensuses.len() > VALID_HOURS {
            self.consensuses.remove(0);
        }
    }

    fn tell(&mut self, at: usize) {
        let rings = &self.consensuses.last().unwrap().store;
        let (_, publisher) = &mut self.services[at];
        publisher.handle_rings(rings, self.now, &mut self.rng);
        self.upload(at);
    }

    fn upload(&mut self, at: usize) {
        let (_, publisher) = &mut self.services[at];
        let mut read: BTreeMap<PublicKey, (Arc<str>, HsDescriptor)> = BTreeMap::new();
        while let Some(upload) = publisher.poll_upload() {
            let known = read.get(&upload.blinded);
            if known.is_none_or(|(text, _)| !Arc::ptr_eq(text, &upload.text)) {
                let parsed = HsDescriptor::parse(&upload.text, self.now.wall).unwrap();
                assert_eq!(parsed.blinded_key, upload.blinded);
                read.insert(upload.blinded, (Arc::clone(&upload.text), parsed));
            }
            let (_, descriptor) = &read[&upload.blinded];
            let directory = self.directories.get_mut(&upload.hsdir).unwrap();
            let is_taken = directory.take(descriptor, self.now);
            self.uploads += 1;
            self.refused_by_standing += u64::from(directory.is_up && !is_taken);
            publisher.handle_uploaded(upload.id, is_taken, self.now, &mut self.rng);
        }
    }

    /// A quarter of an hour passes.
    fn pass(&mut self) {
        self.now = after(self.now, Duration::from_secs(HOUR_SECONDS / 4));
        for directory in self.directories.values_mut() {
            // It crashes, though the consensus lists it still.
            if self.rng.below(200) == 0 {
                directory.is_up = false;
                directory.held.clear();
            }
        }
        for at in 0..self.services.len() {
            let (_, publisher) = &mut self.services[at];
            publisher.handle_timeout(self.now, &mut self.rng);
            self.upload(at);
        }
    }

    fn finds(&self, network: &Network, identity: &PublicKey) -> bool {
        let ring = &network.fetch;
        let blinded = onion::blind(identity, ring.period()).unwrap();
        ring.responsible(&blinded).iter().any(|id| {
            let held = self.directories[id].held.get(&blinded);
            held.is_some_and(|(_, until)| until.mono > self.now.mono)
        })
    }

    /// Visitors with any valid consensus look for all services.
    fn visit(&mut self) {
        for network in &self.consensuses {
            for (identity, _) in &self.services {
                self.fetches += 1;
                assert!(self.finds(network, identity), "at {:?}", self.now.wall);
            }
        }
    }

    fn run(&mut self, days: u64) {
        self.vote();
        for at in 0..self.services.len() {
            let points = points(3, &mut self.rng);
            let (_, publisher) = &mut self.services[at];
            publisher.set_points(points, self.now, &mut self.rng);
            self.tell(at);
            assert!(self.services[at].1.stands());
        }
        for _ in 0..days * 24 {
            for quarter in 0..4 {
                self.visit();
                self.pass();
                // A service may learn of the consensus late.
                for at in 0..self.services.len() {
                    if quarter == at % 4 {
                        self.tell(at);
                    }
                }
                if self.rng.below(20) == 0 {
                    let at = self.rng.below(self.services.len() as u64) as usize;
                    let points = points(3, &mut self.rng);
                    let (_, publisher) = &mut self.services[at];
                    publisher.set_points(points, self.now, &mut self.rng);
                    self.upload(at);
                }
            }
            self.vote();
        }
    }
}

#[test]
fn visitors_find_a_descriptor_for_days() {
    for seed in 1..=2 {
        let mut simulation = Simulation::new(seed, 4);
        simulation.run(5);
        assert_eq!(simulation.refused_by_standing, 0, "revisions only grow");
        let (fetches, uploads) = (simulation.fetches, simulation.uploads);
        assert!(fetches > 5000, "{fetches}");
        // Both descriptors to eight directories, every hour and a half; and some for changes.
        assert!(uploads < 5 * 24 * 4 * 16, "{uploads}");
    }
}

#[test]
fn a_directory_that_is_down_does_not_put_off_the_others() {
    let (mut now, mut rng) = (start(), Rng::from_seed([8; 32]));
    let mut publisher = publisher(&Keypair::generate(&mut rng).expand());
    publisher.handle_rings(&Network::small(now).store, now, &mut rng);
    publisher.set_points(points(3, &mut rng), now, &mut rng);
    let (mut taken, mut down) = (BTreeMap::new(), None);
    for _ in 0..48 {
        while let Some(upload) = publisher.poll_upload() {
            let is_taken = *down.get_or_insert(upload.hsdir) != upload.hsdir;
            if is_taken {
                taken.insert((upload.hsdir, upload.blinded), now.mono);
            }
            publisher.handle_uploaded(upload.id, is_taken, now, &mut rng);
        }
        let age_max = Duration::from_secs(2 * HOUR_SECONDS + HOUR_SECONDS / 4);
        assert!(
            taken
                .values()
                .all(|at| now.mono.duration_since(*at) <= age_max)
        );
        now = after(now, Duration::from_secs(HOUR_SECONDS / 4));
        publisher.handle_timeout(now, &mut rng);
    }
}

/// Each visitor finds a descriptor, on any of fourteen days; prints what was counted.
#[test]
#[ignore = "takes 25 minutes: 20 seeds of 50 services among 200 relays for 14 days"]
fn visitors_find_a_descriptor_for_a_fortnight() {
    for seed in 1..=20 {
        let mut simulation = Simulation::new(seed, 50);
        simulation.run(14);
        assert_eq!(simulation.refused_by_standing, 0, "revisions only grow");
        println!(
            "seed {seed}: {} fetches found a descriptor, {} uploads",
            simulation.fetches, simulation.uploads
        );
    }
}

/// The revisions that a publisher gives out at a time, by blinded key.
fn revisions(publisher: &mut Publisher, now: Now, rng: &mut Rng) -> BTreeMap<PublicKey, u64> {
    let rings = Network::small(now);
    publisher.handle_rings(&rings.store, now, rng);
    let points = points(1, rng);
    publisher.set_points(points, now, rng);
    // If one was made in this second already, the next is made in the next one.
    let later = after(now, Duration::from_secs(1));
    publisher.handle_timeout(later, rng);
    let mut found = BTreeMap::new();
    while let Some(upload) = publisher.poll_upload() {
        let descriptor = HsDescriptor::parse(&upload.text, later.wall).unwrap();
        found.insert(upload.blinded, descriptor.revision);
        publisher.handle_uploaded(upload.id, true, later, rng);
    }
    found
}

fn publisher(identity: &ExpandedKeypair) -> Publisher {
    Publisher::new(identity, Vec::new())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn revisions_never_go_back(
        steps in prop::collection::vec((2_u64..100_000, any::<bool>()), 1..20),
        seed: [u8; 32],
    ) {
        let mut rng = Rng::from_seed(seed);
        let identity = Keypair::generate(&mut rng).expand();
        let mut now = start();
        let mut running = publisher(&identity);
        let mut last = BTreeMap::new();
        for (seconds, restarts) in steps {
            now = after(now, Duration::from_secs(seconds));
            if restarts {
                running = publisher(&identity);
            }
            let found = revisions(&mut running, now, &mut rng);
            prop_assert_eq!(found.len(), 2, "a descriptor of each period");
            for (key, revision) in found {
                let before = last.insert(key, revision).unwrap_or_default();
                prop_assert!(before < revision);
            }
        }
    }
}

#[test]
fn revisions_grow_even_if_the_clock_goes_back() {
    let mut rng = Rng::from_seed([3; 32]);
    let identity = Keypair::generate(&mut rng).expand();
    let mut running = publisher(&identity);
    let now = start();
    let first = revisions(&mut running, now, &mut rng);
    let back = Now {
        mono: now.mono + Duration::from_secs(10),
        wall: now.wall - Duration::from_secs(600),
    };
    let second = revisions(&mut running, back, &mut rng);
    assert!(second.iter().all(|(key, it)| first[key] < *it));
}

#[test]
fn refused_uploads_are_tried_again_ever_more_slowly() {
    let mut rng = Rng::from_seed([4; 32]);
    let identity = Keypair::generate(&mut rng).expand();
    let mut running = publisher(&identity);
    let mut now = start();
    let rings = Network::small(now);
    let end = after(now, Duration::from_secs(HOUR_SECONDS - 1));
    running.handle_rings(&rings.store, now, &mut rng);
    assert!(running.poll_timeout().is_none(), "there is nothing to say");
    let points = points(3, &mut rng);
    running.set_points(points, now, &mut rng);
    let mut tries = 0;
    loop {
        while let Some(upload) = running.poll_upload() {
            running.handle_uploaded(upload.id, false, now, &mut rng);
            tries += 1;
        }
        let at = running.poll_timeout().unwrap();
        if at >= end.mono {
            break;
        }
        now = after(now, at - now.mono);
        running.handle_timeout(now, &mut rng);
    }
    assert!((16 * 10..16 * 20).contains(&tries), "{tries}");
    assert!(!running.stands());
}

/// A process that is killed and comes back within a second makes the same revision again, which
/// directories refuse: the next try outdoes it.
#[test]
fn a_refused_revision_is_outdone() {
    let mut rng = Rng::from_seed([6; 32]);
    let identity = Keypair::generate(&mut rng).expand();
    let now = start();
    let rings = Network::small(now);
    let begin = |rng: &mut Rng| {
        let mut running = publisher(&identity);
        running.handle_rings(&rings.store, now, rng);
        running.set_points(points(3, rng), now, rng);
        running
    };
    let revision_of = |upload: &Upload| {
        HsDescriptor::parse(&upload.text, now.wall)
            .unwrap()
            .revision
    };
    let mut held = BTreeMap::new();
    let mut killed = begin(&mut rng);
    while let Some(upload) = killed.poll_upload() {
        held.insert((upload.blinded, upload.hsdir), revision_of(&upload));
    }
    let (mut running, mut now) = (begin(&mut rng), now);
    while !running.stands() {
        while let Some(upload) = running.poll_upload() {
            let is_newer = held[&(upload.blinded, upload.hsdir)] < revision_of(&upload);
            running.handle_uploaded(upload.id, is_newer, now, &mut rng);
        }
        let at = running.poll_timeout().unwrap();
        assert!(at < start().mono + Duration::from_secs(10), "not outdone");
        now = after(now, at.saturating_duration_since(now.mono));
        running.handle_timeout(now, &mut rng);
    }
}

#[test]
fn a_new_text_stops_what_is_under_way() {
    let mut rng = Rng::from_seed([5; 32]);
    let identity = Keypair::generate(&mut rng).expand();
    let mut running = publisher(&identity);
    let now = start();
    let rings = Network::small(now);
    running.handle_rings(&rings.store, now, &mut rng);
    let first = points(3, &mut rng);
    running.set_points(first, now, &mut rng);
    let begun: Vec<_> = std::iter::from_fn(|| running.poll_upload()).collect();
    assert_eq!(begun.len(), 16);
    let second = points(3, &mut rng);
    let later = after(now, Duration::from_secs(2));
    running.set_points(second, later, &mut rng);
    let mut cancelled: Vec<_> = std::iter::from_fn(|| running.poll_cancelled()).collect();
    cancelled.sort_unstable();
    assert!(cancelled.iter().eq(begun.iter().map(|upload| &upload.id)));
    running.handle_uploaded(begun[0].id, true, later, &mut rng);
    let again: Vec<_> = std::iter::from_fn(|| running.poll_upload()).collect();
    assert_eq!(
        again.len(),
        16,
        "an answer to what was cancelled is not one to this"
    );
    assert!(again.iter().all(|upload| upload.text != begun[0].text));
}
