//! A network that carries traffic, and that leaves nothing behind.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::network::{Network, STOP_MAX, lives, now};

#[test]
fn the_printed_line_fetches_a_page_and_a_signal_stops_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut network = Network::up(dir.path(), 21_000, &[]);
    let line = network
        .printed
        .iter()
        .find(|line| line.contains("curl "))
        .unwrap();
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("three hops"),
        "{output:?}"
    );

    let pids = network.pids();
    assert_eq!(pids.len(), 12);
    assert!(pids.iter().all(|pid| lives(*pid)));
    let took = network.stop(Signal::INT);
    assert!(took < STOP_MAX, "took {took:?}");
    assert!(!pids.iter().any(|pid| lives(*pid)));
}

#[test]
fn a_folder_keeps_its_identities_and_kill_9_leaves_no_node() {
    let dir = tempfile::tempdir().unwrap();
    let small = ["--relays", "2", "--exits", "1"];
    let mut first = Network::up(dir.path(), 21_200, &small);
    let (pids, nodes) = (first.pids(), first.summary.nodes.clone());
    first.stop(Signal::KILL);
    let limit = now() + STOP_MAX;
    while pids.iter().any(|pid| lives(*pid)) {
        assert!(now() < limit, "nodes outlive their launcher");
        std::thread::sleep(Duration::from_millis(20));
    }
    let second = Network::up(dir.path(), 21_200, &small);
    let ids = |nodes: &[cepa_testnet::NodeSummary]| -> Vec<_> {
        nodes
            .iter()
            .map(|node| (node.rsa.clone(), node.ed25519.clone()))
            .collect()
    };
    assert_eq!(ids(&nodes), ids(&second.summary.nodes));
    assert!(nodes[0].role == "authority" && nodes[0].rsa.is_some());
}

#[test]
fn large_and_many_transfers_arrive_whole() {
    let dir = tempfile::tempdir().unwrap();
    let network = Network::up(dir.path(), 21_400, &[]);
    let url = network
        .printed
        .iter()
        .find_map(|line| line.split_once("http://"))
        .unwrap()
        .1;
    let get = format!("http://{url}bytes/1000000");
    let many: Vec<_> = std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..100)
            .map(|_| scope.spawn(|| network.curl(&[&get])))
            .collect();
        fetches
            .into_iter()
            .map(|fetch| fetch.join().unwrap())
            .collect()
    });
    let expected: Vec<u8> = (0..=u8::MAX).cycle().take(1_000_000).collect();
    let whole = many
        .iter()
        .filter(|output| output.stdout == expected)
        .count();
    assert_eq!(whole, 100);

    let sent: Vec<u8> = (0..=250_u8).cycle().take(10 << 20).collect();
    let file = dir.path().join("sent");
    std::fs::write(&file, &sent).unwrap();
    let from = format!("@{}", file.display());
    let output = network.curl(&["--data-binary", &from, &format!("http://{url}")]);
    let digest = cepa_crypto::encoding::hex_lower(&cepa_crypto::digest::sha256(&sent));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains(&digest) && text.starts_with("10485760 "),
        "{output:?}"
    );
}
