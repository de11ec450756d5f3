//! Whole networks of processes, as a user starts them: `cepa testnet up` and the node commands.
//!
//! Each network finds ports of its own, so that they run side by side, on loopback addresses only.
//! `traffic` is a network that carries what it should, `delay` one with slow links, `survival` one
//! whose nodes are killed, `disks` one whose disk fails, `doors` one whose doors strangers hold,
//! `limits` a client with more requests than places, `address` a network with a relay that moves,
//! `onions` one with onion services (`reload`: they change while they run), `operator` one whose
//! operator and disks do what they like, `kills` one whose nodes are killed at random instants,
//! `ports` and `transparent` the other ways in, `exits` what leaves the network and what does not,
//! `control` a client that stem drives, `torrc` programs called `tor`, `twins` two of one command
//! line, `command` some that are there for one command, `service` a node that a service manager
//! started, `week` one in which something is always broken, `bad_input` what goes wrong before
//! there is one, `bridges` a client of one whose packets are counted.
//! `CEPA_LONG=1` makes the download 1 GB.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail, and says what it saw"
)]

mod address;
mod bad_input;
mod bridges;
mod command;
mod control;
mod delay;
mod disks;
mod doors;
mod exits;
mod kills;
mod limits;
mod onions;
mod operator;
mod ports;
mod reload;
mod service;
#[path = "../support/mod.rs"]
mod support;
mod survival;
mod torrc;
mod traffic;
mod transparent;
mod twins;
mod week;

use support::network;
