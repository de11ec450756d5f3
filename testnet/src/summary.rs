//! `testnet.json`: what a running network is, for scripts and tests.
//!
//! `{"socks": ["IP:PORT"], "onions": ["ADDRESS.onion"], "network": FILE, "nodes": [...],
//! "base_port": PORT}` with the authorities first; the network has the 200 ports from
//! PORT on. Onion services are listed once they can be visited. What a node has not (a client has
//! no identity, most relays no directory port) is null.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A running network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The SOCKS ports of its clients.
    pub socks: Vec<SocketAddr>,
    /// The addresses of its onion services that can be visited.
    #[serde(default)]
    pub onions: Vec<String>,
    /// Its `network.toml`.
    pub network: PathBuf,
    /// Its nodes.
    pub nodes: Vec<NodeSummary>,
    /// The first of its ports.
    pub base_port: u16,
}

/// One node of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSummary {
    /// `authority`, `relay`, `exit`, `bridge`, `client` or `onion`.
    pub role: String,
    /// Whose program it runs: `cepa` or `tor`.
    pub program: String,
    /// Its nickname.
    pub nickname: String,
    /// Its RSA identity: 40 hexadecimal digits.
    pub rsa: Option<String>,
    /// Its Ed25519 identity: unpadded base64.
    pub ed25519: Option<String>,
    /// Its OR port.
    pub or: Option<SocketAddr>,
    /// Its directory port.
    pub dir: Option<SocketAddr>,
    /// Its process; null before it is started.
    pub pid: Option<u32>,
    /// Its log file.
    pub log: PathBuf,
    /// Its configuration file.
    pub config: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_json_that_is_promised() {
        let node = NodeSummary {
            role: "authority".into(),
            program: "cepa".into(),
            nickname: "auth1".into(),
            rsa: Some("AB".repeat(20)),
            ed25519: Some("x".repeat(43)),
            or: Some("127.1.0.1:5000".parse().unwrap()),
            dir: None,
            pid: Some(7),
            log: "auth1/log".into(),
            config: "auth1/cepa.toml".into(),
        };
        let summary = Summary {
            socks: vec!["127.0.0.1:5050".parse().unwrap()],
            onions: vec!["abc.onion".into()],
            network: "network.toml".into(),
            nodes: vec![node],
            base_port: 5000,
        };
        let text = serde_json::to_string(&summary).unwrap();
        assert!(text.starts_with(
            "{\"socks\":[\"127.0.0.1:5050\"],\"onions\":[\"abc.onion\"],\"network\":\"network.toml\",\"n"
        ));
        assert!(text.contains("\"or\":\"127.1.0.1:5000\",\"dir\":null,\"pid\":7,"));
        assert_eq!(serde_json::from_str::<Summary>(&text).unwrap(), summary);
    }
}
