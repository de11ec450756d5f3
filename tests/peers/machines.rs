//! Padding machines of a visit to an onion service: a `tor` client whose second hop is a relay of
//! ours, and a client of ours whose second hops are relays of `tor`.

use crate::among_theirs::logged;
use crate::family;
use crate::matrix::{self, Board, Column};
use crate::support::fetch::fetch_from;
use crate::support::onion::Service;
use crate::support::{server, until};
use crate::world::{BOOTSTRAP_MAX, World};

/// What `tor` says of an answer that it did not expect, or did not like.
const OBJECTIONS: [&str; 4] = [
    "Middle node did not accept our padding",
    "Padding negotiated cell from wrong hop",
    "malformed PADDING_NEGOTIAT",
    "different counts for padding machines",
];

/// A page of an onion service, over a client's SOCKS port.
fn visits(socks: std::net::SocketAddr, address: &str) {
    until(BOOTSTRAP_MAX, "a visit", || {
        fetch_from(socks, None, (address, 80), "/bytes/1000").ok()
    });
}

/// Waits until all these lines stand in a log, each given by its words.
fn has_lines(world: &World, name: &str, lines: &[&[&str]]) {
    for words in lines {
        until(BOOTSTRAP_MAX, &format!("{words:?} of {name}"), || {
            logged(world, name, words)
        });
    }
}

/// The row in either column, with a service of ours that both visit.
pub(crate) fn cell(board: &Board, column: Column, world: &World) {
    let service = || {
        let dir = world.folder("hidden");
        Service::start(&world.network.summary.network, &dir, server::start())
    };
    board.cell(matrix::MACHINES, column, || match column {
        Column::OursAmongTheirs => our_second_hop(world, &service().address),
        Column::TheirsAmongOurs => their_second_hop(world, &service().address),
    });
}

fn our_second_hop(world: &World, address: &str) {
    let pins = "EntryNodes torrelay1\nHSLayer2Nodes relay1";
    let (_tor, socks) = world.tor_client("hiding", 30, pins);
    visits(socks, address);
    has_lines(
        world,
        "hiding",
        &[
            &["Negotiating padding on circuit"],
            &["Sending padding to origin circuit"],
            &["Got padding cell on origin circuit"],
            &["Received STOP command on PADDING_NEGOTIATED"],
        ],
    );
    has_lines(
        world,
        "relay1",
        &[
            &["padding negotiated", "HIDE_INTRO", "is_accepted=true"],
            &["padding negotiated", "HIDE_REND", "is_accepted=true"],
            &["a padding cell came", "HIDE_REND"],
            &["circuit padding is over", "HIDE_INTRO"],
        ],
    );
    let log = world.log("hiding");
    let objections = OBJECTIONS.iter().filter(|words| log.contains(**words));
    assert_eq!(objections.count(), 0, "tor objects");
}

fn their_second_hop(world: &World, address: &str) {
    // Of ours there is but the first hop. What the relays count is read of the network's own.
    let mut others: Vec<&str> = vec!["ourrelay", "ourold", family::OURS, family::THEIRS];
    let ours = world.relays("cepa").into_iter();
    others.extend(ours.map(|relay| relay.nickname.as_str()));
    others.retain(|name| *name != "auth1");
    let pins = format!("[paths]\nentry = [\"auth1\"]\nexclude = {others:?}\n");
    let (_client, socks) = world.client("hiding", 30, &pins);
    visits(socks, address);
    has_lines(
        world,
        "hiding",
        &[
            &[
                "padding negotiated",
                "HIDE_INTRO",
                "Start",
                "is_accepted=true",
            ],
            &[
                "padding negotiated",
                "HIDE_INTRO",
                "Stop",
                "is_accepted=true",
            ],
            &[
                "padding negotiated",
                "HIDE_REND",
                "Start",
                "is_accepted=true",
            ],
            &["a padding cell goes", "HIDE_REND"],
            &["a padding cell came", "HIDE_INTRO"],
            &["a padding cell came", "HIDE_REND"],
        ],
    );
    let theirs = world.relays("tor").into_iter();
    let logs: String = theirs.map(|relay| world.tor_log(&relay.nickname)).collect();
    // That a DROP cell came would prove nothing: tests of bandwidth send them, too.
    for machine in ["relay_ip_circ", "relay_rp_circ"] {
        let words = format!("Registering machine {machine}");
        assert!(logs.contains(&words), "{words}");
    }
    let objections = OBJECTIONS.iter().filter(|words| logs.contains(**words));
    assert_eq!(objections.count(), 0, "tor objects");
}
