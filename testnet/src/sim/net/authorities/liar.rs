//! Authorities that lie. Each has a core of production, of which it alters what goes out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cepa_crypto::{Rng, rsa};
use cepa_netdoc::consensus::{
    ConsensusText, DigestAlgorithm, DirectorySignature, SharedRandCommit, SharedRandValue,
};
use cepa_netdoc::detached::DetachedSignatures;
use cepa_netdoc::vote::{Vote, VoteText};

/// Documents that a liar remembers, to send them again.
const SEEN_MAX: usize = 40;

/// What a liar does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lie {
    /// Sends some peers another vote than the others.
    Equivocates,
    /// Sends documents of others and of its own again, hours later.
    Replays,
    /// Sends its vote at the last moment, or a moment too late.
    LastMoment,
    /// Changes its commitment each hour, makes up those of others, and lies about the values.
    ForgesCommits,
    /// Signs whatever consensus anybody signs.
    SignsTwice,
    /// Serves a consensus that it alone has signed.
    ForgesConsensus,
}

impl Lie {
    pub(super) const ALL: [Lie; 6] = [
        Lie::Equivocates,
        Lie::Replays,
        Lie::LastMoment,
        Lie::ForgesCommits,
        Lie::SignsTwice,
        Lie::ForgesConsensus,
    ];

    /// Whether it may keep honest authorities from agreeing on the votes. The protocol has nothing
    /// against that: each of them computes of the votes that it has (dir-spec 3.8).
    pub(super) fn divides(self) -> bool {
        matches!(self, Lie::Equivocates | Lie::LastMoment)
    }
}

/// A document that was posted.
#[derive(Clone)]
pub(super) enum Posted {
    Vote(Arc<str>),
    Signatures(Arc<str>),
}

/// A liar's state.
pub(super) struct Liar {
    pub(super) lies: BTreeSet<Lie>,
    key: rsa::Keypair,
    seen: Vec<Posted>,
    signed: BTreeSet<[u8; 20]>,
    /// The vote of the core, what it is made into for all, and for some.
    altered: Option<(Arc<str>, [VoteText; 2])>,
    rng: Rng,
}

impl Liar {
    pub(super) fn new(lies: BTreeSet<Lie>, key: rsa::Keypair, rng: Rng) -> Self {
        Liar {
            lies,
            key,
            seen: Vec::new(),
            signed: BTreeSet::new(),
            altered: None,
            rng,
        }
    }

    /// What it does, for reports.
    pub(super) fn lies(&self) -> Vec<Lie> {
        self.lies.iter().copied().collect()
    }

    pub(super) fn does(&self, lie: Lie) -> bool {
        self.lies.contains(&lie)
    }

    /// The vote that goes out for the core's: to all, or to this peer.
    pub(super) fn vote(&mut self, made: &Arc<str>, is_for_some: bool) -> Option<VoteText> {
        let is_known = |held: &(Arc<str>, [VoteText; 2])| held.0 == *made;
        if !self.altered.as_ref().is_some_and(is_known) {
            let read = VoteText::parse(Arc::clone(made)).ok()?;
            let mut vote = Vote::clone(read.vote());
            if self.does(Lie::ForgesCommits) {
                self.forge_commits(&mut vote);
            }
            let mut other = vote.clone();
            other.contact = "another".to_owned();
            other.routers.truncate(vote.routers.len() * 3 / 4);
            let both = [vote.sign(&self.key), other.sign(&self.key)];
            self.altered = Some((Arc::clone(made), both));
        }
        let (_, [all, some]) = self.altered.as_ref()?;
        let is_other = is_for_some && self.does(Lie::Equivocates) && self.rng.below(2) == 0;
        Some(if is_other { some.clone() } else { all.clone() })
    }

    fn forge_commits(&mut self, vote: &mut Vote) {
        let stamp = |rng: &mut Rng| cepa_crypto::encoding::base64(&rng.array::<40>());
        let own = vote.author();
        for commit in &mut vote.shared_rand.commits {
            if commit.identity == own || self.rng.below(2) == 0 {
                commit.commit = stamp(&mut self.rng);
                commit.reveal = commit.reveal.take().map(|_| stamp(&mut self.rng));
            }
        }
        if !vote
            .shared_rand
            .commits
            .iter()
            .any(|one| one.identity == own)
        {
            vote.shared_rand.commits.push(SharedRandCommit {
                identity: own,
                commit: stamp(&mut self.rng),
                reveal: None,
            });
        }
        vote.shared_rand.current = Some(SharedRandValue {
            reveals: 9,
            value: self.rng.array(),
        });
    }

    /// Remembers a document that came or went.
    pub(super) fn see(&mut self, posted: Posted) {
        if self.does(Lie::Replays) {
            if self.seen.len() >= SEEN_MAX {
                self.seen.remove(0);
            }
            self.seen.push(posted);
        }
    }

    /// Documents to be sent again, signatures under the time of another consensus too.
    pub(super) fn replay(&mut self, next: SystemTime) -> Vec<Posted> {
        if self.seen.is_empty() {
            return Vec::new();
        }
        let count = 1 + self.rng.below(5);
        let mut posted = Vec::new();
        for _ in 0..count {
            let at = self.rng.below(self.seen.len() as u64) as usize;
            let Some(one) = self.seen.get(at).cloned() else {
                continue;
            };
            posted.push(match one {
                Posted::Signatures(text) if self.rng.below(2) == 0 => {
                    Posted::Signatures(under_another_time(&text, next))
                }
                other => other,
            });
        }
        posted
    }

    /// Signs a consensus of which somebody has sent signatures, unless it has.
    pub(super) fn sign_too(&mut self, text: &str, own: cepa_crypto::RsaId) -> Option<Arc<str>> {
        let mut detached = DetachedSignatures::parse(text).ok()?;
        if !self.signed.insert(detached.consensus_digest) {
            return None;
        }
        let sign =
            |algorithm, digest: &[u8]| DirectorySignature::sign(algorithm, digest, own, &self.key);
        let ns = sign(DigestAlgorithm::Sha1, &detached.consensus_digest);
        let microdesc = detached.microdesc_digest;
        detached.ns = vec![ns];
        detached.microdesc = microdesc
            .iter()
            .map(|digest| sign(DigestAlgorithm::Sha256, digest))
            .collect();
        Some(detached.encode().into())
    }

    /// A consensus that it alone has signed.
    pub(super) fn forge_consensus(&self, text: &ConsensusText, own: cepa_crypto::RsaId) -> String {
        let mut consensus = text.consensus().as_ref().clone();
        consensus.routers.truncate(1);
        consensus.signatures.clear();
        let signature = consensus.sign(own, &self.key);
        consensus.signatures.push(signature);
        consensus.encode()
    }
}

/// The times of a document of signatures are signed by nobody.
fn under_another_time(text: &Arc<str>, next: SystemTime) -> Arc<str> {
    let Ok(mut detached) = DetachedSignatures::parse(text) else {
        return Arc::clone(text);
    };
    let hour = Duration::from_secs(3600);
    detached.lifetime.valid_after = next;
    detached.lifetime.fresh_until = next + hour;
    detached.lifetime.valid_until = next + hour * 3;
    detached.encode().into()
}
