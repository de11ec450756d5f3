//! A network of ours under test: started by its command, found through its `testnet.json`, stopped.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cepa::ports::BLOCK_PORTS;
use cepa_testnet::{NodeSummary, Summary};
use rustix::process::Signal;

use super::now;
use super::processes::send;

/// The command under test.
pub(crate) const CEPA: &str = env!("CARGO_BIN_EXE_cepa");
/// How long a network may take to stop.
pub(crate) const STOP_MAX: Duration = Duration::from_secs(2);
/// From the first port of a network, the first one that none of its nodes ever has.
const SPARE: u16 = 150;
/// Lines of a log that are shown after a failure, at most.
const LOG_LINES_MAX: usize = 20;

/// What a running node tells of itself as JSON, asked by a command with its data folder.
pub(crate) fn told(command: &[&str], data_dir: &Path) -> serde_json::Value {
    let mut asking = Command::new(CEPA);
    let asking = asking.args(command).arg("--json").arg("--data-dir");
    let output = asking.arg(data_dir).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A network that is ready.
pub(crate) struct Network {
    launcher: Child,
    /// Its folder.
    pub(crate) folder: PathBuf,
    /// What it printed when it was ready.
    pub(crate) printed: Vec<String>,
    /// Its `testnet.json`.
    pub(crate) summary: Summary,
}

impl Network {
    /// Starts a network in `dir` and waits until it is ready.
    pub(crate) fn up(dir: &Path, extra: &[&str]) -> Self {
        Self::up_in(None, dir, extra)
    }

    /// The same in a network namespace.
    pub(crate) fn up_in(space: Option<&str>, dir: &Path, extra: &[&str]) -> Self {
        let mut command = command_in(space);
        command.args(["testnet", "up"]).arg(dir).args(extra);
        Self::up_by(&mut command, dir)
    }

    /// The same by a command; if it says no other, its folder is `dir`.
    pub(crate) fn up_by(command: &mut Command, dir: &Path) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut launcher = command.spawn().unwrap();
        let output = BufReader::new(launcher.stdout.take().unwrap());
        let mut printed = Vec::new();
        for line in output.lines() {
            let line = line.unwrap();
            let is_last = line.starts_with("Ctrl-C");
            printed.push(line);
            if is_last {
                break;
            }
        }
        let is_ready = printed.iter().any(|line| line.starts_with("ready in "));
        let file = printed
            .iter()
            .find_map(|line| line.strip_prefix("network: "));
        let file = file.and_then(|line| line.split_once("/network.toml"));
        let folder = file.map_or_else(|| dir.to_owned(), |(folder, _)| folder.into());
        let summary = std::fs::read_to_string(folder.join("testnet.json")).unwrap_or_default();
        let network = Self {
            launcher,
            folder,
            printed,
            summary: serde_json::from_str(&summary).unwrap(),
        };
        if !is_ready {
            network.show_logs();
        }
        assert!(is_ready, "not ready: {:?}", network.printed);
        network
    }

    /// The line with this word that was printed.
    pub(crate) fn line(&self, word: &str) -> &str {
        let found = self.printed.iter().find(|line| line.contains(word));
        found.unwrap_or_else(|| panic!("no {word}: {:?}", self.printed))
    }

    /// A port of its block that it has no use for, on whichever address: `place` is below 50, and
    /// a test gives each away once.
    pub(crate) fn spare(&self, place: u16) -> u16 {
        assert!(SPARE + place < BLOCK_PORTS);
        self.summary.base_port + SPARE + place
    }

    /// The same on 127.0.0.1, for what listens for people.
    pub(crate) fn local(&self, place: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.spare(place)))
    }

    /// Its first SOCKS port.
    pub(crate) fn socks(&self) -> SocketAddr {
        self.summary.socks[0]
    }

    /// Its nodes of a role.
    pub(crate) fn nodes(&self, role: &str) -> Vec<&NodeSummary> {
        let nodes = self.summary.nodes.iter();
        nodes.filter(|node| node.role == role).collect()
    }

    /// The process ids of its nodes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let nodes = self.summary.nodes.iter();
        nodes.filter_map(|node| node.pid).collect()
    }

    /// Stops it by a signal, and says how long its launcher took.
    pub(crate) fn stop(&mut self, signal: Signal) -> Duration {
        let started = now();
        send(self.launcher.id(), signal);
        self.launcher.wait().unwrap();
        now().duration_since(started)
    }

    /// Prints the end of each node's log that has warnings, for a test that has failed.
    pub(crate) fn show_logs(&self) {
        for node in &self.summary.nodes {
            let text = std::fs::read_to_string(&node.log).unwrap_or_default();
            let bad = |line: &&str| {
                ["WARN", "ERROR", "panicked"]
                    .iter()
                    .any(|w| line.contains(w))
            };
            let lines: Vec<_> = text.lines().filter(bad).collect();
            let first = lines.len().saturating_sub(LOG_LINES_MAX);
            for line in &lines[first..] {
                println!("{}: {line}", node.nickname);
            }
        }
    }
}

/// The command that nodes are started with: the one under test, or another build to be measured.
pub(crate) fn measured() -> String {
    std::env::var("CEPA_MEASURED").unwrap_or_else(|_| CEPA.to_owned())
}

/// The command under test, in a network namespace if one is given.
pub(crate) fn command_in(space: Option<&str>) -> Command {
    let Some(space) = space else {
        return Command::new(measured());
    };
    let mut command = Command::new("ip");
    command.args(["netns", "exec", space, &measured()]);
    command
}

impl Drop for Network {
    fn drop(&mut self) {
        let status = self.launcher.try_wait();
        if status.is_ok_and(|status| status.is_none()) {
            self.stop(Signal::TERM);
        }
    }
}
