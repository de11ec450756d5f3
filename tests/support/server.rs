//! A web server to fetch from: bytes of any length without end of memory, and digests of uploads.
//!
//! `GET /bytes/N` gives N bytes that `sha256_of(N)` knows; a POST gets its length and SHA-256 in
//! reply. HTTP/1.0: a reply ends with its connection. A thread a connection, until the test ends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use cepa_crypto::digest::Sha256Running;
use cepa_crypto::encoding::hex_lower;

/// The length of what is written at a time.
const BLOCK_LEN: usize = 64 << 10;

/// Starts a server on a port that is free.
pub(crate) fn start() -> SocketAddr {
    start_at("127.0.0.1:0")
}

/// Starts a server at an address.
pub(crate) fn start_at(addr: &str) -> SocketAddr {
    let listener = TcpListener::bind(addr).unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away early is its own business.
            std::thread::spawn(move || serve(&stream));
        }
    });
    addr
}

/// The SHA-256 of `GET /bytes/LEN`, in hex.
pub(crate) fn sha256_of(len: u64) -> String {
    let mut digest = Sha256Running::new();
    blocks(len, |block| {
        digest.update(block);
        Ok(())
    })
    .unwrap();
    hex_lower(&digest.finish())
}

/// Gives `len` bytes block by block; no two blocks are the same.
pub(crate) fn blocks(
    len: u64,
    mut give: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut block: Vec<u8> = (0..=250).cycle().take(BLOCK_LEN).collect();
    let (mut left, mut number) = (len, 0_u64);
    while left > 0 {
        block[..8].copy_from_slice(&number.to_be_bytes());
        let part = usize::try_from(left).map_or(BLOCK_LEN, |left| left.min(BLOCK_LEN));
        give(&block[..part])?;
        (left, number) = (left - part as u64, number + 1);
    }
    Ok(())
}

fn serve(stream: &TcpStream) -> std::io::Result<()> {
    let mut input = BufReader::new(stream);
    let (mut line, mut body_len) = (String::new(), 0);
    input.read_line(&mut line)?;
    loop {
        let mut header = String::new();
        input.read_line(&mut header)?;
        let header = header.trim_end().to_ascii_lowercase();
        if let Some(len) = header.strip_prefix("content-length: ") {
            body_len = len.parse().unwrap_or(0);
        }
        if header.is_empty() {
            break;
        }
    }
    let mut output = stream;
    output.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n")?;
    let path = line.split(' ').nth(1).unwrap_or_default();
    if line.starts_with("POST ") {
        let (digest, len) = digest_of(&mut input.take(body_len))?;
        write!(output, "{len} {digest}")?;
    } else if let Some(len) = path.strip_prefix("/bytes/") {
        blocks(len.parse().unwrap_or(0), |block| output.write_all(block))?;
    }
    output.shutdown(std::net::Shutdown::Write)
}

/// The SHA-256, in hex, and the length of all that a reader has.
pub(crate) fn digest_of(input: &mut impl std::io::Read) -> std::io::Result<(String, u64)> {
    let (mut digest, mut len) = (Sha256Running::new(), 0);
    let mut block = vec![0; BLOCK_LEN];
    loop {
        match input.read(&mut block)? {
            0 => return Ok((hex_lower(&digest.finish()), len)),
            count => {
                digest.update(&block[..count]);
                len += count as u64;
            }
        }
    }
}
