//! The snapshot of an authority ([`crate::status`]).

use std::sync::Arc;
use std::time::SystemTime;

use cepa_crypto::RsaId;
use cepa_dir::DirAuthority;
use cepa_netdoc::authcert::AuthCert;
use cepa_netdoc::consensus::ConsensusText;
use cepa_netdoc::vote::{VoteRouter, VoteText};
use cepa_wire::Now;

use super::Authority;
use crate::flags::{self, Eyes};
use crate::health::days_left;
use crate::round::Round;
use crate::status::{
    AuthorityStatus, CertificateStatus, ConsensusStatus, HealthStatus, PeerStatus, RoundState,
    RoundStatus, VoteStatus, VotedRelay,
};
use crate::why::{OwnView, Why, why};

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
            round: self.round.as_ref().map(|round| round_status(self, round)),
            next_vote: self.next.vote,
            vote: self.own_vote.as_ref().map(vote),
            health: health_status(self, now.wall),
        }
    }

    /// What the votes of the consensus in force say of a relay, and what is known of it here.
    #[must_use]
    pub fn why(&self, relay: &RsaId, now: Now) -> Why {
        let votes: Vec<_> = self
            .decided_votes
            .iter()
            .map(|text| Arc::clone(text.vote()))
            .collect();
        let start = votes.first().map(|vote| vote.lifetime.valid_after);
        let consensus = self.consensus.as_ref().map(|text| text.consensus());
        let of_votes = consensus.filter(|one| Some(one.lifetime.valid_after) == start);
        let authorities = self.config.authorities.len();
        let own = self.relays.own_view(relay, &self.config, now.wall);
        let eyes = Eyes::of(&self.config, &self.relays, &self.measurements, now.wall);
        let sybils = || flags::sybils(&eyes);
        let own = own.map(|own| OwnView {
            is_sybil: sybils().contains(relay),
            ..own
        });
        Why {
            own,
            ..why(relay, &votes, authorities, of_votes.map(|one| &**one))
        }
    }

    /// Warns of certificates that end soon.
    pub(super) fn warn_of_certificates(&mut self, now: SystemTime) {
        let own = self.keys.cert.identity;
        let ends = self.certs.values().map(|cert| {
            let nickname = self.config.nickname(&cert.identity);
            (nickname, cert.identity == own, cert.expires)
        });
        self.health.warn_of_certificates(ends, now);
    }
}

fn health_status(authority: &Authority, now: SystemTime) -> HealthStatus {
    let last = authority.health.last.as_ref();
    let peer = |one: &DirAuthority| PeerStatus {
        nickname: one.nickname.clone(),
        identity: one.v3_identity,
        is_own: one.v3_identity == authority.keys.cert.identity,
        clock_ahead_seconds: authority.health.clocks_ahead.get(&one.v3_identity).copied(),
        late_votes: authority
            .health
            .late
            .get(&one.v3_identity)
            .copied()
            .unwrap_or(0),
        has_voted: last.map(|last| last.voted.contains(&one.v3_identity)),
        has_signed: last.map(|last| last.signed.contains(&one.v3_identity)),
        certificate_days_left: (authority.certs.get(&one.v3_identity))
            .map(|cert| days_left(cert.expires, now)),
    };
    let mut health = HealthStatus {
        problems: Vec::new(),
        authorities: authority.config.authorities.iter().map(peer).collect(),
        last_round: authority.health.last.clone(),
        rounds_failed: authority.health.rounds_failed,
        equivocations: authority.equivocations.status(),
    };
    health.problems = health.find_problems(authority.has_live_consensus(now));
    health
}

fn round_status(authority: &Authority, round: &Round) -> RoundStatus {
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
        missing: round.missing_votes(&authority.config),
        signed: (authority.config.v3_identities().into_iter())
            .filter(has_signed)
            .collect(),
        publish: round.schedule.publish,
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
