//! Reading votes, with `tor`'s strictness (dir-spec 3.4.1): a vote that one authority refuses all
//! should refuse, or they compute different consensuses.

use std::collections::BTreeSet;
use std::time::SystemTime;

use cepa_crypto::{Ed25519Id, RsaId};

use crate::authcert::AuthCert;
use crate::consensus::{
    DirSource, DirectorySignature, Preamble, ROUTERS_MAX, SharedRandCommit, StatusError, line,
    missing, once,
};
use crate::item::{Item, Items, Limits};
use crate::routerstatus::VOTED_FLAGS_MAX;
use crate::vote::entry::EntryInVote;
use crate::vote::{
    COMMITS_MAX, METHODS_MAX, SharedRandVote, VOTE_BYTES_MAX, Vote, VoteRouter, VotedEd25519,
};

pub(super) const LIMITS: Limits = Limits {
    bytes_max: VOTE_BYTES_MAX,
    items_max: ROUTERS_MAX * 24 + 4096,
};

/// The part of the document that the reader is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Preamble,
    Authority,
    Certificate,
    Routers,
    Footer,
}

#[derive(Default)]
struct Reader {
    part: Option<Part>,
    preamble: Preamble,
    has_status: bool,
    methods: Option<Vec<u32>>,
    published: Option<SystemTime>,
    flag_thresholds: Option<String>,
    bandwidth_file_headers: Option<String>,
    bandwidth_file_digest: Option<String>,
    dir_source: Option<DirSource>,
    contact: Option<String>,
    shared_rand: SharedRandVote,
    legacy_dir_key: Option<RsaId>,
    certificate_start: usize,
    certificate: Option<AuthCert>,
    known_flags: Vec<String>,
    entry: Option<EntryInVote>,
    routers: Vec<VoteRouter>,
    ed25519_seen: BTreeSet<Ed25519Id>,
    signature: Option<DirectorySignature>,
    signed_end: usize,
}

/// Reads a vote; also says how many of its first bytes are signed.
pub(super) fn parse(text: &str) -> Result<(Vote, usize), StatusError> {
    let mut items = Items::new(text, LIMITS)?;
    let first = items.next().ok_or(StatusError::Kind)??;
    let is_first = first.start == 0 && first.keyword == "network-status-version";
    if !is_first || first.args().next() != Some("3") {
        return Err(StatusError::Kind);
    }
    let mut reader = Reader::default();
    for item in items {
        reader.item(&item?, text)?;
    }
    reader.finish()
}

impl Reader {
    fn item(&mut self, item: &Item<'_>, text: &str) -> Result<(), StatusError> {
        let before = self.part.unwrap_or(Part::Preamble);
        if self.signature.is_some() {
            return Err(StatusError::Misplaced(item.keyword.to_owned()));
        }
        let part = match item.keyword {
            "dir-source" => Part::Authority,
            "dir-key-certificate-version" => Part::Certificate,
            "r" => Part::Routers,
            "directory-footer" => Part::Footer,
            _ => before,
        };
        let is_signature = item.keyword == "directory-signature";
        if part < before || (is_signature && part != Part::Footer) {
            return Err(StatusError::Misplaced(item.keyword.to_owned()));
        }
        if before == Part::Preamble && part != Part::Preamble {
            self.known_flags = self
                .preamble
                .known_flags
                .clone()
                .ok_or_else(|| missing("known-flags"))?;
            if self.known_flags.len() > VOTED_FLAGS_MAX {
                return Err(StatusError::TooMany("known flags"));
            }
        }
        if part >= Part::Routers && self.certificate.is_none() {
            return Err(missing("dir-key-certification"));
        }
        self.part = Some(part);
        match part {
            Part::Preamble => self.preamble(item),
            Part::Authority => self.authority(item),
            Part::Certificate => self.certificate(item, text),
            Part::Routers => self.router(item),
            Part::Footer => self.footer(item, text),
        }
    }

    fn preamble(&mut self, item: &Item<'_>) -> Result<(), StatusError> {
        match item.keyword {
            "vote-status" if item.arg(0)? == "vote" && !self.has_status => {
                self.has_status = true;
                Ok(())
            }
            "network-status-version" | "vote-status" => Err(StatusError::Kind),
            "consensus-methods" => once(item, &mut self.methods, methods(item)?),
            "published" => once(item, &mut self.published, item.timestamp(0)?),
            "flag-thresholds" => once(item, &mut self.flag_thresholds, line(item)),
            "bandwidth-file-headers" => once(item, &mut self.bandwidth_file_headers, line(item)),
            "bandwidth-file-digest" => once(item, &mut self.bandwidth_file_digest, line(item)),
            _ => self.preamble.item(item).map(drop),
        }
    }

    fn authority(&mut self, item: &Item<'_>) -> Result<(), StatusError> {
        match item.keyword {
            "dir-source" => once(item, &mut self.dir_source, DirSource::parse(item)?),
            "contact" => once(item, &mut self.contact, line(item)),
            "legacy-dir-key" => once(item, &mut self.legacy_dir_key, item.arg_as(0)?),
            "shared-rand-participate" => {
                self.shared_rand.participates = true;
                Ok(())
            }
            "shared-rand-commit" => {
                if self.shared_rand.commits.len() >= COMMITS_MAX {
                    return Err(StatusError::TooMany("commitments"));
                }
                self.shared_rand
                    .commits
                    .push(SharedRandCommit::parse(item)?);
                Ok(())
            }
            _ => self.preamble.item(item).map(drop),
        }
    }

    fn certificate(&mut self, item: &Item<'_>, text: &str) -> Result<(), StatusError> {
        match item.keyword {
            "dir-key-certificate-version" if self.certificate.is_none() => {
                self.certificate_start = item.start;
            }
            "dir-key-certificate-version" => {
                return Err(StatusError::Misplaced(item.keyword.to_owned()));
            }
            "dir-key-certification" => {
                let text = text
                    .get(self.certificate_start..item.end)
                    .unwrap_or_default();
                let cert = AuthCert::parse(text).map_err(|_| StatusError::Certificate)?;
                once(item, &mut self.certificate, cert)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn router(&mut self, item: &Item<'_>) -> Result<(), StatusError> {
        if item.keyword == "r" {
            self.end_entry()?;
            if self.routers.len() >= ROUTERS_MAX {
                return Err(StatusError::TooMany("routers"));
            }
            self.entry = Some(EntryInVote::start(item)?);
            return Ok(());
        }
        match &mut self.entry {
            Some(entry) => entry.item(item, &self.known_flags),
            None => Ok(()),
        }
    }

    fn end_entry(&mut self) -> Result<(), StatusError> {
        let Some(entry) = self.entry.take() else {
            return Ok(());
        };
        let router = entry.finish()?;
        if let Some(before) = self.routers.last()
            && before.status.rsa_id >= router.status.rsa_id
        {
            return Err(StatusError::Order("routers"));
        }
        if let Some(VotedEd25519::Id(id)) = router.ed25519
            && !self.ed25519_seen.insert(id)
        {
            return Err(StatusError::Order("Ed25519 identities"));
        }
        self.routers.push(router);
        Ok(())
    }

    fn footer(&mut self, item: &Item<'_>, text: &str) -> Result<(), StatusError> {
        self.end_entry()?;
        if item.keyword != "directory-signature" {
            return Ok(());
        }
        let signed = item
            .through_space(text, 0)
            .ok_or_else(|| item.bad_argument(0))?;
        self.signed_end = signed.len();
        let signature = DirectorySignature::parse(item)?.ok_or_else(|| item.bad_argument(0))?;
        once(item, &mut self.signature, signature)
    }

    fn finish(self) -> Result<(Vote, usize), StatusError> {
        let signature = self
            .signature
            .ok_or_else(|| missing("directory-signature"))?;
        if !self.has_status {
            return Err(StatusError::Kind);
        }
        let dir_source = self.dir_source.ok_or_else(|| missing("dir-source"))?;
        let certificate = self
            .certificate
            .ok_or_else(|| missing("dir-key-certificate-version"))?;
        let is_authors = [certificate.identity, signature.identity]
            .iter()
            .all(|id| *id == dir_source.identity);
        if !is_authors {
            return Err(StatusError::Certificate);
        }
        let preamble = self.preamble;
        let lifetime = preamble.lifetime()?;
        if !lifetime.is_in_order() {
            return Err(StatusError::Order("times"));
        }
        let vote = Vote {
            lifetime,
            methods: self.methods.unwrap_or_else(|| vec![1]),
            published: self.published.ok_or_else(|| missing("published"))?,
            voting_delay: preamble
                .voting_delay
                .ok_or_else(|| missing("voting-delay"))?,
            client_versions: preamble.client_versions,
            server_versions: preamble.server_versions,
            protocols: preamble.protocols,
            known_flags: self.known_flags,
            flag_thresholds: self.flag_thresholds,
            params: preamble.params.unwrap_or_default(),
            bandwidth_file_headers: self.bandwidth_file_headers,
            bandwidth_file_digest: self.bandwidth_file_digest,
            dir_source,
            contact: self.contact.ok_or_else(|| missing("contact"))?,
            shared_rand: SharedRandVote {
                previous: preamble.shared_rand_previous,
                current: preamble.shared_rand_current,
                ..self.shared_rand
            },
            legacy_dir_key: self.legacy_dir_key,
            certificate,
            routers: self.routers,
            signature: Some(signature),
        };
        Ok((vote, self.signed_end))
    }
}

fn methods(item: &Item<'_>) -> Result<Vec<u32>, StatusError> {
    let mut methods = Vec::new();
    for (at, word) in item.args().enumerate() {
        if at >= METHODS_MAX {
            return Err(StatusError::TooMany("methods"));
        }
        methods.push(word.parse().map_err(|_| item.bad_argument(at))?);
    }
    match methods.is_empty() {
        true => Err(item.bad_argument(0).into()),
        false => Ok(methods),
    }
}
