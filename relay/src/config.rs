//! What the operator of a relay decides.

use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use cepa_crypto::ed25519::ExpandedKeypair;
use cepa_limits::DosOptions;
use cepa_netdoc::family::Family;
use cepa_netdoc::protover::Protocols;
use tracing::warn;

use crate::accounting::AccountingConfig;
use crate::exit_policy::{ExitOptions, ExitPolicy};
use crate::keys::KeyTimes;
use crate::switch::Limits;

/// A relay's configuration. Every field but the limits shows in its descriptor, or in what it does
/// for others.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// 1 to 19 letters and digits.
    pub nickname: String,
    /// How the relay's operator can be reached.
    pub contact: Option<String>,
    /// The program's version, for the platform line: `0.1.0`.
    pub version: String,
    /// The IPv4 address and port at which others reach it; 0.0.0.0 where that is not known yet.
    pub or_address: SocketAddrV4,
    /// The IPv6 address and port at which others reach it.
    pub or_address_v6: Option<SocketAddrV6>,
    /// The DirPort; 0 for all but authorities.
    pub dir_port: u16,
    /// What the operator says of the streams that leave here.
    pub exit: ExitOptions,
    /// The relays of the same operator.
    pub family: Family,
    /// The keys of the families that it is in (proposal 321).
    pub family_keys: Vec<Arc<ExpandedKeypair>>,
    /// What the descriptor says of the bandwidth on average, bytes a second: the least of
    /// `BandwidthRate`, `RelayBandwidthRate` and `MaxAdvertisedBandwidth`.
    pub bandwidth_rate: u32,
    /// The lesser of `BandwidthBurst` and `RelayBandwidthBurst`, bytes.
    pub bandwidth_burst: u32,
    /// How much it may carry in an interval, if there is a bound.
    pub accounting: Option<AccountingConfig>,
    /// What the descriptor says at least of the bandwidth observed, bytes a second: a network that
    /// has just begun has seen nothing yet, and would weigh its relays by accident.
    pub bandwidth_observed_min: u32,
    /// Whether it caches the directory and serves it.
    pub serves_directory: bool,
    /// Whether it tells the authorities of itself.
    pub publishes: bool,
    /// How a bridge wants to be handed out (`bridge-distribution-request`); none: it is no bridge.
    pub bridge_distribution: Option<String>,
    /// Whether circuits may be extended to internal addresses (`ExtendAllowPrivateAddresses`).
    pub extend_allow_private: bool,
    /// The subprotocols that it promises: [`PROTOCOLS`](crate::PROTOCOLS), or fewer in tests.
    pub protocols: Protocols,
    /// How long a day is for keys that are rotated; tests have shorter ones.
    pub key_day: Duration,
    /// How long keys and certificates last that it makes for itself.
    pub key_times: KeyTimes,
    /// What the operator decides in place of the network.
    pub choices: Choices,
    /// What the operator decides of `tor`'s defences.
    pub dos: DosOptions,
    /// Bounds of each worker's switch.
    pub limits: Limits,
    /// `MaxMemInQueues`, bytes: past that, what has waited longest is thrown away, and before that
    /// no new circuits and links are taken.
    pub max_memory: usize,
}

/// What the operator of a relay decides in place of the network; nothing by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Choices {
    /// Whether streams are refused that come straight from a relay which no consensus has
    /// (`RefuseUnknownExits`).
    pub refuse_unknown_exits: Option<bool>,
    /// How long an onionskin may wait before others are refused (`MaxOnionQueueDelay`).
    pub onion_delay: Option<Duration>,
}

impl RelayConfig {
    /// Whether it is a bridge: in no consensus, and a client to other relays.
    #[must_use]
    pub fn is_bridge(&self) -> bool {
        self.bridge_distribution.is_some()
    }

    /// What the descriptor says and the switches do about streams that want to leave.
    #[must_use]
    pub fn exit_policy(&self) -> Arc<ExitPolicy> {
        let v4 = IpAddr::V4(*self.or_address.ip());
        let v6 = self.or_address_v6.map(|address| IpAddr::V6(*address.ip()));
        let known = std::iter::once(v4).filter(|ip| !ip.is_unspecified());
        let policy = ExitPolicy::new(&self.exit, known.chain(v6));
        Arc::new(policy.unwrap_or_else(|error| {
            warn!(%error, "this exit policy fits no descriptor: the relay is no exit");
            ExitPolicy::none()
        }))
    }
}
