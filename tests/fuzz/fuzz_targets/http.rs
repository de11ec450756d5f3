//! HTTP heads and bodies, as a directory reads them of strangers and a client of directories
//! (dir-spec 6): in pieces, cut anywhere, with bodies that are let in, looked at or refused.
//!
//! Whoever has said all that he will is answered or hung up on; no body is longer than its door
//! allows; and what was reserved for it is given back.

#![no_main]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use cepa::doors::Doors;
use cepa::http::{self, Admission, Budget, Handler, Limits, Looked, Peer, Reply, Request, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

/// Bytes that are on their way between both ends.
const PIPE_LEN: usize = 256;
/// Bodies of requests and replies.
const BODY_MAX: usize = 600;
/// What all bodies may have: less than two of them.
const BUDGET: usize = 1000;

fn limits() -> Limits {
    Limits {
        body_len_max: BODY_MAX,
        ..Limits::default()
    }
}

/// A server, its budget, and the longest body that its handler saw.
fn server() -> (Server, Budget, Arc<AtomicUsize>) {
    let (budget, longest) = (Budget::new(BUDGET), Arc::new(AtomicUsize::new(0)));
    let (seen, shared) = (longest.clone(), budget.clone());
    let handler: Handler = Arc::new(move |request: Request| {
        seen.fetch_max(request.body.len(), Ordering::Relaxed);
        Box::pin(async move { Reply::new(200).with_body(request.body) })
    });
    let door = Arc::new(move |request: &Request| {
        if !request.path.starts_with("/tor/") {
            return Err(Reply::new(404));
        }
        let look = |bytes: &[u8]| match bytes.first() {
            None => Looked::More,
            Some(b'x') => Looked::Refused(Reply::new(400)),
            Some(_) => Looked::Good(Box::new(())),
        };
        Ok(Admission {
            len_max: BODY_MAX,
            reservation: shared.reserve(request.peer.into()),
            look: request.path.contains("look").then_some(Box::new(look)),
        })
    });
    let server = Server::new(handler, limits(), Doors::aside(&["fuzz"])).with_door(door);
    (server, budget, longest)
}

/// Says all, in pieces, and then no more; what came back.
async fn say(mut pipe: DuplexStream, data: &[u8], piece: usize) -> Vec<u8> {
    let (mut input, mut output) = tokio::io::split(&mut pipe);
    let mut answer = Vec::new();
    let send = async {
        for piece in data.chunks(piece) {
            // The other end may have heard enough.
            if output.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        let _ = output.shutdown().await;
    };
    let _ = tokio::join!(send, input.read_to_end(&mut answer));
    answer
}

async fn serve(data: &[u8], piece: usize) {
    let (server, budget, longest) = server();
    let (near, far) = duplex(PIPE_LEN);
    let (answer, ()) = tokio::join!(
        say(near, data, piece),
        server.serve_stream(far, Peer::Circuit)
    );
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."));
    assert!(longest.load(Ordering::Relaxed) <= BODY_MAX);
    assert_eq!(budget.left(), BUDGET);
}

async fn read_reply(data: &[u8], piece: usize) {
    let (near, far) = duplex(PIPE_LEN);
    let request = Request::post("/tor/", Bytes::from_static(b"body"));
    let limits = limits();
    let (_, reply) = tokio::join!(say(near, data, piece), http::request(far, request, &limits));
    if let Ok(reply) = reply {
        assert!(reply.body.len() <= BODY_MAX);
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let piece = usize::from(first >> 1).max(1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = runtime.expect("a runtime");
    match first & 1 {
        0 => runtime.block_on(serve(data, piece)),
        _ => runtime.block_on(read_reply(data, piece)),
    }
});
