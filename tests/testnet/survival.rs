//! A network whose nodes are killed with -9, one after the other: a relay in use, an authority of
//! three, and the launcher; and the same folder started again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use cepa_testnet::NodeSummary;
use rustix::process::Signal;

use crate::support::documents::{Seen, consensus};
use crate::support::network::{CEPA, Network, STOP_MAX};
use crate::support::processes::{Process, lives, peers_of, send};
use crate::support::{Steps, fetch, now, server, until};

/// The plan: enough relays that each of them can be spared.
const PLAN: [&str; 6] = ["--relays", "3", "--exits", "2", "--interval", "10"];
/// How long new streams may take to work after a relay was killed.
const RECOVERY_MAX: Duration = Duration::from_secs(10);
/// How long the next consensus, or the one after, may take.
const ROUND_MAX: Duration = Duration::from_secs(45);

#[test]
fn a_network_survives_what_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut network = Network::up(dir.path(), &PLAN);
    let mut again = None;
    let mut steps = Steps::default();
    steps.step("two of three authorities go on", || {
        an_authority_is_killed(&network);
    });
    steps.step("an authority that comes back votes again", || {
        again = Some(an_authority_comes_back(&network));
    });
    steps.step("the exit is killed", || {
        is_killed_in_use(&network, |server| exit_in_use(&network, server));
    });
    steps.step("the guard is killed", || {
        is_killed_in_use(&network, |_| {
            let guard = guard_in_use(&network)?;
            // The authority that has come back is another process than the network knows.
            let again = again.as_ref().filter(|_| guard.nickname == "auth1");
            let pid = again.map_or(guard.pid, |again| Some(again.0.id()));
            Some((guard.nickname.clone(), pid?))
        });
    });
    drop(again);
    steps.step("no node outlives its launcher", || {
        the_launcher_is_killed(&mut network);
    });
    steps.step("the same folder keeps its identities", || {
        keeps_identities(&network);
    });
    steps.finish(|| network.show_logs());
}

fn fetches(network: &Network, server: SocketAddr) -> bool {
    let path = "/bytes/10000";
    fetch::get(network.socks(), server, path).is_ok_and(|fetched| fetched.len == 10_000)
}

/// The consensus at one authority, once it is another than `before` and `is_wanted`.
fn next(authority: &NodeSummary, before: &Seen, is_wanted: impl Fn(&Seen) -> bool) -> Seen {
    until(ROUND_MAX, "the next consensus", || {
        let seen = consensus(authority.dir?)?;
        (seen.valid_after > before.valid_after && is_wanted(&seen)).then_some(seen)
    })
}

fn an_authority_is_killed(network: &Network) {
    let (authorities, server) = (network.nodes("authority"), server::start());
    let before = consensus(authorities[1].dir.unwrap()).unwrap();
    send(authorities[0].pid.unwrap(), Signal::KILL);
    // Whoever had voted before counts in this round still.
    let after = next(authorities[1], &before, |seen| seen.voters.len() == 2);
    assert_eq!(after.voters, names(&["auth2", "auth3"]));
    for authority in &authorities[1..] {
        let seen = next(authority, &before, |seen| seen.signers.len() == 2);
        assert!(seen.relays >= 7, "{seen:?}");
    }
    assert!(fetches(network, server), "no traffic without one authority");
}

fn an_authority_comes_back(network: &Network) -> Process {
    let authorities = network.nodes("authority");
    let before = consensus(authorities[1].dir.unwrap()).unwrap();
    let mut command = Command::new(CEPA);
    command.args(["authority", "--config"]);
    let again = Process::start(command.arg(&authorities[0].config));
    for authority in &authorities {
        let seen = next(authority, &before, |seen| seen.signers.len() == 3);
        assert_eq!(seen.voters, names(&["auth1", "auth2", "auth3"]));
    }
    again
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A relay that the client has a link to; rather not an authority, which gives documents, too.
fn guard_in_use(network: &Network) -> Option<&NodeSummary> {
    let peers = peers_of(network.nodes("client")[0].pid?);
    let mut nodes = network.summary.nodes.iter().rev();
    nodes.find(|node| node.or.is_some_and(|or| peers.contains(&or)))
}

/// The exit that has a connection to a server.
fn exit_in_use(network: &Network, server: SocketAddr) -> Option<(String, u32)> {
    let exits = network.nodes("exit").into_iter();
    let mut exits = exits.map(|exit| (exit.nickname.clone(), exit.pid.unwrap()));
    exits.find(|(_, pid)| lives(*pid) && peers_of(*pid).contains(&server))
}

/// Kills the relay that `find` knows while a download is on its way.
fn is_killed_in_use(network: &Network, find: impl Fn(SocketAddr) -> Option<(String, u32)>) {
    let server = server::start();
    assert!(fetches(network, server), "no traffic before");
    let socks = network.socks();
    // It ends too early, or with the network, as its path has that relay or not.
    std::thread::spawn(move || fetch::get(socks, server, "/bytes/10000000000"));
    let (nickname, pid) = until(RECOVERY_MAX, "a relay in use", || find(server));
    println!("{nickname} is killed");
    send(pid, Signal::KILL);
    let killed = now();
    until(RECOVERY_MAX, "a stream that works", || {
        fetches(network, server).then_some(())
    });
    // One may have been lucky with its circuit; all must be.
    let count = (0..10).filter(|_| fetches(network, server)).count();
    println!(
        "back after {:.1} s, {count} of 10",
        now().duration_since(killed).as_secs_f64()
    );
    assert_eq!(count, 10);
    assert!(now().duration_since(killed) < RECOVERY_MAX);
}

fn the_launcher_is_killed(network: &mut Network) {
    let pids = network.pids();
    network.stop(Signal::KILL);
    until(STOP_MAX, "the end of every node", || {
        (!pids.iter().any(|pid| lives(*pid))).then_some(())
    });
}

fn keeps_identities(network: &Network) {
    let second = Network::up(&network.folder, &PLAN);
    let ids = |network: &Network| -> Vec<_> {
        let nodes = network.summary.nodes.iter();
        nodes
            .map(|node| (node.rsa.clone(), node.ed25519.clone()))
            .collect()
    };
    assert_eq!(ids(network), ids(&second));
    assert_eq!(network.summary.base_port, second.summary.base_port);
    assert!(fetches(&second, server::start()));
}
