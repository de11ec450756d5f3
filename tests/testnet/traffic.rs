//! A network of the default plan that carries traffic, and that leaves nothing behind.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use cepa_crypto::digest::sha256;
use cepa_crypto::encoding::hex_lower;
use rustix::process::Signal;

use crate::support::fetch::{self, Fetched, SocksError};
use crate::support::network::{Network, STOP_MAX};
use crate::support::processes::{lives, resident};
use crate::support::{Steps, now, server};

/// What `at once` may take.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Errors of SOCKS 5 (RFC 1928, section 6).
const HOST_UNREACHABLE: u8 = 4;
const CONNECTION_REFUSED: u8 = 5;

#[test]
fn a_network_carries_traffic_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut network = Network::up(dir.path(), &[]);
    println!("{}", network.line("ready in"));
    let mut steps = Steps::default();
    steps.step("testnet.json is as promised", || is_as_promised(&network));
    steps.step("the printed line fetches a page", || printed_line(&network));
    steps.step("a large download arrives whole", || {
        large_download(&network)
    });
    steps.step("100 fetches at a time arrive whole", || {
        many_fetches(&network)
    });
    steps.step("an upload arrives whole", || upload(&network));
    steps.step("who does not read stops the far end", || {
        slow_reader(&network);
    });
    steps.step("garbage is hung up on", || garbage(&network));
    steps.step("a closed port is told at once", || closed_port(&network));
    steps.step("an unknown name is told at once", || unknown_name(&network));
    steps.step("a signal stops all", || stops(&mut network));
    steps.finish(|| network.show_logs());
}

fn is_as_promised(network: &Network) {
    let text = std::fs::read_to_string(network.folder.join("testnet.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(
        keys(&json),
        ["base_port", "network", "nodes", "onions", "socks"]
    );
    let base = json["base_port"].as_u64().unwrap();
    assert_eq!(json["socks"][0], format!("127.0.0.1:{}", base + 50));
    assert!(std::path::Path::new(json["network"].as_str().unwrap()).exists());
    let nodes = json["nodes"].as_array().unwrap();
    let roles: Vec<_> = nodes
        .iter()
        .map(|node| node["role"].as_str().unwrap())
        .collect();
    let expected = [
        &["authority"; 3][..],
        &["relay"; 6],
        &["exit"; 2],
        &["client"],
    ]
    .concat();
    assert_eq!(roles, expected);
    for node in nodes {
        let wanted = [
            "config", "dir", "ed25519", "log", "nickname", "or", "pid", "program", "role", "rsa",
        ];
        assert_eq!(keys(node), wanted);
        assert!(lives(u32::try_from(node["pid"].as_u64().unwrap()).unwrap()));
        for file in ["log", "config"] {
            assert!(std::path::Path::new(node[file].as_str().unwrap()).exists());
        }
        if node["role"] == "client" {
            assert!(
                ["rsa", "ed25519", "or", "dir"]
                    .iter()
                    .all(|key| node[key].is_null())
            );
            continue;
        }
        let rsa = node["rsa"].as_str().unwrap();
        assert!(rsa.len() == 40 && rsa.chars().all(|c| c.is_ascii_hexdigit()));
        assert_eq!(node["ed25519"].as_str().unwrap().len(), 43);
        let or = node["or"].as_str().unwrap();
        assert!(or.ends_with(&format!(".0.1:{base}")), "{or}");
        assert_eq!(node["dir"].is_string(), node["role"] == "authority");
    }
}

fn printed_line(network: &Network) {
    let line = network.line("curl ");
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("three hops"), "{output:?}");
}

fn large_download(network: &Network) {
    let is_long = std::env::var("CEPA_LONG").is_ok_and(|value| value == "1");
    let len: u64 = if is_long { 1 << 30 } else { 64 << 20 };
    let (server, started) = (server::start(), now());
    let fetched = fetch::get(network.socks(), server, &format!("/bytes/{len}")).unwrap();
    let took = now().duration_since(started).as_secs_f64();
    let rate = len as f64 / took / 1e6;
    println!("{len} bytes in {took:.1} s: {rate:.1} MB/s");
    assert_eq!(fetched, whole(len));
}

fn many_fetches(network: &Network) {
    const LEN: u64 = 1_000_000;
    let (socks, server) = (network.socks(), server::start());
    let path = format!("/bytes/{LEN}");
    let all: Vec<_> = std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..100)
            .map(|_| scope.spawn(|| fetch::get(socks, server, &path)))
            .collect();
        fetches
            .into_iter()
            .map(|fetch| fetch.join().unwrap())
            .collect()
    });
    let wrong: Vec<_> = all
        .iter()
        .filter(|fetched| !fetched.as_ref().is_ok_and(|fetched| *fetched == whole(LEN)))
        .collect();
    assert!(wrong.is_empty(), "{} of 100: {wrong:?}", wrong.len());
}

fn upload(network: &Network) {
    let body: Vec<u8> = (0..=250_u8).cycle().take(10 << 20).collect();
    let reply = fetch::post(network.socks(), server::start(), &body).unwrap();
    assert_eq!(reply, format!("10485760 {}", hex_lower(&sha256(&body))));
}

/// Bytes that a server writes until it is held up for this long, and those that it writes then.
const HELD_UP: Duration = Duration::from_secs(2);
const WRITTEN_THEN: u64 = 8 << 20;
/// What the buffers of the kernel and the windows of the path may hold, and a node may grow by.
const HELD_MAX: u64 = 96 << 20;
const GROWTH_MAX: u64 = 32 << 20;

/// Resident memory of each node, in bytes.
fn memory(network: &Network) -> Vec<u64> {
    network.pids().into_iter().map(resident).collect()
}

fn slow_reader(network: &Network) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let (held, is_held) = std::sync::mpsc::channel();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_write_timeout(Some(HELD_UP)).unwrap();
        let (block, mut written) = (vec![7; 64 << 10], 0);
        while let Ok(len) = stream.write(&block) {
            written += len as u64;
            assert!(written < 1 << 30, "nothing holds it up");
        }
        held.send(written).unwrap();
        stream.set_write_timeout(None).unwrap();
        let more = vec![7; usize::try_from(WRITTEN_THEN).unwrap()];
        stream.write_all(&more).unwrap();
    });
    let before = memory(network);
    let host = server.ip().to_string();
    let mut stream = fetch::connect(network.socks(), Some("slow"), &host, server.port()).unwrap();
    let written = is_held.recv().unwrap();
    let grown = before.iter().zip(memory(network));
    let grown = grown.map(|(before, after)| after.saturating_sub(*before));
    let most = grown.max().unwrap();
    println!("held up after {written} bytes, the nodes grew by {most} at most");
    assert!(written < HELD_MAX && most < GROWTH_MAX);
    let mut len = 0;
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        assert!(buffer[..read].iter().all(|byte| *byte == 7));
        len += read as u64;
    }
    serving.join().unwrap();
    assert_eq!(len, written + WRITTEN_THEN);
}

/// What a fetch of that length must give.
fn whole(len: u64) -> Fetched {
    Fetched {
        sha256: server::sha256_of(len),
        len,
    }
}

fn garbage(network: &Network) {
    for garbage in [
        &b"GET / HTTP/1.0\r\n\r\n"[..],
        &[0xff; 600],
        &[5, 0],
        &[4, 9, 0, 80, 1],
    ] {
        let mut stream = TcpStream::connect(network.socks()).unwrap();
        stream.set_read_timeout(Some(AT_ONCE)).unwrap();
        stream.write_all(garbage).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut reply = Vec::new();
        let end = stream.read_to_end(&mut reply).map_err(|error| error.kind());
        let is_over = matches!(end, Ok(_) | Err(std::io::ErrorKind::ConnectionReset));
        assert!(
            is_over && !reply.starts_with(&[5, 0, 5]),
            "{garbage:?}: {end:?} {reply:?}"
        );
    }
}

fn closed_port(network: &Network) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    refused_with(network, "127.0.0.1", closed.port(), CONNECTION_REFUSED);
}

fn unknown_name(network: &Network) {
    refused_with(network, "no-such-host.invalid", 80, HOST_UNREACHABLE);
}

fn refused_with(network: &Network, host: &str, port: u16, expected: u8) {
    let started = now();
    match fetch::connect(network.socks(), None, host, port) {
        Err(SocksError::Refused(code)) => assert_eq!(code, expected),
        other => panic!("{other:?}"),
    }
    let took = now().duration_since(started);
    assert!(took < AT_ONCE, "took {took:?}");
}

fn stops(network: &mut Network) {
    let pids = network.pids();
    assert_eq!(pids.len(), 12);
    assert!(pids.iter().all(|pid| lives(*pid)));
    let took = network.stop(Signal::TERM);
    println!("stopped in {:.2} s", took.as_secs_f64());
    assert!(took < STOP_MAX, "took {took:?}");
    let left: Vec<_> = pids.into_iter().filter(|pid| lives(*pid)).collect();
    assert!(left.is_empty(), "{left:?}");
}
