//! The load of a bench: a source of bytes, and streams to it through a SOCKS port.
//!
//! A connection to the source begins with a count, 8 bytes in network order; so many zero bytes
//! come back. Neither end costs more than its system calls, so that what is measured is the
//! network between them.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_socks::tcp::Socks5Stream;

use crate::clock;

/// Bytes that are read or written at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long one stream may take: `tor` at its slowest carries 100 MB in half a minute.
const STREAM_TIMEOUT: Duration = Duration::from_secs(180);
/// The longest first try on a fresh network.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// When what happened, seen from the start of a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fetched {
    /// The first byte was there.
    pub(super) first_byte: Duration,
    /// All were.
    pub(super) whole: Duration,
}

/// Serves bytes for as long as the listener lives.
pub(super) async fn serve(listener: TcpListener) {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    streams.spawn(give(stream));
                }
            }
            // One that broke off is seen at its other end.
            Some(_) = streams.join_next() => {}
        }
    }
}

async fn give(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut left = stream.read_u64().await?;
    let zeros = vec![0; CHUNK_BYTES];
    while left > 0 {
        let now = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        stream
            .write_all(zeros.get(..now).unwrap_or_default())
            .await?;
        left -= now as u64;
    }
    stream.shutdown().await
}

/// Fetches so many bytes from the source through a SOCKS port. Streams with different names do
/// not share a circuit; those without may.
pub(super) async fn fetch(
    socks: SocketAddr,
    source: SocketAddr,
    bytes: u64,
    name: Option<String>,
) -> io::Result<Fetched> {
    match tokio::time::timeout(STREAM_TIMEOUT, fetch_all(socks, source, bytes, name)).await {
        Ok(fetched) => fetched,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no {bytes} bytes in {} s", STREAM_TIMEOUT.as_secs()),
        )),
    }
}

async fn fetch_all(
    socks: SocketAddr,
    source: SocketAddr,
    bytes: u64,
    name: Option<String>,
) -> io::Result<Fetched> {
    let begin = clock::now().mono;
    let connected = match &name {
        None => Socks5Stream::connect(socks, source).await,
        Some(name) => Socks5Stream::connect_with_password(socks, source, name, "bench").await,
    };
    let mut stream = connected.map_err(io::Error::other)?.into_inner();
    stream.write_u64(bytes).await?;
    let mut buffer = vec![0; CHUNK_BYTES];
    let (mut taken, mut first_byte) = (0, Duration::ZERO);
    while taken < bytes {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            let text = format!("the stream ended after {taken} of {bytes} bytes");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        if taken == 0 {
            first_byte = since(begin);
        }
        taken += read as u64;
    }
    Ok(Fetched {
        first_byte,
        whole: since(begin),
    })
}

/// Fetches one byte again and again until it comes, at most for so long.
pub(super) async fn until_fetched(
    socks: SocketAddr,
    source: SocketAddr,
    limit: Duration,
) -> io::Result<()> {
    let begin = clock::now().mono;
    loop {
        match fetch(socks, source, 1, None).await {
            Ok(_) => return Ok(()),
            Err(error) if since(begin) > limit => return Err(error),
            Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
        }
    }
}

/// Fetches by so many streams at once; how long the last one took.
pub(super) async fn fetch_at_once(
    socks: SocketAddr,
    source: SocketAddr,
    streams: usize,
    bytes: u64,
) -> io::Result<Duration> {
    let begin = clock::now().mono;
    let mut all = JoinSet::new();
    for _ in 0..streams {
        all.spawn(fetch(socks, source, bytes, None));
    }
    while let Some(fetched) = all.join_next().await {
        fetched.map_err(io::Error::other)??;
    }
    Ok(since(begin))
}

/// Fetches a byte over each of so many circuits of its own, some at once; how long that took.
pub(super) async fn build_circuits(
    socks: SocketAddr,
    source: SocketAddr,
    circuits: usize,
    at_once: usize,
) -> io::Result<Duration> {
    let begin = clock::now().mono;
    let mut all = JoinSet::new();
    let mut waiting = (0..circuits).map(|number| format!("circuit{number}"));
    loop {
        while all.len() < at_once {
            let Some(name) = waiting.next() else { break };
            all.spawn(fetch(socks, source, 1, Some(name)));
        }
        match all.join_next().await {
            Some(fetched) => fetched.map_err(io::Error::other)??,
            None => return Ok(since(begin)),
        };
    }
}

fn since(begin: Instant) -> Duration {
    clock::now().mono.duration_since(begin)
}
