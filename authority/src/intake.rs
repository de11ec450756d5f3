//! What may come of an upload before the authority's loop sees it.
//!
//! Reading and verifying a stranger's megabytes is a job beside the loop: [`VoteDoor`] reads votes,
//! [`RelayUpload`] descriptors, [`read_signatures`] signatures. Of a vote the author and the
//! signature come first, and whether it is one that is still to come: only then its entries are
//! read. What was read here is judged by the loop again, which alone knows what has happened since.

use std::collections::BTreeMap;
use std::time::SystemTime;

use cepa_crypto::RsaId;
use cepa_netdoc::descriptor::split_descriptors;
use cepa_netdoc::detached::DetachedSignatures;
use cepa_netdoc::vote::{VoteClaim, VoteText};

use crate::command::Reply;
use crate::schedule::Timing;
use crate::uploads::RelayUpload;

/// Descriptors that are asked for at once (dir-spec 4.2: what fits into one request).
pub(crate) const FETCHED_DESCRIPTORS_MAX: usize = 96;

/// What is known of the votes that may come; as good as the moment when it was made. By default
/// none may.
#[derive(Debug, Clone, Default)]
pub struct VoteDoor {
    pub(crate) authorities: Vec<RsaId>,
    pub(crate) timing: Option<Timing>,
    /// When consensuses begin for which votes may come, beside the interval that it is then.
    pub(crate) starts: Vec<SystemTime>,
    /// When the last consensus begins: a vote for it, or for one before, comes too late.
    pub(crate) decided: Option<SystemTime>,
    /// The digests of the votes that are held, by author.
    pub(crate) held: BTreeMap<RsaId, [u8; 20]>,
}

/// What the beginning of a vote says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VoteLook {
    /// More of it is needed.
    More,
    /// The vote says that it is of this authority.
    Of(RsaId),
    /// The vote is not to be read any further.
    Refused(Reply),
}

impl VoteDoor {
    /// Looks at what has come of a vote so far.
    #[must_use]
    pub fn look(&self, head: &[u8], now: SystemTime) -> VoteLook {
        // A letter may be cut in two.
        let end = std::str::from_utf8(head).map_or_else(|error| error.valid_up_to(), str::len);
        let text = head
            .get(..end)
            .and_then(|head| std::str::from_utf8(head).ok());
        match self.claim(text.unwrap_or_default(), now) {
            Ok(None) => VoteLook::More,
            Ok(Some(claim)) => VoteLook::Of(claim.author()),
            Err(refusal) => VoteLook::Refused(refusal),
        }
    }

    /// The authority of the network whose certificate stands in what has come of a vote so far. The
    /// vote may be somebody else's nevertheless.
    #[must_use]
    pub fn named(&self, head: &str) -> Option<RsaId> {
        let claim = VoteClaim::read(head).ok().flatten()?;
        Some(claim.author()).filter(|author| self.authorities.contains(author))
    }

    /// Reads a whole vote.
    ///
    /// # Errors
    /// The reply to what needs no further thought: a refusal, or that it is held already.
    pub fn read(&self, body: &str, now: SystemTime) -> Result<VoteText, Reply> {
        let malformed = |error: &str| Reply::refused(format!("Malformed vote: {error}"));
        let claim = self.claim(body, now)?;
        let claim = claim.ok_or_else(|| malformed("it ends in its head"))?;
        let Some(digest) = claim.verify(body, now) else {
            let reason = "Vote with a wrong signature or an expired certificate";
            return Err(Reply::refused(reason));
        };
        if self.held.get(&claim.author()) == Some(&digest) {
            return Err(Reply::ok("Vote stored"));
        }
        let vote = VoteText::parse(body).map_err(|error| malformed(&error.to_string()))?;
        // The head that was looked at is the one that counts.
        match vote.vote().author() == claim.author() {
            true => Ok(vote),
            false => Err(malformed("it has two authors")),
        }
    }

    /// Reads votes that stand one behind the other; those that are not to be had are left out.
    #[must_use]
    pub fn read_all(&self, body: &str, now: SystemTime) -> Vec<VoteText> {
        const START: &str = "network-status-version 3";
        let starts = body.match_indices(START).map(|(at, _)| at);
        let starts: Vec<usize> = starts
            .filter(|at| *at == 0 || body.as_bytes().get(at - 1) == Some(&b'\n'))
            .take(self.authorities.len())
            .collect();
        let ends = starts.iter().skip(1).copied().chain([body.len()]);
        let texts = starts.iter().zip(ends);
        let read = texts.filter_map(|(start, end)| {
            let read = self.read(body.get(*start..end).unwrap_or_default(), now);
            read.map_err(|reply| {
                let reason = reply.reason;
                tracing::info!(reason, "a vote that was fetched is not used");
            })
            .ok()
        });
        read.collect()
    }

    fn claim(&self, text: &str, now: SystemTime) -> Result<Option<VoteClaim>, Reply> {
        let claim = VoteClaim::read(text)
            .map_err(|error| Reply::refused(format!("Malformed vote: {error}")))?;
        let Some(claim) = claim else { return Ok(None) };
        if !self.authorities.contains(&claim.author()) {
            return Err(Reply::refused("Vote not from a recognized v3 authority"));
        }
        let start = claim.valid_after;
        let current = self.timing.map(|timing| timing.interval_start(now));
        if !self.starts.contains(&start) && current != Some(start) {
            return Err(Reply::refused("Vote for another interval than ours"));
        }
        if self.decided.is_some_and(|decided| start <= decided) {
            return Err(Reply::refused("Vote for an interval that is decided"));
        }
        Ok(Some(claim))
    }
}

/// Reads detached signatures that were posted or fetched.
///
/// # Errors
/// The refusal of what is malformed.
pub fn read_signatures(body: &str) -> Result<DetachedSignatures, Reply> {
    DetachedSignatures::parse(body)
        .map_err(|error| Reply::refused(format!("Malformed signatures: {error}")))
}

/// Reads descriptors that stand one behind the other; those that are not to be had are left out.
#[must_use]
pub fn read_descriptors(body: &str) -> Vec<RelayUpload> {
    let texts = split_descriptors(body).take(FETCHED_DESCRIPTORS_MAX);
    let read = texts.filter_map(|text| match RelayUpload::read(text) {
        Ok(upload) => Some(upload),
        Err(reply) => {
            log_refused_descriptor(&reply);
            None
        }
    });
    read.collect()
}

pub(crate) fn log_refused_descriptor(reply: &Reply) {
    tracing::info!(
        reason = reply.reason,
        "another authority's descriptor is refused"
    );
}
