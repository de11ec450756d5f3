//! WebTunnel, whose both ends are in our program, with Debian's `webtunnel-client` and
//! `webtunnel-server` at the other end, and `tor` behind them. In a network namespace, as its
//! client connects to no private address; a web server with a certificate stands before neither
//! (`src/transports/webtunnel/tests.rs` has one).

use std::path::Path;
use std::time::Duration;

use crate::bridges::{BOOTSTRAP_MAX, path_of, torrc_of};
use crate::support::bridges::Bridge;
use crate::support::client::Client;
use crate::support::network::Network;
use crate::support::space::Space;
use crate::support::{Steps, until};
use crate::tor::{Tor, is_tor_here};

/// An address that is nobody's (RFC 5737) and yet no private one, for bridges.
const PUBLIC: &str = "203.0.113.7";
/// The server's.
const SERVER: &str = "198.51.100.9";
const PAGE: &str = "seen through a web site";
/// How long the server may take to start.
const START_MAX: Duration = Duration::from_secs(20);

#[test]
fn webtunnel_of_both() {
    if !is_tor_here() {
        return;
    }
    let programs = ["webtunnel-client", "webtunnel-server"].map(path_of);
    let [Some(client), Some(server)] = programs else {
        return;
    };
    let space = match Space::new("webt") {
        Ok(space) => space,
        Err(missing) => {
            println!("not tested: {missing}");
            return;
        }
    };
    let dir = tempfile::tempdir().unwrap();
    for address in [PUBLIC, SERVER] {
        space.ip(&format!("address add {address}/32 dev lo"));
    }
    std::fs::write(dir.path().join("page"), PAGE).unwrap();
    let _server = space.serve(dir.path());
    let page = format!("http://{SERVER}/page");
    until(START_MAX, "the server", || {
        space.fetch(&[&page]).filter(|text| text == PAGE)
    });
    let plan = ["--clients", "0"];
    let network = Network::up_in(Some(&space.0), &dir.path().join("net"), &plan);
    let world = World {
        space: &space,
        network: &network,
        dir: dir.path(),
        page: &page,
        client: &client,
        server: &server,
    };
    let ours = world.our_bridge();
    let (_tor, theirs) = world.their_bridge();
    let mut steps = Steps::default();
    let line = ours.line(Some("webtunnel"));
    steps.step("a bridge of ours, a client of ours", || {
        world.our_client("oo", 20, line);
    });
    steps.step("a bridge of ours, webtunnel-client and tor", || {
        world.their_client("ot", 21, line);
    });
    steps.step(
        "a bridge of tor by webtunnel-server, a client of ours",
        || {
            world.our_client("to", 22, &theirs);
        },
    );
    steps.finish(|| network.show_logs());
}

struct World<'a> {
    space: &'a Space,
    network: &'a Network,
    dir: &'a Path,
    page: &'a str,
    /// The programs of the transport.
    client: &'a str,
    server: &'a str,
}

impl World<'_> {
    /// A bridge that nobody reaches but by WebTunnel.
    fn our_bridge(&self) -> Bridge {
        let (port, door) = (self.network.spare(0), self.network.spare(1));
        let more = format!(
            "address = \"{PUBLIC}\"\nor_port = {port}\nlisten = \"127.0.0.1\"\n\
             server_transport_plugins = [\"webtunnel own\"]\n\
             server_transport_listen = [\"webtunnel {PUBLIC}:{door}\"]\n\
             server_transport_options = [\"webtunnel url=http://{PUBLIC}:{door}/ours\"]\n"
        );
        let file = &self.network.summary.network;
        Bridge::start_in(Some(&self.space.0), file, self.dir, "ourbridge", 1, &more)
    }

    fn their_bridge(&self) -> (Tor, String) {
        let (port, door) = (self.network.spare(2), self.network.spare(3));
        let more = format!(
            "SocksPort 0\nNickname theirbridge\nAddress {PUBLIC}\nORPort {PUBLIC}:{port}\n\
             BridgeRelay 1\nPublishServerDescriptor 0\nAssumeReachable 1\nExitRelay 0\n\
             ContactInfo a@example.org\nExtORPort auto\n\
             ServerTransportPlugin webtunnel exec {}\n\
             ServerTransportListenAddr webtunnel {PUBLIC}:{door}\n\
             ServerTransportOptions webtunnel url=http://{PUBLIC}:{door}/theirs\n",
            self.server
        );
        let mut tor = self.tor("theirbridge", &more);
        tor.wait_for("Bootstrapped 100%", BOOTSTRAP_MAX);
        let text = std::fs::read_to_string(self.dir.join("theirbridge/fingerprint")).unwrap();
        let id = text.split_whitespace().nth(1).unwrap();
        let url = format!("http://{PUBLIC}:{door}/theirs");
        let line = format!("Bridge webtunnel [2001:db8::7]:443 {id} url={url} ver=0.0.1");
        (tor, line)
    }

    fn our_client(&self, name: &str, place: u16, line: &str) {
        let socks = self.network.local(place);
        let more = format!("bridges = [{line:?}]\n");
        let file = &self.network.summary.network;
        let _client = Client::start_in(Some(&self.space.0), file, self.dir, name, socks, &more);
        self.fetches(&socks.to_string());
    }

    fn their_client(&self, name: &str, place: u16, line: &str) {
        let socks = self.network.local(place).to_string();
        let plugin = format!("ClientTransportPlugin webtunnel exec {}", self.client);
        let more = format!("SocksPort {socks}\nUseBridges 1\n{line}\n{plugin}\n");
        let mut tor = self.tor(name, &more);
        tor.wait_for("Bootstrapped 100%", BOOTSTRAP_MAX);
        self.fetches(&socks);
    }

    fn tor(&self, name: &str, more: &str) -> Tor {
        let torrc = torrc_of(self.network, self.dir, name, more);
        let mut command = self.space.command("tor");
        Tor::run(
            command
                .arg("-f")
                .arg(torrc)
                .args(["--Log", "notice stdout"]),
        )
    }

    fn fetches(&self, socks: &str) {
        let page = self.space.fetch(&["--socks5-hostname", socks, self.page]);
        assert_eq!(page.as_deref(), Some(PAGE));
    }
}
