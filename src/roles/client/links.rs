//! Links of a client: to relays of the network, and to bridges, whose lines are tried in order,
//! each by its transport.

use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cepa_client::{LinkId, LinkTarget};
use cepa_crypto::Rng;
use cepa_link::{LINK_VERSIONS, PeerExpectation};
use cepa_pt::plugin::OWN;
use cepa_pt::{BridgeLine, ClientEnvironment, End, Method, Site, Speaker, TransportName};
use tokio::sync::mpsc;

use super::Runner;
use crate::config::ClientConfig;
use crate::error::Failure;
use crate::net::{channel, link};
use crate::network::Network;
use crate::proxy::Proxy;
use crate::transports::webtunnel::Dialer;
use crate::transports::{self, State, TransportError, Transports, Wanted};

/// How long a connection over a transport may take: some look for a way first.
const TRANSPORT_TIMEOUT: Duration = Duration::from_secs(60);

/// The transports of a client that starts, and how their programs are from then on.
pub(super) fn transports(
    config: &ClientConfig,
    network: &Network,
) -> Result<(Transports, mpsc::UnboundedReceiver<State>), Failure> {
    let (mut transports, states) = Transports::new();
    transports.takes_internal = network.testing;
    transports.set(wanted(config)?);
    Ok((transports, states))
}

/// The programs that a configuration wants started.
pub(super) fn wanted(config: &ClientConfig) -> Result<Vec<Wanted>, Failure> {
    let plugins = &config.transport_plugins;
    if config.bridges.is_empty() || plugins.is_empty() {
        return Ok(Vec::new());
    }
    let state = transports::state_folder(&config.data_dir);
    let state = state.map_err(|error| {
        Failure::new("no folder for transports", config.data_dir.display(), error)
    })?;
    let proxy = config.outbound_proxy.as_ref().map(Proxy::url);
    // What no bridge asks for is not started.
    let is_used = |name: &TransportName| {
        let mut bridges = config.bridges.iter();
        bridges.any(|line| line.transport.as_ref() == Some(name))
    };
    let used = plugins.iter().filter_map(|plugin| {
        let mut plugin = plugin.clone();
        plugin.names.retain(|name| is_used(name));
        (!plugin.names.is_empty() && plugin.speaker != Speaker::Own).then_some(plugin)
    });
    let wanted = used.map(|plugin| Wanted {
        variables: match plugin.speaker {
            Speaker::Program(_) => ClientEnvironment {
                state: &state,
                transports: &plugin.names,
                proxy: proxy.as_ref().map(|url| url.as_str()),
            }
            .variables(),
            Speaker::Proxy(..) | Speaker::Own => Vec::new(),
        },
        own: None,
        plugin,
        end: End::Client,
    });
    Ok(wanted.collect())
}

/// One way to a relay.
enum Way {
    Plain(Vec<SocketAddr>),
    /// By a transport, whose program may be starting yet.
    Transport(Arc<BridgeLine>, Pin<Box<dyn Future<Output = MethodResult>>>),
    /// By the transport that needs no program.
    Own {
        line: Arc<BridgeLine>,
        takes_internal: bool,
    },
}

type MethodResult = Result<Method, TransportError>;

impl Runner {
    /// Opens a link and serves it, in a task of its own.
    pub(super) fn open_channel(&mut self, id: LinkId, target: LinkTarget) {
        let (worker, tls) = (Rc::clone(&self.worker), Arc::clone(&self.tls));
        let (bind, proxy, mut rng) = (self.bind, self.proxy.clone(), self.rng.fork());
        let ways = ways(&self.transports, &target);
        tokio::task::spawn_local(async move {
            let ours = link::Ours {
                tls: &tls,
                bind,
                proxy: proxy.as_deref(),
                identity: None,
                versions: &LINK_VERSIONS,
                connect_max: link::CONNECT_TIMEOUT,
            };
            match open(ways, &target, ours, &mut rng).await {
                Ok(link) => {
                    let opened = worker.with(|client, now| {
                        client.handle_channel_opened(id, link.established, now)
                    });
                    if let Some(key) = opened {
                        let why = channel::serve(&worker, link.tls, key, link.pending).await;
                        tracing::debug!(relay = %target.rsa, why, "a channel has ended");
                    }
                }
                Err(error) => {
                    tracing::info!(relay = %target.rsa, %error, "no link to a relay");
                    worker.with(|client, now| client.handle_channel_failed(id, now));
                }
            }
        });
    }
}

/// The ways to a relay, in order.
fn ways(transports: &Transports, target: &LinkTarget) -> Vec<Way> {
    let way = |line: &Arc<BridgeLine>| match &line.transport {
        None => Way::Plain(vec![line.addr]),
        Some(name) if name.as_str() == OWN && !transports.has(name) => Way::Own {
            line: Arc::clone(line),
            takes_internal: transports.takes_internal,
        },
        Some(name) => {
            let method = Box::pin(transports.method(name));
            Way::Transport(Arc::clone(line), method)
        }
    };
    let plain = target.lines.is_empty().then(|| target.addrs.clone());
    let plain = plain.map(Way::Plain).into_iter();
    plain.chain(target.lines.iter().map(way)).collect()
}

/// The proxy by which a transport is spoken to a bridge.
fn proxy_of(method: &Method, line: &BridgeLine) -> Result<Proxy, TransportError> {
    match method {
        Method::Client(version, addr) => Ok(Proxy::transport(*version, *addr, &line.arguments)),
        Method::Server(..) | Method::Failed(_) => Err(TransportError::Unusable),
    }
}

/// Opens a link by the first way that leads to who is wanted.
async fn open(
    ways: Vec<Way>,
    target: &LinkTarget,
    ours: link::Ours<'_>,
    rng: &mut Rng,
) -> Result<link::Link, link::LinkError> {
    let expect = target.expectation();
    let mut failure = link::LinkError::NoAddress;
    for way in ways {
        let opened = match way {
            Way::Plain(addrs) => link::open(&addrs, expect, ours, rng).await,
            Way::Transport(line, method) => {
                let proxy = method.await.and_then(|method| proxy_of(&method, &line));
                open_by(proxy, line.addr, expect, ours, rng).await
            }
            Way::Own {
                line,
                takes_internal,
            } => open_own(&line, expect, ours, takes_internal, rng).await,
        };
        match opened {
            Ok(link) => return Ok(link),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Opens a link to a bridge by WebTunnel, which needs no program.
async fn open_own(
    line: &BridgeLine,
    expect: PeerExpectation,
    ours: link::Ours<'_>,
    takes_internal: bool,
    rng: &mut Rng,
) -> Result<link::Link, link::LinkError> {
    let failed = |error: &dyn std::fmt::Display| {
        tracing::warn!("no link by {OWN}: {error}");
        link::LinkError::Transport(format!("{OWN}: {error}"))
    };
    let site = Site::of(&line.arguments).map_err(|error| failed(&error))?;
    if ours.proxy.is_some() {
        return Err(failed(&"it goes through no proxy"));
    }
    let bind = ours.bind;
    // Certificates of the system are files.
    let dialer = tokio::task::spawn_blocking(move || Dialer::system(bind, takes_internal));
    let dialer = dialer.await.map_err(|error| failed(&error))?;
    let dialer = dialer.map_err(|error| failed(&error))?;
    let dialed = tokio::time::timeout(TRANSPORT_TIMEOUT, dialer.dial(&site)).await;
    match dialed {
        Ok(Ok(tcp)) => link::open_over(tcp, line.addr, expect, ours, rng).await,
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) => Err(failed(&"the site does not answer")),
    }
}

/// Opens a link to a bridge by a transport.
async fn open_by(
    proxy: Result<Proxy, TransportError>,
    addr: SocketAddr,
    expect: PeerExpectation,
    ours: link::Ours<'_>,
    rng: &mut Rng,
) -> Result<link::Link, link::LinkError> {
    let proxy = proxy.map_err(|error| {
        tracing::warn!("{error}");
        link::LinkError::Transport(error.to_string())
    })?;
    let ours = link::Ours {
        // The transport is on this machine.
        bind: None,
        proxy: Some(&proxy),
        connect_max: TRANSPORT_TIMEOUT,
        ..ours
    };
    link::open(&[addr], expect, ours, rng).await
}
