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

mod channels;
mod circuits;
mod event;
mod flow;
pub(crate) mod liveness;
mod memory;
mod messages;
mod onion;
mod padding;
mod ready;
mod streams;

use std::collections::VecDeque;

use cepa_circuit::{CircuitKey, StreamKey};
use cepa_crypto::Rng;
use cepa_link::ChannelKey;
use slotmap::SlotMap;

pub use cepa_circuit::handshake::{HopKey, HopSpec};
pub use channels::ChannelClose;
pub use circuits::{CircuitClose, CircuitStatus, OpenCircuitError};
pub use event::Event;
pub use onion::{INBOUND_STREAMS_MAX, JoinError};
pub use padding::{RETIRED_FOR, RETIRED_MAX};
pub use streams::{OpenStreamError, STREAM_ROOM_MAX_CELLS, StreamTarget};

/// All channels, circuits and streams of a client.
#[derive(Debug)]
pub struct Plane {
    channels: SlotMap<ChannelKey, channels::PlaneChannel>,
    circuits: SlotMap<CircuitKey, circuits::Circuit>,
    streams: SlotMap<StreamKey, streams::PlaneStream>,
    ready: ready::Ready,
    paced: flow::Paced,
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
            channels: SlotMap::with_key(),
            circuits: SlotMap::with_key(),
            streams: SlotMap::with_key(),
            ready: ready::Ready::default(),
            paced: flow::Paced::default(),
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
        self.ready.take(channels, streams);
        for key in channels.iter() {
            if let Some(channel) = self.channels.get_mut(*key) {
                channel.ready = false;
            }
        }
        for key in streams.iter() {
            if let Some(stream) = self.streams.get_mut(*key) {
                stream.ready = false;
            }
        }
    }
}

#[cfg(test)]
mod tests;
