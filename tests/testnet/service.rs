//! What a service manager is told by nodes that it started, in the way of systemd.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cepa::ports::Block;
use rustix::process::Signal;

use crate::support::network::CEPA;
use crate::support::processes::{Process, send};

/// How long a message may be waited for.
const TOLD_MAX: Duration = Duration::from_secs(60);

/// The socket at which a service manager is notified.
struct Notified(UnixDatagram);

impl Notified {
    /// Reads until a message has this line.
    fn hears(&self, line: &str) {
        let mut bytes = [0; 4096];
        loop {
            let count = self.0.recv(&mut bytes);
            let count = count.unwrap_or_else(|error| panic!("no {line}: {error}"));
            let text = std::str::from_utf8(&bytes[..count]).unwrap();
            if text.lines().any(|one| one == line) {
                return;
            }
        }
    }
}

/// A relay of a network that nobody runs.
fn relay(dir: &Path, port: u16) -> std::path::PathBuf {
    let text = format!(
        "nickname = \"relay1\"\naddress = \"127.0.0.1\"\nor_port = {port}\ndata_dir = \"data\"\n\
         testing = true\n[[inline_network.authority]]\nnickname = \"auth1\"\n\
         v3_ident = \"0101010101010101010101010101010101010101\"\n\
         rsa = \"0202020202020202020202020202020202020202\"\n\
         or = \"127.1.0.1:1\"\ndir = \"127.1.0.1:2\"\n"
    );
    let path = dir.join("relay.toml");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_service_manager_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let manager = Notified(UnixDatagram::bind(&socket).unwrap());
    manager.0.set_read_timeout(Some(TOLD_MAX)).unwrap();
    let (block, ()) = Block::first_free(None, |_| Ok(())).unwrap();
    let mut command = Command::new(CEPA);
    command.args(["relay", "--config"]);
    command.arg(relay(dir.path(), block.base()));
    command.env("NOTIFY_SOCKET", &socket);
    // Of whoever is meant to hear from it: no pid is any.
    command.env("WATCHDOG_USEC", "100000");
    drop(block);
    let mut node = Process::start(&mut command);
    let pid = node.0.id();
    manager.hears("READY=1");
    manager.hears("WATCHDOG=1");
    send(pid, Signal::HUP);
    manager.hears("RELOADING=1");
    manager.hears("READY=1");
    manager.hears("WATCHDOG=1");
    send(pid, Signal::TERM);
    manager.hears("STOPPING=1");
    assert!(node.0.wait().unwrap().success());
}
