//! Answers to directory requests (dir-spec 4.2 to 4.6, 6.1; proposals 140 and 227).
//!
//! A list of documents is answered with those that are there; with none of them the status is 404.
//! A consensus is served only while it is reasonably live, and only if more than half of the
//! authorities that the asker names have signed it; who has it already is told so (304).

use std::sync::Arc;
use std::time::SystemTime;

use cepa_crypto::RsaId;
use cepa_dir::encoding::Encoding;
use cepa_dir::request::{CertQuery, DescQuery, IdPrefix, Round, VoteQuery};
use cepa_dir::{DirRequest, Flavour};
use cepa_netdoc::consensus::Consensus;

use super::consensuses::Found;
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

    pub(super) fn not_found() -> Self {
        Reply::status(404, "Not found")
    }

    fn not_modified() -> Self {
        Reply::status(304, "Not modified")
    }

    pub(super) fn body(body: Arc<[u8]>, encoding: Encoding) -> Self {
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

    fn document(document: Option<&Arc<Document>>, encoding: Encoding) -> Self {
        document.map_or_else(Reply::not_found, |document| {
            Reply::body(document.encoded(encoding), encoding)
        })
    }

    fn texts<'a>(texts: impl Iterator<Item = &'a str>, encoding: Encoding) -> Self {
        let text = texts.fold(String::new(), |all, text| all + text);
        if text.is_empty() {
            return Reply::not_found();
        }
        Reply::body(encoding.encode(text.as_bytes()).into(), encoding)
    }
}

impl DirStore {
    /// Answers a request for a document. Uploads, and what onion services ask for
    /// ([`super::HsDirStore`]), are answered by others: 404.
    #[must_use]
    pub fn reply(&self, request: &DirRequest, asker: Asker<'_>, now: SystemTime) -> Reply {
        let encoding = Encoding::choose(asker.accept_encoding, asker.z);
        match request {
            DirRequest::Consensus {
                flavour,
                signers,
                diff_from,
            } => self.reply_consensus(*flavour, signers, diff_from, asker, now),
            DirRequest::NextConsensus(Flavour::Ns) => {
                Reply::document(self.next_ns.as_ref(), encoding)
            }
            DirRequest::NextConsensus(Flavour::Microdesc) => {
                Reply::document(self.next_microdesc.as_ref(), encoding)
            }
            DirRequest::Certificates(query) => self.reply_certificates(query, encoding),
            DirRequest::Microdescs(digests) => {
                let held = digests
                    .iter()
                    .filter_map(|digest| self.microdescs.get(digest));
                Reply::texts(held.map(|held| &*held.text), encoding)
            }
            DirRequest::ServerDescs(query) => {
                let own = self.own.as_ref().map(|(desc, _)| desc);
                reply_routers(&self.server_descs, own, query, encoding)
            }
            DirRequest::ExtraInfos(query) => {
                let own = self.own.as_ref().map(|(_, info)| info);
                reply_routers(&self.extra_infos, own, query, encoding)
            }
            DirRequest::Votes(Round::Next, query) => {
                self.reply_votes(&self.next_votes, query, encoding)
            }
            DirRequest::Votes(Round::Current, query) => {
                self.reply_votes(&self.current_votes, query, encoding)
            }
            DirRequest::Signatures => Reply::document(self.next_signatures.as_ref(), encoding),
            DirRequest::PostDescriptor
            | DirRequest::PostVote
            | DirRequest::PostSignatures
            | DirRequest::HsDescriptor(_)
            | DirRequest::PostHsDescriptor => Reply::not_found(),
        }
    }

    fn reply_consensus(
        &self,
        flavour: Flavour,
        signers: &[IdPrefix],
        diff_from: &[[u8; 32]],
        asker: Asker<'_>,
        now: SystemTime,
    ) -> Reply {
        let consensuses = self.consensuses(flavour);
        let Some(current) = consensuses.current() else {
            return Reply::not_found();
        };
        let consensus = current.text.consensus();
        if !consensus.lifetime.is_reasonably_live(now) || !is_signed_by(consensus, signers) {
            return Reply::not_found();
        }
        let valid_after = consensus.lifetime.valid_after;
        if asker
            .if_modified_since
            .is_some_and(|since| valid_after <= since)
        {
            return Reply::not_modified();
        }
        let encoding = Encoding::choose(asker.accept_encoding, asker.z);
        let document = match consensuses.find(diff_from) {
            None => return Reply::not_found(),
            Some(Found::Same) => return Reply::not_modified(),
            Some(Found::Diff(document) | Found::Whole(document)) => document,
        };
        let mut reply = Reply::document(Some(&document), encoding);
        let vary = "X-Or-Diff-From-Consensus, Accept-Encoding".to_owned();
        reply.headers.push(("Vary", vary));
        reply
    }

    fn reply_certificates(&self, query: &CertQuery, encoding: Encoding) -> Reply {
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
        Reply::texts(held.map(|(_, cert)| cert.text.as_str()), encoding)
    }

    fn reply_votes(&self, votes: &Votes, query: &VoteQuery, encoding: Encoding) -> Reply {
        let is_asked = |id: &RsaId, digest: &[u8; 20]| match query {
            VoteQuery::Own => Some(*id) == self.own_v3,
            VoteQuery::Identities(ids) => ids.contains(id),
            VoteQuery::Digests(digests) => digests.contains(digest),
        };
        let held = votes
            .iter()
            .filter(|(id, vote)| is_asked(id, vote.digest()));
        Reply::texts(held.map(|(_, vote)| &**vote.text()), encoding)
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

fn reply_routers(
    documents: &RouterDocuments,
    own: Option<&Arc<str>>,
    query: &DescQuery,
    encoding: Encoding,
) -> Reply {
    match query {
        DescQuery::All => Reply::texts(documents.newest().map(|text| &**text), encoding),
        DescQuery::Own => Reply::texts(own.into_iter().map(|text| &**text), encoding),
        DescQuery::Digests(digests) => {
            let held = digests
                .iter()
                .filter_map(|digest| documents.by_digest(digest));
            Reply::texts(held.map(|text| &**text), encoding)
        }
        DescQuery::Relays(ids) => {
            let held = ids.iter().filter_map(|id| documents.of_relay(id));
            Reply::texts(held.map(|text| &**text), encoding)
        }
    }
}
