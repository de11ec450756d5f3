//! Fetches over SOCKS 5 (RFC 1928, 1929) and directly, with a limit on each read.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use super::server::digest_of;

/// How long nothing may come.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no stream.
#[derive(Debug)]
pub(crate) enum SocksError {
    /// The SOCKS port hung up, or was silent for too long.
    Io(std::io::Error),
    /// The reply was an error (RFC 1928, section 6).
    Refused(u8),
}

impl From<std::io::Error> for SocksError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// A body that came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// Its SHA-256, in hex.
    pub(crate) sha256: String,
    /// Its length in bytes.
    pub(crate) len: u64,
}

/// A stream to a host, which is resolved at the exit. Streams of other `users` share no circuit.
pub(crate) fn connect(
    socks: SocketAddr,
    user: Option<&str>,
    host: &str,
    port: u16,
) -> Result<TcpStream, SocksError> {
    let mut stream = TcpStream::connect(socks)?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    let mut chosen = [0; 2];
    if let Some(user) = user {
        stream.write_all(&[5, 1, 2])?;
        stream.read_exact(&mut chosen)?;
        let mut names = vec![1, u8::try_from(user.len()).unwrap()];
        names.extend_from_slice(user.as_bytes());
        names.extend_from_slice(&[1, b'x']);
        stream.write_all(&names)?;
    } else {
        stream.write_all(&[5, 1, 0])?;
    }
    stream.read_exact(&mut chosen)?;
    assert_eq!(chosen[1], 0, "no way in: {chosen:?}");
    ask(&mut stream, CONNECT, host, port)?;
    Ok(stream)
}

/// The addresses of a name, by the exit (socks-extensions 1: RESOLVE).
pub(crate) fn resolve(socks: SocketAddr, name: &str) -> Result<Bound, SocksError> {
    look_up(socks, RESOLVE, name)
}

/// The name of an address, by the exit (RESOLVE_PTR).
pub(crate) fn reverse(socks: SocketAddr, address: IpAddr) -> Result<Bound, SocksError> {
    look_up(socks, RESOLVE_PTR, &address.to_string())
}

/// What a reply names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bound {
    /// An address.
    Ip(IpAddr),
    /// A name.
    Name(String),
}

const CONNECT: u8 = 1;
const RESOLVE: u8 = 0xF0;
const RESOLVE_PTR: u8 = 0xF1;

fn look_up(socks: SocketAddr, command: u8, what: &str) -> Result<Bound, SocksError> {
    let mut stream = TcpStream::connect(socks)?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    stream.write_all(&[5, 1, 0])?;
    stream.read_exact(&mut [0; 2])?;
    ask(&mut stream, command, what, 0)
}

/// A request and its reply: names as they are, and IPv4 as a name, too.
fn ask(stream: &mut TcpStream, command: u8, host: &str, port: u16) -> Result<Bound, SocksError> {
    let mut request = vec![5, command, 0];
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => {
            request.push(4);
            request.extend_from_slice(&ip.octets());
        }
        Ok(IpAddr::V4(ip)) if command == RESOLVE_PTR => {
            request.push(1);
            request.extend_from_slice(&ip.octets());
        }
        _ => {
            request.extend_from_slice(&[3, u8::try_from(host.len()).unwrap()]);
            request.extend_from_slice(host.as_bytes());
        }
    }
    request.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&request)?;
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    if head[1] != 0 {
        return Err(SocksError::Refused(head[1]));
    }
    let mut read = |len: usize| -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        stream.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    let bound = match head[3] {
        1 => Bound::Ip(IpAddr::from(<[u8; 4]>::try_from(read(4)?).unwrap())),
        4 => Bound::Ip(IpAddr::from(<[u8; 16]>::try_from(read(16)?).unwrap())),
        _ => {
            let len = read(1)?[0];
            Bound::Name(String::from_utf8(read(len.into())?).unwrap())
        }
    };
    read(2)?;
    Ok(bound)
}

/// Fetches `http://TARGET/PATH` through a SOCKS port.
pub(crate) fn get(
    socks: SocketAddr,
    target: SocketAddr,
    path: &str,
) -> Result<Fetched, SocksError> {
    fetch_from(socks, None, (&target.ip().to_string(), target.port()), path)
}

/// Fetches `http://HOST:PORT/PATH` through a SOCKS port, over a circuit of `user`'s.
pub(crate) fn fetch_from(
    socks: SocketAddr,
    user: Option<&str>,
    (host, port): (&str, u16),
    path: &str,
) -> Result<Fetched, SocksError> {
    let stream = connect(socks, user, host, port)?;
    let head = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    Ok(exchange(&stream, &head, &[])?)
}

/// Posts a body to `http://HOST:PORT/` through a SOCKS port; gives the reply.
pub(crate) fn post_to(
    socks: SocketAddr,
    (host, port): (&str, u16),
    body: &[u8],
) -> Result<String, SocksError> {
    let stream = connect(socks, None, host, port)?;
    let len = body.len();
    let head = format!("POST / HTTP/1.0\r\nHost: {host}\r\nContent-Length: {len}\r\n\r\n");
    send(&stream, &head, body)?;
    let mut text = String::new();
    body_of(&stream)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Posts a body through a SOCKS port; gives the reply.
pub(crate) fn post(
    socks: SocketAddr,
    target: SocketAddr,
    body: &[u8],
) -> Result<String, SocksError> {
    post_to(socks, (&target.ip().to_string(), target.port()), body)
}

/// A directory document that is served in clear; nothing if it is not there.
pub(crate) fn document(dir: SocketAddr, path: &str) -> Option<String> {
    let stream = TcpStream::connect(dir).ok()?;
    stream.set_read_timeout(Some(READ_TIMEOUT)).ok()?;
    send(
        &stream,
        &format!("GET {path} HTTP/1.0\r\nHost: {dir}\r\n\r\n"),
        &[],
    )
    .ok()?;
    let mut text = String::new();
    body_of(&stream).ok()?.read_to_string(&mut text).ok()?;
    Some(text)
}

/// What a server of metrics says; it leaves the connection open.
pub(crate) fn metrics(addr: SocketAddr) -> std::io::Result<String> {
    let stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    let head = format!("GET /metrics HTTP/1.0\r\nHost: {addr}\r\n\r\n");
    send(&stream, &head, &[])?;
    let mut input = BufReader::new(&stream);
    let (mut line, mut len) = (String::new(), u64::MAX);
    while input.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            len = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut text = String::new();
    input.take(len).read_to_string(&mut text)?;
    Ok(text)
}

/// The content encoding and the body of a document, as they come to who accepts that encoding.
pub(crate) fn encoded(
    dir: SocketAddr,
    path: &str,
    accept: &str,
) -> std::io::Result<(Option<String>, Vec<u8>)> {
    let stream = TcpStream::connect(dir)?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    let head = format!("GET {path} HTTP/1.0\r\nHost: {dir}\r\nAccept-Encoding: {accept}\r\n\r\n");
    send(&stream, &head, &[])?;
    let mut all = Vec::new();
    (&stream).read_to_end(&mut all)?;
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let headers = String::from_utf8_lossy(&all[..end]).to_ascii_lowercase();
    let mut lines = headers.lines();
    let encoding = lines.find_map(|line| line.strip_prefix("content-encoding: "));
    Ok((encoding.map(str::to_owned), all[end + 4..].to_vec()))
}

fn exchange(stream: &TcpStream, head: &str, body: &[u8]) -> std::io::Result<Fetched> {
    send(stream, head, body)?;
    let (sha256, len) = digest_of(&mut body_of(stream)?)?;
    Ok(Fetched { sha256, len })
}

fn send(mut stream: &TcpStream, head: &str, body: &[u8]) -> std::io::Result<()> {
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

/// What follows the headers of a reply that is good.
fn body_of(stream: &TcpStream) -> std::io::Result<BufReader<&TcpStream>> {
    let mut input = BufReader::new(stream);
    let mut line = String::new();
    input.read_line(&mut line)?;
    if line.split(' ').nth(1) != Some("200") {
        return Err(std::io::Error::other(format!("not a page: {line}")));
    }
    while line.trim_end() != "" {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Err(std::io::Error::other("no end of the headers"));
        }
    }
    Ok(input)
}
