//! A `tor` client and stem's parsers on a network of ours.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::network::Network;
use crate::support::{Steps, fetch, now, server};
use crate::tor::{Tor, is_here, is_tor_here};

/// How long `tor` may take to bootstrap.
const BOOTSTRAP_MAX: Duration = Duration::from_secs(120);
/// How long `tor` may take to the next consensus: it waits for most of one's life, and again if
/// that try came too early.
const NEXT_MAX: Duration = Duration::from_secs(180);
/// What `tor` says of the machine or of testing, not of our network.
const NOT_OURS: [&str; 5] = [
    "You have used DirAuthority",
    "you're logging more than",
    "You are running Tor as root",
    "TestingTorNetwork is set",
    "Tor was compiled with zstd",
];

#[test]
fn tor_joins_our_network_and_stem_reads_it() {
    let (has_tor, has_stem) = (
        is_tor_here(),
        is_here("/usr/bin/python3", &["-c", "import stem"]),
    );
    if !has_tor && !has_stem {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let network = Network::up(dir.path(), &[]);
    let mut steps = Steps::default();
    if has_stem {
        steps.step("stem reads all documents", || stem_reads(&network));
    }
    if has_tor {
        steps.step("tor bootstraps, fetches, and has nothing to say", || {
            tor_fetches(&network);
        });
    }
    steps.finish(|| network.show_logs());
}

fn stem_reads(network: &Network) {
    let dirs = network.nodes("authority").into_iter();
    let dirs = dirs.map(|node| node.dir.unwrap().to_string());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/stem_check.py");
    let output = Command::new("/usr/bin/python3")
        .arg(script)
        .args(dirs)
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn tor_fetches(network: &Network) {
    let dir = &network.folder;
    let started = now();
    let info = format!("info file {}", dir.join("tor-info").display());
    let options = ["--Log", "notice stdout", "--Log", &info];
    let mut tor = Tor::start(&dir.join("torrc"), &options);
    tor.wait_for("Bootstrapped 100%", BOOTSTRAP_MAX);
    println!(
        "tor: 100% after {:.1} s",
        now().duration_since(started).as_secs_f64()
    );
    let socks = ([127, 0, 0, 1], network.summary.base_port + 48).into();
    let server = server::start();
    for (name, len) in [("a page", 1000), ("a megabyte", 1_000_000)] {
        let fetched = fetch::get(socks, server, &format!("/bytes/{len}"));
        let sha256 = fetched
            .unwrap_or_else(|error| panic!("{name}: {error:?}"))
            .sha256;
        assert_eq!(sha256, server::sha256_of(len), "{name}");
    }
    // It keeps up with the network: the next consensus is taken, too.
    let info = dir.join("tor-info");
    let taken = |text: &str| text.matches("Loaded microdesc consensus").count();
    let read = || std::fs::read_to_string(&info).unwrap();
    let first = taken(&read());
    crate::support::until(NEXT_MAX, "another consensus at tor", || {
        (taken(&read()) > first || read().matches("consensus diff").count() > 1).then_some(())
    });
    let complaints = tor.complaints_but(&NOT_OURS);
    assert!(complaints.is_empty(), "{complaints:#?}");
    let refused: Vec<_> = read()
        .lines()
        .filter(|line| is_refusal(line))
        .map(str::to_owned)
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

/// Whether a line of the info log says that a document of ours was not to its liking.
fn is_refusal(line: &str) -> bool {
    let words = [
        "Unparseable",
        "unparseable",
        "Unable to parse",
        "Couldn't parse",
        "Malformed",
        "malformed",
        "Bad signature",
        "bad signature",
        "Rejecting",
        "didn't match",
        "Discarding",
    ];
    words.iter().any(|word| line.contains(word))
}
