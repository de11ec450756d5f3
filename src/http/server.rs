//! The serving side of HTTP, over listeners and over single streams.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use super::stages::{Stage, Staged, Stages};
use super::{Door, Filter, Handler, Limits, Peer, Reply, Request, body, read_headers};
use crate::doors::{Gate, Pass};
use crate::launched::Shutdown;
use crate::net::pace::{Pace, Paced, Traffic};

/// Answers requests by a handler. Cheap to clone; the clones share the bound on connections.
#[derive(Clone)]
pub struct Server {
    handler: Handler,
    door: Door,
    limits: Limits,
    gate: Gate,
    pace: Option<(Arc<Pace>, Arc<Traffic>)>,
    filter: Option<Filter>,
}

impl Server {
    /// A server that is not yet reachable; who comes needs a place at `gate`. Requests with a body
    /// are refused.
    pub fn new(handler: Handler, limits: Limits, gate: Gate) -> Self {
        Self {
            handler,
            door: body::shut(),
            limits,
            gate,
            pace: None,
            filter: None,
        }
    }

    /// The same whose listener hangs up on who may not connect.
    pub(crate) fn filtered(self, filter: Filter) -> Self {
        let filter = Some(filter);
        Self { filter, ..self }
    }

    /// The same with its listener's connections under a relay's bandwidth, and counted.
    pub(crate) fn paced(self, pace: &Arc<Pace>, traffic: &Arc<Traffic>) -> Self {
        let pace = Some((Arc::clone(pace), Arc::clone(traffic)));
        Self { pace, ..self }
    }

    /// The server with a door that lets bodies in; without one it takes none.
    pub fn with_door(self, door: Door) -> Self {
        Self { door, ..self }
    }

    /// Accepts connections until `shutdown`; must be called within a runtime.
    pub async fn serve(self, listener: TcpListener, mut shutdown: Shutdown) {
        loop {
            let (stream, addr, pass) = tokio::select! {
                accepted = self.gate.accept(&listener) => accepted,
                () = shutdown.wait() => return,
            };
            if self.filter.as_ref().is_some_and(|may| !may(addr.ip())) {
                continue;
            }
            let server = self.clone();
            let peer = Peer::Address(addr);
            tokio::spawn(async move {
                match &server.pace {
                    Some((pace, traffic)) => {
                        let (pace, traffic) = (Arc::clone(pace), Arc::clone(traffic));
                        let stream = Paced::new(stream, pace, traffic);
                        server.exchange(stream, peer, pass).await;
                    }
                    None => server.exchange(stream, peer, pass).await,
                }
            });
        }
    }

    /// Answers the request of one stream. Without a place it is closed at once.
    pub async fn serve_stream<S>(&self, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match self.gate.enter(peer.ip()) {
            Ok(pass) => self.exchange(stream, peer, pass).await,
            Err(denied) => tracing::debug!(%denied, "a directory stream is closed"),
        }
    }

    /// One exchange, each stage within its time. While the request arrives its place may be needed
    /// for another.
    pub async fn exchange<S>(&self, stream: S, peer: Peer, pass: Pass)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stages = Stages::new(self.limits);
        let staged = Staged {
            stream,
            stages: Arc::clone(&stages),
        };
        let service = service_fn(|request| self.answer(request, peer, (&stages, &pass)));
        let connection = hyper::server::conn::http1::Builder::new()
            .title_case_headers(true)
            .half_close(true)
            .keep_alive(false)
            .max_buf_size(self.limits.head_len_max.max(8192))
            .max_headers(self.limits.headers_max)
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_timeout)
            .serve_connection(TokioIo::new(staged), service);
        let limited = tokio::time::timeout(self.limits.exchange_timeout, connection);
        tokio::select! {
            done = limited => match done {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    if error.is_timeout() {
                        pass.timed_out();
                    }
                    tracing::debug!(%error, "a directory connection has failed");
                }
                Err(_) => pass.timed_out(),
            },
            stage = stages.overdue() => {
                pass.timed_out();
                tracing::debug!(?stage, "a directory connection is too slow");
            }
            () = pass.evicted() => tracing::debug!("a directory connection gives up its place"),
        }
    }

    async fn answer(
        &self,
        request: hyper::Request<Incoming>,
        peer: Peer,
        (stages, pass): (&Stages, &Pass),
    ) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
        stages.begin(Stage::Body);
        let is_taken = peer.ip().is_none_or(|ip| self.gate.take_request(ip));
        let received = match is_taken {
            true => self.receive(request, peer).await,
            false => Err(Reply::new(503)),
        };
        stages.begin(Stage::Answering);
        pass.set_busy(true);
        let reply = match received {
            Ok(request) => (self.handler)(request).await,
            Err(refusal) => refusal,
        };
        stages.begin(Stage::Reply);
        Ok(render(reply))
    }

    /// The whole request, or the reply that refuses it.
    async fn receive(
        &self,
        request: hyper::Request<Incoming>,
        peer: Peer,
    ) -> Result<Request, Reply> {
        let (head, incoming) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request {
            method: head.method.as_str().to_owned(),
            path: path.to_owned(),
            headers: read_headers(&head.headers),
            body: Bytes::new(),
            peer,
        };
        if body::is_there(&incoming) {
            let admission = (self.door)(&request)?;
            request.body = admission.read(incoming).await?;
        }
        Ok(request)
    }
}

/// The reply as hyper sends it. What a handler set that is no header is a bug of ours, and gives
/// a 500.
fn render(mut reply: Reply) -> hyper::Response<Full<Bytes>> {
    if reply.status == 200 {
        for (name, value) in [
            ("Content-Type", "text/plain"),
            ("Content-Encoding", "identity"),
        ] {
            if reply.headers.value(name).is_none() {
                reply.headers.push(name, value);
            }
        }
    }
    let mut builder = hyper::Response::builder().status(reply.status);
    for (name, value) in &reply.headers.0 {
        builder = builder.header(name, value);
    }
    if let Some(reason) = reply
        .reason
        .map(printable)
        .and_then(|r| ReasonPhrase::try_from(r).ok())
    {
        builder = builder.extension(reason);
    }
    builder.body(Full::new(reply.body)).unwrap_or_else(|error| {
        tracing::error!(%error, "a reply could not be written");
        let mut failed = hyper::Response::new(Full::new(Bytes::new()));
        *failed.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
        failed
    })
}

/// A reason without anything that would break the line.
fn printable(reason: String) -> Vec<u8> {
    reason
        .bytes()
        .filter(|byte| (b' '..=b'~').contains(byte))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Admission, Budget, Looked};
    use super::*;
    use crate::doors::Doors;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn server(limits: Limits) -> Server {
        let handler: Handler = Arc::new(|request: Request| {
            Box::pin(async move {
                match request.path.as_str() {
                    "/refused" => Reply::new(400).with_reason("Missing TAP key in descriptor."),
                    _ => Reply::new(200).with_body(format!(
                        "{} {} {}",
                        request.method,
                        request.path,
                        request.body.len()
                    )),
                }
            })
        });
        let budget = Budget::new(1000);
        let door: Door = Arc::new(move |request: &Request| match request.path.as_str() {
            "/x" => Ok(Admission {
                len_max: 100,
                reservation: budget.reserve(request.peer.into()),
                look: Some(Box::new(|bytes: &[u8]| match bytes.first() {
                    Some(b'-') => Looked::Refused(Reply::new(400).with_reason("a bad start")),
                    _ => Looked::Good(Box::new(())),
                })),
            }),
            "/small" => Ok(Admission {
                len_max: 1000,
                reservation: budget.reserve(request.peer.into()),
                look: None,
            }),
            _ => Err(Reply::new(404)),
        });
        Server::new(handler, limits, Doors::aside(&["test"])).with_door(door)
    }

    async fn exchange(limits: Limits, sent: &[u8]) -> String {
        let (mut near, far) = tokio::io::duplex(64 << 10);
        let served =
            tokio::spawn(async move { server(limits).serve_stream(far, Peer::Circuit).await });
        near.write_all(sent).await.unwrap();
        near.shutdown().await.unwrap();
        let mut text = String::new();
        near.read_to_string(&mut text).await.unwrap();
        served.await.unwrap();
        text
    }

    #[tokio::test]
    async fn answers_http_1_0_in_title_case() {
        let text = exchange(Limits::default(), b"GET /tor/a+b.z HTTP/1.0\r\n\r\n").await;
        assert!(text.starts_with("HTTP/1.0 200 OK\r\n"), "{text}");
        for header in [
            "\r\nContent-Encoding: identity\r\n",
            "\r\nDate: ",
            "\r\nContent-Type: ",
        ] {
            assert!(text.contains(header), "{text}");
        }
        assert!(text.ends_with("\r\n\r\nGET /tor/a+b.z 0"), "{text}");
    }

    #[tokio::test]
    async fn takes_a_body_and_gives_a_reason() {
        let sent = b"POST /x HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc";
        assert!(
            exchange(Limits::default(), sent)
                .await
                .ends_with("POST /x 3")
        );
        let text = exchange(Limits::default(), b"GET /refused HTTP/1.0\r\n\r\n").await;
        assert!(
            text.starts_with("HTTP/1.0 400 Missing TAP key in descriptor.\r\n"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn refuses_what_is_too_large_or_no_http() {
        let long = format!(
            "POST /x HTTP/1.0\r\nContent-Length: 101\r\n\r\n{}",
            "a".repeat(101)
        );
        let text = exchange(Limits::default(), long.as_bytes()).await;
        assert!(text.starts_with("HTTP/1.0 413 "), "{text}");
        let long = format!("GET / HTTP/1.0\r\nX: {}\r\n\r\n", "a".repeat(40_000));
        let text = exchange(Limits::default(), long.as_bytes()).await;
        assert!(text.starts_with("HTTP/1.1 431 "), "{text}");
        let text = exchange(Limits::default(), b"\0\0garbage\r\n\r\n").await;
        assert!(!text.contains(" 200 "), "{text}");
    }

    /// Sends this, and returns what comes until the other side hangs up, not closing ours.
    async fn hung_up_on(limits: Limits, sent: &[u8]) -> String {
        let (mut near, far) = tokio::io::duplex(1024);
        let served = tokio::spawn(async move {
            server(limits).serve_stream(far, Peer::Circuit).await;
        });
        near.write_all(sent).await.unwrap();
        served.await.unwrap();
        let mut text = String::new();
        near.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn a_body_is_judged_before_it_is_read() {
        let status = async |head: &str, body: &[u8]| {
            let sent = [head.as_bytes(), b"\r\n\r\n", body].concat();
            let text = exchange(Limits::default(), &sent).await;
            let status = text.split(' ').nth(1).unwrap_or_default().to_owned();
            status.parse::<u16>().unwrap_or(0)
        };
        // By the head: nothing of what is announced ever comes.
        let announced = "HTTP/1.1\r\nContent-Length: 16777216";
        assert_eq!(
            status(&format!("POST /nowhere {announced}"), b"").await,
            404
        );
        assert_eq!(status(&format!("GET /nowhere {announced}"), b"").await, 404);
        assert_eq!(status(&format!("POST /x {announced}"), b"").await, 413);
        // By its bytes, whatever was announced.
        let chunked = "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked";
        let chunk = |len: usize| format!("{len:x}\r\n{}\r\n", "a".repeat(len));
        let fits = chunk(60) + &chunk(40) + "0\r\n\r\n";
        assert_eq!(status(chunked, fits.as_bytes()).await, 200);
        let long = chunk(60) + &chunk(41);
        assert_eq!(status(chunked, long.as_bytes()).await, 413);
        let head = "POST /x HTTP/1.1\r\nContent-Length: 50";
        assert_eq!(status(head, b"a").await, 400, "the rest is missing");
        assert_eq!(status(head, &[b'-'; 50]).await, 400);
        // By what all may send: a fifth of it is for one.
        let head = "POST /small HTTP/1.1\r\nContent-Length";
        assert_eq!(status(&format!("{head}: 200"), &[b'a'; 200]).await, 503);
        assert_eq!(
            status("POST /x HTTP/1.1\r\nContent-Length: 90", &[b'a'; 90]).await,
            200
        );
    }

    #[tokio::test]
    async fn a_slow_head_or_body_is_hung_up_on() {
        let limits = Limits {
            head_timeout: Duration::from_millis(50),
            body_timeout: Duration::from_millis(50),
            ..Limits::default()
        };
        hung_up_on(limits, b"GET / HT").await;
        let text = hung_up_on(limits, b"POST /x HTTP/1.0\r\nContent-Length: 3\r\n\r\nab").await;
        assert!(!text.contains(" 200 "), "{text}");
    }

    #[tokio::test]
    async fn a_reply_that_is_not_taken_is_given_up() {
        let limits = Limits {
            body_timeout: Duration::from_millis(50),
            ..Limits::default()
        };
        let (mut near, far) = tokio::io::duplex(16);
        let served = tokio::spawn(async move {
            server(limits).serve_stream(far, Peer::Circuit).await;
        });
        near.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        served.await.unwrap();
    }
}
