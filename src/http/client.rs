//! The asking side of HTTP: one request over one stream, HTTP/1.0 as directory peers speak it.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::{Limits, Reply, Request, read_headers};

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The connection could not be made.
    #[error("no connection: {0}")]
    Connect(#[source] std::io::Error),
    /// The exchange took longer than it may.
    #[error("took too long")]
    Timeout,
    /// The reply's body is larger than it may be.
    #[error("the reply is too large")]
    TooLarge,
    /// The request cannot be written: a bug of the caller's.
    #[error("not a request: {0}")]
    Request(#[source] hyper::http::Error),
    /// The peer spoke no HTTP, or the stream ended.
    #[error("the exchange failed: {0}")]
    Exchange(#[source] hyper::Error),
    /// The body could not be read.
    #[error("the body broke off")]
    Body,
}

/// Sends `request` over `stream` and reads the whole reply, within `limits`.
pub async fn request<S>(stream: S, request: Request, limits: &Limits) -> Result<Reply, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let exchange = exchange(stream, request, limits);
    tokio::time::timeout(limits.exchange_timeout, exchange)
        .await
        .map_err(|_| HttpError::Timeout)?
}

/// Connects to `addr`, then as `request`.
pub async fn request_tcp(
    addr: SocketAddr,
    mut request: Request,
    limits: &Limits,
) -> Result<Reply, HttpError> {
    if request.headers.value("Host").is_none() {
        request.headers.push("Host", addr.to_string());
    }
    let exchange = async {
        let stream = TcpStream::connect(addr).await.map_err(HttpError::Connect)?;
        exchange(stream, request, limits).await
    };
    tokio::time::timeout(limits.exchange_timeout, exchange)
        .await
        .map_err(|_| HttpError::Timeout)?
}

async fn exchange<S>(stream: S, request: Request, limits: &Limits) -> Result<Reply, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::Builder::new()
        .title_case_headers(true)
        .max_buf_size(limits.head_len_max.max(8192))
        .max_headers(limits.headers_max)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(HttpError::Exchange)?;
    let asked = async move {
        let reply = sender
            .send_request(render(request)?)
            .await
            .map_err(HttpError::Exchange)?;
        receive(reply, limits.body_len_max).await
    };
    tokio::pin!(connection, asked);
    let mut ended = false;
    loop {
        tokio::select! {
            reply = &mut asked => return reply,
            // What went wrong with the connection, the reply says, too.
            _ = &mut connection, if !ended => ended = true,
        }
    }
}

fn render(request: Request) -> Result<hyper::Request<Full<Bytes>>, HttpError> {
    let mut builder = hyper::Request::builder()
        .version(hyper::Version::HTTP_10)
        .method(request.method.as_str())
        .uri(request.path.as_str());
    for (name, value) in &request.headers.0 {
        builder = builder.header(name, value);
    }
    builder
        .body(Full::new(request.body))
        .map_err(HttpError::Request)
}

async fn receive(
    reply: hyper::Response<hyper::body::Incoming>,
    body_len_max: usize,
) -> Result<Reply, HttpError> {
    let (head, body) = reply.into_parts();
    let body = match Limited::new(body, body_len_max).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(HttpError::TooLarge),
        Err(_) => return Err(HttpError::Body),
    };
    let reason = head.extensions.get::<ReasonPhrase>();
    Ok(Reply {
        status: head.status.as_u16(),
        reason: reason.map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned()),
        headers: read_headers(&head.headers),
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// What a peer read, and what we made of its `reply`.
    async fn exchange_with(
        reply: &'static [u8],
        limits: Limits,
    ) -> (String, Result<Reply, HttpError>) {
        let (near, mut far) = tokio::io::duplex(64 << 10);
        let peer = tokio::spawn(async move {
            let mut read = vec![0; 4096];
            let len = far.read(&mut read).await.unwrap();
            far.write_all(reply).await.unwrap();
            read.truncate(len);
            String::from_utf8(read).unwrap()
        });
        let sent = Request::post("/tor/", "body").with_header("X-Desc-Gen-Reason", "first");
        let reply = request(near, sent, &limits).await;
        (peer.await.unwrap(), reply)
    }

    #[tokio::test]
    async fn a_body_that_ends_with_the_connection_is_whole() {
        let reply = b"HTTP/1.0 200 OK\r\nContent-Encoding: identity\r\n\r\nall of it";
        let (sent, reply) = exchange_with(reply, Limits::default()).await;
        assert!(sent.starts_with("POST /tor/ HTTP/1.0\r\n"), "{sent}");
        assert!(sent.contains("\r\nX-Desc-Gen-Reason: first\r\n"), "{sent}");
        assert!(sent.contains("\r\nContent-Length: 4\r\n"), "{sent}");
        let reply = reply.unwrap();
        assert_eq!((reply.status, &reply.body[..]), (200, &b"all of it"[..]));
        assert_eq!(reply.headers.value("content-encoding"), Some("identity"));
    }

    #[tokio::test]
    async fn a_reason_is_kept() {
        let reply = b"HTTP/1.0 400 Fingerprint is marked rejected\r\n\r\n";
        let (_, reply) = exchange_with(reply, Limits::default()).await;
        let reason = reply.unwrap().reason;
        assert_eq!(reason.as_deref(), Some("Fingerprint is marked rejected"));
    }

    #[tokio::test]
    async fn too_large_or_garbled_replies_are_errors() {
        let limits = Limits {
            body_len_max: 3,
            ..Limits::default()
        };
        let (_, reply) = exchange_with(b"HTTP/1.0 200 OK\r\n\r\nfour", limits).await;
        assert!(matches!(reply, Err(HttpError::TooLarge)));
        let (_, reply) = exchange_with(b"\0\0\0\0\r\n\r\n", Limits::default()).await;
        assert!(matches!(reply, Err(HttpError::Exchange(_))));
        let cut = b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\ncut";
        let (_, reply) = exchange_with(cut, Limits::default()).await;
        assert!(matches!(reply, Err(HttpError::Body)));
    }
}
