//! What a [`crate::Client`] asks of the outside.
//!
//! Effects are data: the shell drains [`Command`]s after each call, does them, and answers with the
//! method that stands at each. Answers about what is gone by then are harmless.

use std::net::IpAddr;
use std::sync::Arc;

use cepa_circuit::StreamKey;
use cepa_crypto::RsaId;
use cepa_dir::DirRequest;
use cepa_link::ChannelKey;
use cepa_wire::resolve::Answer;
use cepa_wire::socks::SocksStatus;

use crate::names::{CircuitId, FetchId, LinkId, RequestId, ServiceId};
use crate::select::paths::LinkTarget;
use crate::status::bootstrap::BootstrapStatus;

/// What a client asks of the shell.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Connect (TLS, link handshake without an identity of ours); answer with
    /// [`crate::Client::handle_channel_opened`] or [`crate::Client::handle_channel_failed`].
    OpenChannel {
        /// The name of the connection, which the answer repeats.
        link: LinkId,
        /// The relay to connect to.
        target: LinkTarget,
    },
    /// Close the connection under a channel, which the client has forgotten.
    CloseChannel {
        /// The channel that was.
        channel: ChannelKey,
        /// Why the channel is closed, for the log.
        reason: &'static str,
    },
    /// Send an HTTP request over a stream, at once, and read the reply; answer with
    /// [`crate::Client::handle_dir_reply`], which closes the stream.
    DirRequest {
        /// The name of the fetch, which the answer repeats.
        fetch: FetchId,
        /// The stream, which leads to the directory.
        stream: StreamKey,
        /// The document that is asked for, or the upload.
        request: DirRequest,
        /// The body of an upload; else empty.
        body: Vec<u8>,
        /// Give up when the body is larger than this.
        body_bytes_max: usize,
    },
    /// The fetch is over (timed out, or not needed any more): drop it, no answer is needed.
    CancelDirRequest {
        /// The fetch that was.
        fetch: FetchId,
    },
    /// The stream of a CONNECT request is open: write the reply, then serve the stream.
    SocksConnected {
        /// The request, which is over.
        request: RequestId,
        /// The stream, the shell's from now on.
        stream: StreamKey,
        /// The address that the exit connected to, if it said so.
        bound: Option<IpAddr>,
        /// Optimistic data that has not been sent yet: goes first.
        early: Vec<u8>,
    },
    /// A RESOLVE or RESOLVE_PTR request has its answers: write the reply with the best of them.
    SocksResolved {
        /// The request, which is over.
        request: RequestId,
        /// The answers: at least one address or name.
        answers: Vec<Answer>,
    },
    /// A request failed: write the reply and close.
    SocksFailed {
        /// The request, which is over.
        request: RequestId,
        /// The status for the application.
        status: SocksStatus,
    },
    /// A visitor of a hosted service asks for a connection: connect to what stands behind the port;
    /// answer with [`crate::Client::onion_stream_connected`], and serve the stream, or with
    /// [`crate::Client::onion_stream_refused`].
    OnionStream {
        /// The visitor's circuit.
        circuit: CircuitId,
        /// The stream, the shell's from now on.
        stream: StreamKey,
        /// The service that is visited.
        service: ServiceId,
        /// The virtual port of the service that the visitor wants.
        port: u16,
    },
    /// A hosted service can be found. Told once.
    OnionPublished {
        /// The service that can be found.
        service: ServiceId,
    },
    /// Keep this, in place of what was kept before under that name.
    Save(Saved),
    /// There are events: take them by [`crate::Client::poll_status_event`] until there are no more.
    Events,
    /// How far the client is, whenever that changes.
    Bootstrap(BootstrapStatus),
}

/// What is to be kept over a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// The guards, as text.
    Guards(String),
    /// How long circuits took to be built, as text.
    BuildTimes(String),
    /// What guards let become of circuits, as text.
    PathBias(String),
    /// The vanguards of full mode, as text.
    Vanguards(String),
    /// Whether it is at rest, as text.
    Dormancy(String),
    /// The newest verified consensus.
    Consensus {
        /// The text of the consensus.
        text: Arc<str>,
        /// The microdescriptors that it lists, by SHA-256.
        microdescs: Vec<[u8; 32]>,
    },
    /// The newest verified consensus of the ns flavour, as text: for other programs, where
    /// descriptors of relays are wanted.
    NsConsensus(Arc<str>),
    /// Certificates of authorities: add it.
    Certificate {
        /// The authority's v3 identity.
        identity: RsaId,
        /// The text of the certificate.
        text: String,
    },
    /// Texts of microdescriptors, to be added to those that are kept.
    Microdescs(Vec<String>),
}

/// What was kept by [`Command::Save`]; all empty at the first start.
#[derive(Debug, Clone, Default)]
pub struct SavedState {
    /// The guards.
    pub guards: Option<String>,
    /// How long circuits took to be built.
    pub build_times: Option<String>,
    /// What guards let become of circuits.
    pub path_bias: Option<String>,
    /// The vanguards of full mode.
    pub vanguards: Option<String>,
    /// Whether it was at rest.
    pub dormancy: Option<String>,
    /// Certificates of authorities.
    pub certificates: Vec<String>,
    /// The newest consensus.
    pub consensus: Option<Arc<str>>,
    /// Microdescriptors; those that the consensus does not list are dropped.
    pub microdescs: Vec<String>,
}
