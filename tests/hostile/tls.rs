//! TLS within a link that is open: keys that are changed without end, a handshake begun anew.

use std::io::ErrorKind;
use std::time::Duration;

use cepa_wire::cell::{CircId, Command};

use crate::attacker::Sources;
use crate::attacker::link::{Link, fixed, hello};
use crate::trial::{FLOOD, Flood};
use crate::world::{GUARD, World};

/// Changes of keys for each cell: fewer in a row than a TLS library would end the link for.
const UPDATES: usize = 16;

/// KeyUpdate (RFC 8446, 4.6.3), each with the wish for another in return: with a cell now and then,
/// and without any.
pub(crate) fn key_updates(world: &World) {
    let (from, or) = (Sources::claim(), world.target(GUARD).or);
    let mut trial = world.newcomers("TLS key updates without end", GUARD);
    let flood = Flood::start(3, move |thread, goes_on| {
        let (mut sent, mut links) = (0, 0);
        let padding = fixed(CircId::NONE, Command::PADDING, &[]);
        while goes_on() {
            let opened = Link::open(from.host(thread * 1000 + links), or);
            links += 1;
            let Ok(mut link) = opened else { continue };
            while goes_on() && link.update_keys(UPDATES).is_ok() && link.drain().is_ok() {
                sent += UPDATES;
                if thread > 0 && link.send(&padding).is_err() {
                    break;
                }
            }
        }
        sent
    });
    let sent = trial.during_flood(flood, FLOOD);
    trial.end(sent, "key updates", 32, 16);
}

/// There is no renegotiation: a hello in an open link, in clear, ends it.
pub(crate) fn begun_anew(world: &World) {
    let (from, or) = (Sources::claim(), world.target(GUARD).or);
    let mut trial = world.newcomers("TLS begun anew within a link", GUARD);
    let flood = Flood::start(2, move |thread, goes_on| {
        let (mut ended, mut links) = (0, 0);
        while goes_on() {
            let opened = Link::open(from.host(thread * 1000 + links), or);
            links += 1;
            let Ok(mut link) = opened else { continue };
            link.set_timeout(Duration::from_secs(5));
            if link.send_in_clear(&hello()).is_err() {
                continue;
            }
            let end = loop {
                if let Err(error) = link.receive() {
                    break error.kind();
                }
            };
            assert!(
                ![ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&end),
                "the link goes on"
            );
            ended += 1;
        }
        ended
    });
    let ended = trial.during_flood(flood, FLOOD);
    trial.end(ended, "links, each ended by it", 32, 16);
}
