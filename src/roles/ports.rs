//! The ports of a client: opened all before any is served, so that a taken one is told at once.

use std::rc::Rc;

use tokio::net::{TcpListener, UdpSocket};

use super::applications::Applications;
use super::{dns_port, http_connect, socks, transparent};
use crate::config::{ClientConfig, Listener, UnixListener};
use crate::error::Failure;
use crate::listen::{self, OwnedSocket};

/// Ports that are open.
pub(crate) struct Ports {
    socks: Vec<(TcpListener, Listener)>,
    http_connect: Vec<(TcpListener, Listener)>,
    socks_unix: Vec<(OwnedSocket, Listener)>,
    http_connect_unix: Vec<(OwnedSocket, Listener)>,
    redirect: Vec<(TcpListener, Listener)>,
    tproxy: Vec<(TcpListener, Listener)>,
    dns: Vec<(UdpSocket, Listener)>,
}

impl Ports {
    /// Opens what the configuration asks for, which has from then on the ports that were free.
    pub(crate) async fn open(config: &mut ClientConfig) -> Result<Self, Failure> {
        let mut dns = Vec::new();
        for port in &mut config.dns {
            let socket = dns_port::listen(port.addr).await?;
            port.addr = socket.local_addr().unwrap_or(port.addr);
            listen::tell("DNS", port.addr);
            dns.push((socket, *port));
        }
        let tproxy = config.tproxy.iter();
        let tproxy = tproxy.map(|port| Ok((transparent::listen_tproxy(port.addr)?, *port)));
        Ok(Ports {
            socks: open(&mut config.socks, "socks").await?,
            http_connect: open(&mut config.http_connect, "http_connect").await?,
            socks_unix: open_unix(&config.socks_unix, 0, "socks")?,
            http_connect_unix: open_unix(
                &config.http_connect_unix,
                config.socks_unix.len(),
                "http_connect",
            )?,
            redirect: open(&mut config.redirect, "redirect").await?,
            tproxy: tproxy.collect::<Result<_, Failure>>()?,
            dns,
        })
    }

    /// Serves all of them, a task each, until the end of the process.
    pub(crate) fn serve(self, all: &Rc<Applications>) {
        for listener in self.socks {
            let served = Rc::clone(all).accept(listener, "socks", socks::serve);
            tokio::task::spawn_local(served);
        }
        for listener in self.http_connect {
            let served = Rc::clone(all).accept(listener, "http_connect", http_connect::serve);
            tokio::task::spawn_local(served);
        }
        for listener in self.socks_unix {
            let served = Rc::clone(all).accept_unix(listener, "socks", socks::serve);
            tokio::task::spawn_local(served);
        }
        for listener in self.http_connect_unix {
            let serve = http_connect::serve;
            tokio::task::spawn_local(Rc::clone(all).accept_unix(listener, "http_connect", serve));
        }
        for listener in self.redirect {
            let serve = transparent::serve_redirected;
            tokio::task::spawn_local(Rc::clone(all).accept(listener, "redirect", serve));
        }
        for listener in self.tproxy {
            let serve = transparent::serve_tproxied;
            tokio::task::spawn_local(Rc::clone(all).accept(listener, "tproxy", serve));
        }
        for (socket, port) in self.dns {
            tokio::task::spawn_local(dns_port::serve(Rc::clone(all), socket, port));
        }
    }
}

async fn open(
    ports: &mut [Listener],
    purpose: &str,
) -> Result<Vec<(TcpListener, Listener)>, Failure> {
    let mut listeners = Vec::new();
    for port in ports {
        let listener = listen::listen(port.addr, purpose).await?;
        port.addr = listener.local_addr().unwrap_or(port.addr);
        listen::tell(called(purpose), port.addr);
        listeners.push((listener, *port));
    }
    Ok(listeners)
}

/// What programs know a port as.
fn called(purpose: &str) -> &'static str {
    match purpose {
        "socks" => "Socks",
        "http_connect" => "HTTP tunnel",
        _ => "Transparent pf/netfilter",
    }
}

/// Opens unix sockets, which are numbered from `first` on.
fn open_unix(
    ports: &[UnixListener],
    first: usize,
    purpose: &str,
) -> Result<Vec<(OwnedSocket, Listener)>, Failure> {
    let numbers = u32::try_from(first).unwrap_or_default()..;
    let open = ports.iter().zip(numbers).map(|(port, number)| {
        let socket = listen::listen_unix(&port.path, port.mode, purpose)?;
        listen::tell(called(purpose), port.path.display());
        Ok((socket, port.as_port(number)))
    });
    open.collect()
}
