//! Introduction points, on one worker and on several; and the world of rendezvous points.

use std::time::Duration;

use cepa_crypto::ed25519::Keypair;
use cepa_wire::cell::{self, Command as Cell};
use cepa_wire::establish_intro::{DosParams, EstablishIntro};
use cepa_wire::introduce::IntroduceStatus;
use cepa_wire::relay::{RelayCommand, StreamId};

use super::cgo::ASKS_CGO;
use super::flow::extend_v3;
use super::net::{Message, Net, Path, extend2_body};
use crate::switch::{Limits, PointAction, PointCell, PointCounts, SwitchConfig};

pub(super) const COOKIE: [u8; 20] = *b"twenty bytes, secret";

/// Relay 0 is the point, of so many workers; each of them has a link from a guard of its own.
pub(super) struct World {
    pub(super) net: Net,
    guards: usize,
    next_id: u32,
}

/// What all workers of the relay count, in sums.
pub(super) struct Counts {
    pub(super) intros: usize,
    pub(super) waiting: usize,
    pub(super) joined: usize,
    pub(super) introduced: u64,
    pub(super) introduces_limited: u64,
    pub(super) introduces_refused: u64,
    pub(super) points_refused: u64,
    pub(super) joins_refused: u64,
}

impl World {
    pub(super) fn new(workers: usize) -> World {
        World::with(workers, |_| {})
    }

    pub(super) fn with(workers: usize, edit: impl Fn(&mut SwitchConfig)) -> World {
        let mut nodes = vec![workers];
        nodes.extend(vec![1; workers]);
        let mut net = Net::with(&nodes, edit);
        for worker in 0..workers {
            net.link((1 + worker, 0), (0, worker));
        }
        World {
            net,
            guards: workers,
            next_id: 0x8000_0000,
        }
    }

    /// A circuit of two hops that ends at the point, by this one of its workers. Every other one
    /// has the CGO cipher there.
    pub(super) fn path(&mut self, worker: usize) -> Path {
        let guard = 1 + worker % self.guards;
        let client = self.net.client((guard, 0));
        self.next_id += 1;
        let mut path = Path::create(&mut self.net, client, self.next_id, guard);
        if self.next_id.is_multiple_of(2) {
            extend_v3(&mut self.net, &mut path, 0, ASKS_CGO).expect("it is granted");
        } else {
            path.extend(&mut self.net, 0);
        }
        path
    }

    /// One of one hop.
    pub(super) fn direct(&mut self) -> Path {
        let client = self.net.client((0, 0));
        self.next_id += 1;
        Path::create(&mut self.net, client, self.next_id, 0)
    }

    pub(super) fn counts(&self) -> Counts {
        let mut all = PointCounts::default();
        for switch in &self.net.nodes[0].switches {
            all += &switch.counts().points;
        }
        let number = |cell: PointCell, is_meant: fn(PointAction) -> bool| {
            let actions = all.actions.iter();
            let meant = actions.filter(|((of, action), _)| *of == cell && is_meant(*action));
            meant.map(|(_, count)| count).sum::<u64>()
        };
        let is_refused = |action| action != PointAction::Success;
        for (cell, action) in all.actions.keys() {
            assert!(cell.actions().contains(action), "{cell:?} {action:?}");
        }
        Counts {
            intros: all.intros,
            waiting: all.waiting,
            joined: all.joined,
            introduced: all.number(PointCell::Introduce1, PointAction::Success),
            introduces_limited: all.number(PointCell::Introduce1, PointAction::RateLimited),
            introduces_refused: number(PointCell::Introduce1, |action| {
                !matches!(action, PointAction::Success | PointAction::RateLimited)
            }),
            points_refused: number(PointCell::EstablishIntro, is_refused)
                + number(PointCell::EstablishRendezvous, |action| {
                    !matches!(action, PointAction::Success | PointAction::SingleHop)
                }),
            joins_refused: number(PointCell::Rendezvous1, is_refused),
        }
    }

    /// Entries in the tables, circuits.
    pub(super) fn held(&self) -> (usize, usize) {
        let switches = &self.net.nodes[0].switches;
        let entries = switches.iter().map(|switch| switch.points.len()).sum();
        let circuits = switches.iter().map(|switch| switch.counts().circuits).sum();
        (entries, circuits)
    }

    pub(super) fn say(&mut self, path: &mut Path, command: RelayCommand, data: &[u8]) {
        path.send(&mut self.net, command, 0, data);
    }

    pub(super) fn heard(&mut self, path: &mut Path) -> (RelayCommand, Vec<u8>) {
        let Message { command, data, .. } = path.receive(&mut self.net).expect("a message");
        (command, data)
    }

    pub(super) fn is_silent(&self, path: &Path) -> bool {
        self.net.inbox[path.client].is_empty()
    }

    pub(super) fn establish(&mut self, path: &mut Path, key: &Keypair, dos: Option<DosParams>) {
        let body = EstablishIntro::make(key, &path.kh, dos);
        self.say(path, RelayCommand::ESTABLISH_INTRO, &body);
        let established = (RelayCommand::INTRO_ESTABLISHED, vec![0]);
        assert_eq!(self.heard(path), established);
    }

    /// INTRODUCE1 on a circuit of its own; the status that it gets.
    pub(super) fn introduce(
        &mut self,
        worker: usize,
        key: &Keypair,
        what: &[u8],
    ) -> IntroduceStatus {
        let mut path = self.path(worker);
        self.say(&mut path, RelayCommand::INTRODUCE1, &introduce1(key, what));
        let (command, data) = self.heard(&mut path);
        assert_eq!((command, data.len()), (RelayCommand::INTRODUCE_ACK, 3));
        self.close(&path);
        IntroduceStatus(u16::from_be_bytes([data[0], data[1]]))
    }

    pub(super) fn close(&mut self, path: &Path) {
        let destroy = cell::new_cell(path.circ_id, Cell::DESTROY);
        self.net.send(path.client, &destroy).unwrap();
    }

    /// Client and service, joined.
    pub(super) fn join(
        &mut self,
        client: usize,
        service: usize,
        cookie: &[u8; 20],
    ) -> (Path, Path) {
        let mut client = self.path(client);
        self.say(&mut client, RelayCommand::ESTABLISH_RENDEZVOUS, cookie);
        let established = (RelayCommand::RENDEZVOUS_ESTABLISHED, vec![]);
        assert_eq!(self.heard(&mut client), established);
        let mut service = self.path(service);
        let body = [&cookie[..], b"handshake"].concat();
        self.say(&mut service, RelayCommand::RENDEZVOUS1, &body);
        let rendezvous2 = (RelayCommand::RENDEZVOUS2, b"handshake".to_vec());
        assert_eq!(self.heard(&mut client), rendezvous2);
        (client, service)
    }

    /// That a circuit's guard says it was cut behind it, for this reason.
    pub(super) fn assert_cut(&mut self, path: &mut Path, reason: u8) {
        let Message {
            hop, command, data, ..
        } = path.receive(&mut self.net).expect("a message");
        assert_eq!(
            (hop, command, data),
            (0, RelayCommand::TRUNCATED, vec![reason])
        );
    }
}

pub(super) fn introduce1(key: &Keypair, what: &[u8]) -> Vec<u8> {
    let key = key.public();
    [&[0; 20][..], &[2, 0, 32], &key.as_bytes()[..], &[0], what].concat()
}

/// Makes a message for a circuit.
type Body<'a> = &'a dyn Fn(&Path) -> Vec<u8>;

fn keypair(n: u8) -> Keypair {
    Keypair::from_seed(&[n; 32])
}

#[test]
fn introductions_reach_the_service_whichever_worker_has_it() {
    for workers in 1..=3 {
        let mut world = World::new(workers);
        // Keys at home with every worker, services and clients at each.
        for (n, at) in (0..12_u8).zip(0..) {
            let key = keypair(n);
            let mut service = world.path(at);
            world.establish(&mut service, &key, None);
            let status = world.introduce(at / 3, &key, b"hello");
            assert_eq!(status, IntroduceStatus::SUCCESS);
            let introduce2 = (RelayCommand::INTRODUCE2, introduce1(&key, b"hello"));
            assert_eq!(world.heard(&mut service), introduce2);
            assert_eq!((world.counts().intros, world.held()), (1, (1, 1)));
            world.close(&service);
            assert_eq!((world.counts().intros, world.held()), (0, (0, 0)));
            let status = world.introduce(at / 3, &key, b"hello");
            assert_eq!(status, IntroduceStatus::UNKNOWN_ID);
        }
        let counts = world.counts();
        assert_eq!((counts.introduced, counts.introduces_refused), (12, 12));
    }
}

#[test]
fn a_newer_circuit_takes_an_auth_key_over() {
    for workers in [1, 2] {
        let mut world = World::new(workers);
        let key = keypair(1);
        let mut older = world.path(0);
        world.establish(&mut older, &key, None);
        let mut newer = world.path(1);
        world.establish(&mut newer, &key, None);
        world.assert_cut(&mut older, 9);
        assert_eq!(world.introduce(0, &key, b"x"), IntroduceStatus::SUCCESS);
        assert_eq!(world.heard(&mut newer).0, RelayCommand::INTRODUCE2);
        assert_eq!((world.counts().intros, world.held()), (1, (1, 1)));
    }
}

#[test]
fn establish_intro_that_is_refused() {
    for workers in [1, 2] {
        let mut world = World::new(workers);
        let key = keypair(1);
        let other_circuit = |path: &Path| {
            let mut kh = path.kh;
            kh[0] ^= 1;
            EstablishIntro::make(&key, &kh, None)
        };
        let forged = |path: &Path| {
            let mut body = EstablishIntro::make(&key, &path.kh, None);
            *body.last_mut().unwrap() ^= 1;
            body
        };
        let short = |path: &Path| EstablishIntro::make(&key, &path.kh, None)[..60].to_vec();
        let legacy = |_: &Path| vec![0; 200];
        let cases: [Body<'_>; 4] = [&other_circuit, &forged, &short, &legacy];
        for case in cases {
            let mut path = world.path(1);
            let body = case(&path);
            world.say(&mut path, RelayCommand::ESTABLISH_INTRO, &body);
            world.assert_cut(&mut path, 1);
        }
        // A second one on the circuit, and any other use of it.
        let again = EstablishIntro::make;
        let uses: [(RelayCommand, &[u8]); 4] = [
            (RelayCommand::ESTABLISH_INTRO, &[]),
            (RelayCommand::ESTABLISH_RENDEZVOUS, &COOKIE),
            (RelayCommand::RENDEZVOUS1, &COOKIE),
            (RelayCommand::INTRODUCE1, &introduce1(&key, b"x")),
        ];
        for (command, body) in uses {
            let mut path = world.path(0);
            world.establish(&mut path, &key, None);
            let body = match body {
                [] => again(&key, &path.kh, None),
                body => body.to_vec(),
            };
            world.say(&mut path, command, &body);
            world.assert_cut(&mut path, 1);
        }
        assert_eq!((world.counts().intros, world.held()), (0, (0, 0)));
        assert_eq!(world.counts().points_refused, 6);
    }
}

#[test]
pub(super) fn introduce1_that_is_refused() {
    for workers in [1, 2] {
        let mut world = World::new(workers);
        let key = keypair(7);
        let mut service = world.path(0);
        world.establish(&mut service, &key, None);
        // Twice on a circuit: the first is answered, the second ends it.
        let mut path = world.path(1);
        for _ in 0..2 {
            world.say(&mut path, RelayCommand::INTRODUCE1, &introduce1(&key, b"x"));
        }
        assert_eq!(world.heard(&mut path).0, RelayCommand::INTRODUCE_ACK);
        world.assert_cut(&mut path, 1);
        assert_eq!(world.heard(&mut service).0, RelayCommand::INTRODUCE2);
        // From one hop away.
        let mut direct = world.direct();
        world.say(
            &mut direct,
            RelayCommand::INTRODUCE1,
            &introduce1(&key, b"x"),
        );
        assert_eq!(direct.destroyed(&mut world.net), 1);
        // With a legacy key.
        let mut path = world.path(1);
        world.say(&mut path, RelayCommand::INTRODUCE1, &[1; 300]);
        world.assert_cut(&mut path, 1);
        // What is malformed, and what nobody waits for, is only told.
        let unknown = introduce1(&keypair(8), b"x");
        let of_another_type = [&[0; 20][..], &[3, 0, 32], &[0; 100]].concat();
        let empty = introduce1(&key, b"");
        let cases = [(&unknown, 1), (&of_another_type, 2), (&empty, 2)];
        for (body, status) in cases {
            let mut path = world.path(1);
            world.say(&mut path, RelayCommand::INTRODUCE1, body);
            let answer = (RelayCommand::INTRODUCE_ACK, vec![0, status, 0]);
            assert_eq!(world.heard(&mut path), answer);
        }
        assert!(world.is_silent(&service));
        let counts = world.counts();
        assert_eq!((counts.introduced, counts.introduces_refused), (1, 6));
    }
}

#[test]
fn a_client_goes_on_from_a_point_that_could_not_help() {
    let mut world = World::new(2);
    let mut path = world.path(0);
    let body = introduce1(&keypair(1), b"x");
    world.say(&mut path, RelayCommand::INTRODUCE1, &body);
    assert_eq!(world.heard(&mut path).1, [0, 1, 0]);
    path.extend(&mut world.net, 2);
    assert_eq!(path.hops.len(), 3);
    // But not from one that it serves.
    let key = keypair(1);
    let mut service = world.path(0);
    world.establish(&mut service, &key, None);
    let body = extend2_body(&world.net, 2, &[0; 84]);
    let (early, extend2) = (Cell::RELAY_EARLY, RelayCommand::EXTEND2);
    service.send_at(&mut world.net, 1, early, extend2, StreamId(0), &body);
    world.assert_cut(&mut service, 1);
    assert_eq!((world.counts().intros, world.held()), (0, (0, 1)));
}

#[test]
fn introductions_are_limited_as_the_service_asks() {
    let dos = |rate_per_s, burst| Some(DosParams { rate_per_s, burst });
    let limited = |config: &mut SwitchConfig| config.points.intro_dos = dos(1, 1);
    for workers in [1, 2] {
        // What is let through of 12 at once, and of 12 a second later.
        for (asked, first, second) in [
            (dos(2, 5), 5, 2),
            (dos(5, 5), 5, 5),
            (None, 1, 1),
            (dos(0, 0), 12, 12),
            (dos(5, 4), 12, 12),
        ] {
            let mut world = World::with(workers, limited);
            let key = keypair(3);
            let mut service = world.path(0);
            world.establish(&mut service, &key, asked);
            for through in [first, second] {
                let statuses: Vec<_> = (0..12).map(|n| world.introduce(n, &key, b"x")).collect();
                let (passed, refused) = statuses.split_at(through);
                assert!(passed.iter().all(|s| *s == IntroduceStatus::SUCCESS));
                assert!(refused.iter().all(|s| *s == IntroduceStatus::CANT_RELAY));
                assert_eq!(world.net.inbox[service.client].len(), through);
                for _ in 0..through {
                    world.heard(&mut service);
                }
                world.net.now = world.net.now + Duration::from_secs(1);
            }
            let through = (first + second) as u64;
            let counts = world.counts();
            assert_eq!(counts.introduced, through);
            assert_eq!(counts.introduces_limited, 24 - through);
        }
    }
}

#[test]
fn the_table_of_introduction_points_is_bounded() {
    for workers in [1, 2] {
        let mut world = World::with(workers, |config| {
            config.limits = Limits {
                intro_points_max: 2,
                ..Limits::default()
            };
        });
        let mut services = Vec::new();
        for n in 0..20 {
            let mut path = world.path(n.into());
            let body = EstablishIntro::make(&keypair(n), &path.kh, None);
            world.say(&mut path, RelayCommand::ESTABLISH_INTRO, &body);
            match path.receive(&mut world.net).unwrap().command {
                RelayCommand::INTRO_ESTABLISHED => services.push((path, keypair(n))),
                command => assert_eq!(command, RelayCommand::TRUNCATED),
            }
        }
        let most = 2 * workers;
        assert_eq!((services.len(), world.held()), (most, (most, most)));
        assert_eq!(world.counts().points_refused, 20 - most as u64);
        // One that is there may be replaced by its own service still.
        let (mut older, key) = services.pop().unwrap();
        let mut newer = world.path(0);
        world.establish(&mut newer, &key, None);
        world.assert_cut(&mut older, 9);
        assert_eq!(world.held(), (most, most));
        // With their channels all points go.
        for path in [&newer].into_iter().chain(services.iter().map(|s| &s.0)) {
            let (node, worker, key) = world.net.channel_of_client(path.client);
            let now = world.net.now;
            world.net.nodes[node].switches[worker].channel_closed(key, now);
        }
        world.net.run();
        assert_eq!((world.counts().intros, world.held()), (0, (0, 0)));
    }
}
