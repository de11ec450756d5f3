//! What a client is told before it starts, beside the authorities: its settings (path-spec 2.2.2
//! for the pins).

use std::net::SocketAddr;

use cepa_crypto::{Ed25519Id, RsaId};
use cepa_dir::Relay;

/// A relay that serves the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Its RSA identity.
    pub rsa: RsaId,
    /// Its Ed25519 identity, where it is known.
    pub ed: Option<Ed25519Id>,
    /// Its OR port.
    pub or: SocketAddr,
}

/// A relay as users name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayName {
    /// By RSA identity.
    Rsa(RsaId),
    /// By nickname, in any case of letters. Nicknames are not unique.
    Nickname(String),
}

impl RelayName {
    fn names(&self, relay: &Relay) -> bool {
        match self {
            RelayName::Rsa(id) => *id == relay.rsa_id,
            RelayName::Nickname(name) => name.eq_ignore_ascii_case(&relay.nickname),
        }
    }
}

/// Relays that each path must have; an empty list pins nothing. For tests: pinned paths are less
/// anonymous. A pinned entry needs no Guard flag.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pins {
    /// First hops.
    pub entry: Vec<RelayName>,
    /// Second hops.
    pub middle: Vec<RelayName>,
    /// Last hops.
    pub exit: Vec<RelayName>,
}

impl Pins {
    /// Whether a list of pins lets a relay be.
    #[must_use]
    pub fn allow(pins: &[RelayName], relay: &Relay) -> bool {
        pins.is_empty() || pins.iter().any(|name| name.names(relay))
    }
}

/// The settings of a client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientConfig {
    /// Relays to fetch the first documents from; asked before the authorities.
    pub fallbacks: Vec<Directory>,
    /// Relays that each path must have.
    pub pins: Pins,
    /// Whether relays of one /16 may share a path: only in test networks whose relays have no
    /// addresses of their own (`EnforceDistinctSubnets 0`).
    pub subnets_shared: bool,
    /// Whether SOCKS 5 replies say what is wrong with an onion service (`ExtendedErrors`); else
    /// such a host is unreachable.
    pub onion_errors: bool,
}
