//! The transparent port for real: two network namespaces, one with the network and a firewall that
//! leads connections to its client (REDIRECT, TPROXY), one with a user who knows of nothing.
//!
//! It needs root, `ip` and `nft`, and says so where they are absent. The server's port is closed to
//! the user's namespace, so that what he gets has gone through three hops.

use std::time::Duration;

use crate::network::Network;
use crate::support::client::Client;
use crate::support::space::Space;
use crate::support::{Steps, until};

/// The server's addresses: one for each way.
const REDIRECTED: &str = "198.51.100.7";
const TPROXIED: &str = "198.51.100.8";
const PAGE: &str = "seen through three hops";
/// How long the server may take to start, and a fetch to end.
const START_MAX: Duration = Duration::from_secs(20);

#[test]
fn a_firewall_leads_connections_to_the_client() {
    let (inside, user) = match Space::pair(["net", "user"], ["10.99.0.1", "10.99.0.2"]) {
        Ok(both) => both,
        Err(missing) => {
            println!("not tested: {missing}");
            return;
        }
    };
    let dir = tempfile::tempdir().unwrap();
    for address in [REDIRECTED, TPROXIED] {
        inside.ip(&format!("address add {address}/32 dev lo"));
    }
    let page = |space: &Space, host: &str| space.fetch(&[&format!("http://{host}/page")]);
    std::fs::write(dir.path().join("page"), PAGE).unwrap();
    let _server = inside.serve(dir.path());
    until(START_MAX, "the server", || {
        page(&inside, REDIRECTED).filter(|text| text == PAGE)
    });
    let plan = ["--relays", "3", "--clients", "0"];
    let network = Network::up_in(Some(&inside.0), dir.path(), &plan);
    let (redirect, tproxy) = (network.spare(0), network.spare(1));
    firewall(&inside, redirect, tproxy);
    let more = format!("redirect = [\"10.99.0.1:{redirect}\"]\ntproxy = [\"0.0.0.0:{tproxy}\"]\n");
    let _client = Client::start_in(
        Some(&inside.0),
        &network.summary.network,
        dir.path(),
        "c",
        network.local(2),
        &more,
    );
    let mut steps = Steps::default();
    steps.step("REDIRECT", || {
        assert_eq!(page(&user, REDIRECTED).as_deref(), Some(PAGE));
    });
    steps.step("TPROXY", || {
        assert_eq!(page(&user, TPROXIED).as_deref(), Some(PAGE));
    });
    steps.step("who comes to the port itself is hung up on", || {
        assert_eq!(page(&user, &format!("10.99.0.1:{redirect}")), None);
    });
    steps.finish(|| network.show_logs());
}

fn firewall(inside: &Space, redirect: u16, tproxy: u16) {
    let rules = format!(
        "table ip cepa {{
            chain nat {{
                type nat hook prerouting priority dstnat;
                iifname cable ip daddr {REDIRECTED} tcp dport 80 redirect to :{redirect}
            }}
            chain mangle {{
                type filter hook prerouting priority mangle;
                iifname cable ip daddr {TPROXIED} tcp dport 80 \
                    tproxy to :{tproxy} meta mark set 1 accept
            }}
            chain closed {{
                type filter hook input priority filter;
                iifname cable tcp dport 80 meta mark != 1 drop
            }}
        }}"
    );
    inside.nft(&rules);
    inside.ip("rule add fwmark 1 lookup 100");
    inside.ip("route add local default dev lo table 100");
}
