//! What a stranger may make a relay keep: circuits, and cells that it does not read.

use std::net::SocketAddr;
use std::time::Duration;

use crate::attacker::circuit::many_fast;
use crate::attacker::link::{BATCH, Link};
use crate::attacker::{Sources, tcp};
use crate::trial::{Flood, Trial};
use crate::world::{GUARD, World, newcomer};

/// Circuits that are asked for on one link: less than a channel takes.
const CIRCUITS_PER_LINK: usize = 16_000;

/// The limit of a relay's memory, in bytes; what it does not count may be a quarter as much.
const MEMORY_MAX: u64 = 256 << 20;

/// Circuits of one address, as fast as it can.
pub(crate) fn circuits(world: &World) {
    let (from, or) = (Sources::claim(), world.target(GUARD).or);
    let mut trial = world.newcomers("circuits of one address", GUARD);
    let flood = Flood::start(4, move |_, goes_on| {
        let (mut asked, mut links) = (0, Vec::new());
        // Links stay, and their circuits with them.
        while goes_on() && links.len() < 5 {
            let Ok(mut link) = Link::open(from.one(), or) else {
                continue;
            };
            for _ in 0..CIRCUITS_PER_LINK / BATCH {
                let cells = many_fast(&mut link, BATCH);
                if !goes_on() || link.send(&cells).is_err() || link.drain().is_err() {
                    break;
                }
                asked += BATCH;
            }
            links.push(link);
        }
        while goes_on() {
            // Read, so that nothing but the circuits is kept.
            links.retain_mut(|link| link.drain().is_ok());
            std::thread::sleep(Duration::from_millis(20));
        }
        asked
    });
    let asked = trial.during_flood(flood, Duration::from_secs(6));
    trial.end(asked, "CREATE_FAST", 96, 32);
}

/// Answers that nobody reads, over links of as many addresses, up to the limit of memory.
pub(crate) fn unread(world: &World) {
    let or = SocketAddr::from(([127, 94, 0, 1], world.target(GUARD).or.port()));
    let solo = world.solo("full", or, 1000, &format!("max_memory = {MEMORY_MAX}"));
    let name = "answers that nobody reads";
    let honest = move || newcomer(or, None);
    let mut trial = Trial::begin(name, solo.pid(), Box::new(honest));
    let asked = trial.during_flood(ask_and_leave(or), Duration::from_secs(8));
    let most = (MEMORY_MAX + MEMORY_MAX / 4) >> 20;
    trial.end(asked, "CREATE_FAST, no answer read", most, 64);
}

fn ask_and_leave(or: SocketAddr) -> Flood {
    let from = Sources::claim();
    Flood::start(4, move |thread, goes_on| {
        let (mut asked, mut links) = (0, Vec::new());
        while goes_on() && links.len() < 10 {
            let from = from.host(thread * 100 + links.len());
            let stream = tcp::dial_with(from, or, Some(4096));
            let Ok(mut link) = stream.and_then(Link::over) else {
                continue;
            };
            link.set_timeout(Duration::from_secs(2));
            for _ in 0..CIRCUITS_PER_LINK / BATCH {
                let cells = many_fast(&mut link, BATCH);
                if !goes_on() || link.send(&cells).is_err() {
                    break;
                }
                asked += BATCH;
            }
            links.push(link);
        }
        while goes_on() {
            std::thread::sleep(Duration::from_millis(20));
        }
        asked
    })
}
