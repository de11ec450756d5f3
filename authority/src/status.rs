//! How an authority stands, as types: the one door through which it is seen.
//!
//! [`Authority::status`](crate::Authority::status) takes a snapshot: the round that goes on, who
//! has voted and signed, what was voted for last, the certificates that are known. It can be
//! written as JSON by `serde`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use cepa_crypto::RsaId;
use cepa_netdoc::routerstatus::Flags;
use cepa_netdoc::timestamp;
use serde::Serialize;

/// Clocks of authorities may be so far apart before it is told.
pub(crate) const CLOCK_SKEW_MAX_SECONDS: u64 = 5;

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
    /// What whoever watches over it should know.
    pub health: HealthStatus,
}

/// How well the authorities work together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthStatus {
    /// What somebody should do something about; nothing, if all is well.
    pub problems: Vec<String>,
    /// All authorities of the network, this one included.
    pub authorities: Vec<PeerStatus>,
    /// The last round that had a consensus here.
    pub last_round: Option<RoundOutcome>,
    /// Rounds since the start that had none.
    pub rounds_failed: u64,
    /// Authorities that voted twice, differently, for one interval.
    pub equivocations: Vec<Equivocation>,
}

/// An authority, as this one sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PeerStatus {
    /// Its nickname.
    pub nickname: String,
    /// Its v3 identity.
    pub identity: RsaId,
    /// Whether it is this one.
    pub is_own: bool,
    /// By how many seconds its clock is ahead of ours; none before it was heard of, and of this
    /// one.
    pub clock_ahead_seconds: Option<i64>,
    /// Its votes that came too late since the start.
    pub late_votes: u64,
    /// Whether its vote was in the last round; none before the first.
    pub has_voted: Option<bool>,
    /// Whether it had signed both flavours when the last consensus was published.
    pub has_signed: Option<bool>,
    /// Whole days until its certificate ends; none if it is not known.
    pub certificate_days_left: Option<i64>,
}

/// How a round ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoundOutcome {
    /// When its consensus begins.
    #[serde(serialize_with = "timestamp::serialize")]
    pub valid_after: SystemTime,
    /// Whose votes it is made of.
    pub voted: Vec<RsaId>,
    /// Who had signed both flavours when it was published.
    pub signed: Vec<RsaId>,
    /// On how many relays the votes disagree, by flag.
    pub flags_disputed: BTreeMap<String, usize>,
    /// How many relays only some of the votes list.
    pub relays_in_some_votes: usize,
}

/// Two votes of one authority for one interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Equivocation {
    /// The v3 identity of their author.
    pub identity: RsaId,
    /// The interval.
    #[serde(serialize_with = "timestamp::serialize")]
    pub valid_after: SystemTime,
    /// SHA-1 of the signed parts, in hexadecimal digits.
    pub digests: [String; 2],
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

/// From so many days before its end on a certificate is a problem.
const CERTIFICATE_DAYS_MIN: i64 = 28;

impl HealthStatus {
    /// What somebody should do something about.
    pub(crate) fn find_problems(&self, has_consensus: bool) -> Vec<String> {
        let mut found = Vec::new();
        if !has_consensus {
            found.push("no consensus is in force".to_owned());
        }
        for one in &self.authorities {
            let name = &one.nickname;
            match one.certificate_days_left {
                Some(days) if days < 0 => {
                    found.push(format!("the certificate of {name} has ended"));
                }
                Some(days) if days < CERTIFICATE_DAYS_MIN => {
                    found.push(format!("the certificate of {name} ends in {days} days"));
                }
                _ => {}
            }
            if one.has_voted == Some(false) {
                found.push(format!("{name} did not vote in the last round"));
            } else if one.has_signed == Some(false) {
                found.push(format!("{name} did not sign the last consensus"));
            }
            if let Some(ahead) = one.clock_ahead_seconds
                && ahead.unsigned_abs() > CLOCK_SKEW_MAX_SECONDS
            {
                let side = if ahead > 0 { "ahead of" } else { "behind" };
                let seconds = ahead.unsigned_abs();
                found.push(format!("the clock of {name} is {seconds} s {side} ours"));
            }
        }
        for one in &self.equivocations {
            let of = self
                .authorities
                .iter()
                .find(|known| known.identity == one.identity);
            let name = of.map_or("one that is gone", |known| known.nickname.as_str());
            let when = timestamp::encode(one.valid_after);
            found.push(format!("{name} voted twice for {when}, and not the same"));
        }
        found
    }
}
