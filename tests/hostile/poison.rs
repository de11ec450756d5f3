//! Descriptors that an authority takes and cannot read back, or that fill its votes: the consensus
//! goes on, and the honest stay in it.

use std::net::{Ipv4Addr, SocketAddr};

use crate::attacker::descriptor::{Forger, with_line};
use crate::attacker::{Sources, http};
use crate::world::World;

/// What a vote may grow by for one descriptor, in bytes.
const ENTRY_MAX: usize = 4096;
/// A platform of 300 letters behind the version, and other lines that are too long for a vote.
pub(crate) fn long_lines(world: &World) {
    let long = "a".repeat(300);
    let protocols: Vec<_> = (0..1900).map(|n| format!("X{n}=1-9")).collect();
    let lines = [
        ("platform", format!("platform Tor 0.4.9.11-{long} on Linux")),
        (
            "platform",
            format!("platform Tor 0.4.9.11-{}", "b".repeat(9000)),
        ),
        ("proto", format!("proto {}", protocols.join(" "))),
        ("proto", format!("proto {}=1", "P".repeat(250))),
        ("ntor-onion-key", String::new()),
    ];
    let before = world.vote(0).len();
    post_all(world, 10, &lines);
    goes_on(world);
    let grown = world.vote(0).len().saturating_sub(before);
    println!("votes grew by {grown} bytes");
    assert!(grown <= lines.len() * ENTRY_MAX, "{grown} bytes");
}

/// Bytes that are no text, in each line that is copied anywhere.
pub(crate) fn control_bytes(world: &World) {
    let lines = [
        (
            "platform",
            "platform Tor 0.4.9.11-\u{1b}[2J on Linux".to_owned(),
        ),
        (
            "platform",
            "platform Tor 0.4.9.11\u{b}x on \u{7f}".to_owned(),
        ),
        (
            "platform",
            "platform Tor 0.4.9.11-\u{2028}\u{202e}".to_owned(),
        ),
        ("platform", "platform Tor\u{a0}0.4.9.11\r".to_owned()),
        ("proto", "proto Link=1-5 \u{feff}Relay=2".to_owned()),
        ("proto", "proto Link=1-5\tRelay=2".to_owned()),
        ("reject", "reject *:*\r".to_owned()),
        ("reject", "accept *:1-65535\nreject *:*\u{0}".to_owned()),
        ("uptime", "uptime 18446744073709551615".to_owned()),
        (
            "bandwidth",
            "bandwidth 4294967295 4294967295 4294967295".to_owned(),
        ),
        ("published", "published 2038-01-19 03:14:08".to_owned()),
    ];
    post_all(world, 30, &lines);
    goes_on(world);
}

/// Good descriptors of one address, as many as the attacker cares to sign.
pub(crate) fn many_places(world: &World) {
    const COUNT: u8 = 60;
    let ip = Ipv4Addr::new(127, 99, 0, 1);
    let texts: Vec<_> = std::thread::scope(|scope| {
        let some = |thread: u8| {
            let numbers = (thread..COUNT).step_by(2);
            let forge = |n: u8| Forger::new(100 + n).descriptor(&format!("many{n}"), ip, |t| t);
            scope.spawn(move || numbers.map(forge).collect::<Vec<_>>())
        };
        let threads = [some(0), some(1)];
        threads.map(|thread| thread.join().unwrap()).concat()
    });
    let (before, mut taken) = (world.vote(0).len(), 0);
    let from = Sources::claim();
    for dir in world.dirs() {
        for text in &texts {
            let answer = http::post(from.one(), dir, "/tor/", text.as_bytes());
            taken += usize::from(answer.is_ok_and(|answer| answer.status == 200));
        }
    }
    goes_on(world);
    let vote = world.vote(0);
    let place = format!(" {ip} ");
    let count = vote
        .lines()
        .filter(|line| line.starts_with("r ") && line.contains(&place))
        .count();
    // A network for tests has no limit for an address; what they fill is what is bounded.
    println!("{taken} uploads taken, {count} in a vote");
    let grown = vote.len().saturating_sub(before);
    assert!(grown <= texts.len() * ENTRY_MAX, "{grown} bytes");
}

/// Posts a descriptor for each changed line to each authority.
fn post_all(world: &World, seed: u8, lines: &[(&str, String)]) {
    let from = Sources::claim();
    for (number, (keyword, line)) in (0..).zip(lines) {
        let ip = from.host(usize::from(number));
        let forger = Forger::new(seed + number);
        let nickname = format!("poison{}", seed + number);
        let text = forger.descriptor(&nickname, ip, |text| with_line(&text, keyword, line));
        for dir in world.dirs() {
            let answer = http::post(from.one(), dir, "/tor/", text.as_bytes());
            let first = |head: String| head.lines().next().map(str::to_owned);
            let answer = answer.map(|answer| first(answer.head));
            println!("{keyword} {number} at {dir}: {answer:?}");
        }
    }
}

/// Two more consensuses come, with all authorities and all honest relays in them.
fn goes_on(world: &World) {
    let before = world.valid_after();
    world.two_rounds_after(&before);
    let dirs: Vec<SocketAddr> = world.dirs();
    for dir in dirs {
        let seen = crate::support::documents::consensus(dir).unwrap();
        assert!(seen.relays >= world.targets.len(), "{seen:?}");
    }
}
