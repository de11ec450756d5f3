//! How much the six hops between a visitor and an onion service carry, of `tor` and of ours, in
//! turn, over the same relays. A measurement that is run by hand, best with a release build:
//!
//! `CEPA_MEASURED=PATH cargo test --test peers six_hops -- --ignored --nocapture`

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::support::client::Client;
use crate::support::network::Network;
use crate::support::onion::Service;
use crate::support::{fetch, now, server, until};
use crate::tor::{Tor, is_tor_here};

const ALL_TOR: [&str; 10] = [
    "--authorities",
    "0",
    "--relays",
    "0",
    "--exits",
    "0",
    "--clients",
    "0",
    "--with",
    "tor:authority=3,tor:relay=6,tor:exit=2",
];
const READY_MAX: Duration = Duration::from_secs(120);
const ROUNDS: usize = 3;
const LEN: u64 = 32_000_000;

#[test]
#[ignore = "a measurement of two minutes, which says something on a quiet machine only"]
fn six_hops_beside_tor() {
    if !is_tor_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (what, folder, plan) in [
        ("over relays of ours", "ours", &["--clients", "0"][..]),
        ("over relays of tor", "theirs", &ALL_TOR),
    ] {
        let folder = dir.path().join(folder);
        let network = Network::up(&folder, plan);
        measure(what, &network, &folder);
    }
}

/// Both programs at both ends, in turn.
fn measure(what: &str, network: &Network, dir: &Path) {
    let server = server::start();
    let torrc = std::fs::read_to_string(dir.join("torrc")).unwrap();
    let socks = |place| network.local(place);
    let own = |line: &&str| !line.starts_with("DataDirectory") && !line.starts_with("SocksPort");
    let common: Vec<&str> = torrc.lines().filter(own).collect();
    let start = |name: &str, more: &str| {
        let path = dir.join(format!("{name}.torrc"));
        let folder = dir.join(name);
        let text = format!(
            "{}\nDataDirectory {}\n{more}",
            common.join("\n"),
            folder.display()
        );
        std::fs::write(&path, text).unwrap();
        let mut tor = Tor::start(&path, &["--Log", "notice stdout"]);
        tor.wait_for("Bootstrapped 100%", READY_MAX);
        tor
    };
    let folder = dir.join("their-onion");
    let hosts = format!(
        "SocksPort 0\nHiddenServiceDir {}\nHiddenServicePort 80 {server}\n",
        folder.display()
    );
    let _their_service = start("hosts", &hosts);
    let _their_client = start("visits", &format!("SocksPort {}\n", socks(0)));
    let service = Service::start(&network.summary.network, &dir.join("our-onion"), server);
    let _client = Client::start(&network.summary.network, dir, "visitor", socks(1), "");
    let theirs = std::fs::read_to_string(folder.join("hostname")).unwrap();
    let ends = [
        ("tor to tor", socks(0), theirs.trim().to_owned()),
        ("ours to ours", socks(1), service.address.clone()),
    ];
    let mut rates = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for ((name, socks, address), rates) in ends.iter().zip(&mut rates) {
            let user = format!("round{round}");
            until(READY_MAX, name, || rate(*socks, &user, address, 1000));
            let rate = rate(*socks, &user, address, LEN).unwrap();
            println!("{what}, {name}, round {round}: {rate:.1} MB/s");
            rates.push(rate);
        }
    }
    let [theirs, ours] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[ROUNDS / 2]
    });
    println!(
        "{what}: medians of {ROUNDS}: tor {theirs:.1} MB/s, ours {ours:.1} MB/s, ratio {:.2}",
        ours / theirs
    );
}

/// MB a second of a download, from the request to its last byte.
fn rate(socks: SocketAddr, user: &str, address: &str, len: u64) -> Option<f64> {
    let mut stream = fetch::connect(socks, Some(user), address, 80).ok()?;
    let started = now();
    let request = format!("GET /bytes/{len} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut buffer = vec![0; 1 << 16];
    let mut read = 0;
    loop {
        match stream.read(&mut buffer).ok()? {
            0 => break,
            bytes => read += u64::try_from(bytes).unwrap(),
        }
    }
    let took = now().duration_since(started).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    let rate = len as f64 / 1e6 / took;
    (read >= len).then_some(rate)
}
