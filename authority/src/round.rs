//! One voting round: votes in, a consensus computed, signatures in (dir-spec 3.4 to 3.11).
//!
//! ```text
//! Voting ──all votes, or a majority in time──> Signing ──signatures of the same──> published
//!    └── too few: the round is over without a consensus ──┘
//! ```
//! Everything here is about documents of one `valid-after`. A regular round takes its steps at the
//! instants of its [`Schedule`]; a late one as soon as the documents are there.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cepa_crypto::{RsaId, encoding};
use cepa_netdoc::authcert::AuthCert;
use cepa_netdoc::consensus::{Consensus, ConsensusText, DirectorySignature, Flavour, Lifetime};
use cepa_netdoc::detached::DetachedSignatures;
use cepa_netdoc::vote::VoteText;
use cepa_wire::time::unix_seconds;

use crate::compute::{Ballot, compute};
use crate::config::{Config, Keys, METHOD_MAX};
use crate::posts::Posts;
use crate::schedule::Schedule;

/// A round that goes on.
#[derive(Debug)]
pub(crate) struct Round {
    /// When what is due.
    pub(crate) schedule: Schedule,
    /// The votes, by author; ours is among them.
    pub(crate) votes: BTreeMap<RsaId, VoteText>,
    /// Missing votes were asked for.
    pub(crate) votes_fetched: bool,
    /// The consensus that is being signed.
    pub(crate) signing: Option<Signing>,
    /// Posts that failed.
    pub(crate) posts: Posts,
    /// The votes make no consensus that anybody could read: nothing more comes of this round.
    pub(crate) is_void: bool,
}

/// A consensus in both flavours, with the signatures that are there.
#[derive(Debug)]
pub(crate) struct Signing {
    ns: Consensus,
    microdesc: Consensus,
    ns_digest: Vec<u8>,
    microdesc_digest: Vec<u8>,
    /// Missing signatures were asked for.
    pub(crate) fetched: bool,
}

impl Round {
    /// A round that begins with our vote.
    pub(crate) fn new(schedule: Schedule, own: VoteText) -> Self {
        let votes = BTreeMap::from([(own.vote().author(), own)]);
        Round {
            schedule,
            votes,
            votes_fetched: false,
            posts: Posts::default(),
            signing: None,
            is_void: false,
        }
    }

    /// Authorities whose vote is missing.
    pub(crate) fn missing_votes(&self, config: &Config) -> Vec<RsaId> {
        let mut missing = config.v3_identities();
        missing.retain(|id| !self.votes.contains_key(id));
        missing
    }

    /// Whether it is time to compute, and enough have voted.
    pub(crate) fn may_compute(&self, config: &Config, now: SystemTime) -> bool {
        let all = self.votes.len() >= config.authorities.len();
        let is_time = now >= self.schedule.compute || (self.schedule.late && all);
        let may = self.signing.is_none() && !self.is_void;
        may && is_time && self.votes.len() >= config.majority()
    }

    /// Whether the time to compute has passed without enough votes.
    pub(crate) fn has_failed(&self, config: &Config, now: SystemTime) -> bool {
        self.signing.is_none()
            && now >= self.schedule.compute
            && self.votes.len() < config.majority()
    }

    /// Computes the consensus of the votes, reads it as others will, and signs it, unless another
    /// one of the same interval was signed before.
    pub(crate) fn compute(
        &mut self,
        config: &Config,
        keys: &Keys,
        is_shared_random_fresh: bool,
        signed: Option<Signed>,
    ) {
        let votes: Vec<VoteText> = self.votes.values().cloned().collect();
        let ballot = Ballot {
            votes: &votes,
            authorities: config.authorities.len(),
            is_shared_random_fresh,
            method_max: METHOD_MAX,
        };
        let Some(computed) = compute(&ballot) else {
            self.is_void = true;
            return;
        };
        let (mut ns, mut microdesc) = (computed.ns, computed.microdesc);
        if !config.duties.shares_randomness {
            // Who takes no part says nothing of its values, as `tor`.
            for consensus in [&mut ns, &mut microdesc] {
                consensus.shared_rand_previous = None;
                consensus.shared_rand_current = None;
            }
        }
        let (ns_digest, microdesc_digest) = (ns.signed_digest(), microdesc.signed_digest());
        let start = ns.lifetime.valid_after;
        let is_other = |one: &Signed| one.valid_after == start && one.digest[..] != ns_digest;
        // A late round of a test network may have to begin again with other votes.
        if !self.schedule.late && signed.as_ref().is_some_and(is_other) {
            tracing::error!("another consensus of this interval was signed: this one is not");
            self.is_void = true;
            return;
        }
        for keys in std::iter::once(keys).chain(keys.legacy.as_deref()) {
            let identity = keys.cert.identity;
            ns.signatures.push(ns.sign(identity, &keys.signing));
            microdesc
                .signatures
                .push(microdesc.sign(identity, &keys.signing));
        }
        let signing = Signing {
            ns,
            microdesc,
            ns_digest,
            microdesc_digest,
            fetched: false,
        };
        self.is_void = signing.publish().is_none();
        self.signing = (!self.is_void).then_some(signing);
    }

    /// Whether it is time to publish, and enough have signed.
    pub(crate) fn may_publish(&self, config: &Config, now: SystemTime) -> bool {
        let Some(signing) = &self.signing else {
            return false;
        };
        let all = self.votes.keys().all(|author| signing.has_signed(author));
        let is_time = now >= self.schedule.publish || (self.schedule.late && all);
        is_time && signing.signers(config) >= config.majority()
    }

    /// Whether the time to publish has passed without enough signatures.
    pub(crate) fn has_no_majority(&self, config: &Config, now: SystemTime) -> bool {
        self.signing.as_ref().is_some_and(|signing| {
            now >= self.schedule.publish && signing.signers(config) < config.majority()
        })
    }
}

/// What was signed: kept before anybody is told. Who is started again with a clock that was set
/// back votes once more, and may get other votes than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signed {
    /// When the consensus begins.
    valid_after: SystemTime,
    /// SHA-1 of the signed part of the ns flavour.
    digest: [u8; 20],
}

impl Signed {
    /// One line: seconds since 1970, and the digest.
    pub(crate) fn encode(&self) -> String {
        let digest = encoding::hex_upper(&self.digest);
        format!("{} {digest}", unix_seconds(self.valid_after))
    }

    /// Reads such a line.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (secs, digest) = text.split_once(' ')?;
        let since = Duration::from_secs(secs.parse().ok()?);
        Some(Signed {
            valid_after: UNIX_EPOCH.checked_add(since)?,
            digest: encoding::hex_array(digest)?,
        })
    }
}

impl Signing {
    /// What is kept of it.
    pub(crate) fn signed(&self) -> Signed {
        Signed {
            valid_after: self.ns.lifetime.valid_after,
            digest: self.ns_digest.as_slice().try_into().unwrap_or_default(),
        }
    }

    /// How many authorities have signed both flavours.
    fn signers(&self, config: &Config) -> usize {
        let all = config.authorities.iter();
        all.filter(|one| self.has_signed(&one.v3_identity)).count()
    }

    /// Whether an authority has signed both flavours.
    pub(crate) fn has_signed(&self, author: &RsaId) -> bool {
        let by = |one: &DirectorySignature| one.identity == *author;
        self.ns.signatures.iter().any(by) && self.microdesc.signatures.iter().any(by)
    }

    /// The signatures that are there, for the others.
    pub(crate) fn detached(&self) -> DetachedSignatures {
        DetachedSignatures {
            consensus_digest: self.ns_digest.as_slice().try_into().unwrap_or_default(),
            lifetime: self.ns.lifetime,
            microdesc_digest: self.microdesc_digest.as_slice().try_into().ok(),
            ns: self.ns.signatures.clone(),
            microdesc: self.microdesc.signatures.clone(),
        }
    }

    /// Takes the good signatures on the consensus that we computed too; says how many were new.
    pub(crate) fn add(
        &mut self,
        detached: &DetachedSignatures,
        certs: &BTreeMap<RsaId, AuthCert>,
    ) -> usize {
        let mut added = 0;
        if detached.consensus_digest.as_slice() == self.ns_digest {
            added += add_good(&mut self.ns, &detached.ns, &self.ns_digest, certs);
        }
        if detached
            .microdesc_digest
            .is_some_and(|digest| digest[..] == self.microdesc_digest)
        {
            let (to, digest) = (&mut self.microdesc, &self.microdesc_digest);
            added += add_good(to, &detached.microdesc, digest, certs);
        }
        added
    }

    /// Whether these are for the consensus that we computed.
    pub(crate) fn is_same(&self, detached: &DetachedSignatures) -> bool {
        detached.consensus_digest.as_slice() == self.ns_digest
            && detached.lifetime == self.ns.lifetime
    }

    /// When the consensus is in force.
    pub(crate) fn lifetime(&self) -> Lifetime {
        self.ns.lifetime
    }

    /// The bytes of one flavour as they stand.
    pub(crate) fn text(&self, flavour: Flavour) -> String {
        let mut consensus = match flavour {
            Flavour::Ns => self.ns.clone(),
            Flavour::Microdesc => self.microdesc.clone(),
        };
        consensus.sort_signatures();
        consensus.encode()
    }

    /// Both flavours, as anybody would read them; none if that is impossible, a bug of ours.
    pub(crate) fn publish(&self) -> Option<[ConsensusText; 2]> {
        let read = |flavour| {
            ConsensusText::parse(self.text(flavour))
                .inspect_err(|error| tracing::error!(%error, "our consensus cannot be read"))
                .ok()
        };
        Some([read(Flavour::Ns)?, read(Flavour::Microdesc)?])
    }
}

fn add_good(
    consensus: &mut Consensus,
    signatures: &[DirectorySignature],
    digest: &[u8],
    certs: &BTreeMap<RsaId, AuthCert>,
) -> usize {
    let before = consensus.signatures.len();
    for signature in signatures {
        let is_known = consensus
            .signatures
            .iter()
            .any(|one| one.identity == signature.identity);
        let is_good = certs
            .get(&signature.identity)
            .is_some_and(|cert| signature.verifies(digest, cert));
        if !is_known && is_good {
            consensus.signatures.push(signature.clone());
        }
    }
    consensus.signatures.len() - before
}
