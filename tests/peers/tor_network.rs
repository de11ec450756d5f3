//! A network of Debian's `tor` on loopback: authorities, relays and exits, each at an address of
//! its own /16, as in a network of ours.
//!
//! The settings are the ones that chutney has for small networks (PROTOCOL-NOTES 8): votes every
//! ten seconds, flags by decree, reachability tested at once.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::documents::{Seen, consensus};
use crate::support::processes::Process;
use crate::support::until;

/// How long it may take until all relays are in a consensus.
const READY_MAX: Duration = Duration::from_secs(180);

/// What all of its nodes have in their `torrc`.
const COMMON: &str = "\
TestingTorNetwork 1
AssumeReachable 1
PathsNeededToBuildCircuits 0.67
TestingDirAuthVoteExit *
TestingDirAuthVoteHSDir *
TestingDirAuthVoteGuard *
AuthDirTestReachability 1
V3AuthNIntervalsValid 3
TestingV3AuthInitialVotingInterval 10
TestingV3AuthInitialVoteDelay 2
TestingV3AuthInitialDistDelay 2
V3AuthVotingInterval 10
V3AuthVoteDelay 2
V3AuthDistDelay 2
Log notice stdout
";

/// A node of it.
struct Node {
    nickname: String,
    role: Role,
    folder: PathBuf,
    or: SocketAddr,
    dir: SocketAddr,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Authority,
    Relay,
    Exit,
}

/// A network that runs, until this is dropped.
pub(crate) struct TorNetwork {
    _processes: Vec<Process>,
    /// The directory ports of its authorities.
    pub(crate) dirs: Vec<SocketAddr>,
    /// A `network.toml` of it.
    pub(crate) network_toml: PathBuf,
    /// What each `torrc` of it begins with.
    pub(crate) common: String,
    relays: usize,
}

impl TorNetwork {
    /// Starts 3 authorities, 3 relays and 2 exits with these lines of exit policy.
    pub(crate) fn start(folder: &Path, base_port: u16, exit_policy: &[&str]) -> Self {
        let roles = [
            &[Role::Authority; 3][..],
            &[Role::Relay; 3],
            &[Role::Exit; 2],
        ]
        .concat();
        let nodes: Vec<_> = (1..)
            .zip(roles)
            .map(|(number, role)| Node::plan(folder, number, role, base_port))
            .collect();
        let authorities: Vec<_> = nodes.iter().filter(|n| n.role == Role::Authority).collect();
        // Making identity keys of 3072 bits takes a second or two each.
        let made: Vec<_> = std::thread::scope(|scope| {
            let jobs: Vec<_> = authorities
                .iter()
                .map(|node| scope.spawn(|| node.make_authority()))
                .collect();
            jobs.into_iter().map(|job| job.join().unwrap()).collect()
        });
        let mut common = COMMON.to_owned();
        let mut network = "testing = true\n".to_owned();
        for (line, table) in &made {
            common.push_str(line);
            network.push_str(table);
        }
        let network_toml = folder.join("network.toml");
        std::fs::write(&network_toml, network).unwrap();
        let processes = nodes
            .iter()
            .map(|node| node.start(&common, exit_policy))
            .collect();
        Self {
            _processes: processes,
            dirs: authorities.iter().map(|node| node.dir).collect(),
            network_toml,
            common,
            relays: nodes.len(),
        }
    }

    /// Waits for a consensus that has all relays, and so many more, and then for the next one, as
    /// exits refuse streams of relays that are in none they know, and learn of it a while later.
    pub(crate) fn wait_for(&self, more: usize) -> Seen {
        let next_after = |valid_after: &str| {
            until(READY_MAX, "a consensus with all relays", || {
                let seen = consensus(self.dirs[0])?;
                let is_later = seen.valid_after.as_str() > valid_after;
                (is_later && seen.relays >= self.relays + more).then_some(seen)
            })
        };
        let first = next_after("");
        next_after(&first.valid_after)
    }
}

impl Node {
    fn plan(folder: &Path, number: u8, role: Role, base_port: u16) -> Self {
        let name = match role {
            Role::Authority => "auth",
            Role::Relay => "relay",
            Role::Exit => "exit",
        };
        let nickname = format!("tor{name}{number}");
        let at = |port| SocketAddr::from(([127, number, 0, 1], port));
        let folder = folder.join(&nickname);
        std::fs::create_dir_all(folder.join("keys")).unwrap();
        for path in [folder.clone(), folder.join("keys")] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            std::fs::set_permissions(path, mode).unwrap();
        }
        Self {
            nickname,
            role,
            folder,
            or: at(base_port),
            dir: at(base_port + 1),
        }
    }

    /// Makes an authority's keys; gives its `DirAuthority` line and its table of `network.toml`.
    fn make_authority(&self) -> (String, String) {
        let keys = self.folder.join("keys");
        let mut gencert = Command::new("tor-gencert");
        let dir = self.dir.to_string();
        gencert.args([
            "--create-identity-key",
            "-m",
            "12",
            "-a",
            &dir,
            "--passphrase-fd",
            "0",
        ]);
        let output = gencert
            .current_dir(&keys)
            .stdin(pipe_of("x\n"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let cert = std::fs::read_to_string(keys.join("authority_certificate")).unwrap();
        let mut words = cert
            .lines()
            .filter_map(|line| line.strip_prefix("fingerprint "));
        let v3_ident = words.next().unwrap();

        // Without an authority of its own name tor would not list anything in testing mode.
        let mut list = Command::new("tor");
        list.args(["--quiet", "--list-fingerprint", "--orport", "1", "-f", "-"])
            .args([
                "--dirauthority",
                "x 127.0.0.1:1 ffffffffffffffffffffffffffffffffffffffff",
            ])
            .arg("--datadirectory")
            .arg(&self.folder);
        let output = list.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let id = |file: &str| {
            let text = std::fs::read_to_string(self.folder.join(file)).unwrap();
            text.split_whitespace().nth(1).unwrap().to_owned()
        };
        let (rsa, ed25519) = (id("fingerprint"), id("fingerprint-ed25519"));
        let Self {
            nickname, or, dir, ..
        } = self;
        let port = or.port();
        let line =
            format!("DirAuthority {nickname} orport={port} no-v2 v3ident={v3_ident} {dir} {rsa}\n");
        let table = format!(
            "[[authority]]\nnickname = \"{nickname}\"\nv3_ident = \"{v3_ident}\"\n\
             rsa = \"{rsa}\"\ned25519 = \"{ed25519}\"\nor = \"{or}\"\ndir = \"{dir}\"\n"
        );
        (line, table)
    }

    fn start(&self, common: &str, exit_policy: &[&str]) -> Process {
        let mut torrc = common.to_owned();
        let Self {
            nickname, or, dir, ..
        } = self;
        // Writing to a string cannot fail.
        let _ = write!(
            torrc,
            "Nickname {nickname}\nDataDirectory {}\nAddress {}\nORPort {or}\n\
             SocksPort 0\nContactInfo {nickname}@example.org\n",
            self.folder.display(),
            or.ip(),
        );
        let _ = match self.role {
            Role::Authority => write!(
                torrc,
                "AuthoritativeDirectory 1\nV3AuthoritativeDirectory 1\nDirPort {dir}\n\
                 ExitPolicy reject *:*\n"
            ),
            Role::Relay => write!(torrc, "ExitRelay 0\nExitPolicy reject *:*\n"),
            Role::Exit => {
                let policy: String = exit_policy
                    .iter()
                    .map(|line| format!("ExitPolicy {line}\n"))
                    .collect();
                write!(torrc, "ExitRelay 1\nExitPolicyRejectPrivate 0\n{policy}")
            }
        };
        let path = self.folder.join("torrc");
        std::fs::write(&path, torrc).unwrap();
        let log = std::fs::File::create(self.folder.join("log")).unwrap();
        let mut command = Command::new("tor");
        Process::start(command.arg("-f").arg(path).stdout(log))
    }
}

/// Something to read for a process.
fn pipe_of(text: &str) -> Stdio {
    use std::io::{Seek as _, Write as _};
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file.into()
}
