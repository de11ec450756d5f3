//! A port of a client in its file: an address, and flags of isolation with `tor`'s names behind it.
//!
//! `"127.0.0.1:9050 IsolateDestAddr SessionGroup=1"`, as after `SocksPort` in a torrc; for SOCKS
//! and HTTP CONNECT also the path of a unix socket: `"unix:/run/cepa/socks GroupWritable"`.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};

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
    pub const EXPECTED: &str = "an address with a port from 1 to 65535 or auto, and behind it \
        perhaps IsolateDestAddr, IsolateDestPort, IsolateClientProtocol, NoIsolateClientAddr, \
        NoIsolateSOCKSAuth, KeepAliveIsolateSOCKSAuth or SessionGroup=NUMBER";

    /// Reads one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let place = words.next()?;
        let free = place.strip_suffix(":auto");
        let free = free.map(|ip| format!("{ip}:0").parse().ok());
        let addr: SocketAddr = free.unwrap_or_else(|| place.parse().ok())?;
        let is_port = addr.port() != 0 || place.ends_with(":auto");
        let mut listener = Listener::from(addr);
        for flag in words {
            listener.rules.add_flag(flag).ok()?;
        }
        is_port.then_some(listener)
    }
}

/// A unix socket that a client listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixListener {
    /// Where.
    pub path: PathBuf,
    /// Who may connect, as the mode of the file.
    pub mode: u32,
    /// What isolates.
    pub rules: IsolationRules,
}

impl UnixListener {
    /// What stands in a file, for messages.
    pub const EXPECTED: &str = "unix: and a path, and behind it perhaps GroupWritable, \
        WorldWritable or flags of isolation";
    const PREFIX: &str = "unix:";

    /// Whether a text is meant to be one.
    pub fn is_meant(text: &str) -> bool {
        text.trim_start().starts_with(Self::PREFIX)
    }

    /// Reads one; a path is meant as `resolve` says.
    pub fn parse(text: &str, resolve: impl Fn(&Path) -> PathBuf) -> Option<Self> {
        let mut words = text.split_whitespace();
        let path = words.next()?.strip_prefix(Self::PREFIX)?;
        let mut listener = UnixListener {
            path: resolve(Path::new(path)),
            mode: 0o600,
            rules: IsolationRules::default(),
        };
        for flag in words {
            match flag {
                "GroupWritable" => listener.mode |= 0o060,
                "WorldWritable" => listener.mode |= 0o066,
                flag => listener.rules.add_flag(flag).ok()?,
            }
        }
        (!path.is_empty()).then_some(listener)
    }

    /// What its streams are told apart by from those of other ports: no address is like it.
    pub fn as_port(&self, number: u32) -> Listener {
        let addr = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, number, 0);
        let rules = self.rules;
        Listener {
            addr: addr.into(),
            rules,
        }
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
    fn reads_a_path_and_its_mode() {
        let read = |text| UnixListener::parse(text, |path| Path::new("/etc").join(path));
        let socket = read("unix:run/socks").unwrap();
        assert_eq!(socket.path, Path::new("/etc/run/socks"));
        assert_eq!(socket.mode, 0o600);
        let socket = read("unix:/run/socks GroupWritable IsolateDestPort").unwrap();
        assert_eq!(socket.path, Path::new("/run/socks"));
        assert_eq!(socket.mode, 0o660);
        assert!(socket.rules.dest_port);
        assert_eq!(read("unix:/s WorldWritable").unwrap().mode, 0o666);
        assert_ne!(socket.as_port(0).addr, socket.as_port(1).addr);
        for wrong in ["", "unix:", "/run/socks", "unix:/s Writable"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn reads_an_address_and_flags() {
        let listener = Listener::parse("127.0.0.1:9050").unwrap();
        assert_eq!(listener.rules, IsolationRules::default());
        let listener = Listener::parse("[::1]:9050 IsolateDestPort SessionGroup=7").unwrap();
        assert!(listener.rules.dest_port && !listener.rules.dest_addr);
        assert_eq!(listener.rules.session_group, Some(7));
        assert_eq!(Listener::parse("[::1]:auto").unwrap().addr.port(), 0);
        for wrong in ["", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:1 Isolate", "x:1"] {
            assert_eq!(Listener::parse(wrong), None, "{wrong}");
        }
    }
}
