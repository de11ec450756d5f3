//! Our client and our relay in a network of `tor` authorities, relays and exits.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::client::{Client, wait_for};
use crate::support::fetch::{self, SocksError};
use crate::support::network::CEPA;
use crate::support::processes::Process;
use crate::support::{Steps, now, server};
use crate::tor::{Tor, is_tor_here};
use crate::tor_network::TorNetwork;

const BASE_PORT: u16 = 22_400;
/// How long `tor` may take to bootstrap.
const BOOTSTRAP_MAX: Duration = Duration::from_secs(120);
/// What may be told at once, takes no longer.
const AT_ONCE: Duration = Duration::from_secs(5);
/// RFC 1928, section 6: not allowed by ruleset.
const NOT_ALLOWED: u8 = 2;
/// A port that the exits refuse.
const REFUSED_PORT: u16 = 25;

#[test]
fn our_client_and_relay_in_a_network_of_tor() {
    if !is_tor_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let policy = ["reject *:25", "accept *:*"];
    let network = TorNetwork::start(dir.path(), BASE_PORT, &policy);
    let seen = network.wait_for(0);
    println!(
        "tor: a consensus of {} relays, valid after {}",
        seen.relays, seen.valid_after
    );
    let mut steps = Steps::default();
    steps.step("our client fetches through their relays", || {
        client_fetches(&network, dir.path());
    });
    steps.step("our relay and exit carry streams among theirs", || {
        relays_carry(&network, dir.path());
    });
    steps.finish(|| network.show_logs());
}

/// A node of ours that ends with this.
pub(crate) struct Ours {
    _process: Process,
}

/// Writes a file of its name and gives its path.
fn written(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// A relay at 127.NUMBER.0.1 with these further lines, once it has published.
pub(crate) fn relay(network: &TorNetwork, dir: &Path, name: &str, number: u8, more: &str) -> Ours {
    let (port, toml) = (network.or_port, network.network_toml.display());
    let text = format!(
        "nickname = \"{name}\"\ncontact = \"{name}@example.org\"\n\
         address = \"127.{number}.0.1\"\nor_port = {port}\ndata_dir = \"{name}\"\n\
         network = \"{toml}\"\ntesting = true\n{more}"
    );
    let config = written(dir, &format!("{name}.toml"), &text);
    let mut command = Command::new(CEPA);
    command
        .arg("relay")
        .arg("--config")
        .arg(config)
        .arg("--launched");
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut process = Process(child.unwrap());
    wait_for(&mut process.0, "published");
    Ours { _process: process }
}

/// A client with these further lines, once it has bootstrapped.
fn client(
    network: &TorNetwork,
    dir: &Path,
    name: &str,
    port: u16,
    more: &str,
) -> (Client, SocketAddr) {
    let socks = SocketAddr::from(([127, 0, 0, 1], port));
    let started = now();
    let ours = Client::start(&network.network_toml, dir, name, socks, more);
    let took = now().duration_since(started).as_secs_f64();
    println!("{name}: 100% after {took:.1} s");
    (ours, socks)
}

fn client_fetches(network: &TorNetwork, dir: &Path) {
    let (_client, socks) = client(network, dir, "client", BASE_PORT + 50, "");
    fetches(socks, 1000);
    fetches(socks, 4_000_000);
    let body = vec![7; 1_000_000];
    let reply = fetch::post(socks, server::start(), &body).unwrap();
    assert!(reply.starts_with("1000000 "), "{reply}");
    let started = now();
    match fetch::connect(socks, None, "127.0.0.1", REFUSED_PORT) {
        Err(SocksError::Refused(code)) => assert_eq!(code, NOT_ALLOWED),
        other => panic!("{other:?}"),
    }
    let took = now().duration_since(started);
    assert!(took < AT_ONCE, "told after {took:?}");
}

fn fetches(socks: SocketAddr, len: u64) {
    let fetched = fetch::get(socks, server::start(), &format!("/bytes/{len}")).unwrap();
    assert_eq!(fetched.sha256, server::sha256_of(len));
}

fn relays_carry(network: &TorNetwork, dir: &Path) {
    let _relay = relay(network, dir, "ourrelay", 101, "");
    let _exit = relay(
        network,
        dir,
        "ourexit",
        102,
        "exit_policy = [\"accept *:*\"]\n",
    );
    let seen = network.wait_for(2);
    println!(
        "tor: a consensus of {} relays, ours among them",
        seen.relays
    );
    for (place, name) in [
        ("middle", "ourrelay"),
        ("exit", "ourexit"),
        ("entry", "ourrelay"),
    ] {
        let unguarded = place == "entry";
        let pins = format!("[paths]\n{place} = [\"{name}\"]\nunguarded = {unguarded}\n");
        let (_client, socks) = client(network, dir, place, BASE_PORT + 51, &pins);
        fetches(socks, 1_000_000);
    }
    tor_fetches_through_ours(network, dir);
}

/// A `tor` client whose circuits have both our relays in them.
fn tor_fetches_through_ours(network: &TorNetwork, dir: &Path) {
    let (folder, common) = (dir.join("tor-client"), &network.common);
    let port = BASE_PORT + 52;
    let text = format!(
        "{common}DataDirectory {}\nSocksPort {port}\nMiddleNodes ourrelay\nExitNodes ourexit\n",
        folder.display()
    );
    let mut tor = Tor::start(&written(dir, "tor-client.torrc", &text), &[]);
    tor.wait_for("Bootstrapped 100%", BOOTSTRAP_MAX);
    fetches(([127, 0, 0, 1], port).into(), 1_000_000);
}
