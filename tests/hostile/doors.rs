//! Places that are taken and not used: TCP without TLS, TLS without a link, links that stop or
//! never end within their handshake. The honest are newcomers from an address of their own.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use cepa_wire::cell::Command;

use crate::attacker::link::Link;
use crate::attacker::{Sources, tcp};
use crate::trial::{FLOOD, Flood};
use crate::world::{GUARD, World};

/// More than `workers` listeners of today take; an attacker of one address has no trouble with it.
const SILENT: usize = 900;
/// Memory that a relay may take for all places on which TLS has not begun or is not done, in MiB;
/// the allocator keeps it for those who come next.
const HELLO_MIB_MAX: u64 = 80;
/// Links with TLS.
const HANDSHAKES: usize = 600;

/// TCP connections that say nothing, all from one address.
pub(crate) fn silent(world: &World) {
    silent_from(world, "silent connections of one address", |from, _| {
        from.one()
    });
}

/// The same, each from an address of its own.
pub(crate) fn silent_of_many(world: &World) {
    silent_from(world, "silent connections of many addresses", Sources::host);
}

fn silent_from(world: &World, name: &'static str, from: fn(Sources, usize) -> Ipv4Addr) {
    let (sources, or) = (Sources::claim(), world.target(GUARD).or);
    let mut trial = world.newcomers(name, GUARD);
    let held: Vec<_> = (0..SILENT)
        .filter_map(|number| tcp::dial(from(sources, number), or).ok())
        .collect();
    trial.during();
    let done = held.len();
    drop(held);
    trial.end(done, "connections", HELLO_MIB_MAX, HELLO_MIB_MAX);
}

/// TLS that is spoken one byte at a time.
pub(crate) fn slow_tls(world: &World) {
    let (from, or) = (Sources::claim(), world.target(GUARD).or);
    let mut trial = world.newcomers("a TLS hello of one byte a second", GUARD);
    // The head of a record with a ClientHello of 500 bytes, which takes its time.
    let mut held: Vec<TcpStream> = (0..SILENT)
        .filter_map(|number| tcp::dial(from.host(number), or).ok())
        .collect();
    for byte in [0x16, 3, 1, 1, 0xf4] {
        held.retain_mut(|stream| stream.write_all(&[byte]).is_ok());
    }
    trial.during();
    let done = held.len();
    drop(held);
    trial.end(done, "connections", HELLO_MIB_MAX, HELLO_MIB_MAX);
}

/// TLS, and then nothing.
pub(crate) fn no_versions(world: &World) {
    let (from, or) = (Sources::claim(), world.target(GUARD).or);
    let mut trial = world.newcomers("TLS and no VERSIONS", GUARD);
    let held = links(HANDSHAKES, move |number| {
        Link::tls(tcp::dial(from.host(number), or)?)
    });
    trial.during();
    let done = held.len();
    drop(held);
    trial.end(done, "handshakes", 64, 24);
}

/// VERSIONS, and no NETINFO.
pub(crate) fn no_netinfo(world: &World) {
    let (from, or) = (Sources::claim(), world.target(GUARD).or);
    let mut trial = world.newcomers("VERSIONS and no NETINFO", GUARD);
    let held = links(HANDSHAKES, move |number| {
        let mut link = Link::tls(tcp::dial(from.host(number), or)?)?;
        link.versions()?;
        Ok(link)
    });
    trial.during();
    let done = held.len();
    drop(held);
    trial.end(done, "handshakes", 64, 24);
}

/// Ready links of one address, which does nothing with them.
pub(crate) fn idle_links(world: &World) {
    let (from, or) = (Sources::claim(), world.target(GUARD).or);
    let mut trial = world.newcomers("idle links of one address", GUARD);
    let held = links(HANDSHAKES, move |_| Link::open(from.one(), or));
    trial.during();
    let done = held.len();
    drop(held);
    let what = format!("links of {HANDSHAKES} that were tried");
    trial.end(done, &what, 32, 24);
}

/// A handshake that goes on for ever: VPADDING, CERTS and VERSIONS without end.
pub(crate) fn endless_handshakes(world: &World) {
    let (from, or) = (Sources::claim(), world.target(GUARD).or);
    let mut trial = world.newcomers("handshakes without end", GUARD);
    let flood = Flood::start(3, move |number, goes_on| {
        let mut sent = 0;
        while goes_on() {
            let Ok(stream) = tcp::dial(from.host(number), or) else {
                continue;
            };
            let Ok(mut link) = Link::tls(stream) else {
                continue;
            };
            link.set_timeout(Duration::from_secs(5));
            if number > 0 && link.versions().is_err() {
                continue;
            }
            let (command, body) = match number {
                0 => (Command::VPADDING, vec![0; 60_000]),
                1 => (Command::CERTS, vec![0; 60_000]),
                _ => (Command::VERSIONS, [0, 4, 0, 5].repeat(10_000)),
            };
            while goes_on() && link.send_variable(command, &body).is_ok() {
                sent += body.len();
            }
        }
        sent >> 20
    });
    let sent = trial.during_flood(flood, FLOOD);
    trial.end(sent, "MiB", 32, 16);
}

/// So many links, opened by a few threads; those that were refused are left out.
pub(crate) fn links(
    count: usize,
    open: impl Fn(usize) -> std::io::Result<Link> + Sync,
) -> Vec<Link> {
    const THREADS: usize = 4;
    std::thread::scope(|scope| {
        let open = &open;
        let some = |thread| {
            let numbers = (thread..count).step_by(THREADS);
            scope.spawn(move || numbers.filter_map(|number| open(number).ok()).collect())
        };
        let threads: Vec<_> = (0..THREADS).map(some).collect();
        let opened = threads.into_iter().map(|thread| thread.join().unwrap());
        opened.flat_map(|links: Vec<Link>| links).collect()
    })
}
