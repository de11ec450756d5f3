//! What may be asked of a directory, as a type and as HTTP (dir-spec 4, 5, 6; appendix B).
//!
//! Clients turn a [`DirRequest`] into method, path and headers; servers read a stranger's back into
//! one. Every list is bounded by [`ITEMS_MAX`], identities may be cut to 6 hex digits where the
//! specification allows it, and letters may be in either case: `tor` writes them upper, Arti lower.

use std::fmt::Write as _;

use cepa_crypto::RsaId;
use cepa_crypto::encoding::{base64_array, base64_unpadded, hex_array, hex_decode, hex_upper};
use cepa_netdoc::consensus::Flavour;

/// Most documents or identities that one request may name; Arti asks for 500 microdescriptors.
pub const ITEMS_MAX: usize = 1000;
/// Longest path that is read: [`ITEMS_MAX`] pairs of identity and key digest.
pub const PATH_LEN_MAX: usize = 96 * 1024;
/// Fewest hexadecimal digits of an identity (dir-spec 4.3 asks for three bytes).
const PREFIX_DIGITS_MIN: usize = 6;
/// The header that names the consensus which the asker has (dir-spec 4.3).
pub const DIFF_HEADER: &str = "X-Or-Diff-From-Consensus";

/// The first bytes of an authority's v3 identity: 3 to 20.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdPrefix(Vec<u8>);

impl IdPrefix {
    /// The short form that `tor` asks with: three bytes.
    pub fn short(id: &RsaId) -> Self {
        IdPrefix(
            id.as_bytes()
                .iter()
                .copied()
                .take(PREFIX_DIGITS_MIN / 2)
                .collect(),
        )
    }

    /// Whether `id` begins with this.
    pub fn matches(&self, id: &RsaId) -> bool {
        id.as_bytes().starts_with(&self.0)
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = hex_decode(text)?;
        let fits = (PREFIX_DIGITS_MIN / 2..=20).contains(&bytes.len());
        fits.then_some(IdPrefix(bytes))
    }
}

/// Which server descriptors or extra-infos.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DescQuery {
    /// All server descriptors or extra-infos that the directory knows.
    All,
    /// The server's own.
    Own,
    /// The documents of these SHA-1 digests.
    Digests(Vec<[u8; 20]>),
    /// The newest of each relay.
    Relays(Vec<RsaId>),
}

/// Which certificates of authorities are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertQuery {
    /// All certificates that the directory knows.
    All,
    /// The server's own.
    Own,
    /// The certificates of these v3 identities.
    Identities(Vec<RsaId>),
    /// The certificates of the signing keys with these digests.
    SigningKeys(Vec<RsaId>),
    /// The certificates of these v3 identities, each with the digest of its signing key.
    Pairs(Vec<(RsaId, RsaId)>),
}

/// Which round a vote or consensus belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// The one of the consensus in force.
    Current,
    /// The one being voted on.
    Next,
}

/// Which votes are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VoteQuery {
    /// The server's own.
    Own,
    /// The votes of the authorities with these v3 identities.
    Identities(Vec<RsaId>),
    /// The votes of these SHA-1 digests.
    Digests(Vec<[u8; 20]>),
}

/// One request of the directory protocol. Bodies of uploads travel beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirRequest {
    /// The consensus in force.
    Consensus {
        /// The flavour of the consensus.
        flavour: Flavour,
        /// The asker wants it only if more than half of these have signed; empty: in any case.
        signers: Vec<IdPrefix>,
        /// SHA3-256 of the signed part of consensuses that the asker has: a diff will do.
        diff_from: Vec<[u8; 32]>,
    },
    /// The consensus being signed.
    NextConsensus(Flavour),
    /// Authority certificates.
    Certificates(CertQuery),
    /// Microdescriptors by SHA-256.
    Microdescs(Vec<[u8; 32]>),
    /// Server descriptors.
    ServerDescs(DescQuery),
    /// Extra-info documents.
    ExtraInfos(DescQuery),
    /// Votes.
    Votes(Round, VoteQuery),
    /// Detached signatures of the consensus being signed.
    Signatures,
    /// The bandwidth file that an authority votes with.
    Bandwidth,
    /// Upload: a server descriptor, its extra-info behind it.
    PostDescriptor,
    /// Upload: a vote.
    PostVote,
    /// Upload: detached signatures.
    PostSignatures,
    /// The onion-service descriptor of a blinded key (rend-spec-v3 2.2.6).
    HsDescriptor([u8; 32]),
    /// Upload: an onion-service descriptor.
    PostHsDescriptor,
}

/// Why a request is not understood; the consequence is the HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No such resource (404).
    #[error("no such resource")]
    NotFound,
    /// The resource exists, its arguments are malformed or too many (400).
    #[error("malformed arguments")]
    Malformed,
    /// Neither GET nor POST (405).
    #[error("method not allowed")]
    Method,
}

impl DirRequest {
    /// True for an upload.
    pub fn is_post(&self) -> bool {
        matches!(
            self,
            Self::PostDescriptor | Self::PostVote | Self::PostSignatures | Self::PostHsDescriptor
        )
    }

    /// The path to ask for, as `tor` writes it.
    pub fn path(&self) -> String {
        match self {
            Self::Consensus {
                flavour, signers, ..
            } => {
                let mut ids: Vec<_> = signers.iter().map(|id| hex_upper(&id.0)).collect();
                ids.sort();
                let base = consensus_path(Round::Current, *flavour);
                let slash = if ids.is_empty() { "" } else { "/" };
                format!("{base}{slash}{}.z", ids.join("+"))
            }
            Self::NextConsensus(flavour) => format!("{}.z", consensus_path(Round::Next, *flavour)),
            Self::Certificates(query) => format!("/tor/keys/{}", cert_path(query)),
            Self::Microdescs(digests) => {
                let names: Vec<_> = digests.iter().map(|d| base64_unpadded(d)).collect();
                format!("/tor/micro/d/{}.z", names.join("-"))
            }
            Self::ServerDescs(query) => format!("/tor/server/{}.z", desc_path(query)),
            Self::ExtraInfos(query) => format!("/tor/extra/{}.z", desc_path(query)),
            Self::Votes(round, query) => {
                let base = round_path(*round);
                match query {
                    VoteQuery::Own => format!("{base}/authority.z"),
                    VoteQuery::Identities(ids) => format!("{base}/{}.z", join_ids(ids)),
                    VoteQuery::Digests(digests) => format!("{base}/d/{}.z", join_hex(digests)),
                }
            }
            Self::Signatures => "/tor/status-vote/next/consensus-signatures.z".to_owned(),
            Self::Bandwidth => "/tor/status-vote/next/bandwidth.z".to_owned(),
            Self::PostDescriptor => "/tor/".to_owned(),
            Self::PostVote => "/tor/post/vote".to_owned(),
            Self::PostSignatures => "/tor/post/consensus-signature".to_owned(),
            Self::HsDescriptor(key) => format!("/tor/hs/3/{}", base64_unpadded(key)),
            Self::PostHsDescriptor => "/tor/hs/3/publish".to_owned(),
        }
    }

    /// Headers that belong to the request: the consensuses of which a diff will do.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Consensus { diff_from, .. } if !diff_from.is_empty() => {
                let names: Vec<_> = diff_from.iter().map(|d| hex_upper(d)).collect();
                vec![(DIFF_HEADER, names.join(", "))]
            }
            _ => Vec::new(),
        }
    }

    /// Reads what a stranger asks: method, path (with or without `.z`), and the value of
    /// [`DIFF_HEADER`] if there is one. Says whether the path ended in `.z` too.
    pub fn parse(
        method: &str,
        path: &str,
        diff_header: Option<&str>,
    ) -> Result<(Self, bool), RequestError> {
        if path.len() > PATH_LEN_MAX {
            return Err(RequestError::Malformed);
        }
        match method {
            "POST" => Ok((parse_post(path)?, false)),
            "GET" => {
                let (path, z) = match path.strip_suffix(".z") {
                    Some(path) => (path, true),
                    None => (path, false),
                };
                let mut request = parse_get(path.strip_prefix("/tor/").unwrap_or(path))?;
                if let (Self::Consensus { diff_from, .. }, Some(header)) =
                    (&mut request, diff_header)
                {
                    // A header that cannot be read asks for no diff; the whole document will do.
                    diff_from
                        .extend(list(header, ',', |d| hex_array(d.trim())).unwrap_or_default());
                }
                Ok((request, z))
            }
            _ => Err(RequestError::Method),
        }
    }
}

fn parse_post(path: &str) -> Result<DirRequest, RequestError> {
    match path {
        "/tor/" | "/tor" => Ok(DirRequest::PostDescriptor),
        "/tor/post/vote" => Ok(DirRequest::PostVote),
        "/tor/post/consensus-signature" => Ok(DirRequest::PostSignatures),
        "/tor/hs/3/publish" => Ok(DirRequest::PostHsDescriptor),
        _ => Err(RequestError::NotFound),
    }
}

fn parse_get(path: &str) -> Result<DirRequest, RequestError> {
    let (resource, rest) = path.split_once('/').ok_or(RequestError::NotFound)?;
    let malformed = RequestError::Malformed;
    match resource {
        "status-vote" => {
            let (round, rest) = rest.split_once('/').ok_or(RequestError::NotFound)?;
            match round {
                "current" => parse_round(Round::Current, rest),
                "next" => parse_round(Round::Next, rest),
                _ => Err(RequestError::NotFound),
            }
        }
        "keys" => Ok(DirRequest::Certificates(parse_cert_query(rest)?)),
        "micro" => {
            let digests = rest.strip_prefix("d/").ok_or(RequestError::NotFound)?;
            let digests = list(digests, '-', base64_array);
            Ok(DirRequest::Microdescs(digests.ok_or(malformed)?))
        }
        "hs" => {
            let key = rest.strip_prefix("3/").ok_or(RequestError::NotFound)?;
            Ok(DirRequest::HsDescriptor(
                base64_array(key).ok_or(malformed)?,
            ))
        }
        "server" => Ok(DirRequest::ServerDescs(parse_desc_query(rest)?)),
        "extra" => Ok(DirRequest::ExtraInfos(parse_desc_query(rest)?)),
        _ => Err(RequestError::NotFound),
    }
}

fn parse_round(round: Round, rest: &str) -> Result<DirRequest, RequestError> {
    let (name, args) = rest.split_once('/').unwrap_or((rest, ""));
    let flavour = match name {
        "consensus" | "consensus-ns" => Some(Flavour::Ns),
        "consensus-microdesc" => Some(Flavour::Microdesc),
        _ => None,
    };
    match (round, flavour, name) {
        (Round::Current, Some(flavour), _) => parse_consensus(flavour, args),
        (Round::Next, Some(flavour), _) => Ok(DirRequest::NextConsensus(flavour)),
        (Round::Next, None, "consensus-signatures") => Ok(DirRequest::Signatures),
        (Round::Next, None, "bandwidth") => Ok(DirRequest::Bandwidth),
        (_, None, "authority") => Ok(DirRequest::Votes(round, VoteQuery::Own)),
        (_, None, "d") => {
            let digests = list(args, '+', hex_array).ok_or(RequestError::Malformed)?;
            Ok(DirRequest::Votes(round, VoteQuery::Digests(digests)))
        }
        _ => {
            let ids = list(name, '+', rsa_id).ok_or(RequestError::NotFound)?;
            Ok(DirRequest::Votes(round, VoteQuery::Identities(ids)))
        }
    }
}

/// `[/diff/HASH][/ID+ID…]` behind the name of a consensus.
fn parse_consensus(flavour: Flavour, args: &str) -> Result<DirRequest, RequestError> {
    let malformed = RequestError::Malformed;
    let (diff_from, ids) = match args.strip_prefix("diff/") {
        Some(args) => {
            let (hash, ids) = args.split_once('/').unwrap_or((args, ""));
            (vec![hex_array(hash).ok_or(malformed)?], ids)
        }
        None => (Vec::new(), args),
    };
    let signers = if ids.is_empty() {
        Some(Vec::new())
    } else {
        list(ids, '+', IdPrefix::parse)
    };
    Ok(DirRequest::Consensus {
        flavour,
        signers: signers.ok_or(malformed)?,
        diff_from,
    })
}

fn parse_cert_query(rest: &str) -> Result<CertQuery, RequestError> {
    let (kind, args) = rest.split_once('/').unwrap_or((rest, ""));
    let query = match kind {
        "all" => Some(CertQuery::All),
        "authority" => Some(CertQuery::Own),
        "fp" => list(args, '+', rsa_id).map(CertQuery::Identities),
        "sk" => list(args, '+', rsa_id).map(CertQuery::SigningKeys),
        "fp-sk" => list(args, '+', |pair| {
            let (id, key) = pair.split_once('-')?;
            Some((rsa_id(id)?, rsa_id(key)?))
        })
        .map(CertQuery::Pairs),
        _ => return Err(RequestError::NotFound),
    };
    query.ok_or(RequestError::Malformed)
}

fn parse_desc_query(rest: &str) -> Result<DescQuery, RequestError> {
    let (kind, args) = rest.split_once('/').unwrap_or((rest, ""));
    let query = match kind {
        "all" => Some(DescQuery::All),
        "authority" => Some(DescQuery::Own),
        "fp" => list(args, '+', rsa_id).map(DescQuery::Relays),
        "d" => list(args, '+', hex_array).map(DescQuery::Digests),
        _ => return Err(RequestError::NotFound),
    };
    query.ok_or(RequestError::Malformed)
}

/// Reads a bounded list, all of whose items must be well-formed.
fn list<T>(text: &str, separator: char, item: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let items: Option<Vec<T>> = text
        .split(separator)
        .take(ITEMS_MAX + 1)
        .map(item)
        .collect();
    items.filter(|items| items.len() <= ITEMS_MAX)
}

fn rsa_id(text: &str) -> Option<RsaId> {
    hex_array(text).map(RsaId::from)
}

fn round_path(round: Round) -> &'static str {
    match round {
        Round::Current => "/tor/status-vote/current",
        Round::Next => "/tor/status-vote/next",
    }
}

fn consensus_path(round: Round, flavour: Flavour) -> String {
    match flavour {
        Flavour::Ns => format!("{}/consensus", round_path(round)),
        Flavour::Microdesc => format!("{}/consensus-microdesc", round_path(round)),
    }
}

fn cert_path(query: &CertQuery) -> String {
    match query {
        CertQuery::All => "all".to_owned(),
        CertQuery::Own => "authority".to_owned(),
        CertQuery::Identities(ids) => format!("fp/{}", join_ids(ids)),
        CertQuery::SigningKeys(ids) => format!("sk/{}", join_ids(ids)),
        CertQuery::Pairs(pairs) => {
            let mut path = "fp-sk/".to_owned();
            for (index, (id, key)) in pairs.iter().enumerate() {
                let plus = if index == 0 { "" } else { "+" };
                // Writing to a string cannot fail.
                let _ = write!(path, "{plus}{id}-{key}");
            }
            path
        }
    }
}

fn desc_path(query: &DescQuery) -> String {
    match query {
        DescQuery::All => "all".to_owned(),
        DescQuery::Own => "authority".to_owned(),
        DescQuery::Digests(digests) => format!("d/{}", join_hex(digests)),
        DescQuery::Relays(ids) => format!("fp/{}", join_ids(ids)),
    }
}

fn join_ids(ids: &[RsaId]) -> String {
    ids.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("+")
}

fn join_hex(digests: &[[u8; 20]]) -> String {
    digests
        .iter()
        .map(|d| hex_upper(d))
        .collect::<Vec<_>>()
        .join("+")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(request: DirRequest) {
        let method = if request.is_post() { "POST" } else { "GET" };
        let header = request.headers().into_iter().next().map(|(_, value)| value);
        let read = DirRequest::parse(method, &request.path(), header.as_deref());
        assert_eq!(read.map(|(request, _)| request), Ok(request));
    }

    #[test]
    fn requests_survive_http() {
        let id = RsaId::from([0xAB; 20]);
        round_trip(DirRequest::Consensus {
            flavour: Flavour::Microdesc,
            signers: vec![IdPrefix::short(&id)],
            diff_from: vec![[7; 32], [9; 32]],
        });
        round_trip(DirRequest::NextConsensus(Flavour::Ns));
        round_trip(DirRequest::Certificates(CertQuery::All));
        round_trip(DirRequest::Certificates(CertQuery::Identities(vec![
            id, id,
        ])));
        round_trip(DirRequest::Certificates(CertQuery::Pairs(vec![
            (id, id);
            3
        ])));
        round_trip(DirRequest::Microdescs(vec![[0xFF; 32], [0xFB; 32]]));
        round_trip(DirRequest::ServerDescs(DescQuery::Relays(vec![id])));
        round_trip(DirRequest::ExtraInfos(DescQuery::Digests(vec![[1; 20]; 2])));
        round_trip(DirRequest::Votes(
            Round::Next,
            VoteQuery::Identities(vec![id]),
        ));
        round_trip(DirRequest::Votes(Round::Current, VoteQuery::Own));
        round_trip(DirRequest::Signatures);
        round_trip(DirRequest::PostVote);
        round_trip(DirRequest::HsDescriptor([0xFB; 32]));
        round_trip(DirRequest::PostHsDescriptor);
    }

    #[test]
    fn both_forms_of_a_diff_request_are_read() {
        let hash = "0a".repeat(32);
        let path = format!("/tor/status-vote/current/consensus-microdesc/diff/{hash}/ABCDEF.z");
        let (request, z) = DirRequest::parse("GET", &path, None).expect("well-formed");
        assert!(z);
        let DirRequest::Consensus {
            diff_from, signers, ..
        } = request
        else {
            panic!("a consensus was asked for")
        };
        assert_eq!((diff_from, signers.len()), (vec![[10; 32]], 1));
    }

    #[test]
    fn identities_match_by_their_beginning_in_either_case() {
        let path = format!("/tor/status-vote/current/consensus/{}", "ab".repeat(20));
        let (request, z) = DirRequest::parse("GET", &path, None).expect("well-formed");
        let DirRequest::Consensus {
            signers, flavour, ..
        } = request
        else {
            panic!("a consensus was asked for")
        };
        assert_eq!((z, flavour), (false, Flavour::Ns));
        assert!(
            signers
                .iter()
                .all(|id| id.matches(&RsaId::from([0xAB; 20])))
        );
        assert!(
            !signers
                .iter()
                .any(|id| id.matches(&RsaId::from([0xAC; 20])))
        );
    }

    #[test]
    fn too_many_items_and_wrong_ones_are_refused() {
        let many = vec!["ab".repeat(20); ITEMS_MAX + 1].join("+");
        for path in [format!("/tor/keys/fp/{many}"), "/tor/keys/fp/XY".into()] {
            assert_eq!(
                DirRequest::parse("GET", &path, None),
                Err(RequestError::Malformed)
            );
        }
        let nothing = DirRequest::parse("GET", "/tor/nothing/here", None);
        assert_eq!(nothing, Err(RequestError::NotFound));
        assert_eq!(
            DirRequest::parse("PUT", "/tor/", None),
            Err(RequestError::Method)
        );
    }

    proptest! {
        #[test]
        fn any_path_is_read_or_refused(path in "/(tor/)?[a-z/+.-]{0,12}\\PC{0,60}", get: bool) {
            let _ = DirRequest::parse(if get { "GET" } else { "POST" }, &path, Some(&path));
        }
    }
}
