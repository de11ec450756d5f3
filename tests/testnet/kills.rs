//! A network whose nodes are killed with -9 at random instants, on disks that take nothing half of
//! the time: each comes back with all that it had.
//!
//! `CEPA_KILLS=200` is the long run (docs/testing.md), `CEPA_SEED=N` another order of things.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cepa::store::{Durability, Store};
use cepa_crypto::Rng;
use cepa_testnet::NodeSummary;
use rustix::process::Signal;

use crate::support::documents::consensus;
use crate::support::network::{CEPA, Network};
use crate::support::processes::{Process, disk_takes, lives, send};
use crate::support::{fetch, now, server, until};

/// The plan: whoever is killed, a path is left.
const PLAN: [&str; 6] = ["--relays", "3", "--exits", "2", "--interval", "10"];
/// How often somebody is killed, unless the environment says otherwise.
const KILLS: u64 = 6;
/// The longest wait before a kill, in milliseconds: a round of voting and a half.
const WAIT_MS_MAX: u64 = 15_000;
/// How long one that was killed may take to be back, on a machine that does much else.
const BACK_MAX: Duration = Duration::from_secs(90);

/// A node and what runs it now.
struct Victim<'a> {
    node: &'a NodeSummary,
    pid: u32,
    again: Option<Process>,
}

#[test]
fn nothing_is_lost_whenever_a_node_is_killed() {
    let number = |name: &str, default| {
        let text = std::env::var(name).ok();
        text.map_or(default, |text| text.parse::<u64>().unwrap())
    };
    let (kills, seed) = (number("CEPA_KILLS", KILLS), number("CEPA_SEED", 1));
    let dir = tempfile::tempdir().unwrap();
    let network = Network::up(dir.path(), &PLAN);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let mut rng = Rng::from_seed(bytes);
    let roles = ["authority", "relay", "exit", "client"];
    let mut victims: Vec<Victim<'_>> = roles
        .map(|role| {
            let node = network.nodes(role)[0];
            let pid = node.pid.unwrap();
            let again = None;
            Victim { node, pid, again }
        })
        .into();
    for round in 0..kills {
        let index = usize::try_from(rng.below(4)).unwrap();
        let wait = Duration::from_millis(rng.below(WAIT_MS_MAX));
        let is_full = rng.below(2) == 0;
        let victim = &mut victims[index];
        let name = &victim.node.nickname;
        println!("{round}: {name} after {wait:?}, disk full: {is_full} (seed {seed})");
        let before = Held::of(victim.node);
        if is_full {
            disk_takes(victim.pid, false);
        }
        let started = now();
        until(WAIT_MAX, "the instant", || {
            (now().duration_since(started) >= wait).then_some(())
        });
        assert!(lives(victim.pid), "{name} has ended by itself");
        send(victim.pid, Signal::KILL);
        until(BACK_MAX, "its end", || (!lives(victim.pid)).then_some(()));
        comes_back(victim, &network, &before);
    }
    let authority = network.nodes("authority")[1];
    let seen = consensus(authority.dir.unwrap()).unwrap();
    until(BACK_MAX, "a consensus of all three", || {
        let next = consensus(authority.dir.unwrap())?;
        (next.valid_after > seen.valid_after && next.signers.len() == 3).then_some(())
    });
}

/// More than the longest wait.
const WAIT_MAX: Duration = Duration::from_secs(60);

fn comes_back(victim: &mut Victim<'_>, network: &Network, before: &Held) {
    let node = victim.node;
    let mut command = Command::new(CEPA);
    let role = match node.role.as_str() {
        "exit" => "relay",
        role => role,
    };
    let log = || std::fs::read_to_string(&node.log).unwrap_or_default();
    let lines = log().lines().count();
    let again = Process::start(command.args([role, "--config"]).arg(&node.config));
    victim.pid = again.0.id();
    victim.again = Some(again);
    let server = server::start();
    until(BACK_MAX, "a page, and what was kept", || {
        assert!(lives(victim.pid), "{} does not start", node.nickname);
        let is_up = match role {
            "client" => true,
            _ => log()
                .lines()
                .skip(lines)
                .any(|line| line.contains("All ports are open")),
        };
        let fetched = fetch::get(network.socks(), server, "/bytes/1000");
        (is_up && fetched.is_ok()).then_some(())
    });
    let after = Held::of(node);
    assert_eq!(after.identity, before.identity, "{}", node.nickname);
    let lost = before.guards.iter().find(|one| !after.guards.contains(one));
    assert_eq!(lost, None, "a guard was lost of {:?}", after.guards);
    let bad = |line: &&str| line.contains("damaged") || line.contains("panicked");
    assert_eq!(log().lines().skip(lines).find(bad), None);
}

/// What a node must not lose.
struct Held {
    identity: Vec<Option<Vec<u8>>>,
    guards: Vec<String>,
}

impl Held {
    fn of(node: &NodeSummary) -> Self {
        let folder: PathBuf = node.config.parent().map(Path::to_owned).unwrap();
        let files = [
            "fingerprint",
            "keys/secret_id_key",
            "keys/ed25519_master_id_secret_key",
            "keys/authority_signing_key",
        ];
        let identity = files.map(|name| std::fs::read(folder.join(name)).ok());
        let guards = match node.role.as_str() {
            "client" => guards(&folder),
            _ => Vec::new(),
        };
        Held {
            identity: identity.into(),
            guards,
        }
    }
}

/// The guards that a client has kept.
fn guards(folder: &Path) -> Vec<String> {
    let path = folder.join("store.sqlite");
    let store = Store::open(&path, Durability::Process).unwrap();
    let kept = store.texts("guards").unwrap().join("\n");
    let words = kept.split_whitespace();
    let ids = words.filter_map(|word| word.strip_prefix("rsa_id="));
    ids.map(str::to_owned).collect()
}
