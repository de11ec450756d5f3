//! Processes that a test has started: signals to them by their ids, and their ends.

use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit, test_kill_process};

/// A process that is killed when the test is through with it.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// Starts it, without input.
    pub(crate) fn start(command: &mut Command) -> Self {
        let started = command.stdin(Stdio::null()).spawn();
        Self(started.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal to a process that this test has started.
pub(crate) fn send(pid: u32, signal: Signal) {
    kill_process(raw(pid), signal).unwrap();
}

/// Lets the files of a process grow, or not: as a full disk does, and without the rights of root.
pub(crate) fn disk_takes(pid: u32, takes: bool) {
    let limit = Rlimit {
        current: (!takes).then_some(0),
        maximum: None,
    };
    prlimit(Some(raw(pid)), Resource::Fsize, limit).unwrap();
}

/// Whether a process lives (as more than a zombie).
pub(crate) fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    test_kill_process(raw(pid)).is_ok() && !stat.contains(") Z ")
}

/// The memory of a process that is resident, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() << 10
}

fn raw(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}
