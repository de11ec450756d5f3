//! What a client is told before it starts, beside the authorities: its settings.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use cepa_crypto::{Ed25519Id, RsaId};
use cepa_pt::BridgeLine;

use crate::overrides::Overrides;
use crate::select::rules::Rules;
use crate::select::vanguards::VanguardMode;

/// A relay that serves the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// The RSA identity of the directory.
    pub rsa: RsaId,
    /// Its Ed25519 identity, where it is known.
    pub ed: Option<Ed25519Id>,
    /// The address of the directory's OR port.
    pub or: SocketAddr,
}

/// How much padding an operator wants: of channels that carry circuits of applications
/// (padding-spec 2.5), and by the machines that hide a visitor's circuits (padding-spec 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PaddingLevel {
    /// As the consensus says: channels by both sides, circuits where relays know the machines.
    #[default]
    Full,
    /// Channels by us alone, and more seldom (`ReducedConnectionPadding`); circuits only by
    /// machines that cost little, of which there are none yet (`ReducedCircuitPadding`).
    Reduced,
    /// Not at all (`ConnectionPadding 0`, `CircuitPadding 0`).
    Off,
}

/// A word that names no level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not full, reduced or off")]
pub struct PaddingLevelError;

impl FromStr for PaddingLevel {
    type Err = PaddingLevelError;

    fn from_str(word: &str) -> Result<Self, PaddingLevelError> {
        match word {
            "full" => Ok(PaddingLevel::Full),
            "reduced" => Ok(PaddingLevel::Reduced),
            "off" => Ok(PaddingLevel::Off),
            _ => Err(PaddingLevelError),
        }
    }
}

/// The settings of a client.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClientConfig {
    /// Relays to fetch the first documents from; asked before the authorities.
    pub fallbacks: Vec<Directory>,
    /// Bridges: the only relays that are connected to, if there are any.
    pub bridges: Vec<BridgeLine>,
    /// The operator's rules on paths.
    pub rules: Rules,
    /// Whether relays of one /16 may share a path: only in test networks whose relays have no
    /// addresses of their own (`EnforceDistinctSubnets 0`).
    pub subnets_shared: bool,
    /// How much padding channels are to have.
    pub padding: PaddingLevel,
    /// Which vanguards circuits for onion services have; none: as the network wants.
    pub vanguards: Option<VanguardMode>,
    /// How much padding circuits of onion services are to have.
    pub circuit_padding: PaddingLevel,
    /// Whether SOCKS 5 replies say what is wrong with an onion service (`ExtendedErrors`); else
    /// such a host is unreachable.
    pub onion_errors: bool,
    /// Whether connections to internal addresses, and to names of this machine, are refused
    /// (`ClientRejectInternalAddresses`); none: but in a test network.
    pub reject_internal: Option<bool>,
    /// Whether internal addresses that an exit tells are believed no more than if it had failed
    /// (`ClientDNSRejectInternalAddresses`); none: but in a test network.
    pub dns_reject_internal: Option<bool>,
    /// How long a circuit takes new streams after its first (`MaxCircuitDirtiness`); none: ten
    /// minutes.
    pub circuit_dirtiness_max: Option<Duration>,
    /// Whether the client begins without touching the network (`DisableNetwork`).
    pub is_off: bool,
    /// What is wanted otherwise than the network has it.
    pub overrides: Overrides,
}
