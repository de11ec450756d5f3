//! A week of a network in which something is always broken: links, disks, descriptors, clocks, name
//! servers and peers fail at random, one after the other, and each fault ends by itself. Once it is
//! over a client, an exit and an onion service serve again, without a restart, and three
//! authorities have made a new consensus, within [`RECOVERY_MAX`]; pages and the service are served
//! within [`PEER_MAX`] if nothing but a peer was gone.
//!
//! An hour of the network takes ten seconds and a while. CI has a few hours of it, each kind of
//! fault in one; `CEPA_HOURS=168` is the week (docs/testing.md), `CEPA_SEED=N` another order of
//! things. It takes root, `ip`, `nft` and `faketime`, as it has a network namespace of its own;
//! where they are absent a line says so.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cepa_crypto::Rng;
use rustix::process::Signal;

use crate::support::documents::consensus;
use crate::support::fetch::{Bound, fetch_from, resolve};
use crate::support::network::{CEPA, Network};
use crate::support::onion::Service;
use crate::support::processes::{Process, descriptors_left, disk_takes, lives, send, tcp_of};
use crate::support::space::{Space, run};
use crate::support::{clocks, dns};
use crate::support::{now, server, until};

/// The plan: whatever fails, a path is left.
const PLAN: [&str; 6] = ["--relays", "4", "--exits", "2", "--interval", "10"];
/// Hours, unless the environment says otherwise.
const HOURS: u64 = 8;
/// The longest that a fault lasts, in milliseconds.
const FAULT_MS_MAX: u64 = 10_000;
/// How long all may take to serve again once a fault is over.
const RECOVERY_MAX: Duration = Duration::from_secs(30);
/// How long pages and the service may take after a peer was gone, and is back.
const PEER_MAX: Duration = Duration::from_secs(3);
/// How far a clock may be off, in seconds.
const CLOCK_SECS_MAX: u64 = 3 * 86_400;
/// How long the network may take at first.
const FIRST_MAX: Duration = Duration::from_secs(90);
const NAME_SERVER: &str = "127.0.0.53";

/// What fails.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// All links of a node drop what is sent, without a word; new ones work.
    SilentLinks,
    /// A node hangs.
    Hangs,
    /// A node is killed, and started again.
    Killed,
    /// A node's disk takes nothing.
    FullDisk,
    /// A node has no descriptor left.
    NoDescriptors,
    /// A node is started again with a clock that is wrong, and set right while it runs.
    WrongClock,
    /// There is no name server.
    NoNames,
    /// The onion service is killed, and started again.
    ServiceKilled,
}

const FAULTS: [Fault; 8] = [
    Fault::SilentLinks,
    Fault::Hangs,
    Fault::Killed,
    Fault::FullDisk,
    Fault::NoDescriptors,
    Fault::WrongClock,
    Fault::NoNames,
    Fault::ServiceKilled,
];

/// A node of the network: what it is, where its configuration is, and what runs it now.
struct Node {
    nickname: String,
    role: String,
    config: PathBuf,
    pid: u32,
    again: Option<Process>,
}

struct World<'a> {
    space: &'a Space,
    network: &'a Network,
    nodes: Vec<Node>,
    service: Service,
    folder: PathBuf,
    server: SocketAddr,
    rng: Rng,
    /// So that each request has circuits of its own.
    users: u64,
}

#[test]
fn a_week_of_faults_leaves_nothing_broken() {
    let number = |name: &str, default| {
        let text = std::env::var(name).ok();
        text.map_or(default, |text| text.parse::<u64>().unwrap())
    };
    let (hours, seed) = (number("CEPA_HOURS", HOURS), number("CEPA_SEED", 1));
    let space = match Space::new("week") {
        Ok(_) if Command::new("nft").arg("--version").output().is_err() => {
            return println!("not tested: nft");
        }
        Ok(_) if !clocks::is_here() => return,
        Ok(space) => space,
        Err(missing) => return println!("not tested: {missing}"),
    };
    let names = format!("nameserver {NAME_SERVER}\n");
    space.set_resolvers(&names);
    space.enter();
    dns::start_at(&format!("{NAME_SERVER}:53"));
    let dir = tempfile::tempdir().unwrap();
    let network = Network::up_in(Some(&space.0), &dir.path().join("net"), &PLAN);
    let (server, folder) = (server::start(), dir.path().join("service"));
    let service = Service::start(&network.summary.network, &folder, server);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let nodes = network.summary.nodes.iter().map(|node| Node {
        nickname: node.nickname.clone(),
        role: node.role.clone(),
        config: node.config.clone(),
        pid: node.pid.unwrap(),
        again: None,
    });
    let mut world = World {
        space: &space,
        network: &network,
        nodes: nodes.collect(),
        service,
        folder,
        server,
        rng: Rng::from_seed(bytes),
        users: 0,
    };
    until(FIRST_MAX, "all to serve at first", || world.serves(""));
    for hour in 0..hours {
        // Each of them in turn, then any.
        let drawn = match usize::try_from(hour)
            .ok()
            .filter(|hour| *hour < FAULTS.len())
        {
            Some(index) => index,
            None => world.draw(FAULTS.len()),
        };
        let fault = FAULTS[drawn];
        let victim = world.victim(fault);
        let lasts = Duration::from_millis(world.rng.below(FAULT_MS_MAX));
        println!(
            "hour {hour}: {fault:?} of {} for {:.1} s (seed {seed})",
            world.nodes[victim].nickname,
            lasts.as_secs_f64()
        );
        world.fail(fault, victim, lasts, &names);
        world.recovers(fault);
        for node in &world.nodes {
            assert!(lives(node.pid), "{} has ended", node.nickname);
        }
    }
}

impl World<'_> {
    fn draw(&mut self, len: usize) -> usize {
        usize::try_from(self.rng.below(len as u64)).unwrap()
    }

    /// Any node; a client is not killed, as its port is what all is looked at by.
    fn victim(&mut self, fault: Fault) -> usize {
        loop {
            let drawn = self.draw(self.nodes.len());
            let is_client = self.nodes[drawn].role == "client";
            let ends = matches!(fault, Fault::Killed | Fault::Hangs | Fault::WrongClock);
            if !(is_client && ends) {
                return drawn;
            }
        }
    }

    /// Lets something fail for so long.
    fn fail(&mut self, fault: Fault, victim: usize, lasts: Duration, names: &str) {
        let pid = self.nodes[victim].pid;
        match fault {
            Fault::SilentLinks => {
                self.silence(pid);
                wait(lasts);
                self.nft("delete table inet silence");
            }
            Fault::Hangs => {
                send(pid, Signal::STOP);
                wait(lasts);
                send(pid, Signal::CONT);
            }
            Fault::Killed => {
                send(pid, Signal::KILL);
                until(FIRST_MAX, "its end", || (!lives(pid)).then_some(()));
                wait(lasts);
                self.start_again(victim, None);
            }
            Fault::WrongClock => {
                send(pid, Signal::KILL);
                until(FIRST_MAX, "its end", || (!lives(pid)).then_some(()));
                let off = i64::try_from(self.rng.below(2 * CLOCK_SECS_MAX)).unwrap();
                let off = off - i64::try_from(CLOCK_SECS_MAX).unwrap();
                println!("  its clock is {off} s off");
                let file = self.nodes[victim].config.with_extension("clock");
                clocks::set(&file, off);
                self.start_again(victim, Some(&file));
                wait(lasts);
                clocks::set(&file, 0);
            }
            Fault::FullDisk => {
                disk_takes(pid, false);
                wait(lasts);
                disk_takes(pid, true);
            }
            Fault::NoDescriptors => {
                descriptors_left(pid, Some(0));
                wait(lasts);
                descriptors_left(pid, None);
            }
            Fault::NoNames => {
                self.space.set_resolvers("");
                wait(lasts);
                self.space.set_resolvers(names);
            }
            Fault::ServiceKilled => {
                send(self.service.process.0.id(), Signal::KILL);
                self.service.process.0.wait().unwrap();
                wait(lasts);
                let network = &self.network.summary.network;
                self.service = Service::start(network, &self.folder, self.server);
            }
        }
    }

    fn nft(&self, words: &str) {
        run(self.space.command("nft").args(words.split(' ')));
    }

    /// Drops all that is sent over the links that a process has now.
    fn silence(&self, pid: u32) {
        let nodes = self.network.summary.nodes.iter();
        let relays: BTreeSet<_> = nodes.filter_map(|one| one.or).collect();
        let links = tcp_of(pid).into_iter().filter_map(|(near, far, _)| {
            match (relays.contains(&near), relays.contains(&far)) {
                (_, true) => Some(near.port().to_string()),
                (true, _) => Some(far.port().to_string()),
                _ => None,
            }
        });
        let ports = links
            .filter(|port| port != "0")
            .collect::<Vec<_>>()
            .join(",");
        self.nft("add table inet silence");
        self.nft("add chain inet silence out { type filter hook output priority 0 ; }");
        if !ports.is_empty() {
            self.nft(&format!(
                "add rule inet silence out tcp sport {{ {ports} }} drop"
            ));
            self.nft(&format!(
                "add rule inet silence out tcp dport {{ {ports} }} drop"
            ));
        }
    }

    /// Starts a node again, with a clock that goes as a file says, if there is one.
    fn start_again(&mut self, victim: usize, clock: Option<&Path>) {
        let node = &mut self.nodes[victim];
        let role = match node.role.as_str() {
            "exit" => "relay",
            role => role,
        };
        // As the others were started: with the name servers of the namespace.
        let mut command = self.space.command(CEPA);
        if let Some(clock) = clock {
            clocks::follow(&mut command, clock);
        }
        let again = Process::start(command.args([role, "--config"]).arg(&node.config));
        node.pid = again.0.id();
        node.again = Some(again);
    }

    /// A fault is over: waits until all serve again, and says how long that took.
    fn recovers(&mut self, fault: Fault) {
        let (over, before) = (now(), self.newest());
        until(RECOVERY_MAX, "pages to be served again", || {
            self.serves_pages()
        });
        let served = now().duration_since(over);
        until(RECOVERY_MAX, "all to serve again", || self.serves(&before));
        let took = now().duration_since(over);
        let (pages_secs, secs) = (served.as_secs_f64(), took.as_secs_f64());
        println!("  pages after {pages_secs:.1} s, all after {secs:.1} s");
        assert!(took <= RECOVERY_MAX, "{took:?}");
        let was_peer = matches!(fault, Fault::Hangs | Fault::Killed | Fault::ServiceKilled);
        assert!(!was_peer || served <= PEER_MAX, "{served:?}");
    }

    /// The newest consensus that an authority has.
    fn newest(&self) -> String {
        let authorities = self.network.nodes("authority").into_iter();
        let seen = authorities.filter_map(|one| consensus(one.dir?));
        seen.map(|one| one.valid_after).max().unwrap_or_default()
    }

    /// Whether pages and the onion service are served.
    fn serves_pages(&mut self) -> Option<()> {
        self.users += 1;
        let (socks, user) = (self.network.socks(), format!("user{}", self.users));
        let host = self.server.ip().to_string();
        let fetches = |target| fetch_from(socks, Some(&user), target, "/bytes/1000").ok();
        fetches((&host, self.server.port()))?;
        fetches((&self.service.address, 80))?;
        Some(())
    }

    /// Whether all serve: pages, names, the onion service, and all authorities one consensus that
    /// is newer than that of `before`.
    fn serves(&mut self, before: &str) -> Option<()> {
        self.serves_pages()?;
        let found = resolve(self.network.socks(), dns::NAME).ok()?;
        matches!(found, Bound::Ip(_)).then_some(())?;
        let authorities = self.network.nodes("authority");
        let seen = authorities.iter().map(|one| consensus(one.dir?));
        let seen = seen.collect::<Option<Vec<_>>>()?;
        let newest = seen.iter().map(|one| &one.valid_after).max()?;
        let is_whole = seen.iter().all(|one| one.signers.len() >= 2);
        let is_one = seen.iter().all(|one| one.valid_after == *newest);
        (is_whole && is_one && newest.as_str() > before).then_some(())
    }
}

/// Lets a fault last.
fn wait(lasts: Duration) {
    let started = now();
    until(lasts + RECOVERY_MAX, "the end of a fault", || {
        (now().duration_since(started) >= lasts).then_some(())
    });
}
