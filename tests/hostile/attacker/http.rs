//! HTTP to a directory: whole requests, heads without bodies, bodies without end.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::tcp;

/// The status and the body of a reply.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// A connection to which the head of a POST was sent, and no byte of its body.
pub(crate) fn head_only(
    from: Ipv4Addr,
    to: SocketAddr,
    path: &str,
    len: usize,
) -> std::io::Result<TcpStream> {
    let mut stream = tcp::dial(from, to)?;
    stream.write_all(head("POST", path, len).as_bytes())?;
    Ok(stream)
}

/// Posts a body.
pub(crate) fn post(
    from: Ipv4Addr,
    to: SocketAddr,
    path: &str,
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut stream = head_only(from, to, path, body.len())?;
    stream.write_all(body)?;
    read(&mut stream)
}

/// Asks for a document.
pub(crate) fn fetch(from: Ipv4Addr, to: SocketAddr, path: &str) -> std::io::Result<Answer> {
    let mut stream = tcp::dial(from, to)?;
    stream.write_all(head("GET", path, 0).as_bytes())?;
    read(&mut stream)
}

/// The head of a request.
pub(crate) fn head(method: &str, path: &str, len: usize) -> String {
    match len {
        0 => format!("{method} {path} HTTP/1.0\r\n\r\n"),
        _ => format!("{method} {path} HTTP/1.0\r\nContent-Length: {len}\r\n\r\n"),
    }
}

/// Reads a reply to its end.
pub(crate) fn read(stream: &mut TcpStream) -> std::io::Result<Answer> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    split(&all)
}

/// The parts of a reply.
pub(crate) fn split(all: &[u8]) -> std::io::Result<Answer> {
    let end = all.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok(Answer {
        status: status.unwrap_or(0),
        head,
        body: all[end + 4..].to_vec(),
    })
}
