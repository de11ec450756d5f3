//! A network that mixes `tor` and us, and what tests add to it: relays of ours, clients of both.
//!
//! `World::up` starts it by `cepa testnet up --with tor:...`. All its `tor` log at info, with
//! ProtocolWarnings, so that a test can say that none of them complained about us.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cepa_testnet::NodeSummary;

use crate::support::client::{Client, wait_for};
use crate::support::documents::{Seen, consensus};
use crate::support::fetch::metrics;
use crate::support::network::Network;
use crate::support::processes::{Process, start_relay};
use crate::support::until;
use crate::tor::Tor;

/// How long `tor` may take to bootstrap.
pub(crate) const BOOTSTRAP_MAX: Duration = Duration::from_secs(120);
/// How long it may take until relays that were added are in a consensus.
const LISTED_MAX: Duration = Duration::from_secs(90);
/// What each `tor` has in its `torrc` for the sake of tests; the file is in its own folder.
const TORRC: &str = "\
ProtocolWarnings 1
Log info file info
MetricsPort {address}:{spare_port}
MetricsPortPolicy accept 127.0.0.0/8
";
/// From the first port of the network, the one that is spare.
const METRICS_PORT: u16 = 3;
/// Seconds between two consensuses: the shortest that `tor` takes.
pub(crate) const INTERVAL_SECS: u64 = 10;

/// A network, and the folder of what is added to it.
pub(crate) struct World {
    /// The network itself.
    pub(crate) network: Network,
    dir: PathBuf,
    /// How long the logs of `tor` were when the network had come up.
    settled: BTreeMap<PathBuf, usize>,
}

/// A relay of ours that was added; it ends with this.
pub(crate) struct Ours(Process);

impl Ours {
    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.0.0.id()
    }
}

impl World {
    /// Starts a network in `dir`; `more` are lines for each `torrc`, `args` say what it is made of,
    /// and how long its rounds are if not [`INTERVAL_SECS`].
    pub(crate) fn up(dir: &Path, more: &str, args: &[&str]) -> Self {
        let torrc = dir.join("more.torrc");
        std::fs::write(&torrc, format!("{TORRC}{more}")).unwrap();
        let torrc = torrc.display().to_string();
        let interval = INTERVAL_SECS.to_string();
        let mut all = vec!["--torrc", &torrc];
        if !args.contains(&"--interval") {
            all.extend(["--interval", &interval]);
        }
        all.extend(args);
        let network = Network::up(&dir.join("net"), &all);
        let mut world = Self {
            network,
            dir: dir.to_owned(),
            settled: BTreeMap::new(),
        };
        world.settle();
        world
    }

    /// What any `tor` has complained about before does not count: authorities that are started
    /// in the middle of a round miss votes of each other, whosever they are.
    pub(crate) fn settle(&mut self) {
        let logs = self.tor_logs().into_iter();
        let len = |log: &Path| std::fs::read(log).map_or(0, |text| text.len());
        self.settled = logs.map(|log| (log.clone(), len(&log))).collect();
    }

    /// The directory ports of its authorities.
    pub(crate) fn dirs(&self) -> Vec<SocketAddr> {
        let nodes = self.network.summary.nodes.iter();
        nodes.filter_map(|node| node.dir).collect()
    }

    /// Its nodes of a program that are relays.
    pub(crate) fn relays(&self, program: &str) -> Vec<&NodeSummary> {
        let nodes = self.network.summary.nodes.iter();
        let nodes = nodes.filter(|node| node.or.is_some() && node.program == program);
        nodes.collect()
    }

    /// The OR port of all its relays, each on an address of its own.
    fn or_port(&self) -> u16 {
        self.network.summary.base_port
    }

    /// A port on 127.0.0.1 that nothing else of this world uses.
    pub(crate) fn socks(&self, place: u16) -> SocketAddr {
        self.network.local(place)
    }

    /// Where a client or relay that is added has its files.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A relay of ours at 127.NUMBER.0.1 with these further lines, once it has published. If the
    /// lines say where it listens, it is left to learn its address from the authorities.
    pub(crate) fn relay(&self, name: &str, number: u8, more: &str) -> Ours {
        let network = self.network.summary.network.display();
        let address = match more.contains("listen = ") {
            true => String::new(),
            false => format!("address = \"127.{number}.0.1\""),
        };
        let text = format!(
            "nickname = \"{name}\"\ncontact = \"{name}@example.org\"\n\
             {address}\nor_port = {}\ndata_dir = \"{name}\"\n\
             network = \"{network}\"\ntesting = true\n{more}\n\
             [log]\nlevel = \"debug\"\nfile = \"{name}/log\"\n",
            self.or_port()
        );
        std::fs::create_dir_all(self.folder(name)).unwrap();
        let config = self.dir.join(format!("{name}.toml"));
        std::fs::write(&config, text).unwrap();
        let mut process = start_relay(None, &config);
        wait_for(&mut process.0, "published");
        Ours(process)
    }

    /// The identity of a relay that is yet to be started, in a folder made by `tor`.
    pub(crate) fn made_by_tor(&self, name: &str) -> String {
        let mut list = Command::new("tor");
        list.args(["--quiet", "--list-fingerprint", "--orport", "1", "-f", "-"]);
        // In a network without authorities it lists nothing.
        let nobody = "x 127.0.0.1:1 ffffffffffffffffffffffffffffffffffffffff";
        list.args(["--dirauthority", nobody, "--datadirectory"])
            .arg(self.folder(name));
        let output = list.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        self.fingerprint(name)
    }

    /// Waits until all authorities list so many relays more than the network began with, and then
    /// for the next consensus: exits refuse streams of relays that are in none they know.
    pub(crate) fn wait_for(&self, more: usize) -> Seen {
        let relays = self.relays("cepa").len() + self.relays("tor").len() + more;
        let next_after = |valid_after: &str| {
            until(LISTED_MAX, "a consensus with all relays", || {
                let seen = consensus(self.dirs()[0])?;
                let is_later = seen.valid_after.as_str() > valid_after;
                (is_later && seen.relays >= relays).then_some(seen)
            })
        };
        let first = next_after("");
        next_after(&first.valid_after)
    }

    /// A client of ours with these further lines, once it has bootstrapped, and its SOCKS port.
    pub(crate) fn client(&self, name: &str, place: u16, more: &str) -> (Client, SocketAddr) {
        self.client_of(&self.network.summary.network, name, place, more)
    }

    /// The same of another network file.
    pub(crate) fn client_of(
        &self,
        network: &Path,
        name: &str,
        place: u16,
        more: &str,
    ) -> (Client, SocketAddr) {
        let socks = self.socks(place);
        std::fs::create_dir_all(self.folder(name)).unwrap();
        let more = format!("{more}\n[log]\nlevel = \"debug\"\nfile = \"{name}/log\"\n");
        let client = Client::start(network, &self.dir, name, socks, &more);
        (client, socks)
    }

    /// A network file whose authorities do not answer clients, with this relay as a fallback.
    pub(crate) fn network_by(&self, fallback: &NodeSummary) -> PathBuf {
        let text = std::fs::read_to_string(&self.network.summary.network).unwrap();
        let line = |line: &str| match line.starts_with("or = ") {
            true => line.replace(&format!(":{}\"", self.or_port()), ":9\"") + "\n",
            false => format!("{line}\n"),
        };
        let lines = text.lines().filter(|line| *line != "fallback = []");
        let mut text: String = lines.map(line).collect();
        let (rsa, or) = (fallback.rsa.as_ref().unwrap(), fallback.or.unwrap());
        text.push_str(&format!("[[fallback]]\nrsa = \"{rsa}\"\nor = \"{or}\"\n"));
        let path = self.dir.join("network-by-fallback.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A relay of `tor` at 127.NUMBER.0.1 with these further lines, once its port is open.
    pub(crate) fn tor_relay(&self, name: &str, number: u8, more: &str) -> Tor {
        let (ip, port) = (format!("127.{number}.0.1"), self.or_port());
        let lines = format!(
            "Nickname {name}\nContactInfo {name}@example.org\nAddress {ip}\n\
             ORPort {ip}:{port}\nAssumeReachable 1\nExitRelay 0\n{more}"
        );
        let (mut tor, _) = self.tor_client_starts(name, 0, &format!("SocksPort 0\n{lines}"));
        tor.wait_for("Opened OR listener", BOOTSTRAP_MAX);
        tor
    }

    /// A `tor` client with these further lines in its `torrc`, once it has bootstrapped.
    pub(crate) fn tor_client(&self, name: &str, place: u16, more: &str) -> (Tor, SocketAddr) {
        let (tor, socks) = self.tor_client_starts(name, place, more);
        let mut tor = tor;
        tor.wait_for("Bootstrapped 100%", BOOTSTRAP_MAX);
        (tor, socks)
    }

    /// A `tor` client that knows no directory but a relay of ours, once it has bootstrapped.
    pub(crate) fn tor_client_by(
        &self,
        name: &str,
        place: u16,
        relay: &str,
        more: &str,
    ) -> (Tor, SocketAddr) {
        let (id, or) = (self.rsa(relay), self.address(relay));
        let (ip, port) = (or.ip(), or.port());
        let lines =
            format!("#no authority answers\nFallbackDir {ip}:9 orport={port} id={id}\n{more}");
        self.tor_client(name, place, &lines)
    }

    /// The same before it has bootstrapped.
    pub(crate) fn tor_client_starts(
        &self,
        name: &str,
        place: u16,
        more: &str,
    ) -> (Tor, SocketAddr) {
        let (path, socks) = self.tor_client_file(name, place, more);
        (Tor::start(&path, &[]), socks)
    }

    /// Its `torrc`.
    pub(crate) fn tor_client_file(
        &self,
        name: &str,
        place: u16,
        more: &str,
    ) -> (PathBuf, SocketAddr) {
        let socks = self.socks(place);
        let folder = self.folder(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&folder, mode).unwrap();
        let base = std::fs::read_to_string(self.network.folder.join("torrc")).unwrap();
        let kept = base
            .lines()
            .filter(|line| !line.starts_with("SocksPort") && !line.starts_with("DataDirectory"));
        let mut text: String = kept.flat_map(|line| [line, "\n"]).collect();
        if more.starts_with("#no authority answers") {
            text = text.replace(&format!("orport={}", self.or_port()), "orport=9");
        }
        let port = match more.contains("SocksPort") {
            true => String::new(),
            false => format!("SocksPort {socks}\n"),
        };
        text.push_str(&format!(
            "DataDirectory {0}\n{port}Log info file {0}/info\nProtocolWarnings 1\n\
             {1}\n",
            folder.display(),
            self.by_identity(more),
        ));
        let path = self.dir.join(format!("{name}.torrc"));
        std::fs::write(&path, text).unwrap();
        (path, socks)
    }

    /// Lines that name relays, with their identities instead: `tor` warns of names.
    fn by_identity(&self, lines: &str) -> String {
        let one = |word: &str| format!("${}", self.rsa(word));
        let line = |line: &str| match line.split_once(' ') {
            Some((keyword, name)) if keyword.ends_with("Nodes") => {
                format!("{keyword} {}\n", one(name))
            }
            _ => format!("{line}\n"),
        };
        lines.lines().map(line).collect()
    }

    /// The identity of a relay that was added.
    pub(crate) fn fingerprint(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.folder(name).join("fingerprint")).unwrap();
        text.split_whitespace().nth(1).unwrap().to_owned()
    }

    /// The OR port of a relay of the network, or of one of ours that was added.
    pub(crate) fn address(&self, nickname: &str) -> SocketAddr {
        let mut nodes = self.network.summary.nodes.iter();
        if let Some(node) = nodes.find(|node| node.nickname == nickname) {
            return node.or.unwrap();
        }
        let config = self.dir.join(format!("{nickname}.toml"));
        let text = std::fs::read_to_string(config).unwrap();
        let address = text
            .lines()
            .find_map(|line| line.strip_prefix("address = \""));
        let ip = address.unwrap().trim_end_matches('"').parse().unwrap();
        SocketAddr::new(ip, self.or_port())
    }

    /// The identity of a relay of the network, or of one that was added.
    pub(crate) fn rsa(&self, nickname: &str) -> String {
        let mut nodes = self.network.summary.nodes.iter();
        let node = nodes.find(|node| node.nickname == nickname);
        node.map_or_else(
            || self.fingerprint(nickname),
            |node| node.rsa.clone().unwrap(),
        )
    }

    /// The log of a node that was added, or of one of ours in the network; at info of `tor`.
    pub(crate) fn log(&self, name: &str) -> String {
        let files = [
            self.folder(name).join("info"),
            self.folder(name).join("log"),
            self.network.folder.join(name).join("log"),
        ];
        let mut texts = files
            .iter()
            .filter_map(|file| std::fs::read_to_string(file).ok());
        texts.next().unwrap_or_default()
    }

    /// The log at info of a `tor` of the network.
    pub(crate) fn tor_log(&self, nickname: &str) -> String {
        let path = self.network.folder.join(nickname).join("info");
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// A counter of a `tor` relay: all that its name and these words in its labels sum up to.
    pub(crate) fn counted(&self, relay: &NodeSummary, name: &str, labels: &[&str]) -> u64 {
        let port = self.network.summary.base_port + METRICS_PORT;
        let text = metrics(SocketAddr::new(relay.or.unwrap().ip(), port)).unwrap();
        let lines = text.lines().filter(|line| {
            line.starts_with(name) && labels.iter().all(|label| line.contains(label))
        });
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        values.sum()
    }

    /// Warnings of any `tor` here that name one of ours: by address, nickname or identity.
    pub(crate) fn complaints(&self, added: &[(&str, u8)]) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for node in self.relays("cepa") {
            names.push(node.or.unwrap().ip().to_string());
            names.push(format!("{} ", node.nickname));
            names.extend(node.rsa.clone());
        }
        for (name, number) in added {
            names.push(format!("127.{number}.0.1"));
            names.push((*name).to_owned());
            let file = self.folder(name).join("fingerprint");
            let text = std::fs::read_to_string(file).unwrap_or_default();
            names.extend(text.split(' ').nth(1).map(|id| id.trim().to_owned()));
        }
        let mut found = Vec::new();
        for log in self.tor_logs() {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let text = &text[self.settled.get(&log).copied().unwrap_or(0)..];
            let warnings = text.lines().filter(|line| is_warning(line));
            let named = warnings.filter(|line| names.iter().any(|name| line.contains(name)));
            found.extend(named.map(|line| format!("{}: {line}", log.display())));
        }
        found
    }

    /// The logs at info of each `tor` of the network and beside it.
    fn tor_logs(&self) -> Vec<PathBuf> {
        let mut logs = Vec::new();
        for parent in [&self.network.folder, &self.dir] {
            let folders = std::fs::read_dir(parent).unwrap().flatten();
            logs.extend(folders.map(|entry| entry.path().join("info")));
        }
        logs.retain(|log| log.exists());
        logs
    }
}

/// Whether a line of `tor`'s log is a complaint.
fn is_warning(line: &str) -> bool {
    let is_loud = line.contains("[warn]") || line.contains("[err]");
    // Before the first consensus there is none to give.
    is_loud && !line.contains("404 (\"Not found\")") && !line.contains("while fetching consensus")
}
