//! What an operator does to nodes that run, and what disks do to them: signals, configurations
//! that change, logs that are rotated, a disk that takes nothing for a while.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cepa_testnet::NodeSummary;
use rustix::process::Signal;

use crate::support::network::Network;
use crate::support::processes::{disk_takes, lives, send};
use crate::support::{Steps, fetch, server, until};

const PLAN: [&str; 8] = [
    "--authorities",
    "1",
    "--relays",
    "2",
    "--exits",
    "1",
    "--interval",
    "10",
];
const BASE_PORT: u16 = 21_600;
/// How long a node may take to do what a signal asks, on a machine that does much else.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How long it may take until nodes have something to keep: a new consensus, or two.
const ROUNDS_MAX: Duration = Duration::from_secs(120);

#[test]
fn nodes_outlive_their_operator_and_their_disk() {
    let dir = tempfile::tempdir().unwrap();
    let network = Network::up(dir.path(), BASE_PORT, &PLAN);
    let mut steps = Steps::default();
    steps.step("signals end no node, and a log is opened anew", || {
        signals(&network);
    });
    steps.step("a wrong configuration changes nothing", || {
        wrong_configuration(&network);
    });
    steps.step("a relay tells what has changed", || changes(&network));
    steps.step("a full disk ends nothing", || full_disk(&network));
    steps.finish(|| network.show_logs());
}

/// One node of each role.
fn one_of_each(network: &Network) -> Vec<&NodeSummary> {
    let roles = ["authority", "relay", "exit", "client"];
    roles.map(|role| network.nodes(role)[0]).into()
}

fn log_has(node: &NodeSummary, text: &str) -> Option<String> {
    let log = std::fs::read_to_string(&node.log).ok()?;
    log.lines()
        .rfind(|line| line.contains(text))
        .map(str::to_owned)
}

fn signals(network: &Network) {
    let nodes = one_of_each(network);
    for node in &nodes {
        let rotated = node.log.with_extension("1");
        std::fs::rename(&node.log, &rotated).unwrap();
        send(node.pid.unwrap(), Signal::HUP);
    }
    for node in &nodes {
        until(ANSWER_MAX, "a log of the same name", || {
            log_has(node, "Configuration read again; nothing in it has changed")
        });
        for signal in [Signal::USR1, Signal::USR2, Signal::PIPE] {
            send(node.pid.unwrap(), signal);
        }
    }
    for node in &nodes {
        until(ANSWER_MAX, "a status", || log_has(node, "Status: "));
        until(ANSWER_MAX, "debug", || log_has(node, "debug is logged"));
        send(node.pid.unwrap(), Signal::USR2);
        until(ANSWER_MAX, "no debug", || {
            log_has(node, "what is configured is logged again")
        });
        assert!(lives(node.pid.unwrap()), "{}", node.nickname);
    }
}

fn wrong_configuration(network: &Network) {
    for node in one_of_each(network) {
        let right = std::fs::read_to_string(&node.config).unwrap();
        let lines = right.lines().count();
        std::fs::write(&node.config, format!("nonsense = 7\n{right}")).unwrap();
        send(node.pid.unwrap(), Signal::HUP);
        let told = until(ANSWER_MAX, "an error", || {
            log_has(node, "the configuration stays as it was")
        });
        let config = node.config.display().to_string();
        for word in [config.as_str(), "line 1", "nonsense"] {
            assert!(told.contains(word), "{told}");
        }
        std::fs::write(&node.config, &right).unwrap();
        assert!(lines > 3 && lives(node.pid.unwrap()));
    }
}

fn changes(network: &Network) {
    let (exit, authority) = (network.nodes("exit")[0], network.nodes("authority")[0]);
    let written = std::fs::read_to_string(&exit.config).unwrap();
    let or_port = format!("or_port = {}", exit.or.unwrap().port());
    assert!(written.contains(&or_port) && written.contains("accept *:*"));
    let changed = written
        .replace("exit1@example.org", "somebody@example.org")
        .replace("accept *:*", "reject *:25")
        .replace(&or_port, "or_port = 9");
    let changed = format!("bandwidth_rate = 5000000\n{changed}");
    std::fs::write(&exit.config, changed).unwrap();
    send(exit.pid.unwrap(), Signal::HUP);
    let told = until(ANSWER_MAX, "what has changed", || {
        log_has(exit, "changed: bandwidth_rate, contact, exit_policy;")
    });
    println!("{told}");
    until(ANSWER_MAX, "what waits", || {
        log_has(exit, "as before until the next start: or_port")
    });
    let path = format!("/tor/server/fp/{}", exit.rsa.as_ref().unwrap());
    let text = until(ANSWER_MAX, "a descriptor that says so", || {
        let text = fetch::document(authority.dir.unwrap(), &path)?;
        text.contains("contact somebody@example.org")
            .then_some(text)
    });
    assert!(text.contains("\nreject *:25\n"), "{text}");
    assert!(text.contains("\nbandwidth 5000000 "), "{text}");
    assert!(text.contains(&format!(" {} 0 ", exit.or.unwrap().port())));
    std::fs::write(&exit.config, written).unwrap();
    send(exit.pid.unwrap(), Signal::HUP);
    until(ANSWER_MAX, "the policy of before", || {
        let text = fetch::document(authority.dir.unwrap(), &path)?;
        text.contains("\naccept *:*\n").then_some(())
    });
}

/// A number of a node's metrics.
fn metric(node: &NodeSummary, name: &str) -> Option<u64> {
    let text = cepa::status::ask(&folder(node), "/metrics").ok()?;
    let text = String::from_utf8(text).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value?.trim().parse().ok()
}

fn folder(node: &NodeSummary) -> PathBuf {
    node.config.parent().map(Path::to_owned).unwrap()
}

fn full_disk(network: &Network) {
    let nodes = one_of_each(network);
    let server = server::start();
    let fetches = || fetch::get(network.socks(), server, "/bytes/1000").is_ok();
    for node in &nodes {
        disk_takes(node.pid.unwrap(), false);
    }
    for node in &nodes {
        until(ROUNDS_MAX, "something that is not kept", || {
            metric(node, "cepa_kept_waiting ").filter(|waiting| *waiting > 0)
        });
    }
    until(ROUNDS_MAX, "a page over a network without disks", || {
        fetches().then_some(())
    });
    for node in &nodes {
        assert!(lives(node.pid.unwrap()), "{}", node.nickname);
        disk_takes(node.pid.unwrap(), true);
    }
    for node in &nodes {
        until(ROUNDS_MAX, "all to be kept", || {
            metric(node, "cepa_kept_waiting ").filter(|waiting| *waiting == 0)
        });
        assert!(metric(node, "cepa_kept_failures_total ").unwrap() > 0);
        assert_eq!(metric(node, "cepa_kept_dropped_total "), Some(0));
        until(ANSWER_MAX, "a line on it", || {
            log_has(node, "lines of this log could not be written")
        });
    }
    assert!(fetches());
}
