//! What an operator does to nodes that run, and what disks do to them: signals, configurations
//! that change, logs that are rotated, a disk that takes nothing for a while.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cepa::status::{Question, Subject};
use cepa_testnet::NodeSummary;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::documents::{Seen, consensus, seconds_of_day};
use crate::support::network::{CEPA, Network, told};
use crate::support::processes::{Process, disk_takes, lives, send};
use crate::support::space::run;
use crate::support::{Steps, fetch, now, server, until};

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
/// How long a node may take to do what a signal asks, on a machine that does much else.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How long it may take until nodes have something to keep: a new consensus, or two.
const ROUNDS_MAX: Duration = Duration::from_secs(120);

#[test]
fn nodes_outlive_their_operator_and_their_disk() {
    let dir = tempfile::tempdir().unwrap();
    let network = Network::up(dir.path(), &PLAN);
    let mut steps = Steps::default();
    steps.step("signals end no node, and a log is opened anew", || {
        signals(&network);
    });
    steps.step("each role says how it is", || statuses(&network));
    steps.step("a wrong configuration changes nothing", || {
        wrong_configuration(&network);
    });
    steps.step("a relay tells what has changed", || changes(&network));
    steps.step("a client takes other rules on paths", || rules(&network));
    steps.step("an authority renews its certificate", || renewal(&network));
    steps.step("a full disk ends nothing", || full_disk(&network));
    steps.step("bounds on bandwidth hold", || bounds(&network));
    steps.step("a relay that has used up its allowance sleeps", || {
        allowance(&network);
    });
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

/// What commands print as JSON: it can be read, and fits the network.
fn statuses(network: &Network) {
    let folder = |role: &str| network.folder.join(&network.nodes(role)[0].nickname);
    let client = folder("client");
    let circuits = until(ANSWER_MAX, "a circuit of three hops", || {
        let status = told(&["client", "circuits"], &client);
        let circuits = status["circuits"].as_array().unwrap().clone();
        let is_whole = |one: &Value| one["state"] == "built" && one["purpose"] == "general";
        circuits.iter().any(is_whole).then_some(circuits)
    });
    let whole = circuits
        .iter()
        .find(|one| one["state"] == "built" && one["purpose"] == "general");
    let path = whole.unwrap()["path"].as_array().unwrap();
    let nicknames: Vec<&str> = path
        .iter()
        .map(|hop| hop["nickname"].as_str().unwrap())
        .collect();
    assert_eq!(nicknames.len(), 3);
    assert_eq!(nicknames[2], network.nodes("exit")[0].nickname);
    let status = told(&["client", "guards"], &client);
    let guards = status["sampled"].as_array().unwrap();
    let in_use = guards.iter().find(|one| one["is_in_use"] == true).unwrap();
    assert_eq!(whole.unwrap()["guard"], in_use["rsa"]);
    let onions = told(&["onion", "status", "--no-probe"], &client);
    assert_eq!(onions, Value::Array(Vec::new()));
    for (role, command) in [
        ("authority", "relay"),
        ("relay", "relay"),
        ("exit", "relay"),
    ] {
        let node = network.nodes(role)[0];
        let status = told(&[command, "status"], &folder(role));
        assert_eq!(status["rsa"].as_str(), node.rsa.as_deref());
        assert_eq!(status["nickname"], node.nickname);
        assert_eq!(status["is_exit"], role == "exit");
        assert!(status["counts"]["channels"].as_u64() > Some(0), "{status}");
    }
    let status = told(&["authority", "status"], &folder("authority"));
    assert_eq!(status["certificates"].as_array().unwrap().len(), 1);
    let voted = status["vote"]["relays"].as_array().unwrap();
    assert_eq!(voted.len(), 4);
    let exit = voted
        .iter()
        .find(|one| one["nickname"] == nicknames[2])
        .unwrap();
    assert!(exit["flags"].as_array().unwrap().contains(&"Exit".into()));
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
    assert!(written.contains(&or_port) && written.contains("\"accept *:*\""));
    let changed = written
        .replace("exit1@example.org", "somebody@example.org")
        .replace("\"accept *:*\"", "\"reject *:25\", \"accept *:*\"")
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

/// Without the one exit there is no path, until there are no such rules any more.
fn rules(network: &Network) {
    let client = Config::of(network.nodes("client")[0]);
    let server = server::start();
    let fetches = || fetch::get(network.socks(), server, "/bytes/1000").is_ok();
    assert!(fetches());
    client.with("paths = { exclude = [\"exit1\"] }");
    let told = until(ANSWER_MAX, "what has changed", || {
        log_has(client.node, "changed: paths.exclude")
    });
    println!("{told}");
    until(ANSWER_MAX, "word of it", || {
        log_has(client.node, "no path: ")
    });
    client.with("");
    until(ROUNDS_MAX, "a page", || fetches().then_some(()));
}

/// The one authority signs with its new key, and all still believe it.
fn renewal(network: &Network) {
    let authority = network.nodes("authority")[0];
    let dir = authority.dir.unwrap();
    let keys = || fetch::document(dir, "/tor/keys/authority").unwrap();
    let before = keys();
    let mut command = Command::new(CEPA);
    command.args(["authority", "keygen", "--dir"]);
    run(command.arg(folder(authority).join("keys")));
    send(authority.pid.unwrap(), Signal::HUP);
    until(ROUNDS_MAX, "the certificate to be in use", || {
        log_has(authority, "the renewed certificate is in use")
    });
    until(ANSWER_MAX, "a certificate to fetch", || {
        (keys() != before).then_some(())
    });
    let seen = consensus(dir).unwrap();
    let next = until(ROUNDS_MAX, "two more rounds", || {
        let next = consensus(dir)?;
        let time = |seen: &Seen| seconds_of_day(&seen.valid_after);
        (time(&next) != time(&seen) && time(&next) != time(&seen) + 10).then_some(next)
    });
    assert_eq!(next.signers, seen.signers);
    let client = network.nodes("client")[0];
    let refused = log_has(client, "consensus refused");
    assert_eq!(refused, None);
}

/// A number of a node's metrics.
fn metric(node: &NodeSummary, name: &str) -> Option<u64> {
    let text = cepa::status::ask(&folder(node), Question::about(Subject::Metrics)).ok()?;
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

/// How a node is configured, to be changed for a while.
struct Config<'a> {
    node: &'a NodeSummary,
    pid: u32,
    written: String,
}

impl<'a> Config<'a> {
    fn of(node: &'a NodeSummary) -> Self {
        let written = std::fs::read_to_string(&node.config).unwrap();
        let pid = node.pid.unwrap();
        Config { node, pid, written }
    }

    /// Adds these lines, and waits until they are read.
    fn with(&self, lines: &str) {
        let read = || log_count(self.node, "Configuration read again");
        let before = read();
        let text = format!("{lines}\n{}", self.written);
        std::fs::write(&self.node.config, text).unwrap();
        send(self.pid, Signal::HUP);
        until(ANSWER_MAX, "it to be read", || {
            (read() > before).then_some(())
        });
    }
}

fn log_count(node: &NodeSummary, text: &str) -> usize {
    let log = std::fs::read_to_string(&node.log).unwrap_or_default();
    log.lines().filter(|line| line.contains(text)).count()
}

fn bounds(network: &Network) {
    const BYTES: u64 = 500_000;
    let exit = Config::of(network.nodes("exit")[0]);
    let server = server::start();
    for key in ["bandwidth", "relay_bandwidth"] {
        exit.with(&format!("{key}_rate = 100000\n{key}_burst = 100000"));
        let started = now();
        let path = format!("/bytes/{BYTES}");
        let fetched = until(ROUNDS_MAX, "a page", || {
            fetch::get(network.socks(), server, &path).ok()
        });
        let took = now().duration_since(started);
        println!("{BYTES} bytes under {key}_rate = 100000: {took:?}");
        assert!(
            fetched.len == BYTES && took > Duration::from_secs(3),
            "{took:?}"
        );
    }
    exit.with("");
}

fn allowance(network: &Network) {
    let (relay, authority) = (network.nodes("relay")[1], network.nodes("authority")[0]);
    let mut config = Config::of(relay);
    let path = format!("/tor/server/fp/{}", relay.rsa.as_ref().unwrap());
    let says = |is_hibernating| {
        let text = fetch::document(authority.dir.unwrap(), &path)?;
        (text.contains("\nhibernating 1\n") == is_hibernating).then_some(())
    };
    let state = |wanted| metric(relay, "cepa_relay_hibernating ").filter(|state| *state == wanted);
    config.with("accounting_max = 2000");
    until(ANSWER_MAX, "sleep", || state(2));
    let told = log_has(relay, "hibernating: ").unwrap();
    for word in [
        "of 2000 bytes (accounting_max)",
        "until ",
        "raise accounting_max",
    ] {
        assert!(told.contains(word), "{told}");
    }
    until(ANSWER_MAX, "a descriptor that says so", || says(true));
    let server = server::start();
    until(ROUNDS_MAX, "a page by other ways", || {
        fetch::get(network.socks(), server, "/bytes/1000").ok()
    });

    send(config.pid, Signal::KILL);
    until(ANSWER_MAX, "its end", || (!lives(config.pid)).then_some(()));
    let mut command = Command::new(CEPA);
    command.args(["relay", "--config"]).arg(&relay.config);
    let again = Process::start(&mut command);
    config.pid = again.0.id();
    until(ANSWER_MAX, "sleep after a kill", || state(2));
    // What put it to sleep was kept; of what came later a minute may be lost.
    let kept = ["read", "written"].map(|direction| {
        let name = format!("cepa_relay_accounting_bytes{{direction=\"{direction}\"}} ");
        metric(relay, &name).unwrap()
    });
    assert!(kept.iter().any(|bytes| *bytes >= 2000), "{kept:?}");
    config.with("accounting_max = 1000000000");
    until(ANSWER_MAX, "an end of the sleep", || state(0));
    until(ANSWER_MAX, "a descriptor that says so", || says(false));
    config.with("");
}
