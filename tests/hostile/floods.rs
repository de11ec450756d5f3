//! Cells without end: onionskins, nonsense, padding games, and the messages of onion services.

use std::time::Duration;

use cepa_crypto::ed25519::Keypair;
use cepa_crypto::ntor;
use cepa_wire::cell::{self, CircId, Command};
use cepa_wire::establish_intro::EstablishIntro;
use cepa_wire::relay::RelayCommand;

use crate::attacker::circuit::{Circuit, Ended, create2};
use crate::attacker::link::{BATCH, Link, fixed};
use crate::attacker::{Sources, http};
use crate::trial::{FLOOD, Flood};
use crate::world::{GUARD, World};

/// Threads of a relay, at most, whatever is asked of it.
const THREADS_MAX: usize = 64;

/// Directory streams that are asked for on one circuit.
const BEGIN_DIRS: u16 = 1000;
/// Those that are served: the burst of DoSBeginDir and what its rate gives on a busy machine.
const BEGIN_DIRS_MAX: usize = 60 + 10 * 10;

/// CREATE2 and DESTROY as fast as six links carry them.
pub(crate) fn onionskins(world: &World) {
    let (from, target) = (Sources::claim(), world.target(GUARD).clone());
    let pid = world.node(GUARD).pid.unwrap();
    let mut trial = world.newcomers("onionskins without end", GUARD);
    let flood = Flood::start(6, move |_, goes_on| {
        let mut sent = 0;
        while goes_on() {
            let Ok(mut link) = Link::open(from.one(), target.or) else {
                continue;
            };
            let (_, skin) = ntor::client_start(&mut link.rng, &target.rsa, &target.ntor);
            loop {
                let mut cells = Vec::new();
                let ids: Vec<CircId> = (0..BATCH).map(|_| link.new_id()).collect();
                let create = ids.iter().map(|id| create2(*id, &skin));
                create.for_each(|cell| cells.extend_from_slice(&cell));
                let destroy = ids.iter().map(|id| fixed(*id, Command::DESTROY, &[0]));
                destroy.for_each(|cell| cells.extend_from_slice(&cell));
                if !goes_on() || link.send(&cells).is_err() || link.drain().is_err() {
                    break;
                }
                sent += BATCH;
            }
        }
        sent
    });
    let sent = trial.during_flood(flood, FLOOD);
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let threads = tasks.count();
    trial.end(sent, "CREATE2", 64, 32);
    assert!(threads <= THREADS_MAX, "{threads} threads");
}

/// Any command on any circuit, and any message in good cells.
pub(crate) fn garbage(world: &World) {
    let (from, or) = (Sources::claim(), world.target(GUARD).or);
    let mut trial = world.fetchers("nonsense in cells and messages", GUARD);
    let flood = Flood::start(2, move |number, goes_on| {
        let mut sent = 0;
        while goes_on() {
            let Ok(mut link) = Link::open(from.host(number), or) else {
                continue;
            };
            sent += match number {
                0 => nonsense(&mut link),
                _ => strange_messages(&mut link),
            };
        }
        sent
    });
    let sent = trial.during_flood(flood, FLOOD);
    trial.end(sent, "cells", 32, 16);
}

fn nonsense(link: &mut Link) -> usize {
    for sent in 0..200 {
        let command = Command(link.rng.array::<1>()[0]);
        let id = match link.rng.below(4) {
            0 => CircId::NONE,
            1 => CircId(1),
            2 => link.new_id(),
            _ => CircId(u32::from_be_bytes(link.rng.array())),
        };
        let body: [u8; 509] = link.rng.array();
        let done = match command.is_variable() {
            true => link.send_variable(command, &body[..300]),
            false => link.send_cell(id, command, &body),
        };
        if done.is_err() {
            return sent;
        }
    }
    200
}

fn strange_messages(link: &mut Link) -> usize {
    let Ok(mut circuit) = Circuit::fast(link) else {
        return 0;
    };
    for sent in 0..60 {
        let command = RelayCommand(u8::try_from(link.rng.below(47)).unwrap());
        let stream = u16::try_from(link.rng.below(4)).unwrap();
        let body: [u8; 498] = link.rng.array();
        let len = usize::try_from(link.rng.below(498)).unwrap();
        if circuit.send(link, command, stream, &body[..len]).is_err() {
            return sent;
        }
    }
    60
}

/// Padding, its negotiation, and RELAY_EARLY beyond what a circuit may have.
pub(crate) fn padding(world: &World) {
    let (from, or) = (Sources::claim(), world.target(GUARD).or);
    let mut trial = world.fetchers("padding and its negotiation without end", GUARD);
    let flood = Flood::start(3, move |number, goes_on| {
        let mut sent = 0;
        while goes_on() {
            let Ok(mut link) = Link::open(from.host(number), or) else {
                continue;
            };
            let body = [0, 2, 0, 0, 0, 0];
            let command = [
                Command::PADDING_NEGOTIATE,
                Command::PADDING,
                Command::VPADDING,
            ];
            let cells = match command[number] {
                Command::VPADDING => [0, 0, 0, 0, Command::VPADDING.0, 0, 0].repeat(2000),
                fixed_one => fixed(CircId::NONE, fixed_one, &body).repeat(BATCH),
            };
            while goes_on() && link.send(&cells).is_ok() && link.drain().is_ok() {
                sent += cells.len();
            }
        }
        sent >> 20
    });
    let sent = trial.during_flood(flood, FLOOD);
    trial.end(sent, "MiB", 32, 16);
}

/// A ninth RELAY_EARLY ends the circuit (tor-spec 5.6).
pub(crate) fn early(world: &World) {
    let mut link = Link::open(Sources::claim().one(), world.target(GUARD).or).unwrap();
    let mut circuit = Circuit::fast(&mut link).unwrap();
    for _ in 0..9 {
        let early = Command::RELAY_EARLY;
        let cell = circuit.cell(&mut link, early, RelayCommand::DROP, 0, &[]);
        link.send(&cell).unwrap();
    }
    let end = circuit.receive(&mut link);
    assert!(end.is_err(), "{end:?}");
}

/// Cells on circuit 0 that belong to circuits, and cells of a handshake that is over.
pub(crate) fn control_cells(world: &World) {
    const COMMANDS: [Command; 12] = [
        Command::CREATE2,
        Command::CREATE_FAST,
        Command::CREATED2,
        Command::RELAY,
        Command::RELAY_EARLY,
        Command::DESTROY,
        Command::NETINFO,
        Command::VERSIONS,
        Command::CERTS,
        Command::AUTH_CHALLENGE,
        Command::AUTHENTICATE,
        Command::AUTHORIZE,
    ];
    let (from, or) = (Sources::claim(), world.target(GUARD).or);
    let mut trial = world.fetchers("cells on circuit 0 without end", GUARD);
    let flood = Flood::start(3, move |thread, goes_on| {
        let (mut sent, mut links) = (0, 0);
        while goes_on() {
            let opened = Link::open(from.host(thread * 1000 + links), or);
            links += 1;
            let Ok(mut link) = opened else { continue };
            let command = COMMANDS[links % COMMANDS.len()];
            let mut cells = Vec::new();
            for _ in 0..BATCH {
                let body: [u8; 300] = link.rng.array();
                match command.is_variable() {
                    true => {
                        let len = cell::CircIdLen::Four;
                        cell::write_variable(&mut cells, len, command, &body).unwrap();
                    }
                    false => cells.extend_from_slice(&fixed(CircId::NONE, command, &body)),
                }
            }
            // Some are dropped, some end the link: each gets as much as it takes for a while.
            for _ in 0..20 {
                if !goes_on() || link.send(&cells).is_err() || link.drain().is_err() {
                    break;
                }
                sent += BATCH;
            }
        }
        sent
    });
    let sent = trial.during_flood(flood, FLOOD);
    trial.end(sent, "cells", 32, 16);
}

/// Directory streams on one circuit, each with a question: past the rate of DoSBeginDir the circuit
/// is closed.
pub(crate) fn begin_dir(world: &World) {
    let (from, or) = (Sources::claim(), world.target(GUARD).or);
    let mut trial = world.newcomers("directory streams without end", GUARD);
    let mut link = Link::open(from.one(), or).unwrap();
    let mut circuit = Circuit::fast(&mut link).unwrap();
    let question = http::head("GET", "/tor/status-vote/current/consensus", 0);
    for stream in 1..=BEGIN_DIRS {
        if circuit.send_request(&mut link, stream, &question).is_err() {
            break;
        }
    }
    let mut answered = 0;
    let end = loop {
        match circuit.receive(&mut link) {
            Ok((RelayCommand::CONNECTED, ..)) => answered += 1,
            Ok(_) => {}
            Err(end) => break end,
        }
    };
    assert!(matches!(end, Ended::Destroyed(_)), "{end:?}");
    trial.during();
    drop(link);
    // Closing a circuit throws away what waits for its reader: it may be all.
    assert!(answered <= BEGIN_DIRS_MAX, "{answered}");
    let what = format!("BEGIN_DIR, {answered} answered, then the circuit is closed");
    trial.end(BEGIN_DIRS.into(), &what, 32, 16);
}

/// Introduction points, introductions and rendezvous cookies, a circuit each.
pub(crate) fn points(world: &World) {
    let (from, or) = (Sources::claim(), world.target(GUARD).or);
    let mut trial = world.fetchers("introduction and rendezvous points without end", GUARD);
    let flood = Flood::start(3, move |number, goes_on| {
        let mut sent = 0;
        let mut links = Vec::new();
        while goes_on() && links.len() < 3 {
            let Ok(mut link) = Link::open(from.host(number), or) else {
                continue;
            };
            while goes_on() && point(&mut link, number) {
                sent += 1;
            }
            links.push(link);
        }
        while goes_on() {
            std::thread::sleep(Duration::from_millis(20));
        }
        sent
    });
    let sent = trial.during_flood(flood, FLOOD);
    trial.end(sent, "circuits", 64, 48);
}

fn point(link: &mut Link, kind: usize) -> bool {
    let Ok(mut circuit) = Circuit::fast(link) else {
        return false;
    };
    let sent = match kind {
        0 => {
            let key = Keypair::generate(&mut link.rng);
            let body = EstablishIntro::make(&key, &circuit.kh, None);
            circuit.send(link, RelayCommand::ESTABLISH_INTRO, 0, &body)
        }
        1 => {
            let cookie: [u8; 20] = link.rng.array();
            circuit.send(link, RelayCommand::ESTABLISH_RENDEZVOUS, 0, &cookie)
        }
        _ => {
            let key: [u8; 32] = link.rng.array();
            let body = [&[0; 20][..], &[2, 0, 32], &key, &[0; 200]].concat();
            circuit.send(link, RelayCommand::INTRODUCE1, 0, &body)
        }
    };
    sent.is_ok()
}
