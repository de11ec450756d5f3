//! Reading consensuses (dir-spec 3.4.1).
//!
//! One pass over the items in the order of the document: preamble, authorities, routers, footer,
//! signatures. Unknown items are skipped, known ones may not stand in another part.

use std::time::SystemTime;

use crate::consensus::{
    CONSENSUS_BYTES_MAX, Consensus, ConsensusAuthority, DirSource, DirectorySignature, Flavour,
    Lifetime, ROUTERS_MAX, RequiredProtocols, SIGNATURES_MAX, SharedRandValue, StatusError,
    VotingDelay,
};
use crate::item::{Item, ItemError, Items, Limits};
use crate::params::Params;
use crate::protover::Protocols;
use crate::routerstatus::{AUTHORITIES_MAX, EntryReader, KNOWN_FLAGS_MAX, RouterStatus};

const LIMITS: Limits = Limits {
    bytes_max: CONSENSUS_BYTES_MAX,
    items_max: ROUTERS_MAX * 16 + 4096,
};

/// The lines of the preamble.
#[derive(Debug, Default)]
struct Preamble {
    valid_after: Option<SystemTime>,
    fresh_until: Option<SystemTime>,
    valid_until: Option<SystemTime>,
    voting_delay: Option<VotingDelay>,
    client_versions: Option<String>,
    server_versions: Option<String>,
    known_flags: Option<Vec<String>>,
    protocols: RequiredProtocols,
    params: Option<Params>,
    shared_rand_previous: Option<SharedRandValue>,
    shared_rand_current: Option<SharedRandValue>,
}

impl Preamble {
    /// Takes an item that is one of these; says whether it was.
    fn item(&mut self, item: &Item<'_>) -> Result<bool, StatusError> {
        match item.keyword {
            "valid-after" => once(item, &mut self.valid_after, item.timestamp(0)?)?,
            "fresh-until" => once(item, &mut self.fresh_until, item.timestamp(0)?)?,
            "valid-until" => once(item, &mut self.valid_until, item.timestamp(0)?)?,
            "voting-delay" => once(item, &mut self.voting_delay, VotingDelay::parse(item)?)?,
            "client-versions" => once(item, &mut self.client_versions, line(item))?,
            "server-versions" => once(item, &mut self.server_versions, line(item))?,
            "known-flags" => once(item, &mut self.known_flags, known_flags(item)?)?,
            "params" => {
                let params = Params::parse(item.args_text);
                let params = params.map_err(|error| StatusError::Params("params", error))?;
                once(item, &mut self.params, params)?;
            }
            "shared-rand-previous-value" => {
                self.shared_rand_previous = shared_rand(item, self.shared_rand_previous)?;
            }
            "shared-rand-current-value" => {
                self.shared_rand_current = shared_rand(item, self.shared_rand_current)?;
            }
            _ => return self.protocols(item),
        }
        Ok(true)
    }

    fn protocols(&mut self, item: &Item<'_>) -> Result<bool, StatusError> {
        let place = match item.keyword {
            "recommended-client-protocols" => &mut self.protocols.recommended_client,
            "recommended-relay-protocols" => &mut self.protocols.recommended_relay,
            "required-client-protocols" => &mut self.protocols.required_client,
            "required-relay-protocols" => &mut self.protocols.required_relay,
            _ => return Ok(false),
        };
        Protocols::parse(item.args_text).map_err(|_| item.bad_argument(0))?;
        once(item, place, item.args_text.to_owned())?;
        Ok(true)
    }

    fn lifetime(&self) -> Result<Lifetime, StatusError> {
        Ok(Lifetime {
            valid_after: self.valid_after.ok_or_else(|| missing("valid-after"))?,
            fresh_until: self.fresh_until.ok_or_else(|| missing("fresh-until"))?,
            valid_until: self.valid_until.ok_or_else(|| missing("valid-until"))?,
        })
    }
}

/// Fills a place that may be filled once.
pub(crate) fn once<T>(item: &Item<'_>, place: &mut Option<T>, value: T) -> Result<(), StatusError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(ItemError::Repeated(item.keyword.to_owned()).into()),
    }
}

pub(crate) fn missing(keyword: &str) -> StatusError {
    ItemError::Missing(keyword.to_owned()).into()
}

/// A line that is kept as it stands.
pub(crate) fn line(item: &Item<'_>) -> String {
    item.args_text.to_owned()
}

fn shared_rand(
    item: &Item<'_>,
    before: Option<SharedRandValue>,
) -> Result<Option<SharedRandValue>, StatusError> {
    match (before, item.args().count()) {
        (None, 2) => Ok(SharedRandValue::read(item)),
        (Some(_), _) => Err(ItemError::Repeated(item.keyword.to_owned()).into()),
        (None, _) => Err(item.bad_argument(2).into()),
    }
}

fn known_flags(item: &Item<'_>) -> Result<Vec<String>, StatusError> {
    let flags: Vec<String> = item
        .args()
        .take(KNOWN_FLAGS_MAX + 1)
        .map(str::to_owned)
        .collect();
    if flags.len() > KNOWN_FLAGS_MAX {
        return Err(StatusError::TooMany("known flags"));
    }
    if !flags.is_sorted_by(|a, b| a < b) {
        return Err(StatusError::Order("known flags"));
    }
    Ok(flags)
}

/// The part of the document that the reader is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Preamble,
    Authorities,
    Routers,
    Footer,
    Signatures,
}

struct Reader {
    flavour: Flavour,
    part: Part,
    preamble: Preamble,
    method: Option<u32>,
    has_status: bool,
    authorities: Vec<ConsensusAuthority>,
    entry: Option<EntryReader>,
    known_flags: Vec<String>,
    routers: Vec<RouterStatus>,
    bandwidth_weights: Option<Params>,
    signatures: Vec<DirectorySignature>,
    /// Offset behind the first signature's keyword and space.
    signed_end: Option<usize>,
}

/// Reads a consensus; also says how many of its first bytes are signed.
pub(super) fn parse(text: &str) -> Result<(Consensus, usize), StatusError> {
    let mut items = Items::new(text, LIMITS)?;
    let first = items.next().ok_or(StatusError::Kind)??;
    let mut reader = Reader::start(&first)?;
    for item in items {
        reader.item(&item?, text)?;
    }
    reader.finish()
}

impl Reader {
    fn start(first: &Item<'_>) -> Result<Self, StatusError> {
        let mut args = first.args();
        let is_first = first.start == 0 && first.keyword == "network-status-version";
        if !is_first || args.next() != Some("3") {
            return Err(StatusError::Kind);
        }
        let flavour = Flavour::from_name(args.next().unwrap_or("ns")).ok_or(StatusError::Kind)?;
        Ok(Self {
            flavour,
            part: Part::Preamble,
            preamble: Preamble::default(),
            method: None,
            has_status: false,
            authorities: Vec::new(),
            entry: None,
            known_flags: Vec::new(),
            routers: Vec::new(),
            bandwidth_weights: None,
            signatures: Vec::new(),
            signed_end: None,
        })
    }

    fn item(&mut self, item: &Item<'_>, text: &str) -> Result<(), StatusError> {
        let part = match item.keyword {
            "dir-source" => Part::Authorities,
            "r" => Part::Routers,
            "directory-footer" => Part::Footer,
            "directory-signature" => Part::Signatures,
            _ => self.part,
        };
        let is_entry = matches!(self.part, Part::Routers);
        if part < self.part || (part > Part::Footer && self.part < Part::Footer) {
            return Err(StatusError::Misplaced(item.keyword.to_owned()));
        }
        if is_entry && (part != Part::Routers || item.keyword == "r") {
            self.end_entry()?;
        }
        if self.part == Part::Preamble && part != Part::Preamble {
            self.known_flags = self
                .preamble
                .known_flags
                .clone()
                .ok_or_else(|| missing("known-flags"))?;
        }
        self.part = part;
        match part {
            Part::Preamble => self.preamble(item),
            Part::Authorities => self.authority(item),
            Part::Routers => self.router(item),
            Part::Footer => self.footer(item),
            Part::Signatures => self.signature(item, text),
        }
    }

    fn preamble(&mut self, item: &Item<'_>) -> Result<(), StatusError> {
        match item.keyword {
            "network-status-version" => Err(StatusError::Kind),
            "vote-status" if item.arg(0)? == "consensus" && !self.has_status => {
                self.has_status = true;
                Ok(())
            }
            "vote-status" => Err(StatusError::Kind),
            "consensus-method" => once(item, &mut self.method, item.arg_as(0)?),
            _ => self.preamble.item(item).map(drop),
        }
    }

    fn authority(&mut self, item: &Item<'_>) -> Result<(), StatusError> {
        if item.keyword == "dir-source" {
            if self.authorities.len() >= AUTHORITIES_MAX {
                return Err(StatusError::TooMany("authorities"));
            }
            let dir_source = DirSource::parse(item)?;
            self.authorities.push(ConsensusAuthority {
                dir_source,
                contact: None,
                vote_digest: None,
            });
            return Ok(());
        }
        let Some(last) = self.authorities.last_mut() else {
            return Ok(());
        };
        match item.keyword {
            "contact" => once(item, &mut last.contact, line(item)),
            "vote-digest" => {
                let id: cepa_crypto::RsaId = item.arg_as(0)?;
                once(item, &mut last.vote_digest, *id.as_bytes())
            }
            _ => Ok(()),
        }
    }

    fn router(&mut self, item: &Item<'_>) -> Result<(), StatusError> {
        if item.keyword == "r" {
            if self.routers.len() >= ROUTERS_MAX {
                return Err(StatusError::TooMany("routers"));
            }
            self.entry = Some(EntryReader::start(self.flavour.entry_kind(), item)?);
        } else if let Some(entry) = &mut self.entry {
            entry.item(item, &self.known_flags)?;
        }
        Ok(())
    }

    fn end_entry(&mut self) -> Result<(), StatusError> {
        let Some(entry) = self.entry.take() else {
            return Ok(());
        };
        let status = entry.finish()?;
        if let Some(before) = self.routers.last()
            && before.rsa_id >= status.rsa_id
        {
            return Err(StatusError::Order("routers"));
        }
        self.routers.push(status);
        Ok(())
    }

    fn footer(&mut self, item: &Item<'_>) -> Result<(), StatusError> {
        if item.keyword != "bandwidth-weights" {
            return Ok(());
        }
        let weights = Params::parse(item.args_text);
        let weights = weights.map_err(|error| StatusError::Params("bandwidth-weights", error))?;
        once(item, &mut self.bandwidth_weights, weights)
    }

    fn signature(&mut self, item: &Item<'_>, text: &str) -> Result<(), StatusError> {
        if item.keyword != "directory-signature" {
            return Err(StatusError::Misplaced(item.keyword.to_owned()));
        }
        if self.signed_end.is_none() {
            let signed = item
                .through_space(text, 0)
                .ok_or_else(|| item.bad_argument(0))?;
            self.signed_end = Some(signed.len());
        }
        if self.signatures.len() >= SIGNATURES_MAX {
            return Err(StatusError::TooMany("signatures"));
        }
        self.signatures.extend(DirectorySignature::parse(item)?);
        Ok(())
    }

    fn finish(self) -> Result<(Consensus, usize), StatusError> {
        let signed_end = self
            .signed_end
            .ok_or_else(|| missing("directory-signature"))?;
        if !self.has_status {
            return Err(StatusError::Kind);
        }
        let lifetime = self.preamble.lifetime()?;
        if !lifetime.is_in_order() {
            return Err(StatusError::Order("times"));
        }
        let preamble = self.preamble;
        let consensus = Consensus {
            flavour: self.flavour,
            method: self.method.ok_or_else(|| missing("consensus-method"))?,
            lifetime,
            voting_delay: preamble
                .voting_delay
                .ok_or_else(|| missing("voting-delay"))?,
            client_versions: preamble.client_versions,
            server_versions: preamble.server_versions,
            known_flags: self.known_flags,
            protocols: preamble.protocols,
            params: preamble.params.unwrap_or_default(),
            shared_rand_previous: preamble.shared_rand_previous,
            shared_rand_current: preamble.shared_rand_current,
            authorities: self.authorities,
            routers: self.routers,
            bandwidth_weights: self.bandwidth_weights.unwrap_or_default(),
            signatures: self.signatures,
        };
        Ok((consensus, signed_end))
    }
}
