//! Fetches the network's own page through a SOCKS port: the last stage before "ready".

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::http::{self, Limits, Request};
use crate::page;

/// How long one try may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after a try that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Returns when the page has come through.
pub(super) async fn until_fetched(socks: SocketAddr, target: SocketAddr) {
    loop {
        match tokio::time::timeout(TRY_TIMEOUT, fetch(socks, target)).await {
            Ok(Ok(true)) => return,
            Ok(Ok(false)) => tracing::debug!("another page came"),
            Ok(Err(error)) => tracing::debug!(%error, "the fetch failed"),
            Err(_) => tracing::debug!("the fetch took too long"),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Whether what came is the page.
async fn fetch(socks: SocketAddr, target: SocketAddr) -> std::io::Result<bool> {
    let stream = connect(socks, target).await?;
    let request = Request::get("/").with_header("Host", target.to_string());
    let limits = Limits {
        exchange_timeout: TRY_TIMEOUT,
        ..Limits::default()
    };
    let reply = http::request(stream, request, &limits)
        .await
        .map_err(std::io::Error::other)?;
    Ok(reply.status == 200 && reply.body == page::PAGE.as_bytes())
}

/// A stream to `target` by SOCKS 5 without authentication (RFC 1928), the address as a name.
async fn connect(socks: SocketAddr, target: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(socks).await?;
    stream.write_all(&[5, 1, 0]).await?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await?;
    if chosen != [5, 0] {
        return Err(std::io::Error::other("the SOCKS port wants authentication"));
    }
    let name = target.ip().to_string();
    let mut request = vec![5, 1, 0, 3, u8::try_from(name.len()).unwrap_or(u8::MAX)];
    request.extend_from_slice(name.as_bytes());
    request.extend_from_slice(&target.port().to_be_bytes());
    stream.write_all(&request).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    if head[1] != 0 {
        return Err(std::io::Error::other(format!("SOCKS error {}", head[1])));
    }
    // The address that the exit bound; nobody needs it.
    let bound_len = match head[3] {
        1 => 4 + 2,
        4 => 16 + 2,
        3 => usize::from(stream.read_u8().await?) + 2,
        _ => return Err(std::io::Error::other("not a SOCKS reply")),
    };
    let mut bound = vec![0; bound_len];
    stream.read_exact(&mut bound).await?;
    Ok(stream)
}
