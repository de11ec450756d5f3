//! Fetches the network's own page through a SOCKS port: the last stage before "ready".

use std::net::SocketAddr;
use std::time::Duration;

use tokio_socks::tcp::Socks5Stream;

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
    let stream = Socks5Stream::connect(socks, target)
        .await
        .map_err(std::io::Error::other)?
        .into_inner();
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
