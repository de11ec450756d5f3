//! A client's onion services change while it runs: SIGHUP, as with `tor`.

use std::net::SocketAddr;
use std::path::Path;

use rustix::process::Signal;

use crate::onions::{MISSING_CLIENT_KEY, RECOVERY_MAX, make_key, visit};
use crate::support::client::Client;
use crate::support::fetch::{self, SocksError};
use crate::support::network::Network;
use crate::support::processes::send;
use crate::support::{now, until};

/// Spare ports of the network: of the client that hosts, which nobody uses, and of a visitor.
const SOCKS: [u16; 2] = [10, 11];

/// Of two services one goes and one gets a client key; a third one comes. A file that is wrong
/// changes nothing.
pub(crate) fn reloads(network: &Network, dir: &Path, server: SocketAddr) {
    let keys = dir.join("reload-keys");
    std::fs::create_dir(&keys).unwrap();
    let table = |name: &str| {
        format!("[[onion_service]]\ndir = \"reload-{name}\"\nports = [\"80={server}\"]\n")
    };
    let [socks, fresh] = SOCKS.map(|place| network.local(place));
    let before = [table("stays"), table("goes")].concat();
    let network_file = &network.summary.network;
    let client = Client::start(network_file, dir, "reloaded", socks, &before);
    let config = dir.join("reloaded.toml");
    let written = std::fs::read_to_string(&config).unwrap();
    let pid = client.process.0.id();
    let [stays, goes] = ["stays", "goes"].map(|name| {
        let address = until(RECOVERY_MAX, "an address", || address(dir, name));
        until(RECOVERY_MAX, "a visit", || {
            visit(network, "in before", &address, 1000).ok()
        });
        address
    });

    std::fs::write(&config, written.replace("80=", "nowhere=")).unwrap();
    send(pid, Signal::HUP);
    visit(network, "all stays", &stays, 1000).unwrap();
    visit(network, "all stays", &goes, 1000).unwrap();

    make_key(dir, "reload", &stays, &dir.join("reload-stays"), &keys);
    std::fs::write(&config, written.replace("reload-goes", "reload-comes")).unwrap();
    let started = now();
    send(pid, Signal::HUP);
    until(RECOVERY_MAX, "an end of the one that goes", || {
        visit(network, "in before", &goes, 1000).err()
    });
    let comes = until(RECOVERY_MAX, "an address", || address(dir, "comes"));
    until(RECOVERY_MAX, "a visit of the one that comes", || {
        visit(network, "new", &comes, 1000).ok()
    });
    // The network's client still has what the service said before.
    let _fresh = Client::start(network_file, dir, "fresh", fresh, "");
    until(
        RECOVERY_MAX,
        "a refusal for want of a key",
        || match fetch::fetch_from(fresh, None, (&stays, 80), "/") {
            Err(SocksError::Refused(MISSING_CLIENT_KEY)) => Some(()),
            _ => None,
        },
    );
    let took = now().duration_since(started).as_secs_f64();
    println!("all has changed after {took:.2} s");
    visit(network, "in before", &stays, 1000).unwrap();
}

fn address(dir: &Path, name: &str) -> Option<String> {
    let hostname = dir.join(format!("reload-{name}/hostname"));
    let text = std::fs::read_to_string(hostname).ok()?;
    text.strip_suffix('\n').map(str::to_owned)
}
