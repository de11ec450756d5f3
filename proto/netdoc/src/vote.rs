//! Votes: an authority's view of the network, signed, one every voting interval
//! (dir-spec 3.4.1; the order of lines is `tor`'s).
//!
//! [`Vote`] is the document as a value, [`VoteText`] one that was received with its bytes and
//! digest. Invariants of a parsed vote: its certificate is the author's and verified, routers
//! ascend by RSA identity and are unique, Ed25519 identities are unique, flags are among the known
//! ones, known flags and parameters are sorted, exactly one signature. The signature itself is
//! checked by [`VoteText::is_signed`]. Encoding a parsed vote of `tor` gives its bytes again.
//! Whatever `tor` takes in a vote is taken, and texts of which a consensus is made are kept as they
//! stand: authorities that read one vote differently sign different consensuses.

mod claim;
mod encode;
mod entry;
mod header;
mod parse;
mod part;
mod stats;

use std::sync::Arc;
use std::time::SystemTime;

use cepa_crypto::{Ed25519Id, RsaId, digest};

use crate::authcert::AuthCert;
use crate::consensus::{
    DirSource, DirectorySignature, Lifetime, RequiredProtocols, SharedRandCommit, SharedRandValue,
    StatusError, VotingDelay,
};
use crate::params::Params;
use crate::routerstatus::RouterStatus;

pub use claim::{CLAIM_LEN_MAX, VoteClaim};
pub use entry::EntryError;
pub use stats::{FlagThresholds, Stats};

/// The largest vote that is read; those of the live network have about 7 MB.
pub const VOTE_BYTES_MAX: usize = 32 << 20;
/// Most commitments that a vote lists: one an authority.
pub const COMMITS_MAX: usize = 128;

/// What the `id` line of an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VotedEd25519 {
    /// `id ed25519 none`: the relay has none.
    None,
    /// Its Ed25519 identity.
    Id(Ed25519Id),
}

/// An `m` line of a vote: the microdescriptor that some methods make of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VotedMicrodesc {
    /// The consensus methods, ascending.
    pub methods: Vec<u32>,
    /// The SHA-256 of the microdescriptor; none if these methods have another digest only.
    pub digest: Option<[u8; 32]>,
}

impl VotedMicrodesc {
    /// The line without its keyword.
    pub fn encode(&self) -> String {
        let methods: Vec<String> = self.methods.iter().map(u32::to_string).collect();
        let digest = self.digest.as_ref().map(|digest| {
            let text = cepa_crypto::encoding::base64_unpadded(digest);
            format!(" sha256={text}")
        });
        methods.join(",") + &digest.unwrap_or_default()
    }
}

/// The `w` line of a vote; none of it, no line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VotedBandwidth {
    /// `Bandwidth=`: what the relay advertises, in kilobytes a second.
    pub bandwidth: Option<u32>,
    /// `Measured=`: this authority's measurement.
    pub measured: Option<u32>,
    /// `MeasuredButAuthority=`: a measurement that must not count.
    pub measured_but_authority: Option<u32>,
    /// `GuardFraction=`, a percentage.
    pub guard_fraction: Option<u8>,
}

/// What a vote says of one relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteRouter {
    /// The lines that consensuses have too; `bandwidth` and `microdesc_digest` are not used.
    pub status: RouterStatus,
    /// The `w` line.
    pub w: VotedBandwidth,
    /// What the last `id` line of an Ed25519 identity says.
    pub ed25519: Option<VotedEd25519>,
    /// The `stats` line ([`Stats`] writes one); for people.
    pub stats: Option<String>,
    /// The `m` lines ([`VotedMicrodesc`] writes one), in the order of the document.
    pub microdescs: Vec<String>,
}

impl VoteRouter {
    /// The digest of the microdescriptor that `method` makes of this relay's descriptor. Of
    /// several lines for one method the last counts, as in `tor`.
    pub fn microdesc_digest(&self, method: u32) -> Option<[u8; 32]> {
        const LABEL: &str = " sha256=";
        const DIGEST_LEN: usize = 43;
        let method = method.to_string();
        let names_it = |line: &&String| {
            let is_other = |byte: char| !byte.is_ascii_digit() && byte != ',';
            let list = line.split(is_other).next().unwrap_or_default();
            // An empty place ends the list.
            let methods = list.split(',').take_while(|one| !one.is_empty());
            methods.into_iter().any(|one| one == method)
        };
        let line = self.microdescs.iter().rev().find(names_it)?;
        let text = line.get(line.find(LABEL)? + LABEL.len()..)?;
        let text = text.get(..DIGEST_LEN).unwrap_or(text);
        cepa_crypto::encoding::base64_array(text)
    }
}

/// The part of an authority in the shared randomness protocol (srv-spec 4.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedRandVote {
    /// `shared-rand-participate`; without it the other lines are not written.
    pub participates: bool,
    /// The commitments that it knows, in the order of the document.
    pub commits: Vec<SharedRandCommit>,
    /// The value before the current one.
    pub previous: Option<SharedRandValue>,
    /// The current value.
    pub current: Option<SharedRandValue>,
}

/// A vote.
#[derive(Clone, Debug)]
pub struct Vote {
    /// The methods that its author can compute a consensus with, as words; ours are numbers,
    /// ascending.
    pub methods: Vec<String>,
    /// When the vote was made.
    pub published: SystemTime,
    /// The times that its author wants the consensus to have.
    pub lifetime: Lifetime,
    /// The delays of the voting schedule.
    pub voting_delay: VotingDelay,
    /// Recommended client versions, joined by commas.
    pub client_versions: Option<String>,
    /// Recommended relay versions, joined by commas.
    pub server_versions: Option<String>,
    /// Recommended and required protocols.
    pub protocols: RequiredProtocols,
    /// The flags that its author decides upon, sorted.
    pub known_flags: Vec<String>,
    /// The `flag-thresholds` line ([`FlagThresholds`] writes one); for people.
    pub flag_thresholds: Option<String>,
    /// Network parameters; the line is always written.
    pub params: Params,
    /// The `bandwidth-file-headers` line.
    pub bandwidth_file_headers: Option<String>,
    /// The `bandwidth-file-digest` line: `sha256=…`.
    pub bandwidth_file_digest: Option<String>,
    /// The author.
    pub dir_source: DirSource,
    /// How the authority's operator can be reached.
    pub contact: String,
    /// Shared randomness.
    pub shared_rand: SharedRandVote,
    /// The digest of an identity key that the author had before; of a malformed one what stands
    /// before its first wrong digit, and zeros, as in `tor`.
    pub legacy_dir_key: Option<RsaId>,
    /// The author's certificate, as in its own document.
    pub certificate: AuthCert,
    /// The relays, ascending by RSA identity.
    pub routers: Vec<VoteRouter>,
    /// The author's signature; none before [`Vote::sign`].
    pub signature: Option<DirectorySignature>,
}

impl Vote {
    /// The v3 identity of its author.
    pub fn author(&self) -> RsaId {
        self.dir_source.identity
    }

    /// The entry of a relay.
    pub fn router(&self, id: &RsaId) -> Option<&VoteRouter> {
        let at = self
            .routers
            .binary_search_by(|router| router.status.rsa_id.cmp(id))
            .ok()?;
        self.routers.get(at)
    }
}

/// A vote as it was received or made: its bytes, its digest and what it says. Cheap to clone.
#[derive(Clone, Debug)]
pub struct VoteText {
    text: Arc<str>,
    digest: [u8; 20],
    vote: Arc<Vote>,
}

impl VoteText {
    /// Reads a vote and verifies the certificate in it, but not the vote's own signature.
    ///
    /// # Errors
    /// [`StatusError`] for whatever `tor` refuses too.
    pub fn parse(text: impl Into<Arc<str>>) -> Result<Self, StatusError> {
        let text: Arc<str> = text.into();
        let (vote, signed, end) = parse::parse(&text)?;
        let digest = digest::sha1(text.as_bytes().get(signed).unwrap_or_default());
        let own = text.get(..end).filter(|own| own.len() < text.len());
        Ok(Self {
            text: own.map_or_else(|| Arc::clone(&text), Arc::from),
            digest,
            vote: Arc::new(vote),
        })
    }

    /// The vote as it was read.
    pub fn vote(&self) -> &Arc<Vote> {
        &self.vote
    }

    /// The whole document, byte for byte, its signature included.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// SHA-1 of the signed part: the `vote-digest` of consensuses.
    pub fn digest(&self) -> &[u8; 20] {
        &self.digest
    }

    /// Whether the author signed it with the key of the embedded certificate, which must not have
    /// expired at `now`.
    pub fn is_signed(&self, now: SystemTime) -> bool {
        let cert = &self.vote.certificate;
        let signature = self.vote.signature.as_ref();
        now <= cert.expires && signature.is_some_and(|one| one.verifies(&self.digest, cert))
    }
}

#[cfg(test)]
mod tests;
