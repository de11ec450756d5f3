//! Counter galois onion between `tor` and us, both ways: 20 MB down and up through an exit of the
//! other's, over circuits whose last hop has that cipher. The network is ours, with an exit that
//! runs `tor`; an exit of ours beside it writes down which ciphers its circuits have.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::client::{Client, wait_for};
use crate::support::documents::consensus;
use crate::support::network::{CEPA, Network};
use crate::support::processes::Process;
use crate::support::{Steps, fetch, server, until};
use crate::tor::{Tor, is_tor_here};

const BASE_PORT: u16 = 24_800;
/// How long `tor` may take to bootstrap.
const BOOTSTRAP_MAX: Duration = Duration::from_secs(120);
/// How long it may take until a new relay is in a consensus.
const LISTED_MAX: Duration = Duration::from_secs(120);
const BODY_LEN: usize = 20_000_000;
/// Our exit, and what it and our client say of a circuit under CGO.
const EXIT: &str = "cgoexit";
const UNDER_CGO: &str = "Cgo";
/// What `tor` says of the machine or of testing, not of us; or of exits with conflux, of which it
/// may use none.
const NOT_OURS: [&str; 8] = [
    "You have used DirAuthority",
    "you're logging more than",
    "You are running Tor as root",
    "TestingTorNetwork is set",
    "Tor was compiled with zstd",
    "Your application",
    "No exits in ExitNodes seem to be running",
    "Failed to choose an exit server",
];

#[test]
fn cgo_between_tor_and_us() {
    if !is_tor_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let plan = ["--exits", "0", "--clients", "0", "--with", "tor:exit=1"];
    let network = Network::up(dir.path(), BASE_PORT, &plan);
    let mut steps = Steps::default();
    steps.step("our client, through their exit", || {
        our_client(&network, dir.path());
    });
    steps.step("their client, through our exit", || {
        their_client(&network, dir.path());
    });
    steps.finish(|| network.show_logs());
}

/// Both ways, whole.
fn carries(socks: SocketAddr) {
    let server = server::start();
    let len = BODY_LEN as u64;
    let fetched = fetch::get(socks, server, &format!("/bytes/{len}")).unwrap();
    assert_eq!((fetched.len, fetched.sha256), (len, server::sha256_of(len)));
    let body: Vec<u8> = (0..=250).cycle().take(BODY_LEN).collect();
    let reply = fetch::post(socks, server, &body).unwrap();
    let sha256 = cepa_crypto::encoding::hex_lower(&cepa_crypto::digest::sha256(&body));
    assert_eq!(reply, format!("{BODY_LEN} {sha256}"));
}

fn assert_under_cgo(log: &Path) {
    let text = std::fs::read_to_string(log).unwrap();
    let count = text.matches(UNDER_CGO).count();
    println!("{}: {count} circuits under CGO", log.display());
    assert!(count > 0, "no circuit under CGO");
}

fn our_client(network: &Network, dir: &Path) {
    let nodes = network.nodes("exit");
    let theirs = nodes.iter().find(|node| node.program == "tor").unwrap();
    let socks = SocketAddr::from(([127, 0, 0, 1], BASE_PORT + 90));
    let log = dir.join("client.log");
    let more = format!(
        "[paths]\nexit = [\"{}\"]\n[log]\nlevel = \"debug\"\nfile = \"{}\"\n",
        theirs.nickname,
        log.display()
    );
    let _client = Client::start(&network.summary.network, dir, "cgoclient", socks, &more);
    carries(socks);
    assert_under_cgo(&log);
}

/// An exit of ours that writes everything down, once the authorities list it.
fn our_exit(network: &Network, dir: &Path) -> Process {
    let authority = network.nodes("authority")[0];
    let (or, authority) = (authority.or.unwrap(), authority.dir.unwrap());
    let before = consensus(authority).unwrap().relays;
    let text = format!(
        "nickname = \"{EXIT}\"\ncontact = \"{EXIT}@example.org\"\naddress = \"127.201.0.1\"\n\
         or_port = {}\ndata_dir = \"{EXIT}\"\nnetwork = \"{}\"\ntesting = true\n\
         exit_policy = [\"accept *:*\"]\n[log]\nlevel = \"debug\"\nfile = \"{EXIT}.log\"\n",
        or.port(),
        network.summary.network.display()
    );
    let config = dir.join("cgoexit.toml");
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(CEPA);
    command
        .args(["relay", "--launched", "--config"])
        .arg(config);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut process = Process(child.unwrap());
    wait_for(&mut process.0, "published");
    until(LISTED_MAX, "a consensus with our exit", || {
        (consensus(authority)?.relays > before).then_some(())
    });
    process
}

fn their_client(network: &Network, dir: &Path) {
    let _exit = our_exit(network, dir);
    let info = format!("info file {}", dir.join("tor-info").display());
    let socks = SocketAddr::from(([127, 0, 0, 1], BASE_PORT + 91));
    let options = [
        &[
            "--Log",
            "notice stdout",
            "--Log",
            &info,
            "--ExitNodes",
            EXIT,
        ][..],
        &["--StrictNodes", "1", "--ProtocolWarnings", "1"],
        &["--SocksPort", &socks.to_string()],
    ];
    let mut tor = Tor::start(&dir.join("torrc"), &options.concat());
    tor.wait_for("Bootstrapped 100%", BOOTSTRAP_MAX);
    carries(socks);
    assert_under_cgo(&dir.join(format!("{EXIT}.log")));
    let complaints = tor.complaints_but(&NOT_OURS);
    assert!(complaints.is_empty(), "{complaints:#?}");
}
