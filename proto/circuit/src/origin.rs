//! The client's end of a circuit: its hops, their layers and windows (tor-spec 5, 6, 7.3).
//!
//! ```text
//! create() ─CREATE─▶ ExpectCreated ──CREATED──▶ ┬─ hops left: EXTEND2 ─▶ ExpectExtended ─┐
//!                                               │◀──────────EXTENDED2────────────────────┘
//!                                               └─ none left ─▶ Built ─extend()─▶ ExpectExtended
//! ```
//!
//! Cells are made and read in place; each hop has a window of its own. A hop's cells are known by
//! its layer alone: what a message says is passed on with the hop that said it, and only the last
//! hop may extend. The peer beyond a rendezvous point is joined as a hop without a handshake of
//! ours, and ends the path (rend-spec-v3 4). Circuit-level SENDMEs are sent and checked here. Each
//! [`OriginViolation`] closes the circuit with DESTROY, reason 1; what is only dropped comes out
//! as [`Received::Dropped`].

use std::collections::VecDeque;
use std::time::Instant;

use cepa_crypto::layer::{self, Cipher, HopLayer};
use cepa_crypto::{KeyStream, Rng};
use cepa_wire::cell::{self, CellBuf, CircId, Command};
use cepa_wire::create::{Created2, CreatedFast};
use cepa_wire::destroy::DestroyReason;
use cepa_wire::extend::{Extend2, Extended2};
use cepa_wire::relay::{RelayCellError, RelayCommand, RelayFormat, RelayMessage, StreamId};
use cepa_wire::sendme::{self, Sendme, SendmeError};
use cepa_wire::{TooLong, Truncated};
use zeroize::Zeroizing;

use crate::congestion::{Congestion, LocalQueue};
use crate::handshake::{self, Agreed, ClientHandshake, HandshakeError, HopKey, HopSpec};
use crate::hop_window::HopWindow;
use crate::relay::RELAY_EARLY_CELLS_MAX;
use crate::window::{SendmeTag, WindowViolation};

/// Most hops of one circuit: what RELAY_EARLY cells allow, and the first hop (tor-spec 5.6).
pub const HOPS_MAX: usize = RELAY_EARLY_CELLS_MAX as usize + 1;

/// Where the circuit sends its cells: to its channel's queue.
pub type SendCell<'a> = dyn FnMut(&CellBuf) + 'a;

/// What a peer did against the circuit; it is to be destroyed with reason 1 (PROTOCOL).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OriginViolation {
    /// A cell that this state does not wait for.
    #[error("a cell of command {0:?} was not expected")]
    UnexpectedCell(Command),
    /// A RELAY_EARLY cell towards the client (tor-spec 5.6).
    #[error("an inbound RELAY_EARLY cell")]
    InboundEarly,
    /// EXTENDED2 that was not asked for, or from another hop than the last.
    #[error("an EXTENDED2 that was not expected")]
    UnexpectedExtended,
    /// CREATED2 or EXTENDED2 that ends too early.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// The new hop did not prove its keys.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// A relay cell against its format.
    #[error(transparent)]
    RelayCell(#[from] RelayCellError),
    /// A malformed SENDME.
    #[error(transparent)]
    Sendme(#[from] SendmeError),
    /// A SENDME or DATA against a window.
    #[error(transparent)]
    Window(#[from] WindowViolation),
}

/// Why a circuit, or its next hop, is not even begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// No hops, or more than [`HOPS_MAX`].
    #[error("a circuit has 1 to {HOPS_MAX} hops")]
    Hops,
    /// A hop is being added already.
    #[error("the circuit is not built")]
    NotBuilt,
    /// The peer beyond the rendezvous point stands: no hop comes after it.
    #[error("the circuit ends at a peer that was joined")]
    Joined,
    /// Handshake with what we know of the hop is impossible.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The link specifiers do not fit an EXTEND2.
    #[error("too many link specifiers")]
    LinkSpecifiers,
}

/// Why a cell is dropped while the circuit goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// The cell is one that no hop's layer recognises.
    Unrecognized,
    /// A DROP message of the hop of this index: long-range padding (tor-spec 7.2).
    Padding(usize),
}

/// What a cell from the channel means.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'c> {
    /// The hop of this index is there; the next one is on its way.
    Hop(usize),
    /// The hop of this index is there, and it is the last.
    Built(usize),
    /// A message of a hop about a stream or about what lies beyond circuits. DATA has been counted
    /// for the circuit's window, and its SENDME was sent if it was due.
    Message {
        /// The index of the hop that made it.
        hop: usize,
        /// The command of the message.
        command: RelayCommand,
        /// The stream that the message is about; 0 for the circuit itself.
        stream_id: StreamId,
        /// Its body.
        data: &'c [u8],
    },
    /// Circuit-level room has come for this hop.
    Room(usize),
    /// The circuit ends after this hop: close it.
    Truncated(usize, DestroyReason),
    /// The circuit is gone.
    Destroyed(DestroyReason),
    /// Nothing that the owner has to do: the cell was dropped, and is to be counted.
    Dropped(Dropped),
}

/// How far the circuit is.
#[derive(Debug)]
enum Build {
    ExpectCreated(ClientHandshake),
    ExpectExtended(ClientHandshake),
    Built,
    /// A handshake failed or a DESTROY came: no cell is expected any more.
    Closed,
}

/// KH of a hop; zero before the first one.
#[derive(Default)]
struct BindingKey(Zeroizing<[u8; 20]>);

impl std::fmt::Debug for BindingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BindingKey")
    }
}

/// The client's end of one circuit.
#[derive(Debug)]
pub struct OriginCircuit {
    circ_id: CircId,
    layers: Vec<HopLayer>,
    windows: Vec<HopWindow>,
    build: Build,
    /// Hops still to build, the next one first.
    rest: VecDeque<HopSpec>,
    early_cells_left: u8,
    /// What the last handshake derived behind the cell keys.
    kh: BindingKey,
    joined: bool,
    /// The oldest version of circuit-level SENDMEs that is accepted.
    sendme_min: u8,
}

impl OriginCircuit {
    /// Begins a circuit over `hops`: sends its CREATE2 or CREATE_FAST. The rest is built as answers
    /// come.
    pub fn create(
        circ_id: CircId,
        hops: Vec<HopSpec>,
        rng: &mut Rng,
        send: &mut SendCell<'_>,
    ) -> Result<Self, BuildError> {
        if hops.len() > HOPS_MAX {
            return Err(BuildError::Hops);
        }
        let mut rest = VecDeque::from(hops);
        let first = rest.pop_front().ok_or(BuildError::Hops)?;
        if rest.iter().any(|hop| hop.key == HopKey::Fast) {
            return Err(HandshakeError::FastExtend.into());
        }
        let mut cell = cell::new_cell(circ_id, Command::CREATE2);
        let state = handshake::begin_first(&first, circ_id, &mut cell, rng)?;
        send(&cell);
        Ok(OriginCircuit {
            circ_id,
            layers: Vec::with_capacity(1 + rest.len()),
            windows: Vec::with_capacity(1 + rest.len()),
            build: Build::ExpectCreated(state),
            rest,
            early_cells_left: RELAY_EARLY_CELLS_MAX,
            kh: BindingKey::default(),
            joined: false,
            sendme_min: 0,
        })
    }

    /// Accepts no circuit-level SENDMEs of a version below this one any more (consensus parameter
    /// `sendme_accept_min_version`).
    pub fn set_sendme_min(&mut self, version: u8) {
        self.sendme_min = version;
    }

    /// Its id on its channel.
    #[must_use]
    pub fn circ_id(&self) -> CircId {
        self.circ_id
    }

    /// Hops that stand.
    #[must_use]
    pub fn hop_count(&self) -> usize {
        self.layers.len()
    }

    /// True if all hops asked for stand.
    #[must_use]
    pub fn is_built(&self) -> bool {
        matches!(self.build, Build::Built)
    }

    /// Adds a hop to a built circuit; [`Received::Built`] or [`Received::Truncated`] will tell.
    pub fn extend(
        &mut self,
        hop: HopSpec,
        rng: &mut Rng,
        send: &mut SendCell<'_>,
    ) -> Result<(), BuildError> {
        if !self.is_built() {
            return Err(BuildError::NotBuilt);
        }
        if self.joined {
            return Err(BuildError::Joined);
        }
        self.send_extend(&hop, rng, send)
    }

    /// Adds the peer beyond the rendezvous point, the last hop of a built circuit, as a hop with a
    /// window of its own (rend-spec-v3 4), moved by congestion control if the service's descriptor
    /// offered it and the client asked for it (proposal 324, 9). Returns its index.
    pub fn join(
        &mut self,
        layer: HopLayer,
        congestion: Option<Congestion>,
    ) -> Result<usize, BuildError> {
        if !self.is_built() {
            return Err(BuildError::NotBuilt);
        }
        if std::mem::replace(&mut self.joined, true) {
            return Err(BuildError::Joined);
        }
        self.layers.push(layer);
        self.windows.push(HopWindow::new(congestion));
        Ok(self.layers.len() - 1)
    }

    /// True if the last hop is a peer that was joined.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.joined
    }

    /// KH of the last hop that a handshake added, which binds an ESTABLISH_INTRO to the circuit
    /// (rend-spec-v3 3.1.1).
    #[must_use]
    pub fn kh(&self) -> &[u8; 20] {
        &self.kh.0
    }

    /// DATA cells that the circuit's window lets us send to this hop now.
    #[must_use]
    pub fn room_cells(&self, hop: usize) -> usize {
        self.windows.get(hop).map_or(0, HopWindow::room_cells)
    }

    /// Most bytes in the body of such a message to this hop; 0 before that stands.
    #[must_use]
    pub fn data_max(&self, hop: usize, command: RelayCommand) -> usize {
        self.format(hop)
            .map_or(0, |format| format.data_max(command))
    }

    /// The cipher of a hop, once that stands.
    #[must_use]
    pub fn cipher(&self, hop: usize) -> Option<Cipher> {
        self.layers.get(hop).map(HopLayer::cipher)
    }

    fn format(&self, hop: usize) -> Option<RelayFormat> {
        self.cipher(hop).map(RelayFormat::from)
    }

    /// The window of a hop, once that stands.
    #[must_use]
    pub fn window(&self, hop: usize) -> Option<&HopWindow> {
        self.windows.get(hop)
    }

    /// A cell with a message of ours to a hop, under the layers of all hops up to it. DATA counts
    /// for the hop's window, whose room the caller has asked before. [`TooLong`] if the data does
    /// not fit, or there is no such hop.
    pub fn write(
        &mut self,
        hop: usize,
        command: RelayCommand,
        stream_id: StreamId,
        data: &[u8],
        rng: &mut Rng,
        now: Instant,
    ) -> Result<CellBuf, TooLong> {
        let (cell, tag) = self.seal(hop, command, stream_id, data, rng)?;
        if let (RelayCommand::DATA, Some(window)) = (command, self.windows.get_mut(hop)) {
            window.packaged(&tag, now);
        }
        Ok(cell)
    }

    fn seal(
        &mut self,
        hop: usize,
        command: RelayCommand,
        stream_id: StreamId,
        data: &[u8],
        rng: &mut Rng,
    ) -> Result<(CellBuf, SendmeTag), TooLong> {
        let format = self.format(hop).ok_or(TooLong)?;
        let layers = self.layers.get_mut(..=hop).ok_or(TooLong)?;
        let early = command == RelayCommand::EXTEND2 && self.early_cells_left > 0;
        let link_command = if early {
            Command::RELAY_EARLY
        } else {
            Command::RELAY
        };
        let mut cell = cell::new_cell(self.circ_id, link_command);
        let payload = cell::payload_mut(&mut cell);
        format.write(payload, command, stream_id, data, rng)?;
        let tag = layer::originate(layers, link_command.0, payload).ok_or(TooLong)?;
        self.early_cells_left -= u8::from(early);
        Ok((cell, tag))
    }

    /// Takes a cell of this circuit from the channel. Its payload is decrypted in place. `queue` is
    /// that of our own cells on the channel.
    pub fn handle_cell<'c>(
        &mut self,
        cell: &'c mut CellBuf,
        queue: LocalQueue,
        rng: &mut Rng,
        send: &mut SendCell<'_>,
        now: Instant,
    ) -> Result<Received<'c>, OriginViolation> {
        match cell::command(cell) {
            Command::RELAY => self.handle_relay(cell, queue, rng, send, now),
            Command::RELAY_EARLY => Err(OriginViolation::InboundEarly),
            Command::DESTROY => {
                self.build = Build::Closed;
                Ok(Received::Destroyed(DestroyReason::read(cell::payload(
                    cell,
                ))))
            }
            command @ (Command::CREATED2 | Command::CREATED_FAST) => {
                self.handle_created(command, cell, rng, send)
            }
            command => Err(OriginViolation::UnexpectedCell(command)),
        }
    }

    fn handle_created(
        &mut self,
        command: Command,
        cell: &CellBuf,
        rng: &mut Rng,
        send: &mut SendCell<'_>,
    ) -> Result<Received<'static>, OriginViolation> {
        let state = match std::mem::replace(&mut self.build, Build::Closed) {
            Build::ExpectCreated(state) => state,
            _ => return Err(OriginViolation::UnexpectedCell(command)),
        };
        let payload = cell::payload(cell);
        let (keys, agreed) = if command == Command::CREATED_FAST {
            let CreatedFast { y, derivative } = CreatedFast::read(payload)?;
            (state.finish_fast(&y, &derivative)?, Agreed::default())
        } else {
            state.finish(Created2::read(payload)?.data)?
        };
        self.add_hop(keys, agreed, rng, send)
    }

    /// A new hop stands: on to the next, if there is one.
    fn add_hop(
        &mut self,
        keys: KeyStream,
        agreed: Agreed,
        rng: &mut Rng,
        send: &mut SendCell<'_>,
    ) -> Result<Received<'static>, OriginViolation> {
        let hop = self.layers.len();
        let (layer, kh) = HopLayer::new(agreed.cipher, keys);
        self.kh = BindingKey(kh);
        self.layers.push(layer);
        self.windows.push(HopWindow::new(agreed.congestion));
        let Some(next) = self.rest.pop_front() else {
            self.build = Build::Built;
            return Ok(Received::Built(hop));
        };
        match self.send_extend(&next, rng, send) {
            Ok(()) => Ok(Received::Hop(hop)),
            Err(BuildError::Handshake(error)) => Err(error.into()),
            Err(_) => Err(HandshakeError::FastExtend.into()),
        }
    }

    fn send_extend(
        &mut self,
        hop: &HopSpec,
        rng: &mut Rng,
        send: &mut SendCell<'_>,
    ) -> Result<(), BuildError> {
        if hop.key == HopKey::Fast {
            return Err(HandshakeError::FastExtend.into());
        }
        if self.early_cells_left == 0 {
            return Err(BuildError::Hops);
        }
        let begun = handshake::begin(hop, rng)?;
        let mut body = Vec::new();
        let extend = Extend2 {
            link_specifiers: hop.link_specifiers.clone(),
            handshake_type: begun.handshake_type,
            data: &begun.data,
        };
        extend
            .write(&mut body)
            .map_err(|_| BuildError::LinkSpecifiers)?;
        let last = self
            .layers
            .len()
            .checked_sub(1)
            .ok_or(BuildError::NotBuilt)?;
        let (cell, _) = self
            .seal(last, RelayCommand::EXTEND2, StreamId::NONE, &body, rng)
            .map_err(|_| BuildError::LinkSpecifiers)?;
        send(&cell);
        self.build = Build::ExpectExtended(begun.state);
        Ok(())
    }

    fn handle_relay<'c>(
        &mut self,
        cell: &'c mut CellBuf,
        queue: LocalQueue,
        rng: &mut Rng,
        send: &mut SendCell<'_>,
        now: Instant,
    ) -> Result<Received<'c>, OriginViolation> {
        if self.layers.is_empty() {
            return Err(OriginViolation::UnexpectedCell(Command::RELAY));
        }
        let payload = cell::payload_mut(cell);
        let Some((hop, tag)) = layer::peel(&mut self.layers, Command::RELAY.0, payload) else {
            return Ok(Received::Dropped(Dropped::Unrecognized));
        };
        let format = self.format(hop).expect("the layer that was peeled");
        let RelayMessage {
            command,
            stream_id,
            data,
        } = format.read(payload)?;
        match command {
            RelayCommand::DATA => self.handle_data(hop, &tag, rng, send),
            RelayCommand::SENDME if stream_id == StreamId::NONE => {
                return self.handle_sendme(hop, data, queue, now);
            }
            RelayCommand::EXTENDED2 => return self.handle_extended(hop, data, rng, send),
            RelayCommand::TRUNCATED => {
                return Ok(Received::Truncated(hop, DestroyReason::read(data)));
            }
            RelayCommand::DROP => return Ok(Received::Dropped(Dropped::Padding(hop))),
            _ => {}
        }
        Ok(Received::Message {
            hop,
            command,
            stream_id,
            data,
        })
    }

    /// Counts a DATA cell, and acknowledges it if it is one of those.
    fn handle_data(&mut self, hop: usize, tag: &SendmeTag, rng: &mut Rng, send: &mut SendCell<'_>) {
        if !self.windows.get_mut(hop).is_some_and(HopWindow::delivered) {
            return;
        }
        let tag = sendme::SendmeTag::from_bytes(tag.as_bytes());
        let mut body = Vec::with_capacity(32);
        Sendme::Authenticated(tag.expect("a cipher's tag has a SENDME's length")).write(&mut body);
        let (cell, _) = self
            .seal(hop, RelayCommand::SENDME, StreamId::NONE, &body, rng)
            .expect("a SENDME fits a cell");
        send(&cell);
    }

    fn handle_sendme(
        &mut self,
        hop: usize,
        data: &[u8],
        queue: LocalQueue,
        now: Instant,
    ) -> Result<Received<'static>, OriginViolation> {
        let sendme = Sendme::read_from(data, self.sendme_min)?;
        let tag = match &sendme {
            Sendme::Unauthenticated => None,
            Sendme::Authenticated(tag) => Some(tag.as_bytes()),
        };
        if let Some(window) = self.windows.get_mut(hop) {
            window.handle_sendme(tag, queue, now)?;
        }
        Ok(Received::Room(hop))
    }

    fn handle_extended(
        &mut self,
        hop: usize,
        data: &[u8],
        rng: &mut Rng,
        send: &mut SendCell<'_>,
    ) -> Result<Received<'static>, OriginViolation> {
        let from_last = hop + 1 == self.layers.len();
        match std::mem::replace(&mut self.build, Build::Closed) {
            Build::ExpectExtended(state) if from_last => {
                let (keys, agreed) = state.finish(Extended2::read(data)?.data)?;
                self.add_hop(keys, agreed, rng, send)
            }
            _ => Err(OriginViolation::UnexpectedExtended),
        }
    }
}

#[cfg(test)]
mod tests;
