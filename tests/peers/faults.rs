//! What breaks around programs that run: links that die without a word, disks that fill, name
//! servers that come late. Ours mend themselves; `tor` stands beside them in the same faults.
//!
//! All is in a network namespace, which takes root, `ip` and `nft`; where they are absent a line
//! says so.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cepa_testnet::NodeSummary;
use rustix::process::Signal;

use crate::support::client::Client;
use crate::support::dns;
use crate::support::fetch::{self, Bound, fetch_from, resolve};
use crate::support::network::Network;
use crate::support::onion::Service;
use crate::support::processes::{lives, send, tcp_of};
use crate::support::space::{Space, run};
use crate::support::{Steps, now, server, until};
use crate::tor::{Tor, is_here, is_tor_here};

/// How long a client or relay may take to be ready, and to notice what a test waits for.
const READY_MAX: Duration = Duration::from_secs(90);
/// How long a request may take right after all links have gone silent.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long an exit may take to find its name servers.
const RESOLVERS_MAX: Duration = Duration::from_secs(10);
/// The disk of a client.
const DISK: &str = "size=2m,mode=700";
/// Where name servers come to be.
pub(crate) const NAME_SERVER: &str = "127.0.0.53";
/// Users, and how many of them to one who visits an onion service.
const USERS: usize = 1400;
const ONION_EVERY: usize = 9;

/// A network namespace that this thread is in; none where there can't be one.
pub(crate) fn space(name: &str) -> Option<Space> {
    if !is_tor_here() || !is_here("nft", &["--version"]) {
        return None;
    }
    match Space::new(name) {
        Ok(space) => {
            space.set_resolvers("");
            space.enter();
            Some(space)
        }
        Err(missing) => {
            println!("skipped: {missing}");
            None
        }
    }
}

#[test]
fn what_breaks_mends_itself() {
    let Some(space) = space("faults") else { return };
    let dir = tempfile::tempdir().unwrap();
    let plan = "--authorities 3 --relays 4 --exits 1 --clients 0 --interval 10 --with tor:exit=1";
    let plan: Vec<_> = plan.split_whitespace().collect();
    let network = Network::up_in(Some(&space.0), &dir.path().join("net"), &plan);
    let world = World::new(&network, dir.path());
    let mut steps = Steps::default();
    steps.step("links go silent", || links_go_silent(&space, &world));
    steps.step("a disk is full, and is emptied", || disk_is_full(&world));
    steps.step("name servers come late", || servers_come(&space, &world));
    steps.finish(|| network.show_logs());
}

/// A network, and where what is added to it has its files and ports.
pub(crate) struct World<'a> {
    network: &'a Network,
    dir: &'a Path,
}

impl<'a> World<'a> {
    pub(crate) fn new(network: &'a Network, dir: &'a Path) -> Self {
        World { network, dir }
    }

    pub(crate) fn socks(&self, place: u16) -> SocketAddr {
        self.network.local(place)
    }

    /// A client of ours with its files in a folder of this name.
    pub(crate) fn ours(&self, name: &str, place: u16, more: &str) -> (Client, SocketAddr) {
        let socks = self.socks(place);
        let network = &self.network.summary.network;
        (Client::start(network, self.dir, name, socks, more), socks)
    }

    /// A client of `tor`'s, the same.
    fn theirs(&self, name: &str, place: u16) -> (Tor, SocketAddr) {
        self.theirs_with(name, place, "", "")
    }

    /// The same with flags of its SOCKS port, and further lines.
    pub(crate) fn theirs_with(
        &self,
        name: &str,
        place: u16,
        flags: &str,
        more: &str,
    ) -> (Tor, SocketAddr) {
        let socks = self.socks(place);
        let folder = self.dir.join(name);
        let base = std::fs::read_to_string(self.network.folder.join("torrc")).unwrap();
        let is_other = |line: &&str| !line.starts_with("SocksPort") && !line.starts_with("DataDir");
        let kept = base.lines().filter(is_other);
        let mut text: String = kept.flat_map(|line| [line, "\n"]).collect();
        text.push_str(&format!(
            "SocksPort {socks} {flags}\nDataDirectory {}\n{more}",
            folder.display()
        ));
        let path = self.dir.join(format!("{name}.torrc"));
        std::fs::write(&path, text).unwrap();
        let mut tor = Tor::start(&path, &[]);
        tor.wait_for("Bootstrapped 100%", READY_MAX);
        (tor, socks)
    }

    fn node(&self, nickname: &str) -> &NodeSummary {
        let mut nodes = self.network.summary.nodes.iter();
        nodes.find(|node| node.nickname == nickname).unwrap()
    }
}

fn fetches(socks: SocketAddr, user: &str, server: SocketAddr) -> bool {
    let host = server.ip().to_string();
    fetch_from(socks, Some(user), (&host, server.port()), "/bytes/1000").is_ok()
}

/// The near ports of a process's links to relays of the network.
fn links(network: &Network, pid: u32) -> Vec<String> {
    let relays: BTreeSet<_> = network
        .summary
        .nodes
        .iter()
        .filter_map(|one| one.or)
        .collect();
    let all = tcp_of(pid).into_iter();
    let links = all.filter(|(_, peer, _)| relays.contains(peer));
    links.map(|(near, ..)| near.port().to_string()).collect()
}

fn links_go_silent(space: &Space, world: &World<'_>) {
    let server = server::start();
    let (ours, our_socks) = world.ours("silent", 0, "");
    let (theirs, their_socks) = world.theirs("torsilent", 1);
    for socks in [our_socks, their_socks] {
        until(READY_MAX, "a page before", || {
            fetches(socks, "before", server).then_some(())
        });
    }
    let mut ports = links(world.network, ours.process.0.id());
    ports.extend(links(world.network, theirs.pid()));
    let ports = ports.join(",");
    let nft = |words: &str| run(space.command("nft").args(words.split(' ')));
    nft("add table inet silence");
    nft("add chain inet silence out { type filter hook output priority 0 ; }");
    nft(&format!(
        "add rule inet silence out tcp sport {{ {ports} }} drop"
    ));
    nft(&format!(
        "add rule inet silence out tcp dport {{ {ports} }} drop"
    ));
    let started = now();
    let beside = std::thread::spawn(move || {
        while !fetches(their_socks, "after", server) {}
        now().duration_since(started).as_secs_f64()
    });
    until(SILENCE_MAX, "a page after", || {
        fetches(our_socks, "after", server).then_some(())
    });
    let took = now().duration_since(started);
    println!("ours: {:.1} s", took.as_secs_f64());
    match beside.is_finished() {
        true => println!("tor: {:.1} s", beside.join().unwrap()),
        false => println!("tor: not yet"),
    }
    nft("delete table inet silence");
    assert!(took <= SILENCE_MAX, "{took:?}");
}

/// A disk of its own, small; it ends with this.
struct Disk(PathBuf);

impl Disk {
    fn new(path: PathBuf) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        let mut mount = Command::new("mount");
        run(mount.args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(&path));
        Disk(path)
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("fill")).unwrap();
        while std::io::Write::write_all(&mut file, &[7; 4096]).is_ok() {}
        // What is left of the last block.
        while std::io::Write::write_all(&mut file, &[7]).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("fill")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn disk_is_full(world: &World<'_>) {
    let server = server::start();
    let disks = ["small", "torsmall"].map(|name| Disk::new(world.dir.join(name)));
    let metrics = world.socks(6);
    let more = format!("metrics = \"{metrics}\"\n");
    let (mut ours, our_socks) = world.ours("small/data", 4, &more);
    let (theirs, their_socks) = world.theirs("torsmall", 5);
    for socks in [our_socks, their_socks] {
        until(READY_MAX, "a page before", || {
            fetches(socks, "before", server).then_some(())
        });
    }
    disks.iter().for_each(Disk::fill);
    let waiting = || {
        let text = fetch::metrics(metrics).ok()?;
        let value = |line: &str| line.strip_prefix("cepa_kept_waiting ")?.trim().parse().ok();
        text.lines().find_map(value)
    };
    until(READY_MAX, "what finds no room", || {
        waiting().filter(|waiting: &u64| *waiting > 0)
    });
    for (who, socks) in [("ours", our_socks), ("tor", their_socks)] {
        assert!(fetches(socks, "full", server), "{who}");
    }
    disks.iter().for_each(Disk::empty);
    until(READY_MAX, "all to be kept", || {
        waiting().filter(|waiting| *waiting == 0)
    });
    assert!(ours.process.0.try_wait().unwrap().is_none() && lives(theirs.pid()));
    for (who, socks) in [("ours", our_socks), ("tor", their_socks)] {
        assert!(fetches(socks, "emptied", server), "{who}");
    }
    drop((ours, theirs));
}

fn servers_come(space: &Space, world: &World<'_>) {
    let ours = world.node("exit1");
    let theirs = world.node("torexit1");
    let by = |node: &NodeSummary, place| {
        let more = format!("[paths]\nexit = [\"{}\"]\n", node.nickname);
        world.ours(&format!("by{}", node.nickname), place, &more)
    };
    let (_first, by_ours) = by(ours, 8);
    let (_second, by_tor) = by(theirs, 9);
    for socks in [by_ours, by_tor] {
        assert!(resolve(socks, dns::NAME).is_err(), "there is no server yet");
    }
    dns::start_at(&format!("{NAME_SERVER}:53"));
    space.set_resolvers(&format!("nameserver {NAME_SERVER}\n"));
    // It is told, ours is not.
    send(theirs.pid.unwrap(), Signal::HUP);
    let found = |socks| resolve(socks, dns::NAME).is_ok_and(|it| matches!(it, Bound::Ip(_)));
    let started = now();
    until(RESOLVERS_MAX, "a name by ours", || {
        found(by_ours).then_some(())
    });
    println!("ours: {:.1} s", now().duration_since(started).as_secs_f64());
    let word = if found(by_tor) { "found" } else { "not yet" };
    println!("tor: {word} by then");
}

/// More users, one after the other, than circuits can be held; some of them visit an onion service.
#[test]
fn a_name_for_each_request() {
    let Some(space) = space("many") else { return };
    let dir = tempfile::tempdir().unwrap();
    let plan = "--authorities 3 --relays 4 --exits 2 --clients 0";
    let plan: Vec<_> = plan.split_whitespace().collect();
    let network = Network::up_in(Some(&space.0), &dir.path().join("net"), &plan);
    let world = World::new(&network, dir.path());
    let server = server::start();
    let service = Service::start(&network.summary.network, &dir.path().join("hs"), server);
    let (_ours, our_socks) = world.ours("many", 0, "");
    let (_theirs, their_socks) = world.theirs("tormany", 1);
    let host = server.ip().to_string();
    let answered = |socks: SocketAddr| {
        let started = now();
        let is_answered = |user: &usize| {
            let target = match user % ONION_EVERY {
                0 => (service.address.as_str(), 80),
                _ => (host.as_str(), server.port()),
            };
            fetch_from(socks, Some(&format!("user{user}")), target, "/bytes/1000").is_ok()
        };
        let count = (0..USERS).filter(is_answered).count();
        (count, now().duration_since(started).as_secs())
    };
    let ((ours, took), (theirs, their_took)) = std::thread::scope(|threads| {
        let theirs = threads.spawn(|| answered(their_socks));
        (answered(our_socks), theirs.join().unwrap())
    });
    println!("ours: {ours} of {USERS} in {took} s; tor: {theirs} in {their_took} s");
    assert_eq!(ours, USERS);
}
