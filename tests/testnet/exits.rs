//! What an exit refuses, seen by a client, and what its descriptor says of it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::network::{CEPA, Network};
use crate::support::client::{Client, wait_for};
use crate::support::documents::consensus;
use crate::support::fetch::{self, SocksError};
use crate::support::processes::{Process, sockets_of};
use crate::support::{Steps, server, until};

/// How long a relay may take to be listed.
const LISTED_MAX: Duration = Duration::from_secs(90);
/// How long a connection may take to begin, where much else runs.
const CONNECTING_MAX: Duration = Duration::from_secs(60);
/// How long one may be under way that nobody wants: less than any time-out of a connection.
const GIVEN_UP_MAX: Duration = Duration::from_secs(12);
/// How long a socket may be there whose circuit is gone, where much else runs.
const HUNG_UP_MAX: Duration = Duration::from_secs(45);
/// SOCKS 5: not allowed by the rules of the other side (RFC 1928, section 6).
const NOT_ALLOWED: u8 = 2;

#[test]
fn an_exit_refuses_what_strangers_have_no_business_with() {
    let dir = tempfile::tempdir().unwrap();
    let plan = ["--relays", "3", "--exits", "1", "--interval", "10"];
    let network = Network::up(&dir.path().join("net"), &plan);
    let _relay = strict_exit(&network, dir.path());
    let authority = network.nodes("authority")[0].dir.unwrap();
    let nodes = network.summary.nodes.iter();
    let relays = nodes.filter(|node| node.or.is_some()).count();
    until(LISTED_MAX, "the strict exit", || {
        consensus(authority).filter(|seen| seen.relays > relays)
    });
    let socks = network.local(1);
    let more = "[paths]\nexit = [\"strict\"]\n";
    let _client = Client::start(&network.summary.network, dir.path(), "c", socks, more);
    let server = server::start();
    let mut steps = Steps::default();
    steps.step("loopback is refused", || {
        for host in ["127.0.0.1", "localhost"] {
            let refused = fetch::connect(socks, None, host, server.port());
            let is_refused = matches!(refused, Err(SocksError::Refused(_)));
            assert!(is_refused, "{host}: {refused:?}");
        }
    });
    steps.step("names of this machine are no names", || {
        let found = fetch::resolve(socks, "localhost");
        assert!(matches!(found, Err(SocksError::Refused(_))), "{found:?}");
    });
    steps.step("the descriptor says so", || says_so(authority));
    steps.step(
        "an exit of the network leads to pages, not to relays",
        || {
            leads_to_pages(&network, server);
        },
    );
    steps.step("a stream that is given up connects no more", || {
        gives_up(&network);
    });
    steps.step("no socket outlives its circuit for long", || {
        hangs_up(&network, dir.path());
    });
    steps.finish(|| network.show_logs());
}

/// As in the public network, but for its address.
fn strict_exit(network: &Network, dir: &Path) -> Process {
    let text = format!(
        "nickname = \"strict\"\naddress = \"127.90.0.1\"\nor_port = {}\n\
         data_dir = \"strict\"\nnetwork = \"{}\"\ntesting = true\n\
         exit_policy = [\"accept *:*\"]\nexit_policy_reject_private = true\n",
        network.spare(0),
        network.summary.network.display()
    );
    let config = dir.join("strict.toml");
    std::fs::write(&config, text).unwrap();
    let mut relay = Command::new(CEPA);
    relay.args(["relay", "--launched", "--config"]).arg(&config);
    let started = relay.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut relay = Process(started.unwrap());
    wait_for(&mut relay.0, "published");
    relay
}

fn says_so(authority: SocketAddr) {
    let text = fetch::document(authority, "/tor/server/all").unwrap();
    let mut routers = text.split("\nrouter ");
    let own = routers.find(|one| one.contains("strict 127.90")).unwrap();
    for line in ["reject 127.0.0.0/8:*", "accept *:*"] {
        assert!(own.lines().any(|one| one == line), "{own}");
    }
}

fn leads_to_pages(network: &Network, server: SocketAddr) {
    let socks = network.socks();
    fetch::get(socks, server, "/bytes/1000").unwrap();
    let relay = network.nodes("relay")[0].or.unwrap();
    let stream = fetch::connect(socks, None, &relay.ip().to_string(), relay.port());
    // As if nobody listened there: no other exit is tried.
    let is_refused = matches!(&stream, Err(SocksError::Refused(code)) if *code != NOT_ALLOWED);
    assert!(is_refused, "{stream:?}");
}

fn connections_to(network: &Network, server: SocketAddr) -> usize {
    let exits = network.nodes("exit").into_iter();
    let sockets = exits.flat_map(|exit| sockets_of(exit.pid.unwrap()));
    sockets.filter(|(peer, _)| *peer == server).count()
}

/// Where connections neither come to be nor fail: a listener whose queue is full.
fn gives_up(network: &Network) {
    let hole = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    hole.bind(&SocketAddr::from(([127, 78, 0, 2], 0)).into())
        .unwrap();
    hole.listen(0).unwrap();
    let addr = hole.local_addr().unwrap().as_socket().unwrap();
    let fill: Vec<_> = (0..4)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&addr.into());
            socket
        })
        .collect();
    let mut asking: Vec<_> = (0..20)
        .map(|_| {
            let mut socks = TcpStream::connect(network.socks()).unwrap();
            socks.write_all(&[5, 1, 0]).unwrap();
            socks.read_exact(&mut [0; 2]).unwrap();
            let SocketAddr::V4(addr) = addr else {
                unreachable!()
            };
            let mut request = vec![5, 1, 0, 1];
            request.extend_from_slice(&addr.ip().octets());
            request.extend_from_slice(&addr.port().to_be_bytes());
            socks.write_all(&request).unwrap();
            socks
        })
        .collect();
    until(CONNECTING_MAX, "connections under way", || {
        (connections_to(network, addr) >= 20).then_some(())
    });
    asking.clear();
    until(GIVEN_UP_MAX, "they are given up", || {
        (connections_to(network, addr) == 0).then_some(())
    });
    drop(fill);
}

/// A server that reads nothing, and a client that goes without a word.
fn hangs_up(network: &Network, dir: &Path) {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = deaf.local_addr().unwrap();
    let socks = network.local(2);
    let client = Client::start(&network.summary.network, dir, "d", socks, "");
    let mut streams = Vec::new();
    let mut kept = Vec::new();
    for _ in 0..5 {
        let mut stream = fetch::connect(socks, None, "127.0.0.1", server.port()).unwrap();
        kept.push(deaf.accept().unwrap());
        stream.set_nonblocking(true).unwrap();
        // As much as all between here and there takes.
        until(CONNECTING_MAX, "the way is full", || {
            let (mut idle, mut sent) = (0, 0);
            while idle < 5 {
                match stream.write(&[0; 65_536]) {
                    Ok(bytes) => (idle, sent) = (0, sent + bytes),
                    Err(_) => {
                        std::thread::yield_now();
                        idle += 1;
                    }
                }
            }
            (sent > 0).then_some(())
        });
        streams.push(stream);
    }
    assert_eq!(connections_to(network, server), 5);
    drop(client);
    until(HUNG_UP_MAX, "the sockets are closed", || {
        (connections_to(network, server) == 0).then_some(())
    });
}
