//! Limits that whoever uses a client can reach: one more than there are places for is told at once,
//! and once there are places again another is taken. The client has no network, so that all wait.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cepa::ports::Block;

use crate::network::CEPA;
use crate::support::processes::Process;
use crate::support::{Steps, until};

/// Questions to the DNS port that wait at a time, and requests of all ports.
const QUESTIONS_MAX: usize = 512;
const REQUESTS_MAX: usize = 4096;
/// How long a client may take to open its ports, and to answer.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How long an answer is waited for that is not to come.
const NO_ANSWER: Duration = Duration::from_millis(200);
/// RFC 1928, section 6: general failure. RFC 1035, 4.1.1: server failure.
const FAILURE: u8 = 1;
const SERVER_FAILURE: u8 = 2;

#[test]
fn one_more_than_there_are_places_for_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (block, ()) = Block::first_free(None, |_| Ok(())).unwrap();
    let [socks, dns, http] =
        [150, 151, 152].map(|at| SocketAddr::from(([127, 0, 0, 1], block.base() + at)));
    let _client = client(dir.path(), socks, dns, http);
    until(ANSWER_MAX, "its ports", || TcpStream::connect(socks).ok());
    let mut steps = Steps::default();
    steps.step("long passwords isolate, and one too long is told", || {
        passwords(http);
    });
    steps.step("a question too many", || questions(dns));
    steps.step("a request too many", || requests(socks));
    steps.finish(|| {});
}

/// A client whose only authority is nobody.
fn client(dir: &Path, socks: SocketAddr, dns: SocketAddr, http: SocketAddr) -> Process {
    let network = "testing = true\n[[authority]]\nnickname = \"auth1\"\n\
        v3_ident = \"0101010101010101010101010101010101010101\"\n\
        rsa = \"0202020202020202020202020202020202020202\"\n\
        or = \"127.1.0.1:1\"\ndir = \"127.1.0.1:2\"\n";
    std::fs::write(dir.join("network.toml"), network).unwrap();
    let text = format!(
        "network = \"network.toml\"\ndata_dir = \"data\"\nsocks = [\"{socks}\"]\n\
         dns = [\"{dns}\"]\nhttp_connect = [\"{http}\"]\n"
    );
    let config = dir.join("client.toml");
    std::fs::write(&config, text).unwrap();
    Process::start(Command::new(CEPA).args(["client", "--config"]).arg(&config))
}

/// The status of an answer to CONNECT; none if it waits.
fn status(http: SocketAddr, password: usize) -> Option<String> {
    let mut stream = TcpStream::connect(http).unwrap();
    stream.set_read_timeout(Some(NO_ANSWER)).unwrap();
    let password = "p".repeat(password);
    let head = format!("CONNECT a.example:80 HTTP/1.1\r\nProxy-Authorization: {password}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut reply = [0; 12];
    let read = stream.read_exact(&mut reply).ok();
    read.map(|()| String::from_utf8_lossy(&reply[9..]).into_owned())
}

fn passwords(http: SocketAddr) {
    // "Basic", and Base64 of a user and a password of 255 bytes each.
    assert_eq!(status(http, 690), None);
    assert_eq!(status(http, 5000).as_deref(), Some("431"));
}

/// A question for the address of a name (RFC 1035, 4.1).
fn question(id: u16) -> Vec<u8> {
    let mut packet = id.to_be_bytes().to_vec();
    packet.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    packet.extend_from_slice(b"\x01a\x07example\0\0\x01\0\x01");
    packet
}

fn questions(dns: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(dns).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut asked = 0;
    let (id, code) = until(ANSWER_MAX, "an answer to one too many", || {
        for _ in 0..64 {
            socket.send(&question(asked)).unwrap();
            asked += 1;
        }
        let mut reply = [0; 512];
        socket.recv(&mut reply).ok()?;
        Some((u16::from_be_bytes([reply[0], reply[1]]), reply[3] & 15))
    });
    assert_eq!(code, SERVER_FAILURE);
    assert!(usize::from(id) >= QUESTIONS_MAX, "{id}");
}

/// A connection with a request.
fn request(socks: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(socks).unwrap();
    stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
    stream.write_all(&[5, 1, 0]).unwrap();
    stream.read_exact(&mut [0; 2]).unwrap();
    let request = b"\x05\x01\0\x03\x09a.example\0\x50";
    stream.write_all(request).unwrap();
    stream
}

/// The code of its answer; none if it waits.
fn code_of(stream: &mut TcpStream) -> Option<u8> {
    stream.set_read_timeout(Some(NO_ANSWER)).unwrap();
    let mut reply = [0; 4];
    match stream.read_exact(&mut reply) {
        Ok(()) => Some(reply[1]),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

fn requests(socks: SocketAddr) {
    // Questions wait among them.
    let mut waiting: Vec<_> = (0..REQUESTS_MAX).map(|_| request(socks)).collect();
    let code = until(ANSWER_MAX, "an answer to one too many", || {
        code_of(waiting.last_mut()?)
    });
    assert_eq!(code, FAILURE);
    let first = code_of(&mut waiting[REQUESTS_MAX - QUESTIONS_MAX - 100]);
    assert_eq!(first, None, "who was there first goes on waiting");
    waiting.truncate(1000);
    until(ANSWER_MAX, "a request that may wait again", || {
        let code = code_of(&mut request(socks));
        code.is_none().then_some(())
    });
}
