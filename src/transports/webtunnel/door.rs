//! The end of a bridge: it listens behind the web server of a site, which passes on what is asked
//! for at one path of it.
//!
//! Whoever asks for anything else, or without the words of an upgrade, is told 404, like by any web
//! server: nothing says that this is a relay.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cepa_pt::{Arguments, Method, Site, TransportName};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{HEAD_LEN_MAX, WEBSOCKET, copy, made_up};
use crate::transports::State;

/// Connections at a time that have not asked yet. More wait in the system's queue.
const ASKING_MAX: usize = 512;
/// Connections at a time that are passed on to the relay.
const CARRIED_MAX: usize = 4096;
/// How long one may take to ask.
const ASK_MAX: Duration = Duration::from_secs(15);
/// Headers of what it asks.
const HEADERS_MAX: usize = 64;
/// How long until a port that could not be had is tried again.
const AGAIN: Duration = Duration::from_secs(30);
/// How long to wait when there are no sockets left.
const PAUSE: Duration = Duration::from_millis(100);

/// Where a bridge is found, and where its relay is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Door {
    /// Where the web server finds it.
    listen: SocketAddr,
    /// What clients are told in bridge lines: the URL of the site, and what else it needs.
    arguments: Arguments,
    /// The path that is asked for.
    path: String,
    /// The port of the relay.
    or_port: SocketAddr,
}

impl Door {
    /// The door that listens there, as these options name its site; none if they name none.
    pub(crate) fn new(
        listen: SocketAddr,
        options: &Arguments,
        or_port: SocketAddr,
    ) -> Option<Self> {
        Some(Door {
            listen,
            arguments: options.clone(),
            path: Site::of(options).ok()?.path,
            or_port,
        })
    }

    /// Serves until nobody holds the other end of `stopped`.
    pub(crate) async fn run(
        self,
        name: TransportName,
        state: watch::Sender<State>,
        mut stopped: watch::Receiver<()>,
    ) {
        let served = async {
            loop {
                let error = match TcpListener::bind(self.listen).await {
                    Ok(listener) => {
                        state.send_replace(State::Serving(self.methods(&name)));
                        self.serve(listener).await
                    }
                    Err(error) => error,
                };
                tracing::warn!("no {name} at {}: {error}; again in {AGAIN:?}", self.listen);
                state.send_replace(State::Down(error.to_string()));
                tokio::time::sleep(AGAIN).await;
            }
        };
        tokio::select! {
            () = served => {}
            _ = stopped.changed() => {}
        }
    }

    fn methods(&self, name: &TransportName) -> BTreeMap<TransportName, Method> {
        let addr = made_up(&self.arguments.to_string());
        let method = Method::Server(addr, self.arguments.clone());
        BTreeMap::from([(name.clone(), method)])
    }

    /// Takes connections, until that fails for good.
    async fn serve(&self, listener: TcpListener) -> io::Error {
        let asking = Arc::new(Semaphore::new(ASKING_MAX));
        let carried = Arc::new(Semaphore::new(CARRIED_MAX));
        // Dropped with this future, it ends all that it holds.
        let mut tasks = tokio::task::JoinSet::new();
        let path: Arc<str> = self.path.as_str().into();
        loop {
            while tasks.try_join_next().is_some() {}
            let Ok(place) = Arc::clone(&asking).acquire_owned().await else {
                return io::Error::other("closed");
            };
            let tcp = match listener.accept().await {
                Ok((tcp, _)) => tcp,
                Err(error) if is_lasting(&error) => return error,
                Err(error) => {
                    tracing::debug!("a connection is not taken: {error}");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let (path, carried, or_port) = (Arc::clone(&path), Arc::clone(&carried), self.or_port);
            tasks.spawn(async move {
                let asked = asked(tcp, &path, &carried, or_port);
                let asked = tokio::time::timeout(ASK_MAX, asked).await;
                drop(place);
                if let Ok(Some(carried)) = asked {
                    carried.await;
                }
            });
        }
    }
}

/// Whether no connection will be taken any more.
fn is_lasting(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
    )
}

/// What is to be carried for who has asked rightly.
struct Agreed {
    upgrade: hyper::upgrade::OnUpgrade,
    relay: TcpStream,
    place: OwnedSemaphorePermit,
}

/// Answers who connects. Whoever has asked rightly is then carried by the future that comes back.
async fn asked(
    tcp: TcpStream,
    path: &str,
    carried: &Arc<Semaphore>,
    or_port: SocketAddr,
) -> Option<impl Future<Output = ()> + use<>> {
    tcp.set_nodelay(true).ok()?;
    let agreed = std::sync::Mutex::new(None);
    let service = service_fn(|mut request: Request<Incoming>| {
        let agreed = &agreed;
        async move {
            let found = agree(&mut request, path, carried, or_port).await;
            let answer = answer(found.is_some());
            if let Ok(mut agreed) = agreed.lock() {
                *agreed = found;
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ASK_MAX)
        .max_buf_size(HEAD_LEN_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(tcp), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!("who connected asks for nothing: {error}");
    }
    let Agreed {
        upgrade,
        mut relay,
        place,
    } = agreed.into_inner().ok()??;
    let upgraded = upgrade.await.ok()?;
    Some(async move {
        let mut far = TokioIo::new(upgraded);
        copy(&mut relay, &mut far).await;
        drop(place);
    })
}

/// A connection to the relay, for who asks for the path with the words of an upgrade.
async fn agree(
    request: &mut Request<Incoming>,
    path: &str,
    carried: &Arc<Semaphore>,
    or_port: SocketAddr,
) -> Option<Agreed> {
    let headers = request.headers();
    let is_right = request.method() == hyper::Method::GET
        && request.uri().path() == path
        && has_word(headers, &CONNECTION, "upgrade")
        && has_word(headers, &UPGRADE, WEBSOCKET);
    if !is_right {
        return None;
    }
    let place = Arc::clone(carried).try_acquire_owned().ok()?;
    let relay = TcpStream::connect(or_port).await.ok()?;
    relay.set_nodelay(true).ok()?;
    Some(Agreed {
        upgrade: hyper::upgrade::on(request),
        relay,
        place,
    })
}

/// Whether a list of words has this one.
fn has_word(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(name).into_iter();
    let mut words = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    words.any(|word| word.trim().eq_ignore_ascii_case(wanted))
}

fn answer(is_agreed: bool) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = match is_agreed {
        true => StatusCode::SWITCHING_PROTOCOLS,
        false => StatusCode::NOT_FOUND,
    };
    let headers = response.headers_mut();
    if is_agreed {
        // Debian's client takes no other word beside this one, which hyper would add to it if
        // connections were not to be kept.
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
    } else {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
