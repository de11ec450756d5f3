//! A disk that fails under nodes that run: it gives errors for a while, or its file system turns
//! read-only and stays so until it is repaired. Nothing ends, pages are served, it is told; what
//! could not be kept is kept once it can be.
//!
//! The disk is a file on a small memory disk: where that has no room, writing fails with EIO. It
//! takes root, `losetup` and `mkfs.ext4`; where they are absent a line says so.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cepa::status::{Question, Subject};
use cepa_testnet::NodeSummary;
use rustix::process::Signal;

use crate::support::network::{CEPA, Network};
use crate::support::processes::lives;
use crate::support::space::run;
use crate::support::{Steps, fetch, server, until};

const PLAN: [&str; 8] = [
    "--authorities",
    "3",
    "--relays",
    "2",
    "--exits",
    "1",
    "--interval",
    "10",
];
/// How long nodes may take to have something to keep, and to keep it.
const ROUNDS_MAX: Duration = Duration::from_secs(120);
/// The memory disk, and the disk on it, which does not fill it.
const OUTER: &str = "size=200m,mode=700";
const INNER_BYTES: u64 = 190 << 20;

#[test]
fn a_failing_disk_ends_nothing() {
    if !can_make_disks() {
        return;
    }
    let mut steps = Steps::default();
    steps.step("a disk gives errors, and recovers", gives_errors);
    steps.step("a disk turns read-only, and is repaired", turns_read_only);
    steps.finish(|| {});
}

fn can_make_disks() -> bool {
    let is_here = |program: &str| Command::new(program).arg("-V").output().is_ok();
    let missing = if !rustix::process::geteuid().is_root() {
        "the rights of root"
    } else if !is_here("losetup") || !is_here("mkfs.ext4") || !is_here("e2fsck") {
        "losetup and mkfs.ext4"
    } else {
        return true;
    };
    println!("not tested: it takes {missing}");
    false
}

/// A disk that can be broken; it ends with this.
struct Disk {
    outer: PathBuf,
    inner: PathBuf,
    options: &'static str,
}

impl Disk {
    fn new(dir: &Path, kind: &str, options: &'static str) -> Self {
        let disk = Disk {
            outer: dir.join("outer"),
            inner: dir.join("inner"),
            options,
        };
        for path in [&disk.outer, &disk.inner] {
            std::fs::create_dir(path).unwrap();
        }
        let mut mount = Command::new("mount");
        run(mount
            .args(["-t", "tmpfs", "-o", OUTER, "tmpfs"])
            .arg(&disk.outer));
        let file = std::fs::File::create(disk.file()).unwrap();
        file.set_len(INNER_BYTES).unwrap();
        run(Command::new(format!("mkfs.{kind}"))
            .args(["-q", "-F"])
            .arg(disk.file()));
        disk.mount();
        disk
    }

    fn file(&self) -> PathBuf {
        self.outer.join("disk")
    }

    fn mount(&self) {
        let options = format!("loop,{}", self.options);
        let mut mount = Command::new("mount");
        run(mount
            .args(["-o", &options])
            .arg(self.file())
            .arg(&self.inner));
    }

    /// What is written from now on fails.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.outer.join("fill")).unwrap();
        for len in [1 << 20, 4096] {
            let block = vec![7; len];
            while std::io::Write::write_all(&mut file, &block).is_ok() {}
        }
    }

    fn empty(&self) {
        std::fs::remove_file(self.outer.join("fill")).unwrap();
    }

    /// The file system finds an error, as it does by itself after one of its device.
    fn find_error(&self) {
        let mut list = Command::new("losetup");
        list.args(["--noheadings", "--output", "NAME", "--associated"]);
        let output = list.arg(self.file()).output().unwrap();
        let device = String::from_utf8(output.stdout).unwrap();
        let name = device.trim().rsplit('/').next().unwrap();
        let trigger = format!("/sys/fs/ext4/{name}/trigger_fs_error");
        std::fs::write(trigger, "found by a test").unwrap();
        assert!(std::fs::write(self.inner.join("x"), b"").is_err());
    }

    /// What somebody does then: nothing may run on it meanwhile.
    fn repair(&self) {
        run(Command::new("umount").arg(&self.inner));
        let mut check = Command::new("e2fsck");
        let status = check
            .args(["-f", "-y"])
            .arg(self.file())
            .output()
            .unwrap()
            .status;
        // 1: errors were corrected.
        assert!(status.code().is_some_and(|code| code <= 1), "{status}");
        self.mount();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for path in [&self.inner, &self.outer] {
            let _ = Command::new("umount").arg("--lazy").arg(path).status();
        }
    }
}

/// What waits at a node for its disk.
fn waiting(node: &NodeSummary) -> Option<u64> {
    let folder = node.config.parent().unwrap();
    let text = cepa::status::ask(folder, Question::about(Subject::Metrics)).ok()?;
    let text = String::from_utf8(text).ok()?;
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix("cepa_kept_waiting "));
    value?.trim().parse().ok()
}

/// Nodes that have something to keep in each round.
fn keepers(network: &Network) -> Vec<&NodeSummary> {
    let roles = ["authority", "relay", "exit"];
    roles.iter().flat_map(|role| network.nodes(role)).collect()
}

fn serves(network: &Network) {
    let server = server::start();
    until(ROUNDS_MAX, "a page", || {
        fetch::get(network.socks(), server, "/bytes/1000").ok()
    });
    for node in &network.summary.nodes {
        assert!(lives(node.pid.unwrap()), "{} has ended", node.nickname);
    }
}

fn log_has(node: &NodeSummary, text: &str) -> bool {
    let log = std::fs::read_to_string(&node.log).unwrap();
    log.lines().any(|line| line.contains(text))
}

fn gives_errors() {
    let dir = tempfile::tempdir().unwrap();
    // Without a journal: one that cannot be written turns a file system read-only for good.
    let disk = Disk::new(dir.path(), "ext2", "errors=continue");
    let network = Network::up(&disk.inner.join("net"), &PLAN);
    serves(&network);
    disk.fill();
    for node in keepers(&network) {
        until(ROUNDS_MAX, "something that is not kept", || {
            waiting(node).filter(|waiting| *waiting > 0)
        });
        let (said, why) = ("not kept: ", "disk I/O error");
        assert!(
            log_has(node, said) && log_has(node, why),
            "{}",
            node.nickname
        );
    }
    serves(&network);
    disk.empty();
    for node in keepers(&network) {
        until(ROUNDS_MAX, "all to be kept", || {
            waiting(node).filter(|waiting| *waiting == 0)
        });
        assert!(log_has(node, "all is kept again"), "{}", node.nickname);
    }
    serves(&network);
}

fn turns_read_only() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::new(dir.path(), "ext4", "errors=remount-ro");
    let folder = disk.inner.join("net");
    let mut network = Network::up(&folder, &PLAN);
    serves(&network);
    disk.find_error();
    for node in keepers(&network) {
        until(ROUNDS_MAX, "something that is not kept", || {
            waiting(node).filter(|waiting| *waiting > 0)
        });
    }
    serves(&network);
    // Its log is on that disk, too: it is asked.
    let mut status = Command::new(CEPA);
    status.args(["relay", "status", "--data-dir"]);
    let told = status.arg(folder.join("relay1")).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("NOT KEPT: "), "{told}");
    let ids = |network: &Network| -> Vec<_> {
        let nodes = network.summary.nodes.iter();
        nodes.map(|node| node.ed25519.clone()).collect()
    };
    let before = ids(&network);
    network.stop(Signal::INT);
    drop(network);
    disk.repair();
    let again = Network::up(&folder, &PLAN);
    assert_eq!(ids(&again), before);
    serves(&again);
}
