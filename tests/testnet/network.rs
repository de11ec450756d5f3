//! A network under test: started by its command, found through its `testnet.json`, stopped.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use cepa_testnet::Summary;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// The command under test.
pub(crate) const CEPA: &str = env!("CARGO_BIN_EXE_cepa");
/// How long a network may take to stop.
pub(crate) const STOP_MAX: Duration = Duration::from_secs(2);

/// A network that is ready.
pub(crate) struct Network {
    launcher: Child,
    /// What it printed when it was ready.
    pub(crate) printed: Vec<String>,
    /// Its `testnet.json`.
    pub(crate) summary: Summary,
}

impl Network {
    /// Starts a network in `dir` and waits until it is ready.
    pub(crate) fn up(dir: &Path, base_port: u16, extra: &[&str]) -> Self {
        let mut launcher = Command::new(CEPA)
            .args(["testnet", "up"])
            .arg(dir)
            .args(["--base-port", &base_port.to_string()])
            .args(extra)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
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
        assert!(
            printed.iter().any(|line| line.starts_with("ready in ")),
            "not ready: {printed:?}; logs are in {}",
            dir.display()
        );
        let summary = std::fs::read_to_string(dir.join("testnet.json")).unwrap();
        let summary = serde_json::from_str(&summary).unwrap();
        Self {
            launcher,
            printed,
            summary,
        }
    }

    /// The launcher's process id.
    pub(crate) fn launcher(&self) -> u32 {
        self.launcher.id()
    }

    /// The process ids of its nodes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.summary
            .nodes
            .iter()
            .filter_map(|node| node.pid)
            .collect()
    }

    /// Runs curl through its first SOCKS port.
    pub(crate) fn curl(&self, args: &[&str]) -> Output {
        Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                "60",
                "--socks5-hostname",
            ])
            .arg(self.summary.socks[0].to_string())
            .args(args)
            .output()
            .unwrap()
    }

    /// Stops it by a signal, and says how long its launcher took.
    pub(crate) fn stop(&mut self, signal: Signal) -> Duration {
        let started = now();
        send(self.launcher.id(), signal);
        self.launcher.wait().unwrap();
        now().duration_since(started)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if self
            .launcher
            .try_wait()
            .is_ok_and(|status| status.is_none())
        {
            self.stop(Signal::TERM);
        }
    }
}

/// Sends a signal to a process that this test has started.
pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Whether a process lives (as more than a zombie).
pub(crate) fn lives(pid: u32) -> bool {
    let raw = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    test_kill_process(raw).is_ok() && !stat.contains(") Z ")
}

/// The time, for limits of a test.
#[expect(
    clippy::disallowed_methods,
    reason = "a test of processes has the system's clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
