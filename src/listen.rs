//! Opens listening sockets, with errors that name the port and what to do.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::error::{Failure, fail};

/// Listens on `addr`. `purpose` is the setting that asked for it, such as `or_port`.
///
/// Must be called within a runtime.
pub async fn listen(addr: SocketAddr, purpose: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(addr)
        .await
        .map_err(|error| explain(addr, purpose, &error))
}

/// Says, without keeping anything, whether `addr` could be listened on.
pub fn check_free(addr: SocketAddr, purpose: &str) -> Result<(), Failure> {
    match std::net::TcpListener::bind(addr) {
        Ok(_) => Ok(()),
        Err(error) => Err(explain(addr, purpose, &error)),
    }
}

fn explain(addr: SocketAddr, purpose: &str, error: &std::io::Error) -> Failure {
    let place = format!("{purpose} {addr}");
    match error.kind() {
        ErrorKind::AddrInUse => Failure::new(
            "port is taken",
            place,
            "stop the program that uses it or choose another",
        ),
        ErrorKind::AddrNotAvailable => Failure::new(
            "address is not of this machine",
            place,
            "choose one of its addresses",
        ),
        ErrorKind::PermissionDenied => {
            Failure::new("not allowed to listen", place, "choose a port above 1023")
        }
        _ => Failure::new("cannot listen", place, error),
    }
}

/// Accepts the next connection; errors that concern one connection only are passed over.
pub async fn accept(
    listener: &TcpListener,
) -> Result<(tokio::net::TcpStream, SocketAddr), Failure> {
    let mut failures = 0;
    loop {
        match listener.accept().await {
            Ok(accepted) => return Ok(accepted),
            // Out of descriptors, or the peer left: wait a moment, do not spin.
            Err(error) if failures < ACCEPT_FAILURES_MAX => {
                failures += 1;
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            Err(error) => return fail("cannot accept connections", "listener", error),
        }
    }
}

/// So many failures in a row, and the listener is given up (some 100 s).
const ACCEPT_FAILURES_MAX: u32 = 1000;
/// The pause after a failed accept.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named() {
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = holder.local_addr().unwrap();
        let text = check_free(addr, "socks").unwrap_err().to_string();
        assert!(
            text.contains(&addr.to_string()) && text.contains("taken"),
            "{text}"
        );
    }
}
