//! The nodes of a network as child processes: started, listened to, and stopped.
//!
//! A node reads its end from its standard input (`launched`), so that none outlives the launcher,
//! however that ended. Each is a process group of its own: Ctrl-C reaches the launcher only, which
//! then stops them in order.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::planned::PlannedNode;
use super::tor;
use crate::error::Failure;
use crate::launched::{STATUS_PREFIX, Stage};
use crate::listen;

/// How long a node may take to end before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_millis(1500);
/// Reports that may wait to be read.
const EVENTS_MAX: usize = 1024;

/// What a node tells.
pub(super) enum Event {
    /// It has reached a stage.
    Reached {
        /// Its place in the plan.
        node: usize,
        /// The stage.
        stage: Stage,
    },
    /// It has ended.
    Ended {
        /// Its place in the plan.
        node: usize,
        /// How.
        status: String,
    },
}

/// All children.
pub(super) struct Processes {
    pids: Vec<Pid>,
    /// Closed, they end their nodes.
    inputs: Vec<ChildStdin>,
    /// The program of nodes that run `tor`.
    tor: PathBuf,
    /// One task a child: it returns once the child is no more.
    watchers: JoinSet<()>,
    sender: mpsc::Sender<Event>,
    events: mpsc::Receiver<Event>,
}

impl Processes {
    /// None yet.
    pub(super) fn new(tor: PathBuf) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let (pids, inputs) = (Vec::new(), Vec::new());
        Self {
            pids,
            inputs,
            tor,
            watchers: JoinSet::new(),
            sender,
            events,
        }
    }

    /// Starts a node, which has these ports from now on; returns its process id.
    pub(super) fn start(
        &mut self,
        place: usize,
        node: &PlannedNode,
        ports: Vec<TcpListener>,
    ) -> Result<u32, Failure> {
        let wrong =
            |error: std::io::Error| Failure::new("cannot start a node", &node.node.nickname, error);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&node.log)
            .map_err(wrong)?;
        let mut child = self
            .command(node, ports)
            .map_err(wrong)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Before its own log is open, and when it panics.
            .stderr(log.try_clone().map_err(wrong)?)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(wrong)?;
        let id = child.id().unwrap_or_default();
        self.pids
            .extend(i32::try_from(id).ok().and_then(Pid::from_raw));
        self.inputs.extend(child.stdin.take());
        let output = child.stdout.take();
        let ears = Ears {
            place,
            tor: node.is_tor().then(|| (node.clone(), log)),
            sender: self.sender.clone(),
        };
        self.watchers.spawn(watch(child, output, ears));
        Ok(id)
    }

    fn command(&self, node: &PlannedNode, ports: Vec<TcpListener>) -> std::io::Result<Command> {
        let mut command;
        if node.is_tor() {
            // It opens them itself.
            drop(ports);
            command = Command::new(&self.tor);
            command
                .arg("-f")
                .arg(&node.config)
                .current_dir(&node.folder);
            // It looks every few seconds whether this process is still there.
            let us = std::process::id().to_string();
            command.args(["__OwningControllerProcess", &us]);
        } else {
            command = Command::new(std::env::current_exe()?);
            command.arg(node.command()).arg("--config");
            command.arg(&node.config).arg("--launched");
            listen::give(&mut command, ports).map_err(std::io::Error::other)?;
        }
        Ok(command)
    }

    /// The next report. Cancel-safe.
    pub(super) async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            // Never: a sender is here.
            None => std::future::pending().await,
        }
    }

    /// Stops every node: asks, waits a moment, kills, and waits for the last.
    pub(super) async fn stop(&mut self) {
        for pid in &self.pids {
            // One that has ended is as good.
            let _ = kill_process(*pid, Signal::TERM);
        }
        self.inputs.clear();
        self.events.close();
        if tokio::time::timeout(STOP_TIMEOUT, self.all_ended())
            .await
            .is_err()
        {
            // Dropped with its task, a child is killed, and it is waited for below.
            for pid in &self.pids {
                let _ = kill_process(*pid, Signal::KILL);
            }
            self.all_ended().await;
        }
        self.pids.clear();
    }

    async fn all_ended(&mut self) {
        while self.watchers.join_next().await.is_some() {}
    }
}

/// What it takes to understand a child.
struct Ears {
    /// Its place in the plan.
    place: usize,
    /// A `tor`, and the file that keeps what it says.
    tor: Option<(PlannedNode, File)>,
    sender: mpsc::Sender<Event>,
}

impl Ears {
    /// The stage that a line tells, if any.
    async fn hear(&mut self, line: &str) -> Option<Stage> {
        match &mut self.tor {
            Some((node, log)) => {
                // Without its log a node is still watched.
                let _ = writeln!(log, "{line}");
                tor::stage(line, node).await
            }
            None => line.strip_prefix(STATUS_PREFIX)?.parse().ok(),
        }
    }
}

/// Passes on what a child tells, until it has ended.
async fn watch(mut child: Child, output: Option<ChildStdout>, mut ears: Ears) {
    let node = ears.place;
    if let Some(output) = output {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(stage) = ears.hear(&line).await {
                // A launcher that stops reads no more.
                let _ = ears.sender.send(Event::Reached { node, stage }).await;
            }
        }
    }
    let status = child
        .wait()
        .await
        .map_or_else(|error| error.to_string(), describe);
    let _ = ears.sender.send(Event::Ended { node, status }).await;
}

fn describe(status: ExitStatus) -> String {
    status.to_string()
}
