//! Channels of the plane: cells in, cells out (tor-spec 3, 4).
//!
//! A client's channel carries only circuits of the client's own. Cells of the link's handshake
//! close an open channel; a peer's CREATE cells are answered with DESTROY; what has no circuit is
//! dropped, as are commands that nobody knows (tor-spec 3).

use std::time::Instant;

use cepa_circuit::CircuitKey;
use cepa_link::channel::{ControlFull, PaddingRange};
use cepa_link::{Channel, ChannelKey, CircuitRef, Established};
use cepa_wire::Now;
use cepa_wire::cell::{self, CellBuf, CellMut, CircId, Command};
use cepa_wire::destroy::DestroyReason;
use cepa_wire::padding::PaddingNegotiate;
use slotmap::{Key, KeyData};

use super::liveness::Liveness;
use super::{CircuitClose, Event, Plane};

/// Cells that one call of [`Plane::take_output`] gives: about one TLS record.
const OUTPUT_CELLS_MAX: usize = 31;

/// Link protocol from which on padding is negotiated (tor-spec 4.1).
const LINK_WITH_PADDING: u16 = 5;

/// Why a channel is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelClose {
    /// A cell that may not come on an open link (tor-spec 4).
    #[error("cell {} on an open link", .0.0)]
    Unexpected(Command),
    /// The peer provokes answers without reading them.
    #[error("the peer does not read what it asks for")]
    NotReading,
    /// The plane has no such channel.
    #[error("the channel is not known")]
    Unknown,
}

impl From<ControlFull> for ChannelClose {
    fn from(_: ControlFull) -> Self {
        ChannelClose::NotReading
    }
}

/// A channel, and whether it is listed as ready.
#[derive(Debug)]
pub(super) struct PlaneChannel {
    pub(super) channel: Channel,
    pub(super) ready: bool,
    pub(super) liveness: Liveness,
    /// How it is padded.
    padding: Option<PaddingRange>,
}

/// How channels name a circuit.
pub(super) fn circuit_ref(key: CircuitKey) -> CircuitRef {
    CircuitRef(key.data().as_ffi())
}

fn circuit_key(CircuitRef(bits): CircuitRef) -> CircuitKey {
    KeyData::from_ffi(bits).into()
}

impl Plane {
    /// Takes an open link on.
    pub fn add_channel(&mut self, link: Established, now: Now) -> ChannelKey {
        let channel = Channel::new(link, now);
        self.channels.insert(PlaneChannel {
            channel,
            ready: false,
            liveness: Liveness::new(now),
            padding: None,
        })
    }

    /// What a channel's handshake found out.
    #[must_use]
    pub fn channel_link(&self, key: ChannelKey) -> Option<&Established> {
        self.channels.get(key).map(|entry| entry.channel.link())
    }

    /// Circuits on a channel.
    #[must_use]
    pub fn channel_circuit_count(&self, key: ChannelKey) -> usize {
        self.channels
            .get(key)
            .map_or(0, |entry| entry.channel.circuit_count())
    }

    /// Pads a channel that is idle for a random time in this range, or stops that.
    pub fn pad_channel(&mut self, key: ChannelKey, range: Option<PaddingRange>) {
        if let Some(entry) = self.channels.get_mut(key)
            && std::mem::replace(&mut entry.padding, range) != range
        {
            entry.channel.set_padding(range, &mut self.rng);
        }
    }

    /// Asks the relay to pad its side of a channel, or to stop that, where the link knows how
    /// (padding-spec 2.5).
    pub fn negotiate_padding(&mut self, key: ChannelKey, wish: PaddingNegotiate) {
        let Some(entry) = self.channels.get_mut(key) else {
            return;
        };
        if entry.channel.link().version < LINK_WITH_PADDING {
            return;
        }
        let mut cell = cell::new_cell(CircId::NONE, Command::PADDING_NEGOTIATE);
        wish.write(cell::payload_mut(&mut cell));
        // A queue that is full has more to say than this.
        if entry.channel.queue_control(&cell).is_ok() {
            self.ready.channel(key, &mut entry.ready);
        }
    }

    /// Takes the whole cells at the front of `buf`, which is decrypted in place; returns how many
    /// bytes they are. An error: close the connection, and call [`Plane::channel_closed`].
    pub fn handle_cells(
        &mut self,
        key: ChannelKey,
        buf: &mut [u8],
        now: Now,
    ) -> Result<usize, ChannelClose> {
        let mut consumed = 0;
        while let Some((cell, len)) = buf.get_mut(consumed..).and_then(cell::split_cell_mut) {
            consumed += len;
            match cell {
                CellMut::Fixed(cell) => self.handle_cell(key, cell, now)?,
                CellMut::Variable(cell) => {
                    if is_of_handshake(cell.command) {
                        return Err(ChannelClose::Unexpected(cell.command));
                    }
                }
            }
        }
        if consumed > 0 {
            self.handle_heard(key, now);
        }
        self.limit_memory(now);
        Ok(consumed)
    }

    fn handle_cell(
        &mut self,
        key: ChannelKey,
        cell: &mut CellBuf,
        now: Now,
    ) -> Result<(), ChannelClose> {
        let entry = self.channels.get_mut(key).ok_or(ChannelClose::Unknown)?;
        let circ_id = cell::circ_id(cell);
        match cell::command(cell) {
            Command::RELAY
            | Command::RELAY_EARLY
            | Command::DESTROY
            | Command::CREATED2
            | Command::CREATED_FAST
            | Command::CREATED => {
                // A circuit that we closed is unknown already while its cells are on their way.
                if let Some(circuit) = entry.channel.circuit(circ_id) {
                    self.handle_circuit_cell(circuit_key(circuit), cell, now);
                }
                Ok(())
            }
            Command::CREATE | Command::CREATE2 | Command::CREATE_FAST => {
                let reason = DestroyReason::PROTOCOL;
                entry.channel.queue_refusal(circ_id, reason)?;
                self.ready.channel(key, &mut entry.ready);
                Ok(())
            }
            Command::NETINFO => Err(ChannelClose::Unexpected(Command::NETINFO)),
            _ => Ok(()),
        }
    }

    /// Appends up to one TLS record of cells.
    pub fn take_output(&mut self, key: ChannelKey, out: &mut Vec<u8>, now: Now) {
        let Some(entry) = self.channels.get_mut(key) else {
            return;
        };
        let mut drained = Vec::new();
        entry
            .channel
            .take_output(out, OUTPUT_CELLS_MAX, now, &mut drained);
        for circuit in drained {
            self.wake_streams(circuit_key(circuit), None);
        }
    }

    /// True if [`Plane::take_output`] has cells to give.
    #[must_use]
    pub fn has_output(&self, key: ChannelKey) -> bool {
        self.channels
            .get(key)
            .is_some_and(|entry| entry.channel.has_output())
    }

    /// The connection under a channel is gone, and all its circuits with it.
    pub fn channel_closed(&mut self, key: ChannelKey, _now: Now) {
        let Some(entry) = self.channels.remove(key) else {
            return;
        };
        for (_, circuit) in entry.channel.circuit_refs() {
            self.remove_circuit(circuit_key(circuit), CircuitClose::ChannelClosed);
        }
        self.events.push_back(Event::ChannelClosed { channel: key });
    }

    /// When [`Plane::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.channels
            .values()
            .flat_map(|entry| [entry.channel.poll_timeout(), entry.liveness.poll_timeout()])
            .flatten()
            .chain(self.paced.next)
            .chain(self.padding.next())
            .min()
    }

    /// Lets streams go on at their rates, sends the padding that is due, and asks relays that are
    /// silent.
    pub fn handle_timeout(&mut self, now: Now) {
        self.handle_pace(now);
        self.handle_padding(now);
        self.handle_silence(now);
        for (key, entry) in &mut self.channels {
            entry.channel.handle_timeout(now, &mut self.rng);
            if entry.channel.has_output() {
                self.ready.channel(key, &mut entry.ready);
            }
        }
    }
}

/// True for the variable cells that only the link's handshake has.
fn is_of_handshake(command: Command) -> bool {
    matches!(
        command,
        Command::VERSIONS | Command::CERTS | Command::AUTH_CHALLENGE | Command::AUTHENTICATE
    )
}
