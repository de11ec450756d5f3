//! What the plane tells the control core.

use std::net::IpAddr;

use cepa_circuit::{CircuitKey, StreamKey};
use cepa_link::ChannelKey;
use cepa_wire::begin::Begin;
use cepa_wire::end::End;
use cepa_wire::relay::RelayCommand;
use cepa_wire::resolve::Answer;

use super::CircuitClose;

/// Something that happened on the data plane. Events about one circuit or stream come in order;
/// none comes after the one that closes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The connection under a channel is gone; events for its circuits come before this one.
    ChannelClosed {
        /// The channel that was.
        channel: ChannelKey,
    },
    /// The relay of a channel does not answer a question: others are better used.
    ChannelSuspect {
        /// The channel whose relay does not answer.
        channel: ChannelKey,
    },
    /// The relay of a suspect channel has answered after all.
    ChannelHeard {
        /// The channel whose relay has answered.
        channel: ChannelKey,
    },
    /// Nothing will come over a channel any more: close it.
    ChannelDead {
        /// The channel to be closed.
        channel: ChannelKey,
        /// Whether anything ever came over it.
        has_spoken: bool,
    },
    /// One more hop of a circuit stands; not the last.
    CircuitHop {
        /// The circuit that has grown.
        circuit: CircuitKey,
        /// The index of the hop that stands now.
        hop: usize,
    },
    /// All hops of a circuit stand; streams may be opened.
    CircuitBuilt {
        /// The circuit that is built.
        circuit: CircuitKey,
    },
    /// A circuit was closed while it was being built.
    CircuitFailed {
        /// The circuit that was.
        circuit: CircuitKey,
        /// The index of the hop that was being added.
        hop: usize,
        /// Why the circuit was closed.
        reason: CircuitClose,
    },
    /// A built circuit was closed; events for its streams come before this one.
    CircuitClosed {
        /// The circuit that was.
        circuit: CircuitKey,
        /// Why the circuit was closed.
        reason: CircuitClose,
    },
    /// A message without a stream came from the last hop of a circuit that listens for them.
    CircuitMessage {
        /// The circuit over which the message came.
        circuit: CircuitKey,
        /// What it is: one that a client of onion services or a service is told.
        command: RelayCommand,
        /// Its body, not checked.
        data: Vec<u8>,
    },
    /// The peer beyond a rendezvous point sent BEGIN, and waits for `stream_accept` or
    /// `stream_refuse`. Bytes may come before that.
    StreamRequested {
        /// The stream that the peer asks for.
        stream: StreamKey,
        /// What the peer wants. A service looks at the port only (rend-spec-v3 4.2).
        begin: Begin,
    },
    /// CONNECTED came: the stream is open.
    StreamConnected {
        /// The stream that is open.
        stream: StreamKey,
        /// The address that the exit connected to and the seconds for which that may be believed;
        /// none for directory streams.
        address: Option<(IpAddr, u32)>,
    },
    /// RESOLVED came; the stream is gone.
    StreamResolved {
        /// The stream that was.
        stream: StreamKey,
        /// The answers; an error stands alone.
        answers: Vec<Answer>,
    },
    /// END came, or the circuit is gone (reason DESTROY). Bytes that came before may still be
    /// taken; the stream stays until `stream_close`.
    StreamEnded {
        /// The stream that has ended.
        stream: StreamKey,
        /// Why the stream has ended.
        end: End,
    },
}
