//! Attacks on networks of processes, by a client that can do what an honest one can't.
//!
//! Each attack says what honest people and the victim felt: a row of the table that is printed,
//! and written to `CEPA_HOSTILE=FILE`. `relays` is a network whose relays are attacked, while
//! somebody fetches through them; `authorities` one whose authorities are, over voting rounds.
//! `cargo test -p cepa --test hostile -- --ignored soak` goes on for an hour (`soak`).
//! `CEPA_HOSTILE_ONLY=WORD` runs the attacks with that word in their name alone.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail, and says what it saw"
)]

mod attacker;
mod bodies;
mod doors;
mod exits;
mod extend;
mod floods;
mod flow;
mod forged;
mod liars;
mod memory;
mod metrics;
mod onions;
mod poison;
mod policy;
mod soak;
mod sockets;
mod socks;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod tls;
mod trial;
mod votes;
mod world;

use std::path::Path;

use support::Steps;
use world::World;

/// An attack: its name, and what it does.
type Attack = (&'static str, fn(&World));

/// What relays are exposed to.
const ON_RELAYS: &[Attack] = &[
    ("policy: none", policy::no_policy),
    ("doors: silent", doors::silent),
    ("doors: silent of many", doors::silent_of_many),
    ("doors: slow TLS", doors::slow_tls),
    ("doors: no VERSIONS", doors::no_versions),
    ("doors: no NETINFO", doors::no_netinfo),
    ("doors: idle links", doors::idle_links),
    ("doors: endless handshakes", doors::endless_handshakes),
    ("sockets: BEGIN and END", sockets::begin_end),
    ("sockets: destroyed", sockets::destroyed),
    ("sockets: unread server", sockets::unread_server),
    ("sockets: idle streams", sockets::idle_streams),
    ("sockets: exhausted", sockets::exhausted),
    ("extend: chosen way", extend::chosen_way),
    ("extend: blackhole", extend::blackhole),
    ("tls: key updates", tls::key_updates),
    ("tls: begun anew", tls::begun_anew),
    ("floods: onionskins", floods::onionskins),
    ("floods: garbage", floods::garbage),
    ("floods: padding", floods::padding),
    ("floods: RELAY_EARLY", floods::early),
    ("floods: points", floods::points),
    ("floods: control cells", floods::control_cells),
    ("floods: BEGIN_DIR", floods::begin_dir),
    ("flow: XON and XOFF", flow::xon_xoff),
    ("metrics: strangers", metrics::strangers),
    ("socks: garbage", socks::garbage),
    ("onions: unread", onions::unread),
    ("onions: filled", onions::filled),
    ("onions: introductions", onions::introductions),
    ("bodies: tunnelled", bodies::tunnelled),
    ("memory: circuits", memory::circuits),
    ("memory: unread", memory::unread),
    // Late: they wait for a consensus.
    ("policy: re-entry", policy::reentry),
    ("liars: SENDME", liars::sendme),
    ("exits: lies", exits::lies),
];

/// What authorities are exposed to.
const ON_AUTHORITIES: &[Attack] = &[
    ("bodies: repeated", bodies::repeated),
    ("bodies: questions", bodies::questions),
    ("bodies: 16 MiB", bodies::bodies),
    ("votes: strange", votes::strange_votes),
    ("votes: held", votes::held_votes),
    ("votes: signatures", votes::signatures),
    ("bodies: heads", bodies::heads),
    ("bodies: slow heads", bodies::slow_heads),
    ("bodies: heads of many", bodies::heads_of_many),
    ("forged: consensus", forged::consensus),
    ("poison: control bytes", poison::control_bytes),
    ("poison: many places", poison::many_places),
    ("poison: long lines", poison::long_lines),
];

/// What the public network votes for against strangers.
const PARAMS: [&str; 4] = [
    "sendme_accept_min_version=1",
    "DoSCircuitCreationEnabled=1",
    "DoSConnectionEnabled=1",
    "DoSStreamCreationEnabled=1",
];

/// The network whose relays are attacked.
fn relays(dir: &Path) -> World {
    let plan = ["--authorities", "1", "--relays", "4", "--exits", "2"];
    let params = PARAMS.iter().flat_map(|param| ["--param", param]);
    let plan: Vec<_> = plan.into_iter().chain(params).collect();
    World::up(dir.to_owned(), &plan).with_user()
}

#[test]
fn no_stranger_stops_a_relay() {
    let dir = tempfile::tempdir().unwrap();
    let world = relays(dir.path());
    attack(&world, ON_RELAYS);
}

#[test]
#[ignore = "takes an hour: attacks one after the other while relays come and go"]
fn soak() {
    let dir = tempfile::tempdir().unwrap();
    let world = relays(dir.path());
    soak::soak(&world, &chosen(ON_RELAYS));
}

#[test]
fn no_stranger_stops_a_consensus() {
    let dir = tempfile::tempdir().unwrap();
    let plan = [
        "--relays",
        "1",
        "--exits",
        "1",
        "--clients",
        "0",
        "--interval",
        "10",
    ];
    let world = World::up(dir.path().to_owned(), &plan);
    attack(&world, ON_AUTHORITIES);
}

fn attack(world: &World, attacks: &[Attack]) {
    let mut steps = Steps::default();
    for (name, attack) in chosen(attacks) {
        steps.step(name, || attack(world));
    }
    table::print();
    steps.finish(|| world.network.show_logs());
}

/// Those that are asked for, or all.
fn chosen(attacks: &[Attack]) -> Vec<Attack> {
    let only = std::env::var("CEPA_HOSTILE_ONLY").unwrap_or_default();
    let is_chosen = |(name, _): &&Attack| name.contains(&only);
    attacks.iter().filter(is_chosen).copied().collect()
}
