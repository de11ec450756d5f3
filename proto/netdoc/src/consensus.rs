//! The network consensus in both flavours, ns and microdesc (dir-spec 3.4.1, 3.8, 3.9).
//!
//! [`Consensus`] is the document as a value; [`ConsensusText`] is one that was received: its exact
//! bytes, the digests that are signed, and the value. Invariants of a parsed consensus: routers
//! ascend by RSA identity and are unique, known flags and parameters are sorted, every list is
//! within its bound. Being parsed says nothing of its signatures ([`ConsensusText::signers`]) nor
//! of its times ([`Lifetime`]). Encoding a parsed consensus of `tor` gives its bytes again.

mod encode;
mod lifetime;
mod parse;
mod sharedrand;
mod signature;
mod text;

use std::net::Ipv4Addr;

use cepa_crypto::RsaId;

use crate::item::{Item, ItemError};
use crate::number;
use crate::params::{Params, ParamsError};
use crate::routerstatus::{EntryKind, RouterStatus};

pub(crate) use encode::{encode_dir_source, encode_optional, encode_timing, word_list};
pub use lifetime::{INTERVAL_MIN, Lifetime, REASONABLY_LIVE, TESTING_INTERVAL_MIN, VotingDelay};
pub(crate) use parse::{line, missing, once};
pub use sharedrand::{COMMIT_TEXT_LEN, SharedRandCommit, SharedRandValue};
pub use signature::{DigestAlgorithm, DirectorySignature, SIGNATURE_LEN_MAX, Signers};
pub use text::{ConsensusText, SIGNATURE_KEYWORD};

/// The largest consensus that is read; those of the live network have about 3 MB.
pub const CONSENSUS_BYTES_MAX: usize = 32 << 20;
/// Most routers of one document; the live network has about 9000.
pub const ROUTERS_MAX: usize = 65_536;
/// Most signatures of one document.
pub const SIGNATURES_MAX: usize = 128;

/// Why a vote, a consensus or a document of signatures was refused.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum StatusError {
    /// The form of an item.
    #[error(transparent)]
    Item(#[from] ItemError),
    /// A line of parameters.
    #[error("{0}: {1}")]
    Params(&'static str, ParamsError),
    /// Not a document of this kind, version or flavour.
    #[error("not a document of the wanted kind, version and flavour")]
    Kind,
    /// A list that must be sorted and unique is not.
    #[error("{0} are not sorted and unique")]
    Order(&'static str),
    /// A list is longer than its bound.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// An item where it may not be.
    #[error("item {0} is out of place")]
    Misplaced(String),
    /// An embedded certificate is malformed or not of the vote's author.
    #[error("the vote's certificate is unusable")]
    Certificate,
}

/// Which digests a consensus lists for its routers (dir-spec 3.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flavour {
    /// The consensus of server descriptors, the first flavour, which documents leave unnamed.
    Ns,
    /// The consensus of microdescriptors, which clients use.
    Microdesc,
}

impl Flavour {
    /// The word of URLs and detached signatures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ns => "ns",
            Self::Microdesc => "microdesc",
        }
    }

    /// The flavour of a word.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Ns, Self::Microdesc]
            .into_iter()
            .find(|flavour| flavour.name() == name)
    }

    /// The digest that authorities sign (dir-spec 3.9).
    pub fn digest_algorithm(self) -> DigestAlgorithm {
        match self {
            Self::Ns => DigestAlgorithm::Sha1,
            Self::Microdesc => DigestAlgorithm::Sha256,
        }
    }

    pub(crate) fn entry_kind(self) -> EntryKind {
        match self {
            Self::Ns => EntryKind::Ns,
            Self::Microdesc => EntryKind::Microdesc,
        }
    }
}

/// A `dir-source` line: an authority's name and addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirSource {
    /// Its nickname, of any form; ends in `-legacy` for the entry of an authority's old key.
    pub nickname: String,
    /// The digest of its long-term (v3) identity key.
    pub identity: RsaId,
    /// Its host name, or its address again.
    pub hostname: String,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its DirPort.
    pub dir_port: u16,
    /// Its ORPort.
    pub or_port: u16,
}

impl DirSource {
    pub(crate) fn parse(item: &Item<'_>) -> Result<Self, ItemError> {
        let port = |at| number::port(item.arg(at)?).ok_or_else(|| item.bad_argument(at));
        Ok(Self {
            nickname: item.arg(0)?.to_owned(),
            identity: item.arg_as(1)?,
            hostname: item.arg(2)?.to_owned(),
            ip: item.arg_as(3)?,
            dir_port: port(4)?,
            or_port: port(5)?,
        })
    }
}

/// An authority that took part in a consensus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsensusAuthority {
    /// Name and addresses.
    pub dir_source: DirSource,
    /// Its contact line; none in the entry of a legacy key.
    pub contact: Option<String>,
    /// The digest of its vote; none in the entry of a legacy key.
    pub vote_digest: Option<[u8; 20]>,
}

/// The protocols that authorities recommend and demand, as they stand on their lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequiredProtocols {
    /// `recommended-client-protocols`
    pub recommended_client: Option<String>,
    /// `recommended-relay-protocols`
    pub recommended_relay: Option<String>,
    /// `required-client-protocols`
    pub required_client: Option<String>,
    /// `required-relay-protocols`
    pub required_relay: Option<String>,
}

/// A consensus of either flavour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consensus {
    /// Its flavour.
    pub flavour: Flavour,
    /// The method by which it was computed.
    pub method: u32,
    /// Its times.
    pub lifetime: Lifetime,
    /// The delays of the voting schedule.
    pub voting_delay: VotingDelay,
    /// Recommended client versions, joined by commas; empty if nobody recommends any.
    pub client_versions: Option<String>,
    /// Recommended relay versions, joined by commas.
    pub server_versions: Option<String>,
    /// Every flag that an entry may have, sorted.
    pub known_flags: Vec<String>,
    /// Recommended and required protocols.
    pub protocols: RequiredProtocols,
    /// Network parameters; the line is left out if there are none.
    pub params: Params,
    /// The shared random value of the period before.
    pub shared_rand_previous: Option<SharedRandValue>,
    /// The shared random value of this period.
    pub shared_rand_current: Option<SharedRandValue>,
    /// Those who voted, ascending by identity.
    pub authorities: Vec<ConsensusAuthority>,
    /// The relays, ascending by RSA identity.
    pub routers: Vec<RouterStatus>,
    /// The weights of path selection (dir-spec 3.8.3); the line is left out if there are none.
    pub bandwidth_weights: Params,
    /// The signatures that it came with.
    pub signatures: Vec<DirectorySignature>,
}

impl Consensus {
    /// The entry of a relay.
    pub fn router(&self, id: &RsaId) -> Option<&RouterStatus> {
        let at = self
            .routers
            .binary_search_by(|router| router.rsa_id.cmp(id))
            .ok()?;
        self.routers.get(at)
    }
}

#[cfg(test)]
mod tests;
