//! A port of a client in its file: an address, and flags of isolation with `tor`'s names behind it.
//!
//! `"127.0.0.1:9050 IsolateDestAddr SessionGroup=1"`, as after `SocksPort` in a torrc.

use std::net::SocketAddr;

use cepa_client::IsolationRules;

/// Where a client listens, and what its streams are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// The address.
    pub addr: SocketAddr,
    /// Which streams of the port may share circuits.
    pub rules: IsolationRules,
}

impl Listener {
    /// What stands in a file, for messages.
    pub const EXPECTED: &str = "an address with a port from 1 to 65535, and behind it perhaps \
        IsolateDestAddr, IsolateDestPort, IsolateClientProtocol, NoIsolateClientAddr, \
        NoIsolateSOCKSAuth, KeepAliveIsolateSOCKSAuth or SessionGroup=NUMBER";

    /// Reads one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let addr: SocketAddr = words.next()?.parse().ok()?;
        let mut listener = Listener::from(addr);
        for flag in words {
            listener.rules.add_flag(flag).ok()?;
        }
        (addr.port() != 0).then_some(listener)
    }
}

impl From<SocketAddr> for Listener {
    fn from(addr: SocketAddr) -> Self {
        Listener {
            addr,
            rules: IsolationRules::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_address_and_flags() {
        let listener = Listener::parse("127.0.0.1:9050").unwrap();
        assert_eq!(listener.rules, IsolationRules::default());
        let listener = Listener::parse("[::1]:9050 IsolateDestPort SessionGroup=7").unwrap();
        assert!(listener.rules.dest_port && !listener.rules.dest_addr);
        assert_eq!(listener.rules.session_group, Some(7));
        for wrong in ["", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:1 Isolate", "x:1"] {
            assert_eq!(Listener::parse(wrong), None, "{wrong}");
        }
    }
}
