//! Links that take their time: a small proxy before each OR port (`--delay`).
//!
//! A node says that it listens at its address, and listens at the address above it; the proxy
//! takes the connections and hands each piece of bytes on when its delay is over, both ways, in
//! order. Bytes on the way are bounded: what a link of 1 Gbit/s holds at the longest delay.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

use crate::clock;
use crate::doors::Doors;
use crate::launched::Shutdown;

/// Bytes on the way, each way of a link, at most.
const ON_THE_WAY_MAX: usize = 16 << 20;
/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;

/// Where a node listens behind its proxy: the next address, the same port.
pub(super) fn behind(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip).saturating_add(1)).into(),
        other => other,
    };
    SocketAddr::new(ip, addr.port())
}

/// Proxies one node's OR port until `shutdown`.
pub(super) async fn serve(listener: TcpListener, delay: Duration, mut shutdown: Shutdown) {
    let Ok(addr) = listener.local_addr() else {
        return;
    };
    let gate = Doors::aside(&["the proxy of a delayed link"]);
    loop {
        let (theirs, _, place) = tokio::select! {
            accepted = gate.accept(&listener) => accepted,
            () = shutdown.wait() => return,
        };
        place.set_busy(true);
        tokio::spawn(async move {
            // A node that does not listen (any more) hangs up, as without a proxy.
            if let Ok(node) = TcpStream::connect(behind(addr)).await {
                join(theirs, node, delay).await;
            }
            drop(place);
        });
    }
}

async fn join(theirs: TcpStream, node: TcpStream, delay: Duration) {
    let _ = (theirs.set_nodelay(true), node.set_nodelay(true));
    let (their_reader, their_writer) = theirs.into_split();
    let (node_reader, node_writer) = node.into_split();
    tokio::select! {
        _ = pass(their_reader, node_writer, delay) => {}
        _ = pass(node_reader, their_writer, delay) => {}
    }
}

/// Hands bytes on, each piece `delay` after it came, until the one side ends.
async fn pass(
    mut reader: OwnedReadHalf,
    mut writer: OwnedWriteHalf,
    delay: Duration,
) -> io::Result<()> {
    let mut on_the_way = VecDeque::<(Instant, Vec<u8>)>::new();
    let (mut bytes, mut ended) = (0, false);
    loop {
        let due = on_the_way.front().map(|(due, _)| *due);
        if due.is_none() && ended {
            return writer.shutdown().await;
        }
        let (mut piece, now) = (
            Vec::with_capacity(READ_BYTES),
            Instant::from_std(clock::now().mono),
        );
        tokio::select! {
            read = reader.read_buf(&mut piece), if !ended && bytes < ON_THE_WAY_MAX => {
                ended = read? == 0;
                bytes += piece.len();
                let came = Instant::from_std(clock::now().mono);
                on_the_way.push_back((came + delay, piece));
            }
            () = sleep_until(due.unwrap_or(now)), if due.is_some() => {
                if let Some((_, piece)) = on_the_way.pop_front() {
                    writer.write_all(&piece).await?;
                    bytes -= piece.len();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_goes_in_comes_out_later() {
        let pair = || async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let to = TcpStream::connect(listener.local_addr().unwrap())
                .await
                .unwrap();
            (to, listener.accept().await.unwrap().0)
        };
        let ((mut one, near), (far, mut other)) = (pair().await, pair().await);
        let delay = Duration::from_millis(30);
        tokio::spawn(join(near, far, delay));
        let began = clock::now().mono;
        one.write_all(b"ping").await.unwrap();
        let mut bytes = [0; 4];
        other.read_exact(&mut bytes).await.unwrap();
        other.write_all(b"pong").await.unwrap();
        one.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"pong");
        assert!(clock::now().mono - began >= 2 * delay);
        drop(other);
        assert_eq!(one.read(&mut bytes).await.unwrap(), 0);
    }
}
