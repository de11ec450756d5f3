//! A small page for a test network, so that there is something to fetch.
//!
//! It listens on loopback and answers each GET of any path; `/bytes/N` gives N bytes, and a POST
//! is answered with its length and SHA-256, so that whole transfers can be checked.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use cepa_crypto::digest::sha256;
use cepa_crypto::encoding::hex_lower;
use tokio::net::TcpListener;

use crate::doors::Doors;
use crate::http::{Admission, Budget, Door, Handler, Limits, Peer, Reply, Request, Sender, Server};
use crate::launched::Shutdown;

/// The text of a test network's page.
pub const PAGE: &str = "This page came through three hops of an onion-routing network.\n";
/// The longest body that `/bytes/N` gives.
const BYTES_MAX: usize = 64 << 20;
/// The longest body that is taken.
const POST_LEN_MAX: usize = 64 << 20;
/// Bytes of all bodies that are being sent.
const POSTS_LEN_MAX: usize = 1 << 30;

/// Serves the page until `shutdown`.
pub async fn serve(listener: TcpListener, shutdown: Shutdown) {
    let limits = Limits::default();
    let budget = Budget::new(POSTS_LEN_MAX);
    let door: Door = Arc::new(move |request| {
        let Peer::Address(addr) = request.peer else {
            return Err(Reply::new(403));
        };
        Ok(Admission {
            len_max: POST_LEN_MAX,
            reservation: budget.reserve(Sender::Known(addr.ip())),
            look: None,
        })
    });
    let handler: Handler = Arc::new(|request| Box::pin(std::future::ready(answer(&request))));
    let server = Server::new(handler, limits, Doors::aside(&["page"])).with_door(door);
    server.serve(listener, shutdown).await;
}

/// The address of the page as a person types it.
pub fn url(addr: SocketAddr) -> String {
    format!("http://{addr}/")
}

fn answer(request: &Request) -> Reply {
    if request.method == "POST" {
        let digest = hex_lower(&sha256(&request.body));
        return text(
            200,
            format!("{} bytes, sha256 {digest}\n", request.body.len()),
        );
    }
    let Some(count) = request.path.strip_prefix("/bytes/") else {
        return text(200, PAGE.to_owned());
    };
    match count.parse::<usize>() {
        Ok(count) if count <= BYTES_MAX => {
            let body = (0..=u8::MAX).cycle().take(count).collect::<Vec<u8>>();
            Reply::new(200)
                .with_header("Content-Type", "application/octet-stream")
                .with_body(body)
        }
        _ => text(404, format!("expected a number up to {BYTES_MAX}\n")),
    }
}

fn text(status: u16, body: String) -> Reply {
    Reply::new(status)
        .with_header("Content-Type", "text/plain")
        .with_body(Bytes::from(body))
}
