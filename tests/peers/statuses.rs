//! What applications are told: each outcome of a request over SOCKS 5, SOCKS 4a and HTTP CONNECT,
//! by a client of ours and one of `tor`'s on the same network.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::faults::{NAME_SERVER, World, space};
use crate::support::fetch::document;
use crate::support::network::{CEPA, Network};
use crate::support::onion::Service;
use crate::support::processes::send;
use crate::support::{dns, server, until};
use rustix::process::Signal;

/// How long an answer may take: no longer than `SocksTimeout`, of both.
const ANSWER_MAX: Duration = Duration::from_secs(150);
/// An address of an onion service that there is not, and the same with another letter.
const NOBODY: &str = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd.onion";
const MISTYPED: &str = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyf.onion";

/// A port that all exits refuse.
const REFUSED_PORT: u16 = 26;
/// How long the consensus may take to say so.
const LISTED_MAX: Duration = Duration::from_secs(90);

/// What we tell otherwise than `tor`, and why.
const DEPARTURES: [(&str, &str, &str); 11] = [
    (
        "SOCKS 5: a port that no exit allows",
        "02",
        "it is the rules of others",
    ),
    (
        "HTTP: a port that no exit allows",
        "403",
        "final, as a refusal is",
    ),
    (
        "HTTP: a port that a service does not have",
        "403",
        "final, as over SOCKS",
    ),
    ("HTTP: a name with a blank", "400", "an answer"),
    ("HTTP: a name with a slash", "400", "final: no host has it"),
    ("HTTP: no port", "400", "final"),
    ("HTTP: nothing", "400", "final"),
    ("HTTP: GET", "405", "an answer"),
    ("HTTP: POST", "405", "an answer"),
    ("HTTP: OPTIONS", "405", "an answer"),
    ("HTTP: PUT", "405", "an answer"),
];

/// Where the two clients have their ports.
struct Ports {
    socks: SocketAddr,
    http: SocketAddr,
}

/// A request: what it is about, and how it is written.
struct Case {
    what: String,
    ask: Box<dyn Fn(&Ports) -> String + Send + Sync>,
}

#[test]
fn applications_are_told_the_same() {
    let Some(space) = space("statuses") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    space.set_resolvers(&format!("nameserver {NAME_SERVER}\n"));
    dns::start_at(&format!("{NAME_SERVER}:53"));
    let plan = "--authorities 3 --relays 4 --exits 2 --clients 0 --interval 10";
    let plan: Vec<_> = plan.split_whitespace().collect();
    let network = Network::up_in(Some(&space.0), &dir.path().join("net"), &plan);
    exits_refuse_a_port(&network);
    let world = World::new(&network, dir.path());
    let http = [world.socks(2), world.socks(3)];
    let more = format!("http_connect = [\"{}\"]\n", http[0]);
    let (_ours, our_socks) = world.ours("ours", 0, &more);
    let more = format!("HTTPTunnelPort {}\n", http[1]);
    let (_theirs, their_socks) = world.theirs_with("theirs", 1, "ExtendedErrors", &more);
    let ours = Ports {
        socks: our_socks,
        http: http[0],
    };
    let theirs = Ports {
        socks: their_socks,
        http: http[1],
    };
    let service = Service::start(
        &network.summary.network,
        &dir.path().join("open"),
        server::start(),
    );
    let locked = locked(&network, dir.path());
    let closed = closed_port();
    let cases = cases(&service.address, &locked.address, closed);
    let answers: Vec<[String; 2]> = std::thread::scope(|threads| {
        let asked = cases.iter().map(|case| {
            let sides = [&ours, &theirs];
            sides.map(|ports| threads.spawn(|| (case.ask)(ports)))
        });
        let asked: Vec<_> = asked.collect();
        let answers = asked.into_iter();
        answers
            .map(|sides| sides.map(|side| side.join().unwrap()))
            .collect()
    });
    let mut wrong = Vec::new();
    for (case, [ours, theirs]) in cases.iter().zip(&answers) {
        let departure = DEPARTURES.iter().find(|one| one.0 == case.what);
        let word = match (departure, ours == theirs) {
            (None, true) => "",
            (Some((_, told, why)), false) if told == ours => why,
            _ => {
                wrong.push(&case.what);
                "NOT AS EXPECTED"
            }
        };
        println!("{:44} {ours:8} tor: {theirs:8} {word}", case.what);
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// All exits refuse one port from now on, and the consensus says so.
fn exits_refuse_a_port(network: &Network) {
    let exits = network.nodes("exit");
    for exit in &exits {
        let written = std::fs::read_to_string(&exit.config).unwrap();
        let rule = "\"accept *:*\"";
        assert!(written.contains(rule));
        let rules = format!("\"reject *:{REFUSED_PORT}\", {rule}");
        std::fs::write(&exit.config, written.replace(rule, &rules)).unwrap();
        send(exit.pid.unwrap(), Signal::HUP);
    }
    let authority = network.nodes("authority")[0].dir.unwrap();
    let line = format!("p reject {REFUSED_PORT}");
    until(LISTED_MAX, "their policies in the consensus", || {
        let text = document(authority, "/tor/status-vote/current/consensus")?;
        let told = text.lines().filter(|one| *one == line).count();
        (told == exits.len()).then_some(())
    });
}

/// A service whose only client has a key that nobody here has.
fn locked(network: &Network, dir: &Path) -> Service {
    let folder = dir.join("locked");
    let clients = folder.join("authorized_clients");
    std::fs::create_dir_all(&clients).unwrap();
    for path in [&folder, &clients] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(path, mode).unwrap();
    }
    let mut key = Command::new(CEPA);
    key.args(["onion", "key", NOBODY, "--name", "a", "--dir"]);
    assert!(key.arg(dir.join("key")).output().unwrap().status.success());
    // What the service has of it names no address.
    std::fs::rename(dir.join("key/a.auth"), clients.join("a.auth")).unwrap();
    Service::start(&network.summary.network, &folder, server::start())
}

/// A port where nobody listens: one that was free a moment ago.
fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Hosts and ports that all protocols are asked for.
fn targets(service: &str, locked: &str, closed: u16) -> Vec<(&'static str, String, u16)> {
    let targets = [
        ("a port where nobody listens", "127.0.0.1", closed),
        ("a name that there is not", "missing.example", 80),
        ("a port that no exit allows", "127.0.0.1", REFUSED_PORT),
        ("an address that no exit has", "[2001:db8::1]", 80),
        ("an onion service that there is not", NOBODY, 80),
        ("a mistyped onion address", MISTYPED, 80),
        ("a short onion address", "abc.onion", 80),
        ("a service with keys, without one", locked, 80),
        ("a port that a service does not have", service, 81),
        ("an open service", service, 80),
        ("port 0", "127.0.0.1", 0),
        ("an address of .exit", "page.example.exit1.exit", 80),
        ("a name with a blank", "page example", 80),
        ("a name with a slash", "page/example", 80),
    ];
    let owned = targets.map(|(what, host, port)| (what, host.to_owned(), port));
    owned.into()
}

fn cases(service: &str, locked: &str, closed: u16) -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, host, port) in targets(service, locked, closed) {
        for version in [5, 4] {
            let host = host.clone();
            cases.push(Case {
                what: format!("SOCKS {version}: {what}"),
                ask: Box::new(move |ports| socks(ports.socks, version, 1, &host, port)),
            });
        }
        cases.push(Case {
            what: format!("HTTP: {what}"),
            ask: Box::new(move |ports| connect(ports.http, &format!("{host}:{port}"))),
        });
    }
    let missing = "look-up of a name that there is not";
    for (what, command, host) in [
        (missing, 0xF0, "missing.example"),
        ("look-up of a name", 0xF0, dns::NAME),
        ("look-up of an onion address", 0xF0, NOBODY),
        ("look-up of an address without a name", 0xF1, "192.0.2.99"),
        ("look-up of an address with a name", 0xF1, "192.0.2.7"),
        ("look-up of a name by PTR", 0xF1, "page.example"),
        ("BIND", 2, "127.0.0.1"),
    ] {
        cases.push(Case {
            what: format!("SOCKS 5: {what}"),
            ask: Box::new(move |ports| socks(ports.socks, 5, command, host, 80)),
        });
    }
    cases.extend(http_cases());
    cases
}

/// What only HTTP can be asked for.
fn http_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, target) in [
        ("a name of 300 bytes", "a".repeat(300) + ":80"),
        ("no port", "127.0.0.1".to_owned()),
        ("a port that is none", "127.0.0.1:http".to_owned()),
        ("a port that is too high", "127.0.0.1:65536".to_owned()),
        ("nothing", ":80".to_owned()),
    ] {
        cases.push(Case {
            what: format!("HTTP: {what}"),
            ask: Box::new(move |ports| connect(ports.http, &target)),
        });
    }
    for method in ["GET", "POST", "OPTIONS", "PUT"] {
        let head = format!("{method} http://page.example/ HTTP/1.1\r\nHost: page.example\r\n\r\n");
        cases.push(Case {
            what: format!("HTTP: {method}"),
            ask: Box::new(move |ports| http(ports.http, &head)),
        });
    }
    cases
}

fn open(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
    stream
}

/// The code of a SOCKS reply, in hex, or that there was none.
fn socks(addr: SocketAddr, version: u8, command: u8, host: &str, port: u16) -> String {
    let mut stream = open(addr);
    let mut request = vec![version, command];
    match version {
        4 => {
            request.extend_from_slice(&port.to_be_bytes());
            request.extend_from_slice(&[0, 0, 0, 1, 0]);
            request.extend_from_slice(host.as_bytes());
            request.push(0);
        }
        _ => {
            stream.write_all(&[5, 1, 0]).unwrap();
            stream.read_exact(&mut [0; 2]).unwrap();
            request.push(0);
            match host.trim_matches(['[', ']']).parse() {
                Ok(IpAddr::V4(ip)) => {
                    request.push(1);
                    request.extend_from_slice(&ip.octets());
                }
                Ok(IpAddr::V6(ip)) => {
                    request.push(4);
                    request.extend_from_slice(&ip.octets());
                }
                Err(_) => {
                    request.extend_from_slice(&[3, u8::try_from(host.len()).unwrap()]);
                    request.extend_from_slice(host.as_bytes());
                }
            }
            request.extend_from_slice(&port.to_be_bytes());
        }
    }
    stream.write_all(&request).unwrap();
    let mut reply = [0; 2];
    match stream.read_exact(&mut reply) {
        Ok(()) => format!("{:02x}", reply[1]),
        Err(_) => "none".to_owned(),
    }
}

fn connect(addr: SocketAddr, target: &str) -> String {
    http(addr, &format!("CONNECT {target} HTTP/1.1\r\n\r\n"))
}

/// The status of a reply, or that there was none.
fn http(addr: SocketAddr, head: &str) -> String {
    let mut stream = open(addr);
    stream.write_all(head.as_bytes()).unwrap();
    let mut reply = [0; 12];
    match stream.read_exact(&mut reply) {
        Ok(()) => String::from_utf8_lossy(&reply[9..]).into_owned(),
        Err(_) => "none".to_owned(),
    }
}
