//! What an authority wants of the outside, as data, and the rows that it persists.
//!
//! The shell drains commands after each event. Rows are opaque to the store: a kind, a key, bytes.
//! What [`crate::Authority::restore`] is given at the next start are all rows that were put and
//! not dropped since; a row of a kind and key replaces the one before.

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;

use cepa_crypto::{Ed25519Id, RsaId};
use cepa_dir::DirDocument;

/// The kinds of rows that an authority persists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKind {
    /// A server descriptor; the key is the relay's fingerprint.
    Descriptor,
    /// An extra-info document; the key is the relay's fingerprint.
    ExtraInfo,
    /// A certificate of an authority; the key is its v3 identity.
    Certificate,
    /// A vote of the current consensus; the key is its author's v3 identity, with `next ` before it
    /// while the vote's round is not decided.
    Vote,
    /// The current consensus; the key is the flavour.
    Consensus,
    /// Uptime and reachability of a relay; the key is its fingerprint.
    History,
    /// The Ed25519 identity that an RSA identity is bound to; the key is the fingerprint.
    KeyPin,
    /// Shared randomness; one row.
    SharedRandom,
    /// Two votes of one authority for one interval, one behind the other; the key is its v3
    /// identity and when the interval begins.
    Equivocation,
    /// The consensus that was signed last; one row.
    Signed,
}

impl RowKind {
    /// All kinds of rows, to be read at a start.
    pub const ALL: [RowKind; 10] = [
        RowKind::Descriptor,
        RowKind::ExtraInfo,
        RowKind::Certificate,
        RowKind::Vote,
        RowKind::Consensus,
        RowKind::History,
        RowKind::KeyPin,
        RowKind::SharedRandom,
        RowKind::Equivocation,
        RowKind::Signed,
    ];

    /// The word for it in a store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RowKind::Descriptor => "descriptor",
            RowKind::ExtraInfo => "extra-info",
            RowKind::Certificate => "certificate",
            RowKind::Vote => "vote",
            RowKind::Consensus => "consensus",
            RowKind::History => "history",
            RowKind::KeyPin => "key-pin",
            RowKind::SharedRandom => "shared-random",
            RowKind::Equivocation => "equivocation",
            RowKind::Signed => "signed",
        }
    }

    /// The kind of a word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<RowKind> {
        RowKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One row of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The kind of what the row holds.
    pub kind: RowKind,
    /// Which one of its kind the row is: an identity, a digest, a flavour.
    pub key: String,
    /// Its content, text for all kinds today.
    pub bytes: Vec<u8>,
}

/// What the outside must do. Where a reply is expected, its `handle_…` is named.
#[derive(Debug, Clone)]
pub enum Command {
    /// POST `body` to `/tor/post/vote` of an authority's DirPort, then
    /// [`crate::Authority::handle_posted`].
    PostVote {
        /// The DirPort of the authority that is to have the vote.
        to: SocketAddrV4,
        /// The vote.
        body: Arc<str>,
    },
    /// GET `/tor/status-vote/next/<id>+<id>….z` of these v3 identities at an authority's DirPort,
    /// then [`crate::Authority::handle_fetched_votes`].
    FetchVotes {
        /// The DirPort of the authority that is asked for votes.
        from: SocketAddrV4,
        /// The v3 identities of the authorities whose votes are missing.
        of: Vec<RsaId>,
    },
    /// POST `body` to `/tor/post/consensus-signature`, then [`crate::Authority::handle_posted`].
    PostSignatures {
        /// The DirPort of the authority that is to have the signatures.
        to: SocketAddrV4,
        /// The detached signatures.
        body: Arc<str>,
    },
    /// GET `/tor/status-vote/next/consensus-signatures.z`, then
    /// [`crate::Authority::handle_fetched_signatures`].
    FetchSignatures {
        /// The DirPort of the authority that is asked for signatures.
        from: SocketAddrV4,
    },
    /// GET `/tor/server/d/<digest>+<digest>….z`, then
    /// [`crate::Authority::handle_read_descriptors`].
    FetchDescriptors {
        /// The DirPort of the authority that is asked for descriptors.
        from: SocketAddrV4,
        /// SHA-1 of the descriptors that another authority has and we have not, at most 96.
        digests: Vec<[u8; 20]>,
    },
    /// Open a channel, check both identities, close it, then
    /// [`crate::Authority::handle_reachability`].
    TestReachability {
        /// The relay's ORPort, over IPv4 or IPv6.
        address: SocketAddr,
        /// Its RSA identity.
        rsa_id: RsaId,
        /// Its Ed25519 identity, if it is to prove that too.
        ed25519: Option<Ed25519Id>,
    },
    /// Write a row.
    Put(Row),
    /// Remove a row, if it is there.
    Drop(RowKind, String),
    /// Answer requests for a document.
    Serve(DirDocument),
    /// Stop answering for the descriptor of this SHA-1 and its extra-info: the relay is gone or
    /// has a newer one since long.
    Withdraw([u8; 20]),
}

/// The reply to a POST of a relay or an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status: 200 or 400.
    pub status: u16,
    /// The reason on the status line.
    pub reason: String,
    /// Whether the header `X-Descriptor-Not-New: Yes` is sent.
    pub is_not_new: bool,
}

impl Reply {
    /// A reply that the upload was taken (200), with its reason.
    #[must_use]
    pub fn ok(reason: impl Into<String>) -> Reply {
        Reply {
            status: 200,
            reason: reason.into(),
            is_not_new: false,
        }
    }

    /// A reply that the upload was refused (400), with its reason.
    #[must_use]
    pub fn refused(reason: impl Into<String>) -> Reply {
        Reply {
            status: 400,
            reason: reason.into(),
            is_not_new: false,
        }
    }
}
