//! Strangers who come to every door and say nothing: an honest newcomer, and a vote, get through.
//!
//! The attacker has the address of the honest client, so that no share of an address helps; what
//! helps is that the longest silent goes first. More connections than a door has places are held,
//! and those that are hung up on are opened again, for as long as the test lasts.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::client::Client;
use crate::support::documents::{Seen, consensus};
use crate::support::network::Network;
use crate::support::processes::descriptors_left;
use crate::support::{Steps, fetch, server, until};

const PLAN: [&str; 6] = ["--relays", "1", "--exits", "1", "--interval", "10"];
/// Connections that are held to each door: more than any has places.
const HELD: usize = 1100;
/// How long the next consensus may take.
const ROUND_MAX: Duration = Duration::from_secs(60);
/// A head whose body never comes.
const HEAD: &[u8] = b"POST /tor/post/vote HTTP/1.0\r\nContent-Length: 1000\r\n\r\n";

#[test]
fn the_silent_keep_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    let network = Network::up(dir.path(), &PLAN);
    let or_ports = network.summary.nodes.iter().filter_map(|node| node.or);
    let dir_ports = network.summary.nodes.iter().filter_map(|node| node.dir);
    let doors: Vec<(SocketAddr, &[u8])> = (or_ports.map(|addr| (addr, &b""[..])))
        .chain(dir_ports.map(|addr| (addr, HEAD)))
        .chain(network.summary.socks.iter().map(|addr| (*addr, &[5][..])))
        .collect();
    let (ends, full) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut steps = Steps::default();
    std::thread::scope(|threads| {
        for (addr, first) in &doors {
            let (ends, full) = (&ends, &full);
            threads.spawn(move || hold(*addr, first, ends, full));
        }
        until(ROUND_MAX, "all doors are full", || {
            (full.load(Ordering::Relaxed) == doors.len()).then_some(())
        });
        steps.step("a new client bootstraps and fetches", || {
            let socks = network.local(0);
            let _client = Client::start(&network.summary.network, dir.path(), "new", socks, "");
            let fetched = fetch::get(socks, server::start(), "/bytes/100000").unwrap();
            assert_eq!(fetched.len, 100_000);
        });
        steps.step("the client that was there fetches", || {
            let server = server::start();
            assert!(fetch::get(network.socks(), server, "/bytes/1000").is_ok());
        });
        steps.step("all authorities vote", || all_vote(&network));
        ends.store(true, Ordering::Relaxed);
    });
    steps.step("a port without descriptors recovers", || recovers(&network));
    steps.finish(|| network.show_logs());
}

/// Holds a door, and opens again what is hung up on.
fn hold(addr: SocketAddr, first: &[u8], ends: &AtomicBool, full: &AtomicUsize) {
    let mut held: Vec<TcpStream> = Vec::new();
    let mut is_told = false;
    while !ends.load(Ordering::Relaxed) {
        while held.len() < HELD {
            let Ok(mut stream) = TcpStream::connect(addr) else {
                break;
            };
            let sent = stream.write_all(first);
            if sent.and_then(|()| stream.set_nonblocking(true)).is_ok() {
                held.push(stream);
            }
        }
        if !std::mem::replace(&mut is_told, true) {
            full.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(200));
        // Nothing to read: the door has not hung up.
        held.retain(|stream| {
            let peeked = stream.peek(&mut [0]);
            peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        });
    }
}

/// 100 connections to a client that may open five: the silent go one after the other; those that
/// are served keep the others waiting, and no longer than they last.
fn recovers(network: &Network) {
    let pid = network.nodes("client")[0].pid.unwrap();
    let (socks, server) = (network.socks(), server::start());
    descriptors_left(pid, Some(5));
    let connect = |_| TcpStream::connect(socks).unwrap();
    let silent: Vec<_> = (0..100).map(connect).collect();
    assert!(fetch::get(socks, server, "/bytes/1000").is_ok());
    drop(silent);
    let greet = |_| {
        let mut stream = TcpStream::connect(socks).unwrap();
        stream.write_all(&[5, 1, 0]).unwrap();
        let host = server.ip().to_string();
        let mut request = vec![5, 1, 0, 3, u8::try_from(host.len()).unwrap()];
        request.extend_from_slice(host.as_bytes());
        request.extend_from_slice(&server.port().to_be_bytes());
        stream.write_all(&request).unwrap();
        stream
    };
    let mut first = greet(0);
    let mut reply = [0; 12];
    first.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..4], [5, 0, 5, 0], "the first is served");
    let busy: Vec<_> = (1..100).map(greet).collect();
    // Who is served is not sent away for those who have yet to say what they want.
    first.write_all(b"GET /bytes/10 HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = [0; 12];
    first.read_exact(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1."), "{answer:?}");
    drop(first);
    drop(busy);
    assert!(fetch::get(socks, server, "/bytes/1000").is_ok());
    descriptors_left(pid, None);
}

fn all_vote(network: &Network) {
    let dir = network.nodes("authority")[0].dir.unwrap();
    let newest = |seen: &Seen| seen.valid_after.clone();
    let before = until(ROUND_MAX, "a consensus", || consensus(dir));
    until(ROUND_MAX, "a consensus of all", || {
        let seen = consensus(dir)?;
        let is_whole = seen.voters.len() == 3 && seen.signers.len() == 3;
        (newest(&seen) > newest(&before) && is_whole).then_some(())
    });
}
