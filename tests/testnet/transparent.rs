//! The transparent port for real: two network namespaces, one with the network and a firewall that
//! leads connections to its client (REDIRECT, TPROXY), one with a user who knows of nothing.
//!
//! It needs root, `ip` and `nft`, and says so where they are absent. The server's port is closed to
//! the user's namespace, so that what he gets has gone through three hops.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::network::Network;
use crate::support::client::Client;
use crate::support::processes::Process;
use crate::support::space::{Space, run};
use crate::support::{Steps, until};

/// The server's addresses: one for each way.
const REDIRECTED: &str = "198.51.100.7";
const TPROXIED: &str = "198.51.100.8";
const PAGE: &str = "seen through three hops";
/// How long the server may take to start, and a fetch to end.
const START_MAX: Duration = Duration::from_secs(20);

/// The two namespaces; what is missing on this machine if there can be none.
fn spaces() -> Result<(Space, Space), &'static str> {
    let lacks = |tool: &&str| Command::new(tool).arg("-V").output().is_err();
    match ["nft", "curl", "python3"].into_iter().find(lacks) {
        Some(missing) => Err(missing),
        None => Ok((Space::new("net")?, Space::new("user")?)),
    }
}

#[test]
fn a_firewall_leads_connections_to_the_client() {
    let (inside, user) = match spaces() {
        Ok(both) => both,
        Err(missing) => {
            println!("not tested: {missing}");
            return;
        }
    };
    let dir = tempfile::tempdir().unwrap();
    connect(&inside, &user);
    std::fs::write(dir.path().join("page"), PAGE).unwrap();
    let mut server = inside.command("python3");
    server.args(["-m", "http.server", "80", "--directory"]);
    let _server = Process::start(server.arg(dir.path()).stderr(Stdio::null()));
    until(START_MAX, "the server", || {
        fetch(&inside, REDIRECTED).filter(|text| text == PAGE)
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
        assert_eq!(fetch(&user, REDIRECTED).as_deref(), Some(PAGE));
    });
    steps.step("TPROXY", || {
        assert_eq!(fetch(&user, TPROXIED).as_deref(), Some(PAGE));
    });
    steps.step("who comes to the port itself is hung up on", || {
        assert_eq!(fetch(&user, &format!("10.99.0.1:{redirect}")), None);
    });
    steps.finish(|| network.show_logs());
}

/// The page as curl in a namespace gets it.
fn fetch(space: &Space, host: &str) -> Option<String> {
    let mut curl = space.command("curl");
    curl.args(["--silent", "--fail", "--max-time", "20"]);
    let output = curl.arg(format!("http://{host}/page")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    output.status.success().then_some(text)
}

/// A cable between the two; all that the user does not know goes over it.
fn connect(inside: &Space, user: &Space) {
    let words = "link add cable type veth peer name cable netns";
    run(Command::new("ip")
        .args(["-n", &inside.0])
        .args(words.split(' '))
        .arg(&user.0));
    for (space, address) in [(inside, "10.99.0.1/24"), (user, "10.99.0.2/24")] {
        space.ip(&format!("address add {address} dev cable"));
        space.ip("link set cable up");
    }
    user.ip("route add default via 10.99.0.1");
    inside.ip(&format!("address add {REDIRECTED}/32 dev lo"));
    inside.ip(&format!("address add {TPROXIED}/32 dev lo"));
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
    let mut nft = inside.command("nft");
    let mut child = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(rules.as_bytes()).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
    inside.ip("rule add fwmark 1 lookup 100");
    inside.ip("route add local default dev lo table 100");
}
