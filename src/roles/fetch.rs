//! One exchange of the directory protocol over HTTP: a typed request, a reply that was expanded.
//!
//! Plain request and reply (dir-spec 4 to 6). Bodies are bounded before and after expansion; what
//! goes wrong below HTTP has status 0.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use cepa_dir::DirRequest;
use cepa_dir::encoding::Encoding;
use cepa_dir::fetch::{Reply, reply_bytes_max};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::clock;
use crate::http::{self, HttpError, Limits, Request};

/// Asks an authority's DirPort.
pub(crate) async fn over_dir_port(addr: SocketAddr, request: &DirRequest) -> Reply {
    over_dir_port_by_the_clock(addr, request).await.0
}

/// The same, and by how many seconds the authority's clock is ahead of ours, if it says so.
pub(crate) async fn over_dir_port_by_the_clock(
    addr: SocketAddr,
    request: &DirRequest,
) -> (Reply, Option<i64>) {
    let limits = limits(request);
    let reply = http::request_tcp(addr, http_request(request, Bytes::new()), &limits).await;
    let ahead = reply.as_ref().ok().and_then(ahead_seconds);
    (read(reply, request), ahead)
}

/// Asks whatever directory is at the other end of `stream`.
pub(crate) async fn over_stream<S>(stream: S, request: &DirRequest, body: Bytes) -> Reply
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let host = http_request(request, body).with_header("Host", "directory");
    let reply = http::request(stream, host, &limits(request)).await;
    read(reply, request)
}

/// What an authority says to an upload.
pub(crate) struct Uploaded {
    /// The status; 0 if there is none.
    pub(crate) status: u16,
    /// Why.
    pub(crate) reason: String,
    /// By how many seconds its clock is ahead of ours, if it says so.
    pub(crate) ahead_seconds: Option<i64>,
}

/// Uploads `body` to an authority's DirPort.
pub(crate) async fn upload(addr: SocketAddr, request: &DirRequest, body: Bytes) -> Uploaded {
    let reply = http::request_tcp(addr, http_request(request, body), &limits(request)).await;
    match reply {
        Ok(reply) => Uploaded {
            status: reply.status,
            ahead_seconds: ahead_seconds(&reply),
            reason: reply.reason.unwrap_or_default(),
        },
        Err(error) => Uploaded {
            status: 0,
            reason: error.to_string(),
            ahead_seconds: None,
        },
    }
}

/// How far the clock of who replied is ahead of ours, to about a second.
fn ahead_seconds(reply: &http::Reply) -> Option<i64> {
    let date = reply.headers.value("Date")?;
    let theirs = httpdate::parse_http_date(date).ok()?;
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Some(match theirs.duration_since(clock::now().wall) {
        Ok(ahead) => seconds(ahead),
        Err(behind) => -seconds(behind.duration()),
    })
}

fn http_request(request: &DirRequest, body: Bytes) -> Request {
    let path = request.path();
    let mut http = if request.is_post() {
        Request::post(&path, body)
    } else {
        Request::get(&path)
    };
    http.headers
        .push("Accept-Encoding", Encoding::accept_header());
    for (name, value) in request.headers() {
        http.headers.push(name, value);
    }
    http
}

fn limits(request: &DirRequest) -> Limits {
    Limits {
        body_len_max: reply_bytes_max(request),
        ..Limits::default()
    }
}

fn read(reply: Result<http::Reply, HttpError>, request: &DirRequest) -> Reply {
    let reply = match reply {
        Ok(reply) => reply,
        Err(error) => {
            tracing::debug!(%error, "a directory does not answer");
            return Reply::failed();
        }
    };
    let encoding = reply.headers.value("Content-Encoding");
    let path = request.path();
    tracing::debug!(
        path = kind_of(&path),
        status = reply.status,
        encoding,
        bytes = reply.body.len(),
        "a directory has answered"
    );
    let body = Encoding::parse(encoding)
        .and_then(|encoding| encoding.decode(&reply.body, reply_bytes_max(request)));
    match body {
        Ok(body) => {
            if body.starts_with(DIFF_START) {
                tracing::debug!(bytes = body.len(), "a consensus diff");
            }
            Reply {
                status: reply.status,
                body,
            }
        }
        Err(error) => {
            tracing::info!(%error, "a directory's reply cannot be read");
            Reply::failed()
        }
    }
}

/// How a consensus diff begins (dir-spec 4.5).
const DIFF_START: &[u8] = b"network-status-diff-version";

/// What a path asks for, without the long list of which: for logs.
pub(crate) fn kind_of(path: &str) -> &str {
    let mut slashes = path.match_indices('/').map(|(at, _)| at);
    let end = match path.contains("consensus") {
        true => slashes.nth(4),
        false => slashes.nth(3),
    };
    path.get(..end.unwrap_or(path.len())).unwrap_or(path)
}
