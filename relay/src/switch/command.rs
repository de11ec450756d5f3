//! What a [`crate::Switch`] asks of the outside.
//!
//! Effects are data: the shell drains [`Command`]s after each event, does them, and answers with a
//! method of the switch, named at each. Answers about what is gone by then are harmless, as keys
//! are checked by generation.

use std::net::SocketAddr;

use cepa_circuit::{CircuitKey, OnionskinJob, StreamKey};
use cepa_crypto::{Ed25519Id, RsaId};
use cepa_link::ChannelKey;
use cepa_wire::begin::Begin;
use cepa_wire::resolve::Resolve;
use smallvec::SmallVec;

/// The relay to which a circuit is to be extended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkTarget {
    /// The RSA identity that it must prove.
    pub rsa: RsaId,
    /// The Ed25519 identity that it must prove, if the client or the consensus says so.
    pub ed: Option<Ed25519Id>,
    /// Where it listens; IPv4 before IPv6, one of each at most.
    pub addrs: SmallVec<[SocketAddr; 2]>,
    /// Whether the consensus says so, too.
    pub is_listed: bool,
    /// The channel by which the circuit comes that is extended.
    pub asker: ChannelKey,
}

/// What a switch asks of the shell.
#[derive(Debug)]
pub enum Command {
    /// Run the job with the relay's onion keys, away from this thread; answer with
    /// [`crate::Switch::handle_onionskin`].
    Onionskin {
        /// The circuit being created.
        circuit: CircuitKey,
        /// The work.
        job: Box<OnionskinJob>,
    },
    /// Find or open a channel to a relay; answer with [`crate::Switch::handle_channel_found`].
    NeedChannel {
        /// The circuit being extended.
        circuit: CircuitKey,
        /// The relay to which the channel is to lead.
        target: LinkTarget,
    },
    /// The circuit is gone before its channel was found: there is nothing to answer.
    ChannelUnwanted {
        /// The circuit that was being extended.
        circuit: CircuitKey,
        /// The relay that it was to be extended to.
        rsa: RsaId,
    },
    /// Resolve, check each address with [`crate::Switch::exit_check`], connect; answer with
    /// `stream_connected`, `stream_refused` (by the policy) or `stream_failed`.
    Connect {
        /// The stream that waits.
        stream: StreamKey,
        /// The host and port that the client wants.
        begin: Begin,
    },
    /// Ask the DNS; answer with [`crate::Switch::stream_resolved`].
    Resolve {
        /// The stream that waits.
        stream: StreamKey,
        /// The name or address that the client wants to know of.
        resolve: Resolve,
    },
    /// Attach the directory server; answer with [`crate::Switch::stream_dir_connected`].
    OpenDir {
        /// The stream that waits.
        stream: StreamKey,
        /// True if the circuit's last link comes from an authenticated relay, so that whoever
        /// asks is not the neighbour (what onion-service descriptors need).
        anonymous: bool,
    },
    /// The stream is gone: stop connecting, or close the socket at once.
    CloseStream {
        /// The stream that was.
        stream: StreamKey,
    },
    /// A channel that its peer opened has circuits from now on, or has none: told within a second,
    /// for who must give up his place.
    ChannelUsed {
        /// The channel.
        channel: ChannelKey,
        /// Whether it has circuits.
        is_used: bool,
    },
    /// Close the connection under a channel; `channel_closed` need not be called for it, but may.
    CloseChannel {
        /// The channel that was.
        channel: ChannelKey,
        /// Why the channel is closed, for the log.
        reason: ChannelClose,
    },
}

/// Why a channel is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelClose {
    /// No circuit has used it for a while.
    #[error("no circuit has used it for a while")]
    Idle,
    /// A cell that may not come on an open link (tor-spec 4).
    #[error("cell {0} on an open link")]
    Unexpected(cepa_wire::cell::Command),
    /// The peer provokes answers without reading them.
    #[error("the peer does not read what it asks for")]
    NotReading,
    /// The plane has no such channel.
    #[error("the channel is not known")]
    Unknown,
}
