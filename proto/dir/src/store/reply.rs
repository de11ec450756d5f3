//! Answers to directory requests (dir-spec 4.2 to 4.6, 6.1; proposals 140 and 227).
//!
//! A list of documents is answered with those that are there, each once however often it was named;
//! with none of them the status is 404. What is found is a [`Found`]; making a reply of it may take
//! long, and needs no store. A consensus is served only while it is reasonably live, and only if
//! more than half of the authorities that the asker names have signed it; who has it already is
//! told so (304).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use crate::encoding::Encoding;
use crate::request::{CertQuery, DescQuery, IdPrefix, Round, VoteQuery};
use crate::{DirRequest, Flavour};
use cepa_crypto::RsaId;
use cepa_netdoc::consensus::Consensus;

use super::consensuses;
use super::document::Document;
use super::routers::RouterDocuments;
use super::{DirStore, Votes};

/// What a request brings beside the path.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The header Accept-Encoding.
    pub accept_encoding: Option<&'a str>,
    /// Whether the path ended in `.z`.
    pub z: bool,
    /// The header If-Modified-Since.
    pub if_modified_since: Option<SystemTime>,
}

/// A reply: status, headers and body. The shell adds Date and Content-Length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 200, 304, 404 or another status of HTTP.
    pub status: u16,
    /// The reason on the status line.
    pub reason: &'static str,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body, encoded.
    pub body: Arc<[u8]>,
}

impl Reply {
    /// A reply without a body.
    #[must_use]
    pub fn status(status: u16, reason: &'static str) -> Self {
        Reply {
            status,
            reason,
            headers: Vec::new(),
            body: Arc::new([]),
        }
    }

    /// There is no such document.
    #[must_use]
    pub fn not_found() -> Self {
        Reply::status(404, "Not found")
    }

    fn not_modified() -> Self {
        Reply::status(304, "Not modified")
    }

    /// The bytes of a document that are under this encoding already.
    #[must_use]
    pub fn body(body: Arc<[u8]>, encoding: Encoding) -> Self {
        let headers = vec![
            ("Content-Type", "text/plain".to_owned()),
            ("Content-Encoding", encoding.name().to_owned()),
        ];
        Reply {
            status: 200,
            reason: "OK",
            headers,
            body,
        }
    }

    fn vary(mut self) -> Self {
        let vary = "X-Or-Diff-From-Consensus, Accept-Encoding".to_owned();
        self.headers.push(("Vary", vary));
        self
    }
}

/// What a store has for a request, of which a reply is still to be made.
#[derive(Debug)]
pub struct Found(Kind);

#[derive(Debug)]
enum Kind {
    /// Nothing to be made any more.
    Reply(Reply),
    /// One document, which is shared by all who ask for it.
    Document(Arc<Document>, Encoding),
    /// A consensus, or the way to it from another one.
    Consensus(Option<Arc<Document>>, Arc<Document>, Encoding),
    /// Documents of this asker's choice.
    Texts(Vec<Arc<str>>, Encoding),
}

impl Found {
    fn not_found() -> Self {
        Found(Kind::Reply(Reply::not_found()))
    }

    fn document(document: Option<&Arc<Document>>, encoding: Encoding) -> Self {
        document.map_or_else(Self::not_found, |document| {
            Found(Kind::Document(Arc::clone(document), encoding))
        })
    }

    fn texts<'a>(texts: impl Iterator<Item = &'a Arc<str>>, encoding: Encoding) -> Self {
        let texts: Vec<_> = texts.cloned().collect();
        match texts.is_empty() {
            true => Self::not_found(),
            false => Found(Kind::Texts(texts, encoding)),
        }
    }

    /// Whether the reply is there at once, as somebody has asked for the same before.
    #[must_use]
    pub fn is_made(&self) -> bool {
        match &self.0 {
            Kind::Reply(_) => true,
            Kind::Document(document, encoding) | Kind::Consensus(None, document, encoding) => {
                document.is_made(*encoding)
            }
            Kind::Consensus(Some(diff), whole, encoding) => {
                let is_there = || diff.encoded(*encoding).is_some() || whole.is_made(*encoding);
                diff.is_made(*encoding) && is_there()
            }
            Kind::Texts(..) => false,
        }
    }

    /// The bytes that are this asker's alone, while all others share theirs.
    #[must_use]
    pub fn own_bytes(&self) -> usize {
        match &self.0 {
            Kind::Texts(texts, _) => texts.iter().map(|text| text.len()).sum(),
            _ => 0,
        }
    }

    /// The reply. Unless [`Found::is_made`], that may take seconds.
    #[must_use]
    pub fn render(self) -> Reply {
        match self.0 {
            Kind::Reply(reply) => reply,
            Kind::Document(document, encoding) => document
                .encoded(encoding)
                .map_or_else(Reply::not_found, |body| Reply::body(body, encoding)),
            Kind::Consensus(diff, whole, encoding) => {
                let diff = diff.and_then(|diff| diff.encoded(encoding));
                let body = diff.or_else(|| whole.encoded(encoding));
                body.map_or_else(Reply::not_found, |body| Reply::body(body, encoding).vary())
            }
            Kind::Texts(texts, encoding) => {
                let texts: Vec<_> = texts.iter().map(|text| text.as_bytes()).collect();
                let body = encoding.encode_quickly(texts.concat());
                Reply::body(body.into(), encoding)
            }
        }
    }
}

impl DirStore {
    /// Answers a request for a document. Uploads, and what onion services ask for
    /// (`HsDirStore` of the relay), are answered by others: 404.
    #[must_use]
    pub fn reply(&self, request: &DirRequest, asker: Asker<'_>, now: SystemTime) -> Reply {
        self.find(request, asker, now).render()
    }

    /// Finds what a request asks for, without what takes time ([`Found::render`]).
    #[must_use]
    pub fn find(&self, request: &DirRequest, asker: Asker<'_>, now: SystemTime) -> Found {
        let encoding = Encoding::choose(asker.accept_encoding, asker.z);
        // What is compressed for one asker alone.
        let quick = Encoding::choose_quick(asker.accept_encoding, asker.z);
        match request {
            DirRequest::Consensus {
                flavour,
                signers,
                diff_from,
            } => self.find_consensus(*flavour, signers, diff_from, asker, now),
            DirRequest::NextConsensus(Flavour::Ns) => {
                Found::document(self.next_ns.as_ref(), encoding)
            }
            DirRequest::NextConsensus(Flavour::Microdesc) => {
                Found::document(self.next_microdesc.as_ref(), encoding)
            }
            DirRequest::Certificates(query) => self.find_certificates(query, quick),
            DirRequest::Microdescs(digests) => {
                let held = once_each(digests).filter_map(|digest| self.microdescs.get(digest));
                Found::texts(held, quick)
            }
            DirRequest::ServerDescs(query) => {
                let own = self.own.as_ref().map(|(desc, _)| desc);
                find_routers(&self.server_descs, own, query, quick, now)
            }
            DirRequest::ExtraInfos(query) => {
                let own = self.own.as_ref().map(|(_, info)| info);
                find_routers(&self.extra_infos, own, query, quick, now)
            }
            DirRequest::Votes(Round::Next, query) => {
                self.find_votes(&self.next_votes, query, quick)
            }
            DirRequest::Votes(Round::Current, query) => {
                self.find_votes(&self.current_votes, query, quick)
            }
            DirRequest::Signatures => Found::document(self.next_signatures.as_ref(), encoding),
            DirRequest::Bandwidth => Found::document(self.next_bandwidth.as_ref(), encoding),
            DirRequest::PostDescriptor
            | DirRequest::PostVote
            | DirRequest::PostSignatures
            | DirRequest::HsDescriptor(_)
            | DirRequest::PostHsDescriptor => Found::not_found(),
        }
    }

    fn find_consensus(
        &self,
        flavour: Flavour,
        signers: &[IdPrefix],
        diff_from: &[[u8; 32]],
        asker: Asker<'_>,
        now: SystemTime,
    ) -> Found {
        let consensuses = self.consensuses(flavour);
        let Some(current) = consensuses.current() else {
            return Found::not_found();
        };
        let consensus = current.text.consensus();
        if !consensus.lifetime.is_reasonably_live(now) || !is_signed_by(consensus, signers) {
            return Found::not_found();
        }
        let valid_after = consensus.lifetime.valid_after;
        if asker
            .if_modified_since
            .is_some_and(|since| valid_after <= since)
        {
            return Found(Kind::Reply(Reply::not_modified()));
        }
        let encoding = Encoding::choose(asker.accept_encoding, asker.z);
        let oldest = self.diff_age_max.and_then(|age| now.checked_sub(age));
        match consensuses.find(diff_from, oldest) {
            None => Found::not_found(),
            Some(consensuses::Found::Same) => Found(Kind::Reply(Reply::not_modified())),
            Some(consensuses::Found::Diff(diff, whole)) => {
                Found(Kind::Consensus(Some(diff), whole, encoding))
            }
            Some(consensuses::Found::Whole(whole)) => Found(Kind::Consensus(None, whole, encoding)),
        }
    }

    fn find_certificates(&self, query: &CertQuery, encoding: Encoding) -> Found {
        let is_asked = |id: &RsaId, key: &RsaId| match query {
            CertQuery::All => true,
            CertQuery::Own => Some(*id) == self.own_v3,
            CertQuery::Identities(ids) => ids.contains(id),
            CertQuery::SigningKeys(keys) => keys.contains(key),
            CertQuery::Pairs(pairs) => pairs.contains(&(*id, *key)),
        };
        let held = self
            .certificates
            .iter()
            .filter(|((id, key), _)| is_asked(id, key));
        let texts: Vec<Arc<str>> = held.map(|(_, cert)| cert.text.as_str().into()).collect();
        Found::texts(texts.iter(), encoding)
    }

    fn find_votes(&self, votes: &Votes, query: &VoteQuery, encoding: Encoding) -> Found {
        let is_asked = |id: &RsaId, digest: &[u8; 20]| match query {
            VoteQuery::Own => Some(*id) == self.own_v3,
            VoteQuery::Identities(ids) => ids.contains(id),
            VoteQuery::Digests(digests) => digests.contains(digest),
        };
        let held = votes
            .iter()
            .filter(|(id, vote)| is_asked(id, vote.digest()));
        Found::texts(held.map(|(_, vote)| vote.text()), encoding)
    }
}

/// Whether more than half of those whom the asker names have signed (dir-spec 4.3).
fn is_signed_by(consensus: &Consensus, signers: &[IdPrefix]) -> bool {
    let has_signed = |prefix: &&IdPrefix| {
        consensus
            .signatures
            .iter()
            .any(|signature| prefix.matches(&signature.identity))
    };
    signers.is_empty() || signers.iter().filter(has_signed).count() * 2 > signers.len()
}

fn find_routers(
    documents: &RouterDocuments,
    own: Option<&Arc<str>>,
    query: &DescQuery,
    encoding: Encoding,
    now: SystemTime,
) -> Found {
    match query {
        DescQuery::All => Found::document(documents.all(now).as_ref(), encoding),
        DescQuery::Own => Found::texts(own.into_iter(), encoding),
        DescQuery::Digests(digests) => {
            let held = once_each(digests).filter_map(|digest| documents.by_digest(digest));
            Found::texts(held, encoding)
        }
        DescQuery::Relays(ids) => {
            let held = once_each(ids).filter_map(|id| documents.of_relay(id));
            Found::texts(held, encoding)
        }
    }
}

/// What is named, in that order, but not again what was named before.
fn once_each<T: Ord>(named: &[T]) -> impl Iterator<Item = &T> {
    let mut seen = BTreeSet::new();
    named.iter().filter(move |one| seen.insert(*one))
}
