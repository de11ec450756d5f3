//! Cells without end: onionskins, nonsense, padding games, and the messages of onion services.

use std::time::Duration;

use cepa_crypto::ed25519::Keypair;
use cepa_crypto::ntor;
use cepa_wire::cell::{CircId, Command};
use cepa_wire::establish_intro::EstablishIntro;
use cepa_wire::relay::RelayCommand;

use crate::attacker::circuit::{Circuit, create2};
use crate::attacker::link::{BATCH, Link, fixed};
use crate::attacker::{ATTACKER, QUIET, one_of_many};
use crate::trial::Flood;
use crate::world::{GUARD, World};

/// Threads of a relay, at most, whatever is asked of it.
const THREADS_MAX: usize = 64;

/// CREATE2 and DESTROY as fast as four links carry them.
pub(crate) fn onionskins(world: &World) {
    let target = world.target(GUARD).clone();
    let pid = world.node(GUARD).pid.unwrap();
    let mut trial = world.newcomers("onionskins without end", GUARD);
    let flood = Flood::start(4, move |_, goes_on| {
        let mut sent = 0;
        while goes_on() {
            let Ok(mut link) = Link::open(ATTACKER, target.or) else {
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
                sent += BATCH as u64;
            }
        }
        sent
    });
    std::thread::sleep(Duration::from_secs(2));
    trial.during();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let threads = tasks.count();
    let cost = format!("{} CREATE2", flood.stop());
    trial.end(&cost, 64, 32);
    assert!(threads <= THREADS_MAX, "{threads} threads");
}

/// Any command on any circuit, and any message in good cells.
pub(crate) fn garbage(world: &World) {
    let or = world.target(GUARD).or;
    let mut trial = world.fetchers("nonsense in cells and messages", GUARD);
    let flood = Flood::start(2, move |number, goes_on| {
        let mut sent = 0;
        while goes_on() {
            let Ok(mut link) = Link::open(one_of_many(number), or) else {
                continue;
            };
            sent += match number {
                0 => nonsense(&mut link),
                _ => strange_messages(&mut link),
            };
        }
        sent
    });
    std::thread::sleep(Duration::from_secs(2));
    trial.during();
    let cost = format!("{} cells", flood.stop());
    trial.end(&cost, 32, 16);
}

fn nonsense(link: &mut Link) -> u64 {
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

fn strange_messages(link: &mut Link) -> u64 {
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
    let or = world.target(GUARD).or;
    let mut trial = world.fetchers("padding and its negotiation without end", GUARD);
    let flood = Flood::start(3, move |number, goes_on| {
        let mut sent = 0;
        while goes_on() {
            let Ok(mut link) = Link::open(one_of_many(number), or) else {
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
                sent += cells.len() as u64;
            }
        }
        sent >> 20
    });
    std::thread::sleep(Duration::from_secs(2));
    trial.during();
    let cost = format!("{} MiB", flood.stop());
    trial.end(&cost, 32, 16);
}

/// A ninth RELAY_EARLY ends the circuit (tor-spec 5.6).
pub(crate) fn early(world: &World) {
    let mut link = Link::open(QUIET, world.target(GUARD).or).unwrap();
    let mut circuit = Circuit::fast(&mut link).unwrap();
    for _ in 0..9 {
        let early = Command::RELAY_EARLY;
        let cell = circuit.cell(&mut link, early, RelayCommand::DROP, 0, &[]);
        link.send(&cell).unwrap();
    }
    let end = circuit.receive(&mut link);
    assert!(end.is_err(), "{end:?}");
}

/// Introduction points, introductions and rendezvous cookies, a circuit each.
pub(crate) fn points(world: &World) {
    let or = world.target(GUARD).or;
    let mut trial = world.fetchers("introduction and rendezvous points without end", GUARD);
    let flood = Flood::start(3, move |number, goes_on| {
        let mut sent = 0;
        let mut links = Vec::new();
        while goes_on() && links.len() < 3 {
            let Ok(mut link) = Link::open(one_of_many(number), or) else {
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
    std::thread::sleep(Duration::from_secs(3));
    trial.during();
    let cost = format!("{} circuits", flood.stop());
    trial.end(&cost, 64, 48);
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
