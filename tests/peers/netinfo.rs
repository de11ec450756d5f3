//! A relay of `tor` that was told no address believes what an authority of ours sees.
//!
//! `tor` believes nobody that its address is one of 127/8. Here all that connects to 127/8 comes
//! from an address of TEST-NET-2, which no interface has, so that nothing but a NETINFO can tell of
//! it (tor-spec 4.5). This takes a network namespace.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::matrix::{Board, Column, NETINFO};
use crate::support::network::Network;
use crate::support::processes::Process;
use crate::support::space::Space;
use crate::support::until;
use crate::world::BOOTSTRAP_MAX;

const SEEN_AS: &str = "198.51.100.7";

/// The cell "theirs among ours" of NETINFO.
pub(crate) fn run(board: &Board) {
    match Space::new("netinfo") {
        Ok(space) => board.cell(NETINFO, Column::TheirsAmongOurs, || believed(&space)),
        Err(missing) => board.cannot(NETINFO, Column::TheirsAmongOurs, missing),
    }
}

fn believed(space: &Space) {
    space.come_from(SEEN_AS);
    let dir = tempfile::tempdir().unwrap();
    let plan = "--authorities 1 --relays 2 --exits 1 --clients 0";
    let plan: Vec<_> = plan.split_whitespace().collect();
    let network = Network::up_in(Some(&space.0), &dir.path().join("net"), &plan);
    let log = dir.path().join("tor-info");
    let torrc = torrc(&network, dir.path(), &log);
    let mut tor = space.command("tor");
    tor.arg("-f").arg(&torrc).stdout(Stdio::null());
    let _tor = Process::start(&mut tor);
    let said = "External address seen and suggested by a directory authority: ";
    let seen = until(BOOTSTRAP_MAX, said, || {
        let text = std::fs::read_to_string(&log).ok()?;
        Some(text.split_once(said)?.1.lines().next()?.to_owned())
    });
    assert_eq!(seen, SEEN_AS);
}

/// The torrc of a relay without an address.
fn torrc(network: &Network, dir: &Path, log: &Path) -> PathBuf {
    let folder = dir.join("tor");
    let mut private = std::fs::DirBuilder::new();
    private.mode(0o700).create(&folder).unwrap();
    let base = std::fs::read_to_string(network.folder.join("torrc")).unwrap();
    let own = ["SocksPort", "DataDirectory"];
    let kept = base
        .lines()
        .filter(|line| !own.iter().any(|word| line.starts_with(word)));
    let mut text: String = kept.flat_map(|line| [line, "\n"]).collect();
    text.push_str(&format!(
        "SocksPort 0\nDataDirectory {}\nNickname unaddressed\nContactInfo a@example.org\n\
         ORPort {}\nAssumeReachable 1\nExitRelay 0\nProtocolWarnings 1\nLog info file {}\n",
        folder.display(),
        network.spare(0),
        log.display(),
    ));
    let path = dir.join("torrc");
    std::fs::write(&path, text).unwrap();
    path
}
