//! What onion services need of a circuit beside streams of ours: messages without a stream, a peer
//! joined beyond the rendezvous point, and streams that this peer opens (rend-spec-v3 3, 4).
//!
//! ```text
//! built ─listen()─▶ listening ─join()─┬─ visits: we open streams at the joined hop
//!                                     └─ serves: it opens streams: Requested ─▶ accept / refuse
//! ```
//!
//! Messages count only from the last hop, before the join; BEGIN only from the joined hop of a
//! circuit that serves. Everything else is dropped, and counted. A peer has
//! [`INBOUND_STREAMS_MAX`] streams at most; beyond, it is told RESOURCELIMIT.

use cepa_circuit::origin::BuildError;
use cepa_circuit::{CircuitKey, Congestion, HopWindow, Stream, StreamKey, StreamSide, StreamState};
use cepa_crypto::layer::HopLayer;
use cepa_limits::Held;
use cepa_wire::Now;
use cepa_wire::begin::Begin;
use cepa_wire::end::EndReason;
use cepa_wire::relay::{RelayCommand, StreamId};

use super::circuits::Circuit;
use super::streams::{PlaneStream, StreamKind};
use super::{Event, Plane};

/// Most streams that a peer may have open on one circuit. A bound of ours: `tor` has none unless
/// `HiddenServiceMaxStreams` says so, and each stream may hold a window of bytes.
pub const INBOUND_STREAMS_MAX: usize = 1024;

/// What a circuit does for onion services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum OnionUse {
    /// Nothing.
    #[default]
    None,
    /// Messages of the last hop are told.
    Listens,
    /// A service is joined; we open streams.
    Visits,
    /// A visitor is joined, and opens streams; how many are open.
    Serves(usize),
}

impl OnionUse {
    pub(super) fn serves(self) -> bool {
        matches!(self, OnionUse::Serves(_))
    }
}

/// Why the peer beyond a rendezvous point is not joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The plane has no such circuit.
    #[error("the circuit is not known")]
    NoCircuit,
    /// The circuit is not built, or has a peer already.
    #[error(transparent)]
    Build(#[from] BuildError),
}

impl Circuit {
    /// Whether a BEGIN is the peer's to send, and names no stream that is open.
    pub(super) fn takes_begin(&self, hop: usize, id: StreamId) -> bool {
        self.onion.serves()
            && self.origin.is_joined()
            && hop + 1 == self.origin.hop_count()
            && !self.streams.contains_key(&id)
    }

    /// A stream of the peer's is gone.
    pub(super) fn inbound_gone(&mut self) {
        if let OnionUse::Serves(count) = &mut self.onion {
            *count = count.saturating_sub(1);
        }
    }
}

/// Whether a visitor or a service waits for such a message (rend-spec-v3 3.1.2 to 4.1).
fn is_of_onion_services(command: RelayCommand) -> bool {
    matches!(
        command,
        RelayCommand::INTRO_ESTABLISHED
            | RelayCommand::INTRODUCE2
            | RelayCommand::INTRODUCE_ACK
            | RelayCommand::RENDEZVOUS_ESTABLISHED
            | RelayCommand::RENDEZVOUS2
    )
}

impl Plane {
    /// From now on, messages of the last hop are told by [`Event::CircuitMessage`].
    pub fn listen(&mut self, key: CircuitKey) {
        if let Some(circuit) = self.circuits.get_mut(key)
            && circuit.onion == OnionUse::None
        {
            circuit.onion = OnionUse::Listens;
        }
    }

    /// Sends a message without a stream to the last hop. False if the circuit is not there, or its
    /// queue was full, which closes it; or if the body does not fit a cell.
    pub fn send_control(
        &mut self,
        key: CircuitKey,
        command: RelayCommand,
        body: &[u8],
        now: Now,
    ) -> bool {
        let origin = match self.circuits.get(key) {
            Some(circuit) if circuit.origin.is_built() => &circuit.origin,
            _ => return false,
        };
        match origin.hop_count().checked_sub(1) {
            Some(hop) if body.len() <= origin.data_max(hop, command) => {
                self.send_message(key, hop, command, StreamId::NONE, body, now)
            }
            _ => false,
        }
    }

    /// Adds the peer beyond the rendezvous point as the last hop, at which we open streams, or
    /// which, with `serves`, opens them here; under congestion control if the service's descriptor
    /// offered it and the visitor asked for it.
    ///
    /// # Errors
    /// If the circuit is not built or has been joined before.
    pub fn join_circuit(
        &mut self,
        key: CircuitKey,
        layer: HopLayer,
        congestion: Option<Congestion>,
        serves: bool,
    ) -> Result<(), JoinError> {
        let circuit = self.circuits.get_mut(key).ok_or(JoinError::NoCircuit)?;
        circuit.origin.join(layer, congestion)?;
        circuit.onion = match serves {
            true => OnionUse::Serves(0),
            false => OnionUse::Visits,
        };
        Ok(())
    }

    /// KH of the last hop that was built (rend-spec-v3 3.1.1); `None` before the first.
    #[must_use]
    pub fn circuit_kh(&self, key: CircuitKey) -> Option<&[u8; 20]> {
        let circuit = self.circuits.get(key)?;
        (circuit.origin.hop_count() > 0).then(|| circuit.origin.kh())
    }

    /// Our connection for a stream of the peer's stands: CONNECTED is sent, and what came before
    /// may be taken. False if the peer has given up meanwhile.
    pub fn stream_accept(&mut self, key: StreamKey, now: Now) -> bool {
        let Some(entry) = self.streams.get_mut(key) else {
            return false;
        };
        if entry.stream.state() != StreamState::Connecting {
            return false;
        }
        entry.stream.connected();
        self.ready.stream(key, &mut entry.ready);
        let (circuit, hop, id) = (entry.circuit, entry.hop, entry.stream.id());
        // Where a service lives is not told.
        self.send_message(circuit, hop, RelayCommand::CONNECTED, id, &[], now)
    }

    /// Tells the peer that there is no stream, and why. The key goes stale.
    pub fn stream_refuse(&mut self, key: StreamKey, reason: EndReason, now: Now) {
        self.stream_close(key, reason, now);
    }

    /// Takes a message without a stream.
    pub(super) fn handle_control(
        &mut self,
        key: CircuitKey,
        hop: usize,
        command: RelayCommand,
        data: &[u8],
    ) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        let listens = circuit.onion == OnionUse::Listens && circuit.origin.is_built();
        let is_last = hop + 1 == circuit.origin.hop_count();
        if listens && is_last && is_of_onion_services(command) {
            self.events.push_back(Event::CircuitMessage {
                circuit: key,
                command,
                data: data.to_vec(),
            });
        } else {
            circuit.dropped_cells += 1;
        }
    }

    /// Takes BEGIN or BEGIN_DIR of the joined hop.
    pub(super) fn handle_begin(
        &mut self,
        key: CircuitKey,
        command: RelayCommand,
        id: StreamId,
        data: &[u8],
        now: Now,
    ) {
        let Some(circuit) = self.circuits.get_mut(key) else {
            return;
        };
        // The peer uses the id again, so that it has seen our END.
        circuit.half_closed.forget(id);
        let Some(hop) = circuit.origin.hop_count().checked_sub(1) else {
            return;
        };
        let OnionUse::Serves(count) = &mut circuit.onion else {
            return;
        };
        let refusal = match Begin::read(data) {
            _ if command == RelayCommand::BEGIN_DIR => EndReason::NOTDIRECTORY,
            _ if *count >= INBOUND_STREAMS_MAX => EndReason::RESOURCELIMIT,
            _ if !self.ledger.takes_streams() => EndReason::RESOURCELIMIT,
            Err(_) => EndReason::TORPROTOCOL,
            Ok(begin) => {
                *count += 1;
                let agreed = circuit.origin.window(hop).and_then(HopWindow::agreed);
                let stream = self.streams.insert(PlaneStream {
                    circuit: key,
                    hop,
                    kind: StreamKind::Inbound,
                    stream: Stream::accept(id).with_congestion(agreed, StreamSide::Client),
                    ready: false,
                    is_paced: false,
                    held: Held::default(),
                });
                circuit.streams.insert(id, stream);
                let event = Event::StreamRequested { stream, begin };
                return self.events.push_back(event);
            }
        };
        self.send_end(key, hop, id, refusal, now);
    }
}

#[cfg(test)]
mod tests;
