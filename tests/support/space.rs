//! Network namespaces: addresses and routes that a test may do with as it likes.

use std::os::fd::AsFd as _;
use std::process::Command;

/// A network namespace, whose loopback is up; it ends with this.
pub(crate) struct Space(pub(crate) String);

impl Space {
    /// Makes one; what is missing on this machine if it can't be.
    pub(crate) fn new(name: &str) -> Result<Self, &'static str> {
        if !rustix::process::geteuid().is_root() {
            return Err("a network namespace takes the rights of root");
        }
        if Command::new("ip").arg("-V").output().is_err() {
            return Err("a network namespace takes the command ip");
        }
        let space = Space(format!("cepa-{name}-{}", std::process::id()));
        run(Command::new("ip").args(["netns", "add", &space.0]));
        space.ip("link set lo up");
        Ok(space)
    }

    /// Takes the calling thread into it, with all threads and processes that it starts from now on.
    pub(crate) fn enter(&self) {
        let link = std::fs::File::open(format!("/run/netns/{}", self.0)).unwrap();
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(link.as_fd(), kind).unwrap();
    }

    /// What processes that [`Space::command`] starts find in `/etc/resolv.conf` from now on.
    pub(crate) fn set_resolvers(&self, text: &str) {
        let folder = format!("/etc/netns/{}", self.0);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(format!("{folder}/resolv.conf"), text).unwrap();
    }

    /// A command in it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, program]);
        command
    }

    /// All that connects to 127/8 comes from this address, which no interface has.
    pub(crate) fn come_from(&self, address: &str) {
        self.ip(&format!("route replace local {address} dev lo"));
        let words = "route replace local 127.0.0.0/8 dev lo table local src";
        self.ip(&format!("{words} {address}"));
    }

    /// `ip` with these words in it.
    pub(crate) fn ip(&self, words: &str) {
        run(self.command("ip").args(words.split(' ')));
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // What is left of it goes with the machine.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
        let _ = std::fs::remove_dir_all(format!("/etc/netns/{}", self.0));
    }
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}
