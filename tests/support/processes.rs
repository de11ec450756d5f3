//! Processes that a test has started: signals to them by their ids, and their ends.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit, test_kill_process,
};

use super::network::command_in;

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

/// A relay of ours by its configuration, as a launcher starts it, in a namespace or none: it tells
/// its stages to its output, and ends with its input.
pub(crate) fn start_relay(space: Option<&str>, config: &Path) -> Process {
    let mut command = command_in(space);
    command.arg("relay").arg("--config").arg(config);
    command.arg("--launched");
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    Process(child.unwrap())
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

/// The TCP connections of a process (proc(5)), by their far ends: IPv4, established.
pub(crate) fn peers_of(pid: u32) -> BTreeSet<SocketAddr> {
    let all = sockets_of(pid).into_iter();
    all.filter_map(|(peer, state)| (state == "01").then_some(peer))
        .collect()
}

/// The same with those that are being opened or closed, each with its state as the kernel has it.
pub(crate) fn sockets_of(pid: u32) -> Vec<(SocketAddr, String)> {
    let all = tcp_of(pid).into_iter();
    all.map(|(_, peer, state)| (peer, state)).collect()
}

/// The TCP sockets of a process: the near end, the far end, the state.
pub(crate) fn tcp_of(pid: u32) -> Vec<(SocketAddr, SocketAddr, String)> {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let inodes: BTreeSet<String> = links
        .filter_map(|link| std::fs::read_link(link.ok()?.path()).ok())
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect();
    // That of its network namespace.
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let end = |field: &str| {
        let (ip, port) = field.split_once(':')?;
        let ip = u32::from_str_radix(ip, 16).ok()?.to_ne_bytes();
        Some(SocketAddr::from((ip, u16::from_str_radix(port, 16).ok()?)))
    };
    let socket = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_its = inodes.contains(*fields.get(9)?);
        let state = fields.get(3).filter(|_| is_its)?;
        Some((
            end(fields.get(1)?)?,
            end(fields.get(2)?)?,
            (*state).to_owned(),
        ))
    };
    table.lines().skip(1).filter_map(socket).collect()
}

/// Lets a process open so many descriptors more than it has; all that it may, without a number.
pub(crate) fn descriptors_left(pid: u32, left: Option<u64>) {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count() as u64;
    // The hard limit stays as it is: ours, which it was started with.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = left.map_or(maximum, |left| Some(open + left));
    let limit = Rlimit { current, maximum };
    prlimit(Some(raw(pid)), Resource::Nofile, limit).unwrap();
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
