//! Bridges and their clients, ours and `tor`'s, on a network of ours: plain, and over obfs4 with
//! Debian's obfs4proxy at either end, or lyrebird at the client's where it is in the PATH. What is
//! fetched is compared, byte by byte.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::bridges::Bridge;
use crate::support::client::Client;
use crate::support::network::Network;
use crate::support::processes::peers_of;
use crate::support::{Steps, fetch, server, until};
use crate::tor::{Tor, is_here, is_tor_here};

/// How long `tor` may take to bootstrap.
pub(crate) const BOOTSTRAP_MAX: Duration = Duration::from_secs(120);
/// Where Debian has the program of obfs4.
const OBFS4: &str = "/usr/bin/obfs4proxy";
/// The addresses of the bridges, which no node of the network has.
const OURS: &str = "127.201.0.1";
const THEIRS: &str = "127.202.0.1";
/// What is fetched over each.
const BYTES: u64 = 300_000;

#[test]
fn bridges_of_both_serve_clients_of_both() {
    if !is_tor_here() {
        return;
    }
    let has_obfs4 = is_here(OBFS4, &["-version"]);
    let dir = tempfile::tempdir().unwrap();
    let network = Network::up(&dir.path().join("net"), &["--clients", "0"]);
    let world = World {
        network: &network,
        dir: dir.path(),
        server: server::start(),
        has_obfs4,
        obfs4_of_clients: OBFS4,
    };
    let mut steps = Steps::default();
    let ours = world.our_bridge();
    let (_tor, theirs) = world.their_bridge();
    steps.step("a bridge of ours, a client of ours", || {
        world.our_client("oo", 20, &[ours.line(None)]);
    });
    steps.step(
        "a bridge of ours without a fingerprint, a client of ours",
        || {
            world.our_client("on", 21, &[&nameless(ours.line(None))]);
        },
    );
    steps.step("a bridge of ours, a client of tor", || {
        world.their_client("ot", 22, ours.line(None));
    });
    steps.step("a bridge of tor, a client of ours", || {
        world.our_client("to", 23, &[&theirs.plain]);
    });
    steps.step(
        "a bridge that is gone, then one of tor, a client of ours",
        || {
            let gone = format!("Bridge 127.203.0.1:{}", network.spare(9));
            world.our_client("go", 24, &[&gone, &theirs.plain]);
        },
    );
    if let Some(obfs4) = &theirs.obfs4 {
        over_obfs4(&mut steps, world, &ours, obfs4);
    }
    steps.finish(|| network.show_logs());
}

/// What goes over obfs4, this line's being that of `tor`'s bridge.
fn over_obfs4(steps: &mut Steps, world: World<'_>, ours: &Bridge, obfs4: &str) {
    steps.step("a bridge of tor over obfs4, a client of ours", || {
        world.our_client("to4", 25, &[obfs4]);
    });
    steps.step("a bridge of ours over obfs4, a client of tor", || {
        world.their_client("ot4", 26, ours.line(Some("obfs4")));
    });
    steps.step("a bridge of ours over obfs4, a client of ours", || {
        world.our_client("oo4", 27, &[ours.line(Some("obfs4"))]);
    });
    if let Some(lyrebird) = path_of("lyrebird") {
        let world = World {
            obfs4_of_clients: &lyrebird,
            ..world
        };
        steps.step("obfs4proxy of tor, lyrebird of ours", || {
            world.our_client("tol", 28, &[obfs4]);
        });
        steps.step("obfs4proxy of ours, lyrebird of tor", || {
            world.their_client("otl", 29, ours.line(Some("obfs4")));
        });
    }
    steps.step("obfs4 has handed both on by the Extended ORPort", || {
        let log = std::fs::read_to_string(world.dir.join("ourbridge/log")).unwrap();
        let lines = log.lines();
        let handed = lines.filter(|line| line.contains("comes by the Extended ORPort"));
        let of_obfs4 = handed.filter(|line| line.contains("obfs4")).count();
        assert!(of_obfs4 >= 2, "{of_obfs4}");
    });
}

struct World<'a> {
    network: &'a Network,
    dir: &'a Path,
    server: SocketAddr,
    has_obfs4: bool,
    /// The program of clients.
    obfs4_of_clients: &'a str,
}

/// The path of a program, if it is in the PATH; it is said if not.
pub(crate) fn path_of(program: &str) -> Option<String> {
    let mut shell = Command::new("sh");
    let found = shell
        .args(["-c", &format!("command -v {program}")])
        .output();
    let path = String::from_utf8(found.unwrap().stdout).unwrap();
    let path = Some(path.trim().to_owned()).filter(|path| !path.is_empty());
    if path.is_none() {
        println!("skipped: {program} is not here");
    }
    path
}

/// The lines of a bridge of `tor`.
struct Lines {
    plain: String,
    obfs4: Option<String>,
}

/// A line without its fingerprint, the last word of a plain one.
fn nameless(line: &str) -> String {
    line.rsplit_once(' ').unwrap().0.to_owned()
}

impl World<'_> {
    fn our_bridge(&self) -> Bridge {
        let network = &self.network;
        let (port, obfs4) = (network.spare(0), network.spare(1));
        let mut more = format!("address = \"{OURS}\"\nor_port = {port}\n");
        if self.has_obfs4 {
            more += &format!(
                "server_transport_plugins = [\"obfs4 exec {OBFS4}\"]\n\
                 server_transport_listen = [\"obfs4 {OURS}:{obfs4}\"]\n\
                 ext_or_port = [\"127.0.0.1:auto\"]\n"
            );
        }
        let lines = 1 + usize::from(self.has_obfs4);
        let file = &network.summary.network;
        Bridge::start_in(None, file, self.dir, "ourbridge", lines, &more)
    }

    fn their_bridge(&self) -> (Tor, Lines) {
        let (port, obfs4) = (self.network.spare(0), self.network.spare(1));
        let mut more = format!(
            "SocksPort 0\nNickname theirbridge\nAddress {THEIRS}\nORPort {THEIRS}:{port}\n\
             BridgeRelay 1\nPublishServerDescriptor 0\nAssumeReachable 1\nExitRelay 0\n\
             ContactInfo a@example.org\n"
        );
        if self.has_obfs4 {
            more += &format!(
                "ServerTransportPlugin obfs4 exec {OBFS4}\nExtORPort auto\n\
                 ServerTransportListenAddr obfs4 {THEIRS}:{obfs4}\n"
            );
        }
        let torrc = torrc_of(self.network, self.dir, "theirbridge", &more);
        let mut tor = Tor::start(&torrc, &["--Log", "notice stdout"]);
        tor.wait_for("Bootstrapped 100%", BOOTSTRAP_MAX);
        let folder = self.dir.join("theirbridge");
        let text = std::fs::read_to_string(folder.join("fingerprint")).unwrap();
        let id = text.split_whitespace().nth(1).unwrap().to_owned();
        let lines = Lines {
            plain: format!("Bridge {THEIRS}:{port} {id}"),
            obfs4: self.has_obfs4.then(|| {
                let path = folder.join("pt_state/obfs4_bridgeline.txt");
                until(BOOTSTRAP_MAX, "the line of obfs4", || {
                    let text = std::fs::read_to_string(&path).ok()?;
                    let line = text.lines().find(|line| line.starts_with("Bridge obfs4"))?;
                    let place = format!("{THEIRS}:{obfs4}");
                    let line = line.replace("<IP ADDRESS>:<PORT>", &place);
                    Some(line.replace("<FINGERPRINT>", &id))
                })
            }),
        };
        (tor, lines)
    }

    /// A client of ours fetches over bridges, and is connected to nothing else.
    fn our_client(&self, name: &str, place: u16, lines: &[&str]) {
        let socks = self.network.local(place);
        let quoted: Vec<String> = lines.iter().map(|line| format!("{line:?}")).collect();
        let plugin = match self.has_obfs4 {
            true => format!(
                "transport_plugins = [\"obfs4 exec {}\"]\n",
                self.obfs4_of_clients
            ),
            false => String::new(),
        };
        let more = format!(
            "bridges = [{}]\n{plugin}[log]\nlevel = \"debug\"\nfile = \"{name}/log\"\n",
            quoted.join(", ")
        );
        std::fs::create_dir_all(self.dir.join(name)).unwrap();
        let file = &self.network.summary.network;
        let client = Client::start(file, self.dir, name, socks, &more);
        self.fetches(socks);
        let is_elsewhere = |peer: &SocketAddr| {
            let mut ours = lines.iter().filter(|line| !line.contains("obfs4"));
            let is_bridge = ours.any(|line| line.contains(&peer.to_string()));
            let is_transport = peer.ip() == std::net::Ipv4Addr::LOCALHOST;
            !is_bridge && !is_transport
        };
        let peers = peers_of(client.process.0.id());
        let elsewhere: Vec<_> = peers.into_iter().filter(is_elsewhere).collect();
        assert!(elsewhere.is_empty(), "{elsewhere:?}");
    }

    /// A client of `tor` fetches over a bridge.
    fn their_client(&self, name: &str, place: u16, line: &str) {
        let socks = self.network.local(place);
        let plugin = match line.contains("obfs4") {
            true => format!(
                "ClientTransportPlugin obfs4 exec {}\n",
                self.obfs4_of_clients
            ),
            false => String::new(),
        };
        let more = format!("SocksPort {socks}\nUseBridges 1\n{line}\n{plugin}");
        let torrc = torrc_of(self.network, self.dir, name, &more);
        let info = format!("info file {}", self.dir.join(name).join("info").display());
        let mut tor = Tor::start(&torrc, &["--Log", "notice stdout", "--Log", &info]);
        tor.wait_for("Bootstrapped 100%", BOOTSTRAP_MAX);
        self.fetches(socks);
    }

    fn fetches(&self, socks: SocketAddr) {
        let fetched = fetch::get(socks, self.server, &format!("/bytes/{BYTES}")).unwrap();
        assert_eq!(fetched.sha256, server::sha256_of(BYTES));
    }
}

/// A torrc of the network with other lines, and a folder of its name.
pub(crate) fn torrc_of(network: &Network, dir: &Path, name: &str, more: &str) -> PathBuf {
    let folder = dir.join(name);
    let mut private = std::fs::DirBuilder::new();
    private.mode(0o700).create(&folder).unwrap();
    let base = std::fs::read_to_string(network.folder.join("torrc")).unwrap();
    let own = ["SocksPort", "DataDirectory", "ControlPort"];
    let kept = base
        .lines()
        .filter(|line| !own.iter().any(|word| line.starts_with(word)));
    let mut text: String = kept.flat_map(|line| [line, "\n"]).collect();
    text.push_str(&format!("DataDirectory {}\n{more}", folder.display()));
    let path = dir.join(format!("{name}.torrc"));
    std::fs::write(&path, text).unwrap();
    path
}
