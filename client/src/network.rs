//! What a client is told before it starts, beside the authorities: its settings.

use std::net::SocketAddr;

use cepa_crypto::{Ed25519Id, RsaId};

use crate::rules::Rules;
use crate::vanguards::VanguardMode;

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

/// How channels that carry circuits of applications are padded (padding-spec 2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChannelPadding {
    /// By both sides, as the consensus says.
    #[default]
    Full,
    /// By us alone, and more seldom (`ReducedConnectionPadding`).
    Reduced,
    /// Not at all (`ConnectionPadding 0`).
    Off,
}

/// Whether padding machines hide a visitor's circuits (padding-spec 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CircuitPadding {
    /// Where the consensus and the relays allow.
    #[default]
    Full,
    /// Only by machines that cost little, of which there are none yet (`ReducedCircuitPadding`).
    Reduced,
    /// Not at all (`CircuitPadding 0`).
    Off,
}

/// The settings of a client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientConfig {
    /// Relays to fetch the first documents from; asked before the authorities.
    pub fallbacks: Vec<Directory>,
    /// The operator's rules on paths.
    pub rules: Rules,
    /// Whether relays of one /16 may share a path: only in test networks whose relays have no
    /// addresses of their own (`EnforceDistinctSubnets 0`).
    pub subnets_shared: bool,
    /// How channels are padded.
    pub padding: ChannelPadding,
    /// Which vanguards circuits for onion services have; none: as the network wants.
    pub vanguards: Option<VanguardMode>,
    /// How circuits are padded.
    pub circuit_padding: CircuitPadding,
    /// Whether SOCKS 5 replies say what is wrong with an onion service (`ExtendedErrors`); else
    /// such a host is unreachable.
    pub onion_errors: bool,
}
