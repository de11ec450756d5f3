//! What a switch is told: who the relay is, what it allows, how much it takes on.
//!
//! Shared by all workers, and replaced as a whole when the operator's configuration changes, or the
//! consensus's parameters.

use std::sync::Arc;
use std::time::Duration;

use cepa_circuit::{CongestionParams, PaddingParams};
use cepa_crypto::{Ed25519Id, RsaId};
use cepa_limits::{DosParams as StrangerParams, Memory};
use cepa_link::channel::PaddingRange;
use cepa_netdoc::params::Params;
use cepa_wire::establish_intro::DosParams;

use crate::exit_policy::ExitPolicy;

/// Bounds of one switch. They are ours, against exhaustion; no section has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Circuits that one channel's peer may have made.
    pub circuits_per_channel_max: usize,
    /// Circuits that begin at this switch's channels, over all of them.
    pub circuits_max: usize,
    /// Streams of one circuit, look-ups included.
    pub streams_per_circuit_max: usize,
    /// Streams of one circuit that wait for a connection or an answer of the DNS.
    pub connecting_per_circuit_max: u16,
    /// Streams of all circuits of this switch that wait for a connection or an answer of the DNS;
    /// past half of it, a circuit has [`CONNECTING_SHARE`] at most.
    pub connecting_max: usize,
    /// Onionskins that wait for their answer.
    pub onionskins: OnionskinLimits,
    /// Introduction points in this switch's table, for whichever workers' circuits.
    pub intro_points_max: usize,
    /// Rendezvous cookies in this switch's table, for whichever workers' circuits.
    pub cookies_max: usize,
    /// How long a channel without circuits stays open.
    pub channel_idle: Duration,
}

/// Streams of one circuit that may wait for a connection when many of others do: a page's.
pub const CONNECTING_SHARE: u16 = 8;

impl Default for Limits {
    fn default() -> Self {
        Limits {
            circuits_per_channel_max: 16_384,
            circuits_max: 1 << 20,
            streams_per_circuit_max: 1024,
            connecting_per_circuit_max: 256,
            connecting_max: 4096,
            onionskins: OnionskinLimits::default(),
            intro_points_max: 1 << 16,
            cookies_max: 1 << 18,
            channel_idle: Duration::from_secs(180),
        }
    }
}

/// How many onionskins are taken on, and how long they may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnionskinLimits {
    /// How many may wait, over all links.
    pub waiting_max: usize,
    /// How many are out to be answered at once.
    pub out_max: usize,
    /// How many are answered at the same time.
    pub threads: u32,
    /// `MaxOnionQueueDelay`: who would wait longer is refused.
    pub delay_max: Duration,
}

impl Default for OnionskinLimits {
    fn default() -> Self {
        OnionskinLimits {
            waiting_max: 4096,
            out_max: 8,
            threads: 1,
            delay_max: Duration::from_millis(1750),
        }
    }
}

/// What the consensus says of introduction and rendezvous points (param-spec).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PointParams {
    /// `HiddenServiceEnableIntroDoSDefense` with its rate and burst: for services that ask for
    /// nothing of their own.
    pub intro_dos: Option<DosParams>,
}

impl PointParams {
    /// Reads the consensus's parameters.
    #[must_use]
    pub fn from_consensus(params: &Params) -> Self {
        let value = |name, default| params.value(name, default, 0, i32::MAX).unsigned_abs();
        let is_limited = value("HiddenServiceEnableIntroDoSDefense", 0) == 1;
        PointParams {
            intro_dos: is_limited.then(|| DosParams {
                rate_per_s: value("HiddenServiceEnableIntroDoSRatePerSec", 25).into(),
                burst: value("HiddenServiceEnableIntroDoSBurstPerSec", 200).into(),
            }),
        }
    }
}

/// Who the relay is and what it allows.
#[derive(Debug, Clone)]
pub struct SwitchConfig {
    /// Our RSA identity: no circuit is extended to ourselves.
    pub rsa: RsaId,
    /// Our Ed25519 identity.
    pub ed: Ed25519Id,
    /// Where streams may leave to, as the descriptor says.
    pub exit_policy: Arc<ExitPolicy>,
    /// Whether BEGIN_DIR is answered.
    pub serves_directory: bool,
    /// Whether circuits may be extended to internal addresses (`ExtendAllowPrivateAddresses`).
    pub extend_allow_private: bool,
    /// Whether circuits may be extended over IPv6: whether we have an ORPort there (proposal 311).
    pub extend_ipv6: bool,
    /// What the consensus says of introduction and rendezvous points.
    pub points: PointParams,
    /// The consensus's `cc_…`: congestion control is granted with these parameters, or not at all.
    pub congestion: Arc<CongestionParams>,
    /// The consensus's `sendme_accept_min_version`: what acknowledges cells without proof that they
    /// were seen is refused from 1 on.
    pub sendme_accept_min: u8,
    /// The consensus's `nf_ito_low` and `nf_ito_high`, for channel padding.
    pub padding: PaddingRange,
    /// The consensus's `circpad_…`, for circuit padding.
    pub circuit_padding: PaddingParams,
    /// `DoS…`: what is refused to who asks for too much.
    pub dos: StrangerParams,
    /// Bounds.
    pub limits: Limits,
    /// What the process holds, all workers together, and may hold. A switch keeps the first one.
    pub memory: Arc<Memory>,
}
