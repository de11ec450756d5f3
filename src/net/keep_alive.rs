//! What the kernel is told of links, so that a path which drops all packets does not hold one for
//! the quarter of an hour that it would wait by itself.
//!
//! The client's own questions are faster (`cepa_client`'s plane); this is for both sides of every
//! link, of relays among themselves too, and for the bytes that were written before the silence.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// How long written bytes, or a keepalive, may be unacknowledged (`TCP_USER_TIMEOUT`, RFC 5482). A
/// peer that does not read for so long is as good as gone, too.
pub(crate) const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(20);
/// How long a link is idle before the kernel asks whether the peer is there.
const IDLE: Duration = Duration::from_secs(60);
/// How often it then asks.
const INTERVAL: Duration = Duration::from_secs(5);

/// Has the kernel break a connection whose peer is gone. Where it can't, our own time-outs remain.
pub(crate) fn keep_alive(tcp: &TcpStream) {
    let socket = SockRef::from(tcp);
    let keepalive = TcpKeepalive::new().with_time(IDLE).with_interval(INTERVAL);
    let set = socket
        .set_tcp_keepalive(&keepalive)
        .and_then(|()| socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX)));
    if let Err(error) = set {
        tracing::debug!(%error, "the kernel does not watch over a connection");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_is_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let tcp = TcpStream::connect(addr).await.unwrap();
        keep_alive(&tcp);
        let socket = SockRef::from(&tcp);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), IDLE);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED_MAX));
    }
}
