//! Rendezvous points: two circuits become one, on one worker and on several.

use cepa_wire::cell::{self, Command as Cell};
use cepa_wire::relay::RelayCommand;

use super::net::Path;
use super::points::{COOKIE, World};
use crate::switch::memory::with_room_for;
use crate::switch::{Limits, WorkerId};

#[test]
fn joined_circuits_carry_cells_both_ways() {
    for workers in 1..=3 {
        for at in 0..9 {
            let mut world = World::new(workers);
            let mut cookie = COOKIE;
            cookie[0] = at as u8;
            let (mut client, mut service) = world.join(at, at / 3, &cookie);
            let counts = world.counts();
            assert_eq!(
                (counts.waiting, counts.joined, world.held()),
                (0, 2, (0, 2))
            );
            // An end-to-end layer stands for the keys that the two have agreed upon; RELAY_EARLY
            // comes out as RELAY, which `carry` checks.
            for n in 0..40_u8 {
                let early = if n == 0 {
                    Cell::RELAY_EARLY
                } else {
                    Cell::RELAY
                };
                carry(&mut world, &mut client, &mut service, early, n);
                carry(&mut world, &mut service, &mut client, early, n);
            }
            // Either's end is the other's.
            let (first, mut second) = if at % 2 == 0 {
                (client, service)
            } else {
                (service, client)
            };
            world.close(&first);
            world.assert_cut(&mut second, 0);
            assert_eq!((world.counts().joined, world.held()), (0, (0, 0)));
        }
    }
}

/// A payload that the point cannot read goes from one end to the other, unchanged under its
/// layers.
fn carry(world: &mut World, from: &mut Path, to: &mut Path, command: Cell, n: u8) {
    let inner = [n.wrapping_mul(37) | 1; cell::PAYLOAD_LEN];
    let mut sent = cell::new_cell(from.circ_id, command);
    *cell::payload_mut(&mut sent) = inner;
    for hop in from.hops.iter_mut().rev() {
        hop.encrypt_forward(command.0, cell::payload_mut(&mut sent));
    }
    world.net.send(from.client, &sent).unwrap();
    let mut came = world.net.inbox[to.client].pop_front().expect("a cell");
    assert_eq!(
        (cell::circ_id(&came), cell::command(&came)),
        (to.circ_id, Cell::RELAY)
    );
    for hop in &mut to.hops {
        let recognised = hop.decrypt_backward(Cell::RELAY.0, cell::payload_mut(&mut came));
        assert!(recognised.is_none());
    }
    assert_eq!(cell::payload(&came), &inner);
}

/// A RENDEZVOUS1 body.
fn rendezvous1(cookie: &[u8; 20]) -> Vec<u8> {
    [&cookie[..], b"handshake"].concat()
}

#[test]
fn rendezvous_that_is_refused() {
    for workers in [1, 2] {
        let mut world = World::new(workers);
        // An unknown cookie, one too short, one used up.
        let (client, service) = world.join(0, 1, &COOKIE);
        for body in [
            &rendezvous1(&[7; 20])[..],
            &COOKIE[..19],
            &rendezvous1(&COOKIE),
        ] {
            let mut path = world.path(1);
            world.say(&mut path, RelayCommand::RENDEZVOUS1, body);
            world.assert_cut(&mut path, 1);
        }
        assert_eq!(world.counts().joins_refused, 3);
        // A used cookie may be given anew; one that waits may not.
        let mut waits = world.path(0);
        world.say(&mut waits, RelayCommand::ESTABLISH_RENDEZVOUS, &COOKIE);
        assert_eq!(
            world.heard(&mut waits).0,
            RelayCommand::RENDEZVOUS_ESTABLISHED
        );
        for body in [&COOKIE[..], &COOKIE[..19]] {
            let mut path = world.path(1);
            world.say(&mut path, RelayCommand::ESTABLISH_RENDEZVOUS, body);
            world.assert_cut(&mut path, 1);
        }
        assert_eq!((world.counts().points_refused, world.held()), (2, (1, 3)));
        // Joined circuits, and one that waits, are of no other use.
        for (path, command) in [
            (waits, RelayCommand::RENDEZVOUS1),
            (client, RelayCommand::ESTABLISH_RENDEZVOUS),
        ] {
            let mut path = path;
            world.say(&mut path, command, &rendezvous1(&COOKIE));
            world.assert_cut(&mut path, 1);
        }
        let mut service = service;
        world.assert_cut(&mut service, 1);
        let counts = world.counts();
        assert_eq!(
            (counts.waiting, counts.joined, world.held()),
            (0, 0, (0, 0))
        );
    }
}

#[test]
fn clients_one_hop_away_may_be_refused() {
    for refuses in [false, true] {
        let mut world = World::with(2, |config| config.dos.refuses_single_hop = refuses);
        let mut path = world.direct();
        world.say(&mut path, RelayCommand::ESTABLISH_RENDEZVOUS, &COOKIE);
        assert_eq!(world.is_silent(&path), refuses);
        assert_eq!(world.held(), (usize::from(!refuses), 1));
    }
}

#[test]
fn the_table_of_cookies_is_bounded() {
    for workers in [1, 2] {
        let mut world = World::with(workers, |config| {
            config.limits = Limits {
                cookies_max: 2,
                ..Limits::default()
            };
        });
        for n in 0..9 {
            let mut path = world.path(n.into());
            world.say(&mut path, RelayCommand::ESTABLISH_RENDEZVOUS, &[n; 20]);
            match path.receive(&mut world.net).unwrap().data.first() {
                None => world.close(&path),
                Some(reason) => panic!("{reason}"),
            }
        }
        assert_eq!(world.held(), (0, 0));
        let answers: Vec<_> = (0..9)
            .map(|n| {
                let mut path = world.path(n.into());
                world.say(&mut path, RelayCommand::ESTABLISH_RENDEZVOUS, &[n; 20]);
                path.receive(&mut world.net).unwrap().data
            })
            .collect();
        let refused = answers.iter().filter(|data| **data == [5]).count();
        assert_eq!(
            (refused, world.held()),
            (9 - 2 * workers, (2 * workers, 2 * workers))
        );
    }
}

/// The circuits end at any moment of a join whose items are on their way between three workers.
#[test]
fn a_join_that_crosses_an_end() {
    for moment in 0..12 {
        for ends_client in [false, true] {
            let mut world = World::new(3);
            let mut cookie = COOKIE;
            // At home with neither circuit's worker.
            cookie[0] = 2;
            let mut client = world.path(0);
            world.say(&mut client, RelayCommand::ESTABLISH_RENDEZVOUS, &cookie);
            world.heard(&mut client);
            let mut service = world.path(1);
            let cells = [
                service.cell(
                    &mut world.net,
                    RelayCommand::RENDEZVOUS1,
                    0,
                    &rendezvous1(&cookie),
                ),
                filler(&mut service),
            ];
            let guard = |path: &Path, world: &World| world.net.channel_of_client(path.client);
            let (node, worker, key) = guard(&service, &world);
            let mut bytes = cells.concat();
            let now = world.net.now;
            world.net.nodes[node].switches[worker]
                .handle_cells(key, &mut bytes, now)
                .unwrap();
            let ended = if ends_client { &client } else { &service };
            let (node, worker, key) = guard(ended, &world);
            let mut destroy = cell::new_cell(ended.circ_id, Cell::DESTROY);
            for step in 0..12 {
                if step == moment {
                    world.net.nodes[node].switches[worker]
                        .handle_cells(key, &mut destroy, now)
                        .unwrap();
                }
                world.net.step(step);
            }
            world.net.run();
            // A service that ends before its message has left its guard was never there.
            let waits = usize::from(world.counts().waiting == 1 && moment == 0 && !ends_client);
            assert_eq!(world.held(), (waits, waits), "{moment} {ends_client}");
            let counts = world.counts();
            assert_eq!((counts.waiting, counts.joined), (waits, 0));
        }
    }
}

/// A cell that only the other end could read.
fn filler(path: &mut Path) -> cell::CellBuf {
    let mut sent = cell::new_cell(path.circ_id, Cell::RELAY);
    *cell::payload_mut(&mut sent) = [9; cell::PAYLOAD_LEN];
    for hop in path.hops.iter_mut().rev() {
        hop.encrypt_forward(Cell::RELAY.0, cell::payload_mut(&mut sent));
    }
    sent
}

#[test]
fn cells_behind_rendezvous1_follow_it() {
    for (ahead, is_kept) in [(16, true), (17, false)] {
        let mut world = World::new(3);
        let mut cookie = COOKIE;
        cookie[0] = 2;
        let mut client = world.path(0);
        world.say(&mut client, RelayCommand::ESTABLISH_RENDEZVOUS, &cookie);
        world.heard(&mut client);
        let mut service = world.path(1);
        let body = rendezvous1(&cookie);
        let mut bytes = service
            .cell(&mut world.net, RelayCommand::RENDEZVOUS1, 0, &body)
            .to_vec();
        for _ in 0..ahead {
            bytes.extend(filler(&mut service));
        }
        // All in one read of the point's.
        world.net.send(service.client, &bytes).unwrap();
        if is_kept {
            assert_eq!(world.heard(&mut client).0, RelayCommand::RENDEZVOUS2);
            assert_eq!(world.net.inbox[client.client].len(), ahead);
        }
        let held = if is_kept { 2 } else { 0 };
        assert_eq!(world.held(), (0, held));
    }
}

/// A client that does not read: its joined circuit is closed, with the service's, before the
/// memory is full.
#[test]
fn joined_circuits_are_bounded_as_others() {
    for workers in [1, 2] {
        let mut world = World::with(workers, |config| {
            config.memory = with_room_for(2, 300);
        });
        let (client, mut service) = world.join(0, 1, &COOKIE);
        let at = world.net.nodes[0].switches.len() - 1;
        let now = world.net.now;
        let from = world.net.nodes[0].switches[at.min(1)]
            .shared
            .channels
            .keys()
            .next()
            .unwrap();
        for _ in 0..400 {
            // What the guard forwards to the point, whose output nobody takes.
            let (node, worker, key) = world.net.channel_of_client(service.client);
            let mut cell = filler(&mut service);
            let guard = &mut world.net.nodes[node].switches[worker];
            let _ = guard.handle_cells(key, &mut cell, now);
            let (mut channels, mut out) = (Vec::new(), Vec::new());
            guard.take_ready(&mut channels, &mut Vec::new());
            for key in channels {
                while guard.has_output(key) {
                    guard.take_output(key, &mut out, now);
                }
            }
            let point = &mut world.net.nodes[0].switches[at.min(1)];
            let _ = point.handle_cells(from, &mut out, now);
            for to in 0..workers {
                let items =
                    world.net.nodes[0].switches[at.min(1)].take_handover(WorkerId(to as u8));
                world.net.nodes[0].switches[to].handle_handover(items, now);
            }
        }
        let queued = world.net.nodes[0].switches[0].counts().queued_cells;
        assert!(queued <= 300, "{queued}");
        world.net.run();
        assert_eq!((world.counts().joined, world.held()), (0, (0, 0)));
        assert!(world.net.inbox[client.client].len() < 300);
    }
}
