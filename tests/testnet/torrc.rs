//! A program that is called `tor`, as others start it: by stem, and as nodes of a whole network.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::support::network::{CEPA, Network};
use crate::support::{fetch, server, stem, until};

/// A link to ours whose name is `tor`.
fn link(dir: &Path) -> PathBuf {
    let link = dir.join("tor");
    symlink(CEPA, &link).unwrap();
    link
}

#[test]
fn stem_starts_it_and_owns_it() {
    let Some(mut stem) = stem::python("testnet/torrc.py") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let network = Network::up(dir.path(), &[]);
    let web = server::start();
    let stem = stem
        .arg(link(dir.path()))
        .arg(network.folder.join("torrc"))
        .arg(dir.path().join("data"))
        .arg(web.port().to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&stem.stdout);
    let complaint = String::from_utf8_lossy(&stem.stderr);
    if !stem.status.success() {
        network.show_logs();
    }
    assert!(stem.status.success(), "{said}{complaint}");
    assert!(said.ends_with("stem is content\n"), "{said}");
    let number = said.lines().find_map(|line| line.strip_prefix("pid "));
    let running = Path::new("/proc").join(number.unwrap()).join("exe");
    until(Duration::from_secs(10), "the end of an owned tor", || {
        std::fs::read_link(&running).is_err().then_some(())
    });
    assert!(!dir.path().join("data.pid").exists());
}

#[test]
fn a_relay_is_a_client_too() {
    let Some(mut stem) = stem::python("testnet/relay_and_client.py") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let network = Network::up(dir.path(), &[]);
    let web = server::start();
    let mut stem = stem
        .arg(link(dir.path()))
        .arg(network.folder.join("torrc"))
        .arg(dir.path().join("both"))
        .arg(web.port().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(stem.stdout.take().unwrap()).lines();
    let said: Vec<String> = lines
        .map(Result::unwrap)
        .take_while(|line| line != "stem is content")
        .collect();
    let told = |word: &str| -> Vec<String> {
        let of = said.iter().filter_map(|line| line.strip_prefix(word));
        of.map(str::to_owned).collect()
    };
    let [socks] = &told("socks ")[..] else {
        network.show_logs();
        panic!("{said:?}");
    };
    let got = fetch::get(socks.parse().unwrap(), web, "/bytes/100000").unwrap();
    assert_eq!(got.len, 100_000);
    // A client of the network visits its services, those of controllers and of folders.
    let client = network.socks();
    let onions = told("onion ");
    assert_eq!(onions.len(), 2, "{said:?}");
    for onion in onions {
        let got = fetch::fetch_from(client, None, (&onion, 80), "/bytes/100000").unwrap();
        assert_eq!(got.len, 100_000, "{onion}");
    }
    drop(stem.stdin.take());
    assert!(stem.wait().unwrap().success());
    let [number] = &told("pid ")[..] else {
        panic!("{said:?}");
    };
    let running = Path::new("/proc").join(number).join("exe");
    until(Duration::from_secs(10), "the end of an owned tor", || {
        std::fs::read_link(&running).is_err().then_some(())
    });
}

#[test]
fn a_controller_sees_to_a_torrc() {
    let Some(mut stem) = stem::python("testnet/saveconf.py") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let network = Network::up(dir.path(), &[]);
    let stem = stem
        .arg(link(dir.path()))
        .arg(network.folder.join("torrc"))
        .arg(dir.path().join("saved"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&stem.stdout);
    let complaint = String::from_utf8_lossy(&stem.stderr);
    if !stem.status.success() {
        network.show_logs();
    }
    assert_eq!(said.trim(), "stem is content", "{complaint}");
}

#[test]
fn a_network_of_torrcs_comes_up() {
    let dir = tempfile::tempdir().unwrap();
    let tor = link(dir.path());
    let nodes = "tor:authority=3,tor:relay=3,tor:exit=1,tor:client=1,tor:onion=1";
    let place = dir.path().join("network");
    let network = Network::up(
        &place,
        &[
            "--authorities",
            "0",
            "--relays",
            "0",
            "--exits",
            "0",
            "--clients",
            "0",
            "--with",
            nodes,
            "--tor",
            tor.to_str().unwrap(),
        ],
    );
    let web = server::start();
    let socks = network.summary.socks.first().copied().unwrap();
    let got = fetch::get(socks, web, "/bytes/100000").unwrap();
    assert_eq!(got.len, 100_000);
    // What each of them says is what tor would.
    until(Duration::from_secs(60), "a relay that is ready", || {
        let log = std::fs::read_to_string(place.join("torrelay1/log")).unwrap();
        let is_ready = log.contains("[notice] Bootstrapped 100% (done): Done");
        is_ready.then_some(())
    });
}
