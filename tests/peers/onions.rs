//! Onion services between `tor` and us, both ways, with and without client keys, where directories,
//! introduction and rendezvous points are ours, `tor`'s, or of both. A service's folder goes from
//! us to `tor`, and back.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::matrix::{self, Board, Column};
use crate::support::client::Client;
use crate::support::fetch::{self, SocksError};
use crate::support::network::CEPA;
use crate::support::onion::Service;
use crate::support::{now, server, until};
use crate::tor::{Tor, is_tor_here};
use crate::world::World;

/// How long `tor` may take to bootstrap.
const BOOTSTRAP_MAX: Duration = Duration::from_secs(120);
/// How long its service may take until it can be visited; it waits for its own schedule.
const PUBLISHED_MAX: Duration = Duration::from_secs(120);
/// How long a visit of a service that is up may take, with all that `tor` tries again.
const VISIT_MAX: Duration = Duration::from_secs(60);
/// socks-extensions.
const MISSING_CLIENT_KEY: u8 = 0xF4;
/// What `tor` says of the machine or of testing, not of us.
const NOT_OURS: [&str; 6] = [
    "You have used DirAuthority",
    "you're logging more than",
    "You are running Tor as root",
    "TestingTorNetwork is set",
    "Tor was compiled with zstd",
    "Your application",
];

/// The cell of a column: in a network of both.
pub(crate) fn cell(board: &Board, column: Column, world: &World) {
    board.cell(matrix::ONIONS, column, || meet(world));
}

/// Services and visitors of both kinds meet over the relays of a network, all of which are
/// directories, introduction and rendezvous points.
fn meet(world: &World) {
    let folder = world.folder("onions");
    std::fs::create_dir(&folder).unwrap();
    let torrc = std::fs::read_to_string(world.network.folder.join("torrc")).unwrap();
    let own = format!("DataDirectory {}/tor", folder.display());
    let line = |line: &str| match line.starts_with("DataDirectory") {
        true => format!("{own}\n"),
        false => format!("{line}\n"),
    };
    let torrc: String = torrc.lines().map(line).collect();
    let ends = Ends::new(
        &world.network.summary.network,
        &torrc,
        &folder,
        world.socks(40),
    );
    let (_visitor, address) = ends.both_ways();
    ends.comes_back(&address);
}

#[test]
fn onions_over_relays_of_ours() {
    meet_over("--authorities 3 --relays 4 --exits 1 --clients 0");
}

#[test]
fn onions_over_relays_of_tor() {
    let args = "--authorities 0 --relays 0 --exits 0 --clients 0 \
                --with tor:authority=3,tor:relay=4,tor:exit=1";
    meet_over(args);
}

fn meet_over(args: &str) {
    if !is_tor_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let args: Vec<_> = args.split_whitespace().collect();
    meet(&World::up(dir.path(), "", &args));
}

/// A network, and where the ends in it have their files and ports.
struct Ends<'a> {
    network: &'a Path,
    torrc: String,
    dir: PathBuf,
    first_socks: SocketAddr,
    server: SocketAddr,
}

impl<'a> Ends<'a> {
    fn new(network: &'a Path, torrc: &str, dir: &Path, first_socks: SocketAddr) -> Self {
        Ends {
            network,
            torrc: torrc.to_owned(),
            dir: dir.to_owned(),
            first_socks,
            server: server::start(),
        }
    }

    fn socks(&self, place: u16) -> SocketAddr {
        SocketAddr::new(self.first_socks.ip(), self.first_socks.port() + place)
    }

    fn serve(&self, name: &str) -> Service {
        Service::start(self.network, &self.dir.join(name), self.server)
    }

    /// A folder with an address of its own that nobody serves.
    fn folder(&self, name: &str) -> (PathBuf, String) {
        let address = self.serve(name).address;
        (self.dir.join(name), address)
    }

    fn private_folder(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        std::fs::create_dir(&path).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&path, mode).unwrap();
        path
    }

    /// A key for the client that has `keys`, with which it may visit the service in `name`.
    fn authorize(&self, name: &str, address: &str, keys: &Path) {
        let made = self.dir.join(format!("made-{name}"));
        let mut key = Command::new(CEPA);
        key.args(["onion", "key", address, "--dir"]);
        assert!(key.arg(&made).output().unwrap().status.success());
        let clients = self.dir.join(name).join("authorized_clients");
        std::fs::rename(made.join("client.auth"), clients.join("client.auth")).unwrap();
        let private = format!("{name}.auth_private");
        std::fs::rename(made.join("client.auth_private"), keys.join(private)).unwrap();
    }

    /// Visits from both to services of both; gives our visitor and the address of `tor`'s service.
    fn both_ways(&self) -> (Client, String) {
        let (our_keys, their_keys) = (self.private_folder("keys"), self.private_folder("tor-keys"));
        // Two services for tor to host, two that we host; one of each with a client key.
        let (their_open, open_address) = self.folder("their-open");
        let (their_closed, closed_address) = self.folder("their-closed");
        self.authorize("their-closed", &closed_address, &our_keys);
        let open = self.serve("open");
        let (_, address) = self.folder("closed");
        self.authorize("closed", &address, &their_keys);
        let closed = self.serve("closed");

        let mut torrc = self.torrc.replace("SocksPort", "#SocksPort");
        torrc.push_str(&format!(
            "\nSocksPort {}\nClientOnionAuthDir {}\n",
            self.socks(0),
            their_keys.display()
        ));
        for folder in [&their_open, &their_closed] {
            torrc.push_str(&format!(
                "HiddenServiceDir {}\nHiddenServicePort 80 {}\n",
                folder.display(),
                self.server
            ));
        }
        let path = self.dir.join("onions.torrc");
        std::fs::write(&path, torrc).unwrap();
        let info = format!("info file {}", self.dir.join("onions-info").display());
        let options = [
            "--Log",
            "notice stdout",
            "--Log",
            &info,
            "--ProtocolWarnings",
            "1",
        ];
        let mut tor = Tor::start(&path, &options);
        tor.wait_for("Bootstrapped 100%", BOOTSTRAP_MAX);

        let visits = self.visits(
            &our_keys,
            [&open.address, &closed.address],
            [&open_address, &closed_address],
        );
        let complaints = tor.complaints_but(&NOT_OURS);
        assert!(complaints.is_empty(), "{complaints:#?}");
        (visits, open_address)
    }

    /// What `tor` has written in a service's folder is good for us; its last revision is outdone.
    /// Relays of `tor` may hold its circuits for long after its end, and pass on what nobody
    /// answers: then our visitor looks for the service anew.
    fn comes_back(&self, open_address: &str) {
        let back = self.serve("their-open");
        assert_eq!(back.address, open_address);
        visit(
            self.socks(1),
            "we visit what was tor's",
            open_address,
            VISIT_MAX,
        );
    }

    /// Visits an open and a closed service of ours and of `tor`'s each; gives our visitor.
    fn visits(
        &self,
        our_keys: &Path,
        [open, closed]: [&str; 2],
        [their_open, their_closed]: [&str; 2],
    ) -> Client {
        let (visits, keyless) = (self.socks(1), self.socks(2));
        let more = format!("onion_auth_dir = \"{}\"\n", our_keys.display());
        let ours = Client::start(self.network, &self.dir, "visitor", visits, &more);
        let _keyless = Client::start(self.network, &self.dir, "keyless", keyless, "");
        visit(self.socks(0), "tor visits ours", open, VISIT_MAX);
        visit(
            self.socks(0),
            "tor visits ours with a key",
            closed,
            VISIT_MAX,
        );
        visit(visits, "we visit tor's", their_open, PUBLISHED_MAX);
        visit(
            visits,
            "we visit tor's with a key",
            their_closed,
            PUBLISHED_MAX,
        );
        visit(visits, "we visit ours", open, VISIT_MAX);
        for address in [closed, their_closed] {
            match fetch::fetch_from(keyless, None, (address, 80), "/") {
                Err(SocksError::Refused(code)) => assert_eq!(code, MISSING_CLIENT_KEY),
                other => panic!("{other:?}"),
            }
        }
        ours
    }
}

/// Fetches through a SOCKS port until it works, then a megabyte.
fn visit(socks: SocketAddr, what: &str, address: &str, limit: Duration) {
    let started = now();
    until(limit, what, || {
        fetch::fetch_from(socks, None, (address, 80), "/bytes/1000").ok()
    });
    let first = now().duration_since(started).as_secs_f64();
    let len = 1_000_000;
    let fetched = fetch::fetch_from(socks, None, (address, 80), &format!("/bytes/{len}")).unwrap();
    assert_eq!(fetched.sha256, server::sha256_of(len), "{what}");
    println!("{what}: {first:.2} s");
}
