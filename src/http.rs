//! HTTP of the directory protocol (dir-spec 1.2 and 6): a server and a client over any stream.
//!
//! The same server answers the directory port (TCP) and BEGIN_DIR streams (an in-memory pipe).
//! Peers speak HTTP/1.0 with bodies that may end with the connection; Arti reads header names as
//! they are written, so ours are in title case. What comes in is bounded in bytes, time and number
//! by `Limits`, a body by what its head is (`body`). Which document answers which path is the
//! caller's handler, not decided here.

mod body;
mod budget;
pub mod client;
pub mod server;
mod stages;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cepa_limits::Source;

pub use body::{Admission, Door, Look, Looked};
pub use budget::{Budget, Reservation};
pub use client::{HttpError, request, request_tcp};
pub use server::Server;

/// Bounds on what a peer may send and on how long it may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a head: start line and headers. At least 8192.
    pub head_len_max: usize,
    /// Headers of a message.
    pub headers_max: usize,
    /// Bytes of a reply's body, as it is on the wire; for a request's, see [`Door`].
    pub body_len_max: usize,
    /// Time for a head to arrive.
    pub head_timeout: Duration,
    /// Time for a body to arrive, or a reply to be taken, beside what `bytes_per_second_min` gives.
    pub body_timeout: Duration,
    /// The slowest that a body may arrive, or a reply be taken.
    pub bytes_per_second_min: u32,
    /// Time for a whole exchange.
    pub exchange_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_len_max: 16 << 10,
            headers_max: 32,
            // Votes and descriptors of thousands of relays; consensuses are smaller.
            body_len_max: 16 << 20,
            head_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_secs(15),
            // Over a circuit that is slow, in whole seconds without a byte, too.
            bytes_per_second_min: 1024,
            exchange_timeout: Duration::from_secs(300),
        }
    }
}

/// The headers of a message, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The first header of that name, in whatever case.
    pub fn value(&self, name: &str) -> Option<&str> {
        let found = self
            .0
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Adds a header.
    pub fn push(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.to_owned(), value.into()));
    }
}

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A TCP connection.
    Address(SocketAddr),
    /// A BEGIN_DIR stream, of nobody knows whom; or a socket that only this user reaches.
    Circuit,
    /// A BEGIN_DIR stream of the client at the other end of the link.
    Neighbour(IpAddr),
}

impl Peer {
    /// The address that it is counted by, if it has one.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Peer::Address(addr) => Some(addr.ip()),
            Peer::Neighbour(ip) => Some(ip),
            Peer::Circuit => None,
        }
    }
}

/// Whose share of what all share something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sender {
    /// A host.
    Host(Source),
    /// Somebody at the other end of a circuit; they cannot be told from each other.
    Circuit,
    /// Clients with a link to us.
    Neighbour,
    /// A host that is served before all others: an authority.
    Known(IpAddr),
}

impl From<Peer> for Sender {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::Address(addr) => Sender::Host(Source::of(addr.ip())),
            Peer::Circuit => Sender::Circuit,
            Peer::Neighbour(_) => Sender::Neighbour,
        }
    }
}

/// A request, received or to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET` or `POST`; a server sees others, too.
    pub method: String,
    /// The path with its query, if any: it starts with `/`.
    pub path: String,
    /// Its headers.
    pub headers: Headers,
    /// Its body.
    pub body: Bytes,
    /// Whose it is; of no meaning in one to be sent.
    pub peer: Peer,
}

impl Request {
    /// A GET without headers.
    pub fn get(path: &str) -> Self {
        Self::new("GET", path, Bytes::new())
    }

    /// A POST without headers but its length.
    pub fn post(path: &str, body: impl Into<Bytes>) -> Self {
        Self::new("POST", path, body.into())
    }

    /// The request with one more header.
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push(name, value);
        self
    }

    fn new(method: &str, path: &str, body: Bytes) -> Self {
        let (method, path) = (method.to_owned(), path.to_owned());
        Self {
            method,
            path,
            headers: Headers::default(),
            body,
            peer: Peer::Circuit,
        }
    }
}

/// A reply, received or to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its status, such as 200.
    pub status: u16,
    /// What stands after the status where it is not the usual text: authorities give the reason
    /// of a refusal there.
    pub reason: Option<String>,
    /// Its headers.
    pub headers: Headers,
    /// Its body, encoded as `Content-Encoding` says.
    pub body: Bytes,
}

impl Reply {
    /// A reply without headers and body. The server adds `Date`, and with status 200
    /// `Content-Type: text/plain` and `Content-Encoding: identity` where they are missing.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            reason: None,
            headers: Headers::default(),
            body: Bytes::new(),
        }
    }

    /// The reply with one more header.
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push(name, value);
        self
    }

    /// The reply with a body.
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The reply with a reason.
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

/// The future of a reply.
pub type ReplyFuture = Pin<Box<dyn Future<Output = Reply> + Send>>;
/// Who may connect at all, by his address.
pub type Filter = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;
/// The function that answers requests.
pub type Handler = Arc<dyn Fn(Request) -> ReplyFuture + Send + Sync>;

/// The headers of a message of hyper's; what is not text is left out.
fn read_headers(map: &hyper::HeaderMap) -> Headers {
    let text = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    };
    Headers(map.iter().filter_map(text).collect())
}
