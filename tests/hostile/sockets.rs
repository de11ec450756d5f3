//! Sockets that outlive their reason, and a process that has none left.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use cepa_crypto::RsaId;
use cepa_wire::relay::RelayCommand;

use crate::attacker::Sources;
use crate::attacker::circuit::{Circuit, Target, specifiers};
use crate::attacker::link::Link;
use crate::attacker::tcp::{self, Blackhole};
use crate::support::{now, until};
use crate::trial::{Trial, Usage};
use crate::world::{EXIT, GUARD, SOON, World, newcomer};

/// Times that one circuit opens a stream and ends it.
const TIMES: u16 = 1500;
/// What the exit may have opening for one circuit.
const OPENING_MAX: usize = 200;

/// BEGIN and END, again and again, to an address that never answers.
pub(crate) fn begin_end(world: &World) {
    let mut trial = world.fetchers("BEGIN and END to a silent address", EXIT);
    let pid = world.node(EXIT).pid.unwrap();
    let hole = Blackhole::open(Ipv4Addr::new(127, 78, 0, 1));
    let mut link = Link::open(Sources::claim().one(), world.target(GUARD).or).unwrap();
    let mut circuit = Circuit::fast(&mut link).unwrap();
    circuit.extend(&mut link, world.target(EXIT)).unwrap();
    let before = Usage::of(pid);
    let (to, mut sent) = (hole.addr.to_string(), 0);
    for stream in 1..=TIMES {
        let begun = circuit.begin(&mut link, stream, &to);
        let ended = circuit.send(&mut link, RelayCommand::END, stream, &[6]);
        if begun.is_err() || ended.is_err() {
            break;
        }
        sent += 1;
    }
    trial.during();
    let opening = Usage::of(pid).fds.saturating_sub(before.fds);
    drop(link);
    trial.end(sent, "times BEGIN, END on one circuit", 16, 8);
    assert!(opening <= OPENING_MAX, "{opening} sockets of ended streams");
}

/// Circuits that are destroyed while their next link opens.
pub(crate) fn destroyed(world: &World) {
    let mut trial = world.fetchers("circuits destroyed while extending", GUARD);
    let hole = Blackhole::open(Ipv4Addr::new(127, 78, 0, 2));
    let (from, or) = (Sources::claim(), world.target(GUARD).or);
    let mut links: Vec<_> = (0..4)
        .filter_map(|number| Link::open(from.host(number), or).ok())
        .collect();
    let (count, mut asked) = (links.len(), 0);
    for number in 0..400_u16 {
        let link = &mut links[usize::from(number) % count];
        let Ok(mut circuit) = Circuit::fast(link) else {
            continue;
        };
        let nobody = nobody(world.target(EXIT), number);
        let specifiers = specifiers(&nobody, hole.addr, false);
        if circuit.ask_to_extend(link, &nobody, &specifiers).is_ok() {
            asked += 1;
        }
        let _ = circuit.destroy(link);
    }
    trial.during();
    drop(links);
    trial.end(asked, "EXTEND2, destroyed at once", 16, 8);
}

/// A relay that there is not.
pub(crate) fn nobody(like: &Target, number: u16) -> Target {
    let mut rsa = *like.rsa.as_bytes();
    rsa[..2].copy_from_slice(&number.to_be_bytes());
    Target {
        rsa: RsaId::from_bytes(&rsa).unwrap(),
        ..like.clone()
    }
}

/// Streams to a server that does not read, whose circuits go.
pub(crate) fn unread_server(world: &World) {
    let mut trial = world.fetchers("streams to a server that does not read", EXIT);
    let pid = world.node(EXIT).pid.unwrap();
    let server = tcp::Unread::listen(Ipv4Addr::new(127, 79, 0, 1));
    let (from, or) = (Sources::claim(), world.target(GUARD).or);
    let to = server.addr.to_string();
    let before = Usage::of(pid).fds;
    let mut held = Vec::new();
    for number in 0..10 {
        let mut link = Link::open(from.host(number), or).unwrap();
        let mut circuit = Circuit::fast(&mut link).unwrap();
        circuit.extend(&mut link, world.target(EXIT)).unwrap();
        circuit.begin(&mut link, 1, &to).unwrap();
        let connected = circuit.wait_for(&mut link, RelayCommand::CONNECTED);
        connected.unwrap();
        for _ in 0..495 {
            let sent = circuit.send(&mut link, RelayCommand::DATA, 1, &[7; 498]);
            sent.unwrap();
        }
        // Answered behind the data: they have arrived.
        circuit.begin(&mut link, 2, "127.79.0.1:1").unwrap();
        circuit.wait_for(&mut link, RelayCommand::END).unwrap();
        held.push((link, circuit));
    }
    let open = Usage::of(pid).fds;
    assert!(open >= before + held.len(), "{open} descriptors");
    for (link, circuit) in &mut held {
        circuit.destroy(link).unwrap();
    }
    trial.during();
    trial.end(held.len(), "streams of 246 KB", 16, 8);
    drop(server);
}

/// Streams that are open and idle, more than an exit has descriptors for: it takes newcomers still.
pub(crate) fn idle_streams(world: &World) {
    let or = SocketAddr::from(([127, 93, 0, 1], world.target(GUARD).or.port()));
    let solo = world.solo("idle", or, 300, "exit_policy = [\"accept *:*\"]");
    let target = solo.target();
    let name = "idle streams beyond an exit's descriptors";
    let honest = || newcomer(or, Some(&target));
    let mut trial = Trial::begin(name, solo.pid(), Box::new(honest));
    let server = tcp::Unread::listen(Ipv4Addr::new(127, 79, 0, 2));
    let (to, mut begun) = (server.addr.to_string(), 0);
    let (from, mut held) = (Sources::claim(), Vec::new());
    for number in 0..4 {
        let mut link = Link::open(from.host(number), world.target(GUARD).or).unwrap();
        let mut circuit = Circuit::fast(&mut link).unwrap();
        circuit.extend(&mut link, &target).unwrap();
        for stream in 1..=150 {
            circuit.begin(&mut link, stream, &to).unwrap();
            begun += 1;
        }
        // Each is answered, one way or the other.
        for _ in 0..150 {
            if circuit.receive(&mut link).is_err() {
                break;
            }
        }
        held.push(link);
    }
    trial.during();
    drop(held);
    trial.end(begun, "streams", 24, 16);
}

/// A process whose descriptors are all taken is there again when they are not.
pub(crate) fn exhausted(world: &World) {
    let or = SocketAddr::from(([127, 90, 0, 1], world.target(GUARD).or.port()));
    let solo = world.solo("few", or, 150, "");
    let mut trial = Trial::begin(
        "a process out of descriptors",
        solo.pid(),
        Box::new(move || within_tries(or)),
    );
    let from = Sources::claim();
    let held: Vec<_> = (0..250)
        .filter_map(|number| tcp::dial(from.host(number), or).ok())
        .collect();
    let held_fds = until(SOON, "most descriptors are taken, or refused", || {
        let closed = held.iter().filter(|stream| tcp::is_closed(stream)).count();
        let fds = Usage::of(solo.pid()).fds;
        (fds >= 100 || closed > 0).then_some(fds)
    });
    println!("{held_fds} descriptors of 150");
    let done = held.len();
    drop(held);
    trial.during();
    trial.end(done, "connections", 32, 16);
}

/// A newcomer who tries until it is let in.
fn within_tries(or: SocketAddr) -> Result<Duration, String> {
    let started = now();
    until(SOON, "a newcomer is let in", || newcomer(or, None).ok());
    Ok(now().duration_since(started))
}
