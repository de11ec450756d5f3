//! Opens listening sockets, with errors that name the port and what to do.

use std::io::ErrorKind;
use std::net::SocketAddr;

use rustix::io::Errno;
use tokio::net::TcpListener;

use crate::config::MetricsPort;
use crate::error::Failure;

/// Listens on `addr`. `purpose` is the setting that asked for it, such as `or_port`.
///
/// Must be called within a runtime.
pub async fn listen(addr: SocketAddr, purpose: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(addr)
        .await
        .map_err(|error| explain(addr, purpose, &error))
}

/// Listens for who asks for metrics, if anybody may.
///
/// Must be called within a runtime.
pub async fn metrics(
    port: Option<MetricsPort>,
) -> Result<Option<(TcpListener, MetricsPort)>, Failure> {
    match port {
        Some(port) => Ok(Some((listen(port.addr, "metrics").await?, port))),
        None => Ok(None),
    }
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

/// Whether a connection was not accepted because this process or machine is out of descriptors or
/// memory: it waits in the kernel, and can be accepted when there are some again.
pub fn is_want(error: &std::io::Error) -> bool {
    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    wants
        .iter()
        .any(|want| error.raw_os_error() == Some(want.raw_os_error()))
}

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
