//! How a hosted onion service stands, for its operator.

use std::collections::BTreeMap;
use std::time::SystemTime;

use cepa_crypto::RsaId;
use cepa_crypto::ed25519::PublicKey;
use cepa_netdoc::timestamp;
use serde::Serialize;

use crate::names::ServiceId;

/// How a hosted service stands, for its operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceStatus {
    /// The service that this is about.
    #[serde(skip)]
    pub service: ServiceId,
    /// Its identity key; the address follows from it.
    #[serde(skip)]
    pub identity: PublicKey,
    /// Whether it has been published ([`crate::Command::OnionPublished`]).
    pub is_published: bool,
    /// Its descriptors, ascending by time period.
    pub descriptors: Vec<DescriptorStatus>,
    /// Its introduction points.
    pub intro_points: Vec<IntroPointStatus>,
    /// What was counted since it was added.
    pub counts: Counts,
}

/// How the descriptor of one period stands, for its operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DescriptorStatus {
    /// The number of its time period.
    pub period: u64,
    /// The length of its time period, in minutes.
    pub period_minutes: u64,
    /// The revision counter that was given out last; none before the first.
    pub revision: Option<u64>,
    /// When the descriptor is made anew.
    #[serde(serialize_with = "timestamp::serialize_option")]
    pub next_upload: Option<SystemTime>,
    /// The directories responsible for it, ascending by identity.
    pub hsdirs: Vec<HsDirStatus>,
}

/// What one directory has of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HsDirStatus {
    /// The relay that is the directory.
    pub relay: RsaId,
    /// The revision that it took last.
    pub revision: Option<u64>,
    /// When.
    #[serde(serialize_with = "timestamp::serialize_option")]
    pub since: Option<SystemTime>,
    /// Whether an upload to it is under way.
    pub is_uploading: bool,
    /// Uploads that failed since it took one.
    pub failures: u32,
}

/// How an introduction point stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IntroPointState {
    /// Its circuit is being built, or it has not answered yet.
    Opening,
    /// The point stands: it passes introductions on.
    Standing,
    /// Another takes its place; it stands for those who have the old descriptor.
    Retiring,
}

/// One introduction point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct IntroPointStatus {
    /// The relay that is the point.
    pub relay: RsaId,
    /// How far the point is between being chosen and being given up.
    pub state: IntroPointState,
    /// Since when the point stands.
    #[serde(serialize_with = "timestamp::serialize_option")]
    pub since: Option<SystemTime>,
    /// Introductions that came over it.
    pub introductions: u64,
}

/// Why an INTRODUCE2 was dropped. Its order is that of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IntroDrop {
    /// Too many came in a second, or the point has taken all that it may.
    Rate,
    /// The message cannot be read.
    Malformed,
    /// The introduction is for another authentication key.
    AuthKey,
    /// The encrypted section was seen before.
    Replay,
    /// The message authentication fails, or the client's key is none.
    Mac,
    /// The plaintext does not parse.
    Plaintext,
    /// The rendezvous cookie was seen before.
    CookieReplay,
    /// The rendezvous point is described so that it cannot be reached, or that it must not be.
    LinkSpecifiers,
    /// The introduction asks for congestion control, which the descriptor does not offer.
    CongestionControl,
    /// The introduction brings a proof of work, which was not asked for.
    ProofOfWork,
    /// The service has as many rendezvous circuits as it may.
    Circuits,
}

impl IntroDrop {
    /// The value of the label `reason` of `tor_hs_intro_rejected_intro_req_count`.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            IntroDrop::AuthKey => "bad_auth_key",
            IntroDrop::Mac => "subcredential",
            IntroDrop::Replay | IntroDrop::CookieReplay => "replay",
            IntroDrop::Malformed
            | IntroDrop::Plaintext
            | IntroDrop::LinkSpecifiers
            | IntroDrop::CongestionControl
            | IntroDrop::ProofOfWork => "invalid_introduce2",
            IntroDrop::Rate | IntroDrop::Circuits => "too_many",
        }
    }
}

/// What is counted of a service; the names are those of the metrics `tor_hs_*`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// INTRODUCE2 messages that came: `tor_hs_intro_num_total`.
    pub intro_num_total: u64,
    /// Introduction circuits that stand: `tor_hs_intro_established_count`.
    pub intro_established_count: u64,
    /// `tor_hs_intro_rejected_intro_req_count`; [`IntroDrop::reason`] is the label's value.
    pub intro_rejected_intro_req_count: BTreeMap<IntroDrop, u64>,
    /// Rendezvous that were begun: `tor_hs_rdv_num_total`.
    pub rdv_num_total: u64,
    /// Rendezvous circuits that stand: `tor_hs_rdv_established_count`.
    pub rdv_established_count: u64,
    /// Rendezvous whose circuit could not be built: `tor_hs_rdv_error_count`, with the label
    /// `reason="rp_conn_failure"`.
    pub rdv_error_count: u64,
}
