//! A network under measurement: a child that runs `cepa testnet up`, and what it wrote of itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cepa_testnet::{Plan, Summary};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::error::{Failure, fail};
use crate::{clock, terminal};

/// How long a network may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// The SOCKS port of the client that builds circuits, from the network's first port on.
const BUILDER_PORT: u16 = 47;

/// A network that runs.
pub(super) struct Network {
    launcher: Child,
    summary: Summary,
    /// Where its files are.
    pub(super) folder: PathBuf,
    /// From the start of the first process to the first page through three hops.
    pub(super) ready_after: Duration,
}

/// A client of ours beside the network's own.
pub(super) struct Builder {
    /// Its SOCKS port.
    pub(super) socks: SocketAddr,
    /// Killed when this is dropped.
    _process: Child,
}

impl Network {
    /// Starts a fresh network of our program, or else of the peer's, and waits until it is ready.
    pub(super) async fn up(
        folder: &Path,
        base_port: Option<u16>,
        ours: bool,
    ) -> Result<Self, Failure> {
        let wrong = |error| Failure::new("cannot start a network", folder.display(), error);
        if folder.exists() {
            return fail(
                "is there already",
                folder.display(),
                "remove it, or choose another folder by --dir",
            );
        }
        let begin = clock::now().mono;
        let base_port = base_port.map(|port| format!("--base-port={port}"));
        let mut launcher = Command::new(std::env::current_exe().map_err(wrong)?)
            .args(["testnet", "up"])
            .arg(folder)
            .args(base_port)
            .args(if ours { Vec::new() } else { all_tor() })
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(wrong)?;
        if let Some(output) = launcher.stdout.take() {
            let mut lines = BufReader::new(output).lines();
            while let Some(line) = lines.next_line().await.map_err(wrong)? {
                if line.starts_with("ready in ") {
                    break;
                }
            }
            // What it says later must not fill the pipe.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        }
        let ready_after = clock::now().mono.duration_since(begin);
        let summary = std::fs::read(folder.join("testnet.json")).map_err(wrong)?;
        let summary = serde_json::from_slice(&summary)
            .map_err(|error| Failure::new("cannot be read", folder.display(), error))?;
        if launcher.try_wait().map_err(wrong)?.is_some() {
            return fail(
                "the network did not start",
                folder.display(),
                "see what it said above",
            );
        }
        Ok(Self {
            launcher,
            summary,
            folder: folder.to_owned(),
            ready_after,
        })
    }

    /// Stops it.
    pub(super) async fn down(mut self) {
        let pid = self.launcher.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            // One that is gone already is stopped.
            let _ = kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(STOP_TIMEOUT, self.launcher.wait())
            .await
            .is_err()
        {
            terminal::complain("the network does not stop; it is killed");
        }
    }

    /// The SOCKS port of its client.
    pub(super) fn socks(&self) -> Result<SocketAddr, Failure> {
        let socks = self.summary.socks.first().copied();
        socks.ok_or_else(|| Failure::new("has no client", self.folder.display(), "see its logs"))
    }

    /// All its processes.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.summary
            .nodes
            .iter()
            .filter_map(|node| node.pid)
            .collect()
    }

    /// Those of its relays, authorities and exits included.
    pub(super) fn relay_pids(&self) -> Vec<u32> {
        let relays = self.summary.nodes.iter().filter(|node| node.or.is_some());
        relays.filter_map(|node| node.pid).collect()
    }

    /// The nickname and process of a relay that is no exit and no authority.
    pub(super) fn middle(&self) -> Result<(String, u32), Failure> {
        let relay = self.summary.nodes.iter().find(|node| node.role == "relay");
        relay
            .and_then(|relay| Some((relay.nickname.clone(), relay.pid?)))
            .ok_or_else(|| Failure::new("has no relay", self.folder.display(), "see its logs"))
    }

    /// Starts a client of ours whose circuits have this middle hop.
    pub(super) async fn client_through(&self, middle: &str) -> Result<Builder, Failure> {
        let wrong = |error| Failure::new("cannot start a client", self.folder.display(), error);
        let socks = SocketAddr::from(([127, 0, 0, 1], self.summary.base_port + BUILDER_PORT));
        let log = std::fs::File::create(self.folder.join("builder.log")).map_err(wrong)?;
        let process = Command::new(std::env::current_exe().map_err(wrong)?)
            .arg("client")
            .arg("--network")
            .arg(&self.summary.network)
            .arg("--data-dir")
            .arg(self.folder.join("builder"))
            .args(["--socks", &socks.to_string(), "--middle", middle])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(wrong)?;
        Ok(Builder {
            socks,
            _process: process,
        })
    }
}

/// The arguments for a network of the default plan's size, all of it Debian's `tor`.
fn all_tor() -> Vec<String> {
    let plan = Plan::default().ours;
    let with = format!(
        "tor:authority={},tor:relay={},tor:exit={},tor:client={}",
        plan.authorities, plan.relays, plan.exits, plan.clients
    );
    let none = ["--authorities", "--relays", "--exits", "--clients"].map(|role| [role, "0"]);
    let none = none.iter().flatten().map(ToString::to_string);
    none.chain(["--with".to_owned(), with]).collect()
}
