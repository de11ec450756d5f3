//! The client's data plane: channels to guards, origin circuits over them, streams over those
//! (tor-spec 5 to 7).
//!
//! ```text
//! socket ─stream_send─▶ Stream ─DATA, layers─▶ Circuit ─▶ Channel ─take_output─▶ TLS
//! socket ◀─stream_take─ Stream ◀────peel────── Circuit ◀─ Channel ◀─handle_cells─ TLS
//! ```
//!
//! The shell's driver moves the bytes and calls [`Plane::take_ready`] after each batch; the control
//! core opens circuits and streams and reads [`Event`]s. Every queue is bounded: edges stop at the
//! high mark of a circuit's queue, inbound bytes by the stream's window. Cells are encrypted and
//! decrypted in place. A key of what is gone is harmless everywhere.

mod carried;
mod channels;
mod circuits;
mod event;
mod flow;
pub(crate) mod liveness;
mod memory;
mod messages;
mod onion;
mod padding;
mod streams;

use std::collections::VecDeque;

use cepa_circuit::{CircuitKey, StreamKey};
use cepa_crypto::Rng;
use cepa_link::ChannelKey;
use slotmap::SlotMap;

pub use carried::{CircuitCarried, StreamCarried};
pub use cepa_circuit::handshake::{HopKey, HopSpec};
pub use channels::ChannelClose;
pub use circuits::{
    CircuitClose, CircuitStatus, INBOUND_STREAMS_MAX, JoinError, OpenCircuitError, OpenStreamError,
};
pub use event::Event;
pub use padding::{RETIRED_FOR, RETIRED_MAX};
pub use streams::{STREAM_ROOM_MAX_CELLS, StreamPlace, StreamTarget};

/// All channels, circuits and streams of a client.
#[derive(Debug)]
pub struct Plane {
    channels: channels::PlaneChannels,
    circuits: SlotMap<CircuitKey, circuits::Circuit>,
    streams: streams::PlaneStreams,
    padding: padding::Padding,
    ledger: memory::Ledger,
    /// The consensus's `sendme_accept_min_version`, for circuits to come.
    sendme_min: u8,
    events: VecDeque<Event>,
    rng: Rng,
}

impl Plane {
    /// A plane without channels, which draws its randomness from `rng`.
    #[must_use]
    pub fn new(rng: Rng) -> Self {
        Plane {
            channels: channels::PlaneChannels::default(),
            circuits: SlotMap::with_key(),
            streams: streams::PlaneStreams::default(),
            padding: padding::Padding::default(),
            ledger: memory::Ledger::default(),
            sendme_min: 0,
            events: VecDeque::new(),
            rng,
        }
    }

    /// Circuits opened from now on accept no circuit-level SENDME of a version below this one.
    pub fn set_sendme_min(&mut self, version: u8) {
        self.sendme_min = version;
    }

    /// What happened, in order, for the control core.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Appends the channels with output and the streams with bytes, an end or room, that became so
    /// since the last call; each at most once. Streams of one circuit take turns at coming first.
    pub fn take_ready(&mut self, channels: &mut Vec<ChannelKey>, streams: &mut Vec<StreamKey>) {
        self.channels.take_ready(channels);
        self.streams.take_ready(streams);
    }
}

#[cfg(test)]
mod tests;
