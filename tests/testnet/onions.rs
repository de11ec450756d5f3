//! Onion services in a network of ours: hosted, visited, restarted, killed.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cepa::status::{Question, Subject};
use rustix::process::Signal;

use crate::reload;
use crate::support::fetch::{self, SocksError};
use crate::support::network::{CEPA, Network};
use crate::support::onion::Service;
use crate::support::processes::{Process, send};
use crate::support::{Steps, now, server, until};

/// How long a visitor may need to get in again.
pub(crate) const RECOVERY_MAX: Duration = Duration::from_secs(30);
/// Answers of the SOCKS port (socks-extensions).
pub(crate) const MISSING_CLIENT_KEY: u8 = 0xF4;
const WRONG_CLIENT_KEY: u8 = 0xF5;
const BAD_ADDRESS: u8 = 0xF6;

#[test]
fn onion_services_are_hosted_and_visited() {
    let dir = tempfile::tempdir().unwrap();
    let network = Network::up(dir.path(), &["--onion-services", "1"]);
    let server = server::start();
    let mut steps = Steps::default();
    steps.step("the network's own service shows its page", || {
        shows_its_page(&network);
    });
    steps.step(
        "a service that is hosted by hand prints its address",
        || {
            prints_its_address(&network, dir.path(), server);
        },
    );
    steps.step("64 MB each way, and 100 streams at once", || {
        carries(&network, dir.path(), server);
    });
    steps.step("a mistyped address is told", || {
        a_mistyped_address(&network)
    });
    steps.step("a service with client keys", || {
        client_keys(&network, dir.path(), server);
    });
    steps.step("what changes in the files is read again", || {
        reload::reloads(&network, dir.path(), server);
    });
    steps.step("status says that it is reached", || status(dir.path()));
    steps.step("relays tell what they did for them", || {
        relays_tell(&network)
    });
    steps.step("a service that is killed comes back", || {
        the_service_is_killed(&network, dir.path(), server);
    });
    steps.step("relays that are killed are no end", || {
        relays_are_killed(&network, dir.path(), server);
    });
    steps.finish(|| network.show_logs());
}

/// The sum of a metric over all relays and authorities.
fn told(network: &Network, metric: &str) -> u64 {
    let roles = ["authority", "relay", "exit"];
    let nodes = roles.iter().flat_map(|role| network.nodes(role));
    let told = nodes.map(|node| {
        let folder = network.folder.join(&node.nickname);
        let text = cepa::status::ask(&folder, Question::about(Subject::Metrics)).unwrap();
        let text = String::from_utf8(text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(metric));
        let line = line.unwrap_or_else(|| panic!("no {metric} in {text}"));
        line.trim().parse::<u64>().unwrap()
    });
    told.sum()
}

fn relays_tell(network: &Network) {
    for (metric, at_least) in [
        ("tor_relay_est_intro_total{action=\"success\"}", 3),
        ("tor_relay_est_rend_total{action=\"success\"}", 1),
        ("tor_relay_intro1_total{action=\"success\"}", 1),
        ("tor_relay_rend1_total{action=\"success\"}", 1),
        ("tor_relay_streams_total{type=\"BEGIN_DIR\"}", 1),
        ("tor_relay_traffic_bytes{direction=\"written\"}", 1_000_000),
        ("tor_relay_flag{type=\"Running\"}", 3),
        ("cepa_relay_intro_points", 3),
        ("cepa_hsdir_descriptors", 2),
    ] {
        let count = told(network, metric);
        println!("{metric} {count}");
        assert!(count >= at_least, "{metric} {count}");
    }
}

pub(crate) fn visit(
    network: &Network,
    user: &str,
    address: &str,
    len: u64,
) -> Result<(), SocksError> {
    let path = format!("/bytes/{len}");
    let fetched = fetch::fetch_from(network.socks(), Some(user), (address, 80), &path)?;
    assert_eq!(fetched.sha256, server::sha256_of(len));
    Ok(())
}

fn prints_its_address(network: &Network, dir: &Path, server: SocketAddr) {
    let dir = dir.join("printed");
    let mut command = Command::new(CEPA);
    command.args(["onion", "serve", "--network"]);
    command.arg(&network.summary.network).arg("--dir").arg(&dir);
    command.arg(format!("80={server}"));
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut process = Process(child.unwrap());
    let mut line = String::new();
    let mut output = BufReader::new(process.0.stdout.as_mut().unwrap());
    output.read_line(&mut line).unwrap();
    assert_eq!(line, std::fs::read_to_string(dir.join("hostname")).unwrap());
}

fn shows_its_page(network: &Network) {
    let [onion] = &network.summary.onions[..] else {
        panic!("{:?}", network.summary.onions);
    };
    assert!(onion.ends_with(".onion") && onion.len() == 62, "{onion}");
    let page = fetch::fetch_from(network.socks(), None, (onion, 80), "/").unwrap();
    assert!(page.len > 10);
}

fn carries(network: &Network, dir: &Path, server: SocketAddr) {
    let started = now();
    let service = Service::start(&network.summary.network, &dir.join("hs"), server);
    visit(network, "first", &service.address, 1000).unwrap();
    let took = now().duration_since(started).as_secs_f64();
    println!("from `cepa onion serve` to the first page: {took:.2} s");
    let started = now();
    visit(network, "second", &service.address, 1000).unwrap();
    let took = now().duration_since(started).as_secs_f64();
    println!("a visit of its own, descriptor known: {took:.3} s");
    let megabytes_64 = 64_000_000;
    visit(network, "big", &service.address, megabytes_64).unwrap();
    let body: Vec<u8> = (0..=250).cycle().take(megabytes_64 as usize).collect();
    let reply = fetch::post_to(network.socks(), (&service.address, 80), &body).unwrap();
    let digest = cepa_crypto::encoding::hex_lower(&cepa_crypto::digest::sha256(&body));
    assert_eq!(reply, format!("{megabytes_64} {digest}"));
    std::thread::scope(|scope| {
        let visits: Vec<_> = (0..100)
            .map(|_| scope.spawn(|| visit(network, "many", &service.address, 100_000)))
            .collect();
        for visit in visits {
            visit.join().unwrap().unwrap();
        }
    });
}

fn a_mistyped_address(network: &Network) {
    let mut address = network.summary.onions[0].clone();
    let wrong = if address.starts_with('a') { "b" } else { "a" };
    address.replace_range(..1, wrong);
    refused(visit(network, "typo", &address, 1), BAD_ADDRESS);
}

fn refused(visit: Result<(), SocksError>, code: u8) {
    match visit {
        Err(SocksError::Refused(found)) => assert_eq!(found, code, "{found:#x}"),
        other => panic!("{other:?}"),
    }
}

/// A pair of client keys: `NAME.auth` into the service's folder, `NAME.auth_private` into `mine`.
pub(crate) fn make_key(dir: &Path, name: &str, address: &str, service: &Path, mine: &Path) {
    let made = dir.join(format!("made-{name}"));
    let mut key = Command::new(CEPA);
    key.args(["onion", "key", address, "--name", name, "--dir"]);
    assert!(key.arg(&made).output().unwrap().status.success());
    let auth = format!("{name}.auth");
    std::fs::rename(
        made.join(&auth),
        service.join("authorized_clients").join(&auth),
    )
    .unwrap();
    let private = format!("{name}.auth_private");
    std::fs::rename(made.join(&private), mine.join(&private)).unwrap();
}

fn client_keys(network: &Network, dir: &Path, server: SocketAddr) {
    let (folder, mine, other) = (dir.join("hs-auth"), dir.join("keys-a"), dir.join("keys-b"));
    for path in [&mine, &other] {
        std::fs::create_dir(path).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(path, mode).unwrap();
    }
    // Its first run makes the address.
    let address = Service::start(&network.summary.network, &folder, server).address;
    make_key(dir, "alice", &address, &folder, &mine);
    make_key(dir, "mallory", &address, &folder, &other);
    std::fs::remove_file(folder.join("authorized_clients/mallory.auth")).unwrap();
    let service = Service::start(&network.summary.network, &folder, server);
    assert_eq!(service.address, address);
    // Some directories may have what it said while it was open to all, for a moment.
    until(RECOVERY_MAX, "a refusal for want of a key", || match visit(
        network, "no key", &address, 1,
    ) {
        Err(SocksError::Refused(MISSING_CLIENT_KEY)) => Some(()),
        _ => None,
    });
    for (place, keys, is_right) in [(0, &mine, true), (1, &other, false)] {
        let socks = network.local(place);
        let client = crate::support::client::Client::start(
            &network.summary.network,
            dir,
            &format!("visitor{place}"),
            socks,
            &format!("onion_auth_dir = \"{}\"\n", keys.display()),
        );
        until(RECOVERY_MAX, "the right answer to a key", || {
            match fetch::fetch_from(socks, None, (&address, 80), "/bytes/1000") {
                Ok(fetched) => {
                    assert!(is_right && fetched.sha256 == server::sha256_of(1000));
                    Some(())
                }
                Err(SocksError::Refused(WRONG_CLIENT_KEY)) => {
                    assert!(!is_right);
                    Some(())
                }
                // What the directories had before, see above.
                Err(_) => None,
            }
        });
        drop(client);
    }
}

fn status(dir: &Path) {
    let mut status = Command::new(CEPA);
    status.args(["onion", "status", "--data-dir"]);
    let output = status.arg(dir.join("onion1")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(text.contains("reached by a visit of our own"), "{text}");
    assert_eq!(text.matches("  introduction point ").count(), 3, "{text}");
    assert!(text.matches("    directory ").count() >= 6, "{text}");
}

fn gets_in(network: &Network, user: &str, address: &str) {
    let started = now();
    until(RECOVERY_MAX, "a visit", || {
        visit(network, user, address, 1000).ok()
    });
    let took = now().duration_since(started).as_secs_f64();
    println!("in again after {took:.1} s");
}

fn the_service_is_killed(network: &Network, dir: &Path, server: SocketAddr) {
    let folder = dir.join("hs-killed");
    let mut service = Service::start(&network.summary.network, &folder, server);
    let address = service.address.clone();
    visit(network, "before", &address, 1000).unwrap();
    send(service.process.0.id(), Signal::KILL);
    service.process.0.wait().unwrap();
    let again = Service::start(&network.summary.network, &folder, server);
    assert_eq!(again.address, address);
    // One who was in, and one who comes for the first time.
    gets_in(network, "before", &address);
    gets_in(network, "new", &address);
}

/// Kills four of the six relays that are neither authorities nor exits: among them are points of
/// introduction and rendezvous, and directories.
fn relays_are_killed(network: &Network, dir: &Path, server: SocketAddr) {
    let service = Service::start(&network.summary.network, &dir.join("hs"), server);
    visit(network, "in", &service.address, 1000).unwrap();
    for relay in network.nodes("relay").into_iter().take(4) {
        send(relay.pid.unwrap(), Signal::KILL);
        gets_in(network, "in", &service.address);
    }
    gets_in(network, "another", &service.address);
}
