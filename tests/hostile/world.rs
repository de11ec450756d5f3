//! The network under attack, an honest user of it, and what the attacker has read of it.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cepa_netdoc::descriptor::{ServerDescriptor, split_descriptors};
use cepa_testnet::NodeSummary;

use crate::attacker::Sources;
use crate::attacker::circuit::{self, Circuit, Target};
use crate::attacker::link::Link;
use crate::support::client::Client;
use crate::support::documents::consensus;
use crate::support::fetch::{self, document};
use crate::support::network::{Network, measured};
use crate::support::processes::Process;
use crate::support::{now, server, until};
use crate::trial::Trial;

/// The relay that the honest user enters by, and that it leaves by.
pub(crate) const GUARD: &str = "relay1";
pub(crate) const EXIT: &str = "exit1";
/// What the honest user fetches, in bytes.
const PAGE_LEN: u64 = 20_000;
/// How long two voting rounds may take on a busy machine.
const ROUNDS_MAX: Duration = Duration::from_secs(90);
/// How long a thing may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// How long descriptors may take to reach an authority.
const KNOWN_MAX: Duration = Duration::from_secs(60);

/// A running network with its honest user.
pub(crate) struct World {
    pub(crate) network: Network,
    /// Where honest people fetch from.
    pub(crate) server: SocketAddr,
    /// What descriptors say, by nickname.
    pub(crate) targets: BTreeMap<String, Target>,
    /// When it was started.
    pub(crate) started: Instant,
    honest: Option<(Client, SocketAddr)>,
    folder: PathBuf,
}

impl World {
    /// Starts a network.
    pub(crate) fn up(folder: PathBuf, plan: &[&str]) -> Self {
        let network = Network::up(&folder.join("net"), plan);
        let relays = network.summary.nodes.iter();
        let count = relays.filter(|node| node.or.is_some()).count();
        let dir = network.nodes("authority")[0].dir.unwrap();
        let targets = until(KNOWN_MAX, "the descriptors of all relays", || {
            let targets = targets(&document(dir, "/tor/server/all")?);
            (targets.len() >= count).then_some(targets)
        });
        Self {
            network,
            server: server::start(),
            targets,
            started: now(),
            honest: None,
            folder,
        }
    }

    /// Adds the honest user, whose paths begin at [`GUARD`] and end at [`EXIT`].
    pub(crate) fn with_user(mut self) -> Self {
        let rules = format!(
            "outbound_bind_address = \"{}\"\n\
             [paths]\nentry = [\"{GUARD}\"]\nexit = [\"{EXIT}\"]\n",
            Sources::claim().one()
        );
        let socks = self.network.local(0);
        let network = &self.network.summary.network;
        let client = Client::start(network, &self.folder, "honest", socks, &rules);
        self.honest = Some((client, socks));
        self
    }

    /// A node.
    pub(crate) fn node(&self, nickname: &str) -> &NodeSummary {
        let mut nodes = self.network.summary.nodes.iter();
        nodes.find(|node| node.nickname == nickname).unwrap()
    }

    /// What the attacker knows of it.
    pub(crate) fn target(&self, nickname: &str) -> &Target {
        &self.targets[nickname]
    }

    /// A folder for a test's own files.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// The SOCKS port of the honest user.
    pub(crate) fn user(&self) -> SocketAddr {
        self.honest.as_ref().unwrap().1
    }

    /// The honest user fetches a page over a circuit of its own; says how long it took.
    pub(crate) fn fetch(&self) -> Result<Duration, String> {
        let started = now();
        let user = format!("{}", started.duration_since(self.started).as_nanos());
        let host = self.server.ip().to_string();
        let target = (host.as_str(), self.server.port());
        let path = format!("/bytes/{PAGE_LEN}");
        let fetched = fetch::fetch_from(self.user(), Some(&user), target, &path);
        match fetched {
            Ok(page) if page.len == PAGE_LEN => Ok(now().duration_since(started)),
            other => Err(format!("{other:?}")),
        }
    }

    /// The DirPorts of its authorities.
    pub(crate) fn dirs(&self) -> Vec<SocketAddr> {
        let authorities = self.network.nodes("authority").into_iter();
        authorities.filter_map(|node| node.dir).collect()
    }

    /// Since when each authority's consensus is valid.
    pub(crate) fn valid_after(&self) -> Vec<String> {
        let seen = self.dirs().into_iter().map(|dir| {
            let seen = until(ROUNDS_MAX, "a consensus", || consensus(dir));
            seen.valid_after
        });
        seen.collect()
    }

    /// Waits until each authority has a consensus of two rounds later, that all have signed.
    pub(crate) fn two_rounds_after(&self, before: &[String]) {
        let dirs = self.dirs();
        let mut last = before.iter().max().unwrap().clone();
        for _ in 0..2 {
            // What the first has seen, the others are to have as well.
            let mut round: Option<String> = None;
            for dir in &dirs {
                let seen = until(ROUNDS_MAX, "two rounds of all authorities", || {
                    let seen = consensus(*dir)?;
                    let is_due = match &round {
                        Some(round) => seen.valid_after >= *round,
                        None => seen.valid_after > last,
                    };
                    (is_due && seen.signers.len() == dirs.len()).then_some(seen.valid_after)
                });
                round.get_or_insert(seen);
            }
            last = round.unwrap();
        }
    }

    /// Waits until a relay has a consensus: what other relays and what rules there are it learns by
    /// that.
    pub(crate) fn informed(&self, nickname: &str) {
        let (path, or) = (
            "/tor/status-vote/current/consensus",
            self.target(nickname).or,
        );
        until(ROUNDS_MAX, "a relay with a consensus", || {
            let answer = circuit::ask(HONEST, or, path)?;
            (answer.status == 200).then_some(())
        });
    }

    /// The vote of an authority, by its place.
    pub(crate) fn vote(&self, number: usize) -> String {
        let dir = self.dirs()[number];
        until(ROUNDS_MAX, "a vote", || {
            document(dir, "/tor/status-vote/current/authority")
        })
    }

    /// Starts a relay beside the network's, with at most so many descriptors, and further lines in
    /// its configuration; waits until it listens. It finds no authority: once it has ended, nobody
    /// misses it.
    pub(crate) fn solo(&self, nickname: &str, or: SocketAddr, fds: u32, more: &str) -> Solo {
        let text = std::fs::read_to_string(&self.network.summary.network).unwrap();
        let unreachable = |text: String, (port, dir): (u16, SocketAddr)| {
            text.replace(&format!("\"{dir}\""), &format!("\"{}:{port}\"", dir.ip()))
        };
        let text = (1..).zip(self.dirs()).fold(text, unreachable);
        let network = self.folder(nickname).join("network.toml");
        std::fs::write(&network, text).unwrap();
        self.solo_of(&network, nickname, or, fds, more)
    }

    /// The same, which believes in another `network.toml`.
    pub(crate) fn solo_of(
        &self,
        network: &Path,
        nickname: &str,
        or: SocketAddr,
        fds: u32,
        more: &str,
    ) -> Solo {
        let folder = self.folder(nickname);
        let config = folder.join("cepa.toml");
        let text = format!(
            "nickname = \"{nickname}\"\naddress = \"{}\"\nor_port = {}\ndata_dir = \"data\"\n\
             network = \"{}\"\ntesting = true\nworkers = 1\n{more}\n[log]\nfile = \"{}\"\n",
            or.ip(),
            or.port(),
            network.display(),
            folder.join("log").display(),
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("sh");
        // The limit is the shell's, which becomes the relay.
        let script = format!("ulimit -n {fds}; exec \"$0\" relay --config \"$1\" --launched");
        command.args(["-c", &script, &measured()]).arg(&config);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = Process(child.unwrap());
        let output = process.0.stdout.as_mut().unwrap();
        let mut lines = std::io::BufReader::new(output).lines();
        assert!(lines.next().is_some(), "{nickname} has ended");
        Solo { process, or }
    }
}

impl World {
    /// A trial whose honest people are newcomers to that relay.
    pub(crate) fn newcomers(&self, name: &'static str, victim: &str) -> Trial<'_> {
        let (pid, target) = (self.node(victim).pid.unwrap(), self.target(victim));
        Trial::begin(name, pid, Box::new(|| newcomer(target.or, Some(target))))
    }

    /// A trial of the user, who fetches over the network.
    pub(crate) fn users(&self, name: &'static str) -> Trial<'_> {
        let pid = self.honest.as_ref().unwrap().0.process.0.id();
        Trial::begin(name, pid, Box::new(|| self.fetch()))
    }

    /// A trial whose honest people fetch over the network.
    pub(crate) fn fetchers(&self, name: &'static str, victim: &str) -> Trial<'_> {
        let pid = self.node(victim).pid.unwrap();
        Trial::begin(name, pid, Box::new(|| self.fetch()))
    }
}

/// A relay beside the network's; it ends with this.
pub(crate) struct Solo {
    pub(crate) process: Process,
    pub(crate) or: SocketAddr,
}

impl Solo {
    /// What it says of itself.
    pub(crate) fn target(&self) -> Target {
        until(KNOWN_MAX, "its own descriptor", || {
            let answer = circuit::ask(HONEST, self.or, "/tor/server/authority")?;
            let all = targets(&String::from_utf8_lossy(&answer.body));
            all.into_values().next()
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }
}

/// What all descriptors of a reply say.
fn targets(text: &str) -> BTreeMap<String, Target> {
    let read = |text| {
        let descriptor = ServerDescriptor::parse(text).ok()?;
        let target = Target {
            or: descriptor.or_address.into(),
            rsa: descriptor.identity,
            ed: descriptor.ed25519,
            ntor: descriptor.ntor_onion_key,
        };
        Some((descriptor.nickname, target))
    };
    split_descriptors(text).filter_map(read).collect()
}

/// Where honest newcomers come from.
pub(crate) const HONEST: Ipv4Addr = Ipv4Addr::new(127, 126, 0, 9);

/// A newcomer opens a link to a relay and a circuit of one hop, by CREATE2 if it knows the relay's
/// key; says how long it took.
pub(crate) fn newcomer(or: SocketAddr, key: Option<&Target>) -> Result<Duration, String> {
    let started = now();
    let mut link = Link::open(HONEST, or).map_err(|error| format!("no link: {error}"))?;
    let circuit = match key {
        Some(target) => Circuit::ntor(&mut link, target),
        None => Circuit::fast(&mut link),
    };
    let circuit = circuit.map_err(|error| format!("no circuit: {error:?}"))?;
    let took = now().duration_since(started);
    circuit
        .destroy(&mut link)
        .map_err(|error| error.to_string())?;
    Ok(took)
}
