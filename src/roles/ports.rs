//! The ports of a client: opened all before any is served, so that a taken one is told at once.

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::{TcpListener, UdpSocket};

use super::applications::Applications;
use super::{dns_port, http_connect, socks, transparent};
use crate::config::ClientConfig;
use crate::error::Failure;
use crate::listen;

/// Ports that are open.
pub(crate) struct Ports {
    socks: Vec<TcpListener>,
    http_connect: Vec<TcpListener>,
    redirect: Vec<TcpListener>,
    tproxy: Vec<TcpListener>,
    dns: Vec<UdpSocket>,
}

impl Ports {
    /// Opens what the configuration asks for.
    pub(crate) async fn open(config: &ClientConfig) -> Result<Self, Failure> {
        let mut dns = Vec::new();
        for addr in &config.dns {
            dns.push(dns_port::listen(*addr).await?);
        }
        let tproxy = config.tproxy.iter();
        let tproxy = tproxy.map(|addr| transparent::listen_tproxy(*addr));
        Ok(Ports {
            socks: open(&config.socks, "socks").await?,
            http_connect: open(&config.http_connect, "http_connect").await?,
            redirect: open(&config.redirect, "redirect").await?,
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
        for listener in self.redirect {
            let serve = transparent::serve_redirected;
            tokio::task::spawn_local(Rc::clone(all).accept(listener, "redirect", serve));
        }
        for listener in self.tproxy {
            let serve = transparent::serve_tproxied;
            tokio::task::spawn_local(Rc::clone(all).accept(listener, "tproxy", serve));
        }
        for socket in self.dns {
            tokio::task::spawn_local(dns_port::serve(Rc::clone(all), socket));
        }
    }
}

async fn open(addrs: &[SocketAddr], purpose: &str) -> Result<Vec<TcpListener>, Failure> {
    let mut listeners = Vec::new();
    for addr in addrs {
        listeners.push(listen::listen(*addr, purpose).await?);
    }
    Ok(listeners)
}
