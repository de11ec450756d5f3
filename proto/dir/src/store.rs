//! The documents that a directory serves, a cache's or an authority's (dir-spec 4, 5, 6).
//!
//! Documents come in as [`DirDocument`], checked by whoever brings them; nothing is checked here
//! again. Every kind is bounded: what no consensus lists goes after its time, and past a kind's
//! bound the oldest go first. [`DirStore::reply`] answers a request from what is there, without
//! changing anything, so that many may ask at a time.

mod consensuses;
mod document;
mod microdescs;
mod reply;
mod routers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cepa_crypto::RsaId;
use cepa_netdoc::authcert::AuthCert;
use cepa_netdoc::consensus::{ConsensusText, Flavour};
use cepa_netdoc::descriptor::ServerDescriptor;
use cepa_netdoc::extrainfo::ExtraInfo;
use cepa_netdoc::vote::VoteText;

use consensuses::Consensuses;
use document::Document;
use microdescs::Microdescs;

pub use consensuses::BASES_MAX;
pub use microdescs::{
    MICRODESC_UNLISTED_MAX, MICRODESCS_LEN_MAX, MICRODESCS_MAX, MICRODESCS_OF_RELAY_MAX,
};
pub use reply::{Asker, Found, Reply};
pub use routers::{
    ROUTER_DOCUMENTS_LEN_MAX, ROUTER_DOCUMENTS_MAX, ROUTER_DOCUMENTS_OF_RELAY_MAX, RouterDocument,
    RouterDocuments, UNLISTED_AGE_MAX,
};

/// The most authority certificates that are held.
pub const CERTIFICATES_MAX: usize = 256;
/// The most votes of one round that are held.
pub const VOTES_MAX: usize = 64;

/// A document that others may ask for.
#[derive(Debug, Clone)]
pub enum DirDocument {
    /// A consensus in force.
    Consensus(ConsensusText),
    /// An authority's certificate.
    Certificate(Arc<AuthCert>),
    /// A microdescriptor, by SHA-256 of its text.
    Microdesc([u8; 32], Arc<str>),
    /// A microdescriptor that an authority made of what the relay of this identity has uploaded.
    MadeMicrodesc([u8; 32], Arc<str>, RsaId),
    /// A server descriptor.
    ServerDesc(RouterDocument),
    /// An extra-info document.
    ExtraInfo(RouterDocument),
    /// The server's own descriptor and extra-info.
    Own(RouterDocument, RouterDocument),
    /// A vote of the round that goes on.
    NextVote(VoteText),
    /// The signatures of the consensus that is being signed.
    NextSignatures(Arc<str>),
    /// The consensus that is being signed.
    NextConsensus(Flavour, Arc<str>),
    /// The bandwidth file that is voted with, or none.
    NextBandwidth(Option<Arc<str>>),
    /// The round is over: these are the votes of the consensus in force.
    CurrentVotes(Vec<VoteText>),
}

impl From<&ServerDescriptor> for RouterDocument {
    fn from(desc: &ServerDescriptor) -> Self {
        RouterDocument {
            digest: desc.digest,
            identity: desc.identity,
            published: desc.published,
            text: desc.text.as_str().into(),
        }
    }
}

impl From<&ExtraInfo> for RouterDocument {
    fn from(info: &ExtraInfo) -> Self {
        RouterDocument {
            digest: info.digest.sha1,
            identity: info.identity,
            published: info.published,
            text: info.text.as_str().into(),
        }
    }
}

/// Votes of a round, by author.
type Votes = BTreeMap<RsaId, VoteText>;

/// The documents that are served.
#[derive(Debug, Default)]
pub struct DirStore {
    ns: Consensuses,
    microdesc: Consensuses,
    certificates: BTreeMap<(RsaId, RsaId), Arc<AuthCert>>,
    microdescs: Microdescs,
    server_descs: RouterDocuments,
    extra_infos: RouterDocuments,
    own: Option<(Arc<str>, Arc<str>)>,
    own_v3: Option<RsaId>,
    next_votes: Votes,
    current_votes: Votes,
    next_signatures: Option<Arc<Document>>,
    next_bandwidth: Option<Arc<Document>>,
    next_ns: Option<Arc<Document>>,
    next_microdesc: Option<Arc<Document>>,
    diff_age_max: Option<Duration>,
}

impl DirStore {
    /// An empty store. `own_v3` is the authority's v3 identity, if the server is one.
    #[must_use]
    pub fn new(own_v3: Option<RsaId>) -> Self {
        DirStore {
            own_v3,
            ..DirStore::default()
        }
    }

    /// Makes no differences from consensuses that are older (`MaxConsensusAgeForDiffs`); none: from
    /// all that are kept.
    pub fn set_diff_age_max(&mut self, age: Option<Duration>) {
        self.diff_age_max = age;
    }

    /// Takes a document, and forgets what it makes obsolete.
    pub fn insert(&mut self, document: DirDocument, now: SystemTime) {
        match document {
            DirDocument::Consensus(text) => self.insert_consensus(text, now),
            DirDocument::Certificate(cert) => self.insert_certificate(cert, now),
            DirDocument::Microdesc(digest, text) => {
                self.microdescs.insert(digest, text, None, now);
            }
            DirDocument::MadeMicrodesc(digest, text, relay) => {
                self.microdescs.insert(digest, text, Some(relay), now);
            }
            DirDocument::ServerDesc(desc) => self.server_descs.insert(desc),
            DirDocument::ExtraInfo(info) => self.extra_infos.insert(info),
            DirDocument::Own(desc, info) => {
                self.own = Some((Arc::clone(&desc.text), Arc::clone(&info.text)));
                self.server_descs.insert(desc);
                self.extra_infos.insert(info);
            }
            DirDocument::NextVote(vote) => insert_vote(&mut self.next_votes, vote),
            DirDocument::NextSignatures(text) => {
                self.next_signatures = Some(Arc::new(Document::new(text)));
            }
            DirDocument::NextConsensus(flavour, text) => {
                let next = match flavour {
                    Flavour::Ns => &mut self.next_ns,
                    Flavour::Microdesc => &mut self.next_microdesc,
                };
                *next = Some(Arc::new(Document::new(text)));
            }
            DirDocument::NextBandwidth(text) => {
                self.next_bandwidth = text.map(|text| Arc::new(Document::new(text)));
            }
            DirDocument::CurrentVotes(votes) => {
                self.next_votes.clear();
                self.next_signatures = None;
                (self.next_ns, self.next_microdesc) = (None, None);
                self.current_votes.clear();
                votes
                    .into_iter()
                    .for_each(|vote| insert_vote(&mut self.current_votes, vote));
            }
        }
    }

    /// Stops serving the descriptor of this digest.
    pub fn withdraw(&mut self, digest: &[u8; 20]) {
        self.server_descs.remove(digest);
    }

    fn insert_consensus(&mut self, text: ConsensusText, now: SystemTime) {
        let consensus = Arc::clone(text.consensus());
        match consensus.flavour {
            Flavour::Microdesc => {
                let routers = consensus.routers.iter();
                let listed = routers.filter_map(|one| one.microdesc_digest).collect();
                self.microdescs.set_listed(&listed, now);
                self.microdesc.insert(text);
            }
            Flavour::Ns => {
                let routers = consensus.routers.iter();
                let listed: BTreeSet<_> = routers.map(|one| one.descriptor_digest).collect();
                self.server_descs.prune(&listed, now);
                self.extra_infos.prune(&BTreeSet::new(), now);
                self.ns.insert(text);
            }
        }
    }

    fn insert_certificate(&mut self, cert: Arc<AuthCert>, now: SystemTime) {
        self.certificates.retain(|_, held| held.expires >= now);
        if self.certificates.len() < CERTIFICATES_MAX {
            self.certificates
                .insert((cert.identity, cert.signing_key_digest), cert);
        }
    }

    /// The consensus in force.
    #[must_use]
    pub fn consensus(&self, flavour: Flavour) -> Option<&ConsensusText> {
        self.consensuses(flavour)
            .current()
            .map(|current| &current.text)
    }

    fn consensuses(&self, flavour: Flavour) -> &Consensuses {
        match flavour {
            Flavour::Ns => &self.ns,
            Flavour::Microdesc => &self.microdesc,
        }
    }
}

fn insert_vote(votes: &mut Votes, vote: VoteText) {
    let author = author(&vote);
    if votes.len() < VOTES_MAX || votes.contains_key(&author) {
        votes.insert(author, vote);
    }
}

/// The v3 identity of who made a vote.
fn author(vote: &VoteText) -> RsaId {
    vote.vote().certificate.identity
}
