//! Reading votes, exactly as lenient and as strict as `tor` (dir-spec 3.4.1): a vote that one
//! authority refuses all should refuse, or they compute different consensuses.
//!
//! A vote is cut where `tor` cuts it: the header ends at the first line that starts with `r`, each
//! entry at the next, the last at the footer. Within the header the order of lines is free.

use std::collections::BTreeSet;
use std::ops::Range;

use cepa_crypto::RsaId;
use memchr::memmem;

use crate::authcert::AuthCert;
use crate::consensus::{
    DirSource, DirectorySignature, Lifetime, ROUTERS_MAX, RequiredProtocols, SharedRandCommit,
    SharedRandValue, StatusError, VotingDelay, line,
};
use crate::item::{Item, ItemError, Section};
use crate::params::{Params, ParamsError};
use crate::protover::Protocols;
use crate::routerstatus::VOTED_FLAGS_MAX;
use crate::timestamp;
use crate::vote::header::{Args, Rule, Rules};
use crate::vote::part::{LIMITS, SIGNATURE, next_part};
use crate::vote::{COMMITS_MAX, SharedRandVote, Vote, VoteRouter, VotedEd25519, entry};

const START: &str = "network-status-version";
/// Bytes of a legacy key's digest.
const RSA_ID_LEN: usize = 20;
const CERTIFICATE: &str = "dir-key-certificate-version";

/// The lines of the header, those of the certificate among them.
const HEADER: &[Rule] = &[
    Rule::required(START, Args::AtLeast(1)),
    Rule::required("vote-status", Args::AtLeast(1)),
    Rule::required("published", Args::Line),
    Rule::required("valid-after", Args::Line),
    Rule::required("fresh-until", Args::Line),
    Rule::required("valid-until", Args::Line),
    Rule::required("voting-delay", Args::AtLeast(2)),
    Rule::required("known-flags", Args::AtLeast(0)),
    Rule::once("params", Args::AtLeast(0)),
    Rule::any("fingerprint", Args::Line),
    Rule::once("signing-ed25519", Args::Exactly(0)).with_object(),
    Rule::once("shared-rand-participate", Args::Exactly(0)),
    Rule::any("shared-rand-commit", Args::AtLeast(3)),
    Rule::once("shared-rand-previous-value", Args::Exactly(2)),
    Rule::once("shared-rand-current-value", Args::Exactly(2)),
    Rule::any("package", Args::Line),
    Rule::once("recommended-client-protocols", Args::Line),
    Rule::once("recommended-relay-protocols", Args::Line),
    Rule::once("required-client-protocols", Args::Line),
    Rule::once("required-relay-protocols", Args::Line),
    Rule::required(CERTIFICATE, Args::AtLeast(1)),
    Rule::required("dir-identity-key", Args::Exactly(0)).with_object(),
    Rule::required("dir-key-published", Args::Line),
    Rule::required("dir-key-expires", Args::Line),
    Rule::required("dir-signing-key", Args::Exactly(0)).with_object(),
    Rule::required("dir-key-crosscert", Args::Exactly(0)).with_object(),
    Rule::required("dir-key-certification", Args::Exactly(0)).with_object(),
    Rule::once("dir-address", Args::AtLeast(1)),
    Rule::required("contact", Args::Line),
    Rule::required("dir-source", Args::AtLeast(6)),
    Rule::once("legacy-dir-key", Args::AtLeast(1)),
    Rule::once("client-versions", Args::Line),
    Rule::once("server-versions", Args::Line),
    Rule::required("consensus-methods", Args::AtLeast(1)),
];

/// The lines of the footer.
const FOOTER: &[Rule] = &[
    Rule::once("directory-footer", Args::Exactly(0)),
    Rule::once("bandwidth-weights", Args::AtLeast(0)),
    Rule::any(SIGNATURE, Args::AtLeast(2)).with_object(),
];

/// Reads the vote that `text` starts with, the bytes of it that are signed, and where it ends.
pub(super) fn parse(text: &str) -> Result<(Vote, Range<usize>, usize), StatusError> {
    let signed = signed_part(text).ok_or(StatusError::Kind)?;
    let header_end = next_part(text, 0);
    let header = section(text.get(..header_end).unwrap_or_default(), HEADER)?;
    if header
        .items
        .first()
        .is_none_or(|first| first.keyword != START)
        || header.required("vote-status")?.arg(0)? != "vote"
        || header
            .required(START)?
            .arg(1)
            .is_ok_and(|word| word != "ns")
    {
        return Err(StatusError::Kind);
    }
    let mut vote = read_header(&header)?;
    let mut start = header_end;
    while text.get(start..).is_some_and(|rest| rest.starts_with("r ")) {
        if vote.routers.len() >= ROUTERS_MAX {
            return Err(StatusError::TooMany("routers"));
        }
        let end = next_part(text, start);
        let entry = text.get(start..end).unwrap_or_default();
        vote.routers.push(entry::read(entry, &vote.known_flags)?);
        start = end;
    }
    check_order(&vote.routers)?;
    let footer = text.get(start..).unwrap_or_default();
    // Another vote may stand behind it.
    let end = footer.find("\nnetwork-status-version ");
    let footer = end.and_then(|end| footer.get(..end + 1)).unwrap_or(footer);
    vote.signature = Some(read_footer(footer, &vote)?);
    Ok((vote, signed, start + footer.len()))
}

/// The bytes that the digest of a vote is of.
fn signed_part(text: &str) -> Option<Range<usize>> {
    let start = text.find(START)?;
    if start > 0 && text.as_bytes().get(start - 1) != Some(&b'\n') {
        return None;
    }
    let keyword = start + START.len();
    let signature = memmem::find(text.as_bytes().get(keyword..)?, b"\ndirectory-signature")?;
    let behind = keyword + signature + 1 + SIGNATURE.len();
    let space = memchr::memchr(b' ', text.as_bytes().get(behind..)?)?;
    Some(start..behind + space + 1)
}

/// A part of the document whose lines are as the rules want them.
fn section<'a>(text: &'a str, rules: &'static [Rule]) -> Result<Section<'a>, StatusError> {
    let section = Section::parse(text, LIMITS)?;
    let mut rules = Rules::new(rules);
    for item in &section.items {
        rules.check(item)?;
    }
    rules.finish()?;
    Ok(section)
}

fn read_header(header: &Section<'_>) -> Result<Vote, StatusError> {
    let time = |keyword: &str| {
        let item = header.required(keyword)?;
        timestamp::parse(item.args_text).map_err(|_| item.bad_argument(0))
    };
    let certificate = certificate(header.text)?;
    let dir_source = header.required("dir-source")?;
    let contact = header.required("contact")?;
    if contact.start < dir_source.start {
        return Err(StatusError::Misplaced("contact".to_owned()));
    }
    let dir_source = DirSource::parse(dir_source)?;
    if certificate.identity != dir_source.identity {
        return Err(StatusError::Certificate);
    }
    let first = |keyword: &str| header.all(keyword).next().map(line);
    let methods = header.required("consensus-methods")?.args();
    Ok(Vote {
        methods: methods.map(str::to_owned).collect(),
        published: time("published")?,
        lifetime: Lifetime {
            valid_after: time("valid-after")?,
            fresh_until: time("fresh-until")?,
            valid_until: time("valid-until")?,
        },
        voting_delay: VotingDelay::parse(header.required("voting-delay")?)?,
        client_versions: first("client-versions"),
        server_versions: first("server-versions"),
        protocols: protocols(header)?,
        known_flags: known_flags(header.required("known-flags")?)?,
        flag_thresholds: first("flag-thresholds"),
        params: params(header)?,
        bandwidth_file_headers: first("bandwidth-file-headers"),
        bandwidth_file_digest: first("bandwidth-file-digest"),
        dir_source,
        contact: line(contact),
        shared_rand: shared_rand(header)?,
        legacy_dir_key: header
            .optional("legacy-dir-key")?
            .and_then(|item| legacy_key(item.arg(0).unwrap_or_default())),
        certificate,
        routers: Vec::new(),
        signature: None,
    })
}

fn certificate(header: &str) -> Result<AuthCert, StatusError> {
    const LAST: &str = "\ndir-key-certification";
    const END: &str = "\n-----END SIGNATURE-----\n";
    let find = |from: usize, what: &str| {
        let rest = header.get(from..)?;
        rest.find(what).map(|at| from + at)
    };
    let start = find(0, "\ndir-key-certificate-version").map(|at| at + 1);
    let start = start.ok_or(StatusError::Certificate)?;
    let last = find(start, LAST).and_then(|last| find(last, END));
    let end = last.ok_or(StatusError::Certificate)? + END.len();
    let text = header.get(start..end).unwrap_or_default();
    AuthCert::parse(text).map_err(|_| StatusError::Certificate)
}

fn protocols(header: &Section<'_>) -> Result<RequiredProtocols, StatusError> {
    let list = |keyword: &str| match header.optional(keyword)? {
        None => Ok(None),
        Some(item) => match Protocols::parse(item.args_text) {
            Ok(_) => Ok(Some(line(item))),
            Err(_) => Err(item.bad_argument(0)),
        },
    };
    Ok(RequiredProtocols {
        recommended_client: list("recommended-client-protocols")?,
        recommended_relay: list("recommended-relay-protocols")?,
        required_client: list("required-client-protocols")?,
        required_relay: list("required-relay-protocols")?,
    })
}

fn known_flags(item: &Item<'_>) -> Result<Vec<String>, StatusError> {
    let flags: Vec<String> = item.args().map(str::to_owned).collect();
    if flags.len() > VOTED_FLAGS_MAX {
        return Err(StatusError::TooMany("known flags"));
    }
    match flags.is_sorted_by(|a, b| a < b) {
        true => Ok(flags),
        false => Err(StatusError::Order("known flags")),
    }
}

fn params(header: &Section<'_>) -> Result<Params, StatusError> {
    let Some(item) = header.optional("params")? else {
        return Ok(Params::new());
    };
    Params::parse(item.args_text).map_err(|error| StatusError::Params("params", error))
}

/// Of lines that cannot be read nothing is kept; others' votes may have newer ones.
fn shared_rand(header: &Section<'_>) -> Result<SharedRandVote, StatusError> {
    let value = |keyword: &str| -> Result<Option<SharedRandValue>, ItemError> {
        Ok(header.optional(keyword)?.and_then(SharedRandValue::read))
    };
    let participates = header.optional("shared-rand-participate")?.is_some();
    let commits = header
        .all("shared-rand-commit")
        .filter_map(|item| SharedRandCommit::parse(item).ok())
        .take(if participates { COMMITS_MAX } else { 0 });
    Ok(SharedRandVote {
        participates,
        commits: commits.collect(),
        previous: value("shared-rand-previous-value")?,
        current: value("shared-rand-current-value")?,
    })
}

/// What `tor` keeps of a legacy key: nothing unless it has 40 characters; of those the bytes that
/// stand before the first that is no digit.
fn legacy_key(text: &str) -> Option<RsaId> {
    if text.len() != 2 * RSA_ID_LEN {
        return None;
    }
    let mut bytes = [0; RSA_ID_LEN];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            break;
        };
        *byte = u8::try_from(high << 4 | low).unwrap_or_default();
    }
    Some(RsaId::from(bytes))
}

fn check_order(routers: &[VoteRouter]) -> Result<(), StatusError> {
    if !routers.is_sorted_by(|a, b| a.status.rsa_id < b.status.rsa_id) {
        return Err(StatusError::Order("routers"));
    }
    let mut seen = BTreeSet::new();
    let mut listed = routers.iter().filter_map(|router| match router.ed25519 {
        Some(VotedEd25519::Id(id)) => Some(id),
        _ => None,
    });
    match listed.all(|id| seen.insert(id)) {
        true => Ok(()),
        false => Err(StatusError::Order("Ed25519 identities")),
    }
}

/// The author's one signature.
fn read_footer(text: &str, vote: &Vote) -> Result<DirectorySignature, StatusError> {
    let footer = section(text, FOOTER)?;
    let misplaced = |item: &Item<'_>| StatusError::Misplaced(item.keyword.to_owned());
    let mut signatures: Vec<DirectorySignature> = Vec::new();
    let mut is_signed = false;
    for (place, item) in footer.items.iter().enumerate() {
        match item.keyword {
            SIGNATURE => {
                is_signed = true;
                // Of an algorithm that nobody here knows.
                let Some(signature) = DirectorySignature::parse(item)? else {
                    continue;
                };
                if signature.identity != vote.author() {
                    return Err(StatusError::Certificate);
                }
                let same = |one: &DirectorySignature| one.algorithm == signature.algorithm;
                if !signatures.iter().any(same) {
                    signatures.push(signature);
                }
            }
            _ if is_signed => return Err(misplaced(item)),
            "directory-footer" if place > 0 => return Err(misplaced(item)),
            "bandwidth-weights" => {
                let is_weight = |word: &str| crate::params::parse_word(word).is_some();
                if !item.args().all(is_weight) {
                    return Err(StatusError::Params("bandwidth-weights", ParamsError::Word));
                }
            }
            _ => {}
        }
    }
    let missing = || ItemError::Missing(SIGNATURE.to_owned());
    let signature = signatures.pop().ok_or_else(missing)?;
    match signatures.is_empty() {
        true => Ok(signature),
        false => Err(ItemError::Repeated(SIGNATURE.to_owned()).into()),
    }
}
