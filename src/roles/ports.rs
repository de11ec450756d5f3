//! The ports of a client: opened all before any is served, so that a taken one is told at once.

mod changing;

use std::rc::Rc;

use tokio::net::{TcpListener, UdpSocket};

use super::applications::Applications;
use super::{dns_port, transparent};
use crate::config::{ClientConfig, Listener, UnixListener};
use crate::error::Failure;
use crate::listen::{self, OwnedSocket};
use changing::Purpose;

pub(crate) use changing::Changing;

/// Ports that are open.
pub(crate) struct Ports {
    /// What is for SOCKS or HTTP CONNECT: what was asked for, and where that is.
    tcp: Vec<(Purpose, (TcpListener, Listener, Listener))>,
    unix: Vec<(Purpose, (OwnedSocket, UnixListener))>,
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
        let (mut tcp, mut unix) = (Vec::new(), Vec::new());
        for (purpose, ports) in [
            (Purpose::Socks, &mut config.socks),
            (Purpose::HttpConnect, &mut config.http_connect),
        ] {
            let asked = ports.clone();
            let open = open(ports, purpose.key()).await?.into_iter().zip(asked);
            tcp.extend(open.map(|((listener, open), asked)| (purpose, (listener, asked, open))));
        }
        for (purpose, sockets) in [
            (Purpose::Socks, &config.socks_unix),
            (Purpose::HttpConnect, &config.http_connect_unix),
        ] {
            for asked in sockets {
                let socket = listen::listen_unix(&asked.path, asked.mode, purpose.key())?;
                listen::tell(called(purpose.key()), asked.path.display());
                unix.push((purpose, (socket, asked.clone())));
            }
        }
        Ok(Ports {
            tcp,
            unix,
            redirect: open(&mut config.redirect, "redirect").await?,
            tproxy: tproxy.collect::<Result<_, Failure>>()?,
            dns,
        })
    }

    /// Serves all of them, a task each; gives those that may change while the client runs.
    pub(crate) fn serve(self, all: &Rc<Applications>) -> Changing {
        let mut changing = Changing::default();
        for (purpose, port) in self.tcp {
            changing.serve(purpose, port, all);
        }
        for (purpose, socket) in self.unix {
            changing.serve_unix(purpose, socket, all);
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
        changing
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
