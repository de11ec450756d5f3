//! How an authority stands, as types: the one door through which it is seen.
//!
//! [`Authority::status`](crate::Authority::status) takes a snapshot: the round that goes on, who
//! has voted and signed, what was voted for last, the certificates that are known. It can be
//! written as JSON by `serde`.

use std::time::SystemTime;

use cepa_crypto::RsaId;
use cepa_netdoc::routerstatus::Flags;
use cepa_netdoc::timestamp;
use serde::Serialize;

/// All of an authority at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuthorityStatus {
    /// Its v3 identity.
    pub identity: RsaId,
    /// The certificates that it knows, its own among them, by identity.
    pub certificates: Vec<CertificateStatus>,
    /// Relays that have published here.
    pub relays: usize,
    /// Of them, those that run.
    pub running: usize,
    /// The consensus that it made or knows of; none before the first.
    pub consensus: Option<ConsensusStatus>,
    /// The round that goes on.
    pub round: Option<RoundStatus>,
    /// When it votes next.
    #[serde(serialize_with = "timestamp::serialize")]
    pub next_vote: SystemTime,
    /// What it voted for last.
    pub vote: Option<VoteStatus>,
}

/// A certificate of an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CertificateStatus {
    /// Whose it is.
    pub identity: RsaId,
    /// From when on it is valid.
    #[serde(serialize_with = "timestamp::serialize")]
    pub published: SystemTime,
    /// Until when.
    #[serde(serialize_with = "timestamp::serialize")]
    pub expires: SystemTime,
}

/// A consensus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ConsensusStatus {
    /// From when on it is valid.
    #[serde(serialize_with = "timestamp::serialize")]
    pub valid_after: SystemTime,
    /// Until when.
    #[serde(serialize_with = "timestamp::serialize")]
    pub valid_until: SystemTime,
    /// Relays that it lists.
    pub listed: usize,
    /// How many have signed it.
    pub signatures: usize,
}

/// How far a round is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RoundState {
    /// Votes come in.
    Voting,
    /// The consensus is computed, and signatures come in.
    Signing,
    /// The votes make no consensus: nothing more comes of this round.
    Void,
}

/// A round of votes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoundStatus {
    /// When its consensus begins.
    #[serde(serialize_with = "timestamp::serialize")]
    pub valid_after: SystemTime,
    /// How far it is.
    pub state: RoundState,
    /// Who has voted.
    pub voted: Vec<RsaId>,
    /// Whose vote is missing.
    pub missing: Vec<RsaId>,
    /// Who has signed.
    pub signed: Vec<RsaId>,
    /// When the consensus is published.
    #[serde(serialize_with = "timestamp::serialize")]
    pub publish: SystemTime,
}

/// A vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VoteStatus {
    /// When the consensus begins that it is for.
    #[serde(serialize_with = "timestamp::serialize")]
    pub valid_after: SystemTime,
    /// The thresholds of its flags, as the vote has them.
    pub thresholds: Option<String>,
    /// The relays, with their flags.
    pub relays: Vec<VotedRelay>,
}

/// A relay in a vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VotedRelay {
    /// Its RSA identity.
    pub rsa: RsaId,
    /// Its nickname.
    pub nickname: String,
    /// Its flags.
    pub flags: Flags,
}
