//! Lines that say who speaks a transport: `ClientTransportPlugin` and `ServerTransportPlugin` in
//! tor(1): `NAMES exec PATH [ARGUMENTS]`, or, for clients, `NAMES socks5 ADDRESS:PORT`; a comma
//! stands between names. `webtunnel own` is ours alone: the transport that needs no other program.

use std::net::SocketAddr;
use std::str::FromStr;

use crate::message::SocksVersion;
use crate::name::{NameError, TransportName};

/// Most transports of one program.
pub const NAMES_MAX: usize = 32;
/// The longest line.
pub const LINE_LEN_MAX: usize = 4096;

/// Who speaks some transports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportPlugin {
    /// The transports; at least one, each once.
    pub names: Vec<TransportName>,
    /// Who speaks them.
    pub speaker: Speaker,
}

/// Who speaks a transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Speaker {
    /// A program that we start: its path and its arguments.
    Program(Vec<String>),
    /// A proxy that runs already.
    Proxy(SocksVersion, SocketAddr),
    /// This program itself, which speaks [`OWN`].
    Own,
}

/// The transport that this program speaks itself.
pub const OWN: &str = "webtunnel";

/// Why a text is no such line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PluginError {
    /// The names are none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Too many names, or one twice.
    #[error("at most {NAMES_MAX} transports, each once")]
    Names,
    /// Neither a program nor a proxy stands behind the names.
    #[error("expected NAMES exec PATH [ARGUMENTS], NAMES socks5 ADDRESS:PORT or webtunnel own")]
    Speaker,
    /// The line is longer than [`LINE_LEN_MAX`].
    #[error("at most {LINE_LEN_MAX} bytes")]
    TooLong,
}

impl FromStr for TransportPlugin {
    type Err = PluginError;

    fn from_str(line: &str) -> Result<Self, PluginError> {
        if line.len() > LINE_LEN_MAX {
            return Err(PluginError::TooLong);
        }
        let mut words = line.split_ascii_whitespace();
        let mut names: Vec<TransportName> = Vec::new();
        for name in words.next().ok_or(PluginError::Speaker)?.split(',') {
            let name = name.parse()?;
            if names.len() >= NAMES_MAX || names.contains(&name) {
                return Err(PluginError::Names);
            }
            names.push(name);
        }
        let kind = words.next().ok_or(PluginError::Speaker)?;
        let rest: Vec<String> = words.map(str::to_owned).collect();
        let proxy = |version| {
            let addr = match rest.as_slice() {
                [addr] => addr.parse::<SocketAddr>().ok(),
                _ => None,
            };
            let addr = addr.filter(|addr| addr.port() != 0);
            addr.map(|addr| Speaker::Proxy(version, addr))
        };
        let speaker = match kind {
            "exec" => Some(rest)
                .filter(|rest| !rest.is_empty())
                .map(Speaker::Program),
            "socks4" => proxy(SocksVersion::V4),
            "socks5" => proxy(SocksVersion::V5),
            "own" if rest.is_empty() && names.iter().all(|name| name.as_str() == OWN) => {
                Some(Speaker::Own)
            }
            _ => None,
        };
        Ok(TransportPlugin {
            names,
            speaker: speaker.ok_or(PluginError::Speaker)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn programs_and_proxies_are_read() {
        let line = "obfs3,obfs4 exec /usr/bin/obfs4proxy -enableLogging";
        let read: TransportPlugin = line.parse().unwrap();
        assert_eq!(read.names.len(), 2);
        let words = ["/usr/bin/obfs4proxy", "-enableLogging"].map(str::to_owned);
        assert_eq!(read.speaker, Speaker::Program(words.to_vec()));
        let read: TransportPlugin = "x socks5 127.0.0.1:9".parse().unwrap();
        let addr = "127.0.0.1:9".parse().unwrap();
        assert_eq!(read.speaker, Speaker::Proxy(SocksVersion::V5, addr));
        let read: TransportPlugin = "webtunnel own".parse().unwrap();
        assert_eq!(read.speaker, Speaker::Own);
        for wrong in [
            "",
            "obfs4",
            "obfs4 own",
            "webtunnel own x",
            "obfs4 exec",
            "obfs4 run x",
            "obfs4 socks5 127.0.0.1",
            "obfs4 socks4 127.0.0.1:0",
            "obfs4,obfs4 exec x",
            "4 exec x",
            ", exec x",
        ] {
            assert!(wrong.parse::<TransportPlugin>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_fail(line in "[ -~]{0,120}") {
            if let Ok(read) = line.parse::<TransportPlugin>() {
                prop_assert!(!read.names.is_empty());
            }
        }
    }
}
