//! The ports of a network: open before its nodes are, so that nobody takes one in between.
//!
//! The launcher listens at all of them from the start, and gives each node its own as it starts it:
//! one that runs our program inherits them as they are (`listen`); `tor` can't, and finds them free
//! a moment before. Afterwards they are the node's alone, and go with it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use cepa_testnet::{Node, Plan, Summary};

use super::delay;
use crate::error::Failure;
use crate::folder::Folder;
use crate::launched::Shutdown;
use crate::ports::Block;
use crate::{listen, page};

/// What is listened at.
pub(super) struct Ports {
    /// Where the page is; open for as long as the network is, it keeps others out of the block.
    page: TcpListener,
    /// Where proxies delay links.
    proxies: Vec<TcpListener>,
    nodes: NodePorts,
}

/// What each node of a plan is to listen at.
pub(super) struct NodePorts(Vec<Vec<TcpListener>>);

impl Ports {
    /// Takes the ports of a plan: from `base_port` on, or else those that this folder's network
    /// had before, or else the first block that is free; the plan has them afterwards.
    pub(super) fn take(
        plan: &mut Plan,
        base_port: Option<u16>,
        folder: &Folder,
    ) -> Result<Self, Failure> {
        plan.base_port = base_port.unwrap_or(plan.base_port);
        // What was tried last.
        let mut at = (plan.page(), "page".to_owned());
        let mut fits = |base| {
            plan.base_port = base;
            open(plan, &mut at)
        };
        let taken = match base_port {
            Some(base) => Block::at(base).and_then(|block| Ok((block, fits(base)?))),
            None => Block::first_free(last_base(folder), fits),
        };
        let (block, (nodes, proxies)) =
            taken.map_err(|error| listen::explain(at.0, &at.1, &error))?;
        Ok(Self {
            page: block.into_holder(),
            proxies,
            nodes,
        })
    }

    /// Serves the page, and puts a proxy before each port of each relay if links are to take their
    /// time; the ports of nodes are left.
    ///
    /// Must be called within a runtime.
    pub(super) fn serve(self, delay: Duration, shutdown: &Shutdown) -> io::Result<NodePorts> {
        let page = listen::from_std(self.page)?;
        tokio::spawn(page::serve(page, shutdown.clone()));
        for proxy in self.proxies {
            let proxy = listen::from_std(proxy)?;
            tokio::spawn(delay::serve(proxy, delay, shutdown.clone()));
        }
        Ok(self.nodes)
    }
}

impl NodePorts {
    /// Takes those of a node, by its place in the plan.
    pub(super) fn take(&mut self, place: usize) -> Vec<TcpListener> {
        self.0
            .get_mut(place)
            .map(std::mem::take)
            .unwrap_or_default()
    }
}

/// Listens for the nodes and the proxies of a plan; `at` is what was tried last.
fn open(plan: &Plan, at: &mut (SocketAddr, String)) -> io::Result<(NodePorts, Vec<TcpListener>)> {
    let mut proxies = Vec::new();
    let mut of_node = |node: Node| {
        let mut open = |addr, purpose| {
            *at = (addr, format!("{} {purpose}", node.nickname));
            listen::hold(addr)
        };
        let mut held = Vec::new();
        for (addr, purpose) in [(node.or, "or_port"), (node.dir, "dir_port")] {
            match addr {
                Some(addr) if plan.delay.is_zero() => held.push(open(addr, purpose)?),
                Some(addr) => {
                    proxies.push(open(addr, purpose)?);
                    held.push(open(delay::behind(addr), purpose)?);
                }
                None => {}
            }
        }
        if let Some(addr) = node.socks {
            held.push(open(addr, "socks")?);
        }
        Ok(held)
    };
    let nodes: io::Result<_> = plan.nodes().into_iter().map(&mut of_node).collect();
    Ok((NodePorts(nodes?), proxies))
}

/// Where the ports of the network began that this folder has had before, if it has: whoever knows
/// that network finds it again.
fn last_base(folder: &Folder) -> Option<u16> {
    let text = std::fs::read_to_string(folder.path().join("testnet.json")).ok()?;
    let last: Summary = serde_json::from_str(&text).ok()?;
    Some(last.base_port)
}
