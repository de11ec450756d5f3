//! From a TCP connection to an open link: TLS, then the link handshake, each within a time limit.
//!
//! Both directions. What comes out is a [`TlsStream`] whose peer has proved who it is (or is a
//! client), and the bytes that came right behind the handshake (tor-spec sections 2 and 4).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cepa_crypto::Rng;
use cepa_link::{Established, Handshake, HandshakeError, LinkIdentity, PeerExpectation, Step};
use rustls::{ClientConfig, ServerConfig};
use tokio::net::{TcpSocket, TcpStream};

use super::tls_stream::{ReadStep, TlsStream};
use crate::clock;
use crate::proxy::Proxy;
use crate::tls::session::{TlsError, TlsSession};

/// How long TLS may take, from the connection on.
const TLS_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the link handshake may take then, up to NETINFO.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long one attempt to connect may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a link did not come to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("no connection: {0}")]
    Connect(io::Error),
    #[error("the connection broke in the handshake: {0}")]
    Broken(io::Error),
    #[error("{0}")]
    Tls(TlsError),
    #[error("{0} took too long")]
    Timeout(&'static str),
    #[error("its place was needed for another")]
    Evicted,
    #[error("{0}")]
    Handshake(HandshakeError),
    #[error("no address to connect to")]
    NoAddress,
    #[error("{0}")]
    Transport(String),
}

/// An open link.
pub(crate) struct Link {
    /// The connection.
    pub(crate) tls: TlsStream,
    /// What the handshake found out.
    pub(crate) established: Established,
    /// Bytes of the open link that came already.
    pub(crate) pending: Vec<u8>,
}

/// How this end of a link presents itself.
#[derive(Clone, Copy)]
pub(crate) struct Ours<'a> {
    /// TLS of outgoing links.
    pub(crate) tls: &'a ClientConfig,
    /// The address to connect from, to addresses of its family.
    pub(crate) bind: Option<IpAddr>,
    /// The proxy through which links go.
    pub(crate) proxy: Option<&'a Proxy>,
    /// The relay that we are; a client is none.
    pub(crate) identity: Option<&'a Arc<LinkIdentity>>,
    /// The link protocols that are offered.
    pub(crate) versions: &'static [u16],
    /// How long one attempt to connect may take, with what a proxy needs.
    pub(crate) connect_max: Duration,
}

/// Connects to the first of `addrs` that answers.
pub(crate) async fn open(
    addrs: &[SocketAddr],
    expect: PeerExpectation,
    ours: Ours<'_>,
    rng: &mut Rng,
) -> Result<Link, LinkError> {
    let mut failure = LinkError::NoAddress;
    for addr in addrs {
        let connected = async {
            match ours.proxy {
                Some(proxy) => connect_by(proxy, *addr, ours.bind).await,
                None => connect(*addr, ours.bind).await,
            }
        };
        let tcp = match tokio::time::timeout(ours.connect_max, connected).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(e)) => {
                failure = LinkError::Connect(e);
                continue;
            }
            Err(_) => {
                failure = LinkError::Connect(io::ErrorKind::TimedOut.into());
                continue;
            }
        };
        return open_over(tcp, *addr, expect, ours, rng).await;
    }
    Err(failure)
}

/// A connection through a proxy, whose name is looked up now.
async fn connect_by(
    proxy: &Proxy,
    addr: SocketAddr,
    bind: Option<IpAddr>,
) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the proxy has no address");
    for place in tokio::net::lookup_host(proxy.place()).await? {
        match connect(place, bind).await {
            Ok(tcp) => return proxy.ask(tcp, addr).await,
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Opens a link over a connection that a transport has made, which leads to `addr`.
pub(crate) async fn open_over(
    tcp: TcpStream,
    addr: SocketAddr,
    expect: PeerExpectation,
    ours: Ours<'_>,
    rng: &mut Rng,
) -> Result<Link, LinkError> {
    let session = TlsSession::client(ours.tls, rng).map_err(LinkError::Tls)?;
    let handshake = Handshake::initiator(expect, ours.identity.cloned(), addr, ours.versions);
    within_time(TlsStream::new(tcp, session), handshake, rng).await
}

/// A connection that comes from `bind`, if that is of its family.
pub(crate) async fn connect(addr: SocketAddr, bind: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    match bind {
        Some(ip) if ip.is_ipv4() == addr.is_ipv4() => socket.bind(SocketAddr::new(ip, 0))?,
        _ => {}
    }
    socket.connect(addr).await
}

/// Answers a connection as the relay `identity`, whose TLS certificate `tls` shows.
pub(crate) async fn accept(
    tcp: TcpStream,
    peer: SocketAddr,
    tls: &ServerConfig,
    identity: Arc<LinkIdentity>,
    versions: &'static [u16],
    rng: &mut Rng,
) -> Result<Link, LinkError> {
    let session = TlsSession::server(tls).map_err(LinkError::Tls)?;
    within_time(
        TlsStream::new(tcp, session),
        Handshake::responder(identity, peer, versions),
        rng,
    )
    .await
}

/// TLS, then the link handshake, each within its own time: who is slow at one gets no more for it.
async fn within_time(
    mut tls: TlsStream,
    handshake: Handshake,
    rng: &mut Rng,
) -> Result<Link, LinkError> {
    match tokio::time::timeout(TLS_TIMEOUT, tls.handshake()).await {
        Ok(shaken) => shaken.map_err(LinkError::Broken)?,
        Err(_) => return Err(LinkError::Timeout("TLS")),
    }
    tokio::time::timeout(HANDSHAKE_TIMEOUT, run(tls, handshake, rng))
        .await
        .unwrap_or(Err(LinkError::Timeout("the link handshake")))
}

async fn run(
    mut tls: TlsStream,
    mut handshake: Handshake,
    rng: &mut Rng,
) -> Result<Link, LinkError> {
    let mut input = Vec::new();
    loop {
        let step = handshake.handle_bytes(&mut input, tls.session(), clock::now(), rng);
        let output = handshake.take_output();
        if !output.is_empty() {
            tls.queue(&output).map_err(LinkError::Broken)?;
        }
        let flushed = tls.try_flush().map_err(LinkError::Broken)?;
        match step.map_err(LinkError::Handshake)? {
            // What is not flushed yet goes out when the channel is served.
            Step::Done(established) => {
                tracing::debug!(
                    version = established.version,
                    opened = established.initiator,
                    peer = established.peer.map(|peer| tracing::field::display(peer.rsa)),
                    canonical = established.canonical,
                    key_exchange = ?tls.session().key_exchange(),
                    seen_as = %established.my_addr_seen,
                    "a link is open"
                );
                return Ok(Link {
                    tls,
                    established: *established,
                    pending: input,
                });
            }
            Step::Continue => {}
        }
        tls.ready(true, !flushed).await.map_err(LinkError::Broken)?;
        match tls.try_read(&mut input).map_err(LinkError::Broken)? {
            ReadStep::Eof => {
                return Err(LinkError::Broken(io::ErrorKind::UnexpectedEof.into()));
            }
            ReadStep::Read | ReadStep::Blocked => {}
        }
    }
}
