//! WebTunnel, the transport that needs no other program: a link looks like a WebSocket of a web
//! site.
//!
//! ```text
//! client ──TLS──▶ web server of the site ──▶ Door, which listens behind it ──▶ ORPort
//!         GET /secret, Upgrade: websocket
//!         101, and from then on bytes as they are
//! ```
//!
//! A bridge line names the site by `url=`; its address is made up ([`made_up`]). The protocol is
//! that of Debian's `webtunnel-client` and `webtunnel-server`, which are the peers of both ends
//! here.

mod door;

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use cepa_crypto::digest;
use cepa_netdoc::policy::is_internal;
use cepa_pt::Site;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

pub(crate) use door::Door;

use crate::net::link::connect;
use crate::tls;

/// What an upgraded connection is asked for as, and said to be.
const WEBSOCKET: &str = "websocket";
/// Bytes that are on their way between two connections, each way: a record of TLS. A bridge has
/// thousands of these, which no memory of ours counts.
const COPIED_LEN: usize = 16 << 10;
/// Bytes of what is asked, and of the answer, before the blank line.
const HEAD_LEN_MAX: usize = 16 << 10;
/// The port of the address that is made up.
const MADE_UP_PORT: u16 = 443;

/// The address in a line of a bridge whose place is a site: of 2001:db8::/32, which nobody has,
/// and another one for each, as programs tell bridges from each other by it.
fn made_up(arguments: &str) -> SocketAddr {
    let digest = digest::sha256(arguments.as_bytes());
    let mut octets = [0; 16];
    let (prefix, rest) = octets.split_at_mut(4);
    prefix.copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    rest.copy_from_slice(&digest[..12]);
    SocketAddr::new(Ipv6Addr::from(octets).into(), MADE_UP_PORT)
}

/// How this client reaches web sites.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    tls: Arc<ClientConfig>,
    /// The address that connections come from.
    bind: Option<IpAddr>,
    /// Whether a site may be on this machine or in a private network. A line from a stranger is
    /// not to have us ask there.
    takes_internal: bool,
}

impl Dialer {
    /// One that believes the certificate authorities of the system.
    pub(crate) fn system(bind: Option<IpAddr>, takes_internal: bool) -> io::Result<Self> {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::info!("a certificate of the system is not read: {error}");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        Self::believing(roots, bind, takes_internal)
    }

    /// One that believes these.
    fn believing(
        roots: RootCertStore,
        bind: Option<IpAddr>,
        takes_internal: bool,
    ) -> io::Result<Self> {
        let config = ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13]);
        let config = config.map_err(io::Error::other)?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Dialer {
            tls: Arc::new(config),
            bind,
            takes_internal,
        })
    }

    /// A connection that leads to the bridge at this site.
    pub(crate) async fn dial(&self, site: &Site) -> io::Result<TcpStream> {
        let tcp = self.connect(site).await?;
        tcp.set_nodelay(true)?;
        if !site.is_tls {
            return joined(upgraded(tcp, site).await?).await;
        }
        let name = ServerName::try_from(site.server_name.clone()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let tls = connector.connect(name, tcp).await?;
        joined(upgraded(tls, site).await?).await
    }

    /// A connection to the first address of the site that answers.
    async fn connect(&self, site: &Site) -> io::Result<TcpStream> {
        let none = "the site of a bridge has no address outside of private networks";
        let mut failure = io::Error::new(io::ErrorKind::NotFound, none);
        for addr in tokio::net::lookup_host((&*site.host, site.port)).await? {
            if !self.takes_internal && is_internal(addr.ip()) {
                continue;
            }
            match connect(addr, self.bind).await {
                Ok(tcp) => return Ok(tcp),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

/// What a site's connection is once the site has agreed.
async fn upgraded<S>(stream: S, site: &Site) -> io::Result<TokioIo<hyper::upgrade::Upgraded>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_LEN_MAX)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // It ends when the connection is handed over, or fails.
    let served = tokio::spawn(connection.with_upgrades());
    let request = Request::get(&site.path)
        .header(HOST, site.header())
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, WEBSOCKET)
        .body(Empty::new())
        .map_err(io::Error::other)?;
    let answer = sender.send_request(request).await;
    let answer = answer.map_err(io::Error::other)?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        served.abort();
        return Err(io::Error::other(format!(
            "the site of a bridge answers {}: its path may be another one now",
            answer.status()
        )));
    }
    let upgraded = hyper::upgrade::on(answer).await;
    upgraded.map(TokioIo::new).map_err(io::Error::other)
}

/// A connection of this machine's whose bytes go through `far`, and end with it: links are served
/// over sockets, whose readiness they wait for.
async fn joined<S>(mut far: S) -> io::Result<TcpStream>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let ours = TcpStream::connect(listener.local_addr()?).await?;
    let wanted = ours.local_addr()?;
    let mut near = loop {
        // Another program of this machine may have been quicker.
        let (near, peer) = listener.accept().await?;
        if peer == wanted {
            break near;
        }
    };
    near.set_nodelay(true)?;
    ours.set_nodelay(true)?;
    tokio::spawn(async move { copy(&mut near, &mut far).await });
    Ok(ours)
}

/// Has bytes flow both ways, until either end is over: a link is of no use by halves.
async fn copy<A, B>(near: &mut A, far: &mut B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut near_read, mut near_write) = tokio::io::split(near);
    let (mut far_read, mut far_write) = tokio::io::split(far);
    tokio::select! {
        _ = way(&mut near_read, &mut far_write) => {}
        _ = way(&mut far_read, &mut near_write) => {}
    }
}

/// Copies until `from` ends.
async fn way(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<u64> {
    let mut from = tokio::io::BufReader::with_capacity(COPIED_LEN, from);
    tokio::io::copy_buf(&mut from, to).await
}

#[cfg(test)]
mod tests;
