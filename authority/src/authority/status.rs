//! The snapshot of an authority ([`crate::status`]).

use cepa_netdoc::authcert::AuthCert;
use cepa_netdoc::consensus::ConsensusText;
use cepa_netdoc::vote::{VoteRouter, VoteText};
use cepa_wire::Now;

use super::Authority;
use crate::round::Round;
use crate::status::{
    AuthorityStatus, CertificateStatus, ConsensusStatus, RoundState, RoundStatus, VoteStatus,
    VotedRelay,
};

impl Authority {
    /// How it stands.
    #[must_use]
    pub fn status(&self, now: Now) -> AuthorityStatus {
        let certificate = |cert: &AuthCert| CertificateStatus {
            identity: cert.identity,
            published: cert.published,
            expires: cert.expires,
        };
        AuthorityStatus {
            identity: self.keys.cert.identity,
            certificates: self.certs.values().map(certificate).collect(),
            relays: self.relays.len(),
            running: self.relays.running(&self.config, now.wall),
            consensus: self.consensus.as_ref().map(consensus),
            round: self.round.as_ref().map(|round| self.round_status(round)),
            next_vote: self.next.vote,
            vote: self.own_vote.as_ref().map(vote),
        }
    }

    fn round_status(&self, round: &Round) -> RoundStatus {
        let signing = round.signing.as_ref();
        let has_signed = |id: &_| signing.is_some_and(|signing| signing.has_signed(id));
        RoundStatus {
            valid_after: round.schedule.valid_after,
            state: match (round.is_void, signing) {
                (true, _) => RoundState::Void,
                (false, None) => RoundState::Voting,
                (false, Some(_)) => RoundState::Signing,
            },
            voted: round.votes.keys().copied().collect(),
            missing: round.missing_votes(&self.config),
            signed: (self.config.v3_identities().into_iter())
                .filter(has_signed)
                .collect(),
            publish: round.schedule.publish,
        }
    }
}

fn consensus(text: &ConsensusText) -> ConsensusStatus {
    let consensus = text.consensus();
    ConsensusStatus {
        valid_after: consensus.lifetime.valid_after,
        valid_until: consensus.lifetime.valid_until,
        listed: consensus.routers.len(),
        signatures: consensus.signatures.len(),
    }
}

fn vote(text: &VoteText) -> VoteStatus {
    let vote = text.vote();
    let relay = |one: &VoteRouter| VotedRelay {
        rsa: one.status.rsa_id,
        nickname: one.status.nickname.clone(),
        flags: one.status.flags,
    };
    VoteStatus {
        valid_after: vote.lifetime.valid_after,
        thresholds: vote.flag_thresholds.clone(),
        relays: vote.routers.iter().map(relay).collect(),
    }
}
