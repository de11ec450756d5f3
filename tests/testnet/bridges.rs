//! A client of a bridge in a network namespace of its own, whose packets are counted: not one goes
//! to anything but the bridge, its own SOCKS port aside.
//!
//! It needs root, `ip`, `nft`, `curl` and `python3`, and says so where they are absent.

use std::time::Duration;

use cepa_testnet::NodeSummary;

use crate::network::{CEPA, Network};
use crate::support::bridges::Bridge;
use crate::support::client::Client;
use crate::support::space::Space;
use crate::support::{fetch, server, until};

/// The addresses of both ends of the cable.
const BRIDGE: &str = "10.98.0.1";
const USER: &str = "10.98.0.2";
/// The server's address, in the network's namespace alone.
const SERVER: &str = "198.51.100.9";
const PAGE: &str = "seen over a bridge";
/// How long the server may take to start.
const START_MAX: Duration = Duration::from_secs(20);

#[test]
fn no_packet_goes_to_anything_but_the_bridge() {
    let (inside, user) = match Space::pair(["brnet", "bruser"], [BRIDGE, USER]) {
        Ok(both) => both,
        Err(missing) => {
            println!("not tested: {missing}");
            return;
        }
    };
    let dir = tempfile::tempdir().unwrap();
    inside.ip(&format!("address add {SERVER}/32 dev lo"));
    std::fs::write(dir.path().join("page"), PAGE).unwrap();
    let _server = inside.serve(dir.path());
    until(START_MAX, "the server", || {
        page(&inside, None).filter(|text| text == PAGE)
    });
    let plan = ["--relays", "3", "--clients", "0"];
    let network = Network::up_in(Some(&inside.0), &dir.path().join("net"), &plan);
    let (port, socks) = (network.spare(0), network.local(1));
    let more = format!("address = \"{BRIDGE}\"\nlisten = \"0.0.0.0\"\nor_port = {port}\n");
    let file = &network.summary.network;
    let bridge = Bridge::start_in(Some(&inside.0), file, dir.path(), "bridge", 1, &more);
    watch(&user, port, socks.port());
    let line = bridge.line(None);
    let more = format!("bridges = [{line:?}]\n");
    let _client = Client::start_in(Some(&user.0), file, dir.path(), "c", socks, &more);
    for _ in 0..3 {
        let got = page(&user, Some(&socks.to_string()));
        assert_eq!(got.as_deref(), Some(PAGE));
    }
    let counted = counted(&user);
    assert!(counted.contains("to the bridge"), "{counted}");
    let packets = |what: &str| {
        let line = counted.lines().find(|line| line.contains(what)).unwrap();
        let behind = line.split_once("packets ").unwrap().1;
        behind.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    println!(
        "packets: {} to the bridge, {} elsewhere",
        packets("to the bridge"),
        packets("elsewhere")
    );
    assert!(packets("to the bridge") > 20, "{counted}");
    assert_eq!(packets("elsewhere"), 0, "{counted}");
}

#[test]
fn a_network_has_clients_that_go_over_bridges() {
    let dir = tempfile::tempdir().unwrap();
    let plan = ["--bridges", "2", "--transport", "webtunnel"];
    let network = Network::up(dir.path(), &plan);
    let text = std::fs::read_to_string(network.folder.join("bridges")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let is_line = |line: &&str| line.starts_with("Bridge webtunnel ") && line.contains(" url=http");
    assert!(lines.len() == 2 && lines.iter().all(is_line), "{text}");
    let web = server::start();
    let got = fetch::get(network.socks(), web, "/bytes/100000").unwrap();
    assert_eq!(got.len, 100_000);
    // Its first hops are the bridges, which no consensus lists.
    let bridges = network.nodes("bridge");
    let client = network.nodes("client")[0];
    let mut asked = std::process::Command::new(CEPA);
    asked.args(["client", "circuits", "--json", "--data-dir"]);
    let told = asked.arg(client.log.parent().unwrap()).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let first = |bridge: &&NodeSummary| told.contains(bridge.rsa.as_deref().unwrap());
    assert!(bridges.iter().any(first), "{told}");
    let authority = network.nodes("authority")[0];
    let url = "/tor/status-vote/current/consensus";
    let consensus = fetch::document(authority.dir.unwrap(), url).unwrap();
    let is_listed = |bridge: &&NodeSummary| consensus.contains(&bridge.nickname);
    assert!(!bridges.iter().any(is_listed), "{consensus}");
}

/// The page as a namespace gets it, by a SOCKS port or directly.
fn page(space: &Space, socks: Option<&str>) -> Option<String> {
    let page = format!("http://{SERVER}/page");
    match socks {
        Some(socks) => space.fetch(&["--socks5-hostname", socks, &page]),
        None => space.fetch(&[&page]),
    }
}

/// Counts what leaves the user's sockets; what the machine itself says to find its neighbours on
/// the cable is no program's.
fn watch(user: &Space, bridge: u16, socks: u16) {
    let rules = format!(
        "table inet watch {{
            chain out {{
                type filter hook output priority filter;
                meta l4proto ipv6-icmp accept
                ip daddr 127.0.0.1 tcp dport {socks} accept
                ip saddr 127.0.0.1 tcp sport {socks} accept
                ip daddr {BRIDGE} tcp dport {bridge} counter accept comment \"to the bridge\"
                counter comment \"elsewhere\"
            }}
        }}"
    );
    user.nft(&rules);
}

fn counted(user: &Space) -> String {
    let output = user.command("nft").args(["list", "ruleset"]).output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}
