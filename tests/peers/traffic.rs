//! Bytes through a SOCKS port, checked one by one: there and back, and while an end is slow.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::support::fetch::{self, connect};
use crate::support::processes::resident;
use crate::support::{now, server, until};

/// How long the first fetch may take, with all that a client tries again.
const FIRST_MAX: Duration = Duration::from_secs(90);
/// What is fetched.
const DOWN_LEN: u64 = 1_000_000;
/// What is posted.
const UP_LEN: usize = 300_000;
/// More than the buffers of all sockets on the way hold, when nothing is read ahead. It is not
/// much more, as a `tor` client that did not read for a while tells the exit to be slow for long:
/// it counts that while as time that its socket needed.
const SLOW_LEN: u64 = 32_000_000;
/// What is sent to a server that is slow: far more than that.
const SLOW_UP_LEN: u64 = 96_000_000;
/// What an exit may hold of it, and grow by besides.
const HELD_MAX: u64 = 16_000_000;
/// After so long without a byte the sender has been stopped.
const STALLED: Duration = Duration::from_secs(3);
/// How long it may take until it is.
const STALL_MAX: Duration = Duration::from_secs(90);

/// A megabyte comes and a third of one goes, to this host.
pub(crate) fn carries_to(socks: SocketAddr, host: &str, port: u16) {
    until(FIRST_MAX, &format!("a page of {host}"), || {
        fetch::fetch_from(socks, None, (host, port), "/bytes/1000").ok()
    });
    let path = format!("/bytes/{DOWN_LEN}");
    let fetched = fetch::fetch_from(socks, None, (host, port), &path).unwrap();
    assert_eq!(fetched.sha256, server::sha256_of(DOWN_LEN));
    let body: Vec<u8> = (0..=250).cycle().take(UP_LEN).collect();
    let reply = fetch::post_to(socks, (host, port), &body).unwrap();
    let (sha256, len) = server::digest_of(&mut &body[..]).unwrap();
    assert_eq!(reply, format!("{len} {sha256}"));
}

/// The same to a server on 127.0.0.1.
pub(crate) fn carries(socks: SocketAddr) {
    carries_to(socks, "127.0.0.1", server::start().port());
}

/// A server sends more than there is room for to a program that does not read until it
/// `is_stopped`; all of it comes in the end.
pub(crate) fn slow_reader(socks: SocketAddr, is_stopped: impl Fn() -> bool) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        write_slowly_taken(&mut stream, SLOW_LEN, &count);
    });
    let mut stream = connect(socks, None, "127.0.0.1", port).unwrap();
    wait_for_stall(&sent, SLOW_LEN, is_stopped);
    comes_whole(&mut stream, SLOW_LEN);
}

/// A program sends more than there is room for to a server that does not read until it
/// `is_stopped`.
pub(crate) fn slow_server(socks: SocketAddr, is_stopped: impl Fn() -> bool) {
    let sent = Arc::new(AtomicU64::new(0));
    let mut server = uploads(socks, &sent);
    wait_for_stall(&sent, SLOW_UP_LEN, is_stopped);
    comes_whole(&mut server, SLOW_UP_LEN);
}

/// The same by a `tor` client and an exit of ours: the exit keeps none of it.
///
/// Whether the program is stopped depends on `tor`, which may read all that it is given before it
/// heeds XOFF: in networks of its own, too, it was seen to hold over 100 MB.
pub(crate) fn slow_server_behind(socks: SocketAddr, exit: u32, is_stopped: impl Fn() -> bool) {
    let before = resident(exit);
    let sent = Arc::new(AtomicU64::new(0));
    let mut server = uploads(socks, &sent);
    wait_for_rest(&sent, is_stopped);
    let grown = resident(exit).saturating_sub(before);
    assert!(grown < HELD_MAX, "the exit holds {grown} bytes");
    comes_whole(&mut server, SLOW_UP_LEN);
}

/// Writes to a server, as long as it can; gives the server's end.
fn uploads(socks: SocketAddr, sent: &Arc<AtomicU64>) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut stream = connect(socks, None, "127.0.0.1", port).unwrap();
    let (server, _) = listener.accept().unwrap();
    let count = Arc::clone(sent);
    std::thread::spawn(move || write_slowly_taken(&mut stream, SLOW_UP_LEN, &count));
    server
}

fn write_slowly_taken(stream: &mut TcpStream, len: u64, count: &AtomicU64) {
    // Whoever does not get all of it, says so.
    let _ = server::blocks(len, |block| {
        for piece in block.chunks(4096) {
            stream.write_all(piece)?;
            count.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    });
    let _ = stream.shutdown(std::net::Shutdown::Write);
}

fn wait_for_stall(sent: &AtomicU64, len: u64, is_stopped: impl Fn() -> bool) {
    wait_for_rest(sent, is_stopped);
    assert!(
        sent.load(Ordering::Relaxed) < len,
        "nobody stopped the sender"
    );
}

/// Waits until the far end has been stopped, and the sender rests, or is through. That it rests
/// alone may have other causes on a busy machine.
fn wait_for_rest(sent: &AtomicU64, is_stopped: impl Fn() -> bool) {
    let (mut last, mut since) = (0, now());
    until(STALL_MAX, "the sender is stopped", || {
        let count = sent.load(Ordering::Relaxed);
        if count != last || count == 0 {
            (last, since) = (count, now());
        }
        (now().duration_since(since) > STALLED && is_stopped()).then_some(())
    });
}

fn comes_whole(stream: &mut TcpStream, len: u64) {
    stream.set_read_timeout(Some(STALL_MAX)).unwrap();
    let (sha256, came) = server::digest_of(&mut stream.take(len)).unwrap();
    assert_eq!((came, sha256), (len, server::sha256_of(len)));
}

/// How many TCP connections there are from an address of this machine to another one's port.
pub(crate) fn connections(from: IpAddr, to: SocketAddr) -> usize {
    const ESTABLISHED: &str = "01";
    let text = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let addr = |field: &str| {
        let (ip, port) = field.split_once(':')?;
        let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.swap_bytes());
        Some(SocketAddr::new(
            ip.into(),
            u16::from_str_radix(port, 16).ok()?,
        ))
    };
    let lines = text.lines().skip(1);
    let between = lines.filter(|line| {
        let fields: Vec<&str> = line.split_whitespace().take(4).collect();
        let [_, local, remote, state] = fields[..] else {
            return false;
        };
        let is_from = addr(local).is_some_and(|addr| addr.ip() == from);
        is_from && addr(remote) == Some(to) && state == ESTABLISHED
    });
    between.count()
}
