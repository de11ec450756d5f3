//! The transparent port (`TransPort` in tor(1); Linux): connections that the firewall leads here.
//!
//! With `iptables -j REDIRECT` the kernel still knows where a connection wanted to go
//! (SO_ORIGINAL_DST); with `-j TPROXY` that is the connection's own local address. Nothing is said
//! to the application: the stream begins at once, or is closed.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use cepa_client::Protocol as ClientProtocol;
use cepa_wire::host::Host;
use cepa_wire::socks::{SocksAuth, SocksCommand, SocksRequest, SocksVersion};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::applications::{Applications, Asked, Visitor};
use crate::error::Failure;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Serves one connection that was redirected to a port.
pub(crate) async fn serve_redirected(
    applications: Rc<Applications>,
    tcp: TcpStream,
    visitor: Visitor,
) -> io::Result<()> {
    let socket = SockRef::from(&tcp);
    let original = match visitor.port.addr {
        SocketAddr::V4(_) => socket.original_dst_v4()?,
        SocketAddr::V6(_) => socket.original_dst_v6()?,
    };
    let target = original.as_socket();
    // Who connected here directly is not led on to here again.
    let target = target.filter(|target| *target != visitor.port.addr);
    let target = target.ok_or(io::ErrorKind::AddrNotAvailable)?;
    serve(applications, tcp, target, visitor).await
}

/// Serves one connection whose local address is where it wanted to go.
pub(crate) async fn serve_tproxied(
    applications: Rc<Applications>,
    tcp: TcpStream,
    visitor: Visitor,
) -> io::Result<()> {
    let target = tcp.local_addr()?;
    if target == visitor.port.addr {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    }
    serve(applications, tcp, target, visitor).await
}

async fn serve(
    applications: Rc<Applications>,
    tcp: TcpStream,
    target: SocketAddr,
    visitor: Visitor,
) -> io::Result<()> {
    let version = SocksVersion::V5;
    let auth = SocksAuth::None;
    let request = SocksRequest {
        version,
        command: SocksCommand::Connect,
        address: Host::Ip(target.ip()),
        port: target.port(),
        auth,
    };
    let asked = Asked::by(&visitor, ClientProtocol::Transparent, request);
    applications.serve(tcp, asked, |_, _| Vec::new()).await
}

/// Listens for connections to any address (IP_TRANSPARENT, which root may set).
pub(crate) fn listen_tproxy(addr: SocketAddr) -> Result<TcpListener, Failure> {
    let listening = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        match addr {
            SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
            SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
        }
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket.into())
    };
    listening().map_err(|error| {
        let advice = format!("it needs the right to administer the network ({error})");
        Failure::new(
            "cannot listen transparently",
            format!("tproxy {addr}"),
            advice,
        )
    })
}
