//! Network namespaces: addresses and routes that a test may do with as it likes.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::processes::Process;

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

    /// Two of them with a cable between, each with an address of its own at it; all that the second
    /// does not know goes over it. What is missing on this machine if they can't be, or if `nft`,
    /// `curl` or `python3` is not there.
    pub(crate) fn pair(
        names: [&str; 2],
        addresses: [&str; 2],
    ) -> Result<(Self, Self), &'static str> {
        let lacks = |tool: &&str| Command::new(tool).arg("-V").output().is_err();
        if let Some(missing) = ["nft", "curl", "python3"].into_iter().find(lacks) {
            return Err(missing);
        }
        let [inside, user] = names;
        let (inside, user) = (Space::new(inside)?, Space::new(user)?);
        let words = "link add cable type veth peer name cable netns";
        run(Command::new("ip")
            .args(["-n", &inside.0])
            .args(words.split(' '))
            .arg(&user.0));
        for (space, address) in [&inside, &user].into_iter().zip(addresses) {
            space.ip(&format!("address add {address}/24 dev cable"));
            space.ip("link set cable up");
        }
        user.ip(&format!("route add default via {}", addresses[0]));
        Ok((inside, user))
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

    /// A server in it of what is in a folder, at port 80 of all of its addresses.
    pub(crate) fn serve(&self, folder: &Path) -> Process {
        let mut server = self.command("python3");
        server.args(["-m", "http.server", "80", "--directory"]);
        Process::start(server.arg(folder).stderr(Stdio::null()))
    }

    /// What `curl` gets in it with these words, if it gets anything.
    pub(crate) fn fetch(&self, words: &[&str]) -> Option<String> {
        let mut curl = self.command("curl");
        curl.args(["--silent", "--fail", "--max-time", "30"]);
        let output = curl.args(words).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        output.status.success().then_some(text)
    }

    /// Gives these rules to `nft` in it.
    pub(crate) fn nft(&self, rules: &str) {
        let mut nft = self.command("nft");
        let mut child = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(rules.as_bytes()).unwrap();
        drop(input);
        assert!(child.wait().unwrap().success());
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
