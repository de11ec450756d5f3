//! The ports of a client beside SOCKS: HTTP CONNECT, DNS, addresses that stand for onion names.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use crate::network::Network;
use crate::support::client::Client;
use crate::support::fetch::SocksError;
use crate::support::{Steps, fetch, now, server};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// What is said without asking anybody, also where much else runs.
const AT_ONCE: Duration = Duration::from_secs(20);

#[test]
fn applications_without_socks_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let plan = ["--relays", "4", "--clients", "0", "--onion-services", "1"];
    let network = Network::up(dir.path(), &plan);
    let (socks, http, dns) = (network.local(0), network.local(1), network.local(2));
    let unix = dir.path().join("http");
    let more = format!(
        "http_connect = [\"{http}\", \"unix:{} GroupWritable\"]\ndns = [\"{dns}\"]\n\
         automap = true\n",
        unix.display()
    );
    let _client = Client::start(&network.summary.network, dir.path(), "c", socks, &more);
    let mut steps = Steps::default();
    steps.step("curl through HTTP CONNECT", || connects(http));
    steps.step("HTTP CONNECT over a unix socket", || connects_by(&unix));
    steps.step("a server that refuses is told as with tor", || {
        server_refuses(http);
    });
    steps.step("what is no CONNECT is refused", || refuses(http));
    steps.step("names and addresses by DNS", || resolves(dns));
    steps.step("what is no host is refused at once, by each port", || {
        refuses_odd_hosts(socks, http, dns);
    });
    steps.step("who answers the DNS port is not answered", || {
        ignores_answers(dns)
    });
    steps.step("tor-resolve", || tor_resolve(socks));
    steps.step("an onion name has an address", || {
        automaps(&network, dns, socks);
    });
    steps.step("a careful client refuses addresses and ports", || {
        let careful = network.local(3);
        let more = "safe_socks = true\nreject_plaintext_ports = [4]\n";
        let _client = Client::start(
            &network.summary.network,
            dir.path(),
            "careful",
            careful,
            more,
        );
        refuses_the_careless(careful, socks);
    });
    steps.finish(|| network.show_logs());
}

/// RFC 1928: not allowed.
const NOT_ALLOWED: u8 = 2;

fn refuses_the_careless(careful: SocketAddr, careless: SocketAddr) {
    let server = server::start();
    let asked = |socks, host: &str, port| match fetch::connect(socks, None, host, port) {
        Ok(_) => None,
        Err(SocksError::Refused(status)) => Some(status),
        Err(SocksError::Io(error)) => panic!("{host}: {error}"),
    };
    let address = server.ip().to_string();
    assert_eq!(asked(careless, &address, server.port()), None);
    assert_eq!(asked(careful, &address, server.port()), Some(NOT_ALLOWED));
    assert_eq!(asked(careful, "name.example", 4), Some(NOT_ALLOWED));
}

fn connects(http: SocketAddr) {
    let url = format!("http://{}/bytes/100000", server::start());
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--fail",
        "--proxytunnel",
        "--proxy",
        &http.to_string(),
    ]);
    let output = curl.arg(url).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let digest = cepa_crypto::digest::sha256(&output.stdout);
    assert_eq!(
        cepa_crypto::encoding::hex_lower(&digest),
        server::sha256_of(100_000)
    );
}

fn connects_by(unix: &Path) {
    let mode = std::fs::metadata(unix).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let server = server::start();
    let mut stream = UnixStream::connect(unix).unwrap();
    let head = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut reply = Vec::new();
    while !reply.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        reply.push(byte[0]);
    }
    assert!(reply.starts_with(b"HTTP/1.1 200"), "{reply:?}");
    stream
        .write_all(b"GET /bytes/1000 HTTP/1.0\r\n\r\n")
        .unwrap();
    let mut page = Vec::new();
    stream.read_to_end(&mut page).unwrap();
    assert!(page.len() > 1000);
}

/// Nobody listens at the port of a server that has gone.
fn server_refuses(http: SocketAddr) {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut stream = TcpStream::connect(http).unwrap();
    let head = format!("CONNECT {closed} HTTP/1.1\r\nHost: {closed}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut reply = [0; 12];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"HTTP/1.1 403");
}

fn refuses(http: SocketAddr) {
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code}",
    ]);
    let output = curl
        .arg("--proxy")
        .arg(http.to_string())
        .arg("http://127.0.0.1:1/");
    let output = output.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "405");
}

fn ask(dns: SocketAddr, name: &str, kind: RecordType) -> Message {
    ask_for(dns, Name::from_ascii(name).unwrap(), kind)
}

fn ask_for(dns: SocketAddr, name: Name, kind: RecordType) -> Message {
    let mut question = Message::new(7, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(name, kind));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(ANSWER_MAX)).unwrap();
    socket.send_to(&question.to_vec().unwrap(), dns).unwrap();
    let mut answer = [0; 4096];
    let len = socket.recv(&mut answer).unwrap();
    let answer = Message::from_vec(&answer[..len]).unwrap();
    assert_eq!(answer.metadata.id, 7);
    answer
}

fn ipv4_of(answer: &Message) -> Ipv4Addr {
    let data = answer.answers.iter().map(|record| &record.data);
    let mut ips = data.filter_map(|data| match data {
        RData::A(ip) => Some(ip.0),
        _ => None,
    });
    ips.next().unwrap_or_else(|| panic!("{answer}"))
}

fn resolves(dns: SocketAddr) {
    assert_eq!(
        ipv4_of(&ask(dns, "localhost.", RecordType::A)),
        Ipv4Addr::LOCALHOST
    );
    let answer = ask(dns, "localhost.", RecordType::TXT);
    assert_eq!(answer.metadata.response_code, ResponseCode::NotImp);
    let reverse = ask(dns, "1.0.0.127.in-addr.arpa.", RecordType::PTR);
    assert_eq!(
        reverse.metadata.response_code,
        ResponseCode::NoError,
        "{reverse}"
    );
}

/// As `tor` answers: 414 and 400, SERVFAIL, a general failure; no exit is asked.
fn refuses_odd_hosts(socks: SocketAddr, http: SocketAddr, dns: SocketAddr) {
    let started = now();
    for (host, code) in [
        ("a".repeat(500), "414"),
        ("a..b".into(), "400"),
        ("a%b".into(), "400"),
    ] {
        let mut proxy = TcpStream::connect(http).unwrap();
        proxy.set_read_timeout(Some(ANSWER_MAX)).unwrap();
        write!(proxy, "CONNECT {host}:80 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut line = [0; 12];
        proxy.read_exact(&mut line).unwrap();
        assert_eq!(String::from_utf8_lossy(&line), format!("HTTP/1.1 {code}"));
    }
    let control = [1_u8; 63];
    let labels = [&control[..], &control, &control];
    let name = Name::from_labels(labels).unwrap();
    let answer = ask_for(dns, name, RecordType::A);
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    let refused = fetch::connect(socks, None, "a..b", 80);
    assert!(
        matches!(refused, Err(SocksError::Refused(1))),
        "{refused:?}"
    );
    assert!(now().duration_since(started) < AT_ONCE, "not at once");
}

/// One that did talked to itself for ever, after a single forged answer.
fn ignores_answers(dns: SocketAddr) {
    let name = Name::from_ascii("a.example.").unwrap();
    let mut forged = Message::new(8, MessageType::Response, OpCode::Query);
    forged.add_query(Query::query(name, RecordType::A));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(ANSWER_MAX)).unwrap();
    socket.send_to(&forged.to_vec().unwrap(), dns).unwrap();
    // A question behind it is answered, and nothing before that.
    let mut question = Message::new(9, MessageType::Query, OpCode::Query);
    let name = Name::from_ascii("version.bind.").unwrap();
    question.add_query(Query::query(name, RecordType::TXT));
    socket.send_to(&question.to_vec().unwrap(), dns).unwrap();
    let mut answer = [0; 4096];
    let len = socket.recv(&mut answer).unwrap();
    assert_eq!(Message::from_vec(&answer[..len]).unwrap().metadata.id, 9);
}

/// The tool that comes with Debian's `tor`, both ways.
fn tor_resolve(socks: SocketAddr) {
    let ask = |args: &[&str]| {
        let mut command = Command::new("tor-resolve");
        let output = command.args(args).arg(socks.to_string()).output();
        let output = output.ok()?;
        assert!(output.status.success(), "{output:?}");
        Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    let Some(address) = ask(&["localhost"]) else {
        println!("not tested without tor-resolve");
        return;
    };
    assert_eq!(address, "127.0.0.1");
    // Some machines have other names for it besides.
    let name = ask(&["-x", "127.0.0.1"]).unwrap();
    assert_eq!(ask(&[&name]).as_deref(), Some("127.0.0.1"), "{name}");
    // SOCKS 4a, the older way.
    assert_eq!(ask(&["-4", "localhost"]).as_deref(), Some("127.0.0.1"));
    let mut unknown = Command::new("tor-resolve");
    unknown.args(["no-such-host.invalid", &socks.to_string()]);
    assert!(!unknown.output().unwrap().status.success());
}

fn automaps(network: &Network, dns: SocketAddr, socks: SocketAddr) {
    let onion = &network.summary.onions[0];
    let address = ipv4_of(&ask(dns, &format!("{onion}."), RecordType::A));
    let page = fetch::get(socks, SocketAddr::from((address, 80)), "/").unwrap();
    assert!(page.len > 10);
}
