//! How a relay stands, as types: the one door through which it is seen.
//!
//! [`Relay::status`](crate::Relay::status) takes a snapshot of the control core: who it is, what it
//! promises, its keys and its bounds. What moves is in [`SwitchCounts`](crate::SwitchCounts), which
//! each worker gives of its own. Both can be written as JSON by `serde`.

use std::net::{SocketAddrV4, SocketAddrV6};
use std::time::SystemTime;

use cepa_crypto::{Ed25519Id, RsaId};
use cepa_netdoc::timestamp;
use serde::Serialize;

use crate::accounting::Wakefulness;

/// The control core of a relay at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RelayStatus {
    /// Its name.
    pub nickname: String,
    /// Its RSA identity.
    pub rsa: RsaId,
    /// Its Ed25519 identity.
    pub ed: Ed25519Id,
    /// Where others reach it.
    pub or_address: SocketAddrV4,
    /// The same over IPv6.
    pub or_address_v6: Option<SocketAddrV6>,
    /// When its descriptor was made; none before the first.
    #[serde(serialize_with = "timestamp::serialize_option")]
    pub published: Option<SystemTime>,
    /// From when on the consensus is valid that it knows.
    #[serde(serialize_with = "timestamp::serialize_option")]
    pub consensus_valid_after: Option<SystemTime>,
    /// For how many seconds it has run.
    pub uptime_secs: u64,
    /// Since when it has its onion key.
    #[serde(serialize_with = "timestamp::serialize")]
    pub onion_key_since: SystemTime,
    /// When that gives way to another.
    #[serde(serialize_with = "timestamp::serialize")]
    pub onion_key_until: SystemTime,
    /// Until when its signing key is good.
    #[serde(serialize_with = "timestamp::serialize")]
    pub signing_key_until: SystemTime,
    /// Whether streams leave here.
    pub is_exit: bool,
    /// The rules by which they do, in their order.
    pub exit_policy: Vec<String>,
    /// Its bounds.
    pub limits: LimitsStatus,
    /// Whether it works.
    pub wakefulness: Wakefulness,
    /// What it has used of what it may carry, if there is a bound.
    pub accounting: Option<AccountingStatus>,
}

/// The bounds of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LimitsStatus {
    /// Bytes a second that its descriptor promises on average.
    pub bandwidth_rate: u32,
    /// Bytes that it promises at once.
    pub bandwidth_burst: u32,
    /// Bytes a second that it has seen itself carry.
    pub bandwidth_observed: u32,
    /// Bytes that it holds.
    pub memory_bytes: usize,
    /// Bytes that it may hold.
    pub memory_bytes_max: usize,
}

/// What a relay has used of what it may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AccountingStatus {
    /// Bytes read in this interval.
    pub read_bytes: u64,
    /// Bytes written in this interval.
    pub written_bytes: u64,
    /// Bytes that it may use in one.
    pub max_bytes: u64,
    /// When the next one begins for it.
    #[serde(serialize_with = "timestamp::serialize")]
    pub wakes: SystemTime,
}
