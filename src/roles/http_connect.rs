//! The HTTP CONNECT port (RFC 9110 9.3.6; `HTTPTunnelPort` in tor(1)).
//!
//! `CONNECT HOST:PORT` opens a stream; anything else is answered 405. Streams of different
//! `Proxy-Authorization` or `X-Tor-Stream-Isolation` headers share no circuit.

use std::io;
use std::rc::Rc;

use bytes::Bytes;
use cepa_client::Protocol;
use cepa_wire::host::{self, Host, HostError};
use cepa_wire::socks::{SocksAuth, SocksCommand, SocksRequest, SocksStatus, SocksVersion};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::applications::{Answer, Applications, Asked, Visitor};
use crate::net::edge::{self, Socket};

/// Headers of a request, at most.
const HEADERS_MAX: usize = 64;
/// Bytes of them that isolate, at most: more than a user and a password of the greatest length.
const ISOLATION_LEN_MAX: usize = 4096;
const ISOLATING: [&str; 2] = ["proxy-authorization", "x-tor-stream-isolation"];

/// Serves one connection to a port.
pub(crate) async fn serve<S: Socket>(
    applications: Rc<Applications>,
    tcp: S,
    visitor: Visitor,
) -> io::Result<()> {
    let service = service_fn(|request| {
        let (applications, visitor) = (Rc::clone(&applications), visitor.clone());
        async move {
            let reply = answer(applications, request, visitor).await;
            Ok::<_, std::convert::Infallible>(reply)
        }
    });
    hyper::server::conn::http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .timer(TokioTimer::new())
        .header_read_timeout(applications.request_max())
        .serve_connection(TokioIo::new(tcp), service)
        .with_upgrades()
        .await
        .map_err(io::Error::other)
}

async fn answer(
    applications: Rc<Applications>,
    request: hyper::Request<Incoming>,
    visitor: Visitor,
) -> Response<Full<Bytes>> {
    if request.method() != Method::CONNECT {
        return status(StatusCode::METHOD_NOT_ALLOWED);
    }
    let asked = match asked(&request, &visitor) {
        Ok(asked) => asked,
        Err(code) => return status(code),
    };
    let answer = applications.ask(asked).answer().await;
    match answer {
        Answer::Connected { stream, early, .. } => {
            let upgraded = hyper::upgrade::on(request);
            tokio::task::spawn_local(async move {
                let worker = Rc::clone(&applications.worker);
                match upgraded.await {
                    Ok(io) => {
                        let halves = tokio::io::split(TokioIo::new(io));
                        let served = edge::serve(&worker, stream, halves, Vec::new(), early);
                        tokio::select! {
                            () = served => {}
                            () = visitor.place.evicted() => {}
                        }
                    }
                    Err(_) => applications.close(stream),
                }
            });
            status(StatusCode::OK)
        }
        Answer::Failed(why) => status(status_of(why)),
        Answer::Resolved(_) => status(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn asked(request: &hyper::Request<Incoming>, visitor: &Visitor) -> Result<Asked, StatusCode> {
    let authority = request.uri().authority();
    let authority = authority.ok_or(StatusCode::BAD_REQUEST)?;
    let port = authority.port_u16().filter(|port| *port != 0);
    let port = port.ok_or(StatusCode::BAD_REQUEST)?;
    // As with `tor`: too long is told apart from malformed.
    let address = match Host::parse(authority.host().as_bytes()) {
        Ok(Host::Name(name)) if !host::is_name(&name) => Err(StatusCode::BAD_REQUEST),
        Ok(host) => Ok(host),
        Err(HostError::TooLong) => Err(StatusCode::URI_TOO_LONG),
        Err(HostError::Character) => Err(StatusCode::BAD_REQUEST),
    }?;
    let mut credentials = Vec::new();
    for name in ISOLATING {
        for value in request.headers().get_all(name) {
            credentials.extend_from_slice(value.as_bytes());
            credentials.push(0);
        }
    }
    if credentials.len() > ISOLATION_LEN_MAX {
        return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    let auth = match credentials.is_empty() {
        true => SocksAuth::None,
        false => SocksAuth::Username(b"HTTP".to_vec(), credentials),
    };
    let version = SocksVersion::V5;
    let request = SocksRequest {
        version,
        command: SocksCommand::Connect,
        address,
        port,
        auth,
    };
    let protocol = Protocol::HttpConnect;
    Ok(Asked::by(visitor, protocol, request))
}

/// The answer of a proxy whose way to the server failed, by the numbers of `tor`
/// (`end_reason_to_http_connect_response_line`): 403 is final, and 500 says that a key is missing;
/// 503 that there was no answer to the name or the onion address, 502 and 504 that there was none
/// on the way; all three may pass.
fn status_of(why: SocksStatus) -> StatusCode {
    match why {
        SocksStatus::NOT_ALLOWED | SocksStatus::CONNECTION_REFUSED => StatusCode::FORBIDDEN,
        SocksStatus::HOST_UNREACHABLE
        | SocksStatus::HS_DESC_NOT_FOUND
        | SocksStatus::HS_DESC_INVALID => StatusCode::SERVICE_UNAVAILABLE,
        SocksStatus::HS_MISSING_CLIENT_AUTH | SocksStatus::HS_BAD_CLIENT_AUTH => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        SocksStatus::NETWORK_UNREACHABLE => StatusCode::NOT_FOUND,
        SocksStatus::TTL_EXPIRED | SocksStatus::HS_INTRO_TIMED_OUT => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    }
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn final_and_passing_failures_are_told_apart() {
        for (why, code) in [
            (SocksStatus::NOT_ALLOWED, 403),
            (SocksStatus::CONNECTION_REFUSED, 403),
            (SocksStatus::HOST_UNREACHABLE, 503),
            (SocksStatus::HS_DESC_NOT_FOUND, 503),
            (SocksStatus::HS_BAD_ADDRESS, 502),
            (SocksStatus::GENERAL_FAILURE, 502),
            (SocksStatus::HS_INTRO_FAILED, 502),
            (SocksStatus::HS_REND_FAILED, 502),
            (SocksStatus::TTL_EXPIRED, 504),
            (SocksStatus::HS_INTRO_TIMED_OUT, 504),
        ] {
            assert_eq!(status_of(why).as_u16(), code, "{why}");
        }
    }
}
